//! What a node of the network is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};

use crate::Key;
use crate::network::NetworkName;
use crate::pool;

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
    /// A server unless others find that it cannot be reached from where they are.
    Auto,
}

/// What others have found of whether they can dial this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// Nobody was asked, or not enough have answered.
    #[default]
    Untested,
    /// Somebody has dialled it from elsewhere.
    Reached,
    /// Peers in several places could not dial it.
    Unreachable,
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

/// How much of the machine and its line the network may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A machine behind a household's router, which dies of some thousand connections.
    #[default]
    Home,
    /// A machine with a public address that holds records for many.
    Server,
    /// Machines of one owner on one fast network.
    Lab,
}

/// A line of 1 Gbit/s with a round trip of 100 ms is full with less.
pub(crate) const CONNECTION_WINDOW_BYTES: usize = 16 << 20;

/// What other peers may cost this node. The defaults suit a desktop machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Provider records held for all others together (about 100 bytes of memory each).
    pub provider_records: usize,
    /// Provider records held for any one announcing peer. When the store is full, those of the origin that
    /// has most give way to others.
    pub provider_records_per_peer: usize,
    /// Value records held for all others together.
    pub value_records: usize,
    /// Value records held on behalf of any one sending peer. They give way as provider records do.
    pub value_records_per_peer: usize,
    /// Size of all these values together, in bytes.
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
    /// Announcements (streams of the records protocol) that may be received at once, a quarter of them from
    /// one origin.
    pub records_streams_in: usize,
    /// Connections, whoever opened them, with one origin (a /24 of IPv4, a /48 of IPv6) of the public
    /// internet.
    pub connections_per_origin: u32,
    /// Peers whose connections are kept when nothing happens on them.
    pub kept_connections: usize,
    /// How long an unused connection is kept else.
    pub idle_connection: Duration,
    /// Bytes that one TCP connection may make this node buffer beyond 256 KiB for each of its streams, of which the
    /// other side may have 64 open.
    pub connection_window_bytes: usize,
    /// Bytes of buffers for chunks that arrive that are kept when nobody uses them, of all nodes of this process: the
    /// node that starts last decides.
    pub kept_buffers_bytes: usize,
    /// Bytes of the log of records that are kept in memory, about.
    pub records_cache_bytes: u64,
}

impl Limits {
    /// Those of a profile.
    pub fn of(profile: Profile) -> Self {
        let home = Self::default();
        match profile {
            Profile::Home => home,
            Profile::Server => Self {
                connections_in: 2_048,
                connections: 4_096,
                pending_in: 256,
                exchange_streams_in: 1_024,
                records_streams_in: 256,
                connections_per_origin: 64,
                kept_connections: 48,
                ..home
            },
            Profile::Lab => Self {
                connections_in: 8_192,
                connections: 16_384,
                pending_in: 1_024,
                exchange_streams_in: 2_048,
                records_streams_in: 512,
                connections_per_origin: u32::MAX,
                kept_connections: 48,
                ..home
            },
        }
    }
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
            connections_in: 128,
            connections: 256,
            connections_per_peer: 4,
            pending_in: 64,
            exchange_streams_in: 256,
            exchange_streams_per_peer: 8,
            records_streams_in: 64,
            connections_per_origin: 16,
            // A little more than the peers one key goes to.
            kept_connections: 24,
            // libp2p's 10 s close connections between the steps of one announcement.
            idle_connection: Duration::from_secs(60),
            connection_window_bytes: CONNECTION_WINDOW_BYTES,
            kept_buffers_bytes: pool::KEPT_BYTES,
            // The log is read at the start only.
            records_cache_bytes: 8 << 20,
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
    /// Bytes per second that announcing new keys may send; a key costs 32 bytes for each of 20 peers.
    pub new_bytes_per_s: u64,
    /// Bytes per second that renewals may send.
    pub renewal_bytes_per_s: u64,
}

impl AnnounceTimes {
    /// Those of a profile.
    pub fn of(profile: Profile) -> Self {
        let home = Self::default();
        let (new_bytes_per_s, renewal_bytes_per_s) = match profile {
            Profile::Home => (home.new_bytes_per_s, home.renewal_bytes_per_s),
            Profile::Server => (16 << 20, 1 << 20),
            Profile::Lab => (256 << 20, 16 << 20),
        };
        Self {
            new_bytes_per_s,
            renewal_bytes_per_s,
            ..home
        }
    }
}

