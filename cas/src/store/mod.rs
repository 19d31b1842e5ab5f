//! The chunk store: chunks, manifests and file entries on disk, found again after a crash.
//!
//! Chunk bytes are appended to pack files; a database indexes them and holds small chunks and manifests
//! itself. Packs are the truth: the index can be rebuilt from them. One process at a time owns a store;
//! within it, clones of [`Store`] may be used from any number of threads.
//!
//! Non-goals: choosing what to delete, quotas, talking to peers.

mod core;
mod entry;
mod files;
mod forged;
mod hold;
mod index;
mod layout;
mod listing;
mod medium;
mod memory;
mod pack;
mod recovery;
mod sled;
mod space;
mod syncer;
mod types;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ::bytes::Bytes;

use self::core::Core;
pub(crate) use self::hold::Hold;
use self::index::Index;
use self::layout::Layout;
use self::medium::{DirMedium, Medium};
use self::memory::{MemoryIndex, MemoryMedium};
use self::pack::Packs;
use self::sled::SledIndex;
use self::space::Space;
use self::syncer::Syncer;
use crate::bitmap::HaveBitmap;
use crate::error::{IndexError, StoreError};
use crate::id::{Address, ChunkHash, ManifestId};
use crate::manifest::Manifest;

pub(crate) use self::entry::INLINE_BYTES;
pub use self::entry::{FileEntry, FileState};
pub(crate) use self::space::free_bytes;
pub use self::types::{Put, Removed, StoreConfig, StoreStats};

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
    inner: Arc<Inner>,
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

