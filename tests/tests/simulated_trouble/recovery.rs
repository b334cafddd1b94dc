//! The hub burns with all of its keys but the root's and the recovery key: a new one takes its place.

use stallmesh_node::engine::{Answer, FailureCode, LedgerView, Request, StatementView};
use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::wire::frame::Body;
use stallmesh_protocol::{Hash, Incarnation, Lane, LogName};
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

use super::{held_sales, member_state, notices, settle_and_recompute, until_posted};

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

/// Waits until the new hub has met the market.
fn until_taken_over(market: &mut Simulation) {
    market.until("the new hub has met the market", 60_000, |market| {
        !market.status(0).market_name.is_empty() && !notices(market, 0).contains("has not yet met a member")
    });
}

/// The hub burns, and a new one is made and started. Gives the old one's number.
fn recover(market: &mut Simulation) -> usize {
    let old = market.burn_hub();
    market.start(0);
    until_taken_over(market);
    old
}

#[test]
fn sales_that_stalls_alone_have_are_opened_by_the_new_hub_and_sold_on_to_its_key() {
    let mut market = Simulation::market(420, 3);
    market.uplink(1, false);
    for number in 0..4 {
        market.sell(2, &format!("offline-{number}"));
        market.sell(3, &format!("offline-{number}"));
    }
    market.kill(0);
    market.uplink(1, true);
    recover(&mut market);
    until_posted(&mut market, 8);
    assert!(market.suspense().is_empty());
    // Another change of keys, and a restart without the two that lie in the safe.
    market.nodes[0].holds_root_key = false;
    market.kill(0);
    market.start(0);
    market.sell(4, "after");
    until_posted(&mut market, 9);
    settle_and_recompute(&mut market);
    market.until("it is released", 60_000, |market| ledger(market).settlements == 1);
    assert_eq!(ledger(&mut market).missing, []);
    assert_eq!(notices(&mut market, 0), "");
}

#[test]
fn sales_of_a_stall_that_burned_with_the_hub_come_from_carriers() {
    let mut market = Simulation::market(421, 3);
    market.uplink(1, false);
    for number in 0..4 {
        market.sell(2, &format!("carried-{number}"));
    }
    market.until("carriers hold them", 20_000, |market| market.status(2).sales.copied == 4);
    market.kill(2);
    market.kill(0);
    market.uplink(1, true);
    recover(&mut market);
    until_posted(&mut market, 4);
    assert!(market.suspense().is_empty());
    settle_and_recompute(&mut market);
}

#[test]
fn what_the_old_hub_had_acknowledged_comes_again_and_settles_as_it_would_have() {
    for seed in 430..436 {
        let mut market = Simulation::market(seed, 4);
        let Answer::Policy(mut policy) = market.ask(0, Request::Policy) else { panic!("no policy") };
        market.sell(2, "before the fee");
        policy.fee_rate = "7.5".into();
        assert_eq!(market.ask(0, Request::SetPolicy(policy)), Answer::Done);
        market.run_for(5_000);
        for number in 0..seed % 7 + 3 {
            market.sell(2 + (number % 3) as usize, &format!("sale-{number}"));
        }
        let sales = seed as usize % 7 + 4;
        until_posted(&mut market, sales);
        // One who was sent away: what it sold before counts.
        assert_eq!(market.revoke(0, 4), Answer::Done);
        market.run_for(5_000);
        let (before, balances) = (market.settle(true), ledger(&mut market).balances);
        recover(&mut market);
        until_posted(&mut market, before.posted);
        let after = market.settle(true);
        assert_eq!((after.digest, after.number), (before.digest, before.number));
        assert_eq!(ledger(&mut market).balances, balances);
        assert_eq!(ledger(&mut market).missing, []);
        let settlement = settle_and_recompute(&mut market);
        market.until("it is released", 60_000, |market| ledger(market).settlements == 1);
        market.until("the stall has its statement", 60_000, |market| statements(market, 2).len() == 1);
        assert_eq!(statements(&mut market, 2)[0].body["digest"], settlement.digest);
        market.until("all is settled at the other stall, too", 60_000, |market| {
            let sales = market.status(3).sales;
            sales.settled == sales.recorded && sales.recorded > 0
        });
    }
}

