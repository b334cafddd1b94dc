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
        Ok(Checkpoint {
            epoch: message.epoch,
            number: message.number,
            previous: if message.previous.is_empty() { None } else { Some(fixed("previous", &message.previous)?) },
            time: message.time,
            revocations: message.revocations,
            root: fixed("root", &message.root)?,
            logs: message.logs,
            changes,
        })
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

/// The writer's state: all leaves, by number.
#[derive(Clone, Debug, Default)]
pub struct CheckpointWriter {
    numbers: BTreeMap<LogName, u64>,
    leaves: Vec<Leaf>,
    tree: MerkleTree,
    pending: BTreeSet<u64>,
}

impl CheckpointWriter {
    /// Takes in what is known of a log now. A standing head never falls: what a checkpoint named stays so.
    pub fn update(&mut self, update: LogUpdate) {
        let next = self.leaves.len() as u64;
        let number = *self.numbers.entry(update.log).or_insert(next);
        let leaf = Leaf { number, log: update.id, standing: update.standing, received: update.received };
        match self.leaves.get_mut(number as usize) {
            Some(kept) => {
                let before = kept.clone();
                if leaf.standing > kept.standing {
                    kept.standing = leaf.standing;
                }
                kept.received = leaf.received;
                if *kept == before {
                    return;
                }
            }
            None => self.leaves.push(leaf),
        }
        self.pending.insert(number);
        if let Some(leaf) = self.leaves.get(number as usize) {
            self.tree.set(number as usize, &leaf.hash());
        }
    }

    /// Logs that changed since the last checkpoint.
    pub fn pending(&self) -> impl Iterator<Item = &LogName> {
        self.numbers.iter().filter(|(_, number)| self.pending.contains(number)).map(|(name, _)| name)
    }

    /// Whether anything changed since the last checkpoint.
    pub fn is_changed(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The next checkpoint after `last`, and nothing is pending any more. `known` are the logs whose number an
    /// earlier checkpoint has said.
    pub fn next(
        &mut self,
        last: Option<(&Checkpoint, Hash)>,
        epoch: u64,
        time: u64,
        revocations: u64,
        known: impl Fn(&LogName) -> bool,
    ) -> Checkpoint {
        let names: BTreeMap<u64, LogName> = self.numbers.iter().map(|(name, number)| (*number, *name)).collect();
        let changes = std::mem::take(&mut self.pending)
            .into_iter()
            .filter_map(|number| {
                let name = names.get(&number)?;
                let leaf = self.leaves.get(number as usize)?;
                name.lane.is_kept_by_all().then(|| Change {
                    number,
                    named: (!known(name)).then_some(*name),
                    standing: leaf.standing,
                    low: 1,
                    finished: false,
                })
            })
            .collect();
        Checkpoint {
            epoch,
            number: last.map_or(1, |(checkpoint, _)| checkpoint.number + 1),
            previous: last.map(|(_, hash)| hash),
            time: time.max(last.map_or(0, |(checkpoint, _)| checkpoint.time)),
            revocations,
            root: self.tree.root(),
            logs: self.leaves.len() as u64,
            changes,
        }
    }

    /// The leaf of a log and the path that proves it under the newest root.
    pub fn proof(&self, log: &LogName) -> Option<(&Leaf, Vec<Hash>)> {
        let number = *self.numbers.get(log)?;
        Some((self.leaves.get(number as usize)?, self.tree.path(number as usize)?))
    }

    /// All logs with number, and their leaves.
    pub fn leaves(&self) -> impl Iterator<Item = (&LogName, &Leaf)> {
        self.numbers.iter().filter_map(|(name, number)| Some((name, self.leaves.get(*number as usize)?)))
    }

    /// Gives a log the number that it had: for a writer that continues.
    pub fn restore(&mut self, log: LogName, leaf: Leaf) {
        if leaf.number as usize == self.leaves.len() {
            self.numbers.insert(log, leaf.number);
            self.tree.set(leaf.number as usize, &leaf.hash());
            self.leaves.push(leaf);
        }
    }
}

/// What all checkpoints together say: a function of their set.
#[derive(Clone, Debug, Default)]
pub struct CheckpointView {
    all: BTreeMap<(u64, u64, Hash), Checkpoint>,
    chain: Vec<(Hash, u64)>,
    by_prefix: BTreeMap<[u8; 8], u64>,
    names: BTreeMap<u64, LogName>,
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
        let Some(checkpoint) = self.get(&proven.checkpoint) else { return false };
        let holds = proven.log.id(market) == proven.leaf.log
            && proves(&checkpoint.root, checkpoint.logs, proven.leaf.number, &proven.leaf.hash(), &proven.path);
        if holds {
            self.proven.entry(proven.log).or_default().push((proven.checkpoint, standing));
        }
        holds
    }

    fn ordinal(&self, checkpoint: &Hash) -> Option<u64> {
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
        self.all.iter().find(|((_, _, at), _)| at == hash).map(|(_, checkpoint)| checkpoint)
    }

    /// Whether a checkpoint has said the log's number.
    pub fn names(&self, log: &LogName) -> bool {
        self.names.values().any(|name| name == log)
    }

    /// How many checkpoints.
    pub fn len(&self) -> usize {
        self.chain.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// Two checkpoints of one epoch and number: a hub that tells two stories.
    pub fn contradictions(&self) -> impl Iterator<Item = (Hash, Hash)> + '_ {
        self.all
            .keys()
            .zip(self.all.keys().skip(1))
            .filter_map(|(one, other)| ((one.0, one.1) == (other.0, other.1)).then_some((one.2, other.2)))
    }
}

impl Coverage for CheckpointView {
    fn time_seen(&self, seen: &[u8; 8]) -> Option<u64> {
        self.by_prefix.get(seen).and_then(|ordinal| self.chain.get(*ordinal as usize)).map(|(_, time)| *time)
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
            let checkpoint = writer.next(last, 1, round * 1000, 0, |name| view.names(name));
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
            assert!(writer.pending().any(|name| *name == sales));
            let last = view.latest().map(|(checkpoint, hash)| (checkpoint.clone(), hash));
            let last = last.as_ref().map(|(checkpoint, hash)| (checkpoint, *hash));
            let checkpoint = writer.next(last, 1, round, 0, |name| view.names(name));
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
