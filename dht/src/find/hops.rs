//! A lookup for people who want to see it: whom it ends at, and what each of those says of the key.
//!
//! Kademlia tells of a lookup only its end, the peers closest to the key. They are the ones that hold its records, and
//! each of them is asked directly, so that one that is silent, or knows nobody, is seen.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::ask::PEER_DEADLINE;
use crate::Key;
use crate::batch::BatchClient;
use crate::error::DhtError;
use crate::handle::Inner;
use crate::key::{Point, REPLICATION};

/// Peers asked at a time.
const ASKED_AT_ONCE: usize = 8;

/// Events that a trace can have: its lookup, and each of the closest peers.
pub(crate) const TRACE_EVENTS: usize = REPLICATION + 1;

/// News of a trace, in the order they come.
#[derive(Debug)]
pub enum TraceEvent {
    /// The lookup of the closest peers has ended.
    Closest {
        /// How many were found.
        found: usize,
        /// Requests sent.
        asked_peers: u32,
        /// True when it came to its end.
        complete: bool,
        /// How long it took.
        took: Duration,
    },
    /// One of them was asked who has the key.
    Hop {
        /// Who.
        peer: PeerId,
        /// Leading bits that its place in the keyspace shares with the key's.
        shared_bits: u32,
        /// How long it took, connecting included.
        took: Duration,
        /// The providers that it names, with their addresses, or why it did not answer.
        answer: Result<Vec<(PeerId, Vec<Multiaddr>)>, DhtError>,
    },
}

/// Looks the peers up that are closest to a key, and asks each.
pub(crate) async fn trace(
    inner: Arc<Inner>,
    key: Key,
    deadline: Duration,
    events: mpsc::Sender<TraceEvent>,
) {
    let began = Instant::now();
    let ends = began + deadline;
    let found = inner.closest_peers(key, deadline).await.unwrap_or_default();
    let closest = TraceEvent::Closest {
        found: found.peers.len(),
        asked_peers: found.asked_peers,
        complete: found.complete,
        took: began.elapsed(),
    };
    if events.send(closest).await.is_err() {
        return;
    }
    let closest = found.peers.into_iter().take(REPLICATION);
    let mut hops = stream::iter(closest)
        .map(|(peer, addrs)| hop(&inner, key, peer, addrs, ends))
        .buffer_unordered(ASKED_AT_ONCE);
    while let Some(hop) = hops.next().await {
        if events.send(hop).await.is_err() {
            return;
        }
    }
}

async fn hop(
    inner: &Inner,
    key: Key,
    peer: PeerId,
    addrs: Vec<Multiaddr>,
    ends: Instant,
) -> TraceEvent {
    let began = Instant::now();
    let asked = timeout_at(ends.min(began + PEER_DEADLINE), async {
        let mut client = BatchClient::open(inner, peer, &addrs).await?;
        let found = client.find(&[key]).await;
        let found = found.map_err(|source| DhtError::Exchange { peer, source })?;
        inner.spawn(client.close());
        Ok(found.into_iter().flatten().collect())
    });
    TraceEvent::Hop {
        peer,
        shared_bits: Point::of_key(&key).common_bits(&Point::of_peer(&peer)),
        answer: asked
            .await
            .unwrap_or_else(|_| Err(DhtError::TimedOut(began.elapsed()))),
        took: began.elapsed(),
    }
}
