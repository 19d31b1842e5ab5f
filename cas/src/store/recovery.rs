//! Bringing the index up to what the packs hold: after a crash, or from nothing.
//!
//! Every pack has a checkpoint in the index: up to there it was durable and indexed. What is behind it is
//! walked, verified and adopted; the torn end of the last pack is cut off. Without any checkpoint the
//! index is new or lost, and all packs are walked; references are then counted anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::core::BATCH_CHUNKS;
use super::entry::{
    self, ChunkEntry, Extent, FileEntry, FileState, FileValue, INLINE_BYTES, ManifestEntry,
    PackAccount, Place, Setting,
};
use super::files::distinct;
use super::index::{Index, MAX_BATCH_KEYS, Op};
use super::ledger::Ledger;
use super::listing::read_listing;
use super::pack::{Location, PACK_HEADER_BYTES, Packs, RecordKind, Scanned, Verify};
use super::settings::decode_setting;
use super::source::extents;
use crate::error::{IndexError, StoreError};
use crate::id::{Address, ChunkHash, ManifestId};
use crate::manifest::Manifest;

/// Checks that all of the index can be read and that its counters agree with its entries.
pub(super) fn check_index(index: &dyn Index) -> Result<(), IndexError> {
    let mut counted = Ledger::default();
    let noted = Ledger::load(index)?;
    for (source, account) in noted.sources() {
        counted.add_source(*source, account.address);
    }
    index.scan(&[], &mut |key, value| {
        entry::check(key, value)?;
        match key.first() {
            Some(b'c') => counted.chunk(None, Some(&ChunkEntry::decode(value)?)),
            Some(b'f') => counted.record(None, Some(FileValue::decode(value)?.at)),
            Some(b'm') => counted.record(None, Some(ManifestEntry::decode(value)?.at)),
            Some(b's') => counted.record(None, Setting::decode(value)?.at),
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if noted.agrees_with(&counted) {
        Ok(())
    } else {
        Err(IndexError::Malformed)
    }
}

/// What a recovery found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) ledger: Ledger,
    pub(super) packs: u64,
    /// Records with an intact header whose payload is not what it says.
    pub(super) bad_records: u64,
}

/// Adopts what the index does not know. Packs on a read-only medium are left as they are.
pub(super) fn recover(
    index: &Arc<dyn Index>,
    packs: &Packs,
    read_only: bool,
) -> Result<Recovered, StoreError> {
    let ids = packs.ids()?;
    let ledger = Ledger::load(index.as_ref())?;
    let durable = |account: &PackAccount| account.durable_bytes > 0;
    // A rebuild that was cut off has counted live bytes, and no pack is durable for it yet.
    let rebuild = !ledger.packs().values().any(durable) && !ids.is_empty();
    if rebuild && !read_only {
        tracing::warn!(packs = ids.len(), "no index: building it from the packs");
    }
    let mut adopter = Adopter {
        index: index.as_ref(),
        packs,
        rebuild,
        read_only,
        ledger,
        batch: BTreeMap::new(),
        manifests: HashMap::new(),
        waiting: HashMap::new(),
        checkpoints: Vec::new(),
        adopted: 0,
        bad_records: 0,
    };
    for id in &ids {
        let is_last = ids.last() == Some(id);
        adopter.walk(*id, is_last)?;
    }
    adopter.write_batch()?;
    if rebuild {
        adopter.count_references()?;
        adopter.write_checkpoints()?;
    }
    if adopter.adopted > 0 {
        tracing::info!(
            records = adopter.adopted,
            "adopted records the index did not have"
        );
        index.sync()?;
    }
    Ok(Recovered {
        packs: ids.len() as u64,
        bad_records: adopter.bad_records,
        ledger: adopter.ledger,
    })
}

struct Adopter<'a> {
    index: &'a dyn Index,
    packs: &'a Packs,
    rebuild: bool,
    read_only: bool,
    ledger: Ledger,
    /// Chunks waiting to be written to the index.
    batch: BTreeMap<ChunkHash, ChunkEntry>,
    /// Manifest records met, until a file entry says whose they are.
    manifests: HashMap<ManifestId, Location>,
    /// File entries met, until their manifest is: rewriting a pack may put it behind them.
    waiting: HashMap<ManifestId, Address>,
    /// Up to where packs are durable, in their order; of a rebuild written when all is done.
    checkpoints: Vec<(u32, u64)>,
    adopted: u64,
    bad_records: u64,
}

impl Adopter<'_> {
    fn walk(&mut self, pack: u32, is_last: bool) -> Result<(), StoreError> {
        let account = self.ledger.packs().get(&pack);
        let checkpoint = account.map(|account| account.durable_bytes);
        let checkpoint = checkpoint.filter(|bytes| *bytes > 0);
        // Payloads are not padded: the file may end a few bytes before the aligned end.
        let len = self.packs.len(pack)?.next_multiple_of(8);
        let from = checkpoint
            .unwrap_or(PACK_HEADER_BYTES)
            .max(PACK_HEADER_BYTES);
        if checkpoint.is_some() && len < from {
            tracing::warn!(
                pack,
                "pack is shorter than it was; what is missing will be found bad"
            );
            return Ok(());
        }
        if checkpoint.is_some() && len == from {
            return if is_last && !self.read_only {
                self.packs.resume(pack, from)
            } else {
                Ok(())
            };
        }
        let packs = self.packs;
        // What is adopted must not be lost again: it may be in the page cache only.
        if !self.read_only {
            packs.sync_pack(pack)?;
        }
        let verify = if self.rebuild && !is_last {
            Verify::Headers
        } else {
            Verify::Payloads
        };
        let found = packs.scan(pack, from, verify, &mut |record| self.adopt(record))?;
        self.bad_records += found.bad_payloads;
        if found.bad_payloads > 0 || found.gaps > u64::from(is_last) {
            tracing::warn!(
                pack,
                bad_records = found.bad_payloads,
                gaps = found.gaps,
                "damage in a pack: what it held there counts as absent"
            );
        }
        self.write_batch()?;
        let end = if is_last { found.end } else { len };
        if is_last && !self.read_only {
            packs.resume(pack, end)?;
        }
        self.checkpoints.push((pack, end));
        // A rebuild that is cut off must begin anew, or nobody would count the references.
        if self.rebuild {
            Ok(())
        } else {
            self.write_checkpoints()
        }
    }

    /// In the order of the packs: whatever is walked again after a crash then ends in the newest state.
    fn write_checkpoints(&mut self) -> Result<(), StoreError> {
        for part in std::mem::take(&mut self.checkpoints).chunks(MAX_BATCH_KEYS / 2) {
            for (pack, end) in part {
                self.ledger.durable(*pack, *end);
            }
            self.index.apply(self.ledger.take_changes())?;
        }
        Ok(())
    }

    fn adopt(&mut self, record: Scanned) -> Result<(), StoreError> {
        if record.dead {
            return Ok(());
        }
        self.adopted += 1;
        match (record.kind, record.payload) {
            (RecordKind::Chunk, payload) => {
                let inline = payload.filter(|payload| payload.len() <= INLINE_BYTES);
                self.adopt_chunk(ChunkHash::from_bytes(record.hash), record.at, inline)
            }
            (RecordKind::Manifest, _) => {
                self.meet_manifest(ManifestId::from_bytes(record.hash), record.at)
            }
            (RecordKind::File, Some(payload)) => match FileEntry::decode(&payload) {
                Ok(file) => self.adopt_file(file, record.at),
                Err(_) => Ok(()),
            },
            (RecordKind::Tombstone, Some(payload)) => {
                match <[u8; 32]>::try_from(payload.as_ref()) {
                    Ok(address) => self.adopt_removal(&Address::from_bytes(address)),
                    Err(_) => Ok(()),
                }
            }
            (RecordKind::Setting, Some(payload)) => self.adopt_setting(&payload, record.at),
            (RecordKind::File | RecordKind::Tombstone | RecordKind::Setting, None) => Ok(()),
        }
    }

    /// The newest record of a chunk counts: a second one was written because the first was bad.
    fn adopt_chunk(
        &mut self,
        hash: ChunkHash,
        at: Location,
        inline: Option<bytes::Bytes>,
    ) -> Result<(), StoreError> {
        let old = match self.batch.get(&hash) {
            Some(old) => Some(old.clone()),
            None => {
                let mut old = self.chunk(&hash)?;
                // A rebuild counts from nothing, whatever an earlier one that was cut off has counted.
                if let Some(old) = old.as_mut().filter(|_| self.rebuild) {
                    old.refs = 0;
                }
                old
            }
        };
        let chunk = ChunkEntry {
            place: Place::Pack(at),
            refs: old.as_ref().map_or(0, |old| old.refs),
            bad: false,
            inline,
        };
        self.ledger.chunk(old.as_ref(), Some(&chunk));
        self.batch.insert(hash, chunk);
        if self.batch.len() >= BATCH_CHUNKS {
            self.write_batch()
        } else {
            Ok(())
        }
    }

    fn chunk(&self, hash: &ChunkHash) -> Result<Option<ChunkEntry>, StoreError> {
        let value = self.index.get(&entry::chunk_key(hash))?;
        Ok(value.as_deref().map(ChunkEntry::decode).transpose()?)
    }

    /// One batch with the counters that go with it.
    fn apply(&mut self, mut ops: Vec<Op>) -> Result<(), StoreError> {
        ops.extend(self.ledger.take_changes());
        Ok(self.index.apply(ops)?)
    }

    fn write_batch(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let entries = batch.iter();
        let ops = entries.map(|(hash, chunk)| (entry::chunk_key(hash), Some(chunk.encode())));
        self.apply(ops.collect())
    }

    /// The order of [`super::files`]: references before the entry, and dropped after it, so that a crash
    /// in between leaves them too high and never too low.
    fn adopt_file(&mut self, mut file: FileEntry, at: Location) -> Result<(), StoreError> {
        self.write_batch()?;
        let old_value = self.file(&file.address)?;
        let old = old_value.as_ref().map(|old| &old.entry);
        match self.manifests.remove(&file.manifest) {
            Some(at) => self.adopt_manifest(file.address, file.manifest, at)?,
            None => drop(self.waiting.insert(file.manifest, file.address)),
        }
        self.change_source(old, Some(&file))?;
        let same = old.filter(|old| old.manifest == file.manifest);
        if same.is_none_or(|old| old.state != FileState::Complete) {
            match self.counted_chunks(&file)? {
                Some(add) => self.change_references(&add, 1)?,
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
        let mut ops = Vec::new();
        if let Some(old) = replaced {
            ops.push(self.forget_manifest(old)?);
        }
        self.ledger
            .record(old_value.as_ref().map(|old| old.at), Some(at));
        let key = entry::file_key(&file.address);
        let value = FileValue { at, entry: file };
        ops.push((key, Some(value.encode())));
        self.apply(ops)?;
        self.change_references(&drop_refs, -1)
    }

    /// A manifest whose file is known is entered at once; another waits for it.
    fn meet_manifest(&mut self, id: ManifestId, at: Location) -> Result<(), StoreError> {
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

    fn adopt_removal(&mut self, address: &Address) -> Result<(), StoreError> {
        self.write_batch()?;
        let Some(old) = self.file(address)? else {
            return Ok(());
        };
        let drop_refs = self.counted_chunks(&old.entry)?.unwrap_or_default();
        self.change_source(Some(&old.entry), None)?;
        let manifest = self.forget_manifest(&old.entry)?;
        self.ledger.record(Some(old.at), None);
        self.apply(vec![
            (entry::file_key(address), None),
            (entry::last_use_key(address), None),
            manifest,
        ])?;
        self.change_references(&drop_refs, -1)
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
            if old.as_ref().is_some_and(|old| !old.bad) {
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

    fn adopt_setting(&mut self, payload: &[u8], at: Location) -> Result<(), StoreError> {
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

    fn change_references(&self, hashes: &HashSet<ChunkHash>, by: i32) -> Result<(), StoreError> {
        let hashes: Vec<&ChunkHash> = hashes.iter().collect();
        for part in hashes.chunks(BATCH_CHUNKS) {
            let mut ops = Vec::with_capacity(part.len());
            for hash in part {
                let key = entry::chunk_key(hash);
                let Some(value) = self.index.get(&key)? else {
                    continue;
                };
                let mut chunk = ChunkEntry::decode(&value)?;
                chunk.refs = chunk.refs.saturating_add_signed(by);
                ops.push((key, Some(chunk.encode())));
            }
            self.index.apply(ops)?;
        }
        Ok(())
    }

    /// The end of a rebuild: what needs the manifests of all files.
    fn count_references(&mut self) -> Result<(), StoreError> {
        let mut files = Vec::new();
        self.index.scan(entry::FILE_PREFIX, &mut |_, value| {
            files.push(FileValue::decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        files.retain(|file| file.entry.state == FileState::Complete);
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
