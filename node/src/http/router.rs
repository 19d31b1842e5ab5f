//! The routes, and what each call has in common.

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request as HttpRequest, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::{
    calls::{Call, CallInfo, CallName, Calls, Work},
    content,
    errors::Problem,
    events::{self, Won},
    json, openapi,
    request::{API_HEADER, DESCRIBED, Headers, Segment, check_json, check_version, read_json},
};
use crate::{
    api::{API_VERSION, Output, Request, Source, TreeOutput, call::CallError},
    client::Streams,
};

/// Who wants to follow a call may be a little earlier than the call.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(5);

/// Everything below `/v1/`.
pub(super) fn api(calls: Arc<Calls>) -> Router {
    Router::new()
        .route("/v1/{op}", post(operation))
        .route("/v1/content", axum::routing::put(content::put))
        .route("/v1/content/{address}", get(content::get))
        .route("/v1/content/{address}/{*path}", get(content::get_inside))
        .route("/v1/calls", get(list_calls))
        .route("/v1/calls/{name}", axum::routing::delete(cancel_call))
        .route("/v1/calls/{name}/events", get(follow_call))
        .route("/v1/openapi.json", get(openapi::get))
        .with_state(calls)
}

/// Adds what holds of all routes.
pub(super) fn complete(routes: Router) -> Router {
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(versioned))
}

/// Refuses clients of another version, and says this one.
async fn versioned(request: HttpRequest, next: Next) -> Response {
    let mut response = match check_version(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let version = HeaderValue::from(API_VERSION);
    response.headers_mut().insert(API_HEADER, version);
    response
}

async fn no_route() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path",
        "no route leads there",
        DESCRIBED,
    )
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take that method",
        "the header Allow names those that it takes",
        DESCRIBED,
    )
}

/// One operation: its name in the path, its fields in the body.
async fn operation(
    State(calls): State<Arc<Calls>>,
    headers: Headers,
    Segment(op): Segment<String>,
    http_headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_json(&http_headers)?;
    let body = read_json(body).await?;
    let request = Request::from_call(&op, &body).map_err(|error| {
        let status = match error {
            CallError::UnknownOperation(_) => StatusCode::NOT_FOUND,
            CallError::Malformed { .. } => StatusCode::BAD_REQUEST,
        };
        let what = format!("the request {op:?} is not understood");
        Problem::new(status, &what, error.to_string(), DESCRIBED)
    })?;
    check_input(&request)?;
    check_paths(&request)?;
    if writes_out(&request) {
        return content::send(&calls, headers, &op, request).await;
    }
    let work = Work {
        op,
        request,
        streams: Streams::default(),
    };
    answer(&calls, headers, work).await
}

/// Refuses what needs a stream of bytes beside it.
fn check_input(request: &Request) -> Result<(), Problem> {
    match request {
        Request::Store {
            source: Source::Stream,
            ..
        } => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "a stream cannot accompany this request",
            "its body is JSON",
            "send the bytes to PUT /v1/content",
        )),
        _ => Ok(()),
    }
}

/// Whether the answer is what the call writes.
fn writes_out(request: &Request) -> bool {
    matches!(
        request,
        Request::Get {
            output: Output::Stream,
            ..
        } | Request::GetTree {
            output: TreeOutput::Stream,
            ..
        } | Request::Cat { .. }
    )
}

/// Refuses paths that mean something else to the daemon than to its caller.
fn check_paths(request: &Request) -> Result<(), Problem> {
    let paths = match request {
        Request::Store {
            source: Source::File(path),
            ..
        }
        | Request::Get {
            output: Output::File { path, .. } | Output::Folder { path, .. },
            ..
        }
        | Request::GetTree {
            output: TreeOutput::At(path) | TreeOutput::In(path),
            ..
        }
        | Request::StoreTree { path, .. }
        | Request::GetMany { folder: path, .. } => std::slice::from_ref(path),
        Request::StoreMany { paths, .. } => paths.as_slice(),
        _ => &[],
    };
    match paths.iter().find(|path| !Path::new(path).is_absolute()) {
        None => Ok(()),
        Some(path) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            &format!("{} is not an absolute path", path.display()),
            "the daemon works in another folder than its caller",
            "write the path from the root",
        )),
    }
}

