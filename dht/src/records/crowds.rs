//! How many peers each origin has, and which of them holds least: whoever must give way is found without
//! going through all of them, however often strangers ask.

use std::collections::{BTreeSet, HashMap};

use crate::origin::Origin;

/// A peer by what it holds: provider records, weight of values, number.
pub(super) type Holding = (u64, u64, u32);

/// The peers of each origin.
#[derive(Default)]
pub(super) struct Crowds {
    groups: HashMap<Origin, BTreeSet<Holding>>,
    ranking: BTreeSet<(usize, Origin)>,
}

impl Crowds {
    pub(super) fn insert(&mut self, origin: Origin, peer: Holding) {
        self.change(origin, |group| group.insert(peer));
    }

    pub(super) fn remove(&mut self, origin: Origin, peer: Holding) {
        self.change(origin, |group| group.remove(&peer));
    }

    /// A peer holds something else now.
    pub(super) fn replace(&mut self, origin: Origin, old: Holding, new: Holding) {
        if let Some(group) = self.groups.get_mut(&origin)
            && group.remove(&old)
        {
            group.insert(new);
        }
    }

    fn change(&mut self, origin: Origin, change: impl FnOnce(&mut BTreeSet<Holding>) -> bool) {
        let group = self.groups.entry(origin).or_default();
        let before = group.len();
        change(group);
        let after = group.len();
        if after == 0 {
            self.groups.remove(&origin);
        }
        if after != before {
            self.ranking.remove(&(before, origin));
            if after > 0 {
                self.ranking.insert((after, origin));
            }
        }
    }

    /// The peer with the fewest records of the origin that has the most peers, if the newcomer's has fewer.
    pub(super) fn least_of_most(&self, newcomer: Origin) -> Option<u32> {
        let (count, most) = *self.ranking.last()?;
        let own = self.groups.get(&newcomer).map_or(0, BTreeSet::len);
        if own + 1 >= count {
            return None;
        }
        let (_, _, least) = *self.groups.get(&most)?.first()?;
        Some(least)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_ranks_as_counting_does(
            ops in proptest::collection::vec((0u32..30, 0u64..4, 0u64..9), 0..120), newcomer in 0u64..5,
        ) {
            let (mut crowds, mut model) = (Crowds::default(), HashMap::<u32, (u64, u64)>::new());
            for (peer, origin, held) in ops {
                match (model.remove(&peer), held) {
                    (Some((of, old)), 0) => crowds.remove(Origin(of), (old, 0, peer)),
                    (Some((of, old)), _) => {
                        crowds.replace(Origin(of), (old, 0, peer), (held, 0, peer));
                        model.insert(peer, (of, held));
                    }
                    (None, _) => {
                        crowds.insert(Origin(origin), (held, 0, peer));
                        model.insert(peer, (origin, held));
                    }
                }
            }
            let count = |origin| model.values().filter(|(of, _)| *of == origin).count();
            let most = (0..4).map(|origin| (count(origin), origin)).max().unwrap_or_default();
            let of_most = model.iter().filter(|(_, (of, _))| *of == most.1);
            let least = of_most.map(|(peer, (_, held))| (*held, *peer)).min();
            let expected = least.filter(|_| count(newcomer) + 1 < most.0);
            prop_assert_eq!(crowds.least_of_most(Origin(newcomer)), expected.map(|(_, peer)| peer));
        }
    }
}
