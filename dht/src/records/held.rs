//! The provider records themselves, 40 bytes each, and little more: a node may hold millions.
//!
//! Sorted vectors, chosen by a hash of the key that only this process knows, and split one at a time as
//! they fill (linear hashing): no moment at which everything is moved, and no keys that meet on purpose.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use crate::Key;

/// Records of a vector, on average, at which one is split.
const SHARD_ENTRIES: usize = 32;
/// Records that are looked at for one that gives way; then the newcomer is refused. The next search goes on
/// behind them, so what is there is found.
pub(super) const MAX_SEARCHED: usize = 4096;
/// The least growth of a vector, in records.
const GROWTH_ENTRIES: usize = 4;

/// A peer provides a key, until then (Unix seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) peer: u32,
    pub(super) expires: u32,
}

/// All provider records.
pub(super) struct Held {
    shards: Vec<Vec<Entry>>,
    len: usize,
    hasher: RandomState,
    /// Where the sweep goes on.
    sweep_at: usize,
    /// Where the search for a record that gives way goes on.
    search_at: usize,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            shards: vec![Vec::new()],
            len: 0,
            hasher: RandomState::new(),
            sweep_at: 0,
            search_at: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The records of a key, ordered by peer.
    pub(super) fn of(&self, key: &Key) -> &[Entry] {
        let shard = &self.shards[self.shard_of(key)];
        &shard[range_of(shard, key)]
    }

    pub(super) fn get(&self, key: &Key, peer: u32) -> Option<&Entry> {
        self.of(key).iter().find(|entry| entry.peer == peer)
    }

    pub(super) fn get_mut(&mut self, key: &Key, peer: u32) -> Option<&mut Entry> {
        let shard = self.shard_of(key);
        let shard = &mut self.shards[shard];
        let range = range_of(shard, key);
        shard[range].iter_mut().find(|entry| entry.peer == peer)
    }

    /// Adds a record, or replaces that of the same key and peer; returns whether it is new.
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let shard = self.shard_of(&entry.key);
        let shard = &mut self.shards[shard];
        let place = |held: &Entry| (held.key, held.peer).cmp(&(entry.key, entry.peer));
        match shard.binary_search_by(place) {
            Ok(at) => {
                shard[at] = entry;
                return false;
            }
            Err(at) => {
                if shard.len() == shard.capacity() {
                    // Doubling would leave a quarter of all memory unused.
                    shard.reserve_exact((shard.len() / 8).max(GROWTH_ENTRIES));
                }
                shard.insert(at, entry);
            }
        }
        self.len += 1;
        while self.len > self.shards.len() * SHARD_ENTRIES {
            self.split_one();
        }
        true
    }

    /// Takes a record out; returns whether it was there.
    pub(super) fn remove(&mut self, key: &Key, peer: u32) -> bool {
        let shard = self.shard_of(key);
        let shard = &mut self.shards[shard];
        let place = |held: &Entry| (held.key, held.peer).cmp(&(*key, peer));
        let Ok(at) = shard.binary_search_by(place) else {
            return false;
        };
        shard.remove(at);
        shrink(shard);
        self.len -= 1;
        true
    }

    /// Takes out what `stays` does not hold for among the next vectors that together have `count` records
    /// or more. Called again and again it goes round.
    pub(super) fn sweep(&mut self, count: usize, stays: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let (mut seen, mut gone) = (0, Vec::new());
        for _ in 0..self.shards.len() {
            if seen >= count {
                break;
            }
            let at = self.sweep_at % self.shards.len();
            let shard = &mut self.shards[at];
            seen += shard.len();
            gone.extend(shard.extract_if(.., |entry| !stays(entry)));
            shrink(shard);
            self.sweep_at = at + 1;
        }
        self.len -= gone.len();
        gone
    }

    /// All records, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flatten()
    }

    /// The records of one of the vectors; `None` behind the last. A vector that is split meanwhile leaves
    /// the part that it loses to a later one.
    pub(super) fn part(&self, at: usize) -> Option<&[Entry]> {
        self.shards.get(at).map(Vec::as_slice)
    }

    /// Some record that `wanted` holds for among the next [`MAX_SEARCHED`] or a vector more; searches go
    /// round.
    pub(super) fn find(&mut self, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let mut seen = 0;
        for _ in 0..self.shards.len() {
            if seen >= MAX_SEARCHED {
                break;
            }
            let at = self.search_at % self.shards.len();
            self.search_at = at + 1;
            seen += self.shards[at].len();
            if let Some(found) = self.shards[at].iter().find(|entry| wanted(entry)) {
                return Some(*found);
            }
        }
        None
    }

    fn shard_of(&self, key: &Key) -> usize {
        shard_of(&self.hasher, self.shards.len(), key)
    }

    /// Divides the vector whose turn it is between itself and a new one.
    fn split_one(&mut self) {
        let count = self.shards.len();
        let turn = count - (1 << count.ilog2());
        let whole = std::mem::take(&mut self.shards[turn]);
        let goes = |entry: &Entry| shard_of(&self.hasher, count + 1, &entry.key) == count;
        let moved = whole.iter().filter(|entry| goes(entry)).count();
        let mut old = Vec::with_capacity(whole.len() - moved);
        let mut new = Vec::with_capacity(moved);
        for entry in whole {
            match goes(&entry) {
                true => new.push(entry),
                false => old.push(entry),
            }
        }
        self.shards[turn] = old;
        if count == self.shards.capacity() {
            self.shards.reserve_exact((count / 4).max(GROWTH_ENTRIES));
        }
        self.shards.push(new);
    }
}

