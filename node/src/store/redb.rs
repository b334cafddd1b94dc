//! The store on disk: redb, set up so that what it acknowledged survives power cuts and bit rot is noticed.
//!
//! - two-phase commit: with one phase, bit flips after an unclean stop lost the last acknowledged commit in silence;
//! - a checked open: without it, a file that rotted after a clean stop was trusted;
//! - no quick repair, no savepoints, no relaxed durability, for the same reasons.
//!
//! After any storage error the handle is dead: the system may have dropped pages that it failed to write, so nothing
//! that it says later can be believed. The process must end and open the file anew.

use stallmesh_protocol::planted::{self, Bug};
use std::path::{Path, PathBuf};

/// What a store stands on, if not a file: the simulator's disks.
pub use redb::StorageBackend;
use redb::{Database, ReadableDatabase, TableDefinition};

use super::lock::DirectoryLock;
use super::{Batch, Direction, Pairs, Store, StoreError, Table};

/// The newest layout that this program knows.
pub const SCHEMA_VERSION: u32 = 1;
/// The file's name in the data directory.
pub const STORE_FILE: &str = "node.redb";
/// Bytes of pages that redb keeps in memory for a stall's node.
pub const CACHE_BYTES: usize = 8 * 1024 * 1024;

const SCHEMA_KEY: &[u8] = b"schema";

/// How a store of one schema version becomes one of the next; run in one commit with the new version number.
struct Migration {
    from: u32,
    apply: fn(&dyn Store, &mut Batch) -> Result<(), StoreError>,
}

/// Oldest first. Empty as long as there is one version.
const MIGRATIONS: &[Migration] = &[];

/// A store in one file of the data directory.
pub struct RedbStore {
    database: Database,
    path: String,
    dead: bool,
    _lock: Option<DirectoryLock>,
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RedbStore").field("path", &self.path).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Opens or creates the store of a data directory, and holds the directory's lock as long as it lives.
    ///
    /// # Errors
    /// Another process has the directory, the file is damaged or newer, or the system refuses.
    pub fn open(directory: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        Self::open_locked(directory, cache_bytes, DirectoryLock::take(directory)?)
    }

    /// As [`RedbStore::open`], for whoever took the directory's lock before.
    ///
    /// # Errors
    /// The file is damaged or newer, or the system refuses.
    pub fn open_locked(directory: &Path, cache_bytes: usize, lock: DirectoryLock) -> Result<Self, StoreError> {
        let file = directory.join(STORE_FILE);
        let mut store = Self::open_file(&file, cache_bytes)?;
        store._lock = Some(lock);
        Ok(store)
    }

    fn open_file(file: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let path = file.display().to_string();
        // redb would make a new store of it, and what it held would be gone without a word.
        if std::fs::metadata(file).is_ok_and(|metadata| metadata.len() == 0) {
            return Err(StoreError::Damaged { path, detail: "it is empty".into() });
        }
        let opened = PathBuf::from(file);
        Self::guarded(path, move || {
            Database::builder().set_cache_size(cache_bytes).set_check_integrity_on_open(true).create(opened)
        })
    }

