//! A hub that loses its disk, its power or its neighbours around a closing pays nothing twice.

use stallmesh_node::engine::{Answer, LedgerView, Request, StatementView};
use stallmesh_protocol::{Kind, Lane};
use stallmesh_tests::simulation::Simulation;
use stallmesh_tests::simulation::export::exported_pages;

use super::{notices, settle_and_recompute, until_posted};

fn ledger(market: &mut Simulation) -> LedgerView {
    match market.ask(0, Request::Ledger) {
        Answer::Ledger(ledger) => ledger,
        other => panic!("ledger: {other:?}"),
    }
}

fn statements(market: &mut Simulation, index: usize) -> Vec<StatementView> {
    match market.ask(index, Request::Statements) {
        Answer::Statements(statements) => statements,
        other => panic!("statements: {other:?}"),
    }
}

/// A market whose hub holds so many sales of node 2.
fn with_sales(seed: u64, stalls: usize, sales: usize) -> Simulation {
    let mut market = Simulation::market(seed, stalls);
    for number in 0..sales {
        market.sell(2, &format!("sale-{number}"));
    }
    until_posted(&mut market, sales);
    market.run_for(3_000);
    market
}

fn until_released(market: &mut Simulation, settlements: u64) {
    market.until(&format!("{settlements} settlements are released"), 60_000, |market| {
        let ledger = ledger(market);
        ledger.settlements == settlements && ledger.unreleased.is_empty()
    });
}

/// Kinds of all ledger entries that an export holds.
fn ledger_kinds(market: &mut Simulation, index: usize) -> Vec<Kind> {
    let pages = exported_pages(&market.export(index));
    let pages = pages.into_iter().filter(|(log, _)| log.lane == Lane::LEDGER);
    pages.flat_map(|(_, page)| page.entries.into_iter().map(|entry| entry.kind)).collect()
}

fn sum_of_balances(statements: &[StatementView], account: &str) -> i64 {
    let balances = statements.iter().flat_map(|statement| statement.body["balances"].as_array().unwrap());
    balances.filter(|row| row[0] == account).map(|row| row[1].as_i64().unwrap()).sum()
}

#[test]
fn a_closing_is_not_released_before_a_carrier_holds_it_and_batches_are_released_in_order() {
    let mut market = with_sales(200, 2, 3);
    market.uplink(1, false);
    let settlement = market.settle(false);
    assert!(!settlement.released && settlement.because.contains("no carrier"), "{}", settlement.because);
    market.run_for(20_000);
    let second = market.settle(false);
    assert_eq!((settlement.number, second.number), (1, 2));
    let closed = ledger(&mut market);
    assert_eq!((closed.settlements, closed.unreleased.len()), (0, 2), "{closed:?}");
    assert!(notices(&mut market, 0).contains("settlement 1 is closed, not released"));
    assert!(statements(&mut market, 2).is_empty());
    market.uplink(1, true);
    until_released(&mut market, 2);
    market.until("the stall has its statements", 60_000, |market| statements(market, 2).len() == 2);
    assert_eq!(market.status(2).sales.settled, 3);
    let numbers: Vec<u64> = statements(&mut market, 2).iter().map(|statement| statement.settlement).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(!notices(&mut market, 0).contains("not released"));
    assert!(market.status(1).custody.ledger_entries >= 4, "opening, key, input, closing");
    assert_eq!(market.status(1).custody.held_entries, 0, "and it isn't counted as what waits for the hub");
}

#[test]
fn a_hub_alone_in_its_market_releases_at_once_and_says_why() {
    let mut market = Simulation::new(201);
    let settlement = market.settle(false);
    assert!(settlement.released && settlement.because.contains("no other device"), "{}", settlement.because);
    assert_eq!(ledger(&mut market).settlements, 1);
}

