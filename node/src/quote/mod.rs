//! The quote: what a basket costs, and a sentence for each difference.
//!
//! ```text
//!   catalog ──► Catalog ──────┐
//!   promotions ─► Promotions ─┼─► quote(basket, conditions, time) ──► Answer
//!                 (compiled when they change)        pure, no I/O
//! ```
//! `files` are the shapes that people write and the API speaks; `catalog` and `promotions` what is made of them when they
//! change: an index, so that a quote looks at what a basket touches alone. `stack` decides which promotions act, and in
//! which order; `effects` what each takes off; `taxes` what is owed; `codes` what became of each code. All amounts are whole
//! minor units; whatever is not whole on the way there is an exact fraction (`exact`), rounded once.

mod basket;
mod calendar;
mod catalog;
mod codes;
mod effects;
mod eligible;
mod exact;
pub mod files;
mod lines;
mod problem;
mod promotions;
mod read;
mod stack;
mod taxes;
mod words;

use stallmesh_protocol::money::AMOUNT_MAX;

pub use self::calendar::{Moment, TimeZone, day};
pub use self::catalog::Catalog;
pub use self::problem::{Problem, ProblemCode, Source};
pub use self::promotions::Promotions;
pub use self::read::{canonical, read};

use self::basket::Basket;
use self::files::{Answer, BasketFile, Conditions, FeeAnswer, Versions};
use self::stack::Stacked;

/// Memory that one quote leaves for the next: a till asks with each scan.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<u64>,
}

/// What a basket costs.
///
/// # Errors
/// The basket names what isn't there, or an amount is out of range: with the field that is to blame.
pub fn quote(
    catalog: &Catalog,
    promotions: &Promotions,
    basket: &BasketFile,
    conditions: &Conditions,
    at: &Moment,
) -> Result<Answer, Problem> {
    quote_with(&mut Scratch::default(), catalog, promotions, basket, conditions, at)
}

/// The same, with memory of an earlier quote.
///
/// # Errors
/// As [`quote`].
pub fn quote_with(
    scratch: &mut Scratch,
    catalog: &Catalog,
    promotions: &Promotions,
    basket: &BasketFile,
    conditions: &Conditions,
    at: &Moment,
) -> Result<Answer, Problem> {
    let mut basket = Basket::new(catalog, basket)?;
    let stacked = Stacked::new(promotions, &mut basket, conditions, at, catalog.time_zone(), scratch)?;
    let taxes = taxes::of(catalog, &basket.lines, &stacked.fees)?;
    let codes = codes::of(promotions, &basket, &stacked, catalog.currency());
    let too_much = || Problem::range(Source::Basket, "lines", "the basket comes to more than can be counted");
    let sum = |amounts: &mut dyn Iterator<Item = u64>| {
        let sum = amounts.fold(0_u64, u64::saturating_add);
        if sum <= AMOUNT_MAX { Ok(sum) } else { Err(too_much()) }
    };
    let subtotal = sum(&mut basket.lines.iter().map(|line| line.gross))?;
    let net = sum(&mut basket.lines.iter().map(|line| line.left))?;
    let fee = sum(&mut stacked.fees.iter().map(|fee| fee.amount))?;
    let added = |taxes: &[files::TaxAnswer]| -> u64 {
        if catalog.prices_include_tax() { 0 } else { taxes.iter().map(|tax| tax.amount).fold(0, u64::saturating_add) }
    };
    let tax = sum(&mut taxes.lines.iter().chain(&taxes.fees).flatten().map(|tax| tax.amount))?;
    let lines: Vec<_> = taxes
        .lines
        .into_iter()
        .enumerate()
        .map(|(index, taxes)| {
            let total = basket.lines[index].left.saturating_add(added(&taxes));
            basket.answer(index, promotions, catalog.currency(), taxes, total)
        })
        .collect();
    let fees: Vec<_> = stacked
        .fees
        .iter()
        .zip(taxes.fees)
        .map(|(fee, taxes)| {
            let promotion = promotions.get(fee.promotion);
            FeeAnswer {
                promotion: promotion.id.clone(),
                name: promotion.name.clone(),
                amount: fee.amount,
                total: fee.amount.saturating_add(added(&taxes)),
                taxes,
            }
        })
        .collect();
    stacked.give_back(scratch);
    let exact = sum(&mut lines.iter().map(|line| line.total).chain(fees.iter().map(|fee| fee.total)))?;
    let total = if basket.is_cash { catalog.round_cash(exact).ok_or_else(too_much)? } else { exact };
    let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    Ok(Answer {
        currency: catalog.currency().to_owned(),
        at: at.text().to_owned(),
        lines,
        fees,
        subtotal,
        reduction: subtotal - net,
        fee,
        tax,
        cash_rounding: signed(total) - signed(exact),
        total,
        codes,
        versions: Versions {
            catalog: catalog.version().to_owned(),
            promotions: promotions.version().to_owned(),
            conditions: conditions.version(),
        },
    })
}
