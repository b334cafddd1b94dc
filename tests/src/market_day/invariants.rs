//! What must hold of every market day, whatever goes wrong.

use std::collections::BTreeSet;

use stallmesh_node::engine::{Answer, Effect, Engine, Input, MemberView, Now, Request, RequestId};
use stallmesh_node::store::{Direction, Store, Table};
use stallmesh_protocol::DeviceId;

use super::fault::Kind;
use super::{Day, Rare};
use crate::simulation::{Disk, Key};

/// Bytes of a store's file that no entry needs: redb keeps regions and a page cache of its own.
const FILE_BYTES_SPARE: u64 = 8 * 1024 * 1024;
/// A file may have so many bytes for each byte that it keeps.
const FILE_BYTES_PER_BYTE: u64 = 24;
/// Frames and timers under way for each pair of nodes.
const UNDER_WAY_PER_PAIR: usize = 4_000;
/// Entries that an honest device writes on a day beside its sales, checkpoints and postings.
const WORDS_MAX: usize = 300;
/// For so long a node may be due each millisecond.
const SPINS_MS_MAX: u64 = 5_000;
/// Events in a minute: a busy day has some thousand, and nodes that ask each other the same for ever half a million.
const EVENTS_PER_LOOK_MAX: u64 = 200_000;
/// Milliseconds that a trusted time may fall over a restart: what is kept is a minute old at most, and a wall clock
/// that had led it may be set right.
const TIME_KEPT_MS: u64 = 61_000;
/// Milliseconds that a member's trusted time may lead the hub's.
const TIME_LEAD_MS: u64 = 60_000;

/// The invariants, as docs/reliability.md numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: an acknowledged sale is never lost while its disk, an honest carrier that acknowledged it, or the hub is there.
    NothingLost,
    /// I2: a sale is posted at most once.
    PostedOnce,
    /// I3: the ledger sums to zero in each currency.
    SumsToZero,
    /// I4: settlement is a function of the set.
    SettlementOfTheSet,
    /// I5: no honest device signs a position twice, and nothing leaves before its commit.
    SignedOnce,
    /// I6: all honest nodes agree on what stands.
    Agreement,
    /// I7: nothing of a stranger, and nothing beyond a line, has effect.
    MembersOnly,
    /// I8: no honest member is punished for what another did.
    NoPunishment,
    /// I9: a carrier lets go only of what the hub has.
    DroppedOnceReceived,
    /// I10: views are what their entries say.
    ViewsAreRebuilt,
    /// I11: nothing grows without a bound.
    Bounded,
    /// I12: trusted time never runs back, and one wrong clock moves no other.
    TimeHolds,
    /// I13: once faults have ended, everybody has everything.
    Convergence,
    /// I14: two ciphertexts never share a key stream.
    KeyStreams,
    /// I15: a sale costs what was given at its stall, and adds up.
    Priced,
    /// I16, I17: what the market blocks isn't taken and nobody else blocks; what waits to be captured is what was taken.
    Judged,
    /// I18: devices of a stall that hold the same sales say the same of what is left.
    Stock,
    /// I19: what the bank holds at a day's end was sold, and each payment has one name.
    Charged,
    /// A member that runs goes on selling.
    KeepsSelling,
    /// A seed gives the same run each time.
    Deterministic,
    /// Nothing panics.
    NoPanic,
}

/// An invariant that didn't hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// What was found.
    pub detail: String,
}

impl Broken {
    /// It didn't hold, for this.
    pub fn new(invariant: Invariant, detail: impl Into<String>) -> Self {
        Broken { invariant, detail: detail.into() }
    }
}

impl std::fmt::Display for Invariant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Invariant::NothingLost => "I1",
            Invariant::PostedOnce => "I2",
            Invariant::SumsToZero => "I3",
            Invariant::SettlementOfTheSet => "I4",
            Invariant::SignedOnce => "I5",
            Invariant::Agreement => "I6",
            Invariant::MembersOnly => "I7",
            Invariant::NoPunishment => "I8",
            Invariant::DroppedOnceReceived => "I9",
            Invariant::ViewsAreRebuilt => "I10",
            Invariant::Bounded => "I11",
            Invariant::TimeHolds => "I12",
            Invariant::Convergence => "I13",
            Invariant::KeyStreams => "I14",
            Invariant::Priced => "I15",
            Invariant::Judged => "I16",
            Invariant::Stock => "I18",
            Invariant::Charged => "I19",
            Invariant::KeepsSelling => "keeps selling",
            Invariant::Deterministic => "deterministic",
            Invariant::NoPanic => "no panic",
        })
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}: {}", self.invariant, self.detail)
    }
}

