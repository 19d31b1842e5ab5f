//! Places that are counted for each of those who take them: a peer, an origin.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many places each has taken. Those who have none are not listed.
pub(crate) struct Places<K>(Mutex<HashMap<K, usize>>);

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// A place for `key`, which may have `max` of them.
    pub(crate) fn take(self: &Arc<Self>, key: K, max: usize) -> Option<Place<K>> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&key).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        taken.insert(key, count + 1);
        drop(taken);
        Some(Place {
            places: self.clone(),
            key,
        })
    }
}

/// A place; given back when dropped.
pub(crate) struct Place<K: Copy + Eq + Hash> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_places_and_gives_them_back() {
        let places = Arc::new(Places::default());
        let held: Vec<_> = (0..3).filter_map(|_| places.take('a', 2)).collect();
        assert_eq!(held.len(), 2);
        assert!(places.take('b', 2).is_some());
        drop(held);
        assert!(places.0.lock().unwrap().is_empty());
        assert!(places.take('a', 2).is_some());
    }
}
