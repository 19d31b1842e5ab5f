//! How many of the providers that one answer names are reported at once. Pure.
//!
//! A peer can name as many as it likes, and one that lies would fill a search alone. So every answer has its
//! share; what is beyond it is reported when the search ends with fewer than it may.

use std::collections::{HashMap, HashSet};

use libp2p::PeerId;

use super::ask::Answer;
use crate::Key;
use crate::batch::Provider;
use crate::command::Search;

/// Of this many providers that a search reports, one answer brings how many at once.
pub(crate) fn share(limit: usize) -> usize {
    (limit / 4).max(2).min(limit)
}

/// A provider that an answer names and that is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) peer: PeerId,
    /// Found dead a short while ago, or reported already: it is not counted, nor dialled.
    pub(crate) beside: bool,
}

impl Search {
    /// What to report of an answer now. The rest of it is kept for the end.
    pub(crate) fn take(&mut self, answer: impl IntoIterator<Item = PeerId>) -> Vec<Named> {
        let mut room = self.share;
        let mut taken = Vec::new();
        for peer in answer {
            // Once: the channel has room for each of them.
            if self.beside.remove(&peer) {
                taken.push(Named { peer, beside: true });
                continue;
            }
            if self.found.contains(&peer) {
                continue;
            }
            if room > 0 && !self.is_full() {
                room -= 1;
                self.found.insert(peer);
                taken.push(Named {
                    peer,
                    beside: false,
                });
            } else if self.rest.len() < self.limit && !self.rest.contains(&peer) {
                self.rest.push(peer);
            }
        }
        taken
    }

    /// What was beyond the shares of its answers, as much as may be reported.
    pub(crate) fn take_rest(&mut self) -> Vec<Named> {
        let mut rest = std::mem::take(&mut self.rest);
        rest.retain(|peer| !self.is_full() && self.found.insert(*peer));
        let named = |peer| Named {
            peer,
            beside: false,
        };
        rest.into_iter().map(named).collect()
    }

    /// Whether it has found as many as it may report.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= self.limit
    }
}

/// Whom to report of an answer for many keys.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// Each once.
    pub(crate) peers: Vec<Provider>,
    /// The keys that each of them is reported for.
    pub(crate) keys: HashMap<PeerId, Vec<Key>>,
}

/// Chooses of an answer what is new, for each key as many as it has room for, and `most` peers at most. Every
/// key has its first before any has its second.
pub(crate) fn choose(
    answer: Answer,
    is_new: impl Fn(&Key, &PeerId) -> bool,
    room: impl Fn(&Key) -> usize,
    most: usize,
) -> Chosen {
    let mut chosen = Chosen::default();
    let mut pairs = HashSet::new();
    let mut turns: Vec<_> = answer
        .into_iter()
        .map(|(key, found)| (key, room(&key), found.into_iter()))
        .collect();
    while !turns.is_empty() {
        turns.retain_mut(|(key, room, found)| {
            if *room == 0 {
                return false;
            }
            let Some((peer, addrs)) = found.next() else {
                return false;
            };
            if !is_new(key, &peer) {
                return true;
            }
            if !chosen.keys.contains_key(&peer) {
                if chosen.peers.len() >= most {
                    return true;
                }
                chosen.peers.push((peer, addrs));
            }
            if pairs.insert((*key, peer)) {
                chosen.keys.entry(peer).or_default().push(*key);
                *room -= 1;
            }
            true
        });
    }
    chosen
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn search(limit: usize, dead: &[PeerId]) -> Search {
        Search {
            key: [0; 32],
            limit: limit + dead.len(),
            connect: false,
            include_self: false,
            events: mpsc::channel(1).0,
            found: dead.iter().copied().collect(),
            beside: dead.iter().copied().collect(),
            share: share(limit),
            rest: Vec::new(),
        }
    }

    fn crowd(count: usize) -> Vec<PeerId> {
        (0..count).map(|_| PeerId::random()).collect()
    }

    #[test]
    fn one_answer_does_not_fill_a_search() {
        let (mut search, liars, others) = (search(8, &[]), crowd(100), crowd(3));
        assert_eq!(search.take(liars.clone()).len(), 2);
        assert_eq!(search.take(others.clone()).len(), 2);
        assert!(search.found.contains(&others[0]) && !search.is_full());
        assert_eq!(search.rest.len(), 8, "bounded");
        // Nobody else has named any: what was left of the answers is better than nothing.
        assert_eq!(search.take_rest().len(), 4);
        assert!(search.is_full() && search.take_rest().is_empty());
        assert!(search.take(crowd(1)).is_empty());
        assert_eq!([1, 2, 8, 32].map(share), [1, 2, 2, 8]);
    }

    #[test]
    fn who_was_found_dead_takes_nobodys_place_and_is_told_once() {
        let (dead, alive) = (crowd(50), crowd(2));
        let mut search = search(2, &dead);
        let taken = search.take(dead.iter().chain(&alive).copied());
        assert_eq!(taken.iter().filter(|named| named.beside).count(), 50);
        assert!(search.is_full() && search.found.contains(&alive[1]));
        assert!(search.take(dead).is_empty() && search.rest.is_empty());
    }

    #[test]
    fn a_hostile_answer_for_many_keys_brings_few_peers_and_every_key_its_first() {
        let (known, first) = (PeerId::random(), PeerId::random());
        let liars = |n: u8| -> (Key, Vec<Provider>) {
            let mut named = crowd(18);
            named.splice(..0, [known, first]);
            (
                [n; 32],
                named.into_iter().map(|peer| (peer, vec![])).collect(),
            )
        };
        let answer: Answer = (0..200).map(liars).collect();
        let is_new = |_: &Key, peer: &PeerId| *peer != known;
        let chosen = choose(answer.clone(), is_new, |_| 8, 64);
        assert_eq!(chosen.peers.len(), 64);
        assert_eq!(chosen.keys[&first].len(), 200);
        assert!(!chosen.keys.contains_key(&known));
        // With room for one, only that one is asked for and dialled.
        let chosen = choose(answer, is_new, |_| 1, 64);
        assert_eq!(chosen.peers, [(first, vec![])]);
        let twice = vec![([1; 32], vec![(first, vec![]), (first, vec![])])];
        assert_eq!(choose(twice, is_new, |_| 8, 64).keys[&first].len(), 1);
        assert!(choose(vec![liars(1)], is_new, |_| 0, 64).peers.is_empty());
    }
}
