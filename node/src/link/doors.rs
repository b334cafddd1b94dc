//! Who may hold a connection, where there are only so many. Members always find room: strangers share a part of it,
//! a smaller one from each place, and leave where a member comes. Pure: it is told what happens, and when.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Connections that one device may have at a time: it has two roads and several addresses, and one that was killed and
/// started again has connections here that end only by silence.
const DEVICE_MAX: usize = 8;
/// A stranger that was here for so long leaves its room to the next one: to join with an invite takes seconds, and
/// whoever waits for a person's yes comes back for it.
const STRANGER_PATIENCE: Duration = Duration::from_secs(15);
/// Handshakes under way at a time. Each costs some 40 kB and ends by itself after at most ten seconds.
const KNOCKS_MAX: usize = 256;
/// The part of them that is for places from which a member has come: whoever is at the door isn't known before the
/// handshake ends, and the address of a first packet can be anybody's.
const KNOCKS_FOR_MEMBERS: usize = 64;
/// Handshakes under way from one place: a market whose devices share one address starts all of them in one moment.
const KNOCKS_PER_PLACE_MAX: usize = 64;
/// Places of members that are remembered: as many as a large market has devices.
const MEMBER_PLACES_MAX: usize = 1_000;

/// Where a connection comes from: an IPv4 address or the /64 of an IPv6 one, which is the least that one machine has.
/// None: no address at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(Option<IpAddr>);

impl Place {
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        Place(address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        }))
    }
}

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// This side dialled it; how many of those there are is the peer book's to bound.
    Dialled,
    /// A member of the market, from there.
    Member(Place),
    /// Anybody else, from there.
    Stranger(Place),
}

/// Who must go for a newcomer: a connection, and its device.
pub(crate) type Displaced<K, D> = Option<(K, D)>;

/// There is no room for the newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("E_BUSY: there is no room for another connection now; try again later")]
pub(crate) struct NoRoom;

#[derive(Debug)]
struct Held<D> {
    device: D,
    visitor: Visitor,
    since: Instant,
}

impl<D> Held<D> {
    fn stranger(&self) -> Option<Place> {
        match self.visitor {
            Visitor::Stranger(place) => Some(place),
            Visitor::Dialled | Visitor::Member(_) => None,
        }
    }
}

/// The connections of one shell: `K` names one, `D` the device at its other end.
#[derive(Debug)]
pub(crate) struct Doors<K, D> {
    connections_max: usize,
    strangers_max: usize,
    strangers_per_place_max: usize,
    held: BTreeMap<K, Held<D>>,
    /// Handshakes under way.
    knocks: BTreeMap<K, Place>,
    /// Where members last came from, and when.
    member_places: BTreeMap<Place, Instant>,
}

impl<K: Copy + Ord, D: Copy + Ord> Doors<K, D> {
    /// For at most so many connections; 0: for none. Strangers get three quarters of them, as only a member needs a reserve, and a
    /// member that comes makes a stranger go. One place gets half: a whole market may join from behind one address
    /// (with the default of 128 connections, 64 devices in the same moment), and newcomers from elsewhere find room.
    pub(crate) fn new(connections_max: usize) -> Self {
        Doors {
            connections_max,
            strangers_max: (connections_max / 4 * 3).max(1),
            strangers_per_place_max: (connections_max / 2).max(1),
            held: BTreeMap::new(),
            knocks: BTreeMap::new(),
            member_places: BTreeMap::new(),
        }
    }

    /// Somebody begins a handshake. [`Doors::answered`] follows, unless it is refused here.
    pub(crate) fn knock(&mut self, key: K, place: Place) -> Result<(), NoRoom> {
        let max = KNOCKS_MAX - if self.member_places.contains_key(&place) { 0 } else { KNOCKS_FOR_MEMBERS };
        let from_there = self.knocks.values().filter(|other| **other == place).count();
        if self.knocks.len() >= max || from_there >= KNOCKS_PER_PLACE_MAX {
            return Err(NoRoom);
        }
        self.knocks.insert(key, place);
        Ok(())
    }

    /// A handshake has ended, one way or the other.
    pub(crate) fn answered(&mut self, key: K) {
        self.knocks.remove(&key);
    }

    /// Whether a handshake or a connection is under way that has this name.
    pub(crate) fn knows(&self, key: &K) -> bool {
        self.knocks.contains_key(key) || self.held.contains_key(key)
    }

    /// Handshakes under way.
    pub(crate) fn knocks(&self) -> usize {
        self.knocks.len()
    }

    /// Connections that are held.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The connections of a device.
    pub(crate) fn of(&self, device: &D) -> Vec<K> {
        self.held.iter().filter(|(_, held)| held.device == *device).map(|(key, _)| *key).collect()
    }

    /// Somebody has proved who it is, and takes its place, if need be another's: that one must be closed.
    pub(crate) fn enter(
        &mut self,
        key: K,
        device: D,
        visitor: Visitor,
        now: Instant,
    ) -> Result<Displaced<K, D>, NoRoom> {
        let leaving = self.make_room(&device, visitor, now)?;
        let displaced = leaving.and_then(|key| self.held.remove(&key).map(|held| (key, held.device)));
        self.held.insert(key, Held { device, visitor, since: now });
        if let Visitor::Member(place) = visitor {
            self.remember(place, now);
        }
        Ok(displaced)
    }

