//! What requests have in common: their headers, query, path and body, read with errors that name what is wrong.

use std::time::Duration;

use axum::{
    RequestPartsExt,
    body::{Body, HttpBody},
    extract::{FromRequestParts, Path, rejection::PathRejection},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::{calls::CallName, errors::Problem, events::EVENT_STREAM};
use crate::api::{API_VERSION, Caller};

/// The version of the API that a client speaks; one that does not say is taken for the right one.
pub(crate) const API_HEADER: HeaderName = HeaderName::from_static("casnode-api");

/// What the caller names its call.
pub(crate) const CALL_HEADER: HeaderName = HeaderName::from_static("casnode-call");

/// The caller's umask, in octal: outputs get the permissions that it leaves.
pub(crate) const UMASK_HEADER: HeaderName = HeaderName::from_static("casnode-umask");

/// Longest body of JSON; the longest list of files with its paths fits.
pub(crate) const MAX_JSON_BYTES: usize = 16 << 20;

/// A body of JSON is there within this time.
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// What the headers of a call say.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) name: Option<CallName>,
    pub(super) caller: Caller,
    /// The answer is to be a stream of events.
    pub(super) wants_events: bool,
}

impl<S: Sync> FromRequestParts<S> for Headers {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let headers = &parts.headers;
        let name = text(headers, &CALL_HEADER)?.map(str::parse).transpose();
        let umask = text(headers, &UMASK_HEADER)?.map(|octal| {
            let umask = u32::from_str_radix(octal, 8).ok();
            umask
                .filter(|umask| *umask <= 0o777)
                .ok_or_else(|| bad(&UMASK_HEADER, "it is not an octal number up to 777"))
        });
        Ok(Self {
            name: name.map_err(|why| bad(&CALL_HEADER, why))?,
            caller: Caller {
                umask: umask.transpose()?,
            },
            wants_events: accepts_events(headers),
        })
    }
}

/// Refuses a client of another version.
pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(version) = text(headers, &API_HEADER)? else {
        return Ok(());
    };
    if version.parse() == Ok(API_VERSION) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "the daemon did not understand the command",
        format!("it speaks API version {API_VERSION}, the command {version}"),
        "run the same version of casnode as the daemon, or restart the daemon",
    ))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let value = headers.get(name).map(|value| value.to_str()).transpose();
    value.map_err(|_| bad(name, "it is not plain text"))
}

fn bad(header: &HeaderName, why: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        &format!("the header {header} is malformed"),
        why,
        "correct it, or leave it out",
    )
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut kinds = accepted.filter_map(|value| value.to_str().ok());
    kinds.any(|kinds| {
        kinds
            .split([',', ';'])
            .any(|kind| kind.trim() == EVENT_STREAM)
    })
}

/// A query whose errors name the field.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        let query = query.map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "the query is malformed",
                error.body_text(),
                DESCRIBED,
            )
        })?;
        Ok(Self(query.0))
    }
}

/// The parts of the path that name something.
#[derive(Debug)]
pub(super) struct Segment<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Segment<T>
where
    T: DeserializeOwned + Send + 'static,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let segment: Result<Path<T>, PathRejection> = parts.extract().await;
        match segment {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(error) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "the path is malformed",
                error.body_text(),
                DESCRIBED,
            )),
        }
    }
}

/// Where one can read what is right.
pub(super) const DESCRIBED: &str = "GET /v1/openapi.json describes what is right";

/// Refuses a body that does not say that it is JSON. A page in a browser cannot say so of a request to another site
/// without asking first, and is never allowed to.
pub(super) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the body is not JSON",
        format!("its content type is {kind:?}"),
        "send `Content-Type: application/json`",
    ))
}

/// Reads a body of JSON, within bounds of length and time.
pub(super) async fn read_json(body: Body) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > MAX_JSON_BYTES as u64 {
        return Err(too_long());
    }
    let read = Limited::new(body, MAX_JSON_BYTES).collect();
    let Ok(read) = tokio::time::timeout(BODY_DEADLINE, read).await else {
        return Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive",
            format!("{} s have passed", BODY_DEADLINE.as_secs()),
            "send it faster",
        ));
    };
    match read {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
        Err(error) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "the body broke off",
            error.to_string(),
            "send it again",
        )),
    }
}

fn too_long() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "the body is too long",
        format!("JSON of up to {MAX_JSON_BYTES} bytes is read"),
        "ask for less at once; content goes to PUT /v1/content",
    )
}
