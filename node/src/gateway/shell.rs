//! Carries a hub's calls to its gateway, and asks again where an answer is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{Authorisation, Decision, Gateway, GatewayCall, GatewayOutcome, GatewayReply, Unanswered};

/// Calls under way at once.
const CALLS_MAX: usize = 32;
/// How long one call may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often an authorisation is asked for until its till is told that nobody answers: a customer waits.
const TRIES: u32 = 3;
/// Pauses between tries.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Starts carrying calls. Ends when the sender is dropped. Must be called inside a tokio runtime.
pub(crate) fn start(
    gateway: Arc<dyn Gateway>,
    replies: mpsc::Sender<GatewayReply>,
) -> mpsc::UnboundedSender<GatewayCall> {
    let (sender, mut calls) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(CALLS_MAX));
        let mut under_way = JoinSet::new();
        while let Some(call) = calls.recv().await {
            while under_way.try_join_next().is_some() {}
            let (gateway, replies, room) = (gateway.clone(), replies.clone(), room.clone());
            under_way.spawn(async move {
                let reply = carry(gateway.as_ref(), &room, call).await;
                let _ = replies.send(reply).await;
            });
        }
    });
    sender
}

async fn carry(gateway: &dyn Gateway, room: &Semaphore, call: GatewayCall) -> GatewayReply {
    match call {
        GatewayCall::Authorise(order) => {
            let payment = order.payment.clone();
            GatewayReply { payment, outcome: GatewayOutcome::Decided(authorise(gateway, room, order).await) }
        }
        GatewayCall::Void { payment } => {
            let mut pause = PAUSE_MIN;
            loop {
                match within(room, gateway.void(payment.clone())).await {
                    Ok(()) => return GatewayReply { payment, outcome: GatewayOutcome::Voided },
                    Err(error) => tracing::warn!(%error, payment, "a payment could not be voided yet"),
                }
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(PAUSE_MAX);
            }
        }
    }
}

async fn authorise(gateway: &dyn Gateway, room: &Semaphore, order: Authorisation) -> Decision {
    let mut pause = PAUSE_MIN;
    for _ in 0..TRIES {
        match within(room, gateway.authorise(order.clone())).await {
            Ok(decision) => return decision,
            Err(error) => tracing::warn!(%error, ?order, "a payment's outcome isn't known yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
    Decision::Unavailable { because: "the bank did not answer the hub".into() }
}

/// One try. Whoever pauses between two holds no room: a gateway that comes back first hears those whose customers wait.
async fn within<T>(room: &Semaphore, call: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Unanswered> {
    // The semaphore is never closed.
    let _permit = room.acquire().await;
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Unanswered(format!("nothing within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    /// Answers so many calls with nothing first.
    struct Deaf(Mutex<u32>);

    impl Deaf {
        fn hears(&self) -> bool {
            let mut left = self.0.lock().unwrap();
            let hears = *left == 0;
            *left = left.saturating_sub(1);
            hears
        }
    }

    impl Gateway for Deaf {
        fn authorise(&self, order: Authorisation) -> BoxFuture<'_, Result<Decision, Unanswered>> {
            let answer = match self.hears() {
                true => Ok(Decision::Approved { amount: order.amount, reference: String::new() }),
                false => Err(Unanswered("lost".into())),
            };
            std::future::ready(answer).boxed()
        }

        fn void(&self, _: String) -> BoxFuture<'_, Result<(), Unanswered>> {
            let answer = if self.hears() { Ok(()) } else { Err(Unanswered("lost".into())) };
            std::future::ready(answer).boxed()
        }
    }

    async fn reply(deaf_for: u32, call: GatewayCall) -> GatewayOutcome {
        let (replies, mut received) = mpsc::channel(1);
        let calls = start(Arc::new(Deaf(Mutex::new(deaf_for))), replies);
        calls.send(call).unwrap();
        received.recv().await.unwrap().outcome
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_asked_for_again_and_a_void_until_it_is_heard() {
        let order = Authorisation { payment: "a/1".into(), amount: 5, currency: "EUR".into(), token: "tok".into() };
        let approved = Decision::Approved { amount: 5, reference: String::new() };
        let authorise = GatewayCall::Authorise(order);
        assert_eq!(reply(2, authorise.clone()).await, GatewayOutcome::Decided(approved));
        let outcome = reply(3, authorise).await;
        assert!(matches!(outcome, GatewayOutcome::Decided(Decision::Unavailable { .. })), "{outcome:?}");
        assert_eq!(reply(20, GatewayCall::Void { payment: "a/1".into() }).await, GatewayOutcome::Voided);
    }
}
