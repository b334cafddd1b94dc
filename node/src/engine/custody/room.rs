//! Room for what is carried: how much there is, what is let go of when it runs short, and what is never let go of.
//!
//! What the hub has acknowledged goes when room is wanted, and of a log that goes on its newest key entry goes last: the
//! next sale needs it, and could not be taken without. Hubs' ledgers stay, so they get a part of the room alone: a market
//! of many days must not leave its sales without any.

use std::collections::BTreeSet;

use stallmesh_protocol::page::VerifiedPage;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::replica::RefusalCode;
use stallmesh_protocol::{Head, Kind, Lane, LogName};

use super::{REFUSED_MS, without};
use crate::engine::Engine;
use crate::engine::logs::{Held, Run};
use crate::store::{Store, StoreError};

/// Hubs' ledgers get at most this part of a carrier's room.
const LEDGER_PART: u64 = 2;
/// When so little of the room is left, one part of this many, what the hub acknowledges goes at once; and when room is
/// made, it is made for more than the next page.
const SPARE_PART: u64 = 8;
/// Milliseconds until a carrier without room is asked again. While it has none it says so in its status, and isn't asked at
/// all; with a way to the hub it has room again when the hub has answered.
const FULL_MS: u64 = 500;

/// Why a page isn't taken.
pub(super) struct NoRoom {
    pub(super) code: RefusalCode,
    pub(super) detail: &'static str,
    /// Milliseconds until it is tried again.
    pub(super) wait_ms: u64,
}

impl<S: Store> Engine<S> {
    /// Counts what is carried.
    pub(super) fn count_room(&mut self) -> Result<(), StoreError> {
        (self.custody.held_bytes, self.custody.ledger_bytes) = (0, 0);
        let own = self.device.id();
        let carried: Vec<(LogName, Vec<Run>)> = self
            .logs
            .iter()
            .filter(|(name, _)| name.lane.is_sealed() && name.author != own)
            .map(|(name, record)| (*name, record.runs.clone()))
            .collect();
        for (name, runs) in carried {
            for run in runs {
                let chain = self.logs.entries(&self.overlay, &name, &run, run.from, run.to, usize::MAX)?;
                self.custody_grew(&name, &chain);
            }
        }
        Ok(())
    }

    /// Entries of a log are held now.
    pub(super) fn custody_grew(&mut self, log: &LogName, new: &[Held]) {
        if log.author != self.device.id() {
            self.custody.held_bytes += bytes_of(new);
            if log.lane == Lane::LEDGER {
                self.custody.ledger_bytes += bytes_of(new);
            }
        }
    }

    /// A part of a held entry is gone.
    pub(crate) fn custody_shrank(&mut self, log: &LogName, bytes: u64) {
        if log.lane.is_sealed() && log.author != self.device.id() {
            self.custody.held_bytes = self.custody.held_bytes.saturating_sub(bytes);
            self.set_full(None);
            if log.lane == Lane::LEDGER {
                self.custody.ledger_bytes = self.custody.ledger_bytes.saturating_sub(bytes);
            }
        }
    }

    /// Whether something was refused for want of room, and none was made since.
    pub(crate) fn custody_is_full(&self) -> bool {
        self.custody.full.is_some()
    }

    /// What waits may have come to be what the hub has without any word of it: when the entry came that its word names.
    pub(super) fn look_for_room(&mut self) {
        let now = self.now.monotonic_ms;
        if self.custody.full.is_some_and(|at| at <= now) {
            let full = self.carries_waiting(None).then_some(now + REFUSED_MS);
            self.set_full(full);
        }
    }

    /// Neighbours are told at once: what they hold waits for it.
    fn set_full(&mut self, until: Option<u64>) {
        let before = std::mem::replace(&mut self.custody.full, until);
        if before.is_some() != until.is_some() {
            self.update_status();
        }
    }

