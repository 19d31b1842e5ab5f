//! How nodes find each other, and how they part.

use std::time::Duration;

use casnode_node::lab::Event as Seen;
use rand::Rng;

use super::serve::Choice;
use super::world::{NodeId, StreamId, Word, World};

/// Peers named in one message.
const MAX_OTHERS: usize = 32;

/// Peers of a swarm that are remembered for others, and for oneself.
const MAX_KNOWN: usize = 256;

/// Providers that one lookup finds.
const FOUND: usize = 16;

/// Between two lookups while chunks come, and while nobody is asked.
const REFRESH_PAUSE: Duration = Duration::from_secs(15);
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

/// A peer whose stream ended is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A stream makes room for another peer when it has delivered nothing for this long; one at a time.
const USEFUL_WITHIN: Duration = Duration::from_secs(30);

impl World {
    /// Opens streams to those known, as long as there is room.
    pub fn search(&mut self, id: NodeId) {
        let node = &self.nodes[id as usize];
        if !node.here
            || (node.sched.is_none() && node.manner.downloads())
            || self.sources.contains(&id)
        {
            return;
        }
        self.look_up(id);
        let now = self.now();
        let node = &self.nodes[id as usize];
        let fits = |peer: &NodeId| {
            let tried = node.past.get(peer);
            *peer != id
                && !node.asks.contains_key(peer)
                && !node.banned.contains(peer)
                && tried.is_none_or(|at| now.since(*at) >= RETRY_AFTER)
        };
        let mut known: Vec<NodeId> = node.known.iter().copied().filter(fits).collect();
        let room = self.setup.max_sessions.saturating_sub(node.asks.len());
        if known.is_empty() || (room == 0 && !self.evict(id)) {
            return;
        }
        // Those that came last, and any: not everybody asks the same ones.
        let mut room = room.max(1);
        while room > 0 && !known.is_empty() {
            let at = self.rng.random_range(0..known.len());
            self.open(id, known.swap_remove(at));
            room -= 1;
        }
    }

    fn look_up(&mut self, id: NodeId) {
        let now = self.now();
        let node = self.node(id);
        let pause = if node.asks.is_empty() {
            LOOKUP_PAUSE
        } else {
            REFRESH_PAUSE
        };
        if node.looked_up_at.is_some_and(|at| now.since(at) < pause) {
            return;
        }
        node.looked_up_at = Some(now);
        let mut found = self.sources.clone();
        if self.setup.lookups {
            let count = self.nodes.len() as NodeId;
            let drawn: Vec<NodeId> = (0..FOUND)
                .map(|_| self.rng.random_range(0..count))
                .collect();
            let announced = |peer: &NodeId| {
                let node = &self.nodes[*peer as usize];
                node.here && (node.have.count() > 0 || node.manner.lies())
            };
            found.extend(drawn.into_iter().filter(announced));
        }
        self.told_of(id, &found);
    }

    /// Somebody named these.
    pub fn told_of(&mut self, id: NodeId, others: &[NodeId]) {
        let node = self.node(id);
        for other in others.iter().filter(|other| **other != id) {
            if !node.known.contains(other) {
                if node.known.len() >= MAX_KNOWN {
                    node.known.pop_front();
                }
                node.known.push_back(*other);
            }
        }
    }

    /// Lets the peer go that has been of no use for longest.
    fn evict(&mut self, id: NodeId) -> bool {
        let (now, node) = (self.now(), &self.nodes[id as usize]);
        let useful = |stream: &StreamId| self.streams[*stream as usize].useful_at;
        let Some(idlest) = node.asks.values().copied().min_by_key(useful) else {
            return false;
        };
        let idle = now.since(useful(&idlest)) >= USEFUL_WITHIN;
        if !idle || now.since(node.evicted_at) < USEFUL_WITHIN {
            return false;
        }
        self.node(id).evicted_at = now;
        self.cut(idlest);
        true
    }

    /// A stream with a peer began: it will be named to others, and is somebody to ask.
    pub fn enters_crowd(&mut self, id: NodeId, peer: NodeId) {
        let node = self.node(id);
        node.crowd_count += 1;
        let number = node.crowd_count;
        if !node.crowd.iter().any(|(_, known)| *known == peer) {
            if node.crowd.len() >= MAX_KNOWN {
                node.crowd.pop_front();
            }
            node.crowd.push_back((number, peer));
        }
        self.told_of(id, &[peer]);
        let node = &self.nodes[id as usize];
        let known = node.asks.contains_key(&peer) || node.banned.contains(&peer);
        if node.sched.is_some() && !known && node.asks.len() < self.setup.max_sessions {
            self.open(id, peer);
        }
    }

    pub fn tell_all_of_others(&mut self, id: NodeId) {
        let streams: Vec<StreamId> = self.nodes[id as usize].serves.values().copied().collect();
        streams
            .into_iter()
            .for_each(|stream| self.tell_of_others(stream));
    }

    /// Names those that the asker of a stream was not told of yet, the latest first.
    pub fn tell_of_others(&mut self, id: StreamId) {
        let stream = &self.streams[id as usize];
        let node = &self.nodes[stream.server as usize];
        let is_near =
            |peer: &NodeId| node.serves.contains_key(peer) || node.asks.contains_key(peer);
        let news = node
            .crowd
            .iter()
            .rev()
            .take_while(|(n, _)| *n > stream.others_told);
        let named = news
            .map(|(_, peer)| *peer)
            .filter(|peer| *peer != stream.asker && is_near(peer));
        let others: Vec<NodeId> = named.take(MAX_OTHERS).collect();
        self.stream(id).others_told =
            self.nodes[self.streams[id as usize].server as usize].crowd_count;
        if !others.is_empty() {
            self.net.tell(&mut self.queue, id, Word::Peers(others));
        }
    }

    /// A peer that lied is asked no more, and not served.
    pub fn ban(&mut self, id: NodeId, peer: NodeId) {
        self.node(id).banned.insert(peer);
        let node = &self.nodes[id as usize];
        let streams = [
            node.asks.get(&peer).copied(),
            node.serves.get(&peer).copied(),
        ];
        streams
            .into_iter()
            .flatten()
            .for_each(|stream| self.cut(stream));
    }

    /// Both ends of a stream know that it is over.
    pub fn cut(&mut self, id: StreamId) {
        let now = self.now();
        let stream = self.stream(id);
        if !std::mem::replace(&mut stream.open, false) {
            return;
        }
        let (asker, server, peer) = (stream.asker, stream.server, stream.slot);
        stream.told = None;
        self.nothing_under_way(id);
        self.net.close(id);
        let node = self.node(asker);
        node.asks.remove(&server);
        node.past.insert(server, now);
        if let Some(sched) = &mut node.sched {
            sched.handle(Seen::PeerLeft { peer }, now);
            self.poll_at(asker, now);
        }
        let node = self.node(server);
        if node.serves.get(&asker) == Some(&id) {
            node.serves.remove(&asker);
            if let Some(offers) = &mut node.offers {
                offers.leaves(u64::from(id));
            }
            self.choose(server, Choice::Fill);
        }
    }
}
