//! The way to the hub over the wide network: quinn directly, with connection migration on.
//!
//! Device keys are the TLS identities (raw public keys, RFC 7250), so who is at the other end is proved by the handshake
//! itself; whether it is a hub of the market is the engine's to judge. A channel is a bidirectional stream whose first
//! byte names it; the accepting side answers with one byte once it takes it, and only then frames flow. Each side writes
//! on streams that it opened itself.
//!
//! One more stream, to hand sealed entries in, needs no answer before its frames: a node opens it with its first packet,
//! as early data (0-RTT), where the hub has given it a ticket, and else as soon as the handshake has ended. Nothing else
//! travels early, and before the handshake has ended nobody counts as here: a first flight may be somebody's copy.

mod arrivals;
mod dials;
mod purse;
mod streams;
mod tickets;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quinn::{Connection, Endpoint, IdleTimeout, TransportConfig, VarInt};
use stallmesh_protocol::DeviceId;
use tokio::sync::mpsc;

use self::arrivals::Arrival;
use self::dials::Reached;
use self::purse::Purse;
use self::streams::Desk;
use self::tickets::{Counter, Tickets};
use crate::link::{
    Admission, Channel, Doors, FrameQueue, LinkCommand, LinkEvent, LinkEvents, LinkId, LinkNumbers, NoRoom, Place,
    Road, Visitor,
};

/// Nothing was heard for so long: the path is gone.
const IDLE: Duration = Duration::from_secs(15);
/// The node says that it lives, twice within the idle time: a cellular road may lose one. It also keeps the holes open
/// that routers have made for the connection; some close them after half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(7);
/// A handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the end waits for its last packets to leave.
const GOODBYE_MAX: Duration = Duration::from_millis(100);
/// With more handshakes under way, or more connections, than this, an address must prove itself first: that costs it a
/// round trip, and this side nothing that it would have to remember.
const TRUSTING_HANDSHAKES: usize = 16;
const TRUSTING_CONNECTIONS: usize = 64;

/// What the uplink is configured with.
#[derive(Clone, Debug, Default)]
pub struct UplinkConfig {
    /// A hub listens here (UDP).
    pub listen: Option<SocketAddr>,
    /// The most connections at a time. Strangers get a part of them, and leave where a member needs it.
    pub connections_max: u32,
    /// 64 secret bytes that stay the same over restarts: a node then notices a restarted hub at once.
    pub reset_key: Option<[u8; 64]>,
    /// Whether to resume earlier connections, and to let others resume theirs: sales then go with the first packet.
    pub resume: bool,
    /// A hub keeps over a clean stop here what others resume from.
    pub tickets: Option<PathBuf>,
}

/// Why the uplink could not start.
#[derive(Debug, thiserror::Error)]
#[error("the uplink could not start: {0}")]
pub struct UplinkError(String);

/// Devices that are members, by the engine's word.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<RwLock<std::collections::HashSet<DeviceId>>>);

impl Gate {
    fn is_member(&self, device: &DeviceId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(device)
    }

    fn set(&self, device: DeviceId, member: bool) {
        let mut members = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if member {
            members.insert(device);
        } else {
            members.remove(&device);
        }
    }
}

struct LinkState {
    connection: Connection,
    queues: HashMap<Channel, FrameQueue>,
}

enum Report {
    /// Somebody is connected here.
    Arrived(Box<Arrival>),
    /// Somebody's handshake came to nothing.
    Missed {
        link: LinkId,
    },
    /// Somebody hands entries in; answers go there.
    Submitting {
        link: LinkId,
        answers: FrameQueue,
    },
    /// What was dialled is connected.
    Reached(Box<Reached>),
    Failed {
        address: String,
        reason: String,
    },
    Ended {
        link: LinkId,
        reason: String,
    },
}

