//! Batches that were closed: kept, released once a carrier holds their closing, and taken back after a loss.
//!
//! ```text
//!   settle ──► closed ──────────────► released
//!              closing durable here,   settlement and statements
//!              handed to carriers      are published
//! ```
//! A hub that was restored from an older copy of its disk gets its closings back from carriers, and works out again what
//! each has published: F over the input that the closing names, judged as of the checkpoint that it names. What doesn't
//! come to the digest of the closing is an alarm, and nothing is closed until it does. Of two batches with one number the
//! released one counts, else the one that was closed first; the other one is void, and what it read goes to the next.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{Hash, Head, Kind, Lane, LogName};

use super::recompute::ReadClosing;
use super::statements::waiting_key;
use crate::engine::Engine;
use crate::engine::author::{parse_position, position_text};
use crate::engine::logs::Held;
use crate::engine::views::Views;
use crate::hub::ledger::Row;
use crate::hub::reconcile::{Reconciliation, batch};
use crate::hub::statement::Statement;
use crate::store::{Store, StoreError, Table};

/// How keys begin in [`Table::Closings`]: of batches by number; of the numbers of those that aren't released; of the
/// hashes of closings that are void; of numbers whose loss was accepted.
pub(super) const BATCH: &[u8] = b"c";
const UNRELEASED: &[u8] = b"u";
const VOID: &[u8] = b"v";
/// After all others: the newest batch is looked for between the first two.
pub(super) const LOSS: &[u8] = b"x";

/// What a closing reads: intervals of sealed logs.
pub(super) type Input = BTreeMap<LogName, Vec<Interval>>;

/// A closed batch, as it is kept.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct ClosedBatch {
    pub(super) number: u64,
    pub(super) digest: String,
    /// Hash of the closing's entry.
    pub(super) closing: String,
    pub(super) rows: Vec<Row>,
    /// Digest of the batch before, as the closing names it; empty for the first.
    #[serde(default)]
    pub(super) previous: String,
    /// Where the closing stands: `author/incarnation/lane/sequence`.
    #[serde(default)]
    pub(super) at: String,
    /// When it was closed, in milliseconds since 1970, by its author's clock.
    #[serde(default)]
    pub(super) timestamp: u64,
}

