//! What a whole node does: logs, views, checkout, custody, hub.
//!
//! Deterministic: the same store, identity, seed, inputs and times give the same effects. It knows neither sockets nor
//! clocks nor threads. The caller
//!
//! 1. hands over what happened with [`Engine::handle`], as often as it likes;
//! 2. calls [`Engine::commit`], which makes everything written since the last commit durable, at once;
//! 3. carries out what [`Engine::poll_effect`] gives. Nothing that depends on a write leaves before its commit.
//! 4. calls again with [`Input::Tick`] at [`Engine::poll_timeout`].
//!
//! After an error of [`Engine::commit`] the engine must be dropped and opened anew.
//!
//! | module | what it decides |
//! | --- | --- |
//! | `author` | writing own logs: incarnations, day keys, signatures |
//! | `logs`, `overlay` | what is held, and how it stands in the store |
//! | `views`, `catalog` | what the entries say: members, keys, settlements, products |
//! | `ingest`, `incarnations` | what becomes of pages that peers send, and how many lives of a device are held |
//! | `links`, `join`, `gate`, `peers` | who may talk to us, who gets in, who gets how much, whom to dial |
//! | `ways`, `custody` | who carries whose sealed sales, and what the hub has acknowledged |
//! | `erasure` | what is said about a person goes |
//! | `pricing`, `promotions`, `conditions` | what a basket costs here and now |
//! | `baskets`, `tenders`, `checkout`, `sales` | open baskets, parts of payments, recording a sale; how safe each is |
//! | `payments` | cards on line first: intents, their outcomes, and sales that wait for them |
//! | `stock`, `presync` | what is left of a product; whether what a market day needs is here |
//! | `signals`, `judgement` | what is said about cards, devices and people; whether a payment is taken, asked about or declined |
//! | `hub` | admitting, renewing, checkpoints, settling, opening keys, taking a burned hub's place; statements and read keys at a stall |
//! | `answers`, `explain`, `export` | what people ask |

mod answers;
mod author;
mod baskets;
mod cards;
mod catalog;
mod checkout;
mod clock;
mod conditions;
mod custody;
mod erasure;
mod explain;
mod export;
mod gate;
mod hub;
mod incarnations;
mod ingest;
mod join;
mod judgement;
mod links;
mod logs;
mod market;
mod once;
mod overlay;
mod payments;
mod peers;
mod policies;
mod presync;
mod pricing;
mod promotions;
mod publishing;
mod request;
mod sales;
mod show;
mod signals;
mod stock;
mod tenders;
mod views;
mod ways;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use stallmesh_protocol::checkpoint::CheckpointWriter;
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::replica::{Channel as ReplicaChannel, Holdings, Limits, Output, Replica, SessionId};
use stallmesh_protocol::seal::{DayKey, SealError, SealKey};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Lane, LogName, MarketId, wire};

use self::author::Writer;
use self::clock::TrustedClock;
use self::custody::Custody;
pub use self::export::{ExportError, Recomputed, RecomputedSale, recompute};
use self::hub::{Books, GatewayBook, OpeningKeys, Recovery, Renewals};
use self::join::Joining;
pub(crate) use self::join::hello_tag;
use self::judgement::Judge;
use self::links::Link;
use self::logs::{HeldAncestry, Logs};
pub use self::market::{CreateError, MarketOrder, RecoveryOrder, create_market, recover_market};
use self::overlay::Overlay;
use self::payments::Payments;
use self::peers::PeerBook;
use self::pricing::Pricing;
pub use self::request::*;
use self::sales::SalesBook;
use self::views::Views;
use self::ways::Ways;
use crate::card_reader::{ReaderCall, ReaderReply};
use crate::gateway::{GatewayCall, GatewayReply};
use crate::link::{Channel, LinkCommand, LinkEvent, LinkId, Road};
use crate::store::{Store, StoreError, Table};

/// What time it is: the caller's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since some moment before the start; never falls.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970 by the device's clock; may be anything.
    pub wall_ms: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "an input is moved once, and what people ask is rare beside what links bring"
)]
pub enum Input {
    /// On a link.
    Link(LinkEvent),
    /// Somebody asks.
    Request(RequestId, Request),
    /// A hub's gateway has answered.
    Gateway(GatewayReply),
    /// The card reader has.
    Reader(ReaderReply),
    /// Time has passed.
    Tick,
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// By the shell of a road.
    Link(Road, LinkCommand),
    /// Answer a request.
    Answer(RequestId, Answer),
    /// Tell whoever listens.
    Notice(Notice),
    /// By a hub's gateway; the same call may come again, also after a restart.
    Gateway(GatewayCall),
    /// By the card reader beside this till; the same call may come again, too.
    Reader(ReaderCall),
}

