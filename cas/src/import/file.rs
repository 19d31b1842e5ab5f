//! A regular file that is to be read whole and must not change meanwhile.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::ImportError;

/// What tells whether a path still leads to the very file that was read, with the same content.
///
/// Content and mode changes show in `ctime_ns`, content changes in `mtime_ns`, another file under the same
/// name in `inode`. Whoever keeps an identity should know that a file system may get another `device` number
/// at the next boot, and that a new link or another mode also changes `ctime_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Last change of the content, in nanoseconds since 1970; the nearest that an i64 can say.
    pub mtime_ns: i64,
    /// Last change of content, mode, owner or number of links, likewise.
    pub ctime_ns: i64,
    /// Inode number.
    pub inode: u64,
    /// The file system, as this boot of the machine numbers it.
    pub device: u64,
}

impl FileIdentity {
    /// The identity in a file's metadata.
    #[must_use]
    pub fn of(data: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size_bytes: data.len(),
            mtime_ns: nanoseconds(data.mtime(), data.mtime_nsec()),
            ctime_ns: nanoseconds(data.ctime(), data.ctime_nsec()),
            inode: data.ino(),
            device: data.dev(),
        }
    }
}

/// A file that is being read, and what it was when that began.
pub(super) struct SourceFile<'a> {
    pub(super) path: &'a Path,
    pub(super) file: File,
    pub(super) identity: FileIdentity,
}

impl<'a> SourceFile<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, ImportError> {
        let (file, data) = open_regular(path)?;
        Ok(Self {
            path,
            file,
            identity: FileIdentity::of(&data),
        })
    }

    /// To be asked when all was read: `read_bytes` must be the file as it was and as it is.
    pub(super) fn check_unchanged(&self, read_bytes: u64) -> Result<(), ImportError> {
        let now = match std::fs::metadata(self.path) {
            Ok(data) => Some(FileIdentity::of(&data)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(unreadable(self.path, source)),
        };
        if now == Some(self.identity) && read_bytes == self.identity.size_bytes {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    /// What to say when it is not what it was.
    pub(super) fn changed(&self) -> ImportError {
        ImportError::Changed {
            path: self.path.to_owned(),
        }
    }

    /// Says which file it was that could not be read.
    pub(super) fn name(&self, error: ImportError) -> ImportError {
        match error {
            ImportError::Read(source) => unreadable(self.path, source),
            other => other,
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> ImportError {
    ImportError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

fn kind_of(data: &Metadata) -> &'static str {
    let kind = data.file_type();
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_block_device() => "a block device",
        () if kind.is_char_device() => "a character device",
        () if kind.is_socket() => "a socket",
        () => "something else",
    }
}

/// Opens a regular file without ever waiting for the other end of a FIFO or waking a device.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata), ImportError> {
    let refuse = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ImportError::NotFound {
            path: path.to_owned(),
        },
        _ => unreadable(path, source),
    };
    let require_file = |data: &Metadata| {
        let kind = kind_of(data);
        data.is_file().then_some(()).ok_or(ImportError::NotAFile {
            path: path.to_owned(),
            kind,
        })
    };
    require_file(&std::fs::metadata(path).map_err(refuse)?)?;
    // Between the look and the open it may have become something else: hence without blocking.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(refuse)?;
    let data = file.metadata().map_err(refuse)?;
    require_file(&data)?;
    Ok((file, data))
}
