//! Answers as people read them: aligned columns, and money with its decimals.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use serde_json::Value;

/// Prints rows under headings, each column as wide as it needs.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: &[String]| {
        let line: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count().min(*width))))
            .collect();
        println!("{}", line.join("  ").trim_end());
    };
    print(&headings.iter().map(|heading| heading.to_uppercase()).collect::<Vec<_>>());
    rows.iter().for_each(|row| print(row));
}

/// Minor units as an amount with its currency.
pub(super) fn money(minor: &Value, currency: &str) -> String {
    let exponent = stallmesh_protocol::money::exponent(currency).unwrap_or(2) as usize;
    let amount = minor.as_i64().unwrap_or_default();
    let (sign, digits) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs().to_string());
    let padded = format!("{digits:0>width$}", width = exponent + 1);
    let (whole, part) = padded.split_at(padded.len() - exponent);
    if exponent == 0 { format!("{sign}{whole} {currency}") } else { format!("{sign}{whole}.{part} {currency}") }
}

/// A field as text; empty where it is absent.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The first eight characters: enough to tell keys apart.
pub(super) fn short(value: &Value) -> String {
    text(value).chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_has_its_currencys_decimals() {
        assert_eq!(money(&json!(1205), "EUR"), "12.05 EUR");
        assert_eq!(money(&json!(-5), "EUR"), "-0.05 EUR");
        assert_eq!(money(&json!(1500), "JPY"), "1500 JPY");
        assert_eq!(money(&json!(1), "BHD"), "0.001 BHD");
    }
}
