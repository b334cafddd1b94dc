//! F. Peers that lie about where others are, ask too much, pass nothing on, or come and go.

use std::collections::BTreeSet;

use stallmesh_node::engine::{Answer, Identity, Request};
use stallmesh_node::link::{Channel, Road};
use stallmesh_protocol::join::{JoinBy, JoinRequest, commitment};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, frame::Body, join_frame};
use stallmesh_protocol::{Incarnation, Kind, Lane, LogName, payload};
use stallmesh_tests::simulation::hostile::encode_join;
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

use super::{Turncoat, decoded};

#[test]
fn adv_100_whoever_says_that_a_member_is_elsewhere_keeps_nobody_from_it() {
    let mut market = Simulation::market(950, 3);
    let identity =
        Identity { device: DeviceKey::from_seed(&[85; 32]), seal_secret: [85; 32], opening_secrets: Vec::new() };
    let attacker = market.add_puppet(identity);
    market.partition(&[&[2, attacker], &[1, 3, 4]]);
    // At its own address, at addresses where nobody is, again and again.
    for round in 0..200 {
        for member in [0, 1, 3, 4] {
            let id = market.nodes[member].id();
            market.advertise(2, id, &format!("node:{attacker}"));
            market.advertise(2, id, &format!("node:{}", 100 + round));
        }
    }
    market.run_for(30_000);
    assert!(market.status(2).peers.is_empty(), "a key is what counts, not who says where it is");
    market.heal();
    market.until("it finds the true ones", 60_000, |market| market.status(2).peers.len() >= 3);
    market.sell(2, "found");
    market.until("its sales are at the hub", 60_000, |market| market.settle(true).posted == 1);
}

#[test]
fn adv_108_who_asks_and_announces_without_end_is_answered_within_bounds() {
    let mut market = Simulation::market(951, 3);
    for cents in 0..30 {
        market.publish_at(4, cents);
    }
    market.run_for(5_000);
    let turncoat = Turncoat::of(&mut market, 2, 3);
    let before = turncoat.heard(&market).len();
    let head = market.status(3).heads.into_iter().find(|head| head.lane == "catalog" && head.sequence > 20).unwrap();
    let log = wire::LogName {
        author: hex::decode(head.author).unwrap(),
        incarnation: hex::decode(head.incarnation).unwrap(),
        lane: Lane::CATALOG.0,
    };
    for request in 1..=10_000 {
        turncoat.says(&mut market, Body::Want(wire::Want { request, log: Some(log.clone()), from: 1, to: 0 }));
        if request % 100 == 0 {
            // Entries that nobody has, of logs that are not.
            let logs = (0..20_u8).map(|number| {
                let incarnation = Incarnation::from_bytes([number; 16]);
                let log = LogName { author: turncoat.key.id(), incarnation, lane: Lane::SIGNAL };
                wire::HaveLog { log: Some((&log).into()), sequence: request, prefix: vec![1, 2] }
            });
            turncoat.says(&mut market, Body::Have(wire::Have { logs: logs.collect() }));
        }
    }
    market.run_for(10_000);
    let told = turncoat.heard(&market).split_off(before);
    let asked = told.iter().filter(|body| matches!(body, Body::Want(_))).count();
    assert!(asked <= 400, "it asked {asked} times for what nobody has");
    let answered = told.iter().filter(|body| matches!(body, Body::Page(_) | Body::Done(_) | Body::Refusal(_))).count();
    assert!(answered <= 3 * 10_000 + 500, "{answered} answers");
    // Everybody else is served meanwhile.
    market.publish_at(4, 99);
    market.until("news spreads", 30_000, |market| {
        market.products(3, Some("stall-3")).iter().any(|product| product.price == 299)
    });
    market.sell(3, "sold");
    market.until("and sales are posted", 60_000, |market| market.settle(true).posted == 1);
}

/// Passes nothing on: it greets, pings, says how it is, takes what it gets.
fn black_hole(market: &mut Simulation, index: usize) {
    market.tamper(index, |channel, frame| {
        let keeps_up = channel == Channel::Join
            || matches!(
                decoded(&frame),
                Some(
                    Body::Hello(_) | Body::Ping(_) | Body::Pong(_) | Body::Status(_) | Body::Want(_) | Body::Custody(_)
                )
            );
        if keeps_up { vec![(channel, frame)] } else { Vec::new() }
    });
}

