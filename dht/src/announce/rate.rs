//! How many keys were announced lately. Pure.

/// Minutes looked back on.
const MINUTES: usize = 60;

/// Counts by minute, of the last hour.
#[derive(Debug)]
pub(crate) struct Rate {
    counts: [u32; MINUTES],
    began: u32,
    minute: u32,
}

impl Rate {
    pub(crate) fn new(now: u32) -> Self {
        Self {
            counts: [0; MINUTES],
            began: now,
            minute: now / 60,
        }
    }

    /// Counts keys that were announced now.
    pub(crate) fn add(&mut self, keys: usize, now: u32) {
        self.advance(now);
        let count = &mut self.counts[index(now / 60)];
        *count = count.saturating_add(u32::try_from(keys).unwrap_or(u32::MAX));
    }

    /// Keys per hour: those of the last hour, or as many as an hour would have had since the start.
    pub(crate) fn per_hour(&mut self, now: u32) -> u64 {
        self.advance(now);
        let all: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let seconds = u64::from(now.saturating_sub(self.began)).clamp(1, 3600);
        all * 3600 / seconds
    }

    /// Clears the minutes in which nothing was counted.
    fn advance(&mut self, now: u32) {
        let minute = now / 60;
        if minute < self.minute || minute - self.minute >= 60 {
            // The clock was set, or an hour has passed.
            self.counts = [0; MINUTES];
            self.began = self.began.min(now);
        } else {
            for empty in self.minute + 1..=minute {
                self.counts[index(empty)] = 0;
            }
        }
        self.minute = minute;
    }
}

fn index(minute: u32) -> usize {
    usize::try_from(minute).unwrap_or(0) % MINUTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 2_000_000_000;

    #[test]
    fn the_last_hour_counts() {
        let mut rate = Rate::new(NOW);
        assert_eq!(rate.per_hour(NOW), 0);
        rate.add(100, NOW + 10);
        assert_eq!(rate.per_hour(NOW + 36), 10_000);
        for minute in 0..180 {
            rate.add(10, NOW + minute * 60);
        }
        assert_eq!(rate.per_hour(NOW + 179 * 60), 600);
        assert_eq!(rate.per_hour(NOW + 209 * 60), 300);
        assert_eq!(rate.per_hour(NOW + 500 * 60), 0);
        rate.add(7, NOW);
        assert_eq!(rate.per_hour(NOW + 7200), 0, "the clock was set back");
    }
}
