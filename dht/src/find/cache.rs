//! What earlier searches have learnt. Pure: the time is an argument.
//!
//! Only that somebody provides a key is remembered, never that nobody does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use crate::Key;

/// How long a provider is remembered.
const KEPT: Duration = Duration::from_secs(600);
/// For how long a lookup that came to its end makes another one needless.
const COMPLETE: Duration = Duration::from_secs(60);
/// For how long a provider that was found dead is neither remembered nor counted.
const DEAD: Duration = Duration::from_secs(120);
/// How long no second wide search of a key is made.
const WIDE_PAUSE: Duration = Duration::from_secs(30);
/// Providers remembered, of all keys together: some 2 MiB.
const MAX_PROVIDERS: usize = 16_384;
/// Providers remembered of one key.
const MAX_PER_KEY: usize = 40;
/// Dead providers and wide searches remembered, each: some 512 KiB.
const MAX_MARKS: usize = 4096;

/// What is known of one key.
#[derive(Default)]
struct Known {
    /// When each was heard of, in no order.
    providers: Vec<(PeerId, Instant)>,
    complete_at: Option<Instant>,
    turn: u64,
}

/// Providers that searches have brought.
#[derive(Default)]
pub(crate) struct Cache {
    keys: HashMap<Key, Known>,
    /// Keys by the turn in which they were last heard of.
    turns: BTreeMap<u64, Key>,
    turn: u64,
    count: usize,
    dead: HashMap<(Key, PeerId), Instant>,
    wide: HashMap<Key, Instant>,
}

impl Cache {
    /// Somebody says that `peer` provides `key`.
    pub(super) fn learn(&mut self, key: &Key, peer: PeerId, now: Instant) {
        if self.is_dead(key, &peer, now) {
            return;
        }
        self.turn += 1;
        let known = self.keys.entry(*key).or_default();
        self.turns.remove(&known.turn);
        known.turn = self.turn;
        self.turns.insert(self.turn, *key);
        if let Some((_, at)) = known.providers.iter_mut().find(|(other, _)| *other == peer) {
            *at = now;
            return;
        }
        if known.providers.len() >= MAX_PER_KEY {
            let oldest = known.providers.iter().enumerate();
            if let Some((at, _)) = oldest.min_by_key(|(_, (_, at))| *at) {
                known.providers.swap_remove(at);
                self.count -= 1;
            }
        }
        known.providers.push((peer, now));
        self.count += 1;
        while self.count > MAX_PROVIDERS
            && let Some((_, oldest)) = self.turns.pop_first()
        {
            let gone = self.keys.remove(&oldest).unwrap_or_default();
            self.count -= gone.providers.len();
        }
    }

    /// A lookup has come to its end: it would bring nothing more a moment later.
    pub(super) fn completed(&mut self, key: &Key, now: Instant) {
        if let Some(known) = self.keys.get_mut(key) {
            known.complete_at = Some(now);
        }
    }

    /// The known providers, the latest heard of first, and whether a lookup was complete just now.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> (Vec<PeerId>, bool) {
        let Some(known) = self.keys.get_mut(key) else {
            return (Vec::new(), false);
        };
        let before = known.providers.len();
        known.providers.retain(|(_, at)| is_within(*at, KEPT, now));
        self.count -= before - known.providers.len();
        if known.providers.is_empty() {
            self.turns.remove(&known.turn);
            self.keys.remove(key);
            return (Vec::new(), false);
        }
        let mut latest = known.providers.clone();
        latest.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
        let complete = known
            .complete_at
            .is_some_and(|at| is_within(at, COMPLETE, now));
        (latest.into_iter().map(|(peer, _)| peer).collect(), complete)
    }

    /// The provider does not answer, or does not have the key after all.
    pub(crate) fn forget(&mut self, key: &Key, peer: &PeerId, now: Instant) {
        if let Some(known) = self.keys.get_mut(key) {
            let before = known.providers.len();
            known.providers.retain(|(other, _)| other != peer);
            self.count -= before - known.providers.len();
            known.complete_at = None;
            if known.providers.is_empty() {
                self.turns.remove(&known.turn);
                self.keys.remove(key);
            }
        }
        mark(&mut self.dead, (*key, *peer), DEAD, now);
    }

    /// Whether the provider was found dead a short while ago.
    pub(super) fn is_dead(&self, key: &Key, peer: &PeerId, now: Instant) -> bool {
        let dead = self.dead.get(&(*key, *peer));
        dead.is_some_and(|at| is_within(*at, DEAD, now))
    }

    /// All that were found dead a short while ago.
    pub(super) fn dead(&self, key: &Key, now: Instant) -> HashSet<PeerId> {
        let of_key = self.dead.iter().filter(|((of, _), _)| of == key);
        let dead = of_key.filter(|(_, at)| is_within(**at, DEAD, now));
        dead.map(|((_, peer), _)| *peer).collect()
    }

    /// Whether a wide search of the key may be made now; notes that one is.
    pub(super) fn begin_wide(&mut self, key: &Key, now: Instant) -> bool {
        let latest = self.wide.get(key);
        if latest.is_some_and(|at| is_within(*at, WIDE_PAUSE, now)) {
            return false;
        }
        mark(&mut self.wide, *key, WIDE_PAUSE, now);
        true
    }
}

