//! What is in a folder, as it would be listed: no link is followed, so there are no loops, and nothing is opened but folders.

use std::{
    fs::Metadata,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use casnode_cas::FileStamp;
use tokio_util::sync::CancellationToken;
use walkdir::{DirEntry, WalkDir};

use super::{
    faults::Faults,
    globs::{Globs, Said},
};
use crate::api::{ApiError, ErrorKind, TreeFault};

/// Folders that are open at a time; of deeper ones the rest is read ahead.
const MAX_OPEN: usize = 64;

/// Longest name of an entry, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The bit that lets the owner run a file.
const OWNER_EXECUTES: u32 = 0o100;

/// An entry of the folder.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// From the folder on.
    pub(crate) path: String,
    pub(crate) what: What,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub(crate) enum What {
    File {
        /// Taken before it is read.
        stamp: FileStamp,
        executable: bool,
    },
    Symlink {
        target: String,
    },
    /// Of which nothing is stored.
    EmptyFolder,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) entries: Vec<Found>,
    /// What is left out although nothing excluded it.
    pub(crate) faults: Faults,
}

/// What a walk looks for.
pub(crate) struct Walker<'a> {
    pub(crate) root: &'a Path,
    pub(crate) globs: &'a Globs,
    /// The node's own folder, which changes while it is read.
    pub(crate) data_dir: &'a Path,
    /// No directory has more entries.
    pub(crate) max_entries: usize,
    pub(crate) cancel: &'a CancellationToken,
}

/// A folder on the way to what is looked at.
struct Level {
    /// With everything beneath it.
    is_included: bool,
    /// Entries that were found before those in it.
    entries_before: usize,
    path: String,
}

impl Walker<'_> {
    /// Looks at everything, and calls `looked` with the number of entries so far: of a large folder it takes long.
    ///
    /// # Errors
    /// When the folder itself cannot be read, has too many entries, or nobody wants it any more.
    pub(crate) fn walk(&self, looked: &mut dyn FnMut(u64)) -> Result<Walk, ApiError> {
        self.check_root()?;
        let mut walk = Walk::default();
        let own = std::fs::metadata(self.data_dir).ok();
        let own = own.map(|data| (data.dev(), data.ino()));
        // From the folder itself down to the one that is being read.
        let mut levels = vec![Level {
            is_included: self.globs.of_root() == Said::Included,
            entries_before: 0,
            path: String::new(),
        }];
        let mut entries = WalkDir::new(self.root)
            .min_depth(1)
            .max_open(MAX_OPEN)
            .sort_by_file_name()
            .into_iter();
        let mut seen = 0;
        while let Some(entry) = entries.next() {
            seen += 1;
            looked(seen);
            if self.cancel.is_cancelled() {
                return Err(interrupted());
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.depth() == 0 => return Err(self.unreadable(&error)),
                Err(error) => {
                    let fault = self.fault_of(&error);
                    // A folder that cannot be read is not an empty one.
                    if let Some(level) = levels.iter_mut().find(|l| l.path == fault.path) {
                        level.is_included = false;
                    }
                    walk.faults.add(fault);
                    continue;
                }
            };
            self.leave(&mut levels, entry.depth(), &mut walk);
            let is_folder = entry.file_type().is_dir();
            let (Some(level), Some(path)) = (levels.last(), self.path_of(&entry, &mut walk)) else {
                skip(&mut entries, is_folder);
                continue;
            };
            let said = self.globs.say(&path);
            if said == Said::Excluded {
                skip(&mut entries, is_folder);
                continue;
            }
            let is_included = level.is_included || said == Said::Included;
            if is_folder {
                if own.is_some() && own == identity_of(&entry) {
                    let why = "it is this node's own data directory";
                    walk.faults.add(fault(path, ErrorKind::Failure, why));
                    skip(&mut entries, true);
                    continue;
                }
                levels.push(Level {
                    is_included,
                    entries_before: walk.entries.len(),
                    path,
                });
            } else if is_included {
                self.take(&entry, path, &mut walk);
            }
            if walk.entries.len() > self.max_entries {
                return Err(self.too_many());
            }
        }
        self.leave(&mut levels, 1, &mut walk);
        Ok(walk)
    }

    /// Ends the folders that an entry of this depth is not in.
    fn leave(&self, levels: &mut Vec<Level>, depth: usize, walk: &mut Walk) {
        while levels.len() > depth.max(1)
            && let Some(level) = levels.pop()
        {
            if level.is_included && walk.entries.len() == level.entries_before {
                walk.entries.push(Found {
                    path: level.path,
                    what: What::EmptyFolder,
                });
            }
        }
    }

    /// The path from the folder on; `None` for one that cannot be listed, which is told.
    fn path_of(&self, entry: &DirEntry, walk: &mut Walk) -> Option<String> {
        let path = entry.path().strip_prefix(self.root).ok()?;
        match path.to_str() {
            Some(path) => Some(path.to_owned()),
            None => {
                let shown = path.to_string_lossy();
                walk.faults
                    .add(fault(shown, ErrorKind::Failure, "its name is not UTF-8"));
                None
            }
        }
    }

    fn take(&self, entry: &DirEntry, path: String, walk: &mut Walk) {
        match what(entry) {
            Ok(what) => walk.entries.push(Found { path, what }),
            Err(why) => walk.faults.add(fault(path, ErrorKind::Failure, &why)),
        }
    }

    fn fault_of(&self, error: &walkdir::Error) -> TreeFault {
        let path = error.path().map(Path::to_owned).unwrap_or_default();
        let path = path.strip_prefix(self.root).unwrap_or(&path);
        let why = error
            .io_error()
            .map_or_else(|| error.to_string(), io::Error::to_string);
        fault(path.to_string_lossy(), ErrorKind::Failure, &why)
    }

    fn check_root(&self) -> Result<(), ApiError> {
        match std::fs::metadata(self.root) {
            Ok(data) if data.is_dir() => Ok(()),
            Ok(_) => Err(self.refused("it is no folder")),
            Err(error) => Err(self.refused(&error.to_string())),
        }
    }

    fn unreadable(&self, error: &walkdir::Error) -> ApiError {
        match error.io_error() {
            Some(error) => self.refused(&error.to_string()),
            None => self.refused(&error.to_string()),
        }
    }

    fn refused(&self, why: &str) -> ApiError {
        ApiError::new(
            ErrorKind::Failure,
            format!("{} was not stored", self.root.display()),
            why,
            "check the path and its permissions",
        )
    }

    fn too_many(&self) -> ApiError {
        ApiError::new(
            ErrorKind::Usage,
            format!("{} was not stored", self.root.display()),
            format!("it has more than {} entries", self.max_entries),
            "store its folders one by one, or leave some of it out with --exclude",
        )
    }
}

