//! Files: their entries, manifests and references.
//!
//! Adding: manifest and entry records to the pack, synced; then references, then the entry, in the
//! index. Removing: tombstone to the pack, synced; then the entry, then the references. So a reference
//! count may be too high after a crash, and never too low.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::core::{BATCH_CHUNKS, Committed, Core, Extra};
use super::entry::{self, ChunkEntry, FileEntry, FileSource, FileState, FileValue, SourceState};
use super::pack::{Location, RecordKind};
use super::source::Sourced;
use super::{Removed, lock, unix_ms};
use crate::bitmap::HaveBitmap;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::manifest::Manifest;
use crate::name::is_valid_hint;

/// Chunks that are looked at without letting others have their turn.
const RELEASE_STEP: usize = 4096;

/// The last use of a file is noted at most this often.
const TOUCH_MS: u64 = 60_000;

impl Core {
    /// A file's entry and where its record is; its last use is not looked up.
    pub(super) fn file_value(&self, address: &Address) -> Result<Option<FileValue>, StoreError> {
        let value = self.noting(self.index.get(&entry::file_key(address)))?;
        self.noting(value.as_deref().map(FileValue::decode).transpose())
    }

    pub(crate) fn file(&self, address: &Address) -> Result<Option<FileEntry>, StoreError> {
        let value = self.file_value(address)?;
        value
            .map(|value| self.with_last_use(value.entry))
            .transpose()
    }

    pub(crate) fn files(&self) -> Result<Vec<FileEntry>, StoreError> {
        let mut files = Vec::new();
        self.noting(self.index.scan(entry::FILE_PREFIX, &mut |_, value| {
            files.push(FileValue::decode(value)?.entry);
            Ok(ControlFlow::Continue(()))
        }))?;
        let files = files.into_iter().map(|entry| self.with_last_use(entry));
        files.collect()
    }

    fn with_last_use(&self, mut file: FileEntry) -> Result<FileEntry, StoreError> {
        let value = self.noting(self.index.get(&entry::last_use_key(&file.address)))?;
        if let Some(value) = value {
            let noted = self.noting(entry::decode_time(&value))?;
            file.last_used_unix_ms = file.last_used_unix_ms.max(noted);
        }
        Ok(file)
    }

    /// Notes that a file was used. A clock that was set back changes nothing.
    pub(crate) fn touch(&self, address: &Address) -> Result<(), StoreError> {
        let now = unix_ms();
        let Some(file) = self.file(address)? else {
            return Ok(());
        };
        if self.is_read_only() || now < file.last_used_unix_ms.saturating_add(TOUCH_MS) {
            return Ok(());
        }
        self.check_writable()?;
        let op = (
            entry::last_use_key(address),
            Some(now.to_le_bytes().to_vec()),
        );
        self.apply(vec![op])
    }

    pub(crate) fn have(&self, manifest: &Manifest) -> Result<HaveBitmap, StoreError> {
        let mut have = HaveBitmap::new(manifest.chunks().len());
        for (index, chunk) in manifest.chunks().iter().enumerate() {
            if self.has(&chunk.hash)? {
                have.set(index);
            }
        }
        Ok(have)
    }

    /// Distinct chunks of a manifest that are not durably here.
    fn missing_chunks(&self, manifest: &Manifest) -> Result<usize, StoreError> {
        let mut missing = 0;
        for hash in distinct(manifest) {
            if self.indexed(&hash)?.is_none_or(|entry| entry.bad) {
                missing += 1;
            }
        }
        Ok(missing)
    }

