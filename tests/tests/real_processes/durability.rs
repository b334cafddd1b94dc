//! What was acknowledged survives whatever happens to the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use stallmesh_node::engine::recompute;
use stallmesh_tests::processes::{Dice, Market, Node, order, until};

/// Unless `TEST_KILLS` says how many; `tests/kills` does.
const KILLS: usize = 100;
const CALLERS: usize = 4;

/// What callers share: the node while it runs and while it doesn't, and what it said.
struct Till {
    node: RwLock<Node>,
    over: AtomicBool,
    tried: AtomicUsize,
    /// Sale id and total of each key that was acknowledged.
    acknowledged: Mutex<BTreeMap<String, (String, u64)>>,
}

/// Sells until it is over; what gets no answer is sent again under the same key until it has one.
fn call(till: &Till, caller: usize) {
    for number in 0.. {
        if till.over.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{caller}-{number}");
        let sale = loop {
            till.tried.fetch_add(1, Ordering::Relaxed);
            let reply = till.node.read().unwrap().ask("POST", "/v1/sales", &order(&key, "MUG"));
            match reply {
                Ok(reply) if reply.status < 400 => break reply.json(),
                // A node that stops says so; only a refusal would be wrong.
                Ok(reply) => assert_eq!(reply.status, 503, "{}", reply.json()),
                Err(_) => std::thread::yield_now(),
            }
        };
        let (id, total) = (sale["sale"].as_str().unwrap().to_owned(), sale["total"].as_u64().unwrap());
        till.acknowledged.lock().unwrap().insert(key, (id, total));
    }
}

#[test]
fn adv_123_a_sale_that_was_acknowledged_survives_a_hundred_kills_under_load_and_settles_once() {
    let mut dice = Dice::new("kills");
    let kills = std::env::var("TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let market = Market::make();
    let till = Till {
        node: RwLock::new(market.stall("till")),
        over: AtomicBool::new(false),
        tried: AtomicUsize::new(0),
        acknowledged: Mutex::new(BTreeMap::new()),
    };
    let mut first_sales: Vec<Duration> = Vec::new();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let till = &till;
            scope.spawn(move || call(till, caller));
        }
        let count = || till.acknowledged.lock().unwrap().len();
        for kill in 0..kills {
            let started = Instant::now();
            let before = count();
            until("sales go on", || if count() > before { Ok(()) } else { Err(format!("{before} so far")) });
            if kill > 0 {
                first_sales.push(started.elapsed());
            }
            // The moment of the kill, not a wait for anything.
            std::thread::sleep(Duration::from_micros(dice.draw(60_000)));
            let pid = till.node.read().unwrap().pid();
            let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            assert!(killed.unwrap().success());
            let mut node = till.node.write().unwrap();
            node.kill();
            node.spawn();
        }
        till.over.store(true, Ordering::Relaxed);
    });
    let acknowledged = till.acknowledged.into_inner().unwrap();
    let tried = till.tried.into_inner();
    assert!(tried > acknowledged.len(), "no answer was ever lost: the kills did not hit the load");
    first_sales.sort();
    let (p50, max) = (first_sales[first_sales.len() / 2], first_sales[first_sales.len() - 1]);
    eprintln!(
        "{} sales acknowledged in {tried} tries over {kills} kills; kill to next sale p50 {p50:?}, max {max:?}",
        acknowledged.len()
    );
    assert!(max < Duration::from_secs(10), "the slowest restart took {max:?}");

    let node = till.node.into_inner().unwrap();
    for (key, (id, total)) in &acknowledged {
        // There before it is asked for again: that would record what was lost.
        assert_eq!(node.get(&format!("/v1/sales/{id}"))["total"], *total, "{key}");
        let again = node.send("POST", "/v1/sales", &order(key, "MUG"));
        assert_eq!((again["sale"].as_str(), again["total"].as_u64()), (Some(id.as_str()), Some(*total)), "{key}");
    }
    market.until_received(acknowledged.len());
    let settlement = market.settle();
    assert_eq!(settlement["posted"], acknowledged.len(), "{settlement}");
    assert_eq!(settlement["suspense"].as_array().map(Vec::len), Some(0), "{settlement}");
    node.until("all is settled", |status| status["sales"]["settled"] == acknowledged.len());
    let balances = market.hub.get("/v1/ledger")["balances"].clone();
    market.settle();
    assert_eq!(market.hub.get("/v1/ledger")["balances"], balances, "a second settlement posted something again");

    // Counted by what reads an export, not by the hub's own word.
    let export = market.folder().join("export");
    assert!(market.hub.cli(&["audit", "export", "--out", export.to_str().unwrap()]).status.success());
    let recomputed = recompute(std::io::BufReader::new(std::fs::File::open(export).unwrap()), None, 1).unwrap();
    let mut posted: BTreeMap<String, u64> = BTreeMap::new();
    for sale in recomputed.sales.iter() {
        assert!(posted.insert(sale.sale.to_string(), sale.total).is_none(), "{} is there twice", sale.sale);
    }
    let expected: BTreeMap<String, u64> = acknowledged.into_values().collect();
    assert_eq!(posted, expected);
    let sums: Value = market.hub.get("/v1/ledger")["sums"].clone();
    assert!(sums.as_array().unwrap().iter().all(|sum| sum[1] == 0), "{sums}");
}
