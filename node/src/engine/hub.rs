//! What a hub does: admits devices, writes checkpoints, settles. And what every device does with its word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stallmesh_protocol::certificate::{Certificate, NAME_MAX, Role, Scope, Scopes};
use stallmesh_protocol::checkpoint::{LogUpdate, ProvenLeaf};
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::hash::{Domain, Hasher, hash};
use stallmesh_protocol::invite::{self, Invite};
use stallmesh_protocol::join::{JoinBy, JoinRequest, commitment, short_code};
use stallmesh_protocol::membership::{Ancestry, Coverage, Position};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::seal::{SealKey, associated, info, seal_to};
use stallmesh_protocol::{DeviceId, Hash, Head, Kind, Lane, LogName, MarketId};

use super::author::Parts;
use super::join::Asking;
use super::logs::{Held, Run};
use super::views::{Views, position};
use super::{
    Engine, EngineError, Failure, FailureCode, InviteOrder, JoinRequestView, LedgerView, META_CLOCK, Notice,
    SettlementView, StatementView, SuspenseView,
};
use crate::hub::ledger::{Row, balances, sums};
use crate::hub::reconcile::{FUNCTION_VERSION, Fact, Outcome, Reconciliation, Terms, batch, entry_name, reconcile};
use crate::hub::statement::{CoveredLog, Statement};
use crate::store::{Store, Table};

/// Join requests that wait for a person at the same time.
const ASKING_MAX: usize = 200;
/// Bytes of closing inputs in one entry.
const INPUT_BYTES_MAX: usize = 48 * 1024;
/// Statements that one entry names: a stall's slug has at most 60 bytes.
const STATEMENTS_MAX: usize = 400;
/// Read keys last for a day of 24 hours, in UTC.
const DAY_MS: u64 = 24 * 3_600_000;

/// What a hub has worked out and would rather not work out again.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Sales that were opened: opening costs more than everything else.
    opened: BTreeMap<Position, payload::Sale>,
    /// F over what was held then; gone when anything is written or changes its standing.
    pub(crate) reconciled: Option<Arc<Reconciliation>>,
}

impl<S: Store> Engine<S> {
    /// A checkpoint says what time it is: kept, so that a restart doesn't forget it.
    pub(crate) fn witness_time(&mut self, time: u64) {
        if self.is_hub() {
            // A hub's own checkpoints are its own clock's word.
            return;
        }
        self.clock.witness(time, self.now);
        self.keep_time();
    }

    /// Keeps the trusted time, also while the hub is away: a restart must not turn it back.
    pub(crate) fn keep_time(&mut self) {
        if let Some(time) = self.clock.due_to_keep(self.now) {
            self.overlay.put(Table::Meta, META_CLOCK, time.to_be_bytes());
        }
    }

    /// What follows from a change of members, on every device.
    pub(crate) fn after_refresh(&mut self) {
        self.ensure_stall_key();
        self.fetch_statements();
        self.read_statements();
        if self.is_hub() {
            self.publish_waiting_statements();
            self.schedule_checkpoint();
        }
        self.judge_joins();
    }

    /// Hub: judges what asks to join. Everybody: passes on what was said to those that ask here.
    pub(crate) fn judge_joins(&mut self) {
        if self.is_hub() {
            self.admit_waiting();
        }
        self.answer_askers();
    }

    /// The owner's device of a stall makes its read key, and wraps it to each device that may read.
    fn ensure_stall_key(&mut self) {
        let own = self.device.id();
        let Some(certificate) = self.views.membership.certificate(&own).cloned() else { return };
        let owns = certificate.role == Role::Stall
            && certificate.scopes.allows(Scope::GRANT)
            && certificate.scopes.allows(Scope::READ_SALES);
        if !owns {
            return;
        }
        let time = self.time();
        let day = u32::try_from(time / DAY_MS).unwrap_or(0);
        // The next day's key is due when that day begins, whether or not anything else happens then.
        self.stall_key_at = Some(self.now.monotonic_ms + DAY_MS - time % DAY_MS);
        let readers: Vec<[u8; 32]> = self
            .views
            .membership
            .devices()
            .filter(|device| !self.views.membership.is_revoked(device))
            .filter_map(|device| self.views.membership.certificate(device))
            .filter(|reader| reader.stall == certificate.stall && reader.scopes.allows(Scope::READ_SALES))
            .map(|reader| reader.seal_key)
            .collect();
        let current = self.views.stall_key(&certificate.stall);
        let complete = current.is_some_and(|key| {
            let wrapped: BTreeSet<&[u8]> = key.wraps.iter().map(|wrap| wrap.recipient.as_slice()).collect();
            // A device that was removed starts a new key; one that was added gets it, too.
            key.day == day && wrapped == readers.iter().map(|reader| reader.as_slice()).collect()
        });
        if complete || readers.is_empty() {
            return;
        }
        let secret: [u8; 32] = self.random_bytes();
        let (Some(market), Ok(key)) = (self.market, SealKey::from_secret(&secret)) else { return };
        let bound = associated(&market.id, certificate.stall.as_bytes());
        let mut wraps = Vec::new();
        for reader in &readers {
            let seed = self.random_bytes();
            match seal_to(reader, info::STALL_KEY, &bound, key.secret(), seed) {
                Ok(wrap) => wraps.push(wrap),
                Err(error) => tracing::warn!(%error, "a device of the stall has no usable key"),
            }
        }
        let message =
            payload::StallKey { stall: certificate.stall.clone(), day, public_key: key.public().to_vec(), wraps };
        if let Err(error) = self.append_public(Lane::CONTROL, Kind::STALL_KEY, encode(&message)) {
            tracing::warn!(%error, "the stall's read key could not be published");
        }
    }

