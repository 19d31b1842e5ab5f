//! What the swarm reports, and what the driver makes of it.

use libp2p::core::ConnectedPoint;
use libp2p::kad::{self, InboundRequest};
use libp2p::swarm::{ConnectionDenied, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, allow_block_list, connection_limits, identify, mdns, ping};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

use super::addrs;
use super::behaviour::{BehaviourEvent, KAD_PROTOCOL};
use super::driver::{Connected, Driver};
use super::incoming::UncheckedValue;
use crate::Key;

/// The longest agent name kept.
const MAX_AGENT_CHARS: usize = 64;
/// How long a provider record that came over Kademlia's own protocol is kept.
const PROVIDER_TTL: Duration = Duration::from_secs(48 * 3600);
/// Addresses remembered that led to a peer while it was connected.
const MAX_DIALLED: usize = 8;

impl Driver {
    pub(super) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.on_connected(peer_id, &endpoint);
                self.dial_succeeded(connection_id, peer_id);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                ..
            } => {
                self.connected.remove(&peer_id);
                self.count_routed();
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                tracing::trace!(?peer_id, %error, "dial failed");
                self.dial_failed(connection_id, peer_id, error);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => self.on_incoming_error(&error),
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                tracing::debug!(%address, "listening");
                self.listened.push((listener_id, address));
                self.tell_addresses();
            }
            SwarmEvent::ExpiredListenAddr {
                listener_id,
                address,
            } => {
                self.listened
                    .retain(|known| *known != (listener_id, address.clone()));
                self.tell_addresses();
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } => {
                tracing::debug!(?reason, "listener closed");
                self.listened.retain(|(id, _)| *id != listener_id);
                self.tell_addresses();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            _ => {}
        }
    }

    /// Keeps the confirmed addresses in step with those listened on. Kademlia serves and announces
    /// by confirmed addresses only, and nobody else confirms any in a private network.
    fn tell_addresses(&mut self) {
        let wanted = addrs::to_tell(self.listened.iter().map(|(_, addr)| addr));
        let told: Vec<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        for old in told.iter().filter(|addr| !wanted.contains(addr)) {
            self.swarm.remove_external_address(old);
        }
        for new in wanted.iter().filter(|addr| !told.contains(addr)) {
            self.swarm.add_external_address(new.clone());
        }
        self.records.set_own_addrs(&wanted);
        let peers: Vec<PeerId> = self.connected.keys().copied().collect();
        self.swarm.behaviour_mut().identify.push(peers);
    }

    fn on_connected(&mut self, peer: PeerId, endpoint: &ConnectedPoint) {
        let known = self.connected.entry(peer).or_insert_with(|| Connected {
            outbound: endpoint.is_dialer(),
            remote: endpoint.get_remote_address().clone(),
            dialled: Vec::new(),
            agent: None,
            addrs: Vec::new(),
            rtt: None,
        });
        if endpoint.is_dialer() {
            let mut dialled = addrs::usable(&peer, [endpoint.get_remote_address().clone()]);
            dialled.retain(|addr| !known.dialled.contains(addr));
            known.dialled.append(&mut dialled);
            // There are at most as many connections; more is history.
            let surplus = known.dialled.len().saturating_sub(MAX_DIALLED);
            known.dialled.drain(..surplus);
        }
        self.count_routed();
    }

    fn on_incoming_error(&mut self, error: &ListenError) {
        match error {
            ListenError::Denied { cause } => self.count_denied(cause),
            error => {
                self.counters.failed_handshakes.add(1);
                tracing::debug!(%error, "inbound connection failed");
            }
        }
    }

    fn count_denied(&self, cause: &ConnectionDenied) {
        if cause.downcast_ref::<allow_block_list::Blocked>().is_some() {
            self.counters.banned_connections.add(1);
        } else if cause
            .downcast_ref::<connection_limits::Exceeded>()
            .is_some()
        {
            self.counters.refused_connections.add(1);
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Ping(ping::Event {
                peer,
                result: Ok(rtt),
                ..
            }) => {
                if let Some(known) = self.connected.get_mut(&peer) {
                    known.rtt = Some(rtt);
                }
            }
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(ping::Failure::Timeout | ping::Failure::Other { .. }),
            }) => {
                // libp2p leaves dead connections to whoever notices.
                tracing::debug!(%peer, "no answer to a ping");
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_local_peers(found),
            BehaviourEvent::Mdns(mdns::Event::Expired(gone)) => self.on_local_expired(&gone),
            _ => {}
        }
    }

    fn on_local_peers(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        for (peer, addr) in found {
            if self.local.found(peer, now) {
                self.swarm.behaviour_mut().book.merge(peer, vec![addr]);
            }
        }
    }

    fn on_local_expired(&mut self, gone: &[(PeerId, Multiaddr)]) {
        let Some(mdns) = self.swarm.behaviour().mdns.as_ref() else {
            return;
        };
        // Single addresses expire; the peer may still be there at another.
        let there: HashSet<&PeerId> = mdns.discovered_nodes().collect();
        for (peer, _) in gone.iter().filter(|(peer, _)| !there.contains(peer)) {
            self.local.expired(peer);
        }
    }

    /// A peer has said who it is: its addresses go to the book, to its records and, if it serves
    /// Kademlia, to the routing table.
    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let Some(known) = self.connected.get_mut(&peer) else {
            return;
        };
        let near = addrs::is_loopback(&known.remote);
        let mut listed = addrs::usable(&peer, info.listen_addrs);
        // A loopback address of another machine would lead to this one.
        listed.retain(|addr| near || !addrs::is_loopback(addr));
        known.agent = Some(info.agent_version.chars().take(MAX_AGENT_CHARS).collect());
        known.addrs = listed.clone();
        let dialled = known.outbound.then(|| known.remote.clone());
        self.records.tables().set_addrs(&peer, &listed);
        let behaviour = self.swarm.behaviour_mut();
        behaviour.book.insert(peer, listed.clone());
        if info
            .protocols
            .iter()
            .any(|protocol| protocol.as_ref() == KAD_PROTOCOL)
        {
            if listed.is_empty() {
                listed = addrs::usable(&peer, dialled);
            }
            self.route(peer, &addrs::for_routing(&listed));
        } else {
            behaviour.kad.remove_peer(&peer);
        }
        self.count_routed();
    }

    /// Enters a peer into the routing table with exactly these addresses.
    fn route(&mut self, peer: PeerId, newest: &[Multiaddr]) {
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

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed {
                id,
                result,
                stats,
                step,
            } => {
                self.on_progress(id, result, &stats, step.last);
            }
            kad::Event::InboundRequest { request } => self.on_request(request),
            kad::Event::RoutingUpdated { .. } => self.count_routed(),
            _ => {}
        }
    }

    fn on_request(&mut self, request: InboundRequest) {
        match request {
            InboundRequest::AddProvider {
                record: Some(record),
            } => {
                let Ok(key) = Key::try_from(record.key.as_ref()) else {
                    self.counters.bad_provider_records.add(1);
                    return;
                };
                // Kademlia lets a record through only when it names the peer that sent it.
                let peer = record.provider;
                let listed = addrs::usable(&peer, record.addresses);
                if self
                    .records
                    .add_provided(&peer, &listed, &[key], PROVIDER_TTL)
                    == 0
                {
                    self.counters.over_quota_records.add(1);
                }
            }
            InboundRequest::PutRecord {
                source,
                record: Some(record),
                ..
            } => {
                let Ok(key) = Key::try_from(record.key.as_ref()) else {
                    self.counters.bad_records.add(1);
                    return;
                };
                // Before it waits: the queue is bounded in values, not in bytes.
                if record.value.len() > self.max_value_bytes {
                    self.counters.bad_records.add(1);
                    return;
                }
                let unchecked = UncheckedValue {
                    key,
                    value: record.value,
                    source,
                };
                if self.values.try_send(unchecked).is_err() {
                    self.counters.overflowed_records.add(1);
                }
            }
            _ => {}
        }
    }
}
