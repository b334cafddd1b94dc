//! Handing over: who should hold a sealed log's waiting entries, and sending them, the newest first.

use std::collections::BTreeSet;

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::page::{Page, SIGNED_EVERY};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::replica::SessionId;
use stallmesh_protocol::{DeviceId, Lane, LogName};

use super::{History, NEWEST_BYTES, OLDER_BYTES, REFUSED_MS, joined, without};
use crate::engine::Engine;
use crate::engine::logs::Run;
use crate::link::LinkId;
use crate::store::Store;

impl<S: Store> Engine<S> {
    /// Whether a session's peer should hold a log's waiting entries.
    pub(crate) fn should_hold(&self, session: SessionId, log: &LogName) -> bool {
        let Some(link) = self.links.get(&LinkId(session.0)) else { return false };
        let membership = &self.views.membership;
        let own = log.author == self.device.id();
        if link.peer == log.author && link.incarnation == Some(log.incarnation) {
            return false;
        }
        if log.lane == Lane::LEDGER {
            return self.should_hold_ledger(link, log);
        }
        if self.is_hub_device(&link.peer) {
            return !self.is_hub() && (own || !planted::is_on(Bug::NoAnswer));
        }
        if link.restricted {
            return false;
        }
        if planted::is_on(Bug::NoAnswer) && !own {
            return false;
        }
        // A device that lost its own entries gets them back from whoever has them.
        if link.peer == log.author {
            return true;
        }
        let Some(certificate) = membership.certificate(&link.peer) else { return false };
        if self.may_read(&link.peer, log) {
            return true;
        }
        if !certificate.scopes.allows(Scope::RELAY) || link.status.full || self.is_hub() {
            return false;
        }
        // Towards an uplink anything goes; without one, own entries to as many carriers as the market wants.
        (link.status.uplink && !self.has_uplink())
            || (own && self.carriers(log).contains(&link.peer))
            || self.next_hops(log).contains(&link.peer)
    }

    /// Whether a device may read a log of sales because it is of the same stall.
    pub(super) fn may_read(&self, device: &DeviceId, log: &LogName) -> bool {
        let membership = &self.views.membership;
        log.lane == Lane::SALES
            && membership.certificate(device).is_some_and(|certificate| {
                !certificate.stall.is_empty()
                    && membership.stall(&log.author) == Some(certificate.stall.as_str())
                    && certificate.scopes.allows(Scope::READ_SALES)
            })
    }

    /// What is held of a stall's sales, for one of its devices: those that the hub has, too, which nobody hands on any
    /// more. It asks for what it lacks.
    pub(super) fn offers_to_stall(&self, peer: &DeviceId) -> Vec<(LogName, Vec<Interval>)> {
        let of_others = self.logs.on_lane(Lane::SALES).filter(|(name, _)| name.author != *peer);
        of_others
            .filter(|(name, _)| self.may_read(peer, name))
            .map(|(name, record)| (*name, record.runs.iter().map(Run::interval).collect()))
            .collect()
    }

    /// Hub: more of a stall's sales has come, and its other devices that are linked may not have it.
    pub(super) fn offer_to_stall(&mut self, log: &LogName, except: SessionId) {
        let sessions: Vec<SessionId> = self
            .links
            .iter()
            .filter(|(_, link)| link.greeted && !link.restricted && link.peer != log.author)
            .filter(|(_, link)| self.may_read(&link.peer, log))
            .map(|(link, _)| SessionId(link.0))
            .filter(|session| *session != except)
            .collect();
        let intervals = self.logs.get(log).into_iter().flat_map(|record| &record.runs).map(Run::interval);
        let offer = [(*log, intervals.collect::<Vec<_>>())];
        if let Some(replica) = &mut self.replica {
            sessions.into_iter().for_each(|session| replica.offer(session, &offer));
        }
    }

