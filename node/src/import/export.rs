//! Product files for other systems, that this program reads again to the same products.
//!
//! What the other format has no column for stands in columns of our own, which its programs pass over. A text that a
//! spreadsheet would take for a formula has an apostrophe before it; numbers are numbers.

use std::io::Write;

use stallmesh_protocol::hash::{Domain, Hasher};

use crate::barcode::Gtin;
use crate::engine::ProductView;

use super::Format;
use super::fields::{self, fuse, join_list, own, price_text};

/// Why a file can't be written.
#[derive(Debug, thiserror::Error)]
#[error("the product file can't be written: {0}")]
pub struct ExportError(#[from] csv::Error);

impl From<std::io::Error> for ExportError {
    fn from(error: std::io::Error) -> Self {
        ExportError(error.into())
    }
}

const SHOPIFY: &[&str] = &[
    "Handle",
    "Title",
    "Type",
    "Tags",
    "Published",
    "Option1 Name",
    "Option1 Value",
    "Variant SKU",
    "Variant Inventory Tracker",
    "Variant Inventory Qty",
    "Variant Inventory Policy",
    "Variant Fulfillment Service",
    "Variant Price",
    "Variant Requires Shipping",
    "Variant Taxable",
    "Variant Barcode",
    "Status",
];
const SHOPIFY_OWN: &[&str] = &[own::TAXES, own::CATEGORIES, own::BARCODES, own::UNIT, own::VARIANT_OF];

const SQUARE: &[&str] = &[
    "Token",
    "Item Name",
    "Variation Name",
    "SKU",
    "Description",
    "Categories",
    "Reporting Category",
    "GTIN",
    "Price",
    "Archived",
    "Sellable",
];
const SQUARE_OWN: &[&str] = &[own::TAXES, own::CATEGORIES, own::TAGS, own::BARCODES, own::UNIT, own::VARIANT_OF];

/// Writes products one after the other; nothing of them is kept.
pub struct Exporter<W: Write> {
    csv: csv::Writer<W>,
    format: Format,
    exponent: u32,
}

impl<W: Write> std::fmt::Debug for Exporter<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Exporter").field("format", &self.format).finish_non_exhaustive()
    }
}

impl<W: Write> Exporter<W> {
    /// Begins a file with its header. `exponent`: decimals of the market's currency. `location`: what a Square file calls the
    /// place that stock is counted at.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(to: W, format: Format, exponent: u32, location: &str) -> Result<Self, ExportError> {
        let mut csv = csv::Writer::from_writer(to);
        let stock = format!("Current Quantity {}", fields::printable(location));
        let columns: Vec<&str> = match format {
            Format::Shopify => [SHOPIFY, SHOPIFY_OWN].concat(),
            Format::Square => [SQUARE, &[stock.as_str()], SQUARE_OWN].concat(),
        };
        csv.write_record(columns)?;
        Ok(Exporter { csv, format, exponent })
    }

    /// Writes one product.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&mut self, product: &ProductView) -> Result<(), ExportError> {
        match self.format {
            Format::Shopify => self.write_shopify(product),
            Format::Square => self.write_square(product),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(self) -> Result<W, ExportError> {
        self.csv.into_inner().map_err(|error| ExportError(error.into_error().into()))
    }

    fn write_shopify(&mut self, product: &ProductView) -> Result<(), ExportError> {
        let (title, option) = split_name(product, "default title");
        let handle = match option {
            Some(_) => product.variant_of.clone(),
            None => handle_of(&product.sku),
        };
        let counted = !product.stock.is_empty();
        let price = price_text(product.price, self.exponent);
        let tags = join_list(&product.tags);
        self.csv.write_record([
            &*fuse(&handle),
            &fuse(title),
            &fuse(first(&product.categories)),
            &fuse(&tags),
            "TRUE",
            if option.is_some() { "Option" } else { "Title" },
            &fuse(option.unwrap_or("Default Title")),
            &fuse(&product.sku),
            if counted { "shopify" } else { "" },
            &number(&product.stock),
            // What a stall has counted wrong, it still sells.
            if counted { "continue" } else { "deny" },
            "manual",
            &price,
            "FALSE",
            if product.taxes.is_empty() { "FALSE" } else { "TRUE" },
            &fuse(first(&product.barcodes)),
            "active",
            &fuse(&join_list(&product.taxes)),
            &fuse(&join_list(rest(&product.categories))),
            &fuse(&join_list(rest(&product.barcodes))),
            &fuse(&product.unit),
            &fuse(&product.variant_of),
        ])?;
        Ok(())
    }

    fn write_square(&mut self, product: &ProductView) -> Result<(), ExportError> {
        let (item, variation) = split_name(product, "regular");
        // Square refuses what is no GTIN in its column.
        let first_is_gtin = first(&product.barcodes).parse::<Gtin>().is_ok();
        let (gtin, barcodes) =
            if first_is_gtin { (first(&product.barcodes), rest(&product.barcodes)) } else { ("", &*product.barcodes) };
        let price = price_text(product.price, self.exponent);
        self.csv.write_record([
            "",
            &*fuse(item),
            &fuse(variation.unwrap_or("Regular")),
            &fuse(&product.sku),
            "",
            &fuse(first(&product.categories)),
            &fuse(first(&product.categories)),
            gtin,
            &price,
            "N",
            "Y",
            &number(&product.stock),
            &fuse(&join_list(&product.taxes)),
            &fuse(&join_list(rest(&product.categories))),
            &fuse(&join_list(&product.tags)),
            &fuse(&join_list(barcodes)),
            &fuse(&product.unit),
            &fuse(&product.variant_of),
        ])?;
        Ok(())
    }
}

/// A number stays one, also below zero; what is none is a text like any other.
fn number(text: &str) -> std::borrow::Cow<'_, str> {
    if fields::quantity(text).is_ok() { text.into() } else { fuse(text) }
}

fn first(items: &[String]) -> &str {
    items.first().map_or("", String::as_str)
}

fn rest(items: &[String]) -> &[String] {
    items.get(1..).unwrap_or_default()
}

/// A variant's name as product and option, where both together are read as the same name again. `none` is what the other
/// format writes where there is no option.
fn split_name<'a>(product: &'a ProductView, none: &str) -> (&'a str, Option<&'a str>) {
    let whole = (product.name.as_str(), None);
    if product.variant_of.is_empty() {
        return whole;
    }
    match product.name.split_once(", ") {
        Some((title, option))
            if [title, option].iter().all(|part| !part.is_empty() && part.trim() == *part)
                && !option.eq_ignore_ascii_case(none) =>
        {
            (title, Some(option))
        }
        _ => whole,
    }
}

/// A handle that no other SKU has: rows of one handle are variants of one product.
fn handle_of(sku: &str) -> String {
    let plain: String = sku
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' })
        .collect();
    let plain = plain.trim_matches('-');
    if plain == sku {
        return plain.to_owned();
    }
    let hash = Hasher::new(Domain::Part).bytes(sku.as_bytes()).finish();
    format!("{plain}-{}", hex::encode(&hash.as_bytes()[..4]))
}
