//! Adopting what the packs say of files: entries, manifests, removals, settings.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::Adopter;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash, ManifestId};
use crate::manifest::Manifest;
use crate::store::clones::is_clone;
use crate::store::entry::{
    self, ChunkEntry, DirectoryAccount, Extent, FileEntry, FileState, FileValue, INLINE_BYTES,
    ManifestEntry, Place, Setting,
};
use crate::store::files::distinct;
use crate::store::flush::BATCH_CHUNKS;
use crate::store::index::Op;
use crate::store::listing::read_listing;
use crate::store::pack::Location;
use crate::store::settings::decode_setting;
use crate::store::source::extents;

impl Adopter<'_> {
    /// The order of [`crate::store::files`]: references before the entry, and dropped after it, so that a crash
    /// in between leaves them too high and never too low.
    pub(super) fn adopt_file(
        &mut self,
        mut file: FileEntry,
        at: Location,
    ) -> Result<(), StoreError> {
        self.write_batch()?;
        let old_value = self.file(&file.address)?;
        let old = old_value.as_ref().map(|old| &old.entry);
        match self.manifests.remove(&file.manifest) {
            Some(at) => self.adopt_manifest(file.address, file.manifest, at)?,
            None => drop(self.waiting.insert(file.manifest, file.address)),
        }
        self.change_source(old, Some(&file))?;
        let same = old.filter(|old| old.manifest == file.manifest);
        let mut added = None;
        if same.is_none_or(|old| old.state != FileState::Complete) {
            match self.counted_chunks(&file)? {
                Some(add) => {
                    added = self.begin_change(&file)?;
                    self.change_references(&add, 1)?;
                }
                None => file.state = FileState::Partial,
            }
        }
        let replaced = old.filter(|old| old.manifest != file.manifest);
        // Complete before and not now: a file kept in place that was found changed.
        let uncounted = same
            .filter(|old| old.state == FileState::Complete && file.state != FileState::Complete);
        let dropped = replaced.or(uncounted);
        let drop_refs = dropped.map(|old| self.counted_chunks(old)).transpose()?;
        let drop_refs = drop_refs.flatten().unwrap_or_default();
        let removed = dropped.map(|old| self.begin_change(old)).transpose()?;
        let mut ops: Vec<Op> = added.into_iter().collect();
        if let Some(old) = replaced {
            ops.push(self.forget_manifest(old)?);
        }
        self.ledger
            .record(old_value.as_ref().map(|old| old.at), Some(at));
        if self
            .index
            .get(&entry::tombstone_key(&file.address))?
            .is_some()
        {
            ops.push(self.change_tombstone(&file.address, None)?);
        }
        ops.extend(self.change_directory(&file)?);
        let key = entry::file_key(&file.address);
        let value = FileValue { at, entry: file };
        ops.push((key, Some(value.encode())));
        self.apply(ops)?;
        self.change_references(&drop_refs, -1)?;
        self.apply(removed.flatten().into_iter().collect())
    }

    /// An entry may say of a directory what the index does not know. Which members it lists is found out when
    /// all is adopted.
    fn change_directory(&self, file: &FileEntry) -> Result<Option<Op>, StoreError> {
        let key = entry::directory_key(&file.address);
        let is_known = self.index.get(&key)?.is_some();
        Ok(match (file.directory, is_known) {
            (true, false) => Some((key, Some(DirectoryAccount::default().encode()))),
            (false, true) => Some((key, None)),
            (true, true) | (false, false) => None,
        })
    }

    /// Notes that the references of a manifest's chunks are being changed; what takes the note away again.
    /// `None` when there is one already: then they are counted anew at the end.
    fn begin_change(&mut self, file: &FileEntry) -> Result<Option<Op>, StoreError> {
        let key = entry::flux_key(&file.manifest);
        let listing = self.index.get(&entry::manifest_key(&file.manifest))?;
        if self.rebuild || listing.is_none() || self.index.get(&key)?.is_some() {
            return Ok(None);
        }
        self.apply(vec![(key.clone(), listing)])?;
        Ok(Some((key, None)))
    }

    /// A manifest whose file is known is entered at once; another waits for it.
    pub(super) fn meet_manifest(&mut self, id: ManifestId, at: Location) -> Result<(), StoreError> {
        let known = self.index.get(&entry::manifest_key(&id))?;
        let known = known.as_deref().map(ManifestEntry::decode).transpose()?;
        let known = known.map(|known| known.address);
        let address = known.or_else(|| self.waiting.remove(&id));
        let file = address.map(|address| self.file(&address)).transpose()?;
        match file.flatten().map(|file| file.entry) {
            Some(file) if file.manifest == id => self.adopt_manifest(file.address, id, at),
            _ => {
                self.manifests.insert(id, at);
                Ok(())
            }
        }
    }

    /// What is damaged is indexed too, without a copy: reading it says so.
    fn adopt_manifest(
        &mut self,
        address: Address,
        id: ManifestId,
        at: Location,
    ) -> Result<(), StoreError> {
        let key = entry::manifest_key(&id);
        let old = self.index.get(&key)?;
        let old = old.as_deref().map(ManifestEntry::decode).transpose()?;
        let bytes = self.packs.read_if_there(at)?;
        let value = ManifestEntry {
            address,
            at,
            inline: bytes.filter(|bytes| bytes.len() <= INLINE_BYTES),
        };
        self.ledger.record(old.map(|old| old.at), Some(at));
        self.apply(vec![(key, Some(value.encode()))])
    }

    fn forget_manifest(&mut self, file: &FileEntry) -> Result<Op, StoreError> {
        let key = entry::manifest_key(&file.manifest);
        let old = self.index.get(&key)?;
        let old = old.as_deref().map(ManifestEntry::decode).transpose()?;
        self.ledger.record(old.map(|old| old.at), None);
        Ok((key, None))
    }

    pub(super) fn adopt_removal(
        &mut self,
        address: &Address,
        at: Location,
    ) -> Result<(), StoreError> {
        self.write_batch()?;
        let tombstone = self.change_tombstone(address, Some(at))?;
        let Some(old) = self.file(address)? else {
            return self.apply(vec![tombstone]);
        };
        let drop_refs = self.counted_chunks(&old.entry)?.unwrap_or_default();
        let removed = self.begin_change(&old.entry)?;
        self.change_source(Some(&old.entry), None)?;
        let manifest = self.forget_manifest(&old.entry)?;
        self.ledger.record(Some(old.at), None);
        self.apply(vec![
            (entry::file_key(address), None),
            (entry::last_use_key(address), None),
            (entry::directory_key(address), None),
            manifest,
            tombstone,
        ])?;
        self.change_references(&drop_refs, -1)?;
        self.apply(removed.into_iter().collect())
    }

    fn change_tombstone(
        &mut self,
        address: &Address,
        new: Option<Location>,
    ) -> Result<Op, StoreError> {
        let key = entry::tombstone_key(address);
        let old = self.index.get(&key)?;
        let old = old.as_deref().map(entry::decode_location).transpose()?;
        self.ledger.record(old, new);
        Ok((key, new.map(entry::encode_location)))
    }

    /// Forgets sources that no entry names, as a crash may leave them.
    pub(super) fn sweep_sources(&mut self) -> Result<(), StoreError> {
        let sources = self.ledger.sources().iter();
        let sources: Vec<_> = sources.map(|(id, source)| (*id, source.address)).collect();
        for (id, address) in sources {
            let file = self.file(&address)?;
            if file.is_none_or(|file| file.entry.intact_source() != Some(id)) {
                self.ledger.forget_source(id);
            }
        }
        self.apply(Vec::new())
    }

    /// Enters what the new source holds and is not here; of an old one that is not the new, nothing counts.
    fn change_source(
        &mut self,
        old: Option<&FileEntry>,
        new: Option<&FileEntry>,
    ) -> Result<(), StoreError> {
        let complete = |file: &&FileEntry| file.state == FileState::Complete;
        let source = |file: Option<&FileEntry>| file.and_then(FileEntry::intact_source);
        if let (Some(id), Some(old)) = (source(old), old)
            && source(new) != Some(id)
        {
            for extent in self.source_extents(old, id)? {
                let (hash, _) = extent;
                let chunk = self.chunk(&hash)?.filter(|chunk| !chunk.bad);
                if let Some(chunk) = chunk.filter(|chunk| chunk.place.source() == Some(id)) {
                    let bad = ChunkEntry {
                        bad: true,
                        ..chunk.clone()
                    };
                    self.ledger.chunk(Some(&chunk), Some(&bad));
                    self.apply(vec![(entry::chunk_key(&hash), Some(bad.encode()))])?;
                }
            }
            self.ledger.forget_source(id);
        }
        let Some(new) = new.filter(complete) else {
            return Ok(());
        };
        let Some(id) = source(Some(new)) else {
            return Ok(());
        };
        self.ledger.add_source(id, new.address);
        for (hash, extent) in self.source_extents(new, id)? {
            let old = self.chunk(&hash)?;
            // A clone takes over from files in place, as when it was stored.
            let stays = |place: Place| {
                let in_place = place.source().is_some_and(|other| !is_clone(other));
                !(in_place && is_clone(id))
            };
            if old.as_ref().is_some_and(|old| !old.bad && stays(old.place)) {
                continue;
            }
            let chunk = ChunkEntry {
                place: Place::Source(extent),
                refs: old.as_ref().map_or(0, |old| old.refs),
                bad: false,
                inline: None,
            };
            self.ledger.chunk(old.as_ref(), Some(&chunk));
            self.apply(vec![(entry::chunk_key(&hash), Some(chunk.encode()))])?;
        }
        Ok(())
    }

    /// The chunks of a file with their places in its source; none when the manifest is damaged.
    fn source_extents(
        &self,
        file: &FileEntry,
        source: u32,
    ) -> Result<Vec<(ChunkHash, Extent)>, StoreError> {
        let manifest = self.manifest_of(file)?;
        Ok(manifest.map_or_else(Vec::new, |manifest| extents(&manifest, source)))
    }

    pub(super) fn adopt_setting(&mut self, payload: &[u8], at: Location) -> Result<(), StoreError> {
        self.write_batch()?;
        let Some((name, value)) = decode_setting(payload) else {
            return Ok(());
        };
        let key = entry::setting_key(name);
        let old = self.index.get(&key)?;
        let old = old.as_deref().map(Setting::decode).transpose()?;
        self.ledger.record(old.and_then(|old| old.at), Some(at));
        let setting = Setting {
            at: Some(at),
            value: value.to_vec(),
        };
        self.apply(vec![(key, Some(setting.encode()))])
    }

    fn file(&self, address: &Address) -> Result<Option<FileValue>, StoreError> {
        let value = self.index.get(&entry::file_key(address))?;
        Ok(value.as_deref().map(FileValue::decode).transpose()?)
    }

    /// The chunks that a file's entry keeps alive; none while a rebuild counts at its end. `None` when
    /// its manifest is damaged: a complete file is then entered as partial, since a complete one must
    /// have its references counted.
    fn counted_chunks(&self, file: &FileEntry) -> Result<Option<HashSet<ChunkHash>>, StoreError> {
        if self.rebuild || file.state != FileState::Complete {
            return Ok(Some(HashSet::new()));
        }
        self.chunks_of(file)
    }

    fn chunks_of(&self, file: &FileEntry) -> Result<Option<HashSet<ChunkHash>>, StoreError> {
        Ok(self.manifest_of(file)?.as_ref().map(distinct))
    }

    fn manifest_of(&self, file: &FileEntry) -> Result<Option<Manifest>, StoreError> {
        let value = self.index.get(&entry::manifest_key(&file.manifest))?;
        let entry = value.as_deref().map(ManifestEntry::decode).transpose()?;
        let bytes = entry.map(|entry| read_listing(self.packs, &file.manifest, entry));
        let bytes = bytes.transpose()?.flatten();
        let manifest = bytes.and_then(|bytes| Manifest::decode_for(&file.address, &bytes).ok());
        if manifest.is_none() {
            tracing::warn!(address = %file.address, "a file's manifest is lost or damaged");
        }
        Ok(manifest)
    }

    /// A chunk that is not there keeps its count all the same, as a bad one: when it is stored again, the
    /// files that list it keep it.
    fn change_references(&self, hashes: &HashSet<ChunkHash>, by: i32) -> Result<(), StoreError> {
        let hashes: Vec<&ChunkHash> = hashes.iter().collect();
        for part in hashes.chunks(BATCH_CHUNKS) {
            let mut ops = Vec::with_capacity(part.len());
            for hash in part {
                let key = entry::chunk_key(hash);
                let chunk = match self.index.get(&key)? {
                    Some(value) => Some(ChunkEntry::decode(&value)?),
                    None => (by > 0).then(ChunkEntry::absent),
                };
                let Some(mut chunk) = chunk else {
                    continue;
                };
                chunk.refs = chunk.refs.saturating_add_signed(by);
                ops.push((key, Some(chunk.encode())));
            }
            self.space.check_index()?;
            self.index.apply(ops)?;
        }
        Ok(())
    }

    /// Counts the references of chunks anew whose counting was cut off. A rebuild has counted them all.
    pub(super) fn settle_references(&mut self) -> Result<(), StoreError> {
        let mut cut_off = Vec::new();
        self.index.scan(entry::FLUX_PREFIX, &mut |key, value| {
            cut_off.push((entry::manifest_of_key(key)?, ManifestEntry::decode(value)?));
            Ok(ControlFlow::Continue(()))
        })?;
        let mut counts: HashMap<ChunkHash, u32> = HashMap::new();
        for (id, listing) in &cut_off {
            let address = listing.address;
            let bytes = read_listing(self.packs, id, listing.clone())?;
            let manifest = bytes.and_then(|bytes| Manifest::decode_for(&address, &bytes).ok());
            if let Some(manifest) = manifest.filter(|_| !self.rebuild) {
                counts.extend(distinct(&manifest).into_iter().map(|hash| (hash, 0)));
            }
        }
        if !counts.is_empty() {
            for file in self.complete_files()? {
                for hash in self.chunks_of(&file.entry)?.unwrap_or_default() {
                    if let Some(count) = counts.get_mut(&hash) {
                        *count += 1;
                    }
                }
            }
        }
        for (hash, refs) in counts {
            let chunk = self.chunk(&hash)?.unwrap_or_else(ChunkEntry::absent);
            if chunk.refs != refs {
                let chunk = ChunkEntry { refs, ..chunk };
                self.apply(vec![(entry::chunk_key(&hash), Some(chunk.encode()))])?;
            }
        }
        for (id, _) in cut_off {
            self.apply(vec![(entry::flux_key(&id), None)])?;
        }
        Ok(())
    }

    fn complete_files(&self) -> Result<Vec<FileValue>, StoreError> {
        let mut files = Vec::new();
        self.index.scan(entry::FILE_PREFIX, &mut |_, value| {
            files.push(FileValue::decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        files.retain(|file| file.entry.state == FileState::Complete);
        Ok(files)
    }

    /// The end of a rebuild: what needs the manifests of all files.
    pub(super) fn count_references(&mut self) -> Result<(), StoreError> {
        let files = self.complete_files()?;
        for file in &files {
            self.change_source(None, Some(&file.entry))?;
        }
        for mut file in files {
            if let Some(chunks) = self.chunks_of(&file.entry)? {
                self.change_references(&chunks, 1)?;
                continue;
            }
            file.entry.state = FileState::Partial;
            let key = entry::file_key(&file.entry.address);
            self.index.apply(vec![(key, Some(file.encode()))])?;
        }
        Ok(())
    }
}
