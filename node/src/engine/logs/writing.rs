//! Taking entries in, and letting go of them.

use stallmesh_protocol::entry::Entry;
use stallmesh_protocol::page::VerifiedPage;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::sign::Signature;
use stallmesh_protocol::{Hash, Head, LogName};

use super::rows::{encode_record, position_key, put_held};
use super::{Held, Inserted, Logs, RUNS_MAX, Record, Run};
use crate::engine::overlay::Overlay;
use crate::store::{Store, StoreError, Table};

impl Logs {
    /// Adds one entry of this device's running incarnation.
    pub(crate) fn append<S: Store>(
        &mut self,
        overlay: &mut Overlay<S>,
        name: LogName,
        head: Head,
        previous: Hash,
        entry: &Entry,
        signature: Option<&Signature>,
    ) {
        let id = self.id(&name);
        put_held(overlay, &id, head, previous, entry);
        if let Some(signature) = signature {
            self.put_signature(overlay, &name, head, signature);
        }
        let record = self.records.entry(name).or_insert_with(|| Record { id, runs: Vec::new() });
        match record.runs.iter_mut().find(|run| run.head().sequence + 1 == head.sequence && run.hash == previous) {
            Some(run) => (run.to, run.hash) = (head.sequence, head.hash),
            None => record.runs.push(Run { from: head.sequence, previous, to: head.sequence, hash: head.hash }),
        }
        let value = encode_record(&name, record);
        overlay.put(Table::Logs, *id.as_bytes(), value);
    }

    /// Puts a held entry again, with a part less.
    pub(crate) fn replace<S: Store>(&self, overlay: &mut Overlay<S>, held: &Held) {
        let head = Head { sequence: held.sequence, hash: held.hash };
        put_held(overlay, &self.id(&held.log), head, held.previous, &held.entry);
    }

    /// Keeps the signature of a position.
    pub(crate) fn put_signature<S: Store>(
        &self,
        overlay: &mut Overlay<S>,
        name: &LogName,
        head: Head,
        signature: &Signature,
    ) {
        overlay.put(Table::Signatures, position_key(&self.id(name), head), *signature.as_bytes());
    }

    /// Takes in a verified page.
    pub(crate) fn insert<S: Store>(
        &mut self,
        overlay: &mut Overlay<S>,
        name: &LogName,
        verified: &VerifiedPage,
    ) -> Result<Inserted, StoreError> {
        let inserted = if name.lane.is_sealed() {
            self.insert_scattered(overlay, name, verified)?
        } else {
            self.insert_in_order(overlay, name, verified)?
        };
        if let Inserted::New(_) | Inserted::Fork { .. } | Inserted::Duplicate = &inserted
            && (name.lane.is_sealed() || !matches!(inserted, Inserted::Fork { .. }))
        {
            let id = self.id(name);
            for (sequence, signature) in &verified.page().signatures {
                let offset = (sequence - verified.page().first) as usize;
                if let Some(hash) = verified.hashes().get(offset) {
                    let head = Head { sequence: *sequence, hash: *hash };
                    overlay.put(Table::Signatures, position_key(&id, head), *signature.as_bytes());
                }
            }
        }
        Ok(inserted)
    }

    /// Lanes that everyone keeps: one run from the first entry, without gaps.
    fn insert_in_order<S: Store>(
        &mut self,
        overlay: &mut Overlay<S>,
        name: &LogName,
        verified: &VerifiedPage,
    ) -> Result<Inserted, StoreError> {
        let id = self.id(name);
        let main = self.records.get(name).and_then(|record| record.main().copied());
        let head = main.map_or(Head::EMPTY, |run| run.head());
        let page = verified.page();
        if page.first > head.sequence + 1 {
            return Ok(Inserted::Gap);
        }
        let mut previous = page.previous;
        let unlike = page.first > 1 && self.hash_at(overlay, name, page.first - 1)? != Some(previous);
        if unlike && !planted::is_on(Bug::SequenceAlone) {
            return Ok(Inserted::Diverges);
        }
        let mut new = Vec::new();
        for (sequence, hash, entry) in verified.iter() {
            if sequence <= head.sequence {
                if self.hash_at(overlay, name, sequence)? != Some(hash) {
                    return Ok(Inserted::Fork { sequence, previous, new: Vec::new() });
                }
            } else {
                put_held(overlay, &id, Head { sequence, hash }, previous, entry);
                new.push(Held { log: *name, sequence, previous, hash, entry: entry.clone() });
            }
            previous = hash;
        }
        if new.is_empty() {
            return Ok(Inserted::Duplicate);
        }
        let record = Record {
            id,
            runs: vec![Run { from: 1, previous: Hash::ZERO, to: verified.head().sequence, hash: verified.head().hash }],
        };
        overlay.put(Table::Logs, *id.as_bytes(), encode_record(name, &record));
        self.records.insert(*name, record);
        Ok(Inserted::New(new))
    }