pub(super) fn key(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

pub(super) fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

impl<S: Store> Engine<S> {
    /// The newest batch's number and digest, and the rows of all batches.
    pub(super) fn closed_rows(&mut self) -> (u64, String, Vec<Row>) {
        let closed = self.closed_batches();
        let (number, digest) = closed.last().map(|last| (last.number, last.digest.clone())).unwrap_or_default();
        (number, digest, closed.into_iter().flat_map(|closed| closed.rows).collect())
    }

    /// All batches, by number.
    pub(super) fn closed_batches(&mut self) -> Vec<ClosedBatch> {
        let kept = self.overlay.scan_prefix(Table::Closings, BATCH);
        let mut kept = self.guard(kept).unwrap_or_default();
        if planted::is_on(Bug::ClosingForgotten) && !self.writers.contains_key(&Lane::LEDGER) {
            kept.clear();
        }
        kept.iter().filter_map(|(_, value)| serde_json::from_slice(value).ok()).collect()
    }

    pub(super) fn closed_batch(&mut self, number: u64) -> Option<ClosedBatch> {
        let kept = self.overlay.get(Table::Closings, &key(BATCH, number));
        serde_json::from_slice(&self.guard(kept).flatten()?).ok()
    }

    pub(super) fn is_unreleased(&mut self, number: u64) -> bool {
        let kept = self.overlay.get(Table::Closings, &key(UNRELEASED, number));
        self.guard(kept).flatten().is_some()
    }

    /// Batches that are closed and not released, and what each waits for.
    pub(crate) fn unreleased(&self) -> Vec<(u64, String)> {
        let kept = self.overlay.scan_prefix(Table::Closings, UNRELEASED).unwrap_or_default();
        let problem = self.closing_problem();
        let mut waits = Vec::new();
        for number in kept.iter().filter_map(|(key, _)| number_of(key)) {
            let closed = self.overlay.get(Table::Closings, &key(BATCH, number)).ok().flatten();
            let closed = closed.and_then(|value| serde_json::from_slice::<ClosedBatch>(&value).ok());
            let own = problem.clone().or_else(|| closed.and_then(|closed| self.waits_for(&closed)));
            let after = "a batch before it is not released yet".to_owned();
            waits.push((number, own.unwrap_or(after)));
        }
        waits
    }

    /// Keeps a batch as closed, not released, with the statements that will be published with it.
    pub(super) fn keep_closed(&mut self, closed: &ClosedBatch, statements: &[Statement]) {
        for statement in statements {
            let key = waiting_key(closed.number, &statement.stall);
            self.overlay.put(Table::Closings, key, statement.to_bytes());
        }
        self.overlay.put(Table::Closings, key(BATCH, closed.number), serde_json::to_vec(closed).unwrap_or_default());
        self.overlay.put(Table::Closings, key(UNRELEASED, closed.number), []);
    }

    /// Publishes batches whose closing somebody else holds, in order.
    pub(crate) fn release_closed(&mut self) {
        if !self.is_hub() || self.recovery.is_waiting() {
            return;
        }
        // What an earlier run has released must be known first, whoever brought it just now.
        self.take_in_closings();
        let kept = self.overlay.scan_prefix(Table::Closings, UNRELEASED);
        let kept = self.guard(kept).unwrap_or_default();
        for number in kept.iter().filter_map(|(key, _)| number_of(key)) {
            let Some(closed) = self.closed_batch(number) else { return };
            if self.is_published(&closed.closing) {
                self.note_released(&closed);
                continue;
            }
            if let Some(because) = self.closing_problem().or_else(|| self.waits_for(&closed)) {
                tracing::debug!(number, %because, "a batch is closed, not released");
                return;
            }
            if let Err(error) = self.publish_settlement(&closed) {
                tracing::warn!(number, %error, "a settlement could not be published");
                return;
            }
            self.overlay.delete(Table::Closings, key(UNRELEASED, number));
        }
    }

    /// A batch that isn't released waits for carriers: its log is handed over again where that was put off.
    pub(super) fn hand_over_unreleased(&mut self) {
        if self.last_closed() > self.last_released() {
            let own = self.device.id();
            let logs: Vec<LogName> = self.logs.on_lane(Lane::LEDGER).map(|(name, _)| *name).collect();
            logs.into_iter().filter(|name| name.author == own).for_each(|name| self.custody.mark(name));
        }
    }

    /// An earlier run has published it: what it published need not be again.
    fn note_released(&mut self, closed: &ClosedBatch) {
        let settlements = self.views.settlements();
        let ours = settlements.iter().filter(|published| hex::encode(&published.message.closing) == closed.closing);
        let stalls: BTreeSet<String> =
            ours.flat_map(|published| &published.message.statements).map(|statement| statement.stall.clone()).collect();
        for stall in stalls {
            self.overlay.delete(Table::Closings, waiting_key(closed.number, &stall));
        }
        self.overlay.delete(Table::Closings, key(UNRELEASED, closed.number));
    }

    fn is_published(&self, closing: &str) -> bool {
        self.views.settlements().iter().any(|published| hex::encode(&published.message.closing) == closing)
    }

    /// What a closed batch's release waits for.
    fn waits_for(&self, closed: &ClosedBatch) -> Option<String> {
        let hash = Hash::try_from(hex::decode(&closed.closing).ok()?.as_slice()).ok()?;
        let (log, sequence) = parse_position(&closed.at)?;
        if log.author != self.device.id() {
            // Of a hub that is gone it came from a carrier, and it is for this one to publish.
            let at_work = self.is_hub_device(&log.author);
            return at_work.then(|| "another hub has closed it and publishes it".into());
        }
        if !self.could_be_carried() || self.is_held_elsewhere(&log, Head { sequence, hash }) {
            return None;
        }
        Some("no carrier holds its closing yet: it is released when one can be reached".into())
    }

    /// Why nothing can be closed now without the danger of paying twice.
    pub(crate) fn closing_problem(&self) -> Option<String> {
        if !self.is_hub() {
            return None;
        }
        if self.recovery.is_waiting() {
            return Some(super::recovery::WAITING.into());
        }
        if self.is_fenced() {
            return Some("another hub writes the market's checkpoints now: what it covers, it settles".into());
        }
        if let Some(contradiction) = &self.books.contradiction {
            return Some(contradiction.clone());
        }
        if self.ledger_is_on_its_way() {
            return Some(
                "a neighbour holds entries of this hub's ledger that are not here yet: try again in a moment".into(),
            );
        }
        let released = self.last_released();
        if let Some((number, reason)) = self.books.unread.iter().find(|(number, _)| *number > released) {
            let which = if *number == u64::MAX { "a batch".to_owned() } else { format!("batch {number}") };
            return Some(format!(
                "an earlier run of this hub has closed {which}, and what it published can't be worked out here yet: \
                 {reason}. Nothing is closed until it can{}",
                match number {
                    &u64::MAX => String::new(),
                    number => format!(
                        ". Only where you know that what it lacks is on no device any more: `stallmesh hub accept-loss \
                         {number}`"
                    ),
                }
            ));
        }
        let settlements = self.views.settlements();
        let unknown = settlements.iter().find(|published| {
            let number = published.message.number;
            if number <= released {
                return false;
            }
            let known = self.overlay.get(Table::Closings, &key(BATCH, number)).ok().flatten();
            let known = known.and_then(|value| serde_json::from_slice::<ClosedBatch>(&value).ok());
            known.is_none_or(|known| known.closing != hex::encode(&published.message.closing))
        });
        unknown.map(|published| {
            format!(
                "an earlier run of this hub has published settlement {}, and its closing has not come back from a \
                 carrier yet. Nothing is closed until it has",
                published.message.number
            )
        })
    }

    /// The number of the newest batch that is released; 0 for none.
    fn last_released(&self) -> u64 {
        let unreleased = self.overlay.scan_prefix(Table::Closings, UNRELEASED).unwrap_or_default();
        let first = unreleased.first().and_then(|(key, _)| number_of(key)).unwrap_or(u64::MAX);
        self.last_before(&key(BATCH, first))
    }

    fn last_closed(&self) -> u64 {
        self.last_before(UNRELEASED)
    }

    /// The number of the newest batch whose key is before another.
    fn last_before(&self, end: &[u8]) -> u64 {
        let batches = self.overlay.scan_back(Table::Closings, BATCH, end, 1).unwrap_or_default();
        batches.first().and_then(|(key, _)| number_of(key)).unwrap_or(0)
    }

    /// Takes in closings that this hub doesn't know: its own of before a loss, and another hub's.
    pub(crate) fn take_in_closings(&mut self) {
        if !self.is_hub() || self.books.closings_read {
            return;
        }
        // What closings relied on is judged first, by whoever comes this way again for it.
        if self.take_in_standing() {
            self.refresh();
        }
        if std::mem::replace(&mut self.books.closings_read, true) {
            return;
        }
        self.make_whole();
        self.books.unread.clear();
        let unknown = self.unknown_closings();
        let mut unknown = self.guard(unknown).unwrap_or_default();
        unknown.sort_by_key(|held| (held.entry.timestamp, held.hash));
        let mut opened = Vec::new();
        for held in unknown {
            match self.read_closing(held) {
                Ok(closing) => opened.push(closing),
                // What can't be opened says no number: it may be any.
                Err(reason) => self.books.unread.push((u64::MAX, reason)),
            }
        }
        opened.sort_by_key(|closing| (closing.message.number, closing.held.entry.timestamp, closing.held.hash));
        for closing in opened {
            let number = closing.message.number;
            let loss = self.overlay.get(Table::Closings, &key(LOSS, number));
            let loss = self.guard(loss).flatten().is_some();
            let published = self.is_published(&closing.held.hash.to_string());
            match self.recompute_closing(&closing, false) {
                Ok((views, result)) => self.admit_closing(closing, &views, &result),
                Err(_) if loss && !published => {
                    self.overlay.put(Table::Closings, [VOID, closing.held.hash.as_bytes()].concat(), []);
                }
                Err(reason) => match loss.then(|| self.recompute_closing(&closing, true)) {
                    Some(Ok((views, result))) => self.admit_closing(closing, &views, &result),
                    Some(Err(reason)) => self.books.unread.push((number, reason)),
                    None => self.books.unread.push((number, reason)),
                },
            }
        }
        if let Some(problem) = self.closing_problem().filter(|_| !self.books.unread.is_empty()) {
            self.alarm(problem);
        }
    }

    fn unknown_closings(&mut self) -> Result<Vec<Held>, StoreError> {
        let known: BTreeSet<String> = self.closed_batches().into_iter().map(|closed| closed.closing).collect();
        let mut unknown = self.ledger_entries(Kind::CLOSING)?;
        unknown.retain(|held| !known.contains(&held.hash.to_string()));
        let mut counting = Vec::new();
        for held in unknown {
            if self.overlay.get(Table::Closings, &[VOID, held.hash.as_bytes()].concat())?.is_none() {
                counting.push(held);
            }
        }
        Ok(counting)
    }

    /// Takes a closing in as one of this hub's batches.
    fn admit_closing(&mut self, closing: ReadClosing, views: &Views, result: &Reconciliation) {
        let number = closing.message.number;
        let hash = closing.held.hash.to_string();
        let released = self.is_published(&hash);
        if let Some(rival) = self.closed_batch(number) {
            let rival_released = !self.is_unreleased(number) || self.is_published(&rival.closing);
            if released && rival_released {
                return self.contradict(number);
            }
            let first = (closing.held.entry.timestamp, &hash) < (rival.timestamp, &rival.closing);
            if rival_released || !(released || first) {
                return self.overlay.put(Table::Closings, [VOID, closing.held.hash.as_bytes()].concat(), []);
            }
        }
        let (last, _, _) = self.closed_rows();
        if number < last && self.closed_batch(number).is_none() {
            // What it published is among what a later one did.
            return self.overlay.put(Table::Closings, [VOID, closing.held.hash.as_bytes()].concat(), []);
        }
        for void in number..=last {
            self.make_void(void);
        }
        // It goes on from another batch than the one that is known here under the number before.
        let previous = hex::encode(&closing.message.previous);
        if self.closed_batch(number - 1).is_some_and(|before| before.digest != previous) {
            self.make_void(number - 1);
        }
        let (_, _, published) = self.closed_rows();
        let rows = batch(&result.rows, &published);
        let currency = views.market().map(|market| market.currency.clone()).unwrap_or_default();
        let statements = self.statements(views, &currency, number, result, &rows, &closing.input);
        let closed = ClosedBatch {
            number,
            digest: closing.digest.to_string(),
            closing: hash,
            rows,
            previous,
            at: position_text(&closing.held.log, closing.held.sequence),
            timestamp: closing.held.entry.timestamp,
        };
        self.keep_closed(&closed, &statements);
        tracing::info!(number, released, "a batch of an earlier run is known again");
    }

    /// A batch that was closed here and not released counts no more; what it read goes to the next one.
    fn make_void(&mut self, number: u64) {
        let Some(closed) = self.closed_batch(number) else { return };
        if !self.is_unreleased(number) || self.is_published(&closed.closing) {
            return self.contradict(number);
        }
        let statements = self.overlay.scan_prefix(Table::Closings, &waiting_key(number, ""));
        for (key, _) in self.guard(statements).unwrap_or_default() {
            self.overlay.delete(Table::Closings, key);
        }
        self.overlay.delete(Table::Closings, key(BATCH, number));
        self.overlay.delete(Table::Closings, key(UNRELEASED, number));
        if let Ok(hash) = hex::decode(&closed.closing) {
            self.overlay.put(Table::Closings, [VOID, &hash].concat(), []);
        }
        self.alarm(format!(
            "batch {number} that this hub closed was never released and is void: an earlier run had closed another. What \
             it read goes to the next one: settle again"
        ));
    }

    fn contradict(&mut self, number: u64) {
        let problem = format!(
            "this hub has released two batches with number {number}: nothing is closed any more. Keep its data, compare \
             both settlements, and pay neither twice"
        );
        self.alarm(problem.clone());
        self.books.contradiction = Some(problem);
    }
}
