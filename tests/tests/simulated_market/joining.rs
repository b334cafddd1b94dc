//! Ways in, and invites that lead nowhere.

use std::cell::RefCell;
use std::rc::Rc;

use prost::Message;
use stallmesh_node::engine::{Answer, FailureCode, Identity, InviteOrder, JoinRequestView, Request};
use stallmesh_node::link::{Channel, Road};
use stallmesh_protocol::invite::Invite;
use stallmesh_protocol::join::{JoinBy, JoinRequest};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, join_frame};
use stallmesh_protocol::{Kind, Lane, payload};
use stallmesh_tests::simulation::hostile::{encode_join, written_log};
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

fn invite(market: &mut Simulation, stall: &str, expires_ms: u64) -> String {
    let order = InviteOrder {
        role: "stall".into(),
        stall: stall.into(),
        name: stall.into(),
        expires_ms,
        valid_ms: 48 * 3_600_000,
    };
    match market.ask(0, Request::CreateInvite(order)) {
        Answer::Invite(invite) => invite,
        other => panic!("{other:?}"),
    }
}

fn join(market: &mut Simulation, index: usize, invite: &str) -> Answer {
    market.ask(index, Request::Join { invite: invite.into(), name: String::new() })
}

fn until_member(market: &mut Simulation, index: usize) {
    market.until("it joins", 30_000, |market| market.status(index).role != "none");
}

/// Waits until a device says that the hub refused it, and why.
fn until_refused(market: &mut Simulation, index: usize, why: &str) {
    market.until("it is refused", 30_000, |market| {
        market.status(index).notices.iter().any(|notice| notice.contains("refused") && notice.contains(why))
    });
    assert_eq!(market.status(index).role, "none");
}

/// How many certificates the hub has written.
fn certificates(market: &mut Simulation) -> usize {
    let hub = market.nodes[0].id();
    market.entries(0, hub).iter().filter(|entry| entry.kind == Kind::CERTIFICATE.to_string()).count()
}

/// Join requests that a device sends, as they leave it.
fn overhear_requests(market: &mut Simulation, index: usize) -> Rc<RefCell<Vec<payload::JoinRequest>>> {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let ear = Rc::clone(&heard);
    market.tamper(index, move |channel, frame| {
        if channel == Channel::Join
            && let Some(join_frame::Body::Ask(ask)) = wire::JoinFrame::decode(frame.as_slice()).unwrap().body
        {
            ear.borrow_mut().push(payload::decode("join request", &ask.request).unwrap());
        }
        vec![(channel, frame)]
    });
    heard
}

#[test]
fn a_device_joins_through_a_neighbour_that_has_no_path_to_the_hub_yet() {
    let mut market = Simulation::market(1, 2);
    market.uplink(1, false);
    let late = market.add();
    market.invite(late, "late");
    market.run_for(20_000);
    assert_eq!(market.status(late).role, "none");
    // The neighbours that heard it go away; one of them finds a way out elsewhere, and comes back.
    market.partition(&[&[1, late], &[2], &[3]]);
    market.uplink(3, true);
    market.run_for(10_000);
    market.heal();
    until_member(&mut market, late);
    assert_eq!(market.status(late).stall, "late");
}

#[test]
fn a_device_is_let_in_by_approval_when_both_screens_show_one_code() {
    let mut market = Simulation::market(2, 2);
    let late = market.add_helper("flower-power");
    let shown = |market: &mut Simulation| -> Vec<JoinRequestView> {
        match market.ask(0, Request::JoinRequests) {
            Answer::JoinRequests(requests) => requests,
            other => panic!("{other:?}"),
        }
    };
    let same_code = move |market: &mut Simulation| {
        let code = market.status(late).join_code;
        !code.is_empty() && shown(market).iter().any(|request| request.code == code)
    };
    market.until("both show a code", 30_000, same_code);
    // Neither restart makes them differ for good.
    market.kill(0);
    market.start(0);
    market.until("both still show one code", 60_000, same_code);
    market.kill(late);
    market.start(late);
    market.until("the device asks anew, and both show one code", 60_000, same_code);
    assert!(matches!(market.ask(0, Request::Approve { code: "no-code".into(), valid_ms: 1_000 }), Answer::Failed(_)));
    let code = market.status(late).join_code;
    assert_eq!(market.ask(0, Request::Approve { code, valid_ms: 3_600_000 }), Answer::Done);
    until_member(&mut market, late);
    let status = market.status(late);
    assert_eq!((status.role.as_str(), status.stall.as_str()), ("stall", "flower-power"));
    market.run_for(10_000);
    let hub = market.nodes[0].id();
    let refusals = market.entries(0, hub).into_iter().filter(|entry| entry.kind == Kind::JOIN_REFUSAL.to_string());
    assert_eq!(refusals.count(), 0, "who was let in is not refused afterwards");
}

