//! What is left of a stall's products: its last count, less what was sold since, and what else came or went.
//!
//! A function of two sets, whatever the order in which they arrive: counts and changes, which stand in the catalog, and
//! the stall's sales, as far as this device may read them. Of several counts of a product the one that was taken last
//! counts; a sale or change is in a count if its entry's time is before it. Nothing here ever refuses a sale: what was
//! sold more often than it was counted is below zero, and shown so.
//!
//! A sale is read once, when it comes; what it sold stays in the store, also when the sale itself is let go of:
//!
//! ```text
//! sales   "k" ‖ author 32 ‖ incarnation 16 ‖ sequence u64 ‖ hash 32     time u64 ‖ sale id 16 ‖ (length u16 ‖ SKU ‖ amount i64) …
//!         "w" ‖ the same                                                 nothing: it can't be opened here yet
//!         "v"                                                            that all that was held before was looked at
//! ```

mod said;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use stallmesh_protocol::codec::Reader;
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, Head, Kind, Lane, LogName, SaleId};

use super::hub::read_sale;
use super::logs::{Held, Run};
use super::sales::{decode_position, encode_position};
use super::views::position;
use super::{Engine, Notice};
use crate::quote::files::Number;
use crate::store::{Store, StoreError, Table};

/// One unit.
const UNIT: i64 = 1_000_000;
/// The most units of one count, change or sale: more is counted as so many. So no sum of them leaves its type.
const UNITS_MAX: i64 = 1_000_000_000_000;

/// Of something that is sold, in millionths of its unit: whole numbers, so that a sum has one value whatever the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(i128);

impl Amount {
    /// What a decimal says, to six decimals.
    pub(crate) fn of(number: Decimal) -> Self {
        let max = Decimal::from(UNITS_MAX);
        let millionths = (number.clamp(-max, max) * Decimal::from(UNIT)).round();
        Amount(millionths.to_i128().unwrap_or(0))
    }

    /// Reads a decimal.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Number::parse(text).map(|number| Amount::of(number.0))
    }

    pub(crate) fn plus(self, other: Amount) -> Self {
        Amount(self.0.saturating_add(other.0))
    }

    pub(crate) fn less(self, other: Amount) -> Self {
        Amount(self.0.saturating_sub(other.0))
    }

    pub(crate) fn is_below_zero(self) -> bool {
        self.0 < 0
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = i128::from(UNIT).unsigned_abs();
        let (whole, part) = (self.0.unsigned_abs() / unit, self.0.unsigned_abs() % unit);
        let sign = if self.0 < 0 { "-" } else { "" };
        let part = format!("{part:06}");
        match part.trim_end_matches('0') {
            "" => write!(formatter, "{sign}{whole}"),
            part => write!(formatter, "{sign}{whole}.{part}"),
        }
    }
}

/// What a sale took of one product.
pub(crate) type Taken = (String, Amount);

/// What one entry sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sold {
    /// The hash of its entry.
    pub(crate) hash: Hash,
    pub(crate) sale: SaleId,
    /// As the entry says it.
    pub(crate) time: u64,
    pub(crate) taken: Vec<Taken>,
}

/// What was sold of one product.
#[derive(Clone, Debug, Default)]
struct OfProduct {
    /// By time and entry.
    sales: BTreeMap<(u64, Hash), Amount>,
    /// The sum of those from a time on: what is asked for again and again.
    since: Option<(u64, Amount)>,
}

/// What a stall has sold, by product.
#[derive(Debug, Default)]
pub(crate) struct SoldBook {
    /// Whether what the store has is here.
    loaded: bool,
    /// What can't be read yet may be readable now.
    try_again: bool,
    products: BTreeMap<String, OfProduct>,
    /// Of several entries of one sale that with the least hash counts, as in settlement.
    entries: BTreeMap<SaleId, Sold>,
}

impl SoldBook {
    /// Takes in what an entry sold. Order and repetition don't matter.
    pub(crate) fn insert(&mut self, sold: Sold) {
        if self.entries.get(&sold.sale).is_some_and(|counted| counted.hash <= sold.hash) {
            return;
        }
        if let Some(counted) = self.entries.remove(&sold.sale) {
            self.apply(&counted, false);
        }
        self.apply(&sold, true);
        self.entries.insert(sold.sale, sold);
    }

