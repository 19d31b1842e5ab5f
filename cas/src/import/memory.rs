//! How much memory the blocks of running imports take, all together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A block holds this many of the largest chunks, so that few bytes are carried over to the next one…
const BLOCK_CHUNKS: usize = 2;

/// …but is not smaller than this, so that a block is worth handing over…
const MIN_BLOCK_BYTES: usize = 512 * 1024;

/// Blocks without which an import cannot go on: one is read into, what follows its last boundary is
/// carried over from another, a third is on its way through the other threads.
const LEAST_BLOCKS: usize = 3;

/// Blocks with which one import keeps all its threads busy…
const WANTED_BLOCKS: usize = 8;

/// …unless they are more bytes than this.
const WANTED_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of blocks that all running imports together may have beside their least ones.
const SHARED_BYTES: usize = 32 * 1024 * 1024;

static SHARED_FREE_BYTES: AtomicUsize = AtomicUsize::new(SHARED_BYTES);

/// The blocks that one import may allocate. Never waits for other imports: the first ones get more, each
/// one gets enough to go on, so that `n` of them take at most `SHARED_BYTES` and `n` times the least.
pub(super) struct Allowance {
    pub(super) block_bytes: usize,
    pub(super) blocks: usize,
    shared_bytes: usize,
}

impl Allowance {
    /// For chunks of at most `chunk_bytes`.
    pub(super) fn take(chunk_bytes: usize) -> Self {
        let block_bytes = (chunk_bytes * BLOCK_CHUNKS).max(MIN_BLOCK_BYTES);
        let wanted_bytes = WANTED_BYTES.min(WANTED_BLOCKS * block_bytes);
        let wanted_bytes = wanted_bytes.saturating_sub(LEAST_BLOCKS * block_bytes);
        let affordable = |free_bytes: usize| {
            let bytes = wanted_bytes.min(free_bytes);
            bytes - bytes % block_bytes
        };
        let update = |free_bytes| Some(free_bytes - affordable(free_bytes));
        let free_bytes =
            SHARED_FREE_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        let shared_bytes = affordable(free_bytes.unwrap_or(0));
        Self {
            block_bytes,
            blocks: LEAST_BLOCKS + shared_bytes / block_bytes,
            shared_bytes,
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        SHARED_FREE_BYTES.fetch_add(self.shared_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_imports_share_what_is_beyond_their_least() {
        for chunk_bytes in [16 * 1024, 256 * 1024, 1024 * 1024, 4 * 1024 * 1024] {
            let all: Vec<_> = (0..40).map(|_| Allowance::take(chunk_bytes)).collect();
            let block_bytes = all[0].block_bytes;
            assert!(
                block_bytes >= chunk_bytes + chunk_bytes / 2,
                "room to carry over"
            );
            assert!(all.iter().all(|own| own.blocks >= LEAST_BLOCKS));
            let blocks: usize = all.iter().map(|own| own.blocks).sum();
            assert!(blocks * block_bytes <= SHARED_BYTES + all.len() * LEAST_BLOCKS * block_bytes);
        }
    }
}
