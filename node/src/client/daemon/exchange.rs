//! One request and its answer over a connection of its own.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use form_urlencoded::Serializer;
use futures::{TryStreamExt, stream};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::UnixStream,
};

use super::CallError;
use crate::{
    api::{API_VERSION, ApiError, Caller, ErrorKind, Request},
    http::{
        errors::ErrorBody,
        events::EVENT_STREAM,
        request::{API_HEADER, CALL_HEADER, UMASK_HEADER},
    },
};

/// Bytes that are read at once, of the input and of the connection.
const PIECE_BYTES: usize = 256 << 10;

/// Longest error that is read.
const MAX_ERROR_BYTES: usize = 1 << 20;

/// The body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request as HTTP has it.
pub(super) type Asked = http::Request<Body>;

/// What the daemon answers.
pub(super) enum Answer {
    /// What was asked for.
    Body(Incoming),
    /// Why not.
    Refused(ApiError),
}

/// The byte stream that accompanies a request.
pub(super) struct Input {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    failure: InputFailure,
}

/// Where it is noted why an input broke off.
#[derive(Clone, Default)]
pub(super) struct InputFailure(Arc<Mutex<Option<io::Error>>>);

impl InputFailure {
    fn set(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Why it broke off, if it did.
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Input {
    pub(super) fn new(stream: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self {
            stream,
            failure: InputFailure::default(),
        }
    }

    pub(super) fn failure(&self) -> InputFailure {
        self.failure.clone()
    }

    /// Its bytes to the end. Where it breaks off, so does the body: it is never taken for whole.
    fn into_body(self) -> Body {
        let pieces = stream::try_unfold((self, BytesMut::new()), |(mut input, mut buffer)| async {
            buffer.reserve(PIECE_BYTES);
            let read = input.stream.read_buf(&mut buffer).await;
            match read {
                Ok(0) => Ok(None),
                Ok(_) => {
                    let piece = buffer.split().freeze();
                    Ok(Some((Frame::data(piece), (input, buffer))))
                }
                Err(error) => {
                    let kind = error.kind();
                    input.failure.set(error);
                    Err(io::Error::from(kind))
                }
            }
        });
        StreamBody::new(pieces.into_stream()).boxed_unsync()
    }
}

/// The request of a call whose answer is a stream of events.
pub(super) fn ask_for_events(request: &Request, input: Option<Input>) -> io::Result<Asked> {
    let mut asked = match (request, input) {
        (
            Request::Store {
                name,
                chunker,
                pinned,
                ..
            },
            Some(input),
        ) => {
            let mut query = Serializer::new(String::new());
            if let Some(name) = name {
                query.append_pair("name", name);
            }
            let chunker = serde_json::to_value(chunker)?;
            query.append_pair("chunker", chunker.as_str().unwrap_or_default());
            query.append_pair("pinned", &pinned.to_string());
            let uri = format!("/v1/content?{}", query.finish());
            let asked = begin(Method::PUT, &uri).body(input.into_body());
            asked.map_err(io::Error::other)?
        }
        _ => post(request)?,
    };
    let events = HeaderValue::from_static(EVENT_STREAM);
    asked.headers_mut().insert(header::ACCEPT, events);
    Ok(asked)
}

/// The request of a call of this name, whose answer is what it writes.
pub(super) fn ask_for_bytes(request: &Request, name: &str) -> io::Result<Asked> {
    let mut asked = post(request)?;
    let name = HeaderValue::from_str(name).map_err(io::Error::other)?;
    asked.headers_mut().insert(CALL_HEADER, name);
    Ok(asked)
}

/// The request for the events of the call of this name.
pub(super) fn ask_to_follow(name: &str) -> io::Result<Asked> {
    let nothing = Full::default().map_err(|never| match never {});
    let asked =
        begin(Method::GET, &format!("/v1/calls/{name}/events")).body(nothing.boxed_unsync());
    asked.map_err(io::Error::other)
}

fn post(request: &Request) -> io::Result<Asked> {
    let (op, fields) = request.to_call()?;
    let body = Full::from(serde_json::to_vec(&fields)?);
    let asked = begin(Method::POST, &format!("/v1/{op}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.map_err(|never| match never {}).boxed_unsync());
    asked.map_err(io::Error::other)
}

fn begin(method: Method, uri: &str) -> http::request::Builder {
    let asked = http::Request::builder()
        .method(method)
        .uri(uri)
        .header(header::HOST, "localhost")
        .header(API_HEADER, API_VERSION);
    match Caller::this().umask {
        Some(umask) => asked.header(UMASK_HEADER, format!("{umask:o}")),
        None => asked,
    }
}

/// Sends a request over a connection and does with its answer what is to be done. The body of the request goes on
/// being sent meanwhile.
pub(super) async fn over<T>(
    stream: UnixStream,
    asked: Asked,
    use_answer: impl AsyncFnOnce(Answer) -> Result<T, CallError>,
) -> Result<T, CallError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(PIECE_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let work = async {
        let response = sender.send_request(asked).await?;
        let (head, body) = response.into_parts();
        let answer = match head.status {
            StatusCode::OK => Answer::Body(body),
            status => Answer::Refused(read_error(status, body).await?),
        };
        use_answer(answer).await
    };
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        // What was read before is there yet.
        _ = connection => work.await,
    }
}

async fn read_error(status: StatusCode, body: Incoming) -> Result<ApiError, CallError> {
    let body = Limited::new(body, MAX_ERROR_BYTES).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    Ok(match serde_json::from_slice(&body) {
        Ok(ErrorBody { error }) => error,
        Err(_) => ApiError::new(
            ErrorKind::Failure,
            "the daemon did not understand the command",
            format!("it answered with status {status}"),
            "run the same version of casnode as the daemon, or restart the daemon",
        ),
    })
}
