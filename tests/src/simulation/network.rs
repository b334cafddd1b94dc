//! The simulated network: links with latency, a gate at each end, partitions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use stallmesh_node::link::{Channel, LinkEvent, LinkId, Road};
use stallmesh_protocol::DeviceId;

/// Which device may use more than the join channel, at one node.
pub type Gate = BTreeSet<DeviceId>;

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
    last_at: u64,
}

/// All links, and what is on its way.
#[derive(Debug)]
pub struct Network {
    seed: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, (usize, LinkEvent)>,
    next_event: u64,
    next_link: u64,
    connections: Vec<Connection>,
    by_link: BTreeMap<LinkId, (usize, usize)>,
    group: Vec<usize>,
    uplink: Vec<bool>,
    gates: Vec<Gate>,
    open: BTreeSet<usize>,
    /// Bytes that were sent on all links.
    pub bytes: u64,
    /// Milliseconds that a frame takes.
    pub latency: u64,
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
            by_link: BTreeMap::new(),
            group: Vec::new(),
            uplink: Vec::new(),
            gates: Vec::new(),
            open: BTreeSet::new(),
            bytes: 0,
            latency: 5,
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

    fn jitter(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % (self.latency + 1)
    }

    fn schedule(&mut self, at: u64, node: usize, event: LinkEvent) {
        let number = self.next_event;
        self.next_event += 1;
        self.queue.push(Reverse((at, number)));
        self.events.insert(number, (node, event));
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<(usize, LinkEvent)> {
        let Reverse((_, number)) = self.queue.pop()?;
        let (node, event) = self.events.remove(&number)?;
        // What was under way on a link that was cut never arrives.
        if let LinkEvent::Frame { link, .. } | LinkEvent::Sent { link, .. } | LinkEvent::Up { link, .. } = &event
            && !self.by_link.get(link).is_some_and(|(connection, _)| self.connections[*connection].alive)
        {
            return None;
        }
        Some((node, event))
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
        let connection = self.connections.len();
        let links = [LinkId(self.next_link), LinkId(self.next_link + 1)];
        self.next_link += 2;
        let at = now + self.latency * 2;
        let ends = [(from, devices.0), (to, devices.1)].map(|(node, device)| (node, device));
        self.connections.push(Connection {
            road,
            alive: true,
            ends: [
                End { node: ends[0].0, link: links[0], device: ends[0].1, waiting: Vec::new(), last_at: at },
                End { node: ends[1].0, link: links[1], device: ends[1].1, waiting: Vec::new(), last_at: at },
            ],
        });
        self.by_link.insert(links[0], (connection, 0));
        self.by_link.insert(links[1], (connection, 1));
        self.schedule(at, from, LinkEvent::Up { link: links[0], peer: devices.1, road, dialled: true, address });
        let address = format!("from:{from}");
        self.schedule(at, to, LinkEvent::Up { link: links[1], peer: devices.0, road, dialled: false, address });
    }

    pub(super) fn refuse(&mut self, now: u64, road: Road, from: usize, address: String) {
        let at = now + self.latency * 2;
        self.schedule(at, from, LinkEvent::DialFailed { road, address, reason: "unreachable".into() });
    }

    pub(super) fn send(&mut self, now: u64, _from: usize, link: LinkId, channel: Channel, frame: Vec<u8>) {
        let Some((connection, side)) = self.by_link.get(&link).copied() else { return };
        if !self.connections[connection].alive {
            return;
        }
        self.bytes += frame.len() as u64;
        let jitter = self.jitter();
        let (sender, bytes) = (self.connections[connection].ends[side].node, frame.len());
        self.schedule(now + 1, sender, LinkEvent::Sent { link, channel, bytes });
        let device = self.connections[connection].ends[side].device;
        let latency = self.latency;
        let end = &mut self.connections[connection].ends[1 - side];
        if channel != Channel::Join && !self.open.contains(&end.node) && !self.gates[end.node].contains(&device) {
            end.waiting.push((channel, frame));
            return;
        }
        // Streams keep their order.
        end.last_at = end.last_at.max(now + latency + jitter);
        let (at, node, link) = (end.last_at, end.node, end.link);
        self.schedule(at, node, LinkEvent::Frame { link, channel, frame });
    }

    pub(super) fn admit(&mut self, now: u64, node: usize, device: DeviceId) {
        self.gates[node].insert(device);
        let mut released = Vec::new();
        for connection in self.connections.iter_mut().filter(|connection| connection.alive) {
            for side in 0..2 {
                if connection.ends[side].node == node && connection.ends[1 - side].device == device {
                    let link = connection.ends[side].link;
                    released
                        .extend(connection.ends[side].waiting.drain(..).map(|(channel, frame)| (link, channel, frame)));
                }
            }
        }
        for (link, channel, frame) in released {
            self.schedule(now + self.latency, node, LinkEvent::Frame { link, channel, frame });
        }
    }

    /// A node's gate is closed to a device again.
    pub(super) fn shut_out(&mut self, node: usize, device: &DeviceId) {
        self.gates[node].remove(device);
    }

    pub(super) fn close(&mut self, now: u64, link: LinkId) {
        let Some((connection, _)) = self.by_link.get(&link).copied() else { return };
        if !std::mem::replace(&mut self.connections[connection].alive, false) {
            return;
        }
        let ends: Vec<(usize, LinkId)> =
            self.connections[connection].ends.iter().map(|end| (end.node, end.link)).collect();
        for (node, link) in ends {
            self.schedule(now + self.latency, node, LinkEvent::Down { link, reason: "closed".into() });
        }
    }

    fn cut(&mut self, which: impl Fn(&Connection) -> bool) -> Vec<(usize, LinkId)> {
        let mut down = Vec::new();
        for connection in self.connections.iter_mut().filter(|connection| connection.alive) {
            if which(connection) {
                connection.alive = false;
                down.extend(connection.ends.iter().map(|end| (end.node, end.link)));
            }
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

    pub(super) fn cut_uplink(&mut self, node: usize) -> Vec<(usize, LinkId)> {
        self.cut(|connection| connection.road == Road::Uplink && connection.ends[0].node == node)
    }
}
