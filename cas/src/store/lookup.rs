//! Many entries looked up at once: in the order of their keys, so that neighbours are read together.
//!
//! One by one, in whatever order they come, each is a search from the root of the database and perhaps a page from the
//! disk; in order, those of one run are one search.

use super::Store;
use super::core::Core;
use super::entry::{self, ChunkEntry, FileEntry, FileState, FileValue, ManifestEntry};
use super::files::distinct;
use crate::bitmap::HaveBitmap;
use crate::error::{IndexError, StoreError};
use crate::id::{Address, ChunkHash, ManifestId};
use crate::manifest::Manifest;

/// Entries that are in memory at a time, of however many are looked up.
pub(super) const ENTRIES_AT_ONCE: usize = 4096;

/// Chunks that are looked up at once, about: what is known of the chunks of many files is bounded by this, and by the
/// chunks of one file.
const CHUNKS_AT_ONCE: usize = 128 * 1024;

impl Core {
    /// What the index has of these keys, in their order.
    pub(super) fn values<T>(
        &self,
        keys: &[Vec<u8>],
        decode: impl Fn(&[u8]) -> Result<T, IndexError>,
    ) -> Result<Vec<Option<T>>, StoreError> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by(|one, other| keys[*one].cmp(&keys[*other]));
        let ascending: Vec<&[u8]> = order.iter().map(|at| keys[*at].as_slice()).collect();
        let mut values: Vec<Option<T>> = Vec::new();
        values.resize_with(keys.len(), || None);
        let mut found = |place: usize, value: &[u8]| {
            values[order[place]] = Some(decode(value)?);
            Ok(())
        };
        self.noting(self.index.get_ascending(&ascending, &mut found))?;
        Ok(values)
    }

    /// The entries of chunks that are in the index, bad or not.
    pub(super) fn chunk_entries(
        &self,
        hashes: &[ChunkHash],
    ) -> Result<Vec<Option<ChunkEntry>>, StoreError> {
        let keys: Vec<_> = hashes.iter().map(entry::chunk_key).collect();
        self.values(&keys, ChunkEntry::decode)
    }

    /// Visits what is here of these files, which are best sorted; last uses are not looked up.
    pub(super) fn each_of(
        &self,
        addresses: &[Address],
        visit: &mut dyn FnMut(FileEntry),
    ) -> Result<(), StoreError> {
        for part in addresses.chunks(ENTRIES_AT_ONCE) {
            let keys: Vec<_> = part.iter().map(entry::file_key).collect();
            let values = self.values(&keys, FileValue::decode)?;
            values
                .into_iter()
                .flatten()
                .for_each(|value| visit(value.entry));
        }
        Ok(())
    }

    /// How many of these files, which are best sorted, are here and complete.
    pub(super) fn count_complete(&self, addresses: &[Address]) -> Result<u64, StoreError> {
        let mut complete = 0;
        self.each_of(addresses, &mut |file| {
            complete += u64::from(file.state == FileState::Complete);
        })?;
        Ok(complete)
    }

    /// Those of these files, which are sorted, that are complete, and whose manifest and chunks are in order and stay
    /// here, as far as is known; sorted.
    pub(super) fn whole_among(&self, addresses: &[Address]) -> Result<Vec<Address>, StoreError> {
        let mut files: Vec<(ManifestId, Address)> = Vec::with_capacity(addresses.len());
        self.each_of(addresses, &mut |file| {
            if file.state == FileState::Complete {
                files.push((file.manifest, file.address));
            }
        })?;
        files.sort_unstable();
        let (mut broken, mut chunks) = (Vec::new(), Vec::new());
        for part in files.chunks(ENTRIES_AT_ONCE) {
            let keys: Vec<_> = part.iter().map(|(id, _)| entry::manifest_key(id)).collect();
            let listings = self.values(&keys, ManifestEntry::decode)?;
            for ((id, address), listing) in part.iter().zip(listings) {
                match self.manifest_in(address, id, listing) {
                    Ok(manifest) => {
                        let hashes = distinct(&manifest).into_iter();
                        chunks.extend(hashes.map(|hash| (hash, *address)));
                    }
                    Err(error) if error.is_corruption() => broken.push(*address),
                    Err(error) => return Err(error),
                }
                if chunks.len() >= CHUNKS_AT_ONCE {
                    self.add_broken(&mut chunks, &mut broken)?;
                }
            }
        }
        self.add_broken(&mut chunks, &mut broken)?;
        broken.sort_unstable();
        let mut whole: Vec<Address> = files.into_iter().map(|(_, address)| address).collect();
        whole.retain(|address| broken.binary_search(address).is_err());
        whole.sort_unstable();
        Ok(whole)
    }

    /// Visits files with these chunks, one file's after the other's; takes both.
    fn visit_here(
        &self,
        files: &mut Vec<(FileEntry, Manifest)>,
        hashes: &mut Vec<ChunkHash>,
        visit: &mut dyn FnMut(FileEntry, Manifest, HaveBitmap),
    ) -> Result<(), StoreError> {
        let mut are_here = Vec::with_capacity(hashes.len());
        for part in hashes.chunks(ENTRIES_AT_ONCE) {
            are_here.extend(self.has_each(part)?);
        }
        hashes.clear();
        let mut are_here = are_here.into_iter();
        for (file, manifest) in files.drain(..) {
            let count = manifest.chunks().len();
            let mut have = HaveBitmap::new(count);
            for (index, is_here) in are_here.by_ref().take(count).enumerate() {
                if is_here {
                    have.set(index);
                }
            }
            // The empty file has no chunks, and all of it is here.
            if have.count() > 0 || have.is_complete() {
                visit(file, manifest, have);
            }
        }
        Ok(())
    }

    /// Adds the files with a chunk among these that is not durably here; takes the chunks.
    fn add_broken(
        &self,
        chunks: &mut Vec<(ChunkHash, Address)>,
        broken: &mut Vec<Address>,
    ) -> Result<(), StoreError> {
        chunks.sort_unstable();
        for part in chunks.chunks(ENTRIES_AT_ONCE) {
            let keys: Vec<_> = part
                .iter()
                .map(|(hash, _)| entry::chunk_key(hash))
                .collect();
            let entries = self.values(&keys, |value| Ok(ChunkEntry::decode(value)?.bad))?;
            let missing = part
                .iter()
                .zip(entries)
                .filter(|(_, bad)| bad.unwrap_or(true));
            broken.extend(missing.map(|((_, address), _)| *address));
        }
        chunks.clear();
        Ok(())
    }
}

