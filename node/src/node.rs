//! The node: one store, one place in the network, and the tasks between them.

mod join;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use casnode_cas::{Address, FileRecord, Manifest, Store, StoreConfig, StoreError};
use casnode_dht::{Dht, NetworkName, PeerId};
use tokio_util::sync::CancellationToken;

pub use self::join::check_multiaddr;
use self::join::{check_network, join, mode_of};
pub(crate) use self::join::{mode, multiaddrs};
use crate::{
    api::{ApiError, Caller, DhtMode, ErrorKind, Outcome, Request, events::EventSink, socket},
    budget::{MemoryBudget, Share},
    client::{Streams, busy},
    clock,
    config::{NetworkConfig, NodeConfig, StoreLimit},
    download::Downloads,
    errors,
    foreground::Foreground,
    identity, ops, publish, seeder,
    seeding::{SeedPolicy, Seeding},
    swarm::Swarms,
    tasks::{Tasks, blocking},
    upkeep::{self, Upkeep},
};

/// Leaving takes no longer than this; what is not done then is cut off.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(8);

/// A daemon that nobody has answered for this long says so.
const BOOTSTRAP_WARNING: Duration = Duration::from_secs(12);

/// How long, and how often, a data directory is waited for that another process is about to leave.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How long a command waits for a first peer: with a bootstrap peer named, and without.
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(10);
const LOCAL_PATIENCE: Duration = Duration::from_secs(3);

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) dht: Option<Dht>,
    pub(crate) tasks: Tasks,
    pub(crate) downloads: Arc<Downloads>,
    pub(crate) foreground: Arc<Foreground>,
    pub(crate) swarms: Arc<Swarms>,
    pub(crate) seeding: Arc<Seeding>,
    /// For how long what is fetched is served, where nothing else is said; `None`: nobody serves it.
    pub(crate) seed: Option<SeedPolicy>,
    pub(crate) upkeep: Upkeep,
    pub(crate) memory: MemoryBudget,
    /// Memory for chunks on their way in, of all downloads.
    pub(crate) incoming: Share,
    pub(crate) serve_dht: bool,
    /// This node's peer id; without a network, of an earlier life in one.
    pub(crate) peer_id: Option<PeerId>,
    pub(crate) data_dir: PathBuf,
    /// Peers named to join by.
    pub(crate) bootstrap: Vec<String>,
    /// Which network it is in, when it is in one.
    pub(crate) network: Option<NetworkName>,
    /// Where the local API is served over TCP.
    http: OnceLock<SocketAddr>,
    /// Why it is not, although it was to be.
    no_http: OnceLock<String>,
    /// When it was started, by both clocks.
    started: (Instant, u64),
    /// The part in the DHT that was chosen for it.
    mode: Mutex<DhtMode>,
}

impl Node {
    /// Opens the store and, where a network is configured, joins it.
    pub(crate) async fn start(config: NodeConfig) -> Result<Arc<Self>, ApiError> {
        let network = config.network.as_ref().map(check_network).transpose()?;
        // A command that only looks makes nothing: a mistyped --data-dir stays as it is.
        let store = if network.is_none() && !Store::exists(&config.data_dir) {
            Store::in_memory().map_err(|e| errors::store("an empty store could not be made", &e))?
        } else {
            open_store(config.data_dir.clone(), config.memory).await?
        };
        // Nothing can be noted there, not even peers: what is here can be read, and that is all.
        let network = network.filter(|_| !store.is_read_only());
        if store.is_read_only() && config.serve_dht {
            return Err(errors::read_only(&config.data_dir));
        }
        set_limit(&store, config.max_store).await?;
        let tasks = Tasks::new();
        let (dht, incoming) = match network {
            None => (None, None),
            Some(network) => {
                let (dht, incoming) = join(&config, network).await?;
                (Some(dht), Some(incoming))
            }
        };
        let peer_id = match &dht {
            Some(dht) => Some(dht.local_peer_id()),
            None => identity::existing_id(&config.data_dir),
        };
        let seeding = open_seeding(&config.data_dir).await?;
        let swarm_mode = config.network.as_ref().map(NetworkConfig::swarm_mode);
        let swarm_mode = swarm_mode.unwrap_or_default();
        let profile = config.network.as_ref().map(|n| n.profile);
        let profile = profile.unwrap_or_default();
        let node = Arc::new(Self {
            peer_id,
            store,
            dht,
            tasks,
            downloads: Arc::default(),
            foreground: Arc::default(),
            swarms: Arc::new(Swarms::new(swarm_mode)),
            seeding: Arc::new(seeding),
            seed: config.serve_dht.then_some(config.seed),
            memory: config.memory,
            incoming: Share::of(config.memory.shares().incoming_bytes),
            upkeep: Upkeep::new(config.scrub_bytes_per_s),
            serve_dht: config.serve_dht,
            http: OnceLock::new(),
            no_http: OnceLock::new(),
            started: (clock::now(), clock::unix_s()),
            mode: Mutex::new(mode_of(&config)),
            data_dir: config.data_dir,
            network: config.network.as_ref().map(|n| n.name.clone()),
            bootstrap: config.network.map(|n| n.bootstrap).unwrap_or_default(),
        });
        if let Some(incoming) = incoming {
            node.tasks
                .spawn("seeder", seeder::run(node.clone(), profile, incoming));
            node.tasks
                .spawn("seeding", upkeep::look_after_seeding(node.clone()));
        }
        if node.serve_dht {
            node.tasks
                .spawn("reconcile announcements", publish::reconcile(node.clone()));
            node.tasks
                .spawn("watch bootstrap", node.clone().watch_bootstrap());
            node.tasks.spawn("sweep", node.clone().sweep());
            upkeep::start(&node);
        }
        Ok(node)
    }

