//! The world: nodes, streams, lines and the order of events.

use std::time::Duration;

use casnode_cas::HaveBitmap;
use casnode_dht::lab::Bucket;
use casnode_node::SwarmMode;
use casnode_node::lab::{Fault, Mono, Offers, Order, Scheduler, SchedulerConfig};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::checks::Checks;
use super::clock::Queue;
use super::net::{Line, Net, Parcel};
use super::node::{Manner, Node, Stream};
use super::serve::Choice;

pub type NodeId = u32;
pub type StreamId = u32;

/// How often progress is noted.
const SAMPLE_PACE: Duration = Duration::from_millis(500);

/// What a server tells the asker of a stream.
#[derive(Debug)]
pub enum Word {
    Have(Box<HaveBitmap>),
    /// There is no place.
    TurnedAway,
    Choke,
    Unchoke,
    Got(Vec<u32>),
    Refused {
        index: u32,
        fault: Fault,
    },
    Peers(Vec<NodeId>),
}

/// What the asker of a stream tells its server.
#[derive(Debug)]
pub enum Ask {
    Join,
    Chunk(u32),
    Cancel(u32),
    Interest(bool),
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    SliceSent {
        stream: StreamId,
        bytes: u32,
    },
    Arrived {
        stream: StreamId,
        parcel: Parcel,
    },
    Delivered {
        stream: StreamId,
        parcel: Parcel,
    },
    Asked {
        stream: StreamId,
        ask: Ask,
    },
    /// What a node got is told to its peers.
    News(NodeId),
    Poll(NodeId),
    Tick(NodeId),
    /// A node is switched on, with what it has, or with nothing.
    Enter {
        node: NodeId,
        keeps: bool,
    },
    /// A node is gone; its peers notice at once, or much later.
    Leave {
        node: NodeId,
        silently: bool,
    },
    /// Both ends know that a stream has ended.
    Cut(StreamId),
    /// Progress is noted.
    Sample,
}

/// What the nodes share.
#[derive(Clone, Debug)]
pub struct Setup {
    pub chunks: u32,
    pub chunk_bytes: u32,
    pub mode: SwarmMode,
    pub order: Order,
    pub seed: u64,
    pub scheduler: SchedulerConfig,
    /// Streams that a node opens, and that it serves.
    pub max_sessions: usize,
    pub max_served: usize,
    /// Nodes know the directory, and not only those who know them.
    pub lookups: bool,
    pub super_seeding: bool,
    pub check: bool,
    /// It is over then, whoever is not done.
    pub limit: Duration,
}

impl Setup {
    pub fn new(file_bytes: u64, chunk_bytes: u32, seed: u64) -> Self {
        let chunks = file_bytes.div_ceil(u64::from(chunk_bytes)).max(1);
        Self {
            chunks: u32::try_from(chunks).unwrap_or(u32::MAX),
            chunk_bytes,
            mode: SwarmMode::Trusted,
            order: Order::RarestFirst,
            seed,
            scheduler: SchedulerConfig::default(),
            max_sessions: 32,
            max_served: 64,
            lookups: true,
            super_seeding: true,
            check: false,
            limit: Duration::from_secs(100_000),
        }
    }

    pub fn file_bytes(&self) -> u64 {
        u64::from(self.chunks) * u64::from(self.chunk_bytes)
    }
}

