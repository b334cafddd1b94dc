//! A witness who sees every disk and every frame of a simulation, and knows what no honest device may ever do.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use prost::Message;
use stallmesh_node::link::Channel;
use stallmesh_node::store::{Batch, Table};
use stallmesh_protocol::codec::Reader;
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::hash::{Domain, hash};
use stallmesh_protocol::page::{Page, take_entry};
use stallmesh_protocol::replica::unpack;
use stallmesh_protocol::wire::frame::Body;
use stallmesh_protocol::{DeviceId, Hash, Lane, LogId, LogName, MarketId, wire};

use super::Simulation;

/// What was seen so far; shared by all disks and the network.
#[derive(Clone, Debug, Default)]
pub struct Witness(Rc<RefCell<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// The first entry that was seen at each position.
    entries: BTreeMap<(LogId, u64), Hash>,
    authors: BTreeMap<LogId, DeviceId>,
    /// Devices of which a test says that they cheat.
    dishonest: BTreeSet<DeviceId>,
    /// Positions at which two entries were seen, by author.
    twice: BTreeMap<DeviceId, (LogId, u64)>,
    /// Pages that were looked at: one page travels many times.
    pages: BTreeSet<Hash>,
    /// Own entries that left a device before they were on its disk.
    hasty: Vec<DeviceId>,
    /// Lanes by log.
    lanes: BTreeMap<LogId, Lane>,
    /// Sealed entries that were once on a hub's disk.
    received: BTreeSet<Key>,
    hubs: BTreeSet<DeviceId>,
    /// Sealed entries that were deleted from a disk although no hub had had them.
    dropped: Vec<(DeviceId, Key)>,
    /// What devices said that they hold for others.
    custody: BTreeMap<DeviceId, BTreeSet<Promise>>,
    /// The ciphertexts of each sealed part, by log, sequence, the hash before it, and its number: tag, and how it begins.
    ciphertexts: BTreeMap<SealedPlace, Vec<Ciphertext>>,
    /// Two ciphertexts under one key stream.
    reused: Vec<Key>,
    /// Nobody is watched.
    looks_away: bool,
}

/// Log, sequence, the hash of the entry before, and the number of a part.
type SealedPlace = (LogId, u64, Hash, u8);

/// A part's tag, and how its ciphertext begins.
type Ciphertext = ([u8; 32], Vec<u8>);

/// So many bytes of two ciphertexts are compared.
const COMPARED: usize = 256;

/// An entry, as stores name it: log, sequence and the first bytes of its hash.
pub type Key = (LogId, u64, [u8; 8]);

/// Entries that a device said it holds for others: from a sequence up to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Promise {
    /// In which log.
    pub log: LogId,
    /// The first.
    pub from: u64,
    /// The last.
    pub to: Key,
}

/// Reads the key under which a store keeps an entry.
pub fn entry_key(key: &[u8]) -> Option<Key> {
    let log = LogId::try_from(key.get(..32)?).ok()?;
    let sequence = u64::from_be_bytes(key.get(32..40)?.try_into().ok()?);
    Some((log, sequence, key.get(40..48)?.try_into().ok()?))
}

impl Seen {
    /// A sealed entry is written: hash, hash of the one before, and the entry as pages have it.
    fn sealed(&mut self, key: Key, value: &[u8]) {
        let mut reader = Reader::new(value.get(64..).unwrap_or_default());
        let Ok(entry) = take_entry(&mut reader, key.1, 0, [0; 8]) else { return };
        if entry.payload.key.is_none() {
            return;
        }
        for part in Part::ALL {
            let Some(bytes) = entry.payload.bytes(part) else { continue };
            let Some((tag, ciphertext)) = bytes.split_at_checked(32) else { continue };
            let (Ok(tag), Some(previous)) = (tag.try_into(), value.get(32..64)) else { continue };
            let Ok(previous) = Hash::try_from(previous) else { continue };
            let begins = &ciphertext[..ciphertext.len().min(COMPARED)];
            let known = self.ciphertexts.entry((key.0, key.1, previous, part as u8)).or_default();
            match known.iter().find(|(other, _)| *other == tag) {
                Some((_, same)) if same != begins => self.reused.push(key),
                Some(_) => {}
                None => {
                    // Under one key stream the difference of two ciphertexts is that of two sales: mostly zeros.
                    let alike = |other: &[u8]| other.iter().zip(begins).filter(|(one, other)| one == other).count();
                    if known.iter().any(|(_, other)| 4 * alike(other) > begins.len().min(other.len())) {
                        self.reused.push(key);
                    }
                    known.push((tag, begins.to_vec()));
                }
            }
        }
    }

    fn entry(&mut self, log: LogId, sequence: u64, hash: Hash) {
        let first = *self.entries.entry((log, sequence)).or_insert(hash);
        if first != hash {
            let author = self.authors.get(&log).copied().unwrap_or_default();
            self.twice.entry(author).or_insert((log, sequence));
        }
    }
}

