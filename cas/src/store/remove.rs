//! Removing files and chunks: what nobody needs any more goes, and its space comes back.

use std::collections::HashMap;
use std::sync::MutexGuard;

use super::core::{Committed, Core};
use super::entry::{self, ChunkEntry, Claim, FileEntry, FileState, FileValue, ManifestEntry};
use super::flush::{BATCH_CHUNKS, Extra};
use super::index::{MAX_BATCH_KEYS, Op};
use super::pack::{Location, RecordKind};
use super::{Removed, Store, lock};
use crate::error::StoreError;
use crate::id::{Address, ChunkHash, ManifestId};

/// Files of one batch of the index: each takes entry, last use, manifest and perhaps the account of a
/// directory away, adds a tombstone and a mark that references are being changed, and may change the counters
/// of two packs and a source.
const BATCH_FILES: usize = (MAX_BATCH_KEYS - 16) / 9;

/// What the index is to be told of a file that goes.
pub(super) struct Leaving {
    old: FileValue,
    listing: Option<ManifestEntry>,
    tombstone: Location,
}

impl Leaving {
    /// The manifest whose chunks it has references of.
    fn counted(&self) -> Option<ManifestId> {
        let is_counted = self.old.entry.state == FileState::Complete && self.listing.is_some();
        is_counted.then_some(self.old.entry.manifest)
    }
}

/// What is to be done for files that the index has durably forgotten, which needs no lock.
pub(super) struct Left {
    removed: Removed,
    /// Records whose space may be given back.
    freed: Vec<Location>,
    sources: Vec<u32>,
}

impl Core {
    /// The same if its entry, as it is then, may go. Whoever calls it measures afterwards.
    pub(super) fn remove_any(
        &self,
        address: &Address,
        may_go: &mut dyn FnMut(&FileEntry) -> Result<bool, StoreError>,
    ) -> Result<Option<Removed>, StoreError> {
        match self.file_value(address)? {
            None => Ok(None),
            Some(old) if old.entry.directory => self.remove_directory_if(address, may_go),
            Some(_) => self.remove_file_if(address, may_go),
        }
    }

