//! The local HTTP interface as a program, a web page or an attacker on the same machine meets it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use stallmesh_tests::processes::{Market, Node, Reply, head, order, until};

/// A request over TCP with the token and one more header line.
fn asked(node: &Node, method: &str, path: &str, more: &str, body: &[u8]) -> Reply {
    let head = format!("{}\r\nAuthorization: Bearer TOKEN{more}", head(method, path, "HOST", body));
    node.over_tcp(&head, body).unwrap()
}

/// The stable code of a problem, after checking that it is one (RFC 9457).
fn code_of(reply: &Reply) -> String {
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{}", reply.head);
    let problem = reply.json();
    assert_eq!(problem["status"], reply.status, "{problem}");
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
    problem["code"].as_str().unwrap().to_owned()
}

#[test]
fn whoever_has_no_token_or_comes_from_another_page_is_told_nothing() {
    let market = Market::make();
    let node = market.stall("till");
    let bare = |path: &str| node.over_tcp(&head("GET", path, "HOST", b""), b"").unwrap();
    assert_eq!(bare("/health").status, 200);
    for path in ["/v1/status", "/v1/sales", "/v1/export", "/v1/events", "/", "/anything"] {
        let reply = bare(path);
        assert_eq!((reply.status, code_of(&reply).as_str()), (401, "E_SCOPE"), "{path}");
        assert!(reply.json()["detail"].as_str().unwrap().contains("api.token"), "{path}");
    }
    let wrong = format!("{}\r\nAuthorization: Bearer {}", head("GET", "/v1/status", "HOST", b""), "0".repeat(64));
    assert_eq!(node.over_tcp(&wrong, b"").unwrap().status, 401);
    // A name elsewhere that leads here.
    let rebound = format!("{}\r\nAuthorization: Bearer TOKEN", head("GET", "/v1/status", "evil.example", b""));
    let reply = node.over_tcp(&rebound, b"").unwrap();
    assert_eq!((reply.status, code_of(&reply).as_str()), (403, "E_SCOPE"));
    // Another page's write, with the token.
    let body = order("foreign", "MUG").to_string().into_bytes();
    for more in ["\r\nOrigin: https://evil.example", "\r\nOrigin: null", "\r\nSec-Fetch-Site: cross-site"] {
        let reply = asked(&node, "POST", "/v1/sales", more, &body);
        assert_eq!((reply.status, code_of(&reply).as_str()), (403, "E_SCOPE"), "{more}");
    }
    assert_eq!(node.status()["sales"]["recorded"], 0);
    assert_eq!(asked(&node, "POST", "/v1/sales", "", &body).status, 201);
}

#[test]
fn every_refusal_is_a_problem_with_a_stable_code_and_the_right_status() {
    let market = Market::make();
    let node = market.stall("till");
    let sale = |change: &dyn Fn(&mut Value)| {
        let mut order = order("key", "MUG");
        change(&mut order);
        asked(&node, "POST", "/v1/sales", "", order.to_string().as_bytes())
    };
    for (what, reply, status, code, word) in [
        ("no JSON", asked(&node, "POST", "/v1/sales", "", b"{"), 400, "E_INVALID", "EOF"),
        ("nothing", asked(&node, "POST", "/v1/sales", "", b""), 400, "E_INVALID", "EOF"),
        ("an unknown field", sale(&|order| order["notte"] = "x".into()), 400, "E_INVALID", "notte"),
        ("no key", sale(&|order| order["idempotency_key"] = "".into()), 400, "E_INVALID", "idempotency_key"),
        ("no lines", sale(&|order| order["lines"] = json!([])), 400, "E_INVALID", "lines"),
        ("an unknown SKU", sale(&|order| order["lines"][0]["sku"] = "NONE".into()), 422, "E_UNKNOWN_SKU", "NONE"),
        ("a quantity of zero", sale(&|order| order["lines"][0]["quantity"] = "0".into()), 400, "E_INVALID", "quantity"),
        (
            "too many pieces",
            sale(&|order| order["lines"][0]["quantity"] = "99999999999999999999".into()),
            422,
            "E_AMOUNT_RANGE",
            "",
        ),
        ("a wrong sum", sale(&|order| order["tenders"][0]["amount"] = 1.into()), 400, "E_INVALID", "sum to 1"),
        (
            "a card number",
            sale(&|order| order["tenders"] = json!([{ "kind": "card", "token": "4111 1111 1111 1111" }])),
            400,
            "E_INVALID",
            "card number",
        ),
        ("nesting", asked(&node, "POST", "/v1/sales", "", &b"[".repeat(100_000)), 400, "E_INVALID", "recursion"),
        ("an unknown path", asked(&node, "GET", "/v1/nothing", "", b""), 404, "E_NOT_FOUND", "/v1/nothing"),
        ("an unknown method", asked(&node, "DELETE", "/v1/sales", "", b""), 405, "E_INVALID", ""),
        ("a limit that is no number", asked(&node, "GET", "/v1/sales?limit=x", "", b""), 400, "E_INVALID", "limit"),
        (
            "an unknown sale",
            asked(&node, "GET", &format!("/v1/sales/{}", "0".repeat(32)), "", b""),
            404,
            "E_NOT_FOUND",
            "",
        ),
        ("no sale id", asked(&node, "GET", "/v1/sales/x", "", b""), 400, "E_INVALID", ""),
        ("a hub's business", asked(&node, "POST", "/v1/settle", "", b"{}"), 403, "E_NOT_HUB", "organiser"),
        (
            "too large a body",
            asked(&node, "POST", "/v1/sales", "", &vec![b' '; 2 * 1024 * 1024]),
            413,
            "E_INVALID",
            "larger",
        ),
    ] {
        let problem = reply.json();
        assert_eq!((reply.status, code_of(&reply).as_str()), (status, code), "{what}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{what}: {problem}");
    }
    assert_eq!(node.status()["sales"]["recorded"], 0);
}

