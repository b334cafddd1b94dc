//! Finding products by words: of their names, SKUs, barcodes, categories, tags, and of their stalls' names.
//!
//! An index over words, which changes with the products and is not made anew for a query. Words are compared without
//! case and accents, and a word of a query finds all words that begin with it; all words of a query must be found in one
//! product, wherever and in whatever order they stand there. What matches best comes first, then by name, stall and SKU:
//! an order that depends on nothing else.
//!
//! ```
//! use stallmesh_node::search::{Goods, Index, Query};
//!
//! let mut index = Index::default();
//! index.insert(&Goods { stall: "river-ceramics", sku: "MUG-L", name: "Große Tasse, blau", ..Goods::default() });
//! let found = index.find(&Query::read("blau GROSSE").unwrap(), None, None, 10);
//! assert_eq!(found[0].sku, "MUG-L");
//! ```

mod fold;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;

pub use self::fold::{fold, squash, words};
use crate::barcode;

/// The longest query, in bytes.
pub const QUERY_MAX: usize = 200;
/// The most words of one.
pub const WORDS_MAX: usize = 12;
/// A word's letters beyond so many bytes are not looked at.
const WORD_MAX: usize = 64;

/// Where a word stands in a product.
const NAME: u8 = 1;
const PART: u8 = 2;
const WHOLE: u8 = 4;
const KIND: u8 = 8;
const STALL: u8 = 16;
/// A query that is a product's SKU or barcode as a whole goes before everything else.
const IS_IT: u32 = 64;

/// What a word is worth: as a whole word, and as the beginning of one.
const WORTH: [(u8, u32, u32); 5] = [(WHOLE, 16, 5), (NAME, 8, 6), (PART, 7, 5), (KIND, 4, 3), (STALL, 3, 2)];

/// What is looked at of a product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goods<'a> {
    /// Who offers it.
    pub stall: &'a str,
    /// Names it at its stall.
    pub sku: &'a str,
    /// For people.
    pub name: &'a str,
    /// As they are printed on it.
    pub barcodes: &'a [String],
    /// What it is among.
    pub categories: &'a [String],
    /// What else is said of it.
    pub tags: &'a [String],
}

/// What somebody looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    words: Vec<String>,
    /// All of it as one word.
    whole: String,
    /// The form in which barcodes are compared, if it may be one.
    code: Option<String>,
}

/// Why a query finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No letter and no digit.
    #[error("there must be a word to look for")]
    Empty,
    /// Longer than anybody types.
    #[error("at most {WORDS_MAX} words, of {QUERY_MAX} bytes together")]
    TooLong,
}

impl Query {
    /// Reads what somebody typed.
    ///
    /// # Errors
    /// There is no word in it, or there are too many.
    pub fn read(text: &str) -> Result<Self, QueryError> {
        if text.len() > QUERY_MAX {
            return Err(QueryError::TooLong);
        }
        let folded = fold(text);
        let mut found: Vec<String> = words(&folded).map(|word| cut(word).to_owned()).collect();
        found.sort_unstable();
        found.dedup();
        match found.len() {
            0 => Err(QueryError::Empty),
            count if count > WORDS_MAX => Err(QueryError::TooLong),
            _ => {
                let whole = squash(&folded);
                let code = (whole.len() >= 8 && whole.bytes().all(|byte| byte.is_ascii_digit())).then(|| key(&whole));
                Ok(Query { words: found, whole, code: code.flatten() })
            }
        }
    }
}

/// The form in which a barcode is compared.
fn key(code: &str) -> Option<String> {
    barcode::key(code).ok()
}

fn cut(word: &str) -> &str {
    let end = word.char_indices().map(|(at, sign)| at + sign.len_utf8()).take_while(|end| *end <= WORD_MAX).last();
    &word[..end.unwrap_or(0)]
}

/// A product that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who offers it.
    pub stall: String,
    /// Names it at its stall.
    pub sku: String,
    /// How well it matches.
    pub score: u32,
    /// Its name, as it is compared.
    pub name: String,
}

/// A product in the index.
#[derive(Debug)]
struct Item {
    stall: Box<str>,
    sku: Box<str>,
    /// Folded.
    name: Box<str>,
    /// The first eight bytes of the name: what most comparisons end with.
    first: u64,
}

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    items: Vec<Option<Item>>,
    free: Vec<u32>,
    places: BTreeMap<(Box<str>, Box<str>), u32>,
    /// By word: where it stands, ascending, and as what.
    words: BTreeMap<Box<str>, Vec<(u32, u8)>>,
}

