//! What all stalls offer: a view of the product entries that are held.
//!
//! Products are kept once, as their entries have them; the view points at them. It is built anew only where something
//! that it depends on has changed: an entry, whether an author may publish, or which of two rivals comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::payload::{self, Product};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{DeviceId, Hash};

use super::views::Written;

/// One entry that offers products.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) written: Written,
    products: Vec<Arc<Product>>,
    replaces: Vec<Hash>,
}

/// What the view needs to know of one entry beside what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// The stall that its author may publish for; `None`: the entry has no effect.
    pub(crate) stall: Option<String>,
    /// Its place among versions of one product: the later covering checkpoint wins, an uncovered entry counts as latest.
    pub(crate) covered: u64,
}

/// One stall's part.
#[derive(Debug, Default)]
pub(crate) struct StallCatalog {
    products: BTreeMap<String, Arc<Product>>,
    /// First 8 bytes of a hash over the entries that make it up: what a sale cites.
    version: [u8; 8],
}

impl StallCatalog {
    pub(crate) fn get(&self, sku: &str) -> Option<&Arc<Product>> {
        self.products.get(sku)
    }

    pub(crate) fn version(&self) -> [u8; 8] {
        self.version
    }

    pub(crate) fn products(&self) -> impl ExactSizeIterator<Item = &Arc<Product>> {
        self.products.values()
    }
}

/// The view, and the entries that it is made of.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    offers: BTreeMap<DeviceId, Vec<Offer>>,
    /// How each entry was judged when the view was built; an entry without rivals has place 0.
    basis: Vec<Judgement>,
    /// Entries of which some product is offered by another one, too.
    rivals: BTreeSet<Hash>,
    built: bool,
    stalls: BTreeMap<String, StallCatalog>,
}

impl Catalog {
    /// Takes in an entry.
    pub(crate) fn insert(&mut self, written: Written, message: payload::Products) {
        let offer = Offer {
            written,
            products: message.products.into_iter().map(Arc::new).collect(),
            replaces: message.replaces.iter().filter_map(|hash| Hash::try_from(hash.as_slice()).ok()).collect(),
        };
        self.offers.entry(written.at.log.author).or_default().push(offer);
        self.built = false;
    }

