//! Taxes: added to prices or included in them, several on one line, on each other, rounded on each line or once for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use num_bigint::BigInt;
use rust_decimal::Decimal;

use super::basket::Line;
use super::exact::{self, Fraction, OutOfRange};
use super::files::{TaxAnswer, TaxNames, TaxRateFile, TaxRounding};
use super::stack::Fee;
use super::{Catalog, Problem, Source};

/// The greatest rate that is no slip of the hand, in percent.
const RATE_MAX: i64 = 1_000;
/// Taxes of one product.
const NAMES_MAX: usize = 8;
/// Decimals of a rate.
const SCALE_MAX: u32 = 6;

/// All rates of a market.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    rates: BTreeMap<String, Rate>,
}

#[derive(Clone, Debug)]
struct Rate {
    percent: Decimal,
    on: Vec<String>,
}

/// How one kind of product is taxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    taxes: Vec<Tax>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tax {
    name: Arc<str>,
    /// As it is shown.
    rate: Arc<str>,
    /// Of the taxable worth: what is owed.
    share: Fraction,
    /// Of the taxable worth: what the rate is applied to, where that is more than the worth without taxes.
    compound: Option<Fraction>,
}

impl Rates {
    pub(super) fn new(files: &BTreeMap<String, TaxRateFile>) -> Result<Self, Problem> {
        let wrong = |field: String, detail: &str| Err(Problem::invalid(Source::Catalog, field, detail));
        for (name, file) in files {
            let rate = file.rate.0.normalize();
            if rate.is_sign_negative() && !rate.is_zero() || rate > Decimal::from(RATE_MAX) {
                return wrong(format!("tax_rates.{name}"), "a rate is from 0 to 1000 percent");
            }
            if rate.scale() > SCALE_MAX {
                return wrong(format!("tax_rates.{name}"), "a rate has at most 6 decimals");
            }
            if let Some(unknown) = file.on.iter().find(|on| !files.contains_key(*on)) {
                return wrong(format!("tax_rates.{name}.on"), &format!("no tax rate is called `{unknown}`"));
            }
            if reaches(files, name) {
                return wrong(format!("tax_rates.{name}.on"), "a tax can't be taken on itself, over others either");
            }
        }
        let rate = |file: &TaxRateFile| Rate { percent: file.rate.0.normalize(), on: file.on.clone() };
        Ok(Rates { rates: files.iter().map(|(name, file)| (name.clone(), rate(file))).collect() })
    }

    /// How a product or fee with these taxes is taxed.
    pub(super) fn plan(&self, names: &TaxNames, included: bool) -> Result<Plan, String> {
        let TaxNames(names) = names;
        if names.len() > NAMES_MAX {
            return Err(format!("at most {NAMES_MAX} taxes on one product"));
        }
        let mut seen = BTreeSet::new();
        for name in names {
            if !self.rates.contains_key(name) {
                return Err(format!("no tax rate is called `{name}`"));
            }
            if !seen.insert(name) {
                return Err(format!("`{name}` stands twice"));
            }
        }
        let mut factors: BTreeMap<&str, Factor> = BTreeMap::new();
        names.iter().for_each(|name| self.factor(name, &seen, &mut factors));
        let range = || "its taxes on taxes come to more than can be counted".to_owned();
        let factor = |name: &String| factors.get(name.as_str()).cloned().flatten().ok_or_else(range);
        let mut all: Fraction = (0, 1);
        for name in names {
            all = add(all, factor(name)?.owed).ok_or_else(range)?;
        }
        // Of what a price with all its taxes is, the worth without them is 1 / (1 + all).
        let without: Fraction =
            if included { lowest((all.1, all.0.checked_add(all.1).ok_or_else(range)?)) } else { (1, 1) };
        let taxes = names.iter().map(|name| {
            let Parts { owed, applied } = factor(name)?;
            let rate = self.rates.get(name).map(|rate| rate.percent.to_string()).unwrap_or_default();
            let compound = (applied != (1, 1)).then(|| multiply(applied, without)).map(|part| part.ok_or_else(range));
            Ok(Tax {
                name: name.as_str().into(),
                rate: rate.into(),
                share: multiply(owed, without).ok_or_else(range)?,
                compound: compound.transpose()?,
            })
        });
        Ok(Plan { taxes: taxes.collect::<Result<_, String>>()? })
    }

    /// What is owed of a worth of 1 without taxes, and what the rate is applied to: 1 and the taxes that it is taken on.
    fn factor<'a>(&'a self, name: &'a str, among: &BTreeSet<&String>, factors: &mut BTreeMap<&'a str, Factor>) {
        if factors.contains_key(name) {
            return;
        }
        let Some(rate) = self.rates.get(name) else { return };
        let mut applied = Some((1, 1));
        let on: BTreeSet<&String> = rate.on.iter().filter(|on| among.contains(on)).collect();
        for on in on {
            self.factor(on, among, factors);
            let owed = factors.get(on.as_str()).cloned().flatten().map(|parts| parts.owed);
            applied = applied.zip(owed).and_then(|(applied, owed)| add(applied, owed));
        }
        let percent = lowest((rate.percent.mantissa(), 10_i128.pow(rate.percent.scale() + 2)));
        let parts = applied.and_then(|applied| Some(Parts { owed: multiply(percent, applied)?, applied }));
        factors.insert(name, parts);
    }
}

