//! Names, claims and uses of files that are here.

use super::core::{Committed, Core};
use super::entry::{self, Claim, FileEntry, FileValue};
use super::files::valid_name;
use super::flush::Extra;
use super::{Store, lock, unix_ms};
use crate::error::StoreError;
use crate::id::Address;

/// The last use of a file is noted at most this often.
const TOUCH_MS: u64 = 60_000;

/// At most this many of the directories that list a file are examined, and have their last use updated.
const MAX_DIRECTORIES: usize = 128;

impl Core {
    /// Changes name and claim of an entry that stays otherwise; a claim only grows here. A source that
    /// nothing is read from any more, because all was copied since, is given up.
    pub(super) fn update_entry(
        &self,
        committed: &mut Committed,
        address: &Address,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let old = self.file_value(address)?;
        let old = old.ok_or(StoreError::UnknownFile(*address))?;
        let mut new = old.entry.clone();
        new.claim = new.claim.max(claim);
        new.name = valid_name(name).or(new.name);
        if let Some(id) = new.intact_source()
            && committed
                .ledger
                .sources()
                .get(&id)
                .is_none_or(|source| source.live_bytes == 0)
        {
            new.source = None;
            self.forget_source(committed, id);
            let new = self.rewrite_entry(committed, &old, new)?;
            self.remove_source(id);
            return Ok(new);
        }
        self.rewrite_entry(committed, &old, new)
    }

    pub(super) fn rewrite_entry(
        &self,
        committed: &mut Committed,
        old: &FileValue,
        new: FileEntry,
    ) -> Result<FileEntry, StoreError> {
        if new != old.entry {
            self.rewrite_entry_with(committed, Extra::default(), old, &new)?;
        }
        self.with_last_use(new)
    }

    /// Puts a changed entry in the place of the old one, together with what else changes.
    pub(super) fn rewrite_entry_with(
        &self,
        committed: &mut Committed,
        mut extra: Extra,
        old: &FileValue,
        new: &FileEntry,
    ) -> Result<(), StoreError> {
        self.append_entry(&mut extra, new)?;
        self.flush(committed, extra)?;
        self.packs.free(&[old.at])
    }
}

impl Store {
    /// Gives a file that is here a name, which became known after its download began. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`], or what the medium says.
    pub fn set_name(&self, address: &Address, name: &str) -> Result<(), StoreError> {
        let mut committed = lock(&self.core.commit);
        let named = self
            .core
            .update_entry(&mut committed, address, Some(name), Claim::Member);
        named.map(drop)
    }

    /// Gives a file at least this claim; `None` when it is not here. Durable when it returns.
    ///
    /// # Errors
    /// What the medium says.
    pub fn claim_file(
        &self,
        address: &Address,
        claim: Claim,
    ) -> Result<Option<FileEntry>, StoreError> {
        let core = &self.core;
        match core.file(address)? {
            Some(file) if file.claim < claim => {
                let mut committed = lock(&core.commit);
                let claimed = core.update_entry(&mut committed, address, None, claim);
                claimed.map(Some)
            }
            file => Ok(file),
        }
    }

    /// Pins a file, or lets go of it: it is then a file of its own, unless it was none before. `None` when it is not here.
    /// Durable when it returns.
    ///
    /// # Errors
    /// What the medium says.
    pub fn set_pinned(
        &self,
        address: &Address,
        pinned: bool,
    ) -> Result<Option<FileEntry>, StoreError> {
        let core = &self.core;
        let mut committed = lock(&core.commit);
        let Some(old) = core.file_value(address)? else {
            return Ok(None);
        };
        let claim = match (pinned, old.entry.claim) {
            (true, _) => Claim::Pinned,
            (false, Claim::Member) => Claim::Member,
            (false, Claim::Own | Claim::Pinned) => Claim::Own,
        };
        let new = FileEntry {
            claim,
            ..old.entry.clone()
        };
        core.rewrite_entry(&mut committed, &old, new).map(Some)
    }

    /// Whether a file is pinned, or in a directory that is.
    ///
    /// # Errors
    /// When the index fails.
    pub fn is_pinned(&self, address: &Address) -> Result<bool, StoreError> {
        let is_pinned = |address: &Address| -> Result<bool, StoreError> {
            Ok(self
                .core
                .file(address)?
                .is_some_and(|file| file.is_pinned()))
        };
        if is_pinned(address)? {
            return Ok(true);
        }
        // As far as they are looked at.
        for directory in self.core.keepers_of(address, MAX_DIRECTORIES)? {
            if is_pinned(&directory)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that a file was used now, and with it the directories that list it; at most once a minute that is written
    /// down. A clock that was set back changes nothing.
    ///
    /// # Errors
    /// When the index fails.
    pub fn touch(&self, address: &Address) -> Result<(), StoreError> {
        let core = &self.core;
        let now = unix_ms();
        let is_due = |file: &FileEntry| now >= file.last_used_unix_ms.saturating_add(TOUCH_MS);
        let Some(file) = core.file(address)?.filter(is_due) else {
            return Ok(());
        };
        if core.is_read_only() {
            return Ok(());
        }
        core.check_writable()?;
        core.space.check_index()?;
        let mut used = vec![file.address];
        for directory in core.keepers_of(address, MAX_DIRECTORIES)? {
            used.extend(core.file(&directory)?.filter(is_due).map(|_| directory));
        }
        let noted = Some(now.to_le_bytes().to_vec());
        let op = |address| (entry::last_use_key(address), noted.clone());
        core.apply(used.iter().map(op).collect())
    }
}