impl Store {
    /// Opens the store in `dir`, creating it when there is none, and brings it in order after a crash. A
    /// folder that is created belongs to its owner alone (mode 0700).
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it open, [`StoreError::NewerVersion`] when a newer
    /// program wrote it; otherwise what the file system says. A store on a read-only medium cannot be
    /// opened: [`StoreError::Io`] then names its lock file.
    pub fn open(dir: &Path, config: StoreConfig) -> Result<Self, StoreError> {
        let layout = Layout::open(dir)?;
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io {
                action,
                path,
                source,
            }
        };
        let space = Space::open(dir, config.reserve_bytes, config.min_free_bytes)
            .map_err(io("measure the space of", dir))?;
        let packs_dir = layout.packs_dir();
        let medium = DirMedium::new(packs_dir.clone()).map_err(io("create", &packs_dir))?;
        let packs = Packs::open(Arc::new(medium), layout.store_id(), config.pack_bytes)?;
        space.check_index()?;
        let index: Arc<dyn Index> = Arc::new(open_index(&layout)?);
        let totals = recovery::recover(&index, &packs)?;
        let syncer = Syncer::start(Arc::clone(&index)).map_err(io("start a thread for", dir))?;
        space.refill();
        let core = Core::new(index, packs, space, totals, Some(syncer));
        Ok(Self::around(Arc::new(core), Some(layout)))
    }

    /// A store that is forgotten with its last clone; for tests of what is built on stores.
    ///
    /// # Errors
    /// None in practice.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::over(
            Arc::<MemoryIndex>::default(),
            Arc::<MemoryMedium>::default(),
            u64::MAX,
        )
    }

    /// A store over any index and medium, recovered as after a crash.
    fn over(
        index: Arc<dyn Index>,
        medium: Arc<dyn Medium>,
        pack_bytes: u64,
    ) -> Result<Self, StoreError> {
        let packs = Packs::open(medium, [0; 16], pack_bytes)?;
        let totals = recovery::recover(&index, &packs)?;
        let core = Core::new(index, packs, Space::unlimited(), totals, None);
        Ok(Self::around(Arc::new(core), None))
    }

    fn around(core: Arc<Core>, layout: Option<Layout>) -> Self {
        let inner = Inner {
            core: Some(Arc::clone(&core)),
            layout,
        };
        Self {
            core,
            inner: Arc::new(inner),
        }
    }

    /// Whether there is a store in `dir`: [`Store::open`] would create one otherwise.
    pub fn exists(dir: &Path) -> bool {
        layout::exists(dir)
    }

    /// Whether the store in `dir` is open somewhere, and by which process: `Some(None)` means by one that
    /// cannot be named.
    ///
    /// # Errors
    /// When the lock file cannot be looked at.
    pub fn locked_by(dir: &Path) -> io::Result<Option<Option<u32>>> {
        layout::locked_by(dir)
    }

    /// Protects the chunks of an unfinished import.
    pub(crate) fn hold(&self) -> Hold {
        self.core.hold()
    }

    /// Whether the chunk is here, as far as is known: a chunk that was found damaged is not.
    ///
    /// # Errors
    /// When the index fails.
    pub fn has(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        self.core.has(hash)
    }

    /// The chunk's bytes, verified against the hash on every read.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the stored bytes are not the chunk's: it counts as absent from then
    /// on, and a put of the right bytes heals it.
    pub fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, StoreError> {
        self.core.get(hash)
    }

    /// Appends a chunk, unless it is here. It can be read at once, and survives a crash only after a
    /// [`Store::commit`] that began later. The caller has verified the bytes.
    ///
    /// A chunk that no file, unfinished download or running import lists stays until it is named to
    /// [`Store::drop_unreferenced`], or until [`Store::drop_orphans`].
    ///
    /// # Errors
    /// [`StoreError::ChunkLength`], [`StoreError::NoSpace`], or what the medium says.
    pub fn put(&self, hash: &ChunkHash, bytes: &[u8]) -> Result<Put, StoreError> {
        self.core.put(hash, bytes)
    }

    /// Returns when everything put before the call survives a power cut. Concurrent commits share the
    /// work.
    ///
    /// # Errors
    /// After a failure nothing put since the last success is acknowledged; if a sync failed, the store
    /// takes no more writes until it is opened again.
    pub fn commit(&self) -> Result<(), StoreError> {
        self.core.commit()
    }

    /// Records a file whose chunks are all here. Durable when it returns.
    ///
    /// If the file is here already and whole, its manifest stays, and only name and pin are taken over.
    ///
    /// # Errors
    /// [`StoreError::MissingChunks`] when not all chunks are here.
    pub fn add_file(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
        pinned: bool,
    ) -> Result<FileEntry, StoreError> {
        self.core.add_file(manifest, name, pinned)
    }

    /// Remembers the manifest of a download that begins; its chunks are protected from then on. Durable
    /// when it returns. Changes nothing if the file is whole or has this manifest; replaces another
    /// partial manifest and drops the chunks that only that one needed. A damaged record of this manifest
    /// is written anew, and the entry stays what it was.
    ///
    /// # Errors
    /// What the medium says.
    pub fn begin_partial(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
    ) -> Result<FileEntry, StoreError> {
        self.core.begin_partial(manifest, name)
    }

    /// Makes a download complete. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`] (also for a [`FileState::Remnant`]), [`StoreError::MissingChunks`], or
    /// [`StoreError::CorruptManifest`], which a [`Store::begin_partial`] or [`Store::add_file`] mends.
    pub fn complete_partial(
        &self,
        address: &Address,
        pinned: bool,
    ) -> Result<FileEntry, StoreError> {
        self.core.complete_partial(address, pinned)
    }

    /// A file's entry.
    ///
    /// # Errors
    /// When the index fails.
    pub fn file(&self, address: &Address) -> Result<Option<FileEntry>, StoreError> {
        self.core.file(address)
    }

    /// All entries, by address.
    ///
    /// # Errors
    /// When the index fails.
    pub fn files(&self) -> Result<Vec<FileEntry>, StoreError> {
        self.core.files()
    }

    /// A file's manifest, verified; a [`FileState::Remnant`] has none.
    ///
    /// # Errors
    /// [`StoreError::CorruptManifest`] when it is damaged.
    pub fn manifest(&self, address: &Address) -> Result<Option<Manifest>, StoreError> {
        self.core.manifest(address)
    }

    /// Which file the manifest with this id belongs to, if it is stored here.
    ///
    /// # Errors
    /// When the index fails.
    pub fn address_of(&self, id: &ManifestId) -> Result<Option<Address>, StoreError> {
        Ok(self.core.manifest_entry(id)?.map(|entry| entry.address))
    }

    /// Which chunks of a manifest are here.
    ///
    /// # Errors
    /// When the index fails.
    pub fn have(&self, manifest: &Manifest) -> Result<HaveBitmap, StoreError> {
        self.core.have(manifest)
    }

    /// Forgets a file, and gives back the space of the chunks that no other file, unfinished download or
    /// running import needs. `None` when it is not here.
    ///
    /// # Errors
    /// What the medium says.
    pub fn remove_file(&self, address: &Address) -> Result<Option<Removed>, StoreError> {
        self.core.remove_file(address)
    }

    /// Gives back the space of those of these chunks that nothing needs: fetched under a manifest that
    /// proved forged, for example.
    ///
    /// # Errors
    /// What the medium says.
    pub fn drop_unreferenced(&self, hashes: &[ChunkHash]) -> Result<Removed, StoreError> {
        self.core.drop_unreferenced(hashes)
    }

    /// Gives back the space of all chunks that nothing needs: left by a crash in the middle of an import,
    /// or put for a download whose entry was removed meanwhile. Visits every chunk of the index.
    ///
    /// # Errors
    /// What the medium says.
    pub fn drop_orphans(&self) -> Result<Removed, StoreError> {
        self.core.drop_orphans()
    }

    /// Forgets the forged manifest of a download. `keep` are the chunks, by index in it, that are proven
    /// to be the file's own bytes; one that is not here is not kept.
    ///
    /// If the address still names this manifest and is [`FileState::Partial`], the manifest goes with all
    /// its chunks that nothing else needs, and the kept ones stay behind under a durable entry of state
    /// [`FileState::Remnant`], which has no manifest. The next [`Store::begin_partial`] or
    /// [`Store::add_file`] of the address takes those over that its manifest lists, and drops the others.
    /// When none ever follows, [`Store::remove_file`] gives their space back. With nothing to keep, or no
    /// space to note it, no entry stays behind.
    ///
    /// If the address has another manifest or is complete, only chunks that are not kept go. If it has no
    /// entry any more, all that nothing needs go.
    ///
    /// # Errors
    /// What the medium says.
    pub fn forget_forged(
        &self,
        manifest: &Manifest,
        keep: &HaveBitmap,
    ) -> Result<Removed, StoreError> {
        self.core.forget_forged(manifest, keep)
    }

    /// The store in numbers. Reads the sizes of its files.
    ///
    /// # Errors
    /// When the index fails.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let totals = self.core.totals();
        let mut files = 0;
        self.core
            .noting(self.core.index.scan(entry::FILE_PREFIX, &mut |_, _| {
                files += 1;
                Ok(ControlFlow::Continue(()))
            }))?;
        let own = self.core.packs.disk_bytes() + self.core.index.disk_bytes();
        let disk_bytes = own
            + self
                .inner
                .layout
                .as_ref()
                .map_or(0, Layout::reserve_disk_bytes);
        Ok(StoreStats {
            files,
            chunks: totals.chunks,
            stored_bytes: totals.bytes,
            disk_bytes,
        })
    }

    /// Visits every committed chunk with its length in bytes, until told to stop.
    ///
    /// # Errors
    /// When the index fails.
    pub fn for_each_chunk(
        &self,
        mut visit: impl FnMut(&ChunkHash, u32) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.core.for_each_chunk(&mut visit)
    }
}

/// Opens the index; one that is damaged is put aside, and recovery builds a new one from the packs.
fn open_index(layout: &Layout) -> Result<SledIndex, StoreError> {
    let dir = layout.index_dir();
    let checked = SledIndex::open(&dir).and_then(|index| {
        if !layout.was_clean() {
            recovery::check_index(&index)?;
        }
        Ok(index)
    });
    match checked {
        Ok(index) => Ok(index),
        Err(IndexError::Io(error)) => Err(IndexError::Io(error).into()),
        Err(error) => {
            let aside = layout.set_index_aside()?;
            tracing::warn!(%error, aside = %aside.display(), "index unusable: put aside");
            Ok(SledIndex::open(&dir)?)
        }
    }
}
