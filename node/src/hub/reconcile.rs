//! F, version 1: from a set of sales to ledger rows, states and a digest.
//!
//! Any order, any grouping, any repetition of the same facts gives the same result. Its rules:
//!
//! 1. A fact that can't be opened, or whose entry doesn't stand, goes to suspense with its reason.
//! 2. A sale must add up: lines, fees and rounding to its total, tenders to its total, prices times quantities to its
//!    lines. One that doesn't goes to suspense with both numbers.
//! 3. Of all entries with one (stall, sale id) the one with the smallest hash is posted. Another one with the same content
//!    repeats it (a clone, a retry on another device); one with other content goes to suspense.
//! 4. Rehearsals and sandbox sales never reach the ledger.
//! 5. No amount of a sale is larger than [`money::AMOUNT_MAX`], and no tax's name has characters that don't print: it
//!    becomes part of a line of the text that the digest is over.

use std::collections::BTreeMap;

use stallmesh_protocol::certificate::is_unprintable;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::money::{self, MoneyError};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, payload};

use super::ledger::{Account, Row, posting};

/// The version of this function, which closings name.
pub const FUNCTION_VERSION: u32 = 1;

/// One entry of the `sales` lane, opened and judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Where it stands.
    pub at: Position,
    /// The stall of its author's certificate.
    pub stall: Option<String>,
    /// What it says, or why it can't be read.
    pub sale: Result<payload::Sale, String>,
    /// Why it has no effect.
    pub suspended: Option<String>,
    /// The market's share of its net, in percent, by the policy that its author knew; empty for none.
    pub fee_rate: String,
    /// The market's shares of what its promotions took off, in percent, by their ids, as its author knew them.
    pub borne: BTreeMap<String, String>,
}

/// One entry that could be a sale's posting.
type Claim<'a> = (&'a Fact, &'a payload::Sale);

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Posted.
    Posted,
    /// The same sale was posted from another entry.
    Repeats(Hash),
    /// Marked as no real sale.
    NotReal,
    /// Stands in suspense.
    Suspense {
        /// A stable word.
        reason: String,
        /// What it is about, and what would resolve it.
        detail: String,
        /// Its total, where it can be read.
        amount: i64,
    },
}

/// The result for a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// All rows, in the order of their keys.
    pub rows: Vec<Row>,
    /// What became of each entry, by position.
    pub outcomes: BTreeMap<Position, (Option<String>, Outcome)>,
}

/// An entry's name in rows.
pub fn entry_name(at: &Position) -> String {
    format!("{}/{}/{}/{}/{}", at.log.author, at.log.incarnation, at.log.lane, at.sequence, at.hash)
}

