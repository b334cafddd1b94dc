//! Sealing: what hub and stall alone can read, and what a carrier may still check.
//!
//! ```text
//!   day key (32 bytes, one per log of an incarnation and day)
//!     │  published as a key entry: wrapped by HPKE to the hub's opening key and the stall's read key, with a commitment
//!     ▼
//!   s = H_daykey(part-secret; log id, n, h_(n-1), part)                discloses this one part, when disclosed
//!   t = H_s(part-tag; header, padded plaintext)                        32 bytes, travels
//!   k = H_s(part-key; t)                                               ChaCha20 with a zero nonce
//!   what travels: t ‖ ChaCha20(k, padded plaintext)
//! ```
//!
//! The cipher key depends on the plaintext through the tag (a synthetic IV, RFC 5297's idea), so two different
//! plaintexts never share a key stream, whatever disk was cloned or rolled back; and the tag has no second opening,
//! because recomputing it proves the plaintext. HPKE is RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, ChaCha20-Poly1305.

use chacha20::cipher::{KeyIvInit, StreamCipher};
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable};
use rand_core::SeedableRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::codec::{CodecError, Reader, put_varint};
use crate::entry::{PAYLOAD_MAX, Part, PartBody};
use crate::hash::{Domain, Hash, Hasher};
use crate::id::{LogId, MarketId};
use crate::kind::Kind;
use crate::payload;
use crate::planted::{self, Bug};

type Kem = hpke::kem::X25519HkdfSha256;
type Kdf = hpke::kdf::HkdfSha256;
type Aead = hpke::aead::ChaCha20Poly1305;

/// The smallest size of a padded plaintext, in bytes.
pub const PADDED_MIN: usize = 64;

/// Why something sealed can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// A key is no X25519 key.
    #[error("E_SEAL: not an X25519 key")]
    Key,
    /// Not sealed to this key, or altered.
    #[error("E_SEAL: it was not sealed to this key, or it was altered")]
    Open,
    /// The day key isn't the one that its entry committed to.
    #[error("E_SEAL: the day key is not the one that was committed to")]
    Commitment,
    /// No wrap for this key.
    #[error("E_SEAL: nothing is wrapped for this key")]
    NotForMe,
    /// The tag is not the plaintext's.
    #[error("E_SEAL: the sealed part was altered")]
    Tag,
    /// The padding is not the one padding of its plaintext.
    #[error("E_NONCANONICAL: padding")]
    Padding,
    /// Too long, or too short.
    #[error("E_TOO_LARGE: a sealed part of {0} bytes")]
    Length(usize),
}

/// An X25519 key pair: a hub's opening key, a stall's read key, a device's seal key, the market's recovery key.
#[derive(Clone)]
pub struct SealKey {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SealKey({:02x}{:02x}…)", self.public[0], self.public[1])
    }
}

impl SealKey {
    /// From 32 secret bytes.
    ///
    /// # Errors
    /// The bytes are no X25519 secret.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, SealError> {
        let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(secret).map_err(|_| SealError::Key)?;
        let mut public = [0; 32];
        public.copy_from_slice(&Kem::sk_to_pk(&private).to_bytes());
        Ok(SealKey { secret: Zeroizing::new(*secret), public })
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The secret, to be kept in a file that only its owner can read, or wrapped.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Opens what [`seal_to`] sealed.
    ///
    /// # Errors
    /// It was sealed to another key, in another context, or altered.
    pub fn open(
        &self,
        sealed: &payload::Wrap,
        info: &[u8],
        associated: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(self.secret.as_slice()).map_err(|_| SealError::Key)?;
        let encapsulated =
            <Kem as hpke::Kem>::EncappedKey::from_bytes(&sealed.encapsulated).map_err(|_| SealError::Open)?;
        hpke::single_shot_open::<Aead, Kdf, Kem>(
            &OpModeR::Base,
            &private,
            &encapsulated,
            info,
            &sealed.ciphertext,
            associated,
        )
        .map(Zeroizing::new)
        .map_err(|_| SealError::Open)
    }
}

/// Seals bytes to a public key. `seed` must be fresh random bytes: it is the only randomness.
///
/// # Errors
/// The recipient is no X25519 key.
pub fn seal_to(
    recipient: &[u8; 32],
    info: &[u8],
    associated: &[u8],
    plaintext: &[u8],
    seed: [u8; 32],
) -> Result<payload::Wrap, SealError> {
    let public = <Kem as hpke::Kem>::PublicKey::from_bytes(recipient).map_err(|_| SealError::Key)?;
    let mut random = rand_chacha::ChaCha20Rng::from_seed(seed);
    let (encapsulated, ciphertext) = hpke::single_shot_seal_with_rng::<Aead, Kdf, Kem>(
        &OpModeS::Base,
        &public,
        info,
        plaintext,
        associated,
        &mut random,
    )
    .map_err(|_| SealError::Key)?;
    Ok(payload::Wrap { recipient: recipient.to_vec(), encapsulated: encapsulated.to_bytes().to_vec(), ciphertext })
}

