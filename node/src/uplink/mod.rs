//! The way to the hub over the wide network: quinn directly, with connection migration on.
//!
//! Device keys are the TLS identities (raw public keys, RFC 7250), so who is at the other end is proved by the handshake
//! itself; whether it is a hub of the market is the engine's to judge. A channel is a bidirectional stream whose first
//! byte names it; the accepting side answers with one byte once it takes it, and only then frames flow. Each side writes
//! on streams that it opened itself.
//!
//! Early data (0-RTT) is off.

mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quinn::{Connection, Endpoint, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use stallmesh_protocol::DeviceId;
use tokio::sync::mpsc;

use crate::link::{
    Admission, Channel, Doors, FrameQueue, LinkCommand, LinkEvent, LinkEvents, LinkId, LinkNumbers, NoRoom, Place,
    Road, Visitor, read_frames, write_frames,
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
/// A peer that hasn't admitted us yet resets the stream; it is opened again after this time, then less often.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// With more handshakes under way, or more connections, than this, an address must prove itself first: that costs it a
/// round trip, and this side nothing that it would have to remember.
const TRUSTING_HANDSHAKES: usize = 16;
const TRUSTING_CONNECTIONS: usize = 64;

/// What the uplink is configured with.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// A hub listens here (UDP).
    pub listen: Option<SocketAddr>,
    /// The most connections at a time. Strangers get a part of them, and leave where a member needs it.
    pub connections_max: u32,
    /// 64 secret bytes that stay the same over restarts: a node then notices a restarted hub at once.
    pub reset_key: Option<[u8; 64]>,
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
    Arrived {
        link: LinkId,
        connection: Connection,
        peer: DeviceId,
        from: SocketAddr,
    },
    /// Somebody's handshake came to nothing.
    Missed {
        link: LinkId,
    },
    /// What was dialled is connected.
    Reached {
        connection: Connection,
        peer: DeviceId,
        address: String,
    },
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
    client: quinn::ClientConfig,
    identity: tls::Identity,
    events: LinkEvents,
    numbers: LinkNumbers,
    gate: Gate,
    doors: Doors<LinkId, DeviceId>,
    links: HashMap<LinkId, LinkState>,
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
    let client = identity.client_config(None, transport.clone()).map_err(|error| text(&error))?;
    let mut endpoint_config = quinn::EndpointConfig::default();
    let server = match config.listen {
        Some(_) => {
            if let Some(key) = &config.reset_key {
                endpoint_config = tls::endpoint_config(key);
            }
            Some(identity.server_config(transport).map_err(|error| text(&error))?)
        }
        None => None,
    };
    let address = config.listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let socket = std::net::UdpSocket::bind(address)
        .map_err(|error| UplinkError(format!("UDP address {address} can't be listened on: {error}")))?;
    let runtime = quinn::default_runtime().ok_or_else(|| UplinkError("no tokio runtime".into()))?;
    let listening = config.listen.is_some();
    let endpoint = Endpoint::new(endpoint_config, server, socket, runtime).map_err(|error| text(&error))?;
    let (reports, report_receiver) = mpsc::unbounded_channel();
    let uplink = Uplink {
        endpoint,
        client,
        identity,
        events,
        numbers,
        gate: Gate::default(),
        doors: Doors::new(usize::try_from(config.connections_max).unwrap_or(usize::MAX)),
        links: HashMap::new(),
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
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(incoming) = endpoint.accept(), if listening => self.accept(incoming),
                Some(report) = reports.recv() => self.report(report).await,
            }
        }
        self.endpoint.close(VarInt::from_u32(0), b"the node stops");
        for state in self.links.values() {
            state.queues.values().for_each(FrameQueue::close);
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
        let reports = self.reports.clone();
        tokio::spawn(async move {
            let report = match tokio::time::timeout(HANDSHAKE, incoming).await {
                Ok(Ok(connection)) => match tls::peer(&connection) {
                    Some(peer) => Report::Arrived { link, connection, peer, from },
                    None => Report::Missed { link },
                },
                Ok(Err(_)) | Err(_) => Report::Missed { link },
            };
            let _ = reports.send(report);
        });
    }

    fn command(&mut self, command: LinkCommand) {
        match command {
            LinkCommand::Dial { address, peer, .. } => self.dial(address, peer),
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
                }
            }
        }
    }

    fn dial(&self, address: String, peer: Option<DeviceId>) {
        let (endpoint, reports) = (self.endpoint.clone(), self.reports.clone());
        let client = match peer {
            None => Ok(self.client.clone()),
            Some(_) => self.identity.client_config(peer, Arc::new(transport())).map_err(|error| error.to_string()),
        };
        tokio::spawn(async move {
            let connecting = async {
                let resolved = tokio::net::lookup_host(&address)
                    .await
                    .map_err(|error| format!("{address}: {error}"))?
                    .next()
                    .ok_or_else(|| format!("{address}: no such host"))?;
                let connecting =
                    endpoint.connect_with(client?, resolved, "stallmesh").map_err(|error| error.to_string())?;
                connecting.await.map_err(|error| error.to_string())
            };
            let report = match tokio::time::timeout(HANDSHAKE, connecting).await {
                Ok(Ok(connection)) => match tls::peer(&connection) {
                    Some(peer) => Report::Reached { connection, peer, address },
                    None => Report::Failed { address, reason: "its key is no device key".into() },
                },
                Ok(Err(reason)) => Report::Failed { address, reason },
                Err(_) => Report::Failed { address, reason: "no answer: is UDP to this address let through?".into() },
            };
            let _ = reports.send(report);
        });
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Failed { address, reason } => {
                self.emit(LinkEvent::DialFailed { road: Road::Uplink, address, reason }).await;
            }
            Report::Missed { link } => self.doors.answered(link),
            Report::Arrived { link, connection, peer, from } => {
                self.doors.answered(link);
                let place = Place::of(Some(from.ip()));
                let member = self.gate.is_member(&peer);
                let visitor = if member { Visitor::Member(place) } else { Visitor::Stranger(place) };
                // Refused, it finds out why, and tries again.
                let _ = self.enter(link, connection, peer, visitor, from.to_string()).await;
            }
            Report::Reached { connection, peer, address } => {
                let link = self.numbers.next();
                if let Err(reason) = self.enter(link, connection, peer, Visitor::Dialled, address.clone()).await {
                    self.emit(LinkEvent::DialFailed { road: Road::Uplink, address, reason }).await;
                }
            }
            Report::Ended { link, reason } => {
                self.doors.left(link);
                if let Some(state) = self.links.remove(&link) {
                    state.queues.values().for_each(FrameQueue::close);
                    state.connection.close(VarInt::from_u32(0), b"");
                    self.emit(LinkEvent::Down { link, reason }).await;
                }
            }
        }
    }

    /// Takes a connection in, in another's place where it must be; why not, where there is no room.
    async fn enter(
        &mut self,
        link: LinkId,
        connection: Connection,
        peer: DeviceId,
        visitor: Visitor,
        address: String,
    ) -> Result<(), String> {
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
        let (gate, events, reports) = (self.gate.clone(), self.events.clone(), self.reports.clone());
        tokio::spawn(async move {
            let reason = accept_streams(connection, link, peer, gate, events).await;
            let _ = reports.send(Report::Ended { link, reason });
        });
        Ok(())
    }

    fn send(&mut self, link: LinkId, channel: Channel, frame: Vec<u8>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let queue = state.queues.entry(channel).or_insert_with(|| {
            let queue = FrameQueue::default();
            tokio::spawn(write_channel(state.connection.clone(), queue.clone(), link, channel, self.events.clone()));
            queue
        });
        if queue.push(frame).is_err() {
            tracing::warn!(?link, ?channel, "a link that takes nothing is given up");
            state.connection.close(VarInt::from_u32(2), b"too much waits on this link");
        }
    }
}