/// Carriers let go of what the hub has acknowledged, to make room for a page of another's sales.
fn make_carriers_let_go(market: &mut Simulation, carriers: &[usize], seller: usize) {
    // Else those sales are at the hub before anybody has to carry them.
    market.uplink(1, false);
    for carrier in carriers {
        let held = market.status(*carrier).custody.held_bytes;
        market.nodes[*carrier].settings.custody_bytes_max = held + 500;
        market.kill(*carrier);
    }
    for number in 0..16 {
        market.sell(seller, &format!("for which there must be room, {carriers:?} {number}"));
    }
    carriers.iter().for_each(|carrier| market.start(*carrier));
    market.run_for(20_000);
    for carrier in carriers {
        market.nodes[*carrier].settings.custody_bytes_max = 1 << 24;
        market.kill(*carrier);
        market.start(*carrier);
    }
    market.uplink(1, true);
}

fn assert_let_go(market: &mut Simulation) {
    for carrier in [1, 3, 4] {
        let held = held_sales(market, carrier, 2);
        assert!(held.is_empty(), "node {carrier} still carries what is to be lost: {held:?}");
    }
}

#[test]
fn what_nobody_holds_any_more_is_named_as_missing() {
    let mut market = Simulation::market(422, 3);
    for number in 0..8 {
        market.sell(2, &format!("lost-{number}"));
    }
    market.sell(3, "kept");
    until_posted(&mut market, 9);
    market.run_for(10_000);
    let burned = market.nodes[2].id().to_string();
    let tablet = market.nodes[2].disk.copy();
    market.kill(2);
    make_carriers_let_go(&mut market, &[1, 4], 3);
    make_carriers_let_go(&mut market, &[3], 4);
    until_posted(&mut market, 9 + 32);
    assert_let_go(&mut market);
    recover(&mut market);
    until_posted(&mut market, 1 + 32);
    market.until("it is said what is missing", 30_000, |market| !ledger(market).missing.is_empty());
    let missing = ledger(&mut market).missing;
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!((missing[0].stall.as_str(), missing[0].author.as_str()), ("stall-1", burned.as_str()));
    assert_eq!(missing[0].ranges, [(1, 10)], "opening, key, and eight sales");
    assert!(notices(&mut market, 0).contains("10 entries of 1 devices were at a hub that is gone"));
    settle_and_recompute(&mut market);
    // It turns up after all.
    market.nodes[2].disk = tablet;
    market.start(2);
    until_posted(&mut market, 9 + 32);
    assert_eq!(ledger(&mut market).missing, []);
    assert!(!notices(&mut market, 0).contains("gone"), "{}", notices(&mut market, 0));
}

#[test]
fn what_a_settlement_had_read_and_nobody_holds_any_more_stops_the_market_until_a_person_goes_on_without() {
    let mut market = Simulation::market(429, 3);
    for number in 0..8 {
        market.sell(2, &format!("lost-{number}"));
    }
    market.sell(3, "kept");
    until_posted(&mut market, 9);
    market.run_for(3_000);
    market.settle(false);
    market.until("it is released", 60_000, |market| ledger(market).settlements == 1);
    market.until("the stall has its statement", 60_000, |market| statements(market, 3).len() == 1);
    let refused = market.ask(0, Request::AcceptLoss { settlement: 1 });
    assert!(matches!(&refused, Answer::Failed(failure) if failure.code == FailureCode::EConflict), "{refused:?}");
    let tablet = market.nodes[2].disk.copy();
    market.kill(2);
    make_carriers_let_go(&mut market, &[1, 4], 3);
    make_carriers_let_go(&mut market, &[3], 4);
    until_posted(&mut market, 9 + 32);
    assert_let_go(&mut market);
    recover(&mut market);
    market.until("the closing is here, and not what it read", 60_000, |market| {
        ledger(market).problem.contains("stallmesh hub accept-loss 1")
    });
    market.until("all else is here", 60_000, |market| market.settle(true).posted == 1 + 32);
    let refused = market.ask(0, Request::Settle { dry_run: false });
    assert!(matches!(&refused, Answer::Failed(failure) if failure.detail.contains("are not here")), "{refused:?}");
    assert_eq!(market.ask(0, Request::AcceptLoss { settlement: 1 }), Answer::Done);
    assert_eq!((ledger(&mut market).problem.as_str(), ledger(&mut market).settlements), ("", 1));
    let second = settle_and_recompute(&mut market);
    assert_eq!((second.number, second.newly_posted), (2, 32), "what was settled and is left is not settled again");
    // And so it stays.
    market.kill(0);
    market.start(0);
    market.until("it is released", 60_000, |market| ledger(market).settlements == 2);
    assert_eq!(ledger(&mut market).problem, "");
    // What was taken for lost turns up: it was settled long ago.
    market.nodes[2].disk = tablet;
    market.start(2);
    until_posted(&mut market, 9 + 32);
    let third = settle_and_recompute(&mut market);
    assert_eq!((third.number, third.newly_posted), (3, 0));
    market.until("it is released", 60_000, |market| ledger(market).settlements == 3);
    let of_third =
        |market: &mut Simulation| statements(market, 2).into_iter().find(|statement| statement.settlement == 3);
    market.until("the stall has a statement of it", 60_000, |market| of_third(market).is_some());
    assert_eq!(of_third(&mut market).unwrap().body["payout"], 0, "it was paid long ago");
}

