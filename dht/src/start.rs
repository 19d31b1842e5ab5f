//! Bringing a node up: record store, swarm, and the tasks of a node.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p_stream::IncomingStreams as Streams;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce::{self, PROVIDE_PROTOCOL};
use crate::config::DhtConfig;
use crate::counters::Counters;
use crate::error::DhtError;
use crate::exchange::{self, ReplySender, RequestReceiver};
use crate::handle::{Dht, Inner, protocol};
use crate::net;
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
    let records = open_records(&config).await?;
    let counters = Arc::new(Counters::default());
    let stop = CancellationToken::new();
    let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
    let (values_sender, values) = mpsc::channel(net::MAX_UNCHECKED_VALUES);
    let (routed_sender, routed) = watch::channel(0);
    let ways = net::Ways {
        commands: inbox,
        values: values_sender,
        routed: routed_sender,
        stop: stop.clone(),
    };
    let (mut driver, mut control) = net::Driver::build(&config, &records, &counters, ways)?;
    let in_use = |error| DhtError::Setup(Box::new(error));
    let exchange = control
        .accept(protocol(exchange::PROTOCOL))
        .map_err(in_use)?;
    let provide = control.accept(protocol(PROVIDE_PROTOCOL)).map_err(in_use)?;
    driver.listen(&config.listen).await?;

    let inner = Arc::new(Inner {
        peer: config.keypair.public().to_peer_id(),
        records,
        check: config.record_check.clone(),
        counters,
        times: config.announce.clone(),
        max_value_bytes: config.limits.value_bytes,
        routed,
        wake_announcer: Notify::new(),
        stop: stop.clone(),
        commands,
        control,
        queries: Arc::new(Semaphore::new(MAX_QUERIES)),
        tasks: TaskTracker::new(),
    });
    inner.tasks.spawn(driver.run());
    inner.spawn(net::check_values(values, inner.clone()));
    let incoming = accept(&inner, &config, exchange, provide);
    inner.spawn(announce::run(inner.clone()));
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
    let me = config.keypair.public().to_peer_id();
    let dir = config.data_dir.join(FOLDER);
    let (limits, times) = (config.limits.clone(), config.announce.clone());
    let open = move || Records::open(&dir, me, limits, &times, system_clock());
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(opened.map_err(|error| DhtError::Setup(Box::new(error)))??)
}

/// Starts taking the streams that others open.
fn accept(
    inner: &Arc<Inner>,
    config: &DhtConfig,
    exchange: Streams,
    provide: Streams,
) -> IncomingStreams {
    let (sender, incoming) = mpsc::channel(MAX_WAITING_STREAMS);
    inner.spawn(net::accept_exchange(
        exchange,
        sender,
        config.limits.clone(),
        inner.counters.clone(),
        inner.tasks.clone(),
    ));
    inner.spawn(announce::accept_provided(
        provide,
        inner.records.clone(),
        config.limits.provide_streams_in,
        config.mode,
        inner.counters.clone(),
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
