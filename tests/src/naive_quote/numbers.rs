//! Exact numbers: reading, rounding, sharing and writing them.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use serde_json::Value;

/// Every number of the evaluation is an exact fraction, whole amounts too.
pub(super) type R = BigRational;

/// A whole number.
pub(super) fn whole(n: i64) -> R {
    R::from_integer(BigInt::from(n))
}

/// A text such as `-12.50`; nothing if it isn't a decimal.
pub(super) fn parse(text: &str) -> Option<R> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (before, after) = match digits.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (digits, ""),
    };
    let all = format!("{before}{after}");
    if before.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ten = BigInt::from(10);
    let number = R::new(all.parse().unwrap(), ten.pow(after.len() as u32));
    Some(if negative { -number } else { number })
}

/// A JSON integer or decimal string.
pub(super) fn decimal(value: &Value) -> R {
    parse(&text_of(value)).unwrap()
}

/// A rate such as `"7.5"` as the part of one that it means.
pub(super) fn percent(value: &Value) -> R {
    decimal(value) / whole(100)
}

/// A string as it is, any other JSON value as it is written.
pub(super) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// The nearest whole number, halves upwards.
pub(super) fn half_up(x: &R) -> R {
    (x + R::new(BigInt::from(1), BigInt::from(2))).floor()
}

/// The sum of a list.
pub(super) fn sum<'a>(list: impl IntoIterator<Item = &'a R>) -> R {
    list.into_iter().fold(R::zero(), |all, x| all + x)
}

/// Whole parts that make up `total`, as near to `exact` as they can be: each rounded down first, then one more to the
/// largest fractions, ties to the earlier. A part that has reached its `most` is passed over.
pub(super) fn largest_remainder(total: &R, exact: &[R], most: &[R]) -> Vec<R> {
    let mut parts: Vec<R> = exact.iter().map(R::floor).collect();
    let mut order: Vec<usize> = (0..exact.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().cmp(&exact[a].fract()).then(a.cmp(&b)));
    let mut over = total - sum(&parts);
    assert!(!over.is_negative() && *total <= sum(most), "what is shared has room");
    while over.is_positive() {
        for &i in &order {
            if over.is_positive() && parts[i] < most[i] {
                parts[i] += R::one();
                over -= R::one();
            }
        }
    }
    parts
}

/// `total` shared by `worth`, never more on a line than is `left` of it and nothing where there is no worth.
pub(super) fn share(total: &R, worth: &[R], left: &[R]) -> Vec<R> {
    let all = sum(worth);
    if total.is_zero() || all.is_zero() {
        return vec![R::zero(); worth.len()];
    }
    let exact: Vec<R> = worth.iter().map(|w| total * w / &all).collect();
    let most: Vec<R> = worth.iter().zip(left).map(|(w, l)| if w.is_zero() { R::zero() } else { l.clone() }).collect();
    largest_remainder(total, &exact, &most)
}

/// A whole amount as a JSON integer.
pub(super) fn json_amount(x: &R) -> Value {
    assert!(x.is_integer(), "an amount is whole");
    Value::from(x.to_integer().to_i64().unwrap())
}

/// A decimal without trailing zeros, such as `0.75`.
pub(super) fn json_decimal(x: &R) -> Value {
    let mut places = 0;
    let mut scaled = x.clone();
    while !scaled.is_integer() {
        scaled *= whole(10);
        places += 1;
    }
    let digits = format!("{:0>width$}", scaled.to_integer().to_string(), width = places + 1);
    let (before, after) = digits.split_at(digits.len() - places);
    Value::from(if places == 0 { before.to_string() } else { format!("{before}.{after}") })
}
