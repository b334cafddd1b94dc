//! What is said about a person can go, and nothing else goes with it.

use stallmesh_node::engine::{Answer, FailureCode, Request};
use stallmesh_protocol::DeviceId;
use stallmesh_tests::simulation::Simulation;

use crate::{settle_and_recompute, until_posted};

/// How an entry's personal part stands at a node: erased or not; `None` where the entry isn't held.
fn is_erased_at(market: &mut Simulation, index: usize, author: DeviceId, entry: &str) -> Option<bool> {
    let request = Request::LogShow { author: Some(author), lane: Some("sales".into()), before: None, limit: 1000 };
    let Answer::Entries(entries) = market.ask(index, request) else { return None };
    let sequence: u64 = entry.rsplit('/').next()?.parse().ok()?;
    entries.iter().find(|shown| shown.sequence == sequence).map(|shown| shown.erased)
}

#[test]
fn an_erased_part_goes_everywhere_whichever_came_first_and_the_sale_settles() {
    let mut market = Simulation::market(71, 4);
    let author = market.nodes[2].id();
    market.uplink(1, false);
    // Node 5 gets the erasure before it gets the sale.
    market.partition(&[&[1, 2, 3, 4], &[5]]);
    let entry = market.sell(2, "one").entry;
    market.until("neighbours hold copies", 60_000, |market| {
        (3..=4).all(|index| is_erased_at(market, index, author, &entry) == Some(false))
    });
    assert_eq!(market.ask(2, Request::Erase { subject: entry.clone() }), Answer::Done);
    market.until("it is gone where it was held", 60_000, |market| {
        [2, 3, 4].into_iter().all(|index| is_erased_at(market, index, author, &entry) == Some(true))
    });
    market.heal();
    market.uplink(5, true);
    until_posted(&mut market, 1);
    assert_eq!(is_erased_at(&mut market, 0, author, &entry), Some(true), "the hub never had it");
    let settlement = settle_and_recompute(&mut market);
    assert_eq!((settlement.posted, settlement.suspense.len()), (1, 0));
}

#[test]
fn nobody_erases_another_stalls_entries_but_the_hub() {
    let mut market = Simulation::market(72, 3);
    let author = market.nodes[2].id();
    let entry = market.sell(2, "one").entry;
    market.until("the hub has it", 60_000, |market| is_erased_at(market, 0, author, &entry) == Some(false));
    market.until("a neighbour has it", 60_000, |market| is_erased_at(market, 3, author, &entry).is_some());
    match market.ask(3, Request::Erase { subject: entry.clone() }) {
        Answer::Failed(failure) => assert_eq!(failure.code, FailureCode::EScope, "{failure:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(market.ask(0, Request::Erase { subject: entry.clone() }), Answer::Done);
    market.until("it is gone at its author", 60_000, |market| is_erased_at(market, 2, author, &entry) == Some(true));
    // A restart reads what is left, and finds nothing to do.
    market.kill(2);
    market.start(2);
    assert_eq!(is_erased_at(&mut market, 2, author, &entry), Some(true));
    assert_eq!(settle_and_recompute(&mut market).posted, 1);
}
