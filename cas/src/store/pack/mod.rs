//! Pack files: append-only runs of framed records, and the only place that knows their format.
//!
//! Packs are the truth of the store: the index can be rebuilt from them. A record is written once; later
//! only its state byte changes (live to dead), and the blocks of a dead payload are given back.

mod manage;
mod record;
mod scan;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::medium::{Medium, PackFile};
use super::{lock, unix_ms};
use crate::error::StoreError;

pub(crate) use record::{PACK_HEADER_BYTES, RecordKind};
pub(crate) use scan::{Scanned, Verify};

/// Most pack files kept open for reading: well below the usual limit of 1,024 descriptors a process.
const MAX_OPEN_FILES: usize = 128;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Location {
    pub(crate) pack: u32,
    /// Of the record's header.
    pub(crate) offset: u64,
    /// Of the payload.
    pub(crate) len_bytes: u32,
}

/// The packs with bytes that were written and perhaps not synced, and how far each was written.
pub(crate) struct SyncPoint(Vec<(u32, Arc<dyn PackFile>, u64)>);

struct Active {
    /// The pack that is appended to; none until the first append.
    pack: Option<(u32, Arc<dyn PackFile>)>,
    end: u64,
    next_id: u32,
    dirty: BTreeMap<u32, (Arc<dyn PackFile>, u64)>,
}

/// Whether reading failed because the bytes are gone, which trying again would not change.
fn is_loss(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    ) || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// All packs of a store. Appends take turns; reads never wait for them.
pub(crate) struct Packs {
    medium: Arc<dyn Medium>,
    store_id: [u8; 16],
    /// A pack that has reached this size is not appended to any more.
    pack_bytes: u64,
    active: Mutex<Active>,
    open: Mutex<HashMap<u32, Arc<dyn PackFile>>>,
}

impl Packs {
    /// Takes the packs of a medium into use. Appends go to a new pack until [`Packs::resume`].
    pub(crate) fn open(
        medium: Arc<dyn Medium>,
        store_id: [u8; 16],
        pack_bytes: u64,
    ) -> Result<Self, StoreError> {
        let active = Active {
            pack: None,
            end: 0,
            next_id: 0,
            dirty: BTreeMap::new(),
        };
        let packs = Self {
            medium,
            store_id,
            pack_bytes,
            active: Mutex::new(active),
            open: Mutex::new(HashMap::new()),
        };
        let ids = packs.ids()?;
        lock(&packs.active).next_id = ids.last().map_or(0, |last| last.saturating_add(1));
        for id in ids {
            packs.check_header(id)?;
        }
        Ok(packs)
    }

    fn store_id(&self) -> &[u8; 16] {
        &self.store_id
    }

    fn error(&self, action: &'static str, source: io::Error) -> StoreError {
        StoreError::Io {
            action,
            path: self.medium.path(),
            source,
        }
    }

    /// The numbers of all packs, ascending: the order in which they were written.
    pub(crate) fn ids(&self) -> Result<Vec<u32>, StoreError> {
        self.medium.ids().map_err(|error| self.error("list", error))
    }

    /// A header cut short by a crash is completed; a damaged one is only reported, since the store and
    /// the file name say the same. A newer version is refused before anything is changed.
    fn check_header(&self, id: u32) -> Result<(), StoreError> {
        let file = self.file(id)?;
        let len = file.len().map_err(|error| self.error("measure", error))?;
        if len < PACK_HEADER_BYTES {
            let header = record::encode_pack_header(&self.store_id, id, unix_ms());
            let written = file.write_at(&header, 0).and_then(|()| file.sync());
            return written.map_err(|error| self.error("complete", error));
        }
        let mut bytes = [0u8; 64];
        let read = file.read_at(&mut bytes, 0);
        match read
            .ok()
            .and_then(|()| record::decode_pack_header(&bytes, &self.store_id, id))
        {
            Some(found) if found > record::VERSION => Err(StoreError::NewerVersion {
                found,
                known: record::VERSION,
            }),
            Some(_) => Ok(()),
            None => {
                tracing::warn!(
                    pack = id,
                    "damaged pack header; its records are checked one by one"
                );
                Ok(())
            }
        }
    }

    /// Appends to `pack` from `end` on, if it has room; whatever is behind `end` is cut off.
    pub(crate) fn resume(&self, pack: u32, end: u64) -> Result<(), StoreError> {
        let file = self.file(pack)?;
        let len = file.len().map_err(|error| self.error("measure", error))?;
        if len > end {
            let cut = file.set_len(end).and_then(|()| file.sync());
            cut.map_err(|error| self.error("cut the torn end of", error))?;
        }
        let mut active = lock(&self.active);
        if end < self.pack_bytes {
            active.pack = Some((pack, file));
            active.end = end;
        }
        Ok(())
    }

    /// Bytes in pack `id`.
    pub(crate) fn len(&self, id: u32) -> Result<u64, StoreError> {
        let file = self.file(id)?;
        file.len().map_err(|error| self.error("measure", error))
    }

    /// Syncs one pack.
    pub(crate) fn sync_pack(&self, id: u32) -> Result<(), StoreError> {
        let file = self.file(id)?;
        file.sync().map_err(|error| self.error("sync", error))
    }

