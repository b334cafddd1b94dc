//! `docs/adversarial.md` and the sources agree: each case has a test that is there, or says why it has none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The cases that the page must list: of what travels, logs, identity, time, quotes, peers,
/// storage, and files.
const CASES: &[(&str, &[std::ops::RangeInclusive<u32>])] = &[
    ("A", &[1..=18, 20..=20]),
    ("B", &[21..=28, 30..=39]),
    ("C", &[41..=42, 44..=48, 50..=51, 53..=58, 60..=63, 65..=65]),
    ("D", &[66..=69, 73..=73]),
    ("E", &[74..=75, 77..=78, 85..=86, 88..=89, 91..=91, 93..=93]),
    ("F", &[100..=101, 103..=110, 112..=119, 121..=121]),
    ("G", &[123..=128, 130..=132, 134..=135, 137..=142]),
    ("H", &[150..=152, 155..=155]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names of all tests that begin with `adv_`, and of the fuzz targets.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = ["protocol/src", "protocol/tests", "node/src", "tests/src", "tests/tests"]
        .map(|folder| root().join(folder))
        .to_vec();
    while let Some(next) = open.pop() {
        for path in std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for line in text.lines().map(str::trim_start) {
                    let name = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "));
                    let name = name.and_then(|rest| rest.split('(').next()).filter(|name| name.starts_with("adv_"));
                    found.extend(name.map(str::to_owned));
                }
            }
        }
    }
    found
}

/// The numbers that a test's name begins with: `adv_017_adv_134_…` shows two cases.
fn numbers(name: &str) -> Vec<u32> {
    let mut rest = name;
    let mut found = Vec::new();
    while let Some(after) = rest.strip_prefix("adv_") {
        let (number, after) = after.split_once('_').unwrap_or((after, ""));
        found.push(number.parse().unwrap_or_else(|_| panic!("{name}: adv_NNN_…")));
        rest = after;
    }
    found
}

#[test]
fn every_case_has_a_test_that_is_there_or_says_why_it_has_none() {
    let cases: BTreeSet<u32> = CASES.iter().flat_map(|(_, ranges)| ranges.iter().cloned().flatten()).collect();
    let tests = tests();
    let text = std::fs::read_to_string(root().join("docs/adversarial.md")).unwrap();
    let mut rows: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut named = BTreeSet::new();
    let (mut inapplicable, mut untried) = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Ok(number) = cells[0].parse::<u32>() else { continue };
        assert_eq!(cells.len(), 3, "{line}");
        let shown: Vec<String> =
            cells[2].split('`').skip(1).step_by(2).filter(|word| word.starts_with("adv_")).map(str::to_owned).collect();
        for name in &shown {
            assert!(tests.contains(name), "{number}: there is no test `{name}`");
            assert!(numbers(name).contains(&number), "{number}: `{name}` shows another case");
        }
        let (doesnt_apply, not_tried) = (cells[2].starts_with("Doesn't apply: "), cells[2].starts_with("Not tried: "));
        assert!(
            shown.is_empty() == (doesnt_apply || not_tried),
            "{number}: a test, or `Doesn't apply: …`, or `Not tried: …`"
        );
        inapplicable += usize::from(doesnt_apply);
        untried += usize::from(not_tried);
        named.extend(shown.iter().cloned());
        assert!(rows.insert(number, shown).is_none(), "{number} is there twice");
    }
    let listed: BTreeSet<u32> = rows.keys().copied().collect();
    let missing: Vec<&u32> = cases.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    let unlisted: Vec<&String> = tests.difference(&named).collect();
    assert!(unlisted.is_empty(), "in no row of the table: {unlisted:?}");
    let shown = rows.values().filter(|tests| !tests.is_empty()).count();
    println!("{shown} of {} rows have a test, {inapplicable} don't apply, {untried} aren't tried", rows.len());
}
