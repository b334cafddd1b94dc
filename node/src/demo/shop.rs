//! The shop side: what a till orders, how its buyer pays, and what its vendor says when the till asks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use stallmesh_protocol::SaleId;

use super::DemoError;
use super::journal::{Journal, Line, Said, wall_ms};
use super::story::{CARD_AT_MOST, CODES};
use crate::cli::{CliError, client};
use crate::engine::{ReasonAnswer, ReasonView};

/// A till that is asked so often about one payment will be asked for ever.
const ASKED_MAX: usize = 3;

/// Numbers drawn from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    /// Another `stream` of the same seed is another sequence.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut draw = Draw(seed);
        draw.0 = draw.next() ^ stream.wrapping_mul(0xff51_afd7_ed55_8ccd);
        draw
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 where that is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Something drawn as letters: a row of digits could look like a card's number, which no node takes.
fn letters(number: u64) -> String {
    (0..16).map(|place| char::from(b'a' + (number >> (4 * place) & 15) as u8)).collect()
}

/// What a node has acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    /// Sale id.
    pub(super) sale: String,
    /// The request that was taken.
    pub(super) order: Value,
}

/// What became of an order.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// Recorded; the node's answer.
    Sold(Value),
    /// The vendor decides.
    Asked(Vec<ReasonView>),
    /// No.
    Declined(Vec<ReasonView>),
}

/// An order before it is known what it comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    order: Value,
    pays: Pays,
    tip: u64,
    token: String,
    card: String,
}

/// How a buyer pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pays {
    Cash,
    Card,
    /// Half by card, within what is taken unasked, and the rest in cash.
    Both,
}

impl Draft {
    fn paid(mut self, tenders: Value) -> Value {
        self.order["tenders"] = tenders;
        self.order
    }

    fn card_part(&self, amount: Option<u64>) -> Value {
        let mut part = json!({ "kind": "card", "token": self.token, "card": self.card, "tip": self.tip });
        if let Some(amount) = amount {
            part["amount"] = amount.into();
        }
        part
    }

    /// In one request that needs no other one before it: who would split the bill pays in cash.
    pub(super) fn at_once(self) -> Value {
        let tender = match self.pays {
            Pays::Card => self.card_part(None),
            Pays::Cash | Pays::Both => json!({ "kind": "cash" }),
        };
        self.paid(json!([tender]))
    }

    /// With a code.
    pub(super) fn with_code(mut self, code: &str) -> Self {
        self.order["codes"] = json!([code]);
        self
    }

    /// By a card that its reader has a name for.
    pub(super) fn by_card(mut self, card: &str) -> Self {
        card.clone_into(&mut self.card);
        self.pays = Pays::Card;
        self
    }

    /// Who pays in cash pays half by card in its place.
    pub(super) fn split(mut self, tip: u64) -> Self {
        (self.pays, self.tip) = (Pays::Both, tip);
        self
    }
}

/// One till: it draws orders and sends them to its node.
#[derive(Clone, Debug)]
pub(super) struct Till {
    /// Its node's number.
    pub(super) node: usize,
    /// Its node's device key.
    pub(super) device: String,
    /// Its stall.
    pub(super) stall: String,
    directory: PathBuf,
    /// Its node's name.
    pub(super) name: String,
    goods: Goods,
    draw: Draw,
    drawn: u64,
    /// What its idempotency keys begin with.
    keys: String,
}

/// What a till sells.
#[derive(Clone, Debug)]
pub(super) struct Goods {
    pub(super) stall: String,
    pub(super) products: Arc<Vec<(String, u64)>>,
    pub(super) items: Arc<BTreeMap<String, String>>,
    pub(super) baskets: Arc<Vec<Vec<String>>>,
}

impl Till {
    /// The orders depend on the seed and the keys' beginning alone.
    pub(super) fn new(node: &super::process::Node, device: &str, goods: Goods, seed: u64, keys: &str) -> Self {
        let stream = keys.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Till {
            node: node.index,
            device: device.to_owned(),
            stall: goods.stall.clone(),
            directory: node.directory.clone(),
            name: node.name.clone(),
            goods,
            draw: Draw::new(seed, stream),
            drawn: 0,
            keys: format!("{seed}-{keys}"),
        }
    }

    /// The same till at another node: a cloned disk's.
    pub(super) fn moved_to(&self, node: &super::process::Node) -> Self {
        Till { node: node.index, directory: node.directory.clone(), name: node.name.clone(), ..self.clone() }
    }

