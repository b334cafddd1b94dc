//! Custody: who carries whose sealed entries, and what the hub has acknowledged.
//!
//! A device hands its sealed entries to k carriers, to every peer that says it has an uplink, and to the hub itself
//! where it can; a carrier hands what it holds to the hub, to a peer with an uplink, or to peers that are nearer to one
//! than it is. The newest go first. What an acknowledgement names ends custody; everything else is kept.
//! A hub's own entries, its ledger, are handed to carriers in the same way: see `ledger`.

mod acknowledgements;
mod handover;
mod ledger;
mod room;
mod submission;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::membership::{NotStanding, Position};
use stallmesh_protocol::page::VerifiedPage;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::replica::{RefusalCode, SessionId};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Kind, Lane, LogName, wire};

use self::ledger::Offered;
use super::logs::{Held, Inserted, Run};
use super::{Engine, Notice};
use crate::store::{Store, StoreError, Table};

/// Bytes of a page of the newest entries: it overtakes everything else.
const NEWEST_BYTES: usize = 12 * 1024;
/// Bytes of a page of older ones.
const OLDER_BYTES: usize = 128 * 1024;
/// After a refusal without a time, milliseconds until it is tried again.
const REFUSED_MS: u64 = 5_000;
/// Milliseconds until a log is tried again whose author's certificate, or whose key entry, hasn't come as far as it has:
/// both travel ahead of sales, so they are a few round trips away.
const NOT_YET_MS: u64 = 200;
/// A hub that was handed something and has said nothing of it for so many milliseconds is no way to the hub: whoever has its
/// key and not its market, or its process when it hangs, would else keep everything to itself.
const HUB_SILENT_MS: u64 = 20_000;
/// Intervals that are remembered of what one peer holds of one log.
const COPIES_MAX: usize = 256;

/// Bytes beyond its line that are taken of a revoked device, so that the line can be raised to them: some ten thousand
/// sales, a tablet's weeks.
pub(crate) const BEYOND_LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A history of a log: where the log has branches, the one whose run here begins with this hash.
type History = (LogName, Option<Hash>);

/// Custody's state, beside the logs.
#[derive(Debug, Default)]
pub(crate) struct Custody {
    /// The hub's newest word on each log.
    pub(crate) received: BTreeMap<LogName, Acknowledgement>,
    /// What neighbours said that they hold, by log and device.
    pub(crate) copies: BTreeMap<LogName, BTreeMap<DeviceId, Vec<Interval>>>,
    /// What was sent on a session: sequences, ascending.
    sent: BTreeMap<SessionId, BTreeMap<History, Vec<(u64, u64)>>>,
    /// Key entries that were sent on a session.
    keys_sent: BTreeSet<(SessionId, LogName, u64)>,
    /// Acknowledgements that were passed on: (session, log) → time of the newest.
    told: BTreeMap<(SessionId, LogName), u64>,
    /// Who brought us what we carry.
    brought: BTreeMap<LogName, BTreeSet<DeviceId>>,
    /// Hub: where carriers' copies of a log end, if not where it ends here.
    ends: BTreeMap<LogName, VecDeque<Head>>,
    /// Peers that said no, to one log or to all, and until when.
    refused: BTreeMap<(SessionId, Option<LogName>), (u64, String)>,
    /// Bytes of others' sealed entries, and those of them that are hubs' ledgers.
    held_bytes: u64,
    ledger_bytes: u64,
    /// What stays of what the hub has, key entries up to the next signature: what shows that it has them is gone.
    stayed: BTreeMap<LogName, BTreeSet<Head>>,
    /// Something was refused for want of room, and no room was made since: when to look whether there is some, in monotonic
    /// milliseconds.
    full: Option<u64>,
    /// Peers that had no room: they are handed a page at a time, and the next when they have taken it, or when nothing was
    /// heard of it until the time given, in monotonic milliseconds.
    short_of_room: BTreeMap<SessionId, Option<u64>>,
    /// Logs that may have something to hand over.
    dirty: BTreeSet<LogName>,
    /// All of them may: somebody came or went, or says other things of itself.
    all_dirty: bool,
    /// Logs of which more is to be handed over when a bulk stream has room.
    unfinished: BTreeSet<LogName>,
    /// Whoever hands entries in just now on a link that may not be up.
    submitting: Option<(SessionId, DeviceId)>,
    /// Hubs that were handed something, and haven't said that they have it: since when, in monotonic milliseconds.
    unanswered: BTreeMap<SessionId, u64>,
    /// Those of them that have been silent for too long.
    silent: BTreeSet<SessionId>,
    /// Which incarnation of a neighbour said what it holds.
    holders: BTreeMap<DeviceId, Incarnation>,
    /// What peers offered on a session and what of it isn't here yet.
    offers: BTreeMap<(SessionId, LogName), Offered>,
    /// Which incarnation of a hub was offered all that hubs have acknowledged.
    offered_to: BTreeMap<DeviceId, Incarnation>,
    /// Bytes beyond the line that were taken of revoked devices since the start or the last raise.
    pub(crate) beyond_line: BTreeMap<DeviceId, u64>,
}

