//! A hub that takes the place of others that are gone: burned, stolen, drowned.
//!
//! ```text
//!   market recover              meets a member             holds what that one holds
//!   own certificate  ──────►  control, checkpoints  ──────►  says that it goes on: checkpoints, admits,
//!   by the root, and           come, with the opening        settles. Carriers bring what the others had
//!   the recovery key           keys' sealed secrets
//! ```
//! It has the market's root and recovery keys, and nothing else. Until it holds what one member holds it admits nobody,
//! writes no checkpoint and closes nothing, for it knows neither whom nor what there was. Then it says, by the root, which
//! hubs are gone. What they wrote goes on counting, and so would what they write. But nobody relies on their having
//! anything: what they acknowledged is handed over again, towards the new hub, and what they alone had is named there as
//! missing. Their device, should it come back, hands over what it has, like any other.
//!
//! The new hub's checkpoints come after all that others have written, or will before they hear of it: its first epoch is
//! the time at which it was made, in milliseconds, and epochs are counted from 1.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::certificate::Role;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::replica::SessionId;
use stallmesh_protocol::{DeviceId, Kind, LogName, wire};

use super::restoration::Restoring;
use crate::engine::logs::Run;
use crate::engine::{Engine, META_FENCE, META_WAITING, MissingView};
use crate::store::{Store, StoreError, Table};

/// What is said of a hub that has met nobody yet.
pub(super) const WAITING: &str = "this hub was made anew from the market's keys and has not yet met a member that shows \
                                  it the market: it admits nobody and settles nothing until it has";
const NO_ROOT: &str = "this hub has met the market, and can't say that it goes on in the place of the old one: put the \
                       market's root.key into its data directory, and restart it";
/// Logs of which burned hubs' words are kept: more than a market's season has.
const HAD_MAX: usize = 50_000;

/// What a node knows of hubs that are gone.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// The first epoch of a hub that was made anew; 0 for all others.
    fence: u64,
    /// It has met nobody yet.
    waiting: bool,
    /// What hubs said that they had, and have no more.
    had: BTreeMap<(LogName, DeviceId), Acknowledgement>,
    /// What this hub knows of having come back from an older copy of its disk.
    pub(super) restoring: Restoring,
}

impl Recovery {
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The least epoch that this hub's checkpoints have.
    pub(super) fn fence(&self) -> u64 {
        self.fence
    }
}