impl Witness {
    /// Sees nothing from here on but kinds of frames: for markets that are measured, not judged.
    pub fn look_away(&self) {
        self.0.borrow_mut().looks_away = true;
    }

    /// Whether it sees what disks keep.
    pub(super) fn looks(&self) -> bool {
        !self.0.borrow().looks_away
    }

    /// A device may sign whatever it likes: a test makes it cheat.
    pub fn distrust(&self, device: DeviceId) {
        self.0.borrow_mut().dishonest.insert(device);
    }

    /// A device is a hub: what its disk holds was received.
    pub(super) fn trust_hub(&self, device: DeviceId) {
        self.0.borrow_mut().hubs.insert(device);
    }

    /// A disk keeps these writes.
    pub(super) fn commit(&self, owner: DeviceId, batch: &Batch) {
        let mut seen = self.0.borrow_mut();
        for (key, value) in batch.range(Table::Logs, &[], &[0xff; 129]) {
            let author = value.and_then(|value| DeviceId::try_from(value.get(..32)?).ok());
            let lane = value.and_then(|value| value.get(48..52)?.try_into().ok()).map(u32::from_be_bytes);
            if let (Ok(log), Some(author), Some(lane)) = (LogId::try_from(key), author, lane) {
                seen.authors.insert(log, author);
                seen.lanes.insert(log, Lane(lane));
            }
        }
        for (key, value) in batch.range(Table::Entries, &[], &[0xff; 129]) {
            let Some(key) = entry_key(key) else { continue };
            let sealed = seen.lanes.get(&key.0).is_some_and(|lane| lane.is_sealed());
            match value {
                Some(value) => {
                    if let Some(hash) = value.get(..32).and_then(|hash| Hash::try_from(hash).ok()) {
                        seen.entry(key.0, key.1, hash);
                    }
                    if sealed {
                        seen.sealed(key, value);
                        if seen.hubs.contains(&owner) {
                            seen.received.insert(key);
                        }
                    }
                }
                None if sealed && !seen.received.contains(&key) => seen.dropped.push((owner, key)),
                None => {}
            }
        }
    }

    /// A frame leaves a device. `holds` says whether its disk holds the entry at a position. Gives the frame's kind.
    pub(super) fn frame(
        &self,
        market: &MarketId,
        sender: DeviceId,
        channel: Channel,
        frame: &[u8],
        holds: impl Fn(&LogId, u64, &Hash) -> bool,
    ) -> &'static str {
        if !self.looks() {
            return kind_of(channel, frame);
        }
        let (kind, pages) = read_frame(channel, frame, |custody| self.promises(market, sender, custody));
        for (log, bytes) in pages {
            let id = log.id(market);
            let Ok(page) = Page::decode(&bytes) else { continue };
            let key = hash(Domain::Blob, &[id.as_bytes().as_slice(), &bytes].concat());
            let mut seen = self.0.borrow_mut();
            if log.author != sender && !seen.pages.insert(key) {
                continue;
            }
            seen.authors.insert(id, log.author);
            let (mut previous, mut sequence) = (page.previous, page.first);
            for entry in &page.entries {
                previous = entry.header().hash(&id, sequence, &previous);
                seen.entry(id, sequence, previous);
                sequence += 1;
            }
            if log.author == sender && !holds(&id, sequence - 1, &previous) {
                seen.hasty.push(sender);
            }
        }
        kind
    }

    /// A device says what it holds for others.
    pub(super) fn promises(&self, market: &MarketId, sender: DeviceId, custody: &wire::Custody) {
        let mut seen = self.0.borrow_mut();
        let promised = seen.custody.entry(sender).or_default();
        for intervals in &custody.logs {
            let Some(log) = intervals.log.as_ref().and_then(wire::LogName::to_domain) else { continue };
            for interval in &intervals.intervals {
                let prefix = interval.hash.get(..8).and_then(|hash| hash.try_into().ok()).unwrap_or_default();
                let log = log.id(market);
                promised.insert(Promise { log, from: interval.from, to: (log, interval.to, prefix) });
            }
        }
    }

    /// The hash of the entry that was seen first at a position.
    pub fn hash_at(&self, log: LogId, sequence: u64) -> Option<Hash> {
        self.0.borrow().entries.get(&(log, sequence)).copied()
    }

    /// What a device said that it holds for others, and whose end no hub has had yet.
    pub fn promised(&self, device: &DeviceId) -> Vec<Promise> {
        let seen = self.0.borrow();
        let promised = seen.custody.get(device).into_iter().flatten();
        promised.filter(|promise| !seen.received.contains(&promise.to)).copied().collect()
    }

    /// What a device said no longer binds it: its disk is gone.
    pub fn release(&self, device: &DeviceId) {
        self.0.borrow_mut().custody.remove(device);
    }

    /// Whether an entry was once on a hub's disk.
    pub fn was_received(&self, key: &Key) -> bool {
        self.0.borrow().received.contains(key)
    }

    /// Whether a device is one of which a test says that it cheats.
    pub fn distrusts(&self, device: &DeviceId) -> bool {
        self.0.borrow().dishonest.contains(device)
    }

    /// Positions that an honest device signed twice.
    pub fn signed_twice(&self) -> Vec<(DeviceId, (LogId, u64))> {
        let seen = self.0.borrow();
        let twice = seen.twice.iter().filter(|(author, _)| !seen.dishonest.contains(author));
        twice.map(|(author, at)| (*author, *at)).collect()
    }

    /// Devices whose entries left them before they were on their disk.
    pub fn hasty(&self) -> Vec<DeviceId> {
        self.0.borrow().hasty.clone()
    }

    /// Sealed entries that an honest device let go of before a hub had them.
    pub fn dropped(&self) -> Vec<(DeviceId, Key)> {
        let seen = self.0.borrow();
        seen.dropped.iter().filter(|(owner, _)| !seen.dishonest.contains(owner)).copied().collect()
    }

    /// Positions of which two ciphertexts share a key stream.
    pub fn reused_key_streams(&self) -> Vec<Key> {
        self.0.borrow().reused.clone()
    }

    /// Places at which two parts were sealed, by whoever writes two histories.
    pub fn sealed_twice(&self) -> usize {
        self.0.borrow().ciphertexts.values().filter(|known| known.len() > 1).count()
    }

    /// From here on whoever runs the simulation looks by himself.
    pub fn stand_down(&self) {
        let mut seen = self.0.borrow_mut();
        (seen.twice, seen.hasty) = (BTreeMap::new(), Vec::new());
    }

    /// How many positions were seen.
    pub fn positions(&self) -> usize {
        self.0.borrow().entries.len()
    }

    /// Checks that no honest device ever signed two entries for one position, and that nothing left a device before
    /// it was on its disk.
    ///
    /// # Panics
    /// One did.
    pub fn check(&self) {
        let seen = self.0.borrow();
        let cheats: Vec<_> = seen.twice.iter().filter(|(author, _)| !seen.dishonest.contains(author)).collect();
        assert!(cheats.is_empty(), "honest devices signed a position twice: {cheats:?}");
        assert!(seen.hasty.is_empty(), "entries left before their commit: {:?}", seen.hasty);
    }
}

