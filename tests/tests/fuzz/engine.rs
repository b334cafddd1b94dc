//! A whole engine in memory: frames on any channel, from members and strangers, in any state of a session.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use prost::Message;
use stallmesh_node::engine::{Answer, Effect, Engine, Identity, Input, Now, Request, RequestId, SaleOrder, Settings};
use stallmesh_node::link::{Channel, LinkEvent, LinkId, Road};
use stallmesh_node::store::{Direction, Store, Table};
use stallmesh_protocol::entry::Payload;
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::page::Page;
use stallmesh_protocol::replica::unpack;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, frame::Body, join_frame};
use stallmesh_protocol::{Incarnation, Kind, Lane, LogName, MarketId};
use stallmesh_tests::simulation::hostile::{encode, encode_join, join_hello};
use stallmesh_tests::simulation::{Disk, OPENING_MS, Simulation};

use super::mutate::{Draw, mutated};

targets! {
    frames(120, 2_048) frames_check;
    control_entries(120, 2_048) |bytes| signed_entries(Lane::CONTROL, bytes);
    other_entries(120, 2_048) |bytes| {
        let lanes = [Lane::CHECKPOINT, Lane::CATALOG, Lane::SIGNAL, Lane::SALES, Lane::LEDGER, Lane(77)];
        if let Some((lane, bytes)) = bytes.split_first() {
            signed_entries(lanes[usize::from(*lane) % lanes.len()], bytes);
        }
    };
}

/// What a node's state may grow by, beside what it was sent.
const GROWTH_MAX: usize = 256 * 1024;

/// A market that has run for a while: its disks, keys, and what its nodes said to each other.
pub(crate) struct Ran {
    pub(crate) market: MarketId,
    pub(crate) nodes: Vec<(Disk, Identity)>,
    frames: Vec<(Channel, Vec<u8>)>,
    now: u64,
}

thread_local! {
    static RAN: OnceCell<Rc<Ran>> = const { OnceCell::new() };
}

/// The same market for every input: hub, gateway, two stalls, and a device that is in no market yet.
pub(crate) fn ran() -> Rc<Ran> {
    RAN.with(|ran| {
        let make = || {
            let mut market = Simulation::market(2, 2);
            let frames = Rc::new(RefCell::new(Vec::<(Channel, Vec<u8>)>::new()));
            for index in 0..market.nodes.len() {
                let frames = frames.clone();
                market.tamper(index, move |channel, frame| {
                    frames.borrow_mut().push((channel, frame.clone()));
                    vec![(channel, frame)]
                });
            }
            // Everything that is ever said: restarts, sales, a newcomer, a fork, a revocation.
            market.sell(2, "one");
            for index in 0..market.nodes.len() {
                market.kill(index);
                market.start(index);
            }
            let newcomer = market.add();
            market.invite(newcomer, "stall-3");
            market.sell(3, "two");
            market.run_for(20_000);
            market.revoke(0, newcomer);
            market.run_for(5_000);
            let stranger = market.add_idle(Settings::default());
            let nodes = (0..=stranger).map(|index| {
                let node = &market.nodes[index];
                (node.disk.copy().unwatched(), node.identity.clone())
            });
            let nodes = nodes.collect();
            let mut frames = frames.take();
            // Of the many that are alike a few.
            let mut seen = BTreeMap::<(u8, usize), usize>::new();
            frames.retain(|(_, frame)| {
                let count = seen.entry((frame.first().copied().unwrap_or(0), frame.len() / 64)).or_default();
                *count += 1;
                *count <= 4
            });
            Rc::new(Ran { market: market.market_id(), nodes, frames, now: market.now })
        };
        ran.get_or_init(make).clone()
    })
}

/// One node of it, started anew on a copy of its disk.
pub(crate) struct Running {
    pub(crate) engine: Engine<Disk>,
    disk: Disk,
    /// Hashes of its own entries.
    own: Vec<String>,
    bytes_before: usize,
    bytes_sent: usize,
    now: u64,
}

impl Running {
    pub(crate) fn start(ran: &Ran, node: usize) -> Self {
        let (disk, identity) = &ran.nodes[node];
        let disk = disk.copy();
        let settings = Settings { uplink_enabled: true, ..Settings::default() };
        let now = Now { monotonic_ms: ran.now, wall_ms: OPENING_MS + ran.now };
        let mut engine = Engine::open(disk.clone(), identity.clone(), settings, [9; 32], now).unwrap();
        engine.commit(now).unwrap();
        let bytes_before = size(&disk);
        let mut running = Running { engine, disk, own: Vec::new(), bytes_before, bytes_sent: 0, now: ran.now };
        running.own = running.written();
        running
    }

