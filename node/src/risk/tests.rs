#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::json;
use stallmesh_protocol::SaleId;

use super::files::{LimitFile, LimitsFile, PolicyFile, StallFile};
use super::*;

const NOW: u64 = 1_780_000_000_000;
const MINUTE: u64 = 60_000;

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }
}

fn key(sale: u64, tender: u32) -> PaymentKey {
    PaymentKey { sale: SaleId::from_bytes(u128::from(sale).to_le_bytes()), tender }
}

fn payment(sale: u64, amount: u64, minutes_ago: u64) -> Uncaptured {
    Uncaptured {
        key: key(sale, 0),
        stall: Stall::named("lemon"),
        fingerprint: Some(Subject([7; 16])),
        amount,
        at_ms: NOW - minutes_ago * MINUTE,
    }
}

fn attempt(amount: u64) -> Attempt {
    Attempt { stall: Stall::named("lemon"), fingerprint: Some(Subject([7; 16])), amount }
}

fn policy(limits: serde_json::Value, stall: Option<serde_json::Value>) -> Policy {
    let market = json!({ "limits": limits, "borne_by": "market", "asked_borne_by": "stall" }).to_string();
    let stall = stall.map(|limits| json!({ "limits": limits }).to_string());
    Policy::read(&market, stall.as_deref(), "EUR").unwrap()
}

fn waiting() -> Exposure {
    let mut exposure = Exposure::default();
    for (sale, amount, ago) in [(1, 1_000, 90), (2, 2_000, 10), (3, 1_120, 5)] {
        exposure.add(payment(sale, amount, ago));
    }
    exposure
}

fn sentences(policy: &Policy, amount: u64) -> (Answer, Vec<String>) {
    let verdict = policy.judge(&waiting(), &attempt(amount), NOW);
    (verdict.answer, verdict.reasons.into_iter().map(|reason| reason.sentence).collect())
}

#[test]
fn each_limit_asks_above_one_step_and_declines_above_the_other_and_says_why() {
    let cases = [
        ("payment", 500, "this payment is 5.01 EUR; without the hub, up to 5.00 EUR is taken"),
        (
            "card_sum",
            4_620,
            "46.21 EUR of this card would not be captured yet; without the hub, up to 46.20 EUR is taken",
        ),
        (
            "stall_sum",
            4_620,
            "46.21 EUR of this stall would not be captured yet; without the hub, up to 46.20 EUR is taken",
        ),
        ("stall_count", 3, "4 card payments would wait; without the hub, up to 3 is taken"),
        (
            "oldest_minutes",
            89,
            "the oldest card payment has waited for more than 89 minutes; without the hub, up to 89 minutes is taken",
        ),
    ];
    for (limit, above, sentence) in cases {
        let ask = policy(json!({ limit: { "ask_above": above } }), None);
        assert_eq!(sentences(&ask, 501), (Answer::Ask, vec![format!("{sentence} unasked")]), "{limit}");
        let decline = policy(json!({ limit: { "ask_above": above - 1, "decline_above": above } }), None);
        assert_eq!(sentences(&decline, 501), (Answer::Decline, vec![sentence.to_owned()]), "{limit}");
        // What is equal to the limit is still below it.
        let enough = policy(json!({ limit: { "decline_above": above + 1 } }), None);
        assert_eq!(sentences(&enough, 501), (Answer::Approve, vec![]), "{limit}");
    }
    assert_eq!(sentences(&policy(json!({}), None), u64::MAX), (Answer::Approve, vec![]), "no limit is none");
}

#[test]
fn a_stall_can_only_be_stricter_and_the_market_says_who_bears_it() {
    let market = json!({ "payment": { "ask_above": 5_000, "decline_above": 10_000 } });
    let looser = policy(market.clone(), Some(json!({ "payment": { "ask_above": 9_000, "decline_above": 90_000 } })));
    let stricter =
        policy(market.clone(), Some(json!({ "payment": { "ask_above": 100 }, "stall_count": { "decline_above": 3 } })));
    let none = policy(market, None);
    for amount in [1, 5_000, 5_001, 10_000, 10_001] {
        assert_eq!(sentences(&looser, amount), sentences(&none, amount), "{amount}");
        assert!(sentences(&stricter, amount).0 >= sentences(&none, amount).0, "{amount}");
    }
    assert_eq!(sentences(&stricter, 1).0, Answer::Decline);
    // Asked by the stall's own limit, within the market's: the market bears it.
    let own = policy(json!({ "payment": { "ask_above": 5_000 } }), Some(json!({ "payment": { "ask_above": 100 } })));
    for (amount, answer, bearer) in
        [(50, Answer::Approve, Bearer::Market), (500, Answer::Ask, Bearer::Market), (5_001, Answer::Ask, Bearer::Stall)]
    {
        let verdict = own.judge(&Exposure::default(), &attempt(amount), NOW);
        assert_eq!((verdict.answer, verdict.borne_by), (answer, bearer), "{amount}");
    }
}

