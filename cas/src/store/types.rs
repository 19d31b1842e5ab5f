//! What callers hand to a store and get from it.

use crate::id::ChunkHash;

/// How a store is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreConfig {
    /// A pack file that has reached this size is followed by a new one.
    pub pack_bytes: u64,
    /// Chunks are refused when they would leave less than this on the file system (less, on a small one).
    pub min_free_bytes: u64,
    /// Size of the ballast file that is given up when the disk is full (less, on a small file system).
    pub reserve_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            pack_bytes: 256 * MIB,
            min_free_bytes: 64 * MIB,
            reserve_bytes: 32 * MIB,
        }
    }
}

/// Whether a put chunk was here already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was written.
    New,
    /// It was here.
    Known,
}

/// What a removal gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The chunks that are gone.
    pub freed_chunks: Vec<ChunkHash>,
    /// Their bytes.
    pub freed_bytes: u64,
}

/// A store in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// File entries, unfinished downloads included.
    pub files: u64,
    /// Chunks in the index.
    pub chunks: u64,
    /// Bytes of those chunks.
    pub stored_bytes: u64,
    /// Bytes that packs, index and reserve occupy.
    pub disk_bytes: u64,
}
