//! Live: new entries along the trees of their authors, and notes to everybody else.

use super::session::LaneProgress;
use super::{Channel, Holdings, Replica, SessionId, pack};
use crate::id::{DeviceId, Head, LogName};
use crate::wire;

impl Replica {
    /// A log of a lane that everyone keeps has grown, durably: `before` to `head`, by own entries or by what `source`
    /// sent. Tells the others.
    pub fn note_head(
        &mut self,
        log: LogName,
        head: Head,
        source: Option<SessionId>,
        now: u64,
        holdings: &dyn Holdings,
    ) {
        if !log.lane.is_kept_by_all() {
            return;
        }
        let own = self.known(&log).copied();
        let before = own.map_or(0, |known| known.head.sequence);
        let limit = own.and_then(|known| known.limit);
        let head = limit.filter(|limit| limit.sequence < head.sequence).unwrap_or(head);
        if head.sequence <= before {
            return;
        }
        let sessions: Vec<(SessionId, u64)> = self
            .sessions
            .iter()
            .filter(|(session, state)| state.greeted && Some(**session) != source && state.may_have(log.lane))
            .map(|(session, state)| (*session, state.theirs.sequence(&log, own.as_ref())))
            .collect();
        self.clock.set(log, head, limit);
        self.compare_within_a_period(now);
        // One page serves all peers that are exactly behind it.
        let page = holdings
            .page(&log, before + 1, head.sequence, self.limits.push_bytes_max)
            .filter(|(page, last)| *last == head.sequence && page.len() <= self.limits.push_bytes_max + 4096)
            .map(|(page, _)| pack(0, &log, page, false));
        for (session, theirs) in sessions {
            if theirs >= head.sequence {
                continue;
            }
            let Some(state) = self.sessions.get_mut(&session) else { continue };
            let known = state.progress == LaneProgress::Known;
            let eager = !state.lazy.contains(&log.author);
            match &page {
                Some(page) if known && eager && theirs == before => {
                    let body = wire::frame::Body::Page(page.clone());
                    self.note_theirs(session, log, head.sequence);
                    self.send(session, Channel::Live, body);
                }
                _ => {
                    state.haves.insert(log);
                    state.haves_at.get_or_insert(now + self.limits.have_ms);
                }
            }
        }
        if let Some(source) = source {
            self.note_theirs(source, log, head.sequence);
        }
        self.consider(log, now);
        self.ask_for_more(now);
    }

    /// Something changed here: whoever doesn't hear of it, for whatever reason, finds out within a period.
    pub(super) fn compare_within_a_period(&mut self, now: u64) {
        let latest = now + self.limits.compare_ms;
        self.sessions.values_mut().for_each(|state| state.compare_at = state.compare_at.min(latest));
    }

    pub(super) fn flush_haves(&mut self, session: SessionId) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.haves_at = None;
        let logs = std::mem::take(&mut state.haves);
        let logs: Vec<wire::HaveLog> = logs
            .into_iter()
            .filter_map(|log| {
                let known = self.known(&log)?;
                let theirs = self.sessions.get(&session)?.theirs.sequence(&log, Some(known));
                (theirs < known.head.sequence).then(|| wire::HaveLog {
                    log: Some((&log).into()),
                    sequence: known.head.sequence,
                    prefix: known.head.hash.as_bytes()[..2].to_vec(),
                })
            })
            .collect();
        for logs in logs.chunks(self.limits.have_logs_max) {
            self.send(session, Channel::Live, wire::frame::Body::Have(wire::Have { logs: logs.to_vec() }));
        }
    }

    pub(super) fn handle_have(&mut self, session: SessionId, have: &wire::Have, now: u64) {
        for have in &have.logs {
            let Some(log) = have.log.as_ref().and_then(wire::LogName::to_domain) else {
                return self.close(session, "E_DECODE: a note without a log");
            };
            if !log.lane.is_kept_by_all() {
                continue;
            }
            self.note_theirs(session, log, have.sequence);
            if self.known(&log).map_or(have.sequence > 0, |known| known.lacks(have.sequence)) {
                self.consider_later(log, now + self.limits.repair_ms);
            }
        }
    }

    /// Tells a peer that its pushes of an author's entries come second: announce them from now on.
    pub(super) fn prune(&mut self, session: SessionId, log: LogName) {
        let prune = wire::Prune { author: log.author.as_bytes().to_vec() };
        self.send(session, Channel::Live, wire::frame::Body::Prune(prune));
    }

    pub(super) fn handle_tree(&mut self, session: SessionId, author: &[u8], lazy: bool) {
        let Ok(author) = DeviceId::try_from(author) else {
            return self.close(session, "E_DECODE: an author's key has 32 bytes");
        };
        // Trees of authors of whom nothing is held would only be remembered.
        let known = self.clock.knows(&author);
        if let Some(state) = self.sessions.get_mut(&session) {
            if lazy && known {
                state.lazy.insert(author);
            } else if !lazy {
                state.lazy.remove(&author);
            }
        }
    }
}
