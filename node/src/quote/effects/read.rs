//! Reading an effect: which kind it is, and that it has the fields of its kind alone.

use std::fmt;

use rust_decimal::Decimal;
use stallmesh_protocol::money::AMOUNT_MAX;

use super::super::exact::{self, OutOfRange};
use super::super::files::{EffectFile, FeeFile, Number};
use super::super::lines::MatchersBuilder;
use super::super::promotions::micro;
use super::super::{Catalog, Problem, Source};
use super::{Effect, FeeKind, Threshold};

/// Parts of a bundle, and steps of tiers.
const PARTS_MAX: usize = 50;
/// Decimals of a percentage.
const SCALE_MAX: u32 = 8;

/// A percentage from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::quote) struct Rate(Decimal);

impl Rate {
    pub(in crate::quote) fn read(number: Number, field: &str) -> Result<Self, Problem> {
        let rate = number.0.normalize();
        let in_range = (Decimal::ZERO..=Decimal::ONE_HUNDRED).contains(&rate) && rate.scale() <= SCALE_MAX;
        in_range.then_some(Rate(rate)).ok_or_else(|| {
            Problem::invalid(Source::Promotions, field, format!("{number} is no percentage from 0 to 100"))
        })
    }

    /// Of an amount, half up.
    pub(in crate::quote) fn of(self, amount: u64) -> Result<u64, OutOfRange> {
        exact::round(&[i128::from(amount), self.number()], &[self.divisor()])
    }

    /// The whole of it.
    pub(super) fn is_whole(self) -> bool {
        self.0 == Decimal::ONE_HUNDRED
    }

    pub(super) fn number(self) -> i128 {
        self.0.mantissa()
    }

