//! Two who meet find out what the other has more of: exactly that, whatever they had agreed on, in few bytes; and one who
//! lies about it is remembered and answered within bounds.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use prost::Message;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::replica::{Holdings, LaneProgress, Limits, Output, Replica, SessionId};
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Lane, LogName, MarketId};

/// What comes with a frame on its stream.
const LENGTH_PREFIX: usize = 4;

/// Of each log how far, and which history.
type Held = BTreeMap<LogName, (u64, u8)>;

struct Heads<'a>(&'a Held);

impl Holdings for Heads<'_> {
    fn page(&self, _: &LogName, _: u64, _: u64, _: usize) -> Option<(Vec<u8>, u64)> {
        None
    }

    fn hash_at(&self, log: &LogName, sequence: u64) -> Option<Hash> {
        let (newest, branch) = self.0.get(log)?;
        (sequence <= *newest).then(|| head(log, sequence, *branch).hash)
    }

    fn blob(&self, _: &Hash) -> Option<Vec<u8>> {
        None
    }
}

fn head(log: &LogName, sequence: u64, branch: u8) -> Head {
    let hasher = Hasher::new(Domain::Blob).bytes(log.author.as_bytes()).bytes(log.incarnation.as_bytes());
    Head { sequence, hash: hasher.u32(log.lane.0).u64(sequence).bytes(&[branch]).finish() }
}

/// As devices' keys are: anywhere.
fn log(device: u32, incarnation: u8, lane: Lane) -> LogName {
    let author = Hasher::new(Domain::Blob).u32(device).finish();
    let own = Hasher::new(Domain::Blob).u32(device).bytes(&[incarnation]).finish();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&own.as_bytes()[..16]);
    LogName { author: DeviceId::from_bytes(*author.as_bytes()), incarnation: Incarnation::from_bytes(bytes), lane }
}

struct Side {
    replica: Replica,
    held: Held,
    session: SessionId,
    /// Logs that it has asked the other for.
    asked: BTreeSet<LogName>,
    /// The same as they came, at all meetings.
    order: Vec<LogName>,
}

impl Side {
    fn new(number: u8, held: Held) -> Side {
        Side::within(number, held, Limits::default())
    }

    fn within(number: u8, held: Held, limits: Limits) -> Side {
        // All that is lacking is asked for at once: what is asked for shows what is known.
        let limits = Limits { asked_max: usize::MAX, ..limits };
        let market = MarketId::from_bytes([7; 32]);
        let mut replica = Replica::new(market, Incarnation::from_bytes([number; 16]), limits);
        held.iter().for_each(|(log, (sequence, branch))| replica.load(*log, head(log, *sequence, *branch)));
        Side { replica, held, session: SessionId(0), asked: BTreeSet::new(), order: Vec::new() }
    }

    fn grow(&mut self, log: LogName, by: u64, now: u64) {
        let (sequence, branch) = self.held.entry(log).or_insert((0, 0));
        *sequence += by;
        let head = head(&log, *sequence, *branch);
        self.replica.note_head(log, head, None, now, &Heads(&self.held));
        while self.replica.poll_output().is_some() {}
    }

    /// What the other one has more of.
    fn lacks(&self, other: &Held) -> BTreeSet<LogName> {
        let own = |log: &LogName| self.held.get(log).map_or(0, |(sequence, _)| *sequence);
        other.iter().filter(|(log, (sequence, _))| *sequence > own(log)).map(|(log, _)| *log).collect()
    }
}

struct Pair {
    sides: [Side; 2],
    now: u64,
    meetings: u8,
    bytes: usize,
}

impl Pair {
    fn new(one: Held, other: Held) -> Pair {
        Pair { sides: [Side::new(1, one), Side::new(2, other)], now: 0, meetings: 0, bytes: 0 }
    }

    fn part(&mut self) {
        for side in &mut self.sides {
            side.replica.close_session(side.session);
            side.asked.clear();
            while side.replica.poll_output().is_some() {}
        }
    }

