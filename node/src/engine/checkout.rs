//! Checkout: from an order to a recorded sale, on this device alone.

use rust_decimal::Decimal;
use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::money;
use stallmesh_protocol::payload::{self, Product};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Kind, Lane, SaleId};

use super::author::{Parts, position_text};
use super::sales::SaleRecord;
use super::views::position;
use super::{
    Answer, Engine, EngineError, Failure, FailureCode, OrderLine, SaleLineView, SaleOrder, SaleState, SaleView,
    TenderKind, TenderView,
};
use crate::hub::reconcile::is_in_range;
use crate::link::Road;
use crate::store::Store;

/// The most lines and tenders of one sale.
const LINES_MAX: usize = 500;
const TENDERS_MAX: usize = 20;
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
        let own = self.device.id();
        let Some(certificate) = self.views.membership.certificate(&own).cloned() else {
            return Err(Failure::new(FailureCode::ENotMember, "this device is in no market yet: join one first"));
        };
        if order.idempotency_key.is_empty() || order.idempotency_key.len() > KEY_MAX {
            return Err(invalid(format!("idempotency_key must have 1 to {KEY_MAX} bytes")));
        }
        if certificate.stall.is_empty() {
            return Err(Failure::new(FailureCode::EScope, "this device belongs to no stall, so it can't sell"));
        }
        let sale = SaleId::derive(&certificate.stall, &order.idempotency_key);
        let order_hash = order_hash(order);
        let known = self.sale_record(&sale)?;
        if let Some(known) = known {
            if known.order_hash == order_hash {
                return Ok(Answer::Sale(self.sale_view(&known)));
            }
            return Err(Failure::new(
                FailureCode::EConflict,
                format!("idempotency key `{}` was used for another sale", order.idempotency_key),
            ));
        }
        if self.views.membership.is_revoked(&own) {
            return Err(Failure::new(FailureCode::EScope, "this device's certificate was revoked"));
        }
        if planted::is_on(Bug::StopsSelling) && !self.links.values().any(|link| link.road == Road::Uplink) {
            return Err(Failure::new(FailureCode::EUnavailable, "the hub is out of reach"));
        }
        let (message, lines) = self.price(order, &certificate.stall)?;
        // Expiry ends granting, refunds and publishing; selling goes on, marked, while no hub was heard.
        if !certificate.scopes.allows_amount(Scope::SELL, message.total) {
            let detail = match certificate.scopes.limit(Scope::SELL) {
                None => "this device's certificate has no scope `sell`".to_owned(),
                Some(limit) => format!(
                    "a sale of {} is above this device's limit of {} in scope `sell`",
                    message.total,
                    limit.unwrap_or_default()
                ),
            };
            return Err(Failure::new(FailureCode::EScope, detail));
        }
        let tenders = self.tenders(order, message.total)?;
        self.receipts += 1;
        let message = payload::Sale {
            sale: sale.as_bytes().to_vec(),
            receipt: self.receipts,
            mark: u32::from(order.rehearsal),
            tenders,
            ..message
        };
        let personal = payload::SalePersonal {
            operator: order.operator.clone(),
            note: order.note.clone(),
            customer: String::new(),
        };
        let parts = Parts {
            money: Some(payload::encode(&message)),
            personal: (personal != payload::SalePersonal::default()).then(|| payload::encode(&personal)),
        };
        let held = match self.append_sealed(Lane::SALES, Kind::SALE, &parts) {
            Ok(held) => held,
            Err(error) => {
                self.receipts -= 1;
                let code = match error {
                    EngineError::Append(_) => FailureCode::EInvalid,
                    _ => FailureCode::EUnavailable,
                };
                return Err(Failure::new(code, error.to_string()));
            }
        };
        let view = SaleView {
            sale,
            receipt: format!("{}-{}", held.log.incarnation.short(), message.receipt),
            currency: message.currency.clone(),
            total: message.total,
            tax: message.tax,
            lines,
            tenders: message.tenders.iter().map(tender_view).collect(),
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

    /// Prices an order by the own stall's catalog and the market's terms.
    fn price(&self, order: &SaleOrder, stall: &str) -> Outcome<(payload::Sale, Vec<SaleLineView>)> {
        if order.lines.is_empty() || order.lines.len() > LINES_MAX {
            return Err(invalid(format!("lines: there must be 1 to {LINES_MAX}")));
        }
        for (field, text) in [("operator", &order.operator), ("note", &order.note)] {
            if text.len() > TEXT_MAX {
                return Err(invalid(format!("{field}: longer than {TEXT_MAX} bytes")));
            }
        }
        let policy = self.views.policy();
        let currency = self.views.market().map(|market| market.currency.clone()).unwrap_or_default();
        let catalog = self.views.catalog().stall(stall);
        let catalog_version = catalog.map(|catalog| catalog.version().to_vec()).unwrap_or_default();
        let policy_version = self.views.policy_version();
        let mut message = payload::Sale { currency, catalog_version, policy_version, ..payload::Sale::default() };
        let mut views = Vec::with_capacity(order.lines.len());
        for (index, line) in order.lines.iter().enumerate() {
            let Some(product) = catalog.and_then(|catalog| catalog.get(&line.sku)) else {
                return Err(Failure::new(
                    FailureCode::ENotFound,
                    format!("lines[{index}].sku: `{}` is not in this stall's catalog", line.sku),
                ));
            };
            let priced = price_line(index, line, &product, &policy)?;
            let add =
                |sum: u64, amount: u64| sum.checked_add(amount).ok_or(money::MoneyError::Range).map_err(amount_error);
            message.subtotal = add(message.subtotal, priced.gross)?;
            message.total = add(message.total, priced.total)?;
            for tax in &priced.taxes {
                message.tax = add(message.tax, tax.amount)?;
            }
            views.push(SaleLineView {
                sku: priced.sku.clone(),
                name: priced.name.clone(),
                quantity: priced.quantity.clone(),
                unit_price: priced.unit_price,
                total: priced.total,
            });
            message.lines.push(priced);
        }
        if !is_in_range(&message) {
            return Err(amount_error(money::MoneyError::Range));
        }
        Ok((message, views))
    }

    fn tenders(&self, order: &SaleOrder, total: u64) -> Outcome<Vec<payload::Tender>> {
        if order.tenders.is_empty() || order.tenders.len() > TENDERS_MAX {
            return Err(invalid(format!("tenders: there must be 1 to {TENDERS_MAX}")));
        }
        let policy = self.views.policy();
        let mut tenders = Vec::with_capacity(order.tenders.len());
        let mut sum = 0_u64;
        for (index, tender) in order.tenders.iter().enumerate() {
            let amount = match tender.amount {
                Some(amount) => amount,
                None if order.tenders.len() == 1 => total,
                None => return Err(invalid(format!("tenders[{index}].amount: needed where there are several"))),
            };
            sum = sum.checked_add(amount).ok_or_else(|| amount_error(money::MoneyError::Range))?;
            let mut message = payload::Tender { amount, ..payload::Tender::default() };
            match tender.kind {
                TenderKind::Cash => {
                    message.kind = 1;
                    message.given = tender.given.unwrap_or(amount);
                    if message.given < amount {
                        return Err(invalid(format!("tenders[{index}].given: less than the amount")));
                    }
                }
                TenderKind::Card => {
                    check_token(index, &tender.token)?;
                    if policy.card_floor_limit > 0 && amount > policy.card_floor_limit {
                        return Err(Failure::new(
                            FailureCode::EScope,
                            format!(
                                "tenders[{index}]: {amount} is above the market's limit of {} for card payments that \
                                 are taken without an uplink",
                                policy.card_floor_limit
                            ),
                        ));
                    }
                    message.kind = 2;
                    message.authorised = 2;
                    message.token = tender.token.clone();
                }
            }
            tenders.push(message);
        }
        if sum != total {
            return Err(invalid(format!("tenders: they sum to {sum}, the sale's total is {total}")));
        }
        Ok(tenders)
    }
}

