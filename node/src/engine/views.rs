//! What the entries that are held say, lane by lane: functions of their set, rebuilt from it at every start.

mod hubs;
mod leaves;
mod signals;

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::certificate::{Certificate, Scope};
use stallmesh_protocol::checkpoint::{Checkpoint, CheckpointView, ProvenLeaf};
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::fork::ForkProof;
use stallmesh_protocol::membership::{
    BySequence, ControlFact, Covering, Membership, NoCoverage, NotStanding, Position, ProofFact, effective_time,
    read_control, read_line,
};
use stallmesh_protocol::payload::{self, PayloadError};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{DeviceId, Hash, Incarnation, Kind, Lane, LogName, MarketId};

use super::catalog::{Catalog, Judgement};
use super::conditions::{ConditionBook, InForce};
use super::logs::Held;
use super::promotions::{PromotionBook, Share};
use super::signals::SignalBook;

/// Where a fact stands, and when its author says that it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) at: Position,
    pub(crate) timestamp: u64,
    pub(crate) seen: [u8; 8],
}

impl Written {
    pub(crate) fn of(held: &Held) -> Self {
        Written { at: position(held), timestamp: held.entry.timestamp, seen: held.entry.seen }
    }
}

pub(crate) fn position(held: &Held) -> Position {
    Position { log: held.log, sequence: held.sequence, hash: held.hash }
}

/// One incarnation of a device, as its logs show it.
#[derive(Clone, Debug, Default)]
struct Life {
    /// Whether an opening of it is held, which says what it knew. A carrier lets go of them, and can't judge then.
    opened: bool,
    parents: BTreeSet<Incarnation>,
    /// How far it knew each log of its parents when it began.
    knew: BTreeMap<(Incarnation, Lane), u64>,
    first: u64,
    last: u64,
    /// Newest (sequence, timestamp) of each of its logs.
    ends: BTreeMap<Lane, (u64, u64)>,
}

impl Life {
    /// Whether a parent went on writing after this life had begun, beyond what this life knew of it. What a disk lost
    /// and got back is older than this life.
    fn is_outlived_by(&self, parent: &Incarnation, life: &Life) -> bool {
        life.ends.iter().any(|(lane, (sequence, timestamp))| {
            let knew = self.knew.get(&(*parent, *lane)).copied().unwrap_or(0);
            *sequence > knew && *timestamp > self.first
        })
    }
}

/// A published settlement.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) written: Written,
    pub(crate) message: payload::Settlement,
}

/// All views.
#[derive(Debug)]
pub(crate) struct Views {
    root: DeviceId,
    market: MarketId,
    facts: Vec<ControlFact>,
    proofs: BTreeMap<LogName, Vec<ProofFact>>,
    checkpoints: Vec<(Written, Checkpoint)>,
    /// How many of them were read into the coverage.
    checkpoints_read: usize,
    /// Who is a member by the root's word alone, and of how many facts that was made.
    certified_by_root: Membership,
    root_facts: usize,
    /// What checkpoints said of sealed logs: the newest of each.
    proven: BTreeMap<LogName, ProvenLeaf>,
    /// What closings relied on: more of them, by log and checkpoint.
    inherited: BTreeMap<(LogName, Hash), ProvenLeaf>,
    /// Logs whose leaf was not read into the coverage yet.
    leaves_waiting: BTreeSet<LogName>,
    /// What the hubs' checkpoints say.
    pub(crate) coverage: CheckpointView,
    /// Who belongs, and what stands.
    pub(crate) membership: Membership,
    /// Entries whose personal part may be absent, and who says so.
    pub(crate) erasures: BTreeMap<Position, Vec<Written>>,
    markets: Vec<(Written, payload::Market)>,
    policies: Vec<(Written, payload::Policy)>,
    opening_keys: Vec<(Written, [u8; 32], payload::OpeningKey)>,
    /// Hubs that the root has said are gone, with another in their place.
    burned: BTreeSet<DeviceId>,
    /// What hubs have said of coming back from older copies: until when their word counts for nothing.
    restorations: Vec<(Written, u64)>,
    /// The latest of each that has effect.
    restored: BTreeMap<DeviceId, u64>,
    stall_keys: Vec<(Written, payload::StallKey)>,
    settlements: Vec<Published>,
    /// Join requests, challenges and refusals by request id.
    pub(crate) join_requests: BTreeMap<Hash, (Written, payload::JoinRequest)>,
    join_challenges: BTreeMap<Hash, Vec<(Written, [u8; 16])>>,
    join_refusals: BTreeMap<Hash, Vec<(Written, String)>>,
    lives: BTreeMap<DeviceId, BTreeMap<Incarnation, Life>>,
    /// Two copies of one device each, as they were found first.
    known_clones: BTreeMap<DeviceId, (Incarnation, Incarnation)>,
    /// Entries that are kept but say nothing, with the reason.
    pub(crate) ineffective: BTreeMap<Position, String>,
    dirty: bool,
    catalog: Catalog,
    catalog_dirty: bool,
    promotions: PromotionBook,
    promotions_dirty: bool,
    conditions: ConditionBook,
    checkout_rules: Vec<(Written, payload::CheckoutRules)>,
    signals: SignalBook,
    standings_dirty: bool,
}

