//! Certificates: which device belongs to the market, as what, and what it may do; and how they narrow.
//!
//! ```text
//!   root key ──► hub ──► stall (owner's device) ──► helper's device
//!                  └──► gateway
//! ```
//!
//! A certificate is a `control` entry of its issuer, so the issuer's own line bounds it. Nothing can grant what it
//! doesn't have: scopes, limits, stall and validity only get narrower on the way down.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::hash::Hash;
use crate::id::DeviceId;
use crate::payload::{self, PayloadError, fixed};
use crate::planted::{self, Bug};

/// The longest validity that any certificate may have, in milliseconds: 400 days, a season and its settlement.
pub const VALIDITY_MAX: u64 = 400 * 24 * 3_600_000;
/// The longest name of a stall or device, in bytes.
pub const NAME_MAX: usize = 120;
/// The most levels below the root: organiser → hub → stall → helper → helper's helper.
pub const DEPTH_MAX: u64 = 4;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Admits devices, receives sales, settles.
    Hub,
    /// Sells for a stall.
    Stall,
    /// Caches and relays; never sells.
    Gateway,
}

impl Role {
    /// The number in a payload.
    pub fn number(self) -> u32 {
        match self {
            Role::Hub => 1,
            Role::Stall => 2,
            Role::Gateway => 3,
        }
    }

    /// The role of a number, where it has one.
    pub fn from_number(number: u32) -> Option<Self> {
        [Role::Hub, Role::Stall, Role::Gateway].into_iter().find(|role| role.number() == number)
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Role::Hub => "hub",
            Role::Stall => "stall",
            Role::Gateway => "gateway",
        }
    }
}

/// One thing that a certificate allows. An open number: unknown ones narrow like all others and allow nothing here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub u32);

macro_rules! scopes {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Scope {
            $($(#[$meta])* pub const $name: Scope = Scope($number);)*

            /// Every scope that this version knows.
            pub const KNOWN: &'static [Scope] = &[$(Scope::$name),*];

            /// The scope's name where this version knows it.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Scope::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

scopes! {
    /// Record sales; the limit is one sale's total.
    SELL = 1, "sell";
    /// Give refunds; the limit is one refund's amount.
    REFUND = 2, "refund";
    /// Publish products and prices of the stall.
    PUBLISH_CATALOG = 3, "publish-catalog";
    /// Take others' sealed sales into custody.
    RELAY = 4, "relay";
    /// Give certificates for the own stall; the limit is how many levels below.
    GRANT = 5, "grant";
    /// Read the sales of the own stall.
    READ_SALES = 6, "read-sales";
    /// Publish signals.
    SIGNAL = 7, "signal";
    /// Admit devices of any stall.
    ADMIT = 8, "admit";
    /// Write checkpoints.
    CHECKPOINT = 9, "checkpoint";
    /// Close and settle.
    SETTLE = 10, "settle";
    /// Set the market's policy.
    POLICY = 11, "policy";
}

impl Scope {
    /// The scope of a name.
    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::KNOWN.iter().copied().find(|scope| scope.name() == Some(name))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "scope-{}", self.0),
        }
    }
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, formatter)
    }
}

/// Scopes with their limits; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(BTreeMap<Scope, Option<u64>>);

impl Scopes {
    /// Scopes without limits.
    pub fn unlimited(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Scopes(scopes.into_iter().map(|scope| (scope, None)).collect())
    }

    /// What a hub gets from the market's root.
    pub fn hub() -> Self {
        Scopes::unlimited([
            Scope::RELAY,
            Scope::GRANT,
            Scope::SELL,
            Scope::REFUND,
            Scope::PUBLISH_CATALOG,
            Scope::READ_SALES,
            Scope::SIGNAL,
            Scope::ADMIT,
            Scope::CHECKPOINT,
            Scope::SETTLE,
            Scope::POLICY,
        ])
    }

    /// What the first device of a stall gets: all of its own stall, and one level of helpers.
    pub fn stall_owner() -> Self {
        Scopes::unlimited([
            Scope::SELL,
            Scope::REFUND,
            Scope::PUBLISH_CATALOG,
            Scope::RELAY,
            Scope::READ_SALES,
            Scope::SIGNAL,
        ])
        .with(Scope::GRANT, Some(1))
    }

