//! Promotions and fees as a file.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Number, Own, TaxNames};

/// One promotion or fee.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromotionFile {
    /// Unique.
    pub id: String,
    /// What the receipt says.
    pub name: String,
    /// Whose it is.
    #[serde(default)]
    pub owner: Owner,
    /// The percentage of it that the market pays.
    #[serde(default)]
    pub borne_by_market: Option<Number>,
    /// What it does.
    pub effect: EffectFile,
    /// On which lines; all where left out.
    #[serde(default)]
    pub items: Option<MatcherFile>,
    /// What must hold.
    #[serde(default)]
    pub requires: RequiresFile,
    /// From then on.
    #[serde(default)]
    pub starts_at: Option<String>,
    /// Until then, and not then.
    #[serde(default)]
    pub ends_at: Option<String>,
    /// By the market's wall clock; always where left out.
    #[serde(default)]
    pub hours: Vec<HoursFile>,
    /// How often.
    #[serde(default)]
    pub limits: LimitsFile,
    /// Higher first.
    #[serde(default)]
    pub priority: i64,
    /// Beside which others.
    #[serde(default)]
    pub stacking: Stacking,
    /// Of `best_of`: with which others.
    #[serde(default)]
    pub group: Option<String>,
    /// Whether tax is taken on the worth before it or after.
    #[serde(default)]
    pub tax_base: TaxBase,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// Whose a promotion is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The stall's.
    #[default]
    Stall,
    /// The market's.
    Market,
}

/// Beside which others a promotion acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stacking {
    /// Beside all that is.
    #[default]
    Combinable,
    /// Alone on its lines.
    Exclusive,
    /// The best of its group alone.
    BestOf,
}

/// What tax is taken on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaxBase {
    /// The worth before the reduction.
    Before,
    /// What is left after it.
    #[default]
    After,
}

/// What a promotion does: one of the kinds of the documentation, each with its own fields. Also a step of `tiers`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EffectFile {
    /// Off each matching line, or what a buy/get gives.
    pub percentage: Option<Number>,
    /// `order`: of the matching sum, once.
    pub of: Option<String>,
    /// Of so many units, the dearest.
    pub max_units: Option<u64>,
    /// At most so much.
    pub max_amount: Option<u64>,
    /// Off the order, or off each unit.
    pub amount: Option<u64>,
    /// Off each unit.
    pub each: Option<bool>,
    /// Each matching unit costs this.
    pub fixed_price: Option<u64>,
    /// So many are bought.
    pub buy: Option<u64>,
    /// So many are reduced.
    pub get: Option<u64>,
    /// Of these lines.
    pub get_items: Option<MatcherFile>,
    /// Parts that have one price together.
    pub bundle: Option<Vec<PartFile>>,
    /// Of a bundle.
    pub price: Option<u64>,
    /// Steps.
    #[schema(no_recursion)]
    pub tiers: Option<Vec<EffectFile>>,
    /// A fee.
    pub fee: Option<FeeFile>,
    /// Of a step: from so many units on.
    pub from_quantity: Option<Number>,
    /// Of a step: from so much on.
    pub from_subtotal: Option<u64>,
    /// Integrators' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// A part of a bundle.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PartFile {
    /// Which lines fill it.
    #[serde(default)]
    pub items: MatcherFile,
    /// With so many units.
    pub quantity: u64,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// A fee: a percentage of what the matching lines cost, an amount, or an amount for each unit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeeFile {
    /// Of the sum of `net`.
    pub percentage: Option<Number>,
    /// Once, or for each unit.
    pub amount: Option<u64>,
    /// For each unit.
    pub each: Option<bool>,
    /// Names of its tax rates.
    pub tax: TaxNames,
    /// Integrators' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// Which lines: those that any listed value fits, and `not` doesn't. Nothing listed: every line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatcherFile {
    /// Of the catalog.
    pub skus: Vec<String>,
    /// Of products.
    pub categories: Vec<String>,
    /// Of products.
    pub tags: Vec<String>,
    /// Which not.
    #[schema(no_recursion)]
    pub not: Option<Box<MatcherFile>>,
    /// Integrators' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Option<OwnOfMatcher>,
}

/// What integrators keep in a matcher. It makes no two of them different.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnOfMatcher(pub serde_json::Map<String, serde_json::Value>);

impl PartialEq for OwnOfMatcher {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for OwnOfMatcher {}

impl std::hash::Hash for OwnOfMatcher {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// What must hold: all of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequiresFile {
    /// Gross, in minor units.
    pub min_subtotal: Option<u64>,
    /// In units.
    pub min_quantity: Option<Number>,
    /// Over which lines these two are counted; the promotion's own where left out.
    pub items: Option<MatcherFile>,
    /// One of them is given.
    pub codes: Vec<String>,
    /// All are met.
    pub conditions: Vec<ConditionFile>,
    /// Who buys.
    pub customer: Option<CustomerRuleFile>,
    /// Integrators' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// A condition by its name.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionFile {
    /// As in the conditions.
    pub name: String,
    /// Not less.
    #[serde(default)]
    pub at_least: Option<Number>,
    /// Not more.
    #[serde(default)]
    pub at_most: Option<Number>,
    /// The same decimal, or the same word.
    #[serde(default)]
    pub equals: Option<Word>,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// A word, or a whole number in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a text, or a whole number")]
        enum Value {
            Text(String),
            Whole(i64),
        }
        Ok(Word(match Value::deserialize(deserializer)? {
            Value::Text(text) => text,
            Value::Whole(number) => number.to_string(),
        }))
    }
}

/// Who must buy.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CustomerRuleFile {
    /// Before this one.
    pub visits_at_least: Option<u64>,
    /// Whether anything was bought before.
    pub first_purchase: Option<bool>,
    /// One of them.
    pub groups: Vec<String>,
    /// Integrators' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// A span of some days by the wall clock.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoursFile {
    /// `mon` to `sun`; all where left out.
    #[serde(default)]
    pub days: Vec<String>,
    /// `16:00`.
    pub from: String,
    /// Not included; `00:00` is midnight.
    pub to: String,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// How often.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsFile {
    /// In one basket: of buy/get and bundles alone.
    pub per_basket: Option<u64>,
    /// By one customer.
    pub per_customer: Option<u64>,
    /// By all.
    pub total: Option<u64>,
    /// Integrators' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}
