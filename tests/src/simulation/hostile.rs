//! Devices that don't keep to the rules: members whose frames are altered on their way out, and puppets, which are
//! a key and a network card without any engine behind them.

use prost::Message;
use stallmesh_node::engine::{Identity, Input};
use stallmesh_node::link::{Channel, LinkCommand, LinkEvent, LinkId, Road};
use stallmesh_protocol::entry::Payload;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::page::Page;
use stallmesh_protocol::replica::unpack;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, frame::Body, join_frame};
use stallmesh_protocol::{DeviceId, Incarnation, Kind, Lane, LogName, MarketId};

use super::{SimNode, Simulation};

/// What a dishonest member does with each frame that its engine would send: gives what leaves instead.
pub type Tamper = Box<dyn FnMut(Channel, Vec<u8>) -> Vec<(Channel, Vec<u8>)>>;

impl Simulation {
    /// From now on a node's frames pass through `tamper` before they leave it.
    pub fn tamper(&mut self, index: usize, tamper: impl FnMut(Channel, Vec<u8>) -> Vec<(Channel, Vec<u8>)> + 'static) {
        self.tampers.insert(index, Box::new(tamper));
    }

    /// The same by decoded message: what is no message of a session leaves as it is.
    pub fn tamper_messages(&mut self, index: usize, mut tamper: impl FnMut(Body) -> Vec<Body> + 'static) {
        self.tamper(index, move |channel, frame| {
            let decoded = wire::Frame::decode(frame.as_slice()).ok().and_then(|frame| frame.body);
            match decoded.filter(|_| channel != Channel::Join) {
                Some(body) => tamper(unpacked(body)).into_iter().map(|body| (channel, encode(body))).collect(),
                None => vec![(channel, frame)],
            }
        });
    }

    /// A node is honest again. False where it was so before.
    pub fn reform(&mut self, index: usize) -> bool {
        self.tampers.remove(&index).is_some()
    }

    pub(super) fn tampered(&mut self, index: usize, channel: Channel, frame: Vec<u8>) -> Vec<(Channel, Vec<u8>)> {
        match self.tampers.get_mut(&index) {
            Some(tamper) => tamper(channel, frame),
            None => vec![(channel, frame)],
        }
    }

    /// Adds a puppet: it proves the key of `identity` to whoever it dials, and sends what the test says.
    pub fn add_puppet(&mut self, identity: Identity) -> usize {
        self.witness.distrust(identity.device.id());
        let node = SimNode::puppet(identity);
        self.nodes.push(node);
        self.network.add();
        self.due_of.push(None);
        let index = self.nodes.len() - 1;
        self.network.open_gate(index);
        index
    }

    /// mDNS tells a node that a device is at an address, whoever says so.
    pub fn advertise(&mut self, to: usize, peer: DeviceId, address: &str) {
        self.input(to, Input::Link(LinkEvent::Discovered { peer, address: address.to_owned() }));
    }

    /// Puts a puppet on the part of the network where a node is.
    pub fn network_join(&mut self, puppet: usize, node: usize) {
        self.network.move_beside(puppet, node);
    }

    /// Lets a puppet dial a node, and gives its end of the link once it is up.
    ///
    /// # Panics
    /// Nobody answers.
    pub fn puppet_dial(&mut self, puppet: usize, road: Road, target: usize) -> LinkId {
        let seen = self.heard(puppet).len();
        self.command(
            puppet,
            LinkCommand::Dial { road, address: format!("node:{target}"), peer: None, submit: Vec::new() },
        );
        let mut found = None;
        self.until("the puppet is connected", 5_000, |simulation| {
            found = simulation.heard(puppet)[seen..].iter().find_map(|event| match event {
                LinkEvent::Up { link, dialled: true, .. } => Some(*link),
                _ => None,
            });
            found.is_some()
        });
        found.unwrap_or(LinkId(0))
    }

    /// The same within a time; `None` where nobody answers.
    pub fn puppet_tries(&mut self, puppet: usize, road: Road, target: usize, milliseconds: u64) -> Option<LinkId> {
        let seen = self.heard(puppet).len();
        self.command(
            puppet,
            LinkCommand::Dial { road, address: format!("node:{target}"), peer: None, submit: Vec::new() },
        );
        self.run_for(milliseconds);
        self.heard(puppet)[seen..].iter().find_map(|event| match event {
            LinkEvent::Up { link, dialled: true, .. } => Some(*link),
            _ => None,
        })
    }

    /// Lets a puppet send a frame.
    pub fn puppet_send(&mut self, puppet: usize, link: LinkId, channel: Channel, frame: Vec<u8>) {
        self.command(puppet, LinkCommand::Send { link, channel, frame });
    }

    /// Lets a puppet dial a node and greet it as whoever knows the market does. Gives its end of the link.
    pub fn puppet_greets(&mut self, puppet: usize, road: Road, target: usize) -> LinkId {
        let link = self.puppet_dial(puppet, road, target);
        let hello = join_hello(&self.market_id(), &self.nodes[puppet].identity);
        self.puppet_send(puppet, link, Channel::Join, encode_join(join_frame::Body::Hello(hello)));
        link
    }

