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
use crate::key::{POINT_BITS, Point, keys_near};

/// A key is crowded when [`CROWD_PEERS`] share this many bits more with it than holders of a key usually do. In a network
/// that knows its size there are two to five of them; by chance, a dozen for one key in two hundred.
const CROWD_BITS: u32 = 3;
const CROWD_PEERS: usize = 12;
/// Lookups around a crowd, to find the peers it stands in front of.
const LOOKUPS_AROUND: usize = 4;
/// Crowds looked around in one plan.
const MAX_CROWDS: usize = 64;
/// Lookups of one plan that may fail before the regions concerned are left for a later run.
const MAX_FAILED_LOOKUPS: u32 = 8;

/// A lookup to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) id: u32,
    pub(crate) key: Key,
}

/// A part of the keyspace and the peers closest to its keys.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// Any point of it.
    pub(crate) point: Point,
    /// Bits that its points share.
    pub(crate) depth: u32,
    pub(crate) peers: Vec<PeerId>,
}

/// Positions of keys in a plan, by the peer they go to.
pub(crate) type Batches = BTreeMap<PeerId, Vec<usize>>;

/// The plan of one run.
pub(crate) struct Plan {
    replication: usize,
    /// Bits that the holders of a key share usually, by what this node knows of the network.
    usual_depth: u32,
    /// What the lookups around crowds depend on: they are not to be foreseen.
    seed: u64,
    /// Lookups that cover no region: they look around crowds.
    around: Vec<Key>,
    looking_around: HashMap<u32, Point>,
    /// Keys with a crowd, and the bits of the region that was looked around last.
    crowds: Vec<(Key, u32)>,
    /// Bits that the peers found share, of each lookup.
    depths: Vec<u32>,
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
    /// Of these keys, in a network in which `replication` holders of a key usually share `usual_depth` bits. Which peers
    /// around a crowd are looked for depends on `seed`.
    pub(crate) fn new(
        keys: impl IntoIterator<Item = Key>,
        replication: usize,
        usual_depth: u32,
        seed: u64,
    ) -> Self {
        let mut keys: Vec<_> = keys
            .into_iter()
            .map(|key| (Point::of_key(&key), key))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let whole = 0..keys.len();
        Self {
            replication,
            usual_depth,
            seed,
            around: Vec::new(),
            looking_around: HashMap::new(),
            crowds: Vec::new(),
            depths: Vec::new(),
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

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key at a position.
    pub(crate) fn key_at(&self, at: usize) -> Option<Key> {
        self.keys.get(at).map(|(_, key)| *key)
    }

    /// The keys at these positions.
    pub(crate) fn keys_at<'a>(&'a self, positions: &'a [usize]) -> impl Iterator<Item = Key> + 'a {
        positions
            .iter()
            .filter_map(|&at| self.keys.get(at).map(|(_, key)| *key))
    }

    /// Takes what is known of a region from before: its keys need no lookup.
    pub(crate) fn know(&mut self, region: &Region) {
        // Also when no key lies in it: the peers next door are among the closest to keys at the edge of what is
        // announced now, and the lookups of this run do not see all of them.
        let peers = region.peers.iter();
        self.peers
            .extend(peers.map(|peer| (Point::of_peer(peer), *peer)));
        let start = self
            .keys
            .partition_point(|(point, _)| *point < region.point.first_of(region.depth));
        let inside = self.keys.get(start);
        if inside.is_none_or(|(point, _)| point.common_bits(&region.point) < region.depth) {
            return;
        }
        let end = self.end_of_region(start, region.depth);
        self.uncovered = subtract(&self.uncovered, &(start..end));
        self.depth = self.depth.max(Some(region.depth));
    }

    /// The next lookup to start; `None` while none is needed or the first has not come back.
    pub(crate) fn next_lookup(&mut self) -> Option<Lookup> {
        if let Some(key) = self.around.pop() {
            let id = self.new_id();
            self.looking_around.insert(id, Point::of_key(&key));
            return Some(Lookup { id, key });
        }
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
        let id = self.new_id();
        self.in_flight.insert(id, start..end);
        let key = self.keys[start].1;
        Some(Lookup { id, key })
    }

    fn new_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Takes the peers that a lookup found; returns the region they are closest to, if that is known now.
    pub(crate) fn lookup_done(
        &mut self,
        id: u32,
        found: impl IntoIterator<Item = PeerId>,
    ) -> Option<Region> {
        let found: Vec<_> = found.into_iter().collect();
        let Some(region) = self.in_flight.remove(&id) else {
            self.looked_around(id, &found);
            return None;
        };
        let target = self.keys[region.start].0;
        let count = found.len();
        let mut furthest = POINT_BITS;
        for &peer in &found {
            let point = Point::of_peer(&peer);
            furthest = furthest.min(target.common_bits(&point));
            self.peers.insert(point, peer);
        }
        if count >= self.replication {
            self.depths.push(furthest);
        }
        let usual = self.usual_depth();
        let near = |peer: &&PeerId| target.common_bits(&Point::of_peer(peer)) >= usual + CROWD_BITS;
        let crowded = found.iter().filter(near).count() >= CROWD_PEERS;
        if crowded && self.crowds.len() < MAX_CROWDS {
            let key = self.keys[region.start].1;
            self.crowds.push((key, usual));
            let near = keys_near(&key, usual, LOOKUPS_AROUND, self.seed);
            self.around.extend(near);
        }
        let depth = if count >= self.replication {
            furthest + 1
        } else if self.peers.len() <= self.replication && usual == 0 {
            // Fewer than asked for, and no others known: that is the whole network.
            0
        } else {
            // A lame lookup in a larger network: it speaks for its region only.
            self.depth.unwrap_or(usual + 1)
        };
        // The next region is not as crowded as this one.
        let next_depth = if crowded { usual + 1 } else { depth };
        self.depth = Some(next_depth);
        let covered_end = self.end_of_region(region.start, depth);
        if covered_end < region.end {
            self.uncovered.push(covered_end..region.end);
        }
        let covered = self.start_of_region(region.start, depth)..covered_end;
        self.uncovered = subtract(&self.uncovered, &covered);
        // A small network is not worth remembering, and may be larger than one lookup says.
        (count >= self.replication).then_some(Region {
            point: target,
            depth,
            peers: found,
        })
    }

    /// A lookup was cut off by its deadline. With fewer peers than asked for, nobody can say whether
    /// there are more: the peers are noted and the region is tried again, a few times.
    pub(crate) fn lookup_cut_off(&mut self, id: u32, found: impl IntoIterator<Item = PeerId>) {
        let found: Vec<_> = found.into_iter().collect();
        if found.len() >= self.replication {
            let _ = self.lookup_done(id, found);
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
            self.looking_around.remove(&id);
        }
    }

    /// A lookup came to nothing; its region is tried again, unless too many fail.
    pub(crate) fn lookup_failed(&mut self, id: u32) {
        self.looking_around.remove(&id);
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
        self.uncovered.is_empty() && self.in_flight.is_empty() && self.around.is_empty()
    }

    /// How many lookups were started.
    pub(crate) fn lookups(&self) -> u32 {
        self.next_id
    }

    /// How many distinct peers were found.
    #[cfg(test)]
    pub(crate) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Sends each key of a covered region to the peers closest to it, and if those are a crowd, to the next closest
    /// behind them too: identities that were chosen to lie next to a key cannot keep it to themselves.
    pub(crate) fn batches(&self) -> Batches {
        let (peers, usual) = (self.sorted_peers(|_| true), self.usual_depth());
        let mut batches = Batches::new();
        for at in self.covered_positions() {
            for peer in self.holders(&peers, &self.keys[at].0, usual) {
                batches.entry(peer).or_default().push(at);
            }
        }
        batches
    }

    /// After some peers have failed: sends the keys that were meant for them to the next closest.
    /// Contains only what [`Self::batches`] did not.
    pub(crate) fn replacements(&self, failed: &HashSet<PeerId>) -> Batches {
        let (all, usual) = (self.sorted_peers(|_| true), self.usual_depth());
        let alive = self.sorted_peers(|peer| !failed.contains(peer));
        let mut batches = Batches::new();
        for at in self.covered_positions() {
            let first = self.holders(&all, &self.keys[at].0, usual);
            let first: HashSet<_> = first.into_iter().collect();
            if first.is_disjoint(failed) {
                continue;
            }
            for peer in self.holders(&alive, &self.keys[at].0, usual) {
                if !first.contains(&peer) {
                    batches.entry(peer).or_default().push(at);
                }
            }
        }
        batches
    }

    /// Bits that the holders of a key usually share: what most lookups say, if there were enough, for a node that
    /// has just come knows nothing.
    fn usual_depth(&self) -> u32 {
        if self.depths.len() < 3 {
            return self.usual_depth;
        }
        let mut depths = self.depths.clone();
        depths.sort_unstable();
        self.usual_depth.max(depths[depths.len() / 2])
    }

    /// Takes the peers that a lookup around a crowd found. They also tell how dense the network is elsewhere.
    fn looked_around(&mut self, id: u32, found: &[PeerId]) {
        let Some(target) = self.looking_around.remove(&id) else {
            return;
        };
        let points = found.iter().map(|peer| (Point::of_peer(peer), *peer));
        let bits = points.clone().map(|(point, _)| target.common_bits(&point));
        if let Some(furthest) = bits.min().filter(|_| found.len() >= self.replication) {
            self.depths.push(furthest);
        }
        self.peers.extend(points);
        if self.around.is_empty() && self.looking_around.is_empty() {
            // Who did not know how dense the network is knows it now, and has looked in too wide a region.
            let usual = self.usual_depth();
            for (key, bits) in self.crowds.iter_mut().filter(|(_, bits)| *bits < usual) {
                *bits = usual;
                let near = keys_near(key, usual, LOOKUPS_AROUND, self.seed);
                self.around.extend(near);
            }
        }
    }

    /// Who of these peers is to hold a key.
    fn holders(&self, peers: &[(Point, PeerId)], target: &Point, usual: u32) -> Vec<PeerId> {
        let bits = usual + CROWD_BITS;
        let first = target.first_of(bits);
        let from = peers.partition_point(|(point, _)| *point < first);
        let crowd = peers[from..]
            .iter()
            .take_while(|(point, _)| point.common_bits(target) >= bits);
        let crowd = crowd.count();
        if crowd < CROWD_PEERS {
            return closest(peers, target, self.replication);
        }
        let mut chosen = closest(peers, target, crowd + self.replication);
        let behind = chosen.split_off(crowd.min(chosen.len()));
        chosen.truncate(self.replication);
        chosen.extend(behind);
        chosen
    }

    /// Who is to hold a key, of the peers that have not failed.
    pub(crate) fn alive_holders(&self, key: &Key, failed: &HashSet<PeerId>) -> Vec<PeerId> {
        let peers = self.sorted_peers(|peer| !failed.contains(peer));
        self.holders(&peers, &Point::of_key(key), self.usual_depth())
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

/// `ranges` without `hole`.
fn subtract(ranges: &[Range<usize>], hole: &Range<usize>) -> Vec<Range<usize>> {
    let mut rest = Vec::with_capacity(ranges.len() + 1);
    for range in ranges {
        for part in [
            range.start..range.end.min(hole.start),
            range.start.max(hole.end)..range.end,
        ] {
            if part.start < part.end {
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
