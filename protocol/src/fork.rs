//! Forks: two different entries at one position of one log, and the proof that anyone can check.
//!
//! ```text
//!                    ┌─► a_n ─► … ─► a_(n+i)  signed
//!   h_(n-1) ─────────┤
//!                    └─► b_n ─► … ─► b_(n+j)  signed
//! ```
//!
//! A proof holds the headers of both branches from the first difference to the next signed entry: no payload is
//! needed to check it, so it proves the same of sealed lanes. No honest device can produce one: an incarnation's
//! logs have one writer, and old incarnations are never appended to.

use thiserror::Error;

use crate::entry::{Header, verify_head};
use crate::hash::Hash;
use crate::id::{Head, Lane, LogId, LogName, MarketId};
use crate::kind::Kind;
use crate::page::{CARRIED_EVERY, VerifiedPage};
use crate::payload::{self, PayloadError, fixed};
use crate::sign::{Signature, SignatureError};

/// One branch of a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Headers from the forked position to the signed one.
    pub headers: Vec<Header>,
    /// Over the last header's position.
    pub signature: Signature,
}

/// Proof that the author of a log signed two histories of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkProof {
    /// The forked log.
    pub log: LogName,
    /// The first position that differs.
    pub sequence: u64,
    /// The hash of the entry before it: the common predecessor.
    pub previous: Hash,
    /// The branch whose first hash is smaller comes first, so that two finders write the same proof of the same pair.
    pub branches: [Branch; 2],
}

/// Why something is no proof of a fork.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ForkProofError {
    /// A branch without headers, or longer than honest holders let it become.
    #[error("E_DECODE: a branch of {0} headers")]
    Length(usize),
    /// Position 0, or one beyond the end of numbers.
    #[error("E_DECODE: no such position: {0}")]
    Position(u64),
    /// Both branches begin with the same entry, or stand in the wrong order.
    #[error("E_DECODE: the branches don't differ, or aren't in order")]
    Branches,
    /// A signature does not hold.
    #[error("E_SIG: {0}")]
    Signature(#[from] SignatureError),
}

impl Branch {
    /// The head that the signature vouches for, and the hash of the first header.
    fn walk(&self, log: &LogId, sequence: u64, previous: Hash) -> Option<(Hash, Head)> {
        let mut first = None;
        let mut head = Head { sequence: sequence.checked_sub(1)?, hash: previous };
        for header in &self.headers {
            let sequence = head.sequence.checked_add(1)?;
            head = Head { sequence, hash: header.hash(log, sequence, &head.hash) };
            first.get_or_insert(head.hash);
        }
        first.map(|first| (first, head))
    }
}

impl ForkProof {
    /// Makes a proof from two verified runs of one log that both begin at the position after a common predecessor
    /// and differ there.
    ///
    /// # Errors
    /// What [`ForkProof::verify`] would say of it.
    pub fn new(
        market: &MarketId,
        log: LogName,
        sequence: u64,
        previous: Hash,
        branches: [Branch; 2],
    ) -> Result<Self, ForkProofError> {
        let id = log.id(market);
        let [one, other] = branches;
        let first = |branch: &Branch| branch.walk(&id, sequence, previous).map(|(first, _)| first);
        let branches = if first(&one) <= first(&other) { [one, other] } else { [other, one] };
        let proof = ForkProof { log, sequence, previous, branches };
        proof.verify(market)?;
        Ok(proof)
    }

    /// Checks the proof; needs nothing but itself and the market.
    ///
    /// # Errors
    /// The first thing that doesn't hold.
    pub fn verify(&self, market: &MarketId) -> Result<(), ForkProofError> {
        let id = self.log.id(market);
        if self.sequence == 0 || (self.sequence == 1) != (self.previous == Hash::ZERO) {
            return Err(ForkProofError::Position(self.sequence));
        }
        let mut firsts = [Hash::ZERO; 2];
        for (branch, first) in self.branches.iter().zip(&mut firsts) {
            if branch.headers.is_empty() || branch.headers.len() as u64 > CARRIED_EVERY {
                return Err(ForkProofError::Length(branch.headers.len()));
            }
            let (hash, head) =
                branch.walk(&id, self.sequence, self.previous).ok_or(ForkProofError::Position(self.sequence))?;
            verify_head(&self.log.author, &id, &head, &branch.signature)?;
            *first = hash;
        }
        if firsts[0] < firsts[1] { Ok(()) } else { Err(ForkProofError::Branches) }
    }

