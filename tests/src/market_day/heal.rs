//! The end of a day: faults cease, and within a bound that follows from the market's size everything is where it belongs.

use std::collections::BTreeSet;

use stallmesh_node::engine::{Answer, ExplainSubject, Request};

use super::fault::Kind;
use super::invariants::{Broken, Invariant, holds};
use super::{Day, Rare};
use crate::simulation::{Beliefs, Conditions, SILENCE_MS};

/// The longest back-off of a dialler in the market.
const BACKOFF_MAX_MS: u64 = 30_000;
/// The longest back-off of a dialler that looks for a hub, and its patience with one that doesn't answer.
const HUB_BACKOFF_MAX_MS: u64 = 3_000;
/// After a refusal without a time it is tried again.
const REFUSED_MS: u64 = 5_000;
/// Between two checkpoints.
const CHECKPOINT_MS: u64 = 2_000;
/// A page travels, is verified, and is asked on from.
const PAGE_MS: u64 = 30;
/// How often it is looked whether all is well.
const LOOK_MS: u64 = 5_000;
/// More batches than a day closes.
const SETTLEMENTS_MAX: usize = 20;

impl Day {
    /// How long healing may take: links are noticed as dead, and made again; what is missing travels, page by page, over
    /// as many links as there are nodes in a row; what was refused is offered again; two checkpoints cover it.
    fn bound_ms(&self) -> u64 {
        let nodes = self.simulation.nodes.len() as u64;
        let sales = self.truth.sales.len() as u64;
        let entries = 40 * nodes + 2 * sales;
        SILENCE_MS
            + 2 * BACKOFF_MAX_MS
            + HUB_BACKOFF_MAX_MS
            + 2 * REFUSED_MS
            + 3 * CHECKPOINT_MS
            + nodes * CHECKPOINT_MS / 2
            + entries * PAGE_MS
    }

    fn end_faults(&mut self) -> Result<(), Broken> {
        self.later.clear();
        let nodes = self.simulation.nodes.len();
        self.simulation.network.usual = Conditions::default();
        for one in 0..nodes {
            for other in 0..nodes {
                self.simulation.network.set_conditions(one, other, None);
                self.simulation.network.unsilence(self.simulation.now, one, other);
            }
        }
        for node in 0..nodes {
            self.simulation.resume(node);
            if self.simulation.reform(node) {
                self.simulation.kill(node);
            }
            let state = &mut self.truth.devices[node];
            state.cut_again = None;
            let lied = state.lost_before > 0;
            let sim = &mut self.simulation.nodes[node];
            (sim.clock_error, sim.clock_stands_at) = (0, None);
            if let Some(medium) = sim.disk.medium() {
                medium.set_room(None);
                if lied {
                    medium.lie(false);
                }
            }
        }
        self.simulation.heal();
        for _ in 0..4 {
            self.start_whoever_is_down()?;
        }
        self.simulation.uplink(1, true);
        Ok(())
    }

    /// A cut or a failing sync that hasn't struck yet, may still: its owner starts it again. And a new hub may not have been
    /// there when somebody asked to be let in again.
    fn start_whoever_is_down(&mut self) -> Result<(), Broken> {
        for node in 0..self.simulation.nodes.len() {
            let wanted = self.truth.devices[node].wanted && !self.truth.devices[node].gone;
            if wanted && self.simulation.nodes[node].engine.is_none() {
                self.start(node)?;
            } else if wanted {
                self.join_anew(node);
            }
        }
        Ok(())
    }

    pub(super) fn heal(&mut self) -> Result<(), Broken> {
        self.end_faults()?;
        self.everybody_sells()?;
        let bound = self.bound_ms();
        let began = self.simulation.now;
        loop {
            let now = self.simulation.now;
            self.pass_until(now + LOOK_MS)?;
            self.start_whoever_is_down()?;
            let took = self.simulation.now - began;
            match self.is_whole() {
                Ok(()) => {
                    self.healed_percent = took * 100 / bound;
                    break;
                }
                Err(broken) if took >= bound => return Err(self.explained(broken)),
                Err(_) => {}
            }
        }
        for node in 0..self.simulation.nodes.len() {
            self.i7_strangers_have_no_effect(node)?;
            self.i7_nobody_counts_who_was_not_let_in(node)?;
            self.i8_nobody_is_accused(node)?;
            self.i17_what_waits_was_taken(node)?;
            self.i11_nobody_talks_without_end(node)?;
            self.note_alarms(node);
        }
        if self.fired.contains_key(&Kind::Burned) {
            self.reached.insert(Rare::TakenOver);
        }
        self.i18_tills_of_a_stall_agree_on_what_is_left()?;
        self.i7_a_line_parts_what_stands()?;
        self.i19_nobody_is_charged_for_nothing()?;
        self.i1_what_survived_counts(bound)
    }