#[derive(Clone, Debug)]
struct Parts {
    owed: Fraction,
    applied: Fraction,
}

type Factor = Option<Parts>;

/// Whether a rate is taken on itself.
fn reaches(files: &BTreeMap<String, TaxRateFile>, from: &str) -> bool {
    let mut open: Vec<&str> =
        files.get(from).map(|file| file.on.iter().map(String::as_str).collect()).unwrap_or_default();
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if next == from {
            return true;
        }
        if seen.insert(next) {
            open.extend(files.get(next).iter().flat_map(|file| file.on.iter().map(String::as_str)));
        }
    }
    false
}

fn lowest((number, divisor): Fraction) -> Fraction {
    let (mut one, mut other) = (number, divisor);
    while other != 0 {
        (one, other) = (other, one % other);
    }
    (number / one, divisor / one)
}

fn add(one: Fraction, other: Fraction) -> Option<Fraction> {
    let number = one.0.checked_mul(other.1)?.checked_add(other.0.checked_mul(one.1)?)?;
    Some(lowest((number, one.1.checked_mul(other.1)?)))
}

fn multiply(one: Fraction, other: Fraction) -> Option<Fraction> {
    Some(lowest((one.0.checked_mul(other.0)?, one.1.checked_mul(other.1)?)))
}

/// The taxes of all lines, and of all fees.
#[derive(Debug)]
pub(super) struct Taxes {
    pub(super) lines: Vec<Vec<TaxAnswer>>,
    pub(super) fees: Vec<Vec<TaxAnswer>>,
}

/// Works out what is owed.
pub(super) fn of(catalog: &Catalog, lines: &[Line<'_>], fees: &[Fee<'_>]) -> Result<Taxes, Problem> {
    let worths: Vec<(&Plan, u64)> = lines
        .iter()
        .map(|line| (catalog.plan(line.product.plan), line.taxable()))
        .chain(fees.iter().map(|fee| (fee.plan, fee.amount)))
        .collect();
    let range = |_: OutOfRange| Problem::range(Source::Basket, "lines", "its taxes come to more than can be counted");
    let once = match catalog.tax_rounding() {
        TaxRounding::Line => None,
        TaxRounding::Total => Some(rounded_once(&worths).map_err(range)?),
    };
    let mut all = Vec::with_capacity(worths.len());
    for (index, (plan, worth)) in worths.iter().enumerate() {
        let mut taxes = Vec::with_capacity(plan.taxes.len());
        let mut sum = 0_u64;
        for (place, tax) in plan.taxes.iter().enumerate() {
            let shared = once.as_ref().map(|once| once[index][place]);
            let amount = shared.map_or_else(|| of_worth(tax.share, *worth), Ok).map_err(range)?;
            sum = sum.saturating_add(amount);
            taxes.push(TaxAnswer { name: tax.name.clone(), rate: tax.rate.clone(), base: 0, amount });
        }
        let without = if catalog.prices_include_tax() { worth.saturating_sub(sum) } else { *worth };
        for (tax, answer) in plan.taxes.iter().zip(&mut taxes) {
            answer.base = tax.compound.map_or(Ok(without), |part| of_worth(part, *worth)).map_err(range)?;
        }
        all.push(taxes);
    }
    let of_fees = all.split_off(lines.len());
    Ok(Taxes { lines: all, fees: of_fees })
}

fn of_worth(part: Fraction, worth: u64) -> Result<u64, OutOfRange> {
    exact::round(&[i128::from(worth), part.0], &[part.1])
}

/// One sum for each rate, rounded half up, and shared back.
fn rounded_once(worths: &[(&Plan, u64)]) -> Result<Vec<Vec<u64>>, OutOfRange> {
    let mut amounts: Vec<Vec<u64>> = worths.iter().map(|(plan, _)| vec![0; plan.taxes.len()]).collect();
    let names: BTreeSet<&str> = worths.iter().flat_map(|(plan, _)| plan.taxes.iter().map(|tax| &*tax.name)).collect();
    for name in names {
        let mut places = Vec::new();
        let mut owed: Vec<(BigInt, BigInt)> = Vec::new();
        for (line, (plan, worth)) in worths.iter().enumerate() {
            for (place, tax) in plan.taxes.iter().enumerate().filter(|(_, tax)| *tax.name == *name) {
                places.push((line, place));
                owed.push((BigInt::from(tax.share.0) * *worth, BigInt::from(tax.share.1)));
            }
        }
        let mut sum = (BigInt::ZERO, BigInt::from(1));
        for (number, divisor) in &owed {
            sum = match sum.1 == *divisor {
                true => (sum.0 + number, sum.1),
                false => (sum.0 * divisor + number * &sum.1, sum.1 * divisor),
            };
        }
        let shared = exact::spread(exact::round_big(sum)?, &owed, &[])?;
        for ((line, place), amount) in places.into_iter().zip(shared) {
            amounts[line][place] = amount;
        }
    }
    Ok(amounts)
}
