//! What each file costs.

use std::collections::HashMap;

use super::Store;
use super::clones::is_clone;
use super::core::Core;
use super::entry::{Claim, FileEntry, FileState};
use super::types::FileUsage;
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};

impl Core {
    pub(super) fn usage(&self, address: Option<&Address>) -> Result<Vec<FileUsage>, StoreError> {
        let files = match address {
            Some(address) => self.file(address)?.into_iter().collect(),
            None => self.files_that(FileEntry::is_own)?,
        };
        files.iter().map(|file| self.usage_of(file)).collect()
    }

    fn usage_of(&self, file: &FileEntry) -> Result<FileUsage, StoreError> {
        let account = self.directory_account(&file.address)?;
        let mut usage = FileUsage {
            address: file.address,
            name: file.name.clone(),
            logical_bytes: account.map_or(file.size_bytes, |account| account.bytes),
            stored_bytes: 0,
            shared_bytes: 0,
            referenced_bytes: 0,
        };
        let mut chunks = HashMap::new();
        self.add_chunks(file, true, &mut chunks)?;
        if account.is_some() {
            for member in self.members_of(file)? {
                let Some(member) = self.file(&member)? else {
                    continue;
                };
                let is_sole = member.claim == Claim::Member
                    && self.keepers_of(&member.address, 2)?.len() == 1;
                self.add_chunks(&member, is_sole, &mut chunks)?;
            }
        }
        for (hash, own) in chunks {
            let Some(chunk) = self.indexed(&hash)?.filter(|chunk| !chunk.bad) else {
                continue;
            };
            let bytes = u64::from(chunk.len_bytes());
            if chunk.place.source().is_some_and(|id| !is_clone(id)) {
                usage.referenced_bytes += bytes;
                continue;
            }
            usage.stored_bytes += bytes;
            if chunk.refs > own {
                usage.shared_bytes += bytes;
            }
        }
        Ok(usage)
    }

    /// Adds the chunks of a file, and how many references those have that nobody else counts.
    fn add_chunks(
        &self,
        file: &FileEntry,
        is_sole: bool,
        chunks: &mut HashMap<ChunkHash, u32>,
    ) -> Result<(), StoreError> {
        let own = u32::from(is_sole && file.state == FileState::Complete);
        for hash in self.listed_chunks(file)? {
            *chunks.entry(hash).or_default() += own;
        }
        Ok(())
    }
}

impl Store {
    /// What each file costs that was stored or fetched by itself, or one of all: none when it is not here. A
    /// directory costs what its members do; shared is what stays when it goes. Takes memory for the chunks
    /// of a directory.
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
        let core = &self.core;
        let Some(file) = core.file(address)? else {
            return Ok(Vec::new());
        };
        let own = u32::from(file.state == FileState::Complete);
        let mut sole = Vec::new();
        for hash in core.listed_chunks(&file)? {
            if core.indexed(&hash)?.is_some_and(|chunk| chunk.refs <= own) {
                sole.push(hash);
            }
        }
        Ok(sole)
    }
}
