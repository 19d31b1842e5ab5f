//! What people are shown of the connections.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::addrs;
use super::driver::{Connected, Driver};
use crate::command::PeerInfo;

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
            rtt_ms: known
                .rtt
                .map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)),
        };
        let mut peers: Vec<_> = self.connected.iter().map(info).collect();
        peers.sort_by_key(|info| info.peer);
        peers
    }
}

fn transport_name(remote: &Multiaddr) -> &'static str {
    for part in remote {
        match part {
            Protocol::QuicV1 => return "quic",
            Protocol::Tcp(_) => return "tcp",
            Protocol::Memory(_) => return "memory",
            _ => {}
        }
    }
    "other"
}
