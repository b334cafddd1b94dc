//! Promotions and fees, ready to be asked: checked, in the order in which they act, with an index from products to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use rust_decimal::Decimal;
use stallmesh_protocol::money::AMOUNT_MAX;

use super::basket::{MICRO, Reduction};
use super::calendar::{Hours, Moment};
use super::effects::{Effect, Rate, Why};
use super::files::{ConditionFile, MatcherFile, PromotionFile, Stacking, TaxBase};
use super::lines::{Matchers, MatchersBuilder};
use super::{Catalog, Problem, Source, words};

/// All promotions of a market, by priority and then by id: the order in which they act.
#[derive(Clone, Debug, Default)]
pub struct Promotions {
    all: Vec<Promotion>,
    pub(super) matchers: Matchers,
    /// Which promotions ask for a code, by code.
    by_code: HashMap<String, Vec<u32>>,
    version: String,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Promotion {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    /// What it does, in words, for each of its steps.
    words: Vec<String>,
    priority: i64,
    pub(super) effect: Effect,
    /// On which lines.
    pub(super) items: MatcherId,
    pub(super) stacking: Stacking,
    /// A number of its best_of group.
    pub(super) group: Option<u32>,
    pub(super) tax_minds: bool,
    pub(super) starts: Option<Timestamp>,
    pub(super) ends: Option<Timestamp>,
    pub(super) hours: Vec<Hours>,
    pub(super) requires: Requires,
    pub(super) per_customer: Option<u64>,
    pub(super) total: Option<u64>,
}

/// A place among [`Matchers`].
pub(super) type MatcherId = u32;

/// What must hold.
#[derive(Clone, Debug)]
pub(super) struct Requires {
    pub(super) min_subtotal: u64,
    /// In millionths of a unit.
    pub(super) min_quantity: u64,
    pub(super) items: MatcherId,
    /// One of them is given; empty: none is asked for.
    pub(super) codes: Vec<String>,
    pub(super) conditions: Vec<ConditionFile>,
    pub(super) visits_at_least: u64,
    pub(super) first_purchase: Option<bool>,
    pub(super) groups: Vec<String>,
}

impl Promotions {
    /// Checks files and makes an index of them, for a market's taxes.
    ///
    /// # Errors
    /// What one says can't be, with the field.
    pub fn new(catalog: &Catalog, files: &[PromotionFile]) -> Result<Self, Problem> {
        Promotions::build(catalog, files, &mut |_, problem| Err(problem))
    }

    /// As [`Promotions::new`], without those that can't be, which are named by their places.
    pub fn without_wrong(catalog: &Catalog, files: &[PromotionFile]) -> (Self, Vec<(usize, Problem)>) {
        let mut wrong = Vec::new();
        let promotions = Promotions::build(catalog, files, &mut |index, problem| {
            wrong.push((index, problem));
            Ok(())
        });
        (promotions.unwrap_or_default(), wrong)
    }

    fn build(
        catalog: &Catalog,
        files: &[PromotionFile],
        on_wrong: &mut dyn FnMut(usize, Problem) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        let mut matchers = MatchersBuilder::default();
        let mut groups: HashMap<&str, u32> = HashMap::new();
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        let mut all = Vec::with_capacity(files.len());
        for (index, file) in files.iter().enumerate() {
            let invalid = |place: &str, detail: String| {
                Err(Problem::invalid(Source::Promotions, format!("[{index}]{place}"), detail))
            };
            let group = match (&file.group, file.stacking) {
                _ if file.id.is_empty() => invalid(".id", "must not be empty".into()),
                _ if ids.contains_key(file.id.as_str()) => invalid(".id", format!("`{}` stands twice", file.id)),
                (Some(group), Stacking::BestOf) => {
                    let next = groups.len() as u32;
                    Ok(Some(*groups.entry(group).or_insert(next)))
                }
                (None, Stacking::BestOf) => invalid("", "best_of needs a group: the best of which promotions?".into()),
                _ => Ok(None),
            };
            let promotion =
                group.and_then(|group| Promotion::new(catalog, file, group, &format!("[{index}]"), &mut matchers));
            match promotion {
                Ok(promotion) => {
                    ids.insert(&file.id, index);
                    all.push(promotion);
                }
                Err(problem) => on_wrong(index, problem)?,
            }
        }
        all.sort_by(|one, other| other.priority.cmp(&one.priority).then_with(|| one.id.cmp(&other.id)));
        let mut by_code: HashMap<String, Vec<u32>> = HashMap::new();
        for (place, promotion) in all.iter().enumerate() {
            for code in &promotion.requires.codes {
                by_code.entry(code.clone()).or_default().push(place as u32);
            }
        }
        let version = words::version(|hasher| {
            for index in ids.into_values() {
                words::part(hasher, &serde_json::to_vec(&files[index]).unwrap_or_default());
            }
        });
        Ok(Promotions { all, matchers: matchers.build(), by_code, version })
    }

