//! Records that are damaged while the index still has what they said: written anew, so that a rebuild finds
//! them.

use super::core::Core;
use super::entry::{FileEntry, FileState, Place, Setting};
use super::flush::Extra;
use super::lock;
use super::pack::{Location, RecordKind};
use super::settings::MAX_STORE_BYTES;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash, ManifestId};

impl Core {
    fn holds_payload(&self, at: Location, payload: &[u8]) -> Result<bool, StoreError> {
        let found = self.packs.read_if_there(at)?;
        Ok(found.is_some_and(|found| found == payload))
    }

    /// Looks at the record of a file's entry; whether it had to be written anew.
    pub(super) fn mend_entry(&self, address: &Address) -> Result<bool, StoreError> {
        let mut committed = lock(&self.commit);
        let Some(value) = self.file_value(address)? else {
            return Ok(false);
        };
        if self.is_read_only() || self.holds_payload(value.at, &value.entry.encode())? {
            return Ok(false);
        }
        let mut extra = Extra::default();
        self.append_entry(&mut extra, &value.entry)?;
        self.flush(&mut committed, extra)?;
        self.packs.free(&[value.at])?;
        Ok(true)
    }

    /// The same for the manifest or list of an entry, as far as the index has a copy of it.
    pub(super) fn mend_listing(&self, file: &FileEntry) -> Result<bool, StoreError> {
        let mut committed = lock(&self.commit);
        let Some(listing) = self.manifest_entry(&file.manifest)? else {
            return Ok(false);
        };
        let intact = listing
            .inline
            .clone()
            .filter(|bytes| ManifestId::of(bytes) == file.manifest);
        let Some(bytes) = intact.filter(|_| !self.is_read_only()) else {
            return Ok(false);
        };
        if self.holds_payload(listing.at, &bytes)? {
            return Ok(false);
        }
        let mut extra = Extra::default();
        self.append_listing(&mut extra, file.address, &file.manifest, &bytes)?;
        self.flush(&mut committed, extra)?;
        self.packs.free(&[listing.at])?;
        Ok(true)
    }

    /// The same for the limit.
    pub(super) fn mend_settings(&self) -> Result<bool, StoreError> {
        let Some(Setting {
            at: Some(at),
            value,
        }) = self.setting(MAX_STORE_BYTES)?
        else {
            return Ok(false);
        };
        let payload = super::settings::encode_setting(MAX_STORE_BYTES, &value);
        if self.is_read_only() || self.holds_payload(at, &payload)? {
            return Ok(false);
        }
        self.set_anew(MAX_STORE_BYTES, &value)?;
        Ok(true)
    }

    /// The same for a chunk that the index has a copy of.
    pub(super) fn mend_chunk(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        let mut committed = lock(&self.commit);
        let chunk = self.indexed(hash)?.filter(|chunk| !chunk.bad);
        let Some(chunk) = chunk.filter(|_| !self.is_read_only()) else {
            return Ok(false);
        };
        let intact = chunk.inline.filter(|bytes| ChunkHash::of(bytes) == *hash);
        let (Some(bytes), Place::Pack(at)) = (intact, chunk.place) else {
            return Ok(false);
        };
        if self.holds_payload(at, &bytes)? {
            return Ok(false);
        }
        let to = self.append(RecordKind::Chunk, hash.as_bytes(), &bytes)?;
        let extra = Extra {
            moved: vec![(*hash, chunk.place, Place::Pack(to))],
            ..Extra::default()
        };
        self.flush(&mut committed, extra)?;
        self.packs.free(&[at])?;
        Ok(true)
    }

    /// Everything that is recorded of a file beside its chunks: how many records were written anew, and
    /// whether its manifest or list can be read.
    pub(super) fn mend_file(&self, file: &FileEntry) -> Result<(u64, bool), StoreError> {
        let mended =
            u64::from(self.mend_entry(&file.address)?) + u64::from(self.mend_listing(file)?);
        let intact = match file.state {
            FileState::Remnant => self.is_listed(file)?,
            _ => match self.manifest_of(file) {
                Ok(_) => true,
                Err(error) if error.is_corruption() => false,
                Err(error) => return Err(error),
            },
        };
        Ok((mended, intact))
    }
}
