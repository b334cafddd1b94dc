//! The market's own network: libp2p over QUIC, or TCP with noise and yamux; mDNS as proposals.
//!
//! A shell: it turns connections and streams into [`LinkEvent`]s and carries out [`LinkCommand`]s. Which peer may use
//! which channel is the engine's word ([`LinkCommand::Admit`]); the protocols behind the gate are not even named to
//! anybody else. There is no identify, ping or other protocol that would tell a stranger something.

mod behaviour;
mod discovery;
mod handler;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::connection::ConnectedPoint;
use libp2p::identity::{Keypair, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder};
use stallmesh_protocol::DeviceId;
use tokio::sync::mpsc;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use self::behaviour::{Gate, GateBehaviour, GateEvent};
use self::discovery::{Discovery, DiscoveryEvent};
use crate::link::{
    Admission, Channel, FrameQueue, LinkCommand, LinkEvent, LinkEvents, LinkId, LinkNumbers, Road, read_frames,
    write_frames,
};
use crate::phases;

/// How often what mDNS has shown is said again, so that a lost link is found anew.
const REMIND_EVERY: Duration = Duration::from_secs(15);
/// A link that is silent for so long, in milliseconds, is gone. Nothing else watches over it.
const IDLE_MS: u32 = 15_000;
/// After so long without a packet each side says that it lives. One that is lost is sent again within a second or two.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the end waits until open connections are closed.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// After that, for the last packets to leave: the transport doesn't say when they have.
const GOODBYE_LAST: Duration = Duration::from_millis(20);
/// The most devices that are remembered from adverts: anybody can send them.
const DISCOVERED_MAX: usize = 1_000;
/// Dials under way at a time: more addresses than that are configured nowhere, and what is refused is tried again.
const DIALS_MAX: usize = 64;

/// What the mesh is configured with.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Whether mDNS proposes peers, and tells of this one.
    pub mdns: bool,
    /// After how long without anybody mDNS begins anew.
    pub mdns_silence_max: Duration,
    /// The most connections at a time. Strangers get a part of them, and leave where a member needs it.
    pub connections_max: u32,
}

/// Why the mesh could not start.
#[derive(Debug, thiserror::Error)]
#[error("the mesh could not start: {0}")]
pub struct MeshError(String);

#[derive(NetworkBehaviour)]
struct Behaviour {
    gate: GateBehaviour,
    mdns: libp2p::swarm::behaviour::toggle::Toggle<Discovery>,
}

/// One connection.
struct Connection {
    link: LinkId,
    peer: PeerId,
    queues: HashMap<Channel, FrameQueue>,
}

/// What stream tasks tell the swarm's task.
enum Report {
    Broken { link: LinkId, reason: String },
    Writable { link: LinkId, channel: Channel },
}

/// The running shell.
struct Mesh {
    swarm: Swarm<Behaviour>,
    events: LinkEvents,
    numbers: LinkNumbers,
    connections: HashMap<ConnectionId, Connection>,
    by_link: HashMap<LinkId, ConnectionId>,
    dials: HashMap<ConnectionId, String>,
    discovered: BTreeMap<(DeviceId, String), ()>,
    reports: mpsc::UnboundedSender<Report>,
    gate: Gate,
}

/// Starts the mesh; it runs until `commands` is dropped. Must be called inside a tokio runtime.
///
/// # Errors
/// An address can't be listened on, or the transport can't be made.
pub fn start(
    seed: &[u8; 32],
    config: &MeshConfig,
    numbers: LinkNumbers,
    events: LinkEvents,
    commands: mpsc::UnboundedReceiver<LinkCommand>,
) -> Result<tokio::task::JoinHandle<()>, MeshError> {
    let text = |error: &dyn std::fmt::Display| MeshError(error.to_string());
    let secret = ed25519::SecretKey::try_from_bytes(&mut seed.clone()).map_err(|error| text(&error))?;
    let keypair = Keypair::from(ed25519::Keypair::from(secret));
    let gate = Gate::default();
    let local = keypair.public().to_peer_id();
    let mdns = if config.mdns {
        match Discovery::new(local, config.mdns_silence_max) {
            Ok(mdns) => Some(mdns),
            // A machine without multicast works through configured addresses.
            Err(error) => {
                tracing::warn!(%error, "mDNS is not available; peers are found by configured addresses only");
                None
            }
        }
    } else {
        None
    };
    let behaviour = Behaviour {
        gate: GateBehaviour::new(gate.clone(), usize::try_from(config.connections_max).unwrap_or(usize::MAX)),
        mdns: mdns.into(),
    };
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            libp2p::tcp::Config::default().nodelay(true),
            libp2p::noise::Config::new,
            libp2p::yamux::Config::default,
        )
        .map_err(|error| text(&error))?
        .with_quic_config(|mut quic| {
            // The defaults let one peer take 15 MB; a market has dozens.
            quic.max_idle_timeout = IDLE_MS;
            quic.keep_alive_interval = KEEP_ALIVE;
            quic.max_concurrent_stream_limit = 16;
            quic.max_stream_data = 512 * 1024;
            quic.max_connection_data = 1024 * 1024;
            quic
        })
        .with_behaviour(|_| behaviour)
        .map_err(|error| text(&error))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    for address in &config.listen {
        let parsed: Multiaddr =
            address.parse().map_err(|error| MeshError(format!("listen address `{address}`: {error}")))?;
        swarm.listen_on(parsed).map_err(|error| MeshError(format!("listen address `{address}`: {error}")))?;
    }
    let (reports, report_receiver) = mpsc::unbounded_channel();
    let mesh = Mesh {
        swarm,
        events,
        numbers,
        connections: HashMap::new(),
        by_link: HashMap::new(),
        dials: HashMap::new(),
        discovered: BTreeMap::new(),
        reports,
        gate,
    };
    Ok(tokio::spawn(mesh.run(commands, report_receiver)))
}