impl Store {
    /// Visits those of these files of which something is here, in no order: each with its manifest, and with which of its
    /// chunks are here. One whose manifest is damaged is passed over. Their last uses are not looked up. What is known of
    /// each is in memory: thousands at a time, not all.
    ///
    /// # Errors
    /// When the index or the medium fails.
    pub fn for_each_here(
        &self,
        addresses: &[Address],
        mut visit: impl FnMut(FileEntry, Manifest, HaveBitmap),
    ) -> Result<(), StoreError> {
        let core = &self.core;
        let mut files = Vec::with_capacity(addresses.len());
        core.each_of(addresses, &mut |file| {
            files.extend((file.state != FileState::Remnant).then_some(file));
        })?;
        files.sort_unstable_by_key(|file| file.manifest);
        let mut files = files.into_iter().peekable();
        let (mut read, mut hashes) = (Vec::new(), Vec::new());
        while files.peek().is_some() {
            let part: Vec<FileEntry> = files.by_ref().take(ENTRIES_AT_ONCE).collect();
            let keys = part.iter().map(|file| entry::manifest_key(&file.manifest));
            let listings = core.values(&keys.collect::<Vec<_>>(), ManifestEntry::decode)?;
            for (file, listing) in part.into_iter().zip(listings) {
                match core.manifest_in(&file.address, &file.manifest, listing) {
                    Ok(manifest) => {
                        hashes.extend(manifest.chunks().iter().map(|chunk| chunk.hash));
                        read.push((file, manifest));
                    }
                    Err(error) if error.is_corruption() => {
                        tracing::warn!(file = %file.address, %error, "a file's manifest cannot be read");
                    }
                    Err(error) => return Err(error),
                }
                if hashes.len() >= CHUNKS_AT_ONCE {
                    core.visit_here(&mut read, &mut hashes, &mut visit)?;
                }
            }
        }
        core.visit_here(&mut read, &mut hashes, &mut visit)
    }
}
