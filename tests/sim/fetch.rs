//! What a node does to have the file, as its download does: streams, requests, what comes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use casnode_node::lab::{Action, DropReason, Event as Seen, Fault, Order, PeerSlot};

use super::net::Parcel;
use super::node::{Manner, Stream};
use super::serve::{Choice, NEWS_PACE};
use super::world::{Ask, Event, NodeId, StreamId, Word, World};

/// What came is looked at together when it came within this span, if it is only news: as an engine drains its queue.
const NEWS_GRAIN: Duration = Duration::from_millis(20);

/// The scheduler is not asked more often than this, whatever it wishes.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// Messages of a node that floods, a second.
const FLOOD: u32 = 40;

impl World {
    /// Opens a stream: a connection, and a join.
    pub fn open(&mut self, asker: NodeId, server: NodeId) {
        let now = self.now();
        let id = self.net.open(server, asker);
        let node = self.node(asker);
        let slot = PeerSlot(node.slots_used.len() as u32);
        node.slots_used.push(id);
        node.asks.insert(server, id);
        self.streams.push(Stream::new(asker, server, slot, now));
        let handshake = 3 * self.net.latency(asker, server);
        self.queue.after(
            handshake,
            Event::Asked {
                stream: id,
                ask: Ask::Join,
            },
        );
    }

    /// Something has reached the asker of a stream.
    pub fn delivered(&mut self, id: StreamId, parcel: Parcel) {
        if let Parcel::Piece { bytes, .. } = &parcel {
            self.net.delivered(&mut self.queue, id, *bytes);
        }
        let stream = &self.streams[id as usize];
        let asker = stream.asker;
        if !stream.open || !self.nodes[asker as usize].here {
            return;
        }
        match parcel {
            Parcel::Piece {
                index, last: true, ..
            } => self.chunk_came(id, index),
            Parcel::Piece { .. } => return,
            Parcel::Word(word) => self.heard(id, word),
        }
        self.poll(asker);
    }

    fn heard(&mut self, id: StreamId, word: Word) {
        let peer = self.streams[id as usize].slot;
        match word {
            Word::TurnedAway => self.cut(id),
            Word::Have(have) => {
                let check = self.checks.is_some();
                let stream = self.stream(id);
                stream.ready = true;
                stream.told = check.then(|| (*have).clone());
                self.see(id, Seen::PeerJoined { peer, have: *have });
            }
            Word::Choke => {
                self.nothing_under_way(id);
                let stream = self.stream(id);
                stream.chokes_asker = true;
                stream.void.append(&mut stream.asked);
                self.see(id, Seen::Choked { peer });
            }
            Word::Unchoke => {
                self.stream(id).chokes_asker = false;
                self.see(id, Seen::Unchoked { peer });
            }
            Word::Got(indices) => self.heard_of(id, indices),
            Word::Refused { index, fault } => {
                self.not_under_way(self.streams[id as usize].asker, index, id);
                if fault == Fault::NotFound
                    && let Some(told) = &mut self.stream(id).told
                {
                    told.unset(index as usize);
                }
                let stream = self.stream(id);
                if stream.asked.remove(&index) || !stream.void.remove(&index) {
                    self.see(id, Seen::Failed { peer, index, fault });
                }
            }
            Word::Peers(others) => self.told_of(self.streams[id as usize].asker, &others),
        }
    }

    /// A server has these chunks, too.
    pub fn heard_of(&mut self, id: StreamId, indices: Vec<u32>) {
        let now = self.now();
        let stream = self.stream(id);
        let (asker, peer) = (stream.asker, stream.slot);
        if !stream.open || !stream.ready {
            return;
        }
        if let Some(told) = &mut stream.told {
            for index in &indices {
                told.set(*index as usize);
            }
        }
        self.see(id, Seen::PeerGot { peer, indices });
        self.poll_at(asker, now.plus(NEWS_GRAIN));
    }

    fn see(&mut self, id: StreamId, seen: Seen) {
        let (now, asker) = (self.now(), self.streams[id as usize].asker);
        if let Some(sched) = &mut self.node(asker).sched {
            sched.handle(seen, now);
        }
    }

