//! Checkpoints: the hub's numbered, chained word on what stands, and when.
//!
//! Each names a Merkle root over all logs that have a number; for the lanes that everyone keeps it also lists what
//! changed, so that every node computes alike which checkpoint first covers which entry. Their order is (epoch,
//! number, hash): a writer that starts takes a new epoch first.

use std::collections::{BTreeMap, BTreeSet};

use crate::acknowledgement::INTERVALS_MAX;
use crate::codec::{CodecError, Reader};
use crate::hash::{Domain, Hash, Hasher};
use crate::id::{DeviceId, Head, Incarnation, Lane, LogId, LogName, MarketId};
use crate::interval::Interval;
use crate::membership::{Coverage, Covering};
use crate::merkle::{MerkleTree, proves};
use crate::payload::{self, PayloadError, fixed};

/// What a checkpoint's tree says of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The log's number: its place in the tree.
    pub number: u64,
    /// The log.
    pub log: LogId,
    /// The newest entry that stands, with all its ancestors.
    pub standing: Option<Head>,
    /// What the hub has of it, ascending.
    pub received: Vec<Interval>,
}

impl Leaf {
    /// `H(checkpoint-leaf; number, log id, standing sequence or 0, its hash or zeros, count, then each interval's
    /// from, to and hash)`.
    pub fn hash(&self) -> Hash {
        let standing = self.standing.unwrap_or(Head::EMPTY);
        let start = Hasher::new(Domain::CheckpointLeaf)
            .u64(self.number)
            .bytes(self.log.as_bytes())
            .u64(standing.sequence)
            .bytes(standing.hash.as_bytes())
            .u64(self.received.len() as u64);
        self.received
            .iter()
            .fold(start, |hasher, interval| hasher.u64(interval.from).u64(interval.to).bytes(interval.hash.as_bytes()))
            .finish()
    }
}

/// A leaf with the path that proves it under a checkpoint's root: what that checkpoint said of a log that it doesn't
/// list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenLeaf {
    /// The hash of the checkpoint's entry.
    pub checkpoint: Hash,
    /// The log, by name.
    pub log: LogName,
    /// What the tree says of it.
    pub leaf: Leaf,
    /// From the leaf up.
    pub path: Vec<Hash>,
}

/// The longest path that a tree of any size has.
const PATH_MAX: usize = 64;

impl ProvenLeaf {
    /// Checkpoint 32, author 32, incarnation 16, lane u32, number u64, log id 32, standing sequence u64 (0: none) and
    /// hash 32, count u64 and for each interval from u64, to u64 and hash 32, count u64 and each hash 32 of the path.
    /// Integers are big endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let standing = self.leaf.standing.unwrap_or(Head::EMPTY);
        let mut out = Vec::with_capacity(180 + self.leaf.received.len() * 48 + self.path.len() * 32);
        out.extend_from_slice(self.checkpoint.as_bytes());
        out.extend_from_slice(self.log.author.as_bytes());
        out.extend_from_slice(self.log.incarnation.as_bytes());
        out.extend_from_slice(&self.log.lane.0.to_be_bytes());
        out.extend_from_slice(&self.leaf.number.to_be_bytes());
        out.extend_from_slice(self.leaf.log.as_bytes());
        out.extend_from_slice(&standing.sequence.to_be_bytes());
        out.extend_from_slice(standing.hash.as_bytes());
        out.extend_from_slice(&(self.leaf.received.len() as u64).to_be_bytes());
        for interval in &self.leaf.received {
            out.extend_from_slice(&interval.from.to_be_bytes());
            out.extend_from_slice(&interval.to.to_be_bytes());
            out.extend_from_slice(interval.hash.as_bytes());
        }
        out.extend_from_slice(&(self.path.len() as u64).to_be_bytes());
        self.path.iter().for_each(|hash| out.extend_from_slice(hash.as_bytes()));
        out
    }

    /// Reads what [`ProvenLeaf::to_bytes`] wrote; whether it proves anything is [`CheckpointView::insert_proven`]'s to
    /// say.
    ///
    /// # Errors
    /// Truncated, too long, or followed by more.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let integer = |reader: &mut Reader<'_>, what| reader.array(what).map(u64::from_be_bytes);
        let checkpoint = Hash::from_bytes(reader.array("checkpoint")?);
        let log = LogName {
            author: DeviceId::from_bytes(reader.array("author")?),
            incarnation: Incarnation::from_bytes(reader.array("incarnation")?),
            lane: Lane(u32::from_be_bytes(reader.array("lane")?)),
        };
        let number = integer(&mut reader, "number")?;
        let id = LogId::from_bytes(reader.array("log id")?);
        let sequence = integer(&mut reader, "standing sequence")?;
        let standing = Head { sequence, hash: Hash::from_bytes(reader.array("standing hash")?) };
        let count = integer(&mut reader, "intervals")?;
        if count > INTERVALS_MAX as u64 {
            return Err(CodecError::TooLarge("intervals"));
        }
        let mut received = Vec::new();
        for _ in 0..count {
            received.push(Interval {
                from: integer(&mut reader, "from")?,
                to: integer(&mut reader, "to")?,
                hash: Hash::from_bytes(reader.array("hash")?),
            });
        }
        let count = integer(&mut reader, "path")?;
        if count > PATH_MAX as u64 {
            return Err(CodecError::TooLarge("path"));
        }
        let path = (0..count).map(|_| reader.array("path").map(Hash::from_bytes)).collect::<Result<_, _>>()?;
        reader.finish()?;
        if standing.sequence == 0 && standing.hash != Hash::ZERO {
            return Err(CodecError::Invalid("a hash of nothing that stands"));
        }
        let standing = (standing.sequence > 0).then_some(standing);
        Ok(ProvenLeaf { checkpoint, log, leaf: Leaf { number, log: id, standing, received }, path })
    }
}

