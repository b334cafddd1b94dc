//! Entries: one record of a log, and how it is hashed into its chain.
//!
//! ```text
//!   log_id ─┐
//!           ▼
//!   h_1 = H(log_id, 1, 0…, …) ──► h_2 = H(log_id, 2, h_1, …) ──► h_3 …     signature over (log_id, 3, h_3)
//!                       ▲                            ▲
//!              payload root 1               payload root 2 = H(key, parts: leaf = H(part, length, bytes that travel))
//! ```

use crate::DeviceId;
use crate::hash::{Domain, Hash, Hasher};
use crate::id::{Head, LogId};
use crate::kind::Kind;
use crate::sign::{Context, DeviceKey, Signature, SignatureError, verify};

/// The most bytes that the parts of one payload may have together.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// The parts that a payload can have, each hashed, sealed and disclosed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Part {
    /// Readable by whoever holds the entry.
    Public = 0,
    /// What settlement reads.
    Money = 1,
    /// What is about a person; the only part that may be absent, under an erasure. No rule of settlement reads it.
    Personal = 2,
    /// What later versions and integrators add.
    Extra = 3,
}

impl Part {
    /// All parts in the order of their numbers.
    pub const ALL: [Part; 4] = [Part::Public, Part::Money, Part::Personal, Part::Extra];
}

/// One part of a payload as it travels.
#[derive(Clone, PartialEq, Eq)]
pub enum PartBody {
    /// The bytes: clear, or sealed.
    Bytes(Vec<u8>),
    /// Erased; its leaf keeps the payload root whole. Personal parts only.
    Erased(Hash),
}

impl PartBody {
    /// `H(part; number, length as 8 bytes, bytes)`.
    pub fn leaf(&self, part: Part) -> Hash {
        match self {
            PartBody::Bytes(bytes) => Hasher::new(Domain::Part).u8(part as u8).sized(bytes).finish(),
            PartBody::Erased(leaf) => *leaf,
        }
    }

    fn travels(&self) -> usize {
        match self {
            PartBody::Bytes(bytes) => bytes.len(),
            PartBody::Erased(_) => 32,
        }
    }
}

impl std::fmt::Debug for PartBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PartBody::Bytes(bytes) => write!(formatter, "{} B", bytes.len()),
            PartBody::Erased(leaf) => write!(formatter, "erased {leaf:?}"),
        }
    }
}

/// What an entry carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Where parts are sealed: the sequence, in the same log, of the key entry that opens them.
    pub key: Option<u64>,
    parts: [Option<PartBody>; 4],
}

impl Payload {
    /// A payload of one clear public part.
    pub fn public(bytes: Vec<u8>) -> Self {
        Payload::default().with(Part::Public, PartBody::Bytes(bytes))
    }

    /// Sets a part.
    pub fn with(mut self, part: Part, body: PartBody) -> Self {
        self.set(part, body);
        self
    }

    /// Sets a part.
    pub fn set(&mut self, part: Part, body: PartBody) {
        self.parts[part as usize] = Some(body);
    }

    /// One part, erased or not.
    pub fn part(&self, part: Part) -> Option<&PartBody> {
        self.parts[part as usize].as_ref()
    }

    /// The bytes of a part that is there.
    pub fn bytes(&self, part: Part) -> Option<&[u8]> {
        match self.part(part) {
            Some(PartBody::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The parts that the payload has, in order.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &PartBody)> {
        Part::ALL.into_iter().filter_map(|part| self.part(part).map(|body| (part, body)))
    }

    /// How many bytes its parts have as they travel.
    pub fn length(&self) -> usize {
        self.parts().map(|(_, body)| body.travels()).sum()
    }

    /// `H(payload; key entry's sequence or 0 as 8 bytes, count of parts as 1 byte, then for each its number as 1
    /// byte and its leaf)`.
    pub fn root(&self) -> Hash {
        let count = self.parts().count() as u8;
        let start = Hasher::new(Domain::Payload).u64(self.key.unwrap_or(0)).u8(count);
        self.parts()
            .fold(start, |hasher, (part, body)| hasher.u8(part as u8).bytes(body.leaf(part).as_bytes()))
            .finish()
    }
}

/// What an entry's hash is made of, but for its log, position and predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Milliseconds since 1970-01-01T00:00Z by the author's trusted time; never less than its predecessor's.
    pub timestamp: u64,
    /// First 8 bytes of the hash of the newest checkpoint that the author had seen; zeros for none.
    pub seen: [u8; 8],
    /// What the payload says.
    pub kind: Kind,
    /// [`Payload::root`].
    pub payload_root: Hash,
}

impl Header {
    /// `h_n = H(entry; log id, n, h_(n-1), timestamp, seen, kind as 4 bytes, payload root)`; integers of 8 bytes but
    /// where said, `h_0` is 32 zeros.
    pub fn hash(&self, log: &LogId, sequence: u64, previous: &Hash) -> Hash {
        Hasher::new(Domain::Entry)
            .bytes(log.as_bytes())
            .u64(sequence)
            .bytes(previous.as_bytes())
            .u64(self.timestamp)
            .bytes(&self.seen)
            .u32(self.kind.0)
            .bytes(self.payload_root.as_bytes())
            .finish()
    }
}

/// One entry, without its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// See [`Header::timestamp`].
    pub timestamp: u64,
    /// See [`Header::seen`].
    pub seen: [u8; 8],
    /// What the payload says.
    pub kind: Kind,
    /// The payload as it travels.
    pub payload: Payload,
}

impl Entry {
    /// The header that this entry's payload makes.
    pub fn header(&self) -> Header {
        Header { timestamp: self.timestamp, seen: self.seen, kind: self.kind, payload_root: self.payload.root() }
    }
}

fn head_message(log: &LogId, head: &Head) -> [u8; 72] {
    let mut message = [0; 72];
    message[..32].copy_from_slice(log.as_bytes());
    message[32..40].copy_from_slice(&head.sequence.to_be_bytes());
    message[40..].copy_from_slice(head.hash.as_bytes());
    message
}

/// Signs (log id, n, h_n): vouches for the entry and all its ancestors.
pub fn sign_head(key: &DeviceKey, log: &LogId, head: &Head) -> Signature {
    key.sign(Context::Head, &head_message(log, head))
}

/// Checks a signature over (log id, n, h_n).
///
/// # Errors
/// The signature does not hold under the author's key.
pub fn verify_head(author: &DeviceId, log: &LogId, head: &Head, signature: &Signature) -> Result<(), SignatureError> {
    verify(author, Context::Head, &head_message(log, head), signature)
}
