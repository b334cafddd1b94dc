//! Fuzzing: one target for the test and for the fuzzer, for all that reads what others wrote.
//!
//! Under `cargo test` each target takes its corpus, then random bytes and edited examples, a bounded number of times.
//! `tests/fuzz` runs the same targets under libFuzzer, guided by coverage, for as long as one likes; `docs/fuzzing.md`
//! says what that found and how far it came. What a target is tried with lies in `__fuzz__/TARGET`: `corpus`, kept
//! small, and `crashes`, each of which every later run takes first. Targets of a whole node stand in `tests/tests/fuzz`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[macro_use]
mod examples;
mod decoders;
mod mutate;
mod replica;
mod sealing;
mod seeds;
