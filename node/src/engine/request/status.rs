//! A node's own state, and why things are where they are.

use serde::{Deserialize, Serialize};
use stallmesh_protocol::{DeviceId, Hash, SaleId};
use utoipa::ToSchema;

/// A node's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// Device key.
    pub device: String,
    /// `hub`, `stall`, `gateway`; `none` before joining.
    pub role: String,
    /// Stall slug.
    pub stall: String,
    /// Name of the device or stall.
    pub name: String,
    /// Until when it has a valid certificate, or had one: milliseconds since 1970; none before joining.
    #[serde(default)]
    #[schema(required = true)]
    pub valid_until: Option<u64>,
    /// Market id and name; empty before joining.
    pub market: String,
    /// Its name.
    pub market_name: String,
    /// ISO 4217.
    pub currency: String,
    /// This run.
    pub incarnation: String,
    /// Addresses that answer.
    pub listen: Vec<String>,
    /// The way to the hub.
    pub uplink: UplinkView,
    /// Live links.
    pub peers: Vec<PeerView>,
    /// What is kept for others and by others.
    pub custody: CustodyView,
    /// Own and held logs by lane.
    pub heads: Vec<HeadView>,
    /// Degraded modes and alarms, in sentences.
    pub notices: Vec<String>,
    /// Trusted time, milliseconds since 1970.
    pub time: u64,
    /// Devices that mDNS showed.
    pub discovered: usize,
    /// How often mDNS heard nobody for so long that it began anew.
    pub discovery_renewals: u64,
    /// When it became a member, milliseconds after its start.
    #[schema(required = true)]
    pub joined_after_ms: Option<u64>,
    /// While asking to join: the short code to compare.
    pub join_code: String,
    /// Sales of this device by state.
    pub sales: SalesCount,
    /// What it took by card without the hub, and isn't captured yet.
    #[serde(default)]
    #[schema(required = true)]
    pub uncaptured: super::UncapturedView,
    /// Newest checkpoint's number.
    pub checkpoint: u64,
    /// Bytes sent and received in frames.
    pub traffic: TrafficView,
    /// Durable commits since the start.
    pub commits: u64,
    /// X25519 key, hexadecimal: what is wrapped for this device. A helper's owner needs it to delegate.
    pub seal_key: String,
}

/// Bytes of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficView {
    /// Sent.
    pub sent: u64,
    /// Received.
    pub received: u64,
}

/// How many of this device's sales are how safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SalesCount {
    /// All.
    pub recorded: usize,
    /// On neighbours, not yet at the hub.
    pub copied: usize,
    /// At the hub, not yet settled.
    pub at_the_hub: usize,
    /// Settled.
    pub settled: usize,
}

/// The way to the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UplinkView {
    /// Whether this node may dial.
    pub enabled: bool,
    /// Whether a link to a hub is up.
    pub up: bool,
    /// Links from here to the nearest node that says it has one; 0: this one; none where no way is known.
    #[serde(default)]
    #[schema(required = true)]
    pub hops: Option<u32>,
    /// Where to.
    pub address: String,
    /// The last error.
    pub error: String,
}

/// A live link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    /// Device key.
    pub device: String,
    /// Stall slug; empty for hubs and gateways.
    pub stall: String,
    /// `mesh` or `uplink`.
    pub link: String,
    /// Remote address.
    pub address: String,
    /// Whether it said that it has an uplink.
    pub uplink: bool,
    /// Entries that are known to be there and not here.
    pub missing: u64,
}

/// Custody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CustodyView {
    /// Sealed entries of others that are kept here until the hub has them.
    pub held_entries: u64,
    /// Bytes of all sealed entries of others that are kept here.
    pub held_bytes: u64,
    /// Entries of the hub's ledger that are kept here for it; they can't be read here.
    pub ledger_entries: u64,
    /// Own sealed entries that the hub doesn't have yet.
    pub own_waiting: u64,
    /// Of these, how many a neighbour holds.
    pub own_copied: u64,
}

/// A log's newest position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeadView {
    /// Author.
    pub author: String,
    /// Incarnation.
    pub incarnation: String,
    /// Lane.
    pub lane: String,
    /// Newest sequence.
    pub sequence: u64,
    /// Its hash.
    pub hash: String,
}

/// What to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainSubject {
    /// A device.
    Device(DeviceId),
    /// A sale of this device.
    Sale(SaleId),
    /// An entry by its hash.
    Entry(Hash),
}

/// An explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainView {
    /// One of the stable words: `here`, `not_a_member`, `not_connected`, `no_path`, `refused`, `quarantined`,
    /// `revoked`, `expired`, `waiting_for_hub`, `waiting_for_copies`, `settled`, `unknown`.
    pub state: String,
    /// The reason in sentences, most important first.
    pub because: Vec<String>,
}

/// An entry for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryView {
    /// Author.
    pub author: String,
    /// Incarnation.
    pub incarnation: String,
    /// Lane.
    pub lane: String,
    /// Sequence.
    pub sequence: u64,
    /// Hash.
    pub hash: String,
    /// Milliseconds since 1970.
    pub timestamp: u64,
    /// Kind.
    pub kind: String,
    /// Bytes of its parts.
    pub bytes: usize,
    /// Whether its personal part was erased.
    pub erased: bool,
    /// Whether it has effect, or why not.
    pub standing: String,
}
