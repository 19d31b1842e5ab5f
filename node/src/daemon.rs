//! The daemon: a node that stays, with its local API.

use std::{io, net::SocketAddr, sync::Arc};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, ErrorKind, StatusReport, socket},
    change::{self, ChangeCall},
    config::{HttpConfig, NodeConfig},
    http::{self, calls::Calls, listen, token::Token},
    node::Node,
    ops,
    tasks::Tasks,
};

/// Open files that a daemon has use for: a thousand connections, callers, packs and the index, many times over.
const OPEN_FILES: u64 = 65_536;

/// Raises the soft limit of open files to the hard one, up to [`OPEN_FILES`]: the usual 1024 are fewer than the
/// connections a daemon accepts.
fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    // No soft limit is no limit.
    if limit.current.is_none_or(|soft| soft >= wanted) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Runs a node with its local API until `stop`, and makes `changes` meanwhile; `on_ready` hears its state once it listens.
/// Without `http` the API is on the socket alone.
///
/// # Errors
/// `Busy` when another process owns the data directory, `Usage` for a malformed address, `Failure` when an address
/// cannot be listened on or the socket cannot be made.
pub async fn run_daemon(
    config: NodeConfig,
    http: Option<HttpConfig>,
    changes: mpsc::Receiver<ChangeCall>,
    on_ready: impl FnOnce(StatusReport),
    stop: CancellationToken,
) -> Result<(), ApiError> {
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
    let data_dir = config.data_dir.clone();
    let node = Node::start(config).await?;
    let api = node.tasks.child();
    if let Err(error) = open_api(&node, &api, http).await {
        api.finish().await;
        let _ = socket::remove(&data_dir);
        node.shutdown().await;
        return Err(error);
    }
    api.spawn("changes", change::run(node.clone(), changes));
    on_ready(ops::status(&node).await?);
    stop.cancelled().await;
    tracing::info!("leaving");
    api.finish().await;
    let _ = socket::remove(&data_dir);
    node.shutdown().await;
    Ok(())
}

/// Opens the local API: on the socket, and over TCP where that is wanted.
async fn open_api(node: &Arc<Node>, api: &Tasks, http: Option<HttpConfig>) -> Result<(), ApiError> {
    let data_dir = &node.data_dir;
    let socket = socket::bind(data_dir).map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            format!(
                "the socket {} could not be made",
                socket::socket_path(data_dir).display()
            ),
            error.to_string(),
            "choose a data directory with a short path on a local file system",
        )
    })?;
    let calls = Calls::new(node.clone(), api.clone());
    let router = http::on_socket(&calls);
    let places = listen::MAX_SOCKET_CONNECTIONS;
    api.spawn("api", listen::serve(socket, router, places, api.clone()));
    match http {
        Some(http) => open_tcp(node, api, &calls, http).await,
        None => Ok(()),
    }
}

async fn open_tcp(
    node: &Arc<Node>,
    api: &Tasks,
    calls: &Arc<Calls>,
    config: HttpConfig,
) -> Result<(), ApiError> {
    let at = config.listen;
    let listener = match TcpListener::bind(at).await {
        Ok(listener) => listener,
        Err(error) if config.optional => {
            tracing::warn!(%error, "the local API is on the socket alone: {at} cannot be listened on; --http takes another one");
            return Ok(());
        }
        Err(error) => {
            return Err(no_tcp(
                at,
                &error,
                "name another address with --http, or `--http off`",
            ));
        }
    };
    let bound = listener.local_addr();
    let bound = bound.map_err(|error| no_tcp(at, &error, "name another address with --http"))?;
    let token = Token::load_or_create(&node.data_dir).map_err(|error| {
        no_tcp(
            at,
            &error,
            "look at the file api.token in the data directory; without it a new one is made",
        )
    })?;
    node.set_http(bound);
    let router = http::on_tcp(calls, token, config.hosts);
    let places = listen::MAX_TCP_CONNECTIONS;
    api.spawn("http", listen::serve(listener, router, places, api.clone()));
    Ok(())
}

fn no_tcp(at: SocketAddr, error: &io::Error, next: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Failure,
        format!("the local API cannot be served on {at}"),
        error.to_string(),
        next,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_allowed_and_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        let wanted = before
            .maximum
            .map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
        // One less is enough to see it rise, and takes nothing from the tests beside this one.
        let lower = Rlimit {
            current: Some(wanted - 1),
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, lower).unwrap();
        raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(wanted));
        if before.maximum.is_none_or(|hard| hard > wanted) {
            let higher = Rlimit {
                current: Some(wanted + 1),
                maximum: before.maximum,
            };
            setrlimit(Resource::Nofile, higher).unwrap();
            raise_open_files().unwrap();
            assert_eq!(getrlimit(Resource::Nofile).current, Some(wanted + 1));
        }
    }
}