fn order_hash(order: &SaleOrder) -> String {
    let bytes = serde_json::to_vec(order).unwrap_or_default();
    Hasher::new(Domain::SaleId).bytes(&bytes).finish().to_string()
}

fn tender_view(tender: &payload::Tender) -> TenderView {
    TenderView {
        kind: if tender.kind == 1 { TenderKind::Cash } else { TenderKind::Card },
        amount: tender.amount,
        authorised: match tender.authorised {
            1 => "online",
            2 => "offline",
            _ => "none",
        }
        .into(),
        change: tender.given.saturating_sub(tender.amount),
    }
}

fn price_line(
    index: usize,
    line: &OrderLine,
    product: &Product,
    policy: &payload::Policy,
) -> Outcome<payload::SaleLine> {
    let quantity =
        money::decimal(&line.quantity).map_err(|error| invalid(format!("lines[{index}].quantity: {error}")))?;
    if quantity.is_zero() {
        return Err(invalid(format!("lines[{index}].quantity: zero")));
    }
    if product.unit == 0 && quantity.fract() != Decimal::ZERO {
        return Err(invalid(format!("lines[{index}].quantity: `{}` is sold by the piece", product.sku)));
    }
    let unit_price = line.price.unwrap_or(product.price);
    let gross = money::extend(unit_price, quantity).map_err(amount_error)?;
    let mut taxes = Vec::with_capacity(product.taxes.len());
    let range = || amount_error(money::MoneyError::Range);
    let mut added = 0_u64;
    for name in &product.taxes {
        let rate = policy.tax_rates.iter().find(|rate| rate.name == *name).ok_or_else(|| {
            Failure::new(
                FailureCode::ENotFound,
                format!("lines[{index}]: the market has no tax rate `{name}`: set it in the policy"),
            )
        })?;
        let percent = money::decimal(&rate.rate).map_err(amount_error)?;
        let (base, amount) = if policy.prices_include_tax {
            let whole = Decimal::ONE_HUNDRED.checked_add(percent);
            let share = Decimal::from(gross).checked_mul(percent).zip(whole);
            let share = share.and_then(|(share, whole)| share.checked_div(whole)).ok_or_else(range)?;
            let amount = money::round(share).map_err(amount_error)?;
            (gross.checked_sub(amount).ok_or_else(range)?, amount)
        } else {
            let amount = money::percentage(gross, percent).map_err(amount_error)?;
            added = added.checked_add(amount).ok_or_else(range)?;
            (gross, amount)
        };
        taxes.push(payload::SaleTax { name: name.clone(), rate: rate.rate.clone(), base, amount });
    }
    let total = gross.checked_add(added).ok_or_else(range)?;
    Ok(payload::SaleLine {
        sku: product.sku.clone(),
        name: product.name.clone(),
        quantity: line.quantity.clone(),
        unit_price,
        gross,
        reductions: Vec::new(),
        net: gross,
        taxes,
        total,
    })
}

/// A reader's token is opaque; a card number never enters the system.
fn check_token(index: usize, token: &str) -> Outcome<()> {
    if token.is_empty() || token.len() > 200 || token.chars().any(char::is_control) {
        return Err(invalid(format!("tenders[{index}].token: the card reader's token is needed")));
    }
    let digits: Vec<u32> = token
        .chars()
        .filter(|character| !matches!(character, ' ' | '-'))
        .filter_map(|character| character.to_digit(10))
        .collect();
    let all_digits = token.chars().all(|character| character.is_ascii_digit() || matches!(character, ' ' | '-'));
    if all_digits && (12..=19).contains(&digits.len()) && luhn(&digits) {
        return Err(invalid(format!(
            "tenders[{index}].token: this looks like a card number, which must never be sent here; send the reader's token"
        )));
    }
    Ok(())
}

/// ISO/IEC 7812-1 annex B.
fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}
