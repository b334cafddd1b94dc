//! What people and programs ask of a running node, and what it answers. The HTTP API and the command line are
//! shells over these two enums; their JSON is the API's JSON.

use serde::{Deserialize, Serialize};
use stallmesh_protocol::{DeviceId, Hash, SaleId};

use super::EngineError;
use crate::store::StoreError;

/// Names a request for the life of the process: its answer carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Something asked of the engine. Answered by exactly one [`Answer`], after what it wrote is durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Records a sale. The same key with the same content answers with the sale that was recorded before.
    RecordSale(SaleOrder),
    /// Sales that this device recorded, newest first.
    Sales {
        /// At most so many.
        limit: usize,
        /// Only older than this one.
        before: Option<SaleId>,
    },
    /// One sale of this device.
    Sale(SaleId),
    /// Products that match all words of `query` in their name or SKU.
    Catalog {
        /// Of one stall; all where left out.
        stall: Option<String>,
        /// Words; empty for all.
        query: String,
        /// At most so many.
        limit: usize,
    },
    /// How many products each stall offers here.
    CatalogCounts,
    /// Publishes products of this device's stall; what it had under the same SKU is replaced.
    PublishProducts(Vec<ProductView>),
    /// All devices with a certificate.
    Members,
    /// This node.
    Status,
    /// Why a device or an entry is, or isn't, here yet.
    Explain(ExplainSubject),
    /// Hub: makes an invite.
    CreateInvite(InviteOrder),
    /// Starts joining with an invite's text; answers at once, membership follows.
    Join {
        /// `stallmesh:…`
        invite: String,
        /// What people call this device.
        name: String,
    },
    /// Starts asking to join the market of a hub, without an invite: answers with nothing; the code appears in the
    /// status once the hub has challenged.
    AskToJoin {
        /// An invite-like link that names the market and hub but gives no right: `stallmesh:…`
        market: String,
        /// What people call this device.
        name: String,
        /// The stall asked for.
        stall: String,
    },
    /// Hub: requests that wait for a person.
    JoinRequests,
    /// Hub: admits a waiting request after the codes were compared.
    Approve {
        /// The short code, as both screens show it.
        code: String,
        /// For how long, in milliseconds.
        valid_ms: u64,
    },
    /// Gives another device a narrower certificate of the own stall.
    Delegate(DelegateOrder),
    /// Ends a device's certificates.
    Revoke {
        /// Whose.
        device: DeviceId,
        /// For people.
        reason: String,
    },
    /// The personal part of an entry goes, on every device. By the hub or the stall's owner.
    Erase {
        /// A sale id of this device, or `author/incarnation/lane/sequence`.
        subject: String,
    },
    /// What a quarantined device's newest incarnation writes counts again.
    Readmit {
        /// Whose.
        device: DeviceId,
    },
    /// Hub: what is held of a revoked device's logs counts too.
    Raise {
        /// Whose.
        device: DeviceId,
    },
    /// The market's policy, as far as this node knows.
    Policy,
    /// Hub: sets the market's policy.
    SetPolicy(PolicyView),
    /// Hub: closes a settlement batch, or says what it would be.
    Settle {
        /// Writes nothing.
        dry_run: bool,
    },
    /// Hub: the ledger's balances and sums.
    Ledger,
    /// The stall's statements that have arrived.
    Statements,
    /// The next part of an export of everything held, opened as far as this node can.
    Export {
        /// Where the last part ended; empty to begin.
        cursor: Vec<u8>,
    },
    /// Entries of one log, for people.
    LogShow {
        /// Whose; this device where left out.
        author: Option<DeviceId>,
        /// Lane's name; all where left out.
        lane: Option<String>,
        /// At most so many, newest first.
        limit: usize,
    },
    /// Switches the way to the hub on or off.
    SetUplink {
        /// Whether this node may dial the hub.
        up: bool,
    },
    /// Says how this device is powered and connected.
    SetPower {
        /// 1 to 100; 0: mains or unknown.
        battery: u32,
        /// Whether the uplink costs by volume.
        metered: bool,
    },
    /// Adds an address of a peer by hand (multiaddr).
    AddPeer {
        /// The multiaddr.
        address: String,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Done; nothing to tell.
    Done,
    /// A sale.
    Sale(SaleView),
    /// Sales.
    Sales(Vec<SaleView>),
    /// Products.
    Products(Vec<ProductView>),
    /// (Stall, products).
    CatalogCounts(Vec<(String, usize)>),
    /// Members.
    Members(Vec<MemberView>),
    /// Status.
    Status(Box<StatusView>),
    /// An explanation.
    Explain(ExplainView),
    /// An invite's text.
    Invite(String),
    /// Requests that wait.
    JoinRequests(Vec<JoinRequestView>),
    /// A settlement.
    Settlement(SettlementView),
    /// The market's policy.
    Policy(PolicyView),
    /// Balances.
    Ledger(LedgerView),
    /// Statements.
    Statements(Vec<StatementView>),
    /// A part of an export; an empty cursor: that was the last.
    Export {
        /// Bytes to append to the file.
        bytes: Vec<u8>,
        /// To ask for the next part.
        cursor: Vec<u8>,
    },
    /// Entries.
    Entries(Vec<EntryView>),
    /// It could not be done.
    Failed(Failure),
}

