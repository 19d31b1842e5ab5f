//! Chunks: put, group commit, get.
//!
//! Order of a commit: bytes to the pack, fdatasync of the pack, index batches, acknowledgement. An index
//! entry therefore never points at bytes that a power cut could take back.
//!
//! Locks, in the order in which they may be taken: `commit` (one flush or metadata change at a time),
//! `holds`, `writer` (one append at a time), `pending`. Reading takes only `pending`, shared and briefly.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::Put;
use super::entry::{self, ChunkEntry, INLINE_BYTES, Totals};
use super::hold::Holds;
use super::index::{Index, MAX_BATCH_KEYS, Op};
use super::lock;
use super::pack::{Location, Packs, RecordKind};
use super::space::Space;
use super::syncer::Syncer;
use crate::chunker::MAX_CHUNK_BYTES;
use crate::error::{IndexError, StoreError};
use crate::id::ChunkHash;

/// Chunks that may wait for a commit; one more, and `put` commits by itself. Bounds the memory of a
/// caller that never commits.
const MAX_PENDING: usize = 16_384;

/// Keys of a batch that chunks may use; the rest is for the counters and checkpoints of the same batch.
pub(super) const BATCH_CHUNKS: usize = MAX_BATCH_KEYS - 8;

/// How often a read looks again when the chunk moved while it was read.
const READ_ATTEMPTS: usize = 3;

/// A chunk that was appended and is not in the index yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    at: Location,
    inline: Option<Bytes>,
}

#[derive(Default)]
pub(super) struct Writer {
    /// Appended since the last commit, in order.
    queue: Vec<ChunkHash>,
    /// Chunks ever appended.
    appended: u64,
}

/// What only the holder of the commit lock may change.
#[derive(Default)]
pub(super) struct Committed {
    /// The value of `Writer::appended` that the last commit covered.
    appended: u64,
    pub(super) totals: Totals,
}

/// Extra work of a flush, done after its chunks are in the index.
#[derive(Default)]
pub(super) struct Extra {
    /// Chunks whose reference count grows by one; all of them are in the index.
    pub(super) add_refs: Vec<ChunkHash>,
    /// Applied last, in one batch with the pack checkpoints.
    pub(super) last: Vec<Op>,
}

/// The store without the folder it lives in.
pub(crate) struct Core {
    pub(super) index: Arc<dyn Index>,
    pub(super) packs: Packs,
    pub(super) space: Space,
    pub(super) commit: Mutex<Committed>,
    pub(super) holds: Mutex<Holds>,
    writer: Mutex<Writer>,
    pending: RwLock<HashMap<ChunkHash, Pending>>,
    /// Set when a write failed so that the state of the disk is unknown.
    broken: AtomicBool,
    /// Damage was met: the next open must check the index even after an orderly close.
    suspect: AtomicBool,
    /// Counters for `stats`, a copy of those under the commit lock.
    chunks: AtomicU64,
    bytes: AtomicU64,
    syncer: Option<Syncer>,
}

impl Core {
    pub(crate) fn new(
        index: Arc<dyn Index>,
        packs: Packs,
        space: Space,
        totals: Totals,
        syncer: Option<Syncer>,
    ) -> Self {
        Self {
            index,
            packs,
            space,
            commit: Mutex::new(Committed {
                appended: 0,
                totals,
            }),
            holds: Mutex::default(),
            writer: Mutex::default(),
            pending: RwLock::default(),
            broken: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            chunks: AtomicU64::new(totals.chunks),
            bytes: AtomicU64::new(totals.bytes),
            syncer,
        }
    }

    /// Stops syncing behind, after one last time; whether the store is known to be in order.
    pub(super) fn close(&mut self) -> bool {
        let Some(mut syncer) = self.syncer.take() else {
            return false;
        };
        syncer.mark_dirty();
        syncer.stop();
        syncer.take_failure().is_none()
            && !self.broken.load(Ordering::Relaxed)
            && !self.suspect.load(Ordering::Relaxed)
    }

