//! Keeping the index away from a full disk.
//!
//! sled 0.34 cannot be trusted with a full disk: it fails for good, and it must write even to open and to
//! delete. So appends stop while there is still room for the index, and a ballast file (`reserve`) is
//! given up when others filled the disk, so that deleting still works.
//!
//! The same place keeps the account of what the store occupies, and the limit it may not pass.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lock;
use crate::error::StoreError;

/// The index needs this much before it is touched: a few of its segments.
const INDEX_FLOOR_BYTES: u64 = 8 * 1024 * 1024;

/// On small file systems every limit shrinks to this part of the whole.
const SMALL_PART: u64 = 16;

pub(crate) struct Space {
    /// None for a store in memory, which never runs out.
    dir: Option<PathBuf>,
    reserve_bytes: u64,
    min_free_bytes: u64,
    index_floor_bytes: u64,
    reserve_held: Mutex<bool>,
    /// The most bytes the store may occupy; 0 for no limit.
    max_bytes: AtomicU64,
    /// What it occupied when it was last measured.
    measured_bytes: AtomicU64,
    /// What was appended since.
    appended_bytes: AtomicU64,
    last_measure: Mutex<Option<Instant>>,
}

/// What is appended counts in full until the files are measured, which visits each of them.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// So close to the limit it is measured every time.
const NEAR_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

/// What a chunk adds to the index, with what sled keeps of older versions.
const INDEX_ENTRY_BYTES: u64 = 256;

/// Appends of chunks stop so far before the limit (less, when the limit is low): entries and manifests
/// come after them, and the index grows in steps.
const METADATA_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes an unprivileged process may still write below `dir`, and all of its file system.
pub(crate) fn available_bytes(dir: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok((
        stat.f_bavail.saturating_mul(stat.f_frsize),
        stat.f_blocks.saturating_mul(stat.f_frsize),
    ))
}

/// Bytes an unprivileged process may still write below `dir`.
pub(crate) fn free_bytes(dir: &Path) -> io::Result<u64> {
    available_bytes(dir).map(|(available, _)| available)
}

impl Space {
    pub(crate) fn unlimited() -> Self {
        Self {
            dir: None,
            reserve_bytes: 0,
            min_free_bytes: 0,
            index_floor_bytes: 0,
            reserve_held: Mutex::new(true),
            max_bytes: AtomicU64::new(0),
            measured_bytes: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            last_measure: Mutex::default(),
        }
    }

    /// Looks at the file system of `dir`, and frees the ballast when the index could not open without.
    pub(crate) fn open(dir: &Path, reserve_bytes: u64, min_free_bytes: u64) -> io::Result<Self> {
        let (available, total) = available_bytes(dir)?;
        let small = total / SMALL_PART;
        let space = Self {
            dir: Some(dir.to_owned()),
            reserve_bytes: reserve_bytes.min(small),
            min_free_bytes: min_free_bytes.min(small),
            index_floor_bytes: INDEX_FLOOR_BYTES.min(small / 4),
            reserve_held: Mutex::new(false),
            max_bytes: AtomicU64::new(0),
            measured_bytes: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            last_measure: Mutex::default(),
        };
        // One that was cut short by a crash is none.
        let held_bytes = space.reserve_disk_bytes();
        *lock(&space.reserve_held) = held_bytes >= space.reserve_bytes;
        if available < space.index_floor_bytes {
            space.release();
        }
        Ok(space)
    }

    /// The most bytes the store may occupy.
    pub(crate) fn max_bytes(&self) -> Option<u64> {
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        (max_bytes > 0).then_some(max_bytes)
    }

    /// Sets the limit; 0 for none.
    pub(crate) fn set_max_bytes(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// What was appended and not measured yet: to be taken before a measurement begins.
    pub(crate) fn unmeasured_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    /// What the store occupies, measured after `unmeasured` bytes had been appended.
    pub(crate) fn measured(&self, bytes: u64, unmeasured: u64) {
        self.measured_bytes.store(bytes, Ordering::Relaxed);
        self.appended_bytes.fetch_sub(unmeasured, Ordering::Relaxed);
    }

    /// A chunk's record was appended.
    pub(crate) fn note_append(&self, record_bytes: u64) {
        self.appended_bytes
            .fetch_add(record_bytes + INDEX_ENTRY_BYTES, Ordering::Relaxed);
    }

    /// What the store occupied when it was last measured.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.measured_bytes.load(Ordering::Relaxed)
    }

