//! Which wanted chunk a peer is asked for.

use super::{Mono, Order, PeerSlot, Scheduler, peer::Peer};

/// What the first group allows a peer to be asked for.
enum Gate {
    Open,
    /// Nothing but this, or nothing at all.
    Only(Option<u32>),
}

impl Scheduler {
    /// What the peer is to be asked for next.
    pub(super) fn pick(&mut self, slot: PeerSlot, now: Mono) -> Option<u32> {
        match self.gate(slot, now) {
            Gate::Only(index) => index,
            Gate::Open => self.pick_any(slot, now),
        }
    }

    /// While the first group is not proven, only its chunks. The gate opens by itself when one of them can be had of
    /// nobody, or for some time only of peers that choke this node.
    fn gate(&mut self, slot: PeerSlot, now: Mono) -> Gate {
        if self.gate.is_empty() {
            return Gate::Open;
        }
        let Some(peer) = self.peers.get(slot) else {
            return Gate::Only(None);
        };
        let wanted = || self.gate.iter().filter(|i| self.wants.is_wanted(**i));
        if let Some(index) = wanted().find(|i| peer.have.get(**i)) {
            return Gate::Only(Some(*index));
        }
        let can_be_asked = |i: &u32| self.peers.iter().any(|p| !p.is_choked && p.have.get(*i));
        let is_lost = wanted().any(|i| !self.is_held(*i));
        let is_blocked = wanted().any(|i| !can_be_asked(i));
        let since = is_blocked.then(|| self.gate_blocked_since.unwrap_or(now));
        self.gate_blocked_since = since;
        if is_lost || since.is_some_and(|t| now.since(t) >= self.cfg.gate_patience) {
            self.gate.clear();
            return Gate::Open;
        }
        Gate::Only(None)
    }

    fn pick_any(&mut self, slot: PeerSlot, now: Mono) -> Option<u32> {
        let peer = self.peers.get(slot)?;
        let wanted = self.wants.wanted();
        if self.is_for_readers()
            && let Some(index) = self.pick_in_windows(peer, now)
        {
            return Some(index);
        }
        match self.order {
            Order::Sequential | Order::OnDemand => None,
            Order::RarestFirst if self.here() < self.cfg.random_first => {
                let nth = self.availability.draw(self.wanted_of(peer));
                wanted.nth_of_both(&peer.have, nth)
            }
            Order::RarestFirst => {
                let in_both = self.wanted_of(peer);
                let rarest = self.availability.rarest(&peer.have, wanted, in_both)?;
                Some(self.of_a_stretch(peer, rarest))
            }
        }
    }

    /// A chunk as rare as `rarest`, if there is one in the stretch that the peer was asked for last: the next one there,
    /// around its end. Neighbours are read, proven and written together.
    fn of_a_stretch(&self, peer: &Peer, rarest: u32) -> u32 {
        let holders = self.availability.holders(rarest);
        let is_as_rare = |i: &u32| {
            self.wants.is_wanted(*i)
                && peer.have.get(*i)
                && self.availability.holders(*i) == holders
        };
        let Some(last) = peer.last_asked else {
            return rarest;
        };
        let begins = last / self.stretch * self.stretch;
        (last + 1..begins + self.stretch)
            .chain(begins..last)
            .find(is_as_rare)
            .unwrap_or(rarest)
    }
}
