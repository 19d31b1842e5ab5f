//! Writes files, links and folders below one folder, whatever links are in it.
//!
//! Every folder on the way is opened by itself and no link is followed: nothing is written elsewhere. A file gets its name
//! when its bytes are there; what survives a power cut is said by [`Folder::sync`], once for all of them.

mod taken;
mod whole;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use casnode_cas::{Address, ImportProgress, file_address_of};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use self::{
    taken::{Taken, id},
    whole::{Fresh, Whole, can_be_named_late},
};

/// Open folders that are remembered.
const MAX_FOLDERS: usize = 64;

/// The bits that let a file be run.
const EXECUTABLE_BITS: u32 = 0o111;

/// What is at the place of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum There {
    /// Nothing, or something that may be replaced.
    Nothing,
    /// The very file, of so many bytes.
    Same(u64),
}

/// A file as it is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Where, from the folder on: no part of it is empty, `.` or `..`.
    pub(crate) path: &'a str,
    pub(crate) address: Address,
    /// `None`: whatever length it has.
    pub(crate) size_bytes: Option<u64>,
    /// `None`: an existing file stays as it is, a new one is not.
    pub(crate) executable: Option<bool>,
}

/// A folder that is written to.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    root: Arc<OwnedFd>,
    /// By their path from the root.
    open: Mutex<HashMap<String, Arc<OwnedFd>>>,
    taken: Mutex<Taken>,
    next_temp: AtomicU64,
    /// Whether a file may do without a name while it is written.
    nameless: bool,
    force: bool,
    /// Permission bits of a file that nobody may run; `None`: by this process's umask.
    mode: Option<u32>,
}

