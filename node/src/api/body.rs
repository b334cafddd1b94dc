//! Bodies of requests: whole, within a bound and within a time, or a problem that says so.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;

use super::Problem;
use crate::engine::{Failure, FailureCode};

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
