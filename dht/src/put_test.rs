//! A record put to the network and read back, for people who want to know whether that works.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout_at};

use crate::Key;
use crate::batch::BatchClient;
use crate::error::DhtError;
use crate::handle::{Dht, Inner};
use crate::key::REPLICATION;
use crate::report::PutTest;

/// How long the provider record of a test is kept by others. A value has no such time: its envelope is good
/// for 48 hours.
const TTL: Duration = Duration::from_secs(600);
/// Shares of the deadline: for the lookup, and for everything up to the reading.
const LOOKUP_SHARE: f32 = 0.3;
const PUT_SHARE: f32 = 0.7;

/// See [`Dht::put_test`].
pub(crate) async fn run(
    dht: &Dht,
    key: Key,
    value: Vec<u8>,
    deadline: Duration,
) -> Result<PutTest, DhtError> {
    let inner = &dht.inner;
    let (len, max) = (value.len(), inner.max_value_bytes);
    if len > max {
        return Err(DhtError::ValueTooLarge { len, max });
    }
    let began = Instant::now();
    let mut test = PutTest::default();
    let found = inner
        .closest_peers(key, deadline.mul_f32(LOOKUP_SHARE))
        .await?;
    test.closest = count(found.peers.len());
    test.lookup_took = began.elapsed();

    let put_ends = began + deadline.mul_f32(PUT_SHARE);
    let ids = found.peers.iter().map(|(peer, _)| *peer).collect();
    let left = put_ends.saturating_duration_since(Instant::now());
    let (provider_copies, value_copies) = tokio::join!(
        announce(inner, key, &found.peers, put_ends),
        inner.put_record(key, value.clone(), ids, left),
    );
    test.provider_copies = provider_copies;
    test.value_copies = value_copies.unwrap_or(0);
    test.put_took = began.elapsed() - test.lookup_took;

    let ends = began + deadline;
    let left = ends.saturating_duration_since(Instant::now());
    let (provider_read, value_read) = tokio::join!(
        read(inner, key, &found.peers, ends),
        dht.get_record(key, left),
    );
    test.provider_read = provider_read;
    test.value_read = value_read?.value == Some(value);
    test.read_took = began.elapsed() - test.lookup_took - test.put_took;
    Ok(test)
}

type Found = [(PeerId, Vec<Multiaddr>)];

/// How many peers acknowledge that this node provides the key.
async fn announce(inner: &Arc<Inner>, key: Key, peers: &Found, ends: Instant) -> u32 {
    let own_addrs = inner.records.own_addrs();
    at_each(peers, ends, |peer, addrs| {
        let own_addrs = &own_addrs;
        async move {
            let mut client = BatchClient::open(inner, peer, &addrs).await.ok()?;
            let taken = client.announce(&[key], own_addrs, TTL).await.ok()?;
            client.close().await;
            taken.taken.contains(&true).then_some(())
        }
    })
    .await
}

/// How many peers say that this node provides the key.
async fn read(inner: &Arc<Inner>, key: Key, peers: &Found, ends: Instant) -> u32 {
    at_each(peers, ends, |peer, addrs| async move {
        let mut client = BatchClient::open(inner, peer, &addrs).await.ok()?;
        let found = client.find(&[key]).await.ok()?;
        client.close().await;
        let mut providers = found.iter().flatten();
        providers.any(|(peer, _)| *peer == inner.peer).then_some(())
    })
    .await
}

/// Asks all peers at once; returns how many answered well in time.
async fn at_each<F>(peers: &Found, ends: Instant, ask: impl Fn(PeerId, Vec<Multiaddr>) -> F) -> u32
where
    F: Future<Output = Option<()>>,
{
    let asked = stream::iter(peers.to_vec())
        .map(|(peer, addrs)| timeout_at(ends, ask(peer, addrs)))
        .buffer_unordered(REPLICATION);
    let good = asked.filter(|answer| std::future::ready(matches!(answer, Ok(Some(())))));
    count(good.count().await)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
