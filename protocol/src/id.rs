//! Names of things: markets, devices, incarnations, lanes, logs.

use std::fmt;

use crate::hash::{Domain, Hash, Hasher};

macro_rules! bytes_id {
    ($(#[$meta:meta])* $name:ident, $length:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Takes the bytes as they are.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex(text).map(Self).ok_or(ParseIdError { what: stringify!($name), length: $length })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.short())
            }
        }
    };
}

bytes_id! {
    /// A device: its ed25519 public key, which is also its libp2p PeerId's key. The market root is one too.
    DeviceId, 32
}
bytes_id! {
    /// One trust domain and season: the hash of the market's root key and epoch.
    MarketId, 32
}
bytes_id! {
    /// One run of a device's process: 128 random bits drawn at each start.
    Incarnation, 16
}
bytes_id! {
    /// Names a log: the hash of market, author, incarnation and lane.
    LogId, 32
}
bytes_id! {
    /// One sale of a stall, derived from the caller's idempotency key.
    SaleId, 16
}

/// Text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: expected {} hexadecimal digits", length * 2)]
pub struct ParseIdError {
    what: &'static str,
    length: usize,
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(bytes)
}

impl MarketId {
    /// `H(market; root key, epoch as 4 bytes)`.
    pub fn new(root: &DeviceId, epoch: u32) -> Self {
        MarketId(*Hasher::new(Domain::Market).bytes(root.as_bytes()).u32(epoch).finish().as_bytes())
    }
}

impl SaleId {
    /// The first 16 bytes of `H(sale-id; stall, idempotency key)`, each with its length: the same request names the
    /// same sale on every device of the stall.
    pub fn derive(stall: &str, idempotency_key: &str) -> Self {
        let hash = Hasher::new(Domain::SaleId).sized(stall.as_bytes()).sized(idempotency_key.as_bytes()).finish();
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        SaleId(id)
    }
}

/// What a log is for, and so who keeps it and who may read it. An open number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(pub u32);

impl Lane {
    /// Certificates, revocations, policies: by hub, organiser and issuers; everyone keeps it.
    pub const CONTROL: Lane = Lane(1);
    /// The hub's statements of what stands; everyone keeps it.
    pub const CHECKPOINT: Lane = Lane(2);
    /// Products and prices of stalls; everyone keeps it.
    pub const CATALOG: Lane = Lane(3);
    /// Fraud signals, claims, fork proofs, join requests: short-lived; everyone keeps it.
    pub const SIGNAL: Lane = Lane(4);
    /// What devices sold: sealed; author, stall, carriers and hub keep it.
    pub const SALES: Lane = Lane(5);
    /// The hub's closings and outcomes: sealed; hub and carriers keep it.
    pub const LEDGER: Lane = Lane(6);

    /// The lanes that every member keeps whole, most urgent first.
    pub const KEPT_BY_ALL: [Lane; 4] = [Lane::CONTROL, Lane::CHECKPOINT, Lane::SIGNAL, Lane::CATALOG];

    /// Whether every member keeps the lane.
    pub fn is_kept_by_all(self) -> bool {
        Self::KEPT_BY_ALL.contains(&self)
    }

    /// Whether the parts of its entries are sealed (but for the key entries' and openings').
    pub fn is_sealed(self) -> bool {
        self == Lane::SALES || self == Lane::LEDGER
    }

    /// The lane's name where it has one.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Lane::CONTROL => "control",
            Lane::CHECKPOINT => "checkpoint",
            Lane::CATALOG => "catalog",
            Lane::SIGNAL => "signal",
            Lane::SALES => "sales",
            Lane::LEDGER => "ledger",
            _ => return None,
        })
    }
}

impl std::str::FromStr for Lane {
    type Err = UnknownLane;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, UnknownLane> {
        let number = || text.strip_prefix("lane-").and_then(|number| number.parse().ok()).map(Lane);
        let named = (1..=6).map(Lane).find(|lane| lane.name() == Some(text));
        named.or_else(number).ok_or_else(|| UnknownLane(text.to_owned()))
    }
}

/// Not the name of a lane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a lane: control, checkpoint, catalog, signal, sales, ledger, or lane-NUMBER")]
pub struct UnknownLane(String);

impl fmt::Display for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "lane-{}", self.0),
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Everything that a log's id is made of, but for the market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogName {
    /// Who writes it.
    pub author: DeviceId,
    /// In which run of its process.
    pub incarnation: Incarnation,
    /// What for.
    pub lane: Lane,
}

impl LogName {
    /// `H(log; market, author, incarnation, lane as 4 bytes)`.
    pub fn id(&self, market: &MarketId) -> LogId {
        let hash = Hasher::new(Domain::Log)
            .bytes(market.as_bytes())
            .bytes(self.author.as_bytes())
            .bytes(self.incarnation.as_bytes())
            .u32(self.lane.0)
            .finish();
        LogId(*hash.as_bytes())
    }
}

/// A position in a log: the newest entry that somebody knows or speaks of, with its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Head {
    /// From 1; 0 only in [`Head::EMPTY`].
    pub sequence: u64,
    /// The hash of the entry at `sequence`.
    pub hash: Hash,
}

impl Head {
    /// The head of a log without entries.
    pub const EMPTY: Head = Head { sequence: 0, hash: Hash::ZERO };
}

impl fmt::Debug for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{:?}", self.sequence, self.hash)
    }
}
