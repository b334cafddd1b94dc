//! Opening keys: what sales are sealed to, and what opens them.
//!
//! A hub has one that is in use, its newest, and keeps those before it: what was sealed to them still arrives, from
//! devices that were away and from carriers. A key's secret is durable in its file before the entry that names it is
//! written; a file whose key no entry names has opened nothing and is never in use.
//!
//! With the market's recovery key a hub opens the secrets of others, as their entries carry them: those of hubs that are
//! gone. They are kept in the store, sealed to this device, so that the recovery key can go off line again.

use std::collections::{BTreeMap, BTreeSet};

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::seal::{SealError, SealKey, associated, info, seal_to};
use stallmesh_protocol::{DeviceId, Kind, Lane, MarketId};

use crate::engine::{Engine, EngineError, Failure, FailureCode};
use crate::store::{Store, StoreError, Table};

/// Where inherited keys stand in [`Table::Meta`]: this, and the public key.
const META_INHERITED: &[u8] = b"inherited/";

/// The opening keys that this process has.
#[derive(Debug, Default)]
pub(crate) struct OpeningKeys {
    /// This hub's own, the oldest first.
    own: Vec<SealKey>,
    /// Other hubs', by their public key.
    inherited: BTreeMap<[u8; 32], SealKey>,
    /// The market's recovery key, where this process holds it.
    recovery: Option<SealKey>,
}

impl OpeningKeys {
    pub(crate) fn new(secrets: &[[u8; 32]]) -> Result<Self, SealError> {
        let own = secrets.iter().map(SealKey::from_secret).collect::<Result<_, _>>()?;
        Ok(OpeningKeys { own, ..OpeningKeys::default() })
    }

    /// All of them, the newest own one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &SealKey> {
        self.own.iter().rev().chain(self.inherited.values())
    }

    fn holds(&self, public: &[u8; 32]) -> bool {
        self.all().any(|key| key.public() == *public)
    }
}

/// The entry of an opening key: its secret travels with the logs, for whoever holds the recovery key.
pub(crate) fn opening_key_message(
    market: &MarketId,
    recovery: &[u8; 32],
    key: &SealKey,
    seed: [u8; 32],
) -> Result<payload::OpeningKey, SealError> {
    let recovery = seal_to(recovery, info::OPENING_KEY, &associated(market, &[]), key.secret(), seed)?;
    Ok(payload::OpeningKey { public_key: key.public().to_vec(), recovery: Some(recovery) })
}

impl<S: Store> Engine<S> {
    /// This hub's opening key that is in use: the newest that it has published.
    pub(crate) fn opening_key(&self) -> Option<&SealKey> {
        let named = self.views.opening_key_of(&self.device.id());
        let held = self.opening.own.iter().find(|key| Some(key.public()) == named);
        held.or_else(|| self.opening.own.last())
    }

    /// Publishes a new opening key. Its secret is durable: the caller has seen to that.
    pub(crate) fn rotate_opening_key(&mut self, secret: &[u8; 32]) -> Result<(), Failure> {
        self.hub_certificate()?;
        self.valid_certificate(Scope::SETTLE)?;
        let unavailable = |detail: &str| Failure::new(FailureCode::EUnavailable, detail);
        if self.recovery.is_waiting() {
            return Err(unavailable(super::recovery::WAITING));
        }
        let invalid = |error: SealError| Failure::new(FailureCode::EInvalid, error.to_string());
        let key = SealKey::from_secret(secret).map_err(invalid)?;
        let recovery = self.views.market().and_then(|market| <[u8; 32]>::try_from(market.recovery_key.as_slice()).ok());
        let (Some(market), Some(recovery)) = (self.market, recovery) else {
            return Err(unavailable("the market's recovery key isn't known here yet: try again when it is"));
        };
        if !self.opening.holds(&key.public()) {
            self.opening.own.push(key.clone());
        }
        let seed = self.random_bytes();
        let message = opening_key_message(&market.id, &recovery, &key, seed).map_err(EngineError::from)?;
        self.append_public(Lane::CONTROL, Kind::OPENING_KEY, encode(&message))?;
        Ok(())
    }

