//! Global Trade Item Numbers.

use std::fmt;
use std::str::FromStr;

use super::{BarcodeError, typed};

/// How many digits the form has in which GTINs are compared.
const DIGITS: usize = 14;

/// A Global Trade Item Number, whatever its symbol: EAN-13, EAN-8, UPC-A, UPC-E, ITF-14.
///
/// Kept as fourteen digits with zeros before it, as GS1 has it in databases: so a UPC-A code and the same as EAN-13 are
/// equal, and a carton's code, which has another first digit, is another thing.
///
/// Eight digits that begin with 0 are taken as UPC-E where the check digit says so, and as EAN-8 otherwise; those that
/// begin with 1 the other way round. (EAN-8 codes with a leading 0 are for use inside one company.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtin([u8; DIGITS]);

impl Gtin {
    /// A UPC-E code as the UPC-A code that it is short for: six digits, or with the number system before them, or also with
    /// the check digit behind them.
    ///
    /// # Errors
    /// Other characters, another length, another number system than 0 and 1, a wrong check digit.
    pub fn upc_e(text: &str) -> Result<Self, BarcodeError> {
        let digits = digits(typed(text)?)?;
        let (system, [a, b, c, d, e, last], check) = match digits.as_slice() {
            &[a, b, c, d, e, f] => (0, [a, b, c, d, e, f], None),
            &[system, a, b, c, d, e, f] => (system, [a, b, c, d, e, f], None),
            &[system, a, b, c, d, e, f, check] => (system, [a, b, c, d, e, f], Some(check)),
            other => return Err(BarcodeError::Length { digits: other.len() }),
        };
        if system > 1 {
            return Err(BarcodeError::NumberSystem(system));
        }
        let ten = match last {
            0..=2 => [a, b, last, 0, 0, 0, 0, c, d, e],
            3 => [a, b, c, 0, 0, 0, 0, 0, d, e],
            4 => [a, b, c, d, 0, 0, 0, 0, 0, e],
            _ => [a, b, c, d, e, 0, 0, 0, 0, last],
        };
        let mut number = [0; DIGITS];
        number[2] = system;
        number[3..13].copy_from_slice(&ten);
        let should = check_digit(&number[..DIGITS - 1]);
        match check {
            Some(is) if is != should => Err(BarcodeError::CheckDigit { is, should }),
            _ => {
                number[DIGITS - 1] = should;
                Ok(Gtin(number))
            }
        }
    }

    /// Of all digits but the last, which is made to fit. At most thirteen.
    pub(super) fn completed(digits: &[u8]) -> Option<Self> {
        let start = (DIGITS - 1).checked_sub(digits.len())?;
        let mut number = [0; DIGITS];
        number[start..DIGITS - 1].copy_from_slice(digits);
        number[DIGITS - 1] = check_digit(digits);
        Some(Gtin(number))
    }

    fn plain(digits: &[u8]) -> Result<Self, BarcodeError> {
        let (Some((is, before)), true) = (digits.split_last(), matches!(digits.len(), 8 | 12..=14)) else {
            return Err(BarcodeError::Length { digits: digits.len() });
        };
        let should = check_digit(before);
        if *is != should {
            return Err(BarcodeError::CheckDigit { is: *is, should });
        }
        Self::completed(before).ok_or(BarcodeError::Length { digits: digits.len() })
    }

    /// The last thirteen digits, where it is no carton's code.
    pub(super) fn thirteen(&self) -> Option<&[u8]> {
        (self.0[0] == 0).then_some(&self.0[1..])
    }
}

impl FromStr for Gtin {
    type Err = BarcodeError;

    fn from_str(text: &str) -> Result<Self, BarcodeError> {
        let digits = digits(typed(text)?)?;
        let plain = Self::plain(&digits);
        match digits.as_slice() {
            [0, ..] if digits.len() == 8 => Self::upc_e(text).or(plain),
            [1, ..] if digits.len() == 8 => plain.or_else(|error| Self::upc_e(text).map_err(|_| error)),
            _ => plain,
        }
    }
}

impl fmt::Display for Gtin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|digit| write!(formatter, "{digit}"))
    }
}

/// The values of ASCII digits.
fn digits(code: &str) -> Result<Vec<u8>, BarcodeError> {
    let value = |byte: u8| byte.is_ascii_digit().then(|| byte - b'0');
    code.bytes().map(value).collect::<Option<Vec<u8>>>().ok_or_else(|| BarcodeError::NotDigits(code.to_owned()))
}

/// The digit that completes others: from the right they count three times and once in turns, and the sum with it is a
/// multiple of ten.
fn check_digit(before: &[u8]) -> u8 {
    let sum: u32 = before
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| u32::from(*digit) * if index % 2 == 0 { 3 } else { 1 })
        .sum();
    ((10 - sum % 10) % 10) as u8
}
