//! Exports: everything held, with the secrets of what this node can open, so that anyone can recompute the settlement.
//!
//! ```text
//! export = "STALLMESH-EXPORT/1\n" ‖ record …
//! record = type u8 ‖ length u32 ‖ bytes
//! type 1: market       root key 32 ‖ epoch u32
//! type 2: page         author 32 ‖ incarnation 16 ‖ lane u32 ‖ page
//! type 3: disclosure   log id 32 ‖ sequence u64 ‖ entry hash 32 ‖ part u8 ‖ part secret 32
//! type 4: leaf         what a checkpoint said of a sealed log, see `ProvenLeaf::to_bytes`
//! type 5: end          nothing
//! ```
//! Integers are big endian. The market's record comes first and the end's last; the others may stand in any order.

use std::collections::BTreeMap;
use std::io::Read;

use stallmesh_protocol::checkpoint::ProvenLeaf;
use stallmesh_protocol::codec::{CodecError, Reader};
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::membership::Position;
use stallmesh_protocol::page::{PAGE_MAX, Page};
use stallmesh_protocol::payload;
use stallmesh_protocol::seal::{PartSecret, SealedAt};
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Kind, Lane, LogId, LogName, MarketId};

use super::hub::{judge, read_sale};
use super::logs::{Held, HeldAncestry, Inserted, Logs, Run};
use super::overlay::Overlay;
use super::views::Views;
use super::{Engine, Failure, FailureCode};
use crate::hub::reconcile::{Reconciliation, reconcile};
use crate::quote::files::PromotionFile;
use crate::store::{MemoryStore, Store};

/// What an export begins with.
const MAGIC: &[u8] = b"STALLMESH-EXPORT/1\n";
const RECORD_MAX: usize = PAGE_MAX + 64;
const PART_BYTES: usize = 1024 * 1024;
/// The last record.
const END: u8 = 5;