/// The keys of a device.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The device key.
    pub device: DeviceKey,
    /// X25519 secret: what is wrapped for this device.
    pub seal_secret: [u8; 32],
    /// A hub's opening keys (X25519 secrets), the oldest first: those that are no longer in use still open.
    pub opening_secrets: Vec<[u8; 32]>,
}

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What people call this device, before a certificate says it.
    pub name: String,
    /// Whether this node may dial the hub at the start.
    pub uplink_enabled: bool,
    /// `host:port` of hubs, beside those of the invite.
    pub uplink_addresses: Vec<String>,
    /// Multiaddrs of peers.
    pub peers: Vec<String>,
    /// Multiaddrs to be told to others, beside those that it listens on.
    pub advertise: Vec<String>,
    /// The most bytes of others' sealed entries that are kept.
    pub custody_bytes_max: u64,
    /// The most bytes that are taken of a revoked device beyond its line.
    pub beyond_line_bytes_max: u64,
    /// Milliseconds between a hub's checkpoints while something changes.
    pub checkpoint_every_ms: u64,
    /// How many links to hold in the market.
    pub degree: usize,
    /// Every sale is a rehearsal, whatever whoever records it says.
    pub rehearsal: bool,
    /// Hub: whether there is a gateway that authorises cards.
    pub gateway: bool,
    /// Whether a card reader stands beside this till.
    pub card_reader: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: String::new(),
            uplink_enabled: false,
            uplink_addresses: Vec::new(),
            peers: Vec::new(),
            advertise: Vec::new(),
            custody_bytes_max: 256 * 1024 * 1024,
            beyond_line_bytes_max: custody::BEYOND_LINE_BYTES_MAX,
            checkpoint_every_ms: 2_000,
            degree: 6,
            rehearsal: false,
            gateway: false,
            card_reader: false,
        }
    }
}

/// Why an engine can't go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key is unusable.
    #[error("a key of this device is damaged: {0}")]
    Key(#[from] SealError),
    /// The store belongs to another device than the key.
    #[error("this data directory belongs to device {0:?}, but device.key is another's: put the right key back")]
    OtherDevice(DeviceId),
    /// Nothing can be written before a market is known.
    #[error("this device is in no market yet: join one first")]
    NoMarket,
    /// Nothing can be sealed to a hub whose key isn't known.
    #[error(
        "the hub's key isn't known here yet, so a sale could never be read there: wait until this node has met a member"
    )]
    NoOpeningKey,
    /// An own entry could not be written.
    #[error("an entry could not be written: {0}")]
    Append(#[from] stallmesh_protocol::log::AppendError),
}

/// A market that this node is a member of, or joins.
#[derive(Clone, Copy, Debug)]
struct Market {
    id: MarketId,
    root: DeviceId,
}

/// A whole node.
pub struct Engine<S> {
    overlay: Overlay<S>,
    device: DeviceKey,
    seal_key: SealKey,
    opening: OpeningKeys,
    recovery: Recovery,
    settings: Settings,
    random: ChaCha20Rng,
    incarnation: Incarnation,
    started: Now,
    now: Now,
    clock: TrustedClock,
    /// First error of the store since the last commit.
    failed: Option<StoreError>,
    effects: Vec<Effect>,
    ready: VecDeque<Effect>,

