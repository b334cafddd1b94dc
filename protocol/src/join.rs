//! Asking to join, so that any member can carry the request without reading it.
//!
//! With an invite: the request holds the invite; the hub checks and burns it. Without one, a person decides, and both
//! screens show one short code:
//!
//! ```text
//!   device                          any members, blind                          hub
//!     request: commitment = H(join-code; nonce_d, device) ───────────────────────►
//!     ◄─────────────────────────────────────────────────── challenge: nonce_h, signed in its log
//!     second request: reveals nonce_d ───────────────────────────────────────────►
//!     code = six digits of H(join-code; device, opening key, root, nonce_d, nonce_h) on both screens
//! ```
//!
//! The device fixed its nonce before it saw the hub's, and the hub chose its own before it saw the device's: whoever
//! sits between the two and wants both screens to show one code has one guess in a million, once.

use thiserror::Error;

use crate::hash::{Domain, Hash, Hasher};
use crate::id::{DeviceId, MarketId};
use crate::payload::{self, PayloadError, fixed};
use crate::seal::{SealError, SealKey, associated, info, seal_to};
use crate::sign::{Context, DeviceKey, Signature, SignatureError, verify};

/// Why a join request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// Not a request, or a damaged one.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Not sealed to this hub.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Not signed by the device that it names.
    #[error("E_SIG: {0}")]
    Signature(#[from] SignatureError),
    /// Its id is not the hash of what it carries.
    #[error("E_HASH: a join request under another's id")]
    Id,
}

/// What a device asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// The device.
    pub device: DeviceId,
    /// Its X25519 key.
    pub seal_key: [u8; 32],
    /// What people call it.
    pub name: String,
    /// By what right.
    pub by: JoinBy,
    /// The stall asked for; an invite says it better.
    pub stall: String,
    /// By the device's clock, in milliseconds.
    pub time: u64,
}

/// By what right a device asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinBy {
    /// An invite's signed bytes.
    Invite(Vec<u8>),
    /// Asking a person: the commitment to a nonce.
    Asking {
        /// `H(join-code; nonce, device)`.
        commitment: Hash,
    },
    /// The nonce behind an earlier request's commitment.
    Revealing {
        /// The earlier request's id.
        request: Hash,
        /// Its nonce.
        nonce: [u8; 16],
    },
}

/// The commitment to a nonce.
pub fn commitment(nonce: &[u8; 16], device: &DeviceId) -> Hash {
    Hasher::new(Domain::JoinCode).bytes(nonce).bytes(device.as_bytes()).finish()
}

/// The six digits that both screens show.
pub fn short_code(
    device: &DeviceId,
    opening_key: &[u8; 32],
    root: &DeviceId,
    device_nonce: &[u8; 16],
    hub_nonce: &[u8; 16],
) -> String {
    let hash = Hasher::new(Domain::JoinCode)
        .bytes(device.as_bytes())
        .bytes(opening_key)
        .bytes(root.as_bytes())
        .bytes(device_nonce)
        .bytes(hub_nonce)
        .finish();
    let mut number = [0; 8];
    number.copy_from_slice(&hash.as_bytes()[..8]);
    let digits = u64::from_be_bytes(number) % 1_000_000;
    format!("{:03}-{:03}", digits / 1000, digits % 1000)
}

impl JoinRequest {
    fn message(&self) -> payload::SealedJoin {
        let mut message = payload::SealedJoin {
            device: self.device.as_bytes().to_vec(),
            seal_key: self.seal_key.to_vec(),
            name: self.name.clone(),
            stall: self.stall.clone(),
            time: self.time,
            ..payload::SealedJoin::default()
        };
        match &self.by {
            JoinBy::Invite(invite) => message.invite = invite.clone(),
            JoinBy::Asking { commitment } => message.commitment = commitment.as_bytes().to_vec(),
            JoinBy::Revealing { request, nonce } => {
                message.reveals = request.as_bytes().to_vec();
                message.nonce = nonce.to_vec();
            }
        }
        message
    }

    /// What the device signs: the market's id and the message without its signature. Whoever opens the request can't
    /// hand it on to another market.
    fn text(market: &MarketId, message: &payload::SealedJoin) -> Vec<u8> {
        [market.as_bytes().as_slice(), &payload::encode(message)].concat()
    }

    /// Signs and seals the request to a hub's opening key.
    ///
    /// # Errors
    /// The key is no X25519 key.
    pub fn seal(
        &self,
        key: &DeviceKey,
        market: &MarketId,
        opening_key: &[u8; 32],
        expires: u64,
        seed: [u8; 32],
    ) -> Result<payload::JoinRequest, SealError> {
        let mut message = self.message();
        message.signature = key.sign(Context::Join, &Self::text(market, &message)).as_bytes().to_vec();
        let bound = associated(market, &[]);
        let sealed = seal_to(opening_key, info::JOIN_REQUEST, &bound, &payload::encode(&message), seed)?;
        Ok(payload::JoinRequest { id: request_id(&sealed, expires).as_bytes().to_vec(), sealed: Some(sealed), expires })
    }

