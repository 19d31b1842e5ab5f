//! What an entry lists: the record of its manifest, or of what is left of a forged one.
//!
//! Such a record may be damaged while the chunks it lists are well. Reading it says so; replacing and
//! removing the entry go on without it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use super::core::{Committed, Core};
use super::entry::{self, FileEntry, FileState, INLINE_BYTES, ManifestEntry};
use super::files::distinct;
use super::flush::Extra;
use super::pack::{Location, Packs, RecordKind};
use crate::error::StoreError;
use crate::id::{Address, ChunkHash, HASH_BYTES, ManifestId};
use crate::manifest::Manifest;

/// Version byte of the list of chunks that a remnant keeps.
const LIST_VERSION: u8 = 2;

/// The list of chunks that a remnant keeps: the version, whose they are, and the hashes. No two files
/// have the same list.
pub(super) fn encode_list(address: &Address, chunks: &[ChunkHash]) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + (1 + chunks.len()) * HASH_BYTES);
    bytes.push(LIST_VERSION);
    bytes.extend_from_slice(address.as_bytes());
    for hash in chunks {
        bytes.extend_from_slice(hash.as_bytes());
    }
    bytes.into()
}

fn decode_list(bytes: &[u8]) -> Option<HashSet<ChunkHash>> {
    let (hashes, rest) = bytes.strip_prefix(&[LIST_VERSION])?.as_chunks();
    let (_address, hashes) = hashes.split_first()?;
    let hashes = hashes.iter().copied().map(ChunkHash::from_bytes);
    rest.is_empty().then(|| hashes.collect())
}

/// The bytes that have this id: from the index, or else from the pack. `None` when neither has them.
pub(super) fn read_listing(
    packs: &Packs,
    id: &ManifestId,
    entry: ManifestEntry,
) -> Result<Option<Bytes>, StoreError> {
    let intact = |bytes: &Bytes| ManifestId::of(bytes) == *id;
    match entry.inline.filter(intact) {
        Some(bytes) => Ok(Some(bytes)),
        None => Ok(packs.read_if_there(entry.at)?.filter(intact)),
    }
}

impl Core {
    pub(crate) fn manifest_entry(
        &self,
        id: &ManifestId,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        self.read(&entry::manifest_key(id), ManifestEntry::decode)
    }

    fn listing(&self, file: &FileEntry) -> Result<Bytes, StoreError> {
        let entry = self.manifest_entry(&file.manifest)?;
        self.listing_in(&file.address, &file.manifest, entry)
    }

    /// The same of a file with this manifest, where what the index knows of that was looked up.
    fn listing_in(
        &self,
        address: &Address,
        id: &ManifestId,
        entry: Option<ManifestEntry>,
    ) -> Result<Bytes, StoreError> {
        let bytes = entry.map(|entry| read_listing(&self.packs, id, entry));
        let bytes = bytes.transpose()?.flatten();
        bytes.ok_or(StoreError::CorruptManifest {
            address: *address,
            source: None,
        })
    }

    /// The manifest of an entry that is not a remnant.
    pub(super) fn manifest_of(&self, file: &FileEntry) -> Result<Manifest, StoreError> {
        let entry = self.manifest_entry(&file.manifest)?;
        self.manifest_in(&file.address, &file.manifest, entry)
    }

    /// The same of a file with this manifest, where what the index knows of that was looked up.
    pub(super) fn manifest_in(
        &self,
        address: &Address,
        id: &ManifestId,
        entry: Option<ManifestEntry>,
    ) -> Result<Manifest, StoreError> {
        let bytes = self.listing_in(address, id, entry)?;
        Manifest::decode_for(address, &bytes).map_err(|error| StoreError::CorruptManifest {
            address: *address,
            source: Some(error),
        })
    }

    /// Whether the entry's manifest or list can be read.
    pub(super) fn is_listed(&self, file: &FileEntry) -> Result<bool, StoreError> {
        match self.listing(file) {
            Ok(_) => Ok(true),
            Err(error) if error.is_corruption() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The chunks an entry lists; none when its record is damaged: they then stay behind.
    pub(super) fn listed_chunks(&self, file: &FileEntry) -> Result<HashSet<ChunkHash>, StoreError> {
        let chunks = if file.state == FileState::Remnant {
            self.listing(file)
                .map(|bytes| decode_list(&bytes).unwrap_or_default())
        } else {
            self.manifest_of(file).map(|manifest| distinct(&manifest))
        };
        match chunks {
            Err(error) if error.is_corruption() => {
                tracing::warn!(address = %file.address, "damaged manifest: its chunks stay behind");
                Ok(HashSet::new())
            }
            chunks => chunks,
        }
    }

    /// The chunks of unfinished downloads: kept though no complete file refers to them.
    pub(super) fn wanted_by_partials(
        &self,
        committed: &mut Committed,
    ) -> Result<Arc<HashSet<ChunkHash>>, StoreError> {
        if let Some(wanted) = &committed.wanted {
            return Ok(Arc::clone(wanted));
        }
        let mut wanted = HashSet::new();
        for file in self.files_that(|file| file.state != FileState::Complete)? {
            wanted.extend(self.listed_chunks(&file)?);
        }
        let wanted = Arc::new(wanted);
        committed.wanted = Some(Arc::clone(&wanted));
        Ok(wanted)
    }

    /// Adds that the index is to forget the listing of an entry; where its record is.
    pub(super) fn forget_listing(
        &self,
        extra: &mut Extra,
        file: &FileEntry,
    ) -> Result<Option<Location>, StoreError> {
        let at = self.manifest_entry(&file.manifest)?.map(|entry| entry.at);
        extra.records.push((at, None));
        extra.last.push((entry::manifest_key(&file.manifest), None));
        Ok(at)
    }

    /// Appends the record of a manifest or list, and adds what the index is to say of it.
    pub(super) fn append_listing(
        &self,
        extra: &mut Extra,
        address: Address,
        id: &ManifestId,
        bytes: &Bytes,
    ) -> Result<ManifestEntry, StoreError> {
        self.space.check_metadata(bytes.len() as u64)?;
        let at = self.append(RecordKind::Manifest, id.as_bytes(), bytes)?;
        let old = self.manifest_entry(id)?;
        extra.records.push((old.map(|old| old.at), Some(at)));
        extra.appended.push(at);
        let inline = (bytes.len() <= INLINE_BYTES).then(|| bytes.clone());
        let listing = ManifestEntry {
            address,
            at,
            inline,
        };
        let value = listing.encode();
        extra.last.push((entry::manifest_key(id), Some(value)));
        Ok(listing)
    }
}

impl Store {
    /// A file's manifest, verified; a [`crate::FileState::Remnant`] has none.
    ///
    /// # Errors
    /// [`StoreError::CorruptManifest`] when it is damaged.
    pub fn manifest(&self, address: &Address) -> Result<Option<Manifest>, StoreError> {
        let file = self.core.file(address)?;
        let file = file.filter(|file| file.state != FileState::Remnant);
        file.map(|file| self.core.manifest_of(&file)).transpose()
    }

    /// Which file the manifest with this id belongs to, if it is stored here.
    ///
    /// # Errors
    /// When the index fails.
    pub fn address_of(&self, id: &ManifestId) -> Result<Option<Address>, StoreError> {
        Ok(self.core.manifest_entry(id)?.map(|entry| entry.address))
    }
}
