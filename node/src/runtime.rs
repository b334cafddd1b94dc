//! A running node: the engine on a thread of its own, and around it the shells that carry out what it decides.
//!
//! The engine's thread takes whatever has come in, handles all of it, commits once, and then lets the effects out: so
//! callers that come at the same time share a commit, and no socket ever waits for a disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stallmesh_protocol::Hash;
use stallmesh_protocol::sign::DeviceKey;
use tokio::sync::{mpsc, oneshot};

use crate::card_reader::{self, ReaderCall, ReaderReply};
use crate::config::{Config, GatewayKind};
use crate::engine::{
    Answer, Effect, Engine, EngineError, Failure, FailureCode, Input, Now, Request, RequestId, Settings,
};
use crate::events::Events;
use crate::gateway::{self, GatewayCall, GatewayReply, TestGateway, TestGatewayError};
use crate::identity::{self, IdentityError};
use crate::link::{Channel, LinkCommand, LinkEvent, LinkNumbers, Road};
use crate::mesh::{self, MeshConfig, MeshError};
use crate::phases;
use crate::store::{CACHE_BYTES, DirectoryLock, RedbStore, StoreError};
use crate::uplink::{self, UplinkConfig, UplinkError};

/// Inputs that are handled before one commit.
const TURN_MAX: usize = 256;
/// Link events that wait for the engine; then the shells stop reading.
const LINK_EVENTS_MAX: usize = 256;
/// Requests that wait for the engine; then callers are told that the node is busy.
const REQUESTS_MAX: usize = 1024;
/// A request that isn't answered in this time has failed for its caller; what it wrote stands.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Answers of a gateway that wait for the engine.
const REPLIES_MAX: usize = 64;
/// What a hub's test gateway remembers.
const TEST_GATEWAY_FILE: &str = "test-gateway.jsonl";
/// Over a clean stop of a hub: what nodes resume their connections from.
const TICKETS_FILE: &str = "uplink.tickets";
/// The longest sleep of the engine's thread: suspended machines wake up late, not never.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Why a node could not start, or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory can't be made or read.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The mesh.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The uplink.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The test gateway.
    #[error(transparent)]
    TestGateway(#[from] TestGatewayError),
    /// A thread could not be made, or has broken down.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}

type Asked = (Request, oneshot::Sender<Answer>);

/// Asks a running node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    requests: mpsc::Sender<Asked>,
    events: Events,
    /// The data directory, for keys.
    directory: Arc<Path>,
    last_words: LastWords,
}

/// Why the engine ended: whoever asks after that is told, and not only who asked before.
type LastWords = Arc<OnceLock<Failure>>;

impl NodeHandle {
    /// Asks, and waits for the answer; it comes after what the request wrote is durable.
    pub async fn ask(&self, request: Request) -> Answer {
        let unavailable = |detail: &str| Answer::Failed(Failure::new(FailureCode::EUnavailable, detail));
        let (sender, receiver) = oneshot::channel();
        match self.requests.try_send((request, sender)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return unavailable("the node is busy: try again"),
            Err(mpsc::error::TrySendError::Closed(_)) => return self.stopped("the node has stopped"),
        }
        match tokio::time::timeout(ANSWER_WITHIN, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => self.stopped("the node has stopped; whether it was done is known after its restart"),
            Err(_) => unavailable("no answer in time; send the same request again"),
        }
    }

    fn stopped(&self, otherwise: &str) -> Answer {
        let why = self.last_words.get().cloned();
        Answer::Failed(why.unwrap_or_else(|| Failure::new(FailureCode::EUnavailable, otherwise)))
    }