    /// They meet; `lost` drops frames, by sender and message.
    fn meet(&mut self, lost: impl FnMut(usize, &Body) -> bool) {
        self.meetings += 1;
        self.bytes = 0;
        for (number, side) in self.sides.iter_mut().enumerate() {
            side.session = SessionId(u64::from(self.meetings) * 10 + number as u64);
            let peer = DeviceId::from_bytes([2 - number as u8; 32]);
            let nonce = Hasher::new(Domain::Blob).bytes(&[self.meetings, number as u8]).finish();
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&nonce.as_bytes()[..16]);
            side.replica.open_session(side.session, peer, false, bytes, self.now);
        }
        self.talk(lost);
    }

    /// Until nobody has anything to say, while no time passes. What is asked for isn't given.
    fn talk(&mut self, mut lost: impl FnMut(usize, &Body) -> bool) {
        let mut wires: [VecDeque<Vec<u8>>; 2] = Default::default();
        loop {
            for (number, side) in self.sides.iter_mut().enumerate() {
                while let Some(output) = side.replica.poll_output() {
                    match output {
                        Output::Send { frame, .. } => {
                            let body = wire::Frame::decode(frame.as_slice()).unwrap().body.unwrap();
                            match &body {
                                Body::Want(want) => {
                                    let log = want.log.as_ref().unwrap().to_domain().unwrap();
                                    side.asked.insert(log);
                                    side.order.push(log);
                                    continue;
                                }
                                Body::Hello(hello) => self.bytes += hello.agreed.len() + 2 * hello.agreed.len().min(1),
                                _ => self.bytes += frame.len() + LENGTH_PREFIX,
                            }
                            if !lost(number, &body) {
                                wires[1 - number].push_back(frame);
                            }
                        }
                        Output::Close { reason, .. } => panic!("{number}: {reason}"),
                        _ => {}
                    }
                }
            }
            let arrived = [0, 1].map(|number| wires[number].pop_front());
            if arrived.iter().all(Option::is_none) {
                break;
            }
            for (number, frame) in arrived.into_iter().enumerate() {
                let side = &mut self.sides[number];
                if let Some(frame) = frame {
                    side.replica.handle_frame(side.session, &frame, self.now, &Heads(&side.held));
                }
            }
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        for side in &mut self.sides {
            side.replica.handle_timeout(self.now, &Heads(&side.held));
        }
    }

    /// Each knows of all that it lacks, and of nothing else.
    fn assert_known(&self) {
        for number in 0..2 {
            let (side, other) = (&self.sides[number], &self.sides[1 - number]);
            let lacks = side.lacks(&other.held);
            let probed = |log: &LogName| {
                let [one, other] = [&side.held, &other.held].map(|held| held.get(log).copied().unwrap_or_default());
                one.1 != other.1
            };
            let asked: BTreeSet<LogName> = side.asked.iter().copied().filter(|log| !probed(log)).collect();
            let lacks: BTreeSet<LogName> = lacks.into_iter().filter(|log| !probed(log)).collect();
            assert_eq!(asked, lacks, "side {number}");
            let forked = side.held.keys().any(probed);
            for lane in Lane::KEPT_BY_ALL {
                let (progress, missing) = side.replica.progress(side.session, lane);
                assert_eq!(progress, LaneProgress::Known, "side {number}");
                let own = |log: &LogName| side.held.get(log).map_or(0, |(sequence, _)| *sequence);
                let all = other.held.iter().filter(|(log, _)| log.lane == lane);
                let all: u64 = all.map(|(log, (sequence, _))| sequence.saturating_sub(own(log))).sum();
                assert!(forked || missing == all, "side {number}, {lane}: {missing} of {all}");
            }
        }
    }

    /// Both get what they lack, from wherever, and agree.
    fn even_out(&mut self) {
        for number in 0..2 {
            let other = self.sides[1 - number].held.clone();
            for log in self.sides[number].lacks(&other) {
                let by = other[&log].0 - self.sides[number].held.get(&log).map_or(0, |(sequence, _)| *sequence);
                self.sides[number].grow(log, by, self.now);
            }
        }
    }
}

