//! Promises of the whole node, shown in the simulator.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod away;
mod baskets;
mod explained;
mod joining;
mod once;
mod online;
mod orders;
mod policies;
mod presync;
mod promotions;
mod renewal;
mod signals;
mod stock;
mod tenders;
mod urgent;

use stallmesh_node::engine::{Answer, Request, SaleState, recompute};
use stallmesh_tests::simulation::Simulation;

#[test]
fn stalls_join_through_each_other_and_share_their_catalogs() {
    let mut market = Simulation::market(1, 4);
    for index in 1..6 {
        let Answer::Members(members) = market.ask(index, Request::Members) else { panic!() };
        assert_eq!(members.len(), 6, "hub, gateway and four stalls");
    }
}

#[test]
fn sales_without_an_uplink_are_copied_and_settle_once_it_is_back() {
    let mut market = Simulation::market(2, 4);
    market.uplink(1, false);
    for index in 2..6 {
        for number in 0..5 {
            market.sell(index, &format!("sale-{index}-{number}"));
        }
    }
    market.until("every sale has a copy", 30_000, |market| (2..6).all(|index| market.status(index).sales.copied == 5));
    assert_eq!(market.settle(true).posted, 0, "nothing can be at the hub");
    market.uplink(1, true);
    market.until("every sale is at the hub", 60_000, |market| {
        (2..6).all(|index| market.status(index).sales.at_the_hub == 5)
    });
    let dry = market.settle(true);
    let settlement = market.settle(false);
    assert_eq!((settlement.posted, settlement.suspense.len()), (20, 0));
    assert_eq!(dry.digest, settlement.digest);
    assert!(settlement.sums.iter().all(|(_, sum)| *sum == 0));
    market.until("every stall has its statement", 60_000, |market| {
        (2..6).all(|index| market.status(index).sales.settled == 5)
    });
    let export = market.export(0);
    for seed in 0..5 {
        let recomputed = recompute(export.as_slice(), Some(market.root), seed).unwrap();
        assert_eq!(recomputed.reconciliation.digest().to_string(), settlement.digest);
    }
}

#[test]
fn a_sale_of_a_device_that_never_comes_back_is_settled_from_its_neighbours_copy() {
    let mut market = Simulation::market(3, 3);
    market.uplink(1, false);
    for number in 0..30 {
        market.sell(2, &format!("older-{number}"));
    }
    market.run_for(2_000);
    let sale = market.sell(2, "the last one");
    market.until("one neighbour holds it", 10_000, |market| {
        matches!(market.ask(2, Request::Sale(sale.sale)), Answer::Sale(view) if view.state >= SaleState::Copied)
    });
    market.kill(2);
    market.uplink(1, true);
    market.until("its sales are settled", 60_000, |market| market.settle(true).posted == 31);
}

#[test]
fn adv_062_a_carrier_cannot_read_what_it_carries() {
    let mut market = Simulation::market(4, 3);
    market.uplink(1, false);
    market.sell(2, "a");
    market.until("copied", 10_000, |market| market.status(2).sales.copied == 1);
    let carriers: Vec<usize> =
        (1..5).filter(|index| *index != 2 && market.status(*index).custody.held_entries > 0).collect();
    assert!(!carriers.is_empty());
    for carrier in carriers {
        for marker in [b"MARKER-clear-text-note".as_slice(), b"tok_visa_4242", b"Ada"] {
            assert!(!market.nodes[carrier].disk.contains(marker));
        }
        let export = market.export(carrier);
        let recomputed = recompute(export.as_slice(), None, 0).unwrap();
        assert!(recomputed.sales.is_empty(), "a carrier's export opens nothing");
    }
    assert!(market.nodes[2].disk.contains(b"P2"), "the seller's own disk does: the search can find something");
}

#[test]
fn a_device_that_members_have_dialled_before_it_knew_of_a_market_joins_all_the_same() {
    let mut market = Simulation::market(5, 2);
    let late = market.add();
    market.run_for(10_000);
    assert_eq!(market.status(late).role, "none");
    market.invite(late, "late-stall");
    market.until("it joins", 10_000, |market| market.status(late).role == "stall");
}

#[test]
fn a_helper_whom_everybody_knows_but_itself_learns_that_it_is_a_member() {
    for seed in 0..10 {
        let mut market = Simulation::market(seed, 3);
        market.uplink(1, false);
        let helper = market.add();
        market.partition(&[&[1, 2, 3, 4], &[helper]]);
        let Answer::Invite(link) = market.ask(
            0,
            Request::CreateInvite(stallmesh_node::engine::InviteOrder {
                role: "gateway".into(),
                stall: String::new(),
                name: "spent".into(),
                expires_ms: 1_000_000,
                valid_ms: 1_000_000,
            }),
        ) else {
            panic!()
        };
        let ask = Request::AskToJoin { market: link, name: "helper".into(), stall: "stall-1".into() };
        assert_eq!(market.ask(helper, ask), Answer::Done);
        let status = market.status(helper);
        let order = stallmesh_node::engine::DelegateOrder {
            device: market.nodes[helper].id(),
            seal_key: status.seal_key,
            name: "helper".into(),
            scopes: vec!["sell=1000".into()],
            valid_ms: 1_000_000,
        };
        assert_eq!(market.ask(2, Request::Delegate(order)), Answer::Done);
        // Everybody has heard of it before it appears.
        market.run_for(3_000);
        market.heal();
        market.until("the helper joins", 20_000, |market| market.status(helper).role == "stall");
        assert!(matches!(market.try_sell(helper, "one", 1), Answer::Failed(_) | Answer::Sale(_)));
        market.until("it can sell", 20_000, |market| matches!(market.try_sell(helper, "two", 1), Answer::Sale(_)));
        assert!(matches!(market.try_sell(helper, "three", 90), Answer::Failed(_)), "above its limit");
    }
}

#[test]
fn a_join_request_that_members_carry_is_judged_when_it_comes_and_not_at_the_next_checkpoint() {
    let mut market = Simulation::market(6, 2);
    market.kill(0);
    market.nodes[0].settings.checkpoint_every_ms = 24 * 3_600_000;
    market.start(0);
    market.until("the gateway has its uplink again", 30_000, |market| market.status(1).uplink.up);
    market.run_for(5_000);
    let late = market.add();
    market.invite(late, "late-stall");
    market.until("it joins", 30_000, |market| market.status(late).role == "stall");
}

#[test]
fn in_a_market_wider_than_its_links_every_sale_finds_a_way_out_over_neighbours_of_neighbours() {
    let stalls = 24;
    let mut market = Simulation::market(6, stalls);
    let last = stalls + 2;
    market.uplink(1, false);
    for index in 2..last {
        market.sell(index, &format!("sale-{index}"));
    }
    market
        .until("every sale has a copy", 30_000, |market| (2..last).all(|index| market.status(index).sales.copied == 1));
    let gateway = market.nodes[1].id().to_string();
    let far =
        |market: &mut Simulation, index: usize| market.status(index).peers.iter().all(|peer| peer.device != gateway);
    assert!((2..last).any(|index| far(&mut market, index)), "some stalls have no link to the gateway");
    market.uplink(1, true);
    market.until("every sale is at the hub, and its stall knows it", 60_000, |market| {
        (2..last).all(|index| market.status(index).sales.at_the_hub == 1)
    });
}
