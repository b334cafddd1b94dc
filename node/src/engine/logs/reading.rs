//! Looking entries up, and following chains back.

use stallmesh_protocol::membership::Ancestry;
use stallmesh_protocol::page::ENTRIES_MAX;
use stallmesh_protocol::{Hash, Head, LogId, LogName};

use super::rows::{decode_held, position_key, sequence_key, sequence_of};
use super::{Held, Logs, Run};
use crate::engine::overlay::{Overlay, after_prefix};
use crate::store::{Store, StoreError, Table};

impl Logs {
    /// All entries held at a position: more than one only in a forked log of a sealed lane.
    pub(crate) fn held_at<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        sequence: u64,
    ) -> Result<Vec<Held>, StoreError> {
        let from = sequence_key(&self.id(name), sequence);
        let pairs = overlay.scan(Table::Entries, &from, &after_prefix(&from), 16)?;
        Ok(pairs.iter().filter_map(|(_, value)| decode_held(name, sequence, value)).collect())
    }

    /// The entry at a position, by its hash.
    pub(crate) fn entry<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        head: Head,
    ) -> Result<Option<Held>, StoreError> {
        let value = overlay.get(Table::Entries, &position_key(&self.id(name), head))?;
        Ok(value.and_then(|value| decode_held(name, head.sequence, &value)).filter(|held| held.hash == head.hash))
    }

    /// Where an entry with this hash is held. Entries are kept by log and sequence, so this walks them, some at a time.
    pub(crate) fn find<S: Store>(&self, overlay: &Overlay<S>, hash: &Hash) -> Result<Option<(LogId, u64)>, StoreError> {
        let end = after_prefix(&[0xff]);
        let mut from = Vec::new();
        loop {
            let pairs = overlay.scan(Table::Entries, &from, &end, ENTRIES_MAX)?;
            if let Some((key, _)) = pairs.iter().find(|(_, value)| value.starts_with(hash.as_bytes())) {
                let log = key.get(..32).and_then(|log| LogId::try_from(log).ok());
                let sequence = key.get(32..40).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
                return Ok(log.zip(sequence));
            }
            match pairs.last() {
                Some((last, _)) => from = [last.as_slice(), &[0]].concat(),
                None => return Ok(None),
            }
        }
    }

    /// The hash at a position of a log without branches.
    pub(crate) fn hash_at<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        sequence: u64,
    ) -> Result<Option<Hash>, StoreError> {
        let from = sequence_key(&self.id(name), sequence);
        let pairs = overlay.scan(Table::Entries, &from, &after_prefix(&from), 1)?;
        Ok(pairs.first().and_then(|(_, value)| Hash::try_from(value.get(..32)?).ok()))
    }

    /// Entries of one chain from `from` on, at most `limit`, following the chain that begins after `previous`
    /// where that is given.
    pub(crate) fn chain<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        from: u64,
        to: u64,
        mut previous: Option<Hash>,
        limit: usize,
    ) -> Result<Vec<Held>, StoreError> {
        let id = self.id(name);
        let pairs = overlay.scan(
            Table::Entries,
            &sequence_key(&id, from),
            &sequence_key(&id, to.saturating_add(1)),
            limit.saturating_mul(2),
        )?;
        let mut chain: Vec<Held> = Vec::new();
        for (key, value) in pairs {
            let Some(sequence) = sequence_of(&key) else { continue };
            let Some(held) = decode_held(name, sequence, &value) else { continue };
            let next = chain.last().map_or(from, |last| last.sequence + 1);
            let fits = sequence == next && previous.is_none_or(|previous| previous == held.previous);
            if fits {
                previous = Some(held.hash);
                chain.push(held);
                if chain.len() == limit {
                    break;
                }
            }
        }
        Ok(chain)
    }

    /// Entries of a run from `from` to `to`, at most `limit`. Where the log has branches these are the ones that chain
    /// to the run's end: at the entry where histories part, going forward could follow either.
    pub(crate) fn entries<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        run: &Run,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Held>, StoreError> {
        let (from, to) = (from.max(run.from), to.min(run.to));
        if !self.is_branched(name, from, run.to) {
            return self.chain(overlay, name, from, to, None, limit);
        }
        let mut chain = self.ancestors(overlay, name, run.head(), from)?;
        chain.reverse();
        chain.retain(|held| held.sequence <= to);
        chain.truncate(limit);
        Ok(chain)
    }

    /// Of entries of one chain, ascending, the first signed one from a sequence on: a page ends at one.
    pub(crate) fn first_signed<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        chain: &[Held],
        from: u64,
    ) -> Result<Option<u64>, StoreError> {
        let id = self.id(name);
        for held in chain.iter().filter(|held| held.sequence >= from) {
            let head = Head { sequence: held.sequence, hash: held.hash };
            if overlay.get(Table::Signatures, &position_key(&id, head))?.is_some() {
                return Ok(Some(held.sequence));
            }
        }
        Ok(None)
    }

    /// Whether more than one run of a log has entries between two sequences.
    pub(crate) fn is_branched(&self, name: &LogName, from: u64, to: u64) -> bool {
        self.records
            .get(name)
            .is_some_and(|record| record.runs.iter().filter(|run| run.from <= to && from <= run.to).count() > 1)
    }

    /// The entry at a head and those before it, as far as they are held, newest first, down to `from`.
    pub(crate) fn ancestors<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        head: Head,
        from: u64,
    ) -> Result<Vec<Held>, StoreError> {
        let mut ancestors = Vec::new();
        let mut next = head;
        while next.sequence >= from.max(1) {
            let Some(held) = self.entry(overlay, name, next)? else { break };
            next = Head { sequence: held.sequence - 1, hash: held.previous };
            ancestors.push(held);
        }
        Ok(ancestors)
    }

    /// The lowest sequence that a run's entries chain back to, over the runs that it branched off from.
    pub(crate) fn reach<S: Store>(&self, overlay: &Overlay<S>, name: &LogName, run: &Run) -> Result<u64, StoreError> {
        let Some(record) = self.records.get(name) else { return Ok(run.from) };
        let mut run = *run;
        // Each step goes to a run that begins earlier.
        while run.from > 1 {
            let joint = Head { sequence: run.from - 1, hash: run.previous };
            if self.entry(overlay, name, joint)?.is_none() {
                break;
            }
            let mut parent = None;
            for other in record.runs.iter().filter(|other| other.from < run.from && joint.sequence <= other.to) {
                let entry = self.entries(overlay, name, other, joint.sequence, joint.sequence, 1)?;
                if entry.first().is_some_and(|held| held.hash == joint.hash) {
                    parent = Some(*other);
                }
            }
            match parent {
                Some(parent) => run = parent,
                None => break,
            }
        }
        Ok(run.from)
    }
}

/// Who is whose ancestor, by the entries that are held.
pub(crate) struct HeldAncestry<'a, S> {
    pub(crate) logs: &'a Logs,
    pub(crate) overlay: &'a Overlay<S>,
}

impl<S: Store> Ancestry for HeldAncestry<'_, S> {
    fn is_at_or_before(&self, log: &LogName, entry: Head, head: Head) -> Option<bool> {
        if entry.sequence >= head.sequence {
            return Some(entry == head);
        }
        if !self.logs.is_branched(log, entry.sequence, head.sequence) {
            return Some(true);
        }
        let ancestors = self.logs.ancestors(self.overlay, log, head, entry.sequence).ok()?;
        let last = ancestors.last()?;
        (last.sequence == entry.sequence).then_some(last.hash == entry.hash)
    }
}
