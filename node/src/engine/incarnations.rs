//! How many incarnations of one device there may be on the lanes that everyone keeps.
//!
//! Each start of a process opens new logs, and a log costs every node of the market some room for as long as the market
//! lasts. So a node holds what checkpoints have named, and of what they haven't a bounded number of incarnations for each
//! device; the hub names a bounded number a day, by its own clock. What lies beyond that stays where it was written, and
//! is asked for again when a checkpoint has made room. Sealed lanes are bounded by bytes instead: no sale waits for this.
//! The market's root and its hubs have no bound: they are what everybody relies upon anyway.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::replica::{RefusalCode, SessionId};
use stallmesh_protocol::{DeviceId, Incarnation, Lane, LogName};

use super::Engine;
use crate::store::Store;

/// Incarnations of one device that no checkpoint has named and that are held all the same: a start every half hour of a
/// market's day without its hub.
pub(crate) const UNCOVERED_MAX: usize = 32;
/// Incarnations of one device that a hub's checkpoints name for the first time in one day (UTC): twice that.
pub(crate) const COVERED_A_DAY_MAX: usize = 64;
/// What whoever is refused is told, in milliseconds: checkpoints come every few seconds, and so may room.
const TRY_AGAIN_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 3_600_000;

impl<S: Store> Engine<S> {
    fn has_bound(&self, author: &DeviceId) -> bool {
        *author != self.views.membership.root() && !self.is_hub_device(author)
    }

    /// When a checkpoint first named a log of an incarnation, in milliseconds since 1970.
    fn named_at(&self, author: DeviceId, incarnation: Incarnation) -> Option<u64> {
        let logs = Lane::KEPT_BY_ALL.iter().map(|lane| LogName { author, incarnation, lane: *lane });
        logs.filter_map(|log| self.views.coverage.named_at(&log)).min()
    }

    /// Incarnations of a device on lanes that everyone keeps that are held here and that no checkpoint has named.
    fn uncovered(&self, author: DeviceId) -> BTreeSet<Incarnation> {
        let kept = self.logs.of_author(author).filter(|(name, _)| name.lane.is_kept_by_all());
        let incarnations: BTreeSet<Incarnation> = kept.map(|(name, _)| name.incarnation).collect();
        incarnations.into_iter().filter(|incarnation| self.named_at(author, *incarnation).is_none()).collect()
    }

    /// Whether a log of a lane that everyone keeps may be taken.
    pub(crate) fn may_hold(&self, log: &LogName) -> bool {
        if log.author == self.device.id() || !self.has_bound(&log.author) || self.logs.get(log).is_some() {
            return true;
        }
        let uncovered = self.uncovered(log.author);
        uncovered.contains(&log.incarnation)
            || uncovered.len() < UNCOVERED_MAX
            || self.named_at(log.author, log.incarnation).is_some()
    }

    /// Refuses a log that may not be held now; it is asked for again when it may.
    pub(crate) fn put_off(&mut self, session: SessionId, log: LogName) {
        let detail = "its author has started too often since the last checkpoint that is known here: it is asked for \
                      again when a checkpoint has named it or an earlier one";
        if let Some(replica) = &mut self.replica {
            replica.refuse(session, log, RefusalCode::OverQuota, detail, TRY_AGAIN_MS);
            replica.put_off(log);
        }
        self.alarm_of_starts(&log.author);
    }

    fn alarm_of_starts(&mut self, device: &DeviceId) {
        let name = self.views.membership.certificate(device).map(|it| it.name.clone()).unwrap_or_default();
        self.alarm(format!(
            "device {} ({name}) starts again and again: some of what it publishes is taken later. Its sales are not \
             concerned; look what ails it",
            device.short()
        ));
    }

    /// Checkpoints have changed: what was put off may have room now.
    pub(crate) fn take_up(&mut self) {
        let put_off: Vec<LogName> = self.replica.iter().flat_map(|replica| replica.logs_put_off()).copied().collect();
        let now = self.now.monotonic_ms;
        // As many of each device as there is room for: what is asked for in vain costs a page.
        let mut uncovered: BTreeMap<DeviceId, BTreeSet<Incarnation>> = BTreeMap::new();
        for log in put_off {
            let asked = uncovered.entry(log.author).or_insert_with(|| self.uncovered(log.author));
            let named = !self.has_bound(&log.author) || self.named_at(log.author, log.incarnation).is_some();
            let room = asked.contains(&log.incarnation) || asked.len() < UNCOVERED_MAX;
            if !named && !room {
                continue;
            }
            if !named {
                asked.insert(log.incarnation);
            }
            if let Some(replica) = &mut self.replica {
                replica.take_up(log, now);
            }
        }
    }

    /// Hub: incarnations that checkpoints don't name before another day begins.
    pub(crate) fn held_back(&mut self) -> BTreeSet<(DeviceId, Incarnation)> {
        let today = self.time() / DAY_MS;
        let mut incarnations: BTreeMap<DeviceId, BTreeSet<Incarnation>> = BTreeMap::new();
        for (name, _) in self.logs.iter().filter(|(name, _)| name.lane.is_kept_by_all()) {
            incarnations.entry(name.author).or_default().insert(name.incarnation);
        }
        // Looking closer costs more.
        incarnations.retain(|author, all| all.len() > COVERED_A_DAY_MAX && self.has_bound(author));
        let mut held_back = BTreeSet::new();
        for (author, all) in incarnations {
            let (mut fresh, mut named_today) = (Vec::new(), 0);
            for incarnation in all {
                match self.named_at(author, incarnation) {
                    None => fresh.push(incarnation),
                    Some(time) => named_today += usize::from(time / DAY_MS == today),
                }
            }
            let room = COVERED_A_DAY_MAX.saturating_sub(named_today);
            if fresh.len() > room {
                self.alarm_of_starts(&author);
            }
            held_back.extend(fresh.into_iter().skip(room).map(|incarnation| (author, incarnation)));
        }
        held_back
    }
}
