//! What the announcer knows beside its schedule, shared by its tasks and whoever asks how it stands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::churn::Churn;
use super::pace::Pace;
use super::rate::Rate;
use super::regions::Regions;
use crate::config::AnnounceTimes;
use crate::report::RunReport;

/// The announcer's memory.
pub(crate) struct Announcer {
    state: Mutex<State>,
    new: Mutex<Pace>,
    renewals: Mutex<Pace>,
    /// The right to send the values of a run.
    pub(super) values: Arc<Semaphore>,
}

/// See [`Announcer::state`].
pub(crate) struct State {
    pub(crate) regions: Regions,
    pub(crate) rate: Rate,
    pub(crate) churn: Churn,
    pub(crate) last_run: Option<RunReport>,
    /// Since when no run had anything acknowledged.
    pub(crate) failing_since: Option<u32>,
}

impl Announcer {
    pub(crate) fn new(times: &AnnounceTimes, now: u32) -> Self {
        Self {
            state: Mutex::new(State {
                regions: Regions::default(),
                rate: Rate::new(now),
                churn: Churn::default(),
                last_run: None,
                failing_since: None,
            }),
            new: Mutex::new(Pace::new(times.new_bytes_per_s)),
            renewals: Mutex::new(Pace::new(times.renewal_bytes_per_s)),
            values: Arc::new(Semaphore::new(1)),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` may be sent; returns how long that was.
    pub(super) async fn pace(&self, bytes: usize, lane: Lane) -> Duration {
        let pace = match lane {
            Lane::Urgent => return Duration::ZERO,
            Lane::New => &self.new,
            Lane::Renewals => &self.renewals,
        };
        let wait = {
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.reserve(bytes, Instant::now())
        };
        sleep(wait).await;
        wait
    }
}

/// How urgent an announcement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// A person waits for it.
    Urgent,
    /// The keys can be found nowhere yet.
    New,
    /// The keys can be found.
    Renewals,
}
