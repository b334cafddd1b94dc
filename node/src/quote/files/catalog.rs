//! The catalog as a file.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{Number, Own, Unique};

/// What is for sale, and how it is taxed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogFile {
    /// By ISO 4217.
    pub currency: String,
    /// Prices include their taxes.
    #[serde(default)]
    pub prices_include_tax: bool,
    /// By name.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, TaxRateFile>)]
    pub tax_rates: Unique<TaxRateFile>,
    /// Where taxes are rounded.
    #[serde(default)]
    pub tax_rounding: TaxRounding,
    /// Cash totals are rounded to a multiple of this, in minor units.
    #[serde(default = "one")]
    pub cash_rounding: u64,
    /// By its IANA name, for hours and days.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// In any order.
    #[serde(default)]
    pub products: Vec<ProductFile>,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

fn one() -> u64 {
    1
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A tax rate: a percentage, or one that is also taken on other taxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaxRateFile {
    /// In percent.
    pub rate: Number,
    /// Names of taxes on whose amounts it is taken, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
}

impl TaxRateFile {
    /// A percentage, on nothing but what is sold.
    pub fn of(percent: impl Into<rust_decimal::Decimal>) -> Self {
        TaxRateFile { rate: Number(percent.into()), on: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for TaxRateFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            rate: Number,
            #[serde(default)]
            on: Vec<String>,
            #[serde(default, rename = "x")]
            _own: Own,
        }
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = TaxRateFile;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a percentage as a text, like \"20\", or { \"rate\", \"on\" }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TaxRateFile, E> {
                let rate = Number::parse(text).ok_or_else(|| E::custom(format!("`{text}` is no decimal number")))?;
                Ok(TaxRateFile { rate, on: Vec::new() })
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<TaxRateFile, E> {
                Ok(TaxRateFile { rate: Number(number.into()), on: Vec::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<TaxRateFile, A::Error> {
                let whole = Whole::deserialize(MapAccessDeserializer::new(access))?;
                Ok(TaxRateFile { rate: whole.rate, on: whole.on })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Where taxes are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaxRounding {
    /// On each line.
    #[default]
    Line,
    /// Once for each rate, over all lines and fees.
    Total,
}

/// One thing that is for sale.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductFile {
    /// Unique in the catalog.
    pub sku: String,
    /// What people read.
    pub name: String,
    /// Of one unit, in minor units.
    pub price: u64,
    /// Names of tax rates.
    #[serde(default)]
    pub tax: TaxNames,
    /// Groups that promotions name.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Words that promotions name.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What is counted.
    #[serde(default)]
    pub unit: Unit,
    /// EAN or UPC.
    #[serde(default)]
    pub barcodes: Vec<String>,
    /// How many there are; may be below zero.
    #[serde(default)]
    pub stock: Option<Number>,
    /// Local files or addresses.
    #[serde(default)]
    pub pictures: Vec<String>,
    /// The SKU of what this is a variant of.
    #[serde(default)]
    pub variant_of: Option<String>,
    /// What the stall paid for one unit, in minor units.
    #[serde(default)]
    pub cost: Option<u64>,
    /// Integrators' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub x: Own,
}

/// One name of a tax rate, several, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct TaxNames(pub Vec<String>);

impl<'de> Deserialize<'de> for TaxNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = TaxNames;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a tax rate, or a list of names")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<TaxNames, E> {
                Ok(TaxNames(vec![name.to_owned()]))
            }

            fn visit_unit<E: Error>(self) -> Result<TaxNames, E> {
                Ok(TaxNames::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<TaxNames, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(access)).map(TaxNames)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Whole pieces.
    #[default]
    Piece,
    /// Kilograms.
    Kg,
    /// Grams.
    G,
    /// Litres.
    L,
    /// Metres.
    M,
}
