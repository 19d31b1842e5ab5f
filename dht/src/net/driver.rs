//! The task that owns the swarm: commands in, answers out.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::TransportError;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use libp2p_stream::Control;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use super::addrs::{self, Listened};
use super::behaviour::Behaviour;
use super::bootstrap::{Backoff, Redial};
use super::incoming::UncheckedValue;
use super::local::LocalPeers;
use super::queries::Queries;
use super::transport;
use crate::command::{Answer, Command, PeerInfo};
use crate::config::DhtConfig;
use crate::counters::Counters;
use crate::error::DhtError;
use crate::records::Records;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Peers banned at once.
const MAX_BANS: usize = 1024;
/// How long the first address of a listener may take to appear.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);
/// Streams of one connection that are still being negotiated.
const MAX_NEGOTIATING: usize = 256;
/// Addresses of one peer dialled at once.
pub(super) const DIAL_CONCURRENCY: std::num::NonZeroU8 =
    std::num::NonZeroU8::new(8).expect("8 is not 0");

/// The channels between the driver and the rest of the node.
pub(crate) struct Ways {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) values: mpsc::Sender<UncheckedValue>,
    pub(crate) routed: watch::Sender<usize>,
    pub(crate) stop: CancellationToken,
}

/// What is known of a connected peer.
pub(super) struct Connected {
    pub(super) outbound: bool,
    pub(super) remote: Multiaddr,
    /// Where this node dialled it with success, without `/p2p`; what a peer says of itself is not here.
    pub(super) dialled: Vec<Multiaddr>,
    pub(super) agent: Option<String>,
    pub(super) addrs: Vec<Multiaddr>,
    pub(super) rtt: Option<Duration>,
}

/// Owns the swarm.
pub(crate) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) records: Arc<Records>,
    pub(super) counters: Arc<Counters>,
    pub(super) queries: Queries,
    pub(super) connected: HashMap<PeerId, Connected>,
    pub(super) listened: Listened,
    pub(super) values: mpsc::Sender<UncheckedValue>,
    pub(super) max_value_bytes: usize,
    commands: mpsc::Receiver<Command>,
    routed: watch::Sender<usize>,
    stop: CancellationToken,
    pub(super) dials: HashMap<ConnectionId, Answer<PeerId>>,
    pub(super) waiting: HashMap<PeerId, Vec<Answer<()>>>,
    pub(super) bans: HashMap<PeerId, Instant>,
    /// Nodes to join by, and who answered there last.
    pub(super) bootstrap: Vec<(Multiaddr, Option<PeerId>)>,
    pub(super) bootstrap_dials: HashMap<ConnectionId, usize>,
    backoff: Backoff,
    pub(super) local: LocalPeers,
}

impl Driver {
    /// Sets up the swarm; nothing runs yet. The control opens and accepts streams.
    pub(crate) fn build(
        config: &DhtConfig,
        records: &Arc<Records>,
        counters: &Arc<Counters>,
        ways: Ways,
    ) -> Result<(Self, Control), DhtError> {
        let me = config.keypair.public().to_peer_id();
        let transport = transport::build(&config.keypair).map_err(DhtError::Setup)?;
        let behaviour = Behaviour::new(config, me, records);
        let control = behaviour.streams.new_control();
        let swarm = libp2p::swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(config.limits.idle_connection)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
            .with_dial_concurrency_factor(DIAL_CONCURRENCY)
            // The default of 7 makes connections wait for the swarm when many answer at once.
            .with_per_connection_event_buffer_size(32)
            .with_notify_handler_buffer_size(NonZeroUsize::new(32).expect("32 is not 0"));
        let bootstrap = config
            .bootstrap
            .iter()
            .filter(|addr| addrs::named_peer(addr) != Some(me));
        let driver = Self {
            swarm: Swarm::new(transport, behaviour, me, swarm),
            records: records.clone(),
            counters: counters.clone(),
            queries: Queries::default(),
            connected: HashMap::new(),
            listened: Listened::new(),
            values: ways.values,
            max_value_bytes: config.limits.value_bytes,
            commands: ways.commands,
            routed: ways.routed,
            stop: ways.stop,
            dials: HashMap::new(),
            waiting: HashMap::new(),
            bans: HashMap::new(),
            bootstrap: bootstrap
                .map(|addr| (addr.clone(), addrs::named_peer(addr)))
                .collect(),
            bootstrap_dials: HashMap::new(),
            backoff: Backoff::new(Instant::now()),
            local: LocalPeers::default(),
        };
        Ok((driver, control))
    }

