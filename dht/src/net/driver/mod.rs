//! The task that owns the swarm: commands in, answers out.

mod behaviour;
mod dialling;
mod events;
mod lookups;
mod queries;
mod showing;

use std::collections::{HashMap, HashSet};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, TransportError};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use self::behaviour::Behaviour;
use self::queries::Queries;
use crate::command::{Answer, Command};
use crate::config::{DhtConfig, Mode};
use crate::counters::Counters;
use crate::error::DhtError;
use crate::meters::Meters;
use crate::neighbourhood::Neighbourhood;
use crate::net::addrs::{self, Listened};
use crate::net::incoming::ValueQueue;
use crate::net::membership::{Backoff, LocalPeers, Origins, Recalled, Redial, Seats};
use crate::net::reachability::Reachability;
use crate::net::streams::{Incoming as IncomingStreams, Streams};
use crate::network::Protocols;
use crate::records::Records;

/// How often the rest of the node is told who is in the routing table.
const NEIGHBOURHOOD_EVERY: Duration = Duration::from_secs(1);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Peers banned at once.
const MAX_BANS: usize = 1024;
/// How long the first address of a listener may take to appear.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);
/// Streams of one connection that are still being negotiated.
const MAX_NEGOTIATING: usize = 256;
/// Addresses of one peer dialled at once.
const DIAL_CONCURRENCY: std::num::NonZeroU8 = std::num::NonZeroU8::new(8).expect("8 is not 0");

/// The channels between the driver and the rest of the node.
pub(crate) struct Ways {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) values: ValueQueue,
    pub(crate) routed: watch::Sender<usize>,
    pub(crate) neighbourhood: watch::Sender<Arc<Neighbourhood>>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) mode: watch::Sender<Mode>,
    pub(crate) meters: Arc<Meters>,
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
    /// Since when it is connected.
    pub(super) since: Instant,
    /// When it turned out to be of another network.
    pub(super) foreign: Option<Instant>,
}

impl Connected {
    /// Whether it is on this machine, and may tell where others are on it.
    pub(super) fn is_near(&self) -> bool {
        // Loopback addresses of those that are not were never taken.
        addrs::is_loopback(&self.remote) || self.addrs.iter().any(addrs::is_loopback)
    }
}

/// Owns the swarm.
pub(crate) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) records: Arc<Records>,
    pub(super) counters: Arc<Counters>,
    queries: Queries,
    pub(super) connected: HashMap<PeerId, Connected>,
    pub(super) listened: Listened,
    values: ValueQueue,
    max_value_bytes: usize,
    pub(super) max_connections: usize,
    commands: mpsc::Receiver<Command>,
    pub(super) routed: watch::Sender<usize>,
    pub(super) neighbourhood: watch::Sender<Arc<Neighbourhood>>,
    neighbourhood_at: Instant,
    pub(super) origins: Arc<Origins>,
    meters: Arc<Meters>,
    pub(super) protocols: Protocols,
    pub(super) seats: Seats,
    /// Peers from before.
    pub(super) recalled: Recalled,
    save_at: Instant,
    save_every: Duration,
    pub(super) reachability: Reachability,
    /// Whether private addresses are tested like public ones.
    pub(super) test_private: bool,
    /// Dials that are to show whether a peer can be reached; at most as many as are asked for at once.
    pub(super) back_dials: HashSet<ConnectionId>,
    pub(super) mode: watch::Sender<Mode>,
    stop: CancellationToken,
    pub(super) dials: HashMap<ConnectionId, Answer<PeerId>>,
    pub(super) waiting: HashMap<PeerId, Vec<Answer<()>>>,
    bans: HashMap<PeerId, Instant>,
    /// Nodes to join by, and who answered there last.
    bootstrap: Vec<(Multiaddr, Option<PeerId>)>,
    bootstrap_dials: HashMap<ConnectionId, usize>,
    backoff: Backoff,
    pub(super) local: LocalPeers,
}

