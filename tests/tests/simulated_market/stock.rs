//! Stock: a counter that every device of a stall works out alike, and that never stands in a sale's way.

use serde_json::json;
use stallmesh_node::engine::{
    Answer, FailureCode, ProductView, Request, SaleOrder, StockCount, StockKnown, StockOrder, StockView,
};
use stallmesh_node::quote::files::{BasketFile, Number};
use stallmesh_tests::simulation::Simulation;

const OWNER: usize = 2;
const OTHER: usize = 3;

/// A market of two stalls; the first has a second till that may read its sales.
fn market(seed: u64) -> (Simulation, usize) {
    let mut market = Simulation::market(seed, 2);
    let helper = second_till(&mut market, &["sell", "read-sales", "publish-catalog"]);
    (market, helper)
}

fn second_till(market: &mut Simulation, scopes: &[&str]) -> usize {
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(OWNER, helper, scopes, 24 * 3_600_000), Answer::Done);
    market.until("the second till is a member", 60_000, |market| {
        market.status(helper).stall == "stall-1" && market.products(helper, Some("stall-1")).len() == 3
    });
    helper
}

fn product(market: &mut Simulation, at: usize, sku: &str) -> ProductView {
    let products = market.products(at, Some("stall-1"));
    products.into_iter().find(|product| product.sku == sku).unwrap()
}

fn publish(market: &mut Simulation, at: usize, stock: &str, price: u64) {
    let product = ProductView { price, stock: stock.into(), ..product(market, OWNER, "P2") };
    let product = ProductView { counted_at: 0, left: None, ..product };
    assert_eq!(market.ask(at, Request::PublishProducts(vec![product])), Answer::Done);
}

fn left(market: &mut Simulation, at: usize) -> Option<String> {
    product(market, at, "P2").left.map(|left| left.amount)
}

fn sell(market: &mut Simulation, at: usize, key: &str, quantity: u64) {
    let answer = market.try_sell(at, key, quantity);
    assert!(matches!(answer, Answer::Sale(_)), "{answer:?}");
}

fn change(market: &mut Simulation, at: usize, change: &str) -> Answer {
    let order: StockOrder = serde_json::from_value(json!({ "changes": [{ "sku": "P2", "change": change }] })).unwrap();
    market.ask(at, Request::SetStock(order))
}

fn count(market: &mut Simulation, at: usize, count: Option<u64>) {
    let counts = vec![StockCount { sku: "P2".into(), count: count.map(|count| Number(count.into())) }];
    assert_eq!(market.ask(at, Request::SetStock(StockOrder { counts, ..StockOrder::default() })), Answer::Done);
}

fn stock(market: &mut Simulation, at: usize) -> Vec<StockView> {
    match market.ask(at, Request::Stock { stall: Some("stall-1".into()), limit: 10 }) {
        Answer::Stock(stock) => stock,
        other => panic!("{other:?}"),
    }
}

fn until_left(market: &mut Simulation, nodes: &[usize], expected: &str) {
    market.until(&format!("{expected} are left"), 120_000, |market| {
        nodes.iter().all(|node| left(market, *node).as_deref() == Some(expected))
    });
    // Clocks of devices differ by what a checkpoint takes to reach them.
    market.run_for(1_000);
}

#[test]
fn adv_085_two_tills_sell_more_than_was_counted_and_both_say_so() {
    let (mut market, helper) = market(71);
    assert_eq!(left(&mut market, OWNER), None, "what isn't counted has no stock");
    publish(&mut market, OWNER, "5", 250);
    until_left(&mut market, &[OWNER, helper, OTHER], "5");
    // Each sells as much as it sees, and neither hears of the other.
    market.partition(&[&[0, 1, OWNER, OTHER], &[helper]]);
    sell(&mut market, OWNER, "four", 4);
    sell(&mut market, helper, "three", 3);
    assert_eq!((left(&mut market, OWNER).as_deref(), left(&mut market, helper).as_deref()), (Some("1"), Some("2")));
    market.heal();
    until_left(&mut market, &[OWNER, helper], "-2");
    let seen = product(&mut market, helper, "P2").left.unwrap();
    assert_eq!((seen.known, seen.hint.as_str()), (StockKnown::Stall, "-2: more sold than counted"));
    // It never blocks, and what the stall sells stays its own business.
    sell(&mut market, helper, "one more", 1);
    until_left(&mut market, &[OWNER, helper], "-3");
    let others = product(&mut market, OTHER, "P2").left.unwrap();
    assert_eq!((others.amount.as_str(), others.known), ("5", StockKnown::Published));
    // Whoever reconciles finds it listed, with how it came about.
    for till in [OWNER, helper] {
        let listed = stock(&mut market, till);
        assert_eq!(listed.len(), 1);
        let row = &listed[0];
        assert_eq!((row.counted.as_str(), row.sold.as_str(), row.left.amount.as_str()), ("5", "8", "-3"));
    }
}

