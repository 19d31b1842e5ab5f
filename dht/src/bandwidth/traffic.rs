//! How many bytes went, in all and with each connected peer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::{Multiaddr, PeerId};

use crate::net::Cipher;
use crate::net::addrs::transport_name;

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
    /// Where it is: the far end of the connection that bulk data goes over.
    pub addr: Multiaddr,
    /// What that connection is: `tcp`, `quic`, `memory` or `other`.
    pub transport: &'static str,
    /// What it is encrypted with; `None` where the transport is of the caller's.
    pub cipher: Option<Cipher>,
}

/// Live counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    up: AtomicU64,
    down: AtomicU64,
}

impl Counts {
    pub(super) fn add_up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Traffic {
        Traffic {
            up_bytes: self.up.load(Ordering::Relaxed),
            down_bytes: self.down.load(Ordering::Relaxed),
        }
    }
}

/// Who is connected, and what went. Bounded by the connections there may be.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<PeerId, Peer>>);

#[derive(Debug, Default)]
struct Peer {
    counts: Arc<Counts>,
    /// Its connections, oldest first.
    connections: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    remote: Multiaddr,
    cipher: Option<Cipher>,
}

impl Peers {
    /// A connection has come up; it counts as long as the presence lives.
    pub(super) fn connected(
        self: &Arc<Self>,
        peer: PeerId,
        remote: Multiaddr,
        cipher: Option<Cipher>,
    ) -> (Arc<Counts>, Presence) {
        let connection = Arc::new(Connection { remote, cipher });
        let mut all = self.all();
        let known = all.entry(peer).or_default();
        known.connections.push(connection.clone());
        let presence = Presence {
            peers: self.clone(),
            peer,
            connection,
        };
        (known.counts.clone(), presence)
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<PeerTraffic> {
        let all = self.all();
        let known = all.get(peer)?;
        // As streams choose theirs: TCP before others, then the oldest.
        let is_tcp = |of: &&Arc<Connection>| transport_name(&of.remote) == "tcp";
        let mut connections = known.connections.iter();
        let connection = connections.clone().find(is_tcp).or(connections.next())?;
        Some(PeerTraffic {
            traffic: known.counts.get(),
            transport: transport_name(&connection.remote),
            addr: connection.remote.clone(),
            cipher: connection.cipher,
        })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PeerId, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Presence {
    peers: Arc<Peers>,
    peer: PeerId,
    connection: Arc<Connection>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut all = self.peers.all();
        if let Some(known) = all.get_mut(&self.peer) {
            known
                .connections
                .retain(|other| !Arc::ptr_eq(other, &self.connection));
            if known.connections.is_empty() {
                all.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_counts_from_its_first_connection_to_its_last() {
        let peers = Arc::new(Peers::default());
        let peer = PeerId::random();
        let addr = |addr: &str| -> Multiaddr { addr.parse().unwrap() };
        let (quic, tcp) = (
            addr("/ip4/127.0.0.1/udp/1/quic-v1"),
            addr("/ip4/127.0.0.1/tcp/1"),
        );
        let (counts, first) = peers.connected(peer, quic.clone(), Some(Cipher::Quic));
        counts.add_up(5);
        let seen = peers.get(&peer).unwrap();
        assert_eq!((seen.addr, seen.transport), (quic, "quic"));
        assert_eq!(seen.cipher, Some(Cipher::Quic));
        let (counts, second) = peers.connected(peer, tcp.clone(), Some(Cipher::TlsAes128));
        counts.add_down(7);
        drop(first);
        let seen = peers.get(&peer).unwrap();
        assert_eq!((seen.addr, seen.transport), (tcp, "tcp"));
        assert_eq!(seen.cipher, Some(Cipher::TlsAes128));
        let both = Traffic {
            up_bytes: 5,
            down_bytes: 7,
        };
        assert_eq!(seen.traffic, both);
        drop(second);
        assert_eq!(peers.get(&peer), None);
        assert!(peers.all().is_empty());
    }
}