impl Driver {
    /// Sets up the swarm; nothing runs yet. Returns the streams that others open, too: of the exchange, for
    /// records, for reachability.
    pub(crate) fn build(
        config: &DhtConfig,
        transport: Boxed<(PeerId, StreamMuxerBox)>,
        records: &Arc<Records>,
        counters: &Arc<Counters>,
        ways: Ways,
    ) -> Result<(Self, [IncomingStreams; 3]), DhtError> {
        addrs::will_listen(&config.listen);
        let me = config.keypair.public().to_peer_id();
        let protocols = Protocols::of(&config.network);
        let taken = [
            protocols.exchange.clone(),
            protocols.records.clone(),
            protocols.reach.clone(),
        ];
        let (streams, incoming) = Streams::new(taken, counters.clone());
        let behaviour = Behaviour::new(config, me, records, streams);
        let swarm = libp2p::swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(config.limits.idle_connection)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
            .with_dial_concurrency_factor(DIAL_CONCURRENCY)
            // The name of a stream's protocol goes with its first bytes, and costs no round trip.
            .with_substream_upgrade_protocol_override(Version::V1Lazy)
            // The default of 7 makes connections wait for the swarm when many answer at once.
            .with_per_connection_event_buffer_size(32)
            .with_notify_handler_buffer_size(NonZeroUsize::new(32).expect("32 is not 0"));
        let bootstrap = config
            .bootstrap
            .iter()
            .filter(|addr| addrs::named_peer(addr) != Some(me));
        let mut driver = Self {
            swarm: Swarm::new(transport, behaviour, me, swarm),
            records: records.clone(),
            counters: counters.clone(),
            queries: Queries::default(),
            connected: HashMap::new(),
            listened: Listened::new(),
            values: ways.values,
            max_value_bytes: config.limits.value_bytes,
            max_connections: usize::try_from(config.limits.connections).unwrap_or(usize::MAX),
            commands: ways.commands,
            routed: ways.routed,
            neighbourhood: ways.neighbourhood,
            neighbourhood_at: Instant::now(),
            origins: ways.origins,
            meters: ways.meters,
            protocols,
            recalled: Recalled::default(),
            save_at: Instant::now() + config.membership.save,
            save_every: config.membership.save,
            seats: Seats::new(&me, config.membership.clone()),
            reachability: Reachability::new(
                config.mode,
                config.membership.between_tests,
                Instant::now(),
            ),
            test_private: config.membership.test_private,
            back_dials: HashSet::new(),
            mode: ways.mode,
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
        driver.apply_mode();
        driver.recall();
        Ok((driver, incoming))
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
        self.remember();
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
        self.make_room(now);
        for peer in self.local.due(now) {
            self.dial_known(peer);
        }
        if now >= self.neighbourhood_at {
            self.neighbourhood_at = now + NEIGHBOURHOOD_EVERY;
            self.tell_neighbourhood();
            self.check_members(now);
        }
        if now >= self.save_at {
            self.save_at = now + self.save_every;
            self.remember();
        }
        let joined = *self.routed.borrow() > 0;
        match self.backoff.due(now, joined) {
            Some(Redial::Everybody) => self.join(),
            Some(Redial::Bootstrap) => self.join_more(),
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
            Command::OpenStream {
                peer,
                protocol,
                answer,
            } => {
                let streams = &mut self.swarm.behaviour_mut().streams;
                streams.open(peer, protocol, answer);
            }
            Command::Peers { answer } => {
                let _ = answer.send(self.peers());
            }
            Command::ListenAddrs { answer } => {
                let _ = answer.send(self.listen_addrs());
            }
            Command::Reach { answer } => {
                let _ = answer.send(self.reachability.reach());
            }
            Command::AddressesOf { peer, answer } => {
                let _ = answer.send(self.addresses_of(peer));
            }
            Command::Providers {
                found,
                connect,
                answer,
            } => {
                let _ = answer.send(self.providers_heard_of(found, connect));
            }
            Command::Ban {
                peer,
                until,
                answer,
            } => {
                self.ban(peer, until);
                let _ = answer.send(());
            }
            Command::WhomToAsk { answer } => {
                let _ = answer.send(self.whom_to_ask());
            }
            Command::Tested {
                by,
                origin,
                reached,
            } => self.tested(by, origin, reached),
            Command::DialBack {
                peer,
                ports,
                answer,
            } => self.dial_back(peer, &ports, answer),
            Command::SetMode { mode, answer } => {
                self.reachability.set(mode, Instant::now());
                self.apply_mode();
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
}
