//! What a node of the network is told at its start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;

use crate::Key;

/// Whether this node answers the questions of others.
///
/// Set on purpose: left to itself, libp2p serves nothing until somebody confirms a public address,
/// which never happens on loopback, in a container or in a private network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Holds records for others and is entered in their routing tables.
    Server,
    /// Looks up, announces and serves exchange streams, but holds no records for others.
    Client,
}

/// Decides which value records may be stored and which answers are believed.
///
/// The network knows nothing about content; the node supplies a check that the value belongs to the
/// key. It is called away from the network task and may hash a few kilobytes.
pub trait RecordCheck: Send + Sync + 'static {
    /// True when `value` is a true record of `key`. Must be a pure function of its arguments.
    fn check(&self, key: &Key, value: &[u8]) -> bool;
}

impl<F> RecordCheck for F
where
    F: Fn(&Key, &[u8]) -> bool + Send + Sync + 'static,
{
    fn check(&self, key: &Key, value: &[u8]) -> bool {
        self(key, value)
    }
}

/// What other peers may cost this node. The defaults suit a desktop machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Provider records held for all others together (about 100 bytes of memory each).
    pub provider_records: usize,
    /// Provider records held for any one announcing peer; never more than are still free for others.
    pub provider_records_per_peer: usize,
    /// Value records held for all others together.
    pub value_records: usize,
    /// Value records held on behalf of any one sending peer; never more than are still free for others.
    pub value_records_per_peer: usize,
    /// Size of all these values together, in bytes. One peer's take no more than what is still free.
    pub value_records_bytes: usize,
    /// Size of the value of one record, in bytes. At most 8,192.
    pub value_bytes: usize,
    /// Established connections that others opened to this node.
    pub connections_in: u32,
    /// Established connections in all.
    pub connections: u32,
    /// Established connections with one peer.
    pub connections_per_peer: u32,
    /// Connections of others that are still in their handshake.
    pub pending_in: u32,
    /// Exchange streams of others that may be open at once.
    pub exchange_streams_in: usize,
    /// Exchange streams of one peer that may be open at once.
    pub exchange_streams_per_peer: usize,
    /// Announcements (streams of the provide protocol) that may be received at once.
    pub provide_streams_in: usize,
    /// How long an unused connection is kept.
    pub idle_connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            provider_records: 2_000_000,
            provider_records_per_peer: 1_000_000,
            value_records: 65_536,
            value_records_per_peer: 16_384,
            value_records_bytes: 64 << 20,
            value_bytes: 8_192,
            connections_in: 512,
            connections: 1_024,
            connections_per_peer: 4,
            pending_in: 128,
            exchange_streams_in: 256,
            exchange_streams_per_peer: 8,
            provide_streams_in: 64,
            // libp2p's 10 s close connections between the steps of one announcement.
            idle_connection: Duration::from_secs(60),
        }
    }
}

/// How announcements are paced.
#[derive(Clone, Debug)]
pub struct AnnounceTimes {
    /// Time until a provider record is forgotten by those who hold it.
    pub expiry: Duration,
    /// Time after which a key is announced again; well below `expiry`.
    pub renewal: Duration,
    /// The first wait after a failed announcement; doubles with every further failure.
    pub retry: Duration,
}

impl Default for AnnounceTimes {
    fn default() -> Self {
        Self {
            expiry: Duration::from_secs(48 * 3600),
            renewal: Duration::from_secs(22 * 3600),
            retry: Duration::from_secs(5),
        }
    }
}

/// The configuration of [`crate::start()`].
#[derive(Clone)]
pub struct DhtConfig {
    /// The identity of this node.
    pub keypair: Keypair,
    /// Where to listen, TCP or QUIC; port 0 lets the system choose. May be empty.
    pub listen: Vec<Multiaddr>,
    /// Nodes to join the network by, with or without `/p2p/<peer>`; names (`/dns4/…`) work.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether to look for nodes on the local network.
    pub mdns: bool,
    /// Whether to serve the DHT.
    pub mode: Mode,
    /// The node's data directory; records and schedule live in `dht/` below it.
    pub data_dir: PathBuf,
    /// Decides which value records are true.
    pub record_check: Arc<dyn RecordCheck>,
    /// What others may cost this node.
    pub limits: Limits,
    /// How announcements are paced.
    pub announce: AnnounceTimes,
}

impl DhtConfig {
    /// A server without listen addresses, bootstrap nodes or mDNS, with default limits.
    pub fn new(
        keypair: Keypair,
        data_dir: impl Into<PathBuf>,
        record_check: Arc<dyn RecordCheck>,
    ) -> Self {
        Self {
            keypair,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            mdns: false,
            mode: Mode::Server,
            data_dir: data_dir.into(),
            record_check,
            limits: Limits::default(),
            announce: AnnounceTimes::default(),
        }
    }
}