impl Default for AnnounceTimes {
    fn default() -> Self {
        Self {
            expiry: Duration::from_secs(48 * 3600),
            renewal: Duration::from_secs(22 * 3600),
            retry: Duration::from_secs(5),
            // A third of a household's 10 Mbit/s up; a file of 1 GiB is out within six seconds.
            new_bytes_per_s: 512 << 10,
            renewal_bytes_per_s: 64 << 10,
        }
    }
}

/// How a node looks after the peers it knows.
#[derive(Clone, Debug)]
pub struct MembershipTimes {
    /// Time after which a peer of the routing table that has not been connected is dialled, to see whether
    /// it is still there.
    pub check: Duration,
    /// Time after a failed dial until a peer of the routing table is dialled again, the third part of the
    /// wait after that. It loses its place with the third failure.
    pub retry: Duration,
    /// Time between two lookups in every part of the routing table.
    pub refresh: Duration,
    /// Time between two saves of the peers to find the network by after a restart.
    pub save: Duration,
    /// How long a peer of another network is left alone.
    pub foreign: Duration,
    /// Time between two questions to others whether they can dial this node, while that is being found out.
    pub between_tests: Duration,
    /// Whether peers with private addresses are asked, too: for a laboratory. They can dial each other
    /// whatever the internet can.
    pub test_private: bool,
}

impl Default for MembershipTimes {
    fn default() -> Self {
        Self {
            check: Duration::from_secs(30 * 60),
            retry: Duration::from_secs(5),
            // In a network of 50 each costs half a megabyte: every five minutes that were 2 kB/s.
            refresh: Duration::from_secs(3600),
            save: Duration::from_secs(5 * 60),
            foreign: Duration::from_secs(10 * 60),
            between_tests: Duration::from_secs(10),
            test_private: false,
        }
    }
}

/// The configuration of [`crate::start()`].
#[derive(Clone)]
pub struct DhtConfig {
    /// The most that it sends and takes.
    pub bandwidth: crate::Bandwidth,
    /// Which cipher it wants for TCP connections.
    pub cipher: crate::CipherPreference,
    /// The identity of this node.
    pub keypair: Keypair,
    /// Where to listen, TCP or QUIC; port 0 lets the system choose. May be empty.
    pub listen: Vec<Multiaddr>,
    /// Nodes to join the network by, with or without `/p2p/<peer>`; names (`/dns4/…`) work, and
    /// `/dnsaddr/<host>`, whose TXT records at `_dnsaddr.<host>` each say `dnsaddr=<address>`.
    pub bootstrap: Vec<Multiaddr>,
    /// Peers of the network known from before, each with an address: they are in the routing table from
    /// the start, without being dialled for it.
    pub known_peers: Vec<(PeerId, Multiaddr)>,
    /// Whether to look for nodes on the local network.
    pub mdns: bool,
    /// Which network to join.
    pub network: NetworkName,
    /// Whether to serve the DHT.
    pub mode: Mode,
    /// Where names are resolved, if not by the system's settings.
    pub dns_server: Option<SocketAddr>,
    /// The node's data directory; records and schedule live in `dht/` below it.
    pub data_dir: PathBuf,
    /// Whether records and schedule stay in memory and are gone with the node: for simulations.
    pub in_memory: bool,
    /// Decides which value records are true.
    pub record_check: Arc<dyn RecordCheck>,
    /// What others may cost this node.
    pub limits: Limits,
    /// How announcements are paced.
    pub announce: AnnounceTimes,
    /// How this node looks after the peers it knows.
    pub membership: MembershipTimes,
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
            known_peers: Vec::new(),
            mdns: false,
            network: NetworkName::default(),
            mode: Mode::Server,
            dns_server: None,
            data_dir: data_dir.into(),
            in_memory: false,
            record_check,
            limits: Limits::default(),
            bandwidth: crate::Bandwidth::default(),
            cipher: crate::CipherPreference::default(),
            announce: AnnounceTimes::default(),
            membership: MembershipTimes::default(),
        }
    }
}