    fn apply(&mut self, sold: &Sold, counts: bool) {
        for (sku, amount) in &sold.taken {
            if !self.products.contains_key(sku) {
                self.products.insert(sku.clone(), OfProduct::default());
            }
            let Some(product) = self.products.get_mut(sku) else { continue };
            let key = (sold.time, sold.hash);
            if counts {
                product.sales.insert(key, *amount);
            } else {
                product.sales.remove(&key);
            }
            if let Some((since, sum)) = &mut product.since
                && (sold.time >= *since || planted::is_on(Bug::SoldAsItCame))
            {
                *sum = if counts { sum.plus(*amount) } else { sum.less(*amount) };
            }
        }
    }

    /// What was sold of a product from a time on, in milliseconds since 1970. It costs a look-up, and a walk over what is
    /// after a new count.
    pub(crate) fn since(&mut self, sku: &str, time: u64) -> Amount {
        let Some(product) = self.products.get_mut(sku) else { return Amount::default() };
        match product.since {
            Some((since, sum)) if since == time => sum,
            _ => {
                let after = product.sales.range((time, Hash::ZERO)..);
                let sum = match planted::is_on(Bug::SoldAsItCame) {
                    true => Amount::default(),
                    false => after.fold(Amount::default(), |sum, (_, amount)| sum.plus(*amount)),
                };
                product.since = Some((time, sum));
                sum
            }
        }
    }
}

/// A sale's lines, each product once.
pub(crate) fn taken<'a>(lines: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Taken> {
    let mut sums: BTreeMap<&str, Amount> = BTreeMap::new();
    for (sku, quantity) in lines {
        let sum = sums.entry(sku).or_default();
        *sum = sum.plus(Amount::parse(quantity).unwrap_or_default());
    }
    sums.into_iter().filter(|(_, amount)| !amount.is_zero()).map(|(sku, amount)| (sku.to_owned(), amount)).collect()
}

impl Sold {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.time.to_be_bytes().as_slice(), self.sale.as_bytes()].concat();
        for (sku, amount) in &self.taken {
            let length = u16::try_from(sku.len()).unwrap_or(0);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&sku.as_bytes()[..usize::from(length)]);
            bytes.extend_from_slice(&amount.0.to_be_bytes());
        }
        bytes
    }

    fn decode(hash: Hash, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let time = u64::from_be_bytes(reader.array("time").ok()?);
        let sale = SaleId::try_from(reader.array::<16>("sale").ok()?.as_slice()).ok()?;
        let mut taken = Vec::new();
        while reader.remaining() > 0 {
            let length = u16::from_be_bytes(reader.array("length").ok()?);
            let sku = std::str::from_utf8(reader.take(length.into(), "sku").ok()?).ok()?.to_owned();
            taken.push((sku, Amount(i128::from_be_bytes(reader.array("amount").ok()?))));
        }
        Some(Sold { hash, sale, time, taken })
    }
}

impl<S: Store> Engine<S> {
    /// An own sale was recorded.
    pub(super) fn note_sold(&mut self, at: &Position, sold: Sold) {
        if sold.taken.is_empty() {
            return;
        }
        self.overlay.put(Table::Sales, key_of(b'k', at), sold.encode());
        if !self.sold.loaded {
            return;
        }
        let skus: Vec<String> = sold.taken.iter().map(|(sku, _)| sku.clone()).collect();
        let gone = |engine: &mut Self| skus.iter().filter(|sku| engine.is_gone(sku)).count();
        let before = gone(self);
        self.sold.insert(sold);
        // Where something is used up, or turns out not to be, whoever shows products is told.
        if gone(self) != before {
            self.notice(Notice::Catalog);
        }
    }

    /// Whether nothing is left of a product of the own stall that is counted.
    fn is_gone(&mut self, sku: &str) -> bool {
        let Some(stall) = self.views.membership.stall(&self.device.id()) else { return false };
        let counted = self.views.catalog().stall(stall).and_then(|catalog| catalog.counted(sku));
        counted.is_some_and(|counted| {
            let left = counted.count.plus(counted.changed).less(self.sold.since(sku, counted.at));
            left.is_zero() || left.is_below_zero()
        })
    }