    /// A device is known as a member from now on.
    pub(crate) fn admitted(&mut self, device: &D, now: Instant) {
        let mut places = Vec::new();
        for held in self.held.values_mut().filter(|held| held.device == *device) {
            if let Visitor::Stranger(place) = held.visitor {
                held.visitor = Visitor::Member(place);
                places.push(place);
            }
        }
        places.into_iter().for_each(|place| self.remember(place, now));
    }

    /// A connection has ended.
    pub(crate) fn left(&mut self, key: K) {
        self.held.remove(&key);
    }

    fn remember(&mut self, place: Place, now: Instant) {
        self.member_places.insert(place, now);
        if self.member_places.len() > MEMBER_PLACES_MAX
            && let Some(oldest) = self.member_places.iter().min_by_key(|(_, at)| **at).map(|(place, _)| *place)
        {
            self.member_places.remove(&oldest);
        }
    }

    /// Whose connection ends so that this one finds room; none where there is some.
    fn make_room(&self, device: &D, visitor: Visitor, now: Instant) -> Result<Option<K>, NoRoom> {
        // The oldest of one device's connections is the one that is most likely dead.
        if self.held.values().filter(|held| held.device == *device).count() >= DEVICE_MAX {
            return Ok(self.oldest(|held| held.device == *device));
        }
        let full = self.held.len() >= self.connections_max;
        let Visitor::Stranger(place) = visitor else {
            return match self.most_crowded() {
                Some((crowded, _)) if full => Ok(self.oldest(|held| held.stranger() == Some(crowded))),
                None if full => Err(NoRoom),
                _ => Ok(None),
            };
        };
        let stale = |key: K| self.held.get(&key).is_some_and(|held| now - held.since >= STRANGER_PATIENCE);
        let strangers = self.held.values().filter(|held| held.stranger().is_some()).count();
        let from_there = self.held.values().filter(|held| held.stranger() == Some(place)).count();
        if from_there >= self.strangers_per_place_max {
            let oldest = self.oldest(|held| held.stranger() == Some(place));
            return oldest.filter(|key| stale(*key)).map(Some).ok_or(NoRoom);
        }
        if strangers < self.strangers_max && !full {
            return Ok(None);
        }
        // Whoever holds much leaves some to whoever holds less, however many addresses it comes from.
        if let Some((crowded, count)) = self.most_crowded()
            && count > from_there + 1
        {
            return Ok(self.oldest(|held| held.stranger() == Some(crowded)));
        }
        self.oldest(|held| held.stranger().is_some()).filter(|key| stale(*key)).map(Some).ok_or(NoRoom)
    }

    fn oldest(&self, which: impl Fn(&Held<D>) -> bool) -> Option<K> {
        self.held.iter().filter(|(_, held)| which(held)).min_by_key(|(_, held)| held.since).map(|(key, _)| *key)
    }

