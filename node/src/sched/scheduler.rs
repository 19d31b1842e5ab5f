//! The state machine itself: events in, actions out.

use std::collections::{BTreeMap, VecDeque};

use casnode_cas::HaveBitmap;

use super::{
    Action, DropReason, Event, Fault, Mono, Order, PeerSlot, SchedulerConfig,
    in_flight::InFlight,
    peer::Peer,
    want_list::{ChunkState, WantList},
};

/// The scheduler of one download under one manifest.
#[derive(Debug)]
pub(crate) struct Scheduler {
    cfg: SchedulerConfig,
    wants: WantList,
    in_flight: InFlight,
    peers: BTreeMap<PeerSlot, Peer>,
    /// The chunks of one group, asked for alone until some group is proven: a forged manifest costs no more than that.
    gate: Vec<u32>,
    /// Length of a typical chunk, for predictions.
    chunk_bytes: u32,
    actions: VecDeque<Action>,
}

impl Scheduler {
    /// `first` are the chunks of the group that is to be proven before the rest is asked for.
    pub(crate) fn new(
        cfg: SchedulerConfig,
        have: &HaveBitmap,
        chunk_bytes: u32,
        order: Order,
        first: &[u32],
        seed: u64,
    ) -> Self {
        let have: Vec<bool> = (0..have.len()).map(|i| have.get(i)).collect();
        Self {
            cfg,
            wants: WantList::new(&have, order, first, seed),
            gate: first.to_vec(),
            in_flight: InFlight::default(),
            peers: BTreeMap::new(),
            chunk_bytes,
            actions: VecDeque::new(),
        }
    }

