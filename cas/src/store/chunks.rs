//! Chunks: put, find, get.

use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;

use super::clones::is_clone;
use super::core::Core;
use super::entry::{self, ChunkEntry, Extent, INLINE_BYTES, Place};
use super::flush::Extra;
use super::lent::Lent;
use super::pack::{Location, RecordKind};
use super::{Put, Store, lock};
use crate::chunker::MAX_CHUNK_BYTES;
use crate::error::StoreError;
use crate::id::ChunkHash;

/// Chunks that may wait for a commit; one more, and `put` commits by itself. Bounds the memory of a
/// caller that never commits.
const MAX_PENDING: usize = 16_384;

/// How often room is made for a chunk that others take away again.
const ROOM_ATTEMPTS: usize = 64;

/// How often a read looks again when the chunk moved while it was read.
const READ_ATTEMPTS: usize = 3;

/// A chunk that was appended and is not in the index yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) at: Location,
    pub(super) inline: Option<Bytes>,
}

#[derive(Default)]
pub(super) struct Writer {
    /// Appended since the last commit, in order.
    pub(super) queue: Vec<ChunkHash>,
    /// Chunks ever appended.
    pub(super) appended: u64,
}

/// Where a chunk was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Pack { at: Location, inline: Option<Bytes> },
    Source(Extent),
    Lent(Lent),
}

/// The bytes of all chunks but the store's own.
fn bytes_of_others(chunks: &[(ChunkHash, &[u8])], are_own: &[bool]) -> u64 {
    let others = chunks.iter().zip(are_own).filter(|(_, is_own)| !**is_own);
    others.map(|((_, bytes), _)| bytes.len() as u64).sum()
}

