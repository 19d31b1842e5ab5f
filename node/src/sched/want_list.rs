//! Which chunks are still wanted.

use casnode_cas::HaveBitmap;

use super::bits::Bits;

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

/// Every chunk's state.
#[derive(Debug)]
pub(super) struct WantList {
    wanted: Bits,
    missing: Bits,
    first_missing: u32,
}

impl WantList {
    /// `have` tells which chunks are here; all others are wanted.
    pub(super) fn new(have: &HaveBitmap) -> Self {
        let len = u32::try_from(have.len()).unwrap_or(u32::MAX);
        let mut missing = Bits::new(len);
        have.iter_zeros()
            .filter_map(|i| u32::try_from(i).ok())
            .for_each(|i| {
                missing.set(i);
            });
        let first_missing = missing.iter().next().unwrap_or(len);
        Self {
            wanted: missing.clone(),
            missing,
            first_missing,
        }
    }

    /// Chunks in all.
    pub(super) fn count(&self) -> u32 {
        self.missing.len()
    }

    /// Of a chunk beyond the last one it says that it is here.
    pub(super) fn state(&self, index: u32) -> ChunkState {
        match (self.missing.get(index), self.wanted.get(index)) {
            (false, _) => ChunkState::Have,
            (true, true) => ChunkState::Wanted,
            (true, false) => ChunkState::InFlight,
        }
    }

    pub(super) fn is_wanted(&self, index: u32) -> bool {
        self.wanted.get(index)
    }

    /// Chunks that nobody is asked for.
    pub(super) fn wanted(&self) -> &Bits {
        &self.wanted
    }

    /// Chunks that are not here.
    pub(super) fn missing(&self) -> &Bits {
        &self.missing
    }

    /// The first chunk that is not here; behind the last one when all are.
    pub(super) fn first_missing(&self) -> u32 {
        self.first_missing
    }

    /// Wanted → in flight; whether it was so.
    pub(super) fn take(&mut self, index: u32) -> bool {
        self.wanted.unset(index)
    }

    /// In flight → wanted; whether it was so.
    pub(super) fn give_back(&mut self, index: u32) -> bool {
        self.missing.get(index) && self.wanted.set(index)
    }

    /// In flight or wanted → have. Returns the state it was in.
    pub(super) fn complete(&mut self, index: u32) -> ChunkState {
        let was = self.state(index);
        self.wanted.unset(index);
        self.missing.unset(index);
        if index == self.first_missing {
            let next = self.missing.both(&self.missing, index).next();
            self.first_missing = next.unwrap_or(self.count());
        }
        was
    }

    /// Have → wanted: what was here is not usable. Whether it was here.
    pub(super) fn lose(&mut self, index: u32) -> bool {
        let is_lost = self.missing.set(index);
        if is_lost {
            self.first_missing = self.first_missing.min(index);
            self.wanted.set(index);
        }
        is_lost
    }
}
