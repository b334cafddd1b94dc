//! Strangers at the doors of a real node: what they are offered, what they learn, and what they can cost.

use std::net::Ipv4Addr;

use futures::AsyncWriteExt;
use libp2p::identity::{Keypair, ed25519};
use prost::Message;
use serde_json::json;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::invite::Invite;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, join_frame::Body};
use stallmesh_protocol::{DeviceId, MarketId};
use stallmesh_tests::processes::{Market, Node, address, order, product, until};

use crate::roads::{Road, frames, hear, say, send_frame, uplink, uplink_from};

const JOIN: &str = "/stallmesh/join/1";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A key that nobody knows, as device and as libp2p has it.
fn key(number: u32) -> (DeviceId, Keypair) {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let device = DeviceKey::from_seed(&seed).id();
    let secret = ed25519::SecretKey::try_from_bytes(&mut seed).unwrap();
    (device, Keypair::from(ed25519::Keypair::from(secret)))
}

/// A stall that listens on both of libp2p's roads, with something worth having.
fn both_roads(market: &Market) -> (Node, Vec<String>) {
    let mut node = market.node("till");
    node.set("STALLMESH_MESH_LISTEN", "/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0")
        .set("STALLMESH_UPLINK_ENABLED", "true")
        .start();
    market.admit(&node, "till");
    product(&node, "MUG", 1250);
    let status = node.until("listens on both", |status| status["listen"].as_array().is_some_and(|all| all.len() == 2));
    let addresses = status["listen"].as_array().unwrap().iter().map(|address| address.as_str().unwrap().to_owned());
    let addresses: Vec<String> = addresses.collect();
    assert!(addresses.iter().any(|address| address.contains("/tcp/")), "{addresses:?}");
    (node, addresses)
}

fn hello(market: &MarketId, device: &DeviceId) -> Vec<u8> {
    let nonce = [5; 16];
    let tag = Hasher::keyed(market.as_bytes(), Domain::Join).bytes(&nonce).bytes(device.as_bytes()).finish();
    let hello = wire::JoinHello { nonce: nonce.to_vec(), tag: tag.as_bytes()[..16].to_vec() };
    wire::JoinFrame { body: Some(Body::Hello(hello)) }.encode_to_vec()
}

#[test]
fn adv_041_a_stranger_is_offered_the_join_protocol_alone_on_quic_and_on_tcp() {
    let market = Market::make();
    let (_node, addresses) = both_roads(&market);
    let (device, stranger) = key(1);
    runtime().block_on(async {
        for address in addresses {
            let mut road = Road::dial(&address, &stranger).await.unwrap();
            let mut stream = road.stream().await.unwrap();
            say(&mut stream, "/multistream/1.0.0").await.unwrap();
            say(&mut stream, "ls").await.unwrap();
            assert_eq!(hear(&mut stream).await.unwrap(), "/multistream/1.0.0\n");
            let offered = hear(&mut stream).await.unwrap();
            let offered: Vec<&str> =
                offered.split('\n').filter_map(|line| line.find('/').map(|start| &line[start..])).collect();
            assert_eq!(offered, [JOIN], "{address}");
            for protocol in [
                "/ipfs/id/1.0.0",
                "/ipfs/id/push/1.0.0",
                "/ipfs/ping/1.0.0",
                "/ipfs/kad/1.0.0",
                "/libp2p/autonat/1.0.0",
                "/libp2p/circuit/relay/0.2.0/hop",
                "/meshsub/1.0.0",
                "/meshsub/1.1.0",
                "/meshsub/1.2.0",
                "/floodsub/1.0.0",
                "/stallmesh/live/1",
                "/stallmesh/bulk/1",
                "/stallmesh/join/2",
            ] {
                let answer = road.ask_for(protocol).await.unwrap();
                assert_eq!(answer.err().as_deref(), Some("na\n"), "{protocol} on {address}");
            }
            // The one that there is tells nothing to whoever doesn't know the market: the connection ends.
            let mut join = road.ask_for(JOIN).await.unwrap().unwrap();
            send_frame(&mut join, &hello(&MarketId::from_bytes([9; 32]), &device)).await.unwrap();
            assert_eq!(frames(&mut join).await, Vec::<Vec<u8>>::new());
            (&mut road.ended).await.unwrap();
            assert!(road.inbound.try_recv().is_err(), "the node opened a stream to a stranger on {address}");
        }
    });
}