    /// Hub: a new opening key is in use from now on. Answers with the name of its file, in the data directory. With a key
    /// and the hash of what was asked: once.
    ///
    /// # Errors
    /// This is no hub, or the key could not be kept.
    pub async fn rotate_opening_key(&self, once: Option<(String, Hash)>) -> Result<Answer, Failure> {
        if let Some((key, asked)) = once.clone() {
            match self.ask(Request::Recall { key, asked }).await {
                Answer::Failed(failure) if failure.code == FailureCode::ENotFound => {}
                known => return Ok(known),
            }
        }
        let unavailable = |error: IdentityError| Failure::new(FailureCode::EUnavailable, error.to_string());
        let secret = identity::random().map_err(unavailable)?;
        let directory = self.directory.clone();
        // The file is durable before any entry names its key: what is sealed to a key can always be opened.
        let written = tokio::task::spawn_blocking(move || identity::add_opening_key(&directory, &secret)).await;
        let file = written
            .map_err(|error| Failure::new(FailureCode::EUnavailable, error.to_string()))?
            .map_err(unavailable)?;
        let request = Request::RotateOpeningKey { secret, file: file.clone() };
        let answer = match once {
            Some((key, asked)) => self.ask(Request::Once { key, asked, request: Box::new(request) }).await,
            None => self.ask(request).await,
        };
        let is_used = match &answer {
            // Where nobody can know whether an entry was written, the key stays.
            Answer::Failed(failure) => failure.code == FailureCode::EUnavailable,
            // The same request that came at the same time has made another.
            Answer::OpeningKey(used) => *used == file,
            _ => true,
        };
        if !is_used {
            let _ = std::fs::remove_file(self.directory.join(&file));
        }
        Ok(answer)
    }

    /// What changes.
    pub fn events(&self) -> &Events {
        &self.events
    }
}

/// A node that runs.
#[derive(Debug)]
pub struct RunningNode {
    /// To ask it.
    pub handle: NodeHandle,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<Result<(), NodeError>>,
    shells: [tokio::task::JoinHandle<()>; 2],
}

impl RunningNode {
    /// Waits until the node has stopped by itself: an error of its disk, say.
    ///
    /// A road that broke down is an end, too: a node that sells and reaches nobody any more must not look like one that
    /// runs.
    pub async fn ended(&mut self) -> NodeError {
        let [mesh, uplink] = &mut self.shells;
        let broken = tokio::select! {
            biased;
            ended = &mut self.ended => return end_of(ended),
            _ = mesh => "its roads in the market broke down; see the log",
            _ = uplink => "its road to the hub broke down; see the log",
        };
        // They end by themselves when the engine has, whose own word says why.
        match tokio::time::timeout(Duration::from_secs(1), &mut self.ended).await {
            Ok(ended) => end_of(ended),
            Err(_) => NodeError::Stopped(broken.into()),
        }
    }

    /// Stops the node after what it is doing.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let _ = tokio::time::timeout(Duration::from_secs(5), &mut self.ended).await;
        // The engine's end is theirs: they tell the peers, within a bound of their own.
        for shell in self.shells {
            let _ = tokio::time::timeout(Duration::from_secs(2), shell).await;
        }
    }
}

fn end_of(ended: Result<Result<(), NodeError>, oneshot::error::RecvError>) -> NodeError {
    match ended {
        Ok(Ok(())) => NodeError::Stopped("it was asked to".into()),
        Ok(Err(error)) => error,
        Err(_) => NodeError::Stopped("its engine broke down; see the log".into()),
    }
}

/// Makes the data directory, readable by its owner alone.
///
/// # Errors
/// The system refuses.
pub fn make_directory(directory: &Path) -> Result<(), NodeError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| NodeError::Directory { path: directory.to_owned(), source })
}

