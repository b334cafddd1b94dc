//! What the API promises to programs: answers as the document says, writes done once, events that are all heard, pages
//! without holes, and a sandbox in which the README's commands work.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stallmesh_tests::processes::{Market, Node, Reply, head, order, product, program};

fn asked(node: &Node, method: &str, path: &str, more: &str, body: &Value) -> Reply {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let head = format!("{}\r\nAuthorization: Bearer TOKEN{more}", head(method, path, "HOST", &body));
    node.over_tcp(&head, &body).unwrap()
}

fn with_key(node: &Node, method: &str, path: &str, key: &str, body: &Value) -> Reply {
    asked(node, method, path, &format!("\r\nIdempotency-Key: {key}"), body)
}

fn invite(name: &str) -> Value {
    json!({ "role": "stall", "stall": name, "name": name, "expires_ms": 86_400_000, "valid_ms": 86_400_000 })
}

/// A schema of the document, for an answer: what it doesn't name isn't there.
fn schema_of(document: &Value, method: &str, path: &str) -> jsonschema::Validator {
    fn close(value: &mut Value) {
        match value {
            Value::Object(members) => {
                if members.contains_key("properties") && members.get("type") == Some(&"object".into()) {
                    members.entry("unevaluatedProperties").or_insert(false.into());
                }
                members.values_mut().for_each(close);
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    let responses =
        document["paths"][path][method]["responses"].as_object().unwrap_or_else(|| panic!("{method} {path}"));
    let good = responses.iter().find(|(status, _)| status.starts_with('2')).unwrap().1;
    let mut schema = good["content"]["application/json"]["schema"].clone();
    schema["components"] = document["components"].clone();
    // Of an `allOf` each part sees the other's fields as its own only from outside.
    if !schema.to_string().contains("allOf") {
        close(&mut schema);
    }
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn answers_are_as_the_document_says_and_every_route_of_it_is_there() {
    let market = Market::make();
    let node = market.stall("till");
    let document = asked(&node, "GET", "/v1/openapi.json", "", &Value::Null).json();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(kept).unwrap()).unwrap();
    assert_eq!(document, kept, "what is served is what is kept");
    let mut seen = BTreeSet::new();
    let mut check = |at: &Node, method: &str, path: &str, real: &str, body: &Value| {
        let reply = asked(at, &method.to_uppercase(), real, "", body);
        let answer = reply.json();
        assert!((200..300).contains(&reply.status), "{method} {real}: {answer}");
        assert!(
            document["paths"][path][method]["responses"].get(reply.status.to_string()).is_some(),
            "{method} {path}"
        );
        let schema = schema_of(&document, method, path);
        let problems: Vec<String> =
            schema.iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "{method} {path}: {problems:?} in {answer}");
        seen.insert(format!("{method} {path}"));
        answer
    };
    let none = Value::Null;
    let promotion = json!({ "give": [{ "id": "P", "name": "P", "effect": { "percentage": "10" },
        "requires": { "codes": ["CODE"] } }] });
    check(&node, "put", "/v1/promotions", "/v1/promotions", &promotion);
    check(
        &node,
        "put",
        "/v1/conditions",
        "/v1/conditions",
        &json!({ "conditions": { "rain_mm": 3 }, "for_ms": 60_000 }),
    );
    check(&node, "put", "/v1/catalog", "/v1/catalog", &json!([{ "sku": "TEA", "name": "Tea", "price": 300 }]));
    let basket = json!({ "lines": [{ "sku": "MUG", "quantity": 1 }], "codes": ["CODE", "OTHER"], "customer": {} });
    check(&node, "post", "/v1/quote", "/v1/quote", &basket);
    let opened = check(&node, "post", "/v1/baskets", "/v1/baskets", &basket);
    let id = opened["id"].as_str().unwrap();
    let changes = json!({ "changes": [{ "op": "add", "sku": "TEA" }, { "op": "take_code", "code": "OTHER" }] });
    check(&node, "post", "/v1/baskets/{id}/changes", &format!("/v1/baskets/{id}/changes"), &changes);
    check(&node, "get", "/v1/baskets", "/v1/baskets", &none);
    let sold = json!({ "tenders": [{ "kind": "cash", "given": 5000 }] });
    let sale = check(&node, "post", "/v1/baskets/{id}/sale", &format!("/v1/baskets/{id}/sale"), &sold);
    check(&node, "get", "/v1/baskets/{id}", &format!("/v1/baskets/{id}"), &none);
    let empty = check(&node, "post", "/v1/baskets", "/v1/baskets", &none);
    let empty = format!("/v1/baskets/{}", empty["id"].as_str().unwrap());
    check(&node, "delete", "/v1/baskets/{id}", &empty, &none);
    check(&node, "post", "/v1/sales", "/v1/sales", &order("one", "MUG"));
    let sale = sale["sale"].as_str().unwrap();
    check(&node, "get", "/v1/sales/{sale}", &format!("/v1/sales/{sale}"), &none);
    check(&node, "get", "/v1/explain/{subject}", &format!("/v1/explain/{sale}"), &none);
    check(&node, "put", "/v1/uplink", "/v1/uplink", &json!({ "up": true }));
    check(&node, "put", "/v1/power", "/v1/power", &json!({ "battery": 50 }));
    for path in [
        "/v1/status",
        "/v1/sales",
        "/v1/catalog",
        "/v1/catalog/counts",
        "/v1/members",
        "/v1/promotions",
        "/v1/conditions",
        "/v1/log",
        "/health",
    ] {
        check(&node, "get", path, path, &none);
    }
    market.until_received(2);
    check(&market.hub, "post", "/v1/invites", "/v1/invites", &invite("late"));
    check(&market.hub, "post", "/v1/settle", "/v1/settle", &json!({}));
    node.until("a statement", |status| status["sales"]["settled"] == 2);
    check(&node, "get", "/v1/statements", "/v1/statements", &none);
    check(&market.hub, "post", "/v1/hub/rotate-key", "/v1/hub/rotate-key", &none);
    for path in ["/v1/policy", "/v1/ledger", "/v1/join-requests"] {
        check(&market.hub, "get", path, path, &none);
    }
    let policy = market.hub.get("/v1/policy");
    check(&market.hub, "put", "/v1/policy", "/v1/policy", &policy);
    assert!(seen.len() > 30, "{}", seen.len());
    // The others are there, too: a route that isn't would say so.
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if seen.contains(&format!("{method} {path}")) || path == "/v1/events" {
                continue;
            }
            let names = ["{id}", "{sale}", "{subject}", "{number}"];
            let real = names.into_iter().fold(path.clone(), |path, name| path.replace(name, "0"));
            let body = if method == "get" { none.clone() } else { json!({ "nonsense": 1 }) };
            let reply = asked(&node, &method.to_uppercase(), &real, "", &body);
            let answer = reply.json();
            assert!(reply.status != 405 && answer["code"] != "E_NOT_FOUND", "{method} {path}: {answer}");
        }
    }
}

