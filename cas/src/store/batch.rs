//! Many small files with one commit.
//!
//! Two syncs for any number of them: chunks and manifests first, then the entries. So an entry that is on
//! the medium has its chunk and its manifest there, whatever a power cut tore off: a rebuild finds some of
//! the files of a batch that was not acknowledged, each of them whole. What a file adds to the index
//! (entry, manifest, chunk with its reference) is in one batch of it, so no reference is counted too low.

use std::ops::ControlFlow;

use super::core::{Committed, Core};
use super::entry::{
    self, ChunkEntry, Claim, FileEntry, FileState, FileValue, INLINE_BYTES, ManifestEntry,
};
use super::files::valid_name;
use super::flush::Extra;
use super::index::{MAX_BATCH_KEYS, Op};
use super::pack::{Location, RecordKind};
use super::small::AddedFile;
use super::{lock, unix_ms};
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::manifest::Manifest;

/// What a file takes beside its chunk, at most: entry with a name, manifest of one chunk, index.
const RECORDS_BYTES: u64 = 2048;

/// Files of one batch of the index: each has a chunk, a manifest, an entry and perhaps a tombstone.
const BATCH_FILES: usize = (MAX_BATCH_KEYS - 16) / 4;

/// A file to enter, whose chunk was put and is held.
pub(super) struct Entering<'a> {
    pub(super) manifest: Manifest,
    pub(super) name: Option<&'a str>,
}

/// An entry to write, and what it stands for.
struct Change<'a> {
    entry: FileEntry,
    /// The record in whose place it comes.
    old: Option<Location>,
    /// Of a file that was not here.
    new: Option<&'a Manifest>,
    listing: Option<ManifestEntry>,
    chunk: Option<Referred>,
}

/// The chunk of a file that was not here, and what its entry becomes with one more reference.
struct Referred {
    hash: ChunkHash,
    old: Option<ChunkEntry>,
    new: ChunkEntry,
}

/// What the index is to be told of one file.
pub(super) struct Entered {
    value: FileValue,
    old: Option<Location>,
    listing: Option<ManifestEntry>,
    chunk: Option<Referred>,
    tombstone: Option<Location>,
}

/// What becomes of each file that is whole then, and what is to be written.
type Planned<'a> = (Vec<Option<AddedFile>>, Vec<Change<'a>>);

/// The entry of a file that was not here.
fn new_entry(file: &Entering<'_>, claim: Claim) -> FileEntry {
    let (manifest, stored_unix_ms) = (&file.manifest, unix_ms());
    FileEntry {
        address: manifest.address(),
        name: valid_name(file.name),
        size_bytes: manifest.size_bytes(),
        chunk_count: manifest.chunk_count(),
        manifest: manifest.id(),
        stored_unix_ms,
        last_used_unix_ms: stored_unix_ms,
        claim,
        directory: false,
        state: FileState::Complete,
        source: None,
    }
}

impl Entered {
    /// The chunk of which the index is told with the file.
    pub(super) fn chunk(&self) -> Option<ChunkHash> {
        self.chunk.as_ref().map(|chunk| chunk.hash)
    }
}

