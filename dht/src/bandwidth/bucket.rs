//! The pure half of a limit: which bytes may go when.
//!
//! No crate fits: governor, for one, cannot owe, cannot change its rate in place, and reads a clock of its own.

use std::num::NonZeroU64;
use std::time::Duration;

/// Time that was not used can be made up for, up to this much.
const BURST_MS: u128 = 250;
/// What goes without waiting is owed. More than the rate allows in this time is never owed: it has to wait then.
const MOST_OWED_S: u128 = 1;
/// The ledger counts bytes times this, so that a rate times nanoseconds needs no rounding.
const NANO: u128 = 1_000_000_000;

/// A limit in bytes a second, as a ledger of all bytes in the order they were reserved. The rate lets it grow from one
/// end, reservations from the other: what is reserved goes when the rate has come so far, first come, first served. What went
/// without waiting is reserved afterwards, and those who come later wait for it.
///
/// Time is counted from any beginning, and never goes back: an earlier `now` counts as the latest.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Option<NonZeroU64>,
    /// The time up to which `allowed` is counted.
    at: Duration,
    /// How far in the ledger the rate has come.
    allowed: u128,
    /// The end of the ledger.
    reserved: u128,
    /// How much of the ledger belongs to tickets that were neither taken nor cancelled.
    waiting: u128,
    /// How often the rate was changed.
    changes: u64,
}

/// A place in the ledger; void once the rate has changed. It is either taken, when its bytes go, or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    end: u128,
    bytes: u64,
    changes: u64,
}

impl Bucket {
    /// A limit of `rate` bytes a second, or none. Nothing is saved up yet.
    pub fn new(rate: Option<NonZeroU64>, now: Duration) -> Self {
        Self {
            rate,
            at: now,
            allowed: 0,
            reserved: 0,
            waiting: 0,
            changes: 0,
        }
    }

    /// The limit in bytes a second.
    pub fn rate(&self) -> Option<NonZeroU64> {
        self.rate
    }

    /// Notes bytes that go whatever happens; returns when they may, `now` at the earliest, as far as the rate does not
    /// change. Whoever does not wait until then owes them.
    pub fn reserve(&mut self, now: Duration, bytes: u64) -> Duration {
        let ticket = self.queue(now, bytes);
        self.take(ticket);
        self.due(ticket).unwrap_or(now).max(now)
    }

    /// Reserves bytes that wait for their turn.
    pub fn queue(&mut self, now: Duration, bytes: u64) -> Ticket {
        self.advance(now);
        let nanobytes = u128::from(bytes) * NANO;
        self.reserved += nanobytes;
        self.waiting += nanobytes;
        if self.rate.is_none() {
            self.allowed = self.reserved;
        }
        Ticket {
            end: self.reserved,
            bytes,
            changes: self.changes,
        }
    }

    /// When what was reserved may go; it may be in the past. `None` when the rate has changed since: it has to be
    /// reserved again.
    pub fn due(&self, ticket: Ticket) -> Option<Duration> {
        if ticket.changes != self.changes {
            return None;
        }
        let missing = ticket.end.saturating_sub(self.allowed);
        let rate = self.rate.map_or(u128::MAX, |rate| rate.get().into());
        let wait_ns = u64::try_from(missing.div_ceil(rate)).unwrap_or(u64::MAX);
        Some(self.at.saturating_add(Duration::from_nanos(wait_ns)))
    }

    /// The bytes of a ticket go.
    pub fn take(&mut self, ticket: Ticket) {
        if ticket.changes == self.changes {
            self.waiting -= u128::from(ticket.bytes) * NANO;
        }
    }

