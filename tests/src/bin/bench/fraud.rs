//! What the fraud rules say about an attempt, with many live signals, against a look at every signal.

use std::time::Instant;

use serde_json::Value;
use stallmesh_node::fraud::{
    Action, Answer, Attempt, Bounds, DEFAULT_RULES, Fact, Index, Inserted, Reference, Rules, Signal, Stall, Subject,
    Voice,
};
use stallmesh_tests::fraud_market::{Dice, HOUR, MINUTE};
use stallmesh_tests::naive_fraud;

use crate::Options;
use crate::figures::{Report, Row, Sample, Target};
use crate::machine;

/// In microseconds: 99 of 100 assessments.
const WITHIN_MICROS: f64 = 20.0;
const STALLS: u64 = 60;
const NOW: u64 = 1_780_000_000_000;

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let counts: &[u64] = if options.quick { &[500, 2_000] } else { &[1_000, 10_000, 100_000] };
    let (rounds, naive) = if options.quick { (2_000, 20) } else { (400_000, 400) };
    let most = counts.last().copied().unwrap_or(0);
    for count in counts.iter().copied() {
        let market = Market::draw(count);
        let took = market.assess(rounds);
        let name = format!("{count} live signals");
        if count < most {
            report.row(Row::p99(format!("{name}: p99"), &took, "µs"));
            continue;
        }
        let naive = market.naive(naive);
        report.row(Row::p99(format!("{name}: p99"), &took, "µs").target(Target::AtMost(WITHIN_MICROS)));
        report.row(Row::median(format!("{name}: median"), &took, "µs").beside("naive", naive.median()));
        report.row(Row::median("  attempts that are asked about", &market.asked(), "of 100"));
        report.row(Row::p99("  a card that everybody speaks of: p99", &market.hot(rounds / 10), "µs"));
        report.row(Row::median("  taking a signal in", &market.insertions(), "µs"));
        // The first copies may find memory that was given back.
        let copies: Vec<Index> = (0..4).map(|_| market.index.clone()).collect();
        let resident = || machine::memory(std::process::id(), "VmRSS") as f64;
        let before = resident();
        let mut index = market.index.clone();
        report.row(Row::new("  memory a signal", (resident() - before) / count as f64, "B"));
        drop(copies);
        let start = Instant::now();
        index.expire(NOW + 31 * 24 * HOUR);
        let took = start.elapsed().as_secs_f64() * 1e6;
        assert!(index.is_empty());
        report.row(Row::new("  dropping what is over, a signal", took / count as f64, "µs"));
    }
}

struct Market {
    rules: Rules,
    text: Value,
    signals: Vec<Signal>,
    index: Index,
    attempts: Vec<Attempt>,
}

fn subject(number: u64) -> Subject {
    let mut dice = Dice::new(number);
    Subject(dice.name())
}

/// Few cards pay often, most once or twice: a number up to the limit, the low ones more often.
fn skewed(dice: &mut Dice, limit: u64) -> u64 {
    let limit = dice.between(1, limit + 1);
    let limit = dice.between(1, limit + 1);
    dice.between(0, limit)
}

/// A card that every stall has much to say about.
const HOT: u64 = u64::MAX;

