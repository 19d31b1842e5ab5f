//! Keeping to the limit: which files go when there is no room.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::StoreError;
use crate::id::Address;
use crate::manifest::Manifest;
use crate::store::core::Core;
use crate::store::entry::{Claim, FileEntry};
use crate::store::lookup::ENTRIES_AT_ONCE;
use crate::store::members::KeptMembers;
use crate::store::types::{Evicted, GcFile, InUse, Removed};
use crate::store::{lock, unix_ms};

/// Chunks and members of removed files that may wait to be told; beyond, their lists are cut, and whoever
/// needs them must look for himself.
const MAX_TOLD: usize = 1 << 20;

/// Room that is made beside what was asked for: so that not every chunk has to ask.
const SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// What a file takes beside its chunks, at most: entry, proof tree of a small file, index.
const ENTRY_BYTES: u64 = 8 * 1024;

/// What each chunk adds to that: hash, length, and its share of the proof tree.
const LISTED_BYTES: u64 = 96;

/// Who may not go, and who went.
#[derive(Default)]
pub(in crate::store) struct Evictions {
    in_use: HashMap<Address, usize>,
    gone: Vec<Evicted>,
    told: usize,
}

/// What making room came to.
pub(super) struct Eviction {
    pub(super) evicted: Vec<GcFile>,
    /// Whether there was room then.
    fits: bool,
}

impl Core {
    /// Room for a chunk that is about to be appended. Takes no time while there is some.
    pub(in crate::store) fn room_for_chunk(&self, len_bytes: u64) -> Result<(), StoreError> {
        if self.space.fits(len_bytes) {
            Ok(())
        } else {
            let slack = self.space.max_bytes().unwrap_or(0) / 32;
            self.make_room(len_bytes + SLACK_BYTES.min(slack))
                .or_else(|error| {
                    if self.space.fits(len_bytes) {
                        Ok(())
                    } else {
                        Err(error)
                    }
                })
        }
    }

    /// Room for a file's manifest and entry. Takes no time while there is some.
    pub(in crate::store) fn room_for_metadata(
        &self,
        manifest: &Manifest,
    ) -> Result<(), StoreError> {
        self.room_for_records(ENTRY_BYTES + u64::from(manifest.chunk_count()) * LISTED_BYTES)
    }

    /// The same for `len_bytes` of them.
    pub(in crate::store) fn room_for_records(&self, len_bytes: u64) -> Result<(), StoreError> {
        match self.space.check_metadata(len_bytes) {
            Err(StoreError::OverQuota { .. }) => self.make_room(len_bytes),
            _ => Ok(()),
        }
    }

    pub(in crate::store) fn make_room(&self, needed_bytes: u64) -> Result<(), StoreError> {
        match self.evict_over_limit(needed_bytes)? {
            Eviction { fits: true, .. } => Ok(()),
            Eviction { fits: false, .. } => Err(self.space.over_quota(needed_bytes)),
        }
    }

    /// Removes files until `needed_bytes` fit, if that can be.
    pub(super) fn evict_over_limit(&self, needed_bytes: u64) -> Result<Eviction, StoreError> {
        let _alone = lock(&self.collecting);
        self.measure();
        if !self.space.can_ever_fit(needed_bytes) {
            return Ok(Eviction {
                evicted: Vec::new(),
                fits: false,
            });
        }
        let mut evicted = Vec::new();
        if !self.space.fits(needed_bytes) {
            evicted = self.make_fit(needed_bytes)?;
        }
        // Asked here: others may take the room as soon as it is their turn.
        let fits = self.space.fits(needed_bytes);
        Ok(Eviction { evicted, fits })
    }

    fn make_fit(&self, needed_bytes: u64) -> Result<Vec<GcFile>, StoreError> {
        let mut evicted = Vec::new();
        self.check_writable()?;
        let waste: u64 = self.wasteful_packs()?.iter().map(|p| p.waste_bytes).sum();
        if self.space.fits_after(waste, needed_bytes) {
            self.compact_until(needed_bytes)?;
        }
        // Others store meanwhile: as long as something may go, it is looked again.
        loop {
            let before = evicted.len();
            for file in self.by_last_use()? {
                if self.space.fits(needed_bytes) {
                    break;
                }
                if !self.is_in_use(&file.address)? {
                    evicted.extend(self.evict(&file)?);
                }
            }
            if self.space.fits(needed_bytes) || evicted.len() == before {
                break;
            }
        }
        if !self.space.fits(needed_bytes) {
            self.drop_orphans()?;
            self.seal_if_wasteful()?;
            self.compact_until(needed_bytes)?;
        }
        Ok(evicted)
    }

