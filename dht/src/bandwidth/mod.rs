//! How much this node sends and takes, and the limits of both.

use std::num::NonZeroU64;

use libp2p::Multiaddr;

/// The most that a node sends and takes, everything counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bytes a second sent; `None`: as much as the line takes.
    pub up_bytes_per_s: Option<NonZeroU64>,
    /// Bytes a second taken; `None`: as much as comes.
    pub down_bytes_per_s: Option<NonZeroU64>,
    /// Peers on this machine and on private networks are not held back.
    pub exempt_local: bool,
}

/// Bytes that went both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub up_bytes: u64,
    /// Bytes taken.
    pub down_bytes: u64,
}

/// What goes between this node and one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTraffic {
    /// Since it connected.
    pub traffic: Traffic,
    /// Where it is.
    pub addr: Multiaddr,
}
