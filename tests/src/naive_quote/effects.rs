//! What a promotion takes off each line, and what a fee adds.

use num_traits::{One, Signed, Zero};
use serde_json::Value;

use super::Line;
use super::eligible::{list, matches};
use super::numbers::{R, decimal, half_up, percent, share, sum, whole};

/// When an effect comes: those on lines first, then those on the order, then fees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Each line is reduced by itself.
    Line,
    /// A sum is reduced once and shared.
    Order,
    /// Something is added.
    Fee,
}

/// The phase an effect belongs to.
pub(super) fn phase(effect: &Value) -> Phase {
    if effect.get("fee").is_some() {
        Phase::Fee
    } else if effect["of"] == "order" || (effect.get("amount").is_some() && effect["each"] != true) {
        Phase::Order
    } else {
        Phase::Line
    }
}

/// One unit of a line, or the part of one that a line sold by weight ends with.
#[derive(Clone)]
struct Unit {
    line: usize,
    /// One, but for the last part of a decimal quantity.
    size: R,
    /// What a whole unit of the line is worth.
    worth: R,
}

/// What the promotion takes off each line, given what is left of each and which of them it may reduce.
pub(super) fn reductions(promotion: &Value, effect: &Value, lines: &[Line], free: &[bool]) -> Vec<R> {
    let may = |matcher: &Value| -> Vec<usize> {
        (0..lines.len()).filter(|&i| free[i] && matches(matcher, &lines[i])).collect()
    };
    let matching = may(&promotion["items"]);
    let repeats = promotion["limits"]["per_basket"].as_u64().map(|n| n as usize);
    if effect.get("fee").is_some() {
        vec![R::zero(); lines.len()]
    } else if effect.get("bundle").is_some() {
        let parts: Vec<(Vec<usize>, R)> =
            list(&effect["bundle"]).iter().map(|part| (may(&part["items"]), decimal(&part["quantity"]))).collect();
        bundle(&parts, &decimal(&effect["price"]), repeats, lines)
    } else if effect.get("get_items").is_some() {
        let given = buy_and_get_others(effect, repeats, &matching, &may(&effect["get_items"]), lines);
        off_units(&given, &percent(&effect["percentage"]), lines)
    } else if effect.get("buy").is_some() {
        let given = buy_and_get(effect, repeats, &matching, lines);
        off_units(&given, &percent(&effect["percentage"]), lines)
    } else if effect.get("fixed_price").is_some() {
        fixed_price(&decimal(&effect["fixed_price"]), &matching, lines)
    } else if effect["of"] == "order" {
        let exact = sum(matching.iter().map(|&i| &lines[i].left)) * percent(&effect["percentage"]);
        let total = at_most(half_up(&exact), effect.get("max_amount"));
        shared_by_left(&total, &matching, lines)
    } else if effect.get("percentage").is_some() {
        percentage(effect, &matching, lines)
    } else if effect["each"] == true {
        each(effect, &matching, lines)
    } else {
        let total = decimal(&effect["amount"]).min(sum(matching.iter().map(|&i| &lines[i].left)));
        shared_by_left(&total, &matching, lines)
    }
}

/// What a fee comes to, given what the lines cost after all reductions; lines taken by an exclusive promotion count.
pub(super) fn fee(promotion: &Value, effect: &Value, lines: &[Line]) -> R {
    let fee = &effect["fee"];
    let matching: Vec<&Line> = lines.iter().filter(|line| matches(&promotion["items"], line)).collect();
    if matching.is_empty() {
        R::zero()
    } else if fee.get("percentage").is_some() {
        half_up(&(sum(matching.iter().map(|line| &line.left)) * percent(&fee["percentage"])))
    } else if fee["each"] == true {
        half_up(&(sum(matching.iter().map(|line| &line.quantity)) * decimal(&fee["amount"])))
    } else {
        decimal(&fee["amount"])
    }
}

fn at_most(amount: R, most: Option<&Value>) -> R {
    most.map_or(amount.clone(), |most| amount.min(decimal(most)))
}

fn lefts(lines: &[Line]) -> Vec<R> {
    lines.iter().map(|line| line.left.clone()).collect()
}

fn shared_by_left(total: &R, matching: &[usize], lines: &[Line]) -> Vec<R> {
    let mut worth = vec![R::zero(); lines.len()];
    for &i in matching {
        worth[i] = lines[i].left.clone();
    }
    share(total, &worth, &lefts(lines))
}

/// The units of these lines, one by one, in the order of the lines.
fn units(which: &[usize], lines: &[Line]) -> Vec<Unit> {
    let mut all = Vec::new();
    for &i in which {
        let mut rest = lines[i].quantity.clone();
        while rest.is_positive() {
            let size = rest.clone().min(R::one());
            rest -= &size;
            all.push(Unit { line: i, size, worth: &lines[i].left / &lines[i].quantity });
        }
    }
    all
}

/// The units of those of these lines that are sold by the piece.
fn pieces(which: &[usize], lines: &[Line]) -> Vec<Unit> {
    let sold_by_piece: Vec<usize> = which.iter().copied().filter(|&i| lines[i].piece).collect();
    units(&sold_by_piece, lines)
}

/// Dearest first; the sort is stable, so that ties stay with the earlier line.
fn dearest_first(mut units: Vec<Unit>) -> Vec<Unit> {
    units.sort_by(|a, b| b.worth.cmp(&a.worth));
    units
}

