//! What the index keeps.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_node::fraud::{Bounds, Fact, Index, Inserted, LIFE_MAX_MS, Reference, RuleTag, Signal, Stall, Voice};

use crate::random::{Dice, HOUR, NOW, signal, stall, subject};

const SMALL: Bounds = Bounds { of_a_kind: 2, stall: 6, stalls: 20, market: 5 };

fn kept(index: &Index) -> BTreeSet<Signal> {
    index.signals().copied().collect()
}

/// A signal whose end differs from all others', so that content breaks no tie.
fn drawn(dice: &mut Dice, number: u64) -> Signal {
    let mut signal = signal(dice);
    signal.expires_at_ms = signal.at_ms.min(NOW) + 1 + dice.below(20 * HOUR / 1_000) * 1_000 + number;
    signal
}

/// Of each group those that end last.
fn last<K: Ord>(signals: Vec<Signal>, most: usize, group: impl Fn(&Signal) -> K) -> Vec<Signal> {
    let mut groups: BTreeMap<K, Vec<Signal>> = BTreeMap::new();
    for signal in signals {
        groups.entry(group(&signal)).or_default().push(signal);
    }
    let mut left = Vec::new();
    for (_, mut group) in groups {
        group.sort_by_key(|signal| std::cmp::Reverse(signal.ends_at_ms()));
        group.truncate(most);
        left.extend(group);
    }
    left
}

/// What should be kept of a set, worked out from the bounds' words.
fn expected(signals: &BTreeSet<Signal>, now: u64) -> BTreeSet<Signal> {
    let of = |voice: Voice| signals.iter().filter(|signal| signal.voice == voice).copied().collect::<Vec<_>>();
    let said = last(of(Voice::Stall), SMALL.of_a_kind, |signal| (signal.stall, signal.subject, signal.fact.kind()));
    let said = last(said, SMALL.stall, |signal| signal.stall);
    let said = last(said, SMALL.stalls, |_| ());
    let market = last(of(Voice::Market), SMALL.of_a_kind, |signal| (signal.subject, signal.fact.kind()));
    let market = last(market, SMALL.market, |_| ());
    said.into_iter().chain(market).filter(|signal| signal.ends_at_ms() > now).collect()
}

#[test]
fn bounds_keep_the_same_signals_whatever_the_order_the_repetitions_and_the_moments_of_expiry() {
    let mut full = 0;
    for seed in 0..3_000 {
        let mut dice = Dice::new(seed);
        let mut signals: Vec<Signal> = (0..60).map(|number| drawn(&mut dice, number)).collect();
        let set: BTreeSet<Signal> = signals.iter().copied().collect();
        for _ in 0..3 {
            dice.shuffle(&mut signals);
            let mut index = Index::with_bounds(SMALL);
            let mut now = NOW - 30 * HOUR;
            for signal in &signals {
                full += u64::from(index.insert(*signal) == Inserted::Full);
                if dice.one_in(5) {
                    now = (now + dice.below(8 * HOUR)).min(NOW);
                    index.expire(now);
                }
                if dice.one_in(3) {
                    index.insert(signals[dice.below(60) as usize]);
                }
                assert!(index.len() <= SMALL.stalls + SMALL.market);
            }
            index.expire(NOW);
            assert_eq!(kept(&index), expected(&set, NOW), "seed {seed}");
            assert_eq!(index.next_end_ms(), kept(&index).iter().map(Signal::ends_at_ms).min(), "seed {seed}");
        }
    }
    assert!(full > 1_000, "{full}");
}

#[test]
fn a_stall_that_floods_pushes_out_its_own_signals_alone() {
    let payment = |number: u64, stall: Stall| Signal {
        fact: Fact::Payment { amount: 100 },
        subject: subject(number),
        stall,
        voice: Voice::Stall,
        at_ms: NOW,
        expires_at_ms: NOW + HOUR,
        reference: Reference::default(),
    };
    let mut index = Index::default();
    for number in 0..1_000 {
        assert_eq!(index.insert(payment(number, stall(0))), Inserted::New);
    }
    for number in 0..20_000 {
        index.insert(Signal { expires_at_ms: NOW + 24 * HOUR, ..payment(number, stall(1)) });
    }
    assert_eq!(index.len(), 1_000 + Bounds::default().stall);
    assert_eq!(index.signals().filter(|signal| signal.stall == stall(0)).count(), 1_000);
    index.expire(NOW + 24 * HOUR);
    assert!(index.is_empty() && index.next_end_ms().is_none());
    // Whoever says that it lives for ever is believed for 30 days.
    index.insert(Signal { expires_at_ms: u64::MAX, ..payment(0, stall(1)) });
    index.expire(NOW + LIFE_MAX_MS - 1);
    assert_eq!(index.len(), 1);
    index.expire(NOW + LIFE_MAX_MS);
    assert!(index.is_empty());
}

#[test]
fn the_same_signal_is_one_and_one_that_differs_in_anything_is_another() {
    let mut dice = Dice::new(5);
    let one = signal(&mut dice);
    let mut index = Index::default();
    assert_eq!(index.insert(one), Inserted::New);
    assert_eq!(index.insert(one), Inserted::Known);
    let others = [
        Signal { fact: Fact::Payment { amount: 77_777 }, ..one },
        Signal { fact: Fact::Override { price: 77_777, catalog_price: 1 }, ..one },
        Signal { fact: Fact::Override { price: 77_777, catalog_price: 2 }, ..one },
        Signal { fact: Fact::Void { amount: 77_777, after_ms: 1 }, ..one },
        Signal { fact: Fact::Void { amount: 77_777, after_ms: 2 }, ..one },
        Signal { fact: Fact::Known { rule: RuleTag([1; 16]) }, ..one },
        Signal { fact: Fact::Known { rule: RuleTag::of("card-sum") }, ..one },
        Signal { fact: Fact::Clone, ..one },
        Signal { fact: Fact::Equivocation, ..one },
        Signal { subject: subject(900), ..one },
        Signal { stall: stall(900), ..one },
        Signal { at_ms: one.at_ms - 1, ..one },
        Signal { expires_at_ms: one.expires_at_ms + 1, ..one },
        Signal { reference: Reference([9; 16]), ..one },
        Signal { voice: if one.voice == Voice::Stall { Voice::Market } else { Voice::Stall }, ..one },
    ];
    for other in others {
        assert_eq!(index.insert(other), Inserted::New, "{other:?}");
    }
    assert_eq!(index.len(), 16);
}