    /// Remembers that the index is damaged, so that the next open does not trust it.
    pub(super) fn noting<T>(&self, result: Result<T, IndexError>) -> Result<T, StoreError> {
        if let Err(error) = &result
            && error.is_corruption()
        {
            self.suspect.store(true, Ordering::Relaxed);
        }
        Ok(result?)
    }

    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        if let Some(failure) = self.syncer.as_ref().and_then(Syncer::take_failure) {
            self.broken.store(true, Ordering::Relaxed);
            return Err(failure.into());
        }
        if self.broken.load(Ordering::Relaxed) {
            Err(StoreError::WritesStopped)
        } else {
            Ok(())
        }
    }

    /// The entry of a chunk that is in the index, bad or not.
    pub(super) fn indexed(&self, hash: &ChunkHash) -> Result<Option<ChunkEntry>, StoreError> {
        let value = self.noting(self.index.get(&entry::chunk_key(hash)))?;
        self.noting(value.as_deref().map(ChunkEntry::decode).transpose())
    }

    fn locate(&self, hash: &ChunkHash) -> Result<Option<Pending>, StoreError> {
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = pending.get(hash) {
            return Ok(Some(found.clone()));
        }
        drop(pending);
        let entry = self.indexed(hash)?.filter(|entry| !entry.bad);
        Ok(entry.map(|entry| Pending {
            at: entry.at,
            inline: entry.inline,
        }))
    }

    pub(crate) fn has(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        Ok(self.locate(hash)?.is_some())
    }

    pub(crate) fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, StoreError> {
        for _ in 0..READ_ATTEMPTS {
            let Some(found) = self.locate(hash)? else {
                return Ok(None);
            };
            let matches = |bytes: &Bytes| ChunkHash::of(bytes) == *hash;
            if let Some(bytes) = found.inline.clone().filter(matches) {
                return Ok(Some(bytes));
            }
            let read = self.packs.read(found.at);
            if let Ok(bytes) = &read
                && matches(bytes)
            {
                return Ok(Some(bytes.clone()));
            }
            // Damaged, or removed and perhaps stored anew while it was read.
            if self.locate(hash)? == Some(found.clone()) {
                if let Err(error) = read {
                    tracing::warn!(%hash, %error, "stored chunk cannot be read");
                }
                if let Err(error) = self.mark_bad(hash, found.at) {
                    tracing::warn!(%hash, %error, "damaged chunk cannot be marked");
                }
                return Err(StoreError::Corrupt { hash: *hash });
            }
        }
        Ok(None)
    }

    /// Makes a damaged chunk count as absent, unless it was replaced in the meantime.
    fn mark_bad(&self, hash: &ChunkHash, at: Location) -> Result<(), StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let Some(mut entry) = self
            .indexed(hash)?
            .filter(|entry| !entry.bad && entry.at == at)
        else {
            return Ok(());
        };
        committed.totals.remove(&entry);
        entry.bad = true;
        entry.inline = None;
        self.apply_with_totals(
            &mut committed,
            vec![(entry::chunk_key(hash), Some(entry.encode()))],
        )
    }

    pub(crate) fn put(&self, hash: &ChunkHash, bytes: &[u8]) -> Result<Put, StoreError> {
        debug_assert_eq!(*hash, ChunkHash::of(bytes), "put of unverified bytes");
        if bytes.is_empty() || bytes.len() > MAX_CHUNK_BYTES as usize {
            return Err(StoreError::ChunkLength {
                len_bytes: bytes.len(),
            });
        }
        if self.has(hash)? {
            return Ok(Put::Known);
        }
        self.check_writable()?;
        let mut writer = lock(&self.writer);
        // Another thread may have put it while this one waited.
        if self.has(hash)? {
            return Ok(Put::Known);
        }
        self.space.check_append(bytes.len() as u64)?;
        let at = self
            .packs
            .append(RecordKind::Chunk, hash.as_bytes(), bytes)?;
        let inline = (bytes.len() <= INLINE_BYTES).then(|| Bytes::copy_from_slice(bytes));
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.insert(*hash, Pending { at, inline });
        drop(pending);
        writer.queue.push(*hash);
        writer.appended += 1;
        let is_full = writer.queue.len() >= MAX_PENDING;
        drop(writer);
        if is_full {
            self.commit()?;
        }
        Ok(Put::New)
    }

    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let target = lock(&self.writer).appended;
        let mut committed = lock(&self.commit);
        if committed.appended >= target {
            // Another thread's commit covered it while this one waited.
            return self.check_writable();
        }
        self.flush(&mut committed, Extra::default())
    }

    /// Makes everything appended so far durable and indexes it.
    pub(super) fn flush(&self, committed: &mut Committed, extra: Extra) -> Result<(), StoreError> {
        self.check_writable()?;
        self.space.check_index()?;
        let mut writer = lock(&self.writer);
        let queue = std::mem::take(&mut writer.queue);
        let appended = writer.appended;
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
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        for hash in &queue {
            pending.remove(hash);
        }
        result
    }

    fn flush_queue(
        &self,
        committed: &mut Committed,
        queue: &[ChunkHash],
        point: &super::pack::SyncPoint,
        extra: Extra,
    ) -> Result<(), StoreError> {
        let durable = self.packs.sync(point)?;
        for part in queue.chunks(BATCH_CHUNKS) {
            let ops = self.index_ops(committed, part)?;
            self.apply_with_totals(committed, ops)?;
        }
        for part in extra.add_refs.chunks(BATCH_CHUNKS) {
            let mut ops = Vec::with_capacity(part.len());
            for hash in part {
                if let Some(mut entry) = self.indexed(hash)? {
                    entry.refs = entry.refs.saturating_add(1);
                    ops.push((entry::chunk_key(hash), Some(entry.encode())));
                }
            }
            self.apply(ops)?;
        }
        let checkpoint = |(pack, end): &(u32, u64)| {
            (entry::pack_key(*pack), Some(entry::encode_checkpoint(*end)))
        };
        let mut last = extra.last;
        last.extend(durable.iter().map(checkpoint));
        // More packs than fit one batch: the checkpoints that come early are true already.
        while last.len() > MAX_BATCH_KEYS {
            let early = last.split_off(last.len() - MAX_BATCH_KEYS / 2);
            self.apply(early)?;
        }
        if last.is_empty() {
            Ok(())
        } else {
            self.apply(last)
        }
    }

    fn index_ops(
        &self,
        committed: &mut Committed,
        part: &[ChunkHash],
    ) -> Result<Vec<Op>, StoreError> {
        let mut ops = Vec::with_capacity(part.len() + 1);
        for hash in part {
            let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
            let Some(Pending { at, inline }) = pending.get(hash).cloned() else {
                continue;
            };
            drop(pending);
            // A chunk that went bad keeps the references it has.
            let old = self.indexed(hash)?;
            if let Some(old) = old.as_ref().filter(|old| !old.bad) {
                committed.totals.remove(old);
            }
            let refs = old.map_or(0, |old| old.refs);
            let entry = ChunkEntry {
                at,
                refs,
                bad: false,
                inline,
            };
            committed.totals.add(&entry);
            ops.push((entry::chunk_key(hash), Some(entry.encode())));
        }
        Ok(ops)
    }

    /// One batch to the index.
    pub(super) fn apply(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        self.noting(self.index.apply(ops))?;
        if let Some(syncer) = &self.syncer {
            syncer.mark_dirty();
        }
        Ok(())
    }

    /// One batch with the counters that go with it.
    pub(super) fn apply_with_totals(
        &self,
        committed: &mut Committed,
        mut ops: Vec<Op>,
    ) -> Result<(), StoreError> {
        ops.push((entry::totals_key(), Some(committed.totals.encode())));
        self.apply(ops)?;
        self.chunks
            .store(committed.totals.chunks, Ordering::Relaxed);
        self.bytes.store(committed.totals.bytes, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn packs_path(&self) -> std::path::PathBuf {
        self.packs.path()
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            chunks: self.chunks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn for_each_chunk(
        &self,
        visit: &mut dyn FnMut(&ChunkHash, u32) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.noting(self.index.scan(entry::CHUNK_PREFIX, &mut |key, value| {
            let hash = entry::chunk_of_key(key)?;
            let entry = ChunkEntry::decode(value)?;
            Ok(if entry.bad {
                ControlFlow::Continue(())
            } else {
                visit(&hash, entry.at.len_bytes)
            })
        }))
    }
}
