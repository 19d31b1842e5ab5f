//! What a node does for those who ask it, as its seeder does: places, choking, offers, news.

use std::time::Duration;

use casnode_cas::HaveBitmap;
use casnode_node::lab::{Candidate, Decision, Fault, Load};

use super::node::Manner;
use super::world::{Ask, Event, NodeId, StreamId, Word, World};

/// How often news of chunks is sent at most.
pub const NEWS_PACE: Duration = Duration::from_millis(100);

/// A stream that sent a chunk, or began, less than this ago does not have to make room.
const SAFE_SPAN: Duration = Duration::from_secs(10);

/// A peer that has not said that it wants anything is believed to for this long after it joined.
const PRESUMED: Duration = Duration::from_secs(30);

/// Requests while choked after which a stream is closed: it is no accident any more.
const MAX_RUDE: u32 = 256;

/// Chunks in one message of news.
const MAX_NEWS: usize = 4096;

/// What the choker is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Who is served from now on.
    Round,
    /// Who gets the places that are free.
    Fill,
}

impl World {
    /// A message of the asker has reached the server.
    pub fn asked(&mut self, id: StreamId, ask: Ask) {
        let stream = &self.streams[id as usize];
        let server = stream.server;
        if !stream.open || !self.nodes[server as usize].here {
            return;
        }
        match ask {
            Ask::Join => self.join(id),
            Ask::Chunk(index) => self.chunk_asked(id, index),
            Ask::Cancel(index) => self.net.cancel(id, index),
            Ask::Interest(wants) => {
                self.stream(id).presumed = false;
                if std::mem::replace(&mut self.stream(id).interested, wants) != wants {
                    self.choose(server, Choice::Fill);
                }
            }
        }
    }

    fn join(&mut self, id: StreamId) {
        let (now, server, asker) = (
            self.now(),
            self.streams[id as usize].server,
            self.streams[id as usize].asker,
        );
        if !self.make_place(server) {
            self.net.tell(&mut self.queue, id, Word::TurnedAway);
            return;
        }
        self.stream(id).joined_at = Some(now);
        self.node(server).serves.insert(asker, id);
        self.enters_crowd(server, asker);
        let (theirs, node) = (
            self.nodes[asker as usize].have.clone(),
            &mut self.nodes[server as usize],
        );
        let told = match (&mut node.offers, node.manner.lies()) {
            (_, true) => full(self.setup.chunks),
            (Some(offers), _) => offers.joins(now, u64::from(id), theirs.clone()),
            (None, _) => node.have.clone(),
        };
        let wants = node.have.iter_ones().any(|index| !theirs.get(index));
        self.stream(id).interested = wants;
        self.net
            .tell(&mut self.queue, id, Word::Have(Box::new(told)));
        self.tell_of_others(id);
        if self.nodes[server as usize].manner.lies() {
            self.unchoke(id);
        }
        self.choose(server, Choice::Fill);
    }

    /// When all places are taken, the stream that was of no use for longest has to go.
    fn make_place(&mut self, server: NodeId) -> bool {
        let serves = &self.nodes[server as usize].serves;
        if serves.len() < self.setup.max_served {
            return true;
        }
        let idle = |id: &&StreamId| self.streams[**id as usize].sent_at;
        let Some(idlest) = serves.values().min_by_key(idle).copied() else {
            return false;
        };
        if self.now().since(self.streams[idlest as usize].sent_at) < SAFE_SPAN {
            return false;
        }
        self.cut(idlest);
        true
    }

    fn chunk_asked(&mut self, id: StreamId, index: u32) {
        let stream = &self.streams[id as usize];
        let node = &self.nodes[stream.server as usize];
        let has = node.have.get(index as usize)
            && node
                .offers
                .as_ref()
                .is_none_or(|offers| offers.is_offered(u64::from(id), index));
        match node.manner {
            Manner::Mute => {}
            Manner::SendsWrong => self.net.ask(&mut self.queue, id, index),
            _ if stream.choked => {
                self.refuse(id, index, Fault::Choked);
                self.stream(id).rude += 1;
                if self.streams[id as usize].rude > MAX_RUDE {
                    self.cut(id);
                }
            }
            _ if !has => self.refuse(id, index, Fault::NotFound),
            _ => self.net.ask(&mut self.queue, id, index),
        }
    }

    fn refuse(&mut self, id: StreamId, index: u32, fault: Fault) {
        self.net
            .tell(&mut self.queue, id, Word::Refused { index, fault });
    }

    /// A chunk has left this node.
    pub fn written(&mut self, id: StreamId, index: u32) {
        let (now, bytes) = (self.now(), u64::from(self.setup.chunk_bytes));
        let stream = self.stream(id);
        stream.taken_bytes += bytes;
        stream.sent_at = now;
        let (server, is_choked) = (stream.server, stream.choked);
        let ends = stream.refused.take();
        if is_choked && ends.is_none() {
            self.violated(server, format!("chunk {index} was sent to a choked peer"));
        }
        if let Some(refused) = ends {
            self.end_turn(id, refused);
        }
        let node = self.node(server);
        if let Some(offers) = &mut node.offers {
            offers.served(now, u64::from(id), index);
        }
        let sent_bytes = self.net.sent_bytes(server);
        if self.nodes[server as usize]
            .leaves_after_bytes
            .is_some_and(|most| sent_bytes >= most)
        {
            self.queue.after(
                Duration::ZERO,
                Event::Leave {
                    node: server,
                    silently: false,
                },
            );
        }
    }

