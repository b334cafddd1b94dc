//! What the organiser and the stalls publish: promotions, and by what card payments are judged.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::DemoError;
use super::market::{FIRST_STALL, GATEWAY, HUB, Market, until};

const MARKET_PROMOTIONS: &str = include_str!("../../../configs/demo/market-promotions.json");
/// Stalls take turns with these.
const STALL_PROMOTIONS: &str = include_str!("../../../configs/demo/stall-promotions.json");
const SMALL_MARKET_RULES: &str = include_str!("../../../configs/demo/small-market-rules.json");
const CARD_LIMITS: &str = include_str!("../../../configs/demo/card-limits.json");

/// Codes that buyers give: one that some stalls have, one that was good until last year, one that nobody has.
pub(super) const CODES: [&str; 3] = [ACTING_CODE, "SPRING", "NOSUCHCODE"];
/// Acts at the first stall.
pub(super) const ACTING_CODE: &str = "FRIEND";
/// The most that a buyer pays by card at once, in minor units: below what the organiser's limits ask about.
pub(super) const CARD_AT_MOST: u64 = 4000;
/// In a market of so many stalls the default rules can see that a card is at too many.
const LARGE_MARKET: usize = 4;
/// For products up to this price the limits hold as they are.
const LIMITS_FIT: u64 = 2000;

fn read(text: &str) -> Result<Value, DemoError> {
    serde_json::from_str(text).map_err(DemoError::failed)
}

impl Market {
    /// The organiser publishes the rules that a hub begins with, and limits for cards without two of the default ones:
    /// what a stall has waiting counts days here that are pressed into seconds.
    pub(super) async fn publish_rules(&self) -> Result<(), DemoError> {
        let mut fraud = read(crate::fraud::DEFAULT_RULES)?;
        if usize::from(self.arguments.stalls) < LARGE_MARKET
            && let (Some(rules), Value::Array(more)) = (fraud["rules"].as_array_mut(), read(SMALL_MARKET_RULES)?)
        {
            rules.extend(more);
        }
        // Somebody's own product files may have dearer things: what is usual there is more.
        let cheapest = self.input.stalls.iter().filter_map(|stall| stall.products.iter().map(|it| it.price).min());
        let factor = cheapest.max().unwrap_or(0).div_ceil(LIMITS_FIT).max(1);
        let mut risk = read(CARD_LIMITS)?;
        for limit in ["payment", "card_sum"] {
            for step in ["ask_above", "decline_above"] {
                let amount = &mut risk["limits"][limit][step];
                *amount = amount.as_u64().unwrap_or(0).saturating_mul(factor).into();
            }
        }
        let rules = json!({ "fraud": fraud, "risk": risk });
        self.nodes[HUB].send("PUT", "/v1/checkout-rules", &rules).await.map(|_| ())
    }

    /// The hub gives the market's promotion, and stalls their own; until each stall knows what is given at it.
    pub(super) async fn publish_promotions(&mut self) -> Result<(), DemoError> {
        let give = |promotions: &Value| json!({ "give": promotions });
        let (of_market, of_stalls) = (read(MARKET_PROMOTIONS)?, read(STALL_PROMOTIONS)?);
        self.nodes[HUB].send("PUT", "/v1/promotions", &give(&of_market)).await?;
        let sets = of_stalls.as_array().map(Vec::as_slice).unwrap_or_default();
        let (mut stalls, mut with_code) = (0, 0);
        for index in self.stalls() {
            let own = &sets[(index - FIRST_STALL) % sets.len().max(1)];
            let count = own.as_array().map_or(0, Vec::len);
            if count > 0 {
                self.nodes[index].send("PUT", "/v1/promotions", &give(own)).await?;
                stalls += 1;
                with_code += usize::from(own.to_string().contains("codes"));
            }
            let (node, wanted) = (&self.nodes[index], of_market.as_array().map_or(0, Vec::len) + count);
            let path = format!("/v1/promotions?stall={}", self.slug(index));
            until(&format!("{} knows its promotions", node.name), async || {
                Ok(node.get(&path).await?.as_array().map_or(0, Vec::len) >= wanted)
            })
            .await?;
        }
        self.say(format!(
            "The organiser gives 5 % off from 20.00 EUR on, and bears half of it; {stalls} stalls give something of their own, {with_code} of them for a code."
        ));
        Ok(())
    }

    /// Waits until some nodes have all fraud signals that others have written.
    pub(super) async fn signals_reach(&self, from: &BTreeSet<usize>, to: &BTreeSet<usize>) -> Result<(), DemoError> {
        let mut written = BTreeMap::new();
        for index in from {
            let status = self.nodes[*index].status().await?;
            let own = |(log, _): &(Log, u64)| status["device"] == log.0.as_str();
            written.extend(signal_heads(&status).into_iter().filter(own));
        }
        for index in to {
            let node = &self.nodes[*index];
            until(&format!("{} hears what other tills say", node.name), async || {
                let held = signal_heads(&node.status().await?);
                Ok(written.iter().all(|(log, sequence)| held.get(log).is_some_and(|held| held >= sequence)))
            })
            .await?;
        }
        Ok(())
    }

    /// The gateway, and stalls that run.
    pub(super) fn in_the_market(&self) -> BTreeSet<usize> {
        (GATEWAY..self.nodes.len()).filter(|index| self.nodes[*index].runs()).collect()
    }
}

/// Author and incarnation.
type Log = (String, String);

/// How much a node has of each log of fraud signals.
fn signal_heads(status: &Value) -> BTreeMap<Log, u64> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let heads = status["heads"].as_array().into_iter().flatten().filter(|head| head["lane"] == "signal");
    let heads = heads.map(|head| {
        let log = (text(&head["author"]), text(&head["incarnation"]));
        (log, head["sequence"].as_u64().unwrap_or(0))
    });
    heads.collect()
}