    pub(crate) fn add_file(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
        pinned: bool,
    ) -> Result<FileEntry, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let old = self.file(&manifest.address())?;
        if let Some(old) = &old
            && old.state == FileState::Complete
            && ((old.manifest == manifest.id() && self.is_listed(old)?) || self.is_whole(old)?)
        {
            return self.update_entry(&mut committed, &old.address, name, pinned);
        }
        self.require_chunks(manifest)?;
        self.replace(&mut committed, manifest, name, pinned, FileState::Complete)
    }

    pub(crate) fn begin_partial(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
    ) -> Result<FileEntry, StoreError> {
        let mut committed = lock(&self.commit);
        let old = self.file(&manifest.address())?;
        if let Some(old) = &old
            && ((old.manifest == manifest.id() && self.is_listed(old)?)
                || (old.state == FileState::Complete && self.is_whole(old)?))
        {
            return Ok(old.clone());
        }
        // A complete file whose manifest was damaged stays one: its references are counted.
        let repaired = old.as_ref().filter(|old| old.manifest == manifest.id());
        let state = repaired.map_or(FileState::Partial, |old| old.state);
        self.replace(&mut committed, manifest, name, false, state)
    }

    pub(crate) fn complete_partial(
        &self,
        address: &Address,
        pinned: bool,
    ) -> Result<FileEntry, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let old = self.file(address)?;
        let old = old.filter(|old| old.state != FileState::Remnant);
        let old = old.ok_or(StoreError::UnknownFile(*address))?;
        let manifest = self.manifest_of(&old)?;
        self.require_chunks(&manifest)?;
        if old.state == FileState::Complete {
            return self.update_entry(&mut committed, address, None, pinned);
        }
        self.replace(&mut committed, &manifest, None, pinned, FileState::Complete)
    }

    fn require_chunks(&self, manifest: &Manifest) -> Result<(), StoreError> {
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

    /// Changes name and pin of an entry that stays otherwise; pins are only added here. A source that
    /// nothing is read from any more, because all was copied since, is given up.
    pub(super) fn update_entry(
        &self,
        committed: &mut Committed,
        address: &Address,
        name: Option<&str>,
        pinned: bool,
    ) -> Result<FileEntry, StoreError> {
        let old = self.file_value(address)?;
        let old = old.ok_or(StoreError::UnknownFile(*address))?;
        let mut new = old.entry.clone();
        new.pinned |= pinned;
        new.name = valid_name(name).or(new.name);
        if let Some(id) = new.intact_source()
            && committed
                .ledger
                .sources()
                .get(&id)
                .is_none_or(|source| source.live_bytes == 0)
        {
            new.source = None;
            self.end_source(committed, id);
        }
        self.rewrite_entry(committed, &old, new)
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
        let new = FileEntry {
            pinned,
            ..old.entry.clone()
        };
        self.rewrite_entry(&mut committed, &old, new).map(Some)
    }

    fn rewrite_entry(
        &self,
        committed: &mut Committed,
        old: &FileValue,
        new: FileEntry,
    ) -> Result<FileEntry, StoreError> {
        if new != old.entry {
            let mut extra = Extra::default();
            self.append_entry(&mut extra, &new)?;
            self.flush(committed, extra)?;
            self.packs.free(&[old.at])?;
        }
        self.with_last_use(new)
    }

    /// Puts an entry with this manifest in the place of the one there is, and drops what only that one
    /// needed.
    pub(super) fn replace(
        &self,
        committed: &mut Committed,
        manifest: &Manifest,
        name: Option<&str>,
        pinned: bool,
        state: FileState,
    ) -> Result<FileEntry, StoreError> {
        let new = Replacement {
            manifest,
            name,
            pinned,
            state,
            source: None,
            sourced: Sourced::default(),
        };
        self.put_in_place_of_old(committed, new)
    }

    /// The same for a complete file whose `sourced` chunks are in `source`.
    pub(super) fn replace_with_source(
        &self,
        committed: &mut Committed,
        manifest: &Manifest,
        name: Option<&str>,
        pinned: bool,
        source: FileSource,
        sourced: Sourced,
    ) -> Result<FileEntry, StoreError> {
        let new = Replacement {
            manifest,
            name,
            pinned,
            state: FileState::Complete,
            source: Some(source),
            sourced,
        };
        self.put_in_place_of_old(committed, new)
    }

    fn put_in_place_of_old(
        &self,
        committed: &mut Committed,
        new: Replacement<'_>,
    ) -> Result<FileEntry, StoreError> {
        let Replacement {
            manifest, state, ..
        } = new;
        let old = self.file_value(&manifest.address())?;
        let old_at = old.as_ref().map(|old| old.at);
        let old = old.map(|old| old.entry);
        let same_manifest = old
            .as_ref()
            .is_some_and(|old| old.manifest == manifest.id());
        let replaced = old.as_ref().filter(|_| !same_manifest);
        let dropped = replaced.map(|old| self.listed_chunks(old)).transpose()?;
        if let Some(old) = &old {
            // All of it: the new entry may list it, and nobody else keeps what is not copied.
            self.copy_out(committed, old, &|_, _| true)?;
            if let Some(id) = old.intact_source() {
                self.end_source(committed, id);
            }
        }
        let entry = FileEntry {
            address: manifest.address(),
            name: valid_name(new.name).or_else(|| old.as_ref().and_then(|old| old.name.clone())),
            size_bytes: manifest.size_bytes(),
            chunk_count: manifest.chunk_count(),
            manifest: manifest.id(),
            stored_unix_ms: old.as_ref().map_or_else(unix_ms, |old| old.stored_unix_ms),
            last_used_unix_ms: 0,
            pinned: new.pinned || old.as_ref().is_some_and(|old| old.pinned),
            state,
            source: match new.source {
                Some(source) => Some(source),
                // A source that is lost is remembered until the file is whole again.
                None if state != FileState::Complete => lost_source(old.as_ref()),
                None => None,
            },
        };
        let mut extra = Extra {
            sourced: new.sourced.absent,
            moved: new.sourced.moved,
            ..Extra::default()
        };
        let mut freed: Vec<Location> = Vec::new();
        let is_recorded = match &old {
            Some(old) => same_manifest && self.is_listed(old)?,
            None => false,
        };
        if !is_recorded {
            let (id, bytes) = (manifest.id(), manifest.encode());
            if let Some(old) = replaced {
                freed.extend(self.forget_listing(&mut extra, old)?);
            } else {
                freed.extend(self.manifest_entry(&id)?.map(|damaged| damaged.at));
            }
            self.append_listing(&mut extra, entry.address, &id, bytes)?;
        }
        self.append_entry(&mut extra, &entry)?;
        let was_counted = old
            .as_ref()
            .is_some_and(|old| old.state == FileState::Complete);
        if state == FileState::Complete && !(same_manifest && was_counted) {
            extra.add_refs = distinct(manifest).into_iter().collect();
        }
        committed.wanted = None;
        self.flush(committed, extra)?;
        let dropped = dropped.unwrap_or_default().into_iter().collect();
        let (_, mut freed) = self.release(committed, dropped, was_counted, freed)?;
        // Whether the index has forgotten the old entry's record already does not matter: a newer one is
        // durable.
        freed.extend(old_at);
        self.packs.free(&freed)?;
        self.with_last_use(FileEntry {
            last_used_unix_ms: entry.stored_unix_ms,
            ..entry
        })
    }

    /// Appends a file's entry, and adds what the index is to say of it.
    pub(super) fn append_entry(
        &self,
        extra: &mut Extra,
        file: &FileEntry,
    ) -> Result<(), StoreError> {
        let value = file.encode();
        self.space.check_disk(value.len() as u64)?;
        let at = self
            .packs
            .append(RecordKind::File, blake3::hash(&value).as_bytes(), &value)?;
        let old = self.file_value(&file.address)?;
        extra.records.push((old.map(|old| old.at), Some(at)));
        let entry = file.clone();
        let value = FileValue { at, entry }.encode();
        extra
            .last
            .push((entry::file_key(&file.address), Some(value)));
        Ok(())
    }

    /// A few bytes: allowed to go where no chunk may, or a full store could not be emptied. Adds what the
    /// index is to forget.
    pub(super) fn append_tombstone(
        &self,
        extra: &mut Extra,
        old: &FileValue,
    ) -> Result<(), StoreError> {
        let address = old.entry.address;
        let digest = blake3::hash(address.as_bytes());
        self.packs
            .append(RecordKind::Tombstone, digest.as_bytes(), address.as_bytes())?;
        extra.records.push((Some(old.at), None));
        extra.last.push((entry::file_key(&address), None));
        extra.last.push((entry::last_use_key(&address), None));
        Ok(())
    }

    pub(crate) fn remove_file(&self, address: &Address) -> Result<Option<Removed>, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let Some(old) = self.file_value(address)? else {
            return Ok(None);
        };
        let listed = self.listed_chunks(&old.entry)?;
        let counted = old.entry.state == FileState::Complete;
        self.copy_out_for_others(&mut committed, &old.entry)?;
        let mut freed = vec![old.at];
        let mut extra = Extra::default();
        freed.extend(self.forget_listing(&mut extra, &old.entry)?);
        self.append_tombstone(&mut extra, &old)?;
        committed.wanted = None;
        self.flush(&mut committed, extra)?;
        let hashes = listed.into_iter().collect();
        let (removed, freed) = self.release(&mut committed, hashes, counted, freed)?;
        if let Some(id) = old.entry.intact_source() {
            self.end_source(&mut committed, id);
            self.apply_counted(&mut committed, Vec::new())?;
        }
        drop(committed);
        self.packs.free(&freed)?;
        self.measure();
        Ok(Some(removed))
    }

    /// Before a file goes: what others need of its source.
    fn copy_out_for_others(
        &self,
        committed: &mut Committed,
        file: &FileEntry,
    ) -> Result<(), StoreError> {
        if file.intact_source().is_none() {
            return Ok(());
        }
        let wanted = self.wanted_by_partials(committed)?;
        let own = u32::from(file.state == FileState::Complete);
        let needed = |hash: &ChunkHash, chunk: &ChunkEntry| {
            chunk.refs > own || wanted.contains(hash) || lock(&self.holds).protects(hash)
        };
        self.copy_out(committed, file, &needed)
    }

    pub(crate) fn drop_unreferenced(&self, hashes: &[ChunkHash]) -> Result<Removed, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let distinct: HashSet<ChunkHash> = hashes.iter().copied().collect();
        let hashes = distinct.into_iter().collect();
        let (removed, freed) = self.release(&mut committed, hashes, false, Vec::new())?;
        drop(committed);
        self.packs.free(&freed)?;
        Ok(removed)
    }

    pub(crate) fn drop_orphans(&self) -> Result<Removed, StoreError> {
        self.commit()?;
        let mut candidates = Vec::new();
        self.noting(self.index.scan(entry::CHUNK_PREFIX, &mut |key, value| {
            if ChunkEntry::decode(value)?.refs == 0 {
                candidates.push(entry::chunk_of_key(key)?);
            }
            Ok(ControlFlow::Continue(()))
        }))?;
        // Looked at again there, under the lock, which others get in between.
        let mut removed = Removed::default();
        for part in candidates.chunks(RELEASE_STEP) {
            let part = self.drop_unreferenced(part)?;
            removed.freed_bytes += part.freed_bytes;
            removed.freed_chunks.extend(part.freed_chunks);
        }
        Ok(removed)
    }

    /// Takes a reference from each of these chunks (when `counted`), and durably forgets those that
    /// nothing needs any more. Returns their records, added to `freed`: their space may be given back,
    /// which needs no lock.
    pub(super) fn release(
        &self,
        committed: &mut Committed,
        hashes: Vec<ChunkHash>,
        counted: bool,
        mut freed: Vec<Location>,
    ) -> Result<(Removed, Vec<Location>), StoreError> {
        let wanted = if hashes.is_empty() {
            Arc::default()
        } else {
            self.wanted_by_partials(committed)?
        };
        let mut removed = Removed::default();
        for part in hashes.chunks(BATCH_CHUNKS) {
            // Held while the batch is applied: an import that asks later finds the chunk gone.
            let holds = lock(&self.holds);
            let mut ops = Vec::with_capacity(part.len() + 1);
            for hash in part {
                let Some(mut chunk) = self.indexed(hash)? else {
                    continue;
                };
                let old_refs = chunk.refs;
                chunk.refs = chunk.refs.saturating_sub(u32::from(counted));
                if chunk.refs > 0 || wanted.contains(hash) || holds.protects(hash) {
                    if chunk.refs != old_refs {
                        ops.push((entry::chunk_key(hash), Some(chunk.encode())));
                    }
                    continue;
                }
                ops.push((entry::chunk_key(hash), None));
                freed.extend(chunk.place.pack());
                removed.freed_bytes += u64::from(chunk.len_bytes());
                removed.freed_chunks.push(*hash);
                committed.ledger.chunk(Some(&chunk), None);
            }
            self.apply_counted(committed, ops)?;
        }
        if !freed.is_empty() {
            // Before the bytes go: a power cut must not bring an entry back whose bytes are gone.
            self.noting(self.index.sync())?;
        }
        Ok((removed, freed))
    }
}

/// What is put in the place of a file's entry.
struct Replacement<'a> {
    manifest: &'a Manifest,
    name: Option<&'a str>,
    pinned: bool,
    state: FileState,
    source: Option<FileSource>,
    /// Chunks of that source.
    sourced: Sourced,
}

fn lost_source(old: Option<&FileEntry>) -> Option<FileSource> {
    let source = old.and_then(|old| old.source.clone());
    source.filter(|source| source.state != SourceState::Intact)
}

fn valid_name(name: Option<&str>) -> Option<String> {
    name.filter(|name| is_valid_hint(name)).map(str::to_owned)
}

/// The chunks of a manifest, each once.
pub(super) fn distinct(manifest: &Manifest) -> HashSet<ChunkHash> {
    manifest.chunks().iter().map(|chunk| chunk.hash).collect()
}
