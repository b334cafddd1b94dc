//! The till page in a real browser: `tests/browser/till.mjs` touches, types and looks, by roles and names; this says what
//! is done and what must come of it, here and on the node.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use stallmesh_tests::processes::{CardReader, Market, Node, free_port, is_ci, stallmesh, until};

use super::browser::installed;

/// A name that would run if it were taken for anything but text.
const HOSTILE: &str = "<img src=x onerror=\"ran=1;alert(1)\">";

/// A browser with tabs of tills, by their numbers. It ends with its standard input.
struct Till {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// The address of a node's page, with the token.
fn page_of(node: &Node) -> String {
    until("its till has an address", || match std::fs::read_to_string(node.directory.join("till.url")) {
        Ok(url) if url.ends_with('\n') => Ok(url.trim().to_owned()),
        other => Err(format!("{other:?}")),
    })
}

impl Till {
    /// A browser with one tab, 0, that shows a node's till; none where something is missing that it needs.
    fn open(node: &Node) -> Option<Self> {
        let folder = installed()?;
        let page = node.ask("GET", "/till", &Value::Null).unwrap();
        if String::from_utf8_lossy(&page.body).contains("without the till page") {
            assert!(!is_ci(), "the program was built without the till page");
            eprintln!("the program was built without the till page: it is not looked at");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/till.mjs");
        let mut child =
            Command::new("node").arg(script).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut till = Till { child, input, output };
        till.tab(0, node);
        Some(till)
    }

    /// Opens a tab, and waits until it shows the node.
    fn tab(&mut self, tab: u32, node: &Node) {
        self.ask(&json!(["open", tab, page_of(node)]));
        self.until(tab, "the till is there", |seen| text(seen, "connections").contains("neighbour"));
    }

    fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: `{line}`: {error}"));
        assert!(answer["failed"].is_null(), "{command}: {}", answer["failed"]);
        answer
    }

    fn scan(&mut self, tab: u32, codes: &[&str]) {
        let command: Vec<Value> =
            [json!("scan"), json!(tab)].into_iter().chain(codes.iter().map(|code| json!(code))).collect();
        self.ask(&Value::Array(command));
    }

    fn touch(&mut self, tab: u32, name: &str) {
        self.ask(&json!(["touch", tab, name]));
    }

    fn touches(&mut self, tab: u32) -> u64 {
        self.ask(&json!(["count", tab]))["touches"].as_u64().unwrap()
    }

    fn keys(&mut self, tab: u32, keys: &[&str]) {
        let command: Vec<Value> =
            [json!("keys"), json!(tab)].into_iter().chain(keys.iter().map(|key| json!(key))).collect();
        self.ask(&Value::Array(command));
    }

    /// Looks until the tab shows something.
    fn until(&mut self, tab: u32, what: &str, shows: impl Fn(&Value) -> bool) -> Value {
        until(what, || {
            let seen = self.ask(&json!(["look", tab]));
            if shows(&seen) { Ok(seen) } else { Err(seen.to_string()) }
        })
    }

    /// Waits for a total.
    fn until_total(&mut self, tab: u32, total: &str) -> Value {
        self.until(tab, &format!("the total is {total}"), |seen| seen["total"] == total)
    }

    /// Waits for the basket's lines and fees.
    fn until_lines(&mut self, tab: u32, lines: &[&str]) -> Value {
        self.until(tab, &format!("the lines are {lines:?}"), |seen| list(seen, "lines") == lines)
    }

    /// Waits until the basket is a sale whose safety is shown.
    fn until_sold(&mut self, tab: u32) -> Value {
        self.until(tab, "it is sold", |seen| seen["safety"].is_string() && seen["total"].is_null())
    }

    fn is_inside(&mut self, tab: u32, role: &str, name: &str) {
        let seen = self.ask(&json!(["seen", tab, role, name]));
        assert_eq!(seen["inside"], true, "{role} `{name}`: {seen}");
    }

