//! A few market days with all faults on: `tests/soak` runs as many as there is time for.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{SystemTime, UNIX_EPOCH};

use stallmesh_protocol::planted::Bug;
use stallmesh_tests::market_day::{Invariant, Outcome, Plan, run, run_with_bug};

fn holds(seed: u64) -> Outcome {
    let outcome = run(&Plan::draw(seed));
    if let Some(failure) = &outcome.failure {
        panic!(
            "market day {seed}, after {} ms: {}\n{}\n{}\nagain: tests/soak --seeds 1 --from {seed}",
            failure.at,
            failure.broken,
            failure.last.join("\n"),
            failure.nodes
        );
    }
    outcome
}

#[test]
fn a_market_day_runs_alike_twice() {
    let (one, other) = (holds(8), holds(8));
    assert!(one.counts(), "{one:?}");
    assert_eq!((one.trace, one.events, one.sales), (other.trace, other.events, other.sales));
    assert_ne!(one.trace, holds(31).trace, "another seed is another day");
}

#[test]
fn adv_065_market_days_of_fixed_seeds_hold() {
    for seed in [1, 3] {
        let outcome = holds(seed);
        assert!(outcome.counts(), "{outcome:?}");
    }
}

#[test]
fn each_invariant_breaks_under_a_bug_that_it_is_for() {
    // Days on which it shows: `tests/soak --bugs all` finds them (docs/planted-bugs.md).
    for (bug, seed, invariant) in [
        (Bug::ErrorForgotten, 7, Invariant::NothingLost),
        (Bug::LazySync, 1, Invariant::PostedOnce),
        (Bug::FeeLost, 1, Invariant::SumsToZero),
        (Bug::ForkKept, 2, Invariant::SettlementOfTheSet),
        (Bug::OldIncarnation, 1, Invariant::SignedOnce),
        (Bug::ForkPosted, 2, Invariant::Agreement),
        (Bug::UnsignedPage, 1, Invariant::MembersOnly),
        (Bug::AnyJudge, 1, Invariant::NoPunishment),
        (Bug::DropWaiting, 2, Invariant::DroppedOnceReceived),
        (Bug::ReadKeyAgain, 7, Invariant::Bounded),
        (Bug::BehindView, 1, Invariant::ViewsAreRebuilt),
        (Bug::AnyCheckpoint, 1, Invariant::TimeHolds),
        (Bug::NoAnswer, 1, Invariant::Convergence),
        (Bug::SharedStream, 12, Invariant::KeyStreams),
        (Bug::AnyGiver, 1, Invariant::Priced),
        (Bug::SoldAsItCame, 1, Invariant::ViewsAreRebuilt),
        (Bug::StopsSelling, 1, Invariant::KeepsSelling),
    ] {
        let failure = run_with_bug(&Plan::draw(seed), bug).failure;
        let broken = failure.map(|failure| failure.broken.invariant);
        assert_eq!(broken, Some(invariant), "{} on day {seed}", bug.word());
    }
}

#[test]
fn a_branch_of_a_known_fork_is_not_asked_for_again_and_again() {
    // Its pages came so that one of them didn't join on to what was held, and asked for it anew each time (I11).
    holds(6);
}

#[test]
fn adv_113_market_days_of_todays_seeds_hold() {
    let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    for seed in [1_000_000 + 2 * day, 1_000_001 + 2 * day] {
        println!("today's market day: tests/soak --seeds 1 --from {seed}");
        holds(seed);
    }
}
