//! Parts of a payment: each judged when it is taken, with what it covers and what is left.

use serde::{Deserialize, Serialize};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{SaleId, money, payload};

use super::judgement::Said;
use super::payments::{Place, Taking};
use super::{
    Authorised, BasketId, BasketView, Engine, Failure, FailureCode, OrderTender, PartOrder, PartState, PartView,
    ReasonView, TenderKind, TenderView,
};
use crate::card_data;
use crate::fraud::{Action, Subject};
use crate::store::Store;

/// The most parts of one payment.
pub(super) const TENDERS_MAX: usize = 20;
/// The longest token, name of a card and reference, in bytes.
const TEXT_MAX: usize = 200;

type Outcome<T> = Result<T, Failure>;

fn invalid(detail: impl Into<String>) -> Failure {
    Failure::new(FailureCode::EInvalid, detail)
}

fn out_of_range() -> Failure {
    Failure::new(FailureCode::EAmountRange, money::MoneyError::Range.to_string())
}

/// One part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Part {
    /// With the sale's id it names the payment.
    pub(crate) number: u32,
    pub(crate) kind: TenderKind,
    pub(crate) amount: u64,
    pub(crate) tip: u64,
    /// Cash handed over.
    pub(crate) given: u64,
    pub(crate) token: String,
    /// Of the card, under the newest key.
    pub(crate) fingerprint: Option<[u8; 16]>,
    pub(crate) reference: String,
    pub(crate) authorised: Authorised,
    /// Whether the market bears it if the bank declines it later.
    pub(crate) market_bears: bool,
    /// Reasons that a person lets pass this once.
    pub(crate) confirmed: Vec<String>,
    /// Rules whose alarm a person has answered with "known".
    pub(crate) known: Vec<String>,
    /// Whether the hub was asked for it.
    pub(crate) is_asked: bool,
    /// Whether the card reader has it now, and whether it ever had.
    pub(crate) is_at_reader: bool,
    pub(crate) was_at_reader: bool,
    /// Whether it is no real payment.
    pub(crate) is_rehearsal: bool,
    /// Why it was declined, or asked about in vain.
    pub(crate) reasons: Vec<ReasonView>,
    pub(crate) state: PartState,
    pub(crate) because: String,
    /// When, in milliseconds since 1970.
    pub(crate) at: u64,
}

impl Part {
    /// Whether it covers something.
    pub(super) fn counts(&self) -> bool {
        matches!(self.state, PartState::Taken | PartState::Approved)
    }

    /// Whether it waits for an answer.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, PartState::Asked | PartState::Unknown)
    }

    fn is_by_card(&self) -> bool {
        matches!(self.kind, TenderKind::Card | TenderKind::Wallet)
    }

    /// What fraud rules look at once it happened.
    pub(super) fn action(&self) -> Option<Action> {
        let fingerprint = Subject(self.fingerprint?);
        self.is_by_card().then_some(Action::Card { fingerprint, amount: self.amount })
    }

    fn view(&self) -> PartView {
        PartView {
            number: self.number,
            kind: self.kind,
            amount: self.amount,
            tip: self.tip,
            given: self.given,
            change: self.change(),
            state: self.state,
            authorised: self.authorised,
            because: self.because.clone(),
            reasons: self.reasons.clone(),
        }
    }

    fn change(&self) -> u64 {
        self.given.saturating_sub(self.amount.saturating_add(self.tip))
    }

    /// As a recorded sale shows it.
    pub(super) fn tender_view(&self) -> TenderView {
        TenderView {
            kind: self.kind,
            amount: self.amount,
            authorised: self.authorised,
            change: self.change(),
            tip: self.tip,
            market_bears: self.market_bears,
            fingerprint: self.fingerprint.map(hex::encode).unwrap_or_default(),
            reference: self.reference.clone(),
        }
    }

    /// As the sale's entry has it.
    pub(super) fn message(&self) -> payload::Tender {
        payload::Tender {
            kind: match self.kind {
                TenderKind::Cash => 1,
                TenderKind::Card => 2,
                TenderKind::Wallet => 3,
                TenderKind::Outside => 6,
            },
            amount: self.amount,
            token: self.token.clone(),
            fingerprint: self.fingerprint.map(|bytes| bytes.to_vec()).unwrap_or_default(),
            authorised: match self.authorised {
                Authorised::None => 0,
                Authorised::Online => 1,
                Authorised::Offline => 2,
            },
            given: self.given,
            reference: self.reference.clone(),
            tip: self.tip,
            number: self.number,
            market_bears: self.market_bears,
        }
    }
}

/// What a payment's parts come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// What the parts must come to: what is paid in cash is rounded to coins.
    pub(super) total: u64,
    pub(super) covered: u64,
    pub(super) left: u64,
    pub(super) left_in_cash: u64,
    pub(super) over: u64,
}

