//! Rules, checked and ready to be asked.

use std::collections::BTreeSet;

use stallmesh_protocol::money::{self, AMOUNT_MAX};

use super::files::{Across, LooksAt, RuleFile, RulesFile};
use super::problem::{FileProblem, read};
use super::signal::{FactKind, HOUR_MS, LIFE_MAX_MS, MINUTE_MS, RuleTag};
use super::words::{Slot, Template};
use super::{Answer, Fact};

const FILE: &str = "fraud rules";
/// The most rules of a file: each is asked with each attempt.
const RULES_MAX: usize = 64;
/// The longest id, name and sentence, in bytes.
const ID_MAX: usize = 64;
const TEXT_MAX: usize = 300;
/// The index keeps no more of a kind, from one stall, about one subject, than [`super::Bounds::of_a_kind`].
const COUNT_MAX: u64 = 60;
/// More stalls than a market has.
const STALLS_MAX: u64 = 500;
const LIFE_HOURS_MAX: u64 = LIFE_MAX_MS / HOUR_MS;

/// What the hub published, as an index asks it.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) currency: String,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) tag: RuleTag,
    pub(super) looks_at: LooksAt,
    pub(super) answer: Answer,
    pub(super) says: Template,
    pub(super) life_ms: u64,
    pub(super) known: Option<Known>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) for_ms: u64,
    pub(super) across: Across,
}

impl Rules {
    /// Reads rules from JSON, for a market of this currency.
    ///
    /// # Errors
    /// It isn't JSON of this shape, or says what can't be: with the field and the line.
    pub fn read(text: &str, currency: &str) -> Result<Self, FileProblem> {
        let file: RulesFile = read(FILE, text)?;
        Rules::new(&file, currency).map_err(|problem| problem.in_text(text))
    }

    /// Checks rules, and makes them ready.
    ///
    /// # Errors
    /// They say what can't be: with the field.
    pub fn new(file: &RulesFile, currency: &str) -> Result<Self, FileProblem> {
        if money::exponent(currency).is_err() {
            return Err(FileProblem::new(FILE, "", format!("`{currency}` is no currency in use")));
        }
        if file.rules.len() > RULES_MAX {
            return Err(FileProblem::new(FILE, "rules", format!("there can be {RULES_MAX} at most")));
        }
        let mut ids = BTreeSet::new();
        let mut rules = Vec::with_capacity(file.rules.len());
        for (index, rule) in file.rules.iter().enumerate() {
            let wrong = |(field, detail): Wrong| FileProblem::new(FILE, format!("rules[{index}].{field}"), detail);
            let read = Rule::new(rule).map_err(wrong)?;
            if !ids.insert(rule.id.as_str()) {
                return Err(wrong(at("id", format!("`{}` is another rule's id too", rule.id))));
            }
            rules.push(read);
        }
        Ok(Rules { currency: currency.to_owned(), rules })
    }

    /// The rules that hold as long as a hub has published none, for a market of this currency.
    ///
    /// # Errors
    /// No currency in use.
    pub fn default_for(currency: &str) -> Result<Self, FileProblem> {
        Rules::read(super::DEFAULT_RULES, currency)
    }

    /// How long a signal of such a fact should live, in milliseconds: as long as the rule that looks furthest back
    /// wants; `None` where no rule looks at it, so that nobody needs to say it.
    pub fn life_ms(&self, fact: &Fact) -> Option<u64> {
        let lives = self.rules.iter().filter_map(|rule| match fact {
            Fact::Known { rule: tag } => rule.known.filter(|_| rule.tag == *tag).map(|known| known.for_ms),
            _ => rule.counts(fact).then_some(rule.life_ms),
        });
        let life = lives.max();
        // What takes a word back must outlive every word that it takes back.
        match fact {
            Fact::Block { is_on: false } => life.map(|_| LIFE_MAX_MS),
            _ => life,
        }
    }

    /// How long an answered alarm of this rule holds, in milliseconds; `None` where it can't be let pass.
    pub fn known_for_ms(&self, rule: &str) -> Option<u64> {
        self.rules.iter().find(|known| known.id == rule)?.known.map(|known| known.for_ms)
    }
}

