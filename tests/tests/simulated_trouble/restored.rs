//! The hub comes back from an older copy of its disk: what it had acknowledged since comes back to it from whoever still
//! holds it, however far away.

use stallmesh_node::engine::{Answer, LedgerView, Request};
use stallmesh_node::link::Road;
use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::wire::frame::Body;
use stallmesh_protocol::{Hash, Incarnation, Kind, Lane, LogName};
use stallmesh_tests::simulation::export::exported_pages;
use stallmesh_tests::simulation::hostile::written_log;
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

use super::{held_sales, settle_and_recompute, until_posted};

fn ledger(market: &mut Simulation) -> LedgerView {
    match market.ask(0, Request::Ledger) {
        Answer::Ledger(ledger) => ledger,
        other => panic!("ledger: {other:?}"),
    }
}

/// Whether a node knows that the hub has all of its sales.
fn knows_all_is_there(market: &mut Simulation, node: usize) -> bool {
    let sales = market.status(node).sales;
    sales.recorded == sales.at_the_hub
}

/// How often a hub has said that it came back from an older copy.
fn restorations(market: &mut Simulation) -> usize {
    let pages = exported_pages(&market.export(0));
    let own = market.nodes[0].id();
    let control = pages.iter().filter(|(log, _)| log.lane == Lane::CONTROL && log.author == own);
    control.flat_map(|(_, page)| &page.entries).filter(|entry| entry.kind == Kind::RESTORATION).count()
}

/// The hub's disk is set back to before its last sale, which node 2 sold, and the gateway that brought it is gone for
/// good. Gives a node that holds nothing of it, and those that do.
fn set_back(seed: u64) -> (Simulation, usize, Vec<usize>) {
    let mut market = Simulation::market(seed, 7);
    market.sell(2, "early");
    until_posted(&mut market, 1);
    market.run_for(5_000);
    let backup = market.nodes[0].disk.copy();
    market.sell(2, "late");
    until_posted(&mut market, 2);
    market.run_for(10_000);
    assert!(knows_all_is_there(&mut market, 2));
    market.kill(1);
    market.kill(0);
    market.nodes[0].disk = backup;
    let holds = |market: &mut Simulation, node| held_sales(market, node, 2).values().any(|last| *last > 2);
    let (carriers, others): (Vec<usize>, Vec<usize>) = (2..9).partition(|node| holds(&mut market, *node));
    let way = others.first().copied().expect("somebody carries nothing");
    (market, way, carriers)
}

#[test]
fn a_hub_set_back_gets_what_only_nodes_hold_that_never_met_it() {
    for seed in 500..504 {
        let (mut market, way, _) = set_back(seed);
        market.start(0);
        market.uplink(way, true);
        until_posted(&mut market, 2);
        market.until("it says so, and nothing is missed", 60_000, |market| {
            restorations(market) > 0 && ledger(market).missing.is_empty()
        });
        market.until("the stall knows", 60_000, |market| knows_all_is_there(market, 2));
        settle_and_recompute(&mut market);
        // Another start is no coming back.
        market.kill(0);
        market.start(0);
        market.sell(3, "after");
        until_posted(&mut market, 3);
        assert_eq!(restorations(&mut market), 1, "said once");
    }
}

#[test]
fn what_is_with_its_author_alone_comes_back_with_it() {
    let (mut market, way, carriers) = set_back(510);
    for node in &carriers {
        market.kill(*node);
    }
    market.start(0);
    market.uplink(way, true);
    market.run_for(60_000);
    assert_eq!(market.settle(true).posted, 1);
    // Its author is back, and knows what the hub had.
    market.start(2);
    until_posted(&mut market, 2);
    market.until("nothing is missed", 60_000, |market| ledger(market).missing.is_empty());
}

#[test]
fn a_restart_of_a_hub_whose_disk_is_whole_takes_nothing_back() {
    let mut market = Simulation::market(520, 2);
    for number in 0..3 {
        market.sell(2, &format!("sale-{number}"));
        until_posted(&mut market, number + 1);
        market.kill(0);
        market.start(0);
        market.run_for(30_000);
    }
    assert_eq!(restorations(&mut market), 0);
}

#[test]
fn two_copies_of_a_hub_do_not_take_their_word_back_at_each_others_every_entry() {
    let mut market = Simulation::market(550, 3);
    market.clone_device(0, market.nodes[0].disk.copy());
    for number in 0..60 {
        market.sell(2, &format!("sale-{number}"));
        market.run_for(10_000);
    }
    let said = restorations(&mut market);
    // At 0, 2, 6, 14 … 510 s, at most, by each.
    assert!((1..=18).contains(&said), "{said} restorations in ten minutes");
    until_posted(&mut market, 60);
}

#[test]
fn a_member_cannot_take_back_the_hubs_word() {
    let mut market = Simulation::market(530, 2);
    market.sell(3, "one");
    until_posted(&mut market, 1);
    market.run_for(5_000);
    let identity = market.nodes[2].identity.clone();
    market.kill(2);
    let puppet = market.add_puppet(identity.clone());
    market.network_join(puppet, 3);
    let message = encode(&payload::Restoration { until: OPENING_MS * 2 });
    let entries = [(OPENING_MS + market.now, [0; 8], Kind::RESTORATION, message)];
    let (log, page) = written_log(&market.market_id(), &identity.device, [7; 16], Lane::CONTROL, &entries);
    let link = market.puppet_dial(puppet, Road::Mesh, 3);
    market.puppet_opens_session(puppet, link, [7; 16]);
    market.puppet_sends_page(puppet, link, &log, &page, false);
    let id = market.nodes[2].id();
    market.until("it is kept, and says nothing", 60_000, |market| {
        market.entries(3, id).iter().any(|entry| entry.kind == Kind::RESTORATION.to_string())
    });
    market.run_for(10_000);
    assert!(knows_all_is_there(&mut market, 3));
}

#[test]
fn absurd_words_under_the_hubs_own_key_do_not_stop_it() {
    let mut market = Simulation::market(540, 2);
    let (key, author) = (market.nodes[0].identity.device.clone(), market.nodes[2].id());
    let words: Vec<Body> = (1..=3)
        .map(|run| {
            let log = LogName { author, incarnation: Incarnation::from_bytes([run; 16]), lane: Lane::SALES };
            let interval = Interval { from: 1, to: u64::MAX, hash: Hash::from_bytes([run; 32]) };
            let word = Acknowledgement::sign(&key, &market.market_id(), log, vec![interval], u64::MAX);
            Body::Acknowledgement(word.to_wire())
        })
        .collect();
    market.tamper_messages(1, move |body| [vec![body], words.clone()].concat());
    market.sell(3, "all the same");
    until_posted(&mut market, 1);
    market.sell(2, "and again");
    until_posted(&mut market, 2);
}
