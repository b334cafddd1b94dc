//! Whole sequences of messages: two honest state machines and a third one whose messages are dropped, repeated, altered
//! and invented as the input says. Whatever it does, the two end up with the same, keep their link to each other, stay
//! within their bounds, and don't panic.
//!
//! Nothing here knows a message by name: what is altered are frames that real state machines made, field by field.

use std::collections::{BTreeMap, VecDeque};

use prost::Message;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::replica::{Channel, Holdings, Limits, Output, PageOutcome, Replica, SessionId};
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Lane, LogName, MarketId};

use super::mutate::{Draw, mutated};

targets! {
    sessions(600, 600) |bytes| Market::new(bytes).run();
    comparisons(1_500, 1_000) comparisons_check;
}

/// What is said of clocks, as bytes: each message is the length that the input says. Nothing panics, and one answer isn't
/// longer than all that there is to say.
fn comparisons_check(bytes: &[u8]) {
    let mut market = Market::new(&[30, 30, 30]);
    let session = market.nodes[0].sessions[HOSTILE].unwrap();
    while market.arrive(HOSTILE, 0) || market.arrive(0, HOSTILE) {}
    let mut draw = Draw::new(bytes);
    while !draw.is_empty() {
        let length = draw.below(200) as usize;
        let said = (0..length).map(|_| draw.below(256) as u8).collect::<Vec<_>>();
        let body = match draw.below(4) {
            0 => Body::Delta(wire::Delta { changes: said, own: draw.below(2) == 0 }),
            1 => Body::Summary(wire::Summary {
                fingerprint: vec![draw.below(256) as u8; 8],
                names: vec![1; 4],
                logs: draw.below(10_000),
                lanes: draw.below(3) * 2,
                answer: draw.below(2) == 0,
            }),
            // As it is, or as it could be: a hash of two bytes, from the first on, a run without an end.
            2 => Body::Runs(wire::Runs { runs: said, more: draw.below(4) == 0, lanes: 0 }),
            _ => Body::Runs(wire::Runs { runs: [&[2, 0, 0], said.as_slice()].concat(), more: false, lanes: 0 }),
        };
        let frame = wire::Frame { body: Some(body) }.encode_to_vec();
        let node = &mut market.nodes[0];
        node.replica.handle_frame(session, &frame, market.now, &node.held);
        let mut closed = false;
        while let Some(output) = node.replica.poll_output() {
            match output {
                Output::Send { frame, .. } => assert!(frame.len() < 2_000, "{} bytes", frame.len()),
                Output::Close { .. } => closed = true,
                _ => {}
            }
        }
        if closed {
            return;
        }
    }
}

/// Steps that an input may take.
const STEPS_MAX: usize = 300;
/// Entries of a page, so that a log takes several.
const PAGE_ENTRIES: u64 = 8;
/// Within so many virtual milliseconds after the last lie both hold the same: some comparisons, and the longest wait that
/// a peer can ask for.
const HEALED_MS: u64 = 300_000;
/// What a state machine may remember of this market, in characters of its debugging text: some 40 kB where all is well.
const STATE_MAX: usize = 400_000;
const HOSTILE: usize = 2;

/// What one node holds: of each log how far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held(BTreeMap<LogName, u64>);

fn hash_of(log: &LogName, sequence: u64) -> Hash {
    let hasher = Hasher::new(Domain::Blob).bytes(log.author.as_bytes()).bytes(log.incarnation.as_bytes());
    hasher.u32(log.lane.0).u64(sequence).finish()
}

fn head_of(log: &LogName, sequence: u64) -> Head {
    Head { sequence, hash: if sequence == 0 { Hash::ZERO } else { hash_of(log, sequence) } }
}

