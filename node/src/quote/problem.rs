//! What is wrong with an input, so that a person and a program can find the place.

use serde::Serialize;
use thiserror::Error;

/// Stable words for what can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProblemCode {
    /// Malformed, or forbidden.
    #[serde(rename = "E_INVALID")]
    Invalid,
    /// The catalog has no such product.
    #[serde(rename = "E_UNKNOWN_SKU")]
    UnknownSku,
    /// Not a currency in use.
    #[serde(rename = "E_CURRENCY")]
    Currency,
    /// More than can be counted.
    #[serde(rename = "E_AMOUNT_RANGE")]
    AmountRange,
}

/// Which input it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// What is for sale, with its taxes.
    Catalog,
    /// Promotions and fees.
    Promotions,
    /// What somebody buys.
    Basket,
    /// Weather, demand and the like.
    Conditions,
    /// The time of the quote.
    At,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[error("{}", self.sentence())]
pub struct Problem {
    /// A stable word.
    pub code: ProblemCode,
    /// Which input.
    #[serde(rename = "file")]
    pub source_file: Source,
    /// The path of the field in it: `lines[1].quantity`. Empty: the whole.
    pub field: String,
    /// Its line in the text, counted from 1, where a text was read.
    pub line: Option<usize>,
    /// A sentence.
    pub detail: String,
}

impl Problem {
    pub(super) fn invalid(file: Source, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Problem {
            code: ProblemCode::Invalid,
            source_file: file,
            field: field.into(),
            line: None,
            detail: detail.into(),
        }
    }

    /// A file that can't be read.
    pub fn unreadable(file: Source, detail: impl Into<String>) -> Self {
        Problem::invalid(file, "", detail)
    }

    pub(super) fn range(file: Source, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Problem { code: ProblemCode::AmountRange, ..Problem::invalid(file, field, detail) }
    }

    pub(super) fn with_code(self, code: ProblemCode) -> Self {
        Problem { code, ..self }
    }

    fn sentence(&self) -> String {
        let file = match self.source_file {
            Source::Catalog => "catalog",
            Source::Promotions => "promotions",
            Source::Basket => "basket",
            Source::Conditions => "conditions",
            Source::At => "at",
        };
        let line = self.line.map(|line| format!(" (line {line})")).unwrap_or_default();
        match self.field.as_str() {
            "" => format!("{file}{line}: {}", self.detail),
            field => format!("{file}, {field}{line}: {}", self.detail),
        }
    }
}
