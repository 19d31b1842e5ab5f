//! Who belongs to the network as this node sees it: the routing table, and who is kept out of it.

mod book;
mod bootstrap;
mod gate;
mod keep;
mod local;
mod origins;
mod remembered;
mod seats;
mod spare;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId, identify, kad};
use tokio::time::Instant;

pub(super) use self::book::Book;
pub(super) use self::bootstrap::{Backoff, Redial};
pub(super) use self::gate::{Gate, Refused};
pub(super) use self::keep::Keep;
pub(super) use self::local::LocalPeers;
pub(crate) use self::origins::Origins;
pub(super) use self::remembered::Recalled;
pub(super) use self::seats::Seats;
use crate::config::Mode;
use crate::neighbourhood::Neighbourhood;
use crate::net::addrs;
use crate::net::driver::Driver;
use crate::net::transport::named::is_somebody_else;
use crate::origin::Origin;

/// The longest agent name kept.
const MAX_AGENT_CHARS: usize = 64;
/// How long a peer of another network stays connected: so long that it learns the same, and does not dial
/// again and again.
const FAREWELL: Duration = Duration::from_secs(1);

impl Driver {
    /// A peer has said who it is: its addresses go to the book, to its records and, if it serves
    /// Kademlia, to the routing table. One of another network is left alone.
    pub(super) fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let Some(known) = self.connected.get_mut(&peer) else {
            return;
        };
        let serves = info.protocols.contains(&self.protocols.kad);
        if !serves && info.protocol_version != self.protocols.family {
            if known.foreign.is_none() {
                tracing::debug!(%peer, "a peer of another network");
                known.foreign = Some(Instant::now());
                self.counters.foreign_peers.add(1);
                let gate = &mut self.swarm.behaviour_mut().gate;
                gate.is_of_another_network(peer, Instant::now());
                // It may have been of this one before.
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
                self.seats.leave(&peer);
                self.count_routed();
            }
            return;
        }
        let mut listed = addrs::usable(&peer, info.listen_addrs);
        // A name does not say where it leads, but who answers at one that the owner has configured, and tells
        // loopback alone, can be reached from this machine alone.
        let near = addrs::is_loopback(&known.remote)
            || (self.swarm.behaviour().gate.is_trusted(&known.remote)
                && listed.iter().all(addrs::is_loopback));
        // A loopback address of another machine would lead to this one.
        if !near {
            listed = addrs::far(listed);
        }
        known.agent = Some(info.agent_version.chars().take(MAX_AGENT_CHARS).collect());
        known.addrs = listed.clone();
        let dialled = known.outbound.then(|| known.remote.clone());
        self.records.tables().set_addrs(&peer, &listed);
        let behaviour = self.swarm.behaviour_mut();
        behaviour.book.insert(peer, listed.clone());
        if serves {
            if listed.is_empty() {
                listed = addrs::usable(&peer, dialled);
            }
            self.route(peer, &addrs::for_routing(&listed));
        } else {
            behaviour.kad.remove_peer(&peer);
            self.seats.leave(&peer);
        }
        self.count_routed();
    }

    /// Enters a peer into the routing table with exactly these addresses, if its origin has room there.
    fn route(&mut self, peer: PeerId, newest: &[Multiaddr]) {
        let origin = self.public_origin(&peer, newest.first());
        if !self.seats.has_room(&peer, origin) {
            self.counters.refused_by_origin.add(1);
            return;
        }
        let kad = &mut self.swarm.behaviour_mut().kad;
        for addr in newest {
            kad.add_address(&peer, addr.clone());
        }
        let mut stale = Vec::new();
        if let Some(bucket) = kad.kbucket(peer) {
            let entry = bucket
                .iter()
                .find(|entry| *entry.node.key.preimage() == peer);
            for addr in entry.iter().flat_map(|entry| entry.node.value.iter()) {
                let plain = addrs::usable(&peer, [addr.clone()]);
                if !plain.iter().all(|plain| newest.contains(plain)) || plain.is_empty() {
                    stale.push(addr.clone());
                }
            }
        }
        if !newest.is_empty() {
            for addr in stale {
                kad.remove_address(&peer, &addr);
            }
        }
    }

    /// The origin of a peer on the public internet: where it is connected from, or else where it is said
    /// to be.
    fn public_origin(&self, peer: &PeerId, said: Option<&Multiaddr>) -> Option<Origin> {
        let connected = self.connected.get(peer).map(|known| &known.remote);
        let addr = connected.or(said)?;
        let limited = Origin::is_public(addr) && !self.swarm.behaviour().gate.is_trusted(addr);
        limited.then(|| Origin::of(addr))
    }

    /// The routing table has changed by itself: a waiting peer has taken the place of one that is gone.
    pub(super) fn on_routing_updated(
        &mut self,
        peer: PeerId,
        addresses: &kad::Addresses,
        old_peer: Option<PeerId>,
    ) {
        if let Some(old) = old_peer {
            self.seats.leave(&old);
        }
        let origin = self.public_origin(&peer, Some(addresses.first()));
        if self.seats.has_room(&peer, origin) {
            self.seats.enter(peer, origin, Instant::now());
        } else {
            self.counters.refused_by_origin.add(1);
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
        }
        self.count_routed();
    }

    /// A peer of the routing table could not be dialled, or has stopped answering.
    pub(super) fn member_failed(&mut self, peer: &PeerId) {
        let others = self.connected.iter().filter(|(other, _)| *other != peer);
        let others = others.map(|(_, known)| &known.remote);
        let is_public = self.seats.is_public(peer);
        if is_cut_off(is_public, others) || !self.seats.failed(peer, Instant::now()) {
            return;
        }
        tracing::debug!(%peer, "gone: not in the routing table any more");
        self.counters.stale_peers_removed.add(1);
        self.swarm.behaviour_mut().kad.remove_peer(peer);
        // It may come back.
        self.recalled.add(*peer);
    }

    /// Whether a peer was dialled in vain, and not merely forgone.
    pub(super) fn was_tried(error: &DialError) -> bool {
        matches!(
            error,
            DialError::Transport(_) | DialError::NoAddresses | DialError::WrongPeerId { .. }
        )
    }

    /// Whether a failed dial says something about the peer that was dialled. That somebody else answers where
    /// others say it is says something about those others.
    pub(super) fn is_its_fault(&self, peer: &PeerId, error: &DialError) -> bool {
        let book = &self.swarm.behaviour().book;
        is_fault(error, |addr| book.is_own(peer, addr))
    }

    /// Looks after members that may be gone, and parts from strangers.
    pub(super) fn check_members(&mut self, now: Instant) {
        let known = self.connected.iter();
        let strangers = known.filter(|(_, known)| {
            let since = known.foreign;
            since.is_some_and(|since| since + FAREWELL <= now)
        });
        for peer in strangers.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        if self.connected.is_empty() {
            return;
        }
        let connected = &self.connected;
        for peer in self.seats.due(now, |peer| connected.contains_key(peer)) {
            self.seats.checked(&peer, now);
            if let Err(error) = self.dial_peer(peer) {
                tracing::debug!(%peer, %error, "not dialled");
                if self.is_its_fault(&peer, &error) {
                    self.member_failed(&peer);
                }
            }
        }
    }

    /// Serves, or does not: Kademlia, and through it identify, tell the peers; the rest of the node reads it.
    pub(super) fn apply_mode(&mut self) {
        let mode = self.reachability.mode();
        let changed = self.mode.send_if_modified(|was| {
            let changed = *was != mode;
            *was = mode;
            changed
        });
        let kad = &mut self.swarm.behaviour_mut().kad;
        let wanted = match mode {
            Mode::Client => kad::Mode::Client,
            Mode::Server | Mode::Auto => kad::Mode::Server,
        };
        if kad.mode() != wanted {
            kad.set_mode(Some(wanted));
        }
        if changed {
            tracing::debug!(?mode, "mode of the node");
        }
    }

    /// Tells the rest of the node who is in the routing table, and chooses the connections to keep.
    pub(super) fn tell_neighbourhood(&mut self) {
        let me = *self.swarm.local_peer_id();
        let table = self.routing_table();
        let members: HashSet<PeerId> = table.iter().copied().collect();
        self.swarm.behaviour_mut().keep.choose(&members);
        let now = Neighbourhood::new(&me, table);
        self.neighbourhood.send_if_modified(|was| {
            let changed = was.peers() != now.peers();
            if changed {
                *was = Arc::new(now);
            }
            changed
        });
    }

    /// Tells the rest of the node how many connected peers are in the routing table.
    pub(super) fn count_routed(&mut self) {
        let table = self.routing_table();
        let count = table
            .iter()
            .filter(|peer| self.connected.contains_key(peer))
            .count();
        self.routed
            .send_if_modified(|was| std::mem::replace(was, count) != count);
    }

    pub(super) fn routing_table(&mut self) -> Vec<PeerId> {
        let mut peers = Vec::new();
        for bucket in self.swarm.behaviour_mut().kad.kbuckets() {
            peers.extend(bucket.iter().map(|entry| *entry.node.key.preimage()));
        }
        peers
    }
}

