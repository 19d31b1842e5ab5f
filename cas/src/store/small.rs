//! Files of one chunk, whole in memory: entered many at a time.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::Store;
use super::batch::Entering;
use super::entry::{Claim, FileEntry};
use crate::chunker::Chunking;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash, HASH_BYTES};
use crate::manifest::{ChunkRef, Manifest, ManifestError};
use crate::name::is_valid_hint;
use crate::proof::{MIN_GROUP_BYTES, ProofTree};

/// The most bytes a [`SmallFile`] has: less than any chunker cuts off, so it is one chunk however it is cut.
pub const MAX_SMALL_FILE_BYTES: u64 = 64 * 1024;

/// How many of them [`Store::add_small_files`] enters with one commit: what they take in memory is bounded
/// by this times [`MAX_SMALL_FILE_BYTES`].
pub const MAX_SMALL_FILES: usize = 2048;

/// A small file that is here now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddedFile {
    /// Its entry.
    pub entry: FileEntry,
    /// Its bytes were not here, and were written; the empty file was not here. Of equal files the first alone.
    pub is_new: bool,
}

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

    /// That, and its bytes.
    fn piece(&self) -> Option<(ChunkHash, &[u8])> {
        Some((self.chunk()?, &self.bytes))
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
    /// this returns; what came of them is in the order of `files`. Of one that is here already and whole only
    /// name and claim are taken over.
    ///
    /// # Errors
    /// [`StoreError::ChunkLength`] for one of more than [`MAX_SMALL_FILE_BYTES`], before anything is
    /// entered; [`StoreError::NoSpace`], [`StoreError::OverQuota`], or what the medium says. After an error
    /// some files may be here, each of them whole.
    pub fn add_small_files(
        &self,
        files: &[SmallFile],
        claim: Claim,
    ) -> Result<Vec<AddedFile>, StoreError> {
        let manifests = files.iter().map(SmallFile::manifest);
        let manifests: Vec<Manifest> = manifests.collect::<Result<_, _>>()?;
        let mut added = Vec::with_capacity(files.len());
        let parts = files.chunks(MAX_SMALL_FILES);
        for (files, manifests) in parts.zip(manifests.chunks(MAX_SMALL_FILES)) {
            added.extend(self.add_part(files, manifests, claim)?);
        }
        Ok(added)
    }

    /// Bytes of those of these files that are not here, of equal ones once.
    ///
    /// # Errors
    /// When the index fails.
    pub fn missing_bytes(&self, files: &[SmallFile]) -> Result<u64, StoreError> {
        let each: HashMap<ChunkHash, &[u8]> = files.iter().filter_map(SmallFile::piece).collect();
        self.core
            .missing_bytes(&each.into_iter().collect::<Vec<_>>())
    }

    /// Each address once, under the last name it is given.
    fn add_part(
        &self,
        files: &[SmallFile],
        manifests: &[Manifest],
        claim: Claim,
    ) -> Result<Vec<AddedFile>, StoreError> {
        let mut entering: Vec<Entering<'_>> = Vec::with_capacity(files.len());
        let mut chunks: Vec<(ChunkHash, &[u8])> = Vec::with_capacity(files.len());
        let mut places = HashMap::with_capacity(files.len());
        for (file, manifest) in files.iter().zip(manifests) {
            let name = file.name.as_deref().filter(|name| is_valid_hint(name));
            let place = *places.entry(file.address).or_insert(entering.len());
            match entering.get_mut(place) {
                Some(first) => first.name = name.or(first.name),
                None => {
                    entering.push(Entering {
                        manifest: manifest.clone(),
                        name,
                    });
                    chunks.extend(file.piece());
                }
            }
        }
        let mut added = self.put_and_enter(&entering, &chunks, claim)?;
        let mut of_file = |file: &SmallFile| {
            let place = *places.get(&file.address)?;
            let found = added.get(place).cloned();
            // Of others that are equal nothing was written.
            added.get_mut(place)?.is_new = false;
            found
        };
        Ok(files.iter().filter_map(&mut of_file).collect())
    }

    fn put_and_enter(
        &self,
        entering: &[Entering<'_>],
        chunks: &[(ChunkHash, &[u8])],
        claim: Claim,
    ) -> Result<Vec<AddedFile>, StoreError> {
        let hold = self.hold();
        hold.add_all(chunks.iter().map(|(hash, _)| *hash));
        let mut new = Vec::new();
        let put = self.core.put_all(chunks, &mut new);
        let added = put.and_then(|()| self.enter_all(entering, &new, claim));
        drop(hold);
        if added.is_err()
            && let Err(error) = self.drop_unreferenced(&new)
        {
            tracing::warn!(%error, "small files that were not entered leave unused chunks behind");
        }
        added
    }

    fn enter_all(
        &self,
        entering: &[Entering<'_>],
        new: &[ChunkHash],
        claim: Claim,
    ) -> Result<Vec<AddedFile>, StoreError> {
        let new: HashSet<&[u8; HASH_BYTES]> = new.iter().map(ChunkHash::as_bytes).collect();
        let mut added = Vec::with_capacity(entering.len());
        let entered = self.core.enter(entering, claim)?;
        for (file, entered) in entering.iter().zip(entered) {
            let is_written = new.contains(file.manifest.address().as_bytes());
            added.push(match entered {
                Some(AddedFile { entry, is_new }) => AddedFile {
                    is_new: is_written || (is_new && entry.size_bytes == 0),
                    entry,
                },
                None => AddedFile {
                    entry: self.add_file(&file.manifest, file.name, claim)?,
                    is_new: is_written,
                },
            });
        }
        Ok(added)
    }
}