    market: Option<Market>,
    logs: Logs,
    views: Views,
    writers: BTreeMap<Lane, Writer>,
    /// Logs that grew since the last commit, and which session that came from.
    grown: BTreeMap<LogName, Option<SessionId>>,
    replica: Option<Replica>,
    links: BTreeMap<LinkId, Link>,
    listening: BTreeSet<(Road, String)>,
    book: PeerBook,
    joining: Option<Joining>,
    admitted: BTreeSet<DeviceId>,
    /// Up to where each forked log counts, as far as was acted upon.
    fork_limits: BTreeMap<LogName, Head>,
    /// On which links another branch was taken already, for want of knowing which one leads to the limit.
    branches_tried: BTreeSet<(SessionId, LogName, Head)>,
    /// Where pages of other branches were seen to diverge first: by link, log, the sequence at which it is known to part,
    /// and what of it counts.
    divergences: BTreeMap<(SessionId, LogName, u64, Head), u64>,
    /// Erasures that were carried out here.
    erased: BTreeSet<Position>,
    custody: Custody,
    ways: Ways,
    checkpoints: CheckpointWriter,
    checkpoint_at: Option<u64>,
    /// The stall's read key that this run has published last.
    read_key_made: Option<hub::ReadKeyMade>,
    /// Owner of a stall: when its next read key is due, in monotonic milliseconds.
    stall_key_at: Option<u64>,
    renewals: Renewals,
    /// Day keys of sealed logs that this node can open, by (log, key entry's sequence).
    day_keys: BTreeMap<(LogName, u64, Hash), DayKey>,
    sales: SalesBook,
    /// What this device's stall has sold, by product.
    sold: stock::SoldBook,
    finder: catalog::Finder,
    presync: presync::Presync,
    /// Something came since that was looked at.
    presync_waits: bool,
    onces: once::Onces,
    pricing: Pricing,
    judge: Judge,
    payments: Payments,
    gateway: GatewayBook,
    books: Books,
    receipts: u64,
    uplink_enabled: bool,
    battery: u32,
    metered: bool,
    joined_at: Option<u64>,
    alarms: BTreeSet<String>,
    sent_bytes: u64,
    received_bytes: u64,
    /// Hub: when each waiting request came, and what it said.
    asking: BTreeMap<Hash, join::Asking>,
    /// Requests of strangers that were published for the hub, lately.
    carried: join::Carried,
    /// Hub: requests that this run has judged. Should its word have no effect, for whatever is held against this hub, it
    /// isn't repeated whenever something changes.
    judged: BTreeSet<Hash>,
}

/// What replication sees of the logs.
struct HoldingsView<'a, S> {
    logs: &'a Logs,
    overlay: &'a Overlay<S>,
}

impl<S: Store> Holdings for HoldingsView<'_, S> {
    fn page(&self, log: &LogName, from: u64, to: u64, bytes_max: usize) -> Option<(Vec<u8>, u64)> {
        let page = self.logs.page(self.overlay, log, from, to, None, bytes_max).ok()??;
        let last = page.last();
        Some((page.encode(), last))
    }

    fn hash_at(&self, log: &LogName, sequence: u64) -> Option<Hash> {
        self.logs.hash_at(self.overlay, log, sequence).ok()?
    }

    fn blob(&self, hash: &Hash) -> Option<Vec<u8>> {
        self.overlay.get(Table::Blobs, hash.as_bytes()).ok()?
    }
}

const META_DEVICE: &[u8] = b"device";
const META_ROOT: &[u8] = b"root";
const META_EPOCH: &[u8] = b"epoch";
const META_CLOCK: &[u8] = b"clock";
const META_INVITE: &[u8] = b"invite";
/// The hub's opening key, as the invite names it.
const META_OPENING: &[u8] = b"opening";
/// How keys of devices begin of which two copies were seen.
const META_CLONES: &[u8] = b"clones:";
/// The first epoch of a hub that was made anew, as 8 bytes.
const META_FENCE: &[u8] = b"fence";
/// Such a hub has not met a member yet.
const META_WAITING: &[u8] = b"waiting";
/// Until when this hub's acknowledgements count for nothing, as far as it has learnt and may not have said yet.
const META_RESTORED: &[u8] = b"restored";
/// Addresses of hubs, one a line.
const META_HUBS: &[u8] = b"hubs";
/// What this device narrows the market's limits for cards by, as JSON.
const META_NARROWED: &[u8] = b"narrowed";

