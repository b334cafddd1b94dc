#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::store::MemoryStore;

/// A disk whose unsynced sectors survive a power cut, or don't, each on its own.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    durable: Vec<u8>,
    pending: BTreeMap<u64, Vec<u8>>,
    length: u64,
    fail_sync: bool,
    syncs: u64,
    cut_after_writes: Option<u64>,
}

const SECTOR: u64 = 512;

impl DiskState {
    fn live(&self, offset: u64, out: &mut [u8]) {
        for (at, byte) in (offset..).zip(out.iter_mut()) {
            *byte = match self.pending.get(&(at / SECTOR)) {
                Some(sector) => sector[(at % SECTOR) as usize],
                None => self.durable.get(at as usize).copied().unwrap_or(0),
            };
        }
    }

    fn sector(&mut self, number: u64) -> &mut Vec<u8> {
        let start = (number * SECTOR) as usize;
        let durable = &self.durable;
        self.pending.entry(number).or_insert_with(|| {
            (start..start + SECTOR as usize).map(|at| durable.get(at).copied().unwrap_or(0)).collect()
        })
    }
}

impl Disk {
    /// What is left after the power was cut; `seed` decides which unsynced sectors made it.
    fn after_cut(&self, seed: u64) -> Disk {
        let state = self.0.lock().unwrap();
        let mut durable = state.durable.clone();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        durable.resize(durable.len().max(state.length as usize), 0);
        for (number, sector) in &state.pending {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random & 1 == 0 {
                let start = (number * SECTOR) as usize;
                let end = (start + sector.len()).min(durable.len());
                if start < end {
                    durable[start..end].copy_from_slice(&sector[..end - start]);
                }
            }
        }
        let length = durable.len() as u64;
        Disk(Arc::new(Mutex::new(DiskState { durable, length, ..DiskState::default() })))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.lock().unwrap().live(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if std::mem::take(&mut state.fail_sync) {
            // As ext4 does: the error is said once, and the dirty pages are gone.
            state.pending.clear();
            return Err(io::Error::other("the disk said no"));
        }
        let length = state.length as usize;
        state.durable.resize(length, 0);
        for (number, sector) in std::mem::take(&mut state.pending) {
            let start = (number * SECTOR) as usize;
            let end = (start + sector.len()).min(length);
            if start < end {
                state.durable[start..end].copy_from_slice(&sector[..end - start]);
            }
        }
        state.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        match &mut state.cut_after_writes {
            Some(0) => return Err(io::Error::other("the power is off")),
            Some(left) => *left -= 1,
            None => {}
        }
        for (at, byte) in (offset..).zip(data) {
            let sector = state.sector(at / SECTOR);
            sector[(at % SECTOR) as usize] = *byte;
        }
        Ok(())
    }
}

fn batch(pairs: &[(u8, Option<u8>)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in pairs {
        match value {
            Some(value) => batch.put(Table::Entries, vec![*key], vec![*value; 40]),
            None => batch.delete(Table::Entries, vec![*key]),
        }
    }
    batch
}

fn contents(store: &impl Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.scan(Table::Entries, &[], &[0xff; 4], usize::MAX, Direction::Forward).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn redb_and_memory_agree(batches in prop::collection::vec(prop::collection::vec((any::<u8>(), any::<Option<u8>>()), 0..12), 0..8), from: u8, to: u8, limit in 0_usize..20) {
        let disk = Disk::default();
        let mut memory = MemoryStore::new();
        for pairs in &batches {
            // Reopened before every batch: what was committed is what is found.
            let mut store = RedbStore::with_backend(disk.clone(), CACHE_BYTES).unwrap();
            store.commit(batch(pairs)).unwrap();
            memory.commit(batch(pairs)).unwrap();
            for direction in [Direction::Forward, Direction::Backward] {
                prop_assert_eq!(
                    store.scan(Table::Entries, &[from], &[to], limit, direction).unwrap(),
                    memory.scan(Table::Entries, &[from], &[to], limit, direction).unwrap()
                );
            }
            prop_assert_eq!(store.get(Table::Entries, &[from]).unwrap(), memory.get(Table::Entries, &[from]).unwrap());
            prop_assert_eq!(contents(&store), contents(&memory));
        }
    }
}

#[test]
fn adv_124_a_power_cut_at_any_write_loses_no_acknowledged_batch() {
    for seed in 0..300_u64 {
        let disk = Disk::default();
        let mut acknowledged = MemoryStore::new();
        let mut torn = None;
        {
            let mut store = RedbStore::with_backend(disk.clone(), CACHE_BYTES).unwrap();
            disk.0.lock().unwrap().cut_after_writes = Some(seed % 60);
            for round in 0..20_u8 {
                let pairs: Vec<_> = (0..5_u8).map(|key| (key * 50 + round % 7, Some(round))).collect();
                match store.commit(batch(&pairs)) {
                    Ok(()) => acknowledged.commit(batch(&pairs)).unwrap(),
                    Err(_) => {
                        torn = Some(batch(&pairs));
                        break;
                    }
                }
            }
            // Dropping it may try to write: the power is off.
        }
        let store = RedbStore::with_backend(disk.after_cut(seed), CACHE_BYTES).unwrap();
        let found = contents(&store);
        let mut with_torn = acknowledged.clone();
        if let Some(torn) = torn {
            with_torn.commit(torn).unwrap();
        }
        assert!(found == contents(&acknowledged) || found == contents(&with_torn), "seed {seed}");
    }
}

#[test]
fn adv_125_after_a_failed_sync_the_handle_is_dead_and_nothing_acknowledged_is_lost() {
    let disk = Disk::default();
    let mut store = RedbStore::with_backend(disk.clone(), CACHE_BYTES).unwrap();
    store.commit(batch(&[(1, Some(1))])).unwrap();
    disk.0.lock().unwrap().fail_sync = true;
    assert!(store.commit(batch(&[(2, Some(2))])).is_err());
    assert!(matches!(store.commit(batch(&[(3, Some(3))])), Err(StoreError::Dead { .. })));
    assert!(matches!(store.get(Table::Entries, &[1]), Err(StoreError::Dead { .. })));
    drop(store);
    let store = RedbStore::with_backend(disk.after_cut(7), CACHE_BYTES).unwrap();
    assert_eq!(store.get(Table::Entries, &[1]).unwrap(), Some(vec![1; 40]));
}

#[test]
fn adv_131_a_second_open_of_a_directory_names_the_process_that_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let _first = RedbStore::open(directory.path(), CACHE_BYTES).unwrap();
    let error = RedbStore::open(directory.path(), CACHE_BYTES).unwrap_err();
    match error {
        StoreError::Locked { pid, .. } => assert_eq!(pid, std::process::id().to_string()),
        other => panic!("{other}"),
    }
}

#[test]
fn a_lock_file_that_was_left_behind_is_no_lock() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("node.lock"), "4294967295\n").unwrap();
    RedbStore::open(directory.path(), CACHE_BYTES).unwrap();
}