fn none_of<T: std::fmt::Debug>(invariant: Invariant, what: &str, found: &[T]) -> Result<(), Broken> {
    match found.first() {
        None => Ok(()),
        Some(first) => Err(Broken::new(invariant, format!("{what}: {first:?}, {} in all", found.len()))),
    }
}

impl Day {
    /// What is seen at every write and every frame.
    pub(super) fn always(&mut self) -> Result<(), Broken> {
        self.i5_positions_are_signed_once()?;
        self.i9_carriers_drop_only_what_was_received()?;
        self.i14_key_streams_are_used_once()?;
        self.i8_nobody_pays_for_another()
    }

    /// What costs a question.
    pub(super) fn often(&mut self) -> Result<(), Broken> {
        if self.simulation.network.timed_out > 0 {
            self.reached.insert(Rare::TimedOut);
        }
        self.i11_nothing_grows_without_a_bound()?;
        let device = usize::try_from(self.dice.between(0, self.truth.devices.len() as u64 - 1)).unwrap_or(0);
        self.i12_time_holds(device)
    }

    /// What costs a look at everything.
    pub(super) fn now_and_then(&mut self) -> Result<(), Broken> {
        self.i3_the_ledger_sums_to_zero()?;
        let device = usize::try_from(self.dice.between(0, self.truth.devices.len() as u64 - 1)).unwrap_or(0);
        self.i10_views_are_what_their_entries_say(device)?;
        self.i17_what_waits_was_taken(device)?;
        self.i11_nobody_talks_without_end(device)?;
        self.i7_strangers_have_no_effect(device)?;
        self.i7_nobody_counts_who_was_not_let_in(device)?;
        self.i8_nobody_is_accused(device)
    }

    fn i5_positions_are_signed_once(&self) -> Result<(), Broken> {
        let witness = &self.simulation.witness;
        none_of(Invariant::SignedOnce, "signed twice", &witness.signed_twice())?;
        none_of(Invariant::SignedOnce, "left before its commit", &witness.hasty())
    }

    fn i9_carriers_drop_only_what_was_received(&self) -> Result<(), Broken> {
        none_of(Invariant::DroppedOnceReceived, "let go of", &self.simulation.witness.dropped())
    }

    fn i14_key_streams_are_used_once(&self) -> Result<(), Broken> {
        none_of(Invariant::KeyStreams, "two ciphertexts", &self.simulation.witness.reused_key_streams())
    }

    /// Links between honest nodes end for reasons that are nobody's fault.
    fn i8_nobody_pays_for_another(&mut self) -> Result<(), Broken> {
        let closed = self.simulation.closed[self.closed_seen..].to_vec();
        self.closed_seen = self.simulation.closed.len();
        for end in closed {
            let peer = (0..self.simulation.nodes.len()).find(|node| self.simulation.nodes[*node].id() == end.peer);
            let honest = |node: usize| self.truth.is_honest(node);
            let Some(peer) = peer.filter(|peer| honest(*peer) && honest(end.by)) else {
                self.reached.insert(Rare::Punished);
                continue;
            };
            // Whom a revoked or forked device let in may be no member to those who know of it.
            let let_in = self.truth.devices[peer].owner.is_none_or(|owner| {
                let state = &self.truth.devices[owner];
                honest(owner) && !state.revoked && !state.copied
            });
            let no_member = end.reason.contains("E_NOT_MEMBER") || end.reason.contains("E_CERT");
            let fair = end.reason.contains("second connection")
                || end.reason.contains("the uplink was switched off")
                || (no_member && !let_in)
                || end.reason.contains("didn't join in time")
                || end.reason.contains("E_SILENT")
                || (end.reason.contains("E_REVOKED") && self.truth.devices[peer].revoked);
            if !fair {
                let what = format!("node {} ended its link to node {peer}: {}", end.by, end.reason);
                return Err(Broken::new(Invariant::NoPunishment, what));
            }
        }
        Ok(())
    }

