//! Errors as problem details (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::{Failure, FailureCode, ReasonView};

/// A failure, as the API says it.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    failure: Failure,
}

impl Problem {
    /// A problem with a status of its own.
    pub fn new(status: StatusCode, failure: Failure) -> Self {
        Problem { status, failure }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            FailureCode::EInvalid => StatusCode::BAD_REQUEST,
            FailureCode::EAmountRange | FailureCode::ECurrency | FailureCode::EUnknownSku => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            FailureCode::ENotFound => StatusCode::NOT_FOUND,
            FailureCode::EConflict | FailureCode::EAsk => StatusCode::CONFLICT,
            FailureCode::EDeclined => StatusCode::PAYMENT_REQUIRED,
            FailureCode::EScope | FailureCode::ENotMember | FailureCode::ENotHub => StatusCode::FORBIDDEN,
            FailureCode::EStorageFull => StatusCode::INSUFFICIENT_STORAGE,
            FailureCode::EUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem { status, failure }
    }
}

/// The most bytes of another error's text that are kept.
const TEXT_MAX: usize = 1000;

/// Errors that are not ours (a parameter that can't be read, a method that isn't there) as problems, too.
pub(super) async fn in_words(response: Response) -> Response {
    let status = response.status();
    let ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
    if !(status.is_client_error() || status.is_server_error()) || ours {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let text = axum::body::to_bytes(response.into_body(), TEXT_MAX).await.unwrap_or_default();
    let detail = match String::from_utf8_lossy(&text).into_owned() {
        text if text.is_empty() => status.canonical_reason().unwrap_or("error").to_lowercase(),
        text => text,
    };
    let code = if status == StatusCode::NOT_FOUND { FailureCode::ENotFound } else { FailureCode::EInvalid };
    let mut response = Problem::new(status, Failure::new(code, detail)).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// The media type of RFC 9457.
pub(super) const PROBLEM: &str = "application/problem+json";

/// What went wrong (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemView {
    /// Always `about:blank`: `code` says what it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Of the status.
    title: &'static str,
    /// The response's.
    status: u16,
    /// Stable: programs go by it.
    code: FailureCode,
    /// A sentence for people: what, to what, what to do.
    detail: String,
    /// The path of the field that is to blame, where there is one: `lines[1].quantity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<String>,
    /// Why a payment is asked about, or declined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<ReasonView>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let view = ProblemView {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            code: self.failure.code,
            detail: self.failure.detail,
            field: self.failure.field,
            reasons: self.failure.reasons,
        };
        (self.status, [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM))], Json(view)).into_response()
    }
}
