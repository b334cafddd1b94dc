//! Pages: runs of entries of one log as they travel and are exported.
//!
//! ```text
//! page  = version u8 (1) ‖ first varint ‖ previous 32 ‖ count varint ‖ entry × count
//!         ‖ signatures varint ‖ (offset varint ‖ signature 64) × signatures
//! entry = timestamp varint (less the entry before it, modulo 2^64; the first one's whole) ‖ kind varint ‖ flags u8
//!         ‖ [seen 8] ‖ [distance back to the key entry varint] ‖ (length varint ‖ bytes) for each part
//! flags = bit 0: `seen` differs from the entry before it (the first: from zeros) ‖ bit 1: sealed under a key entry
//!         ‖ bit 2: the personal part is erased, its 32-byte leaf stands without a length
//!         ‖ bits 4 to 7: public, money, personal, extra part present
//! ```
//!
//! Integers are minimal LEB128. The log is named beside the page. A page has at most [`ENTRIES_MAX`] entries and
//! [`PAGE_MAX`] bytes, ends at a signed entry, and carries a signature at every sequence ≡ 0 mod [`CARRIED_EVERY`]
//! inside it, so that a fork proof always fits a payload. It may carry others, where holders can cut it. Every
//! signature that it carries is checked: no byte of a page can be altered on its way.
//!
//! Honest authors' timestamps never fall. A dishonest one's may fall where one page ends and the next begins, which no
//! receiver of either can see; whoever holds both must be able to pass them on as one page, so the difference wraps.

use thiserror::Error;

use crate::codec::{CodecError, Reader, put_varint};
use crate::entry::{Entry, PAYLOAD_MAX, Part, PartBody, Payload, verify_head};
use crate::hash::Hash;
use crate::id::{DeviceId, Head, LogId};
use crate::kind::Kind;
use crate::planted::{self, Bug};
use crate::sign::{Signature, SignatureError};

/// The most entries in a page.
pub const ENTRIES_MAX: usize = 1024;
/// The most bytes in a page.
pub const PAGE_MAX: usize = 256 * 1024;
/// Authors sign at least every so many entries: at each sequence that this divides.
pub const SIGNED_EVERY: u64 = 64;
/// Pages carry a signature, which receivers check, at least every so many entries: at each sequence that this divides.
pub const CARRIED_EVERY: u64 = 512;

const VERSION: u8 = 1;
const FLAG_SEEN: u8 = 1 << 0;
const FLAG_KEY: u8 = 1 << 1;
const FLAG_ERASED: u8 = 1 << 2;
const FLAG_UNUSED: u8 = 1 << 3;

fn part_flag(part: Part) -> u8 {
    1 << (4 + part as u8)
}

/// A run of entries of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The sequence of the first entry, from 1.
    pub first: u64,
    /// The hash of the entry before the first; zeros where `first` is 1.
    pub previous: Hash,
    /// The entries, oldest first. Never empty.
    pub entries: Vec<Entry>,
    /// (Sequence, signature), ascending; the last one is the last entry's.
    pub signatures: Vec<(u64, Signature)>,
}

/// Why a page is refused, whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PageError {
    /// It can't be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It doesn't end at a signed entry, or lacks a signature that it must carry.
    #[error("E_UNSIGNED: no signature at sequence {0}")]
    Unsigned(u64),
    /// A signature does not hold: some byte of the page is not what its author signed.
    #[error("E_SIG: at sequence {sequence}: {source}")]
    Signature {
        /// Where.
        sequence: u64,
        /// What was checked.
        source: SignatureError,
    },
}

/// A page whose chain was recomputed and whose signatures hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPage {
    page: Page,
    hashes: Vec<Hash>,
}

impl Page {
    /// The sequence of the last entry.
    pub fn last(&self) -> u64 {
        self.first + (self.entries.len() as u64).saturating_sub(1)
    }

