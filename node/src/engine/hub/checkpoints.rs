//! The hub's word on what stands: numbers of logs, checkpoints, and what is kept of sealed logs.

use stallmesh_protocol::checkpoint::{LogUpdate, ProvenLeaf};
use stallmesh_protocol::membership::{Coverage, Position};
use stallmesh_protocol::payload::{self};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, Head, Kind, Lane, LogName};

use crate::engine::Engine;
use crate::engine::logs::Run;
use crate::store::{Store, Table};

impl<S: Store> Engine<S> {
    /// Continues the newest checkpoint's numbers after a start.
    pub(crate) fn load_checkpoints(&mut self) {
        if !self.is_hub() {
            return;
        }
        use prost::Message;
        let kept = self.overlay.scan_prefix(Table::Checkpoints, b"p");
        for (key, value) in self.guard(kept).unwrap_or_default() {
            if let Ok(leaf) = ProvenLeaf::from_bytes(&value) {
                // One that a closing relied on stands under its checkpoint, too.
                if key.len() > 1 + 32 {
                    self.views.inherit_leaf(leaf);
                } else {
                    self.views.insert_leaf(leaf);
                }
            }
        }
        self.refresh();
        let newest = self.views.coverage.newest();
        let kept = self.overlay.scan_prefix(Table::Checkpoints, b"n");
        for (key, value) in self.guard(kept).unwrap_or_default() {
            let number = key.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
            if let (Some(number), Ok(message)) = (number, payload::InputLog::decode(value.as_slice()))
                && let (Ok(author), Ok(incarnation)) =
                    (message.author.as_slice().try_into(), message.incarnation.as_slice().try_into())
            {
                let log = LogName { author, incarnation, lane: Lane(message.lane) };
                let leaf = stallmesh_protocol::checkpoint::Leaf {
                    number,
                    log: self.logs.id(&log),
                    // What a checkpoint named stays named.
                    standing: newest.and_then(|newest| self.views.coverage.standing_at(newest, &log)),
                    received: Vec::new(),
                };
                self.checkpoints.restore(log, leaf);
            }
        }
        self.checkpoints.restore_chain(self.views.coverage.chain_of_newest());
        self.schedule_checkpoint();
    }

    pub(super) fn schedule_checkpoint(&mut self) {
        if self.is_hub() {
            self.checkpoint_at.get_or_insert(self.now.monotonic_ms + self.settings.checkpoint_every_ms);
        }
    }

    pub(crate) fn hub_tick(&mut self) {
        if self.checkpoint_at.is_some_and(|at| at <= self.now.monotonic_ms) {
            self.checkpoint_at = None;
            if self.is_hub() {
                self.recovery_tick();
                self.restoration_tick();
                self.checkpoint();
                self.release_closed();
                self.hand_over_unreleased();
                self.schedule_checkpoint();
            }
        }
    }

    /// Whether checkpoints are another's to write: this hub doesn't know yet what there is, or one that began later has
    /// taken over. Whoever begins takes a new epoch, so of two writers the later one goes on.
    pub(super) fn is_fenced(&self) -> bool {
        let own = self.device.id();
        let has_written = self.writers.contains_key(&Lane::CHECKPOINT);
        self.recovery.is_waiting() || (has_written && self.views.newest_checkpoint_by().is_some_and(|by| by != own))
    }

    /// Writes a checkpoint where something changed since the last one.
    pub(crate) fn checkpoint(&mut self) {
        if self.is_fenced() {
            return;
        }
        let held_back = self.held_back();
        let waits = |name: &LogName| name.lane.is_kept_by_all() && held_back.contains(&(name.author, name.incarnation));
        let updates: Vec<LogUpdate> = self
            .logs
            .iter()
            // A checkpoint doesn't cover its own lane: it would never come to rest.
            .filter(|(name, _)| name.lane != Lane::CHECKPOINT && !waits(name))
            .map(|(name, record)| LogUpdate {
                log: *name,
                id: record.id,
                standing: self.standing_head(name, &record.runs),
                received: record.runs.iter().map(Run::interval).collect(),
            })
            .collect();
        for update in updates {
            self.checkpoints.update(update);
        }
        // One checkpoint lists so many changes; each takes some of what waits.
        while self.checkpoints.is_changed() && self.write_checkpoint() {}
    }

