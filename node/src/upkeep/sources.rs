//! Files kept in place: when one was changed or removed, that is told once, and it is announced no more.

use std::{convert::Infallible, sync::Arc, time::Duration};

use casnode_cas::LostSource;

use crate::{node::Node, ops, publish, tasks::blocking};

/// How often they are looked at: size, time and inode of each.
const PAUSE: Duration = Duration::from_secs(60);

/// Looks at the files kept in place, now and every minute.
pub(super) async fn watch(node: Arc<Node>) -> Result<(), Infallible> {
    loop {
        let store = node.store.clone();
        match blocking(move || store.check_sources()).await {
            Ok(Ok(lost)) => {
                for lost in &lost {
                    give_up(&node, lost).await;
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "files kept in place could not be looked at"),
            Err(error) => tracing::warn!(%error, "files kept in place could not be looked at"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a person should know of a file that is not what it was.
pub(crate) fn told(lost: &LostSource) -> String {
    format!(
        "{}, which is kept in place, is {}: it is served no more; store it again, or fetch it",
        lost.path.display(),
        ops::source_state(lost.state),
    )
}

/// The store tells of each file once: its chunks count as absent from then on.
async fn give_up(node: &Node, lost: &LostSource) {
    tracing::warn!(file = %lost.address, "{}", told(lost));
    if let Err(error) = publish::withdraw(node, &lost.address, &lost.chunks).await {
        tracing::warn!(%error, "its keys stay scheduled until the next start");
    }
}
