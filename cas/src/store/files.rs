//! Files: their entries, and what is done with them.
//!
//! Adding: manifest and entry records to the pack, synced; then references, then the entry, in the
//! index. Removing: tombstone to the pack, synced; then the entry, then the references. So a reference
//! count may be too high after a crash, and never too low.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::core::Core;
use super::entry::{self, Claim, FileEntry, FileState, FileValue};
use super::flush::Extra;
use super::lookup::ENTRIES_AT_ONCE;
use super::replace::Replacement;
use super::{Store, lock};
use crate::bitmap::HaveBitmap;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::manifest::Manifest;
use crate::name::is_valid_hint;

impl Core {
    /// A file's entry and where its record is; its last use is not looked up.
    pub(super) fn file_value(&self, address: &Address) -> Result<Option<FileValue>, StoreError> {
        self.read(&entry::file_key(address), FileValue::decode)
    }

    pub(crate) fn file(&self, address: &Address) -> Result<Option<FileEntry>, StoreError> {
        let value = self.file_value(address)?;
        value
            .map(|value| self.with_last_use(value.entry))
            .transpose()
    }

    pub(crate) fn files(&self) -> Result<Vec<FileEntry>, StoreError> {
        self.files_that(|_| true)
    }

    /// Visits all entries by address; last uses are not looked up.
    pub(super) fn each_file(
        &self,
        visit: &mut dyn FnMut(FileEntry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut visit = |_: &[u8], value: &[u8]| Ok(visit(FileValue::decode(value)?.entry));
        self.noting(self.index.scan(entry::FILE_PREFIX, &mut visit))
    }

    /// The entries that satisfy `holds`, by address.
    pub(super) fn files_that(
        &self,
        holds: impl Fn(&FileEntry) -> bool,
    ) -> Result<Vec<FileEntry>, StoreError> {
        let mut files = Vec::new();
        self.each_file(&mut |file| {
            if holds(&file) {
                files.push(file);
            }
            ControlFlow::Continue(())
        })?;
        for part in files.chunks_mut(ENTRIES_AT_ONCE) {
            self.note_last_uses(part)?;
        }
        Ok(files)
    }

    pub(super) fn with_last_use(&self, mut file: FileEntry) -> Result<FileEntry, StoreError> {
        self.note_last_uses([&mut file])?;
        Ok(file)
    }

    /// Looks up when these files were used last.
    pub(super) fn note_last_uses<'a>(
        &self,
        files: impl IntoIterator<Item = &'a mut FileEntry>,
    ) -> Result<(), StoreError> {
        let files: Vec<&mut FileEntry> = files.into_iter().collect();
        let keys: Vec<_> = files
            .iter()
            .map(|file| entry::last_use_key(&file.address))
            .collect();
        let noted = self.values(&keys, entry::decode_time)?;
        for (file, noted) in files.into_iter().zip(noted) {
            file.last_used_unix_ms = file.last_used_unix_ms.max(noted.unwrap_or(0));
        }
        Ok(())
    }

    /// Distinct chunks of a manifest that are not durably here.
    fn missing_chunks(&self, manifest: &Manifest) -> Result<usize, StoreError> {
        let hashes: Vec<ChunkHash> = distinct(manifest).into_iter().collect();
        let mut missing = 0;
        for part in hashes.chunks(ENTRIES_AT_ONCE) {
            let entries = self.chunk_entries(part)?.into_iter();
            missing += entries
                .filter(|chunk| chunk.as_ref().is_none_or(|chunk| chunk.bad))
                .count();
        }
        Ok(missing)
    }

    pub(super) fn require_chunks(&self, manifest: &Manifest) -> Result<(), StoreError> {
        match self.missing_chunks(manifest)? {
            0 => Ok(()),
            missing => Err(StoreError::MissingChunks {
                address: manifest.address(),
                missing,
            }),
        }
    }

