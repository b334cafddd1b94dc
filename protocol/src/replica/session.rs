//! Sessions: greeting, comparing lanes, and staying alive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::catch_up::Serving;
use super::{Channel, Holdings, Limits, Output, Replica, SessionId, VERSION};
use crate::hash::{Domain, Hash, Hasher};
use crate::id::{DeviceId, Incarnation, Lane, LogName};
use crate::wire;

/// How far the comparison of one lane with one peer has come.
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

/// What a peer is known to have of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Theirs {
    pub(super) sequence: u64,
    pub(super) prefix: Vec<u8>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    /// The device at the other end.
    pub(super) peer: DeviceId,
    /// A revoked or expired device: it is told of `control` and of nothing else.
    pub(super) restricted: bool,
    /// Its incarnation, once it has greeted.
    pub(super) incarnation: Option<Incarnation>,
    own_nonce: [u8; 16],
    their_nonce: [u8; 16],
    pub(super) greeted: bool,
    pub(super) lanes: BTreeMap<Lane, LaneProgress>,
    /// What the peer has, log by log.
    pub(super) theirs: BTreeMap<LogName, Theirs>,
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
    pub(super) heard_at: u64,
    pinged_at: u64,
    compare_at: u64,
    /// After a comparison that didn't settle, prefixes are longer.
    prefix_bytes: usize,
}

impl Session {
    /// Whether the peer is told of a lane at all.
    pub(super) fn may_have(&self, lane: Lane) -> bool {
        !self.restricted || lane == Lane::CONTROL
    }

    pub(super) fn next_timeout(&self, limits: &Limits) -> Option<u64> {
        let dead = self.heard_at + limits.dead_ms;
        let ping = self.heard_at.max(self.pinged_at) + limits.ping_ms;
        [Some(dead), Some(ping), self.haves_at, self.greeted.then_some(self.compare_at)].into_iter().flatten().min()
    }
}

impl Replica {
    /// A link to a member is up. `nonce` must be 16 fresh random bytes. A `restricted` peer, one that was revoked or
    /// whose certificate has ended, gets `control` and hands in what it has.
    pub fn open_session(&mut self, session: SessionId, peer: DeviceId, restricted: bool, nonce: [u8; 16], now: u64) {
        let state = Session {
            peer,
            restricted,
            incarnation: None,
            own_nonce: nonce,
            their_nonce: [0; 16],
            greeted: false,
            lanes: BTreeMap::new(),
            theirs: BTreeMap::new(),
            lazy: BTreeSet::new(),
            haves: BTreeSet::new(),
            haves_at: None,
            serving: VecDeque::new(),
            bulk_in_flight: 0,
            asked: 0,
            heard_at: now,
            pinged_at: now,
            compare_at: now + self.limits.compare_ms,
            prefix_bytes: 2,
        };
        self.sessions.insert(session, state);
        let hello = wire::Hello {
            version: VERSION,
            market: self.market.as_bytes().to_vec(),
            incarnation: self.incarnation.as_bytes().to_vec(),
            nonce: nonce.to_vec(),
            addresses: self.addresses.clone(),
            status: Some(self.status.clone()),
        };
        self.send(session, Channel::Live, wire::frame::Body::Hello(hello));
    }

    /// Restricts an open session, or lifts its restriction; the link stays as it is.
    pub fn set_restricted(&mut self, session: SessionId, restricted: bool) {
        let Some(state) = self.sessions.get_mut(&session).filter(|state| state.restricted != restricted) else {
            return;
        };
        state.restricted = restricted;
        if restricted {
            state.serving.retain(|serving| serving.lane() == Lane::CONTROL);
            state.haves.retain(|log| log.lane == Lane::CONTROL);
            return;
        }
        // Nothing was said of the other lanes, or not for long: they begin anew, as with a peer that was just met.
        state.lanes.retain(|lane, _| *lane == Lane::CONTROL);
        if state.greeted {
            self.send_evidence(session);
            for lane in Lane::KEPT_BY_ALL.into_iter().filter(|lane| *lane != Lane::CONTROL) {
                // The peer has said its own summary already, and may not do so again for a while: so the clock goes
                // along unasked, or it would not know what it may ask for.
                self.send_summary(session, lane);
                self.send_clock(session, lane);
            }
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
            for want in self.blobs.values_mut().filter(|want| want.asked.contains(&session)) {
                want.deadline = want.deadline.map(|_| 0);
            }
        }
    }