    fn end_turn(&mut self, id: StreamId, refused: impl IntoIterator<Item = u32>) {
        for index in refused {
            self.refuse(id, index, Fault::Choked);
        }
        self.net.tell(&mut self.queue, id, Word::Choke);
    }

    fn unchoke(&mut self, id: StreamId) {
        // The end of the turn before was not said yet.
        if let Some(refused) = self.stream(id).refused.take() {
            self.end_turn(id, refused);
        }
        self.stream(id).choked = false;
        self.net.tell(&mut self.queue, id, Word::Unchoke);
        self.net.allow(&mut self.queue, id);
    }

    fn choke(&mut self, id: StreamId) {
        self.stream(id).choked = true;
        let server = self.streams[id as usize].server;
        self.node(server).tally.chokes += 1;
        let refused = self.net.forbid(id);
        if self.net.is_writing(id) {
            self.stream(id).refused = Some(refused);
        } else {
            self.end_turn(id, refused);
        }
    }

    /// Asks the choker, and does what it says.
    pub fn choose(&mut self, server: NodeId, choice: Choice) {
        let now = self.now();
        let node = &self.nodes[server as usize];
        if !node.gives_honestly() {
            return;
        }
        let candidates: Vec<Candidate> =
            node.serves.values().map(|id| self.candidate(*id)).collect();
        let node = self.node(server);
        let slots = node.slots.count();
        let Decision { unchoke, choke } = match choice {
            Choice::Round => node.choker.round(now, &candidates, slots),
            Choice::Fill => node.choker.fill(now, &candidates, slots),
        };
        for id in choke {
            self.choke(id as StreamId);
        }
        for id in unchoke {
            self.unchoke(id as StreamId);
        }
    }

    fn candidate(&self, id: StreamId) -> Candidate {
        let (now, stream) = (self.now(), &self.streams[id as usize]);
        let node = &self.nodes[stream.server as usize];
        let source = node
            .asks
            .get(&stream.asker)
            .map(|id| &self.streams[*id as usize]);
        let sched = node.sched.as_ref();
        Candidate {
            id: u64::from(id),
            swarm: 0,
            mode: self.setup.mode,
            interested: stream.interested,
            gives_per_s: source.map_or(0, |s| s.gives.per_s(now)),
            taken_bytes: stream.taken_bytes,
            has_chunks: self.nodes[stream.asker as usize].have.count() as u32,
            gave_bytes: node.gave.get(&stream.asker).copied().unwrap_or(0),
            we_seed: node.is_done(),
            snubs_us: source.is_some_and(|s| sched.is_some_and(|sched| sched.snubbed(s.slot, now))),
            joined: stream.joined_at.unwrap_or(now),
        }
    }

    /// How the line was used in the last second decides how many are served.
    pub fn measure(&mut self, id: NodeId) {
        let (now, busy) = (self.now(), self.net.busy_span(id));
        let node = &self.nodes[id as usize];
        let mut waiting = 0;
        let mut doubtful = Vec::new();
        for id in node.serves.values() {
            let stream = &self.streams[*id as usize];
            waiting += usize::from(stream.choked && stream.interested);
            if stream.joined_at.is_some_and(|at| now.since(at) > PRESUMED) && stream.presumed {
                doubtful.push(*id);
            }
        }
        let node = self.node(id);
        let busy_span = busy.saturating_sub(std::mem::replace(&mut node.line_busy, busy));
        let busy = busy_span.as_secs_f32().min(1.0);
        let before = node.slots.count();
        let after = node.slots.round(now, Load { busy, waiting });
        for id in doubtful {
            self.stream(id).interested = false;
        }
        if after > before {
            self.choose(id, Choice::Fill);
        }
    }

    /// Tells others what came, or what is offered to them.
    pub fn tell_news(&mut self, id: NodeId) {
        let node = self.node(id);
        if !node.here {
            return;
        }
        if node.offers.is_some() {
            self.tell_offers(id);
            self.queue.after(NEWS_PACE, Event::News(id));
            return;
        }
        node.news_due = false;
        let news = std::mem::take(&mut node.news);
        let streams: Vec<StreamId> = node.serves.values().copied().collect();
        for stream in streams {
            self.heard_of(stream, news.clone());
        }
        // Those that offer one by one hear of it, too.
        let (now, node) = (self.now(), &self.nodes[id as usize]);
        let asks: Vec<(NodeId, StreamId)> = node
            .asks
            .iter()
            .map(|(server, id)| (*server, *id))
            .collect();
        for (server, stream) in asks {
            if let Some(offers) = &mut self.node(server).offers {
                offers.got(now, u64::from(stream), &news);
            }
        }
    }

    fn tell_offers(&mut self, server: NodeId) {
        let streams: Vec<StreamId> = self.nodes[server as usize]
            .serves
            .values()
            .copied()
            .collect();
        for id in streams {
            let Some(offers) = &mut self.node(server).offers else {
                return;
            };
            let indices = offers.take_news(u64::from(id), MAX_NEWS);
            if !indices.is_empty() {
                self.net.tell(&mut self.queue, id, Word::Got(indices));
            }
        }
    }
}

fn full(chunks: u32) -> HaveBitmap {
    let mut have = HaveBitmap::new(chunks as usize);
    (0..chunks as usize).for_each(|index| {
        have.set(index);
    });
    have
}
