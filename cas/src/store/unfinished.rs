//! Unfinished files: downloads that are written once, to a file of the store from which their output takes
//! its blocks in the end.
//!
//! Such a file has its place by its address alone, wherever its output goes, and is gone on with when the
//! download was broken off. Its chunks are *lent* meanwhile: found and checked as ever, and not durable.
//! When all of it is there it becomes a clone (see [`super::clones`]) under a second name, so that nothing
//! is lost whenever it stops.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::clones::{clone_blocks, create_dir};
use super::core::Core;
use super::entry::{Claim, FileEntry, FileState};
use super::{Store, lock};
use crate::error::StoreError;
use crate::export::{self, Assembly, ExportError, OutputFile, OutputOptions};
use crate::id::Address;
use crate::manifest::Manifest;

/// Unfinished files that chunks are lent from, but for those that are written to: each is held open. Of more
/// the bytes stay, and are found by the download that goes on with them.
pub(super) const MAX_LENT: usize = 64;

/// What is cloned to find out whether a file system can: a few blocks of any of them.
const PROBE_BYTES: usize = 64 * 1024;

/// The folder of the unfinished files.
pub(super) struct Unfinished {
    /// None for a store in memory, and one that is only read.
    dir: Option<PathBuf>,
    /// Whether blocks can be shared with a device.
    shares: Mutex<HashMap<u64, bool>>,
    /// Where chunks of an address are lent from; each address once, the latest last.
    lent: Mutex<Vec<(Address, Arc<OutputFile>)>>,
}

impl Unfinished {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            shares: Mutex::default(),
            lent: Mutex::default(),
        }
    }

    /// The file of an address while it is unfinished.
    fn path(&self, address: &Address) -> Option<PathBuf> {
        let name = address.to_string();
        let name = export::temp_name(OsStr::new(&name), address, 0);
        self.dir.as_ref().map(|dir| dir.join(name))
    }

    fn addresses(&self) -> Vec<Address> {
        let dir = self.dir.iter();
        let entries = dir.flat_map(fs::read_dir).flatten().flatten();
        let address = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let name = name.to_str()?.strip_prefix('.')?;
            name.split('.').next()?.parse().ok()
        };
        entries.filter_map(address).collect()
    }

    /// Bytes that the unfinished files occupy. One that is a clone already counts there.
    pub(super) fn disk_bytes(&self) -> u64 {
        let dir = self.dir.iter();
        let entries = dir.flat_map(fs::read_dir).flatten().flatten();
        let data = entries.filter_map(|entry| entry.metadata().ok());
        let alone = data.filter(|data| data.is_file() && data.nlink() == 1);
        alone.map(|data| data.blocks() * 512).sum()
    }

    /// Whether `folder` is on the file system that the store is on, and not in the store's own folder.
    fn is_beside(&self, folder: &Path) -> bool {
        let own = self.dir.as_deref().and_then(Path::parent);
        let look = |path: &Path| Some((fs::metadata(path).ok()?.dev(), path.canonicalize().ok()?));
        match (own.and_then(look), look(folder)) {
            (Some((own, store)), Some((other, folder))) => {
                own == other && !folder.starts_with(store)
            }
            _ => false,
        }
    }

    /// Whether files in `folder` can share blocks with those of the store. Tried once for each device.
    fn shares_with(&self, folder: &Path) -> bool {
        let Some(dir) = &self.dir else {
            return false;
        };
        let Ok(device) = fs::metadata(folder).map(|data| data.dev()) else {
            return false;
        };
        if let Some(known) = lock(&self.shares).get(&device) {
            return *known;
        }
        // The folder of the store itself: where nothing is shared there is nothing to make one for.
        match probe(dir.parent().unwrap_or(dir), folder) {
            Ok(shares) => {
                lock(&self.shares).insert(device, shares);
                shares
            }
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "no blocks are shared there");
                false
            }
        }
    }
}

/// Clones a few blocks of a file without a name.
fn probe(from: &Path, to: &Path) -> io::Result<bool> {
    let mut source = nameless(from)?;
    source.write_all(&[1; PROBE_BYTES])?;
    Ok(clone_blocks(&nameless(to)?, &source))
}

#[cfg(target_os = "linux")]
fn nameless(folder: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::TMPFILE;
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags(flags.bits().cast_signed());
    options.open(folder)
}

