//! The daemon: a node that stays, with its API socket.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, ErrorKind, StatusReport, server, socket},
    change::{self, ChangeCall},
    config::NodeConfig,
    node::Node,
    ops,
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

/// Runs a node with its API socket until `stop`, and makes `changes` meanwhile; `on_ready` hears its state once it listens.
///
/// # Errors
/// `Busy` when another process owns the data directory, `Usage` for a malformed address, `Failure` when an address
/// cannot be listened on or the socket cannot be made.
pub async fn run_daemon(
    config: NodeConfig,
    changes: mpsc::Receiver<ChangeCall>,
    on_ready: impl FnOnce(StatusReport),
    stop: CancellationToken,
) -> Result<(), ApiError> {
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
    let data_dir = config.data_dir.clone();
    let node = Node::start(config).await?;
    let listener = match socket::bind(&data_dir) {
        Ok(listener) => listener,
        Err(error) => {
            node.shutdown().await;
            return Err(ApiError::new(
                ErrorKind::Failure,
                format!(
                    "the socket {} could not be made",
                    socket::socket_path(&data_dir).display()
                ),
                error.to_string(),
                "choose a data directory with a short path on a local file system",
            ));
        }
    };
    let api = node.tasks.child();
    api.spawn("api", server::serve(listener, node.clone(), api.clone()));
    api.spawn("changes", change::run(node.clone(), changes));
    on_ready(ops::status(&node).await?);
    stop.cancelled().await;
    tracing::info!("leaving");
    api.finish().await;
    let _ = socket::remove(&data_dir);
    node.shutdown().await;
    Ok(())
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