/// The device whose key a PeerId carries; only ed25519 keys are inlined in PeerIds, and only they are device keys.
fn device_of(peer: &PeerId) -> Option<DeviceId> {
    let multihash = peer.as_ref();
    let key = libp2p::identity::PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    Some(DeviceId::from_bytes(key.try_into_ed25519().ok()?.to_bytes()))
}

/// The PeerId of a device.
pub fn peer_id(device: &DeviceId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(device.as_bytes()).ok()?;
    Some(libp2p::identity::PublicKey::from(key).to_peer_id())
}

impl Mesh {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<LinkCommand>,
        mut reports: mpsc::UnboundedReceiver<Report>,
    ) {
        let mut remind = tokio::time::interval(REMIND_EVERY);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                event = self.swarm.select_next_some() => self.swarm_event(event).await,
                Some(report) = reports.recv() => self.report(report),
                _ = remind.tick() => self.remind().await,
            }
        }
        // Peers learn of the end now, instead of after all that silence: until then they would count these
        // connections among the few that one peer may have, and refuse the next start's.
        if !self.connections.is_empty() {
            let _ = tokio::time::timeout(GOODBYE_MAX, self.goodbye()).await;
            tokio::time::sleep(GOODBYE_LAST).await;
        }
    }

    async fn goodbye(&mut self) {
        for (id, connection) in &self.connections {
            connection.queues.values().for_each(FrameQueue::close);
            self.swarm.close_connection(*id);
        }
        while !self.connections.is_empty() {
            if let SwarmEvent::ConnectionClosed { connection_id, .. } = self.swarm.select_next_some().await {
                self.connections.remove(&connection_id);
            }
        }
    }

    async fn emit(&mut self, event: LinkEvent) {
        // The engine is gone only when the process ends.
        let _ = self.events.send(event).await;
    }

    async fn remind(&mut self) {
        let all: Vec<(DeviceId, String)> = self.discovered.keys().cloned().collect();
        for (peer, address) in all {
            self.emit(LinkEvent::Discovered { peer, address }).await;
        }
    }

    async fn command(&mut self, command: LinkCommand) {
        match command {
            LinkCommand::Dial { address, peer, .. } => self.dial(address, peer).await,
            LinkCommand::Send { link, channel, frame } => self.send(link, channel, frame),
            LinkCommand::Close { link, .. } => {
                if let Some(connection) = self.by_link.get(&link) {
                    self.swarm.close_connection(*connection);
                }
            }
            LinkCommand::Admit { device, admission } => {
                if let Some(peer) = peer_id(&device) {
                    self.gate.set(peer, admission == Admission::Member);
                    self.swarm.behaviour_mut().gate.admitted(peer);
                }
            }
            // Nobody submits on this road.
            LinkCommand::Answer { .. } => {}
        }
    }

    async fn dial(&mut self, address: String, peer: Option<DeviceId>) {
        let failed = |reason: String| LinkEvent::DialFailed { road: Road::Mesh, address: address.clone(), reason };
        let parsed: Multiaddr = match address.parse() {
            Ok(parsed) => parsed,
            Err(error) => return self.emit(failed(format!("not a multiaddr: {error}"))).await,
        };
        if self.dials.len() >= DIALS_MAX {
            return self.emit(failed("too many dials are under way".into())).await;
        }
        let options = match peer.as_ref().map(peer_id) {
            Some(Some(peer)) => {
                DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![parsed]).build()
            }
            Some(None) => return self.emit(failed("not a device key".into())).await,
            None => DialOpts::unknown_peer_id().address(parsed).build(),
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                phases::reached("dial");
                self.dials.insert(id, address);
            }
            Err(error) => self.emit(failed(error.to_string())).await,
        }
    }

    fn send(&mut self, link: LinkId, channel: Channel, frame: Vec<u8>) {
        let Some(id) = self.by_link.get(&link).copied() else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let queue = match connection.queues.get(&channel) {
            Some(queue) => queue.clone(),
            None => {
                let queue = FrameQueue::default();
                connection.queues.insert(channel, queue.clone());
                self.swarm.behaviour_mut().gate.open(connection.peer, id, channel);
                queue
            }
        };
        if queue.push(frame).is_err() {
            tracing::warn!(?link, ?channel, "a link that takes nothing is given up");
            self.swarm.close_connection(id);
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Broken { link, reason } => {
                tracing::info!(?link, reason, "closing a link");
                if let Some(id) = self.by_link.get(&link) {
                    self.swarm.close_connection(*id);
                }
            }
            // A stream ended while its connection lives: what waits goes on a new one.
            Report::Writable { link, channel } => {
                let Some(id) = self.by_link.get(&link).copied() else { return };
                if let Some(connection) = self.connections.get(&id)
                    && connection.queues.contains_key(&channel)
                {
                    self.swarm.behaviour_mut().gate.open(connection.peer, id, channel);
                }
            }
        }
    }

    async fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                let own = *self.swarm.local_peer_id();
                let address = address.with(Protocol::P2p(own)).to_string();
                phases::reached("listening");
                self.emit(LinkEvent::Listening { road: Road::Mesh, address }).await;
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.established(peer_id, connection_id, &endpoint).await;
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                if let Some(connection) = self.connections.remove(&connection_id) {
                    connection.queues.values().for_each(FrameQueue::close);
                    self.by_link.remove(&connection.link);
                    let reason = cause.map_or_else(|| "closed".to_owned(), |cause| cause.to_string());
                    self.emit(LinkEvent::Down { link: connection.link, reason }).await;
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(address) = self.dials.remove(&connection_id) {
                    let reason = error.to_string();
                    self.emit(LinkEvent::DialFailed { road: Road::Mesh, address, reason }).await;
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(DiscoveryEvent::Found(found))) => {
                for (peer, address) in found {
                    if let Some(device) = device_of(&peer) {
                        let address = address.to_string();
                        if self.discovered.len() < DISCOVERED_MAX {
                            self.discovered.insert((device, address.clone()), ());
                        }
                        self.emit(LinkEvent::Discovered { peer: device, address }).await;
                    }
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(DiscoveryEvent::Renewed)) => {
                tracing::info!("nobody was heard by mDNS for a while: it begins anew");
                self.emit(LinkEvent::DiscoveryRenewed).await;
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gate(event)) => self.gate_event(event),
            _ => {}
        }
    }

    async fn established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let asked = self.dials.remove(&id);
        let Some(device) = device_of(&peer) else {
            self.swarm.close_connection(id);
            if let Some(address) = asked {
                let reason = "its key is no device key".to_owned();
                self.emit(LinkEvent::DialFailed { road: Road::Mesh, address, reason }).await;
            }
            return;
        };
        let link = self.numbers.next();
        self.connections.insert(id, Connection { link, peer, queues: HashMap::new() });
        self.by_link.insert(link, id);
        phases::reached("link");
        let dialled = endpoint.is_dialer();
        let address = asked.unwrap_or_else(|| endpoint.get_remote_address().to_string());
        let notices_silence = endpoint.get_remote_address().iter().any(|part| matches!(part, Protocol::QuicV1));
        let up = LinkEvent::Up { link, peer: device, road: Road::Mesh, dialled, address, notices_silence };
        self.emit(up).await;
    }

    fn gate_event(&mut self, event: GateEvent) {
        match event {
            GateEvent::Inbound { connection, channel, stream } => {
                let Some(link) = self.connections.get(&connection).map(|connection| connection.link) else { return };
                let (events, reports) = (self.events.clone(), self.reports.clone());
                tokio::spawn(async move {
                    if let Err(reason) = read_frames(stream.compat(), link, channel, events).await {
                        let _ = reports.send(Report::Broken { link, reason });
                    }
                });
            }
            GateEvent::Outbound { connection, channel, stream } => {
                let Some(connection) = self.connections.get(&connection) else { return };
                let Some(queue) = connection.queues.get(&channel).cloned() else { return };
                let (link, events, reports) = (connection.link, self.events.clone(), self.reports.clone());
                tokio::spawn(async move {
                    let written = write_frames(stream.compat(), queue, link, channel, events).await;
                    if written.is_err() {
                        let _ = reports.send(Report::Writable { link, channel });
                    }
                });
            }
        }
    }
}
