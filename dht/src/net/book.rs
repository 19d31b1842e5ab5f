//! The address book: where peers were last heard of, for every dial by peer id.
//!
//! Kademlia knows a provider's addresses only while the lookup lives; here they stay.

use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::addrs;

/// Peers remembered: some 4 MiB at most, and more than one download ever talks to.
const MAX_PEERS: usize = 4096;

/// The address book.
#[derive(Default)]
pub(crate) struct Book {
    entries: HashMap<PeerId, (u64, Vec<Multiaddr>)>,
    turn: u64,
}

impl Book {
    /// Notes the newest addresses of a peer; they replace older ones. The peer that was noted the
    /// longest ago gives way when the book is full.
    pub(crate) fn insert(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        if addrs.is_empty() {
            return;
        }
        if self.entries.len() >= MAX_PEERS && !self.entries.contains_key(&peer) {
            let oldest = self.entries.iter().min_by_key(|(_, (turn, _))| *turn);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.entries.remove(&oldest);
            }
        }
        self.turn += 1;
        self.entries.insert(peer, (self.turn, addrs));
    }

    /// Notes addresses that somebody has just told of a peer, before those that were known: a peer that
    /// has moved is found, and one that has not is not lost by a wrong word.
    pub(crate) fn merge(&mut self, peer: PeerId, newest: Vec<Multiaddr>) {
        if newest.is_empty() {
            return;
        }
        let merged = newest.into_iter().chain(self.get(&peer));
        let merged = addrs::usable(&peer, merged);
        self.insert(peer, merged);
    }

    /// The noted addresses of a peer.
    pub(crate) fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.entries
            .get(peer)
            .map(|(_, addrs)| addrs.clone())
            .unwrap_or_default()
    }
}

impl NetworkBehaviour for Book {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Ok(peer.map(|peer| self.get(&peer)).unwrap_or_default())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_last_comes_first() {
        let addr = |n: u8| -> Multiaddr { format!("/ip4/10.0.0.{n}/tcp/1").parse().unwrap() };
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.merge(peer, vec![addr(1), addr(2)]);
        book.merge(peer, vec![addr(3), addr(2)]);
        book.merge(peer, vec![]);
        assert_eq!(book.get(&peer), [addr(3), addr(2), addr(1)]);
        for n in 4..100 {
            book.merge(peer, vec![addr(n)]);
        }
        assert_eq!(book.get(&peer)[0], addr(99));
        assert_eq!(
            book.get(&peer).len(),
            crate::records::tables::MAX_ADDRS_PER_PEER
        );
    }

    #[test]
    fn the_book_is_bounded_and_keeps_the_newest() {
        let mut book = Book::default();
        let addr: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        let first = PeerId::random();
        book.insert(first, vec![addr.clone()]);
        for _ in 0..MAX_PEERS {
            book.insert(PeerId::random(), vec![addr.clone()]);
        }
        assert_eq!(book.entries.len(), MAX_PEERS);
        assert!(book.get(&first).is_empty());
    }
}
