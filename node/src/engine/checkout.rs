//! Checkout: from an order to a recorded sale, on this device alone.

use stallmesh_protocol::certificate::{Certificate, Scope};
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Kind, Lane, SaleId, money, payload};

use super::author::{Parts, position_text};
use super::judgement::Said;
use super::payments::{Attempt, Place, Taking};
use super::pricing::Priced;
use super::sales::SaleRecord;
use super::tenders::{Part, TENDERS_MAX};
use super::views::position;
use super::{
    Answer, BasketId, Engine, EngineError, Failure, FailureCode, SaleLineView, SaleOrder, SaleState, SaleView,
};
use crate::card_data;
use crate::fraud::{Action, Subject};
use crate::hub::reconcile::is_in_range;
use crate::link::Road;
use crate::quote::files::{Answer as QuoteAnswer, BasketFile, LineAnswer, ReductionAnswer, TaxAnswer};
use crate::store::Store;

/// The most lines of one sale.
const LINES_MAX: usize = 500;
/// The most codes of one sale.
const CODES_MAX: usize = 20;
/// The longest idempotency key and free text, in bytes.
const KEY_MAX: usize = 200;
const TEXT_MAX: usize = 1000;

type Outcome<T> = Result<T, Failure>;

fn invalid(detail: impl Into<String>) -> Failure {
    Failure::new(FailureCode::EInvalid, detail)
}

fn amount_error(error: money::MoneyError) -> Failure {
    Failure::new(FailureCode::EAmountRange, error.to_string())
}

impl<S: Store> Engine<S> {
    /// Records a sale; the same request twice is one sale.
    pub(crate) fn record_sale(&mut self, order: &SaleOrder) -> Outcome<Answer> {
        if order.tenders.is_empty() {
            return Err(invalid(format!("tenders: there must be 1 to {TENDERS_MAX}")));
        }
        self.record_with(order, None, Vec::new())
    }

    /// Records a sale, of a basket with the parts of its payment that were taken before. Where the hub is asked about a
    /// card first, the sale waits for it.
    pub(super) fn record_with(
        &mut self,
        order: &SaleOrder,
        basket: Option<BasketId>,
        taken: Vec<Part>,
    ) -> Outcome<Answer> {
        let certificate = self.own_stall()?;
        check_order(order)?;
        let sale = SaleId::derive(&certificate.stall, &order.idempotency_key);
        let order_hash = order_hash(order);
        let used = || {
            let detail = format!("idempotency key `{}` was used for another sale", order.idempotency_key);
            Failure::new(FailureCode::EConflict, detail)
        };
        if let Some(known) = self.sale_record(&sale)? {
            let is_same = known.order_hash == order_hash;
            return if is_same { Ok(Answer::Sale(self.sale_view(&known))) } else { Err(used()) };
        }
        let mut taken = taken;
        match self.attempt_of(&sale)? {
            Some(attempt) if attempt.is_over => taken.extend(attempt.parts),
            Some(attempt) if attempt.order_hash == order_hash => return Err(self.wait_for(sale)),
            Some(_) => return Err(used()),
            None => {}
        }
        if self.views.membership.is_revoked(&self.device.id()) {
            return Err(Failure::new(FailureCode::EScope, "this device's certificate was revoked"));
        }
        if planted::is_on(Bug::StopsSelling) && !self.links.values().any(|link| link.road == Road::Uplink) {
            return Err(Failure::new(FailureCode::EUnavailable, "the hub is out of reach"));
        }
        let priced = self.price(&certificate.stall, &basket_of(order))?;
        if let Some(open) = taken.iter().find(|part| part.is_open()) {
            let detail = format!("tender {} is being asked about: wait for its answer, or void it", open.number);
            return Err(Failure::new(FailureCode::EConflict, detail));
        }
        let said = Said { confirmed: &order.confirmed, known: &order.known };
        let below = self.prices_below(&certificate.stall, order, &priced.answer);
        for action in &below {
            self.judge_action(*action, &said)?;
        }
        let within_ms = self.asks_hub_within(order.rehearsal);
        let taking = Taking { sale, place: Place::Attempt, said, is_rehearsal: order.rehearsal, within_ms };
        let earlier = taken.len();
        let (total, mut parts) = self.take_parts(&taking, &order.tenders, taken, priced.answer.total)?;
        if parts[earlier..].iter().any(Part::is_open) {
            let own = parts.split_off(earlier);
            // A basket keeps its own.
            let before = if basket.is_some() { Vec::new() } else { parts };
            self.keep_attempt(&sale, &Attempt::new(order, order_hash, basket, before, own));
            return Err(self.wait_for(sale));
        }
        let paid: Vec<Part> = parts.iter().filter(|part| part.counts()).cloned().collect();
        let recorded = self.record_paid(order, &certificate, &priced, total, &paid, &below, order_hash);
        if recorded.is_err() {
            self.give_back(&taking, &mut parts[earlier..])?;
        }
        recorded
    }

