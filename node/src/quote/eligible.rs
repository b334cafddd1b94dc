//! Whether a promotion's requirements hold for a basket: time, limits, codes, thresholds, conditions, customer.

use super::basket::{Basket, Line};
use super::calendar::{Moment, WallClock};
use super::files::{CodeState, ConditionFile, Conditions, CustomerFile, Number};
use super::lines::{Found, LineSet};
use super::promotions::{MatcherId, Promotion};

/// What a basket is judged by, once for all promotions.
#[derive(Debug)]
pub(super) struct Circumstances<'a> {
    basket: &'a Basket<'a>,
    found: &'a Found,
    conditions: &'a Conditions,
    at: &'a Moment,
    clock: WallClock,
    nobody: CustomerFile,
}

/// Why a promotion doesn't act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// It begins later.
    NotYet,
    /// It has ended.
    Expired,
    /// Its total limit, or this customer's, is reached.
    UsedUp,
    /// No line matches.
    NothingMatches,
    /// Not at this hour.
    Hours,
    /// The goods that count come to less.
    Subtotal(u64),
    /// Too few units.
    Quantity(u64),
    /// A condition isn't known, or doesn't hold.
    Condition(usize),
    /// It is for other customers.
    Customer,
    /// One of its codes must be given.
    Code,
}

impl Hindrance {
    /// What it means for a code.
    pub(super) fn state(self) -> CodeState {
        match self {
            Hindrance::NotYet => CodeState::NotYet,
            Hindrance::Expired => CodeState::Expired,
            Hindrance::UsedUp => CodeState::UsedUp,
            _ => CodeState::NotReached,
        }
    }
}

impl<'a> Circumstances<'a> {
    pub(super) fn new(
        basket: &'a Basket<'a>,
        found: &'a Found,
        conditions: &'a Conditions,
        at: &'a Moment,
        clock: WallClock,
    ) -> Self {
        Circumstances { basket, found, conditions, at, clock, nobody: CustomerFile::default() }
    }

    /// Judges a promotion; what is cheap to ask comes first, and of what stands in the way the first counts that the
    /// documentation names first.
    pub(super) fn hindrance(&self, promotion: &Promotion) -> Option<Hindrance> {
        let now = self.at.instant();
        if promotion.starts.is_some_and(|starts| now < starts) {
            return Some(Hindrance::NotYet);
        }
        if promotion.ends.is_some_and(|ends| now >= ends) {
            return Some(Hindrance::Expired);
        }
        let file = self.basket.file;
        let customer = file.customer.as_ref().unwrap_or(&self.nobody);
        let is_gone = |limit: Option<u64>, used: &std::collections::BTreeMap<String, u64>| {
            limit.is_some_and(|limit| used.get(&*promotion.id).copied().unwrap_or(0) >= limit)
        };
        if is_gone(promotion.total, &file.used.0) || is_gone(promotion.per_customer, &customer.used.0) {
            return Some(Hindrance::UsedUp);
        }
        let requires = &promotion.requires;
        if !requires.codes.is_empty() && !requires.codes.iter().any(|code| file.codes.contains(code)) {
            return Some(Hindrance::Code);
        }
        if !self.matches(promotion) {
            return Some(Hindrance::NothingMatches);
        }
        if !promotion.hours.is_empty() && !promotion.hours.iter().any(|hours| hours.contains(self.clock)) {
            return Some(Hindrance::Hours);
        }
        let is_customer = customer.visits >= requires.visits_at_least
            && requires.first_purchase.is_none_or(|first| first == customer.first_purchase)
            && (requires.groups.is_empty() || requires.groups.iter().any(|group| customer.groups.contains(group)));
        if !is_customer {
            return Some(Hindrance::Customer);
        }
        if let Some(unmet) = requires.conditions.iter().position(|condition| !self.is_met(condition)) {
            return Some(Hindrance::Condition(unmet));
        }
        if requires.min_subtotal > 0 {
            let subtotal = self.gross(requires.items);
            if subtotal < requires.min_subtotal {
                return Some(Hindrance::Subtotal(requires.min_subtotal));
            }
        }
        if requires.min_quantity > 0 && self.quantity(requires.items) < requires.min_quantity {
            return Some(Hindrance::Quantity(requires.min_quantity));
        }
        None
    }

    /// Whether any line is one that it may reduce or count as bought.
    pub(super) fn matches(&self, promotion: &Promotion) -> bool {
        promotion.effect.matchers(promotion.items).any(|matcher| self.found.any_by(matcher))
    }

    fn gross(&self, items: MatcherId) -> u64 {
        gross_of(&self.basket.lines, self.found.by(items))
    }

    fn quantity(&self, items: MatcherId) -> u64 {
        quantity_of(&self.basket.lines, self.found.by(items))
    }

    fn is_met(&self, condition: &ConditionFile) -> bool {
        let Some(value) = self.conditions.0.get(&condition.name) else { return false };
        let number = Number::parse(value).map(|number| number.0);
        let at_least = condition.at_least.is_none_or(|least| number.is_some_and(|number| number >= least.0));
        let at_most = condition.at_most.is_none_or(|most| number.is_some_and(|number| number <= most.0));
        let equals = condition.equals.as_ref().is_none_or(|word| {
            number.zip(Number::parse(&word.0)).map_or(word.0 == *value, |(number, wanted)| number == wanted.0)
        });
        at_least && at_most && equals
    }
}

/// Gross of some lines.
pub(super) fn gross_of(lines: &[Line<'_>], set: LineSet) -> u64 {
    set.iter().filter_map(|line| lines.get(line)).fold(0, |sum, line| sum.saturating_add(line.gross))
}

/// Units of some lines, in millionths.
pub(super) fn quantity_of(lines: &[Line<'_>], set: LineSet) -> u64 {
    set.iter().filter_map(|line| lines.get(line)).fold(0, |sum, line| sum.saturating_add(line.micro))
}
