//! Keeps the connections worth keeping open when nothing happens on them.
//!
//! libp2p closes a connection that no protocol uses, and neither Kademlia nor ping count as use. A
//! quiet node would lose all its peers every minute and dial them again the next time it needs one.
//!
//! A connection lives only while both ends keep it. They cannot ask each other, but they judge by the
//! same measures: the distance between the two, and a number drawn for the pair. Nobody dials for the
//! sake of keeping, so where they disagree a connection ends once and does not flap.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandlerEvent};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use sha2::{Digest, Sha256};

use crate::key::Point;

/// Of the connections kept, how many are for the nearest peers of the routing table, in percent, and
/// how many for others of it. The rest is for peers outside of it, clients above all.
const NEAR_PERCENT: usize = 50;
const FAR_PERCENT: usize = 25;

/// Decides which peers' connections are kept.
pub(in crate::net) struct Keep {
    me: PeerId,
    most: usize,
    /// All connections, with whether each has been told to stay.
    connections: HashMap<ConnectionId, (PeerId, bool)>,
    orders: VecDeque<(PeerId, ConnectionId, bool)>,
}

impl Keep {
    pub(in crate::net) fn new(me: PeerId, most: usize) -> Self {
        Self {
            me,
            most,
            connections: HashMap::new(),
            orders: VecDeque::new(),
        }
    }

    /// The peers with whom a connection is kept.
    pub(in crate::net) fn kept(&self) -> HashSet<PeerId> {
        let kept = self.connections.values().filter(|(_, keep)| *keep);
        kept.map(|(peer, _)| *peer).collect()
    }

    /// Chooses anew, knowing who is in the routing table.
    pub(in crate::net) fn choose(&mut self, table: &HashSet<PeerId>) {
        let mut connected: HashMap<PeerId, ConnectionId> = HashMap::new();
        for (id, (peer, _)) in &self.connections {
            let first = connected.entry(*peer).or_insert(*id);
            *first = (*first).min(*id);
        }
        let connected: Vec<_> = connected.into_iter().collect();
        let kept = choose(&self.me, self.most, connected, table);
        for (id, (peer, keep)) in &mut self.connections {
            let wanted = kept.contains(peer);
            if *keep != wanted {
                *keep = wanted;
                self.orders.push_back((*peer, *id, wanted));
            }
        }
    }
}

/// Whom to keep, out of those connected, each with its first connection.
fn choose(
    me: &PeerId,
    most: usize,
    connected: Vec<(PeerId, ConnectionId)>,
    table: &HashSet<PeerId>,
) -> HashSet<PeerId> {
    let (mut members, mut others): (Vec<_>, Vec<_>) = connected
        .into_iter()
        .partition(|(peer, _)| table.contains(peer));
    let mut kept = HashSet::new();
    members.sort_by_cached_key(|(peer, _)| distance(me, peer));
    let near = members.len().min(most * NEAR_PERCENT / 100);
    kept.extend(members.drain(..near).map(|(peer, _)| peer));
    members.sort_by_cached_key(|(peer, _)| drawn(me, peer));
    let far = members.len().min(most * FAR_PERCENT / 100);
    kept.extend(members.drain(..far).map(|(peer, _)| peer));
    // The longest connected first. What they do not need goes to the routing table.
    others.sort_by_key(|(_, id)| *id);
    let rest = others.into_iter().chain(members);
    let room = most.saturating_sub(kept.len());
    kept.extend(rest.take(room).map(|(peer, _)| peer));
    kept
}

fn distance(one: &PeerId, other: &PeerId) -> [u8; 32] {
    let (one, mut other) = (Point::of_peer(one).0, Point::of_peer(other).0);
    other.iter_mut().zip(one).for_each(|(a, b)| *a ^= b);
    other
}

/// A number for two peers, the same at both ends.
fn drawn(one: &PeerId, other: &PeerId) -> [u8; 32] {
    let mut both = [Point::of_peer(one).0, Point::of_peer(other).0];
    both.sort_unstable();
    Sha256::digest(both.concat()).into()
}