impl Rule {
    /// Which facts it counts.
    pub(super) fn kind(&self) -> FactKind {
        match self.looks_at {
            LooksAt::CardStalls(_) | LooksAt::CardPayments(_) | LooksAt::CardSum(_) => FactKind::Payment,
            LooksAt::CardBlocked(_) => FactKind::Block,
            LooksAt::PriceOverride(_) => FactKind::Override,
            LooksAt::VoidAfterCash(_) => FactKind::Void,
            LooksAt::ClockOff(_) => FactKind::Clock,
            LooksAt::Equivocation(_) => FactKind::Equivocation,
            LooksAt::Clone(_) => FactKind::Clone,
        }
    }

    /// Whether this fact is one that it looks at.
    pub(super) fn counts(&self, fact: &Fact) -> bool {
        match (&self.looks_at, fact) {
            (LooksAt::PriceOverride(file), Fact::Override { price, catalog_price }) => {
                let below = u128::from(catalog_price.saturating_sub(*price)) * 100;
                price < catalog_price && below >= u128::from(file.below_percent) * u128::from(*catalog_price)
            }
            (LooksAt::VoidAfterCash(file), Fact::Void { after_ms, .. }) => {
                *after_ms <= file.after_minutes.saturating_mul(MINUTE_MS)
            }
            _ => fact.kind() == self.kind(),
        }
    }

    fn new(file: &RuleFile) -> Result<Self, Wrong> {
        let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if file.id.is_empty() || file.id.len() > ID_MAX || !file.id.bytes().all(is_id) {
            return Err(at("id", format!("small letters, digits and hyphens, {ID_MAX} at most")));
        }
        for (field, text) in [("name", &file.name), ("says", &file.says)] {
            if text.is_empty() || text.len() > TEXT_MAX || text.chars().any(char::is_control) {
                return Err(at(field, format!("one line of at most {TEXT_MAX} bytes")));
            }
        }
        between("signals_live_hours", file.signals_live_hours, 1, LIFE_HOURS_MAX)?;
        let life_ms = file.signals_live_hours * HOUR_MS;
        check(&file.looks_at, file.answer.into(), life_ms)?;
        let says = Template::read(&file.says, slots(&file.looks_at)).map_err(|detail| at("says", detail))?;
        let known = match file.known_customer {
            None => None,
            Some(known) => {
                between("known_customer.hours", known.hours, 1, LIFE_HOURS_MAX)?;
                if known.across == Across::Market && Answer::from(file.answer) == Answer::Decline {
                    let detail = "one stall can't let pass everywhere what is declined";
                    return Err(at("known_customer.across", detail));
                }
                Some(Known { for_ms: known.hours * HOUR_MS, across: known.across })
            }
        };
        Ok(Rule {
            id: file.id.clone(),
            name: file.name.clone(),
            tag: RuleTag::of(&file.id),
            looks_at: file.looks_at.clone(),
            answer: file.answer.into(),
            says,
            life_ms,
            known,
        })
    }
}

type Wrong = (String, String);

fn at(field: &str, detail: impl Into<String>) -> Wrong {
    (field.to_owned(), detail.into())
}

fn between(field: &str, number: u64, least: u64, most: u64) -> Result<(), Wrong> {
    match (least..=most).contains(&number) {
        true => Ok(()),
        false => Err(at(field, format!("{number} is not between {least} and {most}"))),
    }
}

fn window(kind: &str, minutes: u64, life_ms: u64) -> Result<(), Wrong> {
    let field = format!("looks_at.{kind}.within_minutes");
    between(&field, minutes, 1, LIFE_MAX_MS / MINUTE_MS)?;
    if minutes * MINUTE_MS > life_ms {
        return Err(at(&field, "longer than its signals live (`signals_live_hours`)"));
    }
    Ok(())
}

