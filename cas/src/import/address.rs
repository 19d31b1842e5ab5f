//! The address of a file on disk, computed on several threads.
//!
//! BLAKE3 is a tree: its subtrees are hashed apart, by whichever thread is free, and merged to the root. Each
//! thread reads into a buffer of its own that stays in its cache: mapping the file would save that copy, and
//! end the process when somebody truncates the file meanwhile.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt};

use super::file::SourceFile;
use super::{ImportError, ImportProgress};
use crate::id::Address;
use crate::proof::{group_bytes_for, merge_to_root};

/// Bytes that a thread reads and hashes at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Bytes of a subtree, unless the file has more than `MAX_SUBTREES` of them.
const MIN_SUBTREE_BYTES: u64 = 1024 * 1024;

/// Most subtrees: half a mebibyte of chaining values.
const MAX_SUBTREES: usize = 1 << 14;

/// Most threads that hash one file, the caller's among them.
const MAX_THREADS: usize = 4;

/// The address of the regular file at `path`, which must not change meanwhile.
pub(crate) fn address_of_file(
    path: &Path,
    progress: ImportProgress<'_>,
) -> Result<Address, ImportError> {
    SourceFile::open(path)?.address(progress)
}

/// The address of an open file, from its beginning to its end as they are now. Moves no cursor.
pub(crate) fn address_of_open(
    file: &File,
    progress: ImportProgress<'_>,
) -> Result<Address, ImportError> {
    let size_bytes = file.metadata().map_err(ImportError::Read)?.len();
    let mut tell = teller(progress, size_bytes);
    hash(file, size_bytes, subtree_bytes(size_bytes), &mut tell)
}

/// Tells how much of so many bytes is done; whoever hears it may end the work.
fn teller<'a>(
    progress: ImportProgress<'a>,
    size_bytes: u64,
) -> impl FnMut(u64) -> Result<(), ImportError> + 'a {
    move |done_bytes| match progress(done_bytes, Some(size_bytes)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ImportError::Cancelled),
    }
}

/// The subtrees that a file of this size is hashed in.
fn subtree_bytes(size_bytes: u64) -> u64 {
    group_bytes_for(size_bytes, MAX_SUBTREES).max(MIN_SUBTREE_BYTES)
}

impl SourceFile<'_> {
    /// The address of the file, which is what it was when it was opened. Moves no cursor.
    pub(super) fn address(&self, progress: ImportProgress<'_>) -> Result<Address, ImportError> {
        let size_bytes = self.identity.size_bytes;
        let mut tell = teller(progress, size_bytes);
        let address = hash(&self.file, size_bytes, subtree_bytes(size_bytes), &mut tell);
        match address {
            // It has become shorter.
            Err(ImportError::Read(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.changed())
            }
            Err(error) => Err(self.name(error)),
            Ok(address) => self.check_unchanged(size_bytes).map(|()| address),
        }
    }
}

/// Is told the bytes done, on the caller's thread; an error ends the work.
type Tell<'a> = &'a mut dyn FnMut(u64) -> Result<(), ImportError>;

/// `subtree_bytes` is a power of two of at least 1,024.
fn hash(
    file: &File,
    size_bytes: u64,
    subtree_bytes: u64,
    tell: Tell<'_>,
) -> Result<Address, ImportError> {
    tell(0)?;
    let subtrees = size_bytes.div_ceil(subtree_bytes);
    let work = Work {
        file,
        size_bytes,
        subtree_bytes,
        subtrees,
        next: AtomicU64::new(0),
        done_bytes: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    if subtrees <= 1 {
        // The only subtree is the root.
        let mut hasher = Hasher::new();
        work.hash_subtree(0, &mut hasher, &mut work.buffer(), tell)?;
        return Ok(Address::from_bytes(*hasher.finalize().as_bytes()));
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores
        .min(MAX_THREADS)
        .min(usize::try_from(subtrees).unwrap_or(MAX_THREADS));
    let mut values = thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|_| scope.spawn(|| work.hash_subtrees(&mut |_| Ok(()))))
            .collect();
        let mut values = work.hash_subtrees(tell);
        for other in others {
            let other = other.join();
            let other = other.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            values = values.and_then(|values| Ok([values, other?].concat()));
        }
        values
    })?;
    tell(size_bytes)?;
    values.sort_unstable_by_key(|(subtree, _)| *subtree);
    let values = values.into_iter().map(|(_, value)| value).collect();
    Ok(merge_to_root(values).expect("more than one subtree, and each was hashed"))
}

/// What the threads share: each takes the next subtree that nobody has.
struct Work<'a> {
    file: &'a File,
    size_bytes: u64,
    subtree_bytes: u64,
    subtrees: u64,
    next: AtomicU64,
    done_bytes: AtomicU64,
    /// One of them failed: the others need not go on.
    is_over: AtomicBool,
}

impl Work<'_> {
    fn buffer(&self) -> Vec<u8> {
        let file_bytes = usize::try_from(self.size_bytes).unwrap_or(PIECE_BYTES);
        vec![0; PIECE_BYTES.min(file_bytes)]
    }

    /// Hashes until no subtree is left; all of them are done when every thread returns without an error.
    fn hash_subtrees(&self, tell: Tell<'_>) -> Result<Vec<(u64, ChainingValue)>, ImportError> {
        let mut buffer = self.buffer();
        let mut values = Vec::new();
        loop {
            let subtree = self.next.fetch_add(1, Ordering::Relaxed);
            if subtree >= self.subtrees || self.is_over.load(Ordering::Relaxed) {
                return Ok(values);
            }
            let mut hasher = Hasher::new();
            hasher.set_input_offset(subtree * self.subtree_bytes);
            let hashed = self.hash_subtree(subtree, &mut hasher, &mut buffer, tell);
            if hashed.is_err() {
                self.is_over.store(true, Ordering::Relaxed);
            }
            hashed?;
            values.push((subtree, hasher.finalize_non_root()));
        }
    }

    fn hash_subtree(
        &self,
        subtree: u64,
        hasher: &mut Hasher,
        buffer: &mut [u8],
        tell: Tell<'_>,
    ) -> Result<(), ImportError> {
        let mut offset = subtree * self.subtree_bytes;
        let end = self.size_bytes.min(offset + self.subtree_bytes);
        while offset < end && !self.is_over.load(Ordering::Relaxed) {
            let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let len = buffer.len().min(left);
            let piece = &mut buffer[..len];
            let read = self.file.read_exact_at(piece, offset);
            read.map_err(ImportError::Read)?;
            hasher.update(piece);
            let len = piece.len() as u64;
            offset += len;
            tell(self.done_bytes.fetch_add(len, Ordering::Relaxed) + len)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
