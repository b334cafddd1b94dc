//! What must hold of people: who was not let in has no say, and nobody answers for what another did.

use std::collections::BTreeSet;

use stallmesh_node::store::{Direction, Store, Table};
use stallmesh_protocol::DeviceId;

use super::invariants::{Broken, Invariant};
use super::{Day, Rare};

impl Day {
    /// I7: members are those whom somebody let in, and of others nothing is even kept.
    pub(super) fn i7_nobody_counts_who_was_not_let_in(&mut self, node: usize) -> Result<(), Broken> {
        if !self.runs(node) || !self.truth.is_honest(node) {
            return Ok(());
        }
        let wanted: BTreeSet<DeviceId> = (0..self.truth.devices.len())
            .filter(|device| self.truth.devices[*device].wanted)
            .map(|device| self.simulation.nodes[device].id())
            .collect();
        for member in self.simulation.members(node) {
            if !wanted.contains(&member.device) {
                let what = format!("node {node} takes {} for a member: {member:?}", member.device);
                return Err(Broken::new(Invariant::MembersOnly, what));
            }
        }
        let strangers: BTreeSet<DeviceId> = (0..self.truth.devices.len())
            .filter(|device| self.truth.devices[*device].stranger)
            .map(|device| self.simulation.nodes[device].id())
            .collect();
        if strangers.is_empty() {
            return Ok(());
        }
        let disk = &self.simulation.nodes[node].disk;
        let logs = disk.scan(Table::Logs, &[], &[0xff; 129], usize::MAX, Direction::Forward).unwrap_or_default();
        let authors = logs.iter().filter_map(|(_, value)| DeviceId::try_from(value.get(..32)?).ok());
        match authors.into_iter().find(|author| strangers.contains(author)) {
            Some(author) => {
                Err(Broken::new(Invariant::MembersOnly, format!("node {node} keeps a log of a stranger: {author}")))
            }
            None => Ok(()),
        }
    }

    /// I8: no honest device is taken for a revoked one or a cheat, and an honest hub for one that tells two stories.
    pub(super) fn i8_nobody_is_accused(&mut self, node: usize) -> Result<(), Broken> {
        if !self.runs(node) || !self.truth.is_honest(node) {
            return Ok(());
        }
        for member in self.simulation.members(node) {
            let same = (0..self.truth.devices.len())
                .filter(|device| self.simulation.nodes[*device].id() == member.device)
                .collect::<Vec<_>>();
            let revoked = same.iter().any(|device| self.truth.devices[*device].revoked);
            let honest = same.iter().all(|device| self.truth.is_honest(*device));
            if (member.state == "revoked" && !revoked) || (member.state == "quarantined" && honest) {
                let what = format!("node {node} takes nodes {same:?}, which did nothing, for {}", member.state);
                return Err(Broken::new(Invariant::NoPunishment, what));
            }
        }
        match self.simulation.status(node).notices.iter().find(|notice| notice.contains("two stories")) {
            Some(_) if self.truth.two_stories => {
                self.reached.insert(Rare::TwoStories);
                Ok(())
            }
            Some(notice) => Err(Broken::new(Invariant::NoPunishment, format!("node {node} says: {notice}"))),
            None => Ok(()),
        }
    }

    /// Devices that don't keep to the rules.
    pub(super) fn cheats(&self) -> BTreeSet<DeviceId> {
        (0..self.truth.devices.len())
            .filter(|device| !self.truth.is_honest(*device))
            .map(|device| self.simulation.nodes[device].id())
            .collect()
    }

    /// I7: of a revoked device what the hub held then, or when it was raised, stands, and nothing later.
    pub(super) fn i7_a_line_parts_what_stands(&mut self) -> Result<(), Broken> {
        // A hub that came back from an older copy may have lost its own word.
        if !self.runs(0) || self.truth.hub_lost_before > 0 {
            return Ok(());
        }
        for device in 0..self.truth.devices.len() {
            let state = &self.truth.devices[device];
            let Some(line) = state.line.clone() else { continue };
            // Whose own fault nothing is, and whose certificate nothing else could end.
            let raised = state.raised && self.truth.is_honest(device) && !state.copied && !state.clock_was_off;
            let raised = raised && state.owner.is_none() && state.lost_before == 0;
            let id = self.simulation.nodes[device].id();
            for entry in self.simulation.entries(0, id) {
                let last = line.get(&(entry.incarnation.clone(), entry.lane.clone())).copied().unwrap_or(0);
                if entry.standing == "stands" && entry.sequence > last {
                    let what = format!("of revoked node {device} {entry:?} stands, beyond {last}");
                    return Err(Broken::new(Invariant::MembersOnly, what));
                }
                if raised && entry.standing != "stands" && entry.sequence <= last && entry.lane == "sales" {
                    let what = format!("of node {device}, raised to {last}, {entry:?} doesn't stand");
                    return Err(Broken::new(Invariant::MembersOnly, what));
                }
            }
        }
        Ok(())
    }
}
