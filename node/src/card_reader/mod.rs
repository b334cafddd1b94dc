//! A card reader beside the till: another process on this machine, asked over HTTP (docs/card-reader.md).
//!
//! It is told an amount, takes a card, and answers with a token for the gateway and a name for the card. The payment's name
//! is the key of everything: the same request again is the same payment.

mod client;

pub(crate) use self::client::start;

/// What a till wants of its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderCall {
    /// The payment's name: `sale-number`.
    pub payment: String,
    /// What.
    pub order: ReaderOrder,
}

/// A reader's orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderOrder {
    /// To take a card.
    Take {
        /// Minor units, with the tip.
        amount: u64,
        /// ISO 4217.
        currency: String,
    },
    /// To say what became of a payment that was asked for before this node ended.
    Find,
    /// To take a payment back, or never to make it.
    Reverse,
}

/// What a reader has said.
#[derive(Clone, PartialEq, Eq)]
pub struct ReaderReply {
    /// The payment's name.
    pub payment: String,
    /// What became of it.
    pub outcome: ReaderOutcome,
}

impl std::fmt::Debug for ReaderReply {
    /// A token is worth money: it stands in no log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let outcome = match &self.outcome {
            ReaderOutcome::Approved { .. } => "approved",
            ReaderOutcome::Reversed => "reversed",
            ReaderOutcome::Declined { because } => because,
        };
        write!(formatter, "{}: {outcome}", self.payment)
    }
}

/// What became of a payment at the reader.
#[derive(Clone, PartialEq, Eq)]
pub enum ReaderOutcome {
    /// A card was presented.
    Approved {
        /// For the gateway; opaque.
        token: String,
        /// What the reader calls the card, the same each time; empty where it has no name for it.
        card: String,
    },
    /// It was taken back, or never will be made.
    Reversed,
    /// None was, or it was refused, or the reader isn't there.
    Declined {
        /// For the vendor.
        because: String,
    },
}
