//! Cards on line first: the hub is asked through a carrier, silence falls back to the policy, and nobody is charged for what
//! was not recorded, whoever dies when.

use serde_json::{Value, json};
use stallmesh_node::card_reader::{ReaderOrder, ReaderOutcome, ReaderReply};
use stallmesh_node::engine::{
    Answer, Authorised, BasketView, Failure, FailureCode, PartState, PartView, ReasonAnswer, Request, RequestId,
    RulesOrder, SaleOrder, SaleView,
};
use stallmesh_node::risk::files::PolicyFile;
use stallmesh_protocol::SaleId;
use stallmesh_tests::simulation::Simulation;

const HUB: usize = 0;
const CARRIER: usize = 1;
const STALL: usize = 2;
/// How long tills wait for the hub here.
const WITHIN_MS: u64 = 4_000;

/// A market whose hub has a gateway, and whose tills ask it.
fn market(seed: u64, more: Value) -> Simulation {
    let mut market = Simulation::market(seed, 1);
    market.nodes[HUB].settings.gateway = true;
    market.kill(HUB);
    market.start(HUB);
    let mut policy = json!({ "borne_by": "market", "authorise_within_ms": WITHIN_MS });
    policy.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let risk: PolicyFile = serde_json::from_value(policy).unwrap();
    let rules = RulesOrder { risk: Some(risk.clone()), ..RulesOrder::default() };
    assert_eq!(market.ask(HUB, Request::SetCheckoutRules(rules)), Answer::Done);
    market.until("the stall knows", 60_000, |market| match market.ask(STALL, Request::CheckoutRules) {
        Answer::CheckoutRules(rules) => rules.risk == risk && market.status(STALL).uplink.hops.is_some(),
        _ => false,
    });
    market
}

fn open(market: &mut Simulation, quantity: u64) -> BasketView {
    let content = serde_json::from_value(json!({ "lines": [{ "sku": "P2", "quantity": quantity }] })).unwrap();
    match market.ask(STALL, Request::OpenBasket { basket: content, key: None }) {
        Answer::Basket(basket) => *basket,
        other => panic!("{other:?}"),
    }
}

fn take(market: &mut Simulation, of: &BasketView, order: Value) -> PartView {
    let order = serde_json::from_value(order).unwrap();
    match market.ask(STALL, Request::TakeTender { id: of.id, order, key: None }) {
        Answer::Basket(basket) => basket.tenders.last().unwrap().clone(),
        other => panic!("{other:?}"),
    }
}

fn look(market: &mut Simulation, of: &BasketView) -> BasketView {
    match market.ask(STALL, Request::Basket(of.id)) {
        Answer::Basket(basket) => *basket,
        other => panic!("{other:?}"),
    }
}

fn newest(market: &mut Simulation, of: &BasketView) -> PartView {
    look(market, of).tenders.last().unwrap().clone()
}

/// Waits until the newest part is no longer being asked about.
fn decided(market: &mut Simulation, of: &BasketView) -> PartView {
    market.until("it is decided", 20_000, |market| newest(market, of).state != PartState::Asked);
    newest(market, of)
}

fn card(token: &str) -> Value {
    json!({ "kind": "card", "token": token })
}

/// An order of one call: two of the second product, 5.00.
fn order(key: &str, tenders: Value) -> SaleOrder {
    let order = json!({ "idempotency_key": key, "lines": [{ "sku": "P2", "quantity": 2 }], "tenders": tenders });
    serde_json::from_value(order).unwrap()
}

