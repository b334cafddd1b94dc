//! Ways into a market, on real roads.

use serde_json::{Value, json};
use stallmesh_tests::processes::{Market, Namespaces, Node, address, order, product, until};

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that must succeed; what it printed.
fn done(node: &Node, arguments: &[&str]) -> String {
    let output = node.cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn an_invite_alone_is_enough_where_neighbours_are_found_by_mdns() {
    let Some(namespaces) = Namespaces::make(3) else { return };
    let market = Market::make_inside(&namespaces, 0);
    namespaces.plug(0, "wan0", true);
    namespaces.plug(1, "wan0", true);
    let mut gateway = market.node("gateway");
    gateway.inside(&namespaces, 1).set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&gateway, "");
    // Its cable to the wide network is out: whatever it gets in by is in the market.
    let mut stall = market.node("till");
    stall.inside(&namespaces, 2).set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&stall, "till");
    let status = stall.status();
    assert!(status["discovered"].as_u64().unwrap() >= 1, "{status}");
    assert!(status["peers"].as_array().unwrap().iter().all(|peer| peer["link"] == "mesh"), "{status}");
    assert_eq!(status["role"], "stall");
    // And it sells, through the gateway.
    product(&stall, "MUG", 300);
    stall.send("POST", "/v1/sales", &order("one", "MUG"));
    market.until_received(1);
    assert_eq!(market.settle()["posted"], 1);
}

#[test]
fn without_mdns_one_known_address_is_enough() {
    let market = Market::make();
    let neighbour = market.stall("neighbour");
    let stall = market.stall_beside("till", &neighbour);
    let status = stall.status();
    assert_eq!((&status["discovered"], &status["uplink"]["enabled"]), (&json!(0), &json!(false)), "{status}");
    stall.send("POST", "/v1/sales", &order("one", "MUG"));
    market.until_received(1);
    assert_eq!(market.settle()["posted"], 1);
}

#[test]
fn a_sale_in_the_moment_after_joining_can_be_opened_at_the_hub() {
    let market = Market::make();
    let mut stall = market.node("till");
    stall.set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&stall, "till");
    product(&stall, "MUG", 300);
    stall.send("POST", "/v1/sales", &order("one", "MUG"));
    market.until_received(1);
    let settlement = market.settle();
    assert_eq!((&settlement["posted"], &settlement["suspense"]), (&json!(1), &json!([])), "{settlement}");
}

#[test]
fn a_neighbour_without_a_path_carries_the_request_until_one_appears() {
    let mut market = Market::make();
    let neighbour = market.stall("neighbour");
    let invite = market.invite("till");
    market.hub.kill();
    neighbour.until("has no path", |status| status["uplink"]["up"] == false);
    let mut stall = market.node("till");
    stall.set("STALLMESH_MESH_PEERS", &address(&neighbour)).start();
    stall.send("POST", "/v1/join", &json!({ "invite": invite }));
    let carried = "a member carries this device's request";
    stall.until("its request is carried", |status| status["notices"].to_string().contains(carried));
    assert_eq!(stall.status()["role"], "none");
    market.hub.start();
    stall.until("is a member", |status| status["role"] == "stall");
}