    /// With what nodes themselves say of a sale that hasn't arrived.
    fn explained(&mut self, mut broken: Broken) -> Broken {
        let missing =
            self.truth.sales.values().find(|sale| !holds(&self.simulation.nodes[0].disk, &sale.entry)).cloned();
        let Some(sale) = missing else { return broken };
        let Some(hash) = self.simulation.witness.hash_at(sale.entry.0, sale.entry.1) else { return broken };
        broken.detail += &format!(" ({:?} {})", sale.entry.0, sale.entry.1);
        for node in std::iter::once(0).chain(self.holders(&sale.entry)) {
            if self.runs(node) {
                let view = self.simulation.explain(node, ExplainSubject::Entry(hash));
                broken.detail += &format!("\nnode {node} says: {}", view.because.join(" "));
            }
        }
        broken
    }

    /// What a node tells its owner.
    fn note_alarms(&mut self, node: usize) {
        if self.runs(node) {
            let notices = self.simulation.status(node).notices.join("\n");
            for (words, rare) in [("two copies", Rare::CloneNoticed), ("two histories", Rare::ForkProved)] {
                if notices.contains(words) {
                    self.reached.insert(rare);
                }
            }
        }
    }

    /// Nodes that must agree: those that run, were let in, and keep to the rules.
    pub(super) fn counted(&self) -> Vec<usize> {
        (0..self.simulation.nodes.len())
            .filter(|node| self.simulation.nodes[*node].engine.is_some() && self.truth.is_honest(*node))
            .filter(|node| !self.truth.devices[*node].revoked && !self.truth.devices[*node].gone)
            .filter(|node| self.truth.devices[*node].wanted)
            .collect()
    }

    /// Helpers whom somebody let in who was revoked already and didn't know, or had forked: no members, as the hub sees it.
    /// What they sold stays on their own disks until the hub raises the line of whoever let them in.
    fn let_in_in_vain(&mut self) -> BTreeSet<usize> {
        let members: BTreeSet<_> = self.simulation.members(0).into_iter().map(|member| member.device).collect();
        (0..self.truth.devices.len())
            .filter(|device| self.truth.devices[*device].owner.is_some_and(|owner| !self.is_plain(owner)))
            .filter(|device| !members.contains(&self.simulation.nodes[*device].id()))
            .collect()
    }