    /// What it sells, with prices.
    pub(super) fn products(&self) -> &[(String, u64)] {
        &self.goods.products
    }

    /// The dearest product that costs at most so much, else the cheapest.
    pub(super) fn product_up_to(&self, most: u64) -> Option<(String, u64)> {
        let priced = || self.products().iter().filter(|(_, price)| *price > 0);
        let dearest = priced().filter(|(_, price)| *price <= most).max_by_key(|(_, price)| *price);
        dearest.or_else(|| priced().min_by_key(|(_, price)| *price)).cloned()
    }

    fn key(&mut self) -> String {
        self.drawn += 1;
        format!("{}-{}", self.keys, self.drawn)
    }

    /// What a reader calls the card of somebody who comes once.
    fn visitor(&mut self) -> String {
        format!("visitor-{}", letters(self.draw.next()))
    }

    /// An order of one product.
    pub(super) fn order_of(&mut self, sku: &str, quantity: u64) -> Draft {
        let line = json!({ "sku": sku, "quantity": quantity.to_string() });
        let order = json!({ "idempotency_key": self.key(), "lines": [line], "operator": "Ada" });
        let (token, card) = (format!("{TOKEN}{}", letters(self.draw.next())), self.visitor());
        Draft { order, pays: Pays::Cash, tip: 0, token, card }
    }

    /// The next order, as drawn.
    pub(super) fn order(&mut self) -> Draft {
        let key = self.key();
        let lines: Vec<(String, u64)> = if self.goods.baskets.is_empty() {
            (0..=self.draw.below(3))
                .filter_map(|_| {
                    let (sku, _) = self.goods.products.get(self.draw.below(self.goods.products.len()))?;
                    Some((sku.clone(), 1 + self.draw.below(2) as u64))
                })
                .collect()
        } else {
            let basket = self.draw.below(self.goods.baskets.len());
            let basket = self.goods.baskets.get(basket).map(Vec::as_slice).unwrap_or_default();
            basket.iter().filter_map(|name| Some((self.goods.items.get(name)?.clone(), 1))).collect()
        };
        let price_of =
            |sku: &str| self.products().iter().find(|(known, _)| known == sku).map_or(0, |(_, price)| *price);
        let gross = lines.iter().map(|(sku, quantity)| price_of(sku) * quantity).sum::<u64>();
        let lines = lines.iter().map(|(sku, quantity)| json!({ "sku": sku, "quantity": quantity.to_string() }));
        let mut order = json!({ "idempotency_key": key, "lines": lines.collect::<Vec<_>>(), "operator": "Ada" });
        if self.draw.below(4) == 0 {
            order["codes"] = json!([CODES[self.draw.below(CODES.len())]]);
        }
        let pays = match self.draw.below(8) {
            0..4 => Pays::Cash,
            4..7 if gross <= CARD_AT_MOST => Pays::Card,
            _ => Pays::Both,
        };
        let tip = 50 * self.draw.below(5) as u64;
        let token = format!("{TOKEN}{}", letters(self.draw.next()));
        let card = self.visitor();
        Draft { order, pays, tip, token, card }
    }

    /// A draft as it is sent: who splits a bill has to know what it comes to.
    pub(super) async fn complete(&self, draft: Draft) -> Result<Value, CliError> {
        if draft.pays != Pays::Both {
            return Ok(draft.at_once());
        }
        let basket = json!({ "lines": draft.order["lines"], "codes": draft.order.get("codes").unwrap_or(&json!([])) });
        let quote = client::ask(&self.directory, "POST", "/v1/quote", Some(&basket)).await?;
        let total = quote["total"].as_u64().unwrap_or(0);
        let by_card = (total / 2).min(CARD_AT_MOST);
        if by_card == 0 {
            return Ok(draft.at_once());
        }
        let parts = json!([draft.card_part(Some(by_card)), { "kind": "cash", "amount": total - by_card }]);
        Ok(draft.paid(parts))
    }

    /// Draws an order and sends it.
    pub(super) async fn sell(&mut self, journal: &Journal) -> Result<Acknowledged, DemoError> {
        let draft = self.order();
        self.sell_drafted(journal, draft).await.map(|(acknowledged, _)| acknowledged)
    }

    /// Sends a draft; with the node's answer.
    pub(super) async fn sell_drafted(
        &self,
        journal: &Journal,
        draft: Draft,
    ) -> Result<(Acknowledged, Value), DemoError> {
        let order = self.complete(draft).await.map_err(|error| self.failed(&error))?;
        self.send_answered(journal, &order, false).await.map_err(|error| self.failed(&error))
    }