impl Views {
    pub(crate) fn new(root: DeviceId, market: MarketId) -> Self {
        Views {
            root,
            market,
            facts: Vec::new(),
            proofs: BTreeMap::new(),
            checkpoints: Vec::new(),
            checkpoints_read: 0,
            certified_by_root: Membership::build(root, &[], &[], &NoCoverage, &BySequence),
            root_facts: 0,
            proven: BTreeMap::new(),
            inherited: BTreeMap::new(),
            leaves_waiting: BTreeSet::new(),
            coverage: CheckpointView::default(),
            membership: Membership::build(root, &[], &[], &NoCoverage, &BySequence),
            erasures: BTreeMap::new(),
            markets: Vec::new(),
            policies: Vec::new(),
            opening_keys: Vec::new(),
            burned: BTreeSet::new(),
            restorations: Vec::new(),
            restored: BTreeMap::new(),
            stall_keys: Vec::new(),
            settlements: Vec::new(),
            join_requests: BTreeMap::new(),
            join_challenges: BTreeMap::new(),
            join_refusals: BTreeMap::new(),
            lives: BTreeMap::new(),
            known_clones: BTreeMap::new(),
            ineffective: BTreeMap::new(),
            dirty: false,
            catalog: Catalog::default(),
            catalog_dirty: false,
            promotions: PromotionBook::default(),
            promotions_dirty: false,
            conditions: ConditionBook::default(),
            checkout_rules: Vec::new(),
            signals: SignalBook::default(),
            standings_dirty: false,
        }
    }

    /// Takes in an entry that is held now. Order and repetition don't matter.
    pub(crate) fn insert(&mut self, held: &Held) {
        let life = self.lives.entry(held.log.author).or_default().entry(held.log.incarnation).or_default();
        let at = held.entry.timestamp;
        life.first = if life.first == 0 { at } else { life.first.min(at) };
        life.last = life.last.max(at);
        let end = life.ends.entry(held.log.lane).or_default();
        *end = (*end).max((held.sequence, at));
        let Some(bytes) = held.entry.payload.bytes(Part::Public) else { return };
        if let Err(error) = self.read(held, bytes) {
            self.ineffective.insert(position(held), error.to_string());
        }
    }

