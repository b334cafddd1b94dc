//! What was taken without the hub, and isn't captured yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use stallmesh_protocol::SaleId;

use super::{Stall, Subject};
use crate::fraud::words;

/// One tender of one sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PaymentKey {
    /// The sale.
    pub sale: SaleId,
    /// Which of its tenders, counted from 0.
    pub tender: u32,
}

/// A card payment that was taken without the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncaptured {
    /// Which.
    pub key: PaymentKey,
    /// Where.
    pub stall: Stall,
    /// The card's fingerprint, where the reader told it.
    pub fingerprint: Option<Subject>,
    /// Minor units.
    pub amount: u64,
    /// When, in milliseconds of market time.
    pub at_ms: u64,
}

impl Uncaptured {
    /// Of two words about one payment what is graver, field by field, so that their order plays no part.
    fn joined(&self, other: &Uncaptured) -> Uncaptured {
        Uncaptured {
            key: self.key,
            stall: self.stall.max(other.stall),
            fingerprint: self.fingerprint.max(other.fingerprint),
            amount: self.amount.max(other.amount),
            at_ms: self.at_ms.min(other.at_ms),
        }
    }
}

/// What waits at a stall, for its status bar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// How many sales have a payment that waits.
    pub sales: u64,
    /// How many payments wait.
    pub payments: u64,
    /// What they come to, in minor units.
    pub sum: u64,
    /// How long the oldest has waited, in milliseconds.
    pub oldest_ms: Option<u64>,
}

impl Status {
    /// `3 sales wait, 41.20 not captured`.
    pub fn sentence(&self, currency: &str) -> String {
        let sum = words::plain_amount(self.sum, currency);
        match self.sales {
            0 => "no sale waits".to_owned(),
            1 => format!("1 sale waits, {sum} not captured"),
            sales => format!("{sales} sales wait, {sum} not captured"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AtStall {
    sum: u128,
    /// The oldest first.
    waiting: BTreeSet<(u64, PaymentKey)>,
    /// How many payments of each sale.
    sales: BTreeMap<SaleId, u32>,
}

/// All payments that wait, with their sums. Adding and settling commute: whatever order they come in, and however often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    open: HashMap<PaymentKey, Uncaptured>,
    /// What was settled, and when: whoever adds it later adds nothing.
    settled: HashMap<PaymentKey, u64>,
    /// In minor units, also beyond what one amount can be.
    cards: HashMap<Subject, u128>,
    stalls: HashMap<Stall, AtStall>,
}

impl Exposure {
    /// A payment was taken without the hub. Said twice it is one; if the words differ, the graver ones count.
    pub fn add(&mut self, payment: Uncaptured) {
        if self.settled.contains_key(&payment.key) {
            return;
        }
        let joined = match self.open.get(&payment.key).copied() {
            Some(known) => {
                self.count_out(&known);
                known.joined(&payment)
            }
            None => payment,
        };
        self.open.insert(joined.key, joined);
        self.count_in(&joined);
    }

    /// A payment was captured, declined or voided: it waits no more, and won't again. `at_ms` says when, for
    /// [`Exposure::forget`].
    pub fn settle(&mut self, key: PaymentKey, at_ms: u64) {
        let settled = self.settled.entry(key).or_insert(at_ms);
        *settled = (*settled).max(at_ms);
        if let Some(known) = self.open.remove(&key) {
            self.count_out(&known);
        }
    }

    /// Forgets what was settled before this time. The caller knows that nobody will add it any more.
    pub fn forget(&mut self, before_ms: u64) {
        self.settled.retain(|_, at_ms| *at_ms >= before_ms);
    }

    /// How many payments wait at all stalls.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What one card has not captured, in minor units.
    pub fn card_sum(&self, fingerprint: &Subject) -> u64 {
        self.cards.get(fingerprint).map_or(0, |sum| narrow(*sum))
    }

    /// What waits at a stall.
    pub fn status(&self, stall: &Stall, now_ms: u64) -> Status {
        let Some(here) = self.stalls.get(stall) else { return Status::default() };
        Status {
            sales: here.sales.len() as u64,
            payments: here.waiting.len() as u64,
            sum: narrow(here.sum),
            oldest_ms: here.waiting.first().map(|(at_ms, _)| now_ms.saturating_sub(*at_ms)),
        }
    }

    fn count_in(&mut self, payment: &Uncaptured) {
        // A sum of zero isn't kept, so that what is held depends on nothing that went.
        if let Some(card) = payment.fingerprint.filter(|_| payment.amount > 0) {
            *self.cards.entry(card).or_default() += u128::from(payment.amount);
        }
        let here = self.stalls.entry(payment.stall).or_default();
        here.sum += u128::from(payment.amount);
        here.waiting.insert((payment.at_ms, payment.key));
        *here.sales.entry(payment.key.sale).or_default() += 1;
    }

    fn count_out(&mut self, payment: &Uncaptured) {
        let amount = u128::from(payment.amount);
        if let Some(card) = payment.fingerprint
            && let Some(sum) = self.cards.get_mut(&card)
        {
            *sum = sum.saturating_sub(amount);
            if *sum == 0 {
                self.cards.remove(&card);
            }
        }
        let Some(here) = self.stalls.get_mut(&payment.stall) else { return };
        here.sum = here.sum.saturating_sub(amount);
        here.waiting.remove(&(payment.at_ms, payment.key));
        if let Some(payments) = here.sales.get_mut(&payment.key.sale) {
            *payments = payments.saturating_sub(1);
            if *payments == 0 {
                here.sales.remove(&payment.key.sale);
            }
        }
        if here.waiting.is_empty() {
            self.stalls.remove(&payment.stall);
        }
    }
}

fn narrow(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}
