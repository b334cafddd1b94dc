//! What is said of stocks: counts and changes that this device publishes, and what is left as people see it.

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::{Kind, Lane, payload};

use super::{Amount, Taken, taken};
use crate::engine::catalog::Counted;
use crate::engine::publishing::view_of;
use crate::engine::{
    Engine, Failure, FailureCode, LeftView, Notice, ProductView, StockHint, StockKnown, StockOrder, StockView,
};
use crate::quote::files::Answer;
use crate::store::Store;

/// Products of which something is said at once.
const SAID_MAX: usize = 10_000;
/// Changes in one entry: of the longest SKUs they have a third of what a payload may have.
const CHANGES_PER_ENTRY: usize = 100;

/// What there is to say of what is left, to people.
fn hint(left: Amount, wanted: Amount) -> String {
    if left.is_below_zero() {
        format!("{left}: more sold than counted")
    } else if left.is_zero() {
        "none left by the last count".to_owned()
    } else if left < wanted {
        format!("{left} left, {wanted} in this basket")
    } else {
        format!("{left} left")
    }
}

impl<S: Store> Engine<S> {
    /// What is left of a product, as far as this device can know; `wanted` is in a basket already.
    fn left(&mut self, stall: &str, sku: &str, counted: Counted, wanted: Amount) -> (Amount, LeftView) {
        let own = self.device.id();
        let (sold, known) = match self.views.membership.certificate(&own) {
            Some(certificate) if certificate.stall == stall => {
                let known = match certificate.scopes.allows(Scope::READ_SALES) {
                    true => StockKnown::Stall,
                    false => StockKnown::Device,
                };
                (self.sold.since(sku, counted.at), known)
            }
            _ => (Amount::default(), StockKnown::Published),
        };
        let left = counted.count.plus(counted.changed).less(sold);
        (sold, LeftView { amount: left.to_string(), known, hint: hint(left, wanted) })
    }

    /// A product as it is offered, with what is left of it. [`Self::refresh_sold`] goes before.
    pub(crate) fn product_view(&mut self, stall: &str, product: &payload::Product) -> ProductView {
        let mut view = view_of(stall, product);
        let counted = self.views.catalog().stall(stall).and_then(|catalog| catalog.counted(&product.sku));
        match counted {
            Some(counted) => {
                // The last count, if another entry offers the product.
                if Amount::parse(&view.stock) != Some(counted.count) {
                    view.stock = counted.count.to_string();
                }
                view.counted_at = counted.at;
                view.left = Some(self.left(stall, &product.sku, counted, Amount::default()).1);
            }
            None => view.stock.clear(),
        }
        view
    }

    /// Of the products of a basket that are counted, what is left without it.
    pub(crate) fn stock_hints(&mut self, stall: &str, answer: &Answer) -> Vec<StockHint> {
        let counts: Vec<(Counted, Taken)> = {
            let Some(catalog) = self.views.catalog().stall(stall) else { return Vec::new() };
            let wanted = taken(answer.lines.iter().map(|line| (&*line.sku, line.quantity.as_str())));
            wanted.into_iter().filter_map(|wanted| Some((catalog.counted(&wanted.0)?, wanted))).collect()
        };
        if !counts.is_empty() {
            self.refresh_sold();
        }
        let hints = counts.into_iter().map(|(counted, (sku, wanted))| {
            let (_, left) = self.left(stall, &sku, counted, wanted);
            StockHint { sku, left }
        });
        hints.collect()
    }

