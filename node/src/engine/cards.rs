//! Card numbers in what is asked of a node. What people write about a sale is masked where it is recorded; every other text
//! that would be kept, told to others or shown again is refused, with the name of its field and never with its words.
//!
//! A product's identifiers may look like a card's number and be none: a right bar code stays one.

use serde::Serialize;
use serde_json::Value;

use super::{Failure, FailureCode, ProductView, Request};
use crate::barcode;
use crate::card_data::{self, Kind};

/// Fields that are looked at, masked or hashed elsewhere: free text, what a reader says, keys, and texts that are hashes.
const ELSEWHERE: [&str; 8] =
    ["note", "operator", "reference", "token", "card", "idempotency_key", "device", "seal_key"];
/// Fields that name products.
const IDENTIFIERS: [&str; 5] = ["sku", "skus", "barcode", "barcodes", "variant_of"];
/// The digits of the usual bar code.
const EAN_DIGITS: usize = 13;
/// A name in an address has no longer row of digits than a card's number.
const ADDRESS_DIGITS_MAX: usize = 12;

type Outcome = Result<(), Failure>;

/// Refuses a request that holds a card's number where none may be.
pub(super) fn check(request: &Request) -> Outcome {
    match request {
        Request::RecordSale(order) => all("", order),
        Request::Quote(basket) | Request::OpenBasket { basket, .. } => all("", basket),
        Request::ChangeBasket { order, .. } => all("", order),
        Request::SellBasket { sale, .. } => all("", sale),
        Request::TakeTender { order, .. } => all("", order),
        Request::VoidTender { confirmed, .. } => all("confirmed", confirmed),
        Request::SetCheckoutRules(order) => all("", order),
        Request::PublishProducts(products) => {
            products.iter().enumerate().try_for_each(|(index, product)| check_product(index, product))
        }
        Request::PublishPromotions(order) => all("", order),
        Request::SayConditions(order) => all("", order),
        Request::CreateInvite(order) => all("", order),
        Request::Join { name, .. } => text("name", name),
        Request::AskToJoin { name, stall, .. } => text("name", name).and_then(|()| text("ask_for_stall", stall)),
        Request::Delegate(order) => all("", order),
        Request::Revoke { reason, .. } => text("reason", reason),
        Request::SetPolicy(policy) => all("", policy),
        Request::AddPeer { address } => check_address(address),
        _ => Ok(()),
    }
}

fn check_product(index: usize, product: &ProductView) -> Outcome {
    let field = |name: &str| format!("products[{index}].{name}");
    let names = [("name", &product.name), ("unit", &product.unit), ("stock", &product.stock)];
    names.into_iter().try_for_each(|(name, value)| text(&field(name), value))?;
    for (name, list) in [("categories", &product.categories), ("tags", &product.tags), ("taxes", &product.taxes)] {
        list.iter().try_for_each(|value| text(&field(name), value))?;
    }
    identifier(&field("sku"), &product.sku)?;
    identifier(&field("variant_of"), &product.variant_of)?;
    product.barcodes.iter().try_for_each(|value| identifier(&field("barcodes"), value))
}

fn all(path: &str, order: &impl Serialize) -> Outcome {
    // What can't be shown as JSON came as none.
    serde_json::to_value(order).map_or(Ok(()), |value| walk(path, "", &value))
}

/// `name`: of the field, whatever list it stands in.
fn walk(path: &str, name: &str, value: &Value) -> Outcome {
    match value {
        Value::String(value) if IDENTIFIERS.contains(&name) => identifier(path, value),
        Value::String(value) => text(path, value),
        Value::Array(values) => {
            values.iter().enumerate().try_for_each(|(index, value)| walk(&format!("{path}[{index}]"), name, value))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            // A name that somebody chose is a text, too.
            text(path, name)?;
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if ELSEWHERE.contains(&name.as_str()) && value.is_string() { Ok(()) } else { walk(&path, name, value) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn text(field: &str, value: &str) -> Outcome {
    match holds_card(value) {
        true => Err(refused(field)),
        false => Ok(()),
    }
}

/// A product's name for programs: a right bar code is one, whatever else it looks like, and so is one of thirteen digits
/// that was typed wrong. Cards of so few digits have not been given out for decades.
fn identifier(field: &str, value: &str) -> Outcome {
    let is_short = value.len() <= EAN_DIGITS && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_short || barcode::is_trade_item(value) { Ok(()) } else { text(field, value) }
}

/// In an address numbers stand beside each other with dots and slashes: only an unbroken one can be a card's.
fn check_address(address: &str) -> Outcome {
    let rows = address.split(|character: char| !character.is_ascii_digit());
    match rows.filter(|row| row.len() > ADDRESS_DIGITS_MAX).any(holds_card) {
        true => Err(refused("address")),
        false => Ok(()),
    }
}

fn holds_card(value: &str) -> bool {
    card_data::find(value).iter().any(|found| found.kind != Kind::SecurityCode)
}

fn refused(field: &str) -> Failure {
    let detail = format!("{field}: this looks like a card number, which must never be sent here");
    Failure::new(FailureCode::EInvalid, detail).at(field)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_card_number_is_refused_by_its_field_wherever_it_stands_and_never_repeated() {
        for number in ["4111111111111111", "5555 5555 5555 4444", "3782-822463-10005"] {
            for (order, field) in [
                (json!({ "codes": ["A", number] }), "codes[1]"),
                (json!({ "lines": [{ "sku": number }] }), "lines[0].sku"),
                (json!({ "lines": [{ "sku": "A", "x": { "deep": [number] } }] }), "lines[0].x.deep[0]"),
                (json!({ "conditions": { number: "1" } }), "conditions"),
            ] {
                let failure = all("", &order).unwrap_err();
                assert_eq!(failure.field.as_deref(), Some(field));
                assert!(!failure.detail.contains(number), "{}", failure.detail);
            }
            assert!(check_address(&format!("/dns4/{}/tcp/1", number.replace(['-', ' '], ""))).is_err());
        }
        assert!(all("", &json!({ "note": "4111111111111111", "lines": [{ "quantity": 1, "sku": "MUG-L" }] })).is_ok());
        assert!(check_address("/ip4/203.113.100.200/udp/4001/quic-v1").is_ok());
    }

    #[test]
    fn a_right_bar_code_is_no_card_in_a_field_that_names_products() {
        // Fourteen digits of Diners Club's that are a GTIN-14, too: both check digits are right.
        let both = (0..10_000)
            .map(|number| format!("3600000000{number:04}"))
            .find(|text| holds_card(text) && barcode::is_trade_item(text))
            .unwrap();
        let product = ProductView { sku: both.clone(), barcodes: vec![both.clone()], ..ProductView::default() };
        assert!(check_product(0, &product).is_ok());
        assert!(all("", &json!({ "changes": [{ "barcode": both }] })).is_ok());
        assert!(all("", &json!({ "codes": [both] })).is_err());
        let product = ProductView { barcodes: vec!["4111111111111111".into()], ..ProductView::default() };
        assert!(check_product(7, &product).unwrap_err().detail.starts_with("products[7].barcodes"));
    }
}
