//! Rows of the adversarial cases that a quote alone can meet.

use serde_json::json;
use stallmesh_node::quote::files::Answer;
use stallmesh_node::quote::{Problem, ProblemCode};

use super::cases::quote_texts;

const AT: &str = "2026-06-06T10:00:00Z";

fn catalog(currency: &str, price: u64) -> String {
    json!({
        "currency": currency,
        "prices_include_tax": true,
        "tax_rates": { "standard": "20" },
        "products": [
            { "sku": "A", "name": "A", "price": price, "tax": "standard" },
            { "sku": "KG", "name": "Kilo", "price": price, "unit": "kg" }
        ]
    })
    .to_string()
}

fn quote(currency: &str, price: u64, promotions: &str, basket: &str) -> Result<Answer, Problem> {
    quote_texts(&catalog(currency, price), promotions, basket, "{}", AT)
}

fn code(result: &Result<Answer, Problem>) -> ProblemCode {
    result.as_ref().expect_err("it should have been refused").code
}

#[test]
fn adv_074_what_is_more_than_can_be_counted_is_an_error_and_never_wraps() {
    let largest = (1_u64 << 53) - 1;
    assert_eq!(quote("EUR", largest, "[]", r#"{"lines":[{"sku":"A","quantity":1}]}"#).unwrap().total, largest);
    for (price, basket) in [
        (largest, r#"{"lines":[{"sku":"A","quantity":2}]}"#),
        (largest, r#"{"lines":[{"sku":"A","quantity":1},{"sku":"A","quantity":1}]}"#),
        (1, r#"{"lines":[{"sku":"A","quantity":9007199254740993}]}"#),
        (1, r#"{"lines":[{"sku":"A","quantity":1,"price":18446744073709551615}]}"#),
        (1, r#"{"lines":[{"sku":"A","quantity":1,"price":18446744073709551616}]}"#),
        (1, r#"{"lines":[{"sku":"A","quantity":1,"price":100000000000000000000000000000000000000}]}"#),
        (1, r#"{"lines":[{"sku":"A","quantity":1,"price":1e400}]}"#),
    ] {
        assert_eq!(code(&quote("EUR", price, "[]", basket)), ProblemCode::AmountRange, "{basket}");
    }
    let added = catalog("EUR", largest).replace("true", "false");
    let taxed = quote_texts(&added, "[]", r#"{"lines":[{"sku":"A","quantity":1}]}"#, "{}", AT);
    assert_eq!(code(&taxed), ProblemCode::AmountRange, "with its tax");
}

#[test]
fn adv_075_negative_and_zero_quantities_and_prices_are_refused() {
    for line in [
        r#"{"sku":"A","quantity":-1}"#,
        r#"{"sku":"A","quantity":"-0"}"#,
        r#"{"sku":"A","quantity":0}"#,
        r#"{"sku":"A","quantity":"0.0"}"#,
        r#"{"sku":"A","quantity":-0.0}"#,
        r#"{"sku":"A","quantity":1e1}"#,
        r#"{"sku":"A","quantity":"NaN"}"#,
        r#"{"sku":"A","quantity":"1","price":-5}"#,
        r#"{"sku":"A","quantity":"0.5"}"#,
    ] {
        let refused = quote("EUR", 500, "[]", &format!("{{\"lines\":[{line}]}}"));
        assert_eq!(code(&refused), ProblemCode::Invalid, "{line}");
        assert!(refused.unwrap_err().field.starts_with("lines[0]"), "{line}");
    }
}

#[test]
fn adv_077_currencies_have_their_own_decimals_and_an_unknown_one_is_refused() {
    let basket = r#"{"lines":[{"sku":"A","quantity":3}]}"#;
    let ten = r#"[{"id":"T","name":"Ten","effect":{"percentage":"10"}}]"#;
    for (currency, why) in [("JPY", "10 % of 1501"), ("EUR", "10 % of 15.01"), ("BHD", "10 % of 1.501")] {
        let basket = basket.replace("3}", "1,\"price\":1501}");
        assert_eq!(quote(currency, 500, ten, &basket).unwrap().lines[0].reductions[0].why, why);
    }
    for unknown in ["XXX", "eur", "", "EURO"] {
        assert_eq!(code(&quote(unknown, 500, "[]", basket)), ProblemCode::Currency, "{unknown}");
    }
}

#[test]
fn adv_078_thirds_are_shared_to_the_last_cent() {
    let thirds = r#"[{"id":"T","name":"T","effect":{"amount":100}}]"#;
    let line = r#"{"sku":"A","quantity":1}"#;
    let answer = quote("EUR", 3_333, thirds, &format!("{{\"lines\":[{line},{line},{line}]}}")).unwrap();
    let shares: Vec<u64> = answer.lines.iter().map(|line| line.gross - line.net).collect();
    assert_eq!((shares, answer.reduction), (vec![34, 33, 33], 100));
}

#[test]
fn adv_093_fifty_codes_and_reductions_of_everything_leave_nothing_and_not_less() {
    let promotions: Vec<_> = (0..50)
        .map(|index| {
            json!({
                "id": format!("P{index}"), "name": "All off", "effect": { "percentage": "100" },
                "requires": { "codes": [format!("C{index}")] }
            })
        })
        .collect();
    let codes: Vec<String> = (0..50).map(|index| format!("C{index}")).collect();
    let basket = json!({ "lines": [{ "sku": "A", "quantity": 3 }], "codes": codes }).to_string();
    let answer = quote("EUR", 777, &json!(promotions).to_string(), &basket).unwrap();
    assert_eq!((answer.total, answer.lines[0].net, answer.lines[0].reductions.len()), (0, 0, 1));
    assert_eq!(answer.codes.iter().filter(|code| code.why.is_none()).count(), 1, "one of them did it");
    let above = r#"[{"id":"T","name":"T","effect":{"percentage":"100.1"}}]"#;
    assert_eq!(code(&quote("EUR", 777, above, &basket)), ProblemCode::Invalid);
}
