//! Sources: files outside the packs that chunks are read from. Either the user's own, kept in place, or a
//! clone that the store made.
//!
//! A source is a file as it was when it was stored: its path, size, time and inode. Every read is checked
//! against the chunk's hash, so a source that changed gives no wrong bytes; once that is noticed, all its
//! chunks count as absent and the file is [`FileState::Partial`]. A source never outlives its file's
//! entry: what others need of it is copied to the packs before.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::clones::{NewClone, is_clone};
use super::core::{BATCH_CHUNKS, Committed, Core, Extra};
use super::entry::{
    self, ChunkEntry, Extent, FileEntry, FileSource, FileState, Place, SourceAccount, SourceFile,
    SourceKind, SourceState,
};
use super::lock;
use super::pack::RecordKind;
use super::types::LostSource;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::import::{FileIdentity, ImportError, open_regular};
use crate::manifest::Manifest;

/// Most sources kept open for reading.
const MAX_OPEN_SOURCES: usize = 64;

/// A file was recorded with a source.
pub(crate) struct Added {
    pub(crate) entry: FileEntry,
    /// Chunks that are read from the source.
    pub(crate) chunks: usize,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Added {
    /// All of it was here.
    fn nothing(entry: FileEntry) -> Self {
        Self {
            entry,
            chunks: 0,
            bytes: 0,
        }
    }
}

/// The chunks that a new source is to hold.
#[derive(Default)]
pub(super) struct Sourced {
    /// Those that are not here.
    pub(super) absent: Vec<(ChunkHash, Extent)>,
    /// Those that were read from elsewhere, and from where.
    pub(super) moved: Vec<(ChunkHash, Place, Place)>,
}

/// Sources that were read from lately.
#[derive(Default)]
pub(super) struct SourceFiles(Mutex<HashMap<u32, Arc<File>>>);

impl SourceFiles {
    fn remember(&self, source: u32, file: &Arc<File>) {
        let mut open = lock(&self.0);
        if open.len() >= MAX_OPEN_SOURCES
            && let Some(victim) = open.keys().next().copied()
        {
            // Any one will do: readers keep their own handle.
            open.remove(&victim);
        }
        open.insert(source, Arc::clone(file));
    }