    /// What must hold of every page at its end. Refusals and a node that is gone are said on the console by the browser.
    fn close(mut self, node: &Node, refused: bool) {
        let report = self.ask(&json!(["report"]));
        let (address, _) = node.tcp();
        let requests = report["requests"].as_array().unwrap();
        assert!(requests.len() > 8, "{report}");
        for request in requests {
            assert!(request.as_str().unwrap().starts_with(&format!("http://{address}/")), "{request} left");
        }
        let console = report["console"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        let said: Vec<&str> =
            console.filter(|line| !(refused && line.starts_with("error: Failed to load resource"))).collect();
        assert_eq!((said, &report["errors"]), (vec![], &json!([])));
        assert_eq!(report["dialogs"], 0);
        let policy = report["policy"].as_str().unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// What is shown under a name; nothing where it isn't.
fn text<'a>(seen: &'a Value, name: &str) -> &'a str {
    seen[name].as_str().unwrap_or_default()
}

fn list(seen: &Value, name: &str) -> Vec<String> {
    seen[name].as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn offer(node: &Node) {
    node.send(
        "PUT",
        "/v1/catalog",
        &json!([
            { "sku": "MUG", "name": "Mug", "price": 1250, "barcodes": ["4006381333931"] },
            { "sku": "CARD", "name": "Postcard", "price": 120, "barcodes": ["0036000291452"] },
            { "sku": "BAD", "name": HOSTILE, "price": 300 },
        ]),
    );
}

const MUG: &str = "4006381333931";
const POSTCARD: &str = "0036000291452";

/// A market, and a stall with something to sell whose API comes back to the same port.
fn market() -> (Market, Node) {
    let market = Market::make();
    let mut till = market.node("till");
    till.set("STALLMESH_UPLINK_ENABLED", "true").set("STALLMESH_API_LISTEN", &format!("127.0.0.1:{}", free_port()));
    till.start();
    market.admit(&till, "till");
    offer(&till);
    (market, till)
}

fn sales(node: &Node) -> Vec<Value> {
    node.get("/v1/sales").as_array().unwrap().clone()
}

#[test]
fn cash_takes_one_touch_a_note_two_and_the_next_sale_none() {
    let (market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.scan(0, &[MUG, POSTCARD]);
    till.until_total(0, "13.70");
    till.touch(0, "Cash 13.70");
    let seen = till.until_sold(0);
    assert_eq!((&seen["sold"], &seen["change"], till.touches(0)), (&json!("13.70"), &Value::Null, 1));

    // Nothing is touched for the next one, and the last one's safety is there until then.
    till.until(0, "the first is at the hub", |seen| seen["safety"] == "At the hub");
    till.scan(0, &[MUG]);
    let seen = till.until_total(0, "12.50");
    assert_eq!((&seen["safety"], till.touches(0)), (&Value::Null, 0));
    till.touch(0, "Given 20");
    till.touch(0, "Take 20, change 7.50");
    let seen = till.until_sold(0);
    assert_eq!((&seen["change"], till.touches(0)), (&json!("7.50"), 2));

    // A page that is opened anew shows it too: nothing of it was only there.
    till.ask(&json!(["reload", 0]));
    till.until(0, "the last sale's change", |seen| seen["change"] == "7.50");
    let sold: Vec<_> = sales(&node).iter().map(|sale| sale["total"].clone()).collect();
    assert_eq!(sold, [1250, 1370]);
    market.until_received(2);
    till.close(&node, false);
}

#[test]
fn a_basket_stays_on_the_node_over_a_reload_and_is_changed_by_touch() {
    let (_market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.touch(0, "Mug 12.50");
    till.until_total(0, "12.50");
    till.ask(&json!(["reload", 0]));
    till.until_lines(0, &["1 Mug 12.50"]);
    till.touch(0, "Change Mug");
    till.touch(0, "One more");
    till.until_total(0, "25.00");
    till.ask(&json!(["fill", 0, "Unit price", "11,00"]));
    till.keys(0, &["{Enter}"]);
    till.until_total(0, "22.00");
    till.until(0, "whose price it is", |seen| text(seen, "all").contains("11.00 each, own price"));
    // What can't be a price changes nothing, and stays to be mended.
    till.ask(&json!(["fill", 0, "Unit price", "1,100.5"]));
    till.keys(0, &["{Enter}"]);
    assert_eq!(till.ask(&json!(["value", 0, "Unit price"]))["value"], "1,100.5");
    till.touch(0, "Catalog price");
    till.until_total(0, "25.00");
    till.ask(&json!(["fill", 0, "Quantity", "3"]));
    till.keys(0, &["{Enter}"]);
    till.until_total(0, "37.50");
    till.touch(0, "Put aside");
    till.until(0, "it is aside", |seen| list(seen, "held") == ["Open basket of 37.50"]);
    till.scan(0, &[POSTCARD]);
    till.until_total(0, "1.20");
    till.touch(0, "Change Postcard");
    till.touch(0, "Take out");
    till.until(0, "it is out", |seen| seen["total"].is_null());
    till.touch(0, "Open basket of 37.50");
    till.until_total(0, "37.50");
    till.touch(0, "Empty");
    till.until_total(0, "37.50");
    till.touch(0, "Take all out");
    till.until(0, "it is empty", |seen| seen["total"].is_null());
    assert_eq!(sales(&node).len(), 0);
    till.close(&node, false);
}

#[test]
fn a_reduction_says_why_and_so_does_a_code_that_does_not_act() {
    let (_market, node) = market();
    node.send(
        "PUT",
        "/v1/promotions",
        &json!({ "give": [
            { "id": "HELLO", "name": "Welcome", "effect": { "percentage": "10" }, "requires": { "codes": ["HELLO"] } },
            { "id": "OLD", "name": "Long ago", "effect": { "percentage": "50" }, "requires": { "codes": ["OLD"] },
              "ends_at": "2020-01-01T00:00:00Z" },
            { "id": "CUP", "name": "Deposit", "effect": { "fee": { "amount": 100, "each": true } },
              "items": { "skus": ["MUG"] } },
        ] }),
    );
    let Some(mut till) = Till::open(&node) else { return };
    till.scan(0, &[MUG]);
    till.until_lines(0, &["1 Mug 12.50", "Deposit 1.00"]);
    till.until_total(0, "13.50");
    for code in ["HELLO", "OLD", "NONE"] {
        till.touch(0, "Add a code");
        till.ask(&json!(["fill", 0, "Code", code]));
        till.keys(0, &["{Enter}"]);
        till.until(0, code, |seen| list(seen, "codes").iter().any(|shown| shown.starts_with(code)));
    }
    till.until_total(0, "12.25");
    let seen = till.until_lines(0, &["1 Mug 12.50 Welcome 10 % of 12.50 \u{2212}1.25", "Deposit 1.00"]);
    let codes = list(&seen, "codes");
    assert!(codes[0].starts_with("HELLO acts"), "{codes:?}");
    assert!(codes[1].starts_with("OLD expired: ") && codes[1].contains("2020"), "{codes:?}");
    assert!(codes[2].starts_with("NONE unknown: "), "{codes:?}");
    till.touch(0, "Take HELLO back");
    till.until_total(0, "13.50");
    till.until(0, "two codes are left", |seen| list(seen, "codes").len() == 2);
    till.touch(0, "Cash 13.50");
    till.until_sold(0);
    assert_eq!(sales(&node)[0]["total"], 1350);
    till.close(&node, false);
}

#[test]
fn a_split_bill_shows_what_is_covered_and_what_is_left_and_stays_on_the_node() {
    let (market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.scan(0, &[MUG, POSTCARD]);
    till.until_total(0, "13.70");
    till.touch(0, "Split");
    till.ask(&json!(["fill", 0, "Amount of this part", "5"]));
    till.touch(0, "Cash");
    let covered = |covered: &'static str, left: &'static str| {
        move |seen: &Value| (text(seen, "covered"), text(seen, "left"), text(seen, "total")) == (covered, left, "13.70")
    };
    till.until(0, "a part is covered", covered("5.00", "8.70"));
    till.ask(&json!(["reload", 0]));
    till.until(0, "it is covered still", covered("5.00", "8.70"));
    // Names and numbers of a page come one after the other.
    let is_listed = |seen: &Value| list(seen, "parts").first().is_some_and(|part| part.starts_with("Cash taken"));
    till.until(0, "the part is listed", is_listed);
    till.touch(0, "Void Cash 5.00");
    till.until(0, "it is void", |seen| text(seen, "left") == "13.70");
    till.ask(&json!(["fill", 0, "Amount of this part", "10,50"]));
    till.touch(0, "Cash");
    till.until(0, "a part is covered", covered("10.50", "3.20"));
    for (width, height) in [(360, 480), (1024, 600)] {
        till.ask(&json!(["size", 0, width, height]));
        till.ask(&json!(["shot", 0, format!("till-parts-{width}x{height}")]));
        for figure in ["Left", "Covered", "Total"] {
            till.is_inside(0, "status", figure);
        }
        till.is_inside(0, "button", "Void Cash 10.50");
        till.is_inside(0, "button", "Own terminal");
    }
    till.touch(0, "Tip, reference");
    till.ask(&json!(["fill", 0, "Reference of the own terminal", "terminal 7, slip 12"]));
    till.touch(0, "Own terminal");
    till.until_sold(0);
    let sold = &sales(&node)[0];
    let tenders: Vec<_> = sold["tenders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tender| (tender["kind"].clone(), tender["amount"].clone()))
        .collect();
    assert_eq!(tenders, [(json!("cash"), json!(1050)), (json!("outside"), json!(320))], "{sold}");
    market.until_received(1);
    till.close(&node, false);
}

#[test]
fn without_an_uplink_the_bar_says_so_and_the_customer_sees_none_of_it() {
    let (mut market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.until(0, "a way", |seen| text(seen, "connections").contains("Hub connected"));
    market.hub.kill();
    till.until(0, "no way", |seen| text(seen, "connections").contains("No way to the hub"));
    till.ask(&json!(["open", 1, format!("{}#customer", page_of(&node))]));
    till.scan(0, &[MUG, POSTCARD]);
    till.until_lines(1, &["1 Mug 12.50", "1 Postcard 1.20"]);
    for tab in [0, 1] {
        till.until_total(tab, "13.70");
    }
    till.touch(0, "Given 20");
    till.touch(0, "Take 20, change 6.30");
    let seen = till.until(0, "it waits", |seen| text(seen, "connections").contains("1 sale wait"));
    assert_eq!(seen["safety"], "On this device");
    let customer = till.until(1, "the change", |seen| seen["change"] == "6.30");
    for word in ["hub", "neighbour", "wait", "captured", "device", "copies"] {
        assert!(!text(&customer, "all").to_lowercase().contains(word), "`{word}`: {customer}");
    }
    assert_eq!((&customer["connections"], &customer["buttons"]), (&Value::Null, &json!(0)));
    market.hub.start();
    till.until(0, "it is at the hub", |seen| seen["safety"] == "At the hub");
    till.until(0, "a way", |seen| text(seen, "connections").contains("Hub connected"));
    market.settle();
    till.until(0, "it is settled", |seen| seen["safety"] == "Settled");
    till.close(&node, false);
}

#[test]
fn a_node_that_is_killed_in_mid_sale_has_the_sale_once_or_the_basket_still() {
    let (_market, mut node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.scan(0, &[MUG, POSTCARD]);
    till.until_total(0, "13.70");
    node.kill();
    let seen = till.until(0, "it says so", |seen| text(seen, "connections").contains("does not answer"));
    assert_eq!(seen["total"], "13.70", "what was there is there");
    // What is scanned and typed now isn't lost, nor is a touch doubled by another.
    till.scan(0, &[MUG]);
    till.until(0, "it waits", |seen| text(seen, "connections").contains("1 entry waits"));
    till.ask(&json!(["fill", 0, "Search products", "post"]));
    node.start();
    till.until_total(0, "26.20");
    till.until_lines(0, &["2 Mug 12.50 each 25.00", "1 Postcard 1.20"]);
    assert_eq!(till.ask(&json!(["value", 0, "Search products"]))["value"], "post");

    // Killed while the sale is on its way: whichever came first, it is sold once.
    node.kill();
    till.ask(&json!(["twice", 0, "Cash 26.20"]));
    node.start();
    till.until_sold(0);
    assert_eq!(sales(&node).len(), 1);
    for round in 1..=5 {
        till.scan(0, &[POSTCARD]);
        till.until_total(0, "1.20");
        till.touch(0, "Cash 1.20");
        node.kill();
        node.start();
        till.until_sold(0);
        assert_eq!(sales(&node).len(), round + 1, "round {round}");
    }
    till.close(&node, true);
}

#[test]
fn an_answer_that_is_lost_doubles_nothing() {
    let (_market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.ask(&json!(["lose", 0, "POST", "/v1/baskets$"]));
    till.ask(&json!(["lose", 0, "POST", "/changes$"]));
    till.scan(0, &[MUG]);
    till.until_total(0, "12.50");
    till.ask(&json!(["lose", 0, "POST", "/changes$"]));
    till.scan(0, &[MUG, MUG]);
    till.until_total(0, "37.50");
    till.ask(&json!(["lose", 0, "POST", "/sale$"]));
    till.touch(0, "Cash 37.50");
    till.until_sold(0);
    assert_eq!((sales(&node).len(), sales(&node)[0]["total"].clone()), (1, json!(3750)));
    assert_eq!(node.get("/v1/baskets"), json!([]), "no second basket was opened");
    till.close(&node, true);
}

#[test]
fn a_scanners_burst_is_counted_in_order_whatever_has_the_focus() {
    let (_market, node) = market();
    let products: Vec<Value> = (0..40)
        .map(|number| {
            let code = format!("STALL-{number:03}");
            json!({ "sku": format!("P{number:02}"), "name": format!("Thing {number:02}"), "price": 100 + number, "barcodes": [code] })
        })
        .collect();
    node.send("PUT", "/v1/catalog", &Value::Array(products));
    let Some(mut till) = Till::open(&node) else { return };
    let codes: Vec<String> = (0..40).map(|number| format!("STALL-{number:03}")).collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    till.scan(0, &codes);
    let seen = till.until(0, "all are there", |seen| list(seen, "lines").len() == 40);
    let expected: Vec<String> =
        (0..40).map(|number| format!("1 Thing {number:02} {}.{:02}", 1 + number / 100, number % 100)).collect();
    assert_eq!(list(&seen, "lines"), expected);
    // On a button a scanner's Enter presses nothing; a code that nobody has says so, and the rest is counted.
    till.ask(&json!(["focus", 0, "button", "Cash 47.80"]));
    till.scan(0, &["STALL-000", "STALL-999", "STALL-001"]);
    till.until_total(0, "49.81");
    let seen = till.until(0, "it says which", |seen| list(seen, "messages").len() == 1);
    assert!(list(&seen, "messages")[0].contains("STALL-999"), "{seen}");
    // In the search field it isn't taken for a search, and what was typed there stays.
    till.ask(&json!(["fill", 0, "Search products", "Thing 1"]));
    till.ask(&json!(["focus", 0, "textbox", "Search products"]));
    till.scan(0, &["STALL-002"]);
    till.until_total(0, "50.83");
    assert_eq!(till.ask(&json!(["value", 0, "Search products"]))["value"], "Thing 1");
    assert_eq!(sales(&node).len(), 0, "no key was pressed");
    till.close(&node, true);
}

#[test]
fn two_tabs_have_one_basket_and_sell_it_once() {
    let (_market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.tab(1, &node);
    // Both begin at once: it is the same basket.
    till.scan(0, &[MUG]);
    till.scan(1, &[POSTCARD]);
    for tab in [0, 1] {
        till.until_total(tab, "13.70");
    }
    till.touch(1, "Change Mug");
    till.touch(1, "One more");
    till.until_total(0, "26.20");
    till.ask(&json!(["together", [0, "Cash 26.20"], [1, "Cash 26.20"]]));
    for tab in [0, 1] {
        till.until_sold(tab);
    }
    assert_eq!((sales(&node).len(), sales(&node)[0]["total"].clone()), (1, json!(2620)));
    // Exact in one, a note in the other: one sale still.
    till.scan(1, &[POSTCARD]);
    for tab in [0, 1] {
        till.until_total(tab, "1.20");
    }
    till.touch(0, "Given 2");
    till.ask(&json!(["together", [0, "Take 2, change 0.80"], [1, "Cash 1.20"]]));
    for tab in [0, 1] {
        till.until_sold(tab);
    }
    assert_eq!(sales(&node).len(), 2);
    // A tab that doesn't hear of a change takes nothing for the total that it shows.
    till.scan(0, &[MUG]);
    till.until_total(1, "12.50");
    till.ask(&json!(["deafen", 0]));
    till.scan(1, &[POSTCARD]);
    till.until_total(1, "13.70");
    till.touch(0, "Cash 12.50");
    till.until_total(0, "13.70");
    till.until(0, "it says so", |seen| list(seen, "messages") == ["The total is 13.70 now. Nothing was taken."]);
    assert_eq!(sales(&node).len(), 2);
    // What is scanned where it isn't known yet that the basket was sold goes into the next one.
    till.touch(1, "Cash 13.70");
    till.until_sold(1);
    till.scan(0, &[MUG]);
    for tab in [0, 1] {
        till.until_total(tab, "12.50");
    }
    assert_eq!(sales(&node).len(), 3);
    till.close(&node, true);
}

#[test]
fn names_stay_text_and_nothing_is_wider_than_a_phone_or_below_a_low_screen() {
    let (_market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    let seen = till.until(0, "the tiles", |seen| list(seen, "products").len() == 3);
    assert!(list(&seen, "products").iter().any(|name| name.starts_with(HOSTILE)), "{seen}");
    till.touch(0, &format!("{HOSTILE} 3.00"));
    let seen = till.until_lines(0, &[&format!("1 {HOSTILE} 3.00")]);
    assert_eq!((&seen["images"], &seen["ran"]), (&json!(0), &Value::Null), "a name was taken for markup");
    till.scan(0, &[MUG, POSTCARD]);
    till.until_total(0, "16.70");
    for (width, height) in [(360, 640), (360, 480), (1024, 600), (1280, 900)] {
        let wants = till.ask(&json!(["size", 0, width, height]));
        assert_eq!(
            (&wants["width"], &wants["height"]),
            (&json!(width), &json!(height)),
            "it is larger than the screen"
        );
        till.ask(&json!(["shot", 0, format!("till-page-{width}x{height}")]));
        for name in ["Cash 16.70", "Given 20"] {
            till.is_inside(0, "button", name);
        }
        till.is_inside(0, "status", "Total");
        assert_eq!(till.ask(&json!(["small", 0])), json!([]), "too small for a finger at {width}x{height}");
    }
    till.touch(0, "Change Mug");
    till.ask(&json!(["size", 0, 360, 640]));
    till.until(0, "it can be changed", |seen| text(seen, "all").contains("Take out"));
    assert_eq!(till.ask(&json!(["small", 0])), json!([]), "too small for a finger");
    till.touch(0, "Change Mug");
    till.touch(0, "Split");
    for (width, height) in [(360, 480), (1024, 600)] {
        till.ask(&json!(["size", 0, width, height]));
        till.ask(&json!(["shot", 0, format!("till-split-{width}x{height}")]));
        till.is_inside(0, "status", "Total");
        for name in ["Cash", "Card", "Own terminal"] {
            till.is_inside(0, "button", name);
        }
    }
    till.close(&node, false);
}

#[test]
fn a_card_by_a_reader_is_a_part_of_the_bill_and_the_bar_says_what_is_not_captured() {
    let (mut market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    market.hub.kill();
    till.until(0, "no way", |seen| text(seen, "connections").contains("No way to the hub"));
    till.scan(0, &[MUG, POSTCARD]);
    till.until_total(0, "13.70");
    // What a reader's program does: the page shows it as it comes.
    let basket = node.get("/v1/baskets")[0]["id"].as_str().unwrap().to_owned();
    let card = json!({ "kind": "card", "amount": 500, "tip": 50, "token": "tok_reader_1" });
    node.send("POST", &format!("/v1/baskets/{basket}/tenders"), &card);
    let seen = till.until(0, "the card's part", |seen| text(seen, "left") == "8.70");
    assert!(list(&seen, "parts")[0].starts_with("Card approved offline, tip 0.50"), "{seen}");
    till.touch(0, "Cash");
    till.until_sold(0);
    let seen = till.until(0, "it waits", |seen| text(seen, "connections").contains("1 sale waits, 5.50 not captured"));
    assert_eq!(seen["sold"], "13.70", "{seen}");
    market.hub.start();
    till.until(0, "it is at the hub", |seen| seen["safety"] == "At the hub");
    till.close(&node, false);
}

#[test]
fn a_card_is_one_touch_and_waits_where_the_vendor_sees_it() {
    let (mut market, mut node) = market();
    market.hub.stop();
    market.hub.set("STALLMESH_HUB_GATEWAY", "test").start();
    let policy = json!({ "risk": { "borne_by": "market", "authorise_within_ms": 15_000 } });
    market.hub.send("PUT", "/v1/checkout-rules", &policy);
    let reader = CardReader::start(market.folder().join("reader.json"), "0");
    node.stop();
    node.set("STALLMESH_READER_ADDRESS", reader.address()).start();
    node.until("it is back", |status| status["uplink"]["hops"] == 0);
    let Some(mut till) = Till::open(&node) else { return };
    till.scan(0, &[MUG]);
    till.until_total(0, "12.50");
    till.touch(0, "Card");
    let seen = till.until_sold(0);
    assert_eq!(seen["sold"], "12.50", "{seen}");
    assert_eq!(sales(&node)[0]["tenders"][0]["authorised"], "online");
    // Nobody presents a card: it is seen, nothing else can be paid meanwhile, and it can be voided.
    reader.next(&["wait", "decline"]);
    till.scan(0, &[MUG]);
    till.until_total(0, "12.50");
    till.touch(0, "Card");
    let seen = till
        .until(0, "it waits", |seen| list(seen, "parts").first().is_some_and(|part| part.contains("waits for a card")));
    assert!(list(&seen, "parts")[0].starts_with("Card asked for"), "{seen}");
    till.touch(0, "Void Card 12.50");
    till.until(0, "it is void", |seen| list(seen, "parts")[0].starts_with("Card void"));
    till.touch(0, "Card");
    let seen = till.until(0, "it is declined", |seen| {
        list(seen, "parts").get(1).is_some_and(|part| part.starts_with("Card declined"))
    });
    assert!(list(&seen, "messages").iter().any(|message| message.contains("the holder refused")), "{seen}");
    till.touch(0, "Cash");
    till.until_sold(0);
    assert_eq!(sales(&node).len(), 2);
    till.close(&node, false);
}

#[test]
fn a_market_that_asks_about_low_prices_is_answered_and_one_that_declines_says_why() {
    let (market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    let offer = |till: &mut Till| {
        till.scan(0, &[MUG]);
        till.until_total(0, "12.50");
        till.touch(0, "Change Mug");
        till.ask(&json!(["fill", 0, "Unit price", "2"]));
        till.keys(0, &["{Enter}"]);
        till.until_total(0, "2.00");
        till.touch(0, "Cash 2.00");
    };
    for _ in 0..2 {
        offer(&mut till);
        till.until_sold(0);
    }
    offer(&mut till);
    let seen = till.until(0, "a question", |seen| list(seen, "question").len() == 1);
    assert!(list(&seen, "question")[0].contains("84 % below the price"), "{seen}");
    till.touch(0, "No");
    till.until_total(0, "2.00");
    assert_eq!(sales(&node).len(), 2);
    till.touch(0, "Cash 2.00");
    till.until(0, "a question", |seen| list(seen, "question").len() == 1);
    till.touch(0, "Yes, go on");
    till.until_sold(0);
    assert_eq!(sales(&node).len(), 3);

    let mut rules = market.hub.get("/v1/checkout-rules")["fraud"].clone();
    for rule in rules["rules"].as_array_mut().unwrap() {
        if rule["id"] == "price-override" {
            rule["answer"] = json!("decline");
        }
    }
    market.hub.send("PUT", "/v1/checkout-rules", &json!({ "fraud": rules }));
    until("the till has the rules", || match node.get("/v1/checkout-rules")["fraud"] == rules {
        true => Ok(()),
        false => Err("it has others".into()),
    });
    offer(&mut till);
    till.until(0, "why", |seen| list(seen, "messages").iter().any(|text| text.contains("84 % below the price")));
    till.until_total(0, "2.00");
    assert_eq!(sales(&node).len(), 3);
    till.close(&node, true);
}

/// The answers are given in the node's place, in its shapes: what is tried is the page.
#[test]
fn a_question_shows_its_reasons_and_what_is_declined_says_why() {
    let (_market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.scan(0, &[MUG]);
    till.until_total(0, "12.50");
    let sum = "1010.00 EUR of this stall would not be captured yet";
    let velocity = "this card has paid at 4 stalls within 10 minutes";
    let problem = |code: &str, answer: &str| {
        json!({ "type": "about:blank", "title": "", "status": 0, "code": code, "detail": "see reasons", "reasons": [
            { "id": "stall_sum", "answer": answer, "sentence": sum, "known_for_ms": 0 },
            { "id": "velocity", "answer": answer, "sentence": velocity, "known_for_ms": 60_000 },
        ] })
    };
    let next = |till: &mut Till, status: u16, code: &str, answer: &str| {
        till.ask(&json!(["answer", 0, "POST", "/tenders$", status, problem(code, answer)]));
    };
    next(&mut till, 409, "E_ASK", "ask");
    till.touch(0, "Card");
    till.until(0, "the question", |seen| list(seen, "question") == [sum, velocity]);
    // A scan that comes now answers nothing, and is counted.
    till.scan(0, &[POSTCARD]);
    till.until(0, "it is asked still", |seen| list(seen, "question").len() == 2 && text(seen, "all").contains("13.70"));
    till.touch(0, "No");
    till.until_total(0, "13.70");
    next(&mut till, 409, "E_ASK", "ask");
    till.touch(0, "Card");
    next(&mut till, 409, "E_ASK", "ask");
    till.touch(0, "Yes, go on");
    till.until(0, "it asks again", |seen| list(seen, "question").len() == 2);
    next(&mut till, 402, "E_DECLINED", "decline");
    till.touch(0, "Yes, I know who it is");
    till.until(0, "why it is declined", |seen| list(seen, "messages") == [sum, velocity]);
    let asked = till.ask(&json!(["asked", 0]));
    let passed: Vec<_> =
        asked.as_array().unwrap().iter().map(|body| (body["confirmed"].clone(), body["known"].clone())).collect();
    let none = (Value::Null, Value::Null);
    assert_eq!(
        passed,
        [
            none.clone(),
            none,
            (json!(["stall_sum", "velocity"]), json!([])),
            (json!(["stall_sum"]), json!(["velocity"])),
        ],
        "{asked}"
    );
    // The basket is open still: it can be paid in another way.
    till.touch(0, "Cash 13.70");
    till.until_sold(0);
    till.close(&node, true);
}

#[test]
fn a_sale_by_keyboard_alone() {
    let (_market, node) = market();
    let Some(mut till) = Till::open(&node) else { return };
    till.keys(0, &["/"]);
    till.ask(&json!(["type", 0, "postc"]));
    till.keys(0, &["{Enter}"]);
    till.until_total(0, "1.20");
    till.keys(0, &["{Escape}", "{F9}", "5", "{Enter}"]);
    till.until(0, "the change", |seen| text(seen, "all").contains("change 3.80"));
    till.keys(0, &["{Enter}"]);
    let seen = till.until_sold(0);
    assert_eq!(seen["change"], "3.80");
    till.keys(0, &["/"]);
    till.ask(&json!(["type", 0, "mug"]));
    till.keys(0, &["{Enter}"]);
    till.until_total(0, "12.50");
    till.keys(0, &["{F2}"]);
    till.until_sold(0);
    assert_eq!((sales(&node).len(), till.touches(0)), (2, 0));
    till.close(&node, false);
}

#[test]
fn a_currency_has_its_own_decimals_notes_and_coins() {
    // What a mug costs, the smallest coin, what is shown and paid in cash, a note and its change, what was paid.
    for (currency, price, coin, (shown, cash), (note, change), paid) in [
        ("JPY", 1280, 1, ("1280", "1280"), ("5000", "3720"), 1280),
        ("KWD", 1250, 1, ("1.250", "1.250"), ("5", "3.750"), 1250),
        ("CHF", 1252, 5, ("12.52", "12.50"), ("20", "7.50"), 1250),
    ] {
        let home = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut hub = Node::new(home.path(), "hub");
        hub.set("STALLMESH_UPLINK_LISTEN", &address).set("STALLMESH_UPLINK_ADDRESSES", &address);
        let directory = hub.directory.display().to_string();
        let made = stallmesh(&["--data-dir", &directory, "market", "create", "Abroad", "--currency", currency]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        hub.start();
        let mut terms = hub.get("/v1/policy");
        terms["cash_rounding"] = json!(coin);
        hub.send("PUT", "/v1/policy", &terms);
        let order = json!({ "role": "stall", "stall": "till", "name": "till", "expires_ms": 86_400_000_u64, "valid_ms": 864_000_000_u64 });
        let invite = hub.send("POST", "/v1/invites", &order)["invite"].clone();
        let mut node = Node::new(home.path(), "till");
        node.set("STALLMESH_UPLINK_ENABLED", "true").start();
        node.send("POST", "/v1/join", &json!({ "invite": invite }));
        node.until("is a member", |status| status["role"] != "none");
        node.send("PUT", "/v1/catalog", &json!([{ "sku": "MUG", "name": "Mug", "price": price, "barcodes": [MUG] }]));
        let Some(mut till) = Till::open(&node) else { return };
        till.scan(0, &[MUG]);
        till.until_total(0, shown);
        till.until(0, "what it is in cash", |seen| text(seen, "all").contains(&format!("Cash {cash}")));
        till.touch(0, &format!("Given {note}"));
        till.touch(0, &format!("Take {note}, change {change}"));
        assert_eq!(till.until_sold(0)["change"], change);
        assert_eq!(sales(&node)[0]["total"], paid);
        till.close(&node, false);
    }
}
