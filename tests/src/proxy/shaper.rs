//! What a way does to datagrams: which of them it loses, repeats, holds back and overtakes. Pure: it is told the time, and
//! draws from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::processes::Dice;

/// What one direction of a way does. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Nothing gets through.
    pub cut: bool,
    /// Of a thousand datagrams, so many are lost.
    pub loss: u64,
    /// Of a thousand, so many come twice.
    pub duplication: u64,
    /// Of a thousand, so many are held back by another `delay` and `jitter`, so that later ones overtake them.
    pub reordering: u64,
    /// Each comes so much later.
    pub delay: Duration,
    /// And by up to this, drawn anew for each; the order stays.
    pub jitter: Duration,
    /// Bytes a second; 0: any number.
    pub rate: u64,
    /// Bytes that wait for their turn at that rate; what comes then is lost.
    pub queue_max: u64,
}

impl Faults {
    /// Half of a round trip.
    pub fn one_way(delay: Duration) -> Self {
        Faults { delay, ..Faults::default() }
    }
}

/// What became of datagrams so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They came.
    pub taken: u64,
    /// Lost to the cut, the draw, or the full queue.
    pub lost: u64,
    /// Came twice.
    pub repeated: u64,
    /// Overtaken by later ones.
    pub held_back: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting<T> {
    due: Duration,
    number: u64,
    item: T,
}

/// One direction. `T` names a datagram.
#[derive(Debug)]
pub(super) struct Shaper<T> {
    pub(super) faults: Faults,
    pub(super) counts: Counts,
    dice: Dice,
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    number: u64,
    /// The latest due time of those that keep their order.
    last: Duration,
    /// When the last byte that was taken has left, at the rate.
    busy_until: Duration,
}

impl<T: Ord + Clone> Shaper<T> {
    pub(super) fn new(seed: u64) -> Self {
        Shaper {
            faults: Faults::default(),
            counts: Counts::default(),
            dice: Dice::seeded(seed),
            waiting: BinaryHeap::new(),
            number: 0,
            last: Duration::ZERO,
            busy_until: Duration::ZERO,
        }
    }

    /// A datagram of so many bytes has come.
    pub(super) fn push(&mut self, now: Duration, bytes: usize, item: T) {
        let faults = self.faults;
        self.counts.taken += 1;
        // Drawn in any case, so that one fault's strength doesn't change another's draws.
        let [lost, twice, late] = [(); 3].map(|()| self.dice.draw(1_000));
        if faults.cut || lost < faults.loss {
            self.counts.lost += 1;
            return;
        }
        let mut from = now;
        if faults.rate > 0 {
            let begins = self.busy_until.max(now);
            let queued = (begins - now).as_nanos() as u64 / 1_000 * faults.rate / 1_000_000;
            if queued + bytes as u64 > faults.queue_max.max(bytes as u64) {
                self.counts.lost += 1;
                return;
            }
            self.busy_until = begins + Duration::from_nanos(bytes as u64 * 1_000_000_000 / faults.rate);
            from = self.busy_until;
        }
        if twice < faults.duplication {
            self.counts.repeated += 1;
            self.wait(from, false, item.clone());
        }
        self.wait(from, late < faults.reordering, item);
    }

    fn wait(&mut self, from: Duration, late: bool, item: T) {
        let jitter = Duration::from_micros(self.dice.draw(self.faults.jitter.as_micros() as u64 + 1));
        let mut due = from + self.faults.delay + jitter;
        if late {
            self.counts.held_back += 1;
            due += self.faults.delay + self.faults.jitter + Duration::from_millis(1);
        } else {
            due = due.max(self.last);
            self.last = due;
        }
        self.number += 1;
        self.waiting.push(Reverse(Waiting { due, number: self.number, item }));
    }

    /// The next datagram that has waited long enough.
    pub(super) fn pop(&mut self, now: Duration) -> Option<T> {
        self.next().filter(|due| *due <= now)?;
        self.waiting.pop().map(|Reverse(waiting)| waiting.item)
    }

    /// When the next one has.
    pub(super) fn next(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A thousand datagrams of a thousand bytes, one a millisecond: when each came out.
    fn run(seed: u64, faults: Faults) -> (Vec<(Duration, u32)>, Counts) {
        let mut shaper = Shaper::new(seed);
        shaper.faults = faults;
        let mut out = Vec::new();
        for step in 0..100_000 {
            let now = MS * step;
            if step < 1_000 {
                shaper.push(now, 1_000, step);
            }
            while let Some(item) = shaper.pop(now) {
                out.push((now, item));
            }
        }
        assert_eq!(shaper.next(), None);
        (out, shaper.counts)
    }

    fn in_order(out: &[(Duration, u32)]) -> bool {
        out.is_sorted_by_key(|(_, item)| *item)
    }

    #[test]
    fn without_faults_all_come_at_once_and_in_order() {
        let (out, counts) = run(1, Faults::default());
        assert_eq!((out.len(), counts.lost), (1_000, 0));
        assert!(out.iter().all(|(at, item)| *at == MS * *item));
    }

    #[test]
    fn each_fault_does_what_it_says_and_a_seed_does_it_again() {
        let all = Faults {
            loss: 200,
            duplication: 100,
            reordering: 100,
            delay: 50 * MS,
            jitter: 10 * MS,
            ..Faults::default()
        };
        let (out, counts) = run(2, all);
        assert_eq!((&out, counts), (&run(2, all).0, counts));
        assert_ne!(out, run(3, all).0);
        for (count, about) in [(counts.lost, 200), (counts.repeated, 80), (counts.held_back, 80)] {
            assert!((about / 2..about * 2).contains(&count), "{counts:?}");
        }
        assert_eq!(out.len() as u64, 1_000 - counts.lost + counts.repeated);
        assert!(!in_order(&out));
        assert!(out.iter().all(|(at, item)| (50..122).contains(&(*at - MS * *item).as_millis())));
        let (out, _) = run(2, Faults { reordering: 0, ..all });
        assert!(in_order(&out), "jitter alone changes no order");
        let (out, counts) = run(2, Faults { cut: true, ..all });
        assert_eq!((out.len(), counts.lost), (0, 1_000));
    }

    #[test]
    fn a_rate_holds_back_and_a_full_queue_loses() {
        // A megabyte a second is wanted, and half of it goes through.
        let half = Faults { rate: 500_000, queue_max: u64::MAX, ..Faults::default() };
        let (out, counts) = run(4, half);
        assert_eq!((out.len(), counts.lost), (1_000, 0));
        assert_eq!(out.last().map(|(at, _)| *at), Some(2_000 * MS));
        let (out, counts) = run(4, Faults { queue_max: 10_000, ..half });
        assert!((400..600).contains(&counts.lost), "{counts:?}");
        assert!(out.iter().all(|(at, item)| *at - MS * *item <= 21 * MS));
    }
}
