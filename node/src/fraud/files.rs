//! The rules as people write them. All numbers are whole; an unknown field is an error.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;

/// What the hub publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesFile {
    /// Every rule is asked; the strictest answer counts.
    pub rules: Vec<RuleFile>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Unique; what a reason and an answered alarm name.
    pub id: String,
    /// A few words, for a list.
    pub name: String,
    /// What it looks at, with its thresholds.
    pub looks_at: LooksAt,
    /// What it comes to where a threshold is passed.
    pub answer: RuleAnswer,
    /// What the vendor reads: `{count}` and the like are filled in.
    pub says: String,
    /// How long the signals that it looks at live, in hours.
    pub signals_live_hours: u64,
    /// How a vendor lets it pass; it can't be let pass where this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_customer: Option<KnownFile>,
}

/// What a rule comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleAnswer {
    /// The vendor decides.
    Ask,
    /// No.
    Decline,
}

impl From<RuleAnswer> for Answer {
    fn from(answer: RuleAnswer) -> Self {
        match answer {
            RuleAnswer::Ask => Answer::Ask,
            RuleAnswer::Decline => Answer::Decline,
        }
    }
}

/// Whose signals count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Across {
    /// Those of the stall that asks.
    Stall,
    /// Everybody's.
    #[default]
    Market,
}

/// How an alarm is let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownFile {
    /// For so long.
    pub hours: u64,
    /// At the stall that said so, or at all.
    #[serde(default = "at_that_stall")]
    pub across: Across,
}

fn at_that_stall() -> Across {
    Across::Stall
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LooksAt {
    /// At how many stalls a card pays.
    CardStalls(CardStallsFile),
    /// How often a card pays.
    CardPayments(CardPaymentsFile),
    /// How much a card pays.
    CardSum(CardSumFile),
    /// Whether a card is blocked.
    CardBlocked(SaidFile),
    /// How often somebody sells below the catalog's price.
    PriceOverride(PriceOverrideFile),
    /// How often somebody voids a sale shortly after it was paid in cash.
    VoidAfterCash(VoidAfterCashFile),
    /// Whether this device's clock is off.
    ClockOff(ClockOffFile),
    /// Whether this device signed two histories.
    Equivocation(SaidFile),
    /// Whether this device runs twice.
    Clone(SaidFile),
}

/// At how many stalls a card pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardStallsFile {
    /// Up to so many, with the one that asks, are usual.
    pub usual: u64,
    /// In so long.
    pub within_minutes: u64,
}

/// How often a card pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardPaymentsFile {
    /// Up to so many, with the one that is asked for, are usual.
    pub usual: u64,
    /// In so long.
    pub within_minutes: u64,
    /// Whose payments count.
    #[serde(default)]
    pub across: Across,
    /// So many of each other stall count at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each_stall_at_most: Option<u64>,
}

/// How much a card pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardSumFile {
    /// Up to so much, with what is asked for, is usual: minor units.
    pub usual: u64,
    /// In so long.
    pub within_minutes: u64,
    /// Whose payments count.
    #[serde(default)]
    pub across: Across,
    /// So much of each other stall counts at most: minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each_stall_at_most: Option<u64>,
}

/// What others say of a card or a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaidFile {
    /// So many other stalls have to say so. The market's word and the own stall's are enough alone.
    pub by_stalls: u64,
}

/// How often somebody sells below the catalog's price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceOverrideFile {
    /// From so many percent below on, it counts.
    pub below_percent: u64,
    /// Up to so many, with this one, are usual.
    pub usual: u64,
    /// In so long.
    pub within_minutes: u64,
}

/// How often somebody voids a sale shortly after it was paid in cash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoidAfterCashFile {
    /// Up to so long after it was paid, it counts.
    pub after_minutes: u64,
    /// Up to so many, with this one, are usual.
    pub usual: u64,
    /// In so long.
    pub within_minutes: u64,
}

/// Whether this device's clock is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockOffFile {
    /// From so far on.
    pub by_minutes: u64,
    /// So many other stalls have to say so. The market's word and the own stall's are enough alone.
    pub by_stalls: u64,
}
