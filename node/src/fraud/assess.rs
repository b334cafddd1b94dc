//! Asking the rules about an attempt.

use serde::Serialize;

use super::Answer;
use super::files::{Across, LooksAt};
use super::index::Index;
use super::rules::{Known, Rule, Rules};
use super::signal::{Fact, FactKind, MINUTE_MS, Reference, Signal, Stall, Subject, Voice};
use super::words::{self, Slot};

/// So many signals of a kind about one subject are looked at, in the order of their stalls' names' hashes. Only many
/// stalls together can say more; it bounds what an assessment takes.
const LOOKED_AT_MAX: usize = 1_024;

/// What is about to happen at a till.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The stall that asks.
    pub stall: Stall,
    /// The device that asks.
    pub device: Subject,
    /// What it wants to do.
    pub action: Action,
}

/// What somebody wants to do. Amounts are minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Be paid by this card.
    Card {
        /// Its fingerprint.
        fingerprint: Subject,
        /// So much.
        amount: u64,
    },
    /// Sell below the catalog's price.
    Override {
        /// Who stands at the till; the device where that isn't known.
        operator: Subject,
        /// What is asked.
        price: u64,
        /// What the catalog says.
        catalog_price: u64,
    },
    /// Void a sale that was paid in cash.
    Void {
        /// Who stands at the till; the device where that isn't known.
        operator: Subject,
        /// What was paid.
        amount: u64,
        /// So long after it was paid, in milliseconds.
        after_ms: u64,
    },
    /// Anything else: only what is known of the device counts.
    Other,
}

impl Action {
    /// Whom it is about, and what it will be once it happened.
    pub fn fact(&self) -> Option<(Subject, Fact)> {
        match *self {
            Action::Card { fingerprint, amount } => Some((fingerprint, Fact::Payment { amount })),
            Action::Override { operator, price, catalog_price } => {
                Some((operator, Fact::Override { price, catalog_price }))
            }
            Action::Void { operator, amount, after_ms } => Some((operator, Fact::Void { amount, after_ms })),
            Action::Other => None,
        }
    }
}

/// What the rules come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assessment {
    /// The strictest answer of all reasons.
    pub answer: Answer,
    /// One for each rule that has something to say, in the order of the file.
    pub reasons: Vec<Reason>,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The rule's id.
    pub rule: String,
    /// The rule's name.
    pub name: String,
    /// What it comes to; `approve` where it was let pass.
    pub answer: Answer,
    /// For the vendor.
    pub sentence: String,
    /// For how long she can let it pass, in milliseconds; `None` where she can't.
    pub known_for_ms: Option<u64>,
}

/// What a rule has counted.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// All of it: stalls, payments or minor units, with the attempt.
    all: u64,
    /// The greatest part that hangs on the word of one other stall.
    doubtful: u64,
}

/// What others say.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    market: bool,
    own: bool,
    others: u64,
    /// The furthest that a clock is said to be off.
    off_ms: i64,
}

impl Rules {
    /// What the rules say about an attempt, from the signals that are live at this time: milliseconds of market time. The
    /// same signals, attempt and time give the same bytes. Call [`Index::expire`] before, now and then: what is over counts
    /// for nothing, but stands in the way of what is looked at.
    pub fn assess(&self, index: &Index, attempt: &Attempt, now_ms: u64) -> Assessment {
        let mut reasons = Vec::new();
        for rule in &self.rules {
            reasons.extend(self.ask(rule, index, attempt, now_ms));
        }
        let answer = reasons.iter().map(|reason| reason.answer).max().unwrap_or(Answer::Approve);
        Assessment { answer, reasons }
    }

    /// The signal to publish once an attempt has happened, in the stall's voice; `None` where no rule looks at it.
    pub fn signal(&self, attempt: &Attempt, at_ms: u64, reference: Reference) -> Option<Signal> {
        let (subject, fact) = attempt.action.fact()?;
        self.said(fact, subject, attempt.stall, at_ms, reference)
    }