/// Stands for a signed page: none but the author could have made the tag.
fn page_of(log: &LogName, first: u64, last: u64) -> Vec<u8> {
    let tag = Hasher::new(Domain::Part).bytes(hash_of(log, first).as_bytes()).u64(first).u64(last).finish();
    [&first.to_le_bytes(), &last.to_le_bytes(), tag.as_bytes().as_slice(), &[0; 900]].concat()
}

fn read_page(log: &LogName, page: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = page.split_first_chunk::<8>()?;
    let (last, _) = rest.split_first_chunk::<8>()?;
    let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    (first > 0 && first <= last && page_of(log, first, last) == page).then_some((first, last))
}

impl Holdings for Held {
    fn page(&self, log: &LogName, from: u64, to: u64, _bytes_max: usize) -> Option<(Vec<u8>, u64)> {
        let last = to.min(*self.0.get(log)?).min(from.saturating_add(PAGE_ENTRIES - 1));
        (from > 0 && from <= last).then(|| (page_of(log, from, last), last))
    }

    fn hash_at(&self, log: &LogName, sequence: u64) -> Option<Hash> {
        (sequence > 0 && sequence <= *self.0.get(log)?).then(|| hash_of(log, sequence))
    }

    fn blob(&self, hash: &Hash) -> Option<Vec<u8>> {
        (hash.as_bytes()[0] == 0).then(|| vec![1; 100])
    }
}

struct Node {
    device: DeviceId,
    replica: Replica,
    held: Held,
    /// The session with each other node, while it is open.
    sessions: [Option<SessionId>; 3],
}

/// In the order in which they were sent.
type Frames = VecDeque<(Channel, Vec<u8>)>;

struct Market<'a> {
    draw: Draw<'a>,
    now: u64,
    nodes: Vec<Node>,
    next_session: u64,
    /// Frames on their way, from and to.
    wires: BTreeMap<(usize, usize), Frames>,
    /// Frames that were sent, to be said again by somebody else.
    recorded: Vec<Vec<u8>>,
}

