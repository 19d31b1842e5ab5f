//! The record log, in sled. The only file of this crate that names it.
//!
//! Everything is answered from memory, so the disk needs no index of records: it has a log of changes, in
//! batches cut into entries of 2 KiB, and is written anew when most of it is history. An entry for each record
//! was tried: sled takes more memory for a million of them than the tables do.
//!
//! ```text
//! 'F'                                                 -> u32 LE   version of the layout
//! 'G'                                                 -> u32 BE   the generation that counts
//! 'l' generation u32 BE, batch u64 BE, part u16 BE    -> bytes    a part of a batch of changes
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layout::{self, DiskOp, Entry};

/// Version of the layout as a whole. Version 1 had an entry for each record, version 2 the schedule in the log.
pub(crate) const LAYOUT_VERSION: u32 = 3;
/// Changes per batch: 42 KiB of provider records. sled 0.34's memory grows with the size of its largest batches.
pub(crate) const BATCH_OPS: usize = 1024;

const FORMAT_KEY: &[u8] = b"F";
const GENERATION_KEY: &[u8] = b"G";
const LOG: u8 = b'l';
/// Size of a part of a batch. sled 0.34 moves tree nodes above 128 KiB into files that it does not sync, and a
/// node holds dozens of entries; parts keep nodes far below that.
const PART_BYTES: usize = 2048;
/// Parts that are removed together.
const REMOVED_AT_ONCE: usize = 256;
/// How often a part is used when it is read. sled 0.34 looks whether its cache is too large once in 64 uses of one of 256
/// shards, and a log of 40 MB has but five nodes in each: read once, none of them would ever go. So each node, of up
/// to 16 parts, is used often enough by itself; a use takes a microsecond.
const USES_OF_A_PART: usize = 8;
/// A log is written anew when it is twice as long as what is in it, and this much, in bytes.
const MIN_HISTORY_BYTES: u64 = 8 << 20;

/// The database's folder, and where one goes that cannot be read.
const FOLDER: &str = "records";
const BAD_FOLDER: &str = "records.bad";

/// How often and after which pause a locked database is tried again: two seconds in all.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The record store could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder could not be read or written.
    #[error("{path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The announce schedule could not be read or written.
    #[error("the file of the announce schedule")]
    Schedule(#[source] io::Error),
    /// The database refused.
    #[error("database")]
    Database(#[from] sled::Error),
    /// The database was written by another version of this software.
    #[error(
        "record store of version {0}, this is version {LAYOUT_VERSION}; \
         use the newer program, or remove the folder dht/ of the data directory"
    )]
    Version(u32),
    /// Another node uses the data directory.
    #[error("the record store is in use by another process")]
    InUse,
    /// The keys of this node are not of Ed25519.
    #[error("the node's key is of a kind that cannot sign records")]
    Key,
    /// The thread that writes has ended.
    #[error("record store is closed")]
    Closed,
}

/// Where changes go; tests bring one that fails.
pub(super) trait Sink {
    /// Makes changes together. Durable after a sync. After a failure they can be made again.
    fn apply(&mut self, ops: &[DiskOp]) -> Result<(), StoreError>;
}

/// The log of the record store.
pub(crate) struct Disk {
    folder: PathBuf,
    log: Log,
    /// How long the log would be without history.
    fresh_bytes: u64,
}

