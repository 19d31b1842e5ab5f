//! Giving back the space of chunks that nobody needs any more.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::core::{Committed, Core};
use super::entry::{self, ChunkEntry, FileEntry, FileState};
use super::flush::{BATCH_CHUNKS, Extra};
use super::index::MAX_BATCH_KEYS;
use super::pack::Location;
use super::{Removed, Store, lock};
use crate::error::StoreError;
use crate::id::{ChunkHash, ManifestId};

/// Chunks that are looked at without letting others have their turn.
const RELEASE_STEP: usize = 4096;

impl Core {
    /// Adds that the references of an entry's chunks are about to go, if they are counted: to be taken by
    /// [`Core::release`].
    pub(super) fn begin_release(
        &self,
        extra: &mut Extra,
        file: &FileEntry,
    ) -> Result<Option<ManifestId>, StoreError> {
        let listing = match file.state {
            FileState::Complete => self.manifest_entry(&file.manifest)?,
            _ => None,
        };
        Ok(listing.map(|listing| {
            let key = entry::flux_key(&file.manifest);
            extra.last.push((key, Some(listing.encode())));
            file.manifest
        }))
    }

    /// Takes a reference from each of these chunks, when those of the manifest that lists them are
    /// `counted`, and durably forgets those that nothing needs any more. Returns their records, added to
    /// `freed`: their space may be given back, which needs no lock.
    pub(super) fn release(
        &self,
        committed: &mut Committed,
        hashes: Vec<ChunkHash>,
        counted: Option<ManifestId>,
        freed: Vec<Location>,
    ) -> Result<(Removed, Vec<Location>), StoreError> {
        let by = u32::from(counted.is_some());
        let fewer = hashes.into_iter().map(|hash| (hash, by)).collect();
        self.release_all(committed, fewer, counted.as_slice(), freed)
    }

    /// The same for chunks of several manifests: each loses as many references as stand beside it.
    pub(super) fn release_all(
        &self,
        committed: &mut Committed,
        fewer: Vec<(ChunkHash, u32)>,
        counted: &[ManifestId],
        mut freed: Vec<Location>,
    ) -> Result<(Removed, Vec<Location>), StoreError> {
        let wanted = if fewer.is_empty() {
            Arc::default()
        } else {
            self.wanted_by_partials(committed)?
        };
        let mut removed = Removed::default();
        for part in fewer.chunks(BATCH_CHUNKS) {
            self.space.check_index()?;
            // Held while the batch is applied: an import that asks later finds the chunk gone.
            let holds = lock(&self.holds);
            let mut ops = Vec::with_capacity(part.len() + 1);
            for (hash, by) in part {
                let Some(mut chunk) = self.indexed(hash)? else {
                    continue;
                };
                let old_refs = chunk.refs;
                chunk.refs = chunk.refs.saturating_sub(*by);
                if chunk.refs > 0 || wanted.contains(hash) || holds.protects(hash) {
                    if chunk.refs != old_refs {
                        ops.push((entry::chunk_key(hash), Some(chunk.encode())));
                    }
                    continue;
                }
                ops.push((entry::chunk_key(hash), None));
                if !chunk.bad {
                    freed.extend(chunk.place.pack());
                }
                removed.freed_bytes += u64::from(chunk.len_bytes());
                removed.freed_chunks.push(*hash);
                committed.ledger.chunk(Some(&chunk), None);
            }
            self.apply_counted(committed, ops)?;
        }
        for part in counted.chunks(MAX_BATCH_KEYS) {
            let done = part
                .iter()
                .map(|manifest| (entry::flux_key(manifest), None));
            self.apply(done.collect())?;
        }
        if !freed.is_empty() {
            // Before the bytes go: a power cut must not bring an entry back whose bytes are gone.
            self.sync_index()?;
        }
        Ok((removed, freed))
    }

    pub(crate) fn drop_unreferenced(&self, hashes: &[ChunkHash]) -> Result<Removed, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let distinct: HashSet<ChunkHash> = hashes.iter().copied().collect();
        let hashes = distinct.into_iter().collect();
        let (removed, freed) = self.release(&mut committed, hashes, None, Vec::new())?;
        drop(committed);
        self.packs.free(&freed)?;
        Ok(removed)
    }

    pub(crate) fn drop_orphans(&self) -> Result<Removed, StoreError> {
        self.commit()?;
        let mut removed = self.sweep_members()?;
        let mut candidates = Vec::new();
        self.noting(self.index.scan(entry::CHUNK_PREFIX, &mut |key, value| {
            if ChunkEntry::decode(value)?.refs == 0 {
                candidates.push(entry::chunk_of_key(key)?);
            }
            Ok(ControlFlow::Continue(()))
        }))?;
        // Looked at again there, under the lock, which others get in between.
        for part in candidates.chunks(RELEASE_STEP) {
            removed.add(self.drop_unreferenced(part)?);
        }
        Ok(removed)
    }
}

impl Store {
    /// Gives back the space of those of these chunks that nothing needs: fetched under a manifest that
    /// proved forged, for example.
    ///
    /// # Errors
    /// What the medium says.
    pub fn drop_unreferenced(&self, hashes: &[ChunkHash]) -> Result<Removed, StoreError> {
        self.core.drop_unreferenced(hashes)
    }

    /// Gives back the space of all chunks that nothing needs: left by a crash in the middle of an import,
    /// or put for a download whose entry was removed meanwhile; and before that, of members that no directory
    /// lists, unless somebody holds them ([`Store::hold_members`]). Visits every file and chunk of the index.
    ///
    /// # Errors
    /// What the medium says.
    pub fn drop_orphans(&self) -> Result<Removed, StoreError> {
        self.core.drop_orphans()
    }
}
