//! Gives what is whole its name, and leaves nothing of what is not.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

/// The names of this process's open files, by which a file that has no other gets one: see open(2) on `O_TMPFILE`.
const OPEN_FILES: &str = "/proc/self/fd";

/// A file as it is written.
#[derive(Debug)]
pub(super) enum Fresh {
    /// It has no name: when the process is killed nothing is left of it.
    Nameless(File),
    /// It has a name for a while, where the file system cannot do without one.
    Named(File, String),
}

/// What is to get its name in a folder: in a folder of its own it may have one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whole<'a> {
    Nameless(&'a File),
    Named(&'a OwnedFd, &'a str),
}

/// Whether files without a name can get one here.
pub(super) fn can_be_named_late() -> bool {
    Path::new(OPEN_FILES).is_dir()
}

impl Fresh {
    /// Creates one in the folder. `temp` is its name where it must have one, which must be new.
    pub(super) fn create(
        folder: &OwnedFd,
        nameless: bool,
        temp: impl FnOnce() -> String,
        mode: Mode,
    ) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if nameless {
            match rustix::fs::openat(folder, ".", flags | OFlags::TMPFILE, mode) {
                // Not every file system can.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
                opened => return Ok(Self::Nameless(opened?.into())),
            }
        }
        let temp = temp();
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(folder, &temp, flags, mode)?;
        Ok(Self::Named(file.into(), temp))
    }

    pub(super) fn file(&self) -> &File {
        match self {
            Self::Nameless(file) | Self::Named(file, _) => file,
        }
    }

    /// This file, relative to the folder it was created in.
    pub(super) fn whole<'a>(&'a self, folder: &'a OwnedFd) -> Whole<'a> {
        match self {
            Self::Nameless(file) => Whole::Nameless(file),
            Self::Named(_, temp) => Whole::Named(folder, temp),
        }
    }

    /// Gives it up.
    pub(super) fn remove(self, folder: &OwnedFd) {
        if let Self::Named(_, temp) = self {
            let _ = rustix::fs::unlinkat(folder, &temp, AtFlags::empty());
        }
    }
}

impl Whole<'_> {
    /// Gives it a name that nothing has yet.
    pub(super) fn name(self, folder: &OwnedFd, name: &str) -> io::Result<()> {
        let (from, temp) = match self {
            Self::Nameless(file) => return Ok(link(file, folder, name)?),
            Self::Named(from, temp) => (from, temp),
        };
        match rustix::fs::renameat_with(from, temp, folder, name, RenameFlags::NOREPLACE) {
            // Not every file system can.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(from, temp, folder, name, AtFlags::empty())?;
                Ok(rustix::fs::unlinkat(from, temp, AtFlags::empty())?)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Gives it the name of what is there. `temp` is what it may be called in between.
    pub(super) fn replace(self, folder: &OwnedFd, name: &str, temp: &str) -> io::Result<()> {
        let (from, temp) = match self {
            Self::Named(from, temp) => (from, temp),
            Self::Nameless(file) => {
                link(file, folder, temp)?;
                (folder, temp)
            }
        };
        let renamed = rustix::fs::renameat(from, temp, folder, name);
        if renamed.is_err() && matches!(self, Self::Nameless(_)) {
            let _ = rustix::fs::unlinkat(folder, temp, AtFlags::empty());
        }
        Ok(renamed?)
    }
}

fn link(file: &File, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, open, folder, name, AtFlags::SYMLINK_FOLLOW)
}
