//! The handle: everything the node asks of the network.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, OpenStreamError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::Key;
use crate::announce;
use crate::announce::due::Kind;
use crate::command::{
    AnnounceStatus, Announced, ClosestPeers, Command, FindEvent, FindOptions, Lookup, PeerInfo,
    RecordFound, Search,
};
use crate::config::{AnnounceTimes, RecordCheck};
use crate::counters::{Counters, DropCounters};
use crate::error::DhtError;
use crate::exchange::{self, ExchangeError, ReplyReceiver, RequestSender};
use crate::records::Records;

/// Providers that one search reports at most.
const MAX_PROVIDERS: usize = 255;
/// Values of one record that wait to be checked; more than a lookup has answers.
const MAX_CANDIDATES: usize = 32;
/// How long opening one stream on a standing connection may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// The lookup of a peer that was not where it should be.
const PEER_LOOKUP: Duration = Duration::from_secs(4);
/// How long leaving may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);

/// A running node of the network. Clones share it; when the last one goes, the node stops.
#[derive(Clone)]
pub struct Dht {
    pub(crate) inner: Arc<Inner>,
    pub(crate) _stop_on_drop: Arc<DropGuard>,
}

/// What the handle and the node's own tasks share.
pub(crate) struct Inner {
    pub(crate) peer: PeerId,
    pub(crate) records: Arc<Records>,
    pub(crate) check: Arc<dyn RecordCheck>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) times: AnnounceTimes,
    pub(crate) max_value_bytes: usize,
    /// Number of connected peers in the routing table.
    pub(crate) routed: watch::Receiver<usize>,
    /// Tells the announcer that something has become due.
    pub(crate) wake_announcer: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) control: Control,
    pub(crate) queries: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
}

impl std::fmt::Debug for Dht {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dht")
            .field("peer", &self.local_peer_id())
            .finish_non_exhaustive()
    }
}

impl Dht {
    /// The identity of this node.
    pub fn local_peer_id(&self) -> PeerId {
        self.inner.peer
    }