#[test]
fn a_stranger_who_knows_the_market_learns_nothing_but_that_the_other_does_too() {
    let market = Market::make();
    let (node, addresses) = both_roads(&market);
    let (invite, _) = Invite::from_text(&market.invite("somebody")).unwrap();
    let (device, stranger) = key(2);
    let forged = wire::JoinPages {
        pages: vec![wire::Page {
            request: 0,
            log: Some(wire::LogName { author: device.as_bytes().to_vec(), incarnation: vec![3; 16], lane: 0 }),
            page: vec![1, 2, 3],
            custody: false,
            unpacked: 0,
        }],
        complete: true,
    };
    let forged = wire::JoinFrame { body: Some(Body::Pages(forged)) }.encode_to_vec();
    runtime().block_on(async {
        for address in addresses {
            let mut road = Road::dial(&address, &stranger).await.unwrap();
            let mut join = road.ask_for(JOIN).await.unwrap().unwrap();
            send_frame(&mut join, &hello(&invite.market(), &device)).await.unwrap();
            // The answer comes on a stream that the node opens.
            let mut theirs = road.inbound.recv().await.unwrap();
            assert_eq!(hear(&mut theirs).await.unwrap(), "/multistream/1.0.0\n");
            assert_eq!(hear(&mut theirs).await.unwrap(), format!("{JOIN}\n"));
            say(&mut theirs, "/multistream/1.0.0").await.unwrap();
            say(&mut theirs, JOIN).await.unwrap();
            for protocol in ["/stallmesh/live/1", "/stallmesh/bulk/1"] {
                assert_eq!(road.ask_for(protocol).await.unwrap().err().as_deref(), Some("na\n"), "{protocol}");
            }
            // Pages that no certificate leads to end it.
            send_frame(&mut join, &forged).await.unwrap();
            let said = frames(&mut theirs).await;
            let said: Vec<Option<Body>> =
                said.iter().map(|frame| wire::JoinFrame::decode(frame.as_slice()).unwrap().body).collect();
            assert!(matches!(said.as_slice(), [Some(Body::Hello(_))]), "{said:?}");
            (&mut road.ended).await.unwrap();
            assert!(road.inbound.try_recv().is_err());
        }
    });
    assert!(node.log().contains("E_CERT"), "{}", node.log());
    assert!(!node.get("/v1/members").to_string().contains(&device.to_string()));
}

#[test]
fn a_stranger_at_the_uplink_port_gets_join_and_nothing_else() {
    let market = Market::make();
    let port = market.hub_address.parse().unwrap();
    runtime().block_on(async {
        assert!(uplink(port, &[1; 32], b"h3").await.is_err(), "another protocol was spoken to");
        let connection = uplink(port, &[1; 32], b"stallmesh/1").await.unwrap();
        for channel in [1, 2, 3, 255] {
            let (mut send, mut receive) = connection.open_bi().await.unwrap();
            let _ = send.write_all(&[channel, 0, 0, 0, 1, 0]).await;
            let answer = receive.read_to_end(1024).await;
            assert!(answer.is_err(), "channel {channel} was taken: {answer:?}");
        }
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        assert_eq!(receive.read_to_end(1024).await.unwrap(), [1]);
        let frame = hello(&MarketId::from_bytes([9; 32]), &DeviceKey::from_seed(&[1; 32]).id());
        send.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).await.unwrap();
        send.write_all(&frame).await.unwrap();
        // No stream comes from the hub before the end.
        let end = connection.accept_bi().await.map(|_| ()).unwrap_err();
        assert!(end.to_string().contains("E_WRONG_MARKET"), "{end}");
    });
}

#[test]
fn adv_031_a_member_of_another_market_is_a_stranger_here() {
    let (here, there) = (Market::make(), Market::make());
    let ours = here.stall("ours");
    let mut theirs = there.node("theirs");
    theirs.set("STALLMESH_UPLINK_ENABLED", "true").set("STALLMESH_MESH_PEERS", &address(&ours)).start();
    there.admit(&theirs, "theirs");
    product(&theirs, "CUP", 100);
    until("they have met", || {
        if [&ours, &theirs].iter().any(|node| node.log().contains("E_WRONG_MARKET")) {
            Ok(())
        } else {
            Err(theirs.log())
        }
    });
    for (node, other) in [(&ours, &theirs), (&theirs, &ours)] {
        let other = other.device();
        for view in ["/v1/members", "/v1/log?limit=100", "/v1/status"] {
            assert!(!node.get(view).to_string().contains(&other), "{} tells of {other} in {view}", node.name);
        }
    }
    assert_eq!(ours.get("/v1/catalog?q=CUP"), json!([]));
    assert_eq!(theirs.get("/v1/catalog?q=MUG"), json!([]));
}

/// Where strangers come from that have three addresses of one machine.
fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, (number % 3) as u8 + 1)
}

