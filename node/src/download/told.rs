//! Peers that others of the swarm told of: where they are, and by whose word.

use std::collections::BTreeMap;

use casnode_dht::{Multiaddr, PeerId};

/// Peers remembered in one download.
const MAX_TOLD: usize = 256;

/// A peer that could not be reached this often is forgotten.
const MAX_FAILURES: u32 = 3;

/// What was told of one peer.
#[derive(Debug)]
struct Entry {
    by: PeerId,
    addrs: Vec<Multiaddr>,
    failures: u32,
}

/// The peers that others told of. When there are too many, those lose one who told the most: a liar's list crowds out
/// nobody but itself.
#[derive(Debug, Default)]
pub(super) struct Told {
    peers: BTreeMap<PeerId, Entry>,
}

impl Told {
    /// Notes what `by` says of where `peer` is. The first word holds until it turns out wrong.
    pub(super) fn note(&mut self, by: PeerId, peer: PeerId, addrs: Vec<Multiaddr>) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            if entry.failures > 0 || entry.addrs.is_empty() {
                entry.by = by;
                entry.addrs = addrs;
            }
            return;
        }
        if self.peers.len() >= MAX_TOLD && !self.make_room(by) {
            return;
        }
        let entry = Entry {
            by,
            addrs,
            failures: 0,
        };
        self.peers.insert(peer, entry);
    }

    /// Forgets a peer of the one who told the most; false when that is `by` itself.
    fn make_room(&mut self, by: PeerId) -> bool {
        let mut counts: BTreeMap<PeerId, usize> = BTreeMap::new();
        for entry in self.peers.values() {
            *counts.entry(entry.by).or_default() += 1;
        }
        let own = counts.get(&by).copied().unwrap_or_default();
        let Some((most, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else {
            return true;
        };
        if own >= count {
            return false;
        }
        let victim = self.peers.iter().find(|(_, entry)| entry.by == most);
        if let Some(victim) = victim.map(|(peer, _)| *peer) {
            self.peers.remove(&victim);
        }
        true
    }

    /// A peer could not be reached where it was said to be.
    pub(super) fn failed(&mut self, peer: &PeerId) {
        let Some(entry) = self.peers.get_mut(peer) else {
            return;
        };
        entry.failures += 1;
        if entry.failures >= MAX_FAILURES {
            self.peers.remove(peer);
        }
    }

    /// Where a peer is said to be; nowhere when nobody told.
    pub(super) fn addrs(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let entry = self.peers.get(peer);
        entry.map(|entry| entry.addrs.clone()).unwrap_or_default()
    }

    /// Every peer, and who told of it.
    pub(super) fn all(&self) -> Vec<(PeerId, PeerId)> {
        let told = self.peers.iter();
        told.map(|(peer, entry)| (*peer, entry.by)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(port: u16) -> Vec<Multiaddr> {
        vec![format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()]
    }

    fn by(told: &Told, teller: PeerId) -> usize {
        told.all().iter().filter(|(_, by)| *by == teller).count()
    }

    #[test]
    fn a_list_without_end_crowds_out_only_itself() {
        let (honest, liar) = (PeerId::random(), PeerId::random());
        let mut told = Told::default();
        let known: Vec<PeerId> = (0..20).map(|_| PeerId::random()).collect();
        known.iter().for_each(|p| told.note(honest, *p, addrs(1)));
        (0..3 * MAX_TOLD).for_each(|_| told.note(liar, PeerId::random(), addrs(2)));
        assert_eq!((told.all().len(), by(&told, honest)), (MAX_TOLD, 20));
        (0..20).for_each(|_| told.note(honest, PeerId::random(), addrs(1)));
        assert_eq!((told.all().len(), by(&told, honest)), (MAX_TOLD, 40));
        assert!(known.iter().all(|p| told.addrs(p) == addrs(1)));
    }

    #[test]
    fn the_first_word_holds_until_it_turns_out_wrong() {
        let (first, second, peer) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut told = Told::default();
        told.note(first, peer, addrs(1));
        told.note(second, peer, addrs(2));
        assert_eq!(told.addrs(&peer), addrs(1));
        told.failed(&peer);
        told.note(second, peer, addrs(2));
        assert_eq!(told.addrs(&peer), addrs(2));
        (1..MAX_FAILURES).for_each(|_| told.failed(&peer));
        assert!(told.all().is_empty() && told.addrs(&peer).is_empty());
    }
}
