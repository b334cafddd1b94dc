//! A quote worked out the long way, to compare a faster one with.
//!
//! Every number is an exact fraction and every unit is looked at by itself, in the order in which the format's page
//! explains a quote: who may apply, exclusive ones, the best of each group, line effects, order effects, fees, taxes,
//! cash rounding, codes. The inputs are taken to be valid.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "only inputs that were read without a problem are given to it"
)]

mod codes;
mod effects;
mod eligible;
mod numbers;
mod taxes;

use jiff::Timestamp;
use num_traits::{Signed, Zero};
use serde_json::{Value, json};

use codes::State;
use effects::Phase;
use eligible::{Situation, list};
use numbers::{R, decimal, half_up, json_amount, json_decimal, sum};
use taxes::Taxed;

/// A line of the basket and what has become of it so far.
#[derive(Clone)]
struct Line<'a> {
    product: &'a Value,
    quantity: R,
    piece: bool,
    price: R,
    gross: R,
    /// The gross without the reductions so far.
    left: R,
    /// Which offer took off how much.
    reductions: Vec<(usize, R)>,
    /// The exclusive offer that has the line for itself.
    taken_by: Option<usize>,
}

/// A promotion and what has become of it so far.
struct Offer<'a> {
    json: &'a Value,
    /// What it does, of tiers the one reached; nothing if none is.
    effect: Option<&'a Value>,
    /// Why it can't apply, whatever the others do.
    refusal: Option<State>,
    /// Whether another of its group was better.
    lost: bool,
    /// What it adds.
    fee: R,
}

/// What a basket costs, worked out as a person would, unit by unit.
pub fn quote(catalog: &Value, promotions: &Value, basket: &Value, conditions: &Value, at: &str) -> Value {
    let situation = Situation { catalog, basket, conditions, at: at.parse::<Timestamp>().unwrap() };
    let mut lines: Vec<Line> = list(&basket["lines"]).iter().map(|line| basket_line(catalog, line)).collect();
    let mut offers = offers(promotions, &situation, &lines);

    take_exclusive(&offers, &mut lines);
    let free: Vec<bool> = lines.iter().map(|line| line.taken_by.is_none()).collect();
    choose_best(&mut offers, &lines, &free);
    for phase in [Phase::Line, Phase::Order] {
        for (o, offer) in offers.iter().enumerate() {
            if stays(offer, phase) && offer.json["stacking"] != "exclusive" {
                let off = effects::reductions(offer.json, offer.effect.unwrap(), &lines, &free);
                take_off(o, &off, &mut lines);
            }
        }
    }
    for offer in &mut offers {
        if stays(offer, Phase::Fee) {
            offer.fee = effects::fee(offer.json, offer.effect.unwrap(), &lines);
        }
    }
    answer(&situation, at, &lines, &offers)
}

fn basket_line<'a>(catalog: &'a Value, line: &'a Value) -> Line<'a> {
    let product = list(&catalog["products"]).iter().find(|product| product["sku"] == line["sku"]).unwrap();
    let quantity = decimal(&line["quantity"]);
    let price = decimal(line.get("price").unwrap_or(&product["price"]));
    let gross = half_up(&(&price * &quantity));
    let piece = product["unit"].as_str().unwrap_or("piece") == "piece";
    Line { product, quantity, piece, price, left: gross.clone(), gross, reductions: Vec::new(), taken_by: None }
}

/// All promotions, higher priority first, ties by `id`, and whether each may apply.
fn offers<'a>(promotions: &'a Value, situation: &Situation, lines: &[Line]) -> Vec<Offer<'a>> {
    let mut sorted: Vec<&Value> = list(promotions).iter().collect();
    let priority = |promotion: &Value| promotion["priority"].as_i64().unwrap_or(0);
    sorted.sort_by(|a, b| priority(b).cmp(&priority(a)).then(a["id"].as_str().cmp(&b["id"].as_str())));
    sorted
        .into_iter()
        .map(|json| Offer {
            json,
            effect: eligible::effect_of(json, lines),
            refusal: eligible::refusal(json, situation, lines),
            lost: false,
            fee: R::zero(),
        })
        .collect()
}

/// Whether an offer may apply, hasn't lost to another and comes in this phase.
fn stays(offer: &Offer, phase: Phase) -> bool {
    offer.refusal.is_none() && !offer.lost && effects::phase(offer.effect.unwrap()) == phase
}

/// What an offer would take off these lines at their gross if there were no other; a fee takes off nothing.
fn measured_alone(offer: &Offer, lines: &[Line], free: &[bool]) -> R {
    let mut whole_lines = lines.to_vec();
    for line in &mut whole_lines {
        line.left = line.gross.clone();
    }
    sum(&effects::reductions(offer.json, offer.effect.unwrap(), &whole_lines, free))
}

fn take_off(o: usize, off: &[R], lines: &mut [Line]) {
    for (line, off) in lines.iter_mut().zip(off) {
        if off.is_positive() {
            line.left -= off;
            line.reductions.push((o, off.clone()));
        }
        assert!(!line.left.is_negative(), "no line goes below zero");
    }
}

