//! `casnode status`, `limits`, `peers` and `metrics`: this node.

use casnode_node::api::{ErrorKind, LimitsChange, Request};
use casnode_node::{Client, Streams};

use crate::address::Address;
use crate::args::LimitsArgs;
use crate::exit::{Failure, Result};
use crate::output;
use crate::session::Context;

/// Shows this node. Without a daemon the store's own figures are shown.
pub(crate) async fn status(context: &Context, address: Option<Address>) -> Result<()> {
    if let Some(address) = address {
        return swarm(context, address).await;
    }
    let client = context.store_only().await?;
    let response = context
        .call(client, Request::Status, Streams::default())
        .await?;
    output::print(&response, context.json)
}

/// Shows a file's swarm. Without a daemon this node is in none.
async fn swarm(context: &Context, address: Address) -> Result<()> {
    let client = require_daemon(context, "so nothing is shared").await?;
    let request = Request::SwarmStatus {
        address: address.into_string(),
    };
    let response = context.call(client, request, Streams::default()).await?;
    output::print(&response, context.json)
}

/// Shows how much the daemon sends and takes, and changes how much it may.
pub(crate) async fn limits(context: &Context, args: LimitsArgs) -> Result<()> {
    let so = "and the limits of a command's own node are given with --max-up and --max-down";
    let client = require_daemon(context, so).await?;
    let change = LimitsChange {
        up: args.up.map(|rate| rate.0),
        down: args.down.map(|rate| rate.0),
        local: args.local,
    };
    let change = (change != LimitsChange::default()).then_some(change);
    let request = Request::Limits { change };
    let response = context.call(client, request, Streams::default()).await?;
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
