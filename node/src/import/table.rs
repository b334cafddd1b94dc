//! A CSV file as records, however large it is: what is held of it at any time is bounded.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use super::ROWS_MAX;
use super::error::{ImportError, Place};

/// The longest record, in bytes; a description may be long, but not a book.
const RECORD_MAX: u64 = 1024 * 1024;
/// The longest field, in bytes.
const FIELD_MAX: usize = 256 * 1024;
/// The most columns.
const COLUMNS_MAX: usize = 1_000;
/// The longest file, in bytes.
const FILE_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// What is read at once, in bytes.
const BUFFER: usize = 64 * 1024;

/// Reads no further than it is allowed to, so that one endless record takes no endless memory.
struct Bounded<R> {
    inner: R,
    /// Bytes read.
    offset: u64,
    /// Bytes that may be read before the next record is asked for.
    limit: u64,
    /// Quotation marks read: in a whole file they pair.
    quotes: u64,
}

/// Says that [`Bounded`] has stopped, and not the file.
#[derive(Debug, thiserror::Error)]
#[error("too long")]
struct TooLong;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.offset >= self.limit {
            return Err(io::Error::other(TooLong));
        }
        let count = self.inner.read(buffer)?;
        self.offset += count as u64;
        self.quotes += buffer[..count].iter().filter(|byte| **byte == b'"').count() as u64;
        Ok(count)
    }
}

/// A file of records under a header.
pub(super) struct Table<R> {
    csv: csv::Reader<Bounded<R>>,
    header: csv::StringRecord,
    record: csv::StringRecord,
    row: u64,
    /// Whether the newest record has a line break in one of its fields.
    broken: bool,
}

impl<R: Read + Seek> Table<R> {
    /// From the file's beginning.
    pub(super) fn open(mut source: R) -> Result<Self, ImportError> {
        let io_error = |error: io::Error| ImportError::Io { line: 1, detail: error.to_string() };
        source.seek(SeekFrom::Start(0)).map_err(io_error)?;
        let mut start = Vec::with_capacity(64);
        (&mut source).take(64).read_to_end(&mut start).map_err(io_error)?;
        if let Some(problem) = not_csv(&start) {
            return Err(ImportError::NotCsv(problem));
        }
        source.seek(SeekFrom::Start(0)).map_err(io_error)?;
        let bounded = Bounded { inner: source, offset: 0, limit: 0, quotes: 0 };
        let csv =
            csv::ReaderBuilder::new().flexible(true).has_headers(false).buffer_capacity(BUFFER).from_reader(bounded);
        let empty = csv::StringRecord::new();
        let mut table = Table { csv, header: empty.clone(), record: empty, row: 0, broken: false };
        if table.next()?.is_none() {
            return Err(ImportError::NotCsv("the file is empty"));
        }
        table.header = std::mem::take(&mut table.record);
        if table.header.len() > COLUMNS_MAX {
            return Err(ImportError::TooLarge { line: 1, detail: format!("more than {COLUMNS_MAX} columns") });
        }
        Ok(table)
    }

    /// The names of the columns.
    pub(super) fn header(&self) -> &csv::StringRecord {
        &self.header
    }

    /// The newest record.
    pub(super) fn record(&self) -> &csv::StringRecord {
        &self.record
    }

    /// Gives the file back.
    pub(super) fn into_source(self) -> R {
        self.csv.into_inner().inner
    }

    /// Goes on to the next record, and says where it stands; none at the file's end.
    pub(super) fn next(&mut self) -> Result<Option<Place>, ImportError> {
        let consumed = self.csv.position().byte();
        let line = self.csv.position().line();
        if consumed > FILE_MAX {
            return Err(ImportError::TooLarge { line, detail: format!("a file of more than {FILE_MAX} bytes") });
        }
        // What was read ahead may hold a whole buffer of it already.
        self.csv.get_mut().limit = consumed + RECORD_MAX + BUFFER as u64;
        let last = (self.record.position().map_or(1, csv::Position::line), self.broken);
        match self.csv.read_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return self.ended(last),
            Err(error) => return Err(csv_error(&error, line)),
        }
        self.row += 1;
        let place = Place { line: self.record.position().map_or(line, csv::Position::line), row: self.row };
        // The header is a row, too.
        if self.row > ROWS_MAX + 1 {
            return Err(ImportError::TooLarge { line: place.line, detail: format!("more than {ROWS_MAX} rows") });
        }
        if self.record.iter().any(|field| field.len() > FIELD_MAX) {
            let detail = format!("a field of more than {FIELD_MAX} bytes: is a quotation mark not closed?");
            return Err(ImportError::TooLarge { line: place.line, detail });
        }
        self.broken = self.record.as_slice().contains(['\n', '\r']);
        Ok(Some(place))
    }

    /// A file that was cut inside quotation marks ends with a record that has swallowed those after it.
    fn ended(&mut self, (line, broken): (u64, bool)) -> Result<Option<Place>, ImportError> {
        if broken && self.csv.get_ref().quotes % 2 == 1 {
            let detail = "a quotation mark is not closed up to the end of the file: is the file cut short?".into();
            return Err(ImportError::Csv { line, detail });
        }
        Ok(None)
    }

    /// Whether there are more fields than columns: then a comma stands where none is meant, and every field is in doubt.
    pub(super) fn overflows(&self) -> bool {
        self.record.iter().skip(self.header.len()).any(|field| !field.trim().is_empty())
    }
}

