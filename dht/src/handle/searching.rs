//! What a node looks for: providers, records, the peers closest to a key.

use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Dht;
use crate::Key;
use crate::command::{Command, FindEvent, FindManyEvent, FindOptions, Lookup, RecordFound};
use crate::error::DhtError;
use crate::find;
use crate::key::Point;
use crate::put_test;
use crate::report::{LookupReport, PutTest};

/// Values of one record that wait to be checked; more than a lookup has answers.
const MAX_CANDIDATES: usize = 32;

impl Dht {
    /// Looks for providers of a key. They are reported as they come, each once; dropping the receiver
    /// ends the search. The last event is [`FindEvent::Done`].
    pub fn find_providers(&self, key: Key, options: FindOptions) -> mpsc::Receiver<FindEvent> {
        let (events, receiver) = find::channel(&options);
        let inner = self.inner.clone();
        self.inner
            .spawn(find::find_one(inner, key, options, events));
        receiver
    }

    /// Looks for peers that provide any of many keys: one lookup for each region of the keyspace that they
    /// lie in, and then the peers there are asked for all of theirs at once. `options.limit` counts for each
    /// key. At most [`MAX_FIND_KEYS`](crate::MAX_FIND_KEYS) keys; of more, the rest is left out. Dropping the receiver ends the search. The
    /// last event is [`FindManyEvent::Done`].
    pub fn find_many(&self, keys: Vec<Key>, options: FindOptions) -> mpsc::Receiver<FindManyEvent> {
        let (events, receiver) = mpsc::channel(find::MANY_EVENTS);
        let inner = self.inner.clone();
        self.inner
            .spawn(find::find_many(inner, keys, options, events));
        receiver
    }

    /// Looks the peers up that are closest to a key, and asks each who provides it, for people who want to see it.
    /// Dropping the receiver ends it.
    pub fn trace(&self, key: Key, deadline: Duration) -> mpsc::Receiver<find::TraceEvent> {
        let (events, receiver) = mpsc::channel(find::TRACE_EVENTS);
        let inner = self.inner.clone();
        self.inner.spawn(find::trace(inner, key, deadline, events));
        receiver
    }

    /// Says that a provider that a search reported does not answer, or does not have the key: it is not
    /// reported from memory again, and for a while a search does not content itself with it.
    pub fn forget_provider(&self, key: Key, peer: PeerId) {
        self.inner.cache().forget(&key, &peer, Instant::now());
    }

    /// Looks for the value record of a key; the first value that passes the record check ends the
    /// lookup. Not finding one, and running out of time, is not an error: `value` is `None`.
    ///
    /// # Errors
    /// [`DhtError::ShutDown`].
    pub async fn get_record(&self, key: Key, deadline: Duration) -> Result<RecordFound, DhtError> {
        let deadline = Instant::now() + deadline;
        let Ok(permit) = self.inner.permit(deadline).await else {
            return Ok(RecordFound::default());
        };
        let (values, mut candidates) = mpsc::channel(MAX_CANDIDATES);
        let (asked, all_asked) = oneshot::channel();
        let lookup = Lookup::Record { key, values, asked };
        let command = Command::LookUp {
            lookup,
            deadline,
            permit,
        };
        self.inner.send(command).await?;
        while let Some((value, asked_peers)) = candidates.recv().await {
            let max_bytes = self.inner.max_value_bytes;
            if let Ok(published) = self.inner.records.open_value(&key, &value, max_bytes)
                && self.inner.check.check(&key, published.value)
            {
                return Ok(RecordFound {
                    value: Some(published.value.to_vec()),
                    publisher: published.publisher(),
                    published_at: Some(u64::from(published.published_at)),
                    asked_peers,
                });
            }
            self.inner.counters.bad_answers.add(1);
        }
        let asked_peers = all_asked.await.map_err(|_| DhtError::ShutDown)?;
        Ok(RecordFound {
            asked_peers,
            ..RecordFound::default()
        })
    }

    /// Looks the peers up that are closest to a key.
    ///
    /// # Errors
    /// [`DhtError::ShutDown`], [`DhtError::TimedOut`].
    pub async fn lookup(&self, key: Key, deadline: Duration) -> Result<LookupReport, DhtError> {
        let began = Instant::now();
        let found = self.inner.closest_peers(key, deadline).await?;
        let target = Point::of_key(&key);
        let bits = |peer: &PeerId| target.common_bits(&Point::of_peer(peer));
        let peers = found.peers.into_iter();
        Ok(LookupReport {
            peers: peers
                .map(|(peer, addrs)| (peer, addrs, bits(&peer)))
                .collect(),
            asked_peers: found.asked_peers,
            complete: found.complete,
            took: began.elapsed(),
        })
    }

    /// Puts records of a key to the closest peers, and reads them back. The value has to be true for the key.
    /// They keep the provider record for ten minutes; the value's envelope is good for 48 hours, like any.
    ///
    /// # Errors
    /// [`DhtError::ShutDown`], [`DhtError::TimedOut`], [`DhtError::ValueTooLarge`].
    pub async fn put_test(
        &self,
        key: Key,
        value: Vec<u8>,
        deadline: Duration,
    ) -> Result<PutTest, DhtError> {
        put_test::run(self, key, value, deadline).await
    }
}
