//! What people and programs ask of a running node, and what it answers. The HTTP API and the command line are
//! shells over these two enums; their JSON is the API's JSON.

mod baskets;
mod judgement;
mod members;
mod money;
mod presync;
mod sales;
mod status;
mod stock;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use stallmesh_protocol::{DeviceId, Hash, SaleId};
use utoipa::ToSchema;

use super::EngineError;
use crate::card_data;
use crate::quote::files::BasketFile;
use crate::quote::{Problem, ProblemCode};
use crate::store::StoreError;

pub use self::baskets::*;
pub use self::judgement::*;
pub use self::members::*;
pub use self::money::*;
pub use self::presync::*;
pub use self::sales::*;
pub use self::status::*;
pub use self::stock::*;

/// Names a request for the life of the process: its answer carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Something asked of the engine. Answered by exactly one [`Answer`], after what it wrote is durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Does what is asked, once: the same key with the same hash is answered as it was before.
    Once {
        /// The caller's.
        key: String,
        /// Hash of what was asked, as the caller sent it.
        asked: Hash,
        /// What to do.
        request: Box<Request>,
    },
    /// What was answered to a key before; not found where it wasn't used.
    Recall {
        /// The caller's.
        key: String,
        /// Hash of what was asked.
        asked: Hash,
    },
    /// Records a sale. The same key with the same content answers with the sale that was recorded before.
    RecordSale(SaleOrder),
    /// What a basket costs now, at this stall.
    Quote(BasketFile),
    /// Opens a basket on this device.
    OpenBasket {
        /// What is in it already.
        basket: BasketFile,
        /// The caller's: the same key, the same basket.
        key: Option<String>,
    },
    /// Changes an open basket.
    ChangeBasket {
        /// Which.
        id: BasketId,
        /// How.
        order: BasketOrder,
        /// The caller's: the same key, the same change.
        key: Option<String>,
    },
    /// A basket, with what it costs now.
    Basket(BasketId),
    /// Open baskets, the one that was changed last first.
    Baskets,
    /// Discards an open basket.
    DiscardBasket(BasketId),
    /// Records the sale of a basket: one, however often it is asked for.
    SellBasket {
        /// Which.
        id: BasketId,
        /// How it is paid.
        sale: BasketSale,
    },
    /// Takes a part of a basket's payment.
    TakeTender {
        /// Whose.
        id: BasketId,
        /// How.
        order: PartOrder,
        /// The caller's: the same key, the same part.
        key: Option<String>,
    },
    /// Voids a part of a basket's payment.
    VoidTender {
        /// Whose.
        id: BasketId,
        /// Which.
        number: u32,
        /// Reasons that a person lets pass.
        confirmed: Vec<String>,
    },
    /// By what this till judges payments.
    CheckoutRules,
    /// Hub: publishes by what tills judge payments.
    SetCheckoutRules(RulesOrder),
    /// Narrows what this device takes by card without the hub.
    NarrowRisk(crate::risk::files::StallFile),
    /// Says something about a card: a hub for the market, a stall's device for its stall.
    BlockCard(BlockOrder),
    /// What is said about cards, devices and people now.
    Signals {
        /// At most so many.
        limit: usize,
    },
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
        /// Only those after this stall and SKU.
        after: Option<(String, String)>,
        /// At most so many.
        limit: usize,
    },
    /// How many products each stall offers here.
    CatalogCounts,
    /// What matches some words of all that stalls offer now, the best first.
    FindProducts {
        /// Words of names, SKUs, barcodes, categories, tags and stalls.
        query: String,
        /// Of one stall; of all where left out.
        stall: Option<String>,
        /// Only those after this one.
        after: Option<crate::search::Found>,
        /// At most so many.
        limit: usize,
    },
    /// What is here for a market day, and what isn't.
    CatalogStatus {
        /// The day by the market's clocks, `2026-06-06`; today where left out.
        day: Option<String>,
    },
    /// What is left of products whose stock is counted, the least first.
    Stock {
        /// Of which stall; this device's where left out.
        stall: Option<String>,
        /// At most so many.
        limit: usize,
    },
    /// Says what was counted, and what came or went.
    SetStock(StockOrder),
    /// Publishes products of this device's stall; what it had under the same SKU is replaced.
    PublishProducts(Vec<ProductView>),
    /// Gives and withdraws promotions: a hub's the market's, a stall's device its stall's.
    PublishPromotions(PromotionsOrder),
    /// Promotions that this node knows: the market's and those of one stall.
    Promotions {
        /// Whose; this device's where left out.
        stall: Option<String>,
    },
    /// Says what is so now: a hub for the market, a stall's device for its stall.
    SayConditions(ConditionsOrder),
    /// What is so now at this device's stall.
    Conditions,
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
    /// Hub: publishes a new opening key, and keeps those before it.
    RotateOpeningKey {
        /// Its secret (X25519), which the caller has made durable: what is sealed to it must never be without it.
        secret: [u8; 32],
        /// Its file's name, for the answer.
        file: String,
    },
    /// Hub: goes on although what an earlier batch had read is on no device any more.
    AcceptLoss {
        /// The batch's number.
        settlement: u64,
    },
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
        /// Only those after this one in the list: its sequence and hash.
        before: Option<(u64, Hash)>,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Done; nothing to tell.
    Done,
    /// A sale.
    Sale(SaleView),
    /// A quote.
    Quote(Box<QuoteView>),
    /// A basket.
    Basket(Box<BasketView>),
    /// Baskets.
    Baskets(Vec<BasketView>),
    /// Promotions.
    Promotions(Vec<PromotionView>),
    /// Conditions.
    Conditions(Vec<ConditionView>),
    /// By what payments are judged.
    CheckoutRules(Box<RulesView>),
    /// Signals.
    Signals(Vec<SignalView>),
    /// Sales.
    Sales(Vec<SaleView>),
    /// Products.
    Products(Vec<ProductView>),
    /// What is here for a market day.
    CatalogStatus(Box<CatalogStatusView>),
    /// Products that were found.
    Found(Vec<FoundView>),
    /// What is left of products.
    Stock(Vec<StockView>),
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
    /// The file of a new opening key.
    OpeningKey(String),
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, ToSchema)]
#[error("{detail}")]
pub struct Failure {
    /// Stable code, `E_…`.
    pub code: FailureCode,
    /// A sentence for people: what, to what, what to do.
    pub detail: String,
    /// The path of the field that is to blame, where there is one: `lines[1].quantity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// Why a payment is asked about, or declined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ReasonView>,
}

