//! What a hub asks its gateway for tills, and tells them.
//!
//! An intent that is held is what is durable before the gateway hears of it; what the gateway was asked, and said, stands
//! beside it, so that a hub that starts again asks under the same name. Two devices that ask under one name (a stall's copy
//! of a sale on another till) are told the same.
//!
//! ```text
//! sales   "g" ‖ payment's name    what the gateway was asked, and has said, as JSON
//! ```

use serde::{Deserialize, Serialize};
use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::money;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::payment::{AnswerKey, IntentAt, PaymentName};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{DeviceId, Hash, Incarnation, Kind, Lane, LogName, SaleId};

use crate::engine::logs::Held;
use crate::engine::views::position;
use crate::engine::{Effect, Engine};
use crate::gateway::{Authorisation, Decision, GatewayCall, GatewayOutcome, GatewayReply};
use crate::store::{Store, StoreError, Table};

/// An intent that comes later than this after it was written is not asked about any more, in milliseconds: its till has
/// long decided without the hub, and the card's owner has gone.
const INTENT_LIFE_MS: u64 = 10 * 60_000;

/// What a hub remembers while it runs.
#[derive(Debug, Default)]
pub(crate) struct GatewayBook {
    /// How often it was asked by this run: a planted bug's, and nothing else's.
    asked: u64,
}

/// Where an intent stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Intent {
    author: String,
    incarnation: String,
    sequence: u64,
    hash: String,
}

impl Intent {
    fn of(held: &Held) -> Self {
        Intent {
            author: held.log.author.to_string(),
            incarnation: held.log.incarnation.to_string(),
            sequence: held.sequence,
            hash: held.hash.to_string(),
        }
    }

    fn place(&self) -> Option<(LogName, u64, Hash)> {
        let (author, incarnation): (DeviceId, Incarnation) =
            (self.author.parse().ok()?, self.incarnation.parse().ok()?);
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.hash, &mut hash).ok()?;
        Some((LogName { author, incarnation, lane: Lane::SALES }, self.sequence, Hash::from_bytes(hash)))
    }
}

/// A gateway's word, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Approved { amount: u64, reference: String },
    Declined { because: String },
    Unavailable { because: String },
}

impl From<&Decision> for Said {
    fn from(decision: &Decision) -> Self {
        match decision.clone() {
            Decision::Approved { amount, reference } => Said::Approved { amount, reference },
            Decision::Declined { because } => Said::Declined { because },
            Decision::Unavailable { because } => Said::Unavailable { because },
        }
    }
}

impl Said {
    fn answer(&self) -> payload::PaymentAnswer {
        let nothing = payload::PaymentAnswer::default();
        match self.clone() {
            Said::Approved { amount, reference } => payload::PaymentAnswer { answer: 1, amount, reference, ..nothing },
            Said::Declined { because } => payload::PaymentAnswer { answer: 2, because, ..nothing },
            Said::Unavailable { because } => payload::PaymentAnswer { answer: 3, because, ..nothing },
        }
    }
}

/// A payment, as the store has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payment {
    intents: Vec<Intent>,
    amount: u64,
    /// The gateway's word, once it is known.
    said: Option<Said>,
    /// A till has said that it never came about.
    is_void: bool,
    /// The gateway has let go of it.
    is_let_go: bool,
}

impl Payment {
    /// Whether the gateway may hold something that nobody wants.
    fn must_be_let_go(&self) -> bool {
        self.is_void && !self.is_let_go && !matches!(self.said, None | Some(Said::Declined { .. }))
    }
}

fn place_of(payment: &str) -> Vec<u8> {
    [b"g".as_slice(), payment.as_bytes()].concat()
}

fn unavailable(because: &str) -> Said {
    Said::Unavailable { because: because.to_owned() }
}

fn declined(because: impl Into<String>) -> Said {
    Said::Declined { because: because.into() }
}

