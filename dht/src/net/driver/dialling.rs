//! Connections this node opens, and who waits for them.

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use rand::seq::IteratorRandom;
use tokio::time::Instant;

use super::{DIAL_CONCURRENCY, Driver};
use crate::command::Answer;
use crate::error::DhtError;
use crate::net::addrs;
use crate::net::membership::Redial;

/// Callers that wait for one peer's connection: as many as there may be connections in all. Nothing bounds
/// the callers themselves, so one more is refused.
const MAX_WAITING: usize = 1024;
/// Peers of the routing table, and of the local network, that are dialled at once when nobody is connected.
const MAX_REJOIN_DIALS: usize = 8;
/// With fewer connected peers of the routing table than this, those known before are dialled now and then.
const FEW_ROUTED: usize = 8;

impl Driver {
    /// Nobody of the network is connected: dials the nodes to join by, and some known before.
    pub(super) fn join(&mut self) {
        self.dial_bootstrap(Redial::Everybody);
        // Not always the same: those may be the ones that are gone.
        let known = self.routing_table().into_iter();
        let mut some = known.choose_multiple(&mut rand::rng(), MAX_REJOIN_DIALS);
        let local = self.local.peers();
        some.extend(local.choose_multiple(&mut rand::rng(), MAX_REJOIN_DIALS));
        some.extend(self.next_recalled());
        some.into_iter().for_each(|peer| self.dial_known(peer));
    }

    /// Somebody is connected: dials the nodes to join by that are not, and, if few are, some known before. It may
    /// be that only neighbours are left while the internet is away.
    pub(super) fn join_more(&mut self) {
        self.dial_bootstrap(Redial::Bootstrap);
        if *self.routed.borrow() >= FEW_ROUTED {
            return;
        }
        let known = self.routing_table().into_iter();
        let away = known.filter(|peer| !self.connected.contains_key(peer));
        let mut some = away.choose_multiple(&mut rand::rng(), MAX_REJOIN_DIALS);
        some.extend(self.next_recalled());
        some.into_iter().for_each(|peer| self.dial_known(peer));
    }

    /// Dials a peer for its own sake; nobody waits for it.
    pub(super) fn dial_known(&mut self, peer: PeerId) {
        if let Err(error) = self.dial_peer(peer) {
            tracing::debug!(%peer, %error, "not dialled");
        }
    }

    /// Dials the nodes to join by that are neither connected nor being dialled. One that is a good member of
    /// the routing table is no other half of the network: it is left alone unless nobody is connected.
    pub(super) fn dial_bootstrap(&mut self, whom: Redial) {
        for at in 0..self.bootstrap.len() {
            let (addr, peer) = &self.bootstrap[at];
            let now = Instant::now();
            let gate = &self.swarm.behaviour().gate;
            if peer.is_some_and(|peer| self.connected.contains_key(&peer))
                || peer.is_some_and(|peer| gate.is_foreign(&peer, now))
                || peer.is_some_and(|peer| whom == Redial::Bootstrap && self.seats.stands(&peer))
                || self
                    .bootstrap_dials
                    .values()
                    .any(|under_way| *under_way == at)
            {
                continue;
            }
            let opts = DialOpts::from(addr.clone());
            let id = opts.connection_id();
            match self.swarm.dial(opts) {
                Ok(()) => drop(self.bootstrap_dials.insert(id, at)),
                Err(error) => tracing::debug!(%error, "not dialled"),
            }
        }
    }