impl<S: Store> Engine<S> {
    /// Opens a node: a new incarnation of its device. `seed` must be 32 fresh random bytes.
    ///
    /// # Errors
    /// The store can't be read, or belongs to another device.
    pub fn open(
        store: S,
        identity: Identity,
        settings: Settings,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Self, EngineError> {
        let mut overlay = Overlay::new(store);
        let device = identity.device.id();
        match overlay.get(Table::Meta, META_DEVICE)? {
            Some(known) if known != device.as_bytes() => {
                let known = DeviceId::try_from(known.as_slice()).unwrap_or_default();
                return Err(EngineError::OtherDevice(known));
            }
            Some(_) => {}
            None => overlay.put(Table::Meta, META_DEVICE, *device.as_bytes()),
        }
        let mut random = ChaCha20Rng::from_seed(seed);
        let mut incarnation = [0; 16];
        random.fill_bytes(&mut incarnation);
        if planted::is_on(Bug::OldIncarnation) {
            match overlay.get(Table::Meta, b"planted")?.and_then(|kept| kept.try_into().ok()) {
                Some(kept) => incarnation = kept,
                None => overlay.put(Table::Meta, b"planted", incarnation),
            }
        }
        let nowhere = MarketId::from_bytes([0; 32]);
        let mut engine = Engine {
            logs: Logs::load(nowhere, &overlay)?,
            views: Views::new(DeviceId::default(), nowhere),
            clock: TrustedClock::default(),
            device: identity.device,
            seal_key: SealKey::from_secret(&identity.seal_secret)?,
            opening: OpeningKeys::new(&identity.opening_secrets)?,
            recovery: Recovery::default(),
            book: PeerBook::new(device, settings.degree),
            uplink_enabled: settings.uplink_enabled,
            settings,
            random,
            incarnation: Incarnation::from_bytes(incarnation),
            started: now,
            now,
            failed: None,
            effects: Vec::new(),
            ready: VecDeque::new(),
            market: None,
            writers: BTreeMap::new(),
            grown: BTreeMap::new(),
            replica: None,
            links: BTreeMap::new(),
            listening: BTreeSet::new(),
            joining: None,
            admitted: BTreeSet::new(),
            fork_limits: BTreeMap::new(),
            branches_tried: BTreeSet::new(),
            divergences: BTreeMap::new(),
            erased: BTreeSet::new(),
            custody: Custody::default(),
            ways: Ways::new(&device),
            checkpoints: CheckpointWriter::default(),
            checkpoint_at: None,
            read_key_made: None,
            stall_key_at: None,
            renewals: Renewals::default(),
            day_keys: BTreeMap::new(),
            sales: SalesBook::default(),
            sold: stock::SoldBook::default(),
            finder: catalog::Finder::default(),
            presync: presync::Presync::default(),
            presync_waits: true,
            onces: once::Onces::default(),
            pricing: Pricing::default(),
            judge: Judge::default(),
            payments: Payments::default(),
            gateway: GatewayBook::default(),
            books: Books::default(),
            receipts: 0,
            battery: 0,
            metered: false,
            joined_at: None,
            alarms: BTreeSet::new(),
            sent_bytes: 0,
            received_bytes: 0,
            asking: BTreeMap::new(),
            carried: join::Carried::default(),
            judged: BTreeSet::new(),
            overlay,
        };
        for address in engine.settings.peers.clone() {
            engine.book.configure(address);
        }
        for address in engine.settings.uplink_addresses.clone() {
            engine.book.add_hub(address);
        }
        let floor = engine.overlay.get(Table::Meta, META_CLOCK)?;
        let floor = floor.and_then(|bytes| bytes.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
        let floor = if planted::is_on(Bug::ClockForgotten) { 0 } else { floor };
        engine.clock = TrustedClock::start(floor, now);
        engine.load_peers()?;
        if let (Some(root), Some(epoch)) =
            (engine.overlay.get(Table::Meta, META_ROOT)?, engine.overlay.get(Table::Meta, META_EPOCH)?)
            && let (Ok(root), Ok(epoch)) = (DeviceId::try_from(root.as_slice()), epoch.as_slice().try_into())
        {
            engine.enter_market(root, u32::from_be_bytes(epoch))?;
        }
        if let Some(invite) = engine.overlay.get(Table::Meta, META_INVITE)? {
            engine.resume_joining(&invite);
        }
        engine.load_judge()?;
        engine.load_exposure()?;
        engine.load_payments()?;
        engine.load_gateway()?;
        engine.load_sales()?;
        engine.load_onces()?;
        engine.tick();
        Ok(engine)
    }

    /// From here on this node knows which market it is in, or wants into: loads what it holds of it.
    fn enter_market(&mut self, root: DeviceId, epoch: u32) -> Result<(), StoreError> {
        let id = MarketId::new(&root, epoch);
        self.market = Some(Market { id, root });
        // Written once: a start that writes nothing dials without waiting for a disk.
        let known = self.overlay.get(Table::Meta, META_ROOT)?;
        if known.as_deref() != Some(root.as_bytes()) {
            self.overlay.put(Table::Meta, META_ROOT, *root.as_bytes());
            self.overlay.put(Table::Meta, META_EPOCH, epoch.to_be_bytes());
        }
        self.logs = Logs::load(id, &self.overlay)?;
        self.views = self.read_views()?;
        self.load_clones()?;
        let mut replica = Replica::new(id, self.incarnation, Limits::default());
        for (name, record) in self.logs.iter() {
            if name.lane.is_kept_by_all()
                && let Some(run) = record.main()
            {
                replica.load(*name, run.head());
            }
        }
        self.load_proofs()?;
        self.replica = Some(replica);
        self.load_presync()?;
        self.load_recovery()?;
        self.load_restoration()?;
        self.load_inherited_keys()?;
        self.refresh();
        self.forks_into_replica();
        self.load_custody()?;
        self.load_checkpoints();
        Ok(())
    }

    /// Takes in something that happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.advance(now);
        match input {
            Input::Link(event) => self.handle_link(event),
            Input::Request(id, request) => self.answer_or_wait(id, request),
            Input::Gateway(reply) => self.gateway_replied(&reply),
            Input::Reader(reply) => self.reader_replied(reply),
            Input::Tick => self.tick(),
        }
        self.pump();
    }

    /// Makes everything written durable, and releases what depends on it.
    ///
    /// # Errors
    /// The store failed: nothing since the last commit counts, and the engine must be opened anew.
    pub fn commit(&mut self, now: Now) -> Result<(), EngineError> {
        self.advance(now);
        self.sign_heads();
        if let Some(error) = self.failed.take() {
            self.effects.clear();
            return Err(error.into());
        }
        if let Err(error) = self.overlay.commit() {
            self.effects.clear();
            return Err(error.into());
        }
        self.spread_growth();
        self.push_custody();
        self.pump();
        // What spreading wrote (an alarm, an acknowledgement kept) must be durable before its frames leave, too.
        if self.overlay.is_dirty() {
            self.sign_heads();
            if let Some(error) = self.failed.take() {
                self.effects.clear();
                return Err(error.into());
            }
            if let Err(error) = self.overlay.commit() {
                self.effects.clear();
                return Err(error.into());
            }
            self.spread_growth();
            self.drain_sends();
        }
        self.ready.extend(self.effects.drain(..));
        Ok(())
    }

    /// What to do next; durable as far as it depends on writes.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.ready.pop_front()
    }

