//! Open baskets: they survive what a till does to them, and become one sale each.

use serde_json::{Value, json};
use stallmesh_node::engine::{Answer, BasketOrder, BasketSale, BasketView, FailureCode, Request, SaleView};
use stallmesh_node::quote::files::{BasketFile, LineFile};
use stallmesh_tests::simulation::Simulation;

const STALL: usize = 2;

fn open(market: &mut Simulation, basket: Value, key: Option<&str>) -> Result<BasketView, FailureCode> {
    let basket: BasketFile = serde_json::from_value(basket).unwrap();
    view(market.ask(STALL, Request::OpenBasket { basket, key: key.map(str::to_owned) }))
}

fn view(answer: Answer) -> Result<BasketView, FailureCode> {
    match answer {
        Answer::Basket(basket) => Ok(*basket),
        Answer::Failed(failure) => Err(failure.code),
        other => panic!("{other:?}"),
    }
}

fn change(
    market: &mut Simulation,
    basket: &BasketView,
    changes: Value,
    key: Option<&str>,
) -> Result<BasketView, FailureCode> {
    let order: BasketOrder = serde_json::from_value(json!({ "changes": changes })).unwrap();
    view(market.ask(STALL, Request::ChangeBasket { id: basket.id, order, key: key.map(str::to_owned) }))
}

fn sell(market: &mut Simulation, basket: &BasketView, tender: &str) -> Result<SaleView, FailureCode> {
    let tender = match tender {
        "cash" => json!({ "kind": "cash" }),
        token => json!({ "kind": "card", "token": token }),
    };
    let sale: BasketSale = serde_json::from_value(json!({ "tenders": [tender] })).unwrap();
    match market.ask(STALL, Request::SellBasket { id: basket.id, sale }) {
        Answer::Sale(sale) => Ok(sale),
        Answer::Failed(failure) => Err(failure.code),
        other => panic!("{other:?}"),
    }
}

fn total(basket: &BasketView) -> u64 {
    basket.quote.as_ref().map(|quote| quote.quote.total).unwrap()
}

fn baskets(market: &mut Simulation) -> Vec<BasketView> {
    match market.ask(STALL, Request::Baskets) {
        Answer::Baskets(baskets) => baskets,
        other => panic!("{other:?}"),
    }
}

fn add(sku: &str) -> Value {
    json!([{ "op": "add", "sku": sku }])
}

#[test]
fn a_basket_is_there_after_the_device_has_died_and_is_sold_once() {
    let mut market = Simulation::market(61, 1);
    let basket = open(&mut market, json!({ "lines": [] }), None).unwrap();
    assert_eq!(total(&basket), 0);
    change(&mut market, &basket, add("P1"), None).unwrap();
    change(&mut market, &basket, add("P2"), None).unwrap();
    let basket = change(&mut market, &basket, add("P1"), None).unwrap();
    assert_eq!((basket.basket.lines.len(), total(&basket)), (2, 2 * 150 + 250));
    market.kill(STALL);
    market.start(STALL);
    market.run_for(1_000);
    let there = baskets(&mut market);
    assert_eq!((there.len(), there[0].id, &there[0].basket), (1, basket.id, &basket.basket));
    let sale = sell(&mut market, &basket, "cash").unwrap();
    assert_eq!(sale.total, 550);
    // A second tap, also after it has died, is the same sale.
    assert_eq!(sell(&mut market, &basket, "cash"), Ok(sale.clone()));
    market.kill(STALL);
    market.start(STALL);
    market.run_for(1_000);
    assert_eq!(sell(&mut market, &basket, "cash").map(|again| again.sale), Ok(sale.sale));
    // Paid otherwise it would be another.
    assert_eq!(sell(&mut market, &basket, "tok_visa_4242"), Err(FailureCode::EConflict));
    assert_eq!(change(&mut market, &basket, add("P1"), None), Err(FailureCode::EConflict));
    assert!(matches!(market.ask(STALL, Request::DiscardBasket(basket.id)), Answer::Failed(_)));
    assert_eq!(baskets(&mut market), []);
    let sold = view(market.ask(STALL, Request::Basket(basket.id))).unwrap();
    assert_eq!(sold.sold, Some(sale.sale.to_string()));
    market.until("it is posted, once", 60_000, |market| market.settle(true).posted == 1);
}

