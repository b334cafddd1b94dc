//! Strangers with papers that give them nothing, at every door of real nodes: what they hear, and what they change.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use stallmesh_node::engine::Identity;
use stallmesh_node::link::{Channel, Road};
use stallmesh_protocol::certificate::{Certificate, Role, Scope, Scopes};
use stallmesh_protocol::invite::Invite;
use stallmesh_protocol::page::Page;
use stallmesh_protocol::wire::{self, frame::Body, join_frame};
use stallmesh_protocol::{DeviceId, Kind, Lane, LogName, MarketId};
use stallmesh_tests::processes::{Market, Node, order, product, until};
use stallmesh_tests::simulation::export::exported_pages;
use stallmesh_tests::simulation::hostile::{encode, written_log};

use crate::puppet::{Door, Puppet, keys_of, new_keys};

const HOUR: u64 = 3_600_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A market with a hub, a neighbour that listens on both of libp2p's roads, a stall beyond it, and an owner whose keys
/// are about to be in other hands.
struct Square {
    market: Market,
    id: MarketId,
    near: Node,
    far: Node,
    owner: Node,
    addresses: Vec<String>,
}

impl Square {
    fn make() -> Self {
        let market = Market::make();
        let (invite, _) = Invite::from_text(&market.invite("somebody")).unwrap();
        let mut near = market.node("near");
        near.set("STALLMESH_MESH_LISTEN", "/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0")
            .set("STALLMESH_UPLINK_ENABLED", "true")
            .start();
        market.admit(&near, "near");
        product(&near, "MUG", 1250);
        let status = near.until("listens", |status| status["listen"].as_array().is_some_and(|all| all.len() == 2));
        let addresses = status["listen"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned());
        let addresses: Vec<String> = addresses.chain([market.hub_address.clone()]).collect();
        let far = market.stall_beside("far", &near);
        let owner = market.stall_beside("owner", &near);
        Square { market, id: invite.market(), near, far, owner, addresses }
    }

    /// QUIC, TCP and the uplink port.
    fn doors(&self) -> Vec<Door<'_>> {
        let road = |address: &str| if address.starts_with('/') { Road::Mesh } else { Road::Uplink };
        self.addresses.iter().map(|address| Door { road: road(address), address }).collect()
    }

    fn nodes(&self) -> [&Node; 3] {
        [&self.market.hub, &self.near, &self.far]
    }

    /// All that makes members, as the hub has it: the root's pages first, then the hub's.
    fn control(&self) -> Vec<(LogName, Page)> {
        let export = self.market.folder().join("export");
        assert!(self.market.hub.cli(&["audit", "export", "--out", export.to_str().unwrap()]).status.success());
        let mut pages = exported_pages(&std::fs::read(&export).unwrap());
        pages.retain(|(log, _)| log.lane == Lane::CONTROL);
        let hub: DeviceId = self.market.hub.device().parse().unwrap();
        let members = self.market.hub.get("/v1/members").to_string();
        pages.sort_by_key(|(log, page)| (members.contains(&log.author.to_string()), log.author != hub, page.first));
        pages
    }

    /// What a node keeps of a device (of one incarnation, where it is given), and what it says of its effect.
    fn kept(&self, at: &Node, author: &DeviceId, incarnation: Option<u8>) -> Vec<String> {
        let entries = at.get(&format!("/v1/log?author={author}&limit=100"));
        let wanted = incarnation.map(|number| hex::encode([number; 16]));
        let entries = entries.as_array().unwrap().iter();
        let entries = entries.filter(|entry| wanted.as_ref().is_none_or(|wanted| entry["incarnation"] == **wanted));
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
        entries.map(|entry| format!("{}: {}", text(entry, "kind"), text(entry, "standing"))).collect()
    }

    /// Nothing of a device has effect or is kept anywhere.
    fn knows_nothing_of(&self, device: &DeviceId) {
        for node in self.nodes() {
            assert!(!node.get("/v1/members").to_string().contains(&device.to_string()), "{} knows it", node.name);
            assert_eq!(self.kept(node, device, None), Vec::<String>::new(), "{}", node.name);
            assert_eq!(node.get("/v1/catalog?q=FORGED"), json!([]), "{}", node.name);
        }
    }
}

/// A certificate that the owner's device may give.
fn certificate(of: &Identity) -> Certificate {
    Certificate {
        device: of.device.id(),
        role: Role::Stall,
        stall: "owner".into(),
        name: "a friend".into(),
        scopes: Scopes::default().with(Scope::SELL, Some(1_000)),
        not_before: now() - 1_000,
        not_after: now() + HOUR,
        seal_key: [1; 32],
        invite: None,
        request: None,
    }
}

/// What an issuer writes to let a device in.
fn granted(square: &Square, issuer: &Identity, number: u8, certificate: &Certificate) -> (LogName, Page) {
    let entry = (now(), [0; 8], Kind::CERTIFICATE, certificate.to_payload());
    written_log(&square.id, &issuer.device, [number; 16], Lane::CONTROL, &[entry])
}

