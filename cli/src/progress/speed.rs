//! How fast it goes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The speed of the last few seconds.
#[derive(Debug, Default)]
pub(super) struct Speed(VecDeque<(Instant, u64)>);

impl Speed {
    /// Bytes done longer ago than this do not count.
    const SPAN: Duration = Duration::from_secs(4);
    /// Samples kept: eight a second are plenty.
    const SAMPLES: usize = 32;

    /// Takes a sample.
    pub(super) fn note(&mut self, now: Instant, done_bytes: u64) {
        let gap = Self::SPAN / 32;
        match self.0.len() {
            // The newest sample moves along until the one before is old enough.
            n if n >= 2 && now.duration_since(self.0[n - 2].0) < gap => {
                self.0[n - 1] = (now, done_bytes);
            }
            _ => self.0.push_back((now, done_bytes)),
        }
        while self.0.len() > Self::SAMPLES
            || self.0.len() > 2 && now.duration_since(self.0[0].0) > Self::SPAN
        {
            self.0.pop_front();
        }
    }

    /// Bytes a second, once there is something to tell it by.
    pub(super) fn bytes_per_second(&self) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        let bytes = last.1.checked_sub(first.1)?;
        (seconds > 0.05 && bytes > 0).then(|| bytes as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut speed = Speed::default();
        assert_eq!(speed.bytes_per_second(), None);
        // A resumed download: what was there at first does not count.
        for step in 0..1000u64 {
            speed.note(
                start + Duration::from_millis(step * 10),
                (4 << 20) + step * (1 << 20) / 100,
            );
        }
        assert!(speed.0.len() <= Speed::SAMPLES);
        let rate = speed.bytes_per_second().unwrap();
        assert!((rate / f64::from(1 << 20) - 1.0).abs() < 0.01, "{rate}");
        // A long stall is seen.
        let last = speed.0.back().unwrap().1;
        for step in 0..60u64 {
            speed.note(
                start + Duration::from_secs(10) + Duration::from_millis(step * 100),
                last,
            );
        }
        assert_eq!(speed.bytes_per_second(), None);
    }
}
