//! What the handle and the node's own tasks share, and how both reach the driver.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Key;
use crate::announce;
use crate::bandwidth::Line;
use crate::batch;
use crate::command::{ClosestPeers, Command, Lookup};
use crate::config::{AnnounceTimes, Mode, RecordCheck};
use crate::counters::Counters;
use crate::error::DhtError;
use crate::exchange::ExchangeError;
use crate::find;
use crate::meters::Meters;
use crate::neighbourhood::Neighbourhood;
use crate::net::{OpenError, Origins, Stream};
use crate::network::Protocols;
use crate::records::Records;

/// How long opening one stream on a standing connection may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// The lookup of a peer that was not where it should be.
const PEER_LOOKUP: Duration = Duration::from_secs(4);

/// What the handle and the node's own tasks share.
pub(crate) struct Inner {
    pub(crate) peer: PeerId,
    pub(crate) line: Arc<Line>,
    pub(crate) records: Arc<Records>,
    pub(crate) check: Arc<dyn RecordCheck>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) times: AnnounceTimes,
    pub(crate) max_value_bytes: usize,
    pub(crate) protocols: Protocols,
    /// The routing table, at most a second old.
    pub(crate) neighbourhood: watch::Receiver<Arc<Neighbourhood>>,
    /// Whether this node serves, as of now.
    pub(crate) mode: watch::Receiver<Mode>,
    /// Where connected peers come from.
    pub(crate) origins: Arc<Origins>,
    pub(crate) announcer: announce::Announcer,
    /// Streams of the records protocol that this node has open.
    pub(crate) slots: batch::Slots,
    pub(crate) meters: Arc<Meters>,
    /// Number of connected peers in the routing table.
    pub(crate) routed: watch::Receiver<usize>,
    /// Tells the announcer that something has become due.
    pub(crate) wake_announcer: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) queries: Arc<Semaphore>,
    pub(crate) found: Mutex<find::Cache>,
    pub(crate) tasks: TaskTracker,
}

impl Inner {
    /// Spawns a task that ends with the node.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    /// What searches have learnt.
    pub(crate) fn cache(&self) -> MutexGuard<'_, find::Cache> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peers closest to a key, by a lookup.
    pub(crate) async fn closest_peers(
        &self,
        key: Key,
        deadline: Duration,
    ) -> Result<ClosestPeers, DhtError> {
        self.closest_to(key.to_vec(), deadline).await
    }

    /// Looks a peer up by its id. Whoever knows where it listens now says so, and the lookup itself connects to it:
    /// a provider that has moved is found although its records still name the old place.
    pub(super) async fn look_for_peer(&self, peer: PeerId) {
        let found = self.closest_to(peer.to_bytes(), PEER_LOOKUP).await;
        tracing::debug!(%peer, peers = found.map_or(0, |f| f.peers.len()), "looked for a peer that was not where it should be");
    }

    async fn closest_to(
        &self,
        point: Vec<u8>,
        deadline: Duration,
    ) -> Result<ClosestPeers, DhtError> {
        let deadline = Instant::now() + deadline;
        let permit = self.permit(deadline).await?;
        self.ask(|answer| {
            let lookup = Lookup::Closest { point, answer };
            Command::LookUp {
                lookup,
                deadline,
                permit,
            }
        })
        .await
    }

    /// Sends a value record of this node to peers, in its envelope; returns how many answered. They
    /// check it only then, so not all need have kept it.
    pub(crate) async fn put_record(
        &self,
        key: Key,
        value: Vec<u8>,
        peers: Vec<PeerId>,
        deadline: Duration,
    ) -> Result<u32, DhtError> {
        if peers.is_empty() {
            return Ok(0);
        }
        let sealed = self.records.seal(&key, &value);
        let value = sealed.map_err(|error| DhtError::Setup(Box::new(error)))?;
        let deadline = Instant::now() + deadline;
        let permit = self.permit(deadline).await?;
        self.ask(|answer| {
            let lookup = Lookup::Put {
                key,
                value,
                peers,
                answer,
            };
            Command::LookUp {
                lookup,
                deadline,
                permit,
            }
        })
        .await
    }

    /// A stream to a peer, connecting by these and other known addresses if need be.
    pub(crate) async fn open_stream(
        &self,
        peer: PeerId,
        addrs: &[Multiaddr],
        name: &StreamProtocol,
    ) -> Result<Stream, DhtError> {
        let addrs = addrs.to_vec();
        self.ask(|answer| Command::Connect {
            peer,
            addrs,
            answer,
        })
        .await??;
        let opened = self.ask(|answer| Command::OpenStream {
            peer,
            protocol: name.clone(),
            answer,
        });
        let not_open = |source| DhtError::Exchange {
            peer,
            source: ExchangeError::Io(source),
        };
        match within(OPEN_DEADLINE, opened).await?? {
            Ok(stream) => Ok(stream),
            Err(OpenError::Unsupported) => Err(DhtError::Unsupported(peer)),
            Err(OpenError::Io(error)) => Err(not_open(error)),
            Err(other) => Err(not_open(std::io::Error::other(other))),
        }
    }

    pub(crate) async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, DhtError> {
        let wait = deadline.saturating_duration_since(Instant::now());
        let permit = timeout(wait, self.queries.clone().acquire_owned()).await;
        permit
            .map_err(|_| DhtError::TimedOut(wait))?
            .map_err(|_| DhtError::ShutDown)
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), DhtError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| DhtError::ShutDown)
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, DhtError> {
        let (answer, receiver) = oneshot::channel();
        self.send(command(answer)).await?;
        receiver.await.map_err(|_| DhtError::ShutDown)
    }
}

/// Work, or that its time is over.
pub(super) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = T>,
) -> Result<T, DhtError> {
    timeout(deadline, work)
        .await
        .map_err(|_| DhtError::TimedOut(deadline))
}