#[test]
fn adv_058_approval_shows_the_same_code_on_both_screens_and_a_wrong_one_lets_nobody_in() {
    let market = Market::make();
    let neighbour = market.stall("neighbour");
    let mut stall = market.node("tablet");
    stall.set("STALLMESH_MESH_PEERS", &address(&neighbour)).start();
    let link = done(&market.hub, &["invite", "--stall", "somebody"]);
    done(&stall, &["join", &link, "--ask", "till", "--name", "Ada's tablet"]);
    let shown = stall.until("shows a code", |status| !status["join_code"].as_str().unwrap().is_empty());
    let code = shown["join_code"].as_str().unwrap().to_owned();
    until("the hub shows a code", || {
        let requests = done(&market.hub, &["requests"]);
        if requests.contains(&code) && requests.contains("Ada's tablet") { Ok(()) } else { Err(requests) }
    });
    let notice = done(&stall, &["status"]);
    assert!(notice.contains(&format!("compare code {code}")), "{notice}");

    let wrong = if code == "000-000" { "000-001" } else { "000-000" };
    let refused = market.hub.cli(&["approve", wrong]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert_eq!(stall.status()["role"], "none");

    done(&market.hub, &["approve", &code]);
    let status = stall.until("is a member", |status| status["role"] != "none");
    assert_eq!((&status["stall"], &status["name"]), (&json!("till"), &json!("Ada's tablet")));
    assert_eq!(serde_json::from_str::<Value>(&done(&market.hub, &["--json", "requests"])).unwrap(), json!([]));
}

#[test]
fn an_invite_that_was_used_says_so_on_the_second_device() {
    let market = Market::make();
    let invite = market.invite("till");
    let mut first = market.node("first");
    first.set("STALLMESH_UPLINK_ENABLED", "true").start();
    first.send("POST", "/v1/join", &json!({ "invite": invite }));
    first.until("is a member", |status| status["role"] == "stall");
    let mut second = market.node("second");
    second.set("STALLMESH_UPLINK_ENABLED", "true").start();
    second.send("POST", "/v1/join", &json!({ "invite": invite }));
    let refusal = "used by another device: ask the organiser for a new one";
    second.until("is told", |status| status["notices"].to_string().contains(refusal));
    assert_eq!(second.status()["role"], "none");
}

#[test]
fn mdns_that_could_not_begin_is_begun_anew() {
    let Some(namespaces) = Namespaces::make(3) else { return };
    let market = Market::make_inside(&namespaces, 0);
    namespaces.plug(0, "wan0", true);
    namespaces.plug(1, "wan0", true);
    let mut gateway = market.node("gateway");
    gateway.inside(&namespaces, 1).set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&gateway, "");
    // No multicast group can be joined for now, which libp2p only logs.
    namespaces.sysctl(2, "ipv4/igmp_max_memberships", "0");
    let mut stall = market.node("till");
    stall.inside(&namespaces, 2).set("STALLMESH_MESH_MDNS_SILENCE_S", "1").start();
    stall.send("POST", "/v1/join", &json!({ "invite": market.invite("till") }));
    stall.until("begins anew and stays deaf", |status| status["discovery_renewals"].as_u64().unwrap() > 1);
    assert_eq!((&stall.status()["role"], &stall.status()["discovered"]), (&json!("none"), &json!(0)));
    namespaces.sysctl(2, "ipv4/igmp_max_memberships", "20");
    let status = stall.until("finds the market", |status| status["role"] == "stall");
    assert!(status["discovered"].as_u64().unwrap() >= 1, "{status}");
}

#[test]
fn adv_116_neighbours_find_each_other_again_after_their_network_was_down() {
    let Some(namespaces) = Namespaces::make(3) else { return };
    let market = Market::make_inside(&namespaces, 0);
    namespaces.plug(0, "wan0", true);
    namespaces.plug(1, "wan0", true);
    let mut gateway = market.node("gateway");
    gateway.inside(&namespaces, 1).set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&gateway, "");
    let mut stall = market.node("till");
    stall.inside(&namespaces, 2).set("STALLMESH_MESH_MDNS_SILENCE_S", "2").start();
    market.admit(&stall, "till");
    product(&stall, "MUG", 300);
    namespaces.plug(2, "eth0", false);
    stall.until("is alone", |status| status["peers"] == json!([]));
    stall.send("POST", "/v1/sales", &order("one", "MUG"));
    namespaces.plug(2, "eth0", true);
    stall.until("has company", |status| status["peers"].as_array().unwrap().iter().any(|peer| peer["link"] == "mesh"));
    market.until_received(1);
}
