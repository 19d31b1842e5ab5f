//! Files that somebody stores now: they are announced ahead of everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::run::Announcement;
use super::schedule::Kind;
use super::send::{self, Manner};
use super::state::Lane;
use crate::Key;
use crate::command::Announced;
use crate::error::DhtError;
use crate::handle::Inner;
use crate::key::REPLICATION;

/// How much of a file's deadline its lookup may use, and how long at most: by then it has found nearly all it will find, and
/// waits for peers that do not answer. What it has found must be told, too.
const LOOKUP_SHARE: f32 = 0.6;
const LOOKUP_DEADLINE: Duration = Duration::from_secs(3);
/// How long a file waits for slow peers once the first has acknowledged it.
const GRACE: Duration = Duration::from_secs(1);

/// Enters one file in the schedule; the background run announces it.
pub(crate) async fn schedule_file(
    inner: &Arc<Inner>,
    key: Key,
    value: Vec<u8>,
) -> Result<(), DhtError> {
    keep_value(inner, key, value)?;
    inner.records.schedule(&[key], Kind::File).await?;
    inner.wake_announcer.notify_one();
    Ok(())
}

/// The same of many files, with one sync.
pub(crate) async fn schedule_files(
    inner: &Arc<Inner>,
    files: Vec<(Key, Vec<u8>)>,
) -> Result<(), DhtError> {
    let keys: Vec<Key> = files.iter().map(|(key, _)| *key).collect();
    for (key, value) in files {
        keep_value(inner, key, value)?;
    }
    inner.records.schedule(&keys, Kind::File).await?;
    inner.wake_announcer.notify_one();
    Ok(())
}

fn keep_value(inner: &Inner, key: Key, value: Vec<u8>) -> Result<(), DhtError> {
    let (len, max) = (value.len(), inner.max_value_bytes);
    let kept = inner.records.put_own_value(key, &value);
    kept.map_err(|_| DhtError::ValueTooLarge { len, max })
}

/// Publishes one file at once, ahead of whatever the background run is doing.
pub(crate) async fn announce_file(
    inner: &Arc<Inner>,
    key: Key,
    value: Vec<u8>,
    deadline: Duration,
) -> Result<Announced, DhtError> {
    let ends = Instant::now() + deadline;
    keep_value(inner, key, value)?;
    // The background run must not take the key up at the same time.
    let held = u32::try_from(deadline.as_secs())
        .unwrap_or(u32::MAX)
        .saturating_add(5);
    let hold_until = inner.records.now().saturating_add(held);
    inner.records.schedule_held(key, hold_until).await?;
    let acknowledged = publish(inner, key, deadline, ends).await;
    if acknowledged == 0 {
        let now = inner.records.now();
        inner.records.due().failed([key], now);
        inner.wake_announcer.notify_one();
    }
    Ok(Announced {
        peers: acknowledged,
    })
}

/// Sends a file's records to its closest peers; returns how many acknowledged in time. Peers that
/// are slow go on being tried when the others have answered.
async fn publish(inner: &Arc<Inner>, key: Key, deadline: Duration, ends: Instant) -> u32 {
    // Twice as many peers where a crowd is in the way.
    let (acknowledge, mut acknowledged) = mpsc::channel(2 * REPLICATION);
    let manner = Manner {
        lane: Lane::Urgent,
        lookup_deadline: deadline.mul_f32(LOOKUP_SHARE).min(LOOKUP_DEADLINE),
        peers_at_once: 2 * REPLICATION,
        values: vec![key],
        acknowledged: Some(acknowledge),
    };
    let task = inner.clone();
    inner.spawn(async move {
        let depth = task.neighbourhood.borrow().depth();
        let run = Announcement::new([key], depth, rand::random());
        let _ = send::carry_out(&task, run, &manner).await;
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
