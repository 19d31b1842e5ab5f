//! What calls about this node and its neighbours return.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DhtMode, ScrubReport};
use crate::choke::SwarmMode;

/// What the DHT says of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvidersReport {
    /// The key.
    pub key: String,
    /// Who has it; this node too, if it does.
    pub providers: Vec<ProviderInfo>,
    /// Peers that answered the lookup.
    pub asked_peers: u32,
}

/// A provider of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderInfo {
    /// Its peer id.
    pub peer: String,
    /// Where it said it listens.
    pub addrs: Vec<String>,
}

/// A node's own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusReport {
    /// Its peer id.
    pub peer_id: String,
    /// Where it is in the DHT's keyspace: SHA-256 of its peer id, 64 hex digits; absent when it has no identity yet.
    pub dht_key: Option<String>,
    /// Full multiaddrs with `/p2p/…`; empty when no daemon runs.
    pub listen: Vec<String>,
    /// Where the local API is served over TCP, as `127.0.0.1:4180`; absent: nowhere.
    pub http: Option<String>,
    /// True when a daemon answered.
    pub daemon: bool,
    /// The process that owns the data directory.
    pub pid: u32,
    /// Version of the software that answered.
    pub version: String,
    /// The network it is in; absent when no daemon runs.
    pub network: Option<String>,
    /// The part in the DHT that was chosen for it; absent when no daemon runs.
    pub dht_mode: Option<DhtMode>,
    /// Whether it holds records for others now; absent when no daemon runs.
    pub dht_serving: Option<bool>,
    /// How many peers the network seems to have, this node among them; absent when no daemon runs.
    pub network_peers: Option<u64>,
    /// Whether the peers of a swarm owe each other anything, where nothing else was said; absent when no daemon runs.
    pub swarm_mode: Option<SwarmMode>,
    /// Connected peers.
    pub peers: u32,
    /// Files here.
    pub files: u64,
    /// Chunks here.
    pub chunks: u64,
    /// Bytes of those chunks.
    pub stored_bytes: u64,
    /// Bytes on the disk: packs, index, reserve, clones and unfinished downloads.
    pub disk_bytes: u64,
    /// The store takes no more than this of the disk; absent: no limit.
    pub max_store_bytes: Option<u64>,
    /// The part of those that nothing needs; a collection gives back most of it.
    pub reclaimable_bytes: u64,
    /// Files that are kept whatever happens.
    pub pinned_files: u64,
    /// True when the store can only be read.
    pub read_only: bool,
    /// What the background check of the stored bytes has done; absent when none runs.
    pub scrub: Option<ScrubReport>,
    /// Keys announced and not yet due again.
    pub announced: u64,
    /// Keys due.
    pub to_announce: u64,
    /// What the network sent that was refused, by kind; only kinds that happened.
    pub dropped: Vec<DropCount>,
}

/// A count of refused input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropCount {
    /// What it was.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerReport {
    /// Its peer id.
    pub peer: String,
    /// Where it is in the DHT's keyspace: SHA-256 of its peer id, 64 hex digits.
    pub dht_key: String,
    /// Addresses of the connections.
    pub addrs: Vec<String>,
    /// What software it says it is.
    pub agent: Option<String>,
    /// True when this node dialled.
    pub outbound: bool,
    /// What the connection is that chunks go over: `tcp` or `quic`.
    pub transport: String,
    /// What that one is encrypted with, e.g. `tls13-aes-128-gcm`; absent: not known.
    pub cipher: Option<String>,
    /// Last measured round trip.
    pub rtt_ms: Option<u32>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{Response, pinned::pinned};

    #[test]
    fn peers() {
        let peer = PeerReport {
            peer: "12D3".to_owned(),
            dht_key: "ab".to_owned(),
            addrs: vec!["/ip4/1.2.3.4/tcp/1".to_owned()],
            agent: None,
            outbound: true,
            transport: "tcp".to_owned(),
            cipher: Some("tls13-aes-128-gcm".to_owned()),
            rtt_ms: Some(2),
        };
        pinned(
            &Response::Peers { peers: vec![peer] },
            json!({
                "result": "peers",
                "peers": [{"peer": "12D3", "dht_key": "ab", "addrs": ["/ip4/1.2.3.4/tcp/1"], "agent": null, "outbound": true,
                           "transport": "tcp", "cipher": "tls13-aes-128-gcm", "rtt_ms": 2}],
            }),
        );
    }
}
