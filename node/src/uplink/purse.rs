//! A node's side of resumption: the tickets that hubs gave it, for as long as this process lives.
//!
//! Each can be sent once. While the way is cut a dial with one may reach nobody, and it is gone; so after one that had no
//! answer the next is spent later, and each wait is three times the one before. Dials between them do without: a full
//! handshake costs one round trip more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets that are kept for one address; the newest are used first.
const PER_ADDRESS_MAX: usize = 8;
/// Addresses: as many as the peer book has of hubs.
const ADDRESSES_MAX: usize = 8;
/// The wait after the first ticket that had no answer.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_FACTOR: u32 = 3;

#[derive(Debug, Default)]
struct Kept {
    tickets: VecDeque<Tls13ClientSessionValue>,
    /// The next one may be spent from then on.
    from: Option<Instant>,
    wait: Duration,
}

/// All tickets of a node.
#[derive(Debug, Default)]
pub(super) struct Purse {
    kept: Mutex<HashMap<String, Kept>>,
    /// The key exchange that hubs have chosen: a guess that is wrong costs a round trip.
    group: Mutex<Option<NamedGroup>>,
}

impl Purse {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For one dial to an address.
    pub(super) fn for_dial(self: &Arc<Self>, address: &str) -> Dial {
        Dial { purse: self.clone(), address: address.to_owned() }
    }

    /// The newest ticket, where there is one whose time has come.
    fn spend(&self, address: &str, now: Instant) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.kept();
        let kept = kept.get_mut(address)?;
        if kept.from.is_some_and(|from| now < from) {
            return None;
        }
        let ticket = kept.tickets.pop_back()?;
        let wait = kept.wait.max(WAIT_MIN);
        (kept.from, kept.wait) = (Some(now + wait), wait * WAIT_FACTOR);
        Some(ticket)
    }

    /// The way is there again: the next ticket needn't wait.
    pub(super) fn reached(&self, address: &str) {
        if let Some(kept) = self.kept().get_mut(address) {
            (kept.from, kept.wait) = (None, Duration::ZERO);
        }
    }
}

/// What one dial uses, and is given.
#[derive(Debug)]
pub(super) struct Dial {
    purse: Arc<Purse>,
    address: String,
}

impl ClientSessionStore for Dial {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.purse.group.lock().unwrap_or_else(PoisonError::into_inner) = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.purse.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut kept = self.purse.kept();
        if kept.len() >= ADDRESSES_MAX && !kept.contains_key(&self.address) {
            return;
        }
        let kept = kept.entry(self.address.clone()).or_default();
        kept.tickets.push_back(ticket);
        if kept.tickets.len() > PER_ADDRESS_MAX {
            kept.tickets.pop_front();
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.purse.spend(&self.address, Instant::now())
    }
}
