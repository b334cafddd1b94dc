#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use stallmesh_protocol::payload::{self, Product};
use stallmesh_protocol::{DeviceId, Incarnation};

use super::*;
use crate::engine::catalog::{Catalog, Counted, Judgement};
use crate::engine::views::Written;

const SKUS: [&str; 2] = ["MUG", "TEA"];

/// One entry of a stall.
#[derive(Clone, Debug)]
enum Entry {
    Sold(Sold),
    Counted { hash: u8, time: u64, sku: usize, stock: String, counted_at: u64 },
    Changed { hash: u8, time: u64, sku: usize, change: i64 },
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let time = 1..30_u64;
    let sold = (0..8_u8, time.clone(), prop::collection::vec((0..2_usize, 1..5_000_000_i128), 0..3));
    let sold = sold.prop_map(|(sale, time, lines)| (sale, time, lines));
    let counted = (time.clone(), 0..2_usize, prop_oneof![Just(String::new()), "-?[0-9]{1,3}(\\.[0-9])?"], 0..40_u64);
    let changed = (time, 0..2_usize, -20..20_i64);
    let entry = prop_oneof![
        3 => sold.prop_map(|(sale, time, lines)| {
            let mut sums: BTreeMap<usize, i128> = BTreeMap::new();
            lines.into_iter().for_each(|(sku, amount)| *sums.entry(sku).or_default() += amount);
            let taken = sums.into_iter().map(|(sku, amount)| (SKUS[sku].to_owned(), Amount(amount))).collect();
            Entry::Sold(Sold { hash: Hash::ZERO, sale: SaleId::from_bytes([sale; 16]), time, taken })
        }),
        1 => counted.prop_map(|(time, sku, stock, counted_at)| Entry::Counted { hash: 0, time, sku, stock, counted_at }),
        1 => changed.prop_map(|(time, sku, change)| Entry::Changed { hash: 0, time, sku, change }),
    ];
    prop::collection::vec(entry, 1..40).prop_map(|mut entries| {
        // Each entry has a hash of its own, in no order that means anything.
        for (number, entry) in entries.iter_mut().enumerate() {
            let own = (number as u8).wrapping_mul(91).wrapping_add(7);
            match entry {
                Entry::Sold(sold) => sold.hash = Hash::from_bytes([own; 32]),
                Entry::Counted { hash, .. } | Entry::Changed { hash, .. } => *hash = own,
            }
        }
        entries
    })
}

/// What a device makes of entries as they come.
#[derive(Default)]
struct Till {
    catalog: Catalog,
    book: SoldBook,
}

impl Till {
    fn take(&mut self, entry: &Entry) {
        let written = |hash: u8, time: u64| {
            let author = DeviceId::from_bytes([hash % 3; 32]);
            let log = LogName { author, incarnation: Incarnation::from_bytes([0; 16]), lane: Lane::CATALOG };
            let at = Position { log, sequence: hash.into(), hash: Hash::from_bytes([hash; 32]) };
            Written { at, timestamp: time, seen: [0; 8] }
        };
        match entry {
            Entry::Sold(sold) => self.book.insert(sold.clone()),
            Entry::Counted { hash, time, sku, stock, counted_at } => {
                let product = Product {
                    sku: SKUS[*sku].into(),
                    name: "It".into(),
                    stock: stock.clone(),
                    counted_at: *counted_at,
                    ..Product::default()
                };
                let message = payload::Products { products: vec![product], ..Default::default() };
                self.catalog.insert(written(*hash, *time), message);
            }
            Entry::Changed { hash, time, sku, change } => {
                let change = payload::StockChange { sku: SKUS[*sku].into(), change: change.to_string() };
                let message = payload::Products { stock_changes: vec![change], ..Default::default() };
                self.catalog.insert(written(*hash, *time), message);
            }
        }
    }

    fn left(&mut self, sku: &str) -> Option<String> {
        self.catalog.refresh(0, |written| Judgement {
            stall: Some("pots".into()),
            covered: 0,
            time: written.timestamp,
        });
        let Counted { count, at, changed } = self.catalog.stall("pots")?.counted(sku)?;
        Some(count.plus(changed).less(self.book.since(sku, at)).to_string())
    }
}

