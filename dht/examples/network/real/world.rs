//! A network of real nodes in this process, over simulated lines.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use casnode_dht::{
    AnnounceTimes, Dht, DhtConfig, FindEvent, FindOptions, IncomingStreams, Key, Keypair, Limits,
    Multiaddr, PeerId, Profile, lab,
};
use libp2p::multiaddr::Protocol;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::air::Air;
use super::hostile::{self, Kind, Liar, Stranger};
use super::keyspace::{self, Point, REPLICATION};
use super::line::{Quality, Sums, Traffic};

/// Nodes started at once.
const STARTS_AT_ONCE: usize = 8;

/// How a network is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub nodes: usize,
    pub quality: Quality,
    pub gone_is_silent: bool,
    /// Whether nodes begin with an empty routing table and join through others.
    pub join: bool,
    pub profile: Profile,
    /// Which of the nodes are hostile, and how.
    pub hostile: Vec<Kind>,
}

/// What runs at one place.
pub enum Body {
    /// Exchange streams are not taken, but there is somebody to take them.
    Node(
        Dht,
        #[expect(dead_code, reason = "held, not used")] IncomingStreams,
    ),
    Hostile(#[expect(dead_code, reason = "held, not used")] Stranger),
    Gone,
}

/// One place of the network, living or not.
pub struct Member {
    pub keypair: Keypair,
    pub peer: PeerId,
    pub point: Point,
    pub port: u64,
    pub traffic: Arc<Traffic>,
    pub body: Body,
}

impl Member {
    fn new(keypair: Keypair, port: u64) -> Self {
        let peer = keypair.public().to_peer_id();
        Self {
            point: keyspace::point_of_peer(&peer),
            keypair,
            peer,
            port,
            traffic: Arc::default(),
            body: Body::Gone,
        }
    }

    pub fn addr(&self) -> Multiaddr {
        Multiaddr::empty().with(Protocol::Memory(self.port))
    }

    pub fn dht(&self) -> Option<&Dht> {
        match &self.body {
            Body::Node(dht, _) => Some(dht),
            _ => None,
        }
    }
}

/// The network.
pub struct World {
    pub setup: Setup,
    pub air: Air,
    pub members: Vec<Member>,
    pub rng: StdRng,
    next_port: u64,
    lies: Arc<Liar>,
}

/// A place and what became of starting a node there.
type Started<E> = (usize, Result<(Dht, IncomingStreams), E>);

/// The end of one search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// When the first provider was reported.
    pub first: Option<Duration>,
    pub took: Duration,
    pub asked: u32,
}

/// The only values these nodes take for true.
pub fn is_true(key: &Key, value: &[u8]) -> bool {
    value.first() == Some(&key[0])
}

impl World {
    /// Starts all nodes.
    ///
    /// # Errors
    /// A node does not start.
    pub async fn start(setup: Setup, rng: StdRng) -> Result<Self, String> {
        Self::start_with(setup, rng, Vec::new()).await
    }

    /// Starts all nodes, and hostile ones with these identities beside them.
    ///
    /// # Errors
    /// A node does not start.
    pub async fn start_with(
        setup: Setup,
        rng: StdRng,
        sybils: Vec<Keypair>,
    ) -> Result<Self, String> {
        let mut world = Self {
            air: Air::new(setup.quality, setup.gone_is_silent),
            members: Vec::new(),
            rng,
            next_port: 1,
            lies: Arc::new(Liar::new()),
            setup,
        };
        for _ in 0..world.setup.nodes {
            world.add_place(Keypair::generate_ed25519());
        }
        let first_sybil = world.members.len();
        for keypair in sybils {
            world.add_place(keypair);
        }
        let hostile = world.setup.hostile.clone();
        let first_hostile = world.setup.nodes - hostile.len().min(world.setup.nodes);
        let all: Vec<usize> = (0..world.members.len()).collect();
        if world.setup.join {
            for at in all {
                world.start_member(at, None).await?;
            }
            return Ok(world);
        }
        let mut starting = JoinSet::new();
        for at in all {
            let kind = if at >= first_sybil {
                Some(Kind::Sybil)
            } else {
                at.checked_sub(first_hostile).map(|at| hostile[at])
            };
            let known = world.table_of(at);
            if let Some(kind) = kind {
                world.members[at].body = world.stranger(at, kind, known);
                continue;
            }
            while starting.len() >= STARTS_AT_ONCE {
                world.take_started(starting.join_next().await)?;
            }
            let (config, transport) = (world.config(at, known, Vec::new()), world.transport(at));
            starting.spawn(async move { (at, lab::start_over(config, transport).await) });
        }
        while let Some(started) = starting.join_next().await {
            world.take_started(Some(started))?;
        }
        Ok(world)
    }

