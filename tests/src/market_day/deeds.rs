//! What people do on a market day.

use std::collections::BTreeSet;

use serde_json::json;
use stallmesh_node::engine::{
    Answer, DelegateOrder, FailureCode, OrderTender, PolicyView, Request, SaleOrder, SaleView, SettlementView,
    StockChange, StockCount, StockOrder,
};
use stallmesh_node::quote::files::{LineFile, Number};
use stallmesh_node::store::{Direction, Store, Table};
use stallmesh_protocol::hash::{Domain, hash};
use stallmesh_protocol::{DeviceId, Incarnation, Lane, LogName};

use super::cards::by_card;
use super::invariants::{Broken, Invariant};
use super::plan::{CARDS, Deed};
use super::truth::{Line, Sold};
use super::{Day, Later, Rare};
use crate::simulation::{Key, entry_key, market_order};

/// So many of its last sales somebody asks for again after a crash.
const ASKED_AGAIN: usize = 3;

impl Day {
    pub(super) fn carry_out(&mut self, deed: &Deed) -> Result<(), Broken> {
        match deed {
            Deed::Join { device, stall } => self.join(*device, stall),
            Deed::Delegate { owner, helper, valid_ms, publishes } => {
                self.delegate(*owner, *helper, *valid_ms, *publishes);
            }
            Deed::Sell { device, quantity, again } => return self.sell(*device, *quantity, *again),
            Deed::Publish { device, cents } => {
                if self.runs(*device) && self.simulation.status(*device).role == "stall" {
                    // Without room on its disk, or once its certificate has ended, it is told so.
                    self.simulation.try_publish_at(*device, *cents);
                }
            }
            Deed::Stock { device, pieces, came } => self.count_stock(*device, *pieces, *came),
            Deed::SetFee { percent } => {
                let policy = PolicyView { fee_rate: percent.to_string(), ..market_order().policy };
                self.simulation.ask(0, Request::SetPolicy(policy));
            }
            Deed::Block { card, blocked } => self.block(*card, *blocked),
            Deed::Promote { device, percent, borne } => self.promote(*device, *percent, *borne),
            Deed::Revoke { device } => self.revoke(*device),
            Deed::Raise { device } => self.raise(*device),
            Deed::Rotate => self.rotate(),
            Deed::Settle => return self.settle().map(|_| ()),
        }
        Ok(())
    }

    /// Before its first count, or when its certificate has ended, a stall is told that it can't.
    fn count_stock(&mut self, device: usize, pieces: u64, came: bool) {
        let (sku, pieces) = ("P2".to_owned(), Number(pieces.into()));
        let order = match came {
            false => StockOrder { counts: vec![StockCount { sku, count: Some(pieces) }], ..StockOrder::default() },
            true => StockOrder { changes: vec![StockChange { sku, change: pieces }], ..StockOrder::default() },
        };
        if self.runs(device) && self.simulation.status(device).role == "stall" {
            self.simulation.ask(device, Request::SetStock(order));
        }
    }

    /// Whether a node answers.
    pub(super) fn runs(&self, device: usize) -> bool {
        self.simulation.nodes[device].engine.is_some() && !self.simulation.is_paused(device)
    }

    /// As the hub's program does it: the secret is kept before anybody seals to it.
    fn rotate(&mut self) {
        if self.runs(0) {
            let secret = *hash(Domain::Blob, &self.dice.roll().to_be_bytes()).as_bytes();
            self.simulation.nodes[0].identity.opening_secrets.push(secret);
            if self.simulation.ask(0, Request::RotateOpeningKey { secret, file: String::new() })
                == Answer::OpeningKey(String::new())
            {
                self.reached.insert(Rare::KeyRotated);
            }
        }
    }

    /// Who may not, or has no room for it, is told so.
    fn promote(&mut self, device: usize, percent: u64, borne: u64) {
        if !self.runs(device) {
            return;
        }
        let (giver, id) = match device {
            0 => (String::new(), "MARKET"),
            _ => (self.truth.devices[device].stall.clone(), "OWN"),
        };
        let order = match percent {
            0 => json!({ "withdraw": [id] }),
            _ => json!({ "give": [{
                "id": id, "name": id, "effect": { "percentage": percent.to_string() },
                "borne_by_market": (device == 0).then(|| borne.to_string()),
            }] }),
        };
        let Ok(order) = serde_json::from_value(order) else { return };
        self.truth.promotions.entry((giver, id.to_owned())).or_default().insert((percent, borne));
        if self.simulation.ask(device, Request::PublishPromotions(order)) == Answer::Done {
            self.reached.insert(Rare::Promotion);
        }
    }

