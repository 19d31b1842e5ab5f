//! `provide status` and `provide now`: how announcing stands, and doing it again at once.

mod report;

use std::{collections::HashSet, sync::Arc, time::Duration};

use casnode_cas::Address;
use casnode_dht::{Dht, Key, KeysStatus, SleepingSchedule};

use self::report::{awake, keys_report, on_disk, were};
use super::{
    files::{not_here, on_store},
    network::joined,
};
use crate::{
    api::{
        ApiError, ErrorKind, Outcome, Phase, Progress, ProvideFileReport, ProvideNowReport,
        ProvideReport, Response, events::EventSink,
    },
    clock, errors,
    node::Node,
    publish::{self, Here, PublishError},
    tasks::blocking,
};

/// Waiting for announcements ends after this, unless told otherwise.
const WAIT_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How often is looked whether keys are still due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The fields of [`crate::api::Request::ProvideNow`].
pub(super) struct NowCall {
    pub(super) address: Option<String>,
    pub(super) wait: bool,
    pub(super) timeout_ms: Option<u64>,
}

/// How announcing stands, over everything or over one file.
pub(super) async fn status(node: &Arc<Node>, address: Option<&str>) -> Outcome {
    let Some(address) = address else {
        let report = match &node.dht {
            Some(dht) => report_of(node, dht),
            None => on_disk(sleeping(node).await?),
        };
        return Ok(Response::ProvideStatus(report));
    };
    let address: Address = super::parse("an address", address)?;
    let keys = FileKeys::of(node, address).await?;
    let chunks = keys.chunks.clone();
    let (own, chunks) = match &node.dht {
        Some(dht) => {
            let dht = dht.clone();
            blocking(move || (dht.keys_status(&[keys.own]), dht.keys_status(&chunks))).await
        }
        None => {
            let mut schedule = sleeping(node).await?;
            let mut of = move |keys: &[Key]| match &mut schedule {
                Some(schedule) => schedule.keys_status(keys),
                None => unscheduled(keys),
            };
            blocking(move || (of(&[keys.own]), of(&chunks))).await
        }
    }
    .map_err(errors::panicked)?;
    Ok(Response::ProvideFile(ProvideFileReport {
        address: address.to_string(),
        name: keys.name,
        file: keys_report(&own),
        chunks: keys_report(&chunks),
    }))
}

/// The schedule of a data directory without a network; `None` where none ever was.
async fn sleeping(node: &Node) -> Result<Option<SleepingSchedule>, ApiError> {
    let data_dir = node.data_dir.clone();
    let opened = blocking(move || SleepingSchedule::open(&data_dir)).await;
    opened.map_err(errors::panicked)?.map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            "the announce schedule could not be read",
            errors::chain(&error),
            "start `casnode daemon`: it makes the schedule anew from what is stored",
        )
    })
}

fn unscheduled(keys: &[Key]) -> KeysStatus {
    let mut status = KeysStatus::default();
    status.keys = keys.len() as u64;
    status.unscheduled = status.keys;
    status
}

/// How announcing stands, of a node that does it.
pub(crate) fn report_of(node: &Node, dht: &Dht) -> ProvideReport {
    awake(node, &dht.provide_status())
}

/// Makes keys due, and waits until they are announced if that is wanted.
pub(super) async fn now(
    node: &Arc<Node>,
    call: NowCall,
    events: &EventSink,
) -> Result<ProvideNowReport, ApiError> {
    let dht = joined(node, "nothing was announced")?;
    let address: Option<Address> = call
        .address
        .as_deref()
        .map(|address| super::parse("an address", address))
        .transpose()?;
    let began = clock::now();
    let limit = call.timeout_ms.map_or(WAIT_DEADLINE, Duration::from_millis);
    let wanted = match address {
        Some(address) => Wanted::File(scheduled(node, address).await?),
        // A daemon has done so at its start.
        None if node.serve_dht => Wanted::Everything,
        None => {
            let entered = publish::reconcile(node.clone()).await;
            entered.map_err(not_scheduled)?;
            Wanted::Everything
        }
    };
    let patience = if call.wait {
        node.network_patience().min(limit)
    } else {
        Duration::ZERO
    };
    let connected = dht.connected_within(patience).await;
    let keys = wanted.make_due(dht).await?;
    if connected == 0 {
        if call.wait {
            let what = format!("{} due, and none was announced", were(keys));
            return Err(errors::alone(ErrorKind::NotFound, what, node));
        }
        events
            .warn("no peer is connected, so nothing is announced yet; it will be as soon as one is")
            .await;
    }
    if call.wait {
        let left = limit.saturating_sub(began.elapsed());
        wait(node, dht, &wanted, keys, left, limit, events).await?;
    }
    if !node.serve_dht {
        events
            .warn(
                "nobody can fetch these files when this command has ended; start `casnode daemon`",
            )
            .await;
    }
    Ok(ProvideNowReport {
        address: address.map(|address| address.to_string()),
        keys,
        waited: call.wait,
        took_ms: if call.wait {
            millis(began.elapsed())
        } else {
            0
        },
    })
}

