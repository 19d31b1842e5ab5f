//! Chunks in files that downloads are writing: read from there as long as they are lent.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLockWriteGuard};

use super::Store;
use super::chunks::Found;
use super::core::Core;
use crate::error::StoreError;
use crate::export::OutputFile;
use crate::id::ChunkHash;

/// A chunk in a file that a download is writing.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    pub(super) file: Arc<OutputFile>,
    pub(super) offset: u64,
    pub(super) len_bytes: u32,
}

impl PartialEq for Lent {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.offset == other.offset
    }
}

impl Core {
    fn lent_chunks(&self) -> RwLockWriteGuard<'_, HashMap<ChunkHash, Lent>> {
        self.lent.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lend(
        &self,
        hash: &ChunkHash,
        file: Arc<OutputFile>,
        offset: u64,
        len_bytes: u32,
    ) {
        let lent = Lent {
            file,
            offset,
            len_bytes,
        };
        self.lent_chunks().insert(*hash, lent);
    }

    pub(super) fn unlend(&self, file: &Arc<OutputFile>) {
        self.lent_chunks()
            .retain(|_, lent| !Arc::ptr_eq(&lent.file, file));
    }

    /// Everything that was lent of one file is of another one from now on, which has the same at the same places.
    pub(super) fn relend(&self, from: &Arc<OutputFile>, to: &Arc<OutputFile>) {
        for lent in self.lent_chunks().values_mut() {
            if Arc::ptr_eq(&lent.file, from) {
                lent.file = Arc::clone(to);
            }
        }
    }

    pub(super) fn forget_lent(&self, hash: &ChunkHash, lent: &Lent) {
        let mut chunks = self.lent_chunks();
        if chunks.get(hash) == Some(lent) {
            chunks.remove(hash);
        }
    }
}

impl Store {
    /// Whether the chunk is here only as long as it is lent: a download that needs it for longer puts it.
    ///
    /// # Errors
    /// When the index fails.
    pub fn is_lent(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        Ok(matches!(self.core.locate(hash)?, Some(Found::Lent(_))))
    }

    /// Lets the store read verified bytes from a file that a download is writing. Nothing of this is
    /// durable; `file` is remembered until [`Store::unlend`].
    pub fn lend(&self, hash: &ChunkHash, file: Arc<OutputFile>, offset: u64, len_bytes: u32) {
        self.core.lend(hash, file, offset, len_bytes);
    }

    /// Forgets everything that was lent of this file.
    pub fn unlend(&self, file: &Arc<OutputFile>) {
        self.core.unlend(file);
    }
}
