//! The hub's ledger at its carriers, and what a hub that comes back without its entries gets from its neighbours.
//!
//! A hub hands its ledger to as many carriers as the market wants. They can't read it. They keep it until another hub
//! has it: its author's word that it has it says nothing, for it had it before it handed it over, and may lose it again.
//! So a ledger counts against a carrier's room like sales do, and is never thrown out to make room for them. It is
//! handed on towards a hub only when its author runs in a later incarnation, which may have lost it: the running one
//! wrote it.

use std::collections::BTreeMap;

use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::certificate::{Role, Scope};
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::replica::{LaneProgress, SessionId};
use stallmesh_protocol::{DeviceId, Head, Incarnation, Lane, LogName};

use super::without;
use crate::engine::Engine;
use crate::engine::links::Link;
use crate::engine::logs::Run;
use crate::link::LinkId;
use crate::store::Store;

/// Milliseconds that a hub waits for what a neighbour offers of its ledger before it closes without it: an honest one
/// gives it at once, and a liar can't hold up the market's money.
const OFFERED_MS: u64 = 60_000;
/// Milliseconds after which a new neighbour has said what it holds of this hub's earlier runs.
const OFFERS_MS: u64 = 2_000;
/// Logs that are remembered as offered on one session: more than a market's season has, at two starts a day.
const OFFERED_MAX: usize = 20_000;

/// Newest words of a hub that a neighbour tells it after its start: if its disk is an older copy, it doesn't know the
/// last of them.
const OWN_WORDS_MAX: usize = 64;

/// What a peer offered of a log.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    intervals: Vec<Interval>,
    /// Until when it is waited for, in monotonic milliseconds.
    until: u64,
}

impl<S: Store> Engine<S> {
    /// Whether a peer should hold a log of the `ledger` lane.
    pub(super) fn should_hold_ledger(&self, link: &Link, log: &LogName) -> bool {
        let own = log.author == self.device.id();
        // An author that lacks some of it asks for that when it is offered.
        if link.peer == log.author {
            return false;
        }
        if self.is_hub_device(&link.peer) {
            return true;
        }
        if own {
            // What an earlier run has handed over the neighbour offers now, and needs it no second time.
            let is_told = log.incarnation == self.incarnation || self.now.monotonic_ms >= link.up_at + OFFERS_MS;
            return is_told && self.carriers(log).contains(&link.peer);
        }
        let Some(certificate) = self.views.membership.certificate(&link.peer) else { return false };
        let may_carry = certificate.scopes.allows(Scope::RELAY) && !self.views.membership.is_revoked(&link.peer);
        // What a later run of its author may lack, or whoever has taken its author's place.
        let outlived =
            self.views.latest_incarnation(&log.author) != Some(log.incarnation) || self.views.is_burned(&log.author);
        let towards = (link.status.uplink && !self.has_uplink()) || self.next_hops(log).contains(&link.peer);
        may_carry && !link.status.full && outlived && towards
    }

    /// A log of a hub's ledger has come here while its author, in a later incarnation, is a neighbour.
    pub(super) fn offer_to_author(&mut self, log: &LogName) {
        let Some(record) = self.logs.get(log) else { return };
        let intervals: Vec<Interval> = record.runs.iter().map(Run::interval).collect();
        let sessions: Vec<SessionId> = self
            .links
            .iter()
            .filter(|(_, link)| link.greeted && link.peer == log.author && link.incarnation != Some(log.incarnation))
            .map(|(link, _)| SessionId(link.0))
            .collect();
        for session in sessions {
            if let Some(replica) = &mut self.replica {
                replica.offer(session, &[(*log, intervals.clone())]);
            }
        }
    }

    /// What a hub in a new incarnation is offered once: it may have been restored from an older copy, and nobody would
    /// bring it again what it has signed for.
    pub(super) fn offers_to_hub(
        &mut self,
        session: SessionId,
        peer: DeviceId,
        incarnation: Incarnation,
    ) -> Vec<(LogName, Vec<Interval>)> {
        if !self.is_hub_device(&peer) || self.custody.offered_to.insert(peer, incarnation) == Some(incarnation) {
            return Vec::new();
        }
        self.tell_own_words(session, peer);
        let received = |name: &LogName, runs: &[Run]| -> Vec<Interval> {
            runs.iter().filter(|run| !self.received_of(name, run).is_empty()).map(Run::interval).collect()
        };
        self.logs
            .on_lane(Lane::SALES)
            .map(|(name, record)| (*name, received(name, &record.runs)))
            .filter(|(_, intervals)| !intervals.is_empty())
            .collect()
    }

    /// What a hub in a new incarnation is told of its own newest words: its disk may be an older copy, which doesn't know
    /// them.
    pub(super) fn tell_own_words(&mut self, session: SessionId, hub: DeviceId) {
        let of_hub = self.custody.received.values().filter(|received| received.hub == hub);
        let mut words: Vec<(u64, LogName)> = of_hub.map(|received| (received.time, received.log)).collect();
        words.sort_by(|one, next| next.cmp(one));
        for (time, log) in words.into_iter().take(OWN_WORDS_MAX) {
            if let Some(message) = self.custody.received.get(&log).map(Acknowledgement::to_wire) {
                self.tell(session, log, time, message);
            }
        }
    }