impl Disk {
    #[cfg(test)]
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, 8 << 20)
    }

    /// Opens or creates the log in `dir`, with about `cache_bytes` of it in memory. Blocking.
    pub(crate) fn open_with(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(at(dir))?;
        let folder = dir.join(FOLDER);
        let mut db = open_or_set_aside(dir, &folder, cache_bytes)?;
        match version_of(&db)? {
            Some(LAYOUT_VERSION) => {}
            Some(old @ (1 | 2)) => {
                // What it held comes again within a day, and the schedule is made from the content store.
                drop(db);
                std::fs::remove_dir_all(&folder).map_err(at(&folder))?;
                tracing::info!(
                    old,
                    "a record store of an old version was dropped; its records come again"
                );
                db = create(dir, &folder, cache_bytes)?;
            }
            Some(other) => return Err(StoreError::Version(other)),
            None => db = initialised(dir, &folder, db)?,
        }
        let generation = generation_of(&db)?;
        let disk = Self {
            log: Log::new(db, generation),
            folder,
            fresh_bytes: 0,
        };
        disk.log.remove_others()?;
        Ok(disk)
    }

    /// Calls `take` with every entry, oldest first; returns how many bytes could not be read: they come again with
    /// renewals.
    pub(crate) fn load(&mut self, mut take: impl FnMut(Entry)) -> Result<u64, StoreError> {
        let (mut unreadable_bytes, mut batch) = (0, (0, Vec::new()));
        let entries = self.log.db.scan_prefix(self.log.prefix());
        for entry in entries {
            let (name, part) = entry?;
            let number = batch_of(&name).unwrap_or(u64::MAX);
            if number != batch.0 {
                unreadable_bytes += take_batch(&batch.1, &mut take);
                batch = (number, Vec::new());
            }
            batch.1.extend_from_slice(&part);
            // Or all that was read stays in memory.
            for _ in 0..USES_OF_A_PART {
                self.log.db.contains_key(&name)?;
            }
            self.log.next_batch = number.saturating_add(1);
            self.log.bytes += part.len() as u64;
        }
        unreadable_bytes += take_batch(&batch.1, &mut take);
        Ok(unreadable_bytes)
    }

    /// Every entry, as it lies there.
    #[cfg(test)]
    pub(super) fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = self.log.db.iter().map(Result::unwrap);
        entries
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    }

    /// How long the log would be if it were written anew now, about.
    pub(crate) fn set_fresh_bytes(&mut self, bytes: u64) {
        self.fresh_bytes = bytes;
    }

    /// Whether most of the log is history.
    pub(super) fn is_stale(&self) -> bool {
        self.log.bytes > self.fresh_bytes.saturating_mul(2) + MIN_HISTORY_BYTES
    }

    /// Waits for as much history again.
    pub(super) fn put_off(&mut self) {
        self.fresh_bytes = self.log.bytes;
    }

    /// Begins a log that will take the place of this one.
    pub(super) fn begin(&self) -> Result<Log, StoreError> {
        self.log.remove_others()?;
        let next = self.log.generation.wrapping_add(1);
        Ok(Log::new(self.log.db.clone(), next))
    }

    /// Goes on with another log. Durable when this returns.
    pub(super) fn replace(&mut self, new: Log) -> Result<(), StoreError> {
        // What is in it must not be younger on the disk than the word that it counts.
        self.sync()?;
        let db = &self.log.db;
        db.insert(GENERATION_KEY, &new.generation.to_be_bytes())?;
        self.log = new;
        self.sync()?;
        self.fresh_bytes = self.log.bytes;
        self.log.remove_others()
    }

    /// Hands all changes so far to the operating system: they survive this process, not the machine.
    pub(crate) fn hand_over(&self) -> Result<(), StoreError> {
        self.log.db.flush()?;
        Ok(())
    }

    /// Makes all changes so far durable: sled 0.34's own flush does not reach the disk
    /// (spacejam/sled#1351), so the file is synced after it.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.hand_over()?;
        sync_file(&self.folder)
    }
}

impl Sink for Disk {
    fn apply(&mut self, ops: &[DiskOp]) -> Result<(), StoreError> {
        self.log.apply(ops)
    }
}

/// One generation of the log.
pub(super) struct Log {
    db: sled::Db,
    generation: u32,
    next_batch: u64,
    bytes: u64,
}

impl Log {
    fn new(db: sled::Db, generation: u32) -> Self {
        Self {
            db,
            generation,
            next_batch: 0,
            bytes: 0,
        }
    }

    fn prefix(&self) -> Vec<u8> {
        let mut prefix = vec![LOG];
        prefix.extend_from_slice(&self.generation.to_be_bytes());
        prefix
    }

    /// Removes what other generations have left.
    fn remove_others(&self) -> Result<(), StoreError> {
        let own = self.prefix();
        loop {
            let mut batch = sled::Batch::default();
            let mut count = 0;
            let before = self.db.range(vec![LOG]..own.clone());
            let mut end = own.clone();
            end.extend_from_slice(&[0xff; 10]);
            let behind = self.db.range(end..vec![LOG + 1]);
            for entry in before.chain(behind).take(REMOVED_AT_ONCE) {
                let (name, _) = entry?;
                if !name.starts_with(&own) {
                    batch.remove(name);
                    count += 1;
                }
            }
            if count == 0 {
                return Ok(());
            }
            apply(&self.db, batch)?;
        }
    }
}

