//! Who is asked for which chunk.

use std::{collections::BTreeMap, ops::Range};

use super::PeerSlot;

/// A chunk is taken over so often at most, until it comes or is given up.
const MAX_TAKEOVERS: u8 = 2;

/// The peers asked for one chunk: one, or two when it is duplicated.
#[derive(Debug, Clone, Copy)]
struct Flight {
    holder: PeerSlot,
    second: Option<PeerSlot>,
    takeovers: u8,
}

/// Who is asked for which chunk, and who sent those that are being checked.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    chunks: BTreeMap<u32, Flight>,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// A peer is asked; when another one is already, it is the second.
    pub(super) fn add(&mut self, index: u32, peer: PeerSlot) {
        let first = Flight {
            holder: peer,
            second: None,
            takeovers: 0,
        };
        let flight = self.chunks.entry(index).or_insert(first);
        if flight.holder != peer {
            debug_assert!(flight.second.is_none(), "{index} is asked of a third peer");
            flight.second = Some(peer);
        }
    }

    /// Takes one peer away; true when nobody is left.
    pub(super) fn remove(&mut self, index: u32, peer: PeerSlot) -> bool {
        let Some(flight) = self.chunks.get_mut(&index) else {
            return true;
        };
        let second = flight.second.take_if(|s| *s == peer);
        if second.is_none() && flight.holder == peer {
            match flight.second.take() {
                Some(other) => flight.holder = other,
                None => {
                    self.chunks.remove(&index);
                    return true;
                }
            }
        }
        false
    }

    /// Another peer is asked instead of the only one.
    pub(super) fn take_over(&mut self, index: u32, by: PeerSlot) {
        if let Some(flight) = self.chunks.get_mut(&index) {
            flight.holder = by;
            flight.takeovers += 1;
        }
    }

    /// Takes the chunk away and returns who was asked.
    pub(super) fn finish(&mut self, index: u32) -> impl Iterator<Item = PeerSlot> + use<> {
        let flight = self.chunks.remove(&index);
        flight
            .into_iter()
            .flat_map(|f| std::iter::once(f.holder).chain(f.second))
    }

    /// Whether one peer alone is asked.
    pub(super) fn is_single(&self, index: u32) -> bool {
        let flight = self.chunks.get(&index);
        flight.is_some_and(|f| f.second.is_none())
    }

    /// The chunks of a range, in order, with the peer that was asked first or took them over.
    pub(super) fn within(&self, range: Range<u32>) -> impl Iterator<Item = (u32, PeerSlot)> + '_ {
        let chunks = (!range.is_empty()).then(|| self.chunks.range(range));
        let chunks = chunks.into_iter().flatten();
        chunks.map(|(index, f)| (*index, f.holder))
    }

    /// Whether the chunk was taken over from a peer that may send it all the same.
    pub(super) fn was_taken_over(&self, index: u32) -> bool {
        let flight = self.chunks.get(&index);
        flight.is_some_and(|f| f.takeovers > 0)
    }

    /// Whether the chunk may still be taken over.
    pub(super) fn can_be_taken_over(&self, index: u32) -> bool {
        let flight = self.chunks.get(&index);
        flight.is_some_and(|f| f.second.is_none() && f.takeovers < MAX_TAKEOVERS)
    }
}
