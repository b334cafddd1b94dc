//! Card numbers, tracks and security codes: found, refused, masked. They never enter.
//!
//! A token of a reader is asked by [`looks_like_card`]; free text goes through [`mask`] before it is stored.
//! A number is taken for a card's if a scheme gives out numbers of its first digits and length, and its check digit is
//! right (Luhn). It is also seen with spaces, dashes, dots and the like between its digits, in digits of any script, and at
//! the beginning or end of a longer number. `docs/fraud.md` says what is missed, and how often something else is masked.

mod codes;
mod glyphs;
mod numbers;
mod schemes;
mod tracks;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

pub use self::schemes::Scheme;

use self::glyphs::Glyph;
use self::numbers::Reading;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A card's number.
    Number(Scheme),
    /// What a magnetic stripe holds.
    Track,
    /// The three or four digits that stand on a card beside its number.
    SecurityCode,
}

/// Something that must not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// Where, in bytes of the text.
    pub range: Range<usize>,
}

/// A finding by characters.
struct Found {
    kind: Kind,
    range: Range<usize>,
    /// So many digits at its end, or at the end of its card's number, may stay.
    kept: Range<usize>,
}

/// How often a masked text is looked through again.
const ROUNDS_MAX: usize = 8;

/// Everything in a text that must not be kept.
pub fn find(text: &str) -> Vec<Finding> {
    let glyphs = glyphs_of(text);
    let end = |place: usize| glyphs.get(place).map_or(text.len(), |glyph| glyph.at);
    let found = scan(&glyphs, Reading::Text).into_iter();
    found.map(|found| Finding { kind: found.kind, range: end(found.range.start)..end(found.range.end) }).collect()
}

/// Whether a token holds a card's number or track: then it is no token, and is refused.
pub fn looks_like_card(token: &str) -> bool {
    scan(&glyphs_of(token), Reading::Token).iter().any(|found| found.kind != Kind::SecurityCode)
}

/// The text with stars in place of card numbers but for their last four digits, of tracks, and of security codes.
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut masked = Cow::Borrowed(text);
    for round in 0..ROUNDS_MAX {
        let glyphs = glyphs_of(&masked);
        let found = scan(&glyphs, Reading::Text);
        if found.is_empty() {
            break;
        }
        // What one finding keeps may be part of another one: the next round sees it. The last one keeps nothing.
        let keeps = round + 1 < ROUNDS_MAX;
        masked = Cow::Owned(stars(&masked, &glyphs, &found, keeps));
    }
    masked
}

fn stars(text: &str, glyphs: &[Glyph], found: &[Found], keeps: bool) -> String {
    let mut hidden = vec![false; glyphs.len()];
    for found in found {
        for place in found.range.clone().filter(|place| !keeps || !found.kept.contains(place)) {
            let is_track = found.kind == Kind::Track;
            hidden[place] |= is_track || glyphs[place].class.digit().is_some();
        }
    }
    let mut masked = String::with_capacity(text.len());
    for ((glyph, hidden), character) in glyphs.iter().zip(hidden).zip(text.chars()) {
        debug_assert!(text.is_char_boundary(glyph.at), "glyphs are characters");
        masked.push(if hidden { '*' } else { character });
    }
    masked
}

/// The characters of a text; none where there are too few digits to look for.
fn glyphs_of(text: &str) -> Vec<Glyph> {
    let bytes = text.bytes();
    if text.is_ascii() && bytes.filter(u8::is_ascii_digit).take(3).count() < 3 {
        return Vec::new();
    }
    glyphs::read(text)
}

fn scan(glyphs: &[Glyph], reading: Reading) -> Vec<Found> {
    let mut found = tracks::find(glyphs);
    found.extend(numbers::find(glyphs, reading));
    found.extend(codes::find(glyphs));
    found.sort_by_key(|found| (found.range.start, found.range.end));
    found
}