struct Uplink {
    endpoint: Endpoint,
    identity: tls::Identity,
    client: tls::Client,
    /// What it resumes from; none where it doesn't.
    purse: Option<Arc<Purse>>,
    server: Option<tls::Server>,
    /// What others resume from; none where they don't.
    tickets: Option<Arc<Tickets>>,
    tickets_file: Option<PathBuf>,
    events: LinkEvents,
    numbers: LinkNumbers,
    gate: Gate,
    doors: Doors<LinkId, DeviceId>,
    links: HashMap<LinkId, LinkState>,
    /// Answers to whoever hands entries in.
    answers: HashMap<LinkId, FrameQueue>,
    reports: mpsc::UnboundedSender<Report>,
}

/// Begins what the first handshake of a process would otherwise wait for; for the mesh's too. Returns at once.
pub fn warm_up() {
    tls::warm_up();
}

/// Starts the uplink; it runs until `commands` is dropped. Must be called inside a tokio runtime.
///
/// # Errors
/// The address can't be listened on, or the device key can't be used.
pub fn start(
    seed: &[u8; 32],
    config: &UplinkConfig,
    numbers: LinkNumbers,
    events: LinkEvents,
    commands: mpsc::UnboundedReceiver<LinkCommand>,
) -> Result<tokio::task::JoinHandle<()>, UplinkError> {
    let text = |error: &dyn std::fmt::Display| UplinkError(error.to_string());
    let identity = tls::Identity::new(seed).map_err(|error| text(&error))?;
    let transport = Arc::new(transport());
    let client = identity.client(None, transport.clone()).map_err(|error| text(&error))?;
    let mut endpoint_config = quinn::EndpointConfig::default();
    let server = match config.listen {
        Some(_) => {
            if let Some(key) = &config.reset_key {
                endpoint_config = tls::endpoint_config(key);
            }
            Some(identity.server(transport).map_err(|error| text(&error))?)
        }
        None => None,
    };
    let address = config.listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let socket = std::net::UdpSocket::bind(address)
        .map_err(|error| UplinkError(format!("UDP address {address} can't be listened on: {error}")))?;
    let runtime = quinn::default_runtime().ok_or_else(|| UplinkError("no tokio runtime".into()))?;
    let listening = config.listen.is_some();
    let quic = server.as_ref().map(|server| server.quic.clone());
    // Read, and so deleted, before the first packet can come.
    let tickets = (config.resume && listening).then(|| match &config.tickets {
        Some(file) => Tickets::load(file),
        None => Tickets::default(),
    });
    let endpoint = Endpoint::new(endpoint_config, quic, socket, runtime).map_err(|error| text(&error))?;
    let (reports, report_receiver) = mpsc::unbounded_channel();
    let uplink = Uplink {
        endpoint,
        identity,
        client,
        purse: config.resume.then(Arc::default),
        server,
        tickets: tickets.map(Arc::new),
        tickets_file: config.tickets.clone(),
        events,
        numbers,
        gate: Gate::default(),
        doors: Doors::new(usize::try_from(config.connections_max).unwrap_or(usize::MAX)),
        links: HashMap::new(),
        answers: HashMap::new(),
        reports,
    };
    Ok(tokio::spawn(uplink.run(commands, report_receiver, listening)))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    // Small windows: a hub holds a thousand of these.
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(8))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(512 * 1024))
        .receive_window(VarInt::from_u32(1024 * 1024))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None);
    if let Ok(idle) = IdleTimeout::try_from(IDLE) {
        transport.max_idle_timeout(Some(idle));
    }
    transport
}

