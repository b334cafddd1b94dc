//! What a basket costs: 20 lines, many products, many promotions, against an evaluation unit by unit.

use std::time::Instant;

use serde_json::{Value, json};
use stallmesh_node::quote::files::{Answer, BasketFile, Conditions};
use stallmesh_node::quote::{Catalog, Moment, Promotions, Scratch, Source, quote_with, read};
use stallmesh_tests::naive_quote;

use crate::Options;
use crate::figures::{Report, Row, Sample, Target};

/// Lines of a basket.
const LINES: usize = 20;
/// Different baskets.
const BASKETS: usize = 200;
/// In microseconds: 99 of 100 quotes.
const WITHIN_MICROS: f64 = 50.0;
/// Of so many promotions at least this many act on each basket.
const ACTING: usize = 5;
const AT: &str = "2026-06-06T10:00:00+02:00";

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let (products, promotions) = (10_000, 500);
    let market = Market::draw(products, promotions);
    let rounds = if options.quick { 2 } else { 100 };
    let took = market.quotes(rounds);
    let naive = market.naive(if options.quick { 1 } else { 20 });
    let name = format!("{LINES} lines, {products} products, {promotions} promotions");
    report.row(Row::p99(format!("{name}: p99"), &took, "µs").target(Target::AtMost(WITHIN_MICROS)));
    report.row(Row::median(format!("{name}: median"), &took, "µs").beside("naive", naive.median()));
    report.row(Row::median("  promotions that act on a basket", &market.acting, "promotions"));
    let products: &[usize] = if options.quick { &[1_000] } else { &[1_000, 100_000, 1_000_000] };
    for products in products.iter().copied() {
        let start = Instant::now();
        let market = Market::draw(products, promotions);
        let made = start.elapsed();
        let took = market.quotes(rounds / 2);
        report.row(Row::p99(format!("{products} products, {promotions} promotions: p99"), &took, "µs"));
        report.row(Row::new("  reading and indexing them", made.as_secs_f64() * 1e3, "ms"));
    }
    let counts: &[usize] = if options.quick { &[10] } else { &[10, 100, 1_000, 5_000] };
    for promotions in counts.iter().copied() {
        let took = Market::draw(10_000, promotions).quotes(rounds / 2);
        report.row(Row::p99(format!("10000 products, {promotions} promotions: p99"), &took, "µs"));
    }
}

struct Market {
    texts: [Value; 2],
    catalog: Catalog,
    promotions: Promotions,
    baskets: Vec<(Value, BasketFile)>,
    conditions: Conditions,
    at: Moment,
    acting: Sample,
}

impl Market {
    fn draw(products: usize, promotions: usize) -> Self {
        let mut dice = Dice(7);
        let catalog = catalog(&mut dice, products);
        let offers: Vec<Value> = (0..promotions).map(|index| promotion(&mut dice, index, products)).collect();
        let offers = Value::Array(offers);
        let read_catalog = Catalog::new(&read(Source::Catalog, &catalog.to_string()).expect("a catalog"));
        let read_catalog = read_catalog.expect("a catalog that can be");
        let files: Vec<_> = read(Source::Promotions, &offers.to_string()).expect("promotions");
        let read_promotions = Promotions::new(&read_catalog, &files).expect("promotions that can be");
        let baskets = (0..BASKETS).map(|_| {
            let basket = basket(&mut dice, products);
            let file = read(Source::Basket, &basket.to_string()).expect("a basket");
            (basket, file)
        });
        let mut market = Market {
            texts: [catalog, offers],
            catalog: read_catalog,
            promotions: read_promotions,
            baskets: baskets.collect(),
            conditions: Conditions::default(),
            at: Moment::read(AT).expect("a time"),
            acting: Sample::default(),
        };
        for (_, basket) in &market.baskets {
            let answer = market.quote(&mut Scratch::default(), basket);
            let mut acting: Vec<&str> = answer
                .lines
                .iter()
                .flat_map(|line| &line.reductions)
                .map(|reduction| &*reduction.promotion)
                .chain(answer.fees.iter().map(|fee| &*fee.promotion))
                .collect();
            acting.sort_unstable();
            acting.dedup();
            assert!(promotions < 500 || acting.len() >= ACTING, "{} promotions act on a basket", acting.len());
            market.acting.add(acting.len() as f64);
        }
        market
    }

    fn quote(&self, scratch: &mut Scratch, basket: &BasketFile) -> Answer {
        quote_with(scratch, &self.catalog, &self.promotions, basket, &self.conditions, &self.at).expect("a quote")
    }

