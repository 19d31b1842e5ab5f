//! The thread that carries changes to the disk.
//!
//! The tables say what has changed; the thread takes the present state of those entries in small
//! batches. The queue is bounded by making announcers wait. What could not be written is tried again.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Records;
use super::changes::Change;
use super::disk::{BATCH_OPS, Disk, Sink, StoreError};
use super::layout::DiskOp;
use super::shelf::Written;

/// Requests to sync that may wait: callers are a few at a time, and one sync serves all waiting.
const MAX_WAITING: usize = 1024;
/// How long a change may stay in memory only.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// How long a written change may stay unsynced when nobody asks for it.
const SYNC_EVERY: Duration = Duration::from_secs(10);
/// Buckets of the schedule that are written at a time: of a million keys, 700 KiB.
const BATCH_BUCKETS: usize = 256;

enum Order {
    /// Write at once, but nobody waits for a sync.
    Hurry,
    Sync(Done),
    Close(Done),
}

type Done = oneshot::Sender<Result<(), StoreError>>;

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Writer {
    orders: SyncSender<Order>,
    /// Taken by the thread when it starts.
    inbox: Arc<Mutex<Option<Receiver<Order>>>>,
}

impl Writer {
    pub(super) fn new() -> Self {
        let (orders, inbox) = sync_channel(MAX_WAITING);
        Self {
            orders,
            inbox: Arc::new(Mutex::new(Some(inbox))),
        }
    }

    /// Starts the thread. It ends when it is told to, or when the records are dropped.
    pub(super) fn start(&self, disk: Disk, records: &Arc<Records>) {
        let inbox = self
            .inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(inbox) = inbox else { return };
        let records = Arc::downgrade(records);
        let run = move || run(disk, &inbox, &records);
        let started = std::thread::Builder::new()
            .name("dht-records".into())
            .spawn(run);
        if let Err(error) = started {
            // The inbox went with the closure: every sync now says Closed.
            tracing::error!(%error, "the record store cannot write");
        }
    }

