//! What of a daemon's settings changes while it runs.

use std::{convert::Infallible, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use crate::{
    api::{ApiError, LimitsChange},
    config::StoreLimit,
    node::Node,
    ops,
};

/// Settings that are to change; `None` is as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// The most that is sent and taken.
    pub limits: LimitsChange,
    /// The most that the store may take.
    pub max_store: Option<StoreLimit>,
    /// Pace of the background check of stored bytes; `Some(None)`: off.
    pub scrub_bytes_per_s: Option<Option<u64>>,
}

/// A change, and who waits for it to be made.
#[derive(Debug)]
pub struct ChangeCall {
    /// What is to change.
    pub change: SettingsChange,
    /// Hears how it went. Settings after the first that could not be changed are as they were.
    pub done: oneshot::Sender<Result<(), ApiError>>,
}

/// Makes changes until the node ends, or nobody can ask for one.
pub(crate) async fn run(
    node: Arc<Node>,
    mut calls: mpsc::Receiver<ChangeCall>,
) -> Result<(), Infallible> {
    while let Some(ChangeCall { change, done }) = calls.recv().await {
        let changed = apply(&node, change).await;
        // Whoever asked may have left.
        let _ = done.send(changed);
    }
    Ok(())
}

/// What can be refused comes first.
async fn apply(node: &Node, change: SettingsChange) -> Result<(), ApiError> {
    node.set_store_limit(change.max_store).await?;
    if change.limits != LimitsChange::default() {
        ops::change_limits(node, change.limits)?;
    }
    if let Some(bytes_per_s) = change.scrub_bytes_per_s {
        node.upkeep.set_scrub_pace(bytes_per_s);
    }
    Ok(())
}
