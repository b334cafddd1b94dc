//! C. Who belongs, and who has a say.

use stallmesh_node::engine::{Answer, InviteOrder, Request};
use stallmesh_protocol::certificate::{Certificate, Role, Scopes};
use stallmesh_protocol::membership::{Line, write_line};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::frame::Body;
use stallmesh_protocol::{Hash, Head, Kind, Lane};
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

use super::{Turncoat, held, log_of};

const HOUR: u64 = 3_600_000;
const YEAR: u64 = 365 * 24 * HOUR;

fn certificate(role: Role, device: &DeviceKey, now: u64) -> Certificate {
    Certificate {
        device: device.id(),
        role,
        stall: if role == Role::Stall { "stall-9".into() } else { String::new() },
        name: "somebody".into(),
        scopes: match role {
            Role::Hub => Scopes::hub(),
            Role::Stall => Scopes::stall_owner(),
            Role::Gateway => Scopes::gateway(),
        },
        not_before: now - HOUR,
        not_after: now + HOUR,
        seal_key: [1; 32],
        invite: None,
        request: None,
    }
}

fn state_of(market: &mut Simulation, at: usize, device: stallmesh_protocol::DeviceId) -> String {
    let found = market.members(at).into_iter().find(|member| member.device == device);
    found.map_or_else(|| "unknown".into(), |member| member.state)
}

#[test]
fn adv_044_lifetimes_that_end_before_they_begin_or_never_are_refused() {
    let now = OPENING_MS;
    let good = certificate(Role::Stall, &DeviceKey::from_seed(&[2; 32]), now);
    assert!(Certificate::from_payload(&good.to_payload()).is_ok());
    for (not_before, not_after) in [(now, now - 1), (0, u64::MAX), (now, now + 100 * YEAR), (u64::MAX, 0)] {
        let absurd = Certificate { not_before, not_after, ..good.clone() };
        assert!(Certificate::from_payload(&absurd.to_payload()).is_err(), "{not_before} to {not_after}");
    }
    for (time, valid) in
        [(now - HOUR - 1, false), (now - HOUR, true), (now + HOUR, true), (now + HOUR + 1, false), (u64::MAX, false)]
    {
        assert_eq!(good.is_valid_at(time), valid);
    }
    // At issue: nobody gives more time than it has.
    let mut market = Simulation::market(940, 2);
    let helper = market.add_helper("stall-1");
    let until = market.status(2).valid_until.unwrap();
    let answer = market.delegate(2, helper, &["sell"], 100 * YEAR);
    if answer == Answer::Done {
        market.until("the helper joins", 30_000, |market| market.status(helper).role == "stall");
        assert!(market.status(helper).valid_until.unwrap() <= until);
    }
    let order = InviteOrder {
        role: "stall".into(),
        stall: "stall-8".into(),
        name: "x".into(),
        expires_ms: HOUR,
        valid_ms: 100 * YEAR,
    };
    if let Answer::Invite(invite) = market.ask(0, Request::CreateInvite(order)) {
        let device = market.add();
        assert_eq!(market.ask(device, Request::Join { invite, name: String::new() }), Answer::Done);
        market.run_for(20_000);
        let hub = market.status(0).valid_until.unwrap();
        assert!(market.status(device).valid_until.is_none_or(|until| until <= hub));
    }
    // One that begins tomorrow grants nothing today.
    let turncoat = Turncoat::of(&mut market, 2, 3);
    let later = DeviceKey::from_seed(&[77; 32]);
    let now = OPENING_MS + market.now;
    let tomorrow = Certificate {
        stall: "stall-1".into(),
        scopes: Scopes::default().with(stallmesh_protocol::certificate::Scope::PUBLISH_CATALOG, None),
        not_before: now + 10 * HOUR,
        not_after: now + 11 * HOUR,
        ..certificate(Role::Stall, &later, now)
    };
    let (log, page) = log_of(&market, &turncoat.key, 40, Lane::CONTROL, &[(Kind::CERTIFICATE, tomorrow.to_payload())]);
    turncoat.hands_on(&mut market, &log, &page);
    let product = payload::Product { sku: "T".into(), name: "Tomorrow's".into(), price: 1, ..Default::default() };
    let goods = encode(&payload::Products { products: vec![product], ..Default::default() });
    let (log, page) = log_of(&market, &later, 41, Lane::CATALOG, &[(Kind::PRODUCTS, goods)]);
    turncoat.hands_on(&mut market, &log, &page);
    market.run_for(5_000);
    assert!(market.products(3, None).iter().all(|product| product.name != "Tomorrow's"));
}

