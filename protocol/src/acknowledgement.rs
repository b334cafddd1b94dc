//! Acknowledgements: the hub's signed word that it *has* entries. They end custody and decide nothing.

use crate::id::{DeviceId, LogId, LogName, MarketId};
use crate::interval::Interval;
use crate::sign::{Context, DeviceKey, Signature, SignatureError, verify};
use crate::wire;

/// The most intervals that one acknowledgement names; a log in more pieces is acknowledged in part.
pub const INTERVALS_MAX: usize = 256;

/// All that a hub had received of one log at a time. A later one of the same log says at least as much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The hub device that signs.
    pub hub: DeviceId,
    /// The log.
    pub log: LogName,
    /// What was received, ascending by (from, to, hash), each once.
    pub intervals: Vec<Interval>,
    /// Milliseconds since 1970.
    pub time: u64,
    /// Over the text below, in context `acknowledgement`.
    pub signature: Signature,
}

impl Acknowledgement {
    /// Log id, time, count of intervals, then from, to and hash of each; integers of 8 bytes, big endian.
    fn text(log: &LogId, time: u64, intervals: &[Interval]) -> Vec<u8> {
        let mut text = Vec::with_capacity(48 + intervals.len() * 48);
        text.extend_from_slice(log.as_bytes());
        text.extend_from_slice(&time.to_be_bytes());
        text.extend_from_slice(&(intervals.len() as u64).to_be_bytes());
        for interval in intervals {
            text.extend_from_slice(&interval.from.to_be_bytes());
            text.extend_from_slice(&interval.to.to_be_bytes());
            text.extend_from_slice(interval.hash.as_bytes());
        }
        text
    }

    /// Signs what was received.
    pub fn sign(key: &DeviceKey, market: &MarketId, log: LogName, intervals: Vec<Interval>, time: u64) -> Self {
        let text = Self::text(&log.id(market), time, &intervals);
        Acknowledgement { hub: key.id(), log, intervals, time, signature: key.sign(Context::Acknowledgement, &text) }
    }

    /// Checks the signature; whether the signer is a hub of the market is the membership view's to say.
    ///
    /// # Errors
    /// The signature does not hold.
    pub fn verify(&self, market: &MarketId) -> Result<(), SignatureError> {
        let text = Self::text(&self.log.id(market), self.time, &self.intervals);
        verify(&self.hub, Context::Acknowledgement, &text, &self.signature)
    }

    /// As it travels.
    pub fn to_wire(&self) -> wire::Acknowledgement {
        wire::Acknowledgement {
            hub: self.hub.as_bytes().to_vec(),
            log: Some((&self.log).into()),
            intervals: self.intervals.iter().map(Into::into).collect(),
            time: self.time,
            signature: self.signature.as_bytes().to_vec(),
            proof: None,
        }
    }

    /// Reads what travels; `None` where a part of it makes no sense.
    pub fn from_wire(message: &wire::Acknowledgement) -> Option<Self> {
        if message.intervals.len() > INTERVALS_MAX {
            return None;
        }
        let intervals = message.intervals.iter().map(wire::Interval::to_domain).collect::<Option<Vec<_>>>()?;
        if !intervals.is_sorted_by(|one, next| one < next) {
            return None;
        }
        Some(Acknowledgement {
            hub: message.hub.as_slice().try_into().ok()?,
            log: message.log.as_ref()?.to_domain()?,
            intervals,
            time: message.time,
            signature: message.signature.as_slice().try_into().ok()?,
        })
    }

    /// The interval that holds a sequence. Whether the holder's entry there is the received one depends on the hash
    /// that the holder's own chain has at the interval's end.
    pub fn interval_at(&self, sequence: u64) -> impl Iterator<Item = &Interval> {
        self.intervals.iter().filter(move |interval| interval.contains(sequence))
    }
}
