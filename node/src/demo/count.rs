//! The counting process: reads what the shop side acknowledged, what the hub exported and what its log says of its
//! links, and says what became of each sale. It runs apart from everything that it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::DemoError;
use super::evidence::{Span, hub_links, meets, plugged};
use super::falsify::shuffled;
use super::journal::{Line, Said};
use crate::cli::market_key;
use crate::engine::{Recomputed, recompute};
use crate::hub::ledger::{Row, sums};
use crate::hub::reconcile::{Outcome, entry_name};

/// What the counting process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct CountArguments {
    /// The shop side's journal.
    #[arg(long)]
    pub(crate) journal: PathBuf,
    /// The hub's export.
    #[arg(long)]
    pub(crate) export: PathBuf,
    /// The hub's log, for its links.
    #[arg(long)]
    pub(crate) hub_log: PathBuf,
    /// The market's root key.
    #[arg(long)]
    pub(crate) market_key: String,
    /// Where to write the rows and states that the digest is over.
    #[arg(long)]
    pub(crate) rows: PathBuf,
}

/// What the process is told that recomputes in another order.
#[derive(Debug, clap::Args)]
pub(crate) struct RecomputeArguments {
    /// The hub's export.
    #[arg(long)]
    pub(crate) export: PathBuf,
    /// The market's root key.
    #[arg(long)]
    pub(crate) market_key: String,
    /// Where to write the rows and states that the digest is over.
    #[arg(long)]
    pub(crate) rows: PathBuf,
    /// Records and logs are taken in an order drawn from this number.
    #[arg(long)]
    pub(crate) order: u64,
}

/// Recomputes an export with its records in another order, and prints JSON.
#[allow(clippy::print_stdout, reason = "the result goes to the process that asked")]
pub(crate) fn recompute_apart(arguments: &RecomputeArguments) -> Result<(), DemoError> {
    let root = market_key(&arguments.market_key).map_err(DemoError::failed)?;
    let export = std::fs::read(&arguments.export).map_err(DemoError::io("the export"))?;
    let export = shuffled(&export, arguments.order)?;
    let result = recompute(export.as_slice(), Some(root), arguments.order).map_err(DemoError::failed)?;
    println!("{}", json!({ "digest": write_rows(&result, &arguments.rows)?, "entries": result.entries }));
    Ok(())
}

fn write_rows(result: &Recomputed, path: &Path) -> Result<String, DemoError> {
    std::fs::write(path, result.reconciliation.canonical_bytes()).map_err(DemoError::io(path.display()))?;
    Ok(result.reconciliation.digest().to_string())
}

fn percentiles(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((values.len() as f64 - 1.0) * share).round() as usize;
        (values.get(index).copied().unwrap_or_default() * 10.0).round() / 10.0
    };
    json!({ "p50": at(0.5), "p99": at(0.99) })
}

/// A sale that was acknowledged to a till.
#[derive(Default)]
struct Acknowledged {
    /// What it came to.
    sums: Sums,
    signals: u64,
    currency: String,
    /// (Node, device), of each node that acknowledged it.
    by: BTreeSet<(usize, String)>,
    /// When its first request was sent, and when it was answered.
    begun: u64,
    at: u64,
    /// Answers to one sale differed.
    differs: bool,
}

/// What a sale came to: by an answer to its till, or by its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    /// Minor units, without tips.
    total: u64,
    tip: u64,
    reduction: u64,
    /// Codes that acted.
    codes: u64,
}

impl Sums {
    /// What was paid for it.
    fn paid(&self) -> u64 {
        self.total.saturating_add(self.tip)
    }
}

/// What the shop side wrote down.
#[derive(Default)]
struct Acknowledgements {
    sales: BTreeMap<String, Acknowledged>,
    /// Alarms, and those that a vendor answered with "known".
    asked: u64,
    known: u64,
    /// Sales that a payment was declined for, one for each time.
    declined: Vec<String>,
    blocked: u64,
    split: u64,
    idle_codes: u64,
    received: BTreeMap<String, (u64, bool)>,
    record_ms: Vec<f64>,
    cables: BTreeMap<usize, Vec<(u64, bool)>>,
}

