//! The record store: tables in memory, shared by Kademlia and the records protocol, with a thread that
//! writes their changes behind to a log and syncs it.
//!
//! Nothing here waits for the disk while a table is locked, and the network task never waits for it at
//! all. Times are Unix seconds, so that expiry goes on while the node is off.

mod asleep;
mod changes;
mod crowds;
pub(crate) mod disk;
pub(crate) mod envelope;
mod held;
mod kad;
mod known;
pub(crate) mod layout;
mod loading;
mod peers;
mod room;
pub(crate) mod shelf;
pub(crate) mod tables;
#[cfg(test)]
mod tests;
mod values;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::Notify;
use tokio::time::timeout;

pub use asleep::{SleepingSchedule, announce_status_of};
pub use disk::StoreError;
pub(crate) use kad::KadStore;
pub(crate) use known::Remembered;
pub(crate) use tables::Refused;

use crate::Key;
use crate::announce::schedule::{Kind, Schedule, Tags, by_bucket};
use crate::config::{AnnounceTimes, Limits};
use crate::key::Point;
use crate::neighbourhood::Neighbourhood;
use crate::net::addrs::is_loopback;
use crate::origin::Origin;
use disk::Disk;
use tables::Tables;
use writer::Writer;

/// Keys looked at in one step of the sweep: some milliseconds of a locked table.
const SWEEP_KEYS: usize = 2048;
/// Announced keys taken while the tables are locked once: a few milliseconds at worst.
pub(crate) const KEYS_AT_ONCE: usize = 64;
/// How old the envelope of an own value may be when it goes out. As young as that, it outlives the records
/// of those who took it a little later.
const RESEAL_SECS: u32 = 3600;
/// Keys that enter the schedule while it is locked once: a few milliseconds, if most of it is away.
const PIECE_KEYS: usize = 1024;
/// How long announcers are made to wait for the disk.
const ROOM_DEADLINE: Duration = Duration::from_secs(10);

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

/// Who announces keys.
pub(crate) struct Announcer<'a> {
    /// The peer at the other end of the connection.
    pub(crate) peer: PeerId,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// Where it says that it listens.
    pub(crate) addrs: &'a [Multiaddr],
}

/// What became of announced keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// One for each key: whether a record of it is held now.
    pub(crate) taken: Vec<bool>,
    /// Whether a quota was in the way of any.
    pub(crate) full: bool,
    /// In the way of how many.
    pub(crate) over_quota: usize,
    /// How many were not taken because other nodes are closer.
    pub(crate) far: usize,
}

impl Taken {
    /// Joins what became of the next keys.
    pub(crate) fn join(&mut self, next: Self) {
        self.taken.extend(next.taken);
        self.full |= next.full;
        self.over_quota += next.over_quota;
        self.far += next.far;
    }

    /// How many were taken.
    pub(crate) fn count(&self) -> usize {
        self.taken.iter().filter(|taken| **taken).count()
    }
}

/// The record store.
pub(crate) struct Records {
    me: PeerId,
    /// Signs own values.
    keypair: Keypair,
    /// Never locked together with `due`.
    tables: Mutex<Tables>,
    due: Mutex<Schedule>,
    /// Which keys the schedule has, for who must not wait for it.
    tags: Arc<Tags>,
    /// `None` when everything stays in memory.
    writer: Option<Writer>,
    /// Told whenever changes have been written.
    written: Notify,
    clock: Clock,
}

