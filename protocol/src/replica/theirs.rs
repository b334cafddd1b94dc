//! What a peer has, as far as it is known: as much as this node had at some version of its clock, and what is known to
//! differ from that. So what is remembered of a peer grows with what differs, and has a bound that no peer can move.

use std::collections::BTreeMap;

use super::clock::{Clock, Known};
use crate::id::LogName;

/// What a peer has.
#[derive(Debug, Default)]
pub(super) struct Theirs {
    /// The peer has what this node had at this version of its clock, of each log that hasn't changed since; but for
    /// what stands in `told`.
    equal_at: u64,
    /// The newest entry that it has of a log, where it isn't as `equal_at` says.
    told: BTreeMap<LogName, u64>,
    /// There was more to remember than there is room for: it is asked for again.
    overflowed: bool,
}

impl Theirs {
    /// The newest entry that the peer is known to have; 0 for none. `own`: how the log stands here.
    pub(super) fn sequence(&self, log: &LogName, own: Option<&Known>) -> u64 {
        self.told.get(log).copied().unwrap_or_else(|| self.usual(own))
    }

    fn usual(&self, own: Option<&Known>) -> u64 {
        own.filter(|known| known.changed <= self.equal_at).map_or(0, |known| known.head.sequence)
    }

    /// The peer has at least this.
    pub(super) fn raise(&mut self, log: LogName, sequence: u64, clock: &Clock, max: usize) {
        if sequence > self.sequence(&log, clock.get(&log)) {
            self.set(log, sequence, clock, max);
        }
    }

    /// The peer has this, and no more.
    pub(super) fn set(&mut self, log: LogName, sequence: u64, clock: &Clock, max: usize) {
        if sequence == self.usual(clock.get(&log)) {
            self.told.remove(&log);
        } else if let Some(known) = self.told.get_mut(&log) {
            *known = sequence;
        } else {
            if self.told.len() >= max && !self.overflowed {
                self.make_room(clock, max);
            }
            if self.told.len() < max {
                self.told.insert(log, sequence);
            } else if clock.get(&log).is_some_and(|own| own.changed <= self.equal_at) {
                // It has less than it was thought to have, and there is no room to remember it.
                self.equal_at = 0;
            }
        }
    }

    /// What may be asked for is kept before what is merely good to know.
    fn make_room(&mut self, clock: &Clock, max: usize) {
        self.equal_at = 0;
        self.told.retain(|log, sequence| clock.get(log).is_none_or(|own| own.lacks(*sequence)));
        self.overflowed = self.told.len() > max / 2;
    }

    /// The peer has less than it said: it can't give more.
    pub(super) fn lower(&mut self, log: &LogName, sequence: u64) {
        if let Some(known) = self.told.get_mut(log) {
            *known = (*known).min(sequence);
            if *known == 0 {
                self.told.remove(log);
            }
        }
    }

    /// Both had the same at a version of the clock.
    pub(super) fn agreed(&mut self, version: u64, clock: &Clock) {
        self.equal_at = version;
        self.overflowed = false;
        self.told.retain(|log, _| clock.get(log).is_some_and(|own| own.changed > version));
    }

    /// A comparison begins: what it doesn't name the peer has as this node had it at a version of its clock.
    pub(super) fn begin(&mut self, version: u64, clock: &Clock) {
        self.equal_at = version;
        self.overflowed = false;
        self.told.retain(|log, sequence| clock.get(log).is_none_or(|own| own.lacks(*sequence)));
    }

    /// Whether there was more than there is room for.
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Logs of which the peer is known to have something else than this node had.
    pub(super) fn told(&self) -> impl Iterator<Item = (&LogName, u64)> {
        self.told.iter().map(|(log, sequence)| (log, *sequence))
    }
}
