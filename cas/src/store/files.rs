//! Files: their entries, manifests and references.
//!
//! Adding: manifest and entry records to the pack, synced; then references, then the entry, in the
//! index. Removing: tombstone to the pack, synced; then the entry, then the references. So a reference
//! count may be too high after a crash, and never too low.

use std::collections::HashSet;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::core::{BATCH_CHUNKS, Committed, Core, Extra};
use super::entry::{self, FileEntry, FileState, INLINE_BYTES, ManifestEntry};
use super::index::Op;
use super::pack::{Location, RecordKind};
use super::{Removed, lock, unix_ms};
use crate::bitmap::HaveBitmap;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash, ManifestId};
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

    pub(crate) fn manifest_entry(
        &self,
        id: &ManifestId,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        let value = self.noting(self.index.get(&entry::manifest_key(id)))?;
        self.noting(value.as_deref().map(ManifestEntry::decode).transpose())
    }

    pub(crate) fn manifest(&self, address: &Address) -> Result<Option<Manifest>, StoreError> {
        let Some(file) = self.file(address)? else {
            return Ok(None);
        };
        self.manifest_of(&file).map(Some)
    }

    pub(super) fn manifest_of(&self, file: &FileEntry) -> Result<Manifest, StoreError> {
        let address = file.address;
        let damaged = |source| StoreError::CorruptManifest { address, source };
        let entry = self
            .manifest_entry(&file.manifest)?
            .ok_or_else(|| damaged(None))?;
        let intact = |bytes: &Bytes| ManifestId::of(bytes) == file.manifest;
        let bytes = match entry.inline.filter(intact) {
            Some(bytes) => bytes,
            None => self.packs.read(entry.at)?,
        };
        if !intact(&bytes) {
            return Err(damaged(None));
        }
        Manifest::decode_for(&address, &bytes).map_err(|error| damaged(Some(error)))
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
            && (old.manifest == manifest.id() || self.is_whole(old)?)
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
            && (old.manifest == manifest.id()
                || (old.state == FileState::Complete && self.is_whole(old)?))
        {
            return Ok(old.clone());
        }
        let pinned = old.as_ref().is_some_and(|old| old.pinned);
        self.replace(
            &mut committed,
            old.as_ref(),
            manifest,
            name,
            pinned,
            FileState::Partial,
        )
    }

    pub(crate) fn complete_partial(
        &self,
        address: &Address,
        pinned: bool,
    ) -> Result<FileEntry, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let old = self
            .file(address)?
            .ok_or(StoreError::UnknownFile(*address))?;
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
        let dropped = old.filter(|_| !same_manifest);
        let dropped = dropped
            .map(|old| self.tolerant_manifest(old))
            .transpose()?
            .flatten();
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
        if !same_manifest {
            extra.last.push(self.append_manifest(manifest)?);
            if let Some(old) = old {
                freed.extend(self.manifest_entry(&old.manifest)?.map(|entry| entry.at));
                extra.last.push((entry::manifest_key(&old.manifest), None));
            }
        }
        extra.last.push(self.append_entry(&new)?);
        let was_counted = old.is_some_and(|old| old.state == FileState::Complete);
        if state == FileState::Complete && !(same_manifest && was_counted) {
            extra.add_refs = distinct(manifest).into_iter().collect();
        }
        self.flush(committed, extra)?;
        let hashes = dropped.as_ref().map(distinct).unwrap_or_default();
        if old.is_some() && !same_manifest {
            let hashes = hashes.into_iter().collect();
            let (_, freed) = self.release(committed, hashes, was_counted, freed)?;
            self.packs.free(&freed)?;
        }
        Ok(new)
    }

    /// The manifest, or `None` when it is damaged: its chunks then stay until a full collection.
    fn tolerant_manifest(&self, file: &FileEntry) -> Result<Option<Manifest>, StoreError> {
        match self.manifest_of(file) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_corruption() => {
                tracing::warn!(address = %file.address, "damaged manifest: its chunks stay behind");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn append_manifest(&self, manifest: &Manifest) -> Result<Op, StoreError> {
        let bytes = manifest.encode();
        self.space.check_append(bytes.len() as u64)?;
        let at = self
            .packs
            .append(RecordKind::Manifest, manifest.id().as_bytes(), bytes)?;
        let inline = (bytes.len() <= INLINE_BYTES).then(|| bytes.clone());
        let value = ManifestEntry {
            address: manifest.address(),
            at,
            inline,
        }
        .encode();
        Ok((entry::manifest_key(&manifest.id()), Some(value)))
    }

    fn append_entry(&self, file: &FileEntry) -> Result<Op, StoreError> {
        let value = file.encode();
        self.space.check_append(value.len() as u64)?;
        self.packs
            .append(RecordKind::File, blake3::hash(&value).as_bytes(), &value)?;
        Ok((entry::file_key(&file.address), Some(value)))
    }

    pub(crate) fn remove_file(&self, address: &Address) -> Result<Option<Removed>, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let Some(file) = self.file(address)? else {
            return Ok(None);
        };
        let manifest = self.tolerant_manifest(&file)?;
        let record = self.manifest_entry(&file.manifest)?;
        // A few bytes: allowed to go where no chunk may, or a full store could not be emptied.
        let digest = blake3::hash(address.as_bytes());
        self.packs
            .append(RecordKind::Tombstone, digest.as_bytes(), address.as_bytes())?;
        let last = vec![
            (entry::file_key(address), None),
            (entry::manifest_key(&file.manifest), None),
        ];
        self.flush(
            &mut committed,
            Extra {
                last,
                ..Extra::default()
            },
        )?;
        let hashes = manifest.as_ref().map(distinct).unwrap_or_default();
        let counted = file.state == FileState::Complete;
        let freed = record.map(|record| record.at).into_iter().collect();
        let hashes = hashes.into_iter().collect();
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

    /// Takes a reference from each of these chunks (when `counted`), and durably forgets those that
    /// nothing needs any more. Returns their records, added to `freed`: their space may be given back,
    /// which needs no lock.
    fn release(
        &self,
        committed: &mut Committed,
        hashes: Vec<ChunkHash>,
        counted: bool,
        mut freed: Vec<Location>,
    ) -> Result<(Removed, Vec<Location>), StoreError> {
        let wanted = self.wanted_by_partials()?;
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

    /// The chunks of unfinished downloads: kept though no complete file refers to them.
    fn wanted_by_partials(&self) -> Result<HashSet<ChunkHash>, StoreError> {
        let mut wanted = HashSet::new();
        for file in self.files()? {
            if file.state == FileState::Partial
                && let Some(manifest) = self.tolerant_manifest(&file)?
            {
                wanted.extend(manifest.chunks().iter().map(|chunk| chunk.hash));
            }
        }
        Ok(wanted)
    }
}

fn valid_name(name: Option<&str>) -> Option<String> {
    name.filter(|name| is_valid_hint(name)).map(str::to_owned)
}

/// The chunks of a manifest, each once.
pub(super) fn distinct(manifest: &Manifest) -> HashSet<ChunkHash> {
    manifest.chunks().iter().map(|chunk| chunk.hash).collect()
}
