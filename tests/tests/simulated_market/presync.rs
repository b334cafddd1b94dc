//! The market's catalog at every node: found by words, and known to be whole before a market day.

use stallmesh_node::engine::{Answer, CatalogStatusView, FailureCode, FoundView, ProductView, Request, StallReadiness};
use stallmesh_node::search::{Found, fold};
use stallmesh_protocol::Lane;
use stallmesh_protocol::wire::frame::Body;
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

const GATEWAY: usize = 1;
const POTS: usize = 2;
const TEA: usize = 3;
const DAY_MS: u64 = 24 * 3_600_000;

fn find(market: &mut Simulation, at: usize, query: &str, after: Option<Found>, limit: usize) -> Vec<FoundView> {
    match market.ask(at, Request::FindProducts { query: query.into(), stall: None, after, limit }) {
        Answer::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn skus(market: &mut Simulation, at: usize, query: &str) -> Vec<String> {
    find(market, at, query, None, 50).into_iter().map(|found| found.product.sku).collect()
}

fn publish(market: &mut Simulation, at: usize, products: Vec<ProductView>) {
    assert_eq!(market.ask(at, Request::PublishProducts(products)), Answer::Done);
}

fn product(sku: &str, name: &str, price: u64) -> ProductView {
    ProductView { sku: sku.into(), name: name.into(), price, unit: "piece".into(), ..ProductView::default() }
}

fn status(market: &mut Simulation, at: usize, day: Option<&str>) -> CatalogStatusView {
    match market.ask(at, Request::CatalogStatus { day: day.map(str::to_owned) }) {
        Answer::CatalogStatus(status) => *status,
        other => panic!("{other:?}"),
    }
}

fn of<'a>(status: &'a CatalogStatusView, stall: &str) -> &'a StallReadiness {
    status.stalls.iter().find(|known| known.stall == stall).unwrap()
}

#[test]
fn every_node_finds_what_all_stalls_offer_now() {
    let mut market = Simulation::market(81, 2);
    let mug = ProductView { stock: "3".into(), taxes: vec!["standard".into()], ..product("MUG", "Große Tasse", 1250) };
    publish(&mut market, POTS, vec![mug]);
    publish(&mut market, TEA, vec![product("ASSAM", "Tasse Tee", 250), product("THE", "Thé vert", 300)]);
    market.until("all find them", 60_000, |market| {
        [0, GATEWAY, POTS, TEA].into_iter().all(|node| skus(market, node, "tasse") == ["MUG", "ASSAM"])
    });
    for node in [0, GATEWAY, POTS, TEA] {
        assert_eq!(skus(&mut market, node, "GROSSE"), ["MUG"], "node {node}");
        assert_eq!(skus(&mut market, node, "the"), ["THE"], "a SKU first, and it is the name, too");
        assert_eq!(skus(&mut market, node, "stall-2 tee"), ["ASSAM"]);
        let found = find(&mut market, node, "mug", None, 50).remove(0).product;
        assert_eq!((found.stall.as_str(), found.price), ("stall-1", 1250));
        assert_eq!(found.left.unwrap().amount, "3");
    }
    // A new name, a new price: the old name finds it no longer.
    publish(&mut market, POTS, vec![product("MUG", "Becher", 1400)]);
    market.until("the change is known", 60_000, |market| skus(market, TEA, "becher") == ["MUG"]);
    assert_eq!(skus(&mut market, TEA, "grosse"), [] as [&str; 0]);
    assert_eq!(find(&mut market, TEA, "mug", None, 1)[0].product.price, 1400);
    // An announced price takes effect when its time has come, in the search, too.
    let later = OPENING_MS + market.now + 3_600_000;
    publish(&mut market, POTS, vec![ProductView { effective_at: later, ..product("MUG", "Humpen", 1500) }]);
    market.run_for(5_000);
    assert_eq!(skus(&mut market, POTS, "humpen"), [] as [&str; 0]);
    market.run_for(3_600_000);
    assert_eq!(skus(&mut market, POTS, "humpen"), ["MUG"]);
    // It goes on where a page ended, and nothing is no query.
    let first = find(&mut market, POTS, "product", None, 4);
    let last = first.last().unwrap();
    let place = Found {
        stall: last.product.stall.clone(),
        sku: last.product.sku.clone(),
        score: last.score,
        name: fold(&last.product.name),
    };
    let rest = find(&mut market, POTS, "product", Some(place), 50);
    assert_eq!((first.len(), rest.len()), (4, 2));
    let nothing = Request::FindProducts { query: "- ".into(), stall: None, after: None, limit: 5 };
    assert!(matches!(market.ask(POTS, nothing), Answer::Failed(failure) if failure.code == FailureCode::EInvalid));
}