impl NetworkBehaviour for Keep {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(new) => {
                self.connections
                    .insert(new.connection_id, (new.peer_id, false));
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connections.remove(&closed.connection_id);
                self.orders.retain(|(_, id, _)| *id != closed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // The driver polls after each choice.
        match self.orders.pop_front() {
            Some((peer_id, id, event)) => Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(id),
                event,
            }),
            None => Poll::Pending,
        }
    }
}

/// Speaks nothing; only says whether the connection is wanted.
#[derive(Default)]
pub(in crate::net) struct Handler {
    keep: bool,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = bool;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep
    }

    fn on_behaviour_event(&mut self, keep: Self::FromBehaviour) {
        self.keep = keep;
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        _: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_but(peers: &[PeerId], me: &PeerId) -> Vec<(PeerId, ConnectionId)> {
        let others = peers.iter().filter(|peer| *peer != me).enumerate();
        others
            .map(|(id, peer)| (*peer, ConnectionId::new_unchecked(id)))
            .collect()
    }

    #[test]
    fn both_ends_agree_about_most_and_everybody_keeps_some() {
        let peers: Vec<_> = (0..100).map(|_| PeerId::random()).collect();
        let table: HashSet<_> = peers.iter().copied().collect();
        let kept: HashMap<PeerId, HashSet<PeerId>> = peers
            .iter()
            .map(|me| (*me, choose(me, 24, all_but(&peers, me), &table)))
            .collect();
        let mutual = |me: &PeerId| {
            let both = kept[me].iter().filter(|other| kept[*other].contains(me));
            both.count()
        };
        let all: usize = peers.iter().map(mutual).sum();
        assert!(kept.values().all(|kept| kept.len() == 24));
        // By chance it would be a quarter.
        assert!(all > 24 * 100 / 2, "{all} of 2400");
        let fewest = peers.iter().map(mutual).min().unwrap();
        assert!(fewest >= 4, "{fewest}");
    }

    #[test]
    fn the_nearest_are_kept_and_clients_find_room() {
        let me = PeerId::random();
        let mut members: Vec<_> = (0..60).map(|_| PeerId::random()).collect();
        members.sort_by_key(|peer| distance(&me, peer));
        let table: HashSet<_> = members.iter().copied().collect();
        let clients: Vec<_> = (0..60).map(|_| PeerId::random()).collect();
        let all = [members.clone(), clients.clone()].concat();
        let kept = choose(&me, 24, all_but(&all, &me), &table);
        assert_eq!(kept.len(), 24);
        assert!(members[..12].iter().all(|peer| kept.contains(peer)));
        let held = clients.iter().filter(|peer| kept.contains(*peer)).count();
        assert_eq!(held, 6);
        assert!(clients[..6].iter().all(|peer| kept.contains(peer)));
        // Nobody gets less than there is room for.
        let few = choose(&me, 24, all_but(&clients, &me), &table);
        assert_eq!(few.len(), 24);
    }

    #[test]
    fn orders_are_given_once_and_end_with_the_connection() {
        let peers = [(); 4].map(|()| PeerId::random());
        let id = ConnectionId::new_unchecked;
        let mut keep = Keep::new(peers[3], 2);
        for (n, peer) in peers[..2].iter().enumerate() {
            keep.connections.insert(id(n), (*peer, false));
        }
        keep.choose(&HashSet::new());
        keep.choose(&HashSet::new());
        assert_eq!(keep.orders.len(), 2, "{:?}", keep.orders);
        assert!(keep.orders.contains(&(peers[0], id(0), true)));
        keep.orders.clear();
        // A member of the routing table comes: the outsider that came last gives way.
        keep.connections.insert(id(2), (peers[2], false));
        keep.choose(&HashSet::from([peers[2]]));
        assert_eq!(keep.orders.len(), 2, "{:?}", keep.orders);
        assert!(keep.orders.contains(&(peers[1], id(1), false)));
        assert!(keep.orders.contains(&(peers[2], id(2), true)));
    }
}
