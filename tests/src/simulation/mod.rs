//! A market in one thread: whole engines, with their network, disks and clocks obeying a seed.
//!
//! Nothing here waits: time jumps to the next thing that happens. The same seed gives the same run.

mod disk;
pub mod export;
mod gateway;
pub mod hostile;
mod medium;
mod network;
mod node;
mod people;
mod planted;
mod trace;
mod views;
mod witness;

pub use self::disk::Disk;
pub use self::gateway::{Held, SimGateway};
pub use self::hostile::Tamper;
pub use self::medium::Medium;
pub use self::network::{Conditions, Gate, Network, SILENCE_MS};
pub use self::node::SimNode;
pub use self::people::market_order;
pub use self::trace::{Trace, What};
pub use self::views::Beliefs;
pub use self::witness::{Key, Promise, Witness, entry_key};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stallmesh_node::card_reader::{ReaderCall, ReaderReply};
use stallmesh_node::engine::{
    Answer, Effect, Failure, FailureCode, Input, Notice, Now, RecoveryOrder, Request, RequestId, Settings, StatusView,
};
use stallmesh_node::link::{Admission, LinkCommand, LinkEvent, LinkId, Road};
use stallmesh_node::store::{Store, Table};
use stallmesh_protocol::{DeviceId, MarketId};

/// Wall clock at the start of every run: 2026-06-06 08:00 UTC, a market Saturday.
pub const OPENING_MS: u64 = 1_780_732_800_000;

/// A market.
pub struct Simulation {
    /// Virtual milliseconds since the start.
    pub now: u64,
    /// All nodes, by number; node 0 is the hub.
    pub nodes: Vec<SimNode>,
    /// Who can reach whom.
    pub network: Network,
    /// What nodes said to whoever listens.
    pub notices: Vec<(usize, Notice)>,
    /// The market's root key.
    pub root: DeviceId,
    /// Wall clock at the start of this run.
    pub opening_ms: u64,
    /// For how long the certificates that invites give are valid, in milliseconds.
    pub certificates_ms: u64,
    /// Links that nodes ended by themselves: who, with whom, why.
    pub closed: Vec<Closed>,
    /// Sees every disk and frame; at the end of the simulation no honest device may have cheated.
    pub witness: Witness,
    /// What happened, as a hash and as the last of it.
    pub trace: Trace,
    /// Frames and bytes that nodes sent, by node and kind.
    pub traffic: BTreeMap<(usize, &'static str), (u64, u64)>,
    /// Frames that left nodes, in order, while somebody keeps them.
    pub carried: Option<Vec<Carried>>,
    /// What tills asked their card readers.
    pub reader_calls: Vec<(usize, ReaderCall)>,
    /// Who authorises cards for the hub, where its settings say so.
    pub gateway: SimGateway,
    /// Whether disks are files on media that can fail.
    media: bool,
    answers: BTreeMap<RequestId, Answer>,
    /// When each node wants to be called again.
    due: BTreeSet<(u64, usize)>,
    due_of: Vec<Option<u64>>,
    /// Nodes that stand still, what waits for them, and which directions went silent for it.
    paused: BTreeMap<usize, Paused>,
    tampers: BTreeMap<usize, Tamper>,
    next_request: u64,
    /// How many events were handled: the bound of every wait.
    steps: u64,
    random: u64,
}

/// A process that was stopped, and will go on.
#[derive(Debug, Default)]
struct Paused {
    backlog: VecDeque<Input>,
    silenced: Vec<(usize, usize)>,
}

/// A frame that left a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// When.
    pub at: u64,
    /// Which node.
    pub from: usize,
    /// For which one.
    pub to: usize,
    /// What it is.
    pub kind: &'static str,
}

/// A link that a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The node.
    pub by: usize,
    /// The device at the other end.
    pub peer: DeviceId,
    /// Why.
    pub reason: String,
}

impl Simulation {
    /// A hub alone, with a market of its own.
    pub fn new(seed: u64) -> Self {
        Self::open(seed, false, OPENING_MS)
    }

    /// The same, with the program's own store on media that can fail, and another time of day at its start.
    pub fn on_media(seed: u64, opening_ms: u64) -> Self {
        Self::open(seed, true, opening_ms)
    }

