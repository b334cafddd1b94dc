//! Making a market: the root's log, the first hub, and the keys that sales will be sealed to. And a hub anew, from the
//! root key and the recovery key alone.

use stallmesh_protocol::certificate::{Certificate, Role, Scopes, VALIDITY_MAX};
use stallmesh_protocol::entry::Payload;
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::money;
use stallmesh_protocol::payload;
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{DeviceId, Incarnation, Kind, Lane, LogName, MarketId};

use super::hub::opening_key_message;
use super::logs::Logs;
use super::overlay::Overlay;
use super::{
    EngineError, Failure, FailureCode, Identity, META_DEVICE, META_EPOCH, META_FENCE, META_ROOT, META_WAITING, Now,
    PolicyView,
};
use crate::quote::files::{CatalogFile, Number, TaxRateFile, TaxRounding};
use crate::quote::{Catalog, Problem, ProblemCode, Source};
use crate::store::{Store, Table};

/// A market to be made.
#[derive(Clone, Debug)]
pub struct MarketOrder {
    /// What people call it.
    pub name: String,
    /// ISO 4217.
    pub currency: String,
    /// Distinguishes seasons under one root key.
    pub epoch: u32,
    /// What people call the hub.
    pub hub_name: String,
    /// For how long the hub's certificate is valid, in milliseconds.
    pub valid_ms: u64,
    /// Fees, taxes, limits.
    pub policy: PolicyView,
}

/// A hub that is to take the place of those that are gone.
#[derive(Clone, Debug)]
pub struct RecoveryOrder {
    /// The market's.
    pub epoch: u32,
    /// What people call the new hub.
    pub hub_name: String,
    /// For how long its certificate is valid, in milliseconds.
    pub valid_ms: u64,
}

/// Writes a market into a fresh store of its first hub: the root's log with the market and the hub's certificate, and
/// the hub's own log with its opening key and the policy. `seed`: 32 fresh random bytes.
///
/// # Errors
/// The order makes no sense, or the store failed.
pub fn create_market<S: Store>(
    store: S,
    order: &MarketOrder,
    identity: &Identity,
    root: &DeviceKey,
    recovery_public: [u8; 32],
    seed: [u8; 32],
    now: Now,
) -> Result<MarketId, CreateError> {
    money::exponent(&order.currency).map_err(|error| CreateError::Order(error.to_string()))?;
    let policy = read_policy(&order.policy, Vec::new()).map_err(|failure| CreateError::Order(failure.detail))?;
    let description = payload::Market {
        name: order.name.clone(),
        currency: order.currency.clone(),
        epoch: order.epoch,
        recovery_key: recovery_public.to_vec(),
        replaces: Vec::new(),
    };
    let mut first = FirstHub::new(store, identity, root, order.epoch, seed, now)?;
    first.by_root(Kind::MARKET, payload::encode(&description))?;
    first.certify(&order.hub_name, order.valid_ms)?;
    first.publish_opening_key(recovery_public, seed)?;
    first.by_hub(Kind::POLICY, payload::encode(&policy))?;
    let fingerprint_key = blake3::derive_key("stallmesh 1 first fingerprint key", &seed).to_vec();
    let rules = payload::CheckoutRules { fingerprint_key, ..payload::CheckoutRules::default() };
    first.by_hub(Kind::CHECKOUT_RULES, payload::encode(&rules))?;
    first.commit()
}

/// Writes what a hub begins with that takes the place of others: its certificate by the root, and its opening key. All
/// else of the market comes from its members. `seed`: 32 fresh random bytes.
///
/// # Errors
/// The order makes no sense, or the store failed.
pub fn recover_market<S: Store>(
    store: S,
    order: &RecoveryOrder,
    identity: &Identity,
    root: &DeviceKey,
    recovery_public: [u8; 32],
    seed: [u8; 32],
    now: Now,
) -> Result<MarketId, CreateError> {
    let mut first = FirstHub::new(store, identity, root, order.epoch, seed, now)?;
    first.certify(&order.hub_name, order.valid_ms)?;
    first.publish_opening_key(recovery_public, seed)?;
    // Milliseconds since 1970 lie beyond every epoch that was counted from 1.
    first.overlay.put(Table::Meta, META_FENCE, now.wall_ms.to_be_bytes());
    first.overlay.put(Table::Meta, META_WAITING, []);
    first.commit()
}

