//! Fills a member's store with a log of many entries: by replication, as a peer would, but without a network between.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use stallmesh_node::engine::{Answer, Effect, Engine, Input, Now, Request, RequestId, Settings};
use stallmesh_node::identity;
use stallmesh_node::link::{Channel, LinkCommand, LinkEvent, LinkId, Road};
use stallmesh_node::store::{CACHE_BYTES, RedbStore};
use stallmesh_protocol::entry::{Entry, Payload};
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::page::{ENTRIES_MAX, PAGE_MAX, Page, SIGNED_EVERY};
use stallmesh_protocol::replica::{
    Channel as ReplicaChannel, Holdings, Limits, Output, PageOutcome, Replica, SessionId,
};
use stallmesh_protocol::sign::{DeviceKey, Signature};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Kind, Lane, LogName, MarketId, payload};

use crate::inside;

const LINK: LinkId = LinkId(1);
const SESSION: SessionId = SessionId(LINK.0);

/// A log of catalog entries, all in memory.
struct Written {
    name: LogName,
    entries: Vec<Entry>,
    hashes: Vec<Hash>,
    signatures: BTreeMap<u64, Signature>,
    /// Bytes of all pages that were handed out, before they were packed.
    paged: Cell<usize>,
}

/// What was brought into a store.
pub(crate) struct Fed {
    /// Whose log it is.
    pub(crate) author: DeviceId,
    /// Bytes of the entries' payloads.
    pub(crate) payload: usize,
    /// Bytes of the pages that have them: with all that is said beside payloads, before anything is packed.
    pub(crate) pages: usize,
    /// Bytes of the frames that brought them.
    pub(crate) frames: usize,
}

/// What a log consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entries {
    /// One short product each: as a stall has written that changed its prices one by one for a long time.
    Short,
    /// So many bytes of payload each, which hardly pack.
    Noise(usize),
    /// So many products each, of so many bytes, which hardly pack: as a stall publishes a whole catalog.
    Many(usize, usize),
    /// So many bytes each, of a kind that this version keeps and passes on, and doesn't read.
    Unread(usize),
}

/// A kind of entry that no version knows.
const UNKNOWN: Kind = Kind(60_000);

impl Entries {
    /// What the log's entry with this number says.
    fn entry(self, number: usize) -> (Kind, Vec<u8>) {
        if let Entries::Unread(bytes) = self {
            let noise = (0..bytes / 32 + 1).flat_map(|_| identity::random().expect("random bytes"));
            return (UNKNOWN, noise.take(bytes).collect());
        }
        (Kind::PRODUCTS, payload::encode(&payload::Products { products: self.products(number), ..Default::default() }))
    }

    /// The products of the log's entry with this number.
    fn products(self, number: usize) -> Vec<payload::Product> {
        let product = |sku, name, price| payload::Product {
            sku,
            name,
            price,
            taxes: vec!["standard".into()],
            ..payload::Product::default()
        };
        match self {
            Entries::Short => vec![product(
                format!("thing-{number:06}"),
                format!("Hand-made thing number {number}"),
                100 + (number % 4000) as u64,
            )],
            Entries::Noise(bytes) => Entries::Many(1, bytes).products(number),
            Entries::Unread(_) => Vec::new(),
            Entries::Many(count, bytes) => (number * count..(number + 1) * count)
                .map(|number| inside::product(number, bytes, inside::Text::Noise))
                .map(|view| product(view.sku, view.name, view.price))
                .collect(),
        }
    }
}

impl Written {
    fn new(market: &MarketId, key: &DeviceKey, count: usize, entries: Entries) -> Self {
        let name = LogName { author: key.id(), incarnation: Incarnation::from_bytes([7; 16]), lane: Lane::CATALOG };
        let mut writer = LogWriter::open(market, name);
        let (hashes, signatures, paged) = (Vec::new(), BTreeMap::new(), Cell::new(0));
        let mut written = Written { name, entries: Vec::new(), hashes, signatures, paged };
        for number in 0..count {
            let (kind, bytes) = if number == 0 {
                (Kind::OPENING, payload::encode(&payload::Opening::default()))
            } else {
                entries.entry(number)
            };
            let appended = writer.append(key, wall_ms(), [0; 8], kind, Payload::public(bytes)).expect("an entry");
            written.entries.push(appended.entry);
            written.hashes.push(appended.head.hash);
            written.signatures.extend(appended.signature.map(|signature| (appended.head.sequence, signature)));
        }
        written.signatures.insert(writer.head().sequence, writer.sign(key));
        written
    }

    fn head(&self) -> Head {
        Head { sequence: self.entries.len() as u64, hash: *self.hashes.last().expect("entries") }
    }
}