    /// Whether what is carried leaves room for a page, or can be made to. Where nothing else waits a page is taken whatever
    /// its size: a carrier whose room is smaller than what somebody has to hand over would else be closed to it for good.
    pub(super) fn room_for(&mut self, log: &LogName, verified: &VerifiedPage) -> Result<(), NoRoom> {
        let max = self.settings.custody_bytes_max;
        let page: u64 = verified.page().entries.iter().map(|entry| entry.payload.length() as u64).sum();
        let for_ledgers = if log.lane == Lane::LEDGER { max / LEDGER_PART } else { u64::MAX };
        if self.custody.held_bytes + page <= max && self.custody.ledger_bytes + page <= for_ledgers {
            return Ok(());
        }
        let mut bytes = 0;
        for (sequence, hash, entry) in verified.iter() {
            let held = self.logs.entry(&self.overlay, log, Head { sequence, hash });
            if self.guard(held).flatten().is_none() {
                bytes += entry.payload.length() as u64;
            }
        }
        if bytes > 0 && log.lane == Lane::LEDGER && self.custody.ledger_bytes + bytes > for_ledgers {
            let detail = "the room for hubs' ledgers is used up";
            return Err(NoRoom { code: RefusalCode::OverQuota, detail, wait_ms: REFUSED_MS });
        }
        let needed: BTreeSet<u64> = verified.page().entries.iter().filter_map(|entry| entry.payload.key).collect();
        if bytes == 0 || self.make_room(bytes, log, &needed) {
            return Ok(());
        }
        if max > 0 && log.lane == Lane::SALES && !self.carries_waiting(Some((log, &needed))) {
            return Ok(());
        }
        self.set_full(Some(self.now.monotonic_ms + REFUSED_MS));
        Err(NoRoom { code: RefusalCode::Full, detail: "the room for others' sales is used up", wait_ms: FULL_MS })
    }

    /// Whether sales of others wait here for the hub, beside some entries of one log.
    fn carries_waiting(&self, beside: Option<(&LogName, &BTreeSet<u64>)>) -> bool {
        let own = self.device.id();
        self.logs.on_lane(Lane::SALES).filter(|(name, _)| name.author != own).any(|(name, record)| {
            let beside: Vec<(u64, u64)> = beside
                .filter(|(log, _)| *log == name)
                .map(|(_, sequences)| sequences.iter().map(|sequence| (*sequence, *sequence)).collect())
                .unwrap_or_default();
            record.runs.iter().any(|run| !without(&self.waiting_of(name, run), &beside).is_empty())
        })
    }

    /// Frees others' entries that the hub has, log by log; of the log for which room is wanted not those that it needs. True
    /// where there is room for so many bytes now.
    fn make_room(&mut self, bytes: u64, wanted_for: &LogName, needed: &BTreeSet<u64>) -> bool {
        let (max, own) = (self.settings.custody_bytes_max, self.device.id());
        let logs: Vec<LogName> =
            self.logs.on_lane(Lane::SALES).map(|(name, _)| *name).filter(|name| name.author != own).collect();
        let nothing = BTreeSet::new();
        for newest_key_stays in [true, false] {
            for log in &logs {
                if self.custody.held_bytes + bytes + max / SPARE_PART <= max {
                    return true;
                }
                self.free_received(log, if log == wanted_for { needed } else { &nothing }, newest_key_stays);
            }
        }
        self.custody.held_bytes + bytes <= max
    }

    /// The hub has more of a log than before: where room is short, that goes now.
    pub(super) fn free_if_short(&mut self, log: &LogName) {
        let max = self.settings.custody_bytes_max;
        let carried = log.lane == Lane::SALES && log.author != self.device.id() && !self.is_hub();
        if carried && (self.custody.full.is_some() || self.custody.held_bytes > max - max / SPARE_PART) {
            self.free_received(log, &BTreeSet::new(), true);
            self.set_full(None);
        }
    }