#[test]
fn adv_058_an_invite_lets_one_device_in_and_only_while_it_lasts() {
    let mut market = Simulation::market(3, 2);
    let [first, second, late] = [market.add(), market.add(), market.add()];
    let text = invite(&mut market, "one", 3_600_000);
    let brief = invite(&mut market, "two", 1_000);
    assert_eq!(join(&mut market, first, &text), Answer::Done);
    until_member(&mut market, first);
    assert_eq!(join(&mut market, second, &text), Answer::Done);
    until_refused(&mut market, second, "used by another device");
    market.run_for(5_000);
    assert_eq!(join(&mut market, late, &brief), Answer::Done);
    until_refused(&mut market, late, "expired");
    // A refused device tries again with a good one.
    let good = invite(&mut market, "two", 3_600_000);
    assert_eq!(join(&mut market, late, &good), Answer::Done);
    until_member(&mut market, late);
}

#[test]
fn adv_031_an_invite_of_another_market_opens_no_door_here() {
    let mut other = Simulation::market(4, 1);
    let foreign = invite(&mut other, "elsewhere", 3_600_000);
    let mut market = Simulation::market(5, 2);
    let lost = market.add();
    assert_eq!(join(&mut market, lost, &foreign), Answer::Done);
    market.run_for(30_000);
    assert_eq!(market.status(lost).role, "none");
    assert!(market.status(lost).peers.is_empty());
    let Answer::Failed(failure) = join(&mut market, 2, &foreign) else { panic!() };
    assert_eq!(failure.code, FailureCode::EConflict);
    // Somebody who knows this market seals the other one's invite to this hub.
    let Ok((mine, _)) = Invite::from_text(&invite(&mut market, "here", 3_600_000)) else { panic!() };
    let Ok((_, bytes)) = Invite::from_text(&foreign) else { panic!() };
    let key = DeviceKey::from_seed(&[77; 32]);
    let time = OPENING_MS + market.now;
    let request = JoinRequest {
        device: key.id(),
        seal_key: [1; 32],
        name: "clever".into(),
        by: JoinBy::Invite(bytes),
        stall: "here".into(),
        time,
    };
    let sealed = request.seal(&key, &mine.market(), &mine.opening_key, time + 3_600_000, [2; 32]).unwrap();
    let identity = Identity { device: key, seal_secret: [1; 32], opening_secrets: Vec::new() };
    let before = certificates(&mut market);
    let puppet = market.add_puppet(identity);
    let link = market.puppet_greets(puppet, Road::Mesh, 2);
    let ask = wire::JoinAsk { request: payload::encode(&sealed) };
    market.puppet_send(puppet, link, Channel::Join, encode_join(join_frame::Body::Ask(ask)));
    market.until("it is told no", 10_000, |market| {
        market.frames(puppet, link).iter().any(|(_, frame)| {
            matches!(wire::JoinFrame::decode(frame.as_slice()).unwrap().body,
                Some(join_frame::Body::Answer(answer)) if answer.detail.contains("another market"))
        })
    });
    assert_eq!(certificates(&mut market), before);
}

#[test]
fn adv_032_a_request_that_three_members_carry_admits_once_and_replayed_it_admits_nobody() {
    let mut market = Simulation::market(6, 3);
    market.uplink(1, false);
    let late = market.add();
    let heard = overhear_requests(&mut market, late);
    let text = invite(&mut market, "late", 3_600_000);
    assert_eq!(join(&mut market, late, &text), Answer::Done);
    market.run_for(10_000);
    let carried = (1..5).filter(|index| {
        let id = market.nodes[*index].id();
        market.entries(*index, id).iter().any(|entry| entry.kind == Kind::JOIN_REQUEST.to_string())
    });
    assert!(carried.count() >= 3);
    let before = certificates(&mut market);
    for index in [1, 3, 4] {
        market.uplink(index, true);
    }
    until_member(&mut market, late);
    market.run_for(10_000);
    assert_eq!(certificates(&mut market), before + 1);
    // A stranger sends the same request again, also after its device was revoked.
    let replayed = heard.borrow()[0].clone();
    for round in 0..2_u8 {
        let identity = Identity {
            device: DeviceKey::from_seed(&[90 + round; 32]),
            seal_secret: [1; 32],
            opening_secrets: Vec::new(),
        };
        let puppet = market.add_puppet(identity);
        let link = market.puppet_greets(puppet, Road::Mesh, 2);
        let ask = wire::JoinAsk { request: payload::encode(&replayed) };
        market.puppet_send(puppet, link, Channel::Join, encode_join(join_frame::Body::Ask(ask)));
        market.run_for(10_000);
        let id = market.nodes[puppet].id();
        assert!(market.members(0).iter().all(|member| member.device != id));
        assert_eq!(certificates(&mut market), before + 1, "round {round}");
        if round == 0 {
            assert_eq!(market.revoke(0, late), Answer::Done);
            market.run_for(3_000);
        }
    }
    let late_id = market.nodes[late].id();
    assert!(market.members(0).iter().any(|member| member.device == late_id && member.state == "revoked"));
}

