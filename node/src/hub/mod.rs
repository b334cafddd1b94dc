//! The hub's money: pure functions from entries to ledger rows, settlements and statements.
//!
//! Nothing here reads a clock, a store or a network. What the engine hands in is a set of facts; what comes out is a
//! function of that set, so that whoever holds the same logs recomputes the same bytes.

pub mod audit;
pub mod ledger;
pub mod reconcile;
pub mod statement;
