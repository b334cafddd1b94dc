//! The demo as its user runs it: real processes, real QUIC, real mDNS in namespaces of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use stallmesh_tests::processes::{is_ci, program, stallmesh};

/// One market at a time: the machine may have two cores.
static ONE_MARKET: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct Run {
    ok: bool,
    text: String,
    report: Option<Value>,
    folder: tempfile::TempDir,
}

impl Run {
    fn directory(&self) -> PathBuf {
        self.folder.path().join("market")
    }

    fn report(&self) -> &Value {
        assert!(self.ok, "{}", self.text);
        self.report.as_ref().expect("a report")
    }
}

fn demo(more: &[&str]) -> Run {
    let _turn = ONE_MARKET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    demo_by(Command::new(program()), more)
}

/// The demo by a command to which its arguments are given.
fn demo_by(mut command: Command, more: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (report, directory) = (folder.path().join("report.json"), folder.path().join("market"));
    command.args(["demo", "--headless", "--report"]).arg(&report).arg("--dir").arg(&directory).args(more);
    let output = command.output().unwrap();
    let report = std::fs::read(report).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Run { ok: output.status.success(), text: text_of(&output), report, folder }
}

fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("{} is not here: skipped", path.display());
    None
}

fn can_make_namespaces() -> bool {
    let name = format!("smtest{}", std::process::id());
    let ip = |verb: &str| Command::new("ip").args(["netns", verb, &name]).output().is_ok_and(|it| it.status.success());
    let can = ip("add") && ip("del");
    assert!(can || !is_ci(), "CI must be able to make network namespaces");
    can
}

