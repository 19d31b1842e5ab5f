//! Clones: files of the store that share their blocks with what was stored, where the file system can.
//!
//! A clone is a source (see [`super::source`]) that nobody but the store changes. Making one costs
//! neither time nor space, and the file it was made of may change afterwards.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::core::Core;
use super::ledger::Ledger;
use super::{Store, dir_bytes};
use crate::error::StoreError;
use crate::import::FileIdentity;

/// Smaller files are copied: a clone is a file of its own, to be synced and looked up.
const MIN_CLONE_BYTES: u64 = 1024 * 1024;

/// Numbers of sources from here on are clones.
const FIRST_CLONE: u32 = 1 << 31;

/// Whether a source is a clone.
pub(super) fn is_clone(source: u32) -> bool {
    source >= FIRST_CLONE
}

/// The folder of the clones.
pub(super) struct Clones {
    /// None for a store in memory.
    dir: Option<PathBuf>,
    next: AtomicU32,
    /// Bytes that the clones occupy, shared or not: there may be as many as files.
    occupied_bytes: AtomicU64,
}

impl Clones {
    pub(super) fn none() -> Self {
        Self::new(None, &Ledger::default())
    }

    /// The clones of a store that is only read.
    pub(super) fn read_only(dir: PathBuf) -> Self {
        Self::new(Some(dir), &Ledger::default())
    }

    /// The clones that the ledger knows; others are left over from a crash, and go.
    pub(super) fn open(dir: PathBuf, ledger: &Ledger) -> Self {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|n| u32::from_str_radix(n, 16).ok());
            if number.is_some_and(|number| !ledger.sources().contains_key(&number))
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "a clone stays behind");
            }
        }
        Self::new(Some(dir), ledger)
    }

    fn new(dir: Option<PathBuf>, ledger: &Ledger) -> Self {
        let last = ledger.sources().range(FIRST_CLONE..).next_back();
        let next = last.map_or(FIRST_CLONE, |(last, _)| last.saturating_add(1));
        let occupied_bytes = dir.as_deref().map_or(0, dir_bytes);
        Self {
            dir,
            next: AtomicU32::new(next),
            occupied_bytes: AtomicU64::new(occupied_bytes),
        }
    }

    /// Where a clone is.
    pub(super) fn path(&self, source: u32) -> PathBuf {
        self.dir
            .clone()
            .unwrap_or_default()
            .join(format!("{source:08x}"))
    }

    /// Bytes that the clones occupy, shared or not.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.occupied_bytes.load(Ordering::Relaxed)
    }

    /// Removes a clone that nothing is read from any more.
    pub(super) fn remove(&self, source: u32) {
        let path = self.path(source);
        let blocks = fs::metadata(&path).map_or(0, |data| data.blocks());
        match fs::remove_file(&path) {
            Ok(()) => {
                let bytes = &self.occupied_bytes;
                let before = bytes.load(Ordering::Relaxed);
                bytes.fetch_sub((blocks * 512).min(before), Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a clone stays behind");
            }
        }
    }

    /// Shares the blocks of a file; `None` where that cannot be, and it must be copied.
    fn share(&self, file: &File) -> io::Result<Option<(u32, File)>> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        if file.metadata()?.len() < MIN_CLONE_BYTES {
            return Ok(None);
        }
        create_dir(dir)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut options = OpenOptions::new();
        let clone = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path(number))?;
        let durable = || clone.sync_all().and_then(|()| File::open(dir)?.sync_all());
        match clone_blocks(&clone, file).then(durable) {
            Some(Ok(())) => {
                self.count(&clone);
                Ok(Some((number, clone)))
            }
            Some(Err(error)) => {
                self.remove(number);
                Err(error)
            }
            None => {
                self.remove(number);
                Ok(None)
            }
        }
    }

    /// Gives a file of the store a second name, among the clones.
    fn name(&self, path: &Path) -> io::Result<(u32, File)> {
        let dir = self.dir.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        create_dir(dir)?;
        let file = File::open(path)?;
        file.sync_all()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        fs::hard_link(path, self.path(number))?;
        self.count(&file);
        match File::open(dir).and_then(|dir| dir.sync_all()) {
            Ok(()) => Ok((number, file)),
            Err(error) => {
                self.remove(number);
                Err(error)
            }
        }
    }

    fn count(&self, clone: &File) {
        let blocks = clone.metadata().map_or(0, |data| data.blocks());
        self.occupied_bytes
            .fetch_add(blocks * 512, Ordering::Relaxed);
    }
}

/// Makes a folder of the store, durably, unless it is there.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    dir.parent()
        .map_or(Ok(()), |store| File::open(store)?.sync_all())
}

/// Makes `to` share all blocks of `from`; whether that could be.
#[cfg(target_os = "linux")]
pub(crate) fn clone_blocks(to: &File, from: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn clone_blocks(_to: &File, _from: &File) -> bool {
    false
}

/// A clone that no file names yet; removed when it is dropped.
pub(crate) struct NewClone {
    pub(super) core: Arc<Core>,
    pub(super) number: u32,
    pub(crate) identity: FileIdentity,
}

impl NewClone {
    pub(crate) fn path(&self) -> PathBuf {
        self.core.clones.path(self.number)
    }
}

impl Drop for NewClone {
    fn drop(&mut self) {
        let is_used = super::lock(&self.core.commit)
            .ledger
            .sources()
            .contains_key(&self.number);
        if !is_used {
            self.core.clones.remove(self.number);
        }
    }
}

impl Core {
    /// A file of the store, whole, as a clone: the file itself under a second name.
    pub(super) fn clone_by_name(core: &Arc<Self>, path: &Path) -> Result<NewClone, StoreError> {
        core.check_writable()?;
        let named = core.clones.name(path).and_then(|(number, file)| {
            Ok(NewClone {
                core: Arc::clone(core),
                number,
                identity: FileIdentity::of(&file.metadata()?),
            })
        });
        named.map_err(StoreError::io("link", path))
    }
}

impl Store {
    /// A clone of a file that is to be stored, where the file system shares blocks.
    pub(crate) fn clone_of(&self, file: &File) -> Option<NewClone> {
        let core = &self.core;
        if core.check_writable().is_err() {
            return None;
        }
        let shared = core.clones.share(file).and_then(|shared| {
            let identified = |(number, file): (u32, File)| {
                Ok::<_, io::Error>((number, FileIdentity::of(&file.metadata()?)))
            };
            shared.map(identified).transpose()
        });
        match shared {
            Ok(shared) => shared.map(|(number, identity)| NewClone {
                core: Arc::clone(core),
                number,
                identity,
            }),
            Err(error) => {
                tracing::debug!(%error, "no clone: the file is copied");
                None
            }
        }
    }
}