#[test]
fn only_a_hub_refuses_or_challenges_whoever_asks_to_join() {
    let mut market = Simulation::market(7, 3);
    market.uplink(1, false);
    let late = market.add();
    let heard = overhear_requests(&mut market, late);
    let text = invite(&mut market, "late", 3_600_000);
    assert_eq!(join(&mut market, late, &text), Answer::Done);
    market.until("it asks", 10_000, |_| !heard.borrow().is_empty());
    let id = heard.borrow()[0].id.clone();
    // A member who wants no competition answers in the hub's place.
    let member = market.nodes[2].identity.clone();
    market.kill(2);
    let refusal = payload::JoinRefusal { request: id.clone(), reason: "no room".into() };
    let challenge = payload::JoinChallenge { request: id, nonce: vec![1; 16] };
    let time = OPENING_MS + market.now;
    let entries = [
        (time, [0; 8], Kind::JOIN_REFUSAL, payload::encode(&refusal)),
        (time, [0; 8], Kind::JOIN_CHALLENGE, payload::encode(&challenge)),
    ];
    let (log, page) = written_log(&market.market_id(), &member.device, [4; 16], Lane::SIGNAL, &entries);
    let puppet = market.add_puppet(member);
    let link = market.puppet_dial(puppet, Road::Mesh, 3);
    market.puppet_opens_session(puppet, link, [4; 16]);
    market.puppet_sends_page(puppet, link, &log, &page, false);
    market.run_for(10_000);
    assert!(market.entries(3, log.author).iter().any(|entry| entry.kind == Kind::JOIN_REFUSAL.to_string()));
    let notices = market.status(late).notices.join("\n");
    assert!(!notices.contains("no room") && market.status(late).join_code.is_empty(), "{notices}");
    market.uplink(1, true);
    until_member(&mut market, late);
}

#[test]
fn a_device_joins_with_a_clock_that_is_ten_years_off_either_way() {
    let ten_years = 10 * 365 * 24 * 3_600_000_i64;
    for (seed, off) in [(8, ten_years), (9, -ten_years)] {
        let mut market = Simulation::market(seed, 2);
        let late = market.add();
        market.nodes[late].clock_error = off;
        market.invite(late, "late");
        until_member(&mut market, late);
        let hub = market.status(0).time;
        market.until("it knows what time it is", 30_000, |market| market.status(late).time.abs_diff(hub) < 60_000);
        market.publish(late);
        market.sell(late, "in time");
    }
}

#[test]
fn a_member_whom_the_hub_has_not_heard_of_reaches_it_with_nobody_to_vouch_for_it() {
    let mut market = Simulation::market(10, 2);
    market.uplink(1, false);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell"], 48 * 3_600_000), Answer::Done);
    until_member(&mut market, helper);
    market.until("it can sell", 20_000, |market| matches!(market.try_sell(helper, "alone", 1), Answer::Sale(_)));
    // The owner, and all who know of the helper, stay where no uplink is.
    market.partition(&[&[1, 2, 3], &[helper]]);
    market.uplink(helper, true);
    market.until("its sale is at the hub", 60_000, |market| market.status(helper).sales.at_the_hub == 1);
    let id = market.nodes[helper].id();
    assert!(market.members(0).iter().any(|member| member.device == id && member.state == "valid"));
}

#[test]
fn a_proof_of_membership_that_a_broken_link_took_with_it_is_shown_again_on_the_next() {
    let mut market = Simulation::market(11, 2);
    market.uplink(1, false);
    market.kill(0);
    market.burn_hub();
    let lost = Rc::new(RefCell::new(0));
    let counted = Rc::clone(&lost);
    market.tamper(0, move |channel, frame| {
        let proof = channel == Channel::Join
            && matches!(wire::JoinFrame::decode(frame.as_slice()).unwrap().body, Some(join_frame::Body::Pages(_)));
        *counted.borrow_mut() += usize::from(proof);
        if proof { Vec::new() } else { vec![(channel, frame)] }
    });
    market.start(0);
    market.uplink(1, true);
    market.until("the new hub has seen a member, which has not seen it", 60_000, |_| *lost.borrow() > 0);
    market.uplink(1, false);
    market.reform(0);
    market.uplink(1, true);
    market.until("the new hub has met the market", 60_000, |market| {
        market.status(1).uplink.up && {
            let notices = market.status(0).notices.join("\n");
            !notices.contains("has not yet met a member")
        }
    });
}
