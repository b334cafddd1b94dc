//! What must hold of the money: whatever was sold counts once, as what its caller was told, and stays so.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_node::engine::{Answer, Recomputed, Request, SaleView, SettlementView, recompute};
use stallmesh_node::hub::ledger::Row;
use stallmesh_node::hub::reconcile::Outcome;

use super::Day;
use super::invariants::{Broken, Invariant};
use super::truth::{Settled, Sold};

impl Day {
    /// A settlement sums to zero, is new, and says what its own export says to anybody, in any order.
    pub(super) fn check_settlement(&mut self, settled: &SettlementView) -> Result<(), Broken> {
        if settled.sums.iter().any(|(_, sum)| *sum != 0) {
            return Err(Broken::new(Invariant::SumsToZero, format!("{:?}", settled.sums)));
        }
        if self.truth.settled.iter().any(|known| known.number >= settled.number) {
            let last = self.truth.settled.last().map(|known| known.number);
            let what = format!("settlement {} came after {last:?}", settled.number);
            return Err(Broken::new(Invariant::PostedOnce, what));
        }
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        for statement in &settled.statements {
            for balance in statement.body["balances"].as_array().into_iter().flatten() {
                let account = balance[0].as_str().unwrap_or_default().to_owned();
                *sums.entry(account).or_insert(0) += balance[1].as_i64().unwrap_or(0);
            }
        }
        self.truth.settled.push(Settled { number: settled.number, sums });
        let export = self.simulation.export(0);
        for order in [0, 1] {
            let recomputed = recompute(export.as_slice(), Some(self.simulation.root), order)
                .map_err(|error| Broken::new(Invariant::SettlementOfTheSet, error.to_string()))?;
            let digest = recomputed.reconciliation.digest().to_string();
            if digest != settled.digest {
                let what = format!("settlement {} has digest {}, recomputed {digest}", settled.number, settled.digest);
                return Err(Broken::new(Invariant::SettlementOfTheSet, what));
            }
            self.i2_each_sale_is_posted_once(&recomputed)?;
            self.i4_rows_stay_as_they_are(&recomputed)?;
        }
        Ok(())
    }

    /// A sale adds up, and nothing is taken off that nobody gave; what was taken off, by promotion.
    pub(super) fn i15_costs_what_was_given(
        &self,
        device: usize,
        sale: &SaleView,
    ) -> Result<BTreeMap<String, u64>, Broken> {
        let wrong = |what: &str| Broken::new(Invariant::Priced, format!("node {device}: {what}: {sale:?}"));
        let mut off: BTreeMap<String, u64> = BTreeMap::new();
        let stall = &self.truth.devices[device].stall;
        for line in sale.lines.iter().map(|line| &line.line) {
            let mut left = line.gross;
            for reduction in &line.reductions {
                let giver = if &*reduction.promotion == "MARKET" { "" } else { stall };
                let given = self.truth.promotions.get(&(giver.to_owned(), reduction.promotion.to_string()));
                let is_given = given.is_some_and(|given| {
                    given.iter().any(|(percent, _)| percentage(left, *percent) == reduction.amount)
                });
                if !is_given {
                    return Err(wrong("takes off what nobody gave"));
                }
                left = left.saturating_sub(reduction.amount);
                *off.entry(reduction.promotion.to_string()).or_insert(0) += reduction.amount;
            }
            if line.net != left {
                return Err(wrong("a line doesn't add up"));
            }
        }
        let net: u64 = sale.lines.iter().map(|line| line.line.net).sum();
        if sale.subtotal != net + sale.reduction || sale.reduction != off.values().sum::<u64>() || sale.total != net {
            return Err(wrong("it doesn't add up"));
        }
        Ok(off)
    }