    /// I6 and I13: all honest nodes believe the same, and the hub has every sale that survives.
    fn is_whole(&mut self) -> Result<(), Broken> {
        let counted = self.counted();
        let in_vain = self.let_in_in_vain();
        for (id, sale) in &self.truth.sales {
            let received = holds(&self.simulation.nodes[0].disk, &sale.entry) || in_vain.contains(&sale.device);
            if !received && self.holders(&sale.entry).iter().any(|node| counted.contains(node)) {
                let holders = self.holders(&sale.entry);
                let what = format!("sale {id} of node {} is on {holders:?}", sale.device);
                return Err(Broken::new(Invariant::Convergence, what));
            }
        }
        let expired = |simulation: &mut crate::simulation::Simulation, node: usize| {
            let id = simulation.nodes[node].id();
            let members = simulation.members(0);
            let state = members.into_iter().find(|member| member.device == id).map(|member| member.state);
            state.is_none_or(|state| state != "valid")
        };
        let mut first: Option<(usize, Beliefs)> = None;
        for node in counted {
            if node != 0 && expired(&mut self.simulation, node) {
                continue;
            }
            let beliefs = self.simulation.beliefs(node);
            let led = self.truth.devices[node].clock_was_off;
            let alike = |known: &Beliefs| match led {
                true => known.without_expiry() == beliefs.without_expiry(),
                false => *known == beliefs,
            };
            match &first {
                None => first = Some((node, beliefs)),
                Some((other, known)) if !alike(known) => {
                    let invariant =
                        if known.standing == beliefs.standing { Invariant::Convergence } else { Invariant::Agreement };
                    let what = known.differs_from(&beliefs);
                    return Err(Broken::new(invariant, format!("nodes {other} and {node}: {what}")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Why the hub can't settle, as it says.
    fn ledger_problem(&mut self) -> String {
        match self.simulation.ask(0, Request::Ledger) {
            Answer::Ledger(ledger) => ledger.problem,
            _ => "it doesn't answer".into(),
        }
    }

    /// I1: what was acknowledged, and survives where it was promised to, is posted or stands in suspense.
    fn i1_what_survived_counts(&mut self, bound: u64) -> Result<(), Broken> {
        let mut settled = self.settle()?;
        for _ in 0..4 {
            if settled.is_some() || self.runs(0) {
                break;
            }
            self.start_whoever_is_down()?;
            self.pass_until(self.simulation.now + bound)?;
            settled = self.settle()?;
        }
        // All that survives is at the hub by now: what an earlier batch had read besides is on no disk any more, and an
        // operator who knows that says so.
        for _ in 0..SETTLEMENTS_MAX {
            let lost = self.ledger_problem();
            let Some(number) = lost.rsplit_once("accept-loss ").filter(|_| settled.is_none()) else { break };
            let number = number.1.trim_end_matches('`').parse().unwrap_or(0);
            self.simulation.ask(0, Request::AcceptLoss { settlement: number });
            settled = self.settle()?;
        }
        if settled.is_none() {
            let problem = self.ledger_problem();
            return Err(Broken::new(Invariant::Convergence, format!("the hub doesn't settle: {problem}")));
        }
        let export = self.simulation.export(0);
        let recomputed = stallmesh_node::engine::recompute(export.as_slice(), Some(self.simulation.root), 2)
            .map_err(|error| Broken::new(Invariant::SettlementOfTheSet, error.to_string()))?;
        let known: BTreeSet<&String> = recomputed.sales.iter().map(|sale| &sale.sale).collect();
        let market = self.simulation.market_id();
        let in_vain = self.let_in_in_vain();
        let mut missing = Vec::new();
        for (id, sale) in &self.truth.sales {
            let lost = sale.at < self.truth.devices[sale.device].lost_before;
            if lost && holds(&self.simulation.nodes[sale.device].disk, &sale.entry) {
                self.reached.insert(Rare::Recovered);
            }
            if known.contains(id) {
                if self.truth.devices[sale.device].gone {
                    self.reached.insert(Rare::Orphaned);
                }
                continue;
            }
            let state = &self.truth.devices[sale.device];
            let own_disk = !state.gone && !state.dishonest && sale.at >= state.lost_before;
            let own_disk = own_disk && !in_vain.contains(&sale.device);
            let carried = (0..self.simulation.nodes.len()).any(|node| {
                let (state, id) = (&self.truth.devices[node], self.simulation.nodes[node].id());
                let honest = self.truth.is_honest(node) && !state.gone && !state.copied;
                let promised = self.simulation.witness.promised(&id);
                honest
                    && promised.iter().any(|promise| {
                        promise.log == sale.entry.0 && (promise.from..=promise.to.1).contains(&sale.entry.1)
                    })
            });
            // What the hub had, and lost with its newer disk, it gets back from whoever still holds it.
            let received = self.simulation.witness.was_received(&sale.entry) && sale.at >= self.truth.hub_lost_before;
            if own_disk || carried || received {
                missing.push((id.clone(), sale.device, own_disk, carried, received));
            } else {
                self.reached.insert(Rare::LostWithAllCopies);
            }
        }
        if let Some(first) = missing.first() {
            let what = format!("{} sales are gone, first {first:?} (market {market})", missing.len());
            return Err(Broken::new(Invariant::NothingLost, what));
        }
        self.i2_honest_sales_are_posted(&recomputed)?;
        self.i2_statements_add_up()
    }
}
