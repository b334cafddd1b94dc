//! Real nodes with a bad way between them: it loses, repeats, holds back, is cut, and moves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stallmesh_tests::processes::{Dice, Market, Node, free_port, order, until};
use stallmesh_tests::proxy::{Counts, Direction, Faults, UdpProxy};

const MS: Duration = Duration::from_millis(1);

/// What a crowded cellular network does at its worst.
const BAD: Faults = Faults {
    cut: false,
    loss: 200,
    duplication: 100,
    reordering: 100,
    delay: Duration::from_millis(100),
    jitter: Duration::from_millis(20),
    rate: 0,
    queue_max: 0,
};

/// Links of other devices that came up at a node so far, by its own log.
fn links(node: &Node) -> usize {
    node.log().matches("link up").count()
}

fn received(market: &Market) -> u64 {
    market.hub.get("/v1/ledger")["received"].as_u64().unwrap_or_default()
}

fn sell(node: &Node, key: &str) {
    assert_eq!(node.ask("POST", "/v1/sales", &order(key, "MUG")).unwrap().status, 201, "{key}");
}

/// All that were sold, each once, and nothing else.
fn settles(market: &Market, sales: usize) {
    market.until_received(sales);
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(sales), &json!([])), "{settlement}");
    let again = market.settle();
    assert_eq!(again["newly_posted"], 0, "{again}");
}

/// A stall that nobody can reach, and that has its uplink alone.
fn remote(market: &Market, slug: &str) -> Node {
    let mut node = market.node(slug);
    node.set("STALLMESH_MESH_LISTEN", "").set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&node, slug);
    stallmesh_tests::processes::product(&node, "MUG", 1250);
    node
}

fn switch(node: &Node, up: bool) {
    node.send("PUT", "/v1/uplink", &json!({ "up": up }));
    node.until("is switched", |status| status["uplink"]["up"] == up);
}

fn total(proxy: &UdpProxy) -> Counts {
    let (up, down) = (proxy.counts(Direction::Up), proxy.counts(Direction::Down));
    Counts {
        taken: up.taken + down.taken,
        lost: up.lost + down.lost,
        repeated: up.repeated + down.repeated,
        held_back: up.held_back + down.held_back,
    }
}

#[test]
fn adv_116_an_uplink_that_moves_under_load_stays_one_connection_and_loses_no_sale() {
    const MOVES: usize = 12;
    let (market, proxy) = Market::make_behind(Dice::new("moves").draw(u64::MAX), |_| {});
    let till = remote(&market, "till");
    proxy.set_both(Faults { jitter: 5 * MS, ..Faults::one_way(10 * MS) });
    till.until("has its uplink", |status| status["uplink"]["up"] == true);
    let before = links(&market.hub);
    let mut addresses = proxy.far_addresses();
    let over = AtomicBool::new(false);
    let sold = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|caller| {
                let (till, over) = (&till, &over);
                scope.spawn(move || {
                    let mut sold = 0;
                    while !over.load(Ordering::Relaxed) {
                        sell(till, &format!("{caller}-{sold}"));
                        sold += 1;
                    }
                    sold
                })
            })
            .collect();
        for _ in 0..MOVES {
            let there = received(&market);
            proxy.move_clients();
            let moved = until("it comes from elsewhere", || {
                let now = proxy.far_addresses();
                let moved = now.iter().find(|address| !addresses.contains(address)).copied();
                moved.ok_or_else(|| format!("{now:?}"))
            });
            addresses.push(moved);
            until("sales go on to the hub", || match received(&market) {
                now if now > there + 1 => Ok(()),
                now => Err(format!("{there}, then {now}")),
            });
        }
        over.store(true, Ordering::Relaxed);
        callers.into_iter().map(|caller| caller.join().unwrap()).sum::<usize>()
    });
    settles(&market, sold);
    eprintln!("{sold} sales while the way moved over {} addresses", addresses.len());
    assert_eq!(links(&market.hub), before, "it was not one connection");
    assert!(!market.hub.log().contains("link down"), "{}", market.hub.log());
}

