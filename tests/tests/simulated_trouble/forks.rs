//! A dishonest device signs two histories of a log.

use stallmesh_node::engine::{Answer, ProductView, Request, SettlementView};
use stallmesh_tests::simulation::Simulation;

use super::{member_state, notices, settle_and_recompute, until_posted};

/// A market of four stalls in which node 2 sold twice and was settled, and now runs twice as one incarnation: beside
/// nodes 1 and 3, and beside nodes 4 and 5. Gives the second process.
pub(super) fn two_faced(seed: u64) -> (Simulation, usize) {
    let mut market = Simulation::market(seed, 4);
    market.sell(2, "settled-0");
    market.sell(2, "settled-1");
    until_posted(&mut market, 2);
    let settlement = settle_and_recompute(&mut market);
    assert_eq!(settlement.posted, 2);
    market.run_for(5_000);
    market.uplink(1, false);
    let second = market.fork_device(2);
    market.partition(&[&[1, 2, 3], &[4, 5, second]]);
    (market, second)
}

pub(super) fn all_agree_on_quarantine(market: &mut Simulation, nodes: &[usize]) {
    let nodes = nodes.to_vec();
    market.until("all know of the fork", 120_000, |market| {
        nodes.iter().all(|index| member_state(market, *index, 2) == "quarantined")
    });
}

/// What stands of all that a node holds of a device, as it says.
fn standing(market: &mut Simulation, at: usize, device: usize) -> Vec<(String, u64, String, String)> {
    let author = Some(market.nodes[device].id());
    match market.ask(at, Request::LogShow { author, lane: None, before: None, limit: 1_000 }) {
        Answer::Entries(entries) => {
            let mut rows: Vec<_> = entries
                .into_iter()
                .filter(|entry| entry.lane != "sales" && entry.lane != "ledger")
                .map(|entry| (entry.lane, entry.sequence, entry.hash, entry.standing))
                .collect();
            rows.sort();
            rows
        }
        other => panic!("log: {other:?}"),
    }
}

/// Three sales of 2.50 on the left, three of 5.00 on the right.
pub(super) fn sell_on_both_sides(market: &mut Simulation, second: usize) {
    for number in 0..3 {
        market.sell(2, &format!("left-{number}"));
        let right = market.try_sell(second, &format!("right-{number}"), 2);
        assert!(matches!(right, Answer::Sale(_)), "{right:?}");
    }
    market.sell(3, "honest");
    market.run_for(5_000);
}

pub(super) fn publish_on_both_sides(market: &mut Simulation, second: usize) {
    for (node, name, price) in [(2, "To the left", 1_000), (second, "To the right", 2_000)] {
        let product =
            ProductView { sku: "P1".into(), name: name.into(), price, unit: "piece".into(), ..ProductView::default() };
        assert_eq!(market.ask(node, Request::PublishProducts(vec![product])), Answer::Done);
    }
    market.run_for(3_000);
}

fn quarantined_amounts(settlement: &SettlementView) -> Vec<i64> {
    assert!(settlement.suspense.iter().all(|row| row.reason == "quarantine"), "{:?}", settlement.suspense);
    settlement.suspense.iter().map(|row| row.amount).collect()
}

#[test]
fn adv_024_both_branches_of_a_forked_sales_log_reach_the_hub_and_stand_in_suspense() {
    for seed in 30..34 {
        let (mut market, second) = two_faced(seed);
        sell_on_both_sides(&mut market, second);
        // Sales go to few; a fork on a lane that everyone keeps is found before anything is at the hub.
        publish_on_both_sides(&mut market, second);
        market.kill(2);
        market.kill(second);
        market.heal();
        all_agree_on_quarantine(&mut market, &[1, 3, 4, 5]);
        market.uplink(if seed % 2 == 0 { 1 } else { 5 }, true);
        market.until("all sales are at the hub", 120_000, |market| {
            let settlement = market.settle(true);
            settlement.posted + settlement.suspense.len() == 2 + 1 + 6
        });
        let settlement = settle_and_recompute(&mut market);
        assert_eq!(settlement.posted, 3, "the settled and the honest: {:?}", settlement.suspense);
        let mut amounts = quarantined_amounts(&settlement);
        amounts.sort_unstable();
        assert_eq!(amounts, [250, 250, 250, 500, 500, 500]);
        market.until("carriers have handed everything over", 120_000, |market| {
            [1, 3, 4, 5].into_iter().all(|index| market.status(index).custody.held_entries == 0)
        });
    }
}

/// A fork before the key entry: each branch has a key of its own at the same place.
#[test]
fn branches_with_keys_of_their_own_are_opened_with_these_and_the_export_holds() {
    let (mut market, second) = two_faced(57);
    // Their neighbours differ, so that they have drawn different numbers before they draw a key.
    market.partition(&[&[1, 2, 3, 5], &[4, second]]);
    market.run_for(10_000);
    sell_on_both_sides(&mut market, second);
    market.kill(2);
    market.kill(second);
    market.heal();
    market.uplink(1, true);
    market.until("both branches are at the hub", 120_000, |market| {
        let settlement = market.settle(true);
        settlement.posted + settlement.suspense.len() == 2 + 1 + 6
    });
    let settlement = settle_and_recompute(&mut market);
    // Whatever stands of them, each can be read, on whichever branch it is.
    assert!(quarantined_amounts(&settlement).len() >= 3, "{:?}", settlement.suspense);
}

