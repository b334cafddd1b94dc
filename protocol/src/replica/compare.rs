//! Finding out what differs: fingerprints of everything, then of runs of it, then what is in the runs that differ.
//!
//! Who met before says what changed since, against what both had then ([`super::agreed`]). All others compare one
//! fingerprint. Where it differs, and both have little, each says what it has, at once. Where there is much, one of them
//! sends fingerprints of runs of logs, and each message is answered by a finer one about what differs, until it is
//! small enough to be named. Names that both have aren't said again: a run says of its logs in their order.
//!
//! What a message costs its receiver has a bound (`Budget`): a peer that asks and asks gets no answer in the end.

use super::agreed::AgreementId;
use super::clock::Lanes;
use super::delta::changes;
use super::runs::{Bound, HASH_BYTES, Run, Runs};
use super::session::LaneProgress;
use super::{Channel, Holdings, Replica, SessionId};
use crate::hash::{Domain, Hasher};
use crate::wire;

/// So many logs are said at once, with their names, and so many where the names are known: a few kilobytes. It saves a
/// round trip, which is all that a short meeting has.
const SMALL: u64 = 512;
const SMALL_IN_ORDER: u64 = 4_096;
/// Logs of a run in the first message of a comparison.
const FIRST_RUN: usize = 256;
/// Bytes of a frame, but for its last run: what is urgent needn't wait long behind it.
const FRAME_BYTES: usize = 48 * 1024;
/// What changed since a meeting is told in at most so many bytes; with more, runs cost less.
pub(super) const DELTA_MAX: usize = 64 * 1024;
/// With more logs than that in a message one byte of each hash is said. What that misses, the next fingerprint finds.
const MANY: usize = 1_024;
/// After something differed it is compared again so soon: short meetings shall end in agreement, too.
const SETTLE_MS: u64 = 5_000;
/// What an answer costs at least.
const ANSWER_COST: u64 = 64;

/// What was said of all logs together, and what it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overall {
    lanes: Lanes,
    /// The clock's version.
    version: u64,
    fingerprint: [u8; 8],
    names: [u8; 4],
    logs: u64,
}

/// A comparison that is under way.
#[derive(Debug)]
pub(super) struct Exchange {
    lanes: Lanes,
    /// The clock's version when it began: logs that came later are none of its matter.
    since: u64,
    /// Frames that the peer owes an answer.
    asked: u64,
    /// The peer speaks first, and hasn't yet.
    opening: bool,
    /// More frames of an answer follow.
    unfinished: bool,
}

/// What a peer may make this node work, in bytes to say and logs to read: it comes back with time.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: u64,
    at: u64,
}

impl Budget {
    /// Takes from it; false where there is nothing left. `max`: what comes back within `period_ms`.
    fn spend(&mut self, cost: u64, max: u64, period_ms: u64, now: u64) -> bool {
        let back = u128::from(max) * u128::from(now.saturating_sub(self.at)) / u128::from(period_ms.max(1));
        self.spent = self.spent.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX));
        self.at = now;
        if self.spent >= max {
            return false;
        }
        self.spent = self.spent.saturating_add(cost);
        true
    }
}

/// What became of what differed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Settling {
    /// Nothing did.
    #[default]
    Even,
    /// It is compared again soon.
    Soon,
    /// It was.
    Late,
}

/// State of comparing with one peer.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Keys all fingerprints: nobody can prepare two clocks that look alike.
    pub(super) key: [u8; 32],
    /// What the peer wants to compare.
    their_lanes: Lanes,
    /// What was said and is not answered yet.
    pub(super) told: Option<Overall>,
    exchange: Option<Exchange>,
    /// The version of the clock when both agreed, as this side said in its greeting.
    pub(super) offered: Option<u64>,
    /// The same, as the peer said: what it was told is what changed since.
    pub(super) based: Option<u64>,
    /// The peer's first summary crosses what changed here, and needs no answer.
    pub(super) passes_over_summary: bool,
    budget: Budget,
    /// After a comparison that didn't settle, more of the hashes is said.
    prefix_bytes: usize,
    settling: Settling,
}