/// The `info` of each use of HPKE.
pub mod info {
    /// A day key, in a key entry.
    pub const DAY_KEY: &[u8] = b"stallmesh/1/day-key";
    /// An opening key's secret, to the recovery key.
    pub const OPENING_KEY: &[u8] = b"stallmesh/1/opening-key";
    /// A stall's read key, to its devices.
    pub const STALL_KEY: &[u8] = b"stallmesh/1/stall-key";
    /// A join request, to the hub's opening key.
    pub const JOIN_REQUEST: &[u8] = b"stallmesh/1/join-request";
    /// A statement, to its stall's read key.
    pub const STATEMENT: &[u8] = b"stallmesh/1/statement";
}

/// What every use of HPKE is bound to: the market's id, and what it says itself. So nothing that was sealed in one market
/// opens in another.
pub fn associated(market: &MarketId, rest: &[u8]) -> Vec<u8> {
    [market.as_bytes().as_slice(), rest].concat()
}

/// Where a sealed part stands, and what else its header says: bound into its secret and tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedAt {
    /// The log.
    pub log: LogId,
    /// The entry's sequence.
    pub sequence: u64,
    /// The hash of the entry before it.
    pub previous: Hash,
    /// The entry's timestamp.
    pub timestamp: u64,
    /// The checkpoint that its author had seen.
    pub seen: [u8; 8],
    /// The entry's kind.
    pub kind: Kind,
}

/// The key of a log's sealed entries from its key entry on.
#[derive(Clone)]
pub struct DayKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for DayKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DayKey")
    }
}

/// What opens one part of one entry, and nothing else.
#[derive(Clone)]
pub struct PartSecret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for PartSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PartSecret")
    }
}

impl DayKey {
    /// From fresh random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        DayKey(Zeroizing::new(bytes))
    }

    fn commitment(&self, log: &LogId) -> Hash {
        Hasher::new(Domain::DayKey).bytes(log.as_bytes()).bytes(self.0.as_slice()).finish()
    }

    /// The public part of a key entry: this key for each recipient, and the commitment that each can check.
    ///
    /// # Errors
    /// A recipient is no X25519 key.
    pub fn publish(
        &self,
        market: &MarketId,
        log: &LogId,
        recipients: &[[u8; 32]],
        seed: [u8; 32],
    ) -> Result<payload::DayKey, SealError> {
        let mut wraps = Vec::with_capacity(recipients.len());
        for (index, recipient) in (0_u64..).zip(recipients) {
            // One seed, and a different stream for each recipient.
            let seed = Hasher::keyed(&seed, Domain::DayKey).u64(index).finish();
            wraps.push(seal_to(
                recipient,
                info::DAY_KEY,
                &associated(market, log.as_bytes()),
                self.0.as_slice(),
                *seed.as_bytes(),
            )?);
        }
        Ok(payload::DayKey { commitment: self.commitment(log).as_bytes().to_vec(), wraps })
    }

    /// Opens a key entry with one of the keys that it was wrapped to, and checks the commitment: an author who wraps
    /// different keys to hub and stall is found out by either.
    ///
    /// # Errors
    /// Nothing is wrapped to this key, or it doesn't open, or isn't what was committed to.
    pub fn open(message: &payload::DayKey, market: &MarketId, log: &LogId, key: &SealKey) -> Result<Self, SealError> {
        let wrap = message.wraps.iter().find(|wrap| wrap.recipient == key.public).ok_or(SealError::NotForMe)?;
        let opened = key.open(wrap, info::DAY_KEY, &associated(market, log.as_bytes()))?;
        let bytes: [u8; 32] = opened.as_slice().try_into().map_err(|_| SealError::Open)?;
        let day_key = DayKey::new(bytes);
        if day_key.commitment(log).as_bytes().as_slice() == message.commitment {
            Ok(day_key)
        } else {
            Err(SealError::Commitment)
        }
    }

    /// The secret of one part.
    pub fn part_secret(&self, at: &SealedAt, part: Part) -> PartSecret {
        let secret = Hasher::keyed(&self.0, Domain::PartSecret)
            .bytes(at.log.as_bytes())
            .u64(at.sequence)
            .bytes(at.previous.as_bytes())
            .u8(part as u8)
            .finish();
        PartSecret(Zeroizing::new(*secret.as_bytes()))
    }

    /// Seals one part.
    ///
    /// # Errors
    /// The plaintext is too long for a payload.
    pub fn seal(&self, at: &SealedAt, part: Part, plaintext: &[u8]) -> Result<PartBody, SealError> {
        self.part_secret(at, part).seal(at, part, plaintext).map(PartBody::Bytes)
    }

    /// Opens one part.
    ///
    /// # Errors
    /// It was altered, or sealed elsewhere.
    pub fn open_part(&self, at: &SealedAt, part: Part, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.part_secret(at, part).open(at, part, sealed)
    }
}