    /// The bytes of a ticket that was not taken will not go.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.take(ticket);
        self.give_back(ticket, ticket.bytes);
    }

    /// Gives back bytes of a ticket that was taken, and that did not go.
    pub fn give_back(&mut self, ticket: Ticket, bytes: u64) {
        if ticket.changes == self.changes {
            self.allowed += u128::from(bytes) * NANO;
            self.forget_what_is_too_old();
        }
    }

    /// How many bytes may go now without waiting, for later ones to wait for them: there is an end to what is owed.
    pub fn loan_bytes(&mut self, now: Duration) -> u64 {
        self.advance(now);
        let Some(rate) = self.rate else {
            return u64::MAX;
        };
        let most = u128::from(rate.get()) * NANO * MOST_OWED_S;
        u64::try_from(most.saturating_sub(self.owed()) / NANO).unwrap_or(u64::MAX)
    }

    /// What went before the rate had come so far.
    fn owed(&self) -> u128 {
        (self.reserved - self.waiting).saturating_sub(self.allowed)
    }

    /// Changes the rate; all tickets are void, and what they have reserved is free. What is owed stays so, but never for longer
    /// than before: it was taken at the old rate. The same rate again changes nothing.
    pub fn set_rate(&mut self, now: Duration, rate: Option<NonZeroU64>) {
        if rate == self.rate {
            return;
        }
        self.advance(now);
        let owed = self.owed();
        let owed = match (self.rate, rate) {
            (Some(old), Some(new)) if new < old => {
                // Nanobytes: what is less than a byte does not matter.
                owed / u128::from(old.get()) * u128::from(new.get())
            }
            (Some(_), Some(_)) => owed,
            _ => 0,
        };
        self.reserved -= std::mem::take(&mut self.waiting);
        // Of saved time, that of the new rate may be as much as the new burst.
        self.allowed = self.allowed.max(self.reserved - owed);
        self.rate = rate;
        self.changes += 1;
        self.forget_what_is_too_old();
    }

    /// Counts the time that has gone by.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let rate = self.rate.map_or(0, |rate| rate.get().into());
        self.allowed += passed.as_nanos() * rate;
        self.forget_what_is_too_old();
    }

    /// Nobody can make up for more than the burst.
    fn forget_what_is_too_old(&mut self) {
        let rate: u128 = self.rate.map_or(0, |rate| rate.get().into());
        let burst = rate * NANO * BURST_MS / 1000;
        self.allowed = self.allowed.min(self.reserved + burst);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(bytes_per_s: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(bytes_per_s)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bytes_go_one_after_the_other_at_the_rate() {
        let mut bucket = Bucket::new(rate(1000), SECOND);
        assert_eq!(bucket.reserve(SECOND, 100), ms(1100));
        assert_eq!(bucket.reserve(SECOND, 50), ms(1150));
        assert_eq!(
            bucket.reserve(ms(1120), 50),
            ms(1200),
            "first come, first served"
        );
        assert_eq!(bucket.reserve(SECOND, 0), ms(1200), "time does not go back");
    }

    #[test]
    fn unused_time_is_made_up_for_up_to_the_burst() {
        let mut bucket = Bucket::new(rate(1000), Duration::ZERO);
        let late = ms(100);
        assert_eq!(bucket.reserve(late, 100), late);
        assert_eq!(bucket.reserve(late, 1), ms(101));
        let much_later = ms(10_000);
        assert_eq!(bucket.reserve(much_later, 250), much_later);
        assert_eq!(bucket.reserve(much_later, 250), ms(10_250));
    }

    #[test]
    fn a_debt_is_paid_by_those_who_come_later() {
        let mut bucket = Bucket::new(rate(1000), Duration::ZERO);
        // Somebody has sent without asking when.
        bucket.reserve(Duration::ZERO, 2000);
        assert_eq!(bucket.reserve(Duration::ZERO, 1), ms(2001));
    }

    #[test]
    fn no_more_is_owed_than_the_rate_allows_in_a_second_whatever_waits() {
        let mut bucket = Bucket::new(rate(1000), Duration::ZERO);
        let waits = bucket.queue(Duration::ZERO, 5000);
        assert_eq!(bucket.loan_bytes(Duration::ZERO), 1000, "nobody owes that");
        bucket.reserve(Duration::ZERO, 400);
        assert_eq!(bucket.loan_bytes(Duration::ZERO), 600);
        bucket.reserve(Duration::ZERO, 600);
        assert_eq!(bucket.loan_bytes(Duration::ZERO), 0);
        bucket.cancel(waits);
        assert_eq!(bucket.loan_bytes(ms(100)), 100, "it is paid with time");
        bucket.set_rate(ms(100), None);
        assert_eq!(bucket.loan_bytes(ms(100)), u64::MAX);
    }

    #[test]
    fn a_change_frees_what_waited_and_the_same_rate_again_changes_nothing() {
        let mut bucket = Bucket::new(rate(1000), Duration::ZERO);
        let waits = bucket.queue(Duration::ZERO, 10_000);
        bucket.reserve(Duration::ZERO, 300);
        bucket.set_rate(ms(100), rate(1000));
        assert_eq!(bucket.due(waits), Some(ms(10_000)));
        bucket.set_rate(ms(100), rate(2000));
        assert_eq!(bucket.due(waits), None);
        // Of the 300 that went, 200 are owed.
        assert_eq!(bucket.reserve(ms(100), 0), ms(200));
        bucket.take(waits);
        bucket.cancel(waits);
        assert_eq!(
            bucket.reserve(ms(100), 0),
            ms(200),
            "a void ticket is nothing"
        );
    }

    #[test]
    fn a_raise_hurries_what_is_owed_and_a_cut_does_not_let_it_take_longer() {
        let mut bucket = Bucket::new(rate(1000), Duration::ZERO);
        bucket.reserve(Duration::ZERO, 1000);
        bucket.set_rate(ms(500), rate(10_000));
        assert_eq!(bucket.reserve(ms(500), 0), ms(550), "500 bytes are left");
        bucket.set_rate(ms(500), rate(10));
        assert_eq!(
            bucket.reserve(ms(500), 0),
            ms(550),
            "and were to be paid by then"
        );
        assert_eq!(bucket.reserve(ms(500), 1), ms(650));
        bucket.set_rate(ms(500), None);
        assert_eq!(bucket.reserve(ms(500), 1 << 40), ms(500));
        bucket.set_rate(ms(600), rate(1000));
        assert_eq!(
            bucket.reserve(ms(600), 10),
            ms(610),
            "nothing is owed, nothing saved"
        );
    }

    #[test]
    fn a_cut_leaves_no_more_saved_than_the_new_burst() {
        let mut bucket = Bucket::new(rate(1_000_000), Duration::ZERO);
        bucket.set_rate(SECOND, rate(1000));
        assert_eq!(bucket.reserve(SECOND, 250), SECOND);
        assert_eq!(bucket.reserve(SECOND, 1), ms(1001));
    }

    #[test]
    fn what_is_given_back_is_there_for_others() {
        let mut bucket = Bucket::new(rate(1000), Duration::ZERO);
        let gone = bucket.queue(Duration::ZERO, 500);
        let waits = bucket.queue(Duration::ZERO, 100);
        assert_eq!(bucket.due(waits), Some(ms(600)));
        bucket.take(gone);
        bucket.give_back(gone, 500);
        assert_eq!(bucket.due(waits), Some(ms(100)));
        bucket.take(waits);
        // It is no way to save up more than the burst.
        bucket.give_back(gone, 1 << 40);
        assert_eq!(bucket.reserve(Duration::ZERO, 300), ms(50));
        bucket.set_rate(Duration::ZERO, rate(500));
        bucket.give_back(gone, 500);
        assert_eq!(
            bucket.reserve(Duration::ZERO, 0),
            ms(50),
            "that was before the change"
        );
    }

    proptest! {
        /// Any number of streams, each with one reservation at a time, some of them idle now and then.
        #[test]
        fn no_more_goes_than_the_rate_and_a_burst_in_any_window(
            per_s in 1u64..2_000_000_000,
            asks in proptest::collection::vec((0u64..40_000, 1u64..100_000), 1..200),
        ) {
            let mut bucket = Bucket::new(rate(per_s), Duration::ZERO);
            let mut now = Duration::ZERO;
            let mut went: Vec<(Duration, u64)> = Vec::new();
            for (pause_us, bytes) in asks {
                now += Duration::from_micros(pause_us);
                let when = bucket.reserve(now, bytes);
                prop_assert!(when >= now);
                if let Some((before, _)) = went.last() {
                    prop_assert!(when >= *before, "first come, first served");
                }
                went.push((when, bytes));
            }
            for from in 0..went.len() {
                // What goes at the first instant may have been waiting for its turn since before.
                let mut sum = 0u128;
                for (when, bytes) in &went[from + 1..] {
                    sum += u128::from(*bytes);
                    let window = (*when - went[from].0).as_nanos() + NANO / 4;
                    prop_assert!(sum * NANO <= window * u128::from(per_s) + NANO);
                }
            }
        }

        #[test]
        fn the_long_run_is_exact_and_changes_act_at_once(
            rates in proptest::collection::vec(50_000u64..1_000_000_000, 1..5),
            streams in 1usize..20,
        ) {
            let mut bucket = Bucket::new(rate(rates[0]), Duration::ZERO);
            let (mut now, mut waiting) = (Duration::ZERO, vec![None; streams]);
            for (span, per_s) in (1u32..).zip(rates) {
                bucket.set_rate(now, rate(per_s));
                let (began, mut sum) = (now, 0u64);
                let quantum = (per_s / 50).max(4096);
                while now < began + 20 * SECOND {
                    for waits in &mut waiting {
                        let due = waits.and_then(|ticket| bucket.due(ticket));
                        let is_void = waits.is_some() && due.is_none();
                        if let Some(ticket) = waits.filter(|_| due.is_some_and(|due| due <= now)) {
                            bucket.take(ticket);
                            sum += quantum;
                        }
                        if waits.is_none() || is_void || due.is_some_and(|due| due <= now) {
                            *waits = Some(bucket.queue(now, quantum));
                        }
                    }
                    // As late as timers are.
                    let next = waiting.iter().flatten().filter_map(|ticket| bucket.due(*ticket)).min();
                    now = next.unwrap().max(now) + Duration::from_micros(700);
                }
                let allowed = per_s as f64 * (now - began).as_secs_f64();
                // At the beginning of a span there may be a debt, and at its end each has begun to wait.
                let edges = (streams as u64 * quantum * 2) as f64;
                prop_assert!(sum as f64 <= allowed * 1.005 + per_s as f64 / 4.0, "{span}: {sum} of {allowed}");
                prop_assert!(sum as f64 >= allowed * 0.995 - edges, "{span}: {sum} of {allowed}");
            }
        }
    }
}