#[test]
fn adv_109_a_third_that_passes_nothing_on_keeps_nothing_from_the_others() {
    let mut market = Simulation::market(952, 9);
    let holes = BTreeSet::from([3, 6, 9]);
    holes.iter().for_each(|index| black_hole(&mut market, *index));
    market.publish_at(2, 91);
    market.sell(2, "not swallowed");
    let honest: Vec<usize> = (0..11).filter(|index| !holes.contains(index)).collect();
    market.until("all honest ones have it", 60_000, |market| {
        honest.iter().all(|at| market.products(*at, Some("stall-1")).iter().any(|product| product.price == 291))
    });
    market.until("and the sale is posted", 60_000, |market| market.settle(true).posted == 1);
}

#[test]
fn adv_110_one_honest_link_ends_an_eclipse() {
    let mut market = Simulation::market(953, 5);
    for index in [3, 4, 5] {
        black_hole(&mut market, index);
    }
    // All that node 2 sees is against it.
    market.partition(&[&[2, 3, 4, 5], &[1, 6]]);
    market.publish_at(2, 92);
    for number in 0..3 {
        market.sell(2, &format!("in the dark {number}"));
    }
    market.run_for(120_000);
    assert_eq!(market.settle(true).posted, 0);
    assert_eq!(market.status(2).sales.recorded, 3);
    market.partition(&[&[2, 3, 4, 5, 6], &[1]]);
    market.uplink(6, true);
    market.until("through the one", 120_000, |market| {
        market.settle(true).posted == 3
            && market.products(0, Some("stall-1")).iter().any(|product| product.price == 292)
    });
}

#[test]
fn adv_112_a_link_that_flaps_for_an_hour_still_gets_everything_across() {
    let mut market = Simulation::market(954, 3);
    let mut sold = 0;
    let mut posted = 0;
    for second in (0..3_600).step_by(2) {
        if second % 4 == 0 {
            market.partition(&[&[2], &[1, 3, 4]]);
        } else {
            market.heal();
        }
        if second % 120 == 0 {
            market.sell(2, &format!("sale-{second}"));
            market.publish_at(2, second % 90);
            sold += 1;
            let now = market.settle(true).posted;
            assert!(now >= posted, "what was there is gone");
            posted = now;
        }
        // Never at the same beat as what a node waits for.
        market.run_for(1_900 + second % 14 * 30);
    }
    assert!(posted > sold / 2, "it gets across while it flaps, too: {posted} of {sold}");
    market.heal();
    market.until("all are posted", 60_000, |market| market.settle(true).posted == sold);
    let faults = market.closed.iter().filter(|end| end.reason.starts_with("E_") && !end.reason.starts_with("E_SILENT"));
    assert_eq!(faults.count(), 0, "nobody is to blame for the weather");
}

#[test]
fn adv_115_where_stalls_see_only_the_gateway_all_goes_through_it() {
    let mut market = Simulation::market(955, 4);
    let stalls = [2, 3, 4, 5];
    for one in stalls {
        for other in stalls {
            if one != other {
                market.network.silence(market.now, one, other);
            }
        }
    }
    market.run_for(30_000);
    for stall in stalls {
        let peers = market.status(stall).peers;
        assert_eq!(peers.len(), 1, "{peers:?}");
    }
    market.publish_at(2, 93);
    for stall in stalls {
        market.sell(stall, &format!("isolated {stall}"));
    }
    market.until("all have the news", 60_000, |market| {
        stalls.iter().all(|at| market.products(*at, Some("stall-1")).iter().any(|product| product.price == 293))
    });
    market.until("and all is posted", 60_000, |market| market.settle(true).posted == 4);
    // And each says why it doesn't see the others.
    let device = market.nodes[3].id();
    let view = market.explain(2, stallmesh_node::engine::ExplainSubject::Device(device));
    assert_eq!(view.state, "not_connected", "{view:?}");
    assert!(!view.because.is_empty());
}

