//! The file of an output.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::block::Disk;
use super::blocks::Blocks;
use crate::direct::Direct;

/// Smaller outputs go through the page cache.
const DIRECT_MIN_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A file that an output is written to. Whoever reads from it sees what was written, whether the file has
/// it yet or not.
#[derive(Debug)]
pub struct OutputFile {
    file: Arc<File>,
    /// `None`: what is written goes to the page cache at once.
    blocks: Option<Arc<Blocks>>,
}

#[derive(Debug)]
struct FileDisk {
    cached: Arc<File>,
    direct: Direct,
}

impl Disk for FileDisk {
    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.cached.read_exact_at(buf, offset)
    }

    fn write(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.cached.write_all_at(buf, offset)
    }

    fn write_direct(&self, buf: &[u8], offset: u64) -> io::Result<bool> {
        self.direct.write(buf, offset)
    }

    fn is_direct(&self) -> bool {
        self.direct.is_on()
    }
}

/// A file that is there already, or is written through the page cache.
impl From<File> for OutputFile {
    fn from(file: File) -> Self {
        Self {
            file: Arc::new(file),
            blocks: None,
        }
    }
}

impl OutputFile {
    /// `file` is at `path`, and gets a size for which going around the page cache pays, or not.
    pub(super) fn direct(file: File, path: &Path, size_bytes: u64) -> Self {
        if size_bytes < DIRECT_MIN_FILE_BYTES {
            return file.into();
        }
        let direct = Direct::of(&file, path);
        let mut output = Self::from(file);
        if direct.is_on() {
            let cached = Arc::clone(&output.file);
            let disk = Box::new(FileDisk { cached, direct });
            output.blocks = Some(Blocks::new(disk, size_bytes));
        }
        output
    }

    /// As the system has it, without what is on its way.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether what is written goes around the page cache: a sync along the way gains nothing.
    pub(super) fn is_direct(&self) -> bool {
        self.blocks
            .as_ref()
            .is_some_and(|blocks| blocks.is_direct())
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.blocks {
            Some(blocks) => blocks.write(bytes, offset),
            None => self.file.write_all_at(bytes, offset),
        }
    }

    /// Gives the system everything that was written; see [`Blocks::flush`].
    pub(super) fn flush(&self) -> io::Result<()> {
        self.blocks.as_ref().map_or(Ok(()), |blocks| blocks.flush())
    }

    /// The same without waiting for it; an error is told later.
    pub(super) fn hand_over(&self) {
        if let Some(blocks) = &self.blocks {
            blocks.hand_over();
        }
    }

    /// Writes nothing any more.
    pub(super) fn discard(&self) {
        if let Some(blocks) = &self.blocks {
            blocks.discard();
        }
    }

    /// Whether something of the range is on its way.
    pub(super) fn has_unwritten(&self, range: &Range<u64>) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| blocks.has(range))
    }

    /// Fills `buf` with what is at `offset`.
    ///
    /// # Errors
    /// What the medium says; `UnexpectedEof` behind the end.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.blocks {
            Some(blocks) => blocks.read(buf, offset),
            None => self.file.read_exact_at(buf, offset),
        }
    }

    /// Returns when what the system has of it survives a power cut.
    ///
    /// # Errors
    /// What the medium says.
    pub fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