/// Why a request could not be done, in the API's stable words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// Stable code, `E_…`.
    pub code: FailureCode,
    /// A sentence for people: what, to what, what to do.
    pub detail: String,
}

/// Stable codes of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCode {
    /// The request makes no sense.
    EInvalid,
    /// There is no such thing here.
    ENotFound,
    /// The same idempotency key came with other content.
    EConflict,
    /// This device may not do that.
    EScope,
    /// This device is not a member (yet).
    ENotMember,
    /// Only a hub can do that.
    ENotHub,
    /// The disk is full.
    EStorageFull,
    /// The node can't, for now.
    EUnavailable,
    /// Amounts out of range or that don't add up.
    EAmountRange,
    /// Another currency than the market's.
    ECurrency,
}

impl Failure {
    /// A failure.
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        Failure { code, detail: detail.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full { .. } => FailureCode::EStorageFull,
            _ => FailureCode::EUnavailable,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            other => Failure::new(FailureCode::EUnavailable, other.to_string()),
        }
    }
}

/// A sale to record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaleOrder {
    /// Chosen by the caller: one key, one sale, however often it is sent.
    pub idempotency_key: String,
    /// What is sold.
    pub lines: Vec<OrderLine>,
    /// How it is paid; sums to the total.
    pub tenders: Vec<OrderTender>,
    /// Who is at the till.
    #[serde(default)]
    pub operator: String,
    /// A note, kept where only hub and stall can read it.
    #[serde(default)]
    pub note: String,
    /// Rehearsal: marked, and never in the ledger.
    #[serde(default)]
    pub rehearsal: bool,
}

/// One line of a sale to record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    /// A product of this device's stall.
    pub sku: String,
    /// Decimal, as text ("2", "0.350").
    #[serde(default = "one")]
    pub quantity: String,
    /// The vendor's own unit price, in minor units.
    #[serde(default)]
    pub price: Option<u64>,
}

fn one() -> String {
    "1".into()
}

/// One part of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderTender {
    /// `cash` or `card`.
    pub kind: TenderKind,
    /// Minor units; the whole total where left out and it is the only tender.
    #[serde(default)]
    pub amount: Option<u64>,
    /// The reader's token, for `card`; never a card number.
    #[serde(default)]
    pub token: String,
    /// Cash handed over.
    #[serde(default)]
    pub given: Option<u64>,
}

/// Kinds of tender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenderKind {
    /// Coins and notes.
    Cash,
    /// A card, by the reader's token.
    Card,
}

/// How safe a sale is, in the words that the till shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// On this device alone.
    ThisDevice,
    /// Neighbours hold copies.
    Copied,
    /// The hub has it.
    AtTheHub,
    /// A settlement has read it and can't post it yet: the statement says why.
    InSuspense,
    /// It is in a settlement.
    Settled,
}

/// A sale as its device shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleView {
    /// Sale id.
    #[serde(with = "text")]
    pub sale: SaleId,
    /// The buyer's number, `series-number`.
    pub receipt: String,
    /// ISO 4217.
    pub currency: String,
    /// Minor units.
    pub total: u64,
    /// Of which tax.
    pub tax: u64,
    /// Lines.
    pub lines: Vec<SaleLineView>,
    /// Tenders.
    pub tenders: Vec<TenderView>,
    /// How safe it is.
    pub state: SaleState,
    /// How many neighbours hold a copy.
    pub copies: usize,
    /// When, in milliseconds since 1970.
    pub recorded_at: u64,
    /// Log, sequence and hash of its entry: `log-id/sequence/hash`.
    pub entry: String,
    /// Rehearsal.
    pub rehearsal: bool,
}

/// A line of a recorded sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleLineView {
    /// SKU.
    pub sku: String,
    /// Name.
    pub name: String,
    /// Decimal.
    pub quantity: String,
    /// Minor units.
    pub unit_price: u64,
    /// Minor units.
    pub total: u64,
}

/// A tender of a recorded sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenderView {
    /// Kind.
    pub kind: TenderKind,
    /// Minor units.
    pub amount: u64,
    /// `none`, `online` or `offline`.
    pub authorised: String,
    /// Change given, minor units.
    pub change: u64,
}

/// A product as the API shows and takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductView {
    /// The stall that offers it; ignored when publishing.
    #[serde(default)]
    pub stall: String,
    /// SKU.
    pub sku: String,
    /// Name.
    pub name: String,
    /// Minor units.
    pub price: u64,
    /// Names of tax rates.
    #[serde(default)]
    pub taxes: Vec<String>,
    /// Categories.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Barcodes.
    #[serde(default)]
    pub barcodes: Vec<String>,
    /// `piece`, `kg`, `g`, `l` or `m`.
    #[serde(default = "piece")]
    pub unit: String,
    /// Decimal; empty: not counted.
    #[serde(default)]
    pub stock: String,
    /// The product that it is a variant of.
    #[serde(default)]
    pub variant_of: String,
}