    /// What a gateway gets.
    pub fn gateway() -> Self {
        Scopes::unlimited([Scope::RELAY, Scope::SIGNAL])
    }

    /// Adds or replaces a scope.
    pub fn with(mut self, scope: Scope, limit: Option<u64>) -> Self {
        self.0.insert(scope, limit);
        self
    }

    /// Whether the scope is given at all.
    pub fn allows(&self, scope: Scope) -> bool {
        self.0.contains_key(&scope)
    }

    /// Whether the scope is given for this amount.
    pub fn allows_amount(&self, scope: Scope, amount: u64) -> bool {
        match self.0.get(&scope) {
            Some(Some(limit)) => amount <= *limit,
            Some(None) => true,
            None => false,
        }
    }

    /// The limit of a scope: outer `None` where it is not given.
    pub fn limit(&self, scope: Scope) -> Option<Option<u64>> {
        self.0.get(&scope).copied()
    }

    /// Scopes and limits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, Option<u64>)> {
        self.0.iter().map(|(scope, limit)| (*scope, *limit))
    }
}

impl FromIterator<(Scope, Option<u64>)> for Scopes {
    fn from_iter<I: IntoIterator<Item = (Scope, Option<u64>)>>(scopes: I) -> Self {
        Scopes(scopes.into_iter().collect())
    }
}

/// A signed statement that a device belongs to the market. What signs it is the log that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose.
    pub device: DeviceId,
    /// As what.
    pub role: Role,
    /// For which stall (its slug); empty but for [`Role::Stall`].
    pub stall: String,
    /// What people call the device or stall.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// First valid millisecond.
    pub not_before: u64,
    /// Last valid millisecond.
    pub not_after: u64,
    /// X25519 key: what is wrapped for this device is sealed to it.
    pub seal_key: [u8; 32],
    /// Id of the invite that it burns.
    pub invite: Option<[u8; 16]>,
    /// Id of the join request that it answers.
    pub request: Option<Hash>,
}

/// How a certificate grants more than its issuer has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NarrowingError {
    /// The issuer may not grant at all, or not this deep.
    #[error("E_CERT: its issuer has no scope `grant` (or `admit`) left for it")]
    NoGrant,
    /// A scope that the issuer doesn't have.
    #[error("E_CERT: its issuer doesn't have scope `{0}`")]
    Scope(Scope),
    /// A limit above the issuer's.
    #[error("E_CERT: its limit of scope `{0}` is above its issuer's")]
    Limit(Scope),
    /// Another stall than the issuer's.
    #[error("E_CERT: its issuer belongs to stall `{issuer}`, not `{subject}`")]
    Stall {
        /// The issuer's stall.
        issuer: String,
        /// The certificate's.
        subject: String,
    },
    /// A role that the issuer can't give.
    #[error("E_CERT: a {issuer} can't make a {subject}")]
    Role {
        /// The issuer's role.
        issuer: &'static str,
        /// The certificate's.
        subject: &'static str,
    },
    /// Valid at a time when the issuer isn't.
    #[error("E_CERT: it is valid beyond its issuer's certificate")]
    Validity,
}

impl Certificate {
    /// Reads a payload of kind 17.
    ///
    /// # Errors
    /// Undecodable, not canonical, or a field without meaning.
    pub fn from_payload(bytes: &[u8]) -> Result<Self, PayloadError> {
        let message: payload::Certificate = payload::decode("certificate", bytes)?;
        let role = Role::from_number(message.role).ok_or(PayloadError::field("role", "is unknown"))?;
        let ascending = message.scopes.windows(2).all(|pair| pair[0].scope < pair[1].scope);
        if !ascending {
            return Err(PayloadError::field("scopes", "are not ascending"));
        }
        if message.not_after < message.not_before || message.not_after - message.not_before > VALIDITY_MAX {
            return Err(PayloadError::field("not_after", "is before not_before, or too far from it"));
        }
        if (role == Role::Stall) == message.stall.is_empty() || !is_slug(&message.stall) {
            return Err(PayloadError::field("stall", "must be a slug for stalls, and empty for others"));
        }
        if message.name.len() > NAME_MAX || message.name.chars().any(is_unprintable) {
            return Err(PayloadError::field("name", "is too long, or has characters that don't print"));
        }
        Ok(Certificate {
            device: fixed("device", &message.device)?,
            role,
            stall: message.stall,
            name: message.name,
            scopes: message.scopes.iter().map(|scope| (Scope(scope.scope), scope.limit)).collect(),
            not_before: message.not_before,
            not_after: message.not_after,
            seal_key: fixed("seal_key", &message.seal_key)?,
            invite: optional("invite", &message.invite)?,
            request: optional("request", &message.request)?,
        })
    }

