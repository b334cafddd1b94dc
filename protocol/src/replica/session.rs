//! Sessions: greeting, and what falls due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::catch_up::Serving;
use super::clock::Lanes;
use super::compare::Comparison;
use super::theirs::Theirs;
use super::{Channel, Limits, Output, Replica, SessionId, VERSION};
use crate::id::{DeviceId, Incarnation, Lane, LogName};
use crate::wire;

/// How far the comparison with one peer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneProgress {
    /// Nothing was said yet.
    #[default]
    Unknown,
    /// The fingerprints differ; clocks are under way.
    Comparing,
    /// The peer's clock is known: new entries can be pushed.
    Known,
}

/// After so many periods without an answer a comparison begins anew.
const UNANSWERED_MAX: u32 = 4;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    /// The device at the other end.
    pub(super) peer: DeviceId,
    /// A revoked or expired device: it is told of `control` and of nothing else.
    pub(super) restricted: bool,
    /// Its incarnation, once it has greeted.
    pub(super) incarnation: Option<Incarnation>,
    pub(super) own_nonce: [u8; 16],
    pub(super) their_nonce: [u8; 16],
    pub(super) greeted: bool,
    pub(super) progress: LaneProgress,
    pub(super) comparison: Comparison,
    /// What the peer has.
    pub(super) theirs: Theirs,
    /// Authors whose entries are only announced to the peer.
    pub(super) lazy: BTreeSet<DeviceId>,
    /// Announcements that wait to be sent together.
    pub(super) haves: BTreeSet<LogName>,
    pub(super) haves_at: Option<u64>,
    /// What the peer asked for.
    pub(super) serving: VecDeque<Serving>,
    pub(super) bulk_in_flight: usize,
    /// Own requests that are outstanding with the peer.
    pub(super) asked: usize,
    /// What the peer has more of, and isn't asked for while so much else is; most urgent first.
    pub(super) waiting: BTreeSet<(usize, LogName)>,
    /// The transport doesn't tell when the peer is gone.
    pings: bool,
    pub(super) heard_at: u64,
    pinged_at: u64,
    pub(super) compare_at: u64,
    /// Periods in which a comparison wasn't answered.
    unanswered: u32,
}

impl Session {
    /// Whether the peer is told of a lane at all.
    pub(super) fn may_have(&self, lane: Lane) -> bool {
        !self.restricted || lane == Lane::CONTROL
    }

    /// Lanes that the peer is told of.
    pub(super) fn own_lanes(&self) -> Lanes {
        if self.restricted { Lanes::CONTROL } else { Lanes::ALL }
    }

    /// A peer that doesn't greet is no use; one that did is gone when its transport says so, or doesn't answer pings.
    fn dead_at(&self, limits: &Limits) -> Option<u64> {
        (self.pings || !self.greeted).then_some(self.heard_at + limits.dead_ms)
    }

    fn ping_at(&self, limits: &Limits) -> Option<u64> {
        self.pings.then_some(self.heard_at.max(self.pinged_at) + limits.ping_ms)
    }

    pub(super) fn next_timeout(&self, limits: &Limits) -> Option<u64> {
        let compare = self.greeted.then_some(self.compare_at);
        [self.dead_at(limits), self.ping_at(limits), self.haves_at, compare].into_iter().flatten().min()
    }
}

impl Replica {
    /// A link to a member is up. `nonce` must be 16 fresh random bytes. A `restricted` peer, one that was revoked or
    /// whose certificate has ended, gets `control` and hands in what it has.
    pub fn open_session(&mut self, session: SessionId, peer: DeviceId, restricted: bool, nonce: [u8; 16], now: u64) {
        let agreed = if restricted { None } else { self.agreed.newest(&peer) };
        let comparison = Comparison::new(agreed.map(|(_, version)| version));
        let state = Session {
            peer,
            restricted,
            incarnation: None,
            own_nonce: nonce,
            their_nonce: [0; 16],
            greeted: false,
            progress: LaneProgress::Unknown,
            comparison,
            theirs: Theirs::default(),
            lazy: BTreeSet::new(),
            haves: BTreeSet::new(),
            haves_at: None,
            serving: VecDeque::new(),
            bulk_in_flight: 0,
            asked: 0,
            waiting: BTreeSet::new(),
            pings: false,
            heard_at: now,
            pinged_at: now,
            compare_at: now + self.limits.compare_ms,
            unanswered: 0,
        };
        self.sessions.insert(session, state);
        let hello = wire::Hello {
            version: VERSION,
            market: self.market.as_bytes().to_vec(),
            incarnation: self.incarnation.as_bytes().to_vec(),
            nonce: nonce.to_vec(),
            addresses: self.addresses.clone(),
            status: Some(self.status.clone()),
            agreed: agreed.map(|(id, _)| id.to_vec()).unwrap_or_default(),
        };
        self.send(session, Channel::Live, wire::frame::Body::Hello(hello));
    }