impl Index {
    /// How many products it holds.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes a product in. One of the same stall and SKU must have been removed before.
    pub fn insert(&mut self, goods: &Goods<'_>) {
        let name = fold(goods.name).into_boxed_str();
        let item = Item { stall: goods.stall.into(), sku: goods.sku.into(), first: first_of(&name), name };
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let Ok(place) = u32::try_from(self.items.len()) else { return };
                self.items.push(None);
                place
            }
        };
        self.places.insert((item.stall.clone(), item.sku.clone()), place);
        self.items[place as usize] = Some(item);
        for (word, field) in words_of(goods) {
            match self.words.get_mut(word.as_str()) {
                Some(places) => match places.binary_search_by_key(&place, |(known, _)| *known) {
                    Ok(_) => {}
                    Err(at) => places.insert(at, (place, field)),
                },
                None => _ = self.words.insert(word.into_boxed_str(), vec![(place, field)]),
            }
        }
    }

    /// Lets go of a product, as it was taken in.
    pub fn remove(&mut self, goods: &Goods<'_>) {
        let Some(place) = self.places.remove(&(goods.stall.into(), goods.sku.into())) else { return };
        self.items[place as usize] = None;
        self.free.push(place);
        for word in words_of(goods).into_keys() {
            let Some(places) = self.words.get_mut(word.as_str()) else { continue };
            if let Ok(at) = places.binary_search_by_key(&place, |(known, _)| *known) {
                places.remove(at);
            }
            if places.is_empty() {
                self.words.remove(word.as_str());
            }
        }
    }

    /// What matches a query, the best first: those after one that was found before, and at most so many.
    pub fn find(&self, query: &Query, stall: Option<&str>, after: Option<&Found>, limit: usize) -> Vec<Found> {
        let mut marks = vec![Mark::default(); self.items.len()];
        let mut matching: Vec<u32> = Vec::new();
        for (number, word) in (1_u8..).zip(&query.words) {
            let mut still: Vec<u32> = Vec::new();
            let from = (Bound::Included(word.as_str()), Bound::Unbounded);
            let begins = self.words.range::<str, _>(from).take_while(|(known, _)| known.starts_with(word));
            for (known, places) in begins {
                let whole = known.len() == word.len();
                for (place, field) in places {
                    let mark = &mut marks[*place as usize];
                    let worth = worth(*field, whole);
                    if mark.words + 1 == number {
                        *mark = Mark { words: number, best: worth, score: mark.score + worth, is_it: false };
                        still.push(*place);
                    } else if mark.words == number && mark.best < worth {
                        (mark.score, mark.best) = (mark.score + worth - mark.best, worth);
                    }
                }
            }
            matching = still;
        }
        // What is it as a whole: by its SKU in whatever form, or by its barcode.
        let wholes = [Some(&query.whole), query.code.as_ref()].into_iter().flatten();
        for (place, field) in wholes.filter_map(|whole| self.words.get(whole.as_str())).flatten() {
            let mark = &mut marks[*place as usize];
            if field & WHOLE != 0 && !mark.is_it {
                if usize::from(mark.words) < query.words.len() {
                    matching.push(*place);
                }
                (mark.is_it, mark.score) = (true, mark.score + IS_IT);
            }
        }
        let mut best: BinaryHeap<Ranked<'_>> = BinaryHeap::with_capacity(limit.saturating_add(1).min(matching.len()));
        let after = after.map(|found| Ranked {
            score: found.score,
            first: first_of(&found.name),
            key: (&found.name, &found.stall, &found.sku),
        });
        for place in matching {
            let Some(item) = &self.items[place as usize] else { continue };
            let ranked = Ranked {
                score: marks[place as usize].score,
                first: item.first,
                key: (&item.name, &item.stall, &item.sku),
            };
            let wanted = stall.is_none_or(|stall| stall == &*item.stall)
                && after.as_ref().is_none_or(|after| ranked > *after)
                && (best.len() < limit || best.peek().is_some_and(|last| ranked < *last));
            if wanted {
                best.push(ranked);
                if best.len() > limit {
                    best.pop();
                }
            }
        }
        best.into_sorted_vec().iter().map(Ranked::found).collect()
    }
}

/// What is known of a product while a query is answered.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// How many of the query's words were found in it, from the first on.
    words: u8,
    /// What the last of them is worth in it.
    best: u32,
    /// What all of them are worth.
    score: u32,
    /// The query is its SKU or barcode.
    is_it: bool,
}

/// A product that matches; the best is the least.
#[derive(Debug, PartialEq, Eq)]
struct Ranked<'a> {
    score: u32,
    first: u64,
    /// Name, stall, SKU.
    key: (&'a str, &'a str, &'a str),
}

impl Ranked<'_> {
    fn found(&self) -> Found {
        let (name, stall, sku) = self.key;
        Found { stall: stall.to_owned(), sku: sku.to_owned(), score: self.score, name: name.to_owned() }
    }
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.cmp(&self.score);
        by_score.then_with(|| self.first.cmp(&other.first)).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn worth(field: u8, whole: bool) -> u32 {
    let worths = WORTH.iter().filter(|(at, ..)| field & at != 0);
    worths.map(|(_, is, begins)| if whole { *is } else { *begins }).max().unwrap_or(0)
}

fn first_of(name: &str) -> u64 {
    let mut first = [0; 8];
    let length = name.len().min(8);
    first[..length].copy_from_slice(&name.as_bytes()[..length]);
    u64::from_be_bytes(first)
}

/// A product's words, and as what each stands there.
fn words_of(goods: &Goods<'_>) -> BTreeMap<String, u8> {
    let mut found: BTreeMap<String, u8> = BTreeMap::new();
    let mut take = |text: &str, field: u8| {
        for word in words(&fold(text)) {
            *found.entry(cut(word).to_owned()).or_insert(0) |= field;
        }
    };
    take(goods.name, NAME);
    take(goods.sku, PART);
    goods.categories.iter().chain(goods.tags).for_each(|kind| take(kind, KIND));
    take(goods.stall, STALL);
    let codes = goods.barcodes.iter().flat_map(|code| [Some(squash(&fold(code))), key(code)]).flatten();
    for whole in [squash(&fold(goods.sku))].into_iter().chain(codes).filter(|whole| !whole.is_empty()) {
        *found.entry(whole).or_insert(0) |= WHOLE;
    }
    found
}