    /// Takes the lock for the removal of a file. `None` when it is not here, or its entry, as it is then, may not go.
    #[allow(
        clippy::type_complexity,
        reason = "a lock and what was read under it, taken apart at once"
    )]
    pub(super) fn begin_removal(
        &self,
        address: &Address,
        may_go: &mut dyn FnMut(&FileEntry) -> Result<bool, StoreError>,
    ) -> Result<Option<(MutexGuard<'_, Committed>, FileValue)>, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let Some(old) = self.file_value(address)? else {
            return Ok(None);
        };
        let may_go = may_go(&self.with_last_use(old.entry.clone())?)?;
        Ok(may_go.then_some((committed, old)))
    }

    fn remove_file_if(
        &self,
        address: &Address,
        may_go: &mut dyn FnMut(&FileEntry) -> Result<bool, StoreError>,
    ) -> Result<Option<Removed>, StoreError> {
        let Some((mut committed, old)) = self.begin_removal(address, may_go)? else {
            return Ok(None);
        };
        if let Some(directory) = self.keeper_of(address)? {
            if !old.entry.is_own() {
                return Err(StoreError::IsMember {
                    address: *address,
                    directory,
                });
            }
            let new = FileEntry {
                claim: Claim::Member,
                ..old.entry.clone()
            };
            self.rewrite_entry(&mut committed, &old, new)?;
            return Ok(Some(Removed::only_claim(directory)));
        }
        let left = self.remove_entries(&mut committed, vec![old])?;
        drop(committed);
        self.finish_removal(left).map(Some)
    }

    /// Durably forgets these files, no address twice, and what only they needed. [`Core::finish_removal`]
    /// does the rest. The caller bounds how many they are, and has flushed.
    pub(super) fn remove_entries(
        &self,
        committed: &mut Committed,
        olds: Vec<FileValue>,
    ) -> Result<Left, StoreError> {
        let mut left = Left {
            removed: Removed::default(),
            freed: Vec::new(),
            sources: Vec::new(),
        };
        let mut fewer: HashMap<ChunkHash, u32> = HashMap::new();
        for FileValue { entry: old, .. } in &olds {
            self.copy_out_for_others(committed, old)?;
            left.sources.extend(old.intact_source());
            left.removed.files.push(old.address);
        }
        let mut appended = Vec::new();
        let leaving = olds.into_iter().map(|old| self.leave(old, &mut appended));
        let leaving = self.or_take_back(leaving.collect::<Result<Vec<_>, _>>(), &appended)?;
        for leaving in &leaving {
            left.freed.push(leaving.old.at);
            left.freed.extend(leaving.listing.as_ref().map(|l| l.at));
            let by = u32::from(leaving.counted().is_some());
            for hash in self.listed_chunks(&leaving.old.entry)? {
                *fewer.entry(hash).or_default() += by;
            }
            if leaving.old.entry.state != FileState::Complete {
                committed.wanted = None;
            }
        }
        let counted: Vec<ManifestId> = leaving.iter().filter_map(Leaving::counted).collect();
        let extra = Extra {
            leaving,
            appended,
            ..Extra::default()
        };
        self.flush(committed, extra)?;
        let fewer = fewer.into_iter().collect();
        let (released, freed) = self.release_all(committed, fewer, &counted, left.freed)?;
        left.removed.freed_chunks = released.freed_chunks;
        left.removed.freed_bytes = released.freed_bytes;
        left.freed = freed;
        left.freed.extend(self.spend_tombstones(committed)?);
        Ok(left)
    }

    /// Appends a tombstone: a few bytes, allowed to go where no chunk may, or a full store could not be
    /// emptied.
    fn leave(&self, old: FileValue, appended: &mut Vec<Location>) -> Result<Leaving, StoreError> {
        let address = old.entry.address;
        let digest = blake3::hash(address.as_bytes());
        let tombstone =
            self.collect(RecordKind::Tombstone, digest.as_bytes(), address.as_bytes())?;
        appended.push(tombstone);
        Ok(Leaving {
            listing: self.manifest_entry(&old.entry.manifest)?,
            old,
            tombstone,
        })
    }

    /// Tells the index of files that go, whose tombstones are durable.
    pub(super) fn index_leaving(
        &self,
        committed: &mut Committed,
        leaving: &[Leaving],
    ) -> Result<(), StoreError> {
        for part in leaving.chunks(BATCH_FILES) {
            let mut ops: Vec<Op> = Vec::with_capacity(part.len() * 6);
            for leaving in part {
                let file = &leaving.old.entry;
                if let Some(source) = file.intact_source() {
                    self.forget_source(committed, source);
                }
                if let Some(listing) = &leaving.listing {
                    committed.ledger.record(Some(listing.at), None);
                    ops.push((entry::manifest_key(&file.manifest), None));
                    if let Some(id) = leaving.counted() {
                        ops.push((entry::flux_key(&id), Some(listing.encode())));
                    }
                }
                committed.ledger.record(Some(leaving.old.at), None);
                committed.ledger.record(None, Some(leaving.tombstone));
                let tombstone = entry::encode_location(leaving.tombstone);
                ops.push((entry::tombstone_key(&file.address), Some(tombstone)));
                ops.push((entry::file_key(&file.address), None));
                ops.push((entry::last_use_key(&file.address), None));
                if file.directory {
                    ops.push((entry::directory_key(&file.address), None));
                }
            }
            self.apply_counted(committed, ops)?;
        }
        Ok(())
    }

    /// Gives back the space of files that were removed.
    pub(super) fn finish_removal(&self, left: Left) -> Result<Removed, StoreError> {
        self.packs.free(&left.freed)?;
        for source in left.sources {
            self.remove_source(source);
        }
        let mut spent = Vec::with_capacity(left.removed.files.len());
        for address in &left.removed.files {
            self.drop_unfinished(address);
            // The entry's record is dead by now, durably: nothing is left to be kept from coming back.
            spent.extend(self.tombstone(address)?.map(|at| (*address, at)));
        }
        lock(&self.commit).spent.extend(spent);
        Ok(left.removed)
    }

    /// Forgets the tombstones that are of no use any more; where their records are.
    fn spend_tombstones(&self, committed: &mut Committed) -> Result<Vec<Location>, StoreError> {
        let spent = std::mem::take(&mut committed.spent);
        let mut freed = Vec::with_capacity(spent.len());
        for part in spent.chunks(BATCH_CHUNKS) {
            let mut ops = Vec::with_capacity(part.len());
            for (address, at) in part {
                // The address may have been stored again, or the record moved.
                if self.tombstone(address)? == Some(*at) {
                    committed.ledger.record(Some(*at), None);
                    ops.push((entry::tombstone_key(address), None));
                    freed.push(*at);
                }
            }
            self.apply_counted(committed, ops)?;
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
}

impl Store {
    /// Forgets a file, and gives back the space of the chunks that no other file, unfinished download or
    /// running import needs. `None` when it is not here.
    ///
    /// A directory goes with the members that have no claim of their own and are in no other directory, in
    /// steps between which others have their turn; where it is interrupted, [`Store::drop_orphans`] does the
    /// rest. A file that a directory lists stays, and only its own claim goes ([`Removed::kept_by`]).
    ///
    /// # Errors
    /// [`StoreError::IsMember`] for a file that is here for a directory alone, or what the medium says.
    pub fn remove_file(&self, address: &Address) -> Result<Option<Removed>, StoreError> {
        let removed = self.core.remove_any(address, &mut |_| Ok(true));
        self.core.measure();
        removed
    }
}
