//! Which file is served for how long, and how much of it was sent.

use std::collections::{BTreeMap, BTreeSet};

use casnode_cas::Address;

use super::SeedPolicy;

/// Files that are remembered at most.
pub(super) const MAX_ENTRIES: usize = 1_000_000;

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Entry {
    pub(super) policy: SeedPolicy,
    /// Unix seconds; 0 for a file that is known by its uploads alone.
    pub(super) finished_s: u64,
    pub(super) size_bytes: u64,
    pub(super) uploaded_bytes: u64,
}

impl Entry {
    fn is_over(&self, now_s: u64) -> bool {
        let Self {
            policy,
            finished_s,
            size_bytes,
            uploaded_bytes,
        } = *self;
        policy.is_over(Some(finished_s), now_s, uploaded_bytes, size_bytes)
    }
}

/// As many files are remembered as can be, and each of them has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many files are remembered that are served for a time only")]
pub(crate) struct TableFull;

/// The files. One that is not in it is served for ever, and nothing of it was sent.
#[derive(Debug)]
pub(super) struct Table {
    /// Entries at most.
    most: usize,
    entries: BTreeMap<Address, Entry>,
    /// Files whose time can be over, and was not told to be.
    running: BTreeSet<Address>,
}

impl Table {
    /// A table of `entries`, and of `most` at most.
    pub(super) fn new(entries: impl IntoIterator<Item = (Address, Entry)>, most: usize) -> Self {
        let mut table = Self {
            most,
            entries: BTreeMap::new(),
            running: BTreeSet::new(),
        };
        for (address, entry) in entries.into_iter().take(most) {
            table.insert(address, entry);
        }
        table
    }

    pub(super) fn entries(&self) -> &BTreeMap<Address, Entry> {
        &self.entries
    }

    /// What is said of a file; what was sent of it stays.
    pub(super) fn set(
        &mut self,
        address: Address,
        policy: SeedPolicy,
        size_bytes: u64,
        now_s: u64,
    ) -> Result<(), TableFull> {
        let before = self.entries.get(&address).copied();
        if before.is_none() && !self.make_room() {
            // One that is served for ever needs no entry.
            return if policy == SeedPolicy::Forever {
                Ok(())
            } else {
                Err(TableFull)
            };
        }
        let entry = Entry {
            policy,
            finished_s: now_s,
            size_bytes,
            uploaded_bytes: before.map_or(0, |entry| entry.uploaded_bytes),
        };
        self.insert(address, entry);
        Ok(())
    }

    /// So much more was sent. Whether it is counted: not when the table is full.
    pub(super) fn uploaded(&mut self, address: Address, bytes: u64) -> bool {
        if !self.entries.contains_key(&address) && self.entries.len() >= self.most {
            return false;
        }
        let entry = self.entries.entry(address).or_default();
        entry.uploaded_bytes = entry.uploaded_bytes.saturating_add(bytes);
        true
    }

    pub(super) fn get(&self, address: &Address) -> Entry {
        self.entries.get(address).copied().unwrap_or_default()
    }

    pub(super) fn may_serve(&self, address: &Address, now_s: u64) -> bool {
        !self.get(address).is_over(now_s)
    }

    /// Files whose time is over since it was last asked.
    pub(super) fn take_over(&mut self, now_s: u64) -> Vec<Address> {
        let running = self.running.iter().copied();
        let over: Vec<Address> = running
            .filter(|address| !self.may_serve(address, now_s))
            .collect();
        for address in &over {
            self.running.remove(address);
        }
        over
    }

    /// Whether there was anything to forget.
    pub(super) fn forget(&mut self, address: &Address) -> bool {
        self.running.remove(address);
        self.entries.remove(address).is_some()
    }

    fn insert(&mut self, address: Address, entry: Entry) {
        match entry.policy {
            SeedPolicy::Forever => self.running.remove(&address),
            _ => self.running.insert(address),
        };
        self.entries.insert(address, entry);
    }

    /// Forgets a count of what is served for ever, if need be; whether there is room for one more.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < self.most {
            return true;
        }
        let counted = self
            .entries
            .iter()
            .find(|(_, entry)| entry.policy == SeedPolicy::Forever);
        let address = counted.map(|(address, _)| *address);
        address.is_some_and(|address| self.forget(&address))
    }
}
