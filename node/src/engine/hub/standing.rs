//! What checkpoints said of sealed logs, in the ledger: checkpoints don't list them, and whoever works a closing out again
//! must judge as its author did.

use stallmesh_protocol::Kind;
use stallmesh_protocol::Lane;
use stallmesh_protocol::certificate::Role;
use stallmesh_protocol::checkpoint::ProvenLeaf;
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::payload::{self, encode};

use crate::engine::author::Parts;
use crate::engine::logs::Held;
use crate::engine::{Engine, EngineError};
use crate::store::{Store, StoreError, Table};

/// Bytes of leaves in one entry.
const LEAVES_BYTES_MAX: usize = 48 * 1024;

impl<S: Store> Engine<S> {
    /// Every entry of a kind that is held of hubs' ledgers.
    pub(super) fn ledger_entries(&self, kind: Kind) -> Result<Vec<Held>, StoreError> {
        let hubs = self
            .logs
            .on_lane(Lane::LEDGER)
            .filter(|(name, _)| self.views.membership.role(&name.author) == Some(Role::Hub));
        let mut found = Vec::new();
        for (name, record) in hubs {
            for run in &record.runs {
                let entries = self.logs.entries(&self.overlay, name, run, run.from, run.to, usize::MAX)?;
                found.extend(entries.into_iter().filter(|held| held.entry.kind == kind));
            }
        }
        Ok(found)
    }

    /// Writes the leaves that a closing relies on: of devices against which something is held. All others stand anyway.
    pub(super) fn write_standing(&mut self) -> Result<(), EngineError> {
        let judged = self.views.leaves().filter(|leaf| self.views.is_judged(&leaf.log.author));
        let mut chunks: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut room = 0;
        for leaf in judged.map(ProvenLeaf::to_bytes) {
            if leaf.len() > room || chunks.is_empty() {
                chunks.push(Vec::new());
                room = LEAVES_BYTES_MAX;
            }
            room = room.saturating_sub(leaf.len() + 8);
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(leaf);
            }
        }
        for leaves in chunks {
            let parts = Parts { money: Some(encode(&payload::Standing { leaves })), personal: None };
            let held = self.append_sealed(Lane::LEDGER, Kind::STANDING, &parts)?;
            self.books.standing_read.insert(held.hash);
        }
        Ok(())
    }

    /// Takes in what the ledgers that are held say of sealed logs. True where something was new.
    pub(super) fn take_in_standing(&mut self) -> bool {
        let entries = self.ledger_entries(Kind::STANDING);
        let mut new = false;
        for held in self.guard(entries).unwrap_or_default() {
            if self.books.standing_read.contains(&held.hash) {
                continue;
            }
            // What can't be opened yet is tried again with whatever comes next.
            let Ok(bytes) = self.open_part(&held, Part::Money) else { continue };
            self.books.standing_read.insert(held.hash);
            let Ok(message) = payload::decode::<payload::Standing>("standing", &bytes) else { continue };
            for leaf in message.leaves.iter().filter_map(|leaf| ProvenLeaf::from_bytes(leaf).ok()) {
                new |= self.keep_inherited_leaf(leaf);
            }
        }
        new
    }

    /// A leaf proves itself under its checkpoint's root: whoever brings it need not be believed.
    fn keep_inherited_leaf(&mut self, leaf: ProvenLeaf) -> bool {
        let key = [b"p".as_slice(), leaf.leaf.log.as_bytes(), leaf.checkpoint.as_bytes()].concat();
        let bytes = leaf.to_bytes();
        let new = self.views.inherit_leaf(leaf);
        if new {
            self.overlay.put(Table::Checkpoints, key, bytes);
        }
        new
    }
}
