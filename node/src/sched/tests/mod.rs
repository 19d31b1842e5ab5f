//! Whole downloads in virtual time over a model of a network.

mod choke;
mod endgame;
mod hostile;
mod pipeline;
mod ranges;
mod rarest;
mod stream;
mod transfer;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use casnode_cas::HaveBitmap;

use super::*;

const CHUNK: u32 = 256 << 10;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at_ms(n: u64) -> Mono {
    Mono(ms(n))
}

fn bitmap(len: usize, ones: impl IntoIterator<Item = usize>) -> HaveBitmap {
    let mut have = HaveBitmap::new(len);
    for index in ones {
        have.set(index);
    }
    have
}

fn full(len: usize) -> HaveBitmap {
    bitmap(len, 0..len)
}

/// A scheduler of `chunks` chunks of which none is here, with the default limits.
fn scheduler(chunks: usize, order: Order, first: &[u32], seed: u64) -> Scheduler {
    let have = HaveBitmap::new(chunks);
    Scheduler::new(SchedulerConfig::default(), &have, CHUNK, order, first, seed)
}

/// A peer comes and chokes nobody.
fn join(sched: &mut Scheduler, slot: u32, have: HaveBitmap) {
    let peer = PeerSlot(slot);
    let now = Mono::default();
    sched.handle(Event::PeerJoined { peer, have }, now);
    sched.handle(Event::Unchoked { peer }, now);
}

/// What is asked for at present, in order, and of whom.
fn asked(sched: &mut Scheduler, now: Mono) -> Vec<(u32, u32)> {
    let actions = std::iter::from_fn(|| sched.poll(now));
    actions
        .filter_map(|action| match action {
            Action::Request { peer, index } => Some((peer.0, index)),
            _ => None,
        })
        .collect()
}

/// How a virtual peer behaves.
#[derive(Debug, Clone)]
struct Link {
    bytes_per_s: f64,
    rtt: Duration,
    /// Each chunk takes up to this share longer or shorter.
    jitter: f64,
    /// Sends nothing from this moment on.
    silent_from: Option<Mono>,
    /// Leaves at this moment.
    leaves_at: Option<Mono>,
    lies: bool,
    /// Chunks it has; `None`: all.
    has: Option<Vec<u32>>,
    /// Chokes for as long, then sends for as long, and so on, from this far into the first span.
    chokes: Option<(Duration, Duration)>,
}

impl Link {
    fn new(mbit_per_s: f64, rtt_ms: u64) -> Self {
        Self {
            bytes_per_s: mbit_per_s * 1e6 / 8.0,
            rtt: ms(rtt_ms),
            jitter: 0.0,
            silent_from: None,
            leaves_at: None,
            lies: false,
            has: None,
            chokes: None,
        }
    }

    fn fast() -> Self {
        Self::new(400.0, 20)
    }

    fn is_choked_at(&self, now: Mono) -> bool {
        self.chokes.is_some_and(|(span, shift)| {
            ((now.0 + shift).as_millis() / span.as_millis()).is_multiple_of(2)
        })
    }

    /// When it changes its mind next.
    fn next_turn(&self, now: Mono) -> Option<Mono> {
        let (span, shift) = self.chokes?;
        let turns = (now.0 + shift).as_millis() / span.as_millis() + 1;
        let turns = u32::try_from(turns).unwrap();
        Some(Mono((span * turns).saturating_sub(shift)))
    }
}

/// What a run counted.
#[derive(Debug, Default)]
struct Outcome {
    complete: bool,
    finished_at: Mono,
    /// Chunks that came, by peer.
    by_peer: BTreeMap<u32, u32>,
    /// When the last chunk came, by peer.
    last_by_peer: BTreeMap<u32, Mono>,
    /// Chunks that came a second time.
    duplicates: u32,
    dropped: Vec<(u32, DropReason)>,
}

impl Outcome {
    /// How much of what the links could have sent in this time the file is.
    fn efficiency(&self, chunks: usize, links: &[Link]) -> f64 {
        let per_s: f64 = links.iter().map(|l| l.bytes_per_s).sum();
        chunks as f64 * f64::from(CHUNK) / per_s / self.finished_at.0.as_secs_f64()
    }
}

/// The far side of one link: it serves what it is asked for in order, and a chunk that it began it sends whole.
#[derive(Debug, Default)]
struct Server {
    /// Chunks, and when the request for them is there.
    queue: VecDeque<(u32, Mono)>,
    /// When what was begun is sent.
    free_at: Mono,
    /// What is on its way, and when it is here.
    wire: VecDeque<(u32, Mono)>,
    /// Cancels on their way.
    cancels: VecDeque<(u32, Mono)>,
    is_choking: bool,
    is_gone: bool,
    begun: u32,
}

impl Server {
    /// When it begins the next chunk.
    fn next_start(&self) -> Option<Mono> {
        self.queue.front().map(|(_, at)| self.free_at.max(*at))
    }

    /// What the next chunk's time is multiplied by: spread evenly, the same with each run.
    fn stretch(&mut self, link: &Link) -> f64 {
        self.begun += 1;
        let even = (f64::from(self.begun) * 0.618_034 + link.bytes_per_s / 1e7).fract();
        1.0 + link.jitter * (2.0 * even - 1.0)
    }

