//! What checkpoints said of sealed logs, which they don't list: their leaves, each with its proof.

use stallmesh_protocol::checkpoint::ProvenLeaf;
use stallmesh_protocol::{DeviceId, Hash, LogName};

use super::Views;

impl Views {
    /// Takes in what a checkpoint said of a sealed log; it counts as far as the checkpoint's root proves it.
    pub(crate) fn insert_leaf(&mut self, leaf: ProvenLeaf) {
        self.leaves_waiting.insert(leaf.log);
        self.proven.insert(leaf.log, leaf);
        self.dirty = true;
    }

    /// The same, beside whatever is known of the log already. True where it is new.
    pub(crate) fn inherit_leaf(&mut self, leaf: ProvenLeaf) -> bool {
        let (log, place) = (leaf.log, (leaf.log, leaf.checkpoint));
        let new = self.proven.get(&log) != Some(&leaf) && self.inherited.insert(place, leaf).is_none();
        if new {
            self.leaves_waiting.insert(log);
            self.dirty = true;
        }
        new
    }

    /// Takes over what other views know of sealed logs.
    pub(crate) fn copy_leaves(&mut self, other: &Views) {
        other.inherited.values().cloned().for_each(|leaf| _ = self.inherit_leaf(leaf));
        other.proven.values().cloned().for_each(|leaf| self.insert_leaf(leaf));
    }

    /// What a checkpoint said last of a sealed log, as far as it was this node's.
    pub(crate) fn leaf_of(&self, log: &LogName) -> Option<&ProvenLeaf> {
        self.proven.get(log)
    }

    /// What checkpoints said of sealed logs.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &ProvenLeaf> {
        self.proven.values().chain(self.inherited.values())
    }

    pub(super) fn leaves_of(&self, log: &LogName) -> impl Iterator<Item = &ProvenLeaf> {
        let all = (*log, Hash::ZERO)..=(*log, Hash::from_bytes([0xff; 32]));
        self.proven.get(log).into_iter().chain(self.inherited.range(all).map(|(_, leaf)| leaf))
    }

    /// Whether anything is held against a device, so that what checkpoints named as standing of it decides.
    pub(crate) fn is_judged(&self, device: &DeviceId) -> bool {
        self.membership.is_revoked(device) || self.proofs.keys().any(|log| log.author == *device)
    }
}
