//! Directories in the store, and the members that they keep.
//!
//! A directory is a file whose bytes are a listing, and whose entry says that it was entered as one. The
//! files that it lists are ordinary files. Which directory lists which file is noted in the index, as a row
//! for each pair; a row counts only while the directory has its account there. So to enter a directory is to
//! write the rows, then entry and account; to remove it is to drop entry and account, then what only its
//! rows kept. What an interruption leaves are rows without account and members without rows: `sweep`.
//!
//! The packs hold the entries, and with them claims and directory marks. Rows and accounts follow from those
//! and from the listings: a recovery that meets an entry with the mark writes an account that is not settled,
//! and opening the store settles it.

mod kept;
mod remove;
mod sweep;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Store;
use super::core::Core;
use super::entry::{self, Claim, DirectoryAccount, FileEntry};
use super::flush::Extra;
use super::index::MAX_BATCH_KEYS;
use super::lock;
use crate::directory::{EntryKind, Listing, MAX_LISTING_BYTES, each_entry};
use crate::error::{IndexError, StoreError};
use crate::id::Address;

pub(super) use self::kept::KeptMembers;

/// What a row takes in the index, about.
const ROW_BYTES: u64 = 128;

/// A directory was entered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnteredDirectory {
    /// Its entry.
    pub entry: FileEntry,
    /// Distinct files that it lists.
    pub members: u64,
    /// Those of them that are not in the store, or not all of them.
    pub missing: u64,
}

/// A directory in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectorySize {
    /// Files that it lists, each path counted.
    pub files: u64,
    /// Their sizes together, as it states them.
    pub bytes: u64,
}

/// Keeps members that no directory lists yet, until it is dropped.
#[must_use]
pub struct MemberHold(Arc<Core>);

impl std::fmt::Debug for MemberHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemberHold")
    }
}