impl Holdings for Written {
    fn page(&self, log: &LogName, from: u64, to: u64, bytes_max: usize) -> Option<(Vec<u8>, u64)> {
        if *log != self.name || from == 0 || from > self.head().sequence {
            return None;
        }
        let first = from as usize - 1;
        let mut bytes = 100;
        let mut last = None;
        for sequence in (from..=to.min(self.head().sequence)).take(ENTRIES_MAX) {
            bytes += self.entries[sequence as usize - 1].payload.length() + 24;
            bytes += if sequence % SIGNED_EVERY == 0 { 66 } else { 0 };
            if bytes > bytes_max.min(PAGE_MAX - 1024) && last.is_some() {
                break;
            }
            last = self.signatures.contains_key(&sequence).then_some(sequence).or(last);
        }
        let last = last?;
        let page = Page {
            first: from,
            previous: if first == 0 { Hash::ZERO } else { self.hashes[first - 1] },
            entries: self.entries[first..last as usize].to_vec(),
            signatures: self.signatures.range(from..=last).map(|(at, signature)| (*at, *signature)).collect(),
        };
        let bytes = page.encode();
        self.paged.set(self.paged.get() + bytes.len());
        Some((bytes, last))
    }

    fn hash_at(&self, _: &LogName, sequence: u64) -> Option<Hash> {
        self.hashes.get(sequence.checked_sub(1)? as usize).copied()
    }

    fn blob(&self, _: &Hash) -> Option<Vec<u8>> {
        None
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Writes `count` entries under the key of `publisher`, a member whose node is stopped, and brings them into the store
/// of `member`, another one.
pub(crate) fn fill(root: &str, publisher: &Path, member: &Path, count: usize, entries: Entries) -> Fed {
    let market = MarketId::new(&root.trim().parse().expect("the market's key"), 1);
    let key = identity::load_or_create(publisher).expect("the publisher's keys").device;
    let written = Written::new(&market, &key, count, entries);

    let own = identity::load_or_create(member).expect("the member's keys");
    let member_id = own.device.id();
    let store = RedbStore::open(member, CACHE_BYTES).expect("the member's store");
    let start = Instant::now();
    let now = || Now { monotonic_ms: start.elapsed().as_millis() as u64, wall_ms: wall_ms() };
    let seed = identity::random().expect("random bytes");
    let mut engine = Engine::open(store, own, Settings::default(), seed, now()).expect("the member's engine");
    let mut replica = Replica::new(market, written.name.incarnation, Limits::default());
    replica.load(written.name, written.head());
    replica.open_session(SESSION, member_id, false, [3; 16], now().monotonic_ms);
    let up = LinkEvent::Up {
        link: LINK,
        peer: key.id(),
        road: Road::Mesh,
        dialled: false,
        address: "/ip4/127.0.0.1/udp/9/quic-v1".into(),
        notices_silence: true,
    };
    engine.handle(Input::Link(up), now());

    let mut bytes = 0;
    loop {
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Send { channel, frame, .. } => {
                    let length = frame.len();
                    let on = if channel == ReplicaChannel::Bulk { Channel::Bulk } else { Channel::Live };
                    if channel == ReplicaChannel::Bulk {
                        bytes += length;
                    }
                    engine.handle(Input::Link(LinkEvent::Frame { link: LINK, channel: on, frame }), now());
                    replica.handle_sent(SESSION, channel, length, &written);
                }
                Output::Deliver { session, request, log, .. } => {
                    replica.page_result(session, request, log, Head::EMPTY, PageOutcome::Declined, now().monotonic_ms);
                }
                Output::Close { reason, .. } => panic!("the feeding session ended: {reason}"),
                _ => {}
            }
        }
        engine.commit(now()).expect("a commit");
        let mut moved = false;
        while let Some(effect) = engine.poll_effect() {
            let Effect::Link(_, LinkCommand::Send { channel, frame, .. }) = effect else { continue };
            moved = true;
            if channel != Channel::Join {
                replica.handle_frame(SESSION, &frame, now().monotonic_ms, &written);
            }
        }
        if !moved {
            engine.handle(Input::Request(RequestId(1), Request::Status), now());
            engine.commit(now()).expect("a commit");
            let mut held = 0;
            while let Some(effect) = engine.poll_effect() {
                if let Effect::Answer(_, Answer::Status(status)) = effect {
                    let author = key.id().to_string();
                    held = status
                        .heads
                        .iter()
                        .filter(|head| head.author == author)
                        .map(|head| head.sequence)
                        .max()
                        .unwrap_or(0);
                }
            }
            if held == count as u64 {
                let payload = written.entries.iter().map(|entry| entry.payload.length()).sum();
                return Fed { author: key.id(), payload, pages: written.paged.get(), frames: bytes };
            }
            // Nothing under way, and not all there: time-outs of requests must pass.
            std::thread::sleep(std::time::Duration::from_millis(20));
            replica.handle_timeout(now().monotonic_ms, &written);
            engine.handle(Input::Tick, now());
        }
    }
}
