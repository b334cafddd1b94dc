//! What somebody buys, and under which conditions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Number, Own, Unique};

/// What somebody buys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BasketFile {
    /// In the order in which they were scanned.
    pub lines: Vec<LineFile>,
    /// Matched exactly.
    #[serde(default)]
    pub codes: Vec<String>,
    /// Who buys, if known.
    #[serde(default)]
    pub customer: Option<CustomerFile>,
    /// How much of each total limit is gone, by promotion id.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u64>)]
    pub used: Unique<u64>,
    /// `cash` rounds the total.
    #[serde(default)]
    pub tender: Option<String>,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineFile {
    /// Of the catalog.
    pub sku: String,
    /// In units of the product.
    pub quantity: Number,
    /// The vendor's own price, in minor units.
    #[serde(default)]
    pub price: Option<u64>,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

impl LineFile {
    /// So many units of a product, at the catalog's price.
    pub fn of(sku: &str, quantity: impl Into<rust_decimal::Decimal>) -> Self {
        LineFile { sku: sku.to_owned(), quantity: Number(quantity.into()), price: None, x: None }
    }
}

/// Who buys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerFile {
    /// Before this one.
    #[serde(default)]
    pub visits: u64,
    /// Nothing was bought before.
    #[serde(default)]
    pub first_purchase: bool,
    /// What the customer belongs to.
    #[serde(default)]
    pub groups: Vec<String>,
    /// How often each promotion was used, by its id.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u64>)]
    pub used: Unique<u64>,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// Conditions that are known and not stale, by name: decimals or words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Conditions(pub BTreeMap<String, String>);

impl Conditions {
    /// Names what they are, as a catalog's version does.
    pub fn version(&self) -> String {
        super::super::words::version(|hasher| {
            for (name, value) in &self.0 {
                super::super::words::part(hasher, name.as_bytes());
                super::super::words::part(hasher, value.as_bytes());
            }
        })
    }
}

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a decimal or a word as a text, or a whole number")]
        enum Value {
            Text(String),
            Whole(i64),
        }
        let map = Unique::<Value>::deserialize(deserializer)?;
        let text = |value| match value {
            Value::Text(text) => text,
            Value::Whole(number) => number.to_string(),
        };
        Ok(Conditions(map.0.into_iter().map(|(name, value)| (name, text(value))).collect()))
    }
}
