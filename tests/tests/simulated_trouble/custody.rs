//! Carriers that lie, lose, alter, or have no room; and what frees an honest one.

use std::cell::Cell;
use std::rc::Rc;

use stallmesh_node::engine::{Answer, PolicyView, Request, SaleState};
use stallmesh_protocol::entry::{Part, PartBody};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{Lane, MarketId};
use stallmesh_tests::simulation::export::part_of;
use stallmesh_tests::simulation::{Simulation, market_order};

use super::{settle_and_recompute, until_posted};

/// Lets a node alter or drop (`None`) the sealed pages that it hands on.
fn tamper_sealed(market: &mut Simulation, index: usize, mut alter: impl FnMut(Page) -> Option<Vec<u8>> + 'static) {
    market.tamper_messages(index, move |body| match body {
        Body::Page(page) if page.custody => {
            let decoded = Page::decode(&page.page).unwrap();
            alter(decoded).map(|bytes| Body::Page(wire::Page { page: bytes, ..page })).into_iter().collect()
        }
        other => vec![other],
    });
}

fn market_id(market: &mut Simulation) -> MarketId {
    let mut bytes = [0; 32];
    hex::decode_to_slice(market.status(0).market, &mut bytes).unwrap();
    MarketId::from_bytes(bytes)
}

/// Holds sealed entries of others that wait for the hub.
fn carries(market: &mut Simulation, index: usize) -> u64 {
    market.status(index).custody.held_entries
}

#[test]
fn adv_022_an_acknowledgement_of_an_orphan_tail_frees_no_carrier_of_the_gap_before_it() {
    let mut market = Simulation::market(60, 2);
    market.uplink(1, false);
    for number in 0..4 {
        market.sell(2, &format!("gap-{number}"));
    }
    market.until("copied", 20_000, |market| market.status(2).sales.copied == 4);
    // Opening, key, four sales; then two more, of which, with their key, the gateway hands on nothing else.
    for number in 0..2 {
        market.sell(2, &format!("tail-{number}"));
    }
    market.until("copied", 20_000, |market| market.status(2).sales.copied == 6);
    let id = market_id(&mut market);
    market.tamper_messages(1, move |body| match body {
        Body::Page(page) if page.custody => {
            let decoded = Page::decode(&page.page).unwrap();
            let log = page.log.as_ref().and_then(wire::LogName::to_domain).unwrap();
            [(2, 2), (7, u64::MAX)]
                .into_iter()
                .filter_map(|(from, to)| part_of(decoded.clone(), from, to, &log, &id))
                .map(|part| Body::Page(wire::Page { page: part.encode(), ..page.clone() }))
                .collect()
        }
        other => vec![other],
    });
    assert_eq!(carries(&mut market, 3), 8);
    market.uplink(1, true);
    market.until("the tail is at the hub", 30_000, |market| market.settle(true).suspense.len() == 2);
    market.run_for(20_000);
    assert_eq!(market.suspense().into_iter().collect::<Vec<_>>(), ["orphan"]);
    assert_eq!(market.settle(true).posted, 0);
    assert!(carries(&mut market, 3) >= 4, "the gap is still carried: {}", carries(&mut market, 3));
    assert!(carries(&mut market, 1) >= 4, "{}", carries(&mut market, 1));
    market.reform(1);
    market.uplink(1, false);
    market.uplink(1, true);
    until_posted(&mut market, 6);
    market.until("nothing is carried any more", 60_000, |market| carries(market, 1) + carries(market, 3) == 0);
}

#[test]
fn nobody_takes_custody_of_sales_whose_key_entry_is_not_there() {
    let mut market = Simulation::market(59, 2);
    market.uplink(1, false);
    let id = market_id(&mut market);
    // An opening, a key, sales: the first two never leave.
    market.tamper_messages(2, move |body| match body {
        Body::Page(page) if page.custody => {
            let decoded = Page::decode(&page.page).unwrap();
            let log = page.log.as_ref().and_then(wire::LogName::to_domain).unwrap();
            let part = part_of(decoded, 3, u64::MAX, &log, &id);
            part.map(|part| Body::Page(wire::Page { page: part.encode(), ..page })).into_iter().collect()
        }
        other => vec![other],
    });
    for number in 0..3 {
        market.sell(2, &format!("keyless-{number}"));
        market.run_for(10_000);
    }
    assert_eq!(market.status(2).sales.copied, 0, "nobody could open it at the hub");
    assert_eq!(carries(&mut market, 1) + carries(&mut market, 3), 0);
    market.reform(2);
    market.partition(&[&[1, 3], &[2]]);
    market.heal();
    market.until("copied", 20_000, |market| market.status(2).sales.copied == 3);
}

