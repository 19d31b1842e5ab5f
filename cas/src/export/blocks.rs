//! An output on its way around the page cache: collected in memory, written in large blocks by a thread of
//! its own.
//!
//! At most [`OPEN_BLOCKS`] are being filled and [`WAITING_BLOCKS`] are full and wait for the disk, 16 MiB in
//! all; then the caller waits. A block that is whole is written, and the one that has waited longest when
//! there are too many; [`Blocks::hand_over`] has all of them written. A block whose write failed is kept and
//! written again with the next one, or by [`Blocks::flush`], so that a full disk that gets room again has lost
//! nothing.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::block::{BLOCK_BYTES, Block, Disk};
use crate::direct::Aligned;

/// Blocks that are being filled: one for each of eight peers that send neighbours, and some for those whose turn begins. With
/// fewer, blocks are written half full and opened again.
const OPEN_BLOCKS: usize = 12;

/// Blocks that are to be written, the one that is being written included.
const WAITING_BLOCKS: usize = 4;

/// See the module. Any number of threads may write.
#[derive(Debug)]
pub(super) struct Blocks {
    disk: Box<dyn Disk>,
    size_bytes: u64,
    state: Mutex<State>,
    /// The writer is done with a block, or ends.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The one that was filled last is the last one.
    open: Vec<Block>,
    /// In the order in which they are written; the first one perhaps just now.
    waiting: VecDeque<Arc<Block>>,
    /// Somebody writes what waits.
    is_writing: bool,
    /// Why the first one that waits was not written.
    failure: Option<io::Error>,
    /// Memory of blocks that were written.
    spare: Vec<Aligned>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "open: {:?}, waiting: {:?}", self.open, self.waiting)
    }
}

impl State {
    /// Oldest first.
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.waiting.iter().map(Arc::as_ref).chain(&self.open)
    }

    /// Whether all of a range is in memory.
    fn covers(&self, range: &Range<u64>) -> bool {
        let mut offset = range.start;
        while offset < range.end {
            match self.blocks().find_map(|block| block.reaches(offset)) {
                Some(end) => offset = end,
                None => return false,
            }
        }
        true
    }
}

impl Blocks {
    pub(super) fn new(disk: Box<dyn Disk>, size_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            disk,
            size_bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Whether what is written goes around the page cache, for all that is known.
    pub(super) fn is_direct(&self) -> bool {
        self.disk.is_direct()
    }

    /// Takes bytes that are to be written. An error may be that of earlier ones, which are kept.
    pub(super) fn write(self: &Arc<Self>, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        let mut state = self.lock();
        if let Some(error) = state.failure.take() {
            return Err(error);
        }
        while !bytes.is_empty() {
            let start = Block::start_of(offset);
            let mut block = match state.open.iter().position(|block| block.start == start) {
                Some(at) => state.open.remove(at),
                None => {
                    state = self.make_room(state)?;
                    let memory = state.spare.pop();
                    Block::new(start, memory.unwrap_or_else(|| Aligned::new(BLOCK_BYTES)))
                }
            };
            let rest = block.fill(offset, bytes);
            offset += (bytes.len() - rest.len()) as u64;
            bytes = rest;
            if block.is_whole(self.size_bytes) {
                self.submit(&mut state, block);
            } else {
                state.open.push(block);
            }
        }
        Ok(())
    }

    /// Has everything written that was taken, without waiting for that. An error is that of the next call.
    pub(super) fn hand_over(self: &Arc<Self>) {
        let mut state = self.lock();
        for block in std::mem::take(&mut state.open) {
            self.submit(&mut state, block);
        }
    }

    /// Returns when one more block may be in memory.
    fn make_room<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
    ) -> io::Result<MutexGuard<'a, State>> {
        loop {
            if let Some(error) = state.failure.take() {
                return Err(error);
            }
            if state.open.len() >= OPEN_BLOCKS {
                let oldest = state.open.remove(0);
                self.submit(&mut state, oldest);
            } else if state.waiting.len() >= WAITING_BLOCKS {
                state = self.wait(state);
            } else {
                return Ok(state);
            }
        }
    }

    fn submit(self: &Arc<Self>, state: &mut State, block: Block) {
        state.waiting.push_back(Arc::new(block));
        if !state.is_writing {
            let (this, task) = (Arc::clone(self), thread::Builder::new());
            // Without a thread they are written by whoever waits for them.
            let task = task
                .name("output-writer".into())
                .spawn(move || this.drain());
            state.is_writing = task.is_ok();
        }
    }

    /// Waits until a block is written; does it when nobody else does.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.is_writing {
            let woken = self.changed.wait(state);
            return woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        drop(state);
        self.drain();
        self.lock()
    }

    /// Writes what waits until nothing does, or it fails.
    fn drain(&self) {
        let mut state = self.lock();
        while let Some(block) = state.waiting.front().cloned() {
            drop(state);
            let written = block.write(self.disk.as_ref());
            state = self.lock();
            if let Err(error) = written {
                state.failure = Some(error);
                break;
            }
            state.waiting.pop_front();
            // Nobody else has it: readers copy under the lock.
            if let Some(block) = Arc::into_inner(block) {
                state.spare.push(block.into_memory());
            }
            self.changed.notify_all();
        }
        state.is_writing = false;
        drop(state);
        self.changed.notify_all();
    }

    /// Returns when everything is written, with no thread at work and no memory held. After an error
    /// everything that was not written is kept, and calling again goes on.
    pub(super) fn flush(&self) -> io::Result<()> {
        let mut state = self.lock();
        let open = std::mem::take(&mut state.open);
        state.waiting.extend(open.into_iter().map(Arc::new));
        while state.is_writing {
            state = self.wait(state);
        }
        // What failed is tried once more.
        state.failure = None;
        if !state.waiting.is_empty() {
            state = self.wait(state);
        }
        state.spare.clear();
        state.failure.take().map_or(Ok(()), Err)
    }

    /// Returns when nothing is written any more, and nothing will be.
    pub(super) fn discard(&self) {
        let mut state = self.lock();
        state.open.clear();
        while state.is_writing {
            state.waiting.truncate(1);
            state = self.wait(state);
        }
        *state = State::default();
    }

    /// Whether something of the range is not written yet.
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.lock().blocks().any(|block| block.touches(range))
    }

    /// Fills `buf` from `offset` with what was written, whether the disk has it yet or not.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let range = offset..offset.saturating_add(buf.len() as u64);
        let state = self.lock();
        if !state.blocks().any(|block| block.touches(&range)) {
            drop(state);
            return self.disk.read(buf, offset);
        }
        // Under the lock: what is written meanwhile would be missed.
        if !state.covers(&range) {
            self.disk.read(buf, offset)?;
        }
        state.blocks().for_each(|block| block.copy_to(offset, buf));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
