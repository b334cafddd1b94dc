//! What a stall takes by card while the hub is out of reach, and what waits to be captured.
//!
//! ```text
//!   hub's policy ───┐
//!   stall's limits ─┴─► Policy (the narrower of both) ──┐
//!   uncaptured payments ─► Exposure ────────────────────┼─► judge(attempt, time) ──► approve / ask / decline, with reasons
//!                                                       │        pure, no I/O
//! ```
//! An [`Exposure`] is a function of the set of payments and captures that it was told of, in whatever order.

mod exposure;
pub mod files;
mod policy;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::exposure::{Exposure, PaymentKey, Status, Uncaptured};
pub use self::policy::Policy;
pub use crate::fraud::{Answer, FileProblem, Stall, Subject};

use self::files::Bearer;

/// The limits that hold as long as a hub has published none.
pub const DEFAULT_POLICY: &str = include_str!("default_policy.json");

/// A card payment that would be taken without asking the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where.
    pub stall: Stall,
    /// The card's fingerprint, where the reader tells it.
    pub fingerprint: Option<Subject>,
    /// Minor units.
    pub amount: u64,
}

/// What the policy comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The strictest of all reasons.
    pub answer: Answer,
    /// One for each limit that would be passed, in the order of [`Limit`].
    pub reasons: Vec<Reason>,
    /// Who bears it if the payment is taken and the bank declines it later.
    pub borne_by: Bearer,
}

/// A limit that would be passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Which.
    pub limit: Limit,
    /// What it comes to.
    pub answer: Answer,
    /// For the vendor.
    pub sentence: String,
    /// What it would be with this payment: minor units, payments or milliseconds.
    pub found: u64,
    /// Up to where it would have been approved, or asked, in the same unit.
    pub up_to: u64,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// One payment.
    Payment,
    /// What one card has not captured, with this payment.
    CardSum,
    /// What the stall has not captured, with this payment.
    StallSum,
    /// How many payments of the stall wait, with this one.
    StallCount,
    /// How long the stall's oldest payment waits.
    Oldest,
}