fn channel_byte(channel: Channel) -> u8 {
    match channel {
        Channel::Join => 0,
        Channel::Live => 1,
        Channel::Bulk => 2,
    }
}

/// Takes the streams that a peer opens, until the connection ends; why it ended.
async fn accept_streams(
    connection: Connection,
    link: LinkId,
    peer: DeviceId,
    gate: Gate,
    events: LinkEvents,
) -> String {
    loop {
        let (send, receive) = match connection.accept_bi().await {
            Ok(streams) => streams,
            Err(error) => return error.to_string(),
        };
        let (gate, events, connection) = (gate.clone(), events.clone(), connection.clone());
        tokio::spawn(async move {
            if let Err(reason) = take_stream(send, receive, link, &peer, &gate, events).await {
                connection.close(VarInt::from_u32(3), reason.as_bytes());
            }
        });
    }
}

async fn take_stream(
    mut send: SendStream,
    mut receive: RecvStream,
    link: LinkId,
    peer: &DeviceId,
    gate: &Gate,
    events: LinkEvents,
) -> Result<(), String> {
    let mut name = [0];
    let named = tokio::time::timeout(HANDSHAKE, receive.read_exact(&mut name)).await;
    let channel = Channel::ALL.into_iter().find(|channel| channel_byte(*channel) == name[0]);
    let allowed = channel.filter(|channel| *channel == Channel::Join || gate.is_member(peer));
    let (Ok(Ok(())), Some(channel)) = (named, allowed) else {
        // As if it did not exist: a stranger learns nothing about what there is.
        let _ = receive.stop(VarInt::from_u32(0));
        let _ = send.reset(VarInt::from_u32(0));
        return Ok(());
    };
    send.write_all(&[1]).await.map_err(|error| error.to_string())?;
    let _ = send.finish();
    read_frames(receive, link, channel, events).await
}

/// Opens a channel, again and again until the peer takes it, and writes its frames.
async fn write_channel(connection: Connection, queue: FrameQueue, link: LinkId, channel: Channel, events: LinkEvents) {
    let mut wait = RETRY_MIN;
    while connection.close_reason().is_none() {
        match open_channel(&connection, channel).await {
            Some(send) => {
                wait = RETRY_MIN;
                if write_frames(send, queue.clone(), link, channel, events.clone()).await.is_ok() {
                    return;
                }
            }
            None => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn open_channel(connection: &Connection, channel: Channel) -> Option<SendStream> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(&[channel_byte(channel)]).await.ok()?;
    let mut answer = [0];
    receive.read_exact(&mut answer).await.ok()?;
    (answer[0] == 1).then_some(send)
}
