//! Cards on line first, with a hub's test gateway, a carrier, and a card reader in a process of its own.

use serde_json::{Value, json};
use stallmesh_tests::processes::{self, CardReader, Market, Node, Reply, send_to};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    processes::until(what, || if holds() { Ok(()) } else { Err("not yet".to_owned()) });
}

/// A market whose hub has the test gateway, and whose tills ask it.
fn market() -> Market {
    let mut market = Market::make();
    market.hub.stop();
    market.hub.set("STALLMESH_HUB_GATEWAY", "test").start();
    let policy = json!({ "risk": { "borne_by": "market", "authorise_within_ms": 15_000 } });
    market.hub.send("PUT", "/v1/checkout-rules", &policy);
    market
}

fn knows_the_policy(node: &Node) {
    until("it knows that cards are asked about", || {
        node.get("/v1/checkout-rules")["risk"]["authorise_within_ms"] == 15_000
            && node.status()["uplink"]["hops"].is_u64()
    });
}

/// What the gateway holds, by payment.
fn held(market: &Market) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(market.hub.directory.join("test-gateway.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut last = std::collections::BTreeMap::new();
    for line in lines {
        last.insert(line["payment"].as_str().unwrap().to_owned(), line["held"].as_u64().unwrap());
    }
    last.into_iter().filter(|(_, held)| *held > 0).collect()
}

fn sale(key: &str, tenders: Value) -> Value {
    json!({ "idempotency_key": key, "lines": [{ "sku": "MUG" }], "tenders": tenders })
}

fn record(node: &Node, body: &Value) -> Reply {
    node.ask("POST", "/v1/sales", body).unwrap()
}

#[test]
fn a_card_is_authorised_by_the_hub_through_a_carrier_before_its_sale_is_recorded() {
    let market = market();
    let carrier = market.stall("carrier");
    let till = market.stall_beside("till", &carrier);
    knows_the_policy(&till);
    let reply = record(&till, &sale("one", json!([{ "kind": "card", "token": "tok", "tip": 100 }])));
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    let recorded = reply.json();
    assert_eq!(recorded["tenders"][0]["authorised"], "online", "{recorded}");
    let payment = format!("till/{}-0", recorded["sale"].as_str().unwrap());
    assert_eq!(held(&market), [(payment.clone(), 1_350)]);
    let declined = record(&till, &sale("two", json!([{ "kind": "card", "token": "tok-decline" }])));
    assert_eq!((declined.status, declined.json()["code"].clone()), (402, json!("E_DECLINED")));
    // In parts: what the bank holds less is paid in cash.
    let basket = till.send("POST", "/v1/baskets", &json!({ "lines": [{ "sku": "MUG", "quantity": 1 }] }));
    let path = format!("/v1/baskets/{}", basket["id"].as_str().unwrap());
    till.send("POST", &format!("{path}/tenders"), &json!({ "kind": "card", "token": "tok-partial-900" }));
    until("it is decided", || till.get(&path)["tenders"][0]["state"] == "approved");
    assert_eq!(till.get(&path)["left"], 350);
    till.send("POST", &format!("{path}/sale"), &json!({ "tenders": [{ "kind": "cash", "given": 500 }] }));
    assert_eq!(held(&market).iter().map(|(_, held)| held).sum::<u64>(), 2_250);
    till.until("nothing waits to be captured", |status| status["uncaptured"]["payments"] == 0);
}

#[test]
fn adv_088_a_till_that_is_killed_while_the_bank_is_asked_sells_once_or_gives_back() {
    let market = market();
    let mut till = market.stall("till");
    knows_the_policy(&till);
    let body = sale("one", json!([{ "kind": "card", "token": "tok-slow-600" }]));
    for _ in 0..3 {
        // Nobody hears the answer of this one.
        let request = {
            let ((address, token), body) = (till.tcp(), body.clone());
            std::thread::spawn(move || send_to(&address.to_string(), &token, "POST", "/v1/sales", &body))
        };
        until("the hub has heard of it", || !held(&market).is_empty());
        till.kill();
        let _ = request.join();
        till.start();
    }
    let reply = record(&till, &body);
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    let payment = format!("till/{}-0", reply.json()["sale"].as_str().unwrap());
    assert_eq!(held(&market), [(payment, 1_250)]);
    assert_eq!(till.get("/v1/sales").as_array().map(Vec::len), Some(1));
}

#[test]
fn a_reader_in_its_own_process_takes_declines_and_reverses_and_survives_either_ones_end() {
    let market = market();
    let mut reader = CardReader::start(market.folder().join("reader.json"), "0");
    let mut till = market.stall("till");
    till.stop();
    till.set("STALLMESH_READER_ADDRESS", reader.address()).set("STALLMESH_READER_WITHIN_MS", "20000").start();
    knows_the_policy(&till);
    let by_card = json!([{ "kind": "card" }]);
    let reply = record(&till, &sale("one", by_card.clone()));
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    let recorded = reply.json();
    assert_eq!(recorded["tenders"][0]["authorised"], "online");
    assert!(recorded["tenders"][0]["fingerprint"].is_string());
    assert_eq!(reader.states(), ["approved"]);

    // Each of these leaves nothing at the reader and nothing at the bank.
    let before = held(&market);
    reader.next(&["decline", "time-out", "number"]);
    for (key, why) in [("declined", "refused"), ("timed out", "nobody has presented"), ("number", "card number")] {
        let reply = record(&till, &sale(key, by_card.clone()));
        assert_eq!(reply.status, 402, "{key}: {}", String::from_utf8_lossy(&reply.body));
        let detail = reply.json()["detail"].clone();
        assert!(detail.as_str().is_some_and(|detail| detail.contains(why)), "{detail}");
    }
    until("the number's payment is reversed", || {
        reader.states().iter().filter(|state| *state == "reversed").count() == 1
    });
    assert_eq!(held(&market), before);

    // An answer that is lost: asked again under its name, and one payment.
    reader.next(&["lost"]);
    let reply = record(&till, &sale("lost", by_card.clone()));
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    let count = reader.states().len();

    // No card comes: the vendor voids it.
    reader.next(&["wait"]);
    let basket = till.send("POST", "/v1/baskets", &json!({ "lines": [{ "sku": "MUG", "quantity": 1 }] }));
    let path = format!("/v1/baskets/{}", basket["id"].as_str().unwrap());
    let asked = till.send("POST", &format!("{path}/tenders"), &json!({ "kind": "card" }));
    assert_eq!(asked["tenders"][0]["state"], "asked");
    until("the reader has heard of it", || reader.states().len() == count + 1);
    // Either ends in between, and the other goes on where it was.
    till.kill();
    let (file, port) = (reader.file().to_owned(), reader.port());
    drop(reader);
    till.start();
    reader = CardReader::start(file, &port);
    assert_eq!(till.get(&path)["tenders"][0]["state"], "asked");
    till.send("DELETE", &format!("{path}/tenders/0"), &Value::Null);
    until("it is reversed", || reader.states().iter().filter(|state| *state == "reversed").count() == 2);

    // A till that is killed after the card was presented finds it.
    let asked = till.send("POST", &format!("{path}/tenders"), &json!({ "kind": "card" }));
    assert_eq!(asked["tenders"][1]["state"], "asked");
    until("the reader has heard of it", || reader.states().len() == count + 2);
    till.kill();
    till.start();
    until("it is decided", || till.get(&path)["tenders"][1]["state"] != "asked");
    let part = till.get(&path)["tenders"][1].clone();
    assert_eq!(part["state"], "approved");
    till.send("POST", &format!("{path}/sale"), &json!({ "tenders": [] }));
    // Its way to the hub may not have been there again when the card was.
    let online = usize::from(part["authorised"] == "online");
    assert_eq!(held(&market).len(), before.len() + 1 + online, "one for each sale");

    // No reader at all is said, and cash goes on.
    drop(reader);
    let reply = record(&till, &sale("no reader", by_card));
    assert_eq!(reply.status, 402, "{}", String::from_utf8_lossy(&reply.body));
    assert!(reply.json()["detail"].as_str().unwrap().contains("doesn't answer"));
    assert_eq!(record(&till, &sale("cash", json!([{ "kind": "cash" }]))).status, 201);
}

#[test]
fn a_reader_on_another_machine_and_an_unknown_gateway_are_refused_with_the_key() {
    let folder = tempfile::tempdir().unwrap();
    for (key, value, said) in [
        ("STALLMESH_READER_ADDRESS", "192.0.2.1:7900", "reader.address"),
        ("STALLMESH_HUB_GATEWAY", "stripe", "gateway"),
    ] {
        let mut node = Node::new(folder.path(), "node");
        let ended = node.set(key, value).try_start().unwrap_err();
        let text = ended.log;
        assert!(text.contains(said), "{text}");
    }
}
