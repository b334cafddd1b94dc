//! What this device says to the market of what it sells: products, promotions, and what is so now; and what it knows of
//! what all stalls say.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use stallmesh_protocol::certificate::{Certificate, Role, Scope};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::{Kind, Lane};

use super::catalog::Counted;
use super::conditions::{self, CONDITIONS_MAX, LIFE_MAX};
use super::promotions::{TERMS_MAX, borne_of, terms_of};
use super::stock::Amount;
use super::{
    ConditionView, ConditionsOrder, Engine, Failure, FailureCode, FoundView, ProductView, PromotionView,
    PromotionsOrder,
};
use crate::quote::files::{Number, Owner, PromotionFile};
use crate::quote::{Catalog, Problem, Promotions};
use crate::search::{Found, Query};
use crate::store::Store;

/// Products in one entry: large enough that signatures and headers don't count, small enough to pass quickly.
const PRODUCTS_PER_ENTRY: usize = 100;
/// Bytes of products in one entry, of which its payload's limit leaves room for what stands beside them.
const BYTES_PER_ENTRY: usize = 32 * 1024;
/// The longest product, in bytes, as an entry has it.
const PRODUCT_MAX: usize = 8 * 1024;
/// Products in one request.
const PRODUCTS_MAX: usize = 200_000;
/// Products that a search gives at once; one more says that there are more.
const FOUND_MAX: usize = 201;
/// Promotions in one request.
const PROMOTIONS_MAX: usize = 5_000;
/// Bytes of terms in one entry, of which its payload's limit leaves room for what stands beside them.
const TERMS_PER_ENTRY: usize = 32 * 1024;

fn invalid(detail: impl Into<String>) -> Failure {
    Failure::new(FailureCode::EInvalid, detail)
}

impl<S: Store> Engine<S> {
    /// Products by stall and SKU.
    pub(super) fn search(
        &mut self,
        stall: Option<&str>,
        query: &str,
        after: Option<&(String, String)>,
        limit: usize,
    ) -> Vec<ProductView> {
        let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
        let stalls = self.views.catalog().stalls().filter(|(name, _)| stall.is_none_or(|stall| stall == *name));
        let found: Vec<(String, payload::Product)> = stalls
            .flat_map(|(name, catalog)| {
                let from = match after {
                    Some((stall, _)) if name < stall.as_str() => catalog.len(),
                    Some((stall, sku)) if name == stall.as_str() => catalog.place_after(sku),
                    _ => 0,
                };
                catalog.products_from(from).map(move |product| (name, product))
            })
            .filter(|(_, product)| {
                let text = format!("{} {}", product.name, product.sku).to_lowercase();
                words.iter().all(|word| text.contains(word.as_str()))
            })
            .take(limit)
            .map(|(name, product)| (name.to_owned(), product))
            .collect();
        found.iter().map(|(stall, product)| self.product_view(stall, product)).collect()
    }

    /// What matches some words of all that stalls offer now, the best first.
    pub(super) fn find_products(
        &mut self,
        query: &str,
        stall: Option<&str>,
        after: Option<&Found>,
        limit: usize,
    ) -> Result<Vec<FoundView>, Failure> {
        let query = Query::read(query)
            .map_err(|error| Failure { field: Some("q".to_owned()), ..invalid(format!("q: {error}")) })?;
        self.finder.refresh(self.views.catalog());
        let mut views = Vec::new();
        for found in self.finder.find(&query, stall, after, limit.min(FOUND_MAX)) {
            let product = self.views.catalog().stall(&found.stall).and_then(|catalog| catalog.get(&found.sku));
            let Some(product) = product else { continue };
            let product = self.product_view(&found.stall, &product);
            views.push(FoundView { product, score: found.score });
        }
        Ok(views)
    }

    pub(super) fn catalog_counts(&self) -> Vec<(String, usize)> {
        let stalls = self.views.catalog().stalls().map(|(name, catalog)| (name.to_owned(), catalog.products().len()));
        stalls.filter(|(_, count)| *count > 0).collect()
    }

