//! A swarm as it is shown to people.

use casnode_dht::PeerId;

use crate::choke::SwarmMode;

/// One swarm at one moment. Of a swarm that nobody is in, the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct SwarmView {
    /// Its mode.
    pub(crate) mode: SwarmMode,
    /// How often the rarest chunk is there among the peers, with the share of chunks that are there once more after
    /// the point; this node's own chunks counted.
    pub(crate) copies: f64,
    /// Bytes of it sent, since the node's start.
    pub(crate) up_bytes: u64,
    /// Bytes of it fetched, since the node's start.
    pub(crate) down_bytes: u64,
    /// Everybody of it with a stream to or from this node, each once.
    pub(crate) peers: Vec<PeerView>,
}

/// One of its peers: what its streams of both directions tell.
#[derive(Debug, Clone)]
pub(crate) struct PeerView {
    pub(crate) peer: PeerId,
    /// Averages of the last 20 s.
    pub(crate) up_bytes_per_s: u64,
    pub(crate) down_bytes_per_s: u64,
    /// Of this swarm alone.
    pub(crate) up_bytes: u64,
    pub(crate) down_bytes: u64,
    /// `None`: it has not said.
    pub(crate) have_chunks: Option<u32>,
    /// `None`: it asks this node for nothing.
    pub(crate) choked_by_us: Option<bool>,
    /// `None`: this node asks it for nothing.
    pub(crate) chokes_us: Option<bool>,
    pub(crate) interested_in_us: bool,
    pub(crate) interests_us: bool,
    pub(crate) snubs_us: bool,
}
