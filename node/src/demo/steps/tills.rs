//! What happens at tills beside ordinary sales: codes, a split bill, a regular whom her vendor knows, and a stolen card.

use std::time::Instant;

use serde_json::{Value, json};

use super::super::DemoError;
use super::super::journal::{Line, Said, wall_ms};
use super::super::market::{FIRST_STALL, HUB, Market};
use super::super::shop::{Outcome, Till, sentences};
use super::super::story::{ACTING_CODE, CARD_AT_MOST, CODES};
use crate::engine::{ReasonAnswer, ReasonView};

/// What a regular buys at most, in minor units.
const SMALL: u64 = 1500;
/// What the buyer of a split bill gives beside it.
const TIP: u64 = 150;
/// A card that nobody asks about after so many payments isn't looked at.
const PAYMENTS_MAX: usize = 12;
/// What a reader calls the stolen card.
const STOLEN: &str = "stolen-card";

/// What an alarm was.
struct Alarm {
    till: Till,
    order: Value,
    reasons: Vec<ReasonView>,
}

impl Market {
    /// Somebody gives each of the codes, and somebody splits a bill; then what all sales so far came to.
    pub(super) async fn codes_and_split_bills(&mut self) -> Result<(), DemoError> {
        let journal = self.journal.clone();
        let till = self.till_mut(FIRST_STALL)?;
        let (sku, price) = till.product_up_to(CARD_AT_MOST).unwrap_or_default();
        let mut told = Vec::new();
        for code in CODES {
            // As many as the code asks for.
            let draft = till.order_of(&sku, 500_u64.div_ceil(price.max(1)).max(1)).with_code(code);
            let (_, answer) = till.sell_drafted(&journal, draft).await?;
            let code = &answer["codes"][0];
            told.push((code["state"].clone(), code["why"].as_str().unwrap_or_default().to_owned()));
        }
        let states: Vec<&Value> = told.iter().map(|(state, _)| state).collect();
        if states != ["applied", "expired", "unknown"] {
            return Err(DemoError::Failed(format!("codes came to {states:?}")));
        }
        let draft = till.order_of(&sku, 2).split(TIP);
        let (_, answer) = till.sell_drafted(&journal, draft).await?;
        let (name, parts) = (till.stall.clone(), &answer["tenders"]);
        if parts.as_array().map_or(0, Vec::len) != 2 || answer["tip"] != TIP {
            return Err(DemoError::Failed(format!("a bill wasn't split: {parts}")));
        }
        let tally = journal.tally();
        self.say(format!(
            "Promotions took {} EUR off {} of these sales. The code {ACTING_CODE} acted in {}, and in {} a code didn't, and the till said why: \"{}\", \"{}\".",
            amount(tally.reduction), tally.reduced, tally.codes, tally.idle_codes, told[1].1, told[2].1
        ));
        self.say(format!(
            "Bills split between card and cash: {}, one of them at {name}: {} by card, {} in cash; buyers gave {} EUR of tips.",
            tally.split,
            amount(parts[0]["amount"].as_u64().unwrap_or(0)),
            amount(parts[1]["amount"].as_u64().unwrap_or(0)),
            amount(tally.tips)
        ));
        Ok(())
    }

    /// A regular pays again and again: her vendor is asked, knows her, and is asked no more.
    pub(super) async fn regular(&mut self) -> Result<(), DemoError> {
        let journal = self.journal.clone();
        let mut paid = 0;
        let alarm = loop {
            match self.pay_small(FIRST_STALL, SMALL, "regular").await? {
                (_, _, Outcome::Sold(_)) => paid += 1,
                (till, order, Outcome::Asked(reasons)) => break Alarm { till, order, reasons },
                (till, _, Outcome::Declined(reasons)) => return Err(surprise(&till, &reasons)),
            }
            if paid > PAYMENTS_MAX {
                return Err(DemoError::Failed("nobody was asked about a card that pays again and again".into()));
            }
        };
        let Alarm { till, mut order, reasons } = alarm;
        let failed = |error| till.failed(&error);
        till.answer(&journal, &mut order, &reasons, Said::Known).map_err(failed)?;
        let answered = till.attempt(&journal, &order, false).await.map_err(failed)?;
        let (_, _, next) = self.pay_small(FIRST_STALL, SMALL, "regular").await?;
        if !matches!((answered, next), (Outcome::Sold(_), Outcome::Sold(_))) {
            return Err(DemoError::Failed("an alarm that was answered with \"known\" wasn't let pass".into()));
        }
        self.say(format!(
            "A regular paid {paid} times at {} by the same card. At the next time the till asked: \"{}\". Her vendor said \"known\", and wasn't asked again.",
            till.stall,
            sentences(&reasons)
        ));
        Ok(())
    }