impl<S: Store> Engine<S> {
    /// Goes on where the last run ended: what isn't known is asked again under its own name.
    pub(crate) fn load_gateway(&mut self) -> Result<(), StoreError> {
        if !self.is_hub() || !self.settings.gateway {
            return Ok(());
        }
        for (key, value) in self.overlay.scan_prefix(Table::Sales, b"g")? {
            let (Ok(name), Ok(payment)) = (std::str::from_utf8(&key[1..]), serde_json::from_slice::<Payment>(&value))
            else {
                continue;
            };
            if payment.said.is_none() {
                if let Some((_, message)) = payment.intents.first().and_then(|intent| self.read_intent(intent)) {
                    self.gateway.asked += 1;
                    self.authorise(name, &message);
                }
            } else if payment.must_be_let_go() {
                self.let_go(name);
            }
        }
        Ok(())
    }

    /// An intent or a void has come to a hub.
    pub(crate) fn payment_came(&mut self, held: &Held) {
        if held.log.lane != Lane::SALES || !self.is_hub() {
            return;
        }
        let Some(stall) = self.views.membership.stall(&held.log.author).map(str::to_owned) else { return };
        if held.entry.kind == Kind::PAYMENT_VOID {
            if let Some(message) = self.open_payment::<payload::PaymentVoid>(held, "payment void")
                && let Ok(sale) = SaleId::try_from(message.sale.as_slice())
            {
                self.void_came(&name_of(&stall, PaymentName { sale, number: message.number }));
            }
            return;
        }
        let Some(message) = self.open_payment::<payload::PaymentIntent>(held, "payment intent") else { return };
        let (Ok(sale), Ok(key)) = (SaleId::try_from(message.sale.as_slice()), message.answer_key.as_slice().try_into())
        else {
            return;
        };
        let name = name_of(&stall, PaymentName { sale, number: message.number });
        let known = self.known_payment(&name);
        let said = match &known {
            Some(known) if known.is_void => Some(declined("it was voided")),
            Some(known) if known.amount != message.amount => {
                Some(declined("another payment of another amount has this name"))
            }
            Some(known) => known.said.clone(),
            // Its till has decided long ago. A hub that was made anew is given all of a day's intents.
            None if held.entry.timestamp.saturating_add(INTENT_LIFE_MS) < self.time() => return,
            None => self.why_not_asked(held, &message),
        };
        // One more of a payment that is known changes nothing but who is told.
        let mut payment = known.clone().unwrap_or(Payment {
            intents: Vec::new(),
            amount: message.amount,
            said: said.clone(),
            is_void: false,
            is_let_go: false,
        });
        payment.intents.push(Intent::of(held));
        self.keep_payment(&name, &payment);
        match said {
            Some(said) => self.tell_outcome(held, key, &said),
            None if known.is_none() => self.authorise(&name, &message),
            None => {}
        }
    }

    /// Why a payment isn't asked about; `None` where it is.
    fn why_not_asked(&mut self, held: &Held, message: &payload::PaymentIntent) -> Option<Said> {
        let at = position(held);
        let membership = &self.views.membership;
        if let Err(reason) = membership.stands(&at, &self.views.coverage, &self.ancestry()) {
            return Some(declined(reason.to_string()));
        }
        let may_sell = membership
            .certificate(&held.log.author)
            .is_some_and(|certificate| certificate.scopes.allows_amount(Scope::SELL, message.amount));
        let currency = self.views.market().map(|market| market.currency.as_str()).unwrap_or_default();
        if !may_sell {
            Some(declined("this device may not sell for that much"))
        } else if message.currency != currency || message.amount == 0 || message.amount > money::AMOUNT_MAX {
            Some(declined("no amount of this market's currency"))
        } else if !self.settings.gateway {
            Some(unavailable("the market's hub asks no bank"))
        } else {
            None
        }
    }

    fn authorise(&mut self, name: &str, message: &payload::PaymentIntent) {
        let mut payment = name.to_owned();
        if planted::is_on(Bug::AnsweredTwice) && self.gateway.asked > 0 {
            payment = format!("{name}/{}", self.incarnation.short());
        }
        let order = Authorisation {
            payment,
            amount: message.amount,
            currency: message.currency.clone(),
            token: message.token.clone(),
        };
        self.effects.push(Effect::Gateway(GatewayCall::Authorise(order)));
    }