#[test]
fn a_hub_killed_between_closing_and_release_releases_what_it_closed_once_and_closes_it_no_second_time() {
    let mut market = with_sales(202, 2, 3);
    market.uplink(1, false);
    let first = market.settle(false);
    for _ in 0..3 {
        market.kill(0);
        market.start(0);
        market.run_for(5_000);
        assert_eq!(ledger(&mut market).unreleased.len(), 1);
    }
    market.uplink(1, true);
    until_released(&mut market, 1);
    market.until("the stall has its statement", 60_000, |market| market.status(2).sales.settled == 3);
    let released = statements(&mut market, 2);
    assert_eq!((released.len(), &released[0].body["digest"]), (1, &first.digest.into()));
    let second = market.settle(false);
    assert_eq!((second.number, second.newly_posted), (2, 0));
    until_released(&mut market, 2);
}

#[test]
fn a_carrier_keeps_the_ledger_and_cannot_read_it() {
    let mut market = with_sales(203, 2, 2);
    market.settle(false);
    until_released(&mut market, 1);
    let carried = ledger_kinds(&mut market, 1);
    for kind in [Kind::OPENING, Kind::KEY, Kind::CLOSING_INPUT, Kind::CLOSING] {
        assert!(carried.contains(&kind), "{carried:?}");
    }
    assert_eq!(disclosures(&market.export(1)), 0, "it opens nothing");
    assert!(disclosures(&market.export(0)) >= 2 + 2, "the hub opens sales, input and closing");
    // It goes to carriers alone, and no further while its author runs.
    assert_eq!(ledger_kinds(&mut market, 2).len(), 0);
}

/// Secrets that an export discloses: records of type 3.
fn disclosures(export: &[u8]) -> usize {
    let mut rest = export.strip_prefix(b"STALLMESH-EXPORT/1\n").unwrap();
    let mut count = 0;
    while let Some((head, after)) = rest.split_at_checked(5) {
        count += usize::from(head[0] == 3);
        rest = &after[u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize..];
    }
    count
}

/// A market whose hub closed a batch that a carrier holds, and was then set back to a copy of its disk from before it
/// had any of the sales. Gives the balances of before.
fn rolled_back(seed: u64) -> (Simulation, LedgerView, stallmesh_node::engine::SettlementView) {
    let mut market = Simulation::market(seed, 3);
    market.sell(3, "before the backup");
    until_posted(&mut market, 1);
    market.run_for(5_000);
    let backup = market.nodes[0].disk.copy();
    for number in 0..4 {
        market.sell(2, &format!("sale-{number}"));
    }
    until_posted(&mut market, 5);
    let settlement = market.settle(false);
    until_released(&mut market, 1);
    market.run_for(5_000);
    let before = ledger(&mut market);
    market.kill(0);
    market.nodes[0].disk = backup;
    (market, before, settlement)
}

#[test]
fn a_hub_set_back_to_a_copy_from_before_its_closing_gets_it_back_and_the_next_batch_publishes_the_difference_alone() {
    for seed in 204..208 {
        let (mut market, before, first) = rolled_back(seed);
        market.start(0);
        until_released(&mut market, 1);
        market.until("its sales are back, too", 60_000, |market| ledger(market).posted == 5);
        assert_eq!(ledger(&mut market).balances, before.balances);
        market.sell(2, "after");
        until_posted(&mut market, 6);
        let second = settle_and_recompute(&mut market);
        assert_eq!((second.number, second.newly_posted), (2, 1), "{:?}", ledger(&mut market));
        until_released(&mut market, 2);
        market.until("all is settled at the stall", 60_000, |market| market.status(2).sales.settled == 5);
        let statements = statements(&mut market, 2);
        assert_eq!(statements.len(), 2);
        assert_eq!(statements[0].body["digest"], first.digest);
        let payable = ledger(&mut market).balances.into_iter().find(|row| row.0 == "stall-payable:stall-1").unwrap();
        assert_eq!(sum_of_balances(&statements, &payable.0), payable.2, "what both say together is what is owed");
        assert!(!notices(&mut market, 0).contains("void"), "{}", notices(&mut market, 0));
    }
}

