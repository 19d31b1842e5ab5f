//! Sends what is wanted of a file.

use std::{io, ops::Range, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use casnode_cas::Address;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Gateway,
    failure::{Failure, respond},
    headers, in_time,
    ranges::{self, Precondition, Wanted},
};
use crate::read::{OpenFile, RangeReader};

/// Files that are being sent at a time: each takes memory for a chunk or two.
pub(super) const MAX_BODIES: usize = 64;

/// How long a request waits until another one is done.
const PLACE_PATIENCE: Duration = Duration::from_secs(10);

/// A file, and what is said beside its bytes.
pub(super) struct File {
    pub(super) open: OpenFile,
    pub(super) address: Address,
    pub(super) headers: HeaderMap,
}

impl Gateway {
    /// Sends what is wanted of a file.
    pub(super) async fn send(
        &self,
        file: File,
        method: &Method,
        request: &HeaderMap,
    ) -> Result<Response, Failure> {
        let (etag, size_bytes) = (headers::etag(&file.address), file.open.size_bytes());
        let mut headers = file.headers;
        match ranges::precondition(request, &etag) {
            Precondition::Holds => {}
            Precondition::NotModified => {
                headers.remove(header::CONTENT_TYPE);
                headers.remove(header::CONTENT_DISPOSITION);
                return Ok(respond(StatusCode::NOT_MODIFIED, headers, Body::empty()));
            }
            Precondition::Failed => return Err(another()),
        }
        let is_head = method == Method::HEAD;
        let wanted = match is_head {
            true => Wanted::Whole, // ranges are for GET alone
            false => ranges::wanted(request, &etag, size_bytes),
        };
        let (status, part) = match wanted {
            Wanted::Whole => (StatusCode::OK, 0..size_bytes),
            Wanted::Part(part) => {
                let said = format!("bytes {}-{}/{size_bytes}", part.start, part.end - 1);
                headers.insert(header::CONTENT_RANGE, value(&said));
                (StatusCode::PARTIAL_CONTENT, part)
            }
            Wanted::Unsatisfiable => return Err(beyond(size_bytes)),
        };
        let length = HeaderValue::from(part.end - part.start);
        headers.insert(header::CONTENT_LENGTH, length);
        let body = match is_head {
            true => Body::empty(),
            false => self.body(&file.open, &file.address, part).await?,
        };
        Ok(respond(status, headers, body))
    }

    /// The bytes, as they are proven. The first are there before anything is said: until then a failure has a status of its
    /// own. Later it breaks the body off.
    async fn body(
        &self,
        file: &OpenFile,
        address: &Address,
        part: Range<u64>,
    ) -> Result<Body, Failure> {
        let place = self.places.clone().acquire_owned();
        let place = tokio::time::timeout(PLACE_PATIENCE, place).await;
        let Ok(Ok(place)) = place else {
            return Err(full());
        };
        let mut reader = file.read(part)?;
        let first = in_time(address, reader.next()).await?;
        let first = stream::iter(first.map(Ok));
        let rest = Rest {
            reader,
            _place: place,
        };
        Ok(Body::from_stream(
            first.chain(stream::unfold(rest, Rest::next)),
        ))
    }
}

/// What is still to be sent.
struct Rest {
    reader: RangeReader,
    _place: OwnedSemaphorePermit,
}

impl Rest {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        match self.reader.next().await {
            Ok(bytes) => Some((Ok(bytes?), self)),
            Err(error) => {
                tracing::debug!(%error, "a body breaks off");
                Some((Err(io::Error::other(error)), self))
            }
        }
    }
}

fn another() -> Failure {
    Failure::new(
        StatusCode::PRECONDITION_FAILED,
        "this is not the file that was asked for",
        "it has another entity tag than If-Match names",
        "leave If-Match out, or ask for the address that it names",
    )
}

fn full() -> Failure {
    let failure = Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the gateway has no place at the moment",
        format!("{MAX_BODIES} files are being sent"),
        "try again when some of them are done",
    );
    failure.with(
        header::RETRY_AFTER,
        HeaderValue::from(PLACE_PATIENCE.as_secs()),
    )
}

fn beyond(size_bytes: u64) -> Failure {
    let failure = Failure::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "the file has no such bytes",
        format!("it has {size_bytes} bytes, and the range begins behind them"),
        "ask for bytes that it has",
    );
    failure.with(
        header::CONTENT_RANGE,
        value(&format!("bytes */{size_bytes}")),
    )
}

/// Numbers and plain words.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
