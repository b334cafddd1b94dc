//! What a vendor reads, and what a file of rules can't say.

use serde_json::{Value, json};
use stallmesh_node::fraud::{
    Action, Answer, Attempt, DEFAULT_RULES, Fact, Index, LIFE_MAX_MS, Reference, Rules, Signal, Subject, Voice,
};

use crate::random::{HOUR, MINUTE, NOW, stall, subject};

fn card(stall_number: u64) -> Attempt {
    let action = Action::Card { fingerprint: subject(1), amount: 1_000 };
    Attempt { stall: stall(stall_number), device: subject(100), action }
}

fn say(rules: &Rules, index: &mut Index, attempt: &Attempt, at_ms: u64) {
    let number = index.len() as u128;
    index.insert(rules.signal(attempt, at_ms, Reference(number.to_le_bytes())).unwrap());
}

fn of_market(fact: Fact, about: Subject, at_ms: u64) -> Signal {
    let reference = Reference([1; 16]);
    let expires_at_ms = at_ms + LIFE_MAX_MS;
    Signal { fact, subject: about, stall: stall(99), voice: Voice::Market, at_ms, expires_at_ms, reference }
}

#[test]
fn a_card_that_runs_from_stall_to_stall_is_asked_about_with_numbers() {
    let rules = Rules::default_for("EUR").unwrap();
    let mut index = Index::default();
    for number in 0..3 {
        assert_eq!(rules.assess(&index, &card(number), NOW).answer, Answer::Approve);
        say(&rules, &mut index, &card(number), NOW);
    }
    let found = rules.assess(&index, &card(3), NOW + 9 * MINUTE);
    assert_eq!(found.answer, Answer::Ask);
    assert_eq!(found.reasons[0].sentence, "this card paid at 4 stalls within 10 minutes; usual is up to 3");
    // The window has passed, or the fourth stall is one of the three.
    assert_eq!(rules.assess(&index, &card(3), NOW + 10 * MINUTE).answer, Answer::Approve);
    assert_eq!(rules.assess(&index, &card(2), NOW + 9 * MINUTE).answer, Answer::Approve);
}

#[test]
fn an_answered_alarm_lets_that_card_pass_at_that_stall_for_so_long() {
    let rules = Rules::default_for("EUR").unwrap();
    let mut index = Index::default();
    for number in 0..3 {
        say(&rules, &mut index, &card(number), NOW);
    }
    let known = rules.known("card-many-stalls", &card(3), NOW, Reference::default()).unwrap();
    index.insert(known);
    let found = rules.assess(&index, &card(3), NOW + MINUTE);
    assert_eq!(found.answer, Answer::Approve);
    assert!(found.reasons[0].sentence.ends_with("usual is up to 3 (let pass: known)"), "{found:?}");
    assert_eq!(rules.assess(&index, &card(4), NOW + MINUTE).answer, Answer::Ask, "another stall hasn't said so");
    let mut later = Index::default();
    later.insert(known);
    for number in 0..3 {
        say(&rules, &mut later, &card(number), NOW + 12 * HOUR);
    }
    assert_eq!(rules.assess(&later, &card(3), NOW + 12 * HOUR).answer, Answer::Ask, "it held for 12 hours");
    assert!(rules.known("card-blocked", &card(3), NOW, Reference::default()).is_none(), "a block isn't let pass");
    assert!(rules.known("clone", &card(3), NOW, Reference::default()).is_some());
}

#[test]
fn a_block_of_the_market_declines_until_it_is_lifted_and_one_of_a_stall_holds_there() {
    let rules = Rules::default_for("EUR").unwrap();
    let mut index = Index::default();
    let own = Signal {
        fact: Fact::Block { is_on: true },
        subject: subject(1),
        stall: stall(3),
        voice: Voice::Stall,
        at_ms: NOW,
        expires_at_ms: NOW + 720 * HOUR,
        reference: Reference::default(),
    };
    index.insert(own);
    assert_eq!(rules.assess(&index, &card(4), NOW).answer, Answer::Approve);
    let found = rules.assess(&index, &card(3), NOW);
    assert_eq!(
        (found.answer, found.reasons[0].sentence.as_str()),
        (Answer::Decline, "this card is blocked by this stall")
    );
    // Three others: asked. Four: declined also without any one of them.
    for (number, answer) in [(4, Answer::Approve), (5, Answer::Ask), (6, Answer::Decline)] {
        index.insert(Signal { stall: stall(number), ..own });
        let found = rules.assess(&index, &card(9), NOW);
        assert_eq!(found.answer, answer, "{found:?}");
    }
    // The market lifts it: what stalls said up to then is taken back.
    let mut same_time = index.clone();
    same_time.insert(of_market(Fact::Block { is_on: false }, subject(1), NOW));
    assert_eq!(rules.assess(&same_time, &card(9), NOW + 2).answer, Answer::Approve);
    assert_eq!(
        rules.assess(&same_time, &card(3), NOW + 2).answer,
        Answer::Decline,
        "its own block holds at that stall"
    );
    index.insert(of_market(Fact::Block { is_on: false }, subject(1), NOW + 1));
    assert_eq!(rules.assess(&index, &card(9), NOW + 2).answer, Answer::Approve);
    index.insert(of_market(Fact::Block { is_on: true }, subject(1), NOW + 3));
    let found = rules.assess(&index, &card(9), NOW + 4);
    assert_eq!(
        (found.answer, found.reasons[0].sentence.as_str()),
        (Answer::Decline, "this card is blocked by the market")
    );
}

