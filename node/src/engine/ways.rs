//! Which way sealed entries go: to whom a node without an uplink hands what waits for the hub.
//!
//! A node that has an uplink is an origin. It counts its changes (the pulse: even with an uplink, odd without), and its
//! neighbours pass on how far they are from it. A node takes a way only over a neighbour that is nearer than it ever was
//! itself at this pulse; where no such neighbour is left it says the next odd pulse, which overtakes all older news. So
//! ways have no loops, and news of a lost uplink doesn't go round in circles with copies running after it. (Sequenced
//! distance vectors: DSDV, Perkins and Bhagwat 1994; the feasibility condition of Babel, RFC 8966 section 2.4.)

use std::collections::BTreeMap;

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::{DeviceId, LogName, wire};

use super::Engine;
use super::links::Link;
use crate::store::Store;

/// Carriers of each sale, where the market's policy names no other number.
const CARRIERS: u32 = 3;
/// The farthest that an uplink is looked for, in links: a market's mesh is not wider.
const HOPS_MAX: u32 = 8;
/// Peers that get what waits where none of them has an uplink: more than one, for one may keep it for itself.
const NEXT_HOPS: usize = 2;
/// Nodes with an uplink that are remembered, and told of; a market has a few.
const ORIGINS_MAX: usize = 32;
/// Milliseconds that a node rests, once it had to say a newer pulse because somebody else said one in its name, until it
/// does so again: twice as long each time, from the least to the most. A restart takes one such step; the other copy of a
/// cloned device, or a liar, answers each with the next.
const REST_MIN_MS: u64 = 500;
const REST_MAX_MS: u64 = 120_000;
/// No node has changed so often: a number beyond it is a lie.
const PULSE_MAX: u64 = 1 << 60;

/// What is known of one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    pulse: u64,
    /// The least distance that this node was ever at, at this pulse.
    feasible: u32,
    /// The distance now; `None` where no way leads there.
    hops: Option<u32>,
}

/// Ways to nodes with an uplink.
#[derive(Debug)]
pub(crate) struct Ways {
    own: u32,
    /// This node's changes; it begins without an uplink.
    pulse: u64,
    /// Until when, in monotonic milliseconds, others may say newer pulses in this node's name, and for how long the last time.
    rests_until: u64,
    rest_ms: u64,
    /// Somebody does.
    is_overtaken: bool,
    origins: BTreeMap<u32, Origin>,
}

impl Ways {
    pub(crate) fn new(own: &DeviceId) -> Self {
        let origins = BTreeMap::new();
        Ways { own: name_of(own), pulse: 1, rests_until: 0, rest_ms: 0, is_overtaken: false, origins }
    }

    /// When something is to be said that nobody asks for, in monotonic milliseconds.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.is_overtaken.then_some(self.rests_until)
    }

    /// Takes in what all neighbours say now, in monotonic milliseconds, and whether this node has an uplink. True where something changed.
    pub(crate) fn update<'a>(
        &mut self,
        now: u64,
        uplink: bool,
        neighbours: impl Iterator<Item = &'a [wire::Way]> + Clone,
    ) -> bool {
        let before = (self.pulse, self.origins.clone());
        let told =
            || neighbours.clone().flat_map(|ways| ways.iter().take(ORIGINS_MAX)).filter(|way| way.pulse < PULSE_MAX);
        // Somebody may know a pulse of an earlier run of this node, or have said that it can't be reached.
        let newest = told().filter(|way| way.origin == self.own).map(|way| way.pulse).max().unwrap_or(0);
        self.is_overtaken = newest > self.pulse;
        if self.is_overtaken && now >= self.rests_until || self.pulse.is_multiple_of(2) != uplink {
            if std::mem::take(&mut self.is_overtaken) {
                let calm = now > self.rests_until.saturating_add(REST_MAX_MS);
                self.rest_ms = if calm { REST_MIN_MS } else { (2 * self.rest_ms).clamp(REST_MIN_MS, REST_MAX_MS) };
                self.rests_until = now + self.rest_ms;
            }
            self.pulse = self.pulse.max(newest) + 1;
            self.pulse += u64::from(self.pulse.is_multiple_of(2) != uplink);
        }
        for way in told().filter(|way| way.origin != self.own) {
            let fresh = Origin { pulse: way.pulse, feasible: u32::MAX, hops: None };
            let known = self.origins.get(&way.origin).map(|origin| origin.pulse);
            let newer = known.map_or(self.origins.len() < ORIGINS_MAX, |known| way.pulse > known);
            if newer {
                self.origins.insert(way.origin, fresh);
            }
        }
        for (name, origin) in &mut self.origins {
            if !origin.pulse.is_multiple_of(2) {
                continue;
            }
            let ways = told().filter(|way| way.origin == *name && way.pulse == origin.pulse);
            let nearest = ways.map(|way| way.hops).filter(|hops| *hops < origin.feasible.min(HOPS_MAX)).min();
            match nearest {
                Some(hops) => {
                    origin.hops = Some(hops + 1);
                    origin.feasible = origin.feasible.min(hops + 1);
                }
                // The way that there was is lost, and no other is surely none of this node's own making.
                None => *origin = Origin { pulse: origin.pulse + 1, feasible: u32::MAX, hops: None },
            }
        }
        (self.pulse, &self.origins) != (before.0, &before.1)
    }

    /// What this node tells its neighbours.
    pub(crate) fn told(&self) -> Vec<wire::Way> {
        let own = wire::Way { origin: self.own, pulse: self.pulse, hops: 0 };
        // A node that never had an uplink has nothing to say of itself.
        let own = Some(own).filter(|way| way.pulse > 1);
        let mut ways: Vec<wire::Way> = self
            .origins
            .iter()
            .map(|(name, origin)| wire::Way { origin: *name, pulse: origin.pulse, hops: origin.hops.unwrap_or(0) })
            .chain(own)
            .collect();
        ways.sort_by_key(|way| way.origin);
        ways
    }

    /// Links to the nearest other node that has an uplink.
    fn hops(&self) -> Option<u32> {
        self.origins.values().filter_map(|origin| origin.hops).min()
    }

    /// Whether a neighbour that says this is one link nearer to the nearest origin.
    fn is_next(&self, said: &[wire::Way]) -> bool {
        let Some(hops) = self.hops() else { return false };
        said.iter().any(|way| {
            way.hops.checked_add(1) == Some(hops)
                && self.origins.get(&way.origin).is_some_and(|origin| {
                    origin.pulse == way.pulse && origin.hops == Some(hops) && way.hops < origin.feasible
                })
        })
    }
}

