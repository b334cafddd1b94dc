//! A sale in one call whose cards the hub is asked about: it waits for them, and is recorded or given back whole.
//!
//! Whoever asked waits with it. If she is gone when all parts are there (a crash between), the parts are held for a while
//! for the same request to come again, and then given back: nobody is charged for what nobody was told of.

use serde::{Deserialize, Serialize};
use stallmesh_protocol::SaleId;
use stallmesh_protocol::payment::PaymentName;
use stallmesh_protocol::planted::{self, Bug};

use super::{Due, Place};
use crate::engine::tenders::Part;
use crate::engine::{
    Answer, BasketId, Effect, Engine, Failure, FailureCode, PartState, ReasonAnswer, ReasonView, Request, RequestId,
    SaleOrder,
};
use crate::store::{Store, StoreError, Table};

/// How long parts are held for a request that may come again, in milliseconds.
const HELD_MS: u64 = 5 * 60_000;
/// How long the numbers of parts that came to nothing are remembered: a day.
const REMEMBERED_MS: u64 = 24 * 3_600_000;

/// A sale that waits for its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::engine) struct Attempt {
    pub(in crate::engine) order: SaleOrder,
    pub(in crate::engine) order_hash: String,
    /// Whose sale it is, beside what the basket's own parts cover.
    basket: Option<String>,
    /// Those of earlier attempts under this sale id first: a number that was used is never used again.
    pub(in crate::engine) parts: Vec<Part>,
    /// Where this attempt's begin.
    begins: usize,
    /// It came to nothing.
    pub(in crate::engine) is_over: bool,
}

impl Attempt {
    pub(in crate::engine) fn new(
        order: &SaleOrder,
        order_hash: String,
        basket: Option<BasketId>,
        before: Vec<Part>,
        parts: Vec<Part>,
    ) -> Self {
        let begins = before.len();
        let parts = before.into_iter().chain(parts).collect();
        let basket = basket.map(|id| id.to_string());
        Attempt { order: order.clone(), order_hash, basket, parts, begins, is_over: false }
    }

    fn basket(&self) -> Option<BasketId> {
        self.basket.as_deref()?.parse().ok()
    }

    fn own(&self) -> &[Part] {
        self.parts.get(self.begins..).unwrap_or_default()
    }
}

fn place_of(sale: &SaleId) -> Vec<u8> {
    [b"p".as_slice(), sale.as_bytes()].concat()
}

impl<S: Store> Engine<S> {
    /// Answers a request, at once or when what it waits for has come.
    pub(in crate::engine) fn answer_or_wait(&mut self, id: RequestId, request: Request) {
        let answer = self.answer(request);
        match self.payments.waits_for.take() {
            Some(sale) => {
                self.payments.waiters.entry(sale).or_default().push(id);
                self.advance_attempt(sale);
            }
            None => self.effects.push(Effect::Answer(id, answer)),
        }
    }

    /// The request that is being answered waits for a sale's parts.
    pub(in crate::engine) fn wait_for(&mut self, sale: SaleId) -> Failure {
        self.payments.waits_for = Some(sale);
        Failure::new(FailureCode::EUnavailable, "the hub is being asked: send the same request again")
    }