    /// What the store occupies at most, with what was appended since it was measured.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.disk_bytes() + self.unmeasured_bytes()
    }

    /// Whether `len_bytes` of chunks fit under the limit.
    pub(crate) fn fits(&self, len_bytes: u64) -> bool {
        self.fits_after(0, len_bytes)
    }

    /// The same when `freed_bytes` have gone.
    pub(crate) fn fits_after(&self, freed_bytes: u64, len_bytes: u64) -> bool {
        self.usable_bytes()
            .is_none_or(|usable| self.used_bytes() + len_bytes <= usable + freed_bytes)
    }

    /// Whether `len_bytes` would fit into an empty store.
    pub(crate) fn can_ever_fit(&self, len_bytes: u64) -> bool {
        self.usable_bytes().is_none_or(|usable| len_bytes <= usable)
    }

    /// Whether `len_bytes` of manifests and entries fit, for which room is kept: what chunks may take
    /// beside those that are measured is not counted twice here.
    pub(crate) fn check_metadata(&self, len_bytes: u64) -> Result<(), StoreError> {
        match self.max_bytes() {
            Some(max_bytes) if self.disk_bytes() + len_bytes > max_bytes => {
                Err(self.over_quota(len_bytes))
            }
            _ => self.check_disk(len_bytes),
        }
    }

    /// Bytes that must go for the limit to be kept.
    pub(crate) fn over_bytes(&self) -> u64 {
        let usable = self.usable_bytes();
        usable.map_or(0, |usable| self.used_bytes().saturating_sub(usable))
    }

    /// The part of the limit that chunks may use.
    fn usable_bytes(&self) -> Option<u64> {
        let max_bytes = self.max_bytes()?;
        Some(max_bytes - METADATA_BYTES.min(max_bytes / 16))
    }

    pub(crate) fn over_quota(&self, needed_bytes: u64) -> StoreError {
        let usable_bytes = self.usable_bytes().unwrap_or(u64::MAX);
        StoreError::OverQuota {
            needed_bytes,
            available_bytes: usable_bytes.saturating_sub(self.used_bytes()),
            max_bytes: self.max_bytes().unwrap_or(u64::MAX),
        }
    }

    /// Whether a chunk of `len_bytes` may be appended to the packs, of which `unwritten_bytes` are not
    /// written to the disk yet.
    pub(crate) fn check_append(
        &self,
        len_bytes: u64,
        unwritten_bytes: u64,
    ) -> Result<(), StoreError> {
        if !self.fits(len_bytes) {
            return Err(self.over_quota(len_bytes));
        }
        self.check_disk(len_bytes + unwritten_bytes)
    }

    /// Whether `len_bytes` may be appended to the packs, as far as the disk goes.
    pub(crate) fn check_disk(&self, len_bytes: u64) -> Result<(), StoreError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let available = self.available(dir)?;
        // What the ballast should hold but does not is not free either.
        let missing_reserve = if *lock(&self.reserve_held) {
            0
        } else {
            self.reserve_bytes
        };
        let usable = available.saturating_sub(self.min_free_bytes + missing_reserve);
        if usable < len_bytes {
            return Err(StoreError::NoSpace {
                needed_bytes: len_bytes,
                available_bytes: usable,
            });
        }
        Ok(())
    }

    /// Bytes the ballast occupies.
    pub(crate) fn reserve_disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let data = self
            .dir
            .as_ref()
            .map(|dir| fs::metadata(dir.join("reserve")));
        data.and_then(Result::ok)
            .map_or(0, |data| data.blocks() * 512)
    }

    /// Whether the index may be written; gives the ballast up for it.
    pub(crate) fn check_index(&self) -> Result<(), StoreError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        if self.available(dir)? >= self.index_floor_bytes {
            return Ok(());
        }
        self.release();
        let available = self.available(dir)?;
        if available < self.index_floor_bytes {
            return Err(StoreError::NoSpace {
                needed_bytes: self.index_floor_bytes,
                available_bytes: available,
            });
        }
        Ok(())
    }

    /// Makes the ballast, if it is not there and fits.
    pub(crate) fn refill(&self) {
        let Some(dir) = &self.dir else { return };
        let mut held = lock(&self.reserve_held);
        let fits = |available: u64| available >= self.reserve_bytes + self.min_free_bytes;
        if *held || !self.available(dir).is_ok_and(fits) {
            return;
        }
        let path = dir.join("reserve");
        match write_ballast(&path, self.reserve_bytes) {
            Ok(()) => *held = true,
            Err(error) => {
                tracing::debug!(%error, "no ballast file");
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Gives the ballast up; whether there was any.
    pub(crate) fn release(&self) -> bool {
        let Some(dir) = &self.dir else { return false };
        let mut held = lock(&self.reserve_held);
        let had = *held;
        match fs::remove_file(dir.join("reserve")) {
            Ok(()) => tracing::warn!("disk nearly full: gave up the reserve"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "disk nearly full: the reserve cannot be removed"),
        }
        *held = false;
        had
    }

    /// Whether it is time to measure what the store occupies: every second, or at once near the limit.
    pub(crate) fn is_measure_due(&self) -> bool {
        let mut last = lock(&self.last_measure);
        let is_near = !self.fits(NEAR_LIMIT_BYTES);
        let is_due = is_near || last.is_none_or(|last| last.elapsed() >= MEASURE_INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }

    fn available(&self, dir: &Path) -> Result<u64, StoreError> {
        free_bytes(dir).map_err(StoreError::io("measure the space of", dir))
    }
}

#[cfg(target_os = "linux")]
fn write_ballast(path: &Path, len_bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    if len_bytes == 0 {
        return Ok(());
    }
    Ok(rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        len_bytes,
    )?)
}

#[cfg(not(target_os = "linux"))]
fn write_ballast(path: &Path, len_bytes: u64) -> io::Result<()> {
    use std::io::{Read, Write};
    let mut file = File::create(path)?;
    io::copy(&mut io::repeat(0xa5).take(len_bytes), &mut file)?;
    file.flush()
}