    fn write_checkpoint(&mut self) -> bool {
        let last = self.views.coverage.latest().map(|(checkpoint, hash)| (checkpoint.clone(), hash));
        // The store's lock fences the epoch of a hub that runs in one process: a new process takes the next one.
        let epoch = match (&last, self.writers.contains_key(&Lane::CHECKPOINT)) {
            (Some((checkpoint, _)), true) => checkpoint.epoch,
            (Some((checkpoint, _)), false) if planted::is_on(Bug::EpochUnfenced) => checkpoint.epoch,
            (Some((checkpoint, _)), false) => checkpoint.epoch.saturating_add(1).max(self.recovery.fence()),
            (None, _) => self.recovery.fence().max(1),
        };
        let time = self.time();
        let revocations = self.views.membership.revision();
        let coverage = &self.views.coverage;
        let (checkpoint, spoken_of) = self.checkpoints.next(
            last.as_ref().map(|(checkpoint, hash)| (checkpoint, *hash)),
            epoch,
            time,
            revocations,
            |name, number| coverage.numbers(name, number),
        );
        let held = match self.append_public(Lane::CHECKPOINT, Kind::CHECKPOINT, checkpoint.to_payload()) {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "a checkpoint could not be written");
                return false;
            }
        };
        self.keep_numbers(&spoken_of);
        self.keep_leaves(held.hash, &spoken_of);
        self.refresh();
        true
    }

    /// Keeps the numbers of logs, for a writer that continues.
    fn keep_numbers(&mut self, logs: &[LogName]) {
        use prost::Message;
        for name in logs {
            let Some(number) = self.checkpoints.number(name) else { continue };
            let key = [b"n".as_slice(), &number.to_be_bytes()].concat();
            let known = self.overlay.get(Table::Checkpoints, &key);
            if self.guard(known).flatten().is_none() {
                let message = payload::InputLog {
                    author: name.author.as_bytes().to_vec(),
                    incarnation: name.incarnation.as_bytes().to_vec(),
                    lane: name.lane.0,
                    intervals: Vec::new(),
                };
                self.overlay.put(Table::Checkpoints, key, message.encode_to_vec());
            }
        }
    }

    /// Keeps what a checkpoint says of sealed logs, which it doesn't list: whoever settles, or recomputes a settlement,
    /// must know what it named as standing.
    fn keep_leaves(&mut self, checkpoint: Hash, logs: &[LogName]) {
        for log in logs.iter().filter(|log| log.lane.is_sealed()) {
            let Some((leaf, path)) = self.checkpoints.proof(log) else { continue };
            let named = self.views.leaf_of(log).and_then(|known| known.leaf.standing);
            if leaf.standing.is_none() || leaf.standing == named {
                continue;
            }
            let leaf = ProvenLeaf { checkpoint, log: *log, leaf: leaf.clone(), path };
            let key = [b"p".as_slice(), leaf.leaf.log.as_bytes()].concat();
            self.overlay.put(Table::Checkpoints, key, leaf.to_bytes());
            self.views.insert_leaf(leaf);
        }
    }

    /// The newest entry of a log that stands.
    fn standing_head(&self, name: &LogName, runs: &[Run]) -> Option<Head> {
        let head = runs.iter().find(|run| run.from == 1)?.head();
        let at = |head: Head| Position { log: *name, sequence: head.sequence, hash: head.hash };
        let stands =
            |head: Head| self.views.membership.stands(&at(head), &self.views.coverage, &self.ancestry()).is_ok();
        if stands(head) {
            return Some(head);
        }
        // Lines and quarantines cut a log at one place: below it everything stands.
        let (mut low, mut high) = (0, head.sequence);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            let hash = self.logs.hash_at(&self.overlay, name, middle).ok().flatten()?;
            if stands(Head { sequence: middle, hash }) { low = middle } else { high = middle }
        }
        let hash = self.logs.hash_at(&self.overlay, name, low.max(1)).ok().flatten()?;
        (low > 0).then_some(Head { sequence: low, hash })
    }
}
