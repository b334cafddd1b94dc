//! Cards on line first: before a sale is recorded the hub is asked, by a sealed entry that every carrier takes along.
//!
//! The intent is durable before anybody can hear of it, and (sale id, tender's number) names the payment for ever. So a
//! crash changes nothing: the hub's outcome finds the part by what is kept here, whenever it comes. Where none comes in
//! time, the market's policy for what is taken without the hub decides; what is not taken then is voided by an entry that
//! the hub gets after the intent.
//!
//! ```text
//! sales   "q" ‖ outcome's tag   which part was asked about, as JSON, until its outcome has come
//!         "p" ‖ sale id         a sale that waits for its parts, as JSON
//! ```

mod attempts;
mod reader;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stallmesh_protocol::entry::Part as EntryPart;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::payment::{AnswerKey, IntentAt, PaymentName};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, Kind, Lane, SaleId};

use super::author::Parts;
use super::judgement::Said;
use super::logs::Held;
use super::tenders::Part;
use super::{Authorised, BasketId, Engine, Failure, PartState, RequestId};
use crate::card_data;
use crate::fraud::Subject;
use crate::gateway::Decision;
use crate::store::{Store, StoreError, Table};

pub(super) use self::attempts::Attempt;

/// How much of what a gateway says about a payment is shown.
const BECAUSE_MAX: usize = 200;

/// Whose part of a payment it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Place {
    /// An open basket's.
    Basket(#[serde(with = "basket_text")] BasketId),
    /// A sale's that waits for it.
    Attempt,
}

/// A part that the hub was asked about, as the store has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Asked {
    sale: String,
    number: u32,
    place: Place,
    log: String,
    sequence: u64,
    hash: String,
    key: String,
}

impl Asked {
    fn name(&self) -> Option<PaymentName> {
        Some(PaymentName { sale: self.sale.parse().ok()?, number: self.number })
    }

    fn intent(&self) -> Option<IntentAt> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.hash, &mut hash).ok()?;
        Some(IntentAt { log: self.log.parse().ok()?, sequence: self.sequence, hash: Hash::from_bytes(hash) })
    }

    fn key(&self) -> Option<AnswerKey> {
        let mut key = [0; 32];
        hex::decode_to_slice(&self.key, &mut key).ok()?;
        Some(AnswerKey::new(key))
    }
}

/// Something that is to happen if nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The hub has not answered.
    Part(Place, PaymentName),
    /// Nobody has come back for a sale whose parts are all there.
    Attempt(SaleId),
}

/// What waits for others at this till.
#[derive(Debug, Default)]
pub(super) struct Payments {
    /// When, in monotonic milliseconds.
    due: BTreeMap<Due, u64>,
    /// Who waits for a sale.
    waiters: BTreeMap<SaleId, Vec<RequestId>>,
    /// Payments that the card reader was asked for, and where their parts are.
    at_reader: BTreeMap<PaymentName, Place>,
    /// What the request that is being answered has to wait for.
    waits_for: Option<SaleId>,
}

impl Payments {
    /// When something is due, in monotonic milliseconds.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.due.values().min().copied()
    }
}

/// Under what a part is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking<'a> {
    /// The sale that it is to become.
    pub(super) sale: SaleId,
    /// Where it is kept until then.
    pub(super) place: Place,
    /// What a person has answered.
    pub(super) said: Said<'a>,
    /// Rehearsals ask nobody.
    pub(super) is_rehearsal: bool,
    /// How long the hub is waited for, in milliseconds; without it, it isn't asked.
    pub(super) within_ms: Option<u64>,
}

impl<S: Store> Engine<S> {
    /// Goes on with what waited when this node ended: the hub has as long as it had at first.
    pub(super) fn load_payments(&mut self) -> Result<(), StoreError> {
        let within_ms = self.asks_within().unwrap_or(0);
        let mut all: Vec<(Place, SaleId, Vec<Part>)> = Vec::new();
        for (id, sale, parts) in self.basket_parts()? {
            all.push((Place::Basket(id), sale, parts));
        }
        for sale in self.load_attempts()? {
            all.push((Place::Attempt, sale, self.attempt_of(&sale)?.map(|attempt| attempt.parts).unwrap_or_default()));
        }
        for (place, sale, parts) in all {
            for part in parts.iter().filter(|part| part.is_open()) {
                let name = PaymentName { sale, number: part.number };
                if part.is_at_reader {
                    self.find_at_reader(place, name);
                } else {
                    let until = self.now.monotonic_ms.saturating_add(within_ms);
                    self.payments.due.insert(Due::Part(place, name), until);
                }
            }
        }
        self.load_reversals()
    }

    /// How long the hub is waited for, where there is a way to it and the market asks it.
    pub(super) fn asks_hub_within(&mut self, is_rehearsal: bool) -> Option<u64> {
        let is_reachable = !is_rehearsal && self.hops().is_some();
        is_reachable.then(|| self.asks_within()).flatten()
    }