    pub(crate) fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.offers.values().flatten()
    }

    /// Builds the view where `judge` says other than before. True where it was built.
    pub(crate) fn refresh(&mut self, judge: impl Fn(&Written) -> Judgement) -> bool {
        let judged: Vec<Judgement> = self.offers().map(|offer| judge(&offer.written)).collect();
        let same = |rivals: &BTreeSet<Hash>| {
            let hashes = self.offers().map(|offer| offer.written.at.hash);
            judged.iter().zip(hashes).zip(&self.basis).all(|((now, hash), before)| {
                now.stall == before.stall && (now.covered == before.covered || !rivals.contains(&hash))
            })
        };
        if self.built && judged.len() == self.basis.len() && same(&self.rivals) {
            return false;
        }
        self.build(&judged);
        (self.basis, self.built) = (judged, true);
        true
    }

    fn build(&mut self, judged: &[Judgement]) {
        type Candidate<'a> = ((u64, Hash), &'a Arc<Product>);
        let mut candidates: BTreeMap<(&str, &str), Vec<Candidate<'_>>> = BTreeMap::new();
        let mut replaced: BTreeMap<(&str, &str), BTreeSet<Hash>> = BTreeMap::new();
        for (offer, judgement) in self.offers.values().flatten().zip(judged) {
            let Some(stall) = &judgement.stall else { continue };
            for product in &offer.products {
                let key = (stall.as_str(), product.sku.as_str());
                candidates.entry(key).or_default().push(((judgement.covered, offer.written.at.hash), product));
                if !offer.replaces.is_empty() {
                    replaced.entry(key).or_default().extend(&offer.replaces);
                }
            }
        }
        let mut rivals = BTreeSet::new();
        let mut stalls: BTreeMap<String, (StallCatalog, BTreeSet<Hash>)> = BTreeMap::new();
        for (key, mut offered) in candidates {
            offered.retain(|((_, hash), _)| replaced.get(&key).is_none_or(|replaced| !replaced.contains(hash)));
            if offered.len() > 1 {
                rivals.extend(offered.iter().map(|((_, hash), _)| *hash));
            }
            let counts = match planted::is_on(Bug::FirstComes) {
                true => offered.into_iter().next(),
                false => offered.into_iter().max_by_key(|(rank, _)| *rank),
            };
            let Some(((_, hash), product)) = counts else { continue };
            if !stalls.contains_key(key.0) {
                stalls.insert(key.0.to_owned(), Default::default());
            }
            if let Some((stall, entries)) = stalls.get_mut(key.0) {
                entries.insert(hash);
                if !product.withdrawn {
                    stall.products.insert(key.1.to_owned(), product.clone());
                }
            }
        }
        self.rivals = rivals;
        self.stalls = stalls
            .into_iter()
            .map(|(name, (mut stall, entries))| {
                let hasher = Hasher::new(Domain::CatalogVersion);
                stall.version =
                    entries.iter().fold(hasher, |hasher, hash| hasher.bytes(hash.as_bytes())).finish().prefix();
                (name, stall)
            })
            .collect();
    }

    /// By stall; as of the last [`Catalog::refresh`].
    pub(crate) fn stalls(&self) -> impl Iterator<Item = (&str, &StallCatalog)> {
        self.stalls.iter().map(|(name, stall)| (name.as_str(), stall))
    }

    pub(crate) fn stall(&self, name: &str) -> Option<&StallCatalog> {
        self.stalls.get(name)
    }

    /// Entries of a stall that offer one of these SKUs and are not replaced yet: what a change names.
    pub(crate) fn entries_offering(&self, stall: &str, skus: &BTreeSet<&str>) -> Vec<Hash> {
        let mut hashes: BTreeSet<Hash> = BTreeSet::new();
        let mut replaced: BTreeSet<Hash> = BTreeSet::new();
        for (offer, judgement) in self.offers().zip(&self.basis) {
            let offers_any = || offer.products.iter().any(|product| skus.contains(product.sku.as_str()));
            if judgement.stall.as_deref() != Some(stall) || !offers_any() {
                continue;
            }
            hashes.insert(offer.written.at.hash);
            // A replaced entry needs no second mention where the new one names all of its products.
            if offer.products.iter().all(|product| skus.contains(product.sku.as_str())) {
                replaced.extend(&offer.replaces);
            }
        }
        hashes.difference(&replaced).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use stallmesh_protocol::membership::Position;
    use stallmesh_protocol::{Incarnation, Lane, LogName};

    use super::*;

    fn written(author: u8, hash: u8) -> Written {
        let log = LogName {
            author: DeviceId::from_bytes([author; 32]),
            incarnation: Incarnation::from_bytes([0; 16]),
            lane: Lane::CATALOG,
        };
        Written {
            at: Position { log, sequence: u64::from(hash), hash: Hash::from_bytes([hash; 32]) },
            timestamp: 0,
            seen: [0; 8],
        }
    }

    fn products(price: u64, replaces: &[u8]) -> payload::Products {
        payload::Products {
            products: vec![Product { sku: "MUG".into(), name: "Mug".into(), price, ..Product::default() }],
            replaces: replaces.iter().map(|hash| vec![*hash; 32]).collect(),
        }
    }

    fn judged(covered: impl Fn(u8) -> u64) -> impl Fn(&Written) -> Judgement {
        move |written| Judgement { stall: Some("pots".into()), covered: covered(written.at.hash.as_bytes()[0]) }
    }

    fn price(catalog: &Catalog) -> u64 {
        catalog.stall("pots").unwrap().get("MUG").unwrap().price
    }

    #[test]
    fn it_is_built_anew_only_where_something_that_matters_changed() {
        let mut catalog = Catalog::default();
        catalog.insert(written(1, 1), products(100, &[]));
        assert!(catalog.refresh(judged(|_| u64::MAX)));
        assert!(!catalog.refresh(judged(|_| u64::MAX)));
        assert!(!catalog.refresh(judged(|_| 4)), "a checkpoint covers the only offer: nothing else wins");
        catalog.insert(written(2, 2), products(200, &[]));
        assert!(catalog.refresh(judged(|_| u64::MAX)));
        assert_eq!(price(&catalog), 200, "of two uncovered ones the greater hash");
        assert!(catalog.refresh(judged(|hash| if hash == 1 { u64::MAX } else { 4 })));
        assert_eq!(price(&catalog), 100, "an uncovered one counts as latest");
        assert!(catalog.refresh(|written| Judgement {
            stall: (written.at.hash.as_bytes()[0] == 2).then(|| "pots".into()),
            covered: 0
        }));
        assert_eq!(price(&catalog), 200, "an entry without effect offers nothing");
    }

    #[test]
    fn a_change_names_what_it_replaces() {
        let mut catalog = Catalog::default();
        catalog.insert(written(1, 9), products(100, &[]));
        catalog.refresh(judged(|_| 0));
        let before = catalog.stall("pots").unwrap().version();
        assert_eq!(catalog.entries_offering("pots", &["MUG"].into()), [Hash::from_bytes([9; 32])]);
        catalog.insert(written(1, 1), products(50, &[9]));
        catalog.refresh(judged(|_| 0));
        assert_eq!(price(&catalog), 50);
        assert_ne!(catalog.stall("pots").unwrap().version(), before);
        assert_eq!(catalog.entries_offering("pots", &["MUG"].into()), [Hash::from_bytes([1; 32])]);
        assert_eq!(catalog.entries_offering("tea", &["MUG"].into()), []);
    }
}
