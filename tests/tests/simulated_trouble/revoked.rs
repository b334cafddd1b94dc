//! Revocations: what a revoked device gets, what of it stands, and where the line runs.

use stallmesh_node::engine::{Answer, ExplainSubject, Request};
use stallmesh_node::link::{Channel, Road};
use stallmesh_protocol::membership::write_line;
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{Kind, Lane, payload};
use stallmesh_tests::simulation::hostile::{encode, written_log};
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

use super::{member_state, settle_and_recompute, until_posted};

const HOUR: u64 = 3_600_000;

/// A market in which node 2 sold something that nobody has seen, and was then revoked.
fn lost_tablet(seed: u64, unseen: usize) -> Simulation {
    let mut market = Simulation::market(seed, 3);
    market.sell(2, "seen");
    until_posted(&mut market, 1);
    market.run_for(5_000);
    market.partition(&[&[2], &[1, 3, 4]]);
    for number in 0..unseen {
        market.sell(2, &format!("unseen-{number}"));
    }
    assert_eq!(market.revoke(0, 2), Answer::Done);
    market.run_for(5_000);
    market
}

fn raise(market: &mut Simulation, device: usize) {
    let device = market.nodes[device].id();
    assert_eq!(market.ask(0, Request::Raise { device }), Answer::Done);
}

#[test]
fn a_revoked_device_gets_nothing_but_control() {
    let mut market = lost_tablet(120, 0);
    let identity = market.nodes[2].identity.clone();
    market.kill(2);
    market.publish_at(3, 77);
    market.run_for(3_000);
    let puppet = market.add_puppet(identity);
    market.heal();
    let link = market.puppet_dial(puppet, Road::Mesh, 3);
    market.puppet_opens_session(puppet, link, [6; 16]);
    // It asks for everything that there is.
    let heads = market.status(3).heads;
    for head in &heads {
        let (author, incarnation) = (hex::decode(&head.author).unwrap(), hex::decode(&head.incarnation).unwrap());
        for lane in [Lane::CHECKPOINT, Lane::CATALOG, Lane::SIGNAL, Lane::SALES, Lane::LEDGER] {
            let log = wire::LogName { author: author.clone(), incarnation: incarnation.clone(), lane: lane.0 };
            let want = wire::Want { request: 1, log: Some(log), from: 1, to: 0 };
            market.puppet_send(puppet, link, Channel::Live, encode(Body::Want(want)));
        }
    }
    // All lanes together, each alone, and all of it by name.
    for lanes in [0, 1 << Lane::CHECKPOINT.0, 1 << Lane::CATALOG.0, 1 << Lane::SIGNAL.0, u64::MAX] {
        let summary = wire::Summary { fingerprint: vec![0; 8], names: vec![0; 4], logs: 0, lanes, answer: false };
        market.puppet_send(puppet, link, Channel::Live, encode(Body::Summary(summary)));
        let runs = wire::Runs { runs: vec![2, 0, 0, 4, 0], more: false, lanes };
        market.puppet_send(puppet, link, Channel::Live, encode(Body::Runs(runs)));
        let delta = wire::Delta { changes: Vec::new(), own: lanes == 0 };
        market.puppet_send(puppet, link, Channel::Live, encode(Body::Delta(delta)));
    }
    let blob = wire::WantBlob { request: 2, hash: vec![1; 32] };
    market.puppet_send(puppet, link, Channel::Live, encode(Body::WantBlob(blob)));
    market.publish_at(4, 78);
    market.sell(3, "in its sight");
    market.run_for(10_000);
    let told = market.session_frames(puppet, link);
    let control = 1 << Lane::CONTROL.0;
    assert!(told.iter().any(|body| matches!(body, Body::Summary(summary) if summary.lanes == control)));
    for body in told {
        let lane = match &body {
            Body::Page(page) => page.log.as_ref().map(|log| log.lane),
            Body::Summary(wire::Summary { lanes, .. }) | Body::Runs(wire::Runs { lanes, .. }) => {
                Some(if *lanes == control { Lane::CONTROL.0 } else { u32::MAX })
            }
            Body::Delta(_) => Some(u32::MAX),
            Body::Have(have) => have.logs.iter().filter_map(|log| log.log.as_ref()).map(|log| log.lane).max(),
            Body::Blob(_) | Body::Evidence(_) | Body::Offer(_) => Some(u32::MAX),
            _ => None,
        };
        assert!(lane.is_none_or(|lane| lane == Lane::CONTROL.0), "{body:?}");
    }
}