    /// Where this node listens, each address with its `/p2p/<peer>`.
    pub async fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.inner
            .ask(|answer| Command::ListenAddrs { answer })
            .await
            .unwrap_or_default()
    }

    /// The peers this node is connected to.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.inner
            .ask(|answer| Command::Peers { answer })
            .await
            .unwrap_or_default()
    }

    /// Connects to an address, with or without `/p2p/<peer>`; returns who answered.
    /// Succeeds at once when that peer is connected already.
    ///
    /// # Errors
    /// [`DhtError::Dial`], [`DhtError::TimedOut`], [`DhtError::ShutDown`].
    pub async fn dial(&self, addr: Multiaddr, deadline: Duration) -> Result<PeerId, DhtError> {
        within(
            deadline,
            self.inner.ask(|answer| Command::Dial { addr, answer }),
        )
        .await??
    }

    /// Waits until a connected peer is in the routing table, or the time is up; returns how many are.
    pub async fn connected_within(&self, deadline: Duration) -> usize {
        let mut routed = self.inner.routed.clone();
        let _ = timeout(deadline, routed.wait_for(|count| *count > 0)).await;
        *self.inner.routed.borrow()
    }

    /// Looks for providers of a key. They are reported as they come, each once; dropping the receiver
    /// ends the search. The last event is [`FindEvent::Done`].
    pub fn find_providers(&self, key: Key, options: FindOptions) -> mpsc::Receiver<FindEvent> {
        let limit = options.limit.clamp(1, MAX_PROVIDERS);
        // Room for every event there can be: the driver never waits for a caller.
        let (events, receiver) = mpsc::channel(limit + 1);
        let inner = self.inner.clone();
        self.inner.spawn(async move {
            let deadline = Instant::now() + options.deadline;
            let Ok(permit) = inner.permit(deadline).await else {
                let done = FindEvent::Done {
                    asked_peers: 0,
                    found: 0,
                    timed_out: true,
                };
                let _ = events.try_send(done);
                return;
            };
            let search = Search {
                key,
                limit,
                connect: options.connect,
                include_self: options.include_self,
                events,
                found: HashSet::new(),
            };
            let lookup = Lookup::Providers(search);
            let command = Command::LookUp {
                lookup,
                deadline,
                permit,
            };
            let _ = inner.commands.send(command).await;
        });
        receiver
    }

    /// Looks for the value record of a key; the first value that passes the record check ends the
    /// lookup. Not finding one, and running out of time, is not an error: `value` is `None`.
    ///
    /// # Errors
    /// [`DhtError::ShutDown`].
    pub async fn get_record(&self, key: Key, deadline: Duration) -> Result<RecordFound, DhtError> {
        let deadline = Instant::now() + deadline;
        let Ok(permit) = self.inner.permit(deadline).await else {
            return Ok(RecordFound {
                value: None,
                asked_peers: 0,
            });
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
            if self.inner.check.check(&key, &value) {
                return Ok(RecordFound {
                    value: Some(value),
                    asked_peers,
                });
            }
            self.inner.counters.bad_answers.add(1);
        }
        let asked_peers = all_asked.await.map_err(|_| DhtError::ShutDown)?;
        Ok(RecordFound {
            value: None,
            asked_peers,
        })
    }

    /// Publishes a file: its provider record and `value` as its value record go to the 20 closest
    /// peers, with one lookup. Both are kept here and renewed until [`Self::unschedule`]; that much is
    /// durable even when nobody could be reached, and `peers` is 0 then.
    ///
    /// # Errors
    /// [`DhtError::ValueTooLarge`], [`DhtError::Store`].
    pub async fn announce_file(
        &self,
        key: Key,
        value: Vec<u8>,
        deadline: Duration,
    ) -> Result<Announced, DhtError> {
        announce::announce_file(&self.inner, key, value, deadline).await
    }

    /// Adds chunk keys to the schedule: they are announced in the background and renewed until
    /// [`Self::unschedule`]. Durable when this returns; keys that are there already stay as they are.
    ///
    /// # Errors
    /// [`DhtError::Store`].
    pub async fn schedule(&self, keys: Vec<Key>) -> Result<(), DhtError> {
        self.inner.records.schedule(&keys, Kind::Chunk).await?;
        self.inner.wake_announcer.notify_one();
        Ok(())
    }

    /// Adds a file to the schedule without waiting for anybody: as [`Self::announce_file`], but its turn
    /// comes in the background, and a file that is there already only gets the new value.
    ///
    /// # Errors
    /// [`DhtError::ValueTooLarge`], [`DhtError::Store`].
    pub async fn schedule_file(&self, key: Key, value: Vec<u8>) -> Result<(), DhtError> {
        announce::schedule_file(&self.inner, key, value).await
    }

    /// Takes keys (of chunks and of files) off the schedule. Records that others hold run out by
    /// themselves.
    ///
    /// # Errors
    /// [`DhtError::Store`].
    pub async fn unschedule(&self, keys: Vec<Key>) -> Result<(), DhtError> {
        Ok(self.inner.records.unschedule(&keys).await?)
    }

    /// Every key of the schedule, files' and chunks', in no order: 32 bytes of memory each.
    pub fn scheduled_keys(&self) -> Vec<Key> {
        self.inner.records.due().keys().copied().collect()
    }

    /// How far announcing has come.
    pub fn announce_status(&self) -> AnnounceStatus {
        let now = self.inner.records.now();
        let (announced, to_announce) = self.inner.records.due().status(now);
        AnnounceStatus {
            announced,
            to_announce,
        }
    }

    /// Opens an exchange stream to a peer, connecting first if need be. Tried twice: a peer that is not where it
    /// should be is looked up in between.
    ///
    /// # Errors
    /// [`DhtError::Dial`], [`DhtError::Unsupported`], [`DhtError::Exchange`], [`DhtError::TimedOut`].
    pub async fn open_exchange(
        &self,
        peer: PeerId,
        deadline: Duration,
    ) -> Result<(RequestSender, ReplyReceiver), DhtError> {
        let ends = Instant::now() + deadline;
        let mut last = DhtError::TimedOut(deadline);
        for _ in 0..2 {
            let attempt = async {
                let stream = self
                    .inner
                    .open_stream(peer, &[], exchange::PROTOCOL)
                    .await?;
                let counters = Some(self.inner.counters.clone());
                let asked = exchange::ask_counted(stream.compat(), counters).await;
                asked.map_err(|source| DhtError::Exchange { peer, source })
            };
            match timeout_at(ends, attempt).await {
                Err(_) => return Err(last),
                Ok(Ok(streams)) => return Ok(streams),
                Ok(Err(error)) if error.is_retryable() => last = error,
                Ok(Err(error)) => return Err(error),
            }
            if matches!(last, DhtError::Dial { .. }) {
                let _ = timeout_at(ends, self.inner.look_for_peer(peer)).await;
            }
        }
        Err(last)
    }

    /// Disconnects from a peer and refuses it for a while. At most 1,024 peers are banned at once;
    /// the ban that ends first gives way.
    pub async fn ban(&self, peer: PeerId, time: Duration) {
        let until = Instant::now() + time;
        let _ = self
            .inner
            .ask(|answer| Command::Ban {
                peer,
                until,
                answer,
            })
            .await;
    }

    /// What was refused since the start.
    pub fn dropped(&self) -> DropCounters {
        self.inner.counters.snapshot()
    }

    /// Leaves the network and writes the record store out, in at most three seconds. Later calls on
    /// any clone fail with [`DhtError::ShutDown`] or do nothing.
    pub async fn shutdown(&self) {
        let leave = async {
            let _ = self.inner.ask(|answer| Command::Shutdown { answer }).await;
            self.inner.stop.cancel();
            self.inner.tasks.close();
            let _ = timeout(SHUTDOWN_DEADLINE / 3, self.inner.tasks.wait()).await;
            if let Err(error) = self.inner.records.close().await
                && !matches!(error, crate::StoreError::Closed)
            {
                tracing::error!(%error, "the record store could not be written out");
            }
        };
        if timeout(SHUTDOWN_DEADLINE, leave).await.is_err() {
            tracing::warn!("leaving the network took too long");
        }
    }
}

