//! Files of one chunk, whole in memory: entered many at a time.

use bytes::Bytes;

use super::entry::FileEntry;
use super::{Hold, Put, Store};
use crate::chunker::Chunking;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::manifest::{ChunkRef, Manifest, ManifestError};
use crate::proof::{MIN_GROUP_BYTES, ProofTree};

/// The most bytes a [`SmallFile`] has: less than any chunker cuts off, so it is one chunk however it is cut.
pub const MAX_SMALL_FILE_BYTES: u64 = 64 * 1024;

/// How many of them [`Store::add_small_files`] enters with one commit: what they take in memory is bounded
/// by this times [`MAX_SMALL_FILE_BYTES`].
pub const MAX_SMALL_FILES: usize = 1024;

/// A file of one chunk, or of none, whole in memory.
///
/// Its only chunk has the file's address for its hash, so an address is all one needs to ask for it and to
/// check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallFile {
    /// BLAKE3 of `bytes`, checked by the caller.
    pub address: Address,
    /// The whole file: at most [`MAX_SMALL_FILE_BYTES`].
    pub bytes: Bytes,
    /// The name to remember; one that is none is left out.
    pub name: Option<String>,
}

impl SmallFile {
    /// The hash of its only chunk; `None` for the empty file.
    fn chunk(&self) -> Option<ChunkHash> {
        let hash = ChunkHash::from_bytes(*self.address.as_bytes());
        (!self.bytes.is_empty()).then_some(hash)
    }

    /// As the fixed chunker cuts it: the others list the same chunk.
    fn manifest(&self) -> Result<Manifest, StoreError> {
        let refused = StoreError::ChunkLength {
            len_bytes: self.bytes.len(),
        };
        let size_bytes = self.bytes.len() as u64;
        if size_bytes > MAX_SMALL_FILE_BYTES {
            return Err(refused);
        }
        manifest_of_one(self.address, size_bytes, self.chunk()).map_err(|_| refused)
    }
}

fn manifest_of_one(
    address: Address,
    size_bytes: u64,
    chunk: Option<ChunkHash>,
) -> Result<Manifest, ManifestError> {
    let proof = ProofTree::from_values(address, size_bytes, MIN_GROUP_BYTES, Vec::new());
    let proof = proof.ok_or(ManifestError::WrongAddress)?;
    let len_bytes = u32::try_from(size_bytes).map_err(|_| ManifestError::SizeMismatch)?;
    let chunks = chunk.map(|hash| ChunkRef { hash, len_bytes });
    let params = Chunking::Fixed.params(Some(size_bytes));
    Manifest::new(params, chunks.into_iter().collect(), proof)
}

impl Store {
    /// Enters many small files with one commit for each [`MAX_SMALL_FILES`] of them. All are durable when
    /// this returns; their entries are in the order of `files`. Of one that is here already and whole only
    /// name and pin are taken over.
    ///
    /// # Errors
    /// [`StoreError::ChunkLength`] for one of more than [`MAX_SMALL_FILE_BYTES`], before anything is
    /// entered; [`StoreError::NoSpace`], [`StoreError::OverQuota`], or what the medium says. After an error
    /// some files may be here, each of them whole.
    pub fn add_small_files(
        &self,
        files: &[SmallFile],
        pinned: bool,
    ) -> Result<Vec<FileEntry>, StoreError> {
        let manifests: Vec<Manifest> = files
            .iter()
            .map(SmallFile::manifest)
            .collect::<Result<_, _>>()?;
        let mut entries = Vec::with_capacity(files.len());
        for (file, manifest) in files.iter().zip(manifests) {
            entries.push(self.add_small_file(file, &manifest, pinned)?);
        }
        Ok(entries)
    }

    fn add_small_file(
        &self,
        file: &SmallFile,
        manifest: &Manifest,
        pinned: bool,
    ) -> Result<FileEntry, StoreError> {
        let hold: Hold = self.hold();
        let mut new = Vec::new();
        if let Some(hash) = file.chunk() {
            hold.add(hash);
            if self.put(&hash, &file.bytes)? == Put::New {
                new.push(hash);
            }
        }
        let entry = self.add_file(manifest, file.name.as_deref(), pinned);
        drop(hold);
        if entry.is_err() {
            self.drop_unreferenced(&new)?;
        }
        entry
    }
}