    fn read(&mut self, held: &Held, bytes: &[u8]) -> Result<(), PayloadError> {
        let written = Written::of(held);
        match (held.log.lane, held.entry.kind) {
            (_, Kind::OPENING) => {
                let message: payload::Opening = payload::decode("opening", bytes)?;
                let parents = read_line(&message.parents)?;
                let life = self.lives.entry(held.log.author).or_default().entry(held.log.incarnation).or_default();
                life.opened = true;
                for ((incarnation, lane), head) in parents {
                    life.parents.insert(incarnation);
                    let knew = life.knew.entry((incarnation, lane)).or_insert(0);
                    *knew = head.sequence.max(*knew);
                }
            }
            (Lane::CONTROL, Kind::MARKET) if held.log.author == self.root => {
                let message: payload::Market = payload::decode("market", bytes)?;
                if MarketId::new(&self.root, message.epoch) != self.market {
                    return Err(PayloadError::field("epoch", "is another market's"));
                }
                self.markets.push((written, message));
            }
            (Lane::CONTROL, Kind::SUCCESSION) if held.log.author == self.root => {
                let message: payload::Succession = payload::decode("succession", bytes)?;
                let hub: DeviceId = payload::fixed("hub", &message.hub)?;
                let burned = message.burned.iter().map(|device| payload::fixed("burned", device));
                let burned: Vec<DeviceId> = burned.collect::<Result<_, _>>()?;
                if burned.contains(&hub) || !burned.is_sorted_by(|one, next| one < next) {
                    return Err(PayloadError::field("burned", "don't ascend, or hold the hub that goes on"));
                }
                self.burned.extend(burned);
                self.dirty = true;
            }
            (Lane::CONTROL, Kind::RESTORATION) => {
                let message: payload::Restoration = payload::decode("restoration", bytes)?;
                self.restorations.push((written, message.until));
                self.dirty = true;
            }
            (Lane::CONTROL, Kind::POLICY) => {
                self.policies.push((written, payload::decode("policy", bytes)?));
            }
            (Lane::CONTROL | Lane::CATALOG, Kind::PROMOTIONS) => {
                self.promotions_dirty = true;
                self.promotions.insert(written, payload::decode("promotions", bytes)?)?;
            }
            (Lane::SIGNAL, Kind::CONDITIONS) => {
                self.conditions.insert(written, &payload::decode("conditions", bytes)?)?;
            }
            (Lane::SIGNAL, Kind::SIGNALS) => {
                self.signals.insert(written, &payload::decode("signals", bytes)?)?;
            }
            (Lane::CONTROL, Kind::CHECKOUT_RULES) => {
                self.checkout_rules.push((written, payload::decode("checkout rules", bytes)?));
            }
            (Lane::CONTROL, Kind::OPENING_KEY) => {
                let message: payload::OpeningKey = payload::decode("opening key", bytes)?;
                let key = payload::fixed("public_key", &message.public_key)?;
                self.opening_keys.push((written, key, message));
            }
            (Lane::CONTROL, Kind::STALL_KEY) => {
                self.stall_keys.push((written, payload::decode("stall key", bytes)?));
            }
            (Lane::CONTROL, Kind::SETTLEMENT) => {
                let message = payload::decode("settlement", bytes)?;
                self.settlements.push(Published { written, message });
            }
            (Lane::CONTROL | Lane::SIGNAL, Kind::FORK_PROOF | Kind::FORK_RESTATED) => {
                let proof = ForkProof::from_payload(bytes)?;
                proof.verify(&self.market).map_err(|_| PayloadError::field("branches", "prove no fork"))?;
                self.insert_proof(proof, Some(written.at));
            }
            (Lane::CONTROL, Kind::ERASURE) => {
                let at = super::erasure::read_erasure(bytes)?;
                self.erasures.entry(at).or_default().push(written);
            }
            (Lane::CONTROL, kind) => {
                if let Some(body) = read_control(kind, bytes)? {
                    self.facts.push(ControlFact {
                        at: written.at,
                        timestamp: written.timestamp,
                        seen: written.seen,
                        body,
                    });
                    self.dirty = true;
                }
            }
            (Lane::CHECKPOINT, Kind::CHECKPOINT) => {
                self.checkpoints.push((written, Checkpoint::from_payload(bytes)?));
                self.dirty = true;
            }
            (Lane::CATALOG, Kind::PRODUCTS) => {
                let message: payload::Products = payload::decode("products", bytes)?;
                self.catalog.insert(written, message);
                self.catalog_dirty = true;
            }
            (Lane::SIGNAL, Kind::JOIN_REQUEST) => {
                let message: payload::JoinRequest = payload::decode("join request", bytes)?;
                let id = stallmesh_protocol::join::check_id(&message)
                    .map_err(|_| PayloadError::field("id", "is not the request's"))?;
                self.join_requests.insert(id, (written, message));
            }
            (Lane::SIGNAL, Kind::JOIN_CHALLENGE) => {
                let message: payload::JoinChallenge = payload::decode("join challenge", bytes)?;
                let request = payload::fixed("request", &message.request)?;
                let nonce = payload::fixed("nonce", &message.nonce)?;
                self.join_challenges.entry(request).or_default().push((written, nonce));
            }
            (Lane::SIGNAL, Kind::JOIN_REFUSAL) => {
                let message: payload::JoinRefusal = payload::decode("join refusal", bytes)?;
                let request = payload::fixed("request", &message.request)?;
                self.join_refusals.entry(request).or_default().push((written, message.reason));
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes in a verified fork proof. True where it is new.
    pub(crate) fn insert_proof(&mut self, proof: ForkProof, published: Option<Position>) -> bool {
        let proofs = self.proofs.entry(proof.log).or_default();
        self.dirty = true;
        match proofs.iter_mut().find(|fact| fact.proof == proof) {
            Some(fact) => {
                fact.published.extend(published);
                false
            }
            None => {
                proofs.push(ProofFact { proof, published: published.into_iter().collect() });
                true
            }
        }
    }

    /// The earliest proved fork of a log.
    pub(crate) fn earliest_fork(&self, log: &LogName) -> Option<&ForkProof> {
        self.proofs.get(log)?.iter().map(|fact| &fact.proof).min_by_key(|proof| {
            let earliest = (proof.sequence, proof.previous);
            if planted::is_on(Bug::LaterFork) { (u64::MAX - earliest.0, earliest.1) } else { earliest }
        })
    }

    pub(crate) fn proofs(&self) -> impl Iterator<Item = &ProofFact> {
        self.proofs.values().flatten()
    }

    /// Rebuilds membership where something changed. True where it was rebuilt.
    pub(crate) fn refresh(&mut self) -> bool {
        if !std::mem::take(&mut self.dirty) {
            return false;
        }
        // Hubs are certified by the root alone, so who may write checkpoints depends on no checkpoint.
        let by_root = self.facts.iter().filter(|fact| fact.at.log.author == self.root);
        if by_root.clone().count() != self.root_facts {
            let by_root: Vec<ControlFact> = by_root.cloned().collect();
            self.root_facts = by_root.len();
            self.certified_by_root = Membership::build(self.root, &by_root, &[], &NoCoverage, &BySequence);
            // What was read of checkpoints is judged anew.
            self.coverage = CheckpointView::default();
            self.checkpoints_read = 0;
            self.leaves_waiting = self.leaves().map(|leaf| leaf.log).collect();
        }
        for (written, checkpoint) in &self.checkpoints[self.checkpoints_read..] {
            let allowed = self
                .certified_by_root
                .permits(&written.at, checkpoint.time, Scope::CHECKPOINT, &NoCoverage, &BySequence)
                .is_ok();
            if allowed || planted::is_on(Bug::AnyCheckpoint) {
                self.coverage.insert(written.at.hash, checkpoint.clone());
            }
        }
        self.checkpoints_read = self.checkpoints.len();
        let mut waiting = std::mem::take(&mut self.leaves_waiting);
        let mut coverage = std::mem::take(&mut self.coverage);
        // A leaf whose checkpoint isn't here yet waits for it.
        waiting.retain(|log| {
            let refused = self.leaves_of(log).filter(|leaf| !coverage.insert_proven(&self.market, leaf));
            refused.count() > 0
        });
        (self.leaves_waiting, self.coverage) = (waiting, coverage);
        let proofs: Vec<ProofFact> = self.proofs().cloned().collect();
        self.membership = Membership::build(self.root, &self.facts, &proofs, &self.coverage, &BySequence);
        self.read_restorations();
        self.catalog_dirty |= !planted::is_on(Bug::StaleView);
        self.promotions_dirty = true;
        self.standings_dirty = true;
        true
    }

    /// When an entry counts as written.
    pub(crate) fn time_of(&self, written: &Written) -> u64 {
        effective_time(written.timestamp, &written.seen, self.covered(written), &self.coverage)
    }

    /// The first checkpoint that covers an entry, or the raise or readmission by which alone it stands.
    fn covered(&self, written: &Written) -> Option<Covering> {
        self.membership.covered(&written.at, &self.coverage, &BySequence)
    }

    /// Among versions of one thing: the later covering checkpoint wins, an uncovered one counts as latest, then the hash.
    pub(super) fn rank(&self, written: &Written) -> (u64, Hash) {
        (self.covered(written).map_or(u64::MAX, |covering| covering.ordinal), written.at.hash)
    }

    /// The version that counts.
    pub(super) fn newest<'a, M: 'a>(
        &self,
        all: impl IntoIterator<Item = &'a (Written, M), IntoIter: Clone>,
        replaces: impl Fn(&M) -> &Vec<Vec<u8>>,
    ) -> Option<&'a (Written, M)> {
        unreplaced(all, replaces).max_by_key(|(written, _)| self.rank(written))
    }

    /// Whether an entry counts, for what needs this scope.
    pub(crate) fn permits(&self, written: &Written, scope: Scope) -> Result<Option<&Certificate>, NotStanding> {
        self.membership.permits(&written.at, self.time_of(written), scope, &self.coverage, &BySequence)
    }

    /// The market, as the root's newest entry says it.
    pub(crate) fn market(&self) -> Option<&payload::Market> {
        self.newest(&self.markets, |message| &message.replaces).map(|(_, message)| message)
    }

    /// The policies that have effect, whether replaced or not.
    pub(super) fn policies(&self) -> Vec<&(Written, payload::Policy)> {
        self.policies.iter().filter(|(written, _)| self.permits(written, Scope::POLICY).is_ok()).collect()
    }

    /// A stall's newest read key.
    pub(crate) fn stall_key(&self, stall: &str) -> Option<&payload::StallKey> {
        self.stall_keys
            .iter()
            .filter(|(_, message)| message.stall == stall)
            .filter(|(written, _)| {
                self.permits(written, Scope::READ_SALES)
                    .is_ok_and(|certificate| certificate.is_none_or(|certificate| certificate.stall == stall))
            })
            // Two of one millisecond: of one log the later entry is the newer one.
            .max_by_key(|(written, message)| {
                let Position { log, sequence, hash } = written.at;
                (message.day, self.time_of(written), log, sequence, hash)
            })
            .map(|(_, message)| message)
    }

    /// Every read key of a stall that was ever published for it.
    pub(crate) fn stall_keys(&self, stall: &str) -> impl Iterator<Item = &payload::StallKey> {
        self.stall_keys.iter().map(|(_, message)| message).filter(move |message| message.stall == stall)
    }

    /// Published settlements, by number.
    pub(crate) fn settlements(&self) -> Vec<&Published> {
        let mut settlements: Vec<&Published> = self
            .settlements
            .iter()
            .filter(|published| self.permits(&published.written, Scope::SETTLE).is_ok())
            .collect();
        settlements.sort_by_key(|published| published.message.number);
        settlements
    }

    /// The nonce that a hub challenged a join request with; other members' words on it count for nothing.
    pub(crate) fn challenge(&self, request: &Hash) -> Option<[u8; 16]> {
        self.by_who_admits(self.join_challenges.get(request)).copied()
    }

    /// Why a hub refused a join request.
    pub(crate) fn refusal(&self, request: &Hash) -> Option<&str> {
        self.by_who_admits(self.join_refusals.get(request)).map(String::as_str)
    }

    fn by_who_admits<'a, M>(&self, said: Option<&'a Vec<(Written, M)>>) -> Option<&'a M> {
        said.into_iter()
            .flatten()
            .filter(|(written, _)| self.permits(written, Scope::ADMIT).is_ok())
            .min_by_key(|(written, _)| written.at)
            .map(|(_, message)| message)
    }