impl Folder {
    /// Opens the folder, and makes it if need be. With `force` other files and links are replaced.
    pub(crate) fn open(path: &Path, force: bool, mode: Option<u32>) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            path: path.to_owned(),
            root: Arc::new(root),
            open: Mutex::default(),
            taken: Mutex::default(),
            next_temp: AtomicU64::new(rand::random()),
            nameless: can_be_named_late(),
            force,
            mode,
        })
    }

    /// Whether other files and links are replaced.
    pub(crate) fn replaces(&self) -> bool {
        self.force
    }

    /// Where it is, without links on the way.
    pub(crate) fn real_path(&self) -> io::Result<PathBuf> {
        self.path.canonicalize()
    }

    /// What is there already. Another file is an error, unless it may be replaced.
    ///
    /// # Errors
    /// That, what reading it says, and `Interrupted` when `progress` ends it.
    pub(crate) fn look(
        &self,
        wanted: &Wanted<'_>,
        progress: ImportProgress<'_>,
    ) -> io::Result<There> {
        let Some((folder, name)) = self.parent(wanted.path, false)? else {
            return Ok(There::Nothing);
        };
        let Some(stat) = stat(&folder, name)? else {
            return Ok(There::Nothing);
        };
        let is_the_file = is_the_file(&folder, name, &stat, wanted, progress);
        let is_the_file = match is_the_file {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) if !self.force => {
                let why = format!("it exists and could not be read: {error}");
                return Err(io::Error::new(error.kind(), why));
            }
            is_the_file => is_the_file.unwrap_or(false),
        };
        if is_the_file {
            self.set_executable(&folder, name, &stat, wanted.executable)?;
            self.take(&stat, wanted.path);
            return Ok(There::Same(u64::try_from(stat.st_size).unwrap_or(0)));
        }
        self.may_be_replaced(&stat)
    }

    /// Whether something in the place of an entry, and other than it, may be replaced.
    fn may_be_replaced(&self, stat: &Stat) -> io::Result<There> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Err(io::Error::other("a folder is in its place")),
            _ if self.force => Ok(There::Nothing),
            _ => Err(io::Error::other("it exists and is another file")),
        }
    }

    /// Lets those who may read a file run it, or nobody.
    fn set_executable(
        &self,
        folder: &OwnedFd,
        name: &str,
        stat: &Stat,
        executable: Option<bool>,
    ) -> io::Result<()> {
        let bits = stat.st_mode & 0o777;
        let wanted = match executable {
            Some(true) if bits & 0o100 == 0 => with_executable(bits),
            Some(false) if bits & 0o100 != 0 => bits & !EXECUTABLE_BITS,
            _ => return Ok(()),
        };
        let mode = Mode::from_raw_mode(wanted);
        Ok(rustix::fs::chmodat(folder, name, mode, AtFlags::empty())?)
    }

    /// Makes the folders on the way to an entry.
    pub(crate) fn prepare(&self, path: &str) -> io::Result<()> {
        self.parent(path, true).map(drop)
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, path: &str) -> io::Result<()> {
        self.folder(path, true).map(drop)
    }

    /// Writes a file, which has its name when this returns. The bytes have the address.
    pub(crate) fn write(&self, wanted: &Wanted<'_>, bytes: &[u8]) -> io::Result<()> {
        let Some((folder, name)) = self.parent(wanted.path, true)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let executable = wanted.executable == Some(true);
        let fresh = self.create(&folder, executable)?;
        let written = self.fill(&fresh, executable, bytes);
        let named =
            written.and_then(|()| self.publish(fresh.whole(&folder), &folder, name, wanted.path));
        if named.is_err() {
            fresh.remove(&folder);
        }
        match named {
            // It came into being meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.look(wanted, &mut to_the_end).map(drop)
            }
            named => named,
        }
    }

    /// Makes a symbolic link. Whether it leads out is the caller's to judge.
    pub(crate) fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let Some((folder, name)) = self.parent(path, true)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Some(stat) = stat(&folder, name)? {
            let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            if is_link
                && rustix::fs::readlinkat(&*folder, name, Vec::new())?.as_bytes()
                    == target.as_bytes()
            {
                return Ok(());
            }
            self.may_be_replaced(&stat)?;
        }
        let named = match self.force {
            true => self.replace_by_link(&folder, name, path, target),
            false => Ok(rustix::fs::symlinkat(target, &*folder, name)?),
        };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::other("it exists and is another file"),
            _ => error,
        })
    }

    fn replace_by_link(
        &self,
        folder: &OwnedFd,
        name: &str,
        path: &str,
        target: &str,
    ) -> io::Result<()> {
        let temp = self.temp();
        rustix::fs::symlinkat(target, folder, &temp)?;
        let named = self.publish(Whole::Named(folder, &temp), folder, name, path);
        if named.is_err() {
            let _ = rustix::fs::unlinkat(folder, &temp, AtFlags::empty());
        }
        named
    }

    /// Where a larger file is put together, at the top of the folder: no link of the folder is on the way there.
    pub(crate) fn staging(&self, address: &Address) -> PathBuf {
        self.path.join(staging_name(address))
    }

    /// The path of an entry. Whatever is on the way there by now: who opens it may be led elsewhere.
    pub(crate) fn place(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// Gives a file that was put together its place. Its bytes have the address.
    pub(crate) fn adopt(&self, wanted: &Wanted<'_>) -> io::Result<()> {
        let Some((folder, name)) = self.parent(wanted.path, true)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let staged = staging_name(&wanted.address);
        if let Some(stat) = stat(&self.root, &staged)? {
            self.set_executable(&self.root, &staged, &stat, wanted.executable)?;
        }
        let whole = Whole::Named(&self.root, &staged);
        let named = match self.publish(whole, &folder, name, wanted.path) {
            // A folder on the way is on another file system.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.copy_across(&staged, &folder, name, wanted)
            }
            named => named,
        };
        match named {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.look(wanted, &mut to_the_end)?;
                Ok(rustix::fs::unlinkat(
                    &*self.root,
                    &staged,
                    AtFlags::empty(),
                )?)
            }
            named => named,
        }
    }

    fn copy_across(
        &self,
        staged: &str,
        folder: &OwnedFd,
        name: &str,
        wanted: &Wanted<'_>,
    ) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = rustix::fs::openat(&self.root, staged, flags, Mode::empty())?;
        let executable = wanted.executable == Some(true);
        let fresh = self.create(folder, executable)?;
        let copied = self.set_mode(&fresh, executable).and_then(|()| {
            io::copy(&mut File::from(from), &mut fresh.file())?;
            // What is synced in the end is the file system of the folder itself, and the other copy goes now.
            fresh.file().sync_all()?;
            self.publish(fresh.whole(folder), folder, name, wanted.path)
        });
        if copied.is_err() {
            fresh.remove(folder);
        }
        copied?;
        Ok(rustix::fs::unlinkat(&self.root, staged, AtFlags::empty())?)
    }

    fn temp(&self) -> String {
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        format!(".casnode-{number:016x}.part")
    }

    fn create(&self, folder: &OwnedFd, executable: bool) -> io::Result<Fresh> {
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        Fresh::create(folder, self.nameless, || self.temp(), mode)
    }

    fn fill(&self, fresh: &Fresh, executable: bool, bytes: &[u8]) -> io::Result<()> {
        self.set_mode(fresh, executable)?;
        fresh.file().write_all(bytes)
    }

    fn set_mode(&self, fresh: &Fresh, executable: bool) -> io::Result<()> {
        let Some(mode) = self.mode else {
            return Ok(());
        };
        let mode = if executable {
            with_executable(mode)
        } else {
            mode
        };
        Ok(rustix::fs::fchmod(fresh.file(), Mode::from_raw_mode(mode))?)
    }

    /// Gives what is whole its name.
    fn publish(
        &self,
        whole: Whole<'_>,
        folder: &OwnedFd,
        name: &str,
        path: &str,
    ) -> io::Result<()> {
        if !self.force {
            return whole.name(folder, name);
        }
        // One at a time: nobody takes the name between the look and the renaming.
        let mut taken = self.taken();
        match stat(folder, name)? {
            Some(there) if taken.is_others(id(&there), path) => return Err(same_name()),
            Some(_) => whole.replace(folder, name, &self.temp())?,
            None => match whole.name(folder, name) {
                // Another process took it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    whole.replace(folder, name, &self.temp())?;
                }
                named => named?,
            },
        }
        if let Some(made) = stat(folder, name)? {
            taken.take(id(&made), path);
        }
        Ok(())
    }

    /// Returns when everything written survives a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&*self.root)?)
    }

    /// The folder that an entry is in, and its name there; `None` when there is no such folder and none is to be made.
    fn parent<'a>(&self, path: &'a str, make: bool) -> io::Result<Option<(Arc<OwnedFd>, &'a str)>> {
        let Some((parent, name)) = path.rsplit_once('/') else {
            return Ok(Some((self.root.clone(), path)));
        };
        let folder = self.folder(parent, make)?;
        Ok(folder.map(|folder| (folder, name)))
    }

    /// A folder below; `None` when there is none and none is to be made.
    fn folder(&self, path: &str, make: bool) -> io::Result<Option<Arc<OwnedFd>>> {
        let known = self.known().get(path).cloned();
        if let Some(folder) = known {
            return Ok(Some(folder));
        }
        let mut folder = self.root.clone();
        let ends = path.match_indices('/').map(|(at, _)| at);
        let mut begin = 0;
        for end in ends.chain([path.len()]) {
            let Some(inner) = self.enter(&folder, &path[begin..end], make)? else {
                return Ok(None);
            };
            let stat = rustix::fs::fstat(&inner)?;
            if !self.taken().take(id(&stat), &path[..end]) {
                return Err(same_name());
            }
            folder = Arc::new(inner);
            begin = end + 1;
        }
        let mut known = self.known();
        if known.len() >= MAX_FOLDERS {
            known.clear();
        }
        known.insert(path.to_owned(), folder.clone());
        Ok(Some(folder))
    }

    fn enter(&self, folder: &OwnedFd, part: &str, make: bool) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(folder, part, flags, Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) if !make => return Ok(None),
            Err(Errno::NOENT) => {
                self.make(folder, part)?;
                open()
            }
            opened => opened,
        };
        opened.map(Some).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => io::Error::other(format!(
                "{part} on the way to it is a link or a file, and no folder"
            )),
            error => error.into(),
        })
    }

    fn make(&self, folder: &OwnedFd, part: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(folder, part, Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) => return Ok(()),
            made => made?,
        }
        if let Some(mode) = self.mode {
            // Whoever may read the files may enter.
            let mode = Mode::from_raw_mode(with_executable(mode));
            rustix::fs::chmodat(folder, part, mode, AtFlags::empty())?;
        }
        Ok(())
    }

    /// Notes what is right already, where others might replace it.
    fn take(&self, stat: &Stat, path: &str) {
        if self.force {
            self.taken().take(id(stat), path);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<OwnedFd>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what has a name is a file, and the one that is wanted.
fn is_the_file(
    folder: &OwnedFd,
    name: &str,
    stat: &Stat,
    wanted: &Wanted<'_>,
    progress: ImportProgress<'_>,
) -> io::Result<bool> {
    let is_so_long = |bytes| u64::try_from(stat.st_size) == Ok(bytes);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        || !wanted.size_bytes.is_none_or(is_so_long)
    {
        return Ok(false);
    }
    // It may have become a FIFO meanwhile, whose other end is not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    Ok(file_address_of(&file, progress)? == wanted.address)
}

/// Nobody ends it.
fn to_the_end(_: u64, _: Option<u64>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What has a name in a folder, be it a link.
fn stat(folder: &OwnedFd, name: &str) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        stat => Ok(Some(stat?)),
    }
}

fn staging_name(address: &Address) -> String {
    format!(".casnode-{address}")
}

/// Whoever may read may run, or enter.
fn with_executable(mode: u32) -> u32 {
    mode | (mode & 0o444) >> 2
}

fn same_name() -> io::Error {
    io::Error::other("to this file system its name is that of another entry, which stays")
}

#[cfg(test)]
mod tests;