    /// The signal of an answered alarm ("known customer"), in the stall's voice; `None` where this rule can't be let
    /// pass, or isn't about this attempt.
    pub fn known(&self, rule: &str, attempt: &Attempt, at_ms: u64, reference: Reference) -> Option<Signal> {
        let rule = self.rules.iter().find(|known| known.id == rule)?;
        let subject = rule.subject(attempt)?;
        self.said(Fact::Known { rule: rule.tag }, subject, attempt.stall, at_ms, reference)
    }

    fn said(&self, fact: Fact, subject: Subject, stall: Stall, at_ms: u64, reference: Reference) -> Option<Signal> {
        let expires_at_ms = at_ms.saturating_add(self.life_ms(&fact)?);
        Some(Signal { fact, subject, stall, voice: Voice::Stall, at_ms, expires_at_ms, reference })
    }

    fn ask(&self, rule: &Rule, index: &Index, attempt: &Attempt, now_ms: u64) -> Option<Reason> {
        let subject = rule.subject(attempt)?;
        let live = |window_ms: u64| {
            let window_ms = window_ms.min(rule.life_ms);
            let about = index.about(&subject, rule.kind()).take(LOOKED_AT_MAX);
            about.filter(move |signal| signal.is_live(now_ms) && now_ms.saturating_sub(signal.at_ms) < window_ms)
        };
        let (is_firm, count, said) = match &rule.looks_at {
            LooksAt::CardStalls(file) => {
                let count = stalls(live(file.within_minutes * MINUTE_MS), attempt.stall);
                (passes(&count, file.usual)?, count, Said::default())
            }
            LooksAt::CardPayments(file) => {
                let each = file.each_stall_at_most.unwrap_or(0);
                let live = live(file.within_minutes * MINUTE_MS);
                let count = sum(live, attempt.stall, file.across, each, 1, |_| 1);
                (passes(&count, file.usual)?, count, Said::default())
            }
            LooksAt::CardSum(file) => {
                let amount = |fact: &Fact| if let Fact::Payment { amount } = fact { *amount } else { 0 };
                let own = attempt.action.fact().map_or(0, |(_, fact)| amount(&fact));
                let each = file.each_stall_at_most.unwrap_or(0);
                let live = live(file.within_minutes * MINUTE_MS);
                let count = sum(live, attempt.stall, file.across, each, own, amount);
                (passes(&count, file.usual)?, count, Said::default())
            }
            LooksAt::PriceOverride(_) | LooksAt::VoidAfterCash(_) => {
                let (_, fact) = attempt.action.fact()?;
                let (usual, within_minutes) = match &rule.looks_at {
                    LooksAt::PriceOverride(file) => (file.usual, file.within_minutes),
                    LooksAt::VoidAfterCash(file) => (file.usual, file.within_minutes),
                    _ => return None,
                };
                if !rule.counts(&fact) {
                    return None;
                }
                let live = live(within_minutes * MINUTE_MS).filter(|signal| rule.counts(&signal.fact));
                let count = sum(live, attempt.stall, Across::Stall, 0, 1, |_| 1);
                (passes(&count, usual)?, count, Said::default())
            }
            LooksAt::CardBlocked(file) | LooksAt::Equivocation(file) | LooksAt::Clone(file) => {
                let is_so = |fact: &Fact| !matches!(fact, Fact::Block { is_on: false });
                let said = Said::of(live(u64::MAX), attempt.stall, is_so);
                (said.passes(file.by_stalls)?, Count::default(), said)
            }
            LooksAt::ClockOff(file) => {
                let by_ms = file.by_minutes * MINUTE_MS;
                let is_so = |fact: &Fact| matches!(fact, Fact::Clock { off_ms } if off_ms.unsigned_abs() >= by_ms);
                let said = Said::of(live(u64::MAX), attempt.stall, is_so);
                (said.passes(file.by_stalls)?, Count::default(), said)
            }
        };
        let mut sentence = rule.says.fill(|text, slot| rule.push(text, slot, attempt, &count, &said, &self.currency));
        let is_known = rule.known.is_some_and(|known| is_known(known, rule, index, &subject, attempt.stall, now_ms));
        let answer = match (rule.answer, is_firm) {
            _ if is_known => {
                sentence.push_str(" (let pass: known)");
                Answer::Approve
            }
            (Answer::Decline, false) => {
                sentence.push_str(" (one stall's word makes the difference, so it isn't declined)");
                Answer::Ask
            }
            (answer, _) => answer,
        };
        let known_for_ms = rule.known.map(|known| known.for_ms);
        Some(Reason { rule: rule.id.clone(), name: rule.name.clone(), answer, sentence, known_for_ms })
    }
}