    pub(crate) fn stall_key_tick(&mut self) {
        if self.stall_key_at.take_if(|at| *at <= self.now.monotonic_ms).is_some() {
            self.ensure_stall_key();
        }
    }

    /// Keys that this node could open a sealed log's day keys with.
    pub(crate) fn reading_keys(&self, log: &LogName) -> Vec<SealKey> {
        let mut keys: Vec<SealKey> = self.opening_key.iter().cloned().collect();
        if let Some(stall) = self.views.membership.stall(&log.author) {
            keys.extend(self.stall_read_keys(stall));
        }
        keys
    }

    /// A stall's read keys, as far as they are wrapped to this device.
    pub(crate) fn stall_read_keys(&self, stall: &str) -> Vec<SealKey> {
        let own = self.seal_key.public();
        let Some(market) = self.market else { return Vec::new() };
        let bound = associated(&market.id, stall.as_bytes());
        self.views
            .stall_keys(stall)
            .filter_map(|message| {
                let wrap = message.wraps.iter().find(|wrap| wrap.recipient == own)?;
                let secret = self.seal_key.open(wrap, info::STALL_KEY, &bound).ok()?;
                SealKey::from_secret(&secret.as_slice().try_into().ok()?).ok()
            })
            .collect()
    }

    // ------------------------------------------------------------------------------------------ admitting

    /// Makes an invite.
    pub(crate) fn create_invite(&mut self, order: &InviteOrder) -> Result<String, Failure> {
        let certificate = self.hub_certificate()?;
        let Some(opening) = &self.opening_key else {
            return Err(Failure::new(FailureCode::ENotHub, "this node has no opening key"));
        };
        let opening_key = opening.public();
        let role = match order.role.as_str() {
            "stall" => Role::Stall,
            "gateway" => Role::Gateway,
            other => {
                return Err(Failure::new(
                    FailureCode::EInvalid,
                    format!("role: `{other}` is neither stall nor gateway"),
                ));
            }
        };
        let slug = stallmesh_protocol::certificate::is_slug(&order.stall);
        if (role == Role::Stall) == order.stall.is_empty() || !slug {
            return Err(Failure::new(
                FailureCode::EInvalid,
                "stall: lower-case letters, digits and hyphens for stalls; empty for gateways",
            ));
        }
        if order.name.len() > NAME_MAX || order.name.chars().any(stallmesh_protocol::certificate::is_unprintable) {
            return Err(Failure::new(FailureCode::EInvalid, "name: too long, or with characters that don't print"));
        }
        let market = self.market.ok_or_else(|| Failure::new(FailureCode::ENotMember, "no market"))?;
        let epoch = self.views.market().map_or(0, |market| market.epoch);
        let time = self.time();
        let addresses = |road| -> Vec<String> {
            self.listening.iter().filter(|(on, _)| *on == road).map(|(_, address)| address.clone()).take(4).collect()
        };
        let mut hub_addresses = self.settings.uplink_addresses.clone();
        hub_addresses.extend(addresses(crate::link::Road::Uplink));
        hub_addresses.truncate(4);
        let invite = Invite {
            root: market.root,
            epoch,
            hub: self.device.id(),
            opening_key,
            id: self.random_bytes(),
            role,
            stall: order.stall.clone(),
            name: order.name.clone(),
            scopes: if role == Role::Stall { Scopes::stall_owner() } else { Scopes::gateway() },
            expires: time + order.expires_ms,
            not_after: certificate.not_after.min(time + order.valid_ms),
            hub_addresses,
            peers: Vec::new(),
        };
        Ok(invite::to_text(&invite.sign(&self.device)))
    }

    fn hub_certificate(&self) -> Result<Certificate, Failure> {
        let own = self.device.id();
        self.views
            .membership
            .certificate(&own)
            .filter(|certificate| certificate.role == Role::Hub)
            .cloned()
            .ok_or_else(|| Failure::new(FailureCode::ENotHub, "only a hub can do that: ask the market's organiser"))
    }

    /// Judges every request that members have carried here and that wasn't judged yet.
    fn admit_waiting(&mut self) {
        let mut waiting: Vec<(u64, payload::JoinRequest)> =
            self.views.join_requests.values().map(|(written, request)| (written.timestamp, request.clone())).collect();
        // What reveals a nonce comes after what committed to it.
        waiting.sort_by_key(|(written, _)| *written);
        for (_, request) in waiting {
            self.admit_request(&request);
        }
    }

