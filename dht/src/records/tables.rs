//! The records this node holds for others, and its own values: in memory, bounded, with expiry by the
//! time of day. Pure: the time is an argument, in Unix seconds; changes for the disk are queued.

use libp2p::{Multiaddr, PeerId};

use super::changes::{Change, Changes};
use super::held::{Entry, Held};
use super::known::{self, Remembered};
use super::layout::{self, DiskOp};
pub(crate) use super::peers::MAX_ADDRS_PER_PEER;
use super::peers::{MAX_PEERS, Peers};
use super::values::Values;
use crate::Key;
use crate::config::Limits;
use crate::origin::Origin;

/// Providers kept for one key. Answers carry 20; the rest are in reserve when some expire.
pub(super) const MAX_PROVIDERS_PER_KEY: usize = 40;
/// Providers in one answer: half of them the freshest, for they are the likeliest to be there, and half by
/// chance, so that those who come and go cannot hide the one that stays.
pub(super) const ANSWER_PROVIDERS: usize = 20;
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
    #[error("other nodes are closer to the key")]
    Far,
    #[error("already expired")]
    Expired,
    #[error("another value is held for the key")]
    Known,
    #[error("not a signed value")]
    Unsigned,
}

/// A provider of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provider {
    pub(crate) peer: PeerId,
    pub(crate) addrs: Vec<Multiaddr>,
    pub(crate) expires: u32,
}

/// What is held for others, and the remembered peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) providers: usize,
    /// Whose records these are.
    pub(crate) peers: usize,
    pub(crate) values: usize,
    pub(crate) value_bytes: usize,
    pub(crate) remembered: usize,
}

/// The tables.
pub(crate) struct Tables {
    pub(super) limits: Limits,
    pub(super) peers: Peers,
    pub(super) held: Held,
    pub(super) values: Values,
    pub(super) known: Vec<Remembered>,
    pub(super) changes: Changes,
    swept_values: Option<Key>,
}

/// Whether a record of somebody else that expires then is to be kept.
pub(super) fn is_live(expires: u32, now: u32) -> bool {
    expires > now && expires - now <= MAX_AHEAD_SECS
}

