//! Certificates that follow one another, and what a member gets whose certificate has ended.

use std::collections::BTreeMap;

use stallmesh_node::engine::{Answer, ExplainSubject, FailureCode, InviteOrder, PolicyView, Request};
use stallmesh_node::link::Road;
use stallmesh_protocol::{DeviceId, Kind, Lane, payload};
use stallmesh_tests::simulation::hostile::written_log;
use stallmesh_tests::simulation::{OPENING_MS, Simulation, market_order};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn state(market: &mut Simulation, at: usize, device: usize) -> String {
    let id = market.nodes[device].id();
    let found = market.members(at).into_iter().find(|member| member.device == id);
    found.map_or_else(|| "unknown".to_owned(), |member| member.state)
}

/// Until when the hub knows a device's certificate to be valid.
fn valid_until(market: &mut Simulation, device: usize) -> u64 {
    let id = market.nodes[device].id();
    market.members(0).into_iter().find(|member| member.device == id).map_or(0, |member| member.not_after)
}

/// Kinds of the entries of the `control` lane that the hub holds of an author.
fn control_of(market: &mut Simulation, author: DeviceId) -> Vec<String> {
    let entries = market.entries(0, author).into_iter();
    entries.filter(|entry| entry.lane == "control").map(|entry| entry.kind).collect()
}

/// How many certificates the hub has written.
fn certificates(market: &mut Simulation) -> usize {
    let hub = market.nodes[0].id();
    control_of(market, hub).iter().filter(|kind| *kind == "certificate").count()
}

/// All entries of the `control` lane that the hub holds, by kind.
fn control(market: &mut Simulation) -> BTreeMap<String, usize> {
    let mut authors: Vec<_> = market.members(0).into_iter().map(|member| member.device).collect();
    authors.push(market.root);
    let mut kinds = BTreeMap::new();
    for kind in authors.into_iter().flat_map(|author| control_of(market, author)) {
        *kinds.entry(kind).or_insert(0) += 1;
    }
    kinds
}

fn price(market: &mut Simulation, at: usize, stall: &str) -> u64 {
    market.products(at, Some(stall)).iter().map(|product| product.price).min().unwrap_or(0)
}

/// Hours pass for whoever is running; links that sleep through them are dialled again.
fn hours_pass(market: &mut Simulation, hours: u64) {
    for _ in 0..hours {
        market.now += HOUR;
        market.run_for(20_000);
    }
}

/// A device of the market publishes by itself what its program would refuse to: a price of one cent.
fn publish_by_hand(market: &mut Simulation, device: usize, to: usize) {
    let identity = market.nodes[device].identity.clone();
    let message = payload::Products {
        products: vec![payload::Product {
            sku: "P1".into(),
            name: "By hand".into(),
            price: 1,
            unit: 1,
            ..payload::Product::default()
        }],
        ..Default::default()
    };
    let entry = (OPENING_MS + market.now, [0; 8], Kind::PRODUCTS, payload::encode(&message));
    let (log, page) = written_log(&market.market_id(), &identity.device, [3; 16], Lane::CATALOG, &[entry]);
    let puppet = market.add_puppet(identity);
    let link = market.puppet_dial(puppet, Road::Mesh, to);
    market.puppet_opens_session(puppet, link, [3; 16]);
    market.puppet_sends_page(puppet, link, &log, &page, false);
    market.run_for(2_000);
    let id = market.nodes[device].id();
    let held = market.entries(to, id).iter().filter(|entry| entry.kind == "products").count();
    assert_eq!(held, 2, "it is kept beside what was published at the opening, whatever it is worth");
    market.kill(puppet);
}

#[test]
fn over_four_lives_of_its_certificates_everybody_stays_a_full_member_for_one_entry_a_life() {
    let mut market = Simulation::market_for(60, 3, 30 * MINUTE);
    let before = control(&mut market);
    assert_eq!(before["certificate"], 1 + 4, "the hub's, a gateway's and three stalls'");
    for minute in 0..96 {
        market.run_for(MINUTE);
        for at in 0..5 {
            for device in 0..5 {
                assert_eq!(state(&mut market, at, device), "valid", "device {device} at node {at}, minute {minute}");
            }
        }
        // One stall is busy; the others have nothing to do, and no link to the hub.
        if minute % 10 == 5 {
            market.sell(2, &format!("sale-{minute}"));
        }
    }
    // Due when ten minutes of thirty are left: in minutes 20, 40, 60 and 80. Whoever wrote nothing in a life shows
    // itself once in it; in the first one everybody had published. Nothing else was written.
    let mut expected = before.clone();
    *expected.entry("certificate".into()).or_insert(0) += 4 * 4;
    *expected.entry("low-mark".into()).or_insert(0) += 2 * 3;
    assert_eq!(control(&mut market), expected);
    market.publish_at(4, 77);
    market.until("full members publish", 20_000, |market| (1..5).all(|at| price(market, at, "stall-3") == 177));
    market.until("and are settled", 60_000, |market| market.settle(true).posted == 10);
    assert!(market.settle(false).suspense.is_empty());
}

