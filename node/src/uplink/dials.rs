//! Connections that this node makes: resumed where it has a ticket, with entries in the first packets.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use quinn::{Connection, Endpoint, RecvStream};
use stallmesh_protocol::DeviceId;

use super::{HANDSHAKE, streams, tls};

/// Who answered a dial.
pub(super) struct Reached {
    pub(super) connection: Connection,
    pub(super) peer: DeviceId,
    pub(super) address: String,
    /// Where answers to what was handed in come.
    pub(super) answers: Option<RecvStream>,
}

/// Connects, and hands in what there is.
///
/// # Errors
/// Why not, for people.
pub(super) async fn dial(
    endpoint: &Endpoint,
    client: Result<quinn::ClientConfig, String>,
    address: &str,
    submit: &[Vec<u8>],
) -> Result<Reached, String> {
    let client = client?;
    match tokio::time::timeout(HANDSHAKE, connect(endpoint, client, address, submit)).await {
        Ok(Ok((connection, answers))) => match tls::peer(&connection) {
            Some(peer) => Ok(Reached { connection, peer, address: address.to_owned(), answers }),
            None => Err("its key is no device key".into()),
        },
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err("no answer: is UDP to this address let through?".into()),
    }
}

async fn connect(
    endpoint: &Endpoint,
    client: quinn::ClientConfig,
    address: &str,
    submit: &[Vec<u8>],
) -> Result<(Connection, Option<RecvStream>), String> {
    let resolved = tokio::net::lookup_host(address)
        .await
        .map_err(|error| format!("{address}: {error}"))?
        .next()
        .ok_or_else(|| format!("{address}: no such host"))?;
    // Where no interface leads there no packet leaves, and a ticket would be spent on nothing.
    has_route(resolved).map_err(|error| format!("{address}: {error}"))?;
    let connecting = endpoint.connect_with(client, resolved, "stallmesh").map_err(|error| error.to_string())?;
    let (connection, accepted) = match connecting.into_0rtt() {
        Ok((connection, accepted)) => {
            let answers = streams::submit(&connection, submit).await;
            if accepted.await {
                return Ok((connection, answers));
            }
            (connection, false)
        }
        Err(connecting) => (connecting.await.map_err(|error| error.to_string())?, true),
    };
    if let Some(reason) = connection.close_reason() {
        return Err(reason.to_string());
    }
    if !accepted {
        tracing::debug!(address, "the hub takes no early data; it is sent once more");
    }
    let answers = streams::submit(&connection, submit).await;
    Ok((connection, answers))
}

fn has_route(address: SocketAddr) -> std::io::Result<()> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    // Connecting a datagram socket sends nothing.
    UdpSocket::bind(any)?.connect(address)
}
