//! A piece of an output that is being collected.

use std::fmt;
use std::io;
use std::ops::Range;

use crate::direct::{Aligned, align_down, direct_align_bytes};

/// What is collected before it is written. The processor time of direct writes falls with their size, and
/// hardly any more from here on; with larger ones fewer could be open in the same memory.
pub(super) const BLOCK_BYTES: usize = 1024 * 1024;

/// Direct I/O does not pay for less.
const DIRECT_MIN_BYTES: u64 = 128 * 1024;

/// Where an output is written to.
pub(super) trait Disk: Send + Sync + fmt::Debug {
    /// Fills `buf`, or fails with `UnexpectedEof`.
    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf`, through the page cache.
    fn write(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// The same around it; `false` where that is not possible, and the bytes are still to be written.
    /// Address, length and offset are multiples of [`direct_align_bytes`].
    fn write_direct(&self, buf: &[u8], offset: u64) -> io::Result<bool>;
    /// Whether [`Disk::write_direct`] may do it.
    fn is_direct(&self) -> bool;
}

/// [`BLOCK_BYTES`] of the output from a multiple of that on, as far as they came.
pub(super) struct Block {
    /// Of the output.
    pub(super) start: u64,
    /// What came, ascending; two of them never touch.
    parts: Vec<Range<usize>>,
    memory: Aligned,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of the block at {}", self.parts, self.start)
    }
}

impl Block {
    /// The block that has `offset`, with whatever is in `memory` no part of it.
    pub(super) fn new(offset: u64, memory: Aligned) -> Self {
        Self {
            start: Self::start_of(offset),
            parts: Vec::new(),
            memory,
        }
    }

    pub(super) fn start_of(offset: u64) -> u64 {
        offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64
    }

    pub(super) fn into_memory(self) -> Aligned {
        self.memory
    }

    /// Copies the prefix of `bytes` that fits into this block at `offset`; returns the rest.
    pub(super) fn fill<'a>(&mut self, offset: u64, bytes: &'a [u8]) -> &'a [u8] {
        let from = self.index(offset);
        let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - from));
        let new = from..from + taken.len();
        self.memory.get_mut(new.clone()).copy_from_slice(taken);
        self.note(new);
        rest
    }

    fn note(&mut self, new: Range<usize>) {
        let first = self.parts.partition_point(|part| part.end < new.start);
        let end = self.parts.partition_point(|part| part.start <= new.end);
        let merge = |all: Range<usize>, part: &Range<usize>| {
            all.start.min(part.start)..all.end.max(part.end)
        };
        let merged = self.parts[first..end].iter().fold(new, merge);
        self.parts.splice(first..end, [merged]);
    }

    /// Whether all came, of an output that ends at `size_bytes`.
    pub(super) fn is_whole(&self, size_bytes: u64) -> bool {
        let end = self.index(size_bytes);
        matches!(&self.parts[..], [part] if part.start == 0 && part.end >= end)
    }

    /// Where `offset` is in this block, or the end of it that is nearer.
    fn index(&self, offset: u64) -> usize {
        let index = usize::try_from(offset.saturating_sub(self.start));
        index.map_or(BLOCK_BYTES, |index| index.min(BLOCK_BYTES))
    }

    /// What this has of a range of the output.
    fn parts_in(&self, range: &Range<u64>) -> impl Iterator<Item = Range<usize>> {
        let range = self.index(range.start)..self.index(range.end);
        let common =
            move |part: &Range<usize>| part.start.max(range.start)..part.end.min(range.end);
        self.parts
            .iter()
            .map(common)
            .filter(|part| !part.is_empty())
    }

    pub(super) fn touches(&self, range: &Range<u64>) -> bool {
        self.parts_in(range).next().is_some()
    }

    /// The end of the contiguous data that starts at `offset`.
    pub(super) fn reaches(&self, offset: u64) -> Option<u64> {
        let part = self.parts_in(&(offset..offset + 1)).next()?;
        let whole = self.parts.iter().find(|p| p.contains(&part.start))?;
        Some(self.start + whole.end as u64)
    }

    /// Copies what this has of the output's bytes from `offset` on into `buf`.
    pub(super) fn copy_to(&self, offset: u64, buf: &mut [u8]) {
        for part in self.parts_in(&(offset..offset + buf.len() as u64)) {
            let at = usize::try_from(self.start + part.start as u64 - offset).unwrap_or(buf.len());
            buf[at..at + part.len()].copy_from_slice(self.memory.get(part));
        }
    }

    /// Writes what came. Whole pages go around the page cache, where that pays and is possible; what is
    /// before and behind them goes through the cache, so that no page is written both ways.
    pub(super) fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let align = direct_align_bytes() as u64;
        let write = |range: Range<u64>| {
            if range.is_empty() {
                return Ok(());
            }
            disk.write(self.bytes(&range), range.start)
        };
        for part in &self.parts {
            let (start, end) = (self.start + part.start as u64, self.start + part.end as u64);
            let middle = start.next_multiple_of(align)..align_down(end);
            let pays = middle.end >= middle.start + DIRECT_MIN_BYTES;
            if pays && disk.write_direct(self.bytes(&middle), middle.start)? {
                write(start..middle.start)?;
                write(middle.end..end)?;
            } else {
                write(start..end)?;
            }
        }
        Ok(())
    }

    fn bytes(&self, range: &Range<u64>) -> &[u8] {
        self.memory
            .get(self.index(range.start)..self.index(range.end))
    }
}
