//! Which regions of the keyspace to look up, and which keys go to which peers.
//!
//! Pure: no clock, no network. Keys lie sorted by their points, so a region (all points with a common
//! prefix) is a run of them. A lookup of one key finds the peers closest to it; as long as they share
//! `depth - 1` bits with it, the peers of its region of `depth` bits are all among them, and one lookup
//! serves every key of the region. Lookups therefore grow with the network, not with the keys.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use libp2p::PeerId;

use crate::Key;
use crate::key::{POINT_BITS, Point};

/// Lookups of one plan that may fail before the regions concerned are left for a later run.
const MAX_FAILED_LOOKUPS: u32 = 8;

/// A lookup to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) id: u32,
    pub(crate) key: Key,
}

/// Positions of keys in a plan, by the peer they go to.
pub(crate) type Batches = BTreeMap<PeerId, Vec<usize>>;

/// The plan of one run.
pub(crate) struct Plan {
    replication: usize,
    keys: Vec<(Point, Key)>,
    peers: BTreeMap<Point, PeerId>,
    uncovered: Vec<Range<usize>>,
    in_flight: HashMap<u32, Range<usize>>,
    failed: Vec<Range<usize>>,
    failures: u32,
    next_id: u32,
    /// Prefix length that the latest lookup covered; unknown until the first has come back.
    depth: Option<u32>,
}

impl Plan {
    pub(crate) fn new(keys: impl IntoIterator<Item = Key>, replication: usize) -> Self {
        let mut keys: Vec<_> = keys
            .into_iter()
            .map(|key| (Point::of_key(&key), key))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let whole = 0..keys.len();
        Self {
            replication,
            uncovered: Some(whole)
                .filter(|whole| !whole.is_empty())
                .into_iter()
                .collect(),
            keys,
            peers: BTreeMap::new(),
            in_flight: HashMap::new(),
            failed: Vec::new(),
            failures: 0,
            next_id: 0,
            depth: None,
        }
    }

    /// The keys at these positions.
    pub(crate) fn keys_at<'a>(&'a self, positions: &'a [usize]) -> impl Iterator<Item = Key> + 'a {
        positions
            .iter()
            .filter_map(|&at| self.keys.get(at).map(|(_, key)| *key))
    }

