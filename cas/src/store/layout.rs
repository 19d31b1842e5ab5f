//! The folder of a store: who may open it, what version it has, and whether it was closed in order.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::error::StoreError;

/// The file that makes a folder a store.
const FORMAT_FILE: &str = "FORMAT";

/// Version of the whole layout.
const VERSION: u16 = 3;

/// The version before, which is read, too. A program of that version would not know the entries of this one:
/// the store gets this version when it is opened to be changed.
const READ_VERSION: u16 = 2;
const MAGIC: [u8; 8] = *b"CASSTORE";
/// magic 8 | version 2 | store id 16 | inline limit 4 | crc 4
const FORMAT_BYTES: usize = 34;

/// Someone who only asks whether the store is locked holds the lock for an instant.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Longest process id text that is looked at.
const MAX_PID_TEXT: u64 = 20;

/// A store's folder, locked against other processes for as long as this lives.
pub(crate) struct Layout {
    dir: PathBuf,
    store_id: [u8; 16],
    /// Whether the last owner closed the store in order.
    was_clean: bool,
    lock: File,
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io("sync", dir))
}

/// Creates the folder and its missing parents, for their owner alone; one that exists stays as it is.
fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

impl Layout {
    /// Locks the folder, checks its format, and notes that it is in use.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        create_private(dir).map_err(StoreError::io("create", dir))?;
        let lock = take_lock(dir)?;
        let store_id = match read_format(dir)? {
            Some(Format { store_id, version }) => {
                if version != VERSION {
                    write_format(dir, store_id)?;
                }
                store_id
            }
            // Whose packs they are is only known from there.
            None if has_packs(dir) => {
                return Err(StoreError::NotAStore {
                    path: dir.join(FORMAT_FILE),
                });
            }
            None => {
                let store_id = new_store_id()?;
                write_format(dir, store_id)?;
                sync_parent(dir)?;
                store_id
            }
        };
        let clean = dir.join("CLEAN");
        let was_clean = match fs::remove_file(&clean) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(StoreError::io("remove", &clean)(error)),
        };
        sync_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            store_id,
            was_clean,
            lock,
        })
    }

    /// Shares the folder with other readers; nothing is written, and a store must be there.
    pub(crate) fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let format = read_format(dir)?.ok_or_else(|| StoreError::NotAStore {
            path: dir.join(FORMAT_FILE),
        })?;
        let store_id = format.store_id;
        let path = dir.join("LOCK");
        let lock = OpenOptions::new().read(true).open(&path);
        let mut lock = lock.map_err(StoreError::io("open", &path))?;
        match lock.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    pid: read_pid(&mut lock),
                });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
        }
        Ok(Self {
            dir: dir.to_owned(),
            store_id,
            was_clean: false,
            lock,
        })
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    pub(crate) fn was_clean(&self) -> bool {
        self.was_clean
    }

    pub(crate) fn index_dir(&self) -> PathBuf {
        self.dir.join("index")
    }

    pub(crate) fn clones_dir(&self) -> PathBuf {
        self.dir.join("clones")
    }

    pub(crate) fn unfinished_dir(&self) -> PathBuf {
        self.dir.join("unfinished")
    }

    pub(crate) fn packs_dir(&self) -> PathBuf {
        self.dir.join("packs")
    }

    /// Puts an index that cannot be used aside, under the first free `index.bad.<n>`. Older ones go: on a full
    /// disk there may be many, and one is enough to find out why.
    pub(crate) fn set_index_aside(&self) -> Result<PathBuf, StoreError> {
        let index = self.index_dir();
        let aside = (0u32..)
            .map(|n| self.dir.join(format!("index.bad.{n}")))
            .find(|path| !path.exists())
            .unwrap_or_else(|| self.dir.join("index.bad"));
        match fs::rename(&index, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(StoreError::io("rename", &index))?,
        }
        self.remove_asides_but(&aside);
        sync_dir(&self.dir)?;
        Ok(aside)
    }

    fn remove_asides_but(&self, newest: &Path) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_aside = name.to_str().is_some_and(|n| n.starts_with("index.bad"));
            if is_aside
                && entry.path() != newest
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::debug!(path = %entry.path().display(), %error, "an old index stays");
            }
        }
    }

    /// Notes that everything is synced and consistent.
    pub(crate) fn mark_clean(&self) -> io::Result<()> {
        File::create(self.dir.join("CLEAN"))?.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }
}

