//! How fast the peers that hold records vanish, and how often records must be renewed for it. Pure.
//!
//! A few keys are watched: who is closest to them now, and how many of those still are some time later. From
//! that follows the time in which two fifths of all holders are gone, and that is the interval of renewals. The first
//! time it may take two intervals: of 20 copies, all are gone by then in one case of ten thousand.

use std::collections::HashSet;

use libp2p::PeerId;

use crate::Key;
use crate::report::as_f64;

/// Keys watched at once.
const WATCHED: usize = 6;
/// The time between two looks at first, and when much changes.
const FIRST_WAIT_SECS: u32 = 15 * 60;
/// The longest time between two looks, when nothing changes.
const LONGEST_WAIT_SECS: u32 = 2 * 3600;
/// What was seen this long ago counts half.
const MEMORY_SECS: f64 = 6.0 * 3600.0;
/// Peers that must have vanished before that means anything: a lookup misses one now and then.
const MEANINGFUL: f64 = 4.0;
/// The share of holders that is still there after an interval.
const STAYING: f64 = 0.6;
/// The shortest interval: more often, announcing would cost more than it brings.
const MIN_INTERVAL_SECS: u32 = 3600;

/// A key, and who was closest to it.
struct Watch {
    key: Key,
    peers: HashSet<PeerId>,
    since: u32,
}

/// What was measured.
#[derive(Default)]
pub(crate) struct Churn {
    watched: Vec<Watch>,
    wait_secs: u32,
    next: u32,
    /// Peers seen to vanish, and the hours that peers were seen to stay, older ones counting less.
    gone: f64,
    peer_hours: f64,
    weighed: u32,
}

impl Churn {
    /// When the next look is due. A time further ahead than any wait was set before the clock was set back.
    pub(crate) fn next_look(&self, now: u32) -> u32 {
        match self.next.saturating_sub(now) > LONGEST_WAIT_SECS {
            true => now,
            false => self.next,
        }
    }

    /// The keys to look up now: those watched, and as many new ones as are wanted.
    pub(crate) fn look(&mut self, now: u32, fresh: impl FnOnce(usize) -> Vec<Key>) -> Vec<Key> {
        let mut keys: Vec<Key> = self.watched.iter().map(|watch| watch.key).collect();
        if keys.len() < WATCHED {
            let more = fresh(WATCHED).into_iter().filter(|key| !keys.contains(key));
            let more: Vec<Key> = more.take(WATCHED - keys.len()).collect();
            keys.extend(more);
        }
        if self.wait_secs == 0 {
            self.wait_secs = FIRST_WAIT_SECS;
        }
        self.next = now.saturating_add(self.wait_secs);
        keys
    }

    /// These peers are closest to the key now; the lookup came to its end.
    pub(crate) fn seen(&mut self, key: Key, peers: impl IntoIterator<Item = PeerId>, now: u32) {
        let peers: HashSet<_> = peers.into_iter().collect();
        let known = self.watched.iter_mut().find(|watch| watch.key == key);
        let Some(watch) = known else {
            if self.watched.len() < WATCHED && !peers.is_empty() {
                let since = now;
                self.watched.push(Watch { key, peers, since });
            }
            return;
        };
        if now <= watch.since {
            watch.since = now;
            return;
        }
        let hours = f64::from(now - watch.since) / 3600.0;
        let stayed = watch.peers.intersection(&peers).count();
        let vanished = watch.peers.len() - stayed;
        (watch.peers, watch.since) = (peers, now);
        let (stayed, vanished) = (as_f64(stayed as u64), as_f64(vanished as u64));
        self.fade(now);
        self.gone += vanished;
        // Who vanished did so half way, on average.
        self.peer_hours += hours * (stayed + vanished / 2.0);
        let much = vanished * 5.0 > stayed + vanished;
        self.wait_secs = match much {
            true => FIRST_WAIT_SECS,
            false => (self.wait_secs + self.wait_secs / 8).min(LONGEST_WAIT_SECS),
        };
    }

    /// The share of holders that are gone an hour later; `None` until something is known.
    pub(crate) fn per_hour(&self) -> Option<f64> {
        let rate = self.rate()?;
        Some(1.0 - (-rate).exp())
    }

