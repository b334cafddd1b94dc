//! What all stalls offer: a view of the product entries that are held.
//!
//! Products are kept once, encoded as their entries have them: a tenth of what they take as structures, and a sale reads
//! few of them. The view points at them. It is built anew only where something that it depends on has changed: an entry,
//! whether an author may publish, or which of two rivals comes first.

mod finder;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::payload::{self, Product};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{DeviceId, Hash};

pub(crate) use self::finder::Finder;
use super::stock::Amount;
use super::views::Written;

/// The key of a product's first field, its SKU, on the wire: field 1, bytes.
const SKU_KEY: u8 = 0x0a;

/// A product as it is encoded.
#[derive(Clone, Debug)]
struct Packed {
    bytes: Arc<[u8]>,
    withdrawn: bool,
    /// From then on it is offered so, in milliseconds since 1970; 0: at once.
    effective_at: u64,
    /// What was counted of it; `None`: nothing is.
    stock: Option<Amount>,
    /// As the entry says it.
    counted_at: u64,
}

impl Packed {
    fn new(product: &Product) -> Self {
        Packed {
            bytes: product.encode_to_vec().into(),
            withdrawn: product.withdrawn,
            effective_at: product.effective_at,
            stock: Amount::parse(&product.stock),
            counted_at: product.counted_at,
        }
    }

    /// When its stock was counted, if it says anything of it, given when its entry was written.
    fn counted(&self, written: u64) -> Option<u64> {
        match self.counted_at {
            0 => self.stock.map(|_| written),
            at => Some(at.min(written)),
        }
    }

    fn sku(&self) -> &str {
        sku_of(&self.bytes)
    }

    fn product(&self) -> Product {
        // It was encoded here.
        Product::decode(&*self.bytes).unwrap_or_default()
    }
}

/// The SKU of an encoded product.
fn sku_of(bytes: &[u8]) -> &str {
    let Some((&SKU_KEY, rest)) = bytes.split_first() else { return "" };
    let Ok(length) = prost::decode_length_delimiter(rest) else { return "" };
    let text = rest.get(prost::length_delimiter_len(length)..).and_then(|text| text.get(..length));
    text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

/// One entry that offers products.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) written: Written,
    products: Vec<Packed>,
    replaces: Vec<Hash>,
    changes: Vec<(String, Amount)>,
    /// Whether it says anything of stocks.
    counts: bool,
}

/// What the catalog says of a product's stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The last count.
    pub(crate) count: Amount,
    /// When it was taken, in milliseconds since 1970.
    pub(crate) at: u64,
    /// What came or went since, beside sales.
    pub(crate) changed: Amount,
}

/// What the view needs to know of one entry beside what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// The stall that its author may publish for; `None`: the entry has no effect.
    pub(crate) stall: Option<String>,
    /// Its place among versions of one product: the later covering checkpoint wins, an uncovered entry counts as latest.
    pub(crate) covered: u64,
    /// When it counts as written, in milliseconds since 1970: between the checkpoint that it had seen and the one that
    /// covers it.
    pub(crate) time: u64,
}

/// One stall's part.
#[derive(Debug, Default)]
pub(crate) struct StallCatalog {
    /// By SKU.
    products: Vec<Packed>,
    /// By SKU, of those whose stock is counted.
    counted: BTreeMap<Box<str>, Counted>,
    /// First 8 bytes of a hash over the entries that make it up: what a sale cites.
    version: [u8; 8],
}

impl StallCatalog {
    pub(crate) fn get(&self, sku: &str) -> Option<Product> {
        let at = self.products.binary_search_by(|product| product.sku().cmp(sku)).ok()?;
        self.products.get(at).map(Packed::product)
    }

    /// What it says of a product's stock, where that is counted.
    pub(crate) fn counted(&self, sku: &str) -> Option<Counted> {
        self.counted.get(sku).copied()
    }

    /// SKUs whose stock is counted, in order.
    pub(crate) fn all_counted(&self) -> impl Iterator<Item = (&str, Counted)> {
        self.counted.iter().map(|(sku, counted)| (&**sku, *counted))
    }

    pub(crate) fn version(&self) -> [u8; 8] {
        self.version
    }

    pub(crate) fn products(&self) -> impl ExactSizeIterator<Item = Product> {
        self.products_from(0)
    }

