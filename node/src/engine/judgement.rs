//! Whether a payment is taken, asked about or declined: the fraud rules over what is said, and the market's limits for
//! cards that are taken without the hub.
//!
//! ```text
//! sales   "e" ‖ sale id    what its sale took by card without the hub, as JSON, until it is settled
//! ```

use serde::{Deserialize, Serialize};
use stallmesh_protocol::certificate::{Role, Scope};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, Kind, Lane, SaleId};

use super::signals::{self, SIGNALS_MAX, reference};
use super::{
    BlockOrder, Engine, Failure, FailureCode, META_NARROWED, ReasonAnswer, ReasonView, RulesOrder, RulesView,
    SignalView, UncapturedView,
};
use crate::fraud::files::RulesFile;
use crate::fraud::{self, Action, Attempt, Fact, LIFE_MAX_MS, Reference, Rules, Signal, Stall, Subject, Voice};
use crate::risk::files::{Bearer, PolicyFile, StallFile};
use crate::risk::{self, Exposure, Limit, PaymentKey, Policy, Uncaptured};
use crate::store::{Store, StoreError, Table};

/// So many keys of fingerprints are tried on a card: a block outlives the key under which it was said.
const KEYS_TRIED: usize = 4;
/// In milliseconds.
const MINUTE_MS: i64 = 60_000;

/// What a person has answered: ids of reasons that she lets pass, once or for all whom they are about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) confirmed: &'a [String],
    pub(super) known: &'a [String],
}

impl Said<'_> {
    fn lets_pass(&self, reason: &ReasonView) -> bool {
        let names = |ids: &[String]| ids.contains(&reason.id);
        names(self.confirmed) || (reason.known_for_ms > 0 && names(self.known))
    }
}

/// What the hub's rules come to on this device.
#[derive(Debug)]
struct Compiled {
    /// Of the rules' entry; none where the hub has published none.
    entry: Option<Hash>,
    currency: String,
    fraud: Rules,
    /// As the hub wrote it.
    fraud_file: RulesFile,
    market: PolicyFile,
    risk: Policy,
    problem: String,
}

/// A payment that waits to be captured, as the store has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    tender: u32,
    fingerprint: Option<[u8; 16]>,
    amount: u64,
    at_ms: u64,
}

/// What judges payments here.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    compiled: Option<Compiled>,
    narrowed_by: StallFile,
    exposure: Exposure,
    /// What was noted last of this device's clock: how often the index had been begun, and minutes ahead.
    clock_noted: Option<(u64, i64)>,
}

impl Judge {
    fn rules(&self) -> Result<&Compiled, Failure> {
        self.compiled
            .as_ref()
            .ok_or_else(|| Failure::new(FailureCode::EUnavailable, "the rules of payments aren't there"))
    }
}

fn invalid(detail: impl Into<String>) -> Failure {
    Failure::new(FailureCode::EInvalid, detail)
}

fn read_rules(message: &payload::CheckoutRules, currency: &str) -> Result<(RulesFile, Rules, PolicyFile), String> {
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let fraud_text = or(&message.fraud, fraud::DEFAULT_RULES);
    let fraud = Rules::read(&fraud_text, currency).map_err(|problem| problem.to_string())?;
    let risk_text = or(&message.risk, risk::DEFAULT_POLICY);
    Policy::read(&risk_text, None, currency).map_err(|problem| problem.to_string())?;
    let market = serde_json::from_str(&risk_text).map_err(|error| error.to_string())?;
    let fraud_file = serde_json::from_str(&fraud_text).map_err(|error| error.to_string())?;
    Ok((fraud_file, fraud, market))
}

impl<S: Store> Engine<S> {
    /// What this device narrows the market's limits by, and what it took that waits.
    pub(super) fn load_judge(&mut self) -> Result<(), StoreError> {
        if let Some(bytes) = self.overlay.get(Table::Meta, META_NARROWED)? {
            self.judge.narrowed_by = serde_json::from_slice(&bytes).unwrap_or_default();
        }
        Ok(())
    }

