//! How the memory of a node is split among those who hold much of it.
//!
//! What grows with the work is bounded by a share, however many peers there are: chunks on their way in, chunks that
//! were read ahead for others, encoded manifests, windows of connections, caches. What the tables of the network hold is
//! bounded by `casnode_dht::Limits`, and the blocks of imports by themselves; neither is counted here.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory of the program itself, its threads and its small tables, and of the blocks in which a store writes.
const FIXED_BYTES: u64 = 24 << 20;

/// What is beyond it is split in so many parts.
const PARTS: u64 = 32;

/// More than this of the records' log need not be in memory: it is read at the start alone.
const MAX_RECORDS_CACHE_BYTES: u64 = 8 << 20;

/// Connections that are expected to have large windows at a time: those on which much is sent over a long way.
const BUSY_CONNECTIONS: u64 = 4;

/// More of the index gains nothing before it has some ten million chunks.
const MAX_INDEX_CACHE_BYTES: u64 = 128 << 20;

/// More unused buffers for what arrives than are on their way from the streams to the disk are of no use.
const MAX_RECEIVE_BUFFERS_BYTES: u64 = 16 << 20;

/// More unused buffers than this are of no use to anybody.
const MAX_KEPT_BUFFERS_BYTES: u64 = 32 << 20;

/// Memory that a node may use, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    total_bytes: u64,
}

/// What everybody who holds much may hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// The program itself.
    pub fixed_bytes: u64,
    /// Chunks of all downloads that arrive, wait to be checked, or are being checked.
    pub incoming_bytes: u64,
    /// Chunks read ahead for all peers, beyond the one that each of them is sent.
    pub read_ahead_bytes: u64,
    /// Encoded manifests that peers pull; a single larger one is kept alone.
    pub manifests_bytes: u64,
    /// Receive windows of all connections, beyond the least that each stream has.
    pub connections_bytes: u64,
    /// The cache of the store's index.
    pub index_cache_bytes: u64,
    /// The cache of the records' log.
    pub records_cache_bytes: u64,
    /// Buffers for what arrives that nobody uses.
    pub receive_buffers_bytes: u64,
    /// Buffers for reading that nobody uses.
    pub kept_buffers_bytes: u64,
}

impl MemoryBudget {
    /// The least with which everything works: two of the largest chunks can arrive at once.
    pub const MIN_BYTES: u64 = 64 << 20;
    /// That of a node of which nothing is said.
    pub const DEFAULT_BYTES: u64 = 256 << 20;

    /// A budget of `total_bytes`; `None` when that is less than [`MemoryBudget::MIN_BYTES`].
    pub fn new(total_bytes: u64) -> Option<Self> {
        (total_bytes >= Self::MIN_BYTES).then_some(Self { total_bytes })
    }

    /// All of it, in bytes.
    pub fn total_bytes(self) -> u64 {
        self.total_bytes
    }

    /// How it is split.
    pub fn shares(self) -> Shares {
        let part = (self.total_bytes - FIXED_BYTES) / PARTS;
        Shares {
            fixed_bytes: FIXED_BYTES,
            incoming_bytes: 8 * part,
            read_ahead_bytes: 6 * part,
            manifests_bytes: 4 * part,
            connections_bytes: 7 * part,
            receive_buffers_bytes: (2 * part).min(MAX_RECEIVE_BUFFERS_BYTES),
            index_cache_bytes: (3 * part).min(MAX_INDEX_CACHE_BYTES),
            records_cache_bytes: part.min(MAX_RECORDS_CACHE_BYTES),
            kept_buffers_bytes: part.min(MAX_KEPT_BUFFERS_BYTES),
        }
    }
}

impl Shares {
    /// What one connection may have of the windows: few move much at a time.
    pub fn connection_window_bytes(&self) -> usize {
        usize::try_from(self.connections_bytes / BUSY_CONNECTIONS).unwrap_or(usize::MAX)
    }
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self {
            total_bytes: Self::DEFAULT_BYTES,
        }
    }
}

/// Bytes that many may hold together.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    free: Arc<Semaphore>,
    all_bytes: u32,
}

/// Bytes that are held; free again when it is dropped.
pub(crate) type Held = OwnedSemaphorePermit;

impl Share {
    /// Room for so many bytes, at most 4 GiB.
    pub(crate) fn of(bytes: u64) -> Self {
        let all_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permits = usize::try_from(all_bytes).unwrap_or(usize::MAX);
        Self {
            free: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            all_bytes,
        }
    }

    /// Waits until there is room, in turn; whoever wants more than all there is gets all of it.
    pub(crate) async fn hold(&self, bytes: usize) -> Option<Held> {
        let free = self.free.clone();
        free.acquire_many_owned(self.at_most(bytes)).await.ok()
    }

    /// Takes room if there is some now.
    pub(crate) fn try_hold(&self, bytes: usize) -> Option<Held> {
        let free = self.free.clone();
        free.try_acquire_many_owned(self.at_most(bytes)).ok()
    }

    fn at_most(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).map_or(self.all_bytes, |bytes| bytes.min(self.all_bytes))
    }
}

#[cfg(test)]
mod tests {
    use casnode_cas::MAX_CHUNK_BYTES;

    use super::*;

    fn sum(shares: &Shares) -> u64 {
        let Shares {
            fixed_bytes,
            incoming_bytes,
            read_ahead_bytes,
            manifests_bytes,
            connections_bytes,
            index_cache_bytes,
            records_cache_bytes,
            receive_buffers_bytes,
            kept_buffers_bytes,
        } = *shares;
        fixed_bytes
            + incoming_bytes
            + read_ahead_bytes
            + manifests_bytes
            + connections_bytes
            + index_cache_bytes
            + records_cache_bytes
            + receive_buffers_bytes
            + kept_buffers_bytes
    }

    #[test]
    fn the_shares_are_never_more_than_the_whole() {
        let small = (64..2048).map(|mib| mib << 20);
        let odd = [MemoryBudget::MIN_BYTES + 1, 1_000_000_007, 1 << 40];
        for total_bytes in small.chain(odd) {
            let shares = MemoryBudget::new(total_bytes).unwrap().shares();
            assert!(sum(&shares) <= total_bytes, "{total_bytes}: {shares:?}");
        }
        let unused = MemoryBudget::DEFAULT_BYTES - sum(&MemoryBudget::default().shares());
        assert!(unused < 1 << 20, "the usual budget is used up");
    }

    #[test]
    fn the_least_is_enough_for_the_largest_chunks() {
        assert_eq!(MemoryBudget::new(MemoryBudget::MIN_BYTES - 1), None);
        let least = MemoryBudget::new(MemoryBudget::MIN_BYTES).unwrap().shares();
        let largest = u64::from(MAX_CHUNK_BYTES);
        assert!(least.incoming_bytes >= 2 * largest);
        assert!(least.read_ahead_bytes >= largest);
        assert!(least.index_cache_bytes >= 2 << 20 && least.records_cache_bytes >= 1 << 20);
    }

    #[tokio::test]
    async fn room_is_waited_for_and_comes_back() {
        let room = Share::of(100);
        let held = room.hold(60).await.unwrap();
        assert!(room.try_hold(41).is_none());
        let rest = room.try_hold(40).unwrap();
        let waiting = tokio::spawn({
            let room = room.clone();
            async move { room.hold(1000).await }
        });
        drop(held);
        drop(rest);
        let all = waiting.await.unwrap().unwrap();
        assert!(room.try_hold(1).is_none(), "all of it, and no more");
        drop(all);
        assert!(room.try_hold(100).is_some());
    }
}