    /// The next lookup to start; `None` while none is needed or the first has not come back.
    pub(crate) fn next_lookup(&mut self) -> Option<Lookup> {
        if self.depth.is_none() && !self.in_flight.is_empty() {
            return None;
        }
        let whole = self.uncovered.pop()?;
        let start = whole.start;
        let end = match self.depth {
            None => whole.end,
            Some(depth) => self.end_of_region(start, depth).min(whole.end),
        };
        if end < whole.end {
            self.uncovered.push(end..whole.end);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight.insert(id, start..end);
        let key = self.keys[start].1;
        Some(Lookup { id, key })
    }

    /// Takes the peers that a lookup found.
    pub(crate) fn lookup_done(&mut self, id: u32, found: impl IntoIterator<Item = PeerId>) {
        let Some(region) = self.in_flight.remove(&id) else {
            return;
        };
        let target = self.keys[region.start].0;
        let mut count = 0;
        let mut furthest = POINT_BITS;
        for peer in found {
            let point = Point::of_peer(&peer);
            furthest = furthest.min(target.common_bits(&point));
            self.peers.insert(point, peer);
            count += 1;
        }
        let depth = if count >= self.replication {
            furthest + 1
        } else if self.peers.len() <= self.replication {
            // Fewer than asked for, and no others known: that is the whole network.
            0
        } else {
            // A lame lookup in a larger network: it speaks for its region only.
            self.depth.unwrap_or(0)
        };
        self.depth = Some(depth);
        let covered_end = self.end_of_region(region.start, depth);
        if covered_end < region.end {
            self.uncovered.push(covered_end..region.end);
        }
        let covered = self.start_of_region(region.start, depth)..covered_end;
        self.uncovered = subtract(&self.uncovered, &covered);
    }

    /// A lookup was cut off by its deadline. With fewer peers than asked for, nobody can say whether
    /// there are more: the peers are noted and the region is tried again, a few times.
    pub(crate) fn lookup_cut_off(&mut self, id: u32, found: impl IntoIterator<Item = PeerId>) {
        let found: Vec<_> = found.into_iter().collect();
        if found.len() >= self.replication {
            self.lookup_done(id, found);
            return;
        }
        self.peers
            .extend(found.iter().map(|peer| (Point::of_peer(peer), *peer)));
        if self.failures + 1 < MAX_FAILED_LOOKUPS || self.peers.is_empty() {
            self.lookup_failed(id);
        } else {
            // Few holders are better than none; the schedule looks at thin keys again.
            self.failures += 1;
            self.in_flight.remove(&id);
        }
    }

    /// A lookup came to nothing; its region is tried again, unless too many fail.
    pub(crate) fn lookup_failed(&mut self, id: u32) {
        let Some(region) = self.in_flight.remove(&id) else {
            return;
        };
        self.failures += 1;
        if self.failures < MAX_FAILED_LOOKUPS {
            self.uncovered.push(region);
        } else {
            self.failed.push(region);
        }
    }

    /// Gives up all regions that have not been looked up.
    pub(crate) fn give_up(&mut self) {
        self.failed.append(&mut self.uncovered);
        self.failed
            .extend(self.in_flight.drain().map(|(_, region)| region));
    }

    /// Whether every region is either covered or given up.
    #[cfg(test)]
    fn is_complete(&self) -> bool {
        self.uncovered.is_empty() && self.in_flight.is_empty()
    }

    /// How many lookups were started.
    pub(crate) fn lookups(&self) -> u32 {
        self.next_id
    }

    /// How many distinct peers were found.
    pub(crate) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Sends each key of a covered region to the peers closest to it.
    pub(crate) fn batches(&self) -> Batches {
        let peers = self.sorted_peers(|_| true);
        let mut batches = Batches::new();
        for at in self.covered_positions() {
            for peer in closest(&peers, &self.keys[at].0, self.replication) {
                batches.entry(peer).or_default().push(at);
            }
        }
        batches
    }

    /// After some peers have failed: sends the keys that were meant for them to the next closest.
    /// Contains only what [`Self::batches`] did not.
    pub(crate) fn replacements(&self, failed: &HashSet<PeerId>) -> Batches {
        let all = self.sorted_peers(|_| true);
        let alive = self.sorted_peers(|peer| !failed.contains(peer));
        let mut batches = Batches::new();
        for at in self.covered_positions() {
            let first: HashSet<_> = closest(&all, &self.keys[at].0, self.replication)
                .into_iter()
                .collect();
            if first.is_disjoint(failed) {
                continue;
            }
            for peer in closest(&alive, &self.keys[at].0, self.replication) {
                if !first.contains(&peer) {
                    batches.entry(peer).or_default().push(at);
                }
            }
        }
        batches
    }

    /// The peers found, but for those that have failed.
    pub(crate) fn alive(&self, failed: &HashSet<PeerId>) -> Alive {
        Alive {
            peers: self.sorted_peers(|peer| !failed.contains(peer)),
            replication: self.replication,
        }
    }

    fn sorted_peers(&self, keep: impl Fn(&PeerId) -> bool) -> Vec<(Point, PeerId)> {
        let kept = self.peers.iter().filter(|(_, peer)| keep(peer));
        kept.map(|(point, peer)| (*point, *peer)).collect()
    }

    fn covered_positions(&self) -> impl Iterator<Item = usize> + '_ {
        let open = self
            .failed
            .iter()
            .chain(&self.uncovered)
            .chain(self.in_flight.values());
        let open: Vec<_> = open.cloned().collect();
        (0..self.keys.len()).filter(move |at| !open.iter().any(|range| range.contains(at)))
    }

    fn start_of_region(&self, at: usize, depth: u32) -> usize {
        let here = self.keys[at].0;
        self.keys[..at].partition_point(|(point, _)| here.common_bits(point) < depth)
    }

    fn end_of_region(&self, at: usize, depth: u32) -> usize {
        let here = self.keys[at].0;
        at + self.keys[at..].partition_point(|(point, _)| here.common_bits(point) >= depth)
    }
}

/// The peers of a plan that have not failed.
pub(crate) struct Alive {
    peers: Vec<(Point, PeerId)>,
    replication: usize,
}

impl Alive {
    /// Those closest to `key`.
    pub(crate) fn closest_to(&self, key: &Key) -> Vec<PeerId> {
        closest(&self.peers, &Point::of_key(key), self.replication)
    }
}

/// `ranges` without `hole`.
fn subtract(ranges: &[Range<usize>], hole: &Range<usize>) -> Vec<Range<usize>> {
    let mut rest = Vec::with_capacity(ranges.len() + 1);
    for range in ranges {
        for part in [
            range.start..range.end.min(hole.start),
            range.start.max(hole.end)..range.end,
        ] {
            if part.start < part.end && !rest.contains(&part) {
                rest.push(part);
            }
        }
    }
    rest
}

