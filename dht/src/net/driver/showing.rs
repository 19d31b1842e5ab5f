//! What people are shown of the connections.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::{Connected, Driver};
use crate::command::PeerInfo;
use crate::exchange::MAX_SWARM_ADDRS;
use crate::net::addrs::{self, transport_name};

impl Driver {
    pub(super) fn listen_addrs(&self) -> Vec<Multiaddr> {
        let me = *self.swarm.local_peer_id();
        let shown = addrs::to_show(self.swarm.listeners());
        shown
            .into_iter()
            .map(|addr| addr.with(Protocol::P2p(me)))
            .collect()
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        let info = |(peer, known): (&PeerId, &Connected)| PeerInfo {
            peer: *peer,
            addrs: match known.addrs.is_empty() {
                true => vec![known.remote.clone()],
                false => known.addrs.clone(),
            },
            agent: known.agent.clone(),
            outbound: known.outbound,
            transport: transport_name(&known.remote),
            cipher: None,
            rtt_ms: known
                .rtt
                .map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)),
        };
        let mut peers: Vec<_> = self.connected.iter().map(info).collect();
        peers.sort_by_key(|info| info.peer);
        peers
    }

    /// Where others may reach a connected peer: where this node has dialled it, and what it says itself. Not what
    /// others say, who may be wrong.
    pub(super) fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        if !self.connected.contains_key(&peer) {
            return Vec::new();
        }
        let own = self.swarm.behaviour().book.own(&peer);
        let mut own = addrs::usable(&peer, own);
        own.truncate(MAX_SWARM_ADDRS);
        own
    }
}
