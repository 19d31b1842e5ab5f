//! Why a file was not stored.

use std::io;
use std::path::PathBuf;

use crate::chunker::MAX_CHUNKS;
use crate::error::{StoreError, io_is_no_space};
use crate::manifest::ManifestError;

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// There is no such file.
    #[error("{path}: no such file")]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The stream failed.
    #[error("cannot read the input: {0}")]
    Read(#[source] io::Error),
    /// Not a regular file.
    #[error("{path} is {kind}, not a regular file")]
    NotAFile {
        /// What was to be stored.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The file changed while it was read; nothing was recorded.
    #[error("{path} changed while it was being read")]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// The name is not a single path component of at most 255 bytes.
    #[error("{0:?} cannot be a file's name")]
    Name(String),
    /// More chunks than a manifest can list.
    #[error("input is too large: more than {MAX_CHUNKS} chunks")]
    TooLarge,
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// What was cut does not make a manifest: a bug of this program.
    #[error("internal: {0}")]
    Manifest(#[from] ManifestError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// Whether more space would help.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            ImportError::Store(error) => error.is_no_space(),
            ImportError::Read(source) | ImportError::Unreadable { source, .. } => {
                io_is_no_space(source)
            }
            _ => false,
        }
    }

    /// Whether stored bytes are not what was written.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, ImportError::Store(error) if error.is_corruption())
    }
}
