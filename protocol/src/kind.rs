//! What an entry says. An open number: unknown kinds are kept and passed on. A payload that changes gets a new one.

use std::fmt;

/// The kind of an entry. Numbers are handed out once and never again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub u32);

macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Kind {
            $($(#[$meta])* pub const $name: Kind = Kind($number);)*

            /// The kind's name where this version knows it.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Kind::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// First entry of every log: the heads that the device knows of its earlier incarnations.
    OPENING = 1, "opening";
    /// The oldest entry of one of the author's logs that still counts.
    LOW_MARK = 2, "low-mark";
    /// A fresh day key for the sealed entries that follow it.
    KEY = 3, "key";

    /// What the market is: name, currency, keys. Root's log only.
    MARKET = 16, "market";
    /// A device belongs to the market.
    CERTIFICATE = 17, "certificate";
    /// A device no longer does, with the line of what stands.
    REVOCATION = 18, "revocation";
    /// The hub's raise of a line, to named hashes.
    RAISE = 19, "raise";
    /// A quarantined incarnation is admitted again.
    READMISSION = 20, "readmission";
    /// Fees, taxes, limits, quotas.
    POLICY = 21, "policy";
    /// The hub's opening key, and its secret sealed to the recovery key.
    OPENING_KEY = 22, "opening-key";
    /// A stall's read key, wrapped to its devices.
    STALL_KEY = 23, "stall-key";
    /// The hub's challenge to a device that asks to join without an invite.
    JOIN_CHALLENGE = 24, "join-challenge";
    /// The hub's no to a join request.
    JOIN_REFUSAL = 25, "join-refusal";
    /// A settlement is published: digest, and a sealed statement a stall.
    SETTLEMENT = 26, "settlement";
    /// A personal part may be absent from now on.
    ERASURE = 27, "erasure";
    /// A fork proof, said again by the hub.
    FORK_RESTATED = 28, "fork-restated";
    /// Hubs are gone, and another goes on in their place. Root's log only.
    SUCCESSION = 29, "succession";
    /// A hub has come back from an older copy of its disk.
    RESTORATION = 30, "restoration";
    /// Fraud rules, what is taken by card without the hub, and the key of cards' fingerprints.
    CHECKOUT_RULES = 31, "checkout-rules";

    /// What stands, and when.
    CHECKPOINT = 48, "checkpoint";

    /// Products and prices.
    PRODUCTS = 64, "products";
    /// Promotions and fees: a stall's on its catalog, the market's on `control`.
    PROMOTIONS = 65, "promotions";

    /// Proof that a device wrote two entries at one position.
    FORK_PROOF = 80, "fork-proof";
    /// A sealed request to join, carried by a member.
    JOIN_REQUEST = 81, "join-request";

    /// What is so now: weather, demand, a queue.
    CONDITIONS = 82, "conditions";
    /// Small facts for fraud rules, which expire.
    SIGNALS = 83, "signals";
    /// What became of a payment that a hub was asked to authorise.
    PAYMENT_OUTCOME = 84, "payment-outcome";

    /// A sale.
    SALE = 96, "sale";
    /// A card is to be charged for a sale that isn't recorded yet.
    PAYMENT_INTENT = 97, "payment-intent";
    /// A payment that was asked for never came about.
    PAYMENT_VOID = 98, "payment-void";

    /// The exact input of a settlement batch.
    CLOSING = 112, "closing";
    /// A person's decision about a row in suspense.
    RESOLUTION = 113, "resolution";
    /// Some of the logs that a closing reads.
    CLOSING_INPUT = 114, "closing-input";
    /// What checkpoints said of sealed logs that a closing reads.
    STANDING = 115, "standing";
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "kind-{}", self.0),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
