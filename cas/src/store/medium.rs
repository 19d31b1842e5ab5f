//! Where pack files are: a folder, or memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::dir_bytes;
use crate::direct::Direct;

/// What [`DirMedium`] wants to be written at once. The processor time of direct writes falls with the size
/// (0.3 s per GiB with 512 KiB, 0.2 s with 4 MiB); two blocks of this are in memory.
const WRITE_BYTES: usize = 4 * 1024 * 1024;

/// One pack file. All methods may be called at the same time.
pub(crate) trait PackFile: Send + Sync {
    /// Fills `buf` from `offset`, or fails with `UnexpectedEof`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf` at `offset`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Like [`PackFile::write_at`], around the page cache; `false` where that is not possible, and the bytes
    /// are still to be written. All of buffer, offset and length are multiples of [`crate::direct::direct_align_bytes`].
    fn write_direct(&self, _buf: &[u8], _offset: u64) -> io::Result<bool> {
        Ok(false)
    }
    /// Starts to read these bytes into the cache, behind the caller; a hint.
    fn will_need(&self, _range: Range<u64>) {}
    /// Has all from `from` on read from the disk when it is read next, as far as the system does that; what
    /// was written and not synced stays in the cache.
    fn forget_cached(&self, _from: u64) {}
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns when everything written before the call survives a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Gives the space of these bytes back, which then read as zeros; where that is not possible the
    /// bytes stay.
    fn punch(&self, range: Range<u64>) -> io::Result<()>;
}

/// A collection of numbered pack files.
pub(crate) trait Medium: Send + Sync {
    /// The numbers of all packs, ascending.
    fn ids(&self) -> io::Result<Vec<u32>>;
    /// Opens an existing pack.
    fn open(&self, id: u32) -> io::Result<Arc<dyn PackFile>>;
    /// Creates a pack that begins with `header`; it survives a power cut when this returns. Fails with
    /// `AlreadyExists` when there is one of this number; after any other failure there is none.
    fn create(&self, id: u32, header: &[u8]) -> io::Result<Arc<dyn PackFile>>;
    /// Removes a pack; it stays gone after a power cut when this returns. Open handles go on.
    fn remove(&self, id: u32) -> io::Result<()>;
    /// Whether nothing can be written.
    fn is_read_only(&self) -> bool {
        false
    }
    /// How much should be collected before it is written; 0 where that gains nothing.
    fn buffer_bytes(&self) -> usize {
        0
    }
    /// Bytes that a pack occupies.
    fn disk_bytes_of(&self, id: u32) -> io::Result<u64>;
    /// Bytes that all of them occupy.
    fn disk_bytes(&self) -> u64;
    /// What to call the packs in an error.
    fn path(&self) -> PathBuf;
}

/// Packs in a folder, `%08x.pack` each.
pub(crate) struct DirMedium {
    dir: PathBuf,
    read_only: bool,
    direct_io: bool,
}

impl DirMedium {
    /// Uses `dir`, creating it when needed.
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self {
            dir,
            read_only: false,
            direct_io: true,
        })
    }

    /// Uses the packs in `dir` without ever writing.
    pub(crate) fn read_only(dir: PathBuf) -> Self {
        Self {
            dir,
            read_only: true,
            direct_io: false,
        }
    }

    /// Whether packs are written around the page cache, where the file system can do that; so they are
    /// unless told otherwise.
    pub(crate) fn with_direct_io(self, direct_io: bool) -> Self {
        Self { direct_io, ..self }
    }

    fn disk_file(&self, id: u32, cached: File) -> Arc<dyn PackFile> {
        let direct = if self.direct_io {
            Direct::later(self.file_path(id))
        } else {
            Direct::off()
        };
        Arc::new(DiskFile { cached, direct })
    }

    fn file_path(&self, id: u32) -> PathBuf {
        self.dir.join(format!("{id:08x}.pack"))
    }
}

impl Medium for DirMedium {
    fn ids(&self) -> io::Result<Vec<u32>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".pack"));
            if let Some(digits) = digits.filter(|digits| digits.len() == 8)
                && let Ok(id) = u32::from_str_radix(digits, 16)
            {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn open(&self, id: u32) -> io::Result<Arc<dyn PackFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(!self.read_only)
            .open(self.file_path(id))?;
        Ok(self.disk_file(id, file))
    }

    fn create(&self, id: u32, header: &[u8]) -> io::Result<Arc<dyn PackFile>> {
        let path = self.file_path(id);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.open(&path)?;
        let begin = || {
            file.write_all_at(header, 0)?;
            file.sync_all()?;
            File::open(&self.dir)?.sync_all()
        };
        if let Err(error) = begin() {
            if let Err(error) = fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %error, "a pack that was not begun stays behind");
            }
            return Err(error);
        }
        Ok(self.disk_file(id, file))
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn buffer_bytes(&self) -> usize {
        WRITE_BYTES
    }

    fn remove(&self, id: u32) -> io::Result<()> {
        fs::remove_file(self.file_path(id))?;
        File::open(&self.dir)?.sync_all()
    }

    fn disk_bytes_of(&self, id: u32) -> io::Result<u64> {
        Ok(fs::metadata(self.file_path(id))?.blocks() * 512)
    }

    fn disk_bytes(&self) -> u64 {
        dir_bytes(&self.dir)
    }

    fn path(&self) -> PathBuf {
        self.dir.clone()
    }
}

struct DiskFile {
    cached: File,
    direct: Direct,
}

/// Has the kernel read ahead in pieces, since it takes no more of one call than the device takes at once.
#[cfg(target_os = "linux")]
fn read_ahead(file: &File, range: Range<u64>) {
    const PIECE_BYTES: u64 = 512 * 1024;
    let mut start = range.start;
    while let Some(len) = NonZeroU64::new(range.end.saturating_sub(start).min(PIECE_BYTES)) {
        let advice = rustix::fs::Advice::WillNeed;
        if rustix::fs::fadvise(file, start, Some(len), advice).is_err() {
            return;
        }
        start += len.get();
    }
}

#[cfg(not(target_os = "linux"))]
fn read_ahead(_file: &File, _range: Range<u64>) {}

#[cfg(target_os = "linux")]
fn forget_cached(file: &File, from: u64) {
    // A page is forgotten only when all of it is in the range.
    let page = rustix::param::page_size() as u64;
    let start = from / page * page;
    if let Err(error) = rustix::fs::fadvise(file, start, None, rustix::fs::Advice::DontNeed) {
        tracing::debug!(%error, "a pack may be read from the cache");
    }
}

#[cfg(not(target_os = "linux"))]
fn forget_cached(_file: &File, _from: u64) {}

impl PackFile for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.cached.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.cached.write_all_at(buf, offset)
    }

    fn write_direct(&self, buf: &[u8], offset: u64) -> io::Result<bool> {
        self.direct.write(buf, offset)
    }

    fn will_need(&self, range: Range<u64>) {
        read_ahead(&self.cached, range);
    }

    fn forget_cached(&self, from: u64) {
        forget_cached(&self.cached, from);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.cached.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cached.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.cached.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        use rustix::fs::FallocateFlags;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.cached, flags, range.start, range.end - range.start) {
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            result => Ok(result?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn punch(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
