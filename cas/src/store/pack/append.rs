//! Appending: chunks are collected in memory and written in large blocks behind the caller; other records
//! are written before their append returns, unless their caller has them collected, too.
//!
//! Up to two blocks are in memory, each as large as the medium asks for: one is filled while the other
//! is written by a thread that lives for this one write. A block whose write failed is kept and written
//! again by whoever needs its place, or wants it on the medium, next: so a full disk that gets room again
//! has lost nothing. What was appended may be read at once, and is durable only after [`Packs::sync`].
//!
//! Locks: `active` may be held while a block is written; readers take `unwritten` only, briefly.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::buffer::Block;
use super::record::{self, PACK_HEADER_BYTES, RECORD_HEADER_BYTES};
use super::{Location, Packs, RecordKind};
use crate::direct::{Aligned, direct_align_bytes};
use crate::error::StoreError;
use crate::store::medium::PackFile;
use crate::store::{lock, unix_ms};

/// A record that is larger than the buffer is written in pieces of at most this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// What may be between a payload and the next record.
const PADDING: [u8; 8] = [0; 8];

/// One block is filled while another one is written.
const BLOCKS: usize = 2;

/// The packs with bytes that were appended and perhaps not synced, and how far each goes.
pub(crate) struct SyncPoint(Vec<(u32, Arc<dyn PackFile>, u64)>);

#[derive(Default)]
pub(super) struct Active {
    /// The pack that is appended to; none until the first append.
    pub(super) pack: Option<(u32, Arc<dyn PackFile>)>,
    /// Where the next record begins.
    end: u64,
    pub(super) next_id: u32,
    dirty: BTreeMap<u32, (Arc<dyn PackFile>, u64)>,
    /// Writes `Unwritten::writing`.
    task: Option<JoinHandle<io::Result<()>>>,
    /// Memory of blocks that were written, at most [`BLOCKS`] times.
    spare: Vec<Aligned>,
}

/// What was appended and is not in its file yet. Of one pack, `writing` ends where `filling` begins, and
/// the file has everything before.
#[derive(Default)]
pub(super) struct Unwritten {
    writing: Option<Arc<Block>>,
    filling: Option<Block>,
}

impl Unwritten {
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.writing.as_deref().into_iter().chain(&self.filling)
    }

    /// Where the bytes of `pack` begin that its file does not have.
    fn start(&self, pack: u32) -> Option<u64> {
        self.blocks()
            .find(|block| block.pack == pack)
            .map(|block| block.start)
    }

    /// Fills `buf` with the bytes of `pack` from `offset` on, but for the first ones, whose number is
    /// returned: they are in the file.
    pub(super) fn copy_to(&self, pack: u32, offset: u64, buf: &mut [u8]) -> usize {
        for block in self.blocks() {
            block.copy_to(pack, offset, buf);
        }
        let start = self.start(pack).unwrap_or(u64::MAX);
        usize::try_from(start.saturating_sub(offset)).map_or(buf.len(), |n| n.min(buf.len()))
    }
}

impl Packs {
    /// Appends a record. Its bytes can be read at once; they survive a crash after a sync only.
    ///
    /// `hash` must be the BLAKE3 of `payload`. After an error nothing was appended; it may be one of
    /// writing earlier chunks, which are kept and written with a later append or sync.
    pub(crate) fn append(
        &self,
        kind: RecordKind,
        hash: &[u8; 32],
        payload: &[u8],
    ) -> Result<Location, StoreError> {
        self.append_record(kind, hash, payload, kind == RecordKind::Chunk)
    }

    /// The same for a record that may be written late, like a chunk's: a caller who gives it up frees it
    /// before anything else is made durable.
    pub(crate) fn collect(
        &self,
        kind: RecordKind,
        hash: &[u8; 32],
        payload: &[u8],
    ) -> Result<Location, StoreError> {
        self.append_record(kind, hash, payload, true)
    }

    fn append_record(
        &self,
        kind: RecordKind,
        hash: &[u8; 32],
        payload: &[u8],
        may_wait: bool,
    ) -> Result<Location, StoreError> {
        let len_bytes = u32::try_from(payload.len()).map_err(|_| StoreError::ChunkLength {
            len_bytes: payload.len(),
        })?;
        let mut active = lock(&self.active);
        let (pack, file) = self.writable(&mut active)?;
        let at = Location {
            pack,
            offset: active.end,
            len_bytes,
        };
        let header = record::encode_record_header(kind, hash, at, &self.store_id);
        let padding = &PADDING[..at.padding_bytes()];
        let record = [header.as_slice(), payload, padding];
        let is_large = at.record_bytes() > self.buffer_bytes as u64;
        let appended = if is_large || !may_wait {
            self.append_through(&mut active, at, &file, record)
        } else {
            self.append_to_block(&mut active, at, &file, record)
        };
        appended.map_err(|error| self.error("append to a pack in", error))?;
        active.end = at.next_offset();
        let end = active.end;
        active.dirty.insert(pack, (file, end));
        Ok(at)
    }

