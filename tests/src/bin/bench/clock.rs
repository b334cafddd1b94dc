//! What two nodes say to each other to find out what differs: two state machines, no network, all bytes counted.

use std::collections::{BTreeMap, VecDeque};

use prost::Message;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::replica::{Holdings, Limits, Output, Replica, SessionId};
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Lane, LogName, MarketId};

use crate::Options;
use crate::figures::{Report, Row, Target};

/// What comes with each frame on its stream.
const LENGTH_PREFIX: usize = 4;

/// Nothing is handed over: what each lacks is all that is asked.
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

type Clock = BTreeMap<LogName, u64>;

fn log(device: u32, incarnation: u32, lane: Lane) -> LogName {
    let author = *Hasher::new(Domain::Blob).u32(device).finish().as_bytes();
    let own = *Hasher::new(Domain::Blob).u32(device).u32(incarnation).finish().as_bytes();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&own[..16]);
    LogName { author: DeviceId::from_bytes(author), incarnation: Incarnation::from_bytes(bytes), lane }
}

fn head(log: &LogName, sequence: u64) -> Head {
    let hash = Hasher::new(Domain::Blob).bytes(log.author.as_bytes()).bytes(log.incarnation.as_bytes());
    Head { sequence, hash: hash.u32(log.lane.0).u64(sequence).finish() }
}

/// So many devices with five logs each: one of each lane that everyone keeps, and one of an earlier run.
fn market(devices: u32) -> Clock {
    let mut clock = Clock::new();
    for device in 0..devices {
        for lane in Lane::KEPT_BY_ALL {
            clock.insert(log(device, 0, lane), 50 + u64::from(device) % 500);
        }
        clock.insert(log(device, 1, Lane::CATALOG), 700 + u64::from(device) % 90);
    }
    clock
}

fn replica(number: u8, clock: &Clock) -> Replica {
    let market = MarketId::from_bytes([7; 32]);
    let mut replica = Replica::new(market, Incarnation::from_bytes([number; 16]), Limits::default());
    clock.iter().for_each(|(log, sequence)| replica.load(*log, head(log, *sequence)));
    replica
}

/// Lets two meet, and counts the bytes of all frames until both know what the other has: but for the greeting, of which
/// only what names their last agreement counts.
fn meet(sides: &mut [Replica; 2], meeting: u8) -> usize {
    let session = |number: usize| SessionId(u64::from(meeting) * 2 + number as u64);
    for (number, side) in sides.iter_mut().enumerate() {
        let peer = DeviceId::from_bytes([9 - number as u8; 32]);
        side.open_session(session(number), peer, false, [meeting * 2 + number as u8; 16], 0);
    }
    let (mut bytes, mut wires) = (0, [VecDeque::new(), VecDeque::new()]);
    loop {
        for (number, side) in sides.iter_mut().enumerate() {
            while let Some(output) = side.poll_output() {
                let Output::Send { frame, .. } = output else { continue };
                match wire::Frame::decode(frame.as_slice()).ok().and_then(|frame| frame.body) {
                    Some(Body::Want(_)) => continue,
                    Some(Body::Hello(hello)) => bytes += hello.agreed.len() + 2 * usize::from(!hello.agreed.is_empty()),
                    _ => bytes += frame.len() + LENGTH_PREFIX,
                }
                wires[1 - number].push_back(frame);
            }
        }
        let arrived = [0, 1].map(|number| wires[number].pop_front());
        if arrived.iter().all(Option::is_none) {
            return bytes;
        }
        for (number, frame) in arrived.into_iter().enumerate() {
            if let Some(frame) = frame {
                sides[number].handle_frame(session(number), &frame, 0, &Nothing);
            }
        }
    }
}

fn part(sides: &mut [Replica; 2], meeting: u8) {
    for (number, side) in sides.iter_mut().enumerate() {
        side.close_session(SessionId(u64::from(meeting) * 2 + number as u64));
        while side.poll_output().is_some() {}
    }
}

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let devices = if options.quick { 400 } else { 10_000 };
    let clock = market(devices);
    let logs: Vec<LogName> = clock.keys().copied().collect();

    for (changed, most) in [(1, 40.0), (logs.len() / 500, 600.0), (logs.len() / 5, 45_000.0)] {
        let changed = changed.max(1);
        let mut sides = [replica(1, &clock), replica(2, &clock)];
        meet(&mut sides, 1);
        part(&mut sides, 1);
        for index in 0..changed {
            let log = logs[index * (logs.len() / changed)];
            sides[0].note_head(log, head(&log, clock[&log] + 1), None, 0, &Nothing);
        }
        let bytes = meet(&mut sides, 2);
        let name = format!("met before, {} logs, {changed} changed", logs.len());
        report.row(Row::new(name, bytes as f64, "B").target(Target::AtMost(most)));
    }

    for (differing, most) in [(0, 12_000.0), (devices / 100, 65_000.0), (devices, 260_000.0)] {
        // Either may be the one that speaks first: the dearer one is shown.
        let dearer = [0, 1].map(|ahead| {
            let mut newer = clock.clone();
            let authors: Vec<DeviceId> = (0..differing)
                .map(|index| log(index * (devices / differing.max(1)), 0, Lane::CONTROL).author)
                .collect();
            for author in authors {
                let first = LogName { author, incarnation: Incarnation::default(), lane: Lane(0) };
                newer.range_mut(first..).take_while(|(log, _)| log.author == author).for_each(|(_, head)| *head += 3);
            }
            let (one, other) = if ahead == 0 { (&newer, &clock) } else { (&clock, &newer) };
            meet(&mut [replica(1, one), replica(2, other)], 1)
        });
        let name = format!("first meeting, {devices} devices × 5 logs, {differing} devices differ");
        let bytes = dearer.into_iter().max().unwrap_or(0);
        report.row(Row::new(name, bytes as f64, "B").target(Target::AtMost(most)));
    }
}