/// Begins a call.
pub(super) fn begin(calls: &Arc<Calls>, headers: Headers, work: Work) -> Result<Call, Problem> {
    let call = calls.begin(headers.name, work, headers.caller);
    call.ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "the call was not begun",
            "one of the same name runs",
            "take another name",
        )
    })
}

/// Makes a call, and answers with its events or with its end.
pub(super) async fn answer(
    calls: &Arc<Calls>,
    headers: Headers,
    work: Work,
) -> Result<Response, Problem> {
    let wants_events = headers.wants_events;
    let mut call = begin(calls, headers, work)?;
    if wants_events {
        let state = call.state.clone();
        return Ok(events::respond(calls.tasks().clone(), state, Some(call)));
    }
    let outcome = call.outcome().await;
    if let Err(error) = &*outcome {
        return Err(error.clone().into());
    }
    let pieces = json::pieces(calls.tasks(), "", Arc::new(Won(outcome)), "\n");
    Ok(json_response(pieces))
}

fn json_response(pieces: mpsc::Receiver<Bytes>) -> Response {
    let pieces = stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), pieces))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// What runs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct CallList {
    /// Every call, the oldest first.
    calls: Vec<CallInfo>,
}

/// List the calls that run, and those that have ended within a minute.
#[utoipa::path(
    get,
    path = "/v1/calls",
    operation_id = "list_calls",
    tag = "calls",
    responses((status = 200, description = "The calls.", body = CallList))
)]
pub(super) async fn list_calls(State(calls): State<Arc<Calls>>) -> Result<Response, Problem> {
    let list = CallList {
        calls: calls.list(),
    };
    Ok(json_response(json::pieces(
        calls.tasks(),
        "",
        Arc::new(list),
        "\n",
    )))
}

/// Follow a call: server-sent events `progress` and `warning`, and one last `result` or `error`.
///
/// It is waited 5 s for the call to begin. The end is remembered for 60 s, unless the result is longer than 1 MiB.
#[utoipa::path(
    get,
    path = "/v1/calls/{name}/events",
    operation_id = "follow_call",
    tag = "calls",
    params(("name" = String, Path, description = "What the caller named it.")),
    responses((status = 200, description = "Its events.", body = crate::api::Event, content_type = "text/event-stream"))
)]
pub(super) async fn follow_call(
    State(calls): State<Arc<Calls>>,
    Segment(name): Segment<String>,
) -> Result<Response, Problem> {
    let name = parse_name(&name)?;
    match calls.follow(&name, FOLLOW_PATIENCE).await {
        Some(state) => Ok(events::respond(calls.tasks().clone(), state, None)),
        None => Err(no_call(&name)),
    }
}

/// End a call. Whoever made it hears that it was interrupted.
#[utoipa::path(
    delete,
    path = "/v1/calls/{name}",
    operation_id = "cancel_call",
    tag = "calls",
    params(("name" = String, Path, description = "What the caller named it.")),
    responses((status = 204, description = "It was told to end."))
)]
pub(super) async fn cancel_call(
    State(calls): State<Arc<Calls>>,
    Segment(name): Segment<String>,
) -> Result<StatusCode, Problem> {
    let name = parse_name(&name)?;
    match calls.cancel(&name) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_call(&name)),
    }
}

fn parse_name(name: &str) -> Result<CallName, Problem> {
    name.parse().map_err(|why: &str| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            &format!("{name:?} is not the name of a call"),
            why,
            "GET /v1/calls lists them",
        )
    })
}

fn no_call(name: &CallName) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        &format!("there is no call {name}"),
        "none of this name runs",
        "GET /v1/calls lists them",
    )
}