    /// The record crosses into the next block at most once, and nothing can fail once it is begun.
    fn append_to_block(
        &self,
        active: &mut Active,
        at: Location,
        file: &Arc<dyn PackFile>,
        record: [&[u8]; 3],
    ) -> io::Result<()> {
        let has_room = |unwritten: &Unwritten| {
            let filling = unwritten.filling.as_ref();
            filling.is_some_and(|block| block.room() as u64 > at.record_bytes())
        };
        let mut unwritten = lock(&self.unwritten);
        if !has_room(&unwritten) {
            drop(unwritten);
            self.settle(active)?;
            unwritten = lock(&self.unwritten);
        }
        let mut offset = at.offset;
        for mut part in record {
            while !part.is_empty() {
                let block = unwritten
                    .filling
                    .get_or_insert_with(|| self.block(active, at.pack, file, offset));
                part = block.push(part);
                offset = block.end;
                if block.room() == 0 {
                    self.submit(active, &mut unwritten);
                }
            }
        }
        Ok(())
    }

    fn block(&self, active: &mut Active, pack: u32, file: &Arc<dyn PackFile>, start: u64) -> Block {
        let memory = active.spare.pop();
        let memory = memory.unwrap_or_else(|| Aligned::new(self.buffer_bytes));
        Block::new(pack, Arc::clone(file), start, memory)
    }

    /// Has the filled block written behind the caller. No other block may be on its way.
    fn submit(&self, active: &mut Active, unwritten: &mut Unwritten) {
        let Some(block) = unwritten.filling.take().map(Arc::new) else {
            return;
        };
        unwritten.writing = Some(Arc::clone(&block));
        let task = thread::Builder::new().name("pack-writer".into());
        // Without a thread the block is written by whoever settles it.
        active.task = task.spawn(move || block.write_or_undo()).ok();
    }

    /// Returns when no block is on its way any more; writes it again when that failed.
    fn settle(&self, active: &mut Active) -> io::Result<()> {
        let finished = active.task.take().map(JoinHandle::join);
        let Some(block) = lock(&self.unwritten).writing.clone() else {
            return Ok(());
        };
        if let Some(Ok(Err(error))) = &finished {
            tracing::debug!(pack = block.pack, %error, "a block was not written; trying again");
        }
        if !matches!(finished, Some(Ok(Ok(())))) {
            block.write_or_undo()?;
        }
        lock(&self.unwritten).writing = None;
        // Nobody else has it: readers copy under the lock.
        if let Some(block) = Arc::into_inner(block)
            && active.spare.len() < BLOCKS
        {
            active.spare.push(block.into_memory());
        }
        Ok(())
    }

    fn settle_all(&self, active: &mut Active) -> io::Result<()> {
        self.settle(active)?;
        let mut unwritten = lock(&self.unwritten);
        unwritten.writing = unwritten.filling.take().map(Arc::new);
        drop(unwritten);
        self.settle(active)
    }

    /// A record that does not fit into a block, or that must not be written after its caller gave up: a
    /// tombstone that comes late would take a file away that is still there.
    fn append_through(
        &self,
        active: &mut Active,
        at: Location,
        file: &Arc<dyn PackFile>,
        record: [&[u8]; 3],
    ) -> io::Result<()> {
        self.settle_all(active)?;
        let written = write_through(at, file, record);
        if written.is_err() {
            let _ = file.set_len(at.offset);
        }
        written
    }

    fn writable(&self, active: &mut Active) -> Result<(u32, Arc<dyn PackFile>), StoreError> {
        if let Some((id, file)) = &active.pack
            && active.end < self.pack_bytes
        {
            return Ok((*id, Arc::clone(file)));
        }
        self.begin_pack(active)
    }

