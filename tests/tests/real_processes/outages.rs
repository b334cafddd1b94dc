//! Cuts that last: of the way to the hub, by the clock, and between two halves of a market. `tests/outages` for long ones.

use std::time::{Duration, Instant};

use serde_json::json;
use stallmesh_tests::processes::{Dice, Market, Node, free_port, order, product, until};
use stallmesh_tests::proxy::UdpProxy;

fn sell(node: &Node, key: &str) {
    assert_eq!(node.ask("POST", "/v1/sales", &order(key, "MUG")).unwrap().status, 201, "{key}");
}

fn way(port: u16) -> String {
    format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
}

/// A stall with one neighbour at most, that it dials.
fn stall(market: &Market, slug: &str, port: u16, peers: &str, uplink: bool) -> Node {
    let mut node = market.node(slug);
    node.set("STALLMESH_MESH_LISTEN", &way(port))
        .set("STALLMESH_MESH_PEERS", peers)
        .set("STALLMESH_UPLINK_ENABLED", if uplink { "true" } else { "false" })
        .start();
    market.admit(&node, slug);
    product(&node, "MUG", 1250);
    node
}

fn offers(node: &Node, sku: &str) -> bool {
    node.get(&format!("/v1/catalog?q={sku}")).as_array().is_some_and(|found| !found.is_empty())
}

#[test]
fn after_cuts_of_seconds_and_minutes_every_sale_arrives_once() {
    let seconds = std::env::var("TEST_OUTAGES_S").unwrap_or_else(|_| "1 4".into());
    let seconds: Vec<u64> = seconds.split_whitespace().map(|seconds| seconds.parse().unwrap()).collect();
    let (market, proxy) = Market::make_behind(Dice::new("outages").draw(u64::MAX), |_| {});
    let mut till = market.node("till");
    till.set("STALLMESH_MESH_LISTEN", "").set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&till, "till");
    product(&till, "MUG", 1250);
    sell(&till, "before");
    let mut sold = 1;
    market.until_received(sold);
    for seconds in seconds {
        proxy.cut(true);
        let cut = Instant::now();
        // The length of the cut is what is tried: nothing is waited for but its end.
        for number in 0..10 {
            sell(&till, &format!("{seconds} s, {number}"));
            let next = Duration::from_millis(seconds * 100 * (number + 1));
            std::thread::sleep(next.saturating_sub(cut.elapsed()));
        }
        sold += 10;
        proxy.cut(false);
        let open = Instant::now();
        market.until_received(sold);
        eprintln!("a cut of {seconds} s: all ten sales at the hub {} ms after it", open.elapsed().as_millis());
    }
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(sold), &json!([])), "{settlement}");
}

#[test]
fn two_halves_go_on_and_somebody_who_walks_between_them_brings_sales_and_news() {
    let market = Market::make();
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let near = stall(&market, "near", ports[0], "", true);
    let proxy = UdpProxy::start(([127, 0, 0, 1], ports[0]).into(), Dice::new("halves").draw(u64::MAX));
    let through = way(proxy.address().port());
    let far = stall(&market, "far", ports[1], &through, false);
    let farther = stall(&market, "farther", ports[2], &way(ports[1]), false);
    let mut walker = stall(&market, "walker", ports[3], &way(ports[1]), false);
    product(&near, "TRAY", 500);
    for node in [&far, &farther, &walker] {
        node.until("hears of the other half", |_| offers(node, "TRAY"));
    }
    proxy.cut(true);
    far.until("has lost the other half", |status| !status["peers"].to_string().contains(&through));
    sell(&far, "cut off");
    sell(&farther, "cut off, too");
    sell(&near, "in the other half");
    product(&near, "CUP", 300);
    product(&farther, "BOWL", 900);
    // Each half goes on by itself, and knows nothing of the other.
    until("the half has its own news", || match offers(&far, "BOWL") && offers(&walker, "BOWL") {
        true => Ok(()),
        false => Err("no bowl".into()),
    });
    market.until_received(1);
    assert!(!offers(&near, "BOWL") && !offers(&far, "CUP"));
    walker.until("carries both sales", |status| status["custody"]["held_entries"].as_u64() >= Some(2));
    // It walks over to the other half, and back.
    walker.kill();
    walker.set("STALLMESH_MESH_PEERS", &way(ports[0])).start();
    market.until_received(3);
    until("its news", || if offers(&near, "BOWL") { Ok(()) } else { Err("no bowl".into()) });
    walker.until("hears the other half's", |_| offers(&walker, "CUP"));
    walker.kill();
    walker.set("STALLMESH_MESH_PEERS", &way(ports[1])).start();
    farther.until("hears them, too", |_| offers(&farther, "CUP"));
    farther.until("hears that its sale has arrived", |status| status["sales"]["at_the_hub"] == 1);
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(3), &json!([])), "{settlement}");
}
