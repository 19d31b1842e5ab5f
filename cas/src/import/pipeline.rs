//! Read, cut, hash, hand on: overlapped, in the order of the file, in constant memory.
//!
//! The caller's thread reads into blocks and cuts them; a second one hashes every chunk twice while it is
//! in cache, once for its name and once for the file's proof tree; a third one gives the chunks to the sink
//! and returns the blocks. The number of blocks is fixed, so the channels between the threads never hold
//! more, and the reading side waits for a block when the sink is slower than it is.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use super::memory::Allowance;
use super::{ImportError, ImportProgress};
use crate::chunker::{Chunker, ChunkerParams, MAX_CHUNKS};
use crate::id::ChunkHash;
use crate::manifest::{ChunkRef, ManifestError};
use crate::proof::{ProofBuilder, ProofTree};

/// While it waits for a block, the reading side asks this often whether the caller cancels.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// Takes each chunk with its bytes, in order, on a thread of its own. An error ends the run.
pub(super) type Sink<'a> = &'a mut (dyn FnMut(ChunkRef, &[u8]) -> Result<(), ImportError> + Send);

/// What is known when all was read.
pub(super) struct Cut {
    pub(super) chunks: Vec<ChunkRef>,
    pub(super) proof: ProofTree,
}

/// Bytes that were read, and where they are cut.
struct CutBlock {
    bytes: Vec<u8>,
    chunk_bytes: Vec<u32>,
    /// Whether its only chunk is the whole file.
    is_file: bool,
}

struct HashedBlock {
    bytes: Vec<u8>,
    chunks: Vec<ChunkRef>,
}

/// Takes `reader` through all stages until its end. `total_bytes` is for the progress only.
pub(super) fn run(
    reader: &mut dyn Read,
    total_bytes: Option<u64>,
    params: ChunkerParams,
    progress: ImportProgress<'_>,
    sink: Sink<'_>,
) -> Result<Cut, ImportError> {
    let chunker = Chunker::new(params).ok_or(ManifestError::Params)?;
    let allowance = Allowance::take(chunker.needed_bytes());
    let (cut, to_hash) = sync_channel(allowance.blocks);
    let (hashed, to_sink) = sync_channel(allowance.blocks);
    let (returned, free) = sync_channel(allowance.blocks);
    let reading = ReadingSide {
        reader,
        chunker,
        free,
        unallocated_blocks: allowance.blocks,
        block_bytes: allowance.block_bytes,
        progress,
        done_bytes: 0,
        total_bytes,
        chunks: 0,
    };
    thread::scope(|scope| {
        let hasher = scope.spawn(move || hash_blocks(to_hash, &hashed));
        let giver = scope.spawn(move || give_blocks(to_sink, &returned, sink));
        let read = reading.run(cut);
        let given = join(giver);
        let hashed = join(hasher);
        // The sides before a sink that failed stop because of that: its error is the reason.
        given?;
        read?;
        Ok(hashed)
    })
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

struct ReadingSide<'a> {
    reader: &'a mut dyn Read,
    chunker: Chunker,
    /// Blocks that come back.
    free: Receiver<Vec<u8>>,
    unallocated_blocks: usize,
    block_bytes: usize,
    progress: ImportProgress<'a>,
    done_bytes: u64,
    total_bytes: Option<u64>,
    chunks: usize,
}

