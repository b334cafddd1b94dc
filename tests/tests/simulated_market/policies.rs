//! The market's terms change while some can't hear of it.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_node::engine::{Answer, PolicyView, Request, SaleView, recompute};
use stallmesh_tests::simulation::{Simulation, market_order};

/// The market's share of each posted sale, by sale id, as a recomputation from the hub's export says.
fn fees(market: &mut Simulation) -> BTreeMap<String, u64> {
    let export = market.export(0);
    let recomputed = recompute(export.as_slice(), Some(market.root), 0).unwrap();
    let sale_of = |entry: &str| {
        recomputed
            .sales
            .iter()
            .find(|sale| stallmesh_node::hub::reconcile::entry_name(&sale.at) == entry)
            .map(|sale| sale.sale.clone())
            .unwrap()
    };
    let rows = recomputed.reconciliation.rows.iter().filter(|row| row.account == "market-fee");
    rows.map(|row| (sale_of(&row.entry), row.amount.unsigned_abs())).collect()
}

fn share(sale: &SaleView, percent: u64) -> u64 {
    ((sale.total - sale.tax) * percent + 50) / 100
}

#[test]
fn a_sale_is_charged_by_the_policy_that_its_stall_had_been_told() {
    let mut market = Simulation::market(31, 2);
    let (told, cut_off) = (2, 3);
    market.run_for(8_000);
    let mut expected = BTreeMap::new();
    for index in [told, cut_off] {
        let sale = market.sell(index, "before");
        expected.insert(sale.sale.to_string(), share(&sale, 5));
    }
    market.until("both are at the hub", 60_000, |market| market.settle(true).posted == 2);
    assert_eq!(market.settle(false).number, 1);
    let closed_sales: BTreeSet<String> = expected.keys().cloned().collect();
    market.partition(&[&[0, 1, told], &[cut_off]]);
    let policy = PolicyView { fee_rate: "20".into(), ..market_order().policy };
    assert_eq!(market.ask(0, Request::SetPolicy(policy)), Answer::Done);
    market.run_for(8_000);
    let sale = market.sell(told, "after");
    expected.insert(sale.sale.to_string(), share(&sale, 20));
    let sale = market.sell(cut_off, "after, unheard");
    expected.insert(sale.sale.to_string(), share(&sale, 5));
    market.heal();
    market.until("all are at the hub", 60_000, |market| market.settle(true).posted == 4);
    market.run_for(8_000);
    let sale = market.sell(cut_off, "told at last");
    expected.insert(sale.sale.to_string(), share(&sale, 20));
    market.until("the last one, too", 60_000, |market| market.settle(true).posted == 5);
    assert_eq!(fees(&mut market), expected);
    // What was closed under the old fee gets no adjustment: the next batch takes the new sales' fees, and no more.
    let next = market.settle(true);
    assert_eq!((next.number, next.posted, next.newly_posted), (2, 5, 3));
    let later: u64 = expected.iter().filter(|(sale, _)| !closed_sales.contains(*sale)).map(|(_, fee)| fee).sum();
    let taken: i64 = market
        .settle(false)
        .statements
        .iter()
        .flat_map(|statement| statement.body["balances"].as_array().cloned().unwrap_or_default())
        .filter(|balance| balance[0] == "market-fee")
        .map(|balance| balance[1].as_i64().unwrap())
        .sum();
    assert_eq!(taken, -later.cast_signed());
}
