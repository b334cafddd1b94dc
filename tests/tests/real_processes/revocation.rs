//! Revoking a device, and letting count again what it handed in.

use serde_json::{Value, json};
use stallmesh_tests::processes::{Market, Node, address, free_port, order, product, until};

fn state_of(device: &str, at: &Node) -> String {
    let members = at.get("/v1/members");
    let found = members.as_array().unwrap().iter().find(|member| member["device"] == device);
    found.map_or_else(|| "unknown".into(), |member| member["state"].as_str().unwrap().to_owned())
}

#[test]
fn a_revocation_reaches_every_connected_node_and_what_the_device_hands_in_waits_until_it_is_raised() {
    let market = Market::make();
    let mut near = market.node("near");
    // Where it is stays the same when it starts again.
    near.set("STALLMESH_MESH_LISTEN", &format!("/ip4/127.0.0.1/udp/{}/quic-v1", free_port()))
        .set("STALLMESH_UPLINK_ENABLED", "true")
        .start();
    market.admit(&near, "near");
    let far = market.stall_beside("far", &near);
    let mut lost = market.node("lost");
    lost.set("STALLMESH_MESH_PEERS", &address(&near)).set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&lost, "lost");
    product(&lost, "MUG", 700);
    let device = lost.device();
    lost.send("POST", "/v1/sales", &order("before", "MUG"));
    market.until_received(1);
    until("everybody knows it", || {
        let states = [state_of(&device, &near), state_of(&device, &far)];
        if states == ["valid", "valid"] { Ok(()) } else { Err(format!("{states:?}")) }
    });
    // The hub's line must have taken in what was received: it is named by the newest checkpoint.
    lost.until("the first sale is at the hub", |status| status["sales"]["at_the_hub"] == 1);

    // Out of everybody's reach it goes on selling.
    lost.kill();
    near.kill();
    lost.set("STALLMESH_UPLINK_ENABLED", "false").start();
    for key in ["away-1", "away-2"] {
        assert_eq!(lost.ask("POST", "/v1/sales", &order(key, "MUG")).unwrap().status, 201);
    }
    assert_eq!(lost.status()["peers"], json!([]));
    lost.kill();
    near.start();
    let revoked = market.hub.cli(&["revoke", &device[..12], "--reason", "left in a taxi"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    for node in [&market.hub, &near, &far] {
        until(&format!("{} hears of the revocation", node.name), || match state_of(&device, node) {
            state if state == "revoked" => Ok(()),
            state => Err(state),
        });
    }

    // It comes back: it learns that, hands in what it sold, and gets nothing else.
    product(&near, "AFTERWARDS", 100);
    far.until("hears of a product", |_| {
        far.get("/v1/catalog?q=AFTERWARDS").as_array().is_some_and(|found| !found.is_empty())
    });
    lost.set("STALLMESH_UPLINK_ENABLED", "true").start();
    lost.until("learns of it", |status| status["notices"].to_string().contains("was revoked"));
    market.until_received(3);
    assert_eq!(lost.get("/v1/catalog?q=AFTERWARDS"), json!([]));
    let refused = lost.ask("POST", "/v1/sales", &order("after", "MUG")).unwrap();
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("E_SCOPE")));
    let preview = |expected: usize| {
        until(&format!("{expected} of its sales would be posted"), || {
            let settlement = market.hub.send("POST", "/v1/settle", &json!({ "dry_run": true }));
            if settlement["posted"] == expected { Ok(settlement) } else { Err(settlement.to_string()) }
        })
    };
    let settlement: Value = preview(1);
    assert_eq!(settlement["suspense"].as_array().unwrap().len(), 2, "{settlement}");
    assert!(settlement["suspense"][0]["reason"].as_str().unwrap().contains("revoked"), "{settlement}");

    let raised = market.hub.cli(&["raise", &device[..12]]);
    assert!(raised.status.success(), "{}", String::from_utf8_lossy(&raised.stderr));
    let settlement = preview(3);
    assert_eq!(settlement["suspense"], json!([]), "{settlement}");
    assert_eq!(market.settle()["posted"], 3);
}

#[test]
fn a_revoked_device_that_is_connected_loses_its_links_at_once() {
    let market = Market::make();
    let near = market.stall("near");
    let mut lost = market.node("lost");
    lost.set("STALLMESH_MESH_PEERS", &address(&near)).set("STALLMESH_UPLINK_ENABLED", "true").start();
    market.admit(&lost, "lost");
    let device = lost.device();
    let linked = |node: &Node| node.status()["peers"].as_array().unwrap().iter().any(|peer| peer["device"] == device);
    until("they are linked", || {
        if linked(&near) && linked(&market.hub) { Ok(()) } else { Err(near.status().to_string()) }
    });
    market.hub.send("POST", "/v1/revoke", &json!({ "device": device, "reason": "" }));
    for node in [&near, &market.hub] {
        until(&format!("{} closes its links", node.name), || {
            if node.log().contains("E_REVOKED") { Ok(()) } else { Err(node.status().to_string()) }
        });
    }
    lost.until("knows", |status| status["notices"].to_string().contains("was revoked"));
    assert_eq!(lost.ask("PUT", "/v1/catalog", &json!([])).unwrap().status, 403);
}