impl Core {
    pub(super) fn locate(&self, hash: &ChunkHash) -> Result<Option<Found>, StoreError> {
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Pending { at, inline }) = pending.get(hash).cloned() {
            return Ok(Some(Found::Pack { at, inline }));
        }
        drop(pending);
        if let Some(chunk) = self.indexed(hash)?.filter(|entry| !entry.bad) {
            return Ok(Some(match chunk.place {
                Place::Pack(at) => Found::Pack {
                    at,
                    inline: chunk.inline,
                },
                Place::Source(extent) => Found::Source(extent),
            }));
        }
        let lent = self.lent.read().unwrap_or_else(PoisonError::into_inner);
        Ok(lent.get(hash).cloned().map(Found::Lent))
    }

    /// Which of these chunks were appended, or are in the index at a place that counts.
    fn are_here(
        &self,
        hashes: &[ChunkHash],
        counts: impl Fn(Place) -> bool,
    ) -> Result<Vec<bool>, StoreError> {
        // Before the index: what is no longer pending afterwards is there.
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        let is_pending = hashes.iter().map(|hash| pending.contains_key(hash));
        let mut here: Vec<bool> = is_pending.collect();
        drop(pending);
        for (is_here, entry) in here.iter_mut().zip(self.chunk_entries(hashes)?) {
            *is_here |= entry.is_some_and(|entry| !entry.bad && counts(entry.place));
        }
        Ok(here)
    }

    /// Which of these chunks are in the packs or in a clone: bytes that nobody but the store can change.
    fn are_own(&self, hashes: &[ChunkHash]) -> Result<Vec<bool>, StoreError> {
        self.are_here(hashes, |place| place.source().is_none_or(is_clone))
    }

    /// The same as [`Store::has`] for each of these.
    pub(super) fn has_each(&self, hashes: &[ChunkHash]) -> Result<Vec<bool>, StoreError> {
        let mut here = self.are_here(hashes, |_| true)?;
        let lent = self.lent.read().unwrap_or_else(PoisonError::into_inner);
        for (is_here, hash) in here.iter_mut().zip(hashes) {
            *is_here |= lent.contains_key(hash);
        }
        Ok(here)
    }

    /// Bytes of those of these chunks that are not here; each is named once.
    pub(super) fn missing_bytes(&self, chunks: &[(ChunkHash, &[u8])]) -> Result<u64, StoreError> {
        let hashes: Vec<ChunkHash> = chunks.iter().map(|(hash, _)| *hash).collect();
        Ok(bytes_of_others(chunks, &self.are_own(&hashes)?))
    }

    fn read_found(&self, hash: &ChunkHash, found: &Found) -> Result<Option<Bytes>, StoreError> {
        let matches = |bytes: &Bytes| ChunkHash::of(bytes) == *hash;
        let bytes = match found {
            Found::Pack { at, inline } => match inline.clone().filter(matches) {
                Some(bytes) => return Ok(Some(bytes)),
                None => self.packs.read(*at)?,
            },
            Found::Source(extent) => self.read_source(*extent)?,
            Found::Lent(lent) => {
                let mut bytes = self.packs.buffers.take(lent.len_bytes as usize);
                match lent.file.read_exact_at(&mut bytes, lent.offset) {
                    Ok(()) => bytes.freeze(),
                    Err(_) => return Ok(None),
                }
            }
        };
        Ok(matches(&bytes).then_some(bytes))
    }

    pub(crate) fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, StoreError> {
        for _ in 0..READ_ATTEMPTS {
            let Some(found) = self.locate(hash)? else {
                return Ok(None);
            };
            let read = self.read_found(hash, &found);
            if let Ok(Some(bytes)) = read {
                return Ok(Some(bytes));
            }
            // Damaged, or removed and perhaps stored anew while it was read.
            if self.locate(hash)?.as_ref() != Some(&found) {
                continue;
            }
            match read {
                Err(error) if error.is_loss() => {
                    tracing::warn!(%hash, %error, "stored chunk cannot be read");
                }
                // Not being able to read just now says nothing about the bytes.
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            let noted = match found {
                Found::Pack { at, .. } => self.mark_bad(hash, Place::Pack(at)).map(drop),
                Found::Source(extent) => self.distrust_source(hash, extent),
                Found::Lent(lent) => {
                    self.forget_lent(hash, &lent);
                    continue;
                }
            };
            if let Err(error) = noted {
                tracing::warn!(%hash, %error, "damaged chunk cannot be marked");
            }
            return Err(StoreError::Corrupt { hash: *hash });
        }
        Ok(None)
    }

    /// Makes a damaged chunk count as absent, unless it was replaced in the meantime. Whether it did.
    pub(super) fn mark_bad(&self, hash: &ChunkHash, place: Place) -> Result<bool, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let Some(old) = self
            .indexed(hash)?
            .filter(|entry| !entry.bad && entry.place == place)
        else {
            return Ok(false);
        };
        let new = ChunkEntry {
            bad: true,
            inline: None,
            ..old.clone()
        };
        committed.ledger.chunk(Some(&old), Some(&new));
        let op = (entry::chunk_key(hash), Some(new.encode()));
        self.apply_counted(&mut committed, vec![op])?;
        Ok(true)
    }

    /// Appends those of these chunks that are not here, and adds them to `new`, also when not all can be; each is named
    /// once.
    pub(super) fn put_all(
        &self,
        chunks: &[(ChunkHash, &[u8])],
        new: &mut Vec<ChunkHash>,
    ) -> Result<(), StoreError> {
        for (hash, bytes) in chunks {
            debug_assert_eq!(*hash, ChunkHash::of(bytes), "put of unverified bytes");
            if bytes.is_empty() || bytes.len() > MAX_CHUNK_BYTES as usize {
                return Err(StoreError::ChunkLength {
                    len_bytes: bytes.len(),
                });
            }
        }
        let hashes: Vec<ChunkHash> = chunks.iter().map(|(hash, _)| *hash).collect();
        let appended = lock(&self.writer).appended;
        let mut are_own = self.are_own(&hashes)?;
        if are_own.iter().all(|is_own| *is_own) {
            return Ok(());
        }
        self.check_writable()?;
        let mut writer = self.turn_to_append(bytes_of_others(chunks, &are_own))?;
        // Another thread may have put some while this one waited.
        if writer.appended != appended {
            are_own = self.are_own(&hashes)?;
        }
        for ((hash, bytes), is_own) in chunks.iter().zip(are_own) {
            if is_own {
                continue;
            }
            let at = self.append(RecordKind::Chunk, hash.as_bytes(), bytes)?;
            let inline = (bytes.len() <= INLINE_BYTES).then(|| Bytes::copy_from_slice(bytes));
            let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
            pending.insert(*hash, Pending { at, inline });
            drop(pending);
            writer.queue.push(*hash);
            writer.appended += 1;
            new.push(*hash);
        }
        let is_full = writer.queue.len() >= MAX_PENDING;
        drop(writer);
        match is_full {
            true => self.commit(),
            false => Ok(()),
        }
    }

    /// Waits for the turn to append `len_bytes`, and for room. Others may take what room was made, and
    /// more can be made then.
    fn turn_to_append(&self, len_bytes: u64) -> Result<MutexGuard<'_, Writer>, StoreError> {
        for _ in 1..ROOM_ATTEMPTS {
            self.room_for_chunk(len_bytes)?;
            let writer = lock(&self.writer);
            let unwritten_bytes = self.packs.unwritten_bytes();
            match self.space.check_append(len_bytes, unwritten_bytes) {
                Err(StoreError::OverQuota { .. }) => {}
                checked => return checked.map(|()| writer),
            }
        }
        Err(self.space.over_quota(len_bytes))
    }
}