    fn forget(&self, source: u32) {
        lock(&self.0).remove(&source);
    }
}

impl SourceFile {
    fn of(id: u32, identity: &FileIdentity) -> Self {
        Self {
            id,
            size_bytes: identity.size_bytes,
            mtime_ns: identity.mtime_ns,
            inode: identity.inode,
        }
    }
}

/// What is at the path of a file kept in place now.
fn look_in_place(path: &Path, source: &SourceFile) -> SourceState {
    match fs::metadata(path) {
        Ok(data)
            if data.is_file() && SourceFile::of(source.id, &FileIdentity::of(&data)) == *source =>
        {
            SourceState::Intact
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => SourceState::Missing,
        _ => SourceState::Changed,
    }
}

/// The chunks of a file that is a source, each once, with their places.
pub(super) fn extents(manifest: &Manifest, source: u32) -> Vec<(ChunkHash, Extent)> {
    let mut seen = HashSet::new();
    let mut offset = 0;
    let mut extents = Vec::new();
    for chunk in manifest.chunks() {
        let extent = Extent {
            source,
            offset,
            len_bytes: chunk.len_bytes,
        };
        offset += u64::from(chunk.len_bytes);
        if seen.insert(chunk.hash) {
            extents.push((chunk.hash, extent));
        }
    }
    extents
}

impl Core {
    /// Reads from a source; the caller checks the bytes.
    pub(super) fn read_source(&self, extent: Extent) -> Result<Bytes, StoreError> {
        let (file, path) = self.open_source(extent.source)?;
        let mut bytes = vec![0; extent.len_bytes as usize];
        let read = file.read_exact_at(&mut bytes, extent.offset);
        read.map_err(|source| StoreError::Io {
            action: "read a file kept in place,",
            path: path.unwrap_or_default(),
            source,
        })?;
        Ok(bytes.into())
    }

    /// The open file, and its path when that had to be looked up.
    fn open_source(&self, source: u32) -> Result<(Arc<File>, Option<PathBuf>), StoreError> {
        if let Some(file) = lock(&self.sources.0).get(&source) {
            return Ok((Arc::clone(file), None));
        }
        let path = self.source_path(source)?;
        let opened = open_regular(&path).map_err(|error| StoreError::Io {
            action: "open a file kept in place,",
            path: path.clone(),
            source: match error {
                ImportError::Unreadable { source, .. } => source,
                // Nothing there, or something that is no file.
                _ => io::ErrorKind::NotFound.into(),
            },
        })?;
        let file = Arc::new(opened.0);
        self.sources.remember(source, &file);
        Ok((file, Some(path)))
    }

    /// What became of a source. A clone is there or not: what is wrong in it is found by reading.
    fn look(&self, source: &FileSource) -> SourceState {
        let path = self.path_of(source);
        match source.kind {
            SourceKind::InPlace => look_in_place(&path, &source.file),
            SourceKind::Clone => match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => SourceState::Missing,
                _ => SourceState::Intact,
            },
        }
    }

    /// Where a source is.
    fn path_of(&self, source: &FileSource) -> PathBuf {
        match source.kind {
            SourceKind::InPlace => source.path.clone(),
            SourceKind::Clone => self.clones.path(source.file.id),
        }
    }

    fn source_path(&self, source: u32) -> Result<PathBuf, StoreError> {
        let value = self.noting(self.index.get(&entry::source_key(source)))?;
        let account = self.noting(value.as_deref().map(SourceAccount::decode).transpose())?;
        let file = match account {
            Some(account) => self.file(&account.address)?,
            None => None,
        };
        let found = file.and_then(|file| file.source);
        let found = found.filter(|found| found.file.id == source);
        found
            .map(|found| self.path_of(&found))
            .ok_or_else(|| StoreError::Io {
                action: "find a file kept in place of",
                path: self.packs.path(),
                source: io::ErrorKind::NotFound.into(),
            })
    }

    /// A chunk is not what it was: nothing of its source is believed any more.
    pub(super) fn distrust_source(
        &self,
        hash: &ChunkHash,
        extent: Extent,
    ) -> Result<(), StoreError> {
        let value = self.noting(self.index.get(&entry::source_key(extent.source)))?;
        let account = self.noting(value.as_deref().map(SourceAccount::decode).transpose())?;
        let Some(account) = account else {
            return self.mark_bad(hash, Place::Source(extent)).map(drop);
        };
        let file = self.file(&account.address)?;
        let state = file
            .and_then(|file| file.source)
            .map(|source| match self.look(&source) {
                SourceState::Intact => SourceState::Changed,
                state => state,
            });
        let state = state.unwrap_or(SourceState::Missing);
        if is_clone(extent.source) && state != SourceState::Missing {
            // Nobody edits a clone: the disk damaged this part of it, and the rest is as good as before.
            return self.mark_bad(hash, Place::Source(extent)).map(drop);
        }
        self.lose_source(&account.address, state).map(drop)
    }

    /// Compares every source with what it was; those that are not are given up.
    pub(crate) fn check_sources(&self) -> Result<Vec<LostSource>, StoreError> {
        let accounts: Vec<Address> = {
            let committed = lock(&self.commit);
            let sources = committed.ledger.sources().values();
            sources.map(|account| account.address).collect()
        };
        let mut lost = Vec::new();
        for address in accounts {
            let source = self.file(&address)?.and_then(|file| file.source);
            let Some(source) = source.filter(|source| source.state == SourceState::Intact) else {
                continue;
            };
            match self.look(&source) {
                SourceState::Intact => {}
                state => lost.extend(self.lose_source(&address, state)?),
            }
        }
        Ok(lost)
    }

    /// Makes everything that a file's source held count as absent. `None` when it has none that is intact.
    fn lose_source(
        &self,
        address: &Address,
        state: SourceState,
    ) -> Result<Option<LostSource>, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        self.lose_source_locked(&mut committed, address, state)
    }