    /// Tells the store another limit, if there is a word about one. What is over it makes room with the next use.
    pub(crate) async fn set_store_limit(&self, limit: Option<StoreLimit>) -> Result<(), ApiError> {
        set_limit(&self.store, limit).await
    }

    /// Says so when nobody that was named to join by answers.
    async fn watch_bootstrap(self: Arc<Self>) -> Result<(), Infallible> {
        if let Some(dht) = &self.dht
            && self.has_bootstrap()
            && dht.connected_within(BOOTSTRAP_WARNING).await == 0
        {
            let named = self.bootstrap.join(", ");
            tracing::warn!(
                "no answer from {named}: this node is connected to no peers and goes on trying"
            );
        }
        Ok(())
    }

    /// Gives back what interrupted imports and downloads of other days have left.
    async fn sweep(self: Arc<Self>) -> Result<(), ApiError> {
        let store = self.store.clone();
        let swept = blocking(move || store.drop_orphans())
            .await
            .map_err(errors::panicked)?;
        let removed = swept.map_err(|e| errors::store("leftover chunks were not removed", &e))?;
        if removed.freed_bytes > 0 {
            let (chunks, bytes) = (removed.freed_chunks.len(), removed.freed_bytes);
            tracing::info!(chunks, bytes, "chunks that no file needs were removed");
        }
        Ok(())
    }

    /// Carries out one call. Dropping the future cancels it.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        request: Request,
        caller: Caller,
        streams: Streams,
        events: EventSink,
        cancel: CancellationToken,
    ) -> Outcome {
        ops::execute(self, request, caller, streams, events, cancel).await
    }

    /// The part in the DHT that was chosen for it.
    pub(crate) fn mode(&self) -> DhtMode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that another part was chosen.
    pub(crate) fn set_mode(&self, mode: DhtMode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Where the local API is served over TCP.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http.get().copied()
    }

    /// Notes where the local API is served over TCP, once.
    pub(crate) fn set_http(&self, addr: SocketAddr) {
        let _ = self.http.set(addr); // it is served in one place
    }

    /// Why the local API is not served over TCP, although it was to be.
    pub(crate) fn no_http(&self) -> Option<&str> {
        self.no_http.get().map(String::as_str)
    }

    /// Notes why the local API is not served over TCP.
    pub(crate) fn set_no_http(&self, why: String) {
        let _ = self.no_http.set(why); // it is tried once
    }

    /// Seconds since it was started, by the monotonic clock and by the time of day.
    pub(crate) fn age_s(&self) -> (u64, i64) {
        let (at, unix_s) = self.started;
        let by_day = i128::from(clock::unix_s()) - i128::from(unix_s);
        (
            clock::now().saturating_duration_since(at).as_secs(),
            i64::try_from(by_day).unwrap_or_default(),
        )
    }

    /// Whether a file is served to others, and announced: its seeding is not over.
    pub(crate) fn serves(&self, address: &Address) -> bool {
        self.seeding.may_serve(address, clock::unix_s())
    }

    /// A file that is whole is served for this long from now on; that is on the medium when this returns.
    pub(crate) async fn serve_for(&self, policy: SeedPolicy, address: Address, size_bytes: u64) {
        let now_s = clock::unix_s();
        if let Err(error) = self.seeding.set(address, policy, size_bytes, now_s) {
            tracing::warn!(file = %address, %error, "a file is served for as long as it is here");
        }
        upkeep::save_seeding(self).await;
    }

    /// The same of many files, written once.
    pub(crate) async fn serve_all_for(&self, policy: SeedPolicy, files: Vec<(Address, u64)>) {
        let now_s = clock::unix_s();
        for (address, size_bytes) in files {
            if let Err(error) = self.seeding.set(address, policy, size_bytes, now_s) {
                tracing::warn!(file = %address, %error, "a file is served for as long as it is here");
            }
        }
        upkeep::save_seeding(self).await;
    }

    /// How long a command waits for a first peer.
    pub(crate) fn network_patience(&self) -> Duration {
        if self.has_bootstrap() {
            BOOTSTRAP_PATIENCE
        } else {
            LOCAL_PATIENCE
        }
    }

    /// True when a network beyond this machine's neighbourhood was named.
    pub(crate) fn has_bootstrap(&self) -> bool {
        !self.bootstrap.is_empty()
    }

    /// The name under which a file is known here.
    pub(crate) async fn known_name(&self, address: &Address) -> Option<String> {
        let (store, address) = (self.store.clone(), *address);
        blocking(move || store.file(&address))
            .await
            .ok()?
            .ok()?
            .and_then(|e| e.name)
    }

    /// Tells the DHT that this node has a file, while it goes on.
    pub(crate) fn announce_in_background(
        self: &Arc<Self>,
        manifest: &Manifest,
        record: Option<&FileRecord>,
    ) {
        if self.serve_dht && self.dht.is_some() {
            let name = record.and_then(|r| r.name().map(str::to_owned));
            self.tasks.spawn(
                "announce",
                publish::file(self.clone(), manifest.clone(), name),
            );
        }
    }

    /// Leaves: no new work, running work ends, the network is left, the store is flushed.
    pub(crate) async fn shutdown(&self) {
        let leave = async {
            // First, for what takes too long is cut off; and once more when nothing is sent any longer.
            upkeep::save_seeding(self).await;
            self.tasks.finish().await;
            if let Some(dht) = &self.dht {
                dht.shutdown().await;
            }
            upkeep::save_seeding(self).await;
            let store = self.store.clone();
            if !store.is_read_only()
                && let Ok(Err(error)) = blocking(move || store.commit()).await
            {
                tracing::warn!(%error, "the store was not flushed");
            }
        };
        if tokio::time::timeout(SHUTDOWN_DEADLINE, leave)
            .await
            .is_err()
        {
            tracing::warn!("leaving took too long and was cut off");
        }
    }
}

