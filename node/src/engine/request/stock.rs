//! What is left of products, as the API takes and shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::quote::files::Number;

/// What is left of a product, as far as a device can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftView {
    /// Decimal, in units of the product; below zero where more was sold than counted.
    pub amount: String,
    /// What it was worked out from.
    pub known: StockKnown,
    /// The same for people: `3 left`, `-2: more sold than counted`.
    pub hint: String,
}

/// What a stock was worked out from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StockKnown {
    /// The last count, and all sales of the stall that have come here.
    Stall,
    /// The last count and this device's own sales: it may not read those of the stall's others.
    Device,
    /// What the stall has published: what another stall sells nobody else can read.
    Published,
}

/// What is left of a product in a basket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StockHint {
    /// The product.
    pub sku: String,
    /// What is left of it.
    #[serde(flatten)]
    pub left: LeftView,
}

/// How a product's stock came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StockView {
    /// The stall.
    pub stall: String,
    /// SKU.
    pub sku: String,
    /// Name.
    pub name: String,
    /// `piece`, `kg`, `g`, `l` or `m`.
    pub unit: String,
    /// The last count.
    pub counted: String,
    /// When it was taken, in milliseconds since 1970.
    pub counted_at: u64,
    /// What came or went since, beside sales.
    pub changed: String,
    /// What was sold since; nothing of other stalls is known.
    pub sold: String,
    /// What is left.
    pub left: LeftView,
}

/// What is said of stocks: counts, and what came or went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StockOrder {
    /// Products that were counted just now.
    pub counts: Vec<StockCount>,
    /// Products of which some came, or went otherwise than by a sale. Of two devices that say so at one time both count.
    pub changes: Vec<StockChange>,
}

/// A count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StockCount {
    /// The product.
    pub sku: String,
    /// How many there are; absent: they are counted no longer.
    #[serde(default)]
    pub count: Option<Number>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StockChange {
    /// The product.
    pub sku: String,
    /// How many came; below zero for what went.
    pub change: Number,
}