/// The `count` peers closest to `target` by XOR, out of peers sorted by point.
fn closest(peers: &[(Point, PeerId)], target: &Point, count: usize) -> Vec<PeerId> {
    let mut found = Vec::with_capacity(count.min(peers.len()));
    descend(peers, target, 0, count, &mut found);
    found
}

/// Walks the trie of points that share `bit` bits, the target's side first: its points are all closer
/// than those of the other side.
fn descend(
    peers: &[(Point, PeerId)],
    target: &Point,
    bit: u32,
    count: usize,
    found: &mut Vec<PeerId>,
) {
    if found.len() >= count || peers.is_empty() {
        return;
    }
    if peers.len() == 1 || bit >= POINT_BITS {
        found.extend(
            peers
                .iter()
                .take(count - found.len())
                .map(|(_, peer)| *peer),
        );
        return;
    }
    let (zeros, ones) = peers.split_at(peers.partition_point(|(point, _)| !point.bit(bit)));
    let (near, far) = if target.bit(bit) {
        (ones, zeros)
    } else {
        (zeros, ones)
    };
    descend(near, target, bit + 1, count, found);
    descend(far, target, bit + 1, count, found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(size: u16, seed: u8) -> Vec<PeerId> {
        (0..size)
            .map(|n| {
                let mut bytes = [seed; 32];
                bytes[..2].copy_from_slice(&n.to_be_bytes());
                let hash = libp2p::multihash::Multihash::<64>::wrap(0, &bytes).unwrap();
                PeerId::from_multihash(hash).unwrap()
            })
            .collect()
    }

    fn naive_closest(peers: &[PeerId], key: &Key, count: usize) -> Vec<PeerId> {
        let target = Point::of_key(key).0;
        let mut sorted: Vec<_> = peers.to_vec();
        sorted.sort_by_cached_key(|peer| {
            let point = Point::of_peer(peer).0;
            std::array::from_fn::<u8, 32, _>(|i| point[i] ^ target[i])
        });
        sorted.truncate(count);
        sorted
    }

    fn keys(count: usize, seed: u64) -> Vec<Key> {
        let key = |n: usize| {
            Point::of_key(&std::array::from_fn(|i| {
                (n as u64 ^ seed).to_le_bytes()[i % 8]
            }))
            .0
        };
        (0..count).map(key).collect()
    }

    /// Runs a plan against perfect lookups; returns it and the number of lookups.
    fn run(plan: &mut Plan, peers: &[PeerId], replication: usize, fail_every: u32) -> u32 {
        let mut turn = 0;
        while !plan.is_complete() {
            let mut started = Vec::new();
            while started.len() < 4 {
                let Some(lookup) = plan.next_lookup() else {
                    break;
                };
                started.push(lookup);
            }
            assert!(!started.is_empty(), "no lookup to make and not complete");
            for lookup in started {
                turn += 1;
                if fail_every > 0 && turn % fail_every == 0 {
                    plan.lookup_failed(lookup.id);
                } else {
                    plan.lookup_done(lookup.id, naive_closest(peers, &lookup.key, replication));
                }
            }
        }
        plan.lookups()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_closest_are_the_closest(size in 0u16..120, count in 0usize..25, key: [u8; 32]) {
            let peers = network(size, 1);
            let mut sorted: Vec<_> = peers.iter().map(|peer| (Point::of_peer(peer), *peer)).collect();
            sorted.sort();
            prop_assert_eq!(closest(&sorted, &Point::of_key(&key), count), naive_closest(&peers, &key, count));
        }

        #[test]
        fn every_key_goes_to_its_closest_of_the_peers_found(
            size in 1u16..150, count in 1usize..300, seed: u64, replication in 1usize..21, fail_every in 0u32..6,
        ) {
            let fail_every = if fail_every == 1 { 0 } else { fail_every };
            let peers = network(size, 2);
            let keys = keys(count, seed);
            let mut plan = Plan::new(keys.clone(), replication);
            run(&mut plan, &peers, replication, fail_every);
            let found: Vec<_> = plan.peers.values().copied().collect();
            let mut given: HashMap<Key, HashSet<PeerId>> = HashMap::new();
            for (peer, positions) in plan.batches() {
                for key in plan.keys_at(&positions) {
                    prop_assert!(given.entry(key).or_default().insert(peer), "a key goes to a peer once");
                }
            }
            if plan.failed.is_empty() {
                for key in &keys {
                    let expected: HashSet<_> = naive_closest(&found, key, replication).into_iter().collect();
                    prop_assert_eq!(given.get(key), Some(&expected));
                }
            }
        }

        #[test]
        fn the_keys_of_failed_peers_go_to_the_next_closest(size in 2u16..80, count in 1usize..100, seed: u64) {
            let peers = network(size, 3);
            let keys = keys(count, seed);
            let mut plan = Plan::new(keys.clone(), 5);
            run(&mut plan, &peers, 5, 0);
            let found: Vec<_> = plan.peers.values().copied().collect();
            let failed: HashSet<_> = found.iter().copied().step_by(3).collect();
            let alive: Vec<_> = found.iter().copied().filter(|peer| !failed.contains(peer)).collect();
            let (first, second) = (plan.batches(), plan.replacements(&failed));
            for key in &keys {
                let holders = |batches: &Batches| -> HashSet<PeerId> {
                    batches.iter().filter(|(_, at)| plan.keys_at(at).any(|k| k == *key)).map(|(peer, _)| *peer).collect()
                };
                let (first, second) = (holders(&first), holders(&second));
                prop_assert!(first.is_disjoint(&second));
                let held: HashSet<_> = first.union(&second).filter(|peer| !failed.contains(peer)).copied().collect();
                prop_assert_eq!(held, naive_closest(&alive, key, 5).into_iter().collect::<HashSet<_>>());
                prop_assert_eq!(plan.alive(&failed).closest_to(key), naive_closest(&alive, key, 5));
            }
        }
    }

    #[test]
    fn lookups_grow_with_the_network_and_not_with_the_keys() {
        let lookups = |size: u16, count: usize| {
            let peers = network(size, 4);
            let mut plan = Plan::new(keys(count, 5), 20);
            run(&mut plan, &peers, 20, 0)
        };
        assert_eq!(lookups(12, 4_000), 1);
        assert_eq!(lookups(20, 4_000), 1 + 1);
        assert!(lookups(50, 4_000) <= 8);
        assert!(lookups(50, 40_000) <= 8);
        assert!(lookups(200, 4_000) <= 40);
        assert_eq!(lookups(50, 0), 0);
    }

    #[test]
    fn nearly_all_true_closest_peers_are_found() {
        let peers = network(300, 6);
        let keys = keys(300, 9);
        let mut plan = Plan::new(keys.clone(), 20);
        run(&mut plan, &peers, 20, 0);
        let alive = plan.alive(&HashSet::new());
        let mut right = 0;
        for key in &keys {
            let got: HashSet<_> = alive.closest_to(key).into_iter().collect();
            right += naive_closest(&peers, key, 20)
                .iter()
                .filter(|peer| got.contains(peer))
                .count();
        }
        assert!(
            right * 100 >= keys.len() * 20 * 99,
            "{right} of {}",
            keys.len() * 20
        );
    }

    #[test]
    fn a_lookup_that_was_cut_off_is_not_the_whole_network() {
        let peers = network(60, 7);
        let keys = keys(500, 3);
        let mut plan = Plan::new(keys.clone(), 20);
        let first = plan.next_lookup().unwrap();
        plan.lookup_cut_off(first.id, peers[..3].iter().copied());
        assert!(!plan.is_complete() && plan.batches().is_empty());
        run(&mut plan, &peers, 20, 0);
        let holders = plan.alive(&HashSet::new()).closest_to(&keys[0]);
        assert_eq!(holders, naive_closest(&peers, &keys[0], 20));
    }

    #[test]
    fn when_every_lookup_is_cut_off_what_was_found_must_do() {
        let peers = network(3, 8);
        let mut plan = Plan::new(keys(50, 1), 20);
        while let Some(lookup) = plan.next_lookup() {
            plan.lookup_cut_off(lookup.id, peers.iter().copied());
        }
        assert!(plan.is_complete() && plan.lookups() <= MAX_FAILED_LOOKUPS);
        assert_eq!(plan.batches().len(), 3);
    }

    #[test]
    fn endless_failure_ends() {
        let mut plan = Plan::new(keys(50, 1), 20);
        while let Some(lookup) = plan.next_lookup() {
            plan.lookup_failed(lookup.id);
        }
        assert!(plan.is_complete());
        assert!(plan.batches().is_empty());
    }
}