    /// The payload of kinds 28 and 80.
    pub fn to_payload(&self) -> Vec<u8> {
        let header = |header: &Header| payload::ForkHeader {
            timestamp: header.timestamp,
            seen: if header.seen == [0; 8] { Vec::new() } else { header.seen.to_vec() },
            kind: header.kind.0,
            payload_root: header.payload_root.as_bytes().to_vec(),
        };
        let branch = |branch: &Branch| payload::ForkBranch {
            headers: branch.headers.iter().map(header).collect(),
            signature: branch.signature.as_bytes().to_vec(),
        };
        payload::encode(&payload::ForkProof {
            author: self.log.author.as_bytes().to_vec(),
            incarnation: self.log.incarnation.as_bytes().to_vec(),
            lane: self.log.lane.0,
            sequence: self.sequence,
            previous: if self.previous == Hash::ZERO { Vec::new() } else { self.previous.as_bytes().to_vec() },
            branches: self.branches.iter().map(branch).collect(),
        })
    }

    /// Reads the payload of kinds 28 and 80; whether it proves anything is [`ForkProof::verify`]'s to say.
    ///
    /// # Errors
    /// Undecodable, not canonical, or a field without meaning.
    pub fn from_payload(bytes: &[u8]) -> Result<Self, PayloadError> {
        let message: payload::ForkProof = payload::decode("fork proof", bytes)?;
        let header = |header: &payload::ForkHeader| -> Result<Header, PayloadError> {
            Ok(Header {
                timestamp: header.timestamp,
                seen: if header.seen.is_empty() { [0; 8] } else { fixed("seen", &header.seen)? },
                kind: Kind(header.kind),
                payload_root: fixed("payload_root", &header.payload_root)?,
            })
        };
        let branch = |branch: &payload::ForkBranch| -> Result<Branch, PayloadError> {
            Ok(Branch {
                headers: branch.headers.iter().map(header).collect::<Result<_, _>>()?,
                signature: fixed("signature", &branch.signature)?,
            })
        };
        let [one, other] = message.branches.as_slice() else {
            return Err(PayloadError::field("branches", "must be two"));
        };
        let proof = ForkProof {
            log: LogName {
                author: fixed("author", &message.author)?,
                incarnation: fixed("incarnation", &message.incarnation)?,
                lane: Lane(message.lane),
            },
            sequence: message.sequence,
            previous: if message.previous.is_empty() { Hash::ZERO } else { fixed("previous", &message.previous)? },
            branches: [branch(one)?, branch(other)?],
        };
        // Zeros, said, mean what leaving them out means.
        if proof.to_payload() == bytes { Ok(proof) } else { Err(PayloadError::NonCanonical { kind: "fork proof" }) }
    }
}

/// The branch that a verified page shows from `sequence` on, up to the next signature that holds.
pub fn branch_of(page: &VerifiedPage, log: &LogId, author: &crate::DeviceId, sequence: u64) -> Option<Branch> {
    let first = page.page().first;
    let start = usize::try_from(sequence.checked_sub(first)?).ok()?;
    let (end, signature) = page.page().signatures.iter().find(|(at, signature)| {
        let hash = at.checked_sub(first).and_then(|offset| page.hashes().get(offset as usize));
        *at >= sequence
            && hash
                .is_some_and(|hash| verify_head(author, log, &Head { sequence: *at, hash: *hash }, signature).is_ok())
    })?;
    let end = usize::try_from(end - first).ok()?;
    let headers = page.page().entries.get(start..=end)?.iter().map(|entry| entry.header()).collect();
    Some(Branch { headers, signature: *signature })
}