    /// What waits to be captured, also of baskets that are open.
    pub(super) fn load_exposure(&mut self) -> Result<(), StoreError> {
        let stall = self.stall_of_device();
        if planted::is_on(Bug::WaitingForgotten) {
            return Ok(());
        }
        for (key, value) in self.overlay.scan_prefix(Table::Sales, b"e")? {
            let Ok(sale) = SaleId::try_from(&key[1..]) else { continue };
            let waiting: Vec<Waiting> = serde_json::from_slice(&value).unwrap_or_default();
            for Waiting { tender, fingerprint, amount, at_ms } in waiting {
                let (key, fingerprint) = (PaymentKey { sale, tender }, fingerprint.map(Subject));
                self.judge.exposure.add(Uncaptured { key, stall, fingerprint, amount, at_ms });
            }
        }
        Ok(())
    }

    fn stall_of_device(&self) -> Stall {
        Stall::named(self.views.membership.stall(&self.device.id()).unwrap_or_default())
    }

    /// Makes the rules ready where they have changed.
    fn compile_rules(&mut self) -> Result<(), Failure> {
        let currency = self.views.market().map(|market| market.currency.clone()).unwrap_or_default();
        let rules = self.views.checkout_rules();
        let entry = rules.map(|(entry, _)| entry);
        let is_same = |known: &Compiled| known.entry == entry && known.currency == currency;
        if self.judge.compiled.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        let nothing = payload::CheckoutRules::default();
        let unavailable = |detail: String| Failure::new(FailureCode::EUnavailable, detail);
        let (read, problem) = match read_rules(rules.map_or(&nothing, |(_, message)| message), &currency) {
            Ok(read) => (read, String::new()),
            // A later version's: what this one begins with is better than nothing.
            Err(problem) => (read_rules(&nothing, &currency).map_err(unavailable)?, problem),
        };
        let (fraud_file, fraud, market) = read;
        let risk = Policy::new(&market, &self.judge.narrowed_by, &currency)
            .map_err(|problem| unavailable(problem.to_string()))?;
        self.judge.compiled = Some(Compiled { entry, currency, fraud, fraud_file, market, risk, problem });
        Ok(())
    }

    /// A card's fingerprints by what its reader calls it: under the newest key, and under those before it.
    pub(super) fn fingerprints(&self, card: &str) -> Vec<Subject> {
        if card.is_empty() {
            return Vec::new();
        }
        let keys = self.views.fingerprint_keys(KEYS_TRIED);
        let hashed = keys.iter().map(|key| {
            let mut subject = [0; 16];
            subject.copy_from_slice(&blake3::keyed_hash(key, card.as_bytes()).as_bytes()[..16]);
            Subject(subject)
        });
        hashed.collect()
    }

    /// Judges a card payment. Says whether the market bears it if the bank declines it later.
    pub(super) fn judge_card(
        &mut self,
        fingerprints: &[Subject],
        amount: u64,
        is_offline: bool,
        said: &Said<'_>,
    ) -> Result<bool, Failure> {
        self.compile_rules()?;
        self.note_clock();
        let (now, stall) = (self.time(), self.stall_of_device());
        let mut reasons = Vec::new();
        let actions = fingerprints.iter().map(|fingerprint| Action::Card { fingerprint: *fingerprint, amount });
        for action in actions.chain(fingerprints.is_empty().then_some(Action::Other)) {
            self.ask_rules(action, now, &mut reasons)?;
        }
        let mut market_bears = false;
        if is_offline {
            let attempt = risk::Attempt { stall, fingerprint: fingerprints.first().copied(), amount };
            let verdict = self.judge.rules()?.risk.judge(&self.judge.exposure, &attempt, now);
            market_bears = verdict.borne_by == Bearer::Market;
            for reason in verdict.reasons {
                let id = limit_name(reason.limit).to_owned();
                add(&mut reasons, id, reason.answer, reason.sentence, 0);
            }
            let floor = self.views.policy().card_floor_limit;
            if floor > 0 && amount > floor {
                let currency = &self.judge.rules()?.currency;
                let of = |minor| fraud::words::amount(minor, currency);
                let sentence = format!("this payment is {}; without the hub, up to {} is taken", of(amount), of(floor));
                add(&mut reasons, "card_floor_limit".to_owned(), fraud::Answer::Decline, sentence, 0);
            }
        }
        decide(reasons, said)?;
        Ok(market_bears)
    }

    /// How long the market's tills wait for the hub's word on a card, in milliseconds; `None`: they don't ask.
    pub(super) fn asks_within(&mut self) -> Option<u64> {
        self.compile_rules().ok()?;
        let within_ms = self.judge.rules().ok()?.market.authorise_within_ms;
        (within_ms > 0).then_some(within_ms)
    }

