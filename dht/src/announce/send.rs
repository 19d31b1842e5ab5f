//! Carries out one run: makes its lookups, sends its batches, notes what is acknowledged.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::plan::Lookup;
use super::run::{Announcement, Step};
use super::state::Lane;
use crate::Key;
use crate::batch::{ANNOUNCE_KEYS, BatchClient};
use crate::error::DhtError;
use crate::handle::Inner;

/// Lookups of one run at a time.
const LOOKUPS_AT_ONCE: usize = 6;
/// A batch that takes longer makes its peer a slow one.
const SLOW_BATCH: Duration = Duration::from_secs(4);
/// A peer that is slow this often is left for others.
const MAX_SLOW_BATCHES: u32 = 3;
/// What a batch costs beside its keys: addresses, frame, acknowledgement.
const BATCH_OVERHEAD_BYTES: usize = 300;
/// How long storing one value record may take.
const PUT_DEADLINE: Duration = Duration::from_secs(20);
/// Value records that are stored at a time.
const PUTS_AT_ONCE: usize = 8;

/// How one run is carried out.
pub(super) struct Manner {
    pub(super) lane: Lane,
    pub(super) lookup_deadline: Duration,
    /// Peers that are sent batches at a time.
    pub(super) peers_at_once: usize,
    /// Files whose values go out together with the provider records.
    pub(super) values: Vec<Key>,
    /// Told of every peer that has acknowledged something.
    pub(super) acknowledged: Option<mpsc::Sender<()>>,
}

type Addrs = HashMap<PeerId, Vec<Multiaddr>>;

enum Outcome {
    LookedUp(Lookup, Result<crate::command::ClosestPeers, DhtError>),
    Sent(PeerId, Result<bool, DhtError>),
    ValuesPut,
}

/// Carries out `run`; returns it.
pub(super) async fn carry_out(inner: &Inner, run: Announcement, manner: &Manner) -> Announcement {
    let run = Mutex::new(run);
    let mut addrs = Addrs::new();
    let mut dead = HashSet::new();
    let mut values = manner.values.clone();
    let mut under_way: FuturesUnordered<BoxFuture<'_, Outcome>> = FuturesUnordered::new();
    loop {
        let most = match locked(&run).is_looking_up() {
            true => LOOKUPS_AT_ONCE,
            false => manner.peers_at_once,
        };
        while under_way.len() < most {
            let Some(step) = locked(&run).next() else {
                break;
            };
            under_way.push(match step {
                Step::LookUp(lookup) => look_up(inner, lookup, manner.lookup_deadline).boxed(),
                Step::Send(peer, keys) => {
                    let known = addrs.get(&peer).cloned().unwrap_or_default();
                    send(inner, &run, peer, known, keys, manner).boxed()
                }
            });
        }
        if !locked(&run).is_looking_up() && !values.is_empty() {
            let files = std::mem::take(&mut values);
            let put = put_values(inner, files, manner.lane, |key| {
                locked(&run).alive_near(key)
            });
            under_way.push(put.map(|()| Outcome::ValuesPut).boxed());
        }
        match under_way.next().await {
            None => break,
            Some(Outcome::ValuesPut) => {}
            Some(Outcome::LookedUp(lookup, found)) => {
                let urgent = manner.lane == Lane::Urgent;
                note_lookup(inner, &mut locked(&run), lookup, found, urgent, &mut addrs);
            }
            Some(Outcome::Sent(peer, result)) => {
                let good = match &result {
                    Ok(good) => *good,
                    Err(error) => {
                        tracing::debug!(%peer, %error, "announcing to a peer failed");
                        inner.meters.failed_sends.add(1);
                        dead.insert(peer);
                        false
                    }
                };
                locked(&run).sent(peer, good);
            }
        }
    }
    drop(under_way);
    if !dead.is_empty() {
        inner.announcer.state().regions.forget(&dead);
    }
    run.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked(run: &Mutex<Announcement>) -> MutexGuard<'_, Announcement> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look_up(inner: &Inner, lookup: Lookup, deadline: Duration) -> Outcome {
    inner.meters.region_lookups.add(1);
    Outcome::LookedUp(lookup, inner.closest_peers(lookup.key, deadline).await)
}

fn note_lookup(
    inner: &Inner,
    run: &mut Announcement,
    lookup: Lookup,
    found: Result<crate::command::ClosestPeers, DhtError>,
    urgent: bool,
    addrs: &mut Addrs,
) {
    let found = found.unwrap_or_default();
    if found.peers.is_empty() {
        run.lookup_failed(lookup.id);
        return;
    }
    let peers = found.peers.iter().map(|(peer, _)| *peer);
    // Who has no time takes what the deadline has left; but that is nothing to remember.
    let region = run.looked_up(lookup.id, peers, found.complete || urgent);
    if let Some(region) = region.filter(|_| found.complete) {
        let now = inner.records.now();
        inner.announcer.state().regions.learn(region, now);
    }
    addrs.extend(found.peers);
}