    /// Sends an order, and writes down what was acknowledged.
    pub(super) async fn send(&self, journal: &Journal, order: &Value, again: bool) -> Result<Acknowledged, CliError> {
        self.send_answered(journal, order, again).await.map(|(acknowledged, _)| acknowledged)
    }

    /// An ordinary sale: the vendor lets pass what is only large, and knows what is said about her own device. That a
    /// card is suspected is no ordinary sale.
    async fn send_answered(
        &self,
        journal: &Journal,
        order: &Value,
        again: bool,
    ) -> Result<(Acknowledged, Value), CliError> {
        let mut order = order.clone();
        for _ in 0..ASKED_MAX {
            let reasons = match self.attempt(journal, &order, again).await? {
                Outcome::Sold(answer) => {
                    let sale = answer["sale"].as_str().unwrap_or_default().to_owned();
                    return Ok((Acknowledged { sale, order }, answer));
                }
                Outcome::Declined(reasons) => return Err(unexpected("E_DECLINED", &reasons)),
                Outcome::Asked(reasons) => reasons,
            };
            if reasons.iter().any(|reason| reason.id.starts_with("card-")) {
                return Err(unexpected("E_ASK", &reasons));
            }
            let is_known = reasons.iter().all(|reason| reason.known_for_ms > 0);
            let answer = if is_known { Said::Known } else { Said::LetPass };
            self.answer(journal, &mut order, &reasons, answer)?;
        }
        Err(CliError::Failed("it asks again and again about one payment".into()))
    }

    /// What a vendor says, in her order and in the journal.
    pub(super) fn answer(
        &self,
        journal: &Journal,
        order: &mut Value,
        reasons: &[ReasonView],
        answer: Said,
    ) -> Result<(), CliError> {
        let field = match answer {
            Said::Known => Some("known"),
            Said::LetPass => Some("confirmed"),
            Said::No => None,
        };
        if let Some(field) = field {
            let said = order[field].as_array().into_iter().flatten().filter_map(Value::as_str);
            let said: Vec<String> = said.map(str::to_owned).chain(ids(reasons)).collect();
            order[field] = said.into();
        }
        let line = Line::Asked { reasons: ids(reasons).collect(), answer, node: self.node, at: wall_ms() };
        journal.note(&line).map_err(|error| CliError::Failed(error.to_string()))
    }

    /// Sends an order once, and writes down what was sold or declined.
    pub(super) async fn attempt(&self, journal: &Journal, order: &Value, again: bool) -> Result<Outcome, CliError> {
        let (begun, clock) = (wall_ms(), Instant::now());
        let reply = client::send(&self.directory, "POST", "/v1/sales", order.to_string().as_bytes()).await?;
        let took_ms = clock.elapsed().as_secs_f64() * 1000.0;
        let noted = |error: DemoError| CliError::Failed(error.to_string());
        let at = wall_ms();
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let reasons: Vec<ReasonView> = serde_json::from_value(answer["reasons"].clone()).unwrap_or_default();
        if answer["code"] == "E_ASK" {
            return Ok(Outcome::Asked(reasons));
        }
        if answer["code"] == "E_DECLINED" {
            let key = order["idempotency_key"].as_str().unwrap_or_default();
            let sale = SaleId::derive(&self.stall, key).to_string();
            let declined = reasons.iter().filter(|reason| reason.answer == ReasonAnswer::Decline);
            let reasons_of = declined.map(|reason| reason.id.clone()).collect();
            journal.note(&Line::Declined { sale, reasons: reasons_of, node: self.node, at }).map_err(noted)?;
            return Ok(Outcome::Declined(reasons));
        }
        let answer = client::value(reply)?;
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| answer[field].as_u64().unwrap_or(0);
        let codes = || answer["codes"].as_array().into_iter().flatten();
        let acted = codes().filter(|code| code["state"] == "applied").count();
        let tenders = || answer["tenders"].as_array().into_iter().flatten();
        let named = tenders().filter(|tender| tender["fingerprint"].as_str().is_some_and(|name| !name.is_empty()));
        let known = order["known"].as_array().map_or(0, Vec::len);
        let line = Line::Recorded {
            sale: text("sale"),
            total: number("total"),
            tip: number("tip"),
            reduction: number("reduction"),
            codes: acted as u64,
            idle_codes: (codes().count() - acted) as u64,
            parts: tenders().count() as u64,
            signals: (named.count() * (1 + known)) as u64,
            currency: text("currency"),
            node: self.node,
            device: self.device.clone(),
            begun,
            at,
            took_ms,
            again,
        };
        journal.note(&line).map_err(noted)?;
        Ok(Outcome::Sold(answer))
    }