    /// When to call with [`Input::Tick`] at the latest, in monotonic milliseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        [
            self.replica.as_ref().and_then(Replica::poll_timeout),
            self.dial_timeout(),
            self.checkpoint_at,
            self.stall_key_at,
            self.renewals.poll_timeout(),
            self.joining.as_ref().and_then(Joining::poll_timeout),
            self.custody.poll_timeout(),
            self.payments.poll_timeout(),
            self.ways.poll_timeout(),
            self.link_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn advance(&mut self, now: Now) {
        // A caller's clock that stood still or fell is no reason to count backwards.
        self.now.monotonic_ms = self.now.monotonic_ms.max(now.monotonic_ms);
        self.now.wall_ms = now.wall_ms;
    }

    fn tick(&mut self) {
        let now = self.now.monotonic_ms;
        if let Some(replica) = &mut self.replica {
            replica.handle_timeout(now, &HoldingsView { logs: &self.logs, overlay: &self.overlay });
        }
        self.keep_time();
        self.link_timeouts();
        self.joining_tick();
        self.custody_tick();
        self.payments_tick();
        if self.ways.poll_timeout().is_some_and(|at| at <= now) {
            self.update_status();
        }
        self.hub_tick();
        self.stall_key_tick();
        self.renewal_tick();
        self.dial();
    }

    /// Carries out what replication wants, until it wants nothing.
    fn pump(&mut self) {
        while let Some(output) = self.replica.as_mut().and_then(Replica::poll_output) {
            self.carry_out(output);
        }
        self.refresh();
        self.note_presync();
    }

