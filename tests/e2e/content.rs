//! Bytes to move about.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use casnode_cas::{Address, ChunkHash, ChunkRef, Chunking, Manifest, ProofBuilder};
use tempfile::TempDir;

use crate::harness::folder;

/// Length of a chunk of every file here.
pub(crate) const CHUNK: usize = 256 << 10;

/// Bytes that differ from seed to seed and repeat nowhere.
pub(crate) fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// The address of bytes, by nothing of the nodes.
pub(crate) fn address(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A file with known bytes, in a folder of its own.
pub(crate) struct Sample {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) address: String,
    pub(crate) folder: TempDir,
}

impl Sample {
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        let folder = folder();
        let path = folder.path().join("sample.bin");
        let bytes = random(seed, len);
        std::fs::write(&path, &bytes).unwrap();
        Self {
            path,
            address: address(&bytes),
            bytes,
            folder,
        }
    }

    /// A place for a copy of it.
    pub(crate) fn copy_path(&self) -> PathBuf {
        self.folder.path().join("copy.bin")
    }

    /// Fails the test unless the file there has the very bytes.
    #[track_caller]
    pub(crate) fn assert_at(&self, path: &Path) {
        let bytes = std::fs::read(path).unwrap();
        // Not assert_eq: nobody wants megabytes on the screen.
        assert!(
            bytes == self.bytes,
            "{} ({} bytes) differs from the original",
            path.display(),
            bytes.len()
        );
    }

    pub(crate) fn chunks(&self) -> u64 {
        self.bytes.len().div_ceil(CHUNK) as u64
    }
}

/// A manifest with the true proof tree of `bytes` over whatever chunks are listed.
pub(crate) fn manifest_over(bytes: &[u8], chunks: &[Bytes]) -> Manifest {
    let mut proof = ProofBuilder::new();
    proof.update(bytes);
    let params = Chunking::Fixed.params(Some(bytes.len() as u64));
    let refs = chunks.iter().map(|chunk| ChunkRef {
        hash: ChunkHash::from_bytes(*blake3::hash(chunk).as_bytes()),
        len_bytes: chunk.len() as u32,
    });
    let manifest = Manifest::new(params, refs.collect(), proof.finish()).unwrap();
    assert_eq!(
        manifest.address(),
        address(bytes).parse::<Address>().unwrap()
    );
    manifest
}

/// The same manifest of a file that is said to be of another length, in as many groups. It merges to the address all the same.
pub(crate) fn of_length(manifest: &Manifest, size_bytes: u32) -> Manifest {
    let mut bytes = manifest.encode().to_vec();
    let old = u32::try_from(manifest.size_bytes()).unwrap().to_le_bytes();
    // Close behind the version.
    let at = bytes[..16].windows(4).position(|part| part == old).unwrap();
    bytes[at..at + 4].copy_from_slice(&size_bytes.to_le_bytes());
    let other = Manifest::decode_for(&manifest.address(), &bytes).unwrap();
    assert_eq!(other.size_bytes(), u64::from(size_bytes));
    other
}

/// The chunks of `bytes`.
pub(crate) fn chunks_of(bytes: &[u8]) -> Vec<Bytes> {
    bytes.chunks(CHUNK).map(Bytes::copy_from_slice).collect()
}