#[test]
fn a_sale_that_the_disk_had_no_room_for_leaves_the_basket_open() {
    let mut market = Simulation::market(62, 1);
    let basket = open(&mut market, json!({ "lines": [{ "sku": "P2", "quantity": 2 }] }), None).unwrap();
    market.nodes[STALL].disk.fail_next_commit();
    let sale: BasketSale = serde_json::from_value(json!({ "tenders": [{ "kind": "cash" }] })).unwrap();
    let answer = market.ask(STALL, Request::SellBasket { id: basket.id, sale });
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    market.kill(STALL);
    market.start(STALL);
    market.run_for(1_000);
    assert_eq!(baskets(&mut market).len(), 1);
    assert_eq!(market.status(STALL).sales.recorded, 0);
    assert_eq!(sell(&mut market, &basket, "cash").map(|sale| sale.total), Ok(500));
}

#[test]
fn what_is_sent_twice_is_done_once_and_another_thing_under_its_key_is_refused() {
    let mut market = Simulation::market(63, 1);
    let content = json!({ "lines": [{ "sku": "P1", "quantity": 1 }] });
    let basket = open(&mut market, content.clone(), Some("till 1, sale 7")).unwrap();
    assert_eq!(open(&mut market, content, Some("till 1, sale 7")).unwrap().id, basket.id);
    assert_eq!(open(&mut market, json!({ "lines": [] }), Some("till 1, sale 7")), Err(FailureCode::EConflict));
    let once = change(&mut market, &basket, add("P2"), Some("scan 1")).unwrap();
    assert_eq!(change(&mut market, &basket, add("P2"), Some("scan 1")), Ok(once.clone()));
    assert_eq!(change(&mut market, &basket, add("P3"), Some("scan 1")), Err(FailureCode::EConflict));
    assert_eq!(total(&once), 150 + 250);
    // A burst of a scanner: each is counted, however they are mixed with repetitions.
    for number in 0..70 {
        let key = format!("burst {number}");
        change(&mut market, &basket, add("P1"), Some(&key)).unwrap();
        change(&mut market, &basket, add("P1"), Some(&key)).unwrap();
    }
    let after = view(market.ask(STALL, Request::Basket(basket.id))).unwrap();
    assert_eq!(total(&after), 71 * 150 + 250);
}

#[test]
fn a_change_is_made_as_a_whole_or_not_at_all() {
    let mut market = Simulation::market(64, 1);
    let basket = open(&mut market, json!({ "lines": [{ "sku": "P1", "quantity": 1 }] }), None).unwrap();
    let refused = [
        (json!([{ "op": "add", "sku": "P2" }, { "op": "add", "sku": "NONE" }]), FailureCode::EUnknownSku),
        (json!([{ "op": "add", "sku": "P2" }, { "op": "add", "sku": "P2", "quantity": "0.5" }]), FailureCode::EInvalid),
        (json!([{ "op": "add", "quantity": 1 }]), FailureCode::EInvalid),
        (json!([{ "op": "add", "sku": "P1", "quantity": -1 }]), FailureCode::EInvalid),
        (json!([{ "op": "set", "line": 0, "sku": "P2", "quantity": 3 }]), FailureCode::EConflict),
        (json!([{ "op": "set", "line": 4, "sku": "P1", "quantity": 3 }]), FailureCode::EConflict),
        (json!([{ "op": "set", "line": 0, "sku": "P1", "quantity": -3 }]), FailureCode::EInvalid),
        (json!([{ "op": "give_code", "code": "" }]), FailureCode::EInvalid),
        (json!([{ "op": "add", "barcode": "4006381333931" }]), FailureCode::EUnknownSku),
    ];
    for (changes, code) in refused {
        assert_eq!(change(&mut market, &basket, changes.clone(), None), Err(code), "{changes}");
    }
    let now = view(market.ask(STALL, Request::Basket(basket.id))).unwrap();
    assert_eq!(now.basket, basket.basket);
    let changes = json!([
        { "op": "set", "line": 0, "sku": "P1", "quantity": 0 },
        { "op": "add", "sku": "P3", "price": 99 },
        { "op": "give_code", "code": "A" }, { "op": "give_code", "code": "A" }, { "op": "give_code", "code": "B" },
        { "op": "take_code", "code": "B" },
        { "op": "customer", "customer": { "visits": 3 } },
    ]);
    let changed = change(&mut market, &basket, changes, None).unwrap();
    assert_eq!((total(&changed), changed.basket.codes.as_slice()), (99, ["A".to_owned()].as_slice()));
    assert_eq!(changed.basket.customer.map(|customer| customer.visits), Some(3));
    assert_eq!(market.ask(STALL, Request::DiscardBasket(basket.id)), Answer::Done);
    assert_eq!(market.ask(STALL, Request::DiscardBasket(basket.id)), Answer::Done);
    assert_eq!(baskets(&mut market), []);
}