    fn let_go(&mut self, name: &str) {
        self.effects.push(Effect::Gateway(GatewayCall::Void { payment: name.to_owned() }));
    }

    fn void_came(&mut self, name: &str) {
        // One that another hub was asked for, or that overtakes its intent: it is never held later.
        let unknown = || Payment {
            intents: Vec::new(),
            amount: 0,
            said: Some(unavailable("it was voided")),
            is_void: false,
            is_let_go: false,
        };
        let mut payment = self.known_payment(name).unwrap_or_else(unknown);
        if !payment.is_void {
            payment.is_void = true;
            self.keep_payment(name, &payment);
            if payment.must_be_let_go() && self.settings.gateway {
                self.let_go(name);
            }
        }
    }

    /// The gateway has answered: the tills are told, once it is durable.
    pub(crate) fn gateway_replied(&mut self, reply: &GatewayReply) {
        let name = reply.payment.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
        let Some(mut payment) = self.known_payment(&name) else { return };
        match &reply.outcome {
            GatewayOutcome::Voided => {
                payment.is_let_go = true;
                self.keep_payment(&name, &payment);
            }
            GatewayOutcome::Decided(_) if payment.said.is_some() => {}
            GatewayOutcome::Decided(decision) => {
                let said = Said::from(decision);
                payment.said = Some(said.clone());
                self.keep_payment(&name, &payment);
                for intent in &payment.intents {
                    let Some((held, message)) = self.read_intent(intent) else { continue };
                    if let Ok(key) = message.answer_key.as_slice().try_into() {
                        self.tell_outcome(&held, key, &said);
                    }
                }
                if payment.must_be_let_go() {
                    self.let_go(&name);
                }
            }
        }
    }

    fn tell_outcome(&mut self, held: &Held, key: [u8; 32], said: &Said) {
        let at = IntentAt { log: self.logs.id(&held.log), sequence: held.sequence, hash: held.hash };
        let told = AnswerKey::new(key).seal(&at, &said.answer()).map_err(|error| error.to_string());
        let told = told.and_then(|outcome| {
            let appended = self.append_public(Lane::SIGNAL, Kind::PAYMENT_OUTCOME, encode(&outcome));
            appended.map_err(|error| error.to_string())
        });
        if let Err(error) = told {
            tracing::warn!(%error, "the outcome of a payment could not be told");
        }
    }

    fn open_payment<M: prost::Message + Default>(&mut self, held: &Held, what: &'static str) -> Option<M> {
        let opened = self.open_part(held, Part::Money);
        let read = opened.and_then(|bytes| payload::decode(what, &bytes).map_err(|error| error.to_string()));
        read.inspect_err(|problem| tracing::warn!(%problem, what, "can't be read")).ok()
    }

    fn read_intent(&mut self, intent: &Intent) -> Option<(Held, payload::PaymentIntent)> {
        let (log, sequence, hash) = intent.place()?;
        let held = self.logs.held_at(&self.overlay, &log, sequence);
        let held = self.guard(held)?.into_iter().find(|held| held.hash == hash)?;
        let message = self.open_payment(&held, "payment intent")?;
        Some((held, message))
    }

    fn known_payment(&mut self, name: &str) -> Option<Payment> {
        let value = self.overlay.get(Table::Sales, &place_of(name));
        serde_json::from_slice(&self.guard(value).flatten()?).ok()
    }

    fn keep_payment(&mut self, name: &str, payment: &Payment) {
        self.overlay.put(Table::Sales, place_of(name), serde_json::to_vec(payment).unwrap_or_default());
    }
}

/// A payment's name among all stalls': nobody takes another stall's name.
fn name_of(stall: &str, payment: PaymentName) -> String {
    format!("{stall}/{payment}")
}
