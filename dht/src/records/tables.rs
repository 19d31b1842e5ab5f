//! The records this node holds for others, and its own values: in memory, bounded, with expiry by the
//! time of day. Pure: the time is an argument, in Unix seconds; changes for the disk are queued.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use libp2p::{Multiaddr, PeerId};

use super::holders::{Holder, Holders};
use super::layout::{self, DiskOp, StoredValue};
use crate::Key;
use crate::config::Limits;

/// Providers kept for one key. Answers carry 20; the rest are in reserve when some expire.
const MAX_PROVIDERS_PER_KEY: usize = 40;
/// Addresses kept for one peer: TCP and QUIC on eight networks.
pub(crate) const MAX_ADDRS_PER_PEER: usize = 16;
/// Changes that may wait for the disk before others' records are refused; the writer drains some ten
/// thousand a second.
const MAX_DIRTY: usize = 1 << 18;
/// Peers whose records are held: with 16 addresses each, some 100 MiB. Without this, many identities
/// with one record each would be dear.
const MAX_PEERS: usize = 1 << 16;
/// The furthest ahead a record of somebody else may expire: the longest time to live, and an hour for clocks
/// that differ. What lies further ahead was noted before the clock was set back, nobody knows when.
const MAX_AHEAD_SECS: u32 = 49 * 3600;
/// Index of this node itself among the peers.
pub(super) const SELF: u32 = 0;

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refused {
    #[error("a quota is reached")]
    Quota,
    #[error("the value is too large")]
    TooLarge,
    #[error("already expired")]
    Expired,
    #[error("another value is held for the key")]
    Known,
}

/// A provider of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provider {
    pub(crate) peer: PeerId,
    pub(crate) addrs: Vec<Multiaddr>,
    pub(crate) expires: u32,
}

pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) addrs: Vec<Multiaddr>,
    pub(super) provided: usize,
    pub(super) values: usize,
    pub(super) value_bytes: usize,
}

/// An entry the disk does not have as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Change {
    Peer(u32),
    Provider(Key, u32),
    Value(Key),
}

/// The tables.
pub(crate) struct Tables {
    limits: Limits,
    pub(super) peers: HashMap<u32, Peer>,
    pub(super) index_of: HashMap<PeerId, u32>,
    /// No index is used twice while the store is open, so that a late write cannot name another peer.
    /// After a restart those above the highest still in use are given out again.
    pub(super) next_index: u32,
    providers: BTreeMap<Key, Holders>,
    provider_records: usize,
    values: BTreeMap<Key, StoredValue>,
    foreign_values: usize,
    foreign_bytes: usize,
    pub(super) loading: Option<(Key, Vec<u8>)>,
    sweep_from: Key,
    dirty: VecDeque<Change>,
    dirty_set: HashSet<Change>,
}

/// Whether a record of somebody else that expires then is to be kept.
pub(super) fn is_live(expires: u32, now: u32) -> bool {
    expires > now && expires - now <= MAX_AHEAD_SECS
}

/// How much one peer may hold when this much is free. Never more than what it leaves to others: a few
/// peers cannot fill the store together, because each that comes finds less, and takes less.
fn fair_share(free: usize, limit: usize) -> usize {
    limit.min(free)
}

/// Whether a value is to be kept. Own values go with their keys, not by time.
pub(super) fn is_kept(stored: &StoredValue, now: u32) -> bool {
    stored.source == SELF || is_live(stored.expires, now)
}