    /// What all stalls offer, as of the last [`Views::refresh_catalog`].
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Takes in what changed of the products by a time, in milliseconds since 1970: whoever asks for them pays for it,
    /// not whoever brings them.
    pub(crate) fn refresh_catalog(&mut self, now: u64) {
        if !std::mem::take(&mut self.catalog_dirty) && !self.catalog.is_due(now) {
            return;
        }
        let mut catalog = std::mem::take(&mut self.catalog);
        catalog.refresh(now, |written| {
            let certificate = self.permits(written, Scope::PUBLISH_CATALOG).ok().flatten();
            let stall = certificate.map(|certificate| certificate.stall.clone());
            Judgement { stall, covered: self.rank(written).0, time: self.time_of(written) }
        });
        self.catalog = catalog;
    }

    /// Promotions and fees, as of the last [`Views::refresh_promotions`].
    pub(crate) fn promotions(&self) -> &PromotionBook {
        &self.promotions
    }

    /// As [`Views::refresh_catalog`].
    pub(crate) fn refresh_promotions(&mut self) {
        if !std::mem::take(&mut self.promotions_dirty) {
            return;
        }
        let mut promotions = std::mem::take(&mut self.promotions);
        promotions.refresh(|written| Some((self.gives(written)?, self.rank(written))));
        self.promotions = promotions;
    }

