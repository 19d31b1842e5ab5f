//! How much a peer may tell unasked. Pure: time comes in as an argument.

use std::time::{Duration, Instant};

use casnode_dht::exchange::MAX_GOT;

/// Changes from choked to unchoked and back, at first and then one more a second: an honest peer changes its mind every
/// few seconds.
const FLIPS: u64 = 32;

/// The same for lists of other peers, which are told every five seconds.
const LISTS: u64 = 8;

/// What a peer has told unasked.
#[derive(Debug)]
pub(super) struct Manners {
    began: Instant,
    chunks: u64,
    flips: u64,
    lists: u64,
    /// Most chunks it may tell of: each is news once, and what was told with the bitmap may be told again.
    max_chunks: u64,
}

impl Manners {
    pub(super) fn new(chunk_count: u32, now: Instant) -> Self {
        Self {
            began: now,
            chunks: 0,
            flips: 0,
            lists: 0,
            max_chunks: 2 * u64::from(chunk_count) + MAX_GOT as u64,
        }
    }

    /// It tells of so many chunks; false when it has told of too many.
    pub(super) fn tells_chunks(&mut self, count: usize) -> bool {
        self.chunks = self.chunks.saturating_add(count as u64);
        self.chunks <= self.max_chunks
    }

    /// It chokes or unchokes; false when it does so without end.
    pub(super) fn changes_its_mind(&mut self, now: Instant) -> bool {
        self.flips += 1;
        self.flips <= FLIPS + self.age(now).as_secs()
    }

    /// It tells of other peers; false when it does so without end.
    pub(super) fn tells_peers(&mut self, now: Instant) -> bool {
        self.lists += 1;
        self.lists <= LISTS + self.age(now).as_secs()
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_pace_is_never_too_much_and_a_flood_is_at_once() {
        let now = Instant::now();
        let mut honest = Manners::new(100, now);
        for second in (0..10_000).step_by(5) {
            let at = now + Duration::from_secs(second);
            assert!(honest.changes_its_mind(at) && honest.tells_peers(at));
        }
        assert!(honest.tells_chunks(100) && honest.tells_chunks(100));
        let mut flood = Manners::new(100, now);
        assert!((0..FLIPS).all(|_| flood.changes_its_mind(now)));
        assert!(!flood.changes_its_mind(now));
        assert!((0..LISTS).all(|_| flood.tells_peers(now)));
        assert!(!flood.tells_peers(now));
        assert!(flood.tells_chunks(MAX_GOT) && flood.tells_chunks(200));
        assert!(!flood.tells_chunks(1));
    }
}