    /// Judges one join request. Every request is answered once: by a certificate, a challenge or a refusal.
    pub(crate) fn admit_request(&mut self, message: &payload::JoinRequest) {
        let (Some(market), Some(opening)) = (self.market, self.opening_key.clone()) else { return };
        let Ok(id) = Hash::try_from(message.id.as_slice()) else { return };
        let answered =
            self.views.refusal(&id).is_some() || self.asking.contains_key(&id) || self.request_is_granted(&id);
        if answered {
            return;
        }
        let (_, request) = match JoinRequest::open(message, &market.id, &opening) {
            Ok(opened) => opened,
            // Not for this hub, or nobody's: another hub may be able to.
            Err(error) => return tracing::debug!(%error, "a join request that can't be opened"),
        };
        let verdict = match &request.by {
            JoinBy::Invite(bytes) => self.admit_by_invite(id, &request, bytes),
            JoinBy::Asking { .. } => self.challenge(id, &request),
            JoinBy::Revealing { request: first, nonce } => self.reveal(*first, *nonce, &request),
        };
        if let Err(reason) = verdict {
            tracing::info!(device = %request.device.short(), %reason, "refused a join request");
            let refusal = payload::JoinRefusal { request: id.as_bytes().to_vec(), reason };
            if let Err(error) = self.append_public(Lane::SIGNAL, Kind::JOIN_REFUSAL, encode(&refusal)) {
                tracing::warn!(%error, "a refusal could not be written");
            }
        }
        self.answer_askers();
    }

    fn request_is_granted(&self, id: &Hash) -> bool {
        self.views.membership.devices().any(|device| {
            self.views.membership.certificates(device).any(|certificate| certificate.request == Some(*id))
        })
    }

    fn admit_by_invite(&mut self, id: Hash, request: &JoinRequest, bytes: &[u8]) -> Result<(), String> {
        let invite = Invite::from_bytes(bytes).map_err(|error| error.to_string())?;
        let market = self.market.ok_or("no market")?;
        if invite.market() != market.id {
            return Err("the invite is for another market".into());
        }
        if !self.is_hub_device(&invite.hub) {
            return Err("the invite was not made by a hub of this market".into());
        }
        if invite.expires < self.time() {
            return Err("the invite has expired: ask the organiser for a new one".into());
        }
        let holder = self
            .views
            .membership
            .devices()
            .find(|device| {
                self.views.membership.certificates(device).any(|certificate| certificate.invite == Some(invite.id))
            })
            .copied();
        match holder {
            Some(device) if device == request.device => return Ok(()),
            Some(_) => return Err("the invite was used by another device: ask the organiser for a new one".into()),
            None => {}
        }
        let name = if request.name.is_empty() { invite.name.clone() } else { request.name.clone() };
        self.grant(
            request,
            invite.role,
            invite.stall.clone(),
            name,
            invite.scopes.clone(),
            invite.not_after,
            Some(invite.id),
            id,
        )
    }

    #[allow(clippy::too_many_arguments, reason = "each is one field of the certificate")]
    fn grant(
        &mut self,
        request: &JoinRequest,
        role: Role,
        stall: String,
        name: String,
        scopes: Scopes,
        not_after: u64,
        invite: Option<[u8; 16]>,
        id: Hash,
    ) -> Result<(), String> {
        let own = self.hub_certificate().map_err(|failure| failure.detail)?;
        if name.len() > NAME_MAX || name.chars().any(stallmesh_protocol::certificate::is_unprintable) {
            return Err("its name is too long, or has characters that don't print".into());
        }
        let certificate = Certificate {
            device: request.device,
            role,
            stall,
            name,
            scopes,
            // Entries that it wrote with a clock a little behind still fall inside.
            not_before: own.not_before.max(self.time().saturating_sub(12 * 3_600_000)),
            not_after: not_after.min(own.not_after),
            seal_key: request.seal_key,
            invite,
            request: Some(id),
        };
        certificate.narrows(&own).map_err(|error| error.to_string())?;
        self.append_public(Lane::CONTROL, Kind::CERTIFICATE, certificate.to_payload())
            .map_err(|error| error.to_string())?;
        self.refresh();
        Ok(())
    }

    fn challenge(&mut self, id: Hash, request: &JoinRequest) -> Result<(), String> {
        if self.asking.len() >= ASKING_MAX {
            return Err("too many requests wait for the organiser: try again later".into());
        }
        // A hub that was restarted keeps to the challenge that it has given.
        let nonce = match self.views.challenge(&id) {
            Some(nonce) => nonce,
            None => {
                let nonce: [u8; 16] = self.random_bytes();
                let challenge = payload::JoinChallenge { request: id.as_bytes().to_vec(), nonce: nonce.to_vec() };
                self.append_public(Lane::SIGNAL, Kind::JOIN_CHALLENGE, encode(&challenge))
                    .map_err(|error| error.to_string())?;
                nonce
            }
        };
        self.asking.insert(id, Asking { request: request.clone(), nonce, code: String::new() });
        self.notice(Notice::Members);
        Ok(())
    }

