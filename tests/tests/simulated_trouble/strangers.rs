//! Whoever knocks without a certificate that counts.

use stallmesh_node::engine::{Answer, Identity};
use stallmesh_node::link::{Channel, Road};
use stallmesh_protocol::certificate::{Certificate, Role, Scope, Scopes};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, join_frame};
use stallmesh_protocol::{Kind, Lane, LogName};
use stallmesh_tests::simulation::export::exported_pages;
use stallmesh_tests::simulation::hostile::{encode_join, written_log};
use stallmesh_tests::simulation::{OPENING_MS, Simulation};

const HOUR: u64 = 3_600_000;

fn stranger(seed: u8) -> Identity {
    Identity { device: DeviceKey::from_seed(&[seed; 32]), seal_secret: [seed; 32], opening_secrets: Vec::new() }
}

/// All pages of `control` that a node holds, the root's first, then those of the hub.
fn control_pages(market: &mut Simulation, at: usize) -> Vec<(LogName, Page)> {
    let (root, hub) = (market.root, market.nodes[0].id());
    let mut pages = exported_pages(&market.export(at));
    pages.retain(|(log, _)| log.lane == Lane::CONTROL);
    pages.sort_by_key(|(log, page)| (log.author != root, log.author != hub, page.first));
    pages
}

/// Shows pages at the gate, and then sends a session's frames all the same. Gives why the gate was closed.
fn knock(market: &mut Simulation, puppet: usize, road: Road, target: usize, pages: &[(LogName, Page)]) -> String {
    market.uplink(puppet, true);
    let closed = market.closed.len();
    let link = market.puppet_greets(puppet, road, target);
    if !pages.is_empty() {
        let pages = pages
            .iter()
            .map(|(log, page)| wire::Page {
                request: 0,
                log: Some(log.into()),
                page: page.encode(),
                custody: false,
                unpacked: 0,
            })
            .collect();
        let frame = encode_join(join_frame::Body::Pages(wire::JoinPages { pages, complete: true }));
        market.puppet_send(puppet, link, Channel::Join, frame);
    }
    market.puppet_opens_session(puppet, link, [3; 16]);
    let key = market.nodes[puppet].identity.device.clone();
    let time = OPENING_MS + market.now;
    for lane in [Lane::SIGNAL, Lane::CATALOG, Lane::CONTROL] {
        let (log, page) =
            written_log(&market.market_id(), &key, [4; 16], lane, &[(time, [0; 8], Kind::PRODUCTS, Vec::new())]);
        market.puppet_sends_page(puppet, link, &log, &page, false);
    }
    market.run_for(3_000);
    let frames = market.session_frames(puppet, link);
    assert!(frames.is_empty(), "a stranger was told {frames:?}");
    market.closed[closed..]
        .iter()
        .find(|closed| closed.by == target && closed.peer == key.id())
        .map(|closed| closed.reason.clone())
        .unwrap_or_default()
}

/// Nothing of a device has effect on any node, or is kept there.
fn is_unknown_everywhere(market: &mut Simulation, puppet: usize) {
    let id = market.nodes[puppet].id();
    for index in 0..market.nodes.len() {
        if market.nodes[index].engine.is_some() {
            assert!(market.members(index).iter().all(|member| member.device != id), "node {index} knows it");
            assert!(market.entries(index, id).is_empty(), "node {index} keeps entries of it");
        }
    }
}

#[test]
fn adv_041_a_stranger_gets_only_join_on_every_road() {
    let mut market = Simulation::market(110, 2);
    for (seed, road, target) in [(1, Road::Mesh, 1), (2, Road::Mesh, 3), (3, Road::Uplink, 0)] {
        let puppet = market.add_puppet(stranger(seed));
        assert_eq!(knock(&mut market, puppet, road, target, &[]), "", "it may still ask to join");
        is_unknown_everywhere(&mut market, puppet);
    }
}

#[test]
fn adv_031_a_member_of_another_market_is_a_stranger_in_this_one() {
    let mut other = Simulation::market(111, 1);
    let pages = control_pages(&mut other, 1);
    let mut market = Simulation::market(112, 2);
    for (index, road, target) in [(1, Road::Mesh, 1), (2, Road::Mesh, 3), (0, Road::Uplink, 0)] {
        let puppet = market.add_puppet(other.nodes[index].identity.clone());
        let reason = knock(&mut market, puppet, road, target, &pages);
        assert!(reason.starts_with("E_CERT"), "{reason}");
        is_unknown_everywhere(&mut market, puppet);
    }
    // With our own market's pages in front, too.
    let mine = control_pages(&mut market, 1);
    let puppet = market.add_puppet(other.nodes[1].identity.clone());
    let both: Vec<_> = mine.into_iter().chain(pages).collect();
    let reason = knock(&mut market, puppet, Road::Mesh, 1, &both);
    assert!(reason.starts_with("E_CERT"), "{reason}");
}

