//! What calls that look after the store return.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `pin add` and `pin rm` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinReport {
    /// Which file.
    pub address: String,
    /// Its name hint.
    pub name: Option<String>,
    /// What it is now.
    pub pinned: bool,
}

/// A file that a collection removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GcFile {
    /// Its address.
    pub address: String,
    /// Its name hint.
    pub name: Option<String>,
    /// Bytes that only this file needs.
    pub bytes: u64,
}

/// What `gc` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GcPlanReport {
    /// Chunks that no file needs.
    pub orphan_chunks: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Files that have to make room.
    pub evict_files: u64,
    /// The first [`MAX_LISTED`](super::MAX_LISTED) of those, in the order in which they would go.
    pub evict: Vec<GcFile>,
    /// Packs whose live records would be copied.
    pub compact_packs: u64,
    /// Bytes of those records.
    pub copy_bytes: u64,
    /// Bytes on the disk that would be free afterwards.
    pub reclaim_bytes: u64,
}

/// What `gc` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GcReport {
    /// Chunks that no file needed.
    pub freed_chunks: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Files that had to make room.
    pub evicted_files: u64,
    /// The first [`MAX_LISTED`](super::MAX_LISTED) of those.
    pub evicted: Vec<GcFile>,
    /// Packs whose live records were copied.
    pub compacted_packs: u64,
    /// Bytes of those records.
    pub copied_bytes: u64,
    /// Bytes on the disk before.
    pub disk_bytes_before: u64,
    /// Bytes on the disk afterwards.
    pub disk_bytes_after: u64,
}

/// What a file occupies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileUsage {
    /// Its address.
    pub address: String,
    /// Its name hint.
    pub name: Option<String>,
    /// Its length.
    pub logical_bytes: u64,
    /// Bytes of its chunks that are in the store, each chunk counted once.
    pub stored_bytes: u64,
    /// The part of those that other files have too.
    pub shared_bytes: u64,
    /// Bytes of its chunks that are in files outside the store.
    pub referenced_bytes: u64,
}

/// What `verify` found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyReport {
    /// Chunks that were read.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chunks whose bytes were not theirs; they count as absent from then on.
    pub bad_chunks: u64,
    /// Their bytes.
    pub bad_bytes: u64,
    /// Files in which damage was found.
    pub damaged_files: u64,
    /// Those of them that are still not right in the end.
    pub unrepaired_files: u64,
    /// The first [`MAX_LISTED`](super::MAX_LISTED) damaged files, those that are still not right before the others.
    pub damaged: Vec<DamagedFile>,
    /// Chunks of those files that are absent in the end, each counted once.
    pub missing_chunks: u64,
    /// Chunks that were damaged or missing and are here again.
    pub repaired_chunks: u64,
    /// Bytes that were fetched for that.
    pub fetched_bytes: u64,
}

/// A file that `verify` found damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DamagedFile {
    /// Its address.
    pub address: String,
    /// Its name hint.
    pub name: Option<String>,
    /// Its distinct chunks that were damaged.
    pub bad_chunks: u64,
    /// True when the list of its chunks was damaged.
    pub bad_manifest: bool,
    /// The file that the store refers to, when that has changed or is gone.
    pub source: Option<String>,
    /// What became of it: `changed` or `missing`.
    pub source_state: Option<String>,
    /// Its chunks that are absent now: 0 when it is whole again.
    pub missing_chunks: u64,
    /// Why it could not be repaired, where that was tried.
    pub error: Option<String>,
}

impl VerifyReport {
    /// Whether everything that was looked at is right in the end.
    pub fn is_whole(&self) -> bool {
        self.unrepaired_files == 0
    }
}

impl DamagedFile {
    /// Whether it is right in the end.
    pub fn is_whole(&self) -> bool {
        self.missing_chunks == 0 && self.error.is_none()
    }
}

/// What `store rebuild-index` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildReport {
    /// Packs that were read.
    pub packs: u64,
    /// Chunks found in them.
    pub chunks: u64,
    /// Files found in them.
    pub files: u64,
    /// Records that could not be used.
    pub bad_records: u64,
    /// Where the old index was put, if there was one.
    pub aside: Option<String>,
}

/// The background check of stored bytes, since the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScrubReport {
    /// Its pace.
    pub bytes_per_s: u64,
    /// Bytes that were read and checked.
    pub checked_bytes: u64,
    /// How often all of it was gone through.
    pub rounds: u64,
    /// Chunks found damaged.
    pub bad_chunks: u64,
    /// Chunks that were fetched again for that.
    pub repaired_chunks: u64,
}
