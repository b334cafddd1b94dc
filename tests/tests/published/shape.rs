//! Rules that every route of the document keeps.

use std::collections::BTreeSet;

use serde_json::Value;

const WRITES: [&str; 4] = ["put", "post", "delete", "patch"];

#[test]
fn every_route_says_what_it_takes_gives_and_how_it_fails() {
    let document = super::document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, route) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            let summary = route["summary"].as_str().unwrap_or_default();
            assert!(summary.len() > 8 && !summary.ends_with('.') && !summary.contains('\n'), "{what}: {summary}");
            assert!(route["tags"].as_array().is_some_and(|own| own.len() == 1), "{what}");
            assert!(tags.contains(route["tags"][0].as_str().unwrap()), "{what}");
            assert!(names.insert(route["operationId"].as_str().unwrap()), "{what}: its name stands twice");
            let problem = &route["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{what}");
            let good: Vec<_> =
                route["responses"].as_object().unwrap().iter().filter(|(status, _)| status.starts_with('2')).collect();
            assert_eq!(good.len(), 1, "{what}");
            assert!(good[0].1["content"].as_object().is_some_and(|content| content.len() == 1), "{what}");
            let parameters = route["parameters"].as_array().cloned().unwrap_or_default();
            let has = |name: &str, place: &str| {
                parameters.iter().any(|parameter| parameter["name"] == name && parameter["in"] == place)
            };
            let writes = WRITES.contains(&method.as_str()) && path != "/v1/quote";
            assert_eq!(has("Idempotency-Key", "header"), writes, "{what}");
            for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                assert!(has(name, "path"), "{what}: {name}");
            }
            for parameter in &parameters {
                let about = parameter["description"].as_str().unwrap_or_default();
                assert!(about.len() > 8, "{what}: nothing is said of {parameter}");
            }
        }
    }
}

#[test]
fn every_field_says_what_it_is() {
    fn visit(place: &str, value: &Value, into: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            let required = value["required"].as_array().cloned().unwrap_or_default();
            for name in &required {
                assert!(properties.contains_key(name.as_str().unwrap()), "{place}: {name} is required and not there");
            }
            for (name, field) in properties {
                let has = |value: &Value| value.get("description").is_some() || value.get("$ref").is_some();
                let one_of = field["oneOf"].as_array().is_some_and(|kinds| kinds.iter().any(has));
                // The tag of an enumeration says itself.
                let told = has(field) || one_of || field.get("enum").is_some();
                if !told {
                    into.push(format!("{place}.{name}"));
                }
            }
        }
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| visit(&format!("{place}.{name}"), value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| visit(place, value, into)),
            _ => {}
        }
    }
    let mut untold = Vec::new();
    visit("", &super::document()["components"]["schemas"], &mut untold);
    assert!(untold.is_empty(), "{untold:#?}");
}

#[test]
fn codes_of_problems_are_an_enumeration() {
    let document = super::document();
    let problem = &document["components"]["schemas"]["Problem"];
    let required: BTreeSet<&str> =
        problem["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(required, BTreeSet::from(["type", "title", "status", "code", "detail"]));
    let codes = document["components"]["schemas"]["FailureCode"]["enum"].as_array().unwrap();
    assert!(codes.contains(&"E_INVALID".into()) && codes.contains(&"E_CONFLICT".into()), "{codes:?}");
}
