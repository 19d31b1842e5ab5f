//! Removing files and chunks: what nobody needs any more goes, and its space comes back.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::core::{BATCH_CHUNKS, Committed, Core, Extra};
use super::entry::{self, ChunkEntry, FileEntry, FileState};
use super::pack::Location;
use super::{Removed, lock};
use crate::error::StoreError;
use crate::id::{Address, ChunkHash, ManifestId};

/// Chunks that are looked at without letting others have their turn.
const RELEASE_STEP: usize = 4096;

impl Core {
    pub(crate) fn remove_file(&self, address: &Address) -> Result<Option<Removed>, StoreError> {
        self.remove_file_if(address, |_| true)
    }

    /// Removes a file if its entry, as it is then, may go.
    pub(super) fn remove_file_if(
        &self,
        address: &Address,
        may_go: impl FnOnce(&FileEntry) -> bool,
    ) -> Result<Option<Removed>, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let Some(old) = self.file_value(address)? else {
            return Ok(None);
        };
        if !may_go(&self.with_last_use(old.entry.clone())?) {
            return Ok(None);
        }
        let listed = self.listed_chunks(&old.entry)?;
        self.copy_out_for_others(&mut committed, &old.entry)?;
        let mut freed = vec![old.at];
        let mut extra = Extra::default();
        let counted = self.begin_release(&mut extra, &old.entry)?;
        freed.extend(self.forget_listing(&mut extra, &old.entry)?);
        self.append_tombstone(&mut extra, &old)?;
        let source = old.entry.intact_source();
        if let Some(id) = source {
            self.forget_source(&mut committed, id);
        }
        committed.wanted = None;
        self.flush(&mut committed, extra)?;
        let hashes = listed.into_iter().collect();
        let (removed, mut freed) = self.release(&mut committed, hashes, counted, freed)?;
        freed.extend(self.spend_tombstones(&mut committed)?);
        drop(committed);
        self.packs.free(&freed)?;
        if let Some(id) = source {
            self.remove_source(id);
        }
        self.drop_unfinished(address);
        if let Some(tombstone) = self.tombstone(address)? {
            // The entry's record is dead by now, durably: nothing is left to be kept from coming back.
            lock(&self.commit).spent.push((*address, tombstone));
        }
        self.measure();
        Ok(Some(removed))
    }

    /// Forgets the tombstones that are of no use any more; where their records are.
    fn spend_tombstones(&self, committed: &mut Committed) -> Result<Vec<Location>, StoreError> {
        let spent = std::mem::take(&mut committed.spent);
        let mut freed = Vec::with_capacity(spent.len());
        for (address, at) in spent {
            // The address may have been stored again, or the record moved.
            if self.tombstone(&address)? == Some(at) {
                committed.ledger.record(Some(at), None);
                let op = (entry::tombstone_key(&address), None);
                self.apply_counted(committed, vec![op])?;
                freed.push(at);
            }
        }
        Ok(freed)
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
        let (removed, freed) = self.release(&mut committed, hashes, None, Vec::new())?;
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
        mut freed: Vec<Location>,
    ) -> Result<(Removed, Vec<Location>), StoreError> {
        let wanted = if hashes.is_empty() {
            Arc::default()
        } else {
            self.wanted_by_partials(committed)?
        };
        let mut removed = Removed::default();
        for part in hashes.chunks(BATCH_CHUNKS) {
            self.space.check_index()?;
            // Held while the batch is applied: an import that asks later finds the chunk gone.
            let holds = lock(&self.holds);
            let mut ops = Vec::with_capacity(part.len() + 1);
            for hash in part {
                let Some(mut chunk) = self.indexed(hash)? else {
                    continue;
                };
                let old_refs = chunk.refs;
                chunk.refs = chunk.refs.saturating_sub(u32::from(counted.is_some()));
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
        if let Some(manifest) = counted {
            self.apply(vec![(entry::flux_key(&manifest), None)])?;
        }
        if !freed.is_empty() {
            // Before the bytes go: a power cut must not bring an entry back whose bytes are gone.
            self.sync_index()?;
        }
        Ok((removed, freed))
    }
}