#[test]
fn adv_051_sales_beyond_the_line_stand_in_suspense_until_the_line_is_raised_to_them() {
    let mut market = lost_tablet(121, 3);
    market.heal();
    market.until("its sales are at the hub", 60_000, |market| market.settle(true).suspense.len() == 3);
    let settlement = settle_and_recompute(&mut market);
    assert_eq!(settlement.posted, 1);
    assert!(settlement.suspense.iter().all(|row| row.reason == "revoked" && row.amount == 250));
    market.until("it knows", 30_000, |market| member_state(market, 2, 2) == "revoked");
    assert!(matches!(market.try_sell(2, "after it knows", 1), Answer::Failed(_)));
    raise(&mut market, 2);
    until_posted(&mut market, 4);
    assert!(settle_and_recompute(&mut market).suspense.is_empty());
    market.until_agreed(&[0, 1, 3, 4], 60_000);
}

#[test]
fn the_last_sales_of_a_tablet_that_stays_lost_come_back_from_its_carriers() {
    let mut market = Simulation::market(122, 3);
    market.uplink(1, false);
    for number in 0..3 {
        market.sell(2, &format!("carried-{number}"));
    }
    market.until("copied", 20_000, |market| market.status(2).sales.copied == 3);
    market.kill(2);
    // The hub has seen nothing of them, so its line lies before them.
    assert_eq!(market.revoke(0, 2), Answer::Done);
    market.uplink(3, true);
    market.until("they are at the hub", 60_000, |market| market.settle(true).suspense.len() == 3);
    assert_eq!(market.suspense().into_iter().collect::<Vec<_>>(), ["revoked"]);
    raise(&mut market, 2);
    until_posted(&mut market, 3);
    assert!(market.suspense().is_empty());
}

#[test]
fn what_a_helper_sold_whom_a_revoked_owner_let_in_comes_once_the_owners_line_is_raised() {
    let mut market = Simulation::market(127, 3);
    let helper = market.add_helper("stall-1");
    market.partition(&[&[0, 1, 3, 4], &[2, helper]]);
    assert_eq!(market.revoke(0, 2), Answer::Done);
    // Neither of the two has heard of it.
    assert_eq!(market.delegate(2, helper, &["sell", "relay", "signal"], 10 * HOUR), Answer::Done);
    market.until("the helper is a member to its owner", 20_000, |market| market.status(helper).role == "stall");
    market.run_for(5_000);
    market.sell(helper, "in good faith");
    market.heal();
    market.until("the helper hears of it", 60_000, |market| market.status(helper).role != "stall");
    market.run_for(30_000);
    let device = market.nodes[helper].id();
    for node in [0, 3, helper] {
        let told = market.explain(node, ExplainSubject::Device(device));
        assert_eq!(told.state, "not_a_member", "node {node}");
        assert!(told.because[0].contains("once the hub raises the line of"), "node {node} says: {:?}", told.because);
    }
    let settled = settle_and_recompute(&mut market);
    assert_eq!((settled.posted, settled.suspense.len()), (0, 0), "nobody carries for whom no member let in");
    raise(&mut market, 2);
    until_posted(&mut market, 1);
    market.until("it is a member", 60_000, |market| (0..5).all(|node| member_state(market, node, helper) == "valid"));
}

#[test]
fn adv_117_what_lies_beyond_a_line_is_taken_under_a_quota_of_bytes() {
    let mut market = Simulation::market(123, 2);
    market.kill(0);
    market.nodes[0].settings.beyond_line_bytes_max = 20_000;
    market.start(0);
    market.run_for(5_000);
    market.partition(&[&[2], &[1, 3]]);
    for number in 0..200 {
        market.sell(2, &format!("unseen-{number}"));
    }
    assert_eq!(market.revoke(0, 2), Answer::Done);
    // It hands them in itself: carriers have a quota of their own.
    market.uplink(2, true);
    market.run_for(60_000);
    let taken = market.settle(true).suspense.len();
    assert!((10..100).contains(&taken), "{taken} of 200 were taken");
    assert_eq!(market.status(2).sales.recorded, 200, "and none is lost where it was made");
    raise(&mut market, 2);
    until_posted(&mut market, 200);
    assert!(settle_and_recompute(&mut market).suspense.is_empty());
}

#[test]
fn a_revocation_reaches_every_connected_node_and_closes_connections_once() {
    let mut market = Simulation::market(124, 5);
    market.run_for(3_000);
    let id = market.nodes[2].id();
    let linked: Vec<usize> = (0..7)
        .filter(|index| {
            let id = id.to_string();
            market.status(*index).peers.iter().any(|peer| peer.device == id)
        })
        .collect();
    assert!(linked.len() > 2);
    assert_eq!(market.revoke(0, 2), Answer::Done);
    market.until("every node knows, the revoked one too", 10_000, |market| {
        (0..7).all(|index| member_state(market, index, 2) == "revoked")
    });
    market.run_for(5_000);
    for index in linked {
        let closed = market
            .closed
            .iter()
            .any(|closed| (closed.by, closed.peer) == (index, id) && closed.reason.starts_with("E_REVOKED"));
        let by_it = market.closed.iter().any(|closed| closed.by == 2 && closed.peer == market.nodes[index].id());
        assert!(closed || by_it, "node {index} closed its link");
    }
    // It comes back, restricted, and stays: the market's business is no reason to close its links again.
    let before = market.closed.len();
    for round in 0..10 {
        market.publish_at(3, round);
        let other = market.add();
        market.invite(other, "");
        market.run_for(3_000);
    }
    let again =
        market.closed[before..].iter().filter(|closed| closed.peer == id && closed.reason.starts_with("E_REVOKED"));
    assert!(again.count() <= 10, "once by each of the new members at most");
}

