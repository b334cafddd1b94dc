//! Catch-up: asking for what is missing, one peer a log at a time, and serving what peers ask for.

use std::collections::BTreeMap;

use super::{Channel, Holdings, Output, PageOutcome, RESTRICTED, RefusalCode, Replica, SessionId, pack, unpack};
use crate::id::{Head, Lane, LogName};
use crate::page::PAGE_MAX;
use crate::wire;

/// With room again for what a peer has, it is compared with after this time.
const MORE_MS: u64 = 1_000;

/// The place of a lane that everyone keeps among them: less is more urgent.
fn urgency(lane: Lane) -> usize {
    Lane::KEPT_BY_ALL.iter().position(|other| *other == lane).unwrap_or(Lane::KEPT_BY_ALL.len())
}

/// Something that a peer asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serving {
    request: u64,
    log: LogName,
    next: u64,
    to: u64,
}

impl Serving {
    pub(super) fn lane(&self) -> Lane {
        self.log.lane
    }
}

/// A log of which somebody has more than we do.
#[derive(Clone, Debug, Default)]
pub(super) struct Want {
    asked: Option<Asked>,
    /// Peers that didn't deliver: not to be asked again before this time.
    failed: BTreeMap<SessionId, u64>,
    /// After a mere announcement: not to be asked for before this time, for it may be on its way.
    not_before: Option<u64>,
    /// A second history is suspected: the sequence to ask back from, and whom.
    probe: Option<(SessionId, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    session: SessionId,
    request: u64,
    deadline: u64,
}

impl Want {
    pub(super) fn next_timeout(&self) -> Option<u64> {
        let asked = self.asked.map(|asked| asked.deadline);
        let retry = if self.asked.is_none() { self.failed.values().copied().min() } else { None };
        let later = if self.asked.is_none() { self.not_before } else { None };
        [asked, retry, later].into_iter().flatten().min()
    }
}

impl Replica {
    /// Asks for logs, what is urgent before what isn't.
    pub(super) fn consider_all(&mut self, mut logs: Vec<LogName>, now: u64) {
        logs.sort_by_key(|log| (urgency(log.lane), *log));
        logs.into_iter().for_each(|log| self.consider(log, now));
    }

    /// Asks for a log where somebody has more of it than we do and nobody was asked yet.
    pub(super) fn consider(&mut self, log: LogName, now: u64) {
        if self.put_off.contains(&log) {
            return;
        }
        let known = self.known(&log).copied();
        let own = known.map_or(0, |known| known.head.sequence);
        let lacks = |sequence: u64| known.map_or(sequence > 0, |known| known.lacks(sequence));
        let behind =
            self.sessions.values().any(|state| state.greeted && lacks(state.theirs.sequence(&log, known.as_ref())));
        let probing = self.wants.get(&log).is_some_and(|want| want.probe.is_some());
        if !behind && !probing {
            if let Some(want) = self.wants.remove(&log)
                && let Some(asked) = want.asked
            {
                self.release(asked.session);
            }
            return;
        }
        let limits = self.limits;
        let want = self.wants.entry(log).or_default();
        if want.asked.is_some() || want.not_before.is_some_and(|at| at > now) {
            return;
        }
        want.failed.retain(|_, until| *until > now);
        let (session, from) = match want.probe {
            Some((session, from)) if self.sessions.contains_key(&session) => (session, from),
            _ => {
                let candidate = self
                    .sessions
                    .iter()
                    .filter(|(session, state)| {
                        state.greeted
                            && state.asked < limits.asked_max
                            && !want.failed.contains_key(session)
                            && state.theirs.sequence(&log, known.as_ref()) > own
                    })
                    .min_by_key(|(_, state)| state.asked);
                match candidate {
                    Some((session, _)) => (*session, own + 1),
                    None => {
                        // Everybody who has it is busy, or has failed and is tried again after a while.
                        let urgency = urgency(log.lane);
                        for (session, state) in &mut self.sessions {
                            if !want.failed.contains_key(session) && state.theirs.sequence(&log, known.as_ref()) > own {
                                state.waiting.insert((urgency, log));
                            }
                        }
                        if want.failed.is_empty() {
                            self.wants.remove(&log);
                        }
                        return;
                    }
                }
            }
        };
        want.not_before = None;
        let request = self.next_request;
        self.next_request += 1;
        want.asked = Some(Asked { session, request, deadline: now + limits.request_ms });
        if let Some(state) = self.sessions.get_mut(&session) {
            state.asked += 1;
        }
        self.send(
            session,
            Channel::Live,
            wire::frame::Body::Want(wire::Want { request, log: Some((&log).into()), from, to: 0 }),
        );
    }

