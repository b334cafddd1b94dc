//! No card number anywhere: it is typed into every text field that the API and the command line take, at a hub and a
//! stall, and then searched for in all that they have written and said.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use stallmesh_tests::processes::{Market, Node, head, order, product, stallmesh};

/// Numbers that card schemes give for tests, with the groups in which they stand on cards.
const NUMBERS: [(&str, &[usize]); 10] = [
    ("4111111111111111", &[4, 4, 4, 4]),
    ("4012888888881881", &[4, 4, 4, 4]),
    ("5555555555554444", &[4, 4, 4, 4]),
    ("2223003122003222", &[4, 4, 4, 4]),
    ("378282246310005", &[4, 6, 5]),
    ("6011111111111117", &[4, 4, 4, 4]),
    ("3530111333300000", &[4, 4, 4, 4]),
    ("36227206271667", &[4, 6, 4]),
    ("6200000000000005", &[4, 4, 4, 4]),
    ("6759649826438453", &[4, 4, 4, 4]),
];

/// Each number in one way of writing it, and the first in all of them.
fn written() -> Vec<String> {
    let with = |(number, groups): (&str, &[usize]), between: &str| {
        let mut rest = number;
        let parts = groups.iter().map(|length| {
            let (part, after) = rest.split_at(*length);
            rest = after;
            part
        });
        parts.collect::<Vec<_>>().join(between)
    };
    let ways = ["", " ", "-"];
    let each = NUMBERS.iter().zip(ways.iter().cycle()).map(|(number, between)| with(*number, between));
    each.chain(ways.iter().skip(1).map(|between| with(NUMBERS[0], between))).collect()
}

/// Which of the numbers stand in some bytes: with up to three signs between two digits, also as addresses write blanks.
fn found(bytes: &[u8]) -> Vec<&'static str> {
    let (mut digits, mut between, mut rows) = (String::new(), 0, Vec::new());
    let mut place = 0;
    while let Some(byte) = bytes.get(place) {
        let is_blank = bytes[place..].starts_with(b"%20") || bytes[place..].starts_with(b"%2D");
        place += if is_blank { 3 } else { 1 };
        if !is_blank && byte.is_ascii_digit() {
            digits.push(char::from(*byte));
            between = 0;
        } else if (is_blank || b" -./_,+\t\r\n".contains(byte)) && between < 3 {
            between += 1;
        } else if !digits.is_empty() {
            rows.push(std::mem::take(&mut digits));
            between = 0;
        }
    }
    rows.push(digits);
    let has = |number: &&str| rows.iter().any(|row| row.contains(number));
    NUMBERS.iter().map(|(number, _)| *number).filter(has).collect()
}

/// Where the numbers were found.
#[derive(Default)]
struct Finds(Vec<String>);

impl Finds {
    fn look(&mut self, place: &str, bytes: &[u8]) {
        let numbers = found(bytes);
        if !numbers.is_empty() {
            self.0.push(format!("{place}: {}", numbers.join(", ")));
        }
    }

    /// All files below a directory.
    fn look_below(&mut self, directory: &Path) -> u64 {
        let mut bytes_seen = 0;
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                bytes_seen += self.look_below(&path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                bytes_seen += bytes.len() as u64;
                self.look(&path.display().to_string(), &bytes);
            }
        }
        bytes_seen
    }

    /// Sends a request, and looks at its whole answer. Its status.
    fn ask(&mut self, node: &Node, method: &str, path: &str, more: &str, body: &str) -> u16 {
        let path = path.replace(' ', "%20");
        let head = format!("{}\r\nAuthorization: Bearer TOKEN{more}", head(method, &path, "HOST", body.as_bytes()));
        let reply = node.over_tcp(&head, body.as_bytes()).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (route, _) = path.split_once('?').unwrap_or((&path, ""));
        self.look(&format!("the answer to {method} {route} {body}: {}", reply.head), reply.head.as_bytes());
        self.look(&format!("the answer to {method} {route} {body}"), &reply.body);
        reply.status
    }
}

/// All that a node's event stream says, until the node ends.
fn events(node: &Node) -> Arc<Mutex<Vec<u8>>> {
    let (address, token) = node.tcp();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&heard);
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(length) = stream.read(&mut part) {
            if length == 0 {
                break;
            }
            shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&part[..length]);
        }
    });
    heard
}

