//! Open baskets, as the API takes and shows them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Authorised, Failure, OrderTender, QuoteView, ReasonView, TenderKind, text};
use crate::quote::files::{BasketFile, CustomerFile, Number};

/// Names a basket of one device: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BasketId(pub [u8; 16]);

impl fmt::Display for BasketId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl FromStr for BasketId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut id = [0; 16];
        match hex::decode_to_slice(text, &mut id) {
            Ok(()) => Ok(BasketId(id)),
            Err(_) => Err(format!("`{text}` is no basket: expected 32 hexadecimal digits")),
        }
    }
}

/// A basket that stays on this device until it is sold or discarded, also over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BasketView {
    /// Its id.
    #[serde(with = "text")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub id: BasketId,
    /// What is in it.
    pub basket: BasketFile,
    /// When it was opened, in milliseconds since 1970.
    pub opened_at: u64,
    /// When it was changed last.
    pub changed_at: u64,
    /// The sale that it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sold: Option<String>,
    /// What it costs now; absent where it has a problem, or was sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub quote: Option<QuoteView>,
    /// Why it can't be sold as it is: a product that is offered no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<Failure>,
    /// Parts of its payment, in the order in which they came.
    pub tenders: Vec<PartView>,
    /// What they cover, in minor units, without tips.
    pub covered: u64,
    /// What is left to pay.
    pub left: u64,
    /// What is left if it is paid in cash: rounded to coins.
    pub left_in_cash: u64,
    /// What they cover too much: one must be voided before it can be sold.
    pub over: u64,
}

/// One part of a payment, before the sale is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartView {
    /// Names it in its basket.
    pub number: u32,
    /// How.
    pub kind: TenderKind,
    /// Minor units.
    pub amount: u64,
    /// Beside the amount.
    pub tip: u64,
    /// Cash handed over; 0 for what isn't cash.
    pub given: u64,
    /// Change to give.
    pub change: u64,
    /// What became of it.
    pub state: PartState,
    /// How it was authorised.
    pub authorised: Authorised,
    /// Why it stands so, where there is something to say.
    pub because: String,
    /// Of one that was declined here: why. The same part again, with the ids in `confirmed`, goes on where all are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ReasonView>,
}

/// What became of a part of a payment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// It is here: cash, or what was taken outside.
    #[default]
    Taken,
    /// The reader or the hub was asked, and has not answered.
    Asked,
    /// It may be taken.
    Approved,
    /// It may not.
    Declined,
    /// Nobody knows yet whether it was taken: it is asked for by its key until somebody does.
    Unknown,
    /// It was given back, or never came about.
    Void,
}

/// A part of a payment to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PartOrder {
    /// How.
    pub kind: TenderKind,
    /// Minor units; what is left to pay where left out.
    pub amount: Option<u64>,
    /// The reader's token, for `card` and `wallet`; never a card number.
    pub token: String,
    /// Cash handed over.
    pub given: Option<u64>,
    /// Beside the amount, in minor units.
    pub tip: u64,
    /// What the reader calls this card, the same each time; never its number.
    pub card: String,
    /// What an own terminal or an app says of a payment that it took, for `outside`.
    pub reference: String,
    /// Ids of reasons that a person was asked about, and lets pass this once.
    pub confirmed: Vec<String>,
    /// The same, and she knows whom it is about.
    pub known: Vec<String>,
}

impl PartOrder {
    /// As a sale's order has it.
    pub(crate) fn tender(&self) -> OrderTender {
        OrderTender {
            kind: self.kind,
            amount: self.amount,
            token: self.token.clone(),
            given: self.given,
            tip: self.tip,
            card: self.card.clone(),
            reference: self.reference.clone(),
        }
    }
}

/// One change of a basket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum BasketChange {
    /// Puts units of a product in: beside those of the same product and price that are there.
    Add {
        /// The product; or its barcode.
        #[serde(default)]
        sku: Option<String>,
        /// What a scanner read.
        #[serde(default)]
        barcode: Option<String>,
        /// Units; one where left out.
        #[serde(default = "one")]
        quantity: Number,
        /// The vendor's own unit price, in minor units.
        #[serde(default)]
        price: Option<u64>,
    },
    /// Says how many units a line has, and at which price; none takes the line out.
    Set {
        /// Its place, from 0.
        line: usize,
        /// Its product: another one there means that somebody else has changed the basket.
        sku: String,
        /// Units.
        quantity: Number,
        /// The vendor's own unit price; the catalog's where left out.
        #[serde(default)]
        price: Option<u64>,
    },
    /// The buyer gives a code.
    GiveCode {
        /// As it was given.
        code: String,
    },
    /// A code is taken back.
    TakeCode {
        /// As it was given.
        code: String,
    },
    /// Who buys; nobody known where left out.
    Customer {
        /// Visits, groups, and what was used.
        #[serde(default)]
        customer: Option<CustomerFile>,
    },
}

fn one() -> Number {
    Number(rust_decimal::Decimal::ONE)
}

/// Changes of a basket, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BasketOrder {
    /// In this order.
    pub changes: Vec<BasketChange>,
}

/// How a basket is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BasketSale {
    /// Parts of the payment beside those that the basket has; with them they sum to the total.
    #[serde(default)]
    pub tenders: Vec<OrderTender>,
    /// Who is at the till.
    #[serde(default)]
    pub operator: String,
    /// A note, kept where only hub and stall can read it.
    #[serde(default)]
    pub note: String,
    /// Rehearsal: marked, and never in the ledger.
    #[serde(default)]
    pub rehearsal: bool,
    /// Ids of reasons that a person was asked about, and lets pass this once.
    #[serde(default)]
    pub confirmed: Vec<String>,
    /// The same, and she knows whom it is about.
    #[serde(default)]
    pub known: Vec<String>,
}