/// That one stall's word alone never passes a threshold of the whole market.
fn each_stall(kind: &str, across: Across, each: Option<u64>, usual: u64, most: u64) -> Result<(), Wrong> {
    let field = format!("looks_at.{kind}.each_stall_at_most");
    match (across, each) {
        (Across::Stall, None) => Ok(()),
        (Across::Stall, Some(_)) => Err(at(&field, "only the own stall's payments count here: leave it out")),
        (Across::Market, None) => {
            Err(at(&field, "needed where everybody's payments count: else one stall could make up as many as it likes"))
        }
        (Across::Market, Some(each)) => {
            between(&field, each, 1, most)?;
            if each >= usual {
                return Err(at(&field, "must be less than `usual`: else one stall's word would be enough"));
            }
            Ok(())
        }
    }
}

fn check(looks_at: &LooksAt, answer: Answer, life_ms: u64) -> Result<(), Wrong> {
    match looks_at {
        LooksAt::CardStalls(file) => {
            // One is the stall that asks: with 2 no single other one passes it.
            between("looks_at.card_stalls.usual", file.usual, 2, STALLS_MAX)?;
            window("card_stalls", file.within_minutes, life_ms)
        }
        LooksAt::CardPayments(file) => {
            between("looks_at.card_payments.usual", file.usual, 1, COUNT_MAX)?;
            each_stall("card_payments", file.across, file.each_stall_at_most, file.usual, COUNT_MAX)?;
            window("card_payments", file.within_minutes, life_ms)
        }
        LooksAt::CardSum(file) => {
            between("looks_at.card_sum.usual", file.usual, 1, AMOUNT_MAX)?;
            each_stall("card_sum", file.across, file.each_stall_at_most, file.usual, AMOUNT_MAX)?;
            window("card_sum", file.within_minutes, life_ms)
        }
        LooksAt::CardBlocked(file) => between("looks_at.card_blocked.by_stalls", file.by_stalls, 2, STALLS_MAX),
        LooksAt::PriceOverride(file) => {
            between("looks_at.price_override.below_percent", file.below_percent, 1, 100)?;
            between("looks_at.price_override.usual", file.usual, 0, COUNT_MAX)?;
            window("price_override", file.within_minutes, life_ms)
        }
        LooksAt::VoidAfterCash(file) => {
            between("looks_at.void_after_cash.after_minutes", file.after_minutes, 1, 24 * 60)?;
            between("looks_at.void_after_cash.usual", file.usual, 0, COUNT_MAX)?;
            window("void_after_cash", file.within_minutes, life_ms)
        }
        LooksAt::ClockOff(file) => {
            if answer == Answer::Decline {
                return Err(at("answer", "a clock that is off is no reason to decline: ask"));
            }
            between("looks_at.clock_off.by_minutes", file.by_minutes, 1, LIFE_MAX_MS / MINUTE_MS)?;
            between("looks_at.clock_off.by_stalls", file.by_stalls, 2, STALLS_MAX)
        }
        LooksAt::Equivocation(file) => between("looks_at.equivocation.by_stalls", file.by_stalls, 2, STALLS_MAX),
        LooksAt::Clone(file) => between("looks_at.clone.by_stalls", file.by_stalls, 2, STALLS_MAX),
    }
}

/// What the sentence of such a rule may name.
fn slots(looks_at: &LooksAt) -> &'static [Slot] {
    match looks_at {
        LooksAt::CardStalls(_) | LooksAt::CardPayments(_) => &[Slot::Count, Slot::Usual, Slot::Window],
        LooksAt::CardSum(_) => &[Slot::Sum, Slot::Usual, Slot::Window],
        LooksAt::CardBlocked(_) | LooksAt::Equivocation(_) | LooksAt::Clone(_) => &[Slot::Who],
        LooksAt::PriceOverride(_) => &[Slot::Count, Slot::Usual, Slot::Window, Slot::Percent],
        LooksAt::VoidAfterCash(_) => &[Slot::Count, Slot::Usual, Slot::Window, Slot::After],
        LooksAt::ClockOff(_) => &[Slot::Off, Slot::Who],
    }
}
