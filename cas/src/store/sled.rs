//! The index on sled 0.34: the only place that names it.
//!
//! sled 0.34 needs care: its `flush` starts writeback but does not sync (spacejam/sled#1351), so the log
//! file is synced here; it panics on some kinds of damage, so every call is guarded; it must not meet a
//! full disk, which `space` sees to.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::dir_bytes;
use super::index::{Index, MAX_BATCH_KEYS, MAX_VALUE_BYTES, Op, Visit};
use super::runs::{FoundUpTo, MAX_RUN_BYTES, Ordered};
use crate::error::IndexError;

/// Page cache of the database where nothing else is said. Measured: enough for two million chunks at full
/// insertion speed.
pub(super) const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// Unit of its log; fixed when the database is created.
const SEGMENT_BYTES: usize = 512 * 1024;

/// The tree of the entries. sled's own first tree is empty: an index that has something there was written by a version
/// that knew no runs.
const TREE: &[u8] = b"runs";

/// A run that is longer has one entry.
const MAX_BYTES: usize = MAX_RUN_BYTES + MAX_VALUE_BYTES;

/// Each change may cut the run it is about.
const MAX_BATCH_RUNS: usize = 2 * MAX_BATCH_KEYS;

/// From the run of one key to that of the next it goes step by step, if they are so near: a step takes a fraction of a
/// search.
const MAX_STEPS: usize = 6;

/// How often a run that a scan meets is used. sled looks whether its cache is too large once in 64 uses of one of 256
/// shards, and the index of a million chunks has 30 nodes in each: used once, none of them would go.
const USES_OF_A_RUN: usize = 2;

/// sled gives its own lock back a little after it was closed, from a thread of its own; ours is held, so
/// nobody else has it.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn config(path: &Path, cache_bytes: u64) -> sled::Config {
    sled::Config::new()
        .path(path)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
        .mode(sled::Mode::HighThroughput)
}

pub(crate) struct SledIndex {
    db: sled::Db,
    tree: sled::Tree,
    dir: PathBuf,
}

impl SledIndex {
    /// Opens or creates the database in `dir`, with about `cache_bytes` of it in memory. One that was
    /// `closed_in_order` need not be synced again.
    pub(crate) fn open(
        dir: &Path,
        closed_in_order: bool,
        cache_bytes: u64,
    ) -> Result<Self, IndexError> {
        let path = dir.to_owned();
        // On a thread of its own: a panic in recovery must not leave this one half unwound.
        let opener = thread::Builder::new()
            .name("index-open".into())
            .spawn(move || {
                let ends = Instant::now() + LOCK_PATIENCE;
                loop {
                    match guarded(|| config(&path, cache_bytes).open()) {
                        Err(IndexError::Io(error)) if is_lock(&error) && Instant::now() < ends => {
                            thread::sleep(LOCK_PAUSE);
                        }
                        result => return result,
                    }
                }
            })?;
        let db = opener.join().map_err(|_| IndexError::Panicked)??;
        if guarded(|| db.iter().next().transpose())?.is_some() {
            return Err(IndexError::Malformed);
        }
        let tree = guarded(|| db.open_tree(TREE))?;
        let index = Self {
            db,
            tree,
            dir: dir.to_owned(),
        };
        if !closed_in_order {
            index.sync_new_files()?;
        }
        Ok(index)
    }

    /// sled never syncs its configuration file, nor the folder entries.
    fn sync_new_files(&self) -> Result<(), IndexError> {
        let conf = self.dir.join("conf");
        if conf.exists() {
            File::open(conf)?.sync_all()?;
        }
        File::open(self.dir.join("db"))?.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        if let Some(parent) = self.dir.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    /// Values above a quarter of a segment would go to files that sled never syncs; ours never do.
    fn check_no_blobs(&self) {
        let blobs = fs::read_dir(self.dir.join("blobs")).map_or(0, Iterator::count);
        if blobs > 0 {
            tracing::error!(blobs, "the index wrote side files, which it must not");
        }
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(guarded(|| self.tree.get(key))?.map(|value| value.to_vec()))
    }

    fn apply(&self, ops: Vec<Op>) -> Result<(), IndexError> {
        debug_assert!(ops.len() <= MAX_BATCH_RUNS, "batch of {} keys", ops.len());
        let mut batch = sled::Batch::default();
        for (key, value) in ops {
            match value {
                Some(value) => {
                    debug_assert!(value.len() <= MAX_BYTES, "value of {}", value.len());
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        guarded(|| self.tree.apply_batch(batch))
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        let mut items = self.tree.range(from..);
        while let Some((key, value)) = guarded(|| items.next().transpose())? {
            for _ in 0..USES_OF_A_RUN {
                guarded(|| self.tree.contains_key(&key))?;
            }
            if !key.starts_with(prefix) || visit(&key, &value)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), IndexError> {
        guarded(|| self.db.flush())?;
        File::open(self.dir.join("db"))?.sync_data()?;
        self.check_no_blobs();
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        dir_bytes(&self.dir)
    }
}

impl Ordered for SledIndex {
    fn last_up_to(&self, keys: &[&[u8]], found: FoundUpTo<'_>) -> Result<(), IndexError> {
        let mut at: Option<(sled::Iter, sled::IVec, sled::IVec)> = None;
        for (place, key) in keys.iter().enumerate().rev() {
            let mut steps = 0;
            while at.as_ref().is_none_or(|(_, name, _)| **name > **key) {
                let mut back = match at.take().filter(|_| steps < MAX_STEPS) {
                    Some((back, ..)) => back,
                    None => self.tree.range(..=*key),
                };
                steps += 1;
                match guarded(|| back.next_back().transpose())? {
                    Some((name, run)) => at = Some((back, name, run)),
                    None => return Ok(()),
                }
            }
            if let Some((_, name, run)) = &at {
                found(place, name, run)?;
            }
        }
        Ok(())
    }
}

fn guarded<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(translate(error)),
        Err(_) => Err(IndexError::Panicked),
    }
}

fn translate(error: sled::Error) -> IndexError {
    match error {
        sled::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            IndexError::Corrupt(Some(Box::new(error)))
        }
        sled::Error::Io(error) => IndexError::Io(error),
        sled::Error::Corruption { .. } => IndexError::Corrupt(Some(Box::new(error))),
        other => IndexError::Backend(Box::new(other)),
    }
}
