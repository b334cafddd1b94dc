//! The store as the engine sees it between two commits: what is on disk, under what is written but not committed.

use stallmesh_protocol::planted::{self, Bug};
use std::collections::BTreeMap;

use crate::store::{Batch, Direction, Pairs, Store, StoreError, Table};

/// Reads see the pending writes; [`Overlay::commit`] makes them durable together.
#[derive(Debug)]
pub(crate) struct Overlay<S> {
    store: S,
    pending: Batch,
    commits: u64,
}

impl<S: Store> Overlay<S> {
    pub(crate) fn new(store: S) -> Self {
        Overlay { store, pending: Batch::default(), commits: 0 }
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.pending.get(table, key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.store.get(table, key),
        }
    }

    pub(crate) fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.pending.put(table, key, value);
    }

    pub(crate) fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.pending.delete(table, key);
    }

    /// At most `limit` pairs with `from <= key < to`, ascending.
    pub(crate) fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        let pending: Vec<_> = self.pending.range(table, from, to).take(limit.saturating_mul(2)).collect();
        // Each pending deletion can hide one committed pair.
        let stored = self.store.scan(table, from, to, limit.saturating_add(pending.len()), Direction::Forward)?;
        if pending.is_empty() {
            return Ok(stored);
        }
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (key, value) in pending {
            match value {
                Some(value) => merged.insert(key.to_vec(), value.to_vec()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }

    /// At most `limit` pairs with `from <= key < to`, descending.
    pub(crate) fn scan_back(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        let pending: Vec<_> = self.pending.range(table, from, to).collect();
        let stored = self.store.scan(table, from, to, limit.saturating_add(pending.len()), Direction::Backward)?;
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (key, value) in pending {
            match value {
                Some(value) => merged.insert(key.to_vec(), value.to_vec()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().rev().take(limit).collect())
    }

    /// All pairs whose key begins so.
    pub(crate) fn scan_prefix(&self, table: Table, prefix: &[u8]) -> Result<Pairs, StoreError> {
        self.scan(table, prefix, &after_prefix(prefix), usize::MAX / 4)
    }

    /// Whether something waits for a commit.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let sells = || self.pending.range(Table::Sales, &[], &[0xff; 129]).next().is_some();
        if planted::is_on(Bug::CommitLater) && self.pending.len() < 24 && sells() {
            return Ok(());
        }
        let committed = self.store.commit(std::mem::take(&mut self.pending));
        if !planted::is_on(Bug::ErrorForgotten) {
            committed?;
        }
        self.commits += 1;
        Ok(())
    }

    /// How often something was made durable: callers that come at one time share a commit.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }
}

/// The first key after all that begin with `prefix`; for a prefix of 0xff bytes only, a key longer than any in use.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; 128]
}