#[test]
fn adv_053_whoever_has_no_say_over_a_device_revokes_it_in_vain() {
    let mut market = Simulation::market(941, 3);
    let turncoat = Turncoat::of(&mut market, 2, 3);
    // Another stall's device, the gateway, the hub itself.
    let victims = [3, 1, 0, 4].map(|index| market.nodes[index].id());
    let revoke = |device: stallmesh_protocol::DeviceId| {
        let message = payload::Revocation {
            device: device.as_bytes().to_vec(),
            line: Vec::new(),
            reason: "because".into(),
            below_standing: true,
        };
        (Kind::REVOCATION, encode(&message))
    };
    let (log, page) = log_of(&market, &turncoat.key, 40, Lane::CONTROL, &victims.map(revoke));
    turncoat.hands_on(&mut market, &log, &page);
    market.until("they are kept", 20_000, |market| [0, 1, 3, 4].into_iter().all(|at| held(market, at, &log) == 5));
    // By a device that nobody knows, and under the hub's name.
    let stranger = DeviceKey::from_seed(&[78; 32]);
    let (unknown, page) = log_of(&market, &stranger, 41, Lane::CONTROL, &victims.map(revoke));
    turncoat.hands_on(&mut market, &unknown, &page);
    market.run_for(1_000);
    assert!(!turncoat.was_shown_out(&market), "who passes on what it can't judge is not to blame");
    let (mut forged, page) = log_of(&market, &turncoat.key, 42, Lane::CONTROL, &victims.map(revoke));
    forged.author = market.nodes[0].id();
    turncoat.hands_on(&mut market, &forged, &page);
    market.until("who lies is shown out", 5_000, |market| turncoat.was_shown_out(market));
    for at in [0, 1, 3, 4] {
        for victim in victims {
            assert_eq!(state_of(&mut market, at, victim), "valid", "at node {at}");
        }
        assert_eq!(held(&mut market, at, &unknown) + held(&mut market, at, &forged), 0);
    }
    market.sell(3, "as before");
    market.until("it is posted", 60_000, |market| market.settle(true).posted == 1);
}

#[test]
fn adv_054_a_revocation_that_one_neighbour_withholds_comes_from_another() {
    let mut market = Simulation::market(942, 4);
    market.run_for(3_000);
    market.tamper_messages(3, |body| match body {
        Body::Page(page) if page.log.as_ref().is_some_and(|log| log.lane == Lane::CONTROL.0) => Vec::new(),
        Body::Have(_) => Vec::new(),
        body => vec![body],
    });
    market.partition(&[&[3, 5], &[1, 2, 4]]);
    assert_eq!(market.revoke(0, 2), Answer::Done);
    let id = market.nodes[2].id();
    market.until("those beside honest ones know", 20_000, |market| {
        [1, 4].into_iter().all(|at| state_of(market, at, id) == "revoked")
    });
    market.run_for(20_000);
    assert_eq!(state_of(&mut market, 5, id), "valid", "it can't know");
    market.heal();
    market.until("one honest link is enough", 60_000, |market| state_of(market, 5, id) == "revoked");
}