    /// A sale id is posted once, and its rows are what its caller was told.
    fn i2_each_sale_is_posted_once(&self, recomputed: &Recomputed) -> Result<(), Broken> {
        let rows = rows_by_entry(&recomputed.reconciliation.rows);
        let mut posted: BTreeMap<&str, u64> = BTreeMap::new();
        for sale in &recomputed.sales {
            let outcome = recomputed.reconciliation.outcomes.get(&sale.at);
            if !matches!(outcome, Some((_, Outcome::Posted))) {
                continue;
            }
            *posted.entry(&sale.sale).or_insert(0) += 1;
            let Some(known) = self.truth.sales.get(&sale.sale) else { continue };
            if known.total != sale.total && !known.before.contains(&sale.total) {
                let what = format!("sale {} of {known:?} is posted as {}", sale.sale, sale.total);
                return Err(Broken::new(Invariant::PostedOnce, what));
            }
            let name = stallmesh_node::hub::reconcile::entry_name(&sale.at);
            let of_entry = rows.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let given = self.truth.promotions.get(&(String::new(), "MARKET".to_owned()));
            if known.total == sale.total && !says(known, given, of_entry) {
                let what = format!("sale {} of {known:?} is posted as {of_entry:?}", sale.sale);
                return Err(Broken::new(Invariant::PostedOnce, what));
            }
            let author = sale.at.log.author;
            let line = self
                .truth
                .devices
                .iter()
                .zip(&self.simulation.nodes)
                .find_map(|(device, node)| device.line.as_ref().filter(|_| node.id() == author));
            let log = (sale.at.log.incarnation.to_string(), sale.at.log.lane.to_string());
            if let Some(line) = line
                && self.truth.hub_lost_before == 0
                && sale.at.sequence > line.get(&log).copied().unwrap_or(0)
            {
                let what = format!("sale {} of node {} lies beyond the line and is posted", sale.sale, known.device);
                return Err(Broken::new(Invariant::MembersOnly, what));
            }
        }
        match posted.iter().find(|(_, times)| **times != 1) {
            Some((sale, times)) => {
                Err(Broken::new(Invariant::PostedOnce, format!("sale {sale} is posted {times} times")))
            }
            None => Ok(()),
        }
    }

    /// What a settlement has posted, a later one posts alike, or not at all: no decision of today changes what a sale
    /// came to.
    fn i4_rows_stay_as_they_are(&mut self, recomputed: &Recomputed) -> Result<(), Broken> {
        for (entry, rows) in rows_by_entry(&recomputed.reconciliation.rows) {
            if rows.iter().any(|(account, _)| account.starts_with("suspense")) {
                continue;
            }
            let known = self.truth.rows.entry(entry.to_owned()).or_insert_with(|| rows.clone());
            if *known != rows {
                let what = format!("{entry} was posted as {known:?}, and is as {rows:?}");
                return Err(Broken::new(Invariant::SettlementOfTheSet, what));
            }
        }
        Ok(())
    }

    /// At the end whatever an honest member sold is posted, and what it takes to do so is nobody's decision.
    pub(super) fn i2_honest_sales_are_posted(&self, recomputed: &Recomputed) -> Result<(), Broken> {
        let mut outcomes: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
        for sale in &recomputed.sales {
            let outcome = recomputed.reconciliation.outcomes.get(&sale.at).map(|(_, outcome)| outcome);
            outcomes.entry(&sale.sale).or_default().extend(outcome);
        }
        for (id, sale) in &self.truth.sales {
            let Some(outcomes) = outcomes.get(id.as_str()).filter(|_| self.is_plain(sale.device)) else { continue };
            let state = &self.truth.devices[sale.device];
            let gaps = state.gone || state.copied || state.lost_before > 0;
            let fair = outcomes.iter().any(|outcome| match outcome {
                Outcome::Posted | Outcome::Repeats(_) => true,
                // What was lost before it is no fault of its own.
                Outcome::Suspense { reason, .. } => gaps && reason == "orphan",
                Outcome::NotReal => false,
            });
            if !fair {
                let what = format!("sale {id} of node {} is not posted: {outcomes:?}", sale.device);
                return Err(Broken::new(Invariant::PostedOnce, what));
            }
        }
        Ok(())
    }

