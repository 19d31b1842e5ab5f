//! When a key that was announced is announced again. Pure.
//!
//! A hand goes round the keyspace once an interval, and renews what it passes unless that was announced lately. So
//! renewals are spread over time by where keys lie, not by when they came: a node that stores a million chunks in
//! a minute renews them evenly over the day, and keys of one region, whenever they came, are renewed together. A key
//! may wait nearly two intervals the first time, and waits one ever after. Each node's hand starts elsewhere, or all
//! nodes would knock at the same peers at the same hour.

use super::BUCKET_BITS;
use crate::key::Point;

/// The fewest slices of the keyspace that are renewed one after the other, in bits: also in a network of a few nodes
/// a renewal is a trickle.
const MIN_SLICE_BITS: u32 = 6;
/// How long a key that few peers hold waits before it is announced again to a network that has grown.
pub(super) const THIN_SECS: u32 = 600;
/// Doublings of that wait: ten minutes become a day.
const MAX_THIN_DOUBLINGS: u8 = 7;

/// The rhythm of one node.
#[derive(Clone, Debug)]
pub(super) struct Rhythm {
    interval_secs: u32,
    expiry_secs: u32,
    /// Where the hand started, in buckets.
    start: u32,
    slice_bits: u32,
    /// How many peers could hold a key.
    holders: usize,
}

impl Rhythm {
    pub(super) fn new(interval_secs: u32, expiry_secs: u32, me: &Point) -> Self {
        Self {
            expiry_secs,
            interval_secs: interval_secs.max(2),
            start: u32::from(me.fraction()) >> (16 - BUCKET_BITS),
            slice_bits: MIN_SLICE_BITS,
            holders: 0,
        }
    }

    pub(super) fn interval_secs(&self) -> u32 {
        self.interval_secs
    }

    /// Time after which others forget a key.
    pub(super) fn expiry_secs(&self) -> u32 {
        self.expiry_secs
    }

    /// Returns whether that changes anything.
    pub(super) fn set_interval(&mut self, secs: u32) -> bool {
        let secs = secs.max(2);
        std::mem::replace(&mut self.interval_secs, secs) != secs
    }

    /// Returns whether that changes anything.
    pub(super) fn set_network(&mut self, holders: usize, depth: u32) -> bool {
        let slice_bits = depth.clamp(MIN_SLICE_BITS, BUCKET_BITS);
        let old = (self.holders, self.slice_bits);
        (self.holders, self.slice_bits) = (holders, slice_bits);
        old != (holders, slice_bits)
    }

    /// Whether the hand passes the slices as that other does.
    pub(super) fn has_slices_of(&self, other: &Self) -> bool {
        self.slice_bits == other.slice_bits
    }

    /// When a key of this bucket that was last acknowledged at `last_ok`, by `copies` peers, is due again: never before seven
    /// eighths of the interval are over (who comes a little after the hand has passed would else be passed over the
    /// next time), and an interval later at the latest. A key that few hold although there are more peers is due
    /// much sooner.
    pub(super) fn renewal(&self, bucket: usize, last_ok: u32, copies: u8, thin_runs: u8) -> u32 {
        if self.is_thin(copies) {
            // Where others have no room, asking again and again does not make any.
            let wait = THIN_SECS << thin_runs.saturating_sub(1).min(MAX_THIN_DOUBLINGS);
            return last_ok.saturating_add(wait.min(self.interval_secs));
        }
        let period = self.interval_secs;
        let earliest = last_ok.saturating_add(period - period / 8);
        let wait = (self.passes_at(bucket, period) + period - earliest % period) % period;
        earliest.saturating_add(wait)
    }

    /// Whether few hold a key, although there are more peers.
    pub(super) fn is_thin(&self, copies: u8) -> bool {
        usize::from(copies) * 2 < self.holders
    }

