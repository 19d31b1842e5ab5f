//! The value records: sealed, this node's own and others'.

use std::collections::BTreeMap;
use std::ops::Bound;

use libp2p::PeerId;

use super::changes::Change;
use super::envelope;
use super::held::MAX_SEARCHED;
use super::tables::{Refused, SELF, Tables, is_live};
use crate::Key;
use crate::origin::Origin;

/// Values that may give way to one.
const MAX_DISPLACED_VALUES: usize = 64;
/// A younger value is not displaced by that of another publisher.
const PROTECTED_SECS: u32 = 24 * 3600;

/// A value record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredValue {
    /// Peer it came from (0 is this node itself).
    pub(crate) source: u32,
    /// The envelope, opened before.
    pub(crate) sealed: Vec<u8>,
    /// Unix seconds.
    pub(crate) published_at: u32,
    pub(crate) expires: u32,
}

impl StoredValue {
    /// A value in an envelope that has been opened, or made here; `None` when it has not the shape.
    pub(crate) fn new(source: u32, sealed: Vec<u8>) -> Option<Self> {
        let published = envelope::read(&sealed).ok()?;
        let (published_at, expires) = (published.published_at, published.expires());
        Some(Self {
            source,
            sealed,
            published_at,
            expires,
        })
    }

    /// Whether a value is to be kept. Own values go with their keys, not by time.
    pub(super) fn is_kept(&self, now: u32) -> bool {
        self.source == SELF || is_live(self.expires, now)
    }
}

/// What becomes of a value when one is held already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// The new one is taken.
    Takes,
    /// It is the one that is held.
    Same,
    /// The one that is held stays.
    Stays,
}

/// Whether a value of somebody else takes the place of the held one.
pub(super) fn meet(held: &StoredValue, new: &StoredValue, now: u32) -> Meeting {
    if held.source == SELF {
        return Meeting::Stays;
    }
    if !held.is_kept(now) {
        return Meeting::Takes;
    }
    let takes = match envelope::same_publisher(&held.sealed, &new.sealed) {
        true if held.sealed == new.sealed => return Meeting::Same,
        true => new.published_at > held.published_at,
        false => held.published_at.saturating_add(PROTECTED_SECS) <= now,
    };
    if takes {
        Meeting::Takes
    } else {
        Meeting::Stays
    }
}

/// All value records.
pub(super) struct Values {
    /// Those of this node, which never give way: no search goes through them.
    own: BTreeMap<Key, StoredValue>,
    /// Those that came from others.
    foreign: BTreeMap<Key, StoredValue>,
    foreign_bytes: usize,
    /// Where the search for a value that gives way goes on.
    search_from: Key,
}