/// Waits until none of the keys is due, and tells how many still are.
async fn wait(
    node: &Node,
    dht: &Dht,
    wanted: &Wanted,
    keys: u64,
    left: Duration,
    limit: Duration,
    events: &EventSink,
) -> Result<(), ApiError> {
    let ends = clock::now() + left;
    loop {
        let due = wanted.due(dht).await?;
        if due == 0 {
            return Ok(());
        }
        let done = keys.saturating_sub(due);
        if clock::now() >= ends {
            let goes_on = if node.serve_dht {
                "the daemon goes on with it: see `casnode provide status`, or wait longer with --timeout"
            } else {
                "run it again with a longer --timeout, or start `casnode daemon`, which goes on with it"
            };
            return Err(ApiError::new(
                ErrorKind::TimedOut,
                format!("{done} of {keys} keys were announced, {due} are still due"),
                format!("it took longer than {} s", limit.as_secs()),
                goes_on,
            ));
        }
        events.progress(Progress {
            phase: Phase::Publishing,
            done_bytes: 0,
            total_bytes: None,
            sources: 0,
            detail: format!("{done} of {keys} keys announced"),
        });
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The keys of a file that is here.
struct FileKeys {
    own: Key,
    name: Option<String>,
    /// Of the chunks that are here, each once, and not the file's own.
    chunks: Arc<[Key]>,
}

impl FileKeys {
    async fn of(node: &Arc<Node>, address: Address) -> Result<Self, ApiError> {
        let found = on_store(node, move |store| {
            let Some(entry) = store.file(&address)? else {
                return Ok(None);
            };
            let own = *address.as_bytes();
            let chunks: HashSet<Key> = match Here::of(store, &entry)? {
                Some(here) => here.chunk_keys().filter(|key| *key != own).collect(),
                None => HashSet::new(),
            };
            Ok(Some(Self {
                own,
                name: entry.name,
                chunks: chunks.into_iter().collect(),
            }))
        });
        found.await?.ok_or_else(|| not_here(&address))
    }

    fn all(&self) -> Arc<[Key]> {
        self.chunks.iter().copied().chain([self.own]).collect()
    }
}

/// The keys of a file, once all are in the schedule: what was stored without a network is not yet.
async fn scheduled(node: &Arc<Node>, address: Address) -> Result<Arc<[Key]>, ApiError> {
    let keys = FileKeys::of(node, address).await?.all();
    if !node.serves(&address) {
        return Err(ApiError::new(
            ErrorKind::Failure,
            format!("{address} was not announced"),
            format!(
                "it is served no more: {} is over",
                node.seeding.policy(&address)
            ),
            "`casnode get --seed forever` or `casnode store` serve it again",
        ));
    }
    let entered = publish::schedule_file(node, address).await;
    entered.map_err(not_scheduled)?;
    Ok(keys)
}

fn not_scheduled(error: PublishError) -> ApiError {
    ApiError::new(
        ErrorKind::Failure,
        "the announce schedule could not be written",
        errors::chain(&error),
        "look at the disk of the data directory; nothing stored is lost",
    )
}

/// What is to be announced.
enum Wanted {
    Everything,
    File(Arc<[Key]>),
}

impl Wanted {
    /// Makes it due; returns how many keys that are.
    async fn make_due(&self, dht: &Dht) -> Result<u64, ApiError> {
        let dht = dht.clone();
        let made = match self {
            Self::Everything => blocking(move || dht.provide_now(None)).await,
            Self::File(keys) => {
                let keys = keys.clone();
                blocking(move || dht.provide_now(Some(&keys))).await
            }
        };
        made.map_err(errors::panicked)
    }

    /// How many of the keys are due.
    async fn due(&self, dht: &Dht) -> Result<u64, ApiError> {
        let dht = dht.clone();
        let due = match self {
            Self::Everything => blocking(move || dht.provide_status().due).await,
            Self::File(keys) => {
                let keys = keys.clone();
                blocking(move || dht.keys_status(&keys).due).await
            }
        };
        due.map_err(errors::panicked)
    }
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