/// Opens the node of a data directory and starts it. Must be called inside a tokio runtime.
///
/// # Errors
/// Keys, store or sockets can't be used; nothing runs then.
pub fn start(directory: &Path, config: &Config) -> Result<RunningNode, NodeError> {
    uplink::warm_up();
    make_directory(directory)?;
    let lock = DirectoryLock::take(directory)?;
    // Before the store: a directory in which it stands already has had an identity.
    let identity = identity::load_or_create(directory)?;
    phases::reached("keys");
    let store = RedbStore::open_locked(directory, CACHE_BYTES, lock)?;
    phases::reached("store");
    let seed = *identity.device.seed();
    let settings = Settings {
        name: config.name.clone(),
        uplink_enabled: config.uplink.enabled,
        uplink_addresses: config.uplink.addresses.clone(),
        peers: config.mesh.peers.clone(),
        advertise: config.mesh.advertise.clone(),
        custody_bytes_max: config.custody.bytes_max,
        beyond_line_bytes_max: Settings::default().beyond_line_bytes_max,
        checkpoint_every_ms: config.hub.checkpoint_every_ms.max(100),
        degree: config.mesh.degree.max(1),
        rehearsal: config.rehearsal,
        gateway: config.hub.gateway != GatewayKind::None,
        card_reader: config.reader.address.is_some(),
    };
    let clock = Clock::start();
    let root = identity::read_key(directory, identity::ROOT_KEY)?;
    let mut engine = Engine::open(store, identity, settings, identity::random()?, clock.now())?;
    if let Some(root) = root
        && !engine.hold_root(DeviceKey::from_seed(&root))
    {
        tracing::warn!("{} is another market's: it is of no use here", identity::ROOT_KEY);
    }
    if let Some(recovery) = identity::read_key(directory, identity::RECOVERY_KEY)?
        && !engine.hold_recovery(&recovery).map_err(EngineError::from)?
    {
        tracing::warn!("{} is another market's: it is of no use here", identity::RECOVERY_KEY);
    }
    phases::reached("engine");

    let numbers = LinkNumbers::default();
    let (events, event_receiver) = mpsc::channel(LINK_EVENTS_MAX);
    let (mesh_commands, mesh_receiver) = mpsc::unbounded_channel();
    let (uplink_commands, uplink_receiver) = mpsc::unbounded_channel();
    let mesh_config = MeshConfig {
        listen: config.mesh.listen.clone(),
        mdns: config.mesh.mdns,
        mdns_silence_max: Duration::from_secs(config.mesh.mdns_silence_s.max(1)),
        connections_max: config.mesh.connections_max,
    };
    let mesh = mesh::start(&seed, &mesh_config, numbers.clone(), events.clone(), mesh_receiver)?;
    let uplink_config = UplinkConfig {
        listen: config.uplink.listen,
        connections_max: config.uplink.connections_max,
        reset_key: Some(reset_key(&seed)),
        resume: config.uplink.resume,
        tickets: Some(directory.join(TICKETS_FILE)),
    };
    let uplink = uplink::start(&seed, &uplink_config, numbers, events, uplink_receiver)?;
    phases::reached("shells");

    let (replies, reply_receiver) = mpsc::channel(REPLIES_MAX);
    let gateway = match config.hub.gateway {
        GatewayKind::None => None,
        GatewayKind::Test => Some(Arc::new(TestGateway::open(&directory.join(TEST_GATEWAY_FILE))?)),
    };
    let gateway = gateway.map(|gateway| gateway::start(gateway, replies));
    let (reader_replies, reader_receiver) = mpsc::channel(REPLIES_MAX);
    let within = Duration::from_millis(config.reader.within_ms);
    let card_reader = config.reader.address.map(|address| card_reader::start(address, within, reader_replies));

    let (requests, request_receiver) = mpsc::channel(REQUESTS_MAX);
    let changes = Events::new(u64::from_be_bytes(random_run()?));
    let (stop, stopped) = oneshot::channel();
    let (ended_sender, ended) = oneshot::channel();
    let last_words = LastWords::default();
    let turn = Turn {
        engine,
        clock,
        roads: HashMap::from([(Road::Mesh, mesh_commands), (Road::Uplink, uplink_commands)]),
        gateway,
        card_reader,
        waiting: HashMap::new(),
        last_words: last_words.clone(),
        next_request: 1,
        changes: changes.clone(),
    };
    std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            let incoming = Incoming {
                events: event_receiver,
                requests: request_receiver,
                gateway: reply_receiver,
                card_reader: reader_receiver,
            };
            let result = run_engine(turn, incoming, stopped);
            let _ = ended_sender.send(result);
        })
        .map_err(|error| NodeError::Stopped(format!("no thread for the engine: {error}")))?;
    let handle = NodeHandle { requests, events: changes, directory: directory.into(), last_words };
    Ok(RunningNode { handle, stop: Some(stop), ended, shells: [mesh, uplink] })
}

