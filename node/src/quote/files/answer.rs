//! What a basket costs, as the API and the command say it. Names are shared with what they are names of: an answer of a
//! till is made and forgotten with each scan.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a basket costs. Amounts are minor units of the currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Quote)]
pub struct Answer {
    /// By ISO 4217.
    pub currency: String,
    /// When, as it was asked.
    pub at: String,
    /// In the basket's order.
    pub lines: Vec<LineAnswer>,
    /// In the order in which they were taken.
    pub fees: Vec<FeeAnswer>,
    /// Sum of `gross`.
    pub subtotal: u64,
    /// Sum of all reductions.
    pub reduction: u64,
    /// Sum of the fees' amounts.
    pub fee: u64,
    /// Sum of all taxes.
    pub tax: u64,
    /// What rounding to coins adds.
    pub cash_rounding: i64,
    /// What is to be paid.
    pub total: u64,
    /// What became of each code.
    pub codes: Vec<CodeAnswer>,
    /// What it was worked out from.
    pub versions: Versions,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineAnswer {
    /// Of the catalog.
    pub sku: Arc<str>,
    /// In units.
    pub quantity: String,
    /// The catalog's, or the vendor's own.
    pub unit_price: u64,
    /// Price × quantity.
    pub gross: u64,
    /// In the order in which they were applied.
    pub reductions: Vec<ReductionAnswer>,
    /// `gross` less reductions.
    pub net: u64,
    /// In the order of the product's rates.
    pub taxes: Vec<TaxAnswer>,
    /// With taxes, also where prices don't include them.
    pub total: u64,
}

/// What a promotion takes off a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReductionAnswer {
    /// Its id.
    pub promotion: Arc<str>,
    /// What the receipt says.
    pub name: Arc<str>,
    /// Above zero.
    pub amount: u64,
    /// Why, for whoever reads the receipt.
    pub why: String,
}

/// One tax of a line or fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaxAnswer {
    /// Of its rate.
    pub name: Arc<str>,
    /// In percent.
    pub rate: Arc<str>,
    /// What the rate is applied to.
    pub base: u64,
    /// What is owed.
    pub amount: u64,
}

/// One fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeeAnswer {
    /// Its promotion's id.
    pub promotion: Arc<str>,
    /// What the receipt says.
    pub name: Arc<str>,
    /// Above zero; with its taxes where prices include them.
    pub amount: u64,
    /// In the order of its rates.
    pub taxes: Vec<TaxAnswer>,
    /// With taxes.
    pub total: u64,
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CodeAnswer {
    /// As it was given.
    pub code: String,
    /// In one word.
    pub state: CodeState,
    /// In a sentence; nothing where it was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub why: Option<String>,
}

/// What became of a code, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CodeState {
    /// No promotion has it.
    Unknown,
    /// It was good until then.
    Expired,
    /// It will be good from then on.
    NotYet,
    /// Its limit is reached.
    UsedUp,
    /// Something else that it asks for doesn't hold, or it finds nothing to reduce.
    NotReached,
    /// Another one acts in its place.
    Displaced,
    /// It acts.
    Applied,
}

/// Names of what a quote was worked out from: the same name, the same content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Versions {
    /// Of the catalog.
    pub catalog: String,
    /// Of the promotions, in whatever order they stand.
    pub promotions: String,
    /// Of the conditions.
    pub conditions: String,
}