    fn lose_source_locked(
        &self,
        committed: &mut Committed,
        address: &Address,
        state: SourceState,
    ) -> Result<Option<LostSource>, StoreError> {
        let Some(old) = self.file_value(address)? else {
            return Ok(None);
        };
        let Some(id) = old.entry.intact_source() else {
            return Ok(None);
        };
        let listed: Vec<ChunkHash> = self.listed_chunks(&old.entry)?.into_iter().collect();
        let mut lost_chunks = Vec::new();
        for part in listed.chunks(BATCH_CHUNKS) {
            let mut ops = Vec::with_capacity(part.len() * 2);
            for hash in part {
                let chunk = self.indexed(hash)?.filter(|chunk| !chunk.bad);
                let Some(chunk) = chunk.filter(|chunk| chunk.place.source() == Some(id)) else {
                    continue;
                };
                let bad = ChunkEntry {
                    bad: true,
                    ..chunk.clone()
                };
                committed.ledger.chunk(Some(&chunk), Some(&bad));
                ops.push((entry::chunk_key(hash), Some(bad.encode())));
                lost_chunks.push(*hash);
            }
            self.apply_counted(committed, ops)?;
        }
        let mut new = old.entry.clone();
        if new.state == FileState::Complete {
            new.state = FileState::Partial;
        }
        let mut path = PathBuf::new();
        if let Some(source) = &mut new.source {
            source.state = state;
            path = self.path_of(source);
        }
        tracing::warn!(%address, path = %path.display(), ?state, "a file kept in place is not what it was");
        self.end_source(committed, id);
        let mut extra = Extra::default();
        let counted = self.begin_release(&mut extra, &old.entry)?;
        self.append_entry(&mut extra, &new)?;
        self.flush(committed, extra)?;
        committed.wanted = None;
        let hashes = if counted.is_some() {
            listed
        } else {
            Vec::new()
        };
        let (_, mut freed) = self.release(committed, hashes, counted, Vec::new())?;
        freed.push(old.at);
        self.packs.free(&freed)?;
        Ok(Some(LostSource {
            address: *address,
            path,
            state,
            chunks: lost_chunks,
        }))
    }

    /// Records a file that stays at `path`, which was just read and found to be what the manifest says.
    /// Chunks that the packs have stay there.
    pub(crate) fn add_in_place(
        &self,
        manifest: &Manifest,
        path: &Path,
        identity: &FileIdentity,
        name: Option<&str>,
        pinned: bool,
    ) -> Result<Added, StoreError> {
        let path = std::path::absolute(path).map_err(|source| StoreError::Io {
            action: "make an absolute path of",
            path: path.to_owned(),
            source,
        })?;
        if path.as_os_str().len() > entry::MAX_PATH_BYTES {
            return Err(StoreError::Io {
                action: "keep in place",
                path,
                source: io::ErrorKind::InvalidFilename.into(),
            });
        }
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let mut numbers = committed.ledger.sources().keys();
        let last = numbers.rfind(|number| !is_clone(**number));
        let source = FileSource {
            kind: SourceKind::InPlace,
            path,
            state: SourceState::Intact,
            file: SourceFile::of(last.map_or(0, |last| last + 1), identity),
        };
        self.add_source(&mut committed, manifest, source, name, pinned)
    }

