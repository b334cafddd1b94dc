//! Drawn signals, rules and attempts: few names and times close together, so that they meet.

use serde_json::{Value, json};
use stallmesh_node::fraud::{Action, Attempt, Fact, Index, Reference, RuleTag, Rules, Signal, Stall, Subject, Voice};

pub(super) const NOW: u64 = 1_780_000_000_000;
pub(super) const MINUTE: u64 = 60_000;
pub(super) const HOUR: u64 = 60 * MINUTE;

/// A generator of numbers (xorshift*).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }

    pub(super) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

pub(super) fn subject(number: u64) -> Subject {
    Subject(u128::from(number + 1).to_le_bytes())
}

pub(super) fn stall(number: u64) -> Stall {
    Stall::named(&format!("stall-{number}"))
}

const RULE_IDS: [&str; 3] = ["rule-0", "rule-1", "rule-2"];

/// Rules of all kinds with small thresholds.
pub(super) fn rules(dice: &mut Dice) -> Value {
    let count = 1 + dice.below(6);
    let rules: Vec<Value> = (0..count).map(|index| rule(dice, &format!("rule-{index}"))).collect();
    json!({ "rules": rules })
}

fn rule(dice: &mut Dice, id: &str) -> Value {
    let life = 1 + dice.below(30);
    let minutes = 1 + dice.below(life * 60);
    let usual = 1 + dice.below(6);
    let amount = 500 + dice.below(9_000);
    let by_stalls = 2 + dice.below(3);
    let (looks_at, says) = match dice.below(11) {
        0 | 1 => (
            json!({ "card_stalls": { "usual": usual + 1, "within_minutes": minutes } }),
            "at {count} stalls within {window}; usual is {usual}",
        ),
        2 => (
            json!({ "card_payments": {
                "usual": usual + 1, "within_minutes": minutes, "each_stall_at_most": 1 + dice.below(usual) } }),
            "{count} times within {window}; usual is {usual}",
        ),
        3 => (
            json!({ "card_payments": { "usual": usual, "within_minutes": minutes, "across": "stall" } }),
            "{count} times here",
        ),
        4 | 5 => (
            json!({ "card_sum": {
                "usual": amount + 1, "within_minutes": minutes, "each_stall_at_most": 1 + dice.below(amount) } }),
            "{sum} within {window}; usual is {usual}",
        ),
        6 => (json!({ "card_blocked": { "by_stalls": by_stalls } }), "blocked by {who}"),
        7 => (
            json!({ "price_override": {
                "below_percent": 10 + dice.below(60), "usual": dice.below(4), "within_minutes": minutes } }),
            "{percent} % below, {count} times within {window}; {usual}",
        ),
        8 => (
            json!({ "void_after_cash": {
                "after_minutes": 1 + dice.below(20), "usual": dice.below(4), "within_minutes": minutes } }),
            "{after} after, {count} times within {window}; {usual}",
        ),
        9 => {
            (json!({ "clock_off": { "by_minutes": 5 + dice.below(10), "by_stalls": by_stalls } }), "{off}, says {who}")
        }
        _ => match dice.one_in(2) {
            true => (json!({ "clone": { "by_stalls": by_stalls } }), "runs twice, says {who}"),
            false => (json!({ "equivocation": { "by_stalls": by_stalls } }), "{who}"),
        },
    };
    let must_ask = looks_at.get("clock_off").is_some();
    let answer = if must_ask || dice.one_in(2) { "ask" } else { "decline" };
    let mut rule = json!({
        "id": id, "name": format!("Rule {id}"), "looks_at": looks_at, "answer": answer, "says": says,
        "signals_live_hours": life
    });
    if dice.one_in(2) {
        let across = if answer == "ask" && dice.one_in(2) { "market" } else { "stall" };
        rule["known_customer"] = json!({ "hours": 1 + dice.below(10), "across": across });
    }
    rule
}

/// A time near now, often on an edge.
fn time(dice: &mut Dice) -> u64 {
    let edges = [0, 1, MINUTE, 2 * MINUTE, HOUR, 10 * HOUR, 24 * HOUR];
    let away = dice.pick(&edges) + dice.below(3) * MINUTE * dice.below(60) + dice.below(3);
    if dice.one_in(6) { NOW + away.min(3 * MINUTE) } else { NOW - away }
}

pub(super) fn signal(dice: &mut Dice) -> Signal {
    let at_ms = time(dice);
    let about = if dice.one_in(4) { dice.below(4) } else { 0 };
    let fact = match dice.below(12) {
        0..=4 => Fact::Payment { amount: dice.below(3_000) },
        5 => Fact::Block { is_on: !dice.one_in(3) },
        6 => Fact::Override { price: dice.below(120), catalog_price: 100 },
        7 => Fact::Void { amount: dice.below(1_000), after_ms: dice.below(25) * MINUTE },
        8 => Fact::Clock { off_ms: dice.below(40) as i64 * 60_000 - 20 * 60_000 },
        9 => dice.pick(&[Fact::Equivocation, Fact::Clone]),
        _ => Fact::Known { rule: RuleTag::of(dice.pick(&RULE_IDS)) },
    };
    let voice = if dice.one_in(8) { Voice::Market } else { Voice::Stall };
    Signal {
        fact,
        subject: subject(about),
        stall: stall(dice.below(7)),
        voice,
        at_ms,
        expires_at_ms: at_ms + 1 + dice.below(50) * HOUR,
        reference: Reference(u128::from(dice.below(1_000)).to_le_bytes()),
    }
}

pub(super) fn attempt(dice: &mut Dice) -> Attempt {
    let who = subject(0);
    let action = match dice.below(4) {
        0 | 1 => Action::Card { fingerprint: who, amount: dice.below(4_000) },
        2 => Action::Override { operator: who, price: dice.below(100), catalog_price: 100 },
        _ => Action::Void { operator: who, amount: 500, after_ms: dice.below(20) * MINUTE },
    };
    Attempt { stall: stall(dice.below(7)), device: subject(dice.below(2)), action }
}

/// What one seed draws.
pub(super) struct Drawn {
    pub(super) file: Value,
    pub(super) rules: Rules,
    pub(super) signals: Vec<Signal>,
    pub(super) attempt: Attempt,
}

pub(super) fn draw(seed: u64) -> (Drawn, Dice) {
    let mut dice = Dice::new(seed);
    let file = rules(&mut dice);
    let rules = Rules::read(&file.to_string(), "EUR").unwrap_or_else(|problem| panic!("{problem}\n{file:#}"));
    let count = dice.below(50);
    let signals = (0..count).map(|_| signal(&mut dice)).collect();
    let attempt = attempt(&mut dice);
    (Drawn { file, rules, signals, attempt }, dice)
}

pub(super) fn index(signals: &[Signal]) -> Index {
    let mut index = Index::default();
    for signal in signals {
        index.insert(*signal);
    }
    index
}
