//! A catalog, ready to be asked: products by SKU, and how each is taxed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use stallmesh_protocol::money::{self, AMOUNT_MAX};

use super::calendar::TimeZone;
use super::files::{CatalogFile, ProductFile, TaxNames, TaxRounding, Unit};
use super::taxes::{Plan, Rates};
use super::{Problem, ProblemCode, Source, words};

/// What is for sale.
#[derive(Clone, Debug)]
pub struct Catalog {
    currency: String,
    prices_include_tax: bool,
    tax_rounding: TaxRounding,
    cash_rounding: u64,
    zone: TimeZone,
    rates: Rates,
    plans: Vec<Plan>,
    products: Vec<Product>,
    by_sku: HashMap<Arc<str>, u32>,
    version: String,
}

/// One thing that is for sale.
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) sku: Arc<str>,
    pub(super) price: u64,
    pub(super) is_piece: bool,
    pub(super) categories: Vec<String>,
    pub(super) tags: Vec<String>,
    /// Place of its taxes among the plans.
    pub(super) plan: u32,
}

impl Catalog {
    /// Checks a file and makes an index of it: time and memory grow with its size.
    ///
    /// # Errors
    /// What it says can't be, with the field.
    pub fn new(file: &CatalogFile) -> Result<Self, Problem> {
        Catalog::build(file, &mut |_, problem| Err(problem))
    }

    /// As [`Catalog::new`], without the products that can't be: one of them keeps nobody from selling the others.
    ///
    /// # Errors
    /// What the file says beside its products can't be.
    pub fn without_wrong(file: &CatalogFile) -> Result<(Self, Vec<(usize, Problem)>), Problem> {
        let mut wrong = Vec::new();
        let catalog = Catalog::build(file, &mut |index, problem| {
            wrong.push((index, problem));
            Ok(())
        })?;
        Ok((catalog, wrong))
    }

    fn build(
        file: &CatalogFile,
        on_wrong: &mut dyn FnMut(usize, Problem) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        let wrong = |field: String, detail: String| Problem::invalid(Source::Catalog, field, detail);
        if money::exponent(&file.currency).is_err() {
            let detail = format!("`{}` is no ISO 4217 currency in use", file.currency);
            return Err(wrong("currency".into(), detail).with_code(ProblemCode::Currency));
        }
        if !(1..=AMOUNT_MAX).contains(&file.cash_rounding) {
            return Err(wrong("cash_rounding".into(), "must be 1 or more, in minor units".into()));
        }
        let zone = TimeZone::read(&file.time_zone)?;
        let rates = Rates::new(&file.tax_rates.0)?;
        let mut plans: Vec<Plan> = Vec::new();
        let mut known: HashMap<&TaxNames, u32> = HashMap::new();
        let mut products = Vec::with_capacity(file.products.len());
        let mut by_sku = HashMap::with_capacity(file.products.len());
        for (index, product) in file.products.iter().enumerate() {
            let plan = match check(index, product) {
                Err(problem) => Err(problem),
                Ok(()) => match known.get(&product.tax) {
                    Some(plan) => Ok(*plan),
                    None => {
                        let detailed = rates.plan(&product.tax, file.prices_include_tax);
                        let plan = detailed.map_err(|detail| wrong(format!("products[{index}].tax"), detail));
                        plan.map(|plan| {
                            plans.push(plan);
                            let place = plans.len() as u32 - 1;
                            known.insert(&product.tax, place);
                            place
                        })
                    }
                },
            };
            let plan = match plan {
                Ok(plan) => plan,
                Err(problem) => {
                    on_wrong(index, problem)?;
                    continue;
                }
            };
            let sku: Arc<str> = product.sku.as_str().into();
            let place = products.len() as u32;
            if *by_sku.entry(Arc::clone(&sku)).or_insert(place) != place {
                let detail = format!("`{}` stands twice", product.sku);
                on_wrong(index, wrong(format!("products[{index}].sku"), detail))?;
                continue;
            }
            products.push(Product {
                sku,
                price: product.price,
                is_piece: product.unit == Unit::Piece,
                categories: product.categories.clone(),
                tags: product.tags.clone(),
                plan,
            });
        }
        let version = words::version(|hasher| {
            let mut head = file.clone();
            head.products = Vec::new();
            words::part(hasher, &serde_json::to_vec(&head).unwrap_or_default());
            let ordered: BTreeMap<&str, usize> =
                file.products.iter().enumerate().map(|(index, product)| (product.sku.as_str(), index)).collect();
            for index in ordered.into_values() {
                words::part(hasher, &serde_json::to_vec(&file.products[index]).unwrap_or_default());
            }
        });
        Ok(Catalog {
            currency: file.currency.clone(),
            prices_include_tax: file.prices_include_tax,
            tax_rounding: file.tax_rounding,
            cash_rounding: file.cash_rounding,
            zone,
            rates,
            plans,
            products,
            by_sku,
            version,
        })
    }

    /// By ISO 4217.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// Where the market is.
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Names its content.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether prices include their taxes.
    pub fn prices_include_tax(&self) -> bool {
        self.prices_include_tax
    }

    pub(super) fn tax_rounding(&self) -> TaxRounding {
        self.tax_rounding
    }

    pub(super) fn rates(&self) -> &Rates {
        &self.rates
    }

    pub(super) fn plan(&self, place: u32) -> &Plan {
        &self.plans[place as usize]
    }

    pub(super) fn product(&self, sku: &str) -> Option<&Product> {
        self.by_sku.get(sku).and_then(|index| self.products.get(*index as usize))
    }

    /// A total as it is paid in coins: the nearest multiple, halves up.
    pub fn round_cash(&self, total: u64) -> Option<u64> {
        let step = self.cash_rounding;
        let (whole, rest) = (total / step, total % step);
        whole.checked_add(u64::from(rest >= step - rest))?.checked_mul(step)
    }
}

/// What must hold of a product for itself.
fn check(index: usize, product: &ProductFile) -> Result<(), Problem> {
    let field = |name: &str| format!("products[{index}].{name}");
    if product.sku.is_empty() {
        return Err(Problem::invalid(Source::Catalog, field("sku"), "must not be empty"));
    }
    for (name, amount) in [("price", product.price), ("cost", product.cost.unwrap_or(0))] {
        if amount > AMOUNT_MAX {
            return Err(Problem::range(Source::Catalog, field(name), "more than can be counted"));
        }
    }
    Ok(())
}
