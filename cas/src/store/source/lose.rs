//! Sources that are not what they were.

use std::path::PathBuf;

use super::super::core::{Committed, Core};
use super::super::entry::{self, ChunkEntry, Extent, FileState, Place, SourceAccount, SourceState};
use super::super::flush::{BATCH_CHUNKS, Extra};
use super::super::types::LostSource;
use super::is_clone;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::store::{Store, lock};

impl Core {
    /// A chunk is not what it was: nothing of its source is believed any more.
    pub(in crate::store) fn distrust_source(
        &self,
        hash: &ChunkHash,
        extent: Extent,
    ) -> Result<(), StoreError> {
        let account = self.read(&entry::source_key(extent.source), SourceAccount::decode)?;
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
        self.lose_source(&account.address, extent.source, Some(state))
            .map(drop)
    }

    /// Compares every source with what it was; those that are not are given up.
    pub(crate) fn check_sources(&self) -> Result<Vec<LostSource>, StoreError> {
        let sources: Vec<(u32, Address)> = {
            let committed = lock(&self.commit);
            let sources = committed.ledger.sources().iter();
            sources
                .map(|(id, account)| (*id, account.address))
                .collect()
        };
        let mut lost = Vec::new();
        for (id, address) in sources {
            let source = self.file(&address)?.and_then(|file| file.source);
            let source = source.filter(|source| source.file.id == id);
            if source.is_some_and(|source| self.look(&source) != SourceState::Intact) {
                lost.extend(self.lose_source(&address, id, None)?);
            }
        }
        Ok(lost)
    }

    /// Makes everything that this source of a file held count as absent. `state` is what a read found; else
    /// it is looked again. `None` when the file has another source by now, or it is intact after all.
    pub(in crate::store) fn lose_source(
        &self,
        address: &Address,
        source: u32,
        state: Option<SourceState>,
    ) -> Result<Option<LostSource>, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let found = self.file(address)?.and_then(|file| file.source);
        let Some(found) = found.filter(|found| found.file.id == source) else {
            return Ok(None);
        };
        match state.unwrap_or_else(|| self.look(&found)) {
            SourceState::Intact => Ok(None),
            state => self.lose_source_locked(&mut committed, address, state),
        }
    }

    pub(in crate::store) fn lose_source_locked(
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
        self.find_elsewhere(committed, id, &listed)?;
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
        tracing::debug!(%address, path = %path.display(), ?state, "a file kept in place is not what it was");
        self.forget_source(committed, id);
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
        self.remove_source(id);
        Ok(Some(LostSource {
            address: *address,
            path,
            state,
            chunks: lost_chunks,
        }))
    }
}

impl Store {
    /// Compares the file that this one is kept in, if it is kept in place, with what it was, as
    /// [`Store::check_sources`] does with all.
    ///
    /// # Errors
    /// What the medium says.
    pub fn check_source(&self, address: &Address) -> Result<(), StoreError> {
        let core = &self.core;
        let source = core.file(address)?.and_then(|file| file.source);
        let source = source.filter(|source| core.look(source) != SourceState::Intact);
        match source {
            Some(source) => core.lose_source(address, source.file.id, None).map(drop),
            None => Ok(()),
        }
    }

    /// Compares every file kept in place with what it was. Those that changed or vanished become
    /// [`crate::FileState::Partial`], and what only they held counts as absent.
    ///
    /// # Errors
    /// What the medium says.
    pub fn check_sources(&self) -> Result<Vec<LostSource>, StoreError> {
        self.core.check_sources()
    }
}
