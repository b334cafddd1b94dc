//! The shop side: what a till orders, and the journal of what the nodes have acknowledged to it. Nothing in the journal
//! is the demo's opinion: each line is an answer or an event of a node, with the time at which it came.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::DemoError;
use crate::api::SOCKET_FILE;
use crate::cli::{CliError, client};

/// A chunk of the event stream larger than this is none of ours.
const CHUNK_MAX: usize = 1024 * 1024;

/// One line of the journal. Times are milliseconds since 1970, by this machine's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line {
    /// A node has answered: recorded.
    Recorded {
        /// Sale id.
        sale: String,
        /// Minor units.
        total: u64,
        /// ISO 4217.
        currency: String,
        /// Which node.
        node: usize,
        /// Its device key.
        device: String,
        /// When it was asked.
        begun: u64,
        /// When it answered.
        at: u64,
        /// Milliseconds that the answer took.
        took_ms: f64,
        /// The same request had been sent before.
        again: bool,
    },
    /// The selling node has said that the hub has it.
    Received {
        /// Sale id.
        sale: String,
        /// When it said so.
        at: u64,
        /// Whether it was asked; otherwise it said so by itself, as an event.
        asked: bool,
    },
    /// A node's way to the hub is about to be plugged in, or was pulled out.
    Uplink {
        /// Which node.
        node: usize,
        /// In or out.
        up: bool,
        /// When.
        at: u64,
    },
}

/// Milliseconds since 1970.
pub(super) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// The journal, shared by all tills and listeners.
#[derive(Clone)]
pub(super) struct Journal(Arc<Mutex<Inner>>);

struct Inner {
    file: std::fs::File,
    recorded: BTreeMap<String, usize>,
    received: BTreeSet<String>,
    joined: BTreeMap<usize, Instant>,
    broken: Option<std::io::Error>,
}

impl Journal {
    pub(super) fn create(path: &Path) -> Result<Self, DemoError> {
        let file = std::fs::File::create(path).map_err(DemoError::io(path.display()))?;
        Ok(Journal(Arc::new(Mutex::new(Inner {
            file,
            recorded: BTreeMap::new(),
            received: BTreeSet::new(),
            joined: BTreeMap::new(),
            broken: None,
        }))))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing that holds the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, line: &Line) -> Result<(), DemoError> {
        let mut inner = self.inner();
        match line {
            Line::Recorded { sale, node, .. } => {
                inner.recorded.insert(sale.clone(), *node);
            }
            Line::Received { sale, .. } => {
                if !inner.received.insert(sale.clone()) {
                    return Ok(());
                }
            }
            Line::Uplink { .. } => {}
        }
        let mut text = serde_json::to_vec(line).map_err(DemoError::failed)?;
        text.push(b'\n');
        inner.file.write_all(&text).map_err(DemoError::io("the journal"))
    }

    /// What a node says by itself.
    fn heard(&self, node: usize, notice: &Value) {
        let at = wall_ms();
        if notice["event"] == "joined" {
            self.inner().joined.entry(node).or_insert_with(Instant::now);
        }
        let state = notice["state"].as_str().unwrap_or_default();
        if notice["event"] == "sale" && matches!(state, "at_the_hub" | "settled" | "in_suspense") {
            let sale = notice["sale"].as_str().unwrap_or_default().to_owned();
            if let Err(DemoError::Io { source, .. }) = self.note(&Line::Received { sale, at, asked: false }) {
                self.inner().broken = Some(source);
            }
        }
    }

    /// When a node said that it is a member.
    pub(super) fn joined_at(&self, node: usize) -> Option<Instant> {
        self.inner().joined.get(&node).copied()
    }

    /// Sales of some nodes of which nobody has said yet that the hub has them.
    pub(super) fn waiting(&self, nodes: &BTreeSet<usize>) -> BTreeSet<String> {
        let inner = self.inner();
        let waiting =
            inner.recorded.iter().filter(|(sale, node)| nodes.contains(node) && !inner.received.contains(*sale));
        waiting.map(|(sale, _)| sale.clone()).collect()
    }

    /// Makes the file durable, before another process reads it.
    pub(super) fn finish(&self) -> Result<(), DemoError> {
        let mut inner = self.inner();
        match inner.broken.take() {
            Some(source) => Err(DemoError::Io { what: "the journal".into(), source }),
            None => inner.file.sync_all().map_err(DemoError::io("the journal")),
        }
    }
}