/// A certificate that an owner's device of stall 1 may give.
fn helper_certificate(market: &Simulation, device: &Identity) -> Certificate {
    let time = OPENING_MS + market.now;
    Certificate {
        device: device.device.id(),
        role: Role::Stall,
        stall: "stall-1".into(),
        name: "helper".into(),
        scopes: Scopes::default().with(Scope::SELL, Some(1_000)),
        not_before: time - HOUR,
        not_after: time + HOUR,
        seal_key: [1; 32],
        invite: None,
        request: None,
    }
}

/// `issuer`, which is no longer honest, certifies a stranger, who shows that at the gate of node 3; and it publishes it
/// as a member. Gives whether the stranger was let in anywhere.
fn certify(market: &mut Simulation, issuer: &Identity, stranger: Identity, certificate: &Certificate) -> bool {
    let mut pages = control_pages(market, 1);
    let time = OPENING_MS + market.now;
    let entry = (time, [0; 8], Kind::CERTIFICATE, certificate.to_payload());
    let mut incarnation = [0; 16];
    incarnation.copy_from_slice(&stranger.device.id().as_bytes()[..16]);
    market.witness.distrust(issuer.device.id());
    let own = written_log(&market.market_id(), &issuer.device, incarnation, Lane::CONTROL, &[entry]);
    pages.push(own.clone());
    let id = stranger.device.id();
    let member = market.add_puppet(issuer.clone());
    let link = market.puppet_dial(member, Road::Mesh, 4);
    market.puppet_opens_session(member, link, [8; 16]);
    market.puppet_sends_page(member, link, &own.0, &own.1, false);
    market.run_for(3_000);
    let known = |market: &mut Simulation| {
        let running: Vec<usize> =
            (0..market.nodes.len()).filter(|index| market.nodes[*index].engine.is_some()).collect();
        running.into_iter().any(|index| market.members(index).iter().any(|member| member.device == id))
    };
    if known(market) {
        return true;
    }
    let puppet = market.add_puppet(stranger);
    let reason = knock(market, puppet, Road::Mesh, 3, &pages);
    assert!(reason.starts_with("E_CERT"), "{reason}");
    is_unknown_everywhere(market, puppet);
    false
}

#[test]
fn adv_046_nobody_gets_in_by_a_certificate_that_grants_more_than_its_issuer_has() {
    let mut market = Simulation::market(113, 3);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell=5000"], 10 * HOUR), Answer::Done);
    market.until("the helper is a member", 20_000, |market| market.status(helper).role == "stall");
    let [owner, helper] = [2, helper].map(|index| market.nodes[index].identity.clone());
    market.kill(2);
    type Change = fn(&mut Certificate);
    let by_owner: [(&str, Change); 8] = [
        ("a hub", |certificate| (certificate.role, certificate.stall) = (Role::Hub, String::new())),
        ("a gateway", |certificate| (certificate.role, certificate.stall) = (Role::Gateway, String::new())),
        ("another stall", |certificate| certificate.stall = "stall-2".into()),
        ("a scope that it lacks", |certificate| {
            certificate.scopes = certificate.scopes.clone().with(Scope::ADMIT, None);
        }),
        ("settling", |certificate| certificate.scopes = certificate.scopes.clone().with(Scope::SETTLE, None)),
        ("granting on, where it may grant one level", |certificate| {
            certificate.scopes = certificate.scopes.clone().with(Scope::GRANT, Some(1));
        }),
        ("longer than its own", |certificate| certificate.not_after += 60 * HOUR),
        ("before its own", |certificate| certificate.not_before -= 60 * HOUR),
    ];
    for (number, (what, change)) in by_owner.into_iter().enumerate() {
        let stranger = stranger(20 + number as u8);
        let mut certificate = helper_certificate(&market, &stranger);
        change(&mut certificate);
        assert!(!certify(&mut market, &owner, stranger, &certificate), "{what}");
    }
    let of_helper = stranger(40);
    let certificate = helper_certificate(&market, &of_helper);
    assert!(!certify(&mut market, &helper, of_helper, &certificate), "a helper grants nothing");
    // The same certificate by who may give it is good: what was refused above was refused for its content.
    let good = stranger(41);
    let certificate = helper_certificate(&market, &good);
    assert!(certify(&mut market, &owner, good, &certificate));
}