/// Computes F over a set of facts, in a market of this currency (ISO 4217).
pub fn reconcile(facts: impl IntoIterator<Item = Fact>, currency: &str) -> Reconciliation {
    // By position: repetitions fall together, order is forgotten.
    let mut arrived = Vec::new();
    let facts = facts.into_iter().inspect(|fact| {
        if planted::is_on(Bug::ArrivalOrder) {
            arrived.push(fact.at);
        }
    });
    let facts: BTreeMap<Position, Fact> = facts.map(|fact| (fact.at, fact)).collect();
    let mut result = Reconciliation::default();
    let mut by_sale: BTreeMap<(String, Vec<u8>), Vec<Claim<'_>>> = BTreeMap::new();
    for fact in facts.values() {
        let suspense = |reason: &str, detail: String, amount: u64| Outcome::Suspense {
            reason: reason.to_owned(),
            detail,
            amount: shown(amount),
        };
        let outcome = match (&fact.sale, &fact.suspended, &fact.stall) {
            (Err(problem), _, _) => suspense("unreadable", problem.clone(), 0),
            (Ok(sale), Some(reason), _) => {
                let word = reason.split(':').next().unwrap_or("E_SUSPENDED").trim_start_matches("E_").to_lowercase();
                suspense(&word, reason.clone(), sale.total)
            }
            (Ok(sale), None, None) => suspense("not_member", "its author belongs to no stall".into(), sale.total),
            (Ok(sale), None, Some(stall)) => match check(sale, currency) {
                Err(problem) => suspense("doesnt_add_up", problem, sale.total),
                Ok(()) if sale.mark != 0 => Outcome::NotReal,
                Ok(()) => {
                    let mut name = sale.sale.clone();
                    if planted::is_on(Bug::EntryAlone) {
                        name.extend_from_slice(fact.at.hash.as_bytes());
                    }
                    by_sale.entry((stall.clone(), name)).or_default().push((fact, sale));
                    continue;
                }
            },
        };
        result.outcomes.insert(fact.at, (fact.stall.clone(), outcome));
    }
    for ((stall, _), mut claims) in by_sale {
        claims.sort_by_key(|(fact, _)| (fact.at.hash, fact.at));
        if planted::is_on(Bug::ArrivalOrder) {
            claims.sort_by_key(|(fact, _)| arrived.iter().position(|at| *at == fact.at));
        }
        let Some((first, posted)) = claims.first().copied() else { continue };
        match post(first, posted, &stall, currency) {
            Ok(rows) => {
                result.rows.extend(rows);
                result.outcomes.insert(first.at, (Some(stall.clone()), Outcome::Posted));
            }
            Err(problem) => {
                let amount = shown(posted.total);
                let outcome = Outcome::Suspense { reason: "doesnt_add_up".into(), detail: problem, amount };
                result.outcomes.insert(first.at, (Some(stall.clone()), outcome));
            }
        }
        for (fact, sale) in &claims[1..] {
            let outcome = if same_content(sale, posted) {
                Outcome::Repeats(first.at.hash)
            } else {
                Outcome::Suspense {
                    reason: "same_id_other_content".into(),
                    detail: format!(
                        "another sale of {} was posted under this id by entry {}",
                        posted.total, first.at.hash
                    ),
                    amount: shown(sale.total),
                }
            };
            result.outcomes.insert(fact.at, (Some(stall.clone()), outcome));
        }
    }
    // Suspense sums, too: what was taken stands against what can't be posted yet.
    let suspended: Vec<(Position, String, i64)> = result
        .outcomes
        .iter()
        .filter_map(|(at, (_, outcome))| match outcome {
            Outcome::Suspense { reason, amount, .. } if *amount > 0 => Some((*at, reason.clone(), *amount)),
            _ => None,
        })
        .collect();
    for (at, reason, amount) in suspended {
        let legs = vec![(Account::Suspense("taken".into()), amount), (Account::Suspense(reason), -amount)];
        if let Ok(rows) = posting(&entry_name(&at), currency, legs) {
            result.rows.extend(rows);
        }
    }
    result.rows.sort();
    result
}

/// An amount as it stands in suspense: what can't be true is shown as the largest that could.
fn shown(amount: u64) -> i64 {
    amount.min(money::AMOUNT_MAX).cast_signed()
}

/// Every amount of a sale.
fn amounts(sale: &payload::Sale) -> impl Iterator<Item = u64> {
    let taxes = |taxes: &[payload::SaleTax]| taxes.iter().flat_map(|tax| [tax.base, tax.amount]).collect::<Vec<_>>();
    let lines = sale.lines.iter().flat_map(move |line| {
        let reductions = line.reductions.iter().map(|reduction| reduction.amount);
        let own = [line.unit_price, line.gross, line.net, line.total];
        own.into_iter().chain(reductions).chain(taxes(&line.taxes)).collect::<Vec<_>>()
    });
    let fees = sale.fees.iter().flat_map(move |fee| [fee.amount, fee.total].into_iter().chain(taxes(&fee.taxes)));
    let own = [sale.subtotal, sale.reduction, sale.fee, sale.tax, sale.total, sale.cash_rounding.unsigned_abs()];
    own.into_iter().chain(lines).chain(fees).chain(sale.tenders.iter().flat_map(|tender| [tender.amount, tender.tip]))
}

/// Whether every amount of a sale is at most [`money::AMOUNT_MAX`].
pub fn is_in_range(sale: &payload::Sale) -> bool {
    amounts(sale).all(|amount| amount <= money::AMOUNT_MAX)
}