    /// A peer offers what it holds of this device's own entries, of its stall's sales, or for the hub.
    pub(crate) fn offered(&mut self, session: SessionId, log: LogName, intervals: &[Interval]) {
        let own = log.author == self.device.id();
        // A device whose room is used up would have to let go of it at once.
        let of_stall = || self.may_read(&self.device.id(), &log) && !self.custody_is_full();
        if !(own || self.is_hub() || of_stall()) || !log.lane.is_sealed() {
            return;
        }
        let lacked: Vec<(u64, u64)> = intervals.iter().filter_map(|interval| self.lacked(&log, interval)).collect();
        let remembered =
            self.custody.offers.range((session, FIRST)..).take_while(|((of, _), _)| *of == session).count();
        if !lacked.is_empty() && remembered < OFFERED_MAX {
            let until = self.now.monotonic_ms + OFFERED_MS;
            self.custody.offers.insert((session, log), Offered { intervals: intervals.to_vec(), until });
        }
        if own {
            // What a neighbour offers it holds: known again after a restart, on whichever side.
            self.custody_taken(session, log, intervals);
        }
        for (from, to) in lacked {
            if let Some(replica) = &mut self.replica {
                replica.want_sealed(session, log, from, to);
            }
        }
    }

    /// The first entries of an interval that aren't here.
    fn lacked(&self, log: &LogName, interval: &Interval) -> Option<(u64, u64)> {
        let whole = (interval.from, interval.to);
        let Some(record) = self.logs.get(log) else { return Some(whole) };
        let end = Head { sequence: interval.to, hash: interval.hash };
        // In a log with branches a sequence doesn't say which entry.
        let held = matches!(self.logs.entry(&self.overlay, log, end), Ok(Some(_)));
        if self.logs.is_branched(log, interval.from, interval.to) {
            return (!held).then_some(whole);
        }
        let ranges: Vec<(u64, u64)> = record.runs.iter().map(|run| (run.from, run.to)).collect();
        without(&[whole], &ranges).first().copied().or((!held).then_some(whole))
    }

    /// A page of what was offered has come; a page holds only so much, so the rest is asked for.
    pub(super) fn want_rest(&mut self, session: SessionId, log: LogName, last: u64) {
        let Some(offered) = self.custody.offers.get(&(session, log)) else { return };
        let lacked: Vec<(bool, (u64, u64))> = offered
            .intervals
            .iter()
            .filter_map(|interval| Some((interval.contains(last), self.lacked(&log, interval)?)))
            .collect();
        if lacked.is_empty() {
            self.custody.offers.remove(&(session, log));
        }
        for (_, (from, to)) in lacked.into_iter().filter(|(here, _)| *here) {
            if let Some(replica) = &mut self.replica {
                replica.want_sealed(session, log, from, to);
            }
        }
    }

    /// Whether a neighbour has offered entries of this hub's own ledger that are still on their way.
    pub(crate) fn ledger_is_on_its_way(&self) -> bool {
        self.custody.offers.iter().any(|((_, log), offered)| {
            log.lane == Lane::LEDGER && log.author == self.device.id() && offered.until > self.now.monotonic_ms
        })
    }

    /// Whether somebody else holds an entry of this hub's ledger whose word counts: another hub that signed for it, or a
    /// neighbour of which all that it knows of this hub's earlier settlements is here. It has the checkpoints, too: whoever
    /// gets the closing from it must know the one that it names.
    pub(crate) fn is_held_elsewhere(&self, log: &LogName, head: Head) -> bool {
        if self.is_received(log, head) {
            return true;
        }
        let copies = self.custody.copies.get(log);
        let holders = copies.into_iter().flat_map(BTreeMap::iter);
        holders
            .filter(|(_, held)| held.iter().any(|interval| interval.contains(head.sequence)))
            .any(|(peer, _)| self.is_in_step_with(peer))
    }

    pub(crate) fn is_in_step_with(&self, peer: &DeviceId) -> bool {
        let Some(replica) = &self.replica else { return false };
        let sessions = self.links.iter().filter(|(_, link)| link.greeted && link.peer == *peer);
        sessions.map(|(LinkId(link), _)| SessionId(*link)).any(|session| {
            [Lane::CONTROL, Lane::CHECKPOINT]
                .iter()
                .all(|lane| replica.progress(session, *lane) == (LaneProgress::Known, 0))
                && !self.custody.offers.iter().any(|((of, log), offered)| {
                    *of == session && log.lane == Lane::LEDGER && offered.until > self.now.monotonic_ms
                })
        })
    }

    /// Whether the market has any other device that could carry the hub's ledger.
    pub(crate) fn could_be_carried(&self) -> bool {
        let (membership, time, own) = (&self.views.membership, self.time(), self.device.id());
        membership.devices().filter(|device| **device != own && !membership.is_revoked(device)).any(|device| {
            membership
                .certificates_at(device, time)
                .any(|certificate| certificate.role == Role::Hub || certificate.scopes.allows(Scope::RELAY))
        })
    }

    /// Entries of hubs' ledgers that are kept here for them.
    pub(crate) fn ledger_entries_carried(&self) -> u64 {
        let own = self.device.id();
        let others = self.logs.on_lane(Lane::LEDGER).filter(|(name, _)| name.author != own);
        others.flat_map(|(_, record)| &record.runs).map(|run| run.to - run.from + 1).sum()
    }
}

/// Before every log's name.
const FIRST: LogName =
    LogName { author: DeviceId::from_bytes([0; 32]), incarnation: Incarnation::from_bytes([0; 16]), lane: Lane(0) };