#[test]
fn one_key_is_one_sale_however_often_it_is_sent_and_by_whomever() {
    let market = Market::make();
    let node = market.stall("till");
    let body = order("one", "MUG").to_string().into_bytes();
    let sales: Vec<Value> = std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| asked(&node, "POST", "/v1/sales", "", &body).json())).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert!(sales.iter().all(|sale| sale["sale"] == sales[0]["sale"] && sale["receipt"] == sales[0]["receipt"]));
    // In the header, as elsewhere on the web.
    let mut in_header = order("", "MUG");
    in_header.as_object_mut().unwrap().remove("idempotency_key");
    let reply = asked(&node, "POST", "/v1/sales", "\r\nIdempotency-Key: one", in_header.to_string().as_bytes());
    assert_eq!(reply.json()["sale"], sales[0]["sale"]);
    // With other content it is a mistake that is said.
    let mut other = order("one", "MUG");
    other["lines"][0]["quantity"] = "2".into();
    let reply = asked(&node, "POST", "/v1/sales", "", other.to_string().as_bytes());
    assert_eq!((reply.status, code_of(&reply).as_str()), (409, "E_CONFLICT"));
    assert_eq!(node.status()["sales"]["recorded"], 1);
}

#[test]
fn what_changes_is_told_as_it_happens() {
    let market = Market::make();
    let node = market.stall("till");
    let (address, token) = node.tcp();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let kind = lines.by_ref().map(Result::unwrap).find(|line| line.to_lowercase().starts_with("content-type:"));
    assert!(kind.unwrap().contains("text/event-stream"));
    let sale = node.send("POST", "/v1/sales", &order("one", "MUG"))["sale"].clone();
    let mut states = Vec::new();
    for line in lines.map(Result::unwrap) {
        let Some(event) = line.strip_prefix("data:") else { continue };
        let event: Value = serde_json::from_str(event.trim()).unwrap();
        if event["event"] == "sale" && event["sale"] == sale {
            states.push(event["state"].as_str().unwrap().to_owned());
            if event["state"] == "at_the_hub" {
                break;
            }
        }
    }
    assert_eq!(states.first().map(String::as_str), Some("this_device"), "{states:?}");
}

#[test]
fn clients_that_trickle_or_never_finish_hold_up_nobody_and_are_shown_out() {
    let market = Market::make();
    let node = market.stall("till");
    let (address, token) = node.tcp();
    let mut slow = TcpStream::connect(address).unwrap();
    write!(
        slow,
        "POST /v1/sales HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\n{{"
    )
    .unwrap();
    // Heads that never end, and connections that say nothing.
    let mut unfinished: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in unfinished.iter_mut().skip(50) {
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: ").unwrap();
    }
    for number in 0..20 {
        let body = order(&number.to_string(), "MUG").to_string().into_bytes();
        assert_eq!(asked(&node, "POST", "/v1/sales", "", &body).status, 201);
    }
    // It is told in the end; so are those without a whole head.
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("application/problem+json"), "{answer}");
    for mut stream in unfinished {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(90))).unwrap();
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok(), "a connection without a request is held for ever");
    }
}

#[test]
fn a_body_larger_than_memory_should_hold_is_refused_while_it_comes() {
    let market = Market::make();
    let node = market.stall("till");
    let before = node.memory("VmRSS");
    let (address, token) = node.tcp();
    let mut stream = TcpStream::connect(address).unwrap();
    let claimed = 1_u64 << 40;
    write!(
        stream,
        "POST /v1/catalog/import HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: {claimed}\r\n\r\n"
    )
    .unwrap();
    let chunk = vec![b'x'; 1024 * 1024];
    // Until the node has had enough.
    let taken = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(taken < 200, "{taken} MiB were taken");
    until("it is itself again", || {
        let now = node.memory("VmRSS");
        if now < before + 150 * 1024 * 1024 { Ok(()) } else { Err(format!("{now} bytes, {before} before")) }
    });
    assert!(node.memory("VmHWM") < before + 400 * 1024 * 1024);
    node.send("POST", "/v1/sales", &order("one", "MUG"));
}
