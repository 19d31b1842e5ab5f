//! Giving space back: what nothing refers to, what the limit forces out, what removal left in the packs.
//!
//! All of it works in small steps: others put, get and commit in between, and reading never waits.

mod compact;
mod evict;
mod plan;

use std::ops::ControlFlow;

use super::Store;
use super::core::Core;
use super::types::{Evicted, GcPlan, GcProgress, GcReport, InUse};
use crate::error::StoreError;
use crate::id::Address;

pub(super) use evict::Evictions;

/// Called after each step of a collection; breaks to end it.
pub type GcProgressFn<'a> = &'a mut dyn FnMut(GcProgress) -> ControlFlow<()>;

impl Core {}

impl Store {
    /// What a collection would do now. Visits every chunk of the index.
    ///
    /// # Errors
    /// When the index fails.
    pub fn gc_plan(&self) -> Result<GcPlan, StoreError> {
        self.core.gc_plan()
    }

    /// Gives back the space of everything that nothing needs: chunks without a file, least recently used
    /// files that are not pinned when the store is over its limit, and what removed chunks left behind in
    /// the packs. Others use the store meanwhile.
    ///
    /// Packs are rewritten only when at least a third of them is dead, so at most two bytes are written
    /// for each byte that ever died.
    ///
    /// # Errors
    /// What the medium says; what was done until then stays done.
    pub fn gc(&self, progress: GcProgressFn<'_>) -> Result<GcReport, StoreError> {
        let core = &self.core;
        core.check_writable()?;
        core.measure();
        let mut report = GcReport {
            disk_bytes_before: core.space.disk_bytes(),
            ..GcReport::default()
        };
        let orphans = core.drop_orphans()?;
        report.freed_chunks = orphans.freed_chunks.len() as u64;
        report.freed_bytes = orphans.freed_bytes;
        report.evicted = core.evict_over_limit(0)?.evicted;
        core.seal_if_wasteful()?;
        let packs = core.wasteful_packs()?;
        let mut done = GcProgress {
            done_bytes: 0,
            total_bytes: packs.iter().map(|pack| pack.live_bytes).sum(),
        };
        for pack in packs {
            let mut step = |bytes: u64| {
                done.done_bytes += bytes;
                report.copied_bytes += bytes;
                progress(done)
            };
            if core.compact(pack.id, &mut step)?.is_break() {
                report.cancelled = true;
                break;
            }
            report.compacted_packs += 1;
        }
        core.measure();
        report.disk_bytes_after = core.space.disk_bytes();
        Ok(report)
    }

    /// The most bytes that packs, index and reserve may occupy; `None` without a limit.
    pub fn max_bytes(&self) -> Option<u64> {
        self.core.space.max_bytes()
    }

    /// Bytes that packs, index and reserve occupy, measured now.
    pub fn disk_bytes(&self) -> u64 {
        self.core.measure();
        self.core.space.disk_bytes()
    }

    /// Makes sure that `needed_bytes` fit under the limit: compacts packs where that is enough, else
    /// removes least recently used files that are neither pinned nor in use.
    ///
    /// # Errors
    /// [`StoreError::OverQuota`] when they do not fit even so.
    pub fn make_room(&self, needed_bytes: u64) -> Result<(), StoreError> {
        self.core.make_room(needed_bytes)
    }

    /// The most bytes that could be put now, everything that may go being gone; `None` without a limit.
    ///
    /// # Errors
    /// When the index fails.
    pub fn room_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.core.room_bytes()
    }

    /// Files that went because of the limit, since the last call.
    pub fn take_evicted(&self) -> Vec<Evicted> {
        self.core.take_evicted()
    }

    /// Keeps a file from being removed for space while the guard lives.
    pub fn in_use(&self, address: &Address) -> InUse {
        Core::in_use(&self.core, address)
    }
}
