//! A device that writes two histories under one day key: what it sealed at one position shares no key stream.

use stallmesh_protocol::planted::{Bug, plant};
use stallmesh_tests::simulation::Simulation;

/// Two processes of one incarnation sell at one moment. Gives at how many places two ciphertexts were sealed, and of how
/// many entries the key stream was used before.
fn sold_twice_at_one_position(seed: u64) -> (usize, usize) {
    let mut market = Simulation::market(seed, 2);
    let second = market.fork_device(2);
    market.sell(2, "the same length, once");
    market.sell(second, "the same length, more");
    let seen = (market.witness.sealed_twice(), market.witness.reused_key_streams().len());
    market.witness.stand_down();
    seen
}

#[test]
fn two_sales_at_one_position_share_no_key_stream_and_where_they_do_it_is_seen() {
    let (twice, reused) = sold_twice_at_one_position(450);
    assert!(twice > 0, "nothing was sealed twice at one place");
    assert_eq!(reused, 0);
    plant(Some(Bug::SharedStream));
    let (_, reused) = sold_twice_at_one_position(450);
    plant(None);
    assert!(reused > 0, "who looks for shared key streams sees none");
}
