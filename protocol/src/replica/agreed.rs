//! What peers last agreed on with this process, so that at their next meeting they tell each other what came since.
//!
//! Nothing of a clock is kept: a version of this node's own clock is enough, for what changed since is known by it. It
//! isn't written to disk: a store that was wiped, rolled back or cloned comes with a new process, which remembers none.

use std::collections::{BTreeMap, VecDeque};

use crate::id::DeviceId;

/// Devices that are remembered; beyond, who agreed longest ago is forgotten, and compares as at a first meeting.
const PEERS_MAX: usize = 1_024;
/// Agreements with one device. The last may be known to one side alone, where its word got lost with the link.
const EACH_MAX: usize = 4;

/// An agreement's name on the wire: both sides know it, nobody else does. It only tells few apart.
pub(super) type AgreementId = [u8; 4];

#[derive(Debug, Default)]
struct Agreements {
    /// When the newest was made, in agreements.
    at: u64,
    /// Oldest first: its name, and the version of the clock.
    kept: VecDeque<(AgreementId, u64)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    peers: BTreeMap<DeviceId, Agreements>,
    count: u64,
}

impl Agreed {
    pub(super) fn remember(&mut self, peer: DeviceId, id: AgreementId, version: u64) {
        self.count += 1;
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            let oldest = self.peers.iter().min_by_key(|(_, agreements)| agreements.at).map(|(peer, _)| *peer);
            oldest.and_then(|oldest| self.peers.remove(&oldest));
        }
        let agreements = self.peers.entry(peer).or_default();
        agreements.at = self.count;
        agreements.kept.retain(|(known, _)| *known != id);
        if agreements.kept.len() >= EACH_MAX {
            agreements.kept.pop_front();
        }
        agreements.kept.push_back((id, version));
    }

    /// The newest with a device.
    pub(super) fn newest(&self, peer: &DeviceId) -> Option<(AgreementId, u64)> {
        self.peers.get(peer).and_then(|agreements| agreements.kept.back()).copied()
    }

    /// The version of the clock that an agreement was about.
    pub(super) fn version(&self, peer: &DeviceId, id: &[u8]) -> Option<u64> {
        let kept = self.peers.get(peer)?.kept.iter();
        kept.rev().find(|(known, _)| known.as_slice() == id).map(|(_, version)| *version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_remembered_and_of_few() {
        let mut agreed = Agreed::default();
        let device = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            DeviceId::from_bytes(bytes)
        };
        for number in 0..2 * PEERS_MAX as u32 {
            for version in 0..10 {
                agreed.remember(device(number), [version as u8; 4], version);
            }
        }
        assert_eq!(agreed.peers.len(), PEERS_MAX);
        assert!(agreed.newest(&device(0)).is_none());
        let last = device(2 * PEERS_MAX as u32 - 1);
        assert_eq!(agreed.newest(&last), Some(([9; 4], 9)));
        assert_eq!((agreed.version(&last, &[6; 4]), agreed.version(&last, &[5; 4])), (Some(6), None));
        assert_eq!(agreed.version(&last, &[]), None);
    }
}