impl Records {
    /// Opens the store below `dir` and reads everything in. Blocking. Without a folder everything stays in
    /// memory, with no file and no thread: for simulations with many nodes in one process.
    pub(crate) fn open(
        dir: Option<&Path>,
        keypair: &Keypair,
        limits: Limits,
        times: &AnnounceTimes,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let me = keypair.public().to_peer_id();
        // Said at the start rather than with every value that cannot go out.
        envelope::seal(keypair, &[0; 32], &[], 0).ok_or(StoreError::Key)?;
        let cache_bytes = limits.records_cache_bytes;
        let mut disk = dir
            .map(|dir| Disk::open_with(dir, cache_bytes))
            .transpose()?;
        let mut tables = Tables::new(me, limits, disk.is_some());
        let mut due = Schedule::new(times, &Point::of_peer(&me));
        if let (Some(disk), Some(dir)) = (&mut disk, dir) {
            let files = loading::load_schedule(dir, &mut due, clock())?;
            loading::load(disk, &mut tables, &files, clock())?;
        }
        let writer = disk.as_ref().map(|_| Writer::new());
        let records = Arc::new(Self {
            me,
            keypair: keypair.clone(),
            tables: Mutex::new(tables),
            tags: due.tags(),
            due: Mutex::new(due),
            writer: writer.clone(),
            written: Notify::new(),
            clock,
        });
        if let (Some(writer), Some(disk)) = (writer, disk) {
            writer.start(disk, &records);
        }
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

    pub(crate) fn due(&self) -> MutexGuard<'_, Schedule> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds keys to the schedule; durable when this returns.
    pub(crate) async fn schedule(&self, keys: &[Key], kind: Kind) -> Result<(), StoreError> {
        // In pieces, so that others have their turn, and that what is in memory stays little.
        for piece in by_bucket(keys).chunks(PIECE_KEYS) {
            let is_crowded = {
                let mut due = self.due();
                piece.iter().for_each(|(_, key)| due.insert(**key, kind));
                due.is_crowded()
            };
            if is_crowded {
                self.sync().await?;
            }
        }
        self.sync().await
    }

    /// Whether this node announces the key. Nobody waits for the disk: one key of billions may be taken for another.
    pub(crate) fn provides(&self, key: &Key) -> bool {
        self.tags.may_have(key)
    }

    /// Adds a file whose announcement is under way until then; durable when this returns.
    pub(crate) async fn schedule_held(&self, key: Key, until: u32) -> Result<(), StoreError> {
        self.due().insert_held(key, until);
        self.sync().await
    }

    /// Takes keys off the schedule, with their values; durable when this returns.
    pub(crate) async fn unschedule(&self, keys: &[Key]) -> Result<(), StoreError> {
        for (_, key) in by_bucket(keys) {
            let (was, is_crowded) = {
                let mut due = self.due();
                (due.remove(key), due.is_crowded())
            };
            if is_crowded {
                self.sync().await?;
            }
            if was == Some(Kind::File) {
                let mut tables = self.tables();
                if tables.own_value(key).is_some() {
                    tables.remove_value(key);
                }
            }
        }
        self.sync().await
    }

    /// Keeps a value that this node publishes. It is signed when it first goes out: who stores thousands of files does not
    /// wait for thousands of signatures.
    pub(crate) fn put_own_value(&self, key: Key, value: &[u8]) -> Result<(), Refused> {
        let sealed = match self.sealed_lately(&key, value) {
            Some(sealed) => sealed,
            None => envelope::unsigned(&self.keypair, value).ok_or(Refused::Unsigned)?,
        };
        let (me, origin, now) = (self.me, Origin::default(), self.now());
        self.tables().put_value(key, sealed, &me, origin, now)
    }

    /// A value of this node in its envelope, as it goes out. That of a kept value serves for an hour.
    pub(crate) fn seal(&self, key: &Key, value: &[u8]) -> Result<Vec<u8>, Refused> {
        if let Some(sealed) = self.sealed_lately(key, value) {
            return Ok(sealed);
        }
        envelope::seal(&self.keypair, key, value, self.now()).ok_or(Refused::Unsigned)
    }

    /// The kept envelope of this value, if it was sealed within an hour.
    fn sealed_lately(&self, key: &Key, value: &[u8]) -> Option<Vec<u8>> {
        let now = self.now();
        let tables = self.tables();
        let (sealed, published_at) = tables.own_sealed(key)?;
        let is_young = published_at <= now && now - published_at < RESEAL_SECS;
        let is_same = || envelope::read(sealed).is_ok_and(|held| held.value == value);
        (is_young && is_same()).then(|| sealed.to_vec())
    }

    /// The value this node publishes under a key, in a fresh envelope.
    pub(crate) fn own_sealed(&self, key: &Key) -> Option<Vec<u8>> {
        let value = self.tables().own_value(key)?.to_vec();
        let sealed = self.seal(key, &value).ok()?;
        let (me, origin, now) = (self.me, Origin::default(), self.now());
        let mut tables = self.tables();
        // Unless it has just been taken back, or replaced.
        if tables.own_value(key) == Some(&value[..])
            && tables
                .own_sealed(key)
                .is_some_and(|(held, _)| held != sealed)
        {
            tables
                .put_value(*key, sealed.clone(), &me, origin, now)
                .ok()?;
        }
        Some(sealed)
    }

    /// Opens a value that came from another node.
    pub(crate) fn open_value<'a>(
        &self,
        key: &Key,
        sealed: &'a [u8],
        max_value_bytes: usize,
    ) -> Result<envelope::Published<'a>, envelope::EnvelopeError> {
        envelope::open(key, sealed, self.now(), max_value_bytes)
    }

    /// Notes peers to be dialled again after a restart. The freshest 512 are kept, with 4 addresses each.
    pub(crate) fn remember(&self, news: Vec<Remembered>) {
        self.tables().remember(news);
    }

    /// The peers noted before, the freshest first.
    pub(crate) fn remembered(&self) -> Vec<Remembered> {
        self.tables().remembered()
    }

    /// Notes where this node can be reached.
    pub(crate) fn set_own_addrs(&self, addrs: &[Multiaddr]) {
        self.tables().set_addrs(&self.me, addrs);
    }

    /// Where this node can be reached.
    pub(crate) fn own_addrs(&self) -> Vec<Multiaddr> {
        self.tables().addrs(&self.me)
    }

    /// Takes keys that a peer provides for `ttl`: those that this node is near to, as far as quotas allow. The
    /// tables are locked meanwhile: many keys are to come in pieces of [`KEYS_AT_ONCE`].
    pub(crate) fn add_provided(
        &self,
        from: &Announcer<'_>,
        keys: &[Key],
        ttl: Duration,
        near: &Neighbourhood,
    ) -> Taken {
        let now = self.now();
        let expires = now.saturating_add(u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX));
        let mut taken = Taken::default();
        let mut tables = self.tables();
        for key in keys {
            let is_near = near.is_near(key);
            let result = match is_near {
                true => tables.add_provider(*key, &from.peer, from.origin, expires, now),
                false => Err(Refused::Far),
            };
            taken.far += usize::from(!is_near);
            taken.over_quota += usize::from(result == Err(Refused::Quota));
            taken.taken.push(result.is_ok());
        }
        taken.full = taken.over_quota > 0;
        let known_remote = from.origin != Origin::default() && !from.origin.is_loopback();
        let addrs = from.addrs.iter();
        // Who comes from elsewhere is not to be found on this machine.
        let addrs = addrs.filter(|addr| !(known_remote && is_loopback(addr)));
        let addrs: Vec<Multiaddr> = addrs.cloned().collect();
        tables.set_addrs(&from.peer, &addrs);
        taken
    }

    /// Has changes written at once rather than within half a second; nobody waits for it.
    pub(crate) fn write_soon(&self) {
        if let Some(writer) = &self.writer {
            writer.hurry();
        }
    }

    /// Waits until the disk has caught up with what others announce, so that nobody is refused because
    /// it is slow; false when it has not within a while.
    pub(crate) async fn room(&self) -> bool {
        let wait = async {
            loop {
                // Before the look, so that no word of the writer is missed in between.
                let written = self.written.notified();
                if self.tables().dirty_len() < changes::MAX_WAITING {
                    break;
                }
                self.write_soon();
                written.await;
            }
        };
        timeout(ROOM_DEADLINE, wait).await.is_ok()
    }

    /// Drops some of what has expired.
    pub(crate) fn sweep_step(&self) {
        let now = self.now();
        let dropped = self.tables().sweep(now, SWEEP_KEYS);
        if dropped > 0 {
            tracing::debug!(dropped, "expired records dropped");
        }
        if self.writer.is_none() {
            self.forget_changes();
        }
    }

    /// Returns when everything changed before the call is durable.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        match &self.writer {
            Some(writer) => writer.sync().await,
            None => {
                self.forget_changes();
                Ok(())
            }
        }
    }

    /// Writes what is left and closes the log. Later changes stay in memory.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        match &self.writer {
            Some(writer) => writer.close().await,
            None => Ok(()),
        }
    }

    /// Nobody writes them.
    fn forget_changes(&self) {
        self.due().forget_changes();
    }
}
