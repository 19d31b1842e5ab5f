//! How announcing stands, and whether it keeps up.

use std::time::Duration;

use crate::handle::Inner;
use crate::report::{Behind, ProvideStatus};

/// Announcing that has moved nothing for this long although keys are due stands still. The longest wait after a failure
/// is shorter.
const STALLED_SECS: u32 = 30 * 60;

/// How announcing stands, over all keys.
pub(crate) fn status(inner: &Inner) -> ProvideStatus {
    let now = inner.records.now();
    let totals = inner.records.due().totals(now);
    let mut status = ProvideStatus::of(totals, &inner.times);
    status.interval = Duration::from_secs(inner.records.due().interval_secs().into());
    status.network_peers = inner.neighbourhood.borrow().network_peers();
    let mut state = inner.announcer.state();
    status.keys_per_hour = state.rate.per_hour(now);
    status.last_run = state.last_run.clone();
    let churn = state.churn.per_hour();
    status.churn_percent_per_hour = churn.map(percent);
    status.finish = finish(status.due, capacity(&status));
    let still_secs = state
        .failing_since
        .map_or(0, |since| now.saturating_sub(since));
    drop(state);
    status.behind = behind(&status, *inner.routed.borrow(), still_secs);
    status
}

/// Keys that can be announced in an hour: what the last hour had, or the latest run, for an hour with little to do says
/// little.
fn capacity(status: &ProvideStatus) -> u64 {
    let latest = status.last_run.as_ref().filter(|run| run.copies > 0);
    let latest = latest.map_or(0, |run| {
        let took_ms = u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX);
        run.keys.saturating_mul(3_600_000) / took_ms.max(1)
    });
    status.keys_per_hour.max(latest)
}

/// How long `due` keys take at this rate.
fn finish(due: u64, keys_per_hour: u64) -> Option<Duration> {
    let secs = due.saturating_mul(3600).checked_div(keys_per_hour)?;
    (due > 0).then(|| Duration::from_secs(secs))
}

/// Why records will run out before they are renewed, if they will.
fn behind(status: &ProvideStatus, peers: usize, still_secs: u32) -> Option<Behind> {
    if status.due == 0 {
        return None;
    }
    if peers == 0 {
        return Some(Behind::NoPeers);
    }
    if still_secs >= STALLED_SECS {
        return Some(Behind::Stalled(Duration::from_secs(still_secs.into())));
    }
    // A first renewal comes after fifteen eighths of an interval at the latest.
    let latest = status.interval * 15 / 8;
    let has = status.expiry.saturating_sub(latest);
    let needs = status.finish?;
    (needs > has).then_some(Behind::TooSlow { needs, has })
}

fn percent(share: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let percent = (share * 100.0).round().clamp(0.0, 100.0) as u32;
    percent
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn busy(due: u64, keys_per_hour: u64) -> ProvideStatus {
        ProvideStatus {
            due,
            keys_per_hour,
            finish: finish(due, keys_per_hour),
            interval: HOUR * 22,
            expiry: HOUR * 48,
            ..ProvideStatus::default()
        }
    }

    #[test]
    fn what_is_due_is_estimated_by_what_was_done() {
        assert_eq!(finish(0, 1000), None);
        assert_eq!(finish(500, 1000), Some(HOUR / 2));
        assert_eq!(finish(5, 0), None);
    }

    #[test]
    fn falling_behind_is_said_and_why() {
        assert_eq!(behind(&busy(0, 0), 0, 99_999), None);
        assert_eq!(behind(&busy(5, 0), 0, 0), Some(Behind::NoPeers));
        assert_eq!(behind(&busy(5, 0), 3, 10), None, "it has only begun");
        let stalled = behind(&busy(5, 10), 3, STALLED_SECS);
        assert_eq!(stalled, Some(Behind::Stalled(HOUR / 2)));
        assert_eq!(behind(&busy(6_000, 1000), 3, 0), None);
        let slow = behind(&busy(7_000, 1000), 3, 0);
        let (needs, has) = (HOUR * 7, HOUR * 27 / 4);
        assert_eq!(slow, Some(Behind::TooSlow { needs, has }));
    }

    #[test]
    fn an_hour_with_little_to_do_says_little_of_what_can_be_done() {
        let mut status = busy(1000, 1);
        assert_eq!(capacity(&status), 1);
        status.last_run = Some(crate::report::RunReport {
            keys: 10,
            copies: 200,
            took: Duration::from_secs(1),
            ..crate::report::RunReport::default()
        });
        assert_eq!(capacity(&status), 36_000);
    }

    #[test]
    fn shares_are_told_in_percent() {
        assert_eq!(percent(0.298), 30);
        assert_eq!(percent(7.0), 100);
    }
}
