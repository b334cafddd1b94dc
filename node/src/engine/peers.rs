//! The peer book and the dialler: whom to connect to, and when to try again. mDNS only proposes.
//!
//! A node holds a link to the next device by key among those it has heard of, and to some others, chosen by a hash, up to
//! its degree. The first makes a ring of all that are there: without it two halves of a square that were apart for a
//! while, and have links enough among themselves, would never look for each other again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rand_core::Rng;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::{DeviceId, Hash};

use super::{Engine, META_HUBS};
use crate::link::{LinkCommand, Road};
use crate::store::{Store, StoreError, Table};

/// The first wait after a failed dial, in milliseconds; doubles with each failure.
const BACKOFF_MIN_MS: u64 = 250;
/// The longest wait in the market.
const BACKOFF_MAX_MS: u64 = 30_000;
/// The longest wait on the way to a hub: an uplink that comes back should be used soon.
const HUB_BACKOFF_MAX_MS: u64 = 2_000;
/// A dial of a hub that has no answer after this long doesn't hold up another: its first packets may have met a cut path,
/// and the wait for its next one doubles each time. Longer than the round trip of any usable path.
const HUB_PATIENCE_MS: u64 = 1_000;
/// The longest wait for the next device by key, where enough other links are up: a device that is gone for good costs a
/// handshake every four minutes, and two halves that meet again find each other much sooner, for each has many nodes.
const RING_BACKOFF_EXPONENT: u32 = 10;
/// A link that ended within this time was a short one. Longer than the silence after which a dead one ends.
const SHORT_LINK_MS: u64 = 20_000;
/// The device with the greater key waits this long before it dials a discovered one: the other may come first.
const COURTESY_MS: u64 = 1_000;
/// The most addresses that are remembered of one device, and the most devices.
const ADDRESSES_MAX: usize = 8;
const PEERS_MAX: usize = 2_000;

/// How a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The peer was no member, said no, or broke the protocol.
    Useless,
    /// After so short a time that the next one may end alike: each wait is twice the one before.
    Soon,
    /// After a while: it is dialled again at once.
    Late,
}

impl Ending {
    /// How a link ended that was up for so many milliseconds.
    pub(crate) fn after(up_ms: u64, useless: bool) -> Self {
        match useless {
            true => Ending::Useless,
            false if up_ms < SHORT_LINK_MS => Ending::Soon,
            false => Ending::Late,
        }
    }
}

/// What is known of a way to somebody.
#[derive(Clone, Debug, Default)]
struct Peer {
    addresses: BTreeSet<String>,
    failures: u32,
    /// Links in a row that ended soon.
    short_links: u32,
    due: u64,
    /// Next in turn among its addresses.
    turn: usize,
    dialling: bool,
    /// When it was last dialled.
    dialled_at: u64,
    linked: bool,
    /// This side dialled a link to it.
    ours: bool,
    /// It was a member when they greeted each other, now or in an earlier run.
    met: bool,
    /// It has a certificate, as far as this node knows.
    certified: bool,
}

impl Peer {
    /// Whether it has one of the links that this node holds or seeks. Whoever came by itself and has shown no
    /// certificate has none of them: else strangers could use them all up.
    fn takes_a_link(&self) -> bool {
        self.dialling || (self.linked && (self.met || self.ours))
    }

    /// Whether an answer to a dial may still come soon.
    fn is_hopeful(&self, now: u64) -> bool {
        self.dialling && now < self.dialled_at + HUB_PATIENCE_MS
    }
}

/// Where peers and hubs are, and when to dial them.
#[derive(Debug)]
pub(crate) struct PeerBook {
    own: DeviceId,
    degree: usize,
    peers: BTreeMap<DeviceId, Peer>,
    /// Configured addresses of which the device isn't known.
    configured: BTreeMap<String, Peer>,
    hubs: BTreeMap<String, Peer>,
    discovered: BTreeSet<DeviceId>,
    /// How often discovery began anew.
    renewals: u64,
}

impl PeerBook {
    pub(crate) fn new(own: DeviceId, degree: usize) -> Self {
        PeerBook {
            own,
            degree,
            peers: BTreeMap::new(),
            configured: BTreeMap::new(),
            hubs: BTreeMap::new(),
            discovered: BTreeSet::new(),
            renewals: 0,
        }
    }

