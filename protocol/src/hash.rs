//! Hashes: BLAKE3 with a domain prefix, so that no value of one kind can ever pass for one of another.

use std::fmt;

/// A BLAKE3 hash of 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Stands where there is no predecessor.
    pub const ZERO: Hash = Hash([0; 32]);

    /// Takes 32 bytes as a hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Hash(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight bytes: enough to name one of few.
    pub fn prefix(&self) -> [u8; 8] {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        prefix
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// What is hashed. The name stands before the data, with its length, in every preimage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation: each is defined where it is used")]
pub enum Domain {
    Market,
    Log,
    Part,
    Payload,
    Entry,
    Blob,
    CheckpointLeaf,
    MerkleNode,
    MerkleLeaf,
    Fingerprint,
    DayKey,
    PartSecret,
    PartTag,
    PartKey,
    Join,
    JoinCode,
    SaleId,
    CatalogVersion,
    PromotionsVersion,
    ConditionsVersion,
    ClosingInput,
    Settlement,
}

impl Domain {
    /// The prefix, as ASCII.
    pub const fn name(self) -> &'static str {
        match self {
            Domain::Market => "stallmesh/1/market",
            Domain::Log => "stallmesh/1/log",
            Domain::Part => "stallmesh/1/part",
            Domain::Payload => "stallmesh/1/payload",
            Domain::Entry => "stallmesh/1/entry",
            Domain::Blob => "stallmesh/1/blob",
            Domain::CheckpointLeaf => "stallmesh/1/checkpoint-leaf",
            Domain::MerkleNode => "stallmesh/1/merkle-node",
            Domain::MerkleLeaf => "stallmesh/1/merkle-leaf",
            Domain::Fingerprint => "stallmesh/1/fingerprint",
            Domain::DayKey => "stallmesh/1/day-key",
            Domain::PartSecret => "stallmesh/1/part-secret",
            Domain::PartTag => "stallmesh/1/part-tag",
            Domain::PartKey => "stallmesh/1/part-key",
            Domain::Join => "stallmesh/1/join",
            Domain::JoinCode => "stallmesh/1/join-code",
            Domain::SaleId => "stallmesh/1/sale-id",
            Domain::CatalogVersion => "stallmesh/1/catalog-version",
            Domain::PromotionsVersion => "stallmesh/1/promotions-version",
            Domain::ConditionsVersion => "stallmesh/1/conditions-version",
            Domain::ClosingInput => "stallmesh/1/closing-input",
            Domain::Settlement => "stallmesh/1/settlement",
        }
    }
}

/// Builds a preimage piece by piece: `H(length of the domain's name as one byte, name, pieces)`.
///
/// Pieces are not delimited: each use fixes their widths, or writes a length first.
#[derive(Clone)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// A plain hash in a domain.
    pub fn new(domain: Domain) -> Self {
        Self::start(blake3::Hasher::new(), domain)
    }

    /// A keyed hash in a domain (BLAKE3's keyed mode).
    pub fn keyed(key: &[u8; 32], domain: Domain) -> Self {
        Self::start(blake3::Hasher::new_keyed(key), domain)
    }

    fn start(mut inner: blake3::Hasher, domain: Domain) -> Self {
        let name = domain.name().as_bytes();
        // Names are shorter than 256 bytes by construction of the table above.
        inner.update(&[name.len() as u8]);
        inner.update(name);
        Hasher(inner)
    }

    /// Appends bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// Appends a length as eight bytes, big endian, and then the bytes.
    pub fn sized(self, bytes: &[u8]) -> Self {
        self.u64(bytes.len() as u64).bytes(bytes)
    }

    /// Appends one byte.
    pub fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    /// Appends four bytes, big endian.
    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight bytes, big endian.
    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// The hash of all pieces.
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

/// Hashes one run of bytes in a domain.
pub fn hash(domain: Domain, bytes: &[u8]) -> Hash {
    Hasher::new(domain).bytes(bytes).finish()
}
