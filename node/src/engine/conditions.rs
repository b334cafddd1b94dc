//! What is so now: weather, demand, a queue. A hub says it for the market, a stall's device for its stall; nothing of it
//! lasts longer than a day.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::payload::{self, PayloadError};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{DeviceId, Hash};

use super::views::Written;
use crate::quote::files::Conditions;

/// How long a condition lasts at most after it was said, in milliseconds.
pub(crate) const LIFE_MAX: u64 = 24 * 3_600_000;
/// The longest name and value, in bytes.
const TEXT_MAX: usize = 100;
/// The most conditions of one entry, and of one device.
pub(crate) const CONDITIONS_MAX: usize = 100;

/// One condition, as a device has said it last.
#[derive(Clone, Debug)]
struct Said {
    written: Written,
    value: String,
    expires_at: u64,
}

impl Said {
    /// Which of two words of one device is the later one.
    fn order(&self) -> (u64, u64, Hash) {
        (self.written.timestamp, self.written.at.sequence, self.written.at.hash)
    }
}

/// The newest word of each device on each condition.
#[derive(Debug, Default)]
pub(crate) struct ConditionBook {
    said: BTreeMap<DeviceId, BTreeMap<String, Said>>,
}

/// Conditions that hold at a stall.
#[derive(Clone, Debug, Default)]
pub(crate) struct InForce {
    pub(crate) conditions: Conditions,
    /// Until when each was said to hold, in milliseconds since 1970.
    pub(crate) until: BTreeMap<String, u64>,
    /// Names of those that are over.
    pub(crate) stale: BTreeSet<String>,
    /// Names what they were taken from, as a sale cites it; empty where there are none.
    pub(crate) version: Vec<u8>,
}

/// Whether a condition is one that an entry may say.
pub(super) fn check(condition: &payload::Condition) -> Result<(), PayloadError> {
    let fits = |text: &str| {
        let printable = !text.chars().any(stallmesh_protocol::certificate::is_unprintable);
        !text.is_empty() && text.len() <= TEXT_MAX && printable
    };
    if !fits(&condition.name) || !fits(&condition.value) {
        return Err(PayloadError::field("conditions", "have a name or value that isn't 1 to 100 printable bytes"));
    }
    Ok(())
}

impl ConditionBook {
    /// Takes in an entry.
    pub(super) fn insert(&mut self, written: Written, message: &payload::Conditions) -> Result<(), PayloadError> {
        if message.conditions.len() > CONDITIONS_MAX {
            return Err(PayloadError::field("conditions", "are more than 100"));
        }
        message.conditions.iter().try_for_each(check)?;
        for condition in &message.conditions {
            let said = Said { written, value: condition.value.clone(), expires_at: condition.expires_at };
            let of_device = self.said.entry(written.at.log.author).or_default();
            match of_device.get(&condition.name) {
                Some(known) if known.order() >= said.order() => {}
                _ => {
                    of_device.insert(condition.name.clone(), said);
                }
            }
            // Whoever says ever more names has only its own latest ones kept: which those are depends on no order.
            if of_device.len() > CONDITIONS_MAX {
                let oldest = of_device.iter().min_by_key(|(name, said)| (said.order(), *name));
                if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                    of_device.remove(&oldest);
                }
            }
        }
        Ok(())
    }

    /// What holds at a stall at a time, in milliseconds since 1970. `judge`: for whom a device speaks (`Some("")` for
    /// the market, `None` for nobody), and when its word counts as written.
    pub(super) fn at_stall(&self, stall: &str, now: u64, judge: impl Fn(&Written) -> Option<(String, u64)>) -> InForce {
        // What holds goes before what is over (which is known only to say so), a stall's own word before the market's,
        // a later one before an earlier one.
        type Rank = (bool, bool, u64, Hash);
        let mut best: BTreeMap<&str, (Rank, &Said)> = BTreeMap::new();
        for (name, said) in self.said.values().flatten() {
            let Some((speaks_for, at)) = judge(&said.written) else { continue };
            if !speaks_for.is_empty() && speaks_for != stall {
                continue;
            }
            let holds = now < said.expires_at.min(at.saturating_add(LIFE_MAX)) || planted::is_on(Bug::ConditionKept);
            let rank = (holds, !speaks_for.is_empty(), at, said.written.at.hash);
            if best.get(name.as_str()).is_none_or(|(known, _)| *known < rank) {
                best.insert(name, (rank, said));
            }
        }
        let mut found = InForce::default();
        let mut entries = BTreeSet::new();
        for (name, ((holds, _, at, hash), said)) in best {
            if !holds {
                found.stale.insert(name.to_owned());
                continue;
            }
            entries.insert(hash);
            found.conditions.0.insert(name.to_owned(), said.value.clone());
            found.until.insert(name.to_owned(), said.expires_at.min(at.saturating_add(LIFE_MAX)));
        }
        if !entries.is_empty() {
            let hasher = Hasher::new(Domain::ConditionsVersion);
            let hasher = entries.iter().fold(hasher, |hasher, hash| hasher.bytes(hash.as_bytes()));
            found.version = hasher.finish().prefix().to_vec();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use stallmesh_protocol::membership::Position;
    use stallmesh_protocol::{Incarnation, Lane, LogName};

    use super::*;

    fn said(sequence: u64, name: u64) -> (Written, payload::Conditions) {
        let log = LogName {
            author: DeviceId::from_bytes([1; 32]),
            incarnation: Incarnation::from_bytes([2; 16]),
            lane: Lane::SIGNAL,
        };
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&sequence.to_be_bytes());
        let at = Position { log, sequence, hash: Hash::from_bytes(hash) };
        let condition =
            payload::Condition { name: format!("n{name}"), value: sequence.to_string(), expires_at: 1_000_000 };
        (Written { at, timestamp: sequence, seen: [0; 8] }, payload::Conditions { conditions: vec![condition] })
    }

    #[test]
    fn of_a_device_that_says_ever_more_its_latest_words_are_kept_whatever_order_they_come_in() {
        // 400 words on 170 things: most are said again, some long before the end.
        let mut words: Vec<(u64, u64)> = (1..=400).map(|sequence| (sequence, sequence * 7 % 170)).collect();
        let in_force = |words: &[(u64, u64)]| {
            let mut book = ConditionBook::default();
            for (sequence, name) in words {
                let (written, message) = said(*sequence, *name);
                book.insert(written, &message).unwrap();
            }
            book.at_stall("pots", 500, |written| Some((String::new(), written.timestamp))).conditions
        };
        let forward = in_force(&words);
        assert_eq!(forward.0.len(), CONDITIONS_MAX);
        words.reverse();
        assert_eq!(in_force(&words), forward);
        words.sort_by_key(|(sequence, _)| sequence * 7919 % 401);
        assert_eq!(in_force(&words), forward);
    }
}
