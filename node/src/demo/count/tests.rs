#![allow(clippy::unwrap_used)]

use super::*;

fn journal(lines: &[Line]) -> Acknowledgements {
    let text: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
    Acknowledgements::read(&text.join("\n")).unwrap()
}

fn recorded(sale: &str, total: u64, node: usize, again: bool) -> Line {
    let (sale, currency, device) = (sale.to_owned(), "EUR".to_owned(), format!("{node:0>8}"));
    Line::Recorded {
        sale,
        total,
        tip: 1,
        reduction: 2,
        codes: 1,
        idle_codes: 3,
        parts: 2,
        signals: 1,
        currency,
        node,
        device,
        begun: 100,
        at: 110,
        took_ms: 10.0,
        again,
    }
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
    // What it came to counts once, and other reductions are another answer.
    assert_eq!((shop.split, shop.idle_codes, shop.sales["a"].signals), (1, 3, 1));
    assert_eq!(shop.sales["a"].sums, Sums { total: 5, tip: 1, reduction: 2, codes: 1 });
    let mut other = recorded("a", 5, 2, true);
    if let Line::Recorded { reduction, .. } = &mut other {
        *reduction = 3;
    }
    assert!(journal(&[recorded("a", 5, 2, false), other]).sales["a"].differs);
}

#[test]
fn each_alarm_and_each_declined_payment_counts() {
    let asked = |answer| Line::Asked { reasons: vec!["card-sum".into()], answer, node: 2, at: 5 };
    let declined = Line::Declined { sale: "b".into(), reasons: vec!["card-blocked".into()], node: 2, at: 6 };
    let blocked = Line::Blocked { card: "ff".into(), at: 5 };
    let shop =
        journal(&[asked(Said::Known), asked(Said::No), asked(Said::LetPass), declined.clone(), declined, blocked]);
    assert_eq!((shop.asked, shop.known, shop.declined.len(), shop.blocked), (3, 1, 2, 1));
}
