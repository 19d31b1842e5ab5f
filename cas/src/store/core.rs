//! The store without the folder it lives in: its parts, its locks, and the way to commit.
//!
//! Order of a commit: bytes to the pack, fdatasync of the pack, index batches, acknowledgement. An index
//! entry therefore never points at bytes that a power cut could take back.
//!
//! Locks, in the order in which they may be taken: `collecting` (one eviction or rewriting of a pack at a
//! time), `membership` (one change of what is in directories at a time), `commit` (one flush or metadata change at a time), `holds`, `writer` (one append at a time), `pending`. Reading takes only `pending` and `lent`, shared and
//! briefly.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::chunks::{Pending, Writer};
use super::clones::Clones;
use super::collect::Evictions;
use super::counts::Counts;
use super::entry::{self, ChunkEntry, Totals};
use super::flush::Extra;
use super::hold::Holds;
use super::index::{Index, MAX_BATCH_KEYS, Op};
use super::ledger::Ledger;
use super::lent::Lent;
use super::lock;
use super::pack::{Location, Packs, RecordKind};
use super::source::SourceFiles;
use super::space::Space;
use super::syncer::Syncer;
use super::unfinished::Unfinished;
use crate::error::{IndexError, StoreError};
use crate::id::{Address, ChunkHash, HASH_BYTES};

/// What only the holder of the commit lock may change.
pub(super) struct Committed {
    /// The value of `Writer::appended` that the last commit covered.
    pub(super) appended: u64,
    pub(super) ledger: Ledger,
    /// The chunks that unfinished downloads want; none when it must be found out anew.
    pub(super) wanted: Option<Arc<HashSet<ChunkHash>>>,
    /// Up to where packs are durable with records that the index is told of by the next flush only: a recovery
    /// has to find them until then.
    pub(super) durable: Vec<(u32, u64)>,
    /// Tombstones of removals that are complete: their records go with the next ones.
    pub(super) spent: Vec<(Address, Location)>,
}

/// The store without the folder it lives in.
pub(crate) struct Core {
    pub(super) index: Arc<dyn Index>,
    pub(super) packs: Packs,
    pub(super) space: Space,
    pub(super) sources: SourceFiles,
    pub(super) clones: Clones,
    pub(super) unfinished: Unfinished,
    pub(super) commit: Mutex<Committed>,
    pub(super) holds: Mutex<Holds>,
    pub(super) evictions: Mutex<Evictions>,
    /// Held by whoever evicts or rewrites a pack: one at a time. Taken before all others.
    pub(super) collecting: Mutex<()>,
    /// Held by whoever enters or removes a directory, or sweeps: one at a time.
    pub(super) membership: Mutex<()>,
    /// Held by whoever changes what is remembered of files outside.
    pub(super) stamps: Mutex<()>,
    /// Guards that keep members which no directory lists yet.
    pub(super) member_holds: AtomicUsize,
    measuring: Mutex<()>,
    /// Records of changes that failed before they were durable.
    pub(super) not_done: Mutex<Vec<Location>>,
    pub(super) writer: Mutex<Writer>,
    pub(super) pending: RwLock<HashMap<ChunkHash, Pending>>,
    pub(super) lent: RwLock<HashMap<ChunkHash, Lent>>,
    /// Nothing may be written.
    read_only: bool,
    /// Set when a write failed so that the state of the disk is unknown.
    pub(super) broken: AtomicBool,
    /// Damage was met: the next open must check the index even after an orderly close.
    pub(super) suspect: AtomicBool,
    /// Counters for `stats`, a copy of those under the commit lock.
    chunks: AtomicU64,
    bytes: AtomicU64,
    live: AtomicU64,
    pub(super) counts: Counts,
    syncer: Option<Syncer>,
}

impl Core {
    pub(super) fn new(
        index: Arc<dyn Index>,
        packs: Packs,
        space: Space,
        (clones, unfinished): (Clones, Unfinished),
        ledger: Ledger,
        syncer: Option<Syncer>,
        read_only: bool,
    ) -> Self {
        let core = Self {
            index,
            packs,
            space,
            sources: SourceFiles::default(),
            clones,
            unfinished,
            commit: Mutex::new(Committed {
                appended: 0,
                ledger,
                wanted: None,
                durable: Vec::new(),
                spent: Vec::new(),
            }),
            holds: Mutex::default(),
            evictions: Mutex::default(),
            collecting: Mutex::default(),
            membership: Mutex::default(),
            stamps: Mutex::default(),
            member_holds: AtomicUsize::new(0),
            measuring: Mutex::default(),
            not_done: Mutex::default(),
            writer: Mutex::default(),
            pending: RwLock::default(),
            lent: RwLock::default(),
            read_only,
            broken: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            chunks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            live: AtomicU64::new(0),
            counts: Counts::default(),
            syncer,
        };
        core.publish_totals(&lock(&core.commit).ledger);
        core.measure();
        core
    }

    /// Stops syncing behind, after one last time; whether the store is known to be in order.
    pub(super) fn close(&mut self) -> bool {
        let Some(mut syncer) = self.syncer.take() else {
            return false;
        };
        syncer.mark_dirty();
        syncer.stop();
        syncer.take_failure().is_none()
            && !self.broken.load(Ordering::Relaxed)
            && !self.suspect.load(Ordering::Relaxed)
    }

