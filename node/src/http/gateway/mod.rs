//! The gateway: `GET /b3/<address>[/path]`, for browsers and players. It only reads.
//!
//! [`path`] says where a request leads, [`directory`] what is there, [`ranges`] which bytes of it are wanted; [`headers`]
//! and [`page`] are what is said beside them. What is not here is fetched, and a player that seeks waits for what it
//! needs alone.

mod directory;
mod failure;
mod headers;
mod page;
mod path;
mod ranges;
mod send;
mod visits;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request as HttpRequest, State},
    response::Response,
    routing::get,
};
use casnode_cas::Address;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::Deserialize;
use tokio::sync::Semaphore;

use self::{
    directory::{Found, Listings},
    failure::{Failure, respond, wrong},
    headers::Shown,
    send::{File, MAX_BODIES},
    visits::Visits,
};
use crate::{
    api::{ApiError, events::EventSink},
    node::Node,
    read::{OpenFile, ReadOptions},
};

/// Where the gateway is.
const PREFIX: &str = "/b3/";

/// A browser is told within this time whether there is anything to come.
const FIRST_BYTE_DEADLINE: Duration = Duration::from_secs(60);

/// How long a file's name is waited for: it says what the file is.
const NAME_PATIENCE: Duration = Duration::from_secs(2);

/// The routes of the gateway.
pub(super) fn routes(node: Arc<Node>) -> Router {
    let gateway = Arc::new(Gateway {
        node,
        listings: Listings::default(),
        visits: Visits::default(),
        places: Arc::new(Semaphore::new(MAX_BODIES)),
    });
    Router::new()
        .route("/b3/{*path}", get(read))
        .with_state(gateway)
}

/// What the requests share.
struct Gateway {
    node: Arc<Node>,
    listings: Listings,
    visits: Visits,
    /// Places for those that are sent something.
    places: Arc<Semaphore>,
}

/// How a file is to be shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    /// The name that says what it is, and that it is saved under.
    filename: Option<String>,
    /// As a download; whatever the value, but `0` and `false`.
    download: Option<String>,
    /// Of the page of a folder: so many entries were shown before.
    skip: u64,
}

impl Options {
    fn of(uri: &Uri) -> Result<Self, Failure> {
        let Query(options) = Query::try_from_uri(uri)
            .map_err(|_| wrong("what follows the question mark is not understood"))?;
        Ok(options)
    }

    fn shown(&self) -> Shown {
        match self.download.as_deref() {
            None | Some("0" | "false") => Shown::Inline,
            Some(_) => Shown::Attached,
        }
    }
}

async fn read(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response {
    let (head, _) = request.into_parts();
    match gateway.answer(&head.method, &head.uri, &head.headers).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(&head.headers),
    }
}

impl Gateway {
    async fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        request: &HeaderMap,
    ) -> Result<Response, Failure> {
        // As it was sent: nothing has decoded it.
        let path = uri.path().strip_prefix(PREFIX).unwrap_or_default();
        let place = path::parse(path).map_err(wrong)?;
        let options = Options::of(uri)?;
        if !self.visits.allow(&place.address, request) {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "a page of another site is not shown this",
                "it would learn what is here",
                "open the address itself",
            ));
        }
        match self.find(&place, options.skip).await? {
            Found::File {
                file,
                address,
                name,
            } => {
                let name = options.filename.clone().or(name);
                let headers = headers::of_file(&address, name.as_deref(), options.shown());
                let file = File {
                    open: file,
                    address,
                    headers,
                };
                self.send(file, method, request).await
            }
            Found::Folder { page } => {
                let mut headers = headers::of_page();
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(page.len()));
                Ok(respond(StatusCode::OK, headers, Body::from(page)))
            }
            Found::Elsewhere { path } => {
                let mut headers = headers::of_page();
                if let Ok(path) = HeaderValue::from_str(&path) {
                    headers.insert(header::LOCATION, path);
                }
                Ok(respond(StatusCode::FOUND, headers, Body::empty()))
            }
        }
    }

    async fn open(&self, address: Address) -> Result<OpenFile, Failure> {
        let (events, _nobody) = EventSink::new();
        let options = ReadOptions {
            name_patience: NAME_PATIENCE,
            ..ReadOptions::default()
        };
        let open = OpenFile::open(&self.node, address, options, &events);
        in_time(&address, open).await
    }
}

/// What is not there within [`FIRST_BYTE_DEADLINE`] is not there in time for whoever waits.
async fn in_time<T>(
    address: &Address,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(FIRST_BYTE_DEADLINE, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failure::new(
            StatusCode::GATEWAY_TIMEOUT,
            &format!("{address} could not be read in time"),
            format!("nothing came within {} s", FIRST_BYTE_DEADLINE.as_secs()),
            "load the page again: what came meanwhile is kept",
        )),
    }
}
