//! The network is found again after a restart by the peers that were there before.

use std::collections::VecDeque;

use libp2p::PeerId;
use tokio::time::Instant;

use crate::net::addrs;
use crate::net::driver::Driver;
use crate::records::Remembered;

/// Peers from before that are dialled in turn while few are there: all that are remembered.
const MAX_RECALLED: usize = 512;
/// Of these, how many at once. Everybody may come back at the same moment, after a power cut.
const MAX_AT_ONCE: usize = 8;
/// Peers noted in one go.
const MAX_NOTED: usize = 256;

/// Peers known from before a start, or from before they were gone.
#[derive(Default)]
pub(in crate::net) struct Recalled(VecDeque<PeerId>);

impl Recalled {
    /// Adds a peer, the last to be dialled. The first gives way when there are too many.
    pub(in crate::net) fn add(&mut self, peer: PeerId) {
        if self.0.contains(&peer) {
            return;
        }
        if self.0.len() >= MAX_RECALLED {
            self.0.pop_front();
        }
        self.0.push_back(peer);
    }

    /// The next to dial, each in turn, without those that are connected.
    fn next(&mut self, is_connected: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        let mut next = Vec::new();
        for _ in 0..self.0.len() {
            if next.len() >= MAX_AT_ONCE {
                break;
            }
            self.0.rotate_left(1);
            next.extend(self.0.back().filter(|peer| !is_connected(peer)));
        }
        next
    }
}

impl Driver {
    /// Reads the peers from before; they are dialled as long as few are connected.
    pub(in crate::net) fn recall(&mut self) {
        let me = *self.swarm.local_peer_id();
        let known = self.records.remembered().into_iter();
        for known in known.filter(|known| known.peer != me).take(MAX_RECALLED) {
            let addrs = addrs::usable(&known.peer, known.addrs);
            self.swarm.behaviour_mut().book.merge(known.peer, addrs);
            self.recalled.add(known.peer);
        }
    }

    /// The next peers from before to dial, each in turn.
    pub(in crate::net) fn next_recalled(&mut self) -> Vec<PeerId> {
        let connected = &self.connected;
        self.recalled.next(|peer| connected.contains_key(peer))
    }

    /// Notes the peers of the routing table that stand well.
    pub(in crate::net) fn remember(&mut self) {
        let (now, secs) = (Instant::now(), u64::from(self.records.now()));
        let book = &self.swarm.behaviour().book;
        let noted = self.seats.good(MAX_NOTED).into_iter();
        let noted = noted.map(|(peer, seen)| {
            let silent = match self.connected.contains_key(&peer) {
                true => 0,
                false => now.saturating_duration_since(seen).as_secs(),
            };
            Remembered {
                peer,
                // Whoever lies about a peer must not be believed until after a restart.
                addrs: book.own(&peer),
                last_seen_secs: secs.saturating_sub(silent),
            }
        });
        let noted: Vec<_> = noted.filter(|known| !known.addrs.is_empty()).collect();
        if !noted.is_empty() {
            self.records.remember(noted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_from_before_have_their_turn() {
        let mut recalled = Recalled::default();
        let peers: Vec<_> = (0..MAX_RECALLED).map(|_| PeerId::random()).collect();
        for peer in peers.iter().chain(&peers) {
            recalled.add(*peer);
        }
        let there = peers[3];
        let mut dialled = HashSet::new();
        for _ in 0..MAX_RECALLED / MAX_AT_ONCE {
            let next = recalled.next(|peer| *peer == there);
            assert_eq!(next.len(), MAX_AT_ONCE);
            dialled.extend(next);
        }
        assert_eq!(dialled.len(), MAX_RECALLED - 1);
        assert!(!dialled.contains(&there));
        for _ in 0..MAX_RECALLED {
            recalled.add(PeerId::random());
        }
        assert_eq!(recalled.0.len(), MAX_RECALLED);
        assert!(!recalled.0.contains(&there), "the oldest give way");
    }

    #[test]
    fn few_are_dialled_once_each() {
        let mut recalled = Recalled::default();
        assert!(recalled.next(|_| false).is_empty());
        let peer = PeerId::random();
        recalled.add(peer);
        assert_eq!(recalled.next(|_| false), [peer]);
        assert_eq!(recalled.next(|_| false), [peer], "again, later");
    }
}
