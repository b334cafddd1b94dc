//! Invites: what a new device is handed, as a link or a QR code, to get into a market.
//!
//! `stallmesh:` and the signed message in base64url without padding. It names the market's root, the hub that made
//! it and the key that join requests are sealed to, so that any member can carry the request blind.

use prost::Message;
use thiserror::Error;

use crate::certificate::{Role, Scope, Scopes, is_slug};
use crate::id::{DeviceId, MarketId};
use crate::sign::{Context, DeviceKey, Signature, SignatureError, verify};
use crate::wire;

/// What an invite's text begins with.
pub const PREFIX: &str = "stallmesh:";
/// The longest text.
pub const TEXT_MAX: usize = 4096;

/// Why a text is no invite.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InviteError {
    /// Not an invite's text.
    #[error("not an invite: it must begin with `{PREFIX}` and be copied whole")]
    Text,
    /// A field has no meaning.
    #[error("a damaged invite: {0}")]
    Field(&'static str),
    /// Not signed by the hub that it names.
    #[error("a forged or damaged invite: {0}")]
    Signature(#[from] SignatureError),
}

/// Lets one device in, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// The market's root key: what the new device trusts.
    pub root: DeviceId,
    /// The market's epoch.
    pub epoch: u32,
    /// The hub that made and signed it.
    pub hub: DeviceId,
    /// X25519 key that the join request is sealed to.
    pub opening_key: [u8; 32],
    /// Burnt by the certificate that names it.
    pub id: [u8; 16],
    /// What the device will be.
    pub role: Role,
    /// For which stall.
    pub stall: String,
    /// What people call it.
    pub name: String,
    /// What it will be allowed.
    pub scopes: Scopes,
    /// Last millisecond at which it can be used.
    pub expires: u64,
    /// Last millisecond of the certificate.
    pub not_after: u64,
    /// `host:port` of the hub's uplink.
    pub hub_addresses: Vec<String>,
    /// Multiaddrs of members.
    pub peers: Vec<String>,
}

impl Invite {
    /// The market that it leads into.
    pub fn market(&self) -> MarketId {
        MarketId::new(&self.root, self.epoch)
    }

    fn message(&self) -> wire::Invite {
        wire::Invite {
            root: self.root.as_bytes().to_vec(),
            epoch: self.epoch,
            hub: self.hub.as_bytes().to_vec(),
            opening_key: self.opening_key.to_vec(),
            id: self.id.to_vec(),
            role: self.role.number(),
            stall: self.stall.clone(),
            name: self.name.clone(),
            scopes: self.scopes.iter().map(|(scope, limit)| wire::InviteScope { scope: scope.0, limit }).collect(),
            expires: self.expires,
            not_after: self.not_after,
            hub_addresses: self.hub_addresses.clone(),
            peers: self.peers.clone(),
            signature: Vec::new(),
        }
    }

    /// Signs the invite with the hub's device key: its bytes.
    pub fn sign(&self, hub: &DeviceKey) -> Vec<u8> {
        let mut message = self.message();
        message.signature = hub.sign(Context::Invite, &message.encode_to_vec()).as_bytes().to_vec();
        message.encode_to_vec()
    }

    /// Reads an invite's bytes and checks that the hub which it names signed it. Whether that is a hub of the market,
    /// and whether it has expired or is burnt, is the reader's to judge.
    ///
    /// # Errors
    /// Damaged, or not signed by the hub that it names.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InviteError> {
        let mut message = wire::Invite::decode(bytes).map_err(|_| InviteError::Text)?;
        if message.encode_to_vec() != bytes {
            return Err(InviteError::Field("its encoding is not the one that it has"));
        }
        let signature =
            Signature::try_from(message.signature.as_slice()).map_err(|_| InviteError::Field("signature"))?;
        message.signature.clear();
        let hub = DeviceId::try_from(message.hub.as_slice()).map_err(|_| InviteError::Field("hub"))?;
        verify(&hub, Context::Invite, &message.encode_to_vec(), &signature)?;
        if !is_slug(&message.stall) {
            return Err(InviteError::Field("stall"));
        }
        if !message.scopes.is_sorted_by(|one, next| one.scope < next.scope) {
            return Err(InviteError::Field("scopes"));
        }
        Ok(Invite {
            root: message.root.as_slice().try_into().map_err(|_| InviteError::Field("root"))?,
            epoch: message.epoch,
            hub,
            opening_key: message.opening_key.as_slice().try_into().map_err(|_| InviteError::Field("opening key"))?,
            id: message.id.as_slice().try_into().map_err(|_| InviteError::Field("id"))?,
            role: Role::from_number(message.role).ok_or(InviteError::Field("role"))?,
            stall: message.stall,
            name: message.name,
            scopes: message.scopes.iter().map(|scope| (Scope(scope.scope), scope.limit)).collect(),
            expires: message.expires,
            not_after: message.not_after,
            hub_addresses: message.hub_addresses,
            peers: message.peers,
        })
    }

    /// Reads an invite's text.
    ///
    /// # Errors
    /// As [`Invite::from_bytes`].
    pub fn from_text(text: &str) -> Result<(Self, Vec<u8>), InviteError> {
        let code = text.trim().strip_prefix(PREFIX).filter(|code| code.len() <= TEXT_MAX).ok_or(InviteError::Text)?;
        let bytes = base64url_decode(code).ok_or(InviteError::Text)?;
        Ok((Self::from_bytes(&bytes)?, bytes))
    }
}

/// The text of signed invite bytes.
pub fn to_text(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", base64url_encode(bytes))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648 section 5, without padding.
fn base64url_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(group >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}

/// The inverse; `None` for anything that [`base64url_encode`] doesn't write.
fn base64url_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for character in chunk {
            let value = ALPHABET.iter().position(|letter| letter == character)?;
            group = group << 6 | value as u32;
        }
        group <<= 6 * (4 - chunk.len());
        let length = chunk.len() * 6 / 8;
        let unused = group & (0x00ff_ffff >> (8 * length));
        if chunk.len() == 1 || unused != 0 {
            return None;
        }
        bytes.extend_from_slice(&group.to_be_bytes()[1..=length]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn invite(hub: &DeviceKey) -> Invite {
        Invite {
            root: DeviceKey::from_seed(&[1; 32]).id(),
            epoch: 1,
            hub: hub.id(),
            opening_key: [9; 32],
            id: [4; 16],
            role: Role::Stall,
            stall: "river-ceramics".into(),
            name: "River Ceramics".into(),
            scopes: Scopes::stall_owner(),
            expires: 10,
            not_after: 20,
            hub_addresses: vec!["hub.example:7801".into()],
            peers: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn base64url_is_one_to_one(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let text = base64url_encode(&bytes);
            prop_assert_eq!(base64url_decode(&text), Some(bytes));
        }
    }

    #[test]
    fn an_invite_survives_its_text_and_no_altered_one_is_taken() {
        let hub = DeviceKey::from_seed(&[2; 32]);
        let invite = invite(&hub);
        let bytes = invite.sign(&hub);
        assert_eq!(Invite::from_text(&to_text(&bytes)).unwrap().0, invite);
        for index in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[index] ^= 1;
            assert!(Invite::from_bytes(&altered).is_err(), "byte {index}");
        }
    }

    #[test]
    fn an_invite_that_another_key_signed_is_refused() {
        let bytes = invite(&DeviceKey::from_seed(&[2; 32])).sign(&DeviceKey::from_seed(&[3; 32]));
        assert!(matches!(Invite::from_bytes(&bytes), Err(InviteError::Signature(_))));
    }
}