impl Due {
    /// Of a sale that costs so much, to the last unit; `round`: to coins.
    fn new<'a>(
        exact: u64,
        parts: impl IntoIterator<Item = &'a Part>,
        round: impl Fn(u64) -> Option<u64>,
    ) -> Outcome<Due> {
        let (mut in_cash, mut otherwise, mut has_cash) = (0_u64, 0_u64, false);
        for part in parts.into_iter().filter(|part| part.counts()) {
            let sum = if part.kind == TenderKind::Cash { &mut in_cash } else { &mut otherwise };
            *sum = sum.checked_add(part.amount).ok_or_else(out_of_range)?;
            has_cash |= part.kind == TenderKind::Cash;
        }
        let rest = exact.saturating_sub(otherwise);
        let rounded = round(rest).ok_or_else(out_of_range)?;
        let paid = otherwise.min(exact);
        let covered = in_cash.checked_add(otherwise).ok_or_else(out_of_range)?;
        let total = paid.checked_add(if has_cash { rounded } else { rest }).ok_or_else(out_of_range)?;
        Ok(Due {
            total,
            covered,
            left: total.saturating_sub(covered),
            left_in_cash: rounded.saturating_sub(in_cash),
            over: covered.saturating_sub(total),
        })
    }
}

impl<S: Store> Engine<S> {
    pub(super) fn due(&self, exact: u64, parts: &[Part]) -> Outcome<Due> {
        Due::new(exact, parts, |total| self.round_cash(total))
    }

    /// What a part would be: whole and of its kind, and nothing is done yet.
    fn draft_part(&mut self, field: &str, tender: &OrderTender, amount: u64, earlier: &[Part]) -> Outcome<Part> {
        if earlier.iter().filter(|part| part.counts() || part.is_open()).count() >= TENDERS_MAX {
            return Err(invalid(format!("tenders: there must be 1 to {TENDERS_MAX}")));
        }
        let wanted = amount.checked_add(tender.tip).ok_or_else(out_of_range)?;
        let mut part = Part {
            // A number that was used names its payment for ever.
            number: earlier.iter().map(|part| part.number + 1).max().unwrap_or(0),
            kind: tender.kind,
            amount,
            tip: tender.tip,
            at: self.time(),
            ..Part::default()
        };
        if tender.kind == TenderKind::Cash {
            part.given = tender.given.unwrap_or(wanted);
            if part.given < wanted {
                return Err(invalid(format!("{field}given: less than the amount")));
            }
        } else if tender.given.is_some() {
            return Err(invalid(format!("{field}given: only cash is handed over")));
        }
        match tender.kind {
            TenderKind::Cash => {}
            TenderKind::Outside => {
                check_text(field, "reference", &tender.reference)?;
                part.reference = card_data::mask(&tender.reference).into_owned();
            }
            // The card reader gives the rest.
            TenderKind::Card | TenderKind::Wallet if tender.token.is_empty() && self.settings.card_reader => {
                if !tender.card.is_empty() {
                    return Err(invalid(format!("{field}card: the card reader says it; or send a token with it")));
                }
                part.state = PartState::Approved;
            }
            TenderKind::Card | TenderKind::Wallet => {
                check_card(field, &tender.token, &tender.card)?;
                self.know_card(&mut part, tender.token.clone(), &tender.card);
            }
        }
        Ok(part)
    }

    fn know_card(&mut self, part: &mut Part, token: String, card: &str) {
        part.fingerprint = self.fingerprints(card).first().map(|subject| subject.0);
        part.token = token;
        (part.state, part.authorised) = (PartState::Approved, Authorised::Offline);
    }

    /// What a reader says of a card is checked as what a caller says.
    pub(super) fn read_card(&mut self, part: &mut Part, token: String, card: &str) -> Outcome<()> {
        check_card("the card reader's ", &token, card)?;
        self.know_card(part, token, card);
        Ok(())
    }

    /// Takes a part: judged, and asked for at the hub, or counted to what waits.
    pub(super) fn admit_part(&mut self, taking: &Taking<'_>, part: &mut Part, card: &str) -> Outcome<()> {
        if !part.is_by_card() {
            return Ok(());
        }
        (part.known, part.confirmed) = (taking.said.known.to_vec(), taking.said.confirmed.to_vec());
        if part.token.is_empty() {
            self.ask_reader(taking, part);
            return Ok(());
        }
        if taking.is_rehearsal {
            return Ok(());
        }
        let (fingerprints, wanted) = (self.fingerprints(card), part.amount.saturating_add(part.tip));
        match taking.within_ms {
            Some(within_ms) => {
                self.judge_card(&fingerprints, wanted, false, &taking.said)?;
                self.ask_hub(taking, part, within_ms)
            }
            None => {
                part.market_bears = self.judge_card(&fingerprints, wanted, true, &taking.said)?;
                self.expose(taking.sale, part.number, fingerprints.first().copied(), wanted);
                Ok(())
            }
        }
    }

