//! Square's item library, as its dashboard exports it to CSV.
//!
//! A row is a variation of an item; the rows of one item have its name. Stock, price and whether it is sold stand once a
//! location (`Current Quantity <location>`, `Price <location>`, `Enabled <location>`). Taxes are columns, too. What a
//! supplier asks (`Default Unit Cost`, `Default Vendor …`) is not read: every member of the market can see a catalog.

use crate::engine::ProductView;

use super::Rules;
use super::checked::Dialect;
use super::error::{ImportError, Place, RowError};
use super::fields::{self, Names, Notes, OwnColumns, Taken, Variant, printable, short, text};
use super::table::{Column, Columns};

const ITEM: &[&str] = &["Item Name"];
const PRICE: &[&str] = &["Price"];

/// What a file needs, and whether it is there.
pub(super) fn needed(columns: &Columns) -> Vec<(&'static str, bool)> {
    [ITEM, PRICE].into_iter().map(|names| (names[0], columns.has(names))).collect()
}

/// Where what is read stands.
struct Places {
    token: Option<Column>,
    reference: Option<Column>,
    item: Option<Column>,
    variation: Option<Column>,
    options: [Option<Column>; 3],
    sku: Option<Column>,
    main_category: Option<Column>,
    categories: [Option<Column>; 2],
    gtin: Option<Column>,
    price: Option<Column>,
    price_here: Option<Column>,
    archived: Option<Column>,
    sellable: Option<Column>,
    unit: Option<Column>,
    quantity: Option<Column>,
    enabled: Vec<Column>,
    taxes: Vec<Column>,
    own: OwnColumns,
}

/// Reads one row after the other.
pub(super) struct Reader {
    places: Places,
    rules: Rules,
    /// Locations with a stock each, where none is chosen: what is elsewhere can't be sold here.
    undecided: Vec<String>,
    /// What has been said once, and is true of the whole file.
    told_of_locations: bool,
    told_of_taxes: bool,
}

impl Reader {
    pub(super) fn new(columns: &Columns, header: &csv::StringRecord, rules: Rules) -> Result<Self, ImportError> {
        let find = |names: &[&'static str]| columns.find(names);
        let located = |start: &'static str| -> Result<Vec<(String, Column)>, ImportError> {
            let found = columns.beginning(header, start)?;
            Ok(found.into_iter().map(|(rest, place)| (rest, Column { name: start.trim_end(), place })).collect())
        };
        let quantities = located("Current Quantity ")?;
        let (enabled, prices) = (located("Enabled ")?, located("Price ")?);
        let known = || -> Vec<String> {
            let mut names: Vec<String> = Vec::new();
            for (name, _) in quantities.iter().chain(&enabled).chain(&prices) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            names
        };
        let given = rules.location.as_deref();
        let is_here = |name: &str| given.is_some_and(|given| given.eq_ignore_ascii_case(name));
        if let Some(given) = given
            && !known().iter().any(|name| is_here(name))
        {
            return Err(ImportError::Location { given: given.to_owned(), known: known() });
        }
        let here = |found: &[(String, Column)]| found.iter().find(|(name, _)| is_here(name)).map(|(_, column)| *column);
        let (quantity, undecided) = match quantities.as_slice() {
            // Old files, and those of sellers with one location, name none.
            [] => (find(&["Current Quantity", "Quantity"])?, Vec::new()),
            [(_, only)] if given.is_none() => (Some(*only), Vec::new()),
            several if given.is_none() => (None, several.iter().map(|(name, _)| name.clone()).collect()),
            several => (here(several), Vec::new()),
        };
        let places = Places {
            token: find(&["Token"])?,
            reference: find(&["Reference Handle"])?,
            item: find(ITEM)?,
            variation: find(&["Variation Name"])?,
            options: [find(&["Option Value 1"])?, find(&["Option Value 2"])?, find(&["Option Value 3"])?],
            sku: find(&["SKU"])?,
            main_category: find(&["Reporting Category", "Category"])?,
            categories: [find(&["Categories"])?, find(&["Additional Categories"])?],
            gtin: find(&["GTIN"])?,
            price: find(PRICE)?,
            price_here: here(&prices),
            archived: find(&["Archived"])?,
            sellable: find(&["Sellable"])?,
            unit: find(&["Unit and Precision"])?,
            quantity,
            enabled: match given {
                Some(_) => here(&enabled).into_iter().collect(),
                None => enabled.iter().map(|(_, column)| *column).collect(),
            },
            taxes: located("Tax - ")?.into_iter().map(|(_, column)| column).collect(),
            own: OwnColumns::new(columns)?,
        };
        Ok(Reader { places, rules, undecided, told_of_locations: false, told_of_taxes: false })
    }

    /// Its own name, or else its options. "Regular" is what Square calls an item's only one.
    fn variation(&self, record: &csv::StringRecord) -> String {
        let named = printable(text(record, self.places.variation));
        let options = || {
            let options = self.places.options.iter().map(|column| printable(text(record, *column)));
            options.filter(|option| !option.is_empty()).collect::<Vec<_>>().join(", ")
        };
        match named.as_str() {
            "" => options(),
            only if only.eq_ignore_ascii_case("regular") => String::new(),
            _ => named,
        }
    }