    /// The transport of a session doesn't tell when the peer is gone: it is pinged, and given up when it is silent.
    pub fn ping(&mut self, session: SessionId) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.pings = true;
        }
    }

    /// Restricts an open session, or lifts its restriction; the link stays as it is.
    pub fn set_restricted(&mut self, session: SessionId, restricted: bool) {
        let Some(state) = self.sessions.get_mut(&session).filter(|state| state.restricted != restricted) else {
            return;
        };
        state.restricted = restricted;
        state.comparison.lanes_change();
        if restricted {
            state.serving.retain(|serving| serving.lane() == Lane::CONTROL);
            state.haves.retain(|log| log.lane == Lane::CONTROL);
            return;
        }
        // Nothing was said of the other lanes, or not for long: they begin anew, as with a peer that was just met.
        state.progress = LaneProgress::Unknown;
        if state.greeted {
            self.send_evidence(session);
            self.send_summary(session, false);
        }
    }

    fn send_evidence(&mut self, session: SessionId) {
        for proof in self.evidence.values().cloned().collect::<Vec<_>>() {
            self.send(session, Channel::Live, wire::frame::Body::Evidence(wire::Evidence { fork_proof: proof }));
        }
    }

    /// A link is gone. What was asked of it is asked of others.
    pub fn close_session(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.forget_requests(session);
            self.forget_blob_requests(session);
        }
    }

    /// Sessions that are open: (session, device, incarnation once it has greeted).
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, DeviceId, Option<Incarnation>)> + '_ {
        self.sessions.iter().map(|(session, state)| (*session, state.peer, state.incarnation))
    }

    /// How many entries of each log of a lane some peer says it has and we lack: more than nothing. It is what they say:
    /// a peer may claim any number.
    pub fn lacked(&self, lane: Lane) -> BTreeMap<LogName, u64> {
        let mut lacked: BTreeMap<LogName, u64> = BTreeMap::new();
        for (log, sequence) in self.sessions.values().flat_map(|state| state.theirs.told()) {
            let known = self.clock.get(log);
            let limit = known.and_then(|known| known.limit).map_or(u64::MAX, |limit| limit.sequence);
            let missing = limit.min(sequence).saturating_sub(known.map_or(0, |known| known.head.sequence));
            if log.lane == lane && missing > 0 {
                let most = lacked.entry(*log).or_insert(0);
                *most = missing.max(*most);
            }
        }
        lacked
    }

    /// How far the comparison with a peer has come, and how many entries of a lane the peer has and we lack. Where more
    /// is lacking than is remembered, at least one.
    pub fn progress(&self, session: SessionId, lane: Lane) -> (LaneProgress, u64) {
        let Some(state) = self.sessions.get(&session) else { return (LaneProgress::Unknown, 0) };
        let missing = state
            .theirs
            .told()
            .filter(|(log, _)| log.lane == lane)
            .map(|(log, sequence)| match self.clock.get(log) {
                Some(known) => {
                    let last = known.limit.map_or(u64::MAX, |limit| limit.sequence).min(sequence);
                    last.saturating_sub(known.head.sequence)
                }
                None => sequence,
            })
            // A peer may claim any number, of as many logs as it likes.
            .fold(u64::from(state.theirs.has_overflowed()), u64::saturating_add);
        (state.progress, missing)
    }

    pub(super) fn handle_hello(&mut self, session: SessionId, hello: wire::Hello, now: u64) {
        if hello.version != VERSION {
            let reason = format!("E_UNSUPPORTED: protocol version {}; this node speaks {VERSION}", hello.version);
            return self.close(session, &reason);
        }
        if hello.market != self.market.as_bytes() {
            return self.close(session, "E_WRONG_MARKET: it belongs to another market");
        }
        let (Ok(incarnation), Ok(nonce)) =
            (Incarnation::try_from(hello.incarnation.as_slice()), <[u8; 16]>::try_from(hello.nonce.as_slice()))
        else {
            return self.close(session, "E_DECODE: a damaged hello");
        };
        let Some(state) = self.sessions.get_mut(&session) else { return };
        if state.greeted {
            return self.close(session, "E_DECODE: a second hello");
        }
        state.greeted = true;
        state.incarnation = Some(incarnation);
        state.their_nonce = nonce;
        state.comparison.greeted(&state.own_nonce, &nonce);
        state.compare_at = now + self.limits.compare_ms;
        self.outputs.push_back(Output::Greeted { session, incarnation, addresses: hello.addresses });
        if let Some(status) = hello.status {
            self.outputs.push_back(Output::Status { session, status });
        }
        if !self.is_restricted(session) {
            self.send_evidence(session);
            self.ask_newcomer_for_blobs(session, now);
        }
        self.begin_comparison(session, &hello.agreed);
    }

    /// Remembers that a peer has at least this of a log.
    pub(super) fn note_theirs(&mut self, session: SessionId, log: LogName, sequence: u64) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.theirs.raise(log, sequence, &self.clock, self.limits.told_max);
        }
    }

    pub(super) fn session_timeouts(&mut self, now: u64) {
        let limits = self.limits;
        let due: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, state)| state.next_timeout(&limits).is_some_and(|at| at <= now))
            .map(|(session, _)| *session)
            .collect();
        for session in due {
            let Some(state) = self.sessions.get_mut(&session) else { continue };
            if state.dead_at(&limits).is_some_and(|at| at <= now) {
                self.close_session(session);
                let reason = "E_SILENT: nothing was heard for too long".to_owned();
                self.outputs.push_back(Output::Close { session, reason, fault: false });
                continue;
            }
            if state.ping_at(&limits).is_some_and(|at| at <= now) {
                state.pinged_at = now;
                self.send(session, Channel::Live, wire::frame::Body::Ping(wire::Ping { nonce: now }));
            }
            if self.sessions.get(&session).and_then(|state| state.haves_at).is_some_and(|at| at <= now) {
                self.flush_haves(session);
            }
            if let Some(state) = self.sessions.get_mut(&session)
                && state.greeted
                && state.compare_at <= now
            {
                state.compare_at = now + limits.compare_ms;
                if state.comparison.is_busy() && state.unanswered < UNANSWERED_MAX {
                    state.unanswered += 1;
                    continue;
                }
                state.unanswered = 0;
                state.comparison.falls_due();
                self.send_summary(session, false);
            }
        }
    }
}
