//! Fraud rules asked the long way, to compare the index with: every rule looks at every signal, in one list.
//!
//! Written from `docs/fraud.md`, and reads the rules file as plain JSON. The inputs are taken to be valid.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "only rules that were read without a problem are given to it"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stallmesh_node::fraud::{Action, Attempt, Fact, RuleTag, Signal, Stall, Subject, Voice};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// What the rules come to, as the answer's JSON.
pub fn assess(rules: &Value, currency: &str, signals: &[Signal], attempt: &Attempt, now: u64) -> Value {
    let asked = rules["rules"].as_array().unwrap().iter();
    let reasons: Vec<Value> = asked.filter_map(|rule| ask(rule, currency, signals, attempt, now)).collect();
    let strictness = |answer: &str| ["approve", "ask", "decline"].iter().position(|known| *known == answer);
    let answer = reasons.iter().map(|reason| reason["answer"].as_str().unwrap()).max_by_key(|text| strictness(text));
    json!({ "answer": answer.unwrap_or("approve"), "reasons": reasons })
}

/// The signals about somebody that count at this time, each once.
fn live(signals: &[Signal], subject: Subject, now: u64, life: u64, is_it: impl Fn(&Fact) -> bool) -> BTreeSet<&Signal> {
    let life_of_all = 30 * 24 * HOUR;
    signals
        .iter()
        .filter(|signal| signal.subject == subject && is_it(&signal.fact))
        .filter(|signal| signal.at_ms <= now + 2 * MINUTE)
        .filter(|signal| now < signal.expires_at_ms && now < signal.at_ms + life_of_all)
        .filter(|signal| signal.at_ms >= now || now - signal.at_ms < life)
        .collect()
}

fn ask(rule: &Value, currency: &str, signals: &[Signal], attempt: &Attempt, now: u64) -> Option<Value> {
    let (kind, file) = rule["looks_at"].as_object().unwrap().iter().next().unwrap();
    let life = rule["signals_live_hours"].as_u64().unwrap() * HOUR;
    let number = |name: &str| file[name].as_u64().unwrap();
    let window = || (number("within_minutes") * MINUTE).min(life);
    let mut words: BTreeMap<&str, String> = BTreeMap::new();
    let (subject, passes): (Subject, Option<bool>) = match (kind.as_str(), attempt.action) {
        ("card_stalls" | "card_payments" | "card_sum", Action::Card { fingerprint, amount }) => {
            let found = live(signals, fingerprint, now, window(), |fact| matches!(fact, Fact::Payment { .. }));
            let is_own = |signal: &Signal| signal.stall == attempt.stall;
            let here_only = file["across"] == "stall";
            let each = file["each_stall_at_most"].as_u64().unwrap_or(0);
            let worth = |signal: &Signal| match (kind.as_str(), signal.fact) {
                ("card_sum", Fact::Payment { amount }) => amount,
                _ => 1,
            };
            // What is found if the word of this stall, or of none, is left out.
            let without = |left_out: Option<Stall>| -> u64 {
                let found = found.iter().filter(|signal| {
                    let is_left_out = Some(signal.stall) == left_out && signal.voice == Voice::Stall && !is_own(signal);
                    !is_left_out && (!here_only || is_own(signal))
                });
                if kind == "card_stalls" {
                    let mut stalls: BTreeSet<Stall> = found.map(|signal| signal.stall).collect();
                    stalls.insert(attempt.stall);
                    return stalls.len() as u64;
                }
                let mut sums: BTreeMap<(Stall, Voice), u64> = BTreeMap::new();
                for signal in found {
                    *sums.entry((signal.stall, signal.voice)).or_default() += worth(signal);
                }
                let sums = sums.into_iter().map(|((stall, voice), sum)| {
                    let is_capped = voice == Voice::Stall && stall != attempt.stall;
                    if is_capped { sum.min(each) } else { sum }
                });
                sums.sum::<u64>() + if kind == "card_sum" { amount } else { 1 }
            };
            let (all, usual) = (without(None), number("usual"));
            let stalls: BTreeSet<Stall> = found.iter().map(|signal| signal.stall).collect();
            let is_firm = stalls.iter().all(|stall| without(Some(*stall)) > usual);
            match kind.as_str() {
                "card_sum" => {
                    words.insert("sum", money(all, currency));
                    words.insert("usual", money(usual, currency));
                }
                _ => {
                    words.insert("count", all.to_string());
                    words.insert("usual", usual.to_string());
                }
            }
            (fingerprint, (all > usual).then_some(is_firm))
        }
        ("price_override", Action::Override { operator, price, catalog_price }) => {
            let least = number("below_percent");
            let is_low = |price: u64, catalog: u64| price < catalog && (catalog - price) * 100 >= least * catalog;
            let found = live(signals, operator, now, window(), |fact| match fact {
                Fact::Override { price, catalog_price } => is_low(*price, *catalog_price),
                _ => false,
            });
            let count = 1 + found.iter().filter(|signal| signal.stall == attempt.stall).count() as u64;
            words.insert("count", count.to_string());
            words.insert("usual", number("usual").to_string());
            words.insert("percent", ((catalog_price.saturating_sub(price)) * 100 / catalog_price.max(1)).to_string());
            (operator, (is_low(price, catalog_price) && count > number("usual")).then_some(true))
        }
        ("void_after_cash", Action::Void { operator, after_ms, .. }) => {
            let most = number("after_minutes") * MINUTE;
            let found = live(signals, operator, now, window(), |fact| match fact {
                Fact::Void { after_ms, .. } => *after_ms <= most,
                _ => false,
            });
            let count = 1 + found.iter().filter(|signal| signal.stall == attempt.stall).count() as u64;
            words.insert("count", count.to_string());
            words.insert("usual", number("usual").to_string());
            words.insert("after", time(after_ms));
            (operator, (after_ms <= most && count > number("usual")).then_some(true))
        }
        ("card_blocked", Action::Card { fingerprint, .. }) => {
            let found = live(signals, fingerprint, now, life, |fact| matches!(fact, Fact::Block { .. }));
            let passes = said(&found, attempt.stall, number("by_stalls"), &mut words, |fact| {
                matches!(fact, Fact::Block { is_on: true })
            });
            (fingerprint, passes)
        }
        ("clock_off", _) => {
            let by = number("by_minutes") * MINUTE;
            let found = live(signals, attempt.device, now, life, |fact| matches!(fact, Fact::Clock { .. }));
            let is_so = |fact: &Fact| matches!(fact, Fact::Clock { off_ms } if off_ms.unsigned_abs() >= by);
            (attempt.device, said(&found, attempt.stall, number("by_stalls"), &mut words, is_so))
        }
        ("equivocation" | "clone", _) => {
            let fact = if kind == "clone" { Fact::Clone } else { Fact::Equivocation };
            let found = live(signals, attempt.device, now, life, |found| *found == fact);
            (attempt.device, said(&found, attempt.stall, number("by_stalls"), &mut words, |_| true))
        }
        _ => return None,
    };
    let is_firm = passes?;
    if let Some(minutes) = file["within_minutes"].as_u64() {
        words.insert("window", time(minutes * MINUTE));
    }
    let mut sentence = rule["says"].as_str().unwrap().to_owned();
    for (word, value) in &words {
        sentence = sentence.replace(&format!("{{{word}}}"), value);
    }
    let id = rule["id"].as_str().unwrap();
    let known_for = rule["known_customer"]["hours"].as_u64().map(|hours| hours * HOUR);
    let is_known = known_for.is_some_and(|known_for| {
        let fact = Fact::Known { rule: RuleTag::of(id) };
        let found = live(signals, subject, now, known_for, |found| *found == fact);
        let everywhere = rule["known_customer"]["across"] == "market";
        found.iter().any(|signal| signal.stall == attempt.stall || everywhere || signal.voice == Voice::Market)
    });
    let mut answer = rule["answer"].as_str().unwrap();
    if is_known {
        answer = "approve";
        sentence += " (let pass: known)";
    } else if answer == "decline" && !is_firm {
        answer = "ask";
        sentence += " (one stall's word makes the difference, so it isn't declined)";
    }
    Some(json!({
        "rule": id, "name": rule["name"], "answer": answer, "sentence": sentence, "known_for_ms": known_for
    }))
}

