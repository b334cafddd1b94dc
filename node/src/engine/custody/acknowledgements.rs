//! The hub's word that it has entries: made, checked, kept, passed on, and completed where it can't free a copy.

use std::collections::BTreeSet;

use stallmesh_protocol::acknowledgement::{Acknowledgement, INTERVALS_MAX};
use stallmesh_protocol::certificate::Role;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::replica::SessionId;
use stallmesh_protocol::{Head, Lane, LogName, wire};

use super::NEWEST_BYTES;
use crate::engine::Engine;
use crate::engine::logs::Run;
use crate::store::{Store, Table};

/// The most ends of carriers' copies that acknowledgements of one log name, beside the hub's own.
const ENDS_MAX: usize = 32;

impl<S: Store> Engine<S> {
    /// The hub's word has come, from whoever passes it on.
    pub(crate) fn acknowledged(&mut self, session: Option<SessionId>, message: &wire::Acknowledgement) {
        use prost::Message;
        let Some(market) = self.market else { return };
        let Some(acknowledgement) = Acknowledgement::from_wire(message) else { return };
        let log = acknowledgement.log;
        session.iter().for_each(|session| self.custody.heard_of(*session));
        let newer = self.custody.received.get(&log).is_none_or(|known| {
            (acknowledgement.time, acknowledgement.intervals.len()) > (known.time, known.intervals.len())
                || known.intervals != acknowledgement.intervals && acknowledgement.time >= known.time
        });
        // Only a hub's own signature counts, whoever says that the hub has it; and not its word on what it wrote itself,
        // which it had when it handed it over.
        let by_hub = self.views.membership.role(&acknowledgement.hub) == Some(Role::Hub);
        let by_hub = by_hub && acknowledgement.hub != log.author;
        let taken_back = self.is_taken_back(&acknowledgement);
        let holds = by_hub && acknowledgement.verify(&market.id).is_ok() || planted::is_on(Bug::UnsignedWord);
        if let Some(session) = session.filter(|_| holds) {
            self.custody.word_came(session);
        }
        if !(newer || taken_back) || !holds {
            return;
        }
        if taken_back {
            // It says what there was, and frees nothing.
            return self.keep_had(session, acknowledgement);
        }
        if acknowledgement.hub == self.device.id() && session.is_some() {
            // Nobody knows better what this hub has; but its disk may be an older copy.
            return self.own_word_came(&acknowledgement);
        }
        let id = self.logs.id(&log);
        let key = [b"a".as_slice(), id.as_bytes()].concat();
        self.overlay.put(Table::Custody, key, message.encode_to_vec());
        let covered = |known: &Interval| {
            acknowledgement.intervals.iter().any(|interval| interval.from <= known.from && known.to <= interval.to)
        };
        let has_less = self.custody.received.get(&log).is_some_and(|known| !known.intervals.iter().all(covered));
        if has_less {
            // Another hub, or one that has lost something: whoever was handed what it lacks may have let go of it since.
            if log.author == self.device.id() {
                self.received_no_more(&log);
            }
            self.forget_handed(&log);
        }
        self.custody.received.insert(log, acknowledgement);
        self.made_good(&log);
        if log.author == self.device.id() {
            self.received_changed(&log);
            if log.lane == Lane::LEDGER {
                self.release_closed();
            }
        }
        self.pass_on(log, session);
        self.show_ends(log);
        self.free_if_short(&log);
    }

    /// Passes the hub's word on: to the author, to whoever brought the entries, and to whoever holds copies.
    fn pass_on(&mut self, log: LogName, except: Option<SessionId>) {
        let Some(acknowledgement) = self.custody.received.get(&log) else { return };
        let (time, message) = (acknowledgement.time, acknowledgement.to_wire());
        let interested: Vec<SessionId> = self
            .links
            .iter()
            .filter(|(_, link)| link.greeted)
            .filter(|(_, link)| {
                link.peer == log.author
                    || self.custody.brought.get(&log).is_some_and(|brought| brought.contains(&link.peer))
                    || self.custody.copies.get(&log).is_some_and(|copies| copies.contains_key(&link.peer))
            })
            .map(|(link, _)| SessionId(link.0))
            .filter(|session| Some(*session) != except)
            .collect();
        for session in interested {
            self.tell(session, log, time, message.clone());
        }
    }

    pub(super) fn tell(&mut self, session: SessionId, log: LogName, time: u64, message: wire::Acknowledgement) {
        let told = self.custody.told.entry((session, log)).or_insert(0);
        if *told >= time {
            return;
        }
        *told = time;
        if let Some(replica) = &mut self.replica {
            replica.acknowledge(session, message);
        }
    }

    /// A peer asks what the hub has of these logs.
    pub(crate) fn answer_acknowledgements(&mut self, session: SessionId, logs: &[LogName]) {
        for log in logs {
            if self.is_hub() {
                if self.logs.get(log).is_some() {
                    self.acknowledge_log(session, *log);
                }
            } else if let Some(acknowledgement) = self.custody.received.get(log) {
                let (time, message) = (acknowledgement.time, acknowledgement.to_wire());
                self.tell(session, *log, time, message);
            }
        }
    }