    /// The main one first. Square writes its own token behind each name.
    fn categories(&self, record: &csv::StringRecord) -> Vec<String> {
        let main = printable(text(record, self.places.main_category));
        if self.places.own.here {
            return Some(main).filter(|main| !main.is_empty()).into_iter().collect();
        }
        let mut categories = vec![without_token(&main).to_owned()];
        for column in self.places.categories {
            categories.extend(
                fields::split_list(text(record, column), false).iter().map(|name| without_token(name).to_owned()),
            );
        }
        let mut seen = Vec::new();
        for category in categories {
            if !category.is_empty() && !seen.contains(&category) {
                seen.push(category);
            }
        }
        seen
    }

    fn unit(&self, record: &csv::StringRecord, place: Place, notes: &mut Notes) -> &'static str {
        let given = text(record, self.places.unit);
        let word: String = given
            .chars()
            .skip_while(|character| !character.is_alphabetic())
            .take_while(|character| character.is_alphabetic())
            .flat_map(char::to_lowercase)
            .collect();
        match word.as_str() {
            "" | "ea" | "each" | "item" | "items" | "piece" | "pieces" | "unit" | "units" => "piece",
            "kg" | "kilogram" | "kilograms" | "kilo" => "kg",
            "g" | "gram" | "grams" => "g",
            "l" | "liter" | "liters" | "litre" | "litres" => "l",
            "m" | "meter" | "meters" | "metre" | "metres" => "m",
            _ => {
                let detail = format!("`{}` is no unit that is sold by here: it is sold by the piece", short(given));
                notes.warn(place, "Unit and Precision", detail);
                "piece"
            }
        }
    }
}

impl Dialect for Reader {
    fn names(&self) -> Names {
        Names { key: "Item Name", sku: "SKU", name: "Item Name" }
    }

    fn read(&mut self, record: &csv::StringRecord, place: Place, notes: &mut Notes) -> Result<Taken, RowError> {
        let places = &self.places;
        let is = |column: Option<Column>, word: &str| text(record, column).eq_ignore_ascii_case(word);
        let yes = |column: Option<Column>| is(column, "y") || is(column, "yes") || is(column, "true");
        let no = |column: Option<Column>| is(column, "n") || is(column, "no") || is(column, "false");
        if record.iter().all(|field| field.trim().is_empty()) {
            return Ok(Taken::Nothing);
        }
        let item = printable(text(record, places.item));
        if item.is_empty() {
            return Err(RowError::new(place, ITEM[0], "is empty: every row names its item"));
        }
        let disabled = !places.enabled.is_empty() && places.enabled.iter().all(|column| no(Some(*column)));
        if yes(places.archived) || no(places.sellable) || disabled {
            return Ok(Taken::Skipped);
        }
        let here = text(record, places.price_here);
        let (asked, column) = if here.is_empty() { (text(record, places.price), PRICE[0]) } else { (here, "Price") };
        if asked.is_empty() || asked.eq_ignore_ascii_case("variable") {
            let detail = "has no price of its own: the item is left out, for a till would sell it for nothing";
            notes.warn(place, PRICE[0], detail.into());
            return Ok(Taken::Skipped);
        }
        let price = fields::price(asked, self.rules.exponent).map_err(|detail| RowError::new(place, column, detail))?;
        let variation = self.variation(record);
        let name = if variation.is_empty() { item.clone() } else { format!("{item}, {variation}") };
        let quantity = text(record, places.quantity);
        let column = places.quantity.map_or("Current Quantity", |column| column.name);
        let stock = if quantity.is_empty() {
            String::new()
        } else {
            fields::quantity(quantity).map_err(|detail| RowError::new(place, column, detail))?
        };
        if !self.undecided.is_empty() && !self.told_of_locations {
            let detail = format!(
                "the file counts stock at {}: no stock is taken; say which of them the stall is",
                self.undecided.join(", ")
            );
            notes.warn(place, "Current Quantity", detail);
            self.told_of_locations = true;
        }
        let applied = places.taxes.iter().filter(|column| yes(Some(**column))).count();
        if applied > 1 && !self.told_of_taxes {
            let detail = format!("{applied} taxes apply: products have the market's one rate, if any was named");
            notes.warn(place, "Tax", detail);
            self.told_of_taxes = true;
        }
        // A file of ours names the rates itself, and has no columns for them.
        let taxable = if places.taxes.is_empty() { !places.own.here } else { applied > 0 };
        let parts = [text(record, places.reference), text(record, places.token), &item, &variation];
        let mut product = ProductView {
            stall: String::new(),
            sku: printable(text(record, places.sku)),
            name,
            price,
            taxes: self.rules.tax.clone().filter(|_| taxable).into_iter().collect(),
            categories: self.categories(record),
            tags: Vec::new(),
            barcodes: fields::barcode(text(record, places.gtin), place, "GTIN", notes).into_iter().collect(),
            unit: self.unit(record, place, notes).into(),
            stock,
            variant_of: if variation.is_empty() { String::new() } else { item.clone() },
            ..ProductView::default()
        };
        let key = parts.join("\u{1f}");
        let basis = Some(parts[2..].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("\u{1f}"));
        places.own.complete(record, place, notes, true, &mut product)?;
        Ok(Taken::Variant(Box::new(Variant { key, basis, product })))
    }
}

/// `Books (T2B3ROTJ3HFGVBO22QLOOJDE)` is Books.
fn without_token(name: &str) -> &str {
    let token = name.strip_suffix(')').and_then(|rest| rest.rsplit_once('('));
    match token {
        Some((name, token))
            if token.len() >= 20 && token.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) =>
        {
            name.trim_end()
        }
        _ => name,
    }
}
