//! Many entries looked up at once: in the order of their keys, so that neighbours are read together.
//!
//! One by one, in whatever order they come, each is a search from the root of the database and perhaps a page from the
//! disk; in order, those of one run are one search.

use super::core::Core;
use super::entry::{self, ChunkEntry, FileEntry, FileState, FileValue, ManifestEntry};
use super::files::distinct;
use crate::error::{IndexError, StoreError};
use crate::id::{Address, ChunkHash, ManifestId};

/// Entries that are in memory at a time, of however many are looked up.
const ENTRIES_AT_ONCE: usize = 4096;

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
