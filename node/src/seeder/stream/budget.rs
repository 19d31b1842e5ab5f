//! How much the peer of a stream may say unasked, and pull without a turn, in all: what costs it little and this node more.

use casnode_dht::exchange::MAX_GOT;

/// A peer may take the manifest it came for so often, and [`MORE_BYTES`]: honest ones take it once.
const MANIFESTS: u64 = 4;

/// See [`MANIFESTS`]: for manifests so small that a part asked for again counts.
const MORE_BYTES: u64 = 1 << 20;

/// What the peer of one stream has said and pulled so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    got_chunks: u64,
    manifest_bytes: u64,
    largest_manifest_bytes: u64,
}

impl Budget {
    /// It says that it got so many chunks, of a file of `chunk_count`; false when it has said so too often. Each is news
    /// once, and what it joined with may be said again.
    pub(super) fn says_got(&mut self, count: usize, chunk_count: usize) -> bool {
        self.got_chunks = self.got_chunks.saturating_add(count as u64);
        self.got_chunks <= 2 * chunk_count as u64 + MAX_GOT as u64
    }

    /// It pulls a part of a manifest of `total_bytes`; false when it has pulled too much.
    pub(super) fn pulls(&mut self, part_bytes: usize, total_bytes: u64) -> bool {
        self.manifest_bytes = self.manifest_bytes.saturating_add(part_bytes as u64);
        self.largest_manifest_bytes = self.largest_manifest_bytes.max(total_bytes);
        self.manifest_bytes <= MANIFESTS * self.largest_manifest_bytes + MORE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_honest_peer_says_is_never_too_much_and_a_flood_is() {
        let mut budget = Budget::default();
        assert!((0..200).all(|_| budget.says_got(1, 100)));
        assert!(budget.says_got(MAX_GOT, 100));
        assert!(!budget.says_got(1, 100));
    }

    #[test]
    fn a_large_manifest_may_be_taken_a_few_times() {
        let mut budget = Budget::default();
        let (part, total) = (512 << 10, 32 << 20);
        let parts = (0..1000).take_while(|_| budget.pulls(part, total)).count();
        assert_eq!(parts, 4 * 64 + 2);
    }
}
