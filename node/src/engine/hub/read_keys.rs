//! A stall's read keys: made each day by its owner's device, wrapped to each device that may read its sales.

use std::collections::BTreeSet;

use stallmesh_protocol::certificate::{Role, Scope};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::planted::{self, Bug};
use stallmesh_protocol::seal::{SealKey, associated, info, seal_to};
use stallmesh_protocol::{Kind, Lane, LogName};

use crate::engine::Engine;
use crate::store::Store;

/// Read keys last for a day of 24 hours, in UTC.
const DAY_MS: u64 = 24 * 3_600_000;
/// The same key isn't made a second time within an hour. One may have no effect, for what is held against this device,
/// and two devices of a stall may see its devices otherwise: else each change would have them write another.
const AGAIN_MS: u64 = 3_600_000;

/// What key this run has published last.
#[derive(Debug)]
pub(crate) struct ReadKeyMade {
    at: u64,
    day: u32,
    readers: BTreeSet<[u8; 32]>,
}

impl<S: Store> Engine<S> {
    /// The owner's device of a stall makes its read key, and wraps it to each device that may read.
    pub(super) fn ensure_stall_key(&mut self) {
        let own = self.device.id();
        let Some(certificate) = self.views.membership.certificate(&own).cloned() else { return };
        let owns = certificate.role == Role::Stall
            && certificate.scopes.allows(Scope::GRANT)
            && certificate.scopes.allows(Scope::READ_SALES);
        if !owns {
            return;
        }
        let time = self.time();
        let day = u32::try_from(time / DAY_MS).unwrap_or(0);
        // The next day's key is due when that day begins, whether or not anything else happens then.
        self.stall_key_at = Some(self.now.monotonic_ms + DAY_MS - time % DAY_MS);
        let readers: Vec<[u8; 32]> = self
            .views
            .membership
            .devices()
            .filter(|device| !self.views.membership.is_revoked(device))
            .filter_map(|device| self.views.membership.certificate(device))
            .filter(|reader| reader.stall == certificate.stall && reader.scopes.allows(Scope::READ_SALES))
            .map(|reader| reader.seal_key)
            .collect();
        let wanted: BTreeSet<[u8; 32]> = readers.iter().copied().collect();
        let current = self.views.stall_key(&certificate.stall);
        let complete = current.is_some_and(|key| {
            let wrapped: BTreeSet<&[u8]> = key.wraps.iter().map(|wrap| wrap.recipient.as_slice()).collect();
            // A device that was removed starts a new key; one that was added gets it, too. A key of tomorrow is the word of
            // a clock that is ahead, and as good.
            key.day >= day && wrapped == wanted.iter().map(|reader| reader.as_slice()).collect()
        });
        // The latest day counts.
        let day = current.map_or(day, |key| key.day.max(day));
        let now = self.now.monotonic_ms;
        let repeats = self
            .read_key_made
            .as_ref()
            .is_some_and(|made| made.day == day && made.readers == wanted && now < made.at.saturating_add(AGAIN_MS));
        let again = planted::is_on(Bug::ReadKeyAgain)
            && self.read_key_made.as_ref().is_none_or(|made| now > made.at.saturating_add(10_000));
        if ((complete || repeats) && !again) || readers.is_empty() {
            return;
        }
        let secret: [u8; 32] = self.random_bytes();
        let (Some(market), Ok(key)) = (self.market, SealKey::from_secret(&secret)) else { return };
        let bound = associated(&market.id, certificate.stall.as_bytes());
        let mut wraps = Vec::new();
        for reader in &readers {
            let seed = self.random_bytes();
            match seal_to(reader, info::STALL_KEY, &bound, key.secret(), seed) {
                Ok(wrap) => wraps.push(wrap),
                Err(error) => tracing::warn!(%error, "a device of the stall has no usable key"),
            }
        }
        let message =
            payload::StallKey { stall: certificate.stall.clone(), day, public_key: key.public().to_vec(), wraps };
        match self.append_public(Lane::CONTROL, Kind::STALL_KEY, encode(&message)) {
            Ok(_) => self.read_key_made = Some(ReadKeyMade { at: now, day, readers: wanted }),
            Err(error) => tracing::warn!(%error, "the stall's read key could not be published"),
        }
    }

    pub(crate) fn stall_key_tick(&mut self) {
        if self.stall_key_at.take_if(|at| *at <= self.now.monotonic_ms).is_some() {
            self.ensure_stall_key();
        }
    }

    /// Keys that this node could open a sealed log's day keys with.
    pub(crate) fn reading_keys(&self, log: &LogName) -> Vec<SealKey> {
        let mut keys: Vec<SealKey> = self.opening.all().cloned().collect();
        if let Some(stall) = self.views.membership.stall(&log.author) {
            keys.extend(self.stall_read_keys(stall));
        }
        keys
    }

    /// A stall's read keys, as far as they are wrapped to this device.
    pub(crate) fn stall_read_keys(&self, stall: &str) -> Vec<SealKey> {
        let own = self.seal_key.public();
        let Some(market) = self.market else { return Vec::new() };
        let bound = associated(&market.id, stall.as_bytes());
        self.views
            .stall_keys(stall)
            .filter_map(|message| {
                let wrap = message.wraps.iter().find(|wrap| wrap.recipient == own)?;
                let secret = self.seal_key.open(wrap, info::STALL_KEY, &bound).ok()?;
                SealKey::from_secret(&secret.as_slice().try_into().ok()?).ok()
            })
            .collect()
    }
}
