//! What became of each code that was given.

use super::basket::Basket;
use super::eligible::Hindrance;
use super::files::{CodeAnswer, CodeState};
use super::promotions::{Promotion, Promotions};
use super::stack::Stacked;
use super::words;

/// Each code once, in the order given. Of several promotions with one code the best state counts.
pub(super) fn of(
    promotions: &Promotions,
    basket: &Basket<'_>,
    stacked: &Stacked<'_>,
    currency: &str,
) -> Vec<CodeAnswer> {
    let given = &basket.file.codes;
    let first = given.iter().enumerate().filter(|(index, code)| !given[..*index].contains(code));
    first
        .map(|(_, code)| {
            let judged = promotions.with_code(code).iter().map(|place| {
                let promotion = promotions.get(*place);
                judge(*place, promotion, basket, stacked, currency)
            });
            // Of equals the first.
            let best = judged.reduce(|best, next| if next.0 > best.0 { next } else { best });
            let unknown = || (CodeState::Unknown, "nothing on offer has this code".to_owned());
            let (state, why) = best.unwrap_or_else(unknown);
            CodeAnswer { code: code.clone(), state, why: (state != CodeState::Applied).then_some(why) }
        })
        .collect()
}

fn judge(
    place: u32,
    promotion: &Promotion,
    basket: &Basket<'_>,
    stacked: &Stacked<'_>,
    currency: &str,
) -> (CodeState, String) {
    let name = &promotion.name;
    if let Some(hindrance) = stacked.hindrance(place) {
        return (hindrance.state(), why_not(hindrance, promotion, currency));
    }
    if stacked.is_applied(place) {
        return (CodeState::Applied, String::new());
    }
    if stacked.is_displaced(place, promotion, basket) {
        return (CodeState::Displaced, format!("{name}: another offer takes its place here"));
    }
    (CodeState::NotReached, format!("{name}: there is nothing here that it would make cheaper"))
}

fn why_not(hindrance: Hindrance, promotion: &Promotion, currency: &str) -> String {
    let name = &promotion.name;
    match hindrance {
        Hindrance::NotYet => {
            format!("{name} begins at {}", promotion.starts.map(|starts| starts.to_string()).unwrap_or_default())
        }
        Hindrance::Expired => {
            format!("{name} ended at {}", promotion.ends.map(|ends| ends.to_string()).unwrap_or_default())
        }
        Hindrance::UsedUp => format!("{name} is used up"),
        Hindrance::NothingMatches => format!("{name}: nothing in the basket is part of it"),
        Hindrance::Hours => format!("{name}: not at this hour"),
        Hindrance::Subtotal(least) => format!("{name} needs goods for {}", words::amount(least, currency)),
        Hindrance::Quantity(least) => {
            let mut sentence = format!("{name} needs ");
            words::push_units(&mut sentence, least);
            sentence + " of its goods"
        }
        Hindrance::Condition(unmet) => {
            let condition = promotion.requires.conditions.get(unmet).map(|condition| condition.name.as_str());
            format!("{name}: `{}` isn't known now, or isn't as it must be", condition.unwrap_or_default())
        }
        Hindrance::Customer => format!("{name} is for other customers"),
        Hindrance::Code => format!("{name} needs a code"),
    }
}