/// Whoever knows a market can ask to join it: that is no way to fill everybody's disk.
#[test]
fn adv_117_requests_of_strangers_to_join_fill_nobodys_store() {
    let mut market = Simulation::market(956, 3);
    market.uplink(1, false);
    let Answer::Invite(text) = market.invite_text("") else { panic!() };
    let (invite, _) = stallmesh_protocol::invite::Invite::from_text(&text).unwrap();
    let time = OPENING_MS + market.now;
    let mut largest = 0;
    for number in 0..100_u8 {
        let key = DeviceKey::from_seed(&[100 + number % 150; 32]);
        let identity = Identity { device: key.clone(), seal_secret: [1; 32], opening_secrets: Vec::new() };
        let puppet = market.add_puppet(identity);
        market.network_join(puppet, 2);
        let link = market.puppet_greets(puppet, Road::Mesh, 2);
        for ask in 0..4_u8 {
            let request = JoinRequest {
                device: key.id(),
                seal_key: [ask; 32],
                name: if ask == 3 { "x".repeat(60_000) } else { "x".into() },
                by: JoinBy::Asking { commitment: commitment(&[ask; 16], &key.id()) },
                stall: "mine".into(),
                time,
            };
            let sealed =
                request.seal(&key, &invite.market(), &invite.opening_key, time + 3_600_000, [ask; 32]).unwrap();
            let ask = payload::encode(&sealed);
            largest = largest.max(ask.len());
            let ask = wire::JoinAsk { request: ask };
            market.puppet_send(puppet, link, Channel::Join, encode_join(join_frame::Body::Ask(ask)));
        }
        market.run_for(100);
    }
    assert!(largest > 50_000);
    market.run_for(5_000);
    let id = market.nodes[2].id();
    let carried: Vec<_> =
        market.entries(2, id).into_iter().filter(|entry| entry.kind == Kind::JOIN_REQUEST.to_string()).collect();
    let bytes: usize = carried.iter().map(|entry| entry.bytes).sum();
    assert!(!carried.is_empty() && carried.len() <= 64 && bytes < 300_000, "{} requests, {bytes} bytes", carried.len());
    // After an hour this member carries others again.
    market.run_for(3_600_000);
    let identity =
        Identity { device: DeviceKey::from_seed(&[99; 32]), seal_secret: [1; 32], opening_secrets: Vec::new() };
    let puppet = market.add_puppet(identity.clone());
    market.network_join(puppet, 2);
    let link = market.puppet_greets(puppet, Road::Mesh, 2);
    let time = OPENING_MS + market.now;
    let by = JoinBy::Asking { commitment: commitment(&[9; 16], &identity.device.id()) };
    let request = JoinRequest {
        device: identity.device.id(),
        seal_key: [9; 32],
        name: "x".into(),
        by,
        stall: "mine".into(),
        time,
    };
    let sealed =
        request.seal(&identity.device, &invite.market(), &invite.opening_key, time + 3_600_000, [9; 32]).unwrap();
    let ask = wire::JoinAsk { request: payload::encode(&sealed) };
    market.puppet_send(puppet, link, Channel::Join, encode_join(join_frame::Body::Ask(ask)));
    let before = carried.len();
    market.until("it is carried", 5_000, |market| {
        let entries = market.entries(2, id);
        entries.iter().filter(|entry| entry.kind == Kind::JOIN_REQUEST.to_string()).count() == before + 1
    });
    // An honest newcomer gets in by another member, and by this one once the hub has answered those.
    market.uplink(3, true);
    let late = market.add();
    market.invite(late, "late");
    market.until("it joins", 120_000, |market| market.status(late).role == "stall");
}

#[test]
fn adv_121_a_hub_that_stands_still_for_half_an_hour_is_caught_up_with_in_a_minute() {
    let mut market = Simulation::market(957, 4);
    market.run_for(5_000);
    market.pause(0);
    let before = market.network.bytes;
    for minute in 0..30 {
        for stall in 2..6 {
            market.sell(stall, &format!("{stall}-{minute}"));
        }
        market.run_for(60_000);
    }
    let said = market.network.bytes - before;
    assert!(said < 6_000_000, "{said} bytes in half an hour without a hub");
    market.resume(0);
    market.until("all are posted", 60_000, |market| market.settle(true).posted == 120);
    let Answer::Settlement(settlement) = market.ask(0, Request::Settle { dry_run: false }) else { panic!() };
    assert_eq!((settlement.posted, settlement.suspense.len()), (120, 0));
}