    /// Judges what isn't a card payment.
    pub(super) fn judge_action(&mut self, action: Action, said: &Said<'_>) -> Result<(), Failure> {
        self.compile_rules()?;
        let mut reasons = Vec::new();
        self.ask_rules(action, self.time(), &mut reasons)?;
        decide(reasons, said)
    }

    fn ask_rules(&mut self, action: Action, now: u64, reasons: &mut Vec<ReasonView>) -> Result<(), Failure> {
        let attempt = self.attempt(action);
        let rules = &self.judge.rules()?.fraud;
        let (index, _) = self.views.signals(now).index();
        for reason in rules.assess(index, &attempt, now).reasons {
            add(reasons, reason.rule, reason.answer, reason.sentence, reason.known_for_ms.unwrap_or(0));
        }
        Ok(())
    }

    fn attempt(&self, action: Action) -> Attempt {
        let device = Subject::of_device(self.device.id().as_bytes());
        Attempt { stall: self.stall_of_device(), device, action }
    }

    /// A clock that is off is known to its own device first.
    fn note_clock(&mut self) {
        let now = self.time();
        let ahead = i64::try_from(self.now.wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(now);
        let minutes = ahead / MINUTE_MS;
        let stall = self.stall_of_device();
        let subject = Subject::of_device(self.device.id().as_bytes());
        let is_anchored = self.clock.is_anchored();
        let signals = self.views.signals(now);
        let (_, begun) = signals.index();
        let known = self.judge.clock_noted.filter(|(at, _)| *at == begun).map_or(0, |(_, minutes)| minutes);
        if !is_anchored || known == minutes {
            return;
        }
        signals.note(Signal {
            fact: Fact::Clock { off_ms: minutes * MINUTE_MS },
            subject,
            stall,
            voice: Voice::Stall,
            at_ms: now,
            expires_at_ms: now.saturating_add(LIFE_MAX_MS),
            reference: Reference::default(),
        });
        self.judge.clock_noted = Some((begun, minutes));
    }

    /// A card payment waits to be captured from now on.
    pub(super) fn expose(&mut self, sale: SaleId, tender: u32, fingerprint: Option<Subject>, amount: u64) {
        let (stall, at_ms) = (self.stall_of_device(), self.time());
        let key = PaymentKey { sale, tender };
        self.judge.exposure.add(Uncaptured { key, stall, fingerprint, amount, at_ms });
        let waiting = Waiting { tender, fingerprint: fingerprint.map(|subject| subject.0), amount, at_ms };
        let mut all = self.uncaptured_of(&sale);
        all.retain(|known| known.tender != tender);
        all.push(waiting);
        self.keep_uncaptured(&sale, &all);
    }

    /// It waits no more: it was captured, voided or never came about.
    pub(super) fn unexpose(&mut self, sale: SaleId, tender: u32) {
        let mut all = self.uncaptured_of(&sale);
        all.retain(|known| known.tender != tender);
        self.keep_uncaptured(&sale, &all);
        self.judge.exposure.settle(PaymentKey { sale, tender }, 0);
        // Nobody but this device adds to it.
        self.judge.exposure.forget(u64::MAX);
    }

    /// Nothing of a sale waits any more.
    pub(super) fn unexpose_all(&mut self, sale: SaleId) {
        for waiting in self.uncaptured_of(&sale) {
            self.unexpose(sale, waiting.tender);
        }
    }

    /// Whether a recorded payment waits to be captured.
    pub(super) fn is_uncaptured(&self, sale: &SaleId, tender: u32) -> bool {
        self.uncaptured_of(sale).iter().any(|waiting| waiting.tender == tender)
    }

    fn uncaptured_of(&self, sale: &SaleId) -> Vec<Waiting> {
        let value = self.overlay.get(Table::Sales, &waiting_key(sale)).ok().flatten();
        value.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default()
    }

    fn keep_uncaptured(&mut self, sale: &SaleId, all: &[Waiting]) {
        if all.is_empty() {
            self.overlay.delete(Table::Sales, waiting_key(sale));
        } else {
            self.overlay.put(Table::Sales, waiting_key(sale), serde_json::to_vec(all).unwrap_or_default());
        }
    }

    /// What waits, for the status bar.
    pub(super) fn uncaptured(&self) -> UncapturedView {
        let status = self.judge.exposure.status(&self.stall_of_device(), self.time());
        let currency = self.views.market().map(|market| market.currency.as_str()).unwrap_or_default();
        UncapturedView {
            sentence: status.sentence(currency),
            sales: status.sales,
            payments: status.payments,
            sum: status.sum,
            oldest_ms: status.oldest_ms.unwrap_or(0),
        }
    }

    /// Tells the market what has happened, where a rule looks at it, and what a person has said about it. Without the
    /// right to, nothing is told.
    pub(super) fn tell_market(
        &mut self,
        entry: Option<&Hash>,
        happened: &[(Action, &[String])],
    ) -> Result<(), Failure> {
        if happened.is_empty() || self.valid_certificate(Scope::SIGNAL).is_err() {
            return Ok(());
        }
        self.compile_rules()?;
        let at = self.time();
        let entry = match entry {
            Some(entry) => *entry,
            None => Hash::from_bytes(self.random_bytes()),
        };
        let rules = &self.judge.rules()?.fraud;
        let mut said: Vec<Signal> = Vec::new();
        for (action, known) in happened {
            let attempt = self.attempt(*action);
            let next = |said: &Vec<Signal>| reference(&entry, said.len());
            said.extend(rules.signal(&attempt, at, next(&said)));
            for rule in *known {
                said.extend(rules.known(rule, &attempt, at, next(&said)));
            }
        }
        said.truncate(SIGNALS_MAX);
        self.publish_signals(&said)
    }

    fn publish_signals(&mut self, said: &[Signal]) -> Result<(), Failure> {
        if said.is_empty() {
            return Ok(());
        }
        let message = payload::Signals { signals: said.iter().map(signals::to_payload).collect() };
        self.append_public(Lane::SIGNAL, Kind::SIGNALS, encode(&message))?;
        Ok(())
    }

    /// By what payments are judged here.
    pub(super) fn rules_view(&mut self) -> Result<RulesView, Failure> {
        self.compile_rules()?;
        let has_fingerprints = !self.views.fingerprint_keys(1).is_empty();
        let compiled = self.judge.rules()?;
        Ok(RulesView {
            fraud: compiled.fraud_file.clone(),
            risk: compiled.market.clone(),
            narrowed_by: self.judge.narrowed_by.clone(),
            problem: compiled.problem.clone(),
            has_fingerprints,
        })
    }

    /// Hub: publishes rules, whole: what the order leaves out is said again as it is.
    pub(super) fn set_checkout_rules(&mut self, order: &RulesOrder) -> Result<(), Failure> {
        self.valid_certificate(Scope::POLICY)?;
        let known = self.views.checkout_rules().map(|(_, message)| message.clone()).unwrap_or_default();
        let json = |error: serde_json::Error| invalid(error.to_string());
        let fraud = match &order.fraud {
            Some(file) => serde_json::to_string(file).map_err(json)?,
            None => known.fraud,
        };
        let risk = match &order.risk {
            Some(file) => serde_json::to_string(file).map_err(json)?,
            None => known.risk,
        };
        let fingerprint_key = match order.rotate_fingerprint_key || known.fingerprint_key.is_empty() {
            true => self.random_bytes::<32>().to_vec(),
            false => known.fingerprint_key,
        };
        let replaces = self.views.checkout_rules_in_force().iter().map(|hash| hash.as_bytes().to_vec()).collect();
        let message = payload::CheckoutRules { replaces, fraud, risk, fingerprint_key };
        let currency = self.views.market().map(|market| market.currency.clone()).unwrap_or_default();
        read_rules(&message, &currency).map_err(invalid)?;
        self.append_public(Lane::CONTROL, Kind::CHECKOUT_RULES, encode(&message))?;
        Ok(())
    }

    /// Narrows what this device takes by card without the hub.
    pub(super) fn narrow_risk(&mut self, file: &StallFile) -> Result<(), Failure> {
        self.own_stall()?;
        self.compile_rules()?;
        let compiled = self.judge.rules()?;
        let risk = Policy::new(&compiled.market, file, &compiled.currency);
        let risk = risk.map_err(|problem| invalid(problem.to_string()))?;
        self.overlay.put(Table::Meta, META_NARROWED, serde_json::to_vec(file).unwrap_or_default());
        self.judge.narrowed_by = file.clone();
        if let Some(compiled) = &mut self.judge.compiled {
            compiled.risk = risk;
        }
        Ok(())
    }

    /// Says that a card is blocked, or isn't any more: a hub for the market, a stall's device for its stall.
    pub(super) fn block_card(&mut self, order: &BlockOrder) -> Result<(), Failure> {
        match self.views.membership.role(&self.device.id()) {
            Some(Role::Hub) => self.valid_certificate(Scope::POLICY)?,
            _ => self.valid_certificate(Scope::SIGNAL)?,
        };
        let mut subject = [0; 16];
        hex::decode_to_slice(&order.fingerprint, &mut subject)
            .map_err(|_| invalid("fingerprint: 32 hexadecimal digits, as a sale shows it"))?;
        self.compile_rules()?;
        let fact = Fact::Block { is_on: order.blocked };
        let life = self.judge.rules()?.fraud.life_ms(&fact);
        let life = life.ok_or_else(|| invalid("none of the market's rules looks at blocked cards"))?;
        let at_ms = self.time();
        let signal = Signal {
            fact,
            subject: Subject(subject),
            stall: self.stall_of_device(),
            voice: Voice::Stall,
            at_ms,
            expires_at_ms: at_ms.saturating_add(life),
            reference: Reference::default(),
        };
        self.publish_signals(&[signal])
    }

    /// What is said now, what ends first first.
    pub(super) fn signal_views(&mut self, limit: usize) -> Vec<SignalView> {
        let now = self.time();
        let (index, _) = self.views.signals(now).index();
        let views = index.signals().filter(|signal| signal.is_live(now)).take(limit).map(|signal| SignalView {
            fact: serde_json::to_value(signal.fact).unwrap_or_default(),
            subject: signal.subject.to_string(),
            stall: signal.stall.to_string(),
            voice: if signal.voice == Voice::Market { "market" } else { "stall" }.to_owned(),
            at: signal.at_ms,
            until: signal.ends_at_ms(),
        });
        views.collect()
    }
}

/// Adds a reason: of two with one id the stricter one. What is approved is no reason.
fn add(reasons: &mut Vec<ReasonView>, id: String, answer: fraud::Answer, sentence: String, known_for_ms: u64) {
    let answer = match answer {
        fraud::Answer::Approve => return,
        fraud::Answer::Ask => ReasonAnswer::Ask,
        fraud::Answer::Decline => ReasonAnswer::Decline,
    };
    let reason = ReasonView { id, answer, sentence, known_for_ms };
    match reasons.iter_mut().find(|known| known.id == reason.id) {
        Some(known) if known.answer < reason.answer => *known = reason,
        Some(_) => {}
        None => reasons.push(reason),
    }
}

/// What reasons come to, with what a person has answered. Nobody lets pass what is declined.
fn decide(reasons: Vec<ReasonView>, said: &Said<'_>) -> Result<(), Failure> {
    let sentences = |reasons: &[ReasonView]| {
        let sentences: Vec<&str> = reasons.iter().map(|reason| reason.sentence.as_str()).collect();
        sentences.join("; ")
    };
    let is_declined = |reason: &ReasonView| {
        let is_confirmed = planted::is_on(Bug::DeclineConfirmed) && said.lets_pass(reason);
        reason.answer == ReasonAnswer::Decline && !is_confirmed
    };
    if reasons.iter().any(is_declined) {
        let failure = Failure::new(FailureCode::EDeclined, sentences(&reasons));
        return Err(Failure { reasons, ..failure });
    }
    let open: Vec<ReasonView> = reasons.into_iter().filter(|reason| !said.lets_pass(reason)).collect();
    if open.is_empty() || planted::is_on(Bug::AskPasses) {
        return Ok(());
    }
    let failure = Failure::new(FailureCode::EAsk, sentences(&open));
    Err(Failure { reasons: open, ..failure })
}

fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Payment => "payment",
        Limit::CardSum => "card_sum",
        Limit::StallSum => "stall_sum",
        Limit::StallCount => "stall_count",
        Limit::Oldest => "oldest",
    }
}

fn waiting_key(sale: &SaleId) -> Vec<u8> {
    [b"e".as_slice(), sale.as_bytes()].concat()
}
