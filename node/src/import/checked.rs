//! A file that has been checked, and what it hands on.

use std::io::{Read, Seek};

use stallmesh_protocol::hash::{Domain, Hasher};

use crate::engine::ProductView;

use super::error::{ImportError, Place, RowError, TOLD_MAX, Warning};
use super::fields::{self, Names, Notes, SKU_MAX, Taken, Variant};
use super::table::{Columns, Table};
use super::{Format, Imported, Rules, shopify, square};

/// How many products are handed on at once.
const BATCH: usize = 256;

/// What a checked file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is.
    pub format: Format,
    /// Products that it hands on.
    pub products: u64,
    /// Variants left out: drafts, archived and unpublished products, and those without a price of their own.
    pub skipped: u64,
    /// Pictures at addresses outside, which are noted and never loaded.
    pub pictures: u64,
    /// What was taken, and should be looked at: the first twenty.
    pub warnings: Vec<Warning>,
    /// How many there were.
    pub warned: u64,
}

/// A product file in which everything is right. It hands its products on in batches, in the file's order, and holds no more
/// than one of them.
#[derive(Debug)]
pub struct Checked<R> {
    rules: Rules,
    summary: Summary,
    /// Hashes of the SKUs that several products have, in order.
    shared: Vec<u64>,
    /// What each batch was made of, so that another file in this one's place is noticed.
    prints: Vec<u64>,
    state: State<R>,
    handed_on: u64,
}

/// The second reading.
enum State<R> {
    NotBegun(R),
    Reading(Box<Table<R>>, Box<dyn Dialect + Send>, usize),
    Over,
}

impl<R> std::fmt::Debug for State<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            State::NotBegun(_) => "NotBegun",
            State::Reading(..) => "Reading",
            State::Over => "Over",
        })
    }
}

/// How a format's rows are read, one after the other.
pub(super) trait Dialect {
    fn names(&self) -> Names;
    fn read(&mut self, record: &csv::StringRecord, place: Place, notes: &mut Notes) -> Result<Taken, RowError>;
}

/// What is kept of each product while a file is checked: 32 bytes.
struct Seen {
    /// Of its SKU, or the one that is made for it.
    sku: u64,
    /// Of what tells it from all others.
    key: u64,
    /// Of the SKU that it has if others have the same.
    apart: u64,
    line: u32,
    row: u32,
}

fn number_of(text: &str) -> u64 {
    u64::from_be_bytes(Hasher::new(Domain::Part).bytes(text.as_bytes()).finish().prefix())
}

