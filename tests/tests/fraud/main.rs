//! Fraud signals and their rules: what holds for all of them, beside an evaluation that shares no code with the index.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod index;
mod laws;
mod market;
mod random;
mod rules;