#[test]
fn adv_139_a_newer_store_is_refused_and_left_as_it_is() {
    let disk = Disk::default();
    let mut store = RedbStore::with_backend(disk.clone(), CACHE_BYTES).unwrap();
    let mut batch = Batch::default();
    batch.put(Table::Meta, SCHEMA_KEY, (SCHEMA_VERSION + 1).to_be_bytes());
    store.commit(batch).unwrap();
    drop(store);
    let error = RedbStore::with_backend(disk, CACHE_BYTES).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found, .. } if found == SCHEMA_VERSION + 1), "{error}");
}

#[test]
fn a_damaged_file_is_named_and_never_replaced() {
    for (what, bytes) in [
        ("zeros", vec![0; 8192]),
        ("noise", (0..20_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("one byte", vec![7]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(STORE_FILE);
        std::fs::write(&file, &bytes).unwrap();
        let error = RedbStore::open(directory.path(), CACHE_BYTES).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Io { .. }), "{what}: {error}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{what}");
    }
}

#[test]
fn a_truncated_store_is_an_error_at_every_length() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = RedbStore::open(directory.path(), CACHE_BYTES).unwrap();
    for key in 0..200_u8 {
        store.commit(batch(&[(key, Some(key))])).unwrap();
    }
    drop(store);
    let whole = std::fs::read(directory.path().join(STORE_FILE)).unwrap();
    for part in 1..16 {
        let cut = tempfile::tempdir().unwrap();
        std::fs::write(cut.path().join(STORE_FILE), &whole[..whole.len() * part / 16]).unwrap();
        if let Ok(store) = RedbStore::open(cut.path(), CACHE_BYTES) {
            // Only free room was cut off: then nothing may be missing.
            assert_eq!(contents(&store).len(), 200, "{part}/16");
        }
    }
}
