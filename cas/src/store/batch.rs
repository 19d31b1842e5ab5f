//! Many small files with one commit.
//!
//! Two syncs for any number of them: chunks and manifests first, then the entries. So an entry that is on
//! the medium has its chunk and its manifest there, whatever a power cut tore off: a rebuild finds some of
//! the files of a batch that was not acknowledged, each of them whole. What a file adds to the index
//! (entry, manifest, reference of its chunk) is in one batch of it, so no reference is counted too low.

use super::core::{Committed, Core, Extra};
use super::entry::{self, Claim, FileEntry, FileState, FileValue, INLINE_BYTES, ManifestEntry};
use super::files::{distinct, valid_name};
use super::index::{MAX_BATCH_KEYS, Op};
use super::pack::{Location, RecordKind};
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
}

/// What the index is to be told of one file.
pub(super) struct Entered {
    value: FileValue,
    old: Option<Location>,
    listing: Option<ManifestEntry>,
    chunk: Option<ChunkHash>,
    tombstone: Option<Location>,
}

impl Core {
    /// Enters files of at most one chunk each, no address twice. Returns the entries of those that are
    /// whole now: one that is here otherwise (partial, damaged, in place) is left as it is, and none.
    pub(super) fn enter(
        &self,
        files: &[Entering<'_>],
        claim: Claim,
    ) -> Result<Vec<Option<FileEntry>>, StoreError> {
        self.room_for_records(files.len() as u64 * RECORDS_BYTES)?;
        let mut committed = lock(&self.commit);
        let mut changes = Vec::new();
        let mut entries = Vec::with_capacity(files.len());
        for file in files {
            entries.push(self.plan(file, claim, &mut changes)?);
        }
        let mut appended = Vec::new();
        let listed = self.collect_listings(&mut changes, &mut appended);
        self.or_take_back(listed, &appended)?;
        let listings = Extra {
            appended: appended.clone(),
            is_first_half: !appended.is_empty(),
            ..Extra::default()
        };
        self.flush(&mut committed, listings)?;
        if changes.is_empty() {
            return Ok(entries);
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

    /// What the file's entry becomes, and what is to be written for it.
    fn plan<'a>(
        &self,
        file: &'a Entering<'_>,
        claim: Claim,
        changes: &mut Vec<Change<'a>>,
    ) -> Result<Option<FileEntry>, StoreError> {
        let manifest = &file.manifest;
        let name = valid_name(file.name);
        let Some(FileValue { at, entry: old }) = self.file_value(&manifest.address())? else {
            let stored_unix_ms = unix_ms();
            let entry = FileEntry {
                address: manifest.address(),
                name,
                size_bytes: manifest.size_bytes(),
                chunk_count: manifest.chunk_count(),
                manifest: manifest.id(),
                stored_unix_ms,
                last_used_unix_ms: stored_unix_ms,
                claim,
                directory: false,
                state: FileState::Complete,
                source: None,
            };
            changes.push(Change {
                entry: entry.clone(),
                old: None,
                new: Some(manifest),
                listing: None,
            });
            return Ok(Some(entry));
        };
        if old.state != FileState::Complete || old.source.is_some() || !self.is_whole(&old)? {
            return Ok(None);
        }
        let entry = FileEntry {
            claim: old.claim.max(claim),
            name: name.or_else(|| old.name.clone()),
            ..old.clone()
        };
        if entry != old {
            changes.push(Change {
                entry: entry.clone(),
                old: Some(at),
                new: None,
                listing: None,
            });
        }
        self.with_last_use(entry).map(Some)
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
        for manifest in changes.iter().filter_map(|change| change.new) {
            self.require_chunks(manifest)?;
        }
        let mut entered = Vec::with_capacity(changes.len());
        for change in changes {
            let value = change.entry.encode();
            let at = self.collect(RecordKind::File, blake3::hash(&value).as_bytes(), &value)?;
            appended.push(at);
            entered.push(Entered {
                tombstone: self.tombstone(&change.entry.address)?,
                chunk: change
                    .new
                    .and_then(|manifest| distinct(manifest).into_iter().next()),
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

    /// What the index is told of these files, at most [`BATCH_FILES`]: all of it at once.
    fn entered_ops(
        &self,
        committed: &mut Committed,
        part: Vec<Entered>,
    ) -> Result<Vec<Op>, StoreError> {
        let chunks: Vec<ChunkHash> = part.iter().filter_map(|file| file.chunk).collect();
        let mut ops = self.reference_ops(&chunks)?;
        for file in part {
            let address: Address = file.value.entry.address;
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
        Ok(ops)
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
            let ops = self.entered_ops(committed, part)?;
            self.apply_counted(committed, ops)?;
        }
    }
}