    /// Records a sale that has waited for its parts.
    pub(super) fn record_attempted(
        &mut self,
        order: &SaleOrder,
        order_hash: &str,
        basket: Option<BasketId>,
        own: &[Part],
    ) -> Outcome<Answer> {
        let certificate = self.own_stall()?;
        let priced = self.price(&certificate.stall, &basket_of(order))?;
        let below = self.prices_below(&certificate.stall, order, &priced.answer);
        let mut record = basket.map(|id| self.known_basket(&id)).transpose()?;
        let taken = record.iter().flat_map(|record| &record.tenders);
        let parts: Vec<Part> = taken.chain(own).filter(|part| part.counts()).cloned().collect();
        let due = self.due(priced.answer.total, &parts)?;
        if due.covered != due.total {
            let because = own.iter().find(|part| !part.because.is_empty()).map(|part| part.because.as_str());
            let because = because.unwrap_or("its price has changed meanwhile");
            let detail = format!("tenders: {} of {} are covered: {because}", due.covered, due.total);
            return Err(Failure::new(FailureCode::EDeclined, detail));
        }
        let hash = order_hash.to_owned();
        let answer = self.record_paid(order, &certificate, &priced, due.total, &parts, &below, hash)?;
        if let (Some(id), Some(record), Answer::Sale(view)) = (basket, &mut record, &answer) {
            self.sold(&id, record, &view.sale);
        }
        Ok(answer)
    }

    /// What is sold for less than the catalog says, by the till's word.
    fn prices_below(&self, stall: &str, order: &SaleOrder, answer: &QuoteAnswer) -> Vec<Action> {
        let catalog = self.views.catalog().stall(stall);
        let operator = match order.operator.as_str() {
            "" => Subject::of_device(self.device.id().as_bytes()),
            operator => Subject::of_operator(stall, operator),
        };
        let lines = answer.lines.iter().zip(&order.lines).filter(|(_, asked)| asked.price.is_some());
        let below = lines.filter_map(|(line, _)| {
            let catalog_price = catalog?.get(&line.sku)?.price;
            (line.unit_price < catalog_price).then_some(Action::Override {
                operator,
                price: line.unit_price,
                catalog_price,
            })
        });
        below.collect()
    }

