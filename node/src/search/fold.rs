//! Words as they are compared: without case, without accents.

use icu_normalizer::DecomposingNormalizerBorrowed;

/// A text as it is compared.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let parts = DecomposingNormalizerBorrowed::new_nfkd();
    let mut folded = String::with_capacity(text.len());
    for sign in parts.normalize(text).chars().flat_map(char::to_lowercase).filter(|sign| !is_mark(*sign)) {
        // Letters that are no letter with a mark, and that people type without.
        match sign {
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'þ' => folded.push_str("th"),
            'ø' => folded.push('o'),
            'đ' | 'ð' => folded.push('d'),
            'ħ' => folded.push('h'),
            'ı' => folded.push('i'),
            'ł' => folded.push('l'),
            'ŧ' => folded.push('t'),
            'ς' => folded.push('σ'),
            sign => folded.push(sign),
        }
    }
    folded
}

/// Marks on letters: of Latin, Greek, Cyrillic and Hebrew, of Arabic vowels, and those for symbols.
fn is_mark(sign: char) -> bool {
    matches!(
        sign,
        '\u{300}'..='\u{36f}'
            | '\u{483}'..='\u{487}'
            | '\u{591}'..='\u{5bd}'
            | '\u{64b}'..='\u{65f}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe20}'..='\u{fe2f}'
    )
}

/// The words of a folded text.
pub fn words(folded: &str) -> impl Iterator<Item = &str> {
    folded.split(|sign: char| !sign.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// A folded text as one word, for SKUs and codes: `MUG-L` and `mug l` are one.
pub fn squash(folded: &str) -> String {
    folded.chars().filter(|sign| sign.is_alphanumeric()).collect()
}
