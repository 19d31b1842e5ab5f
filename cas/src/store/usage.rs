//! What each file costs.

use std::collections::HashSet;

use super::Store;
use super::clones::is_clone;
use super::core::Core;
use super::types::FileUsage;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};

impl Core {
    pub(super) fn usage(&self, address: Option<&Address>) -> Result<Vec<FileUsage>, StoreError> {
        let files = match address {
            Some(address) => self.file(address)?.into_iter().collect(),
            None => self.files()?,
        };
        let mut all = Vec::with_capacity(files.len());
        for file in files {
            let own = u32::from(file.state == super::FileState::Complete);
            let mut usage = FileUsage {
                address: file.address,
                name: file.name.clone(),
                logical_bytes: file.size_bytes,
                stored_bytes: 0,
                shared_bytes: 0,
                referenced_bytes: 0,
            };
            let listed: HashSet<_> = self.listed_chunks(&file)?;
            for hash in listed {
                let Some(chunk) = self.indexed(&hash)?.filter(|chunk| !chunk.bad) else {
                    continue;
                };
                let bytes = u64::from(chunk.len_bytes());
                let in_place = chunk.place.source().is_some_and(|id| !is_clone(id));
                if in_place {
                    usage.referenced_bytes += bytes;
                    continue;
                }
                usage.stored_bytes += bytes;
                if chunk.refs > own {
                    usage.shared_bytes += bytes;
                }
            }
            all.push(usage);
        }
        Ok(all)
    }

    fn sole_chunks(&self, address: &Address) -> Result<Vec<ChunkHash>, StoreError> {
        let Some(file) = self.file(address)? else {
            return Ok(Vec::new());
        };
        let own = u32::from(file.state == super::FileState::Complete);
        let mut sole = Vec::new();
        for hash in self.listed_chunks(&file)? {
            if self.indexed(&hash)?.is_some_and(|chunk| chunk.refs <= own) {
                sole.push(hash);
            }
        }
        Ok(sole)
    }
}

impl Store {
    /// What each file costs, or one of them: none when it is not here.
    ///
    /// # Errors
    /// When the index fails.
    pub fn usage(&self, address: Option<&Address>) -> Result<Vec<FileUsage>, StoreError> {
        self.core.usage(address)
    }

    /// The chunks of a file that no other complete file has: none when it is not here.
    ///
    /// # Errors
    /// When the index fails.
    pub fn sole_chunks(&self, address: &Address) -> Result<Vec<ChunkHash>, StoreError> {
        self.core.sole_chunks(address)
    }
}