/// Tells the events of one run from those of another.
fn random_run() -> Result<[u8; 8], IdentityError> {
    let mut run = [0; 8];
    run.copy_from_slice(&identity::random()?[..8]);
    Ok(run)
}

fn reset_key(seed: &[u8; 32]) -> [u8; 64] {
    let mut key = [0; 64];
    blake3::Hasher::new_derive_key("stallmesh 1 uplink reset key").update(seed).finalize_xof().fill(&mut key);
    key
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        Clock { start: Instant::now() }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic_ms: self.start.elapsed().as_millis() as u64, wall_ms: wall.as_millis() as u64 }
    }
}

struct Turn {
    engine: Engine<RedbStore>,
    clock: Clock,
    roads: HashMap<Road, mpsc::UnboundedSender<LinkCommand>>,
    gateway: Option<mpsc::UnboundedSender<GatewayCall>>,
    card_reader: Option<mpsc::UnboundedSender<ReaderCall>>,
    waiting: HashMap<RequestId, oneshot::Sender<Answer>>,
    next_request: u64,
    changes: Events,
    last_words: LastWords,
}

/// What comes to the engine's thread.
struct Incoming {
    events: mpsc::Receiver<LinkEvent>,
    requests: mpsc::Receiver<Asked>,
    gateway: mpsc::Receiver<GatewayReply>,
    card_reader: mpsc::Receiver<ReaderReply>,
}

impl Incoming {
    /// Something that is there already: whoever waits at the till goes before whatever comes over the network.
    fn try_next(&mut self, turn: &mut Turn) -> Option<Input> {
        if let Ok(asked) = self.requests.try_recv() {
            return Some(turn.ask(asked));
        }
        if let Ok(reply) = self.card_reader.try_recv() {
            return Some(Input::Reader(reply));
        }
        if let Ok(reply) = self.gateway.try_recv() {
            return Some(Input::Gateway(reply));
        }
        self.events.try_recv().ok().map(Input::Link)
    }
}

fn run_engine(mut turn: Turn, mut incoming: Incoming, mut stopped: oneshot::Receiver<()>) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| NodeError::Stopped(error.to_string()))?;
    turn.finish()?;
    loop {
        let now = turn.clock.now().monotonic_ms;
        let sleep = turn
            .engine
            .poll_timeout()
            .map_or(SLEEP_MAX, |at| Duration::from_millis(at.saturating_sub(now)).min(SLEEP_MAX));
        let first = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = &mut stopped => None,
                asked = incoming.requests.recv() => Some(asked.map_or(Input::Tick, |asked| turn.ask(asked))),
                Some(reply) = incoming.card_reader.recv() => Some(Input::Reader(reply)),
                Some(reply) = incoming.gateway.recv() => Some(Input::Gateway(reply)),
                event = incoming.events.recv() => Some(event.map_or(Input::Tick, Input::Link)),
                () = tokio::time::sleep(sleep) => Some(Input::Tick),
            }
        });
        let Some(first) = first else { return Ok(()) };
        let tick = first == Input::Tick;
        turn.handle(first);
        for _ in 0..TURN_MAX {
            let Some(input) = incoming.try_next(&mut turn) else { break };
            turn.handle(input);
        }
        if !tick && turn.engine.poll_timeout().is_some_and(|at| at <= turn.clock.now().monotonic_ms) {
            turn.handle(Input::Tick);
        }
        turn.finish()?;
    }
}

