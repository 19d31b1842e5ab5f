//! Room for new connections: when there are nearly as many as there may be, those that nobody needs are closed. An
//! announcer meets every peer of a network within a minute, and libp2p keeps what is idle for another.

use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use crate::net::driver::Driver;

/// Connections beyond which some are closed, in eighths of those there may be.
const MOST_EIGHTHS: usize = 7;
/// How many are left then.
const LEFT_EIGHTHS: usize = 6;
/// A connection that is younger may be in use by a lookup.
const YOUNG: Duration = Duration::from_secs(5);
/// Places that are free for whoever is to be sent something now, however young the others are.
const FREE: usize = 4;

/// Whom to part with, out of peers that nobody needs with the time since when they are connected: the oldest first,
/// and none that came after `old`.
fn spare(
    connections: usize,
    most: usize,
    old: Instant,
    mut idle: Vec<(PeerId, Instant)>,
) -> Vec<PeerId> {
    if connections * 8 <= most * MOST_EIGHTHS {
        return Vec::new();
    }
    let surplus = connections - most * LEFT_EIGHTHS / 8;
    idle.retain(|(_, since)| *since <= old);
    idle.sort_by_key(|(_, since)| *since);
    idle.truncate(surplus);
    idle.into_iter().map(|(peer, _)| peer).collect()
}

impl Driver {
    /// Parts with peers that nobody needs, when there are many.
    pub(in crate::net) fn make_room(&mut self, now: Instant) {
        self.part_with_older(now.checked_sub(YOUNG).unwrap_or(now));
    }

    /// Makes room for a connection that is wanted at once.
    pub(in crate::net) fn make_room_now(&mut self) {
        if self.connected.len() + FREE >= self.max_connections {
            self.part_with_older(Instant::now());
        }
    }

    fn part_with_older(&mut self, old: Instant) {
        let connections = self.connected.len();
        if connections * 8 <= self.max_connections * MOST_EIGHTHS {
            return;
        }
        let behaviour = self.swarm.behaviour();
        let kept = behaviour.keep.kept();
        let needed = |peer: &PeerId| kept.contains(peer) || behaviour.streams.is_used(peer);
        let idle = self.connected.iter().filter(|(peer, _)| !needed(peer));
        let idle = idle.map(|(peer, known)| (*peer, known.since)).collect();
        for peer in spare(connections, self.max_connections, old, idle) {
            tracing::trace!(%peer, "parted with, to make room");
            self.counters.spare_connections.add(1);
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_connected_go_when_there_are_many() {
        let old = Instant::now() + Duration::from_secs(1000);
        let peers: Vec<_> = (0..90u32)
            .map(|n| (PeerId::random(), old - Duration::from_secs(n.into())))
            .collect();
        assert!(spare(87, 100, old, peers.clone()).is_empty());
        let gone = spare(90, 100, old, peers.clone());
        assert_eq!(gone.len(), 90 - 75);
        assert_eq!(gone[0], peers[89].0);
        // Those that are young, or needed, stay, however many there are.
        let after = old + Duration::from_millis(1);
        let young = peers.iter().map(|(peer, _)| (*peer, after)).collect();
        assert!(spare(100, 100, old, young).is_empty());
        assert_eq!(spare(100, 100, old, peers[..3].to_vec()).len(), 3);
    }
}
