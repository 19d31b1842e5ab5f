//! Peers found on the local network, and when to dial them. Pure: the time is an argument.
//!
//! A peer's addresses come one by one and often in several packets. It is dialled a moment after the
//! first, by all that are in the address book then: a TCP address may follow one for QUIC.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// How long the addresses of a peer are gathered before it is dialled.
const GATHER: Duration = Duration::from_millis(200);
/// Peers remembered; a local network has fewer, and anybody on it can invent more.
const MAX_PEERS: usize = 256;
/// Peers dialled in one step.
const MAX_DIALS: usize = 32;

/// The peers found, with the time at which each is to be dialled, if it still is.
#[derive(Default)]
pub(in crate::net) struct LocalPeers(HashMap<PeerId, Option<Instant>>);

impl LocalPeers {
    /// Notes a peer that was heard of. Returns false when there is no room for it.
    pub(in crate::net) fn found(&mut self, peer: PeerId, now: Instant) -> bool {
        if !self.0.contains_key(&peer) && self.0.len() >= MAX_PEERS {
            return false;
        }
        self.0
            .entry(peer)
            .or_insert(None)
            .get_or_insert(now + GATHER);
        true
    }

    /// Forgets a peer that is not heard of any more.
    pub(in crate::net) fn expired(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    /// The peers to dial now; each is returned once after it was found.
    pub(in crate::net) fn due(&mut self, now: Instant) -> Vec<PeerId> {
        let due = self
            .0
            .iter_mut()
            .filter(|(_, at)| at.is_some_and(|at| at <= now));
        due.take(MAX_DIALS)
            .map(|(peer, at)| {
                *at = None;
                *peer
            })
            .collect()
    }

    /// All that are there, as far as is known.
    pub(in crate::net) fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_dialled_once_after_a_moment() {
        let (mut local, start, peer) = (LocalPeers::default(), Instant::now(), PeerId::random());
        assert!(local.found(peer, start));
        assert!(local.found(peer, start + GATHER / 2));
        assert!(local.due(start).is_empty());
        assert_eq!(local.due(start + GATHER), [peer]);
        assert!(local.due(start + GATHER * 9).is_empty());
        assert_eq!(local.peers().collect::<Vec<_>>(), [peer]);
        assert!(local.found(peer, start + GATHER));
        assert_eq!(local.due(start + GATHER * 2), [peer]);
        local.expired(&peer);
        assert_eq!(local.peers().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn invented_peers_are_bounded() {
        let (mut local, now) = (LocalPeers::default(), Instant::now());
        let taken = (0..1000).filter(|_| local.found(PeerId::random(), now));
        assert_eq!(taken.count(), MAX_PEERS);
        assert_eq!(local.due(now + GATHER).len(), MAX_DIALS);
    }
}