impl Turn {
    fn ask(&mut self, (request, sender): Asked) -> Input {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.waiting.insert(id, sender);
        Input::Request(id, request)
    }

    fn handle(&mut self, input: Input) {
        // Of what has left, the engine counts the bulk alone: it need not turn for each small frame twice.
        if matches!(&input, Input::Link(LinkEvent::Sent { channel, .. }) if *channel != Channel::Bulk) {
            return;
        }
        let now = self.clock.now();
        self.engine.handle(input, now);
    }

    /// Commits what the turn has written, and lets its effects out.
    fn finish(&mut self) -> Result<(), NodeError> {
        if let Err(error) = self.engine.commit(self.clock.now()) {
            let code = match &error {
                EngineError::Store(StoreError::Full { .. }) => FailureCode::EStorageFull,
                _ => FailureCode::EUnavailable,
            };
            let failure = Failure::new(code, error.to_string());
            for (_, sender) in self.waiting.drain() {
                let _ = sender.send(Answer::Failed(failure.clone()));
            }
            let _ = self.last_words.set(failure);
            return Err(error.into());
        }
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Answer(id, answer) => {
                    if let Some(sender) = self.waiting.remove(&id) {
                        let _ = sender.send(answer);
                    }
                }
                Effect::Notice(notice) => {
                    self.changes.tell(notice);
                }
                Effect::Gateway(call) => {
                    if let Some(gateway) = &self.gateway {
                        let _ = gateway.send(call);
                    }
                }
                Effect::Reader(call) => {
                    if let Some(card_reader) = &self.card_reader {
                        let _ = card_reader.send(call);
                    }
                }
                Effect::Link(road, command) => {
                    if let Some(commands) = self.roads.get(&road) {
                        let _ = commands.send(command);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn running(
        shells: [tokio::task::JoinHandle<()>; 2],
    ) -> (RunningNode, oneshot::Sender<Result<(), NodeError>>, mpsc::Receiver<Asked>) {
        let (requests, asked) = mpsc::channel(1);
        let (ended_sender, ended) = oneshot::channel();
        let last_words = LastWords::default();
        let handle = NodeHandle { requests, events: Events::new(1), directory: Path::new("unused").into(), last_words };
        (RunningNode { handle, stop: None, ended, shells }, ended_sender, asked)
    }

    /// Nothing here can be broken from outside: what a broken part leaves behind is dropped or panics by hand.
    #[tokio::test(start_paused = true)]
    async fn adv_140_whichever_part_breaks_down_the_node_ends_and_says_which() {
        let lives = || tokio::spawn(std::future::pending());
        let (mut node, engine, asked) = running([lives(), lives()]);
        drop((engine, asked));
        let end = node.ended().await.to_string();
        assert!(end.contains("engine broke down"), "{end}");
        let answer = node.handle.ask(Request::Status).await;
        assert!(matches!(answer, Answer::Failed(failure) if failure.code == FailureCode::EUnavailable));
        // Who asks after the end is told the reason of it, if it had one.
        let full = Failure::new(FailureCode::EStorageFull, "the disk is full");
        node.handle.last_words.set(full.clone()).unwrap();
        assert_eq!(node.handle.ask(Request::Status).await, Answer::Failed(full));
        for broken in 0..2 {
            let breaks = tokio::spawn(async { panic!("planted") });
            let shells = if broken == 0 { [breaks, lives()] } else { [lives(), breaks] };
            let (mut node, _engine, _asked) = running(shells);
            let end = node.ended().await.to_string();
            assert!(end.contains("road") && end.contains("broke down"), "{end}");
        }
        // Where the engine has ended for a reason, that is the reason.
        let (mut node, engine, _asked) = running([tokio::spawn(async {}), tokio::spawn(async {})]);
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            let _ = engine.send(Err(NodeError::Stopped("the disk is full".into())));
        });
        let end = node.ended().await.to_string();
        assert!(end.contains("the disk is full"), "{end}");
    }
}
