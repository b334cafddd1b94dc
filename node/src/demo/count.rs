//! The counting process: reads what the shop side acknowledged and what the hub exported, and says what became of
//! each sale. It runs apart from everything that it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::DemoError;
use crate::cli::market_key;
use crate::engine::recompute;
use crate::hub::ledger::sums;
use crate::hub::reconcile::Outcome;

/// One line of the shop side's journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line {
    /// The node has answered: recorded.
    Recorded {
        /// Sale id.
        sale: String,
        /// Minor units.
        total: u64,
        /// ISO 4217.
        currency: String,
        /// Which node.
        node: usize,
        /// Milliseconds since the demo's start.
        at: u64,
        /// Milliseconds that the answer took.
        took_ms: f64,
    },
    /// The selling node has said that the hub has it.
    Received {
        /// Sale id.
        sale: String,
        /// Milliseconds since the demo's start.
        at: u64,
    },
    /// A node's way to the hub was plugged in or out.
    Uplink {
        /// Which node.
        node: usize,
        /// In or out.
        up: bool,
        /// Milliseconds since the demo's start.
        at: u64,
    },
}

/// What the counting process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct CountArguments {
    /// The shop side's journal.
    #[arg(long)]
    pub(crate) journal: PathBuf,
    /// The hub's export.
    #[arg(long)]
    pub(crate) export: PathBuf,
    /// The market's root key.
    #[arg(long)]
    pub(crate) market_key: String,
    /// Test only: falsify what is counted, to see that it is noticed: drop, double or alter.
    #[arg(long)]
    pub(crate) falsify: Option<String>,
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 - 1.0) * share).round() as usize;
    values.get(index).copied().unwrap_or_default()
}

/// Counts, and prints JSON.
#[allow(clippy::print_stdout, reason = "the result goes to the process that asked")]
pub(crate) fn count(arguments: &CountArguments) -> Result<(), DemoError> {
    let journal = std::fs::read_to_string(&arguments.journal).map_err(DemoError::io("the journal"))?;
    let lines: Vec<Line> = journal
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| DemoError::Failed(format!("the journal: {error}")))?;
    let mut export = std::fs::read(&arguments.export).map_err(DemoError::io("the export"))?;
    let falsify = arguments.falsify.as_deref().unwrap_or_default();
    if falsify == "alter" {
        let middle = export.len() / 2;
        export[middle] ^= 1;
    }
    let root = market_key(&arguments.market_key).map_err(|error| DemoError::Failed(error.to_string()))?;
    // Another order than the hub's own: the digest must not depend on it.
    let order = lines.len() as u64 + 1;
    let recomputed =
        recompute(export.as_slice(), Some(root), order).map_err(|error| DemoError::Failed(error.to_string()))?;

    let mut recorded: BTreeMap<String, (u64, String, usize, u64)> = BTreeMap::new();
    let mut received_at: BTreeMap<String, u64> = BTreeMap::new();
    let mut uplinks: BTreeMap<usize, Vec<(u64, bool)>> = BTreeMap::new();
    let mut record_ms = Vec::new();
    for line in lines {
        match line {
            Line::Recorded { sale, total, currency, node, at, took_ms } => {
                record_ms.push(took_ms);
                // The same request sent again after a kill answers with the same sale.
                recorded.entry(sale).or_insert((total, currency, node, at));
            }
            Line::Received { sale, at } => {
                received_at.entry(sale).or_insert(at);
            }
            Line::Uplink { node, up, at } => uplinks.entry(node).or_default().push((at, up)),
        }
    }
    let mut sales: Vec<(String, u64)> = recomputed.sales.iter().map(|sale| (sale.sale.clone(), sale.total)).collect();
    let mut posted: Vec<String> = recomputed
        .sales
        .iter()
        .filter(|sale| {
            recomputed.reconciliation.outcomes.get(&sale.at).is_some_and(|(_, outcome)| *outcome == Outcome::Posted)
        })
        .map(|sale| sale.sale.clone())
        .collect();
    match falsify {
        "drop" => {
            let gone = sales.pop();
            posted.retain(|sale| gone.as_ref().is_none_or(|(gone, _)| gone != sale));
            if let Some((gone, _)) = gone {
                sales.retain(|(sale, _)| *sale != gone);
            }
        }
        "double" => posted.extend(posted.first().cloned()),
        _ => {}
    }
    let held: BTreeSet<&str> = sales.iter().map(|(sale, _)| sale.as_str()).collect();
    let posted_once: BTreeSet<&str> = posted.iter().map(String::as_str).collect();
    let lost = recorded.keys().filter(|sale| !held.contains(sale.as_str())).count();
    let suspense = recomputed
        .reconciliation
        .outcomes
        .values()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Suspense { .. }))
        .count();
    // Relayed: at no time between recording and acknowledgement had its author a way of its own to the hub.
    let own_way = |node: usize, from: u64, to: u64| {
        let changes = uplinks.get(&node).map(Vec::as_slice).unwrap_or_default();
        let before = changes.iter().rfind(|(at, _)| *at <= from).is_some_and(|(_, up)| *up);
        before || changes.iter().any(|(at, up)| *up && (from..=to).contains(at))
    };
    let relayed = recorded
        .iter()
        .filter(|(sale, (_, _, node, at))| {
            held.contains(sale.as_str()) && !own_way(*node, *at, received_at.get(*sale).copied().unwrap_or(u64::MAX))
        })
        .count();
    let mut takings: BTreeMap<String, u64> = BTreeMap::new();
    for (total, currency, _, _) in recorded.values() {
        *takings.entry(currency.clone()).or_insert(0) += total;
    }
    let settled_total: u64 = recomputed
        .sales
        .iter()
        .filter(|sale| posted_once.contains(sale.sale.as_str()))
        .map(|sale| (sale.sale.as_str(), sale.total))
        .collect::<BTreeMap<_, _>>()
        .values()
        .sum();
    let mut received_ms: Vec<f64> =
        received_at.iter().filter_map(|(sale, at)| Some(at.saturating_sub(recorded.get(sale)?.3) as f64)).collect();
    let ledger: BTreeMap<String, i128> = sums(&recomputed.reconciliation.rows);
    println!(
        "{}",
        json!({
            "sales": {
                "recorded": recorded.len(),
                "received": recorded.keys().filter(|sale| held.contains(sale.as_str())).count(),
                "settled": recorded.keys().filter(|sale| posted_once.contains(sale.as_str())).count(),
                "relayed": relayed,
                "lost": lost,
                "duplicated": posted.len() - posted_once.len(),
                "suspense": suspense,
            },
            "takings_minor": takings,
            "settled_minor": settled_total,
            "ledger_sum_minor": ledger.iter().map(|(currency, sum)| (currency.clone(), json!(*sum as i64))).collect::<serde_json::Map<_, _>>(),
            "digest_recomputed": recomputed.reconciliation.digest().to_string(),
            "published": recomputed.published,
            "record_ms": { "p50": percentile(&mut record_ms, 0.5), "p99": percentile(&mut record_ms, 0.99) },
            "received_ms": { "p50": percentile(&mut received_ms, 0.5), "p99": percentile(&mut received_ms, 0.99) },
        })
    );
    Ok(())
}