    /// Listens on all addresses; returns when each is in use.
    pub(crate) async fn listen(&mut self, wanted: &[Multiaddr]) -> Result<(), DhtError> {
        // All before the first is used: on some systems `::` also stands for `0.0.0.0`.
        for addr in wanted {
            let in_use = |source| DhtError::Listen {
                addr: addr.clone(),
                source,
            };
            addrs::check_free(addr).map_err(in_use)?;
        }
        let mut pending = HashMap::new();
        for addr in wanted {
            let id = self.swarm.listen_on(addr.clone()).map_err(|error| {
                let source = match error {
                    TransportError::Other(error) => error,
                    TransportError::MultiaddrNotSupported(_) => {
                        io::Error::new(io::ErrorKind::Unsupported, "not a TCP or QUIC address")
                    }
                };
                DhtError::Listen {
                    addr: addr.clone(),
                    source,
                }
            })?;
            pending.insert(id, addr);
        }
        let ends = Instant::now() + LISTEN_DEADLINE;
        while !pending.is_empty() {
            let Ok(event) = timeout_at(ends, self.swarm.select_next_some()).await else {
                // An address family without an interface says nothing; others may be fine.
                tracing::warn!(?pending, "nothing to listen on");
                break;
            };
            match event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    pending.remove(&listener_id);
                }
                SwarmEvent::ListenerClosed {
                    listener_id,
                    reason: Err(ref source),
                    ..
                } => {
                    if let Some(addr) = pending.remove(&listener_id) {
                        let source = io::Error::new(source.kind(), source.to_string());
                        return Err(DhtError::Listen {
                            addr: addr.clone(),
                            source,
                        });
                    }
                }
                _ => {}
            }
            self.on_event(event);
        }
        Ok(())
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.commands.recv() => match command {
                    None => break,
                    Some(Command::Shutdown { answer }) => {
                        let _ = answer.send(());
                        break;
                    }
                    Some(command) => self.on_command(command),
                },
                _ = ticks.tick() => self.on_tick(),
            }
        }
        tracing::debug!("network stopped");
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        for id in self.queries.late(now) {
            self.finish_query(&id);
        }
        for id in self.queries.over(now) {
            self.end_query(&id);
        }
        let over: Vec<_> = self
            .bans
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in over {
            self.bans.remove(&peer);
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
        for peer in self.local.due(now) {
            self.dial_known(peer);
        }
        let joined = *self.routed.borrow() > 0;
        match self.backoff.due(now, joined) {
            Some(Redial::Everybody) => self.join(),
            Some(Redial::Bootstrap) => self.dial_bootstrap(),
            None => {}
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { addr, answer } => self.dial(addr, answer),
            Command::Connect {
                peer,
                addrs,
                answer,
            } => self.connect(peer, addrs, answer),
            Command::Peers { answer } => {
                let _ = answer.send(self.peers());
            }
            Command::ListenAddrs { answer } => {
                let _ = answer.send(self.listen_addrs());
            }
            Command::Ban {
                peer,
                until,
                answer,
            } => {
                self.ban(peer, until);
                let _ = answer.send(());
            }
            Command::Shutdown { answer } => {
                let _ = answer.send(());
            }
            Command::LookUp {
                lookup,
                deadline,
                permit,
            } => self.start_query(lookup, deadline, permit),
        }
    }

    fn ban(&mut self, peer: PeerId, until: Instant) {
        if self.bans.len() >= MAX_BANS && !self.bans.contains_key(&peer) {
            let first = self
                .bans
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(peer, _)| *peer);
            if let Some(first) = first {
                self.bans.remove(&first);
                self.swarm.behaviour_mut().blocked.unblock_peer(first);
            }
        }
        self.bans.insert(peer, until);
        self.swarm.behaviour_mut().blocked.block_peer(peer);
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn listen_addrs(&self) -> Vec<Multiaddr> {
        let me = *self.swarm.local_peer_id();
        let shown = addrs::to_show(self.swarm.listeners());
        shown
            .into_iter()
            .map(|addr| addr.with(Protocol::P2p(me)))
            .collect()
    }

    fn peers(&self) -> Vec<PeerInfo> {
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

fn transport_name(remote: &Multiaddr) -> &'static str {
    for part in remote {
        match part {
            Protocol::QuicV1 => return "quic",
            Protocol::Tcp(_) => return "tcp",
            _ => {}
        }
    }
    "other"
}
