//! `casnode status`, `peers` and `metrics`: this node.

use casnode_node::api::{ErrorKind, Request};
use casnode_node::{Client, Streams};

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

/// Prints numbers for a monitoring system. Without a daemon there are the store's.
pub(crate) async fn metrics(context: &Context) -> Result<()> {
    let client = context.store_only().await?;
    let response = context
        .call(client, Request::Metrics, Streams::default())
        .await?;
    output::print(&response, context.json)
}

/// Lists the peers of the daemon; without one there are none to list.
pub(crate) async fn peers(context: &Context) -> Result<()> {
    let client = require_daemon(context, "so this node is connected to nobody").await?;
    let response = context
        .call(client, Request::Peers, Streams::default())
        .await?;
    output::print(&response, context.json)
}

/// The daemon, of which something is asked that nobody else can tell.
pub(super) async fn require_daemon(context: &Context, so: &str) -> Result<Client> {
    context.daemon().await?.ok_or_else(|| {
        Failure::new(
            ErrorKind::Failure,
            "no daemon runs on this data directory",
            format!("nothing listens in {}, {so}", context.data_dir.display()),
            "start one with `casnode daemon`, or name its data directory with --data-dir",
        )
    })
}