/// What changed of one log since the checkpoint before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The log's number.
    pub number: u64,
    /// The log, where its number is new.
    pub named: Option<LogName>,
    /// Its standing head now.
    pub standing: Option<Head>,
    /// Its low mark, where above 1.
    pub low: u64,
    /// The head is final.
    pub finished: bool,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The writer's fenced epoch.
    pub epoch: u64,
    /// From 1, one more than the one before.
    pub number: u64,
    /// The hash of the entry that holds the one before.
    pub previous: Option<Hash>,
    /// Milliseconds since 1970.
    pub time: u64,
    /// How many revocations and raises it covers.
    pub revocations: u64,
    /// Merkle root over the leaves of all logs with number.
    pub root: Hash,
    /// How many leaves.
    pub logs: u64,
    /// Changes on the lanes that everyone keeps, by number.
    pub changes: Vec<Change>,
    /// For each power of two from 2 on that divides `number`: the hash of the entry of the checkpoint so many numbers
    /// before, where there is one and the writer knows it.
    pub skips: Vec<Option<Hash>>,
}

/// The most changes that one checkpoint lists: some 48 KiB where all logs are new.
pub const CHANGES_MAX: usize = 400;

/// The numbers that the skip links of a checkpoint lead to: of a chain of n, any is proved in about 2 log n steps.
pub fn skip_targets(number: u64) -> impl Iterator<Item = u64> {
    (1..=number.trailing_zeros()).map(move |power| number - (1 << power)).filter(|target| *target > 0)
}

impl Checkpoint {
    /// Reads a payload of kind 48.
    ///
    /// # Errors
    /// Undecodable, not canonical, or a field without meaning.
    pub fn from_payload(bytes: &[u8]) -> Result<Self, PayloadError> {
        let message: payload::Checkpoint = payload::decode("checkpoint", bytes)?;
        if message.number == 0 {
            return Err(PayloadError::field("number", "is zero"));
        }
        let mut changes: Vec<Change> = Vec::with_capacity(message.changes.len());
        for change in &message.changes {
            if changes.last().is_some_and(|last| last.number >= change.log) {
                return Err(PayloadError::field("changes", "are not ascending"));
            }
            let named = if change.author.is_empty() {
                None
            } else {
                Some(LogName {
                    author: fixed("author", &change.author)?,
                    incarnation: fixed("incarnation", &change.incarnation)?,
                    lane: Lane(change.lane),
                })
            };
            let standing = if change.sequence == 0 {
                None
            } else {
                Some(Head { sequence: change.sequence, hash: fixed("hash", &change.hash)? })
            };
            changes.push(Change {
                number: change.log,
                named,
                standing,
                low: change.low.max(1),
                finished: change.finished,
            });
        }
        if message.skips.len() != skip_targets(message.number).count() {
            return Err(PayloadError::field("skips", "are not as many as the number says"));
        }
        let skips = message.skips.iter().map(|hash| match hash.as_slice() {
            [] => Ok(None),
            hash => fixed("skips", hash).map(Some),
        });
        let checkpoint = Checkpoint {
            skips: skips.collect::<Result<_, _>>()?,
            epoch: message.epoch,
            number: message.number,
            previous: if message.previous.is_empty() { None } else { Some(fixed("previous", &message.previous)?) },
            time: message.time,
            revocations: message.revocations,
            root: fixed("root", &message.root)?,
            logs: message.logs,
            changes,
        };
        // A name in part, a hash of nothing, a low mark of 1: said, they mean what leaving them out means.
        if checkpoint.to_payload() == bytes {
            Ok(checkpoint)
        } else {
            Err(PayloadError::NonCanonical { kind: "checkpoint" })
        }
    }

