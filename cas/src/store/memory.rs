//! The in-memory twins of the index and of the pack folder.
//!
//! Both remember what was synced, so a test can cut the power: their `power_cut` gives what a disk would
//! still have.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::index::{Index, Op, Visit};
use super::lock;
use super::medium::{Medium, PackFile};
#[cfg(test)]
use super::runs::{FoundUpTo, Ordered};
use crate::direct::direct_align_bytes;
use crate::error::IndexError;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
struct IndexState {
    now: Map,
    /// Batches applied since the last sync, oldest first.
    unsynced: Vec<Vec<Op>>,
    synced: Map,
}

/// An index that forgets everything with the process.
#[derive(Default)]
pub(crate) struct MemoryIndex(Mutex<IndexState>);

fn apply_to(map: &mut Map, ops: &[Op]) {
    for (key, value) in ops {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

impl MemoryIndex {
    /// What a power cut leaves: everything synced, and the first `extra_batches` applied since.
    #[cfg(test)]
    pub(crate) fn power_cut(&self, extra_batches: usize) -> Self {
        let state = lock(&self.0);
        let mut map = state.synced.clone();
        for ops in state.unsynced.iter().take(extra_batches) {
            apply_to(&mut map, ops);
        }
        Self(Mutex::new(IndexState {
            now: map.clone(),
            unsynced: Vec::new(),
            synced: map,
        }))
    }
}

impl Index for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(lock(&self.0).now.get(key).cloned())
    }

    fn apply(&self, ops: Vec<Op>) -> Result<(), IndexError> {
        let mut state = lock(&self.0);
        apply_to(&mut state.now, &ops);
        state.unsynced.push(ops);
        Ok(())
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        let state = lock(&self.0);
        let found: Vec<_> = state
            .now
            .range(from.to_vec()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        // The visitor may ask the index itself.
        drop(state);
        for (key, value) in found {
            if visit(&key, &value)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), IndexError> {
        let mut state = lock(&self.0);
        let IndexState {
            unsynced, synced, ..
        } = &mut *state;
        for ops in unsynced.drain(..) {
            apply_to(synced, &ops);
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        let state = lock(&self.0);
        state
            .now
            .iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum()
    }
}

#[cfg(test)]
impl Ordered for MemoryIndex {
    fn last_up_to(&self, keys: &[&[u8]], found: FoundUpTo<'_>) -> Result<(), IndexError> {
        let state = lock(&self.0);
        for (place, key) in keys.iter().enumerate().rev() {
            let Some((name, value)) = state.now.range(..=key.to_vec()).next_back() else {
                break;
            };
            found(place, name, value)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct FileState {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Default)]
struct MemoryFile(Mutex<FileState>);

/// Pack files that are vectors.
#[derive(Default)]
pub(crate) struct MemoryMedium(Mutex<BTreeMap<u32, Arc<MemoryFile>>>);

impl MemoryMedium {
    /// What a power cut leaves: what was synced, and for `keep_unsynced` also what was only written.
    #[cfg(test)]
    pub(crate) fn power_cut(&self, keep_unsynced: bool) -> Self {
        let files = lock(&self.0);
        let survive = |file: &Arc<MemoryFile>| {
            let state = lock(&file.0);
            let bytes = if keep_unsynced {
                &state.now
            } else {
                &state.synced
            };
            let after = FileState {
                now: bytes.clone(),
                synced: bytes.clone(),
            };
            Arc::new(MemoryFile(Mutex::new(after)))
        };
        Self(Mutex::new(
            files
                .iter()
                .map(|(id, file)| (*id, survive(file)))
                .collect(),
        ))
    }
}

impl Medium for MemoryMedium {
    fn ids(&self) -> io::Result<Vec<u32>> {
        Ok(lock(&self.0).keys().copied().collect())
    }

    fn open(&self, id: u32) -> io::Result<Arc<dyn PackFile>> {
        let file = lock(&self.0).get(&id).cloned();
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(file)
    }

    fn create(&self, id: u32, header: &[u8]) -> io::Result<Arc<dyn PackFile>> {
        let state = FileState {
            now: header.to_vec(),
            synced: header.to_vec(),
        };
        let file = Arc::new(MemoryFile(Mutex::new(state)));
        match lock(&self.0).entry(id) {
            Entry::Occupied(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Entry::Vacant(free) => Ok(Arc::clone(free.insert(file)) as Arc<dyn PackFile>),
        }
    }

    fn remove(&self, id: u32) -> io::Result<()> {
        let removed = lock(&self.0).remove(&id);
        removed
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn disk_bytes_of(&self, id: u32) -> io::Result<u64> {
        let file = lock(&self.0).get(&id).cloned();
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        file.len()
    }

    fn disk_bytes(&self) -> u64 {
        lock(&self.0)
            .values()
            .map(|file| lock(&file.0).now.len() as u64)
            .sum()
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("memory")
    }
}

fn offset_in(len: usize, offset: u64) -> io::Result<usize> {
    let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    if offset > len {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(offset)
    }
}

impl PackFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = lock(&self.0);
        let start = offset_in(state.now.len(), offset)?;
        let found = state.now.get(start..start + buf.len());
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = lock(&self.0);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = start + buf.len();
        if state.now.len() < end {
            state.now.resize(end, 0);
        }
        state.now[start..end].copy_from_slice(buf);
        Ok(())
    }

    /// As strict about alignment as a disk.
    fn write_direct(&self, buf: &[u8], offset: u64) -> io::Result<bool> {
        let aligned = |n: usize| n.is_multiple_of(direct_align_bytes());
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        if ![start, buf.len(), buf.as_ptr().addr()]
            .into_iter()
            .all(aligned)
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.write_at(buf, offset).map(|()| true)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        lock(&self.0).now.resize(len, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = lock(&self.0);
        let FileState { now, synced } = &mut *state;
        synced.clone_from(now);
        Ok(())
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = lock(&self.0);
        let start = offset_in(state.now.len(), range.start)?;
        let end = offset_in(state.now.len(), range.end)?;
        state.now[start..end].fill(0);
        Ok(())
    }
}