impl Acknowledgements {
    fn read(journal: &str) -> Result<Self, DemoError> {
        let mut result = Acknowledgements::default();
        for line in journal.lines() {
            match serde_json::from_str(line).map_err(|error| DemoError::Failed(format!("the journal: {error}")))? {
                Line::Recorded {
                    sale,
                    total,
                    tip,
                    reduction,
                    codes,
                    idle_codes,
                    parts,
                    signals,
                    currency,
                    node,
                    device,
                    begun,
                    at,
                    took_ms,
                    again,
                } => {
                    let sums = Sums { total, tip, reduction, codes };
                    // An answer from memory is no recording.
                    if !again {
                        result.record_ms.push(took_ms);
                    }
                    let first = !result.sales.contains_key(&sale);
                    let known = result.sales.entry(sale).or_default();
                    if first {
                        *known = Acknowledged { sums, signals, currency, begun, at, ..Acknowledged::default() };
                        result.split += u64::from(parts > 1);
                        result.idle_codes += idle_codes;
                    } else {
                        known.differs |= known.sums != sums || known.currency != currency;
                        (known.begun, known.at) = (known.begun.min(begun), known.at.min(at));
                    }
                    known.by.insert((node, device));
                }
                Line::Received { sale, at, asked } => {
                    result.received.entry(sale).or_insert((at, asked));
                }
                Line::Asked { answer, .. } => {
                    result.asked += 1;
                    result.known += u64::from(answer == Said::Known);
                }
                Line::Declined { sale, .. } => result.declined.push(sale),
                Line::Blocked { .. } => result.blocked += 1,
                Line::Uplink { node, up, at } => result.cables.entry(node).or_default().push((at, up)),
            }
        }
        Ok(result)
    }
}

/// What a sale's entry has in the ledger: what was paid, by currency.
fn paid<'a>(rows: impl Iterator<Item = &'a Row>) -> BTreeMap<String, BTreeMap<String, i128>> {
    let mut paid: BTreeMap<String, BTreeMap<String, i128>> = BTreeMap::new();
    for row in rows.filter(|row| row.account == "gateway-clearing" || row.account.starts_with("cash-held:")) {
        let sums = paid.entry(row.entry.clone()).or_default();
        *sums.entry(row.currency.clone()).or_insert(0) += i128::from(row.amount);
    }
    paid
}

/// Sums as JSON numbers; what doesn't fit is shown as the largest that does, and adds up with nothing.
fn small(sums: &BTreeMap<String, i128>) -> BTreeMap<&str, i64> {
    sums.iter().map(|(currency, sum)| (currency.as_str(), i64::try_from(*sum).unwrap_or(i64::MAX))).collect()
}

/// What many sales came to, by currency.
#[derive(Default)]
struct Totals {
    reductions: BTreeMap<String, u64>,
    tips: BTreeMap<String, u64>,
    codes: u64,
}

impl Totals {
    fn add(&mut self, currency: &str, sums: &Sums) {
        *self.reductions.entry(currency.to_owned()).or_insert(0) += sums.reduction;
        *self.tips.entry(currency.to_owned()).or_insert(0) += sums.tip;
        self.codes += sums.codes;
    }
}

/// Counts, and prints JSON.
#[allow(clippy::print_stdout, reason = "the result goes to the process that asked")]
pub(crate) fn count(arguments: &CountArguments) -> Result<(), DemoError> {
    let journal = std::fs::read_to_string(&arguments.journal).map_err(DemoError::io("the journal"))?;
    let export = std::fs::read(&arguments.export).map_err(DemoError::io("the export"))?;
    let hub_log = std::fs::read_to_string(&arguments.hub_log).map_err(DemoError::io("the hub's log"))?;
    let root = market_key(&arguments.market_key).map_err(DemoError::failed)?;
    let recomputed = recompute(export.as_slice(), Some(root), 0).map_err(DemoError::failed)?;
    let digest = write_rows(&recomputed, &arguments.rows)?;
    let mut counted = figures(&Acknowledgements::read(&journal)?, &recomputed, &hub_links(&hub_log));
    counted["digest_recomputed"] = digest.into();
    println!("{counted}");
    Ok(())
}