impl<S: Store> Engine<S> {
    /// Takes in what neighbours say of their ways. True where this node has news for them.
    pub(crate) fn update_ways(&mut self) -> bool {
        let uplink = self.has_uplink();
        let heeded = self.links.values().filter(|link| link.greeted && !link.restricted);
        let neighbours = heeded.map(|link| link.status.ways.as_slice());
        self.ways.update(self.now.monotonic_ms, uplink, neighbours)
    }

    /// Links from here to the nearest node that has a way to the hub; 0 where this one has it itself.
    pub(crate) fn hops(&self) -> Option<u32> {
        if self.has_uplink() { Some(0) } else { self.ways.hops() }
    }

    /// Whether a peer is nearer to an uplink than this node.
    pub(crate) fn is_nearer(&self, link: &Link) -> bool {
        !self.has_uplink() && (link.status.uplink || self.ways.is_next(&link.status.ways))
    }

    /// Where no peer has an uplink: those of them that are nearest to one, by a draw that each log makes anew.
    pub(crate) fn next_hops(&self, log: &LogName) -> Vec<DeviceId> {
        if self.hops().is_none_or(|hops| hops <= 1) {
            return Vec::new();
        }
        let mut nearer: Vec<_> = self
            .links
            .values()
            .filter(|link| link.greeted && !link.restricted && !link.status.full)
            // More than one link away from it, this node has no uplink itself.
            .filter(|link| link.peer != log.author && (link.status.uplink || self.ways.is_next(&link.status.ways)))
            .map(|link| (draw(log, &link.peer), link.peer))
            .collect();
        nearer.sort();
        nearer.dedup();
        nearer.into_iter().take(NEXT_HOPS).map(|(_, peer)| peer).collect()
    }

    /// The peers that carry this device's entries: those with an uplink, then by a draw that each log makes anew, so
    /// that the load spreads.
    pub(crate) fn carriers(&self, log: &LogName) -> Vec<DeviceId> {
        let policy = self.views.policy();
        let count = if policy.carriers == 0 { CARRIERS } else { policy.carriers } as usize;
        let holds = |peer: &DeviceId| {
            self.custody.copies.get(log).and_then(|copies| copies.get(peer)).is_some_and(|held| !held.is_empty())
        };
        let mut candidates: Vec<_> = self
            .links
            .values()
            .filter(|link| link.greeted && !link.restricted && link.peer != log.author)
            .filter(|link| !self.is_hub_device(&link.peer))
            .filter(|link| {
                let certificate = self.views.membership.certificate(&link.peer);
                certificate.is_some_and(|certificate| certificate.scopes.allows(Scope::RELAY))
            })
            .filter(|link| !link.status.full && !(1..=5).contains(&link.status.battery))
            .map(|link| {
                (!link.status.uplink, !holds(&link.peer), link.status.metered, draw(log, &link.peer), link.peer)
            })
            .collect();
        candidates.sort();
        candidates.dedup_by_key(|candidate| candidate.4);
        candidates.into_iter().take(count).map(|candidate| candidate.4).collect()
    }
}

/// A draw that each author makes anew, so that the load spreads.
fn draw(log: &LogName, peer: &DeviceId) -> stallmesh_protocol::Hash {
    Hasher::new(Domain::Fingerprint).bytes(log.author.as_bytes()).bytes(peer.as_bytes()).finish()
}