    /// Encodes the page; [`Page::decode`] gives it back byte for byte.
    pub fn encode(&self) -> Vec<u8> {
        let payloads: usize = self.entries.iter().map(|entry| entry.payload.length() + 16).sum();
        let mut out = Vec::with_capacity(64 + payloads + self.signatures.len() * 66);
        out.push(VERSION);
        put_varint(&mut out, self.first);
        out.extend_from_slice(self.previous.as_bytes());
        put_varint(&mut out, self.entries.len() as u64);
        let (mut timestamp, mut seen) = (0, [0; 8]);
        // The entries lead: a range that is asked for one number more than there is must not run over the last of all.
        for (entry, sequence) in self.entries.iter().zip(self.first..) {
            put_entry(&mut out, entry, sequence, timestamp, seen);
            (timestamp, seen) = (entry.timestamp, entry.seen);
        }
        put_varint(&mut out, self.signatures.len() as u64);
        for (sequence, signature) in &self.signatures {
            put_varint(&mut out, sequence.saturating_sub(self.first));
            out.extend_from_slice(signature.as_bytes());
        }
        out
    }

    /// Decodes a page: framing, limits and canonical form, but neither chain nor signatures.
    ///
    /// # Errors
    /// The first thing that is wrong; nothing is allocated in proportion to a length that is only claimed.
    pub fn decode(bytes: &[u8]) -> Result<Page, PageError> {
        if bytes.len() > PAGE_MAX {
            return Err(CodecError::TooLarge("page").into());
        }
        let mut reader = Reader::new(bytes);
        if reader.u8("page version")? != VERSION {
            return Err(CodecError::Invalid("page version is not 1").into());
        }
        let first = reader.varint("first sequence")?;
        let previous = Hash::from_bytes(reader.array("previous hash")?);
        if first == 0 || (first == 1) != (previous == Hash::ZERO) {
            return Err(CodecError::Invalid("first sequence and previous hash don't fit each other").into());
        }
        let count = reader.length(ENTRIES_MAX, "entry count")?;
        if count == 0 {
            return Err(CodecError::Empty("page").into());
        }
        if first.checked_add(count as u64).is_none() {
            return Err(CodecError::TooLarge("sequence").into());
        }
        // An entry takes at least three bytes.
        let mut entries = Vec::with_capacity(count.min(reader.remaining() / 3));
        let (mut timestamp, mut seen) = (0, [0; 8]);
        for sequence in first..first + count as u64 {
            let entry = take_entry(&mut reader, sequence, timestamp, seen)?;
            (timestamp, seen) = (entry.timestamp, entry.seen);
            entries.push(entry);
        }
        let signatures = take_signatures(&mut reader, first, count)?;
        reader.finish()?;
        let page = Page { first, previous, entries, signatures };
        page.check_signed()?;
        Ok(page)
    }

    /// Ends at a signed entry, and carries each signature that a page must carry.
    fn check_signed(&self) -> Result<(), PageError> {
        let mut signed = self.signatures.iter().map(|(sequence, _)| *sequence).peekable();
        let last = self.last();
        for sequence in (self.first..=last).filter(|sequence| sequence % CARRIED_EVERY == 0 || *sequence == last) {
            while signed.next_if(|at| *at < sequence).is_some() {}
            if signed.next_if_eq(&sequence).is_none() {
                return Err(PageError::Unsigned(sequence));
            }
        }
        Ok(())
    }

    /// Recomputes the chain and checks all signatures.
    ///
    /// # Errors
    /// One does not hold: the page must be refused whole, and its sender named.
    pub fn verify(self, log: &LogId, author: &DeviceId) -> Result<VerifiedPage, PageError> {
        let mut hashes = Vec::with_capacity(self.entries.len());
        let mut previous = self.previous;
        // The entries lead: a range that is asked for one number more than there is must not run over the last of all.
        for (entry, sequence) in self.entries.iter().zip(self.first..) {
            previous = entry.header().hash(log, sequence, &previous);
            hashes.push(previous);
        }
        let last = self.last();
        for (sequence, signature) in &self.signatures {
            let offset = sequence.checked_sub(self.first).and_then(|offset| usize::try_from(offset).ok());
            let Some(hash) = offset.and_then(|offset| hashes.get(offset)) else {
                return Err(PageError::Unsigned(last));
            };
            let head = Head { sequence: *sequence, hash: *hash };
            if planted::is_on(Bug::UnsignedPage) {
                continue;
            }
            verify_head(author, log, &head, signature)
                .map_err(|source| PageError::Signature { sequence: *sequence, source })?;
        }
        // Holds for every decoded page; a page built by hand could lack its last signature.
        match self.signatures.last() {
            Some((sequence, _)) if *sequence == last => Ok(VerifiedPage { page: self, hashes }),
            _ => Err(PageError::Unsigned(last)),
        }
    }
}

impl VerifiedPage {
    /// The page.
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// The page, to take its entries.
    pub fn into_page(self) -> Page {
        self.page
    }