/// The same by the words of docs/catalog.md: one look at each entry.
fn by_the_words(entries: &[Entry], sku: &str) -> Option<String> {
    let counts = entries.iter().filter_map(|entry| match entry {
        Entry::Counted { hash, time, sku: of, stock, counted_at } if SKUS[*of] == sku => match counted_at {
            0 => (!stock.is_empty()).then_some((*time, *hash, stock)),
            at => Some(((*at).min(*time), *hash, stock)),
        },
        _ => None,
    });
    let (counted, _, stock) = counts.max()?;
    let mut left = Amount::parse(stock)?;
    let mut sales: BTreeMap<SaleId, &Sold> = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Changed { time, sku: of, change, .. } if SKUS[*of] == sku && *time >= counted => {
                left = left.plus(Amount::of((*change).into()));
            }
            Entry::Sold(sold) => {
                let known = sales.entry(sold.sale).or_insert(sold);
                if sold.hash < known.hash {
                    *known = sold;
                }
            }
            _ => {}
        }
    }
    let sold = sales.values().filter(|sold| sold.time >= counted).flat_map(|sold| &sold.taken);
    let sold = sold.filter(|(of, _)| of == sku);
    Some(sold.fold(left, |left, (_, amount)| left.less(*amount)).to_string())
}

proptest! {
    #[test]
    fn adv_085_what_is_left_is_the_same_in_whatever_order_entries_come(
        entries in entries(),
        order in prop::collection::vec((0..40_usize, any::<bool>()), 0..120),
    ) {
        let mut straight = Till::default();
        entries.iter().for_each(|entry| straight.take(entry));
        // Another device hears of them in another order, of some twice, and is asked in between.
        let mut mixed = Till::default();
        let mut heard = BTreeSet::new();
        let wild = order.iter().map(|(index, asked)| (index % entries.len(), *asked));
        for (index, asked) in wild.chain((0..entries.len()).rev().map(|index| (index, false))) {
            // A log holds each entry once; a sale may be read twice.
            if heard.insert(index) || matches!(entries[index], Entry::Sold(_)) {
                mixed.take(&entries[index]);
            }
            if asked {
                SKUS.into_iter().for_each(|sku| _ = mixed.left(sku));
            }
        }
        for sku in SKUS {
            let expected = by_the_words(&entries, sku);
            prop_assert_eq!(straight.left(sku), expected.clone());
            prop_assert_eq!(mixed.left(sku), expected);
        }
    }

    #[test]
    fn what_was_sold_is_kept_as_it_is(time in any::<u64>(), skus in prop::collection::btree_map(".{0,40}", any::<i64>(), 0..5)) {
        let taken: Vec<Taken> = skus.into_iter().map(|(sku, amount)| (sku, Amount(amount.into()))).collect();
        let sold = Sold { hash: Hash::from_bytes([3; 32]), sale: SaleId::from_bytes([5; 16]), time, taken };
        prop_assert_eq!(Sold::decode(sold.hash, &sold.encode()), Some(sold.clone()));
    }
}

#[test]
fn amounts_are_written_as_people_write_them() {
    for (text, written) in
        [("12", "12"), ("-2", "-2"), ("0.5", "0.5"), ("-0.125", "-0.125"), ("1.50", "1.5"), ("0", "0")]
    {
        assert_eq!(Amount::parse(text).unwrap().to_string(), written);
    }
    assert_eq!(Amount::parse("9999999999999999999999999999").unwrap().to_string(), UNITS_MAX.to_string());
    assert_eq!(Amount::parse("many"), None);
    let lines = [("MUG", "2"), ("TEA", "0.25"), ("MUG", "1"), ("GONE", "0")];
    assert_eq!(
        taken(lines).iter().map(|(sku, amount)| format!("{sku} {amount}")).collect::<Vec<_>>(),
        ["MUG 3", "TEA 0.25"]
    );
}
