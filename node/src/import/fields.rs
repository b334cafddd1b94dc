//! What the formats share: how a field becomes a text, a price, a quantity, a barcode, and back.

use std::borrow::Cow;

use rust_decimal::Decimal;
use stallmesh_protocol::certificate::is_unprintable;
use stallmesh_protocol::money;

use crate::barcode::{BarcodeError, Gtin};
use crate::engine::ProductView;

use super::error::{ImportError, Place, RowError, TOLD_MAX, Warning};
use super::table::{Column, Columns};

/// The longest name, in bytes.
const NAME_MAX: usize = 800;
/// The longest SKU, in bytes.
pub(super) const SKU_MAX: usize = 120;
/// The most text of one product, in bytes: it travels to every node of the market.
const PRODUCT_MAX: usize = 4096;
/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\0'];
/// Units of sale.
pub(super) const UNITS: [&str; 5] = ["piece", "kg", "g", "l", "m"];

/// Columns of our own, in files that this program has written: what the other format has no column for.
pub(super) mod own {
    /// Names of tax rates.
    pub(crate) const TAXES: &str = "Stallmesh Taxes";
    /// Categories after the first.
    pub(crate) const CATEGORIES: &str = "Stallmesh Categories";
    /// Tags, where the format has none.
    pub(crate) const TAGS: &str = "Stallmesh Tags";
    /// Barcodes after the first.
    pub(crate) const BARCODES: &str = "Stallmesh Barcodes";
    /// Unit of sale. Where this column is, the file is one of ours.
    pub(crate) const UNIT: &str = "Stallmesh Unit";
    /// The product that it is a variant of.
    pub(crate) const VARIANT_OF: &str = "Stallmesh Variant Of";
}

/// What is noticed on the way.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) warnings: Vec<Warning>,
    /// How many there were, also those that aren't kept.
    pub(super) warned: u64,
    pub(super) pictures: u64,
}

impl Notes {
    pub(super) fn warn(&mut self, place: Place, column: &'static str, detail: String) {
        self.warned += 1;
        if self.warnings.len() < TOLD_MAX {
            self.warnings.push(Warning { line: place.line, row: place.row, column, detail });
        }
    }
}

/// A variant as a format's rows have it.
pub(super) struct Variant {
    /// What tells it from all others in the file: handle or name, and options.
    pub(super) key: String,
    /// What a SKU is made of where it has none, if that is less than the key.
    pub(super) basis: Option<String>,
    /// Its product; the SKU is empty where the file has none.
    pub(super) product: ProductView,
}

/// What a row is.
pub(super) enum Taken {
    /// Nothing that is sold: a further picture.
    Nothing,
    /// A variant that isn't offered.
    Skipped,
    /// A variant.
    Variant(Box<Variant>),
}

/// A field without surrounding space, and without the apostrophe that defuses formulas in spreadsheets.
pub(super) fn text(record: &csv::StringRecord, column: Option<Column>) -> &str {
    unfuse(column.and_then(|column| record.get(column.place)).unwrap_or_default().trim())
}

/// As [`text`], without characters that don't print.
pub(super) fn printable(text: &str) -> String {
    let kept: String = text.chars().filter(|character| !is_unprintable(*character)).collect();
    if kept.len() == kept.trim().len() { kept } else { kept.trim().to_owned() }
}

fn unfuse(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) if rest.trim_start_matches('\'').starts_with(FORMULA) => rest,
        _ => text,
    }
}

/// A text as a cell that no spreadsheet takes for a formula; [`text`] takes it back.
pub(super) fn fuse(text: &str) -> Cow<'_, str> {
    if text.trim_start_matches('\'').starts_with(FORMULA) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Items between commas. In files of ours a backslash stands before a comma that belongs to an item.
pub(super) fn split_list(text: &str, ours: bool) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, items.last_mut()) {
            (',', _) => items.push(String::new()),
            ('\\', Some(item)) if ours => item.extend(characters.next()),
            (other, Some(item)) => item.push(other),
            (_, None) => {}
        }
    }
    items.iter().map(|item| printable(item)).filter(|item| !item.is_empty()).collect()
}

/// The other way round, as in files of ours.
pub(super) fn join_list(items: &[String]) -> String {
    items.iter().map(|item| item.replace('\\', "\\\\").replace(',', "\\,")).collect::<Vec<_>>().join(", ")
}

/// A price as a decimal in the currency's unit, in minor units. A sign of a currency may stand before it; commas between
/// thousands only where a point makes clear what they are.
pub(super) fn price(text: &str, exponent: u32) -> Result<u64, String> {
    let plain = text.trim_start_matches(['$', '€', '£', '¥']).trim_start();
    let plain = without_thousands(plain);
    let price = money::decimal(&plain)
        .map_err(|_| format!("`{}` is no price: digits and one point are expected, as in 12.50", short(text)))?;
    let minor =
        price.checked_mul(Decimal::from(10_u64.pow(exponent))).ok_or_else(|| format!("`{text}` is out of range"))?;
    if minor.normalize().scale() > 0 {
        return Err(format!("`{text}` has more decimals than the market's currency ({exponent})"));
    }
    let minor = money::round(minor).ok().filter(|minor| i64::try_from(*minor).is_ok());
    minor.ok_or_else(|| format!("`{text}` is out of range"))
}

fn without_thousands(text: &str) -> Cow<'_, str> {
    let Some((whole, decimals)) = text.split_once('.') else { return Cow::Borrowed(text) };
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let mut count = 0;
    let grouped = groups.all(|group| {
        count += 1;
        group.len() == 3
    });
    if grouped && count > 0 && matches!(first.len(), 1..=3) {
        Cow::Owned(format!("{}.{decimals}", whole.replace(',', "")))
    } else {
        Cow::Borrowed(text)
    }
}