    fn quotes(&self, rounds: usize) -> Sample {
        let (mut took, mut scratch) = (Sample::default(), Scratch::default());
        for _ in 0..rounds {
            for (_, basket) in &self.baskets {
                let start = Instant::now();
                let answer = self.quote(&mut scratch, basket);
                took.add_micros(start.elapsed());
                assert!(answer.total > 0);
            }
        }
        took
    }

    fn naive(&self, baskets: usize) -> Sample {
        let mut took = Sample::default();
        let [catalog, promotions] = &self.texts;
        for (basket, file) in self.baskets.iter().take(baskets) {
            let start = Instant::now();
            let answer = naive_quote::quote(catalog, promotions, basket, &json!({}), AT);
            took.add_micros(start.elapsed());
            assert_eq!(
                answer["total"],
                json!(self.quote(&mut Scratch::default(), file).total),
                "both come to the same"
            );
        }
        took
    }
}

/// A generator of numbers (xorshift*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

fn sku(index: usize) -> String {
    format!("SKU-{index:07}")
}

/// As a big stall's: 600 categories, 400 tags, two rates.
fn catalog(dice: &mut Dice, products: usize) -> Value {
    let products: Vec<Value> = (0..products)
        .map(|index| {
            json!({
                "sku": sku(index),
                "name": format!("Product {index}"),
                "price": 50 + dice.below(5_000),
                "tax": if index.is_multiple_of(3) { "reduced" } else { "standard" },
                "categories": [format!("category-{}", index % 600)],
                "tags": [format!("tag-{}", dice.below(400))],
                "unit": if index.is_multiple_of(25) { "kg" } else { "piece" },
            })
        })
        .collect();
    json!({
        "currency": "EUR", "prices_include_tax": true, "tax_rates": { "standard": "20", "reduced": "5.5" },
        "cash_rounding": 5, "products": products
    })
}

/// All kinds, most for a few goods, some for all.
fn promotion(dice: &mut Dice, index: usize, products: usize) -> Value {
    let category = format!("category-{}", dice.below(600));
    let few: Vec<String> = (0..5).map(|_| sku(dice.below(products))).collect();
    let mut promotion = json!({
        "id": format!("P{index:05}"), "name": format!("Offer {index}"), "priority": dice.below(3),
        "items": { "categories": [category] }
    });
    promotion["effect"] = match index % 10 {
        0 => json!({ "percentage": "3" }),
        1 => json!({ "fixed_price": 40 + dice.below(3_000) }),
        2 => json!({ "buy": 2, "get": 1, "percentage": "50" }),
        3 => json!({ "amount": 25, "each": true, "max_units": 3 }),
        4 => json!({ "tiers": [{ "from_quantity": 3, "percentage": "4" }, { "from_quantity": 9, "percentage": "8" }] }),
        5 => json!({ "percentage": "10", "max_amount": 150 }),
        6 => json!({ "bundle": [
            { "items": { "categories": [format!("category-{}", dice.below(600))] }, "quantity": 1 },
            { "items": { "categories": [format!("category-{}", dice.below(600))] }, "quantity": 1 }
        ], "price": 900 }),
        7 => json!({ "percentage": "1", "of": "order" }),
        8 => json!({ "fee": { "amount": 8, "each": true, "tax": "standard" } }),
        _ => json!({ "amount": 100 }),
    };
    match index % 10 {
        6 => drop(promotion.as_object_mut().map(|promotion| promotion.remove("items"))),
        7 => promotion["items"] = json!({}),
        1 | 3 | 8 => promotion["items"] = json!({ "skus": few, "tags": [format!("tag-{}", dice.below(400))] }),
        _ => {}
    }
    // One of five hundred, say, is for all; the others of its kind ask for a code.
    if index % 10 == 7 && index != 7 {
        promotion["requires"] = json!({ "codes": [format!("CODE-{index}")] });
    }
    if index % 10 == 4 {
        promotion["hours"] = json!([{ "days": ["sat", "sun"], "from": "09:00", "to": "18:00" }]);
    }
    if index % 10 == 9 {
        promotion["requires"] = json!({ "min_subtotal": 2_000 });
    }
    promotion
}

fn basket(dice: &mut Dice, products: usize) -> Value {
    let lines: Vec<Value> = (0..LINES)
        .map(|_| {
            let product = dice.below(products);
            let quantity = if product.is_multiple_of(25) { json!("0.75") } else { json!(1 + dice.below(4)) };
            json!({ "sku": sku(product), "quantity": quantity })
        })
        .collect();
    json!({ "lines": lines, "codes": ["CODE-17"], "tender": "cash" })
}