/// Who says so last; whether that is enough, and whether it would be without any one other stall.
fn said(
    found: &BTreeSet<&Signal>,
    own: Stall,
    by_stalls: u64,
    words: &mut BTreeMap<&str, String>,
    is_so: impl Fn(&Fact) -> bool,
) -> Option<bool> {
    let newest = |of: &dyn Fn(&Signal) -> bool| {
        let all = found.iter().copied().filter(|signal| of(signal));
        all.max_by_key(|signal| (signal.at_ms, is_so(&signal.fact), signal.fact))
    };
    let market = newest(&|signal| signal.voice == Voice::Market);
    let lifted_at = market.filter(|word| !is_so(&word.fact)).map(|word| word.at_ms);
    let stalls: BTreeSet<Stall> = found.iter().map(|signal| signal.stall).collect();
    let mut heard: Vec<&Signal> = market.into_iter().filter(|word| is_so(&word.fact)).collect();
    let is_market = !heard.is_empty();
    let (mut is_own, mut others) = (false, 0);
    for stall in stalls {
        let Some(word) = newest(&|signal| signal.voice == Voice::Stall && signal.stall == stall) else { continue };
        if !is_so(&word.fact) || (stall != own && lifted_at.is_some_and(|at| word.at_ms <= at)) {
            continue;
        }
        heard.push(word);
        if stall == own {
            is_own = true;
        } else {
            others += 1;
        }
    }
    let who = match (is_market, is_own) {
        (true, _) => "the market".to_owned(),
        (_, true) => "this stall".to_owned(),
        _ => format!("{others} other stalls"),
    };
    words.insert("who", who);
    let furthest = heard.iter().filter_map(|word| match word.fact {
        Fact::Clock { off_ms } => Some((off_ms.unsigned_abs(), off_ms)),
        _ => None,
    });
    if let Some((far, off)) = furthest.max() {
        words.insert("off", format!("{} {}", time(far), if off < 0 { "behind" } else { "ahead" }));
    }
    let is_enough = is_market || is_own || others >= by_stalls;
    is_enough.then_some(is_market || is_own || others > by_stalls)
}

fn money(minor: u64, currency: &str) -> String {
    let text = format!("{minor:03}");
    let (whole, cents) = text.split_at(text.len() - 2);
    match currency {
        "JPY" => format!("{minor} JPY"),
        _ => format!("{whole}.{cents} {currency}"),
    }
}

/// Whole days from two on, whole hours from two on, unless the minutes come out even earlier.
fn time(ms: u64) -> String {
    let (seconds, minutes) = (ms / 1_000, ms / 60_000);
    let (number, unit) = if minutes == 0 {
        (seconds, "second")
    } else if minutes.is_multiple_of(1_440) || minutes >= 2_880 {
        (minutes / 1_440, "day")
    } else if minutes.is_multiple_of(60) || minutes >= 120 {
        (minutes / 60, "hour")
    } else {
        (minutes, "minute")
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}
