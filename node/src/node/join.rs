//! Joining the network as configured.

use std::sync::Arc;

use casnode_cas::{Address, FileRecord};
use casnode_dht::{
    AnnounceTimes, Bandwidth, CipherPreference, Dht, DhtConfig, Key, Limits, Mode, Multiaddr,
    NetworkName, Profile, RecordCheck,
};

use crate::{
    api::{ApiError, DhtMode, ErrorKind},
    config::{NetworkConfig, NodeConfig},
    errors, identity,
    tasks::blocking,
};

/// Lets the DHT keep only metadata records that merge to their key.
struct FileRecordCheck;

impl RecordCheck for FileRecordCheck {
    fn check(&self, key: &Key, value: &[u8]) -> bool {
        FileRecord::decode_for(&Address::from_bytes(*key), value).is_ok()
    }
}

/// A configuration whose addresses are addresses.
pub(super) struct Network {
    listen: Vec<Multiaddr>,
    bootstrap: Vec<Multiaddr>,
    mdns: bool,
    name: NetworkName,
    profile: Profile,
    bandwidth: Bandwidth,
    cipher: CipherPreference,
}

/// Checks what can be checked without a network.
pub(super) fn check_network(config: &NetworkConfig) -> Result<Network, ApiError> {
    Ok(Network {
        listen: multiaddrs("--listen", &config.listen)?,
        bootstrap: multiaddrs("--bootstrap", &config.bootstrap)?,
        mdns: config.mdns,
        name: config.name.clone(),
        profile: config.profile,
        bandwidth: config.bandwidth,
        cipher: config.cipher,
    })
}

/// Checks that a text is a multiaddr, before there is a node.
///
/// # Errors
/// What is wrong about it.
pub fn check_multiaddr(text: &str) -> Result<(), String> {
    let parsed: Result<Multiaddr, _> = text.parse();
    parsed.map(drop).map_err(|error| error.to_string())
}

/// Parses multiaddrs that a person wrote.
pub(crate) fn multiaddrs(option: &str, addrs: &[String]) -> Result<Vec<Multiaddr>, ApiError> {
    let parse = |addr: &String| {
        addr.parse().map_err(|error| {
            ApiError::new(
                ErrorKind::Usage,
                format!("{option} {addr} is not a multiaddr"),
                format!("{error}"),
                "write it like /ip4/192.0.2.1/tcp/4101, /dns4/node.example/udp/4101/quic-v1 or /dnsaddr/node.example",
            )
        })
    };
    addrs.iter().map(parse).collect()
}

/// The part in the DHT that is chosen for a node. A command's own is gone before anybody could ask it for a record.
pub(super) fn mode_of(config: &NodeConfig) -> DhtMode {
    match &config.network {
        Some(network) if config.serve_dht => network.mode,
        _ => DhtMode::Client,
    }
}

/// The same, as the network calls it.
pub(crate) fn mode(mode: DhtMode) -> Mode {
    match mode {
        DhtMode::Auto => Mode::Auto,
        DhtMode::Server => Mode::Server,
        DhtMode::Client => Mode::Client,
    }
}

/// Joins it.
pub(super) async fn join(
    config: &NodeConfig,
    network: Network,
) -> Result<(Dht, casnode_dht::IncomingStreams), ApiError> {
    let data_dir = config.data_dir.clone();
    let key = blocking(move || identity::load_or_create(&data_dir))
        .await
        .map_err(errors::panicked)?;
    let keypair = key.map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            "the node's identity could not be read",
            error.to_string(),
            "restore the file identity.key in the data directory, or remove it to get a new identity",
        )
    })?;
    let mut dht = DhtConfig::new(keypair, config.data_dir.clone(), Arc::new(FileRecordCheck));
    dht.listen = network.listen;
    dht.bootstrap = network.bootstrap;
    dht.mdns = network.mdns;
    dht.network = network.name;
    dht.limits = Limits {
        connection_window_bytes: config.memory.shares().connection_window_bytes(),
        kept_buffers_bytes: usize::try_from(config.memory.shares().receive_buffers_bytes)
            .unwrap_or(usize::MAX),
        records_cache_bytes: config.memory.shares().records_cache_bytes,
        ..Limits::of(network.profile)
    };
    dht.bandwidth = network.bandwidth;
    dht.cipher = network.cipher;
    dht.announce = AnnounceTimes::of(network.profile);
    dht.mode = mode(mode_of(config));
    casnode_dht::start(dht)
        .await
        .map_err(|e| errors::network("the network could not be joined", &e))
}
