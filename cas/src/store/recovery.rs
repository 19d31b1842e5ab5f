//! Bringing the index up to what the packs hold: after a crash, or from nothing.
//!
//! Every pack has a checkpoint in the index: up to there it was durable and indexed. What is behind it is
//! walked, verified and adopted; the torn end of the last pack is cut off. Without any checkpoint the
//! index is new or lost, and all packs are walked; references are then counted anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::core::BATCH_CHUNKS;
use super::entry::{self, ChunkEntry, FileEntry, FileState, INLINE_BYTES, ManifestEntry, Totals};
use super::index::{Index, MAX_BATCH_KEYS, Op};
use super::listing::read_listing;
use super::pack::{Location, PACK_HEADER_BYTES, Packs, RecordKind, Scanned, Verify};
use crate::error::{IndexError, StoreError};
use crate::id::{Address, ChunkHash, ManifestId};
use crate::manifest::Manifest;

/// Checks that all of the index can be read and that its counters agree with its entries.
pub(crate) fn check_index(index: &dyn Index) -> Result<(), IndexError> {
    let mut counted = Totals::default();
    index.scan(&[], &mut |key, value| {
        match key.split_first() {
            Some((b'c', _)) => {
                entry::chunk_of_key(key)?;
                let chunk = ChunkEntry::decode(value)?;
                if !chunk.bad {
                    counted.add(&chunk);
                }
            }
            Some((b'f', _)) => drop(FileEntry::decode(value)?),
            Some((b'm', _)) => drop(ManifestEntry::decode(value)?),
            Some((b'p', _)) => drop((entry::pack_of_key(key)?, entry::decode_checkpoint(value)?)),
            Some((b'q', [])) => drop(Totals::decode(value)?),
            _ => return Err(IndexError::Malformed),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if read_totals(index)? == counted {
        Ok(())
    } else {
        Err(IndexError::Malformed)
    }
}

fn read_totals(index: &dyn Index) -> Result<Totals, IndexError> {
    let value = index.get(&entry::totals_key())?;
    value
        .as_deref()
        .map_or(Ok(Totals::default()), Totals::decode)
}

/// Adopts what the index does not know; returns the counters.
pub(crate) fn recover(index: &Arc<dyn Index>, packs: &Packs) -> Result<Totals, StoreError> {
    let ids = packs.ids()?;
    let mut checkpoints = HashMap::new();
    index.scan(entry::PACK_PREFIX, &mut |key, value| {
        checkpoints.insert(entry::pack_of_key(key)?, entry::decode_checkpoint(value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    let rebuild = checkpoints.is_empty() && !ids.is_empty();
    if rebuild {
        tracing::warn!(packs = ids.len(), "no index: building it from the packs");
    }
    let mut adopter = Adopter {
        index: index.as_ref(),
        packs,
        rebuild,
        totals: read_totals(index.as_ref())?,
        batch: BTreeMap::new(),
        manifests: HashMap::new(),
        checkpoints: Vec::new(),
        adopted: 0,
    };
    for id in &ids {
        let is_last = ids.last() == Some(id);
        adopter.walk(*id, checkpoints.get(id).copied(), is_last)?;
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
    Ok(adopter.totals)
}

struct Adopter<'a> {
    index: &'a dyn Index,
    packs: &'a Packs,
    rebuild: bool,
    totals: Totals,
    /// Chunks waiting to be written to the index.
    batch: BTreeMap<ChunkHash, ChunkEntry>,
    /// Manifest records met, until a file entry says whose they are.
    manifests: HashMap<ManifestId, Location>,
    /// Of a rebuild, in the order of the packs; written when all is done.
    checkpoints: Vec<Op>,
    adopted: u64,
}

impl Adopter<'_> {
    fn walk(
        &mut self,
        pack: u32,
        checkpoint: Option<u64>,
        is_last: bool,
    ) -> Result<(), StoreError> {
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
            return if is_last {
                self.packs.resume(pack, from)
            } else {
                Ok(())
            };
        }
        let packs = self.packs;
        // What is adopted must not be lost again: it may be in the page cache only.
        packs.sync_pack(pack)?;
        let verify = if self.rebuild && !is_last {
            Verify::Headers
        } else {
            Verify::Payloads
        };
        let found = packs.scan(pack, from, verify, &mut |record| self.adopt(record))?;
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
        if is_last {
            packs.resume(pack, end)?;
        }
        self.checkpoints
            .push((entry::pack_key(pack), Some(entry::encode_checkpoint(end))));
        // A rebuild that is cut off must begin anew, or nobody would count the references.
        if self.rebuild {
            Ok(())
        } else {
            self.write_checkpoints()
        }
    }

    /// In the order of the packs: whatever is walked again after a crash then ends in the newest state.
    fn write_checkpoints(&mut self) -> Result<(), StoreError> {
        for part in std::mem::take(&mut self.checkpoints).chunks(MAX_BATCH_KEYS) {
            self.index.apply(part.to_vec())?;
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
                self.manifests
                    .insert(ManifestId::from_bytes(record.hash), record.at);
                Ok(())
            }
            (RecordKind::File, Some(payload)) => match FileEntry::decode(&payload) {
                Ok(file) => self.adopt_file(&file),
                Err(_) => Ok(()),
            },
            (RecordKind::Tombstone, Some(payload)) => {
                match <[u8; 32]>::try_from(payload.as_ref()) {
                    Ok(address) => self.adopt_removal(&Address::from_bytes(address)),
                    Err(_) => Ok(()),
                }
            }
            (RecordKind::File | RecordKind::Tombstone, None) => Ok(()),
        }
    }

    /// The newest record of a chunk counts: a second one was written because the first was bad.
    fn adopt_chunk(
        &mut self,
        hash: ChunkHash,
        at: Location,
        inline: Option<bytes::Bytes>,
    ) -> Result<(), StoreError> {
        let refs = match self.batch.get(&hash) {
            Some(old) => {
                self.totals.remove(old);
                old.refs
            }
            None => {
                let old = self.index.get(&entry::chunk_key(&hash))?;
                let old = old.as_deref().map(ChunkEntry::decode).transpose()?;
                if let Some(old) = old.as_ref().filter(|old| !old.bad) {
                    self.totals.remove(old);
                }
                // A rebuild counts from nothing, whatever an earlier one that was cut off has counted.
                old.filter(|_| !self.rebuild).map_or(0, |old| old.refs)
            }
        };
        let chunk = ChunkEntry {
            at,
            refs,
            bad: false,
            inline,
        };
        self.totals.add(&chunk);
        self.batch.insert(hash, chunk);
        if self.batch.len() >= BATCH_CHUNKS {
            self.write_batch()
        } else {
            Ok(())
        }
    }

    fn write_batch(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let mut ops: Vec<Op> = batch
            .iter()
            .map(|(hash, chunk)| (entry::chunk_key(hash), Some(chunk.encode())))
            .collect();
        ops.push((entry::totals_key(), Some(self.totals.encode())));
        Ok(self.index.apply(ops)?)
    }

    /// The order of [`super::files`]: references before the entry, and dropped after it, so that a crash
    /// in between leaves them too high and never too low.
    fn adopt_file(&mut self, file: &FileEntry) -> Result<(), StoreError> {
        self.write_batch()?;
        let old = self.file(&file.address)?;
        if let Some(at) = self.manifests.remove(&file.manifest) {
            // What is damaged is indexed too, without a copy: reading it says so.
            let bytes = self.packs.read_if_there(at)?;
            let inline = bytes.filter(|bytes| bytes.len() <= INLINE_BYTES);
            let value = ManifestEntry {
                address: file.address,
                at,
                inline,
            }
            .encode();
            self.index
                .apply(vec![(entry::manifest_key(&file.manifest), Some(value))])?;
        }
        let same = old.as_ref().filter(|old| old.manifest == file.manifest);
        let mut file = file.clone();
        if same.is_none_or(|old| old.state != FileState::Complete) {
            match self.counted_chunks(&file)? {
                Some(add) => self.change_references(&add, 1)?,
                None => file.state = FileState::Partial,
            }
        }
        let replaced = old.as_ref().filter(|old| old.manifest != file.manifest);
        let drop_refs = replaced.map(|old| self.counted_chunks(old)).transpose()?;
        let drop_refs = drop_refs.flatten().unwrap_or_default();
        let mut ops = vec![(entry::file_key(&file.address), Some(file.encode()))];
        ops.extend(replaced.map(|old| (entry::manifest_key(&old.manifest), None)));
        self.index.apply(ops)?;
        self.change_references(&drop_refs, -1)
    }

    fn adopt_removal(&mut self, address: &Address) -> Result<(), StoreError> {
        self.write_batch()?;
        let Some(old) = self.file(address)? else {
            return Ok(());
        };
        let drop_refs = self.counted_chunks(&old)?.unwrap_or_default();
        self.index.apply(vec![
            (entry::file_key(address), None),
            (entry::manifest_key(&old.manifest), None),
        ])?;
        self.change_references(&drop_refs, -1)
    }

    fn file(&self, address: &Address) -> Result<Option<FileEntry>, StoreError> {
        let value = self.index.get(&entry::file_key(address))?;
        Ok(value.as_deref().map(FileEntry::decode).transpose()?)
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
        let value = self.index.get(&entry::manifest_key(&file.manifest))?;
        let entry = value.as_deref().map(ManifestEntry::decode).transpose()?;
        let bytes = entry.map(|entry| read_listing(self.packs, &file.manifest, entry));
        let bytes = bytes.transpose()?.flatten();
        let manifest = bytes.and_then(|bytes| Manifest::decode_for(&file.address, &bytes).ok());
        if manifest.is_none() {
            tracing::warn!(address = %file.address, "a file's manifest is lost or damaged");
        }
        Ok(manifest.as_ref().map(super::files::distinct))
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

    fn count_references(&self) -> Result<(), StoreError> {
        let mut files = Vec::new();
        self.index.scan(entry::FILE_PREFIX, &mut |_, value| {
            files.push(FileEntry::decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        for file in files
            .iter()
            .filter(|file| file.state == FileState::Complete)
        {
            if let Some(chunks) = self.chunks_of(file)? {
                self.change_references(&chunks, 1)?;
                continue;
            }
            let partial = FileEntry {
                state: FileState::Partial,
                ..file.clone()
            };
            self.index.apply(vec![(
                entry::file_key(&file.address),
                Some(partial.encode()),
            )])?;
        }
        Ok(())
    }
}
