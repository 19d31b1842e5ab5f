//! The record store: tables in memory, shared by Kademlia and the provide protocol, with a thread that
//! writes their changes behind to a database and syncs them.
//!
//! Nothing here waits for the disk while a table is locked, and the network task never waits for it at
//! all. Times are Unix seconds, so that expiry goes on while the node is off.

mod asleep;
pub(crate) mod disk;
mod holders;
mod kad;
pub(crate) mod layout;
mod loading;
pub(crate) mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::{Multiaddr, PeerId};

pub use asleep::announce_status_of;
pub use disk::StoreError;
pub(crate) use kad::KadStore;
pub(crate) use tables::Refused;

use crate::Key;
use crate::announce::due::{DueTable, Kind};
use crate::config::{AnnounceTimes, Limits};
use disk::Disk;
use layout::Entry;
use tables::Tables;
use writer::Writer;

/// Keys looked at in one step of the sweep: some milliseconds of a locked table.
const SWEEP_KEYS: usize = 2048;
/// An own value has no expiry; it goes with its key.
const NEVER: u32 = u32::MAX;

/// Where the time of day comes from; tests bring their own.
pub(crate) type Clock = Arc<dyn Fn() -> u32 + Send + Sync>;

/// The clock of the machine.
pub(crate) fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}

/// The record store.
pub(crate) struct Records {
    me: PeerId,
    /// Never locked together with `due`.
    tables: Mutex<Tables>,
    due: Mutex<DueTable>,
    writer: Writer,
    clock: Clock,
}

impl Records {
    /// Opens the store below `dir` and reads everything in. Blocking.
    pub(crate) fn open(
        dir: &Path,
        me: PeerId,
        limits: Limits,
        times: &AnnounceTimes,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let disk = Disk::open(dir)?;
        let now = clock();
        let mut tables = Tables::new(me, limits);
        let mut due = DueTable::new(times);
        let mut unreadable = 0u64;
        disk.load(|name, bytes| match layout::read(name, bytes) {
            Some(Entry::Due {
                key,
                kind,
                copies,
                last_ok,
            }) => due.load(key, kind, copies, last_ok),
            Some(entry) => tables.load(entry, now),
            None => unreadable += 1,
        })?;
        tables.loaded(now);
        // The key may have been lost, or its removal kept, when the node was killed in between.
        let ownerless = tables.retain_own_values(|key| due.is_file(key));
        if ownerless > 0 {
            tracing::debug!(ownerless, "values of files that are not announced dropped");
        }
        if unreadable > 0 {
            tracing::warn!(unreadable, "entries of the record store could not be read");
        }
        tracing::debug!(scheduled = due.len(), "record store opened");
        let records = Arc::new(Self {
            me,
            tables: Mutex::new(tables),
            due: Mutex::new(due),
            writer: Writer::new(),
            clock,
        });
        records.writer.start(disk, &records);
        Ok(records)
    }

    pub(crate) fn me(&self) -> &PeerId {
        &self.me
    }

    /// The time of day in Unix seconds.
    pub(crate) fn now(&self) -> u32 {
        (self.clock)()
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic elsewhere cannot leave the tables half changed in a way that matters: they are caches.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn due(&self) -> MutexGuard<'_, DueTable> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds keys to the schedule; durable when this returns.
    pub(crate) async fn schedule(&self, keys: &[Key], kind: Kind) -> Result<(), StoreError> {
        // In pieces, so that lookups are answered in between.
        for piece in keys.chunks(4096) {
            let mut due = self.due();
            piece.iter().for_each(|key| due.insert(*key, kind));
        }
        self.sync().await
    }

    /// Adds a file whose announcement is under way until then; durable when this returns.
    pub(crate) async fn schedule_held(&self, key: Key, until: u32) -> Result<(), StoreError> {
        self.due().insert_held(key, until);
        self.sync().await
    }

    /// Takes keys off the schedule, with their values; durable when this returns.
    pub(crate) async fn unschedule(&self, keys: &[Key]) -> Result<(), StoreError> {
        for key in keys {
            let was = self.due().remove(key);
            if was == Some(Kind::File) {
                let mut tables = self.tables();
                if tables.own_value(key).is_some() {
                    tables.remove_value(key);
                }
            }
        }
        self.sync().await
    }

    /// Keeps a value that this node publishes.
    pub(crate) fn put_own_value(&self, key: Key, value: Vec<u8>) -> Result<(), Refused> {
        let now = self.now();
        self.tables().put_value(key, value, &self.me, NEVER, now)
    }

    /// Notes where this node can be reached.
    pub(crate) fn set_own_addrs(&self, addrs: &[Multiaddr]) {
        self.tables().set_addrs(&self.me, addrs);
    }

    /// Where this node can be reached.
    pub(crate) fn own_addrs(&self) -> Vec<Multiaddr> {
        self.tables().addrs(&self.me)
    }

    /// Takes keys that `peer` provides for `ttl`, in order; returns how many were taken before the
    /// first that was not.
    pub(crate) fn add_provided(
        &self,
        peer: &PeerId,
        addrs: &[Multiaddr],
        keys: &[Key],
        ttl: Duration,
    ) -> usize {
        let now = self.now();
        let expires = now.saturating_add(u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX));
        let mut tables = self.tables();
        let taken = keys.iter().take_while(|key| {
            let taken = tables.add_provider(**key, peer, expires, now);
            taken.is_ok()
        });
        let taken = taken.count();
        tables.set_addrs(peer, addrs);
        taken
    }

    /// Drops some of what has expired.
    pub(crate) fn sweep_step(&self) {
        let now = self.now();
        let dropped = self.tables().sweep(now, SWEEP_KEYS);
        if dropped > 0 {
            tracing::debug!(dropped, "expired records dropped");
        }
    }

    /// Returns when everything changed before the call is durable.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        self.writer.sync().await
    }

    /// Writes what is left and closes the database. Later changes stay in memory.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.writer.close().await
    }
}