impl Market {
    fn draw(count: u64) -> Self {
        let mut dice = Dice::new(count);
        let stalls: Vec<Stall> = (0..STALLS).map(|number| Stall::named(&format!("stall {number}"))).collect();
        let mut index = Index::default();
        let cards = count / 3 + 10;
        while (index.len() as u64) < count {
            let stall = stalls[dice.between(0, STALLS) as usize];
            let at_ms = NOW - dice.between(0, 5 * HOUR);
            let (fact, about) = match dice.between(0, 100) {
                0..3 => (Fact::Payment { amount: dice.between(100, 9_000) }, HOT),
                3..75 => (Fact::Payment { amount: dice.between(100, 9_000) }, skewed(&mut dice, cards)),
                75..80 => (Fact::Block { is_on: !dice.percent(10) }, skewed(&mut dice, cards)),
                80..90 => {
                    let fact = Fact::Override { price: dice.between(100, 900), catalog_price: 1_000 };
                    (fact, 1 << 40 | dice.between(0, STALLS * 3))
                }
                90..97 => {
                    let fact = Fact::Void { amount: 500, after_ms: dice.between(0, 30 * MINUTE) };
                    (fact, 1 << 40 | dice.between(0, STALLS * 3))
                }
                97..99 => (Fact::Clock { off_ms: 1_000 }, 1 << 41 | dice.between(0, STALLS)),
                _ => (Fact::Clone, 1 << 41 | dice.between(0, 3)),
            };
            let signal = Signal {
                fact,
                subject: subject(about),
                stall,
                voice: if dice.percent(5) { Voice::Market } else { Voice::Stall },
                at_ms,
                expires_at_ms: at_ms + dice.between(6, 48) * HOUR,
                reference: Reference(dice.name()),
            };
            index.insert(signal);
        }
        let signals = index.signals().copied().collect();
        let attempts = (0..5_000).map(|_| {
            let stall = stalls[dice.between(0, STALLS) as usize];
            let operator = subject(1 << 40 | dice.between(0, STALLS * 3));
            let action = match dice.between(0, 10) {
                0 => Action::Override { operator, price: 500, catalog_price: 1_000 },
                1 => Action::Void { operator, amount: 500, after_ms: 2 * MINUTE },
                2 => Action::Card { fingerprint: Subject(dice.name()), amount: 1_200 },
                _ => Action::Card { fingerprint: subject(skewed(&mut dice, cards)), amount: dice.between(100, 9_000) },
            };
            Attempt { stall, device: subject(1 << 41 | dice.between(0, STALLS)), action }
        });
        let attempts = attempts.collect();
        Market {
            rules: Rules::default_for("EUR").expect("rules"),
            text: serde_json::from_str(DEFAULT_RULES).expect("rules are JSON"),
            signals,
            index,
            attempts,
        }
    }

    fn assess(&self, rounds: usize) -> Sample {
        self.time(self.attempts.iter().cycle().take(rounds))
    }

    fn time<'a>(&self, attempts: impl Iterator<Item = &'a Attempt>) -> Sample {
        let mut took = Sample::default();
        for attempt in attempts {
            let start = Instant::now();
            let found = self.rules.assess(&self.index, attempt, NOW);
            took.add_micros(start.elapsed());
            assert!(found.answer == Answer::Approve || !found.reasons.is_empty());
        }
        took
    }

    fn hot(&self, rounds: usize) -> Sample {
        let action = Action::Card { fingerprint: subject(HOT), amount: 1_200 };
        let attempt = Attempt { action, ..self.attempts[0] };
        self.time(std::iter::repeat_n(&attempt, rounds))
    }

    fn asked(&self) -> Sample {
        let mut asked = Sample::default();
        for attempts in self.attempts.chunks(500) {
            let answers = attempts.iter().map(|attempt| self.rules.assess(&self.index, attempt, NOW).answer);
            asked.add(answers.filter(|answer| *answer != Answer::Approve).count() as f64 / 5.0);
        }
        asked
    }

    fn insertions(&self) -> Sample {
        let mut took = Sample::default();
        let mut index = Index::with_bounds(Bounds::default());
        for signal in &self.signals {
            let start = Instant::now();
            let inserted = index.insert(*signal);
            took.add_micros(start.elapsed());
            assert!(inserted != Inserted::Known);
        }
        took
    }

    fn naive(&self, attempts: usize) -> Sample {
        let mut took = Sample::default();
        for attempt in self.attempts.iter().take(attempts) {
            let start = Instant::now();
            let naive = naive_fraud::assess(&self.text, "EUR", &self.signals, attempt, NOW);
            took.add_micros(start.elapsed());
            let found = serde_json::to_value(self.rules.assess(&self.index, attempt, NOW)).expect("an answer is JSON");
            assert_eq!(naive, found, "both come to the same");
        }
        took
    }
}
