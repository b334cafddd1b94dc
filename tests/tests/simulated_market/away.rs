//! While the hub is away: certificates end, clocks lie, helpers come and go, and the market goes on.

use stallmesh_node::engine::{Answer, ExplainSubject, FailureCode, ProductView, Request};
use stallmesh_tests::simulation::Simulation;

const HOUR: u64 = 3_600_000;
const TEN_YEARS: i64 = 10 * 365 * 24 * 3_600_000;

fn state(market: &mut Simulation, at: usize, device: usize) -> String {
    let id = market.nodes[device].id();
    let found = market.members(at).into_iter().find(|member| member.device == id);
    found.map_or_else(|| "unknown".to_owned(), |member| member.state)
}

fn refused(answer: &Answer, code: FailureCode) {
    assert!(matches!(answer, Answer::Failed(failure) if failure.code == code), "{answer:?}");
}

fn publish(market: &mut Simulation, index: usize) -> Answer {
    let product = ProductView {
        sku: "P9".into(),
        name: "New".into(),
        price: 100,
        unit: "piece".into(),
        ..ProductView::default()
    };
    market.ask(index, Request::PublishProducts(vec![product]))
}

#[test]
fn a_market_whose_certificates_all_expire_goes_on_selling_copying_and_carrying() {
    let mut market = Simulation::market(40, 3);
    market.run_for(3_000);
    market.uplink(1, false);
    // One node misses a catalog, and gets it when everybody's certificate has ended.
    market.partition(&[&[1, 2, 3], &[4]]);
    market.publish_at(2, 33);
    market.run_for(3_000);
    market.sleep(72 * HOUR);
    market.heal();
    for index in 1..5 {
        market.until("all know that all have expired", 20_000, |market| {
            (1..5).all(|other| state(market, index, other) == "expired")
        });
        let notices = market.status(index).notices.join("\n");
        assert!(notices.contains("has expired"), "{notices}");
    }
    market.until("what expired members hold still spreads", 60_000, |market| {
        market.products(4, Some("stall-1")).iter().any(|product| product.price == 233)
    });
    for index in 2..5 {
        for number in 0..3 {
            market.sell(index, &format!("expired-{index}-{number}"));
        }
        refused(&publish(&mut market, index), FailureCode::EScope);
    }
    let helper = market.add_helper("stall-1");
    refused(&market.delegate(2, helper, &["sell"], HOUR), FailureCode::EScope);
    market.until("all are copied", 60_000, |market| (2..5).all(|index| market.status(index).sales.copied == 3));
    // One of them is gone before the hub is back.
    market.kill(3);
    market.uplink(4, true);
    market.until("all are posted", 60_000, |market| market.settle(true).posted == 9);
    assert!(market.settle(false).suspense.is_empty());
    market.until("and the stalls have their statements", 60_000, |market| {
        [2, 4].into_iter().all(|index| market.status(index).sales.settled == 3)
    });
    market.until("and their certificates are renewed", 60_000, |market| {
        [1, 2, 4].into_iter().all(|index| state(market, index, index) == "valid")
    });
    assert_eq!(publish(&mut market, 2), Answer::Done);
}

#[test]
fn adv_045_an_owner_and_her_helper_need_no_hub_whatever_the_helpers_clock_says() {
    for (seed, off) in [(41, TEN_YEARS), (42, -TEN_YEARS), (43, 2 * HOUR as i64)] {
        let mut market = Simulation::market(seed, 1);
        market.run_for(3_000);
        // Nobody is there but the two of them.
        market.kill(0);
        market.kill(1);
        market.sleep(2 * HOUR);
        let helper = market.add();
        market.nodes[helper].clock_error = off;
        market.kill(helper);
        market.start(helper);
        let owner_time = market.status(2).time;
        let Answer::Done = ask_without_hub(&mut market, helper) else { panic!() };
        let scopes = ["sell=1000", "relay"];
        assert_eq!(market.delegate(2, helper, &scopes, HOUR), Answer::Done);
        market.until("the helper joins", 30_000, |market| market.status(helper).role == "stall");
        market.until("it knows the catalog", 30_000, |market| market.products(helper, Some("stall-1")).len() == 3);
        market.sell(helper, "within");
        refused(&market.try_sell(helper, "beyond", 10), FailureCode::EScope);
        refused(&publish(&mut market, helper), FailureCode::EScope);
        refused(&market.delegate(helper, 2, &["sell"], HOUR), FailureCode::EScope);
        // Its wrong clock has moved nobody.
        let moved = market.status(2).time.abs_diff(owner_time);
        assert!(moved < 60_000, "the owner's time moved by {moved} ms");
        assert_eq!(state(&mut market, 2, helper), "valid");
        assert_eq!(state(&mut market, 2, 2), "valid");
        market.until("copied to the owner", 30_000, |market| market.status(helper).sales.copied == 1);
        market.run_for(10_000);
        market.sleep(HOUR + 60_000);
        assert_eq!(state(&mut market, 2, helper), "expired", "by the owner's trusted time");
    }
}

