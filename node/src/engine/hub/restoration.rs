//! A hub that comes back from an older copy of its disk: what it had acknowledged since that copy was made, it need not
//! have any more, and whoever believed its word may have let go of nothing yet.
//!
//! It learns so from others: they bring it entries of its own earlier runs, or its own acknowledgements, that its disk
//! doesn't have. Then it says up to which time its word counts no more. Everybody hands over anew what they still hold,
//! as after a fire, and the hub names what nobody has brought.

use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Kind, Lane};

use crate::engine::logs::Held;
use crate::engine::{Engine, META_RESTORED};
use crate::store::{Store, StoreError, Table};

/// After its first word a hub waits so long before it says another, then twice as long each time, up to an hour. Where
/// two copies of one hub run, each takes whatever the other writes for its own.
const AGAIN_MIN_MS: u64 = 2_000;
const AGAIN_MAX_MS: u64 = 3_600_000;

/// What a hub knows of having come back from an older copy of its disk.
#[derive(Debug, Default)]
pub(crate) struct Restoring {
    /// Until when its own word counts for nothing, in milliseconds since 1970; 0 where all of it counts.
    lost_until: u64,
    /// When it may say so next, in monotonic milliseconds, and how long it waits after that.
    again_at: u64,
    wait_ms: u64,
}

impl<S: Store> Engine<S> {
    pub(crate) fn load_restoration(&mut self) -> Result<(), StoreError> {
        let until = self.overlay.get(Table::Meta, META_RESTORED)?;
        let until = until.and_then(|until| until.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
        self.recovery.restoring.lost_until = until;
        Ok(())
    }

    /// Hub: others have brought entries. Own ones of an earlier run were on this disk once, for nothing leaves before its
    /// commit.
    pub(crate) fn own_entries_came(&mut self, new: &[Held]) {
        let own = self.device.id();
        let earlier = new.iter().filter(|held| held.log.author == own && held.log.incarnation != self.incarnation);
        if let Some(newest) = earlier.map(|held| held.entry.timestamp).max()
            && self.is_hub()
        {
            self.lost_until(newest.saturating_add(1));
        }
    }

    /// Hub: an acknowledgement of its own has come, which it doesn't know, of entries that it doesn't have.
    pub(crate) fn own_word_came(&mut self, word: &Acknowledgement) {
        let runs = self.logs.get(&word.log).map(|record| record.runs.as_slice()).unwrap_or_default();
        let held: Vec<(u64, u64)> = runs.iter().map(|run| (run.from, run.to)).collect();
        let said: Vec<(u64, u64)> = word.intervals.iter().map(|interval| (interval.from, interval.to)).collect();
        if !crate::engine::custody::without(&said, &held).is_empty() {
            self.lost_until(word.time.saturating_add(1));
        }
    }

    fn lost_until(&mut self, until: u64) {
        if until > self.recovery.restoring.lost_until && until > self.views.restored_until(&self.device.id()) {
            self.recovery.restoring.lost_until = until;
            // With what showed it: a crash forgets neither or both.
            self.overlay.put(Table::Meta, META_RESTORED, until.to_be_bytes());
        }
    }

    /// Hub: says that its word of before counts no more, where it has learnt so.
    pub(super) fn restoration_tick(&mut self) {
        let (own, now) = (self.device.id(), self.now.monotonic_ms);
        let restoring = &self.recovery.restoring;
        let is_said = restoring.lost_until <= self.views.restored_until(&own);
        if is_said || now < restoring.again_at || !self.is_hub() {
            return;
        }
        let restoring = &mut self.recovery.restoring;
        restoring.wait_ms = (restoring.wait_ms * 2).clamp(AGAIN_MIN_MS, AGAIN_MAX_MS);
        restoring.again_at = now + restoring.wait_ms;
        // Up to now: what it signed after the last entry that came back is older than this start.
        let until = self.recovery.restoring.lost_until.max(self.time());
        let message = payload::Restoration { until };
        match self.append_public(Lane::CONTROL, Kind::RESTORATION, encode(&message)) {
            Ok(_) => {
                tracing::warn!(
                    until,
                    "this hub has come back from an older copy of its disk: what it had is asked for"
                );
                self.refresh();
            }
            Err(error) => tracing::warn!(%error, "nobody could be told that this hub's disk is an older copy"),
        }
    }

    /// Whether a hub's word frees nothing any more: it is gone, or it has come back without what it had.
    pub(crate) fn is_taken_back(&self, word: &Acknowledgement) -> bool {
        let restored = word.time < self.views.restored_until(&word.hub) && !planted::is_on(Bug::RestorationIgnored);
        restored || self.views.is_burned(&word.hub)
    }
}