    pub(crate) fn configure(&mut self, address: String) {
        self.configured.entry(address).or_default();
    }

    pub(crate) fn add_hub(&mut self, address: String) {
        if self.hubs.len() < ADDRESSES_MAX {
            self.hubs.entry(address).or_default();
        }
    }

    /// How many devices mDNS has shown.
    pub(crate) fn discovered(&self) -> usize {
        self.discovered.len()
    }

    pub(crate) fn discovery_renewed(&mut self) {
        self.renewals += 1;
    }

    /// How often mDNS heard nobody for so long that it began anew.
    pub(crate) fn discovery_renewals(&self) -> u64 {
        self.renewals
    }

    pub(crate) fn hub_address(&self) -> String {
        self.hubs.keys().next().cloned().unwrap_or_default()
    }

    /// A device has a certificate: it is one of those that the ring holds together.
    pub(crate) fn certified(&mut self, device: &DeviceId) {
        if let Some(peer) = self.peers.get_mut(device) {
            peer.certified = true;
        }
    }

    /// Somebody was heard of. True where the address is new.
    pub(crate) fn hear(&mut self, device: DeviceId, address: String, by_mdns: bool, now: u64) -> bool {
        if device == self.own || (!self.peers.contains_key(&device) && !self.make_room()) {
            return false;
        }
        if by_mdns {
            self.discovered.insert(device);
        }
        let courtesy = if self.own < device { 0 } else { COURTESY_MS };
        let peer = self.peers.entry(device).or_insert_with(|| Peer { due: now + courtesy, ..Peer::default() });
        if peer.addresses.len() >= ADDRESSES_MAX {
            return false;
        }
        let new = peer.addresses.insert(address);
        if new && !peer.linked {
            // A new address is a new chance.
            peer.due = peer.due.min(now + courtesy);
        }
        new
    }

    /// Room for one more device: whoever was never met goes first, and of those whoever was dialled most in vain. Adverts
    /// cost nothing, so they must not keep out a member that comes later.
    fn make_room(&mut self) -> bool {
        if self.peers.len() < PEERS_MAX {
            return true;
        }
        let idle = self.peers.iter().filter(|(_, peer)| !peer.met && !peer.linked && !peer.dialling);
        let Some(device) = idle.max_by_key(|(_, peer)| peer.failures).map(|(device, _)| *device) else { return false };
        self.peers.remove(&device);
        self.discovered.remove(&device);
        true
    }

    /// A session with a device has begun, so it is a member; or one had, before this node's start.
    pub(crate) fn met(&mut self, device: &DeviceId) {
        if let Some(peer) = self.peers.get_mut(device) {
            peer.met = true;
        }
    }

    pub(crate) fn connected(&mut self, device: DeviceId, road: Road, dialled: Option<&str>) {
        match road {
            Road::Mesh => {
                let peer = self.peers.entry(device).or_default();
                (peer.linked, peer.failures) = (true, 0);
                if dialled.is_some() {
                    (peer.dialling, peer.ours) = (false, true);
                }
            }
            Road::Uplink => {
                for hub in self.hubs.values_mut() {
                    (hub.linked, hub.dialling, hub.failures) = (true, false, 0);
                }
            }
        }
        if let Some(configured) = dialled.and_then(|address| self.configured.get_mut(address)) {
            (configured.linked, configured.dialling, configured.failures) = (true, false, 0);
        }
    }