impl Store {
    /// Whether the chunk is here, as far as is known: a chunk that was found damaged is not.
    ///
    /// # Errors
    /// When the index fails.
    pub fn has(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        Ok(self.core.locate(hash)?.is_some())
    }

    /// Whether the chunk is in bytes that nobody but the store can change: neither lent nor in a file kept in place.
    /// Whoever needs it whatever becomes of the files of others puts it.
    ///
    /// # Errors
    /// When the index fails.
    pub fn has_own(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        Ok(match self.core.locate(hash)? {
            Some(Found::Pack { .. }) => true,
            Some(Found::Source(extent)) => is_clone(extent.source),
            Some(Found::Lent(_)) | None => false,
        })
    }

    /// The chunk's bytes, verified against the hash on every read.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the stored bytes are not the chunk's: it counts as absent from then
    /// on, and a put of the right bytes heals it.
    pub fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, StoreError> {
        self.core.get(hash)
    }

    /// Has these chunks read ahead, behind the caller: a sequential reader says what comes next. Only a
    /// hint.
    pub fn will_need(&self, hashes: &[ChunkHash]) {
        let place = |hash| match self.core.locate(hash) {
            Ok(Some(Found::Pack { at, inline: None })) => Some(at),
            _ => None,
        };
        let mut places: Vec<Location> = hashes.iter().filter_map(place).collect();
        places.sort_unstable_by_key(|at| (at.pack, at.offset));
        self.core.packs.will_need(&places);
    }

    /// Gives memory back that reading had no use for since the last call: for a caller that calls it now and
    /// then.
    pub fn trim_memory(&self) {
        self.core.packs.buffers.trim();
    }

    /// Appends a chunk, unless it is here. It can be read at once, and survives a crash only after a
    /// [`Store::commit`] that began later. The caller has verified the bytes.
    ///
    /// A chunk that no file, unfinished download or running import lists stays until it is named to
    /// [`Store::drop_unreferenced`], or until [`Store::drop_orphans`].
    ///
    /// # Errors
    /// [`StoreError::ChunkLength`], [`StoreError::NoSpace`], or what the medium says.
    pub fn put(&self, hash: &ChunkHash, bytes: &[u8]) -> Result<Put, StoreError> {
        let mut new = Vec::new();
        self.core.put_all(&[(*hash, bytes)], &mut new)?;
        Ok(match new.is_empty() {
            true => Put::Known,
            false => Put::New,
        })
    }

    /// Returns when everything put before the call survives a power cut. Concurrent commits share the
    /// work.
    ///
    /// # Errors
    /// After a failure nothing put since the last success is acknowledged; if a sync failed, the store
    /// takes no more writes until it is opened again.
    pub fn commit(&self) -> Result<(), StoreError> {
        self.core.commit()
    }

    /// Visits every committed chunk with its length in bytes, until told to stop.
    ///
    /// # Errors
    /// When the index fails.
    pub fn for_each_chunk(
        &self,
        visit: impl FnMut(&ChunkHash, u32) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.for_each_chunk_from(0, visit)
    }

    /// The same, in order, from the first hash on that begins with this byte or a greater one. To meet all chunks in one
    /// pass takes far less than to ask for each.
    ///
    /// # Errors
    /// When the index fails.
    pub fn for_each_chunk_from(
        &self,
        first_byte: u8,
        mut visit: impl FnMut(&ChunkHash, u32) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let start = [entry::CHUNK_PREFIX, &[first_byte]].concat();
        let scanned = self
            .core
            .index
            .scan_from(entry::CHUNK_PREFIX, &start, &mut |key, value| {
                let hash = entry::chunk_of_key(key)?;
                let entry = ChunkEntry::decode(value)?;
                Ok(if entry.bad {
                    ControlFlow::Continue(())
                } else {
                    visit(&hash, entry.len_bytes())
                })
            });
        self.core.noting(scanned)
    }
}
