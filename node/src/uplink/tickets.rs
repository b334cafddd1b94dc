//! A hub's side of resumption: what it gave to whoever was here, so that the next first packet of it can carry sales.
//!
//! A ticket opens one connection and is gone with it, so a first flight that is sent again opens none. Tickets are in
//! memory, and over a clean stop in a file that is durably deleted before any of them can be used. After any other end
//! there are none: nobody could say which of them were used already. So a use costs no write.
//!
//! Resumption proves which device was here, not that it may still be: whoever asks, the gate answers.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use stallmesh_protocol::DeviceId;
use zeroize::Zeroizing;

/// Tickets for one handshake: what a device may lose on its way while it tries to reach the hub.
pub(super) const PER_HANDSHAKE: usize = 8;
/// Tickets of one device; an older one goes first.
const PER_DEVICE_MAX: usize = 16;
/// Tickets of members, and of whoever isn't one when it gets them, at some 250 bytes each: a thousand devices' whole
/// share, 4 MB. Strangers have a room of their own, so that they push out no member's.
const HELD_MAX: [usize; 2] = [16_384, 2_048];
/// How long a ticket is good for, in seconds: as long as a client keeps it.
const LIFETIME_S: u64 = 24 * 3_600;
/// The file, at most.
const FILE_MAX: u64 = 16 * 1024 * 1024;
const MAGIC: &[u8] = b"STALLMESH-TICKETS/1\n";

type Id = Vec<u8>;

struct Ticket {
    device: DeviceId,
    member: bool,
    /// When it was given, in seconds since 1970.
    given: u64,
    session: Zeroizing<Vec<u8>>,
}

#[derive(Default)]
struct Shelf {
    tickets: HashMap<Id, Ticket>,
    of: HashMap<DeviceId, VecDeque<Id>>,
    /// Of strangers and of members: in the order in which they were given, with some that are gone already.
    orders: [VecDeque<Id>; 2],
    held: [usize; 2],
    closed: bool,
}

/// All tickets of a hub that can still be used.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Shelf>);

impl std::fmt::Debug for Tickets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // They open connections: no log shows them.
        write!(formatter, "Tickets({})", self.shelf().tickets.len())
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Shelf {
    fn put(&mut self, id: Id, ticket: Ticket) {
        if self.closed {
            return;
        }
        let class = usize::from(ticket.member);
        let of = self.of.entry(ticket.device).or_default();
        of.push_back(id.clone());
        let surplus = if of.len() > PER_DEVICE_MAX { of.front().cloned() } else { None };
        self.orders[class].push_back(id.clone());
        self.held[class] += 1;
        self.tickets.insert(id, ticket);
        if let Some(surplus) = surplus {
            self.remove(&surplus);
        }
        let max = HELD_MAX[1 - class];
        while self.held[class] > max {
            let Some(oldest) = self.orders[class].pop_front() else { break };
            self.remove(&oldest);
        }
        if self.orders[class].len() > 2 * max {
            let tickets = &self.tickets;
            self.orders[class].retain(|id| tickets.contains_key(id));
        }
    }

    fn remove(&mut self, id: &[u8]) -> Option<Ticket> {
        let ticket = self.tickets.remove(id)?;
        self.held[usize::from(ticket.member)] -= 1;
        if let Some(of) = self.of.get_mut(&ticket.device) {
            of.retain(|other| other != id);
            if of.is_empty() {
                self.of.remove(&ticket.device);
            }
        }
        Some(ticket)
    }
}

impl Tickets {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing that holds the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, id: Id, session: Vec<u8>, device: DeviceId, member: bool, now: u64) {
        self.shelf().put(id, Ticket { device, member, given: now, session: Zeroizing::new(session) });
    }

    /// A ticket is used, and never again.
    fn take(&self, id: &[u8], now: u64) -> Option<Vec<u8>> {
        let mut shelf = self.shelf();
        if shelf.closed {
            return None;
        }
        let ticket = shelf.remove(id)?;
        (now.saturating_sub(ticket.given) < LIFETIME_S).then(|| ticket.session.to_vec())
    }

    /// A device gets in no more: what it was given opens nothing.
    pub(super) fn forget(&self, device: &DeviceId) {
        let mut shelf = self.shelf();
        for id in shelf.of.get(device).cloned().unwrap_or_default() {
            shelf.remove(&id);
        }
    }

    /// What the last clean stop left, which then is no longer in the file; nothing where any of that fails.
    pub(super) fn load(path: &Path) -> Self {
        let tickets = Tickets::default();
        match take_file(path) {
            Ok(Some(bytes)) => {
                if read(&bytes, &mut tickets.shelf()).is_none() {
                    *tickets.shelf() = Shelf::default();
                    tracing::warn!(path = %path.display(), "damaged: nobody resumes a connection of before the stop");
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "nobody resumes a connection of before the stop");
            }
        }
        tickets
    }

    /// Keeps what can still be used over a clean stop; from here on nothing of it is.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn close_into(&self, path: &Path) -> io::Result<()> {
        let mut shelf = self.shelf();
        shelf.closed = true;
        let mut bytes = Zeroizing::new(MAGIC.to_vec());
        for id in shelf.orders.iter().flatten() {
            let Some(ticket) = shelf.tickets.get(id) else { continue };
            let (Ok(id_length), Ok(length)) = (u16::try_from(id.len()), u16::try_from(ticket.session.len())) else {
                continue;
            };
            bytes.push(u8::from(ticket.member));
            bytes.extend_from_slice(ticket.device.as_bytes());
            bytes.extend_from_slice(&ticket.given.to_be_bytes());
            bytes.extend_from_slice(&id_length.to_be_bytes());
            bytes.extend_from_slice(id);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&ticket.session);
        }
        drop(shelf);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        let partial = path.with_extension("partial");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)?;
        sync_folder(path)
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// The file's bytes, once it is durably gone.
fn take_file(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_MAX).read_to_end(&mut bytes)?;
    std::fs::remove_file(path)?;
    sync_folder(path)?;
    Ok(Some(bytes))
}