/// Exclusive offers, one after the other: what one reduces, it has for itself, with all other free lines it is about.
fn take_exclusive(offers: &[Offer], lines: &mut [Line]) {
    for (o, offer) in offers.iter().enumerate() {
        // A fee that calls itself exclusive is a fee like any other.
        let reduces = stays(offer, Phase::Line) || stays(offer, Phase::Order);
        if offer.json["stacking"] != "exclusive" || !reduces {
            continue;
        }
        let free: Vec<bool> = lines.iter().map(|line| line.taken_by.is_none()).collect();
        let off = effects::reductions(offer.json, offer.effect.unwrap(), lines, &free);
        if sum(&off).is_positive() {
            take_off(o, &off, lines);
            for line in lines.iter_mut() {
                if line.taken_by.is_none() && eligible::touches(offer.json, line) {
                    line.taken_by = Some(o);
                }
            }
        }
    }
}

/// Of each group that offer stays which takes off most; the first of equals, as offers are in order of priority.
fn choose_best(offers: &mut [Offer], lines: &[Line], free: &[bool]) {
    let may: Vec<usize> =
        (0..offers.len()).filter(|&o| offers[o].json["stacking"] == "best_of" && offers[o].refusal.is_none()).collect();
    for &o in &may {
        let mine = measured_alone(&offers[o], lines, free);
        let beaten =
            may.iter().filter(|&&other| offers[other].json["group"] == offers[o].json["group"]).any(|&other| {
                let theirs = measured_alone(&offers[other], lines, free);
                theirs > mine || (theirs == mine && other < o)
            });
        offers[o].lost = beaten;
    }
}

fn answer(situation: &Situation, at: &str, lines: &[Line], offers: &[Offer]) -> Value {
    let included = situation.catalog["prices_include_tax"] == true;
    let fees: Vec<&Offer> = offers.iter().filter(|offer| offer.fee.is_positive()).collect();
    let mut things: Vec<Taxed> = Vec::new();
    for line in lines {
        let taxed_before = line.reductions.iter().filter(|(o, _)| offers[*o].json["tax_base"] == "before");
        let worth = &line.left + sum(taxed_before.map(|(_, off)| off));
        things.push(Taxed { worth, names: taxes::names(&line.product["tax"]) });
    }
    for fee in &fees {
        let names = taxes::names(&fee.effect.unwrap()["fee"]["tax"]);
        things.push(Taxed { worth: fee.fee.clone(), names });
    }
    let taxes = taxes::taxes(situation.catalog, &things);
    let (line_taxes, fee_taxes) = taxes.split_at(lines.len());
    let with_taxes = |net: &R, taxes: &[taxes::Tax]| -> R {
        if included { net.clone() } else { net + sum(taxes.iter().map(|tax| &tax.amount)) }
    };
    let line_totals: Vec<R> = lines.iter().zip(line_taxes).map(|(line, taxes)| with_taxes(&line.left, taxes)).collect();
    let fee_totals: Vec<R> = fees.iter().zip(fee_taxes).map(|(fee, taxes)| with_taxes(&fee.fee, taxes)).collect();

    let due = sum(&line_totals) + sum(&fee_totals);
    let step = situation.catalog.get("cash_rounding").map_or(numbers::whole(1), decimal);
    // What is due is never negative, so that halves away from zero are halves upwards.
    let total = if situation.basket["tender"] == "cash" { half_up(&(&due / &step)) * &step } else { due.clone() };

    let taxes_json = |taxes: &[taxes::Tax]| -> Vec<Value> { taxes.iter().map(taxes::Tax::json).collect() };
    let line_json = |i: usize| {
        let line = &lines[i];
        let reduction = |(o, off): &(usize, R)| json!({ "promotion": offers[*o].json["id"], "name": offers[*o].json["name"], "amount": json_amount(off) });
        json!({
            "sku": line.product["sku"],
            "quantity": json_decimal(&line.quantity),
            "unit_price": json_amount(&line.price),
            "gross": json_amount(&line.gross),
            "reductions": line.reductions.iter().map(reduction).collect::<Vec<Value>>(),
            "net": json_amount(&line.left),
            "taxes": taxes_json(&line_taxes[i]),
            "total": json_amount(&line_totals[i]),
        })
    };
    let fee_json = |i: usize| {
        json!({
            "promotion": fees[i].json["id"],
            "name": fees[i].json["name"],
            "amount": json_amount(&fees[i].fee),
            "taxes": taxes_json(&fee_taxes[i]),
            "total": json_amount(&fee_totals[i]),
        })
    };
    json!({
        "currency": situation.catalog["currency"],
        "at": at,
        "lines": (0..lines.len()).map(line_json).collect::<Vec<Value>>(),
        "fees": (0..fees.len()).map(fee_json).collect::<Vec<Value>>(),
        "subtotal": json_amount(&sum(lines.iter().map(|line| &line.gross))),
        "reduction": json_amount(&sum(lines.iter().flat_map(|line| &line.reductions).map(|(_, off)| off))),
        "fee": json_amount(&sum(fees.iter().map(|fee| &fee.fee))),
        "tax": json_amount(&sum(taxes.iter().flatten().map(|tax| &tax.amount))),
        "cash_rounding": json_amount(&(&total - &due)),
        "total": json_amount(&total),
        "codes": codes::codes(situation.basket, offers, lines),
    })
}
