//! Promotions, conditions and prices that are announced, as stalls sell by them.

use serde_json::{Value, json};
use stallmesh_node::engine::{
    Answer, ConditionsOrder, FailureCode, OrderTender, PolicyView, ProductView, PromotionsOrder, QuoteView, Request,
    SaleOrder, SaleView, TenderKind, recompute,
};
use stallmesh_node::quote::files::{BasketFile, CodeState, LineFile};
use stallmesh_tests::simulation::{Simulation, market_order};

const HUB: usize = 0;
const MINUTE: u64 = 60_000;

/// Gives promotions, as a file has them.
fn give(market: &mut Simulation, index: usize, promotions: Value) {
    let order = json!({ "give": promotions });
    let order: PromotionsOrder = serde_json::from_value(order).unwrap();
    assert_eq!(market.ask(index, Request::PublishPromotions(order)), Answer::Done);
}

fn try_give(market: &mut Simulation, index: usize, promotions: Value) -> (FailureCode, String) {
    let order: PromotionsOrder = serde_json::from_value(json!({ "give": promotions })).unwrap();
    match market.ask(index, Request::PublishPromotions(order)) {
        Answer::Failed(failure) => (failure.code, failure.detail),
        other => panic!("given: {other:?}"),
    }
}

fn withdraw(market: &mut Simulation, index: usize, id: &str) -> Answer {
    market.ask(index, Request::PublishPromotions(PromotionsOrder { withdraw: vec![id.into()], ..Default::default() }))
}

fn say(market: &mut Simulation, index: usize, conditions: Value, for_ms: u64) {
    let order = ConditionsOrder { conditions: serde_json::from_value(conditions).unwrap(), for_ms };
    assert_eq!(market.ask(index, Request::SayConditions(order)), Answer::Done);
}

/// A basket of two of the second product (2.50 each), with codes.
fn basket(codes: &[&str]) -> BasketFile {
    BasketFile {
        lines: vec![LineFile::of("P2", 2)],
        codes: codes.iter().map(|code| (*code).to_owned()).collect(),
        ..BasketFile::default()
    }
}

fn quote(market: &mut Simulation, index: usize, codes: &[&str]) -> QuoteView {
    match market.ask(index, Request::Quote(basket(codes))) {
        Answer::Quote(quote) => *quote,
        other => panic!("node {index} gave no quote: {other:?}"),
    }
}

/// What a quote takes off, by promotion.
fn reductions(quote: &QuoteView) -> Vec<(String, u64)> {
    let all = quote.quote.lines.iter().flat_map(|line| &line.reductions);
    all.map(|reduction| (reduction.promotion.to_string(), reduction.amount)).collect()
}

fn order(key: &str, codes: &[&str], tenders: Vec<OrderTender>) -> SaleOrder {
    let BasketFile { lines, codes, .. } = basket(codes);
    SaleOrder { idempotency_key: key.into(), lines, codes, tenders, ..SaleOrder::default() }
}

fn cash(amount: Option<u64>) -> OrderTender {
    OrderTender { kind: TenderKind::Cash, amount, ..OrderTender::default() }
}

fn card(amount: Option<u64>) -> OrderTender {
    OrderTender { kind: TenderKind::Card, amount, token: "tok_visa_4242".into(), ..OrderTender::default() }
}

fn sell(market: &mut Simulation, index: usize, key: &str, codes: &[&str]) -> SaleView {
    match market.ask(index, Request::RecordSale(order(key, codes, vec![cash(None)]))) {
        Answer::Sale(sale) => sale,
        other => panic!("node {index} could not sell: {other:?}"),
    }
}

