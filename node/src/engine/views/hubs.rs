//! What is said of hubs: their opening keys, which of them are gone, who wrote last.

use std::collections::BTreeMap;

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::payload;
use stallmesh_protocol::{DeviceId, Hash};

use super::Views;

/// The place of an opening key among its hub's: covering checkpoint, time, sequence, hash.
type Rank = (u64, u64, u64, Hash);

impl Views {
    /// Keys that sales are sealed to: the newest of each hub that is neither revoked nor gone; of all hubs where no such
    /// one is known, for a sale must be sealed to somebody.
    pub(crate) fn opening_keys(&self) -> Vec<[u8; 32]> {
        let newest = self.newest_opening_keys();
        let at_work = |hub: &DeviceId| !self.is_burned(hub) && !self.membership.is_revoked(hub);
        let of_some: Vec<[u8; 32]> = newest.iter().filter(|(hub, _)| at_work(hub)).map(|(_, key)| *key).collect();
        if of_some.is_empty() { newest.into_values().collect() } else { of_some }
    }

    /// The newest opening key of a hub.
    pub(crate) fn opening_key_of(&self, hub: &DeviceId) -> Option<[u8; 32]> {
        self.newest_opening_keys().get(hub).copied()
    }

    /// Each hub's newest: covered last, or not yet; then written last, by time and by place; then the greater hash.
    fn newest_opening_keys(&self) -> BTreeMap<DeviceId, [u8; 32]> {
        let mut by_hub: BTreeMap<DeviceId, (Rank, [u8; 32])> = BTreeMap::new();
        for (written, key, _) in &self.opening_keys {
            if self.permits(written, Scope::SETTLE).is_ok() {
                let rank = (self.rank(written).0, self.time_of(written), written.at.sequence, written.at.hash);
                let newest = by_hub.entry(written.at.log.author).or_insert((rank, *key));
                if rank > newest.0 {
                    *newest = (rank, *key);
                }
            }
        }
        by_hub.into_iter().map(|(hub, (_, key))| (hub, key)).collect()
    }

    /// Every opening key that was ever published, whether or not its entry has effect: who says so, key, message.
    pub(crate) fn published_opening_keys(&self) -> impl Iterator<Item = (&DeviceId, &[u8; 32], &payload::OpeningKey)> {
        self.opening_keys.iter().map(|(written, key, message)| (&written.at.log.author, key, message))
    }

    /// Whether the root has said that a hub is gone, and another goes on in its place.
    pub(crate) fn is_burned(&self, hub: &DeviceId) -> bool {
        self.burned.contains(hub)
    }

    pub(crate) fn is_anybody_burned(&self) -> bool {
        !self.burned.is_empty()
    }

    /// Whether there may be acknowledgements that count for nothing any more.
    pub(crate) fn is_word_taken_back(&self) -> bool {
        !self.burned.is_empty() || !self.restored.is_empty()
    }

    /// Milliseconds since 1970 before which a hub's acknowledgements count for nothing; 0 where all of them count.
    pub(crate) fn restored_until(&self, hub: &DeviceId) -> u64 {
        self.restored.get(hub).copied().unwrap_or(0)
    }

    /// Reads anew what hubs have said of coming back from older copies.
    pub(super) fn read_restorations(&mut self) {
        let mut restored = BTreeMap::new();
        for (written, until) in &self.restorations {
            if self.permits(written, Scope::SETTLE).is_ok() {
                let latest = restored.entry(written.at.log.author).or_insert(0);
                *latest = (*until).max(*latest);
            }
        }
        self.restored = restored;
    }

    /// Who wrote the newest checkpoint.
    pub(crate) fn newest_checkpoint_by(&self) -> Option<DeviceId> {
        let (_, hash) = self.coverage.latest()?;
        let newest = self.checkpoints.iter().rev().find(|(written, _)| written.at.hash == hash);
        newest.map(|(written, _)| written.at.log.author)
    }
}