    /// Lets a puppet open a session: what it then sends counts as a member's, if it is one.
    pub fn puppet_opens_session(&mut self, puppet: usize, link: LinkId, incarnation: [u8; 16]) {
        let hello = wire::Hello {
            version: stallmesh_protocol::replica::VERSION,
            market: self.market_id().as_bytes().to_vec(),
            incarnation: incarnation.to_vec(),
            nonce: vec![7; 16],
            ..wire::Hello::default()
        };
        self.puppet_send(puppet, link, Channel::Live, encode(Body::Hello(hello)));
    }

    /// Lets a puppet send a page.
    pub fn puppet_sends_page(&mut self, puppet: usize, link: LinkId, log: &LogName, page: &Page, custody: bool) {
        let page = wire::Page { request: 0, log: Some(log.into()), page: page.encode(), custody, unpacked: 0 };
        self.puppet_send(puppet, link, Channel::Live, encode(Body::Page(page)));
    }

    /// The frames of a session (not of joining) that a puppet got on a link, decoded.
    pub fn session_frames(&self, puppet: usize, link: LinkId) -> Vec<Body> {
        self.frames(puppet, link)
            .into_iter()
            .filter(|(channel, _)| *channel != Channel::Join)
            .filter_map(|(_, frame)| wire::Frame::decode(frame.as_slice()).ok()?.body)
            .map(unpacked)
            .collect()
    }

    /// All that a puppet was told by its network.
    pub fn heard(&self, puppet: usize) -> &[LinkEvent] {
        self.nodes[puppet].inbox.as_deref().unwrap_or_default()
    }

    /// The frames that a puppet got on a link.
    pub fn frames(&self, puppet: usize, link: LinkId) -> Vec<(Channel, Vec<u8>)> {
        self.heard(puppet)
            .iter()
            .filter_map(|event| match event {
                LinkEvent::Frame { link: on, channel, frame } if *on == link => Some((*channel, frame.clone())),
                _ => None,
            })
            .collect()
    }

    /// Whether a puppet's link has ended.
    pub fn is_down(&self, puppet: usize, link: LinkId) -> bool {
        self.heard(puppet).iter().any(|event| matches!(event, LinkEvent::Down { link: on, .. } if *on == link))
    }
}

/// The greeting of whoever knows a market.
pub fn join_hello(market: &MarketId, identity: &Identity) -> wire::JoinHello {
    let nonce = [9; 16];
    let id = identity.device.id();
    let tag = Hasher::keyed(market.as_bytes(), Domain::Join).bytes(&nonce).bytes(id.as_bytes()).finish();
    wire::JoinHello { nonce: nonce.to_vec(), tag: tag.as_bytes()[..16].to_vec() }
}

/// A log of clear entries as its author's key signs it: an opening, and whatever it likes. At most 63 entries.
///
/// # Panics
/// An entry breaks a limit of the format.
pub fn written_log(
    market: &MarketId,
    key: &DeviceKey,
    incarnation: [u8; 16],
    lane: Lane,
    entries: &[(u64, [u8; 8], Kind, Vec<u8>)],
) -> (LogName, Page) {
    let log = LogName { author: key.id(), incarnation: Incarnation::from_bytes(incarnation), lane };
    forged_log(market, key, log, entries)
}

/// The same under any name: where that isn't the key's own, no signature of it holds.
///
/// # Panics
/// An entry breaks a limit of the format.
pub fn forged_log(
    market: &MarketId,
    key: &DeviceKey,
    log: LogName,
    entries: &[(u64, [u8; 8], Kind, Vec<u8>)],
) -> (LogName, Page) {
    let mut writer = LogWriter::open(market, log);
    let mut page = Page { first: 1, previous: writer.head().hash, entries: Vec::new(), signatures: Vec::new() };
    let opening = entries.first().map_or((0, [0; 8]), |(time, seen, ..)| (*time, *seen));
    for (time, seen, kind, bytes) in
        std::iter::once((opening.0, opening.1, Kind::OPENING, Vec::new())).chain(entries.iter().cloned())
    {
        match writer.append(key, time, seen, kind, Payload::public(bytes)) {
            Ok(appended) => page.entries.push(appended.entry),
            Err(error) => panic!("{error}"),
        }
    }
    let sequence = writer.head().sequence;
    page.signatures.push((sequence, writer.sign(key)));
    (log, page)
}

/// A message with its page as it was before it was packed for the way: whoever alters it alters what is signed.
pub fn unpacked(body: Body) -> Body {
    match body {
        Body::Page(page) => match unpack(&page).map(std::borrow::Cow::into_owned) {
            Ok(bytes) => Body::Page(wire::Page { page: bytes, unpacked: 0, ..page }),
            Err(_) => Body::Page(page),
        },
        body => body,
    }
}

/// A session's message as a frame.
pub fn encode(body: Body) -> Vec<u8> {
    wire::Frame { body: Some(body) }.encode_to_vec()
}

/// A join message as a frame.
pub fn encode_join(body: wire::join_frame::Body) -> Vec<u8> {
    wire::JoinFrame { body: Some(body) }.encode_to_vec()
}
