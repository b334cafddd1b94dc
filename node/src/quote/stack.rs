//! Which promotions act on a basket, and in which order.
//!
//! 1. Exclusive ones: one that reduces something has its lines for itself alone.
//! 2. Of each `best_of` group the member stays that, alone, reduces most.
//! 3. All that stay: line effects, order effects, fees; each on what is left.

use std::collections::BTreeMap;

use super::basket::{Basket, MICRO, Reduction};
use super::calendar::{Moment, TimeZone};
use super::effects::{Class, Cut, Effect, FeeKind, View};
use super::eligible::{Circumstances, Hindrance, quantity_of};
use super::exact::{self, OutOfRange};
use super::files::{Conditions, Stacking};
use super::lines::{Found, LineSet};
use super::promotions::{Promotion, Promotions};
use super::taxes::Plan;
use super::{Problem, Scratch, Source};

/// What promotions did to a basket.
#[derive(Debug)]
pub(super) struct Stacked<'a> {
    pub(super) fees: Vec<Fee<'a>>,
    /// Those that took something off, or are a fee.
    applied: Vec<u32>,
    /// Those that gave way to a better one of their group.
    outdone: Vec<u32>,
    /// Lines that exclusive ones have.
    taken: LineSet,
    /// All others.
    free: LineSet,
    /// What is left of each line, in minor units.
    left: Vec<u64>,
    found: Found,
    /// What stands in the way of those that a given code is for.
    hindrances: BTreeMap<u32, Option<Hindrance>>,
}

/// A fee that is taken.
#[derive(Debug)]
pub(super) struct Fee<'a> {
    pub(super) promotion: u32,
    pub(super) amount: u64,
    pub(super) plan: &'a Plan,
}

/// What acts of a promotion.
struct Active<'a> {
    place: u32,
    promotion: &'a Promotion,
    step: Option<usize>,
    effect: &'a Effect,
}

impl Active<'_> {
    fn cuts(&self, view: View<'_>) -> Result<Vec<Cut>, OutOfRange> {
        self.effect.cuts(self.promotion.items, view)
    }
}

impl<'a> Stacked<'a> {
    pub(super) fn new(
        promotions: &'a Promotions,
        basket: &mut Basket<'_>,
        conditions: &Conditions,
        at: &Moment,
        zone: &TimeZone,
        scratch: &mut Scratch,
    ) -> Result<Self, Problem> {
        let found = promotions.matchers.find(&basket.lines, std::mem::take(&mut scratch.words));
        let circumstances = Circumstances::new(basket, &found, conditions, at, zone.clock(at.instant()));
        let mut active: Vec<Active<'a>> = Vec::new();
        for (place, promotion) in promotions.all().iter().enumerate() {
            // Most are for other goods; that is the cheapest to see.
            if circumstances.matches(promotion)
                && circumstances.hindrance(promotion).is_none()
                && let Some((step, effect)) = promotion.effect.step(promotion.items, &basket.lines, &found)
            {
                active.push(Active { place: place as u32, promotion, step, effect });
            }
        }
        let coded = basket.file.codes.iter().flat_map(|code| promotions.with_code(code));
        let hindrances = coded.map(|place| (*place, circumstances.hindrance(promotions.get(*place)))).collect();
        let mut stacked = Stacked {
            fees: Vec::new(),
            applied: Vec::new(),
            outdone: Vec::new(),
            taken: LineSet::default(),
            free: LineSet::first(basket.lines.len()),
            left: basket.lines.iter().map(|line| line.left).collect(),
            found,
            hindrances,
        };
        let range =
            |_: OutOfRange| Problem::range(Source::Promotions, "", "what they take off is more than can be counted");
        stacked.exclusive(&mut active, basket).map_err(range)?;
        stacked.best_of(&mut active, basket).map_err(range)?;
        active.sort_by_key(|active| (active.effect.class(), active.place));
        for active in &active {
            stacked.act(active, basket).map_err(range)?;
        }
        Ok(stacked)
    }

    fn cuts(&self, active: &Active<'_>, basket: &Basket<'_>) -> Result<Vec<Cut>, OutOfRange> {
        active.cuts(View { lines: &basket.lines, left: &self.left, free: self.free, found: &self.found })
    }