    /// Whether the manifest and all chunks of a file are in order and stay here, as far as is known.
    pub(super) fn is_whole(&self, file: &FileEntry) -> Result<bool, StoreError> {
        match self.manifest_of(file) {
            Ok(manifest) => Ok(self.missing_chunks(&manifest)? == 0),
            Err(error) if error.is_corruption() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Store {
    /// Records a file whose chunks are all here. Durable when it returns.
    ///
    /// If the file is here already and whole, its manifest stays, and only name and claim are taken over.
    ///
    /// # Errors
    /// [`StoreError::MissingChunks`] when not all chunks are here.
    pub fn add_file(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let core = &self.core;
        core.room_for_metadata(manifest)?;
        let mut committed = lock(&core.commit);
        core.flush(&mut committed, Extra::default())?;
        let old = core.file(&manifest.address())?;
        if let Some(old) = &old
            && old.state == FileState::Complete
            && core.is_whole(old)?
        {
            return core.update_entry(&mut committed, &old.address, name, claim);
        }
        // Also when it is known under this manifest: a chunk may have been found damaged meanwhile.
        core.require_chunks(manifest)?;
        let new = Replacement::new(manifest, name, claim, FileState::Complete);
        core.replace(&mut committed, new)
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
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let core = &self.core;
        core.room_for_metadata(manifest)?;
        let mut committed = lock(&core.commit);
        let old = core.file(&manifest.address())?;
        if let Some(old) = &old
            && ((old.manifest == manifest.id() && core.is_listed(old)?)
                || (old.state == FileState::Complete && core.is_whole(old)?))
        {
            return if old.claim >= claim {
                Ok(old.clone())
            } else {
                core.update_entry(&mut committed, &old.address, None, claim)
            };
        }
        // A complete file whose manifest was damaged stays one: its references are counted.
        let repaired = old.as_ref().filter(|old| old.manifest == manifest.id());
        let state = repaired.map_or(FileState::Partial, |old| old.state);
        let new = Replacement::new(manifest, name, claim, state);
        core.replace(&mut committed, new)
    }

    /// Makes a download complete. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`] (also for a [`crate::FileState::Remnant`]), [`StoreError::MissingChunks`], or
    /// [`StoreError::CorruptManifest`], which a [`Store::begin_partial`] or [`Store::add_file`] mends.
    pub fn complete_partial(
        &self,
        address: &Address,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let core = &self.core;
        let mut committed = lock(&core.commit);
        core.flush(&mut committed, Extra::default())?;
        let old = core.file(address)?;
        let old = old.filter(|old| old.state != FileState::Remnant);
        let old = old.ok_or(StoreError::UnknownFile(*address))?;
        let manifest = core.manifest_of(&old)?;
        core.require_chunks(&manifest)?;
        if old.state == FileState::Complete {
            return core.update_entry(&mut committed, address, None, claim);
        }
        let new = Replacement::new(&manifest, None, claim, FileState::Complete);
        core.replace(&mut committed, new)
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

    /// The entries of files that were stored or fetched by themselves, by address: directories among them,
    /// but not what is here for directories alone.
    ///
    /// # Errors
    /// When the index fails.
    pub fn own_files(&self) -> Result<Vec<FileEntry>, StoreError> {
        self.core.files_that(FileEntry::is_own)
    }

    /// Visits all entries by address, without memory for all of them. Their last uses are not looked up:
    /// each is when the file was stored.
    ///
    /// # Errors
    /// When the index fails.
    pub fn for_each_file(
        &self,
        mut visit: impl FnMut(FileEntry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.core.each_file(&mut visit)
    }

    /// Which chunks of a manifest are here.
    ///
    /// # Errors
    /// When the index fails.
    pub fn have(&self, manifest: &Manifest) -> Result<HaveBitmap, StoreError> {
        let mut have = HaveBitmap::new(manifest.chunks().len());
        for (part, chunks) in manifest.chunks().chunks(ENTRIES_AT_ONCE).enumerate() {
            let hashes: Vec<ChunkHash> = chunks.iter().map(|chunk| chunk.hash).collect();
            for (within, is_here) in self.core.has_each(&hashes)?.into_iter().enumerate() {
                if is_here {
                    have.set(part * ENTRIES_AT_ONCE + within);
                }
            }
        }
        Ok(have)
    }
}

pub(super) fn valid_name(name: Option<&str>) -> Option<String> {
    name.filter(|name| is_valid_hint(name)).map(str::to_owned)
}

/// The chunks of a manifest, each once.
pub(super) fn distinct(manifest: &Manifest) -> HashSet<ChunkHash> {
    manifest.chunks().iter().map(|chunk| chunk.hash).collect()
}
