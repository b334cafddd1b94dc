//! Messages between peers, generated from `proto/wire.proto`. Neither signed nor stored: they may grow.

#[allow(missing_docs, clippy::all, reason = "generated; documented in wire.proto")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/stallmesh.wire.rs"));
}

pub use generated::*;

use crate::hash::Hash;
use crate::id::{Lane, LogName as DomainLogName};
use crate::interval::Interval as DomainInterval;

impl From<&DomainLogName> for LogName {
    fn from(name: &DomainLogName) -> Self {
        LogName {
            author: name.author.as_bytes().to_vec(),
            incarnation: name.incarnation.as_bytes().to_vec(),
            lane: name.lane.0,
        }
    }
}

impl LogName {
    /// The name, where its parts have their lengths.
    pub fn to_domain(&self) -> Option<DomainLogName> {
        Some(DomainLogName {
            author: self.author.as_slice().try_into().ok()?,
            incarnation: self.incarnation.as_slice().try_into().ok()?,
            lane: Lane(self.lane),
        })
    }
}

impl From<&DomainInterval> for Interval {
    fn from(interval: &DomainInterval) -> Self {
        Interval { from: interval.from, to: interval.to, hash: interval.hash.as_bytes().to_vec() }
    }
}

impl Interval {
    /// The interval, where it makes sense.
    pub fn to_domain(&self) -> Option<DomainInterval> {
        let hash: Hash = self.hash.as_slice().try_into().ok()?;
        let interval = DomainInterval { from: self.from, to: self.to, hash };
        interval.is_valid().then_some(interval)
    }
}