/// Whether a peer was not where it should be. `is_own` are the addresses that do not rest on the word of others.
fn is_fault(error: &DialError, is_own: impl Fn(&Multiaddr) -> bool) -> bool {
    match error {
        DialError::Transport(failed) => failed.iter().any(|(addr, error)| match error {
            TransportError::Other(error) => !is_somebody_else(error) || is_own(addr),
            TransportError::MultiaddrNotSupported(_) => false,
        }),
        DialError::WrongPeerId { address, .. } => is_own(address),
        DialError::NoAddresses => true,
        _ => false,
    }
}

/// Whether a failure says nothing about a peer, for it is this node that is cut off: nobody else is connected, or
/// nobody of the internet while the peer is there. `others` is where the others are.
fn is_cut_off<'a>(is_public: bool, mut others: impl Iterator<Item = &'a Multiaddr>) -> bool {
    !others.any(|remote| !is_public || Origin::is_public(remote))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::net::transport::named::SomebodyElse;

    #[test]
    fn a_peer_is_not_to_blame_for_where_others_say_it_is() {
        let [own, told]: [Multiaddr; 2] =
            ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"].map(|addr| addr.parse().unwrap());
        let failed = |addr: &Multiaddr, wrong: bool| {
            let error = match wrong {
                true => io::Error::other(SomebodyElse(PeerId::random())),
                false => io::Error::from(io::ErrorKind::ConnectionRefused),
            };
            (addr.clone(), TransportError::Other(error))
        };
        let fault = |failed| is_fault(&DialError::Transport(failed), |addr| *addr == own);
        assert!(!fault(vec![failed(&told, true)]));
        assert!(fault(vec![failed(&told, true), failed(&own, true)]));
        assert!(fault(vec![failed(&told, true), failed(&own, false)]));
        assert!(!is_fault(&DialError::Aborted, |_| true));
    }

    #[test]
    fn a_neighbour_is_no_witness_that_the_internet_is_there() {
        let [near, far]: [Multiaddr; 2] =
            ["/ip4/192.168.1.2/tcp/1", "/ip4/8.8.8.8/tcp/1"].map(|addr| addr.parse().unwrap());
        assert!(is_cut_off(true, [].iter()) && is_cut_off(false, [].iter()));
        assert!(is_cut_off(true, [&near].into_iter()));
        assert!(!is_cut_off(false, [&near].into_iter()));
        assert!(!is_cut_off(true, [&near, &far].into_iter()));
    }
}