    /// What is left of a stall's counted products, the least first.
    pub(crate) fn stock(&mut self, stall: Option<String>, limit: usize) -> Result<Vec<StockView>, Failure> {
        let stall = match stall {
            Some(stall) => stall,
            None => self.own_stall()?.stall,
        };
        let Some(catalog) = self.views.catalog().stall(&stall) else { return Ok(Vec::new()) };
        let counted: Vec<(payload::Product, Counted)> =
            catalog.all_counted().filter_map(|(sku, counted)| Some((catalog.get(sku)?, counted))).collect();
        let mut views: Vec<(Amount, StockView)> = Vec::new();
        for (product, counted) in counted {
            let (sold, left) = self.left(&stall, &product.sku, counted, Amount::default());
            let offered = view_of(&stall, &product);
            let view = StockView {
                stall: stall.clone(),
                sku: offered.sku,
                name: offered.name,
                unit: offered.unit,
                counted: counted.count.to_string(),
                counted_at: counted.at,
                changed: counted.changed.to_string(),
                sold: sold.to_string(),
                left,
            };
            views.push((counted.count.plus(counted.changed).less(sold), view));
        }
        views.sort_by(|(one, view), (other, next)| one.cmp(other).then_with(|| view.sku.cmp(&next.sku)));
        Ok(views.into_iter().take(limit).map(|(_, view)| view).collect())
    }

    /// Publishes counts, and what came or went.
    pub(crate) fn set_stock(&mut self, order: &StockOrder) -> Result<(), Failure> {
        let certificate = self.valid_certificate(Scope::PUBLISH_CATALOG)?;
        let invalid = |detail: String| Failure::new(FailureCode::EInvalid, detail);
        if order.changes.len() + order.counts.len() > SAID_MAX {
            return Err(invalid(format!("more than {SAID_MAX} products at once")));
        }
        let now = self.time();
        let stall = certificate.stall;
        let offered = |sku: &str| self.views.catalog().stall(&stall).and_then(|catalog| catalog.get(sku));
        let unknown = |sku: &str| Failure::new(FailureCode::EUnknownSku, format!("this stall offers no `{sku}`"));
        let mut counts = Vec::new();
        for count in &order.counts {
            let product = offered(&count.sku).ok_or_else(|| unknown(&count.sku))?;
            let stock = count.count.map(|count| Amount::of(count.0).to_string()).unwrap_or_default();
            counts.push(ProductView { stock, counted_at: now.max(1), ..view_of(&stall, &product) });
        }
        let counted = |sku: &str| self.views.catalog().stall(&stall).and_then(|catalog| catalog.counted(sku));
        let mut changes = Vec::new();
        for (place, change) in order.changes.iter().enumerate() {
            offered(&change.sku).ok_or_else(|| unknown(&change.sku))?;
            let amount = Amount::of(change.change.0);
            if counted(&change.sku).is_none() || order.counts.iter().any(|count| count.sku == change.sku) {
                let detail =
                    format!("changes[{place}].sku: `{}` isn't counted: say first how many there are", change.sku);
                return Err(invalid(detail));
            }
            if amount.is_zero() {
                return Err(invalid(format!("changes[{place}].change: nothing")));
            }
            changes.push(payload::StockChange { sku: change.sku.clone(), change: amount.to_string() });
        }
        if !counts.is_empty() {
            self.publish_products(counts)?;
        }
        for changes in changes.chunks(CHANGES_PER_ENTRY) {
            let message = payload::Products { stock_changes: changes.to_vec(), ..payload::Products::default() };
            self.append_public(Lane::CATALOG, Kind::PRODUCTS, payload::encode(&message))?;
        }
        self.notice(Notice::Catalog);
        Ok(())
    }

    /// Products with what they say of their stock made clear: the same as before is no new count.
    pub(crate) fn with_counts(&self, stall: &str, mut products: Vec<ProductView>, now: u64) -> Vec<ProductView> {
        let catalog = self.views.catalog().stall(stall);
        for product in &mut products {
            let known = catalog.and_then(|catalog| catalog.counted(&product.sku));
            let same = Amount::parse(&product.stock) == known.map(|known| known.count);
            // Whoever changes what it was told gives the time of the old count along with it.
            let is_told = known.is_some_and(|known| known.at == product.counted_at);
            product.counted_at = match known {
                _ if product.counted_at > 0 && (same || !is_told) => product.counted_at.min(now.max(1)),
                Some(known) if same => known.at,
                Some(_) => now.max(1),
                None => 0,
            };
        }
        products
    }
}
