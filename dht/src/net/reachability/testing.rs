//! The driver's part in finding out who can be dialled.

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use rand::seq::IteratorRandom;
use tokio::time::Instant;

use super::protocol::{MAX_PORTS, Ports, Question};
use crate::command::Answer;
use crate::error::DhtError;
use crate::net::addrs;
use crate::net::driver::Driver;
use crate::origin::Origin;

impl Driver {
    /// The next peer to ask whether it can dial this node, if it is time.
    pub(in crate::net) fn whom_to_ask(&mut self) -> Option<Question> {
        let now = Instant::now();
        let ports = ports(self.listened.iter().map(|(_, addr)| addr));
        if ports == Ports::default() {
            return None;
        }
        let willing = self.connected.iter().filter_map(|(peer, known)| {
            let origin = Origin::of(&known.remote);
            let may = self.is_outside(&known.remote);
            (may && self.reachability.may_ask(peer, origin, now)).then_some((*peer, origin))
        });
        let (peer, origin) = willing.choose(&mut rand::rng())?;
        self.reachability.asked(now);
        Some(Question {
            peer,
            origin,
            ports,
        })
    }

    /// Dials a connected peer at the address it comes from and these ports. Not with the port this node
    /// listens at: its router might let that in for the sake of the connection there is.
    pub(in crate::net) fn dial_back(
        &mut self,
        peer: PeerId,
        ports: &Ports,
        answer: Answer<PeerId>,
    ) {
        let remote = self.connected.get(&peer).map(|known| known.remote.clone());
        let addrs = match remote {
            Some(remote) if self.is_outside(&remote) => at(&remote, ports),
            _ => Vec::new(),
        };
        if addrs.is_empty() {
            let _ = answer.send(Err(DhtError::Unsupported(peer)));
            return;
        }
        let opts = DialOpts::peer_id(peer)
            .addresses(addrs)
            .condition(PeerCondition::Always)
            .allocate_new_port()
            .build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dials.insert(id, answer);
                self.back_dials.insert(id);
            }
            Err(_) => drop(answer.send(Err(DhtError::Unsupported(peer)))),
        }
    }

    /// Somebody else has tried to dial this node.
    pub(in crate::net) fn tested(&mut self, by: PeerId, origin: Origin, reached: bool) {
        self.reachability
            .tested(by, origin, reached, Instant::now());
        self.apply_mode();
    }

    /// A connection that somebody else has opened may show that this node can be reached.
    pub(in crate::net) fn note_connection(&mut self, endpoint: &ConnectedPoint) {
        let remote = endpoint.get_remote_address();
        if !self.is_outside(remote) {
            return;
        }
        match endpoint {
            ConnectedPoint::Dialer { .. } => self.reachability.dialled(Origin::of(remote)),
            ConnectedPoint::Listener { .. } => {
                self.reachability
                    .came_in(Origin::of(remote), Instant::now());
                self.apply_mode();
            }
        }
    }

    /// Whether an address is one whose peers can say something about being reachable.
    pub(super) fn is_outside(&self, remote: &Multiaddr) -> bool {
        // A name does not say where it leads.
        if addrs::is_name(remote) {
            return false;
        }
        Origin::is_public(remote) || (self.test_private && Origin::of(remote) != Origin::default())
    }
}

/// The ports listened at, each once.
fn ports<'a>(listened: impl Iterator<Item = &'a Multiaddr>) -> Ports {
    let mut ports = Ports::default();
    for addr in listened {
        let mut parts = addr.iter().skip(1);
        let (list, port) = match (parts.next(), parts.next()) {
            (Some(Protocol::Tcp(port)), _) => (&mut ports.tcp, port),
            (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => (&mut ports.quic, port),
            _ => continue,
        };
        if !list.contains(&port) && list.len() < MAX_PORTS {
            list.push(port);
        }
    }
    ports
}

/// These ports where a connection comes from.
fn at(remote: &Multiaddr, ports: &Ports) -> Vec<Multiaddr> {
    let Some(ip @ (Protocol::Ip4(_) | Protocol::Ip6(_))) = remote.iter().next() else {
        return Vec::new();
    };
    let here = || Multiaddr::empty().with(ip.clone());
    let tcp = ports
        .tcp
        .iter()
        .map(|port| here().with(Protocol::Tcp(*port)));
    let quic = ports.quic.iter();
    let quic = quic.map(|port| here().with(Protocol::Udp(*port)).with(Protocol::QuicV1));
    tcp.chain(quic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_leads_back_to_where_it_came_from_and_nowhere_else() {
        let listened = [
            "/ip4/192.168.1.2/tcp/4101",
            "/ip6/::1/tcp/4101",
            "/ip4/192.168.1.2/udp/4102/quic-v1",
            "/memory/9",
        ]
        .map(|addr| addr.parse().unwrap());
        let ports = ports(listened.iter());
        assert_eq!(
            (&ports.tcp[..], &ports.quic[..]),
            (&[4101][..], &[4102][..])
        );
        let remote = "/ip4/8.8.8.8/tcp/55555".parse().unwrap();
        let back: Vec<_> = at(&remote, &ports)
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected = ["/ip4/8.8.8.8/tcp/4101", "/ip4/8.8.8.8/udp/4102/quic-v1"];
        assert_eq!(back, expected);
        assert!(at(&"/dns4/victim.example/tcp/1".parse().unwrap(), &ports).is_empty());
    }
}
