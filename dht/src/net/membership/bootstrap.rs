//! When to dial the nodes the network is joined by. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often the bootstrap nodes without a connection are dialled although others are connected: two
/// halves of a network that each hold together would else never meet again.
const STEADY_WAIT: Duration = Duration::from_secs(60);

/// Whom to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Redial {
    /// Everybody who might know the network.
    Everybody,
    /// The bootstrap nodes alone.
    Bootstrap,
}

/// Redials with longer and longer waits while nobody is connected, and a steady few beside that.
pub(in crate::net) struct Backoff {
    next: Instant,
    wait: Duration,
    steady: Instant,
}

impl Backoff {
    pub(in crate::net) fn new(now: Instant) -> Self {
        Self {
            next: now,
            wait: FIRST_WAIT,
            steady: now + STEADY_WAIT,
        }
    }

    /// Whom to dial now.
    pub(in crate::net) fn due(&mut self, now: Instant, connected: bool) -> Option<Redial> {
        if connected {
            self.next = now + FIRST_WAIT;
            self.wait = FIRST_WAIT;
            if now < self.steady {
                return None;
            }
            self.steady = now + STEADY_WAIT;
            return Some(Redial::Bootstrap);
        }
        if now < self.next {
            return None;
        }
        self.steady = now + STEADY_WAIT;
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Some(Redial::Everybody)
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
            if backoff.due(start + Duration::from_secs(second), false) == Some(Redial::Everybody) {
                dials.push(second);
            }
        }
        assert_eq!(dials, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        let now = start + Duration::from_secs(300);
        assert_eq!(backoff.due(now, true), None);
        assert_eq!(backoff.due(now, false), None);
        assert_eq!(
            backoff.due(now + FIRST_WAIT, false),
            Some(Redial::Everybody)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bootstrap_nodes_are_dialled_once_a_minute_beside_others() {
        let start = Instant::now();
        let mut backoff = Backoff::new(start);
        assert_eq!(backoff.due(start, false), Some(Redial::Everybody));
        let mut dials = Vec::new();
        for second in 0..200 {
            if let Some(redial) = backoff.due(start + Duration::from_secs(second), true) {
                assert_eq!(redial, Redial::Bootstrap);
                dials.push(second);
            }
        }
        assert_eq!(dials, [60, 120, 180]);
    }
}