    /// How often to renew, if `longest` is the most that is allowed.
    pub(crate) fn interval_secs(&self, longest: u32) -> u32 {
        let Some(rate) = self.rate().filter(|_| self.gone >= MEANINGFUL) else {
            return longest;
        };
        let secs = (1.0 / STAYING).ln() / rate * 3600.0;
        if secs >= f64::from(longest) {
            return longest;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within bounds"
        )]
        let secs = secs as u32;
        secs.max(MIN_INTERVAL_SECS.min(longest))
    }

    /// Vanishing peers for each peer and hour.
    fn rate(&self) -> Option<f64> {
        (self.peer_hours > 0.0).then(|| self.gone / self.peer_hours)
    }

    fn fade(&mut self, now: u32) {
        let passed = f64::from(now.saturating_sub(self.weighed));
        if self.weighed > 0 {
            let keep = (-passed / MEMORY_SECS * std::f64::consts::LN_2).exp();
            self.gone *= keep;
            self.peer_hours *= keep;
        }
        self.weighed = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const NOW: u32 = 2_000_000_000;
    const DAY: u32 = 24 * 3600;
    const LONGEST: u32 = 22 * 3600;

    /// Lets time pass while each peer vanishes with this chance an hour; returns the interval in the end.
    fn after_hours(hours: u32, per_hour: f64, seed: u64) -> (Churn, u32) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut churn = Churn::default();
        let mut closest: Vec<Vec<PeerId>> = vec![(0..20).map(|_| PeerId::random()).collect(); 6];
        let keys: Vec<Key> = (0..6).map(|n| [n; 32]).collect();
        let mut last = NOW;
        let mut now = NOW;
        while now < NOW + hours * 3600 {
            let passed = f64::from(now - last) / 3600.0;
            last = now;
            let stay = (1.0 - per_hour).powf(passed);
            for peer in closest.iter_mut().flatten() {
                if !rng.random_bool(stay) {
                    *peer = PeerId::random();
                }
            }
            for key in churn.look(now, |_| keys.clone()) {
                churn.seen(key, closest[usize::from(key[0])].iter().copied(), now);
            }
            now = churn.next_look(now);
        }
        let interval = churn.interval_secs(LONGEST);
        (churn, interval)
    }

    #[test]
    fn in_a_quiet_network_the_interval_stays_and_looks_become_rare() {
        let (churn, interval) = after_hours(48, 0.0, 1);
        assert_eq!(interval, LONGEST);
        assert_eq!(churn.per_hour(), Some(0.0));
        assert_eq!(churn.wait_secs, LONGEST_WAIT_SECS);
        let (_, interval) = after_hours(48, 0.01, 2);
        assert_eq!(interval, LONGEST, "half of them stay for three days");
    }

    #[test]
    fn under_churn_the_interval_follows_the_life_of_holders() {
        for seed in 0..5 {
            let (churn, interval) = after_hours(3, 0.3, seed);
            // ln(1 / 0.6) / -ln(1 - 0.3) hours.
            let expected = 5156;
            let range = MIN_INTERVAL_SECS..expected * 3 / 2;
            assert!(range.contains(&interval), "{interval} s, seed {seed}");
            assert!((0.2..0.42).contains(&churn.per_hour().unwrap()));
        }
    }

    #[test]
    fn the_worst_churn_has_a_bound_and_nothing_known_changes_nothing() {
        assert_eq!(after_hours(3, 0.95, 1).1, MIN_INTERVAL_SECS);
        assert_eq!(Churn::default().interval_secs(LONGEST), LONGEST);
        assert_eq!(Churn::default().interval_secs(60), 60);
    }

    #[test]
    fn a_storm_is_forgotten_in_time() {
        let (mut churn, _) = after_hours(3, 0.5, 7);
        let peers: Vec<_> = (0..20).map(|_| PeerId::random()).collect();
        for hour in 0..48 {
            for key in churn.look(NOW + 4 * 3600 + hour * 3600, |_| Vec::new()) {
                churn.seen(key, peers.clone(), NOW + 4 * 3600 + hour * 3600);
            }
        }
        assert_eq!(churn.interval_secs(LONGEST), LONGEST);
        // A clock that is set back tells nothing.
        let before = (churn.gone, churn.peer_hours);
        churn.seen([0; 32], peers, NOW - DAY);
        assert_eq!(before, (churn.gone, churn.peer_hours));
    }
}
