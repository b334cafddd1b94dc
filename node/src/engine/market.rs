//! Making a market: the root's log, the first hub, and the keys that sales will be sealed to.

use stallmesh_protocol::certificate::{Certificate, Role, Scopes, VALIDITY_MAX};
use stallmesh_protocol::entry::Payload;
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::money;
use stallmesh_protocol::payload;
use stallmesh_protocol::seal::{SealKey, associated, info, seal_to};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{DeviceId, Incarnation, Kind, Lane, LogName, MarketId};

use super::logs::Logs;
use super::overlay::Overlay;
use super::{EngineError, Failure, FailureCode, Identity, META_DEVICE, META_EPOCH, META_ROOT, Now, PolicyView};
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
    if order.valid_ms == 0 || order.valid_ms > VALIDITY_MAX {
        return Err(CreateError::Order("valid: from one millisecond to 400 days".into()));
    }
    let policy = read_policy(&order.policy, Vec::new()).map_err(|failure| CreateError::Order(failure.detail))?;
    let opening = identity.opening_secret.ok_or_else(|| CreateError::Order("a hub needs an opening key".into()))?;
    let opening = SealKey::from_secret(&opening).map_err(EngineError::from)?;
    let market = MarketId::new(&root.id(), order.epoch);
    let mut overlay = Overlay::new(store);
    if overlay.get(Table::Meta, META_DEVICE).map_err(EngineError::from)?.is_some() {
        return Err(CreateError::Order("this data directory already holds a node".into()));
    }
    let mut logs = Logs::load(market, &overlay).map_err(EngineError::from)?;
    let hub = identity.device.id();
    let seal_key = SealKey::from_secret(&identity.seal_secret).map_err(EngineError::from)?;
    let certificate = hub_certificate(order, hub, seal_key.public(), now.wall_ms);
    let description = payload::Market {
        name: order.name.clone(),
        currency: order.currency.clone(),
        epoch: order.epoch,
        recovery_key: recovery_public.to_vec(),
        replaces: Vec::new(),
    };
    // The secret travels with the logs, for whoever holds the recovery key: a hub that burns loses no sale.
    let bound = associated(&market, &[]);
    let recovery =
        seal_to(&recovery_public, info::OPENING_KEY, &bound, opening.secret(), seed).map_err(EngineError::from)?;
    let opening_key = payload::OpeningKey { public_key: opening.public().to_vec(), recovery: Some(recovery) };
    let mut incarnation = [0; 16];
    incarnation.copy_from_slice(&seed[..16]);
    let incarnation = Incarnation::from_bytes(incarnation);
    let opening_entry = || payload::encode(&payload::Opening::default());
    for (key, entries) in [
        (
            root,
            vec![
                (Kind::OPENING, opening_entry()),
                (Kind::MARKET, payload::encode(&description)),
                (Kind::CERTIFICATE, certificate.to_payload()),
            ],
        ),
        (
            &identity.device,
            vec![
                (Kind::OPENING, opening_entry()),
                (Kind::OPENING_KEY, payload::encode(&opening_key)),
                (Kind::POLICY, payload::encode(&policy)),
            ],
        ),
    ] {
        let name = LogName { author: key.id(), incarnation, lane: Lane::CONTROL };
        let mut writer = LogWriter::open(&market, name);
        for (kind, bytes) in entries {
            let previous = writer.head().hash;
            let appended =
                writer.append(key, now.wall_ms, [0; 8], kind, Payload::public(bytes)).map_err(EngineError::from)?;
            logs.append(&mut overlay, name, appended.head, previous, &appended.entry, appended.signature.as_ref());
        }
        let signature = writer.sign(key);
        logs.put_signature(&mut overlay, &name, writer.head(), &signature);
    }
    overlay.put(Table::Meta, META_DEVICE, *hub.as_bytes());
    overlay.put(Table::Meta, META_ROOT, *root.id().as_bytes());
    overlay.put(Table::Meta, META_EPOCH, order.epoch.to_be_bytes());
    overlay.commit().map_err(EngineError::from)?;
    Ok(market)
}

fn hub_certificate(order: &MarketOrder, device: DeviceId, seal_key: [u8; 32], now: u64) -> Certificate {
    // Entries of devices whose clock is a little behind still fall inside.
    let not_before = now.saturating_sub(24 * 3_600_000);
    Certificate {
        device,
        role: Role::Hub,
        stall: String::new(),
        name: order.hub_name.clone(),
        scopes: Scopes::hub(),
        not_before,
        not_after: (now + order.valid_ms).min(not_before + VALIDITY_MAX),
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
    for (name, rate) in &view.tax_rates {
        percent(&format!("tax rate `{name}`"), rate)?;
    }
    Ok(payload::Policy {
        replaces,
        fee_rate: view.fee_rate.clone(),
        prices_include_tax: view.prices_include_tax,
        tax_rates: view
            .tax_rates
            .iter()
            .map(|(name, rate)| payload::TaxRate { name: name.clone(), rate: rate.clone() })
            .collect(),
        carriers: view.carriers,
        card_floor_limit: view.card_floor_limit,
        cash_rounding: 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::engine::PolicyView;

    #[test]
    fn the_longest_certificate_of_a_hub_is_one_that_everybody_reads() {
        let order = MarketOrder {
            name: "Saturday".into(),
            currency: "EUR".into(),
            epoch: 1,
            hub_name: "Hub".into(),
            valid_ms: VALIDITY_MAX,
            policy: PolicyView::default(),
        };
        let certificate = hub_certificate(&order, DeviceId::from_bytes([1; 32]), [2; 32], 1_780_732_800_000);
        assert_eq!(Certificate::from_payload(&certificate.to_payload()).unwrap(), certificate);
    }
}
