//! One simulated device: its disk, its keys, and its process while it runs.

use std::cell::RefCell;
use std::rc::Rc;

use stallmesh_node::engine::{Engine, Identity, MarketOrder, Now, Settings, create_market};
use stallmesh_node::link::LinkEvent;
use stallmesh_node::store::{Batch, Direction, MemoryStore, Pairs, Store, StoreError, Table};
use stallmesh_protocol::DeviceId;
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::sign::DeviceKey;

use super::Witness;

/// A disk that outlives its process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    store: Rc<RefCell<MemoryStore>>,
    /// Sees what is written.
    witness: Option<Witness>,
}

impl Disk {
    /// A copy of all that is on it now: yesterday's backup, or a cloned card.
    pub fn copy(&self) -> Disk {
        Disk { store: Rc::new(RefCell::new(self.store.borrow().reopened())), witness: self.witness.clone() }
    }

    pub(super) fn watch(&mut self, witness: &Witness) {
        self.witness = Some(witness.clone());
    }

    /// Makes the next commit fail as a full disk does.
    pub fn fail_next_commit(&self) {
        self.store.borrow_mut().fail_next_commit();
    }

    /// Whether a run of bytes stands anywhere on it.
    pub fn contains(&self, needle: &[u8]) -> bool {
        let store = self.store.borrow();
        Table::ALL.into_iter().any(|table| {
            store.scan(table, &[], &[0xff; 129], usize::MAX, Direction::Forward).unwrap_or_default().iter().any(
                |(key, value)| {
                    [key, value].iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
                },
            )
        })
    }
}

impl Store for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.borrow().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        direction: Direction,
    ) -> Result<Pairs, StoreError> {
        self.store.borrow().scan(table, from, to, limit, direction)
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let watched = self.witness.is_some().then(|| batch.clone());
        self.store.borrow_mut().commit(batch)?;
        if let (Some(witness), Some(batch)) = (&self.witness, watched) {
            witness.commit(&batch);
        }
        Ok(())
    }
}

/// A device.
pub struct SimNode {
    /// Its disk.
    pub disk: Disk,
    /// Its keys.
    pub identity: Identity,
    /// Its configuration.
    pub settings: Settings,
    /// Its process, while it runs.
    pub engine: Option<Engine<Disk>>,
    /// How far its wall clock is off, in milliseconds.
    pub clock_error: i64,
    /// The market's root key, at the hub.
    pub root: Option<DeviceId>,
    /// The key itself, with the organiser.
    pub root_key: Option<DeviceKey>,
    /// Whether the organiser has put it beside the hub's other keys.
    pub holds_root_key: bool,
    /// Why its process ended by itself.
    pub died: Option<String>,
    /// What the next start draws its incarnation from, instead of fresh randomness.
    pub next_seed: Option<[u8; 32]>,
    /// A puppet's network events; `None` for nodes with an engine.
    pub(super) inbox: Option<Vec<LinkEvent>>,
    ticked_at: u64,
}

pub(super) fn draw(random: &mut u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_mut(8) {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        chunk.copy_from_slice(&random.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
    }
    bytes
}

impl SimNode {
    pub(super) fn device(random: &mut u64, settings: Settings) -> Self {
        let identity =
            Identity { device: DeviceKey::from_seed(&draw(random)), seal_secret: draw(random), opening_secret: None };
        SimNode {
            disk: Disk::default(),
            identity,
            settings,
            engine: None,
            clock_error: 0,
            root: None,
            root_key: None,
            holds_root_key: false,
            died: None,
            next_seed: None,
            inbox: None,
            ticked_at: 0,
        }
    }

    pub(super) fn hub(random: &mut u64, wall_ms: u64, order: &MarketOrder) -> Self {
        let mut node = Self::device(random, Settings { uplink_addresses: vec!["hub:0".into()], ..Settings::default() });
        node.identity.opening_secret = Some(draw(random));
        let root = DeviceKey::from_seed(&draw(random));
        let recovery = SealKey::from_secret(&draw(random)).map(|key| key.public()).unwrap_or_default();
        let now = Now { monotonic_ms: 0, wall_ms };
        let created = create_market(node.disk.clone(), order, &node.identity, &root, recovery, draw(random), now);
        assert!(created.is_ok(), "{created:?}");
        node.root = Some(root.id());
        node.root_key = Some(root);
        node
    }

    pub(super) fn puppet(identity: Identity) -> Self {
        let mut node = Self::device(&mut 1, Settings::default());
        (node.identity, node.inbox) = (identity, Some(Vec::new()));
        node
    }

    /// Its public key.
    pub fn id(&self) -> DeviceId {
        self.identity.device.id()
    }

    pub(super) fn now(&self, now: u64, opening: u64) -> Now {
        Now { monotonic_ms: now, wall_ms: (opening + now).saturating_add_signed(self.clock_error) }
    }

    pub(super) fn start(&mut self, random: &mut u64, now: u64, opening: u64, witness: &Witness) {
        self.died = None;
        self.disk.watch(witness);
        let seed = self.next_seed.take().unwrap_or_else(|| draw(random));
        let opened =
            Engine::open(self.disk.clone(), self.identity.clone(), self.settings.clone(), seed, self.now(now, opening));
        match opened {
            Ok(mut engine) => {
                if let Some(key) = self.root_key.clone().filter(|_| self.holds_root_key) {
                    engine.hold_root(key);
                }
                self.engine = Some(engine);
            }
            Err(error) => self.died = Some(error.to_string()),
        }
    }

    pub(super) fn kill(&mut self) {
        self.engine = None;
        // What the process had not committed is gone with it; the disk itself works again.
        let disk = self.disk.store.borrow().reopened();
        *self.disk.store.borrow_mut() = disk;
    }

    pub(super) fn due(&self, now: u64) -> Option<u64> {
        // An engine that is due at once, again and again, still lets a millisecond pass.
        self.engine.as_ref()?.poll_timeout().map(|at| at.max(now).max(self.ticked_at + 1))
    }

    pub(super) fn ticked(&mut self, now: u64) {
        self.ticked_at = now;
    }
}