impl Drop for MemberHold {
    fn drop(&mut self) {
        self.0.member_holds.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a listing says of its files.
struct Listed {
    /// Each once, ascending.
    members: Vec<Address>,
    files: u64,
    bytes: u64,
}

impl Listed {
    fn account(&self) -> DirectoryAccount {
        DirectoryAccount {
            is_settled: true,
            files: self.files,
            bytes: self.bytes,
        }
    }
}

impl Core {
    pub(super) fn directory_account(
        &self,
        address: &Address,
    ) -> Result<Option<DirectoryAccount>, StoreError> {
        self.read(&entry::directory_key(address), DirectoryAccount::decode)
    }

    /// The accounts of all directories.
    fn directories(&self) -> Result<Vec<(Address, DirectoryAccount)>, StoreError> {
        let mut directories = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            let directory = entry::directory_of_key(key)?;
            directories.push((directory, DirectoryAccount::decode(value)?));
            Ok(ControlFlow::Continue(()))
        };
        self.noting(self.index.scan(entry::DIRECTORY_PREFIX, &mut visit))?;
        Ok(directories)
    }

    /// Visits the directories that list a file, ascending.
    fn each_keeper(
        &self,
        member: &Address,
        visit: &mut dyn FnMut(Address) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let prefix = entry::member_prefix(member);
        let mut visit = |key: &[u8], _: &[u8]| -> Result<ControlFlow<()>, IndexError> {
            let (_, directory) = entry::member_of_key(key)?;
            let counts = self.index.get(&entry::directory_key(&directory))?.is_some();
            Ok(if counts {
                visit(directory)
            } else {
                ControlFlow::Continue(())
            })
        };
        self.noting(self.index.scan(&prefix, &mut visit))
    }

    /// A directory that lists this file.
    pub(super) fn keeper_of(&self, member: &Address) -> Result<Option<Address>, StoreError> {
        let mut keeper = None;
        self.each_keeper(member, &mut |directory| {
            keeper = Some(directory);
            ControlFlow::Break(())
        })?;
        Ok(keeper)
    }

    /// The directories that list this file, at most `most` of them.
    pub(super) fn keepers_of(
        &self,
        member: &Address,
        most: usize,
    ) -> Result<Vec<Address>, StoreError> {
        let mut keepers = Vec::new();
        self.each_keeper(member, &mut |directory| {
            keepers.push(directory);
            if keepers.len() < most {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(keepers)
    }

    /// Whether this directory lists this file.
    pub(super) fn is_kept_by(
        &self,
        member: &Address,
        directory: &Address,
    ) -> Result<bool, StoreError> {
        let row = self.noting(self.index.get(&entry::member_key(member, directory)))?;
        Ok(row.is_some() && self.directory_account(directory)?.is_some())
    }

    /// The bytes of a file that may be a listing: `None` for one that is too long for that.
    fn listing_bytes(&self, file: &FileEntry) -> Result<Option<Vec<u8>>, StoreError> {
        let most = MAX_LISTING_BYTES as u64;
        let len = usize::try_from(file.size_bytes).unwrap_or(usize::MAX);
        if file.size_bytes > most {
            return Ok(None);
        }
        let manifest = self.manifest_of(file)?;
        let mut bytes = Vec::with_capacity(len);
        for chunk in manifest.chunks() {
            let missing = || StoreError::MissingChunks {
                address: file.address,
                missing: 1,
            };
            bytes.extend_from_slice(&self.get(&chunk.hash)?.ok_or_else(missing)?);
        }
        Ok(Some(bytes))
    }

    /// What a stored listing lists. Takes memory for its bytes and for 32 of each file.
    fn read_listed(&self, file: &FileEntry) -> Result<Listed, StoreError> {
        let refused = |source| StoreError::NotADirectory {
            address: file.address,
            source,
        };
        let bytes = self.listing_bytes(file)?;
        let bytes = bytes
            .ok_or(crate::ListingError::TooLarge)
            .map_err(refused)?;
        let mut listed = Listed {
            members: Vec::new(),
            files: 0,
            bytes: 0,
        };
        let checked = each_entry(&bytes, &mut |entry| {
            if let EntryKind::File { address, bytes, .. } = entry.kind {
                listed.files += 1;
                listed.bytes = listed.bytes.saturating_add(bytes);
                listed.members.push(address);
            }
        });
        checked.map_err(refused)?;
        listed.members.sort_unstable();
        listed.members.dedup();
        Ok(listed)
    }

    /// The files that a directory lists, each once; none when its listing is damaged.
    pub(super) fn members_of(&self, directory: &FileEntry) -> Result<Vec<Address>, StoreError> {
        match self.read_listed(directory) {
            Ok(listed) => Ok(listed.members),
            Err(StoreError::Index(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(address = %directory.address, %error, "what a directory lists is not known");
                Ok(Vec::new())
            }
        }
    }

    fn write_rows(&self, directory: &Address, members: &[Address]) -> Result<(), StoreError> {
        for part in members.chunks(MAX_BATCH_KEYS) {
            self.space.check_index()?;
            let row = |member| (entry::member_key(member, directory), Some(Vec::new()));
            self.apply(part.iter().map(row).collect())?;
        }
        Ok(())
    }

    /// Says that the rows are there, and that they count.
    fn mark_directory(
        &self,
        address: &Address,
        listed: &Listed,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let mut committed = lock(&self.commit);
        let old = self.file_value(address)?;
        let old = old.ok_or(StoreError::UnknownFile(*address))?;
        let new = FileEntry {
            claim: old.entry.claim.max(claim),
            directory: true,
            ..old.entry.clone()
        };
        let account = Some(listed.account());
        if new == old.entry && self.directory_account(address)? == account {
            return self.with_last_use(new);
        }
        let mut extra = Extra::default();
        let value = account.map(DirectoryAccount::encode);
        extra.last.push((entry::directory_key(address), value));
        self.rewrite_entry_with(&mut committed, extra, &old, &new)?;
        drop(committed);
        self.with_last_use(new)
    }

    fn count_missing(&self, members: &[Address]) -> Result<u64, StoreError> {
        let complete = self.count_complete(members)?;
        Ok(members.len() as u64 - complete)
    }

    /// Writes the rows of directories that were found in the packs. Returns how many could not be read: what
    /// they list is not known until they are fetched again.
    pub(super) fn settle_directories(&self) -> Result<usize, StoreError> {
        let _alone = lock(&self.membership);
        self.settle_alone()
    }

    /// The same for the holder of `membership`.
    fn settle_alone(&self) -> Result<usize, StoreError> {
        let mut unread = 0;
        for (address, account) in self.directories()? {
            if account.is_settled {
                continue;
            }
            match self.settle(&address) {
                Ok(()) => {}
                Err(StoreError::UnknownFile(_)) => {
                    self.apply(vec![(entry::directory_key(&address), None)])?;
                }
                Err(error @ StoreError::Index(_)) if !error.is_no_space() => return Err(error),
                Err(error) => {
                    tracing::warn!(%address, %error, "what a directory lists is not known");
                    unread += 1;
                }
            }
        }
        Ok(unread)
    }

    fn settle(&self, address: &Address) -> Result<(), StoreError> {
        let file = self.file(address)?;
        let file = file.ok_or(StoreError::UnknownFile(*address))?;
        let listed = self.read_listed(&file)?;
        self.write_rows(address, &listed.members)?;
        let value = Some(listed.account().encode());
        self.apply(vec![(entry::directory_key(address), value)])
    }

    /// Whether members without a directory are to stay for now.
    pub(super) fn holds_members(&self) -> bool {
        self.member_holds.load(Ordering::Acquire) > 0
    }

    /// The directories that count.
    fn live_directories(&self) -> Result<HashSet<Address>, StoreError> {
        let directories = self.directories()?.into_iter();
        Ok(directories.map(|(address, _)| address).collect())
    }
}

impl Store {
    /// Enters a stored listing as a directory: the files that it lists are its members from then on, and stay
    /// as long as it does. Durable when it returns, and changes nothing when it is entered already.
    ///
    /// Members need not be here yet: whoever fetches a directory enters it when the listing is here, so that
    /// what was fetched stays when the rest does not come. Whoever stores one has the members first, holds
    /// them ([`Store::hold_members`]), and should find that none is missing.
    ///
    /// `claim` is what the directory gets, [`Claim::Own`] at least; pinned, it pins its members.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`], [`StoreError::MissingChunks`] when not all of the listing is here,
    /// [`StoreError::NotADirectory`] when it is none, [`StoreError::OverQuota`], or what the medium says.
    pub fn enter_directory(
        &self,
        address: &Address,
        claim: Claim,
    ) -> Result<EnteredDirectory, StoreError> {
        let core = &self.core;
        core.check_writable()?;
        let file = core.file(address)?;
        let file = file.ok_or(StoreError::UnknownFile(*address))?;
        let listed = core.read_listed(&file)?;
        // Whatever has to go for it goes before anything is begun.
        core.room_for_records(listed.members.len() as u64 * ROW_BYTES)?;
        let _alone = lock(&core.membership);
        let known = core.directory_account(address)?;
        if known.is_none_or(|known| !known.is_settled) {
            core.write_rows(address, &listed.members)?;
        }
        let entry = core.mark_directory(address, &listed, claim.max(Claim::Own))?;
        Ok(EnteredDirectory {
            entry,
            members: listed.members.len() as u64,
            missing: core.count_missing(&listed.members)?,
        })
    }

    /// Keeps members that no directory lists from being removed as leftovers while the guard lives: for
    /// whoever stores members whose directory comes last. To be taken before the first member is stored, or
    /// found to be here already.
    pub fn hold_members(&self) -> MemberHold {
        let core = &self.core;
        // Whoever removes members looks under this lock: what is here after it, stays.
        let _committed = lock(&core.commit);
        core.member_holds.fetch_add(1, Ordering::AcqRel);
        MemberHold(Arc::clone(core))
    }

    /// The directory with this address, decoded; `None` when it is not here.
    ///
    /// # Errors
    /// [`StoreError::NotADirectory`] for any other file, [`StoreError::MissingChunks`] when not all of it is
    /// here, or what the medium says.
    pub fn listing(&self, address: &Address) -> Result<Option<Listing>, StoreError> {
        let refused = |source| StoreError::NotADirectory {
            address: *address,
            source,
        };
        let Some(file) = self.core.file(address)? else {
            return Ok(None);
        };
        let bytes = self.core.listing_bytes(&file)?;
        let bytes = bytes
            .ok_or(crate::ListingError::TooLarge)
            .map_err(refused)?;
        Listing::decode(&bytes).map(Some).map_err(refused)
    }

    /// How large a directory that was entered is; `None` for anything else, and for one whose listing is
    /// damaged.
    ///
    /// # Errors
    /// When the index fails.
    pub fn directory_size(&self, address: &Address) -> Result<Option<DirectorySize>, StoreError> {
        let account = self.core.directory_account(address)?;
        let settled = account.filter(|account| account.is_settled);
        Ok(settled.map(|account| DirectorySize {
            files: account.files,
            bytes: account.bytes,
        }))
    }

    /// The directories here that list this file, at most `most` of them.
    ///
    /// # Errors
    /// When the index fails.
    pub fn directories_of(
        &self,
        member: &Address,
        most: usize,
    ) -> Result<Vec<Address>, StoreError> {
        self.core.keepers_of(member, most)
    }
}
