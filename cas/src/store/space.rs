//! Keeping the index away from a full disk.
//!
//! sled 0.34 cannot be trusted with a full disk: it fails for good, and it must write even to open and to
//! delete. So appends stop while there is still room for the index, and a ballast file (`reserve`) is
//! given up when others filled the disk, so that deleting still works.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

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
}

fn available_bytes(dir: &Path) -> io::Result<(u64, u64)> {
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
            reserve_held: Mutex::new(dir.join("reserve").exists()),
        };
        if available < space.index_floor_bytes {
            space.release();
        }
        Ok(space)
    }

    /// Whether `len_bytes` may be appended to the packs.
    pub(crate) fn check_append(&self, len_bytes: u64) -> Result<(), StoreError> {
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

    fn release(&self) {
        let Some(dir) = &self.dir else { return };
        let mut held = lock(&self.reserve_held);
        match fs::remove_file(dir.join("reserve")) {
            Ok(()) => tracing::warn!("disk nearly full: gave up the reserve"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "disk nearly full: the reserve cannot be removed"),
        }
        *held = false;
    }

    fn available(&self, dir: &Path) -> Result<u64, StoreError> {
        free_bytes(dir).map_err(|source| StoreError::Io {
            action: "measure the space of",
            path: dir.to_owned(),
            source,
        })
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