/// Goods and a signal that nobody may see.
fn forged(square: &Square, key: &Identity, number: u8) -> [(LogName, Page); 2] {
    use stallmesh_protocol::payload::{Product, Products, encode};
    let goods = Products {
        products: vec![Product { sku: "FORGED".into(), name: "FORGED".into(), price: 1, ..Product::default() }],
        ..Products::default()
    };
    let entry = (now(), [0; 8], Kind::PRODUCTS, encode(&goods));
    [Lane::CATALOG, Lane::SIGNAL]
        .map(|lane| written_log(&square.id, &key.device, [number; 16], lane, std::slice::from_ref(&entry)))
}

/// At every door: shows papers, and then speaks as a member would all the same. It must hear a greeting at
/// most, and be shut out for its papers.
async fn is_shut_out(square: &Square, stranger: Identity, papers: &[(LogName, Page)]) {
    let mut puppet = Puppet::new(stranger);
    for door in square.doors() {
        let link = puppet.greet(&door, &square.id).await;
        puppet.speak(&door, link, &square.id, &forged(square, &puppet.identity, 9));
        puppet.send(&door, link, Channel::Bulk, encode(Body::Ping(wire::Ping { nonce: 1 })));
        puppet.show(&door, link, papers);
        let told = puppet.hear(link).await;
        // The greeting may have been under way when the link ended.
        assert!(matches!(told.join.as_slice(), [] | [join_frame::Body::Hello(_)]), "{door:?}: {told:?}");
        assert!(told.session.is_empty() && told.taken == 0, "{door:?}: {told:?}");
        // The other road has no words for an end; what the node says of it is looked at below.
        assert!(door.road == Road::Mesh || told.reason.contains("E_CERT"), "{door:?}: {told:?}");
    }
    let short = puppet.id().short().to_string();
    for (node, doors) in [(&square.near, 2), (&square.market.hub, 1)] {
        until(&format!("{} has shut it out", node.name), || {
            let log = node.log();
            let lines = log.lines().filter(|line| line.contains(&short) && line.contains("E_CERT")).count();
            if lines == doors { Ok(()) } else { Err(log) }
        });
    }
    square.knows_nothing_of(&puppet.id());
}

/// A member that is no longer honest publishes a log among members; it is heard and kept by `near`.
async fn publish(square: &Square, puppet: &mut Puppet, log: &(LogName, Page)) -> Vec<Body> {
    let door = square.doors()[0];
    let link = puppet.greet(&door, &square.id).await;
    puppet.speak(&door, link, &square.id, std::slice::from_ref(log));
    let told = puppet.hear(link).await;
    assert!(matches!(told.session.last(), Some(Body::Pong(_))), "{told:?}");
    told.session
}

#[test]
fn a_helper_that_grants_what_it_does_not_have_lets_nobody_in_on_any_road() {
    let mut square = Square::make();
    let mut helper = square.market.node("helper");
    helper.set("STALLMESH_MESH_PEERS", &square.addresses[0]).start();
    let link = square.market.invite("");
    assert!(helper.cli(&["join", &link, "--ask", "owner", "--name", "helper"]).status.success());
    let seal_key = helper.status()["seal_key"].clone();
    let grant = json!({
        "device": helper.device(), "seal_key": seal_key, "name": "helper", "scopes": ["sell=1000"], "valid_ms": 10 * HOUR,
    });
    square.owner.send("POST", "/v1/delegate", &grant);
    helper.until("is a member", |status| status["role"] == "stall");
    let helper_id = helper.device();
    until("everybody knows the helper", || {
        let known = square.nodes().iter().all(|node| node.get("/v1/members").to_string().contains(&helper_id));
        if known { Ok(()) } else { Err(square.far.get("/v1/members").to_string()) }
    });
    helper.stop();
    square.owner.stop();
    let [helper, owner] = [&helper, &square.owner].map(|node| keys_of(&node.directory));
    let control = square.control();
    runtime().block_on(async {
        // By the helper, which may grant nothing; by the owner, more than it has.
        type Change = fn(&mut Certificate);
        let cases: [(u8, &Identity, Change); 3] = [
            (31, &helper, |_| {}),
            (32, &owner, |certificate| {
                certificate.scopes = certificate.scopes.clone().with(Scope::SETTLE, None);
            }),
            (33, &owner, |certificate| (certificate.role, certificate.stall) = (Role::Hub, String::new())),
        ];
        for (number, issuer, change) in cases {
            let stranger = new_keys(number);
            let mut certificate = certificate(&stranger);
            change(&mut certificate);
            let log = granted(&square, issuer, number, &certificate);
            // Among members it is kept and passed on, and means nothing to anybody.
            let mut member = Puppet::new(Identity { device: issuer.device.clone(), ..new_keys(0) });
            publish(&square, &mut member, &log).await;
            for node in square.nodes() {
                until(&format!("{} has what was granted", node.name), || {
                    let kept = square.kept(node, &member.id(), Some(number));
                    if kept.iter().any(|entry| entry.starts_with("certificate")) {
                        Ok(())
                    } else {
                        Err(format!("{kept:?}"))
                    }
                });
            }
            square.knows_nothing_of(&stranger.device.id());
            let papers: Vec<_> = control.iter().cloned().chain([log]).collect();
            is_shut_out(&square, stranger, &papers).await;
        }
        // The same papers by who may give them, for what it may give, are good on every road: what was refused above
        // was refused for what it said.
        let friend = new_keys(34);
        let log = granted(&square, &owner, 34, &certificate(&friend));
        let papers: Vec<_> = control.iter().cloned().chain([log]).collect();
        let mut friend = Puppet::new(friend);
        for door in square.doors() {
            let link = friend.greet(&door, &square.id).await;
            friend.show(&door, link, &papers);
            friend.speak(&door, link, &square.id, &[]);
            let told = friend.hear(link).await;
            assert!(matches!(told.session.last(), Some(Body::Pong(_))), "{door:?}: {told:?}");
        }
    });
    assert_eq!(square.near.ask("POST", "/v1/sales", &order("after", "MUG")).unwrap().status, 201);
}

