//! Fraud signals, and the rules that weigh them.
//!
//! ```text
//!   rules file ─► Rules ──┐
//!   signals ────► Index ──┼─► assess(attempt, time) ──► approve / ask / decline, each with its reasons
//!      ▲                  │        pure, no I/O
//!      └── signal(), known()  what a till says when it went on
//! ```
//! `files` is the shape that the hub publishes; `rules` what is made of it; `signal` what is said; `index` keeps what lives;
//! `assess` asks. Everything is a function of the set of signals, the attempt and the time that is handed in. Who may say
//! what is the caller's to judge (certificates, proofs): a signal comes with the stall that its author belongs to, and in
//! the stall's voice or the market's.
//!
//! One stall's word alone never makes an attempt at another stall one that is declined: `docs/fraud.md` has the model.

mod assess;
pub mod files;
mod index;
pub(crate) mod problem;
mod rules;
mod signal;
pub(crate) mod words;

use serde::Serialize;

pub use self::assess::{Action, Assessment, Attempt, Reason};
pub use self::index::{Bounds, Index, Inserted};
pub use self::problem::FileProblem;
pub use self::rules::Rules;
pub use self::signal::{AHEAD_MAX_MS, Fact, FactKind, LIFE_MAX_MS, Reference, RuleTag, Signal, Stall, Subject, Voice};

/// The rules that hold as long as a hub has published none.
pub const DEFAULT_RULES: &str = include_str!("default_rules.json");

/// What is said to an attempt. The later one is the stricter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Go on.
    Approve,
    /// The vendor decides.
    Ask,
    /// No.
    Decline,
}
