//! Fraud signals as entries say them, and the hub's rules that weigh them.
//!
//! A device's word is its stall's, a hub's the market's. What proofs show that this node has verified itself (two
//! histories of one log, two copies of one device) needs nobody's word.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::payload::{self, PayloadError};
use stallmesh_protocol::{DeviceId, Hash};

use super::views::Written;
use crate::fraud::{Bounds, Fact, FactKind, Index, LIFE_MAX_MS, Reference, RuleTag, Signal, Stall, Subject, Voice};

/// The most signals of one entry.
pub(crate) const SIGNALS_MAX: usize = 64;

/// One signal of one entry.
#[derive(Clone, Copy, Debug)]
struct Said {
    written: Written,
    fact: Fact,
    subject: Subject,
    expires_at: u64,
    reference: Reference,
}

/// What an entry's signals count as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Whose word it is: a stall's, or the market's.
    pub(crate) stall: Option<String>,
    /// When it counts as written, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// Names a signal among those of its device: by when it ends.
type Place = (u64, Hash, usize);

/// Signals of all devices.
#[derive(Debug, Default)]
pub(crate) struct SignalBook {
    /// Of each device those that end last: it can't have more of them than a stall.
    said: BTreeMap<DeviceId, BTreeMap<Place, Said>>,
    /// Not judged yet.
    new: BTreeSet<(DeviceId, Place)>,
    /// Judged before a checkpoint covered them, with what they came to: the next one may change it.
    uncovered: BTreeMap<(DeviceId, Place), Option<Signal>>,
    /// What was judged by: where it changes, all is judged anew.
    basis: Option<Basis>,
    /// Of whom proofs were found, since the index was begun.
    suspects: BTreeSet<(DeviceId, FactKind)>,
    index: Index,
    /// How often the index was begun anew: what was noted beside entries is gone then.
    begun: u64,
}

/// What judging depends on, beside checkpoints that cover the signals themselves: how many facts about members are known,
/// how many of them are covered, and how many proofs and copies.
pub(crate) type Basis = [usize; 4];

/// A fact as an entry has it.
pub(crate) fn to_payload(signal: &Signal) -> payload::Signal {
    let (fact, first, second) = match signal.fact {
        Fact::Payment { amount } => (1, amount.cast_signed(), 0),
        Fact::Block { is_on } => (2, i64::from(is_on), 0),
        Fact::Override { price, catalog_price } => (3, price.cast_signed(), catalog_price),
        Fact::Void { amount, after_ms } => (4, amount.cast_signed(), after_ms),
        Fact::Clock { off_ms } => (5, off_ms, 0),
        Fact::Equivocation => (6, 0, 0),
        Fact::Clone => (7, 0, 0),
        Fact::Known { .. } => (8, 0, 0),
    };
    let rule = match signal.fact {
        Fact::Known { rule } => rule.0.to_vec(),
        _ => Vec::new(),
    };
    let subject = signal.subject.0.to_vec();
    payload::Signal { fact, subject, first, second, expires_at: signal.expires_at_ms, rule }
}

fn from_payload(message: &payload::Signal) -> Result<Option<(Fact, Subject)>, PayloadError> {
    let amount = || u64::try_from(message.first).map_err(|_| PayloadError::field("first", "is below zero"));
    let fact = match message.fact {
        1 => Fact::Payment { amount: amount()? },
        2 => Fact::Block { is_on: message.first != 0 },
        3 => Fact::Override { price: amount()?, catalog_price: message.second },
        4 => Fact::Void { amount: amount()?, after_ms: message.second },
        5 => Fact::Clock { off_ms: message.first },
        6 => Fact::Equivocation,
        7 => Fact::Clone,
        8 => Fact::Known { rule: RuleTag(payload::fixed("rule", &message.rule)?) },
        // A later version's.
        _ => return Ok(None),
    };
    Ok(Some((fact, Subject(payload::fixed("subject", &message.subject)?))))
}

/// What a signal stands in, and what tells two of one entry apart.
pub(crate) fn reference(entry: &Hash, place: usize) -> Reference {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&entry.as_bytes()[..16]);
    for (byte, part) in bytes.iter_mut().zip((place as u64).to_le_bytes()) {
        *byte ^= part;
    }
    Reference(bytes)
}

