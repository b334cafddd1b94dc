//! The provider behind a simulated hub: answers after a while or not at all, and remembers what it holds.

use std::collections::BTreeMap;

use stallmesh_node::gateway::{Authorisation, Decision, GatewayCall, GatewayOutcome, GatewayReply, held_by_test_token};

/// A payment, as its provider knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// What was asked for first.
    pub asked: u64,
    /// What is held of it.
    pub held: u64,
    /// Whether it was let go.
    pub is_void: bool,
    /// How often it was asked about.
    pub asked_times: u64,
}

/// The provider.
#[derive(Debug)]
pub struct SimGateway {
    /// Payments by their names.
    pub payments: BTreeMap<String, Held>,
    /// How long an answer takes, in milliseconds.
    pub delay_ms: u64,
    /// Nothing comes back: what is asked is done all the same.
    pub is_silent: bool,
    /// What is asked is done, and whoever asks for the hub gives up waiting for the answer.
    pub is_unavailable: bool,
    /// Answers under way, by when they arrive.
    pub(super) replies: BTreeMap<(u64, u64), GatewayReply>,
    calls: u64,
}

impl Default for SimGateway {
    fn default() -> Self {
        SimGateway {
            payments: BTreeMap::new(),
            delay_ms: 150,
            is_silent: false,
            is_unavailable: false,
            replies: BTreeMap::new(),
            calls: 0,
        }
    }
}

impl SimGateway {
    /// What is held now, over all payments, in minor units.
    pub fn holds(&self) -> u64 {
        self.payments.values().filter(|payment| !payment.is_void).map(|payment| payment.held).sum()
    }

    /// The payments of which something is held.
    pub fn held(&self) -> BTreeMap<&str, u64> {
        let held = self.payments.iter().filter(|(_, payment)| !payment.is_void && payment.held > 0);
        held.map(|(name, payment)| (name.as_str(), payment.held)).collect()
    }

    /// When the next answer arrives.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.replies.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn call(&mut self, now: u64, call: GatewayCall) {
        self.calls += 1;
        let reply = match call {
            GatewayCall::Authorise(order) => {
                let mut reply = self.authorise(&order);
                if self.is_unavailable {
                    let because = "the bank did not answer the hub".into();
                    reply.outcome = GatewayOutcome::Decided(Decision::Unavailable { because });
                }
                reply
            }
            GatewayCall::Void { payment } => {
                let known = self.payments.entry(payment.clone()).or_default();
                known.is_void = true;
                GatewayReply { payment, outcome: GatewayOutcome::Voided }
            }
        };
        if !self.is_silent {
            self.replies.insert((now + self.delay_ms, self.calls), reply);
        }
    }

    fn authorise(&mut self, order: &Authorisation) -> GatewayReply {
        let new = Held { asked: order.amount, held: held_by_test_token(&order.token, order.amount), ..Held::default() };
        let known = self.payments.entry(order.payment.clone()).or_insert(new);
        known.asked_times += 1;
        let decision = if known.is_void || known.held == 0 || known.asked != order.amount {
            Decision::Declined { because: "declined by the bank".into() }
        } else {
            Decision::Approved { amount: known.held, reference: format!("ref {}", order.payment) }
        };
        GatewayReply { payment: order.payment.clone(), outcome: GatewayOutcome::Decided(decision) }
    }
}
