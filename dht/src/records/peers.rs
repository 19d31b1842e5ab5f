//! The peers whose records are held, and who holds how much: by origin, and within it by peer.

use std::collections::{BTreeSet, HashMap};

use libp2p::{Multiaddr, PeerId};

use super::crowds::{Crowds, Holding};
use super::tables::SELF;
use crate::origin::Origin;

/// Addresses kept for one peer: TCP and QUIC on eight networks.
pub(crate) const MAX_ADDRS_PER_PEER: usize = 16;
/// Peers whose records are held: with 16 addresses each, some 100 MiB. Without this, many identities
/// with one record each would be dear.
pub(super) const MAX_PEERS: usize = 1 << 16;

pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) origin: Origin,
    pub(super) addrs: Vec<Multiaddr>,
    /// Provider records.
    pub(super) provided: u64,
    /// Value records, and what they weigh.
    pub(super) values: usize,
    pub(super) value_weight: u64,
}

impl Peer {
    fn holding(&self, index: u32) -> Holding {
        (self.provided, self.value_weight, index)
    }
}

/// The peers, by numbers: a record names its peer in 4 bytes.
pub(super) struct Peers {
    by_index: HashMap<u32, Peer>,
    index_of: HashMap<PeerId, u32>,
    /// No number is used twice, so that a late write cannot name another peer.
    next_index: u32,
    /// All but this node itself.
    crowds: Crowds,
    provided: Shares,
    values: Shares,
}

impl Peers {
    pub(super) fn new(me: PeerId) -> Self {
        let mut peers = Self {
            by_index: HashMap::new(),
            index_of: HashMap::new(),
            next_index: SELF,
            crowds: Crowds::default(),
            provided: Shares::default(),
            values: Shares::default(),
        };
        peers.insert(SELF, me, Origin::default());
        peers
    }

    pub(super) fn len(&self) -> usize {
        self.by_index.len()
    }

    pub(super) fn get(&self, index: u32) -> Option<&Peer> {
        self.by_index.get(&index)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.by_index.get_mut(&index)
    }

    pub(super) fn index_of(&self, peer: &PeerId) -> Option<u32> {
        self.index_of.get(peer).copied()
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        self.by_index.keys().copied()
    }

    pub(super) fn origin_of(&self, index: u32) -> Origin {
        self.get(index).map(|peer| peer.origin).unwrap_or_default()
    }

    /// A number for a peer that has none yet.
    pub(super) fn add(&mut self, peer: PeerId, origin: Origin) -> u32 {
        let index = self.next_index;
        self.insert(index, peer, origin);
        index
    }

    /// A peer with the number it has on the disk.
    pub(super) fn insert(&mut self, index: u32, id: PeerId, origin: Origin) {
        self.skip(index);
        self.remove(index);
        self.index_of.insert(id, index);
        let peer = Peer {
            id,
            origin,
            addrs: Vec::new(),
            provided: 0,
            values: 0,
            value_weight: 0,
        };
        if index != SELF {
            self.crowds.insert(origin, peer.holding(index));
        }
        self.by_index.insert(index, peer);
    }

    /// A number that has been used on the disk is not used again.
    pub(super) fn skip(&mut self, index: u32) {
        self.next_index = self.next_index.max(index.saturating_add(1));
    }

    /// Forgets a peer with all that it holds. Its records are nobody's then, and go with the next sweep.
    pub(super) fn remove(&mut self, index: u32) -> bool {
        let Some(peer) = self.by_index.remove(&index) else {
            return false;
        };
        self.index_of.remove(&peer.id);
        self.crowds.remove(peer.origin, peer.holding(index));
        self.provided.set(peer.origin, index, peer.provided, 0);
        self.values.set(peer.origin, index, peer.value_weight, 0);
        true
    }

    /// Notes where a peer comes from now; returns whether that is news.
    pub(super) fn moved(&mut self, index: u32, origin: Origin) -> bool {
        let Some(peer) = self.by_index.get_mut(&index) else {
            return false;
        };
        let old = std::mem::replace(&mut peer.origin, origin);
        if old == origin {
            return false;
        }
        if index != SELF {
            self.crowds.remove(old, peer.holding(index));
            self.crowds.insert(origin, peer.holding(index));
        }
        self.provided.set(old, index, peer.provided, 0);
        self.provided.set(origin, index, 0, peer.provided);
        self.values.set(old, index, peer.value_weight, 0);
        self.values.set(origin, index, 0, peer.value_weight);
        true
    }

