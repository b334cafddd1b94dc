//! Shopify's product CSV, as its admin exports it.
//!
//! One product may take several rows: the first has its title, the next ones further variants or only pictures. Columns
//! are found by their names, for their order and number differ between versions. All or nothing: a file with an error
//! imports nothing, and the errors name their rows.

use std::collections::BTreeMap;
use std::io::Read;

use stallmesh_protocol::certificate::is_unprintable;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::money;

use crate::engine::ProductView;

/// The most rows of a file.
const ROWS_MAX: u64 = 1_000_000;
/// The longest field, in bytes; a description may be long, but not a book.
const FIELD_MAX: usize = 256 * 1024;
/// The longest name, in characters.
const NAME_MAX: usize = 200;
/// The most errors that are told at once.
const ERRORS_MAX: usize = 20;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Variants that can be sold, in the file's order.
    pub products: Vec<ProductView>,
    /// Variants left out: drafts, archived and unpublished products.
    pub skipped: usize,
}

/// One row that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column `{column}`: {detail}")]
pub struct RowError {
    /// The line that the record begins at, from 1.
    pub line: u64,
    /// The column's name.
    pub column: &'static str,
    /// What is wrong, and what is expected.
    pub detail: String,
}

/// Why a file imports nothing.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not such a file.
    #[error("this is not a Shopify product file: it has no column `{0}`")]
    Column(&'static str),
    /// It can't be read as CSV.
    #[error("line {line}: {detail}")]
    Csv {
        /// The line.
        line: u64,
        /// What is wrong.
        detail: String,
    },
    /// Rows are wrong.
    #[error("{} rows are wrong, so nothing was imported. {}", .0.len(), list(.0))]
    Rows(Vec<RowError>),
    /// Too large.
    #[error("line {line}: {detail}")]
    TooLarge {
        /// The line.
        line: u64,
        /// Which limit.
        detail: String,
    },
}

fn list(errors: &[RowError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Where the columns are that matter.
struct Columns(BTreeMap<String, usize>);

impl Columns {
    fn new(headers: &csv::StringRecord) -> Self {
        let clean = |name: &str| name.trim_start_matches('\u{feff}').trim().to_lowercase();
        Columns(headers.iter().enumerate().map(|(index, name)| (clean(name), index)).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(&name.to_lowercase())
    }

    /// A field without surrounding space, and without the apostrophe that defuses formulas in spreadsheets.
    fn get<'a>(&self, record: &'a csv::StringRecord, name: &str) -> &'a str {
        let field = self.0.get(&name.to_lowercase()).and_then(|index| record.get(*index)).unwrap_or_default().trim();
        match field.strip_prefix('\'') {
            Some(rest) if rest.starts_with(['=', '+', '-', '@']) => rest,
            _ => field,
        }
    }
}

/// What the rows of one product share.
#[derive(Clone, Default)]
struct Parent {
    handle: String,
    title: String,
    category: String,
    tags: Vec<String>,
    offered: bool,
}

/// Reads a product file. `exponent`: decimals of the market's currency. `tax`: the rate's name for taxable products.
///
/// # Errors
/// The first twenty rows that can't be taken, or why the file can't be read at all.
pub fn shopify(reader: impl Read, exponent: u32, tax: Option<&str>) -> Result<Imported, ImportError> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let headers = csv.headers().map_err(csv_error)?.clone();
    let columns = Columns::new(&headers);
    for needed in ["Handle", "Title", "Variant Price"] {
        if !columns.has(needed) {
            return Err(ImportError::Column(needed));
        }
    }
    let mut parent = Parent::default();
    let mut variants: Vec<(u64, String, ProductView)> = Vec::new();
    let mut skipped = 0;
    let mut errors = Vec::new();
    let mut record = csv::StringRecord::new();
    let mut rows = 0;
    while csv.read_record(&mut record).map_err(csv_error)? {
        let line = record.position().map_or(0, csv::Position::line);
        rows += 1;
        if rows > ROWS_MAX {
            return Err(ImportError::TooLarge { line, detail: format!("more than {ROWS_MAX} rows") });
        }
        if record.iter().any(|field| field.len() > FIELD_MAX) {
            return Err(ImportError::TooLarge { line, detail: format!("a field of more than {FIELD_MAX} bytes") });
        }
        read_parent(&columns, &record, &mut parent);
        // A row without a price is a further picture of the product above it.
        if columns.get(&record, "Variant Price").is_empty() {
            continue;
        }
        if !parent.offered {
            skipped += 1;
            continue;
        }
        match read_variant(&columns, &record, &parent, line, exponent, tax) {
            Ok((key, product)) => variants.push((line, key, product)),
            Err(error) => errors.push(error),
        }
        if errors.len() >= ERRORS_MAX {
            break;
        }
    }
    let products = name_apart(variants, &mut errors);
    if errors.is_empty() { Ok(Imported { products, skipped }) } else { Err(ImportError::Rows(errors)) }
}

fn csv_error(error: csv::Error) -> ImportError {
    let line = error.position().map_or(1, csv::Position::line);
    let detail = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => {
            "not UTF-8: save the file as \"CSV UTF-8\" in your spreadsheet and import it again".to_owned()
        }
        _ => error.to_string(),
    };
    ImportError::Csv { line, detail }
}

