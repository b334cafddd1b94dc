//! Who authorises cards for a hub: what it is asked, what it answers, and how it is asked again.
//!
//! A payment's name is the idempotency key of everything that is asked about it: whoever asks twice is told the same and
//! charges once.

mod shell;
mod test_gateway;

use futures::future::BoxFuture;

pub(crate) use self::shell::start;
pub use self::test_gateway::{TestGateway, TestGatewayError, held_by_test_token};

/// A payment to be authorised.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorisation {
    /// Its name, and idempotency key: `stall/sale-number`.
    pub payment: String,
    /// Minor units, with the tip.
    pub amount: u64,
    /// ISO 4217.
    pub currency: String,
    /// The reader's token.
    pub token: String,
}

impl std::fmt::Debug for Authorisation {
    /// A token is worth money: it stands in no log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} of {} {}", self.payment, self.amount, self.currency)
    }
}

/// What a hub wants of its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayCall {
    /// To hold an amount on a card.
    Authorise(Authorisation),
    /// To let go of what it holds for a payment.
    Void {
        /// Its name.
        payment: String,
    },
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayReply {
    /// The payment's name.
    pub payment: String,
    /// What is known of it now.
    pub outcome: GatewayOutcome,
}

/// What is known of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayOutcome {
    /// It was authorised, or not.
    Decided(Decision),
    /// What was held is held no more, or never was.
    Voided,
}

/// A gateway's word on a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// So much of it is held.
    Approved {
        /// Minor units; may be less than was asked for.
        amount: u64,
        /// The gateway's own name for it.
        reference: String,
    },
    /// Nothing of it is.
    Declined {
        /// For the vendor.
        because: String,
    },
    /// Nobody could be asked in time, or this hub asks nobody. Something may be held all the same.
    Unavailable {
        /// For the vendor.
        because: String,
    },
}

/// Why a gateway's answer isn't known: the same call again, later, finds out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway did not answer: {0}")]
pub struct Unanswered(pub String);

/// A payment provider's way in. Both calls are idempotent by the payment's name.
pub trait Gateway: Send + Sync {
    /// Holds an amount on a card, or says why not: [`Decision::Approved`] or [`Decision::Declined`].
    fn authorise(&self, order: Authorisation) -> BoxFuture<'_, Result<Decision, Unanswered>>;

    /// Lets go of what is held; of what was never held, too: it is never held later.
    fn void(&self, payment: String) -> BoxFuture<'_, Result<(), Unanswered>>;
}