    /// A provider record more, or one less.
    pub(super) fn count_provided(&mut self, index: u32, more: bool) {
        if let Some(peer) = self.by_index.get_mut(&index) {
            let (old, holding) = (peer.provided, peer.holding(index));
            peer.provided = match more {
                true => old + 1,
                false => old.saturating_sub(1),
            };
            self.provided.set(peer.origin, index, old, peer.provided);
            let now = peer.holding(index);
            self.crowds.replace(peer.origin, holding, now);
        }
    }

    /// A value record more, or one less.
    pub(super) fn count_value(&mut self, index: u32, weight: u64, more: bool) {
        if let Some(peer) = self.by_index.get_mut(&index) {
            let (old, holding) = (peer.value_weight, peer.holding(index));
            (peer.values, peer.value_weight) = match more {
                true => (peer.values + 1, old + weight),
                false => (peer.values.saturating_sub(1), old.saturating_sub(weight)),
            };
            self.values.set(peer.origin, index, old, peer.value_weight);
            let now = peer.holding(index);
            self.crowds.replace(peer.origin, holding, now);
        }
    }

    /// Takes over counts that were made at once, at the start.
    pub(super) fn set_provided(&mut self, counts: &HashMap<u32, u64>) {
        for (index, peer) in &mut self.by_index {
            let new = counts.get(index).copied().unwrap_or(0);
            self.provided.set(peer.origin, *index, peer.provided, new);
            let holding = peer.holding(*index);
            peer.provided = new;
            let now = peer.holding(*index);
            self.crowds.replace(peer.origin, holding, now);
        }
    }

    /// Whose provider records may give way to one more of this peer.
    pub(super) fn provided_victim(&self, index: Option<u32>, origin: Origin) -> Option<Victim> {
        let own = index.and_then(|index| self.get(index));
        let own = own.map_or(0, |peer| peer.provided);
        self.provided.victim(origin, own, 1)
    }

    /// Whose value records may give way to one of this weight.
    pub(super) fn values_victim(
        &self,
        index: Option<u32>,
        origin: Origin,
        weight: u64,
    ) -> Option<Victim> {
        let own = index.and_then(|index| self.get(index));
        let own = own.map_or(0, |peer| peer.value_weight);
        self.values.victim(origin, own, weight)
    }

    /// The peer that gives way when there are as many as there may be: that with the fewest records, of
    /// the origin that has the most peers, if the newcomer's has fewer.
    pub(super) fn least_of_most(&self, newcomer: Origin) -> Option<u32> {
        self.crowds.least_of_most(newcomer)
    }
}

/// Whose record gives way: any peer's of this origin that holds at least `at_least`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) origin: Origin,
    pub(super) at_least: u64,
}

/// How much of something each origin holds, and each peer of it.
#[derive(Default)]
struct Shares {
    groups: HashMap<Origin, Group>,
    ranking: BTreeSet<(u64, Origin)>,
}

#[derive(Default)]
struct Group {
    total: u64,
    peers: BTreeSet<(u64, u32)>,
}

impl Shares {
    /// A peer held `old` and holds `new`.
    fn set(&mut self, origin: Origin, peer: u32, old: u64, new: u64) {
        if old == new || peer == SELF {
            return;
        }
        let group = self.groups.entry(origin).or_default();
        self.ranking.remove(&(group.total, origin));
        group.peers.remove(&(old, peer));
        group.total = (group.total + new).saturating_sub(old);
        if new > 0 {
            group.peers.insert((new, peer));
        }
        match group.total {
            0 => {
                self.groups.remove(&origin);
            }
            total => {
                self.ranking.insert((total, origin));
            }
        }
    }

    /// Who gives way to `more` of a peer that holds `own`: the origin that holds the most, if the
    /// newcomer's would still hold less; else the newcomer's own origin, if one of its peers holds more.
    /// Peers that hold less than half as much as the biggest of their origin lose nothing.
    fn victim(&self, origin: Origin, own: u64, more: u64) -> Option<Victim> {
        let (most, biggest) = *self.ranking.last()?;
        let group = self.groups.get(&origin);
        let total = group.map_or(0, |group| group.total);
        if total + more < most {
            let peers = &self.groups.get(&biggest)?.peers;
            let top = peers.last()?.0;
            return Some(Victim {
                origin: biggest,
                at_least: top.div_ceil(2),
            });
        }
        let top = group?.peers.last()?.0;
        (own + more < top).then(|| Victim {
            origin,
            at_least: top.div_ceil(2).max(own + more + 1),
        })
    }
}
