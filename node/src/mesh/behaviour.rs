//! The gate as libp2p sees it: which protocols each peer is offered, and streams for the shell's tasks.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::handler::{FromGate, GateHandler, ToGate};
use crate::link::{Channel, Doors, Place, Visitor};

/// Peers that are members, by the engine's word.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<RwLock<HashSet<PeerId>>>);

impl Gate {
    pub(super) fn set(&self, peer: PeerId, member: bool) {
        let mut members = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if member {
            members.insert(peer);
        } else {
            members.remove(&peer);
        }
    }

    pub(super) fn is_member(&self, peer: &PeerId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(peer)
    }
}

/// A stream for the shell.
#[derive(Debug)]
pub(super) enum GateEvent {
    /// The peer opened it, and will write on it.
    Inbound { connection: ConnectionId, channel: Channel, stream: Stream },
    /// We opened it, and may write on it.
    Outbound { connection: ConnectionId, channel: Channel, stream: Stream },
}

pub(super) struct GateBehaviour {
    gate: Gate,
    doors: Doors<ConnectionId, PeerId>,
    queue: VecDeque<ToSwarm<GateEvent, FromGate>>,
}

impl GateBehaviour {
    /// For at most so many connections.
    pub(super) fn new(gate: Gate, connections_max: usize) -> Self {
        GateBehaviour { gate, doors: Doors::new(connections_max), queue: VecDeque::new() }
    }

    /// Lets a connection in that has proved its key, in another's place where it must be.
    fn enter(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        visitor: Visitor,
    ) -> Result<GateHandler, ConnectionDenied> {
        match self.doors.enter(connection, peer, visitor, Instant::now()) {
            Ok(displaced) => {
                if let Some((connection, peer_id)) = displaced {
                    tracing::debug!(peer = %peer_id, "a connection ends to make room for another");
                    let connection = CloseConnection::One(connection);
                    self.queue.push_back(ToSwarm::CloseConnection { peer_id, connection });
                }
                Ok(GateHandler::new(self.gate.is_member(&peer)))
            }
            Err(no_room) => {
                tracing::debug!(%peer, ?visitor, "a connection is refused: there is no room");
                Err(ConnectionDenied::new(no_room))
            }
        }
    }

    /// A peer's admission has changed: its connections learn of it.
    pub(super) fn admitted(&mut self, peer: PeerId) {
        let member = self.gate.is_member(&peer);
        if member {
            self.doors.admitted(&peer, Instant::now());
        }
        for connection in self.doors.of(&peer) {
            self.queue.push_back(ToSwarm::NotifyHandler {
                peer_id: peer,
                handler: NotifyHandler::One(connection),
                event: FromGate::Admitted(member),
            });
        }
    }

    /// Asks for a stream to write on.
    pub(super) fn open(&mut self, peer: PeerId, connection: ConnectionId, channel: Channel) {
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: FromGate::Open(channel),
        });
    }
}

/// Where an address is.
fn place(address: &Multiaddr) -> Place {
    Place::of(address.iter().find_map(|part| match part {
        Protocol::Ip4(address) => Some(IpAddr::V4(address)),
        Protocol::Ip6(address) => Some(IpAddr::V6(address)),
        _ => None,
    }))
}

impl NetworkBehaviour for GateBehaviour {
    type ConnectionHandler = GateHandler;
    type ToSwarm = GateEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.doors.knock(connection, place(remote)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.doors.answered(connection);
        let place = place(remote);
        let visitor = if self.gate.is_member(&peer) { Visitor::Member(place) } else { Visitor::Stranger(place) };
        self.enter(connection, peer, visitor)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(connection, peer, Visitor::Dialled)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            // It may have been admitted between the handshake and now.
            FromSwarm::ConnectionEstablished(established) => self.admitted(established.peer_id),
            FromSwarm::ConnectionClosed(closed) => self.doors.left(closed.connection_id),
            FromSwarm::ListenFailure(failure) => {
                self.doors.answered(failure.connection_id);
                self.doors.left(failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => self.doors.left(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let event = match event {
            ToGate::Inbound(channel, stream) => GateEvent::Inbound { connection, channel, stream },
            ToGate::Outbound(channel, stream) => GateEvent::Outbound { connection, channel, stream },
        };
        self.queue.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
