//! Units that have one price together.

use std::collections::BTreeMap;

use num_bigint::BigInt;

use super::super::exact::{self, Fraction, OutOfRange};
use super::super::promotions::MatcherId;
use super::{Cut, View, simple};

/// Fills a bundle as often as it fits: its parts in the order written, dearest units first. One that would cost more is
/// none, and none after it would cost less. What all of them save is shared by the worth of the units that are in them.
pub(super) fn cuts(
    view: View<'_>,
    parts: &[(MatcherId, u64)],
    price: u64,
    per_basket: Option<u64>,
) -> Result<Vec<Cut>, OutOfRange> {
    let candidates: Vec<Vec<usize>> =
        parts.iter().map(|(items, _)| view.dearest_first(view.pieces(view.found.by(*items).and(&view.free)))).collect();
    let mut available: BTreeMap<usize, u64> =
        candidates.iter().flatten().map(|line| (*line, view.lines[*line].pieces())).collect();
    let mut taken: BTreeMap<usize, u64> = BTreeMap::new();
    let mut bundles = 0_u64;
    let mut rest = per_basket.unwrap_or(u64::MAX);
    while rest > 0 {
        let Some(one) = fill(parts, &candidates, &available) else { break };
        let worth: Vec<Fraction> = one.iter().map(|(line, units)| worth_of(view, *line, *units)).collect();
        if exact::sum_less(&worth, i128::from(price)).is_none_or(|(saved, _)| saved == BigInt::ZERO) {
            break;
        }
        // The next ones are filled from the same lines for as long as these have enough.
        let alike =
            one.iter().map(|(line, units)| available.get(line).copied().unwrap_or(0) / units).min().unwrap_or(0);
        let times = alike.clamp(1, rest);
        for (line, units) in one {
            *available.entry(line).or_default() -= units * times;
            *taken.entry(line).or_default() += units * times;
        }
        bundles += times;
        rest -= times;
    }
    if bundles == 0 {
        return Ok(Vec::new());
    }
    let worths: Vec<(usize, Fraction)> =
        taken.into_iter().map(|(line, units)| (line, worth_of(view, line, units))).collect();
    let of_units: Vec<Fraction> = worths.iter().map(|(_, worth)| *worth).collect();
    let Some(saved) = exact::sum_less(&of_units, i128::from(price) * i128::from(bundles)) else {
        return Ok(Vec::new());
    };
    simple::share(view, exact::round_big(saved)?, &worths)
}

/// The units of one bundle, by line; `None` where it can't be filled.
fn fill(
    parts: &[(MatcherId, u64)],
    candidates: &[Vec<usize>],
    available: &BTreeMap<usize, u64>,
) -> Option<BTreeMap<usize, u64>> {
    let mut one: BTreeMap<usize, u64> = BTreeMap::new();
    for ((_, quantity), lines) in parts.iter().zip(candidates) {
        let mut open = *quantity;
        for line in lines {
            let used = one.get(line).copied().unwrap_or(0);
            let units = (available.get(line).copied().unwrap_or(0) - used).min(open);
            if units > 0 {
                *one.entry(*line).or_default() += units;
                open -= units;
            }
            if open == 0 {
                break;
            }
        }
        if open > 0 {
            return None;
        }
    }
    Some(one)
}

/// Whole numbers where a unit's worth is one, as it mostly is.
fn worth_of(view: View<'_>, line: usize, units: u64) -> Fraction {
    let (left, pieces) = (view.left[line], view.lines[line].pieces());
    match left % pieces {
        0 => (i128::from(left / pieces) * i128::from(units), 1),
        _ => (i128::from(left) * i128::from(units), i128::from(pieces)),
    }
}
