//! What all checkpoints together say: which one first covers which entry.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checkpoint, ProvenLeaf};
use crate::hash::Hash;
use crate::id::{DeviceId, Head, Lane, LogName, MarketId};
use crate::membership::{Coverage, Covering};
use crate::merkle::proves;

/// How many proved leaves of one log are kept. Lines and quarantines look back by one checkpoint, and from then on the
/// standing head doesn't move, so the newest would do.
const PROVEN_MAX: usize = 8;

/// What all checkpoints together say: a function of their set.
#[derive(Clone, Debug, Default)]
pub struct CheckpointView {
    all: BTreeMap<(u64, u64, Hash), Checkpoint>,
    by_hash: BTreeMap<Hash, (u64, u64)>,
    contradictions: BTreeSet<(Hash, Hash)>,
    pub(super) chain: Vec<(Hash, u64)>,
    by_prefix: BTreeMap<[u8; 8], u64>,
    names: BTreeMap<u64, LogName>,
    /// Logs that have a number, and which checkpoint first said it.
    named: BTreeMap<LogName, u64>,
    pub(super) steps: BTreeMap<LogName, Vec<(u64, Head)>>,
    /// Of logs that checkpoints don't list: (checkpoint, standing head), each proved.
    proven: BTreeMap<LogName, Vec<(Hash, Head)>>,
}

impl CheckpointView {
    /// Takes in what a checkpoint said of a log that it doesn't list. False where its checkpoint isn't known, or its
    /// root doesn't prove it.
    pub fn insert_proven(&mut self, market: &MarketId, proven: &ProvenLeaf) -> bool {
        let Some(standing) = proven.leaf.standing else { return false };
        let known = self.proven.get(&proven.log);
        if known.is_some_and(|known| known.contains(&(proven.checkpoint, standing))) {
            return true;
        }
        let holds = self.is_proven(market, proven);
        if holds {
            let kept = self.proven.entry(proven.log).or_default();
            if kept.len() == PROVEN_MAX {
                kept.remove(0);
            }
            kept.push((proven.checkpoint, standing));
        }
        holds
    }

    /// Whether the root of a checkpoint that is known here proves a leaf.
    pub fn is_proven(&self, market: &MarketId, proven: &ProvenLeaf) -> bool {
        self.get(&proven.checkpoint).is_some_and(|checkpoint| {
            proven.log.id(market) == proven.leaf.log
                && proves(&checkpoint.root, checkpoint.logs, proven.leaf.number, &proven.leaf.hash(), &proven.path)
        })
    }

    /// The place of a checkpoint in the chain, by the hash of its entry.
    pub fn ordinal(&self, checkpoint: &Hash) -> Option<u64> {
        let ordinal = *self.by_prefix.get(&checkpoint.prefix())?;
        self.chain.get(ordinal as usize).filter(|(hash, _)| hash == checkpoint).map(|_| ordinal)
    }