    fn open(seed: u64, media: bool, opening_ms: u64) -> Self {
        planted::plant_what_the_environment_names();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let hub = SimNode::hub(&mut random, media, opening_ms, &market_order());
        let root = hub.root.unwrap_or_default();
        let mut simulation = Simulation {
            now: 0,
            nodes: vec![hub],
            network: Network::new(seed),
            notices: Vec::new(),
            root,
            opening_ms,
            certificates_ms: 48 * 3_600_000,
            closed: Vec::new(),
            witness: Witness::default(),
            trace: Trace::default(),
            traffic: BTreeMap::new(),
            carried: None,
            reader_calls: Vec::new(),
            gateway: SimGateway::default(),
            media,
            answers: BTreeMap::new(),
            due: BTreeSet::new(),
            due_of: vec![None],
            paused: BTreeMap::new(),
            tampers: BTreeMap::new(),
            next_request: 1,
            steps: 0,
            random,
        };
        simulation.network.add();
        simulation.witness.trust_hub(simulation.nodes[0].id());
        simulation.start(0);
        simulation
    }

    /// Adds a device that is in no market yet. It is on the local network, and its uplink is down.
    pub fn add(&mut self) -> usize {
        let index = self.add_idle(Settings::default());
        self.start(index);
        index
    }

    /// Adds a device that isn't switched on yet.
    pub fn add_idle(&mut self, settings: Settings) -> usize {
        let node = SimNode::device(&mut self.random, self.media, settings);
        self.nodes.push(node);
        self.network.add();
        self.due_of.push(None);
        self.nodes.len() - 1
    }

    /// An empty disk, of the kind that this market's devices have.
    pub fn empty_disk(&self) -> Disk {
        if self.media { Disk::on(Medium::default()) } else { Disk::default() }
    }

    /// The hub's machine is gone with all of its keys. Gives its number from now on, should it come back; number 0 is a
    /// new hub for the same market, made from the root and recovery keys alone, and not switched on yet.
    pub fn burn_hub(&mut self) -> usize {
        if self.nodes[0].engine.is_some() {
            self.kill(0);
        }
        let order = RecoveryOrder {
            epoch: market_order().epoch,
            hub_name: "New hub".into(),
            valid_ms: market_order().valid_ms,
        };
        let now = Now { monotonic_ms: 0, wall_ms: self.opening_ms + self.now };
        let new = SimNode::recovered(&mut self.random, self.media, now, &order, &self.nodes[0]);
        self.witness.trust_hub(new.id());
        let mut old = std::mem::replace(&mut self.nodes[0], new);
        old.holds_root_key = false;
        self.nodes.push(old);
        self.network.add();
        self.due_of.push(None);
        self.nodes.len() - 1
    }

    /// A second machine with a device's key and a copy of a disk of it, started as an honest owner would: a new
    /// incarnation.
    pub fn clone_device(&mut self, original: usize, disk: Disk) -> usize {
        let (identity, settings) = (self.nodes[original].identity.clone(), self.nodes[original].settings.clone());
        let index = self.add_idle(settings);
        let node = &mut self.nodes[index];
        (node.identity, node.disk) = (identity, disk);
        self.start(index);
        index
    }

    /// Restarts a device as two processes that claim to be one incarnation, which no honest program does: whatever
    /// both write from here on forks its logs. Gives the second process.
    pub fn fork_device(&mut self, original: usize) -> usize {
        self.split_device(original, 2)[1]
    }

    /// The same with more processes; gives all of them, the original first.
    pub fn split_device(&mut self, original: usize, count: usize) -> Vec<usize> {
        self.witness.distrust(self.nodes[original].id());
        self.kill(original);
        let mut all = vec![original];
        for _ in 1..count {
            let copy = self.clone_device(original, self.nodes[original].disk.copy());
            self.kill(copy);
            all.push(copy);
        }
        let seed = node::draw(&mut self.random);
        for index in &all {
            self.nodes[*index].next_seed = Some(seed);
            self.start(*index);
        }
        all
    }

