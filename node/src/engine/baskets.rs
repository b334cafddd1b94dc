//! Open baskets: they stay on this device until they are sold or discarded, so that a till may be reloaded, closed or
//! killed in the middle of a sale.
//!
//! ```text
//! sales   "b" ‖ basket id               the open basket, as JSON
//!         "d" ‖ basket id               the same once it is sold, for a day: a second tap is the same sale
//!         "c" ‖ time u64 ‖ basket id    when it was sold: the order in which they are forgotten
//! ```

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use stallmesh_protocol::SaleId;
use stallmesh_protocol::hash::{Domain, Hasher};

use super::checkout::check_codes;
use super::tenders::Part;
use super::{
    Answer, BasketChange, BasketId, BasketOrder, BasketSale, BasketView, Engine, Failure, FailureCode, Notice,
    SaleOrder,
};
use crate::barcode;
use crate::quote::files::{BasketFile, LineFile, Number};
use crate::store::{Store, StoreError, Table};

/// The most open baskets of a device: more than a queue has people.
const OPEN_MAX: usize = 200;
/// The most lines of one.
const LINES_MAX: usize = 500;
/// The most changes of one order.
const CHANGES_MAX: usize = 500;
/// The longest text in a change, in bytes.
const TEXT_MAX: usize = 200;
/// So many idempotency keys of changes a basket remembers: a caller asks again within moments.
const KEYS_MAX: usize = 64;
/// How long a sold basket is kept, in milliseconds.
const SOLD_KEPT_MS: u64 = 24 * 3_600_000;
/// So many of them are forgotten for each that is sold: more than one, so that they get fewer.
const FORGOTTEN_AT_ONCE: usize = 4;

/// A basket, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) basket: BasketFile,
    opened_at: u64,
    changed_at: u64,
    /// The sale that it became.
    sold: Option<String>,
    /// Of changes that were made: (hash of the idempotency key, hash of the change).
    keys: Vec<(String, String)>,
    /// Parts of its payment.
    #[serde(default)]
    pub(super) tenders: Vec<Part>,
}

impl Record {
    /// Whether this change was made already under this key.
    pub(super) fn is_repeated<T: Serialize>(&self, key: Option<&str>, change: &T) -> Result<bool, Failure> {
        let Some(key) = key.map(check_key).transpose()? else { return Ok(false) };
        // The first is what it was opened with.
        let Some((_, known)) = self.keys.iter().skip(1).find(|(known, _)| *known == content(&key)) else {
            return Ok(false);
        };
        match *known == content(change) {
            true => Ok(true),
            false => Err(conflict(format!("idempotency key `{key}` was used for another change"))),
        }
    }

    pub(super) fn remember<T: Serialize>(&mut self, key: Option<&str>, change: &T) {
        let Some(key) = key else { return };
        if self.keys.len() > KEYS_MAX {
            self.keys.remove(1);
        }
        // A key may say more than others need to know.
        self.keys.push((content(&key), content(change)));
    }

    pub(super) fn check_open(&self) -> Result<(), Failure> {
        match &self.sold {
            Some(sale) => Err(conflict(format!("this basket was sold: sale {sale}"))),
            None => Ok(()),
        }
    }
}

impl BasketId {
    /// The idempotency key of its sale.
    pub(super) fn sale_key(&self) -> String {
        format!("basket {self}")
    }
}

fn invalid(detail: impl Into<String>) -> Failure {
    Failure::new(FailureCode::EInvalid, detail)
}

fn conflict(detail: impl Into<String>) -> Failure {
    Failure::new(FailureCode::EConflict, detail)
}

fn content<T: Serialize>(value: &T) -> String {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    Hasher::new(Domain::SaleId).bytes(&bytes).finish().to_string()
}

