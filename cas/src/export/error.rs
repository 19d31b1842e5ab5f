//! Why a file could not be written.

use std::io;
use std::path::PathBuf;

use crate::error::io_is_no_space;

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The folder it should be in does not exist.
    #[error("folder {path} does not exist")]
    NoFolder {
        /// Which folder.
        path: PathBuf,
    },
    /// There is something of that name, and it may not be replaced.
    #[error("{path} exists")]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// There is something of that name that is never replaced: a directory, a device.
    #[error("{path} exists and is not a file")]
    NotAFile {
        /// What exists.
        path: PathBuf,
    },
    /// The folder takes no new file.
    #[error("no file can be made in folder {path}: {source}")]
    NotWritable {
        /// Which folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Files of others, or of another kind, have all the names a temporary file could have here.
    #[error("{path} and the like are not our files, and leave no temporary name: remove them")]
    NoTemporaryName {
        /// The first of the names.
        path: PathBuf,
    },
    /// The path has no file name.
    #[error("{path} does not name a file")]
    NoName {
        /// What was given.
        path: PathBuf,
    },
    /// Another process writes the same file just now.
    #[error("{path} is being written by another process")]
    Busy {
        /// Its temporary file.
        path: PathBuf,
    },
    /// Not enough space for the whole file.
    #[error("no space for {path}: {needed_bytes} bytes needed, {available_bytes} available")]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Its size.
        needed_bytes: u64,
        /// Bytes available.
        available_bytes: u64,
    },
    /// Bytes beyond the end of the file were to be written.
    #[error("{len_bytes} bytes at {offset} are outside the file")]
    OutOfRange {
        /// Where.
        offset: u64,
        /// How many.
        len_bytes: usize,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ExportError {
    /// Whether more space would help.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            ExportError::NoSpace { .. } => true,
            ExportError::Io { source, .. } => io_is_no_space(source),
            _ => false,
        }
    }

    /// Whether stored bytes are not what was written: never, an export has no stored bytes.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        false
    }
}