/// Numbers drawn from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    /// Another `stream` of the same seed is another sequence.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut draw = Draw(seed);
        draw.0 = draw.next() ^ stream.wrapping_mul(0xff51_afd7_ed55_8ccd);
        draw
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 where that is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What a node has acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    /// Sale id.
    pub(super) sale: String,
    /// The request.
    pub(super) order: Value,
}

/// One till: it draws orders and sends them to its node.
#[derive(Clone, Debug)]
pub(super) struct Till {
    /// Its node's number.
    pub(super) node: usize,
    /// Its node's device key.
    pub(super) device: String,
    directory: PathBuf,
    name: String,
    products: Arc<Vec<(String, u64)>>,
    items: Arc<BTreeMap<String, String>>,
    baskets: Arc<Vec<Vec<String>>>,
    draw: Draw,
    drawn: u64,
    /// What its idempotency keys begin with.
    keys: String,
}

/// What a till sells.
pub(super) struct Goods {
    pub(super) products: Arc<Vec<(String, u64)>>,
    pub(super) items: Arc<BTreeMap<String, String>>,
    pub(super) baskets: Arc<Vec<Vec<String>>>,
}

impl Till {
    /// The orders depend on the seed and the keys' beginning alone.
    pub(super) fn new(node: &super::process::Node, device: &str, goods: &Goods, seed: u64, keys: &str) -> Self {
        let stream = keys.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Till {
            node: node.index,
            device: device.to_owned(),
            directory: node.directory.clone(),
            name: node.name.clone(),
            products: goods.products.clone(),
            items: goods.items.clone(),
            baskets: goods.baskets.clone(),
            draw: Draw::new(seed, stream),
            drawn: 0,
            keys: format!("{seed}-{keys}"),
        }
    }

    /// The same till at another node: a cloned disk's.
    pub(super) fn moved_to(&self, node: &super::process::Node) -> Self {
        Till { node: node.index, directory: node.directory.clone(), name: node.name.clone(), ..self.clone() }
    }

    /// What it sells, with prices.
    pub(super) fn products(&self) -> &[(String, u64)] {
        &self.products
    }

    /// The next order.
    pub(super) fn order(&mut self) -> Value {
        self.drawn += 1;
        let key = format!("{}-{}", self.keys, self.drawn);
        let lines: Vec<Value> = if self.baskets.is_empty() {
            (0..=self.draw.below(3))
                .filter_map(|_| {
                    let (sku, _) = self.products.get(self.draw.below(self.products.len()))?;
                    Some(json!({ "sku": sku, "quantity": (1 + self.draw.below(2)).to_string() }))
                })
                .collect()
        } else {
            let basket = self.baskets.get(self.draw.below(self.baskets.len())).cloned().unwrap_or_default();
            let skus = basket.iter().filter_map(|name| self.items.get(name));
            skus.map(|sku| json!({ "sku": sku, "quantity": "1" })).collect()
        };
        let tender = if self.draw.below(2) == 0 {
            json!({ "kind": "cash" })
        } else {
            json!({ "kind": "card", "token": format!("{TOKEN}{:016x}", self.draw.next()) })
        };
        json!({ "idempotency_key": key, "lines": lines, "tenders": [tender], "operator": "Ada" })
    }

    /// Draws an order and sends it.
    pub(super) async fn sell(&mut self, journal: &Journal) -> Result<Acknowledged, DemoError> {
        let order = self.order();
        self.send(journal, &order, false).await.map_err(|error| self.failed(&error))
    }

    /// Sends an order, and writes down what was acknowledged.
    pub(super) async fn send(&self, journal: &Journal, order: &Value, again: bool) -> Result<Acknowledged, CliError> {
        let (begun, clock) = (wall_ms(), Instant::now());
        let answer = self.send_unnoted(order).await?;
        let took_ms = clock.elapsed().as_secs_f64() * 1000.0;
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        let (sale, total) = (text("sale"), answer["total"].as_u64().unwrap_or(0));
        let (node, device, currency) = (self.node, self.device.clone(), text("currency"));
        let at = wall_ms();
        let line = Line::Recorded { sale: sale.clone(), total, currency, node, device, begun, at, took_ms, again };
        journal.note(&line).map_err(|error| CliError::Failed(error.to_string()))?;
        Ok(Acknowledged { sale, order: order.clone() })
    }