#[test]
fn a_stall_that_was_away_for_more_than_a_life_hands_in_its_sales_and_is_renewed_when_the_hub_hears_of_it() {
    let mut market = Simulation::market_for(61, 3, 2 * HOUR);
    market.run_for(5_000);
    market.partition(&[&[2], &[1, 3, 4]]);
    market.publish_at(3, 77);
    hours_pass(&mut market, 20);
    for number in 0..3 {
        market.sell(2, &format!("away-{number}"));
    }
    for at in 0..5 {
        assert_eq!(state(&mut market, at, 2), "expired", "at node {at}");
    }
    for index in [3, 4] {
        assert_eq!(state(&mut market, 0, index), "valid", "who stayed was renewed");
    }
    // Back among its neighbours, who have heard the hub; but now nobody hears it.
    market.uplink(1, false);
    market.heal();
    market.until("its sales are copied", 60_000, |market| market.status(2).sales.copied == 3);
    let closed = market.closed.len();
    market.publish_at(4, 88);
    market.run_for(40_000);
    assert_eq!((price(&mut market, 2, "stall-2"), price(&mut market, 2, "stall-3")), (150, 150), "it gets no catalogs");
    let id = market.nodes[2].id();
    let view = market.explain(3, ExplainSubject::Device(id));
    assert_eq!(view.state, "expired");
    assert!(view.because[0].contains("certificate expired") && view.because.len() == 2, "{view:?}");
    let notices = market.status(2).notices.join("\n");
    assert!(notices.contains("has expired"), "{notices}");
    let products = market.products(2, Some("stall-1"));
    let refused = market.ask(2, Request::PublishProducts(products));
    assert!(matches!(&refused, Answer::Failed(failure) if failure.code == FailureCode::EScope), "{refused:?}");
    // The hub hears of it by its sales.
    market.uplink(1, true);
    market.until("it is a member again, everywhere", 30_000, |market| (0..5).all(|at| state(market, at, 2) == "valid"));
    market.until("it gets what it has missed", 20_000, |market| {
        (price(market, 2, "stall-2"), price(market, 2, "stall-3")) == (177, 188)
    });
    market.publish_at(2, 99);
    market.until("it publishes", 20_000, |market| (1..5).all(|at| price(market, at, "stall-1") == 199));
    market.until("its sales are posted", 30_000, |market| market.settle(true).posted == 3);
    assert!(market.settle(false).suspense.is_empty());
    let punished = market.closed[closed..].iter().filter(|closed| closed.peer == id && closed.by != 0);
    assert_eq!(punished.count(), 0, "all on the links that it came back with: {:?}", &market.closed[closed..]);
    market.until_agreed(&[0, 1, 2, 3, 4], 60_000);
}

#[test]
fn a_helpers_certificate_ends_when_its_owner_said_and_is_not_renewed() {
    let mut market = Simulation::market_for(62, 2, 30 * MINUTE);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell", "relay", "signal"], 20 * MINUTE), Answer::Done);
    market.until("the helper is a member", 20_000, |market| state(market, 0, helper) == "valid");
    let ends = valid_until(&mut market, helper);
    let first = certificates(&mut market);
    for minute in 0..50 {
        market.run_for(MINUTE);
        if minute % 5 == 0 {
            market.sell(helper, &format!("helper-{minute}"));
        }
    }
    assert_eq!(valid_until(&mut market, helper), ends);
    for at in [0, 1, 2, 3, helper] {
        assert_eq!(state(&mut market, at, helper), "expired");
        assert_eq!(state(&mut market, at, 2), "valid", "her own is the market's business");
    }
    assert_eq!(certificates(&mut market) - first, 3 * 2, "a gateway and two stalls, twice");
    market.until("its sales count", 30_000, |market| market.settle(true).posted == 10);
}