fn record(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

impl<S: Store> Engine<S> {
    /// The next part of an export; `cursor` is empty at the start, and at the end in the answer.
    pub(crate) fn export(&mut self, cursor: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let Some(market) = self.market else {
            return Err(Failure::new(
                FailureCode::ENotMember,
                "this device is in no market: there is nothing to export",
            ));
        };
        let mut out = Vec::new();
        let (mut at, mut begun, mut next) = (LogId::from_bytes([0; 32]), 0_u64, 0_u64);
        if cursor.is_empty() {
            out.extend_from_slice(MAGIC);
            let epoch = self.views.market().map_or(0, |market| market.epoch);
            record(&mut out, 1, &[market.root.as_bytes(), &epoch.to_be_bytes()]);
            let proven = |leaf: &&ProvenLeaf| self.views.coverage.is_proven(&market.id, leaf);
            for leaf in self.views.leaves().filter(proven) {
                record(&mut out, 4, &[&leaf.to_bytes()]);
            }
        } else {
            let mut reader = Reader::new(cursor);
            let decoded = (|| {
                let log = LogId::from_bytes(reader.array("log").ok()?);
                let run = u64::from_be_bytes(reader.array("run").ok()?);
                Some((log, run, u64::from_be_bytes(reader.array("sequence").ok()?)))
            })();
            (at, begun, next) =
                decoded.ok_or_else(|| Failure::new(FailureCode::EInvalid, "cursor: not one that an export gave"))?;
        }
        let mut logs: Vec<(LogId, LogName, Vec<Run>)> =
            self.logs.iter().map(|(name, record)| (record.id, *name, record.runs.clone())).collect();
        logs.sort_by_key(|(id, _, _)| *id);
        for (id, name, runs) in logs.into_iter().filter(|(id, _, _)| *id >= at) {
            let first = if id == at { begun } else { 0 };
            for (index, run) in (0_u64..).zip(runs).filter(|(index, _)| *index >= first) {
                // Only the run in which the last part ended goes on where it ended.
                let mut from = if id == at && index == begun { run.from.max(next) } else { run.from };
                while from <= run.to {
                    if out.len() > PART_BYTES {
                        let cursor = [id.as_bytes().as_slice(), &index.to_be_bytes(), &from.to_be_bytes()];
                        return Ok((out, cursor.concat()));
                    }
                    let page = self.logs.page(&self.overlay, &name, from, run.to, Some(&run), PAGE_MAX);
                    let Some(page) = self.guard(page).flatten() else { break };
                    from = page.last() + 1;
                    let lane = name.lane.0.to_be_bytes();
                    let parts: [&[u8]; 4] =
                        [name.author.as_bytes(), name.incarnation.as_bytes(), &lane, &page.encode()];
                    record(&mut out, 2, &parts);
                    if name.lane.is_sealed() {
                        self.disclose(&mut out, &id, &name, &page);
                    }
                }
            }
        }
        // Whoever reads it knows that nothing was cut off.
        record(&mut out, END, &[]);
        Ok((out, Vec::new()))
    }

    /// The secrets of a page's sealed money parts, as far as this node can open them.
    fn disclose(&mut self, out: &mut Vec<u8>, id: &LogId, name: &LogName, page: &Page) {
        let mut previous = page.previous;
        for (entry, sequence) in page.entries.iter().zip(page.first..) {
            let hash = entry.header().hash(id, sequence, &previous);
            let held = Held { log: *name, sequence, previous, hash, entry: entry.clone() };
            previous = hash;
            if entry.payload.key.is_none() || entry.payload.part(Part::Money).is_none() {
                continue;
            }
            if let Ok(key) = self.day_key_for(&held) {
                let secret = key.part_secret(&sealed_at(id, &held), Part::Money);
                let part = [Part::Money as u8];
                record(out, 3, &[id.as_bytes(), &sequence.to_be_bytes(), hash.as_bytes(), &part, secret.as_bytes()]);
            }
        }
    }
}

fn sealed_at(id: &LogId, held: &Held) -> SealedAt {
    SealedAt {
        log: *id,
        sequence: held.sequence,
        previous: held.previous,
        timestamp: held.entry.timestamp,
        seen: held.entry.seen,
        kind: held.entry.kind,
    }
}

/// What an export recomputes to.
#[derive(Debug)]
pub struct Recomputed {
    /// The market.
    pub market: MarketId,
    /// Entries whose chain and signatures hold.
    pub entries: u64,
    /// Rows, states and the digest.
    pub reconciliation: Reconciliation,
    /// (Number, digest) of the settlements that the hub published in `control`.
    pub published: Vec<(u64, String)>,
    /// Disclosed sales: (entry's position as text, sale id, total, currency).
    pub sales: Vec<RecomputedSale>,
    /// Fraud signals that its entries say, whether they count or not.
    pub signals: u64,
}

/// One disclosed sale.
#[derive(Clone, Debug)]
pub struct RecomputedSale {
    /// Sale id, hexadecimal.
    pub sale: String,
    /// Where its entry stands.
    pub at: Position,
    /// ISO 4217.
    pub currency: String,
    /// Minor units, without tips.
    pub total: u64,
    /// Beside the total.
    pub tip: u64,
    /// What promotions took off.
    pub reduction: u64,
    /// How many of its codes belong to a promotion that took something off, as promotions are in this export.
    pub codes: usize,
}

/// Why an export can't be believed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It can't be read.
    #[error("the export can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is damaged.
    #[error("the export is damaged at byte {offset}: {detail}")]
    Damaged {
        /// Where its record begins.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// It is of another market than the key that was given.
    #[error("the export is of another market: its root key is {found}")]
    OtherMarket {
        /// The export's root key.
        found: DeviceId,
    },
}

/// Recomputes a settlement from an export alone, taking its logs in an order drawn from `order_seed`. Every record must
/// hold: every page's chain and signatures, every disclosure against the entry that it opens, every leaf against its
/// checkpoint.
///
/// # Errors
/// The first record that doesn't hold.
pub fn recompute(reader: impl Read, root: Option<DeviceId>, order_seed: u64) -> Result<Recomputed, ExportError> {
    let contents = Contents::read(reader, root)?;
    let market = MarketId::new(&contents.root, contents.epoch);
    let mut overlay = Overlay::new(MemoryStore::new());
    let damaged = |offset: u64, detail: String| ExportError::Damaged { offset, detail };
    let mut logs = Logs::load(market, &overlay).map_err(|error| damaged(0, error.to_string()))?;
    let mut views = Views::new(contents.root, market);
    let (mut entries, mut signals) = (0, 0);
    let mut order: Vec<(LogName, Vec<(u64, Page)>)> = contents.pages.into_iter().collect();
    // The result must not depend on which log is read first.
    order.sort_by_key(|(name, _)| {
        stallmesh_protocol::hash::Hasher::new(stallmesh_protocol::hash::Domain::Fingerprint)
            .u64(order_seed)
            .bytes(name.author.as_bytes())
            .bytes(name.incarnation.as_bytes())
            .u32(name.lane.0)
            .finish()
    });
    for (name, pages) in order {
        for (offset, page) in pages {
            let verified =
                page.verify(&name.id(&market), &name.author).map_err(|error| damaged(offset, error.to_string()))?;
            let inserted =
                logs.insert(&mut overlay, &name, &verified).map_err(|error| damaged(offset, error.to_string()))?;
            match inserted {
                Inserted::Fork { .. } if !name.lane.is_sealed() => {
                    return Err(damaged(offset, "a second history of a log that has one".into()));
                }
                Inserted::New(new) | Inserted::Fork { new, .. } => {
                    entries += new.len() as u64;
                    new.iter().for_each(|held| {
                        signals += signals_of(held);
                        views.insert(held);
                    });
                }
                Inserted::Duplicate => {}
                Inserted::Gap | Inserted::Diverges | Inserted::TooScattered => {
                    return Err(damaged(offset, "a page that doesn't follow the one before it".into()));
                }
            }
        }
    }
    contents.leaves.iter().for_each(|(_, leaf)| _ = views.inherit_leaf(leaf.clone()));
    views.refresh();
    views.refresh_promotions();
    for (offset, leaf) in &contents.leaves {
        if !views.coverage.is_proven(&market, leaf) {
            return Err(damaged(*offset, "a leaf that no checkpoint in it proves".into()));
        }
    }
    check_disclosures(&logs, &overlay, &contents.secrets)?;
    let ancestry = HeldAncestry { logs: &logs, overlay: &overlay };
    let terms = views.settlement_terms();
    let mut facts = Vec::new();
    let mut sales = Vec::new();
    for (name, record) in logs.on_lane(Lane::SALES) {
        let promotions = views.promotions().at_stall(views.membership.stall(&name.author).unwrap_or_default());
        for run in &record.runs {
            let failed = |error: crate::store::StoreError| damaged(0, error.to_string());
            let chain = logs.entries(&overlay, name, run, run.from, run.to, usize::MAX).map_err(failed)?;
            let connected = logs.reach(&overlay, name, run).map_err(failed)? == 1;
            for held in chain.iter().filter(|held| held.entry.kind == Kind::SALE) {
                let sale = open(&record.id, held, &contents.secrets);
                if let Ok(sale) = &sale {
                    sales.push(RecomputedSale {
                        sale: hex::encode(&sale.sale),
                        at: super::views::position(held),
                        currency: sale.currency.clone(),
                        total: sale.total,
                        tip: sale.tenders.iter().map(|tender| tender.tip).fold(0, u64::saturating_add),
                        reduction: sale.reduction,
                        codes: acting_codes(&promotions, sale),
                    });
                }
                facts.push(judge(&views, &ancestry, &terms, held, sale, connected));
            }
        }
    }
    let currency = views.market().map(|market| market.currency.clone()).unwrap_or_default();
    let published = views
        .settlements()
        .iter()
        .map(|published| (published.message.number, hex::encode(&published.message.digest)))
        .collect();
    Ok(Recomputed { market, entries, reconciliation: reconcile(facts, &currency), published, sales, signals })
}

/// How many fraud signals an entry says.
fn signals_of(held: &Held) -> u64 {
    if held.log.lane != Lane::SIGNAL || held.entry.kind != Kind::SIGNALS {
        return 0;
    }
    let bytes = held.entry.payload.bytes(Part::Public).unwrap_or_default();
    payload::decode::<payload::Signals>("signals", bytes).map_or(0, |message| message.signals.len() as u64)
}

/// How many of a sale's codes belong to a promotion that took something off.
fn acting_codes(promotions: &[&PromotionFile], sale: &payload::Sale) -> usize {
    let reductions = || sale.lines.iter().flat_map(|line| &line.reductions);
    let acts = |id: &str| reductions().any(|reduction| reduction.promotion == id);
    let is_acting = |code: &&String| {
        promotions.iter().any(|promotion| promotion.requires.codes.contains(code) && acts(&promotion.id))
    };
    sale.codes.iter().filter(is_acting).count()
}

/// Where a secret's record begins, and the secret, by the part that it opens.
type Secrets = BTreeMap<(LogId, Head, Part), (u64, PartSecret)>;

/// Every secret opens a part of an entry that the export holds.
fn check_disclosures<S: Store>(logs: &Logs, overlay: &Overlay<S>, secrets: &Secrets) -> Result<(), ExportError> {
    let names: BTreeMap<LogId, LogName> = logs.iter().map(|(name, record)| (record.id, *name)).collect();
    for ((id, head, part), (offset, secret)) in secrets {
        let damaged = |detail: String| ExportError::Damaged { offset: *offset, detail };
        let name = names.get(id).ok_or_else(|| damaged("a secret of a log that it doesn't hold".into()))?;
        let held = logs.entry(overlay, name, *head).map_err(|error| damaged(error.to_string()))?;
        let held = held.ok_or_else(|| damaged("a secret of an entry that it doesn't hold".into()))?;
        let sealed = held.entry.payload.bytes(*part).ok_or_else(|| damaged("a secret of an absent part".into()))?;
        secret.open(&sealed_at(id, &held), *part, sealed).map_err(|error| damaged(error.to_string()))?;
    }
    Ok(())
}

fn open(id: &LogId, held: &Held, secrets: &Secrets) -> Result<stallmesh_protocol::payload::Sale, String> {
    let head = Head { sequence: held.sequence, hash: held.hash };
    let (_, secret) = secrets.get(&(*id, head, Part::Money)).ok_or("E_SEAL: its secret was not disclosed")?;
    let sealed = held.entry.payload.bytes(Part::Money).ok_or("E_INCOMPLETE: no money part")?;
    let bytes = secret.open(&sealed_at(id, held), Part::Money, sealed).map_err(|error| error.to_string())?;
    read_sale(&bytes)
}

/// An export's records, sorted out.
struct Contents {
    root: DeviceId,
    epoch: u32,
    pages: BTreeMap<LogName, Vec<(u64, Page)>>,
    secrets: Secrets,
    leaves: Vec<(u64, ProvenLeaf)>,
}

impl Contents {
    fn read(mut reader: impl Read, root: Option<DeviceId>) -> Result<Self, ExportError> {
        let mut magic = vec![0; MAGIC.len()];
        reader.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(ExportError::Damaged { offset: 0, detail: "not an export of this program".into() });
        }
        let mut offset = MAGIC.len() as u64;
        let mut market = None;
        let mut pages: BTreeMap<LogName, Vec<(u64, Page)>> = BTreeMap::new();
        let mut secrets = Secrets::new();
        let mut leaves = Vec::new();
        let mut ended = false;
        while let Some((kind, bytes)) = read_record(&mut reader, offset)? {
            let damaged = |detail: String| ExportError::Damaged { offset, detail };
            let mut record = Reader::new(&bytes);
            if ended {
                return Err(damaged("a record after its end".into()));
            }
            if (kind == 1) != market.is_none() {
                return Err(damaged("it must begin with its market, and name one".into()));
            }
            match kind {
                1 => {
                    let found = DeviceId::from_bytes(record.array("root").map_err(|error| damaged(error.to_string()))?);
                    if root.is_some_and(|root| root != found) {
                        return Err(ExportError::OtherMarket { found });
                    }
                    let epoch = record.array("epoch").map_err(|error| damaged(error.to_string()))?;
                    record.finish().map_err(|error| damaged(error.to_string()))?;
                    market = Some((found, u32::from_be_bytes(epoch)));
                }
                2 => {
                    let (name, page) = read_page(&mut record).map_err(damaged)?;
                    pages.entry(name).or_default().push((offset, page));
                }
                3 => {
                    let (key, secret) = read_disclosure(record).map_err(|error| damaged(error.to_string()))?;
                    secrets.insert(key, (offset, secret));
                }
                4 => {
                    let leaf = ProvenLeaf::from_bytes(&bytes).map_err(|error| damaged(error.to_string()))?;
                    leaves.push((offset, leaf));
                }
                END if bytes.is_empty() => ended = true,
                other => return Err(damaged(format!("a record of unknown type {other}"))),
            }
            offset += 5 + bytes.len() as u64;
        }
        let (Some((root, epoch)), true) = (market, ended) else {
            return Err(ExportError::Damaged {
                offset,
                detail: "it ends before its end: some of it is missing".into(),
            });
        };
        // Pages of one log in the order of their sequences; the log's own rules find what is missing.
        for list in pages.values_mut() {
            list.sort_by_key(|(_, page)| page.first);
        }
        Ok(Contents { root, epoch, pages, secrets, leaves })
    }
}

