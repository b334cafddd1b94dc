//! Cards that pay on a day, what tills say to them, and what must hold of that.

use std::collections::BTreeSet;

use serde_json::Value;
use stallmesh_node::engine::{
    Answer, BlockOrder, Failure, FailureCode, OrderTender, Request, SaleOrder, SaleState, SaleView, SignalView,
    TenderKind,
};

use super::invariants::{Broken, Invariant};
use super::{Day, Rare};

/// So many other stalls have to block a card before it is declined, by the rules that a hub begins with.
const BLOCKING_STALLS: usize = 3;

/// What the reader calls one of the day's cards.
pub(super) fn card(number: u64) -> String {
    format!("card-{number}")
}

/// A payment by one of the day's cards.
pub(super) fn by_card(number: u64) -> OrderTender {
    let (token, card) = (format!("tok_{number}"), card(number));
    OrderTender { kind: TenderKind::Card, token, card, ..OrderTender::default() }
}

fn is_block(signal: &SignalView) -> Option<bool> {
    signal.fact.get("block")?.get("is_on").and_then(Value::as_bool)
}

impl Day {
    /// The organiser blocks a card that somebody has seen, or lets it go.
    pub(super) fn block(&mut self, number: u64, blocked: bool) {
        let Some(fingerprint) = self.truth.cards.get(&card(number)).cloned() else { return };
        let order = BlockOrder { fingerprint: fingerprint.clone(), blocked };
        if self.runs(0) && self.simulation.ask(0, Request::BlockCard(order)) == Answer::Done && blocked {
            self.truth.blocked.insert(fingerprint);
        }
    }

    fn signals_at(&mut self, device: usize) -> Vec<SignalView> {
        match self.simulation.ask(device, Request::Signals { limit: usize::MAX }) {
            Answer::Signals(signals) => signals,
            _ => Vec::new(),
        }
    }

    /// What a till knows of a card before it is asked to take it.
    pub(super) fn known_blocks(&mut self, device: usize, order: &SaleOrder) -> Vec<SignalView> {
        let card = order.tenders.first().map(|tender| tender.card.as_str()).filter(|card| !card.is_empty());
        let Some(fingerprint) = card.and_then(|card| self.truth.cards.get(card)).cloned() else { return Vec::new() };
        let signals = self.signals_at(device);
        signals.into_iter().filter(|signal| signal.subject == fingerprint && is_block(signal).is_some()).collect()
    }

    /// I16: what the market blocks isn't taken, and nobody else blocks anything at others' tills alone.
    pub(super) fn i16_blocks_are_the_markets(
        &mut self,
        device: usize,
        known: &[SignalView],
        asked_at: u64,
        answer: &Answer,
    ) -> Result<(), Broken> {
        let broken = |what: &str| Err(Broken::new(Invariant::Judged, format!("node {device}: {what}: {known:?}")));
        let mut by_market: Vec<&SignalView> = known.iter().filter(|signal| signal.voice == "market").collect();
        by_market.sort_by_key(|signal| signal.at);
        if by_market
            .iter()
            .any(|signal| is_block(signal) == Some(true) && !self.truth.blocked.contains(&signal.subject))
        {
            return broken("takes somebody's word for the market's");
        }
        // Two words of one moment: either may count.
        let newest = by_market.last().map(|last| last.at);
        let newest: BTreeSet<Option<bool>> =
            by_market.iter().filter(|signal| Some(signal.at) == newest).map(|signal| is_block(signal)).collect();
        let is_blocked = newest == BTreeSet::from([Some(true)]);
        match answer {
            // One that had been recorded before is the same sale again.
            Answer::Sale(sale) if is_blocked && paid_by_card(sale) && sale.recorded_at >= asked_at => {
                broken("took a card that the market blocks")
            }
            Answer::Failed(failure) if names(failure, "card-blocked") => {
                self.reached.insert(Rare::CardBlocked);
                let stalls: BTreeSet<&str> = known
                    .iter()
                    .filter(|signal| signal.voice == "stall" && is_block(signal) == Some(true))
                    .map(|signal| signal.stall.as_str())
                    .collect();
                if newest.contains(&Some(true)) || stalls.len() >= BLOCKING_STALLS {
                    return Ok(());
                }
                broken("declined a card that nobody may block")
            }
            _ => Ok(()),
        }
    }

    /// What people do whom a till asks, or who is told that a card isn't taken. `None`: nothing.
    pub(super) fn insist(&mut self, order: &SaleOrder, failure: &Failure) -> Option<SaleOrder> {
        let mut order = order.clone();
        match failure.code {
            FailureCode::EAsk if failure.reasons.iter().any(|reason| !order.confirmed.contains(&reason.id)) => {
                self.reached.insert(Rare::AskedAbout);
                order.confirmed.extend(failure.reasons.iter().map(|reason| reason.id.clone()));
            }
            FailureCode::EDeclined => order.tenders = vec![OrderTender::default()],
            _ => return None,
        }
        Some(order)
    }

    pub(super) fn note_card(&mut self, order: &SaleOrder, sale: &SaleView) {
        let (Some(ordered), Some(taken)) = (order.tenders.first(), sale.tenders.first()) else { return };
        if !ordered.card.is_empty() && !taken.fingerprint.is_empty() {
            self.truth.cards.insert(ordered.card.clone(), taken.fingerprint.clone());
        }
    }

    /// I17: what waits to be captured is what was taken by card without the hub, and isn't settled.
    pub(super) fn i17_what_waits_was_taken(&mut self, device: usize) -> Result<(), Broken> {
        // What a fork puts in suspense again may have been settled before.
        if !self.runs(device) || !self.truth.is_honest(device) || self.simulation.status(device).role != "stall" {
            return Ok(());
        }
        let waits = self.simulation.status(device).uncaptured;
        let Answer::Sales(sales) = self.simulation.ask(device, Request::Sales { limit: usize::MAX, before: None })
        else {
            return Ok(());
        };
        let open = sales.iter().filter(|sale| sale.state != SaleState::Settled && paid_by_card(sale));
        let (count, sum) = open.fold((0, 0), |(count, sum), sale| (count + 1, sum + sale.total));
        // Where the bank was asked, what waits is what it had no word on: some of them, or one that isn't recorded yet.
        if self.is_online() {
            return Ok(());
        }
        if (waits.payments, waits.sum) != (count, sum) {
            let what = format!("node {device}: {count} payments of {sum} wait, it says {waits:?}");
            return Err(Broken::new(Invariant::Judged, what));
        }
        Ok(())
    }
}

fn paid_by_card(sale: &SaleView) -> bool {
    sale.tenders.iter().any(|tender| tender.kind == TenderKind::Card)
}

fn names(failure: &Failure, rule: &str) -> bool {
    failure.reasons.iter().any(|reason| reason.id == rule)
}
