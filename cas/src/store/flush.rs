//! A flush: what was appended becomes durable, and then the index is told of it, batch by batch.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::batch::Entered;
use super::chunks::{Pending, Writer};
use super::core::{Committed, Core};
use super::entry::{self, ChunkEntry, Extent, ManifestEntry, Place};
use super::index::{MAX_BATCH_KEYS, Op};
use super::lock;
use super::pack::{Location, SyncPoint};
use super::remove::Leaving;
use crate::error::StoreError;
use crate::id::{ChunkHash, ManifestId};

/// Keys of a batch that chunks may use; the rest is for the counters that change with them.
pub(super) const BATCH_CHUNKS: usize = (MAX_BATCH_KEYS - 16) / 2;

/// Extra work of a flush, done in this order after its chunks are in the index.
#[derive(Default)]
pub(super) struct Extra {
    /// Chunks whose bytes are elsewhere now, and where they were.
    pub(super) moved: Vec<(ChunkHash, Place, Place)>,
    /// Chunks that a source holds; those that are here already stay where they are.
    pub(super) sourced: Vec<(ChunkHash, Extent)>,
    /// Chunks whose reference count grows by one; all of them are in the index.
    pub(super) add_refs: Vec<ChunkHash>,
    /// The manifest that lists those, and where it is.
    pub(super) counting: Option<(ManifestId, ManifestEntry)>,
    /// Small files, each with all that it adds to the index.
    pub(super) entered: Vec<Entered>,
    /// Files that go, each with all that the index is to forget of it.
    pub(super) leaving: Vec<Leaving>,
    /// Applied last, in one batch with the pack checkpoints.
    pub(super) last: Vec<Op>,
    /// Where the records are and were that those point at.
    pub(super) records: Vec<(Option<Location>, Option<Location>)>,
    /// The records that were appended for this.
    pub(super) appended: Vec<Location>,
}

impl Core {
    /// Makes everything appended so far durable; the next flush tells the index. The records are those of a change that
    /// is under way.
    pub(super) fn sync_appended(
        &self,
        committed: &mut Committed,
        records: &[Location],
    ) -> Result<(), StoreError> {
        let writer = self.begin_flush();
        let writer = self.or_take_back(writer, records)?;
        let point = self.packs.sync_point();
        drop(writer);
        let synced = self.packs.sync(&point);
        if synced.is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
        committed.durable.extend(synced?);
        Ok(())
    }

    /// Makes everything appended so far durable and indexes it.
    pub(super) fn flush(&self, committed: &mut Committed, extra: Extra) -> Result<(), StoreError> {
        let writer = self.begin_flush();
        let mut writer = self.or_take_back(writer, &extra.appended)?;
        let queue = std::mem::take(&mut writer.queue);
        let appended = writer.appended;
        let unmeasured = self.space.unmeasured_bytes();
        let point = self.packs.sync_point();
        drop(writer);
        let result = self.flush_queue(committed, &queue, &point, extra);
        if result.is_ok() {
            committed.appended = appended;
            self.space.refill();
        } else {
            // After a failed sync nobody can say which bytes are on the medium: only a reopen can.
            self.broken.store(true, Ordering::Relaxed);
        }
        if self.space.is_measure_due() {
            self.measure_after(unmeasured);
        }
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        for hash in &queue {
            pending.remove(hash);
        }
        result
    }

    /// A full disk shows here, while nothing has changed yet: the next attempt may go on.
    fn begin_flush(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        self.check_writable()?;
        self.space.check_index()?;
        self.take_back(&[])?;
        let writer = lock(&self.writer);
        match self.packs.write_out() {
            // What is asked for may be what makes room.
            Err(error) if error.is_no_space() && self.space.release() => self.packs.write_out()?,
            result => result?,
        }
        Ok(writer)
    }

    /// The records of a change that did not happen must not be found by a rebuild: nothing else is written
    /// before they are dead.
    fn take_back(&self, records: &[Location]) -> Result<(), StoreError> {
        let mut not_done = lock(&self.not_done);
        not_done.extend_from_slice(records);
        if not_done.is_empty() {
            return Ok(());
        }
        self.packs.free(&not_done)?;
        not_done.clear();
        Ok(())
    }

    /// The same for a change that got no further than its records.
    pub(super) fn or_take_back<T>(
        &self,
        result: Result<T, StoreError>,
        records: &[Location],
    ) -> Result<T, StoreError> {
        if result.is_err()
            && let Err(error) = self.take_back(records)
        {
            tracing::debug!(%error, "records of a change that failed are dealt with later");
        }
        result
    }

