//! Whether what a market day needs is here, as the API shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is here for a market day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogStatusView {
    /// The day, by the market's clocks: `2026-06-06`.
    pub day: String,
    /// When it begins, in milliseconds since 1970.
    pub from: u64,
    /// When it is over.
    pub to: u64,
    /// Whether all catalogs and terms that the newest checkpoint names are here, and each stall has something to sell.
    pub ready: bool,
    /// The newest checkpoint that is known here; 0: none.
    pub checkpoint: u64,
    /// When the hub signed it, in milliseconds since 1970.
    pub checkpoint_at: u64,
    /// The market's terms and keys.
    pub terms: TermsReadiness,
    /// Each stall of which a device is a member, by name.
    pub stalls: Vec<StallReadiness>,
    /// What this node can't know, in sentences.
    pub unknown: Vec<String>,
}

/// Whether the market's terms and keys are here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TermsReadiness {
    /// Entries of members, policies and the market's promotions that the checkpoint names and that aren't here.
    pub missing: u64,
    /// Whether a policy is here: taxes and rounding.
    pub policy: bool,
    /// Whether the hub's key is here, to which sales are sealed.
    pub hub_key: bool,
    /// Whether this device can read its stall's sales; absent for a device without a stall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub read_key: Option<bool>,
    /// Whether this device's own certificate is valid when the day begins.
    pub valid: bool,
}

/// Whether a stall's catalog is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StallReadiness {
    /// The stall.
    pub stall: String,
    /// Whether something of its catalog is here, and all that the newest checkpoint names of it.
    pub complete: bool,
    /// Entries of its catalog that the checkpoint names and that aren't here.
    pub missing: u64,
    /// Entries that neighbours say they have and that aren't here: their word alone.
    pub announced: u64,
    /// Its devices that may publish, and have published nothing that is known here.
    pub unheard: Vec<String>,
    /// Products that it offers at the end of that day, by what is announced.
    pub products: usize,
    /// Those of them whose taxes the market's terms know: they can be sold.
    pub sellable: usize,
    /// Since when it is complete, in milliseconds since 1970; absent where it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub complete_since: Option<u64>,
    /// Whether it has been complete since 24 hours before the day begins, with something to sell.
    pub in_time: bool,
}
