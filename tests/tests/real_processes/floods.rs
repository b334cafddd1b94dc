//! A real node under loads that nobody honest makes: of members and strangers, of its machine, of signals; and networks
//! that carry only part of what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use libp2p::identity::Keypair;
use stallmesh_node::identity::{DEVICE_KEY, SEAL_KEY};
use stallmesh_node::link::{Channel, Road};
use stallmesh_protocol::invite::Invite;
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_tests::processes::{Market, address, order, product, until};
use stallmesh_tests::simulation::hostile::encode;

use crate::puppet::{Door, Puppet, keys_of};
use crate::roads;

/// What a node may have in memory while it is flooded, in bytes.
const MEMORY_MAX: u64 = 128 * 1024 * 1024;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn adv_017_adv_134_ten_thousand_tiny_frames_at_once_are_answered_in_turn_and_held_in_little_memory() {
    let market = Market::make();
    let (invite, _) = Invite::from_text(&market.invite("somebody")).unwrap();
    let till = market.stall("till");
    let mut member = market.stall_beside("member", &till);
    member.stop();
    let door = address(&till);
    let door = Door { road: Road::Mesh, address: &door };
    let stop = Arc::new(AtomicBool::new(false));
    runtime().block_on(async {
        let mut puppet = Puppet::new(keys_of(&member.directory));
        let link = puppet.greet(&door, &invite.market()).await;
        let hello = wire::Hello {
            version: stallmesh_protocol::replica::VERSION,
            market: invite.market().as_bytes().to_vec(),
            incarnation: vec![6; 16],
            nonce: vec![7; 16],
            ..wire::Hello::default()
        };
        puppet.send(&door, link, Channel::Live, encode(Body::Hello(hello)));
        for nonce in 0..10_000 {
            puppet.send(&door, link, Channel::Live, encode(Body::Ping(wire::Ping { nonce: 1_000 + nonce })));
        }
        puppet.send(&door, link, Channel::Live, encode(Body::Ping(wire::Ping { nonce: 77 })));
        // It sells meanwhile.
        for number in 0..20 {
            assert_eq!(till.ask("POST", "/v1/sales", &order(&number.to_string(), "MUG")).unwrap().status, 201);
        }
        let told = puppet.hear(link).await;
        let answers = told.session.iter().filter(|body| matches!(body, Body::Pong(_))).count();
        assert!(answers == 10_001 || !told.reason.is_empty(), "{answers} answers, and then nothing");
    });
    stop.store(true, Ordering::Relaxed);
    market.until_received(20);
    let peak = till.memory("VmHWM");
    eprintln!("at most {} KiB", peak / 1024);
    assert!(peak < MEMORY_MAX, "{peak} bytes");
}

#[test]
fn adv_105_a_thousand_streams_on_one_connection_cost_little_and_stop_no_sale() {
    let market = Market::make();
    let till = market.stall("till");
    let before = till.memory("VmHWM");
    let door = address(&till);
    runtime().block_on(async {
        let road = roads::Road::dial(&door, &Keypair::generate_ed25519()).await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..1_000 {
            let opened = tokio::time::timeout(Duration::from_millis(200), road.stream()).await;
            let Ok(Ok(mut stream)) = opened else { break };
            // As much as it takes: ten megabytes a stream where nothing bounds it.
            let full = async { while stream.write_all(&[0; 16 * 1024]).await.is_ok() {} };
            let _ = tokio::time::timeout(Duration::from_millis(5), full).await;
            streams.push(stream);
        }
        eprintln!("{} streams were opened", streams.len());
        for number in 0..20 {
            assert_eq!(till.ask("POST", "/v1/sales", &order(&number.to_string(), "MUG")).unwrap().status, 201);
        }
        market.until_received(20);
        let cost = till.memory("VmHWM").saturating_sub(before);
        eprintln!("they cost {} KiB", cost / 1024);
        assert!(cost < 64 * 1024 * 1024, "{cost} bytes");
    });
    // And others get in.
    let other = market.stall_beside("other", &till);
    assert_eq!(other.status()["role"], "stall");
}