    /// Records a file whose clone was just read. Chunks that the packs have stay there.
    pub(crate) fn add_clone(
        &self,
        manifest: &Manifest,
        clone: &NewClone,
        name: Option<&str>,
        pinned: bool,
    ) -> Result<Added, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let source = FileSource {
            kind: SourceKind::Clone,
            path: PathBuf::new(),
            state: SourceState::Intact,
            file: SourceFile::of(clone.number, &clone.identity),
        };
        self.add_source(&mut committed, manifest, source, name, pinned)
    }

    fn add_source(
        &self,
        committed: &mut Committed,
        manifest: &Manifest,
        source: FileSource,
        name: Option<&str>,
        pinned: bool,
    ) -> Result<Added, StoreError> {
        let address = manifest.address();
        if let Some(old) = self.file(&address)?.and_then(|file| file.source) {
            let state = self.look(&old);
            if state != SourceState::Intact {
                self.lose_source_locked(committed, &address, state)?;
            }
        }
        if let Some(old) = self.file(&address)?
            && old.state == FileState::Complete
            && self.is_whole(&old)?
        {
            let entry = self.update_entry(committed, &address, name, pinned)?;
            return Ok(Added::nothing(entry));
        }
        let id = source.file.id;
        let sourced = self.not_here(manifest, id)?;
        if sourced.absent.is_empty() && sourced.moved.is_empty() {
            let entry = self.replace(committed, manifest, name, pinned, FileState::Complete)?;
            return Ok(Added::nothing(entry));
        }
        let chunks = sourced.absent.len() + sourced.moved.len();
        committed.ledger.add_source(id, address);
        let entry = self.replace_with_source(committed, manifest, name, pinned, source, sourced)?;
        let account = committed.ledger.sources().get(&id);
        Ok(Added {
            entry,
            chunks,
            bytes: account.map_or(0, |account| account.live_bytes),
        })
    }

    /// Nothing is read from this source any more.
    pub(super) fn end_source(&self, committed: &mut Committed, source: u32) {
        committed.ledger.forget_source(source);
        self.sources.forget(source);
        if is_clone(source) {
            self.clones.remove(source);
        }
    }

    /// What of a manifest is to be read from a source. A clone takes over from files in place: what is
    /// stored must not hang on a file that is somebody else's.
    fn not_here(&self, manifest: &Manifest, source: u32) -> Result<Sourced, StoreError> {
        let mut sourced = Sourced::default();
        for (hash, extent) in extents(manifest, source) {
            let chunk = self.indexed(&hash)?.filter(|chunk| !chunk.bad);
            match chunk.map(|chunk| chunk.place) {
                None => sourced.absent.push((hash, extent)),
                Some(place @ Place::Source(at)) if is_clone(source) && !is_clone(at.source) => {
                    sourced.moved.push((hash, place, Place::Source(extent)));
                }
                Some(_) => {}
            }
        }
        Ok(sourced)
    }

    /// Copies to the packs what others than `file` need of its source, before the source is given up.
    /// `needed` says of each of its chunks whether they do.
    pub(super) fn copy_out(
        &self,
        committed: &mut Committed,
        file: &FileEntry,
        needed: &dyn Fn(&ChunkHash, &ChunkEntry) -> bool,
    ) -> Result<(), StoreError> {
        let Some(id) = file.intact_source() else {
            return Ok(());
        };
        let mut moved = Vec::new();
        for hash in self.listed_chunks(file)? {
            let chunk = self.indexed(&hash)?.filter(|chunk| !chunk.bad);
            let Some(chunk) = chunk.filter(|chunk| chunk.place.source() == Some(id)) else {
                continue;
            };
            let Place::Source(extent) = chunk.place else {
                continue;
            };
            if !needed(&hash, &chunk) {
                continue;
            }
            let Ok(bytes) = self.read_source(extent) else {
                continue; // it is gone, and will be found so
            };
            if ChunkHash::of(&bytes) != hash {
                continue;
            }
            self.space.check_disk(bytes.len() as u64)?;
            let at = self.append(RecordKind::Chunk, hash.as_bytes(), &bytes)?;
            moved.push((hash, chunk.place, Place::Pack(at)));
        }
        let extra = Extra {
            moved,
            ..Extra::default()
        };
        self.flush(committed, extra)
    }
}