fn dialect<R: Read + Seek>(
    table: &Table<R>,
    rules: &Rules,
    wanted: Option<Format>,
) -> Result<(Format, Box<dyn Dialect + Send>), ImportError> {
    let columns = Columns::new(table.header());
    let needs = (shopify::needed(&columns), square::needed(&columns));
    let lacking = |needed: &[(&'static str, bool)]| needed.iter().find(|(_, here)| !here).map(|(name, _)| *name);
    match (wanted, lacking(&needs.0), lacking(&needs.1)) {
        (Some(Format::Shopify), Some(column), _) => Err(ImportError::Column(column)),
        (None | Some(Format::Shopify), None, _) => {
            Ok((Format::Shopify, Box::new(shopify::Reader::new(&columns, rules.clone())?)))
        }
        (_, _, None) => Ok((Format::Square, Box::new(square::Reader::new(&columns, table.header(), rules.clone())?))),
        _ => {
            let found = fields::short(&table.header().iter().collect::<Vec<_>>().join(","));
            let hint = if table.header().len() == 1 && table.header()[0].contains([';', '\t']) {
                ". Columns are separated by commas, not by `;` or tabs: save the file as \"CSV UTF-8\" with commas"
            } else {
                ""
            };
            Err(ImportError::Unknown { shopify: needs.0, square: needs.1, found, hint })
        }
    }
}

/// A row with a product, or what is wrong with it.
type Row = Result<(Place, Variant), RowError>;

/// The next product of a file, ready but for a SKU that several have; `None` at its end. Rows that hold none are
/// counted where they are left out.
fn next_variant<R: Read + Seek>(
    table: &mut Table<R>,
    dialect: &mut dyn Dialect,
    notes: &mut Notes,
    skipped: &mut u64,
    print: &mut blake3::Hasher,
) -> Result<Option<Row>, ImportError> {
    while let Some(place) = table.next()? {
        let record = table.record();
        print_row(print, record);
        if table.overflows() {
            let detail = "the row has more fields than the header: is a comma in a text without quotation marks?";
            return Ok(Some(Err(RowError::new(place, dialect.names().name, detail))));
        }
        match dialect.read(record, place, notes) {
            Ok(Taken::Nothing) => {}
            Ok(Taken::Skipped) => *skipped += 1,
            Ok(Taken::Variant(mut variant)) => {
                let Variant { key, basis, product } = &mut *variant;
                if product.sku.is_empty() {
                    product.sku = derive_sku(basis.as_ref().unwrap_or(key));
                }
                let held = fields::hold(product, place, dialect.names(), notes);
                return Ok(Some(held.map(|()| (place, *variant))));
            }
            Err(error) => return Ok(Some(Err(error))),
        }
    }
    Ok(None)
}

/// No UTF-8 has the byte that stands between the fields.
fn print_row(print: &mut blake3::Hasher, record: &csv::StringRecord) {
    for field in record {
        print.update(field.as_bytes());
        print.update(&[0xff]);
    }
}

impl<R: Read + Seek> Checked<R> {
    pub(super) fn new(source: R, rules: &Rules, wanted: Option<Format>) -> Result<Self, ImportError> {
        let mut table = Table::open(source)?;
        let (format, mut dialect) = dialect(&table, rules, wanted)?;
        let (mut notes, mut errors, mut skipped) = (Notes::default(), Vec::new(), 0);
        let (mut seen, mut prints, mut print) = (Vec::new(), Vec::new(), blake3::Hasher::new());
        let names = dialect.names();
        loop {
            match next_variant(&mut table, &mut *dialect, &mut notes, &mut skipped, &mut print)? {
                Some(Ok((place, variant))) => {
                    let Variant { key, product, .. } = variant;
                    let [line, row] = [place.line, place.row].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
                    let apart = number_of(&apart(&product.sku, &key));
                    seen.push(Seen { sku: number_of(&product.sku), key: number_of(&key), apart, line, row });
                    if seen.len() % BATCH == 0 {
                        prints.push(finish(&mut print));
                    }
                }
                Some(Err(error)) => errors.push(error),
                None => break,
            }
            if errors.len() >= TOLD_MAX {
                return Err(ImportError::Rows(errors));
            }
        }
        prints.push(finish(&mut print));
        let products = seen.len() as u64;
        let shared = tell_apart(seen, names, &mut notes, &mut errors);
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.row);
            errors.truncate(TOLD_MAX);
            return Err(ImportError::Rows(errors));
        }
        notes.warnings.sort_by_key(|warning| warning.row);
        let Notes { warnings, warned, pictures } = notes;
        let summary = Summary { format, products, skipped, pictures, warnings, warned };
        let state = State::NotBegun(table.into_source());
        Ok(Checked { rules: rules.clone(), summary, shared, prints, state, handed_on: 0 })
    }

    /// What the file holds.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Everything at once, for files that aren't large.
    ///
    /// # Errors
    /// The file was changed, or can't be read any more.
    pub fn all(self) -> Result<Imported, ImportError> {
        let Summary { skipped, pictures, warnings, .. } = self.summary.clone();
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let mut imported = Imported { products: Vec::new(), skipped, pictures, warnings };
        for batch in self {
            imported.products.extend(batch?);
        }
        Ok(imported)
    }

    fn batch(&mut self) -> Result<Option<Vec<ProductView>>, ImportError> {
        let (mut table, mut dialect, mut batch_number) = match std::mem::replace(&mut self.state, State::Over) {
            State::NotBegun(source) => {
                let table = Table::open(source).map_err(|_| self.changed())?;
                let (_, dialect) =
                    dialect(&table, &self.rules, Some(self.summary.format)).map_err(|_| self.changed())?;
                (Box::new(table), dialect, 0)
            }
            State::Reading(table, dialect, number) => (table, dialect, number),
            State::Over => return Ok(None),
        };
        let (mut notes, mut skipped, mut print) = (Notes::default(), 0, blake3::Hasher::new());
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            match next_variant(&mut table, &mut *dialect, &mut notes, &mut skipped, &mut print) {
                Ok(Some(Ok((_, Variant { key, mut product, .. })))) => {
                    if self.shared.binary_search(&number_of(&product.sku)).is_ok() {
                        product.sku = apart(&product.sku, &key);
                    }
                    batch.push(product);
                }
                Ok(Some(Err(_))) | Err(_) => return Err(self.changed()),
                Ok(None) => break,
            }
        }
        if self.prints.get(batch_number) != Some(&finish(&mut print)) {
            return Err(self.changed());
        }
        batch_number += 1;
        self.handed_on += batch.len() as u64;
        if batch.len() == BATCH {
            self.state = State::Reading(table, dialect, batch_number);
        }
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }

    fn changed(&self) -> ImportError {
        ImportError::Changed { handed_on: self.handed_on }
    }
}