#[test]
fn a_write_under_way_when_its_node_is_killed_is_done_once_when_it_is_sent_again() {
    let mut market = Market::make();
    let entries = |hub: &Node| hub.get("/v1/log?lane=control&limit=1000").as_array().unwrap().len();
    let before = entries(&market.hub);
    let policy = market.hub.get("/v1/policy");
    // It says where it answers before it is killed for the first time.
    market.hub.tcp();
    let mut answers = Vec::new();
    for round in 0..8 {
        let key = format!("invite-{round}");
        let body = invite(&key);
        std::thread::scope(|scope| {
            let hub = &market.hub;
            let sent = scope.spawn(|| {
                let body = body.to_string().into_bytes();
                let head = head("POST", "/v1/invites", "HOST", &body);
                let head = format!("{head}\r\nAuthorization: Bearer TOKEN\r\nIdempotency-Key: {key}");
                hub.over_tcp(&head, &body).map(|reply| reply.json())
            });
            // From before it is there to after it was answered; what counts holds wherever the cut falls.
            std::thread::sleep(Duration::from_micros(round * 700));
            hub.signal("KILL");
            let _ = sent.join();
        });
        market.hub.wait();
        market.hub.start();
        let reply = with_key(&market.hub, "POST", "/v1/invites", &key, &body);
        assert_eq!(reply.status, 200, "{}", reply.json());
        assert_eq!(with_key(&market.hub, "POST", "/v1/invites", &key, &body).json(), reply.json());
        answers.push(reply.json()["invite"].clone());
        let other = with_key(&market.hub, "POST", "/v1/invites", &key, &invite("another"));
        assert_eq!((other.status, &other.json()["code"]), (409, &"E_CONFLICT".into()));
        let other = with_key(&market.hub, "PUT", "/v1/policy", &key, &policy);
        assert_eq!((other.status, &other.json()["code"]), (409, &"E_CONFLICT".into()));
    }
    assert_eq!(answers.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), 8);
    // One certificate's worth of entries each, and nothing for what was sent again.
    let made = entries(&market.hub) - before;
    let once = with_key(&market.hub, "POST", "/v1/invites", "one more", &invite("more"));
    assert_eq!(once.status, 200);
    let each = entries(&market.hub) - before - made;
    assert_eq!(made, 8 * each, "{each} entries for an invite");
    // A key's file is made once, too.
    let rotated = with_key(&market.hub, "POST", "/v1/hub/rotate-key", "rotate", &Value::Null).json();
    assert_eq!(with_key(&market.hub, "POST", "/v1/hub/rotate-key", "rotate", &Value::Null).json(), rotated);
    let files = || {
        let names = std::fs::read_dir(&market.hub.directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("opening")).count()
    };
    assert_eq!(files(), 2, "the first, and one more");
}