impl Custody {
    /// A log may have something to hand over.
    pub(crate) fn mark(&mut self, log: LogName) {
        self.dirty.insert(log);
    }

    /// Any log may have something to hand over.
    pub(crate) fn mark_all(&mut self) {
        self.all_dirty = true;
    }

    /// A bulk stream has room again.
    pub(crate) fn room_was_made(&mut self) {
        self.dirty.append(&mut self.unfinished);
    }

    /// Whether this incarnation of a neighbour is another one than what is known of its copies came from. A restarted
    /// neighbour says anew what it holds: its disk may be an older one.
    fn is_new_holder(&mut self, peer: DeviceId, incarnation: Incarnation) -> bool {
        self.holders.insert(peer, incarnation).is_some_and(|before| before != incarnation)
    }

    pub(crate) fn forget_session(&mut self, session: SessionId) {
        self.sent.remove(&session);
        self.keys_sent.retain(|(other, _, _)| *other != session);
        self.told.retain(|(other, _), _| *other != session);
        self.refused.retain(|(other, _), _| *other != session);
        self.offers.retain(|(other, _), _| *other != session);
        self.short_of_room.remove(&session);
        self.unanswered.remove(&session);
        self.silent.remove(&session);
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let unheard = self.short_of_room.values().filter_map(|until| *until);
        let unanswered = self.unanswered.values().map(|since| since + HUB_SILENT_MS);
        self.refused.values().map(|(until, _)| *until).chain(unheard).chain(unanswered).chain(self.full).min()
    }

    /// A hub is handed something.
    fn await_word(&mut self, session: SessionId, now: u64) {
        if !self.silent.contains(&session) {
            self.unanswered.entry(session).or_insert(now);
        }
    }

    /// A hub has answered.
    fn word_came(&mut self, session: SessionId) {
        self.unanswered.remove(&session);
        if self.silent.remove(&session) {
            self.mark_all();
        }
    }

    /// Whether a session's peer, a hub, was handed something and says nothing of it.
    pub(crate) fn is_silent(&self, session: SessionId) -> bool {
        self.silent.contains(&session)
    }

    /// A peer has answered what it was handed.
    fn heard_of(&mut self, session: SessionId) {
        if let Some(unheard @ Some(_)) = self.short_of_room.get_mut(&session) {
            *unheard = None;
            self.mark_all();
        }
    }

    /// Why a peer doesn't take a log just now.
    pub(crate) fn refusal(&self, session: SessionId, log: &LogName) -> Option<&str> {
        let said = |log| self.refused.get(&(session, log));
        said(None).or_else(|| said(Some(*log))).map(|(_, reason)| reason.as_str())
    }

    /// Whether something of a log was handed over on a session, and not refused.
    pub(crate) fn was_handed(&self, session: SessionId, log: &LogName) -> bool {
        self.sent.get(&session).is_some_and(|sent| sent.keys().any(|(of, ..)| of == log))
    }

    /// Why a peer doesn't take something or other just now.
    pub(crate) fn any_refusal(&self, session: SessionId) -> Option<&str> {
        self.refused
            .range((session, None)..)
            .next()
            .filter(|((of, _), _)| *of == session)
            .map(|(_, said)| said.1.as_str())
    }
}