/// Bodies of sales with a number in one field each; whether the sale is made, with the number masked.
fn sales(number: &str, key: &str) -> Vec<(Value, bool)> {
    let sale = |field: &str, more: Value| {
        let mut order = order(&format!("{key}-{field}"), "MUG");
        more.as_object().unwrap().iter().for_each(|(name, value)| order[name] = value.clone());
        order
    };
    let by = |field: &str, tender: Value| sale(field, json!({ "tenders": [tender] }));
    let token = "tok_one";
    vec![
        (sale("note", json!({ "note": format!("card {number} please") })), true),
        (sale("operator", json!({ "operator": number })), true),
        (by("reference", json!({ "kind": "outside", "reference": format!("paid {number}") })), true),
        (sale("key", json!({ "idempotency_key": format!("{number} {key}") })), true),
        (by("token", json!({ "kind": "card", "token": number })), false),
        (by("in-token", json!({ "kind": "wallet", "token": format!("tok_{number}") })), false),
        (by("card", json!({ "kind": "card", "token": token, "card": number })), false),
        (sale("code", json!({ "codes": [number] })), false),
        (sale("sku", json!({ "lines": [{ "sku": number }] })), false),
        (sale("x", json!({ "lines": [{ "sku": "MUG", "x": { "label": number } }] })), false),
        (sale("quantity", json!({ "lines": [{ "sku": "MUG", "quantity": number }] })), false),
        (sale("group", json!({ "customer": { "groups": [number] } })), false),
        (sale("confirmed", json!({ "confirmed": [number] })), false),
        (sale("known", json!({ "known": [number] })), false),
        (sale("kind", json!({ "tenders": [{ "kind": number }] })), false),
        (sale("unknown", json!({ number: 1 })), false),
    ]
}

/// Other writes with a number in one field each.
fn writes(number: &str) -> Vec<(&'static str, &'static str, Value)> {
    let product = |field: &str, value: Value| {
        let mut product = json!({ "sku": "TEA", "name": "Tea", "price": 300 });
        product[field] = value;
        ("PUT", "/v1/catalog", json!([product]))
    };
    let promotion = |field: &str, value: Value| {
        let mut promotion = json!({ "id": "P", "name": "P", "effect": { "percentage": "10" } });
        promotion[field] = value;
        ("PUT", "/v1/promotions", json!({ "give": [promotion] }))
    };
    let rule = |field: &str| {
        let mut rule = json!({ "id": "r", "name": "R", "looks_at": { "card_blocked": { "by_stalls": 3 } },
            "answer": "decline", "says": "blocked by {who}", "signals_live_hours": 24 });
        rule[field] = number.into();
        ("PUT", "/v1/checkout-rules", json!({ "fraud": { "rules": [rule] } }))
    };
    let device = "00".repeat(32);
    let mut writes: Vec<(&str, &str, Value)> = ["sku", "name", "unit", "stock", "variant_of", "stall", "price"]
        .map(|field| product(field, number.into()))
        .into();
    writes.extend(["categories", "tags", "taxes", "barcodes"].map(|field| product(field, json!([number]))));
    writes.extend(["id", "name", "owner", "group", "starts_at"].map(|field| promotion(field, number.into())));
    writes.extend([
        promotion("requires", json!({ "codes": [number] })),
        promotion("requires", json!({ "conditions": [{ "name": number, "equals": number }] })),
        promotion("items", json!({ "skus": [number], "tags": [number] })),
        promotion("x", json!({ "label": number })),
        ("PUT", "/v1/promotions", json!({ "withdraw": [number] })),
        ("PUT", "/v1/conditions", json!({ "conditions": { number: "1" }, "for_ms": 60_000 })),
        ("PUT", "/v1/conditions", json!({ "conditions": { "queue": number }, "for_ms": 60_000 })),
        ("POST", "/v1/quote", json!({ "lines": [{ "sku": "MUG" , "quantity": 1 }], "codes": [number] })),
        ("POST", "/v1/quote", json!({ "lines": [{ "sku": number, "quantity": 1 }] })),
        ("POST", "/v1/quote", json!({ "lines": [], "customer": { "groups": [number] } })),
        ("POST", "/v1/baskets", json!({ "lines": [{ "sku": "MUG", "quantity": 1 }], "codes": [number] })),
        ("POST", "/v1/baskets", json!({ "lines": [{ "sku": "MUG", "quantity": 1, "x": { "label": number } }] })),
        ("POST", "/v1/baskets", json!({ "lines": [], "customer": { "groups": [number] } })),
        (
            "POST",
            "/v1/invites",
            json!({ "role": "stall", "stall": number, "name": "n", "expires_ms": 60_000, "valid_ms": 60_000 }),
        ),
        (
            "POST",
            "/v1/invites",
            json!({ "role": "stall", "stall": "s", "name": number, "expires_ms": 60_000, "valid_ms": 60_000 }),
        ),
        (
            "POST",
            "/v1/invites",
            json!({ "role": number, "stall": "s", "name": "n", "expires_ms": 60_000, "valid_ms": 60_000 }),
        ),
        ("POST", "/v1/join", json!({ "invite": number, "name": number, "ask_for_stall": number })),
        ("POST", "/v1/approve", json!({ "code": number, "valid_ms": 60_000 })),
        (
            "POST",
            "/v1/delegate",
            json!({ "device": device, "seal_key": number, "name": number, "scopes": [number], "valid_ms": 60_000 }),
        ),
        ("POST", "/v1/revoke", json!({ "device": device, "reason": number })),
        ("POST", "/v1/revoke", json!({ "device": number, "reason": "" })),
        ("POST", "/v1/erase", json!({ "entry": number })),
        ("PUT", "/v1/policy", json!({ "tax_rates": { number: "20" } })),
        ("PUT", "/v1/policy", json!({ "time_zone": number, "fee_rate": number })),
        rule("id"),
        rule("name"),
        rule("says"),
        ("PUT", "/v1/cards/blocked", json!({ "fingerprint": number, "blocked": true })),
        ("POST", "/v1/peers", json!({ "address": number })),
        ("POST", "/v1/peers", json!({ "address": format!("/dns4/{number}/udp/1/quic-v1") })),
        ("PUT", "/v1/uplink", json!({ "up": number })),
        ("POST", "/v1/settle", json!({ "dry_run": number })),
    ]);
    writes
}

