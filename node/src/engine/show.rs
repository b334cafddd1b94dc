//! Logs, as people look at them.

use std::cmp::Reverse;

use stallmesh_protocol::entry::{Part, PartBody};
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::{DeviceId, Hash, LogName};

use super::logs::{Held, Run};
use super::{Engine, EntryView, Failure, FailureCode};
use crate::store::Store;

/// Entries that are read at once.
const CHUNK: u64 = 256;

/// Where an entry stands in the list: newest first, and in one order always.
type Place = (Reverse<u64>, Reverse<u64>, Hash);

impl<S: Store> Engine<S> {
    /// Entries of one device's logs, newest first; those after one in this order.
    pub(super) fn log_show(
        &mut self,
        author: Option<DeviceId>,
        lane: Option<&str>,
        before: Option<(u64, Hash)>,
        limit: usize,
    ) -> Result<Vec<EntryView>, Failure> {
        let author = author.unwrap_or_else(|| self.device.id());
        let runs: Vec<(LogName, Run)> = self
            .logs
            .of_author(author)
            .filter(|(name, _)| lane.is_none_or(|lane| name.lane.to_string() == lane))
            .flat_map(|(name, record)| record.runs.iter().map(|run| (*name, *run)))
            .collect();
        let mut from = None;
        if let Some((sequence, hash)) = before {
            for (name, run) in runs.iter().filter(|(_, run)| (run.from..=run.to).contains(&sequence)) {
                let found = self.newest(name, run, sequence, usize::MAX, None);
                from = from.or(found.into_iter().map(|(place, _)| place).find(|place| place.2 == hash));
            }
            if from.is_none() {
                let detail = "there is no such entry in these logs any more: begin anew, without `before`";
                return Err(Failure::new(FailureCode::ENotFound, detail));
            }
        }
        let mut found = Vec::new();
        for (name, run) in &runs {
            let of_run = self.newest(name, run, run.from, limit, from);
            found.extend(of_run.into_iter().map(|(place, held)| (place, *name, held)));
        }
        found.sort_by_key(|(place, ..)| *place);
        // Branches of a log share what is before their fork.
        found.dedup_by_key(|(place, ..)| *place);
        found.truncate(limit);
        Ok(found.into_iter().map(|(_, name, held)| self.entry_view(&name, &held)).collect())
    }

    /// Entries of a run, newest first, down to a sequence: at most so many that stand after a place in the list.
    fn newest(
        &mut self,
        name: &LogName,
        run: &Run,
        down_to: u64,
        limit: usize,
        after: Option<Place>,
    ) -> Vec<(Place, Held)> {
        let mut found = Vec::new();
        let (mut to, mut newest) = (run.to, u64::MAX);
        while found.len() < limit && to >= down_to {
            let from = down_to.max(to.saturating_sub(CHUNK - 1));
            let chain = self.logs.entries(&self.overlay, name, run, from, to, usize::MAX);
            let chain = self.guard(chain).unwrap_or_default();
            for held in chain.into_iter().rev() {
                // A clock that ran backwards can't move an entry above one that stands on it.
                newest = newest.min(held.entry.timestamp);
                let place = (Reverse(newest), Reverse(held.sequence), held.hash);
                if after.is_none_or(|after| place > after) && found.len() < limit {
                    found.push((place, held));
                }
            }
            let Some(next) = from.checked_sub(1) else { break };
            to = next;
        }
        found
    }

    fn entry_view(&self, name: &LogName, held: &Held) -> EntryView {
        let at = Position { log: *name, sequence: held.sequence, hash: held.hash };
        let standing = match self.views.ineffective.get(&at) {
            Some(reason) => reason.clone(),
            None => match self.views.membership.stands(&at, &self.views.coverage, &self.ancestry()) {
                Ok(()) => "stands".to_owned(),
                Err(reason) => reason.to_string(),
            },
        };
        EntryView {
            author: name.author.to_string(),
            incarnation: name.incarnation.to_string(),
            lane: name.lane.to_string(),
            sequence: held.sequence,
            hash: held.hash.to_string(),
            timestamp: held.entry.timestamp,
            kind: held.entry.kind.to_string(),
            bytes: held.entry.payload.length(),
            erased: matches!(held.entry.payload.part(Part::Personal), Some(PartBody::Erased(_))),
            standing,
        }
    }
}
