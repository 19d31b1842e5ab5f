//! What is served no more leaves the announce schedule, and what is remembered of serving is written.

use std::{convert::Infallible, sync::Arc, time::Duration};

use crate::{clock, errors, node::Node, publish, seeding::SAVE_EVERY, tasks::blocking};

/// How often is looked whether the time of a file is over.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks after what is served for a time only, until the node ends.
pub(crate) async fn run(node: Arc<Node>) -> Result<(), Infallible> {
    let mut saved = clock::now();
    loop {
        retire_over(&node).await;
        if saved.elapsed() >= SAVE_EVERY {
            save(&node).await;
            saved = clock::now();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes files whose time is over off the announce schedule. What cannot be taken off now is at the next start.
async fn retire_over(node: &Node) {
    for address in node.seeding.take_over(clock::unix_s()) {
        match publish::retire(node, &address).await {
            Ok(()) => {
                tracing::info!(file = %address, "a file is served no more: its seeding is over")
            }
            Err(error) => tracing::warn!(
                file = %address, %error, "a file that is served no more stays announced until the next start"
            ),
        }
    }
}

/// Writes what is remembered of serving, with what was sent until now. What cannot be written now is tried again.
pub(crate) async fn save(node: &Node) {
    let seeding = node.seeding.clone();
    node.swarms.count_sent(&seeding);
    match blocking(move || seeding.save()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "for how long files are served was not written"),
        Err(error) => {
            tracing::warn!(error = %errors::panicked(error).why, "for how long files are served was not written")
        }
    }
}

#[cfg(test)]
mod tests {
    use casnode_cas::{Address, HaveBitmap, ManifestId};
    use casnode_dht::PeerId;

    use super::*;
    use crate::{
        config::NodeConfig,
        swarm::{Here, Joining, Line},
    };

    #[tokio::test]
    async fn what_was_sent_last_is_remembered_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let config = || NodeConfig {
            data_dir: dir.path().to_owned(),
            ..NodeConfig::default()
        };
        let node = Node::start(config()).await.unwrap();
        let (address, line) = (Address::from_bytes([1; 32]), Arc::new(Line::default()));
        let (member, _) = node.swarms.join(Joining {
            peer: PeerId::random(),
            manifest: ManifestId::from_bytes([1; 32]),
            line: line.clone(),
            has: HaveBitmap::new(8),
            here: Some(Here {
                address,
                have: HaveBitmap::new(8),
                live: None,
            }),
        });
        line.sent(1000, node.swarms.now());
        drop(member);
        node.shutdown().await;
        drop(node);
        let node = Node::start(config()).await.unwrap();
        assert_eq!(node.seeding.uploaded_bytes(&address), 1000);
        node.shutdown().await;
    }
}
