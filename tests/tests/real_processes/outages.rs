//! Cuts that last: of the way to the hub, by the clock, and between two halves of a market. `tests/outages` for long ones.

use std::time::{Duration, Instant};

use serde_json::json;
use stallmesh_tests::processes::{Dice, Market, Namespaces, Node, order, product, until};

fn sell(node: &Node, key: &str) {
    assert_eq!(node.ask("POST", "/v1/sales", &order(key, "MUG")).unwrap().status, 201, "{key}");
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
    let Some(namespaces) = Namespaces::make(5) else { return };
    let [hub, near, far, farther, walker] = [0, 1, 2, 3, 4];
    let market = Market::make_inside(&namespaces, hub);
    namespaces.plug(hub, "wan0", true);
    namespaces.plug(near, "wan0", true);
    // Between two halves nothing passes, whatever address anybody knows.
    let ways = |change: &str, one: usize, others: &[usize]| {
        for (from, to) in others.iter().flat_map(|other| [(one, *other), (*other, one)]) {
            let address = namespaces.market_address(to);
            namespaces.ip(from, &format!("route {change} blackhole {address}/32\n")).unwrap();
        }
    };
    let [near_node, far_node, farther_node, walking] =
        [("near", near), ("far", far), ("farther", farther), ("walker", walker)].map(|(slug, index)| {
            let mut node = market.node(slug);
            node.inside(&namespaces, index)
                .set("STALLMESH_UPLINK_ENABLED", if index == near { "true" } else { "false" })
                .start();
            market.admit(&node, slug);
            product(&node, "MUG", 1250);
            node
        });
    product(&near_node, "TRAY", 500);
    for node in [&far_node, &farther_node, &walking] {
        node.until("hears of the other half", |_| offers(node, "TRAY"));
    }
    ways("add", near, &[far, farther, walker]);
    let device = near_node.device();
    for node in [&far_node, &farther_node, &walking] {
        node.until("has lost the other half", |status| !status["peers"].to_string().contains(&device));
    }
    sell(&far_node, "cut off");
    sell(&farther_node, "cut off, too");
    sell(&near_node, "in the other half");
    product(&near_node, "CUP", 300);
    product(&farther_node, "BOWL", 900);
    // Each half goes on by itself, and knows nothing of the other.
    until("the half has its own news", || match offers(&far_node, "BOWL") && offers(&walking, "BOWL") {
        true => Ok(()),
        false => Err("no bowl".into()),
    });
    market.until_received(1);
    assert!(!offers(&near_node, "BOWL") && !offers(&far_node, "CUP"));
    walking.until("carries both sales", |status| status["custody"]["held_entries"].as_u64() >= Some(2));
    // It walks over to the other half, and back.
    ways("add", walker, &[far, farther]);
    ways("del", walker, &[near]);
    market.until_received(3);
    until("its news", || if offers(&near_node, "BOWL") { Ok(()) } else { Err("no bowl".into()) });
    walking.until("hears the other half's", |_| offers(&walking, "CUP"));
    ways("add", walker, &[near]);
    ways("del", walker, &[far, farther]);
    farther_node.until("hears them, too", |_| offers(&farther_node, "CUP"));
    farther_node.until("hears that its sale has arrived", |status| status["sales"]["at_the_hub"] == 1);
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(3), &json!([])), "{settlement}");
}
