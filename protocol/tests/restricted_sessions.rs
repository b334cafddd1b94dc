//! A session whose peer gets `control` alone, for as long as it does.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;

use prost::Message;
use stallmesh_protocol::replica::{Channel, Holdings, Limits, Output, Replica, SessionId};
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Lane, LogName, MarketId};

const SESSION: SessionId = SessionId(1);

/// Nothing is held: what is asked for is all that matters here.
struct Nothing;

impl Holdings for Nothing {
    fn page(&self, _: &LogName, _: u64, _: u64, _: usize) -> Option<(Vec<u8>, u64)> {
        None
    }

    fn hash_at(&self, _: &LogName, _: u64) -> Option<Hash> {
        None
    }

    fn blob(&self, _: &Hash) -> Option<Vec<u8>> {
        None
    }
}

fn head(sequence: u64) -> Head {
    Head { sequence, hash: Hash::from_bytes([sequence as u8; 32]) }
}

fn log(lane: Lane) -> LogName {
    LogName { author: DeviceId::default(), incarnation: Incarnation::from_bytes([1; 16]), lane }
}

fn replica(number: u8) -> Replica {
    let market = MarketId::from_bytes([7; 32]);
    Replica::new(market, Incarnation::from_bytes([number; 16]), Limits::default())
}

/// Carries frames to and fro until nobody has anything to say, while no time passes. Gives the lanes of all that each
/// side has said: its summaries, clocks, notes and requests.
fn talk(sides: &mut [Replica; 2]) -> [BTreeSet<u32>; 2] {
    let mut said = [BTreeSet::new(), BTreeSet::new()];
    loop {
        let mut quiet = true;
        for from in 0..2 {
            while let Some(output) = sides[from].poll_output() {
                let Output::Send { frame, channel: Channel::Live | Channel::Bulk, .. } = output else { continue };
                quiet = false;
                said[from].extend(lanes(&frame));
                sides[1 - from].handle_frame(SESSION, &frame, 0, &Nothing);
            }
        }
        if quiet {
            return said;
        }
    }
}

fn lanes(frame: &[u8]) -> Vec<u32> {
    let of_log = |log: &Option<wire::LogName>| log.as_ref().map(|log| log.lane);
    match wire::Frame::decode(frame).unwrap().body {
        Some(Body::Summary(wire::Summary { lanes, .. }) | Body::Runs(wire::Runs { lanes, .. })) => {
            let lanes = if lanes == 0 { 0b1_1110 } else { lanes };
            (0..64).filter(|lane| lanes >> lane & 1 == 1).collect()
        }
        Some(Body::Want(want)) => of_log(&want.log).into_iter().collect(),
        Some(Body::Have(have)) => have.logs.iter().filter_map(|have| of_log(&have.log)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn when_a_restriction_is_lifted_the_peer_learns_at_once_what_it_may_ask_for() {
    // The second one restricts the first, and has what the first hasn't.
    let mut sides = [replica(1), replica(2)];
    for lane in Lane::KEPT_BY_ALL {
        sides[1].load(log(lane), head(3));
    }
    sides[0].open_session(SESSION, DeviceId::default(), false, [1; 16], 0);
    sides[1].open_session(SESSION, DeviceId::default(), true, [2; 16], 0);
    let control = BTreeSet::from([Lane::CONTROL.0]);
    let said = talk(&mut sides);
    assert_eq!(said[1], control);
    assert!(said[0].is_superset(&control));
    sides[1].note_head(log(Lane::CATALOG), head(4), None, 0, &Nothing);
    sides[1].handle_timeout(1_000, &Nothing);
    assert!(talk(&mut sides)[1].is_subset(&control), "nothing new is announced to it");

    sides[1].set_restricted(SESSION, false);
    let all: BTreeSet<u32> = Lane::KEPT_BY_ALL.iter().map(|lane| lane.0).collect();
    let [asked, told] = talk(&mut sides);
    assert_eq!([&asked, &told], [&all, &all]);
    let missing = sides[0].progress(SESSION, Lane::CATALOG).1;
    assert_eq!(missing, 4, "also what was new while it was restricted");

    sides[1].set_restricted(SESSION, true);
    sides[1].note_head(log(Lane::CATALOG), head(5), None, 2_000, &Nothing);
    sides[1].handle_timeout(3_000, &Nothing);
    assert!(talk(&mut sides)[1].is_subset(&control), "and it can be restricted again");
}
