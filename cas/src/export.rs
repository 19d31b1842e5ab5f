//! From chunks to a file on disk, under a temporary name until it is whole.

mod block;
mod blocks;
mod error;
mod file;
mod mode;
mod options;
mod temp;

use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::error::ExportError;
pub use self::file::OutputFile;
pub use self::mode::own_umask;
pub use self::options::OutputOptions;
pub(crate) use self::temp::temp_name;
use crate::id::Address;
use crate::import::{ImportError, ImportProgress, address_of_file, address_of_open};
use crate::store::{clone_blocks, free_bytes};

/// What is copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// An output file being put together, in any order and from any number of threads. Nothing is at the
/// target until [`Assembly::finish`]; dropping it removes the temporary file, which nobody but us can
/// read or write. With [`OutputOptions::resume`] the file stays, if anything was written to it.
#[derive(Debug)]
pub struct Assembly {
    target: PathBuf,
    folder: PathBuf,
    temp: PathBuf,
    /// Locked as long as this may write to it.
    file: Arc<OutputFile>,
    size_bytes: u64,
    options: OutputOptions,
    resumed: bool,
    written: AtomicBool,
    finished: bool,
}

impl Assembly {
    /// Begins the output of a file of `size_bytes`, with all the errors that can be known beforehand.
    ///
    /// A regular file that is replaced passes its permission bits on; if it had another owner or group,
    /// it only takes bits away from those that [`OutputOptions::mode`] gives to others. Where the target
    /// is a symbolic link, the link itself is replaced by the new file, and what it points to stays as it
    /// is, whether it exists or not.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn create(
        target: &Path,
        address: &Address,
        size_bytes: u64,
        options: &OutputOptions,
    ) -> Result<Self, ExportError> {
        let no_name = || ExportError::NoName {
            path: target.to_owned(),
        };
        // `folder/` has a last component, and names no file all the same.
        let ends_in_slash = target.as_os_str().as_encoded_bytes().ends_with(b"/");
        let name = target
            .file_name()
            .filter(|_| !ends_in_slash)
            .ok_or_else(no_name)?;
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if !folder.is_dir() {
            return Err(ExportError::NoFolder { path: folder });
        }
        check_target(target, options.force)?;
        // First of all, since a folder that takes no file often has no space to tell of either.
        let temp = temp::create(&folder, name, address, options.resume)?;
        let file = if options.direct_io {
            OutputFile::direct(temp.file, &temp.path, size_bytes)
        } else {
            temp.file.into()
        };
        let assembly = Self {
            target: target.to_owned(),
            folder,
            temp: temp.path,
            file: Arc::new(file),
            size_bytes,
            options: *options,
            resumed: temp.is_leftover,
            written: AtomicBool::new(false),
            finished: false,
        };
        assembly.reserve()?;
        Ok(assembly)
    }

    /// Whether an output of this address that was to be gone on with is left in the place of the temporary file of
    /// this one. Only a look: [`Assembly::create`] sees whether it can be used.
    #[must_use]
    pub fn has_leftover(target: &Path, address: &Address) -> bool {
        let name = target.file_name().map(|name| temp_name(name, address, 0));
        name.is_some_and(|name| target.with_file_name(name).is_file())
    }

    /// Makes the temporary file as long as the whole, if there is space for that. What a leftover
    /// occupies already is space, too.
    fn reserve(&self) -> Result<(), ExportError> {
        let free =
            free_bytes(&self.folder).map_err(failed("measure the space of", &self.folder))?;
        let own = self
            .file
            .file()
            .metadata()
            .map_err(failed("look at", &self.temp))?;
        let available_bytes = free.saturating_add(own.blocks() * 512);
        if available_bytes < self.size_bytes && !self.options.shares {
            return Err(ExportError::NoSpace {
                path: self.target.clone(),
                needed_bytes: self.size_bytes,
                available_bytes,
            });
        }
        let sized = self.file.file().set_len(self.size_bytes);
        sized.map_err(failed("extend", &self.temp))
    }

    /// Gives the output another name in the same folder. [`Assembly::finish`] sees whether it may have it.
    ///
    /// # Errors
    /// [`ExportError::NoName`] for a place elsewhere.
    pub fn rename(&mut self, target: &Path) -> Result<(), ExportError> {
        if target.parent() != self.target.parent() || target.file_name().is_none() {
            let path = target.to_owned();
            return Err(ExportError::NoName { path });
        }
        self.target = target.to_owned();
        Ok(())
    }

    /// The file as it will be called.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes verified bytes at their place. They may be on their way for some time, and [`OutputFile`] has
    /// them already.
    ///
    /// # Errors
    /// [`ExportError::OutOfRange`], or what the medium says, perhaps of bytes that were written before.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), ExportError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(ExportError::OutOfRange {
                offset,
                len_bytes: bytes.len(),
            });
        }
        self.written.store(true, Ordering::Relaxed);
        self.file
            .write_all_at(bytes, offset)
            .map_err(failed("write", &self.temp))
    }

    /// Has what is on its way written without waiting for more that goes with it: what the system has survives the
    /// end of this process. Does not wait for the disk; an error is that of a later call.
    pub fn hand_over(&self) {
        self.file.hand_over();
    }

    /// Gives the system everything that was written, so that whoever opens the file finds it. Not durable
    /// by that.
    ///
    /// # Errors
    /// What the medium says; then it is kept, and may be tried again.
    pub fn flush(&self) -> Result<(), ExportError> {
        self.file.flush().map_err(failed("write", &self.temp))
    }

    /// After an error of a sync: nobody goes on with it. What reads like it was written may be in memory
    /// alone then, and no later sync would say so.
    pub fn distrust(&mut self) {
        self.options.resume = false;
    }

    /// Makes this the same as a whole file of the same size, of which nothing is on its way any more: shares
    /// its blocks, or copies where that cannot be. Whether they are shared.
    ///
    /// # Errors
    /// What the medium says.
    pub fn take_over(&self, from: &Self) -> Result<bool, ExportError> {
        from.flush()?;
        self.written.store(true, Ordering::Relaxed);
        if clone_blocks(self.file.file(), from.file.file()) {
            return Ok(true);
        }
        let mut offset = 0;
        let mut block = vec![0; COPY_BYTES];
        while offset < self.size_bytes {
            let left = usize::try_from(self.size_bytes - offset).unwrap_or(COPY_BYTES);
            let part = &mut block[..left.min(COPY_BYTES)];
            let read = from.file.read_exact_at(part, offset);
            read.map_err(failed("read", &from.temp))?;
            self.write_at(offset, part)?;
            offset += part.len() as u64;
        }
        Ok(false)
    }

    /// The file that is written, readable too. Nobody else goes on with it before this is dropped.
    #[must_use]
    pub fn file(&self) -> &Arc<OutputFile> {
        &self.file
    }

    /// Whether what is written goes around the page cache, so that there is next to nothing to sync.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.file.is_direct()
    }

    /// Whether it goes on with what an earlier one left, see [`OutputOptions::resume`].
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Whether anything may have been written there: `false` only where the file is known to have a hole.
    #[must_use]
    pub fn has_data(&self, range: Range<u64>) -> bool {
        if self.file.has_unwritten(&range) {
            return true;
        }
        match next_data(self.file.file(), range.start) {
            Ok(Some(data)) => data < range.end,
            Ok(None) => false,
            // Not every file system tells.
            Err(_) => true,
        }
    }

    /// Bytes that an earlier output left at this place; `None` when it left none there, or fewer. The
    /// caller verifies them.
    #[must_use]
    pub fn leftover(&self, offset: u64, len_bytes: u32) -> Option<Vec<u8>> {
        let range = offset..offset.checked_add(u64::from(len_bytes))?;
        if !self.resumed || !self.has_data(range) {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(len_bytes).ok()?];
        // What cannot be read is as good as absent: it is written again.
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// Syncs the file, gives it its permission bits and its name, at once and whole.
    ///
    /// It is private until all of it is on the disk, and again when it gets no name: a later output goes on
    /// with a private file only.
    ///
    /// # Errors
    /// [`ExportError::Exists`] when the target appeared meanwhile; otherwise what the medium says.
    pub fn finish(self) -> Result<(), ExportError> {
        self.finish_with(&File::sync_all)
    }

    fn finish_with(mut self, sync: &dyn Fn(&File) -> io::Result<()>) -> Result<(), ExportError> {
        check_target(&self.target, self.options.force)?;
        self.file.flush().map_err(failed("write", &self.temp))?;
        // The long one, unless what was written went around the page cache.
        sync(self.file.file()).map_err(failed("sync", &self.temp))?;
        if let Err(error) = self.publish(sync) {
            self.make_private();
            return Err(error);
        }
        self.finished = true;
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(failed("sync", &self.folder))
    }

    /// Makes the file private again, unless somebody else may have it open for writing by now: then nobody
    /// goes on with it.
    fn make_private(&self) {
        let data = self.file.file().metadata();
        if data.is_ok_and(|data| data.mode() & 0o022 == 0)
            && let Err(error) = mode::set_bits(self.file.file(), mode::PRIVATE_BITS)
        {
            tracing::debug!(path = %self.temp.display(), %error, "an output stays open to others");
        }
    }

    /// Gives the file its permission bits and its name; its bytes are on the disk.
    fn publish(&self, sync: &dyn Fn(&File) -> io::Result<()>) -> Result<(), ExportError> {
        let replaced = check_target(&self.target, self.options.force)?;
        let output = self.file.file().metadata();
        let output = output.map_err(failed("look at", &self.temp))?;
        let bits = mode::final_bits(self.options.mode, replaced.as_ref(), &output);
        mode::set_bits(self.file.file(), bits).map_err(failed("set the mode of", &self.temp))?;
        sync(self.file.file()).map_err(failed("sync", &self.temp))?;
        if self.options.force {
            fs::rename(&self.temp, &self.target).map_err(failed("rename to", &self.target))
        } else {
            rename_new(&self.temp, &self.target)
        }
    }
}

