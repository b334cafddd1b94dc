//! Which numbers the card schemes give out.

/// A scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Visa.
    Visa,
    /// Mastercard.
    Mastercard,
    /// American Express.
    Amex,
    /// Discover.
    Discover,
    /// JCB.
    Jcb,
    /// UnionPay.
    UnionPay,
    /// Maestro.
    Maestro,
    /// Diners Club.
    Diners,
    /// RuPay.
    RuPay,
    /// Mir.
    Mir,
}

/// Shortest and longest card number (ISO/IEC 7812-1 leaves shorter ones, no scheme gives them out).
pub(super) const SHORTEST: usize = 12;
pub(super) const LONGEST: usize = 19;

/// A range of first digits: all numbers of that many digits from the first to the last; and which lengths there are. The
/// narrower ranges stand first, so that a shared first digit gets its nearest name.
struct Range(Scheme, u32, u32, &'static [std::ops::RangeInclusive<usize>]);

const RANGES: &[Range] = &[
    Range(Scheme::Amex, 34, 34, &[15..=15]),
    Range(Scheme::Amex, 37, 37, &[15..=15]),
    Range(Scheme::Diners, 300, 305, &[14..=14, 16..=19]),
    Range(Scheme::Diners, 3095, 3095, &[14..=14, 16..=19]),
    Range(Scheme::Diners, 36, 36, &[14..=19]),
    Range(Scheme::Diners, 38, 39, &[14..=14, 16..=19]),
    Range(Scheme::Jcb, 3528, 3589, &[16..=19]),
    Range(Scheme::Mastercard, 2221, 2720, &[16..=16]),
    Range(Scheme::Mir, 2200, 2204, &[16..=19]),
    Range(Scheme::Mastercard, 51, 55, &[16..=16]),
    Range(Scheme::Discover, 6011, 6011, &[16..=19]),
    Range(Scheme::Discover, 644, 649, &[16..=19]),
    Range(Scheme::Discover, 65, 65, &[16..=19]),
    Range(Scheme::RuPay, 60, 60, &[16..=16]),
    Range(Scheme::RuPay, 508, 508, &[16..=16]),
    Range(Scheme::UnionPay, 62, 62, &[16..=19]),
    Range(Scheme::UnionPay, 81, 82, &[16..=19]),
    Range(Scheme::Maestro, 50, 50, &[12..=19]),
    Range(Scheme::Maestro, 56, 58, &[12..=19]),
    Range(Scheme::Maestro, 63, 63, &[12..=19]),
    Range(Scheme::Maestro, 67, 67, &[12..=19]),
    Range(Scheme::Maestro, 6, 6, &[16..=19]),
    Range(Scheme::Visa, 4, 4, &[13..=13, 16..=16, 18..=19]),
];

/// Whose number these digits could be: first digits, length and check digit.
pub(super) fn scheme(digits: &[u8]) -> Option<Scheme> {
    if !(SHORTEST..=LONGEST).contains(&digits.len()) || !luhn(digits) {
        return None;
    }
    let begins = |low: u32, high: u32| {
        let count = low.ilog10() as usize + 1;
        let first = digits.iter().take(count).fold(0, |number, digit| number * 10 + u32::from(*digit));
        (low..=high).contains(&first)
    };
    let fits =
        |range: &&Range| range.3.iter().any(|lengths| lengths.contains(&digits.len())) && begins(range.1, range.2);
    RANGES.iter().find(fits).map(|range| range.0)
}

/// The length that a scheme's cards have today: what is looked for inside longer numbers.
pub(super) fn usual_length(scheme: Scheme) -> usize {
    match scheme {
        Scheme::Amex => 15,
        Scheme::Diners => 14,
        _ => 16,
    }
}

/// ISO/IEC 7812-1, annex B.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, u32::from(*digit) * 2) {
            (0, double) => double / 2,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// GS1's check digit: UPC-A and EAN-13.
pub(super) fn is_barcode(digits: &[u8]) -> bool {
    let weighed = |(index, digit): (usize, &u8)| u32::from(*digit) * if index % 2 == 0 { 1 } else { 3 };
    matches!(digits.len(), 12 | 13) && digits.iter().rev().enumerate().map(weighed).sum::<u32>().is_multiple_of(10)
}