    /// A link ended; `still`: another one to the same device is up.
    pub(crate) fn disconnected(
        &mut self,
        device: DeviceId,
        road: Road,
        address: &str,
        still: bool,
        ending: Ending,
        now: u64,
    ) {
        let mut wait = if ending == Ending::Useless { BACKOFF_MAX_MS } else { BACKOFF_MIN_MS };
        match road {
            Road::Mesh => {
                if let Some(peer) = self.peers.get_mut(&device) {
                    match ending {
                        Ending::Soon if !still => {
                            wait = (BACKOFF_MIN_MS << peer.short_links.min(10)).min(BACKOFF_MAX_MS);
                            peer.short_links = peer.short_links.saturating_add(1);
                        }
                        Ending::Late => peer.short_links = 0,
                        Ending::Soon | Ending::Useless => {}
                    }
                    (peer.linked, peer.due) = (still, now + wait);
                    peer.ours &= still;
                    if !still && !peer.met && peer.addresses.is_empty() {
                        // It came by itself, from nowhere that it could be dialled at: nothing of it is worth keeping.
                        self.peers.remove(&device);
                    }
                }
            }
            Road::Uplink => {
                // Before membership a hub may have no room, and is not to be asked four times a second.
                let wait = if ending == Ending::Useless { HUB_BACKOFF_MAX_MS } else { BACKOFF_MIN_MS };
                for hub in self.hubs.values_mut() {
                    (hub.linked, hub.due) = (still, now + wait);
                }
            }
        }
        if let Some(configured) = self.configured.get_mut(address) {
            (configured.linked, configured.due) = (false, now + wait);
        }
    }

    pub(crate) fn failed(&mut self, road: Road, address: &str, now: u64, jitter: u64) {
        let backoff = |peer: &mut Peer, max: u64| {
            peer.dialling = false;
            peer.failures = (peer.failures + 1).min(16);
            let wait = (BACKOFF_MIN_MS << peer.failures.min(10)).min(max);
            peer.due = now + wait / 2 + jitter % (wait / 2 + 1);
        };
        if road == Road::Uplink {
            if let Some(hub) = self.hubs.get_mut(address) {
                backoff(hub, HUB_BACKOFF_MAX_MS);
            }
            return;
        }
        if let Some(configured) = self.configured.get_mut(address) {
            backoff(configured, BACKOFF_MAX_MS);
        }
        for peer in self.peers.values_mut().filter(|peer| peer.dialling && peer.addresses.contains(address)) {
            backoff(peer, BACKOFF_MAX_MS);
        }
    }

    /// The way to the hub was switched: try at once.
    pub(crate) fn retry_hubs(&mut self, now: u64) {
        for hub in self.hubs.values_mut() {
            (hub.due, hub.failures, hub.dialling) = (now, 0, false);
        }
    }

    /// How many links members have, and how many members and whoever else was dialled: a member is dialled also where
    /// strangers have answered to all adverts.
    fn links_taken(&self) -> [usize; 2] {
        let taken = || self.peers.values().filter(|peer| peer.takes_a_link());
        [taken().filter(|peer| peer.met).count(), taken().count()]
    }

    /// Whom to dial now.
    pub(crate) fn due(&mut self, now: u64, uplink: bool) -> Vec<(Road, String, Option<DeviceId>)> {
        let mut dials = Vec::new();
        if uplink && !self.hubs.values().any(|hub| hub.linked || hub.is_hopeful(now)) {
            // One way at a time; the one that waits longest goes first.
            let next = self.hubs.iter_mut().filter(|(_, hub)| hub.due <= now).min_by_key(|(_, hub)| hub.due);
            if let Some((address, hub)) = next {
                (hub.dialling, hub.dialled_at, hub.due) = (true, now, now + HUB_PATIENCE_MS);
                dials.push((Road::Uplink, address.clone(), None));
            }
        }
        for (address, peer) in self.configured.iter_mut() {
            if !peer.linked && !peer.dialling && peer.due <= now {
                peer.dialling = true;
                dials.push((Road::Mesh, address.clone(), None));
            }
        }
        let asked: BTreeSet<&str> = self
            .configured
            .iter()
            .filter(|(_, peer)| peer.dialling && peer.failures == 0)
            .map(|(address, _)| address.as_str())
            .collect();
        let next = self.next_by_key(now).filter(|(_, due)| *due <= now).map(|(device, _)| device);
        let [mut met, mut all] = self.links_taken();
        let own = self.own;
        // The next by key; those that failed least; then each node in an order of its own, or all would choose alike.
        let mut candidates: Vec<(&DeviceId, &mut Peer)> = self
            .peers
            .iter_mut()
            .filter(|(_, peer)| !peer.linked && !peer.dialling && peer.due <= now && !peer.addresses.is_empty())
            .collect();
        candidates.sort_by_cached_key(|(device, peer)| (next != Some(**device), peer.failures, order(&own, device)));
        for (device, peer) in candidates {
            let is_next = next == Some(*device);
            if (if peer.met { met } else { all }) >= self.degree && !is_next {
                continue;
            }
            let Some(address) = peer.addresses.iter().nth(peer.turn % peer.addresses.len()).cloned() else { continue };
            // Whoever answers at a configured address is probably this one: one handshake is enough.
            if address.split_once("/p2p/").is_some_and(|(place, _)| asked.contains(place)) {
                peer.due = now + COURTESY_MS;
                continue;
            }
            peer.turn += 1;
            (peer.dialling, peer.dialled_at) = (true, now);
            met += usize::from(peer.met);
            all += 1;
            dials.push((Road::Mesh, address, Some(*device)));
        }
        dials
    }

