//! The gate as libp2p sees it: which protocols each peer is offered, and streams for the shell's tasks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::handler::{FromGate, GateHandler, ToGate};
use crate::link::Channel;

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
    connections: HashMap<ConnectionId, PeerId>,
    queue: VecDeque<ToSwarm<GateEvent, FromGate>>,
}

impl GateBehaviour {
    pub(super) fn new(gate: Gate) -> Self {
        GateBehaviour { gate, connections: HashMap::new(), queue: VecDeque::new() }
    }

    /// A peer's admission has changed: its connections learn of it.
    pub(super) fn admitted(&mut self, peer: PeerId) {
        let member = self.gate.is_member(&peer);
        for (connection, _) in self.connections.iter().filter(|(_, known)| **known == peer) {
            self.queue.push_back(ToSwarm::NotifyHandler {
                peer_id: peer,
                handler: NotifyHandler::One(*connection),
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

impl NetworkBehaviour for GateBehaviour {
    type ConnectionHandler = GateHandler;
    type ToSwarm = GateEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(GateHandler::new(self.gate.is_member(&peer)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(GateHandler::new(self.gate.is_member(&peer)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.connections.insert(established.connection_id, established.peer_id);
                // It may have been admitted between the handshake and now.
                self.admitted(established.peer_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connections.remove(&closed.connection_id);
            }
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