    fn reveal(&mut self, first: Hash, nonce: [u8; 16], request: &JoinRequest) -> Result<(), String> {
        let (root, opening) = match (self.market, &self.opening_key) {
            (Some(market), Some(opening)) => (market.root, opening.public()),
            _ => return Err("no market".into()),
        };
        if self.request_is_granted(&first) {
            return Ok(());
        }
        let Some(asking) = self.asking.get_mut(&first) else {
            return Err("the hub doesn't know that request any more: ask again".into());
        };
        let committed = JoinBy::Asking { commitment: commitment(&nonce, &request.device) };
        if asking.request.by != committed || asking.request.device != request.device {
            return Err("what it reveals is not what it committed to".into());
        }
        asking.code = short_code(&request.device, &opening, &root, &nonce, &asking.nonce);
        self.notice(Notice::Members);
        Ok(())
    }

    pub(crate) fn join_requests(&self) -> Vec<JoinRequestView> {
        self.asking
            .iter()
            .filter(|(id, _)| !self.request_is_granted(id))
            .map(|(id, asking)| JoinRequestView {
                request: id.to_string(),
                device: asking.request.device.to_string(),
                name: asking.request.name.clone(),
                stall: asking.request.stall.clone(),
                code: asking.code.clone(),
            })
            .collect()
    }

    /// Admits the request that shows this code.
    pub(crate) fn approve(&mut self, code: &str, valid_ms: u64) -> Result<(), Failure> {
        self.hub_certificate()?;
        let found = self
            .asking
            .iter()
            .find(|(_, asking)| !asking.code.is_empty() && asking.code == code)
            .map(|(id, asking)| (*id, asking.clone()));
        let Some((id, asking)) = found else {
            return Err(Failure::new(
                FailureCode::ENotFound,
                format!("no request shows code {code}: see `stallmesh requests`"),
            ));
        };
        let not_after = self.time() + valid_ms;
        let request = asking.request;
        let (role, scopes) = if request.stall.is_empty() {
            (Role::Gateway, Scopes::gateway())
        } else {
            (Role::Stall, Scopes::stall_owner())
        };
        self.grant(&request, role, request.stall.clone(), request.name.clone(), scopes, not_after, None, id)
            .map_err(|reason| Failure::new(FailureCode::EInvalid, reason))?;
        self.asking.remove(&id);
        Ok(())
    }

    // ------------------------------------------------------------------------------------------ checkpoints

    /// Continues the newest checkpoint's numbers after a start.
    pub(crate) fn load_checkpoints(&mut self) {
        if !self.is_hub() {
            return;
        }
        use prost::Message;
        let kept = self.overlay.scan_prefix(Table::Checkpoints, b"p");
        for (_, value) in self.guard(kept).unwrap_or_default() {
            if let Ok(leaf) = ProvenLeaf::from_bytes(&value) {
                self.views.insert_leaf(leaf);
            }
        }
        self.refresh();
        let newest = self.views.coverage.newest();
        let kept = self.overlay.scan_prefix(Table::Checkpoints, b"n");
        for (key, value) in self.guard(kept).unwrap_or_default() {
            let number = key.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
            if let (Some(number), Ok(message)) = (number, payload::InputLog::decode(value.as_slice()))
                && let (Ok(author), Ok(incarnation)) =
                    (message.author.as_slice().try_into(), message.incarnation.as_slice().try_into())
            {
                let log = LogName { author, incarnation, lane: Lane(message.lane) };
                let leaf = stallmesh_protocol::checkpoint::Leaf {
                    number,
                    log: self.logs.id(&log),
                    // What a checkpoint named stays named.
                    standing: newest.and_then(|newest| self.views.coverage.standing_at(newest, &log)),
                    received: Vec::new(),
                };
                self.checkpoints.restore(log, leaf);
            }
        }
        self.checkpoints.restore_chain(self.views.coverage.chain_of_newest());
        self.schedule_checkpoint();
    }

    fn schedule_checkpoint(&mut self) {
        if self.is_hub() {
            self.checkpoint_at.get_or_insert(self.now.monotonic_ms + self.settings.checkpoint_every_ms);
        }
    }

    pub(crate) fn hub_tick(&mut self) {
        if self.checkpoint_at.is_some_and(|at| at <= self.now.monotonic_ms) {
            self.checkpoint_at = None;
            if self.is_hub() {
                self.checkpoint();
                self.schedule_checkpoint();
            }
        }
    }

    /// Writes a checkpoint where something changed since the last one.
    pub(crate) fn checkpoint(&mut self) {
        let updates: Vec<LogUpdate> = self
            .logs
            .iter()
            // A checkpoint doesn't cover its own lane: it would never come to rest.
            .filter(|(name, _)| name.lane != Lane::CHECKPOINT)
            .map(|(name, record)| LogUpdate {
                log: *name,
                id: record.id,
                standing: self.standing_head(name, &record.runs),
                received: record.runs.iter().map(Run::interval).collect(),
            })
            .collect();
        for update in updates {
            self.checkpoints.update(update);
        }
        // One checkpoint lists so many changes; each takes some of what waits.
        while self.checkpoints.is_changed() && self.write_checkpoint() {}
    }

