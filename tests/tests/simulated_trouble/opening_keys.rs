//! The hub's opening key changes: everything still opens, whoever was away and whatever broke.

use std::collections::BTreeSet;

use stallmesh_node::engine::{Answer, FailureCode, Request};
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::payload::{self, decode};
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::{Kind, Lane};
use stallmesh_tests::simulation::Simulation;
use stallmesh_tests::simulation::export::exported_pages;

use super::{notices, settle_and_recompute, until_posted};

fn public(secret: [u8; 32]) -> [u8; 32] {
    SealKey::from_secret(&secret).unwrap().public()
}

/// The hub takes a new opening key, as its program does: the secret is on its disk first.
fn rotate(market: &mut Simulation, secret: [u8; 32]) {
    market.nodes[0].identity.opening_secrets.push(secret);
    assert_eq!(market.ask(0, Request::RotateOpeningKey { secret, file: "a".into() }), Answer::OpeningKey("a".into()));
}

/// To whom the newest day key of a device's sales is sealed.
fn sealed_to(market: &mut Simulation, index: usize) -> BTreeSet<Vec<u8>> {
    let own = market.nodes[index].id();
    let pages = exported_pages(&market.export(index));
    let ours = pages.into_iter().filter(|(log, _)| log.lane == Lane::SALES && log.author == own);
    let entries = ours.flat_map(|(_, page)| page.entries).filter(|entry| entry.kind == Kind::KEY);
    let newest = entries.max_by_key(|entry| entry.timestamp).unwrap();
    let message: payload::DayKey = decode("day key", newest.payload.bytes(Part::Public).unwrap()).unwrap();
    message.wraps.into_iter().map(|wrap| wrap.recipient).collect()
}

fn is_sealed_to(market: &mut Simulation, index: usize, secret: [u8; 32]) -> bool {
    sealed_to(market, index).contains(public(secret).as_slice())
}

#[test]
fn adv_063_whatever_was_sealed_to_an_older_opening_key_opens_also_of_a_device_that_was_away_during_the_whole_change() {
    let mut market = Simulation::market(400, 3);
    let first = market.nodes[0].identity.opening_secrets[0];
    market.sell(2, "before");
    until_posted(&mut market, 1);
    // Node 4 is on its own for the day, and sells.
    market.partition(&[&[1, 2, 3], &[4]]);
    market.sell(4, "away-1");
    rotate(&mut market, [61; 32]);
    market.run_for(5_000);
    market.sell(2, "between");
    assert!(is_sealed_to(&mut market, 2, [61; 32]) && !is_sealed_to(&mut market, 2, first));
    rotate(&mut market, [62; 32]);
    market.run_for(5_000);
    market.sell(3, "after");
    market.sell(4, "away-2");
    assert!(is_sealed_to(&mut market, 3, [62; 32]) && !is_sealed_to(&mut market, 3, [61; 32]));
    assert!(is_sealed_to(&mut market, 4, first));
    market.kill(0);
    market.start(0);
    market.heal();
    until_posted(&mut market, 5);
    assert!(market.suspense().is_empty());
    settle_and_recompute(&mut market);
    market.run_for(5_000);
    market.sell(4, "back");
    assert!(is_sealed_to(&mut market, 4, [62; 32]), "it has heard of the change");
    until_posted(&mut market, 6);
}

#[test]
fn an_invite_and_a_code_of_before_the_change_are_good_after_it() {
    let mut market = Simulation::market(401, 2);
    let Answer::Invite(invite) = market.invite_text("stall-9") else { panic!("no invite") };
    let Answer::Invite(to_ask) = market.invite_text("") else { panic!("no invite") };
    rotate(&mut market, [61; 32]);
    rotate(&mut market, [62; 32]);
    market.run_for(3_000);
    market.kill(0);
    market.start(0);
    let invited = market.add();
    let joined = market.ask(invited, Request::Join { invite, name: String::new() });
    assert_eq!(joined, Answer::Done);
    market.until("it joins with the old invite", 60_000, |market| market.status(invited).role == "stall");
    let asking = market.add();
    let ask = Request::AskToJoin { market: to_ask, name: "late".into(), stall: "stall-8".into() };
    assert_eq!(market.ask(asking, ask), Answer::Done);
    market.until("both screens show one code", 60_000, |market| {
        let code = market.status(asking).join_code;
        let Answer::JoinRequests(shown) = market.ask(0, Request::JoinRequests) else { panic!() };
        !code.is_empty() && shown.iter().any(|request| request.code == code)
    });
    let code = market.status(asking).join_code;
    assert_eq!(market.ask(0, Request::Approve { code, valid_ms: 3_600_000 }), Answer::Done);
    market.until("it is let in", 60_000, |market| market.status(asking).role == "stall");
}

