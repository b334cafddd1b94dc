//! The simulated network: links with latency, loss and a rate, a gate at each end, partitions.
//!
//! A link is what QUIC or TCP gives: each of its streams is reliable and keeps its order. So a lost packet is a later
//! frame, and a road that carries nothing any more ends the link at both ends after [`SILENCE_MS`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use stallmesh_node::link::{Channel, LinkEvent, LinkId, Road};
use stallmesh_protocol::DeviceId;

/// Which device may use more than the join channel, at one node.
pub type Gate = BTreeSet<DeviceId>;

/// After so many milliseconds without a sign of life a link is over: what the real roads are set to.
pub const SILENCE_MS: u64 = 15_000;
/// Bytes of a frame that travel in one packet.
const PACKET: u64 = 1_200;
/// A packet that was lost so many times in a row ends its link.
const TRIES_MAX: u32 = 12;

/// How one direction between two nodes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Milliseconds that a packet takes.
    pub latency_ms: u64,
    /// Up to so many more, at random.
    pub jitter_ms: u64,
    /// Of 100 packets so many are lost.
    pub loss_percent: u64,
    /// Bytes a second; `None`: without a limit.
    pub rate: Option<u64>,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions { latency_ms: 5, jitter_ms: 5, loss_percent: 0, rate: None }
    }
}

#[derive(Debug)]
struct Connection {
    road: Road,
    ends: [End; 2],
    alive: bool,
}

#[derive(Debug)]
struct End {
    node: usize,
    link: LinkId,
    /// The device at this end.
    device: DeviceId,
    /// Frames to this end that its gate holds back: their sender was admitted by the other side first.
    waiting: Vec<(Channel, Vec<u8>)>,
    /// Frames to this end that the network holds back.
    held: Vec<(Channel, Vec<u8>)>,
    /// When the last frame of each channel to this end arrives. Streams don't wait for each other.
    last_at: [u64; 3],
    /// Until when this end's sending is busy.
    busy_until: u64,
}

#[derive(Clone, Debug)]
enum Scheduled {
    Event(usize, LinkEvent),
    /// A road may have been silent for too long.
    Silence {
        connection: usize,
        since: u64,
    },
}

