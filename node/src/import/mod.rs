//! Reading what people have, product files of other systems and baskets, and writing product files for them.
//!
//! A product file is read twice. The first time everything in it is checked, and nothing of it is kept but a few numbers a
//! row (for telling SKUs apart); only a file without an error is read again, and its products handed on in batches. So a
//! file of a million rows needs little memory, and an error in its last row leaves nothing behind. A file that changes
//! between the two is noticed before what has changed is handed on.

mod baskets;
mod checked;
mod error;
mod export;
mod fields;
mod shopify;
mod square;
mod table;

use std::io::{Cursor, Read, Seek};

use crate::engine::ProductView;

pub use self::baskets::{BasketsError, price_for, read_baskets};
pub use self::checked::{Checked, Summary};
pub use self::error::{ImportError, RowError, Warning};
pub use self::export::{ExportError, Exporter};

/// The most rows of a file.
pub const ROWS_MAX: u64 = 1_000_000;
/// The most that is read of a file that isn't kept as one, in bytes.
const WHOLE_MAX: u64 = 512 * 1024 * 1024;

/// Whose product file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Shopify's product CSV.
    Shopify,
    /// Square's item library.
    Square,
}

impl std::fmt::Display for Format {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Format::Shopify => "Shopify",
            Format::Square => "Square",
        })
    }
}

/// What a file doesn't say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Decimals of the market's currency.
    pub exponent: u32,
    /// The name of the rate for products that are taxed; without it they have none.
    pub tax: Option<String>,
    /// Which of the locations in a Square file is the stall. Needed for stock only where there are several.
    pub location: Option<String>,
}

/// What a file holds, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Variants that can be sold, in the file's order.
    pub products: Vec<ProductView>,
    /// Variants left out: drafts, archived and unpublished products, and those without a price of their own.
    pub skipped: usize,
    /// Pictures at addresses outside, which are noted and never loaded.
    pub pictures: u64,
    /// What was taken, and should be looked at: the first twenty.
    pub warnings: Vec<Warning>,
}

/// Checks a product file of any format that is known; its columns say which it is. What comes back hands the products on.
///
/// # Errors
/// The first twenty rows that can't be taken, or why the file can't be read at all.
pub fn products<R: Read + Seek>(source: R, rules: &Rules) -> Result<Checked<R>, ImportError> {
    Checked::new(source, rules, None)
}

/// Reads a Shopify product file as a whole. `exponent`: decimals of the market's currency. `tax`: the rate's name for
/// taxable products.
///
/// # Errors
/// The first twenty rows that can't be taken, or why the file can't be read at all.
pub fn shopify(reader: impl Read, exponent: u32, tax: Option<&str>) -> Result<Imported, ImportError> {
    let mut bytes = Vec::new();
    let read = reader.take(WHOLE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| ImportError::Io { line: 1, detail: error.to_string() })?;
    if bytes.len() as u64 > WHOLE_MAX {
        return Err(ImportError::TooLarge { line: 1, detail: format!("more than {WHOLE_MAX} bytes") });
    }
    let rules = Rules { exponent, tax: tax.map(str::to_owned), location: None };
    Checked::new(Cursor::new(bytes), &rules, Some(Format::Shopify))?.all()
}

#[cfg(test)]
mod tests;