    fn flush_queue(
        &self,
        committed: &mut Committed,
        queue: &[ChunkHash],
        point: &SyncPoint,
        mut extra: Extra,
    ) -> Result<(), StoreError> {
        let durable = self.packs.sync(point)?;
        let of_files: HashSet<ChunkHash> =
            extra.entered.iter().filter_map(Entered::chunk).collect();
        let others = queue.iter().filter(|hash| !of_files.contains(hash));
        let mut others: Vec<ChunkHash> = others.copied().collect();
        // In the order of the keys: a run of the index is written once for all that a batch changes in it.
        others.sort_unstable();
        extra.moved.sort_by_key(|(hash, ..)| *hash);
        extra.sourced.sort_by_key(|(hash, _)| *hash);
        extra.add_refs.sort_unstable();
        for part in others.chunks(BATCH_CHUNKS) {
            self.space.check_index()?;
            let ops = self.index_ops(committed, part)?;
            self.apply_counted(committed, ops)?;
        }
        for part in extra.moved.chunks(BATCH_CHUNKS) {
            self.space.check_index()?;
            let ops = self.move_ops(committed, part)?;
            self.apply_counted(committed, ops)?;
        }
        for part in extra.sourced.chunks(BATCH_CHUNKS) {
            self.space.check_index()?;
            let ops = self.source_ops(committed, part)?;
            self.apply_counted(committed, ops)?;
        }
        let mut last = extra.last;
        if let Some((id, listing)) = extra.counting {
            self.apply(vec![(entry::flux_key(&id), Some(listing.encode()))])?;
            last.push((entry::flux_key(&id), None));
        }
        for part in extra.add_refs.chunks(BATCH_CHUNKS) {
            self.space.check_index()?;
            let ops = self.reference_ops(part)?;
            self.apply(ops)?;
        }
        self.index_entered(committed, extra.entered)?;
        self.index_leaving(committed, &extra.leaving)?;
        committed.durable.extend(durable);
        for (pack, end) in std::mem::take(&mut committed.durable) {
            committed.ledger.durable(pack, end);
        }
        for (old, new) in extra.records {
            committed.ledger.record(old, new);
        }
        self.apply_counted(committed, last)
    }

    fn index_ops(
        &self,
        committed: &mut Committed,
        part: &[ChunkHash],
    ) -> Result<Vec<Op>, StoreError> {
        let mut ops = Vec::with_capacity(part.len());
        for (hash, old) in part.iter().zip(self.chunk_entries(part)?) {
            let Some(new) = self.entry_of_pending(hash, old.as_ref()) else {
                continue;
            };
            committed.ledger.chunk(old.as_ref(), Some(&new));
            ops.push((entry::chunk_key(hash), Some(new.encode())));
        }
        Ok(ops)
    }

    /// What the entry of a chunk becomes that was appended and is not in the index yet.
    pub(super) fn entry_of_pending(
        &self,
        hash: &ChunkHash,
        old: Option<&ChunkEntry>,
    ) -> Option<ChunkEntry> {
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        let Pending { at, inline } = pending.get(hash).cloned()?;
        Some(ChunkEntry {
            place: Place::Pack(at),
            // A chunk that went bad keeps the references it has.
            refs: old.map_or(0, |old| old.refs),
            bad: false,
            inline,
        })
    }

    /// Whatever happened to a chunk in the meantime counts more than that it was moved.
    fn move_ops(
        &self,
        committed: &mut Committed,
        part: &[(ChunkHash, Place, Place)],
    ) -> Result<Vec<Op>, StoreError> {
        let mut ops = Vec::with_capacity(part.len());
        let hashes: Vec<ChunkHash> = part.iter().map(|(hash, ..)| *hash).collect();
        for ((hash, from, to), old) in part.iter().zip(self.chunk_entries(&hashes)?) {
            let Some(old) = old.filter(|old| !old.bad && old.place == *from) else {
                continue;
            };
            let new = ChunkEntry {
                place: *to,
                ..old.clone()
            };
            committed.ledger.chunk(Some(&old), Some(&new));
            ops.push((entry::chunk_key(hash), Some(new.encode())));
        }
        Ok(ops)
    }

    fn source_ops(
        &self,
        committed: &mut Committed,
        part: &[(ChunkHash, Extent)],
    ) -> Result<Vec<Op>, StoreError> {
        let mut ops = Vec::with_capacity(part.len());
        let hashes: Vec<ChunkHash> = part.iter().map(|(hash, _)| *hash).collect();
        for ((hash, extent), old) in part.iter().zip(self.chunk_entries(&hashes)?) {
            if old.as_ref().is_some_and(|old| !old.bad) {
                continue;
            }
            let new = ChunkEntry {
                place: Place::Source(*extent),
                refs: old.as_ref().map_or(0, |old| old.refs),
                bad: false,
                inline: None,
            };
            committed.ledger.chunk(old.as_ref(), Some(&new));
            ops.push((entry::chunk_key(hash), Some(new.encode())));
        }
        Ok(ops)
    }

    fn reference_ops(&self, part: &[ChunkHash]) -> Result<Vec<Op>, StoreError> {
        let mut ops = Vec::with_capacity(part.len());
        for (hash, chunk) in part.iter().zip(self.chunk_entries(part)?) {
            if let Some(mut chunk) = chunk {
                chunk.refs = chunk.refs.saturating_add(1);
                ops.push((entry::chunk_key(hash), Some(chunk.encode())));
            }
        }
        Ok(ops)
    }
}