    /// All but the first so many.
    pub(crate) fn products_from(&self, from: usize) -> impl ExactSizeIterator<Item = Product> {
        self.products.get(from..).unwrap_or_default().iter().map(Packed::product)
    }

    /// How many stand up to a SKU, with it.
    pub(crate) fn place_after(&self, sku: &str) -> usize {
        self.products.partition_point(|product| product.sku() <= sku)
    }

    pub(crate) fn len(&self) -> usize {
        self.products.len()
    }
}

/// When it takes effect, then as all versions of one thing are ranked.
type Rank = (u64, u64, Hash);
/// One offer of one product: stall, SKU, rank.
type Candidate<'a> = (&'a str, &'a str, Rank, &'a Packed);

/// What comes of all offers at a time.
struct Competition<'a> {
    /// By stall and SKU.
    winners: Vec<Candidate<'a>>,
    rivals: BTreeSet<Hash>,
    next_change: Option<u64>,
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
    /// How often the view was built.
    generation: u64,
    /// When the next change takes effect that was announced.
    next_change: Option<u64>,
    stalls: BTreeMap<String, StallCatalog>,
}

impl Catalog {
    /// Takes in an entry.
    pub(crate) fn insert(&mut self, written: Written, message: payload::Products) {
        let says = |product: &Product| !product.stock.is_empty() || product.counted_at > 0;
        let offer = Offer {
            written,
            counts: !message.stock_changes.is_empty() || message.products.iter().any(says),
            products: message.products.iter().map(Packed::new).collect(),
            replaces: message.replaces.iter().filter_map(|hash| Hash::try_from(hash.as_slice()).ok()).collect(),
            changes: message
                .stock_changes
                .into_iter()
                .filter_map(|change| Some((change.sku, Amount::parse(&change.change)?)))
                .collect(),
        };
        self.offers.entry(written.at.log.author).or_default().push(offer);
        self.built = false;
    }

