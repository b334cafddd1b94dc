//! The policy as people write it. All numbers are whole; an unknown field is an error; a limit that is left out is none.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the hub publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RiskPolicy)]
pub struct PolicyFile {
    /// The market's.
    #[serde(default)]
    pub limits: LimitsFile,
    /// Who bears a payment that was taken within the limits and is declined later.
    pub borne_by: Bearer,
    /// Who bears one for which the vendor was asked by a limit of the market, and said yes; where left out, the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_borne_by: Option<Bearer>,
    /// How long a till that has a way to the hub waits for its word on a card before the limits decide, in milliseconds;
    /// 0: cards are taken by the limits alone, and the hub isn't asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub authorise_within_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a stall sets for itself: it can only be narrower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StallRiskLimits)]
pub struct StallFile {
    /// The stall's.
    #[serde(default)]
    pub limits: LimitsFile,
}

/// Who pays in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bearer {
    /// The stall.
    Stall,
    /// The market.
    Market,
}

/// All limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = RiskLimits)]
pub struct LimitsFile {
    /// One payment, in minor units.
    pub payment: LimitFile,
    /// What one card has not captured, in minor units.
    pub card_sum: LimitFile,
    /// What the stall has not captured, in minor units.
    pub stall_sum: LimitFile,
    /// How many payments of the stall wait.
    pub stall_count: LimitFile,
    /// How long the stall's oldest payment waits, in minutes.
    pub oldest_minutes: LimitFile,
}

/// Two steps of one limit. What is equal to it is still below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = RiskLimit)]
pub struct LimitFile {
    /// Above this the vendor is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask_above: Option<u64>,
    /// Above this it isn't taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decline_above: Option<u64>,
}

impl LimitFile {
    /// The narrower of both, step by step.
    #[must_use]
    pub fn narrowed(&self, other: &LimitFile) -> LimitFile {
        let narrower = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        LimitFile {
            ask_above: narrower(self.ask_above, other.ask_above),
            decline_above: narrower(self.decline_above, other.decline_above),
        }
    }
}

impl LimitsFile {
    /// The narrower of both, limit by limit.
    #[must_use]
    pub fn narrowed(&self, other: &LimitsFile) -> LimitsFile {
        LimitsFile {
            payment: self.payment.narrowed(&other.payment),
            card_sum: self.card_sum.narrowed(&other.card_sum),
            stall_sum: self.stall_sum.narrowed(&other.stall_sum),
            stall_count: self.stall_count.narrowed(&other.stall_count),
            oldest_minutes: self.oldest_minutes.narrowed(&other.oldest_minutes),
        }
    }
}