    /// Takes in a checkpoint and the hash of the entry that holds it.
    pub fn insert(&mut self, hash: Hash, checkpoint: Checkpoint) {
        let key = (checkpoint.epoch, checkpoint.number, hash);
        if self.all.contains_key(&key) {
            return;
        }
        let is_last = self.all.last_key_value().is_none_or(|(last, _)| *last < key);
        self.by_hash.insert(hash, (key.0, key.1));
        // Each with the first one of its number: a set, whatever came first.
        let same = self
            .all
            .range((key.0, key.1, Hash::ZERO)..)
            .take_while(|((epoch, number, _), _)| (*epoch, *number) == (key.0, key.1));
        let mut same: Vec<Hash> = same.map(|((_, _, other), _)| *other).chain([hash]).collect();
        same.sort_unstable();
        self.contradictions.retain(|(one, _)| !same.contains(one));
        self.contradictions.extend(same.iter().skip(1).map(|other| (same[0], *other)));
        self.all.insert(key, checkpoint);
        if is_last {
            if let Some(checkpoint) = self.all.get(&key).cloned() {
                self.apply(hash, &checkpoint);
            }
        } else {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        self.chain.clear();
        self.by_prefix.clear();
        self.names.clear();
        self.named.clear();
        self.steps.clear();
        for ((_, _, hash), checkpoint) in self.all.clone() {
            self.apply(hash, &checkpoint);
        }
    }

    fn apply(&mut self, hash: Hash, checkpoint: &Checkpoint) {
        let ordinal = self.chain.len() as u64;
        // Time never runs back along the order, whatever a writer's clock said.
        let time = checkpoint.time.max(self.chain.last().map_or(0, |(_, time)| *time));
        self.chain.push((hash, time));
        self.by_prefix.insert(hash.prefix(), ordinal);
        for change in &checkpoint.changes {
            if let Some(name) = change.named {
                self.names.insert(change.number, name);
                self.named.entry(name).or_insert(ordinal);
            }
            if let (Some(name), Some(head)) = (self.names.get(&change.number), change.standing) {
                let steps = self.steps.entry(*name).or_default();
                if steps.last().is_none_or(|(_, last)| last.sequence < head.sequence) {
                    steps.push((ordinal, head));
                }
            }
        }
    }

    /// The newest checkpoint and the hash of its entry.
    pub fn latest(&self) -> Option<(&Checkpoint, Hash)> {
        self.all.last_key_value().map(|((_, _, hash), checkpoint)| (checkpoint, *hash))
    }

    /// The newest time.
    pub fn time(&self) -> Option<u64> {
        self.chain.last().map(|(_, time)| *time)
    }

    /// A checkpoint by the hash of its entry.
    pub fn get(&self, hash: &Hash) -> Option<&Checkpoint> {
        let (epoch, number) = *self.by_hash.get(hash)?;
        self.all.get(&(epoch, number, *hash))
    }

    /// Entries of the checkpoints that the newest one continues, and its own, by number.
    pub fn chain_of_newest(&self) -> BTreeMap<u64, Hash> {
        let mut chain = BTreeMap::new();
        let mut next = self.latest().map(|(_, hash)| hash);
        while let Some(hash) = next {
            let Some(checkpoint) = self.get(&hash) else { break };
            // Numbers fall along a chain; one that doesn't is a lie, and would lead in a circle.
            if chain.first_key_value().is_some_and(|(lowest, _)| *lowest <= checkpoint.number) {
                break;
            }
            chain.insert(checkpoint.number, hash);
            next = checkpoint.previous;
        }
        chain
    }

    /// The newest standing head of each listed log of a lane.
    pub fn heads(&self, lane: Lane) -> impl Iterator<Item = (LogName, Head)> + '_ {
        let of_lane = self.steps.iter().filter(move |(log, _)| log.lane == lane);
        of_lane.filter_map(|(log, steps)| Some((*log, steps.last()?.1)))
    }

    /// Whether a checkpoint has said the log's number.
    pub fn names(&self, log: &LogName) -> bool {
        self.named.contains_key(log)
    }

    /// Whether a number is this log's, as of the newest checkpoint. A writer that began anew may have given it away.
    pub fn numbers(&self, log: &LogName, number: u64) -> bool {
        self.names.get(&number) == Some(log)
    }

    /// The time of the first checkpoint that said the log's number.
    pub fn named_at(&self, log: &LogName) -> Option<u64> {
        let ordinal = *self.named.get(log)?;
        self.chain.get(ordinal as usize).map(|(_, time)| *time)
    }

    /// How many checkpoints.
    pub fn len(&self) -> usize {
        self.chain.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// Two checkpoints of one epoch and number, by the hashes of their entries: a hub that tells two stories.
    pub fn contradictions(&self) -> impl Iterator<Item = (Hash, Hash)> + '_ {
        self.contradictions.iter().copied()
    }
}

impl Coverage for CheckpointView {
    fn time_seen(&self, seen: &[u8; 8]) -> Option<u64> {
        self.ordinal_seen(seen).and_then(|ordinal| self.chain.get(ordinal as usize)).map(|(_, time)| *time)
    }

    fn ordinal_seen(&self, seen: &[u8; 8]) -> Option<u64> {
        self.by_prefix.get(seen).copied()
    }

    fn covered_by(&self, log: &LogName, sequence: u64) -> Option<Covering> {
        let steps = self.steps.get(log)?;
        let step = steps.partition_point(|(_, head)| head.sequence < sequence);
        let (ordinal, _) = steps.get(step)?;
        let (_, time) = self.chain.get(*ordinal as usize)?;
        Some(Covering { ordinal: *ordinal, time: *time })
    }

    fn standing_at(&self, ordinal: u64, log: &LogName) -> Option<Head> {
        let listed = self.steps.get(log).and_then(|steps| {
            let step = steps.partition_point(|(at, _)| *at <= ordinal);
            steps.get(step.checked_sub(1)?).map(|(_, head)| *head)
        });
        let proven = self.proven.get(log).into_iter().flatten();
        let proven = proven
            .filter(|(checkpoint, _)| self.ordinal(checkpoint).is_some_and(|at| at <= ordinal))
            .map(|(_, head)| *head);
        listed.into_iter().chain(proven).max()
    }

    fn standing_of(&self, ordinal: u64, author: &DeviceId) -> Vec<(LogName, Head)> {
        let logs: BTreeSet<&LogName> = self.steps.keys().chain(self.proven.keys()).collect();
        logs.into_iter()
            .filter(|log| log.author == *author)
            .filter_map(|log| self.standing_at(ordinal, log).map(|head| (*log, head)))
            .collect()
    }

    fn newest(&self) -> Option<u64> {
        (self.chain.len() as u64).checked_sub(1)
    }
}