#[test]
fn adv_056_after_the_root_has_put_another_hub_in_its_place_the_old_one_has_no_say() {
    let mut market = Simulation::market(943, 3);
    market.run_for(10_000);
    // Node 4 is away for all of it.
    market.partition(&[&[1, 2, 3], &[4]]);
    let (root, old) = (market.nodes[0].root_key.clone().unwrap(), market.nodes[0].id());
    let new = DeviceKey::from_seed(&[79; 32]);
    let now = OPENING_MS + market.now;
    let hub = Certificate { not_after: now + 100 * HOUR, ..certificate(Role::Hub, &new, now) };
    // What the organiser knows of the old one stands: its line runs through the heads that are held.
    let mut line = Line::new();
    for head in market.status(3).heads.into_iter().filter(|head| head.author == old.to_string()) {
        let lane = Lane::KEPT_BY_ALL.into_iter().find(|lane| lane.to_string() == head.lane);
        let hash = Hash::try_from(hex::decode(&head.hash).unwrap().as_slice()).unwrap();
        line.extend(
            lane.map(|lane| ((head.incarnation.parse().unwrap(), lane), Head { sequence: head.sequence, hash })),
        );
    }
    assert!(line.len() >= 2, "{line:?}");
    let over = payload::Revocation {
        device: old.as_bytes().to_vec(),
        line: write_line(&line),
        reason: "stolen".into(),
        ..Default::default()
    };
    let turncoat = Turncoat::of(&mut market, 2, 3);
    let rotation = [(Kind::CERTIFICATE, hub.to_payload()), (Kind::REVOCATION, encode(&over))];
    let (roots, page) = log_of(&market, &root, 40, Lane::CONTROL, &rotation);
    turncoat.hands_on(&mut market, &roots, &page);
    market.until("it is known", 20_000, |market| [1, 3].into_iter().all(|at| state_of(market, at, old) == "revoked"));
    // The new hub admits somebody; whoever stole the old one's key tries to, and changes the terms.
    let [by_new, by_old] = [80, 81].map(|seed| DeviceKey::from_seed(&[seed; 32]));
    let admit = |device: &DeviceKey| (Kind::CERTIFICATE, certificate(Role::Stall, device, now).to_payload());
    let terms = payload::Policy { fee_rate: "99".into(), ..Default::default() };
    let (news, page) = log_of(&market, &new, 41, Lane::CONTROL, &[admit(&by_new)]);
    turncoat.hands_on(&mut market, &news, &page);
    market.kill(0);
    let thief = Turncoat::of(&mut market, 0, 3);
    let (olds, page) =
        log_of(&market, &thief.key, 42, Lane::CONTROL, &[admit(&by_old), (Kind::POLICY, encode(&terms))]);
    turncoat.hands_on(&mut market, &olds, &page);
    market.heal();
    market.until("who was away knows the new one's word", 60_000, |market| {
        [1, 3, 4]
            .into_iter()
            .all(|at| state_of(market, at, by_new.id()) == "valid" && state_of(market, at, old) == "revoked")
    });
    market.run_for(10_000);
    for at in [1, 3, 4] {
        assert_eq!(state_of(&mut market, at, by_old.id()), "unknown", "node {at}");
        let Answer::Policy(policy) = market.ask(at, Request::Policy) else { panic!() };
        assert_eq!(policy.fee_rate, "5", "node {at}");
        let (stall, own) = (market.nodes[4].id(), market.nodes[3].id());
        assert_eq!(
            (state_of(&mut market, at, stall), state_of(&mut market, at, own)),
            ("valid".into(), "valid".into())
        );
    }
}

/// What a member's entry says of another is believed no sooner than a peer's word: only a proof that proves it.
#[test]
fn a_members_entry_that_proves_no_fork_punishes_nobody() {
    let mut market = Simulation::market(52, 3);
    let (liar, witness, victim) = (2, 3, 4);
    let accused = market.nodes[victim].id();
    let head = market
        .status(witness)
        .heads
        .into_iter()
        .find(|head| head.author == accused.to_string() && head.lane == "catalog");
    let incarnation = hex::decode(head.unwrap().incarnation).unwrap();
    let lie = |sequence: u64, previous: Vec<u8>| {
        let branch = |number: u8| payload::ForkBranch {
            headers: vec![payload::ForkHeader {
                timestamp: 1,
                kind: 64,
                payload_root: vec![number; 32],
                ..Default::default()
            }],
            signature: vec![number; 64],
        };
        encode(&payload::ForkProof {
            author: accused.as_bytes().to_vec(),
            incarnation: incarnation.clone(),
            lane: Lane::CATALOG.0,
            sequence,
            previous,
            branches: vec![branch(1), branch(2)],
        })
    };
    let lies =
        [lie(0, Vec::new()), lie(0, vec![1; 32]), lie(1, Vec::new()), lie(2, vec![1; 32]), lie(u64::MAX, vec![1; 32])];
    let turncoat = Turncoat::of(&mut market, liar, witness);
    for (lane, incarnation) in [(Lane::SIGNAL, 50), (Lane::CONTROL, 51)] {
        for (number, kind) in [Kind::FORK_PROOF, Kind::FORK_RESTATED].into_iter().enumerate() {
            let said: Vec<_> = lies.iter().map(|bytes| (kind, bytes.clone())).collect();
            let (log, page) = log_of(&market, &turncoat.key, incarnation + 10 * number as u8, lane, &said);
            turncoat.hands_on(&mut market, &log, &page);
        }
    }
    market.run_for(20_000);
    for at in [0, 1, witness, victim] {
        assert_eq!(state_of(&mut market, at, accused), "valid", "node {at}");
        assert!(market.status(at).notices.iter().all(|notice| !notice.contains("two histories")), "node {at}");
        assert_eq!(market.products(at, Some("stall-3")).len(), 3, "node {at}");
    }
    market.sell(victim, "an honest sale");
    market.until("it counts", 60_000, |market| market.settle(true).posted == 1);
}
