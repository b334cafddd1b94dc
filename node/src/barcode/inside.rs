//! Codes with a price or a weight inside: GS1's restricted circulation numbers, that a scale prints.

use std::fmt;
use std::str::FromStr;

use super::{BarcodeError, Gtin};

/// Which digit stands for a digit, by its place in the price: GS1's weights 2−, 3, 5+ and 5−.
const TWO_MINUS: [u8; 10] = [0, 2, 4, 6, 8, 9, 1, 3, 5, 7];
const THREE: [u8; 10] = [0, 3, 6, 9, 2, 5, 8, 1, 4, 7];
const FIVE_PLUS: [u8; 10] = [0, 5, 1, 6, 2, 7, 3, 8, 4, 9];
const FIVE_MINUS: [u8; 10] = [0, 5, 9, 4, 8, 3, 7, 2, 6, 1];

/// The digit that guards a price or weight of four or five digits (GS1 General Specifications 7.9.3 and 7.9.4); `None` for
/// other lengths, for which there is none, and for what is no digit.
pub fn price_check_digit(digits: &[u8]) -> Option<u8> {
    let weighted = |tables: &[[u8; 10]]| -> Option<u8> {
        let each = digits.iter().zip(tables).map(|(digit, table)| table.get(usize::from(*digit)).copied());
        each.sum::<Option<u8>>()
    };
    match digits.len() {
        4 => weighted(&[TWO_MINUS, TWO_MINUS, THREE, FIVE_MINUS]).map(|sum| sum * 3 % 10),
        5 => {
            let rest = (10 - weighted(&[FIVE_PLUS, TWO_MINUS, FIVE_MINUS, FIVE_PLUS, TWO_MINUS])? % 10) % 10;
            FIVE_MINUS.iter().position(|value| *value == rest).map(|digit| digit as u8)
        }
        _ => None,
    }
}

/// What a code holds beside its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// What this piece costs, in minor units of the market's currency.
    Price(u64),
    /// What it weighs, in grams.
    Grams(u64),
}

/// A code that has been taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The digits that name the item, as they stand in the code.
    pub item: String,
    /// Price or weight.
    pub measure: Measure,
    /// The code with zeros for price or weight, by which many catalogs know the item.
    pub base: Gtin,
}

/// Why a layout can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the layout `{layout}` can't be used: {detail}")]
pub struct LayoutError {
    /// As given.
    pub layout: String,
    /// What is wrong, and what is expected.
    pub detail: &'static str,
}

/// Where item and price or weight stand in codes with one prefix, one letter a digit: `21IIIIIPPPPPC`.
///
/// The prefix is 02 or 20 to 29; `I` the item, `P` the price in minor units or `W` the weight in grams, `V` the check digit
/// of a price or weight of four or five digits, `C` the check digit of all. What each prefix holds is for a country or a
/// shop to say, so there is no layout that is right everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    text: String,
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let wrong = |detail| Err(LayoutError { layout: text.chars().take(40).collect(), detail });
        let bytes = text.as_bytes();
        if bytes.len() != 13 {
            return wrong("thirteen characters are expected, as in 21IIIIIPPPPPC");
        }
        let prefix = &bytes[..2];
        if !matches!(prefix, [b'0', b'2'] | [b'2', b'0'..=b'9']) {
            return wrong("it begins with 02 or 20 to 29: other prefixes belong to companies");
        }
        let (body, end) = (&bytes[2..12], &bytes[12..]);
        if end != b"C" {
            return wrong("it ends with C, the check digit");
        }
        if body.iter().any(|byte| !b"IPWV".contains(byte)) {
            return wrong("I, P, W, V and C are the letters that it is made of");
        }
        let count = |letter: u8| body.iter().filter(|byte| **byte == letter).count();
        let runs = |letter: u8| {
            body.iter()
                .enumerate()
                .filter(|(index, byte)| **byte == letter && (*index == 0 || body[index - 1] != letter))
                .count()
        };
        let (item, price, weight, verifier) = (count(b'I'), count(b'P'), count(b'W'), count(b'V'));
        if item == 0 || price.max(weight) == 0 {
            return wrong("an item and a price or a weight are needed");
        }
        if price > 0 && weight > 0 {
            return wrong("it holds a price or a weight, not both");
        }
        if b"IPWV".iter().any(|letter| runs(*letter) > 1) {
            return wrong("the digits of each part stand side by side");
        }
        if verifier > 1 || verifier == 1 && !matches!(price.max(weight), 4 | 5) {
            return wrong("one check digit guards a price or weight of four or five digits");
        }
        Ok(Layout { text: text.to_owned() })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Layout {
    /// Takes thirteen digits with this layout's prefix apart.
    fn read(&self, code: &[u8]) -> Result<Embedded, BarcodeError> {
        let of = |letter: u8| -> Vec<u8> {
            self.text.bytes().zip(code).filter(|(part, _)| *part == letter).map(|(_, digit)| *digit).collect()
        };
        let number = |digits: &[u8]| digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(*digit));
        let (prices, weights) = (of(b'P'), of(b'W'));
        let (name, digits) = if prices.is_empty() { ("weight", weights) } else { ("price", prices) };
        if let (Some(is), Some(should)) = (of(b'V').first().copied(), price_check_digit(&digits))
            && is != should
        {
            return Err(BarcodeError::MeasureCheckDigit { measure: name, is, should });
        }
        let value = number(&digits);
        if value == 0 {
            return Err(BarcodeError::NothingInside(name));
        }
        // The check digit of zeros is zero.
        let zeroed: Vec<u8> = self
            .text
            .bytes()
            .zip(code)
            .filter(|(part, _)| *part != b'C')
            .map(|(part, digit)| if b"PWV".contains(&part) { 0 } else { *digit })
            .collect();
        Ok(Embedded {
            item: of(b'I').iter().map(|digit| char::from(b'0' + digit)).collect(),
            measure: if name == "price" { Measure::Price(value) } else { Measure::Grams(value) },
            base: Gtin::completed(&zeroed).ok_or(BarcodeError::Length { digits: code.len() })?,
        })
    }
}

/// The layouts of a stall, one a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layouts(Vec<Layout>);

impl Layouts {
    /// From their texts.
    ///
    /// # Errors
    /// One that can't be used, or a second one for a prefix.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, LayoutError> {
        let mut layouts: Vec<Layout> = Vec::new();
        for text in texts {
            let layout: Layout = text.parse()?;
            if layouts.iter().any(|other| other.text[..2] == layout.text[..2]) {
                return Err(LayoutError { layout: layout.text, detail: "there is another one for this prefix" });
            }
            layouts.push(layout);
        }
        Ok(Layouts(layouts))
    }

    /// Item and price or weight of a code, where one of the layouts is for it.
    ///
    /// # Errors
    /// The code has a layout's prefix, and its check digits don't fit, or it holds nothing.
    pub fn read(&self, code: &str) -> Result<Option<Embedded>, BarcodeError> {
        // Twelve digits are UPC-A: a zero before them makes them thirteen.
        let digits: Vec<u8> = match code.len() {
            12 => std::iter::once(b'0').chain(code.bytes()).collect(),
            13 => code.bytes().collect(),
            _ => return Ok(None),
        };
        let Some(layout) = self.0.iter().find(|layout| digits.starts_with(&layout.text.as_bytes()[..2])) else {
            return Ok(None);
        };
        let gtin: Gtin = match code.parse() {
            Ok(gtin) => gtin,
            Err(BarcodeError::NotDigits(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        gtin.thirteen().map(|digits| layout.read(digits)).transpose()
    }
}