/// What the first bytes say that a spreadsheet has saved otherwise.
fn not_csv(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"PK\x03\x04") || start.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        return Some("this is a workbook, not CSV: save it as \"CSV UTF-8\" in your spreadsheet and import that");
    }
    let wide = start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]);
    (wide || start.contains(&0)).then_some(
        "the file is not UTF-8 but UTF-16 or binary: save it as \"CSV UTF-8\" in your spreadsheet and import that",
    )
}

fn csv_error(error: &csv::Error, begun: u64) -> ImportError {
    let line = error.position().map_or(begun, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => ImportError::Csv {
            line,
            detail: "not UTF-8: save the file as \"CSV UTF-8\" in your spreadsheet and import it again".into(),
        },
        csv::ErrorKind::Io(cause) if cause.get_ref().is_some_and(|cause| cause.is::<TooLong>()) => {
            let detail =
                format!("a record of more than {RECORD_MAX} bytes begins here: is a quotation mark not closed?");
            ImportError::TooLarge { line, detail }
        }
        csv::ErrorKind::Io(cause) => ImportError::Io { line, detail: cause.to_string() },
        _ => ImportError::Csv { line, detail: error.to_string() },
    }
}

/// A column that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its name, as the format has it.
    pub(super) name: &'static str,
    /// Which it is, from 0.
    pub(super) place: usize,
}

/// Where the columns are, by their names; their order and number differ between versions.
pub(super) struct Columns {
    places: BTreeMap<String, usize>,
    twice: Vec<String>,
}

impl Columns {
    pub(super) fn new(header: &csv::StringRecord) -> Self {
        let mut columns = Columns { places: BTreeMap::new(), twice: Vec::new() };
        for (index, name) in header.iter().enumerate() {
            let name = clean(name);
            if !name.is_empty() && columns.places.insert(name.clone(), index).is_some() {
                columns.twice.push(name);
            }
        }
        columns
    }

    /// Whether one of the names is there.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.places.contains_key(&clean(name)))
    }

    /// The first of the names that is there.
    ///
    /// # Errors
    /// It is there twice. (Columns that nobody reads may be.)
    pub(super) fn find(&self, names: &[&'static str]) -> Result<Option<Column>, ImportError> {
        for name in names {
            if let Some(place) = self.places.get(&clean(name)) {
                if self.twice.contains(&clean(name)) {
                    return Err(ImportError::ColumnTwice((*name).to_owned()));
                }
                return Ok(Some(Column { name, place: *place }));
            }
        }
        Ok(None)
    }

    /// Those whose name begins so: (rest of the name, place), in the file's order.
    ///
    /// # Errors
    /// One of them is there twice.
    pub(super) fn beginning(
        &self,
        header: &csv::StringRecord,
        start: &str,
    ) -> Result<Vec<(String, usize)>, ImportError> {
        let mut found = Vec::new();
        for (index, name) in header.iter().enumerate() {
            let name = name.trim_start_matches('\u{feff}').trim();
            let Some((head, rest)) = name.split_at_checked(start.len()) else { continue };
            if head.eq_ignore_ascii_case(start) {
                if self.twice.contains(&clean(name)) {
                    return Err(ImportError::ColumnTwice(name.to_owned()));
                }
                found.push((rest.trim().to_owned(), index));
            }
        }
        Ok(found)
    }
}

fn clean(name: &str) -> String {
    name.trim_start_matches('\u{feff}').trim().to_lowercase()
}
