//! The organiser's page in a real browser: `tests/browser/eyes.mjs` looks, by roles and names, and this says what must be
//! there.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use stallmesh_tests::processes::{Market, Node, is_ci, order, product, stallmesh, until};

/// A name that would run if it were taken for anything but text.
const HOSTILE: &str = "<img src=x onerror=\"ran=1;alert(1)\">";

/// A browser that shows one page. It ends with its standard input.
struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Where `tests/run` puts what the browser needs; none where something is missing, which in CI is a failure.
pub(super) fn installed() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(3).unwrap().join("browser");
    let runs =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    let missing = if !folder.join("node_modules/playwright-core/package.json").exists() {
        "playwright-core"
    } else if !runs("node") {
        "node"
    } else if !Path::new("/usr/bin/chromium").exists() && std::env::var_os("CHROMIUM").is_none() {
        "chromium"
    } else {
        return Some(folder);
    };
    assert!(!is_ci(), "{missing} is missing: tests/run installs it");
    eprintln!("{missing} is missing: the page is not looked at in a browser; tests/run installs it");
    None
}

impl Browser {
    fn open(folder: &Path, node: &Node) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/eyes.mjs");
        until("its page has an address", || match std::fs::read_to_string(node.directory.join("api.url")) {
            Ok(url) if !url.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let (address, token) = node.tcp();
        let mut child = Command::new("node")
            .arg(script)
            .arg(folder)
            .arg(format!("http://{address}/?token={token}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Browser { child, input, output }
    }

    fn ask(&mut self, command: &str) -> Value {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: `{line}`: {error}"))
    }

    /// Looks until the page shows something.
    fn until(&mut self, what: &str, shows: impl Fn(&Value) -> bool) -> Value {
        until(what, || {
            let seen = self.ask("look");
            if shows(&seen) { Ok(seen) } else { Err(seen.to_string()) }
        })
    }

    /// What must hold of every page at its end.
    fn close(mut self, node: &Node) {
        let report = self.ask("report");
        let (address, _) = node.tcp();
        let requests = report["requests"].as_array().unwrap();
        assert!(requests.len() > 5, "{report}");
        for request in requests {
            assert!(request.as_str().unwrap().starts_with(&format!("http://{address}/")), "{request} left");
        }
        assert_eq!((&report["console"], &report["errors"]), (&json!([]), &json!([])));
        assert_eq!((&report["dialogs"], &report["navigations"]), (&json!(0), &json!(0)), "it was loaded once");
        let policy = report["policy"].as_str().unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// The cells of the row that has this one.
fn row<'a>(table: &'a Value, cell: &str) -> Option<Vec<&'a str>> {
    let rows = table.as_array()?.iter().map(|row| row.as_array().unwrap().iter().map(|cell| cell.as_str().unwrap()));
    rows.map(Iterator::collect::<Vec<_>>).find(|row| row.contains(&cell))
}

fn figure<'a>(seen: &'a Value, name: &str) -> &'a str {
    seen["figures"][name].as_str().unwrap_or_default()
}

#[test]
fn the_organisers_page_shows_the_market_and_follows_it_without_a_reload() {
    let Some(folder) = installed() else { return };
    let market = Market::make();
    let mut till = market.node("till");
    till.set("STALLMESH_UPLINK_ENABLED", "true").start();
    till.send("POST", "/v1/join", &json!({ "invite": market.invite("till"), "name": HOSTILE }));
    till.until("is a member", |status| status["role"] != "none");
    product(&till, "MUG", 1250);
    till.send("POST", "/v1/sales", &order("first", "MUG"));
    market.until_received(1);

    let mut page = Browser::open(&folder, &market.hub);
    let seen = page.until("the first sale", |seen| figure(seen, "Sales received") == "1");
    assert_eq!((&seen["market"], &seen["connection"]), (&json!(["Test market"]), &json!(["live"])));
    assert_eq!(seen["leads"], json!([]), "a hub sells nothing");
    let member = row(&seen["members"], "till").unwrap();
    assert_eq!((&member[..4], member[5]), (&[HOSTILE, "stall", "till", "valid"][..], "up"));
    assert!(member[4].starts_with("20") && member[4].len() == 16, "until when its certificate is valid: {member:?}");
    assert!(row(&seen["members"], "hub").unwrap().contains(&"valid"), "{seen}");
    assert_eq!(row(&seen["links"], "till").unwrap()[1], "uplink");
    // Twelve and a half in cash, five percent of it the market's, and the rest owed to the stall.
    let balance = |seen: &Value| row(&seen["ledger"], "stall-payable:till").map(|row| row[1].to_owned());
    let first = balance(&seen);

    till.send("POST", "/v1/sales", &order("second", "MUG"));
    let seen = page.until("the second sale", |seen| figure(seen, "Sales received") == "2");
    assert_eq!(figure(&seen, "In suspense"), "0");
    market.settle();
    let seen = page.until("the settlement", |seen| figure(seen, "Settlements") == "1");
    assert_eq!(figure(&seen, "Posted"), "2");
    assert_eq!((first, balance(&seen)), (Some("-11.87 EUR".into()), Some("-23.74 EUR".into())), "{}", seen["ledger"]);

    page.ask("shot 1280 hub-selling");
    till.stop();
    page.until("the stall is gone", |seen| seen["links"] == json!([]));
    assert_eq!((&seen["images"], &seen["ran"]), (&json!(0), &Value::Null), "a name was taken for markup");
    for width in [1280, 360] {
        let wants = page.ask(&format!("shot {width} hub-{width}"));
        assert_eq!(wants["width"], width, "the page is wider than the screen");
    }
    page.close(&market.hub);
}

#[test]
fn a_stalls_page_shows_where_each_of_its_sales_is() {
    let Some(folder) = installed() else { return };
    let mut market = Market::make();
    let till = market.stall("till");
    market.hub.kill();
    till.until("has no path", |status| status["uplink"]["up"] == false);
    till.send("POST", "/v1/sales", &order("first", "MUG"));
    let mut page = Browser::open(&folder, &till);
    let seen = page.until("the sale", |seen| figure(seen, "Sales here") == "1");
    assert_eq!((figure(&seen, "At the hub"), figure(&seen, "Settled")), ("0", "0"));
    assert_eq!(seen["ledger"], json!([]), "a stall has no ledger to show");
    assert_eq!(seen["leads"], json!(["Open the till"]));
    market.hub.start();
    page.until("the sale is at the hub", |seen| figure(seen, "At the hub") == "1");
    market.settle();
    page.until("the sale is settled", |seen| figure(seen, "Settled") == "1");
    page.ask("shot 360 till-360");
    page.close(&till);
}

#[test]
fn a_market_whose_name_is_markup_is_shown_by_its_name() {
    let Some(folder) = installed() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut hub = Node::new(home.path(), "hub");
    let directory = hub.directory.display().to_string();
    let made = stallmesh(&["--data-dir", &directory, "market", "create", HOSTILE]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    hub.start();
    let mut page = Browser::open(&folder, &hub);
    let seen = page.until("the market's name", |seen| seen["market"] == json!([HOSTILE]));
    assert_eq!((&seen["images"], &seen["ran"]), (&json!(0), &Value::Null), "a name was taken for markup");
    page.close(&hub);
}
