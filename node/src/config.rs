//! What a node is told at start.

use std::path::PathBuf;

/// How a node takes part in the network. Addresses are multiaddr strings; they are checked at start.
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// Where to listen; empty: port 0 of all addresses, for the length of a command.
    pub listen: Vec<String>,
    /// Peers to join by, with or without `/p2p/…`.
    pub bootstrap: Vec<String>,
    /// Find peers on the local network.
    pub mdns: bool,
}

/// The most that a store may take of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreLimit {
    /// As much as there is.
    Unlimited,
    /// This many bytes, packs and index counted.
    Bytes(u64),
}

/// What a node is told at start.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {
    /// Where everything of this node lives: store, identity, records, socket.
    pub data_dir: PathBuf,
    /// `None`: the store only, no network.
    pub network: Option<NetworkConfig>,
    /// Serve the DHT to others (a daemon does; a command's own short-lived node does not).
    pub serve_dht: bool,
    /// The most that the store may take from now on; `None`: what it was told before.
    pub max_store: Option<StoreLimit>,
    /// Pace of the background check of stored bytes, for a daemon; `None`: off.
    pub scrub_bytes_per_s: Option<u64>,
}