    /// Sessions that are open: (session, device, incarnation once it has greeted).
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, DeviceId, Option<Incarnation>)> + '_ {
        self.sessions.iter().map(|(session, state)| (*session, state.peer, state.incarnation))
    }

    /// How far the comparison of a lane has come, and how many of its entries the peer has and we lack.
    pub fn progress(&self, session: SessionId, lane: Lane) -> (LaneProgress, u64) {
        let Some(state) = self.sessions.get(&session) else { return (LaneProgress::Unknown, 0) };
        let missing = state
            .theirs
            .iter()
            .filter(|(log, _)| log.lane == lane)
            .map(|(log, theirs)| match self.known(log) {
                Some(known) => {
                    let last = known.limit.map_or(u64::MAX, |limit| limit.sequence).min(theirs.sequence);
                    last.saturating_sub(known.head.sequence)
                }
                None => theirs.sequence,
            })
            // A peer may claim any number, of as many logs as it likes.
            .fold(0, u64::saturating_add);
        (state.lanes.get(&lane).copied().unwrap_or_default(), missing)
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
        state.compare_at = now + self.limits.compare_ms;
        self.outputs.push_back(Output::Greeted { session, incarnation, addresses: hello.addresses });
        if let Some(status) = hello.status {
            self.outputs.push_back(Output::Status { session, status });
        }
        if !self.is_restricted(session) {
            self.send_evidence(session);
        }
        for lane in Lane::KEPT_BY_ALL {
            self.send_summary(session, lane);
        }
    }

    /// The hash of a lane's whole clock, and how many logs it has.
    fn digest(&mut self, lane: Lane) -> (Hash, u64) {
        if let Some(known) = self.digests.get(&lane) {
            return *known;
        }
        let mut hasher = Hasher::new(Domain::Fingerprint).u32(lane.0);
        let mut logs = 0;
        for (log, known) in self.clock.get(&lane).into_iter().flatten() {
            hasher = hasher
                .bytes(log.author.as_bytes())
                .bytes(log.incarnation.as_bytes())
                .u64(known.low)
                .u64(known.head.sequence)
                .bytes(known.head.hash.as_bytes());
            logs += 1;
        }
        let digest = (hasher.finish(), logs);
        self.digests.insert(lane, digest);
        digest
    }

    /// 16 bytes of it, keyed with both nonces: nobody can prepare two clocks that look alike.
    fn fingerprint(&mut self, session: SessionId, lane: Lane) -> Option<([u8; 16], u64)> {
        let (digest, logs) = self.digest(lane);
        let state = self.sessions.get(&session)?;
        let (low, high) = (state.own_nonce.min(state.their_nonce), state.own_nonce.max(state.their_nonce));
        let hash = Hasher::new(Domain::Fingerprint).bytes(&low).bytes(&high).u32(lane.0).bytes(digest.as_bytes());
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&hash.finish().as_bytes()[..16]);
        Some((fingerprint, logs))
    }

    fn send_summary(&mut self, session: SessionId, lane: Lane) {
        if !self.sessions.get(&session).is_some_and(|state| state.may_have(lane)) {
            return;
        }
        let Some((fingerprint, logs)) = self.fingerprint(session, lane) else { return };
        let summary = wire::Summary { lane: lane.0, fingerprint: fingerprint.to_vec(), logs };
        self.send(session, Channel::Live, wire::frame::Body::Summary(summary));
    }

    pub(super) fn handle_summary(&mut self, session: SessionId, summary: &wire::Summary) {
        let lane = Lane(summary.lane);
        if !lane.is_kept_by_all() {
            return;
        }
        if !self.sessions.get(&session).is_some_and(|state| state.may_have(lane)) {
            return;
        }
        let Some((own, _)) = self.fingerprint(session, lane) else { return };
        if summary.fingerprint == own {
            let theirs: Vec<(LogName, Theirs)> = self
                .clock
                .get(&lane)
                .into_iter()
                .flatten()
                .map(|(log, known)| {
                    let prefix = known.head.hash.prefix().to_vec();
                    (*log, Theirs { sequence: known.head.sequence, prefix })
                })
                .collect();
            if let Some(state) = self.sessions.get_mut(&session) {
                state.theirs.extend(theirs);
                state.lanes.insert(lane, LaneProgress::Known);
                state.prefix_bytes = 2;
            }
            return;
        }
        if let Some(state) = self.sessions.get_mut(&session) {
            let progress = state.lanes.entry(lane).or_default();
            if *progress == LaneProgress::Unknown {
                *progress = LaneProgress::Comparing;
            }
        }
        self.send_clock(session, lane);
    }

    fn send_clock(&mut self, session: SessionId, lane: Lane) {
        let Some(state) = self.sessions.get(&session) else { return };
        let prefix_bytes = state.prefix_bytes;
        let logs: Vec<wire::ClockLog> = self
            .clock
            .get(&lane)
            .into_iter()
            .flatten()
            .map(|(log, known)| wire::ClockLog {
                author: log.author.as_bytes().to_vec(),
                incarnation: log.incarnation.as_bytes().to_vec(),
                low: known.low,
                sequence: known.head.sequence,
                prefix: known.head.hash.as_bytes()[..prefix_bytes].to_vec(),
            })
            .collect();
        let chunks = logs.chunks(self.limits.clock_logs_max).count().max(1);
        for index in 0..chunks {
            let from = index * self.limits.clock_logs_max;
            let to = (from + self.limits.clock_logs_max).min(logs.len());
            let clock = wire::Clock { lane: lane.0, complete: index + 1 == chunks, logs: logs[from..to].to_vec() };
            self.send(session, Channel::Live, wire::frame::Body::Clock(clock));
        }
    }

    pub(super) fn handle_clock(&mut self, session: SessionId, clock: &wire::Clock, now: u64, holdings: &dyn Holdings) {
        let lane = Lane(clock.lane);
        if !lane.is_kept_by_all() || !self.sessions.get(&session).is_some_and(|state| state.may_have(lane)) {
            return;
        }
        for log in &clock.logs {
            let (Ok(author), Ok(incarnation)) =
                (DeviceId::try_from(log.author.as_slice()), Incarnation::try_from(log.incarnation.as_slice()))
            else {
                return self.close(session, "E_DECODE: a damaged clock");
            };
            let name = LogName { author, incarnation, lane };
            self.note_theirs(session, name, log.sequence, &log.prefix);
            self.suspect_fork(session, name, log.sequence, &log.prefix, holdings);
            self.consider(name, now);
        }
        if clock.complete
            && let Some(state) = self.sessions.get_mut(&session)
        {
            state.lanes.insert(lane, LaneProgress::Known);
        }
    }

    /// Remembers what a peer has, as far as it says.
    pub(super) fn note_theirs(&mut self, session: SessionId, log: LogName, sequence: u64, prefix: &[u8]) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let theirs = state.theirs.entry(log).or_insert(Theirs { sequence: 0, prefix: Vec::new() });
        if theirs.sequence <= sequence {
            *theirs = Theirs { sequence, prefix: prefix.get(..8).unwrap_or(prefix).to_vec() };
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
            if state.heard_at + limits.dead_ms <= now {
                self.close_session(session);
                let reason = "E_SILENT: nothing was heard for too long".to_owned();
                self.outputs.push_back(Output::Close { session, reason, fault: false });
                continue;
            }
            if state.heard_at.max(state.pinged_at) + limits.ping_ms <= now {
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
                // What still differs after a whole period may differ in hashes alone.
                state.prefix_bytes = 8;
                for lane in Lane::KEPT_BY_ALL {
                    self.send_summary(session, lane);
                }
            }
        }
    }
}
