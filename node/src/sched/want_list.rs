//! Which chunks are still wanted, and in which order.

use std::collections::BTreeSet;

use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};

use super::Order;

/// The state of one chunk. Invariant: a chunk is in exactly one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// Verified and kept.
    Have,
    /// Nobody is asked for it.
    Wanted,
    /// At least one peer is asked for it, or its bytes are being checked.
    InFlight,
}

/// Every chunk's state and the order in which wanted ones are taken.
#[derive(Debug)]
pub(super) struct WantList {
    state: Vec<ChunkState>,
    /// All chunk indices, in the order of wanting.
    order: Vec<u32>,
    /// Chunks that were asked for and came back; they go first.
    returned: BTreeSet<u32>,
    wanted: usize,
    missing: usize,
}

impl WantList {
    /// `have[i]` tells which chunks are here; `first` are wanted before all others.
    pub(super) fn new(have: &[bool], order: Order, first: &[u32], seed: u64) -> Self {
        let count = u32::try_from(have.len()).unwrap_or(u32::MAX);
        let mut indices: Vec<u32> = (0..count).collect();
        if order == Order::Random {
            indices.shuffle(&mut SmallRng::seed_from_u64(seed));
            let first: BTreeSet<u32> = first.iter().copied().collect();
            indices.sort_by_key(|i| !first.contains(i)); // stable: the rest stays shuffled
        }
        let state: Vec<ChunkState> = have
            .iter()
            .map(|h| {
                if *h {
                    ChunkState::Have
                } else {
                    ChunkState::Wanted
                }
            })
            .collect();
        let missing = have.iter().filter(|h| !**h).count();
        Self {
            state,
            order: indices,
            returned: BTreeSet::new(),
            wanted: missing,
            missing,
        }
    }

    /// Chunks in all.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.state.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn state(&self, index: u32) -> Option<ChunkState> {
        self.state.get(index as usize).copied()
    }

    /// Chunks that nobody is asked for.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Chunks that are not here.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// The next wanted chunk that `has` accepts. `cursor` is the caller's place in the order; it only moves
    /// forward, over chunks that this caller will not get to again unless they come back.
    pub(super) fn next(&self, cursor: &mut usize, has: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some(index) = self.returned.iter().copied().find(|i| has(*i)) {
            return Some(index);
        }
        while let Some(&index) = self.order.get(*cursor) {
            if self.state(index) == Some(ChunkState::Wanted) && has(index) {
                return Some(index);
            }
            *cursor += 1;
        }
        None
    }

    /// Wanted → in flight.
    pub(super) fn take(&mut self, index: u32) {
        if self.set(index, ChunkState::Wanted, ChunkState::InFlight) {
            self.wanted -= 1;
            self.returned.remove(&index);
        }
    }

    /// In flight → wanted.
    pub(super) fn give_back(&mut self, index: u32) {
        if self.set(index, ChunkState::InFlight, ChunkState::Wanted) {
            self.wanted += 1;
            self.returned.insert(index);
        }
    }

    /// In flight or wanted → have. True when it was missing.
    pub(super) fn complete(&mut self, index: u32) -> bool {
        if self.set(index, ChunkState::Wanted, ChunkState::Have) {
            self.wanted -= 1;
            self.returned.remove(&index);
        } else if !self.set(index, ChunkState::InFlight, ChunkState::Have) {
            return false;
        }
        self.missing -= 1;
        true
    }

    /// Have → wanted: what was here is not usable.
    pub(super) fn lose(&mut self, index: u32) {
        if self.set(index, ChunkState::Have, ChunkState::Wanted) {
            self.missing += 1;
            self.wanted += 1;
            self.returned.insert(index);
        }
    }

    fn set(&mut self, index: u32, from: ChunkState, to: ChunkState) -> bool {
        match self.state.get_mut(index as usize) {
            Some(state) if *state == from => {
                *state = to;
                true
            }
            _ => false,
        }
    }
}
