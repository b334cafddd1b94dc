//! Replication: what to ask of a peer, and what to send it. One sans-I/O state machine for gossip and catch-up.
//!
//! The log is the queue, gossip is a hint: a push that is lost costs one round, never data. For each session the two
//! sides find out what differs (`compare`), and each asks for what it lacks, one peer a log at a time. From then on new entries go at once along the trees of their authors (eager
//! links), and the others get a short note (lazy links), as in PlumTree (Leitão, Pereira, Rodrigues 2007); a
//! duplicate turns a link lazy, a missing entry turns it eager.
//!
//! # Order of calls
//! 1. [`Replica::open_session`] when a link to a member is up; [`Replica::close_session`] when it is gone.
//! 2. [`Replica::handle_frame`] for each frame, [`Replica::handle_sent`] when one has left.
//! 3. [`Replica::page_result`] for each [`Output::Deliver`], after what it says is durable.
//! 4. [`Replica::note_head`] for each log that grew, by own entries or others', after the commit.
//! 5. [`Replica::handle_timeout`] at [`Replica::poll_timeout`]; time is monotonic milliseconds.
//! 6. [`Replica::poll_output`] until it is empty, after any of these.

mod agreed;
mod answer;
mod blobs;
mod catch_up;
mod clock;
mod compare;
mod delta;
mod live;
mod packed;
mod runs;
mod session;
mod theirs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message;

use self::agreed::Agreed;
use self::blobs::BlobWant;
use self::catch_up::Want;
use self::clock::{Clock, Known};
pub use self::packed::{PackError, pack, unpack};
pub use self::session::LaneProgress;
use self::session::Session;
use crate::hash::Hash;
use crate::id::{DeviceId, Head, Incarnation, LogName, MarketId};
use crate::interval::Interval;
use crate::wire;

/// What a restricted peer is told.
const RESTRICTED: &str = "a device that was revoked, or whose certificate has ended, gets `control` alone";

/// The version of the session protocol.
pub const VERSION: u32 = 1;

/// Names a session: a link to one incarnation of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Which stream of a link carries a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Small and urgent.
    Live,
    /// Catch-up and blobs.
    Bulk,
}

/// Bounds, and where their numbers come from.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes on `bulk` that were handed out and not reported as sent, for one session. Two pages: one on its way,
    /// one ready.
    pub bulk_in_flight_max: usize,
    /// Requests of one peer that wait to be served; a guess, above what honest peers have outstanding.
    pub served_max: usize,
    /// Own requests outstanding with one peer.
    pub asked_max: usize,
    /// Bytes of new entries that are pushed unasked; more is asked for. About what fits a congestion window at start.
    pub push_bytes_max: usize,
    /// Milliseconds after which a note about an entry that hasn't come turns into a request: some round trips.
    pub repair_ms: u64,
    /// Milliseconds without progress after which a request goes to another peer.
    pub request_ms: u64,
    /// Milliseconds that notes are gathered before they are sent together.
    pub have_ms: u64,
    /// Milliseconds between comparisons with a peer, while anything differs or changes.
    pub compare_ms: u64,
    /// The same, while nothing does: whoever has something new compares within [`Limits::compare_ms`] of it.
    pub quiet_compare_ms: u64,
    /// Milliseconds of silence before a ping, where the transport needs any: see [`Replica::ping`].
    pub ping_ms: u64,
    /// Milliseconds of silence after which a session is dead that is pinged, or was never greeted.
    pub dead_ms: u64,
    /// Logs in one note.
    pub have_logs_max: usize,
    /// Logs of which a peer is remembered to have something else, for one session; what lies beyond is compared again
    /// when there is room. Some 1.5 MB, where a peer makes logs up.
    pub told_max: usize,
    /// Logs that are remembered as put off; what lies beyond is asked for again at each comparison.
    pub put_off_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bulk_in_flight_max: 512 * 1024,
            served_max: 256,
            asked_max: 32,
            push_bytes_max: 16 * 1024,
            repair_ms: 100,
            request_ms: 3_000,
            have_ms: 20,
            compare_ms: 30_000,
            quiet_compare_ms: 600_000,
            ping_ms: 5_000,
            dead_ms: 15_000,
            have_logs_max: 800,
            told_max: 16_384,
            put_off_max: 16_384,
        }
    }
}