    /// What is left of the pack before is written behind the caller.
    pub(super) fn begin_pack(
        &self,
        active: &mut Active,
    ) -> Result<(u32, Arc<dyn PackFile>), StoreError> {
        self.settle(active)
            .map_err(|error| self.error("append to a pack in", error))?;
        let id = active.next_id;
        let header = record::encode_pack_header(&self.store_id, id, unix_ms());
        let created = self.medium.create(id, &header);
        let is_taken =
            |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists && id < u32::MAX;
        if created.as_ref().err().is_none_or(is_taken) {
            active.next_id = id.saturating_add(1);
        }
        let file = created.map_err(|error| self.error("create a pack in", error))?;
        self.submit(active, &mut lock(&self.unwritten));
        if let Some((full, _)) = active.pack.replace((id, Arc::clone(&file))) {
            // Opened anew for reading, without what only writing needs.
            lock(&self.open).remove(&full);
        }
        active.end = PACK_HEADER_BYTES;
        self.remember(id, &file);
        Ok((id, file))
    }

    /// Appends to `pack` from `end` on, if it has room; whatever is behind `end` is cut off.
    pub(crate) fn resume(&self, pack: u32, end: u64) -> Result<(), StoreError> {
        let file = self.file(pack)?;
        let len = file.len().map_err(|error| self.error("measure", error))?;
        if len > end {
            let cut = file.set_len(end);
            let synced = cut.and_then(|()| self.sync_file(pack, file.as_ref()));
            synced.map_err(|error| self.error("cut the torn end of", error))?;
        }
        let mut active = lock(&self.active);
        if end < self.pack_bytes {
            active.pack = Some((pack, file));
            active.end = end;
        }
        Ok(())
    }

    /// Writes what was appended, without syncing it. After an error everything is as before the call, but
    /// for what was written; calling again goes on.
    pub(crate) fn write_out(&self) -> Result<(), StoreError> {
        self.settle_all(&mut lock(&self.active))
            .map_err(|error| self.error("append to a pack in", error))
    }

    /// Makes sure that the file has all bytes of `pack` before `end`.
    pub(super) fn write_out_to(&self, pack: u32, end: u64) -> Result<(), StoreError> {
        let start = lock(&self.unwritten).start(pack);
        if start.is_some_and(|start| start < end) {
            self.write_out()
        } else {
            Ok(())
        }
    }

    /// Bytes that were appended and have no space on the medium yet.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        let unwritten = lock(&self.unwritten);
        unwritten
            .blocks()
            .map(|block| block.end - block.start)
            .sum()
    }

    /// What must be synced to make everything appended so far durable. [`Packs::write_out`] comes before,
    /// and nothing may be appended in between.
    pub(crate) fn sync_point(&self) -> SyncPoint {
        let dirty = std::mem::take(&mut lock(&self.active).dirty);
        debug_assert!(
            dirty
                .keys()
                .all(|id| lock(&self.unwritten).start(*id).is_none()),
            "a sync point is of what is written"
        );
        SyncPoint(
            dirty
                .into_iter()
                .map(|(id, (file, end))| (id, file, end))
                .collect(),
        )
    }

    /// Afterwards each pack of the point is durable up to the length returned. Writes nothing: what others
    /// append meanwhile, perhaps on a full disk, is no concern of this point.
    pub(crate) fn sync(&self, point: &SyncPoint) -> Result<Vec<(u32, u64)>, StoreError> {
        let sync_one = |(id, file, end): &(u32, Arc<dyn PackFile>, u64)| {
            self.sync_file(*id, file.as_ref())
                .map_err(|error| self.error("sync", error))?;
            Ok((*id, *end))
        };
        point.0.iter().map(sync_one).collect()
    }
}

impl Drop for Packs {
    /// What was never synced is forgotten, but no thread may write after this.
    fn drop(&mut self) {
        if let Some(task) = lock(&self.active).task.take() {
            let _ = task.join();
        }
    }
}

fn write_through(at: Location, file: &Arc<dyn PackFile>, record: [&[u8]; 3]) -> io::Result<()> {
    let piece = PIECE_BYTES.min(RECORD_HEADER_BYTES + at.len_bytes as usize);
    // Room for what the block's start is behind an alignment.
    let memory = Aligned::new(piece + 2 * direct_align_bytes());
    let mut block = Block::new(at.pack, Arc::clone(file), at.offset, memory);
    for mut part in record {
        while !part.is_empty() {
            part = block.push(part);
            if block.room() == 0 {
                block.write()?;
                let (end, memory) = (block.end, block.into_memory());
                block = Block::new(at.pack, Arc::clone(file), end, memory);
            }
        }
    }
    block.write()
}