/// In addresses, headers and bodies that are no JSON.
fn odd_ways(finds: &mut Finds, node: &Node, number: &str) {
    for path in [
        "/v1/catalog?q=N&limit=1",
        "/v1/catalog?stall=N",
        "/v1/catalog?after=N",
        "/v1/catalog?limit=N",
        "/v1/promotions?stall=N&limit=1",
        "/v1/sales?before=N",
        "/v1/sales?limit=N",
        "/v1/sales/N",
        "/v1/baskets/N",
        "/v1/explain/N",
        "/v1/log?author=N",
        "/v1/log?lane=N",
        "/v1/log?before=N",
        "/v1/export?cursor=N",
        "/v1/statements?after=N",
        "/v1/signals?limit=N",
        "/N",
        "/v1/N",
    ] {
        finds.ask(node, "GET", &path.replace('N', number), "", "");
    }
    finds.ask(node, "DELETE", &format!("/v1/baskets/{number}/tenders/{number}?confirmed={number}"), "", "");
    for body in ["{\"note\": \"N", "{\"N\": 1}", "\"N\"", "[N]", "N", "{\"lines\": \"N\"}", "{\"lines\": N}"] {
        for (method, path) in
            [("POST", "/v1/sales"), ("POST", "/v1/quote"), ("PUT", "/v1/catalog"), ("POST", "/v1/join")]
        {
            finds.ask(node, method, path, "", &body.replace('N', number));
        }
    }
    for header in ["Idempotency-Key", "Last-Event-ID", "User-Agent", "Origin", "X-Note", "Content-Type", "Cookie"] {
        let more = format!("\r\n{header}: {number}");
        finds.ask(node, "PUT", "/v1/catalog", &more, "[{\"sku\": \"TEA\", \"name\": \"Tea\", \"price\": 300}]");
        finds.ask(node, "PUT", "/v1/catalog", &more, "[{\"sku\": \"TEA\", \"name\": \"Tea\", \"price\": 301}]");
    }
    for csv in [
        "Handle,Title,Variant SKU,Variant Price,Variant Barcode,Type,Tags\nN,N,N,1.00,N,N,N\n",
        "Handle,Title,Variant Price\ntea,Tea,N\n",
        "Handle,Title,Variant Price,N\ntea,N,1.00,x\n",
        "N,N\nN,N\n",
    ] {
        finds.ask(node, "POST", "/v1/catalog/import", "", &csv.replace('N', number));
    }
}

