//! Asking one peer directly which providers it knows.

use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout_at};

use crate::Key;
use crate::batch::{BatchClient, FIND_KEYS, Provider};
use crate::error::DhtError;
use crate::handle::Inner;

/// How long one peer may take, connecting included. One that is silent keeps a place among those asked at
/// once, so this is short.
pub(super) const PEER_DEADLINE: Duration = Duration::from_secs(5);
/// What every message beyond the first adds to it.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(1);

/// What one message of a peer has named: providers of each key.
pub(super) type Answer = Vec<(Key, Vec<Provider>)>;

/// A peer that is asked for keys, message by message: what it answers is never all in memory.
pub(super) struct Asking {
    inner: Arc<Inner>,
    peer: PeerId,
    addrs: Vec<Multiaddr>,
    keys: Arc<[Key]>,
    /// Of how many keys it has been asked.
    asked: usize,
    client: Option<BatchClient>,
    /// How long the peer may still take. The time its answers wait to be taken is not its own.
    patience: Duration,
    ends: Instant,
}

impl Asking {
    pub(super) fn new(
        inner: Arc<Inner>,
        peer: PeerId,
        addrs: Vec<Multiaddr>,
        keys: Arc<[Key]>,
        ends: Instant,
    ) -> Self {
        Self {
            inner,
            peer,
            addrs,
            keys,
            asked: 0,
            client: None,
            patience: PEER_DEADLINE,
            ends,
        }
    }

    /// The next answer, for the next keys; `None` when it has answered for all, or fails.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        let keys = self.keys.clone();
        let left = &keys[self.asked.min(keys.len())..];
        if left.is_empty() {
            if let Some(client) = self.client.take() {
                // Nobody has to wait for that.
                self.inner.spawn(client.close());
            }
            return None;
        }
        let asked = &left[..left.len().min(FIND_KEYS)];
        self.asked += asked.len();
        let (peer, began) = (self.peer, Instant::now());
        let ends = self.ends.min(began + self.patience);
        let answer = match timeout_at(ends, self.ask(asked)).await {
            Ok(Ok(found)) => Some(asked.iter().copied().zip(found).collect()),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "asking for providers failed");
                None
            }
            Err(_) => {
                tracing::debug!(%peer, "asked for providers and silent");
                None
            }
        };
        self.patience = self.patience.saturating_sub(began.elapsed()) + MESSAGE_DEADLINE;
        answer
    }

    async fn ask(&mut self, keys: &[Key]) -> Result<Vec<Vec<Provider>>, DhtError> {
        let peer = self.peer;
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(BatchClient::open(&self.inner, peer, &self.addrs).await?),
        };
        let answer = client.find(keys).await;
        answer.map_err(|source| DhtError::Exchange { peer, source })
    }
}
