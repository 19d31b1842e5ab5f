//! `casnode status` and `peers`: this node.

use casnode_node::Streams;
use casnode_node::api::{ErrorKind, Request};

use crate::exit::{Failure, Result};
use crate::output;
use crate::session::Context;

/// Shows this node. Without a daemon the store's own figures are shown.
pub(crate) async fn status(context: &Context) -> Result<()> {
    let client = context.store_only().await?;
    let response = context
        .call(client, Request::Status, Streams::default())
        .await?;
    output::print(&response, context.json)
}

/// Lists the peers of the daemon; without one there are none to list.
pub(crate) async fn peers(context: &Context) -> Result<()> {
    let Some(client) = context.daemon().await? else {
        return Err(Failure::new(
            ErrorKind::Failure,
            "no daemon runs on this data directory",
            format!(
                "nothing listens in {}, so this node is connected to nobody",
                context.data_dir.display()
            ),
            "start one with `casnode daemon`, or name its data directory with --data-dir",
        ));
    };
    let response = context
        .call(client, Request::Peers, Streams::default())
        .await?;
    output::print(&response, context.json)
}
