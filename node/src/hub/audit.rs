//! Recomputing a settlement from an export, on a machine that need never have been in the market.

pub use crate::engine::{ExportError, Recomputed, RecomputedSale, recompute};