    /// Lets go of what the hub has of a log, except for the key entries that something here needs, and what they end in.
    fn free_received(&mut self, log: &LogName, needed: &BTreeSet<u64>, newest_key_stays: bool) {
        let Some(record) = self.logs.get(log) else { return };
        let one_history = record.is_one_history();
        let runs: Vec<(Run, Vec<(u64, u64)>)> = record
            .runs
            .iter()
            .map(|run| (*run, if planted::is_on(Bug::DropWaiting) { Vec::new() } else { self.waiting_of(log, run) }))
            .collect();
        let nothing_goes = |(run, waiting): &(Run, Vec<(u64, u64)>)| waiting.iter().any(|(from, _)| *from == run.from);
        if runs.iter().all(nothing_goes) {
            return;
        }
        let mut stays = needed.clone();
        for (run, waiting) in &runs {
            for (from, to) in waiting {
                let chain = self.logs.entries(&self.overlay, log, run, *from, *to, usize::MAX);
                let Some(chain) = self.guard(chain) else { return };
                stays.extend(chain.iter().filter_map(|held| held.entry.payload.key));
            }
        }
        if newest_key_stays {
            stays.extend(self.newest_key(log, &runs));
        }
        let mut gone: Vec<(u64, u64)> = Vec::new();
        let mut stayed = BTreeSet::new();
        for (run, waiting) in runs.iter().filter(|run| !nothing_goes(run)) {
            // A part of a branch can't go without changing where others begin: all of it does, or nothing.
            let is_needed = || stays.iter().any(|sequence| run.from <= *sequence && *sequence <= run.to);
            if !one_history && (!waiting.is_empty() || is_needed()) {
                continue;
            }
            // What comes after what waits stays, too: the hub's word names the end of what it has.
            let first_waiting = waiting.iter().map(|(from, _)| *from).min();
            let Some(stays) = self.with_signatures(log, run, &stays) else { return };
            let keep = |held: &Held| {
                if first_waiting.is_some_and(|first| held.sequence >= first) {
                    return true;
                }
                let stays = stays.iter().any(|(from, to)| (*from..=*to).contains(&held.sequence));
                if stays {
                    stayed.insert(Head { sequence: held.sequence, hash: held.hash });
                }
                stays
            };
            let forgotten = self.logs.forget(&mut self.overlay, log, run, keep);
            let Some(forgotten) = self.guard(forgotten) else { return };
            self.custody.held_bytes = self.custody.held_bytes.saturating_sub(bytes_of(&forgotten));
            gone.extend(forgotten.iter().map(|held| (held.sequence, held.sequence)));
        }
        // Another history may come in its place, of which nobody was sent anything and nobody has said what it holds.
        for sent in self.custody.sent.values_mut().flat_map(|sent| sent.iter_mut()) {
            let ((of, _), ranges) = sent;
            if of == log {
                *ranges = without(ranges, &gone);
            }
        }
        if !gone.is_empty() {
            self.custody.copies.remove(log);
            self.custody.stayed.insert(*log, stayed);
        }
    }

    /// Of a run, what stayed of what the hub has: key entries, and what they end in.
    pub(super) fn stayed_of(&self, log: &LogName, run: &Run) -> Vec<(u64, u64)> {
        let of_run = |head: &&Head| {
            let sequence = head.sequence;
            run.from <= sequence
                && sequence <= run.to
                && (!self.logs.is_branched(log, sequence, sequence)
                    || self
                        .logs
                        .entries(&self.overlay, log, run, sequence, sequence, 1)
                        .is_ok_and(|entries| entries.first().is_some_and(|held| held.hash == head.hash)))
        };
        let stayed = self.custody.stayed.get(log).into_iter().flatten();
        stayed.filter(of_run).map(|head| (head.sequence, head.sequence)).collect()
    }

    /// Of a run, some entries with what follows them up to the next signature: alone they could never be handed on.
    fn with_signatures(&mut self, log: &LogName, run: &Run, stays: &BTreeSet<u64>) -> Option<Vec<(u64, u64)>> {
        let chain = self.logs.entries(&self.overlay, log, run, run.from, run.to, usize::MAX);
        let chain = self.guard(chain)?;
        let mut ranges = Vec::new();
        for from in stays.iter().filter(|sequence| run.from <= **sequence && **sequence <= run.to) {
            let signed = self.logs.first_signed(&self.overlay, log, &chain, *from);
            ranges.push((*from, self.guard(signed)?.unwrap_or(run.to)));
        }
        Some(ranges)
    }

    fn newest_key(&mut self, log: &LogName, runs: &[(Run, Vec<(u64, u64)>)]) -> Option<u64> {
        for (run, _) in runs.iter().rev() {
            let chain = self.logs.entries(&self.overlay, log, run, run.from, run.to, usize::MAX);
            let key =
                self.guard(chain)?.iter().rev().find(|held| held.entry.kind == Kind::KEY).map(|held| held.sequence);
            if key.is_some() {
                return key;
            }
        }
        None
    }
}

fn bytes_of(held: &[Held]) -> u64 {
    held.iter().map(|held| held.entry.payload.length() as u64).sum()
}