fn read_parent(columns: &Columns, record: &csv::StringRecord, parent: &mut Parent) {
    let handle = columns.get(record, "Handle");
    let title = columns.get(record, "Title");
    if handle == parent.handle && title.is_empty() {
        return;
    }
    let published = columns.get(record, "Published");
    let status = columns.get(record, "Status");
    let category = [columns.get(record, "Product Category"), columns.get(record, "Type")];
    *parent = Parent {
        handle: handle.to_owned(),
        title: if title.is_empty() { handle.to_owned() } else { title.to_owned() },
        category: category.into_iter().rev().find(|text| !text.is_empty()).unwrap_or_default().to_owned(),
        tags: columns
            .get(record, "Tags")
            .split(',')
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect(),
        offered: !published.eq_ignore_ascii_case("false")
            && !["draft", "archived"].iter().any(|hidden| status.eq_ignore_ascii_case(hidden)),
    };
}

/// The variant, and the key that tells it from all others: handle and option values.
fn read_variant(
    columns: &Columns,
    record: &csv::StringRecord,
    parent: &Parent,
    line: u64,
    exponent: u32,
    tax: Option<&str>,
) -> Result<(String, ProductView), RowError> {
    let error = |column: &'static str, detail: String| RowError { line, column, detail };
    if parent.handle.is_empty() {
        return Err(error("Handle", "is empty: every row names its product".into()));
    }
    let price =
        read_price(columns.get(record, "Variant Price"), exponent).map_err(|detail| error("Variant Price", detail))?;
    let options: Vec<&str> = ["Option1 Value", "Option2 Value", "Option3 Value"]
        .iter()
        .map(|column| columns.get(record, column))
        .filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case("default title"))
        .collect();
    let mut name: String = parent.title.chars().filter(|character| !is_unprintable(*character)).collect();
    for option in &options {
        name.push_str(", ");
        name.extend(option.chars().filter(|character| !is_unprintable(*character)));
    }
    let name: String = name.chars().take(NAME_MAX).collect();
    let key = std::iter::once(parent.handle.as_str()).chain(options.iter().copied()).collect::<Vec<_>>().join("\u{1f}");
    let given = columns.get(record, "Variant SKU");
    let taxable = !columns.get(record, "Variant Taxable").eq_ignore_ascii_case("false");
    let stock = columns.get(record, "Variant Inventory Qty");
    let tracked = !columns.get(record, "Variant Inventory Tracker").is_empty();
    let barcode = columns.get(record, "Variant Barcode");
    let product = ProductView {
        stall: String::new(),
        sku: given.chars().filter(|character| !character.is_control()).take(100).collect(),
        name,
        price,
        taxes: tax.filter(|_| taxable).map(str::to_owned).into_iter().collect(),
        categories: Some(parent.category.clone()).filter(|category| !category.is_empty()).into_iter().collect(),
        tags: parent.tags.clone(),
        barcodes: Some(barcode.to_owned()).filter(|barcode| !barcode.is_empty()).into_iter().collect(),
        unit: "piece".into(),
        stock: if tracked { stock.to_owned() } else { String::new() },
        variant_of: if options.is_empty() { String::new() } else { parent.handle.clone() },
    };
    Ok((key, product))
}

/// A price as a decimal in the currency's unit, in minor units.
fn read_price(text: &str, exponent: u32) -> Result<u64, String> {
    let price = money::decimal(text)
        .map_err(|_| format!("`{text}` is no price: digits and one point are expected, as in 12.50"))?;
    let minor = price
        .checked_mul(rust_decimal::Decimal::from(10_u64.pow(exponent)))
        .ok_or_else(|| format!("`{text}` is out of range"))?;
    if minor.normalize().scale() > 0 {
        return Err(format!("`{text}` has more decimals than the market's currency ({exponent})"));
    }
    money::round(minor).map_err(|_| format!("`{text}` is out of range"))
}

/// Gives each variant a SKU of its own: the file's, or one made from handle and option values, the same on every device
/// and in every order of rows.
fn name_apart(variants: Vec<(u64, String, ProductView)>, errors: &mut Vec<RowError>) -> Vec<ProductView> {
    let mut owners: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let sku_of =
        |key: &str, product: &ProductView| if product.sku.is_empty() { derive_sku(key) } else { product.sku.clone() };
    for (line, key, product) in &variants {
        owners.entry(sku_of(key, product)).or_default().entry(key.clone()).or_insert(*line);
    }
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut products = Vec::with_capacity(variants.len());
    for (line, key, mut product) in variants {
        let sku = sku_of(&key, &product);
        let shared = owners.get(&sku).is_some_and(|owners| owners.len() > 1);
        product.sku = if shared { format!("{sku}-{}", suffix(&key)) } else { sku };
        if let Some(first) = seen.insert(product.sku.clone(), line) {
            errors.push(RowError {
                line,
                column: "Handle",
                detail: format!("the same product and options stand in line {first} already"),
            });
        }
        products.push(product);
    }
    products
}

/// Upper-case letters and digits of handle and options, hyphens for everything else.
fn derive_sku(key: &str) -> String {
    let mut sku = String::new();
    for character in key.chars() {
        match character.to_uppercase().next().filter(char::is_ascii_alphanumeric) {
            Some(character) => sku.push(character),
            None if !sku.ends_with('-') && !sku.is_empty() => sku.push('-'),
            None => {}
        }
    }
    let sku = sku.trim_end_matches('-');
    // Names in other scripts leave nothing: then the hash stands for them.
    let short: String = sku.chars().take(80).collect();
    if short.is_empty() {
        suffix(key)
    } else if short.len() < sku.len() {
        format!("{short}-{}", suffix(key))
    } else {
        short
    }
}

fn suffix(key: &str) -> String {
    let hash = Hasher::new(Domain::Part).bytes(key.as_bytes()).finish();
    hex::encode_upper(&hash.as_bytes()[..3])
}

#[cfg(test)]
mod tests;
