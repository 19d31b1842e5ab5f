//! What the swarm reports, and what the driver makes of it.

use libp2p::core::ConnectedPoint;
use libp2p::kad::{self, InboundRequest};
use libp2p::swarm::{ConnectionDenied, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, allow_block_list, connection_limits, identify, mdns, ping};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

use super::behaviour::BehaviourEvent;
use super::{Connected, Driver};
use crate::Key;
use crate::net::addrs;
use crate::net::membership::Refused;
use crate::records::Announcer;
use crate::records::envelope::MAX_OVERHEAD_BYTES;

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
                self.seats.parted(&peer_id, Instant::now());
                self.origins.disconnected(&peer_id);
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
        self.reachability.listens(&wanted, Instant::now());
        self.apply_mode();
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
            since: Instant::now(),
            foreign: None,
        });
        if endpoint.is_dialer() {
            let mut dialled = addrs::usable(&peer, [endpoint.get_remote_address().clone()]);
            if let Some(addr) = dialled.first() {
                let book = &mut self.swarm.behaviour_mut().book;
                book.reached(peer, addr.clone());
            }
            dialled.retain(|addr| !known.dialled.contains(addr));
            known.dialled.append(&mut dialled);
            // There are at most as many connections; more is history.
            let surplus = known.dialled.len().saturating_sub(MAX_DIALLED);
            known.dialled.drain(..surplus);
        }
        self.origins.connected(peer, endpoint.get_remote_address());
        self.note_connection(endpoint);
        self.seats.seen(&peer, Instant::now());
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

    pub(super) fn count_denied(&self, cause: &ConnectionDenied) {
        if cause.downcast_ref::<allow_block_list::Blocked>().is_some() {
            self.counters.banned_connections.add(1);
        } else if cause
            .downcast_ref::<connection_limits::Exceeded>()
            .is_some()
        {
            self.counters.refused_connections.add(1);
        } else if let Some(Refused::Origin) = cause.downcast_ref() {
            self.counters.refused_by_origin.add(1);
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
                self.member_failed(&peer);
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
            kad::Event::RoutingUpdated {
                peer,
                is_new_peer: true,
                addresses,
                old_peer,
                ..
            } => self.on_routing_updated(peer, &addresses, old_peer),
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
                let mut listed = addrs::usable(&peer, record.addresses);
                let known = self.connected.get(&peer);
                if !known.is_some_and(Connected::is_near) {
                    listed = addrs::far(listed);
                }
                let from = Announcer {
                    peer,
                    origin: self.origins.of(&peer),
                    addrs: &listed,
                };
                let near = self.neighbourhood.borrow().clone();
                let taken = self
                    .records
                    .add_provided(&from, &[key], PROVIDER_TTL, &near);
                self.counters.count_refused(&taken);
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
                if record.value.len() > self.max_value_bytes + MAX_OVERHEAD_BYTES {
                    self.counters.bad_records.add(1);
                    return;
                }
                if !self.values.push(key, record.value, source) {
                    self.counters.overflowed_records.add(1);
                }
            }
            _ => {}
        }
    }
}
