//! Carries out what the schedule says: lookups by region, then batches to every peer concerned.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::due::{Kind, RunLimits};
use super::plan::{Batches, Plan};
use super::provide::{Announcer, BATCH_KEYS, PROVIDE_PROTOCOL};
use crate::Key;
use crate::command::Announced;
use crate::error::DhtError;
use crate::handle::Inner;
use crate::key::REPLICATION;

/// Keys of one run: bounds the memory of a plan to some 20 MiB.
const MAX_RUN_KEYS: usize = 131_072;
/// Files of one run: the value of each goes out by itself, and nothing else is announced meanwhile.
const MAX_RUN_FILES: usize = 512;
/// Renewals of one run; with [`RENEWAL_PAUSE`] a gentle trickle beside everything else.
const MAX_RENEWALS: usize = 4096;
/// How much one run takes.
const RUN: RunLimits = RunLimits {
    files: MAX_RUN_FILES,
    new: MAX_RUN_KEYS,
    renewals: MAX_RENEWALS,
};
/// Pause after a run of new keys.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause after a run of renewals.
const RENEWAL_PAUSE: Duration = Duration::from_secs(2);
/// How long keys that come in quick succession are gathered before a run begins.
const GATHER: Duration = Duration::from_millis(250);
/// The longest the engine sleeps: the clock of the day may jump.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// How often keys with few holders are looked at again.
const THIN_EVERY: Duration = Duration::from_secs(60);
/// Lookups of one run at a time.
const LOOKUPS_AT_ONCE: usize = 4;
/// How long one lookup of a region may take.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(30);
/// Peers that are sent batches at a time.
const PEERS_AT_ONCE: usize = 8;
/// How long announcing to one peer may take, beside [`BATCH_DEADLINE`] for each batch.
const PEER_DEADLINE: Duration = Duration::from_secs(30);
/// What every batch to one peer adds to [`PEER_DEADLINE`].
const BATCH_DEADLINE: Duration = Duration::from_secs(1);
/// How long connecting to a peer and opening a stream may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(15);
/// How long storing one value record may take.
const PUT_DEADLINE: Duration = Duration::from_secs(20);
/// How much of a file's deadline its lookup may use; what it has found by then must be told, too.
const LOOKUP_SHARE: f32 = 0.6;
/// How long a file waits for slow peers once the first has acknowledged it.
const GRACE: Duration = Duration::from_secs(1);

/// Peers that a lookup found, with their addresses.
type Found = Vec<(PeerId, Vec<Multiaddr>)>;

/// Announces what is due, until the node stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut routed = inner.routed.clone();
    let mut thin_at = Instant::now() + THIN_EVERY;
    loop {
        if *routed.borrow_and_update() == 0 {
            if routed.wait_for(|count| *count > 0).await.is_err() {
                return;
            }
            inner.records.due().retry_failed(inner.records.now());
            sleep(GATHER).await;
        }
        if Instant::now() >= thin_at {
            thin_at = Instant::now() + THIN_EVERY;
            let peers = *routed.borrow();
            inner.records.due().refresh_thin(inner.records.now(), peers);
        }
        let now = inner.records.now();
        let run = inner.records.due().take_run(now, &RUN);
        if run.is_empty() {
            wait_for_work(&inner, now).await;
            continue;
        }
        let renewals = inner.records.due().all_renewals(&run, now);
        announce_run(&inner, run).await;
        sleep(if renewals { RENEWAL_PAUSE } else { PAUSE }).await;
    }
}

async fn wait_for_work(inner: &Inner, now: u32) {
    let next = inner.records.due().next_due();
    let wait = next.map_or(MAX_SLEEP, |due| {
        Duration::from_secs(due.saturating_sub(now).into())
    });
    let woken = inner.wake_announcer.notified();
    if timeout(wait.clamp(GATHER, MAX_SLEEP), woken).await.is_ok() {
        sleep(GATHER).await;
    }
}