/// A basket that is filled and paid step by step, with a number wherever there is room for one.
fn basket(finds: &mut Finds, node: &Node, number: &str, key: &str) {
    let keyed = |key: &str| format!("\r\nIdempotency-Key: basket {number} {key}");
    let body = json!({ "lines": [{ "sku": "MUG", "quantity": 1 }] }).to_string();
    let reply = {
        let head = format!(
            "{}\r\nAuthorization: Bearer TOKEN{}",
            head("POST", "/v1/baskets", "HOST", body.as_bytes()),
            keyed(key)
        );
        node.over_tcp(&head, body.as_bytes()).unwrap()
    };
    finds.look("the answer to a new basket", &reply.body);
    let id = reply.json()["id"].as_str().unwrap_or_else(|| panic!("{:?}", reply.json())).to_owned();
    for (place, change) in [
        json!({ "op": "add", "sku": "MUG" }),
        json!({ "op": "add", "sku": number }),
        json!({ "op": "add", "barcode": number }),
        json!({ "op": "give_code", "code": number }),
        json!({ "op": "take_code", "code": number }),
        json!({ "op": "set", "line": 0, "sku": number, "quantity": 1 }),
        json!({ "op": "customer", "customer": { "groups": [number] } }),
        json!({ "op": number }),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({ "changes": [change] }).to_string();
        finds.ask(node, "POST", &format!("/v1/baskets/{id}/changes"), &keyed(&format!("{key}-{place}")), &body);
    }
    for tender in [
        json!({ "kind": "outside", "amount": 100, "reference": number }),
        json!({ "kind": "card", "amount": 100, "token": number }),
        json!({ "kind": "card", "amount": 100, "token": "tok_two", "card": number }),
        json!({ "kind": "card", "amount": 100, "token": "tok_two", "known": [number] }),
    ] {
        finds.ask(
            node,
            "POST",
            &format!("/v1/baskets/{id}/tenders"),
            &keyed(&format!("{key}-{tender}")),
            &tender.to_string(),
        );
    }
    let sale = json!({ "tenders": [{ "kind": "cash" }], "note": number, "operator": number }).to_string();
    let status = finds.ask(node, "POST", &format!("/v1/baskets/{id}/sale"), "", &sale);
    assert_eq!(status, 201, "the basket is sold");
}

