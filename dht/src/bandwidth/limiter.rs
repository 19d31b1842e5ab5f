//! A limit that tasks wait for: the bucket, a clock, and whom to wake when the limit changes.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::bucket::{Bucket, Ticket};

/// A stream reserves what the rate allows in this part of a second, so that many streams get on alike.
const QUANTA_PER_S: u64 = 50;
/// But no less than this: smaller pieces cost more than they bring.
const MIN_QUANTUM_BYTES: usize = 4 << 10;

/// The limit of one direction.
pub(super) struct Limiter {
    /// Bytes a second, 0 without a limit: all that is looked at then.
    rate: AtomicU64,
    bucket: Mutex<Bucket>,
    changed: Notify,
    began: Instant,
}

/// When a reservation may go.
pub(super) enum Turn {
    Now,
    Later,
    /// The limit has changed: reserve again.
    Void,
}

impl Limiter {
    pub(super) fn new(rate: Option<NonZeroU64>) -> Self {
        Self {
            rate: AtomicU64::new(rate.map_or(0, NonZeroU64::get)),
            bucket: Mutex::new(Bucket::new(rate, Duration::ZERO)),
            changed: Notify::new(),
            began: Instant::now(),
        }
    }

    /// Bytes a second, if there is a limit.
    pub(super) fn rate(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.rate.load(Ordering::Relaxed))
    }

    pub(super) fn set_rate(&self, rate: Option<NonZeroU64>) {
        let mut bucket = self.bucket();
        bucket.set_rate(self.now(), rate);
        let rate = rate.map_or(0, NonZeroU64::get);
        self.rate.store(rate, Ordering::Relaxed);
        drop(bucket);
        self.changed.notify_waiters();
    }

    /// The most that a stream reserves at a time.
    pub(super) fn quantum_bytes(&self) -> usize {
        let share = self.rate.load(Ordering::Relaxed) / QUANTA_PER_S;
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        share.max(MIN_QUANTUM_BYTES)
    }

    /// Reserves bytes that wait for their turn.
    pub(super) fn queue(&self, bytes: usize) -> Ticket {
        let now = self.now();
        self.bucket().queue(now, bytes as u64)
    }

    /// Notes bytes that have gone without waiting.
    pub(super) fn owe(&self, bytes: usize) {
        let now = self.now();
        self.bucket().reserve(now, bytes as u64);
    }

    /// How many bytes may go without waiting.
    pub(super) fn loan_bytes(&self) -> usize {
        let now = self.now();
        usize::try_from(self.bucket().loan_bytes(now)).unwrap_or(usize::MAX)
    }

    pub(super) fn cancel(&self, ticket: Ticket) {
        self.bucket().cancel(ticket);
    }

    pub(super) fn give_back(&self, ticket: Ticket, bytes: usize) {
        self.bucket().give_back(ticket, bytes as u64);
    }

    /// Takes the ticket if its turn has come.
    pub(super) fn turn(&self, ticket: Ticket) -> Turn {
        let now = self.now();
        let mut bucket = self.bucket();
        match bucket.due(ticket) {
            None => Turn::Void,
            Some(due) if due <= now => {
                bucket.take(ticket);
                Turn::Now
            }
            Some(_) => Turn::Later,
        }
    }

    /// Waits until a reservation may go, or the limit changes.
    pub(super) async fn wait(self: Arc<Self>, ticket: Ticket) {
        let mut changed = std::pin::pin!(self.changed.notified());
        // From here on no change is missed; one from before has made the ticket void.
        Pin::as_mut(&mut changed).enable();
        if let Some(due) = self.due(ticket) {
            let _ = timeout_at(due, changed).await;
        }
    }

    fn due(&self, ticket: Ticket) -> Option<Instant> {
        let due = self.bucket().due(ticket)?;
        // What lies beyond the clock's end is waited for until the limit changes.
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        Some(self.began + due.min(self.now() + FAR))
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