    fn write_checkpoint(&mut self) -> bool {
        let last = self.views.coverage.latest().map(|(checkpoint, hash)| (checkpoint.clone(), hash));
        // The store's lock fences the epoch of a hub that runs in one process: a new process takes the next one.
        let epoch = match (&last, self.writers.contains_key(&Lane::CHECKPOINT)) {
            (Some((checkpoint, _)), true) => checkpoint.epoch,
            (Some((checkpoint, _)), false) => checkpoint.epoch + 1,
            (None, _) => 1,
        };
        let time = self.time();
        let revocations = self.views.membership.revision();
        let coverage = &self.views.coverage;
        let (checkpoint, spoken_of) = self.checkpoints.next(
            last.as_ref().map(|(checkpoint, hash)| (checkpoint, *hash)),
            epoch,
            time,
            revocations,
            |name| coverage.names(name),
        );
        let held = match self.append_public(Lane::CHECKPOINT, Kind::CHECKPOINT, checkpoint.to_payload()) {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "a checkpoint could not be written");
                return false;
            }
        };
        self.keep_numbers(&spoken_of);
        self.keep_leaves(held.hash, &spoken_of);
        self.refresh();
        true
    }

    /// Keeps the numbers of logs, for a writer that continues.
    fn keep_numbers(&mut self, logs: &[LogName]) {
        use prost::Message;
        for name in logs {
            let Some(number) = self.checkpoints.number(name) else { continue };
            let key = [b"n".as_slice(), &number.to_be_bytes()].concat();
            let known = self.overlay.get(Table::Checkpoints, &key);
            if self.guard(known).flatten().is_none() {
                let message = payload::InputLog {
                    author: name.author.as_bytes().to_vec(),
                    incarnation: name.incarnation.as_bytes().to_vec(),
                    lane: name.lane.0,
                    intervals: Vec::new(),
                };
                self.overlay.put(Table::Checkpoints, key, message.encode_to_vec());
            }
        }
    }

    /// Keeps what a checkpoint says of sealed logs, which it doesn't list: whoever settles, or recomputes a settlement,
    /// must know what it named as standing.
    fn keep_leaves(&mut self, checkpoint: Hash, logs: &[LogName]) {
        for log in logs.iter().filter(|log| log.lane.is_sealed()) {
            let Some((leaf, path)) = self.checkpoints.proof(log) else { continue };
            let named = self.views.leaves().find(|known| known.log == *log).and_then(|known| known.leaf.standing);
            if leaf.standing.is_none() || leaf.standing == named {
                continue;
            }
            let leaf = ProvenLeaf { checkpoint, log: *log, leaf: leaf.clone(), path };
            let key = [b"p".as_slice(), leaf.leaf.log.as_bytes()].concat();
            self.overlay.put(Table::Checkpoints, key, leaf.to_bytes());
            self.views.insert_leaf(leaf);
        }
    }

    /// The newest entry of a log that stands.
    fn standing_head(&self, name: &LogName, runs: &[Run]) -> Option<Head> {
        let head = runs.iter().find(|run| run.from == 1)?.head();
        let at = |head: Head| Position { log: *name, sequence: head.sequence, hash: head.hash };
        let stands =
            |head: Head| self.views.membership.stands(&at(head), &self.views.coverage, &self.ancestry()).is_ok();
        if stands(head) {
            return Some(head);
        }
        // Lines and quarantines cut a log at one place: below it everything stands.
        let (mut low, mut high) = (0, head.sequence);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            let hash = self.logs.hash_at(&self.overlay, name, middle).ok().flatten()?;
            if stands(Head { sequence: middle, hash }) { low = middle } else { high = middle }
        }
        let hash = self.logs.hash_at(&self.overlay, name, low.max(1)).ok().flatten()?;
        (low > 0).then_some(Head { sequence: low, hash })
    }

    // ------------------------------------------------------------------------------------------ settling

    fn terms(&self) -> Terms {
        Terms {
            currency: self.views.market().map(|market| market.currency.clone()).unwrap_or_default(),
            fee_rate: self.views.policy().fee_rate,
        }
    }

    /// Every sale that is held, opened and judged.
    pub(crate) fn facts(&mut self) -> Vec<Fact> {
        let logs: Vec<(LogName, Vec<Run>)> =
            self.logs.on_lane(Lane::SALES).map(|(name, record)| (*name, record.runs.clone())).collect();
        let mut facts = Vec::new();
        for (name, runs) in logs {
            for run in runs {
                let reach = self.logs.reach(&self.overlay, &name, &run);
                let connected = self.guard(reach) == Some(1);
                let chain = self.logs.entries(&self.overlay, &name, &run, run.from, run.to, usize::MAX);
                for held in self.guard(chain).unwrap_or_default() {
                    if held.entry.kind == Kind::SALE {
                        facts.push(self.fact(&held, connected));
                    }
                }
            }
        }
        facts
    }

    fn fact(&mut self, held: &Held, connected: bool) -> Fact {
        let at = position(held);
        let sale = match self.books.opened.get(&at) {
            Some(sale) => Ok(sale.clone()),
            None => self.open_part(held, Part::Money).and_then(|bytes| read_sale(&bytes)),
        };
        // What can't be opened yet may be later: its key entry is on its way.
        if let Ok(sale) = &sale {
            self.books.opened.entry(at).or_insert_with(|| sale.clone());
        }
        judge(&self.views, &self.ancestry(), held, sale, connected)
    }

    /// F over all that is held now; computed once for each change.
    fn reconciled(&mut self) -> Arc<Reconciliation> {
        if let Some(known) = &self.books.reconciled {
            return known.clone();
        }
        let result = Arc::new(reconcile(self.facts(), &self.terms()));
        self.books.reconciled = Some(result.clone());
        result
    }

    fn published_rows(&mut self) -> (u64, String, Vec<Row>) {
        let kept = self.overlay.scan_prefix(Table::Closings, b"c");
        let mut rows = Vec::new();
        let (mut number, mut digest) = (0, String::new());
        for (_, value) in self.guard(kept).unwrap_or_default() {
            if let Ok(closed) = serde_json::from_slice::<ClosedBatch>(&value) {
                number = closed.number;
                digest = closed.digest;
                rows.extend(closed.rows);
            }
        }
        (number, digest, rows)
    }

    fn suspense_views(result: &Reconciliation) -> Vec<SuspenseView> {
        result
            .outcomes
            .iter()
            .filter_map(|(at, (stall, outcome))| match outcome {
                Outcome::Suspense { reason, detail, amount } => Some(SuspenseView {
                    reason: reason.clone(),
                    stall: stall.clone().unwrap_or_default(),
                    amount: *amount,
                    entry: entry_name(at),
                    detail: detail.clone(),
                }),
                _ => None,
            })
            .collect()
    }

    /// The ledger as it would stand now.
    pub(crate) fn ledger(&mut self) -> Result<LedgerView, Failure> {
        self.hub_certificate()?;
        let result = self.reconciled();
        let received = result.outcomes.len();
        let (number, _, _) = self.published_rows();
        Ok(LedgerView {
            balances: balances(&result.rows)
                .into_iter()
                .map(|((account, currency), sum)| (account, currency, clamp(sum)))
                .collect(),
            sums: sums(&result.rows).into_iter().map(|(currency, sum)| (currency, clamp(sum))).collect(),
            received,
            posted: result.posted(),
            suspense: Self::suspense_views(&result),
            settlements: number,
        })
    }

    /// Closes a batch, or says what it would be.
    pub(crate) fn settle(&mut self, dry_run: bool) -> Result<SettlementView, Failure> {
        self.hub_certificate()?;
        if !dry_run {
            // The closing names a checkpoint that covers everything that it reads.
            self.checkpoint();
        }
        let market = self.market.ok_or_else(|| Failure::new(FailureCode::ENotMember, "no market"))?;
        let terms = self.terms();
        let result = self.reconciled();
        let (last, previous, published) = self.published_rows();
        let rows = batch(&result.rows, &published);
        let number = last + 1;
        let digest = result.digest();
        let mut statements = Vec::new();
        let stalls: BTreeSet<String> = result.outcomes.values().filter_map(|(stall, _)| stall.clone()).collect();
        for stall in &stalls {
            let covered = self.covered_logs(stall);
            statements.push(Statement::new(
                &market.id.to_string(),
                number,
                &digest.to_string(),
                stall,
                &terms.currency,
                &result,
                &rows,
                covered,
            ));
        }
        let view = SettlementView {
            number,
            digest: digest.to_string(),
            dry_run,
            posted: result.posted(),
            statements: statements
                .iter()
                .map(|statement| StatementView {
                    stall: statement.stall.clone(),
                    settlement: number,
                    body: serde_json::to_value(statement).unwrap_or_default(),
                })
                .collect(),
            suspense: Self::suspense_views(&result),
            sums: sums(&rows).into_iter().map(|(currency, sum)| (currency, clamp(sum))).collect(),
        };
        if dry_run {
            return Ok(view);
        }
        let closing = self.write_closing(number, &previous, digest)?;
        let mut blobs = Vec::new();
        for statement in &statements {
            match self.seal_statement(statement)? {
                Some(blob) => blobs.push(blob),
                // Its stall's read key has not come this far: sealed and published when it does.
                None => self.overlay.put(Table::Closings, waiting_key(number, &statement.stall), statement.to_bytes()),
            }
        }
        // Each entry names as many statements as a payload holds; a settlement without any is published, too.
        let chunks = if blobs.is_empty() { vec![Vec::new()] } else { chunked(blobs) };
        for statements in chunks {
            let message = payload::Settlement {
                number,
                closing: closing.as_bytes().to_vec(),
                digest: digest.as_bytes().to_vec(),
                statements,
            };
            self.append_public(Lane::CONTROL, Kind::SETTLEMENT, encode(&message))?;
        }
        let closed = ClosedBatch { number, digest: digest.to_string(), closing: closing.to_string(), rows };
        let value = serde_json::to_vec(&closed).unwrap_or_default();
        self.overlay.put(Table::Closings, [b"c".as_slice(), &number.to_be_bytes()].concat(), value);
        self.notice(Notice::Settled { number });
        Ok(view)
    }

    fn covered_logs(&self, stall: &str) -> Vec<CoveredLog> {
        self.logs
            .on_lane(Lane::SALES)
            .filter(|(name, _)| self.views.membership.stall(&name.author) == Some(stall))
            .map(|(name, record)| CoveredLog {
                author: name.author.to_string(),
                incarnation: name.incarnation.to_string(),
                intervals: record.runs.iter().map(|run| (run.from, run.to)).collect(),
            })
            .collect()
    }

    fn write_closing(&mut self, number: u64, previous: &str, digest: Hash) -> Result<Hash, EngineError> {
        use prost::Message;
        let mut inputs: BTreeMap<[u8; 32], payload::InputLog> = BTreeMap::new();
        for (name, record) in self.logs.on_lane(Lane::SALES) {
            let intervals = record
                .runs
                .iter()
                .map(|run| payload::InputInterval { from: run.from, to: run.to, hash: run.hash.as_bytes().to_vec() })
                .collect();
            let message = payload::InputLog {
                author: name.author.as_bytes().to_vec(),
                incarnation: name.incarnation.as_bytes().to_vec(),
                lane: name.lane.0,
                intervals,
            };
            inputs.insert(*record.id.as_bytes(), message);
        }
        let inputs: Vec<payload::InputLog> = inputs.into_values().collect();
        let hasher =
            inputs.iter().fold(Hasher::new(Domain::ClosingInput), |hasher, input| hasher.sized(&input.encode_to_vec()));
        let mut chunks: Vec<Vec<payload::InputLog>> = Vec::new();
        let mut bytes = usize::MAX;
        for input in inputs {
            let length = input.encoded_len() + 8;
            if bytes.saturating_add(length) > INPUT_BYTES_MAX {
                chunks.push(Vec::new());
                bytes = 0;
            }
            bytes += length;
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(input);
            }
        }
        let count = chunks.len() as u64;
        for logs in chunks {
            let message = payload::ClosingInput { number, logs };
            let parts = Parts { money: Some(encode(&message)), personal: None };
            self.append_sealed(Lane::LEDGER, Kind::CLOSING_INPUT, &parts)?;
        }
        let checkpoint = self.views.coverage.latest().map(|(_, hash)| hash).unwrap_or(Hash::ZERO);
        let message = payload::Closing {
            number,
            checkpoint: checkpoint.as_bytes().to_vec(),
            function: FUNCTION_VERSION,
            inputs: count,
            inputs_hash: hasher.finish().as_bytes().to_vec(),
            previous: hex::decode(previous).unwrap_or_default(),
            digest: digest.as_bytes().to_vec(),
        };
        let parts = Parts { money: Some(encode(&message)), personal: None };
        Ok(self.append_sealed(Lane::LEDGER, Kind::CLOSING, &parts)?.hash)
    }

    /// Seals a statement to its stall's read key and keeps it as a blob. A stall without a key gets none yet.
    fn seal_statement(&mut self, statement: &Statement) -> Result<Option<payload::StatementBlob>, EngineError> {
        let seed = self.random_bytes();
        let Some(recipient) =
            self.views.stall_key(&statement.stall).and_then(|key| <[u8; 32]>::try_from(key.public_key.as_slice()).ok())
        else {
            return Ok(None);
        };
        let Some(market) = self.market else { return Ok(None) };
        let bound = associated(&market.id, statement.stall.as_bytes());
        let sealed = seal_to(&recipient, info::STATEMENT, &bound, &statement.to_bytes(), seed)?;
        let bytes = encode(&sealed);
        let blob = hash(Domain::Blob, &bytes);
        let length = bytes.len() as u64;
        self.overlay.put(Table::Blobs, *blob.as_bytes(), bytes);
        Ok(Some(payload::StatementBlob { stall: statement.stall.clone(), blob: blob.as_bytes().to_vec(), length }))
    }

    /// Statements whose stall's read key has arrived since their settlement.
    fn publish_waiting_statements(&mut self) {
        let waiting = self.overlay.scan_prefix(Table::Closings, b"w");
        for (key, value) in self.guard(waiting).unwrap_or_default() {
            let Ok(statement) = Statement::from_bytes(&value) else { continue };
            let closed =
                self.overlay.get(Table::Closings, &[b"c".as_slice(), &statement.settlement.to_be_bytes()].concat());
            let closed =
                self.guard(closed).flatten().and_then(|value| serde_json::from_slice::<ClosedBatch>(&value).ok());
            let (Some(closed), Ok(Some(blob))) = (closed, self.seal_statement(&statement)) else { continue };
            let message = payload::Settlement {
                number: closed.number,
                closing: hex::decode(&closed.closing).unwrap_or_default(),
                digest: hex::decode(&closed.digest).unwrap_or_default(),
                statements: vec![blob],
            };
            match self.append_public(Lane::CONTROL, Kind::SETTLEMENT, encode(&message)) {
                Ok(_) => self.overlay.delete(Table::Closings, key),
                Err(error) => tracing::warn!(%error, "a statement could not be published"),
            }
        }
    }

    // ------------------------------------------------------------------------------------------ statements at a stall

    /// Asks for statements of the own stall that have not arrived.
    fn fetch_statements(&mut self) {
        let own = self.device.id();
        let Some(stall) = self.views.membership.stall(&own).map(str::to_owned) else { return };
        let wanted: Vec<Hash> = self
            .views
            .settlements()
            .iter()
            .flat_map(|published| &published.message.statements)
            .filter(|statement| statement.stall == stall)
            .filter_map(|statement| Hash::try_from(statement.blob.as_slice()).ok())
            .collect();
        let now = self.now.monotonic_ms;
        for blob in wanted {
            let held = self.overlay.get(Table::Blobs, blob.as_bytes());
            if self.guard(held).flatten().is_none()
                && let Some(replica) = &mut self.replica
            {
                replica.want_blob(blob, now);
            }
        }
    }

    /// A neighbour looks for a statement: it is fetched for it, sealed as it is, through whoever leads to the hub.
    pub(crate) fn blob_asked(&mut self, blob: Hash) {
        let named =
            self.views.settlements().iter().any(|published| {
                published.message.statements.iter().any(|statement| statement.blob == blob.as_bytes())
            });
        let now = self.now.monotonic_ms;
        if named && let Some(replica) = &mut self.replica {
            replica.want_blob(blob, now);
        }
    }

    pub(crate) fn blob_arrived(&mut self, blob: Hash, bytes: &[u8]) {
        self.overlay.put(Table::Blobs, *blob.as_bytes(), bytes.to_vec());
        let number = self
            .views
            .settlements()
            .iter()
            .find(|published| published.message.statements.iter().any(|statement| statement.blob == blob.as_bytes()))
            .map(|published| published.message.number);
        if let Some(number) = number {
            self.notice(Notice::Settled { number });
            self.read_statements();
        }
    }

    /// Every incarnation's heads of a device, as a revocation's line names them.
    pub(crate) fn line_of(&self, device: DeviceId) -> stallmesh_protocol::membership::Line {
        self.logs
            .of_author(device)
            .filter_map(|(name, record)| {
                let head = record.main().map(Run::head).or_else(|| record.newest())?;
                Some(((name.incarnation, name.lane), head))
            })
            .collect()
    }
}

