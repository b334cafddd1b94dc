//! Writing own logs: one set per incarnation, opened lazily, signed before anything leaves.

use stallmesh_protocol::entry::{Part, PartBody, Payload};
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::membership::Ancestry;
use stallmesh_protocol::payload;
use stallmesh_protocol::seal::{DayKey, SealedAt};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{DeviceId, Head, Kind, Lane, LogName};

use super::logs::Held;
use super::{Engine, EngineError, META_OPENING};
use crate::store::{Store, Table};

const DAY_MS: u64 = 24 * 3_600_000;

/// One of the running incarnation's logs.
#[derive(Debug)]
pub(crate) struct Writer {
    log: LogWriter,
    unsigned: bool,
    day_key: Option<DayKeyInUse>,
}

#[derive(Debug)]
struct DayKeyInUse {
    key: DayKey,
    /// The key entry.
    sequence: u64,
    day: u64,
    recipients: Vec<[u8; 32]>,
}

/// The market's root key in the process that holds it, and the root's log of this run once something was written.
#[derive(Debug)]
pub(crate) struct RootWriter {
    key: DeviceKey,
    log: Option<LogWriter>,
}

impl RootWriter {
    pub(crate) fn new(key: DeviceKey) -> Self {
        RootWriter { key, log: None }
    }
}

/// An entry's parts before they are sealed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) money: Option<Vec<u8>>,
    pub(crate) personal: Option<Vec<u8>>,
}

impl<S: Store> Engine<S> {
    /// Appends an entry of one clear public part to the own log of a lane.
    pub(crate) fn append_public(&mut self, lane: Lane, kind: Kind, bytes: Vec<u8>) -> Result<Held, EngineError> {
        self.open_log(lane)?;
        self.append(lane, kind, Payload::public(bytes))
    }

    /// Seals an entry's parts and appends it to the own log of a sealed lane.
    pub(crate) fn append_sealed(&mut self, lane: Lane, kind: Kind, parts: &Parts) -> Result<Held, EngineError> {
        self.open_log(lane)?;
        self.renew_day_key(lane)?;
        let time = self.time();
        let seen = self.seen();
        let Some(writer) = self.writers.get(&lane) else { return Err(EngineError::NoMarket) };
        let Some(in_use) = &writer.day_key else { return Err(EngineError::NoMarket) };
        let at = SealedAt {
            log: writer.log.id(),
            sequence: writer.log.head().sequence + 1,
            previous: writer.log.head().hash,
            timestamp: writer.log.next_timestamp(time),
            seen,
            kind,
        };
        let mut payload = Payload::default();
        payload.key = Some(in_use.sequence);
        if let Some(money) = &parts.money {
            payload.set(Part::Money, in_use.key.seal(&at, Part::Money, money)?);
        }
        if let Some(personal) = &parts.personal {
            payload.set(Part::Personal, in_use.key.seal(&at, Part::Personal, personal)?);
        }
        self.append(lane, kind, payload)
    }

    /// First 8 bytes of the newest checkpoint's hash.
    fn seen(&self) -> [u8; 8] {
        self.views.coverage.latest().map_or([0; 8], |(_, hash)| hash.prefix())
    }

    fn append(&mut self, lane: Lane, kind: Kind, payload: Payload) -> Result<Held, EngineError> {
        let (time, seen) = (self.time(), self.seen());
        let Some(writer) = self.writers.get_mut(&lane) else { return Err(EngineError::NoMarket) };
        let previous = writer.log.head().hash;
        let appended = writer.log.append(&self.device, time, seen, kind, payload)?;
        // Key entries are handed over alone, ahead of what they open, so each ends a page.
        let signature = appended.signature.or_else(|| (kind == Kind::KEY).then(|| writer.log.sign(&self.device)));
        writer.unsigned = signature.is_none();
        let name = *writer.log.name();
        self.logs.append(&mut self.overlay, name, appended.head, previous, &appended.entry, signature.as_ref());
        let held = Held {
            log: name,
            sequence: appended.head.sequence,
            previous,
            hash: appended.head.hash,
            entry: appended.entry,
        };
        self.views.insert(&held);
        self.books.reconciled = None;
        self.grown.insert(name, None);
        Ok(held)
    }

