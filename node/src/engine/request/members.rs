//! Members, and how devices become some.

use serde::{Deserialize, Serialize};
use stallmesh_protocol::DeviceId;
use utoipa::ToSchema;

use super::text;

/// A device with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Device key.
    #[serde(with = "text")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub device: DeviceId,
    /// `hub`, `stall` or `gateway`.
    pub role: String,
    /// Stall slug.
    pub stall: String,
    /// Name.
    pub name: String,
    /// `scope` or `scope≤limit`.
    pub scopes: Vec<String>,
    /// Until when it has a valid certificate, or had one: milliseconds since 1970.
    pub not_after: u64,
    /// `valid`, `expired`, `revoked`, `quarantined`; `replaced`: a hub in whose place another goes on.
    pub state: String,
    /// Who gave the certificate.
    pub issuer: String,
    /// Alarms about this device: `clone`, `fork`, `clock`.
    pub alarms: Vec<String>,
    /// Whether a link to it is up.
    pub linked: bool,
}

/// An invite to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InviteOrder {
    /// `stall` or `gateway`.
    pub role: String,
    /// Stall slug, for stalls.
    pub stall: String,
    /// What people call it.
    pub name: String,
    /// For how long the invite can be used, in milliseconds.
    pub expires_ms: u64,
    /// For how long the certificate will be valid, in milliseconds.
    pub valid_ms: u64,
}

/// A certificate to give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DelegateOrder {
    /// The helper's device key, hexadecimal.
    #[serde(with = "text")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub device: DeviceId,
    /// The helper's X25519 key, hexadecimal, as its status shows it.
    pub seal_key: String,
    /// What people call it.
    pub name: String,
    /// `sell`, `refund=2000`, …
    pub scopes: Vec<String>,
    /// For how long, in milliseconds.
    pub valid_ms: u64,
}

/// A join request that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinRequestView {
    /// Request id.
    pub request: String,
    /// Device key.
    pub device: String,
    /// What it calls itself.
    pub name: String,
    /// The stall that it asks for.
    pub stall: String,
    /// The short code to compare; empty until its device has answered the challenge.
    pub code: String,
}