#[test]
fn a_new_price_is_no_new_count_and_a_count_takes_in_what_was_sold_before_it() {
    let (mut market, helper) = market(72);
    publish(&mut market, OWNER, "10", 250);
    until_left(&mut market, &[OWNER, helper], "10");
    sell(&mut market, OWNER, "a", 2);
    market.run_for(2_000);
    // The price alone changes; the file says the same number of pieces as before.
    publish(&mut market, helper, "10", 300);
    market.until("the price is there", 60_000, |market| product(market, OWNER, "P2").price == 300);
    until_left(&mut market, &[OWNER, helper], "8");
    // A sale that nobody else has heard of yet, and then somebody counts what is on the shelf.
    market.partition(&[&[0, 1, OWNER, OTHER], &[helper]]);
    sell(&mut market, helper, "b", 3);
    market.run_for(2_000);
    count(&mut market, OWNER, Some(5));
    market.run_for(2_000);
    sell(&mut market, OWNER, "c", 1);
    sell(&mut market, helper, "d", 1);
    market.heal();
    until_left(&mut market, &[OWNER, helper], "3");
    // Who reads a product, changes its stock and sends it back counts now, whatever time stands there.
    let told = product(&mut market, helper, "P2");
    assert_eq!(market.ask(helper, Request::PublishProducts(vec![told.clone()])), Answer::Done);
    assert_eq!(left(&mut market, helper).as_deref(), Some("3"), "unchanged, it says nothing");
    let changed = ProductView { stock: "50".into(), ..told };
    assert_eq!(market.ask(helper, Request::PublishProducts(vec![changed])), Answer::Done);
    until_left(&mut market, &[OWNER, helper], "50");
    count(&mut market, helper, None);
    market.until("it isn't counted any more", 60_000, |market| left(market, OWNER).is_none());
    let refused = change(&mut market, OWNER, "1");
    assert!(matches!(refused, Answer::Failed(failure) if failure.code == FailureCode::EInvalid));
}

#[test]
fn what_came_and_went_on_two_tills_at_one_time_counts_twice() {
    let (mut market, helper) = market(73);
    assert!(
        matches!(change(&mut market, OWNER, "4"), Answer::Failed(failure) if failure.code == FailureCode::EInvalid)
    );
    publish(&mut market, OWNER, "1.5", 250);
    until_left(&mut market, &[OWNER, helper, OTHER], "1.5");
    market.run_for(1_000);
    market.partition(&[&[0, 1, OWNER, OTHER], &[helper]]);
    assert_eq!(change(&mut market, OWNER, "24"), Answer::Done);
    assert_eq!(change(&mut market, helper, "-0.5"), Answer::Done);
    market.heal();
    // What was published others see, too.
    until_left(&mut market, &[OWNER, helper, OTHER], "25");
    assert_eq!(stock(&mut market, OTHER)[0].changed, "23.5");
}

#[test]
fn a_till_that_was_off_hears_of_what_the_hub_has_already_and_knows_it_after_a_restart() {
    let (mut market, helper) = market(74);
    publish(&mut market, OWNER, "100", 250);
    until_left(&mut market, &[OWNER, helper], "100");
    market.kill(helper);
    for number in 0..30 {
        sell(&mut market, OWNER, &format!("sale {number}"), 1);
    }
    market.until("the hub has them", 60_000, |market| market.status(OWNER).sales.at_the_hub == 30);
    market.start(helper);
    until_left(&mut market, &[helper], "70");
    market.kill(helper);
    market.kill(OWNER);
    market.start(helper);
    assert_eq!(left(&mut market, helper).as_deref(), Some("70"));
}

#[test]
fn a_till_that_may_not_read_the_stalls_sales_says_that_it_knows_its_own_alone() {
    let mut market = Simulation::market(75, 2);
    let helper = second_till(&mut market, &["sell"]);
    publish(&mut market, OWNER, "10", 250);
    until_left(&mut market, &[OWNER, helper], "10");
    sell(&mut market, OWNER, "owner's", 2);
    sell(&mut market, helper, "helper's", 3);
    until_left(&mut market, &[OWNER], "5");
    let seen = product(&mut market, helper, "P2").left.unwrap();
    assert_eq!((seen.amount.as_str(), seen.known), ("7", StockKnown::Device));
}

#[test]
fn a_basket_says_what_is_left_and_is_sold_all_the_same() {
    let mut market = Simulation::market(76, 1);
    publish(&mut market, OWNER, "3", 250);
    market.run_for(5_000);
    let hints = |market: &mut Simulation, quantity: u64| {
        let lines = json!({ "lines": [{ "sku": "P2", "quantity": quantity }, { "sku": "P1", "quantity": 1 }] });
        let basket: BasketFile = serde_json::from_value(lines).unwrap();
        match market.ask(OWNER, Request::Quote(basket)) {
            Answer::Quote(quote) => quote.stock.into_iter().map(|hint| (hint.sku, hint.left.hint)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(hints(&mut market, 2), [("P2".to_owned(), "3 left".to_owned())]);
    assert_eq!(hints(&mut market, 4), [("P2".to_owned(), "3 left, 4 in this basket".to_owned())]);
    sell(&mut market, OWNER, "three", 3);
    assert_eq!(hints(&mut market, 1), [("P2".to_owned(), "none left by the last count".to_owned())]);
    sell(&mut market, OWNER, "two", 2);
    assert_eq!(hints(&mut market, 1), [("P2".to_owned(), "-2: more sold than counted".to_owned())]);
    // A rehearsal takes nothing.
    let rehearsal: SaleOrder = serde_json::from_value(json!({
        "idempotency_key": "dry", "lines": [{ "sku": "P2" }], "tenders": [{ "kind": "cash" }], "rehearsal": true
    }))
    .unwrap();
    assert!(matches!(market.insist(OWNER, rehearsal), Answer::Sale(_)));
    assert_eq!(left(&mut market, OWNER).as_deref(), Some("-2"));
}