impl Drop for Layout {
    /// Closing the file would not do while a child of this process that was just made has it, too, until it runs its program.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(%error, "the store stays locked until its lock file is closed");
        }
    }
}

fn has_packs(dir: &Path) -> bool {
    fs::read_dir(dir.join("packs")).is_ok_and(|mut packs| packs.next().is_some())
}

fn open_lock_file(dir: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("LOCK"))
}

fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("LOCK");
    let mut file = open_lock_file(dir).map_err(StoreError::io("write to", &path))?;
    let mut attempts = LOCK_ATTEMPTS;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
            Err(TryLockError::WouldBlock) if attempts == 0 => {
                return Err(StoreError::Locked {
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::WouldBlock) => attempts -= 1,
        }
        thread::sleep(LOCK_PAUSE);
    }
    // Only for the message another process shows; a failure costs nothing else.
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, "the lock file does not name this process");
    }
    Ok(file)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(MAX_PID_TEXT).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether another owner has the store in `dir` open, and the process id it left.
///
/// `Some(None)` means that it is locked by someone who cannot be named.
pub(crate) fn locked_by(dir: &Path) -> io::Result<Option<Option<u32>>> {
    let mut file = match OpenOptions::new().read(true).open(dir.join("LOCK")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read_pid(&mut file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What `FORMAT` says.
struct Format {
    store_id: [u8; 16],
    version: u16,
}

fn read_format(dir: &Path) -> Result<Option<Format>, StoreError> {
    let path = dir.join(FORMAT_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &path)(error)),
    };
    let foreign = || StoreError::NotAStore { path: path.clone() };
    let fields = bytes.strip_prefix(&MAGIC).ok_or_else(foreign)?;
    let (version, fields) = fields.split_first_chunk::<2>().ok_or_else(foreign)?;
    // A newer version may have another length and checksum: look at its number first.
    let found = u16::from_le_bytes(*version);
    let known = VERSION;
    if found > known {
        return Err(StoreError::NewerVersion { found, known });
    }
    if found < READ_VERSION {
        return Err(StoreError::OlderVersion { found, known });
    }
    let (store_id, _) = fields.split_first_chunk::<16>().ok_or_else(foreign)?;
    let (covered, crc) = bytes.split_last_chunk::<4>().ok_or_else(foreign)?;
    if bytes.len() != FORMAT_BYTES || crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return Err(foreign());
    }
    Ok(Some(Format {
        store_id: *store_id,
        version: found,
    }))
}

/// The version of the store in `dir`, if there is one.
pub(super) fn version_in(dir: &Path) -> Result<Option<u16>, StoreError> {
    match read_format(dir)? {
        Some(format) => Ok(Some(format.version)),
        None if has_packs(dir) => Err(StoreError::NotAStore {
            path: dir.join(FORMAT_FILE),
        }),
        None => Ok(None),
    }
}

fn new_store_id() -> Result<[u8; 16], StoreError> {
    let source = Path::new("/dev/urandom");
    let mut store_id = [0u8; 16];
    let random = File::open(source).and_then(|mut file| file.read_exact(&mut store_id));
    random.map_err(StoreError::io("read", source))?;
    Ok(store_id)
}

fn write_format(dir: &Path, store_id: [u8; 16]) -> Result<(), StoreError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&store_id);
    let inline_bytes = u32::try_from(super::INLINE_BYTES).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&inline_bytes.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let (temp, path) = (dir.join("FORMAT.tmp"), dir.join(FORMAT_FILE));
    let written = File::create(&temp).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.map_err(StoreError::io("write", &temp))?;
    fs::rename(&temp, &path).map_err(StoreError::io("rename", &temp))?;
    sync_dir(dir)
}

fn sync_parent(dir: &Path) -> Result<(), StoreError> {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Whether there is a store in `dir`, of whatever version, or something that keeps from looking.
pub(super) fn exists(dir: &Path) -> bool {
    dir.join(FORMAT_FILE).try_exists().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_closed_is_free_though_somebody_has_its_lock_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        // As a child process has it between fork and exec: the same open file.
        let inherited = layout.lock.try_clone().unwrap();
        drop(layout);
        let read_only = Layout::open_read_only(dir.path()).unwrap();
        assert_eq!(locked_by(dir.path()).unwrap(), None);
        let also = read_only.lock.try_clone().unwrap();
        drop(read_only);
        Layout::open(dir.path()).unwrap();
        drop((inherited, also));
    }
}
