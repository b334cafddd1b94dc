//! What is wrong with a file of rules or limits, and where.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::quote::{self, ProblemCode, Source};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[error("{}", self.sentence())]
pub struct FileProblem {
    /// Which file: `fraud rules`, `risk policy`.
    pub file: &'static str,
    /// The path of the field in it: `rules[1].says`. Empty: the whole.
    pub field: String,
    /// Its line in the text, counted from 1, where a text was read.
    pub line: Option<usize>,
    /// A sentence.
    pub detail: String,
}

impl FileProblem {
    pub(crate) fn new(file: &'static str, field: impl Into<String>, detail: impl Into<String>) -> Self {
        FileProblem { file, field: field.into(), line: None, detail: detail.into() }
    }

    /// Says on which line of the text its field stands.
    #[must_use]
    pub fn in_text(self, text: &str) -> Self {
        let line = self.line.or_else(|| {
            // The quote's reader knows how to find a field; which of its files it is about plays no part.
            let problem = quote::Problem {
                code: ProblemCode::Invalid,
                source_file: Source::Conditions,
                field: self.field.clone(),
                line: None,
                detail: String::new(),
            };
            problem.in_text(text).line
        });
        FileProblem { line, ..self }
    }

    fn sentence(&self) -> String {
        let line = self.line.map(|line| format!(" (line {line})")).unwrap_or_default();
        match self.field.as_str() {
            "" => format!("{}{line}: {}", self.file, self.detail),
            field => format!("{}, {field}{line}: {}", self.file, self.detail),
        }
    }
}

/// Reads a shape from JSON, as the quote's files are read.
pub(crate) fn read<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<T, FileProblem> {
    quote::read(Source::Conditions, text).map_err(|problem| FileProblem {
        file,
        field: problem.field,
        line: problem.line,
        detail: problem.detail,
    })
}