    fn join(&mut self, device: usize, stall: &str) {
        // The organiser prints it at the hub; who has no hub to ask comes back later.
        let Answer::Invite(invite) = self.simulation.invite_text(stall) else { return };
        let state = &mut self.truth.devices[device];
        (state.wanted, state.stall, state.invite) = (true, stall.to_owned(), Some(invite.clone()));
        if self.simulation.nodes[device].engine.is_none() {
            self.simulation.start(device);
        }
        self.simulation.ask(device, Request::Join { invite, name: String::new() });
        if device == 1 {
            self.simulation.uplink(1, true);
        }
    }

    fn delegate(&mut self, owner: usize, helper: usize, valid_ms: u64, publishes: bool) {
        if !self.runs(owner) || self.simulation.status(owner).role != "stall" {
            return;
        }
        let Answer::Invite(market) = self.simulation.invite_text("") else { return };
        let stall = self.truth.devices[owner].stall.clone();
        let state = &mut self.truth.devices[helper];
        (state.wanted, state.stall, state.owner) = (true, stall.clone(), Some(owner));
        self.simulation.start(helper);
        self.simulation.ask(helper, Request::AskToJoin { market, name: "helper".into(), stall });
        let order = DelegateOrder {
            device: self.simulation.nodes[helper].id(),
            seal_key: self.simulation.status(helper).seal_key,
            name: format!("helper {helper}"),
            scopes: ["sell", "relay", "signal", "publish-catalog", "read-sales"][..if publishes { 5 } else { 3 }]
                .iter()
                .map(|scope| (*scope).to_owned())
                .collect(),
            valid_ms,
        };
        self.simulation.ask(owner, Request::Delegate(order));
    }

    fn revoke(&mut self, device: usize) {
        if !self.runs(0) {
            return;
        }
        let id = self.simulation.nodes[device].id();
        let line = self.held_at_the_hub(device);
        let answer = self.simulation.ask(0, Request::Revoke { device: id, reason: "lost".into() });
        if answer == Answer::Done {
            (self.truth.devices[device].revoked, self.truth.devices[device].line) = (true, Some(line));
        }
    }

    fn raise(&mut self, device: usize) {
        if !self.runs(0) {
            return;
        }
        let id = self.simulation.nodes[device].id();
        let held = self.held_at_the_hub(device);
        let answer = self.simulation.ask(0, Request::Raise { device: id });
        let state = &mut self.truth.devices[device];
        if let Some(line) = state.line.as_mut().filter(|_| answer == Answer::Done) {
            state.raised = true;
            for (log, sequence) in held {
                let last = line.entry(log).or_insert(0);
                *last = sequence.max(*last);
            }
        }
    }

    /// How far the hub holds a device's logs.
    fn held_at_the_hub(&mut self, device: usize) -> Line {
        let mut line = Line::new();
        if self.runs(0) {
            let id = self.simulation.nodes[device].id();
            for entry in self.simulation.entries(0, id) {
                let last = line.entry((entry.incarnation, entry.lane)).or_insert(0);
                *last = entry.sequence.max(*last);
            }
        }
        line
    }

    pub(super) fn sell(&mut self, device: usize, quantity: u64, again: bool) -> Result<(), Broken> {
        if self.simulation.nodes[device].engine.is_none() {
            return Ok(());
        }
        let state = &mut self.truth.devices[device];
        state.asked += 1;
        let card = state.asked.is_multiple_of(3);
        let order = SaleOrder {
            idempotency_key: format!("{device}-{}", state.asked),
            lines: vec![LineFile::of("P2", quantity)],
            tenders: vec![if card {
                by_card((state.asked / 3 + device as u64) % CARDS)
            } else {
                OrderTender::default()
            }],
            operator: "Ada".into(),
            ..SaleOrder::default()
        };
        let orders = &mut self.truth.devices[device].orders;
        orders.push_back(order.clone());
        if orders.len() > ASKED_AGAIN {
            orders.pop_front();
        }
        self.ask_for_sale(device, order, again)
    }

    /// Who had no answer before the process ended, or isn't sure of it, asks again.
    fn ask_again(&mut self, device: usize) -> Result<(), Broken> {
        for order in self.truth.devices[device].orders.clone() {
            if self.runs(device) {
                self.reached.insert(Rare::AskedTwice);
                self.ask_for_sale(device, order, false)?;
            }
        }
        Ok(())
    }