/// Opens the store. Whoever holds it without a socket is a command that ends soon, or a daemon that is starting or
/// leaving: it is waited for. A daemon that answers is not.
async fn open_store(data_dir: PathBuf, memory: MemoryBudget) -> Result<Store, ApiError> {
    let shares = memory.shares();
    let mut config = StoreConfig::default();
    config.index_cache_bytes = shares.index_cache_bytes;
    config.kept_buffers_bytes = usize::try_from(shares.kept_buffers_bytes).unwrap_or(usize::MAX);
    let deadline = clock::now() + LOCK_PATIENCE;
    loop {
        let (dir, config) = (data_dir.clone(), config.clone());
        let opened = blocking(move || Store::open(&dir, config))
            .await
            .map_err(errors::panicked)?;
        let pid = match opened {
            Ok(store) => return Ok(store),
            Err(StoreError::Locked { pid, .. }) => pid,
            Err(error) if is_read_only(&error) => return open_read_only(data_dir).await,
            Err(error) => {
                let what = format!(
                    "the data directory {} could not be opened",
                    data_dir.display()
                );
                return Err(errors::store(&what, &error));
            }
        };
        if clock::now() >= deadline || socket::connect(&data_dir).await.is_ok() {
            return Err(busy(&data_dir, pid));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// What the data directory remembers of serving.
async fn open_seeding(data_dir: &Path) -> Result<Seeding, ApiError> {
    let dir = data_dir.to_owned();
    let opened = blocking(move || Seeding::open(&dir))
        .await
        .map_err(errors::panicked)?;
    opened.map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            "for how long files are served could not be read",
            error.to_string(),
            "make the file `seeding` in the data directory readable, or remove it: every file is served then",
        )
    })
}

/// Whether it is the medium that does not let the store be opened as usual.
fn is_read_only(error: &StoreError) -> bool {
    match error {
        StoreError::ReadOnly { .. } => true,
        StoreError::Io { source, .. } => source.kind() == io::ErrorKind::ReadOnlyFilesystem,
        _ => false,
    }
}

async fn open_read_only(data_dir: PathBuf) -> Result<Store, ApiError> {
    tracing::info!("the data directory is on a read-only medium");
    let dir = data_dir.clone();
    let opened = blocking(move || Store::open_read_only(&dir))
        .await
        .map_err(errors::panicked)?;
    opened.map_err(|e| {
        let what = format!(
            "the data directory {} could not be opened",
            data_dir.display()
        );
        errors::store(&what, &e)
    })
}

/// Tells the store its limit, if there is a word about one. A store that cannot be written keeps what it has.
async fn set_limit(store: &Store, limit: Option<StoreLimit>) -> Result<(), ApiError> {
    let Some(limit) = limit.filter(|_| !store.is_read_only()) else {
        return Ok(());
    };
    let max_bytes = match limit {
        StoreLimit::Unlimited => None,
        StoreLimit::Bytes(bytes) => Some(bytes),
    };
    if store.max_bytes() == max_bytes {
        return Ok(());
    }
    let store = store.clone();
    let set = blocking(move || store.set_max_bytes(max_bytes))
        .await
        .map_err(errors::panicked)?;
    set.map_err(|e| errors::store("the limit of the store could not be set", &e))
}