/// Stable codes of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCode {
    /// The request makes no sense.
    EInvalid,
    /// There is no such thing here.
    ENotFound,
    /// The stall offers no such product.
    EUnknownSku,
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
    /// A person has to decide: the same request again with the reasons' ids in `confirmed` goes on.
    EAsk,
    /// The payment isn't taken.
    EDeclined,
}

impl Failure {
    /// A failure. Its sentence may repeat what somebody has typed: a card's number in it is masked.
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let masked = match card_data::mask(&detail) {
            Cow::Borrowed(_) => None,
            Cow::Owned(masked) => Some(masked),
        };
        Failure { code, detail: masked.unwrap_or(detail), field: None, reasons: Vec::new() }
    }

    /// The same, with the path of the field that is to blame.
    #[must_use]
    pub fn at(self, field: &str) -> Self {
        Failure { field: Some(card_data::mask(field).into_owned()), ..self }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let code = match problem.code {
            ProblemCode::Invalid => FailureCode::EInvalid,
            ProblemCode::UnknownSku => FailureCode::EUnknownSku,
            ProblemCode::Currency => FailureCode::ECurrency,
            ProblemCode::AmountRange => FailureCode::EAmountRange,
        };
        let field = Some(problem.field).filter(|field| !field.is_empty());
        let detail = match &field {
            Some(field) => format!("{field}: {}", problem.detail),
            None => problem.detail,
        };
        let failure = Failure::new(code, detail);
        match field {
            Some(field) => failure.at(&field),
            None => failure,
        }
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

/// Something that changed, for the event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// An open basket was changed, sold or discarded.
    Basket {
        /// Its id.
        basket: String,
    },
    /// Products changed.
    Catalog,
    /// Promotions or conditions changed.
    Promotions,
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
