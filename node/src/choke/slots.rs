//! How many streams are served at a time: as few as fill the line.

use std::time::Duration;

use super::SwarmMode;
use crate::sched::Mono;

/// Never fewer slots.
const MIN_SLOTS: usize = 4;
/// Never more.
const MAX_SLOTS: usize = 64;
/// Slots at the start among strangers: four, and one for chance.
const FAIR_START: usize = 5;
/// Slots at the start among one owner's machines.
const TRUSTED_START: usize = 16;
/// Slots that come at once while the line is not full.
const GROWTH: usize = 2;
/// From one growth to the next: a new stream needs that long to show what it takes.
const GROW_EVERY: Duration = Duration::from_secs(1);
/// From one slot less to the next, and from the last growth to the first one less.
const SHRINK_EVERY: Duration = Duration::from_secs(10);
/// The line is full when it made a ready stream wait for this share of the time.
const FULL: f32 = 0.9;
/// A slot that gets less than this is one too many: a chunk takes seconds in it before anybody can pass it on.
const MIN_SLOT_BYTES_PER_S: u64 = 64 << 10;

/// How the line was used since the last round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// The share of the time, 0 to 1, during which some unchoked stream had chunks to send that the socket or the
    /// limiter did not take.
    pub busy: f32,
    /// What was sent, in bytes a second.
    pub sent_per_s: u64,
    /// Streams that want something and are choked.
    pub waiting: usize,
}

/// The number of streams that are served at a time, by whether they fill the line.
#[derive(Debug, Clone)]
pub struct Slots {
    count: usize,
    grown: Option<Mono>,
    /// When the count last changed, or the line was first found full.
    settled: Option<Mono>,
}

impl Slots {
    /// The slots of a node whose swarms are mostly of this mode.
    #[must_use]
    pub fn new(mode: SwarmMode) -> Self {
        let count = match mode {
            SwarmMode::Fair => FAIR_START,
            SwarmMode::Trusted => TRUSTED_START,
        };
        Self {
            count,
            grown: None,
            settled: None,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes note of how the line was used, and says how many there are now. To be called about every second: it keeps
    /// its own pace.
    pub fn round(&mut self, now: Mono, load: Load) -> usize {
        if load.busy >= FULL {
            self.shrink(now, load);
        } else if load.waiting > 0 {
            self.grow(now);
        }
        self.count
    }

    fn grow(&mut self, now: Mono) {
        if self.grown.is_some_and(|at| now.since(at) < GROW_EVERY) {
            return;
        }
        self.count = (self.count + GROWTH).min(MAX_SLOTS);
        self.grown = Some(now);
        self.settled = Some(now);
    }

    fn shrink(&mut self, now: Mono, load: Load) {
        let since = *self.settled.get_or_insert(now);
        let slots = u64::try_from(self.count).unwrap_or(u64::MAX);
        let thin = load.sent_per_s / slots.max(1) < MIN_SLOT_BYTES_PER_S;
        if thin && now.since(since) >= SHRINK_EVERY {
            self.count = (self.count - 1).max(MIN_SLOTS);
            self.settled = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at_s(s: u64) -> Mono {
        Mono(Duration::from_secs(s))
    }

    fn load(busy: f32, sent_per_s: u64, waiting: usize) -> Load {
        Load {
            busy,
            sent_per_s,
            waiting,
        }
    }

    /// A line of so many bytes a second with so many streams that want something, each of which takes at most so much.
    fn run(slots: &mut Slots, line: u64, streams: usize, each: u64, from_s: u64, to_s: u64) {
        for s in from_s..to_s {
            let served = slots.count().min(streams);
            let taken = each * u64::try_from(served).unwrap();
            let busy = if taken >= line { 1.0 } else { 0.0 };
            slots.round(at_s(s), load(busy, taken.min(line), streams - served));
        }
    }

    #[test]
    fn a_line_that_is_not_full_gets_more_slots_within_seconds() {
        let mut slots = Slots::new(SwarmMode::Fair);
        assert_eq!(slots.count(), 5);
        run(&mut slots, 25_000_000, 100, 1_250_000, 0, 10);
        assert!((20..=21).contains(&slots.count()), "{slots:?}");
        run(&mut slots, 25_000_000, 100, 1_250_000, 10, 100);
        assert!((20..=21).contains(&slots.count()), "{slots:?}");
    }

    #[test]
    fn slots_that_get_too_little_are_given_up_slowly() {
        let mut slots = Slots::new(SwarmMode::Trusted);
        assert_eq!(slots.count(), 16);
        let line = 10 * MIN_SLOT_BYTES_PER_S;
        run(&mut slots, line, 100, line, 0, 25);
        assert_eq!(slots.count(), 14);
        run(&mut slots, line, 100, line, 25, 300);
        assert_eq!(slots.count(), 10);
        run(&mut slots, 1, 100, 1, 300, 1000);
        assert_eq!(slots.count(), MIN_SLOTS);
    }

    #[test]
    fn nobody_waiting_or_a_full_line_adds_none() {
        let mut slots = Slots::new(SwarmMode::Fair);
        run(&mut slots, 1_000_000, 5, 1, 0, 50);
        assert_eq!(slots.count(), 5);
        run(&mut slots, 1_000_000, 500, 1_000_000, 50, 100);
        assert_eq!(slots.count(), 5);
    }

    #[test]
    fn many_rounds_in_a_second_grow_it_once() {
        let mut slots = Slots::new(SwarmMode::Fair);
        for _ in 0..100 {
            slots.round(at_s(7), load(0.0, 0, 1));
        }
        assert_eq!(slots.count(), 7);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(
            rounds in proptest::collection::vec((0u64..20, any::<f32>(), any::<u64>(), 0usize..3), 1..200),
        ) {
            let mut slots = Slots::new(SwarmMode::Fair);
            let mut now_s = 0;
            for (pause_s, busy, sent_per_s, waiting) in rounds {
                now_s += pause_s;
                let before = slots.count();
                let count = slots.round(at_s(now_s), load(busy, sent_per_s, waiting));
                prop_assert!((MIN_SLOTS..=MAX_SLOTS).contains(&count));
                prop_assert!(count <= before + GROWTH && count + 1 >= before);
                prop_assert!(count <= before || waiting > 0);
            }
        }
    }
}
