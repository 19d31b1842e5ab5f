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

use crate::net::addrs;

/// Peers remembered: some 6 MiB at most, and more than one download ever talks to.
const MAX_PEERS: usize = 4096;
/// Addresses of a peer that others have told.
const MAX_HEARD: usize = 8;

/// What is known of one peer.
#[derive(Default)]
struct Entry {
    turn: u64,
    /// Where it was last dialled with success.
    reached: Option<Multiaddr>,
    /// What it has said itself. At most as many as a peer may list.
    said: Vec<Multiaddr>,
    /// What others say of it, the newest first. None of the above.
    heard: Vec<Multiaddr>,
}

impl Entry {
    /// The peer's own word and what has been tried.
    fn own(&self) -> impl Iterator<Item = &Multiaddr> {
        let said = self.said.iter();
        let said = said.filter(|addr| self.reached.as_ref() != Some(*addr));
        self.reached.iter().chain(said)
    }
}

/// The address book.
#[derive(Default)]
pub(crate) struct Book {
    entries: HashMap<PeerId, Entry>,
    turn: u64,
}

impl Book {
    /// Notes the addresses that a peer has told of itself; they replace what it said before, and what others
    /// said.
    pub(crate) fn insert(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        if addrs.is_empty() {
            return;
        }
        let entry = self.entry(peer);
        entry.said = addrs;
        entry.heard.clear();
    }

    /// Notes where a peer was dialled with success.
    pub(crate) fn reached(&mut self, peer: PeerId, addr: Multiaddr) {
        let entry = self.entry(peer);
        entry.heard.retain(|heard| *heard != addr);
        entry.reached = Some(addr);
    }

    /// Notes addresses that somebody has just told of a peer: one that has moved is found, and one that has
    /// not is not lost by a wrong word.
    pub(crate) fn merge(&mut self, peer: PeerId, newest: Vec<Multiaddr>) {
        if newest.is_empty() {
            return;
        }
        let entry = self.entry(peer);
        let own: Vec<_> = entry.own().cloned().collect();
        let heard = newest.into_iter().chain(std::mem::take(&mut entry.heard));
        let heard = heard.filter(|addr| !own.contains(addr));
        entry.heard = addrs::usable(&peer, heard);
        entry.heard.truncate(MAX_HEARD);
    }

    /// The noted addresses of a peer: its own and those that others have told in turn, so that neither keep
    /// the others waiting.
    pub(crate) fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let Some(entry) = self.entries.get(peer) else {
            return Vec::new();
        };
        let (mut own, mut heard) = (entry.own(), entry.heard.iter());
        let mut addrs = Vec::new();
        loop {
            let before = addrs.len();
            addrs.extend(own.next().cloned());
            addrs.extend(heard.next().cloned());
            if addrs.len() == before {
                return addrs;
            }
        }
    }

    /// The addresses of a peer that do not rest on the word of others.
    pub(crate) fn own(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let entry = self.entries.get(peer);
        entry.map_or_else(Vec::new, |entry| entry.own().cloned().collect())
    }

    /// Whether an address, with or without `/p2p`, is one of these.
    pub(crate) fn is_own(&self, peer: &PeerId, addr: &Multiaddr) -> bool {
        let addr = addrs::unnamed(addr);
        let entry = self.entries.get(peer);
        entry.is_some_and(|entry| entry.own().any(|own| *own == addr))
    }

    /// The entry of a peer, as the newest. The peer that was noted the longest ago gives way when the book is
    /// full.
    fn entry(&mut self, peer: PeerId) -> &mut Entry {
        if self.entries.len() >= MAX_PEERS && !self.entries.contains_key(&peer) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.turn);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.entries.remove(&oldest);
            }
        }
        self.turn += 1;
        let entry = self.entries.entry(peer).or_default();
        entry.turn = self.turn;
        entry
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
        assert_eq!(book.get(&peer).len(), MAX_HEARD);
    }

    #[test]
    fn only_what_is_known_for_sure_is_the_peers_own() {
        let addr = |n: u8| -> Multiaddr { format!("/ip4/10.0.0.{n}/tcp/1").parse().unwrap() };
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.merge(peer, vec![addr(1), addr(2)]);
        assert!(book.own(&peer).is_empty() && !book.is_own(&peer, &addr(1)));
        book.reached(peer, addr(2));
        assert_eq!(book.own(&peer), [addr(2)]);
        book.insert(peer, vec![addr(3), addr(2)]);
        assert_eq!(book.own(&peer), [addr(2), addr(3)]);
        assert_eq!(book.get(&peer), [addr(2), addr(3)], "no more hearsay");
        book.merge(peer, vec![addr(4), addr(3), addr(5)]);
        assert_eq!(book.own(&peer), [addr(2), addr(3)]);
        assert_eq!(book.get(&peer), [2, 4, 3, 5].map(addr));
        let named = addr(3).with_p2p(peer).unwrap();
        assert!(book.is_own(&peer, &named) && !book.is_own(&peer, &addr(4)));
    }

    #[test]
    fn many_wrong_words_do_not_push_the_true_address_out() {
        let addr = |n: u8| -> Multiaddr { format!("/ip4/10.0.0.{n}/tcp/1").parse().unwrap() };
        let (mut book, peer) = (Book::default(), PeerId::random());
        // What the peer itself has said.
        book.insert(peer, vec![addr(1)]);
        // What one answer of somebody else says of it.
        book.merge(peer, (2..40).map(addr).collect());
        assert_eq!(book.get(&peer)[0], addr(1));
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
