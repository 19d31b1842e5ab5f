//! Where pack files are: a folder, or memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::dir_bytes;

/// One pack file. All methods may be called at the same time.
pub(crate) trait PackFile: Send + Sync {
    /// Fills `buf` from `offset`, or fails with `UnexpectedEof`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf` at `offset`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
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
    /// Creates a pack that begins with `header`; it survives a power cut when this returns.
    fn create(&self, id: u32, header: &[u8]) -> io::Result<Arc<dyn PackFile>>;
    /// Removes a pack; it stays gone after a power cut when this returns. Open handles go on.
    fn remove(&self, id: u32) -> io::Result<()>;
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
}

impl DirMedium {
    /// Uses `dir`, creating it when needed.
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self {
            dir,
            read_only: false,
        })
    }

    /// Uses the packs in `dir` without ever writing.
    pub(crate) fn read_only(dir: PathBuf) -> Self {
        Self {
            dir,
            read_only: true,
        }
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
        Ok(Arc::new(DiskFile(file)))
    }

    fn create(&self, id: u32, header: &[u8]) -> io::Result<Arc<dyn PackFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.open(self.file_path(id))?;
        file.write_all_at(header, 0)?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        Ok(Arc::new(DiskFile(file)))
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

struct DiskFile(File);

impl PackFile for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        use rustix::fs::FallocateFlags;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.0, flags, range.start, range.end - range.start) {
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            result => Ok(result?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn punch(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }
}
