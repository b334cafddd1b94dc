//! Bad input and ill will, case by case: each test begins with the number of its case in `docs/adversarial.md`, which says
//! which cases there are, what shows each (many are shown elsewhere, beside their kin), and why some don't apply.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod identity;
mod logs;
mod peers;
mod storage;
mod table;
mod time;
mod wire;

use stallmesh_node::link::{Channel, LinkId, Road};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{Frame, frame::Body};
use stallmesh_protocol::{Kind, Lane, LogName};
use stallmesh_tests::simulation::hostile::{encode, written_log};
use stallmesh_tests::simulation::{Beliefs, OPENING_MS, Simulation};

/// A member that has left its engine behind: its key, and a session with `target`.
struct Turncoat {
    puppet: usize,
    link: LinkId,
    target: usize,
    key: DeviceKey,
}

impl Turncoat {
    /// Node `member` is gone, and somebody speaks to `target` with its key.
    fn of(market: &mut Simulation, member: usize, target: usize) -> Self {
        let identity = market.nodes[member].identity.clone();
        market.kill(member);
        let key = identity.device.clone();
        let puppet = market.add_puppet(identity);
        market.network_join(puppet, target);
        let link = market.puppet_dial(puppet, Road::Mesh, target);
        market.puppet_opens_session(puppet, link, [6; 16]);
        market.run_for(500);
        Turncoat { puppet, link, target, key }
    }

    fn says(&self, market: &mut Simulation, body: Body) {
        market.puppet_send(self.puppet, self.link, Channel::Live, encode(body));
    }

    fn sends(&self, market: &mut Simulation, channel: Channel, frame: &[u8]) {
        market.puppet_send(self.puppet, self.link, channel, frame.to_vec());
    }

    fn hands_on(&self, market: &mut Simulation, log: &LogName, page: &Page) {
        market.puppet_sends_page(self.puppet, self.link, log, page, false);
    }

    /// Speaks to it again, on another link.
    fn comes_again(&mut self, market: &mut Simulation) {
        self.link = market.puppet_dial(self.puppet, Road::Mesh, self.target);
        market.puppet_opens_session(self.puppet, self.link, [6; 16]);
        market.run_for(500);
    }

    fn was_shown_out(&self, market: &Simulation) -> bool {
        market.is_down(self.puppet, self.link)
    }

    /// Why the other side ended its links to it.
    fn reasons(&self, market: &Simulation) -> Vec<String> {
        let (target, id) = (self.target, self.key.id());
        let closed = market.closed.iter().filter(|closed| closed.by == target && closed.peer == id);
        closed.map(|closed| closed.reason.clone()).collect()
    }

    /// What it was told in its session.
    fn heard(&self, market: &Simulation) -> Vec<Body> {
        market.session_frames(self.puppet, self.link)
    }
}

/// A log of clear entries that `key` signs now.
fn log_of(
    market: &Simulation,
    key: &DeviceKey,
    incarnation: u8,
    lane: Lane,
    entries: &[(Kind, Vec<u8>)],
) -> (LogName, Page) {
    let time = OPENING_MS + market.now;
    let entries: Vec<_> = entries.iter().map(|(kind, bytes)| (time, [0; 8], *kind, bytes.clone())).collect();
    written_log(&market.market_id(), key, [incarnation; 16], lane, &entries)
}

/// All that some nodes believe and hold of the lanes that everyone keeps, to be compared with later.
fn state(market: &mut Simulation, nodes: &[usize]) -> Vec<(Beliefs, Vec<String>)> {
    let mut all = Vec::new();
    for node in nodes {
        let heads = market.status(*node).heads.into_iter();
        let heads = heads.filter(|head| !["checkpoint", "sales", "ledger"].contains(&head.lane.as_str()));
        let mut heads: Vec<String> = heads
            .map(|head| format!("{} {} {} {} {}", head.author, head.incarnation, head.lane, head.sequence, head.hash))
            .collect();
        heads.sort();
        let mut beliefs = market.beliefs(*node);
        // Checkpoints go on.
        beliefs.standing.retain(|(_, _, lane, _, _)| lane != "checkpoint");
        all.push((beliefs, heads));
    }
    all
}

/// How many entries of one log a node holds.
fn held(market: &mut Simulation, at: usize, log: &LogName) -> usize {
    let (incarnation, lane) = (log.incarnation.to_string(), log.lane.to_string());
    let entries = market.entries(at, log.author).into_iter();
    entries.filter(|entry| entry.incarnation == incarnation && entry.lane == lane).count()
}

fn decoded(frame: &[u8]) -> Option<Body> {
    use prost::Message;
    Frame::decode(frame).ok()?.body
}
