//! Shopify's product CSV, as its admin exports it; with the columns' names of before 2025 and with those since.
//!
//! One product may take several rows: the first has its title, the next ones further variants or only pictures.
//! `Cost per item` is not read: what a catalog holds, every member of the market can see, competitors too.

use crate::engine::ProductView;

use super::Rules;
use super::checked::Dialect;
use super::error::{ImportError, Place, RowError};
use super::fields::{self, Names, Notes, OwnColumns, Taken, Variant, printable, text};
use super::table::{Column, Columns};

const HANDLE: &[&str] = &["Handle", "URL handle"];
const TITLE: &[&str] = &["Title"];
const PRICE: &[&str] = &["Variant Price", "Price"];

/// What a file needs: the old name of each column, and whether it is there under any.
pub(super) fn needed(columns: &Columns) -> Vec<(&'static str, bool)> {
    [HANDLE, TITLE, PRICE].into_iter().map(|names| (names[0], columns.has(names))).collect()
}

/// Where what is read stands.
struct Places {
    handle: Option<Column>,
    title: Option<Column>,
    price: Option<Column>,
    published: Option<Column>,
    status: Option<Column>,
    kind: Option<Column>,
    category: Option<Column>,
    tags: Option<Column>,
    options: [Option<Column>; 3],
    sku: Option<Column>,
    tracker: Option<Column>,
    quantity: Option<Column>,
    taxable: Option<Column>,
    barcode: Option<Column>,
    picture: Option<Column>,
    own: OwnColumns,
}

/// What the rows of one product share.
#[derive(Default)]
struct Parent {
    handle: String,
    title: String,
    categories: Vec<String>,
    tags: Vec<String>,
    offered: bool,
}

/// Reads one row after the other.
pub(super) struct Reader {
    places: Places,
    rules: Rules,
    parent: Parent,
}

impl Reader {
    pub(super) fn new(columns: &Columns, rules: Rules) -> Result<Self, ImportError> {
        let find = |names: &[&'static str]| columns.find(names);
        let places = Places {
            handle: find(HANDLE)?,
            title: find(TITLE)?,
            price: find(PRICE)?,
            published: find(&["Published", "Published on online store"])?,
            status: find(&["Status"])?,
            kind: find(&["Type"])?,
            category: find(&["Product Category"])?,
            tags: find(&["Tags"])?,
            options: [find(&["Option1 Value"])?, find(&["Option2 Value"])?, find(&["Option3 Value"])?],
            sku: find(&["Variant SKU", "SKU"])?,
            tracker: find(&["Variant Inventory Tracker", "Inventory tracker"])?,
            quantity: find(&["Variant Inventory Qty", "Inventory quantity"])?,
            taxable: find(&["Variant Taxable", "Charge tax"])?,
            barcode: find(&["Variant Barcode", "Barcode"])?,
            picture: find(&["Image Src", "Product image URL"])?,
            own: OwnColumns::new(columns)?,
        };
        Ok(Reader { places, rules, parent: Parent::default() })
    }

    fn read_parent(&mut self, record: &csv::StringRecord) {
        let places = &self.places;
        let handle = text(record, places.handle);
        let title = text(record, places.title);
        if handle == self.parent.handle && title.is_empty() {
            return;
        }
        let status = text(record, places.status);
        let mut categories = Vec::new();
        for category in [text(record, places.kind), text(record, places.category)].map(printable) {
            if !category.is_empty() && !categories.contains(&category) {
                categories.push(category);
            }
        }
        self.parent = Parent {
            handle: handle.to_owned(),
            title: printable(if title.is_empty() { handle } else { title }),
            categories,
            tags: fields::split_list(text(record, places.tags), places.own.here),
            offered: !text(record, places.published).eq_ignore_ascii_case("false")
                && !["draft", "archived"].iter().any(|hidden| status.eq_ignore_ascii_case(hidden)),
        };
    }

    fn read_variant(&self, record: &csv::StringRecord, place: Place, notes: &mut Notes) -> Result<Variant, RowError> {
        let (places, parent) = (&self.places, &self.parent);
        let wrong = |column: Option<Column>| {
            let name = column.map_or("Handle", |column| column.name);
            move |detail: String| RowError::new(place, name, detail)
        };
        if parent.handle.is_empty() {
            return Err(wrong(places.handle)("is empty: every row names its product".into()));
        }
        let price = fields::price(text(record, places.price), self.rules.exponent).map_err(wrong(places.price))?;
        let options: Vec<String> = places
            .options
            .iter()
            .map(|column| printable(text(record, *column)))
            .filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case("default title"))
            .collect();
        let title = std::iter::once(parent.title.as_str()).filter(|title| !title.is_empty());
        let name = title.chain(options.iter().map(String::as_str)).collect::<Vec<_>>().join(", ");
        let options = options.iter().map(String::as_str);
        let key = std::iter::once(parent.handle.as_str()).chain(options.clone()).collect::<Vec<_>>().join("\u{1f}");
        let taxable = !text(record, places.taxable).eq_ignore_ascii_case("false");
        // An untracked variant has a number there that nobody keeps.
        let counted = places.tracker.is_none() || !text(record, places.tracker).is_empty();
        let stock = match text(record, places.quantity) {
            quantity if counted && !quantity.is_empty() => {
                fields::quantity(quantity).map_err(wrong(places.quantity))?
            }
            _ => String::new(),
        };
        let column = places.barcode.map_or("Variant Barcode", |column| column.name);
        let barcode = fields::barcode(text(record, places.barcode), place, column, notes);
        let mut product = ProductView {
            stall: String::new(),
            sku: printable(text(record, places.sku)),
            name,
            price,
            taxes: self.rules.tax.clone().filter(|_| taxable).into_iter().collect(),
            categories: parent.categories.clone(),
            tags: parent.tags.clone(),
            barcodes: barcode.into_iter().collect(),
            unit: "piece".into(),
            stock,
            variant_of: if options.len() == 0 { String::new() } else { printable(&parent.handle) },
            ..ProductView::default()
        };
        places.own.complete(record, place, notes, taxable, &mut product)?;
        Ok(Variant { key, basis: None, product })
    }
}

impl Dialect for Reader {
    fn names(&self) -> Names {
        Names {
            key: self.places.handle.map_or("Handle", |column| column.name),
            sku: self.places.sku.map_or("Variant SKU", |column| column.name),
            name: self.places.title.map_or("Title", |column| column.name),
        }
    }

    fn read(&mut self, record: &csv::StringRecord, place: Place, notes: &mut Notes) -> Result<Taken, RowError> {
        if !text(record, self.places.picture).is_empty() {
            notes.pictures += 1;
        }
        self.read_parent(record);
        // A row without a price is a further picture of the product above it.
        if text(record, self.places.price).is_empty() {
            return Ok(Taken::Nothing);
        }
        if !self.parent.offered {
            return Ok(Taken::Skipped);
        }
        self.read_variant(record, place, notes).map(|variant| Taken::Variant(Box::new(variant)))
    }
}
