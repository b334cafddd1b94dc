//! Card numbers among other digits.

use std::ops::Range;

use super::glyphs::{Class, Glyph};
use super::schemes::{LONGEST, SHORTEST, is_barcode, scheme, usual_length};
use super::{Found, Kind};

/// So many characters may stand between two digits of one number.
const BETWEEN_MAX: usize = 3;
/// So many that nobody sees.
const INVISIBLE_MAX: usize = 8;
/// The longest telephone number that is taken for one, with its country.
const PHONE_MAX: usize = 14;
/// So many more digits than a card's number has an unbroken number to have before one is looked for inside it: those of a
/// security code.
const CODE_MIN: usize = 3;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// What people write: with bar codes, accounts and telephone numbers in it.
    Text,
    /// What should be a reader's token.
    Token,
}

/// Digits that belong together.
struct Run {
    digits: Vec<u8>,
    /// Where each stands.
    places: Vec<usize>,
    /// Where each unbroken group begins, counted in digits; and the end.
    groups: Vec<usize>,
    /// Whether a `+` stands before it.
    has_plus: bool,
}

pub(super) fn find(glyphs: &[Glyph], reading: Reading) -> Vec<Found> {
    let accounts = accounts(glyphs);
    let mut found = Vec::new();
    for run in runs(glyphs, &accounts) {
        run.find(reading, &mut found);
    }
    found
}

impl Run {
    fn find(&self, reading: Reading, found: &mut Vec<Found>) {
        if self.has_plus && self.digits.len() <= PHONE_MAX {
            return;
        }
        for (index, start) in self.groups.iter().copied().enumerate() {
            let before = found.len();
            for end in self.groups[index + 1..].iter().copied() {
                let length = end - start;
                if length > LONGEST {
                    break;
                }
                let is_phone = self.has_plus && start == 0 && length <= PHONE_MAX;
                if length < SHORTEST || is_phone {
                    continue;
                }
                let digits = &self.digits[start..end];
                let is_whole = self.groups.get(index + 1) == Some(&end);
                if reading == Reading::Text && is_whole && is_barcode(digits) {
                    continue;
                }
                self.check(start..end, None, found);
            }
            let Some(end) = self.groups.get(index + 1).copied() else { continue };
            if found.len() > before {
                continue;
            }
            // Zeros before it.
            let zeros = self.digits[start..end].iter().take_while(|digit| **digit == 0).count();
            let rest = &self.digits[start + zeros..end];
            if zeros > 0 && rest.len() <= LONGEST && (reading == Reading::Token || !is_barcode(rest)) {
                self.check(start + zeros..end, None, found);
            }
            // At both ends of a longer unbroken number: a code or an expiry date behind it, something else before it.
            for length in [14, 15, 16] {
                if end - start >= length + CODE_MIN {
                    self.check(start..start + length, Some(length), found);
                    self.check(end - length..end, Some(length), found);
                }
            }
        }
    }

    /// Where `usual` is given, only of a scheme whose numbers have that length.
    fn check(&self, digits: Range<usize>, usual: Option<usize>, found: &mut Vec<Found>) {
        let Some(scheme) = scheme(&self.digits[digits.clone()]) else { return };
        if usual.is_some_and(|length| usual_length(scheme) != length) {
            return;
        }
        let (first, last) = (self.places[digits.start], self.places[digits.end - 1]);
        let kept = self.places[digits.end - 4]..last + 1;
        found.push(Found { kind: Kind::Number(scheme), range: first..last + 1, kept });
    }
}

/// All runs of digits with little between them.
fn runs(glyphs: &[Glyph], mut accounts: &[Range<usize>]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut open: Option<Run> = None;
    let (mut between, mut invisible) = (0, 0);
    for (place, glyph) in glyphs.iter().enumerate() {
        // Both go by place.
        accounts = &accounts[accounts.iter().take_while(|account| account.end <= place).count()..];
        let is_account = accounts.first().is_some_and(|account| account.contains(&place));
        let class = if is_account { Class::Other } else { glyph.class };
        match class {
            Class::Digit(digit) => {
                let run = open.get_or_insert_with(|| Run {
                    digits: Vec::new(),
                    places: Vec::new(),
                    groups: vec![0],
                    has_plus: place > 0 && glyphs[place - 1].class == Class::Sign(b'+'),
                });
                if between > 0 && !run.digits.is_empty() {
                    run.groups.push(run.digits.len());
                }
                run.digits.push(digit);
                run.places.push(place);
                (between, invisible) = (0, 0);
            }
            Class::Between if between < BETWEEN_MAX => between += 1,
            Class::Invisible if invisible < INVISIBLE_MAX => invisible += 1,
            _ => {
                runs.extend(open.take());
                (between, invisible) = (0, 0);
            }
        }
    }
    runs.extend(open);
    for run in &mut runs {
        run.groups.push(run.digits.len());
    }
    runs.retain(|run| run.digits.len() >= SHORTEST);
    runs
}

/// How long account numbers are, by country (the IBAN registry's).
const ACCOUNTS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18FO18\
                        FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21\
                        MC27MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24SI19SK24SM27ST25\
                        SV28TL23TN24TR26UA29VA22VG24XK20";

fn account_length(country: [u8; 2]) -> Option<usize> {
    let known = ACCOUNTS.as_bytes().chunks_exact(4);
    let known = known.filter(|known| known[..2].eq_ignore_ascii_case(&country));
    known.map(|known| usize::from(known[2] - b'0') * 10 + usize::from(known[3] - b'0')).next()
}

/// Where international account numbers stand whose check digits are right.
fn accounts(glyphs: &[Glyph]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for start in 0..glyphs.len() {
        let begins = start == 0 || !glyphs[start - 1].class.is_word();
        let [Some(Class::Letter(one)), Some(Class::Letter(other))] =
            [start, start + 1].map(|place| glyphs.get(place).map(|glyph| glyph.class))
        else {
            continue;
        };
        if !begins || found.last().is_some_and(|last| last.contains(&start)) {
            continue;
        }
        let Some(length) = account_length([one, other]) else { continue };
        let mut signs = Vec::with_capacity(length);
        let mut place = start;
        while signs.len() < length {
            match glyphs.get(place).map(|glyph| glyph.class) {
                Some(Class::Digit(digit)) => signs.push(u32::from(digit)),
                Some(Class::Letter(letter)) => signs.push(u32::from(letter - b'a') + 10),
                Some(Class::Between) => {}
                _ => break,
            }
            place += 1;
        }
        let ends = glyphs.get(place).is_none_or(|glyph| !glyph.class.is_word());
        if signs.len() == length && ends && is_account(&signs) {
            found.push(start..place);
        }
    }
    found
}

/// ISO 7064, MOD 97-10: the first four signs go to the end.
fn is_account(signs: &[u32]) -> bool {
    let (first, rest) = signs.split_at(4);
    let numeric = first[2] < 10 && first[3] < 10;
    let rest_of = rest.iter().chain(first).fold(0_u32, |sum, sign| {
        let shift = if *sign < 10 { 10 } else { 100 };
        (sum * shift + sign) % 97
    });
    numeric && rest_of == 1
}
