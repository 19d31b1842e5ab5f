//! For how long a file is served: what is said of it, and serving while a command waits.

use std::{sync::Arc, time::Duration};

use casnode_cas::{Address, FileEntry};

use super::{
    files::{not_here, on_store},
    network::joined,
};
use crate::{
    api::{ApiError, Outcome, Phase, Progress, Response, SeedReport, events::EventSink},
    clock, errors,
    node::Node,
    publish,
    seeding::SeedPolicy,
};

/// How often whoever waits is told how it goes, and is looked whether it is over.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// For how long a file is served, and what it has given.
pub(super) fn seed_report(node: &Node, address: &Address, size_bytes: u64) -> SeedReport {
    let seeding = &node.seeding;
    let uploaded_bytes = seeding.uploaded_bytes(address);
    let finished_s = seeding.finished_s(address);
    report(
        seeding.policy(address),
        finished_s,
        clock::unix_s(),
        uploaded_bytes,
        size_bytes,
    )
}

fn report(
    policy: SeedPolicy,
    finished_s: Option<u64>,
    now_s: u64,
    uploaded_bytes: u64,
    size_bytes: u64,
) -> SeedReport {
    let over = policy.is_over(finished_s, now_s, uploaded_bytes, size_bytes);
    let left_ms = match (policy, finished_s) {
        (SeedPolicy::For(span), Some(finished_s)) => {
            let end_s = finished_s.saturating_add(span.as_secs());
            Some(end_s.saturating_sub(now_s).saturating_mul(1_000))
        }
        _ => None,
    };
    SeedReport {
        policy: policy.to_string(),
        finished_unix_ms: finished_s.map(|finished_s| finished_s.saturating_mul(1_000)),
        uploaded_bytes,
        ratio: if size_bytes == 0 {
            0.0
        } else {
            uploaded_bytes as f64 / size_bytes as f64
        },
        left_ms,
        left_bytes: wanted_bytes(policy, size_bytes).map(|all| all.saturating_sub(uploaded_bytes)),
        over,
    }
}

/// How many bytes are sent in all, where a ratio says so.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a ratio is positive, and float to integer casts saturate"
)]
fn wanted_bytes(policy: SeedPolicy, size_bytes: u64) -> Option<u64> {
    match policy {
        SeedPolicy::Ratio(ratio) => Some((size_bytes as f64 * ratio).ceil() as u64),
        _ => None,
    }
}

/// Reads a policy that a person wrote.
pub(super) fn parse_policy(text: &str) -> Result<SeedPolicy, ApiError> {
    text.parse()
        .map_err(|error: crate::seeding::SeedPolicyError| {
            ApiError::new(
                crate::api::ErrorKind::Usage,
                format!("--seed {text} says nothing of how long"),
                error.to_string(),
                "write none, until-exit, a time like 30m, a ratio like ratio=1.5, or forever",
            )
        })
}

/// Serves a file until its seeding is over, or it is not here any more: for a node that is there for a command alone.
pub(super) async fn linger(node: &Arc<Node>, address: &str, events: &EventSink) -> Outcome {
    let address: Address = super::parse("an address", address)?;
    joined(node, "nothing is served")?;
    let entry = announce(node, address).await?;
    loop {
        if on_store(node, move |store| store.file(&address))
            .await?
            .is_none()
        {
            return Err(not_here(&address));
        }
        let seed = seed_report(node, &address, entry.size_bytes);
        if seed.over {
            return Ok(Response::Linger(seed));
        }
        let view = node.swarms.report(entry.manifest);
        let asking = view
            .peers
            .iter()
            .filter(|p| p.choked_by_us.is_some())
            .count();
        events.progress(Progress {
            phase: Phase::Seeding,
            done_bytes: seed.uploaded_bytes,
            total_bytes: wanted_bytes(node.seeding.policy(&address), entry.size_bytes),
            sources: 0,
            detail: told(asking as u64, &seed),
        });
        tokio::time::sleep(TOLD_EVERY).await;
    }
}