    /// Takes parts of an order beside those that were taken before. What they come to is the sale's total; else, or
    /// where one of them isn't taken, none is.
    pub(super) fn take_parts(
        &mut self,
        taking: &Taking<'_>,
        orders: &[OrderTender],
        taken: Vec<Part>,
        exact: u64,
    ) -> Outcome<(u64, Vec<Part>)> {
        let (before, mut parts) = (taken.len(), taken);
        for (index, tender) in orders.iter().enumerate() {
            let amount = match tender.amount {
                Some(amount) => amount,
                None if orders.len() == 1 => {
                    let due = self.due(exact, &parts)?;
                    if tender.kind == TenderKind::Cash { due.left_in_cash } else { due.left }
                }
                None => return Err(invalid(format!("tenders[{index}].amount: needed where there are several"))),
            };
            let part = self.draft_part(&format!("tenders[{index}]."), tender, amount, &parts)?;
            parts.push(part);
        }
        let due = self.due(exact, &parts)?;
        if due.covered != due.total {
            let (covered, total) = (due.covered, due.total);
            return Err(invalid(format!("tenders: they sum to {covered}, the sale's total is {total}")));
        }
        let admitted = self.admit_parts(taking, orders, &mut parts[before..]);
        if admitted.is_err() {
            self.give_back(taking, &mut parts[before..])?;
        }
        admitted.map(|()| (due.total, parts))
    }

    fn admit_parts(&mut self, taking: &Taking<'_>, orders: &[OrderTender], parts: &mut [Part]) -> Outcome<()> {
        // Nobody is asked about one card of a bill whose other card is declined here.
        if taking.within_ms.is_some() && parts.iter().filter(|part| part.is_by_card()).count() > 1 {
            let with_token = |(part, _): &(&Part, &OrderTender)| !part.token.is_empty();
            for (part, order) in parts.iter().zip(orders).filter(with_token) {
                let fingerprints = self.fingerprints(&order.card);
                self.judge_card(&fingerprints, part.amount.saturating_add(part.tip), false, &taking.said)?;
            }
        }
        for (part, order) in parts.iter_mut().zip(orders) {
            self.admit_part(taking, part, &order.card)?;
        }
        Ok(())
    }

    /// Parts of a sale that comes to nothing.
    pub(super) fn give_back(&mut self, taking: &Taking<'_>, parts: &mut [Part]) -> Outcome<()> {
        parts.iter_mut().try_for_each(|part| self.void_part(taking.place, taking.sale, part))
    }

    /// Takes a part of a basket's payment. The same key is the same part.
    pub(super) fn take_tender(&mut self, id: BasketId, order: &PartOrder, key: Option<&str>) -> Outcome<BasketView> {
        let (stall, mut record) = (self.own_stall()?.stall, self.known_basket(&id)?);
        if record.is_repeated(key, order)? && !planted::is_on(Bug::PartTwice) {
            return Ok(self.basket_view(id, record));
        }
        record.check_open()?;
        self.check_not_paying(&stall, &id)?;
        let exact = self.quote(&record.basket)?.quote.total;
        let due = self.due(exact, &record.tenders)?;
        let is_cash = order.kind == TenderKind::Cash;
        let left = if is_cash { due.left_in_cash } else { due.left };
        let amount = match (order.amount, order.given) {
            (Some(amount), _) => amount,
            // Whoever hands over less than is left pays so much of it.
            (None, Some(given)) if is_cash => left.min(given.saturating_sub(order.tip)),
            (None, _) => left,
        };
        if amount > left {
            return Err(invalid(format!("amount: {amount} is more than what is left to pay, {left}")));
        }
        if amount == 0 && (order.tip == 0 || exact > 0) {
            return Err(invalid("amount: nothing is left to pay"));
        }
        let is_rehearsal = self.settings.rehearsal;
        let taking = Taking {
            sale: SaleId::derive(&stall, &id.sale_key()),
            place: Place::Basket(id),
            said: Said { confirmed: &order.confirmed, known: &order.known },
            is_rehearsal,
            within_ms: self.asks_hub_within(is_rehearsal),
        };
        let tender = order.tender();
        let mut part = self.draft_part("", &tender, amount, &record.tenders)?;
        self.admit_part(&taking, &mut part, &tender.card)?;
        record.tenders.push(part);
        record.remember(key, order);
        self.change_record(&id, &mut record);
        Ok(self.basket_view(id, record))
    }