#[test]
fn a_promotion_of_the_market_acts_at_every_stall_and_the_market_pays_its_share() {
    let mut market = Simulation::market(41, 2);
    let (one, other) = (2, 3);
    let before = sell(&mut market, one, "before", &[]);
    assert_eq!((before.total, before.reduction), (500, 0));
    give(
        &mut market,
        HUB,
        json!([{ "id": "OPENING", "name": "Opening day", "borne_by_market": "50", "effect": { "percentage": "10" } }]),
    );
    market.until("both stalls give it", 1_000, |market| {
        [one, other].into_iter().all(|index| reductions(&quote(market, index, &[])) == [("OPENING".to_owned(), 50)])
    });
    let sales = [one, other].map(|index| sell(&mut market, index, "with it", &[]));
    for sale in &sales {
        assert_eq!((sale.subtotal, sale.reduction, sale.total, sale.tax), (500, 50, 450, 75));
        let reduction = &sale.lines[0].line.reductions[0];
        assert_eq!((&*reduction.name, reduction.why.as_str()), ("Opening day", "10 % of 5.00"));
    }
    market.until("all are posted", MINUTE, |market| market.settle(true).posted == 3);
    assert_eq!(market.settle(false).suspense, []);
    let export = market.export(HUB);
    let recomputed = recompute(export.as_slice(), Some(market.root), 7).unwrap();
    let rows = |account: &str| -> Vec<i64> {
        let rows = &recomputed.reconciliation.rows;
        rows.iter().filter(|row| row.account == account).map(|row| row.amount).collect()
    };
    assert_eq!(rows("market-promotions"), [25, 25]);
    // 4.50 less tax of 0.75 and a fee of 5 % (0.19), and what the market pays.
    assert_eq!(rows("stall-payable:stall-2"), [-(375 - 19 + 25)]);
    let sum: i64 = recomputed.reconciliation.rows.iter().map(|row| row.amount).sum();
    assert_eq!(sum, 0);
}

#[test]
fn a_stalls_promotion_acts_at_that_stall_alone_until_it_is_withdrawn() {
    let mut market = Simulation::market(42, 2);
    let (one, other) = (2, 3);
    give(&mut market, one, json!([{ "id": "ROUND", "name": "Round", "effect": { "amount": 30 } }]));
    assert_eq!(reductions(&quote(&mut market, one, &[])), [("ROUND".to_owned(), 30)]);
    // Given anew under the same id it is another, once.
    give(&mut market, one, json!([{ "id": "ROUND", "name": "Round", "effect": { "amount": 40 } }]));
    assert_eq!(reductions(&quote(&mut market, one, &[])), [("ROUND".to_owned(), 40)]);
    market.run_for(8_000);
    assert_eq!(reductions(&quote(&mut market, other, &[])), []);
    let known = |market: &mut Simulation, index, stall: &str| match market
        .ask(index, Request::Promotions { stall: Some(stall.into()) })
    {
        Answer::Promotions(promotions) => promotions.len(),
        answer => panic!("{answer:?}"),
    };
    assert_eq!((known(&mut market, other, "stall-1"), known(&mut market, other, "stall-2")), (1, 0));
    // A restart changes nothing.
    market.kill(one);
    market.start(one);
    market.run_for(8_000);
    assert_eq!(reductions(&quote(&mut market, one, &[])), [("ROUND".to_owned(), 40)]);
    let twice = PromotionsOrder { withdraw: vec!["ROUND".into(), "ROUND".into()], ..Default::default() };
    assert_eq!(market.ask(one, Request::PublishPromotions(twice)), Answer::Done);
    assert_eq!(reductions(&quote(&mut market, one, &[])), []);
    assert!(
        matches!(withdraw(&mut market, one, "ROUND"), Answer::Failed(failure) if failure.code == FailureCode::ENotFound)
    );
    give(&mut market, one, json!([{ "id": "ROUND", "name": "Round", "effect": { "amount": 20 } }]));
    assert_eq!(reductions(&quote(&mut market, one, &[])), [("ROUND".to_owned(), 20)]);
}