impl<S: Store> Engine<S> {
    /// Opens a basket. The same key is the same basket.
    pub(super) fn open_basket(&mut self, basket: &BasketFile, key: Option<&str>) -> Result<BasketView, Failure> {
        self.own_stall()?;
        let id = match key {
            Some(key) => BasketId(*SaleId::derive("basket", check_key(key)?).as_bytes()),
            None => BasketId(self.random_bytes()),
        };
        let opened_with = ("open".to_owned(), content(basket));
        if let Some(known) = self.basket_record(&id)? {
            return match known.keys.first() == Some(&opened_with) {
                true => Ok(self.basket_view(id, known)),
                false => Err(conflict("this idempotency key was used for another basket")),
            };
        }
        check_basket(basket)?;
        self.quote(basket)?;
        let now = self.time();
        if self.overlay.scan_prefix(Table::Sales, b"b")?.len() >= OPEN_MAX {
            return Err(conflict(format!("{OPEN_MAX} baskets are open: sell or discard some")));
        }
        let record = Record {
            basket: basket.clone(),
            opened_at: now,
            changed_at: now,
            sold: None,
            keys: vec![opened_with],
            tenders: Vec::new(),
        };
        self.put_basket(&id, &record);
        Ok(self.basket_view(id, record))
    }

    /// Changes a basket: all of an order, or nothing. The same key is the same change.
    pub(super) fn change_basket(
        &mut self,
        id: BasketId,
        order: &BasketOrder,
        key: Option<&str>,
    ) -> Result<BasketView, Failure> {
        let mut record = self.known_basket(&id)?;
        if record.is_repeated(key, order)? {
            return Ok(self.basket_view(id, record));
        }
        record.check_open()?;
        self.check_not_paying(&self.own_stall()?.stall, &id)?;
        if order.changes.len() > CHANGES_MAX {
            return Err(invalid(format!("changes: more than {CHANGES_MAX}")));
        }
        // What couldn't be sold before may be mended step by step.
        let could_be_sold = self.quote(&record.basket).is_ok();
        for change in &order.changes {
            self.apply(&mut record.basket, change)?;
        }
        check_basket(&record.basket)?;
        if let (true, Err(failure)) = (could_be_sold, self.quote(&record.basket)) {
            return Err(failure);
        }
        record.remember(key, order);
        self.change_record(&id, &mut record);
        Ok(self.basket_view(id, record))
    }

    /// Keeps a basket that was changed.
    pub(super) fn change_record(&mut self, id: &BasketId, record: &mut Record) {
        record.changed_at = self.time();
        self.put_basket(id, record);
    }

    fn apply(&self, basket: &mut BasketFile, change: &BasketChange) -> Result<(), Failure> {
        match change {
            BasketChange::Add { sku, barcode, quantity, price } => {
                if quantity.0 <= Decimal::ZERO {
                    return Err(invalid("quantity: must be more than nothing"));
                }
                let sku = match (sku, barcode) {
                    (Some(sku), None) => sku.clone(),
                    (None, Some(barcode)) => self.sku_of(barcode)?,
                    _ => return Err(invalid("either `sku` or `barcode` must be given")),
                };
                let same = |line: &&mut LineFile| line.sku == sku && line.price == *price && line.x.is_none();
                match basket.lines.iter_mut().find(same) {
                    Some(line) => {
                        let more = line.quantity.0.checked_add(quantity.0);
                        line.quantity = Number(more.ok_or_else(|| invalid("quantity: out of range"))?);
                    }
                    None => basket.lines.push(LineFile { sku, quantity: *quantity, price: *price, x: None }),
                }
            }
            BasketChange::Set { line, sku, quantity, price } => {
                let place = *line;
                let Some(line) = basket.lines.get_mut(place).filter(|line| line.sku == *sku) else {
                    return Err(conflict(format!("line {place} is not `{sku}` any more: somebody changed the basket")));
                };
                if quantity.0.is_zero() {
                    basket.lines.remove(place);
                } else {
                    (line.quantity, line.price) = (*quantity, *price);
                }
            }
            BasketChange::GiveCode { code } => {
                if code.is_empty() {
                    return Err(invalid("code: there must be one"));
                }
                if !basket.codes.contains(code) {
                    basket.codes.push(code.clone());
                }
            }
            BasketChange::TakeCode { code } => basket.codes.retain(|known| known != code),
            BasketChange::Customer { customer } => basket.customer.clone_from(customer),
        }
        Ok(())
    }

