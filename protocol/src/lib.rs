//! What two Stallmesh nodes must agree on, byte for byte.
//!
//! Everything here is deterministic: no input or output, no clock, no randomness, no threads. Time and random bytes
//! are arguments. `docs/protocol.md` says the same in prose, precisely enough to write another implementation;
//! `vectors/` holds the examples that both are checked against.
//!
//! | module | what it defines |
//! | --- | --- |
//! | [`id`], [`hash`], [`sign`] | names, hashes in domains, strict Ed25519 |
//! | [`entry`], [`log`], [`page`] | the log format: entries, chains, what travels |
//! | [`fork`], [`interval`] | proofs of equivocation; what is held and received |
//! | [`kind`], [`payload`] | what entries say, and their one encoding |
//! | [`planted`] | bugs that tests switch on, to see that they are found; nothing of it is in the program |

pub mod acknowledgement;
pub mod certificate;
pub mod checkpoint;
pub mod codec;
pub mod entry;
pub mod fork;
pub mod hash;
pub mod id;
pub mod interval;
pub mod invite;
pub mod join;
pub mod kind;
pub mod log;
pub mod membership;
pub mod merkle;
pub mod money;
pub mod page;
pub mod payload;
pub mod payment;
pub mod planted;
pub mod replica;
pub mod seal;
pub mod sign;
pub mod wire;

pub use crate::hash::Hash;
pub use crate::id::{DeviceId, Head, Incarnation, Lane, LogId, LogName, MarketId, SaleId};
pub use crate::kind::Kind;