/// What the node holds, as far as replication asks.
pub trait Holdings {
    /// An encoded page of a log that begins at `from` and ends at a signed entry not after `to`, in about
    /// `bytes_max` bytes, and the sequence of its last entry.
    fn page(&self, log: &LogName, from: u64, to: u64, bytes_max: usize) -> Option<(Vec<u8>, u64)>;
    /// The hash of an entry that is held.
    fn hash_at(&self, log: &LogName, sequence: u64) -> Option<Hash>;
    /// A blob that is held.
    fn blob(&self, hash: &Hash) -> Option<Vec<u8>>;
}

/// Why something is refused. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// There is no room.
    Full,
    /// The author's quota is used up.
    OverQuota,
    /// The asker may not have it, or may not hand it over.
    NotAllowed,
    /// Later.
    Busy,
    /// Not held.
    NotHeld,
    /// An entry that it needs is missing: its key entry, or a part.
    Incomplete,
    /// A number that this version doesn't know.
    Other(u32),
}

impl RefusalCode {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            RefusalCode::Full => 1,
            RefusalCode::OverQuota => 2,
            RefusalCode::NotAllowed => 3,
            RefusalCode::Busy => 4,
            RefusalCode::NotHeld => 5,
            RefusalCode::Incomplete => 6,
            RefusalCode::Other(number) => number,
        }
    }

    /// The meaning of a number.
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => RefusalCode::Full,
            2 => RefusalCode::OverQuota,
            3 => RefusalCode::NotAllowed,
            4 => RefusalCode::Busy,
            5 => RefusalCode::NotHeld,
            6 => RefusalCode::Incomplete,
            number => RefusalCode::Other(number),
        }
    }
}

/// What became of a delivered page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOutcome {
    /// New entries are durable; [`Replica::note_head`] says the new head.
    Stored,
    /// Nothing in it was new.
    Duplicate,
    /// It begins after what is held.
    Gap,
    /// Its predecessor is another entry than the one that is held there: an earlier page of that peer is needed.
    Diverges {
        /// The page's first sequence.
        first: u64,
    },
    /// It proved a fork, and [`Replica::note_forked`] was told.
    Forked,
    /// Not taken, and nobody is to blame.
    Declined,
}

/// What a node must do for its peers.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a frame.
    Send {
        /// To whom.
        session: SessionId,
        /// On which stream.
        channel: Channel,
        /// The frame.
        frame: Vec<u8>,
    },
    /// Both sides have greeted each other.
    Greeted {
        /// Which session.
        session: SessionId,
        /// The peer's incarnation.
        incarnation: Incarnation,
        /// Where it says that it can be reached.
        addresses: Vec<String>,
    },
    /// The peer said something of itself.
    Status {
        /// Which session.
        session: SessionId,
        /// What it said.
        status: wire::Status,
    },
    /// A page to verify and keep; answer with [`Replica::page_result`].
    Deliver {
        /// From whom.
        session: SessionId,
        /// The request that it answers; 0 for none.
        request: u64,
        /// Of which log.
        log: LogName,
        /// The encoded page.
        page: Vec<u8>,
        /// Whether the sender asks to keep it until the hub has it.
        custody: bool,
    },
    /// A peer holds entries durably until the hub has them.
    CustodyTaken {
        /// Who.
        session: SessionId,
        /// Of which log.
        log: LogName,
        /// Which.
        intervals: Vec<Interval>,
    },
    /// A peer holds sealed entries and would hand them over.
    Offered {
        /// Who.
        session: SessionId,
        /// Of which log.
        log: LogName,
        /// Which.
        intervals: Vec<Interval>,
    },
    /// A peer asks for sealed entries.
    WantSealed {
        /// Who.
        session: SessionId,
        /// Its number for it.
        request: u64,
        /// Of which log.
        log: LogName,
        /// First sequence.
        from: u64,
        /// Last sequence; 0: the newest.
        to: u64,
    },
    /// The hub's word, passed on; unverified.
    Acknowledged {
        /// By whom.
        session: SessionId,
        /// What it says.
        acknowledgement: wire::Acknowledgement,
    },
    /// A peer asks for acknowledgements of these logs.
    AskAcknowledgements {
        /// Who.
        session: SessionId,
        /// Which logs.
        logs: Vec<LogName>,
    },
    /// A peer said no.
    Refused {
        /// Who.
        session: SessionId,
        /// About which log, where it said.
        log: Option<LogName>,
        /// Why.
        code: RefusalCode,
        /// In words.
        detail: String,
        /// When it may be worth trying again, in milliseconds; 0: not.
        retry_after_ms: u64,
    },
    /// A fork proof; unverified.
    Evidence {
        /// By whom.
        session: SessionId,
        /// As the payload of kind 80.
        proof: Vec<u8>,
    },
    /// A peer asks for a blob that isn't held: whoever could get it, and knows what it is, may fetch it.
    BlobAsked {
        /// Its hash.
        hash: Hash,
    },
    /// A blob that was asked for; its hash is right.
    Blob {
        /// Its hash.
        hash: Hash,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// End the link: the peer broke the protocol, is of another market, or is silent.
    Close {
        /// Which session.
        session: SessionId,
        /// Why.
        reason: String,
        /// Whether it broke the protocol, and isn't worth another link at once.
        fault: bool,
    },
}