#[test]
fn narrowing_is_never_looser_than_either_and_its_order_plays_no_part() {
    let mut dice = Dice(11);
    let mut limit = move || {
        let mut step = || (dice.below(3) > 0).then(|| dice.below(20_000));
        LimitFile { ask_above: step(), decline_above: step() }
    };
    let mut limits = || LimitsFile {
        payment: limit(),
        card_sum: limit(),
        stall_sum: limit(),
        stall_count: limit(),
        oldest_minutes: limit(),
    };
    let exposure = waiting();
    for _ in 0..2_000 {
        let (one, other) = (limits(), limits());
        let both = one.narrowed(&other);
        assert_eq!(both, other.narrowed(&one));
        assert_eq!(both.narrowed(&one), both);
        let judge = |limits: LimitsFile| {
            // Steps in a wrong order are refused in files; here they are only narrowed.
            let market = PolicyFile {
                limits: LimitsFile::default(),
                borne_by: Bearer::Stall,
                asked_borne_by: None,
                authorise_within_ms: 0,
            };
            let mut policy = Policy::new(&market, &StallFile::default(), "EUR").unwrap();
            policy.set_limits(limits);
            policy.judge(&exposure, &attempt(3_000), NOW).answer
        };
        assert_eq!(judge(both), judge(one).max(judge(other)), "{one:?} {other:?}");
    }
}

#[test]
fn what_waits_depends_on_no_order_and_on_no_repetition() {
    let mut dice = Dice(5);
    for round in 0..3_000 {
        // Adding and settling, some said twice, some with other words.
        let mut steps: Vec<(Option<Uncaptured>, PaymentKey)> = Vec::new();
        for _ in 0..dice.below(30) {
            let mut one = payment(dice.below(8), dice.below(500) * dice.below(2), dice.below(300));
            one.key.tender = dice.below(2) as u32;
            one.stall = Stall::named(["lemon", "olive"][dice.below(2) as usize]);
            one.fingerprint = (dice.below(4) > 0).then(|| Subject([dice.below(3) as u8; 16]));
            steps.push((Some(one), one.key));
            if dice.below(3) == 0 {
                steps.push((None, one.key));
            }
        }
        let run = |steps: &[(Option<Uncaptured>, PaymentKey)]| {
            let mut exposure = Exposure::default();
            for (payment, key) in steps {
                match payment {
                    Some(payment) => exposure.add(*payment),
                    None => exposure.settle(*key, NOW),
                }
            }
            exposure
        };
        let first = run(&steps);
        for last in (1..steps.len()).rev() {
            steps.swap(last, dice.below(last as u64 + 1) as usize);
        }
        let repeated: Vec<_> = steps.iter().filter(|_| dice.below(2) == 0).copied().collect();
        steps.extend(repeated);
        assert_eq!(first, run(&steps), "round {round}");
        // The sums are those of the words that were never settled, the graver of each.
        let mut open: BTreeMap<PaymentKey, Uncaptured> = BTreeMap::new();
        for payment in steps.iter().filter_map(|(payment, _)| *payment) {
            if steps.iter().any(|(settles, key)| settles.is_none() && *key == payment.key) {
                continue;
            }
            let known = open.entry(payment.key).or_insert(payment);
            known.amount = known.amount.max(payment.amount);
            known.at_ms = known.at_ms.min(payment.at_ms);
            known.stall = known.stall.max(payment.stall);
            known.fingerprint = known.fingerprint.max(payment.fingerprint);
        }
        for stall in ["lemon", "olive"].map(Stall::named) {
            let here: Vec<&Uncaptured> = open.values().filter(|payment| payment.stall == stall).collect();
            let status = first.status(&stall, NOW);
            assert_eq!(status.payments, here.len() as u64);
            assert_eq!(status.sum, here.iter().map(|payment| payment.amount).sum::<u64>());
            assert_eq!(status.oldest_ms, here.iter().map(|payment| NOW - payment.at_ms).max());
            let mut sales: Vec<SaleId> = here.iter().map(|payment| payment.key.sale).collect();
            sales.dedup();
            assert_eq!(status.sales, sales.len() as u64);
        }
        for card in [0, 1, 2].map(|number| Subject([number; 16])) {
            let sum = open.values().filter(|payment| payment.fingerprint == Some(card)).map(|payment| payment.amount);
            assert_eq!(first.card_sum(&card), sum.sum::<u64>());
        }
    }
}

