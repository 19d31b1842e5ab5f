//! Looking for peers that may have the file: hints, peers already connected, and the DHT.

use std::collections::HashMap;
use std::time::Duration;

use casnode_cas::{Address, FileRecord};
use casnode_dht::{Dht, FindEvent, FindManyEvent, FindOptions, Key, MAX_FIND_KEYS, Multiaddr};
use tokio::sync::mpsc;

use super::engine::EngineEvent;

/// One lookup in the DHT.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(15);

/// The lookup of the metadata record. It brings a name and, for a small file, the manifest.
const RECORD_DEADLINE: Duration = Duration::from_secs(8);

/// A dial to a peer named by hand.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Providers taken of one key: many records name peers that are gone, and finding that out is cheap.
const PROVIDERS_WANTED: usize = 32;

/// Peers already connected that are asked although nobody named them.
const NEIGHBOURS_ASKED: usize = 8;

/// Looks for peers on behalf of one download.
#[derive(Clone)]
pub(super) struct Discovery {
    pub(super) dht: Dht,
    pub(super) address: Address,
    pub(super) events: mpsc::Sender<EngineEvent>,
}

impl Discovery {
    /// Dials a peer named by hand.
    pub(super) async fn hint(self, addr: Multiaddr) -> Result<(), std::convert::Infallible> {
        let outcome = self
            .dht
            .dial(addr.clone(), DIAL_DEADLINE)
            .await
            .map_err(|e| crate::errors::brief(&e));
        self.tell(EngineEvent::Dialled { addr, outcome }).await;
        Ok(())
    }

    /// Waits for the network and asks who is connected already.
    pub(super) async fn neighbours(&self, patience: Duration) {
        let connected = self.dht.connected_within(patience).await;
        self.tell(EngineEvent::Network {
            peers: u32::try_from(connected).unwrap_or(u32::MAX),
        })
        .await;
        for peer in self.dht.peers().await.into_iter().take(NEIGHBOURS_ASKED) {
            self.tell(EngineEvent::Candidate {
                peer: peer.peer,
                claim: None,
            })
            .await;
        }
    }

    /// Looks the metadata record up.
    pub(super) async fn record(self) -> Result<(), std::convert::Infallible> {
        let found = self
            .dht
            .get_record(*self.address.as_bytes(), RECORD_DEADLINE)
            .await;
        let record = match found {
            Ok(found) => found
                .value
                .and_then(|v| FileRecord::decode_for(&self.address, &v).ok()),
            Err(error) => {
                tracing::debug!(%error, "the lookup of the metadata record failed");
                None
            }
        };
        self.tell(EngineEvent::Record(record.map(Box::new))).await;
        Ok(())
    }

    /// One lookup of the file's providers. What was found a moment ago will do only for the first.
    pub(super) async fn lookup(self, first: bool) -> Result<(), std::convert::Infallible> {
        let (asked_peers, found) = self.find(first).await;
        self.tell(EngineEvent::LookupDone { asked_peers, found })
            .await;
        Ok(())
    }

    /// Looks up who has single chunks that no known provider has, all in one go.
    pub(super) async fn chunks(
        self,
        orphans: Vec<(u32, Key)>,
        first: bool,
    ) -> Result<(), std::convert::Infallible> {
        // Equal chunks have one key.
        let mut indices: HashMap<Key, Vec<u32>> = HashMap::new();
        for (index, key) in orphans {
            indices.entry(key).or_default().push(index);
        }
        let keys: Vec<Key> = indices.keys().copied().collect();
        for keys in keys.chunks(MAX_FIND_KEYS) {
            let mut answers = self.dht.find_many(keys.to_vec(), options(first));
            while let Some(answer) = answers.recv().await {
                let FindManyEvent::Provider { key, peer, .. } = answer else {
                    continue;
                };
                for index in indices.get(&key).into_iter().flatten() {
                    let claim = Some(*index);
                    self.tell(EngineEvent::Candidate { peer, claim }).await;
                }
            }
        }
        self.tell(EngineEvent::OrphansDone).await;
        Ok(())
    }

    async fn find(&self, first: bool) -> (u32, u32) {
        let key: Key = *self.address.as_bytes();
        let mut answers = self.dht.find_providers(key, options(first));
        let mut outcome = (0, 0);
        while let Some(answer) = answers.recv().await {
            match answer {
                FindEvent::Provider { peer, .. } => {
                    self.tell(EngineEvent::Candidate { peer, claim: None })
                        .await
                }
                FindEvent::Done {
                    asked_peers, found, ..
                } => outcome = (asked_peers, found),
            }
        }
        outcome
    }

    async fn tell(&self, event: EngineEvent) {
        let _ = self.events.send(event).await;
    }
}

/// How a download looks for providers. Where what earlier searches found was of no use, it is not taken again.
fn options(first: bool) -> FindOptions {
    FindOptions {
        limit: PROVIDERS_WANTED,
        deadline: LOOKUP_DEADLINE,
        connect: true,
        use_cache: first,
        ..FindOptions::default()
    }
}