#[test]
fn nobody_gives_what_is_not_theirs_and_what_makes_no_sense_is_given_by_nobody() {
    let mut market = Simulation::market(43, 1);
    let promotion = |more: Value| {
        let mut promotion = json!({ "id": "P", "name": "P", "effect": { "percentage": "10" } });
        promotion.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([promotion])
    };
    let (code, detail) = try_give(&mut market, 2, promotion(json!({ "owner": "market" })));
    assert!(code == FailureCode::EInvalid && detail.contains("only a hub"), "{detail}");
    let (_, detail) = try_give(&mut market, 2, promotion(json!({ "borne_by_market": "100" })));
    assert!(detail.contains("of its own promotions alone"), "{detail}");
    let (code, detail) = try_give(&mut market, 1, promotion(json!({})));
    assert!(code == FailureCode::EScope, "a gateway: {detail}");
    let (_, detail) = try_give(&mut market, 2, promotion(json!({ "effect": { "percentage": "101" } })));
    assert!(detail.starts_with("give[0].effect"), "{detail}");
    let fee = json!({ "effect": { "fee": { "amount": 10, "tax": "sugar" } } });
    let (_, detail) = try_give(&mut market, 2, promotion(fee));
    assert!(detail.contains("sugar"), "{detail}");
    assert_eq!(reductions(&quote(&mut market, 2, &[])), []);
}