#[test]
fn a_market_joins_sells_relays_breaks_and_settles_to_the_cent() {
    let run = demo(&["--stalls", "3", "--seconds", "1", "--seed", "7"]);
    let (report, text) = (run.report(), &run.text);
    let sales = &report["sales"];
    assert!(sales["recorded"].as_u64().unwrap() > 30, "{report}");
    for field in ["received", "settled"] {
        assert_eq!(sales[field], sales["recorded"], "{field}: {report}");
    }
    for field in ["lost", "duplicated", "suspense", "wrong_amount"] {
        assert_eq!(sales[field], 0, "{field}: {report}");
    }
    // Three sales are made by the stall that has the uplink then; all others are relayed.
    assert_eq!(sales["own_way"], 3, "{report}");
    assert_eq!(sales["relayed"].as_u64().unwrap() + 3, sales["recorded"].as_u64().unwrap(), "{report}");
    assert_eq!(report["digest"], report["digest_recomputed"]);
    assert_eq!(report["ledger_sum_minor"]["EUR"], 0);
    assert!(report["takings_minor"]["EUR"].as_u64().unwrap() > 0);
    assert_eq!(report["takings_minor"], report["settled_minor"]);
    // Promotions, codes, split bills and the stolen card: as tills were told, and as the entries say.
    for field in ["reductions_minor", "tips_minor"] {
        assert!(report[field]["EUR"].as_u64().unwrap() > 0, "{field}: {report}");
        assert_eq!(report[field], report["by_entries"][field], "{field}");
    }
    for field in ["codes", "idle_codes", "split_bills", "asked", "known", "signals"] {
        assert!(report[field].as_u64().unwrap() > 0, "{field}: {report}");
    }
    assert_eq!(report["codes"], report["by_entries"]["codes"], "{report}");
    assert_eq!(report["signals"], report["signals_told"], "{report}");
    // At each of the three stalls, after the organiser has blocked the card.
    assert_eq!((&report["declined"], &report["declined_but_sold"]), (&3.into(), &0.into()), "{report}");
    story_is_in_the_journal(&run);
    for field in [
        "devices",
        "join_ms",
        "catalog_items",
        "catalog_converged_ms",
        "record_ms",
        "received_ms",
        "rss_mb_max",
        "links",
    ] {
        assert!(!report[field].is_null(), "{field}: {report}");
    }
    assert!(report["bytes_sent"].as_u64().unwrap() > 100_000, "{report}");
    for proof in [
        " under way; ",
        "0 made a second sale",
        "12 were refused",
        "live and bulk opened 0 times",
        "0 opened. Its disk was searched for card tokens: 0 found",
        "The organiser gives 5 % off from 20.00 EUR on",
        "The code FRIEND acted in ",
        "Spring ended at",
        "Bills split between card and cash: ",
        "this card paid 4 times here within 15 minutes; usual is up to 3",
        "said \"known\", and wasn't asked again",
        "this card paid 4 times within 10 minutes in this small market",
        "Its vendor said no",
        "3 times declined, \"this card is blocked by the market\"",
        "two copies of device",
        "byte by byte",
    ] {
        assert!(text.contains(proof), "`{proof}`: {text}");
    }
    // How many of four callers wait just then is chance; that nobody does would show nothing.
    assert!(!text.contains("with 0 requests under way"), "{text}");
    if can_make_namespaces() {
        assert_eq!(report["network"], "namespaces");
        assert_eq!(report["configured_addresses"], 0);
        assert!(report["discovered_by_mdns"].as_u64().unwrap() >= 3, "{report}");
    }
    // What is left behind can be checked by anybody, in yet another order.
    let directory = run.directory();
    let (export, key) = (directory.join("hub.export"), directory.join("market.pub"));
    let again = stallmesh(&[
        "audit",
        "digest",
        export.to_str().unwrap(),
        "--market-key",
        key.to_str().unwrap(),
        "--order",
        "99",
        "--json",
    ]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap_or_else(|_| panic!("{}", text_of(&again)));
    assert_eq!(again["digest"], report["digest"]);
    let rows = |name: &str| std::fs::read(directory.join(name)).unwrap();
    assert_eq!(rows("settlement.rows"), rows("settlement-again.rows"));
    for name in ["hub", "gateway", "stall-1", "stall-2", "stall-3"] {
        assert!(directory.join(name).is_dir(), "{name}");
    }
}

/// Asked, known, no, blocked, declined: in this order, and of what was declined nothing was sold.
fn story_is_in_the_journal(run: &Run) {
    let journal = std::fs::read_to_string(run.directory().join("journal.jsonl")).unwrap();
    let lines: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        lines.iter().position(holds).unwrap_or_else(|| panic!("{what} is not in the journal"))
    };
    let asked = |line: &Value, answer: &str| line["event"] == "asked" && line["answer"] == answer;
    let known = place("an alarm that is answered with known", &|line| asked(line, "known"));
    let refused = place("an alarm that is answered with no", &|line| asked(line, "no"));
    let blocked = place("a block", &|line| line["event"] == "blocked");
    let declined = place("a declined payment", &|line| line["event"] == "declined");
    assert!(known < refused && refused < blocked && blocked < declined, "{known} {refused} {blocked} {declined}");
    let nodes: std::collections::BTreeSet<u64> =
        lines.iter().filter(|line| line["event"] == "declined").map(|line| line["node"].as_u64().unwrap()).collect();
    assert_eq!(nodes.len(), 3, "declined at every stall");
    assert_eq!(lines[declined]["reasons"], serde_json::json!(["card-blocked"]));
    assert!(lines[refused]["reasons"].to_string().contains("card-few-stalls"), "{}", lines[refused]);
}

#[test]
fn a_market_of_four_stalls_needs_no_rule_but_the_default_ones() {
    let run = demo(&["--stalls", "4", "--seconds", "0", "--seed", "9"]);
    assert_eq!(run.report()["declined"], 4, "{}", run.text);
    assert!(run.text.contains("this card paid at 4 stalls within 10 minutes; usual is up to 3"), "{}", run.text);
    assert!(!run.text.contains("small market"), "{}", run.text);
}

#[test]
fn a_market_that_is_falsified_does_not_pass() {
    for (falsify, seed, words) in [
        ("drop", "3", "lost"),
        ("double", "4", "doubled"),
        ("alter", "5", ""),
        ("signal", "6", "signals: the entries say"),
        ("reduction", "7", "reductions: the shops were told"),
        ("code", "8", "acting codes: the shops were told"),
        ("decline", "9", "payments were declined"),
    ] {
        let run = demo(&["--stalls", "2", "--seconds", "0", "--seed", seed, "--falsify", falsify]);
        assert!(!run.ok, "{falsify} was not noticed: {}", run.text);
        let error = run.text.lines().last().unwrap_or_default();
        assert!(error.starts_with("error: ") && error.contains(words), "{falsify}: {}", run.text);
        assert!(run.report.is_some_and(|report| report["error"].is_string()), "{falsify}: the report says why");
    }
}