#[test]
fn a_sold_basket_is_forgotten_after_a_day_and_a_card_number_is_no_code() {
    let mut market = Simulation::market_for(66, 1, 30 * 24 * 3_600_000);
    let sold = |market: &mut Simulation| {
        let basket = open(market, json!({ "lines": [{ "sku": "P1", "quantity": 1 }] }), None).unwrap();
        let card = json!([{ "op": "give_code", "code": "4111 1111 1111 1111" }]);
        assert_eq!(change(market, &basket, card, None), Err(FailureCode::EInvalid));
        sell(market, &basket, "cash").unwrap();
        basket
    };
    let first = sold(&mut market);
    market.run_for(23 * 3_600_000);
    sold(&mut market);
    assert!(view(market.ask(STALL, Request::Basket(first.id))).is_ok());
    market.run_for(2 * 3_600_000);
    let last = sold(&mut market);
    assert_eq!(view(market.ask(STALL, Request::Basket(first.id))), Err(FailureCode::ENotFound));
    assert!(view(market.ask(STALL, Request::Basket(last.id))).is_ok());
}

#[test]
fn adv_086_a_price_that_changes_under_an_open_basket_counts_when_it_is_sold_and_no_sale_is_rewritten() {
    let mut market = Simulation::market(67, 1);
    market.until("its prices can be worked out", 60_000, |market| {
        let basket = BasketFile { lines: vec![LineFile::of("P2", 1)], ..BasketFile::default() };
        matches!(market.ask(STALL, Request::Quote(basket)), Answer::Quote(_))
    });
    let lines = json!({ "lines": [{ "sku": "P2", "quantity": 2 }] });
    let basket = open(&mut market, lines.clone(), None).unwrap();
    assert_eq!(total(&basket), 500);
    // Another till of the stall changes the price; whoever looks at the basket sees it before anybody pays.
    let helper = market.add_helper("stall-1");
    let scopes = ["sell", "read-sales", "publish-catalog"];
    assert_eq!(market.delegate(STALL, helper, &scopes, 24 * 3_600_000), Answer::Done);
    market.until("the second till knows the prices", 60_000, |market| {
        market.status(helper).stall == "stall-1" && market.products(helper, Some("stall-1")).len() == 3
    });
    market.publish_at(helper, 80);
    market.until("the new price is here", 60_000, |market| {
        let seen = view(market.ask(STALL, Request::Basket(basket.id))).unwrap();
        total(&seen) == 2 * 280
    });
    assert_eq!(sell(&mut market, &basket, "cash").map(|sale| sale.total), Ok(560));
    // Who hasn't heard of a change sells at the price that it knows, and that is what is posted.
    market.partition(&[&[0, 1, helper], &[STALL]]);
    market.publish_at(helper, 99);
    let late = open(&mut market, lines, None).unwrap();
    assert_eq!(sell(&mut market, &late, "cash").map(|sale| sale.total), Ok(560));
    market.heal();
    market.until("both are posted", 120_000, |market| market.settle(true).posted == 2);
    let export = market.export(0);
    let recomputed = stallmesh_node::engine::recompute(export.as_slice(), Some(market.root), 0).unwrap();
    assert_eq!(recomputed.sales.iter().map(|sale| sale.total).collect::<Vec<_>>(), [560, 560]);
    assert_eq!(market.settle(true).suspense, []);
}

#[test]
fn there_may_be_many_open_baskets_and_not_any_number() {
    let mut market = Simulation::market(65, 1);
    for _ in 0..200 {
        open(&mut market, json!({ "lines": [] }), None).unwrap();
    }
    assert_eq!(open(&mut market, json!({ "lines": [] }), None), Err(FailureCode::EConflict));
    let one = baskets(&mut market).remove(0);
    assert_eq!(market.ask(STALL, Request::DiscardBasket(one.id)), Answer::Done);
    open(&mut market, json!({ "lines": [] }), None).unwrap();
}