#[test]
fn an_entry_that_lacks_a_part_is_neither_held_nor_received_and_is_asked_for_again() {
    let mut market = Simulation::market(61, 2);
    market.uplink(1, false);
    market.sell(2, "with a note");
    market.until("copied", 20_000, |market| market.status(2).sales.copied == 1);
    tamper_sealed(&mut market, 1, |mut page| {
        for entry in &mut page.entries {
            if let Some(body) = entry.payload.part(Part::Personal) {
                let leaf = body.leaf(Part::Personal);
                entry.payload.set(Part::Personal, PartBody::Erased(leaf));
            }
        }
        Some(page.encode())
    });
    market.partition(&[&[1]]);
    market.uplink(1, true);
    market.run_for(20_000);
    let settlement = market.settle(true);
    assert_eq!((settlement.posted, settlement.suspense.len()), (0, 0), "it is not there at all");
    assert!(carries(&mut market, 1) > 0, "and the carrier is not freed");
    assert!(!market.status(1).peers.is_empty(), "nobody is to blame");
    market.reform(1);
    until_posted(&mut market, 1);
}

#[test]
fn a_bit_flip_in_a_sealed_entry_is_refused_whole_and_the_true_one_is_taken_from_another() {
    for seed in 62..66 {
        let mut market = Simulation::market(seed, 3);
        market.uplink(1, false);
        market.sell(2, "flipped");
        market.until("copied", 20_000, |market| market.status(2).sales.copied == 1);
        market.kill(2);
        let place = Rc::new(Cell::new(seed as usize * 7));
        let at = Rc::clone(&place);
        tamper_sealed(&mut market, 1, move |page| {
            let mut bytes = page.encode();
            // In the entries: a signature in the middle of a page is checked by whoever uses it.
            let index = at.get() % (bytes.len() - page.signatures.len() * 65 - 1);
            bytes[index] ^= 1 << (at.get() % 8);
            at.set(at.get() + 13);
            Some(bytes)
        });
        market.uplink(1, true);
        market.run_for(20_000);
        assert_eq!(market.settle(true).posted, 0);
        assert!(place.get() > seed as usize * 7, "something was altered");
        market.uplink(3, true);
        until_posted(&mut market, 1);
        assert!(market.suspense().is_empty());
    }
}

#[test]
fn adv_119_five_carriers_deliver_one_posting() {
    let mut market = Simulation::market(67, 6);
    let policy = PolicyView { carriers: 5, ..market_order().policy };
    assert_eq!(market.ask(0, Request::SetPolicy(policy)), Answer::Done);
    market.run_for(3_000);
    market.uplink(1, false);
    let sale = market.sell(2, "once").sale;
    market.until(
        "five copies",
        30_000,
        |market| matches!(market.ask(2, Request::Sale(sale)), Answer::Sale(view) if view.copies >= 5),
    );
    market.kill(2);
    for index in [1, 3, 4, 5, 6, 7] {
        market.uplink(index, true);
    }
    until_posted(&mut market, 1);
    market.run_for(10_000);
    let settlement = settle_and_recompute(&mut market);
    assert_eq!((settlement.posted, settlement.suspense.len()), (1, 0));
    for index in [1, 3, 4, 5, 6, 7] {
        assert_eq!(carries(&mut market, index), 0, "node {index} is freed");
    }
}

