//! Where a simulated node keeps what must survive.

use std::cell::RefCell;
use std::rc::Rc;

use stallmesh_node::store::{Batch, Direction, MemoryStore, Pairs, RedbStore, Store, StoreError, Table};
use stallmesh_protocol::DeviceId;

use super::{Medium, Witness};

/// Bytes of pages that a simulated store keeps in memory.
const CACHE_BYTES: usize = 1024 * 1024;

/// A disk that outlives its process: in memory, where only the market matters, or the program's real store on a medium
/// that can fail.
#[derive(Clone, Debug)]
pub struct Disk {
    kept: Rc<RefCell<Kept>>,
    /// Sees what is written, and by whom.
    witness: Option<(Witness, DeviceId)>,
}

#[derive(Debug)]
enum Kept {
    Memory(MemoryStore),
    File { medium: Medium, store: Option<RedbStore> },
}

impl Default for Disk {
    fn default() -> Self {
        Disk { kept: Rc::new(RefCell::new(Kept::Memory(MemoryStore::new()))), witness: None }
    }
}

impl Disk {
    /// The program's own store, in a file on a medium.
    pub fn on(medium: Medium) -> Disk {
        Disk { kept: Rc::new(RefCell::new(Kept::File { medium, store: None })), witness: None }
    }

    /// A copy of all that is on it now: yesterday's backup, or a cloned card.
    pub fn copy(&self) -> Disk {
        let kept = match &*self.kept.borrow() {
            Kept::Memory(store) => Kept::Memory(store.reopened()),
            Kept::File { medium, .. } => Kept::File { medium: medium.copy(), store: None },
        };
        Disk { kept: Rc::new(RefCell::new(kept)), witness: self.witness.clone() }
    }

    /// The medium, where there is one.
    pub fn medium(&self) -> Option<Medium> {
        match &*self.kept.borrow() {
            Kept::Memory(_) => None,
            Kept::File { medium, .. } => Some(medium.clone()),
        }
    }

    pub(super) fn watch(&mut self, witness: &Witness, owner: DeviceId) {
        self.witness = Some((witness.clone(), owner));
    }

    /// The same disk, for somebody who only looks: what is written through it is nobody's.
    pub fn unwatched(mut self) -> Disk {
        self.witness = None;
        self
    }

    /// A process opens it.
    ///
    /// # Errors
    /// What it holds can't be read, or the medium fails.
    pub fn open(&self) -> Result<(), StoreError> {
        if let Kept::File { medium, store } = &mut *self.kept.borrow_mut()
            && store.is_none()
        {
            *store = Some(RedbStore::with_backend(medium.clone(), CACHE_BYTES)?);
        }
        Ok(())
    }

    /// The process that has it is gone, without a chance to write.
    pub(super) fn close(&self) {
        match &mut *self.kept.borrow_mut() {
            Kept::Memory(store) => *store = store.reopened(),
            Kept::File { medium, store } => {
                let was_cut = medium.is_off();
                medium.kill();
                *store = None;
                if !was_cut {
                    medium.power_on();
                }
            }
        }
    }

    /// Makes the next commit fail as a full disk does.
    pub fn fail_next_commit(&self) {
        match &mut *self.kept.borrow_mut() {
            Kept::Memory(store) => store.fail_next_commit(),
            Kept::File { medium, .. } => medium.set_room(Some(0)),
        }
    }

    /// Whether a run of bytes stands anywhere on it.
    pub fn contains(&self, needle: &[u8]) -> bool {
        Table::ALL.into_iter().any(|table| {
            self.scan(table, &[], &[0xff; 129], usize::MAX, Direction::Forward).unwrap_or_default().iter().any(
                |(key, value)| {
                    [key, value].iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
                },
            )
        })
    }

    fn with<T>(&self, read: impl FnOnce(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &*self.kept.borrow() {
            Kept::Memory(store) => read(store),
            Kept::File { store: Some(store), .. } => read(store),
            Kept::File { store: None, .. } => Err(StoreError::Dead { path: "closed".into() }),
        }
    }
}

impl Store for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|store| store.get(table, key))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        direction: Direction,
    ) -> Result<Pairs, StoreError> {
        self.with(|store| store.scan(table, from, to, limit, direction))
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let watched = self.witness.as_ref().filter(|(witness, _)| witness.looks()).map(|_| batch.clone());
        match &mut *self.kept.borrow_mut() {
            Kept::Memory(store) => store.commit(batch)?,
            Kept::File { store: Some(store), .. } => store.commit(batch)?,
            Kept::File { store: None, .. } => return Err(StoreError::Dead { path: "closed".into() }),
        }
        if let (Some((witness, owner)), Some(batch)) = (&self.witness, watched) {
            witness.commit(*owner, &batch);
        }
        Ok(())
    }
}
