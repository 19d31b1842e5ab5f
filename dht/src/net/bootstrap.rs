//! When to dial the nodes the network is joined by. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Redials while nobody is connected, with longer and longer waits.
pub(super) struct Backoff {
    next: Instant,
    wait: Duration,
}

impl Backoff {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: now,
            wait: FIRST_WAIT,
        }
    }

    /// Whether to dial now.
    pub(super) fn is_due(&mut self, now: Instant, connected: bool) -> bool {
        if connected {
            *self = Self {
                next: now + FIRST_WAIT,
                wait: FIRST_WAIT,
            };
            return false;
        }
        if now < self.next {
            return false;
        }
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_a_minute_and_a_connection_ends_them() {
        let start = Instant::now();
        let mut backoff = Backoff::new(start);
        let mut dials = Vec::new();
        for second in 0..300 {
            if backoff.is_due(start + Duration::from_secs(second), false) {
                dials.push(second);
            }
        }
        assert_eq!(dials, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        let now = start + Duration::from_secs(300);
        assert!(!backoff.is_due(now, true));
        assert!(!backoff.is_due(now, false));
        assert!(backoff.is_due(now + FIRST_WAIT, false));
    }
}
