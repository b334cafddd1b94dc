//! Errors as problem details (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::engine::{Failure, FailureCode};

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
            FailureCode::EAmountRange | FailureCode::ECurrency => StatusCode::UNPROCESSABLE_ENTITY,
            FailureCode::ENotFound => StatusCode::NOT_FOUND,
            FailureCode::EConflict => StatusCode::CONFLICT,
            FailureCode::EScope | FailureCode::ENotMember | FailureCode::ENotHub => StatusCode::FORBIDDEN,
            FailureCode::EStorageFull => StatusCode::INSUFFICIENT_STORAGE,
            FailureCode::EUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem { status, failure }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = serde_json::to_value(self.failure.code).unwrap_or_default();
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "code": code,
            "detail": self.failure.detail,
        });
        let kind = HeaderValue::from_static("application/problem+json");
        (self.status, [(header::CONTENT_TYPE, kind)], Json(body)).into_response()
    }
}
