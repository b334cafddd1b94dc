//! What became of the codes given.

use num_traits::{Signed, Zero};
use serde_json::{Value, json};

use super::eligible::{list, touches};
use super::numbers::sum;
use super::{Line, Offer, measured_alone};

/// What became of a promotion that a code opens, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It changed the price.
    Applied,
    /// It lost to another.
    Displaced,
    /// Something it asks for isn't there, or nothing was left for it to do.
    NotReached,
    /// A limit is reached.
    UsedUp,
    /// It hasn't begun.
    NotYet,
    /// It is over.
    Expired,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Applied => "applied",
            State::Displaced => "displaced",
            State::NotReached => "not_reached",
            State::UsedUp => "used_up",
            State::NotYet => "not_yet",
            State::Expired => "expired",
        }
    }
}

/// The codes as the answer shows them, each once, in the order given.
pub(super) fn codes(basket: &Value, offers: &[Offer], lines: &[Line]) -> Vec<Value> {
    let mut seen: Vec<&Value> = Vec::new();
    for code in list(&basket["codes"]) {
        if !seen.contains(&code) {
            seen.push(code);
        }
    }
    seen.into_iter()
        .map(|code| {
            let opened = (0..offers.len()).filter(|&o| list(&offers[o].json["requires"]["codes"]).contains(code));
            let best = opened.map(|o| state(o, offers, lines)).min();
            json!({ "code": code, "state": best.map_or("unknown", State::name) })
        })
        .collect()
}

fn state(o: usize, offers: &[Offer], lines: &[Line]) -> State {
    let offer = &offers[o];
    let reduced = sum(lines.iter().flat_map(|line| &line.reductions).filter(|(by, _)| *by == o).map(|(_, off)| off));
    let taken = lines.iter().any(|line| line.taken_by.is_some_and(|by| by != o) && touches(offer.json, line));
    // Lines lost to an exclusive promotion matter only if there would have been something to take off them.
    if let Some(refusal) = offer.refusal {
        refusal
    } else if reduced.is_positive() || offer.fee.is_positive() {
        State::Applied
    } else if offer.lost || (taken && !measured_alone(offer, lines, &vec![true; lines.len()]).is_zero()) {
        State::Displaced
    } else {
        State::NotReached
    }
}
