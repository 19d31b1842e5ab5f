//! The handle: everything the node asks of the network.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::Key;
use crate::announce;
use crate::announce::schedule::{BUCKETS, Kind};
use crate::bandwidth::{Bandwidth, Line, PeerTraffic, Traffic};
use crate::batch;
use crate::command::{
    AnnounceStatus, Announced, ClosestPeers, Command, FindEvent, FindManyEvent, FindOptions,
    Lookup, PeerInfo, RecordFound,
};
use crate::config::{AnnounceTimes, Mode, RecordCheck};
use crate::counters::{Counters, DropCounters};
use crate::error::DhtError;
use crate::exchange::{self, ExchangeError, ReplyReceiver, Request, RequestSender};
use crate::find;
use crate::key::Point;
use crate::meters::{self, Meters};
use crate::neighbourhood::Neighbourhood;
use crate::net::{OpenError, Origins, Stream, addrs, is_refusal};
use crate::network::Protocols;
use crate::put_test;
use crate::records::Records;
use crate::report::{KeysStatus, LookupReport, Metric, ProvideStatus, PutTest};

/// Values of one record that wait to be checked; more than a lookup has answers.
const MAX_CANDIDATES: usize = 32;
/// How long opening one stream on a standing connection may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// The lookup of a peer that was not where it should be.
const PEER_LOOKUP: Duration = Duration::from_secs(4);
/// How long leaving may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);
/// Buckets of the schedule that are looked at while it is locked once: half a millisecond for a million keys.
const BUCKETS_AT_ONCE: usize = 64;

