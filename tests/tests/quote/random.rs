//! Markets, promotions and baskets drawn from a number: small ones, in which everything meets everything.

use serde_json::{Value, json};

/// What a quote is made from.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub(super) catalog: Value,
    pub(super) promotions: Value,
    pub(super) basket: Value,
    pub(super) conditions: Value,
    pub(super) at: String,
}

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

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn percentage(&mut self) -> String {
        let choices = ["0", "5", "10", "12.5", "33.333", "50", "99.9", "100"];
        self.of(&choices).to_owned()
    }

    fn money(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(10),
            1 => self.below(200),
            _ => self.below(3_000),
        }
    }
}

const SKUS: [&str; 8] = ["A", "B", "C", "D", "E", "KG", "L", "FREE"];
const CATEGORIES: [&str; 3] = ["apparel", "food", "drinks"];
const TAGS: [&str; 3] = ["summer", "new", "sale"];
const CODES: [&str; 4] = ["ONE", "TWO", "THREE", "NOBODYS"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn some(dice: &mut Dice, choices: &[&str], chances: u64) -> Vec<String> {
    choices.iter().filter(|_| dice.one_in(chances)).map(|choice| (*choice).to_owned()).collect()
}

fn matcher(dice: &mut Dice, depth: u64) -> Value {
    let mut matcher = json!({});
    if dice.one_in(2) {
        matcher["skus"] = json!(some(dice, &SKUS, 3));
    }
    if dice.one_in(3) {
        matcher["categories"] = json!(some(dice, &CATEGORIES, 2));
    }
    if dice.one_in(4) {
        matcher["tags"] = json!(some(dice, &TAGS, 2));
    }
    if depth < 2 && dice.one_in(6) {
        matcher["not"] = self::matcher(dice, depth + 1);
    }
    matcher
}

fn tax(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0 => json!([]),
        1 => json!("reduced"),
        2 => json!(["gst", "qst"]),
        3 => json!(["qst", "standard", "zero"]),
        _ => json!("standard"),
    }
}

fn catalog(dice: &mut Dice) -> Value {
    let products: Vec<Value> = SKUS
        .iter()
        .map(|sku| {
            json!({
                "sku": sku,
                "name": format!("Product {sku}"),
                "price": if *sku == "FREE" { 0 } else { 1 + dice.money() },
                "tax": tax(dice),
                "categories": some(dice, &CATEGORIES, 2),
                "tags": some(dice, &TAGS, 3),
                "unit": match *sku { "KG" => "kg", "L" => "l", _ => "piece" },
            })
        })
        .collect();
    json!({
        "currency": dice.of(&["EUR", "JPY", "BHD"]),
        "prices_include_tax": dice.one_in(2),
        "tax_rates": {
            "standard": "20", "reduced": "5.5", "zero": "0", "gst": "5", "qst": { "rate": "9.975", "on": ["gst"] }
        },
        "tax_rounding": dice.of(&["line", "total"]),
        "cash_rounding": ([1, 5, 10][dice.below(3) as usize]),
        "time_zone": dice.of(&["UTC", "Europe/Paris", "America/New_York"]),
        "products": products,
    })
}

fn simple(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0 => json!({ "percentage": dice.percentage() }),
        1 => json!({ "percentage": dice.percentage(), "max_units": 1 + dice.below(5) }),
        2 => json!({ "percentage": dice.percentage(), "max_amount": dice.money() }),
        3 => json!({ "amount": dice.money() }),
        4 => json!({ "amount": dice.money() / 4, "each": true }),
        _ => json!({ "fixed_price": dice.money() }),
    }
}

fn effect(dice: &mut Dice) -> Value {
    match dice.below(12) {
        0 => json!({ "percentage": dice.percentage(), "of": "order" }),
        1 => json!({ "percentage": dice.percentage(), "of": "order", "max_amount": dice.money() }),
        2 => json!({ "percentage": dice.percentage(), "max_units": 1 + dice.below(4), "max_amount": dice.money() }),
        3 => json!({ "amount": dice.money() / 4, "each": true, "max_units": 1 + dice.below(4) }),
        4 => json!({ "buy": 1 + dice.below(3), "get": 1 + dice.below(2), "percentage": dice.percentage() }),
        5 => json!({
            "buy": 1 + dice.below(3), "get": 1 + dice.below(2), "percentage": dice.percentage(), "get_items": matcher(dice, 1)
        }),
        6 => {
            let parts: Vec<Value> = (0..1 + dice.below(3))
                .map(|_| json!({ "items": matcher(dice, 1), "quantity": 1 + dice.below(2) }))
                .collect();
            json!({ "bundle": parts, "price": dice.money() })
        }
        7 => {
            let by_quantity = dice.one_in(2);
            let steps: Vec<Value> = (0..1 + dice.below(3))
                .map(|step| {
                    let mut effect = simple(dice);
                    match by_quantity {
                        true => effect["from_quantity"] = json!(1 + step * 2),
                        false => effect["from_subtotal"] = json!(1 + step * 1_500),
                    }
                    effect
                })
                .collect();
            json!({ "tiers": steps })
        }
        8 => match dice.below(3) {
            0 => json!({ "fee": { "percentage": dice.percentage(), "tax": tax(dice) } }),
            1 => json!({ "fee": { "amount": dice.money() / 10, "each": true, "tax": tax(dice) } }),
            _ => json!({ "fee": { "amount": dice.money() / 10 } }),
        },
        _ => simple(dice),
    }
}

