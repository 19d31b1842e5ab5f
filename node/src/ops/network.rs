//! `providers`, `status`, `peers`: what the network says and how this node stands in it.

use std::{sync::Arc, time::Duration};

use casnode_cas::{ChunkHash, StoreError};
use casnode_dht::{
    AnnounceStatus, Dht, FindEvent, FindOptions, Key, PeerId, announce_status_of, place_of_peer,
};

use crate::{
    api::{
        ApiError, DropCount, ErrorKind, Outcome, PeerReport, ProviderInfo, ProvidersReport,
        Response, StatusReport,
    },
    clock, errors,
    node::Node,
    tasks::blocking,
};

/// A lookup by hand ends after this.
const PROVIDERS_DEADLINE: Duration = Duration::from_secs(20);

/// Providers that a lookup by hand lists.
const PROVIDERS_LISTED: usize = 64;

pub(super) async fn providers(node: &Arc<Node>, key: &str, timeout_ms: Option<u64>) -> Outcome {
    let key: ChunkHash = super::parse("an address or a chunk hash", key)?;
    let dht = joined(node, "providers could not be looked up")?;
    let limit = timeout_ms.map_or(PROVIDERS_DEADLINE, Duration::from_millis);
    let ends = clock::now() + limit;
    let connected = dht
        .connected_within(node.network_patience().min(limit))
        .await;
    let left = ends.saturating_duration_since(clock::now());
    let found = find(dht, *key.as_bytes(), left).await;
    let timed_out = found.timed_out;
    let report = ProvidersReport {
        key: key.to_string(),
        providers: found.providers,
        asked_peers: found.asked_peers,
    };
    if report.providers.is_empty() {
        let what = format!("nobody is known to have {key}");
        let asked = errors::count(report.asked_peers.into(), "peer");
        return Err(match (connected, timed_out) {
            (0, _) if report.asked_peers == 0 => errors::alone(ErrorKind::NotFound, what, node),
            (_, true) => ApiError::new(
                ErrorKind::TimedOut,
                format!("the providers of {key} could not be looked up"),
                format!(
                    "the lookup took longer than {} s; {asked} asked",
                    limit.as_secs()
                ),
                "try again with a longer --timeout",
            ),
            (_, false) => ApiError::new(
                ErrorKind::NotFound,
                what,
                format!("{asked} asked"),
                "check the hash; a file stored a moment ago may take a second to be known",
            ),
        });
    }
    Ok(Response::Providers(report))
}

/// What a search for providers has brought.
#[derive(Default)]
pub(super) struct Found {
    pub(super) providers: Vec<ProviderInfo>,
    pub(super) asked_peers: u32,
    pub(super) timed_out: bool,
}

/// Looks for the providers of a key, this node among them.
pub(super) async fn find(dht: &Dht, key: Key, deadline: Duration) -> Found {
    let options = FindOptions {
        limit: PROVIDERS_LISTED,
        deadline,
        connect: false,
        include_self: true,
        // Who asks wants to know how it is now.
        use_cache: false,
    };
    let mut found = Found::default();
    let mut answers = dht.find_providers(key, options);
    while let Some(answer) = answers.recv().await {
        match answer {
            FindEvent::Provider { peer, addrs } => found.providers.push(ProviderInfo {
                peer: peer.to_string(),
                addrs: addrs.iter().map(ToString::to_string).collect(),
            }),
            FindEvent::Done {
                asked_peers,
                timed_out,
                ..
            } => {
                found.asked_peers = asked_peers;
                found.timed_out = timed_out;
            }
        }
    }
    found
}

/// The network, or why there is none.
pub(super) fn joined<'a>(node: &'a Node, what: &str) -> Result<&'a Dht, ApiError> {
    node.dht.as_ref().ok_or_else(|| {
        let (why, next) = errors::without_network(node.store.is_read_only());
        ApiError::new(ErrorKind::Failure, what, why, next)
    })
}

/// This node's own state.
pub(crate) async fn status(node: &Arc<Node>) -> Result<StatusReport, ApiError> {
    let store = node.store.clone();
    let looked = blocking(move || Ok::<_, StoreError>((store.stats()?, store.is_read_only())))
        .await
        .map_err(errors::panicked)?;
    let (stats, read_only) =
        looked.map_err(|e| errors::store("the store could not be read", &e))?;
    let mut report = StatusReport {
        peer_id: node.peer_id.map(|id| id.to_string()).unwrap_or_default(),
        dht_key: node.peer_id.as_ref().map(dht_key),
        listen: Vec::new(),
        http: node.http().map(|addr| addr.to_string()),
        daemon: node.serve_dht,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: None,
        dht_mode: None,
        dht_serving: None,
        network_peers: None,
        swarm_mode: None,
        peers: 0,
        files: stats.files,
        chunks: stats.chunks,
        stored_bytes: stats.stored_bytes,
        disk_bytes: stats.disk_bytes,
        max_store_bytes: stats.max_bytes,
        reclaimable_bytes: stats.waste_bytes,
        pinned_files: stats.pinned_files,
        read_only,
        scrub: node.upkeep.scrub_report(),
        announced: 0,
        to_announce: 0,
        dropped: Vec::new(),
    };
    if let Some(dht) = &node.dht {
        let announce = dht.announce_status();
        report.listen = dht
            .listen_addrs()
            .await
            .iter()
            .map(ToString::to_string)
            .collect();
        report.peers = u32::try_from(dht.peers().await.len()).unwrap_or(u32::MAX);
        report.network = node.network.as_ref().map(|name| name.as_str().to_owned());
        report.dht_mode = Some(node.mode());
        report.swarm_mode = Some(node.swarms.mode());
        report.dht_serving = Some(super::dht::is_serving(dht));
        report.network_peers = Some(dht.provide_status().network_peers);
        report.announced = announce.announced;
        report.to_announce = announce.to_announce;
        report.dropped = dropped(dht);
    } else if let Some(announce) = asleep(node).await {
        report.announced = announce.announced;
        report.to_announce = announce.to_announce;
    }
    Ok(report)
}

fn dht_key(peer: &PeerId) -> String {
    let place = place_of_peer(peer);
    place.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How far announcing has come on a data directory without a network.
async fn asleep(node: &Node) -> Option<AnnounceStatus> {
    let data_dir = node.data_dir.clone();
    match blocking(move || announce_status_of(&data_dir)).await.ok()? {
        Ok(status) => status,
        Err(error) => {
            tracing::warn!(%error, "the announce schedule could not be read");
            None
        }
    }
}

fn dropped(dht: &Dht) -> Vec<DropCount> {
    dht.dropped()
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| DropCount {
            what: what.to_owned(),
            count,
        })
        .collect()
}

pub(super) async fn peers(node: &Arc<Node>) -> Response {
    let peers = match &node.dht {
        Some(dht) => dht.peers().await,
        None => Vec::new(),
    };
    let report = |p: casnode_dht::PeerInfo| PeerReport {
        peer: p.peer.to_string(),
        dht_key: dht_key(&p.peer),
        addrs: p.addrs.iter().map(ToString::to_string).collect(),
        agent: p.agent,
        outbound: p.outbound,
        transport: p.transport.to_owned(),
        cipher: p.cipher.map(|cipher| cipher.to_string()),
        rtt_ms: p.rtt_ms,
    };
    Response::Peers {
        peers: peers.into_iter().map(report).collect(),
    }
}
