//! Putting one entry of a file in the place of another, and the records that go with that.

use super::core::{Committed, Core};
use super::entry::{
    self, Claim, FileEntry, FileSource, FileState, FileValue, ManifestEntry, SourceState,
};
use super::files::{distinct, valid_name};
use super::flush::Extra;
use super::pack::{Location, RecordKind};
use super::source::Sourced;
use super::unix_ms;
use crate::error::StoreError;
use crate::id::{Address, ManifestId};
use crate::manifest::Manifest;

/// What is put in the place of a file's entry.
pub(super) struct Replacement<'a> {
    manifest: &'a Manifest,
    name: Option<&'a str>,
    claim: Claim,
    state: FileState,
    source: Option<FileSource>,
    /// Chunks of that source.
    sourced: Sourced,
}

impl<'a> Replacement<'a> {
    pub(super) fn new(
        manifest: &'a Manifest,
        name: Option<&'a str>,
        claim: Claim,
        state: FileState,
    ) -> Self {
        Self {
            manifest,
            name,
            claim,
            state,
            source: None,
            sourced: Sourced::default(),
        }
    }

    /// The same for a file whose `sourced` chunks are in `source`.
    pub(super) fn in_source(self, source: FileSource, sourced: Sourced) -> Self {
        Self {
            source: Some(source),
            sourced,
            ..self
        }
    }
}

fn lost_source(old: Option<&FileEntry>) -> Option<FileSource> {
    let source = old.and_then(|old| old.source.clone());
    source.filter(|source| source.state != SourceState::Intact)
}

/// The entry that takes the place of the old one: what that one says of the file beside its bytes stays.
fn entry_after(old: Option<&FileEntry>, new: &Replacement<'_>, now_unix_ms: u64) -> FileEntry {
    FileEntry {
        address: new.manifest.address(),
        name: valid_name(new.name).or_else(|| old.and_then(|old| old.name.clone())),
        size_bytes: new.manifest.size_bytes(),
        chunk_count: new.manifest.chunk_count(),
        manifest: new.manifest.id(),
        stored_unix_ms: old.map_or(now_unix_ms, |old| old.stored_unix_ms),
        last_used_unix_ms: 0,
        claim: old.map_or(new.claim, |old| old.claim.max(new.claim)),
        directory: old.is_some_and(|old| old.directory),
        state: new.state,
        source: match &new.source {
            Some(source) => Some(source.clone()),
            // A source that is lost is remembered until the file is whole again.
            None if new.state != FileState::Complete => lost_source(old),
            None => None,
        },
    }
}

impl Core {
    /// Puts an entry in the place of the one there is, and drops what only that one needed.
    pub(super) fn replace(
        &self,
        committed: &mut Committed,
        new: Replacement<'_>,
    ) -> Result<FileEntry, StoreError> {
        let manifest = new.manifest;
        let old = self.file_value(&manifest.address())?;
        let old_at = old.as_ref().map(|old| old.at);
        let old = old.map(|old| old.entry);
        let replaced = old.as_ref().filter(|old| old.manifest != manifest.id());
        let dropped = replaced.map(|old| self.listed_chunks(old)).transpose()?;
        if let Some(old) = &old {
            // All of it: the new entry may list it, and nobody else keeps what is not copied.
            self.copy_out(committed, old, &|_, _| true)?;
            if let Some(id) = old.intact_source() {
                self.forget_source(committed, id);
            }
        }
        let entry = entry_after(old.as_ref(), &new, unix_ms());
        let mut extra = Extra {
            sourced: new.sourced.absent,
            moved: new.sourced.moved,
            ..Extra::default()
        };
        let mut freed: Vec<Location> = Vec::new();
        let listing = self.record_listing(&mut extra, old.as_ref(), manifest, &mut freed)?;
        let released = match replaced {
            Some(old) => self.let_old_go(&mut extra, old, &mut freed)?,
            None => None,
        };
        self.append_entry(&mut extra, &entry)?;
        let is_counted = old
            .as_ref()
            .is_some_and(|old| old.manifest == entry.manifest && old.state == FileState::Complete);
        if entry.state == FileState::Complete && !is_counted {
            extra.add_refs = distinct(manifest).into_iter().collect();
            extra.counting = listing.map(|listing| (entry.manifest, listing));
        }
        committed.wanted = None;
        self.flush(committed, extra)?;
        let dropped = dropped.unwrap_or_default().into_iter().collect();
        let (_, mut freed) = self.release(committed, dropped, released, freed)?;
        // Whether the index has forgotten the old entry's record already does not matter: a newer one is
        // durable.
        freed.extend(old_at);
        self.packs.free(&freed)?;
        if let Some(id) = old.as_ref().and_then(FileEntry::intact_source) {
            self.remove_source(id);
        }
        self.with_last_use(FileEntry {
            last_used_unix_ms: entry.stored_unix_ms,
            ..entry
        })
    }