#[test]
fn what_checkpoints_named_as_standing_of_a_revoked_device_stands_at_the_new_hub_too() {
    let mut market = Simulation::market(437, 2);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell", "relay"], 24 * 3_600_000), Answer::Done);
    market.until("the helper is a member", 20_000, |market| market.status(helper).role == "stall");
    // Alone with an uplink of its own: its owner doesn't have what it sells, and so can't name it.
    market.partition(&[&[1, 2, 3], &[helper]]);
    market.uplink(helper, true);
    market.run_for(3_000);
    market.sell(helper, "unknown to its owner");
    until_posted(&mut market, 1);
    market.run_for(5_000);
    assert_eq!(market.revoke(2, helper), Answer::Done);
    market.run_for(5_000);
    let first = market.settle(false);
    assert_eq!(first.posted, 1, "a checkpoint had named it");
    market.until("it is released", 60_000, |market| ledger(market).settlements == 1);
    market.heal();
    recover(&mut market);
    market.until("the settlement is known again", 120_000, |market| ledger(market).settlements == 1);
    assert_eq!(ledger(&mut market).problem, "");
    let second = settle_and_recompute(&mut market);
    assert_eq!((second.number, second.posted, second.newly_posted), (2, 1, 0));
    assert_eq!(second.digest, first.digest);
    market.kill(0);
    market.start(0);
    assert_eq!(market.settle(true).digest, first.digest);
}

#[test]
fn what_was_settled_before_the_fire_is_not_settled_again() {
    for seed in [423, 424] {
        let mut market = Simulation::market(seed, 3);
        for number in 0..4 {
            market.sell(2, &format!("sale-{number}"));
        }
        until_posted(&mut market, 4);
        let first = market.settle(false);
        market.until("it is released", 60_000, |market| ledger(market).settlements == 1);
        market.until("the stall has its statement", 60_000, |market| statements(market, 2).len() == 1);
        let balances = ledger(&mut market).balances;
        recover(&mut market);
        // Before it has the old one's ledger and all that was settled, nothing is closed.
        market.until("the settlement is known again", 120_000, |market| ledger(market).settlements == 1);
        assert_eq!(ledger(&mut market).problem, "");
        assert_eq!(ledger(&mut market).balances, balances);
        market.sell(3, "after");
        until_posted(&mut market, 5);
        let second = settle_and_recompute(&mut market);
        assert_eq!((second.number, second.newly_posted), (2, 1));
        market.until("both are released", 60_000, |market| ledger(market).settlements == 2);
        market.until("the stall has both", 60_000, |market| statements(market, 2).len() == 2);
        let of_first = statements(&mut market, 2);
        assert_eq!(of_first[0].body["digest"], first.digest);
        assert_eq!(of_first[1].body["payout"], 0, "nothing is paid twice");
    }
}

#[test]
fn the_ledger_comes_also_from_a_carrier_that_has_no_way_to_the_new_hub_itself() {
    let mut market = Simulation::market(438, 2);
    market.sell(3, "one");
    until_posted(&mut market, 1);
    market.run_for(5_000);
    market.uplink(1, false);
    market.uplink(2, true);
    market.run_for(5_000);
    market.settle(false);
    market.until("it is released", 60_000, |market| ledger(market).settlements == 1);
    market.run_for(5_000);
    assert_eq!(market.status(1).custody.ledger_entries, 0);
    assert!(market.status(2).custody.ledger_entries >= 4);
    market.kill(0);
    market.uplink(2, false);
    market.uplink(1, true);
    recover(&mut market);
    market.until("the settlement is known again", 60_000, |market| ledger(market).settlements == 1);
    assert_eq!(ledger(&mut market).problem, "");
    assert_eq!(settle_and_recompute(&mut market).newly_posted, 0);
}