impl Assembly {
    /// Gives the output up: nothing of it stays, not even to be gone on with.
    pub fn discard(mut self) {
        self.options.resume = false;
    }
}

impl Drop for Assembly {
    fn drop(&mut self) {
        let has_content = self.resumed || *self.written.get_mut();
        let stays = self.finished || (self.options.resume && has_content);
        // Nothing is written once somebody else may go on with it.
        if !stays {
            self.file.discard();
        } else if let Err(error) = self.file.flush() {
            tracing::debug!(path = %self.temp.display(), %error, "the end of an output is lost");
            self.file.discard();
        }
        if !stays && let Err(error) = fs::remove_file(&self.temp) {
            tracing::debug!(path = %self.temp.display(), %error, "temporary file stays behind");
        }
        // Whoever still reads from it keeps nobody from going on with it.
        if let Err(error) = self.file.file().unlock() {
            tracing::debug!(path = %self.temp.display(), %error, "temporary file stays locked");
        }
    }
}

/// Whether a file has no hole there: `false` also where the file system does not tell.
pub(crate) fn is_filled(file: &OutputFile, range: Range<u64>) -> bool {
    let file = file.file();
    matches!(next_data(file, range.start), Ok(Some(at)) if at == range.start)
        && matches!(next_hole(file, range.start), Ok(at) if at >= range.end)
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ExportError + 'a {
    move |source| ExportError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Whether the target may be written, and what would be replaced: an early look, not the guarantee.
fn check_target(target: &Path, force: bool) -> Result<Option<Metadata>, ExportError> {
    let path = || target.to_owned();
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", target)(error)),
        Ok(data) if data.is_file() || data.is_symlink() => {
            if force {
                Ok(Some(data))
            } else {
                Err(ExportError::Exists { path: path() })
            }
        }
        Ok(_) => Err(ExportError::NotAFile { path: path() }),
    }
}

