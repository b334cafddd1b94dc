//! What a basket costs at this device's stall: the quote, over what the entries that are held say.
//!
//! Catalog and promotions are compiled into the quote's index when they have changed, by whoever asks next; a scan that
//! changes nothing but the basket pays for the basket alone.

use std::collections::BTreeMap;

use stallmesh_protocol::certificate::Certificate;
use stallmesh_protocol::payload;

use super::catalog::StallCatalog;
use super::conditions::InForce;
use super::{Engine, Failure, FailureCode, QuoteView};
use crate::quote::files::{Answer, BasketFile, CatalogFile, Number, ProductFile, PromotionFile, TaxNames, Unit};
use crate::quote::{Catalog, Moment, Promotions, Scratch, quote_with};
use crate::store::Store;

/// What the index was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Basis {
    stall: String,
    currency: String,
    pub(crate) policy: Vec<u8>,
    pub(crate) catalog: [u8; 8],
    pub(crate) promotions: Vec<u8>,
}

/// The index.
#[derive(Debug)]
struct Compiled {
    basis: Basis,
    catalog: Catalog,
    promotions: Promotions,
    /// Why some products can't be sold, by SKU.
    unsellable: BTreeMap<String, String>,
    /// Why some promotions act nowhere, by id.
    idle: BTreeMap<String, String>,
}

/// The stall's index, and memory of earlier quotes.
#[derive(Debug, Default)]
pub(crate) struct Pricing {
    compiled: Option<Compiled>,
    scratch: Scratch,
}

/// A quote with what a sale cites.
pub(crate) struct Priced {
    pub(crate) answer: Answer,
    pub(crate) basis: Basis,
    pub(crate) in_force: InForce,
}

impl<S: Store> Engine<S> {
    /// What a basket costs now.
    pub(crate) fn quote(&mut self, basket: &BasketFile) -> Result<QuoteView, Failure> {
        let certificate = self.own_stall()?;
        let priced = self.price(&certificate.stall, basket)?;
        let stock = self.stock_hints(&certificate.stall, &priced.answer);
        Ok(QuoteView { quote: priced.answer, stale: priced.in_force.stale.into_iter().collect(), stock })
    }

    /// The certificate by which this device belongs to a stall.
    pub(crate) fn own_stall(&self) -> Result<Certificate, Failure> {
        let Some(certificate) = self.views.membership.certificate(&self.device.id()).cloned() else {
            return Err(Failure::new(FailureCode::ENotMember, "this device is in no market yet: join one first"));
        };
        if certificate.stall.is_empty() {
            return Err(Failure::new(FailureCode::EScope, "this device belongs to no stall, so it can't sell"));
        }
        Ok(certificate)
    }

    /// What a basket costs now at a stall. What promotions of limited number are gone is at least what this device has
    /// given of them itself.
    pub(crate) fn price(&mut self, stall: &str, basket: &BasketFile) -> Result<Priced, Failure> {
        self.compile(stall)?;
        let now = self.time();
        let in_force = self.views.conditions(stall, now);
        let Some(compiled) = &self.pricing.compiled else {
            return Err(Failure::new(FailureCode::EUnavailable, "the stall's prices aren't there"));
        };
        let mut basket = basket.clone();
        for (promotion, uses) in self.sales.promotions_used() {
            let used = basket.used.0.entry(promotion.clone()).or_insert(0);
            *used = (*used).max(*uses);
        }
        let at = Moment::of_clock(now, compiled.catalog.time_zone());
        let (catalog, promotions) = (&compiled.catalog, &compiled.promotions);
        let answer = quote_with(&mut self.pricing.scratch, catalog, promotions, &basket, &in_force.conditions, &at);
        let answer = answer.map_err(|problem| {
            let mut failure = Failure::from(problem);
            if failure.code == FailureCode::EUnknownSku {
                let named = |index: usize| failure.field.as_deref() == Some(format!("lines[{index}].sku").as_str());
                let line = basket.lines.iter().enumerate().find(|(index, _)| named(*index));
                let line = line.and_then(|(_, line)| compiled.unsellable.get(&line.sku));
                failure.detail = match line {
                    Some(why) => format!("{}: it is in the catalog, but can't be sold: {why}", failure.detail),
                    None => failure.detail,
                };
            }
            failure
        })?;
        Ok(Priced { answer, basis: compiled.basis.clone(), in_force })
    }

    /// A total as it is paid in coins.
    pub(crate) fn round_cash(&self, total: u64) -> Option<u64> {
        self.pricing.compiled.as_ref()?.catalog.round_cash(total)
    }

    /// Why promotions act nowhere at a stall, by id.
    pub(crate) fn idle_promotions(&mut self, stall: &str) -> Result<&BTreeMap<String, String>, Failure> {
        self.compile(stall)?;
        let compiled = self.pricing.compiled.as_ref();
        compiled
            .map(|compiled| &compiled.idle)
            .ok_or_else(|| Failure::new(FailureCode::EUnavailable, "the stall's prices aren't there"))
    }

    /// Makes the stall's index anew where something has changed that it was made of.
    fn compile(&mut self, stall: &str) -> Result<(), Failure> {
        let now = self.time();
        self.views.refresh_catalog(now);
        self.views.refresh_promotions();
        let policy = self.views.policy_of_quotes();
        let products = self.views.catalog().stall(stall);
        let basis = Basis {
            stall: stall.to_owned(),
            currency: self.views.market().map(|market| market.currency.clone()).unwrap_or_default(),
            policy: policy.map(|(written, _)| written.at.hash.prefix().to_vec()).unwrap_or_default(),
            catalog: products.map(StallCatalog::version).unwrap_or_default(),
            promotions: self.views.promotions().version(stall),
        };
        if self.pricing.compiled.as_ref().is_some_and(|compiled| compiled.basis == basis) {
            return Ok(());
        }
        let nothing = payload::Policy::default();
        let terms = super::market::terms(policy.map_or(&nothing, |(_, policy)| policy), &basis.currency)?;
        let products = products.into_iter().flat_map(|products| products.products()).map(to_file);
        let file = CatalogFile { products: products.collect(), ..terms };
        let (catalog, wrong) = Catalog::without_wrong(&file)?;
        let unsellable = wrong
            .into_iter()
            .filter_map(|(index, problem)| Some((file.products.get(index)?.sku.clone(), problem.detail)));
        let unsellable = unsellable.collect();
        let files: Vec<PromotionFile> = self.views.promotions().at_stall(stall).into_iter().cloned().collect();
        let (promotions, wrong) = Promotions::without_wrong(&catalog, &files);
        let idle =
            wrong.into_iter().filter_map(|(index, problem)| Some((files.get(index)?.id.clone(), problem.detail)));
        let idle = idle.collect();
        self.pricing.compiled = Some(Compiled { basis, catalog, promotions, unsellable, idle });
        Ok(())
    }
}

fn to_file(product: payload::Product) -> ProductFile {
    ProductFile {
        sku: product.sku,
        name: product.name,
        price: product.price,
        tax: TaxNames(product.taxes),
        categories: product.categories,
        tags: product.tags,
        unit: match product.unit {
            1 => Unit::Kg,
            2 => Unit::G,
            3 => Unit::L,
            4 => Unit::M,
            _ => Unit::Piece,
        },
        barcodes: product.barcodes,
        stock: Number::parse(&product.stock),
        pictures: Vec::new(),
        variant_of: Some(product.variant_of).filter(|of| !of.is_empty()),
        cost: None,
        x: None,
    }
}