#[test]
fn adv_051_the_line_is_the_same_on_every_node_whoever_draws_it() {
    for (seed, by) in [(125, 0), (126, 2)] {
        let mut market = Simulation::market(seed, 3);
        let helper = market.add_helper("stall-1");
        assert_eq!(
            market.delegate(2, helper, &["sell", "publish-catalog", "relay", "signal"], 10 * HOUR),
            Answer::Done
        );
        market.until("the helper is a member", 20_000, |market| market.status(helper).role == "stall");
        // The owner is away while the helper publishes what a checkpoint names, and then what none does.
        market.partition(&[&[1, 3, 4, helper], &[2]]);
        market.publish_at(helper, 10);
        market.run_for(10_000);
        market.uplink(1, false);
        market.partition(&[&[1, 3], &[2], &[4, helper]]);
        market.publish_at(helper, 20);
        market.run_for(3_000);
        assert_eq!(market.revoke(by, helper), Answer::Done);
        market.partition(&[&[1, 2, 3], &[4, helper]]);
        market.uplink(1, true);
        market.run_for(10_000);
        market.heal();
        market.until("all know", 60_000, |market| {
            [0, 1, 2, 3, 4].iter().all(|index| member_state(market, *index, helper) == "revoked")
        });
        let beliefs = market.until_agreed(&[0, 1, 2, 3, 4], 120_000);
        let id = market.nodes[helper].id().to_string();
        let catalog: Vec<u64> = beliefs
            .standing
            .iter()
            .filter(|(author, _, lane, _, _)| *author == id && lane == "catalog")
            .map(|(_, _, _, sequence, _)| *sequence)
            .collect();
        // An opening and one publication were named by a checkpoint; the line never lies below that.
        assert_eq!(catalog, [1, 2], "revoked by node {by}");
    }
}

#[test]
fn adv_055_two_devices_that_revoke_each_other_are_judged_alike_everywhere() {
    let mut market = Simulation::market(127, 3);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell"], 10 * HOUR), Answer::Done);
    let second_owner = market.add();
    market.invite(second_owner, "stall-1");
    market.until("both are members", 20_000, |market| {
        [helper, second_owner].into_iter().all(|index| market.status(index).role == "stall")
    });
    for (by, whom) in [(helper, 2), (second_owner, 2), (2, second_owner), (helper, 0), (2, 0)] {
        assert!(matches!(market.revoke(by, whom), Answer::Failed(_)), "{by} has no say over {whom}");
    }
    // Their programs refuse; so they write it by hand, and each half of the market sees another one first.
    let members = [2, helper, second_owner].map(|index| market.nodes[index].identity.clone());
    [2, helper, second_owner].into_iter().for_each(|index| market.kill(index));
    market.partition(&[&[1, 3], &[4]]);
    let id = market.market_id();
    for (number, (by, whom)) in [(0, 1), (1, 0), (0, 2), (2, 0)].into_iter().enumerate() {
        let message = payload::Revocation {
            device: members[whom].device.id().as_bytes().to_vec(),
            line: write_line(&Default::default()),
            reason: "you first".into(),
            below_standing: false,
        };
        let entry = (OPENING_MS + market.now, [0; 8], Kind::REVOCATION, payload::encode(&message));
        let (log, page) = written_log(&id, &members[by].device, [number as u8 + 1; 16], Lane::CONTROL, &[entry]);
        let puppet = market.add_puppet(members[by].clone());
        let target = if number % 2 == 0 { 3 } else { 4 };
        market.network_join(puppet, target);
        let link = market.puppet_dial(puppet, Road::Mesh, target);
        market.puppet_opens_session(puppet, link, [number as u8; 16]);
        market.puppet_sends_page(puppet, link, &log, &page, false);
        market.run_for(1_000);
    }
    market.heal();
    market.run_for(20_000);
    let beliefs = market.until_agreed(&[0, 1, 3, 4], 120_000);
    let state = |index: usize| {
        let id = members[index].device.id();
        beliefs.members.iter().find(|member| member.0 == id).map(|member| member.4.clone()).unwrap_or_default()
    };
    // The owner has a say over the helper whom she certified, and nobody over their equals or those above them.
    assert_eq!([state(0), state(1), state(2)], ["valid", "revoked", "valid"]);
}