impl<S: Store> Engine<S> {
    pub(crate) fn load_recovery(&mut self) -> Result<(), StoreError> {
        use prost::Message;
        let fence = self.overlay.get(Table::Meta, META_FENCE)?;
        self.recovery.fence = fence.and_then(|fence| fence.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
        self.recovery.waiting = self.overlay.get(Table::Meta, META_WAITING)?.is_some();
        for (_, value) in self.overlay.scan_prefix(Table::Custody, b"h")? {
            let read = wire::Acknowledgement::decode(value.as_slice()).ok();
            if let Some(had) = read.as_ref().and_then(Acknowledgement::from_wire) {
                self.recovery.had.insert((had.log, had.hub), had);
            }
        }
        Ok(())
    }

    /// Hub: takes the place of those that are gone, as soon as it knows what a member knows.
    pub(super) fn recovery_tick(&mut self) {
        if self.recovery.fence == 0 || !self.is_hub() {
            return;
        }
        if self.recovery.waiting && (self.views.market().is_none() || !self.has_caught_up_with_somebody()) {
            return;
        }
        let own = self.device.id();
        let gone: Vec<DeviceId> = self
            .views
            .membership
            .devices()
            .filter(|device| **device != own && self.is_hub_device(device))
            // Whoever is certified later isn't gone. Those that were here before may become known late.
            .filter(|device| self.recovery.waiting || self.is_certified_before(device, self.recovery.fence))
            .copied()
            .collect();
        if !gone.is_empty() && self.renewals.root_mut().is_none() {
            if self.recovery.waiting {
                self.alarm(NO_ROOT.into());
            }
            return;
        }
        if !gone.is_empty() {
            let burned = gone.iter().map(|device| device.as_bytes().to_vec()).collect();
            let message = payload::Succession { hub: own.as_bytes().to_vec(), burned };
            if let Err(error) = self.append_as_root(Kind::SUCCESSION, encode(&message)) {
                return tracing::warn!(%error, "nobody could be told which hubs are gone");
            }
        }
        if self.recovery.waiting {
            self.recovery.waiting = false;
            self.overlay.delete(Table::Meta, META_WAITING);
            self.alarms.remove(NO_ROOT);
            self.checkpoints.restore_chain(self.views.coverage.chain_of_newest());
            tracing::info!(gone = gone.len(), "this hub goes on in the place of others");
        }
        self.refresh();
    }

    fn is_certified_before(&self, device: &DeviceId, time: u64) -> bool {
        self.views.membership.issued(device).all(|issued| issued.time < time)
    }

    /// Whether a neighbour knows nothing of members and checkpoints that isn't here.
    fn has_caught_up_with_somebody(&self) -> bool {
        let own = self.device.id();
        self.links.values().any(|link| link.greeted && link.peer != own && self.is_in_step_with(&link.peer))
    }

    /// What hubs acknowledged that are gone now, or have come back without it, counts as received no more: it is handed
    /// over again.
    pub(crate) fn forget_word_taken_back(&mut self) {
        if !self.views.is_word_taken_back() {
            return;
        }
        let forgotten: Vec<Acknowledgement> =
            self.custody.received.values().filter(|received| self.is_taken_back(received)).cloned().collect();
        for acknowledgement in forgotten {
            let log = acknowledgement.log;
            self.overlay.delete(Table::Custody, [b"a".as_slice(), self.logs.id(&log).as_bytes()].concat());
            self.forget_received(&log);
            self.keep_had(None, acknowledgement);
        }
    }

    /// A hub's word on what it had and has no more: kept until a hub has it, and told to everybody, for the hub that goes
    /// on must learn what it lacks.
    pub(crate) fn keep_had(&mut self, session: Option<SessionId>, had: Acknowledgement) {
        use prost::Message;
        let known = self.recovery.had.get(&(had.log, had.hub));
        let news = known.is_none_or(|known| known.time < had.time) && !self.is_received_again(&had);
        if !news || (known.is_none() && self.recovery.had.len() >= HAD_MAX) {
            return;
        }
        let id = self.logs.id(&had.log);
        let message = had.to_wire();
        let key = [b"h".as_slice(), id.as_bytes(), had.hub.as_bytes()].concat();
        self.overlay.put(Table::Custody, key, message.encode_to_vec());
        self.recovery.had.insert((had.log, had.hub), had);
        let others: Vec<SessionId> = self
            .links
            .iter()
            .filter(|(_, link)| link.greeted && !link.restricted)
            .map(|(link, _)| SessionId(link.0))
            .filter(|other| Some(*other) != session)
            .collect();
        for other in others {
            if let Some(replica) = &mut self.replica {
                replica.acknowledge(other, message.clone());
            }
        }
    }

    /// Whether a hub whose word counts has all of what another, or it itself before, said that it had.
    fn is_received_again(&self, had: &Acknowledgement) -> bool {
        let ranges = |word: &Acknowledgement| -> Vec<(u64, u64)> {
            word.intervals.iter().map(|interval| (interval.from, interval.to)).collect()
        };
        let received = self.custody.received.get(&had.log);
        received.is_some_and(|received| crate::engine::custody::without(&ranges(had), &ranges(received)).is_empty())
    }

    /// A hub has said what it has of a log: what it makes good is missed no longer.
    pub(crate) fn made_good(&mut self, log: &LogName) {
        let of_log = self.recovery.had.range((*log, DeviceId::from_bytes([0; 32]))..);
        let made_good: Vec<DeviceId> = of_log
            .take_while(|((of, _), _)| of == log)
            .filter(|(_, had)| self.is_received_again(had))
            .map(|((_, hub), _)| *hub)
            .collect();
        for hub in made_good {
            self.recovery.had.remove(&(*log, hub));
            let id = self.logs.id(log);
            self.overlay.delete(Table::Custody, [b"h".as_slice(), id.as_bytes(), hub.as_bytes()].concat());
        }
    }

    /// Tells a neighbour what hubs had that have it no more.
    pub(crate) fn tell_had(&mut self, session: SessionId) {
        let messages: Vec<wire::Acknowledgement> = self.recovery.had.values().map(Acknowledgement::to_wire).collect();
        if let Some(replica) = &mut self.replica {
            messages.into_iter().for_each(|message| replica.acknowledge(session, message));
        }
    }

    /// Hub: what hubs that are gone had, or this one before its disk was an older copy, and nobody has brought here.
    pub(crate) fn missing(&self) -> Vec<MissingView> {
        if !self.is_hub() {
            return Vec::new();
        }
        let mut lacked: BTreeMap<LogName, Vec<(u64, u64)>> = BTreeMap::new();
        for ((log, _), had) in &self.recovery.had {
            let runs = self.logs.get(log).map(|record| record.runs.as_slice()).unwrap_or_default();
            let held: Vec<(u64, u64)> = runs.iter().map(|run: &Run| (run.from, run.to)).collect();
            for interval in &had.intervals {
                let open = crate::engine::custody::without(&[(interval.from, interval.to)], &held);
                lacked.entry(*log).or_default().extend(open);
            }
        }
        let stall = |log: &LogName| self.views.membership.stall(&log.author).unwrap_or_default().to_owned();
        lacked
            .into_iter()
            .filter(|(_, ranges)| !ranges.is_empty())
            .map(|(log, mut ranges)| {
                crate::engine::sales::join_ranges(&mut ranges);
                MissingView {
                    stall: stall(&log),
                    author: log.author.to_string(),
                    incarnation: log.incarnation.to_string(),
                    lane: log.lane.to_string(),
                    ranges,
                }
            })
            .collect()
    }

    /// The same in a sentence.
    pub(crate) fn missing_notice(&self) -> Option<String> {
        let missing = self.missing();
        // Whoever has the key of a hub that is gone may have signed for any number.
        let ranges = missing.iter().flat_map(|log| &log.ranges);
        let entries = ranges.fold(0_u64, |sum, (from, to)| sum.saturating_add(to - from).saturating_add(1));
        let devices: BTreeSet<&str> = missing.iter().map(|log| log.author.as_str()).collect();
        (entries > 0).then(|| {
            format!(
                "{entries} entries of {} devices were at {}, and nobody has brought them here yet: \
                 `stallmesh ledger` names them. What no device holds any more is lost",
                devices.len(),
                if self.views.is_anybody_burned() {
                    "a hub that is gone"
                } else {
                    "this hub before it came back from an older copy of its disk"
                }
            )
        })
    }

    /// This hub was replaced, and has come back: people are told what it is now.
    pub(crate) fn replaced_notice(&self) -> Option<String> {
        let own = self.device.id();
        let replaced = self.views.membership.role(&own) == Some(Role::Hub) && self.views.is_burned(&own);
        replaced.then(|| {
            "another hub goes on in the place of this one, which hands over what it has and settles nothing any more: \
             leave it running until nothing waits here, then revoke it at the other hub"
                .to_owned()
        })
    }
}