/// Announces keys to one peer, in batches. Tried twice, because the other side drops a stream that comes
/// while it is not looking.
async fn send(
    inner: &Inner,
    run: &Mutex<Announcement>,
    peer: PeerId,
    addrs: Vec<Multiaddr>,
    positions: Vec<usize>,
    manner: &Manner,
) -> Outcome {
    let mut sent = Sent::default();
    let mut result = Ok(());
    for _ in 0..2 {
        result = send_once(inner, run, peer, &addrs, &positions, manner, &mut sent).await;
        match &result {
            Err(error) if error.is_retryable() => {}
            _ => break,
        }
    }
    // Whatever it did not answer, or had no room for, is for others.
    let good = sent.taken > 0 && sent.answered == positions.len();
    Outcome::Sent(peer, result.map(|()| good))
}

/// How far sending to one peer has come.
#[derive(Default)]
struct Sent {
    /// Keys that were sent and answered.
    answered: usize,
    /// Of these, keys that were taken.
    taken: usize,
}

async fn send_once(
    inner: &Inner,
    run: &Mutex<Announcement>,
    peer: PeerId,
    addrs: &[Multiaddr],
    positions: &[usize],
    manner: &Manner,
    sent: &mut Sent,
) -> Result<(), DhtError> {
    let mut client = BatchClient::open(inner, peer, addrs).await?;
    let own_addrs = inner.records.own_addrs();
    let mut slow_batches = 0;
    while let Some(rest) = positions
        .get(sent.answered..)
        .filter(|rest| !rest.is_empty())
    {
        let batch = &rest[..rest.len().min(ANNOUNCE_KEYS)];
        let keys = locked(run).keys_at(batch);
        let bytes = keys.len() * size_of::<Key>() + BATCH_OVERHEAD_BYTES;
        inner.announcer.pace(bytes, manner.lane).await;
        let began = Instant::now();
        let answer = client
            .announce(&keys, &own_addrs, inner.times.expiry)
            .await
            .map_err(|source| DhtError::Exchange { peer, source })?;
        let good = batch.iter().zip(&answer.taken);
        let good: Vec<usize> = good
            .filter(|(_, taken)| **taken)
            .map(|(at, _)| *at)
            .collect();
        let good_count = good.len();
        note_taken(inner, run, &good, manner);
        sent.answered += batch.len();
        sent.taken += good.len();
        if answer.full && good_count == 0 {
            // It has no room for any; what is left of these keys is for the others.
            break;
        }
        slow_batches += u32::from(began.elapsed() > SLOW_BATCH);
        if slow_batches >= MAX_SLOW_BATCHES {
            return Err(DhtError::TimedOut(SLOW_BATCH * MAX_SLOW_BATCHES));
        }
    }
    client.close().await;
    Ok(())
}

fn note_taken(inner: &Inner, run: &Mutex<Announcement>, positions: &[usize], manner: &Manner) {
    if positions.is_empty() {
        return;
    }
    let now = inner.records.now();
    let taken = locked(run).taken(positions);
    // A key counts when the first peer has it.
    let new = taken.iter().filter(|(_, copies)| *copies == 1).count();
    inner.meters.announced_keys.add(new as u64);
    inner.meters.announced_copies.add(taken.len() as u64);
    let mut state = inner.announcer.state();
    state.rate.add(new, now);
    state.failing_since = None;
    drop(state);
    // Last, for whoever sees the keys done is to find the rest as well.
    inner.records.due().acknowledged(taken, now);
    // A node that is killed now is to know of it.
    inner.records.write_soon();
    if let Some(acknowledged) = &manner.acknowledged {
        // Whoever waits needs one; the channel has room for as many as there are peers.
        let _ = acknowledged.try_send(());
    }
}

/// Sends the value records of files to peers; `peers_of` names them.
pub(super) async fn put_values(
    inner: &Inner,
    files: Vec<Key>,
    lane: Lane,
    peers_of: impl Fn(&Key) -> Vec<PeerId>,
) {
    let files = files.into_iter().map(|key| (key, peers_of(&key)));
    let files: Vec<_> = files.collect();
    futures::stream::iter(files)
        .for_each_concurrent(PUTS_AT_ONCE, |(key, peers)| {
            put_value(inner, key, peers, lane)
        })
        .await;
}

async fn put_value(inner: &Inner, key: Key, peers: Vec<PeerId>, lane: Lane) {
    let value = inner.records.tables().own_value(&key).map(<[u8]>::to_vec);
    let Some(value) = value else { return };
    let bytes = value.len() + BATCH_OVERHEAD_BYTES;
    inner.announcer.pace(bytes * peers.len(), lane).await;
    match inner.put_record(key, value, peers, PUT_DEADLINE).await {
        Ok(stored) => {
            inner.meters.value_copies.add(stored.into());
            tracing::debug!(stored, "value record stored");
        }
        Err(error) => tracing::debug!(%error, "value record not stored"),
    }
}