#[test]
fn adv_118_a_relay_that_says_that_the_hub_has_it_frees_nobody() {
    let mut market = Simulation::market(68, 3);
    market.uplink(1, false);
    let liar = market.nodes[3].identity.device.clone();
    let id = market_id(&mut market);
    let hub = market.nodes[0].id();
    let lies = Rc::new(Cell::new(0));
    let told = Rc::clone(&lies);
    // It answers each custody with two forged words of the hub: one under its own key, one under the hub's name.
    market.tamper_messages(3, move |body| {
        let mut bodies = vec![body.clone()];
        if let Body::Custody(custody) = &body {
            for logs in &custody.logs {
                let log = logs.log.as_ref().and_then(wire::LogName::to_domain).unwrap();
                let intervals = logs.intervals.iter().filter_map(wire::Interval::to_domain).collect();
                let own = stallmesh_protocol::acknowledgement::Acknowledgement::sign(
                    &liar,
                    &id,
                    log,
                    intervals,
                    2_000_000_000_000,
                );
                let forged = wire::Acknowledgement { hub: hub.as_bytes().to_vec(), ..own.to_wire() };
                bodies.extend([Body::Acknowledgement(own.to_wire()), Body::Acknowledgement(forged)]);
                told.set(told.get() + 2);
            }
        }
        bodies
    });
    let sale = market.sell(2, "not there").sale;
    market.until("it was lied to", 20_000, |_| lies.get() > 0);
    market.run_for(5_000);
    let Answer::Sale(view) = market.ask(2, Request::Sale(sale)) else { panic!() };
    assert_eq!(view.state, SaleState::Copied);
    assert_eq!(market.status(2).custody.own_waiting, 3);
}

#[test]
fn a_carrier_whose_copy_ends_before_the_hubs_is_freed_through_whoever_leads_there() {
    let mut market = Simulation::market(69, 3);
    market.uplink(1, false);
    market.sell(2, "early");
    market.until("copied", 20_000, |market| market.status(2).custody.own_copied == 3);
    market.run_for(3_000);
    let carriers: Vec<usize> = [3, 4].into_iter().filter(|index| carries(&mut market, *index) > 0).collect();
    assert_eq!(carriers.len(), 2);
    market.partition(&[&[1, 2], &[3, 4]]);
    for number in 0..3 {
        market.sell(2, &format!("later-{number}"));
    }
    market.uplink(1, true);
    until_posted(&mut market, 4);
    market.kill(2);
    market.heal();
    market.until("the carriers are freed", 60_000, |market| {
        carriers.iter().all(|index| market.status(*index).custody.held_entries == 0)
    });
}

#[test]
fn adv_117_a_carrier_without_room_refuses_and_makes_room_of_what_the_hub_has() {
    let mut market = Simulation::market(70, 2);
    for index in [1, 3] {
        market.kill(index);
        market.nodes[index].settings.custody_bytes_max = 2_500;
        market.start(index);
    }
    market.run_for(5_000);
    market.uplink(1, false);
    for number in 0..12 {
        market.sell(2, &format!("sale-{number}"));
        market.run_for(200);
    }
    market.run_for(5_000);
    for index in [1, 3] {
        let custody = market.status(index).custody;
        assert!(custody.held_bytes <= 2_500 && custody.held_entries > 0, "{custody:?}");
    }
    assert!(market.status(2).sales.copied < 12, "some were refused");
    assert_eq!(market.status(2).sales.recorded, 12, "and none was lost");
    market.uplink(1, true);
    until_posted(&mut market, 12);
    market.uplink(1, false);
    let sale = market.sell(2, "after the room was made").sale;
    market.until(
        "it has a copy again",
        60_000,
        |market| matches!(market.ask(2, Request::Sale(sale)), Answer::Sale(view) if view.copies > 0),
    );
}