impl Inner {
    /// Spawns a task that ends with the node.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
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
    async fn look_for_peer(&self, peer: PeerId) {
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

    /// Sends a value record to peers; returns how many took it.
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
        name: &'static str,
    ) -> Result<Stream, DhtError> {
        let addrs = addrs.to_vec();
        self.ask(|answer| Command::Connect {
            peer,
            addrs,
            answer,
        })
        .await??;
        // Never without a deadline: an opening that is lost within libp2p-stream is never answered.
        let mut control = self.control.clone();
        match within(OPEN_DEADLINE, control.open_stream(peer, protocol(name))).await? {
            Ok(stream) => Ok(stream),
            Err(OpenStreamError::UnsupportedProtocol(_)) => Err(DhtError::Unsupported(peer)),
            Err(OpenStreamError::Io(error)) => Err(DhtError::Exchange {
                peer,
                source: ExchangeError::Io(error),
            }),
            Err(other) => Err(DhtError::Dial {
                target: peer.to_string(),
                source: Box::new(other),
            }),
        }
    }

    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, DhtError> {
        let wait = deadline.saturating_duration_since(Instant::now());
        let permit = timeout(wait, self.queries.clone().acquire_owned()).await;
        permit
            .map_err(|_| DhtError::TimedOut(wait))?
            .map_err(|_| DhtError::ShutDown)
    }

    async fn send(&self, command: Command) -> Result<(), DhtError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| DhtError::ShutDown)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, DhtError> {
        let (answer, receiver) = oneshot::channel();
        self.send(command(answer)).await?;
        receiver.await.map_err(|_| DhtError::ShutDown)
    }
}

pub(crate) fn protocol(name: &'static str) -> StreamProtocol {
    StreamProtocol::new(name)
}

async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Result<T, DhtError> {
    timeout(deadline, work)
        .await
        .map_err(|_| DhtError::TimedOut(deadline))
}
