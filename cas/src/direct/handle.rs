//! The second descriptor of a file, through which whole pages are written around the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::io_is_no_space;

/// A second descriptor of a file, for direct I/O.
#[derive(Debug)]
pub(crate) struct Direct(Mutex<State>);

#[derive(Debug)]
enum State {
    /// Opened by the first write that could use it.
    Untried(PathBuf),
    Open(Arc<File>),
    Off,
}

impl Direct {
    /// None: everything goes through the cache.
    pub(crate) fn off() -> Self {
        Self(Mutex::new(State::Off))
    }

    /// Of what is at `path` when it is first written to.
    pub(crate) fn later(path: PathBuf) -> Self {
        Self(Mutex::new(State::Untried(path)))
    }

    /// Of `file`, which is at `path` unless somebody has moved it; off where its file system has no direct
    /// I/O, or has its files in memory anyway.
    pub(crate) fn of(file: &File, path: &Path) -> Self {
        let open = open_if_same(file, path);
        if let Err(error) = &open {
            tracing::debug!(path = %path.display(), %error, "no direct I/O");
        }
        let state = open.map_or(State::Off, |file| State::Open(Arc::new(file)));
        Self(Mutex::new(state))
    }

    /// With this descriptor.
    #[cfg(test)]
    pub(crate) fn open(file: File) -> Self {
        Self(Mutex::new(State::Open(Arc::new(file))))
    }

    /// Whether writes may go around the cache.
    pub(crate) fn is_on(&self) -> bool {
        !matches!(&*self.state(), State::Off)
    }

    /// Writes all of `buf` at `offset`, both at multiples of [`super::direct_align_bytes`] like the address
    /// and the length; `false` where that is not possible, and the bytes are still to be written.
    pub(crate) fn write(&self, buf: &[u8], offset: u64) -> io::Result<bool> {
        let Some(file) = self.file() else {
            return Ok(false);
        };
        match file.write_all_at(buf, offset) {
            Ok(()) => Ok(true),
            Err(error) if io_is_no_space(&error) => Err(error),
            // What this file system cannot do, or not always, or not with the rest of a write that was cut
            // short. If it is the disk, writing through the cache fails as well.
            Err(error) => {
                tracing::debug!(%error, "no direct I/O to this file any more");
                *self.state() = State::Off;
                Ok(false)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> Option<Arc<File>> {
        let mut state = self.state();
        if let State::Untried(path) = &*state {
            *state = match open_direct(path) {
                Ok(file) => State::Open(Arc::new(file)),
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "no direct I/O");
                    State::Off
                }
            };
        }
        match &*state {
            State::Open(file) => Some(Arc::clone(file)),
            _ => None,
        }
    }
}

/// Whether a file can be written around the page cache.
pub(crate) fn can_write(file: &File, path: &Path) -> bool {
    open_if_same(file, path).is_ok()
}

/// Others may write to the folder: what has the name by now may be another file.
fn open_if_same(file: &File, path: &Path) -> io::Result<File> {
    if is_in_memory(file)? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let direct = open_direct(path)?;
    let (ours, found) = (file.metadata()?, direct.metadata()?);
    if (ours.dev(), ours.ino()) != (found.dev(), found.ino()) {
        return Err(io::Error::other("it is another file by now"));
    }
    Ok(direct)
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;
    let flags = OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the page cache is all there is: a tmpfs takes direct writes, and copies them once more.
#[cfg(target_os = "linux")]
fn is_in_memory(file: &File) -> io::Result<bool> {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    Ok(u64::try_from(rustix::fs::fstatfs(file)?.f_type).is_ok_and(|kind| kind == TMPFS_MAGIC))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_file: &File) -> io::Result<bool> {
    Ok(false)
}
