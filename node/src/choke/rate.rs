//! How fast bytes flow: a moving average over the last 20 seconds.

use crate::sched::Mono;

/// Seconds that a rate is averaged over, one bucket each.
const BUCKETS: usize = 20;
const SPAN_S: u64 = BUCKETS as u64;

/// Bytes a second, averaged over the last 20 seconds, or over its age when it is younger.
///
/// Time may stand still but not go backwards: what is added late counts for the newest second.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    /// Bytes by second, at `second % BUCKETS`.
    buckets: [u64; BUCKETS],
    /// The newest second that has a bucket.
    newest_s: u64,
    /// When the first bytes came.
    began: Option<Mono>,
}

impl Rate {
    /// A rate of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many bytes flowed just now.
    pub fn add(&mut self, now: Mono, bytes: u64) {
        if self.began.is_none() {
            self.began = Some(now);
            self.newest_s = now.0.as_secs();
        }
        self.turn_to(now.0.as_secs());
        let at = bucket(self.newest_s);
        self.buckets[at] = self.buckets[at].saturating_add(bytes);
    }

    /// Bytes a second. A burst within the first second counts as that second's.
    #[must_use]
    pub fn per_s(&self, now: Mono) -> u64 {
        let Some(began) = self.began else { return 0 };
        let now_s = now.0.as_secs().max(self.newest_s);
        let first_s = now_s.saturating_sub(SPAN_S - 1);
        let sum = (first_s..=self.newest_s)
            .map(|second| self.buckets[bucket(second)])
            .fold(0, u64::saturating_add);
        let in_buckets = now.since(Mono(std::time::Duration::from_secs(first_s)));
        let span_ms = in_buckets.min(now.since(began)).as_millis().max(1000);
        u64::try_from(u128::from(sum) * 1000 / span_ms).unwrap_or(u64::MAX)
    }

    /// Empties the buckets of the seconds that have begun since the newest one.
    fn turn_to(&mut self, now_s: u64) {
        let passed = now_s.saturating_sub(self.newest_s).min(SPAN_S);
        for second in 0..passed {
            self.buckets[bucket(now_s - second)] = 0;
        }
        self.newest_s = self.newest_s.max(now_s);
    }
}

fn bucket(second: u64) -> usize {
    usize::try_from(second % SPAN_S).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at_ms(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    #[test]
    fn a_steady_flow_has_its_rate_from_the_first_second_on() {
        let mut rate = Rate::new();
        for tick in 0..600 {
            let now = at_ms(5_300 + tick * 100);
            rate.add(now, 100_000);
            if tick >= 10 {
                let found = rate.per_s(now);
                assert!((900_000..=1_110_000).contains(&found), "{tick}: {found}");
            }
        }
    }

    #[test]
    fn what_is_older_than_twenty_seconds_is_forgotten() {
        let mut rate = Rate::new();
        rate.add(at_ms(0), 20_000);
        assert_eq!(rate.per_s(at_ms(0)), 20_000);
        assert_eq!(rate.per_s(at_ms(10_000)), 2_000);
        assert_eq!(rate.per_s(at_ms(19_999)), 1_000);
        assert_eq!(rate.per_s(at_ms(20_000)), 0);
        rate.add(at_ms(100_000), 20_000);
        assert!((1_000..=1_053).contains(&rate.per_s(at_ms(100_000))));
    }

    #[test]
    fn nothing_is_no_rate() {
        assert_eq!(Rate::new().per_s(at_ms(12_345)), 0);
    }

    proptest! {
        #[test]
        fn it_is_the_sum_of_what_came_by_the_time_that_took(
            adds in proptest::collection::vec((0u64..4_000, 0u64..1 << 40), 1..100),
        ) {
            let mut rate = Rate::new();
            let mut now_ms = 0;
            let mut all: Vec<(u64, u64)> = Vec::new();
            for (pause_ms, bytes) in adds {
                now_ms += pause_ms;
                rate.add(at_ms(now_ms), bytes);
                all.push((now_ms, bytes));
                let first_ms = (now_ms / 1000).saturating_sub(19) * 1000;
                let sum: u64 = all.iter().filter(|(ms, _)| *ms >= first_ms).map(|(_, b)| b).sum();
                let span_ms = (now_ms - first_ms).min(now_ms - all[0].0).max(1000);
                let want = u128::from(sum) * 1000 / u128::from(span_ms);
                prop_assert_eq!(u128::from(rate.per_s(at_ms(now_ms))), want);
            }
        }
    }
}
