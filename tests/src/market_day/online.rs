//! Days on which tills ask the hub about cards, and what must hold of what the bank holds at their end.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_node::engine::{Answer, Request, RequestId, RulesOrder, SaleOrder, TenderKind};
use stallmesh_node::risk::files::{Bearer, LimitsFile, PolicyFile};
use stallmesh_protocol::SaleId;

use super::invariants::{Broken, Invariant};
use super::{Day, Rare};

/// Of so many days one is on line.
const ONE_OF: u64 = 3;
/// How long tills wait.
const WITHIN_MS: u64 = 3_000;
/// Longer than a part is held for a caller who may come back.
const HELD_MS: u64 = 6 * 60_000;
/// So long no sale waits.
const ANSWERED_MS: u64 = 60_000;
/// The bank is away for one in so many minutes.
const AWAY_ONE_OF: u64 = 4;

/// A sale that was asked for and isn't answered.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    device: usize,
    id: RequestId,
    order: SaleOrder,
    since: u64,
    /// Of which run of its process.
    run: [u8; 32],
}

impl Day {
    pub(super) fn is_online(&self) -> bool {
        self.plan.seed.is_multiple_of(ONE_OF)
    }

    /// The organiser's hub has a gateway, and its tills are to ask it.
    pub(super) fn go_online(&mut self) {
        if !self.is_online() {
            return;
        }
        self.simulation.kill(0);
        self.simulation.nodes[0].settings.gateway = true;
        self.simulation.start(0);
        self.simulation.gateway.delay_ms = 20 + self.plan.seed % 1_500;
        let risk = PolicyFile {
            limits: LimitsFile::default(),
            borne_by: Bearer::Market,
            asked_borne_by: None,
            authorise_within_ms: WITHIN_MS,
        };
        let rules = RulesOrder { risk: Some(risk), ..RulesOrder::default() };
        let answer = self.simulation.ask(0, Request::SetCheckoutRules(rules));
        assert_eq!(answer, Answer::Done, "a new market's hub sets its rules");
    }

    pub(super) fn bank_comes_and_goes(&mut self) {
        let is_away = (self.simulation.now / 60_000).is_multiple_of(AWAY_ONE_OF);
        self.simulation.gateway.is_unavailable = self.is_online() && is_away;
    }

    /// Asks for a sale. `None`: it waits, and is heard of later.
    pub(super) fn ask_or_wait(&mut self, device: usize, order: &SaleOrder) -> Option<Answer> {
        let request = Request::RecordSale(order.clone());
        if !self.is_online() || !self.runs(device) {
            return Some(self.simulation.ask(device, request));
        }
        let id = self.simulation.begin(device, request);
        let answer = self.simulation.answered(id);
        if answer.is_none() && self.runs(device) {
            self.reached.insert(Rare::AskedTheBank);
            let (since, run) = (self.simulation.now, self.simulation.nodes[device].last_seed);
            self.waiting.push(Waiting { device, id, order: order.clone(), since, run });
            return None;
        }
        answer.or_else(|| Some(self.simulation.ask(device, Request::Sale(SaleId::default()))))
    }

    pub(super) fn waits(&self, device: usize) -> bool {
        self.waiting.iter().any(|waiting| waiting.device == device)
    }

    /// Hears what was answered meanwhile.
    pub(super) fn hear_answers(&mut self) -> Result<(), Broken> {
        for waiting in std::mem::take(&mut self.waiting) {
            match self.simulation.answered(waiting.id) {
                Some(answer) => self.heard(waiting.device, waiting.order, false, answer)?,
                // Whoever asked it is gone with the process.
                None if self.simulation.nodes[waiting.device].last_seed != waiting.run => {}
                None if self.simulation.nodes[waiting.device].engine.is_none() => {}
                None if self.simulation.is_paused(waiting.device) => self.waiting.push(waiting),
                None if self.simulation.now > waiting.since + ANSWERED_MS => {
                    let what = format!("node {}: a sale waits for ever: {waiting:?}", waiting.device);
                    return Err(Broken::new(Invariant::KeepsSelling, what));
                }
                None => self.waiting.push(waiting),
            }
        }
        Ok(())
    }

    /// I19: at a day's end the bank holds what was sold, and nothing else; each payment was asked for under one name.
    pub(super) fn i19_nobody_is_charged_for_nothing(&mut self) -> Result<(), Broken> {
        if !self.is_online() {
            return Ok(());
        }
        self.simulation.gateway.is_unavailable = false;
        self.pass_until(self.simulation.now + HELD_MS)?;
        // Of a stall that lost a device, or whose word isn't heard any more, something may be held for ever.
        let mut plain: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut odd: BTreeSet<String> = BTreeSet::new();
        for (device, state) in self.truth.devices.iter().enumerate().filter(|(_, state)| !state.stall.is_empty()) {
            let is_plain = self.truth.is_honest(device)
                && !(state.gone || state.revoked || state.copied || state.clock_was_off || state.lost_before > 0)
                && state.owner.is_none()
                && self.runs(device);
            if is_plain {
                plain.entry(state.stall.clone()).or_default().push(device);
            } else {
                odd.insert(state.stall.clone());
            }
        }
        let held: Vec<(String, u64)> =
            self.simulation.gateway.held().into_iter().map(|(name, held)| (name.to_owned(), held)).collect();
        let broken = |what: String| Err(Broken::new(Invariant::Charged, what));
        for (name, held) in held {
            let mut words = name.split('/');
            let (stall, payment) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if odd.contains(stall) {
                continue;
            }
            let sale: Option<SaleId> = payment.split('-').next().and_then(|sale| sale.parse().ok());
            let Some(sale) = sale.filter(|_| words.next().is_none()) else {
                return broken(format!("the bank was asked for `{name}`, which names no payment"));
            };
            let mut sold = None;
            for device in plain.get(stall).cloned().unwrap_or_default() {
                if let Answer::Sale(view) = self.simulation.ask(device, Request::Sale(sale)) {
                    sold = Some(view);
                }
            }
            let is_paid = sold.as_ref().is_some_and(|sale| {
                let by_card = sale.tenders.iter().filter(|tender| tender.kind != TenderKind::Cash);
                by_card.map(|tender| tender.amount + tender.tip).any(|amount| amount == held)
            });
            if !is_paid {
                return broken(format!("the bank holds {held} for `{name}`; sold: {sold:?}"));
            }
        }
        Ok(())
    }
}