    /// Records a sale that is paid.
    #[allow(clippy::too_many_arguments, reason = "each was worked out by a step before")]
    fn record_paid(
        &mut self,
        order: &SaleOrder,
        certificate: &Certificate,
        priced: &Priced,
        total: u64,
        parts: &[Part],
        below: &[Action],
        order_hash: String,
    ) -> Outcome<Answer> {
        let sale = SaleId::derive(&certificate.stall, &order.idempotency_key);
        // Expiry ends granting, refunds and publishing; selling goes on, marked, while no hub was heard.
        let tips = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.tip));
        let tips = tips.ok_or_else(|| amount_error(money::MoneyError::Range))?;
        if !certificate.scopes.allows_amount(Scope::SELL, total) {
            let detail = match certificate.scopes.limit(Scope::SELL) {
                None => "this device's certificate has no scope `sell`".to_owned(),
                Some(limit) => format!(
                    "a sale of {total} is above this device's limit of {} in scope `sell`",
                    limit.unwrap_or_default()
                ),
            };
            return Err(Failure::new(FailureCode::EScope, detail));
        }
        let names = self.names(&certificate.stall, &priced.answer);
        let cash_rounding = total.cast_signed() - priced.answer.total.cast_signed();
        let promotions = self.views.promotions();
        let entry = |id: &str| {
            let entry = promotions.entry_at(&certificate.stall, id);
            entry.map(|hash| hash.prefix().to_vec()).unwrap_or_default()
        };
        let message = payload::Sale {
            sale: sale.as_bytes().to_vec(),
            receipt: self.receipts + 1,
            mark: u32::from(order.rehearsal),
            tenders: parts.iter().map(Part::message).collect(),
            cash_rounding,
            total,
            codes: order.codes.clone(),
            ..sale_of(priced, &names, entry)
        };
        if !is_in_range(&message) {
            return Err(amount_error(money::MoneyError::Range));
        }
        let personal = payload::SalePersonal {
            // What somebody typed or scanned into the wrong field is nobody's to keep.
            operator: card_data::mask(&order.operator).into_owned(),
            note: card_data::mask(&order.note).into_owned(),
            customer: String::new(),
        };
        let sealed = Parts {
            money: Some(payload::encode(&message)),
            personal: (personal != payload::SalePersonal::default()).then(|| payload::encode(&personal)),
        };
        let held = self.append_sealed(Lane::SALES, Kind::SALE, &sealed).map_err(|error| {
            let code = match error {
                EngineError::Append(_) => FailureCode::EInvalid,
                _ => FailureCode::EUnavailable,
            };
            Failure::new(code, error.to_string())
        })?;
        self.receipts += 1;
        if order.rehearsal {
            self.unexpose_all(sale);
        } else {
            let by_card = parts.iter().filter_map(|part| Some((part.action()?, part.known.as_slice())));
            let below = below.iter().map(|action| (*action, order.known.as_slice()));
            let happened: Vec<(Action, &[String])> = by_card.chain(below).collect();
            self.tell_market(Some(&held.hash), &happened)?;
        }
        let answer = priced.answer.clone();
        let lines = names.into_iter().zip(answer.lines).map(|(name, line)| SaleLineView { name, line });
        let view = SaleView {
            sale,
            receipt: format!("{}-{}", held.log.incarnation.short(), message.receipt),
            currency: answer.currency,
            subtotal: answer.subtotal,
            reduction: answer.reduction,
            fee: answer.fee,
            cash_rounding,
            total,
            tax: answer.tax,
            lines: lines.collect(),
            fees: answer.fees,
            codes: answer.codes,
            tip: tips,
            tenders: parts.iter().map(Part::tender_view).collect(),
            state: SaleState::ThisDevice,
            copies: 0,
            recorded_at: held.entry.timestamp,
            entry: position_text(&held.log, held.sequence),
            rehearsal: order.rehearsal,
        };
        let record = SaleRecord {
            order_hash,
            number: self.next_sale_number(),
            author: held.log.author.to_string(),
            incarnation: held.log.incarnation.to_string(),
            sequence: held.sequence,
            hash: held.hash.to_string(),
            view: view.clone(),
        };
        self.keep_sale(&record, &position(&held));
        Ok(Answer::Sale(view))
    }

    /// What the catalog calls the products of a quote.
    fn names(&self, stall: &str, answer: &QuoteAnswer) -> Vec<String> {
        let catalog = self.views.catalog().stall(stall);
        let product = |line: &LineAnswer| catalog.and_then(|catalog| catalog.get(&line.sku));
        answer.lines.iter().map(|line| product(line).map(|product| product.name).unwrap_or_default()).collect()
    }
}

