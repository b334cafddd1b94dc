//! The counting process: reads what the shop side acknowledged, what the hub exported and what its log says of its
//! links, and says what became of each sale. It runs apart from everything that it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::DemoError;
use super::evidence::{Span, hub_links, meets, plugged};
use super::falsify::shuffled;
use super::shop::Line;
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
    total: u64,
    currency: String,
    /// (Node, device), of each node that acknowledged it.
    by: BTreeSet<(usize, String)>,
    /// When its first request was sent, and when it was answered.
    begun: u64,
    at: u64,
    /// Answers to one sale differed.
    differs: bool,
}

/// What the shop side wrote down.
#[derive(Default)]
struct Acknowledgements {
    sales: BTreeMap<String, Acknowledged>,
    received: BTreeMap<String, (u64, bool)>,
    record_ms: Vec<f64>,
    cables: BTreeMap<usize, Vec<(u64, bool)>>,
}

impl Acknowledgements {
    fn read(journal: &str) -> Result<Self, DemoError> {
        let mut result = Acknowledgements::default();
        for line in journal.lines() {
            match serde_json::from_str(line).map_err(|error| DemoError::Failed(format!("the journal: {error}")))? {
                Line::Recorded { sale, total, currency, node, device, begun, at, took_ms, again } => {
                    // An answer from memory is no recording.
                    if !again {
                        result.record_ms.push(took_ms);
                    }
                    let first = !result.sales.contains_key(&sale);
                    let known = result.sales.entry(sale).or_default();
                    if first {
                        *known = Acknowledged { total, currency, begun, at, ..Acknowledged::default() };
                    } else {
                        known.differs |= known.total != total || known.currency != currency;
                        (known.begun, known.at) = (known.begun.min(begun), known.at.min(at));
                    }
                    known.by.insert((node, device));
                }
                Line::Received { sale, at, asked } => {
                    result.received.entry(sale).or_insert((at, asked));
                }
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
    let mut held: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut posted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for sale in &exported.sales {
        held.entry(&sale.sale).or_default().push(sale.total);
        let outcome = exported.reconciliation.outcomes.get(&sale.at).map(|(_, outcome)| outcome);
        if outcome == Some(&Outcome::Posted) {
            posted.entry(&sale.sale).or_default().push(entry_name(&sale.at));
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
        *takings.entry(known.currency.clone()).or_insert(0) += known.total;
        let Some(totals) = held.get(sale.as_str()) else {
            lost += 1;
            continue;
        };
        received += 1;
        let entries = posted.get(sale.as_str()).map(Vec::as_slice).unwrap_or_default();
        settled += usize::from(!entries.is_empty());
        let expected = BTreeMap::from([(known.currency.clone(), i128::from(known.total))]);
        let fits = !known.differs
            && totals.iter().all(|total| *total == known.total)
            && entries.iter().all(|entry| paid.get(entry).map_or(known.total == 0, |paid| *paid == expected));
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
    let ledger = sums(&exported.reconciliation.rows);
    json!({
        "sales": {
            "recorded": shop.sales.len(), "received": received, "settled": settled, "relayed": relayed,
            "own_way": own_way, "lost": lost, "duplicated": duplicated, "suspense": suspense, "wrong_amount": wrong,
        },
        "takings_minor": takings,
        "settled_minor": small(&settled_minor),
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