impl Sink for Log {
    fn apply(&mut self, ops: &[DiskOp]) -> Result<(), StoreError> {
        let mut payload = Vec::new();
        ops.iter()
            .for_each(|op| payload.extend_from_slice(op.bytes()));
        let mut batch = sled::Batch::default();
        for (part, bytes) in payload.chunks(PART_BYTES).enumerate() {
            let mut name = self.prefix();
            name.extend_from_slice(&self.next_batch.to_be_bytes());
            // 1,024 changes of at most 10 KiB are far fewer parts.
            let part = u16::try_from(part).unwrap_or(u16::MAX);
            name.extend_from_slice(&part.to_be_bytes());
            batch.insert(name, bytes);
        }
        apply(&self.db, batch)?;
        self.next_batch += 1;
        self.bytes += payload.len() as u64;
        Ok(())
    }
}

/// Makes changes, and has them written before anything else is. sled 0.34 gives the end of its file back when entries
/// have been removed, and waits for that while it holds a lock that its own writing threads need: with many writes
/// outstanding, all its threads may wait for each other for ever.
fn apply(db: &sled::Db, batch: sled::Batch) -> Result<(), StoreError> {
    db.apply_batch(batch)?;
    db.flush()?;
    Ok(())
}

/// Reads the changes of one batch; returns how many bytes at its end could not be read.
fn take_batch(payload: &[u8], take: &mut impl FnMut(Entry)) -> u64 {
    let mut rest = payload;
    while !rest.is_empty() {
        let before = rest;
        match layout::take(&mut rest) {
            Some(entry) => take(entry),
            None => return before.len() as u64,
        }
    }
    0
}

/// The number of the batch whose part has this name.
fn batch_of(name: &[u8]) -> Option<u64> {
    let number = name.get(5..13)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

fn version_of(db: &sled::Db) -> Result<Option<u32>, StoreError> {
    let found = db.get(FORMAT_KEY)?;
    Ok(found.map(|found| found[..].try_into().map_or(0, u32::from_le_bytes)))
}

fn generation_of(db: &sled::Db) -> Result<u32, StoreError> {
    let found = db.get(GENERATION_KEY)?;
    Ok(found.map_or(0, |found| {
        found[..].try_into().map_or(0, u32::from_be_bytes)
    }))
}

/// Opens the database; one that is damaged is set aside, and another begun: records come again within a day, and
/// the schedule is made from the content store.
fn open_or_set_aside(dir: &Path, folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    match open_patiently(folder, cache_bytes) {
        Err(StoreError::Database(
            error @ (sled::Error::Corruption { .. } | sled::Error::Unsupported(_)),
        )) => {
            let bad = dir.join(BAD_FOLDER);
            tracing::warn!(%error, kept = %bad.display(), "the record store is damaged; a new one is begun");
            if bad.exists() {
                std::fs::remove_dir_all(&bad).map_err(at(&bad))?;
            }
            std::fs::rename(folder, &bad).map_err(at(folder))?;
            open_patiently(folder, cache_bytes)
        }
        result => result,
    }
}

fn create(dir: &Path, folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let db = open_patiently(folder, cache_bytes)?;
    initialised(dir, folder, db)
}

/// Writes the version into a new database.
fn initialised(dir: &Path, folder: &Path, db: sled::Db) -> Result<sled::Db, StoreError> {
    db.insert(FORMAT_KEY, &LAYOUT_VERSION.to_le_bytes())?;
    db.flush()?;
    sync_file(folder)?;
    // The names of new files are durable only when their folders are.
    sync_folder(folder)?;
    sync_folder(dir)?;
    Ok(db)
}

/// Opens the database. sled's own threads let go of its lock a moment after it has been closed.
fn open_patiently(folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(cache_bytes)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(None);
    for _ in 0..LOCK_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if is_locked(&error) => std::thread::sleep(LOCK_PAUSE),
            result => return Ok(result?),
        }
    }
    Err(StoreError::InUse)
}

