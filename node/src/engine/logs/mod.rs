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

mod pages;
mod reading;
mod rows;
mod writing;

use std::collections::BTreeMap;

use stallmesh_protocol::entry::Entry;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Lane, LogId, LogName, MarketId};

pub(crate) use self::reading::HeldAncestry;
use self::rows::decode_record;
use crate::engine::overlay::Overlay;
use crate::store::{Store, StoreError, Table};

/// The most runs of one log; a page that would make more is refused until gaps have closed.
pub(crate) const RUNS_MAX: usize = 256;

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

    /// Whether no two runs have entries at one sequence.
    pub(crate) fn is_one_history(&self) -> bool {
        let mut runs: Vec<&Run> = self.runs.iter().collect();
        runs.sort_by_key(|run| run.from);
        runs.windows(2).all(|pair| pair[0].to < pair[1].from)
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
}
