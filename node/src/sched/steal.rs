//! The end of a download, and every other moment at which a peer has nothing left to be asked for: it relieves others.

use std::{cmp::Ordering, time::Duration};

use super::{Action, Mono, Order, PeerSlot, Scheduler, peer::Peer};

/// The first ones of a queue count as begun: the peer reads ahead of what it sends.
const BEGUN: usize = 2;

/// A chunk is moved when it would come so much sooner of the other peer.
const GAIN: f64 = 2.0;

/// Between two looks for chunks to be moved while there are others to be asked for.
const PAUSE: Duration = Duration::from_millis(100);

/// Chunks next in a stream that are checked for being late.
const HEAD: usize = 16;

/// So many duplicates are always allowed, for small files.
const MIN_DUPLICATES: u32 = 4;

/// And of a large file one chunk in so many.
const DUPLICATES_ONE_IN: u32 = 100;

/// A peer that could be asked for more, and when a chunk asked of it now would be here.
struct Helper<'a> {
    peer: &'a Peer,
    /// What takes longer elsewhere is worth moving.
    limit_s: f64,
}

/// A chunk of one peer's queue that another is to be asked for.
pub(super) struct Relief {
    from: PeerSlot,
    to: PeerSlot,
    index: u32,
    /// Both are asked: the first one has begun to send it.
    is_duplicate: bool,
    /// When it would come of the first one.
    arrival_s: f64,
}

impl Relief {
    /// What costs nothing goes before a duplicate, and what would come last before the rest.
    fn order(&self, other: &Self) -> Ordering {
        let by_cost = other.is_duplicate.cmp(&self.is_duplicate);
        by_cost.then(self.arrival_s.total_cmp(&other.arrival_s))
    }
}

impl Scheduler {
    /// Moves a chunk from a long queue to a peer with nothing to do, or duplicates one when nothing else is left.
    /// Whether it did.
    pub(super) fn relieve(&mut self, now: Mono) -> bool {
        if now < self.relief_due && !self.is_endgame() {
            return false;
        }
        self.relief_due = now.plus(PAUSE);
        let helpers = self.peers.iter().filter_map(|p| self.helper(p, now));
        let found = helpers
            .filter_map(|helper| {
                let queues = self.peers.iter();
                let of_each = queues.filter_map(|from| self.of(&helper, from, now));
                of_each.max_by(Relief::order)
            })
            .max_by(Relief::order);
        found.is_some_and(|relief| self.carry_out(&relief, now))
    }

    /// When to look again, if anybody has nothing to do while others have.
    pub(super) fn next_relief(&self, now: Mono) -> Option<Mono> {
        let is_possible = self.peers.len() > 1 && !self.in_flight.is_empty();
        (is_possible && self.peers.iter().any(|p| p.has_room(now))).then_some(self.relief_due)
    }

    /// Nothing is left to be asked for, or nothing but the first group may be.
    pub(super) fn is_endgame(&self) -> bool {
        let is_all_asked = match self.order {
            Order::OnDemand => self.wanted_now().next().is_none(),
            Order::Sequential | Order::RarestFirst => self.wants.wanted().count() == 0,
        };
        is_all_asked || !self.gate.is_empty()
    }

    /// The most chunks that may be asked of two peers, and come twice.
    pub(super) fn max_duplicates(&self) -> u32 {
        MIN_DUPLICATES.max(self.wants.count() / DUPLICATES_ONE_IN)
    }

    fn helper<'a>(&self, peer: &'a Peer, now: Mono) -> Option<Helper<'a>> {
        let can_help = peer.has_room(now) && !peer.is_on_trial && self.missing_of(peer) > 0;
        can_help.then(|| {
            let here_s = peer.arrival_s(peer.asked.len(), &self.cfg, now);
            let limit_s = GAIN * here_s + peer.round_trip_s();
            Helper { peer, limit_s }
        })
    }

    /// The last chunk in the queue of `from` that is worth moving.
    fn of(&self, helper: &Helper<'_>, from: &Peer, now: Mono) -> Option<Relief> {
        let places = (0..from.asked.len()).rev();
        places
            .map(|place| (place, from.arrival_s(place, &self.cfg, now)))
            .take_while(|(_, arrival_s)| *arrival_s > helper.limit_s)
            .find_map(|(place, arrival_s)| self.at(helper, from, place, arrival_s))
    }

    fn at(&self, helper: &Helper<'_>, from: &Peer, place: usize, arrival_s: f64) -> Option<Relief> {
        let (to, index) = (helper.peer, from.asked.get(place)?.index);
        if to.slot == from.slot
            || !to.have.get(index)
            || !self.in_flight.is_single(index)
            || self.duplicates >= self.max_duplicates()
        {
            return None;
        }
        let has_begun = place < BEGUN || arrival_s <= from.answer_s();
        let is_duplicate = has_begun || !self.in_flight.can_be_taken_over(index);
        let may_duplicate = self.is_endgame() || self.is_head(index);
        (!is_duplicate || may_duplicate).then_some(Relief {
            from: from.slot,
            to: to.slot,
            index,
            is_duplicate,
            arrival_s,
        })
    }

    /// What a stream needs next and would wait for is moved, whatever else is wanted; the very first chunk is
    /// duplicated if need be. Whether anything was.
    pub(super) fn relieve_head(&mut self, now: Mono) -> bool {
        if !self.is_for_readers() || !self.gate.is_empty() {
            return false;
        }
        let next = self
            .windows()
            .flat_map(|w| self.in_flight.within(w).take(HEAD));
        let found = { next }.find_map(|(index, holder)| self.for_chunk(index, holder, now));
        found.is_some_and(|relief| self.carry_out(&relief, now))
    }

    /// The peer that would deliver this chunk sooner.
    fn for_chunk(&self, index: u32, holder: PeerSlot, now: Mono) -> Option<Relief> {
        let from = self.peers.get(holder)?;
        let place = from.place_of(index)?;
        let arrival_s = from.arrival_s(place, &self.cfg, now);
        let helpers = self.peers.iter().filter_map(|p| self.helper(p, now));
        helpers
            .filter(|helper| arrival_s > helper.limit_s)
            .filter_map(|helper| Some((helper.limit_s, self.at(&helper, from, place, arrival_s)?)))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, relief)| relief)
    }

    fn carry_out(&mut self, relief: &Relief, now: Mono) -> bool {
        let (from, to, index) = (relief.from, relief.to, relief.index);
        if relief.is_duplicate {
            self.duplicates += 1;
            self.in_flight.add(index, to);
        } else {
            self.in_flight.take_over(index, to);
            if let Some(p) = self.peers.get_mut(from) {
                p.unask(index);
            }
            self.actions.push_back(Action::Cancel { peer: from, index });
        }
        if let Some(p) = self.peers.get_mut(to) {
            p.ask(index, now);
        }
        self.actions.push_back(Action::Request { peer: to, index });
        true
    }
}