    fn ask_for_sale(&mut self, device: usize, order: SaleOrder, again: bool) -> Result<(), Broken> {
        let known = self.known_blocks(device, &order);
        let asked_at = match self.simulation.ask(device, Request::Status) {
            Answer::Status(status) => status.time,
            _ => u64::MAX,
        };
        let Some(answer) = self.ask_or_wait(device, &order) else { return Ok(()) };
        if self.truth.is_honest(device) {
            self.i16_blocks_are_the_markets(device, &known, asked_at, &answer)?;
        }
        self.heard(device, order, again, answer)
    }

    /// What becomes of a sale that was asked for.
    pub(super) fn heard(&mut self, device: usize, order: SaleOrder, again: bool, answer: Answer) -> Result<(), Broken> {
        match answer {
            Answer::Failed(failure) if matches!(failure.code, FailureCode::EAsk | FailureCode::EDeclined) => {
                let Some(insisting) = self.insist(&order, &failure) else {
                    let what = format!("node {device} asks again: {failure:?}");
                    return Err(Broken::new(Invariant::KeepsSelling, what));
                };
                let orders = &mut self.truth.devices[device].orders;
                if let Some(known) = orders.iter_mut().find(|known| **known == order) {
                    known.clone_from(&insisting);
                }
                self.ask_for_sale(device, insisting, again)
            }
            Answer::Sale(sale) => {
                self.note_card(&order, &sale);
                self.acknowledged(device, &sale)?;
                if self.truth.devices[device].revoked {
                    self.reached.insert(Rare::RevokedUnheard);
                }
                if let Some(writes) = self.truth.devices[device].cut_at_sale.take()
                    && let Some(medium) = self.simulation.nodes[device].disk.medium()
                {
                    medium.cut_after(writes);
                }
                if again {
                    self.reached.insert(Rare::AskedTwice);
                    let second = self.simulation.ask(device, Request::RecordSale(order));
                    match second {
                        Answer::Sale(second) if second.entry == sale.entry => {}
                        Answer::Failed(failure) if failure.code == FailureCode::EUnavailable => {}
                        other => {
                            return Err(Broken::new(Invariant::PostedOnce, format!("asked twice: {other:?}")));
                        }
                    }
                }
                Ok(())
            }
            Answer::Failed(failure) => {
                self.reached.insert(Rare::Refused);
                self.refusal = format!("{failure:?}");
                match failure.code {
                    FailureCode::EUnavailable
                    | FailureCode::EStorageFull
                    | FailureCode::ENotMember
                    | FailureCode::EUnknownSku
                    | FailureCode::EScope => Ok(()),
                    _ => Err(Broken::new(Invariant::KeepsSelling, format!("node {device}: {failure:?}"))),
                }
            }
            other => Err(Broken::new(Invariant::KeepsSelling, format!("node {device}: {other:?}"))),
        }
    }

    fn acknowledged(&mut self, device: usize, sale: &SaleView) -> Result<(), Broken> {
        let Some(entry) = self.entry_of(device, &sale.entry) else {
            let what = format!("node {device} acknowledged {} and its disk has no such entry", sale.entry);
            return Err(Broken::new(Invariant::NothingLost, what));
        };
        let reductions = self.i15_costs_what_was_given(device, sale)?;
        let (total, tax, at) = (sale.total, sale.tax, self.simulation.now);
        let mut sold = Sold { device, entry, total, tax, reductions, at, before: BTreeSet::new() };
        if let Some(known) = self.truth.sales.remove(&sale.sale.to_string()) {
            let lost = known.at < self.truth.devices[device].lost_before;
            if known.entry != entry && !lost && self.truth.is_honest(device) {
                let what = format!("node {device} has recorded sale {} twice: {known:?}, {sold:?}", sale.sale);
                return Err(Broken::new(Invariant::PostedOnce, what));
            }
            sold.before = known.before;
            if known.entry == entry {
                sold.at = known.at;
            } else {
                sold.before.insert(known.total);
            }
        }
        self.truth.sales.insert(sale.sale.to_string(), sold);
        Ok(())
    }

    /// The entry at `author/incarnation/lane/sequence` on a node's disk.
    fn entry_of(&self, device: usize, text: &str) -> Option<Key> {
        let mut parts = text.split('/');
        let author: [u8; 32] = hex::decode(parts.next()?).ok()?.try_into().ok()?;
        let incarnation: [u8; 16] = hex::decode(parts.next()?).ok()?.try_into().ok()?;
        let sequence: u64 = parts.nth(1)?.parse().ok()?;
        let log = LogName {
            author: DeviceId::from_bytes(author),
            incarnation: Incarnation::from_bytes(incarnation),
            lane: Lane::SALES,
        };
        let from = [log.id(&self.simulation.market_id()).as_bytes().as_slice(), &sequence.to_be_bytes()].concat();
        let to = [from.as_slice(), &[0xff; 9]].concat();
        let found = self.simulation.nodes[device].disk.scan(Table::Entries, &from, &to, 1, Direction::Forward).ok()?;
        entry_key(&found.first()?.0)
    }