    /// Restarts a device under the incarnation that it has, and with nothing on its disk: what it writes from here on
    /// parts from what it wrote before at the first entry of each log.
    pub fn fork_anew(&mut self, index: usize) {
        self.witness.distrust(self.nodes[index].id());
        self.kill(index);
        self.nodes[index].next_seed = Some(self.nodes[index].last_seed);
        self.nodes[index].disk = self.empty_disk();
        self.start(index);
    }

    /// The market's id.
    pub fn market_id(&self) -> MarketId {
        MarketId::new(&self.root, market_order().epoch)
    }

    /// Starts (or restarts) a node's process on its disk.
    pub fn start(&mut self, index: usize) {
        let now = self.now;
        self.trace.note(now, index, What::Start);
        self.nodes[index].settings.uplink_enabled = index != 0 && self.network.has_uplink(index);
        let witness = self.witness.clone();
        self.nodes[index].start(&mut self.random, now, self.opening_ms, &witness);
        self.input(index, Input::Link(LinkEvent::Listening { road: Road::Mesh, address: format!("node:{index}") }));
        if index == 0 {
            let address = "hub:0".to_owned();
            self.input(index, Input::Link(LinkEvent::Listening { road: Road::Uplink, address }));
        }
        self.discover(index);
    }

    /// Ends a node's process at once, as SIGKILL does; what was committed is on its disk.
    pub fn kill(&mut self, index: usize) {
        self.trace.note(self.now, index, What::Kill);
        self.resume(index);
        if index == 0 {
            // Nobody is there to hear them.
            self.gateway.replies.clear();
        }
        self.nodes[index].kill();
        self.look_up_due(index);
        for (other, link) in self.network.drop_node(index) {
            self.deliver_down(other, link);
        }
    }

