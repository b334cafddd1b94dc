//! The market's terms, its ledger and its settlements.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::quote::files::{TaxRateFile, TaxRounding, Unique};

/// The market's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyView {
    /// Percent of a sale's net.
    pub fee_rate: String,
    /// Whether prices include tax.
    pub prices_include_tax: bool,
    /// By name: a percentage, or one that is also taken on other taxes.
    #[schema(value_type = BTreeMap<String, TaxRateFile>)]
    pub tax_rates: Unique<TaxRateFile>,
    /// Where taxes are rounded.
    pub tax_rounding: TaxRounding,
    /// Cash totals are rounded to a multiple of this, in minor units.
    pub cash_rounding: u64,
    /// Where the market is, by its IANA name: for promotions' hours and days.
    pub time_zone: String,
    /// Copies of each sale on neighbours.
    pub carriers: u32,
    /// Largest card payment without an uplink, minor units; 0: no limit.
    pub card_floor_limit: u64,
}

impl Default for PolicyView {
    fn default() -> Self {
        PolicyView {
            fee_rate: String::new(),
            prices_include_tax: false,
            tax_rates: Unique::default(),
            tax_rounding: TaxRounding::default(),
            cash_rounding: 1,
            time_zone: "UTC".to_owned(),
            carriers: 0,
            card_floor_limit: 0,
        }
    }
}

/// A settlement, or what it would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementView {
    /// Stall slug.
    pub stall: String,
    /// Batch number.
    pub settlement: u64,
    /// The statement's own JSON.
    pub body: serde_json::Value,
}

/// Something that stands in suspense.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// What a hub that is gone had, and nobody has brought here.
    pub missing: Vec<MissingView>,
}

/// Entries of one log that were at a hub that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingView {
    /// Stall slug; empty where unknown.
    pub stall: String,
    /// Device key.
    pub author: String,
    /// Its run.
    pub incarnation: String,
    /// `sales` or `ledger`.
    pub lane: String,
    /// First and last sequences.
    pub ranges: Vec<(u64, u64)>,
}

/// A batch that is closed, not released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClosedView {
    /// Batch number.
    pub number: u64,
    /// What it waits for.
    pub because: String,
}