#[test]
fn what_takes_a_block_back_outlives_it() {
    let rules = Rules::default_for("EUR").unwrap();
    let short = Rules::read(&changed(|file| file["rules"][6]["signals_live_hours"] = json!(24)), "EUR").unwrap();
    for rules in [&rules, &short] {
        assert_eq!(rules.life_ms(&Fact::Block { is_on: false }), Some(LIFE_MAX_MS));
    }
    assert_eq!(short.life_ms(&Fact::Block { is_on: true }), Some(24 * HOUR));
    let mut index = Index::default();
    index.insert(of_market(Fact::Block { is_on: true }, subject(1), NOW));
    let lifted = of_market(Fact::Block { is_on: false }, subject(1), NOW + 1);
    index.insert(lifted);
    for day in 0..40 {
        let now = NOW + 2 + day * 24 * HOUR;
        index.expire(now);
        assert_eq!(rules.assess(&index, &card(1), now).answer, Answer::Approve, "day {day}");
    }
}

#[test]
fn a_signal_from_the_future_waits_for_its_time_and_an_old_one_is_over() {
    let rules = Rules::default_for("EUR").unwrap();
    let mut index = Index::default();
    let at = NOW + 3 * 24 * HOUR;
    index.insert(of_market(Fact::Block { is_on: true }, subject(1), at));
    for (now, answer) in [
        (NOW, Answer::Approve),
        (at - 2 * MINUTE - 1, Answer::Approve),
        (at - 2 * MINUTE, Answer::Decline),
        (at + LIFE_MAX_MS - 1, Answer::Decline),
        (at + LIFE_MAX_MS, Answer::Approve),
    ] {
        index.expire(now);
        assert_eq!(rules.assess(&index, &card(1), now).answer, answer, "{now}");
    }
}

#[test]
fn a_clock_that_was_set_right_alarms_nobody_any_more() {
    let rules = Rules::default_for("EUR").unwrap();
    let mut index = Index::default();
    let attempt = Attempt { action: Action::Other, ..card(1) };
    let off = |off_ms: i64, at_ms: u64| of_market(Fact::Clock { off_ms }, subject(100), at_ms);
    index.insert(off(-12 * 60_000, NOW));
    let found = rules.assess(&index, &attempt, NOW + 1);
    assert!(
        found.reasons[0].sentence.starts_with("this device's clock is 12 minutes behind, says the market"),
        "{found:?}"
    );
    index.insert(off(30_000, NOW + 2));
    assert_eq!(rules.assess(&index, &attempt, NOW + 3).reasons, []);
}

#[test]
fn overrides_and_voids_are_counted_for_who_does_them() {
    let rules = Rules::default_for("EUR").unwrap();
    let mut index = Index::default();
    let operator = Subject::of_operator("lemon", "ann");
    assert_ne!(operator, Subject::of_operator("lemo", "nann"));
    let attempt = |action| Attempt { stall: stall(1), device: subject(100), action };
    let low = attempt(Action::Override { operator, price: 600, catalog_price: 1_000 });
    let small = attempt(Action::Override { operator, price: 900, catalog_price: 1_000 });
    let void = attempt(Action::Void { operator, amount: 500, after_ms: 3 * MINUTE });
    assert!(rules.signal(&small, NOW, Reference::default()).is_none(), "nobody needs to hear of it");
    for _ in 0..2 {
        for attempt in [&low, &void] {
            assert_eq!(rules.assess(&index, attempt, NOW).answer, Answer::Approve);
            say(&rules, &mut index, attempt, NOW);
        }
    }
    let sentences = [&low, &void, &small].map(|attempt| {
        let found = rules.assess(&index, attempt, NOW + HOUR);
        found.reasons.first().map(|reason| reason.sentence.clone()).unwrap_or_default()
    });
    assert_eq!(
        sentences,
        [
            "40 % below the price, for the 3. time within 4 hours; usual is up to 2 times",
            "voided 3 minutes after cash was paid, for the 3. time within 8 hours; usual is up to 2 times",
            ""
        ]
    );
}