    /// Entries came that may be sales of this device's stall, or what they are opened with.
    pub(super) fn sales_came(&mut self, new: &[Held]) {
        let keys = |held: &Held| matches!(held.entry.kind, Kind::STALL_KEY | Kind::CERTIFICATE);
        self.sold.try_again |= new.iter().any(keys);
        if new.iter().all(|held| held.entry.kind != Kind::SALE) {
            return;
        }
        let Some(stall) = self.stall_of_sales() else { return };
        for held in new.iter().filter(|held| held.entry.kind == Kind::SALE && held.log.lane == Lane::SALES) {
            if self.views.membership.stall(&held.log.author) == Some(stall.as_str()) {
                self.read_sold(held);
            }
        }
    }

    fn stall_of_sales(&self) -> Option<String> {
        let stall = self.views.membership.stall(&self.device.id())?;
        (!stall.is_empty()).then(|| stall.to_owned())
    }

    fn read_sold(&mut self, held: &Held) {
        let at = position(held);
        let known = self.overlay.get(Table::Sales, &key_of(b'k', &at));
        if self.guard(known).flatten().is_some() {
            return;
        }
        let sale = self.open_part(held, Part::Money).and_then(|bytes| read_sale(&bytes));
        match sale {
            Ok(sale) => {
                self.overlay.delete(Table::Sales, key_of(b'w', &at));
                let lines = sale.lines.iter().map(|line| (line.sku.as_str(), line.quantity.as_str()));
                let taken = if sale.mark == 0 { taken(lines) } else { Vec::new() };
                if let Ok(sale) = SaleId::try_from(sale.sale.as_slice()) {
                    self.note_sold(&at, Sold { hash: at.hash, sale, time: held.entry.timestamp, taken });
                }
            }
            // What can't be opened yet may be later: a read key is on its way.
            Err(problem) => {
                tracing::debug!(%problem, log = %at.log.author, sequence = at.sequence, "a sale of this stall isn't readable yet");
                self.overlay.put(Table::Sales, key_of(b'w', &at), Vec::new());
            }
        }
    }

    /// Reads what the store has, and what couldn't be opened before: whoever asks what is left pays for it.
    pub(super) fn refresh_sold(&mut self) {
        if self.sold.loaded && !self.sold.try_again {
            return;
        }
        let result = self.load_sold();
        self.guard(result);
    }

    fn load_sold(&mut self) -> Result<(), StoreError> {
        let Some(stall) = self.stall_of_sales() else { return Ok(()) };
        if !self.sold.loaded {
            if self.overlay.get(Table::Sales, b"v")?.is_none() {
                self.look_at_held(&stall)?;
                self.overlay.put(Table::Sales, b"v".to_vec(), Vec::new());
            }
            let mut book = SoldBook { loaded: true, try_again: true, ..SoldBook::default() };
            for (key, value) in self.overlay.scan_prefix(Table::Sales, b"k")? {
                let at = key.get(1..).and_then(decode_position);
                if let Some(sold) = at.and_then(|at| Sold::decode(at.hash, &value)) {
                    book.insert(sold);
                }
            }
            self.sold = book;
        }
        self.sold.try_again = false;
        let waiting = self.overlay.scan_prefix(Table::Sales, b"w")?;
        for at in waiting.iter().filter_map(|(key, _)| decode_position(key.get(1..)?)) {
            let head = Head { sequence: at.sequence, hash: at.hash };
            if let Some(held) = self.logs.entry(&self.overlay, &at.log, head)? {
                self.read_sold(&held);
            }
        }
        Ok(())
    }

    /// Sales that were taken in before anybody counted.
    fn look_at_held(&mut self, stall: &str) -> Result<(), StoreError> {
        let of_stall = |name: &LogName| self.views.membership.stall(&name.author) == Some(stall);
        let logs: Vec<(LogName, Vec<Run>)> = self
            .logs
            .on_lane(Lane::SALES)
            .filter(|(name, _)| of_stall(name))
            .map(|(name, record)| (*name, record.runs.clone()))
            .collect();
        for (name, runs) in logs {
            for run in runs {
                let chain = self.logs.entries(&self.overlay, &name, &run, run.from, run.to, usize::MAX)?;
                chain.iter().filter(|held| held.entry.kind == Kind::SALE).for_each(|held| self.read_sold(held));
            }
        }
        Ok(())
    }
}

fn key_of(prefix: u8, at: &Position) -> Vec<u8> {
    [[prefix].as_slice(), &encode_position(at)].concat()
}
