//! Bringing a node up: record store, swarm, and the tasks of a node.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce;
use crate::bandwidth::Line;
use crate::batch;
use crate::config::{DhtConfig, Mode};
use crate::counters::Counters;
use crate::error::DhtError;
use crate::exchange::{ReplySender, RequestReceiver};
use crate::handle::{Dht, Inner};
use crate::meters::Meters;
use crate::neighbourhood::Neighbourhood;
use crate::net;
use crate::network::Protocols;
use crate::pool;
use crate::records::{Records, system_clock};

/// Where records and schedule live in the data directory.
pub(crate) const FOLDER: &str = "dht";

/// Lookups that run at once. More make libp2p lose answers: requests queue behind 32 streams a
/// connection and peers count as unresponsive meanwhile.
const MAX_QUERIES: usize = 64;
/// Commands that wait for the driver, which takes them in microseconds.
const MAX_COMMANDS: usize = 256;
/// Streams opened by others that wait for the node to take them.
const MAX_WAITING_STREAMS: usize = 64;
/// Time between two steps of the expiry sweep. A million keys are swept in 16 minutes.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// An exchange stream that another peer has opened.
pub struct Incoming {
    /// Who opened it.
    pub peer: PeerId,
    /// What it asks.
    pub requests: RequestReceiver,
    /// Where the answers go.
    pub replies: ReplySender,
}

/// The exchange streams other peers open. At most 64 wait here; more are refused, so take them
/// quickly and serve each in a task of its own.
pub type IncomingStreams = mpsc::Receiver<Incoming>;

/// Starts a node: opens its record store, listens, joins the network in the background.
///
/// Returns once all listen addresses are in use.
///
/// # Errors
/// The record store cannot be opened, or an address cannot be listened on.
pub async fn start(config: DhtConfig) -> Result<(Dht, IncomingStreams), DhtError> {
    let line = Line::new(config.bandwidth);
    let transport = net::transport(&config, &line).map_err(DhtError::Setup)?;
    start_with(config, transport, line).await
}

/// Starts a node over a transport of the caller's.
///
/// # Errors
/// As [`start()`].
pub async fn start_over(
    config: DhtConfig,
    transport: Boxed<(PeerId, StreamMuxerBox)>,
) -> Result<(Dht, IncomingStreams), DhtError> {
    let line = Line::new(config.bandwidth);
    let counted = line.clone();
    let transport = transport.map(move |(peer, muxer), point| {
        let muxer = counted.meter(peer, point.get_remote_address(), None, muxer);
        (peer, StreamMuxerBox::new(muxer))
    });
    start_with(config, transport.boxed(), line).await
}

async fn start_with(
    config: DhtConfig,
    transport: Boxed<(PeerId, StreamMuxerBox)>,
    line: Arc<Line>,
) -> Result<(Dht, IncomingStreams), DhtError> {
    pool::keep_at_most(config.limits.kept_buffers_bytes);
    let records = open_records(&config).await?;
    let counters = Arc::new(Counters::default());
    let meters = Arc::new(Meters::default());
    let stop = CancellationToken::new();
    let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
    let (values_sender, values) = net::ValueQueue::new();
    let (routed_sender, routed) = watch::channel(0);
    let protocols = Protocols::of(&config.network);
    let me = config.keypair.public().to_peer_id();
    let nobody = Arc::new(Neighbourhood::new(&me, []));
    let (neighbourhood_sender, neighbourhood) = watch::channel(nobody);
    let origins = Arc::new(net::Origins::default());
    let (mode_sender, mode) = watch::channel(Mode::Client);
    let ways = net::Ways {
        commands: inbox,
        values: values_sender,
        routed: routed_sender,
        neighbourhood: neighbourhood_sender,
        origins: origins.clone(),
        mode: mode_sender,
        meters: meters.clone(),
        stop: stop.clone(),
    };
    let (mut driver, [exchange, batches, reach]) =
        net::Driver::build(&config, transport, &records, &counters, ways)?;
    driver.listen(&config.listen).await?;

    let now = records.now();
    let inner = Arc::new(Inner {
        peer: me,
        line,
        protocols,
        neighbourhood,
        origins,
        mode,
        records,
        check: config.record_check.clone(),
        slots: batch::Slots::default(),
        announcer: announce::Announcer::new(&config.announce, now),
        meters,
        counters,
        times: config.announce.clone(),
        max_value_bytes: config.limits.value_bytes,
        routed,
        wake_announcer: Notify::new(),
        stop: stop.clone(),
        commands,
        queries: Arc::new(Semaphore::new(MAX_QUERIES)),
        found: Mutex::default(),
        tasks: TaskTracker::new(),
    });
    inner.tasks.spawn(driver.run());
    inner.spawn(net::check_values(values, inner.clone()));
    let incoming = accept(&inner, &config, exchange, batches);
    inner.spawn(net::answer_all(reach, inner.clone()));
    inner.spawn(net::ask_around(
        inner.clone(),
        config.membership.between_tests,
    ));
    inner.spawn(announce::run(inner.clone()));
    inner.spawn(announce::watch_churn(inner.clone()));
    inner.spawn(sweep(inner.records.clone()));
    let _stop_on_drop = Arc::new(stop.drop_guard());
    Ok((
        Dht {
            inner,
            _stop_on_drop,
        },
        incoming,
    ))
}

async fn open_records(config: &DhtConfig) -> Result<Arc<Records>, DhtError> {
    let keypair = config.keypair.clone();
    let dir = (!config.in_memory).then(|| config.data_dir.join(FOLDER));
    let (limits, times) = (config.limits.clone(), config.announce.clone());
    let open = move || Records::open(dir.as_deref(), &keypair, limits, &times, system_clock());
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(opened.map_err(|error| DhtError::Setup(Box::new(error)))??)
}

/// Starts taking the streams that others open.
fn accept(
    inner: &Arc<Inner>,
    config: &DhtConfig,
    exchange: net::IncomingStreams,
    batches: net::IncomingStreams,
) -> IncomingStreams {
    let (sender, incoming) = mpsc::channel(MAX_WAITING_STREAMS);
    inner.spawn(net::accept_exchange(
        exchange,
        sender,
        config.limits.clone(),
        inner.counters.clone(),
        inner.tasks.clone(),
    ));
    let server = batch::Server {
        records: inner.records.clone(),
        origins: inner.origins.clone(),
        neighbourhood: inner.neighbourhood.clone(),
        counters: inner.counters.clone(),
    };
    inner.spawn(batch::accept(
        batches,
        Arc::new(server),
        config.limits.records_streams_in,
        inner.mode.clone(),
        inner.tasks.clone(),
    ));
    incoming
}

async fn sweep(records: Arc<Records>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        records.sweep_step();
    }
}