    fn take_started<E: std::fmt::Display, F: std::fmt::Display>(
        &mut self,
        started: Option<Result<Started<E>, F>>,
    ) -> Result<(), String> {
        match started {
            None => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok((_, Err(error)))) => Err(error.to_string()),
            Some(Ok((at, Ok((dht, incoming))))) => {
                self.members[at].body = Body::Node(dht, incoming);
                Ok(())
            }
        }
    }

    fn add_place(&mut self, keypair: Keypair) -> usize {
        self.members.push(Member::new(keypair, self.next_port));
        self.next_port += 1;
        self.members.len() - 1
    }

    /// Starts a node that knows what a routing table would hold, or, given others, joins by these.
    async fn start_member(&mut self, at: usize, by: Option<Vec<usize>>) -> Result<(), String> {
        let by = by.unwrap_or_else(|| match at {
            0 => Vec::new(),
            at => vec![self.rng.random_range(0..at)],
        });
        let bootstrap = by.iter().map(|at| {
            let member = &self.members[*at];
            member.addr().with(Protocol::P2p(member.peer))
        });
        let config = self.config(at, Vec::new(), bootstrap.collect());
        let started = lab::start_over(config, self.transport(at)).await;
        let (dht, incoming) = started.map_err(|error| error.to_string())?;
        self.members[at].body = Body::Node(dht, incoming);
        Ok(())
    }

    fn transport(
        &self,
        at: usize,
    ) -> libp2p::core::transport::Boxed<(PeerId, libp2p::core::muxing::StreamMuxerBox)> {
        let member = &self.members[at];
        self.air.transport(member.peer, member.traffic.clone())
    }

    fn stranger(&self, at: usize, kind: Kind, known: Vec<(PeerId, Multiaddr)>) -> Body {
        let member = &self.members[at];
        let stranger = hostile::start(
            &member.keypair,
            member.addr(),
            self.transport(at),
            kind,
            self.lies.clone(),
            known,
        );
        Body::Hostile(stranger)
    }

    fn config(
        &self,
        at: usize,
        known: Vec<(PeerId, Multiaddr)>,
        bootstrap: Vec<Multiaddr>,
    ) -> DhtConfig {
        let member = &self.members[at];
        let mut config = DhtConfig::new(member.keypair.clone(), PathBuf::new(), Arc::new(is_true));
        config.in_memory = true;
        config.listen = vec![member.addr()];
        config.bootstrap = bootstrap;
        config.known_peers = known;
        config.limits = Limits::of(self.setup.profile);
        config.announce = AnnounceTimes::of(self.setup.profile);
        config
    }

    /// The routing table of a node that has been there for long: of every bucket up to 20 random peers.
    fn table_of(&mut self, at: usize) -> Vec<(PeerId, Multiaddr)> {
        let me = self.members[at].point;
        let mut buckets: HashMap<u32, Vec<usize>> = HashMap::new();
        for (other, member) in self.members.iter().enumerate() {
            if other != at {
                let bits = keyspace::common_bits(&me, &member.point);
                buckets.entry(bits).or_default().push(other);
            }
        }
        let mut table = Vec::new();
        for (_, mut bucket) in buckets {
            let (some, _) = bucket.partial_shuffle(&mut self.rng, REPLICATION);
            for other in some {
                let member = &self.members[*other];
                table.push((member.peer, member.addr()));
            }
        }
        table
    }

    /// A node leaves at once, as when its machine is switched off.
    pub fn leave(&mut self, at: usize) {
        self.members[at].body = Body::Gone;
    }

    /// One more node joins by some that are there; returns its place.
    ///
    /// # Errors
    /// It does not start.
    pub async fn arrive(&mut self) -> Result<usize, String> {
        let mut by = self.honest();
        by.shuffle(&mut self.rng);
        by.truncate(3);
        let at = self.add_place(Keypair::generate_ed25519());
        self.start_member(at, Some(by)).await?;
        Ok(at)
    }

    /// The places of honest nodes that are there.
    pub fn honest(&self) -> Vec<usize> {
        let places = self.members.iter().enumerate();
        let honest = places.filter(|(_, member)| member.dht().is_some());
        honest.map(|(at, _)| at).collect()
    }

    /// The honest node at a place.
    pub fn dht(&self, at: usize) -> Option<Dht> {
        self.members.get(at)?.dht().cloned()
    }

    /// A random honest node other than these.
    pub fn some_node(&mut self, but: &[usize]) -> Option<usize> {
        let mut honest = self.honest();
        honest.retain(|at| !but.contains(at));
        let count = honest.len();
        (count > 0).then(|| honest[self.rng.random_range(0..count)])
    }

    /// The traffic of all nodes, those that are gone too.
    pub fn traffic(&self) -> Sums {
        let mut sums = Sums::default();
        for member in &self.members {
            sums.add(member.traffic.sums());
        }
        sums
    }

    /// Waits until most nodes are connected to somebody.
    pub async fn settle(&self, deadline: Duration) -> Duration {
        let began = Instant::now();
        for at in self.honest() {
            if let Some(dht) = self.members[at].dht() {
                let left = deadline.saturating_sub(began.elapsed());
                dht.connected_within(left).await;
            }
        }
        began.elapsed()
    }

    /// Waits until the traffic of the whole network is below this, or the time is up.
    pub async fn quiet(&self, bytes_per_s_and_node: u64, deadline: Duration) -> bool {
        let ends = Instant::now() + deadline;
        let window = Duration::from_secs(2);
        while Instant::now() < ends {
            let before = self.traffic();
            sleep(window).await;
            let sent = self.traffic().since(before).sent_bytes;
            if sent / window.as_secs() / (self.members.len() as u64).max(1) < bytes_per_s_and_node {
                return true;
            }
        }
        false
    }

    /// How many records of `key` by `provider` there are, and how many of the 20 living nodes closest
    /// to the key, honest or not, hold one.
    pub fn copies(&self, key: &Key, provider: usize) -> (usize, usize, usize) {
        let living: Vec<usize> = (0..self.members.len())
            .filter(|at| *at != provider && !matches!(self.members[*at].body, Body::Gone))
            .collect();
        let points: Vec<Point> = living.iter().map(|at| self.members[*at].point).collect();
        let target = keyspace::point_of_key(key);
        let closest: Vec<usize> = keyspace::closest(&points, &target, REPLICATION)
            .into_iter()
            .map(|at| living[at])
            .collect();
        let peer = self.members[provider].peer;
        let holds = |at: &usize| {
            let dht = self.members[*at].dht();
            dht.is_some_and(|dht| lab::held_providers(dht, key).contains(&peer))
        };
        let all = living.iter().filter(|at| holds(at)).count();
        let right = closest.iter().filter(|at| holds(at)).count();
        (all, right, closest.len())
    }

    /// The 20 living nodes closest to a key, but for one that does not count itself.
    pub fn closest(&self, key: &Key, but: usize) -> Vec<PeerId> {
        let there = self.members.iter().enumerate();
        let there = there.filter(|(at, m)| *at != but && !matches!(m.body, Body::Gone));
        let there: Vec<&Member> = there.map(|(_, member)| member).collect();
        let points: Vec<Point> = there.iter().map(|member| member.point).collect();
        let closest = keyspace::closest(&points, &keyspace::point_of_key(key), REPLICATION);
        closest.into_iter().map(|at| there[at].peer).collect()
    }

    /// Looks for the first provider of a key from one node.
    pub async fn find(&self, reader: usize, key: Key, deadline: Duration) -> Search {
        let began = Instant::now();
        let mut search = Search {
            first: None,
            took: deadline,
            asked: 0,
        };
        let Some(dht) = self.members[reader].dht() else {
            return search;
        };
        let options = FindOptions {
            limit: 1,
            deadline,
            ..FindOptions::default()
        };
        let mut events = dht.find_providers(key, options);
        while let Some(event) = events.recv().await {
            match event {
                FindEvent::Provider { .. } => {
                    search.first.get_or_insert(began.elapsed());
                }
                FindEvent::Done { asked_peers, .. } => search.asked = asked_peers,
            }
        }
        search.took = began.elapsed();
        search
    }

    /// Ends all nodes.
    pub async fn stop(self) {
        let mut stopping = JoinSet::new();
        for member in self.members {
            if let Body::Node(dht, _) = member.body {
                stopping.spawn(async move { dht.shutdown().await });
            }
        }
        while stopping.join_next().await.is_some() {}
    }
}