/// Where a peer comes in the order of a seed (the finalizer of `splitmix64`).
fn shuffled(seed: u64, peer: u32) -> u64 {
    let mut mixed = seed ^ u64::from(peer).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Tables {
    /// Empty tables of the node `me`; changes are queued only if there is a disk to write them.
    pub(crate) fn new(me: PeerId, limits: Limits, on_disk: bool) -> Self {
        Self {
            limits,
            peers: Peers::new(me),
            held: Held::new(),
            values: Values::new(),
            known: Vec::new(),
            changes: Changes::new(on_disk),
            swept_values: None,
        }
    }

    /// Notes that a peer provides `key`. The caller has made sure that the peer itself said so.
    pub(crate) fn add_provider(
        &mut self,
        key: Key,
        peer: &PeerId,
        origin: Origin,
        expires: u32,
        now: u32,
    ) -> Result<(), Refused> {
        if expires <= now {
            return Err(Refused::Expired);
        }
        let expires = expires.min(now.saturating_add(MAX_AHEAD_SECS));
        let known = self.peers.index_of(peer);
        if known == Some(SELF) {
            return Err(Refused::Known);
        }
        // Of a peer that has just disconnected the origin is unknown, but may have been known before.
        let origin = match known {
            Some(index) if origin == Origin::default() => self.peers.origin_of(index),
            _ => origin,
        };
        if let Some(index) = known {
            if self.peers.moved(index, origin) {
                self.changes.push(Change::Peer(index));
            }
            if let Some(held) = self.held.get_mut(&key, index) {
                held.expires = expires;
                if !self.changes.is_full() {
                    self.changes.push(Change::Provider(key, index));
                }
                return Ok(());
            }
        }
        // Before anybody gives way to it.
        self.admit(known, origin)?;
        self.make_room(&key, known, origin, expires, now)?;
        // Anew: making room may have released the peer, when it held nothing else.
        let index = self.index(peer, origin)?;
        let entry = Entry {
            key,
            peer: index,
            expires,
        };
        if self.held.insert(entry) {
            self.peers.count_provided(index, true);
        }
        self.changes.push(Change::Provider(key, index));
        Ok(())
    }

    /// The providers of a key that have not expired, at most [`ANSWER_PROVIDERS`]. `seed` decides on the
    /// half that is not the freshest.
    pub(crate) fn providers(&self, key: &Key, now: u32, seed: u64) -> Vec<Provider> {
        let held = self.held.of(key).iter();
        let mut live: Vec<_> = held.filter(|entry| self.stays(entry, now)).collect();
        live.sort_by_key(|entry| (std::cmp::Reverse(entry.expires), shuffled(seed, entry.peer)));
        let freshest = live.len().min(ANSWER_PROVIDERS / 2);
        live[freshest..].sort_by_key(|entry| shuffled(seed, entry.peer));
        let provider = |entry: &Entry| {
            let peer = self.peers.get(entry.peer)?;
            Some(Provider {
                peer: peer.id,
                addrs: peer.addrs.clone(),
                expires: entry.expires,
            })
        };
        let answer = live.into_iter().take(ANSWER_PROVIDERS);
        answer.filter_map(provider).collect()
    }

    /// Forgets that `peer` provides `key`.
    pub(crate) fn remove_provider(&mut self, key: &Key, peer: &PeerId) {
        if let Some(index) = self.peers.index_of(peer) {
            self.remove_held(key, index);
        }
    }

    /// The newest addresses of a peer, for all its records. Unknown peers are not taken in.
    pub(crate) fn set_addrs(&mut self, peer: &PeerId, addrs: &[Multiaddr]) {
        let Some(index) = self.peers.index_of(peer) else {
            return;
        };
        let addrs = &addrs[..addrs.len().min(MAX_ADDRS_PER_PEER)];
        if let Some(entry) = self.peers.get_mut(index)
            && !addrs.is_empty()
            && entry.addrs != addrs
        {
            entry.addrs = addrs.to_vec();
            if index != SELF {
                self.changes.push(Change::Peer(index));
            }
        }
    }

    /// The known addresses of a peer.
    pub(crate) fn addrs(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let index = self.peers.index_of(peer);
        let peer = index.and_then(|index| self.peers.get(index));
        peer.map(|peer| peer.addrs.clone()).unwrap_or_default()
    }

    /// Joins the remembered peers with news of them.
    pub(crate) fn remember(&mut self, news: Vec<Remembered>) {
        self.known = known::merge(std::mem::take(&mut self.known), news);
        self.changes.push(Change::Known);
    }

    /// The remembered peers, the freshest first.
    pub(crate) fn remembered(&self) -> Vec<Remembered> {
        self.known.clone()
    }

    /// Drops what has expired among the next `keys` records; returns how many that were. Called again and
    /// again it goes round. The disk is not told: what has expired is not read in again.
    pub(crate) fn sweep(&mut self, now: u32, keys: usize) -> usize {
        let peers = &self.peers;
        let stays = |entry: &Entry| is_live(entry.expires, now) && peers.get(entry.peer).is_some();
        let gone = self.held.sweep(keys, stays);
        for entry in &gone {
            self.peers.count_provided(entry.peer, false);
            self.release(entry.peer);
        }
        gone.len() + self.sweep_values(now, keys)
    }

    fn sweep_values(&mut self, now: u32, keys: usize) -> usize {
        let seen = self.values.keys_after(self.swept_values, keys);
        self.swept_values = seen.last().filter(|_| seen.len() == keys).copied();
        let expired = |key: &&Key| self.values.get(key).is_some_and(|held| !held.is_kept(now));
        let expired: Vec<Key> = seen.iter().filter(expired).copied().collect();
        expired.iter().for_each(|key| self.remove_value(key));
        expired.len()
    }

    /// The oldest changes, at most `max_ops`, as entries for the disk.
    pub(crate) fn take_dirty(&mut self, max_ops: usize) -> Vec<DiskOp> {
        let mut ops = Vec::new();
        while ops.len() < max_ops
            && let Some(change) = self.changes.pop()
        {
            ops.push(self.op(change));
        }
        ops
    }

    /// The present state of these entries.
    pub(super) fn ops(&self, changes: impl IntoIterator<Item = Change>) -> Vec<DiskOp> {
        changes.into_iter().map(|change| self.op(change)).collect()
    }

    /// The provider records of one part of the table; `None` behind the last.
    pub(super) fn provider_ops(&self, part: usize) -> Option<Vec<DiskOp>> {
        let held = self.held.part(part)?.iter();
        let op = |entry: &Entry| layout::provider_op(&entry.key, entry.peer, Some(entry.expires));
        Some(held.map(op).collect())
    }

    /// The present state of an entry.
    fn op(&self, change: Change) -> DiskOp {
        match change {
            Change::Peer(index) => {
                let peer = self.peers.get(index).filter(|_| index != SELF);
                layout::peer_op(index, peer)
            }
            Change::Provider(key, index) => {
                let held = self.held.get(&key, index);
                layout::provider_op(&key, index, held.map(|held| held.expires))
            }
            Change::Value(key) => layout::value_op(&key, self.values.get(&key)),
            Change::Known => layout::known_op(&self.known),
        }
    }

    /// How much there is of everything.
    pub(crate) fn sizes(&self) -> Sizes {
        let (values, value_bytes) = self.values.foreign();
        Sizes {
            providers: self.held.len(),
            peers: self.peers.len() - 1,
            values,
            value_bytes,
            remembered: self.known.len(),
        }
    }

    /// How many changes wait for the disk.
    pub(crate) fn dirty_len(&self) -> usize {
        self.changes.len()
    }

    /// Whether a provider record is still worth its place.
    pub(super) fn stays(&self, entry: &Entry, now: u32) -> bool {
        is_live(entry.expires, now) && self.peers.get(entry.peer).is_some()
    }

    /// Whether there is room for a peer among the peers, or somebody who gives way to it.
    pub(super) fn admit(&self, known: Option<u32>, origin: Origin) -> Result<(), Refused> {
        let full = known.is_none() && self.peers.len() >= MAX_PEERS;
        if full && self.peers.least_of_most(origin).is_none() {
            return Err(Refused::Quota);
        }
        Ok(())
    }

    /// The number of a peer; it gets one if it has none.
    pub(super) fn index(&mut self, peer: &PeerId, origin: Origin) -> Result<u32, Refused> {
        if let Some(index) = self.peers.index_of(peer) {
            return Ok(index);
        }
        if self.peers.len() >= MAX_PEERS {
            let least = self.peers.least_of_most(origin).ok_or(Refused::Quota)?;
            self.peers.remove(least);
            self.changes.push(Change::Peer(least));
        }
        let index = self.peers.add(*peer, origin);
        self.changes.push(Change::Peer(index));
        Ok(index)
    }

    /// Drops a peer that has no records left.
    pub(super) fn release(&mut self, index: u32) {
        let empty = |peer: &super::peers::Peer| peer.provided == 0 && peer.values == 0;
        if index != SELF && self.peers.get(index).is_some_and(empty) {
            self.peers.remove(index);
            self.changes.push(Change::Peer(index));
        }
    }

    pub(super) fn remove_held(&mut self, key: &Key, index: u32) {
        if self.held.remove(key, index) {
            self.peers.count_provided(index, false);
            self.changes.push(Change::Provider(*key, index));
            self.release(index);
        }
    }
}
