//! Forks on every lane, found in any order: once the market is whole again, all nodes believe the same.

use stallmesh_node::engine::{Answer, ProductView, Request};
use stallmesh_tests::simulation::Simulation;

use super::forks::{all_agree_on_quarantine, publish_on_both_sides, sell_on_both_sides, two_faced};
use super::{settle_and_recompute, until_posted};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Forked {
    Control,
    Signal,
    Catalog,
    Sales,
}

/// Which branch a hub sees before anybody knows of the fork.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Named {
    Neither,
    Left,
    Right,
}

/// Sales are few, and few see them: a hub that sees both branches finds the fork.
const HONEST: [usize; 5] = [0, 1, 3, 4, 5];

fn forked_market(seed: u64, forked: Forked, named: Named) -> (Simulation, usize, [usize; 2]) {
    let (mut market, second) = two_faced(seed);
    // Two devices that ask for stall 1, one on either side.
    let [left, right] = [market.add(), market.add()];
    market.partition(&[&[1, 2, 3, left], &[4, 5, second, right]]);
    match named {
        Named::Neither => {}
        Named::Left => market.uplink(1, true),
        Named::Right => market.uplink(4, true),
    }
    market.run_for(3_000);
    match forked {
        Forked::Control => {
            for (owner, helper) in [(2, left), (second, right)] {
                market.ask_in(helper, "stall-1");
                assert_eq!(market.delegate(owner, helper, &["sell"], 3_600_000), Answer::Done);
            }
        }
        Forked::Signal => {
            // Each of its processes carries another stranger's request.
            market.ask_in(left, "stall-1");
            market.ask_in(right, "stall-1");
        }
        Forked::Catalog => publish_on_both_sides(&mut market, second),
        Forked::Sales => sell_on_both_sides(&mut market, second),
    }
    market.run_for(10_000);
    (market, second, [left, right])
}

fn agree_after_a_fork(seed: u64, forked: Forked, named: Named) {
    let (mut market, second, helpers) = forked_market(seed, forked, named);
    let gone = seed.is_multiple_of(2);
    if gone {
        market.kill(2);
        market.kill(second);
    }
    market.heal();
    for node in [1, 4] {
        market.uplink(node, true);
    }
    all_agree_on_quarantine(&mut market, &HONEST);
    let beliefs = market.until_agreed(&HONEST, 180_000);
    let products = beliefs.products.iter().filter(|product| product.stall == "stall-1");
    assert_eq!(products.count(), 3, "{forked:?} {named:?}: what stood before the fork stands");
    if forked == Forked::Control {
        let known = helpers.map(|helper| {
            let id = market.nodes[helper].id();
            beliefs.members.iter().any(|member| member.0 == id)
        });
        let expected = [named == Named::Left, named == Named::Right];
        assert_eq!(known, expected, "{named:?}: the helper on the branch that a checkpoint named, and no other");
    }
    // Whoever comes late is told of the fork before it has seen an entry of the device.
    let late = market.add();
    market.invite(late, "");
    market.until("a late node joins", 60_000, |market| market.status(late).role == "gateway");
    market.until_agreed(&[0, 1, 3, 4, 5, late], 180_000);
}

#[test]
fn after_a_fork_of_the_control_lane_all_nodes_believe_the_same() {
    for (seed, named) in [(80, Named::Neither), (81, Named::Left), (82, Named::Right)] {
        agree_after_a_fork(seed, Forked::Control, named);
    }
}

#[test]
fn after_a_fork_of_the_signal_lane_all_nodes_believe_the_same() {
    for (seed, named) in [(83, Named::Neither), (84, Named::Left), (85, Named::Right)] {
        agree_after_a_fork(seed, Forked::Signal, named);
    }
}

#[test]
fn adv_025_after_a_fork_of_the_catalog_lane_all_nodes_believe_the_same() {
    for (seed, named) in [(86, Named::Neither), (87, Named::Left), (88, Named::Right)] {
        agree_after_a_fork(seed, Forked::Catalog, named);
    }
}

#[test]
fn after_a_fork_of_the_sales_lane_all_nodes_believe_the_same() {
    for (seed, named) in [(89, Named::Neither), (90, Named::Left), (91, Named::Right)] {
        agree_after_a_fork(seed, Forked::Sales, named);
    }
}

fn publish(market: &mut Simulation, node: usize, sku: &str, name: &str) {
    let product =
        ProductView { sku: sku.into(), name: name.into(), price: 700, unit: "piece".into(), ..ProductView::default() };
    assert_eq!(market.ask(node, Request::PublishProducts(vec![product])), Answer::Done);
}

/// A market in which node 2 runs three times as one incarnation, each beside two others.
fn three_faced(seed: u64) -> (Simulation, [usize; 3]) {
    let mut market = Simulation::market(seed, 6);
    market.run_for(5_000);
    market.uplink(1, false);
    let all = market.split_device(2, 3);
    let [_, second, third] = all[..] else { panic!() };
    market.partition(&[&[1, 2, 3], &[4, 5, second], &[6, 7, third]]);
    (market, [2, second, third])
}