/// One event of a stream: its id, name and data.
#[derive(Debug)]
struct Heard {
    id: String,
    name: String,
    data: Value,
}

/// Listens to a node's events, from an earlier one on.
fn listen(node: &Node, last: Option<&str>) -> impl Iterator<Item = Heard> + use<> {
    let (address, token) = node.tcp();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
    let head = format!("GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (mut id, mut name, mut data) = (String::new(), String::new(), String::new());
    let mut lines = BufReader::new(stream).lines();
    // Signs of life come all the time.
    let until = Instant::now() + Duration::from_secs(60);
    std::iter::from_fn(move || {
        loop {
            if Instant::now() > until {
                return None;
            }
            let line = lines.next()?.ok()?;
            if let Some(value) = line.strip_prefix("id:") {
                value.trim().clone_into(&mut id);
                // An id alone is where to go on from.
                if data.is_empty() && name.is_empty() {
                    name = "place".into();
                }
            } else if let Some(value) = line.strip_prefix("event:") {
                value.trim().clone_into(&mut name);
            } else if let Some(value) = line.strip_prefix("data:") {
                value.trim().clone_into(&mut data);
            } else if line.is_empty() && !(name.is_empty() && data.is_empty()) {
                let heard = Heard {
                    id: id.clone(),
                    name: if name == "place" && !data.is_empty() { String::new() } else { std::mem::take(&mut name) },
                    data: serde_json::from_str(&data).unwrap_or_default(),
                };
                (name, data) = (String::new(), String::new());
                return Some(heard);
            }
        }
    })
}

/// New sales of a stream, until there are so many.
fn new_sales(events: &mut impl Iterator<Item = Heard>, count: usize) -> Vec<(String, String)> {
    let mut sales = Vec::new();
    while sales.len() < count {
        let heard = events.next().expect("an event");
        assert_ne!(heard.name, "missed", "{sales:?}");
        if heard.data["event"] == "sale" && heard.data["state"] == "this_device" {
            sales.push((heard.data["sale"].as_str().unwrap().to_owned(), heard.id));
        }
    }
    sales
}

#[test]
fn who_comes_back_to_the_events_hears_what_has_happened_meanwhile_or_that_it_has_missed_it() {
    let market = Market::make();
    let mut node = market.stall("till");
    let mut sell = {
        let mut number = 0;
        move |node: &Node| {
            number += 1;
            node.send("POST", "/v1/sales", &order(&number.to_string(), "MUG"))["sale"].as_str().unwrap().to_owned()
        }
    };
    let mut events = listen(&node, None);
    let place = events.next().unwrap();
    assert_eq!(place.name, "place", "{place:?}");
    let first: Vec<String> = (0..3).map(|_| sell(&node)).collect();
    let heard = new_sales(&mut events, 3);
    assert_eq!(heard.iter().map(|(sale, _)| sale.clone()).collect::<Vec<_>>(), first);
    drop(events);
    let away: Vec<String> = (0..5).map(|_| sell(&node)).collect();
    let back = new_sales(&mut listen(&node, Some(&heard[2].1)), 5);
    assert_eq!(back.iter().map(|(sale, _)| sale.clone()).collect::<Vec<_>>(), away);
    // From the place at which it began, it is all of them.
    assert_eq!(new_sales(&mut listen(&node, Some(&place.id)), 8).len(), 8);
    for unknown in ["nonsense", "0000000000000000-1"] {
        assert_eq!(listen(&node, Some(unknown)).next().unwrap().name, "missed", "{unknown}");
    }
    node.kill();
    node.start();
    let mut events = listen(&node, Some(&back[4].1));
    let missed = events.next().unwrap();
    assert_eq!(missed.name, "missed", "another run's events");
    let sale = sell(&node);
    assert_eq!(new_sales(&mut events, 1)[0].0, sale);
    // It goes on from there as from any other.
    assert_eq!(new_sales(&mut listen(&node, Some(&missed.id)), 1)[0].0, sale);
}

/// Where the next page is.
fn next_of(reply: &Reply) -> Option<String> {
    let link = reply.header("link")?;
    Some(link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?.to_owned())
}

/// Walks all pages of a list; `between` happens after each.
fn walk(node: &Node, path: &str, name: impl Fn(&Value) -> String, mut between: impl FnMut(usize)) -> Vec<String> {
    let mut names = Vec::new();
    let mut next = Some(path.to_owned());
    let mut pages = 0;
    while let Some(path) = next {
        let reply = asked(node, "GET", &path, "", &Value::Null);
        assert_eq!(reply.status, 200, "{path}: {}", reply.json());
        let page = reply.json();
        assert!(page.as_array().unwrap().len() <= 3, "{path}");
        names.extend(page.as_array().unwrap().iter().map(&name));
        next = next_of(&reply);
        between(pages);
        pages += 1;
        assert!(pages < 200, "{path} has no end");
    }
    assert!(pages > 2, "{path} had {pages} pages");
    names
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

#[test]
fn who_walks_through_pages_while_things_are_added_meets_each_old_one_once() {
    let market = Market::make();
    let node = market.stall("till");
    for number in 0..10 {
        node.send("POST", "/v1/sales", &order(&format!("old-{number}"), "MUG"));
        product(&node, &format!("OLD-{number} & ü"), 100);
    }
    let promotion = |id: &str| json!({ "give": [{ "id": id, "name": id, "effect": { "percentage": "10" } }] });
    for number in 0..7 {
        node.send("PUT", "/v1/promotions", &promotion(&format!("P{number}")));
    }
    type List = (&'static str, fn(&Value) -> String);
    let lists: [List; 4] = [
        ("/v1/sales?limit=3", |sale| text(sale, "sale")),
        ("/v1/catalog?limit=3&q=old", |product| text(product, "sku")),
        ("/v1/promotions?limit=3", |view| text(&view["promotion"], "id")),
        ("/v1/log?limit=3", |entry| text(entry, "hash")),
    ];
    for (path, name) in lists {
        let whole = path.replace("limit=3", "limit=1000");
        let old: BTreeSet<String> = node.get(&whole).as_array().unwrap().iter().map(name).collect();
        let met = walk(&node, path, name, |page| {
            node.send("POST", "/v1/sales", &order(&format!("{path} {page}"), "MUG"));
            product(&node, &format!("OLD-{page}-new"), 100);
            product(&node, &format!("A-{page} old"), 100);
            node.send("PUT", "/v1/promotions", &promotion(&format!("N{page}")));
            node.send("PUT", "/v1/promotions", &promotion(&format!("Z{page}")));
            assert!(page < 60);
        });
        let once: BTreeSet<String> = met.iter().cloned().collect();
        assert_eq!(met.len(), once.len(), "{path}: one was met twice");
        let lost: Vec<_> = old.difference(&once).collect();
        assert!(lost.is_empty(), "{path}: {lost:?} of {met:?}");
    }
    for path in ["/v1/catalog?after=x", "/v1/members?after=zz", "/v1/log?before=x", "/v1/sales?before=x"] {
        let reply = asked(&node, "GET", path, "", &Value::Null);
        assert_eq!((reply.status, &reply.json()["code"]), (400, &"E_INVALID".into()), "{path}");
    }
    assert_eq!(asked(&node, "GET", "/v1/members", "", &Value::Null).header("link"), None, "all on one page");
}

/// The commands of a README's section, each with its continuation lines.
fn commands(section: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let section = readme.split(section).nth(1).expect("the section").split("\n## ").next().unwrap();
    let mut commands: Vec<String> = Vec::new();
    for line in section.lines().filter_map(|line| line.strip_prefix("    ")) {
        match commands.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.push('\n');
                last.push_str(line);
            }
            _ => commands.push(line.to_owned()),
        }
    }
    commands
}

/// Ends with the test that began it: one that is left behind holds the output of whatever runs the tests.
struct Sandbox(Child);

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_readmes_sale_by_curl_works_in_the_sandbox_which_ends_cleanly() {
    let commands = commands("## A sale by `curl`");
    let (start, commands) = commands.split_first().unwrap();
    assert_eq!(start, "cargo run --release -- dev");
    let sandbox = Command::new(program())
        .args(["dev", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut sandbox = Sandbox(sandbox);
    let mut lines = BufReader::new(sandbox.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = String::new();
    let export = lines.by_ref().find(|line| {
        said.push_str(line);
        line.trim_start().starts_with("export TILL=")
    });
    let export = export.unwrap_or_else(|| panic!("{said}"));
    let curl = lines.by_ref().find(|line| line.trim_start().starts_with("curl")).unwrap();
    let folder = said.split(" is in ").nth(1).and_then(|rest| rest.split(". ").next()).unwrap().to_owned();
    assert!(Path::new(&folder).join("stall").exists(), "{folder}");
    // In one shell, as a person would; its own marks tell the answers apart.
    let mut script = format!("set -euo pipefail\n{export}\n{curl}\necho; echo ----\n");
    assert!(commands[0].starts_with("export TILL="), "what the sandbox has printed: {}", commands[0]);
    for command in &commands[1..] {
        script.push_str(&format!("{command}\necho; echo ----\n"));
    }
    let output = Command::new("bash").arg("-c").arg(&script).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Value> =
        text.split("----").map(|part| serde_json::from_str(part.trim()).unwrap_or_default()).collect();
    assert!(answers[0].as_array().is_some_and(|products| products.len() == 5), "{text}");
    let answers = &answers[1..];
    let quote = &answers[0];
    assert_eq!(
        (&quote["subtotal"], &quote["reduction"], &quote["total"]),
        (&3600.into(), &860.into(), &2740.into()),
        "{quote}"
    );
    assert_eq!(quote["codes"][0]["state"], "applied", "{quote}");
    let view = answers
        .iter()
        .find(|answer| answer["quote"]["codes"][0]["state"] == "applied")
        .expect("a basket with the code");
    assert_eq!(view["quote"]["total"], 2740);
    let sales: Vec<&Value> = answers.iter().filter(|answer| answer["receipt"].is_string()).collect();
    assert!(sales.len() >= 2, "{text}");
    for sale in &sales {
        assert_eq!(
            (&sale["sale"], &sale["total"], &sale["rehearsal"]),
            (&sales[0]["sale"], &2740.into(), &true.into())
        );
    }
    assert_eq!(sales[0]["tenders"][0]["change"], 260);
    assert!(Command::new("kill").args(["-INT", &sandbox.0.id().to_string()]).status().unwrap().success());
    let status = sandbox.0.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(!Path::new(&folder).exists(), "{folder} is left behind");
}