#[test]
fn a_node_says_whose_catalog_is_not_here_and_since_when_it_is() {
    let mut market = Simulation::market_for(82, 3, 30 * DAY_MS);
    market.until("the gateway has all of it", 60_000, |market| status(market, GATEWAY, None).ready);
    let whole = status(&mut market, GATEWAY, None);
    assert_eq!(whole.stalls.len(), 3);
    let since = of(&whole, "stall-2").complete_since.unwrap();
    assert!(since >= OPENING_MS && since <= OPENING_MS + market.now, "{since}");
    assert_eq!((of(&whole, "stall-2").products, of(&whole, "stall-2").sellable), (3, 3));
    assert!(!whole.unknown.is_empty() && whole.terms.policy && whole.terms.hub_key);
    // Today is too late for a day ahead; the day after tomorrow isn't.
    assert!(!of(&whole, "stall-2").in_time);
    let later = stallmesh_node::quote::day("UTC", None, OPENING_MS + market.now + 3 * DAY_MS).unwrap().0;
    assert!(of(&status(&mut market, GATEWAY, Some(&later)), "stall-2").in_time);
    // While it is off, a stall publishes more, and another comes.
    market.kill(GATEWAY);
    market.uplink(POTS, true);
    market.publish_at(TEA, 70);
    let late = market.add();
    market.invite(late, "stall-late");
    market.until("the hub has covered the new prices", 60_000, |market| {
        market.products(0, Some("stall-2")).iter().any(|product| product.price == 170)
            && market.status(late).role == "stall"
    });
    market.run_for(10_000);
    market.start(GATEWAY);
    market.until("it has the new prices", 60_000, |market| {
        market.products(GATEWAY, Some("stall-2")).iter().any(|product| product.price == 170)
            && status(market, GATEWAY, None).stalls.len() == 4
    });
    market.run_for(10_000);
    let now = status(&mut market, GATEWAY, None);
    assert!(of(&now, "stall-2").complete && of(&now, "stall-3").complete);
    assert_eq!(of(&now, "stall-3").complete_since, of(&whole, "stall-3").complete_since, "a restart forgets nothing");
    let nothing = of(&now, "stall-late");
    assert!(!nothing.complete && nothing.products == 0 && !now.ready);
    assert_eq!(nothing.unheard, [market.nodes[late].id().to_string()]);
    // What is announced for a day counts for that day.
    let then = OPENING_MS + market.now + 5 * DAY_MS;
    let announced = ProductView { effective_at: then, ..product("SOON", "Soon", 100) };
    publish(
        &mut market,
        late,
        vec![
            announced,
            ProductView { effective_at: then, taxes: vec!["unheard-of".into()], ..product("NEVER", "Never", 100) },
        ],
    );
    market.until("it is known", 60_000, |market| of(&status(market, GATEWAY, None), "stall-late").complete);
    let today = status(&mut market, GATEWAY, None);
    assert_eq!((of(&today, "stall-late").products, today.ready), (0, false));
    let day = stallmesh_node::quote::day("UTC", None, then).unwrap().0;
    let that_day = status(&mut market, GATEWAY, Some(&day));
    assert_eq!((of(&that_day, "stall-late").products, of(&that_day, "stall-late").sellable), (2, 1));
    assert!(that_day.ready && of(&that_day, "stall-late").in_time);
    for wrong in ["tomorrow", "2026-13-01", "2026-1-1", ""] {
        let answer = market.ask(GATEWAY, Request::CatalogStatus { day: Some(wrong.into()) });
        assert!(matches!(answer, Answer::Failed(failure) if failure.code == FailureCode::EInvalid), "{wrong}");
    }
}

#[test]
fn what_a_checkpoint_names_and_is_not_here_is_counted() {
    let mut market = Simulation::market(83, 2);
    market.until("all is here", 60_000, |market| status(market, TEA, None).ready);
    market.partition(&[&[GATEWAY, POTS], &[TEA]]);
    market.publish_at(POTS, 90);
    market.until("the hub has the new prices", 60_000, |market| {
        market.products(0, Some("stall-1")).iter().any(|product| product.price == 190)
    });
    market.run_for(10_000);
    // Its only neighbour now is one that hands on everything but catalogs.
    market.tamper_messages(GATEWAY, |body| match body {
        Body::Page(page) if page.log.as_ref().is_some_and(|log| log.lane == Lane::CATALOG.0) => Vec::new(),
        other => vec![other],
    });
    market.partition(&[&[GATEWAY, TEA], &[POTS]]);
    market.until("it knows that it lacks something", 120_000, |market| {
        let status = status(market, TEA, None);
        !of(&status, "stall-1").complete && of(&status, "stall-1").missing == 1 && !status.ready
    });
    let now = status(&mut market, TEA, None);
    assert_eq!((of(&now, "stall-1").complete_since, of(&now, "stall-2").complete), (None, true));
    market.reform(GATEWAY);
    market.heal();
    market.until("all is here again", 120_000, |market| status(market, TEA, None).ready);
}
