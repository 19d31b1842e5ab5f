//! How much this node sends and takes, and the limits of both.
//!
//! Everything goes through here once: every stream of every connection is wrapped ([`muxer`], [`stream`]), whatever it
//! speaks and whatever it runs over. What the connections themselves add (headers, encryption) is not counted.

pub(crate) mod bucket;
mod limiter;
mod muxer;
mod places;
mod stream;
#[cfg(test)]
mod tests;
mod traffic;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::{Multiaddr, PeerId};

use crate::net::Cipher;
use crate::origin;
use limiter::Limiter;
use muxer::Muxer;
use traffic::{Counts, Peers};
pub use traffic::{PeerTraffic, Traffic};

/// The most that a node sends and takes, everything counted.
///
/// Below [`MIN_BYTES_PER_S`](Self::MIN_BYTES_PER_S) streams that share the limit may have to wait so long for their turn that the
/// other side gives them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bytes a second sent; `None`: as much as the line takes.
    pub up_bytes_per_s: Option<NonZeroU64>,
    /// Bytes a second taken; `None`: as much as comes.
    pub down_bytes_per_s: Option<NonZeroU64>,
    /// Peers on this machine and on private networks are not held back. What goes there is counted all the same.
    pub exempt_local: bool,
}

impl Bandwidth {
    /// The least limit that makes sense.
    pub const MIN_BYTES_PER_S: u64 = 16 << 10;
}

/// The line of a node: what goes over it, and how much may.
pub(crate) struct Line {
    up: Arc<Limiter>,
    down: Arc<Limiter>,
    exempt_local: AtomicBool,
    /// Held while the limits are changed.
    changing: Mutex<()>,
    total: Counts,
    peers: Arc<Peers>,
}

impl Line {
    pub(crate) fn new(bandwidth: Bandwidth) -> Arc<Self> {
        Arc::new(Self {
            up: Arc::new(Limiter::new(bandwidth.up_bytes_per_s)),
            down: Arc::new(Limiter::new(bandwidth.down_bytes_per_s)),
            exempt_local: AtomicBool::new(bandwidth.exempt_local),
            changing: Mutex::default(),
            total: Counts::default(),
            peers: Arc::default(),
        })
    }

    pub(crate) fn bandwidth(&self) -> Bandwidth {
        Bandwidth {
            up_bytes_per_s: self.up.rate(),
            down_bytes_per_s: self.down.rate(),
            exempt_local: self.exempt_local.load(Ordering::Relaxed),
        }
    }

    /// Changes the limits. Whoever waits is woken and waits by the new ones.
    pub(crate) fn change(&self, change: impl FnOnce(Bandwidth) -> Bandwidth) -> Bandwidth {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let bandwidth = change(self.bandwidth());
        // First, for those who are woken look at it.
        self.exempt_local
            .store(bandwidth.exempt_local, Ordering::Relaxed);
        self.up.set_rate(bandwidth.up_bytes_per_s);
        self.down.set_rate(bandwidth.down_bytes_per_s);
        bandwidth
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.total.get()
    }

    pub(crate) fn traffic_of(&self, peer: &PeerId) -> Option<PeerTraffic> {
        self.peers.get(peer)
    }

    /// A connection with a peer: counted and limited from now on.
    pub(crate) fn meter<M>(
        self: &Arc<Self>,
        peer: PeerId,
        remote: &Multiaddr,
        cipher: Option<Cipher>,
        muxer: M,
    ) -> Muxer<M> {
        let (counts, presence) = self.peers.connected(peer, remote.clone(), cipher);
        let link = Link {
            line: self.clone(),
            counts,
            is_local: origin::is_on_local_network(remote),
        };
        Muxer::new(muxer, link, presence)
    }
}

/// What the streams of one connection share.
struct Link {
    line: Arc<Line>,
    counts: Arc<Counts>,
    is_local: bool,
}

impl Link {
    /// Whether this limiter, one of the line's, applies. Looked at for each read and write: without a limit this and the counting
    /// are all there is.
    fn is_limited(&self, limiter: &Limiter) -> bool {
        limiter.rate().is_some()
            && !(self.is_local && self.line.exempt_local.load(Ordering::Relaxed))
    }

    fn count_up(&self, bytes: usize) {
        self.counts.add_up(bytes);
        self.line.total.add_up(bytes);
    }

    fn count_down(&self, bytes: usize) {
        self.counts.add_down(bytes);
        self.line.total.add_down(bytes);
    }
}