fn figures(shop: &Acknowledgements, exported: &Recomputed, links: &BTreeMap<String, Vec<Span>>) -> Value {
    // Which entries say a sale, and which of them were posted.
    let mut held: BTreeMap<&str, Vec<Sums>> = BTreeMap::new();
    let mut posted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let (mut told, mut by_entries) = (Totals::default(), Totals::default());
    for sale in &exported.sales {
        let (total, tip, reduction, codes) = (sale.total, sale.tip, sale.reduction, sale.codes as u64);
        let sums = Sums { total, tip, reduction, codes };
        held.entry(&sale.sale).or_default().push(sums);
        let outcome = exported.reconciliation.outcomes.get(&sale.at).map(|(_, outcome)| outcome);
        if outcome == Some(&Outcome::Posted) {
            posted.entry(&sale.sale).or_default().push(entry_name(&sale.at));
            by_entries.add(&sale.currency, &sums);
        }
    }
    let paid = paid(exported.reconciliation.rows.iter());
    let mut takings: BTreeMap<String, u64> = BTreeMap::new();
    let mut settled_minor: BTreeMap<String, i128> = BTreeMap::new();
    for sums in paid.values() {
        for (currency, sum) in sums {
            *settled_minor.entry(currency.clone()).or_insert(0) += sum;
        }
    }
    let (mut received, mut settled, mut lost, mut wrong, mut relayed, mut own_way) = (0, 0, 0, 0, 0, 0);
    for (sale, known) in &shop.sales {
        *takings.entry(known.currency.clone()).or_insert(0) += known.sums.paid();
        told.add(&known.currency, &known.sums);
        let Some(sums) = held.get(sale.as_str()) else {
            lost += 1;
            continue;
        };
        received += 1;
        let entries = posted.get(sale.as_str()).map(Vec::as_slice).unwrap_or_default();
        settled += usize::from(!entries.is_empty());
        let expected = BTreeMap::from([(known.currency.clone(), i128::from(known.sums.paid()))]);
        let fits = !known.differs
            && sums.iter().all(|sums| *sums == known.sums)
            && entries.iter().all(|entry| paid.get(entry).map_or(known.sums.paid() == 0, |paid| *paid == expected));
        wrong += usize::from(!fits);
        // From before it was recorded until its own node knew that the hub has it; to the end, where it never could.
        let until = shop.received.get(sale).map_or(u64::MAX, |(at, _)| *at);
        let had_way = known.by.iter().any(|(node, device)| {
            let cable = plugged(shop.cables.get(node).map(Vec::as_slice).unwrap_or_default());
            let short: String = device.chars().take(8).collect();
            meets(&cable, known.begun, until) || links.get(&short).is_some_and(|links| meets(links, known.begun, until))
        });
        if had_way { own_way += 1 } else { relayed += 1 }
    }
    // Posted more than once, or without anybody having been told that it was sold.
    let duplicated: usize =
        posted.iter().map(|(sale, entries)| entries.len() - usize::from(shop.sales.contains_key(*sale))).sum();
    let suspense = exported.reconciliation.outcomes.values();
    let suspense = suspense.filter(|(_, outcome)| matches!(outcome, Outcome::Suspense { .. })).count();
    let received_ms: Vec<f64> = shop
        .received
        .iter()
        .filter_map(|(sale, (at, _))| Some(at.saturating_sub(shop.sales.get(sale)?.at) as f64))
        .collect();
    let asked = shop.received.values().filter(|(_, asked)| *asked).count();
    let declined_but_sold = shop.declined.iter().filter(|sale| held.contains_key(sale.as_str())).count();
    let signals_told = shop.sales.values().map(|known| known.signals).sum::<u64>() + shop.blocked;
    let ledger = sums(&exported.reconciliation.rows);
    json!({
        "sales": {
            "recorded": shop.sales.len(), "received": received, "settled": settled, "relayed": relayed,
            "own_way": own_way, "lost": lost, "duplicated": duplicated, "suspense": suspense, "wrong_amount": wrong,
        },
        "takings_minor": takings,
        "settled_minor": small(&settled_minor),
        "reductions_minor": told.reductions,
        "tips_minor": told.tips,
        "codes": told.codes,
        "by_entries": {
            "reductions_minor": by_entries.reductions, "tips_minor": by_entries.tips, "codes": by_entries.codes,
        },
        "idle_codes": shop.idle_codes,
        "split_bills": shop.split,
        "asked": shop.asked,
        "known": shop.known,
        "declined": shop.declined.len(),
        "declined_but_sold": declined_but_sold,
        "signals": exported.signals,
        "signals_told": signals_told,
        "ledger_sum_minor": small(&ledger),
        "entries": exported.entries,
        "published": exported.published,
        "record_ms": percentiles(shop.record_ms.clone()),
        "received_ms": percentiles(received_ms),
        "received_told": { "by_event": shop.received.len() - asked, "when_asked": asked },
        "hub_links": links.len(),
    })
}

#[cfg(test)]
mod tests;
