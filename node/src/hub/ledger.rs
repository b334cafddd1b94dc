//! Double entry: every posting sums to zero in each currency.
//!
//! A debit is positive, a credit negative. A sale of 12.00 with 2.00 tax inside, paid in cash, at a market fee of 5 %:
//!
//! | account | amount | in words |
//! | --- | --- | --- |
//! | cash held by stall | +12.00 | the stall has the money in its drawer |
//! | tax | −2.00 | owed to the tax office |
//! | market fee | −0.50 | 5 % of the net 10.00 |
//! | stall payable | −9.50 | what the stall earned |
//!
//! Where a promotion of the market took 2.00 off and the market bears half of it, `market-promotions` has +1.00 more and the
//! stall's payable −1.00.
//!
//! What the organiser pays out is the stall's payable less what the stall holds already: its cash, and what its own terminals took.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stallmesh_protocol::planted::{self, Bug};

/// An account of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// Coins and notes in a stall's drawer.
    CashHeld(String),
    /// What a stall's own terminal or payment app took.
    OutsideHeld(String),
    /// Card payments to be captured.
    GatewayClearing,
    /// What is owed to a stall.
    StallPayable(String),
    /// The market's share.
    MarketFee,
    /// What the market pays of its own promotions.
    MarketPromotions,
    /// Tax collected, by the rate's name.
    Tax(String),
    /// Cash rounding.
    Rounding,
    /// Can't be posted yet, by reason.
    Suspense(String),
}

impl std::fmt::Display for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Account::CashHeld(stall) => write!(formatter, "cash-held:{stall}"),
            Account::OutsideHeld(stall) => write!(formatter, "outside-held:{stall}"),
            Account::GatewayClearing => formatter.write_str("gateway-clearing"),
            Account::StallPayable(stall) => write!(formatter, "stall-payable:{stall}"),
            Account::MarketFee => formatter.write_str("market-fee"),
            Account::MarketPromotions => formatter.write_str("market-promotions"),
            Account::Tax(rate) => write!(formatter, "tax:{rate}"),
            Account::Rounding => formatter.write_str("rounding"),
            Account::Suspense(reason) => write!(formatter, "suspense:{reason}"),
        }
    }
}

/// One row. Its key is (closing, entry, leg, account, sign); the closing is the batch that publishes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row {
    /// The entry that caused it: `author/incarnation/lane/sequence/hash`.
    pub entry: String,
    /// Which leg of the entry's posting, from 0.
    pub leg: u32,
    /// The account's text form.
    pub account: String,
    /// ISO 4217.
    pub currency: String,
    /// Minor units; debit positive, credit negative. Never zero.
    pub amount: i64,
}

/// A posting that doesn't sum to zero, or an amount out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("E_UNBALANCED: the legs of {entry} sum to {sum} {currency}")]
pub struct Unbalanced {
    /// The entry.
    pub entry: String,
    /// The currency.
    pub currency: String,
    /// What is left over.
    pub sum: i128,
}

/// The rows of one entry in one currency.
///
/// # Errors
/// The legs don't sum to zero.
pub fn posting(entry: &str, currency: &str, legs: Vec<(Account, i64)>) -> Result<Vec<Row>, Unbalanced> {
    let sum: i128 = legs.iter().map(|(_, amount)| i128::from(*amount)).sum();
    if sum != 0 {
        return Err(Unbalanced { entry: entry.to_owned(), currency: currency.to_owned(), sum });
    }
    let lost = |account: &Account| planted::is_on(Bug::FeeLost) && *account == Account::MarketFee;
    let legs = legs.into_iter().filter(|(account, amount)| *amount != 0 && !lost(account));
    let rows = legs.zip(0..).map(|((account, amount), leg)| Row {
        entry: entry.to_owned(),
        leg,
        account: account.to_string(),
        currency: currency.to_owned(),
        amount,
    });
    Ok(rows.collect())
}

/// Sum of all rows by currency: zero, always.
pub fn sums<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<String, i128> {
    let mut sums = BTreeMap::new();
    for row in rows {
        *sums.entry(row.currency.clone()).or_insert(0) += i128::from(row.amount);
    }
    sums
}

/// Balance of each account, by currency.
pub fn balances<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<(String, String), i128> {
    let mut balances = BTreeMap::new();
    for row in rows {
        *balances.entry((row.account.clone(), row.currency.clone())).or_insert(0) += i128::from(row.amount);
    }
    balances
}