fn read_record(reader: &mut impl Read, offset: u64) -> Result<Option<(u8, Vec<u8>)>, ExportError> {
    let mut kind = [0];
    if reader.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > RECORD_MAX {
        return Err(ExportError::Damaged { offset, detail: format!("a record of {length} bytes") });
    }
    let mut bytes = Vec::new();
    reader.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(ExportError::Damaged { offset, detail: "it ends in the middle of a record".into() });
    }
    Ok(Some((kind[0], bytes)))
}

fn read_page(record: &mut Reader<'_>) -> Result<(LogName, Page), String> {
    let text = |error: CodecError| error.to_string();
    let name = LogName {
        author: DeviceId::from_bytes(record.array("author").map_err(text)?),
        incarnation: Incarnation::from_bytes(record.array("incarnation").map_err(text)?),
        lane: Lane(u32::from_be_bytes(record.array("lane").map_err(text)?)),
    };
    let page = record.take(record.remaining(), "page").map_err(text)?;
    Ok((name, Page::decode(page).map_err(|error| error.to_string())?))
}

fn read_disclosure(mut record: Reader<'_>) -> Result<((LogId, Head, Part), PartSecret), CodecError> {
    let log = LogId::from_bytes(record.array("log")?);
    let head =
        Head { sequence: u64::from_be_bytes(record.array("sequence")?), hash: Hash::from_bytes(record.array("hash")?) };
    let number = record.u8("part")?;
    let part = Part::ALL.into_iter().find(|part| *part as u8 == number).ok_or(CodecError::Invalid("a part"))?;
    let secret = PartSecret::from_bytes(record.array("secret")?);
    record.finish()?;
    Ok(((log, head, part), secret))
}
