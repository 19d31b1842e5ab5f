//! Which files of the user's need not be read again: what they were when they were last hashed.
//!
//! For a path, by its hash, the index notes a hash of what `stat` said and the address that the file had. A
//! file that is the same by all that is taken for unread, if it was not changed shortly before it was looked
//! at: within the resolution of its times a change does not show (git calls such an entry racy). At most
//! [`MAX_STAMPS`] are kept; beyond, those whose hashes follow a hash of a newcomer's make room, which is a
//! choice by chance. Nothing of it is in the packs, and losing it costs reading files again.

use std::collections::HashSet;
use std::fs::Metadata;
use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use super::core::Core;
use super::entry::{self, Stamp};
use super::index::{MAX_BATCH_KEYS, Op};
use super::{Store, lock};
use crate::error::StoreError;
use crate::id::Address;
use crate::import::FileIdentity;

/// How many files are remembered: about 100 MiB of index.
pub const MAX_STAMPS: u64 = 1 << 20;

/// A file whose times are not this much older than the look at it is not believed to be unchanged.
const RACY_NS: i64 = 2_000_000_000;

/// Files of one batch, each of which may push another one out.
const BATCH_FILES: usize = (MAX_BATCH_KEYS - 16) / 2;

/// What a file was when it was looked at.
#[derive(Clone, Copy, Debug)]
pub struct FileStamp {
    identity: FileIdentity,
    /// By the clock of this machine, since 1970.
    taken_ns: i64,
}

impl FileStamp {
    /// Takes what is known of a file without reading it. To be taken before the file is read: what changes
    /// it meanwhile then shows.
    #[must_use]
    pub fn of(data: &Metadata) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let taken = since.unwrap_or_default().as_nanos();
        Self {
            identity: FileIdentity::of(data),
            taken_ns: i64::try_from(taken).unwrap_or(i64::MAX),
        }
    }

    /// What else is known by it.
    #[must_use]
    pub fn identity(&self) -> &FileIdentity {
        &self.identity
    }

    /// Whether a change after this look would show.
    fn is_settled(&self) -> bool {
        let latest = self.identity.mtime_ns.max(self.identity.ctime_ns);
        latest < self.taken_ns.saturating_sub(RACY_NS)
    }

    fn digest(&self) -> [u8; entry::STAMP_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.identity.size_bytes.to_le_bytes());
        hasher.update(&self.identity.mtime_ns.to_le_bytes());
        hasher.update(&self.identity.ctime_ns.to_le_bytes());
        hasher.update(&self.identity.inode.to_le_bytes());
        hasher.update(&self.identity.device.to_le_bytes());
        short(&hasher.finalize())
    }

    #[cfg(test)]
    pub(super) fn taken_later(mut self, by_ns: i64) -> Self {
        self.taken_ns += by_ns;
        self
    }
}

/// What is to be remembered of a file.
#[derive(Clone, Copy, Debug)]
pub struct KnownFile<'a> {
    /// What tells its path from all others: its bytes, say.
    pub path_key: &'a [u8],
    /// What it was before it was read.
    pub stamp: FileStamp,
    /// What reading it gave.
    pub address: Address,
}