fn wait_for(market: &mut Simulation, id: RequestId) -> Result<SaleView, Failure> {
    let mut answer = None;
    market.until("it is answered", 30_000, |market| {
        answer = market.answered(id);
        answer.is_some()
    });
    match answer.unwrap() {
        Answer::Sale(sale) => Ok(sale),
        Answer::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn sell(market: &mut Simulation, key: &str, tenders: Value) -> Result<SaleView, Failure> {
    let id = market.begin(STALL, Request::RecordSale(order(key, tenders)));
    wait_for(market, id)
}

fn uncaptured(market: &mut Simulation) -> u64 {
    market.status(STALL).uncaptured.sum
}

fn asked_in_all(market: &Simulation) -> u64 {
    market.gateway.payments.values().map(|payment| payment.asked_times).sum()
}

fn payment_of(sale: &SaleView, number: u32) -> String {
    format!("stall-1/{}-{number}", sale.sale)
}

#[test]
fn a_card_is_authorised_through_a_carrier_before_its_sale_is_recorded() {
    let mut market = market(301, json!({}));
    let basket = open(&mut market, 2);
    let asked = take(&mut market, &basket, json!({ "kind": "card", "token": "tok", "amount": 300, "tip": 40 }));
    assert_eq!((asked.state, asked.authorised), (PartState::Asked, Authorised::None));
    let early = json!([{ "kind": "cash", "amount": 200 }]);
    let early = serde_json::from_value(json!({ "tenders": early })).unwrap();
    let early = market.ask(STALL, Request::SellBasket { id: basket.id, sale: early });
    assert!(matches!(early, Answer::Failed(failure) if failure.code == FailureCode::EConflict));
    let taken = decided(&mut market, &basket);
    assert_eq!((taken.state, taken.authorised), (PartState::Approved, Authorised::Online));
    assert_eq!(market.gateway.holds(), 340);
    assert_eq!(uncaptured(&mut market), 0, "what the bank holds is no risk");
    let whole = serde_json::from_value(json!({ "tenders": [{ "kind": "cash" }] })).unwrap();
    let Answer::Sale(sale) = market.ask(STALL, Request::SellBasket { id: basket.id, sale: whole }) else { panic!() };
    assert_eq!((sale.total, sale.tip, sale.tenders[0].authorised), (500, 40, Authorised::Online));
    assert_eq!(market.gateway.held().keys().copied().collect::<Vec<_>>(), [payment_of(&sale, 0)]);
    market.until("it is posted", 60_000, |market| market.settle(true).posted == 1);
    assert_eq!(market.settle(false).suspense, []);
}

#[test]
fn a_sale_in_one_call_waits_for_its_cards_and_is_one_however_often_it_is_sent() {
    let mut market = market(302, json!({}));
    let tenders =
        json!([{ "kind": "card", "token": "a", "amount": 200 }, { "kind": "wallet", "token": "b", "amount": 300 }]);
    let request = || Request::RecordSale(order("one", tenders.clone()));
    let first = market.begin(STALL, request());
    let second = market.begin(STALL, request());
    assert_eq!(market.answered(first), None, "it waits");
    let other = market.ask(STALL, Request::RecordSale(order("one", card_alone("c"))));
    assert!(matches!(other, Answer::Failed(failure) if failure.code == FailureCode::EConflict));
    let sale = wait_for(&mut market, first).unwrap();
    assert_eq!(wait_for(&mut market, second).unwrap().entry, sale.entry);
    assert_eq!(sale.tenders.iter().map(|tender| tender.authorised).collect::<Vec<_>>(), [Authorised::Online; 2]);
    let Answer::Sale(again) = market.ask(STALL, request()) else { panic!() };
    assert_eq!(again.entry, sale.entry);
    assert_eq!((market.gateway.holds(), asked_in_all(&market)), (500, 2));
}

fn card_alone(token: &str) -> Value {
    json!([{ "kind": "card", "token": token }])
}

#[test]
fn what_the_bank_declines_is_said_and_the_same_key_may_pay_otherwise() {
    let mut market = market(303, json!({}));
    let declined = sell(&mut market, "one", card_alone("tok-decline")).unwrap_err();
    assert_eq!(declined.code, FailureCode::EDeclined);
    assert_eq!(declined.detail, "tender 0: declined by the bank");
    // Of a bill in two parts the good one is given back.
    let two = json!([{ "kind": "card", "token": "good", "amount": 200 }, { "kind": "card", "token": "decline", "amount": 300 }]);
    assert_eq!(sell(&mut market, "one", two).unwrap_err().code, FailureCode::EDeclined);
    market.until("nothing is held", 20_000, |market| market.gateway.holds() == 0);
    let sale = sell(&mut market, "one", card_alone("good")).unwrap();
    assert_eq!(market.gateway.held().into_iter().collect::<Vec<_>>(), [(payment_of(&sale, 3).as_str(), 500)]);
    assert_eq!(sale.tenders.len(), 1);
    let basket = open(&mut market, 2);
    take(&mut market, &basket, card("tok-decline"));
    let part = decided(&mut market, &basket);
    assert_eq!((part.state, part.because.as_str()), (PartState::Declined, "declined by the bank"));
    assert_eq!(look(&mut market, &basket).left, 500);
}

#[test]
fn a_bank_that_holds_less_leaves_a_rest_to_be_paid_otherwise() {
    let mut market = market(304, json!({}));
    let basket = open(&mut market, 2);
    take(&mut market, &basket, json!({ "kind": "card", "token": "partial-320", "tip": 50 }));
    let part = decided(&mut market, &basket);
    assert_eq!((part.amount, part.tip, part.state), (320, 0, PartState::Approved));
    assert_eq!(look(&mut market, &basket).left, 180);
    let whole = serde_json::from_value(json!({ "tenders": [{ "kind": "cash" }] })).unwrap();
    let Answer::Sale(sale) = market.ask(STALL, Request::SellBasket { id: basket.id, sale: whole }) else { panic!() };
    assert_eq!(sale.tenders.iter().map(|tender| tender.amount).collect::<Vec<_>>(), [320, 180]);
    // A tip is what is beyond the amount.
    let basket = open(&mut market, 2);
    take(&mut market, &basket, json!({ "kind": "card", "token": "partial-530", "tip": 50 }));
    let part = decided(&mut market, &basket);
    assert_eq!((part.amount, part.tip), (500, 30));
    // A sale in one call has nobody who could pay the rest.
    let held = market.gateway.holds();
    let declined = sell(&mut market, "short", card_alone("partial-100")).unwrap_err();
    assert_eq!(declined.code, FailureCode::EDeclined);
    assert!(declined.detail.contains("100 of 500") && declined.detail.contains("less"), "{}", declined.detail);
    market.until("it is given back", 20_000, |market| market.gateway.holds() == held);
}

#[test]
fn adv_089_silence_falls_back_to_the_policy_and_a_late_word_is_still_heard() {
    let mut market = market(305, json!({}));
    market.gateway.is_silent = true;
    let basket = open(&mut market, 2);
    take(&mut market, &basket, card("tok"));
    let part = decided(&mut market, &basket);
    assert_eq!((part.state, part.authorised), (PartState::Approved, Authorised::Offline));
    assert!(part.because.contains("did not answer"), "{}", part.because);
    assert_eq!(uncaptured(&mut market), 500);
    // The hub asks again under the same name once it has started anew: what was held is found, not held twice.
    market.gateway.is_silent = false;
    market.kill(HUB);
    market.start(HUB);
    market.until("the late word comes", 30_000, |market| {
        let tender = &look(market, &basket).tenders[0];
        tender.authorised == Authorised::Online
    });
    assert_eq!((uncaptured(&mut market), market.gateway.holds()), (0, 500));
    assert_eq!(market.gateway.payments.len(), 1);
    // The same where the sale was recorded meanwhile: what waits is what the bank doesn't hold.
    market.gateway.is_silent = true;
    let sale = sell(&mut market, "silent", card_alone("tok")).unwrap();
    assert_eq!((sale.tenders[0].authorised, uncaptured(&mut market)), (Authorised::Offline, 500));
    let declined = sell(&mut market, "silent, and declined", card_alone("tok-decline")).unwrap();
    assert_eq!(declined.tenders[0].authorised, Authorised::Offline);
    market.gateway.is_silent = false;
    market.kill(HUB);
    market.start(HUB);
    market.until("the late words come", 30_000, |market| {
        let notices = market.status(STALL).notices;
        uncaptured(market) == 500 && notices.iter().any(|notice| notice.contains("declined later"))
    });
    let about = market.status(STALL).notices.into_iter().find(|notice| notice.contains("declined later"));
    assert!(about.is_some_and(|notice| notice.contains(&declined.sale.to_string())));
}

#[test]
fn what_silence_does_not_let_pass_is_voided_and_a_question_may_be_answered() {
    let limits = json!({ "payment": { "ask_above": 400, "decline_above": 800 } });
    let mut market = market(306, json!({ "limits": limits }));
    // On line the limits say nothing.
    let basket = open(&mut market, 4);
    take(&mut market, &basket, card("tok"));
    assert_eq!(decided(&mut market, &basket).authorised, Authorised::Online);
    market.gateway.is_silent = true;
    let held = market.gateway.holds();
    let basket = open(&mut market, 4);
    take(&mut market, &basket, card("tok"));
    let part = decided(&mut market, &basket);
    assert_eq!(part.state, PartState::Declined);
    assert_eq!(
        part.because,
        "the hub did not answer in time, and this payment is 10.00 EUR; without the hub, up to 8.00 EUR is taken"
    );
    assert_eq!(uncaptured(&mut market), 0);
    // A question: the same again with its answer.
    let asked = sell(&mut market, "question", card_alone("tok")).unwrap_err();
    assert_eq!((asked.code, asked.reasons[0].answer), (FailureCode::EAsk, ReasonAnswer::Ask));
    let mut confirmed = order("question", card_alone("tok"));
    confirmed.confirmed = vec![asked.reasons[0].id.clone()];
    let id = market.begin(STALL, Request::RecordSale(confirmed));
    let sale = wait_for(&mut market, id).unwrap();
    assert_eq!(sale.tenders[0].authorised, Authorised::Offline);
    market.gateway.is_silent = false;
    market.kill(HUB);
    market.start(HUB);
    market.until("only what was sold is held", 30_000, |market| market.gateway.holds() == held + 500);
    assert_eq!(market.gateway.held().get(payment_of(&sale, 1).as_str()), Some(&500));
}

#[test]
fn a_part_that_is_voided_is_let_go_before_and_after_the_banks_word() {
    let mut market = market(307, json!({}));
    let basket = open(&mut market, 2);
    let void = |market: &mut Simulation, number| {
        let request = Request::VoidTender { id: basket.id, number, confirmed: Vec::new() };
        assert!(matches!(market.ask(STALL, request), Answer::Basket(_)));
    };
    take(&mut market, &basket, card("tok"));
    void(&mut market, 0);
    market.until("the bank has heard of it", 20_000, |market| market.gateway.payments.len() == 1);
    market.until("and let it go", 20_000, |market| market.gateway.holds() == 0);
    assert_eq!(newest(&mut market, &basket).state, PartState::Void);
    take(&mut market, &basket, card("tok"));
    assert_eq!(decided(&mut market, &basket).authorised, Authorised::Online);
    assert_eq!(market.gateway.holds(), 500);
    void(&mut market, 1);
    market.until("it is let go", 20_000, |market| market.gateway.holds() == 0);
    assert_eq!(market.gateway.payments.len(), 2, "a number that was used is not used again");
    // The hub's word on what is void is heard by nobody.
    market.run_for(5_000);
    assert_eq!(look(&mut market, &basket).covered, 0);
}

#[test]
fn a_late_decline_of_what_was_voided_is_no_alarm() {
    let mut market = market(309, json!({}));
    market.gateway.delay_ms = 2_000;
    let basket = open(&mut market, 2);
    take(&mut market, &basket, card("tok-decline"));
    let request = Request::VoidTender { id: basket.id, number: 0, confirmed: Vec::new() };
    assert!(matches!(market.ask(STALL, request), Answer::Basket(_)));
    let whole = serde_json::from_value(json!({ "tenders": [{ "kind": "cash" }] })).unwrap();
    assert!(matches!(market.ask(STALL, Request::SellBasket { id: basket.id, sale: whole }), Answer::Sale(_)));
    market.until("the bank was asked", 20_000, |market| asked_in_all(market) == 1);
    market.run_for(30_000);
    let notices = market.status(STALL).notices;
    assert!(!notices.iter().any(|notice| notice.contains("declined later")), "{notices:?}");
}

#[test]
fn without_a_way_to_the_hub_nobody_waits_and_rehearsals_ask_nobody() {
    let mut market = market(308, json!({}));
    let mut rehearsal = order("rehearsal", card_alone("tok"));
    rehearsal.rehearsal = true;
    assert!(matches!(market.ask(STALL, Request::RecordSale(rehearsal)), Answer::Sale(_)));
    market.uplink(CARRIER, false);
    market.until("the way is lost", 60_000, |market| market.status(STALL).uplink.hops.is_none());
    let Answer::Sale(sale) = market.ask(STALL, Request::RecordSale(order("cut off", card_alone("tok")))) else {
        panic!("it waits for nobody");
    };
    assert_eq!(sale.tenders[0].authorised, Authorised::Offline);
    market.uplink(CARRIER, true);
    market.until("it is posted", 60_000, |market| market.settle(true).posted == 1);
    assert_eq!(asked_in_all(&market), 0);
}

#[test]
fn adv_088_a_till_that_dies_while_the_bank_is_asked_charges_nobody_for_nothing() {
    // It dies at each moment between the request and its answer; its caller comes back, or never does.
    for (seed, (dies_after, comes_back)) in
        (310..).zip([0, 30, 90, 160, 250, 400].into_iter().flat_map(|at| [(at, true), (at, false)]))
    {
        let mut market = market(seed, json!({}));
        let request = || Request::RecordSale(order("one", card_alone("tok")));
        market.begin(STALL, request());
        market.run_for(dies_after);
        market.kill(STALL);
        market.run_for(1_000);
        market.start(STALL);
        if comes_back {
            let id = market.begin(STALL, request());
            let sale = wait_for(&mut market, id).unwrap();
            market.run_for(10 * 60_000);
            let held: Vec<u64> = market.gateway.held().into_values().collect();
            let offline = sale.tenders[0].authorised == Authorised::Offline;
            assert!(held == [500] || offline && held.is_empty(), "{dies_after}: {held:?}");
        } else {
            market.run_for(10 * 60_000);
            let Answer::Sales(sales) = market.ask(STALL, Request::Sales { limit: 10, before: None }) else { panic!() };
            // It had answered before it died, or it gives everything back.
            assert_eq!(market.gateway.holds(), 500 * sales.len() as u64, "{dies_after}");
            let waits = uncaptured(&mut market);
            assert!(waits == 0, "{dies_after}: {waits}");
        }
    }
}

#[test]
fn a_sale_whose_caller_is_gone_is_held_for_it_and_then_given_back() {
    let mut market = market(325, json!({}));
    let request = || Request::RecordSale(order("one", card_alone("tok")));
    let sold = |market: &mut Simulation| match market.ask(STALL, Request::Sales { limit: 10, before: None }) {
        Answer::Sales(sales) => sales.len(),
        other => panic!("{other:?}"),
    };
    market.begin(STALL, request());
    market.kill(STALL);
    market.start(STALL);
    market.until("the bank holds it", 20_000, |market| market.gateway.holds() == 500);
    market.run_for(4 * 60_000);
    assert_eq!((market.gateway.holds(), sold(&mut market)), (500, 0));
    market.run_for(2 * 60_000);
    assert_eq!((market.gateway.holds(), sold(&mut market)), (0, 0));
    // Whoever comes back after that pays anew, once.
    let id = market.begin(STALL, request());
    let sale = wait_for(&mut market, id).unwrap();
    assert_eq!(market.gateway.held().into_iter().collect::<Vec<_>>(), [(payment_of(&sale, 1).as_str(), 500)]);
}

#[test]
fn a_hub_that_dies_while_the_bank_is_asked_asks_again_under_the_same_name() {
    for (seed, dies_after) in (330..).zip([20, 60, 120, 200, 300]) {
        let mut market = market(seed, json!({}));
        market.gateway.delay_ms = 400;
        let id = market.begin(STALL, Request::RecordSale(order("one", card_alone("tok"))));
        market.run_for(dies_after);
        market.kill(HUB);
        market.start(HUB);
        let sale = wait_for(&mut market, id).unwrap();
        market.run_for(60_000);
        let held = market.gateway.held();
        assert_eq!(held.into_iter().collect::<Vec<_>>(), [(payment_of(&sale, 0).as_str(), 500)], "{dies_after}");
    }
}

#[test]
fn a_basket_that_is_being_paid_is_nobodys_to_change() {
    let mut market = market(340, json!({}));
    let basket = open(&mut market, 2);
    take(&mut market, &basket, json!({ "kind": "cash", "amount": 100 }));
    let whole = || serde_json::from_value(json!({ "tenders": [{ "kind": "card", "token": "tok" }] })).unwrap();
    let id = market.begin(STALL, Request::SellBasket { id: basket.id, sale: whole() });
    let change = serde_json::from_value(json!({ "changes": [{ "op": "give_code", "code": "X" }] })).unwrap();
    for request in [
        Request::ChangeBasket { id: basket.id, order: change, key: None },
        Request::VoidTender { id: basket.id, number: 0, confirmed: Vec::new() },
        Request::TakeTender {
            id: basket.id,
            order: serde_json::from_value(json!({ "kind": "cash", "amount": 1 })).unwrap(),
            key: None,
        },
        Request::DiscardBasket(basket.id),
    ] {
        let answer = market.ask(STALL, request);
        assert!(matches!(&answer, Answer::Failed(failure) if failure.code == FailureCode::EConflict), "{answer:?}");
    }
    let again = market.begin(STALL, Request::SellBasket { id: basket.id, sale: whole() });
    let sale = wait_for(&mut market, id).unwrap();
    assert_eq!(wait_for(&mut market, again).unwrap().entry, sale.entry);
    assert_eq!(sale.tenders.iter().map(|tender| tender.amount).collect::<Vec<_>>(), [100, 400]);
    assert_eq!(look(&mut market, &basket).sold, Some(sale.sale.to_string()));
    // One that is declined is open again, with what was tried.
    let basket = open(&mut market, 2);
    take(&mut market, &basket, json!({ "kind": "cash", "amount": 100 }));
    let declined = serde_json::from_value(json!({ "tenders": [{ "kind": "card", "token": "decline" }] })).unwrap();
    let id = market.begin(STALL, Request::SellBasket { id: basket.id, sale: declined });
    assert_eq!(wait_for(&mut market, id).unwrap_err().code, FailureCode::EDeclined);
    let open = look(&mut market, &basket);
    assert_eq!(open.tenders.iter().map(|part| part.state).collect::<Vec<_>>(), [PartState::Taken, PartState::Declined]);
    let id = market.begin(STALL, Request::SellBasket { id: basket.id, sale: whole() });
    let sale = wait_for(&mut market, id).unwrap();
    assert!(market.gateway.held().contains_key(payment_of(&sale, 2).as_str()));
}

#[test]
fn a_hub_without_a_gateway_says_so_and_a_payment_of_long_ago_is_asked_about_no_more() {
    let mut market = market(341, json!({}));
    market.nodes[HUB].settings.gateway = false;
    market.kill(HUB);
    market.start(HUB);
    market.until("it is back", 60_000, |market| market.status(STALL).uplink.hops.is_some());
    let basket = open(&mut market, 2);
    take(&mut market, &basket, card("tok"));
    let began = market.now;
    let part = decided(&mut market, &basket);
    assert!(market.now - began < WITHIN_MS, "nobody waits for the end of it");
    assert_eq!((part.authorised, part.because.as_str()), (Authorised::Offline, "the market's hub asks no bank"));
    market.nodes[HUB].settings.gateway = true;
    market.kill(HUB);
    market.start(HUB);
    market.until("it is back", 60_000, |market| market.status(STALL).uplink.hops.is_some());
    // The hub goes in the moment in which it is asked, and is back long after.
    let basket = open(&mut market, 2);
    market.kill(HUB);
    take(&mut market, &basket, card("tok"));
    assert_eq!(decided(&mut market, &basket).authorised, Authorised::Offline);
    market.run_for(20 * 60_000);
    market.start(HUB);
    market.run_for(60_000);
    assert_eq!(asked_in_all(&market), 0);
    assert_eq!(look(&mut market, &basket).tenders[0].state, PartState::Approved);
}

#[test]
fn whoever_carries_an_intent_or_its_outcome_learns_nothing_of_it() {
    let mut market = market(342, json!({}));
    let sale = sell(&mut market, "secret", card_alone("tok-never-in-clear")).unwrap();
    market.run_for(5_000);
    let id: SaleId = sale.sale;
    let disk = &market.nodes[CARRIER].disk;
    for secret in [b"tok-never-in-clear".as_slice(), id.as_bytes(), id.to_string().as_bytes(), b"ref stall-1"] {
        assert!(!disk.contains(secret), "{}", String::from_utf8_lossy(secret));
    }
    assert!(market.nodes[HUB].disk.contains(id.to_string().as_bytes()), "the look is a good one");
}

/// What the reader was asked last.
fn reader_call(market: &Simulation) -> (String, ReaderOrder) {
    let (_, call) = market.reader_calls.last().expect("the reader was asked");
    (call.payment.clone(), call.order.clone())
}

fn present(market: &mut Simulation, payment: &str, token: &str) {
    let outcome = ReaderOutcome::Approved { token: token.into(), card: "visa ending in 42".into() };
    market.reader_says(STALL, ReaderReply { payment: payment.into(), outcome });
}

fn with_reader(seed: u64, more: Value) -> Simulation {
    let mut market = market(seed, more);
    market.nodes[STALL].settings.card_reader = true;
    market.kill(STALL);
    market.start(STALL);
    market.until("there is a way", 60_000, |market| market.status(STALL).uplink.hops.is_some());
    market
}

#[test]
fn a_reader_takes_the_card_and_the_hub_authorises_what_it_gives() {
    let mut market = with_reader(350, json!({}));
    let basket = open(&mut market, 2);
    let asked = take(&mut market, &basket, json!({ "kind": "card", "tip": 20 }));
    assert_eq!(asked.state, PartState::Asked);
    let (payment, asked) = reader_call(&market);
    assert_eq!(asked, ReaderOrder::Take { amount: 520, currency: "EUR".into() });
    present(&mut market, &payment, "tok");
    // A reader that says it twice has said it once.
    present(&mut market, &payment, "tok");
    assert_eq!(decided(&mut market, &basket).authorised, Authorised::Online);
    assert_eq!((market.gateway.holds(), market.gateway.payments.len()), (520, 1));
    let whole = serde_json::from_value(json!({ "tenders": [] })).unwrap();
    let Answer::Sale(sale) = market.ask(STALL, Request::SellBasket { id: basket.id, sale: whole }) else { panic!() };
    assert!(!sale.tenders[0].fingerprint.is_empty(), "the reader has a name for the card");
    // In one call, and through a second tap.
    let request = || Request::RecordSale(order("one", json!([{ "kind": "wallet" }])));
    let (one, two) = (market.begin(STALL, request()), market.begin(STALL, request()));
    let calls = market.reader_calls.len();
    let (payment, _) = reader_call(&market);
    present(&mut market, &payment, "tok-2");
    let sale = wait_for(&mut market, one).unwrap();
    assert_eq!(wait_for(&mut market, two).unwrap().entry, sale.entry);
    assert_eq!(market.reader_calls.len(), calls, "a second tap asks for no second card");
}

#[test]
fn what_is_declined_or_voided_after_the_reader_has_taken_it_is_reversed() {
    let limits = json!({ "payment": { "decline_above": 400 } });
    let mut market = with_reader(351, json!({ "limits": limits }));
    let reversed = |market: &Simulation, payment: &str| {
        let order = ReaderOrder::Reverse;
        market.reader_calls.iter().filter(|(_, call)| call.payment == payment && call.order == order).count()
    };
    let basket = open(&mut market, 2);
    // By the reader itself: nothing to reverse.
    take(&mut market, &basket, json!({ "kind": "card" }));
    let (payment, _) = reader_call(&market);
    let outcome = ReaderOutcome::Declined { because: "the holder refused".into() };
    market.reader_says(STALL, ReaderReply { payment: payment.clone(), outcome });
    let part = decided(&mut market, &basket);
    assert_eq!((part.state, part.because.as_str()), (PartState::Declined, "the holder refused"));
    assert_eq!(reversed(&market, &payment), 0);
    // By the bank; by a vendor; and where the reader gives what no reader may give.
    for (token, void) in [("tok-decline", false), ("tok", true), ("4111 1111 1111 1111", false)] {
        take(&mut market, &basket, json!({ "kind": "card" }));
        let (payment, _) = reader_call(&market);
        present(&mut market, &payment, token);
        let number = decided(&mut market, &basket).number;
        if void {
            let request = Request::VoidTender { id: basket.id, number, confirmed: Vec::new() };
            assert!(matches!(market.ask(STALL, request), Answer::Basket(_)));
        }
        assert_ne!(newest(&mut market, &basket).state, PartState::Approved, "{token}");
        assert_eq!(reversed(&market, &payment), 1, "{token}");
        let outcome = ReaderOutcome::Reversed;
        market.reader_says(STALL, ReaderReply { payment, outcome });
    }
    // By the policy, where the hub is silent.
    market.gateway.is_silent = true;
    take(&mut market, &basket, json!({ "kind": "card" }));
    let (payment, _) = reader_call(&market);
    present(&mut market, &payment, "tok");
    assert_eq!(decided(&mut market, &basket).state, PartState::Declined);
    assert_eq!(reversed(&market, &payment), 1);
    // Voided before any card came: whoever presents one then has paid nothing. It is asked for until it is done.
    take(&mut market, &basket, json!({ "kind": "card" }));
    let (late, _) = reader_call(&market);
    let number = newest(&mut market, &basket).number;
    market.ask(STALL, Request::VoidTender { id: basket.id, number, confirmed: Vec::new() });
    present(&mut market, &late, "tok");
    assert_eq!((newest(&mut market, &basket).state, reversed(&market, &late)), (PartState::Void, 1));
    market.kill(STALL);
    market.start(STALL);
    assert_eq!((reversed(&market, &late), reversed(&market, &payment)), (2, 2));
}

#[test]
fn a_till_that_dies_while_the_reader_is_asked_looks_for_what_became_of_it() {
    let mut market = with_reader(352, json!({}));
    let basket = open(&mut market, 2);
    take(&mut market, &basket, json!({ "kind": "card" }));
    let (payment, _) = reader_call(&market);
    market.kill(STALL);
    market.start(STALL);
    assert_eq!(reader_call(&market), (payment.clone(), ReaderOrder::Find));
    market.until("there is a way", 60_000, |market| market.status(STALL).uplink.hops.is_some());
    present(&mut market, &payment, "tok");
    assert_eq!(decided(&mut market, &basket).authorised, Authorised::Online);
    assert_eq!(market.gateway.holds(), 500);
}
