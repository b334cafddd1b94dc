//! Asks a reader, and asks again where an answer is lost.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ReaderCall, ReaderOrder, ReaderOutcome, ReaderReply};
use crate::card_data;

/// How long one request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// How long a reader that doesn't answer is tried before the vendor is told.
const SILENT_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at a payment.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two tries of a reversal.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest answer of a reader, in bytes.
const ANSWER_MAX: usize = 16 * 1024;
/// How much of what it says is shown.
const BECAUSE_MAX: usize = 200;

/// A payment, as it is asked for.
#[derive(Debug, Serialize)]
struct Asked<'a> {
    payment: &'a str,
    amount: u64,
    currency: &'a str,
}

/// A payment, as the reader shows it. What later versions add is passed over.
#[derive(Deserialize)]
struct Shown {
    state: State,
    #[serde(default)]
    token: String,
    #[serde(default)]
    card: String,
    #[serde(default)]
    because: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Waiting,
    Approved,
    Declined,
    TimedOut,
    Reversed,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
enum ReaderError {
    #[error("the card reader at {0} doesn't answer: {1}")]
    Silent(SocketAddr, String),
    #[error("the card reader doesn't know this payment")]
    Unknown,
    #[error("the card reader refused: {0}")]
    Refused(String),
}

/// Starts carrying calls. Ends when the sender is dropped. Must be called inside a tokio runtime.
pub(crate) fn start(
    address: SocketAddr,
    within: Duration,
    replies: mpsc::Sender<ReaderReply>,
) -> mpsc::UnboundedSender<ReaderCall> {
    let (sender, mut calls) = mpsc::unbounded_channel::<ReaderCall>();
    tokio::spawn(async move {
        let mut under_way = JoinSet::new();
        while let Some(call) = calls.recv().await {
            while under_way.try_join_next().is_some() {}
            let (replies, reader) = (replies.clone(), Reader { address, within });
            under_way.spawn(async move {
                let outcome = reader.carry(&call).await;
                let _ = replies.send(ReaderReply { payment: call.payment, outcome }).await;
            });
        }
    });
    sender
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    address: SocketAddr,
    /// How long a card is waited for.
    within: Duration,
}

impl Reader {
    async fn carry(&self, call: &ReaderCall) -> ReaderOutcome {
        match &call.order {
            ReaderOrder::Take { amount, currency } => {
                let asked = Asked { payment: &call.payment, amount: *amount, currency };
                self.take(&asked).await
            }
            ReaderOrder::Find => self.watch(&call.payment).await,
            ReaderOrder::Reverse => {
                self.reverse(&call.payment).await;
                ReaderOutcome::Reversed
            }
        }
    }

    async fn take(&self, asked: &Asked<'_>) -> ReaderOutcome {
        let until = Instant::now() + SILENT_WITHIN;
        loop {
            match self.send(Method::POST, "/v1/payments", Some(asked)).await {
                Ok(_) => return self.watch(asked.payment).await,
                Err(ReaderError::Silent(..)) if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => {
                    // It may have heard all the same.
                    self.try_reverse(asked.payment).await;
                    return declined(error.to_string());
                }
            }
        }
    }

    /// Looks at a payment until something has become of it.
    async fn watch(&self, payment: &str) -> ReaderOutcome {
        let until = Instant::now() + self.within;
        let mut heard = Instant::now();
        loop {
            match self.send::<()>(Method::GET, &format!("/v1/payments/{payment}"), None).await {
                Ok(shown) => {
                    heard = Instant::now();
                    match shown.state {
                        State::Approved => return approved(shown),
                        State::Declined => return declined(or(&shown.because, "the card reader declined it")),
                        State::TimedOut => return declined("nobody has presented a card"),
                        State::Reversed => return declined("it was reversed at the card reader"),
                        State::Waiting => {}
                    }
                }
                Err(ReaderError::Silent(..)) if heard.elapsed() < SILENT_WITHIN => {}
                Err(error) => {
                    self.try_reverse(payment).await;
                    return declined(error.to_string());
                }
            }
            if Instant::now() > until {
                self.try_reverse(payment).await;
                return declined("nobody has presented a card in time");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn try_reverse(&self, payment: &str) -> bool {
        let path = format!("/v1/payments/{payment}/reverse");
        match self.send::<()>(Method::POST, &path, None).await {
            Ok(_) | Err(ReaderError::Unknown) => true,
            Err(error) => {
                tracing::warn!(%error, payment, "a payment could not be reversed yet");
                false
            }
        }
    }

    async fn reverse(&self, payment: &str) {
        let mut pause = PAUSE_MIN;
        while !self.try_reverse(payment).await {
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    async fn send<B: Serialize>(&self, method: Method, path: &str, body: Option<&B>) -> Result<Shown, ReaderError> {
        let silent = |error: String| ReaderError::Silent(self.address, error);
        let sent = tokio::time::timeout(REQUEST_WITHIN, self.exchange(method, path, body)).await;
        let (status, bytes) =
            sent.map_err(|_| silent(format!("nothing within {} s", REQUEST_WITHIN.as_secs())))?.map_err(silent)?;
        match status {
            StatusCode::NOT_FOUND => Err(ReaderError::Unknown),
            status if status.is_success() => serde_json::from_slice(&bytes)
                .map_err(|_| ReaderError::Refused("an answer that isn't as docs/card-reader.md says".into())),
            status => Err(ReaderError::Refused(shown(&format!("{status} {}", String::from_utf8_lossy(&bytes))))),
        }
    }

    async fn exchange<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<(StatusCode, Bytes), String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| text(&error))?.unwrap_or_default();
        let stream = TcpStream::connect(self.address).await.map_err(|error| text(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| text(&error))?;
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|error| error.to_string())?;
        connection.abort();
        Ok((status, body.to_bytes()))
    }
}

fn approved(shown: Shown) -> ReaderOutcome {
    ReaderOutcome::Approved { token: shown.token, card: shown.card }
}

fn declined(because: impl Into<String>) -> ReaderOutcome {
    ReaderOutcome::Declined { because: because.into() }
}

fn or(said: &str, otherwise: &str) -> String {
    if said.is_empty() { otherwise.to_owned() } else { shown(said) }
}

/// What another program says, as it may stand on a till.
fn shown(text: &str) -> String {
    let clean: String = text.chars().filter(|letter| !letter.is_control()).take(BECAUSE_MAX).collect();
    card_data::mask(&clean).into_owned()
}
