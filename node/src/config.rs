//! What a node is told at start.

use std::{net::SocketAddr, path::PathBuf};

use casnode_dht::{Bandwidth, CipherPreference, NetworkName, Profile};

use crate::{api::DhtMode, budget::MemoryBudget, choke::SwarmMode, seeding::SeedPolicy};

/// How a node takes part in the network. Addresses are multiaddr strings; they are checked at start.
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// Where to listen; empty: port 0 of all addresses, for the length of a command.
    pub listen: Vec<String>,
    /// Peers to join by, with or without `/p2p/…`.
    pub bootstrap: Vec<String>,
    /// Find peers on the local network.
    pub mdns: bool,
    /// Which network it is: nodes of different ones have nothing to do with each other.
    pub name: NetworkName,
    /// How much of the machine and its line the network may have.
    pub profile: Profile,
    /// A daemon's part in the DHT; a command's own node is a client in any case.
    pub mode: DhtMode,
    /// The most that it sends and takes.
    pub bandwidth: Bandwidth,
    /// Which cipher it wants for TCP connections.
    pub cipher: CipherPreference,
    /// Whether the peers of a swarm owe each other anything; `None`: strangers do, and in a network of another name than
    /// `main` nobody is one.
    pub swarm: Option<SwarmMode>,
}

impl NetworkConfig {
    /// The mode of swarms of which nothing else is said.
    pub fn swarm_mode(&self) -> SwarmMode {
        match self.swarm {
            Some(mode) => mode,
            None if self.name == NetworkName::default() => SwarmMode::Fair,
            None => SwarmMode::Trusted,
        }
    }
}

/// Where a daemon serves its local API over TCP, besides the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The address.
    pub listen: SocketAddr,
    /// Nobody asked for this very address: where it is taken, the daemon goes without.
    pub optional: bool,
    /// Names by which it may be called, besides this machine's own.
    pub hosts: Vec<String>,
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
    /// For how long a daemon serves what is fetched, where nothing else is said.
    pub seed: SeedPolicy,
    /// Memory that it may use, about.
    pub memory: MemoryBudget,
}
