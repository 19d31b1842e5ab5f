//! The chunk store: chunks, manifests and file entries on disk, found again after a crash.
//!
//! Chunk bytes are appended to pack files; a database indexes them and holds small chunks and manifests
//! itself. Packs are the truth: the index can be rebuilt from them. One process at a time owns a store;
//! within it, clones of [`Store`] may be used from any number of threads.
//!
//! What a store does is an `impl Store` in the module that has its logic:
//!
//! | module | calls |
//! |---|---|
//! | `open` | opening, in its folder, to read only and in memory; building the index anew |
//! | `chunks`, `lent` | putting and getting chunks, committing; lending those that a download writes elsewhere |
//! | `files`, `lookup` | entering files, and finding what is here of one or of many |
//! | `small`, `members` | entering many small files at once, and directories |
//! | `claims` | names, pins and uses of files |
//! | `listing`, `forged` | manifests, and those that proved forged |
//! | `remove`, `release` | removing files, and chunks that nobody needs |
//! | `source`, `clones`, `unfinished` | files kept in place, clones, files that are being fetched |
//! | `stamps` | which files of the user's are unchanged |
//! | `collect`, `settings` | room, the limit, collecting |
//! | `counts`, `usage` | the store, and each file, in numbers |
//! | `verify` | reading everything again |
//!
//! What those calls share is on `Core`.
//!
//! Non-goals: talking to peers.

mod batch;
mod chunks;
mod claims;
mod clones;
mod collect;
mod core;
mod counts;
mod entry;
mod files;
mod flush;
mod forged;
mod hold;
mod index;
mod layout;
mod ledger;
mod lent;
mod listing;
mod lookup;
mod medium;
mod members;
mod memory;
mod mend;
mod open;
mod pack;
mod pool;
mod recovery;
mod release;
mod remove;
mod replace;
mod runs;
mod settings;
mod sled;
mod small;
mod source;
mod space;
mod stamps;
mod syncer;
mod types;
mod unfinished;
mod usage;
mod verify;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use self::clones::clone_blocks;
use self::core::Core;
pub(crate) use self::hold::Hold;
use self::layout::Layout;

pub use self::collect::GcProgressFn;
pub(crate) use self::entry::INLINE_BYTES;
pub use self::entry::{Claim, FileEntry, FileSource, FileState, SourceKind, SourceState};
pub use self::members::{DirectorySize, EnteredDirectory, MemberHold};
pub use self::small::{AddedFile, MAX_SMALL_FILE_BYTES, MAX_SMALL_FILES, SmallFile};
pub(crate) use self::space::{available_bytes, free_bytes};
pub use self::stamps::{FileStamp, KnownFile, MAX_STAMPS};
pub use self::types::{
    BadChunk, Evicted, FileUsage, GcFile, GcPlan, GcProgress, GcReport, InUse, LostSource, Put,
    Rebuilt, Removed, Scrubbed, StoreConfig, StoreStats, Verified,
};
pub use self::verify::VerifyProgress;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held is a bug of ours; the data behind our locks stays usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970 by this machine's clock; 0 for a clock before that.
fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes that the files of a folder and its subfolders occupy.
fn dir_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let occupied = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => dir_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(occupied).sum()
}

struct Inner {
    core: Option<Arc<Core>>,
    /// None for a store in memory. Unlocks the folder when it is dropped, last.
    layout: Option<Layout>,
}

/// A chunk store. Clones share it; it closes with the last one. All methods block.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
    /// Declared after `core`: when the last clone drops, this is the last owner of the core.
    _inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("packs", &self.core.packs_path())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // An import thread that outlives the store would still own the core: then there is no CLEAN mark,
        // and the next open checks the index.
        let core = self.core.take().and_then(Arc::into_inner);
        let in_order = core.is_some_and(|mut core| core.close());
        if let Some(layout) = &self.layout
            && in_order
            && let Err(error) = layout.mark_clean()
        {
            tracing::warn!(%error, "the store cannot be marked as closed in order");
        }
    }
}
