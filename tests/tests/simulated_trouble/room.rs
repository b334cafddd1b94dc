//! Carriers with little room, and hubs that take and say nothing: what is sold reaches the hub all the same.

use stallmesh_protocol::wire::frame::Body;
use stallmesh_tests::simulation::Simulation;

use super::{settle_and_recompute, until_posted};

/// A gateway and stalls, of which the gateway has room for so many bytes of others' sales.
fn market_with_room(seed: u64, stalls: usize, bytes: u64) -> Simulation {
    let mut market = Simulation::market(seed, stalls);
    market.kill(1);
    market.nodes[1].settings.custody_bytes_max = bytes;
    market.start(1);
    market.run_for(5_000);
    market
}

#[test]
fn whatever_room_the_only_carrier_has_all_sales_reach_the_hub() {
    for (number, bytes) in [1, 400, 700, 1_500, 3_000, 6_000, 20_000].into_iter().enumerate() {
        let mut market = market_with_room(500 + number as u64, 2, bytes);
        market.uplink(1, false);
        for number in 0..60 {
            market.sell(2, &format!("offline-{number}"));
            market.sell(3, &format!("offline-{number}"));
        }
        market.run_for(20_000);
        market.uplink(1, true);
        until_posted(&mut market, 120);
        // The key of the day is at the hub, and the carrier needn't have it any more.
        settle_and_recompute(&mut market);
        market.run_for(600_000);
        market.sell(2, "long after");
        until_posted(&mut market, 121);
    }
}

#[test]
fn hubs_ledgers_leave_room_for_sales() {
    let mut market = market_with_room(510, 2, 8_000);
    for number in 0..24 {
        market.sell(2 + number % 2, &format!("{number}"));
        until_posted(&mut market, number + 1);
        settle_and_recompute(&mut market);
        market.run_for(5_000);
    }
    let custody = market.status(1).custody;
    assert!(custody.ledger_entries > 0 && custody.held_bytes <= 8_000, "{custody:?}");
}

#[test]
fn a_carrier_without_room_is_not_sent_the_same_again_and_again() {
    let mut market = market_with_room(511, 4, 2_000);
    market.uplink(1, false);
    for number in 0..40 {
        (2..6).for_each(|stall| drop(market.sell(stall, &format!("offline-{number}"))));
    }
    market.run_for(30_000);
    market.carried = Some(Vec::new());
    market.run_for(600_000);
    let carried = market.carried.take().unwrap_or_default();
    let sent = carried.iter().filter(|frame| frame.to == 1 && frame.kind == "custody page").count();
    assert!(sent <= 40, "it was sent {sent} pages in ten minutes");
    market.uplink(1, true);
    until_posted(&mut market, 160);
}

#[test]
fn what_a_carrier_let_go_of_for_a_hub_that_burned_is_handed_to_it_again_over_the_same_link() {
    let mut market = market_with_room(512, 2, 1_500);
    for number in 0..30 {
        market.sell(2, &format!("{number}"));
        market.run_for(300);
    }
    until_posted(&mut market, 30);
    market.burn_hub();
    market.start(0);
    until_posted(&mut market, 30);
}

#[test]
fn a_hub_that_takes_sales_and_says_nothing_keeps_none_from_another() {
    let mut market = Simulation::market(513, 2);
    market.uplink(1, false);
    market.partition(&[&[1], &[2, 3]]);
    market.sell(2, "carried");
    market.until("it is copied", 20_000, |market| market.status(2).sales.copied == 1);
    market.kill(2);
    // Somebody has the hub's key, and sits where the carrier is.
    let identity = market.nodes[0].identity.clone();
    let thief = market.add_puppet(identity);
    market.network_join(thief, 3);
    let link = market.puppet_tries(thief, stallmesh_node::link::Road::Mesh, 3, 5_000).unwrap();
    market.puppet_opens_session(thief, link, [7; 16]);
    market.until("the carrier takes it for the hub", 20_000, |market| market.status(3).uplink.up);
    let taken = |market: &Simulation| {
        market.session_frames(thief, link).iter().any(|body| matches!(body, Body::Page(page) if page.custody))
    };
    market.until("it has the sale", 20_000, |market| taken(market));
    market.heal();
    market.uplink(1, true);
    until_posted(&mut market, 1);
}
