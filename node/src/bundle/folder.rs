//! Writes many small files below one folder, whatever links are in it.
//!
//! Every folder on the way is opened by itself and no link is followed: nothing is written elsewhere. A file gets its name
//! when its bytes are there; what survives a power cut is said by [`Folder::sync`], once for all of them.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use casnode_cas::Address;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RenameFlags},
    io::Errno,
};

/// Open folders that are remembered.
const MAX_FOLDERS: usize = 64;

/// What is at the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing, or something that may be replaced.
    Nothing,
    /// The very file.
    Same,
}

/// The folder of a list.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    root: Arc<OwnedFd>,
    /// By their path from the root.
    open: Mutex<HashMap<String, Arc<OwnedFd>>>,
    next_temp: AtomicU64,
    force: bool,
    /// Permission bits of a file; `None`: by this process's umask.
    mode: Option<u32>,
}

impl Folder {
    /// Opens the folder, and makes it if need be. With `force` other files are replaced.
    pub(super) fn open(path: &Path, force: bool, mode: Option<u32>) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            path: path.to_owned(),
            root: Arc::new(root),
            open: Mutex::default(),
            next_temp: AtomicU64::new(rand::random()),
            force,
            mode,
        })
    }

    /// Where a file of the list is.
    pub(super) fn path_of(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// What is there already. Another file is an error, unless it may be replaced.
    pub(super) fn look(&self, path: &str, address: Address) -> io::Result<There> {
        let Some((folder, name)) = self.parent(path, false)? else {
            return Ok(There::Nothing);
        };
        let stat = match rustix::fs::statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(There::Nothing),
            stat => stat?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return Err(io::Error::other("a folder is in its place"));
        }
        if kind == FileType::RegularFile
            && casnode_cas::file_address(&self.path_of(path)).is_ok_and(|found| found == address)
        {
            return Ok(There::Same);
        }
        match self.force {
            true => Ok(There::Nothing),
            false => Err(io::Error::other("it exists and is another file")),
        }
    }

    /// Makes the folders on the way to a file.
    pub(super) fn prepare(&self, path: &str) -> io::Result<()> {
        self.parent(path, true).map(drop)
    }

    /// Writes a file, which has its name when this returns. The bytes have the address.
    pub(super) fn write(&self, path: &str, address: Address, bytes: &[u8]) -> io::Result<()> {
        let Some((folder, name)) = self.parent(path, true)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let temp = format!(".casnode-{number:016x}.part");
        let written = self.write_temp(&folder, &temp, bytes);
        let named = written.and_then(|()| self.publish(&folder, &temp, name));
        if named.is_err() {
            let _ = rustix::fs::unlinkat(&*folder, &temp, AtFlags::empty());
        }
        match named {
            // It came into being meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.look(path, address).map(drop)
            }
            named => named,
        }
    }

    fn write_temp(&self, folder: &OwnedFd, temp: &str, bytes: &[u8]) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, temp, flags, Mode::from_raw_mode(0o666))?;
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        }
        File::from(file).write_all(bytes)
    }

    fn publish(&self, folder: &OwnedFd, temp: &str, name: &str) -> io::Result<()> {
        if self.force {
            return Ok(rustix::fs::renameat(folder, temp, folder, name)?);
        }
        match rustix::fs::renameat_with(folder, temp, folder, name, RenameFlags::NOREPLACE) {
            // Not every file system can.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(folder, temp, folder, name, AtFlags::empty())?;
                Ok(rustix::fs::unlinkat(folder, temp, AtFlags::empty())?)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Returns when everything written survives a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&*self.root)?)
    }

    /// The folder that a file is in, and its name there; `None` when there is no such folder and none is to be made.
    fn parent<'a>(&self, path: &'a str, make: bool) -> io::Result<Option<(Arc<OwnedFd>, &'a str)>> {
        let Some((parent, name)) = path.rsplit_once('/') else {
            return Ok(Some((self.root.clone(), path)));
        };
        let known = self.known().get(parent).cloned();
        if let Some(folder) = known {
            return Ok(Some((folder, name)));
        }
        let mut folder = self.root.clone();
        for part in parent.split('/') {
            folder = match self.enter(&folder, part, make)? {
                Some(inner) => Arc::new(inner),
                None => return Ok(None),
            };
        }
        let mut known = self.known();
        if known.len() >= MAX_FOLDERS {
            known.clear();
        }
        known.insert(parent.to_owned(), folder.clone());
        Ok(Some((folder, name)))
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
            let mode = Mode::from_raw_mode(mode | (mode & 0o444) >> 2);
            rustix::fs::chmodat(folder, part, mode, AtFlags::empty())?;
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<OwnedFd>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, os::unix::fs::symlink};

    use super::*;

    fn folder(force: bool) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("out"), force, Some(0o640)).unwrap();
        (dir, folder)
    }

    fn write(folder: &Folder, path: &str, bytes: &[u8]) -> io::Result<()> {
        folder.write(path, Address::of(bytes), bytes)
    }

    #[test]
    fn files_are_written_with_their_folders_and_nothing_is_left() {
        let (dir, folder) = folder(false);
        for path in ["a", "b/c/d", "b/c/e f"] {
            write(&folder, path, path.as_bytes()).unwrap();
            let there = folder.path_of(path);
            assert_eq!(fs::read(&there).unwrap(), path.as_bytes());
            assert_eq!(
                there.metadata().unwrap().permissions().mode() & 0o777,
                0o640
            );
            assert_eq!(
                folder.look(path, Address::of(path.as_bytes())).unwrap(),
                There::Same
            );
        }
        folder.sync().unwrap();
        assert_eq!(
            folder.look("b/x/y", Address::of(b"")).unwrap(),
            There::Nothing
        );
        assert_eq!(fs::read_dir(dir.path().join("out/b/c")).unwrap().count(), 2);
        let made = fs::metadata(dir.path().join("out/b")).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o750);
    }

    #[test]
    fn another_file_is_replaced_only_by_force() {
        let (dir, folder) = folder(false);
        write(&folder, "a", b"one").unwrap();
        write(&folder, "a", b"one").unwrap();
        assert!(write(&folder, "a", b"two").is_err());
        assert!(folder.look("a", Address::of(b"two")).is_err());
        assert_eq!(fs::read(folder.path_of("a")).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
        let forced = Folder::open(&dir.path().join("out"), true, None).unwrap();
        assert_eq!(
            forced.look("a", Address::of(b"two")).unwrap(),
            There::Nothing
        );
        write(&forced, "a", b"two").unwrap();
        assert_eq!(fs::read(folder.path_of("a")).unwrap(), b"two");
    }

    #[test]
    fn no_link_leads_out_of_the_folder() {
        let (dir, folder) = folder(true);
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("f"), b"precious").unwrap();
        symlink(&outside, dir.path().join("out/link")).unwrap();
        symlink(outside.join("f"), dir.path().join("out/file")).unwrap();
        for path in ["link/f", "link/new/f"] {
            let error = write(&folder, path, b"evil").unwrap_err();
            assert!(error.to_string().contains("link"), "{error}");
            assert!(folder.look(path, Address::of(b"evil")).is_err());
            assert!(folder.prepare(path).is_err());
        }
        // The link itself is replaced.
        write(&folder, "file", b"evil").unwrap();
        assert_eq!(fs::read(outside.join("f")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
