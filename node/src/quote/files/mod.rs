//! The shapes that people write, and that the API speaks: catalog, promotions, basket, conditions, answer.
//!
//! Amounts are whole minor units, rates and quantities decimal texts. An unknown field is an error, but for what stands
//! under `x`: that is the integrators' own.

mod answer;
mod basket;
mod catalog;
mod number;
mod promotions;
mod schemas;

pub use self::answer::{Answer, CodeAnswer, CodeState, FeeAnswer, LineAnswer, ReductionAnswer, TaxAnswer, Versions};
pub use self::basket::{BasketFile, Conditions, CustomerFile, LineFile};
pub use self::catalog::{CatalogFile, ProductFile, TaxNames, TaxRateFile, TaxRounding, Unit};
pub use self::number::{Number, Unique};
pub use self::promotions::{
    ConditionFile, CustomerRuleFile, EffectFile, FeeFile, HoursFile, LimitsFile, MatcherFile, OwnOfMatcher, Owner,
    PartFile, PromotionFile, RequiresFile, Stacking, TaxBase, Word,
};

/// What integrators keep for themselves: read by nobody here, and kept.
pub type Own = Option<serde_json::Map<String, serde_json::Value>>;
