//! Promises of the whole node while something is wrong, shown in the simulator.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod branches;
mod custody;
mod cuts;
mod erasures;
mod forks;
mod incarnations;
mod key_streams;
mod ledger;
mod lives;
mod opening_keys;
mod pages;
mod recovery;
mod restored;
mod revoked;
mod room;
mod strangers;

use std::collections::BTreeMap;

use stallmesh_node::engine::{Answer, HeadView, Request, SettlementView, recompute};
use stallmesh_tests::simulation::Simulation;

/// What a node says is wrong.
fn notices(market: &mut Simulation, index: usize) -> String {
    market.status(index).notices.join("\n")
}

/// How many entries of the `sales` lane a node holds, by incarnation of their author.
fn held_sales(market: &mut Simulation, index: usize, author: usize) -> BTreeMap<String, u64> {
    let author = market.nodes[author].id().to_string();
    let heads = market.status(index).heads;
    let sales = |head: &&HeadView| head.lane == "sales" && head.author == author;
    heads.iter().filter(sales).map(|head| (head.incarnation.clone(), head.sequence)).collect()
}

/// Settles, and checks that whoever recomputes it from the hub's export gets the same.
fn settle_and_recompute(market: &mut Simulation) -> SettlementView {
    let settlement = market.settle(false);
    assert!(settlement.sums.iter().all(|(_, sum)| *sum == 0), "{:?}", settlement.sums);
    let export = market.export(0);
    for seed in 0..3 {
        let recomputed = recompute(export.as_slice(), Some(market.root), seed).unwrap();
        assert_eq!(recomputed.reconciliation.digest().to_string(), settlement.digest, "recomputed in order {seed}");
    }
    settlement
}

/// Waits until the hub would post so many sales.
fn until_posted(market: &mut Simulation, sales: usize) {
    market.until(&format!("{sales} sales are posted"), 120_000, |market| market.settle(true).posted == sales);
}

/// The state of a device in a node's list of members.
fn member_state(market: &mut Simulation, at: usize, device: usize) -> String {
    let id = market.nodes[device].id();
    match market.ask(at, Request::Members) {
        Answer::Members(members) => members
            .into_iter()
            .find(|member| member.device == id)
            .map_or_else(|| "unknown".to_owned(), |member| member.state),
        other => panic!("members: {other:?}"),
    }
}
