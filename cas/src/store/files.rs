//! Files: their entries, manifests and references.
//!
//! Adding: manifest and entry records to the pack, synced; then references, then the entry, in the
//! index. Removing: tombstone to the pack, synced; then the entry, then the references. So a reference
//! count may be too high after a crash, and never too low.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::core::{BATCH_CHUNKS, Committed, Core, Extra};
use super::entry::{self, ChunkEntry, FileEntry, FileState};
use super::index::Op;
use super::pack::{Location, RecordKind};
use super::{Removed, lock, unix_ms};
use crate::bitmap::HaveBitmap;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::manifest::Manifest;
use crate::name::is_valid_hint;

impl Core {
    pub(crate) fn file(&self, address: &Address) -> Result<Option<FileEntry>, StoreError> {
        let value = self.noting(self.index.get(&entry::file_key(address)))?;
        self.noting(value.as_deref().map(FileEntry::decode).transpose())
    }

    pub(crate) fn files(&self) -> Result<Vec<FileEntry>, StoreError> {
        let mut files = Vec::new();
        self.noting(self.index.scan(entry::FILE_PREFIX, &mut |_, value| {
            files.push(FileEntry::decode(value)?);
            Ok(ControlFlow::Continue(()))
        }))?;
        Ok(files)
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
            return self.update_entry(&mut committed, old, name, pinned);
        }
        self.require_chunks(manifest)?;
        self.replace(
            &mut committed,
            old.as_ref(),
            manifest,
            name,
            pinned,
            FileState::Complete,
        )
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
        self.replace(&mut committed, old.as_ref(), manifest, name, false, state)
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
            return self.update_entry(&mut committed, &old, None, pinned);
        }
        self.replace(
            &mut committed,
            Some(&old),
            &manifest,
            None,
            pinned,
            FileState::Complete,
        )
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

    /// Whether the manifest and all chunks of a file are in order, as far as is known.
    fn is_whole(&self, file: &FileEntry) -> Result<bool, StoreError> {
        match self.manifest_of(file) {
            Ok(manifest) => Ok(self.have(&manifest)?.is_complete()),
            Err(error) if error.is_corruption() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes name and pin of an entry that stays otherwise; pins are only added here.
    fn update_entry(
        &self,
        committed: &mut Committed,
        old: &FileEntry,
        name: Option<&str>,
        pinned: bool,
    ) -> Result<FileEntry, StoreError> {
        let mut new = old.clone();
        new.pinned |= pinned;
        new.name = valid_name(name).or(new.name);
        if new != *old {
            let record = self.append_entry(&new)?;
            self.flush(
                committed,
                Extra {
                    last: vec![record],
                    ..Extra::default()
                },
            )?;
        }
        Ok(new)
    }

    /// Puts an entry with this manifest in the place of `old`, and drops what only `old` needed.
    fn replace(
        &self,
        committed: &mut Committed,
        old: Option<&FileEntry>,
        manifest: &Manifest,
        name: Option<&str>,
        pinned: bool,
        state: FileState,
    ) -> Result<FileEntry, StoreError> {
        let same_manifest = old.is_some_and(|old| old.manifest == manifest.id());
        let replaced = old.filter(|_| !same_manifest);
        let dropped = replaced.map(|old| self.listed_chunks(old)).transpose()?;
        let new = FileEntry {
            address: manifest.address(),
            name: valid_name(name).or_else(|| old.and_then(|old| old.name.clone())),
            size_bytes: manifest.size_bytes(),
            chunk_count: manifest.chunk_count(),
            manifest: manifest.id(),
            stored_unix_ms: old.map_or_else(unix_ms, |old| old.stored_unix_ms),
            pinned: pinned || old.is_some_and(|old| old.pinned),
            state,
        };
        let mut extra = Extra::default();
        let mut freed = Vec::new();
        let is_recorded = match old {
            Some(old) => same_manifest && self.is_listed(old)?,
            None => false,
        };
        if !is_recorded {
            let (id, bytes) = (manifest.id(), manifest.encode());
            extra
                .last
                .push(self.append_listing(new.address, &id, bytes)?);
            if let Some(old) = old {
                freed.extend(self.manifest_entry(&old.manifest)?.map(|entry| entry.at));
            }
            if let Some(old) = replaced {
                extra.last.push((entry::manifest_key(&old.manifest), None));
            }
        }
        extra.last.push(self.append_entry(&new)?);
        let was_counted = old.is_some_and(|old| old.state == FileState::Complete);
        if state == FileState::Complete && !(same_manifest && was_counted) {
            extra.add_refs = distinct(manifest).into_iter().collect();
        }
        self.flush(committed, extra)?;
        let dropped = dropped.unwrap_or_default().into_iter().collect();
        let (_, freed) = self.release(committed, dropped, was_counted, freed)?;
        self.packs.free(&freed)?;
        Ok(new)
    }

    pub(super) fn append_entry(&self, file: &FileEntry) -> Result<Op, StoreError> {
        let value = file.encode();
        self.space.check_append(value.len() as u64)?;
        self.packs
            .append(RecordKind::File, blake3::hash(&value).as_bytes(), &value)?;
        Ok((entry::file_key(&file.address), Some(value)))
    }

    /// A few bytes: allowed to go where no chunk may, or a full store could not be emptied.
    pub(super) fn append_tombstone(&self, address: &Address) -> Result<Op, StoreError> {
        let digest = blake3::hash(address.as_bytes());
        self.packs
            .append(RecordKind::Tombstone, digest.as_bytes(), address.as_bytes())?;
        Ok((entry::file_key(address), None))
    }

    pub(crate) fn remove_file(&self, address: &Address) -> Result<Option<Removed>, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let Some(file) = self.file(address)? else {
            return Ok(None);
        };
        let listed = self.listed_chunks(&file)?;
        let record = self.manifest_entry(&file.manifest)?;
        let last = vec![
            self.append_tombstone(address)?,
            (entry::manifest_key(&file.manifest), None),
        ];
        self.flush(
            &mut committed,
            Extra {
                last,
                ..Extra::default()
            },
        )?;
        let counted = file.state == FileState::Complete;
        let freed = record.map(|record| record.at).into_iter().collect();
        let hashes = listed.into_iter().collect();
        let (removed, freed) = self.release(&mut committed, hashes, counted, freed)?;
        drop(committed);
        self.packs.free(&freed)?;
        Ok(Some(removed))
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
        // Looked at again there, under the lock.
        self.drop_unreferenced(&candidates)
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
            HashSet::new()
        } else {
            self.wanted_by_partials()?
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
                chunk.refs = chunk.refs.saturating_sub(u32::from(counted));
                if chunk.refs > 0 || wanted.contains(hash) || holds.protects(hash) {
                    ops.push((entry::chunk_key(hash), Some(chunk.encode())));
                    continue;
                }
                ops.push((entry::chunk_key(hash), None));
                freed.push(chunk.at);
                removed.freed_bytes += u64::from(chunk.at.len_bytes);
                removed.freed_chunks.push(*hash);
                if !chunk.bad {
                    committed.totals.remove(&chunk);
                }
            }
            self.apply_with_totals(committed, ops)?;
        }
        if !freed.is_empty() {
            // Before the bytes go: a power cut must not bring an entry back whose bytes are gone.
            self.noting(self.index.sync())?;
        }
        Ok((removed, freed))
    }
}

fn valid_name(name: Option<&str>) -> Option<String> {
    name.filter(|name| is_valid_hint(name)).map(str::to_owned)
}

/// The chunks of a manifest, each once.
pub(super) fn distinct(manifest: &Manifest) -> HashSet<ChunkHash> {
    manifest.chunks().iter().map(|chunk| chunk.hash).collect()
}
