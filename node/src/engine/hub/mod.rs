//! What a hub does: admits devices and renews them, writes checkpoints, settles. And what every device does with its word.

mod admission;
mod checkpoints;
mod closings;
mod gateway;
mod loss;
mod opening;
mod read_keys;
mod recompute;
mod recovery;
mod renewal;
mod restoration;
mod settlement;
mod standing;
mod statements;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stallmesh_protocol::certificate::{Certificate, Role};
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::payload::{self};
use stallmesh_protocol::{DeviceId, Hash};

use super::logs::Run;
use super::{Engine, Failure, FailureCode, META_CLOCK};
use crate::hub::reconcile::Reconciliation;
use crate::store::{Store, Table};

pub(crate) use self::gateway::GatewayBook;
pub(crate) use self::opening::{OpeningKeys, opening_key_message};
pub(crate) use self::read_keys::ReadKeyMade;
pub(crate) use self::recovery::Recovery;
pub(crate) use self::renewal::{RETURN_MS, Renewals};
pub(crate) use self::settlement::{judge, read_sale};
pub(crate) use self::statements::open_statement;

/// What a hub has worked out and would rather not work out again.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Sales that were opened: opening costs more than everything else.
    opened: BTreeMap<Position, payload::Sale>,
    /// F over what was held then; gone when anything is written or changes its standing.
    pub(crate) reconciled: Option<Arc<Reconciliation>>,
    /// Entries of the ledger whose leaves were taken in.
    standing_read: BTreeSet<Hash>,
    /// Whether the closings that are held were all looked at.
    closings_read: bool,
    /// Closings that this hub doesn't know as its own and can't recompute yet: number, and why.
    unread: Vec<(u64, String)>,
    /// A batch was worked out without what is lost of it: should that turn up, it is worked out again.
    lossy: bool,
    /// Two stories about one batch: nothing is closed any more until somebody has looked at it.
    contradiction: Option<String>,
}

impl Books {
    /// New entries are held: what was worked out may be another now.
    pub(crate) fn changed(&mut self, ledger: bool) {
        self.reconciled = None;
        self.closings_read &= !ledger && self.unread.is_empty() && !self.lossy;
    }
}

impl<S: Store> Engine<S> {
    /// A checkpoint says what time it is: kept, so that a restart doesn't forget it.
    pub(crate) fn witness_time(&mut self, time: u64) {
        if self.is_hub() {
            // A hub's own checkpoints are its own clock's word.
            return;
        }
        self.clock.witness(time, self.now);
        self.keep_time();
    }

    /// Keeps the trusted time, also while the hub is away: a restart must not turn it back.
    pub(crate) fn keep_time(&mut self) {
        if let Some(time) = self.clock.due_to_keep(self.now) {
            self.overlay.put(Table::Meta, META_CLOCK, time.to_be_bytes());
        }
    }

    /// What follows from a change of members, on every device.
    pub(crate) fn after_refresh(&mut self) {
        self.ensure_stall_key();
        self.fetch_statements();
        self.read_statements();
        self.forget_word_taken_back();
        if self.is_hub() {
            self.inherit_opening_keys();
            self.release_closed();
            self.publish_waiting_statements();
            self.schedule_checkpoint();
        }
        self.judge_joins();
        self.plan_renewals();
    }

    pub(super) fn hub_certificate(&self) -> Result<Certificate, Failure> {
        let own = self.device.id();
        if let Some(replaced) = self.replaced_notice() {
            return Err(Failure::new(FailureCode::ENotHub, replaced));
        }
        self.views
            .membership
            .certificate(&own)
            .filter(|certificate| certificate.role == Role::Hub)
            .cloned()
            .ok_or_else(|| Failure::new(FailureCode::ENotHub, "only a hub can do that: ask the market's organiser"))
    }

    /// Every incarnation's heads of a device, as a revocation's line names them.
    pub(crate) fn line_of(&self, device: DeviceId) -> stallmesh_protocol::membership::Line {
        self.logs
            .of_author(device)
            .filter_map(|(name, record)| {
                let head = record.main().map(Run::head).or_else(|| record.newest())?;
                Some(((name.incarnation, name.lane), head))
            })
            .collect()
    }

    /// Where a line is raised to: of each log the newest entry that is held, with all that it chains back to, wherever that is
    /// still under way. Of a log with several histories, what its first one comes to.
    pub(crate) fn raised_line_of(&self, device: DeviceId) -> stallmesh_protocol::membership::Line {
        let mut line = self.line_of(device);
        for (name, record) in self.logs.of_author(device) {
            if let Some(newest) = record.newest().filter(|_| record.is_one_history()) {
                line.insert((name.incarnation, name.lane), newest);
            }
        }
        line
    }
}