fn piece() -> String {
    "piece".into()
}

/// A device with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Device key.
    #[serde(with = "text")]
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
    /// `valid`, `expired`, `revoked`, `quarantined`.
    pub state: String,
    /// Who gave the certificate.
    pub issuer: String,
    /// Alarms about this device: `clone`, `fork`, `clock`.
    pub alarms: Vec<String>,
    /// Whether a link to it is up.
    pub linked: bool,
}

/// A node's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    pub joined_after_ms: Option<u64>,
    /// While asking to join: the short code to compare.
    pub join_code: String,
    /// Sales of this device by state.
    pub sales: SalesCount,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficView {
    /// Sent.
    pub sent: u64,
    /// Received.
    pub received: u64,
}

/// How many of this device's sales are how safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkView {
    /// Whether this node may dial.
    pub enabled: bool,
    /// Whether a link to a hub is up.
    pub up: bool,
    /// Links from here to the nearest node that says it has one; 0: this one; none where no way is known.
    #[serde(default)]
    pub hops: Option<u32>,
    /// Where to.
    pub address: String,
    /// The last error.
    pub error: String,
}

/// A live link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainView {
    /// One of the stable words: `here`, `not_a_member`, `not_connected`, `no_path`, `refused`, `quarantined`,
    /// `revoked`, `expired`, `waiting_for_hub`, `waiting_for_copies`, `settled`, `unknown`.
    pub state: String,
    /// The reason in sentences, most important first.
    pub because: Vec<String>,
}

/// An invite to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateOrder {
    /// The helper's device key, hexadecimal.
    #[serde(with = "text")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The market's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyView {
    /// Percent of a sale's net.
    #[serde(default)]
    pub fee_rate: String,
    /// Whether prices include tax.
    #[serde(default)]
    pub prices_include_tax: bool,
    /// (Name, percent).
    #[serde(default)]
    pub tax_rates: Vec<(String, String)>,
    /// Copies of each sale on neighbours.
    #[serde(default)]
    pub carriers: u32,
    /// Largest card payment without an uplink, minor units; 0: no limit.
    #[serde(default)]
    pub card_floor_limit: u64,
}

/// A settlement, or what it would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementView {
    /// Batch number.
    pub number: u64,
    /// Digest, hexadecimal.
    pub digest: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Sales posted so far, this settlement's among them.
    pub posted: usize,
    /// Sales that it is the first to post.
    pub newly_posted: usize,
    /// Statements by stall.
    pub statements: Vec<StatementView>,
    /// What could not be posted.
    pub suspense: Vec<SuspenseView>,
    /// Sum of all rows by currency: zero.
    pub sums: Vec<(String, i64)>,
    /// Whether the batch is published with its statements. Until a carrier holds its closing it is closed, not released.
    pub released: bool,
    /// Why it isn't released yet, or why it was at once.
    pub because: String,
}

/// A statement of one stall, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementView {
    /// Stall slug.
    pub stall: String,
    /// Batch number.
    pub settlement: u64,
    /// The statement's own JSON.
    pub body: serde_json::Value,
}

/// Something that stands in suspense.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspenseView {
    /// Stable reason.
    pub reason: String,
    /// Stall slug; empty where unknown.
    pub stall: String,
    /// Minor units; 0 where it can't be opened.
    pub amount: i64,
    /// `author/incarnation/lane/sequence`.
    pub entry: String,
    /// What would resolve it.
    pub detail: String,
}

/// The hub's ledger in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerView {
    /// (Account, currency, minor units).
    pub balances: Vec<(String, String, i64)>,
    /// Sum by currency: zero.
    pub sums: Vec<(String, i64)>,
    /// Sales received.
    pub received: usize,
    /// Sales posted.
    pub posted: usize,
    /// Rows in suspense.
    pub suspense: Vec<SuspenseView>,
    /// Settlements released so far.
    pub settlements: u64,
    /// Batches that are closed and not released yet, in the order of their release.
    pub unreleased: Vec<ClosedView>,
    /// Why no batch can be closed now; empty where one can.
    pub problem: String,
}

/// A batch that is closed, not released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedView {
    /// Batch number.
    pub number: u64,
    /// What it waits for.
    pub because: String,
}

/// An entry for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Something that changed, for the event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notice {
    /// This device became a member.
    Joined,
    /// The set of members or their state changed.
    Members,
    /// A link came or went.
    Links,
    /// A sale's state changed.
    Sale {
        /// Sale id.
        sale: String,
        /// Its state now.
        state: SaleState,
        /// Copies on neighbours.
        copies: usize,
    },
    /// Products changed.
    Catalog,
    /// Hub: sales were received.
    Received {
        /// How many entries.
        entries: u64,
    },
    /// A settlement was published.
    Settled {
        /// Its number.
        number: u64,
    },
    /// Something is wrong with a device: a clone, a fork.
    Alarm {
        /// A sentence.
        detail: String,
    },
}

/// Ids as hexadecimal text in JSON.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