/// One run: look up, send, replace the peers that failed, note what nobody took.
async fn announce_run(inner: &Arc<Inner>, run: Vec<(Key, Kind)>) {
    let began = Instant::now();
    let all: Vec<Key> = run.iter().map(|(key, _)| *key).collect();
    let files: Vec<Key> = run
        .iter()
        .filter(|(_, kind)| *kind == Kind::File)
        .map(|(key, _)| *key)
        .collect();
    let keys = all.clone();
    let Ok(mut plan) = tokio::task::spawn_blocking(move || Plan::new(keys, REPLICATION)).await
    else {
        return;
    };
    let addrs = look_up(inner, &mut plan).await;
    let mut failed = send(inner, &plan, plan.batches(), &addrs).await;
    if !failed.is_empty() {
        failed.extend(send(inner, &plan, plan.replacements(&failed), &addrs).await);
    }
    inner
        .records
        .due()
        .run_over(all.iter().copied(), inner.records.now());
    // Each peer that is not there would hold a value up for ten seconds.
    let alive = plan.alive(&failed);
    stream::iter(files)
        .for_each_concurrent(PEERS_AT_ONCE, |key| {
            let peers = alive.closest_to(&key);
            async move { put_value(inner, key, peers).await }
        })
        .await;
    tracing::debug!(
        keys = all.len(),
        lookups = plan.lookups(),
        peers = plan.peer_count(),
        failed_peers = failed.len(),
        ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "announced",
    );
}

/// Makes the lookups of a plan; returns the addresses of the peers found.
async fn look_up(inner: &Inner, plan: &mut Plan) -> HashMap<PeerId, Vec<Multiaddr>> {
    let mut addrs = HashMap::new();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < LOOKUPS_AT_ONCE
            && let Some(lookup) = plan.next_lookup()
        {
            running.push(async move {
                (
                    lookup.id,
                    inner.closest_peers(lookup.key, LOOKUP_DEADLINE).await,
                )
            });
        }
        match running.next().await {
            None => break,
            Some((id, Ok(found))) if !found.peers.is_empty() => {
                let peers = found.peers.iter().map(|(peer, _)| *peer);
                match found.complete {
                    true => plan.lookup_done(id, peers),
                    false => plan.lookup_cut_off(id, peers),
                }
                addrs.extend(found.peers);
            }
            Some((id, _)) => plan.lookup_failed(id),
        }
    }
    plan.give_up();
    addrs
}

/// Sends batches to their peers; returns the peers that failed, or that took nothing.
async fn send(
    inner: &Inner,
    plan: &Plan,
    batches: Batches,
    addrs: &HashMap<PeerId, Vec<Multiaddr>>,
) -> HashSet<PeerId> {
    let sent = stream::iter(batches).map(|(peer, positions)| async move {
        let keys: Vec<Key> = plan.keys_at(&positions).collect();
        let known = addrs.get(&peer).map_or(&[][..], Vec::as_slice);
        (peer, provide_to(inner, peer, known, &keys).await)
    });
    let mut failed = HashSet::new();
    let mut sent = sent.buffer_unordered(PEERS_AT_ONCE);
    while let Some((peer, result)) = sent.next().await {
        match result {
            Ok(1..) => {}
            Ok(0) => {
                tracing::debug!(%peer, "a peer takes no more");
                failed.insert(peer);
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "announcing to a peer failed");
                failed.insert(peer);
            }
        }
    }
    failed
}

/// Announces keys to one peer, in batches, and notes what it took; returns how many. Tried twice, because the other
/// side drops a stream that comes while it is not looking.
async fn provide_to(
    inner: &Inner,
    peer: PeerId,
    addrs: &[Multiaddr],
    keys: &[Key],
) -> Result<usize, DhtError> {
    let batches = u32::try_from(keys.len().div_ceil(BATCH_KEYS)).unwrap_or(u32::MAX);
    let deadline = PEER_DEADLINE.saturating_add(BATCH_DEADLINE.saturating_mul(batches));
    let mut done = 0;
    let attempts = async {
        let mut result = Ok(());
        for _ in 0..2 {
            result = provide_once(inner, peer, addrs, keys, &mut done).await;
            match &result {
                Err(error) if error.is_retryable() => {}
                _ => break,
            }
        }
        result
    };
    match timeout(deadline, attempts).await {
        Ok(result) => result.map(|()| done),
        Err(_) => Err(DhtError::TimedOut(deadline)),
    }
}

