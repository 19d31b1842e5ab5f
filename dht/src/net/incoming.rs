//! What others send on their own account: exchange streams and value records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use libp2p::{PeerId, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::task::TaskTracker;

use crate::Key;
use crate::config::Limits;
use crate::counters::Counters;
use crate::exchange;
use crate::handle::Inner;
use crate::records::Refused;
use crate::start::Incoming;

/// Value records that wait to be checked: 2 MiB at most, for larger values are not queued; milliseconds of
/// work.
pub(crate) const MAX_UNCHECKED_VALUES: usize = 256;
/// How long greeting the other side, and handing its stream to the node, may take.
const HAND_OVER: Duration = Duration::from_secs(10);
/// How long a value record is kept.
const VALUE_TTL_SECS: u32 = 48 * 3600;

/// A value record as it came from another peer.
pub(crate) struct UncheckedValue {
    pub(crate) key: Key,
    pub(crate) value: Vec<u8>,
    pub(crate) source: PeerId,
}

/// Counts streams per peer.
#[derive(Default)]
struct PerPeer(Mutex<HashMap<PeerId, usize>>);

/// One peer's stream; gives its place back when dropped.
struct Slot {
    counts: Arc<PerPeer>,
    peer: PeerId,
    _all: OwnedSemaphorePermit,
}

impl Slot {
    fn take(
        counts: &Arc<PerPeer>,
        all: &Arc<Semaphore>,
        peer: PeerId,
        max_per_peer: usize,
    ) -> Option<Self> {
        let permit = all.clone().try_acquire_owned().ok()?;
        let mut open = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer).or_default();
        if *count >= max_per_peer {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Self {
            counts: counts.clone(),
            peer,
            _all: permit,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// Takes exchange streams and hands them to the node. Only takes them: libp2p-stream drops a stream
/// when nobody is waiting for it, so everything else is done in tasks, of which there is a bounded
/// number.
pub(crate) async fn accept_exchange(
    mut streams: libp2p_stream::IncomingStreams,
    node: mpsc::Sender<Incoming>,
    limits: Limits,
    counters: Arc<Counters>,
    tasks: TaskTracker,
) {
    let all = Arc::new(Semaphore::new(limits.exchange_streams_in));
    let counts = Arc::new(PerPeer::default());
    while let Some((peer, stream)) = streams.next().await {
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
    while let Some(UncheckedValue { key, value, source }) = values.recv().await {
        if !inner.check.check(&key, &value) {
            inner.counters.bad_records.add(1);
            tracing::debug!(peer = %source, "false value record refused");
            continue;
        }
        let now = inner.records.now();
        let expires = now.saturating_add(VALUE_TTL_SECS);
        let put = inner
            .records
            .tables()
            .put_value(key, value, &source, expires, now);
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