    /// The payload of kind 17.
    pub fn to_payload(&self) -> Vec<u8> {
        payload::encode(&payload::Certificate {
            device: self.device.as_bytes().to_vec(),
            role: self.role.number(),
            stall: self.stall.clone(),
            name: self.name.clone(),
            scopes: self.scopes.iter().map(|(scope, limit)| payload::Scope { scope: scope.0, limit }).collect(),
            not_before: self.not_before,
            not_after: self.not_after,
            seal_key: self.seal_key.to_vec(),
            invite: self.invite.map(|id| id.to_vec()).unwrap_or_default(),
            request: self.request.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        })
    }

    /// Whether it is valid at a time, by itself.
    pub fn is_valid_at(&self, time: u64) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }

    /// Whether `issuer` can give this certificate.
    ///
    /// # Errors
    /// The first thing that it would have to have, and hasn't.
    pub fn narrows(&self, issuer: &Certificate) -> Result<(), NarrowingError> {
        if planted::is_on(Bug::AnyGrant) {
            return Ok(());
        }
        let admits = issuer.role == Role::Hub && issuer.scopes.allows(Scope::ADMIT);
        let role_fits = match (issuer.role, self.role) {
            (Role::Hub, Role::Stall | Role::Gateway) => true,
            (Role::Stall, Role::Stall) => true,
            (Role::Gateway, _) | (_, Role::Hub | Role::Gateway) => false,
        };
        if !role_fits {
            return Err(NarrowingError::Role { issuer: issuer.role.name(), subject: self.role.name() });
        }
        let levels = match issuer.scopes.limit(Scope::GRANT) {
            Some(limit) => limit.unwrap_or(DEPTH_MAX),
            None if admits => DEPTH_MAX,
            None => 0,
        };
        if levels == 0 {
            return Err(NarrowingError::NoGrant);
        }
        if issuer.role == Role::Stall && issuer.stall != self.stall {
            return Err(NarrowingError::Stall { issuer: issuer.stall.clone(), subject: self.stall.clone() });
        }
        for (scope, limit) in self.scopes.iter() {
            let granted = issuer.scopes.limit(scope).ok_or(NarrowingError::Scope(scope))?;
            // Each level of granting uses one up.
            let granted = if scope == Scope::GRANT { Some(granted.unwrap_or(DEPTH_MAX) - 1) } else { granted };
            let fits = match (limit, granted) {
                (_, None) => true,
                (Some(limit), Some(granted)) => limit <= granted,
                (None, Some(_)) => false,
            };
            if !fits {
                return Err(NarrowingError::Limit(scope));
            }
        }
        if self.not_before < issuer.not_before || self.not_after > issuer.not_after {
            return Err(NarrowingError::Validity);
        }
        Ok(())
    }
}

fn optional<T>(field: &'static str, bytes: &[u8]) -> Result<Option<T>, PayloadError>
where
    T: for<'a> TryFrom<&'a [u8]>,
{
    if bytes.is_empty() { Ok(None) } else { fixed(field, bytes).map(Some) }
}

/// Lower-case letters, digits and single hyphens: safe in paths, URLs and reports. The empty text is none.
pub fn is_slug(text: &str) -> bool {
    let body = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    text.is_empty()
        || (body && text.len() <= 60 && !text.starts_with('-') && !text.ends_with('-') && !text.contains("--"))
}

/// Control and bidirectional formatting characters: they would let a name pass for another.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
