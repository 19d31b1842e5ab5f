//! Bytes on their way to a pack, laid out in memory as direct I/O wants them.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::direct::{Aligned, align_down, direct_align_bytes};
use crate::store::medium::PackFile;

/// Direct I/O does not pay for less than this part of a block: 256 KiB of 4 MiB.
const DIRECT_MIN_PART: usize = 16;

/// A piece of one pack that is not written yet.
pub(super) struct Block {
    pub(super) pack: u32,
    pub(super) file: Arc<dyn PackFile>,
    /// Of the file; what the block holds.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where the first byte of the memory belongs in the file: a multiple of the alignment, so that what
    /// is aligned in the file is aligned in memory.
    base: u64,
    memory: Aligned,
}

impl Block {
    pub(super) fn new(pack: u32, file: Arc<dyn PackFile>, start: u64, memory: Aligned) -> Self {
        Self {
            pack,
            file,
            start,
            end: start,
            base: align_down(start),
            memory,
        }
    }

    pub(super) fn into_memory(self) -> Aligned {
        self.memory
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset - self.base).unwrap_or(usize::MAX)
    }

    fn bytes(&self, range: Range<u64>) -> &[u8] {
        self.memory
            .get(self.index(range.start)..self.index(range.end))
    }

    /// Bytes that still fit.
    pub(super) fn room(&self) -> usize {
        self.memory.len() - self.index(self.end)
    }

    /// Takes as much of `bytes` as fits; returns the rest.
    pub(super) fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(self.room()));
        let at = self.index(self.end);
        self.memory
            .get_mut(at..at + taken.len())
            .copy_from_slice(taken);
        self.end += taken.len() as u64;
        rest
    }

    /// Copies what the block has of the pack's bytes from `offset` on into `buf`.
    pub(super) fn copy_to(&self, pack: u32, offset: u64, buf: &mut [u8]) {
        let start = self.start.max(offset);
        let end = self.end.min(offset + buf.len() as u64);
        if pack == self.pack && start < end {
            let at = usize::try_from(start - offset).unwrap_or(usize::MAX);
            let found = self.bytes(start..end);
            buf[at..at + found.len()].copy_from_slice(found);
        }
    }

    /// Writes the block. The aligned middle goes around the page cache, where that pays and is possible;
    /// what is before and behind it goes through the cache, so that no page is written both ways.
    pub(super) fn write(&self) -> io::Result<()> {
        let align = direct_align_bytes() as u64;
        let (middle, tail) = (self.start.next_multiple_of(align), align_down(self.end));
        let least = (self.memory.len() / DIRECT_MIN_PART) as u64;
        let pays = tail > middle && tail - middle >= least;
        if pays && self.file.write_direct(self.bytes(middle..tail), middle)? {
            self.write_cached(self.start..middle)?;
            self.write_cached(tail..self.end)
        } else {
            self.write_cached(self.start..self.end)
        }
    }

    fn write_cached(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            Ok(())
        } else {
            self.file.write_at(self.bytes(range.clone()), range.start)
        }
    }

    /// Like [`Block::write`]; after a failure the space it took is given back.
    pub(super) fn write_or_undo(&self) -> io::Result<()> {
        let written = self.write();
        if written.is_err() {
            // If this fails too, the next attempt overwrites what is there.
            let _ = self.file.set_len(self.start);
        }
        written
    }
}
