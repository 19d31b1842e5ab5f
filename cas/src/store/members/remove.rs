//! Removing a directory, and the members that nothing else keeps.

use super::super::core::Core;
use super::super::entry::{self, Claim, FileEntry, FileValue};
use super::super::flush::Extra;
use super::super::index::MAX_BATCH_KEYS;
use super::super::lock;
use super::super::types::Removed;
use crate::error::StoreError;
use crate::id::Address;

/// Members that go without letting others have their turn: commits of others wait for at most this many.
const STEP_FILES: usize = 128;

/// Chunks of those, at most, but for the last one.
const STEP_CHUNKS: u64 = 4096;

impl Core {
    /// Removes a directory if its entry, as it is then, may go; then the members that are not files of their
    /// own and in no other directory. One that another directory lists stays as a file that it keeps.
    pub(in crate::store) fn remove_directory_if(
        &self,
        address: &Address,
        may_go: &mut dyn FnMut(&FileEntry) -> Result<bool, StoreError>,
    ) -> Result<Option<Removed>, StoreError> {
        let _alone = lock(&self.membership);
        let Some(file) = self.file(address)? else {
            return Ok(None);
        };
        let members = match self.read_listed(&file) {
            Ok(listed) => Some(listed.members),
            Err(error) => {
                tracing::warn!(%address, %error, "what a directory lists is found by its rows");
                None
            }
        };
        let Some(mut removed) = self.remove_directory_entry(address, may_go)? else {
            return Ok(None);
        };
        if self.settle_alone()? > 0 {
            // One of them may list the same members: `sweep`, when that is known.
            return Ok(Some(removed));
        }
        match members {
            Some(members) => self.let_go(address, &members, &mut removed)?,
            None => self.sweep_alone(&mut removed)?,
        }
        Ok(Some(removed))
    }

    /// From here on its rows do not count.
    fn remove_directory_entry(
        &self,
        address: &Address,
        may_go: &mut dyn FnMut(&FileEntry) -> Result<bool, StoreError>,
    ) -> Result<Option<Removed>, StoreError> {
        let Some((mut committed, old)) = self.begin_removal(address, may_go)? else {
            return Ok(None);
        };
        if let Some(keeper) = self.keeper_of(address)? {
            let new = FileEntry {
                claim: Claim::Member,
                directory: false,
                ..old.entry.clone()
            };
            let mut extra = Extra::default();
            extra.last.push((entry::directory_key(address), None));
            self.rewrite_entry_with(&mut committed, extra, &old, &new)?;
            return Ok(Some(Removed::only_claim(keeper)));
        }
        let left = self.remove_entries(&mut committed, vec![old])?;
        drop(committed);
        self.finish_removal(left).map(Some)
    }

    /// Drops the rows of a directory that is gone, and what only they kept.
    fn let_go(
        &self,
        directory: &Address,
        members: &[Address],
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        let mut rest = members;
        while !rest.is_empty() {
            let done = self.drop_members(rest, removed)?;
            let (gone, later) = rest.split_at(done);
            for part in gone.chunks(MAX_BATCH_KEYS) {
                let row = |member| (entry::member_key(member, directory), None);
                self.apply(part.iter().map(row).collect())?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Removes the first of these files, as far as nothing keeps them; how many were looked at.
    pub(super) fn drop_members(
        &self,
        members: &[Address],
        removed: &mut Removed,
    ) -> Result<usize, StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let mut olds: Vec<FileValue> = Vec::new();
        let (mut looked_at, mut chunks) = (0, 0);
        for member in members.iter().take(STEP_FILES) {
            looked_at += 1;
            if self.holds_members() {
                continue;
            }
            let Some(old) = self.file_value(member)? else {
                continue;
            };
            let is_kept = self.is_in_use(member)? || self.keeper_of(member)?.is_some();
            if old.entry.claim == Claim::Member && !is_kept {
                chunks += u64::from(old.entry.chunk_count);
                olds.push(old);
            }
            if chunks >= STEP_CHUNKS {
                break;
            }
        }
        if olds.is_empty() {
            return Ok(looked_at);
        }
        let left = self.remove_entries(&mut committed, olds)?;
        drop(committed);
        removed.add(self.finish_removal(left)?);
        Ok(looked_at)
    }
}
