//! The thread that carries changes to the database.
//!
//! The tables say what has changed; the thread takes the present state of those entries in small
//! batches. The queue is therefore bounded by the tables, and a hot entry is written once.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Records;
use super::disk::{BATCH_OPS, Disk, StoreError};

/// Requests to sync that may wait: callers are a few at a time, and one sync serves all waiting.
const MAX_WAITING: usize = 1024;
/// How long a change may stay in memory only.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// How long a written change may stay unsynced when nobody asks for it.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// A value is cut into this many entries.
const MAX_OPS_PER_CHANGE: usize = 5;

struct Order {
    close: bool,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The way to the thread.
pub(super) struct Writer {
    orders: SyncSender<Order>,
    /// Taken by the thread when it starts.
    inbox: Mutex<Option<Receiver<Order>>>,
}

impl Writer {
    pub(super) fn new() -> Self {
        let (orders, inbox) = sync_channel(MAX_WAITING);
        Self {
            orders,
            inbox: Mutex::new(Some(inbox)),
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
        self.order(false).await
    }

    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.order(true).await
    }

    async fn order(&self, close: bool) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let mut order = Order { close, done };
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
        let orders: Vec<_> = first.into_iter().chain(inbox.try_iter()).collect();
        let written = write_all(&disk, &records);
        let mut result = written.and_then(|wrote| {
            unsynced |= wrote;
            // What only this process holds goes with it when it is killed.
            if wrote { disk.hand_over() } else { Ok(()) }
        });
        let due = unsynced && synced_at.elapsed() >= SYNC_EVERY;
        if result.is_ok() && (!orders.is_empty() || due) {
            result = disk.sync();
            synced_at = Instant::now();
            unsynced = result.is_err();
        }
        if let Err(error) = &result {
            tracing::error!(%error, "the record store cannot write");
        }
        let close = orders.iter().any(|order| order.close);
        if close {
            // Whoever asked may open the database again at once.
            drop(disk);
            answer(orders, result);
            return;
        }
        answer(orders, result);
    }
    if unsynced && let Err(error) = disk.sync() {
        tracing::error!(%error, "the record store cannot write");
    }
}

/// Writes what had changed at the call, oldest first; returns whether that was anything.
fn write_all(disk: &Disk, records: &Records) -> Result<bool, StoreError> {
    let mut wrote = false;
    // What comes meanwhile has to wait for the next round, or a round might never end.
    let mut batches = records
        .tables()
        .dirty_len()
        .div_ceil(BATCH_OPS / MAX_OPS_PER_CHANGE);
    while batches > 0 {
        let ops = records.tables().take_dirty(BATCH_OPS);
        if ops.is_empty() {
            break;
        }
        batches -= 1;
        wrote = true;
        disk.apply(ops)?;
    }
    let mut batches = records.due().dirty_len().div_ceil(BATCH_OPS);
    while batches > 0 {
        let ops = records.due().take_dirty(BATCH_OPS);
        batches -= 1;
        wrote = true;
        disk.apply(ops)?;
    }
    Ok(wrote)
}

/// Errors cannot be copied: the first who waits gets the true one.
fn answer(orders: Vec<Order>, result: Result<(), StoreError>) {
    let failed = result.is_err();
    let mut result = Some(result);
    for order in orders {
        let again = if failed {
            Err(StoreError::Closed)
        } else {
            Ok(())
        };
        let _ = order.done.send(result.take().unwrap_or(again));
    }
}
