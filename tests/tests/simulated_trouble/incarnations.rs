//! Devices that start again and again: what of them is held, what settles, and what comes later.

use std::collections::BTreeSet;

use stallmesh_node::engine::ExplainSubject;
use stallmesh_node::link::Road;
use stallmesh_protocol::wire::frame::Body;
use stallmesh_protocol::{Kind, Lane};
use stallmesh_tests::simulation::Simulation;
use stallmesh_tests::simulation::hostile::written_log;

use super::{notices, until_posted};

const DAY: u64 = 24 * 3_600_000;
/// What the engine holds of one device that no checkpoint has named, and what a hub names of it in a day.
const UNCOVERED_MAX: usize = 32;
const COVERED_A_DAY_MAX: usize = 64;

/// Incarnations of a device of which a node holds something on a lane.
fn held(market: &mut Simulation, index: usize, author: usize, lane: &str) -> usize {
    let author = market.nodes[author].id().to_string();
    let heads = market.status(index).heads.into_iter().filter(|head| head.author == author && head.lane == lane);
    heads.map(|head| head.incarnation).collect::<BTreeSet<_>>().len()
}

#[test]
fn adv_117_a_device_that_opens_five_hundred_incarnations_fills_nobodys_store_and_is_told_no() {
    let mut market = Simulation::market(220, 2);
    market.run_for(5_000);
    market.uplink(1, false);
    let identity = market.nodes[2].identity.clone();
    market.kill(2);
    let puppet = market.add_puppet(identity.clone());
    let link = market.puppet_dial(puppet, Road::Mesh, 3);
    market.puppet_opens_session(puppet, link, [6; 16]);
    market.run_for(1_000);
    let before = held(&mut market, 3, 2, "catalog");
    for number in 0..500_u16 {
        let mut incarnation = [7; 16];
        incarnation[..2].copy_from_slice(&number.to_be_bytes());
        let (log, page) = written_log(&market.market_id(), &identity.device, incarnation, Lane::CATALOG, &[]);
        market.puppet_sends_page(puppet, link, &log, &page, false);
    }
    market.run_for(10_000);
    for index in [1, 3] {
        assert_eq!(held(&mut market, index, 2, "catalog") - before, UNCOVERED_MAX, "node {index}");
        assert!(notices(&mut market, index).contains("starts again and again") || index == 1);
    }
    let refused = market.session_frames(puppet, link).into_iter().filter_map(|body| match body {
        Body::Refusal(refusal) => Some(refusal),
        _ => None,
    });
    let refused: Vec<_> = refused.filter(|refusal| refusal.detail.contains("started too often")).collect();
    assert_eq!(refused.len(), 500 - UNCOVERED_MAX);
    assert!(refused.iter().all(|refusal| refusal.code == 2 && refusal.retry_after_ms > 0));
    assert!(!market.is_down(puppet, link), "nobody is to blame: an honest device may crash");
    let device = market.nodes[2].id();
    let explained = market.explain(3, ExplainSubject::Device(device)).because.join("\n");
    assert!(explained.contains("468 of its logs"), "{explained}");
    // Sales come in under a quota of bytes, whatever their incarnation.
    let (log, page) = written_log(
        &market.market_id(),
        &identity.device,
        [8; 16],
        Lane::SALES,
        &[(1, [0; 8], Kind(9_999), b"later".to_vec())],
    );
    market.puppet_sends_page(puppet, link, &log, &page, true);
    market.run_for(1_000);
    assert!(market.entries(3, device).iter().any(|entry| entry.incarnation == log.incarnation.to_string()));
    // The hub names them as they come, so many a day.
    market.uplink(1, true);
    market.run_for(30_000);
    assert!(held(&mut market, 0, 2, "catalog") <= COVERED_A_DAY_MAX + UNCOVERED_MAX);
}

#[test]
fn a_device_in_a_restart_loop_sells_and_settles_and_what_it_publishes_reaches_all_in_the_end() {
    let restarts = 150;
    let mut market = Simulation::market(221, 2);
    market.run_for(3_000);
    for number in 0..restarts {
        market.kill(2);
        market.start(2);
        market.publish_at(2, number);
        market.sell(2, &format!("life-{number}"));
        market.run_for(3_000);
    }
    until_posted(&mut market, restarts as usize);
    assert!(market.suspense().is_empty());
    let bound = COVERED_A_DAY_MAX + UNCOVERED_MAX;
    market.run_for(40_000);
    for index in [0, 1, 3] {
        assert_eq!(held(&mut market, index, 2, "catalog"), bound, "node {index}");
    }
    assert_eq!(held(&mut market, 2, 2, "catalog"), restarts as usize + 1, "its own are all there");
    assert!(notices(&mut market, 2).contains("started so often"), "{}", notices(&mut market, 2));
    assert!(notices(&mut market, 0).contains("starts again and again"));
    let settlement = market.settle(false);
    assert_eq!((settlement.posted, settlement.suspense.len()), (restarts as usize, 0));
    // Another day, and nobody has to do anything.
    market.sleep(DAY);
    for index in [0, 1, 3] {
        market.until("all that it published is there", 600_000, |market| {
            held(market, index, 2, "catalog") == restarts as usize + 1
        });
    }
    let own = market.products(2, Some("stall-1"));
    market.until("and all have its last prices", 120_000, |market| market.products(3, Some("stall-1")) == own);
    market.until_agreed(&[0, 1, 3], 120_000);
}
