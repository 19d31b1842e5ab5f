//! The daemon: a node that stays, with its API socket.

use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, ErrorKind, StatusReport, server, socket},
    config::NodeConfig,
    node::Node,
    ops,
};

/// Runs a node with its API socket until `stop`; `on_ready` hears its state once it listens.
///
/// # Errors
/// `Busy` when another process owns the data directory, `Usage` for a malformed address, `Failure` when an address
/// cannot be listened on or the socket cannot be made.
pub async fn run_daemon(
    config: NodeConfig,
    on_ready: impl FnOnce(StatusReport),
    stop: CancellationToken,
) -> Result<(), ApiError> {
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
    on_ready(ops::status(&node).await?);
    stop.cancelled().await;
    tracing::info!("leaving");
    api.finish().await;
    let _ = socket::remove(&data_dir);
    node.shutdown().await;
    Ok(())
}