    /// Sends waiting sealed entries to whoever should hold them, the newest first, as far as there is room.
    pub(crate) fn push_custody(&mut self) {
        if !self.custody.all_dirty && self.custody.dirty.is_empty() {
            return;
        }
        let sessions: Vec<(SessionId, DeviceId)> = self
            .links
            .iter()
            .filter(|(_, link)| link.greeted)
            .map(|(link, state)| (SessionId(link.0), state.peer))
            .collect();
        if sessions.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut self.custody.dirty);
        let all = std::mem::take(&mut self.custody.all_dirty);
        let logs: Vec<(LogName, Vec<Run>)> = self
            .logs
            .iter()
            .filter(|(name, _)| name.lane.is_sealed() && (all || dirty.contains(name)))
            .map(|(name, record)| (*name, record.runs.clone()))
            .collect();
        for (log, runs) in logs {
            for run in runs.iter().rev() {
                let waiting = self.waiting_of(&log, run);
                for (session, peer) in &sessions {
                    self.push_run_to(*session, *peer, &log, run, &waiting);
                }
            }
        }
    }

    fn push_run_to(&mut self, session: SessionId, peer: DeviceId, log: &LogName, run: &Run, waiting: &[(u64, u64)]) {
        // One that was short of room hasn't answered yet.
        if self.custody.short_of_room.get(&session).is_some_and(Option::is_some) {
            return;
        }
        if self.custody.refusal(session, log).is_some() || !self.should_hold(session, log) {
            return;
        }
        // An author that lost its entries gets all of them, received or not; others what they don't say they hold.
        let wanted =
            if peer == log.author { vec![(run.from, run.to)] } else { self.lacked_by(peer, log, run, waiting) };
        if !wanted.is_empty() && !self.push_run(session, log, run, &wanted) {
            self.custody.unfinished.insert(*log);
        }
    }

    /// Of some ranges of a run, those that a neighbour doesn't say it holds.
    fn lacked_by(&self, peer: DeviceId, log: &LogName, run: &Run, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let held = self.custody.copies.get(log).and_then(|copies| copies.get(&peer));
        match held {
            // In a log with branches a sequence doesn't say which entry.
            Some(held) if !self.logs.is_branched(log, run.from, run.to) => {
                let held: Vec<(u64, u64)> = held.iter().map(|interval| (interval.from, interval.to)).collect();
                without(ranges, &held)
            }
            _ => ranges.to_vec(),
        }
    }

    /// Sends what of a run was not sent on this session yet: first what is newer than what was, then older. False where
    /// the rest waits for room.
    fn push_run(&mut self, session: SessionId, log: &LogName, run: &Run, waiting: &[(u64, u64)]) -> bool {
        let first = if self.logs.is_branched(log, run.from, run.to) {
            let first = self.logs.entries(&self.overlay, log, run, run.from, run.from, 1);
            self.guard(first).and_then(|first| Some(first.first()?.hash))
        } else {
            None
        };
        let history: History = (*log, first);
        loop {
            let sent = self.custody.sent.entry(session).or_default().entry(history).or_default();
            let newest = sent.iter().map(|(_, to)| *to).max();
            let Some((from, to)) = without(waiting, sent).into_iter().max_by_key(|(_, to)| *to) else { return true };
            let (from, budget) = match newest {
                None => (self.tail_start(log, run, from, to), NEWEST_BYTES * 4),
                Some(newest) if newest < to => (from, NEWEST_BYTES * 4),
                Some(_) => {
                    let room = self.replica.as_ref().map_or(0, |replica| replica.bulk_room(session));
                    if room < OLDER_BYTES {
                        return false;
                    }
                    (self.older_start(log, run, from, to), OLDER_BYTES * 2)
                }
            };
            // A stretch may be several pages; what goes next is older, and would leave the rest of it behind.
            let mut next = from;
            while next <= to {
                let Some(page) = self.page_through(log, run, next, to, budget) else { break };
                for needed in page.entries.iter().filter_map(|entry| entry.payload.key).collect::<BTreeSet<u64>>() {
                    if needed < page.first && self.custody.keys_sent.insert((session, *log, needed)) {
                        self.send_key(session, log, run, needed);
                    }
                }
                next = page.last() + 1;
                if let Some(replica) = &mut self.replica {
                    replica.send_custody(session, *log, page.encode());
                }
            }
            if next == from {
                return true;
            }
            if self.peer_of(session).is_some_and(|peer| self.is_hub_device(&peer)) {
                self.custody.await_word(session, self.now.monotonic_ms);
            }
            let sent = self.custody.sent.entry(session).or_default().entry(history).or_default();
            *sent = joined(sent, (from, next - 1));
            if let Some(unheard) = self.custody.short_of_room.get_mut(&session) {
                *unheard = Some(self.now.monotonic_ms + REFUSED_MS);
                return true;
            }
        }
    }

    /// Sends a key entry ahead of what it opens. A branch may use one that stands before it, on another run.
    fn send_key(&mut self, session: SessionId, log: &LogName, run: &Run, key: u64) {
        let runs = self.logs.get(log).map(|record| record.runs.clone()).unwrap_or_default();
        let candidates = if run.from <= key { vec![*run] } else { runs };
        for run in candidates.iter().filter(|run| run.from <= key && key <= run.to) {
            if let Some(page) = self.page_through(log, run, key, key, NEWEST_BYTES)
                && let Some(replica) = &mut self.replica
            {
                replica.send_custody(session, *log, page.encode());
            }
        }
    }

    /// A page that begins at `from` and, where it fits, reaches `to`. A page ends at a signature, and sales that shared
    /// a commit share one: what lies after `to` up to the next signature goes along, or what lies before it never could.
    pub(super) fn page_through(&mut self, log: &LogName, run: &Run, from: u64, to: u64, budget: usize) -> Option<Page> {
        let signed_by = to.saturating_add(SIGNED_EVERY).min(run.to);
        let end = self.logs.page(&self.overlay, log, to, signed_by, Some(run), 128);
        let end = self.guard(end)?.map_or(to, |page| page.last());
        let page = self.logs.page(&self.overlay, log, from, end, Some(run), budget);
        self.guard(page).flatten()
    }

    /// Where a first small page of the newest entries begins.
    fn tail_start(&mut self, log: &LogName, run: &Run, oldest: u64, newest: u64) -> u64 {
        self.start_within(log, run, oldest, newest, NEWEST_BYTES)
    }

    fn older_start(&mut self, log: &LogName, run: &Run, oldest: u64, to: u64) -> u64 {
        self.start_within(log, run, oldest, to, OLDER_BYTES)
    }

    /// The lowest sequence from which entries up to `to` fit `bytes`.
    pub(super) fn start_within(&mut self, log: &LogName, run: &Run, oldest: u64, to: u64, bytes: usize) -> u64 {
        let window = to.saturating_sub(500).max(oldest);
        let chain = self.logs.entries(&self.overlay, log, run, window, to, 1024);
        let mut left = bytes;
        let mut start = to;
        for held in self.guard(chain).unwrap_or_default().iter().rev() {
            let length = held.entry.payload.length() + 16;
            if length > left {
                break;
            }
            left -= length;
            start = held.sequence;
        }
        start
    }
}