/// sled tells a held lock by its words only.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn sync_file(folder: &Path) -> Result<(), StoreError> {
    let file = folder.join("db");
    let synced = File::open(&file).and_then(|file| file.sync_data());
    synced.map_err(at(&file))
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(at(path))
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Folder { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    fn provided(n: u8) -> DiskOp {
        layout::provider_op(&[n; 32], 1, Some(9))
    }

    fn keys(disk: &mut Disk) -> (Vec<Key>, u64) {
        let mut keys = Vec::new();
        let unreadable = disk.load(|entry| match entry {
            Entry::Provider { key, .. } => keys.push(key),
            other => panic!("{other:?}"),
        });
        (keys, unreadable.unwrap())
    }

    #[test]
    fn changes_come_back_in_their_order_and_go_on_behind() {
        let dir = tempfile::tempdir().unwrap();
        // One entry of 41 bytes a change: several parts, whose ends fall into the middle of changes.
        let all: Vec<DiskOp> = (0..200).map(provided).collect();
        let mut disk = Disk::open(dir.path()).unwrap();
        disk.apply(&all[..150]).unwrap();
        disk.sync().unwrap();
        drop(disk);
        let mut disk = Disk::open(dir.path()).unwrap();
        assert_eq!(keys(&mut disk).0.len(), 150);
        disk.apply(&all[150..]).unwrap();
        disk.sync().unwrap();
        drop(disk);
        let expected: Vec<Key> = (0..200).map(|n| [n; 32]).collect();
        assert_eq!(keys(&mut Disk::open(dir.path()).unwrap()), (expected, 0));
    }

    #[test]
    fn a_batch_that_cannot_be_read_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(dir.path()).unwrap();
        for n in 1..=3 {
            disk.apply(&[provided(n)]).unwrap();
        }
        let (name, mut bytes) = disk.dump().swap_remove(2);
        bytes[0] = b'?';
        disk.log.db.insert(name, bytes).unwrap();
        disk.sync().unwrap();
        drop(disk);
        let (kept, unreadable) = keys(&mut Disk::open(dir.path()).unwrap());
        assert_eq!((kept.len(), unreadable), (2, 41));
    }

    #[test]
    fn a_log_that_was_not_finished_is_none_and_a_finished_one_takes_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(dir.path()).unwrap();
        for n in 0..100 {
            disk.apply(&[provided(n % 7)]).unwrap();
        }
        let mut unfinished = disk.begin().unwrap();
        unfinished.apply(&[provided(9)]).unwrap();
        disk.sync().unwrap();
        drop((disk, unfinished));
        let mut disk = Disk::open(dir.path()).unwrap();
        assert_eq!(keys(&mut disk).0.len(), 100);
        let mut new = disk.begin().unwrap();
        new.apply(&[provided(1), provided(2)]).unwrap();
        disk.replace(new).unwrap();
        disk.apply(&[provided(3)]).unwrap();
        disk.sync().unwrap();
        drop(disk);
        let mut disk = Disk::open(dir.path()).unwrap();
        assert_eq!(keys(&mut disk).0, [[1; 32], [2; 32], [3; 32]]);
        let parts = disk.dump().into_iter().filter(|(name, _)| name[0] == LOG);
        assert_eq!(parts.count(), 2, "nothing of the old one is left");
    }

    #[test]
    fn another_version_is_refused_and_older_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let set_version = |version: u32| {
            let disk = Disk::open(dir.path()).unwrap();
            disk.log.db.insert(b"p-something", b"old").unwrap();
            disk.log
                .db
                .insert(FORMAT_KEY, &version.to_le_bytes())
                .unwrap();
            disk.sync().unwrap();
        };
        for old in [1, 2] {
            set_version(old);
            assert_eq!(Disk::open(dir.path()).unwrap().dump().len(), 1);
        }
        set_version(9);
        let refused = Disk::open(dir.path());
        assert!(matches!(refused, Err(StoreError::Version(9))));
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let _disk = Disk::open(dir.path()).unwrap();
        assert!(matches!(Disk::open(dir.path()), Err(StoreError::InUse)));
    }
}
