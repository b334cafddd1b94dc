//! Security codes: three or four digits beside a word that says so.

use super::glyphs::{Class, Glyph};
use super::{Found, Kind};

/// What the code is called; longer words first.
const WORDS: [&str; 22] = [
    "cardverificationvalue",
    "cardverificationcode",
    "kartenprufnummer",
    "kartenprüfnummer",
    "sicherheitscode",
    "sicherheitsnummer",
    "securitycode",
    "prüfnummer",
    "prufnummer",
    "prüfziffer",
    "cryptogramme",
    "cvv2",
    "cvc2",
    "cvd2",
    "cid2",
    "cvv",
    "cvc",
    "cvd",
    "cvn",
    "csc",
    "cid",
    "kpn",
];
/// What may stand between the word and the digits.
const FILLERS: [&str; 14] =
    ["is", "ist", "code", "number", "nummer", "num", "no", "nr", "value", "val", "est", "es", "der", "lautet"];
/// So many characters that are neither letters nor digits.
const BETWEEN_MAX: usize = 6;

pub(super) fn find(glyphs: &[Glyph]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut place = 0;
    while place < glyphs.len() {
        let inside = place > 0 && matches!(glyphs[place - 1].class, Class::Letter(_) | Class::Other);
        // `cvv2 123` and `cvv234`: the word that has a code behind it.
        let ends = || WORDS.iter().filter(|_| !inside).filter_map(|word| word_at(glyphs, place, word));
        let Some(end) = ends().next() else {
            place += 1;
            continue;
        };
        let code = ends().find_map(|end| behind(glyphs, end));
        // Where stars stand behind it, the code is masked already, and what stands before it is something else.
        let is_masked = || glyphs[end..].iter().take(BETWEEN_MAX).any(|glyph| glyph.class == Class::Sign(b'*'));
        found.extend(code.or_else(|| if is_masked() { None } else { before(glyphs, place) }));
        place = end;
    }
    found
}

/// Where this word ends if it stands here: letters in any case, with blanks or the like inside it, and nothing of a
/// longer word behind it.
fn word_at(glyphs: &[Glyph], start: usize, word: &str) -> Option<usize> {
    let mut place = start;
    for (index, sign) in word.chars().enumerate() {
        while index > 0 && word.len() > 5 && matches!(glyphs.get(place)?.class, Class::Between | Class::Invisible) {
            place += 1;
        }
        let is_it = match glyphs.get(place)?.class {
            Class::Letter(letter) => char::from(letter) == sign,
            Class::Digit(digit) => sign.is_ascii_digit() && sign as u8 - b'0' == digit,
            // The one letter of these words that isn't Latin.
            Class::Other => !sign.is_ascii(),
            _ => false,
        };
        if !is_it {
            return None;
        }
        place += 1;
    }
    let goes_on = glyphs.get(place).is_some_and(|glyph| matches!(glyph.class, Class::Letter(_) | Class::Other));
    (!goes_on).then_some(place)
}

/// The code behind its name.
fn behind(glyphs: &[Glyph], from: usize) -> Option<Found> {
    let mut place = from;
    let mut between = 0;
    loop {
        match glyphs.get(place)?.class {
            Class::Digit(_) => return code(glyphs, place),
            Class::Letter(_) => {
                let filler = FILLERS.iter().filter_map(|filler| word_at(glyphs, place, filler)).max();
                place = filler?;
            }
            Class::Other => return None,
            _ if between < BETWEEN_MAX => {
                between += 1;
                place += 1;
            }
            _ => return None,
        }
    }
}

/// Three or four digits that begin here: in one, or each for itself.
fn code(glyphs: &[Glyph], start: usize) -> Option<Found> {
    let is_digit = |place: usize| glyphs.get(place).is_some_and(|glyph| glyph.class.digit().is_some());
    let together = (start..).take_while(|place| is_digit(*place)).take(5).count();
    if matches!(together, 3 | 4) {
        return Some(found(start, start + together));
    }
    if together != 1 {
        return None;
    }
    let alone = (start..).step_by(2);
    let alone = alone.take_while(|place| is_digit(*place) && !is_digit(place + 1)).take(5).count();
    let between = (1..alone).all(|index| matches!(glyphs[start + 2 * index - 1].class, Class::Between));
    (matches!(alone, 3 | 4) && between).then(|| found(start, start + 2 * alone - 1))
}

/// The code before its name.
fn before(glyphs: &[Glyph], name: usize) -> Option<Found> {
    let skipped = glyphs[..name].iter().rev().take_while(|glyph| !glyph.class.is_word()).take(3).count();
    let end = name - skipped;
    let digits = glyphs[..end].iter().rev().take_while(|glyph| glyph.class.digit().is_some()).take(5).count();
    let start = end - digits;
    let is_alone = start == 0 || !glyphs[start - 1].class.is_word();
    (skipped > 0 && matches!(digits, 3 | 4) && is_alone).then(|| found(start, end))
}

fn found(start: usize, end: usize) -> Found {
    Found { kind: Kind::SecurityCode, range: start..end, kept: end..end }
}