/// How ways name a node.
fn name_of(device: &DeviceId) -> u32 {
    let [one, two, three, four, ..] = *device.as_bytes();
    u32::from_be_bytes([one, two, three, four])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceId::from_bytes([number; 32])
    }

    /// Nodes that hear each other's last word, in rounds, until nobody has news; gives the number of rounds.
    struct Mesh {
        ways: Vec<Ways>,
        links: Vec<(usize, usize)>,
        uplinks: Vec<bool>,
        now: u64,
    }

    impl Mesh {
        fn clique(nodes: u8) -> Self {
            let count = usize::from(nodes);
            let links = (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))).collect();
            Self::with(nodes, links)
        }

        fn chain(nodes: u8) -> Self {
            Self::with(nodes, (1..usize::from(nodes)).map(|node| (node - 1, node)).collect())
        }

        fn with(nodes: u8, links: Vec<(usize, usize)>) -> Self {
            let ways = (0..nodes).map(|number| Ways::new(&device(number + 1))).collect();
            Mesh { ways, links, uplinks: vec![false; usize::from(nodes)], now: 0 }
        }

        fn settle(&mut self) -> usize {
            for round in 1..100 {
                let told: Vec<Vec<wire::Way>> = self.ways.iter().map(Ways::told).collect();
                let mut news = false;
                for node in 0..self.ways.len() {
                    let neighbours: Vec<&[wire::Way]> = self
                        .links
                        .iter()
                        .filter_map(|(one, other)| match node {
                            _ if node == *one => Some(told[*other].as_slice()),
                            _ if node == *other => Some(told[*one].as_slice()),
                            _ => None,
                        })
                        .collect();
                    news |= self.ways[node].update(self.now, self.uplinks[node], neighbours.into_iter());
                }
                if !news {
                    return round;
                }
            }
            100
        }

        fn hops(&self) -> Vec<Option<u32>> {
            self.ways.iter().map(Ways::hops).collect()
        }
    }

    #[test]
    fn a_lost_uplink_is_known_as_lost_in_as_many_rounds_as_the_mesh_is_wide() {
        let mut mesh = Mesh::clique(12);
        mesh.uplinks[0] = true;
        mesh.settle();
        assert_eq!(mesh.hops()[1..], [Some(1); 11]);
        mesh.uplinks[0] = false;
        assert!(mesh.settle() <= 4);
        assert_eq!(mesh.hops(), [None; 12]);
        mesh.uplinks[5] = true;
        mesh.settle();
        assert_eq!(mesh.hops()[0], Some(1));
    }

    #[test]
    fn an_origin_that_dies_leaves_no_way_behind_and_one_that_lives_is_found_again() {
        let mut mesh = Mesh::chain(6);
        mesh.uplinks[0] = true;
        mesh.settle();
        assert_eq!(mesh.hops()[1..], [Some(1), Some(2), Some(3), Some(4), Some(5)]);
        // The link to it breaks, and nobody says goodbye.
        let cut = mesh.links.remove(0);
        assert!(mesh.settle() <= 8);
        assert_eq!(mesh.hops(), [None; 6]);
        mesh.links.push(cut);
        mesh.settle();
        assert_eq!(mesh.hops()[1..], [Some(1), Some(2), Some(3), Some(4), Some(5)], "it overtakes its own obituary");
    }

    #[test]
    fn a_ring_goes_the_other_way_round_when_a_link_breaks() {
        let mut mesh = Mesh::chain(7);
        mesh.links.push((6, 0));
        mesh.uplinks[0] = true;
        mesh.settle();
        assert_eq!(mesh.hops()[1..], [Some(1), Some(2), Some(3), Some(3), Some(2), Some(1)]);
        mesh.links.remove(0);
        mesh.settle();
        assert_eq!(mesh.hops()[1..], [Some(6), Some(5), Some(4), Some(3), Some(2), Some(1)]);
    }

    #[test]
    fn two_nodes_of_one_name_answer_each_other_less_and_less_often() {
        let mut mesh = Mesh::chain(3);
        mesh.ways[2] = Ways::new(&device(1));
        mesh.uplinks[0] = true;
        let mut pulses = BTreeMap::new();
        for now in (0..3_600_000).step_by(100) {
            mesh.now = now;
            assert!(mesh.settle() <= 8, "at {now}");
            pulses.insert(mesh.ways[0].pulse.max(mesh.ways[2].pulse), now);
        }
        assert!((10..120).contains(&pulses.len()), "{} pulses in an hour", pulses.len());
        // The other copy is gone: what it said last is overtaken.
        mesh.links.retain(|link| *link != (1, 2));
        mesh.now += REST_MAX_MS;
        mesh.settle();
        assert_eq!(mesh.hops()[1], Some(1));
    }

    #[test]
    fn what_a_liar_says_is_bounded() {
        let mut ways = Ways::new(&device(1));
        let said: Vec<wire::Way> =
            (0..1000).map(|origin| wire::Way { origin, pulse: u64::MAX - u64::from(origin), hops: u32::MAX }).collect();
        ways.update(0, false, std::iter::once(said.as_slice()));
        let far: Vec<wire::Way> = (0..1000).map(|origin| wire::Way { origin, pulse: 2, hops: u32::MAX }).collect();
        ways.update(0, false, std::iter::once(far.as_slice()));
        assert!(ways.told().len() <= ORIGINS_MAX + 1);
        assert_eq!(ways.hops(), None);
    }
}