    fn chunk_came(&mut self, id: StreamId, index: u32) {
        let (now, bytes) = (self.now(), u64::from(self.setup.chunk_bytes));
        let stream = self.stream(id);
        let (asker, server, peer) = (stream.asker, stream.server, stream.slot);
        stream.useful_at = now;
        let _ = stream.asked.remove(&index) || stream.void.remove(&index);
        self.node(asker).tally.received_bytes += bytes;
        self.see(id, Seen::Arrived { peer, index });
        if self.nodes[server as usize].manner == Manner::SendsWrong {
            self.node(asker).tally.wrong_bytes += bytes;
            let fault = Fault::WrongBytes;
            self.not_under_way(asker, index, id);
            self.see(id, Seen::Failed { peer, index, fault });
            return;
        }
        if !self.node(asker).have.set(index as usize) {
            self.node(asker).tally.duplicate_bytes += bytes;
            self.came_twice(asker, index);
            return;
        }
        self.stream(id).gives.add(now, bytes);
        *self.node(asker).gave.entry(server).or_default() += bytes;
        let first = self.nodes[asker as usize].have.count() == 1;
        self.see(id, Seen::Verified { peer, index });
        if first {
            self.see(id, Seen::Proven);
        }
        if self.setup.order == Order::Sequential {
            let have = &self.nodes[asker as usize].have;
            let index = have.iter_zeros().next().unwrap_or(have.len()) as u32;
            let end = index + 1;
            self.see(id, Seen::Position { index, end });
        }
        self.placed += 1;
        self.no_longer_under_way(asker, index);
        let pause = NEWS_PACE + self.net.line(asker).latency;
        let node = self.node(asker);
        node.news.push(index);
        if !std::mem::replace(&mut node.news_due, true) {
            self.queue.after(pause, Event::News(asker));
        }
        if self.nodes[asker as usize].have.is_complete() {
            self.done(asker);
        }
    }

    /// The download is over; the node serves on.
    fn done(&mut self, id: NodeId) {
        let now = self.now();
        let node = self.node(id);
        node.sched = None;
        node.tally.done_at = Some(now);
        let honest = node.manner == Manner::Honest;
        // The last news go out first, to those who offer chunks, too.
        let streams: Vec<StreamId> = node.asks.values().copied().collect();
        self.tell_news(id);
        for stream in streams {
            self.cut(stream);
        }
        self.missing -= usize::from(honest);
        self.choose(id, Choice::Fill);
    }

    /// Looks at the scheduler at this time, or before.
    pub fn poll_at(&mut self, id: NodeId, at: casnode_node::lab::Mono) {
        let node = self.node(id);
        if node.poll_at.is_none_or(|before| at < before) {
            node.poll_at = Some(at);
            self.queue.at(at, Event::Poll(id));
        }
    }

    /// Does what the scheduler wants.
    pub fn poll(&mut self, id: NodeId) {
        let now = self.now();
        let mut said = BTreeMap::new();
        while let Some(action) = self
            .node(id)
            .sched
            .as_mut()
            .and_then(|sched| sched.poll(now))
        {
            let slot = action.peer();
            let stream = self.nodes[id as usize].slots_used[slot.0 as usize];
            if !self.streams[stream as usize].open {
                self.violated(id, format!("{action:?} for a peer that is gone"));
                continue;
            }
            self.check(id, stream, action);
            match action {
                Action::Request { index, .. } => {
                    let to = self.stream(stream);
                    to.asked.insert(index);
                    if !to.void.remove(&index) {
                        self.say(stream, Ask::Chunk(index));
                    }
                }
                Action::Cancel { index, .. } => {
                    self.stream(stream).asked.remove(&index);
                    self.say(stream, Ask::Cancel(index));
                }
                Action::Interest { wants, .. } => {
                    said.insert(stream, wants);
                    self.say(stream, Ask::Interest(wants));
                }
                Action::Drop { reason, .. } => {
                    if reason == DropReason::WrongBytes {
                        self.ban(id, self.streams[stream as usize].server);
                    } else {
                        self.cut(stream);
                    }
                }
            }
        }
        self.check_interest(id, &said);
        let node = self.node(id);
        node.poll_at = None;
        if let Some(next) = node
            .sched
            .as_ref()
            .and_then(|sched| sched.next_deadline(now))
        {
            self.poll_at(id, next.max(now.plus(LEAST_PAUSE)));
        }
    }

    fn say(&mut self, id: StreamId, ask: Ask) {
        let stream = &self.streams[id as usize];
        let span = self.net.latency(stream.asker, stream.server);
        self.queue.after(span, Event::Asked { stream: id, ask });
    }

    /// What a node that floods does in a second.
    pub fn flood(&mut self, id: NodeId) {
        if self.nodes[id as usize].manner != Manner::Floods {
            return;
        }
        let mut streams: Vec<StreamId> = self.nodes[id as usize].asks.values().copied().collect();
        streams.retain(|stream| self.streams[*stream as usize].ready);
        for stream in streams {
            for n in 0..FLOOD {
                self.say(stream, Ask::Interest(n.is_multiple_of(2)));
                self.say(stream, Ask::Chunk(n % self.setup.chunks));
            }
        }
    }
}