impl SignalBook {
    /// Takes in an entry.
    pub(super) fn insert(&mut self, written: Written, message: &payload::Signals) -> Result<(), PayloadError> {
        if message.signals.len() > SIGNALS_MAX {
            return Err(PayloadError::field("signals", "are more than 64"));
        }
        let mut read = Vec::with_capacity(message.signals.len());
        for (place, signal) in message.signals.iter().enumerate() {
            let Some((fact, subject)) = from_payload(signal)? else { continue };
            let expires_at = signal.expires_at.min(written.timestamp.saturating_add(LIFE_MAX_MS));
            let reference = reference(&written.at.hash, place);
            read.push((place, Said { written, fact, subject, expires_at, reference }));
        }
        let device = written.at.log.author;
        let of_device = self.said.entry(device).or_default();
        for (place, said) in read {
            let key = (said.expires_at, written.at.hash, place);
            of_device.insert(key, said);
            self.new.insert((device, key));
        }
        let mut beyond = Vec::new();
        while of_device.len() > Bounds::default().stall {
            beyond.extend(of_device.pop_first().map(|(place, _)| place));
        }
        for place in beyond {
            self.drop_from_index(device, place);
        }
        Ok(())
    }

    /// The index, as of the last [`SignalBook::refresh`], and how often it was begun anew.
    pub(crate) fn index(&self) -> (&Index, u64) {
        (&self.index, self.begun)
    }

    /// Says something that this device has found out itself.
    pub(crate) fn note(&mut self, signal: Signal) {
        self.index.insert(signal);
    }

    /// Membership, or what checkpoints cover, has changed: all is to be judged anew, or what was covered by none.
    /// `suspects`: of whom this node has verified a proof.
    pub(super) fn judge_anew(&mut self, now: u64, basis: Basis, suspects: impl IntoIterator<Item = (DeviceId, Fact)>) {
        if self.basis.replace(basis) != Some(basis) {
            self.index = Index::default();
            self.begun += 1;
            self.suspects.clear();
            self.uncovered.clear();
            let all = self.said.iter().flat_map(|(device, said)| said.keys().map(|place| (*device, *place)));
            self.new = all.collect();
        } else {
            self.new.extend(self.uncovered.keys().copied());
        }
        for (device, fact) in suspects {
            if self.suspects.insert((device, fact.kind())) {
                let subject = Subject::of_device(device.as_bytes());
                let (at_ms, expires_at_ms) = (now, now.saturating_add(LIFE_MAX_MS));
                let reference = Reference(subject.0);
                let (stall, voice) = (Stall::default(), Voice::Market);
                self.index.insert(Signal { fact, subject, stall, voice, at_ms, expires_at_ms, reference });
            }
        }
    }

    /// Takes what is new into the index. `judge` says what an entry's signals count as (`None`: for nothing), and whether a
    /// checkpoint covers it.
    pub(super) fn refresh(&mut self, now: u64, judge: impl Fn(&Written) -> (Option<Judgement>, bool)) {
        self.forget(now);
        for (device, place) in std::mem::take(&mut self.new) {
            let Some(said) = self.said.get(&device).and_then(|said| said.get(&place)) else { continue };
            let (judgement, is_covered) = judge(&said.written);
            let signal = judgement.map(|Judgement { stall, at_ms }| {
                let voice = if stall.is_none() { Voice::Market } else { Voice::Stall };
                let stall = stall.map(|stall| Stall::named(&stall)).unwrap_or_default();
                let Said { fact, subject, expires_at, reference, .. } = *said;
                Signal { fact, subject, stall, voice, at_ms, expires_at_ms: expires_at, reference }
            });
            let known = self.uncovered.remove(&(device, place)).flatten();
            if known != signal {
                if let Some(known) = known {
                    self.index.remove(&known);
                }
                if let Some(signal) = signal {
                    self.index.insert(signal);
                }
            }
            if !is_covered {
                self.uncovered.insert((device, place), signal);
            }
        }
    }

    fn drop_from_index(&mut self, device: DeviceId, place: Place) {
        self.new.remove(&(device, place));
        // What a checkpoint covered stands in the index until it ends: a stall's bound there is the same.
        if let Some(Some(signal)) = self.uncovered.remove(&(device, place)) {
            self.index.remove(&signal);
        }
    }

    /// Drops what is over.
    fn forget(&mut self, now: u64) {
        if self.index.next_end_ms().is_some_and(|end| end <= now) {
            self.index.expire(now);
        }
        for (device, said) in &mut self.said {
            while let Some((place, _)) = said.first_key_value().filter(|((expires_at, ..), _)| *expires_at <= now) {
                let place = *place;
                self.new.remove(&(*device, place));
                self.uncovered.remove(&(*device, place));
                said.pop_first();
            }
        }
    }
}