/// Fields of a session's frame, by number; pages in custody aren't told apart.
const KINDS: [(u32, &str); 15] = [
    (1, "hello"),
    (2, "summary"),
    (3, "clock"),
    (4, "have"),
    (5, "want"),
    (6, "page"),
    (8, "tree"),
    (9, "tree"),
    (10, "offer"),
    (11, "custody"),
    (12, "acknowledgement"),
    (13, "ask acknowledgements"),
    (14, "refusal"),
    (17, "status"),
    (21, "clock"),
];

/// A frame's kind, by the number of the one field that it has.
fn kind_of(channel: Channel, frame: &[u8]) -> &'static str {
    if channel == Channel::Join {
        return "join";
    }
    match prost::encoding::decode_key(&mut &*frame) {
        Ok((number, _)) => KINDS.iter().find(|(known, _)| *known == number).map_or("other", |(_, kind)| *kind),
        Err(_) => "none",
    }
}

/// A frame's kind, and the pages in it, whatever channel carries it.
fn read_frame(
    channel: Channel,
    frame: &[u8],
    custody: impl FnOnce(&wire::Custody),
) -> (&'static str, Vec<(LogName, Vec<u8>)>) {
    let named = |page: wire::Page| {
        Some((page.log.as_ref().and_then(wire::LogName::to_domain)?, unpack(&page).ok()?.into_owned()))
    };
    if channel == Channel::Join {
        return match wire::JoinFrame::decode(frame).ok().and_then(|frame| frame.body) {
            Some(wire::join_frame::Body::Pages(pages)) => {
                ("join pages", pages.pages.into_iter().filter_map(named).collect())
            }
            _ => ("join", Vec::new()),
        };
    }
    let Some(body) = wire::Frame::decode(frame).ok().and_then(|frame| frame.body) else { return ("none", Vec::new()) };
    match body {
        Body::Page(page) if page.custody => ("custody page", named(page).into_iter().collect()),
        Body::Page(page) => ("page", named(page).into_iter().collect()),
        Body::Custody(taken) => {
            custody(&taken);
            ("custody", Vec::new())
        }
        Body::Hello(_) => ("hello", Vec::new()),
        Body::Status(_) => ("status", Vec::new()),
        Body::Ping(_) | Body::Pong(_) => ("ping", Vec::new()),
        Body::Summary(_) => ("summary", Vec::new()),
        Body::Runs(_) | Body::Delta(_) => ("clock", Vec::new()),
        Body::Want(_) => ("want", Vec::new()),
        Body::Have(_) => ("have", Vec::new()),
        Body::Acknowledgement(_) => ("acknowledgement", Vec::new()),
        Body::Refusal(_) => ("refusal", Vec::new()),
        _ => ("other", Vec::new()),
    }
}

/// Whatever a test is about: at its end no honest device has cheated.
impl Drop for Simulation {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.witness.check();
        }
    }
}
