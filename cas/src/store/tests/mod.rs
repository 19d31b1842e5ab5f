//! Tests of the store as a whole; the twins' conformance suite; power cuts against a model.

mod behaviour;
mod clones;
mod collect;
mod conformance;
mod cut_off;
mod damage;
mod directories;
mod failed_changes;
mod faults;
mod forged;
mod hostile_index;
mod in_place;
mod manifests;
mod mend;
mod model;
mod opening;
mod small;
mod stamps;
mod unfinished;

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use super::index::Index;
use super::medium::{Medium, PackFile};
use super::memory::{MemoryIndex, MemoryMedium};
use super::*;
use crate::bitmap::HaveBitmap;
use crate::chunker::{ChunkerParams, Chunking};
use crate::error::{IndexError, StoreError};
use crate::id::{Address, ChunkHash};
use crate::manifest::Manifest;
use crate::manifest::tests::manifest_of;
pub(super) use crate::testing::bytes_of;

/// The smallest chunks there are, so that several make up even a short file.
pub(super) const CHUNK: usize = 16_384;
pub(super) const SMALL_CHUNKS: ChunkerParams = ChunkerParams::Fixed {
    chunk_bytes: 16_384,
};

pub(super) fn put(store: &Store, bytes: &[u8]) -> ChunkHash {
    let hash = ChunkHash::of(bytes);
    store.put(&hash, bytes).unwrap();
    hash
}

/// Puts all chunks of a file, cut small.
pub(super) fn put_file(store: &Store, bytes: &[u8]) -> Manifest {
    let manifest = manifest_of(SMALL_CHUNKS, bytes);
    put_chunks(store, bytes, &manifest);
    manifest
}

pub(super) fn put_chunks(store: &Store, bytes: &[u8], manifest: &Manifest) {
    for (index, chunk) in manifest.chunks().iter().enumerate() {
        let range = manifest.chunk_range(index);
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        store.put(&chunk.hash, &bytes[range]).unwrap();
    }
}

/// The file put together from the store; `None` where a chunk is absent.
pub(super) fn read_file(store: &Store, address: &Address) -> Option<Vec<u8>> {
    let manifest = store.manifest(address).unwrap()?;
    let mut bytes = Vec::new();
    for chunk in manifest.chunks() {
        bytes.extend_from_slice(&store.get(&chunk.hash).unwrap()?);
    }
    Some(bytes)
}

/// Copies the files of one folder to another.
pub(super) fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// A medium whose writes fail as on a full disk once its space is used up, and whose reads and syncs can
/// be made to fail.
pub(super) struct FaultMedium {
    below: MemoryMedium,
    buffer_bytes: usize,
    faults: Arc<Faults>,
}

#[derive(Default)]
pub(super) struct Faults {
    space_bytes: AtomicI64,
    failing_syncs: AtomicI64,
    /// Syncs that were done, and how many may be before others fail.
    syncs: AtomicI64,
    failing_after: AtomicI64,
    failing_creates: AtomicI64,
    /// Reads that succeed before others fail.
    readable: AtomicI64,
    failing_reads: AtomicI64,
    /// What the cache says of a page that a failed sync lost: where it is, and its bytes.
    stale_page: Mutex<Option<(u64, Vec<u8>)>>,
    /// What a failing read says.
    read_errno: AtomicI32,
}

struct FaultFile {
    below: Arc<dyn PackFile>,
    faults: Arc<Faults>,
}

impl FaultMedium {
    pub(super) fn new(space_bytes: i64) -> (Arc<Self>, Arc<Faults>) {
        Self::with_buffer(space_bytes, 0)
    }

    /// The same, with chunks collected before they are written.
    pub(super) fn buffered(space_bytes: i64) -> (Arc<Self>, Arc<Faults>) {
        Self::with_buffer(space_bytes, 64 * 1024)
    }

    fn with_buffer(space_bytes: i64, buffer_bytes: usize) -> (Arc<Self>, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        faults.space_bytes.store(space_bytes, Ordering::Relaxed);
        faults.failing_after.store(i64::MAX, Ordering::Relaxed);
        let medium = Self {
            below: MemoryMedium::default(),
            buffer_bytes,
            faults: Arc::clone(&faults),
        };
        (Arc::new(medium), faults)
    }

    fn wrap(&self, below: Arc<dyn PackFile>) -> Arc<dyn PackFile> {
        Arc::new(FaultFile {
            below,
            faults: Arc::clone(&self.faults),
        })
    }
}

impl Medium for FaultMedium {
    fn ids(&self) -> io::Result<Vec<u32>> {
        self.below.ids()
    }

    fn open(&self, id: u32) -> io::Result<Arc<dyn PackFile>> {
        Ok(self.wrap(self.below.open(id)?))
    }

    fn create(&self, id: u32, header: &[u8]) -> io::Result<Arc<dyn PackFile>> {
        if self.faults.failing_creates.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.wrap(self.below.create(id, header)?))
    }

    fn remove(&self, id: u32) -> io::Result<()> {
        self.below.remove(id)
    }

    fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    fn disk_bytes_of(&self, id: u32) -> io::Result<u64> {
        self.below.disk_bytes_of(id)
    }

    fn disk_bytes(&self) -> u64 {
        self.below.disk_bytes()
    }

    fn path(&self) -> PathBuf {
        self.below.path()
    }
}

impl PackFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.faults.readable.fetch_sub(1, Ordering::Relaxed) > 0 {
            return self.below.read_at(buf, offset);
        }
        if self.faults.failing_reads.fetch_sub(1, Ordering::Relaxed) > 0 {
            let errno = self.faults.read_errno.load(Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.below.read_at(buf, offset)?;
        if let Some((at, page)) = &*lock(&self.faults.stale_page) {
            let cached = (*at..).zip(page);
            let end = offset + buf.len() as u64;
            for (at, byte) in cached.filter(|(at, _)| (offset..end).contains(at)) {
                buf[usize::try_from(at - offset).unwrap()] = *byte;
            }
        }
        Ok(())
    }

    fn forget_cached(&self, from: u64) {
        let mut stale = lock(&self.faults.stale_page);
        *stale = stale.take().filter(|(at, _)| *at < from);
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let wanted = i64::try_from(buf.len()).unwrap();
        let before = self.faults.space_bytes.fetch_sub(wanted, Ordering::Relaxed);
        if before < wanted {
            self.faults.space_bytes.store(before, Ordering::Relaxed);
            // A full disk lets the first part through.
            let part = usize::try_from(before.max(0)).unwrap();
            self.below.write_at(&buf[..part], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.below.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.below.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        if self.faults.failing_syncs.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Err(io::Error::other("sync failed"));
        }
        let syncs = self.faults.syncs.fetch_add(1, Ordering::Relaxed);
        if syncs >= self.faults.failing_after.load(Ordering::Relaxed) {
            return Err(io::Error::other("sync failed"));
        }
        self.below.sync()
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.below.punch(range)
    }
}