#[test]
fn a_crash_at_any_step_of_the_change_leaves_nothing_unreadable() {
    // The secret is on the disk, and no entry names it: nobody ever seals to it, and the next change is as good as any.
    let mut market = Simulation::market(402, 2);
    let first = market.nodes[0].identity.opening_secrets[0];
    market.nodes[0].identity.opening_secrets.push([61; 32]);
    market.kill(0);
    market.start(0);
    market.run_for(5_000);
    market.sell(2, "one");
    assert!(is_sealed_to(&mut market, 2, first) && !is_sealed_to(&mut market, 2, [61; 32]));
    let Answer::Invite(invite) = market.invite_text("stall-9") else { panic!("no invite") };
    let (invite, _) = stallmesh_protocol::invite::Invite::from_text(&invite).unwrap();
    assert_eq!(invite.opening_key, public(first), "an invite names the key that is in use");
    until_posted(&mut market, 1);
    // The entry is committed, and the hub dies before anybody has it.
    market.uplink(1, false);
    rotate(&mut market, [62; 32]);
    market.kill(0);
    let before = market.nodes[0].disk.copy();
    market.start(0);
    market.uplink(1, true);
    market.run_for(10_000);
    market.sell(2, "two");
    assert!(is_sealed_to(&mut market, 2, [62; 32]));
    until_posted(&mut market, 2);
    // The disk forgets the commit that members have seen: the file doesn't.
    rotate(&mut market, [63; 32]);
    market.run_for(5_000);
    market.sell(2, "three");
    assert!(is_sealed_to(&mut market, 2, [63; 32]));
    market.kill(0);
    market.nodes[0].disk = before;
    market.start(0);
    until_posted(&mut market, 3);
    market.sell(3, "four");
    assert!(is_sealed_to(&mut market, 3, [63; 32]));
    until_posted(&mut market, 4);
    assert!(market.suspense().is_empty());
    settle_and_recompute(&mut market);
}

#[test]
fn a_disk_that_takes_no_writes_during_the_change_leaves_the_old_key_in_use() {
    let mut market = Simulation::market(403, 1);
    let first = market.nodes[0].identity.opening_secrets[0];
    market.nodes[0].identity.opening_secrets.push([61; 32]);
    market.nodes[0].disk.fail_next_commit();
    let answer = market.ask(0, Request::RotateOpeningKey { secret: [61; 32], file: String::new() });
    assert!(matches!(&answer, Answer::Failed(failure) if failure.code == FailureCode::EUnavailable), "{answer:?}");
    market.start(0);
    market.run_for(5_000);
    market.sell(2, "one");
    assert!(is_sealed_to(&mut market, 2, first) && !is_sealed_to(&mut market, 2, [61; 32]));
    until_posted(&mut market, 1);
}

#[test]
fn a_hub_that_lacks_one_of_its_opening_keys_says_so_and_opens_with_the_recovery_key() {
    let mut market = Simulation::market(404, 1);
    rotate(&mut market, [61; 32]);
    market.run_for(3_000);
    market.sell(2, "one");
    until_posted(&mut market, 1);
    market.kill(0);
    market.nodes[0].identity.opening_secrets.pop();
    market.start(0);
    market.run_for(3_000);
    assert!(notices(&mut market, 0).contains("1 of the market's opening keys"), "{}", notices(&mut market, 0));
    assert_eq!(market.suspense(), ["unreadable".to_owned()].into());
    market.kill(0);
    market.nodes[0].holds_root_key = true;
    market.start(0);
    until_posted(&mut market, 1);
    assert_eq!(notices(&mut market, 0), "");
    // And it goes on without, for it has kept what it opened.
    market.kill(0);
    market.nodes[0].holds_root_key = false;
    market.start(0);
    until_posted(&mut market, 1);
}

#[test]
fn only_a_hub_has_an_opening_key_to_change() {
    let mut market = Simulation::market(405, 1);
    for index in [1, 2] {
        let answer = market.ask(index, Request::RotateOpeningKey { secret: [61; 32], file: String::new() });
        assert!(matches!(&answer, Answer::Failed(failure) if failure.code == FailureCode::ENotHub), "{answer:?}");
    }
}
