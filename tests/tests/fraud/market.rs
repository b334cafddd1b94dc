//! Market days with planted fraud: `tests/fraud` prints what the rules make of many; here, that the days mean something.

use stallmesh_node::fraud::{DEFAULT_RULES, Rules};
use stallmesh_tests::fraud_market::{Day, Tally, Trick, live, seeds};

fn days(rules: &Rules, seeds: &[u64]) -> Tally {
    let mut all = Tally::default();
    for (number, seed) in (0..).zip(seeds) {
        all.add(&live(rules, &Day::draw(*seed), *seed), number);
    }
    all
}

#[test]
fn planted_fraud_is_noticed_more_often_than_honest_people_are_asked() {
    let rules = Rules::default_for("EUR").unwrap();
    // Not the days whose figures the documentation has: those are drawn from the rules.
    let found = days(&rules, &[1, 2, 3, 4]);
    assert_eq!(found.table(), days(&rules, &[1, 2, 3, 4]).table(), "the same days come to the same");
    for trick in Trick::ALL {
        let counts = &found.kinds[&trick];
        assert!(!counts.incidents.is_empty() && counts.incidents.len() as u64 <= counts.planted, "{trick:?}");
        assert!(!counts.caught.is_empty(), "{trick:?} is never noticed:\n{}", found.table());
        let recall = counts.noticed as f64 / counts.planted as f64;
        let asked = found.per_thousand(counts.wolf) / 1_000.0;
        assert!(recall > 5.0 * asked, "{trick:?}: {recall} of its events, {asked} of the honest ones");
    }
    let blocked = &found.kinds[&Trick::BlockedCard];
    assert!(blocked.noticed * 10 >= blocked.planted * 9, "{}", found.table());
    assert_eq!((blocked.wolf, found.wolf_declined), (0, 0), "nobody honest is declined:\n{}", found.table());
    assert!(found.per_thousand(found.wolf) < 20.0, "{}", found.table());
}

#[test]
fn without_rules_nothing_is_noticed_and_nobody_is_asked() {
    let rules = Rules::read("{ \"rules\": [] }", "EUR").unwrap();
    let found = days(&rules, &[1]);
    assert_eq!(found.wolf, 0);
    assert!(found.kinds.values().all(|counts| counts.noticed == 0 && counts.caught.is_empty()));
    assert!(found.events > 1_000 && found.honest < found.events);
}

#[test]
fn whoever_changes_a_threshold_gets_other_days() {
    let own = seeds(DEFAULT_RULES, 50);
    assert_eq!(own, seeds(DEFAULT_RULES, 50));
    let other = seeds(&DEFAULT_RULES.replacen("\"usual\": 3", "\"usual\": 4", 1), 50);
    assert!(own.iter().all(|seed| !other.contains(seed)));
}