/// How much of each line an effect with `max_units` reaches: all of the matching ones, or the dearest units.
fn reached(effect: &Value, matching: &[usize], lines: &[Line]) -> Vec<R> {
    let mut reached = vec![R::zero(); lines.len()];
    let mut rest = effect.get("max_units").map(decimal);
    for unit in dearest_first(units(matching, lines)) {
        let size = match &rest {
            Some(rest) => unit.size.min(rest.clone()),
            None => unit.size,
        };
        rest = rest.map(|rest| rest - &size);
        reached[unit.line] += size;
    }
    reached
}

fn percentage(effect: &Value, matching: &[usize], lines: &[Line]) -> Vec<R> {
    let rate = percent(&effect["percentage"]);
    let worth: Vec<R> = reached(effect, matching, lines)
        .iter()
        .zip(lines)
        .map(|(quantity, line)| &line.left * quantity / &line.quantity)
        .collect();
    let off: Vec<R> = worth.iter().map(|w| half_up(&(w * &rate))).collect();
    let total = sum(&off);
    let most = at_most(total.clone(), effect.get("max_amount"));
    if most < total { share(&most, &worth, &lefts(lines)) } else { off }
}

fn each(effect: &Value, matching: &[usize], lines: &[Line]) -> Vec<R> {
    let amount = decimal(&effect["amount"]);
    reached(effect, matching, lines)
        .iter()
        .zip(lines)
        .map(|(quantity, line)| half_up(&(quantity * amount.clone().min(&line.left / &line.quantity))))
        .collect()
}

fn fixed_price(price: &R, matching: &[usize], lines: &[Line]) -> Vec<R> {
    let mut off = vec![R::zero(); lines.len()];
    for &i in matching {
        let saving = &lines[i].left - price * &lines[i].quantity;
        if saving.is_positive() {
            off[i] = half_up(&saving);
        }
    }
    off
}

/// The units that are reduced where what is bought and what is given are of the same lines.
fn buy_and_get(effect: &Value, repeats: Option<usize>, matching: &[usize], lines: &[Line]) -> Vec<Unit> {
    let buy = effect["buy"].as_u64().unwrap() as usize;
    let get = effect["get"].as_u64().unwrap() as usize;
    let mut given = Vec::new();
    for (repeat, group) in dearest_first(pieces(matching, lines)).chunks_exact(buy + get).enumerate() {
        if repeats.is_none_or(|most| repeat < most) {
            given.extend_from_slice(&group[buy..]);
        }
    }
    given
}

/// The units that are reduced where a buy opens units of other lines, which may be the same ones in part.
fn buy_and_get_others(
    effect: &Value,
    repeats: Option<usize>,
    bought: &[usize],
    opened: &[usize],
    lines: &[Line],
) -> Vec<Unit> {
    let buy = effect["buy"].as_u64().unwrap() as usize;
    let get = effect["get"].as_u64().unwrap() as usize;
    let mut candidates = pieces(opened, lines);
    candidates.sort_by(|a, b| a.worth.cmp(&b.worth));
    let mut given: Vec<Unit> = Vec::new();
    for unit in candidates {
        let mut tried = given.clone();
        tried.push(unit);
        let buys = tried.len().div_ceil(get);
        let given_of_bought = tried.iter().filter(|unit| bought.contains(&unit.line)).count();
        let left_to_buy = pieces(bought, lines).len() - given_of_bought;
        if buys * buy <= left_to_buy && repeats.is_none_or(|most| buys <= most) {
            given = tried;
        }
    }
    given
}

/// A rate off some units, rounded once for each line.
fn off_units(given: &[Unit], rate: &R, lines: &[Line]) -> Vec<R> {
    let mut exact = vec![R::zero(); lines.len()];
    for unit in given {
        exact[unit.line] += &unit.worth * rate;
    }
    exact.iter().map(half_up).collect()
}

/// Each part is the lines its units may come of, and how many of them it takes.
fn bundle(parts: &[(Vec<usize>, R)], price: &R, repeats: Option<usize>, lines: &[Line]) -> Vec<R> {
    let every: Vec<usize> = (0..lines.len()).collect();
    let mut shelf = dearest_first(pieces(&every, lines));
    let mut taken: Vec<Unit> = Vec::new();
    let mut repeat = 0;
    while repeats.is_none_or(|most| repeat < most) {
        let mut trial_shelf = shelf.clone();
        let mut trial: Vec<Unit> = Vec::new();
        let mut filled = true;
        for (which, quantity) in parts {
            let mut wanted = quantity.clone();
            while wanted.is_positive() {
                let Some(place) = trial_shelf.iter().position(|unit| which.contains(&unit.line)) else {
                    filled = false;
                    break;
                };
                trial.push(trial_shelf.remove(place));
                wanted -= R::one();
            }
        }
        if !filled || sum(trial.iter().map(|unit| &unit.worth)) <= *price {
            break;
        }
        shelf = trial_shelf;
        taken.extend(trial);
        repeat += 1;
    }
    let mut worth = vec![R::zero(); lines.len()];
    for unit in &taken {
        worth[unit.line] += &unit.worth;
    }
    let saving = half_up(&(sum(&worth) - price * whole(repeat as i64)));
    share(&saving, &worth, &lefts(lines))
}
