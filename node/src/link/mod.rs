//! What the engine and the network shells say to each other.
//!
//! A *link* is one live, authenticated connection to one process of one device, whatever carries it. The shells
//! ([`crate::mesh`] over libp2p, [`crate::uplink`] over quinn) turn sockets into [`LinkEvent`]s and carry out
//! [`LinkCommand`]s; they decide nothing about the market. The simulator implements the same two enums.

mod doors;
mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stallmesh_protocol::DeviceId;

pub(crate) use self::doors::{Doors, NoRoom, Place, Visitor};
pub(crate) use self::streams::{FrameQueue, read_frame, read_frames, write_frames};

/// Names a link for the life of the process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Road {
    /// libp2p inside the market: QUIC, or TCP with noise and yamux.
    Mesh,
    /// quinn from a node to its hub, over the wide network.
    Uplink,
}

/// An ordered, reliable stream of frames on a link. Streams don't wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// The only one that a device which isn't a member may use.
    Join,
    /// Small and urgent: clocks, new entries, acknowledgements.
    Live,
    /// Catch-up pages and blobs.
    Bulk,
}

impl Channel {
    /// All channels, in order of urgency.
    pub const ALL: [Channel; 3] = [Channel::Join, Channel::Live, Channel::Bulk];

    /// The largest frame that a shell accepts from a peer on this channel, in bytes; a longer length prefix closes
    /// the link before anything is allocated for it.
    pub const fn frame_max(self) -> usize {
        match self {
            Channel::Join => 320 * 1024,
            Channel::Live | Channel::Bulk => 384 * 1024,
        }
    }
}

/// What a device may do on its links; decided by the engine from the `control` lane, enforced by the shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Never was a member: [`Channel::Join`] alone; other protocols are not even named to it.
    Stranger,
    /// A member, also an expired or a revoked one: the engine decides what it gets on [`Channel::Live`].
    Member,
}

/// What a shell tells the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A connection is authenticated: `peer` has proved that it holds that device key.
    Up {
        /// The new link.
        link: LinkId,
        /// The device at the other end.
        peer: DeviceId,
        /// What carries the link.
        road: Road,
        /// Whether this side dialled.
        dialled: bool,
        /// The remote address, as text in the shell's own form (multiaddr, or `host:port` on the uplink).
        address: String,
        /// Whether the transport finds out by itself when the peer is gone, as QUIC does. If not, the peer is pinged.
        notices_silence: bool,
    },
    /// A whole frame has arrived.
    Frame {
        /// Where from.
        link: LinkId,
        /// On which stream.
        channel: Channel,
        /// The frame without its length prefix.
        frame: Vec<u8>,
    },
    /// A frame has been handed to the transport: that much room is free again.
    Sent {
        /// On which link.
        link: LinkId,
        /// On which stream.
        channel: Channel,
        /// Its length in bytes without the prefix.
        bytes: usize,
    },
    /// The link is gone; no event for it follows.
    Down {
        /// The link that ended.
        link: LinkId,
        /// Why, for people.
        reason: String,
    },
    /// A device hands sealed entries in, maybe before its handshake has ended: then `link` isn't up yet, may never be, and
    /// the frame may be a repeated one. What it says must do nothing when it is said twice.
    Submitted {
        /// Names the connection, for [`LinkCommand::Answer`].
        link: LinkId,
        /// The device whose connection it is.
        peer: DeviceId,
        /// The frame without its length prefix.
        frame: Vec<u8>,
    },
    /// An answer to what a dial had submitted.
    Answered {
        /// The device at the other end.
        peer: DeviceId,
        /// The frame without its length prefix.
        frame: Vec<u8>,
    },
    /// mDNS has seen a device. A hint: nothing is known of it until a link is up.
    Discovered {
        /// The device that the advert names.
        peer: DeviceId,
        /// Where it says that it is (multiaddr).
        address: String,
    },
    /// mDNS had heard nobody for a while, and has begun anew.
    DiscoveryRenewed,
    /// A dial ended without a link.
    DialFailed {
        /// The road that was tried.
        road: Road,
        /// The address as it was given to [`LinkCommand::Dial`].
        address: String,
        /// Why, for people.
        reason: String,
    },
    /// This node can be reached here.
    Listening {
        /// On which road.
        road: Road,
        /// A multiaddr, or `host:port` on the uplink.
        address: String,
    },
}

/// What the engine asks of a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkCommand {
    /// Connect. Ends in exactly one [`LinkEvent::Up`] with `dialled` or one [`LinkEvent::DialFailed`].
    Dial {
        /// Which shell.
        road: Road,
        /// Where to: a multiaddr, or `host:port` on the uplink.
        address: String,
        /// Whom to expect; any other key is a failed dial. None: whoever answers.
        peer: Option<DeviceId>,
        /// Frames that go with the first packets where the other end allows that, else as soon as the handshake has
        /// ended, on [`Road::Uplink`] alone. Whether they arrive is only known by an answer; they may arrive twice.
        submit: Vec<Vec<u8>>,
    },
    /// Answer what was submitted on a connection.
    Answer {
        /// As [`LinkEvent::Submitted`] named it.
        link: LinkId,
        /// The frame without a length prefix.
        frame: Vec<u8>,
    },
    /// Send a frame. Frames of one channel arrive in order; the engine bounds what is under way by
    /// [`LinkEvent::Sent`].
    Send {
        /// Where to.
        link: LinkId,
        /// On which stream.
        channel: Channel,
        /// The frame without a length prefix.
        frame: Vec<u8>,
    },
    /// End a link; [`LinkEvent::Down`] follows.
    Close {
        /// Which.
        link: LinkId,
        /// Why; shown at the other end where the transport can carry it.
        reason: String,
    },
    /// From now on this device is a member (or no longer one) on present and future links. Devices that were never
    /// named are strangers.
    Admit {
        /// The device.
        device: DeviceId,
        /// What it may do.
        admission: Admission,
    },
}

/// Where a shell puts what has happened. Bounded: a shell that runs ahead of the engine waits, and stops reading.
pub type LinkEvents = tokio::sync::mpsc::Sender<LinkEvent>;

/// Numbers for links; one for all shells of a process.
#[derive(Clone, Debug, Default)]
pub struct LinkNumbers(Arc<AtomicU64>);

impl LinkNumbers {
    /// The next number.
    pub fn next(&self) -> LinkId {
        LinkId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