    pub(super) fn publish_products(&mut self, products: Vec<ProductView>) -> Result<(), Failure> {
        let certificate = self.valid_certificate(Scope::PUBLISH_CATALOG)?;
        if certificate.stall.is_empty() {
            return Err(Failure::new(FailureCode::EScope, "this device belongs to no stall"));
        }
        if products.len() > PRODUCTS_MAX {
            return Err(Failure::new(FailureCode::EInvalid, format!("more than {PRODUCTS_MAX} products at once")));
        }
        let mut seen = BTreeSet::new();
        for (index, product) in products.iter().enumerate() {
            check_product(index, product)?;
            if !seen.insert(product.sku.as_str()) {
                return Err(Failure::new(
                    FailureCode::EInvalid,
                    format!("products[{index}].sku: `{}` comes twice", product.sku),
                ));
            }
        }
        let now = self.time();
        let products = self.with_counts(&certificate.stall, products, now);
        // What is offered already under the same SKU and unchanged needs no new entry.
        let offered = self.views.catalog().stall(&certificate.stall);
        let known = |sku: &str| offered.and_then(|offered| offered.get(sku));
        let changed: Vec<&ProductView> = products
            .iter()
            .filter(|product| {
                let counted = offered.and_then(|offered| offered.counted(&product.sku));
                known(&product.sku).is_none_or(|known| !is_same(&known, counted, product))
            })
            .collect();
        // What takes effect at one time stands together: an entry names what it replaces as a whole.
        let mut changed = changed;
        changed.sort_by_key(|product| product.effective_at.max(now));
        let by_time = changed.chunk_by(|one, next| one.effective_at.max(now) == next.effective_at.max(now));
        for chunk in by_time.flat_map(entries_of) {
            let skus: BTreeSet<&str> = chunk.iter().map(|product| product.sku.as_str()).collect();
            let by = chunk.iter().map(|product| product.effective_at).max().unwrap_or(0).max(now);
            let replaces = self.views.catalog().entries_offering(&certificate.stall, &skus, by);
            let message = payload::Products {
                products: chunk.iter().map(|product| to_product(product)).collect(),
                replaces: replaces.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
                stock_changes: Vec::new(),
            };
            self.append_public(Lane::CATALOG, Kind::PRODUCTS, encode(&message))?;
        }
        self.notice(super::Notice::Catalog);
        Ok(())
    }

    /// The certificate by which this device may give promotions, and whether they are the market's.
    fn giver(&self) -> Result<(Certificate, bool), Failure> {
        if self.views.membership.role(&self.device.id()) == Some(Role::Hub) {
            return Ok((self.valid_certificate(Scope::POLICY)?, true));
        }
        let certificate = self.valid_certificate(Scope::PUBLISH_CATALOG)?;
        if certificate.stall.is_empty() {
            return Err(Failure::new(FailureCode::EScope, "this device belongs to no stall"));
        }
        Ok((certificate, false))
    }

    pub(super) fn publish_promotions(&mut self, order: &PromotionsOrder) -> Result<(), Failure> {
        let (certificate, is_market) = self.giver()?;
        if order.give.len() + order.withdraw.len() > PROMOTIONS_MAX {
            return Err(invalid(format!("more than {PROMOTIONS_MAX} promotions at once")));
        }
        let owner = if is_market { Owner::Market } else { Owner::Stall };
        let mut give: Vec<PromotionFile> = order.give.clone();
        for file in &mut give {
            if is_market {
                file.owner = owner;
            } else if file.owner == Owner::Market {
                return Err(invalid(format!("`{}`: only a hub gives the market's promotions", file.id)));
            } else if file.borne_by_market.is_some_and(|percent| !percent.0.is_zero()) {
                return Err(invalid(format!("`{}`: the market pays of its own promotions alone", file.id)));
            }
        }
        self.check_promotions(&give)?;
        self.views.refresh_promotions();
        let giver = (!is_market).then_some(certificate.stall.as_str());
        let given: BTreeMap<&str, String> = self
            .views
            .promotions()
            .of(giver)
            .into_iter()
            .flat_map(|given| given.all().map(|file| (file.id.as_str(), terms_of(file))))
            .collect();
        let mut changes: Vec<payload::Promotion> = Vec::new();
        for file in &give {
            let terms = terms_of(file);
            if terms.len() > TERMS_MAX || file.name.len() > 200 || file.id.len() > 200 {
                return Err(invalid(format!("`{}`: longer than a promotion may be", file.id)));
            }
            // What is given already needs no new entry.
            if given.get(file.id.as_str()) != Some(&terms) {
                let borne_by_market = borne_of(file);
                changes.push(payload::Promotion { id: file.id.clone(), terms, withdrawn: false, borne_by_market });
            }
        }
        for id in order.withdraw.iter().collect::<BTreeSet<_>>() {
            if give.iter().any(|file| file.id == *id) {
                return Err(invalid(format!("`{id}` is given and withdrawn at once")));
            }
            if !given.contains_key(id.as_str()) {
                return Err(Failure::new(FailureCode::ENotFound, format!("no promotion `{id}` is given")));
            }
            let withdrawn = payload::Promotion { id: id.clone(), withdrawn: true, ..payload::Promotion::default() };
            changes.push(withdrawn);
        }
        let lane = if is_market { Lane::CONTROL } else { Lane::CATALOG };
        while !changes.is_empty() {
            let mut bytes = 0;
            let fits = changes.iter().take_while(|change| {
                // With the hash of an entry that it replaces.
                bytes += change.terms.len() + change.id.len() + 64;
                bytes <= TERMS_PER_ENTRY
            });
            let fits = fits.count().max(1);
            let promotions: Vec<payload::Promotion> = changes.drain(..fits).collect();
            let ids = promotions.iter().map(|promotion| promotion.id.as_str());
            let replaces = self.views.promotions().entries_of(giver, ids);
            let replaces = replaces.iter().map(|hash| hash.as_bytes().to_vec()).collect();
            let message = payload::Promotions { promotions, replaces };
            self.append_public(lane, Kind::PROMOTIONS, encode(&message))?;
        }
        self.notice(super::Notice::Promotions);
        Ok(())
    }

