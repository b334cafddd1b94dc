//! What this node has, log by log, and when it changed: so that a peer that knew it once is told what came since.

use std::collections::BTreeMap;

use crate::hash::{Domain, Hash, Hasher};
use crate::id::{DeviceId, Head, Incarnation, Lane, LogName};

/// A set of lanes, as bits: lane n is bit n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lanes(pub(super) u64);

impl Lanes {
    /// All that everyone keeps.
    pub(super) const ALL: Lanes = Lanes(0b1_1110);
    /// What there is to say to a peer that compares what it isn't told of.
    pub(super) const NONE: Lanes = Lanes(0);
    /// What a restricted peer is told of.
    pub(super) const CONTROL: Lanes = Lanes(1 << Lane::CONTROL.0);

    pub(super) fn contains(self, lane: Lane) -> bool {
        lane.0 < 64 && self.0 >> lane.0 & 1 == 1
    }

    pub(super) fn both(self, other: Lanes) -> Lanes {
        Lanes(self.0 & other.0)
    }

    /// As on the wire, where nothing means all.
    pub(super) fn from_wire(bits: u64) -> Lanes {
        if bits == 0 { Lanes::ALL } else { Lanes(bits) }
    }

    pub(super) fn to_wire(self) -> u64 {
        if self == Lanes::ALL { 0 } else { self.0 }
    }
}

/// How a log stands here, on the lanes that everyone keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) head: Head,
    /// A second history was proved: nothing after this entry counts, and nothing after it is asked for.
    pub(super) limit: Option<Head>,
    /// The clock's version when the log came into it.
    pub(super) created: u64,
    /// The clock's version when the log last changed.
    pub(super) changed: u64,
}

impl Known {
    /// Whether a head is further than what is held of what counts.
    pub(super) fn lacks(&self, sequence: u64) -> bool {
        sequence > self.head.sequence && self.limit.is_none_or(|limit| self.head.sequence < limit.sequence)
    }
}

/// Hashes over all logs of some lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    /// Over names and heads.
    pub(super) heads: Hash,
    /// Over names alone.
    pub(super) names: Hash,
    pub(super) logs: u64,
}

/// One log of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) log: LogName,
    pub(super) head: Head,
}

/// Every log of the lanes that everyone keeps. Logs come and change; none leaves.
#[derive(Debug, Default)]
pub(super) struct Clock {
    logs: BTreeMap<LogName, Known>,
    version: u64,
    /// As of which version, by lanes.
    digests: BTreeMap<Lanes, (u64, Digest)>,
}

impl Clock {
    pub(super) fn get(&self, log: &LogName) -> Option<&Known> {
        self.logs.get(log)
    }

    pub(super) fn len(&self) -> usize {
        self.logs.len()
    }

    /// Whether there is a log of an author.
    pub(super) fn knows(&self, author: &DeviceId) -> bool {
        let first = LogName { author: *author, incarnation: Incarnation::default(), lane: Lane(0) };
        self.logs.range(first..).next().is_some_and(|(log, _)| log.author == *author)
    }

    /// Counts changes, from 1.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Sets a log's head and limit.
    pub(super) fn set(&mut self, log: LogName, head: Head, limit: Option<Head>) {
        self.version += 1;
        let version = self.version;
        let known = self.logs.entry(log).or_insert(Known { head, limit, created: version, changed: version });
        (known.head, known.limit, known.changed) = (head, limit, version);
    }

    /// Logs of some lanes from `from` to before `to` that were there at a version, as they are now.
    pub(super) fn items(&self, lanes: Lanes, version: u64, from: LogName, to: Option<LogName>) -> Vec<Item> {
        let item = |(log, known): (&LogName, &Known)| {
            (lanes.contains(log.lane) && known.created <= version).then_some(Item { log: *log, head: known.head })
        };
        match to {
            Some(to) if to <= from => Vec::new(),
            Some(to) => self.logs.range(from..to).filter_map(item).collect(),
            None => self.logs.range(from..).filter_map(item).collect(),
        }
    }

    /// All logs, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&LogName, &Known)> {
        self.logs.iter()
    }

    pub(super) fn digest(&mut self, lanes: Lanes) -> Digest {
        if let Some((version, digest)) = self.digests.get(&lanes)
            && *version == self.version
        {
            return *digest;
        }
        let (mut heads, mut names, mut logs) =
            (Hasher::new(Domain::Fingerprint), Hasher::new(Domain::Fingerprint), 0_u64);
        for (log, known) in self.logs.iter().filter(|(log, _)| lanes.contains(log.lane)) {
            heads = hash_head(hash_name(heads, log), &known.head);
            names = hash_name(names, log);
            logs += 1;
        }
        let digest = Digest { heads: heads.finish(), names: names.finish(), logs };
        // Two sets of lanes are asked for in practice; a peer may name others.
        if self.digests.len() >= 8 {
            self.digests.clear();
        }
        self.digests.insert(lanes, (self.version, digest));
        digest
    }
}

pub(super) fn hash_name(hasher: Hasher, log: &LogName) -> Hasher {
    hasher.bytes(log.author.as_bytes()).bytes(log.incarnation.as_bytes()).u32(log.lane.0)
}

pub(super) fn hash_head(hasher: Hasher, head: &Head) -> Hasher {
    hasher.u64(head.sequence).bytes(head.hash.as_bytes())
}
