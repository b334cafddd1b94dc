//! mDNS with a watchdog. What listens on an interface ends for good at its first error, or never begins where the
//! multicast group can't be joined at that moment, and libp2p only logs it: a node would stay deaf until its restart.
//! So it is made anew when nobody has been heard for a while.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NewListenAddr, THandler, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{Multiaddr, PeerId, mdns};
use tokio::time::{Instant, Sleep};

/// How often others are asked for, in seconds; whoever answered is remembered for six minutes.
const QUERY_EVERY: Duration = Duration::from_secs(60);

/// What discovery tells.
#[derive(Debug)]
pub(super) enum DiscoveryEvent {
    /// Peers that are new, or new at an address.
    Found(Vec<(PeerId, Multiaddr)>),
    /// Nobody was heard for too long: the listeners were made anew.
    Renewed,
}

pub(super) struct Discovery {
    own: PeerId,
    inner: mdns::tokio::Behaviour,
    /// A new behaviour is told of them: it announces nothing else.
    listening: Vec<(ListenerId, Multiaddr)>,
    silence_max: Duration,
    renew: Pin<Box<Sleep>>,
}

fn listen(own: PeerId) -> io::Result<mdns::tokio::Behaviour> {
    let config = mdns::Config { query_interval: QUERY_EVERY, ..mdns::Config::default() };
    mdns::tokio::Behaviour::new(config, own)
}

impl Discovery {
    /// Listens, and does so anew after `silence_max` without anybody.
    ///
    /// # Errors
    /// The system doesn't say which interfaces there are.
    pub(super) fn new(own: PeerId, silence_max: Duration) -> io::Result<Self> {
        let renew = Box::pin(tokio::time::sleep(silence_max));
        Ok(Discovery { own, inner: listen(own)?, listening: Vec::new(), silence_max, renew })
    }

    fn renew(&mut self) -> io::Result<()> {
        self.inner = listen(self.own)?;
        for (listener_id, addr) in &self.listening {
            let address = NewListenAddr { listener_id: *listener_id, addr };
            self.inner.on_swarm_event(FromSwarm::NewListenAddr(address));
        }
        Ok(())
    }

    fn wait_again(&mut self) {
        self.renew.as_mut().reset(Instant::now() + self.silence_max);
    }
}

/// Whether an interface is up that carries multicast, apart from loopback. Where the system doesn't say, there may be.
fn has_multicast() -> bool {
    const UP: u32 = 0x1;
    const LOOPBACK: u32 = 0x8;
    const MULTICAST: u32 = 0x1000;
    let Ok(interfaces) = std::fs::read_dir(Path::new("/sys/class/net")) else { return true };
    interfaces.filter_map(Result::ok).any(|interface| {
        let flags = std::fs::read_to_string(interface.path().join("flags")).unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
        flags & (UP | LOOPBACK | MULTICAST) == UP | MULTICAST
    })
}

impl NetworkBehaviour for Discovery {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = DiscoveryEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::NewListenAddr(new) => self.listening.push((new.listener_id, new.addr.clone())),
            FromSwarm::ExpiredListenAddr(old) => {
                self.listening.retain(|(id, address)| *id != old.listener_id || address != old.addr);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, Infallible>> {
        loop {
            if let Poll::Ready(output) = self.inner.poll(context) {
                match output {
                    ToSwarm::GenerateEvent(mdns::Event::Discovered(found)) => {
                        return Poll::Ready(ToSwarm::GenerateEvent(DiscoveryEvent::Found(found)));
                    }
                    // A peer that wasn't heard for a while is none that is gone: the peer book decides.
                    ToSwarm::GenerateEvent(mdns::Event::Expired(_)) => self.wait_again(),
                    _ => {}
                }
                continue;
            }
            if self.renew.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.wait_again();
            if self.inner.discovered_nodes().len() == 0 && has_multicast() {
                match self.renew() {
                    Ok(()) => return Poll::Ready(ToSwarm::GenerateEvent(DiscoveryEvent::Renewed)),
                    Err(error) => tracing::warn!(%error, "mDNS can't be started anew"),
                }
            }
        }
    }
}