fn requires(dice: &mut Dice) -> Value {
    let mut requires = json!({});
    if dice.one_in(5) {
        requires["min_subtotal"] = json!(dice.money());
    }
    if dice.one_in(5) {
        requires["min_quantity"] = json!((["1", "2.5", "4"][dice.below(3) as usize]));
    }
    if dice.one_in(6) {
        requires["items"] = matcher(dice, 1);
    }
    if dice.one_in(4) {
        requires["codes"] = json!(some(dice, &CODES[..3], 2));
    }
    if dice.one_in(8) {
        requires["conditions"] = match dice.below(3) {
            0 => json!([{ "name": "rain_mm", "at_least": "2" }]),
            1 => json!([{ "name": "queue", "at_most": 10 }, { "name": "rain_mm", "at_least": "0.5" }]),
            _ => json!([{ "name": "sky", "equals": "grey" }]),
        };
    }
    if dice.one_in(8) {
        requires["customer"] = match dice.below(3) {
            0 => json!({ "visits_at_least": dice.below(8) }),
            1 => json!({ "first_purchase": dice.one_in(2) }),
            _ => json!({ "groups": ["staff", "friends"] }),
        };
    }
    requires
}

fn promotion(dice: &mut Dice, index: u64) -> Value {
    let effect = effect(dice);
    let is_bundle = effect.get("bundle").is_some();
    let repeats = is_bundle || effect.get("buy").is_some();
    let mut promotion = json!({
        "id": format!("{}{index}", dice.of(&["X", "a", "M"])),
        "name": format!("Offer {index}"),
        "effect": effect,
        "requires": requires(dice),
        "priority": dice.below(4) as i64 - 1,
        "tax_base": dice.of(&["after", "after", "before"]),
    });
    if !is_bundle && !dice.one_in(3) {
        promotion["items"] = matcher(dice, 0);
    }
    match dice.below(6) {
        0 => promotion["stacking"] = json!("exclusive"),
        1 | 2 => {
            promotion["stacking"] = json!("best_of");
            promotion["group"] = json!(dice.of(&["g", "h"]));
        }
        _ => {}
    }
    if dice.one_in(8) {
        promotion["starts_at"] = json!(dice.of(&["2026-06-06T09:00:00+02:00", "2026-06-07T00:00:00Z"]));
    }
    if dice.one_in(8) {
        promotion["ends_at"] = json!(dice.of(&["2026-06-06T10:00:00Z", "2026-06-08T00:00:00+02:00"]));
        if promotion.get("starts_at").is_some() {
            promotion["ends_at"] = json!("2026-06-08T00:00:00Z");
        }
    }
    if dice.one_in(6) {
        let (from, to) = [("09:00", "13:00"), ("22:00", "02:00"), ("12:00", "00:00")][dice.below(3) as usize];
        promotion["hours"] = json!([{ "days": some(dice, &DAYS, 2), "from": from, "to": to }]);
    }
    let mut limits = json!({});
    if repeats && dice.one_in(3) {
        limits["per_basket"] = json!(1 + dice.below(3));
    }
    if dice.one_in(8) {
        limits["total"] = json!(dice.below(3) + 1);
    }
    if dice.one_in(8) {
        limits["per_customer"] = json!(dice.below(3) + 1);
    }
    promotion["limits"] = limits;
    promotion
}

fn basket(dice: &mut Dice) -> Value {
    let lines: Vec<Value> = (0..dice.below(7))
        .map(|_| {
            let sku = dice.of(&SKUS);
            let quantity = match sku {
                "KG" | "L" => json!((["0.333", "1.5", "2", "0.75", "0.005"][dice.below(5) as usize])),
                _ => json!(1 + dice.below(6)),
            };
            let mut line = json!({ "sku": sku, "quantity": quantity });
            if dice.one_in(8) {
                line["price"] = json!(dice.money());
            }
            line
        })
        .collect();
    let mut basket = json!({ "lines": lines, "codes": some(dice, &CODES, 2) });
    if dice.one_in(2) {
        basket["customer"] = json!({
            "visits": dice.below(9), "first_purchase": dice.one_in(2), "groups": some(dice, &["staff", "friends"], 2),
            "used": { "X0": dice.below(3), "a1": dice.below(3) }
        });
    }
    if dice.one_in(2) {
        basket["used"] = json!({ "X1": dice.below(3), "M0": dice.below(3) });
    }
    if dice.one_in(2) {
        basket["tender"] = json!(dice.of(&["cash", "card"]));
    }
    basket
}

/// Draws inputs.
pub(super) fn inputs(seed: u64) -> Inputs {
    let mut dice = Dice::new(seed);
    let catalog = catalog(&mut dice);
    let count = dice.below(7);
    let promotions: Vec<Value> = (0..count).map(|index| promotion(&mut dice, index)).collect();
    let basket = basket(&mut dice);
    let mut conditions = json!({});
    if dice.one_in(2) {
        conditions["rain_mm"] = json!((["0.4", "2", "7.5"][dice.below(3) as usize]));
    }
    if dice.one_in(2) {
        conditions["queue"] = json!((["3", "14"][dice.below(2) as usize]));
    }
    if dice.one_in(2) {
        conditions["sky"] = json!(dice.of(&["grey", "blue"]));
    }
    let at = ["2026-06-06T10:00:00+02:00", "2026-06-07T00:30:00+02:00", "2026-06-08T12:00:00Z"][dice.below(3) as usize];
    Inputs { catalog, promotions: json!(promotions), basket, conditions, at: at.to_owned() }
}