    fn i11_nothing_grows_without_a_bound(&mut self) -> Result<(), Broken> {
        let (nodes, under_way) = (self.simulation.nodes.len(), self.simulation.network.under_way());
        if under_way > UNDER_WAY_PER_PAIR * nodes * nodes {
            return Err(Broken::new(Invariant::Bounded, format!("{under_way} frames and timers of {nodes} nodes")));
        }
        let events = self.simulation.steps() - self.steps_seen;
        if events > EVENTS_PER_LOOK_MAX && !self.fired.contains_key(&Kind::Flood) {
            return Err(Broken::new(Invariant::Bounded, format!("{events} events in a minute")));
        }
        self.steps_seen = self.simulation.steps();
        let spins = |node: &usize| self.simulation.nodes[*node].spins_ms() > SPINS_MS_MAX;
        match (0..nodes).find(spins) {
            Some(node) => Err(Broken::new(Invariant::Bounded, format!("node {node} is due at once, again and again"))),
            None => Ok(()),
        }
    }

    /// Bytes of a store's file against bytes that it keeps.
    fn i11_files_are_as_large_as_what_they_keep(&self, device: usize) -> Result<(), Broken> {
        let disk = &self.simulation.nodes[device].disk;
        let Some(medium) = disk.medium() else { return Ok(()) };
        let live: usize = Table::ALL
            .into_iter()
            .flat_map(|table| disk.scan(table, &[], &[0xff; 129], usize::MAX, Direction::Forward).unwrap_or_default())
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if medium.length() > FILE_BYTES_SPARE + FILE_BYTES_PER_BYTE * live as u64 {
            let what = format!("node {device}'s file has {} bytes for {live}", medium.length());
            return Err(Broken::new(Invariant::Bounded, what));
        }
        Ok(())
    }

    /// What honest devices write of themselves follows from what people do.
    pub(super) fn i11_nobody_talks_without_end(&mut self, device: usize) -> Result<(), Broken> {
        if !self.runs(device) || !self.truth.is_honest(device) || self.truth.devices[device].copied {
            return Ok(());
        }
        let id = self.simulation.nodes[device].id();
        let words = self.simulation.entries(device, id).into_iter();
        let words = words.filter(|entry| ["control", "catalog", "signal"].contains(&entry.lane.as_str())).count();
        self.most_words = self.most_words.max(words);
        if words > WORDS_MAX {
            return Err(Broken::new(Invariant::Bounded, format!("node {device} has written {words} entries")));
        }
        Ok(())
    }

    /// A member that runs and knows what its stall sells, sells, whoever else is there.
    pub(super) fn everybody_sells(&mut self) -> Result<(), Broken> {
        for device in self.counted() {
            let state = &self.truth.devices[device];
            // Whose clock was ahead may take its certificate for expired.
            let plain = state.owner.is_none() && !state.clock_was_off && !state.copied;
            if !plain || !self.runs(device) {
                continue;
            }
            let status = self.simulation.status(device);
            let goods = self.simulation.products(device, Some(&status.stall));
            if status.role != "stall" || !goods.iter().any(|product| product.sku == "P2") {
                continue;
            }
            let sales = self.truth.sales.len();
            self.sell(device, 1, false)?;
            // It may just have died of its disk.
            if self.truth.sales.len() == sales && self.runs(device) && !self.waits(device) {
                let what = format!("node {device} doesn't sell any more: {}", self.refusal);
                return Err(Broken::new(Invariant::KeepsSelling, what));
            }
        }
        Ok(())
    }

    fn i12_time_holds(&mut self, device: usize) -> Result<(), Broken> {
        if !self.runs(device) || self.simulation.status(device).role == "none" {
            return Ok(());
        }
        self.note_checkpoint();
        let status = self.simulation.status(device);
        let told = status.time;
        let before = std::mem::replace(&mut self.truth.devices[device].told_time, told);
        let fell = told + TIME_KEPT_MS < before && self.truth.devices[device].lost_before == 0;
        // Before it has heard a checkpoint, a device has its own clock alone.
        let led = told > self.hub_time() + TIME_LEAD_MS && !self.truth.devices[device].clock_was_off;
        let said = self.truth.checkpoints.get(&status.checkpoint).copied();
        let behind = said.is_some_and(|said| told + TIME_KEPT_MS < said);
        if fell || led || behind {
            let what = format!(
                "node {device} says {told}, said {before} before; at the hub it is {}, and {said:?} when it signed \
                 checkpoint {}",
                self.hub_time(),
                status.checkpoint
            );
            return Err(Broken::new(Invariant::TimeHolds, what));
        }
        Ok(())
    }