fn basket_of(order: &SaleOrder) -> BasketFile {
    BasketFile {
        lines: order.lines.clone(),
        codes: order.codes.clone(),
        customer: order.customer.clone(),
        ..BasketFile::default()
    }
}

/// What must hold of an order whatever the stall sells.
fn check_order(order: &SaleOrder) -> Outcome<()> {
    if order.idempotency_key.is_empty() || order.idempotency_key.len() > KEY_MAX {
        return Err(invalid(format!("idempotency_key must have 1 to {KEY_MAX} bytes")));
    }
    if order.lines.is_empty() || order.lines.len() > LINES_MAX {
        return Err(invalid(format!("lines: there must be 1 to {LINES_MAX}")));
    }
    if order.tenders.len() > TENDERS_MAX {
        return Err(invalid(format!("tenders: there must be 1 to {TENDERS_MAX}")));
    }
    check_codes(&order.codes)?;
    for (field, text) in [("operator", &order.operator), ("note", &order.note)] {
        if text.len() > TEXT_MAX {
            return Err(invalid(format!("{field}: longer than {TEXT_MAX} bytes")));
        }
    }
    Ok(())
}

/// Codes are kept with the sale: what somebody typed from a card is none.
pub(super) fn check_codes(codes: &[String]) -> Outcome<()> {
    if codes.len() > CODES_MAX || codes.iter().any(|code| code.len() > KEY_MAX) {
        return Err(invalid(format!("codes: there may be up to {CODES_MAX}, of up to {KEY_MAX} bytes each")));
    }
    match codes.iter().position(|code| card_data::looks_like_card(code)) {
        Some(place) => Err(invalid(format!("codes[{place}]: this looks like a card number, which is no code"))),
        None => Ok(()),
    }
}

/// What a quote says, as a sale's entry has it, with the names of its lines.
fn sale_of(priced: &Priced, names: &[String], entry: impl Fn(&str) -> Vec<u8>) -> payload::Sale {
    let taxes = |taxes: &[TaxAnswer]| -> Vec<payload::SaleTax> {
        let tax = |tax: &TaxAnswer| payload::SaleTax {
            name: tax.name.to_string(),
            rate: tax.rate.to_string(),
            base: tax.base,
            amount: tax.amount,
        };
        taxes.iter().map(tax).collect()
    };
    let reduction = |reduction: &ReductionAnswer| payload::SaleReduction {
        promotion: reduction.promotion.to_string(),
        name: reduction.name.to_string(),
        amount: reduction.amount,
        why: reduction.why.clone(),
        entry: entry(&reduction.promotion),
    };
    let answer = &priced.answer;
    let lines = answer.lines.iter().zip(names).map(|(line, name)| payload::SaleLine {
        sku: line.sku.to_string(),
        name: name.clone(),
        quantity: line.quantity.clone(),
        unit_price: line.unit_price,
        gross: line.gross,
        reductions: line.reductions.iter().map(reduction).collect(),
        net: line.net,
        taxes: taxes(&line.taxes),
        total: line.total,
    });
    let fees = answer.fees.iter().map(|fee| payload::SaleFee {
        promotion: fee.promotion.to_string(),
        name: fee.name.to_string(),
        amount: fee.amount,
        taxes: taxes(&fee.taxes),
        total: fee.total,
    });
    payload::Sale {
        currency: answer.currency.clone(),
        lines: lines.collect(),
        fees: fees.collect(),
        subtotal: answer.subtotal,
        reduction: answer.reduction,
        fee: answer.fee,
        tax: answer.tax,
        catalog_version: priced.basis.catalog.to_vec(),
        promotions_version: priced.basis.promotions.clone(),
        conditions_version: priced.in_force.version.clone(),
        policy_version: priced.basis.policy.clone(),
        ..payload::Sale::default()
    }
}

fn order_hash(order: &SaleOrder) -> String {
    let bytes = serde_json::to_vec(order).unwrap_or_default();
    Hasher::new(Domain::SaleId).bytes(&bytes).finish().to_string()
}