#[test]
fn a_hub_set_back_that_closes_before_it_meets_anybody_releases_nothing_and_its_batch_is_void() {
    let (mut market, before, _) = rolled_back(210);
    market.uplink(1, false);
    market.start(0);
    market.run_for(5_000);
    // It can't know better: nobody is there.
    let rash = market.settle(false);
    assert_eq!((rash.number, rash.released), (1, false));
    market.run_for(10_000);
    market.uplink(1, true);
    market.until("it knows better", 60_000, |market| notices(market, 0).contains("is void"));
    until_released(&mut market, 1);
    market.until("all sales are back", 60_000, |market| ledger(market).posted == 5);
    assert_eq!(ledger(&mut market).balances, before.balances);
    let second = settle_and_recompute(&mut market);
    assert_eq!((second.number, second.newly_posted), (2, 0));
    until_released(&mut market, 2);
    market.until("node 3 has both statements", 60_000, |market| statements(market, 3).len() == 2);
    let payouts: Vec<i64> = statements(&mut market, 3).iter().map(|one| one.body["payout"].as_i64().unwrap()).collect();
    assert_eq!(payouts[1], 0, "nothing is paid twice");
    // The void closing is still in the log: a start reads it again and counts it no more.
    market.kill(0);
    market.start(0);
    market.run_for(5_000);
    assert_eq!(ledger(&mut market).settlements, 2);
    assert_eq!(ledger(&mut market).problem, "");
}

#[test]
fn what_a_closing_published_is_worked_out_as_of_its_checkpoint_whatever_was_decided_since() {
    let mut market = Simulation::market(211, 2);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell", "relay"], 3_600_000), Answer::Done);
    market.until("the helper is a member", 20_000, |market| market.status(helper).role == "stall");
    market.run_for(5_000);
    let backup = market.nodes[0].disk.copy();
    market.sell(helper, "as it may");
    until_posted(&mut market, 1);
    let first = market.settle(false);
    until_released(&mut market, 1);
    // From now on it may sell for less, and its newest certificate is what sales are judged by.
    assert_eq!(market.delegate(2, helper, &["sell=100", "relay"], 3_600_000), Answer::Done);
    market.until("the hub judges it otherwise", 20_000, |market| market.settle(true).posted == 0);
    market.run_for(5_000);
    market.kill(0);
    market.nodes[0].disk = backup;
    market.start(0);
    until_released(&mut market, 1);
    assert_eq!(ledger(&mut market).problem, "");
    let second = settle_and_recompute(&mut market);
    assert_eq!((second.number, second.posted, second.suspense.len()), (2, 0, 1));
    assert_ne!(first.digest, second.digest);
    until_released(&mut market, 2);
    market.until("the stall has both", 60_000, |market| statements(market, 2).len() == 2);
    let both = statements(&mut market, 2);
    assert_eq!(sum_of_balances(&both, "stall-payable:stall-1"), 0, "what was posted was taken back, once");
}

#[test]
fn a_closing_that_cannot_be_worked_out_again_is_an_alarm_and_nothing_is_closed_until_it_can() {
    let mut market = Simulation::market(212, 3);
    market.run_for(3_000);
    let backup = market.nodes[0].disk.copy();
    // It sells alone, with an uplink of its own: nobody but the hub ever has its sales.
    market.partition(&[&[1, 3, 4], &[2]]);
    market.uplink(2, true);
    market.run_for(3_000);
    for number in 0..3 {
        market.sell(2, &format!("alone-{number}"));
    }
    until_posted(&mut market, 3);
    market.settle(false);
    until_released(&mut market, 1);
    market.run_for(3_000);
    let before = ledger(&mut market);
    market.uplink(2, false);
    market.kill(0);
    market.nodes[0].disk = backup;
    market.start(0);
    market.until("it has the closing, and not what it read", 60_000, |market| {
        notices(market, 0).contains("can't be worked out")
    });
    assert!(ledger(&mut market).problem.contains("Nothing is closed"));
    let refused = market.ask(0, Request::Settle { dry_run: false });
    assert!(matches!(&refused, Answer::Failed(failure) if failure.detail.contains("Nothing is closed")), "{refused:?}");
    market.uplink(2, true);
    until_released(&mut market, 1);
    assert_eq!(ledger(&mut market).problem, "");
    assert_eq!(ledger(&mut market).balances, before.balances);
    let second = market.settle(false);
    assert_eq!((second.number, second.newly_posted), (2, 0));
}
