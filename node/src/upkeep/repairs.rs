//! Fetching again what was found damaged: a few files at a time, and later once more what could not be had.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use casnode_cas::Address;
use tokio::sync::Notify;

use crate::{api::events::EventSink, clock, node::Node, repair};

/// Files repaired at a time.
pub(super) const WORKERS: usize = 2;

/// A file that cannot be had in this time is tried again later.
const DEADLINE: Duration = Duration::from_secs(600);

/// How much later.
const RETRY_PAUSE: Duration = Duration::from_secs(600);

/// Files that wait to be repaired. Bounded by the files of the store.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    queue: Mutex<Queue>,
    changed: Notify,
    repaired_chunks: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    /// When each may be tried.
    waiting: BTreeMap<Address, Instant>,
    /// In the hands of a worker.
    running: BTreeSet<Address>,
}

impl Queue {
    /// Hands out a file that may be tried, or says when there may be one.
    fn take(&mut self, now: Instant) -> Result<Address, Option<Instant>> {
        let waiting = self.waiting.iter();
        let free = waiting.filter(|(address, _)| !self.running.contains(address));
        let Some((address, at)) = free.min_by_key(|(_, at)| **at) else {
            return Err(None);
        };
        if *at > now {
            return Err(Some(*at));
        }
        let address = *address;
        self.waiting.remove(&address);
        self.running.insert(address);
        Ok(address)
    }
}

impl Repairs {
    /// Asks for files to be repaired.
    pub(super) fn want(&self, files: &[Address]) {
        let now = clock::now();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.extend(files.iter().map(|file| (*file, now)));
        drop(queue);
        self.changed.notify_waiters();
    }

    /// Chunks that were fetched again.
    pub(super) fn repaired_chunks(&self) -> u64 {
        self.repaired_chunks.load(Ordering::Relaxed)
    }

    async fn next(&self) -> Address {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable(); // before the look, so that nothing is missed between
            let taken = self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(clock::now());
            match taken {
                Ok(address) => return address,
                Err(None) => changed.await,
                Err(Some(at)) => {
                    let _ = tokio::time::timeout_at(at.into(), changed).await;
                }
            }
        }
    }

    fn done(&self, address: &Address, again: Option<Instant>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.running.remove(address);
        if let Some(at) = again {
            queue.waiting.entry(*address).or_insert(at);
        }
        drop(queue);
        self.changed.notify_waiters();
    }
}

/// Repairs one file after the other until the node ends.
pub(super) async fn run(node: Arc<Node>) -> Result<(), Infallible> {
    let repairs = &node.upkeep.repairs;
    loop {
        let address = repairs.next().await;
        let (events, mut queue) = EventSink::new();
        let cancel = node.tasks.token().child_token();
        let repair = repair::repair(&node, address, Some(DEADLINE), events, cancel);
        let unheard = async { while queue.recv().await.is_some() {} };
        let (repaired, ()) = tokio::join!(repair, unheard);
        let again = match repaired {
            Ok(repaired) => {
                let repair::Repaired { chunks, bytes } = repaired;
                repairs.repaired_chunks.fetch_add(chunks, Ordering::Relaxed);
                tracing::info!(file = %address, chunks, bytes, "damaged chunks were fetched again");
                None
            }
            Err(error) => {
                tracing::warn!(file = %address, %error, "damaged chunks could not be fetched; it is tried again later");
                Some(clock::now() + RETRY_PAUSE)
            }
        };
        repairs.done(&address, again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_handed_out_once_and_again_when_its_time_has_come() {
        let now = Instant::now();
        let later = now + RETRY_PAUSE;
        let (one, two) = (Address::from_bytes([1; 32]), Address::from_bytes([2; 32]));
        let mut queue = Queue::default();
        assert_eq!(queue.take(now), Err(None));
        queue.waiting.insert(one, now);
        queue.waiting.insert(two, later);
        assert_eq!(queue.take(now), Ok(one));
        assert_eq!(queue.take(now), Err(Some(later)));
        // Found damaged again while it is being repaired: not by two at a time.
        queue.waiting.insert(one, now);
        assert_eq!(queue.take(now), Err(Some(later)));
        queue.running.remove(&one);
        assert_eq!(queue.take(now), Ok(one));
        assert_eq!(queue.take(later), Ok(two));
    }
}
