//! What holds for every quote, and that another evaluation comes to the same.

use serde_json::{Value, json};
use stallmesh_node::quote::files::Answer;
use stallmesh_tests::naive_quote;

use super::cases::quote_texts;
use super::random::{Dice, Inputs, inputs};

/// Baskets that each law is tried on.
const BASKETS: u64 = 4_000;

fn quote(inputs: &Inputs) -> Answer {
    let texts = [&inputs.catalog, &inputs.promotions, &inputs.basket, &inputs.conditions].map(Value::to_string);
    let quoted = quote_texts(&texts[0], &texts[1], &texts[2], &texts[3], &inputs.at);
    quoted.unwrap_or_else(|problem| panic!("{problem}\n{inputs:?}"))
}

/// An answer without what the other evaluation doesn't say.
fn numbers(answer: &Answer) -> Value {
    let mut value = serde_json::to_value(answer).unwrap();
    value.as_object_mut().unwrap().remove("versions");
    for line in value["lines"].as_array_mut().unwrap() {
        for reduction in line["reductions"].as_array_mut().unwrap() {
            assert!(
                reduction.as_object_mut().unwrap().remove("why").is_some_and(|why| why.as_str().unwrap().len() > 3)
            );
        }
    }
    for code in value["codes"].as_array_mut().unwrap() {
        let why = code.as_object_mut().unwrap().remove("why");
        assert_eq!(why.is_none(), code["state"] == "applied", "each state but `applied` has a reason");
    }
    value
}

fn without_why(mut value: Value) -> Value {
    for line in value["lines"].as_array_mut().unwrap() {
        for reduction in line["reductions"].as_array_mut().unwrap() {
            reduction.as_object_mut().unwrap().remove("why");
        }
    }
    for code in value["codes"].as_array_mut().unwrap() {
        code.as_object_mut().unwrap().remove("why");
    }
    value
}

#[test]
fn another_evaluation_unit_by_unit_comes_to_the_same() {
    let mut reduced = 0;
    for seed in 0..BASKETS {
        let inputs = inputs(seed);
        let answer = quote(&inputs);
        reduced += usize::from(answer.reduction > 0);
        let other =
            naive_quote::quote(&inputs.catalog, &inputs.promotions, &inputs.basket, &inputs.conditions, &inputs.at);
        let (found, expected) = (numbers(&answer), without_why(other));
        assert_eq!(found, expected, "seed {seed}: {inputs:#?}");
    }
    assert!(reduced > BASKETS as usize / 5, "only {reduced} of {BASKETS} baskets are reduced at all");
}

#[test]
fn sums_add_up_and_no_line_is_below_zero() {
    for seed in 0..BASKETS {
        let inputs = inputs(seed);
        let answer = quote(&inputs);
        let lines: u64 = answer.lines.iter().map(|line| line.total).sum();
        let fees: u64 = answer.fees.iter().map(|fee| fee.total).sum();
        assert_eq!(answer.total as i64, (lines + fees) as i64 + answer.cash_rounding, "seed {seed}");
        assert_eq!(answer.subtotal - answer.reduction, answer.lines.iter().map(|line| line.net).sum::<u64>());
        for line in &answer.lines {
            let reductions: u64 = line.reductions.iter().map(|reduction| reduction.amount).sum();
            assert_eq!(line.gross - reductions, line.net, "seed {seed}");
            assert!(line.reductions.iter().all(|reduction| reduction.amount > 0), "seed {seed}");
        }
        let taxes =
            answer.lines.iter().flat_map(|line| &line.taxes).chain(answer.fees.iter().flat_map(|fee| &fee.taxes));
        assert_eq!(answer.tax, taxes.map(|tax| tax.amount).sum::<u64>(), "seed {seed}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_whatever_order_promotions_stand_in() {
    for seed in 0..BASKETS / 4 {
        let inputs = inputs(seed);
        let bytes = serde_json::to_vec(&quote(&inputs)).unwrap();
        assert_eq!(serde_json::to_vec(&quote(&inputs)).unwrap(), bytes);
        let mut shuffled = inputs.clone();
        let list = shuffled.promotions.as_array_mut().unwrap();
        let mut dice = Dice::new(seed + 1);
        for index in (1..list.len()).rev() {
            list.swap(index, dice.below(index as u64 + 1) as usize);
        }
        assert_eq!(serde_json::to_vec(&quote(&shuffled)).unwrap(), bytes, "seed {seed}");
    }
}

#[test]
fn a_promotion_that_does_not_apply_changes_nothing_but_codes_and_versions() {
    for seed in 0..BASKETS / 4 {
        let inputs = inputs(seed);
        let before = quote(&inputs);
        for (reason, change) in [
            ("ended", json!({ "ends_at": "2026-01-01T00:00:00Z" })),
            ("later", json!({ "starts_at": "2027-01-01T00:00:00Z" })),
            ("code", json!({ "requires": { "codes": ["GIVEN BY NOBODY"] } })),
            ("used up", json!({ "limits": { "total": 0 } })),
            ("nothing matches", json!({ "items": { "skus": ["SOLD BY NOBODY"] } })),
        ] {
            let mut more = inputs.clone();
            let mut promotion = json!({
                "id": "zz", "name": "More", "effect": { "percentage": "50" }, "stacking": "exclusive", "priority": 99
            });
            promotion.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            more.promotions.as_array_mut().unwrap().push(promotion);
            let after = quote(&more);
            assert_ne!(after.versions.promotions, before.versions.promotions);
            let after = Answer { versions: before.versions.clone(), codes: before.codes.clone(), ..after };
            assert_eq!(after, before, "seed {seed}, {reason}");
        }
    }
}