    /// The product of a barcode, at this device's stall.
    fn sku_of(&self, barcode: &str) -> Result<String, Failure> {
        let stall = self.own_stall()?.stall;
        let products = self.views.catalog().stall(&stall).into_iter().flat_map(|catalog| catalog.products());
        // A UPC is the EAN with a zero before it; a code of one's own is itself.
        let key = barcode::key(barcode).map_err(|error| invalid(format!("barcode: {error}")))?;
        let is_same = |known: &String| known == barcode || barcode::key(known).is_ok_and(|known| known == key);
        let mut found = products.filter(|product| product.barcodes.iter().any(is_same));
        match (found.next(), found.next()) {
            (Some(product), None) => Ok(product.sku),
            (Some(one), Some(other)) => {
                Err(conflict(format!("barcode {barcode} is of `{}` and of `{}`: say which", one.sku, other.sku)))
            }
            (None, _) => Err(Failure::new(FailureCode::EUnknownSku, format!("no product has the barcode {barcode}"))),
        }
    }

    /// Records the sale of a basket: however often it is asked for, one.
    pub(super) fn sell_basket(&mut self, id: BasketId, sale: &BasketSale) -> Result<Answer, Failure> {
        let mut record = self.known_basket(&id)?;
        let order = SaleOrder {
            idempotency_key: id.sale_key(),
            lines: record.basket.lines.clone(),
            codes: record.basket.codes.clone(),
            customer: record.basket.customer.clone(),
            tenders: sale.tenders.clone(),
            operator: sale.operator.clone(),
            note: sale.note.clone(),
            rehearsal: sale.rehearsal,
            confirmed: sale.confirmed.clone(),
            known: sale.known.clone(),
        };
        let answer = self.record_with(&order, Some(id), record.tenders.clone())?;
        if let (Answer::Sale(view), None) = (&answer, &record.sold) {
            let sale = view.sale;
            self.sold(&id, &mut record, &sale);
        }
        Ok(answer)
    }

    /// In the commit of the sale itself: a basket is sold, or it is open.
    pub(super) fn sold(&mut self, id: &BasketId, record: &mut Record, sale: &SaleId) {
        (record.sold, record.changed_at) = (Some(sale.to_string()), self.time());
        self.close_basket(id, record);
    }

    /// Open baskets' sales, and the parts of their payments.
    pub(super) fn basket_parts(&self) -> Result<Vec<(BasketId, SaleId, Vec<Part>)>, StoreError> {
        let stall = self.views.membership.stall(&self.device.id()).unwrap_or_default();
        let open = self.open_baskets()?.into_iter();
        Ok(open.map(|(id, record)| (id, SaleId::derive(stall, &id.sale_key()), record.tenders)).collect())
    }

    /// A basket, with what it costs now.
    pub(super) fn basket(&mut self, id: BasketId) -> Result<BasketView, Failure> {
        let record = self.known_basket(&id)?;
        Ok(self.basket_view(id, record))
    }

    /// Open baskets, the one that was changed last first.
    pub(super) fn baskets(&mut self) -> Result<Vec<BasketView>, Failure> {
        let mut open = self.open_baskets()?;
        open.sort_by_key(|(id, record)| (std::cmp::Reverse(record.changed_at), *id));
        Ok(open.into_iter().map(|(id, record)| self.basket_view(id, record)).collect())
    }