fn short(hash: &blake3::Hash) -> [u8; entry::STAMP_BYTES] {
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

fn key_of(path_key: &[u8]) -> Vec<u8> {
    entry::stamp_key(&short(&blake3::hash(path_key)))
}

impl Core {
    fn remember_files(&self, files: &[KnownFile<'_>], most: u64) -> Result<(), StoreError> {
        self.check_writable()?;
        let settled = files.iter().filter(|file| file.stamp.is_settled());
        let mut settled: Vec<_> = settled.map(|file| (key_of(file.path_key), file)).collect();
        // Neighbours in the index in one batch of it; of one path the last that is said stays the last.
        settled.sort_by(|(one, _), (other, _)| one.cmp(other));
        let _alone = lock(&self.stamps);
        for part in settled.chunks(BATCH_FILES) {
            self.space.check_index()?;
            let ops = self.stamp_ops(part, most)?;
            self.apply(ops)?;
        }
        Ok(())
    }

    /// What remembers these files and keeps the number.
    fn stamp_ops(
        &self,
        part: &[(Vec<u8>, &KnownFile<'_>)],
        most: u64,
    ) -> Result<Vec<Op>, StoreError> {
        let count = self.read(&entry::stamps_key(), entry::decode_count)?;
        let count = count.unwrap_or(0);
        let mut ops: Vec<Op> = Vec::with_capacity(part.len() * 2 + 1);
        let mut keys = HashSet::new();
        for (key, file) in part.iter().rev() {
            // The last that is said of a path counts.
            if !keys.insert(key.clone()) {
                continue;
            }
            let stamp = Stamp {
                digest: file.stamp.digest(),
                address: file.address,
            };
            ops.push((key.clone(), Some(stamp.encode())));
        }
        let asked: Vec<_> = ops.iter().map(|(key, _)| key.clone()).collect();
        let there = self.values(&asked, |_| Ok(()))?;
        let new = there.iter().filter(|there| there.is_none()).count() as u64;
        let over = (count + new).saturating_sub(most);
        let over = usize::try_from(over)
            .unwrap_or(BATCH_FILES)
            .min(BATCH_FILES);
        let gone = match part.last() {
            // From a place by chance: the keys of a part are in order, and the last would always be near the end.
            Some((last, _)) if over > 0 => self.stamps_behind(&key_of(last), over, &keys)?,
            _ => Vec::new(),
        };
        let count = (count + new).saturating_sub(gone.len() as u64);
        ops.extend(gone.into_iter().map(|key| (key, None)));
        ops.push((entry::stamps_key(), Some(count.to_le_bytes().to_vec())));
        Ok(ops)
    }

    /// The keys of `count` other stamps that follow this one, going round at the end.
    fn stamps_behind(
        &self,
        key: &[u8],
        count: usize,
        but: &HashSet<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut found: Vec<Vec<u8>> = Vec::new();
        for (from, is_behind) in [(key, true), (entry::STAMP_PREFIX, false)] {
            let mut visit = |at: &[u8], _: &[u8]| {
                if found.len() == count || (!is_behind && at >= key) {
                    return Ok(ControlFlow::Break(()));
                }
                if !but.contains(at) {
                    found.push(at.to_vec());
                }
                Ok(ControlFlow::Continue(()))
            };
            self.noting((self.index).scan_from(entry::STAMP_PREFIX, from, &mut visit))?;
        }
        Ok(found)
    }
}

impl Store {
    /// Of each of these files the address that it had when it was last hashed, if it is the same by all that
    /// `stat` says, and if the whole file is in the store, undamaged as far as is known. A file is named by what
    /// tells its path from all others. Takes some hundred bytes of memory for each: thousands at a time, not all.
    ///
    /// # Errors
    /// When the index fails.
    pub fn known_files(
        &self,
        files: &[(&[u8], FileStamp)],
    ) -> Result<Vec<Option<Address>>, StoreError> {
        let keys: Vec<_> = files.iter().map(|(path_key, _)| key_of(path_key)).collect();
        let stamps = self.core.values(&keys, Stamp::decode)?;
        let is_same = |(file, known): (&(&[u8], FileStamp), Option<Stamp>)| {
            let known = known.filter(|known| known.digest == file.1.digest());
            known.map(|known| known.address)
        };
        let mut known: Vec<Option<Address>> = files.iter().zip(stamps).map(is_same).collect();
        let mut wanted: Vec<Address> = known.iter().flatten().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let whole = self.core.whole_among(&wanted)?;
        for address in &mut known {
            *address = address.filter(|address| whole.binary_search(address).is_ok());
        }
        Ok(known)
    }

    /// Remembers what these files were when they were hashed, but for those that had been changed within two
    /// seconds of the look at them. At most [`MAX_STAMPS`] are remembered in all; others make room by chance.
    /// A crash may lose what was remembered last.
    ///
    /// # Errors
    /// When the index fails, or there is no space.
    pub fn remember_files(&self, files: &[KnownFile<'_>]) -> Result<(), StoreError> {
        self.core.remember_files(files, MAX_STAMPS)
    }

    #[cfg(test)]
    pub(super) fn remember_files_of(
        &self,
        files: &[KnownFile<'_>],
        most: u64,
    ) -> Result<(), StoreError> {
        self.core.remember_files(files, most)
    }
}