/// A running node of the network. Clones share it; when the last one goes, the node stops.
#[derive(Clone)]
pub struct Dht {
    pub(crate) inner: Arc<Inner>,
    pub(crate) _stop_on_drop: Arc<DropGuard>,
}

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
        let peers = self.inner.ask(|answer| Command::Peers { answer }).await;
        let mut peers = peers.unwrap_or_default();
        for info in &mut peers {
            if let Some(seen) = self.traffic_of(&info.peer) {
                info.transport = seen.transport;
                info.cipher = seen.cipher;
            }
        }
        peers
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
                    publisher: Some(published.publisher),
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

    /// Adds many files to the schedule, as [`Self::schedule_file`] does with one: they are announced by region,
    /// not with a lookup each.
    ///
    /// # Errors
    /// [`DhtError::ValueTooLarge`], [`DhtError::Store`].
    pub async fn schedule_files(&self, files: Vec<(Key, Vec<u8>)>) -> Result<(), DhtError> {
        announce::schedule_files(&self.inner, files).await
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
        self.scheduled_keys_where(|_| true)
    }

    /// The keys of the schedule of which that is true, in no order. Others may change the schedule meanwhile.
    pub fn scheduled_keys_where(&self, mut is_meant: impl FnMut(&Key) -> bool) -> Vec<Key> {
        let mut found = Vec::new();
        for part in (0..BUCKETS).step_by(BUCKETS_AT_ONCE) {
            // In pieces, so that others have their turn.
            let keys = self
                .inner
                .records
                .due()
                .keys_of(part..part + BUCKETS_AT_ONCE);
            found.extend(keys.into_iter().filter(|key| is_meant(key)));
        }
        found
    }

    /// Whether the key is in the schedule, from memory: no is certain, and yes but for a chance of one in ten billion with a
    /// schedule of a million keys.
    pub fn may_announce(&self, key: &Key) -> bool {
        self.inner.records.provides(key)
    }

    /// Whether the key is in the schedule, as far as [`Self::may_announce`] knows, and a value to be published with it.
    pub fn announces_file(&self, key: &Key) -> bool {
        self.may_announce(key) && self.inner.records.tables().own_value(key).is_some()
    }

    /// How far announcing has come.
    pub fn announce_status(&self) -> AnnounceStatus {
        announce::status(&self.inner).in_short()
    }

    /// How announcing stands, over all keys.
    pub fn provide_status(&self) -> ProvideStatus {
        announce::status(&self.inner)
    }

    /// How announcing stands, over these keys.
    pub fn keys_status(&self, keys: &[Key]) -> KeysStatus {
        let now = self.inner.records.now();
        self.inner.records.due().status_of(keys, now)
    }

    /// Makes these keys due now, or all; returns how many of them are in the schedule. They are announced in the
    /// background.
    pub fn provide_now(&self, keys: Option<&[Key]>) -> u64 {
        let mut due = self.inner.records.due();
        let count = match keys {
            None => due.force_all(),
            Some(keys) => keys.iter().map(|key| u64::from(due.force(key))).sum(),
        };
        drop(due);
        self.inner.wake_announcer.notify_one();
        count
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

    /// The limits of what this node sends and takes.
    pub fn bandwidth(&self) -> Bandwidth {
        self.inner.line.bandwidth()
    }

    /// Changes these limits, from now on, for all streams that are open, too.
    pub fn set_bandwidth(&self, bandwidth: Bandwidth) {
        self.change_bandwidth(|_| bandwidth);
    }

    /// Changes them by what they are, one change after the other; returns what they are then.
    pub fn change_bandwidth(&self, change: impl FnOnce(Bandwidth) -> Bandwidth) -> Bandwidth {
        self.inner.line.change(change)
    }

    /// What this node has sent and taken since its start.
    pub fn traffic(&self) -> Traffic {
        self.inner.line.traffic()
    }

    /// What goes between this node and a peer that is connected.
    pub fn traffic_of(&self, peer: &PeerId) -> Option<PeerTraffic> {
        self.inner.line.traffic_of(peer)
    }

    /// Where others may reach a peer that is connected: at most four addresses that it has told or this node has dialled. Not
    /// all of them are for everybody: see [`Dht::tellable_to`].
    pub async fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        self.inner
            .ask(|answer| Command::AddressesOf { peer, answer })
            .await
            .unwrap_or_default()
    }

    /// Of the addresses of somebody else, those that a connected peer may be told: loopback only on this machine, private
    /// networks only within one. None when it is not connected.
    pub fn tellable_to(&self, to: &PeerId, addrs: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let remote = self.traffic_of(to).map(|seen| seen.addr);
        remote.map_or_else(Vec::new, |remote| addrs::tellable_at(&remote, addrs))
    }

    /// Numbers for a monitoring system.
    pub fn metrics(&self) -> Vec<Metric> {
        meters::metrics(&self.inner)
    }

    /// Opens an exchange stream to a peer, connecting first if need be, by these and other known addresses. Tried twice: a peer that is not where it
    /// should be is looked up in between.
    ///
    /// # Errors
    /// [`DhtError::Dial`], [`DhtError::Unsupported`], [`DhtError::Exchange`], [`DhtError::TimedOut`].
    pub async fn open_exchange(
        &self,
        peer: PeerId,
        addrs: &[Multiaddr],
        deadline: Duration,
    ) -> Result<(RequestSender, ReplyReceiver), DhtError> {
        self.open_exchange_with(peer, addrs, deadline, Vec::new)
            .await
    }

    /// The same, and asks at once what `first` says, with ids, when there is a connection: the requests go with the opening of
    /// the stream and cost no round trip more. `first` is called for each time that it is tried.
    ///
    /// # Errors
    /// As [`Dht::open_exchange`].
    pub async fn open_exchange_with(
        &self,
        peer: PeerId,
        addrs: &[Multiaddr],
        deadline: Duration,
        mut first: impl FnMut() -> Vec<(u32, Request)>,
    ) -> Result<(RequestSender, ReplyReceiver), DhtError> {
        let ends = Instant::now() + deadline;
        let mut last = DhtError::TimedOut(deadline);
        for _ in 0..2 {
            let attempt = async {
                let stream = self
                    .inner
                    .open_stream(peer, addrs, &self.inner.protocols.exchange)
                    .await?;
                let counters = Some(self.inner.counters.clone());
                let asked = exchange::ask_counted(stream.compat(), &first(), counters).await;
                asked.map_err(|source| match source {
                    ExchangeError::Io(error) if is_refusal(&error) => DhtError::Unsupported(peer),
                    source => DhtError::Exchange { peer, source },
                })
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

    /// Whether this node serves the DHT now: [`Mode::Server`] or [`Mode::Client`].
    pub fn mode(&self) -> Mode {
        *self.inner.mode.borrow()
    }

    /// Makes this node a server or a client, or leaves it to be found out. Peers are told at once.
    pub async fn set_mode(&self, mode: Mode) {
        let _ = self
            .inner
            .ask(|answer| Command::SetMode { mode, answer })
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

async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Result<T, DhtError> {
    timeout(deadline, work)
        .await
        .map_err(|_| DhtError::TimedOut(deadline))
}