/// Where the next bytes from `offset` on begin that are no hole; `None` when there are none. Moves the
/// file's cursor, which nothing here uses.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(data) => Ok(Some(data)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn next_data(_file: &File, _offset: u64) -> io::Result<Option<u64>> {
    Err(rustix::io::Errno::NOSYS.into())
}

/// Where the next hole from `offset` on begins, or the end of the file.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(offset))?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn next_hole(_file: &File, _offset: u64) -> io::Result<u64> {
    Err(rustix::io::Errno::NOSYS.into())
}

/// Renames without ever replacing.
fn rename_new(from: &Path, to: &Path) -> Result<(), ExportError> {
    let exists = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
    match rename_no_replace(from, to) {
        Err(error) if exists(&error) => Err(ExportError::Exists {
            path: to.to_owned(),
        }),
        // Not every file system knows the flag; a hard link refuses to replace as well.
        Err(error) if matches!(error.raw_os_error(), Some(code) if is_unsupported(code)) => {
            match fs::hard_link(from, to) {
                Ok(()) => fs::remove_file(from).map_err(failed("remove", from)),
                Err(error) if exists(&error) => Err(ExportError::Exists {
                    path: to.to_owned(),
                }),
                // No hard links either: the early look has to do.
                Err(_) => fs::rename(from, to).map_err(failed("rename to", to)),
            }
        }
        result => result.map_err(failed("rename to", to)),
    }
}

fn is_unsupported(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

#[cfg(target_os = "linux")]
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(target_os = "linux"))]
fn rename_no_replace(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(rustix::io::Errno::NOSYS.into())
}

/// The address of a regular file on disk, computed on several threads.
///
/// # Errors
/// What reading it says; `InvalidInput` for anything that is not a regular file, or changes meanwhile; `Interrupted`
/// when `progress` ends it.
pub fn file_address(path: &Path, progress: ImportProgress<'_>) -> io::Result<Address> {
    address_of_file(path, progress).map_err(unread)
}

/// The address of an open regular file, computed on several threads. If the file changes meanwhile, the result is unspecified.
///
/// # Errors
/// What reading it says; `Interrupted` when `progress` ends it.
pub fn file_address_of(file: &File, progress: ImportProgress<'_>) -> io::Result<Address> {
    address_of_open(file, progress).map_err(unread)
}

fn unread(error: ImportError) -> io::Error {
    match error {
        ImportError::NotFound { .. } => io::ErrorKind::NotFound.into(),
        ImportError::Unreadable { source, .. } | ImportError::Read(source) => source,
        ImportError::Cancelled => io::ErrorKind::Interrupted.into(),
        other => io::Error::new(io::ErrorKind::InvalidInput, other),
    }
}

#[cfg(test)]
mod tests;