impl ReadingSide<'_> {
    /// Dropping `full` on return ends the other threads.
    fn run(mut self, full: SyncSender<CutBlock>) -> Result<(), ImportError> {
        self.tell()?;
        let mut bytes = self.free_block()?;
        let mut filled = 0;
        let mut is_first = true;
        loop {
            let at_end = self.fill(&mut bytes, &mut filled)?;
            let (chunk_bytes, cut_bytes) = self.cut(&bytes[..filled], at_end)?;
            let mut next = Vec::new();
            if !at_end {
                next = self.free_block()?;
                let rest = &bytes[cut_bytes..filled];
                next[..rest.len()].copy_from_slice(rest);
                filled = rest.len();
            }
            let is_file = is_first && at_end && chunk_bytes.len() == 1;
            let block = CutBlock {
                bytes,
                chunk_bytes,
                is_file,
            };
            if full.send(block).is_err() {
                return Err(ImportError::Cancelled);
            }
            if at_end {
                return Ok(());
            }
            bytes = next;
            is_first = false;
        }
    }

    fn tell(&mut self) -> Result<(), ImportError> {
        match (self.progress)(self.done_bytes, self.total_bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ImportError::Cancelled),
        }
    }

    /// A block to read into: one that came back, rather than a new one.
    fn free_block(&mut self) -> Result<Vec<u8>, ImportError> {
        if let Ok(block) = self.free.try_recv() {
            return Ok(block);
        }
        if self.unallocated_blocks > 0 {
            self.unallocated_blocks -= 1;
            return Ok(vec![0; self.block_bytes]);
        }
        loop {
            match self.free.recv_timeout(ASK_INTERVAL) {
                Ok(block) => return Ok(block),
                Err(RecvTimeoutError::Timeout) => self.tell()?,
                // Another thread failed, and its error is the one that is reported.
                Err(RecvTimeoutError::Disconnected) => return Err(ImportError::Cancelled),
            }
        }
    }

    /// Reads until the block is full, or to the end: then true.
    fn fill(&mut self, block: &mut [u8], filled: &mut usize) -> Result<bool, ImportError> {
        while *filled < block.len() {
            match self.reader.read(&mut block[*filled..]) {
                Ok(0) => return Ok(true),
                Ok(count) => *filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ImportError::Read(error)),
            }
        }
        Ok(false)
    }

    /// The lengths of the chunks that `bytes` begin with, and their sum.
    fn cut(&mut self, bytes: &[u8], at_end: bool) -> Result<(Vec<u32>, usize), ImportError> {
        let mut lengths = Vec::new();
        let mut rest = bytes;
        while let Some(len) = self.chunker.cut(rest, at_end) {
            if self.chunks == MAX_CHUNKS {
                return Err(ImportError::TooLarge);
            }
            self.chunks += 1;
            // At most MAX_CHUNK_BYTES.
            lengths.push(u32::try_from(len).unwrap_or(u32::MAX));
            rest = &rest[len..];
            self.done_bytes += len as u64;
            self.tell()?;
        }
        Ok((lengths, bytes.len() - rest.len()))
    }
}

/// The hashing thread. Ends when the reading side is done, or when the next thread is.
fn hash_blocks(blocks: Receiver<CutBlock>, hashed: &SyncSender<HashedBlock>) -> Cut {
    let mut proof = ProofBuilder::new();
    let mut all = Vec::new();
    for block in blocks {
        let mut chunks = Vec::with_capacity(block.chunk_bytes.len());
        let mut rest = block.bytes.as_slice();
        for len_bytes in block.chunk_bytes {
            let (bytes, later) = rest.split_at(len_bytes as usize);
            rest = later;
            proof.update(bytes);
            let hash = if block.is_file {
                ChunkHash::from_bytes(*proof.address().as_bytes())
            } else {
                ChunkHash::of(bytes)
            };
            chunks.push(ChunkRef { hash, len_bytes });
        }
        all.extend_from_slice(&chunks);
        let bytes = block.bytes;
        if hashed.send(HashedBlock { bytes, chunks }).is_err() {
            break;
        }
    }
    Cut {
        chunks: all,
        proof: proof.finish(),
    }
}

/// The sink's thread. Ends when the thread before it is done, or with the first error.
fn give_blocks(
    blocks: Receiver<HashedBlock>,
    returned: &SyncSender<Vec<u8>>,
    sink: Sink<'_>,
) -> Result<(), ImportError> {
    for HashedBlock { bytes, chunks } in blocks {
        let mut rest = bytes.as_slice();
        for chunk in chunks {
            let (bytes, later) = rest.split_at(chunk.len_bytes as usize);
            rest = later;
            sink(chunk, bytes)?;
        }
        // Nobody takes it when the reading side is done.
        let _ = returned.send(bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
