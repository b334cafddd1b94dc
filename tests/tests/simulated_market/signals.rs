//! What stalls tell each other of cards, devices and people at tills.

use serde_json::{Value, json};
use stallmesh_node::engine::{
    Answer, BlockOrder, Failure, FailureCode, Request, RulesOrder, SaleOrder, SaleView, SignalView,
};
use stallmesh_tests::simulation::Simulation;

const HUB: usize = 0;
const MINUTE: u64 = 60_000;

/// Asks a stall to sell so many of the second product (2.50 each) to a card.
fn pay(market: &mut Simulation, stall: usize, key: &str, card: &str, more: Value) -> Result<SaleView, Failure> {
    let mut order = json!({
        "idempotency_key": key,
        "lines": [{ "sku": "P2", "quantity": 1 }],
        "tenders": [{ "kind": "card", "token": format!("tok_{key}"), "card": card }],
    });
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let order: SaleOrder = serde_json::from_value(order).unwrap();
    match market.ask(stall, Request::RecordSale(order)) {
        Answer::Sale(sale) => Ok(sale),
        Answer::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn signals(market: &mut Simulation, index: usize) -> Vec<SignalView> {
    match market.ask(index, Request::Signals { limit: 1_000 }) {
        Answer::Signals(signals) => signals,
        other => panic!("{other:?}"),
    }
}

fn until_everybody_knows(market: &mut Simulation, count: usize) {
    let nodes = market.nodes.len();
    market.until("everybody knows", MINUTE, |market| (0..nodes).all(|index| signals(market, index).len() == count));
}

/// Ids of the reasons for which a person is asked, or nothing is taken.
fn reasons(refused: &Failure) -> Vec<&str> {
    refused.reasons.iter().map(|reason| reason.id.as_str()).collect()
}

#[test]
fn a_card_that_pays_at_many_stalls_is_asked_about_and_an_answered_alarm_holds_at_that_stall() {
    let mut market = Simulation::market(81, 4);
    let stalls = [2, 3, 4, 5];
    for stall in &stalls[..3] {
        pay(&mut market, *stall, "once", "card-of-a-runner", json!({})).unwrap();
        market.run_for(1_000);
    }
    until_everybody_knows(&mut market, 3);
    let asked = pay(&mut market, stalls[3], "fourth", "card-of-a-runner", json!({})).unwrap_err();
    assert_eq!((asked.code, reasons(&asked)), (FailureCode::EAsk, vec!["card-many-stalls"]));
    assert!(asked.detail.starts_with("this card paid at 4 stalls within "), "{}", asked.detail);
    // Another card isn't meant, nor is cash.
    pay(&mut market, stalls[3], "other card", "card-of-a-stroller", json!({})).unwrap();
    // Once: the alarm stays.
    let once = json!({ "confirmed": ["card-many-stalls"] });
    pay(&mut market, stalls[3], "confirmed", "card-of-a-runner", once).unwrap();
    let again = pay(&mut market, stalls[3], "again", "card-of-a-runner", json!({})).unwrap_err();
    assert_eq!(again.code, FailureCode::EAsk);
    // Known: for a while it isn't asked about again, at this stall.
    let known = json!({ "known": ["card-many-stalls"] });
    pay(&mut market, stalls[3], "known", "card-of-a-runner", known).unwrap();
    pay(&mut market, stalls[3], "unasked", "card-of-a-runner", json!({})).unwrap();
    let here = signals(&mut market, stalls[3]);
    assert_eq!(here.iter().filter(|signal| signal.fact.get("known").is_some()).count(), 1);
    until_everybody_knows(&mut market, here.len());
    let elsewhere = pay(&mut market, stalls[0], "elsewhere", "card-of-a-runner", json!({})).unwrap_err();
    assert_eq!(elsewhere.code, FailureCode::EAsk);
}

#[test]
fn a_card_that_the_hub_blocks_is_declined_at_every_stall_until_it_is_let_go() {
    let mut market = Simulation::market(82, 2);
    let sale = pay(&mut market, 2, "once", "card-7", json!({})).unwrap();
    let fingerprint = sale.tenders[0].fingerprint.clone();
    assert_eq!(fingerprint.len(), 32);
    let block = |blocked: bool| Request::BlockCard(BlockOrder { fingerprint: fingerprint.clone(), blocked });
    assert_eq!(market.ask(HUB, block(true)), Answer::Done);
    until_everybody_knows(&mut market, 2);
    for stall in [2, 3] {
        let declined =
            pay(&mut market, stall, "blocked", "card-7", json!({ "confirmed": ["card-blocked"] })).unwrap_err();
        assert_eq!((declined.code, reasons(&declined)), (FailureCode::EDeclined, vec!["card-blocked"]));
        assert_eq!(declined.detail, "this card is blocked by the market");
    }
    // It outlives a new key of fingerprints, and a restart.
    let rotated = RulesOrder { rotate_fingerprint_key: true, ..RulesOrder::default() };
    assert_eq!(market.ask(HUB, Request::SetCheckoutRules(rotated)), Answer::Done);
    market.until("cards have other fingerprints", MINUTE, |market| {
        let key = format!("probe {}", market.now);
        pay(market, 3, &key, "card-8", json!({})).unwrap().tenders[0].fingerprint
            != pay(market, 2, "probe", "card-8", json!({})).map(|sale| sale.tenders[0].fingerprint.clone()).unwrap()
    });
    market.kill(3);
    market.start(3);
    market.run_for(1_000);
    let declined = pay(&mut market, 3, "after the rotation", "card-7", json!({})).unwrap_err();
    assert_eq!(declined.code, FailureCode::EDeclined);
    assert_eq!(market.ask(HUB, block(false)), Answer::Done);
    market.until("it is let go", MINUTE, |market| pay(market, 3, "let go", "card-7", json!({})).is_ok());
}

#[test]
fn one_stalls_block_holds_at_its_own_till_alone() {
    let mut market = Simulation::market(83, 2);
    let sale = pay(&mut market, 2, "once", "card-9", json!({})).unwrap();
    let fingerprint = sale.tenders[0].fingerprint.clone();
    assert_eq!(market.ask(2, Request::BlockCard(BlockOrder { fingerprint, blocked: true })), Answer::Done);
    until_everybody_knows(&mut market, 2);
    let declined = pay(&mut market, 2, "here", "card-9", json!({})).unwrap_err();
    assert_eq!(declined.code, FailureCode::EDeclined);
    assert!(pay(&mut market, 3, "there", "card-9", json!({})).is_ok());
}

#[test]
fn whoever_sells_again_and_again_far_below_the_price_is_asked_also_for_cash() {
    let mut market = Simulation::market(84, 1);
    let cheap = |key: &str, operator: &str, confirmed: &[&str]| {
        let order: SaleOrder = serde_json::from_value(json!({
            "idempotency_key": key, "operator": operator, "confirmed": confirmed,
            "lines": [{ "sku": "P2", "quantity": 1, "price": 100 }],
            "tenders": [{ "kind": "cash" }],
        }))
        .unwrap();
        Request::RecordSale(order)
    };
    let mut asked_at = None;
    for number in 0..10 {
        let key = number.to_string();
        match market.ask(2, cheap(&key, "Mallory", &[])) {
            Answer::Sale(_) => {}
            Answer::Failed(failure) => {
                assert_eq!((failure.code, reasons(&failure)), (FailureCode::EAsk, vec!["price-override"]));
                asked_at = Some(number);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(asked_at, Some(2), "two are usual");
    assert!(matches!(market.ask(2, cheap("Ada's", "Ada", &[])), Answer::Sale(_)), "somebody else is not meant");
    assert!(matches!(market.ask(2, cheap("yes", "Mallory", &["price-override"])), Answer::Sale(_)));
}

#[test]
fn a_device_whose_clock_is_off_says_so_before_it_takes_a_card_and_sells_for_cash_without_a_word() {
    let mut market = Simulation::market(85, 1);
    market.nodes[2].clock_error = 20 * i64::try_from(MINUTE).unwrap();
    market.run_for(1_000);
    let asked = pay(&mut market, 2, "late", "card-1", json!({})).unwrap_err();
    assert_eq!((asked.code, reasons(&asked)), (FailureCode::EAsk, vec!["clock-off"]));
    assert!(asked.detail.contains("20 minutes ahead"), "{}", asked.detail);
    let cash = json!({ "tenders": [{ "kind": "cash" }] });
    pay(&mut market, 2, "cash", "", cash).unwrap();
    market.nodes[2].clock_error = 0;
    market.run_for(1_000);
    pay(&mut market, 2, "set", "card-1", json!({})).unwrap();
}

#[test]
fn a_copied_device_is_asked_about_by_what_this_node_has_seen_itself() {
    let mut market = Simulation::market(86, 2);
    let disk = market.nodes[2].disk.copy();
    let copy = market.clone_device(2, disk);
    market.run_for(1_000);
    market.until("somebody notices", 10 * MINUTE, |market| {
        let key = market.now.to_string();
        // Another card each time: nothing else is to be asked about.
        let asked = pay(market, 2, &key, &key, json!({}));
        let _ = pay(market, copy, &key, &key, json!({}));
        asked.is_err_and(|failure| failure.code == FailureCode::EAsk && reasons(&failure).contains(&"clone"))
    });
}

#[test]
fn no_rehearsal_and_no_refused_payment_is_told_to_the_market() {
    let mut market = Simulation::market(87, 1);
    pay(&mut market, 2, "rehearsal", "card-1", json!({ "rehearsal": true })).unwrap();
    pay(&mut market, 2, "too little", "card-1", json!({ "lines": [{ "sku": "P9", "quantity": 1 }] })).unwrap_err();
    market.run_for(5_000);
    assert_eq!(signals(&mut market, 2), []);
    pay(&mut market, 2, "real", "card-1", json!({})).unwrap();
    assert_eq!(signals(&mut market, 2).len(), 1);
    // What the reader calls a card is nobody's but the reader's.
    for node in 0..3 {
        assert!(!market.nodes[node].disk.contains(b"card-1"), "node {node}");
    }
}
