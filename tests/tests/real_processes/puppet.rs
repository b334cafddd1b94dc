//! A device's key and the real roads, with nothing behind them that keeps to any rule: it says what a test says.

use std::path::Path;
use std::time::Duration;

use prost::Message;
use stallmesh_node::engine::Identity;
use stallmesh_node::identity;
use stallmesh_node::link::{Admission, Channel, LinkCommand, LinkEvent, LinkId, LinkNumbers, Road};
use stallmesh_node::mesh::{self, MeshConfig};
use stallmesh_node::uplink::{self, UplinkConfig};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, frame::Body, join_frame};
use stallmesh_protocol::{DeviceId, LogName, MarketId};
use stallmesh_tests::simulation::hostile::{encode, encode_join, join_hello};
use tokio::sync::mpsc;

/// Nothing here takes so long; what does will never come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The device, with both of its shells.
pub(crate) struct Puppet {
    pub(crate) identity: Identity,
    mesh: mpsc::UnboundedSender<LinkCommand>,
    uplink: mpsc::UnboundedSender<LinkCommand>,
    events: mpsc::Receiver<LinkEvent>,
}

/// What came of one link until it ended.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What was said on the channel that everybody has.
    pub(crate) join: Vec<join_frame::Body>,
    /// What was said on a member's channels.
    pub(crate) session: Vec<Body>,
    /// A member's channel was opened to it, and took so many frames.
    pub(crate) taken: usize,
    /// Why the link ended, where the road tells.
    pub(crate) reason: String,
}

/// The keys of a node that is no longer running.
pub(crate) fn keys_of(directory: &Path) -> Identity {
    identity::load_or_create(directory).unwrap()
}

/// Keys that nobody knows.
pub(crate) fn new_keys(number: u8) -> Identity {
    Identity { device: DeviceKey::from_seed(&[number; 32]), seal_secret: [number; 32], opening_secrets: Vec::new() }
}

impl Puppet {
    /// Must be called inside a runtime.
    pub(crate) fn new(identity: Identity) -> Self {
        let (numbers, seed) = (LinkNumbers::default(), *identity.device.seed());
        let (sender, events) = mpsc::channel(4096);
        let (mesh, commands) = mpsc::unbounded_channel();
        let config = MeshConfig { listen: Vec::new(), mdns: false, mdns_silence_max: PATIENCE, connections_max: 16 };
        mesh::start(&seed, &config, numbers.clone(), sender.clone(), commands).unwrap();
        let (uplink, commands) = mpsc::unbounded_channel();
        let config = UplinkConfig { connections_max: 16, ..UplinkConfig::default() };
        uplink::start(&seed, &config, numbers, sender, commands).unwrap();
        Puppet { identity, mesh, uplink, events }
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.identity.device.id()
    }

    fn command(&self, road: Road, command: LinkCommand) {
        let shell = if road == Road::Mesh { &self.mesh } else { &self.uplink };
        shell.send(command).unwrap();
    }

    async fn next(&mut self) -> LinkEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    /// Dials, and greets as whoever knows the market does.
    pub(crate) async fn greet(&mut self, door: &Door<'_>, market: &MarketId) -> LinkId {
        let Door { road, address, .. } = *door;
        self.command(road, LinkCommand::Dial { road, address: address.to_owned(), peer: None, submit: Vec::new() });
        let (link, peer) = loop {
            match self.next().await {
                LinkEvent::Up { link, peer, dialled: true, .. } => break (link, peer),
                LinkEvent::DialFailed { reason, .. } => panic!("{address}: {reason}"),
                _ => {}
            }
        };
        // Whatever the other side opens is taken.
        self.command(road, LinkCommand::Admit { device: peer, admission: Admission::Member });
        let hello = join_hello(market, &self.identity);
        self.send(door, link, Channel::Join, encode_join(join_frame::Body::Hello(hello)));
        link
    }

    pub(crate) fn send(&self, door: &Door<'_>, link: LinkId, channel: Channel, frame: Vec<u8>) {
        self.command(door.road, LinkCommand::Send { link, channel, frame });
    }

    /// Shows pages as whoever wants to be let in does.
    pub(crate) fn show(&self, door: &Door<'_>, link: LinkId, pages: &[(LogName, Page)]) {
        let pages = pages.iter().map(|(log, page)| wire_page(log, page)).collect();
        let pages = join_frame::Body::Pages(wire::JoinPages { pages, complete: true });
        self.send(door, link, Channel::Join, encode_join(pages));
    }

    /// Speaks as a member does: a session, and pages on it; then asks whether all that was heard.
    pub(crate) fn speak(&self, door: &Door<'_>, link: LinkId, market: &MarketId, pages: &[(LogName, Page)]) {
        let hello = wire::Hello {
            version: stallmesh_protocol::replica::VERSION,
            market: market.as_bytes().to_vec(),
            incarnation: vec![6; 16],
            nonce: vec![7; 16],
            ..wire::Hello::default()
        };
        self.send(door, link, Channel::Live, encode(Body::Hello(hello)));
        for (log, page) in pages {
            self.send(door, link, Channel::Live, encode(Body::Page(wire_page(log, page))));
        }
        self.send(door, link, Channel::Live, encode(Body::Ping(wire::Ping { nonce: 77 })));
    }

    /// All that is said on a link until it ends, or until the answer to what [`Puppet::speak`] asked.
    pub(crate) async fn hear(&mut self, link: LinkId) -> Told {
        let mut told = Told::default();
        loop {
            match self.next().await {
                LinkEvent::Frame { link: on, channel: Channel::Join, frame } if on == link => {
                    told.join.extend(wire::JoinFrame::decode(frame.as_slice()).unwrap().body);
                }
                LinkEvent::Frame { link: on, frame, .. } if on == link => {
                    let body = wire::Frame::decode(frame.as_slice()).unwrap().body.unwrap();
                    let last = matches!(&body, Body::Pong(pong) if pong.nonce == 77);
                    told.session.push(body);
                    if last {
                        return told;
                    }
                }
                LinkEvent::Sent { link: on, channel, .. } if on == link && channel != Channel::Join => told.taken += 1,
                LinkEvent::Down { link: on, reason } if on == link => {
                    told.reason = reason;
                    return told;
                }
                _ => {}
            }
        }
    }
}

/// Where a node answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door<'a> {
    pub(crate) road: Road,
    pub(crate) address: &'a str,
}

fn wire_page(log: &LogName, page: &Page) -> wire::Page {
    wire::Page { request: 0, log: Some(log.into()), page: page.encode(), custody: false, unpacked: 0 }
}