    /// Whether promotions can act under the market's terms; what can't is nobody's gain.
    fn check_promotions(&self, files: &[PromotionFile]) -> Result<(), Failure> {
        let policy = self.views.policy_of_quotes().map(|(_, policy)| policy.clone()).unwrap_or_default();
        let currency = self.views.market().map(|market| market.currency.clone()).unwrap_or_default();
        let catalog = Catalog::new(&super::market::terms(&policy, &currency)?)?;
        Promotions::new(&catalog, files)
            .map_err(|problem| Problem { field: format!("give{}", problem.field), ..problem })?;
        Ok(())
    }

    /// The market's promotions and those of a stall.
    pub(super) fn promotions(&mut self, stall: Option<String>) -> Result<Vec<PromotionView>, Failure> {
        self.views.refresh_promotions();
        let own = self.views.membership.stall(&self.device.id()).unwrap_or_default().to_owned();
        let stall = stall.unwrap_or_else(|| own.clone());
        let mut views = Vec::new();
        for giver in [None, Some(stall.as_str())] {
            for file in self.views.promotions().of(giver).into_iter().flat_map(|given| given.all()) {
                let stall = giver.unwrap_or_default().to_owned();
                views.push(PromotionView { stall, promotion: file.clone(), problem: String::new() });
            }
        }
        if !stall.is_empty() && stall == own {
            let idle = self.idle_promotions(&stall)?;
            for view in &mut views {
                view.problem = idle.get(&view.promotion.id).cloned().unwrap_or_default();
            }
        }
        let of_market: BTreeSet<String> =
            views.iter().filter(|view| view.stall.is_empty()).map(|view| view.promotion.id.clone()).collect();
        for view in views.iter_mut().filter(|view| !view.stall.is_empty()) {
            if of_market.contains(&view.promotion.id) {
                view.problem = "a promotion of the market has the same id".to_owned();
            }
        }
        Ok(views)
    }

    pub(super) fn say_conditions(&mut self, order: &ConditionsOrder) -> Result<(), Failure> {
        match self.views.membership.role(&self.device.id()) {
            Some(Role::Hub) => self.valid_certificate(Scope::POLICY)?,
            _ => self.valid_certificate(Scope::SIGNAL)?,
        };
        if order.for_ms == 0 || order.for_ms > LIFE_MAX {
            return Err(invalid(format!("for_ms: 1 to {LIFE_MAX}: a condition lasts a day at most")));
        }
        let said = &order.conditions.0;
        if said.is_empty() || said.len() > CONDITIONS_MAX {
            return Err(invalid(format!("conditions: there must be 1 to {CONDITIONS_MAX}")));
        }
        let expires_at = self.time().saturating_add(order.for_ms);
        let said = said.iter().map(|(name, value)| payload::Condition {
            name: name.clone(),
            value: value.clone(),
            expires_at,
        });
        let message = payload::Conditions { conditions: said.collect() };
        for condition in &message.conditions {
            conditions::check(condition).map_err(|error| invalid(format!("`{}`: {error}", condition.name)))?;
        }
        self.append_public(Lane::SIGNAL, Kind::CONDITIONS, encode(&message))?;
        self.notice(super::Notice::Promotions);
        Ok(())
    }