    /// What a product with [`Rate::number`] is divided by.
    pub(super) fn divisor(self) -> i128 {
        100 * 10_i128.pow(self.0.scale())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl Effect {
    pub(in crate::quote) fn read(
        catalog: &Catalog,
        file: &EffectFile,
        field: &str,
        matchers: &mut MatchersBuilder,
    ) -> Result<Self, Problem> {
        if file.from_quantity.is_some() || file.from_subtotal.is_some() {
            let name = if file.from_quantity.is_some() { "from_quantity" } else { "from_subtotal" };
            return Err(wrong(&format!("{field}.{name}"), "only the steps of `tiers` have thresholds"));
        }
        read(catalog, file, field, matchers)
    }
}

fn wrong(field: &str, detail: &str) -> Problem {
    Problem::invalid(Source::Promotions, field, detail)
}

/// Names of the fields that are set.
fn fields(file: &EffectFile) -> Vec<&'static str> {
    let EffectFile { percentage, of, max_units, max_amount, amount, each, fixed_price, buy, get, get_items, .. } = file;
    let EffectFile { bundle, price, tiers, fee, .. } = file;
    [
        ("percentage", percentage.is_some()),
        ("of", of.is_some()),
        ("max_units", max_units.is_some()),
        ("max_amount", max_amount.is_some()),
        ("amount", amount.is_some()),
        ("each", each.is_some()),
        ("fixed_price", fixed_price.is_some()),
        ("buy", buy.is_some()),
        ("get", get.is_some()),
        ("get_items", get_items.is_some()),
        ("bundle", bundle.is_some()),
        ("price", price.is_some()),
        ("tiers", tiers.is_some()),
        ("fee", fee.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
    .collect()
}

fn read(catalog: &Catalog, file: &EffectFile, field: &str, matchers: &mut MatchersBuilder) -> Result<Effect, Problem> {
    let set = fields(file);
    let allow = |kind: &str, allowed: &[&str]| match set.iter().find(|name| !allowed.contains(name)) {
        None => Ok(()),
        Some(name) => Err(wrong(&format!("{field}.{name}"), &format!("has no meaning beside {kind}"))),
    };
    let needed = |kind: &str| wrong(field, &format!("{kind} is missing"));
    let at = |name: &str| format!("{field}.{name}");
    let money = |amount: u64, name: &str| match amount <= AMOUNT_MAX {
        true => Ok(amount),
        false => Err(Problem::range(Source::Promotions, at(name), "more than can be counted")),
    };
    if let Some(fee) = &file.fee {
        allow("a fee", &["fee"])?;
        return read_fee(catalog, fee, &at("fee"));
    }
    if let Some(steps) = &file.tiers {
        allow("tiers", &["tiers"])?;
        return read_tiers(catalog, steps, &at("tiers"), matchers);
    }
    if let Some(parts) = &file.bundle {
        allow("a bundle", &["bundle", "price"])?;
        if parts.is_empty() || parts.len() > PARTS_MAX {
            return Err(wrong(&at("bundle"), &format!("has 1 to {PARTS_MAX} parts")));
        }
        if let Some(index) = parts.iter().position(|part| part.quantity == 0) {
            return Err(wrong(&format!("{field}.bundle[{index}].quantity"), "must be 1 or more"));
        }
        let price = money(file.price.ok_or_else(|| needed("a bundle's `price`"))?, "price")?;
        let parts = parts.iter().map(|part| (matchers.add(&part.items), part.quantity)).collect();
        return Ok(Effect::Bundle { parts, price, per_basket: None });
    }
    if file.buy.is_some() || file.get.is_some() {
        allow("buy/get", &["buy", "get", "get_items", "percentage"])?;
        let count = |count: Option<u64>, name: &str| match count {
            None => Err(needed(&format!("`{name}`"))),
            Some(0) => Err(wrong(&at(name), "must be 1 or more")),
            Some(count) => Ok(count),
        };
        let (buy, get) = (count(file.buy, "buy")?, count(file.get, "get")?);
        let rate = Rate::read(file.percentage.ok_or_else(|| needed("`percentage`"))?, &at("percentage"))?;
        let get_items = file.get_items.as_ref().map(|items| matchers.add(items));
        return Ok(Effect::BuyGet { buy, get, rate, get_items, per_basket: None });
    }
    if let Some(price) = file.fixed_price {
        allow("a fixed price", &["fixed_price"])?;
        return Ok(Effect::FixedPrice(money(price, "fixed_price")?));
    }
    if let Some(amount) = file.amount {
        let amount = money(amount, "amount")?;
        if file.each == Some(true) {
            allow("an amount for each", &["amount", "each", "max_units"])?;
            return Ok(Effect::Each { amount, max_units: file.max_units });
        }
        allow("an amount", &["amount", "each"])?;
        return Ok(Effect::Amount(amount));
    }
    let Some(percentage) = file.percentage else {
        return Err(match set.first() {
            None => wrong(field, "says nothing: one of percentage, amount, fixed_price, buy, bundle, tiers, fee"),
            Some(name) => {
                wrong(&at(name), "stands alone: percentage, amount, fixed_price, buy, bundle, tiers or fee is missing")
            }
        });
    };
    let rate = Rate::read(percentage, &at("percentage"))?;
    match file.of.as_deref() {
        None => {
            allow("a percentage", &["percentage", "max_units", "max_amount"])?;
            Ok(Effect::Percentage { rate, max_units: file.max_units, max_amount: file.max_amount })
        }
        Some("order") => {
            allow("a percentage of the order", &["percentage", "of", "max_amount"])?;
            Ok(Effect::OfOrder { rate, max_amount: file.max_amount })
        }
        Some(other) => Err(wrong(&at("of"), &format!("`{other}`: a percentage is of each line, or of the `order`"))),
    }
}

fn read_fee(catalog: &Catalog, file: &FeeFile, field: &str) -> Result<Effect, Problem> {
    let kind = match (file.percentage, file.amount) {
        (Some(percentage), None) if file.each.is_none() => {
            FeeKind::Percentage(Rate::read(percentage, &format!("{field}.percentage"))?)
        }
        (Some(_), None) => return Err(wrong(&format!("{field}.each"), "has no meaning beside a percentage")),
        (None, Some(amount)) if amount > AMOUNT_MAX => {
            return Err(Problem::range(Source::Promotions, format!("{field}.amount"), "more than can be counted"));
        }
        (None, Some(amount)) if file.each == Some(true) => FeeKind::Each(amount),
        (None, Some(amount)) => FeeKind::Once(amount),
        (Some(_), Some(_)) => return Err(wrong(&format!("{field}.amount"), "has no meaning beside a percentage")),
        (None, None) => return Err(wrong(field, "a fee is a percentage or an amount")),
    };
    let plan = catalog.rates().plan(&file.tax, catalog.prices_include_tax());
    Ok(Effect::Fee { kind, plan: plan.map_err(|detail| wrong(&format!("{field}.tax"), &detail))? })
}

fn read_tiers(
    catalog: &Catalog,
    files: &[EffectFile],
    field: &str,
    matchers: &mut MatchersBuilder,
) -> Result<Effect, Problem> {
    if files.is_empty() || files.len() > PARTS_MAX {
        return Err(wrong(field, &format!("there are 1 to {PARTS_MAX} steps")));
    }
    let by =
        if files.iter().any(|file| file.from_quantity.is_some()) { Threshold::Quantity } else { Threshold::Subtotal };
    let mut steps: Vec<(u64, Effect)> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let here = format!("{field}[{index}]");
        let from = match (by, file.from_quantity, file.from_subtotal) {
            (Threshold::Quantity, Some(from), None) => {
                micro(from.0).ok_or_else(|| wrong(&format!("{here}.from_quantity"), "is no quantity"))?
            }
            (Threshold::Subtotal, None, Some(from)) => from,
            (_, None, None) => return Err(wrong(&here, "from_quantity or from_subtotal is missing")),
            _ => {
                return Err(wrong(
                    &here,
                    "steps count by quantity, or by subtotal, not some by one and some by the other",
                ));
            }
        };
        let effect = read(catalog, file, &here, matchers)?;
        if matches!(effect, Effect::BuyGet { .. } | Effect::Bundle { .. } | Effect::Tiers { .. }) {
            return Err(wrong(&here, "a step is a percentage, an amount, a fixed price or a fee"));
        }
        if steps.iter().any(|(other, _)| *other == from) {
            return Err(wrong(&here, "two steps begin at one threshold"));
        }
        steps.push((from, effect));
    }
    steps.sort_by_key(|(from, _)| *from);
    Ok(Effect::Tiers { by, steps })
}
