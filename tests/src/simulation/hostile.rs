//! Devices that don't keep to the rules: members whose frames are altered on their way out, and puppets, which are
//! a key and a network card without any engine behind them.

use prost::Message;
use stallmesh_node::engine::Identity;
use stallmesh_node::link::{Channel, LinkCommand, LinkEvent, LinkId, Road};
use stallmesh_protocol::wire::{self, frame::Body};

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
                Some(body) => tamper(body).into_iter().map(|body| (channel, encode(body))).collect(),
                None => vec![(channel, frame)],
            }
        });
    }

    /// A node is honest again.
    pub fn reform(&mut self, index: usize) {
        self.tampers.remove(&index);
    }

    pub(super) fn tampered(&mut self, index: usize, channel: Channel, frame: Vec<u8>) -> Vec<(Channel, Vec<u8>)> {
        match self.tampers.get_mut(&index) {
            Some(tamper) => tamper(channel, frame),
            None => vec![(channel, frame)],
        }
    }

    /// Adds a puppet: it proves the key of `identity` to whoever it dials, and sends what the test says.
    pub fn add_puppet(&mut self, identity: Identity) -> usize {
        let node = SimNode::puppet(identity);
        self.nodes.push(node);
        self.network.add();
        let index = self.nodes.len() - 1;
        self.network.open_gate(index);
        index
    }

    /// Lets a puppet dial a node, and gives its end of the link once it is up.
    ///
    /// # Panics
    /// Nobody answers.
    pub fn puppet_dial(&mut self, puppet: usize, road: Road, target: usize) -> LinkId {
        let seen = self.heard(puppet).len();
        self.command(puppet, LinkCommand::Dial { road, address: format!("node:{target}"), peer: None });
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

    /// Lets a puppet send a frame.
    pub fn puppet_send(&mut self, puppet: usize, link: LinkId, channel: Channel, frame: Vec<u8>) {
        self.command(puppet, LinkCommand::Send { link, channel, frame });
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

/// A session's message as a frame.
pub fn encode(body: Body) -> Vec<u8> {
    wire::Frame { body: Some(body) }.encode_to_vec()
}

/// A join message as a frame.
pub fn encode_join(body: wire::join_frame::Body) -> Vec<u8> {
    wire::JoinFrame { body: Some(body) }.encode_to_vec()
}
