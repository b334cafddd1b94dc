#![allow(clippy::unwrap_used)]

use super::*;

fn journal(lines: &[Line]) -> Acknowledgements {
    let text: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
    Acknowledgements::read(&text.join("\n")).unwrap()
}

fn recorded(sale: &str, total: u64, node: usize, again: bool) -> Line {
    let (sale, currency, device) = (sale.to_owned(), "EUR".to_owned(), format!("{node:0>8}"));
    Line::Recorded { sale, total, currency, node, device, begun: 100, at: 110, took_ms: 10.0, again }
}

fn received(sale: &str, at: u64) -> Line {
    Line::Received { sale: sale.to_owned(), at, asked: false }
}

#[test]
fn answers_to_a_request_sent_again_are_one_sale_and_no_recording() {
    let shop =
        journal(&[recorded("a", 5, 2, false), recorded("a", 5, 2, true), received("a", 500), received("a", 900)]);
    assert_eq!((shop.sales.len(), shop.record_ms.len()), (1, 1));
    assert_eq!(shop.received["a"], (500, false));
    assert!(!shop.sales["a"].differs);
    assert!(journal(&[recorded("a", 5, 2, false), recorded("a", 6, 2, true)]).sales["a"].differs);
}
