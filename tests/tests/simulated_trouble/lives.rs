//! Devices that come back from an older disk, or run twice.

use stallmesh_tests::simulation::Simulation;

use super::{held_sales, notices, settle_and_recompute, until_posted};

/// A market in which node 2 sold, was copied to its neighbours, and then lost all that it wrote after `lost` sales.
fn rolled_back(seed: u64, connected: bool) -> Simulation {
    let mut market = Simulation::market(seed, 3);
    market.uplink(1, false);
    for number in 0..3 {
        market.sell(2, &format!("kept-{number}"));
    }
    market.run_for(2_000);
    let yesterday = market.nodes[2].disk.copy();
    for number in 0..4 {
        market.sell(2, &format!("lost-{number}"));
    }
    market.until("all have copies", 20_000, |market| market.status(2).sales.copied == 7);
    market.kill(2);
    market.nodes[2].disk = yesterday;
    if !connected {
        market.partition(&[&[1, 3, 4], &[2]]);
    }
    market.start(2);
    market
}

#[test]
fn adv_033_a_device_rolled_back_to_yesterdays_disk_sells_at_once_and_gets_its_lost_entries_back() {
    for connected in [true, false] {
        let mut market = rolled_back(11, connected);
        // At once: not one event of the network has been handled.
        market.sell(2, "after");
        assert_eq!(market.status(2).sales.recorded, 4, "what was lost is lost to its own list until it comes back");
        market.heal();
        market.until("its lost entries are back", 60_000, |market| {
            let held = held_sales(market, 2, 2);
            // Opening, key and seven sales; opening, key and one sale.
            held.len() == 2 && held.values().copied().sum::<u64>() == 9 + 3
        });
        market.uplink(1, true);
        until_posted(&mut market, 8);
        let settlement = settle_and_recompute(&mut market);
        assert_eq!((settlement.posted, settlement.suspense.len()), (8, 0), "{:?}", settlement.suspense);
        for index in 0..5 {
            assert!(!notices(&mut market, index).contains("two histories"), "no position was signed twice");
        }
    }
}

#[test]
fn a_request_sent_again_to_a_device_that_lost_it_makes_no_second_posting() {
    let mut market = rolled_back(12, false);
    market.sell(2, "lost-1");
    market.sell(2, "lost-2");
    market.heal();
    market.uplink(1, true);
    until_posted(&mut market, 7);
    market.run_for(10_000);
    let settlement = settle_and_recompute(&mut market);
    assert_eq!((settlement.posted, settlement.suspense.len()), (7, 0), "{:?}", settlement.suspense);
}

#[test]
fn adv_034_a_device_robbed_of_its_last_commit_settles_everything_that_it_acknowledged() {
    for seed in 20..26 {
        let mut market = Simulation::market(seed, 2);
        market.uplink(1, false);
        market.sell(2, "before");
        let robbed = market.nodes[2].disk.copy();
        market.sell(2, "the last commit");
        market.until("copied", 20_000, |market| market.status(2).sales.copied == 2);
        market.kill(2);
        market.nodes[2].disk = robbed;
        market.start(2);
        market.sell(2, "after");
        market.uplink(1, true);
        until_posted(&mut market, 3);
        assert!(market.suspense().is_empty());
    }
}

#[test]
fn adv_035_a_clone_raises_the_alarm_and_both_sides_sales_settle() {
    let mut market = Simulation::market(13, 3);
    market.uplink(1, false);
    market.sell(2, "before");
    market.run_for(1_000);
    let clone = market.clone_device(2, market.nodes[2].disk.copy());
    for number in 0..3 {
        market.sell(2, &format!("original-{number}"));
        market.sell(clone, &format!("clone-{number}"));
        market.run_for(500);
    }
    // The same customer, the same key, at both machines: one sale.
    market.sell(2, "at both");
    market.sell(clone, "at both");
    market.uplink(1, true);
    until_posted(&mut market, 8);
    market.until("third parties raise the alarm", 60_000, |market| {
        [0, 3, 4].into_iter().all(|index| notices(market, index).contains("two copies of device"))
    });
    let settlement = settle_and_recompute(&mut market);
    assert_eq!((settlement.posted, settlement.suspense.len()), (8, 0), "{:?}", settlement.suspense);
    assert!(!notices(&mut market, 0).contains("two histories"), "no position was signed twice");
}