#[test]
fn the_branch_that_a_checkpoint_named_still_settles_and_the_other_stands_in_suspense() {
    for (seed, first, others) in [(34, [1, 2, 3], 500), (35, [4, 5, 6], 250)] {
        let (mut market, second) = two_faced(seed);
        assert_eq!(second, 6);
        sell_on_both_sides(&mut market, second);
        market.uplink(first[0], true);
        until_posted(&mut market, if first[0] == 1 { 2 + 1 + 3 } else { 2 + 3 });
        market.run_for(10_000);
        market.kill(2);
        market.kill(second);
        market.heal();
        all_agree_on_quarantine(&mut market, &[0, 1, 3, 4, 5]);
        market.until("the other branch is at the hub, too", 120_000, |market| {
            let settlement = market.settle(true);
            settlement.posted == 6 && settlement.suspense.len() == 3
        });
        let settlement = settle_and_recompute(&mut market);
        assert_eq!(quarantined_amounts(&settlement), vec![others; 3]);
        // The hub's memory of what it named must not be its process's.
        market.kill(0);
        market.start(0);
        market.run_for(10_000);
        assert_eq!(market.settle(true).digest, settlement.digest);
    }
}

#[test]
fn what_was_settled_before_a_fork_stays_so_and_a_closed_batch_never_changes() {
    let (mut market, second) = two_faced(40);
    let Answer::Ledger(before) = market.ask(0, Request::Ledger) else { panic!() };
    market.sell(2, "left");
    market.sell(second, "the right one");
    market.heal();
    market.uplink(1, true);
    all_agree_on_quarantine(&mut market, &[0, 1, 3, 4, 5]);
    market.until("both branches are at the hub", 60_000, |market| market.settle(true).suspense.len() == 2);
    let Answer::Ledger(after) = market.ask(0, Request::Ledger) else { panic!() };
    for (account, currency, sum) in before.balances {
        assert!(
            after.balances.contains(&(account.clone(), currency, sum)),
            "{account} stays as it was closed: {:?}",
            after.balances
        );
    }
    assert_eq!(after.settlements, 1);
}

#[test]
fn adv_024_all_nodes_agree_on_what_stands_of_a_forked_device_whichever_branch_came_first() {
    for seed in 50..54 {
        let (mut market, second) = two_faced(seed);
        publish_on_both_sides(&mut market, second);
        market.heal();
        all_agree_on_quarantine(&mut market, &[1, 3, 4, 5]);
        market.uplink(1, true);
        all_agree_on_quarantine(&mut market, &[0]);
        market.run_for(90_000);
        let honest = [0, 1, 3, 4, 5];
        let catalogs: Vec<_> = honest
            .iter()
            .map(|index| {
                let request =
                    Request::Catalog { stall: Some("stall-1".into()), query: String::new(), after: None, limit: 10 };
                market.ask(*index, request)
            })
            .collect();
        assert!(catalogs.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {catalogs:#?}");
        let Answer::Products(products) = &catalogs[0] else { panic!() };
        assert_eq!(products.len(), 3, "what stood before the fork stands");
        assert!(products.iter().all(|product| product.name.starts_with("Product")), "{products:?}");
        // What of its other entries is held stands, or doesn't, alike; the branch that is held may differ.
        let views: Vec<Vec<_>> = honest
            .iter()
            .map(|index| {
                let rows = standing(&mut market, *index, 2);
                rows.into_iter().filter(|(_, _, _, standing)| standing == "stands").collect()
            })
            .collect();
        assert!(views.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {views:#?}");
        assert!(notices(&mut market, 0).contains("two histories"));
    }
}

#[test]
fn where_a_checkpoint_named_one_branch_of_a_catalog_all_nodes_take_that_branch() {
    for (seed, uplink) in [(55, 1), (56, 4)] {
        let (mut market, second) = two_faced(seed);
        market.uplink(uplink, true);
        market.run_for(5_000);
        publish_on_both_sides(&mut market, second);
        market.run_for(10_000);
        market.kill(2);
        market.kill(second);
        market.heal();
        all_agree_on_quarantine(&mut market, &[0, 1, 3, 4, 5]);
        market.run_for(120_000);
        let named = if uplink == 1 { "To the left" } else { "To the right" };
        for index in [0, 1, 3, 4, 5] {
            let request =
                Request::Catalog { stall: Some("stall-1".into()), query: String::new(), after: None, limit: 10 };
            let Answer::Products(products) = market.ask(index, request) else { panic!() };
            let names: Vec<&str> = products.iter().map(|product| product.name.as_str()).collect();
            assert!(names.contains(&named), "seed {seed}, node {index}: {names:?}");
        }
        let views: Vec<_> = [0, 1, 3, 4, 5].map(|index| standing(&mut market, index, 2)).into_iter().collect();
        assert!(views.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {views:#?}");
    }
}

#[test]
fn a_helper_that_lost_its_disk_is_let_in_again_though_its_owner_has_forked_since() {
    let mut market = Simulation::market(97, 4);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell"], 48 * 3_600_000), Answer::Done);
    market.until("the helper is a member", 20_000, |market| market.status(helper).role == "stall");
    market.run_for(10_000);
    let second = market.fork_device(2);
    market.partition(&[&[1, 2, 3, helper], &[4, 5, second]]);
    sell_on_both_sides(&mut market, second);
    market.heal();
    all_agree_on_quarantine(&mut market, &[0, 1, 3, 4, 5, helper]);
    market.kill(helper);
    market.nodes[helper].disk = market.empty_disk();
    market.start(helper);
    market.ask_in(helper, "stall-1");
    market.until("it is a member again", 60_000, |market| market.status(helper).role == "stall");
    market.until("it sells", 30_000, |market| matches!(market.try_sell(helper, "again", 1), Answer::Sale(_)));
}