    /// Remembers that the index is damaged, so that the next open does not trust it.
    pub(super) fn noting<T>(&self, result: Result<T, IndexError>) -> Result<T, StoreError> {
        if let Err(error) = &result
            && error.is_corruption()
        {
            self.suspect.store(true, Ordering::Relaxed);
        }
        Ok(result?)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        if self.read_only {
            return Err(StoreError::ReadOnly {
                path: self.packs.path(),
            });
        }
        if let Some(failure) = self.syncer.as_ref().and_then(Syncer::take_failure) {
            self.broken.store(true, Ordering::Relaxed);
            return Err(failure.into());
        }
        if self.broken.load(Ordering::Relaxed) {
            Err(StoreError::WritesStopped)
        } else {
            Ok(())
        }
    }

    /// What the index has of a key.
    pub(super) fn read<T>(
        &self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, IndexError>,
    ) -> Result<Option<T>, StoreError> {
        let value = self.noting(self.index.get(key))?;
        self.noting(value.as_deref().map(decode).transpose())
    }

    /// The entry of a chunk that is in the index, bad or not.
    pub(super) fn indexed(&self, hash: &ChunkHash) -> Result<Option<ChunkEntry>, StoreError> {
        self.read(&entry::chunk_key(hash), ChunkEntry::decode)
    }

    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let target = lock(&self.writer).appended;
        let mut committed = lock(&self.commit);
        if committed.appended >= target {
            // Another thread's commit covered it while this one waited.
            return self.check_writable();
        }
        self.flush(&mut committed, Extra::default())
    }

    /// Syncs the index; after a failure nobody can say what it has.
    pub(super) fn sync_index(&self) -> Result<(), StoreError> {
        let result = self.noting(self.index.sync());
        if result.is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Finds out what the store occupies.
    pub(super) fn measure(&self) {
        self.measure_after(0);
    }

    /// The same, when `unmeasured_bytes` of what was appended are sure to be on the disk.
    pub(super) fn measure_after(&self, unmeasured_bytes: u64) {
        // An older measurement must not come after a newer one.
        let _alone = lock(&self.measuring);
        let own = self.packs.disk_bytes() + self.index.disk_bytes();
        let files = self.clones.disk_bytes() + self.unfinished.disk_bytes();
        let bytes = own + self.space.reserve_disk_bytes() + files;
        self.space.measured(bytes, unmeasured_bytes);
    }

    /// Appends a record, and counts what it takes.
    pub(super) fn append(
        &self,
        kind: RecordKind,
        hash: &[u8; HASH_BYTES],
        payload: &[u8],
    ) -> Result<Location, StoreError> {
        let at = self.packs.append(kind, hash, payload)?;
        self.space.note_append(at.record_bytes());
        Ok(at)
    }

    /// The same for a record of a change that is taken back if it fails: it is written together with
    /// others.
    pub(super) fn collect(
        &self,
        kind: RecordKind,
        hash: &[u8; HASH_BYTES],
        payload: &[u8],
    ) -> Result<Location, StoreError> {
        let at = self.packs.collect(kind, hash, payload)?;
        self.space.note_append(at.record_bytes());
        Ok(at)
    }

    /// One batch to the index.
    pub(super) fn apply(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        if ops.is_empty() {
            return Ok(());
        }
        let are_about_files = Counts::are_about(&ops);
        self.noting(self.index.apply(ops))?;
        if are_about_files {
            self.counts.note_change();
        }
        if let Some(syncer) = &self.syncer {
            syncer.mark_dirty();
        }
        Ok(())
    }

    /// One batch with the counters that go with it.
    pub(super) fn apply_counted(
        &self,
        committed: &mut Committed,
        ops: Vec<Op>,
    ) -> Result<(), StoreError> {
        let mut changes = committed.ledger.take_changes();
        // More packs than fit one batch: what was synced and indexed so far is true already.
        while changes.len() + ops.len() > MAX_BATCH_KEYS {
            let rest = changes.split_off(changes.len().min(MAX_BATCH_KEYS / 2));
            let early = std::mem::replace(&mut changes, rest);
            self.apply_or_break(early)?;
        }
        changes.extend(ops);
        self.apply_or_break(changes)?;
        self.publish_totals(&committed.ledger);
        Ok(())
    }

    /// The counters in memory are ahead of the index when this fails: only a reopen brings them together.
    fn apply_or_break(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let result = self.apply(ops);
        if result.is_err() {
            self.broken.store(true, Ordering::Relaxed);
            self.suspect.store(true, Ordering::Relaxed);
        }
        result
    }

    fn publish_totals(&self, ledger: &Ledger) {
        let totals = ledger.totals();
        self.chunks.store(totals.chunks, Ordering::Relaxed);
        self.bytes.store(totals.bytes, Ordering::Relaxed);
        self.live.store(ledger.live_bytes(), Ordering::Relaxed);
    }

    pub(super) fn packs_path(&self) -> std::path::PathBuf {
        self.packs.path()
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            chunks: self.chunks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Bytes of the records that the index points at, of all packs.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }
}