    /// True when no chunk is missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.wants.missing() == 0
    }

    /// Chunks that are not here.
    #[cfg(test)]
    pub(crate) fn missing(&self) -> usize {
        self.wants.missing()
    }

    /// True when chunks are wanted and no present peer has any of them. Looks at every chunk.
    pub(crate) fn is_starved(&self) -> bool {
        self.wants.wanted() > 0 && self.wants.next(&mut 0, |i| self.is_held(i)).is_none()
    }

    /// Up to `at_most` wanted chunks that no present peer has, from index `start` on, around the end. Looks at every
    /// chunk.
    pub(crate) fn orphans(&self, start: u32, at_most: usize) -> Vec<u32> {
        let count = self.wants.count();
        let start = if start < count { start } else { 0 };
        (start..count)
            .chain(0..start)
            .filter(|i| self.wants.state(*i) == Some(ChunkState::Wanted) && !self.is_held(*i))
            .take(at_most)
            .collect()
    }

    fn is_held(&self, index: u32) -> bool {
        self.peers.values().any(|p| p.have.get(index as usize))
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, event: Event, now: Mono) {
        match event {
            Event::PeerJoined { peer, have } => {
                self.forget(peer);
                self.peers.insert(peer, Peer::new(have, now));
            }
            Event::PeerGot { peer, indices } => {
                if let Some(p) = self.peers.get_mut(&peer) {
                    for index in indices {
                        p.have.set(index as usize);
                    }
                    p.cursor = 0;
                }
            }
            Event::Choked { .. } | Event::Unchoked { .. } => {}
            Event::PeerHasChunk { peer, index } => {
                if let Some(p) = self.peers.get_mut(&peer)
                    && (index as usize) < p.have.len()
                {
                    p.have.set(index as usize);
                    p.cursor = 0;
                }
            }
            Event::Proven => self.gate.clear(),
            Event::Here { index } => self.complete(None, index),
            Event::Arrived { peer, index } => {
                let bytes = self.chunk_bytes;
                if let Some(p) = self.peers.get_mut(&peer) {
                    if p.asked.remove(&index) {
                        p.checking.insert(index);
                    }
                    p.arrived(bytes, now);
                }
            }
            Event::OwnStall => self.peers.values_mut().for_each(|p| p.excuse(now)),
            Event::Verified { peer, index } => self.complete(Some(peer), index),
            Event::Failed { peer, index, fault } => self.failed(peer, index, fault, now),
            Event::Lost { index } => {
                self.wants.lose(index);
                self.rewind();
            }
            Event::PeerLeft { peer } => self.forget(peer),
        }
    }

    /// The chunk is kept; `from` sent it. Whoever else is asked for it need not send it any more.
    fn complete(&mut self, from: Option<PeerSlot>, index: u32) {
        self.wants.complete(index);
        for other in self.in_flight.finish(index) {
            let Some(p) = self.peers.get_mut(&other) else {
                continue;
            };
            p.checking.remove(&index);
            if p.asked.remove(&index) && Some(other) != from {
                self.actions
                    .push_back(Action::Cancel { peer: other, index });
            }
        }
    }

    fn failed(&mut self, peer: PeerSlot, index: u32, fault: Fault, now: Mono) {
        self.release(peer, index);
        let Some(p) = self.peers.get_mut(&peer) else {
            return;
        };
        match fault {
            Fault::NotFound => {
                p.have.unset(index as usize);
            }
            Fault::Choked => {}
            Fault::Busy => p.paused_until = now.plus(self.cfg.busy_pause),
            Fault::WrongBytes => self.drop_peer(peer, DropReason::WrongBytes),
        }
    }

    /// Takes a chunk back from one peer; wanted again unless another is asked for it.
    fn release(&mut self, peer: PeerSlot, index: u32) {
        if let Some(p) = self.peers.get_mut(&peer) {
            p.asked.remove(&index);
            p.checking.remove(&index);
        }
        if self.in_flight.remove(index, peer) {
            self.wants.give_back(index);
        }
    }

    fn drop_peer(&mut self, peer: PeerSlot, reason: DropReason) {
        self.forget(peer);
        self.actions.push_back(Action::Drop { peer, reason });
    }

    fn forget(&mut self, peer: PeerSlot) {
        let Some(p) = self.peers.remove(&peer) else {
            return;
        };
        for index in p.asked.into_iter().chain(p.checking) {
            if self.in_flight.remove(index, peer) {
                self.wants.give_back(index);
            }
        }
    }

    fn rewind(&mut self) {
        for p in self.peers.values_mut() {
            p.cursor = 0;
        }
    }

    /// The next thing to do; call until `None`.
    pub(crate) fn poll(&mut self, now: Mono) -> Option<Action> {
        if self.actions.is_empty() {
            self.judge_late(now);
        }
        if self.actions.is_empty() {
            self.ask(now);
        }
        self.debug_check();
        self.actions.pop_front()
    }

    /// When to poll again although nothing happened.
    pub(crate) fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let late = self
            .peers
            .values()
            .filter_map(|p| p.late_at(&self.cfg, self.chunk_bytes));
        let paused = self
            .peers
            .values()
            .map(|p| p.paused_until)
            .filter(|t| *t > now);
        let few = self.wants.wanted() == 0 || !self.gate.is_empty();
        let spare = self.peers.len() > 1 && few;
        let endgame = self
            .in_flight
            .oldest_asked()
            .filter(|_| spare)
            .map(|t| t.plus(self.cfg.duplicate_after));
        late.chain(paused).chain(endgame.filter(|t| *t > now)).min()
    }

    /// Takes requests away from peers that are late, and drops those that stay so.
    fn judge_late(&mut self, now: Mono) {
        let late: Vec<PeerSlot> = self
            .peers
            .iter()
            .filter(|(_, p)| {
                p.late_at(&self.cfg, self.chunk_bytes)
                    .is_some_and(|t| t <= now)
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in late {
            let Some(p) = self.peers.get_mut(&slot) else {
                continue;
            };
            if p.stalled_for(now) >= self.cfg.drop_after {
                self.drop_peer(slot, DropReason::Stalled);
                continue;
            }
            p.snub(now);
            let asked: Vec<u32> = p.asked.iter().copied().collect();
            for index in asked {
                self.release(slot, index);
                self.actions.push_back(Action::Cancel { peer: slot, index });
            }
        }
    }

    /// Gives one request to the peer with the most room.
    fn ask(&mut self, now: Mono) {
        let mut slots: Vec<(u32, PeerSlot)> = self
            .peers
            .iter()
            .filter(|(_, p)| p.paused_until <= now)
            .filter_map(|(slot, p)| {
                let used = u32::try_from(p.asked.len()).unwrap_or(u32::MAX);
                let room = p.depth(&self.cfg, self.chunk_bytes).saturating_sub(used);
                (room > 0).then_some((room, *slot))
            })
            .collect();
        // Whoever has nothing to do goes first, so that a new peer gets its share at once.
        slots.sort_by_key(|(_, slot)| self.peers.get(slot).map_or(0, |p| p.asked.len()));
        for (_, slot) in slots {
            if let Some(index) = self.pick(slot, now) {
                self.request(slot, index, now);
                return;
            }
        }
    }

    /// While the gate is closed, only its chunks; it opens by itself when one of them can be had of nobody.
    fn pick_gated(&mut self, slot: PeerSlot) -> Option<u32> {
        let wanted = |i: &&u32| self.wants.state(**i) == Some(ChunkState::Wanted);
        if self.gate.iter().filter(wanted).any(|i| !self.is_held(*i)) {
            self.gate.clear();
            return None;
        }
        let peer = self.peers.get(&slot)?;
        self.gate
            .iter()
            .filter(wanted)
            .copied()
            .find(|i| peer.have.get(*i as usize))
    }

    fn pick(&mut self, slot: PeerSlot, now: Mono) -> Option<u32> {
        if !self.gate.is_empty() {
            let first = self.pick_gated(slot);
            if first.is_some() || !self.gate.is_empty() {
                return first.or_else(|| self.duplicate(slot, now));
            }
        }
        let peer = self.peers.get_mut(&slot)?;
        let Peer { have, cursor, .. } = peer;
        if let Some(index) = self.wants.next(cursor, |i| have.get(i as usize)) {
            return Some(index);
        }
        if self.wants.wanted() > 0 {
            return None;
        }
        self.duplicate(slot, now)
    }

    /// In the endgame, or while the first group is all that is asked for: what has been under way at another peer for
    /// too long.
    fn duplicate(&self, slot: PeerSlot, now: Mono) -> Option<u32> {
        let peer = self.peers.get(&slot)?;
        if peer.snubbed || now.0 < self.cfg.duplicate_after {
            return None;
        }
        // What has come and is being checked is not under way any more.
        let under_way = |i, holder| {
            self.peers
                .get(&holder)
                .is_some_and(|h| h.asked.contains(&i))
        };
        let before = Mono(now.0.saturating_sub(self.cfg.duplicate_after));
        self.in_flight.oldest(before, |i, holder| {
            holder != slot && peer.have.get(i as usize) && under_way(i, holder)
        })
    }

    fn request(&mut self, slot: PeerSlot, index: u32, now: Mono) {
        self.wants.take(index);
        self.in_flight.add(index, slot, now);
        if let Some(p) = self.peers.get_mut(&slot) {
            p.ask(index, now);
        }
        self.actions
            .push_back(Action::Request { peer: slot, index });
    }

    /// What `docs/SCHEDULING.md` promises, looked at after each step of a debug build.
    fn debug_check(&self) {
        if cfg!(debug_assertions) {
            for p in self.peers.values() {
                for index in p.asked.iter().chain(&p.checking) {
                    debug_assert_eq!(self.wants.state(*index), Some(ChunkState::InFlight));
                }
                debug_assert!(p.asked.len() <= self.cfg.max_depth as usize);
            }
        }
    }
}