#[test]
fn adv_113_twenty_percent_loss_with_everything_else_and_cuts_keep_no_sale_from_the_hub() {
    let (mut market, proxy) = Market::make_behind(Dice::new("loss").draw(u64::MAX), |_| {});
    let mut stalls: Vec<Node> = ["a", "b", "c"].map(|slug| remote(&market, slug)).into();
    proxy.set_both(BAD);
    let mut sold = 0;
    let mut round = |stalls: &[Node], what: &str| {
        for (index, node) in stalls.iter().enumerate() {
            for number in 0..5 {
                sell(node, &format!("{what} {index} {number}"));
                sold += 1;
            }
        }
        sold
    };
    market.until_received(round(&stalls, "lossy"));

    // The hub hears nothing, and they hear it; then the other way round; then nobody hears anything.
    for (what, up, down) in [("up", true, false), ("down", false, true), ("both", true, true)] {
        proxy.set(Direction::Up, Faults { cut: up, ..BAD });
        proxy.set(Direction::Down, Faults { cut: down, ..BAD });
        let sold = round(&stalls, what);
        for node in &stalls {
            node.until("notices the cut", |status| status["uplink"]["up"] == false);
        }
        proxy.set_both(BAD);
        market.until_received(sold);
    }

    // Nodes and the hub come and go on such a way, too.
    stalls[0].kill();
    stalls[0].start();
    market.hub.kill();
    market.hub.start();
    let sold = round(&stalls, "restarted");
    settles(&market, sold);
    let counts = total(&proxy);
    eprintln!("{sold} sales, {counts:?}");
    // How many packets that takes is the nodes' affair; that the way was a bad one is to be seen in their shares.
    assert!(counts.lost * 8 > counts.taken, "{counts:?}");
    assert!(counts.repeated * 50 > counts.taken && counts.held_back * 50 > counts.taken, "{counts:?}");
}

#[test]
fn adv_113_sales_cross_a_mesh_link_that_loses_a_fifth() {
    let market = Market::make();
    let port = free_port();
    let mut near = market.node("near");
    near.set("STALLMESH_MESH_LISTEN", &format!("/ip4/127.0.0.1/udp/{port}/quic-v1"))
        .set("STALLMESH_UPLINK_ENABLED", "true")
        .start();
    market.admit(&near, "near");
    let proxy = UdpProxy::start(([127, 0, 0, 1], port).into(), Dice::new("mesh").draw(u64::MAX));
    proxy.set_both(BAD);
    let way = format!("/ip4/127.0.0.1/udp/{}/quic-v1", proxy.address().port());
    let mut far = market.node("far");
    far.set("STALLMESH_MESH_PEERS", &way).start();
    market.admit(&far, "far");
    stallmesh_tests::processes::product(&far, "MUG", 1250);
    far.until("is linked through the proxy", |status| status["peers"].to_string().contains(&way));
    // As many as it takes for the way to have been a bad one: how many packets carry them is the nodes' affair.
    let mut sold = 0;
    while total(&proxy).lost <= 20 {
        for _ in 0..30 {
            sell(&far, &sold.to_string());
            sold += 1;
        }
        market.until_received(sold);
    }
    // And what is for everybody goes the other way.
    stallmesh_tests::processes::product(&near, "CUP", 300);
    far.until("hears of a product", |_| far.get("/v1/catalog?q=CUP").as_array().is_some_and(|found| !found.is_empty()));
    settles(&market, sold);
    eprintln!("{sold} sales, {:?}", total(&proxy));
}

#[test]
fn after_a_cut_the_first_packet_carries_sales_and_each_is_there_once() {
    let (market, proxy) = Market::make_behind(Dice::new("resume").draw(u64::MAX), |_| {});
    let till = remote(&market, "till");
    proxy.set_both(Faults::one_way(50 * MS));
    sell(&till, "before");
    market.until_received(1);
    for round in 0..3 {
        switch(&till, false);
        for number in 0..4 {
            sell(&till, &format!("{round} {number}"));
        }
        let links = links(&market.hub);
        let said = market.hub.log().len();
        switch(&till, true);
        market.until_received(1 + 4 * (round + 1));
        until("it is linked", || match self::links(&market.hub) {
            now if now > links => Ok(()),
            now => Err(now.to_string()),
        });
        let log = market.hub.log()[said..].to_owned();
        let entries = log.find("entries came ahead of a session").expect("nothing was submitted");
        assert!(entries < log.find("link up").unwrap(), "it came after the handshake: {log}");
    }

    // A longer one, that only silence tells of.
    proxy.cut(true);
    sell(&till, "in the cut");
    till.until("notices the cut", |status| status["uplink"]["up"] == false);
    proxy.cut(false);
    settles(&market, 14);
}

