//! Buy some, get some reduced. A line of a million units costs as little as one of three: units of one line are alike.

use super::super::exact::{self, OutOfRange};
use super::super::lines::LineSet;
use super::read::Rate;
use super::{Cut, View, Why};
use crate::quote::basket::MICRO;

/// How many are bought, and how many given for that.
type Group = (u64, u64);

/// Units of one set of lines, dearest first, in groups: of each whole group the last ones are given. Gives (line, units).
pub(super) fn in_groups(
    view: View<'_>,
    lines: LineSet,
    (buy, get): Group,
    per_basket: Option<u64>,
) -> Vec<(usize, u64)> {
    let lines = view.pieces(lines);
    let size = buy.saturating_add(get);
    let all = lines.iter().fold(0_u64, |sum, line| sum.saturating_add(view.lines[line].pieces()));
    let groups = (all / size).min(per_basket.unwrap_or(u64::MAX));
    // Of the first so many units so many are given.
    let given = |units: u64| {
        let units = units.min(groups.saturating_mul(size));
        (units / size).saturating_mul(get) + (units % size).saturating_sub(buy)
    };
    let mut before = 0;
    let mut taken = Vec::new();
    for line in view.dearest_first(lines) {
        let after = before + view.lines[line].pieces();
        taken.push((line, given(after) - given(before)));
        before = after;
    }
    taken
}

/// Units of other lines, cheapest first, as many as what is bought opens; none is both bought and given. Gives (line, units).
pub(super) fn of_others(
    view: View<'_>,
    bought: LineSet,
    given: LineSet,
    (buy, get): Group,
    per_basket: Option<u64>,
) -> Vec<(usize, u64)> {
    let (bought, given) = (view.pieces(bought), view.pieces(given));
    let mut buyable = bought.iter().fold(0_u64, |sum, line| sum.saturating_add(view.lines[line].pieces()));
    let limit = per_basket.unwrap_or(u64::MAX).saturating_mul(get);
    let mut so_far = 0_u64;
    let mut taken = Vec::new();
    for line in view.cheapest_first(given) {
        let is_bought = bought.contains(line);
        let fits = |units: u64| {
            let sum = so_far.saturating_add(units);
            let needed = sum.div_ceil(get).saturating_mul(buy);
            sum <= limit && buyable.saturating_sub(if is_bought { units } else { 0 }) >= needed
        };
        // The more of a line are given, the less fits.
        let (mut most, mut too_many) = (0, view.lines[line].pieces() + 1);
        while too_many - most > 1 {
            let middle = most + (too_many - most) / 2;
            if fits(middle) { most = middle } else { too_many = middle }
        }
        so_far += most;
        if is_bought {
            buyable -= most;
        }
        taken.push((line, most));
    }
    taken
}

/// What given units are reduced by.
pub(super) fn cuts(view: View<'_>, given: &[(usize, u64)], rate: Rate) -> Result<Vec<Cut>, OutOfRange> {
    let mut cuts = Vec::new();
    for (line, units) in given.iter().copied().filter(|(_, units)| *units > 0) {
        let (left, pieces) = (view.left[line], view.lines[line].pieces());
        let amount =
            exact::round(&[i128::from(left), i128::from(units), rate.number()], &[i128::from(pieces), rate.divisor()])?;
        cuts.push(Cut { line, amount, why: Why::OfUnits(units * MICRO) });
    }
    cuts.sort_unstable_by_key(|cut| cut.line);
    Ok(cuts)
}