    /// Remembers the time at which a checkpoint was the hub's newest, as long as its numbers mean one each.
    fn note_checkpoint(&mut self) {
        if self.truth.hub_lost_before > 0 || self.truth.two_stories || self.fired.contains_key(&Kind::Burned) {
            self.truth.checkpoints.clear();
        } else if self.runs(0) {
            let status = self.simulation.status(0);
            // It may have been signed right after the last look, and the hub have stood still since.
            let now = self.simulation.now;
            let ago = now - std::mem::replace(&mut self.truth.hub_looked_at, now);
            self.truth.checkpoints.entry(status.checkpoint).or_insert(status.time.saturating_sub(ago));
        }
    }

    pub(super) fn hub_time(&self) -> u64 {
        self.simulation.opening_ms + self.simulation.now
    }

    fn i3_the_ledger_sums_to_zero(&mut self) -> Result<(), Broken> {
        if let Answer::Ledger(ledger) = self.simulation.ask(0, Request::Ledger)
            && ledger.sums.iter().any(|(_, sum)| *sum != 0)
        {
            return Err(Broken::new(Invariant::SumsToZero, format!("{:?}", ledger.sums)));
        }
        Ok(())
    }

    /// What a node answers is what a second process on a copy of its disk answers.
    fn i10_views_are_what_their_entries_say(&mut self, device: usize) -> Result<(), Broken> {
        if !self.runs(device) || self.simulation.status(device).role == "none" {
            return Ok(());
        }
        self.i11_files_are_as_large_as_what_they_keep(device)?;
        let Some((mut engine, now)) = self.rebuilt(device) else { return Ok(()) };
        let catalog = Request::Catalog { stall: None, query: String::new(), after: None, limit: usize::MAX };
        let promotions = Request::Promotions { stall: None };
        let signals = Request::Signals { limit: usize::MAX };
        let mut requests = vec![Request::Members, Request::CatalogCounts, catalog, promotions, signals];
        let stall = self.simulation.status(device).stall;
        if !stall.is_empty() {
            requests.push(Request::Stock { stall: Some(stall), limit: usize::MAX });
        }
        for request in requests {
            let cheats = self.cheats();
            let rebuilt = question(&mut engine, now, request.clone()).map(|answer| of_the_disk(answer, &cheats));
            let running = of_the_disk(self.simulation.ask(device, request.clone()), &cheats);
            if Some(&running) != rebuilt.as_ref() {
                let what = format!("node {device}, {request:?}: {}", difference(&running, rebuilt.as_ref()));
                return Err(Broken::new(Invariant::ViewsAreRebuilt, what));
            }
        }
        Ok(())
    }

    /// Once all agree on counts: whoever has read the same sales has the same left, however it heard of them.
    pub(super) fn i18_tills_of_a_stall_agree_on_what_is_left(&mut self) -> Result<(), Broken> {
        let stalls: BTreeSet<String> = self.truth.devices.iter().map(|device| device.stall.clone()).collect();
        for stall in stalls.into_iter().filter(|stall| !stall.is_empty()) {
            let of_stall = |day: &Day, device: usize| day.truth.devices[device].stall == stall;
            let all: Vec<usize> = (0..self.truth.devices.len()).filter(|device| of_stall(self, *device)).collect();
            // What a cheat has sold besides, nobody has kept a book of.
            if all.iter().any(|device| !self.truth.is_honest(*device) || self.truth.devices[*device].copied) {
                continue;
            }
            let sold: Vec<Key> =
                self.truth.sales.values().filter(|sale| all.contains(&sale.device)).map(|sale| sale.entry).collect();
            let mut known: Option<(usize, Answer)> = None;
            let counted = self.counted();
            for device in all.into_iter().filter(|device| counted.contains(device)) {
                let reads = |member: &MemberView| member.scopes.iter().any(|scope| scope == "read-sales");
                let id = self.simulation.nodes[device].id();
                let member = self.simulation.members(device).into_iter().find(|member| member.device == id);
                let disk = &self.simulation.nodes[device].disk;
                if !member.is_some_and(|member| reads(&member)) || !sold.iter().all(|entry| holds(disk, entry)) {
                    continue;
                }
                let stock = Request::Stock { stall: Some(stall.clone()), limit: usize::MAX };
                let left = self.simulation.ask(device, stock);
                if let Answer::Stock(stock) = &left
                    && stock.iter().any(|product| product.left.amount.starts_with('-'))
                {
                    self.reached.insert(Rare::SoldOut);
                }
                match &known {
                    Some((other, known)) if *known != left => {
                        let what = format!("nodes {other} and {device}: {}", difference(known, Some(&left)));
                        return Err(Broken::new(Invariant::Stock, what));
                    }
                    Some(_) => _ = self.reached.insert(Rare::CountedTogether),
                    None => known = Some((device, left)),
                }
            }
        }
        Ok(())
    }

