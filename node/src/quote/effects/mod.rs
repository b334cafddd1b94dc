//! What a promotion does, and what that takes off each line.

mod bundle;
mod buy_get;
mod read;
mod simple;

use super::basket::Line;
use super::eligible::{gross_of, quantity_of};
use super::exact::OutOfRange;
use super::lines::{Found, LineSet};
use super::promotions::MatcherId;
use super::taxes::Plan;
use super::words;

pub(super) use self::read::Rate;

/// What a promotion does.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// A percentage of each line, or of its dearest units.
    Percentage { rate: Rate, max_units: Option<u64>, max_amount: Option<u64> },
    /// A percentage of the matching sum, once.
    OfOrder { rate: Rate, max_amount: Option<u64> },
    /// An amount, once.
    Amount(u64),
    /// An amount off each unit.
    Each { amount: u64, max_units: Option<u64> },
    /// A price for each unit.
    FixedPrice(u64),
    /// Of each group of units some are reduced.
    BuyGet { buy: u64, get: u64, rate: Rate, get_items: Option<MatcherId>, per_basket: Option<u64> },
    /// Units that have one price together.
    Bundle { parts: Vec<(MatcherId, u64)>, price: u64, per_basket: Option<u64> },
    /// The last step that is reached counts.
    Tiers { by: Threshold, steps: Vec<(u64, Effect)> },
    /// A fee.
    Fee { kind: FeeKind, plan: Plan },
}

/// What steps are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threshold {
    /// Millionths of a unit.
    Quantity,
    /// Gross.
    Subtotal,
}

/// How a fee is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum FeeKind {
    /// Of the sum of `net`.
    Percentage(Rate),
    /// Once.
    Once(u64),
    /// For each unit.
    Each(u64),
}

/// When an effect takes its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Line by line.
    Line,
    /// Of the matching sum.
    Order,
    /// Last.
    Fee,
}

/// What is taken off a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) line: usize,
    pub(super) amount: u64,
    pub(super) why: Why,
}

/// Why: numbers for a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Of the line's worth then.
    OfLine(u64),
    /// Of so many millionths of a unit.
    OfUnits(u64),
    /// A share of this, with others.
    Share(u64),
}

/// What an effect may look at: lines, what is left of each, and which of them nobody has for itself.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) lines: &'a [Line<'a>],
    /// By line, in minor units.
    pub(super) left: &'a [u64],
    pub(super) free: LineSet,
    pub(super) found: &'a Found,
}

impl Effect {
    pub(super) fn is_bundle(&self) -> bool {
        matches!(self, Effect::Bundle { .. })
    }

    /// Whether it can act several times in one basket.
    pub(super) fn repeats(&self) -> bool {
        matches!(self, Effect::Bundle { .. } | Effect::BuyGet { .. })
    }

    pub(super) fn with_limit(mut self, limit: Option<u64>) -> Self {
        if let Effect::Bundle { per_basket, .. } | Effect::BuyGet { per_basket, .. } = &mut self {
            *per_basket = limit;
        }
        self
    }

    /// The matchers of all lines that it may reduce or count as bought.
    pub(super) fn matchers(&self, items: MatcherId) -> impl Iterator<Item = MatcherId> + '_ {
        let (parts, given) = match self {
            Effect::Bundle { parts, .. } => (parts.as_slice(), None),
            Effect::BuyGet { get_items, .. } => (&[][..], *get_items),
            _ => (&[][..], None),
        };
        let own = (!self.is_bundle()).then_some(items);
        parts.iter().map(|(part, _)| *part).chain(own).chain(given)
    }

    /// All lines that it may reduce or count as bought.
    pub(super) fn reach(&self, items: MatcherId, found: &Found) -> LineSet {
        self.matchers(items).fold(LineSet::default(), |set, matcher| set.or(&found.by(matcher)))
    }

    /// What acts of it in a basket, with the step's number: thresholds count all matching lines, whoever has them.
    pub(super) fn step(&self, items: MatcherId, lines: &[Line<'_>], found: &Found) -> Option<(Option<usize>, &Effect)> {
        let Effect::Tiers { by, steps } = self else { return Some((None, self)) };
        let set = found.by(items);
        let reached = match by {
            Threshold::Quantity => quantity_of(lines, set),
            Threshold::Subtotal => gross_of(lines, set),
        };
        let step = steps.iter().rposition(|(from, _)| *from <= reached)?;
        steps.get(step).map(|(_, effect)| (Some(step), effect))
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Effect::OfOrder { .. } | Effect::Amount(_) => Class::Order,
            Effect::Fee { .. } => Class::Fee,
            _ => Class::Line,
        }
    }

    /// What it takes off each line that it may touch: none of zero, by line. A fee takes off nothing, and steps are asked one
    /// by one.
    pub(super) fn cuts(&self, items: MatcherId, view: View<'_>) -> Result<Vec<Cut>, OutOfRange> {
        let lines = view.found.by(items).and(&view.free);
        let mut cuts = match self {
            Effect::Percentage { rate, max_units, max_amount } => {
                simple::percentage(view, lines, *rate, *max_units, *max_amount)?
            }
            Effect::OfOrder { rate, max_amount } => simple::of_order(view, lines, *rate, *max_amount)?,
            Effect::Amount(amount) => simple::once(view, lines, *amount)?,
            Effect::Each { amount, max_units } => simple::each(view, lines, *amount, *max_units)?,
            Effect::FixedPrice(price) => simple::fixed_price(view, lines, *price)?,
            Effect::BuyGet { buy, get, rate, get_items, per_basket } => {
                let given = match get_items {
                    None => buy_get::in_groups(view, lines, (*buy, *get), *per_basket),
                    Some(given) => {
                        let given = view.found.by(*given).and(&view.free);
                        buy_get::of_others(view, lines, given, (*buy, *get), *per_basket)
                    }
                };
                buy_get::cuts(view, &given, *rate)?
            }
            Effect::Bundle { parts, price, per_basket } => bundle::cuts(view, parts, *price, *per_basket)?,
            Effect::Tiers { .. } | Effect::Fee { .. } => Vec::new(),
        };
        cuts.retain(|cut| cut.amount > 0);
        Ok(cuts)
    }

    /// In words, without what it is taken of; those of each step.
    pub(super) fn words(&self, currency: &str) -> Vec<String> {
        match self {
            Effect::Tiers { steps, .. } => steps.iter().flat_map(|(_, effect)| effect.words(currency)).collect(),
            effect => vec![effect.own_words(currency)],
        }
    }

    fn own_words(&self, currency: &str) -> String {
        let money = |amount: u64| words::amount(amount, currency);
        match self {
            Effect::Percentage { rate, .. } => format!("{rate} %"),
            Effect::OfOrder { rate, .. } => format!("{rate} % of the order"),
            Effect::Amount(amount) => format!("{} off", money(*amount)),
            Effect::Each { amount, .. } => format!("{} off each", money(*amount)),
            Effect::FixedPrice(price) => format!("{} each", money(*price)),
            Effect::BuyGet { buy, get, rate, .. } if rate.is_whole() => format!("buy {buy}, get {get} free"),
            Effect::BuyGet { buy, get, rate, .. } => format!("buy {buy}, get {get} at {rate} % off"),
            Effect::Bundle { price, .. } => format!("together for {}", money(*price)),
            Effect::Tiers { .. } | Effect::Fee { .. } => String::new(),
        }
    }
}