    /// Sends an order of which the journal doesn't know.
    pub(super) async fn send_unnoted(&self, order: &Value) -> Result<Value, CliError> {
        client::ask(&self.directory, "POST", "/v1/sales", Some(order)).await
    }

    pub(super) fn failed(&self, error: &CliError) -> DemoError {
        DemoError::Failed(format!("{}: {error}", self.name))
    }
}

fn ids(reasons: &[ReasonView]) -> impl Iterator<Item = String> + '_ {
    reasons.iter().map(|reason| reason.id.clone())
}

/// The sentences of reasons, as a vendor reads them.
pub(super) fn sentences(reasons: &[ReasonView]) -> String {
    let sentences: Vec<&str> = reasons.iter().map(|reason| reason.sentence.as_str()).collect();
    sentences.join("; ")
}

fn unexpected(code: &str, reasons: &[ReasonView]) -> CliError {
    CliError::Refused {
        code: code.to_owned(),
        detail: format!("an ordinary sale was not taken: {}", sentences(reasons)),
    }
}

/// What all card tokens of the demo begin with.
pub(super) const TOKEN: &str = "tok_demo_";

/// All sales of a node, page by page: (sale id, state).
pub(super) async fn list_sales(directory: &Path) -> Result<Vec<(String, String)>, DemoError> {
    let mut sales: Vec<(String, String)> = Vec::new();
    loop {
        let before = sales.last().map(|(sale, _)| format!("&before={sale}")).unwrap_or_default();
        let page = client::ask(directory, "GET", &format!("/v1/sales?limit=1000{before}"), None)
            .await
            .map_err(DemoError::failed)?;
        let page = page.as_array().cloned().unwrap_or_default();
        if page.is_empty() {
            return Ok(sales);
        }
        let text = |sale: &Value, field: &str| sale[field].as_str().unwrap_or_default().to_owned();
        sales.extend(page.iter().map(|sale| (text(sale, "sale"), text(sale, "state"))));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;
    use crate::card_data::looks_like_card;

    fn till(seed: u64, keys: &str) -> Till {
        let products = (0..40).map(|number| (format!("SKU-{number}"), 100 + number)).collect();
        let names: Vec<String> = (0..40).map(|number| format!("item {number}")).collect();
        let items = names.iter().enumerate().map(|(number, name)| (name.clone(), format!("SKU-{number}"))).collect();
        let goods = Goods {
            stall: "mugs".into(),
            products: Arc::new(products),
            items: Arc::new(items),
            baskets: Arc::new(names.into_iter().map(|name| vec![name]).collect()),
        };
        let node = super::super::process::Node::new(2, "stall-1", PathBuf::from("nowhere"), Vec::new());
        Till::new(&node, "aa", goods, seed, keys)
    }

    #[test]
    fn the_same_seed_draws_the_same_orders_and_all_baskets_are_drawn_from() {
        let orders = |seed, keys| {
            let mut till = till(seed, keys);
            (0..2000).map(|_| till.order().at_once()).collect::<Vec<_>>()
        };
        let first = orders(7, "stall-1");
        assert_eq!(first, orders(7, "stall-1"));
        assert_ne!(first, orders(8, "stall-1"));
        assert_ne!(first, orders(7, "stall-2"));
        let drawn: BTreeSet<String> = first.iter().map(|order| order["lines"][0]["sku"].to_string()).collect();
        assert_eq!(drawn.len(), 40);
        let keys: BTreeSet<String> = first.iter().map(|order| order["idempotency_key"].to_string()).collect();
        assert_eq!(keys.len(), 2000);
    }

    #[test]
    fn buyers_pay_in_all_ways_and_give_codes_and_no_token_looks_like_a_card() {
        let mut till = till(7, "stall-1");
        let drafts: Vec<Draft> = (0..2000).map(|_| till.order()).collect();
        for pays in [Pays::Cash, Pays::Card, Pays::Both] {
            assert!(drafts.iter().filter(|draft| draft.pays == pays).count() > 100, "{pays:?}");
        }
        for code in CODES {
            assert!(drafts.iter().any(|draft| draft.order["codes"][0] == code), "{code}");
        }
        assert!(drafts.iter().any(|draft| draft.tip > 0));
        assert!(drafts.iter().all(|draft| !looks_like_card(&draft.token) && !looks_like_card(&draft.card)));
    }
}