impl<S: Store> Engine<S> {
    pub(crate) fn load_custody(&mut self) -> Result<(), StoreError> {
        use prost::Message;
        for (_, value) in self.overlay.scan_prefix(Table::Custody, b"a")? {
            if let Some(acknowledgement) =
                wire::Acknowledgement::decode(value.as_slice()).ok().as_ref().and_then(Acknowledgement::from_wire)
                && acknowledgement.hub != acknowledgement.log.author
            {
                self.custody.received.insert(acknowledgement.log, acknowledgement);
            }
        }
        self.count_room()
    }

    /// The parts of a run that the hub has: inside a received interval, and chained to its hash.
    pub(crate) fn received_of(&self, log: &LogName, run: &Run) -> Vec<(u64, u64)> {
        let Some(acknowledgement) = self.custody.received.get(log) else { return Vec::new() };
        let mut received = self.stayed_of(log, run);
        for interval in acknowledgement.intervals.iter().filter(|interval| interval.to >= run.from) {
            let mut interval = *interval;
            if planted::is_on(Bug::DropAncestors) {
                interval.from = 1;
            }
            let end = Head { sequence: interval.to, hash: interval.hash };
            if end == run.head() {
                received.push((interval.from.max(run.from), interval.to));
            } else if !self.logs.is_branched(log, run.from, run.to.max(interval.to)) {
                // Being an ancestor of the interval's end from outside frees nothing, and neither does a number alone.
                if end.sequence <= run.to && matches!(self.logs.entry(&self.overlay, log, end), Ok(Some(_))) {
                    received.push((interval.from.max(run.from), interval.to));
                }
            } else {
                received.extend(self.shared_with(log, run, &interval));
            }
        }
        received
    }

    /// In a log with branches: the entries of a run inside an interval that may end on another branch.
    fn shared_with(&self, log: &LogName, run: &Run, interval: &Interval) -> Option<(u64, u64)> {
        let end = Head { sequence: interval.to, hash: interval.hash };
        let from = interval.from.max(run.from);
        let theirs: BTreeSet<(u64, Hash)> = self
            .logs
            .ancestors(&self.overlay, log, end, from)
            .ok()?
            .iter()
            .map(|held| (held.sequence, held.hash))
            .collect();
        let ours = self.logs.entries(&self.overlay, log, run, from, interval.to, usize::MAX).ok()?;
        let shared = |held: &&Held| theirs.contains(&(held.sequence, held.hash));
        // Histories that part never meet again.
        let last = ours.iter().filter(shared).map(|held| held.sequence).max()?;
        ours.first().filter(shared).map(|first| (first.sequence, last))
    }

    /// Parts of a run that the hub doesn't have, as far as is known.
    fn waiting_of(&self, log: &LogName, run: &Run) -> Vec<(u64, u64)> {
        without(&[(run.from, run.to)], &self.received_of(log, run))
    }

