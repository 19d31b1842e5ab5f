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

/// What a node is told at start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where everything of this node lives: store, identity, records, socket.
    pub data_dir: PathBuf,
    /// `None`: the store only, no network.
    pub network: Option<NetworkConfig>,
    /// Serve the DHT to others (a daemon does; a command's own short-lived node does not).
    pub serve_dht: bool,
}