#[test]
fn a_hub_that_was_killed_and_is_back_is_noticed_by_its_word_and_not_by_silence() {
    let (mut market, _proxy) = Market::make_behind(1, |_| {});
    let mut till = market.node("till");
    till.set("STALLMESH_MESH_LISTEN", "")
        .set("STALLMESH_UPLINK_ENABLED", "true")
        .set("STALLMESH_LOG_FILTER", "stallmesh_node=debug")
        .start();
    market.admit(&till, "till");
    stallmesh_tests::processes::product(&till, "MUG", 1250);
    market.hub.kill();
    market.hub.start();
    sell(&till, "after the kill");
    market.until_received(1);
    let log = till.log();
    let down = log.lines().find(|line| line.contains("link down")).expect("the old link has ended");
    assert!(down.contains("reset"), "{down}");
}

#[test]
fn adv_051_a_revoked_device_that_resumes_gets_nothing_in_ahead_of_its_session() {
    let (market, _proxy) = Market::make_behind(1, |_| {});
    let lost = remote(&market, "lost");
    sell(&lost, "before");
    lost.until("the sale is at the hub", |status| status["sales"]["at_the_hub"] == 1);
    let device = lost.device();
    switch(&lost, false);
    sell(&lost, "taken away");
    market.hub.send("POST", "/v1/revoke", &json!({ "device": device, "reason": "" }));
    let said = market.hub.log().len();
    switch_only(&lost);
    lost.until("learns of it", |status| status["notices"].to_string().contains("was revoked"));
    let log = || market.hub.log()[said..].to_owned();
    until("it was not let in early", || {
        let log = log();
        if log.contains("handed in by whoever may not") { Ok(()) } else { Err(log) }
    });
    assert!(!log().contains("entries came ahead of a session"), "{}", log());
    // What it hands in the usual way waits, as it does without resumption.
    market.until_received(2);
    let settlement = market.settle();
    assert_eq!(settlement["posted"], 1, "{settlement}");
    assert_eq!(settlement["suspense"].as_array().map(Vec::len), Some(1), "{settlement}");
}

/// Switches the uplink on of a node whose links may not last.
fn switch_only(node: &Node) {
    node.send("PUT", "/v1/uplink", &json!({ "up": true }));
}

#[test]
fn a_hub_with_few_connections_says_that_it_is_busy_and_still_gets_every_sale() {
    const STALLS: usize = 8;
    let (market, _proxy) = Market::make_behind(1, |hub| {
        hub.set("STALLMESH_UPLINK_CONNECTIONS_MAX", "3");
    });
    let first = market.stall("s0");
    let mut stalls = vec![first];
    for number in 1..STALLS {
        let mut node = market.node(&format!("s{number}"));
        node.set("STALLMESH_MESH_PEERS", &stallmesh_tests::processes::address(&stalls[0]))
            .set("STALLMESH_UPLINK_ENABLED", "true")
            .set("STALLMESH_LOG_FILTER", "stallmesh_node=debug")
            .start();
        market.admit(&node, &format!("s{number}"));
        stallmesh_tests::processes::product(&node, "MUG", 1250);
        stalls.push(node);
    }
    std::thread::scope(|scope| {
        for node in &stalls {
            scope.spawn(move || (0..20).for_each(|number| sell(node, &number.to_string())));
        }
    });
    settles(&market, 20 * STALLS);
    let refused = |node: &&Node| node.log().contains("E_BUSY");
    let told = until("some were refused", || match stalls.iter().filter(refused).count() {
        0 => Err(Value::from(stalls.iter().map(Node::status).collect::<Vec<_>>()).to_string()),
        count => Ok(count),
    });
    eprintln!("{told} of {STALLS} were told that the hub is busy");
}