    /// The payload of kind 48.
    pub fn to_payload(&self) -> Vec<u8> {
        payload::encode(&payload::Checkpoint {
            epoch: self.epoch,
            number: self.number,
            previous: self.previous.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default(),
            time: self.time,
            revocations: self.revocations,
            root: self.root.as_bytes().to_vec(),
            logs: self.logs,
            changes: self.changes.iter().map(change_message).collect(),
            skips: self
                .skips
                .iter()
                .map(|hash| hash.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default())
                .collect(),
        })
    }
}

fn change_message(change: &Change) -> payload::CheckpointChange {
    payload::CheckpointChange {
        log: change.number,
        author: change.named.map(|name| name.author.as_bytes().to_vec()).unwrap_or_default(),
        incarnation: change.named.map(|name| name.incarnation.as_bytes().to_vec()).unwrap_or_default(),
        lane: change.named.map_or(0, |name| name.lane.0),
        sequence: change.standing.map_or(0, |head| head.sequence),
        hash: change.standing.map(|head| head.hash.as_bytes().to_vec()).unwrap_or_default(),
        low: if change.low > 1 { change.low } else { 0 },
        finished: change.finished,
    }
}

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
    /// is left waits for the one after it. `known` are the logs whose number an earlier checkpoint has said.
    pub fn next(
        &mut self,
        last: Option<(&Checkpoint, Hash)>,
        epoch: u64,
        time: u64,
        revocations: u64,
        known: impl Fn(&LogName) -> bool,
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
                let named = (!known(&name)).then_some(name);
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

/// How many proved leaves of one log are kept. Lines and quarantines look back by one checkpoint, and from then on the
/// standing head doesn't move, so the newest would do.
const PROVEN_MAX: usize = 8;

/// What all checkpoints together say: a function of their set.
#[derive(Clone, Debug, Default)]
pub struct CheckpointView {
    all: BTreeMap<(u64, u64, Hash), Checkpoint>,
    by_hash: BTreeMap<Hash, (u64, u64)>,
    contradictions: BTreeSet<(Hash, Hash)>,
    chain: Vec<(Hash, u64)>,
    by_prefix: BTreeMap<[u8; 8], u64>,
    names: BTreeMap<u64, LogName>,
    /// Logs that have a number, and which checkpoint first said it.
    named: BTreeMap<LogName, u64>,
    steps: BTreeMap<LogName, Vec<(u64, Head)>>,
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

    /// Whether a checkpoint has said the log's number.
    pub fn names(&self, log: &LogName) -> bool {
        self.named.contains_key(log)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::id::Incarnation;
    use crate::merkle::proves;

    fn log(author: u8, lane: Lane) -> LogName {
        LogName { author: DeviceId::from_bytes([author; 32]), incarnation: Incarnation::from_bytes([1; 16]), lane }
    }

    fn update(author: u8, lane: Lane, sequence: u64) -> LogUpdate {
        let hash = Hash::from_bytes([author; 32]);
        LogUpdate {
            log: log(author, lane),
            id: LogId::from_bytes([author; 32]),
            standing: Some(Head { sequence, hash }),
            received: vec![Interval { from: 1, to: sequence, hash }],
        }
    }

    fn chain() -> Vec<(Hash, Checkpoint)> {
        let mut writer = CheckpointWriter::default();
        let mut view = CheckpointView::default();
        let mut out: Vec<(Hash, Checkpoint)> = Vec::new();
        for round in 1..20_u64 {
            writer.update(update((round % 5) as u8, Lane::CATALOG, round));
            writer.update(update(7, Lane::SALES, round));
            let last = out.last().map(|(hash, checkpoint)| (checkpoint, *hash));
            let (checkpoint, taken) = writer.next(last, 1, round * 1000, 0, |name| view.names(name));
            assert_eq!(taken.len(), 2);
            assert_eq!(Checkpoint::from_payload(&checkpoint.to_payload()).unwrap(), checkpoint);
            let (leaf, path) = writer.proof(&log(7, Lane::SALES)).unwrap();
            assert!(proves(&checkpoint.root, checkpoint.logs, leaf.number, &leaf.hash(), &path));
            let hash = Hash::from_bytes([round as u8; 32]);
            view.insert(hash, checkpoint.clone());
            out.push((hash, checkpoint));
        }
        out
    }

    proptest! {
        #[test]
        fn the_view_depends_on_the_set_of_checkpoints_alone(order in Just((0..19_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let chain = chain();
            let mut ordered = CheckpointView::default();
            chain.iter().for_each(|(hash, checkpoint)| ordered.insert(*hash, checkpoint.clone()));
            let mut shuffled = CheckpointView::default();
            for index in order.iter().chain(&order) {
                shuffled.insert(chain[*index].0, chain[*index].1.clone());
            }
            prop_assert_eq!(&ordered.steps, &shuffled.steps);
            prop_assert_eq!(&ordered.chain, &shuffled.chain);
            for sequence in 1..20 {
                let log = log(3, Lane::CATALOG);
                prop_assert_eq!(ordered.covered_by(&log, sequence), shuffled.covered_by(&log, sequence));
            }
        }
    }

    #[test]
    fn a_log_that_checkpoints_do_not_list_stands_by_proof() {
        let market = MarketId::from_bytes([9; 32]);
        let (mut writer, mut view) = (CheckpointWriter::default(), CheckpointView::default());
        let sales = log(7, Lane::SALES);
        let mut proven = Vec::new();
        for round in 1..6_u64 {
            writer.update(update(1, Lane::CATALOG, round));
            writer.update(LogUpdate { id: sales.id(&market), ..update(7, Lane::SALES, round) });
            let last = view.latest().map(|(checkpoint, hash)| (checkpoint.clone(), hash));
            let last = last.as_ref().map(|(checkpoint, hash)| (checkpoint, *hash));
            let (checkpoint, taken) = writer.next(last, 1, round, 0, |name| view.names(name));
            assert!(taken.contains(&sales));
            let hash = Hash::from_bytes([round as u8; 32]);
            view.insert(hash, checkpoint);
            let (leaf, path) = writer.proof(&sales).unwrap();
            proven.push(ProvenLeaf { checkpoint: hash, log: sales, leaf: leaf.clone(), path });
        }
        let third = &proven[2];
        assert_eq!(ProvenLeaf::from_bytes(&third.to_bytes()).unwrap(), *third);
        assert!(view.insert_proven(&market, third));
        assert_eq!(view.standing_at(1, &sales), None);
        assert_eq!(view.standing_at(2, &sales).unwrap().sequence, 3);
        assert_eq!(view.standing_of(4, &sales.author).len(), 1);
        let bytes = proven[3].to_bytes();
        for index in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[index] ^= 1;
            let taken = ProvenLeaf::from_bytes(&altered).is_ok_and(|leaf| view.insert_proven(&market, &leaf));
            assert!(!taken, "byte {index}");
        }
        let stranger = MarketId::from_bytes([8; 32]);
        assert!(!view.insert_proven(&stranger, &proven[3]), "another market's log");
    }

    #[test]
    fn an_entry_is_covered_by_the_first_checkpoint_that_reaches_it() {
        let mut view = CheckpointView::default();
        chain().into_iter().for_each(|(hash, checkpoint)| view.insert(hash, checkpoint));
        // Log 3 stood at 3 in round 3, at 8 in round 8.
        let covering = view.covered_by(&log(3, Lane::CATALOG), 4).unwrap();
        assert_eq!(covering, Covering { ordinal: 7, time: 8000 });
        assert_eq!(view.standing_at(6, &log(3, Lane::CATALOG)).unwrap().sequence, 3);
        assert_eq!(view.covered_by(&log(3, Lane::CATALOG), 19), None);
        assert_eq!(view.covered_by(&log(7, Lane::SALES), 1), None, "known by root and proof only");
    }

    #[test]
    fn what_does_not_fit_one_checkpoint_waits_for_the_next_and_each_root_is_of_what_was_said() {
        let (mut writer, mut view) = (CheckpointWriter::default(), CheckpointView::default());
        let logs = 2 * CHANGES_MAX as u64 + 7;
        for number in 0..logs {
            let mut author = [0; 32];
            author[..8].copy_from_slice(&number.to_be_bytes());
            let log = LogName { author: DeviceId::from_bytes(author), ..log(0, Lane::SIGNAL) };
            writer.update(LogUpdate { log, id: LogId::from_bytes(author), ..update(0, Lane::SIGNAL, 1) });
        }
        let mut rounds = 0;
        while writer.is_changed() {
            rounds += 1;
            let last = view.latest().map(|(checkpoint, hash)| (checkpoint.clone(), hash));
            let last = last.as_ref().map(|(checkpoint, hash)| (checkpoint, *hash));
            let (checkpoint, taken) = writer.next(last, 1, rounds, 0, |name| view.names(name));
            assert!(checkpoint.to_payload().len() <= crate::entry::PAYLOAD_MAX);
            assert_eq!(checkpoint.changes.len(), taken.len());
            assert_eq!(checkpoint.logs, (rounds * CHANGES_MAX as u64).min(logs));
            for name in taken {
                let (leaf, path) = writer.proof(&name).unwrap();
                assert!(proves(&checkpoint.root, checkpoint.logs, leaf.number, &leaf.hash(), &path));
            }
            view.insert(Hash::from_bytes([rounds as u8; 32]), checkpoint);
        }
        assert_eq!(rounds, 3);
        assert_eq!(view.standing_of(2, &DeviceId::from_bytes([0; 32])).len(), 1);
    }

    #[test]
    fn skip_links_lead_from_any_checkpoint_to_any_earlier_one() {
        let chain = chain();
        let by_number: BTreeMap<u64, &(Hash, Checkpoint)> = chain.iter().map(|pair| (pair.1.number, pair)).collect();
        for from in 1..20_u64 {
            for target in 1..from {
                let (mut at, mut steps) = (from, 0);
                while at > target {
                    let checkpoint = &by_number[&at].1;
                    let skips = skip_targets(at).zip(&checkpoint.skips).map(|(number, hash)| (number, hash.unwrap()));
                    let links = std::iter::once((at - 1, checkpoint.previous.unwrap())).chain(skips);
                    let (next, hash) = links.filter(|(number, _)| *number >= target).min().unwrap();
                    assert_eq!(hash, by_number[&next].0);
                    (at, steps) = (next, steps + 1);
                }
                assert!(steps <= 8, "{from} to {target}: {steps}");
            }
        }
        let mut restored = CheckpointWriter::default();
        let mut view = CheckpointView::default();
        chain.iter().for_each(|(hash, checkpoint)| view.insert(*hash, checkpoint.clone()));
        restored.restore_chain(view.chain_of_newest());
        let (newest, hash) = view.latest().unwrap();
        let (twentieth, _) = restored.next(Some((newest, hash)), 2, 0, 0, |_| true);
        assert_eq!(twentieth.skips, [Some(by_number[&18].0), Some(by_number[&16].0)]);
    }

    #[test]
    fn two_checkpoints_of_one_number_contradict_each_other() {
        let mut view = CheckpointView::default();
        let chain = chain();
        chain.iter().for_each(|(hash, checkpoint)| view.insert(*hash, checkpoint.clone()));
        assert_eq!(view.contradictions().count(), 0);
        let mut other = chain[4].1.clone();
        other.time += 1;
        view.insert(Hash::from_bytes([99; 32]), other);
        assert_eq!(view.contradictions().count(), 1);
    }
}