fn skip(entries: &mut walkdir::IntoIter, is_folder: bool) {
    if is_folder {
        entries.skip_current_dir();
    }
}

fn identity_of(entry: &DirEntry) -> Option<(u64, u64)> {
    let data = entry.metadata().ok()?;
    Some((data.dev(), data.ino()))
}

fn what(entry: &DirEntry) -> Result<What, String> {
    if entry.file_name().len() > MAX_NAME_BYTES {
        return Err(format!("its name is longer than {MAX_NAME_BYTES} bytes"));
    }
    if entry.file_type().is_symlink() {
        let target = std::fs::read_link(entry.path()).map_err(|e| e.to_string())?;
        return match PathBuf::into_os_string(target).into_string() {
            Ok(target) => Ok(What::Symlink { target }),
            Err(_) => Err("it leads to a path that is not UTF-8".to_owned()),
        };
    }
    let data = entry.metadata().map_err(|e| match e.into_io_error() {
        Some(error) => error.to_string(),
        None => "it is in a loop".to_owned(),
    })?;
    match data.is_file() {
        true => Ok(What::File {
            stamp: FileStamp::of(&data),
            executable: data.mode() & OWNER_EXECUTES != 0,
        }),
        false => Err(format!("it is {}, and no file", kind_of(&data))),
    }
}

fn kind_of(data: &Metadata) -> &'static str {
    let kind = data.file_type();
    match () {
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () => "something else",
    }
}

fn fault(path: impl Into<String>, kind: ErrorKind, why: &str) -> TreeFault {
    TreeFault {
        path: path.into(),
        kind,
        why: why.to_owned(),
    }
}

pub(super) fn interrupted() -> ApiError {
    ApiError::new(
        ErrorKind::Interrupted,
        "the directory was not stored",
        "it was interrupted",
        "run the command again: what was stored of it is not read again",
    )
}

#[cfg(test)]
mod tests;