/// What must hold of every sale.
fn check(sale: &payload::Sale, currency: &str) -> Result<(), String> {
    if sale.currency != currency {
        return Err(format!("E_CURRENCY: {} in a market of {}", sale.currency, currency));
    }
    if sale.sale.len() != 16 || sale.lines.is_empty() {
        return Err("E_DECODE: no sale id, or no lines".into());
    }
    if !is_in_range(sale) {
        return Err(MoneyError::Range.to_string());
    }
    let taxes = || sale.lines.iter().flat_map(|line| &line.taxes).chain(sale.fees.iter().flat_map(|fee| &fee.taxes));
    if taxes().any(|tax| tax.name.chars().any(is_unprintable)) {
        return Err("E_DECODE: a tax whose name has characters that don't print".into());
    }
    let wide = |amounts: &mut dyn Iterator<Item = u64>| -> i128 { amounts.map(i128::from).sum() };
    let equal = |what: &str, claimed: i128, computed: i128| {
        if claimed == computed { Ok(()) } else { Err(format!("{what}: it says {claimed}, the parts make {computed}")) }
    };
    for line in &sale.lines {
        let quantity = money::decimal(&line.quantity).map_err(|error| error.to_string())?;
        let gross = money::extend(line.unit_price, quantity).map_err(|error| error.to_string())?;
        equal("gross", line.gross.into(), gross.into())?;
        let reductions = wide(&mut line.reductions.iter().map(|reduction| reduction.amount));
        equal("net", line.net.into(), i128::from(line.gross) - reductions)?;
        let taxes = wide(&mut line.taxes.iter().map(|tax| tax.amount));
        if i128::from(line.total) != i128::from(line.net) && i128::from(line.total) != i128::from(line.net) + taxes {
            return Err(format!("line total: it says {}, net is {} and taxes {taxes}", line.total, line.net));
        }
        // A tax of the worth before a reduction may be more than what is left to be paid, where prices include it.
        if taxes > i128::from(line.total.max(line.gross)) {
            return Err(format!("taxes of {taxes} on a line of {}", line.total));
        }
    }
    let lines = wide(&mut sale.lines.iter().map(|line| line.total));
    let fees = wide(&mut sale.fees.iter().map(|fee| fee.total));
    for fee in &sale.fees {
        let taxes = wide(&mut fee.taxes.iter().map(|tax| tax.amount));
        if fee.total != fee.amount && i128::from(fee.total) != i128::from(fee.amount) + taxes {
            return Err(format!("fee total: it says {}, its amount is {} and taxes {taxes}", fee.total, fee.amount));
        }
    }
    equal("total", sale.total.into(), lines + fees + i128::from(sale.cash_rounding))?;
    equal("fee", sale.fee.into(), wide(&mut sale.fees.iter().map(|fee| fee.amount)))?;
    let reductions = sale.lines.iter().flat_map(|line| &line.reductions);
    equal("reduction", sale.reduction.into(), wide(&mut reductions.map(|reduction| reduction.amount)))?;
    equal("subtotal", sale.subtotal.into(), wide(&mut sale.lines.iter().map(|line| line.gross)))?;
    let line_taxes = wide(&mut sale.lines.iter().flat_map(|line| line.taxes.iter().map(|tax| tax.amount)));
    let fee_taxes = wide(&mut sale.fees.iter().flat_map(|fee| fee.taxes.iter().map(|tax| tax.amount)));
    equal("tax", sale.tax.into(), line_taxes + fee_taxes)?;
    equal("tenders", sale.total.into(), wide(&mut sale.tenders.iter().map(|tender| tender.amount)))
}

/// Whether two entries say the same sale. The receipt number may differ: each incarnation has its own series.
fn same_content(one: &payload::Sale, other: &payload::Sale) -> bool {
    let plain = |sale: &payload::Sale| payload::Sale { receipt: 0, ..sale.clone() };
    plain(one) == plain(other)
}

fn post(fact: &Fact, sale: &payload::Sale, stall: &str, currency: &str) -> Result<Vec<Row>, String> {
    // Each amount is in range; what they make together must be, too.
    let signed = |amount: i128| match i64::try_from(amount) {
        Ok(amount) if amount.unsigned_abs() <= money::AMOUNT_MAX => Ok(amount),
        _ => Err(MoneyError::Range.to_string()),
    };
    let mut legs: Vec<(Account, i128)> = Vec::new();
    let mut add = |account: Account, amount: i128| match legs.iter_mut().find(|(known, _)| *known == account) {
        Some((_, sum)) => *sum += amount,
        None => legs.push((account, amount)),
    };
    for tender in &sale.tenders {
        let account = match tender.kind {
            1 => Account::CashHeld(stall.to_owned()),
            2 | 3 => Account::GatewayClearing,
            6 => Account::OutsideHeld(stall.to_owned()),
            kind => return Err(format!("E_UNSUPPORTED: tender kind {kind}")),
        };
        add(account, i128::from(tender.amount) + i128::from(tender.tip));
    }
    let taxes = sale.lines.iter().flat_map(|line| &line.taxes).chain(sale.fees.iter().flat_map(|fee| &fee.taxes));
    for tax in taxes {
        let account = match planted::is_on(Bug::TaxKept) {
            true => Account::StallPayable(stall.to_owned()),
            false => Account::Tax(tax.name.clone()),
        };
        add(account, -i128::from(tax.amount));
    }
    add(Account::Rounding, -i128::from(sale.cash_rounding));
    let net = i128::from(sale.total) - i128::from(sale.tax) - i128::from(sale.cash_rounding);
    let rate = money::decimal(if fact.fee_rate.is_empty() { "0" } else { &fact.fee_rate })
        .map_err(|error| error.to_string())?;
    // What is below zero has no share.
    let fee = i128::from(money::percentage(u64::try_from(net).unwrap_or(0), rate).map_err(|error| error.to_string())?);
    add(Account::MarketFee, -fee);
    let borne = borne_by_market(fact, sale)?;
    add(Account::MarketPromotions, borne);
    // Tips are the stall's whole: no tax, and no share of the market's.
    let tips: i128 = sale.tenders.iter().map(|tender| i128::from(tender.tip)).sum();
    let payable = Account::StallPayable(stall.to_owned());
    if planted::is_on(Bug::TipLost) {
        add(payable, fee - net - borne);
        add(Account::MarketFee, -tips);
    } else {
        add(payable, fee - net - borne - tips);
    }
    let legs = legs.into_iter().map(|(account, amount)| Ok((account, signed(amount)?)));
    let legs = legs.collect::<Result<_, String>>()?;
    posting(&entry_name(&fact.at), currency, legs).map_err(|error| error.to_string())
}

