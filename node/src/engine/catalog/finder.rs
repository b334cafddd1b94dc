//! What all stalls offer, by words: an index that follows the view of products.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use stallmesh_protocol::payload::Product;

use super::{Catalog, StallCatalog, sku_of};
use crate::search::{Found, Goods, Index, Query};

/// An encoded product.
type Bytes = Arc<[u8]>;

/// The index, and what it was made of. Nothing is made before somebody looks for something; from then on whoever does so
/// pays for what has changed.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    index: Index,
    generation: u64,
    /// By stall, each by SKU.
    stalls: BTreeMap<String, Vec<Bytes>>,
}

impl Finder {
    /// Takes in what has changed of the products.
    pub(crate) fn refresh(&mut self, catalog: &Catalog) {
        if self.generation == catalog.generation {
            return;
        }
        self.generation = catalog.generation;
        let names: BTreeSet<String> = self.stalls.keys().chain(catalog.stalls.keys()).cloned().collect();
        for name in names {
            let now: Vec<Bytes> = catalog.stall(&name).map(bytes_of).unwrap_or_default();
            let before = self.stalls.remove(&name).unwrap_or_default();
            self.change(&name, &before, &now);
            if !now.is_empty() {
                self.stalls.insert(name, now);
            }
        }
    }

    /// Both lists ascend by SKU: one walk through both finds what differs.
    fn change(&mut self, stall: &str, before: &[Bytes], now: &[Bytes]) {
        let (mut old, mut new) = (before.iter().peekable(), now.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(old), Some(new)) => sku_of(old).cmp(sku_of(new)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            let gone = if order == Ordering::Greater { None } else { old.next() };
            let come = if order == Ordering::Less { None } else { new.next() };
            if let (Some(gone), Some(come)) = (gone, come)
                && (Arc::ptr_eq(gone, come) || gone == come)
            {
                continue;
            }
            if let Some(product) = gone.and_then(|gone| Product::decode(&**gone).ok()) {
                self.index.remove(&goods(stall, &product));
            }
            if let Some(product) = come.and_then(|come| Product::decode(&**come).ok()) {
                self.index.insert(&goods(stall, &product));
            }
        }
    }

    /// As of the last [`Finder::refresh`].
    pub(crate) fn find(&self, query: &Query, stall: Option<&str>, after: Option<&Found>, limit: usize) -> Vec<Found> {
        self.index.find(query, stall, after, limit)
    }
}

fn bytes_of(stall: &StallCatalog) -> Vec<Bytes> {
    stall.products.iter().map(|product| product.bytes.clone()).collect()
}

fn goods<'a>(stall: &'a str, product: &'a Product) -> Goods<'a> {
    Goods {
        stall,
        sku: &product.sku,
        name: &product.name,
        barcodes: &product.barcodes,
        categories: &product.categories,
        tags: &product.tags,
    }
}
