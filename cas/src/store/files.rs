//! Files: their entries, and what is done with them.
//!
//! Adding: manifest and entry records to the pack, synced; then references, then the entry, in the
//! index. Removing: tombstone to the pack, synced; then the entry, then the references. So a reference
//! count may be too high after a crash, and never too low.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::core::{Committed, Core};
use super::entry::{self, Claim, FileEntry, FileState, FileValue};
use super::flush::Extra;
use super::lookup::ENTRIES_AT_ONCE;
use super::replace::Replacement;
use super::{lock, unix_ms};
use crate::bitmap::HaveBitmap;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::manifest::Manifest;
use crate::name::is_valid_hint;

/// The last use of a file is noted at most this often.
const TOUCH_MS: u64 = 60_000;

/// Of the directories that list a file so many are looked at, and its use counts for so many.
const MAX_DIRECTORIES: usize = 128;

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

    /// The entries that this holds of, by address.
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

    /// Notes that a file was used, and with it the directories that list it. A clock that was set back
    /// changes nothing.
    pub(crate) fn touch(&self, address: &Address) -> Result<(), StoreError> {
        let now = unix_ms();
        let is_due = |file: &FileEntry| now >= file.last_used_unix_ms.saturating_add(TOUCH_MS);
        let Some(file) = self.file(address)?.filter(is_due) else {
            return Ok(());
        };
        if self.is_read_only() {
            return Ok(());
        }
        self.check_writable()?;
        self.space.check_index()?;
        let mut used = vec![file.address];
        for directory in self.keepers_of(address, MAX_DIRECTORIES)? {
            used.extend(self.file(&directory)?.filter(is_due).map(|_| directory));
        }
        let noted = Some(now.to_le_bytes().to_vec());
        let op = |address| (entry::last_use_key(address), noted.clone());
        self.apply(used.iter().map(op).collect())
    }

    pub(crate) fn have(&self, manifest: &Manifest) -> Result<HaveBitmap, StoreError> {
        let mut have = HaveBitmap::new(manifest.chunks().len());
        for (part, chunks) in manifest.chunks().chunks(ENTRIES_AT_ONCE).enumerate() {
            let hashes: Vec<ChunkHash> = chunks.iter().map(|chunk| chunk.hash).collect();
            for (within, is_here) in self.has_each(&hashes)?.into_iter().enumerate() {
                if is_here {
                    have.set(part * ENTRIES_AT_ONCE + within);
                }
            }
        }
        Ok(have)
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

    pub(crate) fn add_file(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        self.room_for_metadata(manifest)?;
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let old = self.file(&manifest.address())?;
        if let Some(old) = &old
            && old.state == FileState::Complete
            && self.is_whole(old)?
        {
            return self.update_entry(&mut committed, &old.address, name, claim);
        }
        // Also when it is known under this manifest: a chunk may have been found damaged meanwhile.
        self.require_chunks(manifest)?;
        let new = Replacement::new(manifest, name, claim, FileState::Complete);
        self.replace(&mut committed, new)
    }

    pub(crate) fn begin_partial(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        self.room_for_metadata(manifest)?;
        let mut committed = lock(&self.commit);
        let old = self.file(&manifest.address())?;
        if let Some(old) = &old
            && ((old.manifest == manifest.id() && self.is_listed(old)?)
                || (old.state == FileState::Complete && self.is_whole(old)?))
        {
            return if old.claim >= claim {
                Ok(old.clone())
            } else {
                self.update_entry(&mut committed, &old.address, None, claim)
            };
        }
        // A complete file whose manifest was damaged stays one: its references are counted.
        let repaired = old.as_ref().filter(|old| old.manifest == manifest.id());
        let state = repaired.map_or(FileState::Partial, |old| old.state);
        let new = Replacement::new(manifest, name, claim, state);
        self.replace(&mut committed, new)
    }

    pub(crate) fn complete_partial(
        &self,
        address: &Address,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let old = self.file(address)?;
        let old = old.filter(|old| old.state != FileState::Remnant);
        let old = old.ok_or(StoreError::UnknownFile(*address))?;
        let manifest = self.manifest_of(&old)?;
        self.require_chunks(&manifest)?;
        if old.state == FileState::Complete {
            return self.update_entry(&mut committed, address, None, claim);
        }
        let new = Replacement::new(&manifest, None, claim, FileState::Complete);
        self.replace(&mut committed, new)
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

    /// Changes name and claim of an entry that stays otherwise; a claim only grows here. A source that
    /// nothing is read from any more, because all was copied since, is given up.
    pub(super) fn update_entry(
        &self,
        committed: &mut Committed,
        address: &Address,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let old = self.file_value(address)?;
        let old = old.ok_or(StoreError::UnknownFile(*address))?;
        let mut new = old.entry.clone();
        new.claim = new.claim.max(claim);
        new.name = valid_name(name).or(new.name);
        if let Some(id) = new.intact_source()
            && committed
                .ledger
                .sources()
                .get(&id)
                .is_none_or(|source| source.live_bytes == 0)
        {
            new.source = None;
            self.forget_source(committed, id);
            let new = self.rewrite_entry(committed, &old, new)?;
            self.remove_source(id);
            return Ok(new);
        }
        self.rewrite_entry(committed, &old, new)
    }

    /// Gives a file that is here a name.
    pub(crate) fn set_name(&self, address: &Address, name: &str) -> Result<(), StoreError> {
        let mut committed = lock(&self.commit);
        let named = self.update_entry(&mut committed, address, Some(name), Claim::Member);
        named.map(drop)
    }

    /// Gives a file at least this claim. `None` when it is not here.
    pub(crate) fn claim_file(
        &self,
        address: &Address,
        claim: Claim,
    ) -> Result<Option<FileEntry>, StoreError> {
        match self.file(address)? {
            Some(file) if file.claim < claim => {
                let mut committed = lock(&self.commit);
                let claimed = self.update_entry(&mut committed, address, None, claim);
                claimed.map(Some)
            }
            file => Ok(file),
        }
    }

    /// Whether a file is pinned, or one of the directories that list it, as far as those are looked at.
    pub(crate) fn is_pinned(&self, address: &Address) -> Result<bool, StoreError> {
        let is_pinned = |address: &Address| -> Result<bool, StoreError> {
            Ok(self.file(address)?.is_some_and(|file| file.is_pinned()))
        };
        if is_pinned(address)? {
            return Ok(true);
        }
        for directory in self.keepers_of(address, MAX_DIRECTORIES)? {
            if is_pinned(&directory)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Pins a file, or lets go of it. `None` when it is not here.
    pub(crate) fn set_pinned(
        &self,
        address: &Address,
        pinned: bool,
    ) -> Result<Option<FileEntry>, StoreError> {
        let mut committed = lock(&self.commit);
        let Some(old) = self.file_value(address)? else {
            return Ok(None);
        };
        let claim = match (pinned, old.entry.claim) {
            (true, _) => Claim::Pinned,
            (false, Claim::Member) => Claim::Member,
            (false, Claim::Own | Claim::Pinned) => Claim::Own,
        };
        let new = FileEntry {
            claim,
            ..old.entry.clone()
        };
        self.rewrite_entry(&mut committed, &old, new).map(Some)
    }

    pub(super) fn rewrite_entry(
        &self,
        committed: &mut Committed,
        old: &FileValue,
        new: FileEntry,
    ) -> Result<FileEntry, StoreError> {
        if new != old.entry {
            self.rewrite_entry_with(committed, Extra::default(), old, &new)?;
        }
        self.with_last_use(new)
    }

    /// Puts a changed entry in the place of the old one, together with what else changes.
    pub(super) fn rewrite_entry_with(
        &self,
        committed: &mut Committed,
        mut extra: Extra,
        old: &FileValue,
        new: &FileEntry,
    ) -> Result<(), StoreError> {
        self.append_entry(&mut extra, new)?;
        self.flush(committed, extra)?;
        self.packs.free(&[old.at])
    }
}

pub(super) fn valid_name(name: Option<&str>) -> Option<String> {
    name.filter(|name| is_valid_hint(name)).map(str::to_owned)
}

/// The chunks of a manifest, each once.
pub(super) fn distinct(manifest: &Manifest) -> HashSet<ChunkHash> {
    manifest.chunks().iter().map(|chunk| chunk.hash).collect()
}
