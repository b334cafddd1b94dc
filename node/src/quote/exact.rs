//! Exact fractions of minor units, and rounding them once.
//!
//! Numbers of real baskets fit 128 bits; whatever doesn't goes through whole numbers of any size, so the result is the same
//! and no basket is too odd to be counted.

use std::cmp::Ordering;

use num_bigint::BigInt;

/// A fraction: numerator and denominator, neither negative, the latter not zero. Not in lowest terms.
pub(super) type Fraction = (i128, i128);

/// A result that is no amount: 2^64 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfRange;

/// A product of numbers ÷ a product of numbers, half up. None is negative, no divisor zero.
pub(super) fn round(numbers: &[i128], divisors: &[i128]) -> Result<u64, OutOfRange> {
    let product = |factors: &[i128]| factors.iter().try_fold(1_i128, |product, factor| product.checked_mul(*factor));
    if let (Some(number), Some(divisor)) = (product(numbers), product(divisors))
        && let (Some(twice), Some(double)) = (number.checked_mul(2), divisor.checked_mul(2))
        && let Some(sum) = twice.checked_add(divisor)
    {
        return u64::try_from(sum / double).map_err(|_| OutOfRange);
    }
    let product = |factors: &[i128]| factors.iter().map(|factor| BigInt::from(*factor)).product::<BigInt>();
    let (number, divisor) = (product(numbers), product(divisors));
    u64::try_from((number * 2 + &divisor) / (divisor * 2)).map_err(|_| OutOfRange)
}

/// Which of two fractions is greater.
pub(super) fn compare(one: Fraction, other: Fraction) -> Ordering {
    match (one.0.checked_mul(other.1), other.0.checked_mul(one.1)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => (BigInt::from(one.0) * other.1).cmp(&(BigInt::from(other.0) * one.1)),
    }
}

/// A sum of fractions, less a whole number; `None` where that is negative.
pub(super) fn sum_less(fractions: &[Fraction], less: i128) -> Option<(BigInt, BigInt)> {
    let (mut number, mut divisor) = (BigInt::ZERO, BigInt::from(1));
    for (part, of) in fractions {
        if BigInt::from(*of) == divisor {
            number += *part;
        } else {
            number = number * *of + BigInt::from(*part) * &divisor;
            divisor *= *of;
        }
    }
    number -= BigInt::from(less) * &divisor;
    (number >= BigInt::ZERO).then_some((number, divisor))
}

/// Rounds a fraction of any size half up.
pub(super) fn round_big((number, divisor): (BigInt, BigInt)) -> Result<u64, OutOfRange> {
    u64::try_from((number * 2 + &divisor) / (divisor * 2)).map_err(|_| OutOfRange)
}

/// Shares an amount by weights: the largest remainder gets what is left over, ties to the earlier, and nobody more than it
/// has room for. Adds up where there is room; nothing is shared where no weight is above zero.
pub(super) fn share(amount: u64, weights: &[Fraction], room: &[u64]) -> Result<Vec<u64>, OutOfRange> {
    if weights.iter().all(|(_, divisor)| *divisor == 1) {
        let whole: Option<Vec<u64>> = weights.iter().map(|(weight, _)| u64::try_from(*weight).ok()).collect();
        if let Some(whole) = whole {
            return Ok(stallmesh_protocol::money::share(amount, &whole).unwrap_or_else(|_| vec![0; weights.len()]));
        }
    }
    // Over one denominator, that of all.
    let common = weights.iter().fold(BigInt::from(1), |common, (_, divisor)| {
        let divisor = BigInt::from(*divisor);
        &common * &divisor / gcd(common.clone(), divisor)
    });
    let whole: Vec<BigInt> = weights.iter().map(|(weight, divisor)| &common / *divisor * *weight).collect();
    let total: BigInt = whole.iter().sum();
    if total == BigInt::ZERO {
        return Ok(vec![0; weights.len()]);
    }
    let exact: Vec<(BigInt, BigInt)> = whole.into_iter().map(|weight| (weight * amount, total.clone())).collect();
    spread(amount, &exact, room)
}

/// Whole parts of fractions whose sum is about `amount`: each rounded down, and what is left over one by one to the largest
/// remainders, ties to the earlier, where there is room.
pub(super) fn spread(amount: u64, exact: &[(BigInt, BigInt)], room: &[u64]) -> Result<Vec<u64>, OutOfRange> {
    let mut parts = Vec::with_capacity(exact.len());
    let mut remainders: Vec<(BigInt, &BigInt, usize)> = Vec::with_capacity(exact.len());
    for (index, (number, divisor)) in exact.iter().enumerate() {
        parts.push(u64::try_from(number / divisor).map_err(|_| OutOfRange)?);
        remainders.push((number % divisor, divisor, index));
    }
    remainders.sort_by(|(one, of_one, first), (other, of_other, second)| {
        (other * *of_one).cmp(&(one * *of_other)).then(first.cmp(second))
    });
    let whole = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part)).ok_or(OutOfRange)?;
    let left = usize::try_from(amount.saturating_sub(whole)).map_err(|_| OutOfRange)?;
    let open = remainders.into_iter().filter(|(_, _, index)| room.get(*index).is_none_or(|room| parts[*index] < *room));
    let chosen: Vec<usize> = open.take(left).map(|(_, _, index)| index).collect();
    chosen.into_iter().for_each(|index| parts[index] += 1);
    Ok(parts)
}

fn gcd(mut one: BigInt, mut other: BigInt) -> BigInt {
    while other != BigInt::ZERO {
        (one, other) = (other.clone(), one % other);
    }
    one
}
