//! What a magnetic stripe holds (ISO/IEC 7813), and what a chip gives in its place.

use std::ops::Range;

use super::glyphs::{Class, Glyph};
use super::schemes::{LONGEST, SHORTEST, scheme};
use super::{Found, Kind};

/// The most characters of a track.
const TRACK_MAX: usize = 120;
/// So many digits follow a card's number at least: expiry and service code.
const BEHIND_MIN: usize = 4;

pub(super) fn find(glyphs: &[Glyph]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut place = 0;
    while place < glyphs.len() {
        match first_track(glyphs, place).or_else(|| second_track(glyphs, place)) {
            Some(track) => {
                place = track.range.end;
                found.push(track);
            }
            None => place += 1,
        }
    }
    found
}

fn sign(glyphs: &[Glyph], place: usize) -> Option<Class> {
    glyphs.get(place).map(|glyph| glyph.class)
}

/// A card's number that begins here: where it ends, and its digits.
fn number(glyphs: &[Glyph], start: usize) -> Option<(usize, Vec<u8>)> {
    let mut digits = Vec::with_capacity(LONGEST);
    let mut place = start;
    loop {
        match sign(glyphs, place) {
            Some(Class::Digit(digit)) if digits.len() < LONGEST => digits.push(digit),
            Some(Class::Between | Class::Invisible) if !digits.is_empty() && place < start + TRACK_MAX => {}
            _ => break,
        }
        place += 1;
    }
    (digits.len() >= SHORTEST).then_some((place, digits))
}

/// Up to the end sentinel, or the end of the line.
fn end(glyphs: &[Glyph], from: usize, belongs: impl Fn(Class) -> bool) -> usize {
    let mut place = from;
    while place < glyphs.len().min(from + TRACK_MAX) {
        match glyphs[place].class {
            Class::Sign(b'?') => return place + 1,
            class if belongs(class) => place += 1,
            _ => break,
        }
    }
    place
}

fn track(range: Range<usize>, glyphs: &[Glyph], number_end: usize) -> Found {
    let digits = (range.start..number_end).rev().filter(|place| glyphs[*place].class.digit().is_some());
    let kept = digits.take(4).last().unwrap_or(number_end);
    Found { kind: Kind::Track, range, kept: kept..number_end }
}

/// `%B…^…^…?`
fn first_track(glyphs: &[Glyph], start: usize) -> Option<Found> {
    let begins = sign(glyphs, start) == Some(Class::Sign(b'%')) && sign(glyphs, start + 1) == Some(Class::Letter(b'b'));
    if !begins {
        return None;
    }
    let (number_end, _) = number(glyphs, start + 2)?;
    if sign(glyphs, number_end) != Some(Class::Sign(b'^')) {
        return None;
    }
    let end = end(glyphs, number_end, |_| true);
    Some(track(start..end, glyphs, number_end))
}

/// `;…=…?`, or without its first sign, or with the `D` that a chip gives, where the number is a card's.
fn second_track(glyphs: &[Glyph], start: usize) -> Option<Found> {
    let is_marked = sign(glyphs, start) == Some(Class::Sign(b';'));
    let first = start + usize::from(is_marked);
    let is_inside = !is_marked && start > 0 && glyphs[start - 1].class.digit().is_some();
    if is_inside || !matches!(sign(glyphs, first), Some(Class::Digit(_))) {
        return None;
    }
    let (number_end, digits) = number(glyphs, first)?;
    let divides = matches!(sign(glyphs, number_end), Some(Class::Sign(b'=') | Class::Letter(b'd')));
    if !divides || (!is_marked && scheme(&digits).is_none()) {
        return None;
    }
    let belongs = |class| matches!(class, Class::Digit(_) | Class::Sign(b'=') | Class::Letter(b'f') | Class::Invisible);
    let end = end(glyphs, number_end + 1, belongs);
    let behind = glyphs[number_end..end].iter().filter(|glyph| glyph.class.digit().is_some()).count();
    (behind >= BEHIND_MIN).then(|| track(start..end, glyphs, number_end))
}
