//! Text as a scanner for numbers sees it: digits of every script, what stands between them, and letters.

/// One character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glyph {
    /// Its first byte in the text.
    pub(super) at: usize,
    /// What it is.
    pub(super) class: Class,
}

/// What a character is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A digit, of whatever script.
    Digit(u8),
    /// Something that people put between digits.
    Between,
    /// Something that nobody sees.
    Invisible,
    /// A Latin letter, small.
    Letter(u8),
    /// Another ASCII character, also where it is written in full width.
    Sign(u8),
    /// Anything else.
    Other,
}

impl Class {
    pub(super) fn digit(self) -> Option<u8> {
        if let Class::Digit(digit) = self { Some(digit) } else { None }
    }

    pub(super) fn is_word(self) -> bool {
        matches!(self, Class::Digit(_) | Class::Letter(_) | Class::Other)
    }
}

/// All characters of a text.
pub(super) fn read(text: &str) -> Vec<Glyph> {
    text.char_indices().map(|(at, character)| Glyph { at, class: class(character) }).collect()
}

/// The zeros of the decimal digits of all scripts (Unicode 16, category Nd): nine more follow each.
const ZEROS: [u32; 76] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
    0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x10d40, 0x11066, 0x110f0, 0x11136,
    0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x116d0, 0x116da, 0x11730, 0x118e0, 0x11950, 0x11bf0,
    0x11c50, 0x11d50, 0x11da0, 0x11f50, 0x16130, 0x16a60, 0x16ac0, 0x16b50, 0x16d70, 0x1ccf0, 0x1d7ce, 0x1d7d8,
    0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
];

fn digit(character: char) -> Option<u8> {
    if character.is_ascii() {
        return character.is_ascii_digit().then(|| character as u8 - b'0');
    }
    let code = u32::from(character);
    let place = ZEROS.partition_point(|zero| *zero <= code);
    let decimal = place.checked_sub(1).map(|place| code - ZEROS[place]).filter(|value| *value < 10);
    if let Some(value) = decimal {
        return u8::try_from(value).ok();
    }
    match character {
        '⁰' | '₀' | '⓪' | '⓿' => Some(0),
        '¹' => Some(1),
        '²' => Some(2),
        '³' => Some(3),
        '⁴'..='⁹' => Some((code - 0x2070) as u8),
        '₁'..='₉' => Some((code - 0x2080) as u8),
        '①'..='⑨' => Some((code - 0x2460 + 1) as u8),
        '⓵'..='⓽' => Some((code - 0x24f5 + 1) as u8),
        '❶'..='❾' => Some((code - 0x2776 + 1) as u8),
        _ => None,
    }
}

fn class(character: char) -> Class {
    if let Some(digit) = digit(character) {
        return Class::Digit(digit);
    }
    let code = u32::from(character);
    // Full-width forms of ASCII.
    let plain = match code {
        0xff01..=0xff5e => char::from_u32(code - 0xff01 + 0x21).unwrap_or(character),
        _ => character,
    };
    match plain {
        'a'..='z' | 'A'..='Z' => Class::Letter(plain.to_ascii_lowercase() as u8),
        '-' | '.' | '_' | ',' | '/' => Class::Between,
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{2043}' | '\u{30fb}' | '\u{ff65}' => {
            Class::Between
        }
        '·' | '•' | '․' | '‧' | '∙' | '⋅' | '。' | '｡' | '、' | '٫' | '٬' => Class::Between,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => {
            Class::Invisible
        }
        '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{20d0}'..='\u{20ff}' => Class::Invisible,
        '\u{300}'..='\u{36f}' => Class::Invisible,
        _ if plain.is_whitespace() => Class::Between,
        _ if plain.is_ascii() => Class::Sign(plain as u8),
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_stand_in_order_and_apart() {
        assert!(ZEROS.windows(2).all(|pair| pair[0] + 10 <= pair[1]));
    }

    #[test]
    fn digits_of_every_script_are_digits() {
        for (text, value) in [("7", 7), ("７", 7), ("٧", 7), ("७", 7), ("𝟕", 7), ("⁷", 7), ("₇", 7), ("⑦", 7)]
        {
            assert_eq!(read(text)[0].class, Class::Digit(value), "{text}");
        }
        for text in ["a", "Ⅶ", "½", "七", " "] {
            assert_eq!(read(text)[0].class.digit(), None, "{text}");
        }
    }
}