impl Rule {
    /// Whom it is about here; `None` where it isn't about such an attempt.
    fn subject(&self, attempt: &Attempt) -> Option<Subject> {
        match (&self.looks_at, &attempt.action) {
            (
                LooksAt::CardStalls(_) | LooksAt::CardPayments(_) | LooksAt::CardSum(_) | LooksAt::CardBlocked(_),
                Action::Card { fingerprint, .. },
            ) => Some(*fingerprint),
            (LooksAt::PriceOverride(_), Action::Override { operator, .. })
            | (LooksAt::VoidAfterCash(_), Action::Void { operator, .. }) => Some(*operator),
            (LooksAt::ClockOff(_) | LooksAt::Equivocation(_) | LooksAt::Clone(_), _) => Some(attempt.device),
            _ => None,
        }
    }

    fn push(&self, text: &mut String, slot: Slot, attempt: &Attempt, count: &Count, said: &Said, currency: &str) {
        let filled = match slot {
            Slot::Count => count.all.to_string(),
            Slot::Sum => words::amount(count.all, currency),
            Slot::Usual => match &self.looks_at {
                LooksAt::CardStalls(file) => file.usual.to_string(),
                LooksAt::CardPayments(file) => file.usual.to_string(),
                LooksAt::CardSum(file) => words::amount(file.usual, currency),
                LooksAt::PriceOverride(file) => file.usual.to_string(),
                LooksAt::VoidAfterCash(file) => file.usual.to_string(),
                _ => String::new(),
            },
            Slot::Window => words::duration(self.window_minutes().saturating_mul(MINUTE_MS)),
            Slot::Who => said.who(),
            Slot::Percent => match attempt.action {
                Action::Override { price, catalog_price, .. } => {
                    let below = u128::from(catalog_price.saturating_sub(price)) * 100;
                    (below / u128::from(catalog_price.max(1))).to_string()
                }
                _ => String::new(),
            },
            Slot::After => match attempt.action {
                Action::Void { after_ms, .. } => words::duration(after_ms),
                _ => String::new(),
            },
            Slot::Off => {
                let way = if said.off_ms < 0 { "behind" } else { "ahead" };
                format!("{} {way}", words::duration(said.off_ms.unsigned_abs()))
            }
        };
        text.push_str(&filled);
    }

    fn window_minutes(&self) -> u64 {
        match &self.looks_at {
            LooksAt::CardStalls(file) => file.within_minutes,
            LooksAt::CardPayments(file) => file.within_minutes,
            LooksAt::CardSum(file) => file.within_minutes,
            LooksAt::PriceOverride(file) => file.within_minutes,
            LooksAt::VoidAfterCash(file) => file.within_minutes,
            _ => 0,
        }
    }
}

/// Whether a count passes what is usual, and whether it would without any one other stall's word.
fn passes(count: &Count, usual: u64) -> Option<bool> {
    (count.all > usual).then(|| count.all.saturating_sub(count.doubtful) > usual)
}

/// Runs over signals of one stall at a time: they stand together.
fn by_stall<'a>(
    live: impl Iterator<Item = &'a Signal>,
    weigh: impl Fn(&Signal) -> u64,
    mut each: impl FnMut(Stall, [u64; 2]),
) {
    let mut open: Option<(Stall, [u64; 2])> = None;
    for signal in live {
        let here = usize::from(signal.voice == Voice::Market);
        match &mut open {
            Some((stall, sums)) if *stall == signal.stall => sums[here] = sums[here].saturating_add(weigh(signal)),
            _ => {
                if let Some((stall, sums)) = open.take() {
                    each(stall, sums);
                }
                let mut sums = [0; 2];
                sums[here] = weigh(signal);
                open = Some((signal.stall, sums));
            }
        }
    }
    if let Some((stall, sums)) = open {
        each(stall, sums);
    }
}

