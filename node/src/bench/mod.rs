//! What `casnode bench` measures of the parts below the network: cutting, storing and reading back.
//!
//! Each function does one piece of work in the calling thread, blocking, and says what it took. A process does one piece
//! and ends: what came before would be in its memory, and in its allocator.

mod stopwatch;

use std::{
    fs::{self, File},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use casnode_cas::{
    ChunkHash, Chunking, ImportOptions, Manifest, Store, StoreConfig, import_file, scan_file,
};

pub use self::stopwatch::{Lap, Stopwatch};
use crate::{
    api::{ApiError, ChunkerName, ErrorKind},
    errors,
};

/// Chunks that a reader names ahead, as a download does that begins with what is here.
const AHEAD_CHUNKS: usize = 16;

/// Cuts a file and hashes its chunks and its proof; stores nothing.
///
/// # Errors
/// What reading the file says.
pub fn scan(file: &Path, chunker: ChunkerName) -> Result<Lap, ApiError> {
    let watch = Stopwatch::start();
    let mut on_chunk = |_: ChunkHash, _: u64, _: u32| Ok(());
    scan_file(file, &options(chunker), &mut on_chunk, &mut go_on)
        .map_err(|error| failed("the file could not be cut", &error))?;
    Ok(watch.stop())
}

/// Stores a file in a new store in `store_dir`, durable, and says its address.
///
/// # Errors
/// What the store says.
pub fn store(
    file: &Path,
    store_dir: &Path,
    chunker: ChunkerName,
) -> Result<(Lap, String), ApiError> {
    let store = open(store_dir)?;
    let watch = Stopwatch::start();
    let imported = import_file(&store, file, &options(chunker), &mut go_on)
        .map_err(|error| failed("the file could not be stored", &error))?;
    Ok((watch.stop(), imported.address.to_string()))
}

/// Whether reading came from the disk, or from what the system remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Everything is read once before.
    Warm,
    /// What the system remembers of the store's files is dropped before, as far as it can be.
    Cold,
}

/// Reads and verifies every chunk of a stored file, in order. Says as well how much came from the disk, where the system
/// tells.
///
/// # Errors
/// What the store says; `Integrity` when a chunk is not there.
pub fn read(store_dir: &Path, address: &str, cache: Cache) -> Result<(Lap, Option<u64>), ApiError> {
    if cache == Cache::Cold {
        drop_cache(store_dir)
            .map_err(|error| failed("the store's files could not be looked at", &error))?;
    }
    let store = open(store_dir)?;
    let manifest = manifest(&store, address)?;
    if cache == Cache::Warm {
        read_all(&store, &manifest)?;
    }
    let before = disk_read_bytes();
    let watch = Stopwatch::start();
    read_all(&store, &manifest)?;
    let lap = watch.stop();
    let from_disk = disk_read_bytes()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    Ok((lap, from_disk))
}

fn read_all(store: &Store, manifest: &Manifest) -> Result<(), ApiError> {
    let hashes: Vec<ChunkHash> = manifest.chunks().iter().map(|chunk| chunk.hash).collect();
    let windows: Vec<&[ChunkHash]> = hashes.chunks(AHEAD_CHUNKS).collect();
    for (at, window) in windows.iter().enumerate() {
        if let Some(next) = windows.get(at + 1) {
            store.will_need(next);
        }
        for hash in *window {
            let chunk = store
                .get(hash)
                .map_err(|error| failed("a chunk could not be read", &error))?;
            if chunk.is_none() {
                return Err(not_there("a chunk"));
            }
        }
    }
    Ok(())
}

fn manifest(store: &Store, address: &str) -> Result<Manifest, ApiError> {
    let address = address
        .parse()
        .map_err(|error| failed("the file could not be found", &error))?;
    store
        .manifest(&address)
        .map_err(|error| failed("the file's manifest could not be read", &error))?
        .ok_or_else(|| not_there("the file"))
}

/// Asks the system to forget what it has of the files below a folder. Only a hint, and none at all on a tmpfs.
fn drop_cache(folder: &Path) -> std::io::Result<()> {
    for path in files_below(folder)? {
        let file = File::open(path)?;
        // What is not on the disk yet is not forgotten.
        file.sync_all()?;
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
    Ok(())
}

fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.append(&mut files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Bytes that this process had fetched from a disk, where the system counts them.
fn disk_read_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes:"))?;
    count.trim().parse().ok()
}

fn open(dir: &Path) -> Result<Store, ApiError> {
    Store::open(dir, StoreConfig::default())
        .map_err(|error| failed("the store could not be opened", &error))
}

fn options(chunker: ChunkerName) -> ImportOptions {
    ImportOptions {
        chunking: match chunker {
            ChunkerName::Fixed => Chunking::Fixed,
            ChunkerName::FastCdc => Chunking::FastCdc,
        },
        ..ImportOptions::default()
    }
}

fn go_on(_: u64, _: Option<u64>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn failed(what: &str, error: &dyn std::error::Error) -> ApiError {
    ApiError::new(ErrorKind::Failure, what, errors::chain(error), "")
}

fn not_there(what: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Integrity,
        format!("{what} is not in the store"),
        "it was stored just before",
        "this is a bug of casnode, or of the disk: `casnode verify` checks a store",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_read_back_whole_warm_and_cold() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let bytes: Vec<u8> = (0..3_000_000u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        fs::write(&file, &bytes).unwrap();
        for chunker in [ChunkerName::Fixed, ChunkerName::FastCdc] {
            assert!(scan(&file, chunker).unwrap().seconds > 0.0);
            let store_dir = dir.path().join(format!("{chunker:?}"));
            let (lap, address) = store(&file, &store_dir, chunker).unwrap();
            assert!(lap.seconds > 0.0);
            assert_eq!(address, casnode_cas::Address::of(&bytes).to_string());
            for cache in [Cache::Warm, Cache::Cold] {
                let (lap, _) = read(&store_dir, &address, cache).unwrap();
                assert!(lap.seconds > 0.0);
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_no_figure() {
        let dir = tempfile::tempdir().unwrap();
        let address = casnode_cas::Address::of(b"x").to_string();
        let error = read(dir.path(), &address, Cache::Warm).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Integrity);
    }
}
