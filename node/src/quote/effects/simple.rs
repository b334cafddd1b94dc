//! Percentages, amounts and prices.

use super::super::basket::MICRO;
use super::super::exact::{self, Fraction, OutOfRange};
use super::super::lines::LineSet;
use super::read::Rate;
use super::{Cut, View, Why};

/// A line and how many millionths of its units are reduced.
type Taken = (usize, u64);

/// All units of some lines, or of these the dearest.
fn units(view: View<'_>, lines: LineSet, max_units: Option<u64>) -> Vec<Taken> {
    let Some(max_units) = max_units else {
        return lines.iter().map(|line| (line, view.lines[line].micro)).collect();
    };
    let mut rest = max_units.saturating_mul(MICRO);
    let mut taken: Vec<Taken> = Vec::new();
    for line in view.dearest_first(lines) {
        let units = view.lines[line].micro.min(rest);
        if units == 0 {
            break;
        }
        rest -= units;
        taken.push((line, units));
    }
    taken.sort_unstable();
    taken
}

pub(super) fn percentage(
    view: View<'_>,
    lines: LineSet,
    rate: Rate,
    max_units: Option<u64>,
    max_amount: Option<u64>,
) -> Result<Vec<Cut>, OutOfRange> {
    let taken = units(view, lines, max_units);
    let mut cuts = Vec::with_capacity(taken.len());
    let mut sum = 0_u64;
    for (line, units) in &taken {
        let (left, micro) = (view.left[*line], view.lines[*line].micro);
        let whole = *units == micro;
        let amount = match whole {
            true => rate.of(left)?,
            false => exact::round(
                &[i128::from(left), i128::from(*units), rate.number()],
                &[i128::from(micro), rate.divisor()],
            )?,
        };
        sum = sum.saturating_add(amount);
        let why = if whole { Why::OfLine(left) } else { Why::OfUnits(*units) };
        cuts.push(Cut { line: *line, amount, why });
    }
    match max_amount.filter(|max| *max < sum) {
        None => Ok(cuts),
        Some(max) => share(
            view,
            max,
            &taken.iter().map(|(line, units)| (*line, view.worth_of(*line, *units))).collect::<Vec<_>>(),
        ),
    }
}

/// Shares an amount over lines by worths.
pub(super) fn share(view: View<'_>, amount: u64, worths: &[(usize, Fraction)]) -> Result<Vec<Cut>, OutOfRange> {
    let weights: Vec<Fraction> = worths.iter().map(|(_, worth)| *worth).collect();
    let room: Vec<u64> = worths.iter().map(|(line, _)| view.left[*line]).collect();
    let shares = exact::share(amount, &weights, &room)?;
    let cut =
        |((line, _), share): (&(usize, Fraction), u64)| Cut { line: *line, amount: share, why: Why::Share(amount) };
    Ok(worths.iter().zip(shares).map(cut).collect())
}

fn by_left(view: View<'_>, lines: LineSet) -> Vec<(usize, Fraction)> {
    lines.iter().map(|line| (line, (i128::from(view.left[line]), 1))).collect()
}

fn sum_left(view: View<'_>, lines: LineSet) -> u64 {
    lines.iter().fold(0, |sum, line| sum.saturating_add(view.left[line]))
}

pub(super) fn of_order(
    view: View<'_>,
    lines: LineSet,
    rate: Rate,
    max_amount: Option<u64>,
) -> Result<Vec<Cut>, OutOfRange> {
    let amount = rate.of(sum_left(view, lines))?;
    share(view, max_amount.map_or(amount, |max| max.min(amount)), &by_left(view, lines))
}

pub(super) fn once(view: View<'_>, lines: LineSet, amount: u64) -> Result<Vec<Cut>, OutOfRange> {
    share(view, amount.min(sum_left(view, lines)), &by_left(view, lines))
}

pub(super) fn each(
    view: View<'_>,
    lines: LineSet,
    amount: u64,
    max_units: Option<u64>,
) -> Result<Vec<Cut>, OutOfRange> {
    let mut cuts = Vec::new();
    for (line, units) in units(view, lines, max_units) {
        let off: Fraction = (i128::from(amount), 1);
        // No unit costs less than nothing.
        let off = if exact::compare(off, view.unit_worth(line)).is_gt() { view.unit_worth(line) } else { off };
        let amount = exact::round(&[off.0, i128::from(units)], &[off.1, i128::from(MICRO)])?;
        cuts.push(Cut { line, amount: amount.min(view.left[line]), why: Why::OfUnits(units) });
    }
    Ok(cuts)
}

pub(super) fn fixed_price(view: View<'_>, lines: LineSet, price: u64) -> Result<Vec<Cut>, OutOfRange> {
    let mut cuts = Vec::new();
    for line in lines.iter() {
        let micro = view.lines[line].micro;
        let saved = i128::from(view.left[line]) * i128::from(MICRO) - i128::from(price) * i128::from(micro);
        if saved > 0 {
            cuts.push(Cut { line, amount: exact::round(&[saved], &[i128::from(MICRO)])?, why: Why::OfUnits(micro) });
        }
    }
    Ok(cuts)
}

impl View<'_> {
    /// What one unit is worth now: what is left of its line ÷ quantity.
    pub(super) fn unit_worth(&self, line: usize) -> Fraction {
        (i128::from(self.left[line]) * i128::from(MICRO), i128::from(self.lines[line].micro))
    }

    /// What some units of a line are worth now.
    pub(super) fn worth_of(&self, line: usize, units: u64) -> Fraction {
        let micro = self.lines[line].micro;
        match units == micro {
            true => (i128::from(self.left[line]), 1),
            false => (i128::from(self.left[line]) * i128::from(units), i128::from(micro)),
        }
    }

    /// Lines by what a unit is worth, ties to the earlier.
    pub(super) fn dearest_first(&self, lines: LineSet) -> Vec<usize> {
        let mut sorted: Vec<(Fraction, usize)> = lines.iter().map(|line| (self.unit_worth(line), line)).collect();
        sorted.sort_by(|one, other| exact::compare(other.0, one.0).then(one.1.cmp(&other.1)));
        sorted.into_iter().map(|(_, line)| line).collect()
    }

    /// The same from the other end, ties to the earlier, too.
    pub(super) fn cheapest_first(&self, lines: LineSet) -> Vec<usize> {
        let mut sorted: Vec<(Fraction, usize)> = lines.iter().map(|line| (self.unit_worth(line), line)).collect();
        sorted.sort_by(|one, other| exact::compare(one.0, other.0).then(one.1.cmp(&other.1)));
        sorted.into_iter().map(|(_, line)| line).collect()
    }

    /// Those that are sold in pieces.
    pub(super) fn pieces(&self, lines: LineSet) -> LineSet {
        let mut pieces = LineSet::default();
        lines.iter().filter(|line| self.lines[*line].product.is_piece).for_each(|line| pieces.insert(line));
        pieces
    }
}