#[test]
fn a_closing_that_the_old_hub_had_not_released_is_released_by_the_new_one_as_it_was() {
    let mut market = Simulation::market(425, 3);
    for number in 0..4 {
        market.sell(2, &format!("sale-{number}"));
    }
    until_posted(&mut market, 4);
    market.run_for(5_000);
    let first = market.settle(false);
    assert!(!first.released);
    // A carrier has it, and the hub burns before it hears of that.
    let mut steps = 0;
    while market.status(1).custody.ledger_entries < 4 {
        market.step();
        steps += 1;
        assert!(steps < 10_000, "no carrier takes it");
    }
    assert_eq!(ledger(&mut market).settlements, 0, "it is not released yet");
    recover(&mut market);
    market.until("the new hub releases it", 120_000, |market| ledger(market).settlements == 1);
    market.until("the stall has its statement", 60_000, |market| statements(market, 2).len() == 1);
    assert_eq!(statements(&mut market, 2)[0].body["digest"], first.digest);
    let second = settle_and_recompute(&mut market);
    assert_eq!((second.number, second.newly_posted), (2, 0));
}

#[test]
fn everything_that_stood_goes_on_standing_and_checkpoints_go_on() {
    let mut market = Simulation::market(426, 3);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell", "relay"], 24 * 3_600_000), Answer::Done);
    market.until("the helper is a member", 20_000, |market| market.status(helper).role == "stall");
    assert_eq!(market.revoke(0, 4), Answer::Done);
    let Answer::Invite(invite) = market.invite_text("stall-9") else { panic!("no invite") };
    market.run_for(10_000);
    let before = market.until_agreed(&[1, 2, 3], 60_000);
    let old = market.nodes[0].id();
    recover(&mut market);
    market.run_for(20_000);
    let after = market.until_agreed(&[0, 1, 2, 3], 60_000);
    assert!(before.standing.is_subset(&after.standing), "{}", before.differs_from(&after));
    assert_eq!(before.products, after.products);
    for member in before.members.iter().filter(|member| member.0 != old) {
        assert!(after.members.contains(member), "{member:?}");
    }
    // It admits, with an invite of before, too; and its checkpoints are everybody's time.
    let late = market.add();
    assert_eq!(market.ask(late, Request::Join { invite, name: String::new() }), Answer::Done);
    market.until("it joins with the old hub's invite", 60_000, |market| market.status(late).role == "stall");
    market.run_for(10_000);
    let new = market.nodes[0].id();
    let newest = market.entries(2, new).into_iter().filter(|entry| entry.lane == "checkpoint").count();
    assert!(newest >= 2, "{newest} checkpoints of the new hub at a stall");
    assert!(market.status(2).time >= OPENING_MS + market.now - 5_000);
    market.publish(late);
    market.sell(late, "new");
    market.sell(helper, "helped");
    until_posted(&mut market, 2);
    settle_and_recompute(&mut market);
}

#[test]
fn an_old_hub_that_comes_back_from_the_dead_hands_over_what_it_has_and_settles_nothing() {
    for seed in 440..444 {
        let mut market = Simulation::market(seed, 3);
        for number in 0..3 {
            market.sell(2, &format!("both-{number}"));
        }
        until_posted(&mut market, 3);
        // What it alone has: sales of a tablet that is lost, and nobody carried.
        market.partition(&[&[1, 3, 4], &[2]]);
        market.uplink(2, true);
        market.run_for(3_000);
        market.sell(2, "only at the old hub");
        until_posted(&mut market, 4);
        let before = market.settle(true);
        market.uplink(2, false);
        market.kill(2);
        let old = market.burn_hub();
        market.start(0);
        until_taken_over(&mut market);
        market.sell(3, "while it was gone");
        market.until("the new hub has what there is", 60_000, |market| market.settle(true).posted == 4);
        market.run_for(5_000);
        // It comes back alone, takes itself for the hub, writes checkpoints, and closes.
        market.partition(&[&[1, 2, 3, 4], &[old]]);
        market.start(old);
        market.run_for(10_000);
        let rash = market.ask(old, Request::Settle { dry_run: false });
        let Answer::Settlement(rash) = rash else { panic!("{rash:?}") };
        assert_eq!((&rash.digest, rash.released), (&before.digest, false));
        market.run_for(5_000);
        market.heal();
        until_posted(&mut market, 5);
        market.until("it knows that it was replaced", 60_000, |market| {
            notices(market, old).contains("another hub goes on in the place of this one")
        });
        let refused = market.ask(old, Request::Settle { dry_run: false });
        assert!(matches!(&refused, Answer::Failed(failure) if failure.detail.contains("another hub")), "{refused:?}");
        assert_eq!(ledger(&mut market).missing, []);
        market.until("nothing waits at the old hub", 60_000, |market| market.status(old).custody.held_entries == 0);
        // What it closed nobody had released: the new hub does, once, and goes on.
        market.until("its batch is released", 60_000, |market| ledger(market).settlements == 1);
        let second = settle_and_recompute(&mut market);
        assert_eq!((second.number, second.newly_posted), (2, 1));
        market.until("both are released", 60_000, |market| ledger(market).settlements == 2);
        for index in [0, 1, 3, 4, old] {
            assert!(!notices(&mut market, index).contains("two stories"), "{}", notices(&mut market, index));
        }
        // And then it is revoked, by the root.
        assert_eq!(market.revoke(0, old), Answer::Done);
        market.until("everybody knows", 60_000, |market| {
            [0, 1, 3, 4].iter().all(|index| member_state(market, *index, old) == "revoked")
        });
        assert_eq!(market.settle(true).posted, 5);
        assert!(market.suspense().is_empty());
        market.until_agreed(&[0, 1, 3, 4], 60_000);
    }
}