    /// This process holds the market's recovery key: what was sealed to hubs that are gone opens here. False where it is
    /// another market's.
    ///
    /// # Errors
    /// It is no key.
    pub fn hold_recovery(&mut self, secret: &[u8; 32]) -> Result<bool, SealError> {
        let key = SealKey::from_secret(secret)?;
        if self.views.market().is_some_and(|market| market.recovery_key != key.public()) {
            return Ok(false);
        }
        self.opening.recovery = Some(key);
        self.inherit_opening_keys();
        Ok(true)
    }

    /// Opens the secrets of opening keys that others have published, as far as that wasn't done yet.
    pub(crate) fn inherit_opening_keys(&mut self) {
        let (Some(market), Some(recovery)) = (self.market, self.opening.recovery.clone()) else { return };
        let bound = associated(&market.id, &[]);
        let mut opened = Vec::new();
        for (_, public, message) in self.views.published_opening_keys() {
            let Some(wrap) = message.recovery.as_ref().filter(|wrap| wrap.recipient == recovery.public()) else {
                continue;
            };
            if self.opening.holds(public) {
                continue;
            }
            let secret = recovery.open(wrap, info::OPENING_KEY, &bound).ok();
            let secret = secret.and_then(|secret| <[u8; 32]>::try_from(secret.as_slice()).ok());
            opened.extend(
                secret.and_then(|secret| SealKey::from_secret(&secret).ok()).filter(|key| key.public() == *public),
            );
        }
        for key in opened {
            let (own, seed) = (self.seal_key.public(), self.random_bytes());
            match seal_to(&own, info::OPENING_KEY, &bound, key.secret(), seed) {
                Ok(kept) => {
                    self.overlay.put(Table::Meta, [META_INHERITED, &key.public()].concat(), encode(&kept));
                    self.inherit(key);
                }
                Err(error) => tracing::warn!(%error, "an opening key could not be kept"),
            }
        }
    }

    fn inherit(&mut self, key: SealKey) {
        self.opening.inherited.insert(key.public(), key);
        // What could not be opened may be now.
        self.books.changed(true);
    }

    /// Takes up the keys that earlier runs have inherited.
    pub(crate) fn load_inherited_keys(&mut self) -> Result<(), StoreError> {
        let Some(market) = self.market else { return Ok(()) };
        let bound = associated(&market.id, &[]);
        for (_, kept) in self.overlay.scan_prefix(Table::Meta, META_INHERITED)? {
            let wrap = payload::decode::<payload::Wrap>("an inherited key", &kept).ok();
            let secret = wrap.and_then(|wrap| self.seal_key.open(&wrap, info::OPENING_KEY, &bound).ok());
            let secret = secret.and_then(|secret| <[u8; 32]>::try_from(secret.as_slice()).ok());
            if let Some(key) = secret.and_then(|secret| SealKey::from_secret(&secret).ok()) {
                self.inherit(key);
            }
        }
        Ok(())
    }

    /// Tells people of opening keys that this hub can't open with what is sealed to them.
    pub(crate) fn missing_opening_keys(&self) -> Option<String> {
        if !self.is_hub() {
            return None;
        }
        let own = self.device.id();
        let wanted = |author: &DeviceId| *author == own || self.views.is_burned(author);
        let published = self.views.published_opening_keys().filter(|(author, ..)| wanted(author));
        let missing: BTreeSet<&[u8; 32]> =
            published.map(|(_, public, _)| public).filter(|public| !self.opening.holds(public)).collect();
        let missing = missing.len();
        (missing > 0).then(|| {
            format!(
                "{missing} of the market's opening keys can't be used here, and what was sealed to them alone is \
                 unreadable: put the missing opening key files back into the data directory, or the market's \
                 recovery.key, and restart this hub"
            )
        })
    }
}
