//! A store in memory: deterministic, and a disk that a test can copy, roll back and make fail.

use std::collections::BTreeMap;

use super::{Batch, Direction, Pairs, Store, StoreError, Table};

/// A store without a disk. A clone is a copy of the disk: what the original writes later is not in it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
    fail_next: bool,
    dead: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// Makes the next commit fail as a full disk does; the handle is dead from then on.
    pub fn fail_next_commit(&mut self) {
        self.fail_next = true;
    }

    /// The disk after the process has ended: all that was committed.
    pub fn reopened(&self) -> Self {
        MemoryStore { tables: self.tables.clone(), fail_next: false, dead: false }
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if self.dead {
            return Err(StoreError::Dead { path: "memory".into() });
        }
        Ok(self.tables.get(&table).and_then(|table| table.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        direction: Direction,
    ) -> Result<Pairs, StoreError> {
        if self.dead {
            return Err(StoreError::Dead { path: "memory".into() });
        }
        let Some(table) = self.tables.get(&table).filter(|_| from < to) else { return Ok(Vec::new()) };
        let range = table.range(from.to_vec()..to.to_vec()).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Forward => range.take(limit).collect(),
            Direction::Backward => range.rev().take(limit).collect(),
        })
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if self.dead {
            return Err(StoreError::Dead { path: "memory".into() });
        }
        if std::mem::take(&mut self.fail_next) {
            self.dead = true;
            return Err(StoreError::Full { path: "memory".into() });
        }
        for (table, key, value) in batch.into_writes() {
            let table = self.tables.entry(table).or_default();
            match value {
                Some(value) => table.insert(key, value),
                None => table.remove(&key),
            };
        }
        Ok(())
    }
}
