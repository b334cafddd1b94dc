//! Connections that come in, from the first packet to the end of the handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{Connection, VarInt};
use stallmesh_protocol::DeviceId;

use super::streams::{Desk, Streams};
use super::tickets::Counter;
use super::{HANDSHAKE, Report, tls};

/// Somebody whose handshake has ended.
pub(super) struct Arrival {
    pub(super) connection: Connection,
    pub(super) peer: DeviceId,
    pub(super) from: SocketAddr,
    pub(super) desk: Desk,
    /// Streams that it has opened and that nobody has taken yet.
    pub(super) waiting: Vec<Streams>,
}

/// Sees a handshake through, and reports how it ended.
pub(super) async fn receive(
    incoming: quinn::Incoming,
    config: Option<Arc<quinn::ServerConfig>>,
    counter: Option<Arc<Counter>>,
    desk: Desk,
    from: SocketAddr,
) {
    let (link, reports) = (desk.link(), desk.reports.clone());
    let report = match shake_hands(incoming, config, &desk).await {
        Some((connection, waiting)) => match tls::peer(&connection) {
            Some(peer) => {
                if let Some(counter) = counter {
                    counter.settle(peer, desk.is_member(&peer));
                }
                Report::Arrived(Box::new(Arrival { connection, peer, from, desk, waiting }))
            }
            None => Report::Missed { link },
        },
        None => Report::Missed { link },
    };
    let _ = reports.send(report);
}

async fn shake_hands(
    incoming: quinn::Incoming,
    config: Option<Arc<quinn::ServerConfig>>,
    desk: &Desk,
) -> Option<(Connection, Vec<Streams>)> {
    let connecting = match config {
        Some(config) => incoming.accept_with(config),
        None => incoming.accept(),
    };
    let (connection, mut over) = match connecting.ok()?.into_0rtt() {
        Ok(early) => early,
        Err(connecting) => {
            let connection = tokio::time::timeout(HANDSHAKE, connecting).await.ok()?.ok()?;
            return Some((connection, Vec::new()));
        }
    };
    let mut waiting = Vec::new();
    let handshake = async {
        loop {
            tokio::select! {
                biased;
                // Its value says nothing on this side.
                _ = &mut over => return,
                streams = connection.accept_bi() => match streams {
                    // Opened before the end, and so maybe by a copy of a first flight.
                    Ok(streams) if streams.1.is_0rtt() => match tls::peer(&connection) {
                        Some(peer) => desk.spawn(&connection, streams, peer, true),
                        None => return,
                    },
                    Ok(streams) => waiting.push(streams),
                    Err(_) => return,
                },
            }
        }
    };
    if tokio::time::timeout(HANDSHAKE, handshake).await.is_err() {
        connection.close(VarInt::from_u32(0), b"");
        return None;
    }
    connection.close_reason().is_none().then_some((connection, waiting))
}
