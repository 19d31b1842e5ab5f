//! The bytes of a bench, the room for them, and where they are.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use casnode_node::api::ErrorKind;
use tempfile::TempDir;

use crate::args::Step;
use crate::exit::{Failure, Result};
use crate::output;
use crate::session::absolute;

/// What a node or a store keeps free or writes beside the file: its reserve, index and records.
const PER_NODE_BYTES: u64 = 48 << 20;

/// What a store leaves free on the file system, and a little.
const SPARE_BYTES: u64 = 128 << 20;

/// What makes the bytes of all benches the same.
const SEED: &[u8] = b"casnode bench";

/// How many providers serve at once in the step of that name.
pub(crate) const PROVIDERS: usize = 8;

/// Writes `bytes` bytes that do not compress, the same each time, and waits until they are on the disk, so that writing them
/// disturbs no step.
pub(crate) fn generate(path: &Path, bytes: u64) -> io::Result<String> {
    let mut stream = blake3::Hasher::new().update(SEED).finalize_xof();
    let mut hasher = blake3::Hasher::new();
    let mut file = File::create_new(path)?;
    let mut piece = vec![0; 1 << 20];
    while hasher.count() < bytes {
        let left = usize::try_from(bytes - hasher.count()).unwrap_or(usize::MAX);
        let len = piece.len().min(left);
        stream.fill(&mut piece[..len]);
        hasher.update(&piece[..len]);
        file.write_all(&piece[..len])?;
    }
    file.sync_all()?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// A folder that is removed in the end: in the one that was named, else beside the data directory, else in the temporary
/// one.
pub(crate) fn folder(given: Option<&Path>, data_dir: Option<&Path>) -> Result<TempDir> {
    let make = |place: &Path| {
        tempfile::Builder::new()
            .prefix("casnode-bench-")
            .tempdir_in(place)
    };
    if let Some(given) = given {
        let place = absolute(given)?;
        return make(&place)
            .map_err(|error| Failure::io(format!("cannot work in {}", place.display()), &error));
    }
    let beside = data_dir
        .and_then(Path::parent)
        .and_then(|place| make(place).ok());
    match beside {
        Some(folder) => Ok(folder),
        None => make(&std::env::temp_dir())
            .map_err(|error| Failure::io("cannot make a temporary folder", &error)),
    }
}

/// Refuses to begin what would fill the disk.
pub(crate) fn check_space(folder: &Path, size_bytes: u64, steps: &[Step]) -> Result<()> {
    let Ok(space) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let needed = needed_bytes(size_bytes, steps);
    if free >= needed {
        return Ok(());
    }
    Err(Failure::new(
        ErrorKind::NoSpace,
        "not enough free space for the bench",
        format!(
            "it writes up to {} and {} has {}",
            output::bytes(needed),
            folder.display(),
            output::bytes(free)
        ),
        "name another folder with --dir, or a smaller --size",
    ))
}

/// The most that is there at one time: the original, and what the largest step needs beside it.
fn needed_bytes(size_bytes: u64, steps: &[Step]) -> u64 {
    let of = |step: &Step| -> (u64, u64) {
        match step {
            Step::Hash | Step::ChunkFixed | Step::ChunkFastcdc | Step::Tcp => (0, 0),
            Step::StoreFixed | Step::StoreFastcdc | Step::Read | Step::ReadCold => (1, 1),
            Step::Floor => (1, 0),
            // A store on each side, and the output.
            Step::TransferTcpAes | Step::TransferTcpChacha20 | Step::TransferQuic => (3, 2),
            Step::TransferNoKeep => (2, 2),
            // Providers refer to the original.
            Step::TransferEightPeers => (2, PROVIDERS as u64 + 2),
        }
    };
    let most = |of_step: &dyn Fn(&Step) -> u64| steps.iter().map(of_step).max().unwrap_or(0);
    let copies = most(&|step| of(step).0) + 1;
    let nodes = most(&|step| of(step).1);
    size_bytes
        .saturating_mul(copies)
        .saturating_add(nodes * PER_NODE_BYTES)
        .saturating_add(SPARE_BYTES)
}

/// BLAKE3 of a file in hex, by nothing of the nodes.
pub(crate) async fn hash(path: PathBuf) -> Result<String> {
    let hash = || -> io::Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.finalize().to_hex().to_string())
    };
    blocking(hash)
        .await
        .map_err(|error| Failure::io("cannot read a copy", &error))
}

/// Does what blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .and_then(|done| done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_the_same_each_time_and_do_not_compress() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let address = generate(&path, 3_000_001).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3_000_001);
        assert_eq!(address, blake3::hash(&bytes).to_hex().to_string());
        assert!(bytes.iter().filter(|&&byte| byte == 0).count() < 20_000);
        // Figures of two versions compare only as long as this stays.
        let same = generate(&dir.path().join("y"), 3_000_001).unwrap();
        assert_eq!(address, same);
    }

    #[test]
    fn a_step_that_keeps_nothing_needs_the_original_alone() {
        const GIB: u64 = 1 << 30;
        let none = needed_bytes(GIB, &[Step::Hash]);
        let two = needed_bytes(GIB, &[Step::Hash, Step::TransferTcpAes]);
        assert_eq!(none, GIB + SPARE_BYTES);
        assert_eq!(two, 4 * GIB + 2 * PER_NODE_BYTES + SPARE_BYTES);
        assert_eq!(needed_bytes(u64::MAX, &[Step::Floor]), u64::MAX);
    }

    #[test]
    fn more_than_the_disk_holds_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let refused = check_space(dir.path(), 1 << 50, &[Step::Floor]).unwrap_err();
        assert_eq!(refused.code(), 13);
        check_space(dir.path(), 1, &[Step::Hash]).unwrap();
    }

    #[test]
    fn the_folder_is_beside_the_data_directory_where_that_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("casnode");
        let beside = folder(None, Some(&data_dir)).unwrap();
        assert_eq!(beside.path().parent(), Some(dir.path()));
        let nowhere = dir.path().join("none/casnode");
        let elsewhere = folder(None, Some(&nowhere)).unwrap();
        assert!(!elsewhere.path().starts_with(dir.path()));
        assert_eq!(folder(Some(&nowhere), None).unwrap_err().code(), 1);
    }
}