/// The command line, with a number wherever it takes a text.
fn commands(finds: &mut Finds, node: &Node, folder: &Path, number: &str) {
    let file = folder.join("typed");
    let (catalog, promotions, basket) = (folder.join("catalog"), folder.join("promotions"), folder.join("basket"));
    std::fs::write(&file, format!("Handle,Title,Variant Price\ntea,{number},about {number}\n")).unwrap();
    let product = json!({ "sku": "A", "name": number, "price": 1000 });
    let of_catalog = json!({ "currency": "EUR", "prices_include_tax": true, "tax_rates": {}, "products": [product] });
    std::fs::write(&catalog, of_catalog.to_string()).unwrap();
    let promotion = json!({ "id": number, "name": number, "effect": { "percentage": "10" } });
    std::fs::write(&promotions, json!([promotion]).to_string()).unwrap();
    let of_basket = json!({ "lines": [{ "sku": "A", "quantity": 1 }], "codes": [number] });
    std::fs::write(&basket, of_basket.to_string()).unwrap();
    let path = |path: &Path| path.display().to_string();
    let (file, catalog, promotions, basket) = (path(&file), path(&catalog), path(&promotions), path(&basket));
    let quote = ["quote", "--catalog", &catalog, "--promotions", &promotions, "--basket", &basket, "--json"];
    for arguments in [
        &["sell", number, "--cash"] as &[&str],
        &["sell", "MUG", "--cash", "--code", number],
        &["sell", "MUG", number],
        &["sell", "MUG", "--tip", number],
        &[number],
        &["--nothing", number],
        &["catalog", "import", &file],
        &["catalog", "import", number],
        &["promotion", "withdraw", number],
        &["promotion", "give", &promotions],
        &["condition", "set", &format!("{number}=1"), "--for", "10m"],
        &["invite", "--stall", number],
        &["revoke", number, "--reason", number],
        &["explain", number],
        &["approve", number],
        &["join", number],
        &["erase", number],
        &quote[..7],
        &quote,
    ] {
        let output = node.cli(arguments);
        finds.look(&format!("the output of {}", arguments[0]), &output.stdout);
        finds.look(&format!("the errors of {arguments:?}"), &output.stderr);
    }
    for file in [file, catalog, promotions, basket] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn adv_091_a_card_number_typed_into_any_field_is_nowhere_afterwards() {
    // What is searched for is found where it stands.
    for number in written() {
        assert_eq!(found(format!("a{number}b").as_bytes()).len(), 1, "{number}");
    }
    let mut market = Market::make();
    market.hub.set("STALLMESH_LOG_FILTER", "trace").stop();
    market.hub.start();
    let mut till = market.node("till");
    till.set("STALLMESH_UPLINK_ENABLED", "true").set("STALLMESH_LOG_FILTER", "trace").start();
    market.admit(&till, "till");
    product(&till, "MUG", 1250);
    // A bar code that begins as Visa's numbers do is no card's.
    till.send(
        "PUT",
        "/v1/catalog",
        &json!([{ "sku": "4006381333931", "name": "Pen", "price": 100, "barcodes": ["4006381333931"] }]),
    );
    let heard = [events(&market.hub), events(&till)];
    let folder = tempfile::tempdir().unwrap();
    let (mut finds, mut made) = (Finds::default(), 0);
    for (place, number) in written().iter().enumerate() {
        let key = format!("case-{place}");
        for (body, is_made) in sales(number, &key) {
            let status = finds.ask(&till, "POST", "/v1/sales", "", &body.to_string());
            assert_eq!(status == 201, is_made, "{status}: {body}");
            made += usize::from(is_made);
            // The same key once more, with something else: what is said of it doesn't repeat it.
            let mut other = body.clone();
            other["lines"] = json!([{ "sku": "MUG" }, { "sku": "MUG" }]);
            finds.ask(&till, "POST", "/v1/sales", "", &other.to_string());
        }
        for node in [&till, &market.hub] {
            for (method, path, body) in writes(number) {
                finds.ask(node, method, path, "", &body.to_string());
            }
            odd_ways(&mut finds, node, number);
        }
        basket(&mut finds, &till, number, &key);
        for node in [&till, &market.hub] {
            commands(&mut finds, node, folder.path(), number);
        }
        // A market and a node that would be called so.
        let directory = folder.path().join(format!("market-{place}"));
        let output = stallmesh(&["--data-dir", &directory.display().to_string(), "market", "create", number]);
        assert!(!output.status.success(), "a market is called {number}");
        finds.look("the errors of market create", &output.stderr);
        let mut other = market.node(&format!("other-{place}"));
        other.set("STALLMESH_NAME", number);
        let ended = other.try_start().expect_err("a node is called as a card");
        finds.look("what a node says whose name is a card's number", ended.log.as_bytes());
    }
    assert!(made >= 4 * written().len());
    // All that they show and export.
    let ledger = market.settle();
    assert_eq!(ledger["suspense"].as_array().map_or(0, Vec::len), 0, "{ledger}");
    for node in [&till, &market.hub] {
        for path in [
            "/v1/status",
            "/v1/sales?limit=1000",
            "/v1/baskets",
            "/v1/promotions",
            "/v1/conditions",
            "/v1/catalog",
            "/v1/members",
            "/v1/checkout-rules",
            "/v1/signals",
            "/v1/log?limit=1000",
            "/v1/policy",
            "/v1/ledger",
            "/v1/statements",
            "/v1/join-requests",
            "/v1/export",
            "/v1/openapi.json",
        ] {
            finds.ask(node, "GET", path, "", "");
        }
        let export = folder.path().join(format!("{}.export", node.name));
        let output = node.cli(&["audit", "export", "--out", &export.display().to_string()]);
        assert!(export.metadata().is_ok_and(|export| export.len() > 0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    market.hub.stop();
    till.stop();
    let bytes = finds.look_below(market.folder()) + finds.look_below(folder.path());
    assert!(bytes > 1_000_000, "stores, logs and exports: {bytes} bytes");
    for heard in heard {
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!heard.is_empty(), "events were told");
        finds.look("the events", &heard);
    }
    let shown: Vec<&String> = finds.0.iter().take(40).collect();
    assert!(finds.0.is_empty(), "{} places have card numbers: {shown:#?}", finds.0.len());
}