    /// What is so at this device's stall, and what is over.
    pub(super) fn conditions_here(&self) -> Result<Vec<ConditionView>, Failure> {
        let stall = self.views.membership.stall(&self.device.id()).unwrap_or_default();
        let in_force = self.views.conditions(stall, self.time());
        let holds = in_force.conditions.0.into_iter().map(|(name, value)| {
            let until = in_force.until.get(&name).copied().unwrap_or(0);
            ConditionView { name, value, until }
        });
        let over = in_force.stale.into_iter().map(|name| ConditionView { name, value: String::new(), until: 0 });
        Ok(holds.chain(over).collect())
    }
}

const UNITS: [&str; 5] = ["piece", "kg", "g", "l", "m"];

fn check_product(index: usize, product: &ProductView) -> Result<(), Failure> {
    let invalid =
        |field: &str, detail: &str| Failure::new(FailureCode::EInvalid, format!("products[{index}].{field}: {detail}"));
    if product.sku.is_empty() || product.sku.len() > 120 || product.sku.chars().any(char::is_control) {
        return Err(invalid("sku", "1 to 120 bytes without control characters"));
    }
    if product.name.is_empty() || product.name.len() > 800 {
        return Err(invalid("name", "1 to 800 bytes"));
    }
    if product.name.chars().any(stallmesh_protocol::certificate::is_unprintable) {
        return Err(invalid("name", "has characters that don't print"));
    }
    if !UNITS.contains(&product.unit.as_str()) {
        return Err(invalid("unit", "is none of piece, kg, g, l, m"));
    }
    if to_product(product).encoded_len() > PRODUCT_MAX {
        return Err(invalid("sku", "the product is longer than 8 KiB with all its categories, tags and barcodes"));
    }
    if !product.stock.is_empty() && Number::parse(&product.stock).is_none() {
        return Err(invalid("stock", "is no decimal number"));
    }
    if product.price > stallmesh_protocol::money::AMOUNT_MAX {
        return Err(invalid("price", "is out of range"));
    }
    Ok(())
}

/// Products as entries hold them: so many, and so large together.
fn entries_of<'a, 'b>(products: &'a [&'b ProductView]) -> Vec<&'a [&'b ProductView]> {
    let mut entries = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (place, product) in products.iter().enumerate() {
        let length = to_product(product).encoded_len();
        if place > from && (place - from == PRODUCTS_PER_ENTRY || bytes + length > BYTES_PER_ENTRY) {
            entries.push(&products[from..place]);
            (from, bytes) = (place, 0);
        }
        bytes += length;
    }
    entries.push(&products[from..]);
    entries
}

fn to_product(view: &ProductView) -> payload::Product {
    payload::Product {
        sku: view.sku.clone(),
        name: view.name.clone(),
        price: view.price,
        taxes: view.taxes.clone(),
        categories: view.categories.clone(),
        tags: view.tags.clone(),
        barcodes: view.barcodes.clone(),
        unit: UNITS.iter().position(|unit| *unit == view.unit).unwrap_or(0) as u32,
        stock: view.stock.clone(),
        variant_of: view.variant_of.clone(),
        pictures: Vec::new(),
        withdrawn: false,
        effective_at: view.effective_at,
        counted_at: view.counted_at,
    }
}

/// A product as its entry has it.
pub(super) fn view_of(stall: &str, product: &payload::Product) -> ProductView {
    ProductView {
        stall: stall.to_owned(),
        sku: product.sku.clone(),
        name: product.name.clone(),
        price: product.price,
        taxes: product.taxes.clone(),
        categories: product.categories.clone(),
        tags: product.tags.clone(),
        barcodes: product.barcodes.clone(),
        unit: UNITS.get(product.unit as usize).copied().unwrap_or("piece").to_owned(),
        stock: product.stock.clone(),
        variant_of: product.variant_of.clone(),
        effective_at: product.effective_at,
        counted_at: 0,
        left: None,
    }
}

/// Whether a product is offered already as somebody wants it to be.
fn is_same(known: &payload::Product, counted: Option<Counted>, wanted: &ProductView) -> bool {
    let is_counted = match counted {
        Some(counted) => Amount::parse(&wanted.stock) == Some(counted.count) && wanted.counted_at == counted.at,
        None => wanted.stock.is_empty(),
    };
    let wanted = to_product(wanted);
    let known = payload::Product {
        effective_at: wanted.effective_at,
        stock: wanted.stock.clone(),
        counted_at: wanted.counted_at,
        ..known.clone()
    };
    is_counted && known == wanted && wanted.effective_at <= known.effective_at
}
