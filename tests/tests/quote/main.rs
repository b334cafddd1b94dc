//! The quote: worked cases, laws, and another evaluation that shares no rule code with it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod adversarial;
mod cases;
mod command;
mod laws;
mod random;
