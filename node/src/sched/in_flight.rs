//! Who is asked for which chunk.

use std::collections::BTreeMap;

use super::{Mono, PeerSlot};

/// Most peers asked for one chunk at a time: a second one only in the endgame.
pub(super) const MAX_HOLDERS: usize = 2;

#[derive(Debug, Clone, Copy)]
struct Holder {
    peer: PeerSlot,
    asked: Mono,
}

/// Who is asked for which chunk; at most [`MAX_HOLDERS`] each.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    chunks: BTreeMap<u32, Vec<Holder>>,
}

impl InFlight {
    pub(super) fn add(&mut self, index: u32, peer: PeerSlot, asked: Mono) {
        let holders = self.chunks.entry(index).or_default();
        debug_assert!(holders.len() < MAX_HOLDERS && holders.iter().all(|h| h.peer != peer));
        holders.push(Holder { peer, asked });
    }

    /// Takes one holder away; true when nobody is left.
    pub(super) fn remove(&mut self, index: u32, peer: PeerSlot) -> bool {
        let Some(holders) = self.chunks.get_mut(&index) else {
            return true;
        };
        holders.retain(|h| h.peer != peer);
        let empty = holders.is_empty();
        if empty {
            self.chunks.remove(&index);
        }
        empty
    }

    /// Takes the chunk away and returns who was asked.
    pub(super) fn finish(&mut self, index: u32) -> impl Iterator<Item = PeerSlot> + use<> {
        let holders = self.chunks.remove(&index).unwrap_or_default();
        holders.into_iter().map(|h| h.peer)
    }

    /// The chunk longest under way that one peer only is asked for, accepted by `fits(index, holder)`, asked
    /// before `before`.
    pub(super) fn oldest(&self, before: Mono, fits: impl Fn(u32, PeerSlot) -> bool) -> Option<u32> {
        self.single()
            .filter(|(i, h)| h.asked <= before && fits(*i, h.peer))
            .min_by_key(|(_, h)| h.asked)
            .map(|(i, _)| i)
    }

    /// When the oldest chunk with one holder was asked for.
    pub(super) fn oldest_asked(&self) -> Option<Mono> {
        self.single().map(|(_, h)| h.asked).min()
    }

    fn single(&self) -> impl Iterator<Item = (u32, Holder)> + '_ {
        self.chunks
            .iter()
            .filter(|(_, h)| h.len() == 1)
            .map(|(i, h)| (*i, h[0]))
    }
}
