//! The state machine itself: events in, actions out.

use std::{collections::VecDeque, ops::Range};

use casnode_cas::HaveBitmap;

use super::{
    Action, DropReason, Event, Fault, Mono, Order, PeerSlot, SchedulerConfig,
    availability::Availability,
    in_flight::InFlight,
    peer::Peer,
    peers::Peers,
    want_list::{ChunkState, WantList},
};

/// The scheduler of one download under one manifest.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) cfg: SchedulerConfig,
    pub(super) order: Order,
    pub(super) wants: WantList,
    pub(super) availability: Availability,
    pub(super) in_flight: InFlight,
    pub(super) peers: Peers,
    /// Present peers that had everything when they joined.
    pub(super) whole_peers: u32,
    /// The chunks of one group, asked for alone until some group is proven: a forged manifest costs no more than that.
    pub(super) gate: Vec<u32>,
    /// Since when a chunk of that group can be had of no peer that does not choke this node.
    pub(super) gate_blocked_since: Option<Mono>,
    /// Length of a typical chunk, for predictions.
    pub(super) chunk_bytes: u32,
    /// So many chunks are asked of one peer one after the other where it makes no difference which; see
    /// [`SchedulerConfig::stretch_bytes`].
    pub(super) stretch: u32,
    /// The chunk that the reader of a stream needs next, and the first that it does without, once that was told.
    pub(super) reader: Option<(u32, u32)>,
    /// The chunks that readers of ranges need soon, each from where it is on.
    pub(super) ranges: Vec<Range<u32>>,
    /// When to look again for chunks that had better come of another peer.
    pub(super) relief_due: Mono,
    /// Chunks that were asked of two peers, and that came although they had been taken over.
    pub(super) duplicates: u32,
    pub(super) actions: VecDeque<Action>,
}

impl Scheduler {
    /// A scheduler of as many chunks as `have` speaks of, each of about `chunk_bytes`. `first` are the chunks of the
    /// group that is to be proven before the rest is asked for.
    #[must_use]
    pub fn new(
        cfg: SchedulerConfig,
        have: &HaveBitmap,
        chunk_bytes: u32,
        order: Order,
        first: &[u32],
        seed: u64,
    ) -> Self {
        let wants = WantList::new(have);
        let mut availability = Availability::new(wants.count(), seed);
        wants.wanted().iter().for_each(|i| availability.want(i));
        Self {
            order,
            wants,
            availability,
            gate: first.to_vec(),
            gate_blocked_since: None,
            in_flight: InFlight::default(),
            peers: Peers::default(),
            whole_peers: 0,
            chunk_bytes,
            stretch: cfg.stretch(chunk_bytes, have.len()),
            cfg,
            reader: None,
            ranges: Vec::new(),
            relief_due: Mono::default(),
            duplicates: 0,
            actions: VecDeque::new(),
        }
    }

