//! A witness who sees every disk and every frame of a simulation, and knows what no honest device may ever do.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use prost::Message;
use stallmesh_node::link::Channel;
use stallmesh_node::store::{Batch, Table};
use stallmesh_protocol::hash::{Domain, hash};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::{DeviceId, Hash, LogId, LogName, MarketId, wire};

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
}

impl Seen {
    fn entry(&mut self, log: LogId, sequence: u64, hash: Hash) {
        let first = *self.entries.entry((log, sequence)).or_insert(hash);
        if first != hash {
            let author = self.authors.get(&log).copied().unwrap_or_default();
            self.twice.entry(author).or_insert((log, sequence));
        }
    }
}

impl Witness {
    /// A device may sign whatever it likes: a test makes it cheat.
    pub fn distrust(&self, device: DeviceId) {
        self.0.borrow_mut().dishonest.insert(device);
    }

    /// A disk is about to keep these writes.
    pub(super) fn commit(&self, batch: &Batch) {
        let mut seen = self.0.borrow_mut();
        for (key, value) in batch.range(Table::Logs, &[], &[0xff; 129]) {
            let author = value.and_then(|value| DeviceId::try_from(value.get(..32)?).ok());
            if let (Ok(log), Some(author)) = (LogId::try_from(key), author) {
                seen.authors.insert(log, author);
            }
        }
        for (key, value) in batch.range(Table::Entries, &[], &[0xff; 129]) {
            let position = key.split_at_checked(32);
            let hash = value.and_then(|value| Hash::try_from(value.get(..32)?).ok());
            if let (Some((log, rest)), Some(hash)) = (position, hash)
                && let (Ok(log), Some(Ok(sequence))) = (LogId::try_from(log), rest.get(..8).map(TryInto::try_into))
            {
                seen.entry(log, u64::from_be_bytes(sequence), hash);
            }
        }
    }

    /// A frame leaves a device. `holds` says whether its disk holds the entry at a position.
    pub(super) fn frame(
        &self,
        market: &MarketId,
        sender: DeviceId,
        channel: Channel,
        frame: &[u8],
        holds: impl Fn(&LogId, u64, &Hash) -> bool,
    ) {
        for (log, bytes) in pages_of(channel, frame) {
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

/// The pages in a frame, whatever channel carries it.
fn pages_of(channel: Channel, frame: &[u8]) -> Vec<(LogName, Vec<u8>)> {
    let pages: Vec<wire::Page> = match channel {
        Channel::Join => match wire::JoinFrame::decode(frame).ok().and_then(|frame| frame.body) {
            Some(wire::join_frame::Body::Pages(pages)) => pages.pages,
            _ => Vec::new(),
        },
        Channel::Live | Channel::Bulk => match wire::Frame::decode(frame).ok().and_then(|frame| frame.body) {
            Some(wire::frame::Body::Page(page)) => vec![page],
            _ => Vec::new(),
        },
    };
    pages
        .into_iter()
        .filter_map(|page| Some((page.log.as_ref().and_then(wire::LogName::to_domain)?, page.page)))
        .collect()
}

/// Whatever a test is about: at its end no honest device has cheated.
impl Drop for Simulation {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.witness.check();
        }
    }
}
