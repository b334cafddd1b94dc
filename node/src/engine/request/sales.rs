//! Sales and products, as the API takes and shows them.

use serde::{Deserialize, Serialize};
use stallmesh_protocol::SaleId;

use super::text;

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