    /// Asks the hub for a part's payment: from this commit on it is known, and named for ever.
    pub(super) fn ask_hub(&mut self, taking: &Taking<'_>, part: &mut Part, within_ms: u64) -> Result<(), Failure> {
        let wanted = part.amount.saturating_add(part.tip);
        let key = AnswerKey::new(self.random_bytes());
        let message = payload::PaymentIntent {
            sale: taking.sale.as_bytes().to_vec(),
            number: part.number,
            amount: wanted,
            currency: self.views.market().map(|market| market.currency.clone()).unwrap_or_default(),
            token: part.token.clone(),
            fingerprint: part.fingerprint.map(|bytes| bytes.to_vec()).unwrap_or_default(),
            answer_key: key.as_bytes().to_vec(),
        };
        let parts = Parts { money: Some(encode(&message)), personal: None };
        let held = self.append_sealed(Lane::SALES, Kind::PAYMENT_INTENT, &parts)?;
        let asked = Asked {
            sale: taking.sale.to_string(),
            number: part.number,
            place: taking.place,
            log: self.logs.id(&held.log).to_string(),
            sequence: held.sequence,
            hash: held.hash.to_string(),
            key: hex::encode(key.as_bytes()),
        };
        self.overlay.put(Table::Sales, asked_key(&key.tag()), serde_json::to_vec(&asked).unwrap_or_default());
        (part.state, part.authorised, part.is_asked) = (PartState::Asked, Authorised::None, true);
        "the hub is asked".clone_into(&mut part.because);
        let name = PaymentName { sale: taking.sale, number: part.number };
        let until = self.now.monotonic_ms.saturating_add(within_ms);
        self.payments.due.insert(Due::Part(taking.place, name), until);
        Ok(())
    }

    /// The hub is told that a payment it was asked for never came about.
    pub(super) fn void_at_hub(&mut self, name: PaymentName) -> Result<(), Failure> {
        if planted::is_on(Bug::VoidUntold) {
            return Ok(());
        }
        let message = payload::PaymentVoid { sale: name.sale.as_bytes().to_vec(), number: name.number };
        let parts = Parts { money: Some(encode(&message)), personal: None };
        self.append_sealed(Lane::SALES, Kind::PAYMENT_VOID, &parts)?;
        Ok(())
    }

    /// Gives a part back, whatever had become of it.
    pub(super) fn void_part(&mut self, place: Place, sale: SaleId, part: &mut Part) -> Result<(), Failure> {
        let name = PaymentName { sale, number: part.number };
        if part.is_asked && part.state != PartState::Declined {
            self.void_at_hub(name)?;
        }
        if part.was_at_reader && (part.counts() || part.is_open()) {
            self.reverse_at_reader(sale, part);
        }
        self.payments.due.remove(&Due::Part(place, name));
        part.state = PartState::Void;
        part.because.clear();
        if !planted::is_on(Bug::VoidedWaits) {
            self.unexpose(sale, part.number);
        }
        Ok(())
    }

    /// An outcome has come: of a payment of this device's, or of somebody else's.
    pub(super) fn outcome_came(&mut self, held: &Held) {
        if held.log.lane != Lane::SIGNAL || !self.is_hub_device(&held.log.author) {
            return;
        }
        let Some(bytes) = held.entry.payload.bytes(EntryPart::Public) else { return };
        let Ok(outcome) = payload::decode::<payload::PaymentOutcome>("payment outcome", bytes) else { return };
        let known = self.overlay.get(Table::Sales, &asked_key(&outcome.intent));
        let Some(value) = self.guard(known).flatten() else { return };
        let Ok(asked) = serde_json::from_slice::<Asked>(&value) else { return };
        let (Some(name), Some(at), Some(key)) = (asked.name(), asked.intent(), asked.key()) else { return };
        let answer = match key.open(&at, &outcome) {
            Ok(answer) => answer,
            Err(problem) => {
                tracing::warn!(%problem, payment = %name, "an outcome that can't be opened");
                return;
            }
        };
        self.overlay.delete(Table::Sales, asked_key(&outcome.intent));
        let because = || shown(&answer.because);
        let decision = match answer.answer {
            1 => Decision::Approved { amount: answer.amount, reference: answer.reference },
            2 => Decision::Declined { because: because() },
            _ => Decision::Unavailable { because: because() },
        };
        self.decided(asked.place, name, decision);
    }

    /// Takes in what became of a part, or of one that its sale was recorded with.
    fn decided(&mut self, place: Place, name: PaymentName, decision: Decision) {
        let is_here = self.change_part(place, name, |engine, part| engine.decide(place, name, part, &decision));
        if is_here {
            return;
        }
        match decision {
            Decision::Approved { .. } => self.unexpose(name.sale, name.number),
            // What was voided, or tried in vain, nobody has taken.
            Decision::Declined { .. } if !self.is_uncaptured(&name.sale, name.number) => {}
            Decision::Declined { because } => {
                let because = if because.is_empty() { "no reason given" } else { &because };
                self.alarm(format!(
                    "a payment of sale {} that was taken without the hub was declined later: {because}",
                    name.sale
                ));
            }
            Decision::Unavailable { .. } => {}
        }
    }

