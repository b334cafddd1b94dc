//! Where a node keeps what must survive: an ordered key-value store with atomic, durable commits.
//!
//! The engine reads through [`Store`], gathers its writes in a [`Batch`], and hands it over whole: either all of it
//! is on disk when [`Store::commit`] returns, or none of it is. Only the `redb` module knows redb.

mod lock;
mod memory;
mod redb;

pub use self::lock::DirectoryLock;
pub use self::memory::MemoryStore;
pub use self::redb::{CACHE_BYTES, RedbStore, SCHEMA_VERSION, STORE_FILE, StorageBackend};

use std::collections::BTreeMap;

/// A named, ordered map from bytes to bytes. The discriminant and the name are on disk: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Small facts about this node and its store: schema version, counters.
    Meta = 0,
    /// Log id → name, extent, state.
    Logs = 1,
    /// (Log id, sequence) → entry.
    Entries = 2,
    /// (Log id, sequence) → signature.
    Signatures = 3,
    /// Views of the `control` lane: certificates, revocations, lines, invites.
    Control = 4,
    /// Views of the `checkpoint` lane.
    Checkpoints = 5,
    /// (Stall, SKU) → product.
    Catalog = 6,
    /// Views of the `signal` lane.
    Signals = 7,
    /// What this device has sold: sale id → position and state; receipt series.
    Sales = 8,
    /// Custody: what is held for others, what others hold for us, what the hub has acknowledged.
    Custody = 9,
    /// Hub: received intervals, posted sale ids.
    Received = 10,
    /// Hub: ledger rows.
    Ledger = 11,
    /// Hub: closings, their digests and statements.
    Closings = 12,
    /// Blobs by hash.
    Blobs = 13,
    /// Known peers and their addresses.
    Peers = 14,
    /// Evidence: fork proofs, refused bytes of which money may hang.
    Evidence = 15,
}

impl Table {
    /// Every table, in the order of its discriminant.
    pub const ALL: [Table; 16] = [
        Table::Meta,
        Table::Logs,
        Table::Entries,
        Table::Signatures,
        Table::Control,
        Table::Checkpoints,
        Table::Catalog,
        Table::Signals,
        Table::Sales,
        Table::Custody,
        Table::Received,
        Table::Ledger,
        Table::Closings,
        Table::Blobs,
        Table::Peers,
        Table::Evidence,
    ];

    /// The name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Logs => "logs",
            Table::Entries => "entries",
            Table::Signatures => "signatures",
            Table::Control => "control",
            Table::Checkpoints => "checkpoints",
            Table::Catalog => "catalog",
            Table::Signals => "signals",
            Table::Sales => "sales",
            Table::Custody => "custody",
            Table::Received => "received",
            Table::Ledger => "ledger",
            Table::Closings => "closings",
            Table::Blobs => "blobs",
            Table::Peers => "peers",
            Table::Evidence => "evidence",
        }
    }
}

/// Writes that take effect together. A later write to a key replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `None` deletes the key.
    writes: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.insert((table, key.into()), Some(value.into()));
    }

    /// Removes a key; no error where it is absent.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.writes.insert((table, key.into()), None);
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many keys are written or deleted.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// What the batch says of one key: `None`: nothing; `Some(None)`: deleted.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        // A borrowed lookup in a map of owned pairs needs an owned key; keys are short.
        self.writes.get(&(table, key.to_vec())).map(Option::as_deref)
    }

    /// Writes of one table with `from <= key < to`, in key order.
    pub fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&[u8], Option<&[u8]>)> {
        let (from, to) = (from.to_vec(), to.to_vec().max(from.to_vec()));
        self.writes.range((table, from)..(table, to)).map(|((_, key), value)| (key.as_slice(), value.as_deref()))
    }

    /// All writes, by table and then by key.
    pub fn into_writes(self) -> impl Iterator<Item = (Table, Vec<u8>, Option<Vec<u8>>)> {
        self.writes.into_iter().map(|((table, key), value)| (table, key, value))
    }
}

/// Keys with their values, in order.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Which end of a range a scan starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// A store. After [`StoreError::Dead`] the handle must be dropped and the process must recover by opening anew.
pub trait Store {
    /// The committed value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` committed pairs with `from <= key < to`.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        direction: Direction,
    ) -> Result<Pairs, StoreError>;

    /// Makes a batch durable: when this returns `Ok`, a power cut cannot undo it.
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError>;
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("{path} is already open in process {pid}: stop that node first, or use another --data-dir")]
    Locked {
        /// The data directory.
        path: String,
        /// Who holds it, or "unknown".
        pid: String,
    },
    /// Written by a newer program.
    #[error(
        "{path} was written by a newer stallmesh (schema {found}, this program knows up to {known}): \
         install that version again, or restore a copy from before the upgrade"
    )]
    Newer {
        /// The store's file.
        path: String,
        /// The version on disk.
        found: u32,
        /// The newest version that this program can read.
        known: u32,
    },
    /// The file is not whole.
    #[error(
        "{path} is damaged: {detail}. Nothing was changed; move it away and start again to fetch what neighbours hold"
    )]
    Damaged {
        /// The store's file.
        path: String,
        /// What was found.
        detail: String,
    },
    /// No room on the disk.
    #[error("{path}: the disk is full. Nothing was recorded; free some room and start the node again")]
    Full {
        /// The store's file.
        path: String,
    },
    /// The system refused: permissions, a read-only file system, an I/O error.
    #[error("{path}: {detail}")]
    Io {
        /// The store's file or directory.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// An earlier commit failed; what is on disk is known only after opening anew.
    #[error("{path}: an earlier write failed, so this store no longer answers; restart the node")]
    Dead {
        /// The store's file.
        path: String,
    },
}
