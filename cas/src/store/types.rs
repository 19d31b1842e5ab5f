//! What callers hand to a store and get from it.

use std::path::PathBuf;
use std::sync::Arc;

use super::core::Core;
use super::entry::SourceState;
use super::pool::KEPT_BYTES;
use super::sled::CACHE_BYTES;
use crate::id::{Address, ChunkHash};

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
    /// Packs are written around the page cache where the file system can do that: faster, and what others
    /// have in the cache stays there.
    pub direct_io: bool,
    /// Most bytes of the index that are kept in memory; less makes it slower.
    pub index_cache_bytes: u64,
    /// Most bytes of buffers for reading chunks that are kept while nobody uses them.
    pub kept_buffers_bytes: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            pack_bytes: 256 * MIB,
            min_free_bytes: 64 * MIB,
            reserve_bytes: 32 * MIB,
            direct_io: true,
            index_cache_bytes: CACHE_BYTES,
            kept_buffers_bytes: KEPT_BYTES,
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
    /// The files that are gone: of a directory, those of its members that went with it, too.
    pub files: Vec<Address>,
    /// The chunks that are gone.
    pub freed_chunks: Vec<ChunkHash>,
    /// Their bytes.
    pub freed_bytes: u64,
    /// The file stays for this directory, which lists it, and is a file of its own no more.
    pub kept_by: Option<Address>,
}

impl Removed {
    /// Only the claim of a file's own: it stays for this directory.
    pub(super) fn only_claim(keeper: Address) -> Self {
        Self {
            kept_by: Some(keeper),
            ..Self::default()
        }
    }

    /// What was removed afterwards.
    pub(super) fn add(&mut self, other: Removed) {
        self.files.extend(other.files);
        self.freed_chunks.extend(other.freed_chunks);
        self.freed_bytes += other.freed_bytes;
    }
}

/// A store in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// File entries, unfinished downloads included.
    pub files: u64,
    /// Those of them that are pinned.
    pub pinned_files: u64,
    /// Chunks in the index.
    pub chunks: u64,
    /// Bytes of those chunks.
    pub stored_bytes: u64,
    /// Bytes that packs, index and reserve occupy.
    pub disk_bytes: u64,
    /// The part of that which nothing needs; `gc` gives back most of it.
    pub waste_bytes: u64,
    /// The most it may occupy.
    pub max_bytes: Option<u64>,
}

/// A file, or a directory with its members, that went because of the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// Which file.
    pub address: Address,
    /// Its name.
    pub name: Option<String>,
    /// The members that went with a directory; cut like the list of chunks.
    pub members: Vec<Address>,
    /// The chunks that went with it; the list is cut when too much waits to be told.
    pub freed_chunks: Vec<ChunkHash>,
    /// Their bytes.
    pub freed_bytes: u64,
}

/// Keeps a file from being removed for space, until it is dropped.
#[must_use]
pub struct InUse {
    pub(super) core: Arc<Core>,
    pub(super) address: Address,
}

impl std::fmt::Debug for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InUse").field(&self.address).finish()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.core.end_use(&self.address);
    }
}

/// A file in a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcFile {
    /// Which file.
    pub address: Address,
    /// Its name.
    pub name: Option<String>,
    /// Bytes of disk that come back with it.
    pub bytes: u64,
}

/// What a collection would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcPlan {
    /// Chunks that nothing needs.
    pub orphan_chunks: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Files that go because the store is over its limit.
    pub evict: Vec<GcFile>,
    /// Packs to be rewritten.
    pub compact_packs: u64,
    /// Bytes to be copied for that.
    pub compact_copy_bytes: u64,
    /// Bytes of disk that come back, estimated.
    pub reclaim_bytes: u64,
}

/// How far a collection is in rewriting packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcProgress {
    /// Bytes copied.
    pub done_bytes: u64,
    /// Bytes to be copied, estimated when it began.
    pub total_bytes: u64,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Chunks that nothing needed.
    pub freed_chunks: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Files that went because the store was over its limit.
    pub evicted: Vec<GcFile>,
    /// Packs that were rewritten.
    pub compacted_packs: u64,
    /// Bytes copied for that.
    pub copied_bytes: u64,
    /// Disk use when it began.
    pub disk_bytes_before: u64,
    /// Disk use when it ended.
    pub disk_bytes_after: u64,
    /// It was broken off.
    pub cancelled: bool,
}

/// What a file costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileUsage {
    /// Which file.
    pub address: Address,
    /// Its name.
    pub name: Option<String>,
    /// Its size.
    pub logical_bytes: u64,
    /// Bytes of its distinct chunks in the store.
    pub stored_bytes: u64,
    /// The part of those that other files list too.
    pub shared_bytes: u64,
    /// Bytes of its distinct chunks that are read from a file outside the store.
    pub referenced_bytes: u64,
}

/// A chunk whose stored bytes are not right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadChunk {
    /// Which chunk.
    pub hash: ChunkHash,
    /// Its length.
    pub len_bytes: u32,
    /// The files that list it.
    pub files: Vec<Address>,
}

/// A file kept in place that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostSource {
    /// Which file.
    pub address: Address,
    /// Where it was.
    pub path: PathBuf,
    /// What became of it.
    pub state: SourceState,
    /// Chunks that are absent from now on.
    pub chunks: Vec<ChunkHash>,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Chunks read.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are not right: absent from now on.
    pub bad: Vec<BadChunk>,
    /// Files whose manifest is damaged.
    pub bad_manifests: Vec<Address>,
    /// Records that were damaged and have been written anew: the index had what they said.
    pub mended_records: u64,
    /// Files kept in place that changed or vanished.
    pub lost: Vec<LostSource>,
    /// It was broken off.
    pub cancelled: bool,
}

/// What a step of a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scrubbed {
    /// Bytes read.
    pub bytes: u64,
    /// Chunks that are not right: absent from now on.
    pub bad: Vec<BadChunk>,
    /// The end was reached: the next step begins anew.
    pub wrapped: bool,
}

/// What rebuilding an index found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Pack files read.
    pub packs: u64,
    /// Chunks in the new index.
    pub chunks: u64,
    /// Files in it.
    pub files: u64,
    /// Records whose bytes are not what they say.
    pub bad_records: u64,
    /// Where the old index was put.
    pub aside: Option<PathBuf>,
}
