//! What changes, told to whoever listens: the newest events are kept for those that were away for a moment.
//!
//! A listener has a place of its own in one ring, so that one that is slow costs nobody anything. Who falls behind the ring,
//! or comes with the place of an earlier run, is told once that it has missed something: it looks anew, and goes on.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::engine::Notice;

/// The most events that are kept: a busy minute.
const KEPT_MAX: usize = 4096;

/// Names an event: the node's run, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    run: u64,
    number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{}", self.run, self.number)
    }
}

impl FromStr for EventId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(run, number)| {
            let is_run = run.len() == 16;
            Some((is_run.then(|| u64::from_str_radix(run, 16).ok())??, number.parse().ok()?))
        });
        let (run, number) = parts.ok_or_else(|| format!("`{text}` is no event of a node"))?;
        Ok(EventId { run, number })
    }
}

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something has changed.
    Notice(EventId, Notice),
    /// Something has changed, and what isn't known any more: look anew. Events go on after this id.
    Missed(EventId),
}

#[derive(Debug)]
struct Ring {
    kept: VecDeque<Notice>,
    /// The number of the next event; the first is 1.
    next: u64,
}

impl Ring {
    fn oldest(&self) -> u64 {
        self.next - self.kept.len() as u64
    }
}

#[derive(Debug)]
struct Shared {
    run: u64,
    ring: Mutex<Ring>,
    /// The ring's `next`.
    news: watch::Sender<u64>,
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Whoever panicked here has changed nothing by halves.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The events of one run of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

impl Events {
    /// None yet. `run` names the run: another one each time.
    pub fn new(run: u64) -> Self {
        let ring = Mutex::new(Ring { kept: VecDeque::new(), next: 1 });
        Events { shared: Arc::new(Shared { run, ring, news: watch::Sender::new(1) }) }
    }

    /// Something has changed.
    pub fn tell(&self, notice: Notice) {
        let mut ring = self.shared.ring();
        if ring.kept.len() >= KEPT_MAX {
            ring.kept.pop_front();
        }
        ring.kept.push_back(notice);
        ring.next += 1;
        self.shared.news.send_replace(ring.next);
    }

    /// What changes from now on.
    pub fn listen(&self) -> Listener {
        let news = self.shared.news.subscribe();
        let place = self.shared.ring().next;
        Listener { shared: self.shared.clone(), news, place, has_missed: false }
    }

    /// What has changed since an event; `None`: one that no node has told of.
    pub fn listen_after(&self, last: Option<EventId>) -> Listener {
        let mut listener = self.listen();
        match last {
            Some(last) if last.run == self.shared.run && last.number < listener.place => {
                listener.place = last.number + 1
            }
            _ => listener.has_missed = true,
        }
        listener
    }
}

/// Hears of changes, each once and in order.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    news: watch::Receiver<u64>,
    /// The number of the event that it hears of next.
    place: u64,
    has_missed: bool,
}

impl Listener {
    /// The event after which it goes on. Nothing where it has missed some: it has no place before it was told so.
    pub fn place(&self) -> Option<EventId> {
        (!self.has_missed).then(|| self.last())
    }

    fn last(&self) -> EventId {
        EventId { run: self.shared.run, number: self.place - 1 }
    }

    /// Waits for what comes next; `None` once the node has gone.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.try_next() {
                return Some(told);
            }
            self.news.changed().await.ok()?;
        }
    }

    /// What comes next, if it is there.
    pub fn try_next(&mut self) -> Option<Told> {
        let shared = self.shared.clone();
        let ring = shared.ring();
        if self.has_missed || self.place < ring.oldest() {
            (self.has_missed, self.place) = (false, ring.next);
            return Some(Told::Missed(self.last()));
        }
        let index = usize::try_from(self.place - ring.oldest()).ok()?;
        let notice = ring.kept.get(index)?.clone();
        self.place += 1;
        Some(Told::Notice(self.last(), notice))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn notice(number: u64) -> Notice {
        Notice::Settled { number }
    }

    fn heard(listener: &mut Listener) -> Vec<Told> {
        std::iter::from_fn(|| listener.try_next()).collect()
    }

    fn numbers(told: &[Told]) -> Vec<u64> {
        told.iter()
            .map(|told| match told {
                Told::Notice(_, Notice::Settled { number }) => *number,
                _ => 0,
            })
            .collect()
    }

    #[test]
    fn who_comes_back_hears_what_it_has_not_heard_once_and_in_order() {
        let events = Events::new(7);
        let mut listener = events.listen();
        let at_first = listener.place().unwrap();
        (1..=5).for_each(|number| events.tell(notice(number)));
        let told = heard(&mut listener);
        assert_eq!(numbers(&told), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&heard(&mut events.listen_after(Some(at_first)))), [1, 2, 3, 4, 5]);
        let Told::Notice(third, _) = told[2] else { unreachable!() };
        let third: EventId = third.to_string().parse().unwrap();
        let mut back = events.listen_after(Some(third));
        assert_eq!(numbers(&heard(&mut back)), [4, 5]);
        events.tell(notice(6));
        assert_eq!((numbers(&heard(&mut back)), numbers(&heard(&mut listener))), (vec![6], vec![6]));
        assert!(numbers(&heard(&mut events.listen())).is_empty());
    }

    #[test]
    fn who_is_too_far_behind_or_comes_from_another_run_is_told_once_and_goes_on() {
        let events = Events::new(7);
        let mut slow = events.listen();
        let first = slow.place().unwrap();
        for number in 1..=KEPT_MAX as u64 {
            events.tell(notice(number));
        }
        // All of them are there, just so.
        assert_eq!(heard(&mut events.listen_after(Some(first))).len(), KEPT_MAX);
        events.tell(notice(9));
        let newest = EventId { run: 7, number: KEPT_MAX as u64 + 1 };
        assert_eq!(heard(&mut slow), [Told::Missed(newest)]);
        let others = ["0000000000000008-1", "0000000000000007-99999", "7-1", "", "nonsense"];
        let mut listeners = others.map(|last| events.listen_after(last.parse().ok()));
        for listener in &mut listeners {
            assert_eq!(listener.place(), None);
            assert_eq!(heard(listener), [Told::Missed(newest)]);
        }
        events.tell(notice(1));
        for listener in listeners.iter_mut().chain([&mut slow]) {
            assert_eq!(numbers(&heard(listener)), [1]);
        }
        assert_eq!(numbers(&heard(&mut events.listen_after(Some(newest)))), [1]);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let events = Events::new(7);
        let mut listener = events.listen();
        let waiting = tokio::spawn(async move { listener.next().await });
        tokio::task::yield_now().await;
        events.tell(notice(1));
        assert_eq!(waiting.await.unwrap(), Some(Told::Notice(EventId { run: 7, number: 1 }, notice(1))));
    }
}