impl Values {
    pub(super) fn new() -> Self {
        Self {
            own: BTreeMap::new(),
            foreign: BTreeMap::new(),
            foreign_bytes: 0,
            search_from: [0; 32],
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&StoredValue> {
        self.own.get(key).or_else(|| self.foreign.get(key))
    }

    /// Number and size of those that came from others.
    pub(super) fn foreign(&self) -> (usize, usize) {
        (self.foreign.len(), self.foreign_bytes)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &StoredValue)> {
        self.own.iter().chain(&self.foreign)
    }

    /// The values of this node itself.
    fn own(&self) -> impl Iterator<Item = &Key> {
        self.own.keys()
    }

    /// The keys after this one, at most `count`, in order.
    pub(super) fn keys_after(&self, after: Option<Key>, count: usize) -> Vec<Key> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = |map: &BTreeMap<Key, StoredValue>| -> Vec<Key> {
            let range = map.range((from, Bound::Unbounded));
            range.take(count).map(|(key, _)| *key).collect()
        };
        let mut keys = next(&self.own);
        keys.append(&mut next(&self.foreign));
        keys.sort_unstable();
        keys.truncate(count);
        keys
    }

    /// Adds a value where none is.
    pub(super) fn insert(&mut self, key: Key, stored: StoredValue) {
        if stored.source == SELF {
            self.own.insert(key, stored);
        } else {
            self.foreign_bytes += stored.sealed.len();
            self.foreign.insert(key, stored);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<StoredValue> {
        if let Some(stored) = self.own.remove(key) {
            return Some(stored);
        }
        let stored = self.foreign.remove(key)?;
        self.foreign_bytes -= stored.sealed.len();
        Some(stored)
    }

    /// Some value of somebody else that `wanted` holds for; searches go round. Each value that is looked at
    /// is one less of those that may be.
    pub(super) fn find(
        &mut self,
        may_see: &mut usize,
        wanted: impl Fn(&StoredValue) -> bool,
    ) -> Option<Key> {
        let after = (Bound::Excluded(self.search_from), Bound::Unbounded);
        let rest = self.foreign.range(after);
        let round = rest.chain(self.foreign.range(..=self.search_from));
        let mut last = None;
        let mut found = None;
        for (key, stored) in round.take(*may_see) {
            *may_see -= 1;
            last = Some(*key);
            if wanted(stored) {
                found = last;
                break;
            }
        }
        self.search_from = last.unwrap_or(self.search_from);
        found
    }
}

impl Tables {
    /// Takes a value that `source` sent, in its envelope; the caller has opened that, and checked that the
    /// value is true for the key.
    pub(crate) fn put_value(
        &mut self,
        key: Key,
        sealed: Vec<u8>,
        source: &PeerId,
        origin: Origin,
        now: u32,
    ) -> Result<(), Refused> {
        let published = envelope::read(&sealed).map_err(|_| Refused::Unsigned)?;
        if published.value.len() > self.limits.value_bytes {
            return Err(Refused::TooLarge);
        }
        let index = self.peers.index_of(source);
        let mut new = StoredValue::new(SELF, sealed).ok_or(Refused::Unsigned)?;
        if index == Some(SELF) {
            self.remove_value_entry(&key);
            self.insert_value(key, new);
            return Ok(());
        }
        if !is_live(new.expires, now) {
            return Err(Refused::Expired);
        }
        match self.values.get(&key).map(|held| meet(held, &new, now)) {
            None => {}
            Some(Meeting::Same) => return Ok(()),
            Some(Meeting::Stays) => return Err(Refused::Known),
            Some(Meeting::Takes) => {}
        }
        // Before anybody gives way to it.
        self.admit(index, origin)?;
        // The held one makes room first, and stays if that is not enough.
        let old = self.values.remove(&key);
        old.iter().for_each(|old| self.count_value(old, false));
        let made = self.make_room_for_value(index, origin, new.sealed.len(), now);
        let made = made.and_then(|()| self.index(source, origin));
        match (made, old) {
            (Ok(index), old) => {
                if origin != Origin::default() && self.peers.moved(index, origin) {
                    self.changes.push(Change::Peer(index));
                }
                new.source = index;
                self.insert_value(key, new);
                old.iter().for_each(|old| self.release(old.source));
                Ok(())
            }
            (Err(refused), old) => {
                if let Some(old) = old {
                    self.count_value(&old, true);
                    self.values.insert(key, old);
                }
                Err(refused)
            }
        }
    }

    /// Makes room for one more value of somebody else.
    fn make_room_for_value(
        &mut self,
        index: Option<u32>,
        origin: Origin,
        bytes: usize,
        now: u32,
    ) -> Result<(), Refused> {
        let own = index.and_then(|index| self.peers.get(index));
        let own = own.map_or(0, |peer| peer.values);
        if own >= self.limits.value_records_per_peer
            || bytes > self.limits.value_records_bytes
            || self.limits.value_records == 0
            || self.changes.is_full()
        {
            return Err(Refused::Quota);
        }
        let mut may_see = MAX_SEARCHED;
        for _ in 0..MAX_DISPLACED_VALUES {
            let (count, total) = self.values.foreign();
            if count < self.limits.value_records && total + bytes <= self.limits.value_records_bytes
            {
                return Ok(());
            }
            let weight = self.weight(bytes);
            let victim = self.peers.values_victim(index, origin, weight);
            let victim = victim.ok_or(Refused::Quota)?;
            let peers = &self.peers;
            let gives_way = |held: &StoredValue| match peers.get(held.source) {
                Some(peer) if held.is_kept(now) => {
                    peer.origin == victim.origin && peer.value_weight >= victim.at_least
                }
                _ => true,
            };
            let gone = self.values.find(&mut may_see, gives_way);
            let gone = gone.ok_or(Refused::Quota)?;
            self.remove_value(&gone);
        }
        Err(Refused::Quota)
    }

    /// What a value weighs: its size, and its part of the number there may be.
    fn weight(&self, bytes: usize) -> u64 {
        let each = self.limits.value_records_bytes / self.limits.value_records.max(1);
        u64::try_from(bytes.saturating_add(each)).unwrap_or(u64::MAX)
    }

    /// The value of a key in its envelope, and when it expires.
    pub(crate) fn value(&self, key: &Key, now: u32) -> Option<(&[u8], u32)> {
        let stored = self.values.get(key).filter(|stored| stored.is_kept(now))?;
        Some((&stored.sealed, stored.expires))
    }

    /// The value this node itself has published under a key, in its envelope, and when it was sealed.
    pub(crate) fn own_sealed(&self, key: &Key) -> Option<(&[u8], u32)> {
        let stored = self.values.get(key);
        let stored = stored.filter(|stored| stored.source == SELF)?;
        Some((&stored.sealed, stored.published_at))
    }

    /// The value this node itself has published under a key.
    pub(crate) fn own_value(&self, key: &Key) -> Option<&[u8]> {
        let (sealed, _) = self.own_sealed(key)?;
        envelope::read(sealed).ok().map(|published| published.value)
    }

    /// Forgets the value of a key.
    pub(crate) fn remove_value(&mut self, key: &Key) {
        if self.remove_value_entry(key) {
            self.changes.push(Change::Value(*key));
        }
    }

    /// Drops the own values that nothing in the schedule stands for; returns how many. They have no
    /// expiry, so nobody else would.
    pub(crate) fn retain_own_values(&mut self, keep: impl Fn(&Key) -> bool) -> usize {
        let gone = self.values.own().filter(|key| !keep(key)).copied();
        let gone: Vec<Key> = gone.collect();
        gone.iter().for_each(|key| self.remove_value(key));
        gone.len()
    }

    fn insert_value(&mut self, key: Key, stored: StoredValue) {
        self.count_value(&stored, true);
        self.values.insert(key, stored);
        self.changes.push(Change::Value(key));
    }

    pub(super) fn count_value(&mut self, stored: &StoredValue, more: bool) {
        let weight = self.weight(stored.sealed.len());
        self.peers.count_value(stored.source, weight, more);
    }

    pub(super) fn remove_value_entry(&mut self, key: &Key) -> bool {
        let Some(stored) = self.values.remove(key) else {
            return false;
        };
        self.count_value(&stored, false);
        self.release(stored.source);
        true
    }
}
