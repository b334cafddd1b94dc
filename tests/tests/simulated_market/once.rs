//! Idempotency keys: what is asked again is answered again and done once, whatever happened to the device between.

use stallmesh_node::engine::{Answer, FailureCode, InviteOrder, ProductView, Request};
use stallmesh_protocol::Hash;
use stallmesh_tests::simulation::Simulation;

const HUB: usize = 0;
const STALL: usize = 2;
const DAY_MS: u64 = 24 * 3_600_000;

fn once(market: &mut Simulation, at: usize, key: &str, asked: u8, request: Request) -> Answer {
    market.ask(at, Request::Once { key: key.into(), asked: Hash::from_bytes([asked; 32]), request: Box::new(request) })
}

fn invite() -> Request {
    let (role, stall, name) = ("stall".into(), "late".into(), "late".into());
    Request::CreateInvite(InviteOrder { role, stall, name, expires_ms: DAY_MS, valid_ms: DAY_MS })
}

fn product(price: u64) -> Request {
    let unit = "piece".to_owned();
    Request::PublishProducts(vec![ProductView {
        sku: "ONCE".into(),
        name: "Once".into(),
        price,
        unit,
        ..ProductView::default()
    }])
}

fn failed(answer: &Answer) -> FailureCode {
    match answer {
        Answer::Failed(failure) => failure.code,
        other => panic!("{other:?}"),
    }
}

fn entries(market: &mut Simulation, at: usize) -> usize {
    let show = Request::LogShow { author: None, lane: None, before: None, limit: 100_000 };
    match market.ask(at, show) {
        Answer::Entries(entries) => entries.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_write_with_a_key_is_done_once_and_answered_alike_also_after_the_device_has_died() {
    let mut market = Simulation::market(71, 1);
    // Each invite has a secret of its own: two that are alike are one.
    let first = once(&mut market, HUB, "an invite", 1, invite());
    assert!(matches!(first, Answer::Invite(_)), "{first:?}");
    assert_eq!(once(&mut market, HUB, "an invite", 1, invite()), first);
    assert_ne!(once(&mut market, HUB, "another", 1, invite()), first);
    market.kill(HUB);
    market.start(HUB);
    assert_eq!(once(&mut market, HUB, "an invite", 1, invite()), first);
    // With another body, or on another route.
    assert_eq!(failed(&once(&mut market, HUB, "an invite", 2, invite())), FailureCode::EConflict);
    assert_eq!(failed(&once(&mut market, HUB, "an invite", 3, product(1))), FailureCode::EConflict);

    assert_eq!(once(&mut market, STALL, "a price", 1, product(100)), Answer::Done);
    assert_eq!(once(&mut market, STALL, "another price", 2, product(200)), Answer::Done);
    let before = entries(&mut market, STALL);
    // The older price doesn't come back because a late copy of its request does.
    assert_eq!(once(&mut market, STALL, "a price", 1, product(100)), Answer::Done);
    let catalog = Request::Catalog { stall: None, query: "ONCE".into(), after: None, limit: 10 };
    let Answer::Products(products) = market.ask(STALL, catalog) else { panic!() };
    assert_eq!((products.len(), products[0].price), (1, 200));
    assert_eq!(entries(&mut market, STALL), before);
}

#[test]
fn what_failed_is_not_remembered_and_what_a_restart_undoes_is_done_again() {
    let mut market = Simulation::market(72, 1);
    let wrong = Request::PublishProducts(vec![ProductView::default()]);
    assert_eq!(failed(&once(&mut market, STALL, "k", 1, wrong)), FailureCode::EInvalid);
    assert_eq!(once(&mut market, STALL, "k", 2, product(100)), Answer::Done);
    for key in ["", &"k".repeat(201)] {
        assert_eq!(failed(&once(&mut market, STALL, key, 1, product(100))), FailureCode::EInvalid);
    }
    let up = |up| Request::SetUplink { up };
    assert_eq!(once(&mut market, 1, "off", 1, up(false)), Answer::Done);
    assert!(!market.status(1).uplink.enabled);
    market.ask(1, up(true));
    assert_eq!(once(&mut market, 1, "off", 1, up(false)), Answer::Done);
    assert!(market.status(1).uplink.enabled, "it was done already");
    assert_eq!(failed(&once(&mut market, 1, "off", 2, up(true))), FailureCode::EConflict);
    market.kill(1);
    market.start(1);
    let enabled = market.status(1).uplink.enabled;
    assert_eq!(once(&mut market, 1, "off", 1, up(false)), Answer::Done);
    assert!(enabled && !market.status(1).uplink.enabled, "the restart had undone it");
}

#[test]
fn a_key_of_a_sale_or_a_basket_is_not_anothers() {
    let mut market = Simulation::market(73, 1);
    let sale = market.sell(STALL, "sold");
    assert_eq!(failed(&once(&mut market, STALL, "sold", 1, product(1))), FailureCode::EConflict);
    let open = |key: &str| Request::OpenBasket { basket: Default::default(), key: Some(key.into()) };
    assert_eq!(failed(&market.ask(STALL, open("sold"))), FailureCode::EConflict);
    assert!(matches!(market.ask(STALL, open("basket")), Answer::Basket(_)));
    assert_eq!(failed(&once(&mut market, STALL, "basket", 1, product(1))), FailureCode::EConflict);
    assert_eq!(failed(&market.try_sell(STALL, "basket", 1)), FailureCode::EConflict);
    assert_eq!(once(&mut market, STALL, "product", 1, product(1)), Answer::Done);
    assert_eq!(failed(&market.try_sell(STALL, "product", 1)), FailureCode::EConflict);
    assert_eq!(failed(&market.ask(STALL, open("product"))), FailureCode::EConflict);
    // What was there is still answered alike.
    assert_eq!(market.sell(STALL, "sold").sale, sale.sale);
    assert!(matches!(market.ask(STALL, open("basket")), Answer::Basket(_)));
}

#[test]
fn keys_are_forgotten_after_a_day_and_some_thousands_are_kept() {
    let mut market = Simulation::market_for(74, 1, 30 * DAY_MS);
    let metered = |metered| Request::SetPower { battery: 0, metered };
    let recall = |market: &mut Simulation, key: &str| {
        let answer = market.ask(STALL, Request::Recall { key: key.into(), asked: Hash::from_bytes([1; 32]) });
        !matches!(&answer, Answer::Failed(failure) if failure.code == FailureCode::ENotFound)
    };
    for number in 0..4_100 {
        assert_eq!(once(&mut market, STALL, &format!("{number}"), 1, metered(true)), Answer::Done);
    }
    let kept: Vec<bool> = (0..4_100).map(|number| recall(&mut market, &number.to_string())).collect();
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 4_096);
    assert!(kept[4..].iter().all(|kept| *kept));
    assert_eq!(once(&mut market, STALL, "durable", 1, product(100)), Answer::Done);
    market.sleep(DAY_MS / 2);
    assert!(!recall(&mut market, "4099"), "the restart has undone it");
    assert!(recall(&mut market, "durable"));
    market.sleep(DAY_MS / 2 + 60_000);
    assert!(!recall(&mut market, "durable"));
    assert_eq!(once(&mut market, STALL, "durable", 2, product(200)), Answer::Done);
    market.kill(STALL);
    market.start(STALL);
    assert_eq!(failed(&once(&mut market, STALL, "durable", 1, product(100))), FailureCode::EConflict);
}