    pub(crate) fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.offers.values().flatten()
    }

    /// Whether a change that was announced takes effect by a time, in milliseconds since 1970.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.next_change.is_some_and(|next| next <= now)
    }

    /// Builds the view for a time where `judge` says other than before, or a change takes effect. True where it was
    /// built.
    pub(crate) fn refresh(&mut self, now: u64, judge: impl Fn(&Written) -> Judgement) -> bool {
        let judged: Vec<Judgement> = self.offers().map(|offer| judge(&offer.written)).collect();
        let same = |rivals: &BTreeSet<Hash>| {
            judged.iter().zip(self.offers()).zip(&self.basis).all(|((now, offer), before)| {
                now.stall == before.stall
                    && (now.covered == before.covered || !rivals.contains(&offer.written.at.hash))
                    && (now.time == before.time || !offer.counts)
            })
        };
        if self.built && !self.is_due(now) && judged.len() == self.basis.len() && same(&self.rivals) {
            return false;
        }
        self.build(now, &judged);
        (self.basis, self.built) = (judged, true);
        true
    }

    /// Of each product the offer that counts at a time; and what else is to be known of them.
    fn compete<'a>(&'a self, now: u64, judged: &'a [Judgement]) -> Competition<'a> {
        let mut next_change: Option<u64> = None;
        let mut candidates: Vec<Candidate<'_>> = Vec::new();
        let mut replaced: BTreeMap<(&str, &str), BTreeSet<Hash>> = BTreeMap::new();
        for (offer, judgement) in self.offers.values().flatten().zip(judged) {
            let Some(stall) = &judgement.stall else { continue };
            for product in &offer.products {
                if product.effective_at > now && !planted::is_on(Bug::AnnouncedAtOnce) {
                    next_change = Some(next_change.map_or(product.effective_at, |next| next.min(product.effective_at)));
                    continue;
                }
                let rank = (product.effective_at, judgement.covered, offer.written.at.hash);
                candidates.push((stall, product.sku(), rank, product));
                if !offer.replaces.is_empty() {
                    replaced.entry((stall, product.sku())).or_default().extend(&offer.replaces);
                }
            }
        }
        candidates.sort_by_key(|(stall, sku, ..)| (*stall, *sku));
        let (mut rivals, mut winners) = (BTreeSet::new(), Vec::new());
        for offered in candidates.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1)) {
            let Some((stall, sku, ..)) = offered.first().copied() else { continue };
            let replaced = replaced.get(&(stall, sku));
            let left = || {
                offered.iter().filter(|(_, _, (.., hash), _)| replaced.is_none_or(|replaced| !replaced.contains(hash)))
            };
            if left().count() > 1 {
                rivals.extend(left().map(|(_, _, (.., hash), _)| *hash));
            }
            let counts = match planted::is_on(Bug::FirstComes) {
                true => left().next(),
                false => left().max_by_key(|(_, _, rank, _)| *rank),
            };
            winners.extend(counts.copied());
        }
        Competition { winners, rivals, next_change }
    }

    fn build(&mut self, now: u64, judged: &[Judgement]) {
        let Competition { winners, rivals, next_change } = self.compete(now, judged);
        let mut stalls: BTreeMap<String, (StallCatalog, BTreeSet<Hash>)> = BTreeMap::new();
        for (stall, _, (.., hash), product) in winners {
            if !stalls.contains_key(stall) {
                stalls.insert(stall.to_owned(), Default::default());
            }
            if let Some((stall, entries)) = stalls.get_mut(stall) {
                entries.insert(hash);
                if !product.withdrawn {
                    stall.products.push(product.clone());
                }
            }
        }
        for ((stall, sku), counted) in self.counts(judged) {
            if let Some((stall, _)) = stalls.get_mut(stall) {
                stall.counted.insert(sku.into(), counted);
            }
        }
        let stalls = stalls
            .into_iter()
            .map(|(name, (mut stall, entries))| {
                let hasher = Hasher::new(Domain::CatalogVersion);
                stall.version =
                    entries.iter().fold(hasher, |hasher, hash| hasher.bytes(hash.as_bytes())).finish().prefix();
                stall.products.shrink_to_fit();
                (name, stall)
            })
            .collect();
        (self.stalls, self.rivals, self.next_change) = (stalls, rivals, next_change);
        self.generation += 1;
    }

    /// What stalls offer at a time, as far as it is announced: each product with its stall. As of the last
    /// [`Catalog::refresh`].
    pub(crate) fn offered_at(&self, time: u64) -> impl Iterator<Item = (&str, Product)> {
        let winners = self.compete(time, &self.basis).winners.into_iter();
        winners.filter(|(.., product)| !product.withdrawn).map(|(stall, .., product)| (stall, product.product()))
    }

    /// What entries say of stocks: of each product the count that was taken last, whatever else its entry says, and the
    /// changes after it. An announced price is of no matter here: what was counted when it was announced is counted.
    fn counts<'a>(&'a self, judged: &'a [Judgement]) -> BTreeMap<(&'a str, &'a str), Counted> {
        type Count = ((u64, Hash), Option<Amount>);
        let mut counts: BTreeMap<(&str, &str), Count> = BTreeMap::new();
        let effective = || {
            let offers = self.offers.values().flatten().zip(judged);
            let offers = offers.filter(|(offer, _)| offer.counts);
            offers.filter_map(|(offer, judgement)| Some((offer, judgement.stall.as_deref()?, judgement.time)))
        };
        for (offer, stall, written) in effective() {
            for product in &offer.products {
                let Some(at) = product.counted(written) else { continue };
                let count = ((at, offer.written.at.hash), product.stock);
                let known = counts.entry((stall, product.sku())).or_insert(count);
                *known = count.max(*known);
            }
        }
        let mut counted: BTreeMap<(&str, &str), Counted> = counts
            .into_iter()
            .filter_map(|(key, ((at, _), count))| {
                Some((key, Counted { count: count?, at, changed: Amount::default() }))
            })
            .collect();
        for (offer, stall, written) in effective() {
            for (sku, change) in &offer.changes {
                if let Some(counted) = counted.get_mut(&(stall, sku.as_str()))
                    && written >= counted.at
                {
                    counted.changed = counted.changed.plus(*change);
                }
            }
        }
        counted
    }

    /// By stall; as of the last [`Catalog::refresh`].
    pub(crate) fn stalls(&self) -> impl Iterator<Item = (&str, &StallCatalog)> {
        self.stalls.iter().map(|(name, stall)| (name.as_str(), stall))
    }

    pub(crate) fn stall(&self, name: &str) -> Option<&StallCatalog> {
        self.stalls.get(name)
    }

    /// Entries of a stall that offer one of these SKUs, by a time at the latest, and are not replaced yet: what a change
    /// that takes effect then names. What is announced for later stays announced.
    pub(crate) fn entries_offering(&self, stall: &str, skus: &BTreeSet<&str>, by: u64) -> Vec<Hash> {
        let mut hashes: BTreeSet<Hash> = BTreeSet::new();
        let mut replaced: BTreeSet<Hash> = BTreeSet::new();
        for (offer, judgement) in self.offers().zip(&self.basis) {
            let named = |product: &Packed| skus.contains(product.sku()) && product.effective_at <= by;
            let offers_any = || offer.products.iter().any(named);
            if judgement.stall.as_deref() != Some(stall) || !offers_any() {
                continue;
            }
            hashes.insert(offer.written.at.hash);
            // A replaced entry needs no second mention where the new one names all of its products.
            if offer.products.iter().all(named) {
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
            stock_changes: Vec::new(),
        }
    }

    #[test]
    fn a_product_is_found_by_its_sku_as_it_was_offered() {
        let mut catalog = Catalog::default();
        let skus = ["", "A", "ÄÖÜ", "B", &"long".repeat(100)];
        let offered = |sku: &str, withdrawn| Product {
            sku: sku.into(),
            name: format!("a {sku}"),
            price: 7,
            taxes: vec!["food".into()],
            withdrawn,
            ..Product::default()
        };
        for (number, sku) in skus.into_iter().enumerate() {
            let products = vec![offered(sku, false), offered(&format!("gone {sku}"), true)];
            catalog.insert(written(1, number as u8 + 1), payload::Products { products, ..Default::default() });
        }
        catalog.refresh(0, judged(|_| 0));
        let stall = catalog.stall("pots").unwrap();
        assert_eq!(stall.products().len(), skus.len());
        for sku in skus {
            assert_eq!(stall.get(sku), Some(offered(sku, false)));
            assert_eq!(stall.get(&format!("gone {sku}")), None);
        }
        assert_eq!(stall.get("C"), None);
    }

    fn judged(covered: impl Fn(u8) -> u64) -> impl Fn(&Written) -> Judgement {
        move |written| Judgement {
            stall: Some("pots".into()),
            covered: covered(written.at.hash.as_bytes()[0]),
            time: written.timestamp,
        }
    }

    fn price(catalog: &Catalog) -> u64 {
        catalog.stall("pots").unwrap().get("MUG").unwrap().price
    }

    #[test]
    fn it_is_built_anew_only_where_something_that_matters_changed() {
        let mut catalog = Catalog::default();
        catalog.insert(written(1, 1), products(100, &[]));
        assert!(catalog.refresh(0, judged(|_| u64::MAX)));
        assert!(!catalog.refresh(0, judged(|_| u64::MAX)));
        assert!(!catalog.refresh(0, judged(|_| 4)), "a checkpoint covers the only offer: nothing else wins");
        catalog.insert(written(2, 2), products(200, &[]));
        assert!(catalog.refresh(0, judged(|_| u64::MAX)));
        assert_eq!(price(&catalog), 200, "of two uncovered ones the greater hash");
        assert!(catalog.refresh(0, judged(|hash| if hash == 1 { u64::MAX } else { 4 })));
        assert_eq!(price(&catalog), 100, "an uncovered one counts as latest");
        assert!(catalog.refresh(0, |written| Judgement {
            stall: (written.at.hash.as_bytes()[0] == 2).then(|| "pots".into()),
            covered: 0,
            time: 0,
        }));
        assert_eq!(price(&catalog), 200, "an entry without effect offers nothing");
    }

    #[test]
    fn a_change_names_what_it_replaces() {
        let mut catalog = Catalog::default();
        catalog.insert(written(1, 9), products(100, &[]));
        catalog.refresh(0, judged(|_| 0));
        let before = catalog.stall("pots").unwrap().version();
        assert_eq!(catalog.entries_offering("pots", &["MUG"].into(), 0), [Hash::from_bytes([9; 32])]);
        catalog.insert(written(1, 1), products(50, &[9]));
        catalog.refresh(0, judged(|_| 0));
        assert_eq!(price(&catalog), 50);
        assert_ne!(catalog.stall("pots").unwrap().version(), before);
        assert_eq!(catalog.entries_offering("pots", &["MUG"].into(), 0), [Hash::from_bytes([1; 32])]);
        assert_eq!(catalog.entries_offering("tea", &["MUG"].into(), 0), []);
    }
}