/// A swarm in virtual time.
pub struct World {
    pub setup: Setup,
    pub queue: Queue<Event>,
    pub net: Net,
    pub nodes: Vec<Node>,
    pub streams: Vec<Stream>,
    pub rng: SmallRng,
    /// Who has the file from the start, and is known to everybody.
    pub sources: Vec<NodeId>,
    pub checks: Option<Checks>,
    /// Honest downloads that are not done, those of nodes that will come back included.
    pub missing: usize,
    /// Chunks that are somewhere, without those of the sources; in virtual time.
    pub progress: Vec<(f64, u64)>,
    pub placed: u64,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self {
            queue: Queue::new(),
            net: Net::new(setup.chunk_bytes, setup.seed),
            nodes: Vec::new(),
            streams: Vec::new(),
            rng: SmallRng::seed_from_u64(setup.seed),
            sources: Vec::new(),
            checks: setup.check.then(Checks::default),
            missing: 0,
            progress: Vec::new(),
            placed: 0,
            setup,
        }
    }

    /// A node that has everything from the start.
    pub fn add_source(&mut self, line: Line, limit: Option<Bucket>) -> NodeId {
        let mut have = HaveBitmap::new(self.setup.chunks as usize);
        (0..self.setup.chunks as usize).for_each(|i| {
            have.set(i);
        });
        let node = self.add(Manner::Honest, line, have, limit);
        self.sources.push(node);
        self.enter_at(node, Duration::ZERO);
        node
    }

    /// A node that wants the file, or pretends to, and enters then.
    pub fn add_leecher(&mut self, manner: Manner, line: Line, enters_at: Duration) -> NodeId {
        let have = HaveBitmap::new(self.setup.chunks as usize);
        let node = self.add(manner, line, have, None);
        self.missing += usize::from(manner == Manner::Honest);
        self.enter_at(node, enters_at);
        node
    }

    fn add(
        &mut self,
        manner: Manner,
        line: Line,
        have: HaveBitmap,
        limit: Option<Bucket>,
    ) -> NodeId {
        let seed = self.rng.random();
        self.net.connect(line, limit);
        self.nodes
            .push(Node::new(manner, have, self.setup.mode, seed));
        self.nodes.len() as NodeId - 1
    }

    fn enter_at(&mut self, node: NodeId, at: Duration) {
        self.queue.at(Mono(at), Event::Enter { node, keeps: true });
    }

    pub fn now(&self) -> Mono {
        self.queue.now()
    }

    pub fn node(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    pub fn stream(&mut self, stream: StreamId) -> &mut Stream {
        &mut self.streams[stream as usize]
    }

    /// Runs until every honest node has the file, or it takes too long.
    pub fn run(&mut self) {
        self.queue.after(SAMPLE_PACE, Event::Sample);
        self.run_while(|world| world.missing > 0);
    }

    pub fn run_while(&mut self, goes_on: impl Fn(&World) -> bool) {
        while goes_on(self) && self.now().0 < self.setup.limit {
            let Some(event) = self.queue.next() else {
                return;
            };
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::SliceSent { stream, bytes } => {
                let node = self.streams[stream as usize].server;
                if let Some(written) = self.net.slice_sent(&mut self.queue, stream, bytes) {
                    self.written(written.stream, written.index);
                }
                self.net.kick(&mut self.queue, node);
            }
            Event::Arrived { stream, parcel } => self.net.arrived(&mut self.queue, stream, parcel),
            Event::Delivered { stream, parcel } => self.delivered(stream, parcel),
            Event::Asked { stream, ask } => self.asked(stream, ask),
            Event::News(node) => self.tell_news(node),
            Event::Poll(node) => {
                if self.nodes[node as usize].poll_at == Some(self.now()) {
                    self.poll(node);
                }
            }
            Event::Tick(node) => self.tick(node),
            Event::Enter { node, keeps } => self.enter(node, keeps),
            Event::Leave { node, silently } => self.leave(node, silently),
            Event::Cut(stream) => self.cut(stream),
            Event::Sample => {
                self.progress
                    .push((self.now().0.as_secs_f64(), self.placed));
                self.queue.after(SAMPLE_PACE, Event::Sample);
            }
        }
    }

    /// A node is switched on.
    fn enter(&mut self, id: NodeId, keeps: bool) {
        let (now, chunks) = (self.now(), self.setup.chunks as usize);
        self.cut_all(id);
        let seed: u64 = self.rng.random();
        let first = self.rng.random_range(0..self.setup.chunks);
        let setup = &self.setup;
        let is_source = self.sources.contains(&id);
        let node = &mut self.nodes[id as usize];
        if !keeps && !node.have.is_complete() {
            self.placed -= node.have.count() as u64;
            node.have = HaveBitmap::new(chunks);
        }
        (node.here, node.poll_at, node.news_due) = (true, None, false);
        node.news.clear();
        node.past.clear();
        node.tally.entered_at = now;
        node.offers = (is_source && setup.super_seeding).then(|| Offers::new(setup.chunks, seed));
        node.sched = (node.manner.downloads() && !node.is_done()).then(|| {
            let (config, size) = (setup.scheduler.clone(), setup.chunk_bytes);
            // What was kept proves the manifest.
            let first = if node.have.count() > 0 {
                vec![]
            } else {
                vec![first]
            };
            Scheduler::new(config, &node.have, size, setup.order, &first, seed)
        });
        let phase = Duration::from_micros(self.rng.random_range(0..1_000_000));
        self.search(id);
        self.queue.after(phase, Event::Tick(id));
        if self.nodes[id as usize].offers.is_some() {
            self.queue.after(super::serve::NEWS_PACE, Event::News(id));
        }
    }

    /// A node is switched off.
    fn leave(&mut self, id: NodeId, silently: bool) {
        let node = self.node(id);
        if !std::mem::replace(&mut node.here, false) {
            return;
        }
        node.sched = None;
        let streams: Vec<StreamId> = node
            .asks
            .values()
            .chain(node.serves.values())
            .copied()
            .collect();
        let patience = Duration::from_millis(if silently { 10_000 } else { 50 });
        for stream in streams {
            self.net.close(stream);
            self.queue.after(patience, Event::Cut(stream));
        }
    }

    fn cut_all(&mut self, id: NodeId) {
        let node = &self.nodes[id as usize];
        let streams: Vec<StreamId> = node
            .asks
            .values()
            .chain(node.serves.values())
            .copied()
            .collect();
        for stream in streams {
            self.cut(stream);
        }
    }

    /// Once a second: the line is looked at, peers are looked for, and every now and then who is served changes.
    fn tick(&mut self, id: NodeId) {
        if !self.nodes[id as usize].here {
            return;
        }
        let node = self.node(id);
        node.ticks += 1;
        let ticks = node.ticks;
        self.measure(id);
        if ticks.is_multiple_of(10) {
            self.choose(id, Choice::Round);
        }
        if ticks.is_multiple_of(5) {
            self.tell_all_of_others(id);
        }
        self.search(id);
        self.flood(id);
        self.queue.after(Duration::from_secs(1), Event::Tick(id));
    }
}
