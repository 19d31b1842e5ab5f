//! Downloads whose manifest turned out forged: what is proven of them outlives the manifest.

use std::collections::HashSet;

use super::core::{Committed, Core};
use super::entry::{FileEntry, FileState, FileValue};
use super::flush::Extra;
use super::listing::encode_list;
use super::{Removed, lock};
use crate::bitmap::HaveBitmap;
use crate::error::StoreError;
use crate::id::{ChunkHash, ManifestId};
use crate::manifest::Manifest;

impl Core {
    pub(crate) fn forget_forged(
        &self,
        manifest: &Manifest,
        keep: &HaveBitmap,
    ) -> Result<Removed, StoreError> {
        let chunks = manifest.chunks();
        let (mut kept, mut dropped) = (HashSet::new(), HashSet::new());
        kept.extend(
            keep.iter_ones()
                .filter_map(|index| chunks.get(index).map(|chunk| chunk.hash)),
        );
        dropped.extend(chunks.iter().map(|chunk| chunk.hash));
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let value = self.file_value(&manifest.address())?;
        let mut freed = Vec::new();
        let keeps = match &value {
            Some(old)
                if old.entry.state == FileState::Partial && old.entry.manifest == manifest.id() =>
            {
                freed.push(old.at);
                let listing = self.manifest_entry(&old.entry.manifest)?;
                freed.extend(listing.map(|listing| listing.at));
                self.leave_remnant(&mut committed, old, &kept)?
            }
            // Someone else's by now: it is not for this call to say what it needs.
            Some(_) => true,
            None => false,
        };
        if keeps {
            dropped.retain(|hash| !kept.contains(hash));
        }
        let dropped = dropped.into_iter().collect();
        let (removed, freed) = self.release(&mut committed, dropped, None, freed)?;
        drop(committed);
        self.packs.free(&freed)?;
        Ok(removed)
    }

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
