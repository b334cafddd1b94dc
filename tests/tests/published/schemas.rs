//! The JSON Schemas against files: what the quote reads fits them, what it refuses for its shape doesn't.

use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};
use stallmesh_node::quote::files::{BasketFile, CatalogFile, Conditions, PromotionFile};
use stallmesh_node::quote::{Source, read};

fn validator(name: &str) -> Validator {
    let published = stallmesh_node::schemas::published();
    let schema = &published.iter().find(|(known, _)| *known == name).unwrap().1;
    jsonschema::draft202012::meta::validate(schema).unwrap();
    jsonschema::draft202012::new(schema).unwrap()
}

fn problems(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Whether the reader takes the shape, whatever it says of what stands in it.
fn is_read(name: &str, value: &Value) -> bool {
    let text = value.to_string();
    match name {
        "catalog" => read::<CatalogFile>(Source::Catalog, &text).is_ok(),
        "promotions" => read::<Vec<PromotionFile>>(Source::Promotions, &text).is_ok(),
        "basket" => read::<BasketFile>(Source::Basket, &text).is_ok(),
        _ => read::<Conditions>(Source::Conditions, &text).is_ok(),
    }
}

#[test]
fn every_worked_case_fits_the_schemas_as_it_fits_the_reader() {
    let names = ["catalog", "promotions", "basket", "conditions"];
    let validators = names.map(|name| (name, validator(name)));
    let answer = validator("answer");
    let (mut fitting, mut refused) = (0, 0);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/quote");
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for case in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
            for (name, validator) in &validators {
                let Some(value) = case.get(*name) else { continue };
                let problems = problems(validator, value);
                assert_eq!(problems.is_empty(), is_read(name, value), "{}, {name}: {problems:?}", case["name"]);
                *if problems.is_empty() { &mut fitting } else { &mut refused } += 1;
            }
            // Cases name what matters of their answers: a whole one is made here.
            let text = |name: &str, default: &str| case.get(name).map_or(default.to_owned(), Value::to_string);
            if let Some(whole) = quoted(&text("catalog", "{}"), &text("promotions", "[]"), &text("basket", "{}"), &case)
            {
                let problems = problems(&answer, &whole);
                assert!(problems.is_empty(), "{}: {problems:?}", case["name"]);
            }
        }
    }
    assert!(fitting > 300 && refused > 3, "{fitting} fit, {refused} don't");
}

fn quoted(catalog: &str, promotions: &str, basket: &str, case: &Value) -> Option<Value> {
    use stallmesh_node::quote::{Catalog, Moment, Promotions, quote};
    let catalog = Catalog::new(&read(Source::Catalog, catalog).ok()?).ok()?;
    let promotions = Promotions::new(&catalog, &read::<Vec<_>>(Source::Promotions, promotions).ok()?).ok()?;
    let conditions = case.get("conditions").map_or("{}".to_owned(), Value::to_string);
    let conditions: Conditions = read(Source::Conditions, &conditions).ok()?;
    let at = Moment::read(case["at"].as_str()?).ok()?;
    let answer = quote(&catalog, &promotions, &read(Source::Basket, basket).ok()?, &conditions, &at).ok()?;
    Some(serde_json::to_value(answer).unwrap())
}

#[test]
fn what_has_another_shape_fits_neither_schema_nor_reader() {
    let line = json!({ "sku": "A", "quantity": 1 });
    let promotion = json!({ "id": "P", "name": "P", "effect": { "percentage": "10" } });
    for (name, good, broken) in [
        (
            "basket",
            json!({ "lines": [line] }),
            vec![
                json!({}),
                json!({ "lines": [line], "notte": 1 }),
                json!({ "lines": [{ "sku": "A" }] }),
                json!({ "lines": [{ "sku": "A", "quantity": 1.5 }] }),
                json!({ "lines": [{ "sku": "A", "quantity": "one" }] }),
                json!({ "lines": [{ "sku": "A", "quantity": ".5" }] }),
                json!({ "lines": [{ "sku": "A", "quantity": 1, "price": -1 }] }),
                json!({ "lines": [line], "codes": "WELCOME" }),
                json!({ "lines": [line], "customer": { "visits": "6" } }),
                json!({ "lines": [line], "used": { "P": -1 } }),
            ],
        ),
        (
            "promotions",
            json!([promotion]),
            vec![
                promotion.clone(),
                json!([{ "id": "P", "effect": {} }]),
                json!([{ "id": "P", "name": "P", "effect": { "percent": "10" } }]),
                json!([{ "id": "P", "name": "P", "effect": {}, "stacking": "alone" }]),
                json!([{ "id": "P", "name": "P", "effect": {}, "items": { "not": { "not": { "sku": [] } } } }]),
                json!([{ "id": "P", "name": "P", "effect": { "tiers": [{ "percentage": 1.5 }] } }]),
                json!([{ "id": "P", "name": "P", "effect": {}, "hours": [{ "from": "10:00" }] }]),
            ],
        ),
        (
            "catalog",
            json!({ "currency": "EUR", "tax_rates": { "a": "5.5", "b": { "rate": 7, "on": ["a"] } },
            "products": [{ "sku": "A", "name": "A", "price": 1, "tax": "a" }, { "sku": "B", "name": "B", "price": 1,
            "tax": ["a", "b"], "x": { "own": [1.5] } }] }),
            vec![
                json!({}),
                json!({ "currency": "EUR", "tax_rates": { "a": 5.5 } }),
                json!({ "currency": "EUR", "tax_rates": { "a": { "on": ["b"] } } }),
                json!({ "currency": "EUR", "tax_rates": { "a": { "rate": "5", "over": ["b"] } } }),
                json!({ "currency": "EUR", "tax_rounding": "never" }),
                json!({ "currency": "EUR", "products": [{ "sku": "A", "name": "A" }] }),
                json!({ "currency": "EUR", "products": [{ "sku": "A", "name": "A", "price": "1" }] }),
                json!({ "currency": "EUR", "products": [{ "sku": "A", "name": "A", "price": 1, "unit": "lb" }] }),
                json!({ "currency": "EUR", "products": [{ "sku": "A", "name": "A", "price": 1, "tax": [1] }] }),
            ],
        ),
        (
            "conditions",
            json!({ "rain_mm": "3.2", "queue": 14 }),
            vec![json!([]), json!({ "rain_mm": 3.2 }), json!({ "rain": true })],
        ),
    ] {
        let validator = validator(name);
        assert_eq!(problems(&validator, &good), Vec::<String>::new(), "{name}");
        assert!(is_read(name, &good), "{name}");
        for value in broken {
            assert!(!validator.is_valid(&value), "{name} takes {value}");
            assert!(!is_read(name, &value), "{name}'s reader takes {value}");
        }
    }
}

#[test]
fn the_rules_that_nodes_begin_with_fit_their_schemas() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/src");
    for (name, file) in [("fraud-rules", "fraud/default_rules.json"), ("risk-policy", "risk/default_policy.json")] {
        let value: Value = serde_json::from_str(&std::fs::read_to_string(root.join(file)).unwrap()).unwrap();
        let validator = validator(name);
        assert_eq!(problems(&validator, &value), Vec::<String>::new(), "{name}");
        let mut other = value.clone();
        other["notte"] = 1.into();
        assert!(!validator.is_valid(&other), "{name}");
    }
}