    /// A sealed page to be kept until the hub has it.
    pub(crate) fn take_sealed(&mut self, session: SessionId, log: LogName, verified: VerifiedPage) {
        let submitting = self.custody.submitting.filter(|(submitting, _)| *submitting == session);
        let Some(peer) = submitting.map(|(_, peer)| peer).or_else(|| self.peer_of(session)) else { return };
        if !self.views.membership.is_known(&log.author) {
            let detail = "its author is not known as a member here yet";
            return self.refuse_for(session, log, RefusalCode::NotAllowed, detail, NOT_YET_MS);
        }
        let hub = self.is_hub();
        let own = log.author == self.device.id();
        if !hub
            && !own
            && let Err(no_room) = self.room_for(&log, &verified)
        {
            if planted::is_on(Bug::CustodyWhenFull)
                && let Some(replica) = &mut self.replica
            {
                let (from, to) = (verified.page().first, verified.page().last());
                replica.take_custody(session, log, &[Interval { from, to, hash: verified.head().hash }]);
                return;
            }
            return self.refuse_for(session, log, no_room.code, no_room.detail, no_room.wait_ms);
        }
        let beyond = self.bytes_beyond_line(&log, &verified);
        let quota = self.settings.beyond_line_bytes_max;
        if beyond > 0 && self.custody.beyond_line.get(&log.author).copied().unwrap_or(0) + beyond > quota {
            return self.refuse(
                session,
                log,
                RefusalCode::OverQuota,
                "its author was revoked, and the room is used up",
            );
        }
        let keys: BTreeSet<u64> = verified.page().entries.iter().filter_map(|entry| entry.payload.key).collect();
        for key in keys {
            let in_page = key >= verified.page().first && key <= verified.page().last();
            let held = self.logs.held_at(&self.overlay, &log, key);
            let held = self.guard(held).unwrap_or_default();
            let missing = !in_page && !held.iter().any(|held| held.entry.kind == Kind::KEY);
            if missing && (hub || !planted::is_on(Bug::CustodyWithoutKey)) {
                return self.refuse(session, log, RefusalCode::Incomplete, "its key entry isn't here");
            }
        }
        let mut interval =
            Interval { from: verified.page().first, to: verified.page().last(), hash: verified.head().hash };
        if planted::is_on(Bug::CustodyOfAll) {
            interval.from = 1;
        }
        if planted::is_on(Bug::OrphansRefused) && hub && interval.from > 1 {
            let before = self.logs.held_at(&self.overlay, &log, interval.from - 1);
            if self.guard(before).unwrap_or_default().is_empty() {
                return self.refuse(session, log, RefusalCode::NotAllowed, "what comes before it isn't here");
            }
        }
        let inserted = self.logs.insert(&mut self.overlay, &log, &verified);
        if let Some(Inserted::New(new) | Inserted::Fork { new, .. }) = inserted.as_ref().ok()
            && beyond > 0
        {
            let taken: u64 = new.iter().map(|held| held.entry.payload.length() as u64).sum();
            *self.custody.beyond_line.entry(log.author).or_insert(0) += taken.min(beyond);
        }
        match self.guard(inserted) {
            Some(Inserted::New(new)) => {
                self.custody_grew(&log, &new);
                self.take_in(&new);
                self.want_rest(session, log, interval.to);
                if hub && log.lane == Lane::SALES {
                    self.offer_to_stall(&log, session);
                    self.notice(Notice::Received { entries: new.len() as u64 });
                }
            }
            Some(Inserted::Fork { sequence, previous, new }) => {
                // Sequences alone no longer say which entries were sent.
                self.custody.sent.values_mut().for_each(|sent| sent.retain(|(of, _), _| *of != log));
                self.custody_grew(&log, &new);
                self.take_in(&new);
                self.sign_heads();
                self.prove_held_fork(log, sequence, previous);
            }
            Some(Inserted::Duplicate) => {}
            Some(Inserted::TooScattered) => {
                return self.refuse(session, log, RefusalCode::OverQuota, "the log is in too many pieces here");
            }
            Some(Inserted::Gap | Inserted::Diverges) | None => return,
        }
        self.custody.brought.entry(log).or_default().insert(peer);
        self.custody.mark(log);
        if hub {
            self.note_end(log, Head { sequence: interval.to, hash: interval.hash });
            self.acknowledge_log(session, log);
        } else if log.lane == Lane::LEDGER {
            if let Some(replica) = &mut self.replica {
                replica.take_custody(session, log, &[interval]);
            }
            self.offer_to_author(&log);
        } else {
            if let Some(replica) = &mut self.replica {
                replica.take_custody(session, log, &[interval]);
            }
            // Whoever brings what the hub has already is told so.
            self.answer_acknowledgements(session, &[log]);
            self.ask_for_end(session, log, Head { sequence: interval.to, hash: interval.hash });
        }
        self.check_clones_of(log.author);
    }

    /// How many bytes of a page lie beyond the line of a revocation, and aren't held yet.
    fn bytes_beyond_line(&mut self, log: &LogName, verified: &VerifiedPage) -> u64 {
        if log.author == self.device.id() || !self.views.membership.is_revoked(&log.author) {
            return 0;
        }
        if self.leads_to_what_stands(log, verified.head()) {
            return 0;
        }
        let mut beyond = 0;
        for (sequence, hash, entry) in verified.iter() {
            let head = Head { sequence, hash };
            let at = Position { log: *log, sequence, hash };
            let held = self.logs.entry(&self.overlay, log, head);
            let stands = self.views.membership.stands(&at, &self.views.coverage, &self.ancestry());
            if self.guard(held).flatten().is_none() && stands == Err(NotStanding::BeyondLine) {
                beyond += entry.payload.length() as u64;
            }
        }
        beyond
    }

