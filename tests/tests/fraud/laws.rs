//! What holds for every set of signals.

use std::collections::BTreeMap;

use serde_json::json;
use stallmesh_node::fraud::{Answer, Index, Signal, Voice};
use stallmesh_tests::naive_fraud;

use crate::random::{Drawn, NOW, draw, index};

/// Sets that each law is tried on.
const SETS: u64 = 6_000;

fn bytes(drawn: &Drawn, index: &Index) -> String {
    serde_json::to_string(&drawn.rules.assess(index, &drawn.attempt, NOW)).unwrap()
}

#[test]
fn another_evaluation_that_looks_at_everything_comes_to_the_same() {
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..SETS {
        let (drawn, _) = draw(seed);
        let index = index(&drawn.signals);
        let found = serde_json::to_value(drawn.rules.assess(&index, &drawn.attempt, NOW)).unwrap();
        let expected = naive_fraud::assess(&drawn.file, "EUR", &drawn.signals, &drawn.attempt, NOW);
        assert_eq!(found, expected, "seed {seed}: {:#?}\n{:#?}\n{:#}", drawn.signals, drawn.attempt, drawn.file);
        *answers.entry(found["answer"].to_string()).or_default() += 1;
        for reason in found["reasons"].as_array().unwrap() {
            let rule = drawn.file["rules"].as_array().unwrap().iter().find(|rule| rule["id"] == reason["rule"]);
            let kind = rule.unwrap()["looks_at"].as_object().unwrap().keys().next().unwrap().clone();
            *said.entry(kind).or_default() += 1;
            let sentence = reason["sentence"].as_str().unwrap();
            for tail in ["(let pass: known)", "makes the difference"] {
                *said.entry(tail.to_owned()).or_default() += u64::from(sentence.contains(tail));
            }
        }
    }
    // Whatever is never said is never compared.
    assert!(answers.len() == 3 && answers.values().all(|count| *count > SETS / 50), "{answers:?}");
    assert!(said.len() == 11 && said.values().all(|count| *count > SETS / 200), "{said:?}");
}

#[test]
fn the_order_of_signals_and_how_often_they_come_change_nothing() {
    for seed in 0..SETS {
        let (mut drawn, mut dice) = draw(seed);
        let first = index(&drawn.signals);
        let repeated: Vec<Signal> = drawn.signals.iter().filter(|_| dice.one_in(3)).copied().collect();
        drawn.signals.extend(repeated);
        dice.shuffle(&mut drawn.signals);
        let second = index(&drawn.signals);
        assert!(first.signals().eq(second.signals()), "seed {seed}");
        assert_eq!(bytes(&drawn, &first), bytes(&drawn, &second), "seed {seed}");
    }
}

#[test]
fn one_stalls_word_never_turns_what_is_approved_elsewhere_into_what_is_declined() {
    let (mut turned, mut asked) = (0, 0);
    for seed in 0..SETS {
        let (drawn, _) = draw(seed);
        let answer = drawn.rules.assess(&index(&drawn.signals), &drawn.attempt, NOW).answer;
        for liar in drawn.signals.iter().map(|signal| signal.stall).filter(|stall| *stall != drawn.attempt.stall) {
            let others: Vec<Signal> = drawn
                .signals
                .iter()
                .filter(|signal| signal.stall != liar || signal.voice == Voice::Market)
                .copied()
                .collect();
            let without = drawn.rules.assess(&index(&others), &drawn.attempt, NOW).answer;
            turned += u64::from(without < answer);
            asked += u64::from(without == Answer::Approve && answer == Answer::Ask);
            assert!(
                without != Answer::Approve || answer != Answer::Decline,
                "seed {seed}: {:#?}\n{:#?}\n{:#}",
                drawn.signals,
                drawn.attempt,
                drawn.file
            );
        }
    }
    assert!(turned > 50 && asked > 50, "one stall changed {turned} answers, and had {asked} asked");
}

#[test]
fn alone_one_stall_changes_nothing_at_another_one() {
    for seed in 0..SETS {
        let (drawn, _) = draw(seed);
        let liar = drawn.signals.first().map(|signal| signal.stall);
        let liar = liar.filter(|stall| *stall != drawn.attempt.stall);
        let only: Vec<Signal> = drawn
            .signals
            .iter()
            .filter(|signal| Some(signal.stall) == liar && signal.voice == Voice::Stall)
            .copied()
            .collect();
        let found = drawn.rules.assess(&index(&only), &drawn.attempt, NOW);
        let nothing = drawn.rules.assess(&Index::default(), &drawn.attempt, NOW);
        let is_sum =
            drawn.file["rules"].as_array().unwrap().iter().any(|rule| rule["looks_at"]["card_sum"].is_object());
        assert!(found.answer <= nothing.answer.max(if is_sum { Answer::Ask } else { Answer::Approve }), "seed {seed}");
    }
}

#[test]
fn a_signal_that_is_over_or_not_yet_changes_nothing() {
    let mut dropped = 0;
    for seed in 0..SETS {
        let (drawn, _) = draw(seed);
        let all = index(&drawn.signals);
        let live: Vec<Signal> = drawn.signals.iter().filter(|signal| signal.is_live(NOW)).copied().collect();
        dropped += drawn.signals.len() - live.len();
        assert_eq!(bytes(&drawn, &all), bytes(&drawn, &index(&live)), "seed {seed}");
        // And once it is dropped, neither.
        let mut expired = all;
        expired.expire(NOW);
        assert!(expired.signals().all(|signal| signal.ends_at_ms() > NOW), "seed {seed}");
        assert_eq!(bytes(&drawn, &expired), bytes(&drawn, &index(&live)), "seed {seed}");
    }
    assert!(dropped > 1_000, "{dropped}");
}

#[test]
fn what_a_node_says_after_an_attempt_is_what_its_rules_count() {
    for seed in 0..SETS {
        let (drawn, mut dice) = draw(seed);
        let reference = stallmesh_node::fraud::Reference([7; 16]);
        let looked_at = drawn.rules.signal(&drawn.attempt, NOW, reference);
        // Said often enough, it makes a rule speak, unless none looks at it.
        let mut index = Index::default();
        for number in 0..64_u8 {
            let mut attempt = drawn.attempt;
            attempt.stall = crate::random::stall(u64::from(number % 9));
            let own =
                drawn.rules.signal(&attempt, NOW - dice.below(50), stallmesh_node::fraud::Reference([number; 16]));
            let here = drawn.rules.signal(&drawn.attempt, NOW - 1, stallmesh_node::fraud::Reference([number; 16]));
            for signal in own.into_iter().chain(here) {
                index.insert(signal);
            }
        }
        let found = drawn.rules.assess(&index, &drawn.attempt, NOW);
        assert!(looked_at.is_some() || found.reasons.is_empty(), "seed {seed}: {found:?}");
        for reason in found.reasons.iter().filter(|reason| reason.known_for_ms.is_some()) {
            let known = drawn.rules.known(&reason.rule, &drawn.attempt, NOW, reference).unwrap();
            let mut index = index.clone();
            index.insert(known);
            let after = drawn.rules.assess(&index, &drawn.attempt, NOW + 1);
            let answer = after.reasons.iter().find(|after| after.rule == reason.rule).map(|after| after.answer);
            assert_eq!(answer, Some(Answer::Approve), "seed {seed}: {reason:?}");
        }
        assert!(json!(found)["answer"].is_string());
    }
}