    /// Hashes of all that it has written.
    pub(crate) fn written(&mut self) -> Vec<String> {
        match self.ask(Request::LogShow { author: None, lane: None, before: None, limit: 10_000 }) {
            Answer::Entries(entries) => entries.into_iter().map(|entry| entry.hash).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn input(&mut self, event: LinkEvent) {
        if let LinkEvent::Frame { frame, .. } = &event {
            self.bytes_sent += frame.len();
        }
        self.turn(Input::Link(event));
    }

    /// One turn, as the runtime makes it.
    pub(crate) fn turn(&mut self, input: Input) -> Vec<Effect> {
        let now = Now { monotonic_ms: self.now, wall_ms: OPENING_MS + self.now };
        self.engine.handle(input, now);
        self.engine.commit(now).unwrap();
        let mut effects = Vec::new();
        while let Some(effect) = self.engine.poll_effect() {
            effects.push(effect);
        }
        assert!(effects.len() <= 10_000, "one event makes so many effects");
        effects
    }

    pub(crate) fn ask(&mut self, request: Request) -> Answer {
        let effects = self.turn(Input::Request(RequestId(1), request));
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(_, answer) => Some(answer),
            _ => None,
        });
        answer.unwrap()
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        self.turn(Input::Tick);
    }

    /// What it wrote before is as it was, what it keeps is bounded, and it goes on.
    fn check(mut self, sells: bool) {
        assert!(matches!(self.ask(Request::Status), Answer::Status(_)));
        if sells {
            let order = serde_json::json!({
                "idempotency_key": "after", "lines": [{ "sku": "P2" }], "tenders": [{ "kind": "cash" }],
            });
            let order: SaleOrder = serde_json::from_value(order).unwrap();
            let sold = self.ask(Request::RecordSale(order));
            assert!(matches!(sold, Answer::Sale(_)), "{sold:?}");
        }
        let now = self.written();
        assert!(self.own.iter().all(|hash| now.contains(hash)), "an own entry has changed");
        let grown = size(&self.disk).saturating_sub(self.bytes_before);
        assert!(grown <= GROWTH_MAX + 4 * self.bytes_sent, "{grown} bytes for {} that were sent", self.bytes_sent);
    }
}

fn everything(disk: &Disk, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    disk.scan(table, &[], &[0xff; 129], usize::MAX, Direction::Forward).unwrap()
}

fn size(disk: &Disk) -> usize {
    let table = |table| everything(disk, table).iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    Table::ALL.into_iter().map(table).sum()
}

/// Links of members, strangers and copies, and frames that were said in this market, as they were or altered.
fn frames_check(bytes: &[u8]) {
    let ran = ran();
    let mut draw = Draw::new(bytes);
    let node = draw.below(ran.nodes.len() as u64) as usize;
    let mut running = Running::start(&ran, node);
    let mut links: Vec<(LinkId, usize)> = Vec::new();
    for step in 0..100 {
        if draw.is_empty() {
            break;
        }
        let link = |links: &[(LinkId, usize)], draw: &mut Draw<'_>| {
            let which = draw.below(links.len() as u64) as usize;
            links.get(which).copied()
        };
        match draw.below(12) {
            0 | 1 => {
                let (link, who) = (LinkId(step + 1), draw.below(ran.nodes.len() as u64 + 1) as usize);
                let peer =
                    ran.nodes.get(who).map_or_else(|| DeviceKey::from_seed(&[77; 32]).id(), |(_, id)| id.device.id());
                let (road, dialled) = ([Road::Mesh, Road::Uplink][draw.below(2) as usize], draw.below(2) == 0);
                running.input(LinkEvent::Up {
                    link,
                    peer,
                    road,
                    dialled,
                    address: "node:9".into(),
                    notices_silence: true,
                });
                links.push((link, who));
            }
            2 => {
                let Some((link, who)) = link(&links, &mut draw) else { continue };
                let Some((_, identity)) = ran.nodes.get(who) else { continue };
                let hello = encode_join(join_frame::Body::Hello(join_hello(&ran.market, identity)));
                running.input(LinkEvent::Frame { link, channel: Channel::Join, frame: hello });
            }
            3 => {
                let Some((link, _)) = link(&links, &mut draw) else { continue };
                let frame = session_hello(&ran.market, draw.byte());
                running.input(LinkEvent::Frame { link, channel: Channel::Live, frame });
            }
            4 => {
                let Some((link, _)) = link(&links, &mut draw) else { continue };
                running.input(LinkEvent::Sent { link, channel: Channel::Bulk, bytes: draw.below(70_000) as usize });
            }
            5 => running.pass([1, 100, 3_000, 60_000][draw.below(4) as usize]),
            6 => {
                let Some((link, _)) = link(&links, &mut draw) else { continue };
                running.input(LinkEvent::Down { link, reason: "cut".into() });
                links.retain(|(other, _)| *other != link);
            }
            kind => {
                let Some((link, _)) = link(&links, &mut draw) else { continue };
                let (channel, frame) = &ran.frames[draw.below(ran.frames.len() as u64) as usize];
                let frame = if kind < 9 { frame.clone() } else { mutated(frame, &mut draw) };
                // Now and then on another channel than it belongs to.
                let other = Channel::ALL[draw.below(3) as usize];
                let channel = if draw.below(8) == 0 { other } else { *channel };
                running.input(LinkEvent::Frame { link, channel, frame });
            }
        }
    }
    running.check(node == 2 || node == 3);
}