    /// Opens a request with the hub's opening key, and checks that the device which it names signed it.
    ///
    /// # Errors
    /// Not for this hub, altered, or not signed by that device.
    pub fn open(
        request: &payload::JoinRequest,
        market: &MarketId,
        opening: &SealKey,
    ) -> Result<(Hash, Self), JoinError> {
        let id = check_id(request)?;
        let sealed = request.sealed.as_ref().ok_or(PayloadError::field("sealed", "is absent"))?;
        let opened = opening.open(sealed, info::JOIN_REQUEST, &associated(market, &[]))?;
        let mut message: payload::SealedJoin = payload::decode("join request", &opened)?;
        let signature: Signature = fixed("signature", &message.signature)?;
        message.signature.clear();
        let device: DeviceId = fixed("device", &message.device)?;
        verify(&device, Context::Join, &Self::text(market, &message), &signature)?;
        let by = match (message.invite.is_empty(), message.commitment.is_empty(), message.reveals.is_empty()) {
            (false, true, true) => JoinBy::Invite(message.invite),
            (true, false, true) => JoinBy::Asking { commitment: fixed("commitment", &message.commitment)? },
            (true, true, false) => JoinBy::Revealing {
                request: fixed("reveals", &message.reveals)?,
                nonce: fixed("nonce", &message.nonce)?,
            },
            _ => return Err(PayloadError::field("invite", "or commitment or reveals: exactly one").into()),
        };
        let request = JoinRequest {
            device,
            seal_key: fixed("seal_key", &message.seal_key)?,
            name: message.name,
            by,
            stall: message.stall,
            time: message.time,
        };
        // A nonce or signature where none belongs would be a second encoding of the same request.
        let again = payload::SealedJoin { signature: signature.as_bytes().to_vec(), ..request.message() };
        if payload::encode(&again) != *opened {
            return Err(PayloadError::NonCanonical { kind: "join request" }.into());
        }
        Ok((id, request))
    }
}

fn request_id(sealed: &payload::Wrap, expires: u64) -> Hash {
    Hasher::new(Domain::Join)
        .sized(&sealed.recipient)
        .sized(&sealed.encapsulated)
        .sized(&sealed.ciphertext)
        .u64(expires)
        .finish()
}

/// The id of a request, where it is the hash of all else that the request carries: none who passes it on can alter it.
///
/// # Errors
/// It isn't, or there is nothing sealed.
pub fn check_id(request: &payload::JoinRequest) -> Result<Hash, JoinError> {
    let id: Hash = fixed("id", &request.id)?;
    let sealed = request.sealed.as_ref().ok_or(PayloadError::field("sealed", "is absent"))?;
    if request_id(sealed, request.expires) == id { Ok(id) } else { Err(JoinError::Id) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn only_the_hub_reads_a_request_and_only_its_device_can_make_it() {
        let (device, other) = (DeviceKey::from_seed(&[1; 32]), DeviceKey::from_seed(&[2; 32]));
        let (hub, stranger) = (SealKey::from_secret(&[3; 32]).unwrap(), SealKey::from_secret(&[4; 32]).unwrap());
        let request = JoinRequest {
            device: device.id(),
            seal_key: [5; 32],
            name: "till 2".into(),
            by: JoinBy::Asking { commitment: commitment(&[6; 16], &device.id()) },
            stall: "river-ceramics".into(),
            time: 7,
        };
        let market = MarketId::from_bytes([9; 32]);
        let sealed = request.seal(&device, &market, &hub.public(), 100, [8; 32]).unwrap();
        assert_eq!(JoinRequest::open(&sealed, &market, &hub).unwrap().1, request);
        assert!(matches!(JoinRequest::open(&sealed, &market, &stranger), Err(JoinError::Seal(_))));
        let elsewhere = MarketId::from_bytes([10; 32]);
        assert!(matches!(JoinRequest::open(&sealed, &elsewhere, &hub), Err(JoinError::Seal(_))));
        let forged = request.seal(&other, &market, &hub.public(), 100, [8; 32]).unwrap();
        assert!(matches!(JoinRequest::open(&forged, &market, &hub), Err(JoinError::Signature(_))));
        let mut renamed = sealed.clone();
        renamed.id[0] ^= 1;
        assert_eq!(JoinRequest::open(&renamed, &market, &hub), Err(JoinError::Id));
        let mut late = sealed.clone();
        late.expires += 1;
        assert_eq!(JoinRequest::open(&late, &market, &hub), Err(JoinError::Id));
    }

    #[test]
    fn the_short_code_depends_on_both_keys_and_both_nonces() {
        let [a, b] = [[1; 32], [2; 32]].map(DeviceId::from_bytes);
        let code = short_code(&a, &[3; 32], &b, &[4; 16], &[5; 16]);
        assert_eq!(code.len(), 7);
        assert_ne!(code, short_code(&b, &[3; 32], &b, &[4; 16], &[5; 16]));
        assert_ne!(code, short_code(&a, &[4; 32], &b, &[4; 16], &[5; 16]));
        assert_ne!(code, short_code(&a, &[3; 32], &b, &[5; 16], &[5; 16]));
        assert_ne!(code, short_code(&a, &[3; 32], &b, &[4; 16], &[6; 16]));
    }
}