    pub(super) fn dial(&mut self, addr: Multiaddr, answer: Answer<PeerId>) {
        let connected = match addrs::named_peer(&addr) {
            Some(peer) => Some(peer).filter(|peer| self.connected.contains_key(peer)),
            // Every dial would add a connection, and the limit for one peer is soon reached.
            None => self.connected_at(&addr),
        };
        if let Some(peer) = connected {
            let _ = answer.send(Ok(peer));
            return;
        }
        let target = addr.to_string();
        let opts = DialOpts::from(addr);
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dials.retain(|_, waiting| !waiting.is_closed());
                self.dials.insert(id, answer);
            }
            Err(error) => {
                let _ = answer.send(Err(DhtError::Dial {
                    target,
                    source: Box::new(error),
                }));
            }
        }
    }

    /// The connected peer that answered when this address was dialled.
    fn connected_at(&self, addr: &Multiaddr) -> Option<PeerId> {
        let known = self
            .connected
            .iter()
            .find(|(_, known)| known.dialled.contains(addr));
        known.map(|(peer, _)| *peer)
    }

    /// Dials a peer by the addresses in the book, unless it is connected or being dialled.
    pub(in crate::net) fn dial_peer(&mut self, peer: PeerId) -> Result<(), DialError> {
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .override_dial_concurrency_factor(DIAL_CONCURRENCY)
            .build();
        match self.swarm.dial(opts) {
            Err(DialError::DialPeerConditionFalse(_)) => Ok(()),
            result => result,
        }
    }

    pub(super) fn connect(&mut self, peer: PeerId, known: Vec<Multiaddr>, answer: Answer<()>) {
        if self.bans.contains_key(&peer) {
            let _ = answer.send(Err(DhtError::Banned(peer)));
            return;
        }
        if self.connected.contains_key(&peer) {
            let _ = answer.send(Ok(()));
            return;
        }
        self.make_room_now();
        // What others tell of this machine is not believed.
        let known = match self.hears_of_this_machine() {
            true => known,
            false => addrs::far(known),
        };
        let book = &mut self.swarm.behaviour_mut().book;
        book.merge(peer, known);
        if let Err(error) = self.dial_peer(peer) {
            let target = peer.to_string();
            let _ = answer.send(Err(DhtError::Dial {
                target,
                source: Box::new(error),
            }));
            return;
        }
        let waiting = self.waiting.entry(peer).or_default();
        waiting.retain(|waiting| !waiting.is_closed());
        if waiting.len() < MAX_WAITING {
            waiting.push(answer);
        } else {
            let (target, source) = (peer.to_string(), "too many wait for this peer".into());
            let _ = answer.send(Err(DhtError::Dial { target, source }));
        }
    }

    /// A connection is up, whoever dialled: answers those who wait for this dial or this peer.
    pub(super) fn dial_succeeded(&mut self, id: ConnectionId, peer: PeerId) {
        if let Some(answer) = self.dials.remove(&id) {
            let _ = answer.send(Ok(peer));
        }
        if self.back_dials.remove(&id) {
            self.swarm.close_connection(id);
        }
        if let Some(at) = self.bootstrap_dials.remove(&id) {
            self.bootstrap[at].1 = Some(peer);
        }
        for answer in self.waiting.remove(&peer).unwrap_or_default() {
            let _ = answer.send(Ok(()));
        }
    }

    /// A connection of this node's own did not come about.
    pub(super) fn dial_failed(&mut self, id: ConnectionId, peer: Option<PeerId>, error: DialError) {
        let reason = error.to_string();
        if let DialError::Denied { cause } = &error {
            self.count_denied(cause);
        }
        // While there is a connection, another that fails says nothing.
        let gone = peer.filter(|peer| !self.connected.contains_key(peer));
        if let Some(peer) = gone.filter(|peer| self.is_its_fault(peer, &error)) {
            self.member_failed(&peer);
        }
        if self.back_dials.remove(&id)
            && !Self::was_tried(&error)
            && let (Some(peer), Some(answer)) = (peer, self.dials.remove(&id))
        {
            let _ = answer.send(Err(DhtError::Unsupported(peer)));
        }
        if let Some(at) = self.bootstrap_dials.remove(&id) {
            let addr = &self.bootstrap[at].0;
            if self.connected.is_empty() {
                tracing::info!(%addr, reason, "no answer from a bootstrap node");
            } else {
                tracing::debug!(%addr, reason, "no answer from a bootstrap node");
            }
        }
        if let Some(answer) = self.dials.remove(&id) {
            let target = peer.map_or_else(|| "the address".to_owned(), |peer| peer.to_string());
            let _ = answer.send(Err(DhtError::Dial {
                target,
                source: Box::new(error),
            }));
        }
        let Some(peer) = peer.filter(|peer| !self.connected.contains_key(peer)) else {
            return;
        };
        for answer in self.waiting.remove(&peer).unwrap_or_default() {
            let (target, source) = (peer.to_string(), reason.clone().into());
            let _ = answer.send(Err(DhtError::Dial { target, source }));
        }
    }
}
