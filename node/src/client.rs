//! A caller's end of the API: a daemon behind its socket, or a node in this process.

pub(crate) mod daemon;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use casnode_cas::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, Caller, ErrorKind, Event, Request, Response, events::EventSink, socket},
    config::NodeConfig,
    errors,
    node::Node,
};

/// How long a daemon that holds the lock may take to answer on its socket: it may just be starting.
const DAEMON_DEADLINE: Duration = Duration::from_secs(5);

/// The byte streams that accompany a call.
#[derive(Default)]
pub struct Streams {
    /// What `Source::Stream` reads.
    pub input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// What `Output::Stream` writes.
    pub output: Option<Box<dyn AsyncWrite + Send + Unpin>>,
}

/// A caller's end of the API.
#[derive(Debug)]
pub struct Client {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Daemon(PathBuf),
    InProcess(Arc<Node>),
}

impl Client {
    /// The daemon on this data directory, if one answers; `None` when no process owns the directory.
    ///
    /// # Errors
    /// `Busy` when a process owns the directory and does not answer.
    pub async fn connect(data_dir: &Path) -> Result<Option<Client>, ApiError> {
        let deadline = tokio::time::Instant::now() + DAEMON_DEADLINE;
        loop {
            if socket::connect(data_dir).await.is_ok() {
                return Ok(Some(Client {
                    inner: Inner::Daemon(data_dir.to_owned()),
                }));
            }
            let Some(owner) = owner(data_dir)? else {
                return Ok(None);
            };
            if tokio::time::Instant::now() >= deadline {
                return Err(busy(data_dir, owner));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether there is a store in a data directory, which a command that only looks does not make.
    pub fn has_store(data_dir: &Path) -> bool {
        Store::exists(data_dir)
    }

    /// Opens the store in this process and, where the configuration names a network, runs a node. Where a daemon has
    /// started since [`Client::connect`] found none, that daemon does the work.
    ///
    /// # Errors
    /// `Busy` when another process owns the data directory, `Usage` for a malformed address.
    pub async fn in_process(config: NodeConfig) -> Result<Client, ApiError> {
        let data_dir = config.data_dir.clone();
        match Node::start(config).await {
            Ok(node) => Ok(Client {
                inner: Inner::InProcess(node),
            }),
            // A daemon that started in the meantime does the work as well.
            Err(busy) if busy.kind == ErrorKind::Busy => {
                Self::connect(&data_dir).await?.ok_or(busy)
            }
            Err(error) => Err(error),
        }
    }

    /// True when a daemon does the work.
    pub fn is_daemon(&self) -> bool {
        matches!(self.inner, Inner::Daemon(_))
    }

    /// Makes one call. Dropping the future cancels it; what was fetched is kept.
    ///
    /// # Errors
    /// Whatever the node says, with its kind; `Failure` when the daemon goes away in the middle; of a stream that fails
    /// here, `NoSpace` where the disk is full, else `Failure`.
    pub async fn call(
        &self,
        request: Request,
        streams: Streams,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Response, ApiError> {
        match &self.inner {
            Inner::InProcess(node) => {
                let cancel = CancellationToken::new();
                let _guard = cancel.clone().drop_guard();
                let (sink, mut queue) = EventSink::new();
                // A task like all it works with: whoever called may run on a thread of its own, and to tell something to
                // another thread costs a switch of threads each time.
                let worker = node.clone();
                let call = node.tasks.awaited("call", async move {
                    let caller = Caller::default();
                    worker.execute(request, caller, streams, sink, cancel).await
                });
                let listen = async {
                    while let Some(event) = queue.recv().await {
                        on_event(event);
                    }
                };
                let (outcome, ()) = tokio::join!(call, listen);
                outcome.map_err(errors::panicked)?
            }
            Inner::Daemon(data_dir) => daemon::call(data_dir, request, streams, on_event)
                .await
                .unwrap_or_else(|error| Err(error.into())),
        }
    }

    /// Leaves the network and flushes the store, within bounds. A daemon is left as it is.
    pub async fn close(self) {
        if let Inner::InProcess(node) = self.inner {
            node.shutdown().await;
        }
    }
}

/// Who owns the data directory, if anybody does.
fn owner(data_dir: &Path) -> Result<Option<Option<u32>>, ApiError> {
    Store::locked_by(data_dir).map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            format!(
                "the data directory {} could not be looked at",
                data_dir.display()
            ),
            error.to_string(),
            "check its permissions, or name another folder with --data-dir",
        )
    })
}

pub(crate) fn busy(data_dir: &Path, pid: Option<u32>) -> ApiError {
    let who = pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    );
    ApiError::new(
        ErrorKind::Busy,
        format!("the data directory {} is in use", data_dir.display()),
        format!("{who} owns it"),
        "wait for it to end, stop it, or name another folder with --data-dir",
    )
}