impl<R: Read + Seek> Iterator for Checked<R> {
    type Item = Result<Vec<ProductView>, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

/// Takes what was hashed since the last time.
fn finish(print: &mut blake3::Hasher) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&print.finalize().as_bytes()[..8]);
    print.reset();
    u64::from_be_bytes(number)
}

/// Finds the SKUs that several products have, and the products that are there twice.
fn tell_apart(mut seen: Vec<Seen>, names: Names, notes: &mut Notes, errors: &mut Vec<RowError>) -> Vec<u64> {
    let mut shared = Vec::new();
    let (mut doubles, mut shares) = (Vec::new(), Vec::new());
    seen.sort_unstable_by_key(|one| (one.sku, one.key, one.row));
    for same_sku in seen.chunk_by(|one, other| one.sku == other.sku) {
        let mut owners = 0;
        for same in same_sku.chunk_by(|one, other| one.key == other.key) {
            owners += 1;
            doubles.extend(same[1..].iter().map(|double| (double.row, double.line, same[0].line, true)));
        }
        if owners > 1 {
            shared.push(same_sku[0].sku);
            let mut rows: Vec<(u32, u32)> = same_sku.iter().map(|one| (one.row, one.line)).collect();
            rows.sort_unstable();
            shares.push((rows[1], rows[0].1, owners));
        }
    }
    // Sorted by SKU, so that they can be looked up.
    let is_shared = |sku: u64| shared.binary_search(&sku).is_ok();
    for one in &mut seen {
        // From here on: the SKU that it is sold under.
        one.apart = if is_shared(one.sku) { one.apart } else { one.sku };
    }
    seen.sort_unstable_by_key(|one| (one.apart, one.row));
    for pair in seen.windows(2) {
        let [first, second] = pair else { continue };
        if first.apart == second.apart && (first.sku, first.key) != (second.sku, second.key) {
            doubles.push((second.row, second.line, first.line, false));
        }
    }
    doubles.sort_unstable();
    for (row, line, first, whole) in doubles.into_iter().take(TOLD_MAX) {
        let place = Place { line: line.into(), row: row.into() };
        errors.push(if whole {
            RowError::new(place, names.key, format!("the same product and options stand in line {first} already"))
        } else {
            RowError::new(place, names.sku, format!("the product in line {first} has this SKU"))
        });
    }
    shares.sort_unstable();
    for ((row, line), first, owners) in shares {
        let place = Place { line: line.into(), row: row.into() };
        let detail = format!(
            "{owners} products have this SKU, the first in line {first}: each has letters of its own behind it now"
        );
        notes.warn(place, names.sku, detail);
    }
    shared
}

/// The SKU of one of several products that have the same: the same on every device and in every order of rows.
fn apart(sku: &str, key: &str) -> String {
    let suffix = suffix(key);
    format!("{}-{suffix}", fields::cut(sku, SKU_MAX - suffix.len() - 1))
}

/// Upper-case letters and digits of handle and options, hyphens for everything else.
fn derive_sku(key: &str) -> String {
    let mut sku = String::new();
    for character in key.chars() {
        match character.to_uppercase().next().filter(char::is_ascii_alphanumeric) {
            Some(character) => sku.push(character),
            None if !sku.ends_with('-') && !sku.is_empty() => sku.push('-'),
            None => {}
        }
    }
    let sku = sku.trim_end_matches('-');
    // Names in other scripts leave nothing: then the hash stands for them.
    let short: String = sku.chars().take(80).collect();
    if short.is_empty() {
        suffix(key)
    } else if short.len() < sku.len() {
        format!("{short}-{}", suffix(key))
    } else {
        short
    }
}

fn suffix(key: &str) -> String {
    let hash = Hasher::new(Domain::Part).bytes(key.as_bytes()).finish();
    hex::encode_upper(&hash.as_bytes()[..3])
}