    pub(super) async fn sync(&self) -> Result<(), StoreError> {
        self.order(Order::Sync).await
    }

    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.order(Order::Close).await
    }

    /// Asks for changes to be written now. Nothing is lost when too many ask: the thread is awake then.
    pub(super) fn hurry(&self) {
        let _ = self.orders.try_send(Order::Hurry);
    }

    async fn order(&self, order: impl FnOnce(Done) -> Order) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let mut order = order(done);
        loop {
            order = match self.orders.try_send(order) {
                Ok(()) => break,
                Err(TrySendError::Full(order)) => order,
                Err(TrySendError::Disconnected(_)) => return Err(StoreError::Closed),
            };
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

fn run(disk: Disk, inbox: &Receiver<Order>, records: &Weak<Records>) {
    let mut disk = disk;
    let mut backlog = Backlog::default();
    let mut synced_at = Instant::now();
    let mut unsynced = false;
    loop {
        let first = match inbox.recv_timeout(WRITE_EVERY) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let Some(records) = records.upgrade() else {
            break;
        };
        let (mut waiting, mut close) = (Vec::new(), false);
        for order in first.into_iter().chain(inbox.try_iter()) {
            match order {
                Order::Hurry => {}
                Order::Sync(done) => waiting.push(done),
                Order::Close(done) => {
                    waiting.push(done);
                    close = true;
                }
            }
        }
        let mut result = backlog.write_all(&mut disk, &records);
        let wrote = backlog.wrote();
        unsynced |= wrote;
        if result.is_ok() && wrote {
            // What only this process holds goes with it when it is killed.
            result = disk.hand_over();
        }
        let due = unsynced && synced_at.elapsed() >= SYNC_EVERY;
        if result.is_ok() && (!waiting.is_empty() || due) {
            result = sync(&disk, &records);
            synced_at = Instant::now();
            unsynced = result.is_err();
        }
        if let Err(error) = &result {
            tracing::error!(%error, "the record store cannot write; it tries again");
        }
        if close {
            // Whoever asked may open the store again at once.
            drop(disk);
            answer(waiting, result);
            return;
        }
        answer(waiting, result);
        if disk.is_stale()
            && let Err(error) = write_anew(&mut disk, &records)
        {
            // The old log goes on, and is no worse than before. Not again before it has grown as much.
            disk.put_off();
            tracing::warn!(%error, "the record log could not be written anew");
        }
    }
    if unsynced && let Err(error) = disk.sync() {
        tracing::error!(%error, "the record store cannot write");
    }
}

/// The schedule first: a value whose file is not in it would go at the next start.
fn sync(disk: &Disk, records: &Records) -> Result<(), StoreError> {
    let shelf = records.due().shelf();
    if let Some(shelf) = shelf {
        shelf.sync().map_err(StoreError::Schedule)?;
    }
    disk.sync()
}

/// Changes that have been taken from the tables and are not on the disk yet.
#[derive(Default)]
pub(super) struct Backlog {
    ops: Vec<DiskOp>,
    /// As [`Self::ops`], of the schedule.
    buckets: Vec<Written>,
    wrote: bool,
}

impl Backlog {
    /// Writes what had changed at the call, oldest first.
    pub(super) fn write_all(
        &mut self,
        disk: &mut impl Sink,
        records: &Records,
    ) -> Result<(), StoreError> {
        // What failed comes before what is newer.
        self.write(disk)?;
        // What comes meanwhile has to wait for the next round, or a round might never end.
        let batches = records.tables().dirty_len().div_ceil(BATCH_OPS);
        for _ in 0..batches {
            self.ops = records.tables().take_dirty(BATCH_OPS);
            records.written.notify_waiters();
            self.write(disk)?;
        }
        self.write_buckets(records)?;
        let batches = records.due().dirty_len().div_ceil(BATCH_BUCKETS);
        for _ in 0..batches {
            self.buckets = records.due().take_dirty(BATCH_BUCKETS);
            self.write_buckets(records)?;
        }
        Ok(())
    }

    fn write_buckets(&mut self, records: &Records) -> Result<(), StoreError> {
        let shelf = records.due().shelf();
        if let Some(shelf) = shelf.filter(|_| !self.buckets.is_empty()) {
            shelf.write(&self.buckets).map_err(StoreError::Schedule)?;
            records.due().written(&self.buckets);
            self.wrote = true;
        }
        self.buckets.clear();
        Ok(())
    }

    fn write(&mut self, disk: &mut impl Sink) -> Result<(), StoreError> {
        if !self.ops.is_empty() {
            disk.apply(&self.ops)?;
            self.ops.clear();
            self.wrote = true;
        }
        Ok(())
    }

    /// Whether anything was written since the last time this was asked.
    fn wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }
}

/// Writes the present state into a new log, in small pieces. What changes meanwhile is still queued, and
/// comes behind it.
pub(super) fn write_anew(disk: &mut Disk, records: &Records) -> Result<(), StoreError> {
    let mut new = disk.begin()?;
    let indices: Vec<u32> = records.tables().peers.indices().collect();
    for piece in indices.chunks(BATCH_OPS) {
        let ops = records
            .tables()
            .ops(piece.iter().map(|index| Change::Peer(*index)));
        new.apply(&ops)?;
    }
    for part in 0.. {
        let Some(ops) = records.tables().provider_ops(part) else {
            break;
        };
        new.apply(&ops)?;
    }
    let mut after = None;
    loop {
        let tables = records.tables();
        let keys = tables.values.keys_after(after, BATCH_OPS / 16);
        let Some(last) = keys.last() else { break };
        after = Some(*last);
        let ops = tables.ops(keys.into_iter().map(Change::Value));
        drop(tables);
        new.apply(&ops)?;
    }
    let known = records.tables().ops([Change::Known]);
    new.apply(&known)?;
    disk.replace(new)
}

/// Errors cannot be copied: the first who waits gets the true one.
fn answer(waiting: Vec<Done>, result: Result<(), StoreError>) {
    let failed = result.is_err();
    let mut result = Some(result);
    for done in waiting {
        let again = if failed {
            Err(StoreError::Closed)
        } else {
            Ok(())
        };
        let _ = done.send(result.take().unwrap_or(again));
    }
}