#[test]
fn a_revoked_device_is_not_renewed() {
    let mut market = Simulation::market_for(63, 3, 30 * MINUTE);
    assert_eq!(market.revoke(0, 2), Answer::Done);
    let (ends, first) = (valid_until(&mut market, 2), certificates(&mut market));
    market.run_for(50 * MINUTE);
    assert_eq!(valid_until(&mut market, 2), ends);
    assert_eq!(certificates(&mut market) - first, 3 * 2, "the others were, twice");
    assert_eq!(state(&mut market, 3, 3), "valid");
}

#[test]
fn a_hub_that_starts_again_renews_nothing_twice() {
    let mut market = Simulation::market_for(64, 3, 30 * MINUTE);
    let first = certificates(&mut market);
    market.until("all are renewed", 25 * MINUTE, |market| certificates(market) == first + 4);
    for _ in 0..3 {
        market.kill(0);
        market.run_for(3_000);
        market.start(0);
        market.run_for(10_000);
        market.sell(2, &format!("{}", market.now));
        market.run_for(10_000);
    }
    assert_eq!(certificates(&mut market), first + 4);
    // What was due while it was away is renewed when it is back.
    market.kill(0);
    market.run_for(30 * MINUTE);
    assert_eq!(state(&mut market, 2, 2), "expired");
    market.start(0);
    market.until("all are renewed again", 60_000, |market| (1..5).all(|index| state(market, index, index) == "valid"));
    market.run_for(MINUTE);
    assert_eq!(certificates(&mut market), first + 8);
}

#[test]
fn what_a_device_publishes_while_it_is_expired_has_no_effect_and_gets_none_by_its_renewal() {
    let mut market = Simulation::market_for(65, 2, 2 * HOUR);
    market.run_for(5_000);
    // The same entry, written in time, counts.
    publish_by_hand(&mut market, 3, 2);
    market.until("in time it counts", 10_000, |market| price(market, 2, "stall-2") == 1);
    market.kill(2);
    hours_pass(&mut market, 6);
    assert_eq!(state(&mut market, 3, 2), "expired");
    publish_by_hand(&mut market, 2, 3);
    assert_eq!(price(&mut market, 3, "stall-1"), 150);
    // The hub has heard of it by that.
    market.until("it is renewed", 20_000, |market| state(market, 3, 2) == "valid");
    market.run_for(10_000);
    assert_eq!(price(&mut market, 3, "stall-1"), 150, "what it wrote before that stays without effect");
    market.start(2);
    market.until("it knows", 60_000, |market| state(market, 2, 2) == "valid");
    market.publish_at(2, 99);
    market.until("now it publishes", 20_000, |market| (0..4).all(|at| price(market, at, "stall-1") == 199));
}

#[test]
fn a_hub_near_its_certificates_end_says_so_and_renews_it_where_it_holds_the_root_key() {
    let mut market = Simulation::market_for(66, 1, 40 * DAY);
    market.run_for(5_000);
    let ends = valid_until(&mut market, 0);
    assert!(!market.status(0).notices.join("\n").contains("root.key"));
    for _ in 0..13 {
        market.sleep(5 * DAY);
        market.run_for(30_000);
    }
    market.until("it says so", 10_000, |market| market.status(0).notices.join("\n").contains("root.key"));
    assert_eq!(valid_until(&mut market, 0), ends);
    assert!(valid_until(&mut market, 2) <= ends, "nobody's reaches beyond the hub's");
    for _ in 0..2 {
        market.kill(0);
        market.nodes[0].holds_root_key = true;
        market.start(0);
        market.run_for(30_000);
        let root = market.root;
        let by_root = control_of(&mut market, root);
        assert_eq!(by_root.iter().filter(|kind| *kind == "certificate").count(), 2, "once, whatever restarts");
    }
    assert!(valid_until(&mut market, 0) > ends + 60 * DAY);
    assert!(!market.status(0).notices.join("\n").contains("root.key"));
    let hub = market.nodes[0].id();
    market.until("everybody knows", 30_000, |market| {
        let known = valid_until(market, 0);
        (1..3).all(|at| market.members(at).iter().any(|member| member.device == hub && member.not_after == known))
    });
    // Past the end of the first one the market goes on.
    market.sleep(6 * DAY);
    for _ in 0..5 {
        market.sleep(5 * DAY);
        market.run_for(30_000);
    }
    for at in 0..3 {
        assert_eq!([state(&mut market, at, 0), state(&mut market, at, 2)], ["valid", "valid"], "at node {at}");
    }
    market.sell(2, "in the second life");
    market.until("posted", 60_000, |market| market.settle(true).posted == 1);
    let checkpoint = market.status(2).checkpoint;
    market.publish_at(2, 99);
    market.until("and its checkpoints count", 20_000, |market| market.status(2).checkpoint > checkpoint);
}

