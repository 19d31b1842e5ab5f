//! A file's bytes, in and out.
//!
//! Neither way is a stream that broke off ever taken for a whole one: what is sent ends well only when its sender said
//! so, and what is fetched ends well only when the call did.

mod input;
mod output;

use std::{io, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use self::{
    input::{SILENCE, input},
    output::output,
};
use super::{
    calls::{Call, Calls, Work},
    errors::Problem,
    guard::LocalAddress,
    request::{DESCRIBED, Headers, Query, Segment},
    router,
};
use crate::{
    api::{self, ChunkerName, Keep, Output, Request, Source, TreeOutput},
    choke::SwarmMode,
    client::Streams,
};

/// How content is to be stored.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PutQuery {
    /// The name hint to publish.
    name: Option<String>,
    /// How to cut it.
    #[serde(default)]
    #[param(inline)]
    chunker: ChunkerName,
    /// Keep it whatever is collected or has to make room.
    #[serde(default = "yes")]
    #[param(default = true)]
    pinned: bool,
}

fn yes() -> bool {
    true
}

/// How content is to be fetched.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GetQuery {
    /// Give up after this long; by default, after the phases' own limits.
    timeout_ms: Option<u64>,
    /// Multiaddrs of peers to ask first, comma separated.
    peers: Option<String>,
    /// Keep it whatever is collected or has to make room.
    #[serde(default)]
    pin: bool,
    /// For how long it is served once it is whole: `none`, `until-exit`, a span like `30m`, `ratio=1.5` or `forever`.
    seed: Option<String>,
    /// Whether the peers of its swarm owe each other anything.
    #[param(inline)]
    swarm: Option<SwarmMode>,
    /// Send a range that begins here, and fetch no more than it takes.
    offset_bytes: Option<u64>,
    /// Send a range of this length; up to the end of the file when absent.
    length_bytes: Option<u64>,
}

impl GetQuery {
    /// The operation, and what it is asked.
    fn of_file(self, address: String) -> Result<(&'static str, Request), Problem> {
        if self.offset_bytes.is_none() && self.length_bytes.is_none() {
            let peers = self.peers();
            let request = Request::Get {
                address,
                output: Output::Stream,
                timeout_ms: self.timeout_ms,
                peers,
                keep: Keep::Auto,
                pin: self.pin,
                seed: self.seed,
                swarm: self.swarm,
            };
            return Ok(("get", request));
        }
        self.range(address, String::new())
    }

    /// The same for a range of a file, or of one in a directory.
    fn range(self, address: String, path: String) -> Result<(&'static str, Request), Problem> {
        if self.pin || self.seed.is_some() || self.swarm.is_some() {
            return Err(contradiction("pin, seed and swarm are about whole files"));
        }
        let request = Request::Cat {
            address,
            path,
            offset_bytes: self.offset_bytes.unwrap_or(0),
            length_bytes: self.length_bytes,
            timeout_ms: self.timeout_ms,
            peers: self.peers(),
        };
        Ok(("cat", request))
    }

    /// What is asked about a file in a directory.
    fn of_file_inside(
        self,
        address: String,
        path: String,
    ) -> Result<(&'static str, Request), Problem> {
        if self.offset_bytes.is_some() || self.length_bytes.is_some() {
            return self.range(address, path);
        }
        if self.swarm.is_some() {
            return Err(contradiction(
                "swarm is about files that are named by their own address",
            ));
        }
        let peers = self.peers();
        let request = Request::GetTree {
            address,
            path,
            include: Vec::new(),
            exclude: Vec::new(),
            output: TreeOutput::Stream,
            force: false,
            timeout_ms: self.timeout_ms,
            peers,
            keep: Keep::Auto,
            pin: self.pin,
            seed: self.seed,
        };
        Ok(("get_tree", request))
    }

    fn peers(&self) -> Vec<String> {
        let peers = self.peers.as_deref().unwrap_or_default();
        peers.split_terminator(',').map(str::to_owned).collect()
    }
}

fn contradiction(why: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "the query contradicts itself",
        why,
        DESCRIBED,
    )
}

