//! How fast a manifest brings chunks, and when it is left for another. Pure: time comes in as an argument.

use std::time::{Duration, Instant};

/// A manifest that brings less than [`DESERTED_BELOW_BYTES`] in this span is left for another, if there is one.
const DESERTED_AFTER: Duration = Duration::from_secs(60);

/// The same for one that brings nothing at all.
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// See [`DESERTED_AFTER`]: some 17 KB/s.
const DESERTED_BELOW_BYTES: u64 = 1 << 20;

/// For a turn under this manifest nobody waits longer than this, if there is another: choking costs a liar nothing.
const NO_TURN_AFTER: Duration = Duration::from_secs(300);

/// How fast the chunks of one manifest come.
#[derive(Debug)]
pub(super) struct Pace {
    /// When a chunk was last kept; before that, when the manifest was chosen.
    last_chunk: Instant,
    /// When somebody last had what is wanted and choked this node.
    last_choked: Instant,
    /// Since when slowness is measured, and what has come since.
    span: (Instant, u64),
}

impl Pace {
    /// The manifest is chosen.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_chunk: now,
            last_choked: now,
            span: (now, 0),
        }
    }

    /// A chunk is kept.
    pub(super) fn came(&mut self, bytes: u64, now: Instant) {
        self.last_chunk = now;
        self.span.1 += bytes;
    }

    /// Nothing is needed: the time counts for nothing.
    pub(super) fn rests(&mut self, now: Instant) {
        self.last_chunk = now;
        self.last_choked = now;
        self.span = (now, 0);
    }

    /// Somebody has what is wanted and chokes this node.
    pub(super) fn is_choked(&mut self, now: Instant) {
        self.last_choked = now;
    }

    /// Everybody does who has it: time in which nobody was asked says nothing of the manifest.
    pub(super) fn waits_for_a_turn(&mut self, now: Instant) {
        self.span = (now, 0);
    }

    /// How long nothing came.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_chunk)
    }

    /// Until how long after the last chunk somebody choked this node.
    pub(super) fn choked(&self) -> Duration {
        self.last_choked.saturating_duration_since(self.last_chunk)
    }

    /// Whether so little has come that another manifest had better be tried.
    pub(super) fn is_too_slow(&mut self, now: Instant) -> bool {
        let (since, bytes) = self.span;
        let span = now.saturating_duration_since(since);
        if self.idle(now) >= NO_TURN_AFTER || (bytes == 0 && span >= SILENT_AFTER) {
            return true;
        }
        if span < DESERTED_AFTER {
            return false;
        }
        self.span = (now, 0);
        bytes < DESERTED_BELOW_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is too slow at any second of such a span, when `bytes` come each second and a turn is waited for.
    fn is_too_slow(pace: &mut Pace, from: Instant, secs: u64, bytes: u64, waits: bool) -> bool {
        (1..=secs).any(|second| {
            let now = from + Duration::from_secs(second);
            if bytes > 0 {
                pace.came(bytes, now);
            }
            if waits {
                pace.waits_for_a_turn(now);
            }
            pace.is_too_slow(now)
        })
    }

    #[test]
    fn what_comes_slowly_is_left_and_what_comes_fast_is_not() {
        let now = Instant::now();
        assert!(!is_too_slow(&mut Pace::new(now), now, 14, 0, false));
        assert!(is_too_slow(&mut Pace::new(now), now, 15, 0, false));
        assert!(!is_too_slow(&mut Pace::new(now), now, 59, 1000, false));
        assert!(is_too_slow(&mut Pace::new(now), now, 60, 1000, false));
        assert!(!is_too_slow(&mut Pace::new(now), now, 600, 20_000, false));
    }

    #[test]
    fn time_without_a_turn_does_not_count_against_a_manifest() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert!(!is_too_slow(&mut pace, now, 50, 10, false));
        let later = now + Duration::from_secs(50);
        assert!(!is_too_slow(&mut pace, later, 200, 0, true));
        let served = later + Duration::from_secs(200);
        assert!(!is_too_slow(&mut pace, served, 59, 10, false));
        assert!(is_too_slow(&mut pace, served, 60, 10, false));
    }

    #[test]
    fn a_turn_is_not_waited_for_without_end_when_there_is_another_manifest() {
        let now = Instant::now();
        let limit_s = NO_TURN_AFTER.as_secs();
        assert!(!is_too_slow(&mut Pace::new(now), now, limit_s - 1, 0, true));
        assert!(is_too_slow(&mut Pace::new(now), now, limit_s, 0, true));
    }
}
