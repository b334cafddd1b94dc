//! Sales and products, as the API takes and shows them.

use serde::{Deserialize, Serialize};
use stallmesh_protocol::SaleId;
use utoipa::ToSchema;

use super::{LeftView, StockHint, text};
use crate::quote::files::{
    CodeAnswer, Conditions, CustomerFile, FeeAnswer, LineAnswer, LineFile, Number, Own, PromotionFile,
};

/// A sale to record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaleOrder {
    /// Chosen by the caller: one key, one sale, however often it is sent.
    #[schema(required = false)]
    pub idempotency_key: String,
    /// What is sold; one unit where a line says no quantity.
    #[serde(deserialize_with = "lines_of_one")]
    #[schema(value_type = Vec<OrderLine>)]
    pub lines: Vec<LineFile>,
    /// Codes that the buyer gives.
    #[serde(default)]
    pub codes: Vec<String>,
    /// Who buys, if known.
    #[serde(default)]
    pub customer: Option<CustomerFile>,
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
    /// Ids of reasons that a person was asked about, and lets pass this once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confirmed: Vec<String>,
    /// The same, and she knows whom it is about: other tills are told so, and ask no more for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
}

/// A line of a sale to record.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrderLine {
    /// Of the catalog.
    sku: String,
    /// In units of the product; one where left out.
    quantity: Option<Number>,
    /// The vendor's own price, in minor units.
    price: Option<u64>,
    /// Integrators' own.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    x: Own,
}

/// Lines as a basket has them, but that a sale of one unit needn't say so.
fn lines_of_one<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<LineFile>, D::Error> {
    let lines = Vec::<OrderLine>::deserialize(deserializer)?.into_iter().map(|line| LineFile {
        sku: line.sku,
        quantity: line.quantity.unwrap_or(Number(rust_decimal::Decimal::ONE)),
        price: line.price,
        x: line.x,
    });
    Ok(lines.collect())
}

/// One part of a payment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderTender {
    /// How.
    pub kind: TenderKind,
    /// Minor units; what is left to pay where left out and it is the only tender.
    #[serde(default)]
    pub amount: Option<u64>,
    /// The reader's token, for `card` and `wallet`; never a card number.
    #[serde(default)]
    pub token: String,
    /// Cash handed over.
    #[serde(default)]
    pub given: Option<u64>,
    /// Beside the amount, in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tip: u64,
    /// What the reader calls this card, the same each time; never its number. Only a keyed hash of it is kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub card: String,
    /// What an own terminal or an app says of a payment that it took, for `outside`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reference: String,
}

/// Kinds of tender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenderKind {
    /// Coins and notes.
    #[default]
    Cash,
    /// A card, by the reader's token.
    Card,
    /// A telephone or watch, by the reader's token.
    Wallet,
    /// A card that an own terminal or a payment app took: the market doesn't see that money.
    Outside,
}

/// How safe a sale is, in the words that the till shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord, ToSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SaleView {
    /// Sale id.
    #[serde(with = "text")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub sale: SaleId,
    /// The buyer's number, `series-number`.
    pub receipt: String,
    /// ISO 4217.
    pub currency: String,
    /// What the lines cost before reductions, minor units.
    #[serde(default)]
    #[schema(required = true)]
    pub subtotal: u64,
    /// What promotions took off.
    #[serde(default)]
    #[schema(required = true)]
    pub reduction: u64,
    /// Fees.
    #[serde(default)]
    #[schema(required = true)]
    pub fee: u64,
    /// What rounding to coins added.
    #[serde(default)]
    #[schema(required = true)]
    pub cash_rounding: i64,
    /// Minor units, without tips.
    pub total: u64,
    /// Beside the total.
    #[serde(default)]
    #[schema(required = true)]
    pub tip: u64,
    /// Of which tax.
    pub tax: u64,
    /// Lines.
    pub lines: Vec<SaleLineView>,
    /// Fees, one by one.
    #[serde(default)]
    #[schema(required = true)]
    pub fees: Vec<FeeAnswer>,
    /// What became of the codes that were given.
    #[serde(default)]
    #[schema(required = true)]
    pub codes: Vec<CodeAnswer>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SaleLineView {
    /// Name.
    pub name: String,
    /// What it cost.
    #[serde(flatten)]
    pub line: LineAnswer,
}

/// What a basket costs now, at this stall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuoteView {
    /// The quote.
    #[serde(flatten)]
    pub quote: crate::quote::files::Answer,
    /// Conditions that promotions ask for and whose time is over: they count as absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
    /// Of products in it whose stock is counted, what is left without this basket. It is a hint: nothing waits for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stock: Vec<StockHint>,
}

/// A promotion, as this node knows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PromotionView {
    /// The stall that gives it; empty for the market.
    pub stall: String,
    /// The promotion.
    pub promotion: PromotionFile,
    /// Why it acts nowhere here; empty where it may.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

impl PartialEq for PromotionView {
    fn eq(&self, other: &Self) -> bool {
        let terms = |view: &Self| crate::quote::canonical(&view.promotion);
        self.stall == other.stall && self.problem == other.problem && terms(self) == terms(other)
    }
}

/// A change of promotions: those that are given from now on, and ids of those that are no longer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromotionsOrder {
    /// Given; one with an id that is given already replaces it.
    pub give: Vec<PromotionFile>,
    /// No longer given.
    pub withdraw: Vec<String>,
}

impl PartialEq for PromotionsOrder {
    fn eq(&self, other: &Self) -> bool {
        crate::quote::canonical(self) == crate::quote::canonical(other)
    }
}

/// Conditions to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionsOrder {
    /// Names and values.
    pub conditions: Conditions,
    /// How long they hold, in milliseconds; at most a day.
    pub for_ms: u64,
}

/// A condition that holds here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConditionView {
    /// Name.
    pub name: String,
    /// A decimal or a word; empty where its time is over.
    pub value: String,
    /// Until when, in milliseconds since 1970; 0 where its time is over.
    pub until: u64,
}

/// A tender of a recorded sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenderView {
    /// Kind.
    pub kind: TenderKind,
    /// Minor units.
    pub amount: u64,
    /// How it was authorised.
    pub authorised: Authorised,
    /// Change given, minor units.
    pub change: u64,
    /// Beside the amount.
    #[serde(default)]
    #[schema(required = true)]
    pub tip: u64,
    /// Whether the market bears it if the bank declines it later; else the stall does.
    #[serde(default)]
    #[schema(required = true)]
    pub market_bears: bool,
    /// The card's fingerprint, hexadecimal: a hash under the market's key; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// What an own terminal or an app said of it, for `outside`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reference: String,
}

/// How a payment was authorised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Authorised {
    /// It needs no authorisation.
    #[default]
    None,
    /// By the hub's gateway, before the sale.
    Online,
    /// By the market's policy for what is taken without the hub.
    Offline,
}

/// A product as the API shows and takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// From then on it is offered so, in milliseconds since 1970; 0: at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub effective_at: u64,
    /// When `stock` was counted, in milliseconds since 1970. When publishing it may be left out: the same `stock` as before
    /// is no new count, and another one was counted now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub counted_at: u64,
    /// What is left of it, as far as this device can know; absent where it isn't counted. Ignored when publishing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub left: Option<LeftView>,
}

/// A product that a search has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundView {
    /// The product.
    #[serde(flatten)]
    pub product: ProductView,
    /// How well it matches: the list begins with the highest, and of equal ones the name comes first that sorts first.
    pub score: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn piece() -> String {
    "piece".into()
}
