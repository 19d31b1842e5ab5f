//! Who is here and what they have: the counts that make asking cheap, and what peers are told of this node's interest.

use casnode_cas::HaveBitmap;

use super::{
    Mono, PeerSlot, Scheduler,
    availability::Availability,
    bits::Bits,
    peer::Peer,
    pipeline::Pipeline,
    want_list::{ChunkState, WantList},
};

impl Scheduler {
    pub(super) fn join(&mut self, slot: PeerSlot, have: &HaveBitmap, now: Mono) {
        self.forget(slot);
        let have = Bits::of(have, self.wants.count());
        let pipeline = Pipeline::new(&self.cfg, self.chunk_bytes, now);
        let mut peer = Peer::new(slot, have, pipeline, now);
        if peer.is_whole {
            self.whole_peers += 1;
        } else {
            count_in(&mut peer, &mut self.availability, &self.wants);
        }
        self.peers.insert(peer);
        self.tell_interest(slot);
    }

    /// A peer is gone. What was asked of it goes back; what was still to be done about it is not.
    pub(super) fn forget(&mut self, slot: PeerSlot) {
        let Some(peer) = self.peers.remove(slot) else {
            return;
        };
        if peer.is_whole {
            self.whole_peers -= 1;
        } else {
            peer.have.iter().for_each(|i| self.availability.less(i));
        }
        self.actions.retain(|action| action.peer() != slot);
        let asked = peer.asked.into_iter().map(|a| a.index);
        for index in asked.chain(peer.checking) {
            self.give_up(index, slot);
        }
    }

    pub(super) fn got(&mut self, slot: PeerSlot, indices: &[u32]) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        for index in indices {
            if peer.have.set(*index) {
                self.availability.more(*index);
                peer.missing += u32::from(self.wants.missing().get(*index));
                peer.wanted += u32::from(self.wants.is_wanted(*index));
            }
        }
        self.tell_interest(slot);
    }

    /// The peer does not have the chunk after all.
    pub(super) fn has_not(&mut self, slot: PeerSlot, index: u32) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        if !peer.have.get(index) {
            return;
        }
        if std::mem::replace(&mut peer.is_whole, false) {
            self.whole_peers -= 1;
            count_in(peer, &mut self.availability, &self.wants);
        }
        peer.have.unset(index);
        self.availability.less(index);
        peer.missing -= u32::from(self.wants.missing().get(index));
        peer.wanted -= u32::from(self.wants.is_wanted(index));
        self.tell_interest(slot);
    }

    /// How many wanted chunks the peer has.
    pub(super) fn wanted_of(&self, peer: &Peer) -> u32 {
        if peer.is_whole {
            self.wants.wanted().count()
        } else {
            peer.wanted
        }
    }

    /// How many chunks that are not here the peer has.
    pub(super) fn missing_of(&self, peer: &Peer) -> u32 {
        if peer.is_whole {
            self.wants.missing().count()
        } else {
            peer.missing
        }
    }

    /// Whether any present peer has the chunk, choked or not.
    pub(super) fn is_held(&self, index: u32) -> bool {
        self.whole_peers > 0 || self.availability.holders(index) > 0
    }

    /// Wanted → in flight.
    pub(super) fn take(&mut self, index: u32) {
        if self.wants.take(index) {
            self.availability.unwant(index);
            self.for_holders(index, |p| p.wanted -= 1);
        }
    }

    /// In flight → wanted.
    pub(super) fn give_back(&mut self, index: u32) {
        if self.wants.give_back(index) {
            self.availability.want(index);
            self.for_holders(index, |p| p.wanted += 1);
        }
    }

    /// In flight or wanted → have.
    pub(super) fn keep(&mut self, index: u32) {
        let was = self.wants.complete(index);
        if was == ChunkState::Have {
            return;
        }
        self.availability.unwant(index);
        let was_wanted = u32::from(was == ChunkState::Wanted);
        self.for_holders(index, |p| {
            p.missing -= 1;
            p.wanted -= was_wanted;
        });
        self.tell_all_interest();
    }

    /// Have → wanted.
    pub(super) fn lose(&mut self, index: u32) {
        if self.wants.lose(index) {
            self.availability.want(index);
            self.for_holders(index, |p| {
                p.missing += 1;
                p.wanted += 1;
            });
            self.tell_all_interest();
        }
    }

    fn for_holders(&mut self, index: u32, change: impl Fn(&mut Peer)) {
        let holders = self.peers.iter_mut();
        holders
            .filter(|p| !p.is_whole && p.have.get(index))
            .for_each(change);
    }

    fn tell_interest(&mut self, slot: PeerSlot) {
        let missing = self.wants.missing().count();
        let news = self.peers.get_mut(slot).and_then(|p| p.interest(missing));
        self.actions.extend(news);
    }

    fn tell_all_interest(&mut self) {
        let missing = self.wants.missing().count();
        let news = self.peers.iter_mut().filter_map(|p| p.interest(missing));
        self.actions.extend(news);
    }
}

/// Counts what the peer has.
fn count_in(peer: &mut Peer, availability: &mut Availability, wants: &WantList) {
    peer.have.iter().for_each(|i| availability.more(i));
    let of = |set: &Bits| u32::try_from(peer.have.both(set, 0).count()).unwrap_or(u32::MAX);
    (peer.missing, peer.wanted) = (of(wants.missing()), of(wants.wanted()));
}
