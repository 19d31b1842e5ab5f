//! Sources: files outside the packs that chunks are read from. Either the user's own, kept in place, or a
//! clone that the store made.
//!
//! A source is a file as it was when it was stored: its path, size, time and inode. Every read is checked
//! against the chunk's hash, so a source that changed gives no wrong bytes; once that is noticed, all its
//! chunks count as absent and the file is [`super::FileState::Partial`]. Of a clone, which nobody edits,
//! only the chunk that is damaged counts as absent. A source never outlives its file's entry: what others
//! need of it is found in another source, or copied to the packs, before.

mod add;
mod keep;
mod lose;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::clones::is_clone;
use super::core::{Committed, Core};
use super::entry::{self, Extent, FileSource, SourceAccount, SourceFile, SourceKind, SourceState};
use super::lock;
use crate::error::StoreError;
use crate::import::{FileIdentity, ImportError, open_regular};

pub(super) use add::{Sourced, extents};

/// Most sources kept open for reading.
const MAX_OPEN_SOURCES: usize = 64;

/// Sources that were read from lately, and which numbers are taken.
#[derive(Default)]
pub(super) struct SourceFiles {
    open: Mutex<HashMap<u32, Arc<File>>>,
    next: AtomicU32,
}

impl SourceFiles {
    fn remember(&self, source: u32, file: &Arc<File>) {
        let mut open = lock(&self.open);
        if open.len() >= MAX_OPEN_SOURCES
            && let Some(victim) = open.keys().next().copied()
        {
            // Any one will do: readers keep their own handle.
            open.remove(&victim);
        }
        open.insert(source, Arc::clone(file));
    }

    /// A number that no file kept in place has had since the store was opened, above `last`.
    fn new_number(&self, last: Option<u32>) -> u32 {
        self.next
            .fetch_max(last.map_or(0, |last| last + 1), Ordering::Relaxed);
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn forget(&self, source: u32) {
        lock(&self.open).remove(&source);
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

impl Core {
    /// Reads from a source; the caller checks the bytes.
    pub(super) fn read_source(&self, extent: Extent) -> Result<Bytes, StoreError> {
        let (file, path) = self.open_source(extent.source)?;
        let mut bytes = self.packs.buffers.take(extent.len_bytes as usize);
        let read = file.read_exact_at(&mut bytes, extent.offset);
        read.map_err(|source| StoreError::Io {
            action: "read a file kept in place,",
            path: path.unwrap_or_default(),
            source,
        })?;
        Ok(bytes.freeze())
    }

    /// The open file, and its path when that had to be looked up.
    fn open_source(&self, source: u32) -> Result<(Arc<File>, Option<PathBuf>), StoreError> {
        if let Some(file) = lock(&self.sources.open).get(&source) {
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
        let account = self.read(&entry::source_key(source), SourceAccount::decode)?;
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

    /// The index is to forget a source with its next batch.
    pub(super) fn forget_source(&self, committed: &mut Committed, source: u32) {
        committed.ledger.forget_source(source);
        self.sources.forget(source);
    }

    /// Removes the file of a source that the index has forgotten, when it is the store's own.
    pub(super) fn remove_source(&self, source: u32) {
        if is_clone(source) {
            self.clones.remove(source);
        }
    }
}
