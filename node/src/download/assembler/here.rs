//! What is here already: in the store, or in what an earlier output left.

use bytes::Bytes;
use casnode_cas::{ChunkHash, HaveBitmap};

use super::{
    super::{directory, engine::EngineEvent},
    AssembleError, Assembler, Step,
    groups::{self, Groups},
    unsynced::Unsynced,
};

impl Assembler {
    /// A chunk that is here already: in a part of the output that was left, from this download's earlier life, or from
    /// another file.
    pub(super) fn take_local(
        &mut self,
        index: usize,
        groups: &mut Groups,
        unsynced: &mut Unsynced,
    ) -> Result<Step, AssembleError> {
        if groups.has(index) {
            return Ok(Step::Go);
        }
        let wire = u32::try_from(index).unwrap_or(u32::MAX);
        let chunk = self.manifest.chunks()[index].hash;
        let bytes = match self.leftover(index) {
            Some(bytes) => {
                self.keep(index, &bytes, unsynced)?;
                bytes
            }
            None => {
                let Some(bytes) = self.stored(index)? else {
                    self.tell(EngineEvent::Lost { index: wire });
                    return Ok(Step::Go);
                };
                self.write_out(index, &bytes)?;
                let is_others = match self.copies {
                    true => !self.store.has_own(&chunk)?,
                    // Another download has it in its output, and may not keep it.
                    false => self.store.is_lent(&chunk)?,
                };
                if self.lent.is_none() && is_others {
                    self.keep(index, &bytes, unsynced)?;
                }
                bytes
            }
        };
        self.tell(EngineEvent::Local { index: wire });
        self.take(index, &bytes, groups)
    }

    /// The chunk as an earlier, unfinished output left it in its place; `None` when it is not there, or not right.
    fn leftover(&self, index: usize) -> Option<Bytes> {
        let chunk = self.manifest.chunks().get(index)?;
        let offset = self.manifest.chunk_offset(index);
        let bytes = self
            .output
            .as_ref()?
            .written()
            .leftover(offset, chunk.len_bytes)?;
        (ChunkHash::of(&bytes) == chunk.hash).then(|| bytes.into())
    }

    /// The chunk as the store has it; one that is damaged is as good as absent.
    fn stored(&self, index: usize) -> Result<Option<Bytes>, AssembleError> {
        let hash = self.manifest.chunks()[index].hash;
        match self.store.get(&hash) {
            Err(error) if error.is_corruption() => {
                tracing::warn!(chunk = %hash, "a stored chunk is damaged and will be fetched again");
                Ok(None)
            }
            found => Ok(found?),
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        directory::is_listing(&self.manifest, |index| {
            let leftover = self.leftover(index);
            leftover.or_else(|| self.stored(index).ok().flatten())
        })
    }

    /// Puts all that is here into packs.
    pub(super) fn put_all(&self) -> Result<(), AssembleError> {
        for (index, chunk) in self.manifest.chunks().iter().enumerate() {
            if let Some(bytes) = self.stored(index)? {
                self.store.put(&chunk.hash, &bytes)?;
            }
        }
        Ok(self.store.commit()?)
    }

    /// Takes what lies in groups that are all here for what the manifest says, and proven.
    pub(super) fn trust(&self, here: &HaveBitmap, groups: &mut Groups) {
        self.believe();
        let mut proven = Vec::new();
        for index in groups::untouched(&self.manifest, here) {
            self.live.set(index);
            self.tell(EngineEvent::Local {
                index: u32::try_from(index).unwrap_or(u32::MAX),
            });
            for group in groups.add(&self.manifest, index) {
                groups.prove(group);
                proven.push(group);
            }
        }
        self.live.proven(proven, groups.proven_prefix);
    }
}
