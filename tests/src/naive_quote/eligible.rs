//! Which lines a promotion is about, and whether it may apply at all.

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::Line;
use super::codes::State;
use super::numbers::{R, decimal, parse, sum, text_of};

/// What a promotion is judged by: who buys what, where and when.
pub(super) struct Situation<'a> {
    /// The market's catalog.
    pub(super) catalog: &'a Value,
    /// The basket as given.
    pub(super) basket: &'a Value,
    /// The conditions that are known.
    pub(super) conditions: &'a Value,
    /// The moment of the quote.
    pub(super) at: Timestamp,
}

/// The entries of a JSON list; none where it is left out.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether a line's product fits a matcher; one that is left out fits every line.
pub(super) fn matches(matcher: &Value, line: &Line) -> bool {
    let product = line.product;
    let sku = list(&matcher["skus"]).contains(&product["sku"]);
    let category = list(&matcher["categories"]).iter().any(|c| list(&product["categories"]).contains(c));
    let tag = list(&matcher["tags"]).iter().any(|t| list(&product["tags"]).contains(t));
    let nothing_listed = ["skus", "categories", "tags"].iter().all(|kind| list(&matcher[kind]).is_empty());
    let excluded = matcher.get("not").is_some_and(|not| !not.is_null() && matches(not, line));
    (sku || category || tag || nothing_listed) && !excluded
}

/// Whether a line is one of the promotion's own: matched by its items, by what it gives or by a part of its bundle.
pub(super) fn touches(promotion: &Value, line: &Line) -> bool {
    let effect = &promotion["effect"];
    if effect.get("bundle").is_some() {
        return list(&effect["bundle"]).iter().any(|part| matches(&part["items"], line));
    }
    matches(&promotion["items"], line) || effect.get("get_items").is_some_and(|given| matches(given, line))
}

/// The effect that counts: of tiers the entry with the greatest threshold reached, nothing if none is.
pub(super) fn effect_of<'a>(promotion: &'a Value, lines: &[Line]) -> Option<&'a Value> {
    let effect = &promotion["effect"];
    if effect.get("tiers").is_none() {
        return Some(effect);
    }
    let (gross, quantity) = gross_and_quantity(&promotion["items"], lines);
    let mut best: Option<(R, &Value)> = None;
    for tier in list(&effect["tiers"]) {
        let (threshold, reached) = match tier.get("from_quantity") {
            Some(from) => (decimal(from), &quantity),
            None => (decimal(&tier["from_subtotal"]), &gross),
        };
        if threshold <= *reached && best.as_ref().is_none_or(|(greatest, _)| threshold > *greatest) {
            best = Some((threshold, tier));
        }
    }
    best.map(|(_, tier)| tier)
}

/// Why a promotion can't apply, whatever the others do; nothing if it may.
pub(super) fn refusal(promotion: &Value, situation: &Situation, lines: &[Line]) -> Option<State> {
    let moment = |field: &str| promotion[field].as_str().map(|text| text.parse::<Timestamp>().unwrap());
    if moment("starts_at").is_some_and(|start| situation.at < start) {
        return Some(State::NotYet);
    }
    if moment("ends_at").is_some_and(|end| situation.at >= end) {
        return Some(State::Expired);
    }
    if used_up(promotion, situation.basket) {
        return Some(State::UsedUp);
    }
    let may = in_hours(promotion, situation)
        && thresholds_met(promotion, lines)
        && code_given(promotion, situation.basket)
        && list(&promotion["requires"]["conditions"]).iter().all(|asked| condition_met(asked, situation.conditions))
        && customer_fits(&promotion["requires"]["customer"], &situation.basket["customer"])
        && lines.iter().any(|line| touches(promotion, line))
        && effect_of(promotion, lines).is_some();
    if may { None } else { Some(State::NotReached) }
}

fn gross_and_quantity(matcher: &Value, lines: &[Line]) -> (R, R) {
    let matching: Vec<&Line> = lines.iter().filter(|line| matches(matcher, line)).collect();
    (sum(matching.iter().map(|line| &line.gross)), sum(matching.iter().map(|line| &line.quantity)))
}

fn used_up(promotion: &Value, basket: &Value) -> bool {
    let id = promotion["id"].as_str().unwrap();
    let gone =
        |limit: &Value, used: &Value| !limit.is_null() && used[id].as_i64().unwrap_or(0) >= limit.as_i64().unwrap();
    let limits = &promotion["limits"];
    gone(&limits["total"], &basket["used"]) || gone(&limits["per_customer"], &basket["customer"]["used"])
}

fn in_hours(promotion: &Value, situation: &Situation) -> bool {
    let hours = list(&promotion["hours"]);
    let zone = TimeZone::get(situation.catalog["time_zone"].as_str().unwrap_or("UTC")).unwrap();
    let local = situation.at.to_zoned(zone).datetime();
    let now = local.time();
    let (today, yesterday) = (day_name(local.weekday()), day_name(local.weekday().previous()));
    hours.is_empty()
        || hours.iter().any(|window| {
            let on = |day: &str| list(&window["days"]).is_empty() || list(&window["days"]).contains(&Value::from(day));
            let clock = |field: &str| Time::strptime("%H:%M", window[field].as_str().unwrap()).unwrap();
            let (from, to) = (clock("from"), clock("to"));
            if from < to {
                on(today) && from <= now && now < to
            } else {
                // What lies past midnight belongs to the day before; a `to` of midnight leaves nothing there.
                (on(today) && from <= now) || (on(yesterday) && now < to)
            }
        })
}

fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}

fn thresholds_met(promotion: &Value, lines: &[Line]) -> bool {
    let requires = &promotion["requires"];
    // A bundle has no `items`, so that without a matcher of its own every line counts.
    let matcher = requires.get("items").unwrap_or(&promotion["items"]);
    let (gross, quantity) = gross_and_quantity(matcher, lines);
    let met = |least: &Value, reached: R| least.is_null() || reached >= decimal(least);
    met(&requires["min_subtotal"], gross) && met(&requires["min_quantity"], quantity)
}

fn code_given(promotion: &Value, basket: &Value) -> bool {
    let asked = list(&promotion["requires"]["codes"]);
    asked.is_empty() || asked.iter().any(|code| list(&basket["codes"]).contains(code))
}

fn condition_met(asked: &Value, conditions: &Value) -> bool {
    let Some(given) = conditions.get(asked["name"].as_str().unwrap()) else { return false };
    let given_text = text_of(given);
    let given_number = parse(&given_text);
    let at_least =
        asked.get("at_least").is_none_or(|least| given_number.as_ref().is_some_and(|n| *n >= decimal(least)));
    let at_most = asked.get("at_most").is_none_or(|most| given_number.as_ref().is_some_and(|n| *n <= decimal(most)));
    let equals = asked.get("equals").is_none_or(|value| match (&given_number, parse(&text_of(value))) {
        (Some(n), Some(m)) => *n == m,
        _ => given_text == text_of(value),
    });
    at_least && at_most && equals
}

fn customer_fits(asked: &Value, customer: &Value) -> bool {
    let visits = customer["visits"].as_i64().unwrap_or(0);
    let first = customer["first_purchase"].as_bool().unwrap_or(false);
    let groups = list(&asked["groups"]);
    asked["visits_at_least"].as_i64().is_none_or(|least| visits >= least)
        && asked["first_purchase"].as_bool().is_none_or(|wanted| wanted == first)
        && (groups.is_empty() || groups.iter().any(|group| list(&customer["groups"]).contains(group)))
}
