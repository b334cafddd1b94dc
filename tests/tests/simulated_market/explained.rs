//! `explain` gives the true reason, and another one when the situation is another.

use stallmesh_node::engine::{Answer, ExplainSubject, Request};
use stallmesh_protocol::SaleId;
use stallmesh_tests::simulation::Simulation;

fn of_sale(market: &mut Simulation, index: usize, sale: SaleId) -> String {
    market.explain(index, ExplainSubject::Sale(sale)).state
}

fn of_device(market: &mut Simulation, index: usize, device: usize) -> String {
    let device = market.nodes[device].id();
    market.explain(index, ExplainSubject::Device(device)).state
}

fn until_sale(market: &mut Simulation, index: usize, sale: SaleId, state: &str) {
    market.until(&format!("the sale is {state}"), 60_000, |market| of_sale(market, index, sale) == state);
    let view = market.explain(index, ExplainSubject::Sale(sale));
    assert!(!view.because.is_empty() && view.because.iter().all(|reason| !reason.is_empty()));
}

fn until_device(market: &mut Simulation, index: usize, device: usize, state: &str) {
    market.until(&format!("the device is {state}"), 60_000, |market| of_device(market, index, device) == state);
}

#[test]
fn not_connected_then_no_path_then_waiting_for_the_hub_then_settled() {
    let mut market = Simulation::market(30, 3);
    market.uplink(1, false);
    market.partition(&[&[2], &[1, 3, 4]]);
    let sale = market.sell(2, "one").sale;
    assert_eq!(of_sale(&mut market, 2, sale), "not_connected");
    assert_eq!(of_device(&mut market, 2, 3), "not_connected");
    market.heal();
    until_sale(&mut market, 2, sale, "no_path");
    until_device(&mut market, 2, 3, "here");
    market.uplink(4, true);
    until_sale(&mut market, 2, sale, "waiting_for_hub");
    market.until("posted", 60_000, |market| market.settle(true).posted == 1);
    assert_eq!(of_sale(&mut market, 2, sale), "waiting_for_hub");
    market.settle(false);
    until_sale(&mut market, 2, sale, "settled");
}

#[test]
fn refused_by_quota_until_there_is_room() {
    let mut market = Simulation::market(31, 2);
    market.uplink(1, false);
    let room = |market: &mut Simulation, bytes: u64| {
        for index in [1, 3] {
            market.kill(index);
            market.nodes[index].settings.custody_bytes_max = bytes;
            market.start(index);
        }
    };
    room(&mut market, 0);
    market.run_for(3_000);
    let sale = market.sell(2, "one").sale;
    until_sale(&mut market, 2, sale, "refused");
    let view = market.explain(2, ExplainSubject::Sale(sale));
    assert!(view.because.iter().all(|reason| reason.contains("room")), "{view:?}");
    room(&mut market, 100_000);
    until_sale(&mut market, 2, sale, "no_path");
}

#[test]
fn quarantined_until_an_incarnation_is_admitted_again() {
    let mut market = Simulation::market(32, 3);
    market.run_for(3_000);
    let second = market.fork_device(2);
    market.partition(&[&[1, 2, 3], &[4, second]]);
    market.publish_at(2, 10);
    market.publish_at(second, 20);
    market.run_for(3_000);
    assert_eq!(of_device(&mut market, 1, 2), "here");
    market.kill(second);
    market.heal();
    for index in [0, 1, 3, 4] {
        until_device(&mut market, index, 2, "quarantined");
    }
    let sale = market.sell(2, "by the quarantined").sale;
    until_sale(&mut market, 2, sale, "quarantined");
    market.kill(2);
    market.start(2);
    market.sell(2, "by its next run");
    market.run_for(5_000);
    let device = market.nodes[2].id();
    assert_eq!(market.ask(0, Request::Readmit { device }), Answer::Done);
    until_device(&mut market, 1, 2, "here");
    until_device(&mut market, 2, 2, "here");
}

#[test]
fn not_a_member_until_it_is_one_and_not_connected_when_it_has_gone() {
    let mut market = Simulation::market(33, 2);
    let late = market.add();
    assert_eq!(of_device(&mut market, 1, late), "not_a_member");
    assert_eq!(of_device(&mut market, late, late), "not_a_member");
    market.invite(late, "late");
    until_device(&mut market, late, late, "here");
    until_device(&mut market, 3, late, "here");
    market.kill(late);
    until_device(&mut market, 3, late, "not_connected");
    assert_eq!(market.revoke(0, late), Answer::Done);
    until_device(&mut market, 3, late, "revoked");
}