/// The part of a way through a network that has TCP alone.
#[test]
fn adv_114_where_no_datagram_gets_through_a_neighbour_is_reached_by_tcp() {
    let market = Market::make();
    let mut near = market.node("near");
    near.set("STALLMESH_MESH_LISTEN", "/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0")
        .set("STALLMESH_UPLINK_ENABLED", "true")
        .start();
    market.admit(&near, "near");
    product(&near, "MUG", 1250);
    let status = near.until("listens", |status| status["listen"].as_array().is_some_and(|all| all.len() == 2));
    let addresses: Vec<&str> = status["listen"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    let tcp = addresses.iter().find(|address| address.contains("/tcp/")).unwrap();
    // A socket that takes datagrams and answers none, as a network does that drops them.
    let hole = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let quic = format!("/ip4/127.0.0.1/udp/{}/quic-v1", hole.local_addr().unwrap().port());
    let mut far = market.node("far");
    far.set("STALLMESH_MESH_LISTEN", "/ip4/127.0.0.1/tcp/0")
        .set("STALLMESH_MESH_PEERS", &format!("{quic},{tcp}"))
        .start();
    market.admit(&far, "far");
    product(&far, "CUP", 300);
    far.send("POST", "/v1/sales", &order("by tcp", "CUP"));
    market.until_received(1);
    let link = far.status()["peers"][0]["address"].as_str().unwrap_or_default().to_owned();
    assert!(link.contains("/tcp/"), "{link}");
}

#[test]
fn adv_135_a_machine_that_is_busy_with_other_things_still_sells() {
    let market = Market::make();
    let till = market.stall("till");
    let over = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut took = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..2 * cores {
            let over = Arc::clone(&over);
            scope.spawn(move || {
                let mut number = 1_u64;
                while !over.load(Ordering::Relaxed) {
                    number = std::hint::black_box(number.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 7);
                }
            });
        }
        for number in 0..100 {
            let begun = Instant::now();
            let reply = till.ask("POST", "/v1/sales", &order(&number.to_string(), "MUG"));
            took.push(begun.elapsed());
            over.store(number == 99 || !matches!(&reply, Ok(reply) if reply.status == 201), Ordering::Relaxed);
            assert_eq!(reply.unwrap().status, 201, "sale {number}");
        }
    });
    took.sort();
    // How fast it must be is the benchmarks' to say: other tests run beside this one.
    eprintln!(
        "100 sales on a machine with {} busy threads: half within {:?}, all within {:?}",
        2 * cores,
        took[50],
        took[99]
    );
    market.until_received(100);
}

#[test]
fn adv_137_a_process_that_stood_still_longer_than_any_patience_is_let_in_again() {
    let market = Market::make();
    let first = market.stall("first");
    let second = market.stall_beside("second", &first);
    let id = second.device();
    let linked = |status: &serde_json::Value| status["peers"].to_string().contains(&id);
    first.until("they are linked", linked);
    second.send("POST", "/v1/sales", &order("before", "MUG"));
    market.until_received(1);
    second.signal("STOP");
    // Nothing is said of it: the others wait as long as they ever wait, and give it up.
    first.until("it is given up", |status| !linked(status));
    first.send("POST", "/v1/sales", &order("meanwhile", "MUG"));
    market.until_received(2);
    second.signal("CONT");
    first.until("it is back", linked);
    second.send("POST", "/v1/sales", &order("after", "MUG"));
    market.until_received(3);
    assert!(!first.notices().contains("two "), "{}", first.notices());
}

/// Whatever a node says, at whatever detail, and whatever it can be asked: none of it is a key.
#[test]
fn adv_061_no_secret_is_in_any_log_answer_or_command_line() {
    let market = Market::make();
    let mut till = market.node("till");
    till.set("STALLMESH_UPLINK_ENABLED", "true").set("STALLMESH_LOG_FILTER", "trace").start();
    market.admit(&till, "till");
    product(&till, "MUG", 1250);
    let mut sale = order("one", "MUG");
    sale["tenders"][0] = serde_json::json!({ "kind": "card", "token": "tok_canary_4242" });
    till.send("POST", "/v1/sales", &sale);
    market.until_received(1);
    let _ = till.over_tcp("GET /v1/status HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer wrong\r\n\r\n", &[]);
    let (_, token) = till.tcp();
    let mut said = till.log();
    for view in ["status", "members", "log?limit=1000", "sales", "statements", "policy", "catalog", "join-requests"] {
        said +=
            &String::from_utf8_lossy(&till.ask("GET", &format!("/v1/{view}"), &serde_json::Value::Null).unwrap().body);
    }
    for file in ["cmdline", "environ"] {
        said += &String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/{file}", till.pid())).unwrap());
    }
    assert!(said.len() > 20_000, "the log was to say much: {} bytes", said.len());
    let said = said.to_lowercase();
    let mut secrets = vec![("the API's token", token.into_bytes())];
    for name in [DEVICE_KEY, SEAL_KEY] {
        let text = std::fs::read_to_string(till.directory.join(name)).unwrap();
        secrets.push((name, text.trim().as_bytes().to_vec()));
        if let Ok(raw) = hex::decode(text.trim()) {
            // As Rust shows bytes.
            secrets.push((name, format!("{raw:?}").trim_matches(['[', ']']).as_bytes()[..40].to_vec()));
        }
    }
    for (what, secret) in secrets {
        assert!(secret.len() >= 16, "{what}");
        let secret = String::from_utf8(secret).unwrap().to_lowercase();
        assert!(!said.contains(&secret), "{what} was said");
    }
    // And a card's token goes into no log, whatever its detail.
    assert!(!till.log().contains("tok_canary_4242"));
    until("it ends", || if till.stop().success() { Ok(()) } else { Err("it ended badly".into()) });
}
