//! Errors as HTTP tells them: a status, and `{"error": {kind, what, why, next}}`.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::{ApiError, ErrorKind};

/// The body of every answer that is an error.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What happened, why, and what to do next.
    pub(crate) error: ApiError,
}

/// An error with the status it is told with.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    error: ApiError,
}

impl Problem {
    /// A request that is wrong by the rules of HTTP or of the API.
    pub(super) fn new(status: StatusCode, what: &str, why: impl Into<String>, next: &str) -> Self {
        let kind = match status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::CONFLICT => ErrorKind::Busy,
            StatusCode::REQUEST_TIMEOUT => ErrorKind::TimedOut,
            _ => ErrorKind::Usage,
        };
        Self {
            status,
            error: ApiError::new(kind, what, why, next),
        }
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        Self {
            status: status_of(error.kind),
            error,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&ErrorBody { error: self.error }).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// The status that a kind of failure is told with. What went wrong in the network or on the disk is a 5xx of its own, so
/// that none of them looks like a bug; a bug is 500.
pub(super) fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Failure => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Usage => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Integrity => StatusCode::BAD_GATEWAY,
        ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Partial | ErrorKind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Busy => StatusCode::CONFLICT,
    }
}
