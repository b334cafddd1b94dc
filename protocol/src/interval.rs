//! What is held of a log, or received of it: intervals with the hash of their end.
//!
//! An interval says more than a pair of numbers: its entries chain to one hash, so two parties that name the same
//! interval mean the same entries, whatever fork or gap lies beside it. Being an ancestor of an interval's end,
//! from outside the interval, is not being in it.

use crate::hash::Hash;

/// The entries `from..=to` of a log, those that chain to `hash` at `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval {
    /// First sequence, from 1.
    pub from: u64,
    /// Last sequence, at least `from`.
    pub to: u64,
    /// The hash of the entry at `to`.
    pub hash: Hash,
}

impl Interval {
    /// Whether the numbers make sense.
    pub fn is_valid(&self) -> bool {
        0 < self.from && self.from <= self.to
    }

    /// Whether a sequence lies in it; whether the entry there chains to its hash is the caller's to know.
    pub fn contains(&self, sequence: u64) -> bool {
        (self.from..=self.to).contains(&sequence)
    }
}
