//! A way between real nodes that a test makes bad: datagrams and connections go through this process, which loses,
//! repeats, holds back and cuts what the test says, while it says so.
//!
//! [`UdpProxy`] stands before one UDP address, [`TcpProxy`] before one TCP address. Each runs on a thread of its own until
//! it is dropped; what its faults draw depends on its seed alone.

mod shaper;
mod tcp;
mod thread;
mod udp;

pub use self::shaper::{Counts, Faults};
pub use self::tcp::TcpProxy;
pub use self::udp::UdpProxy;

/// One direction of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From whoever dials to the address behind the proxy.
    Up,
    /// Back.
    Down,
}
