//! Content for casnode: names, cutting, proofs, and the store that keeps it.
//!
//! The address of a file is its BLAKE3 hash. A file is cut into chunks, listed with the file's proof
//! tree in a manifest; chunks and manifests live in a store on disk. Everything here is blocking,
//! `Send + Sync`, and knows no network.
//!
//! Non-goals: talking to peers, deciding what to fetch.
//!
//! Terms and formats are described in the repository's `docs/FORMATS.md`.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bitmap;
mod chunker;
mod codec;
mod direct;
mod directory;
mod error;
mod export;
mod id;
mod import;
mod manifest;
mod name;
mod probe;
mod proof;
mod record;
mod store;
#[cfg(test)]
mod testing;

pub use bitmap::{BitmapError, HaveBitmap};
pub use chunker::{Chunker, ChunkerParams, Chunking, MAX_CHUNK_BYTES, MAX_CHUNKS, MIN_CHUNK_BYTES};
pub use codec::CodecError;
pub use directory::{
    Entry, EntryKind, Listing, ListingBuilder, ListingError, MAX_COMPONENT_BYTES,
    MAX_LISTING_BYTES, MAX_LISTING_ENTRIES, MAX_PATH_BYTES, MAX_TARGET_BYTES, PathError, RelPath,
    Sub,
};
pub use error::{IndexError, StoreError, io_is_no_space};
pub use export::{
    Assembly, ExportError, OutputFile, OutputOptions, file_address, file_address_of, own_umask,
};
pub use id::{Address, ChunkHash, HASH_BYTES, HASH_HEX_DIGITS, ManifestId, ParseHashError};
pub use import::{
    FileIdentity, ImportError, ImportOptions, ImportPlan, ImportProgress, Imported, Placement,
    import_file, import_file_among, import_reader, plan_file, read_small_file, scan_file,
};
pub use manifest::{ChunkRef, MAX_MANIFEST_BYTES, Manifest, ManifestError};
pub use name::{MAX_NAME_BYTES, safe_file_name};
pub use probe::{
    FileSystem, FolderProbe, disk_bytes, file_system, latest_change_unix_s, probe_folder,
};
pub use proof::{GroupHasher, GroupPieces, MAX_GROUPS, MIN_GROUP_BYTES, ProofBuilder, ProofTree};
pub use record::{
    FileKind, FileRecord, FileRecordError, INLINE_MANIFEST_BYTES, MAX_FILE_RECORD_BYTES,
};
pub use store::{
    AddedFile, BadChunk, Claim, DirectorySize, EnteredDirectory, Evicted, FileEntry, FileSource,
    FileStamp, FileState, FileUsage, GcFile, GcPlan, GcProgress, GcProgressFn, GcReport, InUse,
    KnownFile, LostSource, MAX_SMALL_FILE_BYTES, MAX_SMALL_FILES, MAX_STAMPS, MemberHold, Put,
    Rebuilt, Removed, Scrubbed, SmallFile, SourceKind, SourceState, Store, StoreConfig, StoreStats,
    Verified, VerifyProgress,
};
