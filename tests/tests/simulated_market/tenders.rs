//! Payments in parts: what covers what, what survives a crash, and what is taken by card without the hub.

use serde_json::{Value, json};
use stallmesh_node::engine::{
    Answer, Authorised, BasketView, Failure, FailureCode, PartState, PolicyView, ReasonAnswer, Request, RulesOrder,
    SaleOrder, SaleView,
};
use stallmesh_node::risk::files::{PolicyFile, StallFile};
use stallmesh_tests::simulation::Simulation;

const HUB: usize = 0;
const STALL: usize = 2;

fn basket(answer: Answer) -> Result<BasketView, Failure> {
    match answer {
        Answer::Basket(basket) => Ok(*basket),
        Answer::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

/// Opens a basket of so many of the second product (2.50 each).
fn open(market: &mut Simulation, quantity: u64) -> BasketView {
    let content = json!({ "lines": [{ "sku": "P2", "quantity": quantity }] });
    let content = serde_json::from_value(content).unwrap();
    basket(market.ask(STALL, Request::OpenBasket { basket: content, key: None })).unwrap()
}

fn take(market: &mut Simulation, of: &BasketView, order: Value, key: Option<&str>) -> Result<BasketView, Failure> {
    let order = serde_json::from_value(order).unwrap();
    basket(market.ask(STALL, Request::TakeTender { id: of.id, order, key: key.map(str::to_owned) }))
}

fn void(market: &mut Simulation, of: &BasketView, number: u32) -> Result<BasketView, Failure> {
    basket(market.ask(STALL, Request::VoidTender { id: of.id, number, confirmed: Vec::new() }))
}

fn sell(market: &mut Simulation, of: &BasketView, tenders: Value) -> Result<SaleView, Failure> {
    let sale = serde_json::from_value(json!({ "tenders": tenders })).unwrap();
    match market.ask(STALL, Request::SellBasket { id: of.id, sale }) {
        Answer::Sale(sale) => Ok(sale),
        Answer::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn uncaptured(market: &mut Simulation) -> (u64, u64, u64) {
    let waits = market.status(STALL).uncaptured;
    (waits.sales, waits.payments, waits.sum)
}

fn codes(result: &Result<BasketView, Failure>) -> Option<FailureCode> {
    result.as_ref().err().map(|failure| failure.code)
}

const CARD: &str = "tok_visa_4242";

#[test]
fn a_bill_is_split_over_cash_two_cards_and_a_terminal_and_each_part_is_seen() {
    let mut market = Simulation::market(71, 1);
    let open = open(&mut market, 8);
    assert_eq!((open.covered, open.left, open.left_in_cash), (0, 2_000, 2_000));
    let part =
        take(&mut market, &open, json!({ "kind": "card", "amount": 700, "token": CARD, "tip": 50 }), None).unwrap();
    assert_eq!((part.covered, part.left, part.over), (700, 1_300, 0));
    take(&mut market, &open, json!({ "kind": "wallet", "amount": 300, "token": "tok_phone" }), None).unwrap();
    take(&mut market, &open, json!({ "kind": "outside", "amount": 400, "reference": "slip 17" }), None).unwrap();
    // Less than is left is handed over: it pays so much.
    take(&mut market, &open, json!({ "kind": "cash", "given": 200 }), None).unwrap();
    let part = take(&mut market, &open, json!({ "kind": "cash", "given": 500 }), None).unwrap();
    assert_eq!((part.covered, part.left), (2_000, 0));
    let states: Vec<(u64, u64, PartState, Authorised)> =
        part.tenders.iter().map(|part| (part.amount, part.change, part.state, part.authorised)).collect();
    assert_eq!(
        states,
        [
            (700, 0, PartState::Approved, Authorised::Offline),
            (300, 0, PartState::Approved, Authorised::Offline),
            (400, 0, PartState::Taken, Authorised::None),
            (200, 0, PartState::Taken, Authorised::None),
            (400, 100, PartState::Taken, Authorised::None),
        ]
    );
    assert_eq!(uncaptured(&mut market), (1, 2, 1_050));
    let nothing_left = take(&mut market, &open, json!({ "kind": "cash" }), None);
    assert_eq!(codes(&nothing_left), Some(FailureCode::EInvalid));
    let sale = sell(&mut market, &open, json!([])).unwrap();
    assert_eq!((sale.total, sale.tip, sale.tenders.len()), (2_000, 50, 5));
    assert_eq!(sell(&mut market, &open, json!([])).map(|again| again.entry), Ok(sale.entry));
    market.until("it is posted", 60_000, |market| market.settle(true).posted == 1);
    assert_eq!(market.settle(false).suspense, []);
    market.until("what was taken by card waits no more", 60_000, |market| uncaptured(market) == (0, 0, 0));
    let Answer::Ledger(ledger) = market.ask(HUB, Request::Ledger) else { panic!("no ledger") };
    let of = |account: &str| ledger.balances.iter().find(|(name, ..)| name == account).map(|(.., amount)| *amount);
    assert_eq!(of("cash-held:stall-1"), Some(600));
    assert_eq!(of("outside-held:stall-1"), Some(400));
    assert_eq!(of("gateway-clearing"), Some(1_050));
    // 20.00 less tax of 3.33 and a fee of 5 % of the rest, and the whole tip.
    assert_eq!(of("stall-payable:stall-1"), Some(-(2_000 - 333 - 83 + 50)));
}

#[test]
fn parts_survive_a_crash_are_taken_once_and_are_voided_before_they_are_recorded() {
    let mut market = Simulation::market(72, 1);
    let open = open(&mut market, 4);
    let order = json!({ "kind": "card", "amount": 600, "token": CARD });
    let once = take(&mut market, &open, order.clone(), Some("reader 1")).unwrap();
    assert_eq!(take(&mut market, &open, order, Some("reader 1")), Ok(once.clone()));
    let other = json!({ "kind": "card", "amount": 500, "token": CARD });
    assert_eq!(codes(&take(&mut market, &open, other, Some("reader 1"))), Some(FailureCode::EConflict));
    market.kill(STALL);
    market.start(STALL);
    market.run_for(1_000);
    assert_eq!(uncaptured(&mut market), (1, 1, 600));
    // Nobody goes away with a basket of which something was paid.
    let discarded = market.ask(STALL, Request::DiscardBasket(open.id));
    assert!(matches!(discarded, Answer::Failed(failure) if failure.code == FailureCode::EConflict));
    let voided = void(&mut market, &open, 0).unwrap();
    assert_eq!((voided.tenders[0].state, voided.left), (PartState::Void, 1_000));
    assert_eq!(void(&mut market, &open, 0), Ok(voided));
    assert_eq!(codes(&void(&mut market, &open, 7)), Some(FailureCode::ENotFound));
    assert_eq!(uncaptured(&mut market), (0, 0, 0));
    let sale = sell(&mut market, &open, json!([{ "kind": "cash", "given": 1_000 }])).unwrap();
    assert_eq!((sale.tenders.len(), sale.total), (1, 1_000));
    assert_eq!(codes(&take(&mut market, &open, json!({ "kind": "cash" }), None)), Some(FailureCode::EConflict));
}

#[test]
fn a_basket_that_costs_less_than_was_paid_is_not_sold_until_a_part_is_voided() {
    let mut market = Simulation::market(73, 1);
    let open = open(&mut market, 4);
    take(&mut market, &open, json!({ "kind": "card", "amount": 1_000, "token": CARD }), None).unwrap();
    let change = json!({ "changes": [{ "op": "set", "line": 0, "sku": "P2", "quantity": 2 }] });
    let order = serde_json::from_value(change).unwrap();
    let now = basket(market.ask(STALL, Request::ChangeBasket { id: open.id, order, key: None })).unwrap();
    assert_eq!((now.covered, now.left, now.over), (1_000, 0, 500));
    let refused = sell(&mut market, &open, json!([])).unwrap_err();
    assert_eq!(refused.code, FailureCode::EInvalid);
    assert!(refused.detail.contains("1000") && refused.detail.contains("500"), "{}", refused.detail);
    void(&mut market, &open, 0).unwrap();
    assert!(sell(&mut market, &open, json!([{ "kind": "card", "token": CARD }])).is_ok());
}

#[test]
fn a_sale_that_fails_leaves_nothing_that_waits() {
    let mut market = Simulation::market(74, 1);
    let tenders = json!([{ "kind": "card", "amount": 300, "token": CARD }, { "kind": "cash", "amount": 100 }]);
    let order: SaleOrder = serde_json::from_value(json!({
        "idempotency_key": "does not add up", "lines": [{ "sku": "P2", "quantity": 2 }], "tenders": tenders,
    }))
    .unwrap();
    let answer = market.ask(STALL, Request::RecordSale(order));
    assert!(matches!(answer, Answer::Failed(failure) if failure.code == FailureCode::EInvalid));
    assert_eq!(uncaptured(&mut market), (0, 0, 0));
    let rehearsal: SaleOrder = serde_json::from_value(json!({
        "idempotency_key": "rehearsal", "lines": [{ "sku": "P2", "quantity": 2 }], "rehearsal": true,
        "tenders": [{ "kind": "card", "token": CARD }],
    }))
    .unwrap();
    assert!(matches!(market.ask(STALL, Request::RecordSale(rehearsal)), Answer::Sale(_)));
    assert_eq!(uncaptured(&mut market), (0, 0, 0));
}

fn set_risk(market: &mut Simulation, risk: Value) -> Answer {
    let risk: PolicyFile = serde_json::from_value(risk).unwrap();
    market.ask(HUB, Request::SetCheckoutRules(RulesOrder { risk: Some(risk), ..RulesOrder::default() }))
}

#[test]
fn the_hubs_limits_hold_at_the_stall_a_person_is_asked_and_a_stall_may_only_be_stricter() {
    let mut market = Simulation::market(75, 1);
    let limits = json!({
        "payment": { "ask_above": 500, "decline_above": 1_000 },
        "stall_sum": { "ask_above": 1_500 },
        "stall_count": { "decline_above": 4 },
    });
    let answer = set_risk(&mut market, json!({ "limits": limits, "borne_by": "market", "asked_borne_by": "stall" }));
    assert_eq!(answer, Answer::Done);
    market.until("the stall knows", 60_000, |market| match market.ask(STALL, Request::CheckoutRules) {
        Answer::CheckoutRules(rules) => rules.risk.limits.stall_count.decline_above == Some(4),
        _ => false,
    });
    let card = |amount: u64| json!({ "kind": "card", "token": CARD, "amount": amount });
    let open_one = open(&mut market, 20);
    let taken = take(&mut market, &open_one, card(500), None).unwrap();
    assert_eq!(taken.tenders[0].state, PartState::Approved);
    let asked = take(&mut market, &open_one, card(501), None).unwrap_err();
    assert_eq!(asked.code, FailureCode::EAsk);
    assert_eq!(
        (asked.reasons[0].id.as_str(), asked.reasons[0].answer, asked.reasons[0].sentence.as_str()),
        ("payment", ReasonAnswer::Ask, "this payment is 5.01 EUR; without the hub, up to 5.00 EUR is taken unasked")
    );
    let mut confirmed = card(501);
    confirmed["confirmed"] = json!(["payment"]);
    take(&mut market, &open_one, confirmed, None).unwrap();
    // What is declined nobody lets pass.
    let mut much = card(1_001);
    much["confirmed"] = json!(["payment", "stall_sum"]);
    let declined = take(&mut market, &open_one, much, None).unwrap_err();
    assert_eq!(declined.code, FailureCode::EDeclined);
    take(&mut market, &open_one, card(400), None).unwrap();
    let asked = take(&mut market, &open_one, card(100), None).unwrap_err();
    assert_eq!(asked.reasons.iter().map(|reason| reason.id.as_str()).collect::<Vec<_>>(), ["stall_sum"]);
    assert_eq!(
        asked.reasons[0].sentence,
        "15.01 EUR of this stall would not be captured yet; without the hub, up to 15.00 EUR is taken unasked"
    );
    // Cash is never a matter of these limits.
    take(&mut market, &open_one, json!({ "kind": "cash", "amount": 3_000 }), None).unwrap();
    let mut last = card(599);
    last["confirmed"] = json!(["payment", "stall_sum"]);
    let whole = take(&mut market, &open_one, last, None).unwrap();
    assert_eq!(whole.left, 0);
    let sale = sell(&mut market, &open_one, json!([])).unwrap();
    let bears: Vec<bool> = sale.tenders.iter().map(|tender| tender.market_bears).collect();
    assert_eq!(bears, [true, false, true, false, false], "the market bears what was taken unasked");
    let another = open(&mut market, 1);
    assert_eq!(
        codes(&take(&mut market, &another, card(100), None)),
        Some(FailureCode::EDeclined),
        "the fifth that waits"
    );

    // Stricter by the stall itself; looser it can't be, and it holds after a restart.
    let file = |above: u64| -> StallFile {
        serde_json::from_value(json!({ "limits": { "stall_count": { "decline_above": above } } })).unwrap()
    };
    market.until("it is posted", 60_000, |market| market.settle(true).posted == 1);
    market.settle(false);
    market.until("nothing waits", 60_000, |market| uncaptured(market).1 == 0);
    for (above, taken) in [(1, 1), (100, 4)] {
        assert_eq!(market.ask(STALL, Request::NarrowRisk(file(above))), Answer::Done);
        market.kill(STALL);
        market.start(STALL);
        market.run_for(1_000);
        let before = uncaptured(&mut market).1;
        let open = open(&mut market, 10);
        let tries = (0..6).filter(|_| take(&mut market, &open, card(10), None).is_ok()).count() as u64;
        assert_eq!(before + tries, taken);
    }
}

#[test]
fn rules_that_say_what_cannot_be_are_refused_and_only_a_hub_publishes_them() {
    let mut market = Simulation::market(76, 1);
    let wrong = set_risk(
        &mut market,
        json!({ "limits": { "payment": { "ask_above": 10, "decline_above": 5 } }, "borne_by": "stall" }),
    );
    let Answer::Failed(failure) = wrong else { panic!("{wrong:?}") };
    assert_eq!(failure.code, FailureCode::EInvalid);
    assert!(failure.detail.contains("limits.payment.ask_above"), "{}", failure.detail);
    let rule = json!({
        "id": "x", "name": "X", "looks_at": { "card_blocked": { "by_stalls": 1 } }, "answer": "ask", "says": "no",
        "signals_live_hours": 1,
    });
    let fraud = serde_json::from_value(json!({ "rules": [rule] })).unwrap();
    let rules = RulesOrder { fraud: Some(fraud), ..RulesOrder::default() };
    let wrong = market.ask(HUB, Request::SetCheckoutRules(rules));
    assert!(matches!(&wrong, Answer::Failed(failure) if failure.code == FailureCode::EInvalid), "{wrong:?}");
    let order = RulesOrder { rotate_fingerprint_key: true, ..RulesOrder::default() };
    let by_stall = market.ask(STALL, Request::SetCheckoutRules(order));
    assert!(matches!(&by_stall, Answer::Failed(failure) if failure.code == FailureCode::EScope), "{by_stall:?}");
}

#[test]
fn the_policys_limit_for_one_card_payment_declines_and_the_rest_may_be_paid_otherwise() {
    let mut market = Simulation::market(77, 1);
    let Answer::Policy(policy) = market.ask(HUB, Request::Policy) else { panic!("no policy") };
    assert_eq!(market.ask(HUB, Request::SetPolicy(PolicyView { card_floor_limit: 400, ..policy })), Answer::Done);
    market.until(
        "the stall knows",
        60_000,
        |market| matches!(market.ask(STALL, Request::Policy), Answer::Policy(policy) if policy.card_floor_limit == 400),
    );
    let open = open(&mut market, 2);
    let declined = take(&mut market, &open, json!({ "kind": "card", "token": CARD }), None).unwrap_err();
    assert_eq!((declined.code, declined.reasons[0].id.as_str()), (FailureCode::EDeclined, "card_floor_limit"));
    assert_eq!(declined.detail, "this payment is 5.00 EUR; without the hub, up to 4.00 EUR is taken");
    take(&mut market, &open, json!({ "kind": "card", "token": CARD, "amount": 400 }), None).unwrap();
    assert!(sell(&mut market, &open, json!([{ "kind": "cash" }])).is_ok());
}
