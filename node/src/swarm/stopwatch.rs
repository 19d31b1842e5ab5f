//! Time that adds up, told by one task and read by another.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::sched::Mono;

/// Runs and stands. Only one task starts and stops it.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// Microseconds until it last stood.
    sum_us: AtomicU64,
    /// When it began to run, in microseconds; 0 while it stands.
    since_us: AtomicU64,
}

impl Stopwatch {
    /// Runs from now on, if it did not.
    pub(super) fn start(&self, now: Mono) {
        if self.since_us.load(Ordering::Relaxed) == 0 {
            self.since_us.store(us(now).max(1), Ordering::Relaxed);
        }
    }

    /// Stands from now on, if it did not.
    pub(super) fn stop(&self, now: Mono) {
        let since = self.since_us.swap(0, Ordering::Relaxed);
        if since != 0 {
            let ran = us(now).saturating_sub(since);
            self.sum_us.fetch_add(ran, Ordering::Relaxed);
        }
    }

    /// How long it has run. One who looks while it is being stopped may see less, once.
    pub(super) fn total(&self, now: Mono) -> Duration {
        let runs = match self.since_us.load(Ordering::Relaxed) {
            0 => 0,
            since => us(now).saturating_sub(since),
        };
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed) + runs)
    }
}

fn us(now: Mono) -> u64 {
    u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_adds_up_and_what_runs_is_counted() {
        let at = |s| Mono(Duration::from_secs(s));
        let watch = Stopwatch::default();
        watch.start(at(10));
        watch.start(at(12));
        assert_eq!(watch.total(at(15)).as_secs(), 5);
        watch.stop(at(16));
        watch.stop(at(20));
        watch.start(at(30));
        assert_eq!(watch.total(at(31)).as_secs(), 7);
    }
}
