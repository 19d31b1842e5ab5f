//! The background check: every stored chunk is read now and then, at a pace that leaves the disk to others.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use casnode_cas::{BadChunk, ChunkHash, Scrubbed};
use tokio::sync::watch;

use crate::{api::ScrubReport, clock, node::Node, publish, tasks::blocking};

/// Bytes read at a time; the pause after them keeps the pace.
const STEP_BYTES: u64 = 1 << 20;

/// Rounds begin this far apart at least: what was read a moment ago tells nothing new.
const ROUND_PAUSE: Duration = Duration::from_secs(3600);

/// After a failure of the store it is tried again after this.
const ERROR_PAUSE: Duration = Duration::from_secs(60);

/// The state of the background check.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// Its pace in bytes a second; `None`: off.
    pace: watch::Sender<Option<u64>>,
    done: Mutex<ScrubReport>,
}

impl Scrub {
    pub(super) fn new(bytes_per_s: Option<u64>) -> Self {
        let scrub = Self::default();
        scrub.set_pace(bytes_per_s);
        scrub
    }

    /// Goes on at this pace from the next step on; a pace of nothing is off.
    pub(super) fn set_pace(&self, bytes_per_s: Option<u64>) {
        self.pace.send_replace(bytes_per_s.filter(|pace| *pace > 0));
    }

    /// What was done so far; `None` when it is off.
    pub(super) fn report(&self, repaired_chunks: u64) -> Option<ScrubReport> {
        let bytes_per_s = (*self.pace.borrow())?;
        let done = *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ScrubReport {
            bytes_per_s,
            repaired_chunks,
            ..done
        })
    }

    fn note(&self, step: &Scrubbed) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.checked_bytes += step.bytes;
        done.bad_chunks += step.bad.len() as u64;
        done.rounds += u64::from(step.wrapped);
    }
}

/// When the next step may be taken. The first round may begin in the middle, where an earlier life of the daemon
/// ended, so the second one follows at once.
#[derive(Debug)]
struct Pace {
    next: Instant,
    /// When the round that runs began, unless it began in the middle.
    round: Option<Instant>,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            next: now,
            round: None,
        }
    }

    /// Notes a step; returns when the next one may be taken. Time that was lost is not caught up.
    fn step(&mut self, bytes: u64, bytes_per_s: u64, wrapped: bool, now: Instant) -> Instant {
        let millis = bytes.saturating_mul(1000) / bytes_per_s.max(1);
        self.next = self.next.max(now) + Duration::from_millis(millis);
        if wrapped {
            if let Some(began) = self.round {
                self.next = self.next.max(began + ROUND_PAUSE);
            }
            self.round = Some(self.next);
        }
        self.next
    }
}

/// Reads and checks until the node ends.
pub(super) async fn run(node: Arc<Node>) -> Result<(), Infallible> {
    let mut paces = node.upkeep.scrub.pace.subscribe();
    let mut pace = Pace::new(clock::now());
    // Nothing is done while it is off. The node holds the other end.
    while let Ok(bytes_per_s) = paces.wait_for(Option::is_some).await.map(|pace| *pace) {
        let bytes_per_s = bytes_per_s.unwrap_or(u64::MAX);
        let store = node.store.clone();
        let next = match blocking(move || store.scrub_step(STEP_BYTES)).await {
            Ok(Ok(step)) => {
                node.upkeep.scrub.note(&step);
                found(&node, &step.bad).await;
                pace.step(step.bytes, bytes_per_s, step.wrapped, clock::now())
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the background check could not go on");
                clock::now() + ERROR_PAUSE
            }
            Err(error) => {
                tracing::warn!(%error, "the background check could not go on");
                clock::now() + ERROR_PAUSE
            }
        };
        tokio::time::sleep_until(next.into()).await;
    }
    Ok(())
}

async fn found(node: &Node, bad: &[BadChunk]) {
    if bad.is_empty() {
        return;
    }
    let hashes: Vec<ChunkHash> = bad.iter().map(|chunk| chunk.hash).collect();
    if let Err(error) = publish::withdraw_chunks(node, &hashes).await {
        tracing::warn!(%error, "damaged chunks stay announced until the next start");
    }
    for chunk in bad {
        let files: Vec<String> = chunk.files.iter().map(ToString::to_string).collect();
        tracing::warn!(
            chunk = %chunk.hash,
            files = files.join(", "),
            "a stored chunk is damaged: it is served no more, and fetched again where a peer has it"
        );
        node.upkeep.repairs.want(&chunk.files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_and_lost_time_is_not_caught_up() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let second = Duration::from_secs(1);
        assert_eq!(pace.step(1 << 20, 1 << 20, false, start), start + second);
        let late = start + 10 * second;
        assert_eq!(pace.step(1 << 19, 1 << 20, false, late), late + second / 2);
    }

    #[test]
    fn whole_rounds_begin_an_hour_apart() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let second = Duration::from_secs(1);
        let began = pace.step(1 << 20, 1 << 20, true, start);
        assert_eq!(began, start + second, "the first may have been half of one");
        let next = pace.step(1 << 20, 1 << 20, true, began);
        assert_eq!(next, began + ROUND_PAUSE);
        // An empty store is no reason to spin.
        assert_eq!(pace.step(0, 1 << 20, true, next), next + ROUND_PAUSE);
    }

    #[test]
    fn a_pace_of_nothing_is_off() {
        assert!(Scrub::new(Some(0)).report(0).is_none());
        let scrub = Scrub::new(Some(5));
        assert_eq!(scrub.report(2).unwrap().repaired_chunks, 2);
        scrub.set_pace(Some(7));
        assert_eq!(scrub.report(0).unwrap().bytes_per_s, 7);
        scrub.set_pace(None);
        assert!(scrub.report(0).is_none());
    }
}
