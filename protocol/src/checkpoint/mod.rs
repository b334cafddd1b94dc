//! Checkpoints: the hub's numbered, chained word on what stands, and when.
//!
//! Each names a Merkle root over all logs that have a number; for the lanes that everyone keeps it also lists what
//! changed, so that every node computes alike which checkpoint first covers which entry. Their order is (epoch,
//! number, hash): a writer that starts takes a new epoch first.

mod leaf;
mod view;
mod writer;

pub use self::leaf::{Leaf, ProvenLeaf};
pub use self::view::CheckpointView;
pub use self::writer::{CheckpointWriter, LogUpdate};
use crate::hash::Hash;
use crate::id::{Head, Lane, LogName};
use crate::payload::{self, PayloadError, fixed};

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use std::collections::BTreeMap;

    use super::*;
    use crate::id::{DeviceId, Incarnation, LogId, MarketId};
    use crate::interval::Interval;
    use crate::membership::{Coverage, Covering};
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
            let (checkpoint, taken) = writer.next(last, 1, round * 1000, 0, |name, number| view.numbers(name, number));
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
    fn a_writer_that_begins_anew_names_every_log_again_and_what_the_old_one_still_writes_moves_nothing() {
        let hash = |number: u8| Hash::from_bytes([number; 32]);
        let (mut old, mut view) = (CheckpointWriter::default(), CheckpointView::default());
        old.update(update(1, Lane::CATALOG, 1));
        old.update(update(2, Lane::CATALOG, 1));
        let (first, _) = old.next(None, 1, 1, 0, |name, number| view.numbers(name, number));
        view.insert(hash(1), first.clone());
        // It counts from 0, and in another order.
        let mut new = CheckpointWriter::default();
        new.update(update(2, Lane::CATALOG, 5));
        new.update(update(1, Lane::CATALOG, 7));
        let last = Some((&first, hash(1)));
        let (second, _) = new.next(last, 900, 2, 0, |name, number| view.numbers(name, number));
        assert!(second.changes.iter().all(|change| change.named.is_some()));
        view.insert(hash(2), second);
        // The old one has not heard of it, and gives a number away that is another's by now.
        old.update(update(3, Lane::CATALOG, 9));
        old.update(update(1, Lane::CATALOG, 3));
        let known = |name: &LogName, number| (number, *name) != (2, log(3, Lane::CATALOG));
        let (late, _) = old.next(last, 1, 1, 0, known);
        view.insert(hash(3), late);
        for (ordinal, author, sequence) in [(0, 1, 1), (1, 1, 3), (1, 3, 9), (2, 1, 7), (2, 2, 5), (2, 3, 9)] {
            let standing = view.standing_at(ordinal, &log(author, Lane::CATALOG));
            assert_eq!(standing.map(|head| head.sequence), Some(sequence), "log of {author} as of {ordinal}");
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
            let (checkpoint, taken) = writer.next(last, 1, round, 0, |name, number| view.numbers(name, number));
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
            let (checkpoint, taken) = writer.next(last, 1, rounds, 0, |name, number| view.numbers(name, number));
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
        let (twentieth, _) = restored.next(Some((newest, hash)), 2, 0, 0, |_, _| true);
        assert_eq!(twentieth.skips, [Some(by_number[&18].0), Some(by_number[&16].0)]);
    }

    #[test]
    fn adv_039_two_checkpoints_of_one_number_contradict_each_other() {
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
