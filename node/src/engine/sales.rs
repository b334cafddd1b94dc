//! The sales that this device recorded, and how safe each is.
//!
//! All of them stand in the store, by sale id; in memory are only those that no settlement has taken in, so that news of
//! copies and acknowledgements costs what it changes, however long the market's day.
//!
//! ```text
//! sales   "s" ‖ sale id              the record, as JSON
//!         "t" ‖ time u64 ‖ number u64   sale id: the order in which they are listed
//!         "o" ‖ sale id              author 32 ‖ incarnation 16 ‖ sequence u64 ‖ hash 32, until it is settled
//!         "n"                        how many were recorded
//!         "u" ‖ promotion id         how many of them it acted in, u64
//! ```

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::codec::Reader;
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Lane, LogName, SaleId};

use super::stock::{self, Sold};
use super::{Engine, Notice, SaleState, SaleView, SalesCount};
use crate::hub::reconcile::entry_name;
use crate::hub::statement::Statement;
use crate::store::{Store, StoreError, Table};

const KEY_COUNT: &[u8] = b"n";

/// A recorded sale, as it is kept.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SaleRecord {
    /// Of the request: the same key with other content is another sale.
    pub(crate) order_hash: String,
    /// Counts this device's sales, from 1.
    pub(crate) number: u64,
    pub(crate) author: String,
    pub(crate) incarnation: String,
    pub(crate) sequence: u64,
    pub(crate) hash: String,
    /// Its state and copies are those at recording.
    pub(crate) view: SaleView,
}

impl SaleRecord {
    /// Where its entry stands.
    pub(crate) fn position(&self) -> Option<Position> {
        let author: DeviceId = self.author.parse().ok()?;
        let incarnation: Incarnation = self.incarnation.parse().ok()?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.hash, &mut hash).ok()?;
        let log = LogName { author, incarnation, lane: Lane::SALES };
        Some(Position { log, sequence: self.sequence, hash: Hash::from_bytes(hash) })
    }

    fn listed_at(&self) -> Vec<u8> {
        [b"t".as_slice(), &self.view.recorded_at.to_be_bytes(), &self.number.to_be_bytes()].concat()
    }
}

/// A sale that is not settled.
#[derive(Clone, Copy, Debug)]
struct OpenSale {
    sale: SaleId,
    hash: Hash,
    copies: usize,
}

/// Sales by where their entries stand.
type OpenSales = BTreeMap<(LogName, u64), OpenSale>;

/// What statements of the own stall say.
#[derive(Debug, Default)]
struct Settled {
    /// Statements that were read, by the hash of their blob.
    read: BTreeMap<Hash, Statement>,
    /// How many keys were tried in vain on a statement.
    tried: BTreeMap<Hash, usize>,
    /// Entries in suspense as of the newest settlement, and its number.
    suspense: (u64, BTreeSet<String>),
    covered: BTreeMap<(DeviceId, Incarnation), Vec<(u64, u64)>>,
}

impl Settled {
    fn take(&mut self, blob: Hash, statement: Statement) {
        for log in &statement.covered {
            if let (Ok(author), Ok(incarnation)) = (log.author.parse(), log.incarnation.parse()) {
                let covered = self.covered.entry((author, incarnation)).or_default();
                covered.extend(&log.intervals);
                join_ranges(covered);
            }
        }
        if statement.settlement >= self.suspense.0 {
            let entries = statement.suspense.iter().map(|(entry, ..)| entry.clone()).collect();
            self.suspense = (statement.settlement, entries);
        }
        self.read.insert(blob, statement);
    }

    /// What the newest settlement made of an entry; `None` where no settlement has taken it in.
    fn state(&self, at: &Position) -> Option<SaleState> {
        let covered = self.covered.get(&(at.log.author, at.log.incarnation))?;
        if !covered.iter().any(|(from, to)| (*from..=*to).contains(&at.sequence)) {
            return None;
        }
        let suspended = !self.suspense.1.is_empty() && self.suspense.1.contains(&entry_name(at));
        Some(if suspended { SaleState::InSuspense } else { SaleState::Settled })
    }
}

