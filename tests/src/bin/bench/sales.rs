//! Recording a sale: from the HTTP request to the answer that says that it is durable.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Options;
use crate::figures::{Report, Row, Sample, Target};
use crate::nodes::{Client, Market, Node, catalog_size, products, publish, until};

/// Callers at one time.
const CALLERS: usize = 20;
/// What the API's 99th percentile may cost, in appends with fsync.
const TARGET: f64 = 4.0;

/// The floor of everything that is durable: 300 bytes appended to a file, and synced.
struct Appends {
    file: File,
    took: Sample,
}

impl Appends {
    fn open(folder: &Path) -> Self {
        Appends { file: File::create(folder.join("appends")).expect("a file"), took: Sample::default() }
    }

    fn append(&mut self) {
        let start = Instant::now();
        self.file.write_all(&[7; 300]).and_then(|()| self.file.sync_data()).expect("an append");
        self.took.add_micros(start.elapsed());
    }
}

/// Names each sale once.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn sell(client: &mut Client, sku: &str) -> Duration {
    let order = json!({
        "idempotency_key": format!("sale-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        "lines": [{ "sku": sku, "quantity": "2" }],
        "tenders": [{ "kind": "cash" }],
    })
    .to_string();
    let start = Instant::now();
    let (status, answer) = client.send("POST", "/v1/sales", order.as_bytes()).expect("the node answers");
    let took = start.elapsed();
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    took
}

/// Each of the callers records so many sales, all at once.
fn crowd(clients: &mut [Client], sku: &str, each: usize) -> Sample {
    let mut all = Sample::default();
    std::thread::scope(|scope| {
        let callers: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    let mut took = Sample::default();
                    (0..each).for_each(|_| took.add_micros(sell(client, sku)));
                    took
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| all.extend(caller.join().expect("a caller")));
    });
    all
}

fn status(client: &mut Client) -> Value {
    client.ask("GET", "/v1/status", &Value::Null)
}

fn commits(client: &mut Client) -> u64 {
    status(client)["commits"].as_u64().expect("a count of commits")
}

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let (many_products, many_sales) = if options.quick { (300, 100) } else { (10_000, 20_000) };
    let mut market = Market::open(&options.directory);
    let (mut node, mut client) = market.joined("till", &[]);
    publish(&mut client, &products("till", 20));
    // Alone from here on: nobody to whom a copy could go.
    market.hub.stop();
    let sku = "till-000007";
    at(options, report, &mut node, &mut client, "20 products, no earlier sale, alone", sku, market.folder.path());

    publish(&mut client, &products("till", many_products));
    let name = format!("{many_products} products");
    at(options, report, &mut node, &mut client, &name, sku, market.folder.path());

    let mut clients: Vec<Client> = (0..CALLERS).map(|_| node.client()).collect();
    let missing = many_sales - status(&mut client)["sales"]["recorded"].as_u64().unwrap_or(0).min(many_sales);
    crowd(&mut clients, sku, missing as usize / CALLERS + 1);
    let name = format!("{many_products} products, {many_sales} earlier sales");
    at(options, report, &mut node, &mut client, &name, sku, market.folder.path());

    // The same with somebody who takes copies, and acknowledges them.
    market.restart_hub();
    let (_neighbour, mut other) = market.joined("neighbour", &[node.address()]);
    until("the neighbour has the catalog", Duration::from_millis(20), || {
        (catalog_size(&mut other) >= many_products).then_some(())
    });
    market.hub.stop();
    let name = format!("{many_products} products, {many_sales} earlier sales, a neighbour copies");
    at(options, report, &mut node, &mut client, &name, sku, market.folder.path());
}

fn at(
    options: &Options,
    report: &mut Report,
    node: &mut Node,
    client: &mut Client,
    name: &str,
    sku: &str,
    folder: &Path,
) {
    let (rounds, alone, together) = if options.quick { (2, 5, 1) } else { (20, 50, 5) };
    let mut clients: Vec<Client> = (0..CALLERS).map(|_| node.client()).collect();
    let mut appends = Appends::open(folder);
    let (mut one, mut crowded) = (Sample::default(), Sample::default());
    let (mut commits_one, mut commits_crowd) = (0, 0);
    // What the first sale builds (the catalog, the log of this run) is a figure of its own.
    let first = sell(client, sku);
    for _ in 0..rounds {
        let before = commits(client);
        for _ in 0..alone {
            one.add_micros(sell(client, sku));
            appends.append();
        }
        let between = commits(client);
        crowded.extend(crowd(&mut clients, sku, together));
        commits_one += between - before;
        commits_crowd += commits(client) - between;
    }
    let (append_50, append_99) = (appends.took.median(), appends.took.p99());
    report.row(Row::new(format!("{name}: first sale"), first.as_secs_f64() * 1e6, "µs"));
    report.row(Row::median(format!("{name}: one caller, p50"), &one, "µs").beside("append+fsync p50", append_50));
    report.row(
        Row::p99(format!("{name}: one caller, p99"), &one, "µs")
            .beside("append+fsync p99", append_99)
            .target(Target::AtMost(TARGET)),
    );
    report.row(Row::new(
        format!("{name}: one caller, commits a sale"),
        commits_one as f64 / one.len() as f64,
        "commits",
    ));
    report.row(
        Row::median(format!("{name}: {CALLERS} callers, p50"), &crowded, "µs").beside("append+fsync p50", append_50),
    );
    report
        .row(Row::p99(format!("{name}: {CALLERS} callers, p99"), &crowded, "µs").beside("append+fsync p99", append_99));
    report.row(
        Row::new(
            format!("{name}: {CALLERS} callers, commits a sale"),
            commits_crowd as f64 / crowded.len() as f64,
            "commits",
        )
        .target(Target::AtMost(0.5)),
    );
}