/// No node believes that the device runs twice, or signed twice.
fn nobody_is_alarmed(market: &mut Simulation) {
    for index in 0..market.nodes.len() {
        if market.nodes[index].engine.is_some() {
            let notices = notices(market, index);
            assert!(!notices.contains("two "), "node {index}: {notices}");
        }
    }
}

#[test]
fn rollbacks_crashes_and_lost_commits_raise_no_alarm_with_and_without_anybody_to_ask() {
    for (seed, connected) in [(15, true), (16, false)] {
        let mut market = rolled_back(seed, connected);
        market.sell(2, "after");
        market.run_for(2_000);
        // Once more, from the same old disk, before and after it got back what it had lost.
        let robbed = market.nodes[2].disk.copy();
        market.sell(2, "lost again");
        market.run_for(2_000);
        market.kill(2);
        market.nodes[2].disk = robbed;
        market.start(2);
        market.sell(2, "after that");
        market.heal();
        market.run_for(5_000);
        market.nodes[2].disk.fail_next_commit();
        assert!(!matches!(market.try_sell(2, "on a full disk", 1), stallmesh_node::engine::Answer::Sale(_)));
        market.start(2);
        market.sell(2, "after the full disk");
        market.uplink(1, true);
        // Without a neighbour the sale that was lost again had no copy anywhere.
        until_posted(&mut market, if connected { 11 } else { 10 });
        market.run_for(10_000);
        nobody_is_alarmed(&mut market);
        assert!(market.suspense().is_empty());
    }
}

#[test]
fn adv_142_a_clone_that_nobody_could_warn_is_found_by_third_parties_without_a_hub() {
    let mut market = Simulation::market(17, 4);
    market.uplink(1, false);
    market.sell(2, "before");
    market.run_for(1_000);
    market.partition(&[&[1, 3], &[2], &[4, 5]]);
    let clone = market.clone_device(2, market.nodes[2].disk.copy());
    market.network_join(clone, 4);
    for number in 0..3 {
        // Each sells at once, alone or beside others.
        market.sell(2, &format!("original-{number}"));
        market.sell(clone, &format!("clone-{number}"));
        market.publish_at(2, number);
        market.publish_at(clone, 10 + number);
        market.run_for(500);
    }
    market.heal();
    market.until("third parties raise the alarm, and no hub", 60_000, |market| {
        [1, 3, 4, 5].into_iter().all(|index| notices(market, index).contains("two copies of device"))
    });
    market.uplink(3, true);
    until_posted(&mut market, 7);
    let settlement = settle_and_recompute(&mut market);
    assert_eq!((settlement.posted, settlement.suspense.len()), (7, 0), "{:?}", settlement.suspense);
    market.until_agreed(&[0, 1, 3, 4, 5], 60_000);
}

#[test]
#[should_panic(expected = "honest devices signed a position twice")]
fn the_witness_of_every_simulation_sees_a_position_that_was_signed_twice() {
    let mut market = Simulation::market(18, 2);
    let twin = market.clone_device(2, market.nodes[2].disk.copy());
    for index in [2, twin] {
        market.kill(index);
        market.nodes[index].next_seed = Some([7; 32]);
        market.start(index);
    }
    market.publish_at(2, 10);
    market.publish_at(twin, 20);
    market.witness.check();
}

#[test]
fn a_device_that_was_only_restarted_raises_no_alarm() {
    let mut market = Simulation::market(14, 3);
    for round in 0..5 {
        market.sell(2, &format!("sale-{round}"));
        market.run_for(700);
        market.kill(2);
        market.start(2);
        market.sell(2, &format!("again-{round}"));
        market.run_for(300);
    }
    until_posted(&mut market, 10);
    for index in 0..5 {
        assert!(!notices(&mut market, index).contains("two"), "{}", notices(&mut market, index));
    }
}