#[cfg(not(target_os = "linux"))]
fn nameless(_folder: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Core {
    /// Lends of what earlier processes left unfinished what seems to be there, and removes what nobody goes on with.
    pub(super) fn take_up_unfinished(&self) {
        for (nth, address) in self.unfinished.addresses().into_iter().enumerate() {
            let entry = self.file(&address);
            let is_wanted = match &entry {
                Ok(Some(entry)) => entry.state != FileState::Complete,
                Ok(None) => false,
                Err(_) => true, // it cannot be told
            };
            if !is_wanted {
                self.drop_unfinished(&address);
            } else if nth < MAX_LENT
                && let Ok(Some(entry)) = entry
                && let Ok(manifest) = self.manifest_of(&entry)
            {
                self.lend_unfinished(&manifest);
            }
        }
    }

    /// Nothing of it is believed before it is read and has its hash.
    fn lend_unfinished(&self, manifest: &Manifest) {
        let address = manifest.address();
        let file = self.unfinished.path(&address).map(File::open);
        let Some(Ok(file)) = file else { return };
        let file = Arc::new(OutputFile::from(file));
        for (index, chunk) in manifest.chunks().iter().enumerate() {
            let range = manifest.chunk_range(index);
            if export::is_filled(&file, range.clone()) {
                self.lend(&chunk.hash, Arc::clone(&file), range.start, chunk.len_bytes);
            }
        }
        self.remember_lent(address, file);
    }

    /// Remembers where chunks of an address are lent from: from now on from there alone.
    fn remember_lent(&self, address: Address, file: Arc<OutputFile>) {
        let mut lent = lock(&self.unfinished.lent);
        if let Some(at) = lent.iter().position(|(known, _)| *known == address) {
            let (_, old) = lent.remove(at);
            self.relend(&old, &file);
        }
        lent.push((address, file));
        if lent.len() <= MAX_LENT {
            return;
        }
        let is_idle = |(address, _): &(Address, _)| !self.is_written(address);
        let older = lent.len() - 1;
        let idle = lent[..older].iter().position(is_idle);
        let idle = idle.map(|at| lent.remove(at));
        drop(lent);
        if let Some((_, file)) = idle {
            self.unlend(&file);
        }
    }

    /// Whether a download writes to the unfinished file of an address.
    fn is_written(&self, address: &Address) -> bool {
        let file = self.unfinished.path(address).map(File::open);
        matches!(file, Some(Ok(file)) if file.try_lock().is_err())
    }

    /// Removes the unfinished file of an address, unless a download writes to it.
    pub(super) fn drop_unfinished(&self, address: &Address) {
        let Some(path) = self.unfinished.path(address) else {
            return;
        };
        let Ok(file) = File::open(&path) else { return };
        if file.try_lock().is_err() {
            return;
        }
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an unfinished file stays behind");
        }
        let mut lent = lock(&self.unfinished.lent);
        let at = lent.iter().position(|(known, _)| known == address);
        let gone = at.map(|at| lent.remove(at));
        drop(lent);
        if let Some((_, file)) = gone {
            self.unlend(&file);
        }
    }

    fn begin_unfinished(
        &self,
        address: &Address,
        size_bytes: u64,
    ) -> Result<Option<Assembly>, ExportError> {
        let Some(dir) = &self.unfinished.dir else {
            return Ok(None);
        };
        create_dir(dir).map_err(|source| ExportError::Io {
            action: "create",
            path: dir.clone(),
            source,
        })?;
        let target = dir.join(address.to_string());
        let options = OutputOptions::new(true, None).resuming();
        let assembly = Assembly::create(&target, address, size_bytes, &options)?;
        self.remember_lent(*address, Arc::clone(assembly.file()));
        Ok(Some(assembly))
    }
}

impl Store {
    /// Whether files in `folder` can share blocks with those of the store: then a file may be written once
    /// for both. Writes a little there, under no name, and remembers the answer.
    #[must_use]
    pub fn shares_blocks_with(&self, folder: &Path) -> bool {
        !self.is_read_only() && self.core.unfinished.shares_with(folder)
    }

    /// Whether files in `folder` are on the file system that the store is on: they are there as long as it is.
    /// Those in the store's own folder are not meant.
    #[must_use]
    pub fn is_beside(&self, folder: &Path) -> bool {
        self.core.unfinished.is_beside(folder)
    }

    /// Whether an earlier download of this address was broken off, and its bytes are in a file of their own.
    #[must_use]
    pub fn has_unfinished(&self, address: &Address) -> bool {
        let path = self.core.unfinished.path(address);
        path.is_some_and(|path| path.exists())
    }

    /// Begins the file of the store that a download of `address` is written to, or goes on with it. It is
    /// never finished: [`Store::add_unfinished`] takes it over. What is lent of it stays so until then, or
    /// until it is removed. `None` for a store in memory.
    ///
    /// # Errors
    /// See [`Assembly::create`].
    pub fn begin_unfinished(
        &self,
        address: &Address,
        size_bytes: u64,
    ) -> Result<Option<Assembly>, ExportError> {
        self.core.begin_unfinished(address, size_bytes)
    }

    /// Records the file whose unfinished file is whole now, which the caller has verified, and which nobody
    /// writes to any more. Durable when it returns. `None` where there is none.
    ///
    /// # Errors
    /// What the medium says; then all stays as it was.
    pub fn add_unfinished(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<Option<FileEntry>, StoreError> {
        let address = manifest.address();
        let Some(path) = self.core.unfinished.path(&address).filter(|p| p.exists()) else {
            return Ok(None);
        };
        let clone = Core::clone_by_name(&self.core, &path)?;
        let added = self.add_clone(manifest, &clone, name, claim)?;
        drop(clone); // where all of it was here already, it goes
        self.core.drop_unfinished(&address);
        self.core.measure();
        Ok(Some(added.entry))
    }

    /// Removes what a broken off download of this address left, when nobody goes on with it.
    pub fn drop_unfinished(&self, address: &Address) {
        self.core.drop_unfinished(address);
    }
}
