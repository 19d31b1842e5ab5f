//! The only file that names sled.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layout::{DiskOp, FORMAT_KEY, LAYOUT_VERSION};

/// Changes per batch. sled 0.34's memory grows with the size of its largest batches.
pub(crate) const BATCH_OPS: usize = 256;

/// sled's page cache. The tables live in memory anyway; the disk is read only at the start.
const CACHE_BYTES: u64 = 8 << 20;

/// How often and after which pause a locked database is tried again: two seconds in all.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The record store could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The folder could not be made or synced.
    #[error("{path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database refused.
    #[error("database")]
    Database(#[from] sled::Error),
    /// The database was written by another version of this software.
    #[error("record store of version {0}, this is version {LAYOUT_VERSION}")]
    Version(u32),
    /// The thread that writes has ended.
    #[error("record store is closed")]
    Closed,
}

/// The database of the record store.
pub(crate) struct Disk {
    db: sled::Db,
    file: PathBuf,
}

impl Disk {
    /// Opens or creates the database in `dir`. Blocking.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let folder = |source| StoreError::Folder {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(folder)?;
        let path = dir.join("records");
        let config = sled::Config::new()
            .path(&path)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let db = open_patiently(&config)?;
        let disk = Self {
            db,
            file: path.join("db"),
        };
        match disk.db.get(FORMAT_KEY)? {
            None => {
                disk.db.insert(FORMAT_KEY, &LAYOUT_VERSION.to_le_bytes())?;
                disk.sync()?;
                // The names of new files are durable only when their folders are.
                sync_folder(&path)?;
                sync_folder(dir)?;
            }
            Some(found) => {
                let version = found[..].try_into().map_or(0, u32::from_le_bytes);
                if version != LAYOUT_VERSION {
                    return Err(StoreError::Version(version));
                }
            }
        }
        Ok(disk)
    }

    /// Calls `take` with every entry, ordered by name.
    pub(crate) fn load(&self, mut take: impl FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        for entry in self.db.iter() {
            let (name, bytes) = entry?;
            if name[..] != *FORMAT_KEY {
                take(&name, &bytes);
            }
        }
        Ok(())
    }

    /// Makes changes together. Durable after the next [`Self::sync`].
    pub(crate) fn apply(&self, ops: Vec<DiskOp>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for op in ops {
            match op {
                DiskOp::Put(name, bytes) => batch.insert(name, bytes),
                DiskOp::Remove(name) => batch.remove(name),
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    /// Hands all changes so far to the operating system: they survive this process, not the machine.
    pub(crate) fn hand_over(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        Ok(())
    }

    /// Makes all changes so far durable: sled 0.34's own flush does not reach the disk
    /// (spacejam/sled#1351), so the file is synced after it.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        let synced = File::open(&self.file).and_then(|file| file.sync_data());
        synced.map_err(|source| StoreError::Folder {
            path: self.file.clone(),
            source,
        })
    }
}

/// Opens the database. sled's own threads let go of its lock a moment after it has been closed.
fn open_patiently(config: &sled::Config) -> Result<sled::Db, sled::Error> {
    let mut tries = 0;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if tries < LOCK_TRIES && is_locked(&error) => tries += 1,
            result => return result,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// sled tells a held lock by its words only.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|source| StoreError::Folder {
        path: path.to_owned(),
        source,
    })
}