/// Store what the body holds, and publish it. A body that breaks off stores nothing, and over TCP one that says nothing for 2 min.
#[utoipa::path(
    put,
    path = "/v1/content",
    operation_id = "put_content",
    tag = "content",
    params(PutQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The bytes, to the end of the body."),
    responses((status = 200, description = "It is stored.", body = crate::api::Response))
)]
pub(super) async fn put(
    State(calls): State<Arc<Calls>>,
    headers: Headers,
    over_tcp: Option<Extension<LocalAddress>>,
    Query(query): Query<PutQuery>,
    body: Body,
) -> Result<Response, Problem> {
    let request = Request::Store {
        source: Source::Stream,
        name: query.name,
        chunker: query.chunker,
        pinned: query.pinned,
        in_place: false,
    };
    let silence = over_tcp.map(|_| SILENCE);
    let input = input(calls.tasks(), body.into_data_stream(), silence);
    let work = Work {
        op: "store".to_owned(),
        request,
        streams: Streams {
            input: Some(Box::new(input)),
            output: None,
        },
    };
    router::answer(&calls, headers, work).await
}

/// Fetch a file's bytes, or a range of them, in order, each proven before it leaves. When that fails in the middle, the body
/// breaks off.
#[utoipa::path(
    get,
    path = "/v1/content/{address}",
    operation_id = "get_content",
    tag = "content",
    params(("address" = String, Path, description = "64 hex digits, or a link."), GetQuery),
    responses((status = 200, description = "The file.", body = Vec<u8>, content_type = "application/octet-stream"))
)]
pub(super) async fn get(
    State(calls): State<Arc<Calls>>,
    headers: Headers,
    Segment(address): Segment<String>,
    Query(query): Query<GetQuery>,
) -> Result<Response, Problem> {
    let (op, request) = query.of_file(address)?;
    send(&calls, headers, op, request).await
}

/// Fetch the bytes of a file in a directory, in the same way.
#[utoipa::path(
    get,
    path = "/v1/content/{address}/{path}",
    operation_id = "get_content_inside",
    tag = "content",
    params(
        ("address" = String, Path, description = "64 hex digits."),
        ("path" = String, Path, description = "Where the file is in the directory; its slashes stay as they are."),
        GetQuery
    ),
    responses((status = 200, description = "The file.", body = Vec<u8>, content_type = "application/octet-stream"))
)]
pub(super) async fn get_inside(
    State(calls): State<Arc<Calls>>,
    headers: Headers,
    Segment((address, path)): Segment<(String, String)>,
    Query(query): Query<GetQuery>,
) -> Result<Response, Problem> {
    let (op, request) = query.of_file_inside(address, path)?;
    send(&calls, headers, op, request).await
}

/// Makes a call whose output is the body of the answer.
pub(super) async fn send(
    calls: &Arc<Calls>,
    headers: Headers,
    op: &str,
    request: Request,
) -> Result<Response, Problem> {
    let (output, mut pieces) = output();
    let work = Work {
        op: op.to_owned(),
        request,
        streams: Streams {
            input: None,
            output: Some(Box::new(output)),
        },
    };
    let mut call = router::begin(calls, headers, work)?;
    // Nothing is said before the first byte is there: until then a failure has a status of its own.
    let first = pieces.recv().await;
    if first.is_none() {
        match &*call.outcome().await {
            Err(error) => return Err(error.clone().into()),
            Ok(api::Response::Directory(_)) => return Err(is_directory()),
            Ok(_) => {}
        }
    }
    let rest = Rest { call, pieces };
    let first = stream::iter(first.map(Ok));
    let body = Body::from_stream(first.chain(stream::unfold(rest, Rest::next)));
    let mut response = body.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    Ok(response)
}

fn is_directory() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "a directory has no content of its own",
        "the address is that of a directory",
        "POST /v1/ls_tree lists what is in it, and GET /v1/content/{address}/{path} reads a file of it",
    )
}

/// What is still to be sent of a file.
struct Rest {
    call: Call,
    pieces: mpsc::Receiver<Bytes>,
}

impl Rest {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        if let Some(piece) = self.pieces.recv().await {
            return Some((Ok(piece), self));
        }
        match &*self.call.outcome().await {
            Ok(_) => None,
            Err(error) => Some((Err(io::Error::other(error.clone())), self)),
        }
    }
}