impl PartSecret {
    /// From disclosed bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        PartSecret(Zeroizing::new(bytes))
    }

    /// To be disclosed.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn tag(&self, at: &SealedAt, part: Part, padded: &[u8]) -> Hash {
        Hasher::keyed(&self.0, Domain::PartTag)
            .bytes(at.log.as_bytes())
            .u64(at.sequence)
            .bytes(at.previous.as_bytes())
            .u64(at.timestamp)
            .bytes(&at.seen)
            .u32(at.kind.0)
            .u8(part as u8)
            .bytes(padded)
            .finish()
    }

    fn apply_key_stream(&self, tag: &Hash, bytes: &mut [u8]) {
        let tag = if planted::is_on(Bug::SharedStream) { &Hash::ZERO } else { tag };
        let key = Hasher::keyed(&self.0, Domain::PartKey).bytes(tag.as_bytes()).finish();
        let mut cipher = chacha20::ChaCha20::new(key.as_bytes().into(), &[0; 12].into());
        cipher.apply_keystream(bytes);
    }

    fn seal(&self, at: &SealedAt, part: Part, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut padded = pad(plaintext);
        if padded.len() + 32 > PAYLOAD_MAX {
            return Err(SealError::Length(plaintext.len()));
        }
        let tag = self.tag(at, part, &padded);
        self.apply_key_stream(&tag, &mut padded);
        Ok([tag.as_bytes().as_slice(), &padded].concat())
    }

    /// Opens the part, and proves that this is its only opening.
    ///
    /// # Errors
    /// It was altered, or sealed elsewhere.
    pub fn open(&self, at: &SealedAt, part: Part, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (tag, ciphertext) = sealed.split_at_checked(32).ok_or(SealError::Length(sealed.len()))?;
        let tag = Hash::try_from(tag).map_err(|_| SealError::Length(sealed.len()))?;
        let mut padded = ciphertext.to_vec();
        self.apply_key_stream(&tag, &mut padded);
        if self.tag(at, part, &padded) != tag {
            return Err(SealError::Tag);
        }
        unpad(&padded)
    }
}

/// The padded size of a plaintext with its length prefix: the next multiple of an eighth of its power of two, at
/// least [`PADDED_MIN`]; at most 12.5 % are added.
fn padded_length(length: usize) -> usize {
    let step = match length.checked_ilog2() {
        Some(bits) => (1_usize << bits) / 8,
        None => 1,
    };
    length.next_multiple_of(step.max(PADDED_MIN))
}

/// Length as a variable-length integer, the bytes, zeros.
fn pad(plaintext: &[u8]) -> Vec<u8> {
    let mut padded = Vec::with_capacity(padded_length(plaintext.len() + 3));
    put_varint(&mut padded, plaintext.len() as u64);
    padded.extend_from_slice(plaintext);
    padded.resize(padded_length(padded.len()), 0);
    padded
}

