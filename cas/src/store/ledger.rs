//! What the index counts: chunks and their bytes, live bytes of each pack and of each source.
//!
//! A change of the index goes together with the counters it changes, in one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::entry::{self, ChunkEntry, PackAccount, Place, SourceAccount, Totals};
use super::index::{Index, Op};
use super::pack::Location;
use crate::error::IndexError;
use crate::id::Address;

/// The counters, in memory, and which of them the index does not have yet.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    totals: Totals,
    packs: BTreeMap<u32, PackAccount>,
    sources: BTreeMap<u32, SourceAccount>,
    totals_changed: bool,
    packs_changed: BTreeSet<u32>,
    sources_changed: BTreeSet<u32>,
}

impl Ledger {
    /// The counters as the index has them.
    pub(super) fn load(index: &dyn Index) -> Result<Self, IndexError> {
        let mut ledger = Self::default();
        if let Some(value) = index.get(&entry::totals_key())? {
            ledger.totals = Totals::decode(&value)?;
        }
        index.scan(entry::PACK_PREFIX, &mut |key, value| {
            let account = PackAccount::decode(value)?;
            ledger.packs.insert(entry::number_of_key(key)?, account);
            Ok(ControlFlow::Continue(()))
        })?;
        index.scan(entry::SOURCE_PREFIX, &mut |key, value| {
            let account = SourceAccount::decode(value)?;
            ledger.sources.insert(entry::number_of_key(key)?, account);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(ledger)
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn packs(&self) -> &BTreeMap<u32, PackAccount> {
        &self.packs
    }

    pub(super) fn sources(&self) -> &BTreeMap<u32, SourceAccount> {
        &self.sources
    }

    /// Bytes that records use which the index points at.
    pub(super) fn live_bytes(&self) -> u64 {
        self.packs.values().map(|account| account.live_bytes).sum()
    }

    /// A chunk's entry changes from `old` to `new`.
    pub(super) fn chunk(&mut self, old: Option<&ChunkEntry>, new: Option<&ChunkEntry>) {
        let (old, new) = (old.filter(|old| !old.bad), new.filter(|new| !new.bad));
        if let Some(old) = old {
            self.totals.remove(old);
            match old.place {
                Place::Pack(at) => self.record(Some(at), None),
                Place::Source(extent) => self.of_source(extent.source, |live| {
                    live.saturating_sub(extent.len_bytes.into())
                }),
            }
        }
        if let Some(new) = new {
            self.totals.add(new);
            match new.place {
                Place::Pack(at) => self.record(None, Some(at)),
                Place::Source(extent) => {
                    self.of_source(extent.source, |live| live + u64::from(extent.len_bytes));
                }
            }
        }
        self.totals_changed |= old.is_some() || new.is_some();
    }

    /// The index points at `new` in place of `old`.
    pub(super) fn record(&mut self, old: Option<Location>, new: Option<Location>) {
        if let Some(old) = old {
            self.of_pack(old.pack, |account| {
                account.live_bytes = account.live_bytes.saturating_sub(old.record_bytes());
            });
        }
        if let Some(new) = new {
            self.of_pack(new.pack, |account| account.live_bytes += new.record_bytes());
        }
    }

    /// The pack is durable and indexed up to here.
    pub(super) fn durable(&mut self, pack: u32, durable_bytes: u64) {
        self.of_pack(pack, |account| account.durable_bytes = durable_bytes);
    }

    /// The pack is gone.
    pub(super) fn forget_pack(&mut self, pack: u32) {
        self.packs.remove(&pack);
        self.packs_changed.insert(pack);
    }

    /// A number for a new source.
    pub(super) fn add_source(&mut self, source: u32, address: Address) {
        let account = SourceAccount {
            address,
            live_bytes: 0,
        };
        self.sources.entry(source).or_insert(account);
        self.sources_changed.insert(source);
    }

    /// The source is not used any more.
    pub(super) fn forget_source(&mut self, source: u32) {
        self.sources.remove(&source);
        self.sources_changed.insert(source);
    }

    fn of_pack(&mut self, pack: u32, change: impl FnOnce(&mut PackAccount)) {
        change(self.packs.entry(pack).or_default());
        self.packs_changed.insert(pack);
    }

    fn of_source(&mut self, source: u32, change: impl FnOnce(u64) -> u64) {
        if let Some(account) = self.sources.get_mut(&source) {
            account.live_bytes = change(account.live_bytes);
            self.sources_changed.insert(source);
        }
    }

    /// What the index must be told, at most one more than twice the number of entries changed since the
    /// last time; it is taken to be told.
    pub(super) fn take_changes(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        if std::mem::take(&mut self.totals_changed) {
            ops.push((entry::totals_key(), Some(self.totals.encode())));
        }
        for pack in std::mem::take(&mut self.packs_changed) {
            let account = self.packs.get(&pack).map(|account| account.encode());
            ops.push((entry::pack_key(pack), account));
        }
        for source in std::mem::take(&mut self.sources_changed) {
            let account = self.sources.get(&source).map(|account| account.encode());
            ops.push((entry::source_key(source), account));
        }
        ops
    }

    /// Whether the counters are the same.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let live = |ledger: &Self| -> Vec<(u32, u64)> {
            let accounts = ledger.packs.iter();
            let live = accounts.map(|(pack, account)| (*pack, account.live_bytes));
            live.filter(|(_, bytes)| *bytes > 0).collect()
        };
        let sources = |ledger: &Self| -> Vec<(u32, u64)> {
            let accounts = ledger.sources.iter();
            accounts
                .map(|(id, source)| (*id, source.live_bytes))
                .collect()
        };
        self.totals == other.totals && live(self) == live(other) && sources(self) == sources(other)
    }
}
