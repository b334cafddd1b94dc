//! What tills judge payments by, and what they say of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fraud::files::RulesFile;
use crate::risk::files::{PolicyFile, StallFile};

/// Why a payment is asked about, or declined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonView {
    /// Of the rule or limit: what `confirmed` names.
    pub id: String,
    /// What it comes to.
    pub answer: ReasonAnswer,
    /// For the vendor.
    pub sentence: String,
    /// For how long it may be let pass for all whom it is about, in milliseconds: by its id in `known`. 0: it may not.
    #[serde(default)]
    #[schema(required = true)]
    pub known_for_ms: u64,
}

/// What a reason comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReasonAnswer {
    /// The vendor decides.
    Ask,
    /// No.
    Decline,
}

/// By what payments are judged here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RulesView {
    /// The fraud rules file.
    pub fraud: RulesFile,
    /// What is taken by card without the hub: the market's.
    pub risk: PolicyFile,
    /// What this device narrows it by.
    pub narrowed_by: StallFile,
    /// Why what the hub published isn't used, where this version can't read it; the rules that it begins with hold then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// Whether cards have fingerprints: the hub has published a key.
    pub has_fingerprints: bool,
}

/// Rules to be published. What is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RulesOrder {
    /// The fraud rules file.
    pub fraud: Option<RulesFile>,
    /// The risk policy file.
    pub risk: Option<PolicyFile>,
    /// A new key for cards' fingerprints: payments before it are no longer counted with those after it.
    pub rotate_fingerprint_key: bool,
}

/// A card to be blocked, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockOrder {
    /// The fingerprint, 32 hexadecimal digits, as a sale or a signal shows it.
    pub fingerprint: String,
    /// Whether it is blocked.
    pub blocked: bool,
}

/// A signal that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignalView {
    /// What happened, with its numbers.
    #[schema(value_type = Object)]
    pub fact: serde_json::Value,
    /// Whom it is about: a card's fingerprint, a device, who stands at a till. Hexadecimal.
    pub subject: String,
    /// At which stall, by the hash of its name.
    pub stall: String,
    /// `stall` or `market`.
    pub voice: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Until when it lives.
    pub until: u64,
}

/// What was taken by card without the hub, and isn't captured yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UncapturedView {
    /// Sales with such a payment.
    pub sales: u64,
    /// Payments.
    pub payments: u64,
    /// Minor units.
    pub sum: u64,
    /// How long the oldest has waited, in milliseconds.
    pub oldest_ms: u64,
    /// `3 sales wait, 41.20 not captured`.
    pub sentence: String,
}
