#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use stallmesh_protocol::{DeviceId, Incarnation, Lane, LogName};

use super::*;
use crate::hub::ledger::sums;

fn sale(id: u8, price: u64, quantity: u64) -> payload::Sale {
    let total = price * quantity;
    let tax = total / 6;
    payload::Sale {
        sale: vec![id; 16],
        receipt: u64::from(id),
        currency: "EUR".into(),
        lines: vec![payload::SaleLine {
            sku: "A".into(),
            quantity: quantity.to_string(),
            unit_price: price,
            gross: total,
            net: total,
            taxes: vec![payload::SaleTax {
                name: "standard".into(),
                rate: "20".into(),
                base: total - tax,
                amount: tax,
            }],
            total,
            ..Default::default()
        }],
        subtotal: total,
        tax,
        total,
        tenders: vec![payload::Tender { kind: 1 + u32::from(id) % 2, amount: total, ..Default::default() }],
        ..Default::default()
    }
}

fn fact(author: u8, sequence: u64, sale: payload::Sale) -> Fact {
    let log = LogName {
        author: DeviceId::from_bytes([author; 32]),
        incarnation: Incarnation::from_bytes([author; 16]),
        lane: Lane::SALES,
    };
    let hash = Hasher::new(Domain::Entry).u8(author).u64(sequence).bytes(&payload::encode(&sale)).finish();
    Fact {
        at: Position { log, sequence, hash },
        stall: Some(format!("stall-{}", author % 3)),
        sale: Ok(sale),
        suspended: None,
        fee_rate: "5".into(),
        borne: BTreeMap::new(),
    }
}

fn any_fact() -> impl Strategy<Value = Fact> {
    (0_u8..6, 1_u64..10, 0_u8..12, 1_u64..5000, 1_u64..4, 0_u8..10).prop_map(
        |(author, sequence, id, price, quantity, flaw)| {
            let mut sale = sale(id, price, quantity);
            match flaw {
                0 => sale.total += 1,
                1 => sale.mark = 1,
                2 => sale.currency = "USD".into(),
                _ => {}
            }
            let mut fact = fact(author, sequence, sale);
            // One position, one entry: the flaw is part of what it says.
            fact.at.hash = Hasher::new(Domain::Entry).bytes(fact.at.hash.as_bytes()).u8(flaw).finish();
            match flaw {
                3 => fact.suspended = Some("E_REVOKED: beyond the line".into()),
                4 => fact.sale = Err("E_SEAL: no".into()),
                5 => fact.stall = None,
                _ => {}
            }
            fact
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn adv_037_settlement_is_a_function_of_the_set(
        (facts, order) in prop::collection::vec(any_fact(), 0..30).prop_flat_map(|facts| {
            let twice: Vec<usize> = (0..facts.len()).chain(0..facts.len() / 2).collect();
            (Just(facts), Just(twice).prop_shuffle())
        })
    ) {
        let once = reconcile(facts.clone(), "EUR");
        let shuffled = reconcile(order.iter().map(|index| facts[*index].clone()), "EUR");
        prop_assert_eq!(once.canonical_bytes(), shuffled.canonical_bytes());
        prop_assert!(sums(&once.rows).values().all(|sum| *sum == 0));
        // Every entry has an outcome: nothing is dropped.
        let positions: std::collections::BTreeSet<Position> = facts.iter().map(|fact| fact.at).collect();
        prop_assert_eq!(positions.len(), once.outcomes.len());
        // And no (stall, sale id) is posted twice.
        let mut posted = std::collections::BTreeSet::new();
        for fact in facts.iter().filter(|fact| once.outcomes[&fact.at].1 == Outcome::Posted).map(|fact| (fact.at, fact)).collect::<BTreeMap<_, _>>().values() {
            prop_assert!(posted.insert((fact.stall.clone(), fact.sale.clone().unwrap().sale)));
        }
    }

    #[test]
    fn batches_add_up_to_the_whole_in_any_grouping(facts in prop::collection::vec(any_fact(), 0..30), cut in 0_usize..30) {
        let cut = cut.min(facts.len());
        let first = reconcile(facts[..cut].to_vec(), "EUR");
        let whole = reconcile(facts, "EUR");
        let one = batch(&first.rows, &[]);
        let two = batch(&whole.rows, &one);
        prop_assert!(sums(&two).values().all(|sum| *sum == 0));
        let mut both = one;
        both.extend(two);
        let together = crate::hub::ledger::balances(&both);
        let direct = crate::hub::ledger::balances(&whole.rows);
        prop_assert_eq!(
            together.into_iter().filter(|(_, sum)| *sum != 0).collect::<Vec<_>>(),
            direct.into_iter().filter(|(_, sum)| *sum != 0).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_cash_sale_is_posted_as_the_ledgers_documentation_says() {
    let mut sale = sale(2, 1200, 1);
    sale.tenders[0].kind = 1;
    let result = reconcile([fact(0, 1, sale)], "EUR");
    let amounts: Vec<(&str, i64)> = result.rows.iter().map(|row| (row.account.as_str(), row.amount)).collect();
    assert_eq!(
        amounts,
        [("cash-held:stall-0", 1200), ("tax:standard", -200), ("market-fee", -50), ("stall-payable:stall-0", -950)]
    );
}

#[test]
fn the_same_sale_from_two_copies_of_a_disk_is_posted_once() {
    let result = reconcile([fact(0, 1, sale(1, 500, 1)), fact(3, 1, sale(1, 500, 1))], "EUR");
    assert_eq!(result.posted(), 1);
    assert!(result.outcomes.values().any(|(_, outcome)| matches!(outcome, Outcome::Repeats(_))));
}

#[test]
fn one_id_with_two_contents_leaves_one_in_suspense() {
    let result = reconcile([fact(0, 1, sale(1, 500, 1)), fact(0, 2, sale(1, 700, 1))], "EUR");
    assert_eq!(result.posted(), 1);
    let reasons: Vec<_> = result
        .outcomes
        .values()
        .filter_map(|(_, outcome)| match outcome {
            Outcome::Suspense { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, ["same_id_other_content"]);
}
