//! Money: whole minor units of an ISO 4217 currency, shared without losing or making any.

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use thiserror::Error;

/// Currencies whose minor unit isn't a hundredth (ISO 4217, table A.1).
const OTHER_EXPONENTS: &[(&str, u32)] = &[
    ("BHD", 3),
    ("BIF", 0),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYI", 0),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
];

/// Currencies of two decimals in use.
const TWO_DECIMALS: &[&str] = &[
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BMD", "BND", "BOB", "BRL",
    "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CNY", "COP", "CRC", "CUP", "CVE", "CZK", "DKK", "DOP",
    "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GTQ", "GYD", "HKD", "HNL",
    "HTG", "HUF", "IDR", "ILS", "INR", "IRR", "JMD", "KES", "KGS", "KHR", "KPW", "KYD", "KZT", "LAK", "LBP", "LKR",
    "LRD", "LSL", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN",
    "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "QAR", "RON", "RSD", "RUB",
    "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB",
    "TJS", "TMT", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "USD", "UYU", "UZS", "VES", "WST", "XCD", "YER", "ZAR",
    "ZMW", "ZWG",
];

/// The largest amount that settlement posts: whole numbers up to here are exact in every tool that reads JSON, and
/// thousands of them don't overflow a sum.
pub const AMOUNT_MAX: u64 = (1 << 53) - 1;

/// What can't be done with amounts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MoneyError {
    /// Not a currency in use.
    #[error("E_CURRENCY: `{0}` is no ISO 4217 currency in use")]
    Currency(String),
    /// Too large to be an amount.
    #[error("E_AMOUNT_RANGE: an amount is out of range")]
    Range,
    /// Nothing to share by.
    #[error("E_AMOUNT_RANGE: nothing to share an amount by")]
    NoWeights,
    /// Not a decimal.
    #[error("E_INVALID: `{0}` is no decimal number")]
    Decimal(String),
}

/// How many decimals a currency's minor unit has.
///
/// # Errors
/// No such currency.
pub fn exponent(currency: &str) -> Result<u32, MoneyError> {
    if let Some((_, exponent)) = OTHER_EXPONENTS.iter().find(|(code, _)| *code == currency) {
        return Ok(*exponent);
    }
    TWO_DECIMALS.contains(&currency).then_some(2).ok_or_else(|| MoneyError::Currency(currency.to_owned()))
}

/// A decimal in its strict text form: digits and one point, no sign, no exponent.
///
/// # Errors
/// Anything else.
pub fn decimal(text: &str) -> Result<Decimal, MoneyError> {
    let strict = !text.is_empty()
        && text.len() <= 28
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && text.bytes().filter(|byte| *byte == b'.').count() <= 1
        && !text.starts_with('.')
        && !text.ends_with('.');
    strict.then(|| Decimal::from_str_exact(text).ok()).flatten().ok_or_else(|| MoneyError::Decimal(text.to_owned()))
}

/// Rounds half up (half away from zero), to whole minor units.
///
/// # Errors
/// Negative, or too large.
pub fn round(amount: Decimal) -> Result<u64, MoneyError> {
    amount.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero).to_u64().ok_or(MoneyError::Range)
}

/// Amount × decimal ÷ divisor, half up, once and exactly: whole numbers all the way, so that every implementation gets
/// the same. With the decimal's digits as an integer d of s decimals: floor((2 × amount × d + D) / 2 D) where
/// D = divisor × 10^s; out of range where a number in it is 2^127 or more, or the result 2^64 or more.
fn scaled(amount: u64, factor: Decimal, divisor: i128) -> Result<u64, MoneyError> {
    let exact = || -> Option<i128> {
        let divisor = 10_i128.checked_pow(factor.scale())?.checked_mul(divisor)?;
        let product = i128::from(amount).checked_mul(factor.mantissa())?;
        Some(product.checked_mul(2)?.checked_add(divisor)?.div_euclid(divisor.checked_mul(2)?))
    };
    exact().and_then(|result| u64::try_from(result).ok()).ok_or(MoneyError::Range)
}

/// Price × quantity, half up, once.
///
/// # Errors
/// Out of range.
pub fn extend(price: u64, quantity: Decimal) -> Result<u64, MoneyError> {
    scaled(price, quantity, 1)
}

/// A percentage of an amount, half up.
///
/// # Errors
/// Out of range.
pub fn percentage(amount: u64, rate: Decimal) -> Result<u64, MoneyError> {
    scaled(amount, rate, 100)
}

/// Shares an amount by weights: the largest remainder gets what is left over, ties to the earlier. Always adds up.
///
/// # Errors
/// There is no weight above zero.
pub fn share(amount: u64, weights: &[u64]) -> Result<Vec<u64>, MoneyError> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if total == 0 {
        return if amount == 0 { Ok(vec![0; weights.len()]) } else { Err(MoneyError::NoWeights) };
    }
    let mut parts = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    for (index, weight) in weights.iter().enumerate() {
        let product = u128::from(amount) * u128::from(*weight);
        // A part is at most the amount.
        parts.push(u64::try_from(product / total).map_err(|_| MoneyError::Range)?);
        remainders.push((std::cmp::Reverse(product % total), index));
    }
    remainders.sort_unstable();
    let left = amount - parts.iter().sum::<u64>();
    for (_, index) in remainders.into_iter().take(usize::try_from(left).map_err(|_| MoneyError::Range)?) {
        parts[index] += 1;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_always_add_up_and_stay_near_their_weight(amount in 0_u64..1_000_000_000_000, weights in prop::collection::vec(0_u64..1_000_000, 1..20)) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let parts = share(amount, &weights).unwrap();
            prop_assert_eq!(parts.iter().sum::<u64>(), amount);
            let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                let exact = u128::from(amount) * u128::from(*weight) / total;
                prop_assert!(u128::from(*part) == exact || u128::from(*part) == exact + 1);
            }
        }
    }

    #[test]
    fn halves_round_up_and_currencies_have_their_decimals() {
        assert_eq!(extend(333, decimal("0.5").unwrap()).unwrap(), 167);
        assert_eq!(percentage(250, decimal("7.5").unwrap()).unwrap(), 19);
        assert_eq!((exponent("EUR").unwrap(), exponent("JPY").unwrap(), exponent("BHD").unwrap()), (2, 0, 3));
        assert!(exponent("XXX").is_err() && exponent("eur").is_err());
        for bad in ["", "-1", "1e3", ".5", "5.", "1.2.3", "1,5", "NaN", "99999999999999999999999999999"] {
            assert!(decimal(bad).is_err(), "{bad}");
        }
        assert!(extend(u64::MAX, decimal("2").unwrap()).is_err());
    }
}