impl Comparison {
    /// With what this side's greeting names.
    pub(super) fn new(offered: Option<u64>) -> Self {
        Comparison {
            key: [0; 32],
            their_lanes: Lanes::ALL,
            told: None,
            exchange: None,
            offered,
            based: None,
            passes_over_summary: false,
            budget: Budget::default(),
            prefix_bytes: 2,
            settling: Settling::default(),
        }
    }

    pub(super) fn greeted(&mut self, own_nonce: &[u8; 16], their_nonce: &[u8; 16]) {
        let (low, high) = (own_nonce.min(their_nonce), own_nonce.max(their_nonce));
        self.key = *Hasher::new(Domain::Fingerprint).bytes(low).bytes(high).finish().as_bytes();
    }

    /// What was under way ends.
    fn abandon(&mut self) {
        (self.told, self.exchange) = (None, None);
    }

    /// The peer is told of other lanes from now on. Which ones it compares it says anew.
    pub(super) fn lanes_change(&mut self) {
        self.abandon();
        self.their_lanes = Lanes::ALL;
    }

    /// A comparison that fell due begins. What still differs after a whole period may differ in hashes alone.
    pub(super) fn falls_due(&mut self) {
        self.abandon();
        match self.settling {
            Settling::Even => {}
            Settling::Soon => self.settling = Settling::Late,
            Settling::Late => self.prefix_bytes = HASH_BYTES,
        }
    }

    /// Whether a comparison is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.told.is_some() || self.exchange.is_some()
    }
}

impl Replica {
    fn lanes_with(&self, session: SessionId) -> Lanes {
        let Some(state) = self.sessions.get(&session) else { return Lanes::NONE };
        state.own_lanes().both(state.comparison.their_lanes)
    }