    /// The hub has more of a log than this carrier does, so its word can't show that what is held here is part of it: the
    /// entry at the end goes towards the hub, which then names that place, too.
    fn show_ends(&mut self, log: LogName) {
        if log.author == self.device.id() || self.is_hub() {
            return;
        }
        let Some(record) = self.logs.get(&log) else { return };
        let intervals = self.custody.received.get(&log).map(|known| known.intervals.clone()).unwrap_or_default();
        let beyond = |run: &Run| intervals.iter().any(|known| known.from <= run.to && run.to < known.to);
        let runs: Vec<Run> = record.runs.iter().filter(|run| beyond(run)).copied().collect();
        for run in runs {
            if self.waiting_of(&log, &run).is_empty() {
                continue;
            }
            let towards = self.links.iter().filter(|(_, link)| link.greeted).map(|(link, _)| SessionId(link.0));
            let Some(session) = towards.into_iter().find(|session| self.should_hold(*session, &log)) else { return };
            let page = self.logs.page(&self.overlay, &log, run.to, run.to, Some(&run), NEWEST_BYTES);
            if let (Some(page), Some(replica)) = (self.guard(page).flatten(), &mut self.replica) {
                replica.send_custody(session, log, page.encode());
            }
        }
    }

    /// A carrier brought what the hub has already, but its copy ends inside a received interval, so that the hub's word
    /// can't free it: the entry at its end goes on towards the hub, which then names that place, too.
    pub(super) fn ask_for_end(&mut self, except: SessionId, log: LogName, end: Head) {
        let named = |interval: &Interval| (interval.to, interval.hash) == (end.sequence, end.hash);
        let known = self.custody.received.get(&log);
        if known.is_none_or(|known| known.intervals.iter().any(named)) {
            return;
        }
        let Some(record) = self.logs.get(&log) else { return };
        let within = |run: &&Run| run.from <= end.sequence && end.sequence < run.to;
        for run in record.runs.iter().filter(within).copied().collect::<Vec<_>>() {
            let received = self.received_of(&log, &run);
            if !received.iter().any(|(from, to)| (*from..=*to).contains(&end.sequence)) {
                continue;
            }
            let page = self.logs.page(&self.overlay, &log, end.sequence, end.sequence, Some(&run), NEWEST_BYTES);
            let Some(page) = self.guard(page).flatten() else { continue };
            let towards: Vec<SessionId> = self
                .links
                .iter()
                .filter(|(_, link)| link.greeted && (self.is_nearer(link) || self.is_hub_device(&link.peer)))
                .map(|(link, _)| SessionId(link.0))
                .filter(|session| *session != except)
                .collect();
            if let (Some(session), Some(replica)) = (towards.first(), &mut self.replica) {
                replica.send_custody(*session, log, page.encode());
            }
        }
    }

    /// Hub: remembers where a carrier's copy of a log ends, if that isn't where an interval ends already.
    pub(super) fn note_end(&mut self, log: LogName, end: Head) {
        if self.logs.get(&log).is_some_and(|record| record.runs.iter().any(|run| run.head() == end)) {
            return;
        }
        let ends = self.custody.ends.entry(log).or_default();
        if !ends.contains(&end) {
            if ends.len() == ENDS_MAX {
                ends.pop_front();
            }
            ends.push_back(end);
        }
    }

    /// Hub: what it has of a log, as acknowledgements name it: each interval as far back as its entries chain, and up to
    /// each place where a carrier's copy ends. Whoever holds less than the hub could not prove that its entries are
    /// among those of a longer interval.
    fn received_intervals(&mut self, log: &LogName) -> Vec<Interval> {
        let Some(record) = self.logs.get(log) else { return Vec::new() };
        let runs = record.runs.clone();
        let ends = self.custody.ends.get(log).cloned().unwrap_or_default();
        let mut intervals = BTreeSet::new();
        for run in &runs {
            let reach = self.logs.reach(&self.overlay, log, run);
            let Some(from) = self.guard(reach) else { continue };
            let from = if planted::is_on(Bug::HubHasAll) { 1 } else { from };
            intervals.insert(Interval { from, ..run.interval() });
            for end in ends.iter().filter(|end| run.from <= end.sequence && end.sequence < run.to) {
                let entry = self.logs.entries(&self.overlay, log, run, end.sequence, end.sequence, 1);
                if self.guard(entry).is_some_and(|entry| entry.first().is_some_and(|held| held.hash == end.hash)) {
                    intervals.insert(Interval { from, to: end.sequence, hash: end.hash });
                }
            }
        }
        intervals.into_iter().take(INTERVALS_MAX).collect()
    }

    /// Hub: says all that it has of a log.
    pub(crate) fn acknowledge_log(&mut self, session: SessionId, log: LogName) {
        let Some(market) = self.market else { return };
        let intervals = self.received_intervals(&log);
        if intervals.is_empty() || log.author == self.device.id() {
            return;
        }
        let time = self.time();
        let known = self.custody.received.get(&log);
        if known.is_none_or(|known| known.intervals != intervals) {
            let after = known.map_or(0, |known| known.time.saturating_add(1));
            let time = time.max(after).max(self.views.restored_until(&self.device.id()));
            let acknowledgement = Acknowledgement::sign(&self.device, &market.id, log, intervals, time);
            self.acknowledged(None, &acknowledgement.to_wire());
        }
        if let Some(known) = self.custody.received.get(&log) {
            let (time, message) = (known.time, known.to_wire());
            // Said again to whoever sends again: its copy of the last one may be lost.
            self.custody.told.remove(&(session, log));
            self.tell(session, log, time, message);
        }
    }
}
