//! The daemon: a node that stays, with its local API.

use std::{io, net::SocketAddr, os::unix::net, path::Path, sync::Arc};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::mpsc,
};
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

/// Sockets that listen already: somebody else opened them, and keeps them when the daemon ends.
#[derive(Debug, Default)]
pub struct PassedSockets {
    /// The one in the data directory.
    pub api: Option<net::UnixListener>,
    /// Where the local API is served over TCP; of [`HttpConfig`] the names alone count then.
    pub http: Option<std::net::TcpListener>,
}

/// Runs a node with its local API until `stop`, and makes `changes` meanwhile; `on_ready` hears its state once it listens.
/// Without `http` the API is on the socket alone. What is `passed` is not opened.
///
/// # Errors
/// `Busy` when another process owns the data directory, `Usage` for a malformed address, `Failure` when an address
/// cannot be listened on or the socket cannot be made, `Interrupted` when `stop` comes while it starts.
pub async fn run_daemon(
    config: NodeConfig,
    http: Option<HttpConfig>,
    passed: PassedSockets,
    changes: mpsc::Receiver<ChangeCall>,
    on_ready: impl FnOnce(StatusReport),
    stop: CancellationToken,
) -> Result<(), ApiError> {
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
    let data_dir = config.data_dir.clone();
    let owns_socket = passed.api.is_none();
    let close = || {
        if owns_socket {
            let _ = socket::remove(&data_dir);
        }
    };
    // Making the index of a large store anew takes minutes, and what is done of it by then is lost anyway.
    let started = stop.run_until_cancelled(Node::start(config)).await;
    let node = started.ok_or_else(not_started)??;
    let api = node.tasks.child();
    if let Err(error) = open_api(&node, &api, http, passed).await {
        api.finish().await;
        close();
        node.shutdown().await;
        return Err(error);
    }
    api.spawn("changes", change::run(node.clone(), changes));
    if let Some(status) = stop.run_until_cancelled(ops::status(&node)).await {
        on_ready(status?);
    }
    stop.cancelled().await;
    tracing::info!("leaving");
    api.finish().await;
    close();
    node.shutdown().await;
    Ok(())
}

fn not_started() -> ApiError {
    ApiError::new(
        ErrorKind::Interrupted,
        "the daemon did not start",
        "it was told to stop before it listened",
        "start it again: nothing stored is lost",
    )
}

/// Opens the local API: on the socket, and over TCP where that is wanted.
async fn open_api(
    node: &Arc<Node>,
    api: &Tasks,
    http: Option<HttpConfig>,
    passed: PassedSockets,
) -> Result<(), ApiError> {
    let socket = open_socket(&node.data_dir, passed.api)?;
    let calls = Calls::new(node.clone(), api.clone());
    let router = http::on_socket(&calls);
    let places = listen::MAX_SOCKET_CONNECTIONS;
    api.spawn("api", listen::serve(socket, router, places, api.clone()));
    match http {
        Some(http) => open_tcp(node, api, &calls, http, passed.http).await,
        None => Ok(()),
    }
}

fn open_socket(
    data_dir: &Path,
    passed: Option<net::UnixListener>,
) -> Result<UnixListener, ApiError> {
    let at = socket::socket_path(data_dir);
    match passed {
        Some(passed) => socket::adopt(data_dir, passed).map_err(|error| {
            ApiError::new(
                ErrorKind::Failure,
                "the socket that was passed cannot be used",
                error.to_string(),
                format!("let the service manager listen at {}", at.display()),
            )
        }),
        None => socket::bind(data_dir).map_err(|error| {
            ApiError::new(
                ErrorKind::Failure,
                format!("the socket {} could not be made", at.display()),
                error.to_string(),
                "choose a data directory with a short path on a local file system",
            )
        }),
    }
}

async fn open_tcp(
    node: &Arc<Node>,
    api: &Tasks,
    calls: &Arc<Calls>,
    config: HttpConfig,
    passed: Option<std::net::TcpListener>,
) -> Result<(), ApiError> {
    let at = config.listen;
    let opened = match passed {
        Some(passed) => passed
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(passed)),
        None => TcpListener::bind(at).await,
    };
    let listener = match opened {
        Ok(listener) => listener,
        Err(error) if config.optional => {
            node.set_no_http(format!("{at}: {error}"));
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
    use std::time::{Duration, Instant};

    use casnode_cas::{Store, StoreConfig};

    use super::*;
    use crate::{budget::MemoryBudget, seeding::SeedPolicy};

    #[tokio::test]
    async fn a_start_that_takes_long_is_left_at_once() {
        let dir = tempfile::tempdir().unwrap();
        // While somebody else has the store, a start waits for it.
        let _other = Store::open(dir.path(), StoreConfig::default()).unwrap();
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            network: None,
            serve_dht: true,
            max_store: None,
            scrub_bytes_per_s: None,
            seed: SeedPolicy::default(),
            memory: MemoryBudget::default(),
        };
        let (stop, (_calls, changes)) = (CancellationToken::new(), mpsc::channel(1));
        let never = |_| panic!("it did not start");
        let passed = PassedSockets::default();
        let daemon = run_daemon(config, None, passed, changes, never, stop.clone());
        let began = Instant::now();
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(daemon, stopping);
        assert_eq!(ended.unwrap_err().kind, ErrorKind::Interrupted);
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "it was waited for"
        );
    }

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