    /// Signs each own head that isn't, so that it can leave.
    pub(crate) fn sign_heads(&mut self) {
        for writer in self.writers.values_mut().filter(|writer| writer.unsigned) {
            let signature = writer.log.sign(&self.device);
            self.logs.put_signature(&mut self.overlay, writer.log.name(), writer.log.head(), &signature);
            writer.unsigned = false;
        }
    }

    /// Opens the running incarnation's log of a lane: its first entry names the heads of earlier incarnations.
    fn open_log(&mut self, lane: Lane) -> Result<(), EngineError> {
        if self.writers.contains_key(&lane) {
            return Ok(());
        }
        let Some(market) = self.market else { return Err(EngineError::NoMarket) };
        let device = self.device.id();
        let parents = self.parents_of(device);
        let name = LogName { author: device, incarnation: self.incarnation, lane };
        let writer = Writer { log: LogWriter::open(&market.id, name), unsigned: false, day_key: None };
        self.writers.insert(lane, writer);
        let opening = payload::encode(&payload::Opening { parents });
        self.append(lane, Kind::OPENING, Payload::public(opening))?;
        Ok(())
    }

    /// The heads of an author's earlier incarnations, as the first entry of a new one names them.
    fn parents_of(&self, author: DeviceId) -> Vec<payload::LogHead> {
        // What a later incarnation has named already needs no second mention.
        let named = self.views.named_incarnations(&author);
        self.logs
            .of_author(author)
            .filter(|(name, _)| name.incarnation != self.incarnation && !named.contains(&name.incarnation))
            .filter_map(|(name, record)| Some((name, record.newest()?)))
            .map(|(name, head)| payload::LogHead {
                incarnation: name.incarnation.as_bytes().to_vec(),
                lane: name.lane.0,
                sequence: head.sequence,
                hash: head.hash.as_bytes().to_vec(),
            })
            .collect()
    }

    /// Opens the root's `control` log of this run, where this process holds the root key.
    pub(crate) fn open_root_log(&mut self) -> Result<(), EngineError> {
        let (Some(market), incarnation) = (self.market, self.incarnation) else { return Err(EngineError::NoMarket) };
        let Some(root) = self.renewals.root_mut().filter(|root| root.log.is_none()) else { return Ok(()) };
        root.log = Some(LogWriter::open(&market.id, LogName { author: market.root, incarnation, lane: Lane::CONTROL }));
        let parents = self.parents_of(market.root);
        self.append_to_root_log(Kind::OPENING, payload::encode(&payload::Opening { parents }))
    }

    /// Appends to the root's `control` log of this run. Each entry is signed at once, for there are few.
    pub(crate) fn append_to_root_log(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<(), EngineError> {
        let (time, seen) = (self.time(), self.seen());
        let Some(RootWriter { key, log: Some(log) }) = self.renewals.root_mut() else {
            return Err(EngineError::NoMarket);
        };
        let previous = log.head().hash;
        let appended = log.append(key, time, seen, kind, Payload::public(bytes))?;
        let signature = appended.signature.unwrap_or_else(|| log.sign(key));
        let name = *log.name();
        self.logs.append(&mut self.overlay, name, appended.head, previous, &appended.entry, Some(&signature));
        self.views.insert(&Held {
            log: name,
            sequence: appended.head.sequence,
            previous,
            hash: appended.head.hash,
            entry: appended.entry,
        });
        self.books.reconciled = None;
        self.grown.insert(name, None);
        Ok(())
    }

    /// A fresh day key at each start, each day, and each change of a recipient's key.
    fn renew_day_key(&mut self, lane: Lane) -> Result<(), EngineError> {
        let Some(market) = self.market else { return Err(EngineError::NoMarket) };
        let day = self.time() / DAY_MS;
        let mut recipients = self.views.opening_keys();
        if recipients.is_empty() {
            // A member of a moment ago may not hold the hub's log yet; its invite named the key.
            let invited = self.overlay.get(Table::Meta, META_OPENING)?;
            recipients.extend(invited.and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok()));
        }
        if recipients.is_empty() {
            return Err(EngineError::NoOpeningKey);
        }
        if let Some(key) = self
            .views
            .membership
            .stall(&self.device.id())
            .and_then(|stall| self.views.stall_key(stall))
            .and_then(|key| <[u8; 32]>::try_from(key.public_key.as_slice()).ok())
        {
            recipients.push(key);
        }
        let current = self.writers.get(&lane).and_then(|writer| writer.day_key.as_ref());
        if current.is_some_and(|key| key.day == day && key.recipients == recipients) {
            return Ok(());
        }
        let (bytes, seed) = (self.random_bytes(), self.random_bytes());
        let key = DayKey::new(bytes);
        let Some(writer) = self.writers.get(&lane) else { return Err(EngineError::NoMarket) };
        let message = key.publish(&market.id, &writer.log.id(), &recipients, seed)?;
        let held = self.append(lane, Kind::KEY, Payload::public(payload::encode(&message)))?;
        self.day_keys.insert((held.log, held.sequence, held.hash), key.clone());
        if let Some(writer) = self.writers.get_mut(&lane) {
            writer.day_key = Some(DayKeyInUse { key, sequence: held.sequence, day, recipients });
        }
        Ok(())
    }

