//! What others send on their own account: exchange streams and value records.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::task::TaskTracker;

use crate::Key;
use crate::config::Limits;
use crate::counters::Counters;
use crate::exchange;
use crate::handle::Inner;
use crate::net::streams::{Incoming as IncomingStreams, Stream};
use crate::places::{Place, Places};
use crate::records::Refused;
use crate::start::Incoming;

/// Value records that wait to be checked: 2 MiB at most, for larger values are not queued; milliseconds of
/// work.
const MAX_UNCHECKED_VALUES: usize = 256;
/// Of these, from one peer: nobody fills the queue alone.
const MAX_UNCHECKED_PER_SOURCE: usize = 16;
/// How long greeting the other side, and handing its stream to the node, may take.
const HAND_OVER: Duration = Duration::from_secs(10);

/// A value record as it came from another peer.
pub(crate) struct UncheckedValue {
    pub(crate) key: Key,
    pub(crate) value: Vec<u8>,
    pub(crate) source: PeerId,
    _place: Place<PeerId>,
}

/// The way of value records to where they are checked.
pub(crate) struct ValueQueue {
    sender: mpsc::Sender<UncheckedValue>,
    waiting: Arc<Places<PeerId>>,
}

impl ValueQueue {
    /// A queue, and its end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<UncheckedValue>) {
        let (sender, values) = mpsc::channel(MAX_UNCHECKED_VALUES);
        let waiting = Arc::default();
        (Self { sender, waiting }, values)
    }

    /// Queues a value; false when too many wait, in all or from this source.
    pub(super) fn push(&self, key: Key, value: Vec<u8>, source: PeerId) -> bool {
        let place = self.waiting.take(source, MAX_UNCHECKED_PER_SOURCE);
        place.is_some_and(|place| {
            let unchecked = UncheckedValue {
                key,
                value,
                source,
                _place: place,
            };
            self.sender.try_send(unchecked).is_ok()
        })
    }
}

/// Counts streams per peer.
pub(crate) type PerPeer = Places<PeerId>;

/// One peer's stream; gives its place back when dropped.
pub(crate) struct Slot {
    _place: Place<PeerId>,
    _all: OwnedSemaphorePermit,
}

impl Slot {
    pub(crate) fn take(
        counts: &Arc<PerPeer>,
        all: &Arc<Semaphore>,
        peer: PeerId,
        max_per_peer: usize,
    ) -> Option<Self> {
        Some(Self {
            _all: all.clone().try_acquire_owned().ok()?,
            _place: counts.take(peer, max_per_peer)?,
        })
    }
}

/// Takes exchange streams and hands them to the node. Only takes them, for few may wait: everything else is done in tasks,
/// of which there is a bounded number.
pub(crate) async fn accept_exchange(
    mut streams: IncomingStreams,
    node: mpsc::Sender<Incoming>,
    limits: Limits,
    counters: Arc<Counters>,
    tasks: TaskTracker,
) {
    let all = Arc::new(Semaphore::new(limits.exchange_streams_in));
    let counts = Arc::new(PerPeer::default());
    while let Some((peer, stream)) = streams.recv().await {
        let Some(slot) = Slot::take(&counts, &all, peer, limits.exchange_streams_per_peer) else {
            counters.refused_streams.add(1);
            tracing::debug!(%peer, "too many exchange streams");
            continue;
        };
        let (node, counters) = (node.clone(), counters.clone());
        tasks.spawn(async move {
            let handed = timeout(HAND_OVER, hand_over(peer, stream, slot, &node, &counters)).await;
            if !handed.unwrap_or(false) {
                counters.refused_streams.add(1);
            }
        });
    }
}

async fn hand_over(
    peer: PeerId,
    stream: Stream,
    slot: Slot,
    node: &mpsc::Sender<Incoming>,
    counters: &Arc<Counters>,
) -> bool {
    // The node first: a greeting promises that somebody will answer.
    let Ok(place) = node.reserve().await else {
        return false;
    };
    let served = exchange::serve_counted(
        stream.compat(),
        Some(counters.clone()),
        Some(Box::new(slot)),
    );
    match served.await {
        Ok((requests, replies)) => {
            place.send(Incoming {
                peer,
                requests,
                replies,
            });
            true
        }
        Err(_) => false,
    }
}

/// Checks the value records others send, away from the network task, and stores the true ones.
pub(crate) async fn check_values(mut values: mpsc::Receiver<UncheckedValue>, inner: Arc<Inner>) {
    while let Some(unchecked) = values.recv().await {
        let UncheckedValue {
            key, value, source, ..
        } = unchecked;
        let opened = inner
            .records
            .open_value(&key, &value, inner.max_value_bytes);
        let is_true = match opened {
            Ok(published) => inner.check.check(&key, published.value),
            Err(error) => {
                tracing::debug!(peer = %source, %error, "value record without a good envelope");
                false
            }
        };
        if !is_true {
            inner.counters.bad_records.add(1);
            tracing::debug!(peer = %source, "false value record refused");
            continue;
        }
        let (origin, now) = (inner.origins.of(&source), inner.records.now());
        let put = inner
            .records
            .tables()
            .put_value(key, value, &source, origin, now);
        match put {
            Ok(()) | Err(Refused::Known) => {}
            Err(reason) => {
                inner.counters.over_quota_records.add(1);
                tracing::debug!(peer = %source, %reason, "value record refused");
            }
        }
        // A burst must not keep a worker thread from everything else.
        if values.len() > MAX_UNCHECKED_VALUES / 2 {
            sleep(Duration::ZERO).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_does_not_fill_the_queue_of_unchecked_values() {
        let (queue, mut values) = ValueQueue::new();
        let push = |from| queue.push([1; 32], vec![1], from);
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let queued = (0..MAX_UNCHECKED_VALUES).filter(|_| push(greedy)).count();
        assert_eq!(queued, MAX_UNCHECKED_PER_SOURCE);
        assert!(push(other));
        // What has been taken out waits no more.
        drop(values.try_recv().unwrap());
        assert!(push(greedy) && !push(greedy));
        let many = (0..MAX_UNCHECKED_VALUES).filter(|_| push(PeerId::random()));
        assert_eq!(many.count(), MAX_UNCHECKED_VALUES - 17);
    }
}