#[test]
fn adv_042_whoever_a_revoked_device_certifies_stays_a_stranger_on_every_road() {
    let mut square = Square::make();
    let owner_id = square.owner.device();
    until("everybody knows the owner", || {
        let known = square.nodes().iter().all(|node| node.get("/v1/members").to_string().contains(&owner_id));
        if known { Ok(()) } else { Err(square.far.get("/v1/members").to_string()) }
    });
    square.owner.stop();
    square.market.hub.send("POST", "/v1/revoke", &json!({ "device": owner_id, "reason": "in other hands" }));
    for node in square.nodes() {
        until(&format!("{} hears of the revocation", node.name), || {
            let members = node.get("/v1/members");
            let owner = members.as_array().unwrap().iter().find(|member| member["device"] == owner_id).cloned();
            if owner.as_ref().is_some_and(|owner| owner["state"] == "revoked") {
                Ok(())
            } else {
                Err(members.to_string())
            }
        });
    }
    let owner = keys_of(&square.owner.directory);
    let control = square.control();
    runtime().block_on(async {
        let stranger = new_keys(41);
        let log = granted(&square, &owner, 41, &certificate(&stranger));
        let papers: Vec<_> = control.iter().cloned().chain([log.clone()]).collect();
        is_shut_out(&square, new_keys(41), &papers).await;

        // The revoked device itself is heard on every road, gets `control` alone, and what it writes changes nothing.
        let mut revoked = Puppet::new(owner.clone());
        for (number, door) in square.doors().into_iter().enumerate() {
            let link = revoked.greet(&door, &square.id).await;
            let [goods, signal] = forged(&square, &owner, 50 + number as u8);
            revoked.speak(&door, link, &square.id, &[log.clone(), goods, signal]);
            let told = revoked.hear(link).await;
            assert!(matches!(told.session.last(), Some(Body::Pong(_))), "{door:?}: {told:?}");
            for body in &told.session {
                let lane = match body {
                    Body::Page(page) => page.log.as_ref().map(|log| log.lane),
                    Body::Summary(wire::Summary { lanes, .. }) | Body::Runs(wire::Runs { lanes, .. }) => {
                        Some(if *lanes == 1 << Lane::CONTROL.0 { Lane::CONTROL.0 } else { u32::MAX })
                    }
                    Body::Delta(_) => Some(u32::MAX),
                    Body::Have(have) => have.logs.iter().filter_map(|log| log.log.as_ref()).map(|log| log.lane).max(),
                    Body::Blob(_) | Body::Evidence(_) | Body::Offer(_) => Some(u32::MAX),
                    _ => None,
                };
                assert!(lane.is_none_or(|lane| lane == Lane::CONTROL.0), "{door:?}: {body:?}");
            }
        }
        // Told to everybody after that, a product of the neighbour's has passed whatever it might have passed on.
        product(&square.near, "LATER", 100);
        until("a later entry has arrived", || {
            let found = square.far.get("/v1/catalog?q=LATER");
            if found == json!([]) { Err(found.to_string()) } else { Ok(()) }
        });
        for node in square.nodes() {
            // What is kept of it says that it is worth nothing.
            for number in [41, 50, 51, 52] {
                let kept = square.kept(node, &owner.device.id(), Some(number));
                assert!(kept.iter().all(|entry| entry.contains("E_REVOKED")), "{}: {kept:?}", node.name);
            }
            assert_eq!(node.get("/v1/catalog?q=FORGED"), json!([]), "{}", node.name);
            assert!(!node.get("/v1/members").to_string().contains(&stranger.device.id().to_string()), "{}", node.name);
        }
    });
}