/// Where a peer comes in the order of a seed (the finalizer of `splitmix64`).
fn shuffled(seed: u64, peer: u32) -> u64 {
    let mut mixed = seed ^ u64::from(peer).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Tables {
    pub(crate) fn new(me: PeerId, limits: Limits) -> Self {
        let itself = Peer {
            id: me,
            addrs: Vec::new(),
            provided: 0,
            values: 0,
            value_bytes: 0,
        };
        Self {
            limits,
            peers: HashMap::from([(SELF, itself)]),
            index_of: HashMap::from([(me, SELF)]),
            next_index: SELF + 1,
            providers: BTreeMap::new(),
            provider_records: 0,
            values: BTreeMap::new(),
            foreign_values: 0,
            foreign_bytes: 0,
            loading: None,
            sweep_from: [0; 32],
            dirty: VecDeque::new(),
            dirty_set: HashSet::new(),
        }
    }

    /// Notes that `peer` provides `key`. The caller has made sure that the peer itself said so.
    pub(crate) fn add_provider(
        &mut self,
        key: Key,
        peer: &PeerId,
        expires: u32,
        now: u32,
    ) -> Result<(), Refused> {
        if expires <= now {
            return Err(Refused::Expired);
        }
        let expires = expires.min(now.saturating_add(MAX_AHEAD_SECS));
        let known = self.index_of.get(peer).copied();
        if known == Some(SELF) {
            return Err(Refused::Known);
        }
        if let (Some(index), Some(holders)) = (known, self.providers.get_mut(&key))
            && let Some(holder) = holders
                .as_mut_slice()
                .iter_mut()
                .find(|holder| holder.peer == index)
        {
            holder.expires = expires;
            self.touch(Change::Provider(key, index));
            return Ok(());
        }
        let provided = known
            .and_then(|index| self.peers.get(&index))
            .map_or(0, |peer| peer.provided);
        let free = self
            .limits
            .provider_records
            .saturating_sub(self.provider_records);
        if provided >= fair_share(free, self.limits.provider_records_per_peer)
            || self.dirty.len() >= MAX_DIRTY
            || (known.is_none() && self.peers.len() >= MAX_PEERS)
        {
            return Err(Refused::Quota);
        }
        self.make_room(&key, expires)?;
        let index = self.index(peer);
        self.insert_holder(
            key,
            Holder {
                peer: index,
                expires,
            },
        );
        self.touch(Change::Provider(key, index));
        Ok(())
    }

    /// When a key has all the providers it may have, the one that expires first gives way to a later.
    fn make_room(&mut self, key: &Key, expires: u32) -> Result<(), Refused> {
        let Some(holders) = self.providers.get(key) else {
            return Ok(());
        };
        if holders.as_slice().len() < MAX_PROVIDERS_PER_KEY {
            return Ok(());
        }
        match holders
            .as_slice()
            .iter()
            .min_by_key(|holder| holder.expires)
        {
            Some(first) if first.expires < expires => {
                let peer = first.peer;
                self.remove_holders(key, |holder| holder.peer != peer);
                Ok(())
            }
            _ => Err(Refused::Quota),
        }
    }

    /// The providers of a key that have not expired, in an order that `seed` decides. Answers carry only
    /// the first 20: by any fixed order, those who come and go could hide the one that stays.
    pub(crate) fn providers(&self, key: &Key, now: u32, seed: u64) -> Vec<Provider> {
        let holders = self.providers.get(key).map_or(&[][..], Holders::as_slice);
        let mut live: Vec<_> = holders
            .iter()
            .filter(|holder| is_live(holder.expires, now))
            .collect();
        live.sort_by_key(|holder| shuffled(seed, holder.peer));
        let provider = |holder: &Holder| {
            let peer = self.peers.get(&holder.peer)?;
            Some(Provider {
                peer: peer.id,
                addrs: peer.addrs.clone(),
                expires: holder.expires,
            })
        };
        live.into_iter().filter_map(provider).collect()
    }

    /// Forgets that `peer` provides `key`.
    pub(crate) fn remove_provider(&mut self, key: &Key, peer: &PeerId) {
        if let Some(&index) = self.index_of.get(peer) {
            self.remove_holders(key, |holder| holder.peer != index);
        }
    }

    /// The newest addresses of a peer, for all its records. Unknown peers are not taken in.
    pub(crate) fn set_addrs(&mut self, peer: &PeerId, addrs: &[Multiaddr]) {
        let Some(&index) = self.index_of.get(peer) else {
            return;
        };
        if let Some(entry) = self.peers.get_mut(&index)
            && !addrs.is_empty()
            && entry.addrs != addrs
        {
            entry.addrs = addrs[..addrs.len().min(MAX_ADDRS_PER_PEER)].to_vec();
            if index != SELF {
                self.touch(Change::Peer(index));
            }
        }
    }

    /// The known addresses of a peer.
    pub(crate) fn addrs(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let peer = self
            .index_of
            .get(peer)
            .and_then(|index| self.peers.get(index));
        peer.map(|peer| peer.addrs.clone()).unwrap_or_default()
    }

    /// Takes a value that `source` sent; the caller has checked that it is true for the key.
    pub(crate) fn put_value(
        &mut self,
        key: Key,
        value: Vec<u8>,
        source: &PeerId,
        expires: u32,
        now: u32,
    ) -> Result<(), Refused> {
        if value.len() > self.limits.value_bytes {
            return Err(Refused::TooLarge);
        }
        if expires <= now {
            return Err(Refused::Expired);
        }
        let index = self.index_of.get(source).copied();
        if index != Some(SELF) {
            if let Some(held) = self.values.get_mut(&key).filter(|held| is_kept(held, now)) {
                // Several values may be true for a key (they differ in hints): the first one stays,
                // so that nobody can replace another's.
                if held.source != SELF && held.value == value {
                    held.expires = held.expires.max(expires);
                    self.touch(Change::Value(key));
                    return Ok(());
                }
                if held.source == SELF || Some(held.source) != index {
                    return Err(Refused::Known);
                }
            }
            if !self.has_room_for_value(&key, index, value.len()) {
                return Err(Refused::Quota);
            }
        }
        // In this order: removing its last record would drop the peer.
        self.remove_value_entry(&key);
        let source = self.index(source);
        let expires = match source {
            SELF => expires,
            _ => expires.min(now.saturating_add(MAX_AHEAD_SECS)),
        };
        self.insert_value(
            key,
            StoredValue {
                source,
                expires,
                value,
            },
        );
        self.touch(Change::Value(key));
        Ok(())
    }

    fn has_room_for_value(&self, key: &Key, source: Option<u32>, len: usize) -> bool {
        let replaced = self.values.get(key).filter(|held| held.source != SELF);
        let others = self.foreign_bytes - replaced.map_or(0, |held| held.value.len());
        let free = self.limits.value_records_bytes.saturating_sub(others);
        let peer = source.and_then(|index| self.peers.get(&index));
        let own = replaced.filter(|held| Some(held.source) == source);
        let bytes =
            peer.map_or(0, |peer| peer.value_bytes) - own.map_or(0, |held| held.value.len());
        if len > free || bytes >= free {
            return false;
        }
        let places = self
            .limits
            .value_records
            .saturating_sub(self.foreign_values);
        let share = fair_share(places, self.limits.value_records_per_peer);
        self.values.contains_key(key)
            || (peer.map_or(0, |peer| peer.values) < share
                && self.dirty.len() < MAX_DIRTY
                && (peer.is_some() || self.peers.len() < MAX_PEERS))
    }

    /// The value of a key and when it expires.
    pub(crate) fn value(&self, key: &Key, now: u32) -> Option<(&[u8], u32)> {
        let stored = self.values.get(key).filter(|stored| is_kept(stored, now))?;
        Some((&stored.value, stored.expires))
    }

    /// The value this node itself has published under a key.
    pub(crate) fn own_value(&self, key: &Key) -> Option<&[u8]> {
        let stored = self
            .values
            .get(key)
            .filter(|stored| stored.source == SELF)?;
        Some(&stored.value)
    }

    pub(super) fn own_value_keys(&self) -> impl Iterator<Item = &Key> {
        let own = self.values.iter();
        own.filter(|(_, stored)| stored.source == SELF)
            .map(|(key, _)| key)
    }

    /// Forgets the value of a key.
    pub(crate) fn remove_value(&mut self, key: &Key) {
        if self.remove_value_entry(key) {
            self.touch(Change::Value(*key));
        }
    }

    /// Drops what has expired among the next `keys` keys; returns how many records that were.
    /// Called again and again it goes round the whole table.
    pub(crate) fn sweep(&mut self, now: u32, keys: usize) -> usize {
        let new_round = self.sweep_from == [0; 32];
        let from = match new_round {
            true => (Bound::Unbounded, Bound::Unbounded),
            false => (Bound::Excluded(self.sweep_from), Bound::Unbounded),
        };
        let seen: Vec<Key> = self
            .providers
            .range(from)
            .map(|(key, _)| *key)
            .take(keys)
            .collect();
        // Values are few: they are swept whenever the round starts anew.
        let mut dropped = 0;
        if new_round {
            let expired = self
                .values
                .iter()
                .filter(|(_, stored)| !is_kept(stored, now));
            let expired: Vec<Key> = expired.map(|(key, _)| *key).collect();
            dropped += expired.len();
            expired.iter().for_each(|key| self.remove_value(key));
        }
        self.sweep_from = match seen.last() {
            Some(last) if seen.len() == keys => *last,
            _ => [0; 32],
        };
        for key in &seen {
            dropped += self.remove_holders(key, |holder| is_live(holder.expires, now));
        }
        dropped
    }

    /// The oldest changes, as at most about `max_ops` operations for the disk.
    pub(crate) fn take_dirty(&mut self, max_ops: usize) -> Vec<DiskOp> {
        let mut ops = Vec::new();
        while ops.len() < max_ops
            && let Some(change) = self.dirty.pop_front()
        {
            self.dirty_set.remove(&change);
            match change {
                Change::Peer(index) => {
                    let entry = self.peers.get(&index).filter(|_| index != SELF);
                    let entry = entry.map(|peer| (&peer.id, &peer.addrs[..]));
                    ops.push(layout::peer_op(index, entry));
                }
                Change::Provider(key, index) => {
                    let holders = self.providers.get(&key).map_or(&[][..], Holders::as_slice);
                    let holder = holders.iter().find(|holder| holder.peer == index);
                    ops.push(layout::provider_op(
                        &key,
                        index,
                        holder.map(|holder| holder.expires),
                    ));
                }
                Change::Value(key) => ops.extend(layout::value_ops(&key, self.values.get(&key))),
            }
        }
        ops
    }

    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    pub(super) fn touch(&mut self, change: Change) {
        if self.dirty_set.insert(change) {
            self.dirty.push_back(change);
        }
    }

    fn index(&mut self, peer: &PeerId) -> u32 {
        if let Some(&index) = self.index_of.get(peer) {
            return index;
        }
        let index = self.next_index;
        self.next_index += 1;
        self.index_of.insert(*peer, index);
        self.peers.insert(
            index,
            Peer {
                id: *peer,
                addrs: Vec::new(),
                provided: 0,
                values: 0,
                value_bytes: 0,
            },
        );
        self.touch(Change::Peer(index));
        index
    }

    /// Drops a peer that has no records left.
    pub(super) fn release(&mut self, index: u32) {
        if index == SELF {
            return;
        }
        if let Some(peer) = self.peers.get(&index)
            && peer.provided + peer.values == 0
        {
            self.index_of.remove(&peer.id);
            self.peers.remove(&index);
            self.touch(Change::Peer(index));
        }
    }

    pub(super) fn insert_holder(&mut self, key: Key, holder: Holder) {
        match self.providers.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Holders::One(holder));
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().push(holder),
        }
        self.provider_records += 1;
        if let Some(peer) = self.peers.get_mut(&holder.peer) {
            peer.provided += 1;
        }
    }

    fn remove_holders(&mut self, key: &Key, keep: impl Fn(&Holder) -> bool) -> usize {
        let all_stay = |holders: &Holders| holders.as_slice().iter().all(&keep);
        if self.providers.get(key).is_none_or(all_stay) {
            return 0;
        }
        let Some(holders) = self.providers.remove(key) else {
            return 0;
        };
        let (kept, gone) = holders.split(keep);
        if let Some(kept) = kept {
            self.providers.insert(*key, kept);
        }
        for holder in &gone {
            self.provider_records -= 1;
            self.touch(Change::Provider(*key, holder.peer));
            if let Some(peer) = self.peers.get_mut(&holder.peer) {
                peer.provided -= 1;
            }
            self.release(holder.peer);
        }
        gone.len()
    }

    pub(super) fn insert_value(&mut self, key: Key, stored: StoredValue) {
        if let Some(peer) = self.peers.get_mut(&stored.source) {
            peer.values += 1;
            peer.value_bytes += stored.value.len();
        }
        if stored.source != SELF {
            self.foreign_values += 1;
            self.foreign_bytes += stored.value.len();
        }
        self.values.insert(key, stored);
    }

    fn remove_value_entry(&mut self, key: &Key) -> bool {
        let Some(stored) = self.values.remove(key) else {
            return false;
        };
        if stored.source != SELF {
            self.foreign_values -= 1;
            self.foreign_bytes -= stored.value.len();
        }
        if let Some(peer) = self.peers.get_mut(&stored.source) {
            peer.values -= 1;
            peer.value_bytes -= stored.value.len();
        }
        self.release(stored.source);
        true
    }
}