    /// The place from which most strangers came, and how many.
    fn most_crowded(&self) -> Option<(Place, usize)> {
        let mut counts: BTreeMap<Place, usize> = BTreeMap::new();
        self.held.values().filter_map(Held::stranger).for_each(|place| *counts.entry(place).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn place(text: &str) -> Place {
        Place::of(Some(text.parse().unwrap()))
    }

    fn stranger(text: &str) -> Visitor {
        Visitor::Stranger(place(text))
    }

    /// Strangers from one place as they come, each with a key of its own; how many got in.
    fn crowd(doors: &mut Doors<u32, u32>, first: u32, count: u32, from: &str, now: Instant) -> usize {
        (first..first + count).filter(|key| doors.enter(*key, *key, stranger(from), now).is_ok()).count()
    }

    #[test]
    fn strangers_from_one_place_get_half_and_from_all_places_three_quarters() {
        let (mut doors, now) = (Doors::new(128), Instant::now());
        assert_eq!(crowd(&mut doors, 0, 100, "10.0.0.1", now), 64);
        assert_eq!(crowd(&mut doors, 100, 32, "10.0.0.2", now), 32);
        assert_eq!(doors.held(), 96);
        // From here on the places share what there is.
        assert_eq!(crowd(&mut doors, 200, 100, "10.0.0.3", now), 32);
        assert_eq!(doors.held(), 96);
        assert!(doors.enter(300, 300, stranger("10.0.0.4"), now).unwrap().is_some());
        assert_eq!(doors.held(), 96);
    }

    #[test]
    fn a_member_is_refused_only_where_members_hold_everything() {
        let (mut doors, now) = (Doors::new(8), Instant::now());
        let member = Visitor::Member(place("10.0.0.9"));
        crowd(&mut doors, 0, 4, "10.0.0.1", now);
        crowd(&mut doors, 4, 2, "10.0.0.2", now);
        assert_eq!(doors.enter(10, 10, member, now), Ok(None));
        assert_eq!(doors.enter(11, 11, member, now), Ok(None));
        for key in 12..18 {
            let (displaced, _) = doors.enter(key, key, member, now).unwrap().unwrap();
            assert!(displaced < 6, "{displaced} is no stranger");
        }
        assert_eq!(doors.enter(18, 18, member, now), Err(NoRoom));
        assert_eq!(doors.enter(18, 18, Visitor::Dialled, now), Err(NoRoom));
        assert_eq!(doors.enter(18, 18, stranger("10.0.0.1"), now), Err(NoRoom));
        doors.left(12);
        assert_eq!(doors.enter(18, 18, member, now), Ok(None));
    }

    #[test]
    fn where_no_connection_is_wanted_nobody_gets_one() {
        let (mut doors, now) = (Doors::new(0), Instant::now());
        for visitor in [Visitor::Dialled, Visitor::Member(place("10.0.0.1")), stranger("10.0.0.1")] {
            assert_eq!(doors.enter(1, 1, visitor, now), Err(NoRoom));
        }
    }

    #[test]
    fn whoever_is_admitted_leaves_its_room_to_other_strangers() {
        let (mut doors, now) = (Doors::new(16), Instant::now());
        assert_eq!(crowd(&mut doors, 0, 10, "10.0.0.1", now), 8);
        (0..8).for_each(|device| doors.admitted(&device, now));
        assert_eq!(crowd(&mut doors, 20, 10, "10.0.0.1", now), 8);
        assert!((0..8).all(|device| doors.of(&device).len() == 1), "a member went for a stranger");
    }

    #[test]
    fn a_stranger_that_stays_makes_way_for_the_next_from_its_place() {
        let (mut doors, now) = (Doors::new(16), Instant::now());
        assert_eq!(crowd(&mut doors, 0, 8, "10.0.0.1", now), 8);
        let soon = now + STRANGER_PATIENCE / 2;
        assert_eq!(doors.enter(20, 20, stranger("10.0.0.1"), soon), Err(NoRoom));
        let later = now + STRANGER_PATIENCE;
        assert_eq!(doors.enter(20, 20, stranger("10.0.0.1"), later), Ok(Some((0, 0))));
        assert_eq!(doors.held(), 8);
    }

    #[test]
    fn many_places_do_not_shut_out_the_next_one_for_long() {
        let (mut doors, now) = (Doors::new(16), Instant::now());
        for key in 0..12 {
            assert_eq!(crowd(&mut doors, key, 1, &format!("10.0.0.{key}"), now), 1);
        }
        assert_eq!(doors.enter(20, 20, stranger("10.1.0.1"), now), Err(NoRoom));
        assert_eq!(doors.enter(20, 20, stranger("10.1.0.1"), now + STRANGER_PATIENCE), Ok(Some((0, 0))));
    }

    #[test]
    fn a_device_that_comes_too_often_takes_its_own_oldest_place() {
        let (mut doors, now) = (Doors::new(64), Instant::now());
        for key in 0..DEVICE_MAX as u32 {
            assert_eq!(doors.enter(key, 1, Visitor::Member(place("10.0.0.1")), now), Ok(None));
        }
        assert_eq!(doors.enter(90, 1, Visitor::Member(place("10.0.0.1")), now), Ok(Some((0, 1))));
        assert_eq!(doors.of(&1).len(), DEVICE_MAX);
        assert_eq!(doors.enter(91, 2, Visitor::Member(place("10.0.0.1")), now), Ok(None));
    }

    #[test]
    fn an_address_of_version_six_is_known_by_its_network() {
        assert_eq!(place("2001:db8:1:2::1"), place("2001:db8:1:2:ffff:1:2:3"));
        assert_ne!(place("2001:db8:1:2::1"), place("2001:db8:1:3::1"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }

    #[test]
    fn adv_104_handshakes_that_never_end_leave_room_for_those_of_members() {
        let (mut doors, now) = (Doors::new(64), Instant::now());
        assert_eq!(doors.enter(0, 0, Visitor::Member(place("10.0.0.9")), now), Ok(None));
        let mut key = 0;
        let mut knock = |doors: &mut Doors<u32, u32>, from: &str| {
            key += 1;
            doors.knock(key, place(from)).is_ok()
        };
        assert_eq!((0..100).filter(|_| knock(&mut doors, "10.0.0.1")).count(), KNOCKS_PER_PLACE_MAX);
        // Spoofed, each from elsewhere.
        let spoofed = (0..1_000).filter(|number| knock(&mut doors, &format!("10.1.{}.{}", number / 250, number % 250)));
        assert_eq!(spoofed.count(), KNOCKS_MAX - KNOCKS_FOR_MEMBERS - KNOCKS_PER_PLACE_MAX);
        assert!(knock(&mut doors, "10.0.0.9"));
        (1..=key).for_each(|key| doors.answered(key));
        assert!(doors.knock(0, place("10.1.0.0")).is_ok());
        assert_eq!(doors.knocks(), 1);
    }
}
