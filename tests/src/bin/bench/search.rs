//! What all stalls offer, by words: an index of 100,000 products, against a look at each of them.

use std::time::Instant;

use stallmesh_node::search::{Goods, Index, Query};
use stallmesh_tests::naive_search;

use crate::Options;
use crate::figures::{Report, Row, Sample, Target};

/// In microseconds: what a page of hits may take.
const WITHIN_MICROS: f64 = 5_000.0;
/// Hits on a page.
const PAGE: usize = 50;

/// A product that owns what it says.
struct Product {
    stall: String,
    sku: String,
    name: String,
    barcodes: Vec<String>,
    categories: Vec<String>,
    tags: Vec<String>,
}

const COLOURS: [&str; 12] =
    ["Blau", "Rot", "Grün", "Gelb", "Weiß", "Schwarz", "Türkis", "Rosé", "Ocker", "Silber", "Gold", "Grau"];
const THINGS: [&str; 16] = [
    "Tasse", "Teller", "Kanne", "Schale", "Vase", "Krug", "Löffel", "Becher", "Topf", "Deckel", "Kerze", "Seife",
    "Tuch", "Brett", "Glas", "Korb",
];

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let counts: &[usize] = if options.quick { &[1_000] } else { &[10_000, 100_000] };
    for count in counts.iter().copied() {
        let products: Vec<Product> = (0..count).map(product).collect();
        let goods: Vec<Goods<'_>> = products.iter().map(Product::goods).collect();
        let start = Instant::now();
        let mut index = Index::default();
        goods.iter().for_each(|goods| index.insert(goods));
        let made = start.elapsed();
        // One letter finds a tenth of everything; two words few; a SKU one.
        for query in ["s", "blau tasse", "gru", "stall-17 vase", "SKU-777"] {
            let read = Query::read(query).expect("a query");
            let naive = {
                let mut took = Sample::default();
                let start = Instant::now();
                let found = naive_search::count(&goods, query);
                took.add_micros(start.elapsed());
                assert_eq!(found, index.find(&read, None, None, usize::MAX).len(), "{query}");
                took.median()
            };
            let mut took = Sample::default();
            for _ in 0..if options.quick { 3 } else { 200 } {
                let start = Instant::now();
                let page = index.find(&read, None, None, PAGE);
                took.add_micros(start.elapsed());
                assert!(page.len() <= PAGE);
            }
            let name = format!("{count} products, `{query}`");
            report.row(Row::p99(format!("{name}: p99"), &took, "µs").target(Target::AtMost(WITHIN_MICROS)));
            report.row(Row::median(format!("{name}: median"), &took, "µs").beside("a look at each", naive));
        }
        report.row(Row::new(format!("{count} products: making the index"), made.as_secs_f64() * 1e3, "ms"));
        let mut changed = Sample::default();
        for goods in goods.iter().take(500) {
            let start = Instant::now();
            index.remove(goods);
            index.insert(goods);
            changed.add_micros(start.elapsed());
        }
        report.row(Row::median("  one product changes", &changed, "µs"));
    }
}

fn product(number: usize) -> Product {
    let (colour, thing) = (COLOURS[number % 12], THINGS[number / 12 % 16]);
    Product {
        stall: format!("stall-{}", number % 40),
        sku: format!("SKU-{number}"),
        name: format!("{thing}, {colour}, Nr. {}", number % 997),
        barcodes: vec![format!("own{number:08}")],
        categories: vec![format!("Art {}", number % 50)],
        tags: vec![format!("Reihe {}", number % 200)],
    }
}

impl Product {
    fn goods(&self) -> Goods<'_> {
        Goods {
            stall: &self.stall,
            sku: &self.sku,
            name: &self.name,
            barcodes: &self.barcodes,
            categories: &self.categories,
            tags: &self.tags,
        }
    }
}
