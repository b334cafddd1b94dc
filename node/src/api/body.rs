//! Bodies of requests: whole, within a bound and within a time, or a problem that says so; and the idempotency keys of those
//! that write.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use stallmesh_protocol::Hash;

use super::{Api, Problem, parse};
use crate::engine::{Answer, Failure, FailureCode, Request as Asked};

/// A body that trickles holds nothing for longer than this.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// All bytes of a request's body.
pub(super) struct Whole(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let problem = |status, detail: String| Problem::new(status, Failure::new(FailureCode::EInvalid, detail));
        match tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => Ok(Whole(bytes)),
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(problem(rejection.status(), "the body is larger than what is taken here".into()))
            }
            Ok(Err(rejection)) => Err(problem(rejection.status(), rejection.body_text())),
            Err(_) => {
                let detail = format!("the body was not there within {} s", BODY_WITHIN.as_secs());
                Err(problem(StatusCode::REQUEST_TIMEOUT, detail))
            }
        }
    }
}

/// The caller's idempotency key, where it gave one.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().map_err(|_| Failure::new(FailureCode::EInvalid, "idempotency-key: printable ASCII"))?;
    Ok(Some(key.to_owned()))
}

/// A request that writes: its body, and the key under which it is done once.
pub(super) struct Written {
    pub(super) body: Bytes,
    /// The caller's key, and the hash of all that it asked for.
    pub(super) once: Option<(String, Hash)>,
}

impl<S: Send + Sync> FromRequest<S> for Written {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let key = key_of(request.headers())?;
        let head = format!("{} {}", request.method(), request.uri());
        let Whole(body) = Whole::from_request(request, state).await?;
        let once = key.map(|key| {
            let mut hasher = blake3::Hasher::new_derive_key("stallmesh 1 request");
            hasher.update(&(head.len() as u64).to_be_bytes()).update(head.as_bytes()).update(&body);
            (key, Hash::from_bytes(*hasher.finalize().as_bytes()))
        });
        Ok(Written { body, once })
    }
}

impl Written {
    pub(super) fn read<T: for<'a> Deserialize<'a>>(&self) -> Result<T, Problem> {
        parse(&self.body)
    }

    /// Asks the node for what was asked for; once, where there is a key.
    pub(super) async fn ask(self, api: &Api, request: Asked) -> Answer {
        let request = match self.once {
            Some((key, asked)) => Asked::Once { key, asked, request: Box::new(request) },
            None => request,
        };
        api.node.ask(request).await
    }
}
