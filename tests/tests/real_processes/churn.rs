//! Many real nodes that come and go. On demand: `tests/churn`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::json;
use stallmesh_tests::processes::{Dice, Market, Node, free_port, order, product};

const NODES: usize = 25;
/// Every fifth has a way to the hub of its own.
const UPLINK_EVERY: usize = 5;
const CALLERS: usize = 6;

type Sales = Mutex<BTreeMap<String, u64>>;

/// Sells at one node after the other; what gets no answer is sent again there under the same key until it has one.
fn call(nodes: &[RwLock<Node>], caller: usize, over: &AtomicBool, sales: &Sales) {
    let mut dice = Dice::new(&format!("caller {caller}"));
    let mut unanswered: Vec<(usize, String)> = Vec::new();
    for number in 0.. {
        let ends = over.load(Ordering::Relaxed);
        if !ends {
            unanswered.push((dice.draw(NODES as u64) as usize, format!("{caller}-{number}")));
        } else if unanswered.is_empty() {
            return;
        }
        unanswered.retain(|(index, key)| {
            let reply = nodes[*index].read().unwrap().ask("POST", "/v1/sales", &order(key, "MUG"));
            match reply {
                Ok(reply) if reply.status < 400 => {
                    let sale = reply.json();
                    let id = sale["sale"].as_str().unwrap().to_owned();
                    assert!(sales.lock().unwrap().insert(id, sale["total"].as_u64().unwrap()).is_none(), "{key}");
                    false
                }
                Ok(reply) => {
                    assert_eq!(reply.status, 503, "{}", reply.json());
                    true
                }
                Err(_) => true,
            }
        });
        // A pace, not a wait for anything: tills are not benchmarks.
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "it takes minutes: tests/churn runs it"]
fn twenty_five_nodes_that_come_and_go_lose_no_sale() {
    let seconds = std::env::var("TEST_CHURN_S").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let mut dice = Dice::new("churn");
    let market = Market::make();
    let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
    let way = |index: usize| format!("/ip4/127.0.0.1/udp/{}/quic-v1", ports[index]);
    let mut nodes = Vec::new();
    for index in 0..NODES {
        let mut node = market.node(&format!("n{index}"));
        let known: Vec<String> = (1..=3).filter(|back| *back <= index).map(|back| way(index - back)).collect();
        node.set("STALLMESH_MESH_LISTEN", &way(index))
            .set("STALLMESH_MESH_PEERS", &known.join(","))
            .set("STALLMESH_UPLINK_ENABLED", if index % UPLINK_EVERY == 0 { "true" } else { "false" })
            .start();
        market.admit(&node, &format!("n{index}"));
        product(&node, "MUG", 1250);
        nodes.push(RwLock::new(node));
    }
    let (over, sales) = (AtomicBool::new(false), Sales::default());
    let mut deeds = [0; 4];
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (nodes, over, sales) = (&nodes, &over, &sales);
            scope.spawn(move || call(nodes, caller, over, sales));
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut away: Vec<usize> = Vec::new();
        let mut still: Vec<usize> = Vec::new();
        while Instant::now() < end {
            let index = dice.draw(NODES as u64) as usize;
            let deed = dice.draw(4) as usize;
            // At most a third is away or stands still at a time.
            if let Some(place) = away.iter().position(|other| *other == index) {
                away.swap_remove(place);
                nodes[index].write().unwrap().start();
            } else if let Some(place) = still.iter().position(|other| *other == index) {
                still.swap_remove(place);
                nodes[index].read().unwrap().signal("CONT");
            } else if away.len() + still.len() < NODES / 3 {
                deeds[deed] += 1;
                match deed {
                    0 => {
                        nodes[index].write().unwrap().kill();
                        away.push(index);
                    }
                    1 => {
                        nodes[index].write().unwrap().stop();
                        away.push(index);
                    }
                    2 => {
                        let mut node = nodes[index].write().unwrap();
                        node.kill();
                        node.start();
                    }
                    _ => {
                        // Whoever asks it waits with it.
                        nodes[index].read().unwrap().signal("STOP");
                        still.push(index);
                    }
                }
            }
            // The pace of the session, not a wait for anything.
            std::thread::sleep(Duration::from_millis(200 + dice.draw(800)));
        }
        still.iter().for_each(|index| nodes[*index].read().unwrap().signal("CONT"));
        away.iter().for_each(|index| {
            nodes[*index].write().unwrap().start();
        });
        over.store(true, Ordering::Relaxed);
    });
    let sales = sales.into_inner().unwrap();
    eprintln!(
        "{} sales in {seconds} s at {NODES} nodes; {} killed for a while, {} stopped for a while, {} killed and started, {} \
         stood still",
        sales.len(),
        deeds[0],
        deeds[1],
        deeds[2],
        deeds[3]
    );
    market.until_received(sales.len());
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(sales.len()), &json!([])), "{settlement}");
    assert_eq!(market.settle()["newly_posted"], 0);
}
