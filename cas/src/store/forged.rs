//! Downloads whose manifest turned out forged: what is proven of them outlives the manifest.

use std::collections::HashSet;

use super::core::{Committed, Core};
use super::entry::{FileEntry, FileState, FileValue};
use super::flush::Extra;
use super::listing::encode_list;
use super::{Removed, Store, lock};
use crate::bitmap::HaveBitmap;
use crate::error::StoreError;
use crate::id::{ChunkHash, ManifestId};
use crate::manifest::Manifest;

impl Core {
    /// Puts a remnant in the place of an unfinished download; no entry, and false, when there is nothing
    /// to keep, or no space to note it.
    fn leave_remnant(
        &self,
        committed: &mut Committed,
        old: &FileValue,
        kept: &HashSet<ChunkHash>,
    ) -> Result<bool, StoreError> {
        let mut here = Vec::with_capacity(kept.len());
        for hash in kept {
            if self.indexed(hash)?.is_some_and(|chunk| !chunk.bad) {
                here.push(*hash);
            }
        }
        here.sort_unstable();
        let mut extra = Extra::default();
        let mut keeps = false;
        if !here.is_empty() {
            match self.append_remnant(&mut extra, &old.entry, &here) {
                Ok(()) => keeps = true,
                Err(error) if error.is_no_space() => extra = Extra::default(),
                Err(error) => return Err(error),
            }
        }
        self.forget_listing(&mut extra, &old.entry)?;
        if !keeps {
            self.append_tombstone(&mut extra, old)?;
        }
        committed.wanted = None;
        self.flush(committed, extra)?;
        Ok(keeps)
    }

    fn append_remnant(
        &self,
        extra: &mut Extra,
        old: &FileEntry,
        here: &[ChunkHash],
    ) -> Result<(), StoreError> {
        let list = encode_list(&old.address, here);
        let remnant = FileEntry {
            chunk_count: u32::try_from(here.len()).unwrap_or(u32::MAX),
            manifest: ManifestId::of(&list),
            state: FileState::Remnant,
            ..old.clone()
        };
        self.append_listing(extra, old.address, &remnant.manifest, &list)?;
        self.append_entry(extra, &remnant)
    }
}

impl Store {
    /// Forgets the forged manifest of a download. `keep` are the chunks, by index in it, that are proven
    /// to be the file's own bytes; one that is not here is not kept.
    ///
    /// If the address still names this manifest and is [`crate::FileState::Partial`], the manifest goes with all
    /// its chunks that nothing else needs, and the kept ones stay behind under a durable entry of state
    /// [`crate::FileState::Remnant`], which has no manifest. The next [`Store::begin_partial`] or
    /// [`Store::add_file`] of the address takes those over that its manifest lists, and drops the others.
    /// When none ever follows, [`Store::remove_file`] gives their space back. With nothing to keep, or no
    /// space to note it, no entry stays behind.
    ///
    /// If the address has another manifest or is complete, only chunks that are not kept go. If it has no
    /// entry any more, all that nothing needs go.
    ///
    /// # Errors
    /// What the medium says.
    pub fn forget_forged(
        &self,
        manifest: &Manifest,
        keep: &HaveBitmap,
    ) -> Result<Removed, StoreError> {
        let core = &self.core;
        let chunks = manifest.chunks();
        let (mut kept, mut dropped) = (HashSet::new(), HashSet::new());
        kept.extend(
            keep.iter_ones()
                .filter_map(|index| chunks.get(index).map(|chunk| chunk.hash)),
        );
        dropped.extend(chunks.iter().map(|chunk| chunk.hash));
        let mut committed = lock(&core.commit);
        core.flush(&mut committed, Extra::default())?;
        let value = core.file_value(&manifest.address())?;
        let mut freed = Vec::new();
        let keeps = match &value {
            Some(old)
                if old.entry.state == FileState::Partial && old.entry.manifest == manifest.id() =>
            {
                freed.push(old.at);
                let listing = core.manifest_entry(&old.entry.manifest)?;
                freed.extend(listing.map(|listing| listing.at));
                core.leave_remnant(&mut committed, old, &kept)?
            }
            // Someone else's by now: it is not for this call to say what it needs.
            Some(_) => true,
            None => false,
        };
        if keeps {
            dropped.retain(|hash| !kept.contains(hash));
        }
        let dropped = dropped.into_iter().collect();
        let (removed, freed) = core.release(&mut committed, dropped, None, freed)?;
        drop(committed);
        core.packs.free(&freed)?;
        Ok(removed)
    }
}