/// Tells the DHT of a file that is here, while it goes on.
async fn announce(node: &Arc<Node>, address: Address) -> Result<FileEntry, ApiError> {
    let found = on_store(node, move |store| {
        Ok(store.file(&address)?.zip(store.manifest(&address)?))
    });
    let (entry, manifest) = found.await?.ok_or_else(|| not_here(&address))?;
    let all = publish::file_and_chunks(node.clone(), manifest, entry.name.clone());
    node.tasks.spawn("publish", all);
    Ok(entry)
}

/// How serving goes, in words.
fn told(peers: u64, seed: &SeedReport) -> String {
    let mut text = format!("{}, ratio {:.2}", errors::count(peers, "peer"), seed.ratio);
    if let Some(left_ms) = seed.left_ms {
        let left = Duration::from_secs(left_ms.div_ceil(1_000));
        text.push_str(&format!(", {} left", humantime::format_duration(left)));
    }
    text
}

#[cfg(test)]
mod tests {
    use casnode_cas::import_reader;

    use super::*;
    use crate::config::{NetworkConfig, NodeConfig};

    #[test]
    fn what_is_left_is_time_or_bytes_or_neither() {
        let of = |policy: &str, finished_s, now_s, uploaded| {
            let policy = policy.parse().unwrap();
            report(policy, finished_s, now_s, uploaded, 1_000)
        };
        let timed = of("30m", Some(100), 160, 500);
        assert_eq!(timed.left_ms, Some(1_740_000));
        assert_eq!((timed.left_bytes, timed.over), (None, false));
        assert_eq!(timed.finished_unix_ms, Some(100_000));
        assert!((timed.ratio - 0.5).abs() < 1e-9);
        let gone = of("30m", Some(100), 5_000, 0);
        assert_eq!((gone.left_ms, gone.over), (Some(0), true));
        let given = of("ratio=1.5", Some(100), 160, 500);
        assert_eq!((given.left_ms, given.left_bytes), (None, Some(1_000)));
        assert!(of("ratio=1.5", Some(100), 160, 1_500).over);
        let forever = of("forever", None, 160, 0);
        assert_eq!((forever.left_ms, forever.left_bytes), (None, None));
        assert!(!forever.over);
        assert!(of("none", Some(100), 100, 0).over);
    }

    #[test]
    fn how_it_goes_is_told_with_the_time_that_is_left() {
        let seed = report(
            SeedPolicy::For(Duration::from_secs(1_800)),
            Some(100),
            108,
            750,
            1_000,
        );
        assert_eq!(told(1, &seed), "1 peer, ratio 0.75, 29m 52s left");
    }

    #[test]
    fn what_is_no_policy_is_wrong_usage_with_advice() {
        let error = parse_policy("soon").unwrap_err();
        assert_eq!(error.kind, crate::api::ErrorKind::Usage);
        assert!(error.next.contains("ratio=1.5"), "{error:?}");
    }

    #[tokio::test]
    async fn nothing_is_served_any_longer_once_the_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let network = NetworkConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            ..NetworkConfig::default()
        };
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            network: Some(network),
            ..NodeConfig::default()
        };
        let node = Node::start(config).await.unwrap();
        let mut progress = |_, _| std::ops::ControlFlow::Continue(());
        let options = casnode_cas::ImportOptions::default();
        let bytes = &mut &[7u8; 1000][..];
        let file = import_reader(&node.store, bytes, None, &options, &mut progress).unwrap();
        let address = file.address.to_string();
        let (events, mut told) = EventSink::new();
        let lingers = tokio::spawn({
            let node = node.clone();
            async move { linger(&node, &address, &events).await }
        });
        told.recv().await.expect("how it goes");
        assert!(!lingers.is_finished());
        node.store.remove_file(&file.address).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), lingers).await;
        let error = ended.expect("it lingers").unwrap().unwrap_err();
        assert_eq!(error.kind, crate::api::ErrorKind::NotFound);
        node.shutdown().await;
    }
}
