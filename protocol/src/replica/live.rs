//! Live: new entries along the trees of their authors, and notes to everybody else.

use super::session::{LaneProgress, Theirs};
use super::{Channel, Holdings, Known, Replica, SessionId};
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
        let lane = self.lane_mut(log.lane);
        let known = lane.entry(log).or_insert(Known { low: 1, head: Head::EMPTY, limit: None });
        let before = known.head.sequence;
        let head = known.limit.filter(|limit| limit.sequence < head.sequence).unwrap_or(head);
        if head.sequence <= before {
            return;
        }
        known.head = head;
        // One page serves all peers that are exactly behind it.
        let page = holdings
            .page(&log, before + 1, head.sequence, self.limits.push_bytes_max)
            .filter(|(page, last)| *last == head.sequence && page.len() <= self.limits.push_bytes_max + 4096);
        let sessions: Vec<SessionId> = self.greeted().filter(|session| Some(*session) != source).collect();
        for session in sessions {
            let Some(state) = self.sessions.get_mut(&session).filter(|state| state.may_have(log.lane)) else {
                continue;
            };
            let theirs = state.theirs.get(&log).map_or(0, |theirs| theirs.sequence);
            if theirs >= head.sequence {
                continue;
            }
            let known = state.lanes.get(&log.lane) == Some(&LaneProgress::Known);
            let eager = !state.lazy.contains(&log.author);
            match &page {
                Some((page, _)) if known && eager && theirs == before => {
                    let prefix = head.hash.prefix().to_vec();
                    state.theirs.insert(log, Theirs { sequence: head.sequence, prefix });
                    let log = Some((&log).into());
                    let body =
                        wire::frame::Body::Page(wire::Page { request: 0, log, page: page.clone(), custody: false });
                    self.send(session, Channel::Live, body);
                }
                _ => {
                    state.haves.insert(log);
                    state.haves_at.get_or_insert(now + self.limits.have_ms);
                }
            }
        }
        if let Some(source) = source {
            self.note_theirs(source, log, head.sequence, &head.hash.prefix());
        }
        self.consider(log, now);
    }

    pub(super) fn flush_haves(&mut self, session: SessionId) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.haves_at = None;
        let logs = std::mem::take(&mut state.haves);
        let logs: Vec<wire::HaveLog> = logs
            .into_iter()
            .filter_map(|log| {
                let known = self.known(&log)?;
                let theirs = self.sessions.get(&session)?.theirs.get(&log).map_or(0, |theirs| theirs.sequence);
                (theirs < known.head.sequence).then(|| wire::HaveLog {
                    log: Some((&log).into()),
                    sequence: known.head.sequence,
                    prefix: known.head.hash.as_bytes()[..2].to_vec(),
                })
            })
            .collect();
        for logs in logs.chunks(self.limits.clock_logs_max) {
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
            self.note_theirs(session, log, have.sequence, &have.prefix);
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
        if let Some(state) = self.sessions.get_mut(&session) {
            if lazy {
                state.lazy.insert(author);
            } else {
                state.lazy.remove(&author);
            }
        }
    }
}