    /// The hash of each entry, in order.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The position of the last entry.
    pub fn head(&self) -> Head {
        Head { sequence: self.page.last(), hash: self.hashes.last().copied().unwrap_or(self.page.previous) }
    }

    /// (Sequence, hash, entry), oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Hash, &Entry)> {
        let hashed = self.hashes.iter().zip(&self.page.entries);
        hashed.zip(self.page.first..).map(|((hash, entry), sequence)| (sequence, *hash, entry))
    }
}

/// How many bytes an entry takes in a page at the most, beside its parts.
pub const ENTRY_OVERHEAD_MAX: usize = 10 + 5 + 1 + 8 + 10 + 4 * 3;

/// Appends one entry in the page's form.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry, sequence: u64, timestamp: u64, seen: [u8; 8]) {
    // A key entry stands before its users: see `LogWriter` and `take_entry`.
    put_varint(out, entry.timestamp.wrapping_sub(timestamp));
    put_varint(out, u64::from(entry.kind.0));
    let mut flags = 0;
    for (part, body) in entry.payload.parts() {
        flags |= part_flag(part);
        if matches!(body, PartBody::Erased(_)) {
            flags |= FLAG_ERASED;
        }
    }
    if entry.seen != seen {
        flags |= FLAG_SEEN;
    }
    if entry.payload.key.is_some() {
        flags |= FLAG_KEY;
    }
    out.push(flags);
    if entry.seen != seen {
        out.extend_from_slice(&entry.seen);
    }
    if let Some(key) = entry.payload.key {
        put_varint(out, sequence.saturating_sub(key));
    }
    for (_, body) in entry.payload.parts() {
        match body {
            PartBody::Bytes(bytes) => {
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            PartBody::Erased(leaf) => out.extend_from_slice(leaf.as_bytes()),
        }
    }
}

/// Reads one entry in the page's form; the two last arguments are the values of the entry before it.
pub fn take_entry(reader: &mut Reader<'_>, sequence: u64, timestamp: u64, seen: [u8; 8]) -> Result<Entry, CodecError> {
    let later = reader.varint("timestamp")?;
    let timestamp = timestamp.wrapping_add(later);
    let kind = u32::try_from(reader.varint("kind")?).map_err(|_| CodecError::TooLarge("kind"))?;
    let flags = reader.u8("flags")?;
    if flags & FLAG_UNUSED != 0 || (flags & FLAG_ERASED != 0 && flags & part_flag(Part::Personal) == 0) {
        return Err(CodecError::Invalid("flags that don't exist"));
    }
    let mut entry = Entry { timestamp, seen, kind: Kind(kind), payload: Payload::default() };
    if flags & FLAG_SEEN != 0 {
        entry.seen = reader.array("seen checkpoint")?;
        if entry.seen == seen {
            return Err(CodecError::Invalid("a seen checkpoint that didn't change"));
        }
    }
    if flags & FLAG_KEY != 0 {
        let back = reader.varint("key entry")?;
        match sequence.checked_sub(back) {
            Some(key) if key > 0 && back > 0 => entry.payload.key = Some(key),
            _ => return Err(CodecError::Invalid("a key entry that isn't before its user")),
        }
    }
    let mut left = PAYLOAD_MAX;
    for part in Part::ALL {
        if flags & part_flag(part) == 0 {
            continue;
        }
        let body = if part == Part::Personal && flags & FLAG_ERASED != 0 {
            PartBody::Erased(Hash::from_bytes(reader.array("erased part")?))
        } else {
            let length = reader.length(left, "payload")?;
            left -= length;
            PartBody::Bytes(reader.take(length, "part")?.to_vec())
        };
        entry.payload.set(part, body);
    }
    Ok(entry)
}

fn take_signatures(reader: &mut Reader<'_>, first: u64, count: usize) -> Result<Vec<(u64, Signature)>, CodecError> {
    let signatures = reader.length(count, "signature count")?;
    let mut out = Vec::with_capacity(signatures.min(reader.remaining() / 65));
    let mut next = 0;
    for _ in 0..signatures {
        let offset = reader.length(count - 1, "signature offset")?;
        if offset < next {
            return Err(CodecError::Invalid("signatures out of order"));
        }
        next = offset + 1;
        out.push((first + offset as u64, Signature::from_bytes(reader.array("signature")?)));
    }
    Ok(out)
}