    /// Both have greeted: what changed since they agreed, or what there is.
    pub(super) fn begin_comparison(&mut self, session: SessionId, agreed: &[u8]) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let version = if state.restricted { None } else { self.agreed.version(&state.peer, agreed) };
        if let Some(version) = version {
            let changes = changes(&self.clock, version);
            if changes.len() <= DELTA_MAX {
                state.comparison.based = Some(version);
                state.comparison.passes_over_summary = true;
                return self.send_delta(session, changes, false);
            }
        }
        self.send_summary(session, false);
    }

    fn overall(&mut self, session: SessionId) -> Option<Overall> {
        let lanes = self.lanes_with(session);
        let digest = self.clock.digest(lanes);
        let key = self.sessions.get(&session)?.comparison.key;
        let keyed = |hash: &crate::hash::Hash| Hasher::keyed(&key, Domain::Fingerprint).bytes(hash.as_bytes()).finish();
        let mut names = [0; 4];
        names.copy_from_slice(&keyed(&digest.names).as_bytes()[..4]);
        let fingerprint = keyed(&digest.heads).prefix();
        Some(Overall { lanes, version: self.clock.version(), fingerprint, names, logs: digest.logs })
    }

    /// Says what there is, all together.
    pub(super) fn send_summary(&mut self, session: SessionId, answer: bool) {
        let Some(overall) = self.overall(session).filter(|overall| overall.lanes != Lanes::NONE) else { return };
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.comparison.told = Some(overall);
        let summary = wire::Summary {
            fingerprint: overall.fingerprint.to_vec(),
            names: overall.names.to_vec(),
            logs: overall.logs,
            lanes: overall.lanes.to_wire(),
            answer,
        };
        self.send(session, Channel::Live, wire::frame::Body::Summary(summary));
    }

    pub(super) fn handle_summary(&mut self, session: SessionId, summary: &wire::Summary, now: u64) {
        let (Ok(fingerprint), Ok(names)) =
            (<[u8; 8]>::try_from(&*summary.fingerprint), <[u8; 4]>::try_from(&*summary.names))
        else {
            return self.close(session, "E_DECODE: a damaged summary");
        };
        let Some(state) = self.sessions.get_mut(&session) else { return };
        if std::mem::take(&mut state.comparison.passes_over_summary) {
            return;
        }
        let lanes = Lanes::from_wire(summary.lanes);
        state.comparison.their_lanes = lanes;
        let both = state.own_lanes().both(lanes);
        let told = state.comparison.told.filter(|told| told.lanes == both);
        if both != lanes {
            // It compares more than it is told of: it learns that from what this side says, or has said already.
            if told.is_none() && !summary.answer {
                self.send_summary(session, false);
            }
            return;
        }
        let told = match told {
            Some(told) => told,
            // Its question was another one, or there was none.
            None if summary.answer => return,
            None => {
                if !self.may_answer(session, ANSWER_COST, now) {
                    return;
                }
                self.send_summary(session, true);
                match self.sessions.get(&session).and_then(|state| state.comparison.told) {
                    Some(told) => told,
                    None => return,
                }
            }
        };
        if let Some(state) = self.sessions.get_mut(&session) {
            state.comparison.told = None;
        }
        let theirs = Overall { lanes, version: 0, fingerprint, names, logs: summary.logs };
        if theirs.fingerprint == told.fingerprint {
            self.agree(session, &told, now);
        } else {
            self.begin_exchange(session, &told, &theirs, now);
        }
    }

    fn agree(&mut self, session: SessionId, told: &Overall, now: u64) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.theirs.agreed(told.version, &self.clock);
        state.progress = LaneProgress::Known;
        state.comparison.exchange = None;
        state.comparison.prefix_bytes = 2;
        state.comparison.settling = Settling::Even;
        // Whoever has something new asks earlier.
        let quiet = self.clock.version() == told.version;
        state.compare_at = now + if quiet { self.limits.quiet_compare_ms } else { self.limits.compare_ms };
        if told.lanes == Lanes::ALL && !state.restricted {
            let mut id: AgreementId = [0; 4];
            id.copy_from_slice(&told.fingerprint[..4]);
            self.agreed.remember(state.peer, id, told.version);
        }
    }

    fn begin_exchange(&mut self, session: SessionId, told: &Overall, theirs: &Overall, now: u64) {
        let (lanes, since) = (told.lanes, told.version);
        let own_incarnation = self.incarnation;
        let Some(state) = self.sessions.get_mut(&session) else { return };
        if state.progress == LaneProgress::Unknown {
            state.progress = LaneProgress::Comparing;
        }
        state.theirs.begin(since, &self.clock);
        let in_order = told.names == theirs.names;
        let small = |logs: u64| logs <= if in_order { SMALL_IN_ORDER } else { SMALL };
        let first = (state.own_nonce, Some(own_incarnation)) < (state.their_nonce, state.incarnation);
        let (own_small, theirs_small) = (small(told.logs), small(theirs.logs));
        let opening = if own_small { theirs_small } else { theirs_small || !first };
        state.comparison.exchange = Some(Exchange { lanes, since, asked: 0, opening, unfinished: false });
        let comparison = &state.comparison;
        let items = || self.clock.items(lanes, since, Bound::none().first(), None);
        let runs = match (own_small, theirs_small) {
            (true, _) => comparison.listed(&items(), &Bound::none(), !theirs_small, in_order),
            (false, false) if first => comparison.parted(&items(), &Bound::none(), FIRST_RUN),
            (false, _) => return,
        };
        let cost = runs.len() as u64 * 16 + told.logs;
        if self.may_answer(session, cost, now) {
            self.send_runs(session, Bound::none(), runs);
        }
    }

    /// Whether the peer has anything left of what it may make this node do.
    pub(super) fn may_answer(&mut self, session: SessionId, cost: u64, now: u64) -> bool {
        let max = 64 * 1024 + 128 * self.clock.len() as u64;
        let period = self.limits.compare_ms;
        self.sessions
            .get_mut(&session)
            .is_some_and(|state| state.comparison.budget.spend(cost.max(ANSWER_COST), max, period, now))
    }

    /// Sends runs in as many frames as it takes; one at least.
    pub(super) fn send_runs(&mut self, session: SessionId, from: Bound, all: Vec<(Bound, Run)>) {
        let Some(state) = self.sessions.get(&session) else { return };
        let listed: usize = all.iter().map(|(_, run)| run.listed()).sum();
        let prefix = state.comparison.prefix_bytes;
        // With many the fingerprint that is compared soon finds what one byte misses.
        let prefix = if prefix < HASH_BYTES && listed > MANY { 1 } else { prefix };
        let Some(lanes) = state.comparison.exchange.as_ref().map(|exchange| exchange.lanes) else { return };
        let mut frames: Vec<Runs> = Vec::new();
        let (mut at, mut bytes, mut fresh) = (from, 0, true);
        for (end, run) in all {
            if run == Run::Same && fresh {
                // What both have at the beginning isn't said.
            } else {
                if fresh || bytes > FRAME_BYTES {
                    frames.push(Runs { prefix, from: at.clone(), runs: Vec::new() });
                    bytes = 0;
                }
                fresh = false;
                if let Some(frame) = frames.last_mut() {
                    match frame.runs.last_mut() {
                        Some((last, Run::Same)) if run == Run::Same => *last = end.clone(),
                        _ => {
                            bytes += run.length(prefix);
                            frame.runs.push((end.clone(), run));
                        }
                    }
                }
            }
            at = end;
        }
        for frame in &mut frames {
            while frame.runs.last().is_some_and(|(_, run)| *run == Run::Same) {
                frame.runs.pop();
            }
        }
        frames.retain(|frame| !frame.runs.is_empty());
        let asking = frames.iter().filter(|frame| frame.asks()).count() as u64;
        let last = frames.len().saturating_sub(1);
        let bodies: Vec<(Vec<u8>, bool)> = if frames.is_empty() {
            vec![(Vec::new(), false)]
        } else {
            frames.iter().enumerate().map(|(index, frame)| (frame.encode(), index < last)).collect()
        };
        if let Some(exchange) = self.sessions.get_mut(&session).and_then(|state| state.comparison.exchange.as_mut()) {
            exchange.asked += asking;
        }
        for (runs, more) in bodies {
            let body = wire::Runs { runs, more, lanes: lanes.to_wire() };
            self.send(session, Channel::Live, wire::frame::Body::Runs(body));
        }
    }

    pub(super) fn handle_runs(&mut self, session: SessionId, message: &wire::Runs, now: u64, holdings: &dyn Holdings) {
        let lanes = Lanes::from_wire(message.lanes);
        let Some(state) = self.sessions.get(&session) else { return };
        let Some(exchange) = state.comparison.exchange.as_ref().filter(|exchange| exchange.lanes == lanes) else {
            return;
        };
        let since = exchange.since;
        let read = if message.runs.is_empty() { None } else { Some(Runs::decode(&message.runs)) };
        let runs = match read.transpose() {
            Ok(runs) => runs,
            Err(error) => return self.close(session, &error.to_string()),
        };
        let logs = self.clock.len() as u64;
        if !self.may_answer(session, message.runs.len() as u64 + logs.min(16 * message.runs.len() as u64), now) {
            // Later, from the beginning.
            if let Some(state) = self.sessions.get_mut(&session) {
                state.comparison.abandon();
            }
            return;
        }
        if let Some(runs) = runs {
            let asks = runs.asks();
            let (answer, touched) = self.answer_runs(session, lanes, since, &runs, holdings);
            if asks {
                let cost = answer.iter().map(|(_, run)| run.length(runs.prefix) as u64).sum::<u64>();
                self.may_answer(session, cost, now);
                self.send_runs(session, runs.from, answer);
            }
            self.consider_all(touched, now);
        }
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let Some(exchange) = &mut state.comparison.exchange else { return };
        exchange.unfinished = message.more;
        if !message.more {
            if exchange.opening {
                exchange.opening = false;
            } else {
                exchange.asked = exchange.asked.saturating_sub(1);
            }
        }
        if exchange.asked == 0 && !exchange.opening && !exchange.unfinished {
            state.comparison.exchange = None;
            self.know(session, now);
        }
    }

    /// All that a peer has is known, and that it isn't the same.
    pub(super) fn know(&mut self, session: SessionId, now: u64) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.progress = LaneProgress::Known;
        if state.comparison.settling == Settling::Even {
            state.comparison.settling = Settling::Soon;
            state.compare_at = state.compare_at.min(now + SETTLE_MS);
        }
    }
}
