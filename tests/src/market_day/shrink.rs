//! A smaller day that fails alike.

use std::collections::BTreeSet;

use super::plan::Plan;
use super::{Invariant, Outcome, run};

/// Leaves out as many steps as it can while the same invariant breaks, in at most so many runs (delta debugging:
/// Zeller, Hildebrandt, IEEE TSE 28(2), 2002). Gives the steps that are left.
pub fn shrink(plan: &Plan, invariant: Invariant, runs: usize) -> (BTreeSet<usize>, Outcome) {
    let fails = |keep: &BTreeSet<usize>| {
        let outcome = run(&plan.with(keep));
        let same = outcome.failure.as_ref().is_some_and(|failure| failure.broken.invariant == invariant);
        (same, outcome)
    };
    let mut keep: BTreeSet<usize> = (0..plan.steps.len()).collect();
    let (_, mut outcome) = fails(&keep);
    let mut left = runs;
    let mut parts = 2;
    while left > 0 && keep.len() > 1 {
        let size = keep.len().div_ceil(parts);
        let list: Vec<usize> = keep.iter().copied().collect();
        let mut found = false;
        // The end first: what comes after a failure has no part in it.
        for chunk in list.chunks(size).rev() {
            if left == 0 {
                break;
            }
            left -= 1;
            let without: BTreeSet<usize> = keep.iter().copied().filter(|step| !chunk.contains(step)).collect();
            let (same, smaller) = fails(&without);
            if same {
                (keep, outcome, found) = (without, smaller, true);
                break;
            }
        }
        if found {
            parts = parts.saturating_sub(1).max(2);
        } else if size == 1 {
            break;
        } else {
            parts = (parts * 2).min(keep.len());
        }
    }
    (keep, outcome)
}