/// At how many stalls, with the one that asks.
fn stalls<'a>(live: impl Iterator<Item = &'a Signal>, own: Stall) -> Count {
    let mut count = Count { all: 1, doubtful: 0 };
    by_stall(
        live,
        |_| 1,
        |stall, [_, market]| {
            if stall != own {
                count.all += 1;
                count.doubtful |= u64::from(market == 0);
            }
        },
    );
    count
}

/// How much, with what the attempt adds; of each other stall at most so much.
fn sum<'a>(
    live: impl Iterator<Item = &'a Signal>,
    own: Stall,
    across: Across,
    each_at_most: u64,
    attempt: u64,
    weigh: impl Fn(&Fact) -> u64,
) -> Count {
    let mut count = Count { all: attempt, doubtful: 0 };
    by_stall(
        live.filter(|signal| across == Across::Market || signal.stall == own),
        |signal| weigh(&signal.fact),
        |stall, [said, market]| {
            let said = if stall == own { said } else { said.min(each_at_most) };
            count.all = count.all.saturating_add(said).saturating_add(market);
            if stall != own {
                count.doubtful = count.doubtful.max(said);
            }
        },
    );
    count
}

impl Said {
    /// What the newest word of each speaker comes to. A word of the market that it isn't so takes back what stalls
    /// said before it.
    fn of<'a>(live: impl Iterator<Item = &'a Signal> + Clone, own: Stall, is_so: impl Fn(&Fact) -> bool) -> Self {
        let market = live.clone().filter(|signal| signal.voice == Voice::Market);
        // Of one time the graver word, so that the order of content decides nothing else.
        let market = market.max_by_key(|signal| (signal.at_ms, is_so(&signal.fact), signal.fact));
        let mut said = Said::default();
        let mut taken_back_ms = 0;
        if let Some(word) = market {
            match is_so(&word.fact) {
                true => {
                    said.market = true;
                    said.hear(word);
                }
                false => taken_back_ms = word.at_ms,
            }
        }
        let mut close = |word: Option<&Signal>| {
            let Some(word) = word else { return };
            if !is_so(&word.fact) || (word.stall != own && market.is_some() && word.at_ms <= taken_back_ms) {
                return;
            }
            said.hear(word);
            match word.stall == own {
                true => said.own = true,
                false => said.others += 1,
            }
        };
        let mut newest: Option<&Signal> = None;
        for signal in live.filter(|signal| signal.voice == Voice::Stall) {
            let key = |signal: &Signal| (signal.at_ms, is_so(&signal.fact), signal.fact);
            match newest {
                Some(word) if word.stall == signal.stall => {
                    if key(signal) > key(word) {
                        newest = Some(signal);
                    }
                }
                _ => {
                    close(newest);
                    newest = Some(signal);
                }
            }
        }
        close(newest);
        said
    }

    fn hear(&mut self, word: &Signal) {
        if let Fact::Clock { off_ms } = word.fact
            && (off_ms.unsigned_abs(), off_ms) > (self.off_ms.unsigned_abs(), self.off_ms)
        {
            self.off_ms = off_ms;
        }
    }

    /// Whether it is enough, and whether it would be without any one other stall's word.
    fn passes(&self, by_stalls: u64) -> Option<bool> {
        let alone = self.market || self.own;
        (alone || self.others >= by_stalls).then_some(alone || self.others > by_stalls)
    }

    fn who(&self) -> String {
        match (self.market, self.own, self.others) {
            (true, ..) => "the market".to_owned(),
            (false, true, _) => "this stall".to_owned(),
            (false, false, others) => format!("{others} other stalls"),
        }
    }
}

/// Whether an alarm of this rule was answered: by this stall, by the market, or by anybody where that is enough.
fn is_known(known: Known, rule: &Rule, index: &Index, subject: &Subject, own: Stall, now_ms: u64) -> bool {
    let fact = Fact::Known { rule: rule.tag };
    index.about(subject, FactKind::Known).take(LOOKED_AT_MAX).any(|signal| {
        let counts = signal.stall == own || known.across == Across::Market || signal.voice == Voice::Market;
        let is_young = now_ms.saturating_sub(signal.at_ms) < known.for_ms;
        signal.fact == fact && counts && is_young && signal.is_live(now_ms)
    })
}