fn session_hello(market: &MarketId, incarnation: u8) -> Vec<u8> {
    encode(Body::Hello(wire::Hello {
        version: stallmesh_protocol::replica::VERSION,
        market: market.as_bytes().to_vec(),
        incarnation: vec![incarnation; 16],
        nonce: vec![7; 16],
        ..wire::Hello::default()
    }))
}

/// A member signs what it likes: entries of any kind, with any payload. The other nodes keep them, and go on.
fn signed_entries(lane: Lane, bytes: &[u8]) {
    let ran = ran();
    let mut draw = Draw::new(bytes);
    // At a stall's node, at the gateway, at the hub; by another stall, the gateway, the hub, a revoked device.
    let node = [3, 1, 0][draw.below(3) as usize];
    let author = [2, 1, 0, 4][draw.below(4) as usize];
    if node == author {
        return;
    }
    let mut running = Running::start(&ran, node);
    let key = &ran.nodes[author].1.device;
    let link = LinkId(1);
    let address = "node:9".to_owned();
    running.input(LinkEvent::Up {
        link,
        peer: key.id(),
        road: Road::Mesh,
        dialled: true,
        address,
        notices_silence: true,
    });
    running.input(LinkEvent::Frame { link, channel: Channel::Live, frame: session_hello(&ran.market, 50) });
    let log = LogName { author: key.id(), incarnation: Incarnation::from_bytes([50; 16]), lane };
    let mut writer = LogWriter::open(&ran.market, log);
    let kinds = [1, 2, 3, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 48, 64, 80, 81, 96, 112, 114, 4_711];
    let mut first = true;
    for _ in 0..8 {
        if draw.is_empty() && !first {
            break;
        }
        let previous = writer.head();
        let mut page =
            Page { first: previous.sequence + 1, previous: previous.hash, entries: Vec::new(), signatures: Vec::new() };
        for _ in 0..=draw.below(3) {
            let kind = Kind(if first { 1 } else { kinds[draw.below(kinds.len() as u64) as usize] });
            first = false;
            let payload = drawn_payload(kind, &mut draw);
            let at = OPENING_MS + running.now + draw.below(300) * 60_000;
            match writer.append(key, at, [0; 8], kind, Payload::public(payload)) {
                Ok(appended) => page.entries.push(appended.entry),
                Err(_) => return,
            }
        }
        page.signatures.push((writer.head().sequence, writer.sign(key)));
        let page = wire::Page {
            request: 0,
            log: Some((&log).into()),
            page: page.encode(),
            custody: lane.is_sealed(),
            unpacked: 0,
        };
        running.input(LinkEvent::Frame { link, channel: Channel::Live, frame: encode(Body::Page(page)) });
        running.pass(draw.below(5) * 1_000);
    }
    // A hub that means ill can keep anybody from selling.
    running.check(node == 3 && author != 0);
}

/// A vector of the kind, altered field by field, or bytes of the input.
fn drawn_payload(kind: Kind, draw: &mut Draw<'_>) -> Vec<u8> {
    thread_local! {
        static KNOWN: Vec<(u64, Vec<u8>)> = vectors();
    }
    KNOWN.with(|known| {
        let of_kind: Vec<&Vec<u8>> =
            known.iter().filter(|(of, _)| *of == u64::from(kind.0)).map(|(_, bytes)| bytes).collect();
        match of_kind.get(draw.below(of_kind.len() as u64) as usize) {
            Some(bytes) if draw.below(8) > 0 => {
                let mut bytes = (*bytes).clone();
                for _ in 0..draw.below(4) {
                    bytes = mutated(&bytes, draw);
                }
                bytes
            }
            _ => (0..draw.below(20)).map(|_| draw.byte()).collect(),
        }
    })
}

fn read_vectors(name: &str) -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/vectors/");
    serde_json::from_str(&std::fs::read_to_string(format!("{path}{name}.json")).unwrap()).unwrap()
}

/// Payloads by kind: the vectors', and what the market itself has written.
fn vectors() -> Vec<(u64, Vec<u8>)> {
    let ran = ran();
    let mut known = Vec::new();
    for (_, frame) in &ran.frames {
        let Ok(wire::Frame { body: Some(Body::Page(page)) }) = wire::Frame::decode(frame.as_slice()) else { continue };
        let Ok(page) = unpack(&page).map_err(drop).and_then(|page| Page::decode(&page).map_err(drop)) else { continue };
        for entry in page.entries {
            let bytes = entry.payload.bytes(stallmesh_protocol::entry::Part::Public).unwrap_or_default();
            known.push((u64::from(entry.kind.0), bytes.to_vec()));
        }
    }
    for (file, list, kind) in [
        ("members", "certificates", 17),
        ("members", "judgements", 18),
        ("members", "judgements", 19),
        ("members", "judgements", 20),
        ("checkpoints", "checkpoints", 48),
        ("forks", "accepted", 28),
        ("forks", "accepted", 80),
        ("joining", "requests", 81),
    ] {
        for case in read_vectors(file)[list].as_array().unwrap() {
            known.push((kind, hex::decode(case["payload"].as_str().unwrap()).unwrap()));
        }
    }
    known.sort();
    known.dedup();
    known
}