    /// Sealed lanes: any run, any branch.
    fn insert_scattered<S: Store>(
        &mut self,
        overlay: &mut Overlay<S>,
        name: &LogName,
        verified: &VerifiedPage,
    ) -> Result<Inserted, StoreError> {
        let id = self.id(name);
        let mut runs = self.records.get(name).map(|record| record.runs.clone()).unwrap_or_default();
        let mut previous = verified.page().previous;
        let mut new = Vec::new();
        let mut fork = None;
        for (sequence, hash, entry) in verified.iter() {
            let head = Head { sequence, hash };
            // Only a run that spans this sequence can hold this entry, or another one in its place.
            let spanned = runs.iter().any(|run| run.from <= sequence && sequence <= run.to);
            if spanned {
                let held = self.held_at(overlay, name, sequence)?;
                if held.iter().any(|held| held.hash == hash) {
                    previous = hash;
                    continue;
                }
                if fork.is_none() && held.iter().any(|held| held.previous == previous) {
                    fork = Some((sequence, previous));
                }
            }
            put_held(overlay, &id, head, previous, entry);
            extend_runs(&mut runs, head, previous);
            new.push(Held { log: *name, sequence, previous, hash, entry: entry.clone() });
            previous = hash;
        }
        if runs.len() > RUNS_MAX {
            for held in new {
                overlay.delete(Table::Entries, position_key(&id, Head { sequence: held.sequence, hash: held.hash }));
            }
            return Ok(Inserted::TooScattered);
        }
        if new.is_empty() {
            return Ok(Inserted::Duplicate);
        }
        runs.sort_by_key(|run| (run.from, run.hash));
        let record = Record { id, runs };
        overlay.put(Table::Logs, *id.as_bytes(), encode_record(name, &record));
        self.records.insert(*name, record);
        Ok(match fork {
            Some((sequence, previous)) => Inserted::Fork { sequence, previous, new },
            None => Inserted::New(new),
        })
    }

    /// Cuts a log of a lane that everyone keeps after a sequence: what followed was of a branch that doesn't count.
    pub(crate) fn cut<S: Store>(
        &mut self,
        overlay: &mut Overlay<S>,
        name: &LogName,
        last: u64,
    ) -> Result<(), StoreError> {
        let id = self.id(name);
        let Some(run) = self.records.get(name).and_then(Record::main).copied() else { return Ok(()) };
        let mut end = Head::EMPTY;
        for held in self.chain(overlay, name, last.max(1), run.to, None, usize::MAX)? {
            let head = Head { sequence: held.sequence, hash: held.hash };
            if held.sequence <= last {
                end = head;
                continue;
            }
            let key = position_key(&id, head);
            overlay.delete(Table::Entries, key.clone());
            overlay.delete(Table::Signatures, key);
        }
        if end == Head::EMPTY {
            overlay.delete(Table::Logs, *id.as_bytes());
            self.records.remove(name);
        } else {
            let record = Record { id, runs: vec![Run { to: end.sequence, hash: end.hash, ..run }] };
            overlay.put(Table::Logs, *id.as_bytes(), encode_record(name, &record));
            self.records.insert(*name, record);
        }
        Ok(())
    }

    /// Forgets entries of a run of a sealed log, all but those that are to be kept, and says which.
    pub(crate) fn forget<S: Store>(
        &mut self,
        overlay: &mut Overlay<S>,
        name: &LogName,
        run: &Run,
        keep: impl FnMut(&Held) -> bool,
    ) -> Result<Vec<Held>, StoreError> {
        let id = self.id(name);
        let chain = self.entries(overlay, name, run, run.from, run.to, usize::MAX)?;
        let (kept, forgotten): (Vec<Held>, Vec<Held>) = chain.into_iter().partition(keep);
        for held in &forgotten {
            let key = position_key(&id, Head { sequence: held.sequence, hash: held.hash });
            overlay.delete(Table::Entries, key.clone());
            overlay.delete(Table::Signatures, key);
        }
        if let Some(record) = self.records.get_mut(name) {
            record.runs.retain(|other| other != run);
            for held in kept {
                extend_runs(&mut record.runs, Head { sequence: held.sequence, hash: held.hash }, held.previous);
            }
            record.runs.sort_by_key(|run| (run.from, run.hash));
            if record.runs.is_empty() {
                overlay.delete(Table::Logs, *id.as_bytes());
                self.records.remove(name);
            } else {
                let value = encode_record(name, record);
                overlay.put(Table::Logs, *id.as_bytes(), value);
            }
        }
        Ok(forgotten)
    }
}

/// Puts an entry at its place among runs: extends one, joins two, or begins a new one.
fn extend_runs(runs: &mut Vec<Run>, head: Head, previous: Hash) {
    let before = runs.iter().position(|run| run.to + 1 == head.sequence && run.hash == previous);
    let after = runs.iter().position(|run| run.from == head.sequence + 1 && run.previous == head.hash);
    match (before, after) {
        (Some(before), Some(after)) => {
            (runs[before].to, runs[before].hash) = (runs[after].to, runs[after].hash);
            runs.remove(after);
        }
        (Some(before), None) => (runs[before].to, runs[before].hash) = (head.sequence, head.hash),
        (None, Some(after)) => (runs[after].from, runs[after].previous) = (head.sequence, previous),
        (None, None) => runs.push(Run { from: head.sequence, previous, to: head.sequence, hash: head.hash }),
    }
}