    /// Devices with an address, in the order of the ring: from the own key on, and around.
    fn ring(&self) -> impl Iterator<Item = (&DeviceId, &Peer)> {
        let (from, to) = (Bound::Excluded(self.own), Bound::Excluded(self.own));
        let after = self.peers.range((from, Bound::Unbounded));
        after.chain(self.peers.range((Bound::Unbounded, to))).filter(|(_, peer)| !peer.addresses.is_empty())
    }

    /// The next device by key that isn't linked, and when its turn is; none where the next that answers is linked or
    /// dialled.
    fn next_by_key(&self, now: u64) -> Option<(DeviceId, u64)> {
        let mut soonest: Option<(DeviceId, u64)> = None;
        for (device, peer) in self.ring() {
            // Strangers hold no market together.
            if !peer.certified && !peer.met {
                continue;
            }
            if peer.linked || peer.dialling {
                break;
            }
            let wait = if peer.failures == 0 { 0 } else { BACKOFF_MIN_MS << peer.failures.min(RING_BACKOFF_EXPONENT) };
            let due = peer.due.max(peer.dialled_at + wait);
            if soonest.is_none_or(|(_, known)| due < known) {
                soonest = Some((*device, due));
            }
            if due <= now {
                break;
            }
        }
        soonest
    }

    pub(crate) fn poll_timeout(&self, uplink: bool) -> Option<u64> {
        let [met, all] = self.links_taken();
        let hubs_idle = uplink && !self.hubs.values().any(|hub| hub.linked);
        // A hub that was dialled is due again when patience ends.
        let hubs = self.hubs.values().filter(|_| hubs_idle).map(|hub| hub.due);
        let wanted = |peer: &&Peer| (if peer.met { met } else { all }) < self.degree && !peer.addresses.is_empty();
        let peers = self.peers.values().filter(wanted);
        let peers = peers.chain(self.configured.values()).filter(|peer| !peer.linked && !peer.dialling);
        // Whose turn it would be at the end of time: who is due first counts.
        let next = self.next_by_key(0).map(|(_, due)| due);
        hubs.chain(peers.map(|peer| peer.due)).chain(next).min()
    }

    fn addresses(&self, device: &DeviceId) -> Option<String> {
        let peer = self.peers.get(device)?;
        Some(peer.addresses.iter().cloned().collect::<Vec<_>>().join("\n"))
    }
}

/// Where a device stands in another's order of choice.
fn order(own: &DeviceId, device: &DeviceId) -> Hash {
    Hasher::new(Domain::Fingerprint).bytes(own.as_bytes()).bytes(device.as_bytes()).finish()
}

impl<S: Store> Engine<S> {
    /// Dials whoever is due.
    pub(crate) fn dial(&mut self) {
        if self.market.is_none() {
            return;
        }
        let uplink = self.dials_hubs();
        for (road, address, peer) in self.book.due(self.now.monotonic_ms, uplink) {
            let submit = if road == Road::Uplink { self.submission() } else { Vec::new() };
            self.effects.push(super::Effect::Link(road, LinkCommand::Dial { road, address, peer, submit }));
        }
    }

    /// When somebody is due to be dialled. Before it knows a market, a node dials nobody, whomever it has heard of.
    pub(crate) fn dial_timeout(&self) -> Option<u64> {
        self.market.and_then(|_| self.book.poll_timeout(self.dials_hubs()))
    }

    /// Whether this node looks for a way of its own to a hub.
    pub(crate) fn dials_hubs(&self) -> bool {
        self.uplink_enabled && !self.is_hub()
    }