#[test]
fn no_byte_of_an_export_can_be_altered_without_the_count_noticing() {
    const POSITIONS: usize = 300;
    let run = demo(&["--stalls", "2", "--seconds", "0", "--seed", "11"]);
    run.report();
    let directory = run.directory();
    let export = std::fs::read(directory.join("hub.export")).unwrap();
    let count = |export: &Path, rows: &Path| {
        let mut command = Command::new(program());
        command.arg("demo-count").arg("--journal").arg(directory.join("journal.jsonl"));
        command.arg("--hub-log").arg(directory.join("hub.log")).arg("--market-key").arg(directory.join("market.pub"));
        command.arg("--export").arg(export).arg("--rows").arg(rows).output().unwrap()
    };
    let honest = count(&directory.join("hub.export"), &directory.join("again.rows"));
    assert!(honest.status.success(), "{}", text_of(&honest));
    let unnoticed: Vec<usize> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let (export, directory, count, honest) = (&export, &directory, &count, &honest);
            scope.spawn(move || {
                let (file, rows) =
                    (directory.join(format!("altered-{half}")), directory.join(format!("altered-{half}.rows")));
                let mut unnoticed = Vec::new();
                for number in (half..POSITIONS).step_by(2) {
                    // Spread over the whole, first and last byte included.
                    let at = number * (export.len() - 1) / (POSITIONS - 1);
                    let mut altered = export.clone();
                    altered[at] ^= 1 << (number % 8);
                    std::fs::write(&file, altered).unwrap();
                    let output = count(&file, &rows);
                    if output.status.success() && output.stdout == honest.stdout {
                        unnoticed.push(at);
                    }
                }
                unnoticed
            })
        });
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(unnoticed.is_empty(), "of {} bytes these were altered unnoticed: {unnoticed:?}", export.len());
}

#[test]
fn the_market_runs_on_real_product_files_and_baskets() {
    let Some(baskets) = shared("groceries-baskets.csv") else { return };
    let catalogs = baskets.parent().unwrap().to_str().unwrap().to_owned();
    let run =
        demo(&["--stalls", "2", "--seconds", "1", "--catalogs", &catalogs, "--baskets", baskets.to_str().unwrap()]);
    let report = run.report();
    assert_eq!(report["sales"]["settled"], report["sales"]["recorded"], "{report}");
    assert!(run.text.contains("groceries-baskets.csv is no Shopify product file"), "{}", run.text);
    assert!(run.text.contains("9835 baskets of 169 different items"), "{}", run.text);
    assert!(report["catalog_items"].as_u64().unwrap() > 2 * 169, "{report}");
}

#[test]
fn without_namespaces_the_market_runs_on_an_interface_with_multicast_or_on_loopback() {
    let run = demo(&["--stalls", "2", "--seconds", "0", "--network", "loopback"]);
    let report = run.report();
    assert_eq!((&report["network"], &report["discovered_by_mdns"]), (&"loopback".into(), &0.into()), "{report}");
    assert_eq!(report["configured_addresses"], 2);
    assert!(report["sales"]["own_way"].as_u64().unwrap() >= 3, "{report}");
    assert!(report["sales"]["relayed"].as_u64().unwrap() >= 3, "{report}");
    if !can_make_namespaces() {
        return;
    }
    // A machine with one interface: a namespace with a cable that leads nowhere.
    let name = format!("smtest{}i", std::process::id());
    let ip = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "ip {arguments:?}: {}", text_of(&output));
    };
    ip(&["netns", "add", &name]);
    ip(&["-n", &name, "link", "add", "eth0", "type", "veth", "peer", "name", "end"]);
    ip(&["-n", &name, "addr", "add", "10.79.0.1/24", "dev", "eth0"]);
    for interface in ["lo", "eth0", "end"] {
        ip(&["-n", &name, "link", "set", interface, "up"]);
    }
    ip(&["-n", &name, "route", "add", "224.0.0.0/4", "dev", "eth0"]);
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &name]).arg(program());
    let run = {
        let _turn = ONE_MARKET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        demo_by(command, &["--stalls", "2", "--seconds", "0", "--network", "interface"])
    };
    ip(&["netns", "del", &name]);
    let report = run.report();
    assert_eq!((&report["network"], &report["configured_addresses"]), (&"interface".into(), &0.into()), "{report}");
    assert!(report["discovered_by_mdns"].as_u64().unwrap() >= 2, "{report}");
}