/// What is written before a hub's first start: the root's log and its own, of one incarnation.
struct FirstHub<'a, S> {
    overlay: Overlay<S>,
    logs: Logs,
    market: MarketId,
    identity: &'a Identity,
    /// Whose log, by which key.
    writers: [(&'a DeviceKey, LogWriter); 2],
    now: Now,
}

impl<'a, S: Store> FirstHub<'a, S> {
    fn new(
        store: S,
        identity: &'a Identity,
        root: &'a DeviceKey,
        epoch: u32,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Self, CreateError> {
        let market = MarketId::new(&root.id(), epoch);
        let mut overlay = Overlay::new(store);
        if overlay.get(Table::Meta, META_DEVICE).map_err(EngineError::from)?.is_some() {
            return Err(CreateError::Order("this data directory already holds a node".into()));
        }
        let logs = Logs::load(market, &overlay).map_err(EngineError::from)?;
        overlay.put(Table::Meta, META_DEVICE, *identity.device.id().as_bytes());
        overlay.put(Table::Meta, META_ROOT, *root.id().as_bytes());
        overlay.put(Table::Meta, META_EPOCH, epoch.to_be_bytes());
        let mut incarnation = [0; 16];
        incarnation.copy_from_slice(&seed[..16]);
        let incarnation = Incarnation::from_bytes(incarnation);
        let writer = |key: &'a DeviceKey| {
            let name = LogName { author: key.id(), incarnation, lane: Lane::CONTROL };
            (key, LogWriter::open(&market, name))
        };
        let writers = [writer(root), writer(&identity.device)];
        let mut first = FirstHub { overlay, logs, market, identity, writers, now };
        first.by_root(Kind::OPENING, payload::encode(&payload::Opening::default()))?;
        first.by_hub(Kind::OPENING, payload::encode(&payload::Opening::default()))?;
        Ok(first)
    }

    fn by_root(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<(), CreateError> {
        self.append(0, kind, bytes)
    }

    fn by_hub(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<(), CreateError> {
        self.append(1, kind, bytes)
    }

    fn append(&mut self, writer: usize, kind: Kind, bytes: Vec<u8>) -> Result<(), CreateError> {
        let (key, writer) = &mut self.writers[writer];
        let (name, previous) = (*writer.name(), writer.head().hash);
        let appended =
            writer.append(key, self.now.wall_ms, [0; 8], kind, Payload::public(bytes)).map_err(EngineError::from)?;
        let signature = appended.signature.as_ref();
        self.logs.append(&mut self.overlay, name, appended.head, previous, &appended.entry, signature);
        Ok(())
    }

    fn certify(&mut self, name: &str, valid_ms: u64) -> Result<(), CreateError> {
        if valid_ms == 0 || valid_ms > VALIDITY_MAX {
            return Err(CreateError::Order("valid: from one millisecond to 400 days".into()));
        }
        let seal_key = SealKey::from_secret(&self.identity.seal_secret).map_err(EngineError::from)?;
        let device = self.identity.device.id();
        let certificate = hub_certificate(name, valid_ms, device, seal_key.public(), self.now.wall_ms);
        self.by_root(Kind::CERTIFICATE, certificate.to_payload())
    }

    fn publish_opening_key(&mut self, recovery_public: [u8; 32], seed: [u8; 32]) -> Result<(), CreateError> {
        let opening = self.identity.opening_secrets.last();
        let opening = opening.ok_or_else(|| CreateError::Order("a hub needs an opening key".into()))?;
        let opening = SealKey::from_secret(opening).map_err(EngineError::from)?;
        let message = opening_key_message(&self.market, &recovery_public, &opening, seed).map_err(EngineError::from)?;
        self.by_hub(Kind::OPENING_KEY, payload::encode(&message))
    }

    fn commit(mut self) -> Result<MarketId, CreateError> {
        for (key, writer) in &mut self.writers {
            let signature = writer.sign(key);
            self.logs.put_signature(&mut self.overlay, writer.name(), writer.head(), &signature);
        }
        self.overlay.commit().map_err(EngineError::from)?;
        Ok(self.market)
    }
}

fn hub_certificate(name: &str, valid_ms: u64, device: DeviceId, seal_key: [u8; 32], now: u64) -> Certificate {
    // Entries of devices whose clock is a little behind still fall inside.
    let not_before = now.saturating_sub(24 * 3_600_000);
    Certificate {
        device,
        role: Role::Hub,
        stall: String::new(),
        name: name.to_owned(),
        scopes: Scopes::hub(),
        not_before,
        not_after: (now + valid_ms).min(not_before + VALIDITY_MAX),
        seal_key,
        invite: None,
        request: None,
    }
}

/// Why a market could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The order makes no sense.
    #[error("{0}")]
    Order(String),
    /// Store or keys.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A policy's payload from what people write.
pub(crate) fn read_policy(view: &PolicyView, replaces: Vec<Vec<u8>>) -> Result<payload::Policy, Failure> {
    let invalid = |detail: String| Failure::new(FailureCode::EInvalid, detail);
    let percent = |field: &str, text: &str| -> Result<(), Failure> {
        let rate = money::decimal(text).map_err(|error| invalid(format!("{field}: {error}")))?;
        if rate > rust_decimal::Decimal::ONE_HUNDRED {
            return Err(invalid(format!("{field}: above 100 percent")));
        }
        Ok(())
    };
    if !view.fee_rate.is_empty() {
        percent("fee_rate", &view.fee_rate)?;
    }
    let rates = view.tax_rates.0.iter();
    let policy = payload::Policy {
        replaces,
        fee_rate: view.fee_rate.clone(),
        prices_include_tax: view.prices_include_tax,
        tax_rates: rates
            .map(|(name, rate)| payload::TaxRate {
                name: name.clone(),
                rate: rate.rate.to_string(),
                on: rate.on.clone(),
            })
            .collect(),
        carriers: view.carriers,
        card_floor_limit: view.card_floor_limit,
        cash_rounding: view.cash_rounding,
        tax_rounding: u32::from(view.tax_rounding == TaxRounding::Total),
        time_zone: view.time_zone.clone(),
    };
    // What no quote could be worked out by is no policy.
    check_policy(&policy).map_err(|problem| invalid(format!("{}: {}", problem.field, problem.detail)))?;
    Ok(policy)
}

/// Whether quotes can be worked out by a policy.
pub(super) fn check_policy(policy: &payload::Policy) -> Result<(), Problem> {
    Catalog::new(&terms(policy, "EUR")?).map(drop)
}

/// A policy as the head of a quote's catalog, without products.
pub(super) fn terms(policy: &payload::Policy, currency: &str) -> Result<CatalogFile, Problem> {
    let rates = policy.tax_rates.iter().map(|rate| {
        let number = Number::parse(&rate.rate).ok_or_else(|| Problem {
            code: ProblemCode::Invalid,
            source_file: Source::Catalog,
            field: format!("tax_rates.{}", rate.name),
            line: None,
            detail: format!("`{}` is no decimal number", rate.rate),
        })?;
        Ok((rate.name.clone(), TaxRateFile { rate: number, on: rate.on.clone() }))
    });
    Ok(CatalogFile {
        currency: currency.to_owned(),
        prices_include_tax: policy.prices_include_tax,
        tax_rates: rates.collect::<Result<_, Problem>>()?,
        tax_rounding: if policy.tax_rounding == 0 { TaxRounding::Line } else { TaxRounding::Total },
        cash_rounding: policy.cash_rounding.max(1),
        time_zone: if policy.time_zone.is_empty() { "UTC".to_owned() } else { policy.time_zone.clone() },
        products: Vec::new(),
        x: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_longest_certificate_of_a_hub_is_one_that_everybody_reads() {
        let device = DeviceId::from_bytes([1; 32]);
        let certificate = hub_certificate("Hub", VALIDITY_MAX, device, [2; 32], 1_780_732_800_000);
        assert_eq!(Certificate::from_payload(&certificate.to_payload()).unwrap(), certificate);
    }
}