    pub(in crate::engine) fn attempt_of(&self, sale: &SaleId) -> Result<Option<Attempt>, StoreError> {
        let value = self.overlay.get(Table::Sales, &place_of(sale))?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    pub(in crate::engine) fn keep_attempt(&mut self, sale: &SaleId, attempt: &Attempt) {
        self.overlay.put(Table::Sales, place_of(sale), serde_json::to_vec(attempt).unwrap_or_default());
    }

    /// A basket that is being paid is nobody's to change.
    pub(in crate::engine) fn check_not_paying(&self, stall: &str, id: &BasketId) -> Result<(), Failure> {
        match self.attempt_of(&SaleId::derive(stall, &id.sale_key()))? {
            Some(attempt) if !attempt.is_over => {
                let detail = "this basket is being paid: wait for the hub's answer";
                Err(Failure::new(FailureCode::EConflict, detail))
            }
            _ => Ok(()),
        }
    }

    /// Sales that waited when this node ended.
    pub(super) fn load_attempts(&mut self) -> Result<Vec<SaleId>, StoreError> {
        let mut sales = Vec::new();
        for (key, value) in self.overlay.scan_prefix(Table::Sales, b"p")? {
            let (Ok(sale), Ok(attempt)) = (SaleId::try_from(&key[1..]), serde_json::from_slice::<Attempt>(&value))
            else {
                continue;
            };
            let for_ms = if attempt.is_over { REMEMBERED_MS } else { HELD_MS };
            self.payments.due.insert(Due::Attempt(sale), self.now.monotonic_ms.saturating_add(for_ms));
            sales.push(sale);
        }
        Ok(sales)
    }

    /// Records a sale whose parts are all there, or gives them back where one isn't; nothing while one is asked about.
    pub(in crate::engine) fn advance_attempt(&mut self, sale: SaleId) {
        let attempt = self.attempt_of(&sale);
        let Some(mut attempt) = self.guard(attempt).flatten() else { return };
        if attempt.is_over || attempt.own().iter().any(Part::is_open) {
            return;
        }
        let is_paid = attempt.own().iter().all(Part::counts);
        let waiters = self.payments.waiters.remove(&sale).unwrap_or_default();
        if is_paid && waiters.is_empty() && !planted::is_on(Bug::RecordsUnasked) {
            let until = self.now.monotonic_ms.saturating_add(HELD_MS);
            self.payments.due.entry(Due::Attempt(sale)).or_insert(until);
            return;
        }
        let recorded = match is_paid {
            true => self.record_attempted(&attempt.order, &attempt.order_hash, attempt.basket(), attempt.own()),
            false => Err(refusal(attempt.own())),
        };
        let answer = match recorded {
            Ok(answer) => {
                self.overlay.delete(Table::Sales, place_of(&sale));
                self.payments.due.remove(&Due::Attempt(sale));
                answer
            }
            Err(failure) => {
                self.abandon(sale, &mut attempt);
                Answer::Failed(failure)
            }
        };
        self.effects.extend(waiters.into_iter().map(|waiter| Effect::Answer(waiter, answer.clone())));
    }

    /// Nobody has come back for it.
    pub(super) fn give_up_attempt(&mut self, sale: SaleId) {
        let attempt = self.attempt_of(&sale);
        let Some(mut attempt) = self.guard(attempt).flatten() else { return };
        if attempt.is_over {
            self.overlay.delete(Table::Sales, place_of(&sale));
        } else {
            self.abandon(sale, &mut attempt);
        }
    }

    /// Gives back what an attempt has taken.
    fn abandon(&mut self, sale: SaleId, attempt: &mut Attempt) {
        let basket = attempt.basket();
        for part in attempt.parts.iter_mut().skip(attempt.begins).filter(|part| part.counts() || part.is_open()) {
            if let Err(failure) = self.void_part(Place::Attempt, sale, part) {
                let payment = PaymentName { sale, number: part.number };
                tracing::warn!(%failure, %payment, "the hub could not be told that a payment is void");
            }
        }
        attempt.is_over = true;
        if let Some(id) = basket
            && let Ok(mut record) = self.known_basket(&id)
            && record.check_open().is_ok()
        {
            // Seen there, and their numbers stay used.
            record.tenders.extend_from_slice(attempt.own());
            self.change_record(&id, &mut record);
            self.overlay.delete(Table::Sales, place_of(&sale));
            self.payments.due.remove(&Due::Attempt(sale));
            return;
        }
        self.keep_attempt(&sale, attempt);
        let until = self.now.monotonic_ms.saturating_add(REMEMBERED_MS);
        self.payments.due.insert(Due::Attempt(sale), until);
    }
}

/// Why a sale came to nothing.
fn refusal(parts: &[Part]) -> Failure {
    let declined = || parts.iter().filter(|part| part.state == PartState::Declined);
    let sentences: Vec<String> = declined().map(|part| format!("tender {}: {}", part.number, part.because)).collect();
    let asked: Vec<ReasonView> = declined().flat_map(|part| part.reasons.clone()).collect();
    // Where each was but a question, the same request with its answer goes on.
    let is_question = declined()
        .all(|part| !part.reasons.is_empty() && part.reasons.iter().all(|reason| reason.answer == ReasonAnswer::Ask));
    let code = if is_question { FailureCode::EAsk } else { FailureCode::EDeclined };
    Failure { reasons: asked, ..Failure::new(code, sentences.join("; ")) }
}
