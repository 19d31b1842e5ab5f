//! The file the demo moves about, and the judgement of its copies.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use casnode_node::api::ErrorKind;

use super::no_room;
use crate::exit::{Failure, Result};
use crate::session::absolute;

/// Length of the generated file.
const GENERATED_BYTES: u64 = 256 << 20;

/// What each node keeps free or writes beside the file: its reserve, index and records.
const PER_NODE_BYTES: u64 = 48 << 20;

/// The file, and its address as this program computes it, without any node.
pub(crate) struct Original {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) address: String,
    pub(crate) generated: bool,
}

/// Takes the given file, or generates one in `folder`.
pub(crate) async fn original(given: Option<PathBuf>, folder: &Path) -> Result<Original> {
    let generated = given.is_none();
    let path = match given {
        Some(path) => absolute(&path)?,
        None => folder.join("original"),
    };
    let made = tokio::task::spawn_blocking(move || {
        if generated {
            generate(&path, GENERATED_BYTES)
                .map_err(|error| Failure::io("cannot generate a file", &error))?;
        }
        let (address, bytes) = hash(&path)
            .map_err(|error| Failure::io(format!("cannot read {}", path.display()), &error))?;
        Ok(Original {
            path,
            bytes,
            address,
            generated,
        })
    });
    made.await
        .map_err(|error| Failure::io("cannot read the file", &io::Error::other(error)))?
}

/// Refuses to begin what would fill the disk: the original, a store and a copy for each of five nodes.
pub(crate) fn check_space(folder: &Path, given: Option<&Path>, nodes: usize) -> Result<()> {
    let bytes = match given {
        None => GENERATED_BYTES,
        Some(path) => regular_file_bytes(path)?,
    };
    let Ok(space) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
    let needed = bytes
        .saturating_mul(11)
        .saturating_add(nodes.saturating_mul(PER_NODE_BYTES));
    if free < needed {
        Err(no_room(needed, free, folder))
    } else {
        Ok(())
    }
}

fn regular_file_bytes(path: &Path) -> Result<u64> {
    let about = std::fs::metadata(path)
        .map_err(|error| Failure::io(format!("cannot read {}", path.display()), &error))?;
    if !about.is_file() {
        return Err(Failure::new(
            ErrorKind::Failure,
            format!("cannot use {}", path.display()),
            "it is not a regular file",
            "name a file, or none for a generated one",
        ));
    }
    Ok(about.len())
}

/// Writes `bytes` pseudo-random bytes: BLAKE3's output stream, seeded by the clock so that no two demos agree.
fn generate(path: &Path, bytes: u64) -> io::Result<()> {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let mut stream = blake3::Hasher::new()
        .update(&seed.as_nanos().to_le_bytes())
        .finalize_xof();
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    io::copy(&mut io::Read::take(&mut stream, bytes), &mut out)?;
    out.flush()
}

/// BLAKE3 of a file in hex, and its length.
pub(crate) fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok((hasher.finalize().to_hex().to_string(), hasher.count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_bytes_have_the_length_asked_for_and_are_no_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        generate(&path, 3_000_001).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3_000_001);
        assert!(bytes.iter().filter(|&&byte| byte == 0).count() < 20_000);
        assert_eq!(
            hash(&path).unwrap(),
            (blake3::hash(&bytes).to_hex().to_string(), 3_000_001)
        );
    }

    #[test]
    fn a_folder_is_no_file_for_the_demo() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            check_space(dir.path(), Some(dir.path()), 4)
                .unwrap_err()
                .code(),
            1
        );
        assert_eq!(
            check_space(dir.path(), Some(&dir.path().join("none")), 4)
                .unwrap_err()
                .code(),
            1
        );
    }

    #[test]
    fn a_file_larger_than_the_disk_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        File::create(&path).unwrap().set_len(1 << 42).unwrap();
        assert_eq!(
            check_space(dir.path(), Some(&path), 4).unwrap_err().code(),
            13
        );
    }
}