    fn exclusive(&mut self, active: &mut Vec<Active<'a>>, basket: &mut Basket<'_>) -> Result<(), OutOfRange> {
        let is_alone = |active: &Active<'_>| {
            active.promotion.stacking == Stacking::Exclusive && active.effect.class() != Class::Fee
        };
        if !active.iter().any(is_alone) {
            return Ok(());
        }
        let (alone, rest): (Vec<_>, Vec<_>) = std::mem::take(active).into_iter().partition(is_alone);
        *active = rest;
        for active in alone {
            let cuts = self.cuts(&active, basket)?;
            if !cuts.is_empty() {
                let reach = active.promotion.effect.reach(active.promotion.items, &self.found);
                self.take_off(&active, &cuts, basket);
                self.taken = self.taken.or(&reach);
                self.free = self.free.without(&reach);
            }
        }
        Ok(())
    }

    fn best_of(&mut self, active: &mut Vec<Active<'a>>, basket: &Basket<'_>) -> Result<(), OutOfRange> {
        let mut best: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
        for active in active.iter() {
            let Some(group) = active.promotion.group else { continue };
            let sum = self.cuts(active, basket)?.iter().fold(0_u64, |sum, cut| sum.saturating_add(cut.amount));
            // The first of those that reduce alike has the higher priority, or the lesser id.
            let best = best.entry(group).or_insert((sum, active.place));
            if sum > best.0 {
                *best = (sum, active.place);
            }
        }
        active.retain(|active| {
            let stays =
                active.promotion.group.is_none_or(|group| best.get(&group).is_some_and(|best| best.1 == active.place));
            if !stays {
                self.outdone.push(active.place);
            }
            stays
        });
        Ok(())
    }

    fn act(&mut self, active: &Active<'a>, basket: &mut Basket<'_>) -> Result<(), OutOfRange> {
        if let Effect::Fee { kind, plan } = active.effect {
            let set = self.found.by(active.promotion.items);
            let amount = match kind {
                FeeKind::Percentage(rate) => {
                    let net = set.iter().filter_map(|line| basket.lines.get(line));
                    rate.of(net.fold(0, |sum, line| sum.saturating_add(line.left)))?
                }
                FeeKind::Once(amount) => *amount,
                FeeKind::Each(amount) => {
                    let units = quantity_of(&basket.lines, set);
                    exact::round(&[i128::from(*amount), i128::from(units)], &[i128::from(MICRO)])?
                }
            };
            if amount > 0 {
                self.fees.push(Fee { promotion: active.place, amount, plan });
                self.applied.push(active.place);
            }
            return Ok(());
        }
        let cuts = self.cuts(active, basket)?;
        self.take_off(active, &cuts, basket);
        Ok(())
    }

    fn take_off(&mut self, active: &Active<'_>, cuts: &[Cut], basket: &mut Basket<'_>) {
        for cut in cuts {
            let Cut { line, amount, why } = *cut;
            let reduction = Reduction { line, promotion: active.place, step: active.step, amount, why };
            let left = basket.reduce(reduction, active.promotion.tax_minds);
            if let (Some(left), Some(of_line)) = (left, self.left.get_mut(line)) {
                *of_line = left;
            }
        }
        if !cuts.is_empty() {
            self.applied.push(active.place);
        }
    }

    /// Gives memory back for the next quote.
    pub(super) fn give_back(self, scratch: &mut Scratch) {
        scratch.words = self.found.into_words();
    }

    /// What stands in the way of a promotion that a given code is for.
    pub(super) fn hindrance(&self, place: u32) -> Option<Hindrance> {
        self.hindrances.get(&place).copied().flatten()
    }

    pub(super) fn is_applied(&self, place: u32) -> bool {
        self.applied.contains(&place)
    }

    /// Whether one that might act gave way to another.
    pub(super) fn is_displaced(&self, place: u32, promotion: &Promotion, basket: &Basket<'_>) -> bool {
        if self.outdone.contains(&place) {
            return true;
        }
        let reach = promotion.effect.reach(promotion.items, &self.found);
        if reach.and(&self.taken).is_empty() {
            return false;
        }
        let Some((_, effect)) = promotion.effect.step(promotion.items, &basket.lines, &self.found) else {
            return false;
        };
        let gross: Vec<u64> = basket.lines.iter().map(|line| line.gross).collect();
        let free = LineSet::first(basket.lines.len());
        let view = View { lines: &basket.lines, left: &gross, free, found: &self.found };
        effect.cuts(promotion.items, view).is_ok_and(|cuts| !cuts.is_empty())
    }
}