#[test]
fn a_delegated_helper_delegates_no_further_than_its_levels_allow() {
    let mut market = Simulation::market(114, 2);
    let [first, second] = [market.add_helper("stall-1"), market.add_helper("stall-1")];
    for scopes in [&["sell", "grant=1"][..], &["sell", "grant"], &["sell", "admit"]] {
        let answer = market.delegate(2, first, scopes, HOUR);
        assert!(matches!(answer, Answer::Failed(_)), "{scopes:?}: {answer:?}");
    }
    assert_eq!(market.delegate(2, first, &["sell=500", "grant=0"], HOUR), Answer::Done);
    market.until("the helper is a member", 20_000, |market| market.status(first).role == "stall");
    let answer = market.delegate(first, second, &["sell=100"], HOUR);
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    market.run_for(5_000);
    assert_eq!(market.status(second).role, "none");
}

#[test]
fn what_a_revoked_issuer_granted_before_its_line_stands_and_after_it_never_was() {
    let mut market = Simulation::market(115, 3);
    let helper = market.add_helper("stall-1");
    assert_eq!(market.delegate(2, helper, &["sell"], 10 * HOUR), Answer::Done);
    market.until("the helper is a member", 20_000, |market| market.status(helper).role == "stall");
    market.run_for(5_000);
    assert_eq!(market.revoke(0, 2), Answer::Done);
    market.until_agreed(&[0, 1, 3, 4], 30_000);
    let owner = market.nodes[2].identity.clone();
    market.kill(2);
    let late = stranger(50);
    let certificate = helper_certificate(&market, &late);
    assert!(!certify(&mut market, &owner, late, &certificate), "beyond the line");
    for index in [0, 1, 3, 4] {
        assert_eq!(super::member_state(&mut market, index, helper), "valid", "inside the line");
    }
    market.sell(helper, "by the helper");
}

#[test]
fn adv_044_an_expired_issuer_grants_nothing() {
    let mut market = Simulation::market(116, 3);
    // Nobody hears the hub, which would renew it.
    market.uplink(1, false);
    market.sleep(50 * HOUR);
    market.run_for(5_000);
    let owner = market.nodes[2].identity.clone();
    assert_eq!(super::member_state(&mut market, 1, 2), "expired");
    let helper = market.add_helper("stall-1");
    assert!(matches!(market.delegate(2, helper, &["sell"], HOUR), Answer::Failed(_)));
    market.kill(2);
    let late = stranger(60);
    let certificate = helper_certificate(&market, &late);
    assert!(!certify(&mut market, &owner, late, &certificate));
    // Nor for a time at which it could have: it is written now.
    let late = stranger(61);
    let (not_before, not_after) = (OPENING_MS + HOUR, OPENING_MS + 10 * HOUR);
    let certificate = Certificate { not_before, not_after, ..helper_certificate(&market, &late) };
    assert!(!certify(&mut market, &owner, late, &certificate));
}

#[test]
fn adv_042_a_certificate_by_another_root_or_by_its_own_device_lets_nobody_in() {
    let mut market = Simulation::market(117, 2);
    let real = control_pages(&mut market, 1);
    let mut number = 70;
    for role in [Role::Hub, Role::Stall, Role::Gateway] {
        for own in [true, false] {
            number += 1;
            let stranger = stranger(number);
            let issuer = if own { stranger.device.clone() } else { DeviceKey::from_seed(&[99; 32]) };
            let stall = if role == Role::Stall { "stall-1".to_owned() } else { String::new() };
            let certificate = Certificate { role, stall, ..helper_certificate(&market, &stranger) };
            let entry = (OPENING_MS + market.now, [0; 8], Kind::CERTIFICATE, certificate.to_payload());
            let forged = written_log(&market.market_id(), &issuer, [number; 16], Lane::CONTROL, &[entry]);
            let pages: Vec<_> = real.iter().cloned().chain([forged]).collect();
            let puppet = market.add_puppet(stranger);
            let reason = knock(&mut market, puppet, Road::Mesh, 3, &pages);
            assert!(reason.starts_with("E_CERT"), "{role:?}, by itself: {own}: {reason}");
            is_unknown_everywhere(&mut market, puppet);
        }
    }
}

/// All that a member shows at a gate is public among members: whoever has copied it lacks the key that it is about.
#[test]
fn adv_050_a_members_papers_in_other_hands_open_no_gate() {
    let mut market = Simulation::market(118, 2);
    let papers = control_pages(&mut market, 2);
    for (seed, road, target) in [(80, Road::Mesh, 3), (81, Road::Mesh, 1), (82, Road::Uplink, 0)] {
        let puppet = market.add_puppet(stranger(seed));
        let reason = knock(&mut market, puppet, road, target, &papers);
        assert!(reason.starts_with("E_CERT"), "{reason}");
        is_unknown_everywhere(&mut market, puppet);
    }
}