    pub(crate) fn dial_failed(&mut self, road: Road, address: &str, reason: &str) {
        tracing::debug!(?road, address, reason, "dial failed");
        let jitter = self.random.next_u64();
        self.book.failed(road, address, self.now.monotonic_ms, jitter);
        self.dial();
    }

    pub(crate) fn hear_of(&mut self, device: DeviceId, address: String, by_mdns: bool) {
        let new = self.book.hear(device, address, by_mdns, self.now.monotonic_ms);
        if self.views.membership.is_known(&device) {
            self.book.certified(&device);
        }
        if new {
            self.dial();
        }
    }

    /// Remembers where a member was reached.
    pub(crate) fn remember_peer(&mut self, device: DeviceId) {
        self.book.met(&device);
        if let Some(addresses) = self.book.addresses(&device)
            && !addresses.is_empty()
            && !matches!(self.overlay.get(Table::Peers, device.as_bytes()), Ok(Some(known)) if known == addresses.as_bytes())
        {
            self.overlay.put(Table::Peers, *device.as_bytes(), addresses.into_bytes());
        }
    }

    /// Remembers where hubs are: the invite that named them is used up once.
    pub(crate) fn remember_hubs(&mut self) {
        let addresses: Vec<String> = self.book.hubs.keys().cloned().collect();
        self.overlay.put(Table::Meta, META_HUBS, addresses.join("\n").into_bytes());
    }