    /// Whether what follows an entry is held, and stands: then the entry stands with all before it, which can be seen as soon
    /// as it is held, too. A line is raised to the newest entry that the hub has, and older ones come after it.
    fn leads_to_what_stands(&mut self, log: &LogName, head: Head) -> bool {
        let runs = self.logs.get(log).map(|record| record.runs.clone()).unwrap_or_default();
        runs.iter().filter(|run| (run.from, run.previous) == (head.sequence + 1, head.hash)).any(|run| {
            let at = Position { log: *log, sequence: run.to, hash: run.hash };
            self.views.membership.stands(&at, &self.views.coverage, &self.ancestry()).is_ok()
        })
    }

    fn refuse(&mut self, session: SessionId, log: LogName, code: RefusalCode, detail: &str) {
        self.refuse_for(session, log, code, detail, REFUSED_MS);
    }

    fn refuse_for(&mut self, session: SessionId, log: LogName, code: RefusalCode, detail: &str, wait_ms: u64) {
        if let Some(replica) = &mut self.replica {
            replica.refuse(session, log, code, detail, wait_ms);
        }
    }

    pub(crate) fn refused(
        &mut self,
        session: SessionId,
        log: Option<LogName>,
        code: RefusalCode,
        detail: &str,
        retry_after_ms: u64,
    ) {
        let now = self.now.monotonic_ms;
        tracing::debug!(session = session.0, ?code, detail, "refused");
        if code == RefusalCode::OverQuota
            && log.is_some_and(|log| log.author == self.device.id() && log.lane.is_kept_by_all())
        {
            self.alarm(
                "this device has started so often that others take some of what it publishes later. Its sales are not \
                 concerned"
                    .into(),
            );
        }
        self.custody.word_came(session);
        let Some(log) = log.filter(|log| log.lane.is_sealed()) else { return };
        // What was sent counts as not sent: it is tried again, with its key entry, when the peer says.
        if let Some(sent) = self.custody.sent.get_mut(&session) {
            sent.retain(|(other, ..), _| *other != log);
        }
        self.custody.keys_sent.retain(|(other, name, _)| (*other, *name) != (session, log));
        let wait = if retry_after_ms == 0 { REFUSED_MS } else { retry_after_ms.min(60_000) };
        // What it lacks a key entry for it doesn't hold, whatever it said before.
        if code == RefusalCode::Incomplete
            && let (Some(peer), Some(copies)) = (self.peer_of(session), self.custody.copies.get_mut(&log))
        {
            copies.remove(&peer);
        }
        // A peer without room takes nothing; else the other logs have nothing to do with it.
        let (wait, log) = match code {
            RefusalCode::Full | RefusalCode::Busy => {
                self.custody.short_of_room.insert(session, None);
                (wait, None)
            }
            RefusalCode::Incomplete => (wait.min(NOT_YET_MS), Some(log)),
            _ => (wait, Some(log)),
        };
        self.custody.refused.insert((session, log), (now + wait, detail.to_owned()));
    }

    pub(crate) fn custody_tick(&mut self) {
        let now = self.now.monotonic_ms;
        let refused = self.custody.refused.len();
        self.custody.refused.retain(|_, (until, _)| *until > now);
        if self.custody.refused.len() < refused {
            self.custody.mark_all();
        }
        let unheard = |until: &Option<u64>| until.is_some_and(|until| until <= now);
        let silent: Vec<SessionId> = self
            .custody
            .short_of_room
            .iter()
            .filter(|(_, until)| unheard(until))
            .map(|(session, _)| *session)
            .collect();
        silent.into_iter().for_each(|session| self.custody.heard_of(session));
        self.look_for_room();
        let silent = |since: &u64| since + HUB_SILENT_MS <= now;
        let hubs = self.custody.unanswered.iter().filter(|(_, since)| silent(since)).map(|(session, _)| *session);
        for session in hubs.collect::<Vec<_>>() {
            tracing::info!(session = session.0, "a hub says nothing of what it was handed: others are handed it, too");
            self.custody.unanswered.remove(&session);
            self.custody.silent.insert(session);
            self.custody.mark_all();
        }
    }