/// A price in the currency's unit, as it is read again.
pub(super) fn price_text(minor: u64, exponent: u32) -> String {
    let digits = format!("{minor:0>width$}", width = exponent as usize + 1);
    let (whole, decimals) = digits.split_at(digits.len() - exponent as usize);
    if decimals.is_empty() { whole.to_owned() } else { format!("{whole}.{decimals}") }
}

/// A stock: a decimal, below zero where more was sold than was counted.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    money::decimal(text.strip_prefix('-').unwrap_or(text))
        .map(|_| text.to_owned())
        .map_err(|_| format!("`{}` is no quantity: digits and one point are expected, as in 12 or -0.5", short(text)))
}

/// The beginning of what stands there: an error isn't longer than what it tells.
pub(super) fn short(text: &str) -> String {
    let mut shown: String = text.chars().filter(|character| !is_unprintable(*character)).take(40).collect();
    if text.chars().nth(40).is_some() {
        shown.push('…');
    }
    shown
}

/// A barcode as it is, with a warning where it seems to be a GTIN gone wrong. Codes of a vendor's own have any form.
pub(super) fn barcode(text: &str, place: Place, column: &'static str, notes: &mut Notes) -> Option<String> {
    let code = printable(text);
    if code.is_empty() {
        return None;
    }
    let problem = match code.parse::<Gtin>() {
        Err(error @ BarcodeError::CheckDigit { .. }) => Some(error.to_string()),
        Err(BarcodeError::Length { digits: 7 | 11 }) if format!("0{code}").parse::<Gtin>().is_ok() => {
            Some("with a zero before it, it is a GTIN: a spreadsheet may have cut it off".into())
        }
        Err(BarcodeError::NotDigits(_)) if is_shortened(&code) => {
            Some("a spreadsheet has shortened it, and no scan finds it: format the column as text".into())
        }
        _ => None,
    };
    if let Some(problem) = problem {
        notes.warn(place, column, format!("`{}`: {problem}; it is kept as it is", short(&code)));
    }
    Some(code)
}

/// `4.00638E+12`.
fn is_shortened(code: &str) -> bool {
    code.split_once(['E', 'e']).is_some_and(|(number, power)| {
        number.contains('.')
            && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && power.starts_with('+')
            && power[1..].bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Where a file of ours has what the other format can't say.
#[derive(Clone, Copy, Default)]
pub(super) struct OwnColumns {
    pub(super) here: bool,
    taxes: Option<Column>,
    categories: Option<Column>,
    tags: Option<Column>,
    barcodes: Option<Column>,
    unit: Option<Column>,
    variant_of: Option<Column>,
}

impl OwnColumns {
    pub(super) fn new(columns: &Columns) -> Result<Self, ImportError> {
        let unit = columns.find(&[own::UNIT])?;
        if unit.is_none() {
            return Ok(OwnColumns::default());
        }
        Ok(OwnColumns {
            here: true,
            taxes: columns.find(&[own::TAXES])?,
            categories: columns.find(&[own::CATEGORIES])?,
            tags: columns.find(&[own::TAGS])?,
            barcodes: columns.find(&[own::BARCODES])?,
            unit,
            variant_of: columns.find(&[own::VARIANT_OF])?,
        })
    }

    /// Completes a product by them.
    pub(super) fn complete(
        &self,
        record: &csv::StringRecord,
        place: Place,
        notes: &mut Notes,
        taxable: bool,
        product: &mut ProductView,
    ) -> Result<(), RowError> {
        if !self.here {
            return Ok(());
        }
        let list = |column| split_list(text(record, column), true);
        let taxes = list(self.taxes);
        if taxable && !taxes.is_empty() {
            product.taxes = taxes;
        }
        product.categories.extend(list(self.categories));
        product.tags.extend(list(self.tags));
        for code in list(self.barcodes) {
            product.barcodes.extend(barcode(&code, place, own::BARCODES, notes));
        }
        product.variant_of = printable(text(record, self.variant_of));
        let unit = text(record, self.unit);
        if !unit.is_empty() {
            if !UNITS.contains(&unit) {
                let detail = format!("`{}` is none of {}", short(unit), UNITS.join(", "));
                return Err(RowError::new(place, own::UNIT, detail));
            }
            unit.clone_into(&mut product.unit);
        }
        Ok(())
    }
}

/// The names of a format's columns for what tells a product from others, its SKU, and its name.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) key: &'static str,
    pub(super) sku: &'static str,
    pub(super) name: &'static str,
}

/// No more than so many bytes, and whole characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// Holds a product to what the catalog takes.
pub(super) fn hold(product: &mut ProductView, place: Place, names: Names, notes: &mut Notes) -> Result<(), RowError> {
    if product.name.is_empty() {
        return Err(RowError::new(place, names.name, "is empty, or has nothing that prints"));
    }
    if product.name.len() > NAME_MAX {
        product.name = cut(&product.name, NAME_MAX).trim_end().to_owned();
        notes.warn(place, names.name, format!("longer than {NAME_MAX} bytes: what is more was left out"));
    }
    if product.sku.len() > SKU_MAX {
        return Err(RowError::new(place, names.sku, format!("longer than {SKU_MAX} bytes")));
    }
    let lists = [&product.taxes, &product.categories, &product.tags, &product.barcodes];
    let lists: usize = lists.iter().flat_map(|list| list.iter()).map(|item| item.len() + 2).sum();
    let bytes = lists + product.name.len() + product.sku.len() + product.variant_of.len();
    if bytes > PRODUCT_MAX {
        let detail = format!("with its categories, tags and barcodes {bytes} bytes: at most {PRODUCT_MAX} are taken");
        return Err(RowError::new(place, names.name, detail));
    }
    Ok(())
}