    fn compact_until(&self, needed_bytes: u64) -> Result<(), StoreError> {
        for pack in self.wasteful_packs()? {
            if self.space.fits(needed_bytes) {
                break;
            }
            let _never_broken_off =
                self.compact_alone(pack.id, &mut |_| std::ops::ControlFlow::Continue(()))?;
            self.measure();
        }
        Ok(())
    }

    pub(in crate::store) fn evict(&self, file: &FileEntry) -> Result<Option<GcFile>, StoreError> {
        let before = self.space.used_bytes();
        // It may have been pinned or used since the list was made, or a directory may list it now.
        let mut may_go = |now: &FileEntry| -> Result<bool, StoreError> {
            let is_old = now.last_used_unix_ms.min(unix_ms()) <= file.last_used_unix_ms;
            let may_go = !now.is_pinned() && is_old && !self.is_in_use(&now.address)?;
            Ok(may_go && self.keeper_of(&now.address)?.is_none())
        };
        let removed = self.remove_any(&file.address, &mut may_go)?;
        self.measure();
        let Some(removed) = removed else {
            return Ok(None);
        };
        tracing::info!(address = %file.address, bytes = removed.freed_bytes, "removed to keep to the limit");
        self.tell_evicted(file, removed);
        Ok(Some(GcFile {
            address: file.address,
            name: file.name.clone(),
            bytes: before.saturating_sub(self.space.used_bytes()),
        }))
    }

    fn tell_evicted(&self, file: &FileEntry, removed: Removed) {
        let (mut members, mut freed_chunks) = (removed.files, removed.freed_chunks);
        members.retain(|member| *member != file.address);
        let mut evictions = lock(&self.evictions);
        members.truncate(MAX_TOLD.saturating_sub(evictions.told));
        evictions.told += members.len();
        freed_chunks.truncate(MAX_TOLD.saturating_sub(evictions.told));
        evictions.told += freed_chunks.len();
        evictions.gone.push(Evicted {
            address: file.address,
            name: file.name.clone(),
            members,
            freed_chunks,
            freed_bytes: removed.freed_bytes,
        });
    }

    pub(super) fn take_evicted(&self) -> Vec<Evicted> {
        let mut evictions = lock(&self.evictions);
        evictions.told = 0;
        std::mem::take(&mut evictions.gone)
    }

    /// Files and directories that may go, least recently used first. Members go with their directory. Those
    /// kept in place take no room that they could give.
    pub(in crate::store) fn by_last_use(&self) -> Result<Vec<FileEntry>, StoreError> {
        let mut kept = KeptMembers::new(self)?;
        let holds_members = self.holds_members();
        let mut files = Vec::new();
        let mut failed = None;
        self.each_file(&mut |file| {
            match kept.contains(&file.address) {
                Ok(true) => {}
                Ok(false) => {
                    let is_held = holds_members && file.claim == Claim::Member;
                    if !file.is_pinned() && !file.is_in_place() && !is_held {
                        files.push(file);
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for part in files.chunks_mut(ENTRIES_AT_ONCE) {
            self.note_last_uses(part)?;
        }
        let now = unix_ms();
        for file in &mut files {
            // Noted under a clock that was ahead.
            file.last_used_unix_ms = file.last_used_unix_ms.min(now);
        }
        files.sort_by_key(|file| (file.last_used_unix_ms, file.stored_unix_ms, file.address));
        Ok(files)
    }

    /// Whether somebody uses this file, or one that this directory lists.
    pub(in crate::store) fn is_in_use(&self, address: &Address) -> Result<bool, StoreError> {
        let in_use: Vec<Address> = lock(&self.evictions).in_use.keys().copied().collect();
        for used in in_use {
            if used == *address || self.is_kept_by(&used, address)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn in_use(core: &Arc<Self>, address: &Address) -> InUse {
        *lock(&core.evictions).in_use.entry(*address).or_default() += 1;
        InUse {
            core: Arc::clone(core),
            address: *address,
        }
    }

    pub(in crate::store) fn end_use(&self, address: &Address) {
        let in_use = &mut lock(&self.evictions).in_use;
        if let Some(users) = in_use.get_mut(address) {
            *users -= 1;
            if *users == 0 {
                in_use.remove(address);
            }
        }
    }
}
