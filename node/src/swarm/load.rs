//! How full the line is: whether streams that have something to send wait for it.

use std::time::Duration;

use super::line::Tally;
use crate::choke::Load;

/// What all streams have done in a span of time.
///
/// A stream that sends much says more of the line than one whose peer takes a few bytes now and then: each counts by
/// its rate, and a peer that crawls does not make the line look full.
#[derive(Debug, Default)]
pub(super) struct LoadOfAll {
    waiting: usize,
    busy: f64,
    weight: f64,
}

impl LoadOfAll {
    /// One stream, that sends so much in a second.
    pub(super) fn add(&mut self, did: Tally, takes_per_s: u64) {
        if did.ready > Duration::ZERO {
            let share = did.writing.as_secs_f64() / did.ready.as_secs_f64();
            let weight = takes_per_s as f64 + 1.0;
            self.busy += weight * share.min(1.0);
            self.weight += weight;
        }
    }

    /// One stream that wants something and is choked.
    pub(super) fn waits(&mut self) {
        self.waiting += 1;
    }

    /// The load of all.
    #[allow(clippy::cast_possible_truncation, reason = "a share from 0 to 1")]
    pub(super) fn in_all(&self) -> Load {
        let busy = match self.weight > 0.0 {
            true => self.busy / self.weight,
            false => 0.0,
        };
        Load {
            busy: busy as f32,
            waiting: self.waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn did(bytes: u64, ready_ms: u64, writing_ms: u64) -> Tally {
        Tally {
            bytes,
            ready: Duration::from_millis(ready_ms),
            writing: Duration::from_millis(writing_ms),
        }
    }

    fn load(streams: &[Tally]) -> Load {
        let mut all = LoadOfAll::default();
        streams.iter().for_each(|did| all.add(*did, did.bytes));
        all.in_all()
    }

    #[test]
    fn a_line_is_full_when_those_who_have_something_to_send_wait_for_it() {
        let full = load(&[did(1 << 20, 1000, 990), did(1 << 20, 400, 396)]);
        assert!(full.busy > 0.95, "{full:?}");
        let half = load(&[did(1 << 20, 1000, 300), did(1 << 20, 1000, 100)]);
        assert!(half.busy < 0.25, "{half:?}");
    }

    #[test]
    fn who_has_nothing_to_send_says_nothing() {
        assert_eq!(load(&[]).busy, 0.0);
        let full = load(&[did(1 << 20, 1000, 1000), did(0, 0, 0)]);
        assert!(full.busy > 0.99, "{full:?}");
    }

    #[test]
    fn one_that_crawls_does_not_make_the_line_look_full() {
        let free = load(&[did(1 << 20, 1000, 100), did(1, 1000, 1000)]);
        assert!(free.busy < 0.11, "{free:?}");
    }
}
