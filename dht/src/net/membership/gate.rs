//! Who may be connected at all: not too many of one origin, and nobody of another network.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::net::addrs;
use crate::origin::Origin;

/// Peers of other networks that are remembered: some 100 KiB.
const MAX_FOREIGN: usize = 1024;

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::net) enum Refused {
    #[error("too many connections with one part of the internet")]
    Origin,
    #[error("a peer of another network")]
    Foreign,
}

/// Connections by their origins. Bounded by the connections there may be.
#[derive(Default)]
struct Counted {
    origins: HashMap<ConnectionId, Origin>,
    counts: HashMap<Origin, u32>,
}

impl Counted {
    fn of(&self, origin: Origin) -> u32 {
        self.counts.get(&origin).copied().unwrap_or(0)
    }

    fn add(&mut self, id: ConnectionId, origin: Origin) {
        if self.origins.insert(id, origin).is_none() {
            *self.counts.entry(origin).or_default() += 1;
        }
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(origin) = self.origins.remove(&id) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&origin);
            }
        }
    }
}

/// Counts connections by origin, and remembers the peers of other networks.
pub(in crate::net) struct Gate {
    max_per_origin: u32,
    /// Handshakes at a time with one address of a private network.
    max_local_pending: u32,
    foreign_for: Duration,
    /// Addresses that the owner has configured, without `/p2p`: not limited.
    trusted: HashSet<Multiaddr>,
    /// Connections with the public internet, those of others from their first byte on.
    public: Counted,
    /// Handshakes that others have begun from private networks.
    local: Counted,
    /// Peers of other networks, and until when they are left alone.
    foreign: HashMap<PeerId, Instant>,
}

impl Gate {
    pub(in crate::net) fn new(max_per_origin: u32, foreign_for: Duration) -> Self {
        Self {
            max_per_origin,
            max_local_pending: u32::MAX,
            foreign_for,
            trusted: HashSet::new(),
            public: Counted::default(),
            local: Counted::default(),
            foreign: HashMap::new(),
        }
    }

    /// Keeps a part of the handshakes that may be under way free of any one address of a private network.
    pub(in crate::net) fn with_pending(mut self, pending_in: u32) -> Self {
        self.max_local_pending = (pending_in / 2).max(1);
        self
    }