impl<'a> Market<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let market = MarketId::from_bytes([1; 32]);
        let nodes = (0..3_u8).map(|number| Node {
            device: DeviceId::from_bytes([number + 1; 32]),
            replica: Replica::new(market, Incarnation::from_bytes([number + 1; 16]), Limits::default()),
            held: Held::default(),
            sessions: [None; 3],
        });
        let nodes = nodes.collect();
        let mut draw = Draw::new(bytes);
        let before = [draw.below(40), draw.below(40), draw.below(40)];
        let mut market =
            Market { draw, now: 1_000, nodes, next_session: 1, wires: BTreeMap::new(), recorded: Vec::new() };
        // What each has written before they meet.
        for (node, entries) in before.into_iter().enumerate() {
            for lane in Lane::KEPT_BY_ALL.into_iter().take(entries as usize % 4) {
                let log = market.log(node, lane);
                market.nodes[node].held.0.insert(log, entries);
                market.nodes[node].replica.load(log, head_of(&log, entries));
            }
        }
        for (one, other) in [(0, 1), (0, HOSTILE), (1, HOSTILE)] {
            market.connect(one, other);
        }
        market
    }

    fn log(&self, author: usize, lane: Lane) -> LogName {
        LogName {
            author: self.nodes[author].device,
            incarnation: Incarnation::from_bytes([author as u8 + 1; 16]),
            lane,
        }
    }

    fn connect(&mut self, one: usize, other: usize) {
        for (own, peer) in [(one, other), (other, one)] {
            if self.nodes[own].sessions[peer].is_some() {
                return;
            }
            let session = SessionId(self.next_session);
            self.next_session += 1;
            let device = self.nodes[peer].device;
            let node = &mut self.nodes[own];
            node.sessions[peer] = Some(session);
            let mut nonce = [own as u8; 16];
            nonce[..8].copy_from_slice(&session.0.to_le_bytes());
            node.replica.open_session(session, device, false, nonce, self.now);
            self.drain(own);
        }
    }

    fn cut(&mut self, one: usize, other: usize) {
        for (own, peer) in [(one, other), (other, one)] {
            if let Some(session) = self.nodes[own].sessions[peer].take() {
                self.nodes[own].replica.close_session(session);
                self.drain(own);
            }
            self.wires.remove(&(own, peer));
        }
    }

    /// A node's own log grows.
    fn write(&mut self, author: usize, lane: Lane, entries: u64) {
        let log = self.log(author, lane);
        let node = &mut self.nodes[author];
        let head = node.held.0.entry(log).or_default();
        *head += entries;
        let head = head_of(&log, *head);
        node.replica.note_head(log, head, None, self.now, &node.held);
        self.drain(author);
    }

    fn peer(&self, node: usize, session: SessionId) -> Option<usize> {
        self.nodes[node].sessions.iter().position(|known| *known == Some(session))
    }

    /// Carries out what a node wants.
    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].replica.poll_output() {
            match output {
                Output::Send { session, channel, frame } => {
                    let Some(peer) = self.peer(node, session) else { continue };
                    if self.recorded.len() < 400 {
                        self.recorded.push(frame.clone());
                    }
                    self.wires.entry((node, peer)).or_default().push_back((channel, frame));
                }
                Output::Deliver { session, request, log, page, .. } => self.deliver(node, session, request, log, &page),
                Output::Close { session, reason, .. } => {
                    if let Some(peer) = self.peer(node, session) {
                        // What the input leaves lying for 15 seconds is silence, and nobody's fault.
                        let fair = reason.starts_with("E_SILENT") || peer == HOSTILE || node == HOSTILE;
                        assert!(fair, "{node} ended its link to {peer}: {reason}");
                        self.cut(node, peer);
                    }
                }
                _ => {}
            }
        }
    }

    fn deliver(&mut self, node: usize, session: SessionId, request: u64, log: LogName, page: &[u8]) {
        if !log.lane.is_kept_by_all() {
            return;
        }
        let Some((first, last)) = read_page(&log, page) else {
            // As the engine does: its sender's link ends.
            if let Some(peer) = self.peer(node, session) {
                assert!(peer == HOSTILE || node == HOSTILE, "{node} was sent a page that doesn't hold by {peer}");
                self.cut(node, peer);
            }
            return;
        };
        let now = self.now;
        let state = &mut self.nodes[node];
        let held = state.held.0.entry(log).or_default();
        let outcome = if last <= *held {
            PageOutcome::Duplicate
        } else if first > *held + 1 {
            PageOutcome::Gap
        } else {
            *held = last;
            PageOutcome::Stored
        };
        let head = head_of(&log, *held);
        state.replica.note_head(log, head, Some(session), now, &state.held);
        state.replica.page_result(session, request, log, head_of(&log, last), outcome, now);
    }

    /// The next frame from one to another arrives, as it is.
    fn arrive(&mut self, from: usize, to: usize) -> bool {
        let Some((channel, frame)) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return false;
        };
        if let Some(session) = self.nodes[from].sessions[to] {
            let node = &mut self.nodes[from];
            node.replica.handle_sent(session, channel, frame.len(), &node.held);
            self.drain(from);
        }
        self.hand_over(from, to, &frame);
        true
    }

    fn hand_over(&mut self, from: usize, to: usize, frame: &[u8]) {
        if let Some(session) = self.nodes[to].sessions[from] {
            let node = &mut self.nodes[to];
            node.replica.handle_frame(session, frame, self.now, &node.held);
            self.drain(to);
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            node.replica.handle_timeout(self.now, &node.held);
            self.drain(number);
        }
    }

    /// One thing happens, as the input says.
    fn step(&mut self) {
        let honest = self.draw.below(2) as usize;
        match self.draw.below(16) {
            0 => {
                let milliseconds = [1, 25, 150, 3_500][self.draw.below(4) as usize];
                self.pass(milliseconds);
            }
            1 => {
                let lane = Lane::KEPT_BY_ALL[self.draw.below(4) as usize];
                let (author, entries) = (self.draw.below(3) as usize, 1 + self.draw.below(30));
                self.write(author, lane, entries);
            }
            2 => drop(self.arrive(honest, 1 - honest)),
            3 => while self.arrive(honest, 1 - honest) {},
            4 => drop(self.arrive(honest, HOSTILE)),
            5 => while self.arrive(honest, HOSTILE) {},
            // The hostile one says what its state machine says,
            6 | 7 => drop(self.arrive(HOSTILE, honest)),
            // or nothing,
            8 => drop(self.wires.get_mut(&(HOSTILE, honest)).and_then(VecDeque::pop_front)),
            // or something like it,
            9 | 10 => {
                let frame = self.wires.get_mut(&(HOSTILE, honest)).and_then(VecDeque::pop_front);
                let frame = frame.map_or_else(Vec::new, |(_, frame)| mutated(&frame, &mut self.draw));
                self.hand_over(HOSTILE, honest, &frame);
            }
            // or what anybody said before, to anybody, as it was or nearly.
            11 | 12 if !self.recorded.is_empty() => {
                let which = self.draw.below(self.recorded.len() as u64) as usize;
                let frame = self.recorded[which].clone();
                self.hand_over(HOSTILE, honest, &frame);
            }
            13 | 14 if !self.recorded.is_empty() => {
                let which = self.draw.below(self.recorded.len() as u64) as usize;
                let frame = mutated(&self.recorded[which].clone(), &mut self.draw);
                self.hand_over(HOSTILE, honest, &frame);
            }
            _ => match self.draw.below(6) {
                0 => self.cut(0, 1),
                1 => self.cut(honest, HOSTILE),
                2 => {
                    let restricted = self.draw.below(2) == 0;
                    if let Some(session) = self.nodes[honest].sessions[HOSTILE] {
                        self.nodes[honest].replica.set_restricted(session, restricted);
                        self.drain(honest);
                    }
                }
                3 => self.connect(0, 1),
                _ => self.connect(honest, HOSTILE),
            },
        }
    }

    fn run(mut self) {
        // It may leave, or stay and say nothing.
        let leaves = self.draw.below(2) == 0;
        for _ in 0..STEPS_MAX {
            if self.draw.is_empty() {
                break;
            }
            self.step();
        }
        if leaves {
            self.cut(0, HOSTILE);
            self.cut(1, HOSTILE);
        }
        self.connect(0, 1);
        let end = self.now + HEALED_MS;
        loop {
            while self.arrive(0, 1) || self.arrive(1, 0) {}
            let [one, other] = [0, 1].map(|node| &self.nodes[node].held.0);
            let mut logs = one.keys().chain(other.keys());
            if logs.all(|log| one.get(log).unwrap_or(&0) == other.get(log).unwrap_or(&0)) {
                break;
            }
            assert!(self.now < end, "they don't agree:\n{one:?}\n{other:?}");
            let due = [0, 1].into_iter().filter_map(|node| self.nodes[node].replica.poll_timeout()).min();
            self.pass(due.map_or(1_000, |at| at.saturating_sub(self.now)).clamp(1, 5_000));
        }
        // What honest ones wrote is what is held of it, and no log has more than its author wrote.
        for node in 0..2 {
            for (log, held) in &self.nodes[node].held.0 {
                let author = usize::from(log.author.as_bytes()[0]).checked_sub(1).filter(|author| *author < 3);
                let written = author.and_then(|author| self.nodes[author].held.0.get(log)).copied().unwrap_or(0);
                assert!(*held <= written, "{log:?}: {held} of {written}");
            }
            let state = format!("{:?}", self.nodes[node].replica).len();
            assert!(state <= STATE_MAX, "node {node} remembers {state} characters");
        }
    }
}
