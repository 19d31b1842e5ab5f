//! A caller's end of the API: a daemon behind its socket, or a node in this process.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::api::{ApiError, ErrorKind, Event, Request, Response, StatusReport};
use crate::config::NodeConfig;

/// The byte streams that accompany a call.
#[derive(Default)]
pub struct Streams {
    /// What `Source::Stream` reads.
    pub input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// What `Output::Stream` writes.
    pub output: Option<Box<dyn AsyncWrite + Send + Unpin>>,
}

/// A caller's end of the API.
pub struct Client {}

impl Client {
    /// The daemon on this data directory, if one answers; `None` when none runs.
    pub async fn connect(_data_dir: &Path) -> Result<Option<Client>, ApiError> {
        Ok(None)
    }

    /// Opens the store in this process and, where `network` is given, runs a node.
    pub async fn in_process(_config: NodeConfig) -> Result<Client, ApiError> {
        Ok(Client {})
    }

    /// True when a daemon does the work.
    pub fn is_daemon(&self) -> bool {
        false
    }

    /// Makes one call. Dropping the future cancels it; what was fetched is kept.
    pub async fn call(
        &self,
        _request: Request,
        _streams: Streams,
        _on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Response, ApiError> {
        Err(ApiError::new(ErrorKind::Failure, "not yet", "", ""))
    }

    /// Leaves the network and flushes the store, within bounds.
    pub async fn close(self) {}
}

/// Runs a node with its API socket until `stop`; `on_ready` hears its state once it listens.
pub async fn run_daemon(
    _config: NodeConfig,
    _on_ready: impl FnOnce(StatusReport),
    _stop: CancellationToken,
) -> Result<(), ApiError> {
    Ok(())
}
