//! Payments that a hub authorises before their sale is recorded: how they are named, and how their outcomes are sealed.
//!
//! Intent and void are sealed entries of the asking device's sales log, so that they reach the hub on every road that a sale
//! does. The outcome is a short-lived entry of the hub's that everybody passes on. Only whoever can open the intent knows
//! which payment it is about.

use zeroize::Zeroizing;

use crate::entry::{Part, PartBody};
use crate::payload::{self, PayloadError};
use crate::seal::{DayKey, SealError, SealedAt};
use crate::{Hash, Kind, LogId, SaleId};

/// What outcomes are tagged for.
const TAG_CONTEXT: &[u8] = b"stallmesh/1/payment-outcome";

/// Names a payment for ever: whoever asks again asks about the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentName {
    /// The sale that it is for.
    pub sale: SaleId,
    /// Which of its tenders.
    pub number: u32,
}

impl std::fmt::Display for PaymentName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.sale, self.number)
    }
}

/// Not the name of a payment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no payment: expected a sale id, a dash and a tender's number")]
pub struct UnknownPayment(String);

impl std::str::FromStr for PaymentName {
    type Err = UnknownPayment;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, UnknownPayment> {
        let parts = text.split_once('-');
        let name = parts
            .and_then(|(sale, number)| Some(PaymentName { sale: sale.parse().ok()?, number: number.parse().ok()? }));
        // `+1` and `01` are numbers, and no names.
        name.filter(|name| name.to_string() == text).ok_or_else(|| UnknownPayment(text.to_owned()))
    }
}

/// Where an intent stands: its outcome is good for no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentAt {
    /// Its log.
    pub log: LogId,
    /// Its sequence.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

/// The key of one intent's outcome, which the intent names.
#[derive(Clone)]
pub struct AnswerKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for AnswerKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AnswerKey")
    }
}

impl AnswerKey {
    /// From fresh random bytes, or from an intent.
    pub fn new(bytes: [u8; 32]) -> Self {
        AnswerKey(Zeroizing::new(bytes))
    }

    /// As the intent names it.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// By what the outcome is found: says nothing to whoever hasn't the key.
    pub fn tag(&self) -> [u8; 16] {
        let mut tag = [0; 16];
        tag.copy_from_slice(&blake3::keyed_hash(&self.0, TAG_CONTEXT).as_bytes()[..16]);
        tag
    }

    fn seal_key(&self) -> DayKey {
        DayKey::new(*self.0)
    }

    /// Seals an answer.
    ///
    /// # Errors
    /// It is too long.
    pub fn seal(&self, at: &IntentAt, answer: &payload::PaymentAnswer) -> Result<payload::PaymentOutcome, SealError> {
        match self.seal_key().seal(&sealed_at(at), Part::Money, &payload::encode(answer))? {
            PartBody::Bytes(sealed) => Ok(payload::PaymentOutcome { intent: self.tag().to_vec(), sealed }),
            PartBody::Erased(_) => Err(SealError::Open),
        }
    }

    /// Opens an outcome's answer.
    ///
    /// # Errors
    /// It was altered, or is another intent's, or doesn't decode.
    pub fn open(&self, at: &IntentAt, outcome: &payload::PaymentOutcome) -> Result<payload::PaymentAnswer, String> {
        let bytes = self.seal_key().open_part(&sealed_at(at), Part::Money, &outcome.sealed);
        let bytes = bytes.map_err(|error| error.to_string())?;
        payload::decode("payment answer", &bytes).map_err(|error: PayloadError| error.to_string())
    }
}

/// The intent in the place of the entry before: an outcome stands in no log of its asker's.
fn sealed_at(at: &IntentAt) -> SealedAt {
    SealedAt {
        log: at.log,
        sequence: at.sequence,
        previous: at.hash,
        timestamp: 0,
        seen: [0; 8],
        kind: Kind::PAYMENT_OUTCOME,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(sequence: u64) -> IntentAt {
        IntentAt { log: LogId::from_bytes([1; 32]), sequence, hash: Hash::from_bytes([2; 32]) }
    }

    #[test]
    fn an_outcome_opens_for_its_own_intent_alone() {
        let key = AnswerKey::new([3; 32]);
        let answer = payload::PaymentAnswer { answer: 1, amount: 1_250, ..Default::default() };
        let outcome = key.seal(&at(5), &answer).unwrap();
        assert_eq!(outcome.intent, key.tag());
        assert_eq!(key.open(&at(5), &outcome).unwrap(), answer);
        assert!(key.open(&at(6), &outcome).is_err());
        let other = AnswerKey::new([4; 32]);
        assert!(other.open(&at(5), &outcome).is_err());
        assert_ne!(other.tag(), key.tag());
        for byte in 0..outcome.sealed.len() {
            let mut altered = outcome.clone();
            altered.sealed[byte] ^= 1;
            assert!(key.open(&at(5), &altered).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn a_decline_is_as_long_as_an_approval() {
        let key = AnswerKey::new([3; 32]);
        let length = |answer| key.seal(&at(1), &answer).unwrap().sealed.len();
        let approved = payload::PaymentAnswer {
            answer: 1,
            amount: 99_999,
            reference: "auth_0123456789abcdef".into(),
            ..Default::default()
        };
        let declined =
            payload::PaymentAnswer { answer: 2, because: "the bank declined it".into(), ..Default::default() };
        assert_eq!(length(approved), length(declined));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = PaymentName { sale: SaleId::from_bytes([7; 16]), number: 12 };
        assert_eq!(name.to_string().parse(), Ok(name));
        for wrong in ["", "12", "07-12", "-", &format!("{}-+1", name.sale), &format!("{}-012", name.sale)] {
            assert!(wrong.parse::<PaymentName>().is_err(), "{wrong}");
        }
    }
}