impl Core {
    /// Enters files of at most one chunk each, no address twice. Returns those that are whole now, and whether they had no
    /// entry: one that is here otherwise (partial, damaged, in place) is left as it is, and none.
    pub(super) fn enter(
        &self,
        files: &[Entering<'_>],
        claim: Claim,
    ) -> Result<Vec<Option<AddedFile>>, StoreError> {
        self.room_for_records(files.len() as u64 * RECORDS_BYTES)?;
        let mut committed = lock(&self.commit);
        let (entries, mut changes) = self.plan(files, claim)?;
        // Neighbours in the index in one batch of it: each run is written once for all that is in it.
        changes.sort_unstable_by_key(|change| change.entry.address);
        // Before the first sync: what is here now is durable afterwards.
        self.refer(&mut changes)?;
        let mut appended = Vec::new();
        let listed = self.collect_listings(&mut changes, &mut appended);
        self.or_take_back(listed, &appended)?;
        if changes.is_empty() {
            self.flush(&mut committed, Extra::default())?;
            return Ok(entries);
        }
        if !appended.is_empty() {
            self.sync_appended(&mut committed, &appended)?;
        }
        let freed: Vec<Location> = changes.iter().filter_map(|change| change.old).collect();
        let entered = self.collect_entries(changes, &mut appended);
        let entered = self.or_take_back(entered, &appended)?;
        let extra = Extra {
            entered,
            appended,
            ..Extra::default()
        };
        self.flush(&mut committed, extra)?;
        drop(committed);
        if !freed.is_empty() {
            self.packs.free(&freed)?;
        }
        Ok(entries)
    }

    /// What the files' entries become, and what is to be written for them.
    fn plan<'a>(&self, files: &'a [Entering<'_>], claim: Claim) -> Result<Planned<'a>, StoreError> {
        let address = |file: &Entering<'_>| file.manifest.address();
        let keys: Vec<_> = files
            .iter()
            .map(|file| entry::file_key(&address(file)))
            .collect();
        let known = self.values(&keys, FileValue::decode)?;
        let mut here: Vec<Address> = known
            .iter()
            .flatten()
            .map(|old| old.entry.address)
            .collect();
        here.sort_unstable();
        let whole = self.whole_among(&here)?;
        let (mut entries, mut changes) = (Vec::with_capacity(files.len()), Vec::new());
        for (file, old) in files.iter().zip(known) {
            let Some(FileValue { at, entry: old }) = old else {
                let entry = new_entry(file, claim);
                entries.push(Some(AddedFile {
                    entry: entry.clone(),
                    is_new: true,
                }));
                changes.push(Change {
                    entry,
                    old: None,
                    new: Some(&file.manifest),
                    listing: None,
                    chunk: None,
                });
                continue;
            };
            if old.source.is_some() || whole.binary_search(&old.address).is_err() {
                entries.push(None);
                continue;
            }
            let entry = FileEntry {
                claim: old.claim.max(claim),
                name: valid_name(file.name).or_else(|| old.name.clone()),
                ..old.clone()
            };
            if entry != old {
                changes.push(Change {
                    entry: entry.clone(),
                    old: Some(at),
                    new: None,
                    listing: None,
                    chunk: None,
                });
            }
            entries.push(Some(AddedFile {
                entry,
                is_new: false,
            }));
        }
        let known = entries.iter_mut().flatten().filter(|file| !file.is_new);
        self.note_last_uses(known.map(|file| &mut file.entry))?;
        Ok((entries, changes))
    }

    /// Finds the chunks of files that were not here.
    fn refer(&self, changes: &mut [Change<'_>]) -> Result<(), StoreError> {
        let chunk_of = |change: &Change<'_>| Some(change.new?.chunks().first()?.hash);
        let hashes: Vec<ChunkHash> = changes.iter().filter_map(chunk_of).collect();
        let mut known = self.chunk_entries(&hashes)?.into_iter();
        for change in changes {
            let Some(hash) = chunk_of(change) else {
                continue;
            };
            let old = known.next().flatten();
            let appended = self.entry_of_pending(&hash, old.as_ref());
            let here = appended.or_else(|| old.clone().filter(|old| !old.bad));
            let mut new = here.ok_or(StoreError::MissingChunks {
                address: change.entry.address,
                missing: 1,
            })?;
            new.refs = new.refs.saturating_add(1);
            change.chunk = Some(Referred { hash, old, new });
        }
        Ok(())
    }

    fn collect_listings(
        &self,
        changes: &mut [Change<'_>],
        appended: &mut Vec<Location>,
    ) -> Result<(), StoreError> {
        self.space
            .check_metadata(changes.len() as u64 * RECORDS_BYTES)?;
        for change in changes {
            let Some(manifest) = change.new else { continue };
            let bytes = manifest.encode();
            let at = self.collect(RecordKind::Manifest, manifest.id().as_bytes(), bytes)?;
            appended.push(at);
            change.listing = Some(ManifestEntry {
                address: manifest.address(),
                at,
                inline: (bytes.len() <= INLINE_BYTES).then(|| bytes.clone()),
            });
        }
        Ok(())
    }

    /// Chunks and manifests are durable by now.
    fn collect_entries(
        &self,
        changes: Vec<Change<'_>>,
        appended: &mut Vec<Location>,
    ) -> Result<Vec<Entered>, StoreError> {
        let tombstones = self.tombstones(changes.iter().map(|change| &change.entry.address))?;
        let mut entered = Vec::with_capacity(changes.len());
        for (change, tombstone) in changes.into_iter().zip(tombstones) {
            let value = change.entry.encode();
            let at = self.collect(RecordKind::File, blake3::hash(&value).as_bytes(), &value)?;
            appended.push(at);
            entered.push(Entered {
                tombstone,
                chunk: change.chunk,
                value: FileValue {
                    at,
                    entry: change.entry,
                },
                old: change.old,
                listing: change.listing,
            });
        }
        Ok(entered)
    }

    /// The tombstones of these addresses, in their order. Mostly there is none at all, and one look says so.
    fn tombstones<'a>(
        &self,
        addresses: impl Iterator<Item = &'a Address>,
    ) -> Result<Vec<Option<Location>>, StoreError> {
        let keys: Vec<_> = addresses.map(entry::tombstone_key).collect();
        let mut is_there = false;
        let mut visit = |_: &[u8], _: &[u8]| {
            is_there = true;
            Ok(ControlFlow::Break(()))
        };
        self.noting(self.index.scan(entry::TOMBSTONE_PREFIX, &mut visit))?;
        match is_there {
            true => self.values(&keys, entry::decode_location),
            false => Ok(vec![None; keys.len()]),
        }
    }

    /// What the index is told of these files, at most [`BATCH_FILES`]: all of it at once.
    fn entered_ops(committed: &mut Committed, part: Vec<Entered>) -> Vec<Op> {
        let mut ops = Vec::with_capacity(part.len() * 4);
        for file in part {
            let address: Address = file.value.entry.address;
            if let Some(Referred { hash, old, new }) = file.chunk {
                committed.ledger.chunk(old.as_ref(), Some(&new));
                ops.push((entry::chunk_key(&hash), Some(new.encode())));
            }
            if let Some(listing) = file.listing {
                committed.ledger.record(None, Some(listing.at));
                let key = entry::manifest_key(&file.value.entry.manifest);
                ops.push((key, Some(listing.encode())));
            }
            if let Some(at) = file.tombstone {
                committed.ledger.record(Some(at), None);
                ops.push((entry::tombstone_key(&address), None));
            }
            committed.ledger.record(file.old, Some(file.value.at));
            ops.push((entry::file_key(&address), Some(file.value.encode())));
        }
        ops
    }

    /// Indexes what was entered, whose records are durable.
    pub(super) fn index_entered(
        &self,
        committed: &mut Committed,
        entered: Vec<Entered>,
    ) -> Result<(), StoreError> {
        let mut rest = entered.into_iter();
        loop {
            let part: Vec<Entered> = rest.by_ref().take(BATCH_FILES).collect();
            if part.is_empty() {
                return Ok(());
            }
            self.space.check_index()?;
            let ops = Self::entered_ops(committed, part);
            self.apply_counted(committed, ops)?;
        }
    }
}