    /// Opens a store on any backend: the simulator's disks.
    ///
    /// # Errors
    /// As [`RedbStore::open`], but for the lock.
    pub fn with_backend(backend: impl StorageBackend, cache_bytes: usize) -> Result<Self, StoreError> {
        Self::guarded("backend".into(), move || {
            Database::builder()
                .set_cache_size(cache_bytes)
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)
        })
    }

    fn guarded(path: String, open: impl FnOnce() -> Result<Database, redb::DatabaseError>) -> Result<Self, StoreError> {
        // redb panics on some files that a lying disk left behind; a damaged file is an answer, not a crash.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(open_error(&path, error)),
            Err(_) => return Err(StoreError::Damaged { path, detail: "its pages contradict each other".into() }),
        };
        let mut store = RedbStore { database, path, dead: false, _lock: None };
        store.prepare()?;
        Ok(store)
    }

    /// Creates the tables, checks the schema version, and migrates.
    fn prepare(&mut self) -> Result<(), StoreError> {
        let found = self.schema()?;
        match found {
            Some(found) if found > SCHEMA_VERSION => {
                return Err(StoreError::Newer { path: self.path.clone(), found, known: SCHEMA_VERSION });
            }
            Some(SCHEMA_VERSION) => return Ok(()),
            _ => {}
        }
        let mut batch = Batch::default();
        for migration in MIGRATIONS.iter().filter(|migration| Some(migration.from) >= found && found.is_some()) {
            (migration.apply)(self, &mut batch)?;
        }
        batch.put(Table::Meta, SCHEMA_KEY, SCHEMA_VERSION.to_be_bytes());
        self.commit(batch)
    }

    fn schema(&self) -> Result<Option<u32>, StoreError> {
        let Some(value) = self.get(Table::Meta, SCHEMA_KEY)? else { return Ok(None) };
        let version = value.as_slice().try_into().map(u32::from_be_bytes);
        version.map(Some).map_err(|_| StoreError::Damaged {
            path: self.path.clone(),
            detail: "its schema version is not a number".into(),
        })
    }

    fn check_alive(&self) -> Result<(), StoreError> {
        if self.dead { Err(StoreError::Dead { path: self.path.clone() }) } else { Ok(()) }
    }

    fn write(&self, batch: Batch) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(true);
        if planted::is_on(Bug::LazySync) && batch.range(Table::Sales, &[], &[0xff; 129]).next().is_some() {
            let _ = transaction.set_durability(redb::Durability::None);
        }
        {
            let mut writes = batch.into_writes().peekable();
            while let Some((table, _, _)) = writes.peek() {
                let table = *table;
                let mut open = transaction.open_table(definition(table))?;
                while let Some((_, key, value)) = writes.next_if(|(next, _, _)| *next == table) {
                    match value {
                        Some(value) => open.insert(key.as_slice(), value.as_slice())?,
                        None => open.remove(key.as_slice())?,
                    };
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn read<T>(
        &self,
        table: Table,
        read: impl FnOnce(redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, redb::Error>,
        absent: T,
    ) -> Result<T, StoreError> {
        self.check_alive()?;
        let result = (|| {
            let transaction = self.database.begin_read()?;
            match transaction.open_table(definition(table)) {
                Ok(table) => read(table),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(absent),
                Err(error) => Err(error.into()),
            }
        })();
        result.map_err(|error: redb::Error| runtime_error(&self.path, error))
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(table, |table| Ok(table.get(key)?.map(|value| value.value().to_vec())), None)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        direction: Direction,
    ) -> Result<Pairs, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.read(
            table,
            |table| {
                let mut range = table.range(from..to)?;
                let mut pairs = Vec::new();
                while pairs.len() < limit {
                    let next = match direction {
                        Direction::Forward => range.next(),
                        Direction::Backward => range.next_back(),
                    };
                    let Some(pair) = next else { break };
                    let (key, value) = pair?;
                    pairs.push((key.value().to_vec(), value.value().to_vec()));
                }
                Ok(pairs)
            },
            Vec::new(),
        )
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.check_alive()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.write(batch).map_err(|error| {
            self.dead = true;
            runtime_error(&self.path, error)
        })
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

fn open_error(path: &str, error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
            StoreError::Locked { path: path.into(), pid: "unknown".into() }
        }
        redb::DatabaseError::UpgradeRequired(version) => StoreError::Damaged {
            path: path.into(),
            detail: format!("it has file format {version}, which this program can't read"),
        },
        redb::DatabaseError::RepairAborted => {
            StoreError::Damaged { path: path.into(), detail: "its repair was stopped".into() }
        }
        redb::DatabaseError::Storage(error) => runtime_error(path, error.into()),
        other => StoreError::Io { path: path.into(), detail: other.to_string() },
    }
}

fn runtime_error(path: &str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => io_error(path, &error),
        redb::Error::Corrupted(detail) => StoreError::Damaged { path: path.into(), detail },
        redb::Error::PreviousIo => StoreError::Dead { path: path.into() },
        other => StoreError::Io { path: path.into(), detail: other.to_string() },
    }
}

/// An error of the system, in the store's words.
pub(super) fn io_error(path: &str, error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full { path: path.into() },
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
            StoreError::Damaged { path: path.into(), detail: error.to_string() }
        }
        _ => StoreError::Io { path: path.into(), detail: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
