//! What a checkpoint's tree says of one log, and the proof of it.

use crate::acknowledgement::INTERVALS_MAX;
use crate::codec::{CodecError, Reader};
use crate::hash::{Domain, Hash, Hasher};
use crate::id::{DeviceId, Head, Incarnation, Lane, LogId, LogName};
use crate::interval::Interval;

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
