//! The announcer's tasks: they take from the schedule what is due, and carry it out.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::run::Announcement;
use super::schedule::{Kind, Run, RunLimits};
use super::send::{self, Manner};
use super::state::Lane;
use crate::Key;
use crate::config::AnnounceTimes;
use crate::handle::Inner;

/// The most keys of one run: bounds the memory of a plan to some 5 MiB, and the time to make it to some 100 ms.
const MAX_RUN_KEYS: u64 = 32_768;
/// The fewest that are worth a run.
const MIN_RUN_KEYS: u64 = 4_096;
/// Files of one run: the value of each goes out by itself, and nothing else is announced meanwhile.
const MAX_RUN_FILES: usize = 512;
/// How long sending a run may take at the allowed rate: a file that comes meanwhile waits for the next.
const RUN_SECS: u64 = 20;
/// What announcing a key costs: 20 peers, 32 bytes each.
const KEY_BYTES: u64 = 640;
/// Pause after a run.
const PAUSE: Duration = Duration::from_millis(100);
/// How long keys that come in quick succession are gathered before a run begins.
const GATHER: Duration = Duration::from_millis(250);
/// The longest the engine sleeps: the clock of the day may jump, and the network become another.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// How long one lookup of a region may take.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(30);
/// Peers that are sent batches at a time.
const PEERS_AT_ONCE: usize = 8;

/// Announces what is due, until the node stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut routed = inner.routed.clone();
    let limits = run_limits(&inner.times);
    loop {
        if *routed.borrow_and_update() == 0 {
            if routed.wait_for(|count| *count > 0).await.is_err() {
                return;
            }
            inner.records.due().retry_failed();
            inner.announcer.state().regions.clear();
            sleep(GATHER).await;
        }
        look_around(&inner);
        let now = inner.records.now();
        let task = inner.clone();
        // Most of a large schedule is on the disk.
        let run = spawn_blocking(move || task.records.due().take_run(now, &limits)).await;
        let run = run.unwrap_or_default();
        if run.keys.is_empty() {
            wait_for_work(&inner, now).await;
            continue;
        }
        announce(&inner, run).await;
        sleep(PAUSE).await;
    }
}

/// How much one run takes, at a node with these times.
pub(crate) fn run_limits(times: &AnnounceTimes) -> RunLimits {
    let keys = |bytes_per_s: u64| {
        let keys = bytes_per_s.saturating_mul(RUN_SECS) / KEY_BYTES;
        usize::try_from(keys.clamp(MIN_RUN_KEYS, MAX_RUN_KEYS)).unwrap_or(usize::MAX)
    };
    RunLimits {
        files: MAX_RUN_FILES,
        new: keys(times.new_bytes_per_s),
        renewals: keys(times.renewal_bytes_per_s),
    }
}

/// Tells the schedule what the network is like.
fn look_around(inner: &Inner) {
    let depth = inner.neighbourhood.borrow().depth();
    let peers = *inner.routed.borrow();
    let interval = {
        let longest = u32::try_from(inner.times.renewal.as_secs()).unwrap_or(u32::MAX);
        inner.announcer.state().churn.interval_secs(longest)
    };
    let mut due = inner.records.due();
    due.set_network(peers, depth);
    // Small changes are noise, and each makes the hand jump.
    if interval.abs_diff(due.interval_secs()) * 3 > interval.min(due.interval_secs()) {
        due.set_interval(interval);
    }
}

async fn wait_for_work(inner: &Inner, now: u32) {
    let next = inner.records.due().next_due(now);
    let wait = Duration::from_secs(next.saturating_sub(now).into());
    let woken = inner.wake_announcer.notified();
    if timeout(wait.clamp(GATHER, MAX_SLEEP), woken).await.is_ok() {
        sleep(GATHER).await;
    }
}

/// One run: provider records, then the values of files.
async fn announce(inner: &Arc<Inner>, run: Run) {
    let began = Instant::now();
    let files: Vec<Key> = run
        .keys
        .iter()
        .filter(|(_, kind)| *kind == Kind::File)
        .map(|(key, _)| *key)
        .collect();
    let manner = Manner {
        lane: if run.renewals {
            Lane::Renewals
        } else {
            Lane::New
        },
        lookup_deadline: LOOKUP_DEADLINE,
        peers_at_once: PEERS_AT_ONCE,
        // Each peer that is not there would hold a value up for ten seconds: values come after.
        values: Vec::new(),
        acknowledged: None,
    };
    let depth = inner.neighbourhood.borrow().depth();
    let keys = run.keys.into_iter().map(|(key, _)| key);
    // Sorting a hundred thousand keys by their points takes a while.
    let seed = rand::random();
    let planned = spawn_blocking(move || Announcement::new(keys, depth, seed)).await;
    let Ok(mut run) = planned else { return };
    let now = inner.records.now();
    inner.announcer.state().regions.tell(run.plan_mut(), now);
    let run = send::carry_out(inner, run, &manner).await;
    let now = inner.records.now();
    let unacknowledged = run.unacknowledged();
    inner.meters.failed_keys.add(unacknowledged.len() as u64);
    // In pieces, so that lookups are answered in between.
    for piece in unacknowledged.chunks(4096) {
        inner.records.due().failed(piece.iter().copied(), now);
    }
    let mut report = run.report();
    (report.ended, report.took) = (now, began.elapsed());
    tracing::debug!(?report, "announced");
    inner.meters.runs.add(1);
    {
        let mut state = inner.announcer.state();
        if report.copies == 0 {
            state.failing_since.get_or_insert(now);
        }
        state.last_run = Some(report);
    }
    put_values_beside(inner, files, run, manner.lane).await;
}

/// Sends the values of files while the announcer goes on; those of one run at a time.
async fn put_values_beside(inner: &Arc<Inner>, files: Vec<Key>, run: Announcement, lane: Lane) {
    if files.is_empty() {
        return;
    }
    let Ok(turn) = inner.announcer.values.clone().acquire_owned().await else {
        return;
    };
    let task = inner.clone();
    inner.spawn(async move {
        send::put_values(&task, files, lane, |key| run.alive_near(key)).await;
        drop(turn);
    });
}

/// Watches how fast holders vanish, until the node stops.
pub(crate) async fn watch_churn(inner: Arc<Inner>) {
    let mut routed = inner.routed.clone();
    loop {
        if routed.wait_for(|count| *count > 0).await.is_err() {
            return;
        }
        let now = inner.records.now();
        let next = inner.announcer.state().churn.next_look(now);
        if now < next {
            let wait = Duration::from_secs((next - now).into());
            sleep(wait.min(MAX_SLEEP)).await;
            continue;
        }
        let sample = |count| inner.records.due().sample(count);
        let keys = inner.announcer.state().churn.look(now, sample);
        for key in keys {
            let found = inner.closest_peers(key, LOOKUP_DEADLINE).await;
            let Ok(found) = found else { continue };
            if found.complete {
                let peers = found.peers.iter().map(|(peer, _)| *peer);
                let now = inner.records.now();
                inner.announcer.state().churn.seen(key, peers, now);
            }
        }
    }
}