fn read(bytes: &[u8], shelf: &mut Shelf) -> Option<()> {
    let (body, checksum) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(body).as_bytes() != checksum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    while !rest.is_empty() {
        let [member] = *take(&mut rest)?;
        let device = DeviceId::from_bytes(*take(&mut rest)?);
        let given = u64::from_be_bytes(*take(&mut rest)?);
        let mut sized = || {
            let length = usize::from(u16::from_be_bytes(*take(&mut rest)?));
            let (sized, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(sized.to_vec())
        };
        let (id, session) = (sized()?, Zeroizing::new(sized()?));
        shelf.put(id, Ticket { device, member: member == 1, given, session });
    }
    Some(())
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

/// What one connection uses of the tickets, and what it is given: known for whom only once its handshake has ended.
#[derive(Debug)]
pub(super) struct Counter {
    tickets: Arc<Tickets>,
    given: Mutex<Vec<(Id, Vec<u8>)>>,
}

impl Counter {
    pub(super) fn new(tickets: Arc<Tickets>) -> Self {
        Counter { tickets, given: Mutex::default() }
    }

    /// The handshake has ended: this is who was given what was given.
    pub(super) fn settle(&self, device: DeviceId, member: bool) {
        let given = std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, session) in given {
            self.tickets.put(id, session, device, member, now_s());
        }
    }
}

impl rustls::server::StoresServerSessions for Counter {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= PER_HANDSHAKE {
            return false;
        }
        given.push((id, session));
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        // Whoever only looks leaves a ticket for the next one.
        None
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.tickets.take(id, now_s())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn device(number: u16) -> DeviceId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        DeviceId::from_bytes(bytes)
    }

    fn id(number: u32) -> Id {
        number.to_be_bytes().to_vec()
    }

    #[test]
    fn a_ticket_is_used_once_and_within_a_day() {
        let tickets = Tickets::default();
        tickets.put(id(1), vec![7], device(1), true, 1_000);
        tickets.put(id(2), vec![8], device(1), true, 1_000);
        assert_eq!(tickets.take(&id(1), 1_000), Some(vec![7]));
        assert_eq!(tickets.take(&id(1), 1_000), None);
        assert_eq!(tickets.take(&id(2), 1_000 + LIFETIME_S), None);
        assert_eq!(tickets.take(&id(3), 1_000), None);
    }

    #[test]
    fn a_device_has_so_many_and_one_that_gets_in_no_more_has_none() {
        let tickets = Tickets::default();
        (0..100).for_each(|number| tickets.put(id(number), vec![7], device(1), true, 0));
        tickets.put(id(100), vec![7], device(2), true, 0);
        assert_eq!(tickets.shelf().tickets.len(), PER_DEVICE_MAX + 1);
        assert_eq!((tickets.take(&id(83), 0), tickets.take(&id(84), 0)), (None, Some(vec![7])));
        tickets.forget(&device(1));
        assert_eq!(tickets.take(&id(99), 0), None);
        assert_eq!(tickets.take(&id(100), 0), Some(vec![7]));
        assert!(tickets.shelf().of.is_empty());
    }

    #[test]
    fn strangers_push_out_no_member_and_nothing_grows() {
        let tickets = Tickets::default();
        tickets.put(id(0), vec![7], device(0), true, 0);
        for number in 1..20_000 {
            tickets.put(id(number), vec![7], device((number / 2) as u16), false, 0);
        }
        let shelf = tickets.shelf();
        assert_eq!(shelf.held, [HELD_MAX[1], 1]);
        assert_eq!(shelf.tickets.len(), HELD_MAX[1] + 1);
        assert!(shelf.orders[0].len() <= 2 * HELD_MAX[1] && shelf.of.len() <= HELD_MAX[1] + 1);
        drop(shelf);
        assert_eq!(tickets.take(&id(0), 0), Some(vec![7]));
    }

    #[test]
    fn over_a_clean_stop_unused_tickets_are_kept_and_used_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tickets");
        let first = Tickets::load(&path);
        (0..4).for_each(|number| first.put(id(number), vec![number as u8; 200], device(1), true, 0));
        assert!(first.take(&id(2), 0).is_some());
        first.close_into(&path).unwrap();
        assert_eq!(first.take(&id(1), 0), None, "it is in the file now, and would be used twice");
        let second = Tickets::load(&path);
        assert!(!path.exists(), "whoever is killed now must find none of them");
        assert_eq!(second.take(&id(2), 0), None);
        assert_eq!(second.take(&id(1), 0), Some(vec![1; 200]));
        second.close_into(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for cut in [0, 1, 60, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Tickets::load(&path).shelf().tickets.is_empty(), "cut at {cut}");
        }
        bytes[80] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Tickets::load(&path).shelf().tickets.is_empty());
        // What can't be deleted isn't used.
        std::fs::create_dir(&path).unwrap();
        assert!(Tickets::load(&path).shelf().tickets.is_empty());
    }
}
