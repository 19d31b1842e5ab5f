//! The present peers.

use super::{PeerSlot, peer::Peer};

/// The present peers, by slot. They are few: this is a sorted list.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<Peer>);

impl Peers {
    pub(super) fn insert(&mut self, peer: Peer) {
        let at = self.0.partition_point(|p| p.slot < peer.slot);
        self.0.insert(at, peer);
    }

    pub(super) fn remove(&mut self, slot: PeerSlot) -> Option<Peer> {
        self.place(slot).map(|at| self.0.remove(at))
    }

    pub(super) fn get(&self, slot: PeerSlot) -> Option<&Peer> {
        self.place(slot).map(|at| &self.0[at])
    }

    pub(super) fn get_mut(&mut self, slot: PeerSlot) -> Option<&mut Peer> {
        self.place(slot).map(|at| &mut self.0[at])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.0.iter_mut()
    }

    fn place(&self, slot: PeerSlot) -> Option<usize> {
        self.0.binary_search_by_key(&slot, |p| p.slot).ok()
    }
}
