//! Lookups: how they start, what comes of them, how they end.

use libp2p::kad::{
    self, GetClosestPeersError, GetProvidersOk, GetRecordOk, PutRecordError, QueryId, QueryResult,
    QueryStats, Quorum, Record, RecordKey,
};
use libp2p::swarm::{ConnectionId, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::queries::{Purpose, Query};
use super::{Connected, Driver};
use crate::batch::Provider;
use crate::command::{ClosestPeers, FindEvent, Lookup};
use crate::find::Named;
use crate::net::addrs;

impl Driver {
    pub(super) fn start_query(
        &mut self,
        lookup: Lookup,
        deadline: Instant,
        permit: OwnedSemaphorePermit,
    ) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let (id, purpose) = match lookup {
            Lookup::Providers(search) => {
                let id = kad.get_providers(RecordKey::new(&search.key));
                (id, Purpose::Providers(search))
            }
            Lookup::Record { key, values, asked } => {
                let asked = Some(asked);
                (
                    kad.get_record(RecordKey::new(&key)),
                    Purpose::Record { values, asked },
                )
            }
            Lookup::Closest { point, answer } => {
                (kad.get_closest_peers(point), Purpose::Closest(Some(answer)))
            }
            Lookup::Put {
                key,
                value,
                peers,
                answer,
            } => {
                let record = Record::new(RecordKey::new(&key), value);
                let count = u32::try_from(peers.len()).unwrap_or(u32::MAX);
                let id = kad.put_record_to(record, peers.into_iter(), Quorum::All);
                let answer = Some(answer);
                (
                    id,
                    Purpose::Put {
                        answer,
                        peers: count,
                    },
                )
            }
        };
        let query = Query {
            purpose,
            deadline,
            timed_out: false,
            asked: 0,
            _permit: permit,
        };
        self.meters.lookups.add(1);
        self.queries.insert(id, query);
    }

    /// Lets a query ask nobody any more; its last event brings what it has found.
    pub(super) fn finish_query(&mut self, id: &QueryId) {
        if let Some(mut running) = self.swarm.behaviour_mut().kad.query_mut(id) {
            running.finish();
        }
    }

    /// Ends a query at once and tells who waits.
    pub(super) fn end_query(&mut self, id: &QueryId) {
        self.finish_query(id);
        if let Some(query) = self.queries.remove(id) {
            self.meters.ended(query.asked, query.timed_out);
            query.end();
        }
    }

    pub(super) fn on_progress(
        &mut self,
        id: QueryId,
        result: QueryResult,
        stats: &QueryStats,
        last: bool,
    ) {
        if let Some(query) = self.queries.get_mut(&id) {
            query.asked = stats.num_requests();
        }
        match result {
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                self.on_providers(id, providers);
            }
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                if let Some(query) = self.queries.get_mut(&id)
                    && let Purpose::Record { values, .. } = &query.purpose
                {
                    // Own records need no check, but get one all the same.
                    let _ = values.try_send((found.record.value, query.asked));
                }
            }
            QueryResult::GetClosestPeers(result) => self.on_closest(id, result),
            QueryResult::PutRecord(result) => self.on_put(id, result),
            _ => {}
        }
        if last {
            self.report_rest(id);
        }
        if last && let Some(query) = self.queries.remove(&id) {
            self.meters.ended(query.asked, query.timed_out);
            query.end();
        }
    }

    /// Reports new providers that an answer names; ends the search when there are enough.
    fn on_providers(&mut self, id: QueryId, peers: impl IntoIterator<Item = PeerId>) {
        let me = *self.swarm.local_peer_id();
        let Some(query) = self.queries.get_mut(&id) else {
            return;
        };
        // Nobody has been asked yet: these are the records this node holds, which who searches knows.
        if query.asked == 0 {
            return;
        }
        let Purpose::Providers(search) = &mut query.purpose else {
            return;
        };
        let (include_self, blocked) = (
            search.include_self,
            self.swarm.behaviour().blocked.blocked_peers(),
        );
        let wanted = peers
            .into_iter()
            .filter(|peer| (*peer != me || include_self) && !blocked.contains(peer));
        let named = search.take(wanted);
        let is_full = search.is_full();
        self.report_named(id, named);
        if is_full {
            self.end_query(&id);
        }
    }

    /// Tells who searches; dials those that are counted, if that is wanted.
    fn report_named(&mut self, id: QueryId, named: Vec<Named>) {
        let me = *self.swarm.local_peer_id();
        let Some(query) = self.queries.get_mut(&id) else {
            return;
        };
        let Purpose::Providers(search) = &query.purpose else {
            return;
        };
        let (connect, events, key) = (search.connect, search.events.clone(), search.key);
        for Named { peer, beside } in named {
            let addrs = self.provider_addrs(peer);
            tracing::trace!(%peer, key = ?&key[..4], "provider found");
            if connect && peer != me && !beside {
                self.dial_known(peer);
            }
            self.meters.found_providers.add(1);
            // The channel has room for as many as may be reported.
            let _ = events.try_send(FindEvent::Provider { peer, addrs });
        }
    }

    /// Reports what was beyond the shares of its answers: the search has come to its end with room left.
    fn report_rest(&mut self, id: QueryId) {
        if let Some(query) = self.queries.get_mut(&id)
            && let Purpose::Providers(search) = &mut query.purpose
        {
            let rest = search.take_rest();
            self.report_named(id, rest);
        }
    }

    /// Addresses of a provider just found. They are in the lookup, and only while it lives: the
    /// Kademlia behaviour gives them out for a dial. They go into the address book for later.
    fn provider_addrs(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        // The freshest first: what the peer itself said over its connection, what the lookup brought, what
        // was heard before, what is stored.
        let connected = self.connected.get(&peer);
        let mut known = connected.map_or_else(Vec::new, |known| known.addrs.clone());
        let near = self.hears_of_this_machine();
        let behaviour = self.swarm.behaviour_mut();
        if peer != *self.records.me() {
            let (id, role) = (
                ConnectionId::new_unchecked(0),
                libp2p::core::Endpoint::Dialer,
            );
            let from_kad =
                behaviour
                    .kad
                    .handle_pending_outbound_connection(id, Some(peer), &[], role);
            let from_kad = from_kad.unwrap_or_default();
            known.extend(if near { from_kad } else { addrs::far(from_kad) });
            known.extend(behaviour.book.get(&peer));
        }
        known.extend(self.records.tables().addrs(&peer));
        let known = addrs::usable(&peer, known);
        behaviour.book.merge(peer, known.clone());
        known
    }

    /// Whether somebody on this machine is connected: then loopback addresses may be true. From elsewhere they
    /// would lead to whoever listens here.
    pub(super) fn hears_of_this_machine(&self) -> bool {
        self.connected.values().any(Connected::is_near)
    }

    /// Of providers that others have named, those that may be reported and that can be reached, with all that is
    /// known of where they listen. Connected ones come first, in their order otherwise.
    pub(super) fn providers_heard_of(
        &mut self,
        found: Vec<Provider>,
        connect: bool,
    ) -> Vec<Provider> {
        let me = *self.swarm.local_peer_id();
        let near = self.hears_of_this_machine();
        let mut kept = Vec::with_capacity(found.len());
        for (peer, mut told) in found {
            if !near {
                told = addrs::far(told);
            }
            if self.bans.contains_key(&peer) {
                continue;
            }
            if peer != me {
                self.swarm.behaviour_mut().book.merge(peer, told);
            }
            let addrs = self.provider_addrs(peer);
            if addrs.is_empty() && !self.connected.contains_key(&peer) {
                continue;
            }
            if connect && peer != me {
                self.dial_known(peer);
            }
            kept.push((peer, addrs));
        }
        kept.sort_by_key(|(peer, _)| !self.connected.contains_key(peer));
        kept
    }

    fn on_closest(&mut self, id: QueryId, result: kad::GetClosestPeersResult) {
        let (found, complete) = match result {
            Ok(found) => (found.peers, true),
            Err(GetClosestPeersError::Timeout { peers, .. }) => (peers, false),
        };
        let near = self.hears_of_this_machine();
        let usable = |info: kad::PeerInfo| {
            let listed = addrs::usable(&info.peer_id, info.addrs);
            let listed = if near { listed } else { addrs::far(listed) };
            (info.peer_id, listed)
        };
        let found: Vec<_> = found.into_iter().map(usable).collect();
        let book = &mut self.swarm.behaviour_mut().book;
        for (peer, addrs) in &found {
            book.merge(*peer, addrs.clone());
        }
        if let Some(query) = self.queries.get_mut(&id)
            && let Purpose::Closest(answer) = &mut query.purpose
            && let Some(answer) = answer.take()
        {
            let _ = answer.send(ClosestPeers {
                peers: found,
                complete: complete && !query.timed_out,
                asked_peers: query.asked,
            });
        }
    }

    fn on_put(&mut self, id: QueryId, result: kad::PutRecordResult) {
        if let Some(query) = self.queries.get_mut(&id)
            && let Purpose::Put { answer, peers } = &mut query.purpose
        {
            let stored = match result {
                Ok(_) => *peers,
                Err(
                    PutRecordError::QuorumFailed { success, .. }
                    | PutRecordError::Timeout { success, .. },
                ) => u32::try_from(success.len()).unwrap_or(u32::MAX),
            };
            if let Some(answer) = answer.take() {
                let _ = answer.send(stored);
            }
        }
    }
}
