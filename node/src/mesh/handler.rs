//! One connection behind the gate: offers `join` to everybody and the rest to members, and opens streams.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade};
use libp2p::swarm::Stream;
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound, SubstreamProtocol,
};
use tokio::time::Sleep;

use crate::link::Channel;

/// A peer that hasn't admitted us yet says no; it is asked again after this time, and then less and less often.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

fn protocol(channel: Channel) -> StreamProtocol {
    StreamProtocol::new(match channel {
        Channel::Join => "/stallmesh/join/1",
        Channel::Live => "/stallmesh/live/1",
        Channel::Bulk => "/stallmesh/bulk/1",
    })
}

/// Negotiates one of some channels; the stream itself is the result.
#[derive(Clone, Debug)]
pub(super) struct Channels(Vec<Channel>);

impl UpgradeInfo for Channels {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().map(|channel| protocol(*channel)).collect::<Vec<_>>().into_iter()
    }
}

impl Channels {
    fn negotiated(&self, info: &StreamProtocol) -> Option<Channel> {
        self.0.iter().copied().find(|channel| protocol(*channel) == *info)
    }
}

impl InboundUpgrade<Stream> for Channels {
    type Output = (Option<Channel>, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, info: Self::Info) -> Self::Future {
        ready(Ok((self.negotiated(&info), stream)))
    }
}

impl OutboundUpgrade<Stream> for Channels {
    type Output = (Option<Channel>, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, stream: Stream, info: Self::Info) -> Self::Future {
        ready(Ok((self.negotiated(&info), stream)))
    }
}

/// What the gate tells a connection.
#[derive(Debug)]
pub(super) enum FromGate {
    /// The peer is a member, or no longer one.
    Admitted(bool),
    /// A stream to write on is needed.
    Open(Channel),
}

/// What a connection tells the gate.
#[derive(Debug)]
pub(super) enum ToGate {
    /// The peer opened a stream.
    Inbound(Channel, Stream),
    /// A stream to write on.
    Outbound(Channel, Stream),
}

pub(super) struct GateHandler {
    member: bool,
    to_open: VecDeque<Channel>,
    retries: Vec<(Channel, Pin<Box<Sleep>>)>,
    wait: Duration,
    events: VecDeque<ToGate>,
}

impl GateHandler {
    pub(super) fn new(member: bool) -> Self {
        GateHandler { member, to_open: VecDeque::new(), retries: Vec::new(), wait: RETRY_MIN, events: VecDeque::new() }
    }
}

impl ConnectionHandler for GateHandler {
    type FromBehaviour = FromGate;
    type ToBehaviour = ToGate;
    type InboundProtocol = Channels;
    type OutboundProtocol = Channels;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Channel;

    fn listen_protocol(&self) -> SubstreamProtocol<Channels, ()> {
        let channels = if self.member { Channel::ALL.to_vec() } else { vec![Channel::Join] };
        SubstreamProtocol::new(Channels(channels), ())
    }

    fn connection_keep_alive(&self) -> bool {
        // The engine decides which links stay.
        true
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Channels, Channel, ToGate>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        let mut index = 0;
        while index < self.retries.len() {
            if self.retries[index].1.as_mut().poll(context).is_ready() {
                let (channel, _) = self.retries.swap_remove(index);
                self.to_open.push_back(channel);
            } else {
                index += 1;
            }
        }
        match self.to_open.pop_front() {
            Some(channel) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Channels(vec![channel]), channel),
            }),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: FromGate) {
        match event {
            FromGate::Admitted(member) => {
                self.member = member;
                self.wait = RETRY_MIN;
            }
            FromGate::Open(channel) => self.to_open.push_back(channel),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Channel>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (channel, stream), .. }) => {
                // A stream that was negotiated just before its peer lost its membership is dropped.
                if let Some(channel) = channel.filter(|channel| self.member || *channel == Channel::Join) {
                    if channel != Channel::Join {
                        // Whoever opens a member's channel has admitted us: what it refused before is worth asking now.
                        self.wait = RETRY_MIN;
                        self.to_open.extend(self.retries.drain(..).map(|(channel, _)| channel));
                    }
                    self.events.push_back(ToGate::Inbound(channel, stream));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info: channel,
            }) => {
                self.wait = RETRY_MIN;
                self.events.push_back(ToGate::Outbound(channel, stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: channel, .. }) => {
                self.retries.push((channel, Box::pin(tokio::time::sleep(self.wait))));
                self.wait = (self.wait * 2).min(RETRY_MAX);
            }
            _ => {}
        }
    }
}