    /// Sends an order of which the journal doesn't know.
    pub(super) async fn send_unnoted(&self, order: &Value) -> Result<Value, CliError> {
        client::ask(&self.directory, "POST", "/v1/sales", Some(order)).await
    }

    pub(super) fn failed(&self, error: &CliError) -> DemoError {
        DemoError::Failed(format!("{}: {error}", self.name))
    }
}

/// What all card tokens of the demo begin with.
pub(super) const TOKEN: &str = "tok_demo_";

/// All sales of a node, page by page: (sale id, state).
pub(super) async fn list_sales(directory: &Path) -> Result<Vec<(String, String)>, DemoError> {
    let mut sales: Vec<(String, String)> = Vec::new();
    loop {
        let before = sales.last().map(|(sale, _)| format!("&before={sale}")).unwrap_or_default();
        let page = client::ask(directory, "GET", &format!("/v1/sales?limit=1000{before}"), None)
            .await
            .map_err(DemoError::failed)?;
        let page = page.as_array().cloned().unwrap_or_default();
        if page.is_empty() {
            return Ok(sales);
        }
        let text = |sale: &Value, field: &str| sale[field].as_str().unwrap_or_default().to_owned();
        sales.extend(page.iter().map(|sale| (text(sale, "sale"), text(sale, "state"))));
    }
}

/// Listens to a node's events until its process ends. Returns once the node has begun to tell.
pub(super) async fn listen(node: usize, directory: &Path, journal: &Journal) -> Result<(), DemoError> {
    let failed = DemoError::io("a node's events");
    let mut stream = UnixStream::connect(directory.join(SOCKET_FILE)).await.map_err(failed)?;
    let head = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head.as_bytes()).await.map_err(DemoError::io("a node's events"))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).await.map_err(DemoError::io("a node's events"))?;
        if read == 0 {
            return Err(DemoError::Failed("a node's events: it stopped answering".into()));
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let journal = journal.clone();
    tokio::spawn(async move {
        let mut text = Vec::new();
        while let Some(chunk) = read_chunk(&mut reader).await {
            text.extend_from_slice(&chunk);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data: ")
                    && let Ok(notice) = serde_json::from_slice::<Value>(data)
                {
                    journal.heard(node, &notice);
                }
            }
        }
    });
    Ok(())
}

/// One chunk of a chunked body (RFC 9112, section 7.1).
async fn read_chunk(reader: &mut BufReader<UnixStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    let length = usize::from_str_radix(line.trim(), 16).ok().filter(|length| *length > 0 && *length <= CHUNK_MAX)?;
    let mut chunk = vec![0; length];
    reader.read_exact(&mut chunk).await.ok()?;
    reader.read_line(&mut line).await.ok()?;
    Some(chunk)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn till(seed: u64, keys: &str) -> Till {
        let products = (0..40).map(|number| (format!("SKU-{number}"), 100 + number)).collect();
        let names: Vec<String> = (0..40).map(|number| format!("item {number}")).collect();
        let items = names.iter().enumerate().map(|(number, name)| (name.clone(), format!("SKU-{number}"))).collect();
        let goods = Goods {
            products: Arc::new(products),
            items: Arc::new(items),
            baskets: Arc::new(names.into_iter().map(|name| vec![name]).collect()),
        };
        let node = super::super::process::Node::new(2, "stall-1", PathBuf::from("nowhere"), Vec::new());
        Till::new(&node, "aa", &goods, seed, keys)
    }

    #[test]
    fn the_same_seed_draws_the_same_orders_and_all_baskets_are_drawn_from() {
        let orders = |seed, keys| {
            let mut till = till(seed, keys);
            (0..2000).map(|_| till.order()).collect::<Vec<_>>()
        };
        let first = orders(7, "stall-1");
        assert_eq!(first, orders(7, "stall-1"));
        assert_ne!(first, orders(8, "stall-1"));
        assert_ne!(first, orders(7, "stall-2"));
        let drawn: BTreeSet<String> = first.iter().map(|order| order["lines"][0]["sku"].to_string()).collect();
        assert_eq!(drawn.len(), 40);
        let keys: BTreeSet<String> = first.iter().map(|order| order["idempotency_key"].to_string()).collect();
        assert_eq!(keys.len(), 2000);
    }
}