    /// Waits a moment before asking: an entry that was announced may be on its way from another peer.
    pub(super) fn consider_later(&mut self, log: LogName, at: u64) {
        if self.put_off.contains(&log) {
            return;
        }
        let want = self.wants.entry(log).or_default();
        if want.asked.is_none() {
            want.not_before = Some(want.not_before.map_or(at, |before| before.min(at)));
        }
    }

    /// A log may not be held for now: nobody is asked for it before [`Replica::take_up`].
    pub fn put_off(&mut self, log: LogName) {
        if let Some(want) = self.wants.remove(&log)
            && let Some(asked) = want.asked
        {
            self.release(asked.session);
        }
        if self.put_off.len() < self.limits.put_off_max {
            self.put_off.insert(log);
        }
    }

    /// Logs that are put off.
    pub fn logs_put_off(&self) -> impl Iterator<Item = &LogName> {
        self.put_off.iter()
    }

    /// A log that was put off may be held now.
    pub fn take_up(&mut self, log: LogName, now: u64) {
        if self.put_off.remove(&log) {
            self.consider(log, now);
        }
    }

    fn release(&mut self, session: SessionId) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.asked = state.asked.saturating_sub(1);
            self.freed.insert(session);
        }
    }

    /// Peers that have answered are asked for what waited.
    pub(super) fn ask_for_more(&mut self, now: u64) {
        while let Some(session) = self.freed.pop_first() {
            while let Some(state) = self.sessions.get_mut(&session)
                && state.asked < self.limits.asked_max
                && let Some((_, log)) = state.waiting.pop_first()
            {
                self.consider(log, now);
            }
            if let Some(state) = self.sessions.get_mut(&session)
                && state.asked == 0
                && state.theirs.has_overflowed()
            {
                // There was more than could be remembered.
                state.compare_at = state.compare_at.min(now + MORE_MS);
            }
        }
    }

    /// A peer's entry at a sequence that we have, too, with another hash: asks it for its history from further back.
    pub(super) fn suspect_fork(
        &mut self,
        session: SessionId,
        log: LogName,
        sequence: u64,
        prefix: &[u8],
        holdings: &dyn Holdings,
    ) {
        let Some(known) = self.known(&log).copied() else { return };
        // Also where a fork is known: two who differ before it have two histories that part earlier.
        if sequence == 0 || sequence > known.head.sequence {
            return;
        }
        let own =
            if sequence == known.head.sequence { Some(known.head.hash) } else { holdings.hash_at(&log, sequence) };
        if own.is_some_and(|own| !own.as_bytes().starts_with(prefix)) {
            self.probe(session, log, sequence);
        }
    }

    fn probe(&mut self, session: SessionId, log: LogName, from: u64) {
        let want = self.wants.entry(log).or_default();
        if want.probe.is_none() {
            want.probe = Some((session, from.max(1)));
            want.not_before = None;
        }
    }

    pub(super) fn want_timeouts(&mut self, now: u64) {
        let due: Vec<LogName> = self
            .wants
            .iter()
            .filter(|(_, want)| want.next_timeout().is_some_and(|at| at <= now))
            .map(|(log, _)| *log)
            .collect();
        for log in due {
            let Some(want) = self.wants.get_mut(&log) else { continue };
            if let Some(asked) = want.asked.filter(|asked| asked.deadline <= now) {
                want.asked = None;
                want.probe = None;
                want.failed.insert(asked.session, now + self.limits.request_ms * 2);
                self.release(asked.session);
            } else if want.not_before.is_some_and(|at| at <= now) {
                want.not_before = None;
                self.graft(log);
            }
            self.consider(log, now);
        }
    }

    /// An announced entry didn't come by itself: the link to whoever announced it joins its author's tree.
    fn graft(&mut self, log: LogName) {
        let known = self.known(&log).copied();
        let own = known.map_or(0, |known| known.head.sequence);
        let session = self
            .sessions
            .iter()
            .find(|(_, state)| state.theirs.sequence(&log, known.as_ref()) > own)
            .map(|(session, _)| *session);
        if let Some(session) = session {
            let graft = wire::Graft { author: log.author.as_bytes().to_vec() };
            self.send(session, Channel::Live, wire::frame::Body::Graft(graft));
        }
    }

    /// A session is gone: what was asked of it is asked of others.
    pub(super) fn forget_requests(&mut self, session: SessionId) {
        for want in self.wants.values_mut() {
            want.failed.remove(&session);
            if want.probe.is_some_and(|(probed, _)| probed == session) {
                want.probe = None;
            }
            if want.asked.is_some_and(|asked| asked.session == session) {
                want.asked = None;
                // At the next chance, whatever the time is.
                want.not_before = Some(0);
            }
        }
    }

    pub(super) fn handle_want(&mut self, session: SessionId, want: &wire::Want, holdings: &dyn Holdings) {
        let Some(log) = want.log.as_ref().and_then(wire::LogName::to_domain) else {
            return self.close(session, "E_DECODE: a request without a log");
        };
        if !log.lane.is_kept_by_all() {
            let (request, from, to) = (want.request, want.from, want.to);
            self.outputs.push_back(Output::WantSealed { session, request, log, from, to });
            return;
        }
        let limits = self.limits;
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let refused = if !state.may_have(log.lane) {
            Some((RefusalCode::NotAllowed, RESTRICTED, 0))
        } else if state.serving.len() >= limits.served_max {
            Some((RefusalCode::Busy, "too many requests", 1000))
        } else {
            None
        };
        if let Some((code, detail, retry_after_ms)) = refused {
            let refusal = wire::Refusal {
                request: want.request,
                log: want.log.clone(),
                code: code.number(),
                detail: detail.into(),
                retry_after_ms,
            };
            return self.send(session, Channel::Live, wire::frame::Body::Refusal(refusal));
        }
        let to = if want.to == 0 { u64::MAX - 1 } else { want.to };
        let serving = Serving { request: want.request, log, next: want.from.max(1), to };
        // What is more urgent is served first; among equals, what was asked first.
        let place = state.serving.iter().position(|other| urgency(other.log.lane) > urgency(log.lane));
        match place {
            Some(place) => state.serving.insert(place, serving),
            None => state.serving.push_back(serving),
        }
        self.pump(session, holdings);
    }

    pub(super) fn pump_all(&mut self, holdings: &dyn Holdings) {
        let sessions: Vec<SessionId> =
            self.sessions.iter().filter(|(_, state)| !state.serving.is_empty()).map(|(session, _)| *session).collect();
        for session in sessions {
            self.pump(session, holdings);
        }
    }

    /// Sends what was asked for, as far as there is room.
    pub(super) fn pump(&mut self, session: SessionId, holdings: &dyn Holdings) {
        while let Some(state) = self.sessions.get_mut(&session) {
            if state.bulk_in_flight >= self.limits.bulk_in_flight_max {
                return;
            }
            let Some(serving) = state.serving.front().copied() else { return };
            let page = if serving.next > serving.to {
                None
            } else {
                holdings.page(&serving.log, serving.next, serving.to, PAGE_MAX)
            };
            let body = match page {
                Some((page, last)) => {
                    if let Some(front) = state.serving.front_mut() {
                        front.next = last + 1;
                    }
                    wire::frame::Body::Page(pack(serving.request, &serving.log, page, false))
                }
                None => {
                    state.serving.pop_front();
                    // Once it has that, it is pushed what comes next.
                    self.note_theirs(session, serving.log, serving.next.saturating_sub(1));
                    let sequence = self.known(&serving.log).map_or(0, |known| known.head.sequence);
                    wire::frame::Body::Done(wire::Done { request: serving.request, sequence })
                }
            };
            self.send(session, Channel::Bulk, body);
        }
    }

    pub(super) fn handle_page(&mut self, session: SessionId, page: wire::Page, now: u64) {
        let Some(log) = page.log.as_ref().and_then(wire::LogName::to_domain) else {
            return self.close(session, "E_DECODE: a page without a log");
        };
        let bytes = match unpack(&page) {
            Ok(bytes) => bytes.into_owned(),
            Err(error) => return self.close(session, &error.to_string()),
        };
        if let Some(asked) = self.wants.get_mut(&log).and_then(|want| want.asked.as_mut())
            && asked.session == session
            && asked.request == page.request
        {
            asked.deadline = now + self.limits.request_ms;
        }
        self.outputs.push_back(Output::Deliver {
            session,
            request: page.request,
            log,
            page: bytes,
            custody: page.custody,
        });
    }

    /// Says what became of a delivered page of a lane that everyone keeps.
    pub fn page_result(
        &mut self,
        session: SessionId,
        request: u64,
        log: LogName,
        last: Head,
        outcome: PageOutcome,
        now: u64,
    ) {
        if !log.lane.is_kept_by_all() {
            return;
        }
        self.note_theirs(session, log, last.sequence);
        match outcome {
            PageOutcome::Stored | PageOutcome::Forked | PageOutcome::Declined => {}
            PageOutcome::Duplicate if request == 0 => self.prune(session, log),
            PageOutcome::Duplicate => {}
            PageOutcome::Gap => self.consider(log, now),
            PageOutcome::Diverges { first } => {
                // Twice as far back each time, so that a long second history is found in few requests.
                let known = self.known(&log).map_or(0, |known| known.head.sequence);
                let step = (known.saturating_sub(first) + 64).next_power_of_two();
                if let Some(want) = self.wants.get_mut(&log) {
                    want.probe = None;
                    if let Some(asked) = want.asked.take() {
                        self.release(asked.session);
                    }
                }
                self.probe(session, log, first.saturating_sub(step).max(1));
                self.consider(log, now);
            }
        }
    }

    pub(super) fn handle_done(&mut self, session: SessionId, done: &wire::Done, now: u64) {
        let log = self
            .wants
            .iter()
            .find(|(_, want)| want.asked.is_some_and(|asked| (asked.session, asked.request) == (session, done.request)))
            .map(|(log, _)| *log);
        let Some(log) = log else { return };
        self.release(session);
        let known = self.known(&log).copied();
        let own = known.map_or(0, |known| known.head.sequence);
        if let Some(want) = self.wants.get_mut(&log) {
            want.asked = None;
            want.probe = None;
            // It said that it had more than it gave: others first.
            if let Some(state) = self.sessions.get_mut(&session)
                && state.theirs.sequence(&log, known.as_ref()) > own
            {
                want.failed.insert(session, now + self.limits.request_ms);
                state.theirs.lower(&log, done.sequence);
            }
        }
        self.consider(log, now);
    }

    pub(super) fn handle_refusal(&mut self, session: SessionId, refusal: wire::Refusal, now: u64) {
        let log = refusal.log.as_ref().and_then(wire::LogName::to_domain);
        let code = RefusalCode::from_number(refusal.code);
        let asked = self
            .wants
            .iter()
            .find(|(_, want)| {
                want.asked.is_some_and(|asked| (asked.session, asked.request) == (session, refusal.request))
            })
            .map(|(log, _)| *log);
        if let Some(log) = asked {
            self.release(session);
            if let Some(want) = self.wants.get_mut(&log) {
                want.asked = None;
                // A peer can't put a log off for ever.
                let wait = refusal.retry_after_ms.clamp(self.limits.request_ms, 60_000);
                want.failed.insert(session, now + wait);
            }
            self.consider(log, now);
        }
        self.blob_refused(session, refusal.request, now);
        self.outputs.push_back(Output::Refused {
            session,
            log,
            code,
            detail: refusal.detail,
            retry_after_ms: refusal.retry_after_ms,
        });
    }

    /// A second history of a log is proved: it counts up to `limit`, and `head` is what is held of that, on the right
    /// branch. What follows the limit is asked for no more.
    pub fn note_forked(&mut self, log: LogName, head: Head, limit: Head, now: u64) {
        let head = if head.sequence > limit.sequence { limit } else { head };
        let probed = self.wants.get(&log).is_some_and(|want| want.probe.is_some());
        if self.known(&log).is_some_and(|known| (known.head, known.limit) == (head, Some(limit))) && !probed {
            return;
        }
        self.clock.set(log, head, Some(limit));
        self.compare_within_a_period(now);
        // What is on its way may be of the other branch.
        if let Some(want) = self.wants.remove(&log)
            && let Some(asked) = want.asked
        {
            self.release(asked.session);
        }
        self.consider(log, now);
    }
}