    /// Appends the record of a manifest, unless the old entry has it and it can be read; what the index is to have of it.
    /// The record of a damaged one is added to `freed`.
    fn record_listing(
        &self,
        extra: &mut Extra,
        old: Option<&FileEntry>,
        manifest: &Manifest,
        freed: &mut Vec<Location>,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        let id = manifest.id();
        let is_recorded = match old {
            Some(old) => old.manifest == id && self.is_listed(old)?,
            None => false,
        };
        let listing = self.manifest_entry(&id)?;
        if is_recorded {
            return Ok(listing);
        }
        freed.extend(listing.map(|damaged| damaged.at));
        let listing = self.append_listing(extra, manifest.address(), &id, manifest.encode())?;
        Ok(Some(listing))
    }

    /// Adds that an entry with another manifest goes, whose record is added to `freed`. Returns that manifest if
    /// references of its chunks are counted: [`Core::release`] takes them.
    fn let_old_go(
        &self,
        extra: &mut Extra,
        old: &FileEntry,
        freed: &mut Vec<Location>,
    ) -> Result<Option<ManifestId>, StoreError> {
        let released = self.begin_release(extra, old)?;
        freed.extend(self.forget_listing(extra, old)?);
        Ok(released)
    }

    /// Appends a file's entry, and adds what the index is to say of it.
    pub(super) fn append_entry(
        &self,
        extra: &mut Extra,
        file: &FileEntry,
    ) -> Result<(), StoreError> {
        let value = file.encode();
        self.space.check_disk(value.len() as u64)?;
        let at = self.append(RecordKind::File, blake3::hash(&value).as_bytes(), &value)?;
        let old = self.file_value(&file.address)?;
        extra.records.push((old.map(|old| old.at), Some(at)));
        extra.appended.push(at);
        if let Some(tombstone) = self.tombstone(&file.address)? {
            extra.records.push((Some(tombstone), None));
            extra.last.push((entry::tombstone_key(&file.address), None));
        }
        let entry = file.clone();
        let value = FileValue { at, entry }.encode();
        extra
            .last
            .push((entry::file_key(&file.address), Some(value)));
        Ok(())
    }

    /// The tombstone of an address that has no entry.
    pub(super) fn tombstone(&self, address: &Address) -> Result<Option<Location>, StoreError> {
        self.read(&entry::tombstone_key(address), entry::decode_location)
    }

    /// A few bytes: allowed to go where no chunk may, or a full store could not be emptied. Adds what the
    /// index is to forget.
    pub(super) fn append_tombstone(
        &self,
        extra: &mut Extra,
        old: &FileValue,
    ) -> Result<(), StoreError> {
        let address = old.entry.address;
        let digest = blake3::hash(address.as_bytes());
        let at = self.append(RecordKind::Tombstone, digest.as_bytes(), address.as_bytes())?;
        extra.appended.push(at);
        extra.records.push((Some(old.at), None));
        extra.records.push((None, Some(at)));
        let key = entry::tombstone_key(&address);
        extra.last.push((key, Some(entry::encode_location(at))));
        extra.last.push((entry::file_key(&address), None));
        extra.last.push((entry::last_use_key(&address), None));
        extra.last.push((entry::directory_key(&address), None));
        Ok(())
    }
}
