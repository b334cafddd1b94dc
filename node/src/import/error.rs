//! Why a file imports nothing, and what should be looked at in one that does.

use std::fmt;

/// Where a record stands in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The line that it begins at, from 1.
    pub(super) line: u64,
    /// Its number with the header as 1, as spreadsheets count: a record with a line break inside is one row.
    pub(super) row: u64,
}

/// One row that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RowError {
    /// The line that the record begins at, from 1.
    pub line: u64,
    /// The record's number, from 1 and with the header, as spreadsheets count.
    pub row: u64,
    /// The column's name.
    pub column: &'static str,
    /// What is wrong, and what is expected.
    pub detail: String,
}

impl RowError {
    pub(super) fn new(place: Place, column: &'static str, detail: impl Into<String>) -> Self {
        RowError { line: place.line, row: place.row, column, detail: detail.into() }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(formatter, self.line, self.row)?;
        write!(formatter, ", column `{}`: {}", self.column, self.detail)
    }
}

fn write_place(formatter: &mut fmt::Formatter<'_>, line: u64, row: u64) -> fmt::Result {
    if line == row { write!(formatter, "line {line}") } else { write!(formatter, "row {row} (line {line})") }
}

/// One row that was taken, and should be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The line that the record begins at, from 1.
    pub line: u64,
    /// The record's number, from 1 and with the header, as spreadsheets count.
    pub row: u64,
    /// The column's name.
    pub column: &'static str,
    /// What is odd, and what was made of it.
    pub detail: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(formatter, self.line, self.row)?;
        write!(formatter, ", column `{}`: {}", self.column, self.detail)
    }
}

/// Why a file imports nothing.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not such a file.
    #[error("this is not a Shopify product file: it has no column `{0}`")]
    Column(&'static str),
    /// None of the known formats.
    #[error(
        "this is no product file that can be read. A Shopify file has at least the columns {}; a Square file {}. \
         The first row here begins: {found}{hint}",
        named(shopify),
        named(square)
    )]
    Unknown {
        /// What a Shopify file needs: (column, whether it is here).
        shopify: Vec<(&'static str, bool)>,
        /// What a Square file needs.
        square: Vec<(&'static str, bool)>,
        /// The beginning of the first row.
        found: String,
        /// What may be the matter.
        hint: &'static str,
    },
    /// Two columns of one name, both of which can't be meant.
    #[error("the column `{0}` is there twice: delete one of them")]
    ColumnTwice(String),
    /// A location that the file doesn't know.
    #[error("the file has no location `{given}`; it has {}", listed(.known))]
    Location {
        /// As asked for.
        given: String,
        /// Those of the file.
        known: Vec<String>,
    },
    /// Bytes that are no CSV of Unicode text.
    #[error("{0}")]
    NotCsv(&'static str),
    /// It can't be read as CSV.
    #[error("line {line}: {detail}")]
    Csv {
        /// The line.
        line: u64,
        /// What is wrong.
        detail: String,
    },
    /// It can't be read at all.
    #[error("the file can't be read (line {line}): {detail}")]
    Io {
        /// How far it was read.
        line: u64,
        /// What the system says.
        detail: String,
    },
    /// Rows are wrong.
    #[error("{}, so nothing was imported. {}", counted(.0), list(.0))]
    Rows(Vec<RowError>),
    /// Too large.
    #[error("line {line}: {detail}")]
    TooLarge {
        /// The line.
        line: u64,
        /// Which limit.
        detail: String,
    },
    /// It isn't any more what was checked.
    #[error("the file was changed while it was imported: {handed_on} products were handed on, import it again")]
    Changed {
        /// How many came of the file as it was checked.
        handed_on: u64,
    },
}

/// The most errors, and the most warnings, that are told at once.
pub(super) const TOLD_MAX: usize = 20;

fn counted(errors: &[RowError]) -> String {
    match errors.len() {
        1 => "one row is wrong".into(),
        TOLD_MAX.. => format!("rows are wrong, of which these are the first {TOLD_MAX}"),
        some => format!("{some} rows are wrong"),
    }
}

fn list(errors: &[RowError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn named(columns: &[(&'static str, bool)]) -> String {
    let one = |(name, here): &(&str, bool)| format!("`{name}`{}", if *here { "" } else { " (missing)" });
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}