/// Statements by the entries that publish them.
fn chunked(blobs: Vec<payload::StatementBlob>) -> Vec<Vec<payload::StatementBlob>> {
    blobs.chunks(STATEMENTS_MAX).map(<[_]>::to_vec).collect()
}

/// Opens a sealed statement with whichever of a stall's read keys fits.
pub(crate) fn open_statement(market: &MarketId, sealed: &[u8], stall: &str, keys: &[SealKey]) -> Option<Statement> {
    let sealed: payload::Wrap = payload::decode("statement", sealed).ok()?;
    let bound = associated(market, stall.as_bytes());
    let opened = keys.iter().find_map(|key| key.open(&sealed, info::STATEMENT, &bound).ok())?;
    Statement::from_bytes(&opened).ok()
}

/// Reads a sale's money part.
pub(crate) fn read_sale(bytes: &[u8]) -> Result<payload::Sale, String> {
    payload::decode("sale", bytes).map_err(|error| error.to_string())
}

/// What settlement may know of one sale entry: the same function at the hub and at whoever recomputes.
pub(crate) fn judge(
    views: &Views,
    ancestry: &dyn Ancestry,
    held: &Held,
    sale: Result<payload::Sale, String>,
    connected: bool,
) -> Fact {
    let at = position(held);
    let certificate = views.membership.certificate(&held.log.author);
    let suspended = match (views.membership.stands(&at, &views.coverage, ancestry), &sale, certificate) {
        (Err(reason), _, _) => Some(reason.to_string()),
        _ if !connected => Some("E_ORPHAN: entries before it have not arrived".into()),
        (_, Ok(sale), Some(certificate)) if !certificate.scopes.allows_amount(Scope::SELL, sale.total) => {
            Some("E_SCOPE: its author may not sell for that much".into())
        }
        _ => None,
    };
    let stall = certificate.map(|certificate| certificate.stall.clone()).filter(|stall| !stall.is_empty());
    Fact { at, stall, sale, suspended }
}

/// A published batch, as it is kept.
#[derive(serde::Serialize, serde::Deserialize)]
struct ClosedBatch {
    number: u64,
    digest: String,
    closing: String,
    rows: Vec<Row>,
}

/// Where a statement waits for its stall's read key.
fn waiting_key(number: u64, stall: &str) -> Vec<u8> {
    [b"w".as_slice(), &number.to_be_bytes(), stall.as_bytes()].concat()
}

fn clamp(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}
