//! How many streams are served at a time: as few as fill the line.

use std::time::Duration;

use super::SwarmMode;
use crate::sched::Mono;

/// Slots at the start, and again once they fill the line. In a small swarm that is everybody, and chunks spread best so; in
/// a large one fewer would be a little faster still.
const TRUSTED_SLOTS: usize = 8;
/// Among strangers one more: it is given by chance.
const FAIR_SLOTS: usize = 5;
/// Never more.
const MAX_SLOTS: usize = 64;
/// Slots that come at once while the line is not full.
const GROWTH: usize = 2;
/// From one change to the next: a new stream needs that long to show what it takes.
const CHANGE_EVERY: Duration = Duration::from_secs(1);
/// Below this share of the time in which a ready stream waited for the line, there are more slots.
const NOT_FULL: f32 = 0.9;
/// From this share on there are fewer. Between the two nothing changes, so that the count comes to rest.
const FULL: f32 = 0.97;

/// How the line was used since the last round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// The share of the time, 0 to 1, during which some unchoked stream had chunks to send that the socket or the
    /// limiter did not take.
    pub busy: f32,
    /// Streams that want something and are choked.
    pub waiting: usize,
}

/// The number of streams that are served at a time, by whether they fill the line.
#[derive(Debug, Clone)]
pub struct Slots {
    base: usize,
    count: usize,
    changed: Option<Mono>,
}

impl Slots {
    /// The slots of a node whose swarms are mostly of this mode.
    #[must_use]
    pub fn new(mode: SwarmMode) -> Self {
        let base = match mode {
            SwarmMode::Fair => FAIR_SLOTS,
            SwarmMode::Trusted => TRUSTED_SLOTS,
        };
        Self {
            base,
            count: base,
            changed: None,
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
        // While nobody waits, everybody is served, however many slots there are.
        let is_due = self.changed.is_none_or(|at| now.since(at) >= CHANGE_EVERY);
        if load.waiting > 0 && is_due {
            let count = if load.busy < NOT_FULL {
                (self.count + GROWTH).min(MAX_SLOTS)
            } else if load.busy >= FULL {
                (self.count - 1).max(self.base)
            } else {
                self.count
            };
            self.changed = (count != self.count).then_some(now).or(self.changed);
            self.count = count;
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at_s(s: u64) -> Mono {
        Mono(Duration::from_secs(s))
    }

    fn load(busy: f32, waiting: usize) -> Load {
        Load { busy, waiting }
    }

    /// A line of so many bytes a second with so many streams that want something, each of which takes at most so much.
    fn run(slots: &mut Slots, line: u64, streams: usize, each: u64, from_s: u64, to_s: u64) {
        for s in from_s..to_s {
            let served = slots.count().min(streams);
            let taken = each * u64::try_from(served).unwrap();
            let busy = if taken >= line { 1.0 } else { 0.0 };
            slots.round(at_s(s), load(busy, streams - served));
        }
    }

    #[test]
    fn a_line_that_is_not_full_gets_more_slots_within_seconds() {
        let mut slots = Slots::new(SwarmMode::Fair);
        assert_eq!(slots.count(), 5);
        run(&mut slots, 25_000_000, 100, 1_250_000, 0, 10);
        assert!((19..=21).contains(&slots.count()), "{slots:?}");
        run(&mut slots, 25_000_000, 100, 1_250_000, 10, 100);
        assert!((19..=21).contains(&slots.count()), "{slots:?}");
    }

    #[test]
    fn once_the_line_is_full_they_come_back_to_a_few() {
        for (mode, base) in [(SwarmMode::Fair, 5), (SwarmMode::Trusted, 8)] {
            let mut slots = Slots::new(mode);
            assert_eq!(slots.count(), base);
            run(&mut slots, 25_000_000, 100, 1, 0, 100);
            assert_eq!(slots.count(), MAX_SLOTS);
            run(&mut slots, 25_000_000, 100, 25_000_000, 100, 110);
            assert_eq!(slots.count(), MAX_SLOTS - 10);
            run(&mut slots, 25_000_000, 100, 25_000_000, 110, 200);
            assert_eq!(slots.count(), base);
        }
    }

    #[test]
    fn while_everybody_is_served_nothing_changes() {
        let mut slots = Slots::new(SwarmMode::Trusted);
        run(&mut slots, 1_000_000, 12, 1, 0, 10);
        assert_eq!(slots.count(), 12);
        run(&mut slots, 1_000_000, 12, 1_000_000, 10, 100);
        assert_eq!(slots.count(), 12);
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
            slots.round(at_s(7), load(0.0, 1));
        }
        assert_eq!(slots.count(), 7);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(
            rounds in proptest::collection::vec((0u64..20, any::<f32>(), 0usize..3), 1..200),
        ) {
            let mut slots = Slots::new(SwarmMode::Fair);
            let (base, mut now_s) = (slots.count(), 0);
            for (pause_s, busy, waiting) in rounds {
                now_s += pause_s;
                let before = slots.count();
                let count = slots.round(at_s(now_s), load(busy, waiting));
                prop_assert!((base..=MAX_SLOTS).contains(&count));
                prop_assert!(count <= before + GROWTH && count + 1 >= before);
                prop_assert!(count == before || waiting > 0);
            }
        }
    }
}
