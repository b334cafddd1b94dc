//! Processes that mean ill, on the real network: a stranger with a libp2p node of its own and no certificate, and a
//! member that sends old pages again and altered ones. They use the shells ([`crate::mesh`], [`crate::uplink`]) without
//! the engine, so nothing holds them back; what they got is printed as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::replica::VERSION;
use stallmesh_protocol::{DeviceId, LogName, MarketId, wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::DemoError;
use super::falsify::{Record, records};
use super::shop::Draw;
use crate::cli::{input_ends, market_key};
use crate::identity;
use crate::link::{Admission, Channel, LinkCommand, LinkEvent, LinkId, LinkNumbers, Road};
use crate::mesh::{self, MeshConfig};
use crate::uplink::{self, UplinkConfig};

/// How long the stranger waits for something to come, twice on each connection; the shells keep asking meanwhile.
const STRANGER_ASKS: Duration = Duration::from_millis(750);
/// How long a peer may take to greet, to answer, or to close a link.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the member sends everything again.
const REPLAYS: u64 = 3;
/// Altered pages for each peer.
const ALTERED: usize = 6;

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutsiderRole {
    /// No certificate at all.
    Stranger,
    /// A member's key, and no honesty.
    Replayer,
}

/// What the process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct OutsiderArguments {
    /// Who it is.
    #[arg(value_enum)]
    pub(crate) role: OutsiderRole,
    /// Multiaddrs of members.
    #[arg(long)]
    pub(crate) peer: Vec<String>,
    /// The hub's uplink port.
    #[arg(long)]
    pub(crate) hub: Option<String>,
    /// The market's root key: it is public.
    #[arg(long)]
    pub(crate) market_key: String,
    /// The member's data directory.
    #[arg(long)]
    pub(crate) member: Option<PathBuf>,
    /// What the member holds.
    #[arg(long)]
    pub(crate) export: Option<PathBuf>,
    /// What is drawn at random is drawn from this number.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Runs until it is done or standard input ends.
#[allow(clippy::print_stdout, reason = "the result goes to the process that asked")]
pub(crate) async fn outsider(arguments: OutsiderArguments) -> Result<(), DemoError> {
    let root = market_key(&arguments.market_key).map_err(DemoError::failed)?;
    let market = MarketId::new(&root, 1);
    let work = async {
        match arguments.role {
            OutsiderRole::Stranger => stranger(&arguments, &market).await,
            OutsiderRole::Replayer => replayer(&arguments, &market).await,
        }
    };
    let result = tokio::select! {
        result = work => result?,
        () = input_ends() => return Err(DemoError::Failed("its demo has ended".into())),
    };
    println!("{result}");
    Ok(())
}

/// The two shells, and what they tell.
struct Roads {
    device: DeviceId,
    mesh: mpsc::UnboundedSender<LinkCommand>,
    uplink: mpsc::UnboundedSender<LinkCommand>,
    events: mpsc::Receiver<LinkEvent>,
}

impl Roads {
    fn open(seed: &[u8; 32]) -> Result<Self, DemoError> {
        let numbers = LinkNumbers::default();
        let (sender, events) = mpsc::channel(4096);
        let (mesh, mesh_commands) = mpsc::unbounded_channel();
        let (uplink, uplink_commands) = mpsc::unbounded_channel();
        let config =
            MeshConfig { listen: Vec::new(), mdns: false, mdns_silence_max: Duration::MAX, connections_max: 16 };
        mesh::start(seed, &config, numbers.clone(), sender.clone(), mesh_commands).map_err(DemoError::failed)?;
        let config = UplinkConfig { connections_max: 16, ..UplinkConfig::default() };
        uplink::start(seed, &config, numbers, sender, uplink_commands).map_err(DemoError::failed)?;
        let device = stallmesh_protocol::sign::DeviceKey::from_seed(seed).id();
        Ok(Roads { device, mesh, uplink, events })
    }

    fn command(&self, road: Road, command: LinkCommand) {
        let sender = if road == Road::Mesh { &self.mesh } else { &self.uplink };
        // The shells live as long as this does.
        let _ = sender.send(command);
    }

    /// Dials; the link, and who is at the other end.
    async fn dial(&mut self, road: Road, address: &str) -> Result<(LinkId, DeviceId), DemoError> {
        self.command(road, LinkCommand::Dial { road, address: address.to_owned(), peer: None, submit: Vec::new() });
        loop {
            match timeout(PATIENCE, self.events.recv()).await {
                Ok(Some(LinkEvent::Up { link, peer, dialled: true, .. })) => return Ok((link, peer)),
                Ok(Some(LinkEvent::DialFailed { reason, .. })) => {
                    return Err(DemoError::Failed(format!("{address}: {reason}")));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(DemoError::Failed(format!("{address}: no answer"))),
            }
        }
    }

    fn send(&self, road: Road, link: LinkId, channel: Channel, frame: Vec<u8>) {
        self.command(road, LinkCommand::Send { link, channel, frame });
    }
}

fn frame(body: wire::frame::Body) -> Vec<u8> {
    wire::Frame { body: Some(body) }.encode_to_vec()
}

fn join_frame(body: wire::join_frame::Body) -> Vec<u8> {
    wire::JoinFrame { body: Some(body) }.encode_to_vec()
}

fn random() -> Result<[u8; 32], DemoError> {
    identity::random().map_err(DemoError::failed)
}

fn hello(market: &MarketId, incarnation: &[u8], nonce: &[u8]) -> Vec<u8> {
    frame(wire::frame::Body::Hello(wire::Hello {
        version: VERSION,
        market: market.as_bytes().to_vec(),
        incarnation: incarnation.to_vec(),
        nonce: nonce.to_vec(),
        ..wire::Hello::default()
    }))
}

/// What a stranger got on its connections.
#[derive(Default)]
struct Got {
    connections: u64,
    closed: u64,
    /// Frames that went out on a channel: it was opened to us.
    opened: BTreeMap<&'static str, u64>,
    frames: BTreeMap<&'static str, u64>,
    bytes: u64,
    entries: u64,
}

fn channel_name(channel: Channel) -> &'static str {
    match channel {
        Channel::Join => "join",
        Channel::Live => "live",
        Channel::Bulk => "bulk",
    }
}

impl Got {
    fn take(&mut self, event: LinkEvent) -> bool {
        match event {
            LinkEvent::Frame { channel, frame, .. } => {
                *self.frames.entry(channel_name(channel)).or_insert(0) += 1;
                self.bytes += frame.len() as u64;
                let pages = match channel {
                    Channel::Join => wire::JoinFrame::decode(frame.as_slice()).ok().and_then(|frame| frame.body),
                    Channel::Live | Channel::Bulk => {
                        self.entries += 1;
                        None
                    }
                };
                if let Some(wire::join_frame::Body::Pages(pages)) = pages {
                    self.entries += pages.pages.len() as u64;
                }
            }
            LinkEvent::Sent { channel, .. } => *self.opened.entry(channel_name(channel)).or_insert(0) += 1,
            LinkEvent::Down { .. } => {
                self.closed += 1;
                return true;
            }
            _ => {}
        }
        false
    }

    fn json(&self) -> Value {
        json!({
            "connections": self.connections, "closed": self.closed, "opened": self.opened, "frames": self.frames,
            "bytes": self.bytes, "entries": self.entries,
        })
    }
}

/// Tries every protocol at every door: without and with the market's public name, which is no secret.
async fn stranger(arguments: &OutsiderArguments, market: &MarketId) -> Result<Value, DemoError> {
    let mut roads = Roads::open(&random()?)?;
    let mut doors: Vec<(Road, &str)> = arguments.peer.iter().map(|peer| (Road::Mesh, peer.as_str())).collect();
    doors.extend(arguments.hub.as_deref().map(|hub| (Road::Uplink, hub)));
    let mut result = serde_json::Map::new();
    for (road, address) in doors {
        let mut got = Got::default();
        for knows_market in [false, true] {
            let (link, _) = roads.dial(road, address).await?;
            got.connections += 1;
            let random = random()?;
            let (nonce, rest) = random.split_at(16);
            let tag = if knows_market {
                let mut nonce_bytes = [0; 16];
                nonce_bytes.copy_from_slice(nonce);
                crate::engine::hello_tag(market, &nonce_bytes, &roads.device).to_vec()
            } else {
                rest.to_vec()
            };
            let greeting = wire::join_frame::Body::Hello(wire::JoinHello { nonce: nonce.to_vec(), tag });
            let ask = wire::join_frame::Body::Ask(wire::JoinAsk { request: rest.to_vec() });
            let want = wire::frame::Body::Want(wire::Want { request: 1, log: None, from: 1, to: 0 });
            roads.send(road, link, Channel::Live, hello(market, rest, nonce));
            roads.send(road, link, Channel::Bulk, frame(want));
            roads.send(road, link, Channel::Join, join_frame(greeting));
            let mut down = false;
            for asked in [false, true] {
                if asked && !down {
                    // Nobody's request: what a relay would have to carry.
                    roads.send(road, link, Channel::Join, join_frame(ask.clone()));
                }
                let until = Instant::now() + STRANGER_ASKS;
                while let Ok(Some(event)) = timeout_at(until, roads.events.recv()).await {
                    down |= got.take(event);
                }
            }
            if !down {
                roads.command(road, LinkCommand::Close { link, reason: "enough".into() });
                while let Ok(Some(event)) = timeout(PATIENCE, roads.events.recv()).await {
                    if matches!(event, LinkEvent::Down { .. }) {
                        break;
                    }
                    got.take(event);
                }
            }
        }
        result.insert(address.to_owned(), got.json());
    }
    Ok(Value::Object(result))
}

/// Sends what the member holds, again and again, and then pages with one byte altered, each on a link of its own.
async fn replayer(arguments: &OutsiderArguments, market: &MarketId) -> Result<Value, DemoError> {
    let (Some(member), Some(export)) = (&arguments.member, &arguments.export) else {
        return Err(DemoError::Failed("a replayer needs --member and --export".into()));
    };
    let seed = *identity::load_or_create(member).map_err(DemoError::failed)?.device.seed();
    let bytes = std::fs::read(export).map_err(DemoError::io(export.display()))?;
    let pages: Vec<(LogName, Vec<u8>)> = records(&bytes)?
        .iter()
        .filter_map(|record| match record {
            Record::Page { name, page, .. } => Some((*name, page.to_vec())),
            Record::Other(_) => None,
        })
        .collect();
    let mut roads = Roads::open(&seed)?;
    let mut draw = Draw::new(arguments.seed, 2);
    let mut result = serde_json::Map::new();
    for address in &arguments.peer {
        let mut session = Session::open(&mut roads, address, market).await?;
        let mut answered = 0;
        for round in 0..REPLAYS {
            pages.iter().for_each(|(name, page)| session.send_page(name, page.clone()));
            answered += u64::from(session.ping(round + 1).await == Answer::Pong);
        }
        session.close().await;
        let (mut closed, mut taken) = (0, 0);
        for number in 0..ALTERED.min(pages.len()) {
            let (name, page) = &pages[draw.below(pages.len())];
            let altered = alter(page, name, market, &mut draw);
            let mut session = Session::open(&mut roads, address, market).await?;
            session.send_page(name, altered);
            // An answer may still leave before the link is closed for the page before it.
            let answer = session.ping(1_000 + number as u64).await;
            if answer == Answer::Closed || session.wait_for(|_| false).await == Answer::Closed {
                closed += 1;
            } else {
                taken += 1;
            }
            session.close().await;
        }
        let replayed = pages.len() as u64 * REPLAYS;
        result.insert(
            address.clone(),
            json!({
                "pages": pages.len(), "replayed": replayed, "rounds": REPLAYS, "answered": answered,
                "altered": closed + taken, "closed": closed, "taken": taken,
            }),
        );
    }
    Ok(Value::Object(result))
}

/// One byte altered, at a place where the page no longer holds.
fn alter(page: &[u8], name: &LogName, market: &MarketId, draw: &mut Draw) -> Vec<u8> {
    loop {
        let mut altered = page.to_vec();
        let at = draw.below(altered.len());
        altered[at] ^= 1 << draw.below(8);
        // A signature inside a page is not looked at before it is needed; all else is.
        if Page::decode(&altered).and_then(|page| page.verify(&name.id(market), &name.author)).is_err() {
            return altered;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Answer {
    Pong,
    Closed,
    Nothing,
}

/// A session of a member with a peer.
struct Session<'a> {
    roads: &'a mut Roads,
    link: LinkId,
    down: bool,
}

impl<'a> Session<'a> {
    async fn open(roads: &'a mut Roads, address: &str, market: &MarketId) -> Result<Self, DemoError> {
        let (link, peer) = roads.dial(Road::Mesh, address).await?;
        roads.command(Road::Mesh, LinkCommand::Admit { device: peer, admission: Admission::Member });
        let random = random()?;
        let (incarnation, nonce) = random.split_at(16);
        roads.send(Road::Mesh, link, Channel::Live, hello(market, incarnation, nonce));
        let mut session = Session { roads, link, down: false };
        let greeted = |frame: &wire::frame::Body| matches!(frame, wire::frame::Body::Hello(_));
        match session.wait_for(greeted).await {
            Answer::Pong => Ok(session),
            Answer::Closed | Answer::Nothing => Err(DemoError::Failed(format!("{address}: it doesn't greet a member"))),
        }
    }

    fn send_page(&self, name: &LogName, page: Vec<u8>) {
        let custody = name.lane.is_sealed();
        let log = Some(wire::LogName {
            author: name.author.as_bytes().to_vec(),
            incarnation: name.incarnation.as_bytes().to_vec(),
            lane: name.lane.0,
        });
        let body = wire::frame::Body::Page(wire::Page { request: 0, log, page, custody, unpacked: 0 });
        self.roads.send(Road::Mesh, self.link, Channel::Live, frame(body));
    }

    /// Everything that was sent before has been handled when the answer comes.
    async fn ping(&mut self, nonce: u64) -> Answer {
        let body = wire::frame::Body::Ping(wire::Ping { nonce });
        self.roads.send(Road::Mesh, self.link, Channel::Live, frame(body));
        self.wait_for(move |body| matches!(body, wire::frame::Body::Pong(pong) if pong.nonce == nonce)).await
    }

    async fn wait_for(&mut self, wanted: impl Fn(&wire::frame::Body) -> bool) -> Answer {
        let until = Instant::now() + PATIENCE;
        while let Ok(Some(event)) = timeout_at(until, self.roads.events.recv()).await {
            match event {
                LinkEvent::Frame { link, frame, channel: Channel::Live | Channel::Bulk } if link == self.link => {
                    let body = wire::Frame::decode(frame.as_slice()).ok().and_then(|frame| frame.body);
                    if body.is_some_and(|body| wanted(&body)) {
                        return Answer::Pong;
                    }
                }
                LinkEvent::Down { link, .. } if link == self.link => {
                    self.down = true;
                    return Answer::Closed;
                }
                _ => {}
            }
        }
        Answer::Nothing
    }

    async fn close(mut self) {
        if !self.down {
            self.roads.command(Road::Mesh, LinkCommand::Close { link: self.link, reason: "done".into() });
            self.wait_for(|_| false).await;
        }
    }
}