    /// After the last commit of a turn nothing may be written any more: only frames are taken out.
    fn drain_sends(&mut self) {
        let mut later = Vec::new();
        while let Some(output) = self.replica.as_mut().and_then(Replica::poll_output) {
            match output {
                Output::Send { session, channel, frame } => self.send_frame(session, channel, frame),
                other => later.push(other),
            }
        }
        // Spreading only makes frames; whatever else there is would wait for the next turn.
        for output in later {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { session, channel, frame } => self.send_frame(session, channel, frame),
            Output::Greeted { session, incarnation, addresses } => self.greeted(session, incarnation, addresses),
            Output::Status { session, status } => self.peer_status(session, status),
            Output::Deliver { session, request, log, page, custody } => {
                self.deliver(session, request, log, &page, custody);
            }
            Output::CustodyTaken { session, log, intervals } => self.custody_taken(session, log, &intervals),
            Output::Offered { session, log, intervals } => self.offered(session, log, &intervals),
            Output::WantSealed { session, request, log, from, to } => {
                self.serve_sealed(session, request, log, from, to);
            }
            Output::Acknowledged { session, acknowledgement } => self.acknowledged(Some(session), &acknowledgement),
            Output::AskAcknowledgements { session, logs } => self.answer_acknowledgements(session, &logs),
            Output::Refused { session, log, code, detail, retry_after_ms } => {
                self.refused(session, log, code, &detail, retry_after_ms);
            }
            Output::Evidence { session, proof } => self.evidence(session, &proof),
            Output::BlobAsked { hash } => self.blob_asked(hash),
            Output::Blob { hash, bytes } => self.blob_arrived(hash, &bytes),
            Output::Close { session, reason, fault: true } => self.close_for_fault(LinkId(session.0), reason),
            Output::Close { session, reason, fault: false } => self.close_link(LinkId(session.0), reason),
        }
    }

    fn send_frame(&mut self, session: SessionId, channel: ReplicaChannel, frame: Vec<u8>) {
        let link = LinkId(session.0);
        let Some(road) = self.links.get(&link).map(|link| link.road) else { return };
        self.sent_bytes += frame.len() as u64;
        let channel = match channel {
            ReplicaChannel::Live => Channel::Live,
            ReplicaChannel::Bulk => Channel::Bulk,
        };
        self.effects.push(Effect::Link(road, LinkCommand::Send { link, channel, frame }));
    }

    /// Tells peers of every log that grew, now that it is durable.
    fn spread_growth(&mut self) {
        let now = self.now.monotonic_ms;
        for (log, source) in std::mem::take(&mut self.grown) {
            if log.lane.is_sealed() {
                self.custody.mark(log);
            }
            let Some(head) = self.logs.get(&log).and_then(|record| record.main()).map(|run| run.head()) else {
                continue;
            };
            if let Some(replica) = &mut self.replica {
                let holdings = HoldingsView { logs: &self.logs, overlay: &self.overlay };
                replica.note_head(log, head, source, now, &holdings);
            }
        }
    }

    /// Trusted time, in milliseconds since 1970.
    fn time(&self) -> u64 {
        self.clock.time(self.now)
    }

    fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// Keeps the first error of the store until the commit, which then fails.
    fn guard<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notice(notice));
    }

    fn alarm(&mut self, detail: String) {
        if self.alarms.insert(detail.clone()) {
            tracing::warn!(%detail, "alarm");
            self.notice(Notice::Alarm { detail });
        }
    }

    fn status_now(&self) -> wire::Status {
        wire::Status {
            uplink: self.has_uplink(),
            battery: self.battery,
            metered: self.metered,
            degree: self.links.len() as u32,
            full: self.custody_is_full(),
            ways: self.ways.told(),
        }
    }

    /// A hub, or a node with a live link to one that answers.
    fn has_uplink(&self) -> bool {
        let answers = |link: &LinkId| !self.custody.is_silent(SessionId(link.0));
        self.is_hub()
            || self.links.iter().any(|(link, state)| state.greeted && self.is_hub_device(&state.peer) && answers(link))
    }

    fn is_hub(&self) -> bool {
        self.is_hub_device(&self.device.id())
    }

    fn is_hub_device(&self, device: &DeviceId) -> bool {
        use stallmesh_protocol::certificate::Role;
        let membership = &self.views.membership;
        membership.role(device) == Some(Role::Hub) && !membership.is_revoked(device) && !self.views.is_burned(device)
    }

    fn ancestry(&self) -> HeldAncestry<'_, S> {
        HeldAncestry { logs: &self.logs, overlay: &self.overlay }
    }

    fn is_member(&self) -> bool {
        self.views.membership.is_known(&self.device.id())
    }

    /// The head of a log that everyone keeps, as far as it is held here.
    fn head_of(&self, log: &LogName) -> Head {
        self.logs.get(log).and_then(|record| record.main()).map_or(Head::EMPTY, |run| run.head())
    }
}
