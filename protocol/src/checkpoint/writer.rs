//! Writing checkpoints: what changed since the last, and the tree over all logs.

use std::collections::BTreeMap;

use super::{CHANGES_MAX, Change, Checkpoint, Leaf, skip_targets};
use crate::hash::Hash;
use crate::id::{Head, LogId, LogName};
use crate::interval::Interval;
use crate::merkle::MerkleTree;

/// What the hub knows of a log when it writes a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogUpdate {
    /// The log.
    pub log: LogName,
    /// Its id.
    pub id: LogId,
    /// The newest entry that stands.
    pub standing: Option<Head>,
    /// What was received of it.
    pub received: Vec<Interval>,
}

/// The writer's state: all logs that have a number, as of the last checkpoint and since.
#[derive(Clone, Debug, Default)]
pub struct CheckpointWriter {
    numbers: BTreeMap<LogName, u64>,
    names: Vec<LogName>,
    /// As the last checkpoint says them, by number; the tree is theirs.
    leaves: Vec<Leaf>,
    tree: MerkleTree,
    /// What changed since, by number.
    waiting: BTreeMap<u64, Leaf>,
    /// Entries of the chain's checkpoints, by number: what skip links name.
    chain: BTreeMap<u64, Hash>,
}

impl CheckpointWriter {
    /// Takes in what is known of a log now. A standing head never falls: what a checkpoint named stays so.
    pub fn update(&mut self, update: LogUpdate) {
        let number = match self.numbers.get(&update.log) {
            Some(number) => *number,
            None => {
                let number = self.names.len() as u64;
                self.numbers.insert(update.log, number);
                self.names.push(update.log);
                number
            }
        };
        let known = self.waiting.get(&number).or_else(|| self.leaves.get(number as usize));
        let standing = update.standing.max(known.and_then(|leaf| leaf.standing));
        let leaf = Leaf { number, log: update.id, standing, received: update.received };
        if known != Some(&leaf) {
            self.waiting.insert(number, leaf);
        }
    }

    /// Whether anything changed since the last checkpoint.
    pub fn is_changed(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next checkpoint after `last`, and the logs that it speaks of. It lists at most [`CHANGES_MAX`] changes; what
    /// is left waits for the one after it. `known`: whether earlier checkpoints say that a log has this number.
    pub fn next(
        &mut self,
        last: Option<(&Checkpoint, Hash)>,
        epoch: u64,
        time: u64,
        revocations: u64,
        known: impl Fn(&LogName, u64) -> bool,
    ) -> (Checkpoint, Vec<LogName>) {
        let mut changes = Vec::new();
        let mut taken = Vec::new();
        // By number, so that new numbers are taken in without gaps.
        while let Some(entry) = self.waiting.first_entry() {
            let Some(name) = self.names.get(*entry.key() as usize).copied() else { break };
            let listed = name.lane.is_kept_by_all();
            if listed && changes.len() == CHANGES_MAX {
                break;
            }
            let (number, leaf) = entry.remove_entry();
            if listed {
                let named = (!known(&name, number)).then_some(name);
                changes.push(Change { number, named, standing: leaf.standing, low: 1, finished: false });
            }
            self.tree.set(number as usize, &leaf.hash());
            match self.leaves.get_mut(number as usize) {
                Some(kept) => *kept = leaf,
                None => self.leaves.push(leaf),
            }
            taken.push(name);
        }
        let number = last.map_or(1, |(checkpoint, _)| checkpoint.number + 1);
        if let Some((checkpoint, hash)) = last {
            self.chain.insert(checkpoint.number, hash);
        }
        let checkpoint = Checkpoint {
            epoch,
            number,
            previous: last.map(|(_, hash)| hash),
            time: time.max(last.map_or(0, |(checkpoint, _)| checkpoint.time)),
            revocations,
            root: self.tree.root(),
            logs: self.leaves.len() as u64,
            changes,
            skips: skip_targets(number).map(|target| self.chain.get(&target).copied()).collect(),
        };
        (checkpoint, taken)
    }

    /// The leaf of a log and the path that proves it under the last checkpoint's root.
    pub fn proof(&self, log: &LogName) -> Option<(&Leaf, Vec<Hash>)> {
        let number = *self.numbers.get(log)?;
        Some((self.leaves.get(number as usize)?, self.tree.path(number as usize)?))
    }

    /// The number of a log.
    pub fn number(&self, log: &LogName) -> Option<u64> {
        self.numbers.get(log).copied()
    }

    /// Gives a log the number that it had: for a writer that continues. Numbers come in order.
    pub fn restore(&mut self, log: LogName, leaf: Leaf) {
        if leaf.number as usize == self.leaves.len() {
            self.numbers.insert(log, leaf.number);
            self.names.push(log);
            self.tree.set(leaf.number as usize, &leaf.hash());
            self.leaves.push(leaf);
        }
    }

    /// Tells a writer that continues which checkpoints its chain has.
    pub fn restore_chain(&mut self, chain: BTreeMap<u64, Hash>) {
        self.chain = chain;
    }
}
