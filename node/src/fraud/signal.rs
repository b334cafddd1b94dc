//! Signals: small facts that live for a while.

use std::fmt;

use serde::{Serialize, Serializer};

/// In milliseconds.
pub(super) const MINUTE_MS: u64 = 60_000;
/// In milliseconds.
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;
/// No signal lives longer, whatever it says: 30 days. What is to stand longer is said again.
pub const LIFE_MAX_MS: u64 = 30 * 24 * HOUR_MS;
/// How far ahead of the time that is handed in a signal may be dated, and still counts: 2 minutes. One that is further
/// ahead counts from then on.
pub const AHEAD_MAX_MS: u64 = 2 * MINUTE_MS;

macro_rules! name_of_16_bytes {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

name_of_16_bytes! {
    /// Whom a signal is about: a card's fingerprint, a device, or who stands at a till. Keyed hashes: nobody's number.
    Subject
}
name_of_16_bytes! {
    /// A stall, by the hash of its name.
    Stall
}
name_of_16_bytes! {
    /// The entry that a signal stands in, or the sale that it is about: tells two like payments apart.
    Reference
}
name_of_16_bytes! {
    /// A rule, by the hash of its id: what an answered alarm names.
    RuleTag
}

fn hashed(context: &str, name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::derive_key(context, name.as_bytes())[..16]);
    bytes
}

impl Subject {
    /// A device, or whatever else has a name of 32 bytes that is a hash or a key: its first half.
    pub fn of_device(device: &[u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&device[..16]);
        Subject(bytes)
    }

    /// Who stands at a till of this stall.
    pub fn of_operator(stall: &str, operator: &str) -> Self {
        Subject(hashed("stallmesh fraud 1 operator", &format!("{}:{stall}{operator}", stall.len())))
    }
}

impl Stall {
    /// The stall of this name.
    pub fn named(name: &str) -> Self {
        Stall(hashed("stallmesh fraud 1 stall", name))
    }
}

impl RuleTag {
    /// The rule with this id.
    pub fn of(id: &str) -> Self {
        RuleTag(hashed("stallmesh fraud 1 rule", id))
    }
}

/// Whose word a signal is. The caller decides it, from the certificate and from what it has proven itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Voice {
    /// A stall's: full at that stall, and one voice among several elsewhere.
    Stall,
    /// The hub's, or what a proof shows that this node has checked: full everywhere.
    Market,
}

/// What happened. Amounts are minor units of the market's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A card paid.
    Payment {
        /// So much.
        amount: u64,
    },
    /// A card is blocked, or isn't any more: of one speaker the newest word counts.
    Block {
        /// Whether it is.
        is_on: bool,
    },
    /// Somebody sold below the catalog's price.
    Override {
        /// What was asked.
        price: u64,
        /// What the catalog says.
        catalog_price: u64,
    },
    /// Somebody voided a sale that was paid in cash.
    Void {
        /// What was paid.
        amount: u64,
        /// So long after it was paid, in milliseconds.
        after_ms: u64,
    },
    /// A device's clock is off: ahead, or behind where negative, in milliseconds. The newest word of a speaker counts.
    Clock {
        /// So far.
        off_ms: i64,
    },
    /// A device signed two histories.
    Equivocation,
    /// A device runs twice.
    Clone,
    /// "I know them": an alarm was answered.
    Known {
        /// Which rule's.
        rule: RuleTag,
    },
}

/// A kind of fact, without its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// [`Fact::Payment`].
    Payment,
    /// [`Fact::Block`].
    Block,
    /// [`Fact::Override`].
    Override,
    /// [`Fact::Void`].
    Void,
    /// [`Fact::Clock`].
    Clock,
    /// [`Fact::Equivocation`].
    Equivocation,
    /// [`Fact::Clone`].
    Clone,
    /// [`Fact::Known`].
    Known,
}

impl Fact {
    /// Its kind.
    pub fn kind(&self) -> FactKind {
        match self {
            Fact::Payment { .. } => FactKind::Payment,
            Fact::Block { .. } => FactKind::Block,
            Fact::Override { .. } => FactKind::Override,
            Fact::Void { .. } => FactKind::Void,
            Fact::Clock { .. } => FactKind::Clock,
            Fact::Equivocation => FactKind::Equivocation,
            Fact::Clone => FactKind::Clone,
            Fact::Known { .. } => FactKind::Known,
        }
    }

    /// Its numbers, for hashing.
    fn numbers(&self) -> [u64; 2] {
        match *self {
            Fact::Payment { amount } => [amount, 0],
            Fact::Block { is_on } => [u64::from(is_on), 0],
            Fact::Override { price, catalog_price } => [price, catalog_price],
            Fact::Void { amount, after_ms } => [amount, after_ms],
            Fact::Clock { off_ms } => [off_ms.cast_unsigned(), 0],
            Fact::Equivocation | Fact::Clone => [0, 0],
            Fact::Known { rule } => {
                let half = |from: usize| {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&rule.0[from..from + 8]);
                    u64::from_le_bytes(bytes)
                };
                [half(0), half(8)]
            }
        }
    }
}

/// One signal. Two that are equal in every field are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Signal {
    /// What happened.
    pub fact: Fact,
    /// To whom, or by whom.
    pub subject: Subject,
    /// At which stall; for the market's word whatever the caller likes, it isn't looked at.
    pub stall: Stall,
    /// Whose word it is.
    pub voice: Voice,
    /// When, in milliseconds of market time.
    pub at_ms: u64,
    /// It no longer lives then.
    pub expires_at_ms: u64,
    /// What it stands in.
    pub reference: Reference,
}

impl Signal {
    /// When it is over: as it says, and no later than its longest life after it.
    pub fn ends_at_ms(&self) -> u64 {
        self.expires_at_ms.min(self.at_ms.saturating_add(LIFE_MAX_MS))
    }

    /// Whether it counts at this time: no longer than it lives, and not before it happened.
    pub fn is_live(&self, now_ms: u64) -> bool {
        now_ms < self.ends_at_ms() && self.at_ms <= now_ms.saturating_add(AHEAD_MAX_MS)
    }

    /// A short name of its whole content.
    pub(super) fn digest(&self) -> [u8; 16] {
        let mut bytes = [0_u8; 82];
        let mut place = 0;
        let mut put = |part: &[u8]| {
            bytes[place..place + part.len()].copy_from_slice(part);
            place += part.len();
        };
        put(&[self.fact.kind() as u8, self.voice as u8]);
        let [first, second] = self.fact.numbers();
        for number in [first, second, self.at_ms, self.expires_at_ms] {
            put(&number.to_le_bytes());
        }
        for name in [&self.subject.0, &self.stall.0, &self.reference.0] {
            put(name);
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::derive_key("stallmesh fraud 1 signal", &bytes)[..16]);
        digest
    }
}