    /// Names their content, in whatever order they were read.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn all(&self) -> &[Promotion] {
        &self.all
    }

    pub(super) fn get(&self, place: u32) -> &Promotion {
        &self.all[place as usize]
    }

    pub(super) fn with_code(&self, code: &str) -> &[u32] {
        self.by_code.get(code).map_or(&[], Vec::as_slice)
    }
}

impl Promotion {
    fn new(
        catalog: &Catalog,
        file: &PromotionFile,
        group: Option<u32>,
        field: &str,
        matchers: &mut MatchersBuilder,
    ) -> Result<Self, Problem> {
        let wrong = |name: &str, detail: &str| Problem::invalid(Source::Promotions, format!("{field}.{name}"), detail);
        let effect = Effect::read(catalog, &file.effect, &format!("{field}.effect"), matchers)?;
        let every = MatcherFile::default();
        if effect.is_bundle() && file.items.is_some() {
            return Err(wrong("items", "a bundle's parts say which lines: `items` has no meaning beside them"));
        }
        if file.limits.per_basket.is_some() && !effect.repeats() {
            return Err(wrong("limits.per_basket", "only buy/get and bundles repeat in one basket"));
        }
        if let Some(share) = file.borne_by_market {
            Rate::read(share, &format!("{field}.borne_by_market"))?;
        }
        let moment = |text: &Option<String>, name: &str| match text {
            None => Ok(None),
            Some(text) => {
                Moment::read(text).map(|moment| Some(moment.instant())).map_err(|problem| wrong(name, &problem.detail))
            }
        };
        let (starts, ends) = (moment(&file.starts_at, "starts_at")?, moment(&file.ends_at, "ends_at")?);
        if starts.zip(ends).is_some_and(|(starts, ends)| ends <= starts) {
            return Err(wrong("ends_at", "it ends before it starts"));
        }
        let hours = file.hours.iter().enumerate();
        let hours = hours.map(|(index, hours)| Hours::read(hours, &format!("{field}.hours[{index}]")));
        let items = matchers.add(file.items.as_ref().unwrap_or(&every));
        let requires = &file.requires;
        let min_quantity = match requires.min_quantity {
            None => 0,
            Some(number) => micro(number.0).ok_or_else(|| wrong("requires.min_quantity", "no quantity"))?,
        };
        let customer = requires.customer.clone().unwrap_or_default();
        Ok(Promotion {
            id: file.id.as_str().into(),
            name: file.name.as_str().into(),
            words: effect.words(catalog.currency()),
            priority: file.priority,
            effect: effect.with_limit(file.limits.per_basket),
            items,
            stacking: file.stacking,
            group,
            tax_minds: file.tax_base == TaxBase::After,
            starts,
            ends,
            hours: hours.collect::<Result<_, _>>()?,
            requires: Requires {
                min_subtotal: requires.min_subtotal.unwrap_or(0),
                min_quantity,
                items: requires.items.as_ref().map_or(items, |items| matchers.add(items)),
                codes: requires.codes.clone(),
                conditions: requires.conditions.clone(),
                visits_at_least: customer.visits_at_least.unwrap_or(0),
                first_purchase: customer.first_purchase,
                groups: customer.groups,
            },
            per_customer: file.limits.per_customer,
            total: file.limits.total,
        })
    }

    /// A sentence for a difference.
    pub(super) fn why(&self, reduction: &Reduction, currency: &str) -> String {
        let mut sentence = String::with_capacity(48);
        sentence.push_str(self.words.get(reduction.step.unwrap_or(0)).map_or("", String::as_str));
        match reduction.why {
            Why::OfLine(worth) => {
                sentence.push_str(" of ");
                words::push_amount(&mut sentence, worth, currency);
            }
            Why::OfUnits(micro) => {
                sentence.push_str(", for ");
                words::push_units(&mut sentence, micro);
            }
            Why::Share(total) => {
                sentence.push_str(": a share of ");
                words::push_amount(&mut sentence, total, currency);
            }
        }
        sentence
    }
}

/// A decimal quantity in millionths; `None` where it is none.
pub(super) fn micro(number: Decimal) -> Option<u64> {
    let number = number.normalize();
    let fits = !number.is_sign_negative() && number.scale() <= 6 && number <= Decimal::from(AMOUNT_MAX / MICRO);
    fits.then(|| u64::try_from(number.mantissa().unsigned_abs() * 10_u128.pow(6 - number.scale())).ok()).flatten()
}
