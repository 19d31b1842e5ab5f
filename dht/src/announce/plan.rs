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
mod tests;
