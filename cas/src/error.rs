//! What can go wrong in the store, and the three questions a caller asks about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::directory::ListingError;
use crate::id::{Address, ChunkHash};
use crate::manifest::ManifestError;

/// A failure of the database that serves as index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The medium failed.
    #[error("index: {0}")]
    Io(#[from] io::Error),
    /// The database says that its files are damaged.
    #[error("index is damaged")]
    Corrupt(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// A value is not in the layout of this version.
    #[error("index holds a malformed entry")]
    Malformed,
    /// The database panicked, which it does on some kinds of damage.
    #[error("index database panicked")]
    Panicked,
    /// Anything else the database reports.
    #[error("index: {0}")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused an operation on a file of the store.
    #[error("store: cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("store is in use by {}", holder(*pid))]
    Locked {
        /// The process id it wrote into the lock file, when that can be read.
        pid: Option<u32>,
    },
    /// Not enough space to write and stay able to delete afterwards.
    #[error("no space in the store: {needed_bytes} bytes needed, {available_bytes} available")]
    NoSpace {
        /// Bytes that were to be written.
        needed_bytes: u64,
        /// Bytes the store may still use.
        available_bytes: u64,
    },
    /// It would pass the limit that was set for the store.
    #[error(
        "the store may occupy {max_bytes} bytes: {needed_bytes} bytes needed, {available_bytes} available"
    )]
    OverQuota {
        /// Bytes that were to be written.
        needed_bytes: u64,
        /// Bytes left under the limit.
        available_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The store is on a medium that cannot be written.
    #[error("{path} is on a read-only medium: the store can be read, and nothing can be changed")]
    ReadOnly {
        /// Where the packs are.
        path: PathBuf,
    },
    /// An earlier development version wrote the store.
    #[error(
        "store has format version {found}, which this program does not read any more; it knows {known}"
    )]
    OlderVersion {
        /// Version found.
        found: u16,
        /// The version known here.
        known: u16,
    },
    /// A chunk's bytes do not match its hash any more. It counts as absent from now on.
    #[error("stored chunk {hash} is damaged")]
    Corrupt {
        /// Which chunk.
        hash: ChunkHash,
    },
    /// A file's manifest cannot be read back.
    #[error("stored manifest of {address} is damaged")]
    CorruptManifest {
        /// Which file.
        address: Address,
        /// What is wrong with it, when it could be read at all.
        source: Option<ManifestError>,
    },
    /// The folder has a `FORMAT` file that no store wrote.
    #[error("{path} is not a casnode store, or its format file is damaged")]
    NotAStore {
        /// The format file.
        path: PathBuf,
    },
    /// A newer program wrote the store.
    #[error("store has format version {found}; this program knows up to {known}")]
    NewerVersion {
        /// Version found.
        found: u16,
        /// Newest version known here.
        known: u16,
    },
    /// The index failed.
    #[error("store: {0}")]
    Index(#[from] IndexError),
    /// A file was to be recorded whose chunks are not all here.
    #[error("{missing} chunks of {address} are not in the store")]
    MissingChunks {
        /// Which file.
        address: Address,
        /// Distinct chunks that are absent.
        missing: usize,
    },
    /// There is no entry for this file.
    #[error("{0} is not in the store")]
    UnknownFile(Address),
    /// A file that is no directory was to be treated as one.
    #[error("{address} is not a directory: {source}")]
    NotADirectory {
        /// Which file.
        address: Address,
        /// Why not.
        source: ListingError,
    },
    /// A file is kept by a directory alone, and goes with it.
    #[error("{address} is part of the directory {directory}")]
    IsMember {
        /// Which file.
        address: Address,
        /// A directory that lists it.
        directory: Address,
    },
    /// A chunk of no bytes, or of more than the largest allowed.
    #[error("a chunk of {len_bytes} bytes cannot be stored")]
    ChunkLength {
        /// Its length.
        len_bytes: usize,
    },
    /// An earlier write failed in a way that leaves the state of the disk unknown; reading still works,
    /// and opening the store again checks what is there.
    #[error("store does not accept writes since an earlier failure; open it again")]
    WritesStopped,
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

/// Whether the medium, or what its owner may use of it, is full.
#[must_use]
pub fn io_is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether reading failed because the bytes are gone.
pub(crate) fn io_is_loss(error: &io::Error) -> bool {
    let lost = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    );
    lost || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

impl StoreError {
    /// The operating system's refusal to do this to a file or folder.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether more space would help.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            StoreError::NoSpace { .. } | StoreError::OverQuota { .. } => true,
            StoreError::Io { source, .. } | StoreError::Index(IndexError::Io(source)) => {
                io_is_no_space(source)
            }
            _ => false,
        }
    }

    /// Whether bytes could not be read because they are gone, which trying again would not change. Anything
    /// else that keeps from reading (no file handle left, say) is no damage.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if io_is_loss(source))
    }

    /// Whether stored bytes are not what was written.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        match self {
            StoreError::Corrupt { .. } | StoreError::CorruptManifest { .. } => true,
            StoreError::Index(error) => error.is_corruption(),
            _ => false,
        }
    }

    /// Whether the store is in use by another process.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, StoreError::Locked { .. })
    }
}

impl IndexError {
    /// Whether the database is damaged, so that it must be rebuilt from the packs.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(
            self,
            IndexError::Corrupt(_) | IndexError::Malformed | IndexError::Panicked
        )
    }
}