#[test]
fn near_the_end_of_the_hubs_own_certificate_all_end_with_it_and_nobody_is_renewed_again_and_again() {
    let mut market = Simulation::market_for(67, 2, 50 * DAY);
    market.run_for(5_000);
    let (ends, first) = (valid_until(&mut market, 0), certificates(&mut market));
    for _ in 0..17 {
        market.sleep(5 * DAY);
        market.run_for(20_000);
        market.sell(2, &format!("{}", market.now));
        market.run_for(10_000);
    }
    // For fifty days more after 35, and for the rest of the hub's 90 after 70.
    assert_eq!(certificates(&mut market) - first, 3 * 2);
    for index in 1..4 {
        assert_eq!(valid_until(&mut market, index), ends);
    }
}

#[test]
fn a_hub_whose_word_has_no_effect_any_more_does_not_repeat_it() {
    let mut market = Simulation::market_for(68, 2, 30 * MINUTE);
    // What a checkpoint has named by now stands for good.
    market.run_for(10_000);
    let first = certificates(&mut market);
    let second = market.fork_device(0);
    for (index, fee_rate) in [(0, "6"), (second, "7")] {
        let policy = PolicyView { fee_rate: fee_rate.into(), ..market_order().policy };
        assert_eq!(market.ask(index, Request::SetPolicy(policy)), Answer::Done);
    }
    market.until("it is caught", 60_000, |market| state(market, 0, 0) == "quarantined");
    market.kill(second);
    market.run_for(18 * MINUTE);
    for _ in 0..300 {
        market.run_for(1_000);
        assert!(certificates(&mut market) <= first + 3, "one for each");
    }
    assert_eq!(certificates(&mut market), first + 3, "it does try");
    assert_eq!(state(&mut market, 0, 0), "quarantined");
}

#[test]
fn a_member_whose_certificate_ended_a_few_hours_ago_still_gets_everything() {
    let mut market = Simulation::market_for(69, 3, 2 * HOUR);
    market.run_for(5_000);
    market.partition(&[&[2], &[1, 3, 4]]);
    market.publish_at(3, 77);
    // Renewed once, for it was heard of in its first life; so its second one ends in the fourth hour.
    hours_pass(&mut market, 8);
    market.uplink(1, false);
    market.heal();
    market.until("it has what it missed", 60_000, |market| price(market, 2, "stall-2") == 177);
    for at in 0..5 {
        assert_eq!(state(&mut market, at, 2), "expired", "at node {at}");
    }
}

#[test]
fn a_hub_whose_own_certificate_has_ended_lets_requests_wait_until_it_is_renewed() {
    let mut market = Simulation::market_for(70, 1, 40 * DAY);
    let order = InviteOrder {
        role: "gateway".into(),
        stall: String::new(),
        name: "late".into(),
        expires_ms: 200 * DAY,
        valid_ms: 200 * DAY,
    };
    let Answer::Invite(invite) = market.ask(0, Request::CreateInvite(order)) else { panic!("no invite") };
    for _ in 0..19 {
        market.sleep(5 * DAY);
        market.run_for(20_000);
    }
    assert_eq!(state(&mut market, 0, 0), "expired");
    let first = certificates(&mut market);
    let late = market.add();
    assert_eq!(market.ask(late, Request::Join { invite, name: String::new() }), Answer::Done);
    market.run_for(20_000);
    assert_eq!((market.status(late).role.as_str(), certificates(&mut market)), ("none", first));
    market.kill(0);
    market.nodes[0].holds_root_key = true;
    market.start(0);
    // What that invite gave is over, for it ended with the hub's first certificate.
    market.until("it is told so", 60_000, |market| market.status(late).notices.join("\n").contains("that is over"));
    assert_eq!(state(&mut market, 0, 0), "valid");
    let newcomer = market.add();
    market.invite(newcomer, "newcomer");
    market.until("a new one is let in", 60_000, |market| market.status(newcomer).role == "stall");
}
