//! A basket's lines while it is worked out.

use rust_decimal::Decimal;
use stallmesh_protocol::money::AMOUNT_MAX;

use super::catalog::Product;
use super::effects::Why;
use super::exact;
use super::files::{BasketFile, LineAnswer, LineFile, ReductionAnswer, TaxAnswer};
use super::promotions::Promotions;
use super::{Catalog, Problem, ProblemCode, Source, words};

/// Lines of one basket.
pub(super) const LINES_MAX: usize = 512;
/// Quantities are counted in millionths of a unit.
pub(super) const MICRO: u64 = 1_000_000;
/// Units of one line: a thousand million.
const QUANTITY_MAX: u64 = 1_000_000_000;

/// A basket.
#[derive(Debug)]
pub(super) struct Basket<'a> {
    pub(super) file: &'a BasketFile,
    pub(super) lines: Vec<Line<'a>>,
    /// Of all lines, in the order in which they were applied.
    reductions: Vec<Reduction>,
    pub(super) is_cash: bool,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) product: &'a Product,
    /// Quantity in millionths of a unit.
    pub(super) micro: u64,
    pub(super) price: u64,
    pub(super) gross: u64,
    /// What the reductions so far have left of it.
    pub(super) left: u64,
    /// Reductions that tax doesn't mind.
    untaxed: u64,
}

/// What a promotion takes off a line.
#[derive(Clone, Debug)]
pub(super) struct Reduction {
    pub(super) line: usize,
    pub(super) promotion: u32,
    /// Of tiers: which step acts.
    pub(super) step: Option<usize>,
    pub(super) amount: u64,
    pub(super) why: Why,
}

impl<'a> Basket<'a> {
    pub(super) fn new(catalog: &'a Catalog, file: &'a BasketFile) -> Result<Self, Problem> {
        if file.lines.len() > LINES_MAX {
            return Err(Problem::invalid(Source::Basket, "lines", format!("there are more than {LINES_MAX}")));
        }
        let lines = file.lines.iter().enumerate().map(|(index, line)| Line::new(catalog, line, index));
        let lines = lines.collect::<Result<_, _>>()?;
        Ok(Basket { file, lines, reductions: Vec::new(), is_cash: file.tender.as_deref() == Some("cash") })
    }

    /// Takes something off a line; gives what is left of it.
    pub(super) fn reduce(&mut self, reduction: Reduction, tax_minds: bool) -> Option<u64> {
        let line = self.lines.get_mut(reduction.line)?;
        let amount = reduction.amount.min(line.left);
        line.left -= amount;
        if !tax_minds {
            line.untaxed += amount;
        }
        let left = line.left;
        if amount > 0 {
            self.reductions.push(Reduction { amount, ..reduction });
        }
        Some(left)
    }

    pub(super) fn answer(
        &self,
        index: usize,
        promotions: &Promotions,
        currency: &str,
        taxes: Vec<TaxAnswer>,
        total: u64,
    ) -> LineAnswer {
        let line = &self.lines[index];
        let reductions = self.reductions.iter().filter(|reduction| reduction.line == index).map(|reduction| {
            let promotion = promotions.get(reduction.promotion);
            ReductionAnswer {
                promotion: promotion.id.clone(),
                name: promotion.name.clone(),
                amount: reduction.amount,
                why: promotion.why(reduction, currency),
            }
        });
        let mut quantity = String::with_capacity(8);
        words::push_units(&mut quantity, line.micro);
        LineAnswer {
            sku: line.product.sku.clone(),
            quantity,
            unit_price: line.price,
            gross: line.gross,
            reductions: reductions.collect(),
            net: line.left,
            taxes,
            total,
        }
    }
}

impl<'a> Line<'a> {
    fn new(catalog: &'a Catalog, file: &LineFile, index: usize) -> Result<Self, Problem> {
        let field = |name: &str| format!("lines[{index}].{name}");
        let wrong = |name: &str, detail: String| Problem::invalid(Source::Basket, field(name), detail);
        let product = catalog.product(&file.sku).ok_or_else(|| {
            wrong("sku", format!("the catalog has no product `{}`", file.sku)).with_code(ProblemCode::UnknownSku)
        })?;
        let quantity = file.quantity.0.normalize();
        if quantity <= Decimal::ZERO {
            return Err(wrong("quantity", format!("{} is no quantity: it must be more than zero", file.quantity)));
        }
        if product.is_piece && quantity.scale() > 0 {
            return Err(wrong("quantity", format!("{} of a piece: `{}` is sold in whole pieces", quantity, file.sku)));
        }
        if quantity.scale() > 6 {
            return Err(wrong("quantity", "a quantity has at most 6 decimals".into()));
        }
        if quantity > Decimal::from(QUANTITY_MAX) {
            return Err(Problem::range(Source::Basket, field("quantity"), "more than can be counted"));
        }
        let micro = quantity.mantissa().unsigned_abs() * 10_u128.pow(6 - quantity.scale());
        let micro = u64::try_from(micro).unwrap_or(u64::MAX);
        let price = file.price.unwrap_or(product.price);
        let gross = exact::round(&[i128::from(price), i128::from(micro)], &[i128::from(MICRO)])
            .ok()
            .filter(|gross| *gross <= AMOUNT_MAX && price <= AMOUNT_MAX)
            .ok_or_else(|| {
                let name = if file.price.is_some_and(|price| price > AMOUNT_MAX) { "price" } else { "quantity" };
                Problem::range(Source::Basket, field(name), "the line comes to more than can be counted")
            })?;
        Ok(Line { product, micro, price, gross, left: gross, untaxed: 0 })
    }

    /// Whole units.
    pub(super) fn pieces(&self) -> u64 {
        self.micro / MICRO
    }

    /// What tax is taken on.
    pub(super) fn taxable(&self) -> u64 {
        self.left + self.untaxed
    }
}