fn any_log() -> impl Strategy<Value = LogName> {
    (0..60_u32, 0..3_u8, 0..4_usize)
        .prop_map(|(device, incarnation, lane)| log(device, incarnation, Lane::KEPT_BY_ALL[lane]))
}

/// What one of them gets while they are apart.
fn any_growth(max: usize) -> impl Strategy<Value = Vec<(bool, LogName, u64)>> {
    prop::collection::vec((any::<bool>(), any_log(), 1..300_u64), 0..max)
}

/// A market of so many devices, with five logs each.
fn market(devices: u32) -> Held {
    let mut held = Held::new();
    for device in 0..devices {
        for lane in Lane::KEPT_BY_ALL {
            held.insert(log(device, 0, lane), (50 + u64::from(device) % 500, 0));
        }
        held.insert(log(device, 1, Lane::CATALOG), (700 + u64::from(device) % 90, 0));
    }
    held
}

fn apply(pair: &mut Pair, growth: &[(bool, LogName, u64)]) {
    for (second, log, by) in growth {
        let now = pair.now;
        pair.sides[usize::from(*second)].grow(*log, *by, now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whoever_meets_knows_what_the_other_has_more_of(
        (common, before, between, after) in (any_growth(400), any_growth(40), any_growth(30), any_growth(40)),
        // Large markets compare in runs: these are made of many logs that nobody changes.
        (crowd, crowd_of_other) in (prop_oneof![Just(0_u32), Just(900)], prop_oneof![Just(0_u32), Just(900), Just(880)]),
        (lost, forgets, restarts) in (0..5_u8, any::<bool>(), 0..3_usize),
    ) {
        let mut held: [Held; 2] = [crowd_of(crowd), crowd_of(crowd_of_other)];
        for (_, log, by) in &common {
            held.iter_mut().for_each(|held| { held.insert(*log, (*by, 0)); });
        }
        let [one, other] = held;
        let mut pair = Pair::new(one, other);
        apply(&mut pair, &before);
        pair.meet(|_, _| false);
        pair.assert_known();

        // They agree, both of it or one of it alone: an answer may be lost with the link.
        pair.even_out();
        pair.pass(40_000);
        let mut summaries = 0;
        pair.talk(|_, body| {
            summaries += u8::from(matches!(body, Body::Summary(_)));
            lost > 0 && summaries >= lost
        });
        pair.part();
        apply(&mut pair, &between);
        if forgets {
            // Their next meeting is short, and one of them hears nothing.
            pair.meet(|sender, _| sender == 1);
            pair.part();
        }
        if restarts < 2 {
            let side = &mut pair.sides[restarts];
            *side = Side::new(restarts as u8 + 1, std::mem::take(&mut side.held));
        }
        apply(&mut pair, &after);
        pair.meet(|_, _| false);
        pair.assert_known();
    }

    #[test]
    fn another_history_is_asked_for(
        forked in prop::collection::btree_map(any_log(), 1..40_u64, 1..20), crowd in prop_oneof![Just(0_u32), Just(900)],
    ) {
        let mut held: [Held; 2] = [crowd_of(crowd), crowd_of(crowd)];
        for (log, sequence) in &forked {
            held[0].insert(*log, (*sequence, 0));
            held[1].insert(*log, (*sequence, 1));
        }
        let [one, other] = held;
        let mut pair = Pair::new(one, other);
        pair.meet(|_, _| false);
        // One of them at least looks back, of nearly all: what two bytes of a hash miss is found a period later.
        pair.pass(40_000);
        pair.talk(|_, _| false);
        pair.pass(40_000);
        pair.talk(|_, _| false);
        pair.pass(40_000);
        pair.talk(|_, _| false);
        for log in forked.keys() {
            let looks = pair.sides.iter().any(|side| side.asked.contains(log));
            prop_assert!(looks, "{log:?}");
        }
    }
}

#[test]
fn what_is_urgent_is_asked_for_first() {
    let mut pair = Pair::new(Held::new(), market(60));
    pair.meet(|_, _| false);
    let place = |log: &LogName| Lane::KEPT_BY_ALL.iter().position(|lane| *lane == log.lane);
    let order: Vec<_> = pair.sides[0].order.iter().map(place).collect();
    assert_eq!(order.len(), 300);
    assert!(order.is_sorted());
}

#[test]
fn two_who_agree_say_nothing_until_one_has_something_new_and_then_it_cannot_get_lost() {
    let mut pair = Pair::new(market(60), market(60));
    pair.meet(|_, _| false);
    pair.bytes = 0;
    for _ in 0..9 {
        pair.pass(60_000);
        pair.talk(|_, _| false);
    }
    assert_eq!(pair.bytes, 0);
    // What is said of it at once goes nowhere.
    let new = log(3, 0, Lane::SIGNAL);
    let now = pair.now;
    pair.sides[0].grow(new, 1, now);
    pair.pass(Limits::default().compare_ms);
    pair.talk(|_, body| matches!(body, Body::Have(_)));
    assert_eq!(pair.sides[1].order, [new]);
}

#[test]
fn what_is_more_than_can_be_remembered_is_compared_again_when_there_is_room() {
    let mut pair = Pair::new(Held::new(), market(400));
    pair.sides[0] = Side::within(1, Held::new(), Limits { told_max: 300, ..Limits::default() });
    pair.meet(|_, _| false);
    for round in 0.. {
        let asked = std::mem::take(&mut pair.sides[0].asked);
        if asked.is_empty() {
            break;
        }
        assert!(asked.len() <= 300 && round < 12, "{} logs in round {round}", asked.len());
        let (progress, missing) = pair.sides[0].replica.progress(pair.sides[0].session, Lane::CATALOG);
        assert!(progress != LaneProgress::Known || missing > 0, "it is not said that nothing is missing");
        for log in asked {
            let (by, now) = (pair.sides[1].held[&log].0, pair.now);
            pair.sides[0].grow(log, by, now);
        }
        pair.pass(6_000);
        pair.talk(|_, _| false);
    }
    assert_eq!(pair.sides[0].held, pair.sides[1].held);
}

fn crowd_of(count: u32) -> Held {
    (1_000..1_000 + count).map(|device| (log(device, 0, Lane::CATALOG), (5, 0))).collect()
}

/// Bytes that two who had agreed need, when so many logs have changed at one of them.
fn meeting_again(changed: usize) -> usize {
    let held = market(10_000);
    let mut pair = Pair::new(held.clone(), held);
    pair.meet(|_, _| false);
    pair.part();
    let logs: Vec<LogName> = pair.sides[0].held.keys().copied().collect();
    let step = logs.len() / changed;
    for index in 0..changed {
        pair.sides[0].grow(logs[index * step], 1, 0);
    }
    pair.meet(|_, _| false);
    pair.assert_known();
    pair.bytes
}

/// Bytes that two who never met need, where so many devices have written something at one side.
fn first_meeting(devices: u32, ahead: usize) -> usize {
    let held = market(10_000);
    let mut sides = [held.clone(), held];
    for device in 0..devices {
        let device = device * (10_000 / devices.max(1));
        for (log, (sequence, _)) in &mut sides[ahead] {
            if log.author == self::log(device, 0, Lane::CONTROL).author {
                *sequence += 3;
            }
        }
        if devices == 10_000 {
            break;
        }
    }
    if devices == 10_000 {
        sides[ahead].values_mut().for_each(|(sequence, _)| *sequence += 3);
    }
    let [one, other] = sides;
    let mut pair = Pair::new(one, other);
    pair.meet(|_, _| false);
    // More is lacking than is remembered: it is compared with again.
    if devices < 10_000 {
        pair.assert_known();
    }
    pair.bytes
}

#[test]
fn what_two_say_to_each_other_grows_with_what_differs() {
    for (changed, most) in [(1, 40), (100, 600), (10_000, 45_000)] {
        let bytes = meeting_again(changed);
        assert!(bytes <= most, "{changed} changed: {bytes} bytes");
    }
    for ahead in [0, 1] {
        for (devices, most) in [(0, 12_000), (100, 65_000), (10_000, 260_000)] {
            let bytes = first_meeting(devices, ahead);
            assert!(bytes <= most, "{devices} devices, {ahead} ahead: {bytes} bytes");
        }
    }
}

#[test]
fn what_a_liar_makes_up_is_remembered_and_answered_within_bounds() {
    let (mut pair, told_max) = (Pair::new(market(300), market(300)), Limits::default().told_max);
    // As a node is: it asks for a few things at a time.
    let usual = Replica::new(MarketId::from_bytes([7; 32]), Incarnation::from_bytes([1; 16]), Limits::default());
    pair.sides[0].replica = usual;
    for (log, (sequence, branch)) in &pair.sides[0].held {
        pair.sides[0].replica.load(*log, head(log, *sequence, *branch));
    }
    pair.meet(|_, _| false);
    let (mut said, mut heard) = (0, 0);
    for round in 0..200_u32 {
        // One says that all is different, and names logs that nobody has, in each way that there is.
        let summary =
            wire::Summary { fingerprint: vec![round as u8; 8], names: vec![1; 4], logs: 1, ..Default::default() };
        let mut runs = vec![2, 0, 0, 4];
        let count = 2_000_u32;
        runs.extend([0x80 | (count & 0x7f) as u8, (count >> 7) as u8]);
        for made_up in 0..count {
            runs.push(0);
            runs.extend_from_slice(Hasher::new(Domain::Blob).u32(round).u32(made_up).finish().as_bytes());
            runs.extend_from_slice(&[9; 16]);
            runs.extend_from_slice(&[3, 200, 1, 5, 5]);
        }
        let named = (0..500_u32).map(|made_up| wire::HaveLog {
            log: Some((&log(1_000_000 + round * 1_000 + made_up, 0, Lane::SIGNAL)).into()),
            sequence: u64::MAX,
            prefix: vec![1, 2],
        });
        let have = wire::Have { logs: named.collect() };
        let prune =
            |made_up: u32| wire::Prune { author: Hasher::new(Domain::Blob).u32(made_up).finish().as_bytes().to_vec() };
        let bodies = [
            Body::Summary(summary),
            Body::Runs(wire::Runs { runs, more: false, lanes: 0 }),
            Body::Delta(wire::Delta { changes: vec![], own: false }),
            Body::Have(have),
            Body::Prune(prune(round)),
        ];
        for body in bodies {
            let frame = wire::Frame { body: Some(body) }.encode_to_vec();
            said += frame.len();
            let side = &mut pair.sides[0];
            side.replica.handle_frame(side.session, &frame, pair.now, &Heads(&side.held));
            while let Some(output) = side.replica.poll_output() {
                match output {
                    Output::Send { frame, .. } => heard += frame.len(),
                    Output::Close { reason, .. } => panic!("{reason}"),
                    _ => {}
                }
            }
        }
        pair.now += 10;
        let side = &mut pair.sides[0];
        side.replica.handle_timeout(pair.now, &Heads(&side.held));
    }
    // 128 for each log, and 64 kB; what goes beyond is one answer, and a few requests for what it claims to have.
    let answers = 64 * 1024 + 128 * 1_500;
    assert!(heard <= 2 * answers, "{heard} bytes were sent for {said}");
    let state = format!("{:?}", pair.sides[0].replica).len();
    let (own, each) = (1_500 * 400, 250);
    assert!(state <= own + told_max * each, "{state} characters are remembered");
    // It lied to one session: another one is as it was.
    pair.part();
    pair.meet(|_, _| false);
    pair.assert_known();
}