    /// Voids a part of a basket's payment; one that was voided needn't be again.
    pub(super) fn void_tender(&mut self, id: BasketId, number: u32, confirmed: &[String]) -> Outcome<BasketView> {
        let (stall, mut record) = (self.own_stall()?.stall, self.known_basket(&id)?);
        record.check_open()?;
        self.check_not_paying(&stall, &id)?;
        let now = self.time();
        let Some(part) = record.tenders.iter_mut().find(|part| part.number == number) else {
            let detail = format!("this basket has no tender {number}");
            return Err(Failure::new(FailureCode::ENotFound, detail));
        };
        if part.state == PartState::Void {
            return Ok(self.basket_view(id, record));
        }
        if part.kind == TenderKind::Cash {
            let operator = Subject::of_device(self.device.id().as_bytes());
            let (amount, after_ms) = (part.amount, now.saturating_sub(part.at));
            let action = Action::Void { operator, amount, after_ms };
            self.judge_action(action, &Said { confirmed, known: &[] })?;
            self.tell_market(None, &[(action, &[])])?;
        }
        self.void_part(Place::Basket(id), SaleId::derive(&stall, &id.sale_key()), part)?;
        self.change_record(&id, &mut record);
        Ok(self.basket_view(id, record))
    }

    /// Parts as the API shows them, and what they come to.
    pub(super) fn show_parts(&self, view: &mut BasketView, parts: &[Part]) {
        view.tenders = parts.iter().map(Part::view).collect();
        let exact = view.quote.as_ref().map(|quote| quote.quote.total);
        let Some(Ok(due)) = exact.map(|exact| self.due(exact, parts)) else { return };
        (view.covered, view.left, view.left_in_cash, view.over) = (due.covered, due.left, due.left_in_cash, due.over);
    }
}

fn check_text(field: &str, name: &str, text: &str) -> Outcome<()> {
    if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return Err(invalid(format!("{field}{name}: at most {TEXT_MAX} bytes, without control characters")));
    }
    Ok(())
}

fn check_card(field: &str, token: &str, card: &str) -> Outcome<()> {
    check_token(field, token)?;
    check_text(field, "card", card)?;
    if card_data::looks_like_card(card) {
        return Err(invalid(format!(
            "{field}card: this looks like a card number, which must never be sent here; send the name that the reader \
             gives the card"
        )));
    }
    Ok(())
}

/// A reader's token is opaque; a card number never enters the system.
fn check_token(field: &str, token: &str) -> Outcome<()> {
    check_text(field, "token", token)?;
    if token.is_empty() {
        return Err(invalid(format!("{field}token: the card reader's token is needed")));
    }
    if card_data::looks_like_card(token) {
        return Err(invalid(format!(
            "{field}token: this looks like a card number, which must never be sent here; send the reader's token"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn part(kind: TenderKind, amount: u64) -> Part {
        Part { kind, amount, ..Part::default() }
    }

    fn due(exact: u64, parts: &[Part]) -> Due {
        // Coins of five.
        Due::new(exact, parts, |total| Some((total + 2) / 5 * 5)).unwrap()
    }

    #[test]
    fn what_is_left_is_rounded_to_coins_only_where_it_is_paid_in_them() {
        let nothing = due(998, &[]);
        assert_eq!((nothing.total, nothing.left, nothing.left_in_cash, nothing.over), (998, 998, 1_000, 0));
        let by_card = due(998, &[part(TenderKind::Card, 500)]);
        assert_eq!((by_card.left, by_card.left_in_cash, by_card.covered), (498, 500, 500));
        let in_cash = due(998, &[part(TenderKind::Cash, 500)]);
        assert_eq!((in_cash.total, in_cash.left, in_cash.left_in_cash), (1_000, 500, 500));
        let paid = due(998, &[part(TenderKind::Card, 500), part(TenderKind::Cash, 500)]);
        assert_eq!((paid.total, paid.left, paid.over), (1_000, 0, 0));
    }

    #[test]
    fn what_was_voided_or_declined_covers_nothing() {
        let voided = Part { state: PartState::Void, ..part(TenderKind::Cash, 500) };
        let declined = Part { state: PartState::Declined, ..part(TenderKind::Card, 400) };
        assert_eq!(due(1_000, &[voided, declined]).left, 1_000);
    }

    #[test]
    fn what_covers_more_than_the_basket_costs_now_is_said() {
        let over = due(300, &[part(TenderKind::Card, 500)]);
        assert_eq!((over.total, over.left, over.over), (300, 0, 200));
        let mixed = due(300, &[part(TenderKind::Card, 200), part(TenderKind::Cash, 200)]);
        assert_eq!((mixed.left, mixed.over), (0, 100));
    }
}
