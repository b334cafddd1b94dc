//! Fills a member's store with a log of many entries: by replication, as a peer would, but without a network between.

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

const LINK: LinkId = LinkId(1);
const SESSION: SessionId = SessionId(LINK.0);

/// A log of catalog entries, all in memory.
struct Written {
    name: LogName,
    entries: Vec<Entry>,
    hashes: Vec<Hash>,
    signatures: BTreeMap<u64, Signature>,
}

impl Written {
    /// Entries of one product each: as a stall has written that changed its prices one by one for a long time.
    fn new(market: &MarketId, key: &DeviceKey, count: usize) -> Self {
        let name = LogName { author: key.id(), incarnation: Incarnation::from_bytes([7; 16]), lane: Lane::CATALOG };
        let mut writer = LogWriter::open(market, name);
        let mut written = Written { name, entries: Vec::new(), hashes: Vec::new(), signatures: BTreeMap::new() };
        for number in 0..count {
            let (kind, bytes) = if number == 0 {
                (Kind::OPENING, payload::encode(&payload::Opening::default()))
            } else {
                let product = payload::Product {
                    sku: format!("thing-{number:06}"),
                    name: format!("Hand-made thing number {number}"),
                    price: 100 + (number % 4000) as u64,
                    taxes: vec!["standard".into()],
                    ..payload::Product::default()
                };
                (Kind::PRODUCTS, payload::encode(&payload::Products { products: vec![product], replaces: Vec::new() }))
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
        Some((page.encode(), last))
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
/// of `member`, another one. Gives the log's author and how many bytes its pages had.
pub(crate) fn fill(root: &str, publisher: &Path, member: &Path, count: usize) -> (DeviceId, usize) {
    let market = MarketId::new(&root.trim().parse().expect("the market's key"), 1);
    let key = identity::load_or_create(publisher).expect("the publisher's keys").device;
    let written = Written::new(&market, &key, count);

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
                return (key.id(), bytes);
            }
            // Nothing under way, and not all there: time-outs of requests must pass.
            std::thread::sleep(std::time::Duration::from_millis(20));
            replica.handle_timeout(now().monotonic_ms, &written);
            engine.handle(Input::Tick, now());
        }
    }
}