async fn provide_once(
    inner: &Inner,
    peer: PeerId,
    addrs: &[Multiaddr],
    keys: &[Key],
    done: &mut usize,
) -> Result<(), DhtError> {
    let opened = inner.open_stream(peer, addrs, PROVIDE_PROTOCOL);
    let opened = timeout(OPEN_DEADLINE, opened).await;
    let stream = opened.map_err(|_| DhtError::TimedOut(OPEN_DEADLINE))??;
    let mut announcer = Announcer::new(stream.compat());
    let own_addrs = inner.records.own_addrs();
    while let Some(batch) = keys.get(*done..).filter(|rest| !rest.is_empty()) {
        let batch = &batch[..batch.len().min(BATCH_KEYS)];
        let taken = announcer
            .announce(batch, &own_addrs, inner.times.expiry)
            .await;
        let taken = taken.map_err(|source| DhtError::Exchange { peer, source })?;
        let now = inner.records.now();
        inner
            .records
            .due()
            .acknowledged(batch[..taken].iter().copied(), now);
        *done += taken;
        if taken < batch.len() {
            // It is full; what is left of these keys is for the others.
            break;
        }
    }
    let _ = announcer.close().await;
    Ok(())
}

async fn put_value(inner: &Inner, key: Key, peers: Vec<PeerId>) {
    let value = inner.records.tables().own_value(&key).map(<[u8]>::to_vec);
    let Some(value) = value else { return };
    match inner.put_record(key, value, peers, PUT_DEADLINE).await {
        Ok(stored) => tracing::debug!(stored, "value record stored"),
        Err(error) => tracing::debug!(%error, "value record not stored"),
    }
}

/// Enters one file in the schedule; the background run announces it.
pub(crate) async fn schedule_file(
    inner: &Arc<Inner>,
    key: Key,
    value: Vec<u8>,
) -> Result<(), DhtError> {
    let (len, max) = (value.len(), inner.max_value_bytes);
    if inner.records.put_own_value(key, value).is_err() {
        return Err(DhtError::ValueTooLarge { len, max });
    }
    inner.records.schedule(&[key], Kind::File).await?;
    inner.wake_announcer.notify_one();
    Ok(())
}

/// Publishes one file at once, ahead of whatever the background run is doing.
pub(crate) async fn announce_file(
    inner: &Arc<Inner>,
    key: Key,
    value: Vec<u8>,
    deadline: Duration,
) -> Result<Announced, DhtError> {
    let ends = Instant::now() + deadline;
    let (len, max) = (value.len(), inner.max_value_bytes);
    if inner.records.put_own_value(key, value).is_err() {
        return Err(DhtError::ValueTooLarge { len, max });
    }
    // The background run must not take the key up at the same time.
    let held = u32::try_from(deadline.as_secs())
        .unwrap_or(u32::MAX)
        .saturating_add(5);
    let hold_until = inner.records.now().saturating_add(held);
    inner.records.schedule_held(key, hold_until).await?;

    let found = inner.closest_peers(key, deadline.mul_f32(LOOKUP_SHARE));
    let peers = match timeout_at(ends, found).await {
        Ok(found) => found.unwrap_or_default().peers,
        Err(_) => Vec::new(),
    };
    let acknowledged = if peers.is_empty() {
        0
    } else {
        publish(inner, key, peers, ends).await
    };
    if acknowledged == 0 {
        inner.records.due().run_over_now(&key, inner.records.now());
        inner.wake_announcer.notify_one();
    }
    Ok(Announced {
        peers: acknowledged,
    })
}

/// Sends a file's records to its closest peers; returns how many acknowledged in time. Peers that
/// are slow go on being tried when the others have answered.
async fn publish(inner: &Arc<Inner>, key: Key, peers: Found, ends: Instant) -> u32 {
    let (acknowledge, mut acknowledged) = mpsc::channel(REPLICATION);
    let task = inner.clone();
    inner.spawn(async move {
        let ids = peers.iter().map(|(peer, _)| *peer).collect();
        let provide = stream::iter(peers).for_each_concurrent(REPLICATION, |(peer, addrs)| {
            let (inner, acknowledge) = (task.clone(), acknowledge.clone());
            async move {
                match provide_to(&inner, peer, &addrs, &[key]).await {
                    Ok(0) => tracing::debug!(%peer, "a peer takes no more"),
                    Ok(_) => {
                        let _ = acknowledge.send(()).await;
                    }
                    Err(error) => tracing::debug!(%peer, %error, "announcing a file failed"),
                }
            }
        });
        tokio::join!(provide, put_value(&task, key, ids));
    });
    let mut count = 0;
    let mut ends = ends;
    // Ends when the task has dropped its sender: all peers have answered or failed.
    while let Ok(Some(())) = timeout_at(ends, acknowledged.recv()).await {
        if count == 0 {
            ends = ends.min(Instant::now() + GRACE);
        }
        count += 1;
    }
    count
}