#[test]
fn pages_that_a_member_alters_reach_nobody_and_the_true_ones_come_from_another() {
    for (seed, kind) in [(71, 0), (72, 1), (73, 2), (74, 3)] {
        let mut market = Simulation::market(seed, 3);
        market.partition(&[&[2], &[1, 3], &[4]]);
        for number in 0..20 {
            market.publish_at(2, number);
            market.run_for(number);
        }
        let altered = Rc::new(Cell::new(0_usize));
        let count = Rc::clone(&altered);
        market.heal();
        market.until("node 3 has the new catalog", 60_000, |market| {
            let author = Some(market.nodes[2].id());
            matches!(market.ask(3, Request::LogShow { author, lane: Some("catalog".into()), before: None, limit: 1 }),
                Answer::Entries(entries) if entries[0].sequence == 22)
        });
        market.kill(4);
        market.nodes[4].disk = stallmesh_tests::simulation::Disk::default();
        market.partition(&[&[3, 4], &[1, 2]]);
        market.tamper_messages(3, move |body| match body {
            Body::Page(page) if page.log.as_ref().is_some_and(|log| log.lane == Lane::CATALOG.0) => {
                let mut bytes = page.page.clone();
                let mut decoded = Page::decode(&bytes).unwrap();
                count.set(count.get() + 1);
                match kind {
                    0 => {
                        // In the entries: a signature in the middle of a page is checked by whoever uses it.
                        let index = count.get() * 37 % (bytes.len() - decoded.signatures.len() * 66 - 2);
                        bytes[index] ^= 0x40;
                    }
                    1 if decoded.entries.len() > 2 => {
                        decoded.entries.remove(1);
                        bytes = decoded.encode();
                    }
                    2 if decoded.entries.len() > 2 => {
                        decoded.entries.swap(0, 1);
                        bytes = decoded.encode();
                    }
                    3 => {
                        decoded.entries.push(decoded.entries[0].clone());
                        bytes = decoded.encode();
                    }
                    _ => {}
                }
                vec![Body::Page(wire::Page { page: bytes, ..page })]
            }
            other => vec![other],
        });
        let invite = market.invite_text("stall-9");
        let Answer::Invite(invite) = invite else { panic!("{invite:?}") };
        market.start(4);
        market.uplink(3, true);
        assert_eq!(market.ask(4, Request::Join { invite, name: String::new() }), Answer::Done);
        market.run_for(20_000);
        assert!(altered.get() > 0);
        let catalog = |market: &mut Simulation| {
            let request =
                Request::Catalog { stall: Some("stall-1".into()), query: String::new(), after: None, limit: 10 };
            let Answer::Products(products) = market.ask(4, request) else { panic!() };
            products
        };
        if kind == 0 {
            assert!(catalog(&mut market).is_empty(), "kind {kind}: nothing false was taken");
        }
        market.heal();
        market.until("the true catalog is there", 120_000, |market| catalog(market).len() == 3);
        let Answer::Products(at_home) = market
            .ask(2, Request::Catalog { stall: Some("stall-1".into()), query: String::new(), after: None, limit: 10 })
        else {
            panic!()
        };
        assert_eq!(catalog(&mut market), at_home);
    }
}

#[test]
fn while_nobody_has_an_uplink_each_sale_is_copied_as_often_as_the_market_wants_and_no_more() {
    let stalls = 20;
    let mut market = Simulation::market(73, stalls);
    let last = stalls + 2;
    market.run_for(5_000);
    market.uplink(1, false);
    // The news that nobody has a way out goes round once.
    market.run_for(200);
    let before: u64 = (1..last).map(|index| market.status(index).custody.held_entries).sum();
    for round in 0..5 {
        for index in 2..last {
            market.sell(index, &format!("sale-{round}-{index}"));
        }
        market.run_for(500);
    }
    market
        .until("every sale has copies", 30_000, |market| (2..last).all(|index| market.status(index).sales.copied == 5));
    market.run_for(10_000);
    let held: u64 = (1..last).map(|index| market.status(index).custody.held_entries).sum();
    // Five sales, their log's opening and one key entry a stall, each with three carriers.
    let wanted = stalls as u64 * 7 * 3;
    assert!(held - before <= wanted, "{} copies instead of {wanted}", held - before);
}

#[test]
fn a_log_that_the_hub_cannot_place_yet_holds_up_no_other() {
    let mut market = Simulation::market(61, 3);
    market.uplink(1, false);
    // Its owner certifies a helper here: the hub hears of it together with its first sales.
    let helper = market.add();
    market.ask_in(helper, "stall-1");
    assert_eq!(market.delegate(2, helper, &["sell", "relay"], 3_600_000), Answer::Done);
    market.until("the helper joins", 60_000, |market| market.status(helper).role == "stall");
    market.until("the helper has the catalog", 60_000, |market| {
        matches!(market.try_sell(helper, "helper", 1), Answer::Sale(_))
    });
    market.sell(2, "owner");
    market.until("both have copies", 60_000, |market| {
        [2, helper].into_iter().all(|index| market.status(index).sales.copied == 1)
    });
    let begun = market.now;
    market.uplink(1, true);
    until_posted(&mut market, 2);
    // Far less than the wait after a real no.
    assert!(market.now - begun < 2_000, "it took {} ms", market.now - begun);
}
