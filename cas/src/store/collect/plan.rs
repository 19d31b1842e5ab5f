//! What a collection would do, and which packs are worth rewriting.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::store::core::Core;
use crate::store::entry::{self, ChunkEntry, FileState};
use crate::store::flush::Extra;
use crate::store::lock;
use crate::store::pack::PACK_HEADER_BYTES;
use crate::store::types::{GcFile, GcPlan};

/// A pack is rewritten when at least this part of it is dead: at most two bytes are then copied for each
/// byte that died.
const DEAD_PART: u64 = 3;

/// Less than this part of what lives is not worth the copying.
const WASTE_PART: u64 = 100;

/// A pack that is worth rewriting.
#[derive(Clone, Copy, Debug)]
pub(super) struct WastefulPack {
    pub(super) id: u32,
    /// Bytes to copy.
    pub(super) live_bytes: u64,
    /// Bytes on the disk that come back.
    pub(super) waste_bytes: u64,
}

/// Whether rewriting pays, from the sizes of a pack's records, of those alive, and on the disk.
fn pays(record_bytes: u64, live_bytes: u64, disk_bytes: u64) -> Option<u64> {
    let dead_bytes = record_bytes.saturating_sub(live_bytes);
    let waste_bytes = disk_bytes.saturating_sub(live_bytes);
    let is_dead_enough = dead_bytes > 0 && dead_bytes.saturating_mul(DEAD_PART) >= record_bytes;
    (is_dead_enough && waste_bytes.saturating_mul(WASTE_PART) > live_bytes).then_some(waste_bytes)
}

impl Core {
    fn waste_of(&self, id: u32, durable_bytes: u64, live_bytes: u64) -> Option<WastefulPack> {
        let record_bytes = durable_bytes.saturating_sub(PACK_HEADER_BYTES);
        let disk_bytes = self.packs.disk_bytes_of(id).ok()?;
        pays(record_bytes, live_bytes, disk_bytes).map(|waste_bytes| WastefulPack {
            id,
            live_bytes,
            waste_bytes,
        })
    }

    /// The packs worth rewriting, the emptiest first. The one that is appended to is not among them.
    pub(super) fn wasteful_packs(&self) -> Result<Vec<WastefulPack>, StoreError> {
        let mut packs = self.wasteful_packs_and_active()?;
        packs.retain(|pack| !self.packs.is_active(pack.id));
        Ok(packs)
    }

    fn wasteful_packs_and_active(&self) -> Result<Vec<WastefulPack>, StoreError> {
        let accounts = lock(&self.commit).ledger.packs().clone();
        let mut packs: Vec<WastefulPack> = accounts
            .into_iter()
            .filter_map(|(id, account)| {
                self.waste_of(id, account.durable_bytes, account.live_bytes)
            })
            .collect();
        packs.sort_by_key(|pack| (pack.live_bytes, pack.id));
        Ok(packs)
    }

    /// Ends the pack that is appended to, when it is worth rewriting.
    pub(super) fn seal_if_wasteful(&self) -> Result<(), StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let packs = committed.ledger.packs().iter();
        let active = packs.filter(|(id, _)| self.packs.is_active(**id)).last();
        if let Some((id, account)) = active
            && self
                .waste_of(*id, account.durable_bytes, account.live_bytes)
                .is_some()
        {
            self.packs.seal_active();
        }
        Ok(())
    }

    pub(super) fn gc_plan(&self) -> Result<GcPlan, StoreError> {
        self.measure();
        let mut plan = GcPlan::default();
        let (mut candidates, mut sizes) = (Vec::new(), Vec::new());
        let of_leftovers = self.references_of(&self.leftovers()?)?;
        self.noting(self.index.scan(entry::CHUNK_PREFIX, &mut |key, value| {
            let chunk = ChunkEntry::decode(value)?;
            let hash = entry::chunk_of_key(key)?;
            if chunk.refs <= of_leftovers.get(&hash).copied().unwrap_or(0) {
                candidates.push(hash);
                sizes.push(u64::from(chunk.len_bytes()));
            }
            Ok(ControlFlow::Continue(()))
        }))?;
        let wanted = self.wanted_by_partials(&mut lock(&self.commit))?;
        let holds = lock(&self.holds);
        for (hash, bytes) in candidates.iter().zip(sizes) {
            if !wanted.contains(hash) && !holds.protects(hash) {
                plan.orphan_chunks += 1;
                plan.orphan_bytes += bytes;
            }
        }
        drop(holds);
        let mut over = self.space.over_bytes();
        for file in self.by_last_use()? {
            if over == 0 {
                break;
            }
            if self.is_in_use(&file.address)? {
                continue;
            }
            let usage = self.usage(Some(&file.address))?;
            let bytes = usage.iter().map(|u| u.stored_bytes - u.shared_bytes).sum();
            over = over.saturating_sub(bytes);
            plan.evict.push(GcFile {
                address: file.address,
                name: file.name,
                bytes,
            });
        }
        for pack in self.wasteful_packs_and_active()? {
            plan.compact_packs += 1;
            plan.compact_copy_bytes += pack.live_bytes;
            plan.reclaim_bytes += pack.waste_bytes;
        }
        plan.reclaim_bytes += plan.orphan_bytes + plan.evict.iter().map(|f| f.bytes).sum::<u64>();
        Ok(plan)
    }

    /// How often these files refer to each of their chunks.
    fn references_of(&self, files: &[Address]) -> Result<HashMap<ChunkHash, u32>, StoreError> {
        let mut references = HashMap::new();
        for address in files {
            let file = self.file_value(address)?.map(|value| value.entry);
            if let Some(file) = file.filter(|file| file.state == FileState::Complete) {
                for hash in self.listed_chunks(&file)? {
                    *references.entry(hash).or_default() += 1;
                }
            }
        }
        Ok(references)
    }

    /// What could be put, everything that may go being gone.
    pub(super) fn room_bytes(&self) -> Result<Option<u64>, StoreError> {
        let Some(max_bytes) = self.space.max_bytes() else {
            return Ok(None);
        };
        self.measure();
        let mut movable = 0;
        for file in self.by_last_use()? {
            if !self.is_in_use(&file.address)? {
                let usage = self.usage(Some(&file.address))?;
                movable += usage.iter().map(|u| u.stored_bytes).sum::<u64>();
            }
        }
        let waste: u64 = self.wasteful_packs()?.iter().map(|p| p.waste_bytes).sum();
        let free = max_bytes.saturating_sub(self.space.used_bytes());
        Ok(Some((free + movable + waste).min(max_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_rewritten_when_a_third_is_dead_and_its_space_is_not_back() {
        assert_eq!(pays(300, 200, 300), Some(100));
        assert_eq!(pays(300, 201, 300), None, "too much lives");
        assert_eq!(
            pays(300_000, 150_000, 151_000),
            None,
            "the holes gave it back"
        );
        assert_eq!(pays(300_000, 0, 4096), Some(4096), "an empty one goes");
        assert_eq!(pays(0, 0, 4096), None, "a new one has nothing dead");
    }
}
