//! What the nodes have answered to the shop side. Nothing in the journal is the demo's opinion: each line is an answer or
//! an event of a node, with the time at which it came.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::DemoError;
use crate::api::SOCKET_FILE;

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
        /// Minor units, without tips.
        total: u64,
        /// Beside the total.
        tip: u64,
        /// What promotions took off.
        reduction: u64,
        /// Codes that acted.
        codes: u64,
        /// Codes that didn't: unknown, over, or asking for something else.
        idle_codes: u64,
        /// Parts of its payment.
        parts: u64,
        /// What other tills are told of it: payments by a card that has a fingerprint, and alarms answered with "known".
        signals: u64,
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
    /// A node has asked what a person says of a payment.
    Asked {
        /// Ids of its reasons.
        reasons: Vec<String>,
        /// What the vendor said.
        answer: Said,
        /// Which node.
        node: usize,
        /// When it asked.
        at: u64,
    },
    /// A node has declined a payment.
    Declined {
        /// The sale that it would have been.
        sale: String,
        /// Ids of its reasons.
        reasons: Vec<String>,
        /// Which node.
        node: usize,
        /// When it answered.
        at: u64,
    },
    /// The hub has taken the organiser's word that a card is blocked.
    Blocked {
        /// The card's fingerprint.
        card: String,
        /// When.
        at: u64,
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

/// What a vendor says when her till asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// She lets it pass this once.
    LetPass,
    /// She knows whom it is about.
    Known,
    /// She takes no such payment.
    No,
}

/// What the journal comes to so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Sales with a reduction.
    pub(super) reduced: u64,
    /// What promotions took off.
    pub(super) reduction: u64,
    /// Codes that acted.
    pub(super) codes: u64,
    /// Codes that didn't.
    pub(super) idle_codes: u64,
    /// Sales that were paid in more than one part.
    pub(super) split: u64,
    /// Tips.
    pub(super) tips: u64,
    /// Payments that were declined.
    pub(super) declined: u64,
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
    tally: Tally,
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
            tally: Tally::default(),
        }))))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing that holds the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, line: &Line) -> Result<(), DemoError> {
        let mut inner = self.inner();
        match line {
            Line::Recorded { sale, node, tip, reduction, codes, idle_codes, parts, .. } => {
                if inner.recorded.insert(sale.clone(), *node).is_none() {
                    let tally = &mut inner.tally;
                    tally.reduced += u64::from(*reduction > 0);
                    tally.reduction += reduction;
                    (tally.codes, tally.idle_codes) = (tally.codes + codes, tally.idle_codes + idle_codes);
                    (tally.split, tally.tips) = (tally.split + u64::from(*parts > 1), tally.tips + tip);
                }
            }
            Line::Declined { .. } => inner.tally.declined += 1,
            Line::Received { sale, .. } => {
                if !inner.received.insert(sale.clone()) {
                    return Ok(());
                }
            }
            Line::Asked { .. } | Line::Blocked { .. } | Line::Uplink { .. } => {}
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

    /// What all tills together were told so far.
    pub(super) fn tally(&self) -> Tally {
        self.inner().tally.clone()
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
