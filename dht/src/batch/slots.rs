//! How many streams of the records protocol this node has open with one peer: no more than the peer takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::serve::STREAMS_PER_PEER;

/// Peers beyond which those without a stream are forgotten.
const MAX_IDLE: usize = 256;

/// The places, by peer.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<HashMap<PeerId, Arc<Semaphore>>>);

impl Slots {
    /// Waits for a place; dropping the permit gives it back.
    pub(super) async fn take(&self, peer: PeerId) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= MAX_IDLE && !all.contains_key(&peer) {
                // Whoever has or waits for a place holds a reference.
                all.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let new = || Arc::new(Semaphore::new(STREAMS_PER_PEER));
            all.entry(peer).or_insert_with(new).clone()
        };
        places.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_is_not_asked_for_more_than_it_gives() {
        let (slots, peer) = (Slots::default(), PeerId::random());
        let first = slots.take(peer).await;
        let _second = slots.take(peer).await;
        let waits = slots.take(peer);
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending());
        assert!(slots.take(PeerId::random()).await.is_some());
        drop(first);
        assert!(waits.await.is_some());
    }

    #[tokio::test]
    async fn peers_without_a_stream_are_forgotten() {
        let (slots, busy) = (Slots::default(), PeerId::random());
        let _held = slots.take(busy).await;
        for _ in 0..3 * MAX_IDLE {
            drop(slots.take(PeerId::random()).await);
        }
        let all = slots.0.lock().unwrap();
        assert!(all.len() <= MAX_IDLE && all.contains_key(&busy));
    }
}