    /// A neighbour holds entries until the hub has them.
    pub(crate) fn custody_taken(&mut self, session: SessionId, log: LogName, intervals: &[Interval]) {
        let Some(peer) = self.peer_of(session) else { return };
        self.custody.heard_of(session);
        // Of a log that is neither this device's nor held here, who has copies matters to nobody here.
        if log.author != self.device.id() && self.logs.get(&log).is_none() {
            return;
        }
        let held = self.custody.copies.entry(log).or_default().entry(peer).or_default();
        for interval in intervals {
            if !held.contains(interval) {
                held.push(*interval);
            }
        }
        merge(held);
        // What is forgotten is copied once more at worst.
        held.drain(..held.len().saturating_sub(COPIES_MAX));
        if log.author == self.device.id() {
            self.copies_changed(&log, intervals);
            if log.lane == Lane::LEDGER {
                self.release_closed();
            }
        }
    }

    /// A peer asks for sealed entries: its own, its stall's, or as the hub.
    pub(crate) fn serve_sealed(&mut self, session: SessionId, request: u64, log: LogName, from: u64, to: u64) {
        let Some(peer) = self.peer_of(session) else { return };
        let own = (peer == log.author || self.may_read(&peer, &log)) && !self.is_restricted(&peer);
        if !own && !self.is_hub_device(&peer) {
            let detail = "sealed entries go to their author, its stall's devices and the hub";
            return self.refuse(session, log, RefusalCode::NotAllowed, detail);
        }
        let to = if to == 0 { u64::MAX - 1 } else { to };
        let runs = self.logs.get(&log).map(|record| record.runs.clone()).unwrap_or_default();
        let mut held = false;
        for run in runs.iter().filter(|run| run.from <= to && from <= run.to) {
            if let Some(page) = self.page_through(&log, run, from.max(run.from), to.min(run.to), OLDER_BYTES * 2)
                && let Some(replica) = &mut self.replica
            {
                held = true;
                replica.send_sealed(session, request, log, page.encode());
            }
        }
        if !held {
            self.refuse(session, log, RefusalCode::NotHeld, "not held");
        }
    }

    /// Nobody is known any more to have received a log: all of it is handed over anew, for whoever held a copy may have
    /// let go of it.
    pub(crate) fn forget_received(&mut self, log: &LogName) {
        self.custody.received.remove(log);
        self.custody.told.retain(|(_, other), _| other != log);
        if log.author == self.device.id() {
            self.received_no_more(log);
        }
        self.forget_handed(log);
    }

    /// What was handed over of a log counts as not handed over.
    fn forget_handed(&mut self, log: &LogName) {
        self.custody.stayed.remove(log);
        self.custody.keys_sent.retain(|(_, other, _)| other != log);
        self.custody.sent.values_mut().for_each(|sent| sent.retain(|(other, ..), _| other != log));
        let copies = self.custody.copies.remove(log).unwrap_or_default();
        if log.author == self.device.id() {
            self.copies_changed(log, &copies.into_values().flatten().collect::<Vec<_>>());
        }
        self.custody.mark(*log);
    }

    /// A session has begun: what it may be missing, and what we may.
    pub(crate) fn session_began(&mut self, session: SessionId, peer: DeviceId, incarnation: Incarnation) {
        self.custody.mark_all();
        if self.custody.is_new_holder(peer, incarnation) {
            self.forget_copies(peer);
        }
        if !self.is_restricted(&peer) {
            self.exchange_custody(session, peer);
        }
    }

    /// Offers a peer what is held of its own, and asks what the hub has of all that waits.
    pub(crate) fn exchange_custody(&mut self, session: SessionId, peer: DeviceId) {
        let own = self.device.id();
        let waiting: Vec<LogName> = self
            .logs
            .on_lane(Lane::SALES)
            .filter(|(name, record)| record.runs.iter().any(|run| !self.waiting_of(name, run).is_empty()))
            .map(|(name, _)| *name)
            .collect();
        let mut offers: Vec<(LogName, Vec<Interval>)> = self
            .logs
            .of_author(peer)
            .filter(|(name, _)| name.lane.is_sealed() && peer != own)
            .map(|(name, record)| (*name, record.runs.iter().map(Run::interval).collect()))
            .collect();
        offers.extend(self.offers_to_stall(&peer));
        self.tell_had(session);
        if let Some(incarnation) = self.custody.holders.get(&peer).copied() {
            offers.extend(self.offers_to_hub(session, peer, incarnation));
        }
        if let Some(replica) = &mut self.replica {
            if !offers.is_empty() {
                replica.offer(session, &offers);
            }
            if !waiting.is_empty() {
                replica.ask_acknowledgements(session, &waiting);
            }
        }
    }