impl Uplink {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<LinkCommand>,
        mut reports: mpsc::UnboundedReceiver<Report>,
        listening: bool,
    ) {
        // An unspecified address leads nowhere; then the configured ones are what invites name.
        if listening
            && let Ok(address) = self
                .endpoint
                .local_addr()
                .map_err(drop)
                .and_then(|address| (!address.ip().is_unspecified()).then_some(address).ok_or(()))
        {
            self.emit(LinkEvent::Listening { road: Road::Uplink, address: address.to_string() }).await;
        }
        let endpoint = self.endpoint.clone();
        loop {
            tokio::select! {
                // What a command answers was reported before.
                biased;
                Some(report) = reports.recv() => self.report(report).await,
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(incoming) = endpoint.accept(), if listening => self.accept(incoming),
            }
        }
        self.endpoint.close(VarInt::from_u32(0), b"the node stops");
        for state in self.links.values() {
            state.queues.values().for_each(FrameQueue::close);
        }
        self.answers.values().for_each(FrameQueue::close);
        if let (Some(tickets), Some(file)) = (&self.tickets, &self.tickets_file)
            && let Err(error) = tickets.close_into(file)
        {
            tracing::warn!(file = %file.display(), %error, "nobody will resume a connection after this stop");
        }
        // Until peers were told, or it can't be helped.
        let _ = tokio::time::timeout(GOODBYE_MAX, self.endpoint.wait_idle()).await;
    }

    async fn emit(&self, event: LinkEvent) {
        // The engine is gone only when the process ends.
        let _ = self.events.send(event).await;
    }

    fn accept(&mut self, incoming: quinn::Incoming) {
        let crowded = self.doors.held() > TRUSTING_CONNECTIONS || self.doors.knocks() > TRUSTING_HANDSHAKES;
        if crowded && !incoming.remote_address_validated() {
            // Fails only for an address that has proved itself.
            let _ = incoming.retry();
            return;
        }
        let (link, from) = (self.numbers.next(), incoming.remote_address());
        if self.doors.knock(link, Place::of(Some(from.ip()))).is_err() {
            return incoming.refuse();
        }
        let counter = self.tickets.as_ref().map(|tickets| Arc::new(Counter::new(tickets.clone())));
        let config = match (&counter, &self.server) {
            (Some(counter), Some(server)) => server.config(counter.clone()).map(Arc::new).ok(),
            _ => None,
        };
        let desk = Desk::new(link, self.gate.clone(), self.events.clone(), self.reports.clone());
        tokio::spawn(arrivals::receive(incoming, config, counter, desk, from));
    }

    fn command(&mut self, command: LinkCommand) {
        match command {
            LinkCommand::Dial { address, peer, submit, .. } => self.dial(address, peer, submit),
            LinkCommand::Answer { link, frame } => {
                if let Some(answers) = self.answers.get(&link) {
                    // Whoever takes no answers gets none.
                    let _ = answers.push(frame);
                }
            }
            LinkCommand::Send { link, channel, frame } => self.send(link, channel, frame),
            LinkCommand::Close { link, reason } => {
                if let Some(state) = self.links.get(&link) {
                    state.connection.close(VarInt::from_u32(1), reason.as_bytes());
                }
            }
            LinkCommand::Admit { device, admission } => {
                let member = admission == Admission::Member;
                self.gate.set(device, member);
                if member {
                    self.doors.admitted(&device, Instant::now());
                } else if let Some(tickets) = &self.tickets {
                    tickets.forget(&device);
                }
            }
        }
    }

    fn dial(&self, address: String, peer: Option<DeviceId>, submit: Vec<Vec<u8>>) {
        let client = match (peer, &self.purse) {
            (None, Some(purse)) => self.client.config(Arc::new(purse.for_dial(&address))),
            (None, None) => self.client.config_without_tickets(),
            // What was resumed from a ticket would not be checked for being this one.
            (Some(_), _) => {
                self.identity.client(peer, Arc::new(transport())).and_then(|client| client.config_without_tickets())
            }
        };
        let client = client.map_err(|error| error.to_string());
        let (endpoint, purse, reports) = (self.endpoint.clone(), self.purse.clone(), self.reports.clone());
        tokio::spawn(async move {
            let report = match dials::dial(&endpoint, client, &address, &submit).await {
                Ok(reached) => {
                    if let Some(purse) = purse {
                        purse.reached(&address);
                    }
                    Report::Reached(Box::new(reached))
                }
                Err(reason) => Report::Failed { address, reason },
            };
            let _ = reports.send(report);
        });
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Failed { address, reason } => {
                self.emit(LinkEvent::DialFailed { road: Road::Uplink, address, reason }).await;
            }
            Report::Missed { link } => {
                self.doors.answered(link);
                self.forget_answers(link);
            }
            Report::Submitting { link, answers } => {
                if self.doors.knows(&link) {
                    self.answers.insert(link, answers);
                } else {
                    answers.close();
                }
            }
            Report::Arrived(arrival) => {
                let Arrival { connection, peer, from, desk, waiting } = *arrival;
                let link = desk.link();
                self.doors.answered(link);
                let place = Place::of(Some(from.ip()));
                let member = self.gate.is_member(&peer);
                let visitor = if member { Visitor::Member(place) } else { Visitor::Stranger(place) };
                // Refused, it finds out why, and tries again.
                if self.enter(connection, peer, visitor, from.to_string(), desk, waiting).await.is_err() {
                    self.forget_answers(link);
                }
            }
            Report::Reached(reached) => {
                let Reached { connection, peer, address, answers } = *reached;
                let link = self.numbers.next();
                let desk = Desk::new(link, self.gate.clone(), self.events.clone(), self.reports.clone());
                let entered = self.enter(connection, peer, Visitor::Dialled, address.clone(), desk, Vec::new()).await;
                if let Err(reason) = entered {
                    return self.emit(LinkEvent::DialFailed { road: Road::Uplink, address, reason }).await;
                }
                if let Some(answers) = answers {
                    tokio::spawn(streams::hear_answers(answers, peer, self.events.clone()));
                }
            }
            Report::Ended { link, reason } => {
                self.doors.left(link);
                self.forget_answers(link);
                if let Some(state) = self.links.remove(&link) {
                    state.queues.values().for_each(FrameQueue::close);
                    state.connection.close(VarInt::from_u32(0), b"");
                    self.emit(LinkEvent::Down { link, reason }).await;
                }
            }
        }
    }

    fn forget_answers(&mut self, link: LinkId) {
        if let Some(answers) = self.answers.remove(&link) {
            answers.close();
        }
    }

    /// Takes a connection in, in another's place where it must be; why not, where there is no room.
    async fn enter(
        &mut self,
        connection: Connection,
        peer: DeviceId,
        visitor: Visitor,
        address: String,
        desk: Desk,
        waiting: Vec<streams::Streams>,
    ) -> Result<(), String> {
        let link = desk.link();
        match self.doors.enter(link, peer, visitor, Instant::now()) {
            Ok(displaced) => {
                if let Some((displaced, device)) = displaced
                    && let Some(state) = self.links.get(&displaced)
                {
                    tracing::debug!(peer = %device.short(), "a connection ends to make room for another");
                    state.connection.close(VarInt::from_u32(4), NoRoom.to_string().as_bytes());
                }
            }
            Err(no_room) => {
                tracing::debug!(peer = %peer.short(), ?visitor, "a connection is refused: there is no room");
                connection.close(VarInt::from_u32(4), no_room.to_string().as_bytes());
                return Err(no_room.to_string());
            }
        }
        self.links.insert(link, LinkState { connection: connection.clone(), queues: HashMap::new() });
        let dialled = visitor == Visitor::Dialled;
        let up = LinkEvent::Up { link, peer, road: Road::Uplink, dialled, address, notices_silence: true };
        self.emit(up).await;
        let reports = self.reports.clone();
        tokio::spawn(async move {
            let reason = desk.serve(connection, peer, waiting).await;
            let _ = reports.send(Report::Ended { link, reason });
        });
        Ok(())
    }

    fn send(&mut self, link: LinkId, channel: Channel, frame: Vec<u8>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let queue = state.queues.entry(channel).or_insert_with(|| {
            let queue = FrameQueue::default();
            tokio::spawn(streams::write_channel(
                state.connection.clone(),
                queue.clone(),
                link,
                channel,
                self.events.clone(),
            ));
            queue
        });
        if queue.push(frame).is_err() {
            tracing::warn!(?link, ?channel, "a link that takes nothing is given up");
            state.connection.close(VarInt::from_u32(2), b"too much waits on this link");
        }
    }
}