    fn decide(&mut self, place: Place, name: PaymentName, part: &mut Part, decision: &Decision) {
        if !(part.is_open() || part.state == PartState::Approved && part.authorised == Authorised::Offline) {
            return;
        }
        match decision {
            Decision::Approved { amount: 0, .. } => self.decline(part, name, "the bank holds nothing for it".into()),
            Decision::Approved { amount, reference } => {
                let wanted = part.amount.saturating_add(part.tip);
                if *amount < wanted && !planted::is_on(Bug::PartialWhole) {
                    part.amount = part.amount.min(*amount);
                    part.tip = amount - part.amount;
                    part.because = "the bank approved less than was asked for".into();
                } else {
                    part.because.clear();
                }
                (part.state, part.authorised) = (PartState::Approved, Authorised::Online);
                part.market_bears = false;
                part.reference = shown(reference);
                self.unexpose(name.sale, name.number);
            }
            Decision::Declined { because } => {
                let because = if because.is_empty() { "the bank declined it" } else { because };
                self.decline(part, name, because.to_owned());
            }
            // What is taken already stays so.
            Decision::Unavailable { .. } if !part.is_open() => return,
            Decision::Unavailable { because } => self.take_without_hub(name, part, because),
        }
        self.payments.due.remove(&Due::Part(place, name));
    }

    /// A part isn't taken; the reader lets go of what it had approved.
    fn decline(&mut self, part: &mut Part, name: PaymentName, because: String) {
        if part.was_at_reader && !part.is_at_reader && !part.token.is_empty() {
            self.reverse_at_reader(name.sale, part);
        }
        (part.state, part.authorised, part.because) = (PartState::Declined, Authorised::None, because);
        self.unexpose(name.sale, name.number);
    }

    /// The hub is silent: the market's policy for that decides.
    fn take_without_hub(&mut self, name: PaymentName, part: &mut Part, silence: &str) {
        if planted::is_on(Bug::SilenceApproves) {
            (part.state, part.authorised) = (PartState::Approved, Authorised::Online);
            return;
        }
        let silence = if silence.is_empty() { "the hub did not answer in time" } else { silence };
        let fingerprint = part.fingerprint.map(Subject);
        let (confirmed, known) = (part.confirmed.clone(), part.known.clone());
        let said = Said { confirmed: &confirmed, known: &known };
        let wanted = part.amount.saturating_add(part.tip);
        let cards: Vec<Subject> = fingerprint.into_iter().collect();
        match self.judge_card(&cards, wanted, true, &said) {
            Ok(market_bears) => {
                (part.state, part.authorised) = (PartState::Approved, Authorised::Offline);
                (part.market_bears, part.because) = (market_bears, silence.to_owned());
                self.expose(name.sale, part.number, fingerprint, wanted);
            }
            Err(failure) => {
                part.reasons = failure.reasons;
                self.decline(part, name, format!("{silence}, and {}", failure.detail));
                // Nobody knows what the hub's gateway may hold by now, or later.
                if let Err(failure) = self.void_at_hub(name) {
                    tracing::warn!(%failure, payment = %name, "the hub could not be told that a payment is void");
                }
            }
        }
    }

    /// What was waited for and did not come.
    pub(super) fn payments_tick(&mut self) {
        let now = self.now.monotonic_ms;
        let due: Vec<Due> = self.payments.due.iter().filter(|(_, at)| **at <= now).map(|(due, _)| *due).collect();
        for due in due {
            self.payments.due.remove(&due);
            match due {
                Due::Part(place, name) => {
                    self.change_part(place, name, |engine, part| {
                        if part.is_open() {
                            engine.take_without_hub(name, part, "");
                        }
                    });
                }
                Due::Attempt(sale) => self.give_up_attempt(sale),
            }
        }
    }

    /// Changes a part where it is kept. False where it isn't any more: its sale was recorded, or never will be.
    fn change_part(&mut self, place: Place, name: PaymentName, change: impl FnOnce(&mut Self, &mut Part)) -> bool {
        match place {
            Place::Basket(id) => {
                let Ok(mut record) = self.known_basket(&id) else { return false };
                if record.check_open().is_err() {
                    return false;
                }
                let Some(part) = record.tenders.iter_mut().find(|part| part.number == name.number) else {
                    return false;
                };
                change(self, part);
                self.change_record(&id, &mut record);
                true
            }
            Place::Attempt => {
                let attempt = self.attempt_of(&name.sale);
                let Some(mut attempt) = self.guard(attempt).flatten() else { return false };
                let Some(part) = attempt.parts.iter_mut().find(|part| part.number == name.number) else {
                    return false;
                };
                change(self, part);
                self.keep_attempt(&name.sale, &attempt);
                self.advance_attempt(name.sale);
                true
            }
        }
    }
}

fn asked_key(tag: &[u8]) -> Vec<u8> {
    [b"q".as_slice(), tag].concat()
}

/// What others say about a payment, as it may stand on a till.
fn shown(text: &str) -> String {
    let clean: String = text.chars().filter(|letter| !letter.is_control()).take(BECAUSE_MAX).collect();
    card_data::mask(&clean).into_owned()
}

mod basket_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::engine::BasketId;

    pub(super) fn serialize<S: Serializer>(id: &BasketId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BasketId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
