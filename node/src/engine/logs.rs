//! The logs that this node holds: chains of entries, kept as runs.
//!
//! A run is a stretch of entries that chain to each other. On the lanes that everyone keeps a log is one run from its
//! first entry; a second history of it is evidence, not content. On sealed lanes a log may be held in several runs:
//! gaps that are still to come, and every branch of a fork, because a forked device's sales reach the hub too.
//!
//! ```text
//!   lane catalog   [1 ─────────────── 412]
//!   lane sales     [1 ── 40]   gap   [57 ── 60]        carried: newest first
//!                       └─ [41' ─ 43']                 the other branch of a fork
//! ```

use std::collections::BTreeMap;

use stallmesh_protocol::codec::Reader;
use stallmesh_protocol::entry::{Entry, Header, verify_head};
use stallmesh_protocol::fork::Branch;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::membership::Ancestry;
use stallmesh_protocol::page::{
    CARRIED_EVERY, ENTRIES_MAX, ENTRY_OVERHEAD_MAX, PAGE_MAX, Page, VerifiedPage, put_entry, take_entry,
};
use stallmesh_protocol::sign::Signature;
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Kind, Lane, LogId, LogName, MarketId};

use super::overlay::Overlay;
use crate::store::{Store, StoreError, Table};

/// The most runs of one log; a page that would make more is refused until gaps have closed.
pub(crate) const RUNS_MAX: usize = 256;
/// A page of at most so many entries carries every signature that is held.
const SHORT: usize = 128;
/// Bytes of entries between two signatures that a longer page carries though it need not.
const CUT_EVERY_BYTES: usize = 32 * 1024;

/// Entries that chain to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First sequence held.
    pub(crate) from: u64,
    /// Hash of the entry before the first.
    pub(crate) previous: Hash,
    /// Last sequence held.
    pub(crate) to: u64,
    /// Its hash.
    pub(crate) hash: Hash,
}

impl Run {
    pub(crate) fn interval(&self) -> Interval {
        Interval { from: self.from, to: self.to, hash: self.hash }
    }

    pub(crate) fn head(&self) -> Head {
        Head { sequence: self.to, hash: self.hash }
    }
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: LogId,
    /// By first sequence.
    pub(crate) runs: Vec<Run>,
}

impl Record {
    /// The run that begins at the log's first entry.
    pub(crate) fn main(&self) -> Option<&Run> {
        self.runs.iter().find(|run| run.from == 1)
    }

    /// The newest position held, of any run.
    pub(crate) fn newest(&self) -> Option<Head> {
        self.runs.iter().map(Run::head).max()
    }
}

/// An entry that is held, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) log: LogName,
    pub(crate) sequence: u64,
    pub(crate) previous: Hash,
    pub(crate) hash: Hash,
    pub(crate) entry: Entry,
}

/// What became of a page.
#[derive(Clone, Debug)]
pub(crate) enum Inserted {
    /// These entries are new and held now.
    New(Vec<Held>),
    /// All of it was held before.
    Duplicate,
    /// It begins after what is held, on a lane without gaps.
    Gap,
    /// Its predecessor is another entry than the one that is held there.
    Diverges,
    /// It shows another history from this sequence on. On sealed lanes its entries are held now, too.
    Fork {
        /// The first position that differs.
        sequence: u64,
        /// The hash of the entry before it.
        previous: Hash,
        /// New entries; empty on lanes that everyone keeps.
        new: Vec<Held>,
    },
    /// The log is in too many pieces.
    TooScattered,
}

/// All logs that are held, and how they stand in the store.
#[derive(Debug)]
pub(crate) struct Logs {
    market: MarketId,
    records: BTreeMap<LogName, Record>,
}

impl Logs {
    /// Reads the records of all logs.
    pub(crate) fn load<S: Store>(market: MarketId, overlay: &Overlay<S>) -> Result<Self, StoreError> {
        let mut records = BTreeMap::new();
        for (key, value) in overlay.scan_prefix(Table::Logs, &[])? {
            // A record that does not decode is a damaged store, which the checked open has excluded.
            if let (Ok(id), Some((name, runs))) = (LogId::try_from(key.as_slice()), decode_record(&value)) {
                records.insert(name, Record { id, runs });
            }
        }
        Ok(Logs { market, records })
    }

    pub(crate) fn get(&self, name: &LogName) -> Option<&Record> {
        self.records.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&LogName, &Record)> {
        self.records.iter()
    }

    pub(crate) fn on_lane(&self, lane: Lane) -> impl Iterator<Item = (&LogName, &Record)> {
        self.records.iter().filter(move |(name, _)| name.lane == lane)
    }

