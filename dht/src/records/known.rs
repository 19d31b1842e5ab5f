//! The peers this node knows from before, to be dialled again after a restart.

use std::cmp::Reverse;
use std::collections::HashSet;

use libp2p::{Multiaddr, PeerId};

/// Peers remembered: a routing table of a large network has some 300.
const MAX_REMEMBERED: usize = 512;
/// Addresses of each.
const MAX_ADDRS: usize = 4;
/// The longest address, in bytes. With the bounds above the list fits into a frame of the log.
const MAX_ADDR_BYTES: usize = 256;

/// A peer from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Who.
    pub(crate) peer: PeerId,
    /// Where it was.
    pub(crate) addrs: Vec<Multiaddr>,
    /// When it was last heard of, in Unix seconds.
    pub(crate) last_seen_secs: u64,
}

/// Joins what is known with news: of each peer the freshest, and of all the freshest.
pub(super) fn merge(known: Vec<Remembered>, news: Vec<Remembered>) -> Vec<Remembered> {
    let mut all = news;
    all.extend(known);
    // Stable: of two that are equally fresh the news come first.
    all.sort_by_key(|known| Reverse(known.last_seen_secs));
    let mut seen = HashSet::new();
    all.retain(|known| seen.insert(known.peer));
    all.truncate(MAX_REMEMBERED);
    for known in &mut all {
        known.addrs.retain(|addr| addr.len() <= MAX_ADDR_BYTES);
        known.addrs.truncate(MAX_ADDRS);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(peer: PeerId, last_seen_secs: u64, port: u16) -> Remembered {
        let addr = |net| format!("/ip4/10.0.{net}.1/tcp/{port}").parse().unwrap();
        Remembered {
            peer,
            addrs: (0..6).map(addr).collect(),
            last_seen_secs,
        }
    }

    #[test]
    fn the_freshest_are_kept() {
        let peers: Vec<_> = (0..600).map(|_| PeerId::random()).collect();
        let all = peers.iter().zip(0..).map(|(peer, at)| known(*peer, at, 1));
        let kept = merge(Vec::new(), all.collect());
        assert_eq!(kept.len(), MAX_REMEMBERED);
        assert!(kept.iter().all(|known| known.last_seen_secs >= 88));
        assert!(kept.iter().all(|known| known.addrs.len() == MAX_ADDRS));
        // An old peer with news is fresh, and is there once.
        let again = merge(
            kept,
            vec![known(peers[100], 9_000, 2), known(peers[599], 3, 2)],
        );
        assert_eq!(again.len(), MAX_REMEMBERED);
        assert_eq!(again[0].peer, peers[100]);
        assert_eq!(
            again[0].addrs,
            merge(Vec::new(), vec![known(peers[100], 9_000, 2)])[0].addrs
        );
        let stale = again.iter().find(|known| known.peer == peers[599]).unwrap();
        assert_eq!(stale.last_seen_secs, 599);
    }
}