    /// Honest, never revoked, and let in by somebody of whom the same holds.
    pub(super) fn is_plain(&self, device: usize) -> bool {
        let state = &self.truth.devices[device];
        let same_key = |other: &usize| self.simulation.nodes[*other].id() == self.simulation.nodes[device].id();
        let honest = (0..self.truth.devices.len()).filter(same_key).all(|other| self.truth.is_honest(other));
        honest && !state.revoked && state.owner.is_none_or(|owner| owner != device && self.is_plain(owner))
    }

    /// What settlements have published adds up to the ledger as it stands.
    pub(super) fn i2_statements_add_up(&mut self) -> Result<(), Broken> {
        let Answer::Ledger(ledger) = self.simulation.ask(0, Request::Ledger) else { return Ok(()) };
        let mut published: BTreeMap<&str, i64> = BTreeMap::new();
        for (account, sum) in self.truth.settled.iter().flat_map(|settled| &settled.sums) {
            *published.entry(account).or_insert(0) += sum;
        }
        for (account, _, sum) in &ledger.balances {
            let said = published.get(account.as_str()).copied().unwrap_or(0);
            if said != *sum && !account.starts_with("suspense") && !self.truth.settlements_uncertain {
                let what = format!("{account}: statements say {said}, the ledger {sum}");
                return Err(Broken::new(Invariant::PostedOnce, what));
            }
        }
        Ok(())
    }

    /// The hub is about to come back from an older copy: what it closed and hasn't released may be gone with it, and
    /// what it received it may ask for again.
    pub(super) fn forget_settlements(&mut self, device: usize) {
        if device != 0 {
            return;
        }
        self.truth.hub_lost_before = self.simulation.now + 1;
        let Answer::Ledger(ledger) = self.simulation.ask(0, Request::Ledger) else {
            self.truth.settlements_uncertain |= !self.truth.settled.is_empty();
            return;
        };
        let released = |settled: &Settled| settled.number <= ledger.settlements;
        self.truth.settlements_uncertain |= !self.truth.settled.iter().all(released);
        self.truth.settled.retain(released);
    }
}

/// Half up.
fn percentage(amount: u64, percent: u64) -> u64 {
    (amount * percent + 50) / 100
}

/// Whether an entry's rows say what its caller was told: the whole was taken, the tax is owed, and the market pays a
/// share of its promotion that it has ever said.
fn says(sale: &Sold, given: Option<&BTreeSet<(u64, u64)>>, rows: &[(String, i64)]) -> bool {
    let sum = |of: &[&str]| -> i64 {
        let rows = rows.iter().filter(|(account, _)| of.iter().any(|name| account.starts_with(name)));
        rows.map(|(_, amount)| amount).sum()
    };
    let (taken, tax) = (sum(&["cash-held", "gateway-clearing"]), sum(&["tax"]));
    let paid = sum(&["market-promotions"]);
    let off = sale.reductions.get("MARKET").copied().unwrap_or(0);
    let pays_its_share = match off {
        0 => paid == 0,
        // What a change of shares has not reached yet is settled by what was said before.
        _ => given.is_some_and(|given| {
            given.iter().any(|(_, borne)| percentage(off, *borne).cast_signed() == paid) || paid == 0
        }),
    };
    (taken, -tax) == (sale.total.cast_signed(), sale.tax.cast_signed()) && pays_its_share
}

fn rows_by_entry(rows: &[Row]) -> BTreeMap<&str, Vec<(String, i64)>> {
    let mut by_entry: BTreeMap<&str, Vec<(String, i64)>> = BTreeMap::new();
    for row in rows {
        by_entry.entry(&row.entry).or_default().push((row.account.clone(), row.amount));
    }
    by_entry
}
