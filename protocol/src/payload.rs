//! Payloads as they are encoded, and the rule that each has one encoding.
//!
//! The types here are generated from `proto/payload.proto`. They carry raw bytes and numbers; the modules that give
//! them meaning ([`crate::certificate`], [`crate::checkpoint`], …) check and convert them.

use prost::Message;
use thiserror::Error;

pub use generated::*;

#[allow(missing_docs, clippy::all, reason = "generated; documented in payload.proto")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/stallmesh.payload.rs"));
}

/// Why a payload has no effect. The entry that carries it is kept and passed on all the same.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// Not a message of its kind.
    #[error("E_DECODE: not a {kind}: {detail}")]
    Undecodable {
        /// The message's name.
        kind: &'static str,
        /// The decoder's words.
        detail: String,
    },
    /// Decodes, but is not the one encoding of what it says.
    #[error("E_NONCANONICAL: a {kind} in an encoding that its value doesn't have")]
    NonCanonical {
        /// The message's name.
        kind: &'static str,
    },
    /// A field has no meaning.
    #[error("E_DECODE: {field} {problem}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl PayloadError {
    /// A field that makes no sense.
    pub fn field(field: &'static str, problem: &'static str) -> Self {
        PayloadError::Field { field, problem }
    }
}

/// Decodes a payload and refuses every encoding but the canonical one.
///
/// # Errors
/// The bytes are no such message, or not as [`encode`] writes it.
pub fn decode<M: Message + Default>(kind: &'static str, bytes: &[u8]) -> Result<M, PayloadError> {
    let message = M::decode(bytes).map_err(|error| PayloadError::Undecodable { kind, detail: error.to_string() })?;
    if encode(&message) == bytes { Ok(message) } else { Err(PayloadError::NonCanonical { kind }) }
}

/// The one encoding of a payload: fields ascending, defaults left out.
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// Bytes of a fixed length, as ids and hashes have them.
///
/// # Errors
/// The length is another.
pub fn fixed<T>(field: &'static str, bytes: &[u8]) -> Result<T, PayloadError>
where
    T: for<'a> TryFrom<&'a [u8]>,
{
    T::try_from(bytes).map_err(|_| PayloadError::field(field, "has the wrong length"))
}