#[test]
fn what_can_not_work_is_said_before_any_market_runs() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, files: &[(&str, &str)]| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        files.iter().for_each(|(file, text)| std::fs::write(path.join(file), text).unwrap());
        path.display().to_string()
    };
    let nowhere = folder.path().join("nowhere").display().to_string();
    let empty = make("empty", &[]);
    let damaged = make("damaged", &[("mugs.csv", "Handle,Title,Variant Price\nmug,Mug,12.50\ncup,Cup,about three\n")]);
    let other = make("other", &[("people.csv", "Name,Age\nAda,36\n")]);
    let full = make("full", &[("file", "x")]);
    let report = folder.path().join("no/such/folder/report.json").display().to_string();
    let no_baskets = make("baskets", &[("none.csv", "\n\n")]) + "/none.csv";
    let cases: [(&[&str], &[&str]); 10] = [
        (&["--catalogs", &nowhere], &["nowhere"]),
        (&["--catalogs", &empty], &["no file named *.csv"]),
        (&["--catalogs", &damaged], &["mugs.csv", "line 3", "Variant Price", "about three"]),
        (&["--catalogs", &other], &["people.csv", "no Shopify product CSV"]),
        (&["--dir", &full], &["not empty"]),
        (&["--report", &report], &["--report", "No such file"]),
        (&["--baskets", &nowhere], &["nowhere"]),
        (&["--baskets", &no_baskets], &["no basket"]),
        (&["--stalls", "1"], &["2..=30"]),
        (&["--stalls", "31"], &["2..=30"]),
    ];
    for (arguments, words) in cases {
        let output = stallmesh(&[&["demo", "--headless"], arguments].concat());
        let text = text_of(&output);
        assert!(!output.status.success() && !text.contains("1. Join"), "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{arguments:?}: `{word}`: {text}");
        }
    }
}

/// A demo that runs beside the test.
struct Beside {
    child: Child,
    directory: PathBuf,
}

impl Beside {
    /// Starts one, and waits until it has said something.
    fn start(folder: &Path, name: &str, says: &str) -> Self {
        let directory = folder.join(name);
        let mut command = Command::new(program());
        command.args(["demo", "--headless", "--stalls", "2", "--seconds", "0", "--keep", "--dir"]).arg(&directory);
        command.arg("--report").arg(folder.join("report.json"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let found = lines.by_ref().any(|line| line.unwrap().contains(says));
        assert!(found, "it never said `{says}`");
        // Somebody must go on reading.
        std::thread::spawn(move || lines.for_each(drop));
        Beside { child, directory }
    }

    fn signal(&self, signal: &str) {
        let output = Command::new("kill").args([signal, &self.child.id().to_string()]).output().unwrap();
        assert!(output.status.success(), "{}", text_of(&output));
    }

    /// Processes that have its directory among their arguments.
    fn processes(&self) -> usize {
        let directory = self.directory.to_str().unwrap().as_bytes();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .filter(|line| line.windows(directory.len()).any(|window| window == directory))
            .count()
    }

    fn namespaces(&self) -> bool {
        let output = Command::new("ip").args(["netns", "list"]).output();
        let prefix = format!("smdemo{}", self.child.id());
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&prefix))
    }

    fn wait_until_nothing_runs(&self) {
        let start = Instant::now();
        while self.processes() > 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "{} processes still run", self.processes());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn whatever_ends_the_demo_ends_its_market() {
    let _turn = ONE_MARKET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let mut killed = Beside::start(folder.path(), "killed", "The market keeps running");
    // While it is kept the report is complete and the dashboard answers.
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    let url = report["links"]["dashboard"].as_str().unwrap();
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut page = std::net::TcpStream::connect(host).unwrap();
    page.write_all(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    page.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    assert!(killed.processes() >= 6, "hub, gateway, two stalls, helper, copy: {}", killed.processes());
    killed.signal("-KILL");
    killed.child.wait().unwrap();
    killed.wait_until_nothing_runs();
    for signal in ["-TERM", "-INT"] {
        let mut asked = Beside::start(folder.path(), signal, "2. Catalogs");
        assert!(!killed.namespaces(), "what a killed demo left is removed by the next one");
        asked.signal(signal);
        assert!(!asked.child.wait().unwrap().success());
        asked.wait_until_nothing_runs();
        assert!(!asked.namespaces(), "{signal}");
    }
}