    /// When anything happens here, or comes from here.
    fn next_event(&self) -> Option<Mono> {
        let front = |queue: &VecDeque<(u32, Mono)>| queue.front().map(|(_, at)| *at);
        [self.next_start(), front(&self.wire), front(&self.cancels)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Goes on to `now` and returns what came.
    fn go_on(&mut self, link: &Link, now: Mono) -> Vec<u32> {
        loop {
            let start = self.next_start().filter(|t| *t <= now);
            let cancel = self.cancels.front().map(|(_, t)| *t).filter(|t| *t <= now);
            match (start, cancel) {
                (Some(start), cancel) if cancel.is_none_or(|t| start < t) => {
                    let Some((index, _)) = self.queue.pop_front() else {
                        break;
                    };
                    let span_s = f64::from(CHUNK) / link.bytes_per_s * self.stretch(link);
                    self.free_at = start.plus(Duration::from_secs_f64(span_s));
                    if link.silent_from.is_none_or(|t| self.free_at < t) {
                        self.wire
                            .push_back((index, self.free_at.plus(link.rtt / 2)));
                    }
                }
                (_, Some(_)) => {
                    let Some((cancelled, _)) = self.cancels.pop_front() else {
                        break;
                    };
                    self.queue.retain(|(index, _)| *index != cancelled);
                }
                _ => break,
            }
        }
        let come = self.wire.partition_point(|(_, at)| *at <= now);
        self.wire.drain(..come).map(|(index, _)| index).collect()
    }
}

/// A download from virtual peers.
struct World {
    sched: Scheduler,
    links: Vec<Link>,
    servers: Vec<Server>,
    got: Vec<bool>,
    outcome: Outcome,
    now: Mono,
}

impl World {
    fn new(chunks: usize, links: Vec<Link>, seed: u64) -> Self {
        let sched = scheduler(chunks, Order::RarestFirst, &[], seed);
        Self::of(sched, chunks, links)
    }

    fn of(sched: Scheduler, chunks: usize, links: Vec<Link>) -> Self {
        let mut world = Self {
            sched,
            servers: links.iter().map(|_| Server::default()).collect(),
            got: vec![false; chunks],
            links,
            outcome: Outcome::default(),
            now: Mono::default(),
        };
        for (slot, link) in (0u32..).zip(world.links.clone()) {
            let have = match &link.has {
                None => full(chunks),
                Some(list) => bitmap(chunks, list.iter().map(|i| *i as usize)),
            };
            join(&mut world.sched, slot, have);
        }
        world
    }

    fn run(mut self, limit: Duration) -> Outcome {
        while self.now.0 < limit {
            self.act();
            if self.sched.is_complete() {
                self.outcome.complete = true;
                self.outcome.finished_at = self.now;
                break;
            }
            self.step();
        }
        self.outcome
    }

    /// Goes on to the next moment at which something happens.
    fn step(&mut self) {
        let servers = self.servers.iter().filter_map(Server::next_event);
        let turns = self.links.iter().filter_map(|l| l.next_turn(self.now));
        let leaving = self.links.iter().filter_map(|l| l.leaves_at);
        let next = servers
            .chain(turns)
            .chain(leaving)
            .chain(self.sched.next_deadline(self.now))
            .filter(|t| *t > self.now)
            .min();
        self.now = next.unwrap_or_else(|| self.now.plus(ms(100)));
        for slot in 0..self.links.len() {
            self.live(slot);
        }
    }

    fn act(&mut self) {
        self.act_noting(|_| {});
    }

    fn act_noting(&mut self, mut note: impl FnMut(Action)) {
        while let Some(action) = self.sched.poll(self.now) {
            note(action);
            let slot = action.peer().0 as usize;
            let there = self.now.plus(self.links[slot].rtt / 2);
            let server = &mut self.servers[slot];
            match action {
                Action::Request { index, .. } => {
                    assert!(!server.is_choking, "{slot} chokes and is asked");
                    assert!(!self.got[index as usize], "{index} is here");
                    server.queue.push_back((index, there));
                }
                Action::Cancel { index, .. } => server.cancels.push_back((index, there)),
                Action::Interest { .. } => {}
                Action::Drop { peer, reason } => {
                    *server = Server {
                        is_gone: true,
                        ..Server::default()
                    };
                    self.outcome.dropped.push((peer.0, reason));
                }
            }
        }
    }

    /// What comes of one peer up to now.
    fn live(&mut self, slot: usize) {
        let (link, now) = (&self.links[slot], self.now);
        let server = &mut self.servers[slot];
        let peer = PeerSlot(u32::try_from(slot).unwrap());
        if server.is_gone {
            return;
        }
        let come = server.go_on(link, now);
        if link.leaves_at.is_some_and(|t| t <= now) {
            *server = Server {
                is_gone: true,
                ..Server::default()
            };
            self.sched.handle(Event::PeerLeft { peer }, now);
            return;
        }
        let choking = link.is_choked_at(now);
        if choking != server.is_choking {
            server.is_choking = choking;
            server.queue.clear();
            let event = if choking {
                Event::Choked { peer }
            } else {
                Event::Unchoked { peer }
            };
            self.sched.handle(event, now);
        }
        for index in come {
            self.deliver(peer, index);
        }
    }

    fn deliver(&mut self, peer: PeerSlot, index: u32) {
        let now = self.now;
        self.sched.handle(Event::Arrived { peer, index }, now);
        if self.links[peer.0 as usize].lies {
            let fault = Fault::WrongBytes;
            self.sched.handle(Event::Failed { peer, index, fault }, now);
            return;
        }
        let was_here = std::mem::replace(&mut self.got[index as usize], true);
        self.outcome.duplicates += u32::from(was_here);
        *self.outcome.by_peer.entry(peer.0).or_default() += 1;
        self.outcome.last_by_peer.insert(peer.0, now);
        self.sched.handle(Event::Verified { peer, index }, now);
    }
}
