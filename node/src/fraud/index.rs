//! The live signals, found by whom they are about.
//!
//! What it holds is a function of the set of signals that it was given and of the time of the last [`Index::expire`],
//! never of their order or of how often each came. Its bounds keep that: each of them keeps the signals that end last
//! (ties by content), and signals leave by time in that same order. So whatever a bound has put out would have ended
//! before everything that it made room for, and can't come back when that room is free again. This needs bounds that lie
//! inside each other (of a kind, of a stall, of all): one across them, as of a subject, would depend on the order.

use std::collections::{BTreeSet, HashMap};

use super::signal::{FactKind, Signal, Stall, Subject, Voice};

/// How many signals are kept. A new one beyond a bound puts out the one that ends first, within that bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of one kind, from one stall, about one subject.
    pub of_a_kind: usize,
    /// From one stall: it can fill this much, and no more.
    pub stall: usize,
    /// From all stalls.
    pub stalls: usize,
    /// In the market's voice, beside all others.
    pub market: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { of_a_kind: 64, stall: 5_000, stalls: 200_000, market: 50_000 }
    }
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is kept.
    New,
    /// It was there.
    Known,
    /// There is no room for it: others end later.
    Full,
}

/// By when it ends, then by content; the first one leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    ends_at_ms: u64,
    digest: [u8; 16],
    subject: Subject,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    signal: Signal,
    digest: [u8; 16],
}

impl Held {
    fn rank(&self) -> Rank {
        Rank { ends_at_ms: self.signal.ends_at_ms(), digest: self.digest, subject: self.signal.subject }
    }

    /// Its place among the signals about its subject: those of one kind and one stall stand together, by time.
    fn place(&self) -> (FactKind, Stall, Voice, u64, [u8; 16]) {
        (self.signal.fact.kind(), self.signal.stall, self.signal.voice, self.signal.at_ms, self.digest)
    }
}

/// The live signals.
#[derive(Clone, Debug, Default)]
pub struct Index {
    bounds: Bounds,
    /// By place.
    subjects: HashMap<Subject, Vec<Held>>,
    stalls: HashMap<Stall, BTreeSet<Rank>>,
    /// Of all stalls' signals.
    said: BTreeSet<Rank>,
    /// Of the market's.
    market: BTreeSet<Rank>,
}

impl Index {
    /// An empty one with other bounds.
    pub fn with_bounds(bounds: Bounds) -> Self {
        Index { bounds, ..Index::default() }
    }

    /// How many signals it holds.
    pub fn len(&self) -> usize {
        self.said.len() + self.market.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the next signal ends, in milliseconds: no need to call [`Index::expire`] before.
    pub fn next_end_ms(&self) -> Option<u64> {
        let ends = [&self.said, &self.market].map(|ranks| ranks.first().map(|rank| rank.ends_at_ms));
        ends.into_iter().flatten().min()
    }

    /// Takes a signal in. Whether its speaker may say so is the caller's to judge, before.
    pub fn insert(&mut self, signal: Signal) -> Inserted {
        let held = Held { signal, digest: signal.digest() };
        let about = self.subjects.entry(signal.subject).or_default();
        let place = match about.binary_search_by_key(&held.place(), Held::place) {
            Ok(_) => return Inserted::Known,
            Err(place) => place,
        };
        about.insert(place, held);
        let rank = held.rank();
        let out = match signal.voice {
            Voice::Stall => {
                self.said.insert(rank);
                self.stalls.entry(signal.stall).or_default().insert(rank);
                self.beyond_stalls(&signal)
            }
            Voice::Market => {
                self.market.insert(rank);
                self.beyond_market(&signal)
            }
        };
        match out {
            Some(out) => {
                self.drop_rank(&out);
                if out == rank { Inserted::Full } else { Inserted::New }
            }
            None => Inserted::New,
        }
    }

    /// Takes a signal out again that turned out to be another one: a checkpoint has said when it was written.
    pub fn remove(&mut self, signal: &Signal) {
        let held = Held { signal: *signal, digest: signal.digest() };
        self.drop_rank(&held.rank());
    }

    /// Drops what is over. Memory is given back as signals end.
    pub fn expire(&mut self, now_ms: u64) {
        for ranks in [Voice::Stall, Voice::Market] {
            loop {
                let ranks = if ranks == Voice::Stall { &self.said } else { &self.market };
                match ranks.first().copied() {
                    Some(rank) if rank.ends_at_ms <= now_ms => self.drop_rank(&rank),
                    _ => break,
                }
            }
        }
    }

    /// All signals, by when they end, the market's last.
    pub fn signals(&self) -> impl Iterator<Item = &Signal> {
        self.said.iter().chain(&self.market).filter_map(|rank| {
            let about = self.subjects.get(&rank.subject)?;
            about.iter().find(|held| held.digest == rank.digest).map(|held| &held.signal)
        })
    }

    /// What is said about a subject of this kind: those of one stall and voice stand together, by time.
    pub(super) fn about(&self, subject: &Subject, kind: FactKind) -> impl Iterator<Item = &Signal> + Clone {
        let about = self.subjects.get(subject).map_or(&[][..], Vec::as_slice);
        let first = about.partition_point(|held| held.signal.fact.kind() < kind);
        about[first..].iter().map(|held| &held.signal).take_while(move |signal| signal.fact.kind() == kind)
    }

    /// Which stall's signal has to go after this one came, if one has to. One came, so one is enough.
    fn beyond_stalls(&self, new: &Signal) -> Option<Rank> {
        let out = self.beyond_kind(new);
        if out.is_some() {
            return out;
        }
        let stall = self.stalls.get(&new.stall)?;
        if stall.len() > self.bounds.stall {
            return stall.first().copied();
        }
        if self.said.len() > self.bounds.stalls { self.said.first().copied() } else { None }
    }

    fn beyond_kind(&self, new: &Signal) -> Option<Rank> {
        let about = self.subjects.get(&new.subject)?;
        let alike = || about.iter().filter(|held| is_alike(&held.signal, new));
        let is_full = about.len() > self.bounds.of_a_kind && alike().count() > self.bounds.of_a_kind;
        is_full.then(|| alike().map(Held::rank).min()).flatten()
    }

    fn beyond_market(&self, new: &Signal) -> Option<Rank> {
        let out = self.beyond_kind(new);
        if out.is_some() {
            return out;
        }
        if self.market.len() > self.bounds.market { self.market.first().copied() } else { None }
    }

    fn drop_rank(&mut self, rank: &Rank) {
        self.said.remove(rank);
        self.market.remove(rank);
        let Some(about) = self.subjects.get_mut(&rank.subject) else { return };
        let Some(place) = about.iter().position(|held| held.digest == rank.digest) else { return };
        let signal = about.remove(place).signal;
        if about.is_empty() {
            self.subjects.remove(&rank.subject);
        } else if about.len() * 4 < about.capacity() {
            about.shrink_to(about.len() * 2);
        }
        if signal.voice == Voice::Stall
            && let Some(ranks) = self.stalls.get_mut(&signal.stall)
        {
            ranks.remove(rank);
            if ranks.is_empty() {
                self.stalls.remove(&signal.stall);
            }
        }
    }
}

/// Whether both are of one kind, from one speaker, about one subject. The market is one speaker, whatever the stall.
fn is_alike(one: &Signal, other: &Signal) -> bool {
    one.fact.kind() == other.fact.kind()
        && one.voice == other.voice
        && (one.voice == Voice::Market || one.stall == other.stall)
}