    pub(crate) fn load_peers(&mut self) -> Result<(), StoreError> {
        let hubs = self.overlay.get(Table::Meta, META_HUBS)?.and_then(|hubs| String::from_utf8(hubs).ok());
        for address in hubs.iter().flat_map(|hubs| hubs.lines()) {
            self.book.add_hub(address.to_owned());
        }
        for (device, addresses) in self.overlay.scan_prefix(Table::Peers, &[])? {
            if let (Ok(device), Ok(addresses)) = (DeviceId::try_from(device.as_slice()), String::from_utf8(addresses)) {
                for address in addresses.lines() {
                    self.book.hear(device, address.to_owned(), false, self.now.monotonic_ms);
                }
                self.book.met(&device);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn linked(book: &mut PeerBook, device: u8) {
        book.connected(DeviceId::from_bytes([device; 32]), Road::Mesh, None);
        book.met(&DeviceId::from_bytes([device; 32]));
    }

    #[test]
    fn the_next_by_key_is_dialled_also_where_links_are_enough() {
        let mut book = PeerBook::new(DeviceId::from_bytes([5; 32]), 2);
        for number in [1, 2, 3, 6, 7, 8, 9] {
            let device = DeviceId::from_bytes([number; 32]);
            book.hear(device, format!("node:{number}"), true, 0);
            // A stranger is no part of the ring.
            if number != 6 {
                book.certified(&device);
            }
        }
        [1, 2, 3].into_iter().for_each(|device| linked(&mut book, device));
        let next = |book: &mut PeerBook, now| -> Vec<String> {
            book.due(now, false).into_iter().map(|(_, address, _)| address).collect()
        };
        assert_eq!(next(&mut book, 0), ["node:7"], "the others are links enough, but none is the next");
        assert_eq!(next(&mut book, 0), [""; 0], "one at a time");
        book.failed(Road::Mesh, "node:7", 0, 0);
        assert_eq!(next(&mut book, 1), ["node:8"], "then who comes after");
        linked(&mut book, 8);
        let due = book.poll_timeout(false).unwrap();
        assert!(due > 1, "waiting is not spinning");
        assert_eq!(next(&mut book, due), ["node:7"], "who doesn't answer is tried again");
        let mut dials = 0;
        let mut now = due;
        while now < 3_600_000 {
            book.failed(Road::Mesh, "node:7", now, 0);
            now = book.poll_timeout(false).unwrap().max(now + 1);
            dials += book.due(now, false).len();
        }
        assert!((10..40).contains(&dials), "{dials} dials in an hour of somebody who is gone");
    }

    #[test]
    fn nodes_choose_different_neighbours() {
        let mut chosen = BTreeMap::new();
        for own in 0..40_u8 {
            let mut book = PeerBook::new(DeviceId::from_bytes([own; 32]), 6);
            for device in (0..40).filter(|device| *device != own) {
                book.hear(DeviceId::from_bytes([device; 32]), format!("node:{device}"), true, 0);
            }
            for (_, address, _) in book.due(COURTESY_MS, false) {
                *chosen.entry(address).or_insert(0) += 1;
            }
        }
        assert!(chosen.len() == 40 && chosen.values().all(|times| *times <= 16), "{chosen:?}");
    }

    #[test]
    fn a_device_that_is_known_at_a_configured_address_is_dialled_once() {
        let (own, peer) = (DeviceId::from_bytes([1; 32]), DeviceId::from_bytes([2; 32]));
        let place = "/ip4/10.0.0.2/udp/7700/quic-v1";
        let mut book = PeerBook::new(own, 6);
        book.configure(place.into());
        assert!(book.hear(peer, format!("{place}/p2p/12D3KooW"), false, 0));
        assert_eq!(book.due(0, false), [(Road::Mesh, place.to_owned(), None)]);
        assert_eq!(book.due(0, false), []);
        assert!(book.poll_timeout(false).unwrap() > 0, "waiting is not spinning");
        // Somebody else, or nobody, answers there: then it has its own turn.
        book.failed(Road::Mesh, place, 10, 0);
        assert_eq!(book.due(COURTESY_MS, false).len(), 2);
    }

    fn device(number: u32) -> DeviceId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        DeviceId::from_bytes(bytes)
    }

    fn heard(book: &mut PeerBook, number: u32) -> bool {
        book.hear(device(number), format!("/ip4/10.0.0.1/udp/{number}/quic-v1"), true, 0)
    }

    #[test]
    fn strangers_that_come_by_themselves_take_none_of_the_links_that_are_sought() {
        let mut book = PeerBook::new(device(0), 2);
        for number in 10..20 {
            book.connected(device(number), Road::Mesh, None);
        }
        assert!(heard(&mut book, 1) && heard(&mut book, 2) && heard(&mut book, 3));
        assert_eq!(book.due(0, false).len(), 2);
        assert_eq!(book.due(0, false), []);
        // One that shows its certificate does.
        book.failed(Road::Mesh, "/ip4/10.0.0.1/udp/1/quic-v1", 0, 0);
        book.met(&device(10));
        assert_eq!(book.due(10_000, false), []);
    }

    #[test]
    fn strangers_that_answer_to_all_adverts_keep_no_member_from_being_dialled() {
        let mut book = PeerBook::new(device(0), 2);
        for number in 10..20 {
            assert!(heard(&mut book, number));
        }
        for (_, address, device) in book.due(0, false) {
            book.connected(device.unwrap(), Road::Mesh, Some(&address));
        }
        assert!(heard(&mut book, 1));
        assert_eq!(book.due(0, false), [], "whoever was never met waits until there is a link");
        book.met(&device(1));
        assert_eq!(book.poll_timeout(false), Some(0));
        assert_eq!(book.due(0, false).len(), 1);
    }

    #[test]
    fn adv_101_a_book_that_is_full_of_adverts_has_room_for_whoever_comes_next() {
        let mut book = PeerBook::new(device(0), 2);
        let count = u32::try_from(PEERS_MAX).unwrap();
        assert!((1..=count).all(|number| heard(&mut book, number)));
        assert!(heard(&mut book, count + 1), "it was kept out");
        assert_eq!((book.peers.len(), book.discovered()), (PEERS_MAX, PEERS_MAX));
        // Members stay, whoever is heard of.
        (2..=count + 1).for_each(|number| book.met(&device(number)));
        book.met(&device(1));
        let last = (1..=count + 5).filter(|number| heard(&mut book, *number)).count();
        assert_eq!(last, 0, "a member's place was taken");
    }

    #[test]
    fn strangers_that_leave_leave_nothing_behind() {
        let mut book = PeerBook::new(device(0), 2);
        for number in 1..100 {
            book.connected(device(number), Road::Mesh, None);
            book.disconnected(device(number), Road::Mesh, "/ip4/10.0.0.1/udp/1/quic-v1", false, Ending::Useless, 0);
        }
        assert_eq!(book.peers.len(), 0);
    }
}