    /// True when no chunk is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing() == 0
    }

    /// Chunks that are not here.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.wants.missing().count()
    }

    /// Chunks that are here.
    pub(super) fn here(&self) -> u32 {
        self.wants.count() - self.missing()
    }

    /// True when chunks are wanted and no present peer has any of them, choked or not.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        match self.order {
            Order::RarestFirst => {
                let is_useless = |p| self.wanted_of(p) == 0;
                self.wants.wanted().count() > 0 && self.peers.iter().all(is_useless)
            }
            Order::Sequential | Order::OnDemand => {
                let mut wanted = self.wanted_now().peekable();
                wanted.peek().is_some() && !wanted.any(|i| self.is_held(i))
            }
        }
    }

    /// Up to `at_most` wanted chunks that no present peer has, from index `start` on, around the end. Looks at every
    /// wanted chunk.
    #[must_use]
    pub fn orphans(&self, start: u32, at_most: usize) -> Vec<u32> {
        let orphans = || self.wanted_now().filter(|i| !self.is_held(*i));
        let after = orphans().filter(|i| *i >= start);
        let before = orphans().filter(|i| *i < start);
        after.chain(before).take(at_most).collect()
    }

    /// True when the peer owes this node chunks that it was asked for and does not send: it is late, or sent nothing
    /// for `snub_after`.
    #[must_use]
    pub fn snubbed(&self, peer: PeerSlot, now: Mono) -> bool {
        let peer = self.peers.get(peer);
        peer.is_some_and(|p| p.snubs(&self.cfg, now))
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Mono) {
        match event {
            Event::PeerJoined { peer, have } => self.join(peer, &have, now),
            Event::PeerGot { peer, indices } => self.got(peer, &indices),
            Event::PeerHasChunk { peer, index } => self.got(peer, &[index]),
            Event::Choked { peer } => self.choked(peer),
            Event::Unchoked { peer } => self.unchoked(peer, now),
            Event::Proven => self.gate.clear(),
            Event::Here { index } => self.complete(None, index),
            Event::Arrived { peer, index } => self.arrived(peer, index, now),
            Event::Position { index, end } => self.reader = self.reader.max(Some((index, end))),
            Event::Ranges { ranges, first } => {
                if self.gate.is_empty() {
                    self.gate = first;
                }
                self.look(ranges);
            }
            Event::OwnStall => self.peers.iter_mut().for_each(|p| p.excuse(now)),
            Event::HeldUp { peer } => {
                let held_up = self.peers.get_mut(peer);
                held_up.into_iter().for_each(|p| p.excuse(now));
            }
            Event::Receiving { peer } => {
                let slow = self.peers.get_mut(peer);
                slow.into_iter().for_each(|p| p.receiving(now));
            }
            Event::Verified { peer, index } => self.complete(Some(peer), index),
            Event::Failed { peer, index, fault } => self.failed(peer, index, fault, now),
            Event::Lost { index } => self.lose(index),
            Event::PeerLeft { peer } => self.forget(peer),
        }
    }

    fn unchoked(&mut self, slot: PeerSlot, now: Mono) {
        if let Some(p) = self.peers.get_mut(slot)
            && std::mem::replace(&mut p.is_choked, false)
        {
            p.excuse(now); // the time in which it said that it sends nothing is no stall
        }
    }

    /// Whatever was asked of the peer goes back. What came and is being checked stays.
    fn choked(&mut self, slot: PeerSlot) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        peer.is_choked = true;
        let asked = std::mem::take(&mut peer.asked);
        // What was still to be said about them is not said.
        self.actions
            .retain(|a| a.peer() != slot || matches!(a, Action::Interest { .. }));
        for asked in asked {
            self.give_up(asked.index, slot);
        }
    }

    fn arrived(&mut self, slot: PeerSlot, index: u32, now: Mono) {
        let Some(p) = self.peers.get_mut(slot) else {
            return;
        };
        let asked = p.unask(index);
        if asked.is_some() {
            p.checking.push(index);
        } else if self.in_flight.was_taken_over(index) {
            self.duplicates += 1;
        }
        p.arrived(&self.cfg, asked, now);
    }

    /// The chunk is kept; `from` sent it. Whoever else is asked for it need not send it any more.
    fn complete(&mut self, from: Option<PeerSlot>, index: u32) {
        for other in self.in_flight.finish(index) {
            let Some(p) = self.peers.get_mut(other) else {
                continue;
            };
            p.checking.retain(|i| *i != index);
            if p.unask(index).is_some() && Some(other) != from {
                self.actions
                    .push_back(Action::Cancel { peer: other, index });
            }
        }
        self.keep(index);
    }

    fn failed(&mut self, slot: PeerSlot, index: u32, fault: Fault, now: Mono) {
        self.release(slot, index);
        let Some(p) = self.peers.get_mut(slot) else {
            return;
        };
        match fault {
            Fault::NotFound => self.has_not(slot, index),
            Fault::Busy => p.paused_until = now.plus(self.cfg.busy_pause),
            // Word of the choke is on its way; until then it is not asked again and again.
            Fault::Choked if !p.is_choked => p.paused_until = now.plus(self.cfg.busy_pause),
            Fault::Choked => {}
            Fault::WrongBytes => self.drop_peer(slot, DropReason::WrongBytes),
        }
    }

    /// Takes a chunk back from one peer.
    fn release(&mut self, slot: PeerSlot, index: u32) {
        if let Some(p) = self.peers.get_mut(slot) {
            p.unask(index);
            p.checking.retain(|i| *i != index);
        }
        self.give_up(index, slot);
    }

    /// The chunk does not come of this peer; it is wanted again unless another is asked for it.
    pub(super) fn give_up(&mut self, index: u32, slot: PeerSlot) {
        if self.in_flight.remove(index, slot) {
            self.give_back(index);
        }
    }

    fn drop_peer(&mut self, peer: PeerSlot, reason: DropReason) {
        self.forget(peer);
        self.actions.push_back(Action::Drop { peer, reason });
    }

    /// The next thing to do; call until `None`.
    pub fn poll(&mut self, now: Mono) -> Option<Action> {
        if self.actions.is_empty() {
            self.judge_late(now);
        }
        if self.actions.is_empty() {
            let _ = self.relieve_head(now) || self.ask(now) || self.relieve(now);
        }
        self.debug_check();
        self.actions.pop_front()
    }

    /// When to poll again although nothing happened.
    #[must_use]
    pub fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let late = self.peers.iter().filter_map(|p| p.late_at(&self.cfg));
        let paused = self.peers.iter().map(|p| p.paused_until);
        let gate = self.gate_blocked_since.filter(|_| !self.gate.is_empty());
        let later = paused
            .chain(gate.map(|t| t.plus(self.cfg.gate_patience)))
            .chain(self.next_relief(now))
            .filter(|t| *t > now);
        late.chain(later).min()
    }

    fn first_late(&self, now: Mono) -> Option<PeerSlot> {
        let is_late = |p: &&Peer| p.late_at(&self.cfg).is_some_and(|t| t <= now);
        self.peers.iter().find(is_late).map(|p| p.slot)
    }

    /// Takes requests away from peers that are late, and drops those that stay so.
    fn judge_late(&mut self, now: Mono) {
        while let Some(slot) = self.first_late(now) {
            let Some(p) = self.peers.get_mut(slot) else {
                return;
            };
            if p.stalled_for(now) >= self.cfg.drop_after {
                self.drop_peer(slot, DropReason::Stalled);
                continue;
            }
            for asked in p.put_on_trial(now) {
                let index = asked.index;
                // Whoever only claims to have the first group would hold up all the rest.
                if self.gate.contains(&index) {
                    self.gate.clear();
                }
                self.give_up(index, slot);
                self.actions.push_back(Action::Cancel { peer: slot, index });
            }
        }
    }

    /// Gives one request to the peer with the fewest outstanding, so that a new peer gets its share at once. Whether
    /// any was given.
    fn ask(&mut self, now: Mono) -> bool {
        let mut tried = None;
        loop {
            let next = self
                .peers
                .iter()
                .filter(|p| self.wanted_of(p) > 0 && p.has_room(now))
                .map(|p| (p.asked.len(), p.slot))
                .filter(|turn| tried < Some(*turn))
                .min();
            let Some((_, slot)) = next else {
                return false;
            };
            if let Some(index) = self.pick(slot, now) {
                self.request(slot, index, now);
                return true;
            }
            tried = next;
        }
    }

    fn request(&mut self, slot: PeerSlot, index: u32, now: Mono) {
        self.take(index);
        self.in_flight.add(index, slot);
        if let Some(p) = self.peers.get_mut(slot) {
            p.ask(index, now);
        }
        self.actions
            .push_back(Action::Request { peer: slot, index });
    }

    /// What `docs/SCHEDULING.md` promises, looked at after each step of a debug build.
    fn debug_check(&self) {
        if cfg!(debug_assertions) {
            for p in self.peers.iter() {
                for index in p.asked.iter().map(|a| &a.index).chain(&p.checking) {
                    debug_assert_eq!(self.wants.state(*index), ChunkState::InFlight);
                }
                debug_assert!(p.asked.len() <= self.cfg.max_depth as usize);
                debug_assert!(!p.is_choked || p.asked.is_empty());
            }
        }
    }
}