    /// Opens one part of a sealed entry, where this node has a key for it.
    pub(crate) fn open_part(&mut self, held: &Held, part: Part) -> Result<Vec<u8>, String> {
        let Some(PartBody::Bytes(sealed)) = held.entry.payload.part(part) else {
            return Err("that part is absent".into());
        };
        let sealed = sealed.clone();
        let key = self.day_key_for(held)?;
        let at = SealedAt {
            log: self.logs.id(&held.log),
            sequence: held.sequence,
            previous: held.previous,
            timestamp: held.entry.timestamp,
            seen: held.entry.seen,
            kind: held.entry.kind,
        };
        key.open_part(&at, part, &sealed).map_err(|error| error.to_string())
    }

    /// The day key of a sealed entry, from the key entry on its own chain.
    pub(crate) fn day_key_for(&mut self, held: &Held) -> Result<DayKey, String> {
        let sequence = held.entry.payload.key.ok_or("E_INCOMPLETE: it names no key entry")?;
        let mut candidates =
            self.logs.held_at(&self.overlay, &held.log, sequence).map_err(|error| error.to_string())?;
        // In a forked log two key entries can stand at one place: that of the other branch opens nothing of this one.
        let (ancestry, own) = (self.ancestry(), Head { sequence: held.sequence, hash: held.hash });
        candidates.retain(|candidate| {
            let key = Head { sequence, hash: candidate.hash };
            candidate.entry.kind == Kind::KEY && ancestry.is_at_or_before(&held.log, key, own) != Some(false)
        });
        let Some(market) = self.market else { return Err("no market".into()) };
        let mut problem = String::from("E_INCOMPLETE: its key entry isn't here");
        for candidate in candidates {
            let cached = (held.log, sequence, candidate.hash);
            if let Some(key) = self.day_keys.get(&cached) {
                return Ok(key.clone());
            }
            let Some(bytes) = candidate.entry.payload.bytes(Part::Public) else { continue };
            let message: payload::DayKey = match payload::decode("day key", bytes) {
                Ok(message) => message,
                Err(error) => {
                    problem = error.to_string();
                    continue;
                }
            };
            for key in self.reading_keys(&held.log) {
                match DayKey::open(&message, &market.id, &self.logs.id(&held.log), &key) {
                    Ok(opened) => {
                        self.day_keys.insert(cached, opened.clone());
                        return Ok(opened);
                    }
                    Err(error) => problem = error.to_string(),
                }
            }
        }
        Err(problem)
    }
}

/// Reads what [`position_text`] writes.
pub(crate) fn parse_position(text: &str) -> Option<(LogName, u64)> {
    let mut parts = text.split('/');
    let (author, incarnation) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (lane, sequence) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some((LogName { author, incarnation, lane }, sequence))
}

/// A position as text: `author/incarnation/lane/sequence`.
pub(crate) fn position_text(log: &LogName, sequence: u64) -> String {
    format!("{}/{}/{}/{sequence}", log.author, log.incarnation, log.lane)
}