    /// Who gives promotions by an entry: `Some(None)` for the market, `None` for nobody.
    fn gives(&self, written: &Written) -> Option<Option<String>> {
        if written.at.log.lane == Lane::CONTROL {
            let is_markets = self.permits(written, Scope::POLICY).is_ok() || planted::is_on(Bug::AnyGiver);
            return is_markets.then_some(None);
        }
        let certificate = self.permits(written, Scope::PUBLISH_CATALOG).ok().flatten()?;
        (!certificate.stall.is_empty()).then(|| Some(certificate.stall.clone()))
    }

    /// What the market pays of its promotions, by every entry that has effect.
    pub(super) fn promotion_shares(&self) -> impl Iterator<Item = Share<'_>> {
        self.promotions.shares().filter(|share| self.permits(share.written, Scope::POLICY).is_ok())
    }

    /// What is so at a stall at a time, in milliseconds since 1970.
    pub(crate) fn conditions(&self, stall: &str, now: u64) -> InForce {
        self.conditions.at_stall(stall, now, |written| {
            let at = self.time_of(written);
            if self.permits(written, Scope::POLICY).is_ok() {
                return Some((String::new(), at));
            }
            let certificate = self.permits(written, Scope::SIGNAL).ok().flatten()?;
            (!certificate.stall.is_empty()).then(|| (certificate.stall.clone(), at))
        })
    }

    /// Incarnations of a device that lived at the same time without knowing of each other: two copies of one disk.
    pub(crate) fn clones(&self, device: &DeviceId) -> Option<(Incarnation, Incarnation)> {
        self.known_clones.get(device).copied().or_else(|| self.find_clones(device))
    }

    /// What was found once stays found, also when a carrier has let go of the entries that show it.
    pub(crate) fn note_clones(&mut self, device: DeviceId, found: (Incarnation, Incarnation)) -> bool {
        self.standings_dirty = true;
        self.known_clones.insert(device, found).is_none()
    }

    pub(crate) fn known_clones(&self) -> &BTreeMap<DeviceId, (Incarnation, Incarnation)> {
        &self.known_clones
    }

    fn find_clones(&self, device: &DeviceId) -> Option<(Incarnation, Incarnation)> {
        let lives = self.lives.get(device)?;
        let descends = |from: &Incarnation, to: &Incarnation| {
            let (mut open, mut known) = (vec![*from], BTreeSet::new());
            while let Some(next) = open.pop() {
                if next == *to {
                    return true;
                }
                if known.insert(next) {
                    open.extend(lives.get(&next).into_iter().flat_map(|life| life.parents.iter().copied()));
                }
            }
            false
        };
        // A copy of a running device's disk names its original as its parent, and the original goes on.
        for (child, life) in lives {
            for parent in &life.parents {
                if lives.get(parent).is_some_and(|outliving| life.is_outlived_by(parent, outliving)) {
                    return Some((*parent, *child));
                }
            }
        }
        let all: Vec<(&Incarnation, &Life)> = lives.iter().filter(|(_, life)| life.opened).collect();
        for (index, (one, life)) in all.iter().enumerate() {
            for (other, second) in &all[index + 1..] {
                let overlap = life.first < second.last && second.first < life.last;
                if overlap && !descends(one, other) && !descends(other, one) {
                    return Some((**one, **other));
                }
            }
        }
        None
    }

    /// The incarnation of a device that was opened last, as far as is known here.
    pub(crate) fn latest_incarnation(&self, device: &DeviceId) -> Option<Incarnation> {
        let lives = self.lives.get(device)?;
        lives.iter().max_by_key(|(incarnation, life)| (life.first, **incarnation)).map(|(incarnation, _)| *incarnation)
    }

    /// The newest time at which a device says that it wrote something that is held here; 0 for never.
    pub(crate) fn last_written(&self, device: &DeviceId) -> u64 {
        self.lives.get(device).into_iter().flat_map(BTreeMap::values).map(|life| life.last).max().unwrap_or(0)
    }

    /// Whether what a device writes now has no effect, for it signed two histories of one log.
    pub(crate) fn is_quarantined(&self, device: &DeviceId) -> bool {
        let latest = self.latest_incarnation(device).unwrap_or(Incarnation::from_bytes([0; 16]));
        self.membership.is_quarantined(device, &latest)
    }

    /// Incarnations of a device that some later one has named as its parent.
    pub(crate) fn named_incarnations(&self, device: &DeviceId) -> BTreeSet<Incarnation> {
        self.lives
            .get(device)
            .into_iter()
            .flat_map(|lives| lives.values())
            .flat_map(|life| life.parents.iter().copied())
            .collect()
    }
}

/// Those versions that no other one of them names as replaced.
pub(super) fn unreplaced<'a, M: 'a>(
    all: impl IntoIterator<Item = &'a (Written, M), IntoIter: Clone>,
    replaces: impl Fn(&M) -> &Vec<Vec<u8>>,
) -> impl Iterator<Item = &'a (Written, M)> {
    let all = all.into_iter();
    let replaced: BTreeSet<Hash> = all
        .clone()
        .flat_map(|(_, message)| replaces(message).iter().filter_map(|hash| Hash::try_from(hash.as_slice()).ok()))
        .collect();
    all.filter(move |(written, _)| !replaced.contains(&written.at.hash))
}
