//! What a node knows of the keyspace around it and how large the network seems to be. Pure.

use libp2p::PeerId;

use crate::Key;
use crate::key::{POINT_BITS, Point, REPLICATION};

/// A bucket of the routing table with this many peers counts as full: some are always gone.
const FULL_BUCKET: usize = REPLICATION * 3 / 4;
/// Bits by which a key may be further than the region of the replication factor. Eight times as many
/// peers as hold a record may then be sent it: announcers see other parts of the network than this node.
const SLACK_BITS: u32 = 3;

/// The peers of the routing table, as of some moment.
#[derive(Clone, Debug)]
pub(crate) struct Neighbourhood {
    me: Point,
    peers: Vec<(Point, PeerId)>,
    depth: u32,
}

impl Neighbourhood {
    /// Of the node `me` that knows these peers.
    pub(crate) fn new(me: &PeerId, peers: impl IntoIterator<Item = PeerId>) -> Self {
        let me = Point::of_peer(me);
        let mut peers: Vec<_> = peers
            .into_iter()
            .map(|peer| (Point::of_peer(&peer), peer))
            .collect();
        peers.sort_unstable();
        peers.dedup();
        let depth = depth(&me, &peers);
        Self { me, peers, depth }
    }

    /// How many bits the peers that hold one key share, about: the network has some 20 x 2^depth peers.
    /// 0 in a network that is smaller than that, or not known yet.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// How many peers the network seems to have: exact while it is small, a power of two times 20 else.
    pub(crate) fn network_peers(&self) -> u64 {
        match self.depth {
            0 => self.peers.len() as u64 + 1,
            depth => (REPLICATION as u64) << depth.min(40),
        }
    }

    /// Whether this node may be among those that hold records of the key.
    pub(crate) fn is_near(&self, key: &Key) -> bool {
        self.me.common_bits(&Point::of_key(key)) + SLACK_BITS >= self.depth
    }

    /// The known peers, sorted by their points.
    pub(crate) fn peers(&self) -> &[(Point, PeerId)] {
        &self.peers
    }
}

/// Counts full buckets from the furthest one on. Identities chosen close to this node fill near buckets
/// only, and a gap ends the count: they cannot make the network seem large.
fn depth(me: &Point, peers: &[(Point, PeerId)]) -> u32 {
    let mut buckets = [0usize; POINT_BITS as usize + 1];
    for (point, _) in peers {
        let bits = usize::try_from(me.common_bits(point)).unwrap_or(0);
        buckets[bits] += 1;
    }
    let full = buckets.iter().take_while(|count| **count >= FULL_BUCKET);
    u32::try_from(full.count()).unwrap_or(POINT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a routing table holds of a network: at most 20 peers a bucket.
    fn table_of(me: &PeerId, network: &[PeerId]) -> Neighbourhood {
        let point = Point::of_peer(me);
        let mut buckets = vec![0; 257];
        let kept = network.iter().filter(|peer| {
            let bucket = point.common_bits(&Point::of_peer(peer)) as usize;
            buckets[bucket] += 1;
            buckets[bucket] <= REPLICATION
        });
        Neighbourhood::new(me, kept.copied())
    }

    #[test]
    fn the_size_of_a_network_is_estimated() {
        let network: Vec<_> = (0..1000).map(|_| PeerId::random()).collect();
        let me = PeerId::random();
        assert_eq!(table_of(&me, &network[..10]).network_peers(), 11);
        assert_eq!(table_of(&me, &[]).network_peers(), 1);
        let estimate = table_of(&me, &network).network_peers();
        assert!((320..=5120).contains(&estimate), "{estimate}");
    }

    #[test]
    fn identities_chosen_near_a_node_do_not_make_the_network_seem_large() {
        let me = PeerId::random();
        let point = Point::of_peer(&me);
        let near = |bits| {
            let ids = std::iter::repeat_with(PeerId::random);
            let mut ids = ids.filter(move |id| point.common_bits(&Point::of_peer(id)) == bits);
            move || ids.next().unwrap()
        };
        let mut peers: Vec<_> = (0..30).map(|_| PeerId::random()).collect();
        for bits in 4..8 {
            peers.extend(std::iter::repeat_with(near(bits)).take(20));
        }
        let known = Neighbourhood::new(&me, peers);
        assert!(known.depth() <= 2, "{}", known.depth());
    }

    #[test]
    fn in_a_small_network_every_key_is_near_and_in_a_large_one_few_are() {
        let me = PeerId::random();
        let keys = (0..1000u32).map(|n| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            key
        });
        let network: Vec<_> = (0..20_000).map(|_| PeerId::random()).collect();
        let small = table_of(&me, &network[..50]);
        assert!(keys.clone().all(|key| small.is_near(&key)));
        let large = table_of(&me, &network);
        let near = keys.filter(|key| large.is_near(key)).count();
        assert!((1..200).contains(&near), "{near}");
    }

    #[test]
    fn those_who_should_hold_a_key_take_it() {
        let network: Vec<_> = (0..3000).map(|_| PeerId::random()).collect();
        for n in 0..20u8 {
            let key = [n; 32];
            let target = Point::of_key(&key);
            let mut sorted = network.clone();
            sorted.sort_by_key(|peer| {
                let point = Point::of_peer(peer);
                let mut distance = [0; 32];
                (0..32).for_each(|i| distance[i] = point.0[i] ^ target.0[i]);
                distance
            });
            for holder in &sorted[..REPLICATION] {
                assert!(table_of(holder, &network).is_near(&key));
            }
        }
    }
}
