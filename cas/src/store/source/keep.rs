//! What others need of a source that is given up.

use std::collections::HashMap;

use super::super::core::{Committed, Core};
use super::super::entry::{ChunkEntry, FileEntry, Place, SourceState};
use super::super::flush::Extra;
use super::super::pack::RecordKind;
use super::extents;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};

impl Core {
    /// Copies to the packs what others than `file` need of its source, before the source is given up.
    /// `needed` says of each of its chunks whether they do.
    pub(in crate::store) fn copy_out(
        &self,
        committed: &mut Committed,
        file: &FileEntry,
        needed: &dyn Fn(&ChunkHash, &ChunkEntry) -> bool,
    ) -> Result<(), StoreError> {
        let Some(id) = file.intact_source() else {
            return Ok(());
        };
        let in_source = |hash: &ChunkHash| -> Result<Option<ChunkEntry>, StoreError> {
            let chunk = self.indexed(hash)?.filter(|chunk| !chunk.bad);
            let chunk = chunk.filter(|chunk| chunk.place.source() == Some(id));
            Ok(chunk.filter(|chunk| needed(hash, chunk)))
        };
        let mut sought = Vec::new();
        for hash in self.listed_chunks(file)? {
            if in_source(&hash)?.is_some() {
                sought.push(hash);
            }
        }
        if sought.is_empty() {
            return Ok(());
        }
        self.find_elsewhere(committed, id, &sought)?;
        let mut moved = Vec::new();
        for hash in sought {
            let Some(chunk) = in_source(&hash)? else {
                continue;
            };
            let Place::Source(extent) = chunk.place else {
                continue;
            };
            let bytes = match self.read_source(extent) {
                Err(error) if !error.is_loss() => return Err(error),
                read => read.ok(),
            };
            // What is gone or changed will be found so: the source is given up with it.
            let Some(bytes) = bytes.filter(|bytes| ChunkHash::of(bytes) == hash) else {
                continue;
            };
            self.space.check_disk(bytes.len() as u64)?;
            let at = self.append(RecordKind::Chunk, hash.as_bytes(), &bytes)?;
            moved.push((hash, chunk.place, Place::Pack(at)));
        }
        let extra = Extra {
            moved,
            ..Extra::default()
        };
        self.flush(committed, extra)
    }

    /// Has those of these chunks that are read from `source` read from another one that holds them too.
    pub(in crate::store) fn find_elsewhere(
        &self,
        committed: &mut Committed,
        source: u32,
        chunks: &[ChunkHash],
    ) -> Result<(), StoreError> {
        let others: Vec<Address> = committed
            .ledger
            .sources()
            .iter()
            .filter(|(id, _)| **id != source)
            .map(|(_, account)| account.address)
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let mut sought: HashMap<ChunkHash, Place> = HashMap::new();
        for hash in chunks {
            let chunk = self.indexed(hash)?.filter(|chunk| !chunk.bad);
            if let Some(chunk) = chunk.filter(|chunk| chunk.place.source() == Some(source)) {
                sought.insert(*hash, chunk.place);
            }
        }
        let mut moved = Vec::new();
        for address in others {
            let Some(file) = self.file(&address)? else {
                continue;
            };
            let usable = file.source.as_ref();
            let usable = usable.is_some_and(|other| self.look(other) == SourceState::Intact);
            let (Some(id), true) = (file.intact_source(), usable) else {
                continue;
            };
            let Ok(manifest) = self.manifest_of(&file) else {
                continue;
            };
            for (hash, extent) in extents(&manifest, id) {
                if let Some(from) = sought.remove(&hash) {
                    moved.push((hash, from, Place::Source(extent)));
                }
            }
        }
        let extra = Extra {
            moved,
            ..Extra::default()
        };
        self.flush(committed, extra)
    }
}