#[test]
fn nodes_that_see_three_histories_in_different_orders_believe_the_same() {
    for (seed, order) in [(92, [0, 1, 2]), (93, [1, 2, 0]), (94, [2, 0, 1])] {
        let (mut market, faces) = three_faced(seed);
        for (face, name) in faces.into_iter().zip(["One", "Two", "Three"]) {
            publish(&mut market, face, "P1", name);
            // Histories of different lengths.
            for number in 0..order[0] {
                publish(&mut market, face, "P2", &format!("{name} {number}"));
            }
        }
        market.run_for(3_000);
        let groups: [&[usize]; 3] = [&[1, 2, 3], &[4, 5, faces[1]], &[6, 7, faces[2]]];
        let [first, second, third] = order.map(|index| groups[index]);
        let two: Vec<usize> = first.iter().chain(second).copied().collect();
        market.partition(&[&two, third]);
        market.run_for(20_000);
        market.heal();
        market.uplink(if seed == 93 { 7 } else { 1 }, true);
        let honest = [0, 1, 3, 4, 5, 6, 7];
        all_agree_on_quarantine(&mut market, &honest);
        let beliefs = market.until_agreed(&honest, 180_000);
        let names = beliefs.products.iter().filter(|product| product.stall == "stall-1");
        assert!(names.clone().count() == 3 && names.clone().all(|product| product.name.starts_with("Product")));
    }
}

#[test]
fn adv_024_an_earlier_fork_that_is_proved_after_a_later_one_moves_the_line_back_on_every_node() {
    for seed in [95, 96] {
        let (mut market, faces) = three_faced(seed);
        // Two of three faces write the same entry, at the same moment; then they part. The third parted before.
        publish(&mut market, faces[0], "P4", "Shared by two");
        publish(&mut market, faces[1], "P4", "Shared by two");
        publish(&mut market, faces[2], "P4", "Parted before");
        publish(&mut market, faces[0], "P5", "Left");
        publish(&mut market, faces[1], "P5", "Right");
        market.run_for(3_000);
        // They would sign more histories when they hear of each other.
        faces.into_iter().for_each(|face| market.kill(face));
        market.partition(&[&[1, 2, 3, 4, 5, faces[1]], &[6, 7, faces[2]]]);
        all_agree_on_quarantine(&mut market, &[1, 3, 4, 5]);
        let beliefs = market.until_agreed(&[1, 3, 4, 5], 60_000);
        let has = |name: &str, products: &[ProductView]| products.iter().any(|product| product.name == name);
        assert!(has("Shared by two", &beliefs.products), "it precedes the fork that is known");
        market.heal();
        market.uplink(if seed == 95 { 6 } else { 1 }, true);
        let honest = [0, 1, 3, 4, 5, 6, 7];
        all_agree_on_quarantine(&mut market, &honest);
        market.until("the line has moved", 120_000, |market| {
            honest.iter().all(|node| !has("Shared by two", &market.products(*node, Some("stall-1"))))
        });
        let beliefs = market.until_agreed(&honest, 180_000);
        assert!(!has("Parted before", &beliefs.products) && has("Product 1 of node 2", &beliefs.products));
    }
}

#[test]
fn two_pairs_of_histories_that_part_late_lead_every_node_to_where_all_of_them_parted() {
    for seed in [98, 99] {
        let mut market = Simulation::market(seed, 6);
        market.run_for(5_000);
        market.uplink(1, false);
        let all = market.split_device(2, 4);
        let [one, two, three, four] = all[..] else { panic!() };
        market.partition(&[&[1, 3, one], &[4, two], &[5, 6, three], &[7, four]]);
        // Two pairs, each of one mind until its third entry.
        for (face, name) in [(one, "Left"), (two, "Left"), (three, "Right"), (four, "Right")] {
            publish(&mut market, face, "P4", name);
        }
        for (face, name) in [(one, "One"), (two, "Two"), (three, "Three"), (four, "Four")] {
            publish(&mut market, face, "P5", name);
        }
        market.run_for(3_000);
        all.iter().for_each(|face| market.kill(*face));
        market.partition(&[&[1, 3, 4], &[5, 6, 7]]);
        // Each half knows of a fork at the third entry, with another entry before it.
        all_agree_on_quarantine(&mut market, &[1, 3, 4, 5, 6, 7]);
        market.run_for(5_000);
        market.heal();
        if seed == 98 {
            market.uplink(5, true);
            all_agree_on_quarantine(&mut market, &[0]);
        }
        let nodes: &[usize] = if seed == 98 { &[0, 1, 3, 4, 5, 6, 7] } else { &[1, 3, 4, 5, 6, 7] };
        market.run_for(60_000);
        let beliefs = market.until_agreed(nodes, 180_000);
        let names: Vec<&str> = beliefs.products.iter().map(|product| product.name.as_str()).collect();
        assert!(!names.contains(&"Left") && !names.contains(&"Right"), "{names:?}");
    }
}

#[test]
fn sales_of_a_helper_on_the_branch_that_a_checkpoint_named_settle() {
    let (mut market, _, [left, right]) = forked_market(97, Forked::Control, Named::Left);
    market.until("both helpers are members, each on its side", 30_000, |market| {
        [left, right].into_iter().all(|helper| market.status(helper).role == "stall")
    });
    market.sell(left, "on the named branch");
    market.sell(right, "on the other");
    until_posted(&mut market, 2 + 1);
    market.heal();
    all_agree_on_quarantine(&mut market, &HONEST);
    market.until_agreed(&HONEST, 180_000);
    let settlement = settle_and_recompute(&mut market);
    assert_eq!(settlement.posted, 3, "{:?}", settlement.suspense);
    market.until("nobody talks to the other helper any more", 60_000, |market| {
        let id = market.nodes[right].id().to_string();
        HONEST.iter().all(|node| market.status(*node).peers.iter().all(|peer| peer.device != id))
    });
}
