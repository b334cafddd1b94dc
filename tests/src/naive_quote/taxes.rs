//! The taxes of lines and fees.

use num_traits::{One, Zero};
use serde_json::{Value, json};

use super::eligible::list;
use super::numbers::{R, half_up, json_amount, json_decimal, largest_remainder, percent, sum, whole};

/// What taxes are taken of: a line or a fee.
pub(super) struct Taxed {
    /// The amount that counts for taxes.
    pub(super) worth: R,
    /// The names of its taxes, in order.
    pub(super) names: Vec<String>,
}

/// One tax of a line or fee.
pub(super) struct Tax {
    name: String,
    rate: R,
    base: R,
    /// What it comes to, rounded.
    pub(super) amount: R,
}

impl Tax {
    /// The tax as the answer shows it.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "rate": json_decimal(&(&self.rate * whole(100))),
            "base": json_amount(&self.base),
            "amount": json_amount(&self.amount),
        })
    }
}

/// The names in a `tax` field: none, one, or a list.
pub(super) fn names(tax: &Value) -> Vec<String> {
    match tax {
        Value::String(name) => vec![name.clone()],
        other => list(other).iter().map(|name| name.as_str().unwrap().to_string()).collect(),
    }
}

/// The taxes of each of the things given, which are all lines in their order and then all fees in theirs.
pub(super) fn taxes(catalog: &Value, things: &[Taxed]) -> Vec<Vec<Tax>> {
    let rates = &catalog["tax_rates"];
    let included = catalog["prices_include_tax"] == true;
    // Of each thing, what it costs without any tax, unrounded.
    let bare: Vec<R> = things
        .iter()
        .map(|thing| {
            let all: R = thing.names.iter().map(|name| factor(name, thing, rates)).sum();
            if included { &thing.worth / (R::one() + all) } else { thing.worth.clone() }
        })
        .collect();
    let exact: Vec<Vec<R>> = things
        .iter()
        .zip(&bare)
        .map(|(thing, bare)| thing.names.iter().map(|name| bare * factor(name, thing, rates)).collect())
        .collect();
    let amounts = if catalog["tax_rounding"] == "total" {
        rounded_by_name(things, &exact)
    } else {
        exact.iter().map(|of_thing| of_thing.iter().map(half_up).collect()).collect()
    };
    (0..things.len())
        .map(|t| {
            let tax = |(name, amount): (&String, &R)| {
                let below = on(name, &things[t], rates);
                let base = if !below.is_empty() {
                    let taxes_below: R = below.iter().map(|other| factor(other, &things[t], rates)).sum();
                    half_up(&(&bare[t] * (R::one() + taxes_below)))
                } else if included {
                    &things[t].worth - sum(&amounts[t])
                } else {
                    things[t].worth.clone()
                };
                Tax { name: name.clone(), rate: rate(name, rates), base, amount: amount.clone() }
            };
            things[t].names.iter().zip(&amounts[t]).map(tax).collect()
        })
        .collect()
}

fn rate(name: &str, rates: &Value) -> R {
    rates[name].get("rate").map_or_else(|| percent(&rates[name]), percent)
}

/// The taxes that this one is also taken on, of those that the thing has.
fn on(name: &str, thing: &Taxed, rates: &Value) -> Vec<String> {
    names(&rates[name]["on"]).into_iter().filter(|other| thing.names.contains(other)).collect()
}

/// What part of the bare worth a tax comes to, the taxes below it counted in.
fn factor(name: &str, thing: &Taxed, rates: &Value) -> R {
    let below: R = on(name, thing, rates).iter().map(|other| factor(other, thing, rates)).sum();
    rate(name, rates) * (R::one() + below)
}

/// One rounded sum for each rate name, shared back to the things that have it.
fn rounded_by_name(things: &[Taxed], exact: &[Vec<R>]) -> Vec<Vec<R>> {
    let mut amounts: Vec<Vec<R>> = exact.iter().map(|of_thing| vec![R::zero(); of_thing.len()]).collect();
    let mut names: Vec<&String> = things.iter().flat_map(|thing| &thing.names).collect();
    names.sort();
    names.dedup();
    for name in names {
        let places: Vec<(usize, usize)> = (0..things.len())
            .filter_map(|t| things[t].names.iter().position(|other| other == name).map(|n| (t, n)))
            .collect();
        let unrounded: Vec<R> = places.iter().map(|&(t, n)| exact[t][n].clone()).collect();
        let total = half_up(&sum(&unrounded));
        let parts = largest_remainder(&total, &unrounded, &vec![total.clone(); unrounded.len()]);
        for ((t, n), part) in places.into_iter().zip(parts) {
            amounts[t][n] = part;
        }
    }
    amounts
}
