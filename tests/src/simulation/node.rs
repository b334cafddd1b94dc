//! One simulated device: its disk, its keys, and its process while it runs.

use stallmesh_node::engine::{
    Engine, Identity, MarketOrder, Now, RecoveryOrder, Settings, create_market, recover_market,
};
use stallmesh_node::link::LinkEvent;
use stallmesh_protocol::DeviceId;
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::sign::DeviceKey;

use super::{Disk, Medium, Witness};

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
    /// Where its wall clock stands still.
    pub clock_stands_at: Option<u64>,
    /// The market's root key, at the hub.
    pub root: Option<DeviceId>,
    /// The key itself, with the organiser.
    pub root_key: Option<DeviceKey>,
    /// The market's recovery key, with the organiser, too.
    pub recovery_secret: Option<[u8; 32]>,
    /// Whether the organiser has put both beside the hub's other keys.
    pub holds_root_key: bool,
    /// Why its process ended by itself.
    pub died: Option<String>,
    /// What the next start draws its incarnation from, instead of fresh randomness.
    pub next_seed: Option<[u8; 32]>,
    /// What the last start drew it from.
    pub last_seed: [u8; 32],
    /// A puppet's network events; `None` for nodes with an engine.
    pub(super) inbox: Option<Vec<LinkEvent>>,
    ticked_at: u64,
    /// How many ticks came a millisecond after the one before.
    in_a_row: u64,
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
    pub(super) fn device(random: &mut u64, media: bool, settings: Settings) -> Self {
        let identity = Identity {
            device: DeviceKey::from_seed(&draw(random)),
            seal_secret: draw(random),
            opening_secrets: Vec::new(),
        };
        SimNode {
            disk: if media { Disk::on(Medium::default()) } else { Disk::default() },
            identity,
            settings,
            engine: None,
            clock_error: 0,
            clock_stands_at: None,
            root: None,
            root_key: None,
            recovery_secret: None,
            holds_root_key: false,
            died: None,
            next_seed: None,
            last_seed: [0; 32],
            inbox: None,
            ticked_at: 0,
            in_a_row: 0,
        }
    }

    pub(super) fn hub(random: &mut u64, media: bool, wall_ms: u64, order: &MarketOrder) -> Self {
        let mut node =
            Self::device(random, media, Settings { uplink_addresses: vec!["hub:0".into()], ..Settings::default() });
        node.identity.opening_secrets = vec![draw(random)];
        let root = DeviceKey::from_seed(&draw(random));
        let recovery_secret = draw(random);
        let recovery = SealKey::from_secret(&recovery_secret).map(|key| key.public()).unwrap_or_default();
        let now = Now { monotonic_ms: 0, wall_ms };
        assert!(node.disk.open().is_ok(), "a new disk");
        let created = create_market(node.disk.clone(), order, &node.identity, &root, recovery, draw(random), now);
        assert!(created.is_ok(), "{created:?}");
        node.disk.close();
        node.root = Some(root.id());
        node.root_key = Some(root);
        node.recovery_secret = Some(recovery_secret);
        node
    }

    /// A new hub for the market of one that is gone, made from what its organiser has.
    pub(super) fn recovered(random: &mut u64, media: bool, now: Now, order: &RecoveryOrder, gone: &SimNode) -> Self {
        let mut node = Self::device(random, media, gone.settings.clone());
        node.identity.opening_secrets = vec![draw(random)];
        node.root_key.clone_from(&gone.root_key);
        (node.root, node.recovery_secret, node.holds_root_key) = (gone.root, gone.recovery_secret, true);
        let recovery = gone.recovery_secret.and_then(|secret| SealKey::from_secret(&secret).ok());
        let recovery = recovery.map(|key| key.public()).unwrap_or_default();
        assert!(node.disk.open().is_ok(), "a new disk");
        if let Some(root) = &node.root_key {
            let made = recover_market(node.disk.clone(), order, &node.identity, root, recovery, draw(random), now);
            assert!(made.is_ok(), "{made:?}");
        }
        node.disk.close();
        node
    }

    pub(super) fn puppet(identity: Identity) -> Self {
        let mut node = Self::device(&mut 1, false, Settings::default());
        (node.identity, node.inbox) = (identity, Some(Vec::new()));
        node
    }

    /// Its public key.
    pub fn id(&self) -> DeviceId {
        self.identity.device.id()
    }

    pub(crate) fn now(&self, now: u64, opening: u64) -> Now {
        let wall_ms = (opening + now).saturating_add_signed(self.clock_error);
        Now { monotonic_ms: now, wall_ms: self.clock_stands_at.unwrap_or(wall_ms) }
    }

    pub(super) fn start(&mut self, random: &mut u64, now: u64, opening: u64, witness: &Witness) {
        self.died = None;
        self.disk.watch(witness, self.id());
        let seed = self.next_seed.take().unwrap_or_else(|| draw(random));
        self.last_seed = seed;
        let opened = self.disk.open().map_err(|error| error.to_string()).and_then(|()| {
            let (identity, settings) = (self.identity.clone(), self.settings.clone());
            Engine::open(self.disk.clone(), identity, settings, seed, self.now(now, opening))
                .map_err(|error| error.to_string())
        });
        match opened {
            Ok(mut engine) => {
                if let Some(key) = self.root_key.clone().filter(|_| self.holds_root_key) {
                    engine.hold_root(key);
                    if let Some(secret) = &self.recovery_secret {
                        assert!(engine.hold_recovery(secret).is_ok(), "a key");
                    }
                }
                self.engine = Some(engine);
            }
            Err(error) => {
                self.died = Some(error);
                self.disk.close();
            }
        }
    }

    pub(super) fn kill(&mut self) {
        self.engine = None;
        // What the process had not committed is gone with it; the disk itself works again.
        self.disk.close();
    }

    pub(super) fn due(&self) -> Option<u64> {
        // An engine that is due at once, again and again, still lets a millisecond pass.
        self.engine.as_ref()?.poll_timeout().map(|at| at.max(self.ticked_at + 1))
    }

    /// For how many milliseconds it has been due at once, again and again.
    pub fn spins_ms(&self) -> u64 {
        self.in_a_row
    }

    pub(super) fn ticked(&mut self, now: u64) {
        self.in_a_row = if now <= self.ticked_at + 1 { self.in_a_row + 1 } else { 0 };
        self.ticked_at = now;
    }
}