    /// An open basket is gone; one that is gone already needn't go again.
    pub(super) fn discard_basket(&mut self, id: BasketId) -> Result<(), Failure> {
        match self.basket_record(&id)? {
            Some(record) if record.sold.is_some() => Err(conflict("this basket was sold: void the sale instead")),
            Some(record) if record.tenders.iter().any(|part| part.counts() || part.is_open()) => {
                Err(conflict("parts of its payment were taken: void them first"))
            }
            Some(_) => {
                self.overlay.delete(Table::Sales, key_of(b'b', &id));
                self.notice(Notice::Basket { basket: id.to_string() });
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn basket_view(&mut self, id: BasketId, record: Record) -> BasketView {
        let quote = match record.sold {
            None => Some(self.quote(&record.basket)),
            Some(_) => None,
        };
        let (quote, problem) = match quote {
            Some(Ok(quote)) => (Some(quote), None),
            Some(Err(failure)) => (None, Some(failure)),
            None => (None, None),
        };
        let Record { basket, opened_at, changed_at, sold, tenders, .. } = record;
        let mut view = BasketView {
            id,
            basket,
            opened_at,
            changed_at,
            sold,
            quote,
            problem,
            tenders: Vec::new(),
            covered: 0,
            left: 0,
            left_in_cash: 0,
            over: 0,
        };
        self.show_parts(&mut view, &tenders);
        view
    }

    pub(super) fn known_basket(&self, id: &BasketId) -> Result<Record, Failure> {
        let record = self.basket_record(id)?;
        record.ok_or_else(|| Failure::new(FailureCode::ENotFound, format!("no basket {id} is open here")))
    }

    fn basket_record(&self, id: &BasketId) -> Result<Option<Record>, StoreError> {
        let value = match self.overlay.get(Table::Sales, &key_of(b'b', id))? {
            Some(value) => Some(value),
            None => self.overlay.get(Table::Sales, &key_of(b'd', id))?,
        };
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Whether a basket is, or was, open under an id.
    pub(super) fn has_basket(&self, id: &BasketId) -> Result<bool, StoreError> {
        Ok(self.basket_record(id)?.is_some())
    }

    fn open_baskets(&self) -> Result<Vec<(BasketId, Record)>, StoreError> {
        let pairs = self.overlay.scan_prefix(Table::Sales, b"b")?;
        let records = pairs.into_iter().filter_map(|(key, value)| {
            Some((BasketId(key.get(1..)?.try_into().ok()?), serde_json::from_slice(&value).ok()?))
        });
        Ok(records.collect())
    }

    fn put_basket(&mut self, id: &BasketId, record: &Record) {
        self.overlay.put(Table::Sales, key_of(b'b', id), serde_json::to_vec(record).unwrap_or_default());
        self.notice(Notice::Basket { basket: id.to_string() });
    }

    /// A basket is sold; those that were sold long ago go.
    fn close_basket(&mut self, id: &BasketId, record: &Record) {
        self.overlay.delete(Table::Sales, key_of(b'b', id));
        self.overlay.put(Table::Sales, key_of(b'd', id), serde_json::to_vec(record).unwrap_or_default());
        let at = |time: u64| [b"c".as_slice(), &time.to_be_bytes()].concat();
        self.overlay.put(Table::Sales, [at(record.changed_at).as_slice(), &id.0].concat(), Vec::new());
        let until = at(record.changed_at.saturating_sub(SOLD_KEPT_MS));
        // One that can't be read now is read with the next sale.
        let old = self.overlay.scan(Table::Sales, b"c", &until, FORGOTTEN_AT_ONCE).unwrap_or_default();
        for (key, _) in old {
            if let Some(Ok(id)) = key.get(9..).map(<[u8; 16]>::try_from) {
                self.overlay.delete(Table::Sales, key_of(b'd', &BasketId(id)));
            }
            self.overlay.delete(Table::Sales, key);
        }
        self.notice(Notice::Basket { basket: id.to_string() });
    }
}

fn key_of(prefix: u8, id: &BasketId) -> Vec<u8> {
    [&[prefix], id.0.as_slice()].concat()
}

pub(super) fn check_key(key: &str) -> Result<&str, Failure> {
    let fits = !key.is_empty() && key.len() <= TEXT_MAX;
    fits.then_some(key).ok_or_else(|| invalid(format!("idempotency-key must have 1 to {TEXT_MAX} bytes")))
}

fn check_basket(basket: &BasketFile) -> Result<(), Failure> {
    if basket.lines.len() > LINES_MAX {
        return Err(invalid(format!("lines: more than {LINES_MAX}")));
    }
    check_codes(&basket.codes)
}