    pub(super) fn i7_strangers_have_no_effect(&mut self, device: usize) -> Result<(), Broken> {
        if !self.runs(device) || !self.truth.is_honest(device) {
            return Ok(());
        }
        let products = self.simulation.products(device, None);
        let found = products.iter().find(|product| self.truth.forbidden.contains(&product.name));
        match found {
            Some(product) => Err(Broken::new(Invariant::MembersOnly, format!("node {device} offers {}", product.name))),
            None => Ok(()),
        }
    }

    /// After a start: what a device had acknowledged is on its disk, or was at the hub.
    pub(super) fn kept_its_word(&self, device: usize) -> Result<(), Broken> {
        let state = &self.truth.devices[device];
        let node = &self.simulation.nodes[device];
        if node.engine.is_none() || state.dishonest {
            return Ok(());
        }
        let witness = &self.simulation.witness;
        for (id, sale) in &self.truth.sales {
            let bound = sale.device == device && sale.at >= state.lost_before;
            if bound && !holds(&node.disk, &sale.entry) && !witness.was_received(&sale.entry) {
                return Err(Broken::new(Invariant::NothingLost, format!("node {device} has lost its sale {id}")));
            }
        }
        if state.copied {
            return Ok(());
        }
        for promise in witness.promised(&node.id()) {
            let from = [promise.log.as_bytes().as_slice(), &promise.from.to_be_bytes()].concat();
            let to = [promise.log.as_bytes().as_slice(), &(promise.to.1 + 1).to_be_bytes()].concat();
            let kept = node.disk.scan(Table::Entries, &from, &to, usize::MAX, Direction::Forward);
            let kept = kept.map(|pairs| pairs.len() as u64).unwrap_or(0);
            if kept < promise.to.1 + 1 - promise.from {
                let what = format!("node {device} holds {kept} of what it said that it holds: {promise:?}");
                return Err(Broken::new(Invariant::NothingLost, what));
            }
        }
        Ok(())
    }

    /// Which running nodes hold an entry.
    pub(super) fn holders(&self, entry: &Key) -> BTreeSet<usize> {
        let nodes = &self.simulation.nodes;
        (0..nodes.len()).filter(|node| nodes[*node].engine.is_some() && holds(&nodes[*node].disk, entry)).collect()
    }
}

pub(super) fn holds(disk: &Disk, (log, sequence, prefix): &Key) -> bool {
    let key = [log.as_bytes().as_slice(), &sequence.to_be_bytes(), prefix].concat();
    matches!(disk.get(Table::Entries, &key), Ok(Some(_)))
}

/// What a node can know from its disk alone: not who has a link just now, nor what a cheat's entries looked like of which
/// some were let go.
fn of_the_disk(answer: Answer, cheats: &BTreeSet<DeviceId>) -> Answer {
    match answer {
        Answer::Members(mut members) => {
            for member in &mut members {
                member.linked = false;
                if cheats.contains(&member.device) {
                    member.alarms.retain(|alarm| alarm != "clone");
                }
            }
            Answer::Members(members)
        }
        // What a device has noted itself, and of proofs, is dated by when it did.
        Answer::Signals(mut signals) => {
            signals.retain(|signal| ["block", "payment"].into_iter().any(|fact| signal.fact.get(fact).is_some()));
            signals.sort_by(|one, other| {
                (&one.subject, one.at, &one.stall).cmp(&(&other.subject, other.at, &other.stall))
            });
            Answer::Signals(signals)
        }
        other => other,
    }
}

/// Asks an engine that no simulation knows.
fn question(engine: &mut Engine<Disk>, now: Now, request: Request) -> Option<Answer> {
    engine.handle(Input::Request(RequestId(0), request), now);
    engine.commit(now).ok()?;
    let mut answer = None;
    while let Some(effect) = engine.poll_effect() {
        if let Effect::Answer(_, given) = effect {
            answer = Some(given);
        }
    }
    answer
}

/// The first place where two answers differ, in some words of each.
fn difference(one: &Answer, other: Option<&Answer>) -> String {
    let (one, other) = (format!("{one:?}"), format!("{other:?}"));
    let at = one.chars().zip(other.chars().skip(5)).position(|(one, other)| one != other).unwrap_or(0);
    let around = |text: &str| text.chars().skip(at.saturating_sub(80)).take(240).collect::<String>();
    format!("running …{}…, rebuilt …{}…", around(&one), around(&other))
}