fn is_within(at: Instant, time: Duration, now: Instant) -> bool {
    now.saturating_duration_since(at) < time
}

/// Notes a mark that counts for a time. When there are too many, the old ones go, and if none is old, all:
/// marks save work, and nothing is wrong without them.
fn mark<T: Eq + std::hash::Hash>(
    marks: &mut HashMap<T, Instant>,
    new: T,
    time: Duration,
    now: Instant,
) {
    if marks.len() >= MAX_MARKS {
        marks.retain(|_, at| is_within(*at, time, now));
        if marks.len() >= MAX_MARKS {
            marks.clear();
        }
    }
    marks.insert(new, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(n: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    #[test]
    fn providers_are_remembered_for_a_while_the_latest_first() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let (a, b) = (PeerId::random(), PeerId::random());
        assert_eq!(cache.get(&key(1), start), (vec![], false));
        cache.learn(&key(1), a, start);
        cache.learn(&key(1), b, start + SECOND);
        assert_eq!(cache.get(&key(1), start + SECOND).0, [b, a]);
        cache.learn(&key(1), a, start + 2 * SECOND);
        assert_eq!(cache.get(&key(1), start + 2 * SECOND).0, [a, b]);
        assert_eq!(cache.get(&key(1), start + KEPT + SECOND).0, [a]);
        assert_eq!(cache.get(&key(1), start + KEPT + 2 * SECOND).0, []);
        assert!(cache.keys.is_empty() && cache.turns.is_empty() && cache.count == 0);
    }

    #[test]
    fn a_complete_lookup_counts_for_a_moment_and_nobody_is_never_remembered() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.completed(&key(1), start);
        assert_eq!(cache.get(&key(1), start), (vec![], false));
        cache.learn(&key(1), PeerId::random(), start);
        assert!(!cache.get(&key(1), start).1);
        cache.completed(&key(1), start);
        assert!(cache.get(&key(1), start).1);
        assert!(!cache.get(&key(1), start + COMPLETE).1);
    }

    #[test]
    fn a_dead_provider_is_forgotten_and_not_learnt_again_at_once() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let (a, b) = (PeerId::random(), PeerId::random());
        cache.learn(&key(1), a, start);
        cache.learn(&key(1), b, start);
        cache.completed(&key(1), start);
        cache.forget(&key(1), &a, start);
        assert_eq!(cache.get(&key(1), start), (vec![b], false));
        cache.learn(&key(1), a, start + DEAD - SECOND);
        cache.learn(&key(2), a, start);
        assert_eq!(cache.dead(&key(1), start), [a].into());
        assert!(
            cache.dead(&key(2), start).is_empty() && cache.dead(&key(1), start + DEAD).is_empty()
        );
        assert_eq!(cache.get(&key(1), start).0, [b]);
        assert_eq!(cache.get(&key(2), start).0, [a], "of another key");
        cache.learn(&key(1), a, start + DEAD);
        assert_eq!(cache.get(&key(1), start + DEAD).0, [a, b]);
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_the_newest_keys() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let peer = PeerId::random();
        for n in 0..MAX_PROVIDERS + 100 {
            cache.learn(&key(n), peer, start);
            cache.learn(&key(0), peer, start);
        }
        assert_eq!(
            (cache.count, cache.keys.len()),
            (MAX_PROVIDERS, MAX_PROVIDERS)
        );
        assert_eq!(cache.turns.len(), MAX_PROVIDERS);
        assert_eq!(cache.get(&key(0), start).0, [peer], "heard of all the time");
        assert!(cache.get(&key(1), start).0.is_empty(), "the oldest");
        for _ in 0..2 * MAX_PER_KEY {
            cache.learn(&key(0), PeerId::random(), start + SECOND);
        }
        let (crowd, _) = cache.get(&key(0), start + SECOND);
        assert_eq!(crowd.len(), MAX_PER_KEY);
        assert!(!crowd.contains(&peer) && cache.count <= MAX_PROVIDERS);
        for n in 0..3 * MAX_MARKS {
            cache.forget(&key(n), &PeerId::random(), start);
            assert!(cache.begin_wide(&key(n), start));
        }
        assert!(cache.dead.len() <= MAX_MARKS && cache.wide.len() <= MAX_MARKS);
    }

    #[test]
    fn wide_searches_of_a_key_pause() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        assert!(cache.begin_wide(&key(1), start));
        assert!(!cache.begin_wide(&key(1), start + SECOND));
        assert!(cache.begin_wide(&key(2), start + SECOND));
        assert!(cache.begin_wide(&key(1), start + WIDE_PAUSE));
    }
}
