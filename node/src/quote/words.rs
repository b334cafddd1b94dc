//! Amounts, rates and names of content, as people and programs read them.

use stallmesh_protocol::money;

/// An amount with its currency's decimals: `35.98`.
pub(super) fn amount(minor: u64, currency: &str) -> String {
    let mut text = String::new();
    push_amount(&mut text, minor, currency);
    text
}

/// The same at the end of a text.
pub(super) fn push_amount(text: &mut String, minor: u64, currency: &str) {
    push_decimal(text, minor, money::exponent(currency).unwrap_or(2) as usize);
}

/// Millionths of a unit as a decimal of units, without trailing zeros.
pub(super) fn push_units(text: &mut String, micro: u64) {
    match micro % 1_000_000 {
        0 => push_decimal(text, micro / 1_000_000, 0),
        _ => {
            push_decimal(text, micro, 6);
            text.truncate(text.trim_end_matches('0').len());
        }
    }
}

/// A number with so many of its digits behind the point.
fn push_decimal(text: &mut String, number: u64, decimals: usize) {
    let mut digits = [b'0'; 40];
    let (mut place, mut rest) = (digits.len(), number);
    while rest > 0 || digits.len() - place <= decimals {
        place -= 1;
        digits[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let (whole, behind) = digits[place..].split_at(digits.len() - place - decimals);
    text.extend(whole.iter().map(|digit| char::from(*digit)));
    if decimals > 0 {
        text.push('.');
        text.extend(behind.iter().map(|digit| char::from(*digit)));
    }
}

/// A short name of some content: the first 16 digits of its hash.
pub(super) fn version(fill: impl FnOnce(&mut blake3::Hasher)) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("stallmesh quote version 1");
    fill(&mut hasher);
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// Adds a part that can't run into the next one.
pub(super) fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
