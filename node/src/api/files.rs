//! What calls about files return.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SeedReport;

/// What `store` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoreReport {
    /// BLAKE3 of the file.
    pub address: String,
    /// The file's length.
    pub bytes: u64,
    /// Chunks it was cut into.
    pub chunks: u32,
    /// Chunks the store did not have.
    pub new_chunks: u32,
    /// Their bytes.
    pub new_bytes: u64,
    /// Bytes that were here already, in this file's or other files' chunks, and were not written.
    pub saved_bytes: u64,
    /// Bytes that stay in the file itself and are only referred to.
    pub referenced_bytes: u64,
    /// The published name hint.
    pub name: Option<String>,
    /// Peers that acknowledged the file's own provider record; 0: not published yet.
    pub announced_to: u32,
}

/// What `get` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GetReport {
    /// What was asked for.
    pub address: String,
    /// The file written; absent when it went to a stream, or nowhere.
    pub path: Option<String>,
    /// The file's length.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
    /// Chunks of the file.
    pub chunks: u32,
    /// Chunks that were here already and were not fetched.
    pub local_chunks: u32,
    /// Bytes of the file that were here already, whatever file brought them.
    pub local_bytes: u64,
    /// Chunks fetched from the network.
    pub fetched_chunks: u32,
    /// Bytes of those, each chunk counted once.
    pub fetched_bytes: u64,
    /// Bytes received twice.
    pub duplicate_bytes: u64,
    /// Chunks that arrived with wrong bytes.
    pub rejected_chunks: u32,
    /// True when the output already was this file and nothing was written.
    pub unchanged: bool,
    /// What of it stays here.
    pub kept: Kept,
    /// The file that the store refers to, where it is kept in place: it must stay there unchanged.
    pub in_place: Option<String>,
    /// For how long it is served from now on, as [`SeedReport::policy`]; absent when nothing of it is kept here, or nobody
    /// is there to serve it.
    pub seed: Option<String>,
    /// Who sent what.
    pub providers: Vec<ProviderUse>,
}

/// How a file that was fetched is kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// In the store.
    Copy,
    /// In a file that the store refers to.
    InPlace,
    /// Not, or not all of it.
    No,
}

/// What `cat` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CatReport {
    /// What was asked for.
    pub address: String,
    /// Where in the file the bytes begin that were written.
    pub offset_bytes: u64,
    /// How many they are.
    pub bytes: u64,
    /// The file's length.
    pub size_bytes: u64,
    /// The name that it is published with, where that is known.
    pub name: Option<String>,
    /// Wall time.
    pub seconds: f64,
}

/// One provider's part in a download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderUse {
    /// Its peer id.
    pub peer: String,
    /// Accepted bytes.
    pub bytes: u64,
    /// Accepted chunks.
    pub chunks: u32,
    /// Chunks refused for wrong bytes.
    pub rejected: u32,
}

/// A file that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileInfo {
    /// Its address.
    pub address: String,
    /// Its name hint.
    pub name: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// Its chunks.
    pub chunks: u32,
    /// `complete` or `partial`.
    pub state: String,
    /// Kept whatever is collected.
    pub pinned: bool,
    /// When it was stored, milliseconds since 1970.
    pub stored_unix_ms: u64,
    /// When it was last stored, fetched or served, milliseconds since 1970.
    pub last_used_unix_ms: u64,
    /// The file that the store refers to instead of a copy, where there is one.
    pub in_place: Option<String>,
    /// What became of that file: `intact`, `changed` or `missing`.
    pub source_state: Option<String>,
    /// What is in it, of a directory.
    pub directory: Option<DirectoryInfo>,
}

/// A directory in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirectoryInfo {
    /// Files in it.
    pub files: u64,
    /// Their bytes, as its listing states them.
    pub bytes: u64,
}

/// One file's facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FileStat {
    /// As in `ls`.
    #[serde(flatten)]
    pub file: FileInfo,
    /// Chunks that are here.
    pub chunks_here: u32,
    /// Bytes that are here.
    pub bytes_here: u64,
    /// How it was cut, in words with numbers.
    pub chunker: String,
    /// BLAKE3 of the manifest.
    pub manifest: String,
    /// For how long it is served.
    pub seed: SeedReport,
}

/// What `rm` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RmReport {
    /// What was removed.
    pub address: String,
    /// Chunks no other file used, removed with it.
    pub freed_chunks: u64,
    /// Their bytes.
    pub freed_bytes: u64,
}