#[test]
fn a_second_fire_is_as_good_as_the_first() {
    let mut market = Simulation::market(427, 3);
    market.sell(2, "one");
    until_posted(&mut market, 1);
    market.settle(false);
    market.until("it is released", 60_000, |market| ledger(market).settlements == 1);
    market.run_for(5_000);
    recover(&mut market);
    market.sell(3, "two");
    until_posted(&mut market, 2);
    market.until("the first settlement is known", 60_000, |market| ledger(market).settlements == 1);
    market.settle(false);
    market.until("it is released, too", 60_000, |market| ledger(market).settlements == 2);
    market.run_for(5_000);
    let balances = ledger(&mut market).balances;
    recover(&mut market);
    until_posted(&mut market, 2);
    market.until("both settlements are known", 120_000, |market| ledger(market).settlements == 2);
    assert_eq!(ledger(&mut market).balances, balances);
    let third = settle_and_recompute(&mut market);
    assert_eq!((third.number, third.newly_posted), (3, 0));
}

#[test]
fn a_new_hub_that_has_met_nobody_does_nothing_and_says_why() {
    let mut market = Simulation::market(428, 2);
    market.sell(2, "one");
    until_posted(&mut market, 1);
    market.uplink(1, false);
    market.burn_hub();
    market.start(0);
    for _ in 0..2 {
        market.run_for(20_000);
        assert!(notices(&mut market, 0).contains("has not yet met a member"), "{}", notices(&mut market, 0));
        for request in
            [Request::Settle { dry_run: false }, Request::RotateOpeningKey { secret: [61; 32], file: String::new() }]
        {
            let answer = market.ask(0, request);
            assert!(
                matches!(&answer, Answer::Failed(failure) if failure.detail.contains("met a member")),
                "{answer:?}"
            );
        }
        assert!(matches!(market.invite_text("stall-9"), Answer::Failed(_)));
        let own = market.nodes[0].id();
        assert!(market.entries(0, own).iter().all(|entry| entry.lane != "checkpoint"));
        market.kill(0);
        market.start(0);
    }
    market.uplink(1, true);
    until_taken_over(&mut market);
    until_posted(&mut market, 1);
}

#[test]
fn absurd_words_under_the_key_of_a_hub_that_is_gone_stop_nobody() {
    let mut market = Simulation::market(433, 2);
    let old = recover(&mut market);
    let (key, author) = (market.nodes[old].identity.device.clone(), market.nodes[2].id());
    let words: Vec<Body> = (1..=3)
        .map(|run| {
            let log = LogName { author, incarnation: Incarnation::from_bytes([run; 16]), lane: Lane::SALES };
            let interval = Interval { from: 1, to: u64::MAX, hash: Hash::from_bytes([run; 32]) };
            let word = Acknowledgement::sign(&key, &market.market_id(), log, vec![interval], OPENING_MS);
            Body::Acknowledgement(word.to_wire())
        })
        .collect();
    // Whoever stole the old hub's keys needs one member that passes its words on.
    market.tamper_messages(1, move |body| [vec![body], words.clone()].concat());
    market.until("the new hub has heard them", 60_000, |market| ledger(market).missing.len() == 3);
    assert!(notices(&mut market, 0).contains("were at a hub that is gone"));
    market.sell(3, "all the same");
    until_posted(&mut market, 1);
}