    /// A process stands still, as after SIGSTOP: nobody is told.
    pub fn pause(&mut self, index: usize) {
        if self.nodes[index].engine.is_none() || self.paused.contains_key(&index) {
            return;
        }
        let mut silenced = Vec::new();
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            for direction in [(index, other), (other, index)] {
                if !self.network.is_silent(direction.0, direction.1) {
                    self.network.silence(self.now, direction.0, direction.1);
                    silenced.push(direction);
                }
            }
        }
        self.paused.insert(index, Paused { backlog: VecDeque::new(), silenced });
        self.look_up_due(index);
    }

    /// It goes on: with what was asked of it meanwhile, and as if no time had passed.
    pub fn resume(&mut self, index: usize) {
        let Some(paused) = self.paused.remove(&index) else { return };
        for (from, to) in paused.silenced {
            self.network.unsilence(self.now, from, to);
        }
        for input in paused.backlog {
            self.input(index, input);
        }
        self.look_up_due(index);
    }

    /// Whether a process stands still.
    pub fn is_paused(&self, index: usize) -> bool {
        self.paused.contains_key(&index)
    }

    /// All processes end, and start again after so long: a night.
    pub fn sleep(&mut self, milliseconds: u64) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|index| self.nodes[*index].engine.is_some()).collect();
        running.iter().for_each(|index| self.kill(*index));
        self.now += milliseconds;
        running.iter().for_each(|index| self.start(*index));
    }

    fn deliver_down(&mut self, node: usize, link: LinkId) {
        self.input(node, Input::Link(LinkEvent::Down { link, reason: "cut".into() }));
    }

    /// Cuts or restores the local network between two groups: links across end.
    pub fn partition(&mut self, groups: &[&[usize]]) {
        for (node, link) in self.network.partition(groups) {
            self.deliver_down(node, link);
        }
        for index in 0..self.nodes.len() {
            self.discover(index);
        }
    }

    /// Everybody on one network again.
    pub fn heal(&mut self) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.partition(&[&all]);
    }

    /// Switches a node's way to the hub.
    pub fn uplink(&mut self, index: usize, up: bool) {
        self.network.set_uplink(index, up);
        if !up {
            for (node, link) in self.network.cut_uplink(index) {
                self.deliver_down(node, link);
            }
        }
        self.ask(index, Request::SetUplink { up });
    }

    /// mDNS: a node that appears sees, and is seen by, all that it can reach. The hub is beyond the uplink.
    fn discover(&mut self, index: usize) {
        for other in 1..self.nodes.len() {
            if other != index && index != 0 && self.network.reaches(index, other) {
                for (to, from) in [(index, other), (other, index)] {
                    let peer = self.nodes[from].id();
                    let address = format!("node:{from}");
                    self.input(to, Input::Link(LinkEvent::Discovered { peer, address }));
                }
            }
        }
    }

    fn input(&mut self, index: usize, input: Input) {
        if let (Some(inbox), Input::Link(event)) = (&mut self.nodes[index].inbox, &input) {
            inbox.push(event.clone());
            return;
        }
        if let Some(paused) = self.paused.get_mut(&index) {
            paused.backlog.push_back(input);
            return;
        }
        let now = self.nodes[index].now(self.now, self.opening_ms);
        let Some(engine) = &mut self.nodes[index].engine else { return };
        self.trace.input(self.now, index, &input);
        engine.handle(input, now);
        if let Err(error) = engine.commit(now) {
            self.nodes[index].died = Some(error.to_string());
            self.kill(index);
            return;
        }
        self.look_up_due(index);
        let mut effects = Vec::new();
        while let Some(effect) = self.nodes[index].engine.as_mut().and_then(|engine| engine.poll_effect()) {
            effects.push(effect);
        }
        for effect in effects {
            match effect {
                Effect::Answer(id, answer) => {
                    self.answers.insert(id, answer);
                }
                Effect::Notice(notice) => self.notices.push((index, notice)),
                Effect::Link(_, command) => self.command(index, command),
                Effect::Gateway(call) => self.gateway.call(self.now, call),
                Effect::Reader(call) => self.reader_calls.push((index, call)),
            }
        }
    }

    fn look_up_due(&mut self, index: usize) {
        let due = if self.paused.contains_key(&index) { None } else { self.nodes[index].due() };
        if let Some(before) = std::mem::replace(&mut self.due_of[index], due) {
            self.due.remove(&(before, index));
        }
        if let Some(due) = due {
            self.due.insert((due, index));
        }
    }

    fn command(&mut self, index: usize, command: LinkCommand) {
        match command {
            LinkCommand::Dial { road, address, peer, .. } => {
                let target = address.rsplit(':').next().and_then(|number| number.parse::<usize>().ok());
                let found = target.filter(|target| {
                    *target < self.nodes.len()
                        && self.nodes[*target].engine.is_some()
                        && peer.is_none_or(|peer| peer == self.nodes[*target].id())
                        && match road {
                            Road::Mesh => self.network.reaches(index, *target),
                            Road::Uplink => self.network.has_uplink(index),
                        }
                });
                let now = self.now;
                match found {
                    Some(target) => {
                        let devices = (self.nodes[index].id(), self.nodes[target].id());
                        self.network.connect(now, road, index, target, devices, address);
                    }
                    None => self.network.refuse(now, road, index, address),
                }
            }
            LinkCommand::Send { link, channel, frame } => {
                if self.nodes[index].inbox.is_none() {
                    let node = &self.nodes[index];
                    let holds = |log: &stallmesh_protocol::LogId, sequence: u64, hash: &stallmesh_protocol::Hash| {
                        let key = [log.as_bytes().as_slice(), &sequence.to_be_bytes(), &hash.prefix()].concat();
                        matches!(node.disk.get(Table::Entries, &key), Ok(Some(_)))
                    };
                    let kind = self.witness.frame(&self.market_id(), node.id(), channel, &frame, holds);
                    let (frames, bytes) = self.traffic.entry((index, kind)).or_default();
                    (*frames, *bytes) = (*frames + 1, *bytes + frame.len() as u64);
                    if let (Some(carried), Some(to)) = (&mut self.carried, self.network.node_at(link)) {
                        carried.push(Carried { at: self.now, from: index, to, kind });
                    }
                }
                let bytes = frame.len();
                let leaves = self.tampered(index, channel, frame);
                // Its own engine must not wait for what it kept to itself.
                if leaves.is_empty() {
                    self.network.swallow(self.now, link, channel, bytes);
                }
                for (channel, frame) in leaves {
                    self.network.send(self.now, link, channel, frame);
                }
            }
            LinkCommand::Close { link, reason } => {
                if let Some(peer) = self.network.peer(link) {
                    self.closed.push(Closed { by: index, peer, reason });
                }
                self.network.close(self.now, link);
            }
            LinkCommand::Admit { device, admission: Admission::Member } => {
                self.network.admit(self.now, index, device);
            }
            LinkCommand::Admit { device, admission: Admission::Stranger } => self.network.shut_out(index, &device),
            // Simulated uplinks resume nothing, so nobody submits on them.
            LinkCommand::Answer { .. } => {}
        }
    }

    /// One event, or one tick. False where nothing will ever happen any more.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        let tick = self.due.first().map(|(due, index)| ((*due).max(self.now), *index));
        let soonest = [self.network.next_at(), tick.map(|(due, _)| due)].into_iter().flatten().min();
        if let Some(at) = self.gateway.next_at().filter(|at| soonest.is_none_or(|soonest| *at <= soonest))
            && let Some((_, reply)) = self.gateway.replies.pop_first()
        {
            self.now = self.now.max(at);
            self.input(0, Input::Gateway(reply));
            return true;
        }
        match (self.network.next_at(), tick) {
            (Some(at), due) if due.is_none_or(|(due, _)| at <= due) => {
                self.now = self.now.max(at);
                if let Some((node, event)) = self.network.pop() {
                    self.input(node, Input::Link(event));
                }
                true
            }
            (_, Some((due, index))) => {
                self.now = self.now.max(due);
                self.nodes[index].ticked(self.now);
                self.input(index, Input::Tick);
                true
            }
            _ => false,
        }
    }

    /// How many things happened.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Runs for some virtual time.
    pub fn run_for(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while self.next_event().is_some_and(|at| at <= end) && self.step() {}
        self.now = self.now.max(end);
    }

    fn next_event(&self) -> Option<u64> {
        let ticks = self.due.first().map(|(due, _)| *due);
        [self.network.next_at(), ticks, self.gateway.next_at()].into_iter().flatten().min().map(|at| at.max(self.now))
    }

    /// Runs until something holds, for at most a virtual time.
    ///
    /// # Panics
    /// It never holds.
    pub fn until(&mut self, what: &str, milliseconds: u64, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now + milliseconds;
        while !holds(self) {
            let next = self.next_event();
            if next.is_none_or(|at| at > end) {
                let described = self.describe();
                panic!("{what}: not within {milliseconds} ms (now {} ms, {} steps)\n{described}", self.now, self.steps);
            }
            // Looking costs more than stepping.
            self.run_for(10);
        }
    }

    /// How all running nodes are, a line each.
    pub fn describe(&mut self) -> String {
        let running: Vec<usize> = (0..self.nodes.len())
            .filter(|index| self.nodes[*index].engine.is_some() && !self.is_paused(*index))
            .collect();
        running
            .into_iter()
            .map(|index| {
                let status = self.status(index);
                format!(
                    "node {index}: {} {} uplink {:?} links {:?} notices {:?} sales {:?} custody {:?}\n",
                    status.role,
                    status.stall,
                    status.uplink.up,
                    status.peers.iter().map(|peer| self.number(&peer.device)).collect::<Vec<_>>(),
                    status.notices,
                    status.sales,
                    status.custody
                )
            })
            .collect()
    }

    /// The node whose key is written so.
    fn number(&self, device: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.id().to_string() == device)
    }

    /// Asks a node, and gets its answer.
    pub fn ask(&mut self, index: usize, request: Request) -> Answer {
        let id = self.begin(index, request);
        self.answered(id).unwrap_or(Answer::Failed(Failure::new(FailureCode::EUnavailable, "the node is not running")))
    }

    /// Asks a node, and doesn't wait: for what it answers later.
    pub fn begin(&mut self, index: usize, request: Request) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.input(index, Input::Request(id, request));
        id
    }

    /// A card reader answers its till.
    pub fn reader_says(&mut self, index: usize, reply: ReaderReply) {
        self.input(index, Input::Reader(reply));
    }

    /// What was answered to a request, once.
    pub fn answered(&mut self, id: RequestId) -> Option<Answer> {
        self.answers.remove(&id)
    }

    /// A node's status.
    pub fn status(&mut self, index: usize) -> StatusView {
        match self.ask(index, Request::Status) {
            Answer::Status(status) => *status,
            other => panic!("status: {other:?}"),
        }
    }
}