/// Knowing the market from an invite that its owner still has: nothing of it is needed but the market's name.
fn ask_without_hub(market: &mut Simulation, helper: usize) -> Answer {
    let hub_was_down = market.nodes[0].engine.is_none();
    if hub_was_down {
        market.start(0);
    }
    let Answer::Invite(text) = market.invite_text("") else { panic!() };
    if hub_was_down {
        market.kill(0);
    }
    market.ask(helper, Request::AskToJoin { market: text, name: "helper".into(), stall: "stall-1".into() })
}

#[test]
fn adv_067_trusted_time_never_falls_and_brings_no_expired_certificate_back() {
    for (seed, off) in [(44, -TEN_YEARS), (45, -(5 * HOUR as i64)), (46, TEN_YEARS)] {
        let mut market = Simulation::market(seed, 2);
        let helper = market.add_helper("stall-1");
        assert_eq!(market.delegate(2, helper, &["sell", "publish-catalog"], 4 * HOUR), Answer::Done);
        market.until("the helper joins", 30_000, |market| market.status(helper).role == "stall");
        market.run_for(5_000);
        market.uplink(1, false);
        let mut last = market.status(helper).time;
        let mut never_falls = |market: &mut Simulation, slack: u64| {
            let time = market.status(helper).time;
            assert!(time + slack >= last, "from {last} to {time}");
            last = last.max(time);
        };
        // The wall clock jumps while it runs: it has no say.
        market.nodes[helper].clock_error = off;
        for _ in 0..5 {
            market.run_for(20_000);
            never_falls(&mut market, 0);
        }
        let away = market.status(helper).time.abs_diff(market.status(2).time);
        assert!(away < 60_000, "its time is {away} ms from the others'");
        // It is on for hours without a hub, and then restarted with that clock.
        for _ in 0..5 {
            market.now += HOUR;
            market.run_for(12_000);
            never_falls(&mut market, 0);
        }
        assert_eq!(state(&mut market, helper, helper), "expired");
        refused(&publish(&mut market, helper), FailureCode::EScope);
        for _ in 0..3 {
            market.kill(helper);
            market.start(helper);
            market.run_for(5_000);
            never_falls(&mut market, 90_000);
            assert_eq!(state(&mut market, helper, helper), "expired", "after a restart");
            refused(&publish(&mut market, helper), FailureCode::EScope);
        }
    }
}

#[test]
fn a_device_in_no_market_rests_whomever_it_has_heard_of() {
    let mut simulation = Simulation::market(91, 2);
    let newcomer = simulation.add();
    simulation.run_for(60_000);
    assert_eq!(simulation.status(newcomer).role, "none");
    assert!(simulation.nodes[newcomer].spins_ms() < 100, "it is due at once, again and again");
}

#[test]
fn a_carrier_says_why_the_hub_has_not_what_it_carries() {
    let mut simulation = Simulation::market(92, 3);
    simulation.uplink(1, false);
    let sale = simulation.sell(2, "sale-1");
    simulation.run_for(5_000);
    let place: Vec<&str> = sale.entry.split('/').collect();
    let author = simulation.nodes[2].id();
    let entries = simulation.entries(2, author);
    let sequence: u64 = place[3].parse().unwrap();
    let entry = entries.iter().find(|entry| entry.lane == "sales" && entry.sequence == sequence).unwrap();
    let hash = stallmesh_protocol::Hash::try_from(hex::decode(&entry.hash).unwrap().as_slice()).unwrap();
    let carrier = (1..simulation.nodes.len()).find(|node| simulation.status(*node).custody.held_entries > 0).unwrap();
    let view = simulation.explain(carrier, ExplainSubject::Entry(hash));
    assert_eq!(view.state, "waiting_for_hub", "{view:?}");
    assert!(view.because.iter().any(|reason| reason.contains("has a way to the hub")), "{view:?}");
    simulation.uplink(1, true);
    simulation.until("the hub has it", 60_000, |simulation| {
        simulation.explain(carrier, ExplainSubject::Entry(hash)).because[0].contains("the hub has signed for it")
    });
}