/// Sorts ranges and joins those that overlap or touch.
pub(crate) fn join_ranges(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges.drain(..) {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    *ranges = joined;
}

/// The book.
#[derive(Debug, Default)]
pub(crate) struct SalesBook {
    recorded: u64,
    /// The hub hasn't signed for these.
    waiting: OpenSales,
    /// The hub has these, and no settlement posts them yet.
    at_hub: OpenSales,
    settled: Settled,
    /// In how many sales each promotion acted.
    used: BTreeMap<String, u64>,
}

impl SalesBook {
    /// In how many sales of this device each promotion acted.
    pub(crate) fn promotions_used(&self) -> &BTreeMap<String, u64> {
        &self.used
    }

    pub(crate) fn counts(&self) -> SalesCount {
        let open = self.waiting.len() + self.at_hub.len();
        SalesCount {
            recorded: self.recorded as usize,
            copied: self.waiting.values().filter(|sale| sale.copies > 0).count(),
            at_the_hub: self.at_hub.len(),
            settled: (self.recorded as usize).saturating_sub(open),
        }
    }

    /// Statements of the own stall that could be opened, by settlement.
    pub(crate) fn statements(&self) -> Vec<&Statement> {
        let mut statements: Vec<&Statement> = self.settled.read.values().collect();
        statements.sort_by_key(|statement| statement.settlement);
        statements
    }

    fn open_of(sales: &OpenSales, log: &LogName, from: u64, to: u64) -> Vec<(u64, OpenSale)> {
        if from > to {
            return Vec::new();
        }
        sales.range((*log, from)..=(*log, to)).map(|((_, sequence), sale)| (*sequence, *sale)).collect()
    }
}

impl<S: Store> Engine<S> {
    pub(crate) fn load_sales(&mut self) -> Result<(), StoreError> {
        let count = self.overlay.get(Table::Sales, KEY_COUNT)?;
        self.sales.recorded = count.and_then(|bytes| bytes.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
        for (key, value) in self.overlay.scan_prefix(Table::Sales, b"o")? {
            if let (Ok(sale), Some(at)) = (SaleId::try_from(&key[1..]), decode_position(&value)) {
                let open = OpenSale { sale, hash: at.hash, copies: 0 };
                let head = Head { sequence: at.sequence, hash: at.hash };
                let book =
                    if self.is_received(&at.log, head) { &mut self.sales.at_hub } else { &mut self.sales.waiting };
                book.insert((at.log, at.sequence), open);
            }
        }
        for (key, value) in self.overlay.scan_prefix(Table::Sales, b"u")? {
            if planted::is_on(Bug::LimitForgotten) {
                break;
            }
            if let (Ok(promotion), Ok(uses)) = (String::from_utf8(key[1..].to_vec()), value.as_slice().try_into()) {
                self.sales.used.insert(promotion, u64::from_be_bytes(uses));
            }
        }
        self.read_statements();
        Ok(())
    }

    /// A recorded sale by its id.
    pub(crate) fn sale_record(&self, sale: &SaleId) -> Result<Option<SaleRecord>, StoreError> {
        let key = [b"s".as_slice(), sale.as_bytes()].concat();
        let value = self.overlay.get(Table::Sales, &key)?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Which number the next sale has.
    pub(crate) fn next_sale_number(&self) -> u64 {
        self.sales.recorded + 1
    }

    /// Writes down a sale that was just recorded.
    pub(crate) fn keep_sale(&mut self, record: &SaleRecord, at: &Position) {
        let sale = record.view.sale;
        let key = |prefix: &[u8]| [prefix, sale.as_bytes()].concat();
        self.overlay.put(Table::Sales, key(b"s"), serde_json::to_vec(record).unwrap_or_default());
        self.overlay.put(Table::Sales, key(b"o"), encode_position(at));
        self.overlay.put(Table::Sales, record.listed_at(), *sale.as_bytes());
        self.overlay.put(Table::Sales, KEY_COUNT, record.number.to_be_bytes());
        self.sales.recorded = record.number;
        if !record.view.rehearsal {
            self.count_promotions(&record.view);
            let lines = record.view.lines.iter().map(|line| (&*line.line.sku, line.line.quantity.as_str()));
            let taken = stock::taken(lines);
            self.note_sold(at, Sold { hash: at.hash, sale, time: record.view.recorded_at, taken });
        }
        self.sales.waiting.insert((at.log, at.sequence), OpenSale { sale, hash: at.hash, copies: 0 });
        self.notice(Notice::Sale { sale: sale.to_string(), state: SaleState::ThisDevice, copies: 0 });
    }

    /// Counts the promotions that acted in a sale, each once.
    fn count_promotions(&mut self, view: &SaleView) {
        let reductions = view.lines.iter().flat_map(|line| &line.line.reductions);
        let of_lines = reductions.map(|reduction| &reduction.promotion);
        let acted: BTreeSet<_> = of_lines.chain(view.fees.iter().map(|fee| &fee.promotion)).collect();
        for promotion in acted {
            let uses = self.sales.used.entry(promotion.to_string()).or_insert(0);
            *uses += 1;
            let key = [b"u".as_slice(), promotion.as_bytes()].concat();
            self.overlay.put(Table::Sales, key, uses.to_be_bytes());
        }
    }

    /// Recorded sales, newest first.
    pub(crate) fn list_sales(&self, limit: usize, before: Option<SaleId>) -> Result<Vec<SaleView>, StoreError> {
        let end = match before {
            Some(before) => match self.sale_record(&before)? {
                Some(record) => record.listed_at(),
                None => return Ok(Vec::new()),
            },
            None => b"u".to_vec(),
        };
        let mut views = Vec::new();
        for (_, sale) in self.overlay.scan_back(Table::Sales, b"t", &end, limit)? {
            let Ok(sale) = SaleId::try_from(sale.as_slice()) else { continue };
            views.extend(self.sale_record(&sale)?.map(|record| self.sale_view(&record)));
        }
        Ok(views)
    }

    /// A sale as it stands now.
    pub(crate) fn sale_view(&self, record: &SaleRecord) -> SaleView {
        let mut view = record.view.clone();
        let Some(at) = record.position() else { return view };
        let head = Head { sequence: at.sequence, hash: at.hash };
        view.copies = self.copies_of(&at.log, at.sequence);
        view.state = match self.sales.settled.state(&at) {
            Some(state) => state,
            None if self.is_received(&at.log, head) => SaleState::AtTheHub,
            None if view.copies > 0 => SaleState::Copied,
            None => SaleState::ThisDevice,
        };
        view
    }

    /// Neighbours hold more, or less, of an own log than before.
    pub(crate) fn copies_changed(&mut self, log: &LogName, intervals: &[Interval]) {
        for interval in intervals {
            for (sequence, open) in SalesBook::open_of(&self.sales.waiting, log, interval.from, interval.to) {
                let copies = self.copies_of(log, sequence);
                if copies == open.copies {
                    continue;
                }
                if let Some(open) = self.sales.waiting.get_mut(&(*log, sequence)) {
                    open.copies = copies;
                }
                let state = if copies > 0 { SaleState::Copied } else { SaleState::ThisDevice };
                self.notice(Notice::Sale { sale: open.sale.to_string(), state, copies });
            }
        }
    }

    /// The hub has signed for more of an own log than before.
    pub(crate) fn received_changed(&mut self, log: &LogName) {
        let runs = self.logs.get(log).map(|record| record.runs.clone()).unwrap_or_default();
        for run in &runs {
            for (from, to) in self.received_of(log, run) {
                for (sequence, open) in SalesBook::open_of(&self.sales.waiting, log, from, to) {
                    self.sales.waiting.remove(&(*log, sequence));
                    self.sales.at_hub.insert((*log, sequence), open);
                    let (sale, copies) = (open.sale.to_string(), open.copies);
                    self.notice(Notice::Sale { sale, state: SaleState::AtTheHub, copies });
                }
            }
        }
    }

    /// The hub that had signed for an own log is gone: its sales wait again.
    pub(crate) fn received_no_more(&mut self, log: &LogName) {
        for (sequence, open) in SalesBook::open_of(&self.sales.at_hub, log, 0, u64::MAX) {
            self.sales.at_hub.remove(&(*log, sequence));
            self.sales.waiting.insert((*log, sequence), open);
        }
    }

    /// Opens statements of the own stall that have arrived since, and closes what they settle.
    pub(crate) fn read_statements(&mut self) {
        let Some((stall, mut blobs)) = self.own_statements() else { return };
        blobs.retain(|blob| !self.sales.settled.read.contains_key(blob));
        if blobs.is_empty() {
            return;
        }
        let Some(market) = self.market else { return };
        let keys = self.stall_read_keys(&stall);
        let mut opened = false;
        for blob in blobs {
            let bytes = self.overlay.get(Table::Blobs, blob.as_bytes());
            let Some(bytes) = self.guard(bytes).flatten() else { continue };
            if self.sales.settled.tried.get(&blob) == Some(&keys.len()) {
                continue;
            }
            match super::hub::open_statement(&market.id, &bytes, &stall, &keys) {
                Some(statement) => {
                    self.sales.settled.tried.remove(&blob);
                    self.sales.settled.take(blob, statement);
                    opened = true;
                }
                None => {
                    self.sales.settled.tried.insert(blob, keys.len());
                }
            }
        }
        if opened {
            self.close_settled();
        }
    }

    /// Takes sales that a settlement has posted out of the open ones.
    fn close_settled(&mut self) {
        let book = &self.sales;
        let judged: Vec<((LogName, u64), OpenSale, SaleState)> = book
            .waiting
            .iter()
            .chain(&book.at_hub)
            .filter_map(|(place, open)| {
                let at = Position { log: place.0, sequence: place.1, hash: open.hash };
                Some((*place, *open, book.settled.state(&at)?))
            })
            .collect();
        for (place, open, state) in judged {
            if state == SaleState::Settled {
                self.sales.waiting.remove(&place);
                self.sales.at_hub.remove(&place);
                self.overlay.delete(Table::Sales, [b"o".as_slice(), open.sale.as_bytes()].concat());
                self.unexpose_all(open.sale);
            }
            self.notice(Notice::Sale { sale: open.sale.to_string(), state, copies: open.copies });
        }
    }
}

pub(super) fn encode_position(at: &Position) -> Vec<u8> {
    [at.log.author.as_bytes().as_slice(), at.log.incarnation.as_bytes(), &at.sequence.to_be_bytes(), at.hash.as_bytes()]
        .concat()
}

pub(super) fn decode_position(bytes: &[u8]) -> Option<Position> {
    let mut reader = Reader::new(bytes);
    let author = DeviceId::from_bytes(reader.array("author").ok()?);
    let incarnation = Incarnation::from_bytes(reader.array("incarnation").ok()?);
    let sequence = u64::from_be_bytes(reader.array("sequence").ok()?);
    let hash = Hash::from_bytes(reader.array("hash").ok()?);
    Some(Position { log: LogName { author, incarnation, lane: Lane::SALES }, sequence, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = vec![(7, 9), (1, 3), (4, 5), (2, 2), (20, 30), (10, 10)];
        join_ranges(&mut ranges);
        assert_eq!(ranges, [(1, 5), (7, 10), (20, 30)]);
    }

    #[test]
    fn a_position_is_kept_whole() {
        let log = LogName {
            author: DeviceId::from_bytes([1; 32]),
            incarnation: Incarnation::from_bytes([2; 16]),
            lane: Lane::SALES,
        };
        let at = Position { log, sequence: 77, hash: Hash::from_bytes([3; 32]) };
        assert_eq!(decode_position(&encode_position(&at)), Some(at));
        assert_eq!(decode_position(&encode_position(&at)[1..]), None);
    }
}