    /// What a neighbour held is not known any more.
    fn forget_copies(&mut self, peer: DeviceId) {
        let own = self.device.id();
        let mut changed = Vec::new();
        for (log, copies) in &mut self.custody.copies {
            if let Some(intervals) = copies.remove(&peer)
                && log.author == own
            {
                changed.push((*log, intervals));
            }
        }
        for (log, intervals) in changed {
            self.copies_changed(&log, &intervals);
        }
    }

    /// (Entries, bytes) of others that wait for the hub here; (waiting, copied) of the own.
    pub(crate) fn custody_figures(&self) -> (u64, u64, u64, u64) {
        let own = self.device.id();
        let (mut held, mut waiting, mut copied) = (0, 0, 0);
        for (name, record) in self.logs.on_lane(Lane::SALES) {
            for run in &record.runs {
                let ranges = self.waiting_of(name, run);
                let count = length(&ranges);
                if name.author == own {
                    waiting += count;
                    let copies = self.custody.copies.get(name).into_iter().flat_map(BTreeMap::values).flatten();
                    let copies: Vec<(u64, u64)> = copies.map(|interval| (interval.from, interval.to)).collect();
                    copied += count - length(&without(&ranges, &copies));
                } else if !self.is_hub() {
                    held += count;
                }
            }
        }
        (held, if self.is_hub() { 0 } else { self.custody.held_bytes }, waiting, copied)
    }

    /// How many neighbours hold an own entry.
    pub(crate) fn copies_of(&self, log: &LogName, sequence: u64) -> usize {
        self.custody.copies.get(log).map_or(0, |copies| {
            copies.values().filter(|held| held.iter().any(|interval| interval.contains(sequence))).count()
        })
    }

    /// Whether the hub has said that it has an own entry.
    pub(crate) fn is_received(&self, log: &LogName, head: Head) -> bool {
        let Some(record) = self.logs.get(log) else { return false };
        record
            .runs
            .iter()
            .filter(|run| run.from <= head.sequence && head.sequence <= run.to)
            .any(|run| self.received_of(log, run).iter().any(|(from, to)| (*from..=*to).contains(&head.sequence)))
    }
}

/// What is left of ranges without others.
pub(crate) fn without(ranges: &[(u64, u64)], taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
    taken.iter().fold(ranges.to_vec(), |left, (from, to)| {
        left.into_iter()
            .flat_map(|(low, high)| {
                let before = (low < *from).then(|| (low, high.min(from - 1)));
                let after = (high > *to).then(|| (low.max(to + 1), high));
                [before, after].into_iter().flatten()
            })
            .collect()
    })
}

/// Ranges, ascending, with one more.
fn joined(ranges: &[(u64, u64)], (from, to): (u64, u64)) -> Vec<(u64, u64)> {
    let touches = |(low, high): &&(u64, u64)| *low <= to.saturating_add(1) && from <= high.saturating_add(1);
    let (touching, mut apart): (Vec<_>, Vec<_>) = ranges.iter().partition(touches);
    let low = touching.iter().map(|(low, _)| *low).min().map_or(from, |low| low.min(from));
    let high = touching.iter().map(|(_, high)| *high).max().map_or(to, |high| high.max(to));
    apart.push((low, high));
    apart.sort_unstable();
    apart
}

fn length(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(from, to)| to - from + 1).sum()
}

/// Joins intervals that overlap or touch; the hash of the later end stands for both.
fn merge(held: &mut Vec<Interval>) {
    held.sort();
    let mut merged: Vec<Interval> = Vec::new();
    for interval in held.drain(..) {
        match merged.last_mut() {
            // A peer may say any number, the last one too.
            Some(last) if interval.from <= last.to.saturating_add(1) => {
                if interval.to > last.to {
                    (last.to, last.hash) = (interval.to, interval.hash);
                }
            }
            _ => merged.push(interval),
        }
    }
    *held = merged;
}