/// What the market pays of what its promotions took off: of each promotion's sum over all lines, half up.
fn borne_by_market(fact: &Fact, sale: &payload::Sale) -> Result<i128, String> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for reduction in sale.lines.iter().flat_map(|line| &line.reductions) {
        let sum = sums.entry(&reduction.promotion).or_insert(0);
        *sum = sum.saturating_add(reduction.amount);
    }
    let shares = sums.into_iter().filter_map(|(promotion, sum)| Some((sum, fact.borne.get(promotion)?)));
    let shares = shares.map(|(sum, percent)| {
        let percent = if planted::is_on(Bug::ShareOfAll) { "100" } else { percent };
        let percent = money::decimal(percent).map_err(|error| error.to_string())?;
        money::percentage(sum, percent).map(i128::from).map_err(|error| error.to_string())
    });
    shares.sum()
}

impl Reconciliation {
    /// The bytes that the digest is over: every row and every outcome, in order.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&format!(
                "row\t{}\t{}\t{}\t{}\t{}\n",
                row.entry, row.leg, row.account, row.currency, row.amount
            ));
        }
        for (at, (stall, outcome)) in &self.outcomes {
            let outcome = match outcome {
                Outcome::Posted => "posted".to_owned(),
                Outcome::Repeats(hash) => format!("repeats\t{hash}"),
                Outcome::NotReal => "not_real".to_owned(),
                Outcome::Suspense { reason, amount, .. } => format!("suspense\t{reason}\t{amount}"),
            };
            text.push_str(&format!("state\t{}\t{}\t{outcome}\n", entry_name(at), stall.as_deref().unwrap_or("")));
        }
        text.into_bytes()
    }

    /// `H(settlement; canonical bytes)`.
    pub fn digest(&self) -> Hash {
        Hasher::new(Domain::Settlement).bytes(&self.canonical_bytes()).finish()
    }

    /// How many sales were posted.
    pub fn posted(&self) -> usize {
        self.outcomes.values().filter(|(_, outcome)| *outcome == Outcome::Posted).count()
    }
}

/// What a batch adds to what earlier ones published: row by row, F's value less the sum so far.
pub fn batch(now: &[Row], published: &[Row]) -> Vec<Row> {
    let key = |row: &Row| (row.entry.clone(), row.account.clone(), row.currency.clone());
    let mut difference: BTreeMap<(String, String, String), i64> = BTreeMap::new();
    for row in now {
        *difference.entry(key(row)).or_insert(0) += row.amount;
    }
    for row in published.iter().filter(|_| !planted::is_on(Bug::BatchWhole)) {
        *difference.entry(key(row)).or_insert(0) -= row.amount;
    }
    let mut leg_of: BTreeMap<String, u32> = BTreeMap::new();
    difference
        .into_iter()
        .filter(|(_, amount)| *amount != 0)
        .map(|((entry, account, currency), amount)| {
            let next = leg_of.entry(entry.clone()).or_insert(0);
            let leg = *next;
            *next += 1;
            Row { entry, leg, account, currency, amount }
        })
        .collect()
}

#[cfg(test)]
mod tests;
