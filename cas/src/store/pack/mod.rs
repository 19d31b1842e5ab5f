//! Pack files: append-only runs of framed records, and the only place that knows their format.
//!
//! Packs are the truth of the store: the index can be rebuilt from them. A record is written once; later
//! only its state byte changes (live to dead), dead neighbours become one gap, and blocks of what is dead
//! are given back.

mod append;
mod buffer;
mod free;
mod manage;
mod read;
mod record;
mod scan;

#[cfg(test)]
mod buffer_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use self::append::{Active, Unwritten};
use super::medium::{Medium, PackFile};
use super::pool::{KEPT_BYTES, Pool};
use super::{lock, unix_ms};
use crate::direct::direct_align_bytes;
use crate::error::{StoreError, io_is_loss};

pub(crate) use append::SyncPoint;
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

/// All packs of a store. Appends take turns; reads never wait for them.
pub(crate) struct Packs {
    medium: Arc<dyn Medium>,
    store_id: [u8; 16],
    /// A pack that has reached this size is not appended to any more.
    pack_bytes: u64,
    /// Records are collected up to this before they are written; a multiple of what direct I/O wants.
    buffer_bytes: usize,
    /// What payloads are read into, and what is read from elsewhere.
    pub(in crate::store) buffers: Pool,
    active: Mutex<Active>,
    unwritten: Mutex<Unwritten>,
    open: Mutex<HashMap<u32, Arc<dyn PackFile>>>,
    /// Of each pack that was ever synced, whether that failed: see [`Packs::sync_file`].
    syncs: Mutex<HashMap<u32, Arc<Mutex<bool>>>>,
}

impl Packs {
    /// Takes the packs of a medium into use. Appends go to a new pack until [`Packs::resume`].
    pub(crate) fn open(
        medium: Arc<dyn Medium>,
        store_id: [u8; 16],
        pack_bytes: u64,
    ) -> Result<Self, StoreError> {
        let packs = Self {
            buffers: Pool::new(KEPT_BYTES),
            buffer_bytes: medium.buffer_bytes().next_multiple_of(direct_align_bytes()),
            medium,
            store_id,
            pack_bytes,
            active: Mutex::default(),
            unwritten: Mutex::default(),
            open: Mutex::default(),
            syncs: Mutex::default(),
        };
        let ids = packs.ids()?;
        lock(&packs.active).next_id = ids.last().map_or(0, |last| last.saturating_add(1));
        for id in ids {
            packs.check_header(id)?;
        }
        Ok(packs)
    }

    /// Keeps at most `max_bytes` of unused buffers for reading.
    pub(crate) fn with_kept_buffers(mut self, max_bytes: usize) -> Self {
        self.buffers = Pool::new(max_bytes);
        self
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
        if len < PACK_HEADER_BYTES && self.medium.is_read_only() {
            tracing::debug!(pack = id, "a pack without a whole header has no records");
            return Ok(());
        }
        if len < PACK_HEADER_BYTES {
            let header = record::encode_pack_header(&self.store_id, id, unix_ms());
            let written = file.write_at(&header, 0);
            let synced = written.and_then(|()| self.sync_file(id, file.as_ref()));
            return synced.map_err(|error| self.error("complete", error));
        }
        let mut bytes = [0u8; 64];
        let read = match file.read_at(&mut bytes, 0) {
            // The medium has lost it: damage like any other.
            Err(error) if io_is_loss(&error) => None,
            read => Some(read.map_err(|error| self.error("read a pack in", error))?),
        };
        match read.and_then(|()| record::decode_pack_header(&bytes, &self.store_id, id)) {
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

    /// Bytes in pack `id`.
    pub(crate) fn len(&self, id: u32) -> Result<u64, StoreError> {
        self.write_out_to(id, u64::MAX)?;
        let file = self.file(id)?;
        file.len().map_err(|error| self.error("measure", error))
    }

    /// Syncs one pack.
    pub(crate) fn sync_pack(&self, id: u32) -> Result<(), StoreError> {
        self.write_out_to(id, u64::MAX)?;
        let file = self.file(id)?;
        self.sync_file(id, file.as_ref())
            .map_err(|error| self.error("sync", error))
    }

    /// Has the disk say what is in a pack from `from` on: what an earlier sync lost may still be in the
    /// page cache, as if it were durable. The pack is synced.
    pub(crate) fn forget_cached(&self, id: u32, from: u64) -> Result<(), StoreError> {
        self.file(id)?.forget_cached(from);
        Ok(())
    }

    /// Syncs a pack. The system tells one sync only that it lost a write, and the next one succeeds without
    /// those bytes. So from a failed one on all of that pack fail, until the packs are opened anew; and
    /// they take turns, so that none succeeds while another one is about to fail.
    fn sync_file(&self, id: u32, file: &dyn PackFile) -> io::Result<()> {
        let failed = Arc::clone(lock(&self.syncs).entry(id).or_default());
        let mut failed = lock(&failed);
        if *failed {
            let why = "an earlier sync of this pack failed, and what it holds is not known until the store \
                       is opened again";
            return Err(io::Error::other(why));
        }
        let synced = file.sync();
        *failed = synced.is_err();
        synced
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

    /// What to call the packs in a message.
    pub(crate) fn path(&self) -> PathBuf {
        self.medium.path()
    }

    /// Bytes the packs occupy.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.medium.disk_bytes()
    }
}