/// Linear hashing: the vectors that have been split in this round use one bit more.
fn shard_of(hasher: &RandomState, count: usize, key: &Key) -> usize {
    // The upper half of the hash would do as well; 32 bits are enough vectors for any memory.
    let hash = usize::try_from(hasher.hash_one(key) & u64::from(u32::MAX)).unwrap_or(0);
    let half = 1 << count.ilog2();
    let wide = hash & (2 * half - 1);
    if wide < count {
        wide
    } else {
        hash & (half - 1)
    }
}

fn range_of(shard: &[Entry], key: &Key) -> Range<usize> {
    let start = shard.partition_point(|entry| entry.key < *key);
    let len = shard[start..]
        .iter()
        .take_while(|entry| entry.key == *key)
        .count();
    start..start + len
}

fn shrink(shard: &mut Vec<Entry>) {
    if shard.capacity() > shard.len() + shard.len() / 4 + 4 * GROWTH_ENTRIES {
        shard.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(n: u16, peer: u32, expires: u32) -> Entry {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_le_bytes());
        Entry { key, peer, expires }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_is_a_map(ops in proptest::collection::vec((0u16..600, 0u32..4, 0u8..8), 0..3000)) {
            let (mut held, mut model) = (Held::new(), BTreeMap::new());
            for (n, peer, op) in ops {
                let new = entry(n, peer, u32::from(op));
                match op {
                    0 => prop_assert_eq!(held.remove(&new.key, peer), model.remove(&(n, peer)).is_some()),
                    _ => prop_assert_eq!(held.insert(new), model.insert((n, peer), new).is_none()),
                }
                prop_assert_eq!(held.len(), model.len());
            }
            for n in 0..600 {
                let expected: Vec<_> = model.range((n, 0)..=(n, 4)).map(|(_, entry)| *entry).collect();
                prop_assert_eq!(held.of(&entry(n, 0, 0).key), &expected[..]);
            }
            let gone = held.sweep(usize::MAX, |entry| entry.expires > 3);
            model.retain(|_, entry| entry.expires > 3);
            prop_assert_eq!(held.len(), model.len());
            prop_assert!(gone.iter().all(|entry| entry.expires <= 3));
            let all: usize = (0..600).map(|n| held.of(&entry(n, 0, 0).key).len()).sum();
            prop_assert_eq!(all, model.len());
        }
    }

    #[test]
    fn vectors_stay_short_and_hardly_any_room_is_unused() {
        let mut held = Held::new();
        for n in 0..50_000u32 {
            let mut new = entry(0, 1, 9);
            new.key[..4].copy_from_slice(&n.to_le_bytes());
            held.insert(new);
        }
        let longest = held.shards.iter().map(Vec::len).max().unwrap();
        assert!(longest < 4 * SHARD_ENTRIES, "{longest}");
        let room: usize = held.shards.iter().map(Vec::capacity).sum();
        assert!(room < 60_000, "room for {room}");
        while !held.sweep(1, |_| false).is_empty() {}
        let room: usize = held.shards.iter().map(Vec::capacity).sum();
        assert!(held.len() == 0 && room < 30_000, "room for {room}");
    }

    #[test]
    fn a_search_sees_so_many_records_and_goes_on_there() {
        let mut held = Held::new();
        (0..20_000).for_each(|n| {
            held.insert(entry(n, 0, u32::from(n)));
        });
        let looked = std::cell::RefCell::new(std::collections::HashSet::new());
        let never = |entry: &Entry| {
            looked.borrow_mut().insert(entry.expires);
            false
        };
        assert_eq!(held.find(never), None);
        let first = looked.borrow().len();
        assert!((MAX_SEARCHED..2 * MAX_SEARCHED).contains(&first), "{first}");
        (0..5).for_each(|_| assert_eq!(held.find(never), None));
        assert_eq!(looked.borrow().len(), 20_000, "some are never looked at");
    }

    #[test]
    fn a_search_goes_round() {
        let mut held = Held::new();
        (0..1000).for_each(|n| {
            held.insert(entry(n, u32::from(n % 2), 9));
        });
        for _ in 0..500 {
            let found = held.find(|entry| entry.peer == 1).unwrap();
            assert!(held.remove(&found.key, found.peer));
        }
        assert_eq!(held.find(|entry| entry.peer == 1), None);
        assert_eq!(held.len(), 500);
    }
}