    pub(crate) fn of_author(&self, author: DeviceId) -> impl Iterator<Item = (&LogName, &Record)> {
        let first = LogName { author, incarnation: Incarnation::from_bytes([0; 16]), lane: Lane(0) };
        self.records.range(first..).take_while(move |(name, _)| name.author == author)
    }

    pub(crate) fn id(&self, name: &LogName) -> LogId {
        self.records.get(name).map_or_else(|| name.id(&self.market), |record| record.id)
    }

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
        if page.first > 1 && self.hash_at(overlay, name, page.first - 1)? != Some(previous) {
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

    /// All entries held at a position: more than one only in a forked log of a sealed lane.
    pub(crate) fn held_at<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        sequence: u64,
    ) -> Result<Vec<Held>, StoreError> {
        let from = sequence_key(&self.id(name), sequence);
        let pairs = overlay.scan(Table::Entries, &from, &super::overlay::after_prefix(&from), 16)?;
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

    /// Whether an entry with this hash is held. Entries are kept by log and sequence, so this walks them, some at a time.
    pub(crate) fn holds<S: Store>(&self, overlay: &Overlay<S>, hash: &Hash) -> Result<bool, StoreError> {
        let end = super::overlay::after_prefix(&[0xff]);
        let mut from = Vec::new();
        loop {
            let pairs = overlay.scan(Table::Entries, &from, &end, ENTRIES_MAX)?;
            if pairs.iter().any(|(_, value)| value.starts_with(hash.as_bytes())) {
                return Ok(true);
            }
            match pairs.last() {
                Some((last, _)) => from = [last.as_slice(), &[0]].concat(),
                None => return Ok(false),
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
        let pairs = overlay.scan(Table::Entries, &from, &super::overlay::after_prefix(&from), 1)?;
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

    /// A page of a run that begins at `from` and ends at a signed entry not after `to`; on sealed lanes, where there is
    /// none, at the first one after it, for what the receiver has already does no harm. At most `bytes_max` bytes where
    /// one entry fits that. Without a run: of a log without branches.
    pub(crate) fn page<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        from: u64,
        to: u64,
        run: Option<&Run>,
        bytes_max: usize,
    ) -> Result<Option<Page>, StoreError> {
        match self.page_to(overlay, name, from, to, run, bytes_max)? {
            // No budget: the first signature ends it.
            None if name.lane.is_sealed() => self.page_to(overlay, name, from, u64::MAX - 1, run, 0),
            page => Ok(page),
        }
    }

    fn page_to<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        from: u64,
        to: u64,
        run: Option<&Run>,
        bytes_max: usize,
    ) -> Result<Option<Page>, StoreError> {
        let id = self.id(name);
        let chain = match run {
            Some(run) => self.entries(overlay, name, run, from, to, ENTRIES_MAX)?,
            None => self.chain(overlay, name, from, to, None, ENTRIES_MAX)?,
        };
        let Some(first) = chain.first() else { return Ok(None) };
        let start = first.previous;
        let budget = bytes_max.min(PAGE_MAX).saturating_sub(128);
        let mut bytes = 0;
        let mut entries = Vec::new();
        // With each, whether a long page carries it, too.
        let mut signatures: Vec<(u64, Signature, bool)> = Vec::new();
        let (mut whole, mut cut) = (0, 0);
        for held in chain {
            bytes += held.entry.payload.length() + ENTRY_OVERHEAD_MAX;
            let head = Head { sequence: held.sequence, hash: held.hash };
            // Past the budget only as far as the first signature, so that every page says something.
            if bytes > budget && (whole > 0 || bytes > PAGE_MAX - 128) {
                break;
            }
            let opens_others = held.entry.kind == Kind::KEY;
            entries.push(held.entry);
            if let Some(signature) = overlay.get(Table::Signatures, &position_key(&id, head))?
                && let Ok(signature) = Signature::try_from(signature.as_slice())
            {
                whole = entries.len();
                let must = held.sequence.is_multiple_of(CARRIED_EVERY) || opens_others;
                let carried = must || bytes - cut >= CUT_EVERY_BYTES;
                cut = if carried { bytes } else { cut };
                bytes += 66;
                signatures.push((held.sequence, signature, carried));
            }
        }
        if whole == 0 {
            return Ok(None);
        }
        entries.truncate(whole);
        // Receivers check all that a page carries: of a long one what it must, and what lets them cut it again.
        let last = signatures.last().map(|(at, _, _)| *at);
        signatures.retain(|(at, _, carried)| whole <= SHORT || *carried || Some(*at) == last);
        let signatures = signatures.into_iter().map(|(at, signature, _)| (at, signature)).collect();
        Ok(Some(Page { first: from, previous: start, entries, signatures }))
    }

    /// The branch that begins with the given entry, up to the next signature that holds.
    pub(crate) fn branch<S: Store>(
        &self,
        overlay: &Overlay<S>,
        name: &LogName,
        first: Head,
    ) -> Result<Option<Branch>, StoreError> {
        let id = self.id(name);
        let Some(held) = self.entry(overlay, name, first)? else { return Ok(None) };
        let mut headers: Vec<Header> = Vec::new();
        for held in std::iter::once(held).chain(self.chain(
            overlay,
            name,
            first.sequence + 1,
            u64::MAX - 1,
            Some(first.hash),
            ENTRIES_MAX,
        )?) {
            headers.push(held.entry.header());
            let head = Head { sequence: held.sequence, hash: held.hash };
            if let Some(signature) = overlay.get(Table::Signatures, &position_key(&id, head))?
                && let Ok(signature) = Signature::try_from(signature.as_slice())
                && verify_head(&name.author, &id, &head, &signature).is_ok()
            {
                return Ok(Some(Branch { headers, signature }));
            }
        }
        Ok(None)
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

    /// Forgets the entries of an interval of a sealed log: the hub has them.
    pub(crate) fn forget<S: Store>(
        &mut self,
        overlay: &mut Overlay<S>,
        name: &LogName,
        run: &Run,
    ) -> Result<usize, StoreError> {
        let id = self.id(name);
        let chain = self.entries(overlay, name, run, run.from, run.to, usize::MAX)?;
        for held in &chain {
            let key = position_key(&id, Head { sequence: held.sequence, hash: held.hash });
            overlay.delete(Table::Entries, key.clone());
            overlay.delete(Table::Signatures, key);
        }
        if let Some(record) = self.records.get_mut(name) {
            record.runs.retain(|kept| kept != run);
            if record.runs.is_empty() {
                overlay.delete(Table::Logs, *id.as_bytes());
                self.records.remove(name);
            } else {
                let value = encode_record(name, record);
                overlay.put(Table::Logs, *id.as_bytes(), value);
            }
        }
        Ok(chain.len())
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

fn sequence_key(id: &LogId, sequence: u64) -> Vec<u8> {
    [id.as_bytes().as_slice(), &sequence.to_be_bytes()].concat()
}

fn position_key(id: &LogId, head: Head) -> Vec<u8> {
    [id.as_bytes().as_slice(), &head.sequence.to_be_bytes(), &head.hash.prefix()].concat()
}

fn sequence_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(32..40)?.try_into().ok()?))
}

fn put_held<S: Store>(overlay: &mut Overlay<S>, id: &LogId, head: Head, previous: Hash, entry: &Entry) {
    let mut value = Vec::with_capacity(64 + ENTRY_OVERHEAD_MAX + entry.payload.length());
    value.extend_from_slice(head.hash.as_bytes());
    value.extend_from_slice(previous.as_bytes());
    put_entry(&mut value, entry, head.sequence, 0, [0; 8]);
    overlay.put(Table::Entries, position_key(id, head), value);
}

fn decode_held(name: &LogName, sequence: u64, value: &[u8]) -> Option<Held> {
    let mut reader = Reader::new(value);
    let hash = Hash::from_bytes(reader.array("hash").ok()?);
    let previous = Hash::from_bytes(reader.array("previous").ok()?);
    let entry = take_entry(&mut reader, sequence, 0, [0; 8]).ok()?;
    Some(Held { log: *name, sequence, previous, hash, entry })
}

fn encode_record(name: &LogName, record: &Record) -> Vec<u8> {
    let mut value = Vec::with_capacity(52 + record.runs.len() * 80);
    value.extend_from_slice(name.author.as_bytes());
    value.extend_from_slice(name.incarnation.as_bytes());
    value.extend_from_slice(&name.lane.0.to_be_bytes());
    for run in &record.runs {
        value.extend_from_slice(&run.from.to_be_bytes());
        value.extend_from_slice(run.previous.as_bytes());
        value.extend_from_slice(&run.to.to_be_bytes());
        value.extend_from_slice(run.hash.as_bytes());
    }
    value
}

fn decode_record(value: &[u8]) -> Option<(LogName, Vec<Run>)> {
    let mut reader = Reader::new(value);
    let name = LogName {
        author: DeviceId::from_bytes(reader.array("author").ok()?),
        incarnation: Incarnation::from_bytes(reader.array("incarnation").ok()?),
        lane: Lane(u32::from_be_bytes(reader.array("lane").ok()?)),
    };
    let mut runs = Vec::new();
    while reader.remaining() > 0 {
        runs.push(Run {
            from: u64::from_be_bytes(reader.array("from").ok()?),
            previous: Hash::from_bytes(reader.array("previous").ok()?),
            to: u64::from_be_bytes(reader.array("to").ok()?),
            hash: Hash::from_bytes(reader.array("hash").ok()?),
        });
    }
    Some((name, runs))
}