    fn file(&self, id: u32) -> Result<Arc<dyn PackFile>, StoreError> {
        if let Some(file) = lock(&self.open).get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = self
            .medium
            .open(id)
            .map_err(|error| self.error("open a pack in", error))?;
        self.remember(id, &file);
        Ok(file)
    }

    fn remember(&self, id: u32, file: &Arc<dyn PackFile>) {
        let mut open = lock(&self.open);
        if open.len() >= MAX_OPEN_FILES
            && let Some(victim) = open.keys().next().copied()
        {
            // Any one will do: readers keep their own handle.
            open.remove(&victim);
        }
        open.insert(id, Arc::clone(file));
    }

    /// Appends a record. Its bytes can be read at once; they survive a crash after a sync only.
    ///
    /// `hash` must be the BLAKE3 of `payload`.
    pub(crate) fn append(
        &self,
        kind: RecordKind,
        hash: &[u8; 32],
        payload: &[u8],
    ) -> Result<Location, StoreError> {
        let len_bytes = u32::try_from(payload.len()).map_err(|_| StoreError::ChunkLength {
            len_bytes: payload.len(),
        })?;
        let mut active = lock(&self.active);
        let (pack, file) = self.writable(&mut active)?;
        let at = Location {
            pack,
            offset: active.end,
            len_bytes,
        };
        let header = record::encode_record_header(kind, hash, at, &self.store_id);
        let written = file
            .write_at(&header, at.offset)
            .and_then(|()| file.write_at(payload, at.payload_offset()));
        if let Err(error) = written {
            // Give back what a full disk let through; if that fails too, the next append overwrites it.
            let _ = file.set_len(at.offset);
            return Err(self.error("append to a pack in", error));
        }
        active.end = at.next_offset();
        let end = active.end;
        active.dirty.insert(pack, (file, end));
        Ok(at)
    }

    fn writable(&self, active: &mut Active) -> Result<(u32, Arc<dyn PackFile>), StoreError> {
        if let Some((id, file)) = &active.pack
            && active.end < self.pack_bytes
        {
            return Ok((*id, Arc::clone(file)));
        }
        let id = active.next_id;
        let header = record::encode_pack_header(&self.store_id, id, unix_ms());
        let created = self.medium.create(id, &header);
        // Also after a failure: the number may be taken by a file that was not completed.
        active.next_id = id.saturating_add(1);
        let file = created.map_err(|error| self.error("create a pack in", error))?;
        self.remember(id, &file);
        active.pack = Some((id, Arc::clone(&file)));
        active.end = PACK_HEADER_BYTES;
        Ok((id, file))
    }

    /// What must be synced to make everything appended so far durable.
    pub(crate) fn sync_point(&self) -> SyncPoint {
        let dirty = std::mem::take(&mut lock(&self.active).dirty);
        SyncPoint(
            dirty
                .into_iter()
                .map(|(id, (file, end))| (id, file, end))
                .collect(),
        )
    }

    /// Syncs; afterwards each pack of the point is durable up to the length returned.
    pub(crate) fn sync(&self, point: &SyncPoint) -> Result<Vec<(u32, u64)>, StoreError> {
        let sync_one = |(id, file, end): &(u32, Arc<dyn PackFile>, u64)| {
            file.sync().map_err(|error| self.error("sync", error))?;
            Ok((*id, *end))
        };
        point.0.iter().map(sync_one).collect()
    }

    /// Reads a payload. The caller checks it against its hash.
    pub(crate) fn read(&self, at: Location) -> Result<Bytes, StoreError> {
        let file = self.file(at.pack)?;
        let mut payload = vec![0u8; at.len_bytes as usize];
        let read = file.read_at(&mut payload, at.payload_offset());
        read.map_err(|error| self.error("read a pack in", error))?;
        Ok(payload.into())
    }

    /// Like [`Packs::read`]; `None` when the medium has lost the bytes.
    pub(crate) fn read_if_there(&self, at: Location) -> Result<Option<Bytes>, StoreError> {
        match self.read(at) {
            Err(StoreError::Io { path, source, .. }) if is_loss(&source) => {
                tracing::warn!(path = %path.display(), pack = at.pack, error = %source, "a record is lost");
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Marks records dead, durably, and then gives their blocks back.
    ///
    /// The index must have forgotten them, durably, before this is called.
    pub(crate) fn free(&self, records: &[Location]) -> Result<(), StoreError> {
        let mut by_pack: BTreeMap<u32, Vec<Location>> = BTreeMap::new();
        for at in records {
            by_pack.entry(at.pack).or_default().push(*at);
        }
        for (pack, records) in by_pack {
            let file = match self.file(pack) {
                // Someone deleted the pack: nothing in it is left to free.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(pack, "a pack is gone");
                    continue;
                }
                file => file?,
            };
            self.free_in(file.as_ref(), &records)
                .map_err(|error| self.error("free", error))?;
        }
        Ok(())
    }

    fn free_in(&self, file: &dyn PackFile, records: &[Location]) -> io::Result<()> {
        for at in records {
            let (offset, mark) = at.death_mark();
            file.write_at(&mark, offset)?;
        }
        file.sync()?;
        for at in records {
            let blocks = at.blocks();
            if !blocks.is_empty() {
                file.punch(blocks)?;
            }
        }
        Ok(())
    }

    /// What to call the packs in a message.
    pub(crate) fn path(&self) -> PathBuf {
        self.medium.path()
    }

    /// Bytes the packs occupy.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.medium.disk_bytes()
    }
}