    /// A stolen card goes from stall to stall; tills have heard of each other's payments when one asks, without any hub.
    pub(super) async fn stolen_card(&mut self) -> Result<(), DemoError> {
        let journal = self.journal.clone();
        let begun = Instant::now();
        let stalls: Vec<usize> = self.stalls().collect();
        let (mut paid, mut fingerprint) = (Vec::new(), String::new());
        // The last stall first: there is one left that it hasn't been at when it is blocked.
        let alarm = loop {
            let index = stalls[stalls.len() - 1 - paid.len() % stalls.len()];
            match self.pay_small(index, CARD_AT_MOST, STOLEN).await? {
                (till, _, Outcome::Sold(answer)) => {
                    let tender = &answer["tenders"][0];
                    fingerprint = tender["fingerprint"].as_str().unwrap_or_default().to_owned();
                    paid.push(till.stall);
                    self.signals_reach(&[index].into(), &self.in_the_market()).await?;
                }
                (till, order, Outcome::Asked(reasons)) => break Alarm { till, order, reasons },
                (till, _, Outcome::Declined(reasons)) => return Err(surprise(&till, &reasons)),
            }
            if paid.len() > PAYMENTS_MAX {
                return Err(DemoError::Failed("nobody was asked about a card that pays at stall after stall".into()));
            }
        };
        let Alarm { till, mut order, reasons } = alarm;
        till.answer(&journal, &mut order, &reasons, Said::No).map_err(|error| till.failed(&error))?;
        self.say(format!(
            "A stolen card paid at {} within {} ms. No hub heard of it, but {} did, and its till asked: \"{}\". Its vendor said no.",
            paid.join(", then at "),
            begun.elapsed().as_millis(),
            till.stall,
            sentences(&reasons)
        ));
        self.stolen = fingerprint;
        Ok(())
    }

    /// The hub hears what the tills have said, the organiser blocks the card, and a stall declines it.
    pub(super) async fn blocked_card(&mut self) -> Result<(), DemoError> {
        let everybody = self.in_the_market();
        self.signals_reach(&everybody, &[HUB].into()).await?;
        let card = self.stolen.clone();
        let begun = Instant::now();
        let order = json!({ "fingerprint": card, "blocked": true });
        self.nodes[HUB].send("PUT", "/v1/cards/blocked", &order).await?;
        self.journal.note(&Line::Blocked { card, at: wall_ms() })?;
        self.signals_reach(&[HUB].into(), &everybody).await?;
        let took = begun.elapsed().as_millis();
        let before = self.journal.tally().declined;
        let mut words = String::new();
        for index in self.stalls() {
            let (till, _, outcome) = self.pay_small(index, SMALL, STOLEN).await?;
            let Outcome::Declined(reasons) = outcome else {
                return Err(DemoError::Failed(format!("{}: a blocked card wasn't declined", till.name)));
            };
            let declined = reasons.iter().filter(|reason| reason.answer == ReasonAnswer::Decline);
            words = sentences(&declined.cloned().collect::<Vec<_>>());
        }
        self.say(format!(
            "The organiser blocked the stolen card, and {took} ms later every stall knew it. It was tried at all of them: {} times declined, \"{words}\".",
            self.journal.tally().declined - before
        ));
        Ok(())
    }

    /// Somebody buys one thing that costs at most so much, by a card that its reader has a name for.
    async fn pay_small(&mut self, index: usize, most: u64, card: &str) -> Result<(Till, Value, Outcome), DemoError> {
        let journal = self.journal.clone();
        let till = self.till_mut(index)?;
        let (sku, _) = till.product_up_to(most).unwrap_or_default();
        let order = till.order_of(&sku, 1).by_card(card).at_once();
        let outcome = till.attempt(&journal, &order, false).await.map_err(|error| till.failed(&error))?;
        Ok((till.clone(), order, outcome))
    }

    fn till_mut(&mut self, index: usize) -> Result<&mut Till, DemoError> {
        self.tills.get_mut(&index).ok_or_else(|| DemoError::Failed(format!("node {index} has no till")))
    }
}

fn surprise(till: &Till, reasons: &[ReasonView]) -> DemoError {
    DemoError::Failed(format!("{}: a payment was declined too early: {}", till.name, sentences(reasons)))
}

/// Minor units as people write them.
pub(super) fn amount(minor: u64) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}