#[test]
fn one_promotion_or_product_that_the_markets_new_terms_make_impossible_keeps_nobody_from_selling() {
    let mut market = Simulation::market(44, 1);
    let stall = 2;
    give(
        &mut market,
        stall,
        json!([
            { "id": "BAG", "name": "Bag", "effect": { "fee": { "amount": 10, "tax": "standard" } } },
            { "id": "OFF", "name": "Off", "effect": { "percentage": "10" } },
        ]),
    );
    assert_eq!(quote(&mut market, stall, &[]).quote.fee, 10);
    let product = ProductView {
        sku: "FREE".into(),
        name: "Untaxed".into(),
        price: 700,
        unit: "piece".into(),
        ..ProductView::default()
    };
    assert_eq!(market.ask(stall, Request::PublishProducts(vec![product])), Answer::Done);
    let policy = PolicyView { tax_rates: Default::default(), ..market_order().policy };
    assert_eq!(market.ask(HUB, Request::SetPolicy(policy)), Answer::Done);
    let basket = |sku: &str| BasketFile { lines: vec![LineFile::of(sku, 1)], ..BasketFile::default() };
    market.until("the terms arrive", MINUTE, |market| {
        matches!(market.ask(stall, Request::Quote(basket("P2"))), Answer::Failed(_))
    });
    let Answer::Quote(quote) = market.ask(stall, Request::Quote(basket("FREE"))) else { panic!("nothing is sold") };
    assert_eq!((quote.quote.total, quote.quote.fee), (630, 0));
    match market.ask(stall, Request::Quote(basket("P2"))) {
        Answer::Failed(failure) => {
            assert_eq!(failure.code, FailureCode::EUnknownSku);
            assert!(failure.detail.contains("can't be sold") && failure.detail.contains("standard"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    let Answer::Promotions(promotions) = market.ask(stall, Request::Promotions { stall: None }) else { panic!() };
    let problems: Vec<bool> = promotions.iter().map(|view| !view.problem.is_empty()).collect();
    assert_eq!(problems, [true, false], "{promotions:?}");
}

#[test]
fn a_stalls_promotion_gives_way_to_one_of_the_market_with_its_id() {
    let mut market = Simulation::market(45, 1);
    give(&mut market, 2, json!([{ "id": "SAME", "name": "Mine", "effect": { "amount": 30 } }]));
    give(&mut market, HUB, json!([{ "id": "SAME", "name": "All's", "effect": { "amount": 70 } }]));
    market.until("it arrives", MINUTE, |market| reductions(&quote(market, 2, &[])) == [("SAME".to_owned(), 70)]);
    let Answer::Promotions(promotions) = market.ask(2, Request::Promotions { stall: None }) else { panic!() };
    assert!(promotions[0].problem.is_empty() && promotions[1].problem.contains("same id"), "{promotions:?}");
}

#[test]
fn conditions_make_promotions_act_until_they_are_over_and_then_the_quote_says_so() {
    let mut market = Simulation::market(46, 2);
    let (one, other) = (2, 3);
    give(
        &mut market,
        HUB,
        json!([{ "id": "RAIN", "name": "Rain", "effect": { "percentage": "20" },
                 "requires": { "conditions": [{ "name": "rain_mm", "at_least": "1" }] } }]),
    );
    market.run_for(8_000);
    let dry = quote(&mut market, one, &[]);
    assert_eq!((reductions(&dry), dry.stale), (vec![], vec![]));
    say(&mut market, HUB, json!({ "rain_mm": "3.2" }), 10 * MINUTE);
    market.until("it rains at both", MINUTE, |market| {
        [one, other].into_iter().all(|index| reductions(&quote(market, index, &[])) == [("RAIN".to_owned(), 100)])
    });
    // A stall's own word counts there, and there alone.
    say(&mut market, other, json!({ "rain_mm": "0" }), 5 * MINUTE);
    assert_eq!(reductions(&quote(&mut market, other, &[])), []);
    market.run_for(8_000);
    assert_eq!(reductions(&quote(&mut market, one, &[])), [("RAIN".to_owned(), 100)]);
    // Its word is over before the market's.
    market.run_for(5 * MINUTE);
    assert_eq!(reductions(&quote(&mut market, other, &[])), [("RAIN".to_owned(), 100)]);
    let sale = sell(&mut market, one, "in the rain", &[]);
    assert_eq!(sale.total, 400);
    market.run_for(10 * MINUTE);
    for index in [one, other] {
        let over = quote(&mut market, index, &[]);
        assert_eq!((reductions(&over), over.stale), (vec![], vec!["rain_mm".to_owned()]));
    }
    let order =
        ConditionsOrder { conditions: serde_json::from_value(json!({ "a": "1" })).unwrap(), for_ms: 25 * 60 * MINUTE };
    assert!(matches!(market.ask(one, Request::SayConditions(order)), Answer::Failed(_)), "longer than a day");
}

#[test]
fn codes_act_at_the_till_and_a_limited_promotion_ends_when_the_device_has_given_it_so_often() {
    let mut market = Simulation::market(47, 1);
    let stall = 2;
    give(
        &mut market,
        stall,
        json!([{ "id": "FIRST2", "name": "First two", "effect": { "amount": 100 },
                 "requires": { "codes": ["HELLO"] }, "limits": { "total": 2 } }]),
    );
    let state = |sale: &SaleView| sale.codes.iter().map(|code| code.state).collect::<Vec<_>>();
    let none = sell(&mut market, stall, "no code", &[]);
    assert_eq!((none.total, state(&none)), (500, vec![]));
    let wrong = sell(&mut market, stall, "wrong code", &["HULLO"]);
    assert_eq!((wrong.total, state(&wrong)), (500, vec![CodeState::Unknown]));
    let first = sell(&mut market, stall, "first", &["HELLO"]);
    assert_eq!((first.total, state(&first)), (400, vec![CodeState::Applied]));
    // The same sale again uses nothing up, nor does a rehearsal.
    assert_eq!(sell(&mut market, stall, "first", &["HELLO"]), first);
    let rehearsal = SaleOrder { rehearsal: true, ..order("rehearsal", &["HELLO"], vec![cash(None)]) };
    assert!(matches!(market.ask(stall, Request::RecordSale(rehearsal)), Answer::Sale(sale) if sale.total == 400));
    market.kill(stall);
    market.start(stall);
    market.run_for(8_000);
    assert_eq!(sell(&mut market, stall, "second", &["HELLO"]).total, 400);
    let third = sell(&mut market, stall, "third", &["HELLO"]);
    assert_eq!((third.total, state(&third)), (500, vec![CodeState::UsedUp]));
    market.until("all are posted", MINUTE, |market| market.settle(true).posted == 5);
}

#[test]
fn what_is_paid_in_cash_is_rounded_to_coins_and_what_is_paid_by_card_is_not() {
    let mut market = Simulation::market(48, 1);
    let stall = 2;
    let policy = PolicyView { cash_rounding: 10, ..market_order().policy };
    assert_eq!(market.ask(HUB, Request::SetPolicy(policy)), Answer::Done);
    give(&mut market, stall, json!([{ "id": "ODD", "name": "Odd", "effect": { "amount": 3 } }]));
    market.until("the terms arrive", MINUTE, |market| {
        let rounded = BasketFile { tender: Some("cash".into()), ..basket(&[]) };
        matches!(market.ask(stall, Request::Quote(rounded)), Answer::Quote(quote) if quote.quote.total == 500)
    });
    let mut paid = |key: &str, tenders| match market.ask(stall, Request::RecordSale(order(key, &[], tenders))) {
        Answer::Sale(sale) => Ok((sale.total, sale.cash_rounding)),
        Answer::Failed(failure) => Err(failure.detail),
        other => panic!("{other:?}"),
    };
    assert_eq!(paid("cash", vec![cash(None)]), Ok((500, 3)));
    assert_eq!(paid("card", vec![card(None)]), Ok((497, 0)));
    assert_eq!(paid("split", vec![card(Some(200)), cash(Some(300))]), Ok((500, 3)));
    assert_eq!(paid("split, to the cent", vec![card(Some(197)), cash(Some(300))]), Ok((497, 0)));
    assert_eq!(paid("two cards", vec![card(Some(197)), card(Some(300))]), Ok((497, 0)));
    assert!(paid("too little", vec![card(Some(200)), cash(Some(297))]).is_err());
    assert!(paid("too much by card", vec![card(Some(600)), cash(Some(0))]).is_err());
    market.until("all are posted", MINUTE, |market| market.settle(true).posted == 5);
    assert_eq!(market.settle(false).suspense, []);
}

#[test]
fn a_price_that_is_announced_takes_effect_at_its_time_and_a_change_before_leaves_it_announced() {
    let mut market = Simulation::market(49, 1);
    let stall = 2;
    let total = |market: &mut Simulation| quote(market, stall, &[]).quote.total;
    let now = market.status(stall).time;
    let product = |price, effective_at| ProductView {
        sku: "P2".into(),
        name: "Product 2".into(),
        price,
        taxes: vec!["standard".into()],
        unit: "piece".into(),
        effective_at,
        ..ProductView::default()
    };
    let publish = |market: &mut Simulation, product| {
        assert_eq!(market.ask(stall, Request::PublishProducts(vec![product])), Answer::Done);
    };
    assert_eq!(total(&mut market), 500);
    publish(&mut market, product(300, now + 10 * MINUTE));
    publish(&mut market, product(350, now + 20 * MINUTE));
    assert_eq!(total(&mut market), 500);
    // Sooner than both, and announced later than both.
    publish(&mut market, product(270, now + 5 * MINUTE));
    publish(&mut market, product(260, 0));
    assert_eq!(total(&mut market), 520);
    market.kill(stall);
    market.start(stall);
    for (minutes, expected) in [(6, 540), (5, 600), (10, 700)] {
        market.run_for(minutes * MINUTE);
        assert_eq!(total(&mut market), expected);
    }
    // What is offered already makes no entry.
    let entries = |market: &mut Simulation| {
        let own = market.nodes[stall].id().to_string();
        let heads = market.status(stall).heads;
        heads
            .into_iter()
            .filter(|head| head.lane == "catalog" && head.author == own)
            .map(|head| head.sequence)
            .sum::<u64>()
    };
    let before = entries(&mut market);
    publish(&mut market, product(350, 0));
    assert_eq!((entries(&mut market), total(&mut market)), (before, 700));
    publish(&mut market, product(360, 0));
    // A new run's log opens first.
    assert_eq!((entries(&mut market), total(&mut market)), (before + 2, 720));
}

#[test]
fn sixteen_hundred_promotions_are_given_and_withdrawn_as_a_whole() {
    let mut market = Simulation::market(50, 1);
    let stall = 2;
    // Each in an entry of its own, so that a withdrawal of all names as many entries.
    for number in 0..1_600 {
        give(&mut market, stall, json!([{ "id": format!("P{number}"), "name": "Off", "effect": { "amount": 1 } }]));
    }
    let given = |market: &mut Simulation| match market.ask(stall, Request::Promotions { stall: None }) {
        Answer::Promotions(promotions) => promotions.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((given(&mut market), quote(&mut market, stall, &[]).quote.reduction), (1_600, 500));
    let all =
        PromotionsOrder { withdraw: (0..1_600).map(|number| format!("P{number}")).collect(), ..Default::default() };
    assert_eq!(market.ask(stall, Request::PublishPromotions(all)), Answer::Done);
    assert_eq!((given(&mut market), quote(&mut market, stall, &[]).quote.reduction), (0, 0));
}