#[test]
fn a_sum_says_what_it_comes_to_in_the_markets_currency() {
    let attempt = |amount| Attempt { action: Action::Card { fingerprint: subject(1), amount }, ..card(1) };
    for (currency, sentence) in [
        ("EUR", "this card paid 250.01 EUR within 2 hours; usual is up to 250.00 EUR"),
        ("JPY", "this card paid 25001 JPY within 2 hours; usual is up to 25000 JPY"),
        ("KWD", "this card paid 25.001 KWD within 2 hours; usual is up to 25.000 KWD"),
    ] {
        let rules = Rules::default_for(currency).unwrap();
        let found = rules.assess(&Index::default(), &attempt(25_001), NOW);
        assert_eq!(found.reasons[0].sentence, sentence);
        assert!(rules.assess(&Index::default(), &attempt(25_000), NOW).reasons.is_empty());
        // Beyond what can be counted.
        let mut index = Index::default();
        say(&rules, &mut index, &attempt(u64::MAX), NOW);
        assert_eq!(rules.assess(&index, &attempt(u64::MAX), NOW).answer, Answer::Decline);
    }
}

/// The default rules with one value changed, as text in which each line holds little.
fn changed(change: impl Fn(&mut Value)) -> String {
    let mut file: Value = serde_json::from_str(DEFAULT_RULES).unwrap();
    change(&mut file);
    serde_json::to_string_pretty(&file).unwrap()
}

#[test]
fn what_a_file_cant_say_is_refused_with_its_field_and_its_line() {
    let set = |place: &'static str, value: Value| {
        changed(move |file| *file.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value.clone())
    };
    let cases: Vec<(String, &str, &str)> = vec![
        (set("/rules/0/id", json!("Card")), "rules[0].id", "small letters"),
        (set("/rules/1/id", json!("card-many-stalls")), "rules[1].id", "another rule's id"),
        (set("/rules/0/says", json!("at {place}")), "rules[0].says", "`{place}` is nothing that this rule knows"),
        (set("/rules/0/says", json!("at {count")), "rules[0].says", "no `}`"),
        (set("/rules/0/says", json!("at count}")), "rules[0].says", "no `{`"),
        (set("/rules/0/says", json!("at {sum}")), "rules[0].says", "{count}, {usual}, {window}"),
        (set("/rules/0/name", json!("")), "rules[0].name", "one line"),
        (set("/rules/0/answer", json!("maybe")), "rules[0].answer", "unknown variant"),
        (set("/rules/0/signals_live_hours", json!(721)), "rules[0].signals_live_hours", "between 1 and 720"),
        (set("/rules/0/signals_live_hours", json!(1.5)), "rules[0].signals_live_hours", "floating point"),
        (
            set("/rules/0/looks_at/card_stalls/within_minutes", json!(1441)),
            "rules[0].looks_at.card_stalls.within_minutes",
            "longer than its signals live",
        ),
        (set("/rules/0/looks_at/card_stalls/usual", json!(1)), "rules[0].looks_at.card_stalls.usual", "between 2 and"),
        (
            set("/rules/2/looks_at/card_payments/each_stall_at_most", json!(8)),
            "rules[2].looks_at.card_payments.each_stall_at_most",
            "one stall's word would be enough",
        ),
        (
            set("/rules/2/looks_at/card_payments/each_stall_at_most", json!(null)),
            "rules[2].looks_at.card_payments.each_stall_at_most",
            "as many as it likes",
        ),
        (
            set("/rules/5/looks_at/card_sum/each_stall_at_most", json!(100_000)),
            "rules[5].looks_at.card_sum.each_stall_at_most",
            "less than `usual`",
        ),
        (
            set("/rules/6/looks_at/card_blocked/by_stalls", json!(1)),
            "rules[6].looks_at.card_blocked.by_stalls",
            "between 2 and",
        ),
        (set("/rules/9/answer", json!("decline")), "rules[9].answer", "no reason to decline"),
        (set("/rules/0/known_customer/hours", json!(0)), "rules[0].known_customer.hours", "between 1 and"),
        (
            changed(|file| file["rules"][5]["known_customer"] = json!({ "hours": 1, "across": "market" })),
            "rules[5].known_customer.across",
            "one stall can't let pass",
        ),
        (changed(|file| file["rules"][0]["colour"] = json!("red")), "rules[0].colour", "unknown field `colour`"),
        (
            changed(|file| file["rules"][0]["looks_at"]["card_stalls"]["colour"] = json!("red")),
            "rules[0].looks_at.card_stalls.colour",
            "unknown field `colour`",
        ),
        (changed(|file| file["rules"] = json!(vec![file["rules"][0].clone(); 65])), "rules", "64 at most"),
    ];
    for (text, field, detail) in cases {
        let problem = Rules::read(&text, "EUR").err().unwrap_or_else(|| panic!("{field}: {detail}"));
        assert_eq!(problem.field, field, "{problem}");
        assert!(problem.detail.contains(detail), "{problem}");
        let line = problem.line.unwrap_or_else(|| panic!("{problem}"));
        let name = field.rsplit('.').next().unwrap().trim_end_matches(|sign: char| "[]0123456789".contains(sign));
        let at = text.lines().nth(line - 1).unwrap();
        assert!(at.contains(name), "{problem}: {at}");
    }
    assert!(Rules::read(DEFAULT_RULES, "XYZ").is_err());
    assert!(Rules::read("{}", "EUR").unwrap_err().detail.contains("missing field `rules`"));
}