/// All links, and what is on its way.
#[derive(Debug)]
pub struct Network {
    seed: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Scheduled>,
    next_event: u64,
    next_link: u64,
    connections: Vec<Connection>,
    /// Those of them that are up.
    up: BTreeSet<usize>,
    by_link: BTreeMap<LinkId, (usize, usize)>,
    group: Vec<usize>,
    uplink: Vec<bool>,
    gates: Vec<Gate>,
    open: BTreeSet<usize>,
    /// Directions that carry nothing, and since when.
    silent: BTreeMap<(usize, usize), u64>,
    /// Directions that aren't as all others.
    special: BTreeMap<(usize, usize), Conditions>,
    /// How all others are.
    pub usual: Conditions,
    /// Bytes that were sent on all links.
    pub bytes: u64,
    /// Packets that were lost.
    pub lost: u64,
    /// Links that ended for silence.
    pub timed_out: u64,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Network {
            seed: seed | 1,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            next_link: 1,
            connections: Vec::new(),
            up: BTreeSet::new(),
            by_link: BTreeMap::new(),
            group: Vec::new(),
            uplink: Vec::new(),
            gates: Vec::new(),
            open: BTreeSet::new(),
            silent: BTreeMap::new(),
            special: BTreeMap::new(),
            usual: Conditions::default(),
            bytes: 0,
            lost: 0,
            timed_out: 0,
        }
    }

    pub(super) fn add(&mut self) {
        self.group.push(0);
        self.uplink.push(false);
        self.gates.push(Gate::new());
    }

    /// A node that takes whatever anybody sends it.
    pub(super) fn open_gate(&mut self, node: usize) {
        self.open.insert(node);
    }

    /// Whether two nodes are on one local network.
    pub fn reaches(&self, one: usize, other: usize) -> bool {
        one != 0 && other != 0 && self.group[one] == self.group[other]
    }

    /// A node moves to where another one is.
    pub(super) fn move_beside(&mut self, node: usize, other: usize) {
        self.group[node] = self.group[other];
    }

    pub(super) fn has_uplink(&self, node: usize) -> bool {
        self.uplink[node]
    }

    pub(super) fn set_uplink(&mut self, node: usize, up: bool) {
        self.uplink[node] = up;
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// How a direction is.
    pub fn conditions(&self, from: usize, to: usize) -> Conditions {
        self.special.get(&(from, to)).copied().unwrap_or(self.usual)
    }

    /// Makes a direction other than all others, or, with `None`, as they are.
    pub fn set_conditions(&mut self, from: usize, to: usize, conditions: Option<Conditions>) {
        match conditions {
            Some(conditions) => self.special.insert((from, to), conditions),
            None => self.special.remove(&(from, to)),
        };
    }

    /// From here on a direction carries nothing. Nobody is told: links across it end when they were silent too long.
    pub fn silence(&mut self, now: u64, from: usize, to: usize) {
        if self.silent.contains_key(&(from, to)) {
            return;
        }
        self.silent.insert((from, to), now);
        for connection in self.between(from, to) {
            self.put(now + SILENCE_MS, Scheduled::Silence { connection, since: now });
        }
    }

    /// A direction carries again; what was sent meanwhile arrives, on links that are still up.
    pub fn unsilence(&mut self, now: u64, from: usize, to: usize) {
        self.silent.remove(&(from, to));
        for connection in self.between(from, to) {
            let side = usize::from(self.connections[connection].ends[1].node == to);
            let (sender, link) = (from, self.connections[connection].ends[1 - side].link);
            for (channel, frame) in std::mem::take(&mut self.connections[connection].ends[side].held) {
                let bytes = frame.len();
                self.sent(now + 1, sender, link, channel, bytes);
                self.carry(now, connection, 1 - side, channel, frame);
            }
        }
    }

    /// A frame has left a node, and goes nowhere.
    pub(super) fn swallow(&mut self, now: u64, link: LinkId, channel: Channel, bytes: usize) {
        if let Some((connection, side)) = self.by_link.get(&link).copied() {
            let node = self.connections[connection].ends[side].node;
            self.sent(now + 1, node, link, channel, bytes);
        }
    }

    /// Tells a node that a frame has left it: of those alone that it counts.
    fn sent(&mut self, at: u64, node: usize, link: LinkId, channel: Channel, bytes: usize) {
        if channel == Channel::Bulk {
            self.schedule(at, node, LinkEvent::Sent { link, channel, bytes });
        }
    }

    /// Whether a direction carries nothing.
    pub fn is_silent(&self, from: usize, to: usize) -> bool {
        self.silent.contains_key(&(from, to))
    }

    fn between(&self, one: usize, other: usize) -> Vec<usize> {
        let joins = |ends: &[End; 2]| {
            (ends[0].node, ends[1].node) == (one, other) || (ends[0].node, ends[1].node) == (other, one)
        };
        self.up.iter().copied().filter(|connection| joins(&self.connections[*connection].ends)).collect()
    }

    fn put(&mut self, at: u64, scheduled: Scheduled) {
        let number = self.next_event;
        self.next_event += 1;
        self.queue.push(Reverse((at, number)));
        self.events.insert(number, scheduled);
    }

    fn schedule(&mut self, at: u64, node: usize, event: LinkEvent) {
        self.put(at, Scheduled::Event(node, event));
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// What is under way.
    pub fn under_way(&self) -> usize {
        self.events.len()
    }

    /// The next thing that happens; `None` where it comes to nothing.
    pub(super) fn pop(&mut self) -> Option<(usize, LinkEvent)> {
        let Reverse((at, number)) = self.queue.pop()?;
        match self.events.remove(&number)? {
            Scheduled::Event(node, event) => {
                // What was under way on a link that was cut never arrives.
                if let LinkEvent::Frame { link, .. } | LinkEvent::Sent { link, .. } | LinkEvent::Up { link, .. } =
                    &event
                    && !self.by_link.get(link).is_some_and(|(connection, _)| self.connections[*connection].alive)
                {
                    return None;
                }
                Some((node, event))
            }
            Scheduled::Silence { connection, since } => {
                let ends = &self.connections[connection].ends;
                let (one, other) = (ends[0].node, ends[1].node);
                let silent = [(one, other), (other, one)].iter().any(|road| self.silent.get(road) == Some(&since));
                if self.connections[connection].alive && silent {
                    self.timed_out += 1;
                    self.end(at, connection, "timed out");
                }
                None
            }
        }
    }

    pub(super) fn connect(
        &mut self,
        now: u64,
        road: Road,
        from: usize,
        to: usize,
        devices: (DeviceId, DeviceId),
        address: String,
    ) {
        if self.is_silent(from, to) || self.is_silent(to, from) {
            let reason = "timed out".into();
            return self.schedule(now + SILENCE_MS / 2, from, LinkEvent::DialFailed { road, address, reason });
        }
        let connection = self.connections.len();
        let links = [LinkId(self.next_link), LinkId(self.next_link + 1)];
        self.next_link += 2;
        let at = now + self.conditions(from, to).latency_ms + self.conditions(to, from).latency_ms;
        let ends = [(from, devices.0, links[0]), (to, devices.1, links[1])].map(|(node, device, link)| End {
            node,
            link,
            device,
            waiting: Vec::new(),
            held: Vec::new(),
            last_at: [at; 3],
            busy_until: now,
        });
        self.connections.push(Connection { road, alive: true, ends });
        self.up.insert(connection);
        self.by_link.insert(links[0], (connection, 0));
        self.by_link.insert(links[1], (connection, 1));
        self.schedule(
            at,
            from,
            LinkEvent::Up { link: links[0], peer: devices.1, road, dialled: true, address, notices_silence: true },
        );
        let address = format!("from:{from}");
        self.schedule(
            at,
            to,
            LinkEvent::Up { link: links[1], peer: devices.0, road, dialled: false, address, notices_silence: true },
        );
    }

    pub(super) fn refuse(&mut self, now: u64, road: Road, from: usize, address: String) {
        let at = now + 2 * self.usual.latency_ms;
        self.schedule(at, from, LinkEvent::DialFailed { road, address, reason: "unreachable".into() });
    }

    pub(super) fn send(&mut self, now: u64, link: LinkId, channel: Channel, frame: Vec<u8>) {
        let Some((connection, side)) = self.by_link.get(&link).copied() else { return };
        if !self.connections[connection].alive {
            return;
        }
        self.bytes += frame.len() as u64;
        let ends = &self.connections[connection].ends;
        let (from, to) = (ends[side].node, ends[1 - side].node);
        let bytes = frame.len();
        let rate = self.conditions(from, to).rate;
        let end = &mut self.connections[connection].ends[side];
        let begins = end.busy_until.max(now);
        end.busy_until = begins + rate.map_or(0, |rate| (bytes as u64 * 1_000).div_ceil(rate.max(1)));
        let sent_at = end.busy_until.max(now + 1);
        if self.is_silent(from, to) {
            self.connections[connection].ends[1 - side].held.push((channel, frame));
            return;
        }
        self.sent(sent_at, from, link, channel, bytes);
        self.carry(now, connection, side, channel, frame);
    }

    /// Brings a frame from one side of a connection to the other.
    fn carry(&mut self, now: u64, connection: usize, side: usize, channel: Channel, frame: Vec<u8>) {
        let ends = &self.connections[connection].ends;
        let (from, to) = (ends[side].node, ends[1 - side].node);
        let (device, leaves) = (ends[side].device, ends[side].busy_until.max(now));
        let conditions = self.conditions(from, to);
        let mut delay = conditions.latency_ms + self.random() % (conditions.jitter_ms + 1);
        for _ in 0..(frame.len() as u64).div_ceil(PACKET) * u64::from(conditions.loss_percent > 0) {
            let mut tries = 0;
            while self.random() % 100 < conditions.loss_percent {
                self.lost += 1;
                tries += 1;
                if tries > TRIES_MAX {
                    self.timed_out += 1;
                    return self.end(now + SILENCE_MS, connection, "timed out");
                }
                // Sent again after about a round trip, and a little later each time.
                delay += (2 * conditions.latency_ms).max(20) << tries.min(4);
            }
        }
        let end = &mut self.connections[connection].ends[1 - side];
        if channel != Channel::Join && !self.open.contains(&end.node) && !self.gates[end.node].contains(&device) {
            end.waiting.push((channel, frame));
            return;
        }
        // Streams keep their order.
        let last_at = &mut end.last_at[channel as usize];
        *last_at = (*last_at).max(leaves + delay);
        let (at, node, link) = (*last_at, end.node, end.link);
        self.schedule(at, node, LinkEvent::Frame { link, channel, frame });
    }

    pub(super) fn admit(&mut self, now: u64, node: usize, device: DeviceId) {
        self.gates[node].insert(device);
        let mut released = Vec::new();
        for number in &self.up {
            let connection = &mut self.connections[*number];
            for side in 0..2 {
                if connection.ends[side].node == node && connection.ends[1 - side].device == device {
                    let link = connection.ends[side].link;
                    released
                        .extend(connection.ends[side].waiting.drain(..).map(|(channel, frame)| (link, channel, frame)));
                }
            }
        }
        for (link, channel, frame) in released {
            self.schedule(now + self.usual.latency_ms, node, LinkEvent::Frame { link, channel, frame });
        }
    }

    /// A node's gate is closed to a device again.
    pub(super) fn shut_out(&mut self, node: usize, device: &DeviceId) {
        self.gates[node].remove(device);
    }

    pub(super) fn close(&mut self, now: u64, link: LinkId) {
        let Some((connection, _)) = self.by_link.get(&link).copied() else { return };
        self.end(now + self.usual.latency_ms, connection, "closed");
    }

    /// Ends a connection; both sides learn of it at a time.
    fn end(&mut self, at: u64, connection: usize, reason: &str) {
        if !std::mem::replace(&mut self.connections[connection].alive, false) {
            return;
        }
        self.up.remove(&connection);
        let ends: Vec<(usize, LinkId)> =
            self.connections[connection].ends.iter().map(|end| (end.node, end.link)).collect();
        for (node, link) in ends {
            self.schedule(at, node, LinkEvent::Down { link, reason: reason.into() });
        }
    }

    fn cut(&mut self, which: impl Fn(&Connection) -> bool) -> Vec<(usize, LinkId)> {
        let cut: Vec<usize> =
            self.up.iter().copied().filter(|connection| which(&self.connections[*connection])).collect();
        let mut down = Vec::new();
        for number in cut {
            self.up.remove(&number);
            let connection = &mut self.connections[number];
            connection.alive = false;
            down.extend(connection.ends.iter().map(|end| (end.node, end.link)));
        }
        down
    }

    pub(super) fn drop_node(&mut self, node: usize) -> Vec<(usize, LinkId)> {
        self.gates[node].clear();
        self.cut(|connection| connection.ends.iter().any(|end| end.node == node))
            .into_iter()
            .filter(|(other, _)| *other != node)
            .collect()
    }

    pub(super) fn partition(&mut self, groups: &[&[usize]]) -> Vec<(usize, LinkId)> {
        // Whoever is named in no group is alone.
        let alone = groups.len();
        self.group = (0..self.group.len()).map(|node| alone + node).collect();
        for (number, group) in groups.iter().enumerate() {
            for node in *group {
                self.group[*node] = number;
            }
        }
        let group = self.group.clone();
        self.cut(|connection| {
            connection.road == Road::Mesh && group[connection.ends[0].node] != group[connection.ends[1].node]
        })
    }

    /// The device at the other end of a node's link.
    pub(super) fn peer(&self, link: LinkId) -> Option<DeviceId> {
        let (connection, side) = self.by_link.get(&link)?;
        Some(self.connections.get(*connection)?.ends.get(1 - side)?.device)
    }

    /// The node at the other end of a node's link.
    pub(super) fn node_at(&self, link: LinkId) -> Option<usize> {
        let (connection, side) = self.by_link.get(&link)?;
        Some(self.connections.get(*connection)?.ends.get(1 - side)?.node)
    }

    pub(super) fn cut_uplink(&mut self, node: usize) -> Vec<(usize, LinkId)> {
        self.cut(|connection| connection.road == Road::Uplink && connection.ends[0].node == node)
    }
}