#[test]
fn adv_104_strangers_that_hold_all_the_links_they_get_keep_out_no_member_and_no_newcomer() {
    // Of sixteen connections strangers may have twelve, and then share them by where they come from.
    const CONNECTIONS: &str = "16";
    const HELD: usize = 12;
    let market = Market::make();
    let mut till = market.node("till");
    till.set("STALLMESH_MESH_CONNECTIONS_MAX", CONNECTIONS).set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&till, "till");
    let mut member = market.stall_beside("member", &till);
    member.stop();
    let door = address(&till);
    runtime().block_on(async {
        let mut roads = Vec::new();
        for number in 0..40 {
            roads.push(Road::dial_from(source(number), &door, &key(3000 + number).1).await.unwrap());
        }
        let held = || roads.iter().filter(|road| !road.ended.is_finished()).count();
        member.start();
        member.until("is linked again", |status| status["peers"].as_array().is_some_and(|peers| !peers.is_empty()));
        until("strangers hold their part", || if held() == HELD { Ok(()) } else { Err(held().to_string()) });
        let mut newcomer = market.node("newcomer");
        newcomer
            .set("STALLMESH_MESH_LISTEN", "/ip4/127.0.0.2/udp/0/quic-v1")
            .set("STALLMESH_MESH_PEERS", &door)
            .start();
        market.admit(&newcomer, "newcomer");
        until("one stranger left for it", || if held() == HELD - 1 { Ok(()) } else { Err(held().to_string()) });
    });
}

#[test]
fn strangers_at_the_uplink_port_keep_out_no_member_and_no_newcomer() {
    const HELD: usize = 12;
    let mut market = Market::make();
    let mut member = market.stall("member");
    member.stop();
    market.hub.stop();
    market.hub.set("STALLMESH_UPLINK_CONNECTIONS_MAX", "16").start();
    let port = market.hub_address.parse().unwrap();
    runtime().block_on(async {
        let mut roads = Vec::new();
        for number in 0..40_u32 {
            let mut seed = [8; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            roads.push(uplink_from(source(number), port, &seed, b"stallmesh/1").await.unwrap());
        }
        let held = || roads.iter().filter(|road| road.close_reason().is_none()).count();
        until("strangers hold their part", || if held() == HELD { Ok(()) } else { Err(held().to_string()) });
        let refused = roads.iter().find_map(quinn::Connection::close_reason).unwrap();
        assert!(refused.to_string().contains("E_BUSY"), "{refused}");
        member.start();
        member.until("reaches the hub", |status| status["uplink"]["up"] == true);
        assert_eq!(held(), HELD, "there was room without them");
        // From an address that isn't theirs.
        market.stall("newcomer");
        until("one stranger left for it", || if held() == HELD - 1 { Ok(()) } else { Err(held().to_string()) });
    });
}

#[test]
fn adv_104_a_flood_of_strangers_costs_little_and_stops_no_sale() {
    const STRANGERS: u32 = 200;
    let market = Market::make();
    let (node, addresses) = both_roads(&market);
    let before = node.memory("VmHWM");
    runtime().block_on(async {
        let mut roads = Vec::new();
        for number in 0..STRANGERS {
            let address = addresses[number as usize % addresses.len()].clone();
            roads.push(tokio::spawn(async move {
                let road = Road::dial(&address, &key(1000 + number).1).await.ok()?;
                // A frame that claims much and trickles; every tenth claims what no frame may have.
                let mut stream = road.ask_for(JOIN).await.ok()?.ok()?;
                let claimed: u32 = if number % 10 == 0 { u32::MAX } else { 320 * 1024 };
                stream.write_all(&claimed.to_be_bytes()).await.ok()?;
                stream.flush().await.ok()?;
                let trickle = tokio::spawn(async move {
                    while stream.write_all(&[0]).await.is_ok() && stream.flush().await.is_ok() {
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                });
                Some((road, trickle))
            }));
        }
        let mut taken = Vec::new();
        for road in roads {
            taken.extend(road.await.unwrap());
        }
        assert!(taken.len() > 50, "only {} strangers got as far as a frame", taken.len());
        // It sells, and what it sells gets to the hub.
        for number in 0..50 {
            assert_eq!(node.ask("POST", "/v1/sales", &order(&number.to_string(), "MUG")).unwrap().status, 201);
        }
        market.until_received(50);
        let cost = node.memory("VmHWM") - before;
        eprintln!("{} of {STRANGERS} strangers cost {} KiB", taken.len(), cost / 1024);
        assert!(cost < 100 * 1024 * 1024, "{cost} bytes for {} strangers", taken.len());
        // None holds its place with a frame that doesn't end.
        for (mut road, trickle) in taken {
            tokio::time::timeout(std::time::Duration::from_secs(60), &mut road.ended).await.unwrap().unwrap();
            trickle.abort();
        }
    });
    assert!(node.log().contains("E_TOO_LARGE") && node.log().contains("E_SLOW"), "{}", node.log());
    // A newcomer finds the door open again.
    let newcomer = market.stall_beside("newcomer", &node);
    assert_eq!(newcomer.status()["role"], "stall");
}
