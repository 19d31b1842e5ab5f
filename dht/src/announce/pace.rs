//! How fast announcements may go out. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// What may be sent at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_secs(1);

/// A rate in bytes per second, with a second's worth of burst.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_s: u64,
    /// When everything sent so far would have been sent at the rate.
    paid_until: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            paid_until: None,
        }
    }

    /// Counts bytes that are to be sent; returns how long to wait before sending them.
    pub(crate) fn reserve(&mut self, bytes: usize, now: Instant) -> Duration {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let paid = self.paid_until.map_or(earliest, |paid| paid.max(earliest));
        let micros = (bytes as u64).saturating_mul(1_000_000) / self.bytes_per_s;
        self.paid_until = Some(paid + Duration::from_micros(micros));
        paid.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_after_a_burst() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut pace = Pace::new(1000);
        let mut waits: Vec<_> = (0..4)
            .map(|_| pace.reserve(1000, start).as_secs())
            .collect();
        assert_eq!(waits, [0, 0, 1, 2]);
        // Time passes: the debt is paid, and one second's worth is saved at most.
        let later = start + Duration::from_secs(60);
        waits = (0..3)
            .map(|_| pace.reserve(1000, later).as_secs())
            .collect();
        assert_eq!(waits, [0, 0, 1]);
    }
}
