//! Answers that are errors.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{super::errors::status_of, headers, page};
use crate::api::{ApiError, ErrorKind};

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: ApiError,
    /// What is said beside it.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let status = match error.kind {
            ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            kind => status_of(kind),
        };
        Self {
            status,
            error,
            header: None,
        }
    }
}

impl Failure {
    pub(super) fn new(status: StatusCode, what: &str, why: impl Into<String>, next: &str) -> Self {
        let kind = match status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::GATEWAY_TIMEOUT => ErrorKind::TimedOut,
            _ => ErrorKind::Usage,
        };
        Self {
            status,
            error: ApiError::new(kind, what, why, next),
            header: None,
        }
    }

    /// The same with one more header.
    pub(super) fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self {
            header: Some(Box::new((name, value))),
            ..self
        }
    }

    /// A page for a browser, lines for anything else.
    pub(super) fn into_response(self, request: &HeaderMap) -> Response {
        let accepts = request.get(header::ACCEPT);
        let accepts = accepts.and_then(|accepts| accepts.to_str().ok());
        let mut headers = headers::of_page();
        let body = match accepts.is_some_and(|accepts| accepts.contains("text/html")) {
            true => page::of_error(&self.error),
            false => {
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                headers.insert(header::CONTENT_TYPE, text);
                page::text_of_error(&self.error)
            }
        };
        if let Some((name, value)) = self.header.map(|header| *header) {
            headers.insert(name, value);
        }
        respond(self.status, headers, Body::from(body))
    }
}

pub(super) fn wrong(why: &str) -> Failure {
    Failure::new(
        StatusCode::BAD_REQUEST,
        "this leads nowhere",
        why,
        "write /b3/ and an address of 64 hex digits, and for a directory the path inside",
    )
}

pub(super) fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
