//! The protocols of a node and their knobs.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::kad::{self, StoreInserts};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, StreamProtocol};
use libp2p::{PeerId, identify, mdns, ping};

use crate::config::{DhtConfig, Limits, Mode};
use crate::net::membership::{Book, Gate, Keep};
use crate::net::streams::Streams;
use crate::network::Protocols;
use crate::records::{KadStore, Records};

/// Name and version told to other peers.
const AGENT: &str = concat!("casnode/", env!("CARGO_PKG_VERSION"));
/// Requests of one lookup at a time: six halve the wait of three at little cost.
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(6).expect("6 is not 0");
/// The largest Kademlia message. An answer with 20 providers and 20 closer peers of 16 addresses each
/// has some 40 KiB; libp2p's 16 KiB would drop it.
const MAX_PACKET_BYTES: usize = 256 * 1024;
/// How long records are kept by others.
const RECORD_TTL: Duration = Duration::from_secs(48 * 3600);
/// The longest a lookup may run, whatever its caller says.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Round trips are measured this often; it also finds dead connections. Every 15 s would cost a node with
/// 50 connections 1 kB/s.
const PING_EVERY: Duration = Duration::from_secs(60);
/// Peers say at once when something about them changes; this is only for a message that was lost.
const IDENTIFY_EVERY: Duration = Duration::from_secs(30 * 60);
/// A peer that takes this long to answer a ping is gone; bulk data in front of it is not the reason.
const PING_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything a node speaks.
#[derive(NetworkBehaviour)]
pub(in crate::net) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(in crate::net) gate: Gate,
    pub(in crate::net) book: Book,
    pub(in crate::net) keep: Keep,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(in crate::net) kad: kad::Behaviour<KadStore>,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(in crate::net) streams: Streams,
}

impl Behaviour {
    pub(super) fn new(
        config: &DhtConfig,
        me: PeerId,
        records: &Arc<Records>,
        streams: Streams,
    ) -> Self {
        let protocols = Protocols::of(&config.network);
        let identify = identify::Config::new(protocols.family, config.keypair.public())
            .with_agent_version(AGENT.into())
            .with_push_listen_addr_updates(true)
            .with_interval(IDENTIFY_EVERY)
            // Only addresses that the node has chosen to tell: no loopback to other machines.
            .with_hide_listen_addrs(true);
        let mdns = config
            .mdns
            .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me));
        let mdns = mdns.and_then(|mdns| {
            mdns.inspect_err(|error| tracing::warn!(%error, "no discovery on the local network"))
                .ok()
        });
        let ping = ping::Config::new()
            .with_interval(PING_EVERY)
            .with_timeout(PING_TIMEOUT);
        let mut kad = kademlia(protocols.kad, config, me, records);
        for (peer, addr) in &config.known_peers {
            kad.add_address(peer, addr.clone());
        }
        let known = config.known_peers.iter().map(|(_, addr)| addr);
        let trusted = config.bootstrap.iter().chain(known);
        let half = usize::try_from(config.limits.connections / 2).unwrap_or(usize::MAX);
        Self {
            limits: connection_limits::Behaviour::new(connections(&config.limits)),
            blocked: allow_block_list::Behaviour::default(),
            gate: Gate::new(
                config.limits.connections_per_origin,
                config.membership.foreign,
            )
            .with_pending(config.limits.pending_in)
            .trusting(trusted),
            book: Book::default(),
            // Half of all at most: who keeps all it may have meets nobody else.
            keep: Keep::new(me, config.limits.kept_connections.min(half)),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            kad,
            mdns: Toggle::from(mdns),
            streams,
        }
    }
}

fn connections(limits: &Limits) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits.pending_in))
        .with_max_established_incoming(Some(limits.connections_in))
        .with_max_established(Some(limits.connections))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
}

fn kademlia(
    name: StreamProtocol,
    node: &DhtConfig,
    me: PeerId,
    records: &Arc<Records>,
) -> kad::Behaviour<KadStore> {
    let mut config = kad::Config::new(name);
    config
        // Every bucket is looked up; joining does it by itself while few peers are known.
        .set_periodic_bootstrap_interval(Some(node.membership.refresh))
        .set_parallelism(PARALLELISM)
        .set_query_timeout(QUERY_TIMEOUT)
        .set_max_packet_size(MAX_PACKET_BYTES)
        .set_record_ttl(Some(RECORD_TTL))
        .set_provider_record_ttl(Some(RECORD_TTL))
        // Everything that others send is looked at before it is stored.
        .set_record_filtering(StoreInserts::FilterBoth)
        // The announcer renews; libp2p's own jobs forget what was announced before a restart and
        // copy the whole store each time.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled)
        // Identify enters peers into the table, with addresses that have been looked at.
        .set_kbucket_inserts(kad::BucketInserts::Manual);
    let mut kad = kad::Behaviour::with_config(me, KadStore(records.clone()), config);
    kad.set_mode(Some(match node.mode {
        Mode::Server | Mode::Auto => kad::Mode::Server,
        Mode::Client => kad::Mode::Client,
    }));
    kad
}