    /// Closes a batch, and holds it against what is known.
    pub(super) fn settle(&mut self) -> Result<Option<SettlementView>, Broken> {
        // What a hub that stands still is asked it does when it goes on, and nobody hears of it.
        if !self.runs(0) {
            return Ok(None);
        }
        let settled = match self.simulation.ask(0, Request::Settle { dry_run: false }) {
            Answer::Settlement(settled) => settled,
            // The hub is down, or its disk has just failed: what it closed is found when it is back.
            _ => return Ok(None),
        };
        if settled.number > 1 {
            self.reached.insert(Rare::SecondBatch);
        }
        if !settled.suspense.is_empty() {
            self.reached.insert(Rare::Suspense);
        }
        self.check_settlement(&settled)?;
        Ok(Some(settled))
    }

    pub(super) fn start(&mut self, device: usize) -> Result<(), Broken> {
        self.truth.devices[device].starts = false;
        if self.truth.devices[device].gone || self.simulation.nodes[device].engine.is_some() {
            return Ok(());
        }
        if let Some(medium) = self.simulation.nodes[device].disk.medium() {
            if medium.is_off() {
                let dice = &mut self.dice;
                medium.lose_unsynced(|| dice.roll());
                medium.power_on();
            }
            if let Some(writes) = self.truth.devices[device].cut_again.take() {
                medium.cut_after(writes);
            }
        }
        self.simulation.start(device);
        let node = &self.simulation.nodes[device];
        if let Some(reason) = node.died.clone() {
            let cut = node.disk.medium().is_some_and(|medium| medium.is_off());
            let full = reason.contains("full");
            if cut || full || reason.contains("the disk said no") {
                let after = self.dice.magnitude(1_000, 60_000);
                self.truth.devices[device].starts = true;
                self.later(after, Later::Start(device));
                return Ok(());
            }
            // Its owner moves the damaged file away, and lets it fetch what neighbours hold.
            if self.truth.devices[device].lost_before == 0 {
                let what = format!("node {device}'s store was not to be hurt, and can't be opened: {reason}");
                return Err(Broken::new(Invariant::NothingLost, what));
            }
            self.replace_disk(device);
        }
        self.kept_its_word(device)?;
        self.join_anew(device);
        self.ask_again(device)
    }

    /// Who was let in once, and has lost what says so, is let in by the same invite, or asks its owner again.
    pub(super) fn join_anew(&mut self, device: usize) {
        if device == 0 || !self.runs(device) || !self.truth.devices[device].is_invited() {
            return;
        }
        let status = self.simulation.status(device);
        let asks = status.notices.iter().any(|notice| notice.contains("join"));
        if status.role != "none" || asks {
            return;
        }
        let state = self.truth.devices[device].clone();
        if let Some(invite) = state.invite {
            self.simulation.ask(device, Request::Join { invite, name: String::new() });
        } else if state.owner.is_some()
            && let Answer::Invite(market) = self.simulation.invite_text("")
        {
            let ask = Request::AskToJoin { market, name: "helper".into(), stall: state.stall };
            self.simulation.ask(device, ask);
        }
    }

    /// A cheat goes on under the incarnation that it has, from an empty disk.
    pub(super) fn fork_anew(&mut self, device: usize) {
        if self.truth.devices[device].gone {
            return;
        }
        self.simulation.fork_anew(device);
        if let Some(invite) = self.truth.devices[device].invite.clone() {
            self.simulation.ask(device, Request::Join { invite, name: String::new() });
        }
        for after in [30_000, 60_000, 120_000] {
            self.later(after, Later::Sell(device));
        }
    }

    /// A device gets an empty disk.
    pub(super) fn replace_disk(&mut self, device: usize) {
        self.reached.insert(Rare::Wiped);
        self.simulation.kill(device);
        self.forget_word(device);
        self.simulation.nodes[device].disk = self.simulation.empty_disk();
        self.simulation.start(device);
        self.join_anew(device);
    }

    /// What a device had acknowledged so far, its disk need not hold any more.
    pub(super) fn forget_word(&mut self, device: usize) {
        self.truth.devices[device].lost_before = self.simulation.now + 1;
        let id = self.simulation.nodes[device].id();
        self.simulation.witness.release(&id);
    }

    /// A device never comes back.
    pub(super) fn lose(&mut self, device: usize) {
        if !self.truth.devices[device].gone {
            self.truth.devices[device].gone = true;
            self.simulation.kill(device);
        }
    }
}