/// The state machine.
#[derive(Debug)]
pub struct Replica {
    market: MarketId,
    incarnation: Incarnation,
    limits: Limits,
    /// What this node says of itself.
    status: wire::Status,
    addresses: Vec<String>,
    clock: Clock,
    /// What peers agreed on with this process.
    agreed: Agreed,
    sessions: BTreeMap<SessionId, Session>,
    /// What is asked for, or should be.
    wants: BTreeMap<LogName, Want>,
    /// Logs that are asked for no more until [`Replica::take_up`].
    put_off: BTreeSet<LogName>,
    /// Blobs that are asked for, and whom we asked last.
    blobs: BTreeMap<Hash, BlobWant>,
    /// Fork proofs to be told to every new session.
    evidence: BTreeMap<Hash, Vec<u8>>,
    next_request: u64,
    /// Sessions whose peers may be asked for more.
    freed: BTreeSet<SessionId>,
    outputs: VecDeque<Output>,
}

impl Replica {
    /// A node's replication, before it knows any log.
    pub fn new(market: MarketId, incarnation: Incarnation, limits: Limits) -> Self {
        Replica {
            market,
            incarnation,
            limits,
            status: wire::Status::default(),
            addresses: Vec::new(),
            clock: Clock::default(),
            agreed: Agreed::default(),
            sessions: BTreeMap::new(),
            wants: BTreeMap::new(),
            put_off: BTreeSet::new(),
            blobs: BTreeMap::new(),
            evidence: BTreeMap::new(),
            next_request: 1,
            freed: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Tells of a log that was held at the start.
    pub fn load(&mut self, log: LogName, head: Head) {
        self.clock.set(log, head, None);
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Replica::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<u64> {
        let sessions = self.sessions.values().filter_map(|session| session.next_timeout(&self.limits));
        let wants = self.wants.values().filter_map(Want::next_timeout);
        let blobs = self.blobs.values().filter_map(BlobWant::next_timeout);
        sessions.chain(wants).chain(blobs).min()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: u64, holdings: &dyn Holdings) {
        self.session_timeouts(now);
        self.want_timeouts(now);
        self.ask_for_more(now);
        self.blob_timeouts(now);
        self.pump_all(holdings);
    }

    /// Takes in a frame of a session.
    pub fn handle_frame(&mut self, session: SessionId, frame: &[u8], now: u64, holdings: &dyn Holdings) {
        use wire::frame::Body;
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.heard_at = now;
        let Ok(frame) = wire::Frame::decode(frame) else {
            return self.close(session, "E_DECODE: a frame that can't be decoded");
        };
        // A message of a newer version decodes to nothing, and is passed over.
        let Some(body) = frame.body else { return };
        if let Body::Hello(hello) = body {
            return self.handle_hello(session, hello, now);
        }
        if !state.greeted {
            return self.close(session, "E_DECODE: the first frame isn't a hello");
        }
        self.handle_body(session, body, now, holdings);
        self.ask_for_more(now);
    }

    fn handle_body(&mut self, session: SessionId, body: wire::frame::Body, now: u64, holdings: &dyn Holdings) {
        use wire::frame::Body;
        match body {
            Body::Hello(_) => {}
            Body::Summary(summary) => self.handle_summary(session, &summary, now),
            Body::Runs(runs) => self.handle_runs(session, &runs, now, holdings),
            Body::Delta(delta) => self.handle_delta(session, &delta, now, holdings),
            Body::Have(have) => self.handle_have(session, &have, now),
            Body::Want(want) => self.handle_want(session, &want, holdings),
            Body::Page(page) => self.handle_page(session, page, now),
            Body::Done(done) => self.handle_done(session, &done, now),
            Body::Prune(prune) => self.handle_tree(session, &prune.author, true),
            Body::Graft(graft) => self.handle_tree(session, &graft.author, false),
            Body::Offer(offer) => {
                for (log, intervals) in log_intervals(&offer.logs) {
                    self.outputs.push_back(Output::Offered { session, log, intervals });
                }
            }
            Body::Custody(custody) => {
                for (log, intervals) in log_intervals(&custody.logs) {
                    self.outputs.push_back(Output::CustodyTaken { session, log, intervals });
                }
            }
            Body::Acknowledgement(acknowledgement) => {
                self.outputs.push_back(Output::Acknowledged { session, acknowledgement });
            }
            Body::AskAcknowledgements(ask) => {
                let logs = ask.logs.iter().filter_map(wire::LogName::to_domain).collect();
                self.outputs.push_back(Output::AskAcknowledgements { session, logs });
            }
            Body::Refusal(refusal) => self.handle_refusal(session, refusal, now),
            Body::WantBlob(want) => self.handle_want_blob(session, &want, holdings),
            Body::Blob(blob) => self.handle_blob(blob),
            Body::Status(status) => self.outputs.push_back(Output::Status { session, status }),
            Body::Ping(ping) => {
                let pong = Body::Pong(wire::Pong { nonce: ping.nonce });
                self.send(session, Channel::Live, pong);
            }
            Body::Pong(_) => {}
            Body::Evidence(evidence) => {
                self.outputs.push_back(Output::Evidence { session, proof: evidence.fork_proof });
            }
        }
    }

    /// A frame has left: there is room for more.
    pub fn handle_sent(&mut self, session: SessionId, channel: Channel, bytes: usize, holdings: &dyn Holdings) {
        if let Some(state) = self.sessions.get_mut(&session)
            && channel == Channel::Bulk
        {
            state.bulk_in_flight = state.bulk_in_flight.saturating_sub(bytes);
            self.pump(session, holdings);
        }
    }

    /// Spreads a fork proof: ahead of everything else, to every session, once.
    pub fn note_evidence(&mut self, hash: Hash, proof: Vec<u8>) {
        if self.evidence.insert(hash, proof.clone()).is_some() {
            return;
        }
        let sessions: Vec<SessionId> = self.greeted().filter(|session| !self.is_restricted(*session)).collect();
        for session in sessions {
            let body = wire::frame::Body::Evidence(wire::Evidence { fork_proof: proof.clone() });
            self.send(session, Channel::Live, body);
        }
    }

    /// Sets what this node says of itself, and tells everybody where it changed.
    pub fn set_status(&mut self, status: wire::Status) {
        if self.status == status {
            return;
        }
        self.status = status;
        let sessions: Vec<SessionId> = self.greeted().collect();
        for session in sessions {
            self.send(session, Channel::Live, wire::frame::Body::Status(self.status.clone()));
        }
    }

    /// Sets where this node says that it can be reached.
    pub fn set_addresses(&mut self, addresses: Vec<String>) {
        self.addresses = addresses;
    }

    /// Sends a page of a sealed log, to be kept until the hub has it. Small ones overtake catch-up.
    pub fn send_custody(&mut self, session: SessionId, log: LogName, page: Vec<u8>) {
        let channel = if page.len() <= self.limits.push_bytes_max { Channel::Live } else { Channel::Bulk };
        self.send(session, channel, wire::frame::Body::Page(pack(0, &log, page, true)));
    }

    /// Sends a page that a peer asked for with [`Output::WantSealed`].
    pub fn send_sealed(&mut self, session: SessionId, request: u64, log: LogName, page: Vec<u8>) {
        self.send(session, Channel::Bulk, wire::frame::Body::Page(pack(request, &log, page, true)));
    }

    /// Says that these entries are held durably until the hub has them.
    pub fn take_custody(&mut self, session: SessionId, log: LogName, intervals: &[Interval]) {
        let logs = vec![wire::LogIntervals {
            log: Some((&log).into()),
            intervals: intervals.iter().map(Into::into).collect(),
        }];
        self.send(session, Channel::Live, wire::frame::Body::Custody(wire::Custody { logs }));
    }

    /// Offers sealed entries.
    pub fn offer(&mut self, session: SessionId, logs: &[(LogName, Vec<Interval>)]) {
        for logs in logs.chunks(200) {
            let logs = logs
                .iter()
                .map(|(log, intervals)| wire::LogIntervals {
                    log: Some(log.into()),
                    intervals: intervals.iter().map(Into::into).collect(),
                })
                .collect();
            self.send(session, Channel::Live, wire::frame::Body::Offer(wire::Offer { logs }));
        }
    }

    /// Asks for sealed entries that a peer offered.
    pub fn want_sealed(&mut self, session: SessionId, log: LogName, from: u64, to: u64) {
        let request = self.request();
        self.send(
            session,
            Channel::Live,
            wire::frame::Body::Want(wire::Want { request, log: Some((&log).into()), from, to }),
        );
    }

    /// Passes on the hub's word.
    pub fn acknowledge(&mut self, session: SessionId, acknowledgement: wire::Acknowledgement) {
        self.send(session, Channel::Live, wire::frame::Body::Acknowledgement(acknowledgement));
    }

    /// Asks a peer for acknowledgements.
    pub fn ask_acknowledgements(&mut self, session: SessionId, logs: &[LogName]) {
        for logs in logs.chunks(500) {
            let logs = logs.iter().map(Into::into).collect();
            let body = wire::frame::Body::AskAcknowledgements(wire::AskAcknowledgements { logs });
            self.send(session, Channel::Live, body);
        }
    }

    /// Says no.
    pub fn refuse(&mut self, session: SessionId, log: LogName, code: RefusalCode, detail: &str, retry_after_ms: u64) {
        self.send(
            session,
            Channel::Live,
            wire::frame::Body::Refusal(wire::Refusal {
                request: 0,
                log: Some((&log).into()),
                code: code.number(),
                detail: detail.to_owned(),
                retry_after_ms,
            }),
        );
    }

    /// Room on the bulk stream of a session, in bytes.
    pub fn bulk_room(&self, session: SessionId) -> usize {
        self.sessions
            .get(&session)
            .map_or(0, |state| self.limits.bulk_in_flight_max.saturating_sub(state.bulk_in_flight))
    }

    fn request(&mut self) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        request
    }

    /// Whether the peer gets `control` alone.
    pub fn is_restricted(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_none_or(|state| state.restricted)
    }

    fn greeted(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.iter().filter(|(_, state)| state.greeted).map(|(session, _)| *session)
    }

    fn send(&mut self, session: SessionId, channel: Channel, body: wire::frame::Body) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let frame = wire::Frame { body: Some(body) }.encode_to_vec();
        if channel == Channel::Bulk {
            state.bulk_in_flight += frame.len();
        }
        self.outputs.push_back(Output::Send { session, channel, frame });
    }

    /// Ends a session for what the peer sent.
    fn close(&mut self, session: SessionId, reason: &str) {
        self.close_session(session);
        self.outputs.push_back(Output::Close { session, reason: reason.to_owned(), fault: true });
    }

    fn known(&self, log: &LogName) -> Option<&Known> {
        self.clock.get(log)
    }
}

/// Intervals by log, leaving out what makes no sense.
fn log_intervals(logs: &[wire::LogIntervals]) -> impl Iterator<Item = (LogName, Vec<Interval>)> + '_ {
    logs.iter().filter_map(|logs| {
        let log = logs.log.as_ref()?.to_domain()?;
        Some((log, logs.intervals.iter().filter_map(wire::Interval::to_domain).collect()))
    })
}

/// Whether two devices' links would be duplicates of each other, the one that stays is the one that the smaller device
/// dialled: both sides decide alike without asking.
pub fn keeps_link(own: &DeviceId, peer: &DeviceId, dialled_by_us: bool) -> bool {
    (own < peer) == dialled_by_us
}
