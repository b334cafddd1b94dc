//! A stall's statement: what a settlement says about it, as JSON with fields in a fixed order, so that it reads in any
//! tool and has one byte form.

use serde::{Deserialize, Serialize};
use stallmesh_protocol::membership::Position;

use super::ledger::Row;
use super::reconcile::{Outcome, Reconciliation, entry_name};

/// One stall's part of a settlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The market's id.
    pub market: String,
    /// The settlement's number.
    pub settlement: u64,
    /// Its digest.
    pub digest: String,
    /// The stall.
    pub stall: String,
    /// ISO 4217.
    pub currency: String,
    /// Sales posted so far.
    pub sales: usize,
    /// (Account, minor units): the stall's rows of this settlement, summed.
    pub balances: Vec<(String, i64)>,
    /// What is paid out: payable less what the stall holds already: cash, and what own terminals took. Negative: the stall owes it.
    pub payout: i64,
    /// (Entry, reason, minor units): what stands in suspense.
    pub suspense: Vec<(String, String, i64)>,
    /// Entries that this settlement has taken in: (incarnation, first sequence, last sequence), by author.
    pub covered: Vec<CoveredLog>,
}

/// Which entries of one log a settlement has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredLog {
    /// Device key.
    pub author: String,
    /// Incarnation.
    pub incarnation: String,
    /// (First, last) sequences.
    pub intervals: Vec<(u64, u64)>,
}

impl Statement {
    /// The statement of one stall from the rows of a batch.
    #[allow(clippy::too_many_arguments, reason = "each names one thing that the statement says")]
    pub fn new(
        market: &str,
        settlement: u64,
        digest: &str,
        stall: &str,
        currency: &str,
        reconciliation: &Reconciliation,
        batch: &[Row],
        covered: Vec<CoveredLog>,
    ) -> Self {
        let of_stall: std::collections::BTreeMap<String, (&Position, &Outcome)> = reconciliation
            .outcomes
            .iter()
            .filter(|(_, (owner, _))| owner.as_deref() == Some(stall))
            .map(|(at, (_, outcome))| (entry_name(at), (at, outcome)))
            .collect();
        let mut balances: std::collections::BTreeMap<String, i64> = std::collections::BTreeMap::new();
        for row in batch.iter().filter(|row| of_stall.contains_key(&row.entry)) {
            let balance = balances.entry(row.account.clone()).or_insert(0);
            *balance = balance.saturating_add(row.amount);
        }
        let balance = |account: String| balances.get(&account).copied().unwrap_or(0);
        let payout = 0_i64
            .saturating_sub(balance(format!("stall-payable:{stall}")))
            .saturating_sub(balance(format!("cash-held:{stall}")))
            .saturating_sub(balance(format!("outside-held:{stall}")));
        let suspense = of_stall
            .iter()
            .filter_map(|(name, (_, outcome))| match outcome {
                Outcome::Suspense { reason, amount, .. } => Some((name.clone(), reason.clone(), *amount)),
                _ => None,
            })
            .collect();
        Statement {
            market: market.to_owned(),
            settlement,
            digest: digest.to_owned(),
            stall: stall.to_owned(),
            currency: currency.to_owned(),
            sales: of_stall.values().filter(|(_, outcome)| **outcome == Outcome::Posted).count(),
            balances: balances.into_iter().collect(),
            payout,
            suspense,
            covered,
        }
    }

    /// The one byte form.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, integers and lists always serialize.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// Not a statement.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
