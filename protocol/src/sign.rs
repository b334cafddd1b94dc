//! Ed25519 as every node must apply it: single signatures, strictly verified.
//!
//! One rule everywhere: two honest nodes must never disagree about one entry, and plain, batched and strict
//! verification differ on edge points.

use std::fmt;

use ed25519_dalek::Signer;

use crate::id::DeviceId;

/// An Ed25519 signature of 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes 64 bytes as a signature; whether it holds is [`verify`]'s to say.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Signature(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Signature {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Signature)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// What is signed; the name stands before the message in every signed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The head of a log: everything up to it.
    Head,
    /// The hub's word that it has entries.
    Acknowledgement,
    /// An invite.
    Invite,
    /// A join request, by the device that asks.
    Join,
    /// The greeting of a session, by the device that speaks.
    Session,
}

impl Context {
    /// The prefix, as ASCII.
    pub const fn name(self) -> &'static str {
        match self {
            Context::Head => "stallmesh/1/sign/head",
            Context::Acknowledgement => "stallmesh/1/sign/acknowledgement",
            Context::Invite => "stallmesh/1/sign/invite",
            Context::Join => "stallmesh/1/sign/join",
            Context::Session => "stallmesh/1/sign/session",
        }
    }

    /// Length of the name as one byte, name, message.
    fn text(self, message: &[u8]) -> Vec<u8> {
        let name = self.name().as_bytes();
        let mut text = Vec::with_capacity(1 + name.len() + message.len());
        text.push(name.len() as u8);
        text.extend_from_slice(name);
        text.extend_from_slice(message);
        text
    }
}

/// A device's (or the market root's) secret key. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct DeviceKey(ed25519_dalek::SigningKey);

impl DeviceKey {
    /// From the 32-byte seed of RFC 8032.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        DeviceKey(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, to be kept in a file that only its owner can read.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public key.
    pub fn id(&self) -> DeviceId {
        DeviceId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs a message in a context.
    pub fn sign(&self, context: Context, message: &[u8]) -> Signature {
        Signature(self.0.sign(&context.text(message)).to_bytes())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DeviceKey({:?})", self.id())
    }
}

/// A signature that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold under the key of {0:?}")]
pub struct SignatureError(pub DeviceId);

/// Whether 32 bytes encode a coordinate below 2^255 - 19, as RFC 8032 asks: the same point has no second name.
fn is_canonical(key: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = key;
    *first < 0xed || last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

/// Checks a signature by the strict rule (`verify_strict`: no small-order keys or points, canonical scalars; and
/// canonical keys).
///
/// # Errors
/// The key is no curve point, or the signature does not hold.
pub fn verify(
    signer: &DeviceId,
    context: Context,
    message: &[u8],
    signature: &Signature,
) -> Result<(), SignatureError> {
    #[cfg(feature = "shared-checks")]
    if let Some(holds) = shared::holds(signer, &context.text(message), signature) {
        return if holds { Ok(()) } else { Err(SignatureError(*signer)) };
    }
    check(signer, &context.text(message), signature)
}

fn check(signer: &DeviceId, text: &[u8], signature: &Signature) -> Result<(), SignatureError> {
    if !is_canonical(signer.as_bytes()) {
        return Err(SignatureError(*signer));
    }
    let key = ed25519_dalek::VerifyingKey::from_bytes(signer.as_bytes()).map_err(|_| SignatureError(*signer))?;
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    key.verify_strict(text, &signature).map_err(|_| SignatureError(*signer))
}

/// Simulations of many nodes in one thread: each signature is checked once, not once a node. Only with the feature
/// `shared-checks`, and only for a thread that asked for it.
#[cfg(feature = "shared-checks")]
pub mod shared {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::{Signature, check};
    use crate::hash::{Domain, Hasher};
    use crate::id::DeviceId;

    /// So many answers are remembered; then they are forgotten, all at once.
    const REMEMBERED: usize = 1 << 20;

    thread_local! {
        static CHECKED: RefCell<Option<HashMap<[u8; 32], bool>>> = const { RefCell::new(None) };
    }

    /// From here on this thread remembers what it has checked, or doesn't.
    pub fn share_checks(on: bool) {
        CHECKED.with_borrow_mut(|checked| *checked = on.then(HashMap::new));
    }

    /// Whether a signature holds; `None` where this thread doesn't remember.
    pub(super) fn holds(signer: &DeviceId, text: &[u8], signature: &Signature) -> Option<bool> {
        CHECKED.with_borrow_mut(|checked| {
            let checked = checked.as_mut()?;
            let name =
                Hasher::new(Domain::Fingerprint).bytes(signer.as_bytes()).sized(text).bytes(signature.as_bytes());
            if checked.len() >= REMEMBERED {
                checked.clear();
            }
            let holds = checked.entry(*name.finish().as_bytes());
            Some(*holds.or_insert_with(|| check(signer, text, signature).is_ok()))
        })
    }
}