fn unpad(padded: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut reader = Reader::new(padded);
    let content = (|| -> Result<&[u8], CodecError> {
        let length = reader.length(PAYLOAD_MAX, "padded length")?;
        reader.take(length, "padded bytes")
    })()
    .map_err(|_| SealError::Padding)?;
    let used = padded.len() - reader.remaining();
    let zeros = reader.take(reader.remaining(), "padding").map_err(|_| SealError::Padding)?;
    if padded_length(used) != padded.len() || zeros.iter().any(|byte| *byte != 0) {
        return Err(SealError::Padding);
    }
    Ok(content.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn at(sequence: u64) -> SealedAt {
        SealedAt {
            log: LogId::from_bytes([3; 32]),
            sequence,
            previous: Hash::from_bytes([4; 32]),
            timestamp: 1_700_000_000_000,
            seen: [5; 8],
            kind: Kind::SALE,
        }
    }

    fn bytes(body: PartBody) -> Vec<u8> {
        match body {
            PartBody::Bytes(bytes) => bytes,
            PartBody::Erased(_) => panic!("sealed parts are bytes"),
        }
    }

    proptest! {
        #[test]
        fn adv_062_what_was_sealed_opens_and_no_other_position_or_part_opens_it(plaintext in prop::collection::vec(any::<u8>(), 0..700)) {
            let key = DayKey::new([1; 32]);
            let sealed = bytes(key.seal(&at(9), Part::Money, &plaintext).unwrap());
            prop_assert_eq!(key.open_part(&at(9), Part::Money, &sealed).unwrap(), plaintext.clone());
            prop_assert!(key.open_part(&at(10), Part::Money, &sealed).is_err());
            prop_assert!(key.open_part(&at(9), Part::Extra, &sealed).is_err());
            let earlier = SealedAt { timestamp: 1, ..at(9) };
            prop_assert!(key.open_part(&earlier, Part::Money, &sealed).is_err());
            prop_assert!(sealed.len() >= 32 + PADDED_MIN && sealed.len() <= 32 + PADDED_MIN + (plaintext.len() + 3) * 9 / 8);
        }

        #[test]
        fn adv_062_every_flipped_bit_is_refused(plaintext in prop::collection::vec(any::<u8>(), 0..100), at_byte: prop::sample::Index, bit in 0_u8..8) {
            let key = DayKey::new([1; 32]);
            let mut sealed = bytes(key.seal(&at(9), Part::Money, &plaintext).unwrap());
            let index = at_byte.index(sealed.len());
            sealed[index] ^= 1 << bit;
            prop_assert_eq!(key.open_part(&at(9), Part::Money, &sealed), Err(SealError::Tag));
        }

        #[test]
        fn different_plaintexts_at_one_position_never_share_a_key_stream(one in prop::collection::vec(any::<u8>(), 50..60), other in prop::collection::vec(any::<u8>(), 50..60)) {
            prop_assume!(one != other);
            let key = DayKey::new([1; 32]);
            let (a, b) = (bytes(key.seal(&at(9), Part::Money, &one).unwrap()), bytes(key.seal(&at(9), Part::Money, &other).unwrap()));
            let stream = |sealed: &[u8], plaintext: &[u8]| -> Vec<u8> {
                sealed[32..].iter().zip(pad(plaintext)).map(|(cipher, plain)| cipher ^ plain).collect()
            };
            prop_assert_ne!(&stream(&a, &one)[..32], &stream(&b, &other)[..32]);
        }
    }

    #[test]
    fn a_disclosed_secret_opens_its_part_and_no_other() {
        let key = DayKey::new([1; 32]);
        let money = bytes(key.seal(&at(9), Part::Money, b"12.40").unwrap());
        let personal = bytes(key.seal(&at(9), Part::Personal, b"Ada").unwrap());
        let secret = PartSecret::from_bytes(*key.part_secret(&at(9), Part::Money).as_bytes());
        assert_eq!(secret.open(&at(9), Part::Money, &money).unwrap(), b"12.40");
        assert!(secret.open(&at(9), Part::Personal, &personal).is_err());
    }

    #[test]
    fn a_day_key_opens_for_its_recipients_alone_and_only_in_its_log() {
        let market = MarketId::from_bytes([7; 32]);
        let log = LogId::from_bytes([8; 32]);
        let [hub, stall, stranger] = [[1; 32], [2; 32], [3; 32]].map(|secret| SealKey::from_secret(&secret).unwrap());
        let key = DayKey::new([9; 32]);
        let message = key.publish(&market, &log, &[hub.public(), stall.public()], [5; 32]).unwrap();
        for reader in [&hub, &stall] {
            let opened = DayKey::open(&message, &market, &log, reader).unwrap();
            assert_eq!(opened.0, key.0);
        }
        assert_eq!(DayKey::open(&message, &market, &log, &stranger).unwrap_err(), SealError::NotForMe);
        let elsewhere = LogId::from_bytes([9; 32]);
        assert_eq!(DayKey::open(&message, &market, &elsewhere, &hub).unwrap_err(), SealError::Open);
        assert_ne!(message.wraps[0].ciphertext, message.wraps[1].ciphertext);
    }

    #[test]
    fn an_author_who_wraps_another_key_than_committed_is_found_out() {
        let (market, log) = (MarketId::from_bytes([7; 32]), LogId::from_bytes([8; 32]));
        let hub = SealKey::from_secret(&[1; 32]).unwrap();
        let mut message = DayKey::new([9; 32]).publish(&market, &log, &[hub.public()], [5; 32]).unwrap();
        message.commitment = DayKey::new([10; 32]).commitment(&log).as_bytes().to_vec();
        assert_eq!(DayKey::open(&message, &market, &log, &hub).unwrap_err(), SealError::Commitment);
    }

    #[test]
    fn padding_that_is_not_the_one_padding_is_refused() {
        assert_eq!(unpad(&pad(b"abc")).unwrap(), b"abc");
        let mut long = pad(b"abc");
        long.extend_from_slice(&[0; 64]);
        assert_eq!(unpad(&long), Err(SealError::Padding));
        let mut dirty = pad(b"abc");
        dirty[40] = 1;
        assert_eq!(unpad(&dirty), Err(SealError::Padding));
    }
}