    /// When the hand passes the bucket's slice, in seconds after the beginning of a period.
    fn passes_at(&self, bucket: usize, period: u32) -> u32 {
        let buckets = 1u32 << BUCKET_BITS;
        let bucket = u32::try_from(bucket).unwrap_or(0);
        let behind = bucket.wrapping_sub(self.start) % buckets;
        let slice = behind >> (BUCKET_BITS - self.slice_bits);
        let share = (u64::from(slice) * u64::from(period)) >> self.slice_bits;
        u32::try_from(share).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::BUCKETS;
    use super::*;

    const NOW: u32 = 2_000_000_000;
    const HOUR: u32 = 3600;

    fn rhythm() -> Rhythm {
        let mut rhythm = Rhythm::new(22 * HOUR, 48 * HOUR, &Point([0x5a; 32]));
        rhythm.set_network(20, 8);
        rhythm
    }

    #[test]
    fn a_renewal_is_never_early_and_never_much_too_late() {
        for interval in [2, 3, 10, HOUR + 1, 22 * HOUR] {
            let mut rhythm = rhythm();
            rhythm.set_interval(interval);
            for bucket in 0..BUCKETS {
                for last_ok in [NOW, NOW + 1, NOW + interval / 3] {
                    let due = rhythm.renewal(bucket, last_ok, 20, 0);
                    let wait = due - last_ok;
                    let earliest = interval - interval / 8;
                    assert!((earliest..earliest + interval).contains(&wait), "{wait}");
                }
            }
        }
    }

    #[test]
    fn what_came_at_once_is_renewed_evenly_over_the_interval() {
        let rhythm = rhythm();
        let mut per_hour = [0u32; 48];
        for bucket in 0..BUCKETS {
            let wait = rhythm.renewal(bucket, NOW, 20, 0) - NOW;
            per_hour[(wait / HOUR) as usize] += 1;
        }
        assert_eq!(per_hour[..19].iter().sum::<u32>(), 0);
        assert!(
            per_hour[20..41]
                .iter()
                .all(|count| (600..880).contains(count)),
            "{per_hour:?}"
        );
    }

    #[test]
    fn neighbours_that_came_at_other_times_are_renewed_together() {
        let rhythm = rhythm();
        let first = rhythm.renewal(1000, NOW, 20, 0);
        let same = (0..22 * HOUR)
            .step_by(600)
            .map(|later| rhythm.renewal(1000, NOW - later, 20, 0));
        let distinct: std::collections::BTreeSet<_> = same.collect();
        assert!(
            distinct.len() <= 2 && distinct.contains(&first),
            "{distinct:?}"
        );
    }

    #[test]
    fn a_key_is_renewed_every_interval_although_that_takes_a_while() {
        let rhythm = rhythm();
        for bucket in [0, 999, BUCKETS - 1] {
            let mut last_ok = NOW;
            for round in 0..10 {
                let due = rhythm.renewal(bucket, last_ok, 20, 0);
                if round > 0 {
                    assert_eq!((due - last_ok).div_ceil(HOUR), 22);
                }
                // It is sent a little after it was due.
                last_ok = due + 1000 * (round % 3);
            }
        }
    }

    #[test]
    fn nodes_do_not_renew_the_same_region_at_the_same_time() {
        let other = Rhythm::new(22 * HOUR, 48 * HOUR, &Point([0xc3; 32]));
        let mine = Rhythm::new(22 * HOUR, 48 * HOUR, &Point([0x5a; 32]));
        assert_ne!(mine.renewal(77, NOW, 20, 0), other.renewal(77, NOW, 20, 0));
    }

    #[test]
    fn a_thin_key_comes_soon() {
        let mut rhythm = rhythm();
        assert_eq!(rhythm.renewal(5, NOW, 9, 0), NOW + THIN_SECS);
        assert_eq!(rhythm.renewal(5, NOW, 9, 1), NOW + THIN_SECS);
        assert_eq!(rhythm.renewal(5, NOW, 9, 4), NOW + THIN_SECS * 8);
        assert_eq!(rhythm.renewal(5, NOW, 9, 255), NOW + THIN_SECS * 128);
        assert!(rhythm.renewal(5, NOW, 10, 0) >= NOW + 19 * HOUR);
        rhythm.set_network(2, 0);
        assert!(rhythm.renewal(5, NOW, 1, 0) >= NOW + 19 * HOUR);
    }
}
