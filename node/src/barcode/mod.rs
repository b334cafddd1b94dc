//! Barcodes on goods: check digits, one form in which two codes are compared, and codes that a scale has printed with a
//! price or a weight inside.
//!
//! By the GS1 General Specifications (sections 2.1.14 and 7.9). Nothing here reads an image: a scanner types what it has
//! read, or a person does.
//!
//! ```
//! use stallmesh_node::barcode::{Gtin, Layouts, scan};
//!
//! // A UPC-A code is the EAN-13 code with a zero before it.
//! assert_eq!("036000291452".parse::<Gtin>(), "0036000291452".parse::<Gtin>());
//! // A scale's label: item 12345, 7.99.
//! let layouts = Layouts::new(["21IIIIIPPPPPC"]).unwrap();
//! let read = scan("2112345007991\r\n", &layouts).unwrap();
//! assert_eq!(read.embedded.unwrap().item, "12345");
//! ```

mod gtin;
mod inside;

use std::str::FromStr;

pub use self::gtin::Gtin;
pub use self::inside::{Embedded, Layout, LayoutError, Layouts, Measure, price_check_digit};

/// The longest code that is taken, in bytes.
pub const CODE_MAX: usize = 64;

/// What is wrong with a code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarcodeError {
    /// Nothing was typed.
    #[error("the code is empty")]
    Empty,
    /// More than any code holds.
    #[error("the code has {bytes} bytes: at most {CODE_MAX} are taken")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// Something that no scanner reads from goods.
    #[error("the code has a character that doesn't print at position {position}")]
    Unprintable {
        /// Which, from 1.
        position: usize,
    },
    /// Letters in a number.
    #[error("`{0}` is no GTIN: it has something else than digits")]
    NotDigits(String),
    /// Digits, and not as many as a GTIN has.
    #[error("{digits} digits are no GTIN: EAN-8 and UPC-E have 8, UPC-A 12, EAN-13 13, GTIN-14 14")]
    Length {
        /// How many there are.
        digits: usize,
    },
    /// UPC-E begins with 0 or 1.
    #[error("a UPC-E code begins with 0 or 1, this one with {0}")]
    NumberSystem(u8),
    /// The last digit doesn't follow from those before it.
    #[error("check digit is {is}, should be {should}")]
    CheckDigit {
        /// The one that stands there.
        is: u8,
        /// The one that follows from the others.
        should: u8,
    },
    /// The digit that guards an embedded price or weight doesn't follow from it.
    #[error("the check digit of the {measure} inside is {is}, should be {should}")]
    MeasureCheckDigit {
        /// `price` or `weight`.
        measure: &'static str,
        /// The one that stands there.
        is: u8,
        /// The one that follows from the others.
        should: u8,
    },
    /// A label that a scale has printed with nothing on it.
    #[error("the {0} inside is zero")]
    NothingInside(&'static str),
}

/// A code as somebody typed it, or a scanner that types: without surrounding space and line ends.
///
/// # Errors
/// Empty, too long, or with characters that don't print.
pub fn typed(text: &str) -> Result<&str, BarcodeError> {
    let code = text.trim();
    if code.is_empty() {
        return Err(BarcodeError::Empty);
    }
    if code.len() > CODE_MAX {
        return Err(BarcodeError::TooLong { bytes: code.len() });
    }
    match code.chars().position(stallmesh_protocol::certificate::is_unprintable) {
        Some(index) => Err(BarcodeError::Unprintable { position: index + 1 }),
        None => Ok(code),
    }
}

/// The form in which two codes are compared: the fourteen digits of a GTIN, or else the code as it is typed.
///
/// A stall's own code may have as many digits as a GTIN and another last digit: it is compared as it is.
///
/// # Errors
/// As [`typed`].
pub fn key(text: &str) -> Result<String, BarcodeError> {
    let code = typed(text)?;
    Ok(Gtin::from_str(code).map_or_else(|_| code.to_owned(), |gtin| gtin.to_string()))
}

/// Whether a text is a right GTIN and nothing else: 8, 12, 13 or 14 digits, the last of which fits the others.
pub fn is_trade_item(text: &str) -> bool {
    Gtin::from_str(text).is_ok()
}

/// What a scan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The form in which the code is compared with those of the catalog.
    pub key: String,
    /// Item and price or weight, where the code is of a kind that holds them.
    pub embedded: Option<Embedded>,
}

/// Reads what was scanned or typed. A code that isn't a GTIN is one of the stall's own, and no error; a code of a layout
/// is one only if all of its check digits say so, for a price read wrong is a price charged wrong.
///
/// # Errors
/// As [`typed`]; and a code of a layout whose check digits don't fit, or that holds nothing.
pub fn scan(text: &str, layouts: &Layouts) -> Result<Scan, BarcodeError> {
    let code = typed(text)?;
    let embedded = layouts.read(code)?;
    Ok(Scan { key: key(code)?, embedded })
}

#[cfg(test)]
mod tests;