#[test]
fn what_was_captured_before_it_was_heard_of_never_waits_until_it_is_forgotten() {
    let mut exposure = Exposure::default();
    exposure.settle(key(1, 0), NOW);
    exposure.add(payment(1, 500, 5));
    assert!(exposure.is_empty());
    exposure.forget(NOW);
    exposure.add(payment(1, 500, 5));
    assert!(exposure.is_empty(), "it was settled at that time, not before");
    exposure.forget(NOW + 1);
    exposure.add(payment(1, 500, 5));
    assert_eq!(exposure.len(), 1);
}

#[test]
fn the_status_bar_says_numbers_and_gives_no_orders() {
    let mut exposure = Exposure::default();
    let stall = Stall::named("lemon");
    assert_eq!(exposure.status(&stall, NOW).sentence("EUR"), "no sale waits");
    exposure.add(payment(1, 1_000, 5));
    assert_eq!(exposure.status(&stall, NOW).sentence("EUR"), "1 sale waits, 10.00 not captured");
    // Two tenders of one sale are one sale.
    exposure.add(Uncaptured { key: key(1, 1), ..payment(1, 2_000, 5) });
    exposure.add(payment(2, 1_120, 5));
    exposure.add(payment(3, 0, 5));
    assert_eq!(exposure.status(&stall, NOW).sentence("EUR"), "3 sales wait, 41.20 not captured");
    assert_eq!(exposure.status(&stall, NOW).sentence("JPY"), "3 sales wait, 4120 not captured");
    assert_eq!(exposure.status(&Stall::named("olive"), NOW), Status::default());
}

#[test]
fn amounts_beyond_what_can_be_counted_pass_every_limit() {
    let mut exposure = Exposure::default();
    for sale in 0..3 {
        exposure.add(payment(sale, u64::MAX, 5));
    }
    let policy = Policy::default_for("EUR").unwrap();
    assert_eq!(policy.judge(&exposure, &attempt(u64::MAX), 0).answer, Answer::Decline);
    for sale in 0..3 {
        exposure.settle(key(sale, 0), NOW);
    }
    assert_eq!(exposure.status(&Stall::named("lemon"), NOW), Status::default());
    assert_eq!(policy.judge(&exposure, &attempt(5_000), NOW).answer, Answer::Approve);
}

#[test]
fn what_a_file_cant_say_is_refused_with_its_field_and_its_line() {
    let market = |limits: &str| format!("{{\n\"borne_by\": \"stall\",\n\"limits\": {{\n{limits}\n}}\n}}");
    for (text, field, line, detail) in [
        (
            market("\"payment\": { \"ask_above\": 5, \"decline_above\": 5 }"),
            "limits.payment.ask_above",
            4,
            "nobody would",
        ),
        (market("\"payment\": { \"ask_above\": 9007199254740992 }"), "limits.payment.ask_above", 4, "more than"),
        (market("\"payment\": { \"ask_above\": 1.5 }"), "limits.payment.ask_above", 4, "floating point"),
        (market("\"payment\": { \"warn\": 1 }"), "limits.payment.warn", 4, "unknown field"),
        (market("\"colour\": {}"), "limits.colour", 4, "unknown field"),
        ("{\n\"borne_by\": \"bank\" }".to_owned(), "borne_by", 2, "unknown variant"),
    ] {
        let problem = Policy::read(&text, None, "EUR").unwrap_err();
        assert_eq!(
            (problem.field.as_str(), problem.line, problem.file),
            (field, Some(line), "risk policy"),
            "{problem}"
        );
        assert!(problem.detail.contains(detail), "{problem}");
    }
    let problem = Policy::read(DEFAULT_POLICY, Some("{ \"borne_by\": \"market\" }"), "EUR").unwrap_err();
    assert_eq!(problem.file, "risk limits", "a stall doesn't say who bears it");
    assert!(Policy::read("{}", None, "EUR").unwrap_err().detail.contains("borne_by"));
    assert!(Policy::default_for("XYZ").is_err());
}
