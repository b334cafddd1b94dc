//! Worked cases (`tests/data/quote`): each has its inputs, what is expected, and a sentence that says why.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use stallmesh_node::quote::files::{Answer, Conditions};
use stallmesh_node::quote::{Catalog, Moment, Problem, Promotions, Source, quote, read};

/// Case files, by name.
pub(super) fn files() -> Vec<(String, Vec<Value>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/quote");
    let mut files: Vec<(String, Vec<Value>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    files
}

/// A quote from texts, as the command and the API make it.
pub(super) fn quote_texts(
    catalog: &str,
    promotions: &str,
    basket: &str,
    conditions: &str,
    at: &str,
) -> Result<Answer, Problem> {
    let located = |text: &'_ str, problem: Problem| problem.in_text(text);
    let catalog = Catalog::new(&read(Source::Catalog, catalog)?).map_err(|problem| located(catalog, problem))?;
    let files: Vec<_> = read(Source::Promotions, promotions)?;
    let promotions = Promotions::new(&catalog, &files).map_err(|problem| located(promotions, problem))?;
    let conditions: Conditions = read(Source::Conditions, conditions)?;
    let at = Moment::read(at)?;
    let file = read(Source::Basket, basket)?;
    quote(&catalog, &promotions, &file, &conditions, &at).map_err(|problem| located(basket, problem))
}

fn quote_case(case: &Value) -> Result<Answer, Problem> {
    let text = |name: &str, default: &str| case.get(name).map_or_else(|| default.to_owned(), Value::to_string);
    quote_texts(
        &text("catalog", "{}"),
        &text("promotions", "[]"),
        &text("basket", "{}"),
        &text("conditions", "{}"),
        case["at"].as_str().unwrap(),
    )
}

/// Where an answer isn't what a case names of it.
fn differences(path: &str, expected: &Value, found: &Value, into: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                differences(&format!("{path}.{key}"), value, found.get(key).unwrap_or(&Value::Null), into);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                differences(&format!("{path}[{index}]"), expected, found, into);
            }
        }
        (expected, found) if expected == found => {}
        (expected, found) => into.push(format!("{path}: expected {expected}, found {found}")),
    }
}

#[test]
fn worked_cases_come_out_as_they_say() {
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for (file, cases) in files() {
        for case in cases {
            let name = case["name"].as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{name} stands twice");
            assert!(case["about"].as_str().is_some_and(|about| about.len() > 10), "{name} says nothing");
            let mut differs = Vec::new();
            match (quote_case(&case), case.get("expected"), case.get("error")) {
                (Ok(answer), Some(expected), None) => {
                    differences("", expected, &serde_json::to_value(answer).unwrap(), &mut differs);
                }
                (Err(problem), None, Some(error)) => {
                    differences("", error, &serde_json::to_value(&problem).unwrap(), &mut differs);
                }
                (Ok(_), _, _) => differs.push("it should have been refused".into()),
                (Err(problem), _, _) => differs.push(format!("refused: {problem}")),
            }
            wrong.extend(differs.into_iter().map(|difference| format!("{file}/{name} {difference}")));
        }
    }
    assert!(names.len() >= 150, "{} cases", names.len());
    println!("{} cases", names.len());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
