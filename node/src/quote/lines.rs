//! Which lines of a basket each matcher finds.
//!
//! Matchers are compiled to an index from SKU, category and tag to them, each matcher once however many promotions use it.
//! So a basket's lines find their matchers, and promotions for other goods cost nothing.

use std::collections::HashMap;

use super::basket::{LINES_MAX, Line};
use super::files::MatcherFile;
use super::promotions::MatcherId;

const WORDS: usize = LINES_MAX / 64;

/// Some lines of a basket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LineSet([u64; WORDS]);

impl LineSet {
    /// The first so many.
    pub(super) fn first(count: usize) -> Self {
        let mut set = LineSet::default();
        (0..count).for_each(|line| set.insert(line));
        set
    }

    pub(super) fn insert(&mut self, line: usize) {
        if let Some(word) = self.0.get_mut(line / 64) {
            *word |= 1 << (line % 64);
        }
    }

    pub(super) fn contains(&self, line: usize) -> bool {
        self.0.get(line / 64).is_some_and(|word| word & (1 << (line % 64)) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub(super) fn and(mut self, other: &LineSet) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    pub(super) fn or(mut self, other: &LineSet) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }

    pub(super) fn without(mut self, other: &LineSet) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
    }

    /// In the basket's order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(place, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                (word != 0).then(|| {
                    word &= word - 1;
                    place * 64 + bit
                })
            })
        })
    }
}

/// All matchers of a set of promotions.
#[derive(Clone, Debug, Default)]
pub(super) struct Matchers {
    all: Vec<Matcher>,
    skus: HashMap<String, Vec<MatcherId>>,
    categories: HashMap<String, Vec<MatcherId>>,
    tags: HashMap<String, Vec<MatcherId>>,
    /// Those that aren't found by a value alone, `not` before whose `not` it is.
    derived: Vec<MatcherId>,
}

#[derive(Clone, Copy, Debug)]
struct Matcher {
    /// Nothing is listed.
    every: bool,
    not: Option<MatcherId>,
}

/// Collects matchers.
#[derive(Debug, Default)]
pub(super) struct MatchersBuilder {
    matchers: Matchers,
    known: HashMap<MatcherFile, MatcherId>,
}

impl MatchersBuilder {
    pub(super) fn add(&mut self, file: &MatcherFile) -> MatcherId {
        if let Some(known) = self.known.get(file) {
            return *known;
        }
        let not = file.not.as_ref().map(|not| self.add(not));
        let id = self.matchers.all.len() as MatcherId;
        let every = file.skus.is_empty() && file.categories.is_empty() && file.tags.is_empty();
        self.matchers.all.push(Matcher { every, not });
        if every || not.is_some() {
            self.matchers.derived.push(id);
        }
        for (values, index) in [
            (&file.skus, &mut self.matchers.skus),
            (&file.categories, &mut self.matchers.categories),
            (&file.tags, &mut self.matchers.tags),
        ] {
            for value in values {
                index.entry(value.clone()).or_default().push(id);
            }
        }
        self.known.insert(file.clone(), id);
        id
    }

    pub(super) fn build(self) -> Matchers {
        self.matchers
    }
}

/// What each matcher finds in one basket.
#[derive(Debug)]
pub(super) struct Found {
    /// So many words for each matcher.
    width: usize,
    words: Vec<u64>,
}

impl Matchers {
    /// Looks in `words`, memory of an earlier basket or none.
    pub(super) fn find(&self, lines: &[Line<'_>], mut words: Vec<u64>) -> Found {
        let width = lines.len().div_ceil(64).max(1);
        words.clear();
        words.resize(width * self.all.len(), 0);
        let mut found = Found { width, words };
        for (line, of) in lines.iter().enumerate() {
            let (word, bit) = (line / 64, 1 << (line % 64));
            let product = of.product;
            let by_sku = self.skus.get(&*product.sku);
            let by_category = product.categories.iter().filter_map(|category| self.categories.get(category));
            let by_tag = product.tags.iter().filter_map(|tag| self.tags.get(tag));
            for id in by_sku.into_iter().chain(by_category).chain(by_tag).flatten() {
                found.words[*id as usize * width + word] |= bit;
            }
        }
        for id in &self.derived {
            let Matcher { every, not } = self.all[*id as usize];
            let here = *id as usize * width;
            for word in 0..width {
                if every {
                    let lines = lines.len() - word * 64;
                    found.words[here + word] = if lines >= 64 { u64::MAX } else { (1 << lines) - 1 };
                }
                if let Some(not) = not {
                    found.words[here + word] &= !found.words[not as usize * width + word];
                }
            }
        }
        found
    }
}

impl Found {
    pub(super) fn into_words(self) -> Vec<u64> {
        self.words
    }

    pub(super) fn by(&self, matcher: MatcherId) -> LineSet {
        let mut set = LineSet::default();
        let here = matcher as usize * self.width;
        if let Some(words) = self.words.get(here..here + self.width) {
            set.0[..self.width].copy_from_slice(words);
        }
        set
    }

    pub(super) fn any_by(&self, matcher: MatcherId) -> bool {
        let here = matcher as usize * self.width;
        self.words.get(here..here + self.width).is_some_and(|words| words.iter().any(|word| *word != 0))
    }
}