    /// Trusts addresses that the owner has configured.
    pub(in crate::net) fn trusting<'a>(
        mut self,
        addrs: impl Iterator<Item = &'a Multiaddr>,
    ) -> Self {
        self.trusted = addrs.map(addrs::unnamed).collect();
        self
    }

    /// Whether the owner has configured the address.
    pub(super) fn is_trusted(&self, addr: &Multiaddr) -> bool {
        addrs::is_name(addr) && self.trusted.contains(&addrs::unnamed(addr))
    }

    /// A peer has turned out to be of another network.
    pub(super) fn is_of_another_network(&mut self, peer: PeerId, now: Instant) {
        self.foreign.retain(|_, until| *until > now);
        if self.foreign.len() >= MAX_FOREIGN && !self.foreign.contains_key(&peer) {
            let first = self.foreign.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(peer, _)| *peer) {
                self.foreign.remove(&first);
            }
        }
        self.foreign.insert(peer, now + self.foreign_for);
    }

    /// Whether a peer was found to be of another network a short time ago.
    pub(in crate::net) fn is_foreign(&self, peer: &PeerId, now: Instant) -> bool {
        self.foreign.get(peer).is_some_and(|until| *until > now)
    }

    fn check_peer(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        match self.is_foreign(peer, Instant::now()) {
            true => Err(ConnectionDenied::new(Refused::Foreign)),
            false => Ok(()),
        }
    }

    /// The origin to count a connection by, if it is one of many that one party may have.
    fn limited(&self, remote: &Multiaddr) -> Option<Origin> {
        let limited = Origin::is_public(remote) && !self.is_trusted(remote);
        limited.then(|| Origin::of(remote))
    }

    /// Counts a connection; refused when there are too many of its origin.
    fn count(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), ConnectionDenied> {
        let Some(origin) = self.limited(remote) else {
            return Ok(());
        };
        let counted = self.public.origins.contains_key(&id);
        if !counted && self.public.of(origin) >= self.max_per_origin {
            return Err(ConnectionDenied::new(Refused::Origin));
        }
        self.public.add(id, origin);
        Ok(())
    }

    /// Counts a handshake from a private network.
    fn count_local(
        &mut self,
        id: ConnectionId,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let origin = Origin::of(remote);
        if Origin::is_public(remote) || origin == Origin::default() {
            return Ok(());
        }
        if self.local.of(origin) >= self.max_local_pending {
            return Err(ConnectionDenied::new(Refused::Origin));
        }
        self.local.add(id, origin);
        Ok(())
    }

    fn admit(
        &mut self,
        id: ConnectionId,
        peer: &PeerId,
        remote: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.local.remove(id);
        self.check_peer(peer)?;
        self.count(id, remote)?;
        Ok(dummy::ConnectionHandler)
    }

    fn over(&mut self, id: ConnectionId) {
        self.public.remove(id);
        self.local.remove(id);
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        // Before the handshake costs anything, and until it is over: one host must not keep all of those that
        // may be under way for itself.
        self.count(id, remote)?;
        self.count_local(id, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(id, &peer, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        peer.map_or(Ok(()), |peer| self.check_peer(&peer))?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(id, &peer, remote)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.over(closed.connection_id),
            // A handshake has failed, or another protocol has refused after this one was asked.
            FromSwarm::DialFailure(failed) => self.over(failed.connection_id),
            FromSwarm::ListenFailure(failed) => self.over(failed.connection_id),
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
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn inbound(gate: &mut Gate, id: usize, from: &str) -> Result<(), Refused> {
        let (here, remote) = ("/memory/1".parse().unwrap(), from.parse().unwrap());
        let (id, peer) = (ConnectionId::new_unchecked(id), PeerId::random());
        let pending = gate.handle_pending_inbound_connection(id, &here, &remote);
        let admitted = pending.and_then(|()| {
            gate.handle_established_inbound_connection(id, peer, &here, &remote)
                .map(drop)
        });
        admitted.map_err(|denied| denied.downcast::<Refused>().unwrap())
    }

    #[test]
    fn one_part_of_the_internet_gets_so_many_connections() {
        let mut gate = Gate::new(3, LONG);
        for id in 0..3 {
            assert_eq!(inbound(&mut gate, id, "/ip4/8.8.8.8/tcp/1"), Ok(()));
        }
        let same = "/ip4/8.8.8.9/tcp/2";
        assert_eq!(inbound(&mut gate, 3, same), Err(Refused::Origin));
        assert_eq!(inbound(&mut gate, 4, "/ip4/8.8.9.8/tcp/1"), Ok(()));
        // Those this node dials count too.
        let (id, peer) = (ConnectionId::new_unchecked(5), PeerId::random());
        let dial = gate.handle_established_outbound_connection(
            id,
            peer,
            &same.parse().unwrap(),
            Endpoint::Dialer,
            PortUse::New,
        );
        assert!(dial.is_err());
        gate.over(ConnectionId::new_unchecked(1));
        assert_eq!(inbound(&mut gate, 6, same), Ok(()));
        // A private network is somebody's own.
        for id in 10..30 {
            assert_eq!(inbound(&mut gate, id, "/ip4/192.168.1.2/tcp/1"), Ok(()));
            assert_eq!(inbound(&mut gate, id + 50, "/ip4/127.0.0.1/tcp/1"), Ok(()));
        }
        (0..99).for_each(|id| gate.over(ConnectionId::new_unchecked(id)));
        assert!(gate.public.counts.is_empty() && gate.public.origins.is_empty());
        assert!(gate.local.counts.is_empty());
    }

    #[test]
    fn one_machine_of_a_private_network_leaves_handshakes_to_others() {
        let mut gate = Gate::new(3, LONG).with_pending(4);
        let here = "/memory/1".parse().unwrap();
        let pending = |gate: &mut Gate, id, from: &str| {
            let id = ConnectionId::new_unchecked(id);
            gate.handle_pending_inbound_connection(id, &here, &from.parse().unwrap())
        };
        let near = "/ip4/192.168.1.2/tcp/1";
        assert!(pending(&mut gate, 0, near).is_ok() && pending(&mut gate, 1, near).is_ok());
        assert!(pending(&mut gate, 2, near).is_err());
        assert!(pending(&mut gate, 3, "/ip4/192.168.1.3/tcp/1").is_ok());
        gate.over(ConnectionId::new_unchecked(0));
        assert!(pending(&mut gate, 4, near).is_ok());
        // What is established makes room.
        let (id, remote) = (ConnectionId::new_unchecked(1), near.parse().unwrap());
        assert!(gate.admit(id, &PeerId::random(), &remote).is_ok());
        assert!(pending(&mut gate, 5, near).is_ok());
    }

    #[test]
    fn names_are_limited_but_for_those_the_owner_has_configured() {
        let ours: Multiaddr = "/dns4/ours.example/tcp/1".parse().unwrap();
        let mut gate = Gate::new(2, LONG).trusting([ours.clone()].iter());
        let mut dialled = |id, remote: &Multiaddr| {
            let id = ConnectionId::new_unchecked(id);
            gate.admit(id, &PeerId::random(), remote).is_ok()
        };
        let named = ours.with_p2p(PeerId::random()).unwrap();
        assert!((0..5).all(|id| dialled(id, &named)));
        let many = |n| -> Multiaddr { format!("/dns4/n{n}.example/tcp/1").parse().unwrap() };
        assert!(dialled(5, &many(5)) && dialled(6, &many(6)) && !dialled(7, &many(7)));
    }

    #[test]
    fn handshakes_that_are_under_way_count_for_their_origin() {
        let mut gate = Gate::new(3, LONG);
        let here = "/memory/1".parse().unwrap();
        let mut pending = |id, from: &str| {
            let id = ConnectionId::new_unchecked(id);
            gate.handle_pending_inbound_connection(id, &here, &from.parse().unwrap())
        };
        for id in 0..3 {
            assert!(pending(id, "/ip4/8.8.8.8/tcp/1").is_ok());
        }
        assert!(
            pending(3, "/ip4/8.8.8.9/tcp/2").is_err(),
            "one host keeps all handshakes for itself"
        );
        assert!(pending(4, "/ip4/8.8.9.8/tcp/1").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn peers_of_other_networks_are_left_alone_for_a_while() {
        let (mut gate, peer, now) = (Gate::new(9, LONG), PeerId::random(), Instant::now());
        gate.is_of_another_network(peer, now);
        let dial = |gate: &mut Gate, peer| {
            let id = ConnectionId::new_unchecked(1);
            gate.handle_pending_outbound_connection(id, Some(peer), &[], Endpoint::Dialer)
        };
        assert!(dial(&mut gate, peer).is_err());
        assert!(dial(&mut gate, PeerId::random()).is_ok());
        assert!(gate.is_foreign(&peer, now + LONG - Duration::from_secs(1)));
        assert!(!gate.is_foreign(&peer, now + LONG));
        for second in 1..3000 {
            gate.is_of_another_network(PeerId::random(), now + Duration::from_millis(second));
        }
        assert_eq!(gate.foreign.len(), MAX_FOREIGN);
        assert!(!gate.is_foreign(&peer, now), "the oldest gives way");
    }
}
